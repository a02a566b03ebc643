"""What a fit found as a scenario writes it: quantities with four digits and units, tables, mixtures, and intervals in words.

A table of quantiles is joined in the log by a scenario, and evenly by a fit; it is written with a few levels, and keeps its mean.

Leaves out: which numbers stand where (`scenario`).
Checked: tests/test_trace_scenario.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ...sim.engine import units
from ...sim.engine.composites import QuantileTable
from ...sim.engine.families import Z95
from ...sim.engine.units import Dimension
from .fitted import Mixture, Number, Part, Table, Values
from .yaml_lines import Entry, Flow

__all__ = [
    "amount", "binned", "by_moments", "factor", "interval", "latency", "lognormal", "percent", "quantiles", "seen", "weights",
]  # fmt: skip

DIGITS = 4
MOST_VALUES = 32  # of whole numbers written out
_LEAST_SIGMA = 0.005
_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_JOINED, _MOST_LEVELS = 0.03, 16  # of the mean, by how a table is joined
_LEAST_CV, _MOST_CV = 0.03, 5.0


def amount(value: float, dimension: Dimension, digits: int = DIGITS) -> str:
    """Return a quantity >= 0 with so many digits, in a fitting unit."""
    return units.exact(_rounded(value, digits), dimension)


def percent(value: float) -> str:
    """Return a share."""
    return units.exact(_rounded(min(max(value, 0.0), 1.0)), units.SHARE)


def seen(one: Number, dimension: Dimension, of: str = "") -> str:
    """Return an estimate in words: value, interval, and of how many `of` it is."""
    return f"{amount(one.value, dimension)}, {interval(one, dimension, of)}"


def interval(one: Number, dimension: Dimension, of: str = "") -> str:
    """Return the 95 % interval of an estimate, and of how many `of` it is."""
    n = f"n = {one.n:,}{' ' + of if of else ''}"
    if one.low is None or one.high is None or not math.isfinite(one.high):
        return f"no interval, {n}"
    low, high = amount(one.low, dimension, 3), amount(one.high, dimension, 3)
    number, _, unit = low.partition(" ")
    return f"95 %: {number if unit and high.endswith(f' {unit}') else low} to {high}, {n}"


def quantiles(one: Table, dimension: Dimension) -> Flow:
    """Return a table as a distribution: a constant, or quantiles at a few levels, whose mean is the table's.

    The last value is that which gives the calls above the last level but one their mean; the rest is taken from all values alike.
    """
    values = [max(value, 0.0) for value in one.values]
    if values[0] == values[-1]:
        return amount(one.mean.value if one.constant else values[0], dimension)
    levels = [level for level in _LEVELS if level <= one.levels[-2] or level == 1.0]
    short = [float(value) for value in np.interp(levels, one.levels, values)]
    short[-1] = _end(short[-2], _mean_above(one.levels, values, levels[-2]), values[-1])
    levels, short = _joined_alike(levels, short)
    mean = QuantileTable(levels, short).mean
    keep = one.mean.value / mean if mean > 0 and one.mean.value > 0 else 1.0
    table = {f"{100 * level:g} %": amount(value * keep, dimension) for level, value in zip(levels, short, strict=True)}
    return {"empirical": {"quantiles": table}}


def _joined_alike(levels: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Return the table with levels put in the middle of pieces so long that their mean hangs on how their ends are joined."""
    while len(levels) < _MOST_LEVELS:
        mean = QuantileTable(levels, values).mean
        even = [(b - a) * (x + y) / 2 for a, b, x, y in zip(levels, levels[1:], values, values[1:], strict=False)]
        if mean <= 0 or abs(sum(even) / mean - 1) <= _JOINED:
            break
        off = [
            one - (b - a) * ((y - x) / math.log(y / x) if y > x > 0 else (x + y) / 2)
            for one, a, b, x, y in zip(even, levels, levels[1:], values, values[1:], strict=False)
        ]
        at = max(range(len(off)), key=off.__getitem__)
        levels = [*levels[: at + 1], (levels[at] + levels[at + 1]) / 2, *levels[at + 1 :]]
        values = [*values[: at + 1], math.sqrt(values[at] * values[at + 1]), *values[at + 1 :]]
    return levels, values


def _mean_above(levels: Sequence[float], values: Sequence[float], above: float) -> float:
    """Return the mean above a level, on the straight lines of a table."""
    at = [above, *(level for level in levels if level > above)]
    return float(np.trapezoid(np.interp(at, levels, values), at)) / (1.0 - above)


def _end(start: float, mean: float, most: float) -> float:
    """Return where a piece of a table ends that begins at `start` and has this mean; it is joined in the log."""
    if mean <= start or most <= start or start <= 0:
        return max(start, min(most, 2 * mean - start))
    low, high = start, max(most, 2 * mean)
    for _ in range(60):
        half = math.sqrt(low * high)
        low, high = (half, high) if (half - start) / math.log(half / start) < mean else (low, half)
    return high


def by_moments(one: Table, dimension: Dimension) -> Flow:
    """Return a table as a lognormal of its mean and its coefficient of variation, or a constant."""
    values, levels = np.array(one.values), np.array(one.levels)
    if one.mean.value <= 0 or one.constant:
        return amount(one.mean.value, dimension)
    width = np.diff(levels)
    second = float((width * (values[1:] ** 2 + values[1:] * values[:-1] + values[:-1] ** 2) / 3).sum())
    cv = math.sqrt(max(0.0, second / one.mean.value**2 - 1.0))
    if cv < _LEAST_CV:
        return amount(one.mean.value, dimension)
    return {"lognormal": {"mean": amount(one.mean.value, dimension), "cv": f"{_rounded(min(cv, _MOST_CV), 2):g}"}}


def latency(key: str, one: Mixture, comment: str) -> Entry:
    """Return a mixture of times as an entry; parts of no weight are left out, and all of it is cut off at its most."""
    parts = [part for part in one.parts if part.weight > 0]
    items = tuple({"weight": f"{_rounded(100 * part.weight, 3):g}", "of": _part(part)} for part in parts)
    cut = one.most is not None and any(part.kind != "constant" for part in parts)
    of: Flow = _part(parts[0]) if len(parts) == 1 else {"mixture": items}
    high = amount(one.most or 0.0, units.DURATION)
    return Entry(key, {"truncated": {"of": of, "high": high}} if cut and not isinstance(of, str) else of, comment)


def _part(part: Part) -> Flow:
    if part.kind == "pareto":
        return {
            "pareto": {"minimum": amount(part.median, units.DURATION), "shape": f"{max(_rounded(part.sigma), 0.1):g}"}
        }
    return lognormal(part.median, 0.0 if part.kind == "constant" else part.sigma)


def lognormal(median: float, sigma: float) -> Flow:
    """Return a lognormal of times (s) by its median and the deviation of its log; a constant where there is next to none."""
    text, p95 = amount(median, units.DURATION), amount(median * math.exp(Z95 * sigma), units.DURATION)
    return text if sigma < _LEAST_SIGMA or text == p95 else {"lognormal": {"median": text, "p95": p95}}


def factor(variance: float) -> Flow | None:
    """Return a factor of mean 1 by the variance of its log; None where there is next to none."""
    cv = math.sqrt(math.expm1(min(variance, 50.0)))
    return None if cv < 0.03 else {"lognormal": {"mean": "1", "cv": f"{_rounded(cv, 3):g}"}}


def binned(one: Values, less: int = 0) -> Flow:
    """Return whole numbers with their weights, each `less` so many (at least 0); many values are brought together, and the mean is kept."""
    found: dict[int, float] = {}
    for value, count in zip(one.values, one.counts, strict=True):
        if count > 0:
            found[max(value - less, 0)] = found.get(max(value - less, 0), 0.0) + count
    pairs = _together(sorted(found.items()))
    if len(pairs) == 1:
        return str(pairs[0][0])
    return {
        "empirical": {
            "values": [str(value) for value, _ in pairs],
            "weights": [f"{_rounded(weight):g}" for _, weight in pairs],
        }
    }


def _together(pairs: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most some values; those that stand for several are split between two whole numbers, so that the mean stays."""
    if len(pairs) <= MOST_VALUES:
        return pairs
    each = sum(weight for _, weight in pairs) / (MOST_VALUES // 2)
    found: dict[int, float] = {}
    group: list[tuple[int, float]] = []
    for place, pair in enumerate(pairs):
        group.append(pair)
        weight = sum(one for _, one in group)
        if weight >= each or place == len(pairs) - 1:
            mean = sum(value * one for value, one in group) / weight
            low = math.floor(mean)
            for value, part in ((low, 1.0 - (mean - low)), (low + 1, mean - low)):
                if part > 0:
                    found[value] = found.get(value, 0.0) + weight * part
            group = []
    return sorted(found.items())


def weights(pairs: Iterable[tuple[str, float]]) -> Flow:
    """Return weights > 0 by name, the largest first."""
    some = sorted(((name, weight) for name, weight in pairs if weight > 0), key=lambda one: -one[1])
    return {name: f"{_rounded(weight, 2 if weight < 1 else 3):g}" for name, weight in some}


def _rounded(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")
