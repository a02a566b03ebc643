"""The figures of a study: a metric over a factor, a line for each combination of the others, and all factors side by side.

`figure` draws one chart, `page` all of them as one HTML file that opens without a network.
Leaves out: showing or saving them.
Checked: tests/test_sweep_command.py.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from ..analysis.study import StudyResult
from ..analysis.study_effects import Point, points
from .profile_plot import COLOURS, CONFIG, DASHES, MARKERS, _plotly
from .study_tables import statement

__all__ = ["figure", "page", "parallel"]

MOST_LINES = 12
_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": False}
_UNITS = {"s": "seconds", "B": "bytes"}
_HEIGHT = 560  # pixels
_WIDE = 30  # largest over smallest, from which an axis is logarithmic

Data = dict[str, Any]


def figure(found: StudyResult, place: int, metric: str | None = None) -> Any:
    """Return the chart of a metric over the factor at `place` as a plotly Figure: points with their intervals as bands.

    Where there would be more than a dozen lines, as in a sample, there are points alone.
    """
    import plotly.graph_objects as go

    name = metric or found.metric
    known = points(found, name)
    factor = found.factors[place]
    unit = {one.name: one.unit for one in found.columns}.get(name, "")
    x: Data = {
        "title": html.escape(_titled(factor.path, factor.unit)),
        "type": _scale(known, place, factor.is_number),
        **_AXIS,
    }
    y: Data = {"title": html.escape(_titled(name, unit)), "rangemode": "tozero", **_AXIS}
    layout = {
        "title": {"text": html.escape(f"{name} over {factor.path}"), "x": 0.01},
        "xaxis": x, "yaxis": y, "paper_bgcolor": "white", "plot_bgcolor": "white", "height": _HEIGHT,
        "legend": {"font": {"size": 11}}, "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
    }  # fmt: skip
    lines = _lines(found, known, place)
    if len(lines) > MOST_LINES:
        return go.Figure(data=[_cloud(known, place)], layout=layout)
    traces = [
        trace for number, (label, line) in enumerate(lines.items()) for trace in _line(label, line, place, number)
    ]
    return go.Figure(data=traces, layout=layout)


def _titled(name: str, unit: str) -> str:
    return f"{name} ({_UNITS.get(unit, unit)})" if unit else name


def _scale(known: Sequence[Point], place: int, is_number: bool) -> str:
    if not is_number:
        return "category"
    values = [float(one.levels[place].value or 0) for one in known if one.levels[place].text]
    return "log" if values and min(values) > 0 and max(values) > _WIDE * min(values) else "linear"


def _lines(found: StudyResult, known: Sequence[Point], place: int) -> dict[str, list[Point]]:
    """Return the points by what else is set, each line along the factor."""
    lines: dict[str, list[Point]] = {}
    for one in known:
        others = [
            f"{factor.path}={level.text}"
            for number, (factor, level) in enumerate(zip(found.factors, one.levels, strict=True))
            if number != place and level.text
        ]
        named = [one.scenario] if len(found.scenarios) > 1 else []
        lines.setdefault(", ".join([*named, *others]) or "all", []).append(one)
    if found.factors[place].is_number:
        for line in lines.values():
            line.sort(key=lambda one: float(one.levels[place].value or 0))
    return lines


def _x(one: Point, place: int) -> Any:
    value = one.levels[place].value
    return value if isinstance(value, int | float) and not isinstance(value, bool) else one.levels[place].text


def _line(label: str, line: Sequence[Point], place: int, number: int) -> list[Data]:
    """Return a line and the band of its intervals."""
    colour = COLOURS[number % len(COLOURS)]
    x = [_x(one, place) for one in line]
    middle = {
        "type": "scatter", "x": x, "y": [one.estimate.value for one in line], "mode": "lines+markers", "name": html.escape(label),
        "legendgroup": str(number), "line": {"color": colour, "dash": DASHES[number // len(COLOURS) % len(DASHES)]},
        "marker": {"color": colour, "symbol": MARKERS[number % len(MARKERS)], "size": 7},
    }  # fmt: skip
    if not all(one.estimate.resolved for one in line):
        return [middle]
    low, high = ([getattr(one.estimate, end) for one in line] for end in ("low", "high"))
    band = {
        "type": "scatter", "x": x + x[::-1], "y": high + low[::-1], "fill": "toself", "fillcolor": colour, "opacity": 0.15,
        "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "legendgroup": str(number), "mode": "lines",
    }  # fmt: skip
    return [band, middle]


def _cloud(known: Sequence[Point], place: int) -> Data:
    half = [one.estimate.half_width if math.isfinite(one.estimate.half_width) else 0.0 for one in known]
    return {
        "type": "scatter", "x": [_x(one, place) for one in known], "y": [one.estimate.value for one in known], "mode": "markers",
        "marker": {"color": COLOURS[0], "size": 7}, "error_y": {"type": "data", "array": half, "visible": True},
        "text": [html.escape(", ".join(level.text for level in one.levels)) for one in known], "showlegend": False,
    }  # fmt: skip


def parallel(found: StudyResult, metric: str | None = None) -> Any:
    """Return all factors as parallel axes, a line for each point, coloured by the metric."""
    import plotly.graph_objects as go

    name = metric or found.metric
    known = points(found, name)
    dimensions: list[Data] = []
    for place, factor in enumerate(found.factors):
        texts = list(dict.fromkeys(one.levels[place].text for one in known))
        if factor.is_number and "" not in texts:
            values = [float(one.levels[place].value or 0) for one in known]
            dimensions.append({"label": html.escape(_titled(factor.path, factor.unit)), "values": values})
        else:
            dimensions.append(
                {"label": html.escape(factor.path), "values": [texts.index(one.levels[place].text) for one in known],
                 "tickvals": list(range(len(texts))), "ticktext": [html.escape(one) or "as it is" for one in texts]}
            )  # fmt: skip
    unit = {one.name: one.unit for one in found.columns}.get(name, "")
    values = [one.estimate.value for one in known]
    dimensions.append({"label": html.escape(_titled(name, unit)), "values": values})
    line = {"color": values, "colorscale": "Viridis", "showscale": True}
    layout = {
        "title": {"text": html.escape(f"{name} over all factors"), "x": 0.01},
        "paper_bgcolor": "white", "height": _HEIGHT, "margin": {"l": 90, "r": 40, "t": 100, "b": 40},
    }  # fmt: skip
    return go.Figure(data=[{"type": "parcoords", "dimensions": dimensions, "line": line}], layout=layout)


def page(found: StudyResult) -> str:
    """Return the charts of a study as one HTML file."""
    template = files(__package__ or "").joinpath("profile_page.html").read_text(encoding="utf-8")
    charts = [(one.path, figure(found, place)) for place, one in enumerate(found.factors)]
    if len(found.factors) > 1:
        charts.append(("all factors", parallel(found)))
    return Template(template).substitute(
        title=html.escape(f"{found.metric} of {', '.join(found.scenarios)}"),
        answer=html.escape(statement(found)),
        what=html.escape(
            f"{len(found.cells)} cells; the bands are {100 * found.confidence:g} % intervals over replications."
        ),
        index="".join(f'<li><a href="#chart-{n}">{html.escape(name)}</a></li>' for n, (name, _) in enumerate(charts)),
        laws="\n".join(_block(name, number) for number, (name, _) in enumerate(charts)),
        charts=f"[{','.join(chart.to_json() for _, chart in charts)}]".replace("<", "\\u003c"),
        config=json.dumps(CONFIG),
        plotly=_plotly(),
    )


def _block(name: str, number: int) -> str:
    said = f'role="img" aria-label="Chart over {html.escape(name)}"'
    chart = f'<div class="chart" style="min-height: {_HEIGHT}px" data-chart="{number}" {said}></div>'
    return f'<section id="chart-{number}"><h2>{html.escape(name)}</h2>{chart}</section>'
