"""What a trace says: the tables of a run for tasks that were measured, then gaps, calls, errors, parallelism, context, and what was read.

Tables are as the terminal shows them: of few rows, and no wider than it; `every` gives all rows, for a page. JSON and CSV (`trace_answers`) have every
number, not rounded.

Leaves out: charts (`sections.trace`), files (`trace_answers`), and how tables are laid out (`trace_layout`).
Checked: tests/test_trace_tables.py.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..analysis.cohorts import MEAN, Cohorts
from ..analysis.statistics import Estimate
from ..analysis.summary import Part
from ..analysis.trace_digest import Gap, Remark, TraceDigest
from ..engine.ledger import EVERY, UNEXPLAINED
from .layout import Report, Table, without_empty
from .numbers import counted, listed, plain, show, unit_of
from .tables import CHANCES, answer, category_table, component_table, failure_table, work_table
from .trace_call_tables import call_tables, error_tables, parallel_table, turn_table
from .trace_layout import KINDS, MANY, bare, fitted, label, plainly, text_of
from .trace_task_tables import accounted, all_tasks, none_done, other_tables, seconds_of, slow_table

__all__ = [
    "answer_of",
    "gap_table",
    "largest",
    "notes",
    "read_tables",
    "report",
    "split_of",
    "task_tables",
    "time_tables",
    "took",
    "unexplained_share",
]

LITTLE, FEW_GAPS = 0.01, 3  # of T_total: what is less is not worth a sentence; and of gaps so many places will do
MOST_GAPS, MOST_FILES, MOST_REMARKS, MOST_CLASSES = 6, 8, 6, 6
LONGEST_REMARK = 66  # characters
LEAST_IN_CLASS, LEAST_FOR_P95 = 3, 20  # tasks
LEAST_AT_ONCE = 0.01  # tasks in the system: below it the files are of times far apart, and a rate says nothing
_ROUNDING = 1e-9  # of T_total
_OF_CALLS = ("chat", "embeddings", "tool.execute", "failed attempt", "backoff")  # of which the table of calls tells
MORE = "All rows: --full; as a page, CSV and tables of tasks, spans and calls: -o DIR."
_RATES = {"arrival_rate": "arrival rate", "throughput": "throughput", "number_in_system": "number in system"}


def report(found: TraceDigest, every: bool = False) -> Report:
    """Return the report: the largest rows of what matters, or `every` one."""
    parts = [component_table(found.run.summary)] if every or _beyond_calls(found) else []
    tables = [*time_tables(found, every), _split(found), *gap_table(found, every), *parts, *_cohorts(found.run.cohorts)]
    tables += [*call_tables(found, every), *error_tables(found, every), *parallel_table(found, every)]
    tables += [*turn_table(found, every), *task_tables(found), *slow_table(found, every), *read_tables(found, every)]
    shown = tuple(fitted(plainly(one, bool(found.few))) for one in tables if one.rows)
    said = [*notes(found), *(() if every else (MORE,))]
    return Report(heading(found), answer_of(found), shown, tuple(said))


def _beyond_calls(found: TraceDigest) -> bool:
    """Whether components say what the table of calls does not: something else than calls takes time worth a sentence."""
    return any(
        one.share.value > LITTLE and one.category not in (UNEXPLAINED, "human") and one.name not in _OF_CALLS
        for one in found.run.summary.components
    )


def heading(found: TraceDigest) -> tuple[str, str]:
    """Return what it is, and how much of it there is."""
    tasks, read = found.run.summary.tasks, found.read
    became = [
        f"{count:,} {word}"
        for count, word in ((tasks.done, "done"), (tasks.failed, "failed"), (tasks.unfinished, "unfinished"))
        if count
    ]
    many = f"{tasks.arrived:,} task{'s' * (tasks.arrived != 1)}"
    said = [
        f"{many}: {', '.join(became)}" if tasks.done < tasks.arrived else f"{many} done",
        f"{read.spans:,} span{'s' * (read.spans != 1)}",
    ]
    traces = [one for one in read.files if one.format]
    said.append(f"{counted(len(traces), 'file')} ({', '.join(dict.fromkeys(one.format for one in traces))})")
    said += [f"from {read.clock}"] if read.clock else ["no common clock"]
    return f"{found.name}: where did the time go?", "; ".join(said)


def answer_of(found: TraceDigest) -> str:
    """Return how long a task takes, the largest part of it, and how much no span explains."""
    summary = found.run.summary
    metrics = summary.metrics
    if math.isnan(metrics["response_time_mean"].value):
        return none_done(found) or answer(summary)
    said = [f"{took(found)}.", split_of(found)]
    if not found.overlapping:
        said.append(f"T_coordination is {text_of(found.few, metrics['coordination_share'], 'share')}.")
    missing = unexplained_share(found)
    said.append(f"No span explains {missing}." if missing else "Spans explain all of it.")
    return " ".join(filter(None, said))


def split_of(found: TraceDigest) -> str:
    """Return what is the largest part of T_total, as a sentence; where spans overlap it cannot be told."""
    if found.overlapping:
        return "Spans of models and of tools overlap, so neither which of them takes longer nor T_coordination can be told."
    return _parts(found) if found.few else _largest(found)


def took(found: TraceDigest) -> str:
    """Return how long a task takes; of few tasks, how long these took."""
    metrics, few = found.run.summary.metrics, found.few
    others = found.run.summary.tasks.arrived > found.run.summary.tasks.done
    if not few:
        mean, tail = (show(metrics[f"response_time_{one}"], "s").text for one in ("mean", "p95"))
        return f"A task {'that is done ' if others else ''}takes {mean} on average, and 95 % of them at most {tail}"
    shortest, longest = plain(few[0], "s"), plain(few[-1], "s")
    if len(few) == 1:
        return f"The task {'that was done ' if others else ''}took {longest}"
    each = f"{longest} each" if shortest == longest else f"{shortest} to {longest}"
    return f"{'The' if others else 'These'} {len(few)} tasks {'that were done ' if others else ''}took {each}"


def _explained(found: TraceDigest) -> list[tuple[str, Part]]:
    """Return the parts of T_total that spans explain, the largest first."""
    parts = found.run.summary.categories
    names = [name for name in parts if name != UNEXPLAINED and parts[name].share.value > 0]
    return [(name, parts[name]) for name in sorted(names, key=lambda name: -parts[name].share.value)]


def _parts(found: TraceDigest) -> str:
    """Return what the time of few tasks went to: the largest two parts, unless the second is little."""
    parts = [one for place, one in enumerate(_explained(found)[:2]) if not place or one[1].share.value > LITTLE]
    said = [f"{plain(part.share.value, 'share')} is {name}" for name, part in parts]
    return f"Of {'its' if len(found.few) == 1 else 'their'} time, {listed(said)}." if said else ""


def _largest(found: TraceDigest) -> str:
    """Return the largest part of T_total; where no span explains more, the largest that spans explain; '' where they explain nothing."""
    summary, parts = found.run.summary, _explained(found)
    if not parts:
        return ""
    if parts[0][1].share.value >= summary.categories[UNEXPLAINED].share.value:
        return answer(summary)
    name, part = parts[0]
    return f"The largest part that spans explain is {name}: {show(part.seconds, 's').text} ({show(part.share, 'share').text} of T_total)."


def unexplained_share(found: TraceDigest) -> str:
    """Return which share of T_total no span explains, as text; '' for what rounding of times leaves."""
    share = found.run.summary.categories[UNEXPLAINED].share
    return text_of(found.few, share, "share") if share.value > _ROUNDING else ""


def notes(found: TraceDigest) -> Iterator[str]:
    """Yield how intervals are meant; of few tasks there are none."""
    summary = found.run.summary
    if summary.tasks.done and not found.few:
        yield (
            f"± and [ ] are {100 * summary.confidence:g} % intervals over {counted(summary.tasks.done, 'task')} done, taken as independent of each other: "
            "what they have in common, such as a slow day, is in no interval. A number without one is of these tasks alone."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


def time_tables(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield T_total of tasks done, by class, and of those that were not done."""
    yield from _times(found, every)
    yield from other_tables(found)


def task_tables(found: TraceDigest) -> Iterator[Table]:
    """Yield how much work tasks are, how many succeed, and why others fail."""
    work, failures = _work(found), failure_table(found.run.summary)
    if work.rows:
        yield work
    yield from _service(found)
    if failures is not None:
        yield failures


def _work(found: TraceDigest) -> Table:
    """Return the table of work; its calls of tools are those of retrievers, too."""
    table = work_table(found.run.summary)
    kinds = {one.kind for one in found.calls}
    said = (
        "tool calls"
        if "retriever" not in kinds
        else "retriever calls"
        if "tool" not in kinds
        else "tool and retriever calls"
    )
    rows = tuple((said if row[0] == "tool calls" else row[0], *row[1:]) for row in table.rows)
    tasks = found.run.summary.tasks
    note = f"of {counted(tasks.done + tasks.failed, 'task')} that ended" if tasks.done < tasks.arrived else ""
    return replace(table, rows=rows, note=note)


def _split(found: TraceDigest) -> Table:
    """Return the table of categories with what T_coordination would be if time that no span explains were all of it.

    Which categories have nothing is not told: a trace would not show them.
    """
    table = category_table(found.run.summary)
    missing, note = found.run.summary.categories[UNEXPLAINED].share.value, ""
    if missing > _ROUNDING:
        most = plain(found.run.summary.metrics["coordination_share"].value + missing, "share")
        note = f"T_coordination is what spans show to be coordination; if all that no span explains were too, it would be {most}"
    title = "Where the time goes (on the critical path)" if found.run.summary.tasks.done == 1 else table.title
    return Table(title, table.columns, table.align, table.rows, note)


def _times(found: TraceDigest, every: bool) -> Iterator[Table]:
    """Yield T_total of all tasks, and of the classes with enough of them, the largest first; nothing of one task."""
    summary = found.run.summary
    done, metrics = summary.tasks.done, summary.metrics
    if found.few:
        if done > 1:
            cells = (
                plain(found.few[0], "s"),
                plain(metrics["response_time_mean"].value, "s"),
                plain(found.few[-1], "s"),
            )
            yield Table("T_total", ("tasks", "shortest", "mean", "longest"), ">>>>", ((str(done), *cells),))
        return
    if not done:
        return
    first = (f"{done:,}", *(bare(metrics[f"response_time_{one}"], "s") for one in CHANCES))
    yield Table("T_total", ("tasks", *CHANCES), ">" * 5, (first,))
    sizes = {name: one["response_time_mean"].n for name, one in summary.classes.items()}
    large = sorted((name for name in sizes if sizes[name] >= LEAST_IN_CLASS), key=lambda name: (-sizes[name], name))
    shown = large[: MANY if every else MOST_CLASSES]
    if len(sizes) < 2 or not shown:
        return
    rows = tuple(_class_row(name, sizes[name], summary.classes[name], every) for name in shown)
    left = [sizes[name] for name in sizes if name not in shown]
    note = f"and {sum(left):,} tasks of {counted(len(left), 'smaller one')}" if left else ""
    yield Table("T_total by class of task", ("", "tasks", "mean", "p50", "p95"), "<>>>>", rows, note)


def _class_row(name: str, tasks: int, metrics: Mapping[str, Estimate], every: bool) -> tuple[str, ...]:
    """Return the row of a class; p95 of fewer than 20 tasks is of one of them, and left out."""
    mean, median, tail = (metrics[f"response_time_{one}"] for one in ("mean", "p50", "p95"))
    middle = bare(median, "s") if every else plain(median.value, "s")
    return (label(name), f"{tasks:,}", bare(mean, "s"), middle, bare(tail, "s") if tasks >= LEAST_FOR_P95 else "")


def _service(found: TraceDigest) -> Iterator[Table]:
    """Yield how many tasks succeed, where some do not, and rates, where tasks are near enough to each other for them."""
    summary = found.run.summary
    metrics, rows = summary.metrics, []
    if summary.tasks.arrived < 2:
        return
    if summary.tasks.failed:
        rows.append(("success", bare(metrics["success"], "share")))
    at_once = metrics.get("number_in_system")
    if at_once is not None and not found.few and at_once.value >= LEAST_AT_ONCE:
        rows += [(text, bare(metrics[name], unit_of(name))) for name, text in _RATES.items()]
    if rows:
        yield Table("Service", ("", "mean"), "<<", tuple(rows))


# ---------------------------------------------------------------------------------------------------------------------
# Time


def gap_table(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield where time lies that no span explains."""
    gaps = found.gaps
    if not gaps.rows:
        return
    matters = found.run.summary.categories[UNEXPLAINED].share.value > LITTLE
    shown = gaps.rows[: MANY if every else MOST_GAPS if matters else FEW_GAPS]
    rows = tuple(
        (
            between(one), label(one.inside) if one.inside else "no span", f"{one.count:,}", bare(one.per_task, "s"), plain(one.share.value, "share"),
            plain(one.seconds / one.count, "s"), plain(one.longest, "s"),
        )
        for one in shown
    )  # fmt: skip
    columns = ("between", "inside", "gaps", "a task", "of T_total", "mean gap", "longest")
    left = gaps.rows[len(shown) :]
    note = f"on the critical path, {_of(gaps.tasks, gaps.among)}" if gaps.among > 1 else "on the critical path"
    if left:
        note += f"; and {counted(len(left), 'smaller place')} with {plain(unexplained(left), 's')} in all"
    yield Table("Time that no span explains, by where it lies", columns, "<<>>>>>", rows, note)


def between(one: Gap) -> str:
    """Return where a gap lies in words.

    >>> from ..analysis.statistics import no_estimate
    >>> between(Gap("a", "llm", "", 1, 1, 1.0, 1.0, no_estimate(0.95), no_estimate(0.95)))
    'model call → end'
    """
    before = f"{KINDS.get(one.before, one.before)} call" if one.before else "start"
    after = f"{KINDS.get(one.after, one.after)} call" if one.after else "end"
    return f"{before} → {after}"


def _of(tasks: int, among: int) -> str:
    return f"of {counted(tasks, 'task')}" + (f" out of {among:,}, whose spans were kept" if tasks < among else "")


def _cohorts(found: Cohorts) -> Iterator[Table]:
    """Yield the split of T_total around each percentile."""
    groups = found.groups
    present = [
        name for name in EVERY if any(name in one.categories and one.categories[name].value > 0 for one in groups)
    ]
    if len(groups) < 2 or not present:
        return
    rows = [
        (
            name,
            *(
                c
                for one in groups
                for c in (plain(one.categories[name].value, "s"), plain(one.shares[name].value, "share"))
            ),
        )
        for name in present
    ]
    rows.append(
        (
            "T_coordination",
            *(
                c
                for one in groups
                for c in (plain(one.coordination.value, "s"), plain(one.coordination_share.value, "share"))
            ),
        )
    )
    rows.append(("T_total", *(c for one in groups for c in (plain(one.total.value, "s"), ""))))
    rows.append(("tasks", *(c for one in groups for c in (f"{one.tasks:,}", ""))))
    columns = (
        "category",
        *(c for one in groups for c in ("all tasks" if one.label == MEAN else f"around {one.label}", "")),
    )
    note = f"mean seconds a task, and share; {'; '.join(f'{one.label}: the {nearest(one.tasks)}' for one in groups if one.label != MEAN)}"
    yield Table(
        "Where the time goes around each percentile of T_total", columns, "<" + ">>" * len(groups), tuple(rows), note
    )


def nearest(tasks: int) -> str:
    """Return how many tasks a cohort has.

    >>> nearest(14), nearest(1)
    ('14 tasks nearest to it', 'task nearest to it')
    """
    return f"{tasks:,} tasks nearest to it" if tasks > 1 else "task nearest to it"


# ---------------------------------------------------------------------------------------------------------------------
# What was read


def read_tables(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield the files, what became of their spans, and sums to hold against them."""
    read = found.read
    order = sorted(range(len(read.files)), key=lambda at: (not read.files[at].remark, -read.files[at].spans))
    most = MANY if every else MOST_FILES
    files = tuple(
        (one.name, one.format, plain(float(one.bytes), "B"), f"{one.spans:,}", one.remark)
        for one in (read.files[at] for at in sorted(order[:most]))
    )
    left = [read.files[at] for at in order[most:]]
    note = f"{read.spans:,} span{'s' * (read.spans != 1)}: {read.kept:,} kept, {read.dropped:,} dropped"
    note += f"; {sum(one.spans for one in left):,} of them in {counted(len(left), 'more file')}" if left else ""
    yield without_empty(Table("Files", ("file", "format", "size", "spans", ""), "<<>><", files, note), 4)
    told = [one for one in read.remarks if every or not one.minor]
    shown = told[: MANY if every else MOST_REMARKS]
    if shown:
        rows = tuple(row for one in shown for row in _remark(one, MANY if every else LONGEST_REMARK))
        more = len(told) - len(shown)
        note = f"and {more} more" if more else ""
        made = Table("What was dropped, repaired and guessed", ("", "what", "count", "at most"), "<<>>", rows, note)
        yield without_empty(made, 3)
    if found.sums:
        rows = tuple(
            (KINDS.get(one.kind, one.kind), f"{one.calls:,}", seconds_of(one.union), seconds_of(one.work))
            for one in found.sums
        )
        rows = (*rows, (f"T_total of {all_tasks(found)}", "", seconds_of(found.wall), ""))
        note = f"{accounted(found)}; union: any such call under way, task by task; sum: overlaps counted twice"
        yield Table("Sums over all tasks, to hold against the files", ("", "calls", "union", "sum"), "<>>>", rows, note)


def _remark(one: Remark, width: int) -> Iterator[tuple[str, ...]]:
    """Yield the row of a remark, and rows for what of its words does not fit."""
    first, *more = textwrap.wrap(f"{one.what} (first: {one.first})" if one.first else one.what, width) or [""]
    yield one.fate, first, f"{one.spans:,}" if one.spans else "", plain(one.most, "s") if one.most else ""
    yield from (("", f"  {part}", "", "") for part in more)


def unexplained(rows: Iterable[Gap]) -> float:
    """Return the seconds of gaps, over all tasks."""
    return math.fsum(one.seconds for one in rows)


def largest(rows: Sequence[Gap]) -> str:
    """Return the largest place of gaps, as a sentence; '' where there is none."""
    if not rows:
        return ""
    one = rows[0]
    share = one.seconds / unexplained(rows)
    where = f" inside {one.inside}" if one.inside else ""
    return f"Of the time that no span explains, {plain(share, 'share')} lies between {between(one).replace(' → ', ' and ')}{where}."
