"""Rows of OpenTelemetry spans: exports of Phoenix, spans as the console exporter prints them, and Logfire's table of records.

Attributes stand in columns (`attributes.llm.token_count.prompt`), as an object of dotted names, or nested.
Leaves out: annotations and evaluations; cumulative counts.
Checked: tests/test_trace_openinference.py.
Source: https://arize-ai.github.io/openinference/spec/; https://arize.com/docs/phoenix/tracing/how-to-tracing/importing-and-exporting-traces;
https://logfire.pydantic.dev/docs/reference/sql/ (records).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally
from .genai import Event, Fields, observe, role_in
from .otlp import resource_of
from .rows import Record, records
from .values import error_in, error_type, mapping, nanoseconds, objects, text

__all__ = ["flat", "observations"]

_WITHIN = ("spans", "data", "rows")
_DEEPEST = 8


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each span of the table."""
    for place, record in records(stream, file, tally, _WITHIN):
        tally.spans += 1
        fields = _fields(record)
        if not fields.id and not fields.trace:
            tally.note("dropped", "records that are no spans: neither id nor trace", example=f"record {place}")
            continue
        fields.id = fields.id or f"{file.name}:{place}"
        found = observe(fields, _attributes(record), _events(record.get("events", record.get("otel_events"))), tally)
        if found is not None:
            file.spans += 1
            yield found


def _fields(record: Record) -> Fields:
    context = mapping(record.get("context"))
    resource = flat(mapping(mapping(record.get("resource")).get("attributes")))
    status = mapping(record.get("status"))
    code = record.get("status_code") or status.get("status_code") or record.get("otel_status_code")
    said = (
        record.get("status_message"),
        status.get("message"),
        status.get("description"),
        record.get("otel_status_message"),
    )
    message = next((one for one in said if one), None)
    return Fields(
        trace=_mark(record.get("context.trace_id") or context.get("trace_id") or record.get("trace_id")),
        id=_mark(record.get("context.span_id") or context.get("span_id") or record.get("span_id")),
        parent=_mark(record.get("parent_id") or record.get("parent_span_id") or record.get("parentSpanId")),
        name=text(record.get("name") or record.get("span_name")),
        start=nanoseconds(record.get("start_time", record.get("startTime", record.get("start_timestamp")))),
        end=nanoseconds(record.get("end_time", record.get("endTime", record.get("end_timestamp")))),
        process=resource_of(resource).process or text(record.get("service_name")),
        failed=text(code).rpartition(".")[2].upper().removeprefix("STATUS_CODE_") == "ERROR",
        role=role_in(record.get("kind")),
        said=error_type(record.get("exception_type")) or error_in(message),
    )


def _mark(value: Any) -> str:
    """An id without the mark of hexadecimal that some writers put before it."""
    return text(value).removeprefix("0x")


def _attributes(record: Record) -> dict[str, Any]:
    found = flat(mapping(record.get("attributes")))
    for key, value in record.items():
        if key.startswith("attributes.") and value is not None and value == value:  # noqa: PLR0124 - a missing cell is a nan
            name = key.removeprefix("attributes.")
            found.update(flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    kind = text(record.get("span_kind"))
    if record.get("kind") == "pending_span":
        found["logfire.span_type"] = "pending_span"
    if kind and kind.upper() not in ("UNKNOWN", "INTERNAL"):
        found.setdefault("openinference.span.kind", kind)
    return found


def flat(nested: dict[str, Any], above: str = "", depth: int = 0) -> dict[str, Any]:
    """Return nested attributes under dotted names, eight levels deep; what lies deeper stays whole."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value and depth < _DEEPEST:
            found.update(flat(value, f"{above}{key}.", depth + 1))
        else:
            found[f"{above}{key}"] = value
    return found


def _events(value: Any) -> Iterator[Event]:
    for one in objects(value):
        at = nanoseconds(one.get("timestamp", one.get("time", one.get("event_timestamp"))))
        yield text(one.get("name", one.get("event_name"))), at, flat(mapping(one.get("attributes")))
