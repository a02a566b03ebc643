"""Spans as CSV, one row a task, a call or a span, in the columns of a table of steps, and more.

`kind` is llm, embedding, tool, retriever, human or agent, `workflow` for what only groups others, and `other` for a part of a call, or
coordination. A task is a workflow with the id 0, around what lies in its time. A call is one row, however many pieces of it the ledger has.
`name` is the tool or agent, or the class of the task if it is not called as its model is; `model` the model; `account_category`, `component`
and `account` are what the ledger calls it. `start` is there where the tasks have a clock in common.

Leaves out: seconds by account of a task, and facts, which `tasks.parquet` of a run folder has; tasks of which no spans were kept; of measured
tasks, the turns that reading made, the time that no span explains, and which of them are attempts at one problem.
Checked: tests/test_trace_export.py, tests/test_trace_roundtrip.py.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import BinaryIO

from ...engine.ledger import FAILED, STATUSES, STRUCTURE, UNEXPLAINED, Span
from ..observation import SECOND, nanos
from . import Count, ExportRun, ExportTask
from .calls import Whole, agent_of, is_turn, wholes_of

__all__ = ["COLUMNS", "write"]

COLUMNS = (
    "task", "replication", "class", "outcome", "session", "id", "parent", "lane", "agent", "kind", "name", "model", "account_category", "component",
    "account", "start_s", "dur_s", "end_s", "size", "ttft_s", "input_tokens", "cached_tokens", "output_tokens", "input_bytes", "output_bytes",
    "critical", "critical_s", "is_error", "error", "start",
)  # fmt: skip
TASK = "task"
_MODELS = ("llm", "embedding")
_MADE = ("step", "backoff", "between spans")
_DEEPEST = 100  # groups of a lane that are looked at: only in files that are made to be slow more are open at once
_ID = COLUMNS.index("id")


def write(run: ExportRun, out: BinaryIO) -> Count:
    """Write the spans, with a row of names above."""
    tasks = spans = 0
    dated = run.clock
    out.write(_line(COLUMNS if dated else COLUMNS[:-1]))
    for task in run.tasks:
        rows = 0
        for start, row in _rows(run, task):
            rows += bool(row[_ID])
            out.write(_line((*row, _date(run.epoch + nanos(start))) if dated else row))
        tasks += bool(rows)
        spans += rows
    return Count(tasks, spans)


def _rows(run: ExportRun, task: ExportTask) -> Iterator[tuple[float, tuple[object, ...]]]:
    """Yield the rows of a task with their starts (s), none where none of its spans and calls are known."""
    by_id = {one.id: one for one in task.spans}
    wholes = wholes_of(task)
    owners = {piece.id: whole for whole in wholes for piece in whole.pieces}
    parents = _parents(run, task.spans)
    fresh = max(by_id, default=0) + 1
    if task.spans or wholes:
        yield task.arrival, (*_head(task, 0, "", 0), *_of_task(task, wholes))
    for whole in wholes:
        if not whole.pieces:
            call = whole.call
            parent = _around(task, 0, call.start, call.end)
            yield call.start, (*_head(task, fresh + whole.place, parent, 0), *_of_call(whole, None))
    for span in task.spans:
        owner = owners.get(span.id)
        if owner is None and not run.simulated and _is_made(span):
            continue
        end = span.end if owner is None else owner.call.end
        head = _head(task, span.id, _around(task, parents[span.id], span.start, end), span.lane)
        if owner is None:
            yield span.start, (*head, *_of_span(span, by_id))
        elif owner.pieces[0] is span:
            yield span.start, (*head, *_of_call(owner, span))


def _head(task: ExportTask, own: int, parent: int | str, lane: int) -> tuple[object, ...]:
    key = task.trace or task.task
    return key, task.replication, task.task_class, task.status, task.session, own, parent, lane


def _is_made(span: Span) -> bool:
    """Whether reading made this span of measured ones: whoever reads the table will make it again."""
    return span.category == UNEXPLAINED or (span.category in (STRUCTURE, "recovery") and span.name in _MADE)


def _parents(run: ExportRun, spans: Sequence[Span]) -> dict[int, int]:
    """Return the id of what holds each span, by its id.

    Of what stands in a turn that reading made, it is the nearest around the turn that lasts as long, or a shorter group of its lane: what held
    it in the file.
    """
    by_id = {one.id: one for one in spans}
    open_: dict[int, list[Span]] = {}  # groups of each lane in which time is
    found: dict[int, int] = {}
    for span in spans:
        found[span.id] = span.parent
        around = by_id.get(span.parent)
        if not run.simulated and around is not None and _is_made(around):
            while around is not None and (_is_made(around) or around.end < span.end):
                around = by_id.get(around.parent)
            groups = open_.get(span.lane, [])
            while groups and groups[-1].end < span.start:
                groups.pop()
            near = next((one for one in reversed(groups[-_DEEPEST:]) if span.end <= one.end), around)
            if near is not None and around is not None and near.end - near.start >= around.end - around.start:
                near = around
            found[span.id] = 0 if near is None else near.id
        if span.category == STRUCTURE and not _is_made(span):
            open_.setdefault(span.lane, []).append(span)
    return found


def _around(task: ExportTask, parent: int, start: float, end: float) -> int | str:
    """Return the id of what holds a span: the task's only if it lasts as long, and '' else."""
    return parent if parent or (task.arrival <= start and end <= task.end) else ""


def _of_task(task: ExportTask, wholes: Sequence[Whole]) -> tuple[object, ...]:
    failed = task.status == STATUSES[FAILED]
    models = {one.call.component for one in wholes if one.call.kind in _MODELS}
    name = TASK if task.task_class in models else task.task_class  # a reader takes the model for the class again
    return (
        "", "workflow", name, "", "", "", "", *_times(task.arrival, task.end), 0.0, *[""] * 8, int(failed),
        (task.failure or "error") if failed else "",
    )  # fmt: skip


def _of_call(whole: Whole, span: Span | None) -> tuple[object, ...]:
    call = whole.call
    model = call.component if call.kind in _MODELS else ""
    ledger = ("", "", "") if span is None else (span.category, span.component, span.name)
    size = math.fsum(piece.size for piece in whole.pieces)
    return (
        call.agent, call.kind, call.kind if model else call.component, model, *ledger, *_times(call.start, call.end), size,
        *("" if math.isnan(one) else one for one in (call.first_token, call.input, call.cached, call.output, call.input_bytes, call.output_bytes)),
        int(call.critical > 0.0), call.critical, int(bool(call.error)), call.error,
    )  # fmt: skip


def _of_span(span: Span, by_id: Mapping[int, Span]) -> tuple[object, ...]:
    kind = "agent" if is_turn(span) else "workflow" if span.category == STRUCTURE else "other"
    return (
        agent_of(span, by_id), kind, span.component if kind == "agent" else span.name, "", span.category, span.component, span.name,
        *_times(span.start, span.end), span.size, *[""] * 6, int(span.critical), "", int(span.lost), "lost" if span.lost else "",
    )  # fmt: skip


def _times(start: float, end: float) -> tuple[float, float, float]:
    """Return start, length and end (s). The length is that of whole nanoseconds, so that what is read ends where it did."""
    return start, (nanos(end) - nanos(start)) / SECOND, end


def _date(time: int) -> str:
    """Return a time (ns since 1970) as a date of ISO 8601, to the nanosecond."""
    whole, rest = divmod(time, SECOND)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}+00:00"


def _line(values: tuple[object, ...]) -> bytes:
    """Return a line of CSV; a float is as long as it must be to be read as the same."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([repr(one) if isinstance(one, float) else one for one in values])
    return text.getvalue().encode(errors="replace")
