"""Tasks as a Chrome trace, which ui.perfetto.dev and chrome://tracing open: a process for each task, a thread for each lane.

Times are microseconds from the arrival of the task, so that tasks lie one below the other. What only groups others has the category
`structure`, and encloses them; a span without length is an instant.

Leaves out: showing it.
Checked: tests/test_chrome_trace.py.
Source: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (events X, i and M).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..analysis.task_steps import TaskExample
from ..engine.critical import TRUNK
from ..engine.ledger import STRUCTURE, Span
from .numbers import plain

__all__ = ["to_chrome"]

_MICRO = 1e6
# A viewer takes a thread with the number of its process for that process's main one: so no thread has such a number.
_FIRST_THREAD = 10_000

Event = dict[str, Any]


def to_chrome(examples: Sequence[TaskExample]) -> str:
    """Return the tasks as JSON with `traceEvents`; a task that is at several percentiles is there once."""
    events: list[Event] = []
    labels: dict[int, list[str]] = {}
    for one in examples:
        labels.setdefault(one.task, []).append(one.label)
    tasks = {one.task: one for one in examples}
    for pid, one in enumerate(tasks.values(), start=1):
        title = f"{', '.join(labels[one.task])}: task {one.task} ({one.task_class}), T_total {plain(one.total, 's')}"
        events += [_named("process_name", pid, 0, title), _placed("process_sort_index", pid, 0, pid)]
        threads = _threads(one)
        for place, (lane, tid) in enumerate(threads.items()):
            name = "trunk" if lane == TRUNK else f"branch {place}"
            events += [_named("thread_name", pid, tid, name), _placed("thread_sort_index", pid, tid, place)]
        events += [_event(span, one.arrival, pid, threads[span.lane]) for span in one.spans]
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, separators=(",", ":"), allow_nan=False)


def _threads(one: TaskExample) -> dict[int, int]:
    """Return the thread of each lane, the trunk first and the others as they begin: the numbers of lanes are too large for a viewer."""
    lanes = dict.fromkeys([TRUNK, *(span.lane for span in one.spans)])
    return {lane: _FIRST_THREAD + place for place, lane in enumerate(lanes)}


def _event(span: Span, arrival: float, pid: int, tid: int) -> Event:
    args = {"category": span.category, "component": span.component, "size": span.size}
    began = _micros(span.start - arrival)
    event: Event = {
        "name": f"{span.name} {span.component}".strip(), "cat": span.category, "pid": pid, "tid": tid,
        "ts": began, "args": args | {"critical": span.critical, "lost": span.lost},
    }  # fmt: skip
    if span.end > span.start or span.category == STRUCTURE:
        # Ends are rounded, not lengths: so what touches still touches, and what encloses still encloses.
        return event | {"ph": "X", "dur": round(_micros(span.end - arrival) - began, 3)}
    return event | {"ph": "i", "s": "t"}


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return {**_meta(what, pid, tid), "args": {"name": name}}


def _placed(what: str, pid: int, tid: int, place: int) -> Event:
    return {**_meta(what, pid, tid), "args": {"sort_index": place}}


def _meta(what: str, pid: int, tid: int) -> Event:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "ts": 0}


def _micros(seconds: float) -> float:
    """Return microseconds to the nanosecond, as floats have them."""
    return round(seconds * _MICRO, 3)
