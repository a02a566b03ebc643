"""T_total and other objectives over what a plan decides, at its greatest load; and the slider over what was simulated.

Configurations that differ in the main decision alone make a line; that of the chosen one comes first. A band leads from one point to the
next only where no value lies between them: what was not simulated is not drawn.

Leaves out: the chance of each objective (`plan_chances`); cost, loads and headroom (`plan_charts`).
Checked: tests/test_plan_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from ...analysis.planned import Choice, PlanResult, Trial
from ...analysis.slo import RESPONSE_TIME, Objective, parse_metric
from ...analysis.statistics import Estimate, certainty
from .. import plan_words as words
from ..numbers import plain, show, unit_of_objective
from ..page import theme
from ..page.judge import judge
from ..page.parts import PERCENTILES, Chart, Curve, Slider, Switch, View
from ..plan_doubts import judged_of
from .pieces import cells as cell
from .pieces import slug, table
from .series import (
    Line,
    alone,
    curve_of,
    draw,
    floor_of,
    hover,
    log_axis,
    percentile,
    round_up,
    rounded,
    spread,
    switched,
    vanishing,
)

__all__ = [
    "at_peak",
    "axis_of",
    "excluded",
    "groups_of",
    "label",
    "limit_of",
    "line_name",
    "main_variable",
    "metrics",
    "peak",
    "replicas",
    "share_chart",
    "short",
    "slider",
    "where",
    "within",
    "x_of",
]

MOST_CURVES = 60
_MOST_LINES = 6
_MOST_BANDS = 2  # of more, nothing could be told apart
_FAR = 3  # greatest over least value of the decision, from which its axis is logarithmic
_MOST_TICKS = 12
_WIDE = 5  # greatest over least, from which an axis is logarithmic
_CAPACITIES = ("replicas", "concurrency", "limit", "servers", "cores", "at_most")

Data = dict[str, Any]


def peak(found: PlanResult) -> Choice:
    """Return the choice at the greatest load."""
    return max(found.choices, key=lambda one: one.load.factor)


def main_variable(found: PlanResult) -> int:
    """Return the place of the decision that charts are over: replicas, another capacity, else the first of which more is never worse."""
    for ending in _CAPACITIES:
        for place, one in enumerate(found.variables):
            if one.path.rpartition(".")[2] == ending:
                return place
    return next((place for place, one in enumerate(found.variables) if one.monotone), 0)


def at_peak(found: PlanResult) -> list[Trial]:
    """Return what was simulated at the greatest load, in the order of what a plan prefers; as the plan judged it, where the frontier went on with it."""
    factor = peak(found).load.factor
    known = {
        one.point: one
        for one in (*found.frontier_trials, *found.trials)
        if one.replications and one.load.factor == factor
    }
    return sorted(known.values(), key=lambda one: (one.cost, sum(one.point), one.point))


def label(found: PlanResult, trial: Trial) -> str:
    """Return a configuration in short: 'llm.replicas 3, search.concurrency 10'."""
    return ", ".join(
        f"{name} {value}" for name, value in zip(words.headers(found), words.cells(found, trial), strict=True)
    )


def short(found: PlanResult, trial: Trial) -> str:
    """Return a configuration as values alone: '3 / 10'."""
    return " / ".join(words.cells(found, trial))


# ---------------------------------------------------------------------------------------------------------------------
# The slider


def slider(found: PlanResult) -> Slider | None:
    """Return the limit on T_total over what was simulated at the greatest load; at first the plan's own, judged with its confidence."""
    timed = [one for one in at_peak(found) if one.times is not None]
    if not timed:
        return None
    kept = _near(found, timed)
    curves = tuple(_curve(found, one) for one in kept)
    times = kept[0].times
    assert times is not None
    level = words.judge_level(found)
    known = [percentile(one, times.shares, name, level).value for one in curves for name in PERCENTILES]
    limit = limit_of(found)
    value = limit.threshold if limit is not None else _held(found, curves, kept, level)
    low, high = min(value, *known) / 2, max(value, *known) * 1.5
    what = "Limit on T_total"
    name = f"{what} (the plan has {limit.metric} <= {words.threshold(limit)})" if limit is not None else what
    return Slider(
        name, rounded(low), rounded(high), value, times.shares, curves, level, "within" if len(curves) > 1 else "",
        switched(limit),
    )  # fmt: skip


def _held(found: PlanResult, curves: Sequence[Curve], kept: Sequence[Trial], level: float) -> float:
    """Return a round limit (s) that the chosen configuration is shown to keep; the slider's first where the plan has none."""
    place = next((number for number, one in enumerate(kept) if one.point == _centre(found)), 0)
    times = kept[place].times
    assert times is not None
    one = percentile(curves[place], times.shares, "p95", level)
    return round_up(one.high if math.isfinite(one.high) else one.value)


def limit_of(found: PlanResult) -> Objective | None:
    """Return the plan's first limit on a percentile of T_total, else on its mean; None without one."""
    known = [
        one for one in found.objectives if parse_metric(one.metric).quantity == RESPONSE_TIME and one.sense == "<="
    ]
    quantiles = [one for one in known if parse_metric(one.metric).statistic == "quantile"]
    return next(iter(quantiles or known), None)


def _curve(found: PlanResult, trial: Trial) -> Curve:
    assert trial.times is not None
    return curve_of(label(found, trial), trial.times, None if found.is_free and not trial.cost else rounded(trial.cost))


def _near(found: PlanResult, timed: Sequence[Trial]) -> list[Trial]:
    """Return at most sixty, those nearest to the chosen one in cost and capacity, in their order."""
    centre = _centre(found)
    ranked = sorted((one.point for one in timed), key=lambda point: (_apart(point, centre), point))
    near = set(ranked[:MOST_CURVES])
    return [one for one in timed if one.point in near]


def _centre(found: PlanResult) -> tuple[int, ...]:
    """Return the configuration that charts are around: the chosen one at the greatest load, or what comes nearest."""
    trial = peak(found).trial
    return (
        trial.point
        if trial is not None
        else next((one.point for one in reversed(at_peak(found))), (0,) * len(found.variables))
    )


def _apart(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def within(found: PlanResult) -> Chart | None:
    """Return the share of tasks that end within the limit, for each curve of the slider; the page moves it."""
    made = slider(found)
    if made is None or not made.redraws:
        return None
    known = [judge(one, made.shares, 0.95, made.value, made.confidence).within for one in made.curves]
    timed = {label(found, one): short(found, one) for one in at_peak(found)}
    title = " / ".join(words.headers(found))
    return share_chart(made, known, where(found), (title, [timed[one.label] for one in made.curves]))


def share_chart(
    made: Slider, known: Sequence[Estimate], at: str = "", ticks: tuple[str, Sequence[str]] | None = None
) -> Chart:
    """Return the chart that a slider redraws: the share of tasks within the limit, a marker a curve; `ticks` are title and labels."""
    names = [html.escape(one.label) for one in made.curves]
    points: Data = {
        "type": "scatter", "mode": "markers", "name": "tasks within the limit", "x": names, "y": [rounded(one.value) for one in known],
        "error_y": theme.whiskers(known, unit="share") | {"color": theme.COLOURS[0]}, "marker": {"color": theme.COLOURS[0], "size": 10, "symbol": "circle"},
        "hovertemplate": "%{x}: %{y:.4%}<extra></extra>",
    }  # fmt: skip
    title, texts = ticks or ("", [one.label for one in made.curves])
    x = theme.axis(title, type="category", tickvals=names, ticktext=[html.escape(one) for one in texts])
    y = theme.axis("share of tasks within the limit", tickformat=".4~%")
    drawn = theme.layout(x, y, showlegend=False)
    rows = [(one.label, cell(share, "share"), f"{share.n}") for one, share in zip(made.curves, known, strict=True)]
    told = table(f"Tasks within {plain(made.value, 's', 4)}", ("configuration", "share of tasks", "replications"), rows)
    least, most = min(known, key=lambda one: one.value), max(known, key=lambda one: one.value)
    summary = f"From {show(least, 'share').text} to {show(most, 'share').text} of the tasks end within {plain(made.value, 's', 4)}{at}."
    question = "What share of the tasks ends within the limit?"
    return Chart("within", question, {"": View([points], drawn, summary, told)})


# ---------------------------------------------------------------------------------------------------------------------
# Lines


def groups_of(found: PlanResult) -> list[list[Trial]]:
    """Return what was simulated at the greatest load by all but the main decision, the line of the chosen first, each along it."""
    place, centre = main_variable(found), _centre(found)
    groups: dict[tuple[int, ...], list[Trial]] = {}
    for one in at_peak(found):
        groups.setdefault((*one.point[:place], *one.point[place + 1 :]), []).append(one)
    rest = (*centre[:place], *centre[place + 1 :])
    ordered = sorted(groups, key=lambda one: (_apart(one, rest), one))
    return [sorted(groups[one], key=lambda one: one.point[place]) for one in ordered]


def x_of(found: PlanResult, trial: Trial) -> float | str:
    """Return the value of the main decision, as a number where all of its values are."""
    place = main_variable(found)
    values = found.variables[place].values
    return float(values[trial.point[place]]) if _is_number(values) else html.escape(values[trial.point[place]])


def _is_number(values: Sequence[str]) -> bool:
    try:
        return all(math.isfinite(float(one)) for one in values)
    except ValueError:
        return False


def axis_of(found: PlanResult) -> Data:
    """Return the axis of the main decision."""
    variable = found.variables[main_variable(found)]
    if not _is_number(variable.values):
        return theme.axis(
            variable.path,
            type="category",
            categoryorder="array",
            categoryarray=[html.escape(one) for one in variable.values],
        )
    drawn = sorted({float(x_of(found, one)) for one in (*at_peak(found), *excluded(found, on_line=True))})
    if (
        len(drawn) > 1 and drawn[0] > 0 and drawn[-1] > _FAR * drawn[0]
    ):  # a search doubles what it tries: the small are close together
        few = drawn if len(drawn) <= _MOST_TICKS else drawn[:: -(-len(drawn) // _MOST_TICKS)]
        return theme.axis(variable.path, type="log", tickvals=few, ticktext=[f"{one:g}" for one in few])
    if len(drawn) == 1:
        return theme.axis(variable.path, **alone(drawn[0]))
    whole = all(one.is_integer() for one in drawn) and bool(drawn)
    return theme.axis(variable.path, **({"dtick": math.ceil((drawn[-1] - drawn[0]) / _MOST_TICKS)} if whole else {}))


def _line(found: PlanResult, group: Sequence[Trial], known: Sequence[Estimate], is_banded: bool, unit: str) -> Line:
    place = main_variable(found)
    points = [one.point[place] for one in group]
    joined = tuple(number > 0 and points[number] - points[number - 1] == 1 for number in range(len(points)))
    return Line(
        line_name(found, group[0]),
        tuple(x_of(found, one) for one in group),
        tuple(known),
        joined if is_banded else (),
        unit=unit,
    )


def line_name(found: PlanResult, trial: Trial) -> str:
    """Return what a line is called: all but the main decision."""
    place = main_variable(found)
    pairs = zip(words.headers(found), words.cells(found, trial), strict=True)
    return ", ".join(f"{name} {value}" for number, (name, value) in enumerate(pairs) if number != place) or "simulated"


def replicas(found: PlanResult) -> Chart | None:
    """Return percentiles of T_total over the main decision, with the limit that the slider moves."""
    made = slider(found)
    if made is None:
        return None
    groups = [timed for one in groups_of(found) if (timed := [each for each in one if each.times is not None])]
    views = {name: _times_view(found, groups, made, name) for name in PERCENTILES}
    path = found.variables[main_variable(found)].path
    title = f"How long does a task take, by {path}?"
    return Chart("replicas", title, views, Switch.PERCENTILE, ("y",), "y")


def _times_view(found: PlanResult, groups: Sequence[Sequence[Trial]], made: Slider, name: str) -> View:
    lines = []
    for group in groups[:_MOST_LINES]:
        known = [percentile(_curve(found, one), made.shares, name, made.confidence) for one in group]
        lines.append((group, known))
    every = [
        (one, percentile(_curve(found, one), made.shares, name, made.confidence)) for group in groups for one in group
    ]
    limit = limit_of(found)
    said = f" The dashed line is at {plain(made.value, 's', 4)}{f', the limit on {limit.metric}' if limit else ''}."
    return _view(found, lines, every, (f"{name} of T_total", "s", made.value), said)


def _view(
    found: PlanResult,
    lines: Sequence[tuple[Sequence[Trial], Sequence[Estimate]]],
    every: Sequence[tuple[Trial, Estimate]],
    what: tuple[str, str, float],
    said: str,
) -> View:
    """Return lines over the main decision; `what` is a name, its unit and the threshold."""
    name, unit, threshold = what
    drawn = [one for _, known in lines for one in known]
    is_log = spread(drawn) > _WIDE
    floor = floor_of(drawn) if is_log else None
    traces: list[Data] = []
    for number, (group, known) in enumerate(lines):
        texts = [hover(words.settings(found, one), each, unit) for one, each in zip(group, known, strict=True)]
        traces += draw(_line(found, group, known, number < _MOST_BANDS, unit), number, texts, floor)
    titles = {"s": " (seconds)", "share": " (share)", "1/s": " (1/s)", "USD": " ($)"}
    titled = f"{name}{titles.get(unit, '')}"
    y = log_axis(titled, [one.value for one in drawn]) if is_log else theme.axis(titled, rangemode="tozero")
    layout = theme.layout(axis_of(found), y, shapes=[theme.limit(threshold, "y")], showlegend=len(lines) > 1)
    rows = [(words.settings(found, one), cell(each, unit), f"{one.replications}", one.verdict) for one, each in every]
    told = table(
        name,
        ("configuration", name, "replications", "verdict of the plan"),
        rows,
        "<>><",
        _note(found, lines, every, floor),
    )
    gone = vanishing(
        [(label(found, one), each) for group, known in lines for one, each in zip(group, known, strict=True)]
    )
    return View(traces, layout, f"{_ends(found, lines, name, unit)}{said}{gone}", told)


def _ends(found: PlanResult, lines: Sequence[tuple[Sequence[Trial], Sequence[Estimate]]], name: str, unit: str) -> str:
    """Return from where to where the first line goes."""
    group, known = lines[0]
    told = [
        f"{show(one, unit).text} at {label(found, trial)}"
        for trial, one in ((group[0], known[0]), (group[-1], known[-1]))
    ]
    return f"{name} is {told[0]}{'' if len(group) == 1 else f', and {told[1]}'}{where(found)}."


def _note(
    found: PlanResult,
    lines: Sequence[tuple[Sequence[Trial], Sequence[Estimate]]],
    every: Sequence[object],
    floor: float | None,
) -> str:
    shown = sum(len(group) for group, _ in lines)
    parts = [f"Intervals of {certainty(words.judge_level(found))} each, as the plan's verdicts need."]
    if shown < len(every):
        parts.append(
            f"{len(every) - shown} of {len(every)} configurations differ more from the chosen one, and are in the table alone."
        )
    if floor is not None:
        parts.append(f"On the logarithmic axis nothing is drawn below {plain(floor, 's')}.")
    if (fell := excluded(found)):  # fmt: skip
        parts.append(
            f"Not simulated, as bounds exclude them: {', '.join(label(found, one) for one in fell[:4])}{' ...' if len(fell) > 4 else ''}."
        )
    return " ".join(parts)


def metrics(found: PlanResult) -> list[Chart]:
    """Return a chart over the main decision for each objective that no percentile of the page is."""
    seen = {f"{name}" for name in PERCENTILES} if slider(found) is not None else set()
    return [
        chart for one in found.objectives[:4] if one.metric not in seen and (chart := _metric(found, one)) is not None
    ]


def _metric(found: PlanResult, wanted: Objective) -> Chart | None:
    groups = [
        known
        for one in groups_of(found)
        if (known := [(each, judged) for each in one if (judged := judged_of(each, wanted))])
    ]
    if not groups:
        return None
    unit = unit_of_objective(wanted.metric)
    lines = [([one for one, _ in group], [judged.estimate for _, judged in group]) for group in groups[:_MOST_LINES]]
    every = [(one, judged.estimate) for group in groups for one, judged in group]
    said = f" The dashed line is the limit: {words.wanted([wanted])}."
    path = found.variables[main_variable(found)].path
    view = _view(found, lines, every, (wanted.metric, unit, wanted.threshold), said)
    return Chart(
        f"objective-{slug(wanted.metric)}", f"What does {path} do to {wanted.metric}?", {"": view}, scales=("y",)
    )


def excluded(found: PlanResult, on_line: bool = False) -> list[Trial]:
    """Return what bounds exclude at the greatest load; `on_line`: on the line of the chosen configuration."""
    place, centre, factor = main_variable(found), _centre(found), peak(found).load.factor
    return [
        one for one in found.trials
        if one.bound.excludes and not one.replications and one.load.factor == factor
        and (not on_line or all(a == b for number, (a, b) in enumerate(zip(one.point, centre, strict=True)) if number != place))
    ]  # fmt: skip


def where(found: PlanResult) -> str:
    """Return ' at the greatest load (month 3)'; nothing where there is one load."""
    return f" at the greatest load ({peak(found).load.label})" if len(found.choices) > 1 else ""
