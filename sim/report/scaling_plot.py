"""The figure of a sweep: the curve with its intervals, the laws fitted to it, and the curve without each mechanism.

`figure` draws one sweep, `page` all of them as one HTML file that opens without a network.
Leaves out: showing or saving them.
Checked: tests/test_scaling_command.py.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from ..analysis.growth import Growth, sentence
from ..analysis.scaling import ScalingResult, Sweep
from ..analysis.statistics import mean_interval
from .profile_plot import CONFIG, DASHES, GREY, MARKERS, _plotly
from .scaling_tables import name_of, statement

__all__ = ["figure", "page"]

_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
_BASE = "#0072B2"
_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": False}
_UNITS = {"s": "seconds", "B": "bytes"}

Data = dict[str, Any]


def figure(one: Sweep, found: ScalingResult) -> Any:
    """Return the chart of a sweep as a plotly Figure, both axes logarithmic where every mean is above 0."""
    import plotly.graph_objects as go

    curves = [one.growth, *(made.growth for made in one.ablation)]
    means = [curve.curve.mean for curve in curves if curve is not None]
    is_log = bool(means) and all((mean > 0).all() for mean in means)
    unit = _UNITS.get(found.unit, found.unit)
    x: Data = {"title": html.escape(one.factor), "type": "log" if is_log else "linear", **_AXIS}
    if one.growth is not None:
        x |= {"tickvals": one.growth.curve.x.tolist(), "ticktext": [f"{value:g}" for value in one.growth.curve.x]}
    y: Data = {"title": f"{html.escape(name_of(found.metric))} per task{f' ({unit})' if unit else ''}",
               "type": "log" if is_log else "linear", **_AXIS}  # fmt: skip
    layout = {
        "title": {"text": html.escape(f"{name_of(found.metric)} over {one.factor}"), "x": 0.01},
        "xaxis": x, "yaxis": y, "paper_bgcolor": "white", "plot_bgcolor": "white", "height": 640,
        "legend": {"font": {"size": 11}}, "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
    }  # fmt: skip
    return go.Figure(data=_traces(one, found), layout=layout)


def _traces(one: Sweep, found: ScalingResult) -> list[Data]:
    if one.growth is None:
        return []
    traces = [_points(one.growth, "as it is", _BASE, 0, found.confidence)]
    near = one.growth.chosen
    for number, fit in enumerate(one.growth.fits):
        told = f"{fit.law}{' (chosen)' if near is not None and near.law == fit.law else ''}"
        traces.append(
            {"type": "scatter", "x": one.growth.curve.x.tolist(), "y": fit.fitted.tolist(), "mode": "lines",
             "name": f"law: {told}", "line": {"color": GREY, "dash": DASHES[number % len(DASHES)], "width": 1},
             "visible": True if near is not None and near.law == fit.law else "legendonly"}
        )  # fmt: skip
    shown = [made for made in one.ablation if made.growth is not None]
    for number, made in enumerate(shown):
        assert made.growth is not None
        told = html.escape(f"without {made.mechanism}")
        traces.append(_points(made.growth, told, _COLOURS[number % len(_COLOURS)], number + 1, found.confidence))
    return traces


def _points(growth: Growth, name: str, colour: str, number: int, confidence: float) -> Data:
    curve = growth.curve
    known = [mean_interval(curve.values[:, place], confidence) for place in range(curve.x.size)]
    half = [one.half_width if np.isfinite(one.half_width) else 0.0 for one in known]
    return {
        "type": "scatter", "x": curve.x.tolist(), "y": curve.mean.tolist(), "mode": "lines+markers",
        "name": f"{name}<br><sup>{html.escape(sentence(growth))}</sup>",
        "line": {"color": colour, "dash": DASHES[number % len(DASHES)]},
        "marker": {"color": colour, "symbol": MARKERS[number % len(MARKERS)], "size": 7},
        "error_y": {"type": "data", "array": half, "visible": True},
    }  # fmt: skip


def page(found: ScalingResult) -> str:
    """Return the charts of all sweeps as one HTML file."""
    template = files(__package__ or "").joinpath("profile_page.html").read_text(encoding="utf-8")
    charts = [figure(one, found).to_json() for one in found.sweeps]
    title = f"How does {name_of(found.metric)} of {found.scenario} scale?"
    return Template(template).substitute(
        title=html.escape(title),
        answer=html.escape(" ".join(statement(one, found.metric) for one in found.sweeps if not one.beside)),
        what=html.escape(f"Seed {found.seed}; {found.replications} replications of each cell."),
        index="".join(
            f'<li><a href="#sweep-{place}">{html.escape(one.factor)}</a></li>' for place, one in enumerate(found.sweeps)
        ),
        laws="\n".join(_block(one, found, place) for place, one in enumerate(found.sweeps)),
        charts=f"[{','.join(charts)}]".replace("<", "\\u003c"),
        config=json.dumps(CONFIG),
        plotly=_plotly(),
    )


def _block(one: Sweep, found: ScalingResult, number: int) -> str:
    chart = (
        f'<div class="chart" data-chart="{number}" role="img" aria-label="Chart over {html.escape(one.factor)}"></div>'
    )
    said = html.escape(statement(one, found.metric))
    return f'<section id="sweep-{number}"><h2>{html.escape(one.factor)}</h2><p>{said}</p>{chart}</section>'
