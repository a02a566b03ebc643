"""Which tool comes next: a chain on the last tool, with rare tools joined.

A row is the counts of what followed a tool plus one call that is spread as all calls are, so that a row of few calls says little of its own, and
no step that another task may take is impossible. The chain has no end: how many turns there are is a number of its own, since tasks
that end after a given number of turns are not those of a chain that may end at any.

Leaves out: choices by more than the last tool; preferences of a task for a tool.
Checked: tests/test_trace_fit.py.
Source: Gelman et al., Bayesian Data Analysis, 3rd ed., 3.4 (a Dirichlet prior of weight one).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from .fitted import OTHER, Choice
from .tables import by_count

__all__ = ["HOW", "chain_of", "joined"]

_MOST_TOOLS = 40
_LEAST_CALLS = 5
_LEAST_SHARE, _LEAST_TIME = 0.02, 0.01  # of calls, and of T_total
_MOST_JOINED = 0.1  # of calls, by being rare in that
_PRIOR = 1.0
HOW = "counts of what followed a tool, and one call spread as all calls are"


def joined(calls: Sequence[tuple[str, float]], whole: float) -> dict[str, str]:
    """Return what each tool is called in the fit: itself, or `other` where it is rare, takes little time, and is not the only such.

    `calls` are names of tools and how long each call took (s), `whole` is T_total of the tasks (s).
    """
    often = Counter(name for name, _ in calls)
    spent: defaultdict[str, float] = defaultdict(float)
    for name, seconds in calls:
        spent[name] += seconds
    ranked = [name for name, _ in by_count(often)]
    rare, left = [], 0
    for place, name in reversed(list(enumerate(ranked))):
        little = often[name] < _LEAST_SHARE * len(calls) and spent[name] < _LEAST_TIME * whole
        little = little and left + often[name] <= _MOST_JOINED * len(calls)
        if place >= _MOST_TOOLS or often[name] < _LEAST_CALLS or little:
            rare.append(name)
            left += often[name]
    if len(rare) < 2:
        rare = []
    return {name: OTHER if name in set(rare) else name for name in ranked}


def chain_of(sequences: Sequence[Sequence[str]]) -> Choice | None:
    """Return the chain of sequences of tools by key, one per task; None where there is no call."""
    keys = list(dict.fromkeys(key for one in sequences for key in one))
    if not keys:
        return None
    place = {key: i for i, key in enumerate(keys)}
    size = len(keys)
    counts = np.zeros((size + 1, size))
    overall = np.zeros(size)
    for one in sequences:
        if not one:
            continue
        at = np.array([place[key] for key in one])
        counts[size, at[0]] += 1
        np.add.at(counts, (at[:-1], at[1:]), 1)
        np.add.at(overall, at, 1)
    seen = counts.sum(1)
    counts += _PRIOR * overall / overall.sum()
    counts /= counts.sum(1, keepdims=True)
    rows = [tuple(zip(keys, row.tolist(), strict=True)) for row in counts]
    named = tuple((key, rows[i], int(seen[i])) for i, key in enumerate(keys))
    return Choice(rows[size], named, HOW)
