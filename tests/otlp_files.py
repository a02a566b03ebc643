"""OTLP for tests: spans as documents of JSON, and the same as protobuf."""

from __future__ import annotations

import base64
import copy
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import pytest

from coordsim.sim.trace.formats import otlp, otlp_proto
from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.tally import FileTally, Tally

__all__ = ["START", "any_value", "document", "keyed", "protobuf", "read_json", "read_proto", "span", "timed"]

START = 1_700_000_000_000_000_000
"""When spans begin (ns since 1970)."""


def any_value(value: Any) -> dict[str, Any]:
    """A value as OTLP/JSON wraps it."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": keyed(value)}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [any_value(one) for one in value]}}
    return {"stringValue": value}


def keyed(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attributes as OTLP/JSON lists them."""
    return [{"key": name, "value": any_value(value)} for name, value in attributes.items()]


def span(
    number: int, name: str = "a span", attributes: Mapping[str, Any] | list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A span of 2 s that begins `number` seconds after START, child of number 1; `more` replaces its fields."""
    fields: dict[str, Any] = {
        "traceId": f"{7:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": f"{1:016x}" if number != 1 else "",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(START + number * 1_000_000_000),
        "endTimeUnixNano": str(START + (number + 2) * 1_000_000_000),
        "attributes": attributes if isinstance(attributes, list) else keyed(attributes or {}),
    }
    return fields | more


def timed(
    number: int, parent: int, name: str, start: float, end: float, *, trace: int = 7, **more: Any
) -> dict[str, Any]:
    """A span from `start` to `end` (s since START) in another, 0 for none; `more` are attributes, `__` stands for a dot in their names."""
    return span(
        number,
        name,
        {key.replace("__", "."): value for key, value in more.items()},
        traceId=f"{trace:032x}",
        parentSpanId=f"{parent:016x}" if parent else "",
        startTimeUnixNano=str(START + round(start * 1e9)),
        endTimeUnixNano=str(START + round(end * 1e9)),
    )


def document(*spans: Any, resource: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One ExportTraceServiceRequest."""
    scope = {"scope": {"name": "tests"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": {"attributes": keyed(resource or {})}, "scopeSpans": [scope]}]}


def protobuf(one: Mapping[str, Any]) -> bytes:
    """A document as protobuf. Skips the test where the schema is not installed."""
    trace_pb2 = pytest.importorskip(
        "opentelemetry.proto.trace.v1.trace_pb2", reason="OTLP in protobuf needs opentelemetry-proto"
    )
    ParseDict = import_module("google.protobuf.json_format").ParseDict  # noqa: N806 - its name

    one = copy.deepcopy(dict(one))
    for resource in one["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for each in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    each[name] = base64.b64encode(bytes.fromhex(each[name])).decode()
    written: bytes = ParseDict(one, trace_pb2.TracesData()).SerializeToString()
    return written


Read = tuple[list[Observation], FileTally, Tally]


def _read(module: Any, data: bytes) -> Read:
    file, tally = FileTally("a file", "otlp", len(data)), Tally()
    observations: Callable[..., Any] = module.observations
    return list(observations(io.BytesIO(data), file, tally)), file, tally


def read_json(data: bytes | str | Mapping[str, Any] | Sequence[Any]) -> Read:
    """What a file of OTLP/JSON says: its observations, its tally, and that of all."""
    if not isinstance(data, bytes | str):
        data = json.dumps(data)
    return _read(otlp, data.encode() if isinstance(data, str) else data)


def read_proto(data: bytes) -> Read:
    """What a file of OTLP in protobuf says."""
    return _read(otlp_proto, data)
