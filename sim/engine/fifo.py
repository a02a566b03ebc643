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

import numpy as np

from .branch import Wait
from .limiter import Limiter
from .simulation import NORMAL, Simulation


class FifoPool:
    """`capacity` equal servers (None: as many as customers) and a queue of at most `queue_limit` (None: no limit).

    `limits` are rate limits that a customer passes one after the other, in line, before a server takes it.
    """

    __slots__ = (
        "ahead", "arrivals", "busy_seconds", "capacity", "free", "left", "limits", "line", "log", "name",
        "present_seconds", "queue_limit", "rejections", "sim", "simple", "waited", "_arrival", "_heap", "_ids",
    )  # fmt: skip

    def __init__(self, sim: Simulation, name: str, capacity: int | None, queue_limit: int | None = None) -> None:
        self.sim = sim
        self.name = name
        self.capacity = capacity
        self.queue_limit = queue_limit
        self.free = [float("-inf")] * (capacity or 0)  # a heap: when each server comes free
        self.limits: list[Limiter] = []
        self.line: deque[float] = deque()  # starts of those in line; kept only where the queue is limited
        self.simple = capacity is not None and queue_limit is None  # no queue limit, no rate limit
        self.log: list[float] = []  # arrival, start and end of each service since the last `totals`
        self.ahead = np.zeros((0, 3))  # of services that had not ended then
        self.left = 0
        self.arrivals = 0
        self.rejections = 0
        self.waited = 0.0
        self.busy_seconds = 0.0
        self.present_seconds = 0.0
        self._heap = sim._queue
        self._ids = sim._eid
        self._arrival = self._arrive  # bound once, not once per event

    def use(self, wait: Wait, at: float, service: float) -> bool:
        """Arrive at time `at`, wait for a server, hold it for `service` seconds. Return whether the script must yield.

        Afterwards `wait.arrived`, `wait.started` and `wait.ended` tell the times, or `wait.rejected` that the queue
        was full.
        """
        wait.service = service
        if at > self.sim._now:
            wait.callbacks = (self._arrival, wait.resume)
            heappush(self._heap, (at, NORMAL, next(self._ids), wait))  # type: ignore[misc]
            return True
        self._arrive(wait)
        return False

    def _arrive(self, wait: Wait) -> None:
        """The customer arrives, and its times are known (hot)."""
        wait.arrived = now = self.sim._now
        free = self.free
        if self.simple:
            start = free[0]
            if start < now:
                start = now
        else:
            start = self._start(wait, now)
            if wait.rejected:
                return
        wait.started = start
        wait.ended = end = start + wait.service
        if free:
            heapreplace(free, end)
        self.log += (now, start, end)

    def _start(self, wait: Wait, now: float) -> float:
        """Return when the service starts, behind rate limits and a limited queue; or reject."""
        ready = now
        for limit in self.limits:
            ready = limit.admit(ready, wait.size)
        start = self.free[0] if self.free else ready
        if start <= ready:
            return ready
        if self.queue_limit is not None:
            line = self.line
            while line and line[0] <= now:
                line.popleft()
            if len(line) >= self.queue_limit:
                self.rejections += 1
                wait.rejected = True
                wait.started = wait.ended = now
            else:
                line.append(start)
        return start

    def limit(self, limiter: Limiter) -> None:
        """Put a rate limit before the pool."""
        self.limits.append(limiter)
        self.simple = False

    def totals(self, now: float) -> tuple[float, ...]:
        """Server-seconds busy, customer-seconds present, arrivals, completions, rejections, seconds waited; up to `now`.

        Services that end after `now` count up to it; so do the waits before them.
        """
        log = np.array(self.log).reshape(-1, 3)
        self.log = []
        self.arrivals += len(log)
        self.waited += float((log[:, 1] - log[:, 0]).sum())
        log = np.concatenate([self.ahead, log])
        over = log[:, 2] <= now
        done, self.ahead = log[over], log[~over]
        self.left += len(done)
        self.busy_seconds += float((done[:, 2] - done[:, 1]).sum())
        self.present_seconds += float((done[:, 2] - done[:, 0]).sum())
        return (
            self.busy_seconds + float(np.maximum(0.0, now - self.ahead[:, 1]).sum()),
            self.present_seconds + float((now - self.ahead[:, 0]).sum()),
            self.arrivals,
            self.left,
            self.rejections,
            self.waited,
        )
