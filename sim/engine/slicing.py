"""Cores that an operating system gives to its threads by turns: round robin in slices.

A job waits for a free core in line, runs for at most a `slice`, and goes to the end of the line if others wait then. Jobs shorter
than a slice are served first come, first served; the shorter the slice, the nearer it is to processor sharing. A running job's pace is
speed(t) / slowdown(n) while n of the cores are at work.

A job may hold a place of a pool meanwhile, which it gives back when it ends or is broken off.

Leaves out: priorities, and what a scheduler owes to threads that have slept; the cost of a switch.
Checked: tests/test_slicing.py, against a step-by-step reference, M/M/1 by conservation, and `Sharing` as the slice goes to nothing.
Source: Kleinrock, Queueing Systems II, 4.4 (round robin).
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from .branch import Wait
from .pool import Pool
from .sharing import Speed
from .simulation import Call, Simulation

__all__ = ["Slicing"]


class _Job:
    """A job: the work (s) that is `left` of it, and where it is."""

    __slots__ = ("began", "left", "served", "under", "wait")

    def __init__(self, wait: Wait, left: float, under: Pool | None) -> None:
        self.wait = wait
        self.left = left
        self.under = under
        self.served = False  # whether it has ever run
        self.began = -1.0  # of its turn: when it took a core; -1 in line


class Slicing:
    """`servers` cores that take turns of `slice` seconds of CPU time at jobs. Statistics as in `Pool`."""

    def __init__(
        self,
        sim: Simulation,
        name: str,
        servers: int,
        slice_: float,
        slowdown: Callable[[int], float],
        speed: Speed | None = None,
    ) -> None:
        self.sim = sim
        self.name = name
        self.servers = servers
        self.slice = slice_
        self.slowdown = slowdown
        self.speed = speed
        self.queue_account = self.service_account = -1  # where an unfinished job is booked
        self.line: deque[_Job] = deque()
        self.running: list[_Job] = []
        self.last = 0.0
        self.busy_area = 0.0
        self.present_area = 0.0
        self.arrivals = 0
        self.completions = 0
        self.waited = 0.0
        self._timer: Call | None = None
        self._on_arrival = (self._arrive,)

    @property
    def present(self) -> int:
        """How many jobs are under way or in line."""
        return len(self.line) + len(self.running)

    def totals(self, now: float) -> tuple[float, ...]:
        """Core-seconds busy, job-seconds present, arrivals, completions, rejections (none), seconds waited for the first turn."""
        ahead = now - self.last
        busy = self.busy_area + ahead * len(self.running)
        return busy, self.present_area + ahead * self.present, self.arrivals, self.completions, 0, self.waited

    def flow(self, now: float) -> tuple[float, ...]:
        """Return the first three of `totals`."""
        return self.totals(now)[:3]

    def use(self, wait: Wait, at: float, work: float) -> bool:
        """Begin a job at time `at`; the branch goes on at its end. Return that the script must yield.

        Afterwards `wait.arrived` tells when it came, `wait.started` when it first had a core, `wait.ended` when it was done.
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

    def _arrive(self, wait: Wait) -> None:
        wait.arrived = self.sim._now
        self._begin(wait, None)

    def _begin(self, wait: Wait, under: Pool | None) -> None:
        self._account()
        self.arrivals += 1
        wait.callbacks = None
        wait.holder = self
        wait.started = self.sim._now
        wait.place = job = _Job(wait, wait.service, under)
        self.line.append(job)
        self._turn()

    def _done(self, begin: float, end: float) -> float:
        """Return the work that a running job does between two times, with as many running as now."""
        work = end - begin if self.speed is None else self.speed.work(end) - self.speed.work(begin)
        return work / self.slowdown(len(self.running))

    def _account(self) -> None:
        """Bring what is left of the running jobs, and the statistics, up to now."""
        now, last = self.sim._now, self.last
        if now > last:
            if self.running:
                done = self._done(last, now)
                for job in self.running:
                    job.left -= done
            self.busy_area += (now - last) * len(self.running)
            self.present_area += (now - last) * self.present
            self.last = now

    def _turn(self) -> None:
        """Give free cores to those in line, and set the clock for what ends first."""
        now = self.sim._now
        while self.line and len(self.running) < self.servers:
            job = self.line.popleft()
            job.began = now
            if not job.served:
                job.served = True
                self.waited += now - job.wait.started
                job.wait.started = now
            self.running.append(job)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.running:
            self._timer = Call(self._ring)
            self.sim.schedule_at(max(now, min(map(self._until, self.running))), self._timer)

    def _until(self, job: _Job) -> float:
        """Return when a running job ends, or its turn if others wait."""
        now = self.sim._now
        ahead = job.left * self.slowdown(len(self.running))
        end = now + ahead if self.speed is None else self.speed.when(self.speed.work(now) + ahead)
        return min(end, max(now, job.began + self.slice)) if self.line else end

    def _ring(self, _event: Any) -> None:
        """Something ends: a job, or a turn."""
        self._timer = None
        self._account()
        now = self.sim._now
        tiny = 1e-12 + 4e-16 * now
        ended = [job for job in self.running if job.left <= tiny]
        for job in ended:
            self.running.remove(job)
        if self.line:
            for job in [job for job in self.running if now >= job.began + self.slice - tiny]:
                self.running.remove(job)
                job.began = -1.0
                self.line.append(job)
        self.completions += len(ended)
        self._turn()
        for job in ended:
            self._leave(job)
            job.wait.ended = now
            job.wait.resume(job.wait)

    def _leave(self, job: _Job) -> None:
        job.wait.holder = None
        if job.under is not None:
            job.under.give()

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of a job still under way at `now`, and of its wait for a place and a core."""
        job: _Job = wait.place
        queue = self.queue_account if job.under is None else job.under.queue_account
        if not job.served:
            return [(queue, wait.arrived, now)]
        first, share, rest = wait.split or (-1, 0.0, self.service_account)
        left = job.left - (self._done(self.last, now) if job.began >= 0 else 0.0)
        done = wait.service - left
        part = share * wait.service
        middle = now if part >= done else wait.started + (now - wait.started) * part / done
        return [(queue, wait.arrived, wait.started), (first, wait.started, middle), (rest, middle, now)]

    def cancel(self, wait: Wait) -> None:
        """Break off a job: its core goes to the next in line. `wait.service` is then what was left of it."""
        self._account()
        job: _Job = wait.place
        (self.running if job.began >= 0 else self.line).remove(job)
        wait.service = job.left
        self._leave(job)
        self._turn()
