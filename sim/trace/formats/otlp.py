"""OpenTelemetry traces as JSON: documents of any size, the JSON lines of the collector's file exporter, and spans as an SDK prints them.

Names of fields are taken in camelCase and in snake_case, ids in hexadecimal and in base64, whole numbers as numbers and as text, and spans
under `scopeSpans` as well as the older `instrumentationLibrarySpans`. Where a file is cut short or damaged, the spans before are kept, and
reading goes on at the next line that begins an object. Metrics and logs are recognised, and hold no spans.

Leaves out: links, trace state, flags; events that are no messages, exceptions or first tokens; what attributes mean (`genai`).
Checked: tests/test_trace_otlp.py.
Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding,
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto,
https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/fileexporter.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from ..observation import Observation
from ..tally import FileTally, Tally
from .genai import Event, Fields, clean, observe, role_in
from .genai_names import role_of
from .json_window import Damage, Window
from .otlp_values import attributes_of
from .values import error_in, iso_nanoseconds

__all__ = ["Box", "Ids", "Resource", "in_order", "observations", "remark", "resource_of"]

T = TypeVar("T")
HELD = 10_000
"""Spans kept waiting for a resource that is written after them."""
DEEPEST = 8
"""Objects within objects that are looked into for spans."""

_ENVELOPES = {"resourceSpans", "resource_spans", "batches", "trace", "traces", "data"}
_SCOPES = {"scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans"}
_OTHERS = {
    "resourceMetrics": "metrics",
    "resource_metrics": "metrics",
    "resourceLogs": "logs",
    "resource_logs": "logs",
    "resourceProfiles": "profiles",
    "resource_profiles": "profiles",
}
_BARE = {
    *("name", "context", "kind", "status", "attributes", "events", "parent_id", "start_time", "end_time"),
    *("traceId", "spanId", "parentSpanId", "startTimeUnixNano", "endTimeUnixNano"),
    *("trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano"),
}
"""Fields of a span that stands alone, without a resource and a scope around it."""
_BASE64 = {32: 24, 16: 12}
"""How long ids of so many hexadecimal digits are in base64."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Who wrote the spans: the process, and a session or an agent where it names one for all of them."""

    process: str = ""
    session: str = ""
    agent: str = ""


@dataclass(slots=True)
class Box:
    """The resource of some spans, None until it is read; `closed` when nothing more of it comes."""

    resource: Resource | None = None
    closed: bool = False


@dataclass(slots=True)
class Ids:
    """Ids for spans that have none: a number within the file."""

    file: FileTally
    tally: Tally
    missing: int = 0

    def entered(self, span: Fields) -> Fields:
        """The span with ids."""
        if not span.id:
            self.missing += 1
            span.id = f"#{self.missing} of {self.file.name}"
            self.tally.note("guessed", "spans without an id, which were numbered")
        if not span.trace:
            span.trace = f"none of {self.file.name}"
            self.tally.note("guessed", "spans without a trace's id, taken for one trace per file")
        return span


@dataclass(slots=True)
class _State:
    """Where a file is read: `inside` while a span is parsed, `others` what else was found, `damaged` how often reading had to go on."""

    window: Window
    inside: bool = False
    others: set[str] = field(default_factory=set)
    damaged: int = 0
    first: int = 0  # the line in which reading first had to go on


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Yield the spans of a stream of OTLP/JSON as they come; what cannot be used is counted in the tally, and told in the file's remark."""
    state = _State(Window(stream))
    ids = Ids(file, tally)
    for raw, box in in_order(_spans(state, tally), tally):
        tally.spans += 1
        if not isinstance(raw, dict):
            tally.note("dropped", "spans that are no objects")
            continue
        one = _observation(raw, box.resource or Resource(), ids, tally)
        if one is not None:
            file.spans += 1
            yield one
    remark(file, state.others, state.damaged, broken=state.window.broken, line=state.first)


def remark(file: FileTally, others: set[str], damaged: int, *, broken: bool, line: int = 0) -> None:
    """Say in a file's remark what it holds besides spans, in how many places it is damaged, and whether its compression is `broken`.

    `line` is that of the first damage, 0 where it is not known.
    """
    said = [file.remark] if file.remark else []
    if others:
        said.append(f"{' and '.join(sorted(others))}, which hold no spans")
    if broken:
        said.append("the compressed data end too early or are damaged: what came before is read")
    if damaged:
        where = f" ({'first ' * (damaged > 1)}in line {line})" if line else ""
        said.append(f"cut short or damaged in {damaged} place{'s' * (damaged > 1)}{where}: what came before is read")
    file.remark = "; ".join(said)


# ---------------------------------------------------------------------------------------------------------------------
# Where the spans are
# ---------------------------------------------------------------------------------------------------------------------
def in_order(spans: Iterator[tuple[T, Box]], tally: Tally) -> Iterator[tuple[T, Box]]:
    """The spans, each when its resource is known: some writers put it after them."""
    held: list[tuple[T, Box]] = []
    for raw, box in spans:
        if held and (held[-1][1] is not box or box.resource is not None):
            yield from held
            held.clear()
        elif len(held) >= HELD:
            tally.note(
                "guessed",
                "spans whose service is written too far behind them, taken for one without a name",
                spans=HELD,
            )
            box.closed = True
            yield from held
            held.clear()
        if box.resource is None and not box.closed:
            held.append((raw, box))
        else:
            yield raw, box
    yield from held


def _spans(state: _State, tally: Tally) -> Iterator[tuple[Any, Box]]:
    """All spans of all documents in the stream, with the box that their resource is in or will be."""
    window = state.window
    while True:
        try:
            mark = window.peek()
            if not mark:
                return
            if mark == "[":
                for _ in window.elements():
                    yield from _document(state)
            elif mark == ",":
                window.at += 1
            else:
                yield from _document(state)
        except Damage as damage:
            state.damaged += 1
            state.first = state.first or window.line
            if state.inside:
                tally.spans += 1
                tally.note("dropped", "spans that are cut off or damaged in the file", example=f"line {window.line}")
            elif not damage.cut:
                tally.spans += 1
                tally.note(
                    "dropped", "lines that are damaged, each of at least one span", example=f"line {window.line}"
                )
            state.inside = False
            if not window.resume():
                return


def _document(state: _State) -> Iterator[tuple[Any, Box]]:
    if state.window.peek() == "{":
        yield from _object(state, Box(), 0)
    else:
        state.window.value()


def _object(state: _State, box: Box, depth: int) -> Iterator[tuple[Any, Box]]:
    """Spans in an object, at whatever level of the document it is."""
    window, bare = state.window, {}
    for name in window.members():
        if name == "spans" and window.peek() == "[":
            for _ in window.elements():
                yield _span(state), box
        elif (name in _ENVELOPES or name in _SCOPES) and depth < DEEPEST and window.peek() in ("[", "{"):
            yield from _inside(state, name, box, depth + 1)
        elif name == "resource":
            box.resource = resource_of(attributes_of(_member(window.value(), "attributes")))
        elif name in _OTHERS:
            state.others.add(_OTHERS[name])
            window.skip()
        elif name in _BARE:
            bare[name] = window.value()
        else:
            window.skip()
    if "spanId" in bare or "span_id" in bare or "context" in bare:
        yield bare, box


def _inside(state: _State, name: str, box: Box, depth: int) -> Iterator[tuple[Any, Box]]:
    """Spans in what stands under a name; scopes share the resource of the object that holds them."""
    window = state.window
    shared = name in _SCOPES
    if window.peek() == "{":
        yield from _object(state, box if shared else Box(), depth)
        return
    for _ in window.elements():
        if window.peek() == "{":
            yield from _object(state, box if shared else Box(), depth)
        else:
            window.value()


def _span(state: _State) -> Any:
    state.inside = True
    raw = state.window.value()
    state.inside = False
    return raw


# ---------------------------------------------------------------------------------------------------------------------
# What a span says
# ---------------------------------------------------------------------------------------------------------------------
def _observation(raw: dict[str, Any], resource: Resource, ids: Ids, tally: Tally) -> Observation | None:
    get = raw.get
    context = get("context")
    if isinstance(context, dict):  # as an SDK prints a span
        raw = {**context, "parentSpanId": get("parent_id"), "startTimeUnixNano": get("start_time"), **raw}
        raw["endTimeUnixNano"] = get("end_time")
        get = raw.get
    name, status = get("name"), get("status") or {"code": get("status_code"), "message": get("status_message")}
    span = Fields(
        _id(get("traceId") or get("trace_id"), 32),
        _id(get("spanId") or get("span_id"), 16),
        _id(get("parentSpanId") or get("parent_span_id"), 16),
        name if isinstance(name, str) else "",
        _time(get("startTimeUnixNano", get("start_time_unix_nano")), tally),
        _time(get("endTimeUnixNano", get("end_time_unix_nano")), tally),
        resource.process,
        resource.session,
        resource.agent,
    )
    if status:
        span.failed = _failed(status)
        if span.failed and isinstance(status, dict):
            span.said = error_in(status.get("message", status.get("description")))
    span.role = role_in(get("kind"))
    attributes, events = attributes_of(get("attributes"), tally), get("events")
    return observe(ids.entered(span), attributes, _events(events, tally) if isinstance(events, list) else (), tally)


def _events(events: list[Any], tally: Tally) -> Iterator[Event]:
    for event in events:
        if isinstance(event, dict) and isinstance(event.get("name"), str):
            at = event.get("timeUnixNano", event.get("time_unix_nano", event.get("timestamp")))
            yield event["name"], _time(at, tally), attributes_of(event.get("attributes"), tally)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _id(value: Any, digits: int) -> str:
    """An id in lower-case hexadecimal, whether it was that or base64; '' for none and for all zeros; others as they are."""
    if type(value) is str and len(value) == digits and value.isascii() and value.isalnum() and value[1] not in "xX":
        return value.lower() if value.strip("0") else ""  # nearly all of them
    if not isinstance(value, str):
        return str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 128 else ""
    value = value.removeprefix("0x")
    if len(value) == _BASE64[digits] and value.endswith("="):
        try:
            value = base64.b64decode(value, validate=True).hex()
        except (binascii.Error, ValueError):
            return clean(value)
    return clean(value.lower()) if value.strip("0") else ""


def _time(value: Any, tally: Tally) -> int | None:
    """A time as ns since 1970; None for none. What is no time, or none that fits into 64 bits, is counted and left out."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        found = int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else iso_nanoseconds(value)
    elif isinstance(value, bool):
        found = None
    elif isinstance(value, int):
        found = value
    elif isinstance(value, float):
        found = int(value) if 0 <= value < 2**64 else None
    else:
        found = _halves(value)
    if found is None or not 0 <= found < 1 << 64:
        tally.note("noted", "times that are no times, left out")
        return None
    return found or None


def _halves(value: Any) -> int | None:
    """Two halves of a 64-bit number, or seconds and nanoseconds, as some JavaScript writes them."""
    parts = [value.get("high"), value.get("low")] if isinstance(value, dict) else value
    if not isinstance(parts, list) or len(parts) != 2 or not all(type(one) is int for one in parts):
        return None
    high, low = int(parts[0]), int(parts[1])
    return high << 32 | low & 0xFFFFFFFF if isinstance(value, dict) else high * 1_000_000_000 + low


def _failed(status: Any) -> bool:
    code = status.get("code", status.get("status_code")) if isinstance(status, dict) else None
    return code in (2, "2") or (isinstance(code, str) and code.rpartition("_")[2].rpartition(".")[2] == "ERROR")


def resource_of(attributes: Mapping[str, Any]) -> Resource:
    """Who wrote the spans, from the attributes of their resource: the service, and its instance, else its host and process."""
    get = attributes.get
    service = _word(get("service.name"))
    instance = _word(get("service.instance.id")) or ":".join(
        one for one in (_word(get("host.name")), _word(get("process.pid"))) if one
    )
    said: dict[str, tuple[int, str]] = {}
    for name, value in attributes.items():
        role = role_of(name)
        if role is not None and isinstance(role[1], int) and role[0] in ("session", "agent"):
            said[role[0]] = min(said.get(role[0], (1 << 30, "")), (role[1], _word(value)))
    process = "/".join(one for one in (service, instance) if one)
    return Resource(process, said.get("session", (0, ""))[1], said.get("agent", (0, ""))[1])


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return clean(value) if isinstance(value, str) else str(value)[:40]
