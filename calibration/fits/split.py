"""Splits: which points a fit does not see.

A point is held out alone, or with all points of its shape, such as all m of a pair (n, k): what a law is asked in a run
is mostly a shape that nobody measured.

Leaves out: splits by time or by machine.
Checked: tests/test_fits.py.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["SHAPES", "folds", "held_back", "shape_groups"]

FOLDS = 5
TEST = 0.2  # share of the points, and of the shapes, that the choice of a form never sees
_ATTENTION = ("heads", "kv_heads", "head_size")
SHAPES: Mapping[str, tuple[str, ...]] = {
    "gemm": ("n", "k"),
    "attention.prefill": _ATTENTION,
    "attention.decode": _ATTENTION,
    "attention.encoder": ("heads", "head_size"),
    "attention.cross": ("heads", "head_size"),
    "moe": ("hidden", "inter", "top_k", "experts"),
}
"""The sizes that a model fixes, by operation; the others vary from call to call."""


def shape_groups(sizes: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    """Return the number of the shape that each point belongs to, shape (points,); None where there are fewer than five."""
    if not names or any(name not in sizes for name in names):
        return None
    columns = np.column_stack([sizes[name] for name in names])
    found, numbers = np.unique(columns, axis=0, return_inverse=True)
    return None if len(found) < FOLDS else np.ravel(numbers)


def folds(count: int, seed: int, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield a mask of what is held out, shape (count,), for each of five folds; every point is held out once.

    With `groups` a group lies in one fold whole. Fewer than five points or groups give as many folds.
    """
    labels = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    kinds = int(labels.max()) + 1
    fold_of = np.random.default_rng((seed, 1)).permutation(kinds) % min(FOLDS, kinds)
    for fold in range(min(FOLDS, kinds)):
        yield fold_of[labels] == fold


def held_back(count: int, seed: int, groups: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the masks of the test sets: a fifth of the shapes, whole, and a fifth of the points of the others."""
    rng = np.random.default_rng((seed, 2))
    shapes = np.zeros(count, dtype=bool)
    if groups is not None:
        kinds = np.unique(groups)
        shapes = np.isin(groups, rng.choice(kinds, max(1, round(TEST * len(kinds))), replace=False))
    rest = np.flatnonzero(~shapes)
    points = np.zeros(count, dtype=bool)
    points[rng.choice(rest, max(1, round(TEST * len(rest))), replace=False)] = True
    return {"points": points} | ({} if groups is None else {"shapes": shapes})
