"""A fit to a part of the tasks, held against the others: which of its predictions hold, and how sure they could be.

The part to fit to is drawn again with replacement, by groups, fitted and simulated with as many tasks as are held out: what these runs differ
by is what is not known of the fit, and what chance does to so few tasks. The second is at least what chance does to the tasks fitted to, drawn
again by groups: tasks of one group are more alike than others.

Leaves out: a change between the parts, such as another month.
Checked: tests/test_trace_holdout.py (coverage where the truth is known).
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 (groups), 25 (prediction).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...models.simulate import simulate
from ...models.trace_digest import source_of
from ...sim.analysis.holdout import HeldOut, HoldoutResult
from ...sim.analysis.jobs import Raised, Workers, opened
from ...sim.analysis.result import Result
from ...sim.analysis.statistics import Estimate
from ...sim.report.page.provenance import Provenance
from ...sim.trace.measured import Measured, TaskTrace
from ...sim.trace.tally import TraceError
from .estimate import estimate
from .naive import alike, naive
from .naming import NO_MODEL
from .parts import BANDS, METRICS, UNITS, Array, figures, groups_of, metrics, of_result, split
from .scenario import scenario_of
from .tables import student

__all__ = ["REFITS", "holdout", "source"]

REFITS = 40
CONFIDENCE = 0.95
_EACH = 1000  # tasks of a run for the point prediction
_MOST_CALLS = 60_000  # simulated for it
_MOST_RUNS = 5
_ALL_CALLS = 600_000  # simulated by all refits together: of large traces there are fewer refits
_LEAST_REFITS = 12
_DRAWN = 400  # times that measured tasks are drawn again
_LEAST_GROUPS = 3


@dataclass(frozen=True, slots=True)
class _Asked:
    """A fit to be made and simulated: tasks to fit to, and how many to simulate."""

    tasks: tuple[TaskTrace, ...]
    count: int
    arrivals: bool
    kind: Literal["fit", "naive"]


@dataclass(frozen=True, slots=True)
class _How:
    """How a holdout is run: most fits to tasks drawn again, and who is told after each of the runs, of how many."""

    seed: int
    refits: int
    workers: int | Workers
    progress: Callable[[int, int], None] | None


def _answered(asked: _Asked, seed: int, replication: int, spans: str) -> Result:
    """Fit, and simulate."""
    tasks = alike(asked.tasks) if asked.kind == "naive" else asked.tasks
    fitted = estimate(tasks, arrivals=asked.arrivals, seed=seed, intervals=False)
    if asked.kind == "naive":
        fitted = naive(fitted)
    scenario = scenario_of(fitted, tasks=asked.count, seed=seed)
    return simulate(scenario, seed, replication, "all" if NO_MODEL in scenario.models else spans)


def holdout(
    measured: Measured,
    share: float,
    *,
    seed: int = 0,
    refits: int = REFITS,
    workers: int | Workers = 1,
    progress: Callable[[int, int], None] | None = None,
) -> HoldoutResult:
    """Return how a fit to all but a `share` of the tasks predicts that share. No number depends on the workers.

    Raises TraceError for traces that cannot be split, ValueError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"`share` must be between 0 and 1, but got {share}")
    tasks = [one for one in measured.tasks if one.finished and one.calls]
    groups = groups_of(tasks)
    if len(groups) < 2:
        raise TraceError(
            f"{measured.name}: nothing can be held out, as its {len(tasks)} finished tasks with calls are of one problem or session; "
            "give more traces"
        )
    known, held = split(groups, share, seed)
    train, test = [[[tasks[i] for i in groups[number]] for number in part] for part in (known, held)]
    of = [one for group in train for one in group]
    new = sum(map(len, test))
    point, rough, drawn = _runs(train, new, measured.arrivals, _How(seed, refits, workers, progress))
    before, after = [figures(group) for group in train], [figures(group) for group in test]
    predicted = _predicted(point, drawn, before, new, seed)
    real = _intervals(after, seed)
    floor, plain = metrics(np.vstack(before)), metrics(rough)
    rows = tuple(
        HeldOut(
            name,
            UNITS.get(name, ""),
            predicted[i],
            real[i],
            float(plain[i]),
            float(floor[i]),
            BANDS.get(name, math.nan),
        )
        for i, name in enumerate(METRICS)
    )
    doubts = _doubts(len(measured.tasks) - len(tasks), (len(known), len(held)))
    sizes = (len(known), len(held))
    return HoldoutResult(measured.name, share, seed, len(of), new, sizes, len(drawn), CONFIDENCE, rows, doubts)


def source(measured: Measured, command: str) -> Provenance:
    """Return where a holdout comes from, for its report; `command` asked for it."""
    return replace(source_of(measured, command), question="Does a fit predict tasks that it has not seen?")


def _doubts(left: int, groups: tuple[int, int]) -> tuple[str, ...]:
    found = [f"{left} tasks that have no end, or no calls, are in neither part"] if left else []
    if min(groups) < 10:
        found.append(f"with {groups[0]} groups to fit to and {groups[1]} held out, intervals are rough")
    return tuple(found)


def _runs(
    train: list[list[TaskTrace]],
    new: int,
    arrivals: bool,
    how: _How,
) -> tuple[Array, Array, Array]:
    """Return tasks simulated by the fit and by the naive fit, and the metrics of each refit, shape (refits, metrics)."""
    of = [one for group in train for one in group]
    calls = sum(len(one.calls) for one in of) / len(of)
    each = max(50, min(_EACH, round(_MOST_CALLS / calls)))
    runs = max(1, min(_MOST_RUNS, round(_MOST_CALLS / calls / each)))
    refits = min(how.refits, max(_LEAST_REFITS, int(_ALL_CALLS / (calls * new))))
    jobs: list[tuple[_Asked, int, int, str]] = [(_Asked(tuple(of), each, arrivals, "naive"), how.seed, 0, "none")]
    jobs += [(_Asked(tuple(of), each, arrivals, "fit"), how.seed, number, "none") for number in range(runs)]
    rng = np.random.default_rng([how.seed, 10])
    for number in range(refits):
        again = [one for place in rng.integers(0, len(train), len(train)) for one in train[place]]
        jobs.append((_Asked(tuple(again), new, arrivals, "fit"), how.seed + 1 + number, number, "none"))
    found: dict[int, Array] = {}
    with opened(how.workers) as crew:
        for place, result in crew.run(_answered, jobs, lambda _place: True):
            if isinstance(result, Raised):
                raise result.error
            found[place] = of_result(result)
            if how.progress is not None:
                how.progress(len(found), len(jobs))
    point = np.vstack([found[place] for place in range(1, 1 + runs)])
    drawn = np.array([metrics(found[place]) for place in range(1 + runs, len(jobs))]).reshape(-1, len(METRICS))
    return point, found[0], drawn


def _predicted(point: Array, drawn: Array, before: list[Array], new: int, seed: int) -> list[Estimate]:
    """Return the predictions with their intervals: Student's t on the scale on which errors are even.

    The middle is what the fit says of so many tasks, and not the mean of the refits: drawing again moves a refit once more as far as the
    tasks fitted to have moved the fit already.
    """
    value = metrics(point)
    rng = np.random.default_rng([seed, 13])
    among = _even([point[rng.integers(0, len(point), new)] for _ in range(_DRAWN)])
    stretch = _stretch(before, among, new, seed)
    found = []
    for i, name in enumerate(METRICS):
        share = UNITS.get(name) == "share"
        some = drawn[:, i][np.isfinite(drawn[:, i])]
        if math.isnan(value[i]) or len(some) < _LEAST_GROUPS:
            found.append(Estimate(float(value[i]), -math.inf, math.inf, CONFIDENCE, len(some), "refits"))
            continue
        if not value[i] and not some.any():  # there is none of it, as no call of a tool in a trace of requests
            found.append(Estimate(0.0, 0.0, 0.0, CONFIDENCE, len(some), "refits"))
            continue
        even = some if share else np.log(np.maximum(some, 1e-9))
        spread = math.sqrt((even.var(ddof=1) + stretch[i]) * (1 + 1 / len(even)))
        reach = student(len(even)) * spread
        there = among[:, i][np.isfinite(among[:, i])]
        middle = float((there if len(there) else even).mean())
        low, high = (
            (max(0.0, middle - reach), min(1.0, middle + reach))
            if share
            else (math.exp(middle - reach), math.exp(middle + reach))
        )
        at = float(value[i])
        found.append(Estimate(at, min(low, at), max(high, at), CONFIDENCE, len(some), "refits"))
    return found


def _stretch(before: list[Array], among: Array, new: int, seed: int) -> Array:
    """Return what the variance of the metrics of so many tasks is beyond that of tasks of the fit, on the scale of `_predicted`.

    It is told from the tasks fitted to, drawn again by groups: those of one group are more alike, and a fit is smoother than what it is
    fitted to, so that a median between two kinds of tasks moves less in it.
    """
    tasks = sum(map(len, before))
    if len(before) < _LEAST_GROUPS:
        return np.zeros(len(METRICS))
    rng = np.random.default_rng([seed, 11])
    count = max(2, round(new / tasks * len(before)))
    by_group = _even([np.vstack([before[i] for i in rng.integers(0, len(before), count)]) for _ in range(_DRAWN)])
    return np.maximum(_variance(by_group) - _variance(among), 0.0)


def _variance(drawn: Array) -> Array:
    """Return the variance of each metric as far as it was there; 0 for one that never was."""
    there = np.isfinite(drawn)
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, drawn, 0.0).sum(axis=0) / count
    return np.asarray((np.where(there, drawn - mean, 0.0) ** 2).sum(axis=0) / count)


def _even(parts: list[Array]) -> Array:
    found = np.array([metrics(one) for one in parts])
    for i, name in enumerate(METRICS):
        if UNITS.get(name) != "share":
            found[:, i] = np.log(np.maximum(found[:, i], 1e-9))
    return found


def _intervals(parts: list[Array], seed: int) -> list[Estimate]:
    """Return the metrics of measured tasks, with intervals over groups drawn again; none where there are few groups."""
    value = metrics(np.vstack(parts))
    if len(parts) < _LEAST_GROUPS:
        return [
            Estimate(float(one), -math.inf, math.inf, CONFIDENCE, len(parts), "groups drawn again") for one in value
        ]
    rng = np.random.default_rng([seed, 12])
    drawn = np.array(
        [metrics(np.vstack([parts[i] for i in rng.integers(0, len(parts), len(parts))])) for _ in range(_DRAWN)]
    )
    tail = (1 - CONFIDENCE) / 2
    found = []
    for i, one in enumerate(value):
        some = drawn[:, i][np.isfinite(drawn[:, i])]
        low, high = np.quantile(some, [tail, 1 - tail]) if len(some) else (-math.inf, math.inf)
        found.append(
            Estimate(
                float(one), float(min(low, one)), float(max(high, one)), CONFIDENCE, len(parts), "groups drawn again"
            )
        )
    return found
