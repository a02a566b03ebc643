"""A validation as a report, as JSON and as CSV: how far predictions were off, what each configuration and each law did, which rounds count.

JSON holds the fields of `Verdict` by name, what stands of each goal, and the answer; CSV is tidy: a number a row. Numbers in both are not
rounded; what is not known is null, or empty.

Leaves out: sentences (`validation_words`), charts (`sections.validation`).
Checked: tests/test_validation_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from ..analysis.statistics import Estimate, certainty
from ..analysis.validation import METRICS, NAIVE, Headline, Numbers, Row, Verdict
from .layout import Report, Table, without_empty
from .numbers import counted, exact, plain
from .profile_tables import View
from .validation_words import NAMES, SHORT, answer_of, effect, error_of, further, notes, size

__all__ = ["ablation", "configurations", "predictions", "report", "to_csv", "to_data", "to_json", "warnings"]

_UNITS = {"p50": "s", "p95": "s", "share": "share"}
_RATIOS = {
    "floor": "error of p50, times that of the noise floor",
    "naive": "error of p50, times that of the naive prediction",
}


def report(found: Verdict) -> Report:
    """Return the report."""
    tasks = sum(one.tasks for one in found.rows)
    count = f"{counted(len(found.rows), 'configuration')}, {tasks:,} tasks in the {counted(len(found.kept), 'round')} that count"
    heading = (
        "Does coordsim predict a real agent system that it has not seen?",
        f"{count}; {counted(len(found.dropped), 'round')} dropped",
    )
    tables = (
        headlines(found),
        beside(found),
        predictions(found),
        configurations(found),
        ablation(found),
        rounds(found),
        about(found),
    )
    return Report(heading, answer_of(found), tuple(one for one in tables if one.rows), (*_next(found), *notes(found)))  # fmt: skip


def _next(found: Verdict) -> Iterator[str]:
    if step := further(found):
        more = " (with --resume it goes on with the session in -o DIR)" if step.goes_on else ""
        yield f"Next: {step.what[0].lower()}{step.what[1:]}: coordsim validate --budget {step.budget}{more}"


def warnings(found: Verdict) -> tuple[str, ...]:
    """Return what is doubtful."""
    return found.doubts


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def headlines(found: Verdict) -> Table:
    """Return the headline errors, each against its goal, the noise of the machine and the naive prediction."""
    rows = []
    for one in found.headlines:
        shown, metric = error_of(one.metric, one.error, one.goal), one.metric
        stretch = f"{size(metric, one.stretch)}: {one.stretched}"
        rows.append((NAMES[metric], shown.value, shown.error, size(metric, one.goal), one.standing, stretch, size(metric, one.floor), size(metric, one.naive)))  # fmt: skip
    columns = ("median error of", "error", _sure(found), "goal", "", "stretch goal", "noise floor", "naive")
    return Table("Is it within the goals?", columns, "<><><<>>", tuple(rows))


def _sure(found: Verdict) -> str:
    return certainty(found.confidence)


def beside(found: Verdict) -> Table:
    """Return what is told beside the headlines, and does not decide: ratios, and the worst configuration."""
    rows = []
    for ratio in found.ratios:
        shown = error_of("ratio", ratio.ratio, ratio.goal)
        stretch = "" if math.isnan(ratio.stretch) else f"{ratio.stretch:g}"
        rows.append((_RATIOS[ratio.to], shown.value, shown.error, f"{ratio.goal:g}", ratio.standing, stretch))
    for worst in found.worst:
        shown = error_of(worst.metric, worst.error, worst.goal)
        name = f"worst {SHORT[worst.metric]}: {worst.configuration}"
        rows.append((name, shown.value, shown.error, size(worst.metric, worst.goal), worst.standing, ""))
    columns = ("told, and not decisive", "found", _sure(found), "goal", "", "stretch goal")
    return without_empty(Table("Beside it", columns, "<><><<", tuple(rows)), 5)


def predictions(found: Verdict, metrics: Sequence[str] = METRICS) -> Table:
    """Return what was measured and predicted of each configuration, a row a metric."""
    rows = tuple(_prediction(one, metric) for one in found.rows for metric in metrics)
    columns = ("configuration", "metric", "measured", "predicted", "off by", _sure(found), "noise floor", "naive")
    return Table("Predicted against measured", columns, "<<>>><>>", rows)


def _prediction(one: Row, metric: str) -> tuple[str, ...]:
    measured, predicted, floor, naive = (
        getattr(each, metric) for each in (one.measured, one.predicted, one.floor, one.naive)
    )
    shown, unit = error_of(metric, getattr(one.errors, metric), signed=True), _UNITS[metric]
    sign = "+" if naive > 0 else ""
    return (one.configuration, SHORT[metric], plain(measured, unit), plain(predicted, unit), shown.value, shown.error, size(metric, floor), sign + size(metric, naive))  # fmt: skip


def configurations(found: Verdict) -> Table:
    """Return what each configuration is."""
    rows = tuple((one.configuration, f"{one.tasks:,}", one.what) for one in found.rows)
    return Table("The configurations", ("configuration", "tasks", "what it is"), "<><", rows)


def ablation(found: Verdict) -> Table:
    """Return by how much each headline error is larger with one law left out."""
    rows = []
    for one in found.ablation:
        changes = (error_of("share", getattr(one.changes, metric), 0.0, signed=True) for metric in METRICS)
        cells = (cell for shown in changes for cell in (shown.value.partition(" ")[0], shown.error))
        rows.append(("all (naive)" if one.variant == NAIVE else one.variant, *cells, effect(one)))
    columns = ("without", "p50, points", "", "p95, points", "", "coordination, points", "", "the law")
    whats = "; ".join(f"{one.variant}: {one.what}" for one in found.ablation)
    note = f"how much larger the headline error is, with its {_sure(found)} interval, from the same draws of rounds. {whats}"
    return Table("What is each law worth?", columns, "<><><><<", tuple(rows), note)


def rounds(found: Verdict) -> Table:
    """Return which rounds count, and why others do not."""
    rows = [(_spans(found.kept), "counts", "")] if found.kept else []
    rows += [(str(one.round), "dropped", one.reason) for one in found.dropped]
    note = "a round is dropped whole, by the criteria declared before it was measured; no task of a round that counts is left out"
    return Table("Rounds", ("round", "state", "reason"), "<<<", tuple(rows), note)


def _spans(numbers: Sequence[int]) -> str:
    """Return whole numbers, those in a row together.

    >>> _spans([1, 2, 3, 5, 7, 8])
    '1-3, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def about(found: Verdict) -> Table:
    """Return the facts of the session."""
    return Table("The session", ("fact", "value"), "<<", found.about)


# ---------------------------------------------------------------------------------------------------------------------
# For programs


def to_json(found: Verdict) -> str:
    """Return all of it as JSON."""
    return View(report(found), to_data(found), ()).to_json()


def to_data(found: Verdict) -> dict[str, Any]:
    """Return all of it as plain data."""
    data = {one.name: _plain(getattr(found, one.name)) for one in fields(found)}
    return {"answer": answer_of(found), **data, "about": dict(found.about)}


def _plain(value: Any) -> Any:
    """Return plain data: an estimate as its value and ends, what has a goal with what stands of it, and None for what is not known."""
    if isinstance(value, Estimate):
        return {name: _plain(getattr(value, name)) for name in ("value", "low", "high")}
    if is_dataclass(value):
        data = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        standing = {name: getattr(value, name) for name in ("standing", "stretched") if hasattr(value, name)}
        return {**data, **standing}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(found: Verdict) -> str:
    """Return all numbers, a row each."""
    return View(report(found), {}, tuple(_flat(found))).to_csv()


def _flat(found: Verdict) -> Iterator[dict[str, Any]]:
    """Yield every number as a row of a long table; what is not known is empty."""
    yield _line("verdict", found.status, "", "rounds", len(found.kept), "rounds")
    for one in found.headlines:
        yield from _headline(one)
    for ratio in found.ratios:
        yield _line("ratio", ratio.to, "p50", "error", ratio.ratio, "")
    for worst in found.worst:
        yield _line("worst", worst.configuration, worst.metric, "error", worst.error, "share")
    for row in found.rows:
        for what in ("measured", "predicted", "errors", "floor", "naive"):
            yield from _each("configuration", row.configuration, what, getattr(row, what))
    for law in found.ablation:
        for what in ("errors", "changes"):
            yield from _each("ablation", law.variant, what, getattr(law, what))


def _headline(one: Headline) -> Iterator[dict[str, Any]]:
    for what in ("error", "goal", "stretch", "floor", "naive"):
        yield _line("headline", one.standing, one.metric, what, getattr(one, what), "share")


def _each(part: str, name: str, what: str, numbers: Numbers | Any) -> Iterator[dict[str, Any]]:
    called = {"errors": "error", "changes": "change"}.get(what, what)
    for metric in METRICS:
        unit = _UNITS[metric] if what in ("measured", "predicted") else "share"
        yield _line(part, name, metric, called, getattr(numbers, metric), unit)


def _line(part: str, name: str, metric: str, what: str, value: Estimate | float, unit: str) -> dict[str, Any]:
    known = (value.value, value.low, value.high) if isinstance(value, Estimate) else (value, math.nan, math.nan)
    ends = dict(zip(("value", "low", "high"), map(exact, known), strict=True))
    return {"part": part, "name": name, "metric": metric, "what": what, "unit": unit, **ends}
