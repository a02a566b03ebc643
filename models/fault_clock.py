"""When a fault comes and goes: on a schedule (`at`, `for`, `every`), or by chance (`mtbf`, `mttr`).

A clock is a sequence of windows, in order of their beginnings; those that overlap or touch are one occurrence. It keeps one
event in the queue for as long as it runs, so a run without an end of its own must `stop` it. By chance the first up time begins
at 0: everything works then, and availability comes down to MTBF / (MTBF + MTTR) from 1, within a few repairs.

The draws of the k-th window are those of ordinal k: they depend on nothing that happens in the run.

Leaves out: what a fault does while it is there (`condition`); wear, and faults that set off others.
Checked: tests/test_fault_clock.py, against schedules told by hand, and availability against theory.
Source: Barlow and Proschan, Statistical Theory of Reliability and Life Testing, 1975 (alternating renewal processes).
"""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import count
from math import inf

from ..sim.engine.distributions import DurationDist
from ..sim.engine.draws import MAX_ORDINAL, ROOT_LANE, Draws, Stream, lane
from ..sim.engine.simulation import Call, Simulation
from .faults import Fault

__all__ = ["FaultClock", "TaskClock"]

Window = tuple[float, float]
"""When it begins and when it is over (s)."""


class FaultClock:
    """Tells `begins(now)` and `ends(now)` (s), in turn, when a fault that comes and goes does so; of an `evict` only `begins`.

    `unit` is the number of the replica that has this clock for its own. `active` tells whether the fault is there,
    `occurrences` how often it has begun.
    """

    def __init__(
        self,
        sim: Simulation,
        draws: Draws,
        name: str,
        spec: Fault,
        begins: Callable[[float], None],
        ends: Callable[[float], None],
        unit: int = 0,
    ) -> None:
        self.active = False
        self.occurrences = 0
        self._sim = sim
        self._begins = begins
        self._ends = ends
        self._instant = spec.effect == "evict"
        self._windows = _windows(draws, f"faults.{name}", spec, unit)
        self._next: Window | None = None
        self._event: Call | None = None
        self._since = 0.0
        self._past = 0.0
        self._stopped = inf

    def start(self) -> None:
        """Begin, at time 0."""
        self._next = next(self._windows, None)
        self._wake_for_next()

    def stop(self, now: float) -> None:
        """Leave the fault as it is at `now` (s), for good: no event of the clock is in the queue, and no second counts any more."""
        self._stopped = min(self._stopped, now)
        if self._event is not None:
            self._sim.withdraw(self._event)
            self._event = None

    def seconds(self, now: float) -> float:
        """Return for how many seconds it has been active up to `now` (s)."""
        return self._past + (min(now, self._stopped) - self._since if self.active else 0.0)

    def _wake(self, _event: object) -> None:
        """A window begins, or the last of those that overlap is over. The next event is set first: what is told may stop it."""
        now = until = self._sim.now
        self._event = None
        while self._next is not None and self._next[0] <= now:
            until = max(until, self._next[1])
            self._next = next(self._windows, None)
        if self._instant or not self.active:
            self.occurrences += 1
            if self._instant:
                self._wake_for_next()
            else:
                self.active, self._since = True, now
                self._wake_at(until)
            self._begins(now)
        elif until > now:
            self._wake_at(until)
        else:
            self.active = False
            self._past += now - self._since
            self._wake_for_next()
            self._ends(now)

    def _wake_for_next(self) -> None:
        if self._next is not None:
            self._wake_at(self._next[0])

    def _wake_at(self, when: float) -> None:
        self._event = Call(self._wake)
        self._sim.schedule_at(when, self._event)


class TaskClock:
    """Times to failure and to repair of a fault that comes to each task by itself."""

    def __init__(self, draws: Draws, name: str, spec: Fault) -> None:
        self._up, self._down = _up_and_down(draws, f"faults.{name}", spec)

    def next(self, task: int, ordinal: int) -> float:
        """Return how many seconds pass until the `ordinal`-th crash (from 0) of a task, from its beginning or the last repair on."""
        return _draw(self._up, task, ordinal)

    def repair(self, task: int, ordinal: int) -> float:
        """Return how many seconds the repair after that crash takes; 0 where the fault is over at once."""
        return 0.0 if self._down is None else _draw(self._down, task, ordinal)


def _windows(draws: Draws, name: str, spec: Fault, unit: int) -> Iterator[Window]:
    """Return the windows of a fault, in order of their beginnings. They may overlap; there may be no end of them."""
    if spec.at is None:
        return _by_chance(*_up_and_down(draws, name, spec), unit)
    lasts = None if spec.for_ is None or spec.effect == "evict" else _stream(draws, f"{name}/for", spec.for_)
    return merge(*(_from(at, spec.every, lasts, unit, series) for series, at in enumerate(spec.at)))


def _from(at: float, every: float | None, lasts: Stream[float] | None, unit: int, series: int) -> Iterator[Window]:
    """Yield the windows from one `at` on, the `series`-th: other times in the list leave its draws alone."""
    for number in (0,) if every is None else count():
        begins = at + number * (every or 0.0)  # not by adding up, which would drift
        yield begins, begins + (0.0 if lasts is None else _draw(lasts, unit, number, series))


def _by_chance(up: Stream[float], down: Stream[float] | None, unit: int) -> Iterator[Window]:
    time = 0.0
    for number in count():
        begins = time + _draw(up, unit, number)
        time = begins + (0.0 if down is None else _draw(down, unit, number))
        yield begins, time


def _up_and_down(draws: Draws, name: str, spec: Fault) -> tuple[Stream[float], Stream[float] | None]:
    """Return the streams of up times and of down times; None where it is over at once."""
    if spec.mtbf is None:
        raise ValueError(f"`mtbf` or `at` must say when {name} comes, but got ({spec.mtbf=}, {spec.at=})")
    mttr = None if spec.effect == "evict" else spec.mttr
    if spec.mtbf.mean + (0.0 if mttr is None else mttr.mean) <= 0:
        raise ValueError(
            f"`mtbf + mttr > 0` must hold for {name}, or time stands still, but got ({spec.mtbf=}, {mttr=})"
        )
    return _stream(draws, f"{name}/mtbf", spec.mtbf), None if mttr is None else _stream(draws, f"{name}/mttr", mttr)


def _stream(draws: Draws, name: str, duration: DurationDist) -> Stream[float]:
    return draws.stream(name, duration.sampler)


def _draw(stream: Stream[float], unit: int, number: int, series: int = 0) -> float:
    """Return the draw of the `number`-th window of a series. Each series, and each `MAX_ORDINAL` of it, has a lane."""
    turn, ordinal = divmod(number, MAX_ORDINAL)
    return stream.draw(unit, ordinal, lane(ROOT_LANE, series, turn, 0) if series or turn else ROOT_LANE)
