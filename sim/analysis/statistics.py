"""Estimates with their intervals: means, shares, quantiles, paired differences, and how many replications are enough.

The observations must be independent: one number per replication, or tasks known not to influence each other.
Tasks of one run share queues and are not independent; for them there are `batches.py` and `pooled_proportion`.

Leaves out: bootstrap, Bayesian intervals, weights.
Checked: tests/test_statistics.py, by the share of intervals that hold the true value in hundreds of seeded experiments.
Source: Law, Simulation Modeling and Analysis, 5th ed., ch. 9 and 10; Wilson (1927); Fieller (1954); Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def certainty(confidence: float) -> str:
    """Return a confidence in percent, with two digits of what it leaves.

    >>> certainty(0.95), certainty(0.9998049), certainty(0.5)
    ('95 %', '99.98 %', '50 %')
    """
    left = 100 * (1 - confidence)
    places = max(0, 1 - math.floor(math.log10(left))) if left > 0 else 0
    text = f"{100 * confidence:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, the interval that holds the true one with `confidence`, and how many observations stand behind it.

    An end that the observations cannot bound is infinite; a value that nothing was observed for is nan.
    """

    value: float
    low: float
    high: float
    confidence: float
    n: int
    method: str

    @property
    def resolved(self) -> bool:
        """Whether there is a value and both ends of its interval are known."""
        return math.isfinite(self.value) and math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def half_width(self) -> float:
        """Half the length of the interval; infinite when an end is unknown."""
        return (self.high - self.low) / 2

    @property
    def relative_error(self) -> float:
        """The half-width as a share of the value: infinite for an uncertain zero, nan without a value."""
        if math.isnan(self.value):
            return math.nan
        if self.half_width == 0:
            return 0.0
        return self.half_width / abs(self.value) if self.value else math.inf

    @property
    def digits(self) -> int:
        """How many significant digits of the value the interval supports (1 to 6; 3 when it is not resolved)."""
        if not self.resolved or not self.value:
            return 3
        if self.half_width == 0:
            return 6
        # A half-width that begins with 1 gets a second digit: from 0.1 to 0.19 is a long way.
        finest = math.floor(math.log10(self.half_width / 2))
        return min(max(math.floor(math.log10(abs(self.value))) - finest + 1, 1), 6)

    def excludes(self, x: float) -> bool:
        """Return whether `x` lies outside the interval; never true without a value."""
        return not math.isnan(self.value) and (x < self.low or x > self.high)

    def format(self, formatter: Callable[[float], str] | None = None, counted: str = "observations") -> str:
        """Render value, interval and count, rounded to where the interval stops; `formatter` writes each number.

        >>> Estimate(4.1, 3.9, 4.3, 0.95, 30, "t").format(counted="replications")
        '4.1 ± 0.2 (95 %, 30 replications)'
        """
        write = self._writer(formatter)
        if math.isnan(self.value):
            return "no data"
        noun = counted.removesuffix("s") if self.n == 1 else counted
        sure = f"({certainty(self.confidence)}, {self.n} {noun})"
        if self.low == -math.inf and self.high == math.inf:
            return f"{write(self.value)} (no interval: {self.n} {noun})"
        if not self.resolved:
            bound = f"at most {write(self.high)}" if self.low == -math.inf else f"at least {write(self.low)}"
            return f"{write(self.value)}, {bound} {sure}"
        skew = abs((self.high - self.value) - (self.value - self.low))
        if skew > 0.02 * (self.high - self.low):
            return f"{write(self.value)} [{write(self.low)}, {write(self.high)}] {sure}"
        return f"{write(self.value)} ± {write(self.half_width)} {sure}"

    def _writer(self, formatter: Callable[[float], str] | None) -> Callable[[float], str]:
        """Return `formatter` (default: plain numbers) after rounding to the last place that `digits` leaves."""
        write = formatter or (lambda x: f"{x:.6g}")
        scale = abs(self.value) or (self.half_width if self.resolved else 0.0)
        if not (math.isfinite(scale) and scale):
            return write
        places = self.digits - 1 - math.floor(math.log10(scale))
        return lambda x: write(round(x, places))


def no_estimate(confidence: float = 0.95, method: str = "nothing observed") -> Estimate:
    """Return the estimate of a quantity that nothing was observed for."""
    return Estimate(math.nan, -math.inf, math.inf, confidence, 0, method)


def as_sample(values: npt.ArrayLike, least: int = 1, name: str = "values") -> Array:
    """Return `values` as a flat float array, or raise ValueError: empty, too few, not flat, NaN or infinite."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {sample.shape}")
    if sample.size < least:
        raise ValueError(f"{name} must hold at least {least}, got {sample.size}: {sample.tolist()}")
    bad = np.flatnonzero(~np.isfinite(sample))
    if bad.size:
        shown = ", ".join(f"{sample[i]} at {i}" for i in bad[:5])
        more = f" and {bad.size - 5} more" if bad.size > 5 else ""
        raise ValueError(f"{name} must be finite, got {shown}{more} (of {sample.size})")
    return sample


def check_share(name: str, share: float) -> None:
    """Raise ValueError unless 0 < share < 1."""
    if not 0 < share < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {share}")


@lru_cache(maxsize=4096)
def student_t(confidence: float, degrees: float) -> float:
    """Return how many standard errors a two-sided interval reaches; infinite `degrees` give the normal's."""
    from scipy.special import ndtri, stdtrit

    check_share("confidence", confidence)
    p = (1 + confidence) / 2
    return float(ndtri(p)) if math.isinf(degrees) else float(stdtrit(degrees, p))


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95, method: str = "t over replications") -> Estimate:
    """Return the mean with Student's t interval; one value gives the mean without an interval.

    `values` are independent and close to normal, as means (or quantiles) of whole replications are.
    """
    check_share("confidence", confidence)
    sample = as_sample(values)
    n, mean = sample.size, float(sample.mean())
    if n == 1:
        return Estimate(mean, -math.inf, math.inf, confidence, 1, method)
    half = student_t(confidence, n - 1) * float(sample.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, confidence, n, method)


def _wilson(share: float, trials: float, reach: float) -> tuple[float, float]:
    """Return Wilson's interval for a share seen in `trials` (may be fractional), `reach` standard errors wide."""
    spread = reach * reach / trials
    centre = (share + spread / 2) / (1 + spread)
    half = reach / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # At a share of 0 or 1 the end is exact; rounding must not push it off.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    return low, 1.0 if share == 1 else min(1.0, centre + half)


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Return the share of successes in independent trials with Wilson's interval; no trials give 0 to 1."""
    if not 0 <= successes <= trials:
        raise ValueError(f"0 <= successes <= trials must hold, got {successes=}, {trials=}")
    reach = student_t(confidence, math.inf)
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0, confidence, 0, "Wilson")
    share = successes / trials
    return Estimate(share, *_wilson(share, trials, reach), confidence, trials, "Wilson")


def pooled_proportion(successes: npt.ArrayLike, trials: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return a share over replications, counts per replication, where tasks of one replication go together.

    Wilson's interval with the tasks counted for fewer, as the spread between replications shows (design effect; Korn
    and Graubard, 1998). Unlike a t-interval over shares it does not shrink to nothing when every task succeeded.
    """
    hits, counts = as_sample(successes, name="successes"), as_sample(trials, name="trials")
    if hits.shape != counts.shape or bool(np.any((hits < 0) | (hits > counts))):
        raise ValueError(f"0 <= successes <= trials must hold for each, got {hits.tolist()}, {counts.tolist()}")
    total, groups = float(counts.sum()), hits.size
    if total == 0 or groups == 1:
        return proportion_interval(int(hits.sum()), int(total), confidence)
    share = float(hits.sum()) / total
    independent = share * (1 - share) / total
    between = groups / (groups - 1) * float(((hits - share * counts) ** 2).sum()) / total**2
    effect = between / independent if independent > 0 else 1.0
    reach = student_t(confidence, groups - 1 if effect > 1 else math.inf)
    ends = _wilson(share, total / max(effect, 1.0), reach)
    return Estimate(share, *ends, confidence, int(total), f"Wilson over {groups} replications")


def quantile(values: npt.ArrayLike, q: float) -> float:
    """Return the sample quantile: Hyndman and Fan's type 7 (linear between order statistics, numpy's default)."""
    if not 0 <= q <= 1:
        raise ValueError(f"q must be from 0 to 1, got {q}")
    return float(np.quantile(as_sample(values), q))


def quantile_interval(values: npt.ArrayLike, q: float, confidence: float = 0.95) -> Estimate:
    """Return a quantile of independent values with the interval between two order statistics, free of any law.

    Conservative: covers with at least `confidence`. An end beyond the extremes of the sample is infinite: 50 values
    say nothing about how high p99 may be. Across replications, take `mean_interval` of each one's quantile.
    """
    check_share("q", q)
    check_share("confidence", confidence)
    ordered = np.sort(as_sample(values))
    n, value, tail = ordered.size, quantile(ordered, q), (1 - confidence) / 2
    below, above = _binomial_quantile(tail, n, q), _binomial_quantile(1 - tail, n, q) + 1
    low = float(ordered[below - 1]) if below >= 1 else -math.inf
    high = float(ordered[above - 1]) if above <= n else math.inf
    return Estimate(value, min(low, value), max(high, value), confidence, n, "order statistics")


def _binomial_quantile(p: float, n: int, q: float) -> int:
    """Return the smallest k with P(Binomial(n, q) <= k) >= p."""
    from scipy.special import bdtr

    # Ten standard deviations hold every p that can be told from 0 and 1 in floating point.
    reach = 10 * math.sqrt(n * q * (1 - q)) + 10
    k = np.arange(max(0, math.floor(n * q - reach)), min(n, math.ceil(n * q + reach)) + 1)
    return int(k[min(int(np.searchsorted(bdtr(k, n, q), p)), k.size - 1)])


def replications_needed(means: npt.ArrayLike, relative_error: float, confidence: float = 0.95) -> int:
    """Return how many replications bring the interval within `relative_error` of the mean.

    `means` holds one mean per replication, shape (replications,), in any unit. The answer takes their spread for the
    true one, so ask again once they have run (the sequential procedure). Law divides the target by one plus itself,
    to speak of the unknown mean; here it is the half-width over the mean that is reported.
    Raises ValueError when fewer than two replications are given, or when they average to zero but differ.
    Source: Law, Simulation Modeling and Analysis, 5th ed., 9.4.1.
    """
    return _needed(mean_interval(as_sample(means, least=2, name="means"), confidence), relative_error)


def _needed(estimate: Estimate, relative_error: float) -> int:
    """Return the total n at which a t-interval with this estimate's spread meets `relative_error`."""
    if not relative_error > 0:
        raise ValueError(f"relative_error must be > 0, got {relative_error}")
    if estimate.relative_error <= relative_error:
        return estimate.n
    n, confidence = estimate.n, estimate.confidence
    spread = estimate.relative_error * math.sqrt(n) / (student_t(confidence, n - 1) * relative_error)
    if not spread < 1e9:
        raise ValueError(
            f"no number of replications brings {estimate.value} ± {estimate.half_width} to a relative "
            f"error of {relative_error}: the mean is too close to 0"
        )
    # The normal's answer is never too high, and Student's a few more: so the search is short.
    n = max(n, math.ceil((student_t(confidence, math.inf) * spread) ** 2))
    while student_t(confidence, n - 1) * spread > math.sqrt(n):
        n += 1
    return n


@dataclass(frozen=True, slots=True)
class Precision:
    """Whether every metric is known well enough, which is worst, and how many replications to try next."""

    reached: bool
    worst: str
    relative_error: float
    target: float
    more: int


def precision(estimates: Mapping[str, Estimate], target: float) -> Precision:
    """Return how far these estimates over replications are from a relative error of `target`.

    `more` at most triples the replications (and asks for 5 when there is no spread to go by): a spread seen in a few
    replications is itself uncertain, and a second look is cheap. Metrics without a value count as not reached.
    """
    if not estimates:
        raise ValueError("precision needs at least one metric, got none")
    if not target > 0:
        raise ValueError(f"target must be > 0, got {target}")

    def error(name: str) -> float:
        relative = estimates[name].relative_error
        return math.inf if math.isnan(relative) else relative

    worst = max(estimates, key=error)
    estimate = estimates[worst]
    if error(worst) <= target:
        return Precision(True, worst, error(worst), target, 0)
    more = max(5, 2 * estimate.n) if estimate.n >= 2 else 5
    if math.isfinite(error(worst)) and error(worst) / target < 1e6:
        more = min(more, max(1, _needed(estimate, target) - estimate.n))
    return Precision(False, worst, error(worst), target, more)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against its baseline: difference (variant - baseline), ratio (variant / baseline), two-sided p-value."""

    difference: Estimate
    ratio: Estimate
    p_value: float


def paired_difference(baseline: npt.ArrayLike, variant: npt.ArrayLike, confidence: float = 0.95) -> Comparison:
    """Compare two systems that met the same tasks: one number per replication and system, in the same order.

    The difference has a paired t-interval (Law, 10.2.1); the ratio of the means has Fieller's, which is unbounded
    when the baseline cannot be told from zero. For many metrics, pass the p-values through `holm`.
    """
    a = as_sample(baseline, name="baseline")
    b = as_sample(variant, name="variant")
    if a.shape != b.shape:
        raise ValueError(f"baseline and variant must pair up, got {a.size} and {b.size} values")
    difference = mean_interval(b - a, confidence, "paired t")
    return Comparison(difference, _fieller(a, b, confidence), _p_value(b - a))


def _p_value(differences: Array) -> float:
    """Return the two-sided p-value of Student's test that the mean difference is zero; 1 for a single one."""
    from scipy.special import stdtr

    n, mean = differences.size, float(differences.mean())
    if n == 1 or mean == 0:
        return 1.0
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    return float(2 * stdtr(n - 1, -abs(mean) / error)) if error else 0.0


def _fieller(a: Array, b: Array, confidence: float) -> Estimate:
    """Return mean(b) / mean(a) with Fieller's interval for paired values."""
    n, mean_a, mean_b = a.size, float(a.mean()), float(b.mean())
    ratio = mean_b / mean_a if mean_a else math.nan
    unknown = Estimate(ratio, -math.inf, math.inf, confidence, n, "Fieller")
    if n == 1 or not mean_a:
        return unknown
    reach = student_t(confidence, n - 1)
    covariance = np.cov(a, b) / n / mean_a**2
    aa, ab, bb = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    g = reach**2 * aa
    if np.allclose(b, ratio * a, rtol=1e-12, atol=0.0):
        # The same ratio in every pair. Fieller's set is then a point or, with few pairs, everything.
        return Estimate(ratio, ratio, ratio, confidence, n, "Fieller")
    if g >= 1:
        return unknown
    inner = bb - 2 * ratio * ab + ratio**2 * aa - g * bb + reach**2 * ab**2
    centre, half = (ratio - reach**2 * ab) / (1 - g), reach * math.sqrt(max(inner, 0.0)) / (1 - g)
    return Estimate(ratio, centre - half, centre + half, confidence, n, "Fieller")


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for looking at many metrics at once: below 0.05 is significant at 5 % for all together.

    >>> holm({"p95": 0.01, "cost": 0.04, "mean": 0.03})
    {'p95': 0.03, 'cost': 0.06, 'mean': 0.06}
    """
    wrong = {name: p for name, p in p_values.items() if not 0 <= p <= 1}
    if wrong:
        raise ValueError(f"p-values must be from 0 to 1, got {wrong}")
    adjusted, running = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def bonferroni(confidence: float, metrics: int) -> float:
    """Return the confidence each of `metrics` intervals needs so that all hold together with `confidence`."""
    check_share("confidence", confidence)
    if metrics < 1:
        raise ValueError(f"metrics must be at least 1, got {metrics}")
    return 1 - (1 - confidence) / metrics


@dataclass(frozen=True, slots=True)
class LittlesLaw:
    """The mean number in the system as observed, and as Little's law has it: arrival rate times mean time."""

    observed: float
    expected: float

    @property
    def gap(self) -> float:
        """(observed - expected) / expected; infinite when nothing was expected but something seen."""
        if self.observed == self.expected:
            return 0.0
        return (self.observed - self.expected) / self.expected if self.expected else math.inf

    @property
    def statement(self) -> str:
        """One sentence for a report. The law is exact for a run that begins and ends empty; else the ends count."""
        numbers = f"{self.observed:.4g} in the system on average, {self.expected:.4g} = arrival rate x mean time"
        if abs(self.gap) <= 0.05:
            return f"Little's law holds within {100 * abs(self.gap):.2g} %: {numbers}"
        return (
            f"Little's law is off by {100 * self.gap:+.2g} %: {numbers}; "
            "the run ended with work unfinished, began busy, or the three were not counted over the same tasks"
        )


def little(arrival_rate: float, mean_time: float, mean_number: float) -> LittlesLaw:
    """Compare the mean number in the system with arrival rate (1/s) times mean time in it (s)."""
    given = as_sample([arrival_rate, mean_time, mean_number], name="arrival_rate, mean_time and mean_number")
    if bool(np.any(given < 0)):
        raise ValueError(f"must be >= 0, got {arrival_rate=}, {mean_time=}, {mean_number=}")
    return LittlesLaw(mean_number, arrival_rate * mean_time)
