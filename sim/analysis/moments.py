"""A run over time, small enough to keep: one replication in windows, and T_total by order of arrival over all of them.

Windows are of the first replication, from its start (warm-up included) to its last arrival, or to its end if that is what it is
observed to (`Result.window`). Resources are known when tasks come and go, as `Result.flow` has them; between these they are a straight line.

T_total by order of arrival is that of the series in which `warmup` looks for the cut: every task, whatever became of it.

Leaves out: intervals, and what is made of it (`report.sections`).
Checked: tests/test_moments.py, on runs made by hand and on M/M/1.
Source: averages over replications in order of arrival, smoothed by a moving average, are Welch's (Law, Simulation Modeling and
Analysis, 5th ed., 9.5.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .fault_timeline import BACKLOG, Period, periods_of
from .reliability import rate_series
from .result import ARRIVAL, ARRIVALS, BUSY, END, PRESENT, TASK, Result
from .statistics import Array, as_sample

__all__ = ["ByArrival", "Moments", "moments", "welch"]

LEAST, MOST = 20, 200  # windows
TASKS = 25  # in a window, on average: fewer make rates jump
MOST_LINES = 8  # resources that are kept, of each quantity
MOST_PERIODS = 200
BINS, VALUES = 200, 20_000  # of T_total by order of arrival: bins, and bins times replications
_LONG = (60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0)  # round lengths of time
_NICE = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class ByArrival:
    """T_total (s) by order of arrival: the mean of each `size` tasks in turn, a row a replication, as far as the shortest goes.

    `tasks` are numbers of tasks at the middles of the bins. Where a run kept only every n-th task as a row, a bin has as many
    fewer of them.
    """

    size: int
    tasks: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Moments:
    """A replication in windows of `window` seconds that end at `times` (s).

    `arrivals` and `succeeded` are tasks a second; `in_system` is the mean number of tasks there, and `peak` the greatest. `queues`
    are mean numbers that wait, `utilization` shares of capacity that are busy (of a limiter: arrivals over its rate), of the
    resources with most of it. `periods` are times in which a cause was at a component, `left_out` how many shorter
    ones are not told. `cut` is where the warm-up of this replication ends (s).
    """

    replication: int
    window: float
    times: tuple[float, ...]
    arrivals: tuple[float, ...]
    succeeded: tuple[float, ...]
    in_system: tuple[float, ...]
    peak: tuple[float, ...]
    queues: Mapping[str, tuple[float, ...]]
    utilization: Mapping[str, tuple[float, ...]]
    periods: tuple[Period, ...]
    left_out: int
    cut: float
    by_arrival: ByArrival | None


def moments(results: Sequence[Result], views: Sequence[Result]) -> Moments:
    """Return the first replication over time, and T_total by order of arrival of all; `views` are those without warm-up."""
    run = results[0].after(0.0)
    edges = _edges(run)
    ends = run.rows[run.right, END] if len(run.rows) else np.zeros(0)
    present, peak = _in_system(run, edges)
    periods = periods_of(run.incidents, run.end)
    kept = _longest(periods)
    return Moments(
        replication=run.replication,
        window=float(edges[1] - edges[0]),
        times=tuple(edges[1:].tolist()),
        arrivals=tuple(rate_series(run.rows[:, ARRIVAL], edges, run.stride).tolist()),
        succeeded=tuple(rate_series(ends, edges, run.stride).tolist()),
        in_system=tuple(present.tolist()),
        peak=tuple(peak.tolist()),
        queues=_most(dict(_queues(run, edges))),
        utilization=_most(dict(_used(run, edges))),
        periods=kept,
        left_out=len(periods) - len(kept),
        cut=views[0].start,
        by_arrival=_by_arrival(results),
    )


def welch(values: Sequence[float], half: int) -> tuple[float, ...]:
    """Return the moving average over `half` values on both sides; near an end, over as many as there are on the nearer side.

    >>> welch((1.0, 2.0, 6.0), 1)
    (1.0, 3.0, 6.0)
    """
    sums = np.concatenate([[0.0], np.cumsum(as_sample(values))])
    places = np.arange(len(values))
    reach = np.minimum(np.minimum(places, len(values) - 1 - places), half)
    means: Array = (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
    return tuple(means.tolist())


def _edges(run: Result) -> Array:
    """Return the ends of windows, of a round length each; what is left at the end is shorter than one."""
    stop = run.window[1]
    if not stop > 0:
        return np.array([0.0, 1.0])
    wanted = stop / min(max(run.stride * len(run.rows) / TASKS, LEAST), MOST)
    size = 10.0 ** math.floor(math.log10(wanted))
    round_ = [one * size for one in _NICE] if not 50 < wanted <= _LONG[-1] else _LONG
    width = next(one for one in round_ if one >= wanted * (1 - 1e-9))
    edges: Array = width * np.arange(max(1, math.floor(stop / width * (1 + 1e-12))) + 1, dtype=np.float64)
    return edges


def _in_system(run: Result, edges: Array) -> tuple[Array, Array]:
    """Return the mean and the greatest number of tasks in the system in each window, from when each came and went."""
    came, gone = np.sort(run.rows[:, ARRIVAL]), np.sort(run.rows[:, END])
    when = np.concatenate([came, gone])
    # Who comes at the moment at which another goes meets him there: so departures are sorted behind.
    order = np.lexsort((np.repeat([0, 1], [came.size, gone.size]), when))
    after = np.cumsum(np.repeat([1.0, -1.0], [came.size, gone.size])[order])
    at = np.concatenate([[0.0], after])[np.searchsorted(when[order], edges, side="right")]
    peak = at[:-1].copy()
    place = np.searchsorted(edges, when[order], side="left") - 1
    inside = (place >= 0) & (place < peak.size)
    np.maximum.at(peak, place[inside], after[inside])
    mean = np.diff(_area(came, edges) - _area(gone, edges)) / np.diff(edges)
    return run.stride * np.maximum(mean, 0.0), run.stride * peak


def _area(moments_: Array, times: Array) -> Array:
    """Return the seconds since each moment before each of `times`, summed."""
    number = np.searchsorted(moments_, times, side="right")
    area: Array = number * times - np.concatenate([[0.0], np.cumsum(moments_)])[number]
    return area


def _queues(run: Result, edges: Array) -> list[tuple[str, Array]]:
    """Return the mean number that waited at each resource in each window, of those where anybody ever did."""
    found = []
    for index, info in enumerate(run.resources):
        if info.kind not in ("link", "limiter"):
            waiting = run.flow(index, PRESENT, edges) - run.flow(index, BUSY, edges)
            found.append((_named(run, index), np.maximum(np.diff(waiting) / np.diff(edges), 0.0)))
    return [(name, one) for name, one in found if one.max(initial=0.0) > 1e-6]


def _used(run: Result, edges: Array) -> list[tuple[str, Array]]:
    """Return the utilization of each resource that has one, as `measure.resource` defines it."""
    found = []
    for index, info in enumerate(run.resources):
        column = ARRIVALS if info.kind == "limiter" else BUSY
        capacity = 1.0 if info.kind == "link" else info.capacity
        if capacity and info.kind != "server":
            share = np.diff(run.flow(index, column, edges)) / np.diff(edges) / capacity
            found.append((_named(run, index), np.asarray(share, dtype=np.float64)))
    return [(name, one) for name, one in found if one.max(initial=0.0) > 1e-3]


def _named(run: Result, index: int) -> str:
    """Return the name of a resource, with its kind where another has the same."""
    info = run.resources[index]
    alike = sum(one.name == info.name for one in run.resources)
    return info.name if alike == 1 else f"{info.kind} {info.name}"


def _most(series: Mapping[str, Array]) -> dict[str, tuple[float, ...]]:
    """Return those with the greatest means; of two alike the first."""
    chosen = sorted(series, key=lambda name: -float(series[name].mean()))[:MOST_LINES]
    return {name: tuple(series[name].tolist()) for name in chosen}


def _longest(periods: Sequence[Period]) -> tuple[Period, ...]:
    """Return faults before backlogs, and long ones before short ones, as many as are kept; in order of time."""
    ranked = sorted(periods, key=lambda one: (one.kind == BACKLOG, one.start - one.end))[:MOST_PERIODS]
    return tuple(sorted(ranked, key=lambda one: (one.start, one.component, one.cause, one.kind)))


def _by_arrival(results: Sequence[Result]) -> ByArrival | None:
    """Return T_total by order of arrival; None where a replication has too few tasks to say anything."""
    stride = max(one.stride for one in results)
    rows = [one.rows[one.rows[:, TASK] % stride == 0] for one in results]
    shortest = min(len(one) for one in rows)
    number = min(BINS, max(VALUES // len(rows), LEAST), shortest)
    if number < LEAST // 2:
        return None
    size = shortest // number
    number = shortest // size
    times = [(one[: size * number, END] - one[: size * number, ARRIVAL]).reshape(number, size) for one in rows]
    middles = stride * size * (np.arange(number) + 0.5)
    means = tuple(tuple(one.mean(axis=1).tolist()) for one in times)
    return ByArrival(stride * size, tuple(middles.tolist()), means)
