"""One replication in order of time: goodput and arrivals in windows, faults and backlogs as they begin and end, and what came of it.

A trigger is a fault that begins at a set time. Whether goodput came back is judged by `collapse`; what keeps it down is told by what
changed from before the first trigger to after this one: calls that come to each component per task, and whose backlogs are there.

A window is a fiftieth of the run, or long enough for some three hundred tasks; but six fit in before the first trigger, at least.

Resources are known when tasks come and go, as `Result.flow` has them; between these, queues in windows are a straight line.

Leaves out: which of these made which (`models` book that as they run, in `Incidents`); what is not in windows.
Checked: tests/test_faults_command.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engine.errors import CoordsimError
from ..engine.incidents import Incidents, Turn
from . import measure
from .collapse import Collapse, collapses
from .reliability import rate_series
from .result import ARRIVAL, ARRIVALS, BUSY, END, PRESENT, Result
from .root_cause import Cascade, cascade
from .statistics import Array

BACKLOG = "backlog"
WINDOWS, TASKS, BEFORE = 50, 300, 6
MOST_WINDOWS = 2000
_NICE = (1.0, 2.0, 3.0, 5.0, 10.0)


class WindowError(CoordsimError, ValueError):
    """A window of the timeline that does not fit into the run, or makes too many of them: what was got, and what fits."""


@dataclass(frozen=True, slots=True)
class Period:
    """A time (s) in which a cause was at a component; `kind` is its effect, or `backlog`. `end` is that of the run if it is not `over`."""

    cause: str
    component: str
    kind: str
    start: float
    end: float
    over: bool


@dataclass(frozen=True, slots=True)
class Pressure:
    """Calls that came to a component per task that arrived, before the first trigger and after this one."""

    component: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        """How many times as many: nan if none came before."""
        return self.after / self.before if self.before else math.nan


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a scheduled fault did: the verdict on goodput, seconds to its first signs (nan: none), and what was there after it.

    `first_strike` is the first call that it strikes, `first_harm` the first task that ends failed, or late, because of anything.
    `good` and `offered` are rates (1/s) from its end to the next trigger. `backlogs` are (component, cause) of queues there at
    the end of that time.
    """

    name: str
    collapse: Collapse
    first_strike: float
    first_harm: float
    good: float
    offered: float
    pressures: tuple[Pressure, ...]
    backlogs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A replication in windows that end at `times` (s): rates of arrivals and of tasks that end well, and lengths of queues."""

    replication: int
    window: float
    start: float
    times: tuple[float, ...]
    arrivals: tuple[float, ...]
    good: tuple[float, ...]
    in_system: tuple[float, ...]
    queues: Mapping[str, tuple[float, ...]]
    periods: tuple[Period, ...]
    cascade: Cascade
    triggers: tuple[Trigger, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """A fault that begins `at` a time (s) to which no replication came: the longest has `tasks` tasks and ends at `end` (s)."""

    name: str
    at: float
    end: float
    tasks: int


def missed(triggers: Mapping[str, float], runs: Sequence[Result]) -> tuple[Missed, ...]:
    """Return the faults that begin, at times by name (s), when all runs are over."""
    last = max(runs, key=lambda run: run.end)
    return tuple(Missed(name, at, last.end, last.arrived) for name, at in triggers.items() if at >= last.end)


def timeline(
    run: Result,
    *,
    triggers: Sequence[str],
    limits: Mapping[str, float],
    start: float = 0.0,
    window: float | None = None,
    replication: int = 0,
) -> Timeline:
    """Return what happened in a run from `start` (s) to its last arrival (or to the end that cut it off).

    `triggers` name the faults that begin at set times, `limits` are what a task must keep to be good. Raises WindowError for a window
    that does not fit into the run, or is too short for it.
    """
    whole = run.after(0.0)
    periods = periods_of(run.incidents, run.end)
    wanted = [one for one in periods if one.cause in triggers and one.kind != BACKLOG and one.end >= start]
    spans = _merged(wanted)
    stop = run.window[1]
    width = window or _width(stop - start, run.stride * len(run.tasks), [a - start for _, a, _ in spans if a > start])
    _check(width, stop - start)
    number = int((stop - start) / width * (1 + 1e-12))
    edges: Array = start + width * np.arange(number + 1, dtype=np.float64)
    times = edges[1:]
    arrivals = rate_series(whole.tasks[:, ARRIVAL], edges, whole.stride)
    good = rate_series(whole.tasks[measure.within(whole, limits), END], edges, whole.stride)
    present = _in_system(whole, times)
    known = [one for one in spans if one[1] < one[2]]
    judged: tuple[Collapse, ...] = ()
    if known and times.size > 1:
        judged = collapses(
            times, arrivals, good, [(a, b) for _, a, b in known], queue=present, start=start, stride=run.stride
        )
    series = _Windows(run, edges, arrivals, good, periods)
    nexts = [*(a for _, a, _ in known[1:]), float(edges[-1])]
    return Timeline(
        replication=replication,
        window=width,
        start=start,
        times=tuple(times.tolist()),
        arrivals=tuple(arrivals.tolist()),
        good=tuple(good.tolist()),
        in_system=tuple(present.tolist()),
        queues={name: tuple(lengths.tolist()) for name, lengths in _queues(run, edges).items()},
        periods=tuple(periods),
        cascade=cascade(run.incidents, times, good),
        triggers=tuple(
            series.trigger(name, one, known[0][1], until)
            for (name, _, _), one, until in zip(known, judged, nexts, strict=False)
        ),
    )


def periods_of(incidents: Incidents, end: float) -> list[Period]:
    """Return when each cause was at each component, from the turns of a run that ended at `end`; in order of their starts."""
    open_: dict[tuple[int, str, str], list[float]] = {}
    found = []

    def closed(turn: Turn | None, key: tuple[int, str, str], start: float) -> Period:
        cause, component, kind = key
        stop = end if turn is None else turn.time
        return Period(incidents.causes[cause].name, component, kind, start, stop, turn is not None)

    for turn in sorted(incidents.turns, key=lambda turn: turn.time):
        key = (turn.cause, turn.component, turn.kind)
        if turn.begins:
            open_.setdefault(key, []).append(turn.time)
        elif open_.get(key):
            found.append(closed(turn, key, open_[key].pop()))
    found += [closed(None, key, start) for key, starts in open_.items() for start in starts]
    return sorted(found, key=lambda one: (one.start, one.component, one.cause))


def _merged(periods: Sequence[Period]) -> list[tuple[str, float, float]]:
    """Return (name, start, end) of each time that a fault was there, at whatever components."""
    found: list[tuple[str, float, float]] = []
    for one in sorted(periods, key=lambda one: (one.cause, one.start)):
        if found and found[-1][0] == one.cause and one.start <= found[-1][2]:
            found[-1] = (one.cause, found[-1][1], max(found[-1][2], one.end))
        else:
            found.append((one.cause, one.start, one.end))
    return sorted(found, key=lambda one: one[1:])


def _width(length: float, tasks: int, before: Sequence[float]) -> float:
    """Return a round number of seconds; `before` begins with how long there was none of the triggers."""
    wanted = max(length / WINDOWS, TASKS * length / max(tasks, 1)) if before else length / WINDOWS
    wanted = min([wanted, *(first / BEFORE for first in before[:1])])
    if not wanted > 0:
        return length
    size = 10.0 ** math.floor(math.log10(wanted))
    return max(one for one in _NICE if one * size <= wanted * (1 + 1e-9)) * size


def _check(width: float, length: float) -> None:
    """Raise WindowError for a window that does not fit into a run of some length (s), or fits too often."""
    if not length > 0:
        raise WindowError(
            "no task arrives after the end of warm-up: there is no stretch of time to look at; try more `--tasks`, "
            "or a `workload.warmup` of 0 s"
        )
    if not 0 < width <= length:
        raise WindowError(
            f"a window (--window) must fit into the run: at most {_rounded(length, math.floor)} s "
            f"(from the end of warm-up to the last arrival); got {width:g} s"
        )
    if length / width > MOST_WINDOWS:
        least = _rounded(length / MOST_WINDOWS, math.ceil)
        raise WindowError(
            f"a window (--window) must be {least} s at least, so that there are {MOST_WINDOWS} at most; got {width:g} s"
        )


def _rounded(value: float, to: Callable[[float], int]) -> str:
    """Return a number in four digits, rounded down or up so that it still holds."""
    if not 0 < value < math.inf:
        return f"{value:g}"
    digits = 3 - math.floor(math.log10(value))
    return f"{to(value * 10.0**digits) / 10.0**digits:.4g}"


def _in_system(run: Result, times: Array) -> Array:
    """Return the tasks in the system at each time; those that the end of the run cuts off are there until after it."""
    ended = np.sort(run.tasks[run.finished, END])
    arrived = np.searchsorted(run.tasks[:, ARRIVAL], times, side="right")
    return np.asarray(run.stride * (arrived - np.searchsorted(ended, times, side="right")), dtype=np.float64)


def _queues(run: Result, edges: Array) -> dict[str, Array]:
    """Return the mean number that waited at each resource in each window, of those where anybody ever did."""
    found = {}
    for index, info in enumerate(run.resources):
        if info.kind == "pool":
            waiting = run.flow(index, PRESENT, edges) - run.flow(index, BUSY, edges)
            lengths = np.maximum(np.diff(waiting) / np.diff(edges), 0.0)
            if lengths.max(initial=0.0) > 1e-6:
                found[info.name] = lengths
    return found


@dataclass(frozen=True, slots=True)
class _Windows:
    """A run, its windows, and the periods of its causes."""

    run: Result
    edges: Array
    arrivals: Array
    good: Array
    periods: Sequence[Period]

    def trigger(self, name: str, judged: Collapse, first: float, until: float) -> Trigger:
        """Return what a trigger did until the time of the next; `first` is when the first one began."""
        incidents = self.run.incidents
        strikes = [
            one.time - judged.start
            for cause, examples in zip(incidents.causes, incidents.examples, strict=True)
            if cause.name == name
            for one in examples
            if judged.start <= one.time < until
        ]
        harms = [one.end - judged.start for one in incidents.harms if judged.start <= one.end < until]
        here = (self.edges[:-1] >= judged.end) & (self.edges[1:] <= until)
        good, offered = (float(rates[here].mean()) if here.any() else math.nan for rates in (self.good, self.arrivals))
        backlogs = {
            (one.component, one.cause): None
            for one in self.periods
            if one.kind == BACKLOG and one.start < until and (one.end >= until or not one.over)
        }
        return Trigger(
            name=name,
            collapse=judged,
            first_strike=min(strikes, default=math.nan),
            first_harm=min(harms, default=math.nan),
            good=good,
            offered=offered,
            pressures=self._pressures(first, judged.end, until),
            backlogs=tuple(backlogs),
        )

    def _pressures(self, first: float, since: float, until: float) -> tuple[Pressure, ...]:
        """Return calls per task at each component, before `first` and from `since` to `until`; the most risen first."""
        ends = np.array([[min(self.edges[0], first), first], [since, max(until, since)]])
        arrived = [
            np.count_nonzero((self.run.rows[:, ARRIVAL] >= a) & (self.run.rows[:, ARRIVAL] < b)) for a, b in ends
        ]
        if not all(arrived):
            return ()
        found = []
        for index, info in enumerate(self.run.resources):
            if info.kind == "pool":
                before, after = (
                    np.diff(self.run.flow(index, ARRIVALS, when))[0] / (self.run.stride * number)
                    for when, number in zip(ends, arrived, strict=True)
                )
                found.append(Pressure(info.name, float(before), float(after)))
        return tuple(sorted(found, key=lambda one: -one.factor if one.before else 0.0))
