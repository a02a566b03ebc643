"""A first-come-first-served pool that answers on arrival.

Where nobody is ever taken out of the line, the start and end of a service are known when the customer arrives (Kiefer
and Wolfowitz's recursion over the times at which the servers come free). So one use costs one event at most, the
arrival, and the branch goes on at once with its local time at the end of its service.

Leaves out: priorities, cancellation, changing capacity: `Pool` has those. Both give the same times.
Checked: tests/test_engine.py, against `Pool`, Lindley's recursion and a heap written by hand, customer by customer.
Source: Kiefer and Wolfowitz, Trans. AMS 78 (1955).
"""

from collections import deque
from heapq import heappush, heapreplace

from .branch import Wait
from .limiter import Limiter
from .simulation import NORMAL, Simulation


class FifoPool:
    """`capacity` equal servers (None: as many as customers) and a queue of at most `queue_limit` (None: no limit).

    `limits` are rate limits that a customer passes one after the other, in line, before a server takes it.
    """

    __slots__ = (
        "added", "ahead", "arrivals", "busy_seconds", "capacity", "free", "limits", "line", "name", "queue_limit", "rejections",
        "served", "sim", "simple", "strict", "waited", "_arriving", "_heap", "_ids",
    )  # fmt: skip

    def __init__(self, sim: Simulation, name: str, capacity: int | None, queue_limit: int | None = None) -> None:
        self.sim = sim
        self.name = name
        self.capacity = capacity
        self.queue_limit = queue_limit
        self.free = [float("-inf")] * (capacity or 0)  # a heap: when each server comes free
        self.limits: list[Limiter] = []
        self.simple = capacity is not None and queue_limit is None  # no queue limit, no rate limit
        self.strict = False  # what is beyond the rate limits is refused, rather than held back
        self.line: deque[float] = deque()  # starts that may lie ahead, in order: who is in line
        self.served: list[float] = []  # service times since the last `totals`
        self.added = (0, 0.0)  # how many of them `flow` has added up, to so many seconds
        self.ahead: list[tuple[float, float]] = []  # services that may not have ended, where servers may stand idle
        self.arrivals = 0
        self.rejections = 0
        self.waited = 0.0
        self.busy_seconds = 0.0
        self._heap = sim._queue
        self._ids = sim._eid
        self._arriving = (self._on_arrival,)  # bound once, not once per event

    def use(self, wait: Wait, at: float, service: float) -> bool:
        """Arrive at time `at`, wait for a server, hold it for `service` seconds. Return whether the script must yield.

        Afterwards `wait.arrived`, `wait.started` and `wait.ended` tell the times, or `wait.rejected` that the queue
        was full.
        """
        wait.service = service
        if at > self.sim._now:
            wait.callbacks = self._arriving
            heappush(self._heap, (at, NORMAL, next(self._ids), wait))  # type: ignore[misc]
            return True
        self._arrive(wait, at)
        return False

    def limit(self, limiter: Limiter) -> None:
        """Put a rate limit before the pool."""
        self.limits.append(limiter)
        self.simple = False

    def _on_arrival(self, wait: Wait) -> None:
        """The customer arrives, and the branch goes on (hot)."""
        now = self.sim._now
        if not self.simple:
            self._arrive(wait, now)
        else:  # `_arrive`, inlined
            wait.arrived = now
            free = self.free
            start = free[0]
            if start > now:
                self.waited += start - now
                self.line.append(start)
            else:
                start = now
            service = wait.service
            wait.started = start
            wait.ended = end = start + service
            heapreplace(free, end)
            self.served.append(service)
        wait.resume(wait)

    def _arrive(self, wait: Wait, now: float) -> None:
        """The customer arrives, and its times are known (hot)."""
        wait.arrived = now
        free = self.free
        if self.simple:
            start = free[0]
        else:
            start = self._start(wait, now)
            if wait.rejected:
                return
        if start > now:
            self.waited += start - now
            self.line.append(start)
        else:
            start = now
        service = wait.service
        wait.started = start
        wait.ended = end = start + service
        if free:
            heapreplace(free, end)
        self.served.append(service)
        if not self.simple:
            self.ahead.append((start, end))

    def _start(self, wait: Wait, now: float) -> float:
        """Return when the service starts, behind rate limits and a limited queue; or reject."""
        if self.queue_limit is not None:
            self._shorten(now)
            if len(self.line) >= self.queue_limit and self._must_wait(wait, now):
                return self._reject(wait, now, "queue full")
        if self.strict and any(limit.opens(now, wait.size) > now for limit in self.limits):
            return self._reject(wait, now, "rate limit")
        ready = now
        for limit in self.limits:
            ready = limit.admit(ready, wait.size)
        return max(ready, self.free[0]) if self.free else ready

    def _reject(self, wait: Wait, now: float, why: str) -> float:
        self.rejections += 1
        wait.rejected, wait.refusal = True, why
        wait.started = wait.ended = now
        return now

    def _must_wait(self, wait: Wait, now: float) -> bool:
        """Whether the customer would wait. Asked before it is admitted: who is refused uses up nothing of a rate."""
        busy = bool(self.free) and self.free[0] > now
        return busy or any(limit.opens(now, wait.size) > now for limit in self.limits)

    def _shorten(self, now: float) -> None:
        """Take those out of the line whose service has begun."""
        line = self.line
        while line and line[0] <= now:
            line.popleft()

    def totals(self, now: float) -> tuple[float, ...]:
        """Server-seconds busy, customer-seconds present, arrivals, completions, rejections, seconds waited; up to `now`.

        What was booked ahead of `now` is taken off: a server that comes free later is busy until then, but for those
        in line, whose services have not begun.
        """
        self.arrivals += len(self.served)
        self.busy_seconds += sum(self.served)
        self.served = []
        self.added = (0, 0.0)
        busy, present, serving = self._until(now, self.busy_seconds)
        left = self.arrivals - len(self.line) - serving
        return busy, present, self.arrivals, left, self.rejections, self.waited

    def flow(self, now: float) -> tuple[float, ...]:
        """Return the first three of `totals`, and leave alone how these are added up: another order would round otherwise."""
        number, seconds = self.added
        seconds += sum(self.served[number:])
        self.added = (len(self.served), seconds)
        busy, present, _ = self._until(now, self.busy_seconds + seconds)
        return busy, present, self.arrivals + len(self.served)

    def _until(self, now: float, booked: float) -> tuple[float, float, int]:
        """Return server-seconds busy and customer-seconds present until `now`, of so many seconds booked; and how many are served now."""
        self._shorten(now)
        if self.simple:
            ends = [end for end in self.free if end > now]
            later = sum(ends) - now * len(ends)
            serving = len(ends)
        else:
            self.ahead = [(start, end) for start, end in self.ahead if end > now]
            later = sum(end - max(start, now) for start, end in self.ahead)
            serving = sum(start <= now for start, end in self.ahead)
        busy = booked - later
        queued = self.waited - (sum(self.line) - now * len(self.line))
        return busy, queued + busy, serving
