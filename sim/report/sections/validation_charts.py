"""Charts of a validation: errors by configuration, what was predicted against what was measured, and what each law is worth.

Leaves out: words and tables beside them (`validation`).
Checked: tests/test_validation_report.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ...analysis.statistics import Estimate
from ...analysis.validation import METRICS, NAIVE, Ablation, Headline, Row, Verdict
from .. import validation_tables as tables
from ..numbers import counted, listed, plain
from ..page import theme
from ..page.parts import Chart, View
from ..validation_words import NAMES, effect, error_of, size
from .pieces import error_bars, known, look, names_axis, number, tidy, upright

__all__ = ["ablation", "errors", "measured"]

_FARTHEST = 2.5  # an interval is drawn as far as this many times what lies farthest of the rest
_TIMES = ("p50", "p95")
_LOOKS = {"p50": (theme.COLOURS[0], ""), "p95": (theme.COLOURS[1], "/"), "share": (theme.COLOURS[2], ".")}
_MOST_HEIGHT = 900  # pixels: a page of paper

Data = dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------------
# Errors by configuration


def errors(found: Verdict) -> Iterator[Chart]:
    """Yield for each metric how far off the prediction of each configuration is, beside noise, naive prediction and goal."""
    for one in found.headlines:
        rows = [row for row in found.rows if known(getattr(row.errors, one.metric))]
        if rows:
            name, title = f"validation-{one.metric}", f"How far off is {NAMES[one.metric]}?"
            yield Chart(name, title, {"": _errors(found, one, rows)}, height=150 + 36 * len(rows))


def _errors(found: Verdict, headline: Headline, rows: Sequence[Row]) -> View:
    metric = headline.metric
    unit = "points" if metric == "share" else "%"
    reach = 100 * _reach(headline, rows)
    x = theme.axis(f"predicted less measured ({unit})", range=[-reach, reach], zeroline=True, zerolinecolor=theme.GREY)
    ticks: Data = {"tickmode": "array", "tickvals": list(range(len(rows)))}
    y = theme.axis(
        "", range=[len(rows) - 0.5, -0.5], ticktext=[html.escape(row.configuration) for row in rows], **ticks
    )
    shapes = [theme.limit(100 * end, "x") for end in (-headline.goal, headline.goal)]
    data = [_goal_key(headline), _floors(metric, rows), _naive(metric, rows), _predicted(metric, rows)]
    return View(
        data,
        theme.layout(x, y, shapes=shapes),
        _errors_words(headline, rows),
        tidy(tables.predictions(found, (metric,))),
    )


def _reach(headline: Headline, rows: Sequence[Row]) -> float:
    """Return how far the axis goes: all points, and intervals as far as that leaves the points readable."""
    metric = headline.metric
    points = [getattr(numbers, metric) for row in rows for numbers in (row.floor, row.naive)]
    points += [headline.goal, *(getattr(row.errors, metric).value for row in rows)]
    far = max(abs(one) for one in points if math.isfinite(one))
    ends = [abs(end) for row in rows for end in (getattr(row.errors, metric).low, getattr(row.errors, metric).high)]
    return float(1.06 * max(far, *(min(end, _FARTHEST * far) for end in ends if math.isfinite(end)), 0.0))


def _goal_key(headline: Headline) -> Data:
    """Return what the legend says of the dashed lines."""
    line = {"color": theme.GREY, "dash": "dash", "width": 2}
    name = f"goal of the median ({size(headline.metric, headline.goal)})"
    return {"type": "scatter", "mode": "lines", "name": name, "x": [None], "y": [None], "line": line, "hoverinfo": "skip"}  # fmt: skip


def _floors(metric: str, rows: Sequence[Row]) -> Data:
    floors = [getattr(row.floor, metric) for row in rows]
    sizes = [number(100 * one) for one in floors]
    return {
        "type": "bar", "orientation": "h", "name": "noise floor", "y": list(range(len(rows))), "width": 0.6,
        "base": [None if one is None else -one for one in sizes], "x": [None if one is None else 2 * one for one in sizes],
        "marker": {"color": theme.GRID, "line": {"color": theme.GREY, "width": 1}},
        "hovertext": [f"{html.escape(row.configuration)}: noise floor {size(metric, one)}" for row, one in zip(rows, floors, strict=True)],
        "hoverinfo": "text",
    }  # fmt: skip


def _naive(metric: str, rows: Sequence[Row]) -> Data:
    values = [getattr(row.naive, metric) for row in rows]
    texts = [
        f"{html.escape(row.configuration)}: naive {size(metric, one)}" for row, one in zip(rows, values, strict=True)
    ]
    marker = {"color": theme.COLOURS[1], "symbol": "diamond-open", "size": 10, "line": {"width": 2}}
    return _points("naive prediction", [number(100 * one) for one in values], texts, marker)


def _predicted(metric: str, rows: Sequence[Row]) -> Data:
    known_ = [getattr(row.errors, metric) for row in rows]
    texts = [_hover(row, metric, one) for row, one in zip(rows, known_, strict=True)]
    marker = {"color": theme.COLOURS[0], "symbol": "circle", "size": 11}
    made = _points("prediction", [number(100 * one.value) for one in known_], texts, marker)
    whiskers = theme.whiskers(known_, 100) | {"color": theme.COLOURS[0], "thickness": 2}
    return made | ({"error_x": whiskers} if any(one.resolved for one in known_) else {})


def _points(name: str, values: Sequence[float | None], texts: Sequence[str], marker: Data) -> Data:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(values), "y": list(range(len(values))), "marker": marker,
        "hovertext": list(texts), "hoverinfo": "text",
    }  # fmt: skip


def _hover(row: Row, metric: str, error: Estimate) -> str:
    return html.escape(f"{row.configuration} ({row.what}): {error_of(metric, error, signed=True).text}")


def _errors_words(headline: Headline, rows: Sequence[Row]) -> str:
    metric = headline.metric
    values = [getattr(row.errors, metric).value for row in rows]
    within = sum(abs(one) <= headline.goal for one in values)
    high, low = sum(one > 0 for one in values), sum(one < 0 for one in values)
    far = max(rows, key=lambda row: abs(getattr(row.errors, metric).value))
    farthest = error_of(metric, getattr(far.errors, metric), signed=True).text
    said = f"The median error is {error_of(metric, headline.error, headline.goal).text}. {within} of {counted(len(rows), 'configuration')} are "
    said += f"within {size(metric, headline.goal)}, {high} predicted too high, {low} too low; farthest off is {far.configuration}, by {farthest}."
    return said


# ---------------------------------------------------------------------------------------------------------------------
# Predicted against measured


def measured(found: Verdict) -> Chart | None:
    """Return p50 and p95 as predicted over as measured, with the diagonal and the goals as bands; None where nothing is known."""
    points = {metric: [row for row in found.rows if _positive(row, metric)] for metric in _TIMES}
    times = [
        getattr(each, metric)
        for metric, rows in points.items()
        for row in rows
        for each in (row.measured, row.predicted)
    ]
    if not times:
        return None
    low, high = 0.8 * min(times), 1.25 * max(times)
    goals = {headline.metric: headline.goal for headline in found.headlines if headline.metric in _TIMES}
    data = [_band(metric, goals[metric], low, high) for metric in reversed(_TIMES) if metric in goals]
    data.append(
        {"type": "scatter", "mode": "lines", "name": "as measured", "x": [low, high], "y": [low, high], "hoverinfo": "skip",
         "line": {"color": theme.GREY, "width": 1.5}}
    )  # fmt: skip
    data += [_against(metric, rows) for metric, rows in points.items() if rows]
    ends = [math.log10(low), math.log10(high)]
    x, y = (theme.axis(f"{what} (s)", type="log", range=ends) for what in ("measured", "predicted"))
    title = "Does what is predicted follow what is measured?"
    view = View(data, theme.layout(x, y), _measured_words(points), tidy(tables.predictions(found, _TIMES)))
    return Chart("validation-measured", title, {"": view}, height=480)


def _positive(row: Row, metric: str) -> bool:
    return all(0 < getattr(each, metric) < math.inf for each in (row.measured, row.predicted))


def _band(metric: str, goal: float, low: float, high: float) -> Data:
    """Return what lies within a goal of the diagonal."""
    return {
        "type": "scatter", "mode": "lines", "name": f"within {size(metric, goal)} (goal of {metric})", "fill": "toself", "hoverinfo": "skip",
        "x": [low, high, high, low, low], "y": [(1 - goal) * low, (1 - goal) * high, (1 + goal) * high, (1 + goal) * low, (1 - goal) * low],
        "fillcolor": "rgba(128,128,128,0.15)", "line": {"color": theme.GREY, "width": 1, "dash": "dash" if metric == "p50" else "dot"},
    }  # fmt: skip


def _against(metric: str, rows: Sequence[Row]) -> Data:
    real = [getattr(row.measured, metric) for row in rows]
    said = [getattr(row.predicted, metric) for row in rows]
    texts = [
        html.escape(f"{row.configuration}, {metric}: {plain(a, 's')} measured, {plain(b, 's')} predicted")
        for row, a, b in zip(rows, real, said, strict=True)
    ]
    place = _TIMES.index(metric)
    made: Data = {
        "type": "scatter", "mode": "markers", "name": metric, "x": real, "y": said, "hovertext": texts, "hoverinfo": "text",
        "marker": {"color": theme.COLOURS[place], "symbol": theme.MARKERS[place], "size": 9},
    }  # fmt: skip
    known_ = [_as_seconds(getattr(row.errors, metric), a, b) for row, a, b in zip(rows, real, said, strict=True)]
    whiskers = theme.whiskers(known_) | {"color": theme.COLOURS[place]}
    return made | ({"error_y": whiskers} if any(one.resolved for one in known_) else {})


def _as_seconds(error: Estimate, real: float, said: float) -> Estimate:
    """Return the interval of an error about what is predicted: what would be, were the measured value exact."""
    low, high = (max(real * (1 + end), 0.01 * said) for end in (error.low, error.high))
    return Estimate(said, low if error.resolved else -math.inf, high, error.confidence, error.n, error.method)


def _measured_words(points: dict[str, list[Row]]) -> str:
    said = [
        f"{metric} from {plain(min(real), 's')} to {plain(max(real), 's')}"
        for metric, rows in points.items()
        if (real := [getattr(row.measured, metric) for row in rows])
    ]
    return f"Measured {listed(said)}; each point is a configuration, and on the line it is predicted as measured. Both axes are logarithmic."


# ---------------------------------------------------------------------------------------------------------------------
# What each law is worth


def ablation(found: Verdict) -> Chart | None:
    """Return by how much each headline error grows without each law; None where none was left out. The naive prediction lacks all, and is a headline."""
    laws = [one for one in found.ablation if one.variant != NAIVE]
    if not laws:
        return None
    names = [html.escape(one.variant) for one in laws]
    data = [_changes(metric, laws, names) for metric in METRICS]
    x = theme.axis("larger error without it (points)", zeroline=True, zerolinecolor=theme.GREY)
    made = theme.layout(x, names_axis(names), barmode="group")
    chart = View(data, made, _ablation_words(laws), tidy(tables.ablation(found)))
    height = min(150 + 54 * len(laws), _MOST_HEIGHT)
    return Chart("validation-laws", "What is each law worth?", {"": chart}, height=height)


def _changes(metric: str, laws: Sequence[Ablation], names: Sequence[str]) -> Data:
    changes = [getattr(one.changes, metric) for one in laws]
    colour, pattern = _LOOKS[metric]
    texts = [
        html.escape(f"{law.variant} ({law.what}): {error_of('share', one, 0.0, signed=True).text}")
        for law, one in zip(laws, changes, strict=True)
    ]
    return {
        "type": "bar", "name": f"error of {NAMES[metric]}", **upright([number(100 * one.value) for one in changes], names),
        "error_x": error_bars(theme.whiskers(changes, 100)), "marker": look(colour, pattern), "customdata": texts,
        "hovertemplate": "without %{customdata}<extra></extra>",
    }  # fmt: skip


def _ablation_words(laws: Sequence[Ablation]) -> str:
    """Return which laws help, which do harm, and of which the data cannot tell."""
    effects = {one.variant: effect(one) for one in laws}
    groups = {
        "Without these the prediction is worse, beyond chance": [
            name for name, said in effects.items() if "helps" in said
        ],
        "Without these it is better": [name for name, said in effects.items() if "hurts" in said],
        "Not told apart from chance": [name for name, said in effects.items() if "chance" in said],
        "The same with and without": [name for name, said in effects.items() if said == "changes nothing"],
    }
    return " ".join(f"{said}: {listed(names)}." for said, names in groups.items() if names)
