"""What a sweep says: each verdict and its cause in words, then the curve, the laws, the mechanisms, and what is doubtful.

JSON holds the fields of `ScalingResult` by name, and the sentences; docs/scaling.md explains it. CSV is tidy: a number a row,
of each cell, replication and metric. Numbers in both are not rounded; what is not known is null, or empty.

Leaves out: how it looks on a terminal (`layout`); the charts (`sections.scaling`).
Checked: tests/test_scaling_command.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..analysis.causes import ALL_OFF, Ablated
from ..analysis.growth import sentence
from ..analysis.scaling import Cell, ScalingResult, Sweep
from ..analysis.statistics import Estimate, mean_interval
from ..engine.ledger import CATEGORIES
from ..engine.units import significant
from .files import plain_data
from .layout import Report, Table
from .numbers import NOTHING, counted, listed, show

KEY, VERSION = "coordsim_scaling", 1
COLUMNS = ("factor", "x", "subset", "replication", "metric", "value", "mechanism_off")
NAMES = {
    "coordination": "T_coordination",
    "response_time": "T_total",
    "inference": "T_inference",
    "coordination_without_stragglers": "T_coordination without stragglers",
    "input_tokens": "input tokens",
}
_MOST_CATEGORIES = 6
_LONGEST = 3  # changes that a table spells out


def report(found: ScalingResult) -> Report:
    """Return the report of all sweeps."""
    tables: list[Table] = []
    for one in found.sweeps:
        tables += [
            curve_table(one, found),
            *categories_table(one),
            *laws_table(one),
            *others_table(one),
            *ablation_tables(one, found),
        ]
    heading = (
        f"{found.scenario}: how {name_of(found.metric)} scales with {', '.join(one.factor for one in found.sweeps)}",
        f"seed {found.seed}; {counted(found.replications, 'replication')} of each of {len(_distinct(found))} cells",
    )
    return Report(
        heading, " ".join(statement(one, found.metric) for one in ordered(found)), tuple(tables), tuple(notes(found))
    )


def ordered(found: ScalingResult) -> list[Sweep]:
    """Return the sweeps, those that stand beside another one last."""
    return sorted(found.sweeps, key=lambda one: one.beside)


def name_of(metric: str) -> str:
    """Return what a metric is called."""
    return NAMES.get(metric, metric.replace("_", " "))


def statement(one: Sweep, metric: str) -> str:
    """Return the verdict of a sweep and its cause in words."""
    begins = f"{name_of(metric)} over {one.factor}"
    if one.beside:
        begins = f"Beside it, {begins} (mean over all subsets of a size)"
    if one.growth is None:
        return f"{begins}: cannot tell: fewer than two points were measured."
    return f"{begins}: {sentence(one.growth)}{_because(one)}."


def _because(one: Sweep) -> str:
    causes, by = one.cause.mechanisms, {made.mechanism: made for made in one.ablation}
    together = by.get(ALL_OFF)
    all_off = f"; with {ALL_OFF} off {_short(together)}" if together is not None and together.growth is not None else ""
    without = "; ".join(f"without {name if len(causes) > 1 else 'it'} {_short(by[name])}" for name in causes)
    if one.cause.kind == "removed":
        begins = "; it grows" if one.verdict == "cannot tell" else ","
        return f"{begins} because of {listed(causes)}; {without}"
    if one.cause.kind == "lowered":
        return f", in part because of {listed(causes)}; {without}{all_off}"
    if one.cause.kind == "none":
        return f"; no single mechanism is seen to make it so{all_off}"
    return ""


def _short(made: Ablated) -> str:
    """Return what growth is without a mechanism."""
    assert made.growth is not None
    if made.growth.verdict == "constant":
        return "constant"
    if made.is_gone and made.left is not None:
        return (
            f"{_share(made.left.value)} of the rise is left"
            if made.left.value >= 0.005
            else "nothing of the rise is left"
        )
    return sentence(made.growth)


def warnings(found: ScalingResult) -> Iterator[str]:
    """Yield what is doubtful: points that were left out, cells that did not settle, and what the models say of their numbers."""
    for one in found.sweeps:
        yield from one.doubts
    yield from found.doubts


def to_json(found: ScalingResult) -> str:
    """Return all sweeps as JSON."""
    data = {
        KEY: VERSION,
        "statement": " ".join(statement(one, found.metric) for one in ordered(found)),
        **{name: getattr(found, name) for name in ("scenario", "metric", "unit", "seed", "replications", "confidence")},
        "sweeps": [_sweep(one, found) for one in found.sweeps],
        "doubts": list(found.doubts),
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _sweep(one: Sweep, found: ScalingResult) -> dict[str, Any]:
    return {
        "factor": one.factor,
        "path": one.path,
        "beside": one.beside,
        "statement": statement(one, found.metric),
        "growth": None if one.growth is None else one.growth.to_data(),
        "others": {name: curve.to_data() for name, curve in one.others.items()},
        "cause": {"kind": one.cause.kind, "mechanisms": list(one.cause.mechanisms)},
        "ablation": [_ablated(made) for made in one.ablation],
        "cells": [plain_data(asdict(cell)) for cell in one.cells],
        "doubts": list(one.doubts),
    }


def _ablated(made: Ablated) -> dict[str, Any]:
    estimates = {name: getattr(made, name) for name in ("largest", "drop", "left")}
    return {
        "mechanism": made.mechanism,
        "changes": list(made.changes),
        "derived": made.derived,
        "skipped": made.skipped or None,
        "growth": None if made.growth is None else made.growth.to_data(),
        **{name: None if value is None else plain_data(asdict(value)) for name, value in estimates.items()},
    }


def to_csv(found: ScalingResult) -> str:
    """Return every cell as rows of a long table: factor, x, subset, replication, metric, value, mechanism_off."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found.sweeps:
        for cell in one.cells:
            for metric, values in cell.values.items():
                for number, value in enumerate(values):
                    told = repr(value) if math.isfinite(value) else ""
                    writer.writerow((one.factor, f"{cell.x:g}", "+".join(cell.subset), number, metric, told, cell.off))
    return out.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def curve_table(one: Sweep, found: ScalingResult) -> Table:
    """Return the metric at each x with its interval, and the local exponent."""
    title = f"{name_of(found.metric)} over {one.factor} (`{one.path}`)"
    if one.growth is None:
        return Table(title, ("",), "<", (("nothing was measured",),))
    curve, growth = one.growth.curve, one.growth
    local = {round(part.high, 9): part.exponent for part in growth.local}
    rows = []
    for place, x in enumerate(curve.x):
        shown = show(mean_interval(curve.values[:, place], found.confidence), found.unit)
        exponent = local.get(round(float(x), 9))
        cells = [cell for cell in one.cells if cell.x == x and not cell.off]
        rows.append((f"{x:g}", shown.value, shown.error, *exponent_cells(exponent), str(len(cells))))
    columns = (one.factor, "mean per task", "", "local exponent", "", "cells")
    note = "; ".join(growth.reasons)
    return Table(title, columns, ">><><>", tuple(rows), note)


def categories_table(one: Sweep) -> Iterator[Table]:
    """Yield the split of the base curve by category, the largest at the end first."""
    base = [cell for cell in one.cells if not cell.off]
    if one.growth is None:
        return
    xs = [float(x) for x in one.growth.curve.x]
    means = {name: [_over_cells(base, x, name) for x in xs] for name in CATEGORIES}
    present = sorted((name for name in CATEGORIES if max(means[name]) > 0), key=lambda name: -means[name][-1])
    shown = present[:_MOST_CATEGORIES]
    rows = tuple((f"{x:g}", *(_number(means[name][place], "s") for name in shown)) for place, x in enumerate(xs))
    rest = ", ".join(present[_MOST_CATEGORIES:])
    note = f"not shown: {rest}" if rest else ""
    yield Table(f"Where the time goes over {one.factor}", (one.factor, *shown), ">" * (len(shown) + 1), rows, note)


def _over_cells(cells: Sequence[Cell], x: float, name: str) -> float:
    return float(np.mean([np.mean(cell.values[name]) for cell in cells if cell.x == x]))


def laws_table(one: Sweep) -> Iterator[Table]:
    """Yield the laws that were fitted, with their errors, the chosen one marked."""
    if one.growth is None:
        return
    rows = tuple(
        (
            "*" if one.growth.chosen is not None and fit.law == one.growth.chosen.law else "",
            fit.law,
            ", ".join(f"{name} = {significant(value, 4)}" for name, value in fit.parameters.items()),
            _share(fit.held_out),
            _share(fit.worst),
        )
        for fit in one.growth.fits
    )
    columns = ("", "law", "parameters", "held-out error", "worst residual")
    why = "" if one.growth.chosen else "no law is chosen"
    yield Table(f"Laws of {one.factor} (* chosen by held-out error)", columns, "<<<>>", rows, why)


def others_table(one: Sweep) -> Iterator[Table]:
    """Yield the verdicts on the other times."""
    rows = tuple((name_of(name), curve.verdict, *exponent_cells(curve.exponent)) for name, curve in one.others.items())
    if rows:
        yield Table(f"Other times over {one.factor}", ("", "verdict", "exponent", ""), "<<><", rows)


def ablation_tables(one: Sweep, found: ScalingResult) -> Iterator[Table]:
    """Yield growth without each mechanism, and how each is switched off."""
    if not one.ablation:
        return
    last = f"{one.growth.curve.x[-1]:g}" if one.growth is not None else "?"
    rows = []
    skipped = []
    for made in one.ablation:
        if made.growth is None:
            skipped.append(f"{made.mechanism}: {made.skipped}")
            continue
        shown = show(made.largest, found.unit)
        drop = exponent_cells(made.drop)
        rows.append(
            (
                made.mechanism,
                made.growth.verdict,
                *exponent_cells(made.growth.exponent),
                *drop,
                _left(made.left),
                shown.value,
                shown.error,
            )
        )
    columns = ("without", "verdict", "exponent", "", "less by", "", "rise left", f"at {last}", "")
    note = f"not switched off: {'; '.join(skipped)}" if skipped else ""
    yield Table(f"Each mechanism switched off, over {one.factor}", columns, "<<><><>><", tuple(rows), note)
    changes = tuple(
        (made.mechanism, _changes(made))
        for made in one.ablation
        if made.growth is not None and made.mechanism != ALL_OFF
    )
    if changes:
        yield Table("How each is switched off", ("", ""), "<<", changes)


def _left(one: Estimate | None) -> str:
    return NOTHING if one is None or math.isnan(one.value) else f"{100 * one.value + 0.0:.0f} %".replace("-0 %", "0 %")


def _changes(made: Ablated) -> str:
    if made.derived and not made.changes:
        return "the straggler's excess is taken off the same runs"
    more = len(made.changes) - _LONGEST
    return " ".join(f"--set {shlex.quote(one)}" for one in made.changes[:_LONGEST]) + (
        f" and {more} more" if more > 0 else ""
    )


def notes(found: ScalingResult) -> Iterator[str]:
    """Yield what the intervals and columns mean."""
    sure = f"{100 * found.confidence:g} %"
    yield f"± and [ ] are {sure} intervals over {counted(found.replications, 'replication')}, which meet the same draws at every x."
    yield from notes_on_causes(found)
    if any(one.beside for one in found.sweeps):
        yield "The verdict is that of identical streams: subsets of one size differ in more than how many they are."


def notes_on_causes(found: ScalingResult) -> Iterator[str]:
    """Yield what the columns of mechanisms mean."""
    if found.ablated:
        yield (
            "Less by: what the exponent loses without the mechanism; rise left: what remains of the rise from the smallest to "
            "the largest x."
        )


def _distinct(found: ScalingResult) -> set[tuple[str, float, tuple[str, ...], str]]:
    return {(one.factor, cell.x, cell.subset, cell.off) for one in found.sweeps for cell in one.cells}


def exponent_cells(one: Estimate | None) -> tuple[str, str]:
    """Return an exponent with two decimals, and its interval; nothing where neither end is known."""
    if one is None or not math.isfinite(one.value) or not (math.isfinite(one.low) or math.isfinite(one.high)):
        return NOTHING, ""
    if one.resolved:
        ends = f"[{one.low:.2f}, {one.high:.2f}]" if one.half_width > 0.005 else ""
        return f"{one.value:.2f}", ends
    low, high = (f"{end:.2f}" if math.isfinite(end) else "?" for end in (one.low, one.high))
    return f"{one.value:.2f}", f"[{low}, {high}]"


def _share(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{significant(100 * value, 2)} %"


def _number(value: float, unit: str) -> str:
    return show(Estimate(value, -math.inf, math.inf, 0.95, 1, ""), unit).value if value else "0"
