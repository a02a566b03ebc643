"""Residuals: how a call differs from time to time, or a law from its points, as a distribution of measured over predicted.

Quantiles as they were found are the rule. A parametric distribution takes their place only where a test of fit cannot
tell it from the repetitions and its tail is theirs.

Leaves out: dependence between one repetition and the next, and between the spread and the size.
Checked: tests/test_fits.py.
Source: Lilliefors, JASA 1967 (a test of fit with estimated parameters needs its own null distribution: here by parametric
bootstrap, as in Stute et al., Metrika 1993); Minka, Estimating a Gamma distribution, 2002.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special, stats

__all__ = ["interval_of_median", "quantile_residual", "repeats_residual"]

LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_DIGITS = 4
_LEAST_REPEATS = 100  # below, a test has no power to refuse, and there is no p99 to compare
_MOST_TESTED = 2000  # of the repetitions; a test on more refuses every distribution for what no run would notice
_BOOTSTRAP = 199
_P_VALUE = 0.10
_TAIL = 0.15  # how far p95 and p99 may be off, as a share of what they lie above the median


def quantile_residual(ratios: np.ndarray, of: str) -> dict[str, Any] | None:
    """Return the quantiles of the ratios, shape (ratios,), at as many levels as they support; None for fewer than two.

    A level is kept that one ratio at least lies beyond on average; the ends are the least and the largest ratio.
    """
    if len(ratios) < 2:
        return None
    levels = [level for level in LEVELS if level in (0.0, 1.0) or len(ratios) * min(level, 1.0 - level) >= 1.0 - 1e-9]
    values = np.round(np.quantile(ratios, levels), _DIGITS)
    return {"of": of, "shares": levels, "ratios": [float(value) for value in values]}


def repeats_residual(ratios: Sequence[np.ndarray], seed: int) -> dict[str, Any] | None:
    """Return the residual of repetitions over their median, pooled over the points; None where there are fewer than two.

    Lognormal or gamma are written where the p-value of Kolmogorov and Smirnov's distance, by parametric bootstrap with
    the parameters estimated anew in each sample, is at least 0.10, and p95 and p99 are off by at most 15 % of what the
    empirical ones lie above the median.
    """
    known = [np.asarray(part, dtype=float) for part in ratios if len(part) > 1]  # one is its own median
    pooled = np.concatenate(known) if known else np.zeros(0)
    if len(pooled) >= _LEAST_REPEATS and pooled.min() > 0 and np.ptp(pooled) > 0:
        rng = np.random.default_rng((seed, 3))
        for attempt in (_lognormal, _gamma):
            found = attempt(pooled, rng)
            if found is not None:
                return {"of": "repeats", "ratio": found}
    return quantile_residual(pooled, "repeats")


def _lognormal(ratios: np.ndarray, rng: np.random.Generator) -> dict[str, Any] | None:
    logs = np.log(ratios)
    middle, spread = float(logs.mean()), float(logs.std())
    quantiles = np.exp(stats.norm.ppf((0.5, 0.95, 0.99), middle, spread))
    tested = _sample(logs, rng)

    def distance(values: np.ndarray) -> np.ndarray:
        scaled = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
        return _kolmogorov(special.ndtr(np.sort(scaled, axis=1)))

    if not _passes(tested, distance, rng.standard_normal) or not _tail(ratios, quantiles):
        return None
    return {"lognormal": {"median": round(float(quantiles[0]), 5), "p95": round(float(quantiles[1]), 5)}}


def _gamma(ratios: np.ndarray, rng: np.random.Generator) -> dict[str, Any] | None:
    shape = float(_gamma_shapes(ratios[None, :])[0])
    mean = float(ratios.mean())
    quantiles = np.asarray(stats.gamma.ppf((0.5, 0.95, 0.99), shape, scale=mean / shape))

    def distance(values: np.ndarray) -> np.ndarray:
        shapes = _gamma_shapes(values)[:, None]
        scaled = np.sort(values, axis=1) * shapes / values.mean(axis=1, keepdims=True)
        return _kolmogorov(special.gammainc(shapes, scaled))

    drawn = _passes(_sample(ratios, rng), distance, lambda size: rng.gamma(shape, mean / shape, size))
    if not drawn or not _tail(ratios, quantiles):
        return None
    return {"gamma": {"mean": float(f"{mean:.5g}"), "cv": float(f"{shape**-0.5:.5g}")}}


def _gamma_shapes(values: np.ndarray) -> np.ndarray:
    """Return the maximum-likelihood shape of each row: Minka's start, then Newton steps."""
    log_gap = np.maximum(np.log(values.mean(axis=1)) - np.log(values).mean(axis=1), 1e-12)
    shape = (3.0 - log_gap + np.sqrt((log_gap - 3.0) ** 2 + 24.0 * log_gap)) / (12.0 * log_gap)
    for _ in range(3):
        slope = 1.0 / shape - special.polygamma(1, shape)
        shape = np.maximum(shape - (np.log(shape) - special.digamma(shape) - log_gap) / slope, 0.1 * shape)
    return np.asarray(shape)


def _sample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values if len(values) <= _MOST_TESTED else rng.choice(values, _MOST_TESTED, replace=False)


def _kolmogorov(levels: np.ndarray) -> np.ndarray:
    """Return the largest gap between the levels of sorted samples, shape (samples, n), and those of a fair one."""
    count = levels.shape[1]
    steps = np.arange(count)
    return np.asarray(np.maximum(levels - steps / count, (steps + 1) / count - levels).max(axis=1))


def _passes(
    values: np.ndarray,
    distance: Callable[[np.ndarray], np.ndarray],
    draw: Callable[[tuple[int, int]], np.ndarray],
) -> bool:
    """Whether the distance of the values is an ordinary one among samples that the fitted distribution drew."""
    found = distance(values[None, :])[0]
    null = distance(draw((_BOOTSTRAP, len(values))))
    return bool((1 + (null >= found).sum()) / (1 + _BOOTSTRAP) >= _P_VALUE)


def _tail(ratios: np.ndarray, quantiles: np.ndarray) -> bool:
    """Whether p95 and p99 agree: `quantiles` are the median, p95 and p99 of what was fitted."""
    median, *tail = np.quantile(ratios, (0.5, 0.95, 0.99))
    pairs = zip(quantiles[1:], tail, strict=True)
    return all(abs(fitted - found) <= _TAIL * (found - median) for fitted, found in pairs)


def interval_of_median(ratios: np.ndarray, seed: int, resamples: int = 1000) -> list[float] | None:
    """Return the 95 % bootstrap interval of the median of the ratios; None for fewer than four."""
    if len(ratios) < 4:
        return None
    rng = np.random.default_rng((seed, 4))
    medians = [np.median(rng.choice(ratios, len(ratios))) for _ in range(resamples)]
    return [round(float(value), _DIGITS) for value in np.quantile(medians, (0.025, 0.975))]
