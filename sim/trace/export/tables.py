"""Spans as CSV, one row a call or a span, in the columns of a table of steps, and more.

`kind` is llm, embedding, tool, retriever, human or agent, and `other` for what only groups others, is a part of a call, or coordination. A call
is one row, however many pieces of it the ledger has. `name` is the tool or agent, `model` the model; `account_category`, `component` and
`account` are what the ledger calls it. `start` is there where the tasks have a clock in common.

Leaves out: seconds by account of a task, and facts, which `tasks.parquet` of a run folder has; tasks of which no spans were kept; of measured
tasks, the turns that reading made, and the time that no span explains.
Checked: tests/test_trace_export.py, tests/test_trace_roundtrip.py.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import BinaryIO

from ...engine.ledger import STRUCTURE, UNEXPLAINED, Span
from . import Count, ExportRun, ExportTask
from .calls import Whole, agent_of, wholes_of
from .tracks import nanos

__all__ = ["COLUMNS", "write"]

COLUMNS = (
    "task", "replication", "class", "outcome", "session", "id", "parent", "lane", "agent", "kind", "name", "model", "account_category", "component",
    "account", "start_s", "dur_s", "end_s", "size", "ttft_s", "input_tokens", "cached_tokens", "output_tokens", "input_bytes", "output_bytes",
    "critical", "critical_s", "is_error", "error", "start",
)  # fmt: skip
_MODELS = ("llm", "embedding")
_MADE = ("step", "backoff", "between spans")
_SECOND = 1_000_000_000


def write(run: ExportRun, out: BinaryIO) -> Count:
    """Write the spans, with a row of names above."""
    tasks = spans = 0
    dated = run.clock
    out.write(_line(COLUMNS if dated else COLUMNS[:-1]))
    for task in run.tasks:
        rows = 0
        for start, row in _rows(run, task):
            rows += 1
            out.write(_line((*row, _date(run.epoch + nanos(start))) if dated else row))
        tasks += bool(rows)
        spans += rows
    return Count(tasks, spans)


def _rows(run: ExportRun, task: ExportTask) -> Iterator[tuple[float, tuple[object, ...]]]:
    """Yield the rows of a task with their starts (s)."""
    by_id = {one.id: one for one in task.spans}
    wholes = wholes_of(task)
    owners = {piece.id: whole for whole in wholes for piece in whole.pieces}
    fresh = max(by_id, default=0) + 1
    for whole in wholes:
        if not whole.pieces:
            yield whole.call.start, (*_head(task, fresh + whole.place, "", 0), *_of_call(whole, None))
    for span in task.spans:
        owner = owners.get(span.id)
        if owner is None and not run.simulated and _is_made(span):
            continue
        parent = _parent(span, by_id, whole=not run.simulated)
        head = _head(task, span.id, parent or "", span.lane)
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


def _parent(span: Span, by_id: Mapping[int, Span], *, whole: bool) -> int:
    """Return the id of what holds a span; with `whole`, of what holds the turn that it is in."""
    holder = by_id.get(span.parent)
    while whole and holder is not None and _is_made(holder):
        holder = by_id.get(holder.parent)
    return span.parent if not whole else 0 if holder is None else holder.id


def _of_call(whole: Whole, span: Span | None) -> tuple[object, ...]:
    call = whole.call
    model = call.component if call.kind in _MODELS else ""
    ledger = ("", "", "") if span is None else (span.category, span.component, span.name)
    size = math.fsum(piece.size for piece in whole.pieces)
    given = math.nan if math.isnan(call.new) else call.new + (0.0 if math.isnan(call.cached) else call.cached)
    return (
        call.agent, call.kind, call.kind if model else call.component, model, *ledger, *_times(call.start, call.end), size,
        *("" if math.isnan(one) else one for one in (call.first_token, given, call.cached, call.output, call.input_bytes, call.output_bytes)),
        int(call.critical > 0.0), call.critical, int(bool(call.error)), call.error,
    )  # fmt: skip


def _of_span(span: Span, by_id: Mapping[int, Span]) -> tuple[object, ...]:
    kind = "agent" if span.category == STRUCTURE and span.name == "invoke_agent" else "other"
    return (
        agent_of(span, by_id), kind, span.component if kind == "agent" else span.name, "", span.category, span.component, span.name,
        *_times(span.start, span.end), span.size, *[""] * 6, int(span.critical), "", int(span.lost), "lost" if span.lost else "",
    )  # fmt: skip


def _times(start: float, end: float) -> tuple[float, float, float]:
    """Return start, length and end (s). The length is that of whole nanoseconds, so that what is read ends where it did."""
    return start, (nanos(end) - nanos(start)) / _SECOND, end


def _date(time: int) -> str:
    """Return a time (ns since 1970) as a date of ISO 8601, to the nanosecond."""
    whole, rest = divmod(time, _SECOND)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}+00:00"


def _line(values: tuple[object, ...]) -> bytes:
    """Return a line of CSV; a float is as long as it must be to be read as the same."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([repr(one) if isinstance(one, float) else one for one in values])
    return text.getvalue().encode(errors="replace")
