"""From the replications of one scenario to its summary: cut the warm-up, measure, judge, and say what is doubtful.

Leaves out: comparing scenarios (`compare`), and rendering.
Checked: tests/test_summary.py, on M/M/1 queues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ..engine.ledger import UNFINISHED
from ..profile.law import widest
from . import measure
from .batches import drift
from .doubts import find_doubts
from .estimator import Estimator, Measured
from .result import ARRIVAL, END, TASK, Result
from .slo import Objective, full_name, overall, verdict
from .statistics import Estimate, LittlesLaw, little
from .summary import Component, Judged, Part, Quantiles, Resource, Summary, Tasks, Warmup
from .troubles import find_troubles
from .warmup import mser5_pooled

Cut = Literal["auto"] | float | None

# Denser where limits are: a limit is looked up between them.
SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999, 1.0)  # fmt: skip
GRID = 512  # times at which the number in the system is looked at


def summarize(
    results: Sequence[Result],
    *,
    confidence: float = 0.95,
    warmup: Cut = "auto",
    objectives: Sequence[Objective] = (),
    metrics: Sequence[str] = (),
    independent: bool = False,
) -> Summary:
    """Return the summary of the replications of one scenario, with more `metrics` by name, such as `ttft_p95`, if asked.

    `warmup` is how many seconds to cut off each, 'auto' for MSER-5 over all of them, or None to cut nothing. `independent` is for tasks that
    were measured, which are no replication: intervals are over tasks, and what is doubtful is not a matter of longer runs.
    Raises ValueError for an empty list, results of different scenarios, and objectives that nothing measures.
    """
    _check_alike(results)
    cut, runs = cut_warmup(results, warmup)
    by = Estimator(confidence, independent)
    headline = measure.headline(runs, by, objectives)
    categories = measure.categories(runs, by)
    facts = measure.facts(runs, by)
    resources = [(info, measure.resource(runs, by, index)) for index, info in enumerate(runs[0].resources)]
    wanted = (full_name(name) for name in (*metrics, *(one.metric for one in objectives)))
    more = {name: measure.metric(runs, by, name, headline) for name in wanted}
    judged = _judge(objectives, more)
    first = results[0]
    summary = Summary(
        scenario=first.scenario,
        seed=first.seed,
        replications=0 if independent else len(results),
        confidence=confidence,
        tasks=_count(results, runs),
        metrics=_estimates(headline | {name: more[name] for name in map(full_name, metrics)}),
        categories={name: Part(seconds.estimate, share.estimate) for name, (seconds, share) in categories.items()},
        components=_components(runs, by),
        classes={name: _estimates(found) for name, found in measure.by_class(runs, by).items()},
        resources=tuple(Resource(one.kind, one.name, one.capacity, _estimates(found)) for one, found in resources),
        facts=_estimates(facts),
        failures=_failures(results),
        samples={f"{name}_mean": one.samples for name, one in facts.items()}
        | {f"{name}_mean": seconds.samples for name, (seconds, _) in categories.items()}
        | {name: one.samples for name, one in (headline | more).items()}  # what has an estimate has its samples
        | {
            f"utilization.{one.name}": found["utilization"].samples
            for one, found in resources
            if "utilization" in found
        },
        warmup=cut,
        little=check_little(results),
        stability=tuple(stability(run) for run in runs),
        objectives=judged,
        verdict=overall(one.verdict for one in judged) if judged else None,
        precision=None,
        largest=_largest(categories, len(results)),
        warnings=(),
        doubts=tuple(widest(doubt for result in results for doubt in result.doubts)),
        reliability=find_troubles(results, by, objectives),
        times=quantiles(runs),
    )
    return summary if independent else find_doubts(summary, runs)


def quantiles(runs: Sequence[Result]) -> Quantiles | None:
    """Return T_total at `SHARES` of the tasks of each replication; None where in one of them none was done."""
    times = [run.response_times for run in runs]
    if not all(one.size for one in times):
        return None
    return Quantiles(SHARES, tuple(tuple(np.quantile(one, SHARES).tolist()) for one in times))


def cut_warmup(results: Sequence[Result], warmup: Cut) -> tuple[Warmup, list[Result]]:
    """Return what to cut, and the views without it. An automatic cut is the same number of tasks in each replication."""
    if warmup is None or warmup == 0:
        return Warmup("none", 0.0, 0, True), list(results)
    if warmup != "auto":
        seconds = float(warmup)
        if not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"`warmup` must be a number of seconds >= 0, 'auto' or None, but got {warmup!r}")
        views = [result.after(seconds) for result in results]
        dropped = [
            result.stride * (len(result.rows) - len(view.tasks)) for result, view in zip(results, views, strict=True)
        ]
        return Warmup("fixed", seconds, float(np.mean(dropped)), True), views
    stride = max(result.stride for result in results)  # so that the n-th rows are of the same task
    rows = [result.rows[result.rows[:, TASK] % stride == 0] for result in results]
    if min(len(one) for one in rows) == 0:
        return Warmup("auto", 0.0, 0, False), list(results)
    found = mser5_pooled([one[:, END] - one[:, ARRIVAL] for one in rows])
    if not found.trusted or found.index == 0:
        return Warmup("auto", 0.0, 0, found.trusted), list(results)
    times = [float(one[found.index, ARRIVAL]) for one in rows]
    views = [result.after(time) for result, time in zip(results, times, strict=True)]
    return Warmup("auto", float(np.mean(times)), found.index * stride, True), views


def check_little(results: Sequence[Result]) -> LittlesLaw:
    """Compare the mean number in the system with arrival rate times mean time in it, over whole runs.

    The one is integrated event by event, the other comes from the rows: so it checks the ledger.
    """
    observed, expected = [], []
    for result in results:
        if result.end > 0 and len(result.rows):
            elapsed = float((result.rows[:, END] - result.rows[:, ARRIVAL]).mean())
            rate = little(result.arrived / result.end, elapsed, result.snapshots[-1].task_seconds / result.end)
            observed.append(rate.observed)
            expected.append(rate.expected)
    return LittlesLaw(float(np.mean(observed)), float(np.mean(expected))) if observed else LittlesLaw(0.0, 0.0)


def stability(run: Result) -> str:
    """Return whether the number of tasks in the system `grows` over the window, is `settled`, or 'unknown'."""
    start, stop = run.window
    if len(run.tasks) < GRID // 4 or not stop > start:
        return "unknown"
    times = np.linspace(start, stop, GRID + 1)[1:]
    found = drift(times, run.number_in_system(times))
    return "grows" if found.grows else "settled" if found.slope.resolved else "unknown"


def _check_alike(results: Sequence[Result]) -> None:
    if not results:
        raise ValueError("there are no results to summarize")
    first = results[0]
    for result in results[1:]:
        for name in ("scenario", "seed", "columns", "classes", "resources"):
            ours, theirs = getattr(first, name), getattr(result, name)
            if ours != theirs:
                raise ValueError(
                    f"replications of one scenario must have the same {name}, but {result.replication} has {theirs!r}, "
                    f"and {first.replication} has {ours!r}"
                )


def _estimates(found: Mapping[str, Measured]) -> dict[str, Estimate]:
    return {name: one.estimate for name, one in found.items()}


def _count(results: Sequence[Result], runs: Sequence[Result]) -> Tasks:
    """Count tasks over all replications. In very long runs what was done is known of every `stride`-th only."""
    failed = sum(sum(result.failures.values()) for result in results)
    ended = sum(result.ended for result in results)
    observed = sum(run.stride * int(np.count_nonzero(run.status != UNFINISHED)) for run in runs)
    arrived = sum(result.arrived for result in results)
    return Tasks(arrived, ended - failed, failed, arrived - ended, observed)


def _failures(results: Sequence[Result]) -> dict[str, int]:
    total: dict[str, int] = {}
    for result in results:
        for reason, count in result.failures.items():
            total[reason] = total.get(reason, 0) + count
    return dict(sorted(total.items()))


def _components(runs: Sequence[Result], by: Estimator) -> tuple[Component, ...]:
    known = runs[0].accounts
    return tuple(
        Component(known[i].category, known[i].component, known[i].name, seconds.estimate, share.estimate)
        for i, (seconds, share) in measure.accounts(runs, by).items()
    )


def _judge(objectives: Sequence[Objective], found: Mapping[str, Measured]) -> tuple[Judged, ...]:
    judged = []
    for one in objectives:
        estimate = found[full_name(one.metric)].estimate
        judged.append(Judged(one.metric, one.threshold, one.sense, estimate, verdict(estimate, one)))
    return tuple(judged)


def _largest(categories: Mapping[str, tuple[Measured, Measured]], replications: int) -> str:
    """Return the sentence that names the category with the largest mean share."""
    shares = {name: share.estimate for name, (_, share) in categories.items() if share.estimate.value > 0}
    if not shares:
        return "no task was done, so T_total has no parts"
    name = max(shares, key=lambda one: shares[one].value)
    counted = "replications" if replications > 1 else "tasks"
    return f"the largest part of T_total is {name}: {shares[name].format(lambda x: f'{100 * x:.4g} %', counted)}"
