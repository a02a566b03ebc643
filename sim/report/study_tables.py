"""What a study says: which values give the least and the most, each factor's main effect, and the cells; as a report, CSV and JSON.

Leaves out: charts (`sections.study`), and the folder (`study_answers`).
Checked: tests/test_sweep_command.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from ..analysis.statistics import Comparison, Estimate
from ..analysis.study import StudyCell, StudyResult
from ..analysis.study_effects import Effect, EffectLevel, Extremes, Point, effects, extremes, points, unmeasured
from .files import plain_data
from .layout import Report, Table, without_empty
from .numbers import NOTHING, counted, listed, plain, show

__all__ = [
    "absent",
    "cells_table",
    "failures_table",
    "main_effects",
    "report",
    "statement",
    "to_csv",
    "to_json",
    "to_samples_csv",
    "told_at",
    "warnings",
]

KEY, VERSION = "coordsim_study", 1
_VAGUE = 10  # half an interval over its value, beyond which it says nothing
MOST_ROWS = 40
MOST_TOLD = 5  # warnings of cells, and cells that failed
LONGEST = 60  # characters of a factor's value
_SHOWN = ("response_time_mean", "response_time_p95", "coordination_share", "throughput", "success", "cost_mean")
_COLUMNS = ("status", "metric", "unit", "value", "low", "high", "n")


def report(found: StudyResult) -> Report:
    """Return the report of a study."""
    measured = effects(found, found.metric)
    tables = [*main_effects(found, measured), cells_table(found), *failures_table(found)]
    return Report(tuple(_heading(found)), statement(found), tuple(tables), tuple(_notes(found, measured)))


def _heading(found: StudyResult) -> Iterator[str]:
    yield f"{', '.join(found.scenarios)}: {found.metric} over {listed([one.path for one in found.factors]) or 'seeds'}"
    counts = sorted({one.replications for one in found.cells if not one.failure})
    told = "–".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
    each = f"{told} replication{'' if told == '1' else 's'} of each"
    seeds = f"seed{'' if len(found.seeds) == 1 else 's'} {_few(found.seeds)}"
    yield f"{found.design}; {counted(len(found.cells), 'cell')}; {seeds}; {each}"


def statement(found: StudyResult) -> str:
    """Return which values give the least and the most of the main metric, and by how much."""
    ends = extremes(found, found.metric)
    known = points(found, found.metric)
    failed = absent(found)
    if not known:
        return f"No cell measured {found.metric}.{failed}"
    unit = found.column(found.metric).unit
    if ends is None:
        return f"{found.metric} is {show(known[0].estimate, unit).text} {told_at(found, known[0])}.{failed}"
    if ends.least.estimate.value == ends.most.estimate.value:
        return f"{found.metric} is {show(ends.least.estimate, unit).text} at all {ends.compared} points.{failed}"
    least, most = (f"{show(one.estimate, unit).text}, {told_at(found, one)}" for one in (ends.least, ends.most))
    told = [f"{found.metric} is least, {least}, and most, {most}: {_apart(ends, unit)}."]
    if ends.near_least and ends.compared > 2:
        told.append(f"{counted(ends.near_least, 'other point')} cannot be told from the least.")
    return " ".join(told) + failed


def absent(found: StudyResult) -> str:
    """Return how many cells have no value of the main metric, and why; with a blank before it, nothing where all have one."""
    gone = unmeasured(found, found.metric)
    if not gone:
        return ""
    failed = f" {counted(len(found.failed), 'cell')} failed." if found.failed else ""
    quiet = [one for one in gone if not one.failure]
    if not quiet:
        return failed
    reasons = [(one.number, one.warnings[0].partition("; ")[0]) for one in quiet if one.warnings]
    why = f" (such as cell {reasons[0][0]}: {reasons[0][1]})" if reasons else ""
    have = "has" if len(quiet) == 1 else "have"
    return f" {len(quiet)} of {counted(len(found.cells), 'cell')} {have} no value of {found.metric}{why}.{failed}"


def _apart(ends: Extremes, unit: str) -> str:
    if ends.difference is None:
        return f"{plain(ends.most.estimate.value - ends.least.estimate.value, unit)} apart"
    gap = _negated(ends.difference.difference)
    is_vague = gap.resolved and gap.half_width > _VAGUE * abs(gap.value)
    text = f"{plain(gap.value, unit) if is_vague else show(gap, unit).text} apart"
    if gap.excludes(0.0):
        return f"{text}, {_less(ends.difference)}"
    return f"{text}, which is not resolved; try more replications"


def _less(one: Comparison) -> str:
    """Return how much less the variant is, in per cent of the baseline."""
    share = one.ratio
    if not share.resolved:
        return f"{100 * (1 - share.value):.2g} % less"
    less = Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.confidence, share.n, share.method)
    return f"{show(less, 'share').text} less"


def _negated(one: Estimate) -> Estimate:
    return Estimate(-one.value, -one.high, -one.low, one.confidence, one.n, one.method)


def told_at(found: StudyResult, one: Point) -> str:
    """Return where a point is: 'at models.llm.replicas=2'."""
    values = [
        f"{factor.path}={_short(level.text)}"
        for factor, level in zip(found.factors, one.levels, strict=True)
        if level.text
    ]
    named = [one.scenario] if len(found.scenarios) > 1 or not values else []
    return (
        f"at {', '.join(named + values)}"
        if not named
        else f"in {named[0]}{' at ' if values else ''}{', '.join(values)}"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def main_effects(found: StudyResult, measured: Sequence[Effect]) -> Iterator[Table]:
    """Yield the table of main effects, if there are any."""
    if not measured:
        return
    unit = found.column(found.metric).unit
    rows = [_effect_row(one, level, unit) for one in measured for level in one.levels]
    out = sum(one.left_out for one in measured)
    note = "differences are from the first level, paired by replication"
    if out:
        note += f"; {counted(out, 'point')} left out, as not every level has a value there"
    columns = ("factor", "level", "mean", "", "difference", "", "", "over")
    yield Table(f"Main effects on {found.metric}", columns, "<<><><<>", tuple(rows), note)


def _effect_row(one: Effect, level: EffectLevel, unit: str) -> tuple[str, ...]:
    mean = show(level.mean, unit)
    is_first = level is one.levels[0]
    told = one.factor if is_first else ""
    row = (told, _short(level.level.text), mean.value, mean.error)
    if level.difference is None:
        return (*row, "", "", "", counted(level.cells, "point"))
    gap = level.difference.difference
    shown = show(gap, unit)
    sign = "+" if gap.value > 0 else ""
    return (*row, f"{sign}{shown.value}", shown.error, _change(level.difference), counted(level.cells, "point"))


def _change(one: Comparison) -> str:
    if math.isnan(one.ratio.value) or one.difference.value == 0:
        return ""
    resolved = "" if one.difference.excludes(0.0) else ", not resolved"
    change = 100 * (one.ratio.value - 1)
    return f"{change:+,.0f} %{resolved}" if abs(change) >= 100 else f"{change:+.2g} %{resolved}"


def cells_table(found: StudyResult, most: int = MOST_ROWS) -> Table:
    """Return the cells with their main metrics, at most so many."""
    names = [
        name for name in dict.fromkeys((found.metric, *_SHOWN)) if any(name in one.estimates for one in found.cells)
    ]
    units = {one.name: one.unit for one in found.columns}
    if all(one.estimates.get("cost_mean", _ZERO).value == 0 for one in found.cells) and found.metric != "cost_mean":
        names = [name for name in names if name != "cost_mean"]
    held = ("cell", *(("scenario",) if len(found.scenarios) > 1 else ()), *(("seed",) if len(found.seeds) > 1 else ()))
    columns = [*held, *(_last(one.path) for one in found.factors)]
    rows = []
    for cell in found.cells[:most]:
        row = [str({"cell": cell.number, "scenario": cell.scenario, "seed": cell.seed}[name]) for name in held]
        row += [_short(level.text) for level in cell.levels]
        for name in names:
            shown = show(cell.estimates.get(name), units[name])
            row += [shown.value, shown.error]
        rows.append((*row, "failed" if cell.failure else cell.verdict or ""))
    more = len(found.cells) - most
    note = f"and {counted(more, 'cell')} more: `--format csv`, or `-o DIR`, has all" if more > 0 else ""
    align = ">" * len(columns) + "><" * len(names) + "<"
    heads = (*columns, *(part for name in names for part in (name, "")), "SLO" if found.judged else "")
    return without_empty(Table("Cells", heads, align, tuple(rows), note), 1)


_ZERO = Estimate(0.0, 0.0, 0.0, 0.95, 0, "")


def failures_table(found: StudyResult) -> Iterator[Table]:
    """Yield the table of cells that failed, if any did."""
    failed = found.failed
    if not failed:
        return
    more = len(failed) - MOST_TOLD
    rows = tuple((str(one.number), _values(found, one), one.failure) for one in failed[:MOST_TOLD])
    yield Table("Cells that failed", ("cell", "at", "why"), "><<", rows, f"and {more} more" if more > 0 else "")


def _values(found: StudyResult, cell: StudyCell) -> str:
    told = [
        f"{one.path}={_short(level.text)}" for one, level in zip(found.factors, cell.levels, strict=True) if level.text
    ]
    return ", ".join(told) or cell.scenario


def _notes(found: StudyResult, measured: Sequence[Effect]) -> Iterator[str]:
    sure = f"{100 * found.confidence:g} %"
    yield f"± and [ ] are {sure} intervals over replications, which meet the same draws in every cell of one seed."
    ends = extremes(found, found.metric)
    if ends is not None and ends.difference is not None and ends.compared > 2:
        yield (
            f"The least and the most are chosen among {ends.compared} points: the interval of their difference holds for all pairs "
            "at once (Bonferroni)."
        )
    if measured and len(measured) > 1:
        yield "A main effect is a mean over the levels of the other factors; it says nothing about interactions."


def warnings(found: StudyResult) -> Iterator[str]:
    """Yield what is doubtful: cells that failed, the design, what cells say of themselves, and models of their numbers."""
    for one in found.failed[:MOST_TOLD]:
        yield f"cell {one.number} failed ({_values(found, one)}): {one.failure}"
    if len(found.failed) > MOST_TOLD:
        yield f"{len(found.failed) - MOST_TOLD} more cells failed"
    yield from found.doubts
    alike: dict[str, list[tuple[StudyCell, str]]] = {}  # but for the numbers in them
    for cell in found.cells:
        for text in cell.warnings:
            alike.setdefault(re.sub(r"[0-9][0-9.,]*", "#", text), []).append((cell, text))
    for told in alike.values():
        more = len({cell.number for cell, _ in told}) - 1
        likewise = f" (and the like of {counted(more, 'more cell')})" if more else ""
        cell, text = told[0]
        # The command that a warning gives is for this cell, not for the scenario as it is written.
        here = shlex.join(
            [word for one, level in zip(found.factors, cell.levels, strict=True) if level.text
             for word in ("--set", f"{one.path}={level.text}")]
        )  # fmt: skip
        text = re.sub(r"\bSCENARIO\b", f"SCENARIO {here}".strip(), text)
        yield f"cell {cell.number} ({_values(found, cell)}): {text}{likewise}"


# ---------------------------------------------------------------------------------------------------------------------
# CSV and JSON


def to_csv(found: StudyResult) -> str:
    """Return the long table: cell, scenario, seed, a column for each factor (in base units), status, metric, unit, value, low, high, n.

    A cell that failed has one row, without a metric. What is not known is empty.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("cell", "scenario", "seed", *(one.path for one in found.factors), *_COLUMNS))
    for cell in found.cells:
        held = (cell.number, cell.scenario, cell.seed, *(_number(one.value) for one in cell.levels), cell.status)
        if cell.failure:
            writer.writerow((*held, *[""] * 6))
        for column in found.columns:
            one = cell.estimates.get(column.name)
            if one is not None:
                ends = (one.value, one.low, one.high)
                writer.writerow((*held, column.name, column.unit, *map(_number, ends), one.n))
    return out.getvalue()


def to_samples_csv(found: StudyResult) -> str:
    """Return the number of each replication: cell, scenario, seed, replication, metric, unit, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("cell", "scenario", "seed", "replication", "metric", "unit", "value"))
    for *held, value in found.sample_rows():
        writer.writerow((*held, _number(value)))
    return out.getvalue()


def _number(value: bool | float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if math.isfinite(value) else ""


def to_json(found: StudyResult) -> str:
    """Return a study as JSON: what was run, what it says, and every cell with its estimates."""
    data: dict[str, Any] = {
        KEY: VERSION,
        "statement": statement(found),
        "metric": found.metric,
        "study": found.identity,
        "factors": [plain_data(one) for one in found.factors],
        "columns": [plain_data(one) for one in found.columns],
        "effects": [_effect(one) for one in effects(found, found.metric)],
        "cells": [_cell(found, one) for one in found.cells],
        "doubts": list(found.doubts),
    }
    return json.dumps(plain_data(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _effect(one: Effect) -> dict[str, Any]:
    return {"factor": one.factor, "left_out": one.left_out, "levels": [plain_data(level) for level in one.levels]}


def _cell(found: StudyResult, one: StudyCell) -> dict[str, Any]:
    return {
        "cell": one.number,
        "scenario": one.scenario,
        "seed": one.seed,
        "factors": {factor.path: level.text for factor, level in zip(found.factors, one.levels, strict=True)},
        "status": one.status,
        "failure": one.failure or None,
        "verdict": one.verdict,
        "replications": one.replications,
        "tasks": one.tasks,
        "metrics": {
            column.name: one.estimates[column.name] for column in found.columns if column.name in one.estimates
        },
        "warnings": list(one.warnings),
    }


def _last(path: str) -> str:
    """Return the end of a path that tells it: its last two steps."""
    return ".".join(path.split(".")[-2:])


def _short(text: str) -> str:
    return (text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…") or NOTHING


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) if len(values) <= MOST_TOLD else f"{values[0]}, {values[1]}, ..., {values[-1]}"
