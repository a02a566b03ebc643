"""Closed forms: a constant, a sum of terms with coefficients >= 0, a roofline.

All are fitted to relative errors, and robustly: a point that is far off pulls no harder than one that is 2 % off.
Leaves out: which features to try (`candidates`); tables (`grid`).
Checked: tests/test_fits.py, which finds known parameters again.
Source: Lawson and Hanson, Solving Least Squares Problems, 1974 (nnls); Williams et al., CACM 2009 (roofline).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import least_squares, nnls

from ...sim.engine import units
from .rows import FormData, Rows, terms, written

__all__ = ["Candidate", "ConstantFit", "RooflineFit", "SumFit"]

_ENOUGH = 4000  # points that a handful of parameters is fitted to; more would cost time and tell nothing
_HUBER = 0.02  # relative error from which on a point counts by its size rather than by its square
_SOFT = 0.04  # the same in the loss of a roofline
_ROUNDS = 12
_NEGLIGIBLE = 1e-4  # a part that is never more than this share of the time is left out


class Candidate(Protocol):
    """A form that may be chosen: fewer `parameters` are simpler."""

    @property
    def parameters(self) -> int:
        """How many numbers the fit sets."""
        ...

    def fit(self, rows: Rows, seed: int) -> FormData:
        """Return the form fitted to all the rows."""
        ...


@dataclass(frozen=True)
class ConstantFit:
    """The median."""

    parameters: int = 1

    def fit(self, rows: Rows, seed: int) -> FormData:
        """Return the weighted median of the seconds."""
        order = np.argsort(rows.seconds, kind="stable")
        total = np.cumsum(rows.weights[order])
        below = order[np.searchsorted(total, total[-1] / 2)]
        above = order[min(np.searchsorted(total, total[-1] / 2, side="right"), len(rows) - 1)]
        return {"constant": written((rows.seconds[below] + rows.seconds[above]) / 2)}


@dataclass(frozen=True)
class SumFit:
    """`overhead` plus a coefficient >= 0 times each feature."""

    features: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """The overhead and the coefficients."""
        return 1 + len(self.features)

    def fit(self, rows: Rows, seed: int) -> FormData:
        """Return the sum by non-negative least squares, reweighted until it is a Huber fit of the log error."""
        rows = rows.at_most(_ENOUGH, seed)
        columns = np.column_stack([np.ones(len(rows)), *(rows.column(text) for text in self.features)])
        scale = columns.max(axis=0)
        scale[scale == 0] = 1.0  # a size may be 0 in all that this fit sees
        matrix = columns / scale
        seconds, predicted, weights = rows.seconds, rows.seconds, rows.weights
        coefficients = np.zeros(len(scale))
        for _ in range(_ROUNDS):
            # Divided by the geometric mean of both, a difference is nearly that of the logarithms: twice as much and
            # half as much weigh the same, where division by the measured alone would pull the law below its points.
            by = np.sqrt(weights) / np.sqrt(seconds * predicted)
            coefficients = np.asarray(nnls(matrix * by[:, None], seconds * by)[0])
            predicted = np.clip(matrix @ coefficients, seconds / 20, seconds * 20)
            off = np.abs(np.log(predicted / seconds))
            weights = rows.weights * _HUBER / np.maximum(off, _HUBER)
        share = (matrix * coefficients / seconds[:, None]).max(axis=0)
        kept = np.where(share > _NEGLIGIBLE, coefficients / scale, 0.0)
        overhead = {"overhead": written(kept[0])} if kept[0] > 0 else {}
        return {"sum": {**overhead, "terms": terms(self.features, kept[1:])}}


@dataclass(frozen=True)
class RooflineFit:
    """`overhead`, rate of arithmetic, memory bandwidth; a round corner where `smooth`; further terms as in a sum.

    `work` is what counts as arithmetic: `flops`, or `padded_flops` of an operation that works through whole tiles.
    """

    features: tuple[str, ...] = ()
    smooth: bool = True
    work: str = "flops"

    @property
    def parameters(self) -> int:
        """Overhead, two rates, the sharpness where there is one, and the coefficients."""
        return 3 + self.smooth + len(self.features)

    def fit(self, rows: Rows, seed: int) -> FormData:
        """Return the roofline by least squares of the log error under a soft L1 loss, the best of several starts."""
        rows = rows.at_most(_ENOUGH, seed)
        flops, moved = rows.column(self.work), rows.column("bytes_moved")
        extra = np.column_stack([np.zeros((len(rows), 0)), *(rows.column(text) for text in self.features)])
        logs, root = np.log(rows.seconds), np.sqrt(rows.weights)

        def parts(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            busy, traffic = flops / np.exp(theta[1]), moved / np.exp(theta[2])
            longer = np.maximum(np.maximum(busy, traffic), 1e-30)
            if self.smooth:
                p = 1.0 + np.exp(theta[3])
                longer = longer * ((busy / longer) ** p + (traffic / longer) ** p) ** (1.0 / p)
            return longer, extra * np.exp(theta[3 + self.smooth :])

        def residual(theta: np.ndarray) -> np.ndarray:
            longer, more = parts(theta)
            return np.asarray(root * (np.log(np.exp(theta[0]) + longer + more.sum(axis=1)) - logs))

        start = self._start(rows, flops, moved, extra)
        best = None
        for rates in ((0.0, 0.0), (1.2, 0.0), (0.0, 1.2)):
            moved_start = start + np.array([0.0, *rates, *np.zeros(len(start) - 3)])
            found = least_squares(
                residual, moved_start, bounds=self._bounds(start), loss="soft_l1", f_scale=_SOFT, max_nfev=60
            )
            if best is None or found.cost < best.cost - 1e-12:
                best = found
        assert best is not None
        return self._form(best.x, parts(best.x)[1], rows)

    def _start(self, rows: Rows, flops: np.ndarray, moved: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """Return logarithms of: half the least time, the best rates seen, a small share for each further term."""
        least = 0.5 * rows.seconds.min()
        rates = [max(float(np.quantile(work / rows.seconds, 0.99)), 1.0) for work in (flops, moved)]
        shares = [0.05 * float(np.median(rows.seconds / np.maximum(column, 1e-9))) for column in extra.T]
        return np.log([least, *rates, *([1.0] if self.smooth else []), *shares])

    def _bounds(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # A rate that no point is limited by could be anything: at most 33 times the best seen keeps it physical.
        low, high = start - 14.0, start + 3.5
        if self.smooth:
            low[3], high[3] = np.log(0.05), np.log(30.0)
        return low, high

    def _form(self, theta: np.ndarray, more: np.ndarray, rows: Rows) -> FormData:
        overhead, compute, memory = (float(value) for value in np.exp(theta[:3]))
        share = (more / rows.seconds[:, None]).max(axis=0, initial=0.0)
        seconds = np.where(share > _NEGLIGIBLE, np.exp(theta[3 + self.smooth :]), 0.0)
        form: FormData = {
            "compute": written(min(compute, units.FLOP_RATE.high), units.FLOP_RATE),
            "memory": written(min(memory, units.BANDWIDTH.high), units.BANDWIDTH),
        }
        if overhead > _NEGLIGIBLE * rows.seconds.min():
            form = {"overhead": written(overhead), **form}
        if self.work != "flops":
            form["work"] = self.work
        if self.smooth:
            form["sharpness"] = float(f"{1.0 + np.exp(theta[3]):.5g}")
        if len(seconds) and seconds.any():
            form["terms"] = terms(self.features, seconds)
        return {"roofline": form}
