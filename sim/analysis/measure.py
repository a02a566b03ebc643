"""What is measured of a run: each quantity by name, over all replications.

Times are of tasks that were done; counts per task (`facts`) are of tasks that ended, done or failed, since work for a
task that failed was work. Rates and resources are observed over `Result.window`.

Leaves out: which numbers are doubtful (`doubts`).
Checked: tests/test_summary.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..engine.errors import did_you_mean
from ..engine.ledger import Ledger
from . import measure_reliability
from .estimator import Estimator, Measured
from .result import ARRIVAL, ARRIVALS, BUSY, CLASS, COMPLETIONS, END, PRESENT, REJECTIONS, WAITED, Mask, Result
from .slo import RESPONSE_TIME, Objective, parse_metric
from .statistics import Array

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
STRETCHES = 160  # of the window: five in each of 32 batches
# Facts (s per task): at each join the last branch minus the mean branch, and of that the part that is coordination.
STRAGGLER_EXCESS = "straggler_excess"
STRAGGLER_COORDINATION = "straggler_coordination"

Measures = dict[str, Measured]


def headline(runs: Sequence[Result], by: Estimator, objectives: Sequence[Objective]) -> Measures:
    """Return what describes the system as a whole."""
    found = _times(runs, by)
    limits = limits_of(objectives)
    kept = [within(run, limits) for run in runs]
    found["attainment"] = by.share([one[run.finished].astype(float) for run, one in zip(runs, kept, strict=True)])
    # All rows: tasks that end in the window may have arrived before it.
    whole = [replace(run, start=0.0) for run in runs]
    found["arrival_rate"] = _rate(runs, by, [run.tasks[:, ARRIVAL] for run in runs])
    found["throughput"] = _rate(runs, by, [run.tasks[run.finished, END] for run in whole])
    found["goodput"] = _rate(runs, by, [run.tasks[within(run, limits), END] for run in whole])
    found["number_in_system"] = _number(runs, by)
    found["overlapped_mean"] = by.mean([run.overlapped for run in runs])
    if STRAGGLER_EXCESS in runs[0].facts:
        found["straggler_excess_mean"] = by.mean([run.fact(STRAGGLER_EXCESS) for run in runs])
    # The excess itself may be inference, so it cannot be taken off T_coordination.
    if STRAGGLER_COORDINATION in runs[0].facts:
        without = [run.coordination - run.fact(STRAGGLER_COORDINATION) for run in runs]
        found["coordination_without_stragglers_mean"] = by.mean(without)
    useful = [run.coordination_without_tool_execute for run in runs]
    found["coordination_without_tool_execute_mean"] = by.mean(useful)
    found["coordination_without_tool_execute_share"] = by.portion(useful, [run.response_times for run in runs])
    return found | measure_reliability.metrics(runs, by, {one.metric for one in objectives})


def _times(runs: Sequence[Result], by: Estimator, chosen: int | None = None) -> Measures:
    """Return the measures that there are of all tasks and of each class (`chosen`) alike."""
    masks = [np.ones(run.response_times.size, bool) if chosen is None else run.task_classes == chosen for run in runs]
    times = [run.response_times[mask] for run, mask in zip(runs, masks, strict=True)]
    coordination = [run.coordination[mask] for run, mask in zip(runs, masks, strict=True)]
    found = {"response_time_mean": by.mean(times)}
    found |= {f"response_time_{name}": by.quantile(times, q) for name, q in QUANTILES.items()}
    found["response_time_max"] = by.greatest(times)
    found["coordination_mean"] = by.mean(coordination)
    found["coordination_share"] = by.portion(coordination, times)
    found["success"] = by.share([_successes(run, chosen) for run in runs])
    return found


def _successes(run: Result, chosen: int | None) -> Array:
    wanted = run.finished
    if chosen is not None:
        wanted &= run.tasks[:, CLASS] == chosen
    right: Array = run.right[wanted].astype(np.float64)
    return right


def by_class(runs: Sequence[Result], by: Estimator) -> dict[str, Measures]:
    """Return the main measures of each task class."""
    return {name: _times(runs, by, index) for index, name in enumerate(runs[0].classes)}


def categories(runs: Sequence[Result], by: Estimator) -> dict[str, tuple[Measured, Measured]]:
    """Return mean seconds and share of T_total of every category."""
    totals = [run.response_times for run in runs]
    return {name: _part([run.category(name) for run in runs], totals, by) for name in runs[0].known}


def accounts(runs: Sequence[Result], by: Estimator) -> dict[int, tuple[Measured, Measured]]:
    """Return mean seconds and share of T_total of every account, by its number."""
    totals = [run.response_times for run in runs]
    return {index: _part([run.account(index) for run in runs], totals, by) for index in range(len(runs[0].accounts))}


def _part(seconds: Sequence[Array], totals: Sequence[Array], by: Estimator) -> tuple[Measured, Measured]:
    return by.mean(seconds), by.portion(seconds, totals)


def facts(runs: Sequence[Result], by: Estimator) -> Measures:
    """Return the mean count per task of each fact, over tasks that ended."""
    first = len(Ledger.HEAD)
    return {
        name: by.mean([run.tasks[run.finished, first + index] for run in runs])
        for index, name in enumerate(runs[0].facts)
    }


def resource(runs: Sequence[Result], by: Estimator, index: int) -> Measures:
    """Return what a resource did, as far as its kind has it.

    `utilization` of a link is the share of time in which anything was sent. `offered` is the load that arrived, as a
    share of the capacity: above `utilization` when what arrives is not all served. `waiting_time` is the mean per
    arrival, those included that did not wait.
    """
    info = runs[0].resources[index]
    seconds = [np.diff(_grid(run)) for run in runs]
    busy, present, arrivals, completions, rejections, waited = (
        [np.diff(run.totals(index, column, _grid(run))) for run in runs]
        for column in (BUSY, PRESENT, ARRIVALS, COMPLETIONS, REJECTIONS, WAITED)
    )
    found = {"arrival_rate": by.ratio(arrivals, seconds)}
    if info.kind == "link":
        return found | {"utilization": by.ratio(busy, seconds), "transfers": by.ratio(present, seconds)}
    found["waiting_time"] = by.ratio(waited, arrivals)
    if info.kind == "limiter":
        return found
    found["busy"] = by.ratio(busy, seconds)
    found["queue_length"] = by.ratio([p - b for p, b in zip(present, busy, strict=True)], seconds)
    found["rejected"] = by.ratio(rejections, [a + r for a, r in zip(arrivals, rejections, strict=True)])
    for meter in info.meters:
        above, below = (
            seconds if column is None else [np.diff(run.totals(index, column, _grid(run))) for run in runs]
            for column in (meter.above, meter.below)
        )
        found[meter.name] = by.ratio(above, below)
    if info.capacity is not None and info.kind != "server":  # whose replicas take as many at once as they can
        capacity = [info.capacity * dt for dt in seconds]
        found["utilization"] = by.ratio(busy, capacity)
        backlog = [_over(a.sum(), c.sum()) for a, c in zip(arrivals, completions, strict=True)]
        found["offered"] = by.ratio([b * factor for b, factor in zip(busy, backlog, strict=True)], capacity)
    return found


def _over(a: float, b: float) -> float:
    return float(a) / float(b) if b else 1.0


def metric(runs: Sequence[Result], by: Estimator, name: str, known: Measures) -> Measured:
    """Return the metric of a name, as `parse_metric` reads it, or one `known` already. Raises ValueError for what nothing measures.

    The mean of a fact is that of `facts`: over tasks that ended.
    """
    if name in known:
        return known[name]
    wanted = parse_metric(name)
    if wanted.statistic == "rate":
        if wanted.quantity not in known:
            raise ValueError(f"`{wanted.quantity}` needs `workload.problems`, which make tasks trials of one problem")
        return known[wanted.quantity]
    if wanted.statistic == "mean" and wanted.quantity in runs[0].facts:
        return facts(runs, by)[wanted.quantity]
    series = [quantity(run, wanted.quantity) for run in runs]
    if wanted.statistic == "quantile":
        return by.quantile(series, wanted.q)
    return by.mean(series) if wanted.statistic == "mean" else by.greatest(series)


def quantity(run: Result, name: str) -> Array:
    """Return a quantity per task that was done: the response time, a category, T_coordination or a fact."""
    found = _QUANTITIES.get(name)
    if found is not None:
        return found(run)
    if name in run.known:
        return run.category(name)
    if name in run.facts:
        return run.fact(name)
    choices = (*_QUANTITIES, *run.known, *run.facts)
    raise ValueError(f"must be one of {', '.join(choices)}; got `{name}`{did_you_mean(name, choices)}")


_QUANTITIES: dict[str, Callable[[Result], Array]] = {
    RESPONSE_TIME: lambda run: run.response_times,
    "coordination": lambda run: run.coordination,
}


def limits_of(objectives: Sequence[Objective]) -> dict[str, float]:
    """Return what a task must keep to count as good: of the limits on a quantity's quantiles or maximum, the widest."""
    limits: dict[str, float] = {}
    for one in objectives:
        metric = parse_metric(one.metric)
        if metric.statistic in ("quantile", "max") and one.sense == "<=":
            limits[metric.quantity] = max(one.threshold, limits.get(metric.quantity, -math.inf))
    return limits


def within(run: Result, limits: Mapping[str, float]) -> Mask:
    """Return which tasks in view succeeded and kept all limits."""
    good = run.done
    kept = run.right[good]
    for name, limit in limits.items():
        kept &= quantity(run, name) <= limit
    good[good] = kept
    return good


def _grid(run: Result) -> Array:
    """Return the ends of equal stretches of the window; fewer than five tasks a batch get fewer stretches."""
    return np.linspace(*run.window, max(1, min(STRETCHES, len(run.tasks))) + 1)


def _rate(runs: Sequence[Result], by: Estimator, times: Sequence[Array]) -> Measured:
    """Return how many of the events at `times` happened a second."""
    counts = [run.stride * np.histogram(one, _grid(run))[0].astype(float) for run, one in zip(runs, times, strict=True)]
    return by.over_time.ratio(counts, [np.diff(_grid(run)) for run in runs])


def _number(runs: Sequence[Result], by: Estimator) -> Measured:
    """Return the mean number of tasks in the system."""
    areas = []
    for run in runs:
        when = np.array([0.0, *(snapshot.time for snapshot in run.snapshots)])
        area = np.array([0.0, *(snapshot.task_seconds for snapshot in run.snapshots)])
        areas.append(np.diff(np.interp(_grid(run), when, area)))
    return by.over_time.ratio(areas, [np.diff(_grid(run)) for run in runs])
