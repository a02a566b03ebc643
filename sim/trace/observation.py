"""What a trace file says of one stretch of time, whatever the format: who did what, from when to when, and how much.

Contents of prompts, answers, arguments and results are never here: only their sizes. Times are whole nanoseconds since 1970 (or since
the start of the file's own clock), since a float of seconds since 1970 is known to 0.2 us only.

Leaves out: what is wrong with it (`repair`), and what it means for the ledger (`book`).
Checked: tests/test_trace_formats.py.
Source: OpenTelemetry semantic conventions for generative AI (names of operations), https://opentelemetry.io/docs/specs/semconv/gen-ai/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["CALLS", "SECOND", "Kind", "Observation", "nanos"]

SECOND: Final = 1_000_000_000
"""A second in ns."""

Kind = Literal["llm", "embedding", "tool", "retriever", "agent", "workflow", "human", "client", "other"]
"""What a span is of: `client` is a call to another service that says no more, `other` what no convention names."""

CALLS = ("llm", "embedding", "tool", "retriever", "human")
"""Kinds that are calls of a component. What lies inside of one, and is no call itself, is a detail of it."""


def nanos(seconds: float) -> int:
    """Return whole nanoseconds; what is not before another time is not before it then."""
    return round(seconds * SECOND)


@dataclass(slots=True)
class Observation:
    """One span as a file has it, before any repair.

    `trace` and `session` group spans to tasks and tasks to users' conversations; `process` says whose clock it was. `component` is the
    model, tool or agent; `name` what the file calls the span. An `end` of None was never written. `input_tokens` include `cached_tokens`.
    Sizes are bytes of what went in and came out. `error` is the type of what went wrong, '' where nothing did. `stamp` is what an export of
    coordsim says of its own span: with it nothing is guessed. `problem` is what several tasks may be attempts at: they are never split apart.
    """

    trace: str
    id: str
    parent: str
    kind: Kind
    name: str
    component: str
    start: int | None
    end: int | None
    process: str = ""
    session: str = ""
    agent: str = ""
    error: str = ""
    input_tokens: float | None = None
    cached_tokens: float | None = None
    output_tokens: float | None = None
    first_token: int | None = None
    input_bytes: float | None = None
    output_bytes: float | None = None
    stamp: dict[str, Any] | None = None
    problem: str = ""
