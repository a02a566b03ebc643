"""Numbers with intervals, and tables of quantiles, from what each task contributes.

Calls of a task are alike, so a task is one observation: a ratio of sums over tasks has the variance of its residuals by task. The
interval is symmetric on a log scale for amounts (which are skewed) and Wilson's for shares, with Student's t of tasks - 1. Where a trace
names problems, all attempts at one of them are one observation.

Leaves out: what tasks have in common otherwise.
Checked: tests/test_trace_fit.py (coverage over many seeds).
Source: Cochran, Sampling Techniques, 1977, ch. 6 (ratio estimates); Wilson, JASA 22 (1927) (shares); Korn and Graubard, Survey
Methodology 24 (1998) (shares of clustered samples).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from ...sim.analysis.statistics import student_t
from .fitted import Number, Table, Values

__all__ = ["LEAST_CLUSTERS", "NORMAL", "by_count", "number", "ratio", "share", "student", "table", "values"]

Name = TypeVar("Name", bound=str)

LEAST_CLUSTERS = 3  # fewer say nothing of how tasks differ
NORMAL = 1.959964  # the 97.5 % quantile of the standard normal
_LEVELS = (
    0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97,
    0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 1.0,
)  # fmt: skip


def student(clusters: int) -> float:
    """Return the 97.5 % quantile of Student's t with one degree of freedom less than so many clusters."""
    return student_t(0.95, clusters - 1)


def by_count(counts: Mapping[Name, int]) -> tuple[tuple[Name, int], ...]:
    """Return names with their counts, the most frequent first; those of one count by name."""
    return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def number(value: float, n: int, unit: str, how: str) -> Number:
    """Return an estimate without an interval."""
    return Number(float(value), None, None, int(n), unit, how)


def _by_cluster(values: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    return values if clusters is None else np.bincount(clusters, values)


def ratio(
    top: np.ndarray, bottom: np.ndarray, unit: str, how: str, clusters: np.ndarray | None = None, n: int | None = None
) -> Number:
    """Return sum(top) / sum(bottom), amounts >= 0 by task, shape (tasks,). `clusters` numbers what tasks have in common."""
    whole = float(bottom.sum())
    count = round(whole) if n is None else n
    if whole <= 0:
        return number(0.0, 0, unit, how)
    value = float(top.sum()) / whole
    above, below = _by_cluster(top.astype(float), clusters), _by_cluster(bottom.astype(float), clusters)
    seen = below > 0
    above, below = above[seen], below[seen]
    if len(below) < LEAST_CLUSTERS or value <= 0:
        return number(value, count, unit, how)
    spread = _spread(above, below, value, whole) / value
    factor = math.exp(min(50.0, student(len(below)) * spread))
    return Number(value, value / factor, value * factor, count, unit, how)


def _spread(top: np.ndarray, bottom: np.ndarray, value: float, whole: float) -> float:
    """Return the standard error of a ratio; what one task weighs is taken out of its residual, which it has drawn to itself."""
    residuals = (top - value * bottom) / np.maximum(1.0 - bottom / whole, 0.05)
    return math.sqrt(float((residuals**2).sum()) * (len(top) - 1) / len(top)) / whole


def share(hits: np.ndarray, of: np.ndarray, how: str, clusters: np.ndarray | None = None) -> Number:
    """Return sum(hits) / sum(of), counts by task, with Wilson's interval for as many calls as they are worth."""
    total = float(of.sum())
    if total <= 0:
        return number(0.0, 0, "share", how)
    value = float(hits.sum()) / total
    above, below = _by_cluster(hits.astype(float), clusters), _by_cluster(of.astype(float), clusters)
    seen = below > 0
    above, below = above[seen], below[seen]
    worth, t = total, NORMAL
    if len(below) >= LEAST_CLUSTERS and 0 < value < 1:
        variance = _spread(above, below, value, total) ** 2
        worth = min(total, value * (1 - value) / variance) if variance > 0 else total
        t = student(len(below))
    middle, half = value + t * t / (2 * worth), t * math.sqrt(value * (1 - value) / worth + t * t / (4 * worth * worth))
    scale = 1 + t * t / worth
    low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
    return Number(value, min(low, value), max(high, value), int(total), "share", how)


def table(numbers: np.ndarray, mean: Number, weights: np.ndarray | None = None) -> Table:
    """Return quantiles of numbers >= 0, shape (n,), scaled so that the line through them has the mean that is given."""
    n = len(numbers)
    levels = [level for level in _LEVELS if level in (0.0, 1.0) or n * min(level, 1.0 - level) >= 1.0 - 1e-9]
    if weights is None:
        found = np.quantile(numbers, levels)
    else:
        order = np.argsort(numbers, kind="stable")
        rising = np.cumsum(weights[order])
        found = np.interp(levels, (rising - 0.5 * weights[order]) / rising[-1], numbers[order])
        found[[0, -1]] = numbers[order[[0, -1]]]
    whole = float(np.trapezoid(found, levels)) if n > 1 else float(found[0])
    if whole > 0:
        found = found * (mean.value / whole)
    elif mean.value > 0:
        found = np.full(len(levels), mean.value)
    return Table(tuple(levels), tuple(np.maximum.accumulate(found).tolist()), mean)


def values(counts: Sequence[int], how: str, clusters: np.ndarray | None = None) -> Values:
    """Return whole numbers as they were seen, one per task or per `clusters`' entry."""
    kinds, often = np.unique(np.asarray(counts, dtype=int), return_counts=True)
    ones = np.ones(len(counts))
    mean = ratio(np.asarray(counts, dtype=float), ones, "1", how, clusters)
    return Values(tuple(kinds.tolist()), tuple(often.tolist()), mean)
