"""Spans as Jaeger and Zipkin give them: what both do with OpenTelemetry's spans is told from their tags.

Jaeger: documents of its API and its page (`{data: [{traceID, spans, processes}]}`), traces alone, and spans alone, each with its process.
Zipkin: lists of spans (version 2), lists of such lists, and JSON lines. Where the two sides of a call share one id, the server's is told apart
as a child of the client's.

Leaves out: links to other traces; baggage; warnings; Zipkin's version 1.
Checked: tests/test_trace_jaeger.py.
Source: https://www.jaegertracing.io/docs/latest/architecture/apis/ and jaeger/internal/uimodel (model.go); https://zipkin.io/zipkin-api/;
https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/ (tags of status, kind and errors).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally
from .genai import Event, Fields, observe, role_in
from .genai_names import STAMPS
from .otlp import Resource, resource_of
from .rows import Record, records
from .values import flag, mapping, number, objects, text

__all__ = ["observations"]

_WITHIN = ("data",)
_OWN = ("error", "span.kind", "otel.status_code")  # tags that are fields of a span, and none of its attributes


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each span of the file."""
    for place, record in records(stream, file, tally, _WITHIN):
        for span, process in _spans(record):
            tally.spans += 1
            made = _zipkin(span) if "traceId" in span else _jaeger(span, process)
            if made is None:
                tally.note("dropped", "records that are no spans: neither id nor trace", example=f"record {place}")
                continue
            fields, attributes, events = made
            fields.id = fields.id or f"{file.name}:{place}:{tally.spans}"
            found = observe(fields, attributes, events, tally)
            if found is not None:
                file.spans += 1
                yield found


def _spans(record: Record) -> Iterator[tuple[Record, Record]]:
    """Yield the spans of a trace, or a span that is alone, with their processes."""
    if not isinstance(record.get("spans"), list):
        yield record, mapping(record.get("process"))
        return
    processes = mapping(record.get("processes"))
    for one in record["spans"]:
        span = mapping(one)
        yield (
            ({"traceID": record.get("traceID"), **span} if span else {}),
            mapping(span.get("process")) or mapping(processes.get(text(span.get("processID")))),
        )


def _microseconds(value: Any) -> int | None:
    """Return microseconds as ns; None where there are none."""
    found = value if isinstance(value, int) and not isinstance(value, bool) else number(value)
    return None if found is None or not 0 < found < 1 << 63 else round(found * 1000)


def _end(start: int | None, length: Any) -> int | None:
    """Return when a span ended (ns), None where it did not; one that took no microsecond says 0, or nothing in Zipkin."""
    lasted = number(length)
    return None if start is None or lasted is None or lasted < 0 else start + round(lasted * 1000)


# ---------------------------------------------------------------------------------------------------------------------
# Jaeger


def _jaeger(span: Record, process: Record) -> tuple[Fields, Record, list[Event]] | None:
    trace, own = text(span.get("traceID")), text(span.get("spanID"))
    if not trace and not own:
        return None
    tags = {**_tags(span.get("tags")), **_dotted(span.get("tag"))}
    who = _process(process)
    start = _microseconds(span.get("startTime"))
    fields = Fields(
        trace, own, _parent(span, trace), text(span.get("operationName")), start, _end(start, span.get("duration")),
        who.process, who.session, who.agent,
    )  # fmt: skip
    _own(fields, tags)
    return fields, tags, list(_logs(span.get("logs")))


def _process(process: Record) -> Resource:
    tags = {**_tags(process.get("tags")), **_dotted(process.get("tag"))}
    tags.setdefault("host.name", tags.get("hostname"))
    return resource_of({"service.name": process.get("serviceName"), **tags})


def _parent(span: Record, trace: str) -> str:
    """Return the span that this one is a child of, or follows, in its own trace."""
    found = ""
    for one in objects(span.get("references")):
        if text(one.get("traceID")) in ("", trace):
            if one.get("refType") == "CHILD_OF":
                return text(one.get("spanID"))
            found = found or text(one.get("spanID"))
    return text(span.get("parentSpanID")) or found


def _tags(listed: Any) -> Record:
    """Return tags as a mapping; they come as a list of keys and values."""
    return {one["key"]: _plain(one.get("value")) for one in objects(listed) if isinstance(one.get("key"), str)}


def _dotted(tags: Any) -> Record:
    """Return tags that stand in an object, in which Elasticsearch has `@` for each dot."""
    return {key.replace("@", "."): _plain(value) for key, value in mapping(tags).items()}


def _logs(logs: Any) -> Iterator[Event]:
    for one in objects(logs):
        fields = _tags(one.get("fields"))
        name = fields.pop("event", fields.pop("name", ""))
        yield text(name), _microseconds(one.get("timestamp")), fields


# ---------------------------------------------------------------------------------------------------------------------
# Zipkin


def _zipkin(span: Record) -> tuple[Fields, Record, list[Event]] | None:
    trace, own = text(span.get("traceId")), text(span.get("id"))
    if not trace and not own:
        return None
    # All values are texts there, which no stamp of an export is read from: the span is read as any other.
    tags = {key: value for key, value in mapping(span.get("tags")).items() if not key.startswith(STAMPS)}
    shared = span.get("shared") is True and own != ""
    start = _microseconds(span.get("timestamp"))
    fields = Fields(
        trace, f"{own}/server" if shared else own, own if shared else text(span.get("parentId")), text(span.get("name")), start,
        _end(start, span.get("duration")), text(mapping(span.get("localEndpoint")).get("serviceName")),
        role=role_in(span.get("kind")),
    )  # fmt: skip
    # What stands in this tag is the error's message, and may be empty.
    fields.failed = "error" in tags and text(tags["error"]).lower() != "false"
    tags.pop("error", None)
    _own(fields, tags)
    peer = text(mapping(span.get("remoteEndpoint")).get("serviceName"))
    if peer:
        tags.setdefault("peer.service", peer)
    events: list[Event] = [
        (text(one.get("value")), _microseconds(one.get("timestamp")), {}) for one in objects(span.get("annotations"))
    ]
    return fields, tags, events


# ---------------------------------------------------------------------------------------------------------------------


def _own(fields: Fields, tags: Record) -> None:
    """Enter what tags say of a span itself, and take them out."""
    code = text(tags.get("otel.status_code")).upper()
    fields.failed = fields.failed or flag(tags.get("error")) or code == "ERROR"
    fields.role = fields.role or role_in(tags.get("span.kind"))
    for name in _OWN:
        tags.pop(name, None)


def _plain(value: Any) -> Any:
    """Return a number of a document as the attributes of other formats have it."""
    return float(value) if isinstance(value, Decimal) else value
