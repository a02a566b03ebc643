"""The figures of a sensitivity: the tornado, mu* against sigma of Morris, and Sobol' indices with their intervals.

`figure` draws one metric, `page` all of them as one HTML file that opens without a network.
Leaves out: showing or saving them.
Checked: tests/test_sensitivity_command.py.
"""

from __future__ import annotations

import html
import json
import math
from importlib.resources import files
from string import Template
from typing import Any

from ..analysis.sensitivity import FactorResult, SensitivityResult
from ..analysis.sensitivity_global import MorrisMeasures, SobolMeasures
from ..analysis.statistics import Estimate
from .profile_plot import CONFIG, GREY, _plotly
from .sensitivity_tables import name_of, range_of, statement

__all__ = ["figure", "page"]

_LOW, _HIGH = "#0072B2", "#D55E00"
_COLOURS = {"negligible": "#999999", "linear": _LOW, "nonlinear or interacting": _HIGH}
_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": True}
_UNITS = {"s": "seconds", "B": "bytes", "": ""}
_MOST = 20  # bars

Data = dict[str, Any]


def figure(found: SensitivityResult, metric: str) -> Any:
    """Return the chart of a metric (its full name) as a plotly Figure."""
    import plotly.graph_objects as go

    unit = _UNITS.get(found.units[metric], found.units[metric])
    name = html.escape(name_of(metric))
    of_unit = f" ({unit})" if unit else ""
    if metric in found.morris:
        data, x, y = _morris(found.morris[metric]), f"mu* of {name}{of_unit}", f"sigma{of_unit}"
    elif metric in found.sobol:
        data, x, y = _sobol(found.sobol[metric]), f"share of the variance of {name}", ""
    else:
        data, x, y = _tornado(found, metric), f"change of {name}{of_unit}", ""
    layout: dict[str, Any] = {
        "title": {"text": f"{name}: {html.escape(found.scenario)}", "x": 0.01}, "barmode": "overlay",
        "xaxis": {"title": x, **_AXIS}, "yaxis": {"title": y, "automargin": True, **_AXIS},
        "paper_bgcolor": "white", "plot_bgcolor": "white", "height": 640,
        "legend": {"font": {"size": 11}}, "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
    }  # fmt: skip
    if metric in found.sobol:
        layout["barmode"] = "group"
    elif metric not in found.morris:
        layout["yaxis"] |= _labels(found, metric)
    return go.Figure(data=data, layout=layout)


def _shown(found: SensitivityResult, metric: str) -> list[FactorResult]:
    return [one for one in found.ranked(metric) if not one.failure][:_MOST][::-1]


def _labels(found: SensitivityResult, metric: str) -> Data:
    """Return the ticks of a tornado: each factor with what it is and the ends of its range."""
    shown = _shown(found, metric)
    texts = [f"{html.escape(one.factor.name)}<br>{html.escape(range_of(one))}" for one in shown]
    return {"tickvals": [html.escape(one.factor.name) for one in shown], "ticktext": texts, "tickfont": {"size": 10}}


def _tornado(found: SensitivityResult, metric: str) -> list[Data]:
    shown = _shown(found, metric)
    traces = []
    for label, colour in (("low", _LOW), ("high", _HIGH)):
        pairs = [(one, getattr(one.responses[metric], label), getattr(one.factor, label)) for one in shown]
        known = [(one, change, side) for one, change, side in pairs if change is not None and side is not None]
        traces.append(
            {"type": "bar", "orientation": "h", "name": f"at its {label} end", "marker": {"color": colour},
             "y": [html.escape(one.factor.name) for one, _, _ in known], "x": [change.value for _, change, _ in known],
             "customdata": [[html.escape(one.factor.now), html.escape(side.text)] for one, _, side in known],
             "hovertemplate": "%{y}: %{customdata[0]} to %{customdata[1]}: %{x:.4g}<extra></extra>",
             "error_x": {"type": "data", "array": [_half(change) for _, change, _ in known], "color": GREY}}
        )  # fmt: skip
    return traces


def _half(one: Estimate) -> float:
    return one.half_width if math.isfinite(one.half_width) else 0.0


def _morris(measures: MorrisMeasures) -> list[Data]:
    traces: list[Data] = []
    for verdict, colour in _COLOURS.items():
        chosen = [one for one in measures.factors if one.verdict == verdict]
        traces.append(
            {"type": "scatter", "mode": "markers+text", "name": verdict, "marker": {"color": colour, "size": 9},
             "text": [html.escape(one.name) for one in chosen], "textposition": "top center",
             "x": [one.mu_star.value for one in chosen], "y": [one.sigma.value for one in chosen],
             "error_x": _whiskers([one.mu_star for one in chosen]),
             "error_y": _whiskers([one.sigma for one in chosen])}
        )  # fmt: skip
    most = max(one.mu_star.value for one in measures.factors)
    traces.append(
        {"type": "scatter", "mode": "lines", "name": "sigma = 0.1 mu*", "x": [0.0, most], "y": [0.0, 0.1 * most],
         "line": {"color": GREY, "dash": "dash"}}
    )  # fmt: skip
    return traces


def _sobol(measures: SobolMeasures) -> list[Data]:
    shown = measures.factors[:_MOST][::-1]
    return [
        {"type": "bar", "orientation": "h", "name": label, "marker": {"color": colour},
         "y": [html.escape(one.name) for one in shown], "x": [getattr(one, part).value for one in shown],
         "error_x": _whiskers([getattr(one, part) for one in shown])}
        for label, part, colour in (("first order", "first", _LOW), ("total", "total", _HIGH))
    ]  # fmt: skip


def _whiskers(known: list[Estimate]) -> Data:
    above = [one.high - one.value if math.isfinite(one.high) else 0.0 for one in known]
    below = [one.value - one.low if math.isfinite(one.low) else 0.0 for one in known]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": GREY}


def page(found: SensitivityResult) -> str:
    """Return the charts of all metrics as one HTML file."""
    template = files(__package__ or "").joinpath("profile_page.html").read_text(encoding="utf-8")
    charts = [figure(found, metric).to_json() for metric in found.metrics]
    return Template(template).substitute(
        title=html.escape(f"What does {found.scenario} owe to each factor?"),
        answer=html.escape(statement(found)),
        what=html.escape(f"Seed {found.seed}; {found.replications} replications of each of {found.cells} cells."),
        index="".join(
            f'<li><a href="#metric-{place}">{html.escape(name_of(metric))}</a></li>'
            for place, metric in enumerate(found.metrics)
        ),
        laws="\n".join(
            f'<section id="metric-{place}"><h2>{html.escape(name_of(metric))}</h2><div class="chart" data-chart="{place}" '
            f'role="img" aria-label="Chart of {html.escape(name_of(metric))}"></div></section>'
            for place, metric in enumerate(found.metrics)
        ),
        charts=f"[{','.join(charts)}]".replace("<", "\\u003c"),
        config=json.dumps(CONFIG),
        plotly=_plotly(),
    )
