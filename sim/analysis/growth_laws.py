"""Laws that a curve T(x) may follow, fitted by weighted least squares, and the choice among them on held-out error.

    constant    a
    linear      a + b x
    barrier     a + b H_x, the harmonic number: the mean of the largest of x iid exponential times is H_x times theirs
    x log x     a + b x ln x
    quadratic   a + b x + c x^2
    power       a + b x^p

`a` and `b` may have any sign. T is asked for where it was measured, from x = 1 say, and `a` is no time of anything:
pairs of x cost x (x - 1) / 2, waiting for the last of x costs H_x - 1, and both need a negative term. A power below 0
(then b < 0) is growth that levels off, and p = 0 is a + b ln x; both are reached without a seam, because the search is
over (x^p - 1) / p (Box and Cox).

Errors are taken relative to `scales`: T itself, but at most the growth over the range (else an offset would hide how the
curve grows) and at least a thousandth of that (T may be 0 where there is nothing to coordinate).

A law is asked in two ways: for each point, fitted to the others; and for the points of the largest quarter of x, fitted
to the rest. Its error is the mean of the two medians, so going on beyond the data counts as much as filling in. The law
with the least error leads. Near it are those within one standard error (bootstrap over the points) or 0.001. Chosen is
the one near it with the fewest parameters. None is where near ones differ in what they say of growth, or where that one
misfits by as much as makes `growth` refuse an exponent.

Leaves out: sums of several laws; laws with a bend at a known x; robust fits.
Checked: tests/test_growth.py, with curves of known laws.
Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., 7.10 (one-standard-error rule);
Box and Cox (1964); Box, Annals of Mathematical Statistics 25 (1954), and Bai and Saranadasa, Statistica Sinica 6 (1996)
(the test of fit).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .statistics import Estimate, student_t

Array = npt.NDArray[np.float64]

LAWS = {"constant": 1, "linear": 2, "barrier": 2, "x log x": 2, "quadratic": 3, "power": 3}  # how many parameters
FEWEST = 6  # points below which no law is chosen: a power law has three parameters, and a quarter of x is held out
LINEAR = (0.9, 1.1)  # exponents that are called linear
POWERS = (-3.0, 8.0)  # exponents that are searched; an end of an interval at either is unknown

_STEP = 0.1
_GOLDEN = (math.sqrt(5) - 1) / 2
_NARROWINGS = 34  # golden sections: 0.2 * 0.618^34 is below 1e-7
_TOLERANCE = 0.001
_EXACT = 1e-12  # of T: a spread below is rounding
_RESAMPLES = 400
# The line through the variances counts as much as this many degrees of freedom of a point's own. With as few as 4, the
# weights follow the noise, and intervals of the exponent from 5 replications cover 90 rather than 93 %.
_LINE = 30
_FLOOR = 0.1  # a point known much better than the others counts as if it were known this much better at most


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """T at some x: `x` > 0 and rising, shape (points,); `values`, shape (replications, points), in `unit`.

    A replication has the same random numbers at every x. Raises ValueError for shapes that do not go together, fewer
    than two points, no replication, an x that does not rise or is not > 0, and values that are not finite.
    """

    x: Array
    values: Array
    label: str = ""
    unit: str = "s"

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", np.asarray(self.x, dtype=np.float64))
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float64))
        if self.x.ndim != 1 or self.values.ndim != 2 or self.values.shape[1] != self.x.size:
            raise ValueError(
                "x must have shape (points,) and values (replications, points), "
                f"got {self.x.shape} and {self.values.shape}"
            )
        if self.x.size < 2 or self.values.shape[0] < 1:
            raise ValueError(f"a curve needs two points and a replication, got values of shape {self.values.shape}")
        if not (np.isfinite(self.x).all() and self.x[0] > 0 and (np.diff(self.x) > 0).all()):
            raise ValueError(f"x must be > 0 and rise from point to point, got {self.x.tolist()}")
        if not np.isfinite(self.values).all():
            raise ValueError(f"values must be finite, got {self.values[~np.isfinite(self.values)][:5].tolist()}")

    @property
    def mean(self) -> Array:
        """The mean over replications, shape (points,)."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def exact(self) -> bool:
        """Whether two replications or more are all the same, so that there is no chance in the curve."""
        spread, level = float(np.ptp(self.values, axis=0).max()), float(np.abs(self.values).max())
        return self.values.shape[0] > 1 and spread <= _EXACT * level


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A law fitted to all points.

    `held_out` is its error on points it did not see, `held_out_se` the standard error of that (nan with fewer than six
    points). `lack_of_fit` is the p-value of the residuals against the replications' spread (None where that is not
    known), `worst` the largest |residual| over `scales`. `fitted` has shape (points,), in the unit of T.
    """

    law: str
    parameters: dict[str, float]
    held_out: float
    held_out_se: float
    lack_of_fit: float | None
    worst: float
    fitted: Array

    def to_data(self) -> dict[str, Any]:
        """Return it as JSON has it; what is not known is null."""
        return {
            "law": self.law,
            "parameters": {name: finite(value) for name, value in self.parameters.items()},
            "held_out": finite(self.held_out),
            "held_out_se": finite(self.held_out_se),
            "lack_of_fit": self.lack_of_fit,
            "worst_residual": self.worst,
            "fitted": [float(value) for value in self.fitted],
        }


def finite(value: float) -> float | None:
    """Return a finite number, None for any other: JSON has no infinity."""
    return float(value) if math.isfinite(value) else None


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON has it."""
    return {
        "value": finite(estimate.value),
        "low": finite(estimate.low),
        "high": finite(estimate.high),
        "confidence": estimate.confidence,
        "n": estimate.n,
        "method": estimate.method,
    }


def scales(mean: Array) -> Array:
    """Return what an error of T is relative to at each point, shape (points,), always > 0 (see above)."""
    span = float(np.ptp(mean))
    level = float(np.abs(mean).max()) or 1.0
    if span <= 1e-12 * level:
        return np.full(mean.size, level)
    return np.asarray(np.clip(np.abs(mean), span / 1000, span))


def sections(x: Array) -> list[int]:
    """Return the points that part the range into two to four sections, about even in log x."""
    count = 4 if x.size >= 9 else 3 if x.size >= 7 else 2
    z = np.log(x)
    nearest = {int(np.abs(z - at).argmin()) for at in np.linspace(z[0], z[-1], count + 1)}
    return sorted(nearest)


def weights(x: Array, values: Array, exact: bool) -> Array:
    """Return a weight for each point: one over the variance of its replications, or over its scale squared.

    The latter where the curve is `exact` or has fewer than three replications. A variance of few replications is itself
    uncertain, so it is drawn towards a straight line in log x through all of them. The weights do not touch what is
    claimed: intervals and tests come from the replications, whatever the weights.
    """
    scale = scales(values.mean(axis=0))
    if exact or values.shape[0] < 3:
        return np.asarray(1 / scale**2)
    spread = values.std(axis=0, ddof=1) / scale
    spread = np.maximum(spread, _FLOOR * float(np.median(spread[spread > 0])))
    own, z = 2 * np.log(spread * scale), np.log(x)
    line = np.polyval(np.polyfit(z, own, 1), z) if x.size > 2 else own
    degrees = values.shape[0] - 1
    return np.asarray(np.exp(-(degrees * own + _LINE * line) / (degrees + _LINE)))


def best_powers(x: Array, curves: Array, weight: Array) -> Array:
    """Return the exponent of the power law with offset that fits each curve best, shape (curves,).

    `curves` and `weight` have shapes (curves, points); a weight of 0 leaves a point out. Offset and factor are solved for
    at each exponent: a grid first, as there may be several valleys, then a golden section for all curves at once.
    """
    z = np.log(x) - float(np.log(x).mean())
    grid = np.arange(POWERS[0], POWERS[1] + _STEP / 2, _STEP)
    basis = power_basis(z, grid[:, None])
    total = weight.sum(axis=1, keepdims=True)
    centred = curves - (weight * curves).sum(axis=1, keepdims=True) / total
    first = weight @ basis.T
    square = weight @ (basis**2).T - first**2 / total
    explained = ((weight * centred) @ basis.T) ** 2 / square
    middle = grid[np.argmax(explained, axis=1)]
    low, high = np.maximum(middle - _STEP, POWERS[0]), np.minimum(middle + _STEP, POWERS[1])
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    left, right = (_unexplained(z, p, centred, weight) for p in (a, b))
    for _ in range(_NARROWINGS):
        down = left < right
        low, high = np.where(down, low, a), np.where(down, b, high)
        new = np.where(down, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        value = _unexplained(z, new, centred, weight)
        a, b = np.where(down, new, b), np.where(down, a, new)
        left, right = np.where(down, value, right), np.where(down, left, value)
    return np.asarray((low + high) / 2)


def power_basis(z: Array, p: Array | float) -> Array:
    """Return (exp(p z) - 1) / p, which is z where p is 0."""
    from scipy.special import exprel

    return np.asarray(z * exprel(p * z))


def _unexplained(z: Array, p: Array, curves: Array, weight: Array) -> Array:
    """Return the weighted sum of squared residuals of each curve at its own exponent."""
    basis = power_basis(z, p[:, None])
    total = weight.sum(axis=1, keepdims=True)
    basis = basis - (weight * basis).sum(axis=1, keepdims=True) / total
    slope = (weight * basis * curves).sum(axis=1) / (weight * basis**2).sum(axis=1)
    return np.asarray((weight * (curves - slope[:, None] * basis) ** 2).sum(axis=1))


def fit_laws(x: Array, values: Array, weight: Array, noise: bool, seed: int) -> tuple[tuple[Fit, ...], tuple[Fit, ...]]:
    """Return each law that has fewer parameters than there are points, and of these the ones near the best.

    `values` has shape (replications, points); `noise` tells whether their spread says how well the mean is known. The
    laws are in the order of `LAWS`, the near ones by parameters, then by error; none is near with fewer than six points.
    """
    mean = values.mean(axis=0)
    found = []
    for law in (law for law, parameters in LAWS.items() if parameters < x.size):
        design, coefficients, p = _solved(law, x, mean, weight)
        fitted = design @ coefficients
        tangent = _tangent(x, design, coefficients, p) if law == "power" else design
        test = lack_of_fit(values, fitted, tangent, weight) if noise else None
        worst = float((np.abs(mean - fitted) / scales(mean)).max())
        parameters = _parameters(law, x, coefficients, p)
        found.append(Fit(law, parameters, math.nan, math.nan, test, worst, fitted))
    if x.size < FEWEST:
        return tuple(found), ()
    medians = _medians(*_held_out_errors([fit.law for fit in found], x, mean, weight), seed)
    fits = [
        replace(fit, held_out=float(row[0]), held_out_se=float(row[1:].std()))
        for fit, row in zip(found, medians, strict=True)
    ]
    return tuple(fits), tuple(fits[i] for i in _near(medians, [LAWS[fit.law] for fit in fits]))


def _near(medians: Array, parameters: Sequence[int]) -> list[int]:
    """Return which laws the data do not set apart from the one with the least error, simplest first.

    The standard error is that of the difference, or of the leader's error if that is less: the errors of a bad law spread
    so widely that their excess would excuse it.
    """
    lead = medians[np.argmin(medians[:, 0])]
    errors = np.minimum((medians - lead)[:, 1:].std(axis=1), float(lead[1:].std()))
    near = np.flatnonzero(medians[:, 0] - lead[0] <= np.maximum(errors, _TOLERANCE))
    return sorted(near.tolist(), key=lambda i: (parameters[i], medians[i, 0]))


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A curve with its weights and the means of its resamples, shape (resamples, points); the first is the curve's own.

    `noise` tells whether replications show chance, and intervals come from them.
    """

    curve: Curve
    weight: Array
    means: Array
    noise: bool
    confidence: float

    def chance(self, samples: Array, method: str) -> Estimate:
        """Return the first of the samples, with the interval that the others give."""
        n, value = self.curve.values.shape[0], float(samples[0])
        if not np.isfinite(samples).all():
            return Estimate(value, -math.inf, math.inf, self.confidence, n, method)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(samples[1:], (tail, 1 - tail))
        wider = student_t(self.confidence, n - 1) / student_t(self.confidence, math.inf) * math.sqrt(n / (n - 1))
        ends = value + wider * min(float(low) - value, 0.0), value + wider * max(float(high) - value, 0.0)
        return Estimate(value, *ends, self.confidence, n, f"bootstrap over {n} replications, {method}")

    def misfit(self, value: float, left_out: Array, parameters: int, method: str) -> Estimate:
        """Return `value` with the jackknife's interval; `left_out` are the values without each point in turn."""
        n = left_out.size
        half = math.inf
        if n > parameters + 1:
            half = student_t(self.confidence, n - parameters) * math.sqrt((n - 1) * float(left_out.var()))
        return Estimate(value, value - half, value + half, self.confidence, n, f"jackknife over {n} points, {method}")


def says(fit: Fit, x: Array) -> str:
    """Return what a fitted law says of marginal cost over the points: 'constant', 'linear', sub- or super-linear."""
    if fit.law == "power":
        p = fit.parameters["p"]
    elif fit.law == "quadratic":
        ends = [fit.parameters["b"] + 2 * fit.parameters["c"] * end for end in (float(x[0]), float(x[-1]))]
        bends = math.copysign(math.inf, fit.parameters["c"])
        p = 1 + (math.log(ends[1] / ends[0]) / math.log(x[-1] / x[0]) if min(ends) > 0 else bends)
    else:
        return {"barrier": "sub-linear", "x log x": "super-linear"}.get(fit.law, fit.law)
    return "sub-linear" if p < LINEAR[0] else "super-linear" if p > LINEAR[1] else "linear"


def lack_of_fit(values: Array, fitted: Array, tangent: Array, weight: Array) -> float | None:
    """Return the p-value of an F test: residuals of the mean against what the replications' spread leaves of it.

    `tangent` has shape (points, parameters): the law's derivatives. None with fewer than three replications, or with no
    more points than parameters. The points of a replication share their random numbers, so their errors go together;
    the degrees of freedom are Box's, with the trace of the squared covariance estimated as Bai and Saranadasa do.
    """
    replications, points = values.shape
    free = points - tangent.shape[1]
    if replications < 3 or free < 1:
        return None
    root = np.sqrt(weight)
    basis = np.linalg.svd((tangent / np.abs(tangent).max(axis=0)) * root[:, None], full_matrices=False)[0]
    mean = values.mean(axis=0)
    residual = (mean - fitted) * root
    deviations = (values - mean) * root
    deviations = deviations - (deviations @ basis) @ basis.T
    covariance = deviations.T @ deviations / (replications - 1)
    first, square = float(np.trace(covariance)), float((covariance**2).sum())
    found = replications * float(residual @ residual)
    # Below rounding of T itself there is no spread to test against, and no residual to test.
    rounding = 1e-24 * float((weight * mean**2).sum())
    if first <= rounding:
        return 1.0 if found <= replications * rounding else 0.0
    from scipy.special import fdtrc

    n = replications - 1
    square = n**2 / ((n - 1) * (n + 2)) * (square - first**2 / n)
    degrees = free if square <= first**2 / free else max(1.0, first**2 / square)
    return float(fdtrc(degrees, degrees * n, found / first))


def _design(law: str, x: Array, p: float) -> Array:
    """Return the columns of a law, shape (points, coefficients); for the power law those of `power_basis`."""
    from scipy.special import digamma

    one = np.ones(x.size)
    if law == "power":
        return np.column_stack([one, power_basis(np.log(x) - float(np.log(x).mean()), p)])
    columns = {
        "constant": [one],
        "linear": [one, x],
        "barrier": [one, digamma(x + 1) + np.euler_gamma],
        "x log x": [one, x * np.log(x)],
        "quadratic": [one, x, x**2],
    }
    return np.column_stack(columns[law])


def _solved(law: str, x: Array, mean: Array, weight: Array, p: float | None = None) -> tuple[Array, Array, float]:
    """Return columns at all points, coefficients, and exponent (nan but for the power law, searched unless given).

    A weight of 0 leaves a point out.
    """
    if law == "power" and p is None:
        p = float(best_powers(x, mean[None, :], weight[None, :])[0])
    p = math.nan if p is None else p
    design = _design(law, x, p)
    size = np.abs(design).max(axis=0)
    root = np.sqrt(weight / weight.max())
    solved = np.linalg.lstsq(design / size * root[:, None], mean * root, rcond=None)[0]
    return design, np.asarray(solved / size), p


def _tangent(x: Array, design: Array, coefficients: Array, p: float) -> Array:
    """Return the derivatives of the power law by offset, factor and exponent."""
    step = 1e-4
    slope = (_design("power", x, p + step)[:, 1] - _design("power", x, p - step)[:, 1]) / (2 * step)
    return np.column_stack([design, slope * (coefficients[1] or 1.0)])


def _parameters(law: str, x: Array, coefficients: Array, p: float) -> dict[str, float]:
    """Return the parameters as the law is written at the top."""
    if law != "power":
        return dict(zip("abc", map(float, coefficients), strict=False))
    p = p if abs(p) > 1e-6 else 1e-6  # at 0 the law is a + b ln x, which a and b near infinity write as well
    b = float(coefficients[1]) / p
    return {"a": float(coefficients[0]) - b, "b": b * math.exp(-p * float(np.log(x).mean())), "p": p}


def slope_of(z: Array, weight: Array) -> Array:
    """Return the numbers whose product with T is the weighted slope over z; `weight` may have one row or several."""
    centred = z - (weight * z).sum(axis=-1, keepdims=True) / weight.sum(axis=-1, keepdims=True)
    return np.asarray(weight * centred / (weight * centred**2).sum(axis=-1, keepdims=True))


def without_each(x: Array, weight: Array) -> Array:
    """Return the weights with one point left out in each row, shape (points, points)."""
    return np.asarray(weight * ~np.eye(x.size, dtype=bool))


def _held_out_errors(laws: Sequence[str], x: Array, mean: Array, weight: Array) -> tuple[Array, Array]:
    """Return each law's errors at points left out one by one, and at the largest quarter left out together."""
    points = x.size
    top = points - math.ceil(points / 4)
    kept = np.vstack([without_each(x, weight), weight * (np.arange(points) < top)])
    powers = best_powers(x, np.tile(mean, (points + 1, 1)), kept)
    single, beyond = np.empty((len(laws), points)), np.empty((len(laws), points - top))
    for row, law in enumerate(laws):
        solved = [_solved(law, x, mean, part, float(p)) for part, p in zip(kept, powers, strict=True)]
        errors = np.abs([design @ coefficients - mean for design, coefficients, _ in solved]) / scales(mean)
        single[row], beyond[row] = np.diagonal(errors), errors[-1, top:]
    return single, beyond


def _medians(single: Array, beyond: Array, seed: int) -> Array:
    """Return each law's error, shape (laws, 1 + resamples): as found, then of resampled points, the same for all laws."""
    rng = np.random.default_rng((seed, 1))
    total = np.zeros((single.shape[0], 1 + _RESAMPLES))
    for part in (single, beyond):
        points = part.shape[1]
        draws = np.vstack([np.arange(points), rng.integers(0, points, (_RESAMPLES, points))])
        total += np.median(part[:, draws], axis=2) / 2
    return total
