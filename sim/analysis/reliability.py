"""Statistics of reliability: pass^k, a Beta law of success, availability, amplification, and success against steps.

Pure functions of arrays. Whether tasks influence each other is for the caller to know: `pass_at` lets the trials of
one problem go together but not the problems, `survival` takes groups, and the other intervals are for independent
tasks.

`survival` and `constant_hazard` want the number of steps a task was *to take*. A run often knows only how many it
*took*, which is fewer where it failed; then long tasks look surer than they are. For those there are `kaplan_meier`
and `stopped=True`.

Leaves out: covariates; hazards that change with time (`constant_hazard` tells that they do); errors that compound
across tasks.
Checked: tests/test_reliability.py, by the share of intervals that hold the truth, and on outcomes of tau-bench and
tau2-bench.
Source: pass^k: Yao et al., tau-bench, arXiv 2406.12045, section 3; unbiased as pass@k is in Chen et al., arXiv
2107.03374, eq. 1. Intervals of a mean share: Korn and Graubard, Survey Methodology 24 (1998); of Kaplan and Meier's
curve: Dorey and Korn, Statistics in Medicine 6 (1987). The Beta-binomial law: Skellam, JRSS B 10 (1948).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .estimator import Estimator
from .statistics import Array, Estimate, as_sample, check_share, no_estimate, pooled_proportion, student_t

FEWEST_EXPECTED = 5.0  # successes and failures that a cell of a chi-square test must expect (Cochran, 1954)
SIGNIFICANT = 0.01


# -- success in repeated trials


def pass_at(
    successes: npt.ArrayLike, trials: npt.ArrayLike, k: int, confidence: float = 0.95, name: str = "problems"
) -> Estimate:
    """Return pass^k: the chance that k trials of a problem, chosen at random, all succeed.

    `successes` and `trials` are whole numbers per problem, shape (problems,). The mean of C(c, k) / C(n, k) over the
    problems with at least k trials, which is unbiased, as c successes in n trials are. No such problem: no estimate.
    The interval is over problems: Clopper and Pearson's, with as many observations as the spread between problems is
    worth; never more than there are disjoint groups of k trials, so that it does not shrink to nothing when all
    problems come out alike.
    """
    hits, counts = _counts(successes, trials)
    if k != int(k) or k < 1:
        raise ValueError(f"k must be a whole number >= 1, got {k}")
    enough = counts >= k
    hits, counts = hits[enough], counts[enough]
    method = f"Korn and Graubard over {name}"
    if not hits.size:
        return no_estimate(confidence, f"no problem has {k} trials")
    each = np.ones(hits.size)
    for i in range(int(k)):
        each *= np.maximum(hits - i, 0) / (counts - i)
    value, n = float(each.mean()), each.size
    if n == 1:
        return Estimate(value, 0.0, 1.0, confidence, 1, method)
    most = float((counts // k).sum())
    squared_error = float(each.var(ddof=1)) / n
    worth = min(value * (1 - value) / squared_error, most) if squared_error > 0 else most
    low, high = _clopper_pearson(value, worth, confidence, n - 1)
    return Estimate(value, low, high, confidence, n, method)


def _counts(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Array, Array]:
    hits, counts = as_sample(successes, 0, "successes"), as_sample(trials, 0, "trials")
    if hits.shape != counts.shape:
        raise ValueError(f"successes and trials must pair up, got {hits.size} and {counts.size}")
    wrong = np.flatnonzero((hits < 0) | (hits > counts) | (hits % 1 != 0) | (counts % 1 != 0))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(f"whole 0 <= successes <= trials must hold, got {hits[i]:g} of {counts[i]:g} at {i}")
    return hits, counts


def _clopper_pearson(share: float, worth: float, confidence: float, degrees: float = math.inf) -> tuple[float, float]:
    """Return the interval of a share that is worth `worth` independent observations, its error known on `degrees`."""
    from scipy.special import betaincinv

    check_share("confidence", confidence)
    worth *= (student_t(confidence, math.inf) / student_t(confidence, degrees)) ** 2
    tail, hits = (1 - confidence) / 2, share * worth
    low = float(betaincinv(hits, worth - hits + 1, tail)) if share > 0 else 0.0
    return low, float(betaincinv(hits + 1, worth - hits, 1 - tail)) if share < 1 else 1.0


@dataclass(frozen=True, slots=True)
class BetaSuccess:
    """Each problem has a chance of success of its own, from a Beta law of mean `mean`; its trials are independent.

    `correlation` is that of two trials of one problem, 1 / (a + b + 1): 0 when all problems are alike and trials
    independent, 1 when a problem succeeds always or never. Both ends are allowed.
    """

    mean: float
    correlation: float

    def __post_init__(self) -> None:
        for name, value in (("mean", self.mean), ("correlation", self.correlation)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")

    @classmethod
    def of(cls, a: float, b: float) -> BetaSuccess:
        """Return the law with the usual parameters, both > 0."""
        if not (0 < a < math.inf and 0 < b < math.inf):
            raise ValueError(f"a and b must be finite and > 0, got {a=}, {b=}")
        return cls(a / (a + b), 1 / (a + b + 1))

    @classmethod
    def fit(cls, pass1: float, pass2: float) -> BetaSuccess:
        """Return the law with this pass^1 and pass^2, both shares (method of moments).

        pass^2 = pass^1 squared gives independence, pass^2 = pass^1 all or nothing, and a pass^1 of 0 or 1 a constant.
        Raises ValueError when no law of success has them: pass^2 is at least pass^1 squared, since the variance
        between problems is not negative.
        """
        if not 0 <= pass1 <= 1:
            raise ValueError(f"pass^1 must be a share from 0 to 1, got {pass1}")
        independent, rounding = pass1 * pass1, 1e-12
        if not independent - rounding <= pass2 <= pass1 + rounding:
            raise ValueError(
                f"pass^2 must be from pass^1 squared = {independent:.6g} (independent trials) to pass^1 = {pass1:.6g} "
                f"(a problem succeeds always or never), got {pass2:.6g}"
            )
        spread = pass1 - independent
        return cls(pass1, min(max((pass2 - independent) / spread, 0.0), 1.0) if spread > rounding else 0.0)

    @property
    def concentration(self) -> float:
        """The sum a + b: infinite for independent trials, 0 for all or nothing."""
        return (1 - self.correlation) / self.correlation if self.correlation else math.inf

    @property
    def a(self) -> float:
        """The first parameter of the Beta law."""
        return self.mean * self.concentration if self.mean else 0.0

    @property
    def b(self) -> float:
        """The second parameter of the Beta law."""
        return (1 - self.mean) * self.concentration if self.mean < 1 else 0.0

    def pass_at(self, k: int) -> float:
        """Return the chance that k trials of a problem all succeed: the product of (a + i) / (a + b + i) over i < k."""
        if k != int(k) or k < 1:
            raise ValueError(f"k must be a whole number >= 1, got {k}")
        # Numerator and denominator times the correlation, so that both ends need no limit.
        m, r = self.mean, self.correlation
        return m * math.prod((m * (1 - r) + i * r) / (1 - r + i * r) for i in range(1, int(k)))


# -- shares and ratios over replications


def availability(
    down_seconds: npt.ArrayLike, seconds: npt.ArrayLike, replicas: int = 1, confidence: float = 0.95
) -> Estimate:
    """Return the share of time in which a component answers: 1 - down / (seconds * replicas), over replications.

    `down_seconds` are summed over the replicas, per replication; `seconds` is the length of each, or of all.
    Student's interval, cut at 0 and 1. When none was ever down the lower end is not known: an outage may be rarer
    than the run is long.
    """
    down = as_sample(np.atleast_1d(down_seconds), name="down_seconds")
    length = np.broadcast_to(np.asarray(seconds, dtype=np.float64), down.shape)
    if replicas < 1 or not bool(np.all(length > 0)):
        raise ValueError(f"replicas must be >= 1 and seconds > 0, got {replicas} and {length.tolist()}")
    most = length * replicas
    if bool(np.any((down < 0) | (down > most * (1 + 1e-9)))):
        raise ValueError(f"0 <= down_seconds <= seconds * replicas must hold, got {down.tolist()} of {most.tolist()}")
    found = Estimator(confidence).ratio([np.array([x]) for x in most - down], [np.array([x]) for x in most]).estimate
    if not down.any():
        return Estimate(1.0, -math.inf, 1.0, confidence, down.size, "never down: its availability has no lower end")
    low, high = max(found.low, 0.0) if down.size > 1 else -math.inf, min(found.high, 1.0)
    return Estimate(min(max(found.value, 0.0), 1.0), low, high, confidence, down.size, found.method)


def amplification(attempts: npt.ArrayLike, calls: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return attempts per call, both counted per replication: 1 without retries. Also for any other ratio of totals.

    The mean of the replications' ratios with Student's interval; replications without a call are left out.
    """
    made, asked = as_sample(np.atleast_1d(attempts), 0, "attempts"), as_sample(np.atleast_1d(calls), 0, "calls")
    if made.shape != asked.shape or bool(np.any((made < 0) | (asked < 0))):
        raise ValueError(f"attempts and calls must pair up and be >= 0, got {made.tolist()} and {asked.tolist()}")
    some = asked > 0
    if not some.any():
        return no_estimate(confidence)
    pairs = [np.array([x]) for x in made[some]], [np.array([x]) for x in asked[some]]
    return Estimator(confidence).ratio(*pairs).estimate


def rate_series(times: npt.ArrayLike, edges: npt.ArrayLike, stride: int = 1) -> Array:
    """Return events per second in each window between `edges` (s, rising); every event stands for `stride` of them."""
    when = as_sample(times, 0, "times")
    grid = as_sample(edges, 2, "edges")
    if bool(np.any(np.diff(grid) <= 0)):
        raise ValueError("edges must rise")
    rates: Array = stride * np.histogram(when, grid)[0] / np.diff(grid)
    return rates


# -- success against the number of steps


@dataclass(frozen=True, slots=True)
class Bin:
    """Tasks of `low` to `high` steps (both included; as seen), of `steps` on average, and the share that succeeded."""

    low: float
    high: float
    steps: float
    success: Estimate


def survival(
    steps: npt.ArrayLike,
    succeeded: npt.ArrayLike,
    edges: npt.ArrayLike,
    confidence: float = 0.95,
    groups: npt.ArrayLike | None = None,
) -> tuple[Bin, ...]:
    """Return success by number of steps the tasks were to take, with Wilson's interval; empty bins are left out.

    `steps` and `succeeded` (0 or 1) are per task; bins are from each of `edges` to below the next, the last one
    included. `groups` are the replications the tasks are of, when those of one may go together: they are then counted
    for fewer (`pooled_proportion`).
    """
    taken, won = _pairs(steps, succeeded)
    grid = as_sample(edges, 2, "edges")
    if bool(np.any(np.diff(grid) <= 0)):
        raise ValueError(f"edges must rise, got {grid.tolist()}")
    group = np.zeros(taken.size) if groups is None else np.asarray(groups)
    if group.shape != taken.shape:
        raise ValueError(f"groups must pair up with steps, got {group.size} and {taken.size}")
    place = np.searchsorted(grid, taken, side="right") - 1
    place[taken == grid[-1]] = grid.size - 2
    bins = []
    for i in range(grid.size - 1):
        mine = place == i
        if mine.any():
            _, index = np.unique(group[mine], return_inverse=True)
            hits, counts = np.bincount(index, won[mine]), np.bincount(index)
            mean = float(taken[mine].mean())
            share = pooled_proportion(hits, counts, confidence)
            bins.append(Bin(float(taken[mine].min()), float(taken[mine].max()), mean, share))
    return tuple(bins)


def _pairs(steps: npt.ArrayLike, succeeded: npt.ArrayLike) -> tuple[Array, Array]:
    taken = as_sample(steps, name="steps")
    won = as_sample(np.asarray(succeeded, dtype=np.float64), name="succeeded")
    if taken.shape != won.shape:
        raise ValueError(f"steps and succeeded must pair up, got {taken.size} and {won.size}")
    if bool(np.any((won != 0) & (won != 1))) or bool(np.any((taken < 1) | (taken % 1 != 0))):
        raise ValueError("steps must be whole numbers >= 1, and succeeded 0 or 1")
    return taken, won


@dataclass(frozen=True, slots=True)
class Survived:
    """The chance to get through the first `steps` steps; `at_risk` tasks began the last of them."""

    steps: int
    at_risk: int
    success: Estimate


def kaplan_meier(steps: npt.ArrayLike, succeeded: npt.ArrayLike, confidence: float = 0.95) -> tuple[Survived, ...]:
    """Return the chance to get through n steps, at each n at which a task ended.

    `steps` are those a task took: it failed in the last of them, or succeeded after it and tells nothing about later
    ones. Right when a task's planned length has nothing to do with its chance to fail in a step. The interval is
    Clopper and Pearson's with as many tasks as Greenwood's variance is worth.
    """
    taken, won = _pairs(steps, succeeded)
    ends, index = np.unique(taken, return_inverse=True)
    died = np.bincount(index, 1 - won, ends.size)
    at_risk = taken.size - np.searchsorted(np.sort(taken), ends, side="left")
    curve, relative, found = 1.0, 0.0, []
    for n, lost, risk in zip(ends.tolist(), died.tolist(), at_risk.tolist(), strict=True):
        curve *= 1 - lost / risk
        relative += lost / (risk * (risk - lost)) if lost < risk else 0.0
        inside = 0 < curve < 1
        worth = (1 - curve) / (curve * relative) if inside else float(risk)
        ends_of = _clopper_pearson(curve, worth, confidence)
        method = "Kaplan-Meier, Dorey and Korn"
        found.append(Survived(int(n), int(risk), Estimate(curve, *ends_of, confidence, int(risk), method)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Cell:
    """Tasks of `low` to `high` steps (if `stopped`, steps number `low` to `high`): how many failed, and as expected."""

    low: int
    high: int
    trials: int
    failed: float
    expected: float


@dataclass(frozen=True, slots=True)
class ConstantHazard:
    """Success p^n of n steps: `per_step` is p, `half_life` the steps after which half have failed, -ln 2 / ln p.

    `p_value` is that of Pearson's chi-square over `cells`, nan with fewer than two. `misfit`: one p does not tell the
    whole story.
    """

    per_step: Estimate
    half_life: Estimate
    cells: tuple[Cell, ...]
    chi_square: float
    p_value: float

    @property
    def misfit(self) -> bool:
        """Whether a constant chance per step is refused at 1 %."""
        return self.p_value < SIGNIFICANT

    def success(self, steps: float) -> float:
        """Return the chance to get through `steps` steps."""
        return math.pow(self.per_step.value, steps)


def constant_hazard(
    steps: npt.ArrayLike, succeeded: npt.ArrayLike, confidence: float = 0.95, *, stopped: bool = False
) -> ConstantHazard:
    """Return the likeliest chance of success per step, if steps are independent and alike; likelihood interval.

    `steps` are those each task was to take; with `stopped` those it took, the last of which failed if the task did.
    """
    taken, won = _pairs(steps, succeeded)
    check_share("confidence", confidence)
    failed = taken[won == 0]
    if stopped:
        # Each failure is one step that failed, after steps that did not: a task of one step, failed.
        survived, lost = float(taken.sum() - failed.size), np.ones(failed.size)
    else:
        survived, lost = float(taken[won == 1].sum()), failed
    hazard, low, high = _hazard(survived, lost, student_t(confidence, math.inf) ** 2 / 2)
    method = "likelihood"
    per_step = Estimate(math.exp(-hazard), math.exp(-high), math.exp(-low), confidence, taken.size, method)
    ends = [math.log(2) / x if x else math.inf for x in (hazard, high, low)]
    half_life = Estimate(ends[0], ends[1], ends[2], confidence, taken.size, method)
    cells, chi_square = _fit_of(taken, won, per_step.value, stopped)
    return ConstantHazard(per_step, half_life, cells, chi_square, _tail(chi_square, len(cells) - 1))


def _hazard(survived: float, lost: Array, drop: float) -> tuple[float, float, float]:
    """Return the hazard per step with the greatest likelihood, and where that is `drop` below its greatest.

    `survived` is the sum of steps of tasks that did not fail, `lost` the steps of those that did.
    """
    from scipy.optimize import brentq

    lengths, times = np.unique(lost, return_counts=True)

    def likelihood(x: float) -> float:
        return -x * survived + float((times * np.log(-np.expm1(-lengths * x))).sum())

    def slope(x: float) -> float:
        return -survived + float((times * lengths / np.expm1(np.minimum(lengths * x, 700.0))).sum())

    if not lost.size:
        return 0.0, 0.0, drop / survived
    least, most = 1e-15, 1e3
    best = math.inf if not survived else float(brentq(slope, least, most, xtol=1e-15))
    peak = 0.0 if not survived else likelihood(best)

    def below(x: float) -> float:
        return likelihood(x) - peak + drop

    low = float(brentq(below, least, min(best, most), xtol=1e-15))
    return best, low, math.inf if not survived else float(brentq(below, best, most, xtol=1e-15))


def _fit_of(taken: Array, won: Array, p: float, stopped: bool) -> tuple[tuple[Cell, ...], float]:
    """Return cells of neighbours, each with enough failures and successes expected, and Pearson's chi-square."""
    if stopped:
        steps = np.arange(1, int(taken.max()) + 1, dtype=np.float64)
        trials = taken.size - np.searchsorted(np.sort(taken), steps, side="left").astype(np.float64)
        died = np.bincount(taken[won == 0].astype(int), minlength=steps.size + 1)[1:].astype(np.float64)
        chance = np.full(steps.size, 1 - p)
    else:
        steps, index = np.unique(taken, return_inverse=True)
        trials, died = np.bincount(index).astype(np.float64), np.bincount(index, 1 - won).astype(np.float64)
        chance = 1 - p**steps
    expected = trials * chance
    groups = _groups(expected, trials - expected)
    cells = tuple(
        Cell(
            int(steps[a]), int(steps[b - 1]), int(trials[a:b].sum()), float(died[a:b].sum()), float(expected[a:b].sum())
        )
        for a, b in groups
    )
    variances = [float((trials[a:b] * chance[a:b] * (1 - chance[a:b])).sum()) for a, b in groups]
    return cells, float(sum((c.failed - c.expected) ** 2 / v for c, v in zip(cells, variances, strict=True)))


def _groups(failures: Array, successes: Array, most: int = 10) -> list[tuple[int, int]]:
    """Return ranges of neighbours that expect enough of both, at most `most`: many small cells find no slow change."""
    groups, first, lost, kept = [], 0, 0.0, 0.0
    for i, (failure, success) in enumerate(zip(failures.tolist(), successes.tolist(), strict=True), 1):
        lost, kept = lost + failure, kept + success
        if min(lost, kept) >= FEWEST_EXPECTED:
            groups.append((first, i))
            first, lost, kept = i, 0.0, 0.0
    if not groups:
        return []
    groups[-1] = (groups[-1][0], failures.size)  # what is left over joins the last
    parts = np.array_split(np.arange(len(groups)), min(most, len(groups)))
    return [(groups[int(part[0])][0], groups[int(part[-1])][1]) for part in parts]


def _tail(chi_square: float, degrees: int) -> float:
    from scipy.special import chdtrc

    return float(chdtrc(degrees, chi_square)) if degrees > 0 else math.nan
