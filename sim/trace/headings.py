"""Which format names its fields so: the rules by which keys of JSON and columns of tables tell formats apart.

Leaves out: the bytes (`detect`).
Checked: tests/test_trace_detect.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .formats.step_columns import known_columns

__all__ = ["of_columns", "of_keys"]

_OTLP = {
    "resourceSpans",
    "resource_spans",
    "scopeSpans",
    "scope_spans",
    "instrumentationLibrarySpans",
    "resourceMetrics",
    "resourceLogs",
}
_LANGFUSE = {
    "parentObservationId",
    "parent_observation_id",
    "usageDetails",
    "usage_details",
    "completionStartTime",
    "completion_start_time",
}
_ALONE = {"startTimeUnixNano", "start_time_unix_nano"}
_ALONE_AT = ("", "item", "spans.item", "item.spans.item", "data.spans.item", "item.data.spans.item")
"""What a span of OTLP has that stands without its resource, and where its reader looks for such."""

_ZIPKIN = {"duration", "localEndpoint", "remoteEndpoint"}
_DEEPEST = 3
"""Keys above a record at most: below that is what prompts and answers hold."""


def of_keys(paths: Iterable[str]) -> str:
    """Return the format that paths of keys in JSON tell, the shallowest first; '' for none."""
    records: dict[str, set[str]] = {}
    for path in paths:
        above, _, key = path.rpartition(".")
        records.setdefault(above, set()).add(key)
    places = [place for place in records if place.count(".") < _DEEPEST or place in _ALONE_AT]
    for place in sorted(places, key=lambda one: (one.count(".") + bool(one), one)):
        found = _of_record(place, records[place])
        if found:
            return found
    tables = (records.get(place, set()) for place in ("", "item", "steps.item", "rows.item", "data.item"))
    return "steps" if any(len(known_columns(keys)) >= 2 for keys in tables) else ""


def of_columns(columns: Collection[str]) -> str | None:
    """Return the format that the columns of a table tell; None for none. Two columns of steps that are known make a table of steps."""
    names = set(columns)
    if any(name in names for name in ("context.span_id", "context.trace_id")):
        return "openinference"
    found = _of_record("", names)
    if found and found not in ("otlp", "inspect"):
        return found
    return "steps" if len(known_columns(names)) >= 2 else None


def _of_record(place: str, keys: set[str]) -> str:
    """Return the format of which records have these keys; '' for none."""
    if (
        keys & _OTLP
        or (keys & _ALONE and place in _ALONE_AT)
        or ("context" in keys and place.endswith("data.spans.item"))
    ):
        return "otlp"
    if {"traceID", "spans"} <= keys or {"traceID", "spanID"} <= keys:
        return "jaeger"
    if {"eval", "status"} <= keys or {"eval", "samples"} <= keys or {"events", "epoch"} <= keys:
        return "inspect"
    if "run_type" in keys or "dotted_order" in keys:
        return "langsmith"
    if {"span_data", "started_at"} <= keys or {"object", "workflow_name", "group_id"} <= keys:
        return "openai-agents"
    if {"op_name", "started_at"} <= keys:
        return "weave"
    if "timing_events" in keys or ("session_id" in keys and keys & {"round_index", "round_idx"}):
        return "tracelab"
    if _is_langfuse(keys):
        return "langfuse"
    if {"trace_id", "span_id"} <= keys and (
        place.endswith("context") or keys & {"span_kind", "attributes", "parent_id", "kind", "parent_span_id"}
    ):
        return "openinference"
    return "zipkin" if {"traceId", "id"} <= keys and keys & _ZIPKIN else ""


def _is_langfuse(keys: set[str]) -> bool:
    if "observations" in keys or keys & _LANGFUSE:
        return True
    return (
        bool(keys & {"traceId", "trace_id"})
        and "type" in keys
        and bool(keys & {"startTime", "start_time"})
        and "span_id" not in keys
    )
