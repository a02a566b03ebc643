"""What one list of results, one per replication, saves against another: of a metric, by category, and task by task.

A saving is better than none: baseline minus variant, and for what there should be more of (success, rates) variant minus baseline.

Leaves out: which runs are compared (`compare`); verdicts are explained in `comparison`.
Checked: tests/test_compare.py, tests/test_compare_files.py.
Source: common random numbers and the paired t are Law, Simulation Modeling and Analysis, 5th ed., 10.2.1 and 11.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..engine.ledger import CATEGORIES
from . import measure
from .comparison import ByTask, Metric, Part, Saving, Verdict
from .contrast import Contrast, Counts, as_seen, needed, share_difference, share_p_value, times, unrounded
from .estimator import Estimator, Measured
from .replicate import LEAST
from .result import TASK, Result
from .slo import AT_LEAST, Objective, full_name, parse_metric
from .statistics import Array, Estimate, holm, no_estimate
from .summarize import Cut, cut_warmup, stability

TOLERANCE = 0.02
METRICS = (
    "response_time_mean", "response_time_p50", "response_time_p95", "response_time_p99", "coordination_mean",
    "throughput", "goodput", "success",
)  # fmt: skip
FACTS = ("cost", "bytes", "messages", "llm_calls", "new_tokens", "carried_tokens", "cached_tokens")
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}  # of the savings of single tasks
EQUAL = 1e-9  # relative: two times nearer than this are one, but for rounding
GROWING = 0.2  # share of replications in which the number of tasks grows, from which a variant has not settled
_NEVER_ZERO = ("ttft", "ttfa")  # where they are, no model tells them: nothing was observed
_SHARES = ("success", "attainment")  # of the tasks that ended


def more_is_better(metric: str) -> bool:
    """Whether there should be more of a metric. Raises ValueError where the name is none of a metric."""
    return parse_metric(metric).quantity in AT_LEAST


@dataclass(frozen=True, slots=True)
class Pair:
    """Results of both, in view from one time on in each replication, and how they are compared."""

    a: list[Result]
    b: list[Result]
    confidence: float
    paired: bool = True
    objectives: tuple[Objective, ...] = ()

    @property
    def by(self) -> Estimator:
        """Estimates each."""
        return Estimator(self.confidence)

    @property
    def contrast(self) -> Contrast:
        """Compares both."""
        return Contrast(self.confidence, self.paired)

    @property
    def same(self) -> bool:
        """Whether all tasks went the same way, to the last digit."""
        return self.paired and all(
            np.array_equal(one.tasks, other.tasks, equal_nan=True) for one, other in zip(self.a, self.b, strict=True)
        )

    def measure(self, name: str) -> tuple[Measured, Measured]:
        """Return a metric of both, by its full name."""
        first, second = (_measured(runs, self.by, name, self.objectives) for runs in (self.a, self.b))
        return first, second

    def samples(self, before: Measured, after: Measured, whole: Measured | None = None) -> tuple[Array, Array]:
        """Return the numbers of both, without differences that are left of sums in another order; `whole` is what they are parts of."""
        x, y = np.array(before.samples), np.array(after.samples)
        return (x, unrounded(x, y, x if whole is None else np.array(whole.samples))) if self.paired else (x, y)

    def counts(self, before: Measured, after: Measured) -> tuple[Counts, Counts] | None:
        """Return shares of tasks as counts where so few are on one side that their spread says little."""
        if self.same or len(self.a) < 2:
            return None
        found = [_counts(one, runs) for one, runs in ((before, self.a), (after, self.b))]
        told = found[0].few or found[1].few
        return (found[0], found[1]) if told and all(one.trials.sum() for one in found) else None


def _counts(one: Measured, runs: Sequence[Result]) -> Counts:
    trials = np.array([float(np.count_nonzero(run.finished)) for run in runs])
    shares = np.nan_to_num(np.array(one.samples))
    return Counts(np.clip(np.round(shares * trials), 0, trials), trials)


def _measured(runs: Sequence[Result], by: Estimator, name: str, objectives: Sequence[Objective]) -> Measured:
    """Return a metric by its full name; a first token that no model tells was not observed."""
    wanted = parse_metric(name)
    if wanted.statistic == "rate":
        asked = () if name in {one.metric for one in objectives} else (Objective(name, 0.0, ">="),)
        return measure.metric(runs, by, name, measure.headline(runs, by, (*objectives, *asked)))
    found = measure.metric(runs, by, name, {})
    if wanted.quantity in _NEVER_ZERO and not any(found.samples):
        return replace(found, estimate=no_estimate(by.confidence), samples=(math.nan,) * len(runs))
    return found


def align(
    baseline: Sequence[Result], variant: Sequence[Result], warmup: Cut, starts: Sequence[float] | None = None
) -> tuple[list[Result], list[Result]]:
    """Return views of both that begin at one time in each replication: the later end of warm-up, or `starts` (s).

    They are of the same tasks; where those differ, one time means nothing, and each has its own warm-up (`cut_warmup`).
    """
    if starts is None:
        cuts = zip(cut_warmup(baseline, warmup)[1], cut_warmup(variant, warmup)[1], strict=True)
        starts = [max(one.start, other.start) for one, other in cuts]
    views = [
        [run.after(start) if start > run.start else run for run, start in zip(runs, starts, strict=True)]
        for runs in (baseline, variant)
    ]
    return views[0], views[1]


def saving(pair: Pair, metric: str, tolerance: float) -> Saving:
    """Return what the variant saves of a metric (its full name), or gains where more is better."""
    before, after = pair.measure(metric)
    x, y = pair.samples(before, after)
    sign = -1.0 if more_is_better(metric) else 1.0
    counts = pair.counts(before, after) if metric in _SHARES else None
    if counts is None:
        amount = times(pair.contrast.difference(x, y), sign)
        share = _relative(pair.contrast.ratio(x, y), sign)
    else:
        amount = times(share_difference(*counts, pair.confidence), sign)
        share = _of(amount, before.estimate.value)
    found = verdict(amount, share, tolerance)
    total = seen = None
    if found == "not resolved":
        has_share = not math.isnan(share.value)
        judged, degrees = share if has_share else amount, pair.contrast.degrees(x, y)
        total = _in_all(needed(judged, degrees, tolerance if has_share else 0.0), judged.n, len(pair.a))
        seen = _in_all(as_seen(judged, degrees), judged.n, len(pair.a)) if len(pair.a) >= LEAST else None
    return Saving(
        baseline=before.estimate,
        variant=after.estimate,
        amount=amount,
        share=share,
        verdict=found,
        needed=total,
        more=None if total is None else total - len(pair.a),
        as_seen=seen,
        samples=tuple((sign * (x - y) + 0.0).tolist()),
        unsettled=(_unsettled(pair.a), _unsettled(pair.b)),
    )


def _in_all(observed: int | None, seen: int, run: int) -> int | None:
    """Return how many replications it takes to observe the metric in so many, when it was `seen` in that share of those `run`."""
    if observed is None or not seen:
        return None
    return max(run + 1, math.ceil(observed * run / seen))


def _relative(ratio: Estimate, sign: float) -> Estimate:
    """Return sign * (1 - ratio)."""
    return times(replace(ratio, value=1 - ratio.value, low=1 - ratio.high, high=1 - ratio.low), sign)


def verdict(amount: Estimate, share: Estimate, tolerance: float) -> Verdict:
    """Return what a saving amounts to; of a baseline of 0 there is no share, and the amount decides."""
    judged = share if not math.isnan(share.value) else amount
    if not judged.resolved:
        return "not resolved"
    limit = tolerance if judged is share else 0.0
    if -limit <= judged.low and judged.high <= limit:
        return "none"
    return "saves" if judged.low > 0 else "costs" if judged.high < 0 else "not resolved"


def tables(pair: Pair, metric: str) -> tuple[tuple[Metric, ...], tuple[Part, ...], Part]:
    """Return the metrics under both, the saving by category, and that of T_total; p-values are Holm's, over the first two.

    `metric` is in the table too, where it is another; declared beforehand, it is one test, and keeps its own p-value. The seconds by
    category sum to the saving of mean T_total.
    """
    both = [
        measure.headline(runs, pair.by, pair.objectives) | measure.facts(runs, pair.by) for runs in (pair.a, pair.b)
    ]
    names = [name for name in (*METRICS, *FACTS) if all(name in one for one in both)]
    rows = {name: _metric(pair, name, both[0][name], both[1][name]) for name in names}
    asked = metric.removesuffix("_mean") if metric.removesuffix("_mean") in rows else metric
    if asked not in rows:
        rows[asked] = _metric(pair, asked, *pair.measure(metric))
    totals = [pair.by.mean([run.response_times for run in runs]) for runs in (pair.a, pair.b)]
    parts = {
        name: _part(
            pair, name, [pair.by.mean([run.category(name) for run in runs]) for runs in (pair.a, pair.b)], totals
        )
        for name in CATEGORIES
    }
    total = _part(pair, "T_total", totals, totals)
    p_values = {name: one.p_value for name, one in rows.items() if name != asked}
    p_values |= {f"{name} ": one.p_value for name, one in parts.items() if one.baseline.value or one.variant.value}
    adjusted = {asked: rows[asked].p_value, **holm(p_values)}
    return (
        tuple(replace(one, p_value=adjusted[name]) for name, one in rows.items()),
        tuple(replace(one, p_value=adjusted.get(f"{name} ", 1.0)) for name, one in parts.items()),
        total,
    )


def _metric(pair: Pair, name: str, before: Measured, after: Measured) -> Metric:
    x, y = pair.samples(before, after)
    counts = pair.counts(before, after) if name in _SHARES else None
    if counts is None:
        difference, p_value = times(pair.contrast.difference(x, y), -1.0), pair.contrast.p_value(x, y)
        ratio = pair.contrast.ratio(x, y)
    else:
        difference, p_value = times(share_difference(*counts, pair.confidence), -1.0), share_p_value(*counts)
        ratio = _plus_one(_of(difference, before.estimate.value))
    return Metric(name, before.estimate, after.estimate, difference, ratio, p_value)


def _plus_one(one: Estimate) -> Estimate:
    return replace(one, value=1 + one.value, low=1 + one.low, high=1 + one.high)


def _of(difference: Estimate, base: float) -> Estimate:
    """Return a difference as a share of what is taken for known."""
    return times(difference, 1 / base) if base else no_estimate(difference.confidence)


def _part(pair: Pair, name: str, both: Sequence[Measured], totals: Sequence[Measured]) -> Part:
    """Return a category; of nothing saved in the whole it has no share, nor of two that are not paired."""
    before, after = both
    x, y = pair.samples(before, after, totals[0])
    whole = np.subtract(*pair.samples(*totals))
    known = np.isfinite(whole) & np.isfinite(x - y)
    share = no_estimate(pair.confidence, "nothing saved")
    if pair.paired and known.any() and whole[known].mean():
        share = Contrast(pair.confidence).ratio(whole, x - y)
    difference = pair.contrast.difference(x, y)
    return Part(name, before.estimate, after.estimate, difference, share, pair.contrast.p_value(x, y))


def by_task(pair: Pair) -> ByTask:
    """Pair the tasks that were done under both."""
    saved: list[Array] = []
    slower: list[Array] = []
    only = [0, 0]
    for one, other in zip(pair.a, pair.b, strict=True):
        (left, before), (right, after) = (_times(run, max(one.stride, other.stride)) for run in (one, other))
        shared, at_left, at_right = np.intersect1d(left, right, assume_unique=True, return_indices=True)
        x, y = before[at_left], after[at_right]
        saved.append(x - y)
        slower.append((y - x > EQUAL * x).astype(float))
        only[0] += left.size - shared.size
        only[1] += right.size - shared.size
    quantiles = {name: pair.by.quantile(saved, q).estimate for name, q in QUANTILES.items()}
    both = sum(one.size for one in saved)
    late = pair.by.share(slower).estimate if both else no_estimate(pair.confidence)
    return ByTask(both, only[0], only[1], late, quantiles)


def _times(run: Result, stride: int) -> tuple[Array, Array]:
    """Return the numbers and T_total of the tasks done, of every `stride`-th."""
    numbers = run.tasks[run.done, TASK]
    kept = numbers % stride == 0
    return numbers[kept], run.response_times[kept]


def _unsettled(runs: Sequence[Result]) -> bool:
    return sum(stability(run) == "grows" for run in runs) > GROWING * len(runs)


def name_in_full(metric: str) -> str:
    """Return the full name of a metric. Raises ValueError where it is none."""
    more_is_better(metric)
    return full_name(metric)
