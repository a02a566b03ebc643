"""The figures of a capacity plan: frontier of cost and latency, what was tried, headroom, and cost over the loads.

`figures` draws those that the plan has something for, `page` all of them as one HTML file that opens without a network.
Leaves out: showing or saving them.
Checked: tests/test_plan_report.py.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from ..analysis.planned import Limit, PlanResult, Trial
from ..analysis.summary import Judged
from . import plan_words as words
from .numbers import unit_of_objective
from .plan_tables import effort
from .profile_plot import COLOURS, CONFIG, GREY, _plotly

__all__ = ["Chart", "figures", "page"]

_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": False}
_LOOKS = {"pass": (COLOURS[2], "circle"), "fail": (COLOURS[1], "x"), "inconclusive": (COLOURS[4], "diamond-open")}
_MOST_BARS = 12
_HEIGHT = 620

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its name, the question it answers, and what plotly draws."""

    name: str
    question: str
    figure: Any


def figures(found: PlanResult, rate: float = math.nan) -> list[Chart]:
    """Return the charts of a plan that have anything to show; `rate` is the scenario's arrival rate (tasks/s), nan without one."""
    made = (_frontier(found), _trials(found), _headroom(found, rate), _loads(found))
    return [one for one in made if one is not None]


def page(found: PlanResult, rate: float = math.nan) -> str:
    """Return the charts of a plan as one HTML file."""
    template = files(__package__ or "").joinpath("profile_page.html").read_text(encoding="utf-8")
    charts = figures(found, rate)
    texts = [one.figure.to_json() for one in charts]
    return Template(template).substitute(
        title=html.escape(f"What does {found.scenario} need?"),
        answer=html.escape(words.answer(found, rate)),
        what=html.escape(f"Seed {found.seed}; {effort(found)}."),
        index="".join(f'<li><a href="#{one.name}">{html.escape(one.question)}</a></li>' for one in charts),
        laws="\n".join(_section(one, number) for number, one in enumerate(charts)),
        charts=f"[{','.join(texts)}]".replace("<", "\\u003c"),
        config=json.dumps(CONFIG),
        plotly=_plotly(),
    )


def _section(one: Chart, number: int) -> str:
    said = html.escape(one.question)
    chart = f'<div class="chart" style="min-height: {_HEIGHT}px" data-chart="{number}" role="img" aria-label="{said}"></div>'
    return f'<section id="{one.name}"><h2>{said}</h2>{chart}</section>'


def _drawn(traces: Sequence[Data], x: Data, y: Data, **layout: Any) -> Any:
    import plotly.graph_objects as go

    look = {
        "xaxis": _AXIS | x, "yaxis": _AXIS | y, "paper_bgcolor": "white", "plot_bgcolor": "white", "height": _HEIGHT,
        "legend": {"font": {"size": 11}}, "margin": {"l": 80, "r": 20, "t": 30, "b": 70},
    }  # fmt: skip
    return go.Figure(data=list(traces), layout=look | layout)


# ---------------------------------------------------------------------------------------------------------------------
# The charts


def _frontier(found: PlanResult) -> Chart | None:
    """Cost against the first objective of the cheapest configurations, as objectives on time are made stricter."""
    known = [one.trial for one in sorted(found.frontier, key=lambda one: one.strictness) if one.trial is not None]
    points = [(trial, judged) for trial in known if (judged := _first(found, trial)) is not None]
    if not points:
        return None
    metric, unit = _axis(found)
    labels = [_label(found, trial) for trial, _ in points]
    chosen = {one.trial.point for one in found.choices if one.trial is not None and one.verdict == "pass"}
    trace = _points(
        [trial.cost for trial, _ in points], [judged for _, judged in points], "cheapest", COLOURS[0], "circle"
    )
    trace |= {
        "mode": "lines+markers+text", "text": labels, "textposition": "top right", "line": {"shape": "hv", "dash": "dot"},
        "hovertext": [html.escape(words.settings(found, trial)) for trial, _ in points],
    }  # fmt: skip
    trace["marker"]["size"] = [14 if trial.point in chosen else 8 for trial, _ in points]
    drawn = _drawn(
        [trace], {"title": "$ an hour", "rangemode": "tozero"}, {"title": f"{metric}{unit}", "rangemode": "tozero"},
        shapes=_thresholds(found), showlegend=False,
    )  # fmt: skip
    return Chart("frontier", f"What does a shorter {metric} cost?", drawn)


def _trials(found: PlanResult) -> Chart | None:
    """All simulated configurations: cost against the first objective, by verdict."""
    simulated = [(one, judged) for one in found.trials if (judged := _first(found, one)) is not None]
    if not simulated:
        return None
    metric, unit = _axis(found)
    traces = []
    for verdict, (colour, symbol) in _LOOKS.items():
        these = [(trial, judged) for trial, judged in simulated if trial.verdict == verdict]
        if not these:
            continue
        trace = _points([trial.cost for trial, _ in these], [judged for _, judged in these], verdict, colour, symbol)
        traces.append(trace | {"mode": "markers", "hovertext": [_hover(found, trial) for trial, _ in these]})
    is_wide = _is_wide([judged.estimate.value for _, judged in simulated])
    y = {"title": f"{metric}{unit}", "type": "log"} if is_wide else {"title": f"{metric}{unit}", "rangemode": "tozero"}
    drawn = _drawn(traces, {"title": "$ an hour", "rangemode": "tozero"}, y, shapes=_thresholds(found))
    return Chart("trials", "Which configurations were simulated, and which pass?", drawn)


def _headroom(found: PlanResult, rate: float) -> Chart | None:
    """How much more load each resource and each objective takes, those that end first on top."""
    limits = sorted((one for one in found.headroom if math.isfinite(one.factor)), key=lambda one: one.factor)[
        :_MOST_BARS
    ]
    if not limits:
        return None
    base = rate * max((one.load.factor for one in found.choices), default=1.0)
    size, unit = (base, "tasks/s") if math.isfinite(base) else (1.0, "times the planned load")
    traces = list(_bars(limits, size))
    line = {
        "type": "line",
        "x0": size,
        "x1": size,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": GREY, "dash": "dash"},
    }
    names = [html.escape(one.name) for one in reversed(limits)]
    drawn = _drawn(
        traces, {"title": f"load at which it ends ({unit}); dashed: the planned load", "rangemode": "tozero"},
        {"categoryorder": "array", "categoryarray": names, "automargin": True}, shapes=[line], barmode="overlay",
    )  # fmt: skip
    return Chart("headroom", "How much more load does it take, and what ends first?", drawn)


def _bars(limits: Sequence[Limit], size: float) -> Iterator[Data]:
    kinds = (
        ("resource", "saturates (traffic equations)", COLOURS[4]),
        ("objective", "breaks (simulation)", COLOURS[1]),
    )
    for kind, name, colour in kinds:
        these = [one for one in limits if one.kind == kind]
        if these:
            yield {
                "type": "bar", "orientation": "h", "name": name, "marker": {"color": colour},
                "x": [one.factor * size for one in these], "y": [html.escape(one.name) for one in these],
                "error_x": {
                    "type": "data", "symmetric": False,
                    "array": [_reach(one.high - one.factor) * size for one in these],
                    "arrayminus": [_reach(one.factor - one.low) * size for one in these],
                },
            }  # fmt: skip


def _loads(found: PlanResult) -> Chart | None:
    """Cost of an hour over the loads, beside what the greatest load needs."""
    known = [(one.load, one.trial) for one in found.choices if one.trial is not None]
    if len(known) < 2:
        return None
    labels = [html.escape(load.label) for load, _ in known]
    looks = [_LOOKS[one.verdict] for one in found.choices if one.trial is not None]
    most = max(found.choices, key=lambda one: one.load.factor).trial
    bars = {
        "type": "bar", "x": labels, "y": [trial.cost for _, trial in known], "name": "chosen for each load",
        "marker": {"color": [COLOURS[0] if colour == _LOOKS["pass"][0] else colour for colour, _ in looks]},
        "hovertext": [html.escape(words.settings(found, trial)) for _, trial in known],
    }  # fmt: skip
    traces = [bars]
    if most is not None:
        fixed = most.cost - most.usage
        costs = [fixed + trial.usage for _, trial in known]
        traces.append(
            {"type": "scatter", "mode": "lines", "x": labels, "y": costs, "name": "what the greatest load needs, always",
             "line": {"color": GREY, "dash": "dash"}}
        )  # fmt: skip
    drawn = _drawn(traces, {"type": "category"}, {"title": "$ an hour", "rangemode": "tozero"})
    return Chart("loads", "What does an hour cost at each load?", drawn)


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def _points(costs: Sequence[float], judged: Sequence[Judged], name: str, colour: str, symbol: str) -> Data:
    return {
        "type": "scatter", "x": list(costs), "y": [one.estimate.value for one in judged], "name": name,
        "marker": {"color": colour, "symbol": symbol, "size": 10}, "line": {"color": colour},
        "error_y": {
            "type": "data", "symmetric": False, "visible": True, "thickness": 1,
            "array": [_reach(one.estimate.high - one.estimate.value) for one in judged],
            "arrayminus": [_reach(one.estimate.value - one.estimate.low) for one in judged],
        },
    }  # fmt: skip


def _first(found: PlanResult, trial: Trial) -> Judged | None:
    """Return the estimate of the plan's first objective, where a trial has one."""
    metric = found.objectives[0].metric
    return next((one for one in trial.judged if one.metric == metric and math.isfinite(one.estimate.value)), None)


def _axis(found: PlanResult) -> tuple[str, str]:
    metric = found.objectives[0].metric
    unit = {"s": " (seconds)", "share": " (share)", "1/s": " (1/s)", "USD": " ($)"}.get(unit_of_objective(metric), "")
    return html.escape(metric), unit


def _thresholds(found: PlanResult) -> list[Data]:
    at = found.objectives[0].threshold
    line = {"color": GREY, "dash": "dash", "width": 1}
    return [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": line}]


def _label(found: PlanResult, trial: Trial) -> str:
    return html.escape(" / ".join(words.cells(found, trial)))


def _hover(found: PlanResult, trial: Trial) -> str:
    where = f" ({trial.load.label})" if trial.load.label and len(found.choices) > 1 else ""
    return html.escape(f"{words.settings(found, trial)}{where}: {words.counted(trial.tasks, 'task')}")


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 20


def _reach(length: float) -> float:
    """Return the length of a whisker; none where the end is not known."""
    return max(length, 0.0) if math.isfinite(length) else 0.0
