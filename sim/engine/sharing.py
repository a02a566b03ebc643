"""A resource shared equally by the jobs on it, such as a link's bandwidth or a node's CPU: processor sharing in virtual time.

Virtual time is the work that each job under way has been served. It runs at speed(t) x rate / slowdown(n) while n jobs are
under way, so a job of w ends when virtual time has grown by w, however often n changes; only the next end is ever in the
event queue. Of a link the rate is its bandwidth and the slowdown of n transfers is n.

A job may hold a place of a pool meanwhile, which it gives back when it ends or is broken off.

Leaves out: unequal shares; a link's slow start and loss.
Checked: tests/test_engine.py against a step-by-step fluid reference; tests/test_theory.py against M/M/1 processor sharing;
tests/test_sharing.py.
Source: Parekh and Gallager, IEEE/ACM Trans. Networking 1 (1993), for the virtual time.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate

from .branch import Wait
from .pool import Pool
from .simulation import Call, Simulation


class Speed:
    """How fast something runs as time goes: each of `factors` for `every` seconds, one after the other, and again from the first."""

    def __init__(self, every: float, factors: Sequence[float]) -> None:
        self.every = every
        self.factors = tuple(factors)
        self.done = (0.0, *accumulate(factor * every for factor in factors))  # work by the end of each
        self.period = every * len(self.factors)

    @property
    def mean(self) -> float:
        """The mean speed."""
        return self.done[-1] / self.period

    def at(self, time: float) -> float:
        """Return the speed at a time (s)."""
        return self.factors[int(time // self.every) % len(self.factors)]

    def work(self, time: float) -> float:
        """Return the seconds of work at speed 1 that are done from 0 to a time (s)."""
        rounds, rest = divmod(time, self.period)
        place = min(int(rest // self.every), len(self.factors) - 1)
        return rounds * self.done[-1] + self.done[place] + (rest - place * self.every) * self.factors[place]

    def when(self, work: float) -> float:
        """Return the time (s) by which so much work (s at speed 1) is done: the inverse of `work`."""
        rounds, rest = divmod(work, self.done[-1])
        place = min(bisect_right(self.done, rest) - 1, len(self.factors) - 1)
        return rounds * self.period + place * self.every + (rest - self.done[place]) / self.factors[place]


class Sharing:
    """What serves all jobs at once: each at `rate` / `slowdown(jobs)`, in units of work per second, times `speed`.

    Statistics as in `Pool`: `busy_area` is seconds with a job, times how many of its `servers` have one.
    """

    def __init__(
        self,
        sim: Simulation,
        name: str,
        rate: float = 1.0,
        slowdown: Callable[[int], float] = float,
        speed: Speed | None = None,
        servers: int = 1,
    ) -> None:
        self.sim = sim
        self.name = name
        self.rate = rate
        self.slowdown = slowdown
        self.speed = speed
        self.servers = servers
        self.service_account = -1  # where an unfinished job is booked
        self.virtual = 0.0  # work that each job under way has been served since there was last none
        self.last = 0.0
        self.active: list[tuple[float, int, Wait]] = []
        self.cancelled = 0
        self.busy_area = 0.0
        self.present_area = 0.0
        self.arrivals = 0
        self.completions = 0
        self._sequence = 0
        self._timer: Call | None = None
        self._on_arrival = (self._arrive,)

    @property
    def present(self) -> int:
        """How many jobs are under way."""
        return len(self.active) - self.cancelled

    def totals(self, now: float) -> tuple[float, ...]:
        """Server-seconds busy, job-seconds present, arrivals, completions, rejections (none), seconds waited (none)."""
        ahead = now - self.last
        present = self.present
        return (
            self.busy_area + ahead * min(present, self.servers), self.present_area + ahead * present,
            self.arrivals, self.completions, 0, 0.0,
        )  # fmt: skip

    def flow(self, now: float) -> tuple[float, ...]:
        """Return the first three of `totals`."""
        return self.totals(now)[:3]

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of a job still under way at `now`, and of its wait for a place."""
        finish, under = wait.place
        first, share, rest = wait.split or (-1, 0.0, self.service_account)
        done = wait.service - (finish - self._virtual_at(now))
        middle = (
            now if share * wait.service >= done else wait.started + (now - wait.started) * share * wait.service / done
        )
        parts = [(first, wait.started, middle), (rest, middle, now)]
        return parts if under is None else [(under.queue_account, wait.arrived, wait.started), *parts]

    def use(self, wait: Wait, at: float, work: float) -> bool:
        """Begin a job at time `at`; the branch goes on at its end. Return that the script must yield.

        Afterwards `wait.arrived` and `wait.started` tell when it began, `wait.ended` when it was done.
        """
        wait.service = work
        if at > self.sim._now:
            wait.callbacks = self._on_arrival
            self.sim.schedule_at(at, wait)
        else:
            self._arrive(wait)
        return True

    def keep(self, wait: Wait, work: float, under: Pool) -> None:
        """Begin a job now that has waited for a place of a pool, and gives it back at its end."""
        wait.service = work
        self._begin(wait, under)

    def _virtual_at(self, now: float) -> float:
        present = self.present
        if not present:
            return self.virtual
        if self.speed is None:
            return self.virtual + (now - self.last) * self.rate / self.slowdown(present)
        work = self.speed.work(now) - self.speed.work(self.last)
        return self.virtual + work * self.rate / self.slowdown(present)

    def _when(self, work: float) -> float:
        """Return when so much more work of each job is done, if none comes or goes."""
        now, ahead = self.sim._now, work * self.slowdown(self.present) / self.rate
        return now + ahead if self.speed is None else max(now, self.speed.when(self.speed.work(now) + ahead))

    def _account(self) -> None:
        now = self.sim._now
        span = now - self.last
        present = self.present
        if span and present:
            self.virtual = self._virtual_at(now)
            self.busy_area += span * min(present, self.servers)
            self.present_area += span * present
        self.last = now

    def _arrive(self, wait: Wait) -> None:
        wait.arrived = self.sim._now
        self._begin(wait, None)

    def _begin(self, wait: Wait, under: Pool | None) -> None:
        self._account()
        if not self.present:
            self.virtual = 0.0  # it starts afresh, so that rounding never builds up
            self.active.clear()
            self.cancelled = 0
        self.arrivals += 1
        wait.started = self.sim._now
        wait.holder = self
        self._sequence += 1
        finish = self.virtual + wait.service
        wait.place = finish, under
        heappush(self.active, (finish, self._sequence, wait))
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
        self.sim.schedule_at(self._when(max(0.0, active[0][0] - self.virtual)), self._timer)

    def _end(self, _timer: object) -> None:
        self._account()
        finish, _, wait = heappop(self.active)
        self.virtual = finish  # exactly: the clock's rounding must not leave a crumb of work
        self.completions += 1
        wait.holder = None
        wait.ended = self.sim._now
        self._timer = None
        self._rearm()
        under = wait.place[1]
        if under is not None:
            under.give()
        wait.resume(wait)

    def cancel(self, wait: Wait) -> None:
        """Break off a job: what was done of it is lost, its share goes to the others. `wait.service` is then what was left of it."""
        self._account()
        finish, under = wait.place
        wait.service, wait.started = finish - self.virtual, self.sim._now
        wait.holder = None
        self.cancelled += 1
        if self.cancelled * 2 > len(self.active) + 16:
            self.active = [entry for entry in self.active if entry[2].holder is self]
            heapify(self.active)
            self.cancelled = 0
        self._rearm()
        if under is not None:
            under.give()
