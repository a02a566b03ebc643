"""Compare two variants of one system that met the same tasks: run the pairs that a plan names, and measure savings.

A saving is baseline minus variant. Both run with one seed, so the draws of a task are the same under both: each
replication gives a pair of numbers, and the spread of their differences gives the interval. A relative saving is a
ratio of two means, with Fieller's interval. Verdicts are explained in `comparison`.

Leaves out: how variants are made (`models.compare`); shares of a policy in interactions of several (Shapley), which
would take 2^n variants; sequential stopping.
Checked: tests/test_compare.py.
Source: common random numbers and the paired t are Law, Simulation Modeling and Analysis, 5th ed., 10.2.1 and 11.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ..engine.errors import CoordsimError
from ..engine.ledger import CATEGORIES
from ..profile.law import widest
from . import measure
from .comparison import Ablation, ByTask, ComparisonResult, Metric, Part, Point, Region, Saving, Switch, Verdict
from .estimator import Estimator, Measured
from .jobs import Simulate, Workers, run_jobs
from .replicate import LEAST, Progress, Settings
from .result import TASK, Result
from .statistics import (
    Array,
    Estimate,
    bonferroni,
    holm,
    mean_interval,
    no_estimate,
    paired_difference,
    replications_needed,
)
from .summarize import Cut, cut_warmup, stability

S = TypeVar("S")

TOLERANCE = 0.02
METRICS = (
    "response_time_mean", "response_time_p50", "response_time_p95", "response_time_p99", "coordination_mean",
    "throughput", "success",
)  # fmt: skip
FACTS = ("cost", "bytes", "messages", "llm_calls", "new_tokens", "carried_tokens", "cached_tokens")
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}  # of the savings of single tasks
EQUAL = 1e-9  # relative: two times nearer than this are one, but for rounding
GROWING = 0.2  # share of replications in which the number of tasks grows, from which a variant has not settled


class ComparisonInterrupted(CoordsimError):
    """The user stopped a comparison; `result` holds what was complete, None where the main comparison was not."""

    def __init__(self, result: ComparisonResult | None) -> None:
        self.result = result
        super().__init__("interrupted")


@dataclass(frozen=True, slots=True)
class PlannedSwitch:
    """A policy to switch: `alone` and `last` are keys of `Plan.variants`, None where `reasons` say why there is none."""

    policy: str
    baseline: str
    variant: str
    alone: str | None
    last: str | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point of the grid: values as text, and the keys of both variants there."""

    values: tuple[str, ...]
    baseline: str
    variant: str


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """What to run: `variants` by key, each run once however many comparisons it is in; the first two are the main ones."""

    scenario: str
    names: tuple[str, str]
    variants: dict[str, S]
    main: tuple[str, str]
    switches: tuple[PlannedSwitch, ...] | None = None
    factors: tuple[str, ...] = ()
    points: tuple[PlannedPoint, ...] = ()


def run_plan(
    simulate: Simulate[S],
    plan: Plan[S],
    *,
    seed: int,
    settings: Settings,
    tolerance: float = TOLERANCE,
    workers: int | Workers = 1,
    progress: Callable[[Progress], None] | None = None,
) -> ComparisonResult:
    """Run every replication of every variant, `workers` at a time, and compare.

    Of `settings` the number of replications (no 'auto'), warm-up and confidence count. No number depends on `workers`.
    Raises ComparisonInterrupted on a keyboard interrupt, after stopping the workers, and WorkerError when one dies.
    """
    count = settings.replications
    if count == "auto":
        raise ValueError("a comparison takes a number of replications, but got 'auto'")
    jobs = [(one, seed, number, "none") for one in plan.variants.values() for number in range(count)]
    keys, collected = list(plan.variants), _Collected(plan, settings, count, tolerance)
    tell = progress or (lambda _progress: None)
    tell(Progress(0, len(jobs)))
    try:
        with closing(run_jobs(simulate, jobs, workers)) as fresh:
            for done, result in enumerate(fresh):
                collected.add(keys[done // count], result)
                tell(Progress(done + 1, len(jobs)))
    except KeyboardInterrupt:
        raise ComparisonInterrupted(collected.result(seed, interrupted=True)) from None
    found = collected.result(seed)
    assert found is not None, "all variants have run"
    return found


_Slot = tuple[str, int]  # ("main" | "alone" | "last" | "point", number)


class _Collected:
    """Results as they come. A pair of variants is compared once both are complete; results no pair needs are dropped."""

    def __init__(self, plan: Plan[Any], settings: Settings, count: int, tolerance: float) -> None:
        self.plan, self.settings, self.count, self.tolerance = plan, settings, count, tolerance
        self.runs: dict[str, list[Result]] = {}
        self.savings: dict[_Slot, Saving] = {}
        self.details: tuple[tuple[Metric, ...], tuple[Part, ...], ByTask, tuple[str, ...]] | None = None
        self.starts: list[float] = []
        self.each = bonferroni(settings.confidence, max(1, len(plan.points)))
        self.pairs: dict[_Slot, tuple[str, str]] = {("main", 0): plan.main}
        for number, switch in enumerate(plan.switches or ()):
            if switch.alone is not None:
                self.pairs["alone", number] = (plan.main[0], switch.alone)
            if switch.last is not None:
                self.pairs["last", number] = (switch.last, plan.main[1])
        for number, point in enumerate(plan.points):
            self.pairs["point", number] = (point.baseline, point.variant)

    def add(self, key: str, result: Result) -> None:
        """Take a result; compare what is complete with it."""
        runs = self.runs.setdefault(key, [])
        runs.append(result)
        if len(runs) < self.count:
            return
        ready = [slot for slot, pair in self.pairs.items() if all(self._complete(one) for one in pair)]
        for slot in ready:  # the main pair first, since its warm-up holds for the policies
            self._compare(slot, *self.pairs.pop(slot))
        wanted = {one for pair in self.pairs.values() for one in pair}
        self.runs = {name: kept for name, kept in self.runs.items() if name in wanted or not self._complete(name)}

    def _complete(self, key: str) -> bool:
        return len(self.runs.get(key, ())) == self.count

    def _compare(self, slot: _Slot, baseline: str, variant: str) -> None:
        kind, confidence = slot[0], self.settings.confidence
        before, after = self.runs[baseline], self.runs[variant]
        same = self.starts if kind in ("alone", "last") else None
        a, b = align(before, after, self.settings.warmup, same)
        by = Estimator(self.each if kind == "point" else confidence)
        self.savings[slot] = saving(a, b, by, self.tolerance)
        if kind == "main":
            self.starts = [run.start for run in a]
            doubts = tuple(widest(doubt for run in (*before, *after) for doubt in run.doubts))
            self.details = (metrics(a, b, by), categories(a, b, by), by_task(a, b, by), doubts)

    def result(self, seed: int, interrupted: bool = False) -> ComparisonResult | None:
        """Return what was compared; None before the main pair was."""
        if self.details is None:
            return None
        table, parts, tasks, doubts = self.details
        return ComparisonResult(
            scenario=self.plan.scenario,
            baseline=self.plan.names[0],
            variant=self.plan.names[1],
            seed=seed,
            replications=self.count,
            confidence=self.settings.confidence,
            tolerance=self.tolerance,
            saving=self.savings["main", 0],
            metrics=table,
            categories=parts,
            tasks=tasks,
            ablation=self._ablation(),
            region=self._region(),
            doubts=doubts,
            interrupted=interrupted,
        )

    def _ablation(self) -> Ablation | None:
        if self.plan.switches is None:
            return None
        switches = [
            Switch(
                one.policy,
                one.baseline,
                one.variant,
                self.savings.get(("alone", number)),
                self.savings.get(("last", number)),
                one.reasons,
            )
            for number, one in enumerate(self.plan.switches)
        ]
        alone = [np.array(one.alone.samples) for one in switches if one.alone is not None]
        added = np.sum(alone, axis=0) if alone else np.zeros(self.count)
        whole = np.array(self.savings["main", 0].samples)
        by = self.settings.confidence
        return Ablation(tuple(switches), _over(added, by), _over(whole - added, by))

    def _region(self) -> Region | None:
        if not self.plan.points:
            return None
        points = tuple(
            Point(one.values, self.savings["point", number])
            for number, one in enumerate(self.plan.points)
            if ("point", number) in self.savings
        )
        return Region(self.plan.factors, points, len(self.plan.points), self.each)


# ---------------------------------------------------------------------------------------------------------------------
# Two lists of results, one per replication


def align(
    baseline: Sequence[Result], variant: Sequence[Result], warmup: Cut, starts: Sequence[float] | None = None
) -> tuple[list[Result], list[Result]]:
    """Return views of both that begin at one time in each replication: the later end of warm-up, or `starts` (s)."""
    if starts is None:
        cuts = zip(cut_warmup(baseline, warmup)[1], cut_warmup(variant, warmup)[1], strict=True)
        starts = [max(one.start, other.start) for one, other in cuts]
    views = [
        [run.after(start) if start > run.start else run for run, start in zip(runs, starts, strict=True)]
        for runs in (baseline, variant)
    ]
    return views[0], views[1]


def saving(a: Sequence[Result], b: Sequence[Result], by: Estimator, tolerance: float) -> Saving:
    """Return what `b` saves against `a`, of mean T_total of the tasks done."""
    before, after = (by.mean([run.response_times for run in runs]) for runs in (a, b))
    x, y = np.array(before.samples), np.array(after.samples)
    seconds = _over(x - y, by.confidence)
    share = _relative(x, y, by.confidence)
    found = verdict(seconds, share, tolerance)
    needed = _needed(x, y, by.confidence, tolerance) if found == "not resolved" else None
    return Saving(
        before.estimate,
        after.estimate,
        seconds,
        share,
        found,
        needed,
        tuple((x - y).tolist()),
        (_unsettled(a), _unsettled(b)),
    )


def verdict(seconds: Estimate, share: Estimate, tolerance: float) -> Verdict:
    """Return what a saving amounts to; of a baseline that takes no time there is no share, and the seconds decide."""
    judged = share if not math.isnan(share.value) else seconds
    if not judged.resolved:
        return "not resolved"
    limit = tolerance if judged is share else 0.0
    if -limit <= judged.low and judged.high <= limit:
        return "none"
    return "saves" if judged.low > 0 else "costs" if judged.high < 0 else "not resolved"


def metrics(a: Sequence[Result], b: Sequence[Result], by: Estimator) -> tuple[Metric, ...]:
    """Return the metrics of the table under both."""
    both = [measure.headline(runs, by, ()) | measure.facts(runs, by) for runs in (a, b)]
    names = [name for name in (*METRICS, *FACTS) if all(name in one for one in both)]
    found = {name: _metric(name, both[0][name], both[1][name], by.confidence) for name in names}
    adjusted = holm({name: one.p_value for name, one in found.items()})
    return tuple(
        Metric(name, one.baseline, one.variant, one.difference, one.ratio, adjusted[name])
        for name, one in found.items()
    )


def _metric(name: str, before: Measured, after: Measured, confidence: float) -> Metric:
    x, y = np.array(before.samples), np.array(after.samples)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        nothing = no_estimate(confidence)
        return Metric(name, before.estimate, after.estimate, nothing, nothing, 1.0)
    found = paired_difference(x[known], y[known], confidence)
    return Metric(name, before.estimate, after.estimate, found.difference, found.ratio, found.p_value)


def categories(a: Sequence[Result], b: Sequence[Result], by: Estimator) -> tuple[Part, ...]:
    """Return the saving in every category; their seconds sum to the saving of T_total."""
    totals = [np.array(by.mean([run.response_times for run in runs]).samples) for runs in (a, b)]
    saved = totals[0] - totals[1]
    parts = []
    for name in CATEGORIES:
        before, after = (by.mean([run.category(name) for run in runs]) for runs in (a, b))
        here = np.array(before.samples) - np.array(after.samples)
        parts.append(
            Part(name, before.estimate, after.estimate, _over(here, by.confidence), _part(here, saved, by.confidence))
        )
    return tuple(parts)


def _part(here: Array, whole: Array, confidence: float) -> Estimate:
    """Return the share of a category in the whole saving; there is none where nothing is saved."""
    known = np.isfinite(whole) & np.isfinite(here)
    if not known.any() or not whole[known].mean():
        return no_estimate(confidence, "nothing saved")
    return paired_difference(whole[known], here[known], confidence).ratio


def by_task(a: Sequence[Result], b: Sequence[Result], by: Estimator) -> ByTask:
    """Pair the tasks that were done under both."""
    saved: list[Array] = []
    slower: list[Array] = []
    only = [0, 0]
    for one, other in zip(a, b, strict=True):
        (left, before), (right, after) = (_times(run, max(one.stride, other.stride)) for run in (one, other))
        shared, at_left, at_right = np.intersect1d(left, right, assume_unique=True, return_indices=True)
        x, y = before[at_left], after[at_right]
        saved.append(x - y)
        slower.append((y - x > EQUAL * x).astype(float))
        only[0] += left.size - shared.size
        only[1] += right.size - shared.size
    quantiles = {name: by.quantile(saved, q).estimate for name, q in QUANTILES.items()}
    both = sum(one.size for one in saved)
    late = by.share(slower).estimate if both else no_estimate(by.confidence)
    return ByTask(both, only[0], only[1], late, quantiles)


def _times(run: Result, stride: int) -> tuple[Array, Array]:
    """Return the numbers and T_total of the tasks done, of every `stride`-th."""
    numbers = run.tasks[run.done, TASK]
    kept = numbers % stride == 0
    return numbers[kept], run.response_times[kept]


def _over(samples: Array, confidence: float) -> Estimate:
    """Return the mean over replications, of those that observed anything."""
    known = samples[np.isfinite(samples)]
    return mean_interval(known, confidence, "paired t") if known.size else no_estimate(confidence)


def _relative(x: Array, y: Array, confidence: float) -> Estimate:
    """Return 1 - mean(y) / mean(x)."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return no_estimate(confidence)
    ratio = paired_difference(x[known], y[known], confidence).ratio
    return Estimate(1 - ratio.value, 1 - ratio.high, 1 - ratio.low, confidence, ratio.n, ratio.method)


def _needed(x: Array, y: Array, confidence: float, tolerance: float) -> int | None:
    """Return how many replications bring the interval to one side of 0 or within the tolerance, whichever is sooner."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any() or not x[known].mean():
        return None
    relative = (x[known] - y[known]) / x[known].mean()
    if relative.size < LEAST:
        return LEAST
    value = abs(float(relative.mean()))
    # With a mean of 1, the relative error is the half-width itself.
    reached: int = replications_needed(relative - relative.mean() + 1, max(value, tolerance - value), confidence)
    return max(reached, len(relative) + 1)


def _unsettled(runs: Sequence[Result]) -> bool:
    return sum(stability(run) == "grows" for run in runs) > GROWING * len(runs)
