"""All factors of a study side by side: an upright axis each, and a line for each point from value to value, ending at the metric.

Lines of a fifth of the points by the metric have one look. They are drawn as plain lines, which need no WebGL and can be printed.

Leaves out: choosing a range on an axis.
Checked: tests/test_study_sections.py.
Source: Inselberg, The plane with parallel coordinates, The Visual Computer 1 (1985), 69-91.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...analysis.statistics import Estimate
from ...analysis.study import StudyResult
from ...analysis.study_effects import Point, points
from .. import plan_words as words
from ..numbers import show
from ..page import theme
from ..page.parts import Chart, View
from .pieces import cells as cell
from .pieces import table
from .series import rounded
from .study_charts import short_at

__all__ = ["parallel"]

_LOOKS = 5
_STEEP = 5  # greatest over least of the metric, from which its axis is logarithmic
_MOST_TICKS = 6
_LONGEST = 22  # characters of a tick

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Axis:
    """An upright axis: its title, the place of each point on it from 0 to 1, and its ticks (place and text)."""

    title: str
    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def parallel(found: StudyResult, metric: str | None = None) -> Chart | None:
    """Return all factors as parallel axes, a line for each point; nothing for fewer than two factors."""
    name = metric or found.metric
    known = sorted(points(found, name), key=lambda one: one.estimate.value)
    if len(found.factors) < 2 or not known:
        return None
    unit = {one.name: one.unit for one in found.columns}.get(name, "")
    axes = [_factor(found, known, place) for place in range(len(found.factors))]
    axes.append(_amounts(name, [one.estimate.value for one in known], unit))
    traces = [trace for number in range(_LOOKS) if (trace := _fifth(found, known, axes, number, unit))]
    marks = [_tick(number, place, text) for number, axis in enumerate(axes) for place, text in axis.ticks]
    shapes = [
        {"type": "line", "x0": number, "x1": number, "y0": 0, "y1": 1, "line": {"color": theme.GREY, "width": 1}} for number in range(len(axes))
    ]  # fmt: skip
    x = theme.axis(
        "", range=[-0.3, len(axes) - 0.5], tickvals=list(range(len(axes))), showgrid=False,
        ticktext=[html.escape(axis.title).replace(".", ".<br>", 1) for axis in axes], showline=False, ticks="",
    )  # fmt: skip
    y = theme.axis("", range=[-0.06, 1.06], visible=False)
    rows = [(*(level.text or "as it is" for level in one.levels), cell(one.estimate, unit)) for one in known]
    columns = (*(one.path for one in found.factors), name)
    numbers = table(f"{name} over all factors, the least first", columns, rows, "<" * len(found.factors) + ">")
    summary = (
        f"{words.counted(len(known), 'point')}, a line each: {name} is least, {show(known[0].estimate, unit).text}, {short_at(found, known[0])}, "
        f"and most, {show(known[-1].estimate, unit).text}, {short_at(found, known[-1])}."
    )
    drawn = theme.layout(x, y, shapes=shapes, annotations=marks, hovermode="closest")
    return Chart(
        "all-factors", f"How do all factors together go with {name}?", {"": View(traces, drawn, summary, numbers)}
    )


def _fifth(found: StudyResult, known: Sequence[Point], axes: Sequence[_Axis], number: int, unit: str) -> Data | None:
    """Return the lines of one fifth of the points, broken between points."""
    start, stop = (len(known) * end // _LOOKS for end in (number, number + 1))
    if start == stop:
        return None
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for place in range(start, stop):
        x += [*range(len(axes)), None]
        y += [*(rounded(axis.places[place]) for axis in axes), None]
        said = html.escape(f"{short_at(found, known[place])}: {show(known[place].estimate, unit).text}")
        texts += [said] * len(axes) + [""]
    ends = [_in(known[place].estimate.value, known[0].estimate.value, unit) for place in (start, stop - 1)]
    colour = theme.COLOURS[number % len(theme.COLOURS)]
    return {
        "type": "scatter", "mode": "lines+markers", "name": html.escape(" to ".join(dict.fromkeys(ends))), "x": x, "y": y,
        "hovertext": texts, "hoverinfo": "text", "opacity": 0.75,
        "line": {"color": colour, "dash": theme.DASHES[number], "width": 1.5},
        "marker": {"color": colour, "symbol": theme.MARKERS[number], "size": 6},
    }  # fmt: skip


def _factor(found: StudyResult, known: Sequence[Point], place: int) -> _Axis:
    factor = found.factors[place]
    texts = list(dict.fromkeys(cell.levels[place].text for cell in found.cells))
    if factor.is_number and "" not in texts:
        values = [float(one.levels[place].value or 0) for one in known]
        by_value = {float(cell.levels[place].value or 0): cell.levels[place].text for cell in found.cells}
        ticks = [(value, by_value[value]) for value in _some(sorted(by_value))]
        return _scaled(factor.path, values, ticks)
    last = max(len(texts) - 1, 1)
    return _Axis(
        factor.path,
        tuple(texts.index(one.levels[place].text) / last for one in known),
        tuple((texts.index(text) / last, text or "as it is") for text in _some(texts)),
    )


def _amounts(title: str, values: Sequence[float], unit: str) -> _Axis:
    low, high = min(values), max(values)
    if low > 0 and high > _STEEP * low:  # else all but a few lie on top of each other
        ends = [low * (high / low) ** (part / 4) for part in range(5)]
        return _scaled(
            f"{title} (logarithmic)",
            [math.log(one) for one in values],
            [(math.log(one), _in(one, low, unit)) for one in ends],
        )
    ends = [low + (high - low) * part / 4 for part in range(5)] if high > low else [low]
    return _scaled(title, values, [(one, _in(one, low, unit)) for one in ends])


def _in(value: float, like: float, unit: str) -> str:
    """Return a number of a tick, in the unit that fits `like`."""
    short = float(f"{value:.3g}")
    return show(Estimate(short, short, short, 0.95, 1, ""), unit, like).value


def _scaled(title: str, values: Sequence[float], ticks: Sequence[tuple[float, str]]) -> _Axis:
    every = [*values, *(one for one, _ in ticks)]
    low, span = min(every), (max(every) - min(every)) or 1.0
    return _Axis(
        title, tuple((one - low) / span for one in values), tuple(((one - low) / span, text) for one, text in ticks)
    )


def _some(levels: Sequence[Any]) -> list[Any]:
    """Return a few levels, evenly apart, the first and the last among them."""
    last = len(levels) - 1
    count = min(len(levels), _MOST_TICKS)
    return [levels[round(last * number / max(count - 1, 1))] for number in range(count)]


def _tick(number: int, place: float, text: str) -> Data:
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return {
        "x": number, "y": rounded(place), "text": html.escape(short), "showarrow": False, "xanchor": "left", "xshift": 6, "yshift": 8,
        "font": {"size": 11},
    }  # fmt: skip
