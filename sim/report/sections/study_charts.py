"""The charts of a study: a metric over each factor, percentiles of T_total and the chance of the SLO over capacity, all factors side by side.

A line joins points that differ in one factor. Where there would be more than ten lines, as in a sample, there are points alone, and in a
grid the factor's main effect.

Leaves out: what is said beside them (`study`).
Checked: tests/test_study_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...analysis.chance_met import chance_met
from ...analysis.slo import RESPONSE_TIME, Objective, full_name, parse_metric
from ...analysis.statistics import Estimate
from ...analysis.study import StudyResult
from ...analysis.study_effects import Effect, Point, effects, points
from ...analysis.summary import Quantiles
from .. import plan_words as words
from ..numbers import plain, show
from ..page import theme
from ..page.judge import judge
from ..page.parts import PERCENTILES, Chart, Slider, Switch, View
from ..study_tables import told_at
from .pieces import cells as cell
from .pieces import slug, table
from .plan_chances import percent
from .plan_lines import MOST_CURVES, share_chart
from .series import Line, curve_of, draw, floor_of, hover, percentile, rounded, spread

__all__ = [
    "MOST_LINES",
    "chances",
    "effect",
    "limit_of",
    "lines_of",
    "percentiles",
    "slider",
    "timed",
    "within",
]

MOST_LINES = 10
_WIDE = 30  # greatest over least, from which an axis is logarithmic
_MOST_DRAWN = 400  # points

Data = dict[str, Any]
Known = Sequence[tuple[Point, Estimate]]


@dataclass(frozen=True, slots=True)
class Measure:
    """What a chart shows: a name, its unit, and the limit that a line is drawn at."""

    name: str
    unit: str
    limit: float | None = None


# ---------------------------------------------------------------------------------------------------------------------
# A metric over a factor


def effect(found: StudyResult, place: int, metric: str | None = None) -> Chart:
    """Return the chart of a metric over the factor at `place`: points with their intervals, as bands along a factor of numbers."""
    name = metric or found.metric
    units = {one.name: one.unit for one in found.columns}
    known = [(one, one.estimate) for one in points(found, name)]
    path = found.factors[place].path
    mean = next((one for one in effects(found, name) if one.factor == path), None)
    view = _view(found, place, known, Measure(name, units.get(name, "")), mean)
    return Chart(f"over-{slug(path)}", f"What does {path} do to {name}?", {"": view}, scales=_scales(found, place))


def _scales(found: StudyResult, place: int) -> tuple[str, ...]:
    return ("x", "y") if found.factors[place].is_number else ("y",)


def _view(
    found: StudyResult, place: int, known: Known, what: Measure, mean: Effect | None = None, is_log: bool | None = None
) -> View:
    lines = lines_of(found, known, place)
    traces = list(
        _cloud(found, known, place, what, mean) if len(lines) > MOST_LINES else _drawn(found, lines, place, what)
    )
    wide = spread([one for _, one in known]) > _WIDE if is_log is None else is_log
    unit = {"s": " (seconds)", "B": " (bytes)", "USD": " ($)"}.get(what.unit, f" ({what.unit})" if what.unit else "")
    y = theme.axis(f"{what.name}{unit}", **({"type": "log"} if wide else {"rangemode": "tozero"}))
    shapes = [] if what.limit is None else [theme.limit(what.limit, "y")]
    is_many = len(lines) > 1 and len(lines) <= MOST_LINES
    layout = theme.layout(_axis(found, known, place), y, shapes=shapes, showlegend=is_many or len(lines) > MOST_LINES)
    note = f"Intervals of {100 * found.confidence:g} % over replications."
    rows = [(told_at(found, one).removeprefix("at "), cell(each, what.unit), f"{each.n}") for one, each in known]
    told = table(what.name, ("point", what.name, "observations"), rows, "<>>", note)
    return View(traces, layout, _summary(found, known, place, what), told)


def _summary(found: StudyResult, known: Known, place: int, what: Measure) -> str:
    if not known:
        return f"No point has {what.name}."
    least, most = min(known, key=lambda pair: pair[1].value), max(known, key=lambda pair: pair[1].value)
    told = [f"{show(one, what.unit).text} {told_at(found, point)}" for point, one in (least, most)]
    said = (
        f"{what.name} over {found.factors[place].path}: from {told[0]} to {told[1]}."
        if len(known) > 1
        else f"{what.name} is {told[0]}."
    )
    return f"{said} The line is at {plain(what.limit, what.unit, 4)}." if what.limit is not None else said


def _axis(found: StudyResult, known: Known, place: int) -> Data:
    factor = found.factors[place]
    units = {"s": "seconds", "B": "bytes"}
    title = f"{factor.path} ({units.get(factor.unit, factor.unit)})" if factor.unit else factor.path
    if not factor.is_number:
        order = dict.fromkeys(_text(one, place) for one, _ in known)
        return theme.axis(title, type="category", categoryorder="array", categoryarray=list(order))
    values = sorted({float(one.levels[place].value or 0) for one, _ in known if one.levels[place].text})
    is_log = bool(values) and values[0] > 0 and values[-1] > _WIDE * values[0]
    whole = all(one.is_integer() for one in values) and bool(values) and values[-1] - values[0] <= 12
    return theme.axis(title, **({"type": "log"} if is_log else {"dtick": 1} if whole else {}))


def lines_of(found: StudyResult, known: Known, place: int) -> dict[str, list[tuple[Point, Estimate]]]:
    """Return the points by what else is set, each line along the factor; the longest first."""
    lines: dict[str, list[tuple[Point, Estimate]]] = {}
    for one, each in known:
        others = [
            f"{factor.path}={level.text}"
            for number, (factor, level) in enumerate(zip(found.factors, one.levels, strict=True))
            if number != place and level.text
        ]
        named = [one.scenario] if len(found.scenarios) > 1 else []
        lines.setdefault(", ".join([*named, *others]) or "all", []).append((one, each))
    if found.factors[place].is_number:
        for line in lines.values():
            line.sort(key=lambda pair: float(pair[0].levels[place].value or 0))
    return dict(sorted(lines.items(), key=lambda pair: -len(pair[1])))


def _text(one: Point, place: int) -> str:
    return html.escape(one.levels[place].text or "as it is")


def _x(one: Point, place: int) -> Any:
    value = one.levels[place].value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else _text(one, place)


def _drawn(
    found: StudyResult, lines: dict[str, list[tuple[Point, Estimate]]], place: int, what: Measure
) -> Iterator[Data]:
    every = [one for line in lines.values() for _, one in line]
    floor = floor_of(every) if spread(every) > _WIDE else None
    for number, (name, line) in enumerate(lines.items()):
        texts = [hover(told_at(found, one).removeprefix("at "), each, what.unit, "observations") for one, each in line]
        joined = tuple(found.factors[place].is_number and place_ > 0 for place_ in range(len(line)))
        xs = tuple(_x(one, place) for one, _ in line)
        yield from draw(Line(name, xs, tuple(each for _, each in line), joined), number, texts, floor)


def _cloud(found: StudyResult, known: Known, place: int, what: Measure, mean: Effect | None) -> Iterator[Data]:
    """Yield all points, faint, and the main effect of the factor where there is one."""
    step = max(1, -(-len(known) // _MOST_DRAWN))
    shown = known[::step]
    yield {
        "type": "scatter", "mode": "markers", "name": "points", "x": [_x(one, place) for one, _ in shown],
        "y": [rounded(each.value) for _, each in shown], "marker": {"color": theme.COLOURS[5], "size": 7, "opacity": 0.5, "symbol": "circle"},
        "hovertext": [hover(told_at(found, one).removeprefix("at "), each, what.unit, "observations") for one, each in shown],
        "hoverinfo": "text",
    }  # fmt: skip
    if mean is None:
        return
    levels = [one for one in mean.levels if one.level.text]
    values = [one.level.value for one in levels]
    is_number = found.factors[place].is_number
    xs = tuple(one if is_number else html.escape(level.level.text) for one, level in zip(values, levels, strict=True))
    texts = [
        hover(f"{mean.factor}={one.level.text}, mean over all else", one.mean, what.unit, "observations")
        for one in levels
    ]
    joined = tuple(is_number and number > 0 for number in range(len(levels)))
    yield from draw(Line("mean over all else", xs, tuple(one.mean for one in levels), joined), 0, texts)


# ---------------------------------------------------------------------------------------------------------------------
# T_total over capacity


def timed(found: StudyResult) -> list[tuple[Point, Quantiles]]:
    """Return the points with quantiles of T_total, those of all seeds taken together."""
    by = {one.number: one.times for one in found.cells}
    made = []
    for one in points(found, "response_time_mean"):
        times = [by[number] for number in one.cells]
        if all(each is not None for each in times):
            known = [each for each in times if each is not None]
            made.append((one, Quantiles(known[0].shares, tuple(row for each in known for row in each.rows))))
    return made


def limit_of(objectives: Sequence[Objective]) -> Objective | None:
    """Return the first limit on a percentile of T_total, else on its mean; None without one."""
    known = [one for one in objectives if parse_metric(one.metric).quantity == RESPONSE_TIME and one.sense == "<="]
    return next((one for one in known if parse_metric(one.metric).statistic == "quantile"), next(iter(known), None))


def slider(found: StudyResult, place: int, objectives: Sequence[Objective]) -> Slider | None:
    """Return the limit on T_total over the points: all of them up to sixty, else those along the longest line over the factor."""
    known = timed(found)
    if not known:
        return None
    if len(known) > MOST_CURVES:
        line = next(iter(lines_of(found, [(one, one.estimate) for one, _ in known], place).values()))
        wanted = {id(one) for one, _ in line}
        known = [pair for pair in known if id(pair[0]) in wanted][:MOST_CURVES]
    curves = tuple(curve_of(_label(found, one), times) for one, times in known)
    shares = known[0][1].shares
    values = sorted(percentile(one, shares, name, found.confidence).value for one in curves for name in PERCENTILES)
    limit = limit_of(objectives)
    value = rounded(values[len(values) // 2]) if limit is None else limit.threshold
    told = (
        "Limit on T_total"
        if limit is None
        else f"Limit on T_total (the SLO has {limit.metric} <= {words.threshold(limit)})"
    )
    low, high = min(value, values[0]) / 2, max(value, values[-1]) * 1.5
    redraws = "within" if len(curves) > 1 else ""
    return Slider(told, rounded(low), rounded(high), value, shares, curves, found.confidence, redraws)


def _label(found: StudyResult, one: Point) -> str:
    """Return a point in short: the ends of paths and their values."""
    told = [f"{name} {level.text}" for name, level in zip(_names(found), one.levels, strict=True) if level.text]
    named = [one.scenario] if len(found.scenarios) > 1 or not told else []
    return ", ".join([*named, *told])


def _short(found: StudyResult, one: Point) -> str:
    """Return a point as values alone: '2 / 100 ms'."""
    named = [one.scenario] if len(found.scenarios) > 1 or not one.levels else []
    return " / ".join([*named, *(level.text or "as it is" for level in one.levels)])


def _names(found: StudyResult) -> list[str]:
    """Return a short name of each factor: the last two parts of its path, or all where two would be the same."""
    short = [".".join(one.path.split(".")[-2:]) for one in found.factors]
    return [name if short.count(name) == 1 else one.path for name, one in zip(short, found.factors, strict=True)]


def within(found: StudyResult, made: Slider) -> Chart | None:
    """Return the share of tasks that end within the limit, for each curve of the slider; the page moves it."""
    if not made.redraws:
        return None
    known = [judge(one, made.shares, 0.95, made.value, made.confidence).within for one in made.curves]
    texts = {_label(found, one): _short(found, one) for one, _ in timed(found)}
    title = " / ".join(_names(found))
    return share_chart(made, known, ticks=(title, [texts[one.label] for one in made.curves]))


def percentiles(
    found: StudyResult, place: int, limit: float | None, name: str, title: str, is_log: bool | None = None
) -> Chart | None:
    """Return percentiles of T_total over the factor at `place`, with a `limit` (s) that a slider moves."""
    known = timed(found)
    if not known:
        return None
    curves = [(one, curve_of(_label(found, one), times), times.shares) for one, times in known]

    def view(percentage: str) -> View:
        each = [(one, percentile(curve, shares, percentage, found.confidence)) for one, curve, shares in curves]
        return _view(found, place, each, Measure(f"{percentage} of T_total", "s", limit), is_log=is_log)

    views = {percentage: view(percentage) for percentage in PERCENTILES}
    return Chart(name, title, views, Switch.PERCENTILE, _scales(found, place), "" if limit is None else "y")


def chances(found: StudyResult, place: int, objectives: Sequence[Objective]) -> Chart | None:
    """Return how likely each objective is met over the factor, on the longest line; the table has all points."""
    by = {one.metric: points(found, full_name(one.metric)) for one in objectives}
    made, rows, note = [], [], _line_of(found, place, by)
    for number, wanted in enumerate(objectives[:6]):
        known = [(one, chance_met(one.estimate, wanted)) for one in by[wanted.metric]]
        rows += [
            (words.wanted([wanted]), told_at(found, one).removeprefix("at "), percent(chance)) for one, chance in known
        ]
        on = [(one, chance) for one, chance in known if note is not None and note(one) and not math.isnan(chance)]
        if on:
            made.append(_chance_trace(found, on, place, wanted, number))
    if not made:
        return None
    drawn = theme.layout(
        _axis(found, [(one, one.estimate) for each in by.values() for one in each], place),
        theme.axis("probability", tickformat=".0%", range=[-0.04, 1.04]), showlegend=True,
    )  # fmt: skip
    said = (
        "Of the true mean over replications, seen from what was simulated: Student's t (for shares, the score test), as if nothing were known "
        "beforehand, and means of replications were normal."
    )
    told = table("Probability that an objective is met", ("objective", "point", "probability"), rows, "<<>", said)
    least: dict[str, float] = {}
    for wanted in objectives:
        for one in by[wanted.metric]:
            where, chance = told_at(found, one), chance_met(one.estimate, wanted)
            if not math.isnan(chance):
                least[where] = min(chance, least.get(where, 1.0))
    best = max(least, key=lambda where: least[where])
    what = words.wanted(objectives) if len(objectives) == 1 else "the least likely of the objectives"
    summary = f"The SLO is likeliest met {best}: {what} with {percent(least[best])}."
    return Chart("chance", "How likely is the SLO met?", {"": View(made, drawn, summary, told)})


def _line_of(found: StudyResult, place: int, by: dict[str, list[Point]]) -> Callable[[Point], bool] | None:
    """Return whether a point lies on the longest line over the factor."""
    known = next((one for one in by.values() if one), None)
    if known is None:
        return None
    line = next(iter(lines_of(found, [(one, one.estimate) for one in known], place).values()))
    rests = {(one.scenario, *one.levels[:place], *one.levels[place + 1 :]) for one, _ in line}
    return lambda one: (one.scenario, *one.levels[:place], *one.levels[place + 1 :]) in rests


def _chance_trace(
    found: StudyResult, on: Sequence[tuple[Point, float]], place: int, wanted: Objective, number: int
) -> Data:
    ordered = (
        sorted(on, key=lambda pair: float(pair[0].levels[place].value or 0)) if found.factors[place].is_number else on
    )
    colour = theme.COLOURS[number % len(theme.COLOURS)]
    texts = [
        html.escape(f"{told_at(found, one)}: {words.wanted([wanted])} with {percent(chance)}")
        for one, chance in ordered
    ]
    return {
        "type": "scatter", "mode": "lines+markers", "name": html.escape(words.wanted([wanted])), "hoverinfo": "text", "hovertext": texts,
        "x": [_x(one, place) for one, _ in ordered], "y": [rounded(chance) for _, chance in ordered],
        "line": {"color": colour, "dash": theme.DASHES[number], "width": 1.5},
        "marker": {"color": colour, "symbol": theme.MARKERS[number], "size": 9},
    }  # fmt: skip
