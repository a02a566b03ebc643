"""Several factors at once: Morris screening and Sobol' indices, from values at the points of their designs.

Values come per point and replication; replications meet the same draws at every point. Measures are of the means over replications,
and `noise` says what share of their variance between points is left from replications that differ: what is beyond a part common to
all points and one common to all replications.

A Morris verdict is by mu* and sigma / mu*: `negligible` where mu* is less than 1/20 of the largest or not above the noise,
`linear` up to sigma / mu* of 0.1, else `nonlinear or interacting`. Noise is taken off sigma before.

Leaves out: groups of factors, factors that depend on each other, second-order indices.
Checked: tests/test_sensitivity.py (Ishigami's function, linear functions; against SALib and scipy).
Source: Morris, Technometrics 33(2), 1991, 161-174; mu* is Campolongo, Cariboni and Saltelli, Environmental Modelling and
Software 22(10), 2007, 1509-1518; the bound 0.1 follows Garcia Sanchez et al., Energy and Buildings, 2014; indices are
Saltelli et al., Computer Physics Communications 181(2), 2010, 259-270, as scipy.stats.sobol_indices has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .statistics import Array, Estimate

__all__ = [
    "MorrisMeasure",
    "MorrisMeasures",
    "SobolMeasure",
    "SobolMeasures",
    "elementary_effects",
    "morris",
    "morris_design",
    "sobol",
    "sobol_design",
]

RESAMPLES = 1000
LITTLE, STRAIGHT = 0.05, 0.1

Verdict = Literal["negligible", "linear", "nonlinear or interacting"]


@dataclass(frozen=True, slots=True)
class MorrisMeasure:
    """Of a factor, over its whole range: the mean elementary effect, of its absolute values, and their standard deviation."""

    name: str
    mu: float
    mu_star: Estimate
    sigma: Estimate
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class MorrisMeasures:
    """The factors, largest mu* first; `noise` is the standard error that replications leave in one elementary effect."""

    factors: tuple[MorrisMeasure, ...]
    trajectories: int
    noise: float


@dataclass(frozen=True, slots=True)
class SobolMeasure:
    """Of a factor: the share of variance that it explains alone, and with all its interactions."""

    name: str
    first: Estimate
    total: Estimate


@dataclass(frozen=True, slots=True)
class SobolMeasures:
    """The factors, largest total first, the variance between points, the share of it that is noise, and the sum of first orders."""

    factors: tuple[SobolMeasure, ...]
    points: int
    variance: float
    noise: float
    first_sum: Estimate


def morris_design(factors: int, trajectories: int, levels: int, seed: int) -> Array:
    """Return points from 0 to 1, shape (trajectories * (factors + 1), factors); consecutive ones differ in one factor.

    Needs the extra `sensitivity`.
    """
    from SALib.sample.morris import sample  # type: ignore[import-untyped]

    problem = {"num_vars": factors, "names": [f"x{i}" for i in range(factors)], "bounds": [[0.0, 1.0]] * factors}
    return np.asarray(sample(problem, trajectories, num_levels=levels, seed=seed), dtype=np.float64)


def elementary_effects(design: Array, values: Array) -> Array:
    """Return what each factor does in each trajectory, over its whole range: shape (trajectories, factors, ...).

    `values` has shape (points, ...).
    """
    factors = design.shape[1]
    count = design.shape[0] // (factors + 1)
    points = design.reshape(count, factors + 1, factors)
    steps = np.diff(points, axis=1)
    which = np.argmax(np.abs(steps), axis=2)
    size = np.take_along_axis(steps, which[:, :, None], axis=2)[:, :, 0]
    told = values.reshape(count, factors + 1, *values.shape[1:])
    rise = np.diff(told, axis=1) / size.reshape(*size.shape, *([1] * (values.ndim - 1)))
    effects = np.empty_like(rise)
    for trajectory in range(count):
        effects[trajectory, which[trajectory]] = rise[trajectory]
    return effects


def morris(design: Array, values: Array, names: Sequence[str], confidence: float, seed: int) -> MorrisMeasures:
    """Return the measures of Morris from values of shape (points, replications), with bootstrap intervals over trajectories."""
    apart = elementary_effects(design, values)  # (trajectories, factors, replications)
    effects = apart.mean(axis=2)
    count, replications = effects.shape[0], apart.shape[2]
    noise = np.zeros(len(names))
    if replications > 1:
        noise = np.mean(apart.var(axis=2, ddof=1), axis=0) / replications
    rng = np.random.default_rng(seed)
    picked = effects[rng.integers(0, count, (RESAMPLES, count))]  # (resamples, trajectories, factors)
    stars, sigmas = np.abs(picked).mean(axis=1), picked.std(axis=1, ddof=1) if count > 1 else np.zeros(1)
    mu_star = np.abs(effects).mean(axis=0)
    sigma = effects.std(axis=0, ddof=1) if count > 1 else np.full(len(names), math.nan)
    largest = float(mu_star.max())
    found = []
    for place, name in enumerate(names):
        star = _bounded(float(mu_star[place]), stars[:, place], confidence, count)
        spread = _bounded(float(sigma[place]), sigmas[:, place] if count > 1 else None, confidence, count)
        own = math.sqrt(max(0.0, float(sigma[place]) ** 2 - float(noise[place]))) if count > 1 else math.nan
        found.append(
            MorrisMeasure(name, float(effects[:, place].mean()), star, spread,
                          _verdict(star.value, own, largest, math.sqrt(float(noise[place]))))
        )  # fmt: skip
    found.sort(key=lambda one: -one.mu_star.value)
    return MorrisMeasures(tuple(found), count, math.sqrt(float(noise.mean())))


def _verdict(star: float, sigma: float, largest: float, noise: float) -> Verdict:
    # The absolute value of noise alone has a mean of 0.8 of its standard deviation.
    if star <= LITTLE * largest or star <= noise:
        return "negligible"
    return "linear" if sigma <= STRAIGHT * star else "nonlinear or interacting"


def sobol_design(factors: int, points: int, seed: int) -> Array:
    """Return the points A, B and, for each factor, A with that column of B: shape (points * (factors + 2), factors).

    `points` is a power of two.
    """
    from scipy.stats import qmc

    both = qmc.Sobol(2 * factors, scramble=True, rng=np.random.default_rng(seed)).random(points)
    a, b = both[:, :factors], both[:, factors:]
    mixed = []
    for place in range(factors):
        one = a.copy()
        one[:, place] = b[:, place]
        mixed.append(one)
    return np.concatenate([a, b, *mixed])


def sobol(values: Array, names: Sequence[str], confidence: float, seed: int) -> SobolMeasures:
    """Return Sobol' indices from values of shape (points * (factors + 2), replications), with bootstrap intervals over points."""
    from scipy.stats import sobol_indices

    factors = len(names)
    means = values.mean(axis=1)
    count = means.size // (factors + 2)
    a, b, mixed = means[:count], means[count : 2 * count], means[2 * count :].reshape(factors, count)
    spread = float(np.var(np.concatenate([a, b])))
    if not spread:
        unknown = Estimate(math.nan, -math.inf, math.inf, confidence, count, "no variance")
        nothing = tuple(SobolMeasure(name, unknown, unknown) for name in names)
        return SobolMeasures(nothing, count, 0.0, 0.0, unknown)
    given: dict[Any, Array] = {"f_A": a[None, :], "f_B": b[None, :], "f_AB": mixed[:, None, :]}
    indices = sobol_indices(func=given, n=count)
    first, total = np.ravel(indices.first_order), np.ravel(indices.total_order)
    rng = np.random.default_rng(seed)
    again = [_indices(a[pick], b[pick], mixed[:, pick]) for pick in rng.integers(0, count, (RESAMPLES, count))]
    firsts, totals = np.array([one[0] for one in again]), np.array([one[1] for one in again])
    found = [
        SobolMeasure(
            name,
            _bounded(float(first[place]), firsts[:, place], confidence, count),
            _bounded(float(total[place]), totals[:, place], confidence, count),
        )
        for place, name in enumerate(names)
    ]
    found.sort(key=lambda one: -one.total.value)
    together = _bounded(float(first.sum()), firsts.sum(axis=1), confidence, count)
    return SobolMeasures(tuple(found), count, spread, _noise_share(values), together)


def _indices(a: Array, b: Array, mixed: Array) -> tuple[Array, Array]:
    """Return first-order (Saltelli) and total (Jansen) indices; nan where the points do not differ."""
    both = np.concatenate([a, b])
    centre, spread = both.mean(), both.var()
    if not spread:
        return np.full(len(mixed), math.nan), np.full(len(mixed), math.nan)
    first = np.mean((b - centre) * (mixed - a), axis=1) / spread
    return first, np.mean((a - mixed) ** 2, axis=1) / (2 * spread)


def _noise_share(values: Array) -> float:
    """Return the share of the variance between points that replications leave in means over them; nan for one replication."""
    points, replications = values.shape
    if replications < 2 or points < 2:
        return math.nan
    means = values.mean(axis=1, keepdims=True)
    rest = values - means - values.mean(axis=0, keepdims=True) + values.mean()
    error = float(np.sum(rest**2)) / ((points - 1) * (replications - 1)) / replications
    return float(min(1.0, error / float(np.var(means, ddof=1))))


def _bounded(value: float, resampled: Array | None, confidence: float, count: int) -> Estimate:
    if resampled is None or count < 2:
        return Estimate(value, -math.inf, math.inf, confidence, count, "bootstrap")
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value), confidence, count, "bootstrap")
