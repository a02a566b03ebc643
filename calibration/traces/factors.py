"""A factor that all calls of a task have in common: how much it varies, from what tasks take in all.

Each task's calls are expected to take so long; what tasks take beyond that, squared, less what chance gives so many calls, over what was expected,
squared, is the variance of the factor. Calls of several tools may be taken together: each has a factor of its own, all of one variance, that
which gives the time of all of them its variance between tasks. Logs of times would tell more where all times were lognormal; but where tasks
have more or fewer of the slow calls, they take that for a factor.

A variance that few tasks tell is drawn towards 0, by as much as its standard error is large.

Leaves out: factors that change during a task.
Checked: tests/test_trace_fit.py, against simulated tasks.
Source: Searle, Casella and McCulloch, Variance Components, 1992, ch. 5 (estimates by moments); Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, ch. 11 (the jackknife).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .fitted import Number
from .tables import number, student

__all__ = ["Factor", "factor_of"]

LEAST_TASKS = 8  # fewer do not tell how tasks differ
_LEAST, _MOST = 0.2, 5.0  # of one task's own factor
_MOST_WEIGHT = 0.5  # of one task, in the correction for what it has drawn to the mean
_HOW = "variance of the log of a factor that a task's calls share, by what tasks take in all; interval by leaving out tasks"


@dataclass(frozen=True)
class Factor:
    """The variance of the log of the factor, and by call its task's own factor (1: not told), drawn towards 1."""

    variance: Number
    own: np.ndarray  # (calls,)


@dataclass(frozen=True)
class _Cells:
    """Sums over the calls of one tool in one task: what they took, what was expected, and what chance gives that (a variance)."""

    task: np.ndarray
    took: np.ndarray
    expected: np.ndarray
    chance: np.ndarray


def factor_of(seconds: np.ndarray, expected: np.ndarray, tasks: np.ndarray, tools: np.ndarray | None = None) -> Factor:
    """Return the factor of calls: each took `seconds`, of which `expected` were, in the task and of the tool of these numbers, shape (calls,)."""
    which = tasks if tools is None else tasks * (int(tools.max()) + 1 if len(tools) else 1) + tools
    kinds, first, place = np.unique(which, return_index=True, return_inverse=True)
    none = Factor(
        number(0.0, len(np.unique(tasks)), "1", "too few tasks to tell a factor: taken as none"), np.ones(len(seconds))
    )
    if len(np.unique(tasks)) < LEAST_TASKS or expected.sum() <= 0 or len(kinds) == len(seconds):
        return none
    expected = expected * (seconds.sum() / expected.sum())
    cells = _cells(seconds, expected, place, tasks[first])
    found = _variance(cells)
    value = max(0.0, found.value)
    if value > 0:
        sure = value * cells.expected**2
        weight = sure / np.maximum(sure + cells.chance, 1e-300)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(cells.expected > 0, cells.took / cells.expected, 1.0)
        own = np.clip(1.0 + weight * (ratio - 1.0), _LEAST, _MOST)[place]
    else:
        own = none.own
    low, high = (None if end is None else math.log1p(max(0.0, end)) for end in (found.low, found.high))
    log = Number(math.log1p(value), low, high, found.n, "1", _HOW)
    return Factor(log, own)


def _cells(seconds: np.ndarray, expected: np.ndarray, place: np.ndarray, task: np.ndarray) -> _Cells:
    n = np.bincount(place)
    took, due = np.bincount(place, seconds), np.bincount(place, expected)
    squares = np.bincount(place, expected**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(due > 0, took / due, 1.0)
    inner = np.bincount(place, (seconds - ratio[place] * expected) ** 2)
    # What one call of a kind varies by, in parts of what was expected of it squared, where it has no other beside it.
    several = n > 1
    alone = float(inner[several].sum() / max(1e-300, (squares * (n - 1) / n)[several].sum())) if several.any() else 0.0
    own = n / np.maximum(n - 1, 1) * inner
    return _Cells(task, took, due, np.where(several, own, alone * squares))


def _variance(cells: _Cells) -> Number:
    """Return the variance of the factor, drawn towards 0, with its interval."""
    task = np.unique(cells.task, return_inverse=True)[1].ravel()
    took, expected, chance, squares = (
        np.bincount(task, one) for one in (cells.took, cells.expected, cells.chance, cells.expected**2)
    )
    own = np.minimum(expected / expected.sum(), _MOST_WEIGHT)
    off = ((took - expected) / (1.0 - own)) ** 2
    of = len(off)
    value = float((off - chance).sum() / squares.sum())
    left = np.maximum(squares.sum() - squares, 1e-300)
    without = (off.sum() - off - chance.sum() + chance) / left
    error = math.sqrt(float(((without - without.mean()) ** 2).sum()) * (of - 1) / of)
    if value <= 0:
        return Number(0.0, 0.0, max(0.0, value + student(of) * error), of, "1", _HOW)
    drawn = value**3 / (value**2 + error**2)
    between = np.log(np.maximum((off.sum() - off) / left, 1e-300))
    half = min(50.0, student(of) * math.sqrt(float(((between - between.mean()) ** 2).sum()) * (of - 1) / of))
    whole, by_chance = float(off.sum() / squares.sum()), float(chance.sum() / squares.sum())
    low, high = (max(0.0, whole * math.exp(sign * half) - by_chance) for sign in (-1, 1))
    return Number(drawn, min(low, drawn), max(high, drawn), of, "1", _HOW)
