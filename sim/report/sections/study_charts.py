"""The charts of a study: a metric over each factor, percentiles of T_total over capacity, and the slider.

A line joins points that differ in one factor. Where there would be more than ten lines, as in a sample, there are points alone, and in a
grid the factor's main effect.

Leaves out: what is said beside them (`study`); the chance of the SLO (`study_chances`); all factors side by side (`study_parallel`).
Checked: tests/test_study_sections.py.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ...analysis.slo import RESPONSE_TIME, Objective, parse_metric
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
from .plan_lines import MOST_CURVES, share_chart
from .series import (
    Line,
    alone,
    curve_of,
    draw,
    floor_of,
    hover,
    log_axis,
    looks,
    percentile,
    round_up,
    rounded,
    spread,
    switched,
    vanishing,
)

__all__ = [
    "MOST_LINES",
    "axis_of",
    "brief",
    "effect",
    "label_of",
    "limit_of",
    "lines_of",
    "names_of",
    "one_load",
    "percentiles",
    "short_at",
    "slider",
    "some_lines",
    "timed",
    "within",
    "x_of",
]

MOST_LINES = 10
_MOST_PICKED = 6  # lines, where there are more than ten
_WIDE = 30  # greatest over least of a factor, from which its axis is logarithmic
_STEEP = 5  # and of what is measured
_MOST_BANDS = 3  # lines: of more, bands would hide each other
_MOST_DRAWN = 400  # points

Data = dict[str, Any]
Known = Sequence[tuple[Point, Estimate]]
Lines = dict[str, list[tuple[Point, Estimate]]]
T = TypeVar("T")


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
    every = lines_of(found, known, place)
    lines = some_lines(every) if mean is None else every
    wide = spread([one for _, one in known]) > _STEEP if is_log is None else is_log
    floor = floor_of([one for _, one in known]) if wide else None
    traces = list(
        _cloud(found, known, place, what, mean) if len(lines) > MOST_LINES else _drawn(found, lines, place, what, floor)
    )
    unit = {"s": " (seconds)", "B": " (bytes)", "USD": " ($)"}.get(what.unit, f" ({what.unit})" if what.unit else "")
    title = f"{what.name}{unit}"
    y = log_axis(title, [one.value for _, one in known]) if wide else theme.axis(title, rangemode="tozero")
    shapes = [] if what.limit is None else [theme.limit(what.limit, "y")]
    is_many = len(lines) > 1 and len(lines) <= MOST_LINES
    layout = theme.layout(axis_of(found, known, place), y, shapes=shapes, showlegend=is_many or len(lines) > MOST_LINES)
    note = f"Intervals of {100 * found.confidence:g} % over replications."
    rows = [(short_at(found, one).removeprefix("at "), cell(each, what.unit), f"{each.n}") for one, each in known]
    left = f" Drawn are {len(lines)} of {len(every)} lines, evenly apart." if len(lines) < len(every) else ""
    numbers = table(what.name, ("point", what.name, "observations"), rows, "<>>", note)
    gone = vanishing([(short_at(found, one).removeprefix("at "), each) for one, each in known])
    return View(traces, layout, f"{_summary(found, known, place, what)}{left}{gone}", numbers)


def _summary(found: StudyResult, known: Known, place: int, what: Measure) -> str:
    if not known:
        return f"No point has {what.name}."
    least, most = min(known, key=lambda pair: pair[1].value), max(known, key=lambda pair: pair[1].value)
    told = [f"{show(one, what.unit).text} {short_at(found, point)}" for point, one in (least, most)]
    said = (
        f"{what.name} over {found.factors[place].path}: from {told[0]} to {told[1]}."
        if len(known) > 1
        else f"{what.name} is {told[0]}."
    )
    return f"{said} The dashed line is at {plain(what.limit, what.unit, 4)}." if what.limit is not None else said


def axis_of(found: StudyResult, known: Known, place: int) -> Data:
    """Return the axis of the factor at `place`."""
    factor = found.factors[place]
    units = {"s": "seconds", "B": "bytes"}
    title = f"{factor.path} ({units.get(factor.unit, factor.unit)})" if factor.unit else factor.path
    if not factor.is_number:
        order = dict.fromkeys(_text(one, place) for one, _ in known)
        return theme.axis(title, type="category", categoryorder="array", categoryarray=list(order))
    values = sorted({float(one.levels[place].value or 0) for one, _ in known if one.levels[place].text})
    if len(values) == 1:
        return theme.axis(title, **alone(values[0]))
    is_log = bool(values) and values[0] > 0 and values[-1] > _WIDE * values[0]
    whole = all(one.is_integer() for one in values) and bool(values) and values[-1] - values[0] <= 12
    return theme.axis(title, **({"type": "log"} if is_log else {"dtick": 1} if whole else {}))


def lines_of(found: StudyResult, known: Known, place: int) -> dict[str, list[tuple[Point, Estimate]]]:
    """Return the points by what else is set, each line along the factor; the longest first."""
    lines: dict[str, list[tuple[Point, Estimate]]] = {}
    names = names_of(found)
    for one, each in known:
        others = [
            f"{name}={level.text}"
            for number, (name, level) in enumerate(zip(names, one.levels, strict=True))
            if number != place and level.text
        ]
        named = [one.scenario] if len(found.scenarios) > 1 else []
        lines.setdefault(", ".join([*named, *others]) or "all", []).append((one, each))
    if found.factors[place].is_number:
        for line in lines.values():
            line.sort(key=lambda pair: float(pair[0].levels[place].value or 0))
    return dict(sorted(lines.items(), key=lambda pair: -len(pair[1])))


def some_lines(lines: Lines) -> Lines:
    """Return the lines where ten at most can be told apart; else some of the longest, evenly apart, if they are more than points."""
    if len(lines) <= MOST_LINES:
        return lines
    long = [(name, line) for name, line in lines.items() if len(line) == len(next(iter(lines.values())))]
    return dict(_evenly(long, _MOST_PICKED)) if len(long[0][1]) > 1 else lines


def _evenly(these: Sequence[T], most: int) -> list[T]:
    """Return at most so many of these, the first and the last among them where there are two."""
    count = min(len(these), most)
    return [these[round(number * (len(these) - 1) / max(count - 1, 1))] for number in range(count)]


def _text(one: Point, place: int) -> str:
    return html.escape(one.levels[place].text or "as it is")


def x_of(one: Point, place: int) -> Any:
    """Return where a point lies on that axis: a number, or the text of its level."""
    value = one.levels[place].value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else _text(one, place)


def _drawn(
    found: StudyResult, lines: dict[str, list[tuple[Point, Estimate]]], place: int, what: Measure, floor: float | None
) -> Iterator[Data]:
    for number, (name, line) in enumerate(lines.items()):
        texts = [hover(short_at(found, one).removeprefix("at "), each, what.unit, "observations") for one, each in line]
        is_banded = found.factors[place].is_number and len(lines) <= _MOST_BANDS
        joined = tuple(is_banded and place_ > 0 for place_ in range(len(line)))
        xs = tuple(x_of(one, place) for one, _ in line)
        yield from draw(Line(name, xs, tuple(each for _, each in line), joined, unit=what.unit), number, texts, floor)


def _cloud(found: StudyResult, known: Known, place: int, what: Measure, mean: Effect | None) -> Iterator[Data]:
    """Yield all points, faint, and the main effect of the factor where there is one."""
    step = max(1, -(-len(known) // _MOST_DRAWN))
    shown = known[::step]
    yield {
        "type": "scatter", "mode": "markers", "name": "points", "x": [x_of(one, place) for one, _ in shown],
        "y": [rounded(each.value) for _, each in shown], "marker": {"color": theme.COLOURS[5], "size": 7, "opacity": 0.5, "symbol": "circle"},
        "hovertext": [hover(short_at(found, one).removeprefix("at "), each, what.unit, "observations") for one, each in shown],
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
    yield from draw(Line("mean over all else", xs, tuple(one.mean for one in levels), joined, unit=what.unit), 0, texts)


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


def one_load(found: StudyResult, known: Sequence[tuple[Point, Quantiles]]) -> tuple[list[tuple[Point, Quantiles]], str]:
    """Return the points at the greatest load that has two or more of them, and which load it is; all points and '' where the load is no factor.

    Which of all points is the first to keep a limit says little where they carry different loads.
    """
    place = next(
        (at for at, one in enumerate(found.factors) if one.is_number and one.path.startswith("workload.arrivals")), None
    )
    if place is None:
        return list(known), ""
    sign = -1 if found.factors[place].unit == "s" else 1  # times between arrivals: the shortest is the greatest load
    groups: dict[float, list[tuple[Point, Quantiles]]] = {}
    for pair in known:
        groups.setdefault(sign * float(pair[0].levels[place].value or 0), []).append(pair)
    several = [load for load, group in groups.items() if len(group) > 1]
    if len({one.levels[place].text for one in found.cells}) < 2 or not several:
        return list(known), ""
    kept = groups[max(several)]
    return kept, f"{names_of(found)[place]}={kept[0][0].levels[place].text}"


def slider(found: StudyResult, place: int, objectives: Sequence[Objective]) -> Slider | None:
    """Return the limit on T_total over the points: all of them up to sixty, else those along a few lines over the factor."""
    known, load = one_load(found, timed(found))
    if not known:
        return None
    if len(known) > MOST_CURVES:
        lines = list(lines_of(found, [(one, one.estimate) for one, _ in known], place).values())
        long = [line for line in lines if len(line) == len(lines[0])]
        count = min(MOST_CURVES // min(len(lines[0]), MOST_CURVES), _MOST_PICKED)
        wanted = {id(one) for line in _evenly(long, count) for one, _ in line}
        known = [pair for pair in known if id(pair[0]) in wanted][:MOST_CURVES]
    if found.factors[place].is_number:  # so that of those that pass the first takes least
        known = sorted(known, key=lambda pair: float(pair[0].levels[place].value or 0))
    curves = tuple(curve_of(label_of(found, one), times) for one, times in known)
    shares = known[0][1].shares
    values = sorted(percentile(one, shares, name, found.confidence).value for one in curves for name in PERCENTILES)
    limit = limit_of(objectives)
    value = round_up(values[len(values) // 2]) if limit is None else limit.threshold
    told = (
        "Limit on T_total"
        if limit is None
        else f"Limit on T_total (the SLO has {limit.metric} <= {words.threshold(limit)})"
    )
    told += f", at {load}" if load else ""
    low, high = min(value, values[0]) / 2, max(value, values[-1]) * 1.5
    redraws = "within" if len(curves) > 1 else ""
    return Slider(told, rounded(low), rounded(high), value, shares, curves, found.confidence, redraws, switched(limit))


def label_of(found: StudyResult, one: Point) -> str:
    """Return a point in short: the ends of paths and their values."""
    told = [f"{name} {level.text}" for name, level in zip(names_of(found), one.levels, strict=True) if level.text]
    named = [one.scenario] if len(found.scenarios) > 1 or not told else []
    return ", ".join([*named, *told])


def short_at(found: StudyResult, one: Point) -> str:
    """Return where a point is, with short names of the factors: 'at llm.replicas=2'."""
    return brief(found, told_at(found, one))


def brief(found: StudyResult, text: str) -> str:
    """Return a text with short names in place of the paths of factors, where they stand beside a value."""
    for factor, name in zip(found.factors, names_of(found), strict=True):
        text = text.replace(f"{factor.path}=", f"{name}=")
    return text


def _short(found: StudyResult, one: Point) -> str:
    """Return a point as values alone: '2 / 100 ms'."""
    named = [one.scenario] if len(found.scenarios) > 1 or not one.levels else []
    return " / ".join([*named, *(level.text or "as it is" for level in one.levels)])


def names_of(found: StudyResult) -> list[str]:
    """Return a short name of each factor: the last two parts of its path, or all where two would be the same."""
    short = [".".join(one.path.split(".")[-2:]) for one in found.factors]
    return [name if short.count(name) == 1 else one.path for name, one in zip(short, found.factors, strict=True)]


def within(found: StudyResult, place: int, made: Slider) -> Chart | None:
    """Return the share of tasks that end within the limit over the factor, for each curve of the slider; the page moves it."""
    if not made.redraws:
        return None
    known = [judge(one, made.shares, 0.95, made.value, made.confidence).within for one in made.curves]
    by = {label_of(found, one): one for one, _ in timed(found)}
    shown = [by[one.label] for one in made.curves]
    load = one_load(found, timed(found))[1]
    chart = share_chart(
        made,
        known,
        f" at {load}" if load else "",
        ticks=(" / ".join(names_of(found)), [_short(found, one) for one in shown]),
    )
    return _abreast(found, place, chart, shown)


def _abreast(found: StudyResult, place: int, chart: Chart, shown: Sequence[Point]) -> Chart:
    """Return a chart of points with the factor as its axis, those of one value side by side, each line of points with its look."""
    lines = lines_of(found, [(one, one.estimate) for one in shown], place)
    values = sorted({float(one.levels[place].value or 0) for one in shown})
    if not found.factors[place].is_number or len(lines) > MOST_LINES or len(values) < 2:
        return chart
    number_of = {id(one): number for number, line in enumerate(lines.values()) for one, _ in line}
    step = 0.6 * min(b - a for a, b in itertools.pairwise(values)) / max(len(lines), 1)
    styles = [looks(number_of[id(one)]) for one in shown]
    view = chart.views[""]
    points = dict(view.data[0])
    points |= {
        "x": [rounded(float(one.levels[place].value or 0) + step * (number_of[id(one)] - (len(lines) - 1) / 2)) for one in shown],
        "hovertext": view.data[0]["x"], "hovertemplate": "%{hovertext}: %{y:.4%}<extra></extra>", "showlegend": False,
        "marker": {"size": 9, "color": [colour for colour, _, _ in styles], "symbol": [symbol for _, _, symbol in styles]},
    }  # fmt: skip
    points["error_y"] = points["error_y"] | {"color": theme.GREY}
    # A list of looks has no entry in the legend: traces without points do.
    keys: list[Data] = [
        {"type": "scatter", "mode": "markers", "name": html.escape(name), "x": [None], "y": [None],
         "marker": {"size": 9, "color": looks(number)[0], "symbol": looks(number)[2]}}
        for number, name in enumerate(lines)
    ]  # fmt: skip
    few = values if len(values) <= 12 else values[:: -(-len(values) // 12)]
    told = {float(one.levels[place].value or 0): one.levels[place].text for one in shown}
    x = theme.axis(found.factors[place].path, tickvals=few, ticktext=[html.escape(told[one]) for one in few])
    layout = {**view.layout, "xaxis": x, "showlegend": len(lines) > 1}
    return replace(chart, views={"": replace(view, data=[points, *(keys if len(lines) > 1 else [])], layout=layout)})


def percentiles(
    found: StudyResult, place: int, limit: float | None, name: str, title: str, is_log: bool | None = None
) -> Chart | None:
    """Return percentiles of T_total over the factor at `place`, with a `limit` (s) that a slider moves."""
    known = timed(found)
    if not known:
        return None
    curves = [(one, curve_of(label_of(found, one), times), times.shares) for one, times in known]

    def view(percentage: str) -> View:
        each = [(one, percentile(curve, shares, percentage, found.confidence)) for one, curve, shares in curves]
        return _view(found, place, each, Measure(f"{percentage} of T_total", "s", limit), is_log=is_log)

    views = {percentage: view(percentage) for percentage in PERCENTILES}
    total = len({(one.scenario, one.point) for one in found.cells})
    if len(known) < total:
        left = f" {total - len(known)} of {total} points are not drawn: not every replication there has a task done."
        views = {key: replace(one, summary=f"{one.summary}{left}") for key, one in views.items()}
    return Chart(name, title, views, Switch.PERCENTILE, _scales(found, place), "" if limit is None else "y")
