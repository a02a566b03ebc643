"""A first-come-first-served pool that answers on arrival.

Where nobody is ever taken out of the line, the start and end of a service are known when the customer arrives (Kiefer
and Wolfowitz's recursion over the times at which the servers come free). So one use costs one event at most, the
arrival, and the branch goes on at once with its local time at the end of its service.

Leaves out: priorities, cancellation, changing capacity: `Pool` has those. Both give the same times.
Checked: tests/test_engine.py, against `Pool`, Lindley's recursion and a heap written by hand, customer by customer.
Source: Kiefer and Wolfowitz, Trans. AMS 78 (1955).
"""

from collections import deque
from heapq import heapreplace, heappush

from .branch import Wait
from .limiter import Limiter
from .simulation import NORMAL, Simulation


class FifoPool:
    """`capacity` equal servers (None: as many as customers) and a queue of at most `queue_limit` (None: no limit).

    `limits` are rate limits that a customer passes one after the other, in line, before a server takes it.
    """

    __slots__ = (
        "arrivals", "busy_seconds", "capacity", "ends", "free", "left", "limits", "line", "name", "present_seconds",
        "queue_limit", "rejections", "sim", "waited", "_arriving", "_heap", "_ids",
    )  # fmt: skip

    def __init__(self, sim: Simulation, name: str, capacity: int | None, queue_limit: int | None = None) -> None:
        self.sim = sim
        self.name = name
        self.capacity = capacity
        self.queue_limit = queue_limit
        self.free = [float("-inf")] * (capacity or 0)  # a heap: when each server comes free
        self.limits: list[Limiter] = []
        self.line: deque[float] = deque()  # starts of those in line; kept only where the queue is limited
        self.ends: list[float] = []  # ends of services that may still be under way
        self.left = 0
        self.arrivals = 0
        self.rejections = 0
        self.waited = 0.0
        self.busy_seconds = 0.0
        self.present_seconds = 0.0
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
        self._serve(wait, at)
        return False

    def _on_arrival(self, wait: Wait) -> None:
        self._serve(wait, self.sim._now)
        wait.resume(wait)

    def _serve(self, wait: Wait, now: float) -> None:
        """Hot: the customer arrives, and its times are known."""
        wait.arrived = now
        free = self.free
        ready = now
        for limit in self.limits:
            ready = limit.admit(ready, wait.size)
        start = free[0] if free else ready
        if start <= ready:
            start = ready
        elif self.queue_limit is not None and self._is_full(now):
            self.rejections += 1
            wait.rejected = True
            wait.started = wait.ended = now
            return
        elif self.queue_limit is not None:
            self.line.append(start)
        wait.started = start
        wait.ended = end = start + wait.service
        if free:
            heapreplace(free, end)
        self.ends.append(end)
        self.arrivals += 1
        self.waited += start - now
        self.busy_seconds += end - start
        self.present_seconds += end - now

    def _is_full(self, now: float) -> bool:
        line = self.line
        while line and line[0] <= now:
            line.popleft()
        return len(line) >= (self.queue_limit or 0)

    def totals(self, now: float) -> tuple[float, ...]:
        """Server-seconds busy, customer-seconds present, arrivals, completions, rejections, seconds waited; up to `now`.

        A server that comes free after `now` is busy until then, so what was booked ahead is taken off again.
        """
        ahead = [end for end in self.ends if end > now]
        self.left += len(self.ends) - len(ahead)
        self.ends = ahead
        return (
            self.busy_seconds - sum(end - now for end in (self.free or ahead) if end > now),
            self.present_seconds - sum(ahead) + now * len(ahead),
            self.arrivals,
            self.left,
            self.rejections,
            self.waited,
        )
