"""One long run, cut into batches: interval of its mean or a quantile, and whether it is still growing.

Observations of one run are correlated, so their own spread says too little; means of long batches are nearly
independent. Whether they are is tested (von Neumann's ratio), and `Estimate.method` tells how it went.

Leaves out: overlapping batches, spectral and standardised-time-series methods.
Checked: tests/test_statistics.py, on autoregressive series and on waiting times from Lindley's recursion.
Source: Fishman, Discrete-Event Simulation, 2001, ch. 6; Asmussen and Glynn, Stochastic Simulation, 2007, III.5a (a quantile
by sectioning: centred on the quantile of the whole run, which is less biased than the mean over batches).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .statistics import Array, Estimate, as_sample, check_share, student_t

BATCHES = (32, 20, 10)
# Observations a batch needs beyond a quantile before the quantile of the batch means something.
LEAST_IN_TAIL = 5
DRIFT_BATCHES = 16


def batch_means(series: npt.ArrayLike, confidence: float = 0.95, batches: tuple[int, ...] = BATCHES) -> Estimate:
    """Return the mean of one long run, warm-up removed; `batches` are the numbers of batches tried in turn."""
    return _batched(series, np.mean, LEAST_IN_TAIL, confidence, batches, "batch means")


def batch_quantile(
    series: npt.ArrayLike, q: float, confidence: float = 0.95, batches: tuple[int, ...] = BATCHES
) -> Estimate:
    """Return a quantile (type 7) of one long run; no interval when a batch has fewer than five values beyond it."""
    check_share("q", q)

    def statistic(rows: Array, axis: int | None = None) -> Array:
        return np.asarray(np.quantile(rows, q, axis=axis))

    least = math.ceil(round(LEAST_IN_TAIL / min(q, 1 - q), 6))
    return _batched(series, statistic, least, confidence, batches, "batch quantiles")


def _batched(
    series: npt.ArrayLike,
    statistic: Callable[..., Array],
    least: int,
    confidence: float,
    batches: tuple[int, ...],
    name: str,
) -> Estimate:
    """Return the statistic of the whole with the interval its batches give: the most batches that look independent."""
    check_share("confidence", confidence)
    if not batches or min(batches) < 3:
        raise ValueError(f"batches must be numbers of batches >= 3, got {batches}")
    values = as_sample(series, name="series")
    whole = float(statistic(values))
    possible = [count for count in sorted(batches, reverse=True) if values.size // count >= least]
    if not possible:
        method = f"{name}: too few observations, needs {least * min(batches)}"
        return Estimate(whole, -math.inf, math.inf, confidence, values.size, method)
    for count in possible:
        rows = _rows(values, count)
        each, centre = statistic(rows, axis=1), float(statistic(rows))
        correlation, independent = von_neumann(each)
        if independent:
            break
    error = math.sqrt(float(((each - centre) ** 2).sum()) / (count - 1) / count)
    method = f"{name}, {count} of {rows.shape[1]}"
    if not independent:
        # As for an autoregressive series: better too wide than a false certainty.
        error *= math.sqrt((1 + correlation) / (1 - correlation))
        method += f", still correlated ({correlation:.2f}): widened; run longer"
    half = student_t(confidence, count - 1) * error
    return Estimate(centre, centre - half, centre + half, confidence, values.size, method)


def _rows(values: Array, count: int) -> Array:
    """Return the values as `count` equal batches; what does not divide is dropped at the front, next to the warm-up."""
    size = values.size // count
    return values[values.size - count * size :].reshape(count, size)


def von_neumann(values: npt.ArrayLike, level: float = 0.1) -> tuple[float, bool]:
    """Return the lag-1 correlation by von Neumann's ratio, and whether it passes for none (one-sided test at `level`).

    `values` holds at least three. Source: von Neumann (1941); Fishman (1978) for the normal approximation.
    """
    sample = as_sample(values, least=3)
    squares = float(((sample - sample.mean()) ** 2).sum())
    if squares <= (1e-12 * float(np.abs(sample).max())) ** 2 * sample.size:
        return 0.0, True  # constant, up to rounding
    correlation = 1 - float((np.diff(sample) ** 2).sum()) / (2 * squares)
    n = sample.size
    return correlation, correlation <= student_t(1 - 2 * level, math.inf) * math.sqrt((n - 2) / (n * n - 1))


@dataclass(frozen=True, slots=True)
class Drift:
    """How fast a quantity changes at the pace of the run (per second), and whether it is sure to be growing.

    `change` is the growth over the run as a share of the mean level. A quantity that grows has no steady state to
    report: its mean says how long the run was.
    """

    slope: Estimate
    change: float
    grows: bool


def drift(times: npt.ArrayLike, values: npt.ArrayLike, confidence: float = 0.95, least_change: float = 0.05) -> Drift:
    """Test whether `values`, seen at `times` after the warm-up, still grow: a queue that never settles.

    The steps from one batch mean to the next average to the slope, and their own spread judges it. That is right for
    the worst case, a random walk, and conservative for anything that settles, however correlated: a false alarm is
    rarer than (1 - confidence) / 2. `grows` also asks that the growth is `least_change` of the mean level, so that
    a long run is not called unstable for a change that nobody would see. Needs 80 observations to say yes.
    """
    when, level = as_sample(times, name="times"), as_sample(values)
    if when.shape != level.shape:
        raise ValueError(f"times and values must pair up, got {when.size} and {level.size}")
    order = np.argsort(when, kind="stable")
    when, level = when[order], level[order]
    if level.size < LEAST_IN_TAIL * DRIFT_BATCHES or when[0] == when[-1]:
        unknown = Estimate(math.nan, -math.inf, math.inf, confidence, level.size, "drift: too few observations")
        return Drift(unknown, math.nan, False)
    middle, mean = _rows(when, DRIFT_BATCHES).mean(axis=1), _rows(level, DRIFT_BATCHES).mean(axis=1)
    slope = _slope(middle, mean, confidence, level.size)
    average = abs(float(level.mean()))
    growth = slope.value * float(when[-1] - when[0])
    change = growth / average if average else math.copysign(math.inf, growth) if growth else 0.0
    return Drift(slope, change, slope.low > 0 and change >= least_change)


def _slope(times: Array, levels: Array, confidence: float, n: int) -> Estimate:
    """Return the mean rate of change with the interval a random walk with drift has."""
    span = float(times[-1] - times[0])
    slope = float(levels[-1] - levels[0]) / span
    steps = np.diff(levels) - slope * np.diff(times)
    count = steps.size
    # Averages over batches leave a random walk's steps 2/3 of their variance, and move the rest into a correlation
    # of neighbours (Working, 1960); 3/2 puts it back.
    variance = 1.5 * float((steps * steps).sum()) / (count - 1)
    half = student_t(confidence, count - 1) * math.sqrt(variance * count) / span
    return Estimate(slope, slope - half, slope + half, confidence, n, f"steps between {levels.size} batches")
