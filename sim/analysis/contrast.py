"""Two systems in numbers, one for each replication and system: how far their means are apart, and how many more would tell.

Paired, the systems met the same draws, and the spread of differences counts (Student); else they are independent, and each has its
own spread (Welch). A ratio has Fieller's interval. A share of which few are on one side has Newcombe's interval, since the spread of
counts that are nearly all alike says little.

How many replications: let sd be the spread of the relative difference in replications seen, with v degrees of freedom. Then
((t[v, 1 - a/2] + t[v, 1 - b/2]) sd / tolerance)^2 replications in all call a true difference of 0 `none`, and one of the tolerance
no chance, each with probability 1 - b at least; what lies between is told with little less (87 % for b = 10 %). The difference
seen does not enter: to plan by what chance has shown asks for too few where it has flattered.

Leaves out: sequential tests, which may be looked at after each replication.
Checked: tests/test_contrast.py, tests/test_compare_power.py.
Source: Welch (1947); Fieller (1954); Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10; two stages with Student's t in place
of the normal, Stein (1945); half of b for each side, Julious, Statistics in Medicine 23 (2004) 1921-1986.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .replicate import LEAST
from .statistics import Array, Estimate, mean_interval, no_estimate, paired_difference, pooled_proportion, student_t

POWER = 0.9
FEW = 10  # of successes or failures: below it the spread of counts is no basis (Brown, Cai and DasGupta, 2001)
ROUNDING = 1e-11  # relative: two numbers nearer than this are one, but for sums in another order
_STEPS = 50  # halvings of the interval of a p-value


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of how many, for each replication; shapes (replications,)."""

    hits: Array
    trials: Array

    @property
    def few(self) -> bool:
        """Whether the spread of these says too little."""
        hits, trials = float(self.hits.sum()), float(self.trials.sum())
        return self.hits.size > 1 and trials > 0 and min(hits, trials - hits) < FEW


@dataclass(frozen=True, slots=True)
class Contrast:
    """How to compare the means of two lists of numbers; a number that is not finite was not observed."""

    confidence: float = 0.95
    paired: bool = True

    def difference(self, x: Array, y: Array) -> Estimate:
        """Return mean(x) - mean(y)."""
        x, y = self._known(x, y)
        if not (x.size and y.size):
            return no_estimate(self.confidence)
        if self.paired:
            return mean_interval(x - y, self.confidence, "paired t")
        value, error, degrees = _apart(x, y)
        half = student_t(self.confidence, degrees) * error if degrees else math.inf
        return Estimate(value, value - half, value + half, self.confidence, min(x.size, y.size), "Welch")

    def ratio(self, x: Array, y: Array) -> Estimate:
        """Return mean(y) / mean(x)."""
        x, y = self._known(x, y)
        if not (x.size and y.size):
            return no_estimate(self.confidence)
        if self.paired:
            return paired_difference(x, y, self.confidence).ratio
        return _ratio(x, y, self.confidence)

    def p_value(self, x: Array, y: Array) -> float:
        """Return the two-sided p-value that the means are equal; 1 where nothing tells."""
        from scipy.special import stdtr

        x, y = self._known(x, y)
        if not (x.size and y.size):
            return 1.0
        if self.paired:
            return paired_difference(x, y, self.confidence).p_value
        value, error, degrees = _apart(x, y)
        if not degrees or not value:
            return 1.0
        return float(2 * stdtr(degrees, -abs(value) / error)) if error else 0.0

    def degrees(self, x: Array, y: Array) -> float:
        """Return the degrees of freedom of the spread; 0 where there is none."""
        x, y = self._known(x, y)
        return max(x.size - 1.0, 0.0) if self.paired else _apart(x, y)[2] if x.size and y.size else 0.0

    def _known(self, x: Array, y: Array) -> tuple[Array, Array]:
        kept = np.isfinite(x), np.isfinite(y)
        if self.paired:
            both = kept[0] & kept[1]
            return x[both], y[both]
        return x[kept[0]], y[kept[1]]


def _apart(x: Array, y: Array, ratio: float = 1.0) -> tuple[float, float, float]:
    """Return ratio * mean(x) - mean(y) of independent lists, its standard error, and Satterthwaite's degrees of freedom."""
    value = ratio * float(x.mean()) - float(y.mean())
    if min(x.size, y.size) < 2:
        return value, math.inf, 0.0
    parts = [ratio**2 * float(x.var(ddof=1)) / x.size, float(y.var(ddof=1)) / y.size]
    below = parts[0] ** 2 / (x.size - 1) + parts[1] ** 2 / (y.size - 1)
    degrees = sum(parts) ** 2 / below if below else float(x.size + y.size - 2)
    return value, math.sqrt(sum(parts)), degrees


def _ratio(x: Array, y: Array, confidence: float) -> Estimate:
    """Return mean(y) / mean(x) of independent lists, with Fieller's interval."""
    mean, n = float(x.mean()), min(x.size, y.size)
    ratio = float(y.mean()) / mean if mean else math.nan
    degrees = _apart(x, y, ratio)[2] if mean else 0.0
    unknown = Estimate(ratio, -math.inf, math.inf, confidence, n, "Fieller")
    if not degrees:
        return unknown
    reach = student_t(confidence, degrees)
    xx, yy = float(x.var(ddof=1)) / x.size / mean**2, float(y.var(ddof=1)) / y.size / mean**2
    g = reach**2 * xx
    if g >= 1:
        return unknown
    centre, half = ratio / (1 - g), reach * math.sqrt(max(yy * (1 - g) + ratio**2 * xx, 0.0)) / (1 - g)
    return Estimate(ratio, centre - half, centre + half, confidence, n, "Fieller")


def share_difference(x: Counts, y: Counts, confidence: float) -> Estimate:
    """Return the share of `x` minus that of `y`, by the ends of their Wilson intervals (Newcombe).

    It takes the two for independent, which is wide for pairs that met the same draws. Each must have a trial.
    """
    one, other = (pooled_proportion(counts.hits, counts.trials, confidence) for counts in (x, y))
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high, confidence, x.hits.size, "Newcombe")


def share_p_value(x: Counts, y: Counts) -> float:
    """Return the least 1 - confidence at which Newcombe's interval excludes 0."""
    low, high = 1e-12, 1.0 - 1e-12
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if share_difference(x, y, 1 - middle).excludes(0) else (middle, high)
    return high


def unrounded(x: Array, y: Array, whole: Array) -> Array:
    """Return `y`, with the number of `x` wherever the two differ by no more than rounding of what they are parts of, `whole`."""
    return np.where(np.abs(y - x) <= ROUNDING * np.abs(whole), x, y)


def times(one: Estimate, factor: float) -> Estimate:
    """Return an estimate in another unit, or turned round where the factor is below 0."""
    low, high = sorted((factor * one.low, factor * one.high))
    return replace(one, value=factor * one.value + 0.0, low=low + 0.0, high=high + 0.0)


def needed(judged: Estimate, degrees: float, tolerance: float) -> int | None:
    """Return how many replications in all would tell, from an interval that did not; None where nothing says.

    `judged` is the relative difference (a share), `degrees` the degrees of freedom behind it. Without a tolerance they are as many as
    find the difference seen.
    """
    if judged.n < LEAST:
        return LEAST
    if tolerance <= 0:
        return as_seen(judged, degrees)
    return _enough(judged, degrees, student_t(POWER, degrees) if degrees else 0.0, tolerance)


def as_seen(judged: Estimate, degrees: float) -> int | None:
    """Return how many replications in all would find the difference seen, were it the true one."""
    return _enough(judged, degrees, student_t(2 * POWER - 1, degrees) if degrees else 0.0, abs(judged.value))


def _enough(judged: Estimate, degrees: float, reach: float, size: float) -> int | None:
    if not (judged.resolved and degrees and size):
        return None
    least = student_t(judged.confidence, degrees)
    spread = judged.half_width * math.sqrt(judged.n) / least
    found = ((least + reach) * spread / size) ** 2
    return max(judged.n + 1, math.ceil(found)) if found < 1e9 else None
