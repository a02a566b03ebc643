"""OpenTelemetry traces in protobuf: TracesData, ExportTraceServiceRequest (the same bytes), and the collector's file of messages with lengths.

A file is walked by the wire format down to each span, so that a file of any size takes the memory of one span; only spans and resources are
undone by the schema. Where it is cut short or damaged, what came before is kept, and in a file of messages the next one is read. A span
of which one field is damaged keeps the others.

Leaves out: what `otlp` leaves out.
Checked: tests/test_trace_otlp.py, against the same spans as JSON.
Source: https://protobuf.dev/programming-guides/encoding/,
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto,
https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter (4 bytes of length, big endian).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally, TraceError
from .genai import Event, Fields, Nested, observe, size
from .otlp import Box, Ids, Resource, in_order, remark, resource_of
from .values import error_in

__all__ = ["observations"]

CHUNK = 1 << 20
LARGEST = 1 << 28
"""Bytes of a span or a resource: what says that it is larger is damaged."""

_SCOPES = (2, 1000)
"""Fields of ResourceSpans that hold scopes; 1000 is the older `instrumentation_library_spans`."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ERROR = 2
_FIRST = 0x0A
"""What a TracesData begins with: field 1, with a length. A length before a message begins with 0 (up to 16 MB) or little more."""


class _Damage(Exception):
    """The bytes are no protobuf from here on, or end too early."""


class _Bytes:
    """A stream of bytes, read ahead; `at` counts from its beginning."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""
        self._next = 0
        self.at = 0
        self.broken = False

    def take(self, many: int) -> bytes:
        """So many bytes. Raises _Damage where the stream ends before."""
        if self._next + many > len(self._ahead):
            self._fill(many)
        found = self._ahead[self._next : self._next + many]
        self._next += many
        self.at += many
        return found

    def varint(self) -> int:
        """A whole number of up to 64 bits. Raises _Damage."""
        total = shift = 0
        while shift < 70:
            if self._next >= len(self._ahead):
                self._fill(1)
            byte = self._ahead[self._next]
            self._next += 1
            self.at += 1
            total |= (byte & 0x7F) << shift
            if byte < 0x80:
                return total
            shift += 7
        raise _Damage

    def more(self) -> bool:
        """Whether anything is left."""
        try:
            self._fill(1)
        except _Damage:
            return False
        return True

    def first(self) -> int:
        """The next byte, which stays; `more` must have said that there is one."""
        return self._ahead[self._next]

    def skip(self, many: int) -> None:
        """Go past so many bytes, of which no more than a piece is in memory. Raises _Damage."""
        while many > 0:
            step = min(many, CHUNK)
            self.take(step)
            many -= step

    def _fill(self, many: int) -> None:
        pieces = [self._ahead[self._next :]]
        have = len(pieces[0])
        while have < many:
            try:
                piece = self._stream.read(max(CHUNK, many - have) if many <= LARGEST else CHUNK)
            except (OSError, EOFError, zlib.error):
                piece, self.broken = b"", True
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
        self._ahead, self._next = b"".join(pieces), 0
        if have < many:
            raise _Damage


@dataclass(slots=True)
class _File:
    """A file while it is read: `inside` while a span is taken, `others` what else was found, `damaged` in how many places it is."""

    source: _Bytes
    schema: Any
    ids: Ids
    tally: Tally
    inside: bool = False
    damaged: int = 0
    others: set[str] = field(default_factory=set)


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Yield the spans of a stream of OTLP in protobuf as they come; what cannot be used is counted, and told in the file's remark.

    Raises TraceError where the schema is not installed.
    """
    state = _File(_Bytes(stream), _schema(file), Ids(file, tally), tally)
    for raw, box in in_order(_messages(state), tally):
        one = _observation(state, raw, box.resource or Resource())
        if one is not None:
            file.spans += 1
            yield one
    remark(file, state.others, state.damaged, broken=state.source.broken)


def _schema(file: FileTally) -> Any:
    try:
        from opentelemetry.proto.trace.v1 import trace_pb2
    except ImportError:
        raise TraceError(
            f"{file.name}: OTLP in protobuf is read with the package `opentelemetry-proto`, which is not installed;"
            " `pip install 'coordsim[trace]'`, or export the trace as OTLP/JSON"
        ) from None
    return trace_pb2


# ---------------------------------------------------------------------------------------------------------------------
# Where the spans are
# ---------------------------------------------------------------------------------------------------------------------
def _messages(state: _File) -> Iterator[tuple[bytes, Box]]:
    """Spans of all messages: the whole stream is one, or each has its length before it."""
    source = state.source
    if not source.more():
        return
    if source.first() == _FIRST:
        yield from _guarded(state, _message(state, None))
        return
    while source.more():
        try:
            end = int.from_bytes(source.take(4), "big") + source.at
            yield from _guarded(state, _message(state, end))
            source.skip(end - source.at)
        except _Damage:
            state.damaged = max(state.damaged, 1)
            return


def _guarded(state: _File, spans: Iterator[tuple[bytes, Box]]) -> Iterator[tuple[bytes, Box]]:
    """The spans until damage, which is counted."""
    try:
        yield from spans
    except _Damage:
        state.damaged += 1
        if state.inside:
            state.inside = False
            state.tally.spans += 1
            state.tally.note("dropped", "spans that are cut off or damaged in the file")


def _message(state: _File, end: int | None) -> Iterator[tuple[bytes, Box]]:
    """Spans of one TracesData that goes to `end`, or to the end of the stream."""
    source = state.source
    while source.at < end if end is not None else source.more():
        number, wire = _tag(source)
        if number == 1 and wire == _BYTES:
            yield from _resource_spans(state, _end(source, end))
        else:
            _pass(source, wire, end)


def _resource_spans(state: _File, end: int) -> Iterator[tuple[bytes, Box]]:
    source, box = state.source, Box()
    while source.at < end:
        number, wire = _tag(source)
        if number == 1 and wire == _BYTES:
            raw = source.take(_small(source, end))
            box.resource = _resource(state, raw)
        elif number in _SCOPES and wire == _BYTES:
            for span in _scope_spans(state, _end(source, end)):
                yield span, box
        else:
            _pass(source, wire, end)


def _scope_spans(state: _File, end: int) -> Iterator[bytes]:
    source = state.source
    while source.at < end:
        number, wire = _tag(source)
        if number == 2 and wire == _BYTES:
            state.inside = True
            raw = source.take(_small(source, end))
            state.inside = False
            yield raw
        else:
            _pass(source, wire, end)


def _tag(source: _Bytes) -> tuple[int, int]:
    """The number and the wire type of the field that comes next. Raises _Damage."""
    tag = source.varint()
    if tag < 8:
        raise _Damage
    return tag >> 3, tag & 7


def _end(source: _Bytes, outer: int | None) -> int:
    """Where a field of some length ends; inside of what holds it."""
    end = source.varint() + source.at
    if outer is not None and end > outer:
        raise _Damage
    return end


def _small(source: _Bytes, outer: int) -> int:
    """The length of a field that is taken whole."""
    length = _end(source, outer) - source.at
    if length > LARGEST:
        raise _Damage
    return length


def _pass(source: _Bytes, wire: int, outer: int | None) -> None:
    """Go past a field of no use."""
    if wire == _VARINT:
        source.varint()
    elif wire == _BYTES:
        source.skip(_end(source, outer) - source.at)
    elif wire in (_FIXED64, _FIXED32):
        source.skip(8 if wire == _FIXED64 else 4)
    else:
        raise _Damage


# ---------------------------------------------------------------------------------------------------------------------
# What a span says
# ---------------------------------------------------------------------------------------------------------------------
def _resource(state: _File, raw: bytes) -> Resource:
    from opentelemetry.proto.resource.v1 import resource_pb2

    return resource_of(_attributes(_undone(state, "resources", resource_pb2.Resource, raw).attributes))


def _observation(state: _File, raw: bytes, resource: Resource) -> Observation | None:
    span = _undone(state, "spans", state.schema.Span, raw)
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if not start and not end:
        other = _other(raw)
        if other:
            state.others.add(other)
            return None
    state.tally.spans += 1
    fields = Fields(
        _id(span.trace_id),
        _id(span.span_id),
        _id(span.parent_span_id),
        span.name,
        start or None,
        end or None,
        resource.process,
        resource.session,
        resource.agent,
        span.status.code == _ERROR,
        span.kind,
    )
    if fields.failed:
        fields.said = error_in(span.status.message)
    events = _events(span.events) if span.events else ()
    return observe(state.ids.entered(fields), _attributes(span.attributes), events, state.tally)


def _undone(state: _File, what: str, schema: Any, raw: bytes) -> Any:
    """A message by its schema; of a damaged one the fields that are whole. `what` such messages are is for the tally."""
    from google.protobuf.message import DecodeError

    try:
        return schema.FromString(raw)
    except DecodeError:
        found = schema()
    state.tally.note("repaired", f"{what} of which a damaged field was left out")
    for start, end in _slices(raw):
        try:
            found.MergeFrom(schema.FromString(raw[start:end]))
        except DecodeError:
            continue
    return found


def _slices(raw: bytes) -> Iterator[tuple[int, int]]:
    """Where the fields of a message lie, until the first that does not end in it."""
    from io import BytesIO

    source = _Bytes(BytesIO(raw))
    try:
        while source.more():
            start = source.at
            _pass(source, _tag(source)[1], len(raw))
            yield start, source.at
    except _Damage:
        return


def _other(raw: bytes) -> str:
    """What a message is that has no times where a span has them: a metric begins with its name, a log record with its time; '' for a span."""
    if raw[:1] in (b"\x09", b"\x59"):  # LogRecord.time_unix_nano, observed_time_unix_nano
        return "logs"
    if raw[:1] != b"\x0a" or raw[1:2] == b"\x10":  # no name, or Span.trace_id with its 16 bytes
        return ""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.metrics.v1 import metrics_pb2

    try:
        metric = metrics_pb2.Metric.FromString(raw)
    except DecodeError:
        return ""
    return "metrics" if metric.WhichOneof("data") else ""


def _id(raw: bytes) -> str:
    return raw.hex() if any(raw) else ""


def _events(events: Any) -> Iterator[Event]:
    for event in events:
        yield event.name, event.time_unix_nano or None, _attributes(event.attributes)


def _attributes(listed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in listed:
        value = one.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            found[one.key] = value.string_value
        elif kind in ("array_value", "kvlist_value"):
            found[one.key] = _Proto(value)
        elif kind is not None:
            found[one.key] = getattr(value, kind)
    return found


class _Proto(Nested):
    """A list or a map of OTLP in protobuf, which is at most 100 deep."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def bytes(self) -> int:
        """How many bytes its scalars and keys are."""
        total, left = 0, [self.raw]
        while left:
            one = left.pop()
            kind = one.WhichOneof("value")
            if kind == "array_value":
                left.extend(one.array_value.values)
            elif kind == "kvlist_value":
                total += sum(size(pair.key) for pair in one.kvlist_value.values)
                left.extend(pair.value for pair in one.kvlist_value.values)
            elif kind is not None:
                total += size(getattr(one, kind))
        return total

    def plain(self) -> Any:
        """The value as lists, dicts and scalars."""
        return _plain(self.raw)


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)
