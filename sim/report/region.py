"""The sentence that names the region without a saving, from the verdicts over a grid.

Leaves out: points between those of the grid.
Checked: tests/test_compare.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..analysis.comparison import Point, Region
from ..analysis.statistics import Estimate
from .numbers import show


def statement(found: Region, what: str = "saving", unit: str = "s") -> str:
    """Return where there is no saving, where there is a loss, where it is not resolved, and how the saving goes.

    `what` it is called ('gain' where more is better), in which `unit`.

    A region is `at or below` a value, or `at or above`, when it holds exactly the points on that side, whatever the
    other factor; else its points are listed.
    """
    if not found.points:
        return "No point of the grid was complete."
    by = {word: [one for one in found.points if one.saving.verdict == word] for word in _VERDICTS}
    said = [
        f"{begins} {_where(found, by[word])}"
        for word, begins in (("none", f"no {what}"), ("costs", "a loss"), ("not resolved", "not resolved"))
        if by[word]
    ]
    if not said:
        said = [f"a {what} at every point: this grid holds no region without one"]
    text = "; ".join(said)
    trend = _trend(found, what, unit)
    return f"{text[0].upper()}{text[1:]}{f'; {trend}' if trend else ''}."


_VERDICTS = ("saves", "costs", "none", "not resolved")


def _where(found: Region, chosen: Sequence[Point]) -> str:
    if len(chosen) == len(found.points):
        return "at any point of the grid"
    for axis, name in enumerate(found.factors):
        numbers = [_as_number(one.values[axis]) for one in found.points]
        if any(number is None for number in numbers):
            continue
        values = {one.values: number for one, number in zip(found.points, numbers, strict=True) if number is not None}
        inside = {values[one.values] for one in chosen}
        outside = {values[one.values] for one in found.points if one not in chosen}
        if max(inside) < min(outside):
            return f"where {name} <= {max(inside):g}"
        if min(inside) > max(outside):
            return f"where {name} >= {min(inside):g}"
    told = [
        " with ".join(f"{name} = {value}" for name, value in zip(found.factors, one.values, strict=True))
        for one in chosen
    ]
    return "at " + ", ".join(told)


def _trend(found: Region, word: str, unit: str) -> str:
    """Return how the saving goes with a single factor: only if it goes one way, and its ends lie apart."""
    points = [(number, one) for one in found.points if (number := _as_number(one.values[0])) is not None]
    if len(found.factors) > 1 or len(points) < max(2, len(found.points)):
        return ""
    ordered = [one.saving for _, one in sorted(points, key=lambda pair: pair[0])]
    said = []
    for what, own, series in (
        (f"the {word}", unit, [one.amount for one in ordered]),
        (f"the relative {word}", "share", [one.share for one in ordered]),
    ):
        goes = _goes(series)
        if goes:
            said.append(f"{what} {goes} with {found.factors[0]}, to {show(series[-1], own).value}")
    return "; ".join(said)


def _goes(series: Sequence[Estimate]) -> str:
    pairs = list(pairwise(series))
    if series[-1].low > series[0].high and all(a.value <= b.value for a, b in pairs):
        return "grows"
    if series[-1].high < series[0].low and all(a.value >= b.value for a, b in pairs):
        return "falls"
    return ""


def _as_number(text: str) -> float | None:
    """Return a value as a number, when it is a plain one."""
    try:
        return float(text)
    except ValueError:
        return None
