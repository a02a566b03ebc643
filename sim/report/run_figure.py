"""The figure of a run: where the time of a task goes, category by category, and how T_total is distributed.

The bars stand one behind the other, so that they end at T_total, and each has a line of its own for its interval.

Leaves out: showing or saving it.
Checked: tests/test_whatif.py.
Source: the colours are of Okabe and Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

import html
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..analysis.statistics import Estimate
from ..analysis.summary import Summary
from ..engine.ledger import NO_COORDINATION
from .numbers import show

__all__ = ["figure"]

_OWN, _COORDINATION, _WHOLE = "#0072B2", "#E69F00", "#777777"
_QUANTILES = {"p50": ("#009E73", "dot"), "p95": ("#D55E00", "dash"), "p99": ("#CC79A7", "dashdot")}
_MOST_POINTS = 500  # of the distribution's curve: more cannot be told apart on a screen
_AXIS = {"gridcolor": "rgba(128,128,128,0.25)", "showline": True, "ticks": "outside", "zeroline": False}

Data = dict[str, Any]
Times = npt.NDArray[np.float64]


def figure(summary: Summary, times: Times) -> Any:
    """Return the chart as a plotly Figure; `times` are T_total of the tasks that the summary is about (s)."""
    from plotly.subplots import make_subplots

    drawn = make_subplots(
        rows=2, cols=1, row_heights=[0.6, 0.4], vertical_spacing=0.2,
        subplot_titles=("Where the time goes (mean per task, on the critical path)", "T_total of tasks done"),
    )  # fmt: skip
    for trace in _parts(summary):
        drawn.add_trace(trace, row=1, col=1)
    for trace in _distribution(summary, times):
        drawn.add_trace(trace, row=2, col=1)
    drawn.update_xaxes({**_AXIS, "title": "seconds", "rangemode": "tozero"})
    drawn.update_yaxes({"autorange": "reversed", "showline": True}, row=1, col=1)
    drawn.update_yaxes({**_AXIS, "title": "share of tasks", "tickformat": ".0%"}, row=2, col=1)
    drawn.update_layout(
        title={"text": html.escape(f"{summary.scenario}: where the time goes"), "x": 0.01},
        height=640, barmode="overlay", paper_bgcolor="white", plot_bgcolor="white", legend={"y": 1, "yanchor": "top"},
        legend2={"y": 0.32, "yanchor": "top"}, margin={"l": 120, "r": 20, "t": 80, "b": 60},
    )  # fmt: skip
    return drawn


def _parts(summary: Summary) -> list[Data]:
    """Return a bar for each category that takes time, each from the end of the one before, and T_total below."""
    present = {name: part.seconds for name, part in summary.categories.items() if part.seconds.value > 0}
    ends = np.cumsum([0.0, *(one.value for one in present.values())])
    starts = {name: start for name, (start, _) in zip(present, pairwise(ends.tolist()), strict=True)}
    coordination = [name for name in present if name not in NO_COORDINATION]
    own = [name for name in present if name in NO_COORDINATION]
    whole = {"T_total": summary.metrics["response_time_mean"]}
    groups = (
        (" and ".join(own), _OWN, {name: present[name] for name in own}),
        ("T_coordination", _COORDINATION, {name: present[name] for name in coordination}),
        ("T_total", _WHOLE, whole if present else {}),
    )
    # Categories in the ledger's order, whichever group they belong to.
    order: Data = {"type": "scatter", "x": [None] * (len(present) + 1), "y": [*present, "T_total"], "showlegend": False}
    bars = [_bars(name, colour, found, starts) for name, colour, found in groups if found]
    return [order, *bars] if bars else []


def _bars(name: str, colour: str, found: dict[str, Estimate], starts: dict[str, float]) -> Data:
    values = list(found.values())
    return {
        "type": "bar", "orientation": "h", "name": name, "y": list(found),
        "x": [one.value for one in values], "base": [starts.get(part, 0.0) for part in found],
        "marker": {"color": colour}, "error_x": _error(values), "text": [show(one, "s").text for one in values],
        "textposition": "none", "hovertemplate": "%{y}: %{text}<extra></extra>",
    }  # fmt: skip


def _foot(one: Estimate) -> Estimate:
    """Return the value without its interval, for the end of a line that only stands on the axis."""
    return replace(one, low=one.value, high=one.value)


def _error(values: list[Estimate]) -> Data:
    """Return the intervals; nothing is drawn of one whose end is not known."""
    above = [one.high - one.value if math.isfinite(one.high) else 0.0 for one in values]
    below = [one.value - one.low if math.isfinite(one.low) else 0.0 for one in values]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 4}


def _distribution(summary: Summary, times: Times) -> list[Data]:
    """Return the share of tasks done within a time, and its quantiles with their intervals."""
    if not times.size:
        return []
    shares = np.linspace(0.0, 1.0, min(times.size, _MOST_POINTS))
    traces: list[Data] = [
        {
            "type": "scatter", "mode": "lines", "name": "done within", "legend": "legend2",
            "x": np.quantile(times, shares, method="inverted_cdf").tolist(), "y": shares.tolist(),
            "line": {"color": _OWN, "shape": "hv"}, "hovertemplate": "%{y:.1%} within %{x:.4g} s<extra></extra>",
        }
    ]  # fmt: skip
    for name, (colour, dash) in _QUANTILES.items():
        found = summary.metrics[f"response_time_{name}"]
        if math.isnan(found.value):
            continue
        share = float(name[1:]) / 100
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": f"{name}: {show(found, 's').text}",
                "legend": "legend2", "x": [found.value, found.value], "y": [0.0, share],
                "line": {"color": colour, "dash": dash}, "marker": {"size": [0, 8], "color": colour},
                "error_x": {**_error([_foot(found), found]), "color": colour}, "hoverinfo": "name",
            }
        )  # fmt: skip
    return traces
