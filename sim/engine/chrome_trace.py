"""Chrome's trace format in JSON, which ui.perfetto.dev and chrome://tracing open: processes with threads of spans, flows, and counters.

Times are microseconds from an origin, to the nanosecond. What only groups others has the category `structure`, and encloses them; a span
without length is an instant. Events are written as they come, so that a trace may be larger than memory.

Leaves out: what becomes a process or a thread.
Checked: tests/test_chrome_trace.py, tests/test_trace_export.py; tests/test_browser_perfetto.py, in a viewer.
Source: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (events X, i, M, s, f and C).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .ledger import STRUCTURE, Span

__all__ = ["FIRST_THREAD", "Event", "counter_events", "flow_events", "micros", "process_events", "text"]

_MICRO = 1e6
# A viewer takes a thread with the number of its process for that process's main one: so no thread has such a number.
FIRST_THREAD = 10_000

Event = dict[str, Any]


def text(events: Iterable[Event]) -> Iterator[str]:
    """Yield the text of a trace, piece by piece."""
    yield '{"displayTimeUnit":"ms","traceEvents":['
    for number, event in enumerate(events):
        yield ("," if number else "") + json.dumps(event, separators=(",", ":"), allow_nan=False)
    yield "]}"


def process_events(
    pid: int,
    title: str,
    threads: Sequence[str],
    spans: Iterable[tuple[Span, int]],
    origin: float,
    first: int = FIRST_THREAD,
) -> Iterator[Event]:
    """Yield a process with its threads, and spans with the places of their threads; `origin` (s) is its zero of time.

    Spans of a thread must lie in each other. Threads are numbered from `first`, which must be beyond the numbers of processes.
    """
    yield from (_named("process_name", pid, 0, title), _placed("process_sort_index", pid, 0, pid))
    for place, name in enumerate(threads):
        yield _named("thread_name", pid, first + place, name)
        yield _placed("thread_sort_index", pid, first + place, place)
    for span, place in spans:
        yield _event(span, origin, pid, first + place)


def flow_events(number: int, name: str, ends: tuple[tuple[int, int, float], tuple[int, int, float]]) -> Iterator[Event]:
    """Yield an arrow between two spans, each given as process, thread, and a time inside of it (us)."""
    for phase, (pid, tid, at) in zip("sf", ends, strict=True):
        event = {"name": name, "cat": "flow", "ph": phase, "id": number, "pid": pid, "tid": tid, "ts": at}
        yield event | ({"bp": "e"} if phase == "f" else {})


def counter_events(pid: int, name: str, points: Iterable[tuple[float, float]]) -> Iterator[Event]:
    """Yield a quantity over time, given as times (s) and values from then on."""
    for seconds, value in points:
        yield {"name": name, "ph": "C", "pid": pid, "tid": 0, "ts": micros(seconds), "args": {"value": value}}


def micros(seconds: float) -> float:
    """Return microseconds to the nanosecond, as floats have them."""
    return round(seconds * _MICRO, 3)


def _event(span: Span, origin: float, pid: int, tid: int) -> Event:
    args = {"category": span.category, "component": span.component, "size": span.size}
    began = micros(span.start - origin)
    event: Event = {
        "name": f"{span.name} {span.component}".strip(), "cat": span.category, "pid": pid, "tid": tid,
        "ts": began, "args": args | {"critical": span.critical, "lost": span.lost, "error": span.error},
    }  # fmt: skip
    if span.end > span.start or span.category == STRUCTURE:
        # Ends are rounded, not lengths: so what touches still touches, and what encloses still encloses.
        return event | {"ph": "X", "dur": round(micros(span.end - origin) - began, 3)}
    return event | {"ph": "i", "s": "t"}


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return {**_meta(what, pid, tid), "args": {"name": name}}


def _placed(what: str, pid: int, tid: int, place: int) -> Event:
    return {**_meta(what, pid, tid), "args": {"sort_index": place}}


def _meta(what: str, pid: int, tid: int) -> Event:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "ts": 0}
