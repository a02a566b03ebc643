"""What a study of faults says: sentences first, then what each fault costs, whom it reached, what became of strikes, and when.

JSON holds the fields of `StudyResult` by name, and the sentences; docs/fault-study.md explains it. CSV is tidy: a number a row.
Numbers in both are not rounded; what is not known is null, or empty.

Leaves out: how it looks on a terminal (`layout`); charts (`sections.faults`); the words (`fault_words`).
Checked: tests/test_faults_command.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from ..analysis.fault_study import FAULT, HANDLING, Cost, LevelRow, Metric, StudyResult
from ..analysis.fault_timeline import BACKLOG, Period, Timeline
from ..analysis.statistics import Estimate
from ..engine.incidents import OUTCOMES
from .fault_words import measured, sentences
from .files import plain_data
from .layout import Report, Table
from .numbers import NOTHING, counted, exact, plain, show, unit_of, wide

KEY, VERSION = "coordsim_faults", 1
COLUMNS = ("part", "name", "x", "metric", "value", "low", "high")
NAMES = {"success": "success", "response_time_p95": "p95", "goodput": "goodput", "wasted_share": "wasted"}
_MOST_COMPONENTS = 5
_MOST_MOMENTS = 40


def report(found: StudyResult) -> Report:
    """Return the report."""
    heading = (
        f"{found.scenario}: what faults cost, how far they spread, and what breaks first",
        f"seed {found.seed}; {counted(found.replications, 'replication')} of {_each(found.variants)}",
    )
    tables = [*_costs(found), *_reach(found), *_strikes(found), *_paths(found), *_triggers(found.timeline)]
    tables += [*_moments(found.timeline), *_levels(found), *_steps(found)]
    return Report(heading, " ".join(sentences(found)), tuple(tables), tuple(_notes(found)))


def _each(variants: int) -> str:
    return f"each of {variants} scenarios" if variants > 1 else "the scenario"


def warnings(found: StudyResult) -> Iterator[str]:
    """Yield what could not be left out, and what the models say of their own numbers."""
    for one in found.costs:
        if one.skipped:
            yield f"{one.name} was not left out: {one.skipped}"
    told = {f"faults.{one.name}: never comes" for one in found.missed}  # the answer says so
    yield from (one for one in found.doubts if one.partition(",")[0] not in told)


def _notes(found: StudyResult) -> Iterator[str]:
    yield (
        f"± and [ ] are {100 * found.confidence:g} % intervals over {counted(found.replications, 'replication')}, which meet the same draws "
        "with and without a fault."
    )
    if any(one.reach for one in measured(found)):
        yield (
            "Failed: tasks that succeed without the fault. Delayed: those that take over 1 % longer with it; later: by how much, in "
            "the mean. Not struck: tasks that never met the fault themselves. Faults overlap, so that shares need not add up."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def _costs(found: StudyResult) -> Iterator[Table]:
    for kind, title, note in (
        (FAULT, "What each fault adds", "with the fault, less without it"),
        (HANDLING, "What each policy adds", "with the policy, less without it"),
    ):
        rows = [one for one in measured(found) if one.kind == kind]
        if rows:
            names = list(rows[0].metrics)
            columns = [part for name in names for part in (NAMES.get(name, name), "")]
            cells = [(one.name, *(c for n in names for c in _added(n, one.metrics[n]))) for one in rows]
            having = ("as it is", *(c for n in names for c in _cells(rows[0].metrics[n].having, n)))
            yield Table(title, (kind, *columns), "<" + "><" * len(names), (having, *cells), note)


def _added(name: str, metric: Metric) -> tuple[str, str]:
    value, error = _cells(metric.added, name)
    return ("+" + value if metric.added.value > 0 else value), error


def _cells(one: Estimate, name: str) -> tuple[str, str]:
    shown = show(one, unit_of(name), wide(one))
    return shown.value, shown.error


def _reach(found: StudyResult) -> Iterator[Table]:
    reached = [(one, one.reach) for one in measured(found) if one.reach is not None]
    if not reached:
        return
    rows = tuple(
        (
            one.name,
            show(reach.struck, "share").value,
            *_both(reach.failed, "share"),
            show(reach.failed_unstruck, "share").value,
            *_both(reach.delayed, "share"),
            show(reach.delayed_unstruck, "share").value,
            show(reach.delay, "s").text if reach.delayed.value else NOTHING,
            show(reach.unfinished, "share").value,
            str(reach.rescued + reach.sooner),
        )
        for one, reach in reached
    )
    columns = (
        "fault",
        "struck",
        "failed",
        "",
        "not struck",
        "delayed",
        "",
        "not struck",
        "later",
        "no end",
        "better off",
    )
    note = (
        f"of {reached[0][1].tasks} pairs of tasks; no end: not before that of the run; better off: tasks that fail without the "
        "fault, or are over 1 % slower"
    )
    yield Table("Whom each fault reached", columns, "<>><>><>>>>", rows, note)


def _both(one: Estimate, unit: str) -> tuple[str, str]:
    shown = show(one, unit)
    return shown.value, shown.error


def _strikes(found: StudyResult) -> Iterator[Table]:
    rows = tuple(
        (
            one.name,
            one.kind,
            str(one.strikes),
            *(str(one.outcomes[name]) for name in OUTCOMES),
            str(one.failed),
            str(one.delayed),
        )
        for one in found.causes
    )
    if rows:
        columns = ("cause", "kind", "strikes", *OUTCOMES, "tasks failed", "tasks late")
        note = "strikes = " + " + ".join(OUTCOMES) + ", for each cause; a task counts under the cause that cost it most"
        yield Table("What became of the strikes", columns, "<<" + ">" * 8, rows, note)


def _paths(found: StudyResult) -> Iterator[Table]:
    rows = tuple(
        (one.path, str(one.failed), str(one.delayed), plain(one.lost, "s"), plain(one.waited, "s"))
        for one in found.paths
    )
    if rows:
        columns = ("path", "tasks failed", "tasks late", "lost", "waited")
        yield Table("How they came to tasks", columns, "<>>>>", rows)


def _triggers(one: Timeline) -> Iterator[Table]:
    rows = tuple(
        (
            trigger.name,
            f"{plain(trigger.collapse.start, 's')} to {plain(trigger.collapse.end, 's')}",
            _seconds(trigger.first_strike),
            _seconds(trigger.first_harm),
            _seconds(trigger.collapse.time_to_detect, "never"),
            plain(trigger.collapse.depth, "share"),
            _seconds(trigger.collapse.time_to_recover, "not seen"),
            trigger.collapse.state,
        )
        for trigger in one.triggers
    )
    if rows:
        columns = (
            "trigger",
            "",
            "strikes after",
            "harms after",
            "goodput low after",
            "depth",
            "recovers after",
            "state",
        )
        note = f"replication {one.replication}, in windows of {plain(one.window, 's')}; recovers: from the end of the trigger"
        yield Table("Does it stay broken?", columns, "<<>>>>><", rows, note)


def _seconds(value: float, never: str = NOTHING) -> str:
    return never if math.isinf(value) else plain(value, "s")


def _moments(one: Timeline) -> Iterator[Table]:
    """Yield the timeline: turns in order of time, and windows between them."""
    # A short queue now and then is nothing to tell.
    told = [p for p in one.periods if p.start >= one.start and (p.kind != BACKLOG or p.end - p.start >= one.window)]
    begun = [(p.start, 1, _turn(p, "begins"), p.component) for p in told]
    turns = sorted(begun + [(p.end, 0, _turn(p, "ends"), p.component) for p in told if p.over])
    if not turns:
        return
    room = max(_MOST_MOMENTS - len(turns), 10)
    step = max(1, -(-len(one.times) // room))
    lines: list[tuple[float, int, tuple[str, ...]]] = [
        (time, 0, (plain(time, "s", 4), what, where, "", "", "")) for time, _, what, where in turns[:_MOST_MOMENTS]
    ]
    for place in range(0, len(one.times), step):
        last = min(place + step, len(one.times))
        rates = (sum(values[place:last]) / (last - place) for values in (one.arrivals, one.good))
        waiting = f"{one.in_system[last - 1]:,.0f}"
        time = one.times[last - 1]
        lines.append((time, 1, (plain(time, "s", 4), "", "", *(plain(rate, "1/s") for rate in rates), waiting)))
    rows = tuple(row for _, _, row in sorted(lines, key=lambda line: line[:2]))
    left = len(turns) - _MOST_MOMENTS
    note = f"rates are means over {plain(step * one.window, 's')} up to then" + (
        f"; {left} more turns" if left > 0 else ""
    )
    columns = ("time", "what", "where", "arrivals", "goodput", "in system")
    yield Table(f"What happened in replication {one.replication}", columns, "><<>>>", rows, note)


def _turn(one: Period, what: str) -> str:
    return f"backlog {what}, of {one.cause}" if one.kind == BACKLOG else f"{one.cause} {what}"


def _levels(found: StudyResult) -> Iterator[Table]:
    if not found.levels:
        return
    busiest = {
        name: max(row.utilization[name].value for row in found.levels if name in row.utilization)
        for row in found.levels
        for name in row.utilization
    }
    shown = sorted(busiest, key=lambda name: -busiest[name] if math.isfinite(busiest[name]) else 0.0)[:_MOST_COMPONENTS]
    rows = tuple(_level(row, shown) for row in found.levels)
    columns = (found.knob, "success", "", "goodput", "", "attainment", "", "p95", "", *shown)
    more = len(busiest) - len(shown)
    note = "components: share of capacity that is busy" + (f"; {more} more are less busy" if more else "")
    yield Table(f"What breaks first as {found.knob} rises", columns, ">" + "><" * 4 + ">" * len(shown), rows, note)


def _level(row: LevelRow, shown: list[str]) -> tuple[str, ...]:
    cells = [
        c for name in ("success", "goodput", "attainment", "response_time_p95") for c in _cells(row.metrics[name], name)
    ]
    return (row.shown, *cells, *(show(row.utilization.get(name), "share").value for name in shown))


def _steps(found: StudyResult) -> Iterator[Table]:
    for one in found.steps:
        rows = tuple(
            (f"{b.steps:g}", *_both(b.success, "share"), plain(one.fit.success(b.steps), "share")) for b in one.bins
        )
        fit = f"constant chance per step {show(one.fit.per_step, 'share').text}"
        fit += "; it misfits" if one.fit.misfit else ""
        yield Table(
            f"Success over steps (`{one.path}`), {one.name}", ("steps", "success", "", "fitted"), ">><>", rows, fit
        )


# ---------------------------------------------------------------------------------------------------------------------
# Data


def to_json(found: StudyResult) -> str:
    """Return all of it as JSON."""
    data = {KEY: VERSION, "statement": list(sentences(found)), **plain_data(_fields(found))}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _fields(found: StudyResult) -> dict[str, Any]:
    return {one.name: _data(getattr(found, one.name)) for one in fields(found)}


def _data(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_data(one) for one in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def to_csv(found: StudyResult) -> str:
    """Return every number as a row: part, name, x, metric, value, low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part, name, x, metric, one in _rows(found):
        numbers = (one.value, one.low, one.high) if isinstance(one, Estimate) else (one, math.nan, math.nan)
        writer.writerow((part, name, x, metric, *map(exact, numbers)))
    return out.getvalue()


Row = tuple[str, str, str, str, Estimate | float]


def _rows(found: StudyResult) -> Iterator[Row]:
    for cost in found.costs:
        yield from (_cost_row(cost, name, what) for name in cost.metrics for what in ("having", "without", "added"))
        if cost.reach is not None:
            reach = cost.reach
            yield from (("reach", cost.name, "", one.name, getattr(reach, one.name)) for one in fields(reach))
    for cause in found.causes:
        yield from (("strikes", cause.name, "", name, cause.outcomes[name]) for name in OUTCOMES)
    yield from _timeline_rows(found.timeline)
    for level in found.levels:
        shares = {f"utilization {name}": one for name, one in level.utilization.items()}
        measured = {**level.metrics, **shares}
        yield from (("level", found.knob, level.shown, name, one) for name, one in measured.items())
    for steps in found.steps:
        yield from (("steps", steps.name, f"{one.steps:g}", "success", one.success) for one in steps.bins)
        yield "steps", steps.name, "", "half_life", steps.fit.half_life


def _timeline_rows(line: Timeline) -> Iterator[Row]:
    series = {"arrivals": line.arrivals, "goodput": line.good, "in_system": line.in_system}
    series |= {f"queue {name}": values for name, values in line.queues.items()}
    for name, values in series.items():
        for time, value in zip(line.times, values, strict=True):
            yield "timeline", str(line.replication), f"{time:g}", name, value


def _cost_row(cost: Cost, name: str, what: str) -> Row:
    return cost.kind, cost.name, what, name, getattr(cost.metrics[name], what)
