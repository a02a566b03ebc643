"""The charts of a capacity plan: T_total and the chance of each objective over what is decided, the plan over the loads, cost, headroom.

Leaves out: what is said beside them (`plan`).
Checked: tests/test_plan_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ...analysis.planned import Choice, Limit, PlanResult, Trial
from ...analysis.summary import Judged
from .. import plan_words as words
from ..layout import Table
from ..numbers import NOTHING, plain, unit_of_objective
from ..page import theme
from ..page.parts import Chart, View
from ..plan_beyond import frontier as frontier_table
from ..plan_beyond import headroom as headroom_table
from .pieces import cells as cell
from .pieces import table, tidy
from .plan_lines import at_peak, label, main_variable, peak, short
from .series import hover, log_axis, rounded, spread, vanishing

__all__ = ["capacity", "frontier", "headroom", "loads", "trials"]

Data = dict[str, Any]
_MOST_BARS = 12
_WIDE = 20  # greatest over least, from which an axis is logarithmic


# ---------------------------------------------------------------------------------------------------------------------
# Cost


def frontier(found: PlanResult) -> Chart | None:
    """Return cost against the first objective of the cheapest configurations, as objectives on time are made stricter."""
    known = [one for one in sorted(found.frontier, key=lambda one: one.strictness) if one.trial is not None]
    points = [
        (one, one.trial, judged) for one in known if one.trial is not None and (judged := _first(found, one.trial))
    ]
    if not points or (found.is_free and not any(trial.cost for _, trial, _ in points)):
        return None
    metric, unit = found.objectives[0].metric, unit_of_objective(found.objectives[0].metric)
    ends = [points[0], points[-1]]
    # Two limits may be met by one configuration: it is drawn once. From one to the next dearer the cheaper is what there is.
    points = sorted(
        {trial.point: (one, trial, judged) for one, trial, judged in points}.values(), key=lambda each: each[1].cost
    )
    if len(points) < 2:  # the table says it
        return None
    chosen = {one.trial.point for one in found.choices if one.trial is not None and one.verdict == "pass"}
    trace = _points([trial for _, trial, _ in points], [judged for _, _, judged in points]) | {
        "name": "cheapest", "mode": "lines+markers+text", "text": [html.escape(short(found, trial)) for _, trial, _ in points],
        "textposition": "top right", "line": {"shape": "hv", "dash": "dot", "color": theme.COLOURS[0]}, "cliponaxis": False,
        "hovertext": [_hover(found, trial, judged, unit) for _, trial, judged in points],
        "marker": {"color": theme.COLOURS[0], "symbol": "circle", "size": [14 if trial.point in chosen else 8 for _, trial, _ in points]},
    }  # fmt: skip
    # Room on the right for the name of the last point.
    low, high = points[0][1].cost, points[-1][1].cost
    reach = high - low or high or 1.0
    x = theme.axis("$ an hour", range=[rounded(max(low - 0.15 * reach, 0.0)), rounded(high + 0.25 * reach)])
    y = theme.axis(_titled(metric), rangemode="tozero")
    drawn = theme.layout(x, y, shapes=[theme.limit(found.objectives[0].threshold, "y")], showlegend=False)
    told = tidy(next(iter(frontier_table(found))))
    summary = (
        f"From {words.money(ends[0][1].cost)} an hour for {words.wanted(ends[0][0].objectives)} to "
        f"{words.money(ends[1][1].cost)} for {words.wanted(ends[1][0].objectives)}; the dashed line is the plan's own limit."
    )
    return Chart(
        "frontier", f"What does a shorter {metric} cost?", {"": View([trace], drawn, summary, told)}, scales=("y",)
    )


def trials(found: PlanResult) -> Chart | None:
    """Return cost against the first objective of all that was simulated at the greatest load; what something else beats in both is faint."""
    known = [(one, judged) for one in at_peak(found) if (judged := _first(found, one)) is not None]
    if not known or (found.is_free and not any(one.cost for one, _ in known)):
        return None
    sense = found.objectives[0].sense
    metric, unit = found.objectives[0].metric, unit_of_objective(found.objectives[0].metric)
    best = _undominated(known, sense)
    unbeaten = {one.point for one, _ in best}
    floor = min((judged.estimate.value for _, judged in known), default=0.0) / 5
    is_wide = spread([judged.estimate for _, judged in known]) > _WIDE
    edge: Data = {
        "type": "scatter", "mode": "lines", "name": "nothing is better in both", "x": [rounded(one.cost) for one, _ in best],
        "y": [rounded(judged.estimate.value) for _, judged in best], "hoverinfo": "skip",
        "line": {"color": theme.COLOURS[0], "dash": "dot", "shape": "hv", "width": 2},
    }  # fmt: skip
    traces = [edge] if len(best) > 1 else []
    for verdict, (colour, symbol) in theme.VERDICTS.items():
        for is_best in (True, False):
            these = [pair for pair in known if pair[0].verdict == verdict and (pair[0].point in unbeaten) == is_best]
            if these:
                trace = _points([one for one, _ in these], [judged for _, judged in these], floor if is_wide else None)
                trace["error_y"] |= {"color": colour, "thickness": 1.5 if is_best else 0.5}
                marker = {"color": colour, "symbol": symbol, "size": 11 if is_best else 8}
                traces.append(trace | {
                    "name": verdict if is_best else f"{verdict}, beaten in both", "mode": "markers", "marker": marker,
                    "opacity": 1.0 if is_best else 0.45, "hovertext": [_hover(found, one, judged, unit) for one, judged in these],
                })  # fmt: skip
    values = [judged.estimate.value for _, judged in known]
    y = log_axis(_titled(metric), values) if is_wide else theme.axis(_titled(metric), rangemode="tozero")
    drawn = theme.layout(
        theme.axis("$ an hour", rangemode="tozero"), y, shapes=[theme.limit(found.objectives[0].threshold, "y")]
    )
    told = table(
        "Configurations simulated, by cost",
        ("configuration", "$ an hour", metric, "replications", "verdict", "beaten in both"),
        [(words.settings(found, one), words.money(one.cost), cell(judged.estimate, unit), f"{one.replications}", one.verdict,
          "" if one.point in unbeaten else "yes") for one, judged in sorted(known, key=lambda pair: pair[0].cost)],
        "<>>><<",
    )  # fmt: skip
    passing = sum(one.verdict == "pass" for one, _ in known)
    summary = (
        f"{words.counted(len(known), 'configuration')} simulated{_where(found)}: {passing} pass; "
        f"{len(best)} not beaten by another in both cost and {metric}."
        f"{vanishing([(label(found, one), judged.estimate) for one, judged in known])}"
    )
    title = "Which configurations were simulated, and which pass?"
    return Chart("trials", title, {"": View(traces, drawn, summary, told)}, scales=("y",))


def _undominated(known: Sequence[tuple[Trial, Judged]], sense: str) -> list[tuple[Trial, Judged]]:
    """Return those that none beats in cost and metric, by cost."""
    sign = 1 if sense == "<=" else -1
    best: list[tuple[Trial, Judged]] = []
    for pair in sorted(known, key=lambda pair: (pair[0].cost, sign * pair[1].estimate.value)):
        if not best or sign * pair[1].estimate.value < sign * best[-1][1].estimate.value:
            best.append(pair)
    return best


def _points(these: Sequence[Trial], judged: Sequence[Judged], floor: float | None = None) -> Data:
    ends = [theme.held([one.estimate], unit_of_objective(one.metric))[0] for one in judged]
    bars = theme.whiskers(ends)
    if floor is not None:
        bars["arrayminus"] = [
            min(below, max(one.value - floor, 0.0)) for below, one in zip(bars["arrayminus"], ends, strict=True)
        ]
    bars = bars | {name: [rounded(one) for one in bars[name]] for name in ("array", "arrayminus")}
    return {
        "type": "scatter", "x": [rounded(one.cost) for one in these], "y": [rounded(one.value) for one in ends],
        "error_y": bars, "hoverinfo": "text",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Loads


def capacity(found: PlanResult, rate: float) -> Chart | None:
    """Return how much of the main decision each load takes; nothing where there are fewer than two loads, or it is no number."""
    place = main_variable(found)
    variable = found.variables[place]
    by_factor = {one.load.factor: one for one in found.choices}
    choices = [by_factor[factor] for factor in sorted(by_factor)]
    amounts = [_number(text) for text in variable.values]
    if len(choices) < 2 or any(one is None for one in amounts):
        return None
    size = rate if math.isfinite(rate) else 1.0
    unit = "tasks/s" if math.isfinite(rate) else "times the scenario's load"

    def at(pairs: Sequence[tuple[float, Trial]]) -> Data:
        return {
            "type": "scatter", "hoverinfo": "text", "x": [rounded(factor * size) for factor, _ in pairs],
            "y": [amounts[one.point[place]] for _, one in pairs], "mode": "markers",
            "hovertext": [html.escape(f"{words.at(one.load, rate)}: {words.settings(found, one)}, {one.verdict}") for _, one in pairs],
        }  # fmt: skip

    chosen = [(one.load.factor, one.trial) for one in choices if one.trial is not None and one.verdict == "pass"]
    traces: list[Data] = []
    for verdict, (colour, symbol) in theme.VERDICTS.items():
        seen = sorted(
            {
                (one.load.factor, one.point): one for one in found.trials if one.replications and one.verdict == verdict
            }.items()
        )
        if seen:
            marker = {"color": colour, "symbol": symbol, "size": 7, "opacity": 0.5}
            traces.append(
                at([(factor, one) for (factor, _), one in seen]) | {"name": f"simulated: {verdict}", "marker": marker}
            )
    doubted = [(one.load.factor, each) for one in choices for each in one.undecided]
    if doubted:
        marker = {"color": theme.COLOURS[4], "symbol": "diamond-open", "size": 12, "line": {"width": 2}}
        traces.append(at(doubted) | {"name": f"{words.less(found)}, not resolved", "marker": marker})
    if chosen:
        looks = {
            "marker": {"color": theme.COLOURS[0], "symbol": "circle", "size": 11},
            "line": {"color": theme.COLOURS[0], "shape": "vh"},
        }
        traces.append(at(chosen) | looks | {"name": "chosen", "mode": "lines+markers"})
    y = theme.axis(variable.path, rangemode="tozero")
    drawn = theme.layout(theme.axis(f"load ({unit})", rangemode="tozero"), y)
    title = f"How many {variable.path} does each load take?"
    return Chart(
        "capacity", title, {"": View(traces, drawn, _steps(found, choices, rate), _loads_table(found, choices, rate))}
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _steps(found: PlanResult, choices: Sequence[Choice], rate: float) -> str:
    told = [
        f"{words.configuration(found, one.trial)} at {words.at(one.load, rate)}"
        for one in (choices[0], choices[-1]) if one.trial is not None and one.verdict == "pass"
    ]  # fmt: skip
    met = sum(one.verdict == "pass" for one in choices)
    said = f"{met} of {len(choices)} loads are met{': ' if told else ''}{', and '.join(told)}."
    return f"{said} Between two loads the line is at what the greater takes."


def _loads_table(found: PlanResult, choices: Sequence[Choice], rate: float) -> Table:
    rows = [
        (one.load.label, words.at(one.load, rate), NOTHING if one.trial is None else words.settings(found, one.trial),
         NOTHING if one.trial is None else words.money(one.trial.cost), one.verdict, f"{len(one.undecided) + one.unseen}")
        for one in choices
    ]  # fmt: skip
    columns = ("load", "rate", "configuration", "$ an hour", "verdict", f"{words.less(found)}, not resolved")
    return table("Configurations over the loads", columns, rows, "<<<><>")


def loads(found: PlanResult, rate: float) -> Chart | None:
    """Return the cost of an hour over the loads, beside what the greatest load needs."""
    known = [(one, one.trial) for one in found.choices if one.trial is not None]
    if len(known) < 2 or not any(trial.cost for _, trial in known):
        return None
    names = [html.escape(choice.load.label) for choice, _ in known]
    looks = [theme.COLOURS[0] if choice.verdict == "pass" else theme.VERDICTS[choice.verdict][0] for choice, _ in known]
    shapes = ["" if choice.verdict == "pass" else "/" for choice, _ in known]
    bars = {
        "type": "bar", "x": names, "y": [rounded(trial.cost) for _, trial in known], "name": "chosen for each load",
        "marker": {"color": looks, "pattern": {"shape": shapes, "size": 6, "solidity": 0.25}}, "hoverinfo": "text", "textposition": "none",
        "hovertext": [html.escape(f"{words.at(one.load, rate)}: {words.settings(found, trial)}, {words.money(trial.cost)} an hour, {one.verdict}")
                      for one, trial in known],
    }  # fmt: skip
    traces: list[Data] = [bars]
    most = peak(found).trial
    fixed = None if most is None else most.cost - most.usage
    costs = [None if fixed is None else fixed + trial.usage for _, trial in known]
    if fixed is not None:
        line = {"color": theme.GREY, "dash": "dash"}
        traces.append({"type": "scatter", "mode": "lines", "x": names, "y": [rounded(one) for one in costs if one is not None],
                       "name": "what the greatest load needs, always", "line": line})  # fmt: skip
    rows = [
        (one.load.label, words.at(one.load, rate), words.settings(found, trial), words.money(trial.cost),
         NOTHING if cost is None else words.money(cost), one.verdict)
        for (one, trial), cost in zip(known, costs, strict=True)
    ]  # fmt: skip
    columns = ("load", "rate", "configuration", "$ an hour", "with the greatest load's", "verdict")
    dearest = max((trial for _, trial in known), key=lambda trial: trial.cost)
    least = min((trial for _, trial in known), key=lambda trial: trial.cost)
    summary = f"From {words.money(least.cost)} an hour ({least.load.label}) to {words.money(dearest.cost)} ({dearest.load.label})."
    drawn = theme.layout(theme.axis("", type="category"), theme.axis("$ an hour", rangemode="tozero"))
    view = View(traces, drawn, summary, table("Cost over the loads", columns, rows, "<<<>><"))
    return Chart("loads", "What does an hour cost at each load?", {"": view})


# ---------------------------------------------------------------------------------------------------------------------
# Headroom


def headroom(found: PlanResult, rate: float) -> Chart | None:
    """Return how much more load each resource and each objective takes, those that end first on top."""
    limits = sorted((one for one in found.headroom if math.isfinite(one.factor)), key=lambda one: one.factor)
    limits = limits[:_MOST_BARS]
    if not limits:
        return None
    base = rate * peak(found).load.factor
    size, unit = (base, "tasks/s") if math.isfinite(base) else (1.0, "times the planned load")
    names = [html.escape(one.name) for one in reversed(limits)]
    x = theme.axis(f"load at which it ends ({unit}); dashed: the planned load", rangemode="tozero")
    y = theme.axis("", categoryorder="array", categoryarray=names)
    drawn = theme.layout(x, y, shapes=[theme.limit(size, "x")], barmode="overlay")
    first = limits[0]
    told = next(iter(headroom_table(found, rate)))
    ends = "saturates" if first.kind == "resource" else "breaks"
    summary = f"{first.name} {ends} first, at {plain(first.factor, '')} times the planned load{_bracket(first)}."
    view = View(list(_bars(limits, size, base)), drawn, summary, tidy(told, "what"))
    title = "How much more load does it take, and what ends first?"
    return Chart("headroom", title, {"": view}, height=max(240, 120 + 46 * len(limits)))


def _bracket(one: Limit) -> str:
    if one.low == one.high:
        return " (by the traffic equations)"
    return f" (between {plain(one.low, '')} and {plain(one.high, '') if math.isfinite(one.high) else 'more'})"


def _bars(limits: Sequence[Limit], size: float, base: float) -> Iterator[Data]:
    kinds = (
        ("resource", "saturates (traffic equations)", theme.COLOURS[4], "/"),
        ("objective", "breaks (simulation)", theme.COLOURS[1], ""),
    )
    for kind, name, colour, shape in kinds:
        these = [one for one in limits if one.kind == kind]
        if these:
            yield {
                "type": "bar", "orientation": "h", "name": name, "opacity": 0.7,
                "marker": {"color": colour, "pattern": {"shape": shape, "size": 6, "solidity": 0.25}},
                "x": [rounded(one.factor * size) for one in these], "y": [html.escape(one.name) for one in these],
                "hoverinfo": "text", "textposition": "none",
                "hovertext": [html.escape(f"{one.name}: {_load(one.factor, base)}{_bracket(one)}, by {one.source}") for one in these],
                "error_x": {
                    "type": "data", "symmetric": False, "color": theme.GREY, "thickness": 1.5, "width": 4,
                    "array": [_reach(one.high - one.factor) * size for one in these],
                    "arrayminus": [_reach(one.factor - one.low) * size for one in these],
                },
            }  # fmt: skip


def _load(factor: float, base: float) -> str:
    times = f"{factor:.3g} times the planned load"
    return f"{words.tasks_per(factor * base)}, {times}" if math.isfinite(base) else times


def _reach(length: float) -> float:
    return rounded(max(length, 0.0)) if math.isfinite(length) else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def _first(found: PlanResult, trial: Trial) -> Judged | None:
    """Return the estimate of the plan's first objective, where a trial has one."""
    metric = found.objectives[0].metric
    return next((one for one in trial.judged if one.metric == metric and math.isfinite(one.estimate.value)), None)


def _titled(metric: str) -> str:
    unit = {"s": "seconds", "USD": "$"}.get(unit_of_objective(metric), unit_of_objective(metric))
    return f"{metric} ({unit})" if unit else metric


def _hover(found: PlanResult, trial: Trial, judged: Judged, unit: str) -> str:
    where = f"{words.settings(found, trial)}, {words.money(trial.cost)} an hour"
    return f"{hover(where, judged.estimate, unit, 'observations')}; {words.counted(trial.replications, 'replication')}"


def _where(found: PlanResult) -> str:
    return f" at {peak(found).load.label}" if len(found.choices) > 1 else ""
