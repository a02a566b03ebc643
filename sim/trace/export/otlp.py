"""Tasks as OpenTelemetry traces: OTLP/JSON in one document, or the same as protobuf.

A task is a trace, and its root span a workflow. Calls of models and tools, and turns of agents, have the names and attributes of the GenAI
conventions; what coordination they cost are INTERNAL spans among them. A call is one span: where it is on the critical path for a part of its
time only, that is told by INTERNAL spans in it. Every span carries what the ledger has of it as `coordsim.*`, with which `stamped` reads the
same ledger back. What runs on after its task stands beside it, with a link to it. A span that went on when another lane released it has a link
to the last span there.

Leaves out: metrics and logs, and contents of prompts and answers, which no ledger has.
Checked: tests/test_trace_export.py, tests/test_trace_roundtrip.py.
Source: opentelemetry-proto 1.x (trace.proto; JSON encoding with ids in hex); OpenTelemetry semantic conventions for generative AI 1.37.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any, BinaryIO, Final

from ...engine.ledger import STATUSES, STRUCTURE, Span
from ..measured import Call
from ..observation import nanos
from ..tally import TraceError
from . import Count, ExportRun, ExportTask
from .calls import GROUPS, Whole, is_turn, wholes_of

__all__ = ["write_json", "write_proto"]

INTERNAL, CLIENT, ERROR = 1, 3, 2  # of trace.proto: SpanKind and StatusCode
OTHER: Final = "_OTHER"  # what the conventions call an error whose type is not known
_FAILED = STATUSES[1]
_OPERATIONS: Mapping[str, str] = {kind: name for name, kind in GROUPS.items()}
_MODELS = ("chat", "embeddings")
_CALL = fields(Call)
_SUBJECT: Mapping[str, str] = {
    "execute_tool": "gen_ai.tool.name", "retrieval": "gen_ai.data_source.id", "invoke_agent": "gen_ai.agent.name",
}  # fmt: skip

Attributes = dict[str, Any]
Encoded = dict[str, Any]


def write_json(run: ExportRun, out: BinaryIO) -> Count:
    """Write one OTLP/JSON document."""
    resource = json.dumps(_resource(run), ensure_ascii=False, separators=(",", ":"))
    scope = json.dumps({"name": "coordsim", "version": run.version}, separators=(",", ":"))
    out.write(f'{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"scope":{scope},"spans":['.encode())
    tasks = spans = 0
    for task in run.tasks:
        for one in _Trace(run, task).encoded():
            text = json.dumps(one, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            out.write((",\n" if spans else "\n").encode() + text.encode(errors="replace"))
            spans += 1
        tasks += 1
    out.write(b"\n]}]}]}\n")
    return Count(tasks, spans)


def write_proto(run: ExportRun, out: BinaryIO) -> Count:
    """Write one TracesData message, a ResourceSpans a task. Raises TraceError without opentelemetry-proto."""
    try:
        from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
    except ImportError as error:
        raise TraceError("otlp-proto needs opentelemetry-proto; try `pip install 'coordsim[trace]'`") from error
    tasks = spans = 0
    resource = _resource(run)
    for task in run.tasks:
        data = TracesData()
        holder = data.resource_spans.add()
        for one in resource["attributes"]:
            _put_value(holder.resource.attributes.add(key=one["key"]).value, one["value"])
        scope = holder.scope_spans.add()
        scope.scope.name, scope.scope.version = "coordsim", run.version
        for one in _Trace(run, task).encoded():
            _fill(scope.spans.add(), one)
            spans += 1
        out.write(data.SerializeToString(deterministic=True))  # messages one after the other are one message
        tasks += 1
    return Count(tasks, spans)


def _resource(run: ExportRun) -> Encoded:
    return {
        "attributes": _encoded(
            {"service.name": "coordsim", "coordsim.scenario": run.name, "coordsim.simulated": run.simulated}
        )
    }


@dataclass(frozen=True, slots=True)
class _Times:
    """When a span began and ended (ns since 1970)."""

    start: int
    end: int

    def holds(self, other: _Times) -> bool:
        return self.start <= other.start and other.end <= self.end


class _Trace:
    """The trace of one task."""

    def __init__(self, run: ExportRun, task: ExportTask) -> None:
        self.run = run
        self.task = task
        self.key = f"{run.identity}/{task.replication}/{task.task}"
        self.trace = _id(self.key, 16)
        self.root = _id(f"{self.key}/task", 8)
        self.by_id = {one.id: one for one in task.spans}
        self.times = {one.id: self._times(one.start, one.end) for one in task.spans}
        self.whole = self._times(task.arrival, task.end)
        self.calls = wholes_of(task)
        self.owners = {piece.id: one for one in self.calls for piece in one.pieces}

    def encoded(self) -> Iterator[Encoded]:
        """Yield the spans in the shape of OTLP/JSON, the root first, then the calls that have no span of their own."""
        yield self._root()
        for one in self.calls:
            if one.carrier is None:
                yield self._apart(one)
        released = _released(self.task.spans)
        for span in self.task.spans:
            yield self._span(span, released.get(span.id))

    def _times(self, start: float, end: float) -> _Times:
        return _Times(self.run.epoch + nanos(start), self.run.epoch + nanos(end))

    def _root(self) -> Encoded:
        run, task = self.run, self.task
        failed = task.status == _FAILED
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": task.task_class,
            **_error((task.failure or OTHER) if failed else ""),
            "coordsim.task": task.task,
            "coordsim.replication": task.replication,
            "coordsim.class": task.task_class,
            "coordsim.status": task.status,
            "coordsim.failure": task.failure,
            "coordsim.arrival_s": float(task.arrival),
            "coordsim.end_s": float(task.end),
            "coordsim.overlapped_s": float(task.overlapped),
            "coordsim.scenario": run.name,
            "coordsim.version": run.version,
            "coordsim.spans": len(task.spans),
            "coordsim.calls": len(self.calls),
            "coordsim.clock": run.clock,
            "coordsim.epoch": run.epoch,
            **self._origin(),
            "coordsim.parts": _parts(task),
            **{f"coordsim.facts.{name}": float(value) for name, value in task.facts.items()},
        }
        made = self._start(self.root, f"invoke_workflow {task.task_class}", INTERNAL, self.whole, attributes)
        return made | ({"status": {"code": ERROR}} if failed else {})

    def _origin(self) -> Attributes:
        """Return what files of a measured task call it."""
        task = self.task
        known = {"trace": task.trace, "session": task.session, "problem": task.problem}
        found: Attributes = {f"coordsim.{name}": value for name, value in known.items() if value}
        return found | ({"gen_ai.conversation.id": task.session} if task.session else {})

    def _apart(self, whole: Whole) -> Encoded:
        """Return the span of a call that the ledger has in several pieces, or without time."""
        call = whole.call
        times = self._times(call.start, call.end)
        made = self._start(self._id_of_call(whole), *self._call(whole), times, self._told(whole))
        holder = self._holder(whole.pieces[0], times) if whole.pieces else self.root * self.whole.holds(times)
        return self._placed(made, holder, None, failed=bool(call.error))

    def _span(self, span: Span, released_by: Span | None) -> Encoded:
        """Return a span of the ledger: a call, a piece of one, a turn of an agent, or coordination."""
        times = self.times[span.id]
        whole = self.owners.get(span.id)
        attributes: Attributes = {}
        holder = self._holder(span, times)
        kind, failed = INTERNAL, False
        name = f"{span.name} {span.component}".strip()
        if whole is not None and whole.carrier is not None:
            name, kind = self._call(whole)
            attributes, failed = self._told(whole), bool(whole.call.error)
        elif whole is not None:
            name, holder = (
                f"coordsim.{'critical' if span.critical else 'beside'} {span.component}",
                self._id_of_call(whole),
            )
        elif is_turn(span):
            attributes = self._conventions("invoke_agent", span.component)
        elif span.category == STRUCTURE and span.name in GROUPS:
            name = f"coordsim.{name}"  # around a call: no call of its own
        attributes |= {
            "coordsim.id": span.id,
            "coordsim.parent": span.parent,
            "coordsim.lane": str(span.lane),
            "coordsim.category": span.category,
            "coordsim.component": span.component,
            "coordsim.name": span.name,
            "coordsim.start_s": float(span.start),
            "coordsim.end_s": float(span.end),
            "coordsim.size": float(span.size),
            "coordsim.critical": bool(span.critical),
            "coordsim.lost": bool(span.lost),
            "coordsim.error": bool(span.error),
        }
        made = self._start(self._id_of(span), name, kind, times, attributes)
        return self._placed(made, holder, released_by, failed=failed)

    def _placed(self, made: Encoded, holder: str, released_by: Span | None, *, failed: bool) -> Encoded:
        """Return a span in the one that holds it; what outlives its task is linked to it."""
        if holder:
            made["parentSpanId"] = holder
        links = [] if holder else [self._link(self.root, "ran on")]
        if released_by is not None:
            links.append(self._link(self._id_of(released_by), "released by"))
        return made | ({"links": links} if links else {}) | ({"status": {"code": ERROR}} if failed else {})

    def _start(self, own: str, name: str, kind: int, times: _Times, attributes: Attributes) -> Encoded:
        return {
            "traceId": self.trace,
            "spanId": own,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(times.start),
            "endTimeUnixNano": str(times.end),
            "attributes": _encoded(attributes),
        }

    def _holder(self, span: Span, times: _Times) -> str:
        """Return the id of the nearest span around this one that lasts as long; '' if even the task is over before."""
        holder = self.by_id.get(span.parent)
        while holder is not None and not self.times[holder.id].holds(times):
            holder = self.by_id.get(holder.parent)
        if holder is not None:
            return self._id_of(holder)
        return self.root if self.whole.holds(times) else ""

    def _call(self, whole: Whole) -> tuple[str, int]:
        """Return the name of a call's span, and its kind."""
        operation = _OPERATIONS.get(whole.call.kind, whole.call.kind)
        return f"{operation} {whole.call.component}".strip(), CLIENT if operation in _MODELS else INTERNAL

    def _told(self, whole: Whole) -> Attributes:
        """Return the attributes of a call: those of the conventions, and all that is known of it as a stamp."""
        call = whole.call
        operation = _OPERATIONS.get(call.kind, "")
        found = self._conventions(operation, call.component) if operation else {}
        if operation in _MODELS:
            found |= _usage(call)
        return found | _error(call.error) | {"coordsim.call": _stamp(whole)}

    def _conventions(self, operation: str, component: str) -> Attributes:
        """Return the attributes of the GenAI conventions."""
        found: Attributes = {"gen_ai.operation.name": operation}
        if operation in _MODELS:
            if self.run.simulated:
                found["gen_ai.provider.name"] = "coordsim"
            return found | {"gen_ai.request.model": component}
        return found | {_SUBJECT[operation]: component}

    def _id_of_call(self, whole: Whole) -> str:
        if whole.carrier is not None:
            return self._id_of(whole.carrier)
        return _id(f"{self.key}/call/{whole.place}", 8)

    def _id_of(self, span: Span) -> str:
        return _id(f"{self.key}/{span.id}", 8)

    def _link(self, to: str, why: str) -> Encoded:
        return {"traceId": self.trace, "spanId": to, "attributes": _encoded({"coordsim.link": why})}


def _error(what: str) -> Attributes:
    """Return the type of an error as the conventions have it; nothing for ''."""
    return {"error.type": what} if what else {}


def _released(spans: Sequence[Span]) -> dict[int, Span]:
    """Return for each span with which the critical path came to another lane the last one before it, by id."""
    path = sorted(
        (one for one in spans if one.critical and one.category != STRUCTURE), key=lambda one: (one.start, one.end)
    )
    return {after.id: before for before, after in pairwise(path) if before.lane != after.lane}


def _usage(call: Call) -> Attributes:
    """Return tokens as the conventions count them: cached ones are among those that went in."""
    known = {
        "gen_ai.usage.input_tokens": call.input,
        "gen_ai.usage.cache_read.input_tokens": call.cached,
        "gen_ai.usage.output_tokens": call.output,
    }
    found: Attributes = {name: round(value) for name, value in known.items() if not math.isnan(value)}
    if not math.isnan(call.first_token):
        found["gen_ai.response.time_to_first_chunk"] = float(call.first_token)
    return found


def _stamp(whole: Whole) -> str:
    """Return all that is known of a call, as text."""
    said: dict[str, Any] = {"at": whole.place}
    for one in _CALL:
        value = getattr(whole.call, one.name)
        unknown = isinstance(value, float) and math.isnan(value)
        if not unknown and (one.default is MISSING or value != one.default):
            said[one.name] = float(value) if isinstance(value, float) else value
    return json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _parts(task: ExportTask) -> str:
    """Return the seconds by account, as text."""
    parts = [[one.category, one.component, one.name, float(seconds)] for one, seconds in task.parts.items()]
    return json.dumps(parts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _id(text: str, size: int) -> str:
    """Return an id of `size` bytes in hex, the same for the same text, never of zeros alone."""
    found = hashlib.sha256(text.encode()).digest()[:size]
    return (found if any(found) else b"\1" * size).hex()


# ---------------------------------------------------------------------------------------------------------------------
# Encoding


def _encoded(attributes: Mapping[str, Any]) -> list[Encoded]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> Encoded:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


def _put_value(to: Any, value: Encoded) -> None:
    ((kind, said),) = value.items()
    if kind == "boolValue":
        to.bool_value = said
    elif kind == "intValue":
        to.int_value = int(said)
    elif kind == "doubleValue":
        to.double_value = said
    else:
        to.string_value = said


def _fill(to: Any, one: Encoded) -> None:
    """Put a span in the shape of JSON into a message."""
    to.trace_id, to.span_id = bytes.fromhex(one["traceId"]), bytes.fromhex(one["spanId"])
    to.parent_span_id = bytes.fromhex(one.get("parentSpanId", ""))
    to.name, to.kind = one["name"], one["kind"]
    to.start_time_unix_nano, to.end_time_unix_nano = int(one["startTimeUnixNano"]), int(one["endTimeUnixNano"])
    for attribute in one["attributes"]:
        _put_value(to.attributes.add(key=attribute["key"]).value, attribute["value"])
    for link in one.get("links", ()):
        made = to.links.add(trace_id=bytes.fromhex(link["traceId"]), span_id=bytes.fromhex(link["spanId"]))
        for attribute in link["attributes"]:
            _put_value(made.attributes.add(key=attribute["key"]).value, attribute["value"])
    if "status" in one:
        to.status.code = one["status"]["code"]
