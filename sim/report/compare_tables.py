"""What a comparison says: the verdict in words, what differs in the YAML, what is saved by metric, category and policy.

JSON holds the fields of `ComparisonResult` by name, and the sentences; docs/compare.md explains it. CSV is tidy: a
number a row, with `table, name, quantity, unit, value, low, high, n`. Numbers in both are not rounded; a value that was
not observed and an end that is not known are null, or empty.

Leaves out: the sentences (`compare_words`, `region`); how it looks on a terminal (`layout`); charts (`sections.compare`).
Checked: tests/test_compare_command.py, tests/test_compare_files.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence

from ..analysis.comparison import (
    Ablation,
    ByTask,
    Change,
    ComparisonResult,
    Metric,
    Part,
    Point,
    Region,
    Saving,
    Switch,
)
from ..analysis.statistics import Estimate
from .compare_words import name_of, replications, said_of_region, statement, unit_of_saving
from .files import plain_data
from .layout import Report, Table, bar
from .numbers import NOTHING, exact, plain, show, unit_of

KEY, VERSION = "coordsim_comparison", 2
COLUMNS = ("table", "name", "quantity", "unit", "value", "low", "high", "n")
MOST_CHANGES, MOST_REASONS = 25, 4
BAR = 8  # characters of the longest bar

Row = tuple[str, str, str, str, Estimate]


def report(found: ComparisonResult) -> Report:
    """Return the report of a comparison."""
    unit = unit_of_saving(found)
    tables = [changes_table(found.changes)] if found.changes else []
    tables += [metrics_table(found), categories_table(found)]
    tables += [tasks_table(found.tasks)] if found.tasks else []
    tables += [ablation_table(found.ablation, found)] if found.ablation else []
    answer = statement(found)
    if found.region is not None:
        tables.append(region_table(found.region, unit))
        tables += [_matrix(found.region)] if len(found.region.factors) > 1 else []
        answer += f" {said_of_region(found)}"
    seeds = f"seed {found.seed}" if found.paired else f"seeds {found.seed} and {found.seed_b}, not paired"
    done = [f"{found.tasks.both:,} tasks done under both"] if found.tasks else []
    heading = (
        f"{found.scenario}: {found.baseline} (A) against {found.variant} (B)",
        "; ".join((seeds, replications(found.replications), *done)),
    )
    return Report(heading, answer, tuple(tables), tuple(notes(found)))


def to_json(found: ComparisonResult) -> str:
    """Return a comparison as JSON."""
    data = {KEY: VERSION, "statement": statement(found), **plain_data(found)}
    if found.region is not None:
        data["region"] = {"statement": said_of_region(found), **data["region"]}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(found: ComparisonResult) -> str:
    """Return every estimate of a comparison as a row of a long table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table, name, quantity, unit, one in _rows(found):
        writer.writerow((table, name, quantity, unit, *(exact(x) for x in (one.value, one.low, one.high)), one.n))
    return out.getvalue()


def warnings(found: ComparisonResult) -> Iterator[str]:
    """Yield what is doubtful: variants that did not settle, tasks done under one only, and what was not run."""
    names = (found.baseline, found.variant)
    yield from (
        f"under {name} the number of tasks in the system still grows: its times say how long the run was; "
        "try more `--tasks`, or add capacity or lower the arrival rate with `--set`"
        for name, grows in zip(names, found.saving.unsettled, strict=True)
        if grows
    )
    tasks = found.tasks
    if tasks and (tasks.only_baseline or tasks.only_variant):
        yield (
            f"{tasks.only_baseline:,} tasks were done under {names[0]} alone and {tasks.only_variant:,} under {names[1]} "
            "alone: means are over the tasks that each has done, quantiles of savings over those done under both"
        )
    if found.region is not None:
        growing = [one for one in found.region.points if any(one.saving.unsettled)]
        if growing:
            where = "; ".join(", ".join(one.values) for one in growing)
            yield f"at {len(growing)} points of the grid ({where}) the number of tasks in the system still grows"
    yield from found.doubts


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def changes_table(found: Sequence[Change]) -> Table:
    """Return the values in which the two scenarios differ."""
    rows = tuple((one.path, one.baseline or NOTHING, one.variant or NOTHING) for one in found[:MOST_CHANGES])
    rest = len(found) - len(rows)
    note = f"and {rest} more; JSON has them all" if rest else ""
    return Table("What changed in the scenario", ("path", "A", "B"), "<<<", rows, note)


def metrics_table(found: ComparisonResult) -> Table:
    """Return each metric under both, the difference with its interval, and its p-value."""
    # What is 0 or was not observed under both says nothing.
    shown = [
        one
        for one in found.metrics
        if _is_declared(one, found)
        or any(side.value and not math.isnan(side.value) for side in (one.baseline, one.variant))
    ]
    rows = tuple(_metric(one, 1 - found.confidence, _unit(one, found)) for one in shown)
    columns = ("per task", "A", "B", "B - A", "", "B / A", "p (Holm)", "")
    return Table("What differs", columns, "<>>><>><", rows)


def _is_declared(one: Metric, found: ComparisonResult) -> bool:
    return one.name in (found.metric, found.metric.removesuffix("_mean"))


def _unit(one: Metric, found: ComparisonResult) -> str:
    """Return the unit of a metric; a declared one may be any quantity."""
    return unit_of_saving(found) if _is_declared(one, found) else unit_of(one.name)


def _metric(one: Metric, level: float, unit: str) -> tuple[str, ...]:
    like = max((abs(side.value) for side in (one.baseline, one.variant) if not math.isnan(side.value)), default=0.0)
    difference = show(one.difference, unit, like)
    times = one.ratio.value
    ratio = NOTHING if math.isnan(times) else f"{times:,.0f}" if times >= 1000 else f"{times:.3g}"
    told = "" if one.p_value < level else "may be chance" if one.difference.value else "the same"
    is_known = not math.isnan(one.difference.value)
    return (
        name_of(one.name),
        show(one.baseline, unit, like).value,
        show(one.variant, unit, like).value,
        difference.value,
        difference.error,
        ratio,
        _p(one.p_value) if is_known else NOTHING,
        told if is_known else "",
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def categories_table(found: ComparisonResult) -> Table:
    """Return what each category of T_total saves, with a signed bar."""
    total = found.total
    present = [one for one in found.categories if one.baseline.value > 0 or one.variant.value > 0]
    longest = max((abs(one.saving.value) for one in present), default=0.0)
    resolved = total.saving.excludes(0)
    rows = [
        (
            one.category,
            *_in_one_unit(one),
            *(_two(one.share, "share") if resolved else ("", "")),
            NOTHING if math.isnan(one.saving.value) else _p(one.p_value),
            _signed(one.saving.value, longest),
        )
        for one in present
    ]
    rows.append(("T_total", *_in_one_unit(total), "", "", "", ""))
    columns = ("category", "A", "B", "saving", "", "share of it", "", "p (Holm)", f"{'costs':>{BAR}} saves")
    return Table("The saving by category (mean per task)", columns, "<>>><><><", tuple(rows))


def _in_one_unit(part: Part) -> tuple[str, str, str, str]:
    """Return both sides of a category, and the saving with its error."""
    like = max((side.value for side in (part.baseline, part.variant) if not math.isnan(side.value)), default=0.0)
    sides = [show(one, "s", like).value for one in (part.baseline, part.variant)]
    saved = show(part.saving, "s", like)
    return sides[0], sides[1], saved.value, saved.error


def _signed(value: float, longest: float) -> str:
    """Return a bar to the right of the axis for what is saved, to its left for what is lost."""
    length = bar(abs(value) / longest, BAR) if longest > 0 and abs(value) > 0 else ""
    # Blocks grow from the left only: to the left of the axis they are whole.
    left = "█" * max(1, round(BAR * abs(value) / longest)) if value < 0 else ""
    return f"{left:>{BAR}}│{length if value > 0 else ''}"


def tasks_table(tasks: ByTask) -> Table:
    """Return the quantiles of what single tasks save, and the share that got slower."""
    rows = [(f"{name} of what a task saves", *_two(one, "s")) for name, one in tasks.quantiles.items()]
    rows.append(("tasks that got slower", *_two(tasks.slower, "share")))
    return Table("Task by task", ("", "", ""), "<><", tuple(rows))


def ablation_table(found: Ablation, whole: ComparisonResult) -> Table:
    """Return what each policy saves alone and last, their sum, and why some could not be built."""
    unit = unit_of_saving(whole)
    rows = [_switch(one, unit) for one in found.switches]
    if rows:
        rows.append(("sum", "", "", *_two(found.sum_alone, unit), "", ""))
        rows.append(("whole saving", "", "", *_two(whole.saving.amount, unit), "", ""))
        rows.append(("interaction", "", "", *_two(found.interaction, unit), "", ""))
    told = [f"{one.policy} cannot be switched {reason}" for one in found.switches for reason in one.reasons]
    rest = [f"and {len(told) - MOST_REASONS} more; JSON has them all"] if len(told) > MOST_REASONS else []
    reasons = "; ".join([*told[:MOST_REASONS], *rest])
    note = "alone: saved when only this is switched from A to B; last: lost when only this is switched back in B"
    if not rows:
        note = "the two differ in nothing that can be switched"
    runtimes = all(one.path.startswith("runtime.") for one in whole.changes)
    what = "policy" if runtimes else "part"
    columns = (what, "A", "B", "alone", "", "last", "")
    return Table(f"The saving by {what}", columns, "<<<><><", tuple(rows), f"{note}; {reasons}" if reasons else note)


def _switch(one: Switch, unit: str) -> tuple[str, ...]:
    alone = (NOTHING, "") if one.alone is None else _two(one.alone.amount, unit)
    back = (NOTHING, "") if one.last is None else _two(one.last.amount, unit)
    return one.policy, one.baseline, one.variant, *alone, *back


def region_table(found: Region, unit: str) -> Table:
    """Return the saving and the verdict at each point of the grid."""
    rows = [
        (
            *one.values,
            _value(one.saving.baseline, unit),
            _value(one.saving.variant, unit),
            *_two(one.saving.amount, unit),
            *_two(one.saving.share, "share"),
            _word(one.saving),
        )
        for one in found.points
    ]
    columns = (*found.factors, "A", "B", "saving", "", "", "", "verdict")
    missing = found.planned - len(found.points)
    note = f"{missing} of {found.planned} points were not run" if missing else ""
    align = "<" * len(found.factors) + ">>><><<"
    return Table("Where it saves, and where not", columns, align, tuple(rows), note)


def _matrix(found: Region) -> Table:
    """Two factors: the one down, the other across."""
    down, across = (tuple(dict.fromkeys(one.values[i] for one in found.points)) for i in (0, 1))
    cells = {one.values: _cell(one) for one in found.points}
    rows = tuple((first, *(cells.get((first, second), "") for second in across)) for first in down)
    title = f"The saving over {found.factors[0]} (down) and {found.factors[1]} (across)"
    return Table(title, ("", *across), "<" * (len(across) + 1), rows)


def _cell(one: Point) -> str:
    saving = one.saving
    return f"{_value(saving.share, 'share')} {saving.verdict}" if saving.verdict != "none" else "none"


def _word(one: Saving) -> str:
    return f"{one.verdict}: {one.needed} replications would" if one.needed else one.verdict


def notes(found: ComparisonResult) -> Iterator[str]:
    """Yield what the intervals and verdicts mean, and what was left out."""
    sure = f"{100 * found.confidence:g} %"
    kind = "B - A" if found.more_is_better else "A - B"
    how = "of paired differences" if found.paired else "(Welch's) of the difference of means, not paired,"
    yield f"A saving is {kind}. ± is the {sure} interval {how} over {replications(found.replications)}."
    yield (
        f"The verdict is on {name_of(found.metric)} alone, declared beforehand: its p is that of one test; p (Holm) of the others allows "
        "for all of them in both tables."
    )
    if found.tolerance:
        yield f"A verdict of `none` is one whose {sure} interval of the relative saving lies within ± {plain(found.tolerance, 'share')}."
    if found.region is not None and found.region.planned > 1:
        each = f"{100 * found.region.confidence:.4g} %"
        yield f"Intervals of the grid are of {each} each, so that all its verdicts hold together with {sure}."
    yield from found.notes
    if found.interrupted:
        yield "Interrupted: what was not complete is missing."


def _value(estimate: Estimate, unit: str) -> str:
    return show(estimate, unit).value


def _two(estimate: Estimate, unit: str) -> tuple[str, str]:
    shown = show(estimate, unit)
    return shown.value, shown.error


def _rows(found: ComparisonResult) -> Iterator[Row]:
    unit = unit_of_saving(found)
    yield from _saving("comparison", found.metric, found.saving, unit)
    for metric in found.metrics:
        own = _unit(metric, found)
        for name in ("baseline", "variant", "difference", "ratio"):
            yield "metrics", metric.name, name, "" if name == "ratio" else own, getattr(metric, name)
    for part in (*found.categories, found.total):
        for name in ("baseline", "variant", "saving", "share"):
            yield "categories", part.category, name, "share" if name == "share" else "s", getattr(part, name)
    if found.tasks is not None:
        yield "tasks", "slower", "share", "share", found.tasks.slower
        for name, one in found.tasks.quantiles.items():
            yield "tasks", name, "saving", "s", one
    if found.ablation is not None:
        yield from _ablation_rows(found.ablation, unit)
    if found.region is not None:
        for point in found.region.points:
            where = zip(found.region.factors, point.values, strict=True)
            yield from _saving("region", "; ".join(f"{path}={value}" for path, value in where), point.saving, unit)


def _ablation_rows(found: Ablation, unit: str) -> Iterator[Row]:
    for switch in found.switches:
        for name, saving in (("alone", switch.alone), ("last", switch.last)):
            if saving is not None:
                yield "ablation", switch.policy, name, unit, saving.amount
    yield "ablation", "", "sum_alone", unit, found.sum_alone
    yield "ablation", "", "interaction", unit, found.interaction


def _saving(table: str, name: str, one: Saving, unit: str) -> Iterator[Row]:
    yield table, name, "baseline", unit, one.baseline
    yield table, name, "variant", unit, one.variant
    yield table, name, "saving", unit, one.amount
    yield table, name, "saving_share", "share", one.share
