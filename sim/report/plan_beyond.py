"""The tables of a capacity plan beyond its answer: frontier of cost and latency, headroom, and what limits after each fix.

Leaves out: the answer, what was looked at (`plan_tables`), and sentences (`plan_words`).
Checked: tests/test_plan_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..analysis.planned import Fix, FrontierPoint, Limit, PlanResult
from . import plan_words as words
from .layout import Table
from .numbers import NOTHING

__all__ = ["fixes", "frontier", "headroom"]


def frontier(found: PlanResult) -> Iterator[Table]:
    """Yield the table of the frontier, if anything was found for it."""
    if all(one.trial is None for one in found.frontier):
        return
    metrics = [one.metric for one in found.objectives][:1]
    rows = tuple(_frontier_row(found, one, metrics) for one in sorted(found.frontier, key=lambda one: one.strictness))
    columns = (
        "objectives",
        *words.headers(found),
        "$/h",
        *(part for name in metrics for part in (f"{name} found", "")),
    )
    align = "<" + ">" * len(found.variables) + ">" + "><" * len(metrics)
    note = "The cheapest configuration shown to meet the objectives, with those on time made shorter and longer."
    if any(one.ended for one in found.frontier):
        note += " †: not looked for to the end, as the budget (no more tasks than the plan took) was spent; something cheaper may do."
    if any(one.open and one.trial is not None for one in found.frontier):
        note += f" ‡: something {words.less(found)} may do; that is not resolved."
    yield Table("Frontier of cost and latency", columns, align, rows, note)


def _frontier_row(found: PlanResult, one: FrontierPoint, metrics: Sequence[str]) -> tuple[str, ...]:
    told = words.wanted(one.objectives) + (" †" if one.ended else " ‡" if one.open and one.trial is not None else "")
    if one.trial is None:
        why = "not looked for to the end" if one.ended else "not resolved" if one.open else "none: all miss it"
        return (
            told,
            *(NOTHING for _ in found.variables),
            NOTHING,
            *(why if not i else "" for i in range(2 * len(metrics))),
        )
    return told, *words.cells(found, one.trial), words.money(one.trial.cost), *words.shown_estimates(one.trial, metrics)


def headroom(found: PlanResult, rate: float) -> Iterator[Table]:
    """Yield the table of what ends at which load; `rate` is that of the scenario (tasks/s), nan without one."""
    if not found.headroom:
        return
    rows = tuple(_limit(one, _base(found, rate)) for one in sorted(found.headroom, key=lambda one: one.factor))
    columns = ("", "ends at", "", "bracket", "by")
    title = f"Headroom{_planned(found)}"
    yield Table(
        title,
        columns,
        "<>><<",
        rows,
        _of_headroom(found),
    )


def _of_headroom(found: PlanResult) -> str:
    """Return what the table rests on."""
    note = "A resource saturates by the traffic equations"
    if not any(one.kind == "objective" for one in found.headroom):
        return f"{note}."
    note += f"; an objective breaks in simulation, by intervals of {100 * found.confidence:g} % each for itself."
    if any(one.ended for one in found.headroom):
        note += (
            " †: not looked for nearer than that; the budget, half as many tasks as the plan took, ended the search."
        )
    return note


def _base(found: PlanResult, rate: float) -> float:
    """Return the rate of the load that headroom is about: the greatest that is planned (tasks/s)."""
    return rate * max((one.load.factor for one in found.choices), default=1.0)


def _planned(found: PlanResult) -> str:
    return f" above {max(found.choices, key=lambda one: one.load.factor).load.label}" if len(found.choices) > 1 else ""


def _limit(one: Limit, base: float) -> tuple[str, ...]:
    what = f"{one.name} saturates" if one.kind == "resource" else f"{one.name} breaks"
    what += " †" if one.ended else ""
    if not math.isfinite(one.factor):
        return what, f"> {_at(one.low, base)}" if math.isfinite(one.low) else NOTHING, "", "", one.source
    bracket = "" if one.low == one.high else f"{_at(one.low, base)} to {_at(one.high, base)}"
    return what, _at(one.factor, base), _more(one.factor), bracket, one.source


def _at(factor: float, base: float) -> str:
    """Return a load: tasks a second where the rate is known, else times the planned load."""
    if not math.isfinite(factor):
        return "more"
    return words.tasks_per(factor * base) if math.isfinite(base) else f"{factor:.3g} x"


def _more(factor: float) -> str:
    return f"{100 * (factor - 1):+.0f} %" if math.isfinite(factor) else ""


def fixes(found: PlanResult, rate: float) -> Iterator[Table]:
    """Yield the table of what limits after each fix, if anything limits."""
    if not found.fixes:
        return
    base = _base(found, rate)
    rows = tuple(_fix(one, base) for one in found.fixes)
    columns = ("limits", "at", "", "fix", "costs $/h", "then limits", "at", "")
    note = "By the traffic equations, from this configuration up: each fix is on top of those above it."
    yield Table(f"The next bottleneck after each fix{_planned(found)}", columns, "<>><><>>", rows, note)


def _fix(one: Fix, base: float) -> tuple[str, ...]:
    first = one.resource, _at(one.factor, base), _more(one.factor)
    if one.change is None:
        return *first, "no decision helps", NOTHING, NOTHING, "", ""
    return *first, one.change, f"{one.cost:+.3g}", one.then, _at(one.factor_then, base), _more(one.factor_then)
