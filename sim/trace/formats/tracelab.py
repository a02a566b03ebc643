"""TraceLab rounds: sessions of coding agents as JSON lines, and tables of sessions to replay.

A round is a call of the model, from the input that it answers (a message, or the last result of a tool) to the last that it wrote, with the tools
that it called. What lies between the end of a round and a user's message was a person's.
Tables to replay know no durations of calls: those are moments, with the waits for tools between them.
Leaves out: internal latencies of tools (the wall latency is what the agent waits), and subscriptions.
Checked: tests/test_trace_formats.py.
Source: https://github.com/uw-syfi/TraceLab (README of the data set). Times of arrival in tables to replay are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally
from .rows import Record, records
from .values import error_type, first, flag, nanoseconds, number, objects, text

__all__ = ["observations"]

_INPUT = ("user_message", "tool_result")
_WRITTEN = ("reasoning", "text", "tool_call")

NO_SESSION = "rounds without a session"
NO_TIMES = "rounds without times"
PERSON = "time before a user's message, taken for a person's"
NO_DURATION = "calls of a table to replay, which has no durations of calls: they take no time"
WAITS = "waits after calls of a table to replay, taken for tools"


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each round, its tools, and the person's time before it."""
    clocks: dict[str, int] = {}  # when each session was last busy (ns): one number a session
    for place, record in records(stream, file, tally, ("rounds", "rows")):
        session = text(record.get("session_id"))
        if not session:
            tally.spans += 1
            tally.note("dropped", NO_SESSION, example=f"line {place}")
            continue
        found = (
            _replayed(record, place, session, clocks, file, tally)
            if "round_idx" in record
            else _round(record, place, session, clocks, tally)
        )
        for one in found:
            tally.spans += 1
            file.spans += 1
            yield one


def _round(record: Record, place: int, session: str, clocks: dict[str, int], tally: Tally) -> Iterator[Observation]:
    events = [
        (text(one.get("event_type")), nanoseconds(one.get("timestamp"))) for one in objects(record.get("timing_events"))
    ]
    asked = [at for what, at in events if what in _INPUT and at is not None]
    wrote = [at for what, at in events if what in _WRITTEN and at is not None]
    if not asked and not wrote:
        tally.spans += 1
        tally.note("dropped", NO_TIMES, example=f"line {place}")
        return
    mark = text(record.get("round_id")) or f"round {place}"
    messages = [at for what, at in events if what == "user_message" and at is not None]
    before = clocks.get(session)
    if messages and before is not None and min(messages) > before:
        tally.note("guessed", PERSON)
        yield Observation(
            session, f"{mark}/person", "", "human", "person", "user", before, min(messages), session=session
        )
    start = max(asked) if asked else min(wrote)
    end = max(wrote) if wrote else None
    found = Observation(session, mark, "", "llm", "chat", text(record.get("model")), start, end, session=session)
    found.cached_tokens = first(record.get("prefix_tokens"))
    found.input_tokens = first(record.get("input_tokens_total"))
    if found.input_tokens is None and found.cached_tokens is not None:
        found.input_tokens = found.cached_tokens + (first(record.get("newly_append_tokens")) or 0.0)
    found.output_tokens = first(record.get("output_tokens"))
    found.input_bytes = first(record.get("current_input_chars"))
    yield found
    last = max(at for at in (start, end, before) if at is not None)
    for tool in _tools(record, mark, session):
        last = max(last, tool.start or 0, tool.end or 0)
        yield tool
    clocks[session] = last


def _tools(record: Record, mark: str, session: str) -> Iterator[Observation]:
    for number_of, one in enumerate(objects(record.get("tools"))):
        name = text(one.get("tool_name"))
        start, end = nanoseconds(one.get("emitted_at")), nanoseconds(one.get("result_at"))
        waited = first(one.get("tool_wall_latency_ms"))
        if end is None and start is not None and waited is not None:
            end = start + round(min(waited, 1e12) * 1e6)
        yield Observation(
            session,
            text(one.get("tool_call_id")) or f"{mark}/{number_of}",
            "",
            "tool",
            "execute_tool",
            name,
            start,
            end,
            session=session,
            error=(error_type(one.get("error_type")) or "error") if flag(one.get("is_error")) else "",
            input_bytes=first(one.get("input_chars")),
            output_bytes=first(one.get("result_chars")),
        )


def _replayed(
    record: Record, place: int, session: str, clocks: dict[str, int], file: FileTally, tally: Tally
) -> Iterator[Observation]:
    """Give a row of a table to replay: a call that takes no time, and the wait after it."""
    arrival, waited = number(record.get("arrival_time", 0)), number(record.get("tool_wait_after_ms") or 0)
    if arrival is None or waited is None or waited < 0 or abs(arrival) > 1e13 or waited > 1e13:
        tally.spans += 1
        tally.note("dropped", "rows with numbers that cannot be read", example=f"line {place}")
        return
    file.own_clocks = file.own_clocks or "arrival_time" not in record
    trace = f"{file.name}:{session}"
    at = clocks.get(session, round(arrival * 1e6))
    fresh, cached = first(record.get("input_len")), first(record.get("prefix_len"))
    found = Observation(trace, f"{trace}:{place}", "", "llm", "chat", "llm", at, at, session=trace)
    found.input_tokens = None if fresh is None else fresh + (cached or 0.0)
    found.cached_tokens, found.output_tokens = cached, first(record.get("output_len"))
    tally.note("noted", NO_DURATION)
    yield found
    if waited > 0:
        tally.note("guessed", WAITS)
        yield Observation(
            trace,
            f"{trace}:{place}:wait",
            "",
            "tool",
            "execute_tool",
            "tool",
            at,
            at + round(waited * 1e6),
            session=trace,
        )
    clocks[session] = at + round(waited * 1e6)
