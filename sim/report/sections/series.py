"""Lines of estimates along an axis, quantiles of T_total from what is kept of each replication, and the curves of a slider.

Leaves out: which estimates, and what is said about them (`plan`, `study`).
Checked: tests/test_plan_sections.py, tests/test_study_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...analysis.statistics import Estimate
from ...analysis.summary import Quantiles
from ..numbers import show
from ..page import theme
from ..page.judge import judge
from ..page.parts import PERCENTILES, Curve

__all__ = ["SHARES_OF", "Line", "curve_of", "draw", "floor_of", "hover", "percentile", "rounded", "spread"]

Data = dict[str, Any]
SHARES_OF = {name: float(name[1:]) / 100 for name in PERCENTILES}
_DIGITS = 6  # significant, of numbers in a page
_CROWDED = 12  # points with a band, from which whiskers only hide it
_SPAN = 5  # lowest value drawn on a logarithmic axis: that part of the least estimate


@dataclass(frozen=True, slots=True)
class Line:
    """Estimates along an axis; `joined` tells for each whether a band may lead to it from the one before."""

    name: str
    x: tuple[Any, ...]
    known: tuple[Estimate, ...]
    joined: tuple[bool, ...] = ()
    symbols: tuple[str, ...] = ()


def rounded(value: float) -> float:
    """Return a number with six significant digits.

    >>> rounded(1.23456789), rounded(0.0)
    (1.23457, 0.0)
    """
    return float(f"{value:.{_DIGITS}g}")


def curve_of(label: str, times: Quantiles, cost: float | None = None) -> Curve:
    """Return a configuration for a slider: its quantiles in each replication, rounded."""
    return Curve(label, tuple(tuple(rounded(one) for one in row) for row in times.rows), cost)


def percentile(curve: Curve, shares: tuple[float, ...], name: str, confidence: float) -> Estimate:
    """Return a percentile of T_total (`p95`) of a curve: the mean over its replications, with its interval."""
    return judge(curve, shares, SHARES_OF[name], 0.0, confidence).value


def hover(where: str, one: Estimate, unit: str, counted: str = "replications") -> str:
    """Return what a point says: where it is, its value and interval, and how many stand behind it."""
    sure = f", {100 * one.confidence:.6g} % interval" if one.resolved else ""
    return html.escape(f"{where}: {show(one, unit).text}{sure}, {one.n} {counted}")


def spread(known: Sequence[Estimate]) -> float:
    """Return the greatest over the least of the values; 1 where they are not all above 0."""
    values = [one.value for one in known if math.isfinite(one.value)]
    return max(values) / min(values) if values and min(values) > 0 else 1.0


def draw(line: Line, number: int, texts: Sequence[str], floor: float | None = None) -> list[Data]:
    """Return the traces of a line: bands where it is joined, then markers with whiskers; `number` chooses its looks.

    Nothing is drawn below `floor`, which a logarithmic axis needs.
    """
    colour = theme.COLOURS[number % len(theme.COLOURS)]
    held = [_drawn(one, floor) for one in line.known]
    group = f"line-{number}"
    symbol = theme.MARKERS[number % len(theme.MARKERS)]
    middle: Data = {
        "type": "scatter", "mode": "lines+markers", "name": html.escape(line.name), "legendgroup": group, "x": list(line.x),
        "y": [one.value for one in held], "error_y": theme.whiskers(held) | {"color": colour}, "hovertext": list(texts),
        "hoverinfo": "text", "line": {"color": colour, "width": 1.5, "dash": theme.DASHES[number % len(theme.DASHES)]},
        "marker": {"color": colour, "size": 9, "symbol": list(line.symbols) or symbol},
    }  # fmt: skip
    if len(line.x) > _CROWDED and len(_runs(line)) == 1:
        del middle["error_y"]  # the band says the same
        middle["marker"] |= {"size": 5}
    return [*(_band(line, run, held, colour, group) for run in _runs(line)), middle]


def floor_of(known: Sequence[Estimate]) -> float:
    """Return the lowest end of an interval that is drawn on a logarithmic axis."""
    values = [one.value for one in known if math.isfinite(one.value) and one.value > 0]
    return min(values) / _SPAN if values else 1.0


def _drawn(one: Estimate, floor: float | None) -> Estimate:
    low = max(one.low, floor) if floor is not None and math.isfinite(one.low) else one.low
    low = min(low, one.value)
    return replace(one, value=rounded(one.value), low=_end(low), high=_end(one.high))


def _end(value: float) -> float:
    return rounded(value) if math.isfinite(value) else value


def _runs(line: Line) -> list[tuple[int, int]]:
    """Return first and last place of each stretch that may have a band: two points or more, with both ends known."""
    found, start = [], 0
    for place in range(1, len(line.x) + 1):
        goes_on = place < len(line.x) and line.joined[place] and line.known[place].resolved if line.joined else False
        if goes_on and line.known[place - 1].resolved:
            continue
        if place - start > 1:
            found.append((start, place))
        start = place
    return found


def _band(line: Line, run: tuple[int, int], held: Sequence[Estimate], colour: str, group: str) -> Data:
    start, stop = run
    return theme.band(line.x[start:stop], held[start:stop], colour, group)
