"""Grids: a closed form times the exponential of tables over logarithms of sizes, whose nodes are fitted.

A node is a parameter: smoothing ties it to its neighbours, so a table may have more nodes than points and still say
nothing where there is nothing to say. How strong the smoothing is, the points of the fit decide among themselves.

Leaves out: axes that the format cannot name, such as whole tiles of a kernel.
Checked: tests/test_fits.py.
Source: Eilers and Marx, Statistical Science 1996 (tables with a penalty on differences); Huber 1964 (robust loss).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import spsolve

from ...sim.engine import units
from ...sim.profile.forms import weights as place
from .closed import Candidate
from .rows import FormData, Rows, predict, written
from .split import folds

__all__ = ["Axis", "GridFit", "TablePlan", "smoothings_for"]

_HUBER = 0.04
_RIDGE = 1e-3  # draws a node that no point touches, nor its neighbours, to no correction at all
_DENSE = 4000  # nodes up to which a dense solution is the faster one
_MANY = 2000  # points from which on one fold tells enough
_LEAST = 1e-9  # what the format takes for a size of 0 on a logarithmic axis
_SMOOTHINGS = ((0.003, 0.01), (0.01, 0.03), (0.05, 0.15), (0.2, 0.6), (1.0, 3.0), (5.0, 15.0), (50.0, 150.0))


@dataclass(frozen=True)
class Axis:
    """A feature, its knots (rising, > 0, in its own unit), and how much more its differences are smoothed than others'."""

    feature: str
    knots: tuple[float, ...]
    stiffness: float = 1.0


@dataclass(frozen=True)
class TablePlan:
    """The axes of a table; `stiffness` multiplies its smoothing."""

    axes: tuple[Axis, ...]
    stiffness: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of knots on each axis."""
        return tuple(len(axis.knots) for axis in self.axes)

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return math.prod(self.shape)


def smoothings_for(points: int) -> tuple[tuple[float, float], ...]:
    """Return the strengths to try, of first and second differences: where points abound, strong ones have no chance."""
    return _SMOOTHINGS if points < _MANY else _SMOOTHINGS[:4]


@dataclass(frozen=True)
class GridFit:
    """`base`, corrected by `tables`. With one smoothing it is taken; among several the fit's own points decide.

    `bandwidth` (bytes/s) is nominally the memory's: it is the grid's floor, unless the points themselves beat it.
    """

    base: Candidate
    tables: tuple[TablePlan, ...]
    smoothings: tuple[tuple[float, float], ...] = field(default=_SMOOTHINGS)
    bandwidth: float | None = None

    @property
    def parameters(self) -> int:
        """Those of the base, and the nodes."""
        return self.base.parameters + sum(table.nodes for table in self.tables)

    def fit(self, rows: Rows, seed: int) -> FormData:
        """Return the grid with its base fitted first, then its nodes to what the base leaves."""
        base = self.base.fit(rows, seed)
        target = np.log(rows.seconds / predict(base, rows))
        matrix = sparse.csr_matrix(sparse.hstack([design(table, rows) for table in self.tables]))
        smoothing = self.smoothings[0]
        if len(self.smoothings) > 1:
            smoothing = self._smoothing(matrix, target, rows, seed)
        nodes = _nodes(matrix, target, rows.weights, _penalty(self.tables, smoothing))
        grid: FormData = {"base": base, "tables": self._written(nodes)}
        if self.bandwidth is not None and (rows.column("bytes_moved") <= self.bandwidth * rows.seconds).all():
            grid["floor"] = written(self.bandwidth, units.BANDWIDTH)
        return {"grid": grid}

    def _smoothing(self, matrix: sparse.csr_matrix, target: np.ndarray, rows: Rows, seed: int) -> tuple[float, float]:
        """Return the smoothing with the least error on folds of these rows: median, and a quarter of the p95."""
        held = list(folds(len(rows), seed + 1, rows.groups))[: 1 if len(rows) >= _MANY else 3]
        scores = []
        for smoothing in self.smoothings:
            penalty = _penalty(self.tables, smoothing)
            off = [
                matrix[out] @ _nodes(matrix[~out], target[~out], rows.weights[~out], penalty, rounds=3) - target[out]
                for out in held
            ]
            errors = np.abs(np.expm1(np.clip(np.concatenate(off), -20, 20)))
            scores.append(float(np.median(errors) + 0.25 * np.quantile(errors, 0.95)))
        return self.smoothings[int(np.argmin(scores))]

    def _written(self, nodes: np.ndarray) -> list[FormData]:
        tables: list[FormData] = []
        for table in self.tables:
            own, nodes = nodes[: table.nodes], nodes[table.nodes :]
            values = [round(float(value), 4) + 0.0 for value in own]
            tables.append(
                {"axes": {axis.feature: [float(knot) for knot in axis.knots] for axis in table.axes}, "nodes": values}
            )
        return tables


def design(table: TablePlan, rows: Rows) -> sparse.csr_matrix:
    """Return the shares of the nodes in each point, shape (points, nodes): what the format's tables do, as a matrix."""
    count = len(rows)
    index, share = np.zeros((count, 1), dtype=np.int64), np.ones((count, 1))
    for axis in table.axes:
        at = np.log2(np.maximum(rows.column(axis.feature), _LEAST))
        below, part, knots = place(at, np.log2(axis.knots))
        above = np.minimum(below + 1, knots - 1)
        index = np.concatenate([index * knots + below[:, None], index * knots + above[:, None]], axis=1)
        share = np.concatenate([share * (1.0 - part)[:, None], share * part[:, None]], axis=1)
    starts = np.arange(count + 1) * index.shape[1]
    made = sparse.csr_matrix((share.ravel(), index.ravel(), starts), shape=(count, table.nodes))
    made.sum_duplicates()
    return made


def _penalty(tables: Sequence[TablePlan], smoothing: tuple[float, float]) -> sparse.csr_matrix:
    """Return P: nodes' P nodes is the sum of squared first and second differences along each axis, and a small ridge.

    Differences are taken from knot to knot, however far apart: knots set closely are meant to allow a step.
    """
    blocks = []
    for table in tables:
        total = sparse.csr_matrix(_RIDGE * sparse.identity(table.nodes))
        for number, axis in enumerate(table.axes):
            for order, strength in enumerate(smoothing, start=1):
                if len(axis.knots) <= order:
                    continue
                along = sparse.csr_matrix(np.diff(np.eye(len(axis.knots)), n=order, axis=0))
                before, after = math.prod(table.shape[:number]), math.prod(table.shape[number + 1 :])
                spread = sparse.kron(sparse.kron(sparse.identity(before), along), sparse.identity(after))
                total = total + strength * axis.stiffness * table.stiffness * (spread.T @ spread)
        blocks.append(total)
    return sparse.csr_matrix(sparse.block_diag(blocks))


def _nodes(
    matrix: sparse.csr_matrix,
    target: np.ndarray,
    weights: np.ndarray,
    penalty: sparse.csr_matrix,
    rounds: int = 5,
) -> np.ndarray:
    """Return the nodes by penalized least squares, reweighted into a Huber loss, from the normal equations."""
    by, nodes = weights, np.zeros(matrix.shape[1])
    whole = penalty.toarray() if matrix.shape[1] <= _DENSE else None
    for _ in range(rounds):
        normal = matrix.T @ sparse.csr_matrix(matrix.multiply(by[:, None]))
        right = matrix.T @ (by * target)
        if whole is None:
            nodes = np.asarray(spsolve(sparse.csc_matrix(normal + penalty), right))
        else:
            nodes = linalg.solve(normal.toarray() + whole, right, assume_a="pos", overwrite_a=True, check_finite=False)
        off = np.abs(matrix @ nodes - target)
        by = weights * _HUBER / np.maximum(off, _HUBER)
    return np.asarray(nodes, dtype=float)
