"""What a fit works on: the points of a law as arrays, checked, with the operation that its features come from.

Leaves out: the choice of features (`candidates`) and of splits (`split`).
Checked: tests/test_fits.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ...sim.engine import units
from ...sim.engine.errors import Problem, ProfileError, did_you_mean, listed
from ...sim.engine.units import Dimension
from ...sim.profile.forms import Form, feature
from ...sim.profile.ops import OPS, Op
from ..samples import Points

__all__ = ["FormData", "Rows", "checked", "predict", "written"]

FormData = dict[str, Any]
"""What a file holds of a form, such as `{"constant": "3.2 us"}`."""

_DIGITS = 5  # of a parameter: finer than any fit knows it


@dataclass(frozen=True)
class Rows:
    """Points as arrays of shape (points,): each size, the seconds, the weight, and the number of the shape it belongs to."""

    op: Op
    options: Mapping[str, str]
    sizes: Mapping[str, np.ndarray]
    seconds: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.seconds)

    def take(self, index: np.ndarray) -> Self:
        """Return the points that a mask or an array of indices names."""
        return replace(
            self,
            sizes={name: values[index] for name, values in self.sizes.items()},
            seconds=self.seconds[index],
            weights=self.weights[index],
            groups=None if self.groups is None else self.groups[index],
        )

    def column(self, text: str) -> np.ndarray:
        """Return a feature such as `batch*kv_heads` at each point."""
        values = feature(text, self.op, self.options)(self.sizes)
        return np.broadcast_to(np.asarray(values, dtype=float), self.seconds.shape)

    def at_most(self, count: int, seed: int) -> Self:
        """Return `count` of the points, drawn at random, or all where there are fewer: enough for a few parameters."""
        if len(self) <= count:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False)))


def checked(points: Points, weights: np.ndarray | None = None) -> Rows:
    """Return the points as rows. Raises ProfileError with every mistake, under the law's name."""
    found = [Problem(points.law, message) for message in _mistakes(points)]
    if found:
        raise ProfileError(found, f"the points of {points.law}")
    count = len(points.seconds)
    return Rows(
        OPS[points.op],
        points.options,
        {name: np.asarray(values, dtype=float) for name, values in points.sizes.items()},
        np.asarray(points.seconds, dtype=float),
        np.ones(count) if weights is None else np.asarray(weights, dtype=float),
    )


def _mistakes(points: Points) -> list[str]:
    if points.op not in OPS:
        return [f"no operation is called `{points.op}`{did_you_mean(points.op, OPS)}"]
    op, seconds = OPS[points.op], np.asarray(points.seconds, dtype=float)
    if not len(seconds):
        return ["must have one point at least; got none: measure it, or leave the law out"]
    got = listed(points.sizes) or "no sizes"
    mistakes = [f"must have the size `{name}`; got {got}" for name in op.sizes if name not in points.sizes]
    for name, values in points.sizes.items():
        if name not in op.sizes:
            mistakes.append(f"has no size `{name}`; it has {listed(op.sizes) or 'no sizes'}")
        elif np.shape(values) != seconds.shape:
            mistakes.append(f"must have one `{name}` for each of its {len(seconds)} seconds; got {np.size(values)}")
        else:
            mistakes += _wrong(points, name, np.asarray(values, dtype=float), least=0.0)
    return mistakes + ([] if mistakes else _wrong(points, "seconds", seconds, least=None))


def _wrong(points: Points, name: str, values: np.ndarray, least: float | None) -> list[str]:
    """Return the mistake in a column, with the first point that has it: >= `least`, or > 0 where that is None."""
    bad = ~np.isfinite(values) | (values <= 0 if least is None else values < least)
    if not bad.any():
        return []
    first = int(np.flatnonzero(bad)[0])
    where = " ".join(f"{size}={column[first]:g}" for size, column in points.sizes.items() if size != name)
    rule = "finite and > 0" if least is None else f"finite and >= {least:g}"
    at = f" at {where}" if where else ""
    count = f"{bad.sum()} of {len(values)} points"
    return [f"`{name}` must be {rule}; got {values[first]:g}{at} ({count}): measure these again, or leave them out"]


def written(value: float, dimension: Dimension = units.DURATION) -> str:
    """Return a parameter as a file holds it: five significant digits, with its unit."""
    return units.exact(float(f"{value:.{_DIGITS - 1}e}"), dimension)


def terms(features: Sequence[str], seconds: np.ndarray) -> dict[str, str]:
    """Return the terms of a form that are not 0."""
    return {text: written(value) for text, value in zip(features, seconds, strict=True) if value > 0}


def predict(form: FormData, rows: Rows) -> np.ndarray:
    """Return the seconds that a form says, through the format that is written: its rounding is part of its error."""
    seconds = Form.model_validate(form).compile(rows.op, rows.options)(rows.sizes)
    return np.broadcast_to(np.asarray(seconds, dtype=float), rows.seconds.shape)
