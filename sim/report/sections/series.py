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

from ...analysis.slo import Objective
from ...analysis.statistics import Estimate, certainty
from ...analysis.summary import Quantiles
from ..numbers import listed, show
from ..page import theme
from ..page.judge import judge
from ..page.parts import PERCENTILES, Curve

__all__ = [
    "SHARES_OF",
    "Line",
    "alone",
    "curve_of",
    "draw",
    "floor_of",
    "hover",
    "log_axis",
    "looks",
    "percentile",
    "round_up",
    "rounded",
    "spread",
    "switched",
    "vanishing",
]

Data = dict[str, Any]
SHARES_OF = {name: float(name[1:]) / 100 for name in PERCENTILES}
_DIGITS = 6  # significant, of numbers in a page
_MANY = 5  # powers of ten, from which an axis has ticks at them alone
_CROWDED = 12  # points with a band, from which whiskers only hide it
_MOST_NAMED = 5  # points that a sentence names
_SPAN = 5  # lowest value drawn on a logarithmic axis: that part of the least estimate


@dataclass(frozen=True, slots=True)
class Line:
    """Estimates along an axis; `joined` tells for each whether a band may lead to it from the one before."""

    name: str
    x: tuple[Any, ...]
    known: tuple[Estimate, ...]
    joined: tuple[bool, ...] = ()
    symbols: tuple[str, ...] = ()
    unit: str | None = None  # of what is no difference: its intervals are drawn from 0 on, those of shares to 1


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


def round_up(value: float) -> float:
    """Return the next number of two significant digits.

    >>> round_up(3.0263), round_up(0.0), round_up(120.0)
    (3.1, 0.0, 120.0)
    """
    if not (value > 0 and math.isfinite(value)):
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return rounded(math.ceil(rounded(value / step)) * step)


def log_axis(title: str, values: Sequence[float], floor: float | None = None) -> Data:
    """Return a logarithmic axis whose ticks are whole numbers: 1, 2, 5, 10, ... or powers of ten alone where there are many."""
    known = [one for one in (*values, *([floor] if floor is not None else [])) if one > 0 and math.isfinite(one)] or [
        1.0
    ]
    first, last = math.floor(math.log10(min(known))) - 1, math.ceil(math.log10(max(known))) + 1
    steps = (1, 1.5, 2, 3, 5, 7) if max(known) < 10 * min(known) else (1, 2, 5) if last - first <= _MANY else (1,)
    rungs = [rounded(step * 10.0**power) for power in range(first, last + 1) for step in steps]
    return theme.axis(title, type="log", tickmode="array", tickvals=rungs, ticktext=[f"{one:g}" for one in rungs])


def looks(number: int) -> tuple[str, str, str]:
    """Return colour, dash and marker of a line by its number: no two of the first 36 have all three in common."""
    count = len(theme.COLOURS)
    other = (number + number // count) % count
    return theme.COLOURS[number % count], theme.DASHES[other], theme.MARKERS[other]


def hover(where: str, one: Estimate, unit: str, counted: str = "replications") -> str:
    """Return what a point says: where it is, its value and interval, and how many stand behind it."""
    sure = f", {certainty(one.confidence)} interval" if one.resolved else ""
    return html.escape(f"{where}: {show(one, unit).text}{sure}, {one.n} {counted}")


def spread(known: Sequence[Estimate]) -> float:
    """Return the greatest over the least of the values; 1 where they are not all above 0."""
    values = [one.value for one in known if math.isfinite(one.value)]
    return max(values) / min(values) if values and min(values) > 0 else 1.0


def draw(line: Line, number: int, texts: Sequence[str], floor: float | None = None) -> list[Data]:
    """Return the traces of a line: bands where it is joined, then markers with whiskers; `number` chooses its looks.

    Nothing is drawn below `floor`, which a logarithmic axis needs.
    """
    colour, dash, symbol = looks(number)
    known = line.known if line.unit is None else theme.held(line.known, line.unit)
    held = [_drawn(one, floor) for one in known]
    group = f"line-{number}"
    middle: Data = {
        "type": "scatter", "mode": "lines+markers", "name": html.escape(line.name), "legendgroup": group, "x": list(line.x),
        "y": [one.value for one in held], "error_y": theme.whiskers(held) | {"color": colour}, "hovertext": list(texts),
        "hoverinfo": "text", "line": {"color": colour, "width": 1.5, "dash": dash},
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


def vanishing(pairs: Sequence[tuple[str, Estimate]]) -> str:
    """Return which points a logarithmic axis cannot show, as they are 0 or less: ' Not on a logarithmic scale: 0 at 15, 22 and 36.'."""
    gone = list(dict.fromkeys(name for name, one in pairs if one.value <= 0))
    if not gone:
        return ""
    what = "0" if all(one.value == 0 for _, one in pairs if one.value <= 0) else "0 or less"
    if len(gone) > _MOST_NAMED:
        return f" Not on a logarithmic scale: {len(gone)} of {len(pairs)} points, which are {what}."
    start = gone[0][: max(gone[0].rfind(" "), gone[0].rfind("=")) + 1]
    alike = start if all(name.startswith(start) for name in gone) else ""  # 'replicas 15, 22 and 36'
    return (
        f" Not on a logarithmic scale: {what} at {listed([gone[0], *(name.removeprefix(alike) for name in gone[1:])])}."
    )


def alone(value: float) -> Data:
    """Return what an axis with one value has: a range about it, and its tick; plotly's own would go from one below to one above."""
    reach = abs(value) / 2 or 1.0
    return {"range": [rounded(value - reach), rounded(value + reach)], "tickvals": [value], "ticktext": [f"{value:g}"]}


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


def switched(limit: Objective | None) -> str:
    """Return the percentile at which a page with a limit starts: the limit's own where the switch has it, else p95.

    >>> switched(Objective("p99", 2.0, "<=")), switched(Objective("mean", 2.0, "<="))
    ('p99', 'p95')
    """
    return limit.metric if limit is not None and limit.metric in PERCENTILES else "p95"
