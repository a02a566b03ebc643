"""A fit held against tasks that it has not seen: what was predicted, what was measured, and whether the interval says why they differ.

JSON holds the fields of `HoldoutResult` by name, and the answer; CSV is tidy: a number a row. Numbers in both are not rounded; what is not
known is null, or empty.

Leaves out: charts (`sections.holdout`).
Checked: tests/test_trace_holdout.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..analysis.holdout import HeldOut, HoldoutResult
from ..analysis.statistics import Estimate
from .layout import Report, Table
from .numbers import NOTHING, counted, exact, listed, plain, show
from .profile_tables import View

__all__ = [
    "NAMES",
    "answer_of",
    "error_text",
    "notes",
    "report",
    "to_csv",
    "to_data",
    "to_json",
    "warnings",
]

NAMES = {
    "mean": "T_total, mean", "p50": "T_total, p50", "p90": "T_total, p90", "p95": "T_total, p95", "model_share": "model calls' share",
    "tool_share": "tools' share", "other_share": "share of all else", "turns": "turns a task", "model_calls": "model calls a task",
    "tool_calls": "tool calls a task", "error_rate": "tool calls that fail",
}  # fmt: skip
_MOSTLY = 0.75  # of an error: as much between the parts themselves is told beside it
_LEAST = 0.0005  # of an error: less is written as 0


def report(found: HoldoutResult) -> Report:
    """Return the report."""
    sizes = f"fitted to {counted(found.trained, 'task')}{_of(found.groups[0], found.trained)}"
    sizes += (
        f"; held out: {counted(found.tested, 'task')}{_of(found.groups[1], found.tested)}; drawn by seed {found.seed}"
    )
    heading = (f"{found.name}: does the fit predict tasks that it has not seen?", sizes)
    return Report(heading, answer_of(found), (_table(found), _beside(found)), tuple(notes(found)))


def _of(groups: int, tasks: int) -> str:
    """Return of how many problems or sessions tasks are, where several are of one."""
    return f" of {groups:,} problems or sessions" if groups < tasks else ""


def answer_of(found: HoldoutResult) -> str:
    """Return what holds, what does not, and whether the interval says why."""
    asked = [one for one in found.rows if one.asked]
    if not asked:
        return "Nothing that is asked of a fit can be told from these tasks."
    holds = [one for one in asked if one.holds]
    missed = [one for one in asked if not one.holds]
    said = f"{len(holds)} of {len(asked)} predictions are as close as is asked"
    if not missed:
        return f"{said}: {listed([NAMES[one.name] for one in holds])}."
    wide = [one for one in missed if one.expected]
    off = [one for one in missed if not one.expected]
    parts = [said]
    if wide:
        parts.append(
            f"{_told(wide)}, inside of the {100 * found.confidence:g} % interval: {counted(found.tested, 'new task')} may differ as much by chance"
        )
    if off:
        parts.append(f"{_told(off)}, outside of the interval: chance alone hardly explains that{_apart(off)}")
    return "; ".join(parts) + "."


def _apart(rows: Sequence[HeldOut]) -> str:
    """Return, where the tasks fitted to are about as far from those held out as the prediction is, that they are."""
    far = [
        one
        for one in rows
        if one.error * one.miss(one.floor) > 0 and abs(one.miss(one.floor)) >= _MOSTLY * abs(one.error)
    ]
    if not far:
        return ""
    some = [f"{NAMES[one.name]} {error_text(one, one.miss(one.floor))}" for one in far]
    return f", but the parts themselves are about as far apart ({listed(some)})"


def _told(rows: Sequence[HeldOut]) -> str:
    some = [
        f"{NAMES[one.name]} by {_missed(one)} ({_band(one)} {'are' if one.is_share else 'is'} asked)" for one in rows
    ]
    return f"{listed(some)} {'misses' if len(rows) == 1 else 'miss'}"


def _missed(one: HeldOut) -> str:
    """Return by how much a prediction misses; what is rounded to the band itself is more than that."""
    size = error_text(one, one.error).lstrip("+-")
    return f"a little over {size}" if size == _band(one) else size


def error_text(one: HeldOut, error: float) -> str:
    """Return how far off a prediction is, in words."""
    if math.isnan(error):
        return NOTHING
    size = abs(error) if abs(error) >= _LEAST else 0.0
    sign = "" if not size else "+" if error > 0 else "-"
    return f"{sign}{100 * size:.3g} points" if one.is_share else f"{sign}{100 * size:.3g} %"


def _band(one: HeldOut) -> str:
    if math.isnan(one.band):
        return ""
    return f"{100 * one.band:g} points" if one.is_share else f"{100 * one.band:g} %"


def _table(found: HoldoutResult) -> Table:
    rows = []
    for one in found.rows:
        predicted, measured = show(one.predicted, one.unit), show(one.measured, one.unit)
        inside = "" if not one.predicted.resolved else "yes" if one.expected else "no"
        verdict = "" if not one.asked else "holds" if one.holds else "misses"
        rows.append(
            (NAMES[one.name], predicted.value, predicted.error, measured.value, measured.error, error_text(one, one.error),
             _band(one) if one.asked else "", verdict, inside)
        )  # fmt: skip
    columns = ("", "predicted", f"{100 * found.confidence:g} %", "measured", "", "off by", "asked", "", "in interval")
    return Table("Predicted against measured", columns, "<>>><>><<", tuple(rows))


def _beside(found: HoldoutResult) -> Table:
    rows = tuple(
        (NAMES[one.name], error_text(one, one.error), plain(one.naive, one.unit), error_text(one, one.miss(one.naive)), plain(one.floor, one.unit),
         error_text(one, one.miss(one.floor)))
        for one in found.rows
    )  # fmt: skip
    columns = ("", "fit off by", "naive fit", "off by", "tasks fitted to", "off by")
    note = "naive: one class, steps that know nothing of each other, one lognormal a tool and one for model calls; last: what was measured of the tasks fitted to"
    return Table("Beside it", columns, "<>>>>>", rows, note)


def notes(found: HoldoutResult) -> Iterator[str]:
    """Yield what intervals and columns mean."""
    yield (
        f"The interval of a prediction is for {counted(found.tested, 'new task')}: from {counted(found.refits, 'fit')} to the tasks fitted to, "
        "drawn again, each simulated with as many tasks as were held out. That of what was measured is over these."
    )
    yield (
        "The last column says how far the two parts themselves are apart: a fit that misses by as much is not to blame. Another --seed draws "
        "other parts."
    )


def warnings(found: HoldoutResult) -> tuple[str, ...]:
    """Return what is doubtful."""
    return found.doubts


def to_json(found: HoldoutResult) -> str:
    """Return all of it as JSON."""
    return View(report(found), to_data(found), ()).to_json()


def to_csv(found: HoldoutResult) -> str:
    """Return all numbers, a row each."""
    return View(report(found), to_data(found), tuple(_flat(found))).to_csv()


def _flat(found: HoldoutResult) -> Iterator[dict[str, Any]]:
    """Yield every number as a row of a long table; what is not known is empty."""
    for one in found.rows:
        for what, estimate in (("predicted", one.predicted), ("measured", one.measured)):
            numbers = {"value": exact(estimate.value), "low": exact(estimate.low), "high": exact(estimate.high)}
            yield {"metric": one.name, "what": what, "unit": one.unit, **numbers}
        for what, value in (("naive", one.naive), ("floor", one.floor), ("error", one.error), ("band", one.band)):
            unit = one.unit if what in ("naive", "floor") else "share"
            yield {"metric": one.name, "what": what, "unit": unit, "value": exact(value), "low": "", "high": ""}


def to_data(found: HoldoutResult) -> dict[str, Any]:
    """Return all of it as plain data."""
    return {
        "answer": answer_of(found),
        **{
            name: getattr(found, name)
            for name in ("name", "share", "seed", "trained", "tested", "refits", "confidence")
        },
        "groups": list(found.groups),
        "metrics": [_data(one) for one in found.rows],
        "doubts": list(found.doubts),
    }


def _data(one: HeldOut) -> dict[str, Any]:
    return {
        "metric": one.name,
        "unit": one.unit,
        "predicted": _estimate(one.predicted),
        "measured": _estimate(one.measured),
        "naive": _number(one.naive),
        "floor": _number(one.floor),
        "error": _number(one.error),
        "band": _number(one.band),
        "holds": one.holds if one.asked else None,
        "in_interval": one.expected if one.predicted.resolved else None,
    }


def _estimate(one: Estimate) -> dict[str, float | None]:
    return {"value": _number(one.value), "low": _number(one.low), "high": _number(one.high)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
