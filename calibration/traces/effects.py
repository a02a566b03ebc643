"""How calls go wrong: how often, after an error, and how tasks differ in it.

Where some tasks have many, an error often follows an error though neither causes the other. The odds ratio inside of tasks (Mantel
and Haenszel) is free of that; it is divided by what it comes to if the errors of each task are put in any order, which is below 1.

Leaves out: errors of one tool that follow those of another.
Checked: tests/test_trace_fit.py, against simulated tasks.
Source: Searle, Casella and McCulloch, Variance Components, 1992, ch. 3; Mantel and Haenszel, JNCI 22 (1959); Robins, Breslow and Greenland,
Biometrics 42 (1986) (its variance); Ridout, Demetrio and Firth, Biometrics 55 (1999) (correlation inside of clusters from an ANOVA).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from .fitted import ErrorFit, Number
from .tables import LEAST_CLUSTERS, NORMAL, by_count, number, share, student

__all__ = ["Outcomes", "chain", "error_fit", "tool_errors"]

_LEAST_PAIRS = 30  # calls that follow an error


def _mean_squares(n: np.ndarray, sums: np.ndarray, inner: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares between and within tasks, and the typical number of calls of a task."""
    calls, of = n.sum(), len(n)
    between = (sums**2 / n).sum() - sums.sum() ** 2 / calls
    typical = (calls - (n**2).sum() / calls) / (of - 1)
    return max(0.0, float(between)) / (of - 1), float(inner.sum()) / max(1.0, calls - of), max(1e-9, float(typical))


def _without_each(n: np.ndarray, sums: np.ndarray, whole: tuple[float, float, float]) -> tuple[float, float]:
    """Return the interval of the variance by the jackknife of the log of the mean square between tasks."""
    of, calls = len(n), n.sum()
    left, total = calls - n, sums.sum() - sums
    squares = (sums**2 / n).sum() - sums**2 / n
    between = np.maximum(squares - total**2 / left, 1e-300) / (of - 2)
    logs = np.log(between)
    half = student(of) * math.sqrt(float(((logs - logs.mean()) ** 2).sum()) * (of - 1) / of)
    low, high = (whole[0] * math.exp(sign * min(half, 50.0)) for sign in (-1, 1))
    return max(0.0, (low - whole[1]) / whole[2]), max(0.0, (high - whole[1]) / whole[2])


@dataclass(frozen=True)
class Outcomes:
    """Whether each call went wrong, in order inside of each task (`tasks` are numbers that do not fall), and the types of errors."""

    wrong: np.ndarray  # (calls,), bool
    tasks: np.ndarray  # (calls,)
    types: tuple[str, ...]
    clusters: np.ndarray | None = None  # by task


def by_task(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and calls by task, shape (tasks,)."""
    size = int(outcomes.tasks.max()) + 1 if len(outcomes.tasks) else 0
    if outcomes.clusters is not None:
        size = len(outcomes.clusters)
    return np.bincount(outcomes.tasks, outcomes.wrong, size), np.bincount(outcomes.tasks, minlength=size).astype(float)


def error_fit(outcomes: Outcomes) -> ErrorFit:
    """Return how the calls of some tasks go wrong."""
    hits, of = by_task(outcomes)
    rate = share(hits, of, "errors of calls that were not tried again", outcomes.clusters)
    types = by_count(Counter(outcomes.types))
    odds, pooled = _odds(outcomes)
    after = none = None
    correlation = 0.0
    if odds is not None and 0 < rate.value < 1:
        low, high = chain(rate.value, odds.value)
        correlation = high - low
        none, after = (_of_chain(rate, odds, which) for which in (0, 1))
    return ErrorFit(rate, after, none, odds, pooled, _concentration(hits, of, rate.value, correlation), types)


def _of_chain(rate: Number, odds: Number, which: int) -> Number:
    """Return the probability of an error after none (0) or after an error (1), as far from it as rate and odds may be."""

    def logit(of: float, ratio: float) -> float:
        p = min(1 - 1e-9, max(1e-9, chain(of, ratio)[which]))
        return math.log(p / (1 - p))

    at = logit(rate.value, odds.value)
    value = chain(rate.value, odds.value)[which]
    how = "of a chain with the rate and the odds ratio inside of tasks"
    if odds.low is None or odds.high is None or rate.low is None or rate.high is None:
        return number(value, odds.n, "share", how)
    ends = [
        (logit(one, odds.value) - at, logit(rate.value, other) - at)
        for one, other in ((rate.low, odds.low), (rate.high, odds.high))
    ]
    moves = [move for pair in ends for move in pair]
    down, up = (math.sqrt(sum(min(0.0, sign * move) ** 2 for move in moves)) for sign in (1, -1))
    low, high = (1 / (1 + math.exp(-(at + by))) for by in (-down, up))
    return Number(value, min(low, value), max(high, value), odds.n, "share", how)


def _odds(outcomes: Outcomes) -> tuple[Number | None, float | None]:
    """Return the odds ratio of an error after an error against one after none, inside of tasks, and over all of them."""
    wrong, tasks = outcomes.wrong.astype(float), outcomes.tasks
    same = tasks[1:] == tasks[:-1]
    before, now, where = wrong[:-1][same], wrong[1:][same], tasks[1:][same]
    if before.sum() < _LEAST_PAIRS or (1 - before).sum() < _LEAST_PAIRS or now.sum() == 0 or (before * now).sum() == 0:
        return None, None
    a, b = np.bincount(where, before * now), np.bincount(where, before * (1 - now))
    c, d = np.bincount(where, (1 - before) * now), np.bincount(where, (1 - before) * (1 - now))
    pairs = a + b + c + d
    kept = pairs > 0
    a, b, c, d, pairs = a[kept], b[kept], c[kept], d[kept], pairs[kept]
    pooled = float(a.sum() * d.sum() / max(1e-9, b.sum() * c.sum()))
    r, s = a * d / pairs, b * c / pairs
    if r.sum() == 0 or s.sum() == 0:
        return None, pooled
    value = float(r.sum() / s.sum()) / _by_chance(wrong, tasks)
    p, q = (a + d) / pairs, (b + c) / pairs
    variance = (
        (p * r).sum() / (2 * r.sum() ** 2)
        + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
        + (q * s).sum() / (2 * s.sum() ** 2)
    )
    factor = math.exp(NORMAL * math.sqrt(float(variance)))
    how = "odds ratio inside of tasks (Mantel-Haenszel), against what any order of the same errors gives"
    return Number(value, value / factor, value * factor, int(before.sum()), "1", how), pooled


def _by_chance(wrong: np.ndarray, tasks: np.ndarray) -> float:
    """Return what the ratio comes to if the errors of each task come in any order."""
    e, n = np.bincount(tasks, wrong), np.bincount(tasks).astype(float)
    seen = n > 1
    e, n = e[seen], n[seen]
    well = n - e
    both = e * (e - 1) * well * (well - 1) / (n * n * (n - 1))
    one = (e * well) ** 2 / (n * n * (n - 1))
    return float(both.sum() / one.sum()) if both.sum() > 0 and one.sum() > 0 else 1.0


def chain(rate: float, odds: float, mean: float | None = None) -> tuple[float, float]:
    """Return P(error | none before) and P(error | an error before) with that ratio of odds, and `rate` on the whole.

    `mean` is how often there was an error before, where that is not `rate`: the call before may be another tool's.
    """
    before = rate if mean is None else mean
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        after = odds * p / (1 - p + odds * p) if p < 1 else 1.0
        low, high = (p, high) if before * after + (1 - before) * p < rate else (low, p)
    p = (low + high) / 2
    return p, odds * p / (1 - p + odds * p)


def _concentration(hits: np.ndarray, of: np.ndarray, rate: float, correlation: float) -> Number | None:
    """Return the concentration of a Beta of rates over tasks: 1 / correlation inside of tasks - 1.

    What a chain of errors adds to the variance of a task's rate is taken off first.
    """
    seen = of > 0
    hits, of = hits[seen], of[seen]
    if len(of) <= LEAST_CLUSTERS or of.sum() <= len(of) or not 0 < rate < 1:
        return None
    between, within, typical = _mean_squares(of, hits, hits * (1 - hits / of))
    longer = (1 + correlation) / (1 - correlation)
    value = (between - within * longer) / typical

    def of_variance(variance: float) -> float:
        inner = min(0.99, variance / (variance + within)) if variance + within > 0 else 0.0
        return float(1 / inner - 1) if inner > 0 else math.inf

    if value <= 0 or of_variance(value) > 1000:
        return None
    low, high = _without_each(of, hits, (between, within * longer, typical))
    how = "Beta of error rates over tasks, by analysis of variance"
    ends = (min(of_variance(max(high, value)), of_variance(value)), min(1e6, of_variance(min(low, value))))
    return Number(of_variance(value), *ends, len(of), "1", how)


def tool_errors(outcomes: Outcomes, over: ErrorFit) -> ErrorFit:
    """Return how one tool goes wrong: its own rate, and the odds ratio of all of them."""
    hits, of = by_task(outcomes)
    rate = share(hits, of, "errors of calls that were not tried again", outcomes.clusters)
    types = by_count(Counter(outcomes.types))
    after = none = None
    if over.odds is not None and 0 < rate.value < 1:
        how = "of the tool's rate, and the odds ratio over all tools"
        low, high = chain(rate.value, over.odds.value, over.rate.value)
        after, none = number(high, rate.n, "share", how), number(low, rate.n, "share", how)
    return ErrorFit(rate, after, none, over.odds, over.pooled, over.concentration, types)
