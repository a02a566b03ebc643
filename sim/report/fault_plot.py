"""The figure of a study of faults: one replication over time, and success at each level and number of steps.

The timeline has goodput and arrivals, queues below them, and faults as shaded windows; `page` is one HTML file that opens without
a network.
Leaves out: showing or saving them.
Checked: tests/test_faults_command.py.
"""

from __future__ import annotations

import html
import json
import math
from importlib.resources import files
from string import Template
from typing import Any

from ..analysis.fault_study import StudyResult
from ..analysis.fault_timeline import BACKLOG, Timeline
from ..analysis.statistics import Estimate
from .fault_words import sentences
from .profile_plot import COLOURS, CONFIG, DASHES, GREY, MARKERS, _plotly

__all__ = ["figures", "page"]

_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": False}
_LAYOUT = {
    "paper_bgcolor": "white",
    "plot_bgcolor": "white",
    "height": 640,
    "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
}
_MOST_QUEUES = 6

Data = dict[str, Any]


def figures(found: StudyResult) -> dict[str, Any]:
    """Return the charts as plotly Figures, by title: the timeline, and what rises and steps where they were asked for."""
    import plotly.graph_objects as go

    charts = {"Timeline": go.Figure(data=_series(found.timeline), layout=_over_time(found.timeline))}
    if found.levels:
        charts["What breaks first"] = _lines(
            found.knob,
            {name: [(row.x, row.metrics[name]) for row in found.levels] for name in ("success", "attainment")}
            | {
                f"busy: {name}": [(row.x, row.utilization[name]) for row in found.levels if name in row.utilization]
                for name in found.levels[0].utilization
            },
        )
    if found.steps:
        charts["Success over steps"] = _lines(
            "steps", {one.name: [(b.steps, b.success) for b in one.bins] for one in found.steps}
        )
    return charts


def _series(one: Timeline) -> list[Data]:
    middles = [time - one.window / 2 for time in one.times]
    rates = [("arrivals", one.arrivals, GREY, "dot"), ("goodput", one.good, COLOURS[0], "solid")]
    traces: list[Data] = [
        {"type": "scatter", "x": middles, "y": list(values), "mode": "lines+markers", "name": name,
         "line": {"color": colour, "dash": dash}, "marker": {"size": 5}}
        for name, values, colour, dash in rates
    ]  # fmt: skip
    longest = sorted(one.queues, key=lambda name: -max(one.queues[name]))[:_MOST_QUEUES]
    lengths = [("tasks in the system", one.in_system), *((f"queue of {name}", one.queues[name]) for name in longest)]
    traces += [
        {"type": "scatter", "x": list(one.times) if not number else middles, "y": list(values), "mode": "lines",
         "name": html.escape(name), "yaxis": "y2",
         "line": {"color": COLOURS[(number + 1) % len(COLOURS)], "dash": DASHES[number % len(DASHES)]}}
        for number, (name, values) in enumerate(lengths)
    ]  # fmt: skip
    return traces


def _over_time(one: Timeline) -> Data:
    shaded = [period for period in one.periods if period.kind != BACKLOG]
    names = list(dict.fromkeys(period.cause for period in shaded))
    shapes = [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": period.start, "x1": period.end, "y0": 0, "y1": 1, "layer": "below",
         "fillcolor": COLOURS[(1 + names.index(period.cause)) % len(COLOURS)], "opacity": 0.15, "line": {"width": 0}}
        for period in shaded
    ]  # fmt: skip
    notes = [
        {"x": next(p.start for p in shaded if p.cause == name), "y": 1, "yref": "paper", "text": html.escape(name),
         "showarrow": False, "xanchor": "left", "yanchor": "bottom"}
        for name in names
    ]  # fmt: skip
    return {
        **_LAYOUT, "shapes": shapes, "annotations": notes,
        "xaxis": {"title": "time (s)", **_AXIS, "anchor": "y2"},
        "yaxis": {"title": "tasks per second", "domain": [0.45, 1.0], "rangemode": "tozero", **_AXIS},
        "yaxis2": {"title": "number waiting", "domain": [0.0, 0.38], "rangemode": "tozero", **_AXIS},
    }  # fmt: skip


def _lines(knob: str, series: dict[str, list[tuple[float, Estimate]]]) -> Any:
    import plotly.graph_objects as go

    traces: list[Data] = []
    for number, (name, points) in enumerate(series.items()):
        known = [(x, one) for x, one in points if math.isfinite(one.value)]
        above, below = (
            [end if math.isfinite(end) else 0.0 for end in ends]
            for ends in ([one.high - one.value for _, one in known], [one.value - one.low for _, one in known])
        )
        traces.append(
            {"type": "scatter", "x": [x for x, _ in known], "y": [one.value for _, one in known], "mode": "lines+markers",
             "name": html.escape(name), "line": {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)]},
             "marker": {"symbol": MARKERS[number % len(MARKERS)], "size": 7},
             "error_y": {"type": "data", "symmetric": False, "array": above, "arrayminus": below}}
        )  # fmt: skip
    layout = {
        **_LAYOUT,
        "xaxis": {"title": html.escape(knob), **_AXIS},
        "yaxis": {"title": "share", "rangemode": "tozero", **_AXIS},
    }
    return go.Figure(data=traces, layout=layout)


def page(found: StudyResult) -> str:
    """Return the charts as one HTML file."""
    template = files(__package__ or "").joinpath("profile_page.html").read_text(encoding="utf-8")
    charts = figures(found)
    return Template(template).substitute(
        title=html.escape(f"What do faults cost {found.scenario}?"),
        answer=html.escape(" ".join(sentences(found))),
        what=html.escape(
            f"Seed {found.seed}; {found.replications} replications of each scenario; the timeline is that of replication "
            f"{found.timeline.replication}."
        ),
        index="".join(
            f'<li><a href="#chart-{place}">{html.escape(title)}</a></li>' for place, title in enumerate(charts)
        ),
        laws="\n".join(
            f'<section id="chart-{place}"><h2>{html.escape(title)}</h2>'
            f'<div class="chart" data-chart="{place}" role="img" aria-label="{html.escape(title)}"></div></section>'
            for place, title in enumerate(charts)
        ),
        charts=f"[{','.join(one.to_json() for one in charts.values())}]".replace("<", "\\u003c"),
        config=json.dumps(CONFIG),
        plotly=_plotly(),
    )
