"""The columns of a table of steps: what each is called, and by which other names it goes.

Leaves out: what the values mean (`steps`).
Checked: tests/test_trace_steps.py; docs/traces.md lists the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ALIASES", "COLUMNS", "TASK_KEYS", "UNITS", "known_columns"]

TASK_KEYS = ("set", "task", "attempt")
"""Columns that name a task together, those of them that are there."""

ALIASES: dict[str, tuple[str, ...]] = {
    "set": ("dataset", "suite"),
    "task": ("task_id", "trace", "trace_id", "run", "run_id", "case", "case_id"),
    "attempt": ("trial", "epoch", "repetition"),
    "session": ("session_id", "conversation", "conversation_id", "thread", "thread_id", "user_session"),
    "agent": ("agent_name", "agent_id"),
    "id": ("span_id", "step_id"),
    "parent": ("parent_id", "parent_span_id"),
    "kind": ("type", "step_type", "span_kind", "event_type"),
    "name": ("tool", "tool_name", "operation", "function"),
    "category": ("tool_category", "subtype"),
    "model": ("model_name", "model_id"),
    "start": ("start_time", "started_at", "timestamp", "time", "begin", "start_ts"),
    "end": ("end_time", "ended_at", "finish", "end_ts"),
    "start_s": ("t", "t_s", "start_offset_s", "offset_s"),
    "end_s": ("end_offset_s",),
    "dur_s": ("duration_s", "duration", "latency_s", "latency", "api_time", "seconds", "elapsed_s"),
    "ttft_s": ("ttft", "time_to_first_token", "time_to_first_token_s"),
    "input_tokens": ("prompt_tokens", "tokens_in", "total_input_tokens"),
    "in_tok": ("uncached_input_tokens",),
    "new_tokens": ("new_tok",),
    "cached_tokens": ("cache_read", "cache_read_tokens", "cache_read_input_tokens", "cached_tok"),
    "cache_write": ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation"),
    "output_tokens": ("out_tok", "completion_tokens", "tokens_out"),
    "prefix_hit_x64": (),
    "is_error": ("error_flag", "failed", "has_error"),
    "error": ("error_type", "exception", "exception_type", "status"),
    "input_bytes": ("input_chars", "request_bytes"),
    "output_bytes": ("chars", "output_chars", "result_chars", "response_bytes"),
}
"""Each column, and the other names by which it is known. Case, and what stands for a space, do not matter."""

UNITS: dict[str, tuple[str, float]] = {
    "start_ms": ("start_s", 1e-3),
    "end_ms": ("end_s", 1e-3),
    "dur_ms": ("dur_s", 1e-3),
    "duration_ms": ("dur_s", 1e-3),
    "latency_ms": ("dur_s", 1e-3),
    "elapsed_ms": ("dur_s", 1e-3),
    "ttft_ms": ("ttft_s", 1e-3),
    "time_to_first_token_ms": ("ttft_s", 1e-3),
}
"""Columns in milliseconds: the column in seconds that each stands for, and its factor."""

COLUMNS: dict[str, tuple[str, float]] = {
    **{name: (name, 1.0) for name in ALIASES},
    **{alias: (name, 1.0) for name, aliases in ALIASES.items() for alias in aliases},
    **UNITS,
}
"""Every name that is known, the column that it stands for, and the factor to that column's unit."""


def known_columns(names: Iterable[str]) -> dict[str, tuple[str, float]]:
    """Return those of the names that are known, with the column that each stands for and the factor; the exact name wins over another."""
    found: dict[str, tuple[str, float]] = {}
    taken: set[str] = set()
    given = list(names)
    plain = {name: name.strip().lower().replace(" ", "_").replace("-", "_") for name in given}
    for name in sorted(given, key=lambda one: plain[one] not in ALIASES):
        column = COLUMNS.get(plain[name])
        if column is not None and column[0] not in taken:
            found[name] = column
            taken.add(column[0])
    return found
