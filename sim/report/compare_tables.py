"""What a comparison says: the verdict in words, what is saved by metric, category and policy, and where nothing is.

JSON holds the fields of `ComparisonResult` by name, and the sentences; docs/compare.md explains it. CSV is tidy: a
number a row, with `table, name, quantity, unit, value, low, high, n`. Numbers in both are not rounded; a value that was
not observed and an end that is not known are null, or empty.

Leaves out: how it looks on a terminal (`layout`); HTML.
Checked: tests/test_compare_command.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..analysis.comparison import Ablation, ComparisonResult, Metric, Part, Point, Region, Saving, Switch
from ..analysis.statistics import Estimate
from .answers import Answers
from .files import plain_data
from .layout import Report, Table
from .numbers import NOTHING, plain, show, unit_of
from .region import statement as region_statement
from .tables import FACTS

KEY, VERSION = "coordsim_comparison", 1
COLUMNS = ("table", "name", "quantity", "unit", "value", "low", "high", "n")
_NAMES = {
    "response_time_mean": "T_total, mean",
    "response_time_p50": "T_total, p50",
    "response_time_p95": "T_total, p95",
    "response_time_p99": "T_total, p99",
    "coordination_mean": "T_coordination, mean",
    **FACTS,
}
_MAJORITY = 0.5
_ROUNDING = 1e-12  # relative to T_total: what is smaller is left of sums in another order

Row = tuple[str, str, str, str, Estimate]


def report(found: ComparisonResult) -> Report:
    """Return the report of a comparison."""
    tables = [_metrics(found), _categories(found), _tasks(found)]
    tables += [_ablation(found.ablation, found)] if found.ablation else []
    answer = statement(found)
    if found.region is not None:
        tables.append(_region(found.region))
        tables += [_matrix(found.region)] if len(found.region.factors) > 1 else []
        answer += f" {region_statement(found.region)}"
    heading = (
        f"{found.scenario}: {found.baseline} (A) against {found.variant} (B)",
        f"seed {found.seed}; {_replications(found.replications)}; {found.tasks.both:,} tasks done under both",
    )
    return Report(heading, answer, tuple(tables), tuple(_notes(found)))


def statement(found: ComparisonResult) -> str:
    """Return the verdict in words."""
    one = found.saving
    if one.verdict == "none":
        return f"No saving: {found.baseline} and {found.variant} take the same time {_within(one, found.tolerance)}."
    if one.verdict == "not resolved":
        if math.isnan(one.seconds.value):
            return "Not resolved: no task was done under both."
        more = f"; try --replications {one.needed}" if one.needed else ""
        return (
            f"Not resolved: {found.variant} saves {show(one.seconds, 's').text} of {_value(one.baseline, 's')} a task "
            f"({_ends(one.share)}){more}."
        )
    costs = one.verdict == "costs"
    seconds, share = (_flipped(one.seconds), _flipped(one.share)) if costs else (one.seconds, one.share)
    verb = f"costs {_value(seconds, 's')} more than the" if costs else f"saves {_value(seconds, 's')} of"
    parts = _most(found.categories, costs)
    told = f"; most of it is {parts}" if parts else ""
    share_of = f" ({_value(share, 'share')}, {_ends(share)})" if not math.isnan(share.value) else ""
    return f"{found.variant} {verb} {_value(one.baseline, 's')}{share_of} a task{told}."


def to_json(found: ComparisonResult) -> str:
    """Return a comparison as JSON."""
    data = {KEY: VERSION, "statement": statement(found), **plain_data(found)}
    if found.region is not None:
        data["region"] = {"statement": region_statement(found.region), **data["region"]}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(found: ComparisonResult) -> str:
    """Return every estimate of a comparison as a row of a long table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table, name, quantity, unit, one in _rows(found):
        writer.writerow((table, name, quantity, unit, *(_number(x) for x in (one.value, one.low, one.high)), one.n))
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
    if tasks.only_baseline or tasks.only_variant:
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


def _metrics(found: ComparisonResult) -> Table:
    shown = [one for one in found.metrics if not (one.baseline.value == 0 == one.variant.value)]
    rows = tuple(_metric(one, 1 - found.confidence) for one in shown)
    columns = ("per task", "A", "B", "B - A", "", "B / A", "p (Holm)", "")
    return Table("What differs", columns, "<>>><>><", rows)


def _metric(one: Metric, level: float) -> tuple[str, ...]:
    unit = unit_of(one.name)
    name = _NAMES.get(one.name, one.name.replace("_", " "))
    difference = show(one.difference, unit)
    ratio = NOTHING if math.isnan(one.ratio.value) else f"{one.ratio.value:.3g}"
    p = "<0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
    told = "" if one.p_value < level else "may be chance" if one.difference.value else "the same"
    return (
        name,
        _value(one.baseline, unit),
        _value(one.variant, unit),
        difference.value,
        difference.error,
        ratio,
        p,
        told,
    )


def _categories(found: ComparisonResult) -> Table:
    whole = found.saving
    present = [one for one in found.categories if one.baseline.value > 0 or one.variant.value > 0]
    saves = found.saving.verdict in ("saves", "costs")
    rows = [
        (
            one.category,
            _value(one.baseline, "s"),
            _value(one.variant, "s"),
            *_two(one.saving, "s"),
            *(_two(one.share, "share") if saves else ("", "")),
        )
        for one in (_rounded(part, whole.baseline.value) for part in present)
    ]
    rows.append(("T_total", _value(whole.baseline, "s"), _value(whole.variant, "s"), *_two(whole.seconds, "s"), "", ""))
    columns = ("category", "A", "B", "saving", "", "share of it", "")
    return Table("The saving by category (mean per task)", columns, "<>>><><", tuple(rows))


def _rounded(part: Part, total: float) -> Part:
    """Return a part without a saving that is nothing but rounding."""
    if max(abs(part.saving.low), abs(part.saving.high)) > _ROUNDING * total:
        return part
    nothing = replace(part.saving, value=0.0, low=0.0, high=0.0)
    return replace(part, saving=nothing, share=nothing)


def _tasks(found: ComparisonResult) -> Table:
    tasks = found.tasks
    rows = [(f"{name} of what a task saves", *_two(one, "s")) for name, one in tasks.quantiles.items()]
    rows.append(("tasks that got slower", *_two(tasks.slower, "share")))
    return Table("Task by task", ("", "", ""), "<><", tuple(rows))


def _ablation(found: Ablation, whole: ComparisonResult) -> Table:
    rows = [_switch(one) for one in found.switches]
    if rows:
        rows.append(("sum", "", "", *_two(found.sum_alone, "s"), "", ""))
        rows.append(("whole saving", "", "", *_two(whole.saving.seconds, "s"), "", ""))
        rows.append(("interaction", "", "", *_two(found.interaction, "s"), "", ""))
    reasons = "; ".join(f"{one.policy} cannot be switched {reason}" for one in found.switches for reason in one.reasons)
    note = "alone: saved when only this is switched from A to B; last: lost when only this is switched back in B"
    if not rows:
        note = "the two differ in no policy"
    columns = ("policy", "A", "B", "alone", "", "last", "")
    return Table("The saving by policy", columns, "<<<><><", tuple(rows), f"{note}; {reasons}" if reasons else note)


def _switch(one: Switch) -> tuple[str, ...]:
    seconds = (NOTHING, "") if one.alone is None else _two(one.alone.seconds, "s")
    back = (NOTHING, "") if one.last is None else _two(one.last.seconds, "s")
    return one.policy, one.baseline, one.variant, *seconds, *back


def _region(found: Region) -> Table:
    rows = [
        (
            *one.values,
            _value(one.saving.baseline, "s"),
            _value(one.saving.variant, "s"),
            *_two(one.saving.seconds, "s"),
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


def _notes(found: ComparisonResult) -> Iterator[str]:
    sure = f"{100 * found.confidence:g} %"
    yield f"A saving is A - B. ± is the {sure} interval of paired differences over {_replications(found.replications)}."
    yield f"None: the {sure} interval of the relative saving lies within ± {plain(found.tolerance, 'share')}."
    if found.region is not None and found.region.planned > 1:
        each = f"{100 * found.region.confidence:.4g} %"
        yield f"Intervals of the grid are of {each} each, so that all its verdicts hold together with {sure}."
    if found.interrupted:
        yield "Interrupted: what was not complete is missing."


# ---------------------------------------------------------------------------------------------------------------------
# Words and numbers


def _replications(count: int) -> str:
    return f"{count} replication{'' if count == 1 else 's'}"


def _most(parts: Sequence[Part], costs: bool) -> str:
    """Return the fewest categories that make up more than half of the saving, the largest first."""
    sign = -1.0 if costs else 1.0
    whole = sum(one.saving.value for one in parts) * sign
    chosen: list[str] = []
    reached = 0.0
    for one in sorted(parts, key=lambda part: -sign * part.saving.value):
        if reached > _MAJORITY * whole or sign * one.saving.value <= 0:
            break
        reached += sign * one.saving.value
        chosen.append(f"{one.category} ({_value(_flipped(one.saving) if costs else one.saving, 's')})")
    return " and ".join(filter(None, (", ".join(chosen[:-1]), chosen[-1] if chosen else "")))


def _within(one: Saving, tolerance: float) -> str:
    if one.seconds.value == 0 == one.seconds.half_width:
        return "to the last digit"
    return f"within ± {plain(tolerance, 'share')} ({_ends(one.share)})"


def _ends(share: Estimate) -> str:
    """Return '95 % interval 33 to 37 %'."""
    sure = f"{100 * share.confidence:g} %"
    if not share.resolved:
        return f"no {sure} interval"
    low, high = (f"{100 * end:.3g}" for end in (share.low, share.high))
    return f"{sure} interval {low} to {high} %"


def _flipped(one: Estimate) -> Estimate:
    return Estimate(-one.value, -one.high, -one.low, one.confidence, one.n, one.method)


def _value(estimate: Estimate, unit: str) -> str:
    return show(estimate, unit).value


def _two(estimate: Estimate, unit: str) -> tuple[str, str]:
    shown = show(estimate, unit)
    return shown.value, shown.error


def _rows(found: ComparisonResult) -> Iterator[Row]:
    yield from _saving("comparison", "T_total", found.saving)
    for metric in found.metrics:
        unit = unit_of(metric.name)
        for name in ("baseline", "variant", "difference", "ratio"):
            yield "metrics", metric.name, name, "" if name == "ratio" else unit, getattr(metric, name)
    for part in found.categories:
        for name in ("baseline", "variant", "saving", "share"):
            yield "categories", part.category, name, "share" if name == "share" else "s", getattr(part, name)
    yield "tasks", "slower", "share", "share", found.tasks.slower
    for name, one in found.tasks.quantiles.items():
        yield "tasks", name, "saving", "s", one
    if found.ablation is not None:
        yield from _ablation_rows(found.ablation)
    if found.region is not None:
        for point in found.region.points:
            where = zip(found.region.factors, point.values, strict=True)
            yield from _saving("region", "; ".join(f"{path}={value}" for path, value in where), point.saving)


def _ablation_rows(found: Ablation) -> Iterator[Row]:
    for switch in found.switches:
        for name, saving in (("alone", switch.alone), ("last", switch.last)):
            if saving is not None:
                yield "ablation", switch.policy, name, "s", saving.seconds
    yield "ablation", "", "sum_alone", "s", found.sum_alone
    yield "ablation", "", "interaction", "s", found.interaction


def _saving(table: str, name: str, one: Saving) -> Iterator[Row]:
    yield table, name, "baseline", "s", one.baseline
    yield table, name, "variant", "s", one.variant
    yield table, name, "saving", "s", one.seconds
    yield table, name, "saving_share", "share", one.share


def _number(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


ANSWERS = Answers("comparison", "comparison", report, to_csv, to_json)
