"""The choice of a law's form, on what its fit did not see.

Each form is fitted on four fifths of the points and asked for the last fifth, five times. Where an operation has shapes,
such as the (n, k) of a product, the fifths are of whole shapes. The form with the least median error leads; chosen is the
one with the fewest parameters whose median error is within one standard error (by bootstrap over the points), or within
0.1 percentage points, of the leader's. A grid stands on the best roofline, or sum where there is none, and is offered
from 60 points on, or from 15 where one size alone varies.

Leaves out: averages of several forms.
Checked: tests/test_fits.py, where the errors stated are met again by fresh points of the same law.
Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed., 7.10 (one-standard-error rule).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...sim.profile.law import Law
from ..samples import Points
from .candidates import closed_candidates, table_plans
from .closed import Candidate, ConstantFit, RooflineFit, SumFit
from .grid import GridFit, TablePlan, smoothings_for
from .residuals import interval_of_median, quantile_residual, repeats_residual
from .rows import FormData, Rows, checked, predict
from .split import SHAPES, folds, held_back, shape_groups

__all__ = ["UNLIMITED", "Limits", "fit", "held_out_errors"]

_FEWEST = 4  # points below which no error can be claimed
_TESTED = 40  # points from which on a fifth is kept from the choice
_MANY = 2000  # points from which on one fold tells enough
_TOLERANCE = 0.001
_RESAMPLES = 200
_LARGE_ERROR = 0.20
_LARGE_TAIL = 1.0


@dataclass(frozen=True)
class Chosen:
    """A candidate, and what it said of the points that its fits did not see; NaN where it was not asked."""

    candidate: Candidate
    predicted: np.ndarray


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a device: how many `multiprocessors` a wave of tiles goes over, and the memory's nominal `bandwidth` (bytes/s)."""

    multiprocessors: int | None = None
    bandwidth: float | None = None


UNLIMITED = Limits()


def fit(
    points: Points,
    *,
    source: str,
    seed: int = 0,
    keep_points: bool = True,
    shapes: Sequence[str] | None = None,
    tables: Sequence[TablePlan] | None = None,
    weights: np.ndarray | None = None,
    limits: Limits = UNLIMITED,
) -> Law:
    """Return the law of the points, its form chosen on held-out error, refitted to all points.

    `shapes` names the sizes that make a shape (default: by operation, `SHAPES`), `tables` the axes of the grid (default:
    by operation and points; `()` for no grid), `weights` holds a positive weight for each point, shape (points,). `limits`
    are what the data sheet of the device says.

    `held_out` lists the errors of the chosen form. From 40 points on they are those of a test set that neither the choice
    nor the fit saw: a fifth of the shapes (`shapes`), and a fifth of the points of the others (`points`). With fewer
    points they come from the folds that the choice was made on, and are a little too good for that. With fewer than four
    nothing is claimed, and `doubts` says so. `interval` and a residual `of: shapes` are made of the same ratios.

    Raises ProfileError where a time is not > 0, a size is missing, negative or not finite, or there is no point.
    """
    rows, plans, floor = _prepared(points, shapes, tables, weights, limits)
    form, found = _fitted(rows, plans, floor, seed)
    return _law(points, form, found, source=source, seed=seed, keep_points=keep_points)


def held_out_errors(
    points: Points, *, seed: int = 0, shapes: Sequence[str] | None = None, limits: Limits = UNLIMITED
) -> dict[str, np.ndarray]:
    """Return, by split, the errors |predicted / measured - 1| that `fit` sums up in `held_out`, a number for each point."""
    _, found = _fitted(*_prepared(points, shapes, None, None, limits), seed)
    return {split: np.abs(1.0 / ratios - 1.0) for split, ratios in found.items()}


def _prepared(
    points: Points,
    shapes: Sequence[str] | None,
    tables: Sequence[TablePlan] | None,
    weights: np.ndarray | None,
    limits: Limits,
) -> tuple[Rows, list[tuple[TablePlan, ...]], float | None]:
    """Return the rows with their shapes, the tables that a grid may have, and its floor."""
    rows = checked(points, weights)
    names = SHAPES.get(points.op, ()) if shapes is None else shapes
    rows = replace(rows, groups=shape_groups(rows.sizes, names))
    plans = [tuple(tables)] if tables else table_plans(rows, limits.multiprocessors) if tables is None else []
    return rows, plans, limits.bandwidth if rows.op.work is not None else None


def _fitted(
    rows: Rows, plans: list[tuple[TablePlan, ...]], floor: float | None, seed: int
) -> tuple[FormData, dict[str, np.ndarray]]:
    """Return the form fitted to all rows, and measured over predicted on what a fit did not see, by split."""
    if len(rows) < _FEWEST:
        return _few(rows, seed), {}
    if len(rows) < _TESTED:
        chosen = _choose(rows, plans, floor, seed)
        return chosen.candidate.fit(rows, seed), _cross_validated(chosen, rows, seed)
    tests = held_back(len(rows), seed, rows.groups)
    train = rows.take(~np.logical_or.reduce(list(tests.values())))
    candidate = _choose(train, plans, floor, seed).candidate
    trained = candidate.fit(train, seed)
    return candidate.fit(rows, seed), {name: _ratios(trained, rows.take(mask)) for name, mask in tests.items()}


def _few(rows: Rows, seed: int) -> FormData:
    """Return the simplest form that takes the size into account, where there is one; nothing was chosen on error."""
    simple = [one for one in closed_candidates(rows) if isinstance(one, SumFit) and one.parameters == 2]
    return (simple[0] if simple and len(rows) > 1 else ConstantFit()).fit(rows, seed)


def _choose(rows: Rows, plans: list[tuple[TablePlan, ...]], floor: float | None, seed: int) -> Chosen:
    """Return the form chosen by the rule that the module opens with."""
    tried = [_asked(one, rows, seed) for one in closed_candidates(rows) if one.parameters < 0.8 * len(rows)]
    tried = tried or [_asked(ConstantFit(), rows, seed)]
    bases = [one for one in tried if not isinstance(one.candidate, ConstantFit)]
    if plans and bases:
        # A roofline goes on beyond the table as the machine does; a sum may owe its lead to what the table is for.
        physical = [one for one in bases if isinstance(one.candidate, RooflineFit)]
        base = min(physical or bases, key=lambda one: _median(one, rows)).candidate
        tried += [_asked(GridFit(base, plan, smoothings_for(len(rows)), floor), rows, seed) for plan in plans]
    leader = min(tried, key=lambda one: _median(one, rows))
    near = [one for one in tried if _excess(one, leader, rows) <= max(_spread(one, leader, rows, seed), _TOLERANCE)]
    return min(near, key=lambda one: one.candidate.parameters)


def _excess(one: Chosen, leader: Chosen, rows: Rows) -> float:
    """Return by how much the median error of one candidate exceeds the leader's."""
    return _median(one, rows) - _median(leader, rows)


def _spread(one: Chosen, leader: Chosen, rows: Rows, seed: int) -> float:
    """Return the standard error of that excess, from resampled points, or of the leader's median if that is less.

    Both candidates meet the same points, which is the sharper of the two where both are good; the errors of a bad one
    spread so widely that their excess would excuse it.
    """
    pair = np.column_stack([_errors(one, rows), _errors(leader, rows)])
    rng = np.random.default_rng((seed, 5))
    medians = np.array([np.median(pair[rng.integers(0, len(pair), len(pair))], axis=0) for _ in range(_RESAMPLES)])
    return float(min(np.std(medians[:, 0] - medians[:, 1]), np.std(medians[:, 1])))


def _asked(candidate: Candidate, rows: Rows, seed: int) -> Chosen:
    """Return what a candidate says of each fold when fitted on the others; of many points, only of the first fold."""
    predicted = np.full(len(rows), np.nan)
    for out in folds(len(rows), seed, rows.groups):
        predicted[out] = predict(candidate.fit(rows.take(~out), seed), rows.take(out))
        if len(rows) >= _MANY:
            break
    return Chosen(candidate, predicted)


def _errors(chosen: Chosen, rows: Rows) -> np.ndarray:
    """Return |predicted / measured - 1| of the points that were asked for."""
    asked = ~np.isnan(chosen.predicted)
    return np.asarray(np.abs(chosen.predicted[asked] / rows.seconds[asked] - 1.0))


def _median(chosen: Chosen, rows: Rows) -> float:
    return float(np.median(_errors(chosen, rows)))


def _cross_validated(chosen: Chosen, rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """Return measured over predicted on the folds, by points and, where there are shapes, by shapes."""
    own = rows.seconds / chosen.predicted
    if rows.groups is None:
        return {"points": own}
    by_point = _asked(chosen.candidate, replace(rows, groups=None), seed)
    return {"points": rows.seconds / by_point.predicted, "shapes": own}


def _ratios(form: FormData, rows: Rows) -> np.ndarray:
    return np.asarray(rows.seconds / predict(form, rows))


def _held_out(split: str, ratios: np.ndarray) -> dict[str, Any]:
    errors = np.abs(1.0 / ratios - 1.0)
    median, p95 = (round(float(value), 5) for value in np.quantile(errors, (0.5, 0.95)))
    return {"split": split, "points": len(ratios), "median": median, "p95": p95}


def _law(
    points: Points,
    form: FormData,
    found: Mapping[str, np.ndarray],
    *,
    source: str,
    seed: int,
    keep_points: bool,
) -> Law:
    """Return the law with what is known of it."""
    # From folds, every point is in each split: the first one has them all.
    parts = list(found.values()) if len(points) >= _TESTED else list(found.values())[:1]
    ratios = np.concatenate([*parts, np.zeros(0)])
    held_out = [_held_out(split, values) for split, values in found.items()]
    repeats = sum(len(part) for part in points.ratios)
    residual = repeats_residual(points.ratios, seed) or quantile_residual(ratios, "shapes")
    data = {
        "form": form,
        "over": {name: [float(np.min(values)), float(np.max(values))] for name, values in points.sizes.items()},
        "source": source,
        "points": len(points),
        "repeats": max(repeats, len(points)),
        "interval": interval_of_median(ratios, seed),
        "held_out": held_out,
        "residual": residual,
        "measured": _measured(points) if keep_points else None,
        "doubts": [*points.doubts, *_doubts(len(points), held_out)],
    }
    return Law.model_validate({key: value for key, value in data.items() if value is not None})


def _measured(points: Points) -> dict[str, Any]:
    """Return the points, to six significant digits."""
    columns = {"seconds": points.seconds, "low": points.low, "high": points.high}
    digits = {
        name: [float(f"{value:.6g}") for value in values] for name, values in columns.items() if values is not None
    }
    return {"sizes": {name: [float(value) for value in values] for name, values in points.sizes.items()}, **digits}


def _doubts(count: int, held_out: list[dict[str, Any]]) -> list[str]:
    if count < _FEWEST:
        few = "1 point only" if count == 1 else f"{count} points only"
        return [f"{few}: the form was not chosen on held-out error, and no error is claimed"]
    worst = max(held_out, key=lambda one: float(one["median"]))
    tail = max(held_out, key=lambda one: float(one["p95"]))
    if worst["median"] > _LARGE_ERROR:
        return [f"no form fits well: the median error on held-out {worst['split']} is {100 * worst['median']:.0f} %"]
    if tail["p95"] > _LARGE_TAIL:
        return [f"no form fits everywhere: the p95 of errors on held-out {tail['split']} is {100 * tail['p95']:.0f} %"]
    return []
