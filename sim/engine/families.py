"""The families of distributions, by their own parameters: numbers in, numbers out.

Each knows its moments, distribution function, quantiles and partial moments, and samples with numpy's own methods so that,
of two members of a family drawn from the same generator, the one of larger scale gives the larger value every time.
Values are in any unit, the same throughout. scipy.special is imported on first use, and sampling a family never needs it.

Leaves out: checks of what a user wrote, and units; `distributions` does both. Distributions made of others are in `composites`.
Checked: tests/test_distributions.py (samples against moments and quantiles; partial moments against integration).
Source: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions, 2nd ed.; Whitt, "Approximating a point process
by a renewal process", Operations Research 1982 (hyperexponential with balanced means).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from .draws import Choice
from .random_variable import Distribution, Floats

__all__ = [
    "Z95",
    "Constant",
    "Exponential",
    "Gamma",
    "Geometric",
    "Hyperexponential",
    "Lognormal",
    "Pareto",
    "Uniform",
    "UniformWhole",
    "Weibull",
]

Z95 = 1.6448536269514722  # the 95 % quantile of the standard normal


@dataclass(frozen=True)
class Constant(Distribution):
    """Always `value`."""

    value: float
    label = "constant"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102  # takes nothing from the generator
        return np.full(n, self.value)

    def _moments(self) -> tuple[float, float]:
        return self.value, 0.0

    def _support(self) -> tuple[float, float]:
        return self.value, self.value

    def _cdf(self, x: Floats) -> Floats:
        return np.ones(x.shape)

    def _quantile(self, p: Floats) -> Floats:
        return np.full(p.shape, self.value)

    def _partial(self, k: int, x: float) -> float:
        return self.value**k if x >= self.value else 0.0


@dataclass(frozen=True)
class Uniform(Distribution):
    """Evenly between `low` and `high`."""

    low: float
    high: float
    label = "uniform"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return rng.uniform(self.low, self.high, n)

    def _moments(self) -> tuple[float, float]:
        return (self.low + self.high) / 2, (self.high - self.low) ** 2 / 12

    def _support(self) -> tuple[float, float]:
        return self.low, self.high

    def _cdf(self, x: Floats) -> Floats:
        return (x - self.low) / (self.high - self.low)

    def _quantile(self, p: Floats) -> Floats:
        return self.low + p * (self.high - self.low)

    def _partial(self, k: int, x: float) -> float:
        middle, half = (x + self.low) / 2, (x - self.low) / 2
        mean_power = (1.0, middle, middle**2 + half**2 / 3)[k]  # of the stretch from low to x
        return mean_power * (x - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class UniformWhole(Distribution):
    """A whole number from `low` to `high`, both possible."""

    low: int
    high: int
    label = "uniform"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        # By inversion, as `rng.integers` takes a varying number of random bits.
        return self.low + np.floor(rng.random(n) * (self.high - self.low + 1))

    def _moments(self) -> tuple[float, float]:
        return (self.low + self.high) / 2, ((self.high - self.low + 1) ** 2 - 1) / 12

    def _support(self) -> tuple[float, float]:
        return self.low, self.high

    def _cdf(self, x: Floats) -> Floats:
        return (np.floor(x) - self.low + 1) / (self.high - self.low + 1)

    def _quantile(self, p: Floats) -> Floats:
        count = self.high - self.low + 1
        return self.low - 1 + np.maximum(_ceil(p * count), 1.0)

    def _partial(self, k: int, x: float) -> float:
        top = math.floor(x)
        count, middle = top - self.low + 1, (self.low + top) / 2
        mean_power = (1.0, middle, middle**2 + (count**2 - 1) / 12)[k]
        return mean_power * count / (self.high - self.low + 1)


@dataclass(frozen=True)
class Gamma(Distribution):
    """Gamma; `scale` times `shape` is the mean, 1/sqrt(shape) the cv."""

    shape: float
    scale: float
    label = "gamma"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return rng.gamma(self.shape, self.scale, n)

    def _moments(self) -> tuple[float, float]:
        return self.shape * self.scale, self.shape * self.scale**2

    def _cdf(self, x: Floats) -> Floats:
        from scipy.special import gammainc

        return np.asarray(gammainc(self.shape, x / self.scale))

    def _quantile(self, p: Floats) -> Floats:
        from scipy.special import gammaincinv

        return np.asarray(self.scale * gammaincinv(self.shape, p))

    def _partial(self, k: int, x: float) -> float:
        from scipy.special import gammainc

        moment = (1.0, self.shape, self.shape * (self.shape + 1))[k] * self.scale**k
        return moment * float(gammainc(self.shape + k, x / self.scale))


@dataclass(frozen=True)
class Exponential(Gamma):
    """Exponential: a gamma of shape 1, with forms of its own."""

    shape: float = 1.0
    scale: float = 1.0
    label = "exponential"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return rng.exponential(self.scale, n)

    def _cdf(self, x: Floats) -> Floats:
        return -np.expm1(-x / self.scale)

    def _quantile(self, p: Floats) -> Floats:
        return -self.scale * np.log1p(-p)


@dataclass(frozen=True)
class Lognormal(Distribution):
    """e^N for a normal N of mean `mu` and deviation `sigma`: e^mu is the median, not the mean."""

    mu: float
    sigma: float
    label = "lognormal"

    @classmethod
    def of_quantiles(cls, median: float, p95: float) -> Lognormal:
        """Return the lognormal with this median and 95 % quantile."""
        return cls(math.log(median), (math.log(p95) - math.log(median)) / Z95)

    @classmethod
    def of_moments(cls, mean: float, cv: float) -> Lognormal:
        """Return the lognormal with this mean and coefficient of variation."""
        square = math.log1p(cv**2)
        return cls(math.log(mean) - square / 2, math.sqrt(square))

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return rng.lognormal(self.mu, self.sigma, n)

    def _moments(self) -> tuple[float, float]:
        square = self.sigma**2
        mean = _exp(self.mu + square / 2)
        return mean, math.expm1(square) * mean**2 if square < 700.0 and mean < 1e150 else math.inf

    def _cdf(self, x: Floats) -> Floats:
        from scipy.special import ndtr

        with np.errstate(divide="ignore"):  # log 0 is -inf, as it should be
            return np.asarray(ndtr((np.log(x) - self.mu) / self.sigma))

    def _quantile(self, p: Floats) -> Floats:
        from scipy.special import ndtri

        return np.asarray(np.exp(self.mu + self.sigma * ndtri(p)))

    def _partial(self, k: int, x: float) -> float:
        if x == 0:
            return 0.0
        below = math.erfc(-((math.log(x) - self.mu) / self.sigma - k * self.sigma) / math.sqrt(2)) / 2
        return _exp(k * self.mu + (k * self.sigma) ** 2 / 2) * below if below else 0.0


@dataclass(frozen=True)
class Weibull(Distribution):
    """Weibull: P(X > x) = exp(-(x/scale)^shape); a shape below 1 has a heavy tail."""

    shape: float
    scale: float
    label = "weibull"

    @classmethod
    def of_mean(cls, mean: float, shape: float) -> Weibull:
        """Return the Weibull with this mean and shape."""
        return cls(shape, mean / math.gamma(1 + 1 / shape))

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return self.scale * rng.weibull(self.shape, n)

    def _moments(self) -> tuple[float, float]:
        first, second = math.gamma(1 + 1 / self.shape), math.gamma(1 + 2 / self.shape)
        return self.scale * first, self.scale**2 * max(second - first**2, 0.0)

    def _cdf(self, x: Floats) -> Floats:
        return -np.expm1(-((x / self.scale) ** self.shape))

    def _quantile(self, p: Floats) -> Floats:
        return self.scale * (-np.log1p(-p)) ** (1 / self.shape)

    def _partial(self, k: int, x: float) -> float:
        from scipy.special import gammainc

        order = 1 + k / self.shape
        return self.scale**k * math.gamma(order) * float(gammainc(order, (x / self.scale) ** self.shape))


@dataclass(frozen=True)
class Pareto(Distribution):
    """Pareto: P(X > x) = (minimum/x)^shape; the k-th moment exists for a shape above k."""

    minimum: float
    shape: float

    @property
    def label(self) -> str:  # type: ignore[override]  # tells the shape, which decides what exists
        """What a doubt calls it."""
        return f"pareto with shape {self.shape:g}"

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        return self.minimum * (1.0 + rng.pareto(self.shape, n))

    def _moments(self) -> tuple[float, float]:
        a, m = self.shape, self.minimum
        mean = a * m / (a - 1) if a > 1 else math.inf
        return mean, m**2 * a / ((a - 1) ** 2 * (a - 2)) if a > 2 else math.inf

    def _support(self) -> tuple[float, float]:
        return self.minimum, math.inf

    def _cdf(self, x: Floats) -> Floats:
        return -np.expm1(self.shape * (math.log(self.minimum) - np.log(x)))

    def _quantile(self, p: Floats) -> Floats:
        return self.minimum * np.exp(-np.log1p(-p) / self.shape)

    def _partial(self, k: int, x: float) -> float:
        order, ratio = k - self.shape, math.log(x / self.minimum)
        stretch = math.expm1(order * ratio) / order if order else ratio
        return self.shape * self.minimum**k * stretch


@dataclass(frozen=True)
class Hyperexponential(Distribution):
    """With probability proportional to `weights[i]`, exponential of mean `means[i]`."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    label = "hyperexponential"

    @classmethod
    def balanced(cls, mean: float, cv: float) -> Hyperexponential:
        """Return two phases that carry half the mean each, for a cv above 1."""
        rare = 1 / (cv**2 + 1) / (1 + math.sqrt((cv**2 - 1) / (cv**2 + 1)))  # (1 - sqrt(...)) / 2, without cancelling
        return cls((1 - rare, rare), (mean / (2 * (1 - rare)), mean / (2 * rare)))

    @cached_property
    def _phases(self) -> list[tuple[float, Exponential]]:
        total = sum(self.weights)
        return [(w / total, Exponential(scale=mean)) for w, mean in zip(self.weights, self.means, strict=True)]

    @cached_property
    def _choice(self) -> Choice:
        return Choice(self.weights)

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        means: Floats = np.asarray(self.means)[self._choice(rng, n)]
        return means * rng.standard_exponential(n)

    def _moments(self) -> tuple[float, float]:
        mean = sum(w * phase.mean for w, phase in self._phases)
        # Not as E[X^2] - mean^2, which cancels.
        return mean, sum(w * (phase.variance + (phase.mean - mean) ** 2) for w, phase in self._phases)

    def _cdf(self, x: Floats) -> Floats:
        return np.asarray(sum(w * phase.cdf(x) for w, phase in self._phases))

    def _partial(self, k: int, x: float) -> float:
        return sum(w * phase.partial(k, x) for w, phase in self._phases)


@dataclass(frozen=True)
class Geometric(Distribution):
    """How many turns until one is the last, each with probability 1/`turns`: 1, 2, 3, ..., with mean `turns`."""

    turns: float
    label = "geometric"

    @cached_property
    def _log_more(self) -> float:
        """The log of the probability of another turn."""
        return math.log1p(-1 / self.turns) if self.turns > 1 else -math.inf

    def sample(self, rng: Generator, n: int) -> Floats:  # noqa: D102
        # Not `rng.geometric`, which changes its method with the mean: a larger mean must give the larger value.
        return np.maximum(np.ceil(rng.standard_exponential(n) / -self._log_more), 1.0)

    def _moments(self) -> tuple[float, float]:
        return self.turns, self.turns * (self.turns - 1)

    def _support(self) -> tuple[float, float]:
        return 1.0, math.inf if self.turns > 1 else 1.0

    def _cdf(self, x: Floats) -> Floats:
        return -np.expm1(np.floor(x) * self._log_more)

    def _quantile(self, p: Floats) -> Floats:
        return np.maximum(_ceil(np.log1p(-p) / self._log_more), 1.0)

    def _partial(self, k: int, x: float) -> float:
        n, mean = math.floor(x), self.mean
        second = self.variance + mean**2
        # Beyond n the count starts anew: E[N^k; N > n] = P(N > n) E[(n + N)^k].
        beyond = (1.0, n + mean, n**2 + 2 * n * mean + second)[k]
        return (1.0, mean, second)[k] - math.exp(n * self._log_more) * beyond


def _exp(x: float) -> float:
    """Return e^x, infinite where it is too large for a float."""
    return math.exp(x) if x < 709.0 else math.inf


def _ceil(x: Floats) -> Floats:
    """Round up, but not where `x` is a whole number but for rounding."""
    nearest = np.rint(x)
    return np.where(np.abs(x - nearest) <= 1e-12 * np.maximum(np.abs(x), 1.0), nearest, np.ceil(x))
