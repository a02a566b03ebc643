"""How likely the SLO of a study is met, over its capacity: a line for each objective, or for each combination of what else is set.

Leaves out: the probability itself (`analysis.chance_met`).
Checked: tests/test_study_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...analysis.chance_met import chance_met
from ...analysis.slo import Objective, full_name
from ...analysis.study import StudyResult
from ...analysis.study_effects import Point, points
from .. import plan_words as words
from ..page import theme
from ..page.parts import Chart, View
from ..plan_doubts import percent
from .pieces import table
from .series import looks, rounded
from .study_charts import MOST_LINES, axis_of, lines_of, short_at, some_lines, x_of

__all__ = ["chances"]

_POINTS = "points, by the least likely objective"
_SURE = 0.95
_MOST_OBJECTIVES = 6

Data = dict[str, Any]
Where = tuple[str, tuple[object, ...]]


def chances(found: StudyResult, place: int, objectives: Sequence[Objective]) -> Chart | None:
    """Return how likely each objective is met over the factor at `place`; of several lines, that which is least likely met on each."""
    wanted = objectives[:_MOST_OBJECTIVES]
    by = {one.metric: points(found, full_name(one.metric)) for one in wanted}
    known = {one: {_where(point): _chance(found, point, one) for point in by[one.metric]} for one in wanted}
    every = {_where(point): point for one in wanted for point in by[one.metric]}
    lines = some_lines(lines_of(found, [(one, one.estimate) for one in every.values()], place))
    if len(lines) > MOST_LINES:  # a sample: points alone
        named = [(_POINTS, [(point, _least(known, point)) for point in every.values()])]
    elif len(lines) == 1:
        line = [one for one, _ in next(iter(lines.values()))]
        named = [
            (words.wanted([one]), [(point, known[one].get(_where(point), math.nan)) for point in line])
            for one in wanted
        ]
    else:
        named = [(name, [(point, _least(known, point)) for point, _ in line]) for name, line in lines.items()]
    made = [trace for number, (name, pairs) in enumerate(named) if (trace := _trace(found, name, pairs, place, number))]
    if not made:
        return None
    every_one = [(one, one.estimate) for one in every.values()]
    y = theme.axis("probability", tickformat=".0%", range=[-0.04, 1.04])
    drawn = theme.layout(axis_of(found, every_one, place), y, showlegend=True)
    rows = [
        (words.wanted([one]), short_at(found, point).removeprefix("at "), percent(known[one][_where(point)]))
        for one in wanted for point in by[one.metric]
    ]  # fmt: skip
    said = (
        "Of the true mean over replications, seen from what was simulated: Student's t (for shares, the score test), as if nothing were known "
        "beforehand, and means of replications were normal."
    )
    numbers = table("Probability that an objective is met", ("objective", "point", "probability"), rows, "<<>", said)
    summary = _summary(found, wanted, known, list(every.values()))
    return Chart("chance", "How likely is the SLO met?", {"": View(made, drawn, summary, numbers)})


def _chance(found: StudyResult, point: Point, wanted: Objective) -> float:
    """Return the probability that a point meets an objective; of shares that are alike in all seeds, such as 100 %, the least of any seed.

    A mean of shares that do not differ has an interval of nothing, where those of the seeds know how few tasks they rest on.
    """
    if len(point.cells) < 2 or point.estimate.half_width:
        return chance_met(point.estimate, wanted)
    name, cells = full_name(wanted.metric), {one.number: one for one in found.cells}
    there = [
        chance_met(cells[number].estimates[name], wanted) for number in point.cells if name in cells[number].estimates
    ]
    return min(there, default=math.nan)


def _where(one: Point) -> Where:
    return one.scenario, one.levels


def _least(known: Mapping[Objective, Mapping[Where, float]], point: Point) -> float:
    """Return the probability of the objective that is least likely met; nan where none is known."""
    there = [chance for each in known.values() if not math.isnan(chance := each.get(_where(point), math.nan))]
    return min(there, default=math.nan)


def _summary(
    found: StudyResult,
    wanted: Sequence[Objective],
    known: Mapping[Objective, Mapping[Where, float]],
    every: Sequence[Point],
) -> str:
    likely = [(chance, one) for one in every if not math.isnan(chance := _least(known, one))]
    enough = sum(chance >= _SURE for chance, _ in likely)
    best, where = max(likely, key=lambda pair: pair[0])
    what = words.wanted(wanted) if len(wanted) == 1 else "the least likely of the objectives"
    said = f"At {enough} of {words.counted(len(likely), 'point')} {what} is met with 95 % or more"
    return f"{said}{'' if enough else f'; the likeliest is {short_at(found, where)}, with {percent(best)}'}."


def _trace(found: StudyResult, name: str, pairs: Sequence[tuple[Point, float]], place: int, number: int) -> Data | None:
    ordered = [(one, chance) for one, chance in pairs if not math.isnan(chance)]
    if not ordered:
        return None
    if found.factors[place].is_number:
        ordered.sort(key=lambda pair: float(pair[0].levels[place].value or 0))
    colour, dash, symbol = looks(number)
    texts = [html.escape(f"{short_at(found, one)}: {percent(chance)}") for one, chance in ordered]
    return {
        "type": "scatter", "mode": "markers" if name == _POINTS else "lines+markers", "name": html.escape(name), "hoverinfo": "text", "hovertext": texts,
        "x": [x_of(one, place) for one, _ in ordered], "y": [rounded(chance) for _, chance in ordered],
        "line": {"color": colour, "dash": dash, "width": 1.5}, "marker": {"color": colour, "symbol": symbol, "size": 9},
    }  # fmt: skip
