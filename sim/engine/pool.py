"""A pool: c equal servers behind one queue, first come first served or by priority, in which customers can be cancelled.

One use of a pool is one primitive, `use(wait, at, service)`: arrival at time `at`, waiting, service, release. It costs
two events at most (arrival, end of service), no object, and no process. `take` and `give` hold a server for as long as
the model likes.

Time-weighted statistics cost one addition where a count changes: the integral of a count up to t is
count * t - (times at which it rose) + (times at which it fell).

Leaves out: preemption; servers of unequal speed.
Checked: tests/test_engine.py, customer by customer against Lindley's recursion (one server) and Kiefer and Wolfowitz's
(several); tests/test_theory.py against Erlang B and C.
Source: Kiefer and Wolfowitz, Trans. AMS 78 (1955).
"""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Any

from .branch import Wait
from .limiter import Limiter
from .simulation import NORMAL, Call, Simulation

QUEUE_FULL, RATE_LIMIT, TOO_LONG = "queue full", "rate limit", "waited too long"  # why a customer is refused
ENDS = 0  # before all else of an instant: who arrives when a service ends finds the server free, as in `FifoPool`


class Pool:
    """`capacity` servers (None: as many as customers) and a queue of at most `queue_limit` (None: no limit).

    With `strict`, who comes beyond a rate limit is refused; who has waited for `most_wait` (s) is dropped.
    """

    __slots__ = (
        "arrivals", "busy", "busy_offset", "by_priority", "cancelled", "capacity", "completions", "excess", "held_back", "limits",
        "most_wait", "name", "present_offset", "queue", "queue_account", "queue_limit", "rejections", "service_account", "sim", "strict",
        "waited", "_admitting", "_arriving", "_dropping", "_finishing", "_granting", "_heap", "_ids", "_sequence",
    )  # fmt: skip

    def __init__(
        self,
        sim: Simulation,
        name: str,
        capacity: int | None,
        queue_limit: int | None = None,
        by_priority: bool = False,
    ) -> None:
        self.sim = sim
        self.name = name
        self.capacity = capacity
        self.excess = 0  # servers in use beyond those that there are
        self.queue_limit = queue_limit
        self.by_priority = by_priority
        self.busy = 0
        self.queue: Any = [] if by_priority else deque()
        self.cancelled = 0  # entries of the queue whose wait was cancelled, still in line
        self.held_back = 0  # by rate limits
        self.arrivals = 0
        self.completions = 0
        self.rejections = 0
        self.waited = 0.0  # summed seconds in line of those who were served
        self.busy_offset = 0.0
        self.present_offset = 0.0
        self.queue_account = self.service_account = -1  # where an unfinished wait or service is booked
        self._heap = sim._queue
        self._ids = sim._eid
        self._sequence = 0
        self._arriving = (self._arrive,)  # bound once, not once per event
        self._finishing = (self._finish,)
        self._granting = (self._granted,)
        self._admitting = (self._admit,)
        self._dropping = (self._drop_held,)
        self.limits: list[Limiter] = []
        self.strict = False  # what is beyond the rate limits is refused, rather than held back
        self.most_wait: float | None = None  # who has waited so long (s) is dropped

    @property
    def waiting(self) -> int:
        """How many are in line, those among them that a rate limit holds back."""
        return len(self.queue) - self.cancelled + self.held_back

    def totals(self, now: float) -> tuple[float, ...]:
        """Server-seconds busy, customer-seconds present, arrivals, completions, rejections, seconds waited; up to `now`."""
        return (
            self.busy * now + self.busy_offset,
            (self.busy + self.waiting) * now + self.present_offset,
            self.arrivals,
            self.completions,
            self.rejections,
            self.waited,
        )

    def flow(self, now: float) -> tuple[float, ...]:
        """Return the first three of `totals`."""
        return self.busy * now + self.busy_offset, (self.busy + self.waiting) * now + self.present_offset, self.arrivals

    def use(self, wait: Wait, at: float, service: float) -> bool:
        """Arrive at time `at`, wait for a server, hold it for `service` seconds. Return that the script must yield.

        Afterwards `wait.arrived`, `wait.started` and `wait.ended` tell the times, or `wait.rejected` that the queue
        was full.
        """
        wait.service = service
        if at > self.sim._now:
            wait.callbacks = self._arriving
            heappush(self._heap, (at, NORMAL, next(self._ids), wait))  # type: ignore[misc]
        else:
            self._arrive(wait)
        return True

    def resize(self, capacity: int) -> None:
        """Have so many servers from now on. Who is being served stays: one too many is given up when it comes free."""
        self.capacity, now, queue = capacity, self.sim._now, self.queue
        self.excess = max(0, self.busy - capacity)
        while queue and self.busy < capacity:
            wait = heappop(queue)[2] if self.by_priority else queue.popleft()
            if wait is not None and wait.holder is self:
                self.busy += 1
                self.busy_offset -= now
                self.waited += now - wait.arrived
                self._begin(wait, now)
            else:
                self.cancelled -= 1

    def limit(self, limiter: Limiter) -> None:
        """Put a rate limit before the pool."""
        self.limits.append(limiter)

    def take(self, wait: Wait, at: float) -> None:
        """Arrive at time `at` and wait for a server; the branch goes on when it has one, and must `give` it back.

        With `wait.begins` that is called in place of the branch, which goes on at the end of what it begins.
        """
        self.use(wait, at, -1.0)

    def keep(self, wait: Wait, service: float) -> None:
        """Hold a server that was taken for `service` seconds from now on, and give it back, as `use` does."""
        wait.service, wait.holder = service, self
        self._begin(wait, self.sim._now)

    def give_at(self, when: float) -> None:
        """Give back a server at time `when`."""
        if when > self.sim._now:
            self.sim.schedule_at(when, Call(lambda _event: self.give()))
        else:
            self.give()

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of a wait, and a service, still under way at `now`."""
        if wait.callbacks is self._finishing:
            first, share, rest = wait.split or (-1, 0.0, self.service_account)
            middle = min(now, wait.started + share * wait.service)
            return [
                (self.queue_account, wait.arrived, wait.started),
                (first, wait.started, middle),
                (rest, middle, now),
            ]
        return [(self.queue_account, wait.arrived, now)]

    def give(self) -> None:
        """Give back a server that was taken."""
        self._leave(self.sim._now)

    def _arrive(self, wait: Wait) -> None:
        """A hot callback: the wait has reached the pool."""
        wait.arrived = now = self.sim._now
        if self.queue_limit is not None and self.waiting >= self.queue_limit and self._must_wait(wait, now):
            self._reject(wait, now, QUEUE_FULL)
            return
        if self.limits and (self.strict or self.most_wait is not None) and self._held_too_long(wait, now):
            return
        self.arrivals += 1
        self.present_offset -= now
        wait.holder = self
        for limit in self.limits:
            now = limit.admit(now, wait.size)
        if self.most_wait is not None:
            self._watch(wait, wait.arrived)
        if now > wait.arrived:
            self.held_back += 1
            wait.callbacks = self._admitting
            heappush(self._heap, (now, ENDS, next(self._ids), wait))  # type: ignore[misc]
        else:
            self._serve(wait, now)

    def _must_wait(self, wait: Wait, now: float) -> bool:
        """Whether the customer would wait. Asked before it is admitted: who is refused uses up nothing of a rate."""
        busy = self.capacity is not None and self.busy >= self.capacity
        return busy or any(limit.opens(now, wait.size) > now for limit in self.limits)

    def _held_too_long(self, wait: Wait, now: float) -> bool:
        """Refuse who comes beyond the rate, or drop who would be held back for too long; it uses up nothing of the rate."""
        ready = now
        for limit in self.limits:
            ready = limit.opens(ready, wait.size)
        if self.strict and ready > now:
            self._reject(wait, now, RATE_LIMIT)
            return True
        if self.most_wait is None or ready <= now + self.most_wait:
            return False
        self.arrivals += 1
        self.present_offset -= now
        self.held_back += 1
        wait.holder, wait.callbacks = self, self._dropping
        heappush(self._heap, (now + self.most_wait, ENDS, next(self._ids), wait))  # type: ignore[misc]
        return True

    def _drop_held(self, wait: Wait) -> None:
        now = self.sim._now
        self.held_back -= 1
        self.present_offset += now
        self._reject(wait, now, TOO_LONG)

    def _watch(self, wait: Wait, since: float) -> None:
        """Drop `wait` if it is in line still once it has been there for too long."""
        assert self.most_wait is not None

        def ring(_event: Any) -> None:
            if wait.holder is not self or wait.callbacks is not None or wait.arrived != since:
                return
            now = self.sim._now
            self.present_offset += now
            if self.by_priority:
                wait.place[2] = None
                self.cancelled += 1
            else:
                self.queue.remove(wait)  # among the first: who came earlier has been dropped before
            self._reject(wait, now, TOO_LONG)

        self.sim.schedule_at(since + self.most_wait, Call(ring))

    def _admit(self, wait: Wait) -> None:
        """The rate limits let the wait go."""
        self.held_back -= 1
        self._serve(wait, self.sim._now)

    def _serve(self, wait: Wait, now: float) -> None:
        """The wait gets a server, or joins the line (hot)."""
        if self.capacity is None or self.busy < self.capacity:
            self.busy += 1
            self.busy_offset -= now
            self.waited += now - wait.arrived
            self._begin(wait, now)
        elif self.by_priority:
            self._sequence += 1
            wait.place = entry = [wait.priority, self._sequence, wait]
            heappush(self.queue, entry)
        else:
            self.queue.append(wait)

    def _begin(self, wait: Wait, now: float) -> None:
        wait.started = now
        service = wait.service
        if service < 0.0:  # taken, not used
            wait.callbacks = self._granting
            service = 0.0
        else:
            wait.callbacks = self._finishing
        heappush(self._heap, (now + service, ENDS, next(self._ids), wait))  # type: ignore[misc]
        if wait.tie is not None:
            wait.tie(wait)

    def _granted(self, wait: Wait) -> None:
        wait.holder = None
        begins, wait.begins = wait.begins, None
        if begins is None:
            wait.resume(wait)
        else:
            begins()

    def _reject(self, wait: Wait, now: float, why: str) -> None:
        self.rejections += 1
        wait.refusal = why
        wait.holder = None
        wait.started = wait.ended = now
        wait.rejected = True
        wait.callbacks = (wait.resume,)
        self.sim.schedule_at(now, wait)

    def _finish(self, wait: Wait) -> None:
        """A hot callback: end of a service, and the branch goes on."""
        wait.holder = None
        wait.ended = now = self.sim._now
        self._leave(now)
        wait.resume(wait)

    def _leave(self, now: float) -> None:
        """A customer leaves at `now`: the server takes the next in line, or stands idle."""
        self.completions += 1
        self.present_offset += now
        queue = self.queue
        while queue and not self.excess:
            wait = heappop(queue)[2] if self.by_priority else queue.popleft()
            if wait is not None and wait.holder is self:
                self.waited += now - wait.arrived
                self._begin(wait, now)
                return
            self.cancelled -= 1
        if self.excess:
            self.excess -= 1
        self.busy -= 1
        self.busy_offset += now

    def cancel(self, wait: Wait) -> None:
        """Take `wait` out, from the line or from service, in constant time."""
        wait.holder = None
        if wait.callbacks is self._admitting or wait.callbacks is self._dropping:  # held back by a rate limit
            self.held_back -= 1
            self.present_offset += self.sim._now
            return
        if wait.callbacks is not None:  # in service: its end lies in the event queue
            self._leave(self.sim._now)
            self.completions -= 1
            return
        self.present_offset += self.sim._now
        self.cancelled += 1
        if self.by_priority:
            wait.place[2] = None
        if self.cancelled * 2 > len(self.queue) + 16:
            self._compact()

    def _compact(self) -> None:
        """Drop cancelled entries, so that a line which loses most of its customers stays short."""
        if self.by_priority:
            self.queue = [entry for entry in self.queue if entry[2] is not None]
            heapify(self.queue)
        else:
            self.queue = deque(wait for wait in self.queue if wait.holder is self)
        self.cancelled = 0
