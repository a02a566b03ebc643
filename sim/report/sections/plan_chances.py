"""How likely each objective of a plan is met, over what it decides.

Leaves out: the probability itself (`analysis.chance_met`).
Checked: tests/test_plan_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ...analysis.planned import PlanResult, Trial
from .. import plan_words as words
from ..page import theme
from ..page.parts import Chart, View
from ..plan_doubts import LIKELY, chance_of, least_chance, percent
from .pieces import table
from .plan_lines import axis_of, excluded, groups_of, label, line_name, where, x_of
from .series import looks, rounded

__all__ = ["chances"]

_MOST_LINES = 6

Data = dict[str, Any]


def chances(found: PlanResult) -> Chart | None:
    """Return how likely each objective is met over the main decision, on the line of the chosen configuration."""
    groups = groups_of(found)
    if not groups:
        return None
    traces = list(_lines(found, groups))
    if not traces:
        return None
    fell = excluded(found, on_line=True)
    if fell:
        marker = {"color": theme.GREY, "symbol": "x-thin-open", "size": 10, "line": {"width": 2}}
        texts = [html.escape(f"{words.settings(found, one)}: {one.bound.excludes}") for one in fell]
        traces.append({"type": "scatter", "mode": "markers", "name": "excluded by bounds, not simulated", "x": [x_of(found, one) for one in fell],
                       "y": [0.0] * len(fell), "marker": marker, "hovertext": texts, "hoverinfo": "text"})  # fmt: skip
    drawn = theme.layout(axis_of(found), theme.axis("probability", tickformat=".0%", range=[-0.04, 1.04]))
    rows = [
        (words.settings(found, one), *(percent(chance_of(one, wanted)) for wanted in found.objectives), one.verdict)
        for group in groups for one in group
    ]  # fmt: skip
    columns = ("configuration", *(words.wanted([one]) for one in found.objectives), "verdict of the plan")
    note = (
        "Of the true mean over replications, seen from what was simulated: Student's t (for shares, the score test), as if nothing were known "
        "beforehand, and means of replications were normal. A verdict of the plan asks for more: that all of its intervals hold at once."
    )
    told = table("Probability that an objective is met", columns, rows, "<" + ">" * len(found.objectives) + "<", note)
    title = "How likely is each objective met?"
    return Chart("chance", title, {"": View(traces, drawn, _likely(found, groups[0]), told)})


def _lines(found: PlanResult, groups: Sequence[Sequence[Trial]]) -> Iterator[Data]:
    """Yield a line for each objective on the line of the chosen configuration; or for each line, by its least likely objective."""
    named: list[tuple[str, list[tuple[Trial, float]]]]
    if len(found.objectives) > 1 and len(groups[0]) > 1:
        named = [
            (words.wanted([wanted]), [(one, chance_of(one, wanted)) for one in groups[0]])
            for wanted in found.objectives
        ]
    else:
        named = [
            (line_name(found, group[0]), [(one, least_chance(one, found.objectives)) for one in group])
            for group in groups
        ]
        if len(named) == 1:
            named = [(words.wanted(found.objectives), named[0][1])]
    for number, (name, pairs) in enumerate(named[:_MOST_LINES]):
        known = [(one, chance) for one, chance in pairs if not math.isnan(chance)]
        colour, dash, symbol = looks(number)
        if known:
            yield {
                "type": "scatter", "mode": "lines+markers", "name": html.escape(name), "x": [x_of(found, one) for one, _ in known],
                "y": [rounded(chance) for _, chance in known], "hoverinfo": "text",
                "hovertext": [html.escape(f"{words.settings(found, one)}: {name}, {percent(chance)}, {one.replications} replications")
                              for one, chance in known],
                "line": {"color": colour, "dash": dash, "width": 1.5},
                "marker": {"color": colour, "symbol": symbol, "size": 9},
            }  # fmt: skip


def _likely(found: PlanResult, group: Sequence[Trial]) -> str:
    told = [(one, least) for one in group if not math.isnan(least := least_chance(one, found.objectives))]
    likely = [(one, chance) for one, chance in told if chance >= LIKELY]
    if not likely:
        return f"No configuration of this line meets every objective with 95 % or more{where(found)}."
    first, chance = likely[0]
    what = "the objective is" if len(found.objectives) == 1 else "the objective least likely to be met is"
    said = (
        f"The first at which {what} met with 95 % or more is {label(found, first)} ({percent(chance)}){where(found)}."
    )
    passed = next((one for one, _ in likely if one.verdict == "pass"), None)
    if first.verdict == "pass":
        return said
    plan = "none of this line passes" if passed is None else f"the first that passes is {label(found, passed)}"
    return f"{said} By the plan's verdicts it is {first.verdict} and {plan}: they take more, {words.strictness(found)}."
