"""Spans as Jaeger and Zipkin give them say what the same spans say as OTLP; and bare OTLP spans are known as such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.read import read

from .test_trace_formats import given, lines
from .trace_files import made, otlp, totals

TRUTH = made(4, seed=3)
SECRET = "the user's password is hunter2"
START = 1_767_225_600_000_000  # us


def _spans() -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = otlp(TRUTH)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return spans


def _value(value: dict[str, Any]) -> Any:
    ((kind, one),) = value.items()
    return int(one) if kind == "intValue" else one


def _jaeger(span: dict[str, Any]) -> dict[str, Any]:
    """Return an OTLP span as Jaeger has it."""
    start, end = (int(span[key]) // 1000 for key in ("startTimeUnixNano", "endTimeUnixNano"))
    tags = [{"key": one["key"], "type": "string", "value": _value(one["value"])} for one in span.get("attributes", [])]
    if span.get("status", {}).get("code") == 2:
        tags += [
            {"key": "error", "type": "bool", "value": True},
            {"key": "otel.status_description", "type": "string", "value": SECRET},
        ]
    found = {"traceID": span["traceId"], "spanID": span["spanId"], "operationName": span["name"], "references": [],
             "startTime": start, "duration": end - start, "tags": tags, "logs": [], "processID": "p1", "warnings": None}  # fmt: skip
    if span.get("parentSpanId"):
        found["references"] = [{"refType": "CHILD_OF", "traceID": span["traceId"], "spanID": span["parentSpanId"]}]
    return found


def _traces() -> dict[str, Any]:
    by: dict[str, list[dict[str, Any]]] = {}
    for one in map(_jaeger, _spans()):
        by.setdefault(one["traceID"], []).append(one)
    process = {"p1": {"serviceName": "made", "tags": [{"key": "hostname", "type": "string", "value": "h"}]}}
    return {
        "data": [{"traceID": trace, "spans": spans, "processes": process, "warnings": None} for trace, spans in by.items()],
        "total": 0, "limit": 0, "errors": None,
    }  # fmt: skip


def _zipkin(span: dict[str, Any]) -> dict[str, Any]:
    """Return an OTLP span as Zipkin has it: all tags are texts."""
    start, end = (int(span[key]) // 1000 for key in ("startTimeUnixNano", "endTimeUnixNano"))
    tags = {one["key"]: str(_value(one["value"])) for one in span.get("attributes", [])}
    if span.get("status", {}).get("code") == 2:
        tags |= {"error": SECRET, "otel.status_code": "ERROR"}
    found = {"traceId": span["traceId"], "id": span["spanId"], "name": span["name"], "timestamp": start,
             "duration": end - start, "localEndpoint": {"serviceName": "made"}, "tags": tags}  # fmt: skip
    return found | ({"parentId": span["parentSpanId"]} if span.get("parentSpanId") else {})


def _said(found: list[Observation]) -> list[tuple[Any, ...]]:
    """Return what spans say, without the process, which each format names in its way."""
    return [
        (one.trace, one.id, one.parent, one.kind, one.component, one.name, one.start, one.end, bool(one.error), one.input_tokens,
         one.cached_tokens, one.output_tokens)
        for one in found
    ]  # fmt: skip


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """Return what the same spans say as OTLP."""
    return _said(given(tmp_path_factory.mktemp("otlp"), otlp(TRUTH))[0])


@pytest.mark.parametrize("shape", ["api", "trace", "lines", "spans"])
def test_jaeger_says_what_otlp_says(shape: str, truth: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """As the API gives it, trace by trace, and as spans alone with their process, a list or lines of Elasticsearch."""
    whole = _traces()
    alone = [
        {**one, "process": {"serviceName": "made", "tags": [{"key": "hostname", "value": "h"}]}}
        for one in map(_jaeger, _spans())
    ]
    for one in alone if shape == "spans" else ():
        one["tag"] = {tag["key"].replace(".", "@"): tag["value"] for tag in one.pop("tags")}
    contents: dict[str, Any] = {"api": whole, "trace": lines(whole["data"]), "lines": lines(alone), "spans": alone}
    found, tally, file = given(tmp_path, contents[shape])
    assert file.format == "jaeger"
    assert _said(found) == truth
    assert {one.process for one in found} == {"made/h"}
    assert not tally.dropped
    assert SECRET not in repr((found, tally))


@pytest.mark.parametrize("shape", ["list", "lists", "lines"])
def test_zipkin_says_what_otlp_says(shape: str, truth: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """As one list, as a list of traces, and as lines; its errors' messages are not kept."""
    spans = [_zipkin(one) for one in _spans()]
    contents: dict[str, Any] = {"list": spans, "lists": [spans[:5], spans[5:]], "lines": lines(spans)}
    found, tally, file = given(tmp_path, contents[shape])
    assert file.format == "zipkin"
    assert _said(found) == truth
    assert SECRET not in repr((found, tally))


def test_traces_read_from_them_are_the_same(tmp_path: Path) -> None:
    """The whole way to tasks and calls."""
    (tmp_path / "j.json").write_text(json.dumps(_traces()), encoding="utf-8")
    (tmp_path / "z.json").write_text(json.dumps([_zipkin(one) for one in _spans()]), encoding="utf-8")
    for name in ("j.json", "z.json"):
        found = read([tmp_path / name])
        assert len(found.tasks) == len(TRUTH)
        assert found.sums.wall == pytest.approx(totals(TRUTH)["wall"])


def test_bare_spans_of_otlp_are_known(truth: list[tuple[Any, ...]], tmp_path: Path) -> None:
    """Without a resource around them: a list, lines, and under `spans`, in both ways of writing names."""
    spans = _spans()
    names = {"traceId": "trace_id", "spanId": "span_id", "parentSpanId": "parent_span_id",
             "startTimeUnixNano": "start_time_unix_nano", "endTimeUnixNano": "end_time_unix_nano"}  # fmt: skip
    snake = [{names.get(key, key): value for key, value in one.items()} for one in spans]
    for content in (spans, lines(spans), {"spans": spans}, snake, lines(snake)):
        found, _, file = given(tmp_path, content)
        assert file.format == "otlp"
        assert _said(found) == truth


def test_two_sides_of_a_call_in_zipkin_stay_apart(tmp_path: Path) -> None:
    """A server's span that shares its client's id becomes a child of it."""
    both = {"traceId": "a", "id": "b", "timestamp": START, "duration": 10, "localEndpoint": {}}
    found, _, _ = given(tmp_path, [{**both, "kind": "CLIENT"}, {**both, "kind": "SERVER", "shared": True}])
    assert [(one.id, one.parent, one.kind) for one in found] == [("b", "", "client"), ("b/server", "b", "other")]


def test_messy_spans_are_counted(tmp_path: Path) -> None:
    """No object, no id, times that are none, tags and references of other shapes: nothing is lost in silence, and nothing breaks."""
    trace = {"traceID": "t", "spans": [
        3, {"spanID": "s", "startTime": "soon", "duration": -1, "tags": [1, {"key": 2}], "references": [None, {"refType": "FOLLOWS_FROM"}], "logs": [4, {"fields": 5}]},
        {"spanID": "u", "startTime": START, "references": [{"refType": "CHILD_OF", "traceID": "other", "spanID": "x"}]},
        {"startTime": START, "duration": 1.5},
    ], "processes": None}  # fmt: skip
    found, tally, _ = given(tmp_path, {"data": [trace]})
    assert [(one.id or "", one.parent, one.start, one.end) for one in found[:2]] == [
        ("s", "", None, None),
        ("u", "", START * 1000, None),
    ]
    assert found[2].end == START * 1000 + 1500
    assert (tally.spans, tally.dropped) == (4, 1)
