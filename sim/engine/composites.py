"""Distributions made of others or of data: mixture, shifted, truncated, values as they came, a table of quantiles.

Leaves out: smoothing of data (kernel densities, fitted tails); `calibration` fits families instead.
Checked: tests/test_distributions.py (samples against moments and quantiles; truncated moments against integration).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from .draws import Choice
from .families import Exponential, Hyperexponential
from .random_variable import Distribution, Floats

__all__ = ["Empirical", "Mixture", "QuantileTable", "Shifted", "Truncated", "truncate"]

_LEAST_MASS = 1e-6  # of a truncated interval: below it the moments lose their digits
_LOST_MASS = 1e-9  # of a truncated mixture: parts with less of it are left out
_FEW = 100  # values, with fewer of which a tail quantile rests on one


@dataclass(frozen=True)
class Mixture(Distribution):
    """With probability proportional to `weights[i]`, a value of `parts[i]`.

    Every part is drawn every time, so that a change of one part or weight leaves the draws of the other parts as they were.
    """

    weights: tuple[float, ...]
    parts: tuple[Distribution, ...]
    label = "the mixture"

    @cached_property
    def _shares(self) -> list[tuple[float, Distribution]]:
        total = sum(self.weights)
        return [(w / total, part) for w, part in zip(self.weights, self.parts, strict=True)]

    @cached_property
    def _choice(self) -> Choice:
        return Choice(self.weights)

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        chosen = self._choice(rng, n)
        values = np.stack([part.sample(rng, n) for part in self.parts])
        picked: Floats = values[chosen, np.arange(n)]
        return picked

    def _moments(self) -> tuple[float, float]:
        mean = sum(w * part.mean for w, part in self._shares)
        if math.isinf(mean):
            return mean, math.inf
        return mean, sum(w * (part.variance + (part.mean - mean) ** 2) for w, part in self._shares)

    def _support(self) -> tuple[float, float]:
        return min(part.lower_bound for part in self.parts), max(part.upper_bound for part in self.parts)

    def _cdf(self, x: Floats) -> Floats:
        return np.asarray(sum(w * part.cdf(x) for w, part in self._shares))

    def _reaching(self, p: float) -> float:
        return max(float(part.quantile(p)) for part in self.parts)

    def _partial(self, k: int, x: float) -> float:
        return sum(w * part.partial(k, x) for w, part in self._shares)

    def _notes(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.doubts()


@dataclass(frozen=True)
class Shifted(Distribution):
    """`by` more than `of`."""

    by: float
    of: Distribution
    label = "the shifted distribution"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return self.by + self.of.sample(rng, n)

    def _moments(self) -> tuple[float, float]:
        return self.by + self.of.mean, self.of.variance

    def _support(self) -> tuple[float, float]:
        return self.by + self.of.lower_bound, self.by + self.of.upper_bound

    def _cdf(self, x: Floats) -> Floats:
        return self.of.cdf(x - self.by)

    def _quantile(self, p: Floats) -> Floats:
        return self.by + self.of.quantile(p)

    def _partial(self, k: int, x: float) -> float:
        return sum(math.comb(k, j) * self.by ** (k - j) * self.of.partial(j, x - self.by) for j in range(k + 1))

    def _notes(self) -> Iterator[str]:
        yield from self.of._notes()


def truncate(of: Distribution, low: float, high: float) -> Distribution:
    """Return `of`, given that it lies from `low` to `high` (both inside): values outside are drawn again, not moved inside.

    Raises ValueError where the interval holds less than a millionth of `of`.
    """
    mass = _mass(of, low, high)
    if mass < _LEAST_MASS:
        raise ValueError(f"must leave at least a millionth of the distribution; they leave {mass:.2g}")
    return _truncated(of, low, high)


def _mass(of: Distribution, low: float, high: float) -> float:
    """Return P(low <= X <= high)."""
    return max(float(of.cdf(high)) - float(of.cdf(math.nextafter(low, -math.inf))), 0.0)


def _truncated(of: Distribution, low: float, high: float) -> Distribution:
    """Truncate the parts instead of the whole, where there are parts: their quantiles have quick forms."""
    if low <= of.lower_bound and of.upper_bound <= high:
        return of
    match of:
        case Hyperexponential():
            return _truncated(Mixture(of.weights, tuple(Exponential(scale=mean) for mean in of.means)), low, high)
        case Mixture():
            shares = [(w * _mass(part, low, high), part) for w, part in zip(of.weights, of.parts, strict=True)]
            kept = [(w, part) for w, part in shares if w > _LOST_MASS * sum(w for w, _ in shares)]
            return Mixture(tuple(w for w, _ in kept), tuple(_truncated(part, low, high) for _, part in kept))
        case Shifted():
            return Shifted(of.by, _truncated(of.of, low - of.by, high - of.by))
        case Truncated():
            return _truncated(of.of, max(low, of.low), min(high, of.high))
        case _:
            return Truncated(of, low, high)


@dataclass(frozen=True)
class Truncated(Distribution):
    """`of`, given that it lies from `low` to `high`; made by `truncate`."""

    of: Distribution
    low: float
    high: float
    label = "the truncated distribution"

    @cached_property
    def _below(self) -> float:
        """What lies just below the lower end: the probability of `low` itself is kept."""
        return math.nextafter(self.low, -math.inf)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return float(self.of.cdf(self._below)), float(self.of.cdf(self.high))

    @property
    def _mass(self) -> float:
        return self._ends[1] - self._ends[0]

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return self.quantile(rng.random(n))

    def _moments(self) -> tuple[float, float]:
        mean = self._moment(1)
        return mean, max(self._moment(2) - mean**2, 0.0) if math.isfinite(mean) else math.inf

    def _moment(self, k: int) -> float:
        return self._between(k, self.high) / self._mass

    def _between(self, k: int, x: float) -> float:
        above = self.of.partial(k, x)
        return above - self.of.partial(k, self._below) if math.isfinite(above) else above

    def _support(self) -> tuple[float, float]:
        return max(self.low, self.of.lower_bound), min(self.high, self.of.upper_bound)

    def _cdf(self, x: Floats) -> Floats:
        return (self.of.cdf(x) - self._ends[0]) / self._mass

    def _quantile(self, p: Floats) -> Floats:
        low, high = self._ends
        # Strictly between the ends: at them a discrete distribution gives a value outside, and an endless one infinity.
        inside = np.clip(low + p * (high - low), math.nextafter(low, 1.0), math.nextafter(high, 0.0))
        return self.of.quantile(inside)

    def _partial(self, k: int, x: float) -> float:
        return self._between(k, x) / self._mass

    def _notes(self) -> Iterator[str]:
        yield from self.of._notes()


class Empirical(Distribution):
    """Values as they came, each as likely as its weight says; nothing between or beyond them occurs."""

    label = "the empirical distribution"

    def __init__(self, values: Sequence[float] | Floats, weights: Sequence[float] | Floats | None = None) -> None:
        given = np.asarray(values, dtype=float)
        self.count = len(given)
        self.values, index = np.unique(given, return_inverse=True)
        self.shares = np.bincount(index, weights=weights, minlength=len(self.values)).astype(float)
        self.shares /= self.shares.sum()
        self._weighted = weights is not None
        self._choice = Choice(self.shares.tolist())
        self._cumulative = np.minimum(np.cumsum(self.shares), 1.0)
        self._cumulative[-1] = 1.0

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        picked: Floats = self.values[self._choice(rng, n)]
        return picked

    def _moments(self) -> tuple[float, float]:
        mean = float(self.shares @ self.values)
        return mean, float(self.shares @ (self.values - mean) ** 2)

    def _support(self) -> tuple[float, float]:
        return float(self.values[0]), float(self.values[-1])

    def _cdf(self, x: Floats) -> Floats:
        shares: Floats = self._cumulative[np.searchsorted(self.values, x, side="right") - 1]
        return shares

    def _quantile(self, p: Floats) -> Floats:
        # A hair less than p, so that a rounded sum of shares does not push p = 0.3 past the third of ten values.
        return self.values[np.searchsorted(self._cumulative, p * (1 - 1e-12), side="left")]

    def _partial(self, k: int, x: float) -> float:
        upto = np.searchsorted(self.values, x, side="right")
        return float(self.shares[:upto] @ self.values[:upto] ** k)

    def _notes(self) -> Iterator[str]:
        if self.count < _FEW and not self._weighted:
            yield f"{self.label} has {self.count} values: its tail is hardly known, and nothing larger can occur"


class QuantileTable(Distribution):
    """Quantiles at rising shares `p` from 0 to 1, joined evenly in the log where both ends are positive, else evenly."""

    label = "the table of quantiles"

    def __init__(self, p: Sequence[float], values: Sequence[float]) -> None:
        self.p = np.asarray(p, dtype=float)
        self.values = np.asarray(values, dtype=float)
        self._low, self._rise = self.values[:-1], np.diff(self.values)
        self._width = np.diff(self.p)
        self._is_log = (self._low > 0) & (self._rise > 0)
        self._log_rise = np.zeros(len(self._low))
        self._log_rise[self._is_log] = np.log(self.values[1:][self._is_log] / self._low[self._is_log])

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return self._quantile(rng.random(n))

    def _moments(self) -> tuple[float, float]:
        mean = self._up_to(1, 1.0)
        return mean, max(self._up_to(2, 1.0) - mean**2, 0.0)

    def _support(self) -> tuple[float, float]:
        return float(self.values[0]), float(self.values[-1])

    def _cdf(self, x: Floats) -> Floats:
        at = np.clip(np.searchsorted(self.values, x, side="right") - 1, 0, len(self._low) - 1)
        low, rise = self._low[at], np.where(self._rise[at] > 0, self._rise[at], 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):  # the branch not taken
            part = np.where(self._is_log[at], np.log(x / low) / self._log_rise[at], (x - low) / rise)
        shares: Floats = self.p[at] + self._width[at] * part
        return shares

    def _quantile(self, p: Floats) -> Floats:
        at = np.clip(np.searchsorted(self.p, p, side="right") - 1, 0, len(self._low) - 1)
        part = (p - self.p[at]) / self._width[at]
        joined = self._low[at] * np.exp(part * self._log_rise[at])
        values: Floats = np.where(self._is_log[at], joined, self._low[at] + part * self._rise[at])
        return values

    def _partial(self, k: int, x: float) -> float:
        return self._up_to(k, float(self.cdf(x)))

    def _up_to(self, k: int, share: float) -> float:
        """Return the integral of quantile(u)^k for u from 0 to `share`."""
        part = np.clip((share - self.p[:-1]) / self._width, 0.0, 1.0)
        grown = k * self._log_rise
        with np.errstate(divide="ignore", invalid="ignore"):  # the branch not taken
            log = self._low**k * np.expm1(grown * part) / grown
        middle, half = self._low + self._rise * part / 2, self._rise * part / 2
        even = part * (np.ones_like(part), middle, middle**2 + half**2 / 3)[k]
        return float(self._width @ np.where(self._is_log & (grown > 0), log, even))

    def _notes(self) -> Iterator[str]:
        if self.mean == 0:
            return
        even = float(self._width @ (self.values[:-1] + self.values[1:])) / 2
        if abs(even / self.mean - 1) > 0.05:
            change = f"{abs(even / self.mean - 1):.0%} {'more' if even > self.mean else 'less'}"
            yield f"the mean of {self.label} rests on how it is joined: evenly instead of in the log it would be {change}"
