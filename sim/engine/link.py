"""A link whose bandwidth is shared equally by the transfers on it: processor sharing in virtual time.

Virtual time runs at bandwidth/n while n transfers are under way, so a transfer of b bytes ends when virtual time has
grown by b, however often n changes; only the next end is ever in the event queue.

Leaves out: unequal shares, slow start, loss.
Checked: tests/test_engine.py against a step-by-step fluid reference; tests/test_theory.py against M/M/1 processor sharing.
Source: Parekh and Gallager, IEEE/ACM Trans. Networking 1 (1993), for the virtual time.
"""

from heapq import heapify, heappop, heappush

from .branch import Wait
from .simulation import Call, Simulation


class Link:
    """A bandwidth in bytes per second, shared. Statistics as in `Pool`: `busy_area` is seconds with any transfer."""

    def __init__(self, sim: Simulation, name: str, bandwidth: float) -> None:
        self.sim = sim
        self.name = name
        self.bandwidth = bandwidth
        self.service_account = -1  # where an unfinished transfer is booked
        self.virtual = 0.0  # bytes each transfer under way has been served since the link was last idle
        self.last = 0.0
        self.active: list[tuple[float, int, Wait]] = []
        self.cancelled = 0
        self.busy_area = 0.0
        self.present_area = 0.0
        self.arrivals = 0
        self.completions = 0
        self.carried_bytes = 0.0
        self._sequence = 0
        self._timer: Call | None = None
        self._on_arrival = (self._arrive,)

    @property
    def present(self) -> int:
        """How many transfers are under way."""
        return len(self.active) - self.cancelled

    def totals(self, now: float) -> tuple[float, ...]:
        """Seconds busy, transfer-seconds present, arrivals, completions, rejections (none), seconds waited (none)."""
        ahead = now - self.last
        present = self.present
        return (
            self.busy_area + (ahead if present else 0.0), self.present_area + ahead * present,
            self.arrivals, self.completions, 0, 0.0,
        )  # fmt: skip

    def flow(self, now: float) -> tuple[float, ...]:
        """Return the first three of `totals`."""
        return self.totals(now)[:3]

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of a transfer still under way at `now`."""
        return [(self.service_account, wait.arrived, now)]

    def transfer(self, wait: Wait, at: float, size: float) -> None:
        """Begin at time `at` to send `size` bytes; the branch goes on when the last byte is through.

        Afterwards `wait.arrived` tells when the transfer began.
        """
        wait.service = size
        if at > self.sim._now:
            wait.callbacks = self._on_arrival
            self.sim.schedule_at(at, wait)
        else:
            self._arrive(wait)

    def _account(self) -> None:
        now = self.sim._now
        span = now - self.last
        present = self.present
        if span and present:
            self.virtual += span * self.bandwidth / present
            self.busy_area += span
            self.present_area += span * present
        self.last = now

    def _arrive(self, wait: Wait) -> None:
        self._account()
        if not self.present:
            self.virtual = 0.0  # an idle link starts afresh, so that rounding never builds up
            self.active.clear()
            self.cancelled = 0
        self.arrivals += 1
        wait.arrived = wait.started = self.sim._now
        wait.holder = self
        self._sequence += 1
        wait.place = self.virtual + wait.service
        heappush(self.active, (wait.place, self._sequence, wait))
        self._rearm()

    def _rearm(self) -> None:
        """Put the next end into the event queue, in place of the one that was there."""
        if self._timer is not None:
            self._timer.cancel()
        active = self.active
        while active and active[0][2].holder is not self:
            heappop(active)
            self.cancelled -= 1
        if not active:
            self._timer = None
            return
        self._timer = Call(self._end)
        remaining = max(0.0, active[0][0] - self.virtual)
        self.sim.schedule_at(self.sim._now + remaining * self.present / self.bandwidth, self._timer)

    def _end(self, _timer: object) -> None:
        self._account()
        finish, _, wait = heappop(self.active)
        self.virtual = finish  # exactly: the clock's rounding must not leave a crumb to send
        self.completions += 1
        self.carried_bytes += wait.service
        wait.holder = None
        self._timer = None
        self._rearm()
        wait.resume(wait)

    def cancel(self, wait: Wait) -> None:
        """Break off a transfer: what it has sent is lost, its share goes to the others."""
        self._account()
        wait.holder = None
        self.cancelled += 1
        if self.cancelled * 2 > len(self.active) + 16:
            self.active = [entry for entry in self.active if entry[2].holder is self]
            heapify(self.active)
            self.cancelled = 0
        self._rearm()
