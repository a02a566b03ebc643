"""Accumulators for runs too long to keep: moments and quantiles in bounded memory, block by block, mergeable.

Both are mutable: they are filled while a run goes on. Merging in the same order gives the same bits.

Leaves out: negative values in the quantile sketch (times, sizes and costs have none); exponential forgetting.
Checked: tests/test_sketch.py, moments against numpy, and the sketch's error bound on laws with heavy tails.
Source: Chan, Golub and LeVeque (1983) for merged variances; Masson, Rim and Lee, "DDSketch", VLDB 2019.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .statistics import Array, as_sample


class Moments:
    """Count, mean, spread and extremes of several columns at once; each update is a block of rows."""

    __slots__ = ("count", "high", "low", "mean", "squares")

    def __init__(self, columns: int = 1) -> None:
        if columns < 1:
            raise ValueError(f"columns must be at least 1, got {columns}")
        self.count = 0
        self.mean: Array = np.zeros(columns)
        self.squares: Array = np.zeros(columns)  # sum of squared deviations from the mean, "M2"
        self.low: Array = np.full(columns, math.inf)
        self.high: Array = np.full(columns, -math.inf)

    @property
    def variance(self) -> Array:
        """The sample variance of each column (n - 1); nan below two rows."""
        return self.squares / (self.count - 1) if self.count > 1 else np.full_like(self.squares, math.nan)

    @property
    def std(self) -> Array:
        """The sample standard deviation of each column; nan below two rows."""
        return np.sqrt(self.variance)

    def update(self, block: npt.ArrayLike) -> None:
        """Add a block of shape (rows, columns), or (rows,) when there is one column. Raises ValueError on NaN."""
        rows = np.asarray(block, dtype=np.float64)
        rows = rows.reshape(-1, 1) if rows.ndim == 1 and self.mean.size == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != self.mean.size:
            raise ValueError(f"a block must have shape (rows, {self.mean.size}), got {np.shape(block)}")
        if not len(rows):
            return
        as_sample(rows.ravel(), name="a block")
        mean = rows.mean(axis=0)
        self._add(len(rows), mean, ((rows - mean) ** 2).sum(axis=0), rows.min(axis=0), rows.max(axis=0))

    def merge(self, other: Moments) -> None:
        """Add all that `other` has seen."""
        if other.mean.size != self.mean.size:
            raise ValueError(f"columns must agree, got {self.mean.size} and {other.mean.size}")
        if other.count:
            self._add(other.count, other.mean, other.squares, other.low, other.high)

    def _add(self, count: int, mean: Array, squares: Array, low: Array, high: Array) -> None:
        total = self.count + count
        gap = mean - self.mean
        self.mean = self.mean + gap * (count / total)
        self.squares = self.squares + squares + gap * gap * (self.count * count / total)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count = total


class QuantileSketch:
    """Quantiles of values >= 0 within a relative error: counts in buckets whose bounds grow by a fixed factor.

    `quantile(q)` is within `error` of the order statistic of rank floor(q (n - 1)), counted from 0, whatever the
    values and however they were split and merged. Values below 1e-12 count as 0. At 0.5 %, twelve decades take 22 kB.
    """

    __slots__ = ("_counts", "_first", "_log_growth", "_zeros", "error", "high", "low")

    SMALLEST = 1e-12

    def __init__(self, error: float = 0.005) -> None:
        if not 1e-6 <= error < 1:
            raise ValueError(f"1e-6 <= error < 1 must hold, got {error}")
        self.error = error
        self._log_growth = math.log((1 + error) / (1 - error))
        self._counts: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._first = 0  # the bucket that _counts[0] stands for
        self._zeros = 0
        self.low, self.high = math.inf, -math.inf

    @property
    def count(self) -> int:
        """How many values were seen."""
        return self._zeros + int(self._counts.sum())

    @property
    def buckets(self) -> int:
        """How many buckets are held: bounded by the range of the values, not by their number."""
        return self._counts.size

    def update(self, values: npt.ArrayLike) -> None:
        """Add a block of values. Raises ValueError on negative, NaN or infinite ones."""
        block = as_sample(np.ravel(values), least=0)
        if not block.size:
            return
        if block.min() < 0:
            raise ValueError(f"values must be >= 0, got {block.min()} at {int(block.argmin())} (of {block.size})")
        self.low, self.high = min(self.low, float(block.min())), max(self.high, float(block.max()))
        positive = block[block >= self.SMALLEST]
        self._zeros += block.size - positive.size
        if positive.size:
            bucket = np.ceil(np.log(positive) / self._log_growth).astype(np.int64)
            first = int(bucket.min())
            self._add(first, np.bincount(bucket - first))

    def merge(self, other: QuantileSketch) -> None:
        """Add all that `other` has seen."""
        if other.error != self.error:
            raise ValueError(f"sketches must have the same error, got {self.error} and {other.error}")
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self._zeros += other._zeros
        if other._counts.size:
            self._add(other._first, other._counts)

    def _add(self, first: int, counts: npt.NDArray[np.int64]) -> None:
        if not self._counts.size:
            self._first = first
        start = min(first, self._first)
        end = max(first + counts.size, self._first + self._counts.size)
        if end - start > self._counts.size:
            grown = np.zeros(end - start, dtype=np.int64)
            grown[self._first - start : self._first - start + self._counts.size] = self._counts
            self._first, self._counts = start, grown
        self._counts[first - self._first : first - self._first + counts.size] += counts

    def quantile(self, q: float) -> float:
        """Return the quantile; nan when nothing was seen."""
        return float(self.quantiles([q])[0])

    def quantiles(self, qs: npt.ArrayLike) -> Array:
        """Return several quantiles at once, in the order asked."""
        wanted = as_sample(qs, least=0, name="qs")
        if wanted.size and (wanted.min() < 0 or wanted.max() > 1):
            raise ValueError(f"qs must be from 0 to 1, got {wanted.tolist()}")
        count = self.count
        if not count:
            return np.full(wanted.size, math.nan)
        below = np.concatenate([[self._zeros], self._zeros + np.cumsum(self._counts)])
        place = np.searchsorted(below, np.floor(wanted * (count - 1)), side="right")
        # The point of a bucket that is relatively as far from its lower as from its upper bound.
        middle = np.exp((self._first + place - 1) * self._log_growth) * (1 - self.error)
        return np.clip(np.where(place == 0, 0.0, middle), self.low, self.high)
