"""Which classes of tasks may share a tool: those where it makes no difference that matters, or none that is more than chance.

A difference matters by what it moves: the mean T_total of a class, its rate of errors, and what its context grows by, would each of its calls
be as those of all the classes that share the tool. Chance is told over tasks: calls of one task are alike.

Leaves out: the shape of latencies, where means agree.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tables import LEAST_CLUSTERS, student

__all__ = ["SMALL", "Share", "pooled"]

SMALL = 0.01  # of T_total: a tool that takes less of it is told in short
_LITTLE = (
    0.005,
    0.015,
    0.05,
)  # of T_total, of calls that go wrong (points), of growth: what a shared tool may always move
_BY_CHANCE = (0.03, 0.03, 0.15)  # what it may move where that may be chance


@dataclass(frozen=True)
class Share:
    """A tool in one class: sums over its calls by task, shape (3, tasks): seconds, errors, tokens; and calls by task, shape (tasks,).

    `whole` is what those sums are held against: T_total (s), calls, and tokens that contexts grew by, of all tasks of the class.
    """

    sums: np.ndarray
    calls: np.ndarray
    whole: np.ndarray

    @property
    def moved(self) -> np.ndarray:
        """What the tool is of the class, shape (3,)."""
        return np.asarray(self.sums.sum(1) / np.maximum(self.whole, 1e-300))


def pooled(shares: Sequence[Share]) -> list[list[int]]:
    """Return the places of classes that share the tool, each once."""
    order = sorted(range(len(shares)), key=lambda at: (-float(shares[at].sums[0].sum()), at))
    groups: list[list[int]] = []
    if _fit(shares, order):
        return [sorted(order)]
    for at in order:
        home = next((group for group in groups if _fit(shares, [*group, at])), None)
        if home is None:
            groups.append([at])
        else:
            home.append(at)
    return sorted(sorted(group) for group in groups)


def _fit(shares: Sequence[Share], group: Sequence[int]) -> bool:
    """Return whether these classes may share the tool."""
    some = [shares[at] for at in group]
    calls = sum(float(one.calls.sum()) for one in some)
    mean = np.sum([one.sums.sum(1) for one in some], axis=0) / calls
    for at, one in enumerate(some):
        n = one.calls.sum()
        moved = np.abs(n * mean - one.sums.sum(1)) / np.maximum(one.whole, 1e-300)
        apart = [which for which in range(3) if moved[which] > _LITTLE[which]]
        if any(moved[which] > _BY_CHANCE[which] for which in apart):
            return False
        others = some[:at] + some[at + 1 :]
        if any(_differ(one, others, which) for which in apart):
            return False
    return True


def _differ(one: Share, others: Sequence[Share], which: int) -> bool:
    """Return whether the mean of a class differs from that of others by more than tasks differ by chance, at 5 %."""
    a, va, na = _mean(one.sums[which], one.calls)
    b, vb, nb = _mean(
        np.concatenate([each.sums[which] for each in others]), np.concatenate([each.calls for each in others])
    )
    if min(na, nb) < LEAST_CLUSTERS:
        return False
    return bool((a - b) ** 2 > student(min(na, nb)) ** 2 * (va + vb))


def _mean(sums: np.ndarray, calls: np.ndarray) -> tuple[float, float, int]:
    """Return a mean over calls, its variance, and the number of tasks it is from."""
    seen = calls > 0
    sums, calls = sums[seen], calls[seen]
    n = len(calls)
    value = float(sums.sum() / calls.sum())
    return value, float(((sums - value * calls) ** 2).sum()) / calls.sum() ** 2 * n / max(1, n - 1), n
