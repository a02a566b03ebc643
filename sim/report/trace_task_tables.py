"""What a trace says of its tasks, whatever became of them: what they took, which were slowest, and whether all of their time is accounted for.

Leaves out: what tasks done take on average, and what others would (`trace_tables`).
Checked: tests/test_trace_tables.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..analysis.trace_digest import Ended, TraceDigest
from ..engine.ledger import EVERY
from .layout import Table
from .numbers import listed, plain
from .trace_layout import MANY, label, show_command

__all__ = ["accounted", "all_tasks", "none_done", "other_tables", "seconds_of", "slow_table"]

MOST_SLOW = 3
_LONG = 40  # characters of a task's id: in full in JSON and on the page
_SAME = 1e-6  # of all tasks' time, in floats


def other_tables(found: TraceDigest) -> Iterator[Table]:
    """Yield T_total of tasks that were not done, beside that of those done, and what their time was."""
    shown = [one for one in found.ended if one.tasks]
    if all(one.status == "done" for one in shown):
        return
    names = [name for name in EVERY if any(one.seconds.get(name, 0.0) > 0 for one in shown)]
    rows = [
        ("tasks", *(f"{one.tasks:,}" for one in shown)),
        *_spread(shown),
        *((f"  {name}", *(plain(one.seconds.get(name, 0.0) / one.tasks, "s") for one in shown)) for name in names),
    ]
    heads = {"failed": "failed", "unfinished": "unfinished, so far", "done": "done"}
    note = "seconds by category: on the critical path"
    note += ", mean a task" if any(one.tasks > 1 for one in shown) else ""
    if any(one.status == "done" for one in shown):
        note += "; T_total and where the time goes are of the tasks done, calls and sums of all"
    columns = ("", *(heads[one.status] for one in shown))
    yield Table("T_total by what became of the tasks", columns, "<" + ">" * len(shown), tuple(rows), note)


def _spread(shown: Sequence[Ended]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of T_total: its mean, and how far tasks lie apart where there are several of a sort."""
    several = any(one.tasks > 1 for one in shown)
    for name in ("shortest", "mean", "longest") if several else ("mean",):
        yield (name if several else "T_total", *(plain(getattr(one, name), "s") for one in shown))


def none_done(found: TraceDigest) -> str:
    """Return what tasks took of which none was done: until they failed, or so far."""
    said = []
    for one in found.ended:
        until = {"failed": "until it failed", "unfinished": "so far"}.get(one.status, "")
        which = f"{one.status} " if len(found.ended) > 1 or one.tasks > 1 else ""
        each = f"The {which}task" if one.tasks == 1 else f"The {one.tasks:,} {which}tasks"
        parts = sorted(one.seconds.items(), key=lambda item: -item[1])
        total = math.fsum(one.seconds.values())
        shares = [
            f"{plain(each_ / total, 'share')} {name}" for name, each_ in parts if total > 0 and each_ / total >= 0.05
        ]
        took_ = plain(one.mean, "s") + (" on average" if one.tasks > 1 else "")
        until = until if one.tasks == 1 else until.replace("it", "they")
        said.append(f"{each} took {took_} {until}{f': {listed(shares)}' if shares else ''}.")
    return f"No task was done. {' '.join(said)}" if said else ""


def slow_table(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield the tasks that took longest, with their ids in the files; nothing of one task."""
    if len(found.slowest) < 2:
        return
    shown = found.slowest[: MANY if every else MOST_SLOW]
    ids = [one.trace for one in shown]
    rows = tuple(
        (
            str(one.task), trace, plain(one.total, "s"), f"{one.largest} {plain(one.share, 'share')}" if one.share > 0 else "",
            label(one.task_class), "" if one.status == "done" else one.status,
        )
        for one, trace in zip(shown, ids if every else _apart(ids), strict=True)
    )  # fmt: skip
    made = Table("The slowest tasks", ("task", found.by, "T_total", "largest part", "class", ""), ">" + "<><<<", rows)
    made = replace(made, note=f"draw one: `{show_command('N', found.by)}`")
    yield made if len({one.task_class for one in shown}) > 1 else _column_out(made, 4)


def _apart(ids: Sequence[str]) -> list[str]:
    """Return ids of tasks; where one is too long for a line, without what all of them begin and end with.

    >>> _apart(["steps.csv:all/fix-17/attempt-1/a-model-with-a-name", "steps.csv:all/add-4/attempt-1/a-model-with-a-name"])
    ['…/fix-17/…', '…/add-4/…']
    """
    if max(map(len, ids)) <= _LONG:
        return list(ids)
    start, end = _same_folders(ids), _same_folders([one[::-1] for one in ids])
    return [
        f"{'…' if start > 0 else ''}{one[max(start, 0) : len(one) - max(end, 0)]}{'…' if end > 0 else ''}"
        for one in ids
    ]


def _same_folders(ids: Sequence[str]) -> int:
    """Return how many characters all ids begin with, up to a `/`; 0 or less where they have none in common."""
    differ = (at for at, each in enumerate(zip(*ids, strict=False)) if len(set(each)) > 1)
    return ids[0][: next(differ, 0)].rfind("/")


def _column_out(table: Table, place: int) -> Table:
    def left(row: tuple[str, ...]) -> tuple[str, ...]:
        return (*row[:place], *row[place + 1 :])

    align = table.align[:place] + table.align[place + 1 :]
    return replace(table, columns=left(table.columns), align=align, rows=tuple(map(left, table.rows)))


def all_tasks(found: TraceDigest) -> str:
    """Return all tasks in words."""
    arrived = found.run.summary.tasks.arrived
    return "the task" if arrived == 1 else f"all {arrived:,} tasks"


def accounted(found: TraceDigest) -> str:
    """Return whether categories sum to T_total, over all tasks that the ledger keeps; and how much work lies beside it."""
    parts = math.fsum(each for one in found.ended for each in one.seconds.values())
    wall = math.fsum(one.mean * one.tasks for one in found.ended)
    beside = math.fsum(one.beside for one in found.ended)
    same = abs(parts - wall) <= _SAME * max(wall, 1.0)
    verdict = (
        "T_total"
        if same
        else f"{seconds_of(parts - wall)} other than T_total; this is a mistake of coordsim: please report it"
    )
    kept = sum(one.tasks for one in found.ended)
    of = f" of {kept:,} tasks kept" if kept < found.run.summary.tasks.arrived else ""
    said = f"accounted for: the categories{of} sum to {seconds_of(parts)} on the critical paths, which is {verdict}"
    return f"{said}; beside the paths lie {seconds_of(beside)} of work" if beside > 0 else said


def seconds_of(seconds: float) -> str:
    """Return seconds to the millisecond, to hold against files.

    >>> seconds_of(1234.5)
    '1,234.500 s'
    """
    return f"{seconds:,.3f} s"
