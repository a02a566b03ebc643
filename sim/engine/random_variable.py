"""What every distribution can tell: moments, distribution function, quantiles, partial moments, samples, doubts.

A kind states the formulas within its support; bounds and ends are handled here, once for all.
Leaves out: densities and fitting; `calibration` fits.
Checked: tests/test_distributions.py, for every kind.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

__all__ = ["Distribution", "Floats"]

Floats = NDArray[np.float64]

_WILD_CV = 10.0  # beyond it the mean of a thousand draws has a standard error of 30 % and more
_BISECTIONS = 200  # ends at the last bit long before


class Distribution(ABC):
    """A distribution of a number. Arrays in give arrays out, element by element."""

    label: str = ""
    """What a doubt calls it: the kind's name, as YAML writes it."""

    @cached_property
    def mean(self) -> float:
        """The mean; may be infinite."""
        return self._moments()[0]

    @cached_property
    def variance(self) -> float:
        """The variance; may be infinite."""
        return self._moments()[1]

    @property
    def cv(self) -> float:
        """The coefficient of variation: standard deviation over mean."""
        if self.variance == 0:
            return 0.0
        return math.sqrt(self.variance) / abs(self.mean) if self.mean and math.isfinite(self.mean) else math.inf

    @property
    def lower_bound(self) -> float:
        """The smallest value, or the greatest number below all values."""
        return self._support()[0]

    @property
    def upper_bound(self) -> float:
        """The largest value, or the smallest number above all values; may be infinite."""
        return self._support()[1]

    @property
    def is_constant(self) -> bool:
        """Whether only one value can occur."""
        return self.lower_bound == self.upper_bound

    @abstractmethod
    def sample(self, rng: Generator, n: int) -> Floats:
        """Return n independent values, as floats."""

    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(X <= x)."""
        at = np.asarray(x, dtype=float)
        low, high = self._support()
        inside = self._cdf(np.clip(at, low, high))
        return np.where(at < low, 0.0, np.where(at >= high, 1.0, np.clip(inside, 0.0, 1.0)))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest x with cdf(x) >= p; the bounds for p = 0 and 1."""
        at = np.asarray(p, dtype=float)
        if not np.all((at >= 0) & (at <= 1)):
            raise ValueError(f"`0 <= p <= 1` must hold, but got ({p=})")
        low, high = self._support()
        inside = (at > 0) & (at < 1)
        middle = self._quantile(np.where(inside, at, 0.5))
        return np.where(inside, np.clip(middle, low, high), np.where(at == 0, low, high))

    def partial(self, k: int, x: float) -> float:
        """Return E[X^k; X <= x] for k = 0, 1, 2; infinite where the moment is."""
        low, high = self._support()
        if x < low:
            return 0.0
        if x >= high:
            return (1.0, self.mean, self.variance + self.mean**2 if math.isfinite(self.variance) else math.inf)[k]
        return self._partial(k, x)

    def doubts(self) -> list[str]:
        """Return what speaks against trusting averages over this distribution, one sentence each."""
        first = []
        if math.isinf(self.mean):
            first = [f"the mean of {self.label} is infinite: no average over it ever settles; truncate it"]
        elif math.isinf(self.variance):
            remedy = "intervals of means converge slowly and come out too narrow; truncate it, or look at quantiles"
            first = [f"the variance of {self.label} is infinite: {remedy}"]
        elif self.cv > _WILD_CV and self.mean:
            first = [f"the cv of {self.label} is {self.cv:.3g}: means need very many tasks to settle"]
        return [*first, *self._notes()]

    @abstractmethod
    def _moments(self) -> tuple[float, float]:
        """Mean and variance."""

    def _support(self) -> tuple[float, float]:
        """Bounds below and above."""
        return 0.0, math.inf

    @abstractmethod
    def _cdf(self, x: Floats) -> Floats:
        """`cdf` within the support."""

    def _quantile(self, p: Floats) -> Floats:
        """`quantile` for 0 < p < 1: by bisection, where a family knows no form."""
        low = np.full(p.shape, self.lower_bound)
        high = np.full(p.shape, self._reaching(float(np.max(p))))
        for _ in range(_BISECTIONS):
            middle = low + (high - low) / 2
            reached = self.cdf(middle) >= p
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
            if np.all(high - low <= 4e-16 * np.abs(high)):
                break
        return self._snapped(high, p)

    def _snapped(self, x: Floats, p: Floats) -> Floats:
        """Move to the lower bound or the whole number a hair below, where that has the probability."""
        whole = np.rint(x)
        x = np.where((np.abs(x - whole) <= 1e-12 * np.abs(whole)) & (self.cdf(whole) >= p), whole, x)
        return np.where(self.cdf(self.lower_bound) >= p, self.lower_bound, x)

    @abstractmethod
    def _partial(self, k: int, x: float) -> float:
        """`partial` within the support."""

    def _notes(self) -> Iterator[str]:
        """Doubts that only this kind can know."""
        yield from ()

    def _reaching(self, p: float) -> float:
        """Return a number with cdf >= p."""
        low, high = self._support()
        if math.isfinite(high):
            return high
        step = 1.0
        while self.cdf(low + step) < p and step < 1e300:
            step *= 16.0
        return low + step
