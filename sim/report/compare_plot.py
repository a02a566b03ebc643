"""The chart of a comparison: from the baseline's mean T_total, category by category, to the variant's.

Each bar is what a category adds or takes away, and its whisker the interval of that; they sum to the difference of the ends, which
are points, so that the axis need not begin at 0. `figure` draws it, `page` writes it as an HTML file that opens without a network.
Leaves out: showing or saving it.
Checked: tests/test_compare_files.py.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from ..analysis.comparison import ComparisonResult, Part
from ..analysis.statistics import Estimate
from .compare_words import replications, said_of_region, statement
from .profile_plot import CONFIG, GREY, _plotly

__all__ = ["figure", "page", "steps"]

_SAVES, _COSTS = "#0072B2", "#D55E00"  # Okabe and Ito's
_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": False}

Data = dict[str, Any]


def steps(found: ComparisonResult) -> list[tuple[Part, float]]:
    """Return the categories that any time is spent in, each with the time (s) from which its bar starts.

    The first starts at the baseline's mean T_total, and the last ends at the variant's.
    """
    reached, made = found.total.baseline.value, []
    for part in found.categories:
        if part.baseline.value > 0 or part.variant.value > 0:
            made.append((part, reached))
            reached -= part.saving.value
    return made


def figure(found: ComparisonResult) -> Any:
    """Return the waterfall as a plotly Figure."""
    import plotly.graph_objects as go

    bars = steps(found)
    names = ["A", *(part.category for part, _ in bars), "B"]
    layout = {
        "title": {"text": html.escape(_title(found)), "x": 0.01},
        "xaxis": {"categoryorder": "array", "categoryarray": names, "type": "category", **_AXIS},
        "yaxis": {"title": "T_total, mean per task (seconds)", **_AXIS},
        "paper_bgcolor": "white", "plot_bgcolor": "white", "height": 560, "bargap": 0.35,
        "legend": {"font": {"size": 11}}, "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
    }  # fmt: skip
    traces = [_bars(bars, True), _bars(bars, False), _ends("A", found.baseline, found.total.baseline)]
    traces.append(_ends("B", found.variant, found.total.variant))
    return go.Figure(data=traces, layout=layout)


def _title(found: ComparisonResult) -> str:
    return f"{found.scenario}: {found.baseline} (A) against {found.variant} (B)"


def _bars(bars: list[tuple[Part, float]], saves: bool) -> Data:
    """Return the bars of the categories that save, or of those that cost; each has the interval of its difference."""
    kept = [(part, start) for part, start in bars if (part.saving.value >= 0) == saves]
    return {
        "type": "bar", "name": "saves" if saves else "costs",
        "x": [part.category for part, _ in kept],
        "base": [start for _, start in kept],
        "y": [-part.saving.value for part, _ in kept],
        # The difference is minus the saving, so its upper end is the saving's lower one.
        "error_y": _whisker([(part.saving.value - part.saving.low, part.saving.high - part.saving.value, part.saving.resolved)
                             for part, _ in kept]),
        "marker": {"color": _SAVES if saves else _COSTS, "pattern": {"shape": "" if saves else "/"}},
        "hovertemplate": "%{x}: %{y:.4g} s<extra></extra>",
    }  # fmt: skip


def _ends(name: str, called: str, one: Estimate) -> Data:
    return {
        "type": "scatter", "mode": "markers", "x": [name], "y": [one.value], "name": f"{name}: {html.escape(called)}",
        "error_y": _whisker([(one.high - one.value, one.value - one.low, one.resolved)]),
        "marker": {"color": GREY, "size": 11, "symbol": "diamond" if name == "A" else "square"},
        "hovertemplate": "%{x}: %{y:.4g} s<extra></extra>",
    }  # fmt: skip


def _whisker(ends: list[tuple[float, float, bool]]) -> Data:
    """Return error bars, up and down; none where an end is not known."""
    up, down = ([one[side] if one[2] else 0.0 for one in ends] for side in (0, 1))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "visible": True, "color": "#333333"}


def page(found: ComparisonResult) -> str:
    """Return the chart and the verdict as one HTML file."""
    template = files(__package__ or "").joinpath("profile_page.html").read_text(encoding="utf-8")
    title = html.escape(_title(found))
    chart = '<div class="chart" data-chart="0" role="img" aria-label="Waterfall of mean T_total by category"></div>'
    sure = f"{100 * found.confidence:g} %"
    return Template(template).substitute(
        title=title,
        answer=html.escape(f"{statement(found)} {said_of_region(found)}".strip()),
        what=html.escape(f"Seed {found.seed}; {replications(found.replications)}. Whiskers are {sure} intervals."),
        index='<li><a href="#waterfall">Where the difference comes from</a></li>',
        laws=f'<section id="waterfall"><h2>Where the difference comes from</h2>{chart}</section>',
        charts=f"[{figure(found).to_json()}]".replace("<", "\\u003c"),
        config=json.dumps(CONFIG),
        plotly=_plotly(),
    )
