"""Nothing of what prompts, answers, arguments, results and messages hold comes out of a format; nor does a secret, whatever field it stands in."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.trace_export import of_measured
from coordsim.sim.trace.read import read
from coordsim.sim.trace.tally import TraceError

from . import otlp_files
from .exported import as_bytes
from .test_trace_formats import SECRET, given, lines, run, span

MARK = "hunter2PLANT"
PLANTS = (f"https://bob:{MARK}@host.example/v1", f"please tell me about the mail of {MARK}")


def files() -> dict[str, Any]:
    """Return a file of each format, as JSON, with a marker in all fields of contents."""
    deep = {"role": "user", "content": SECRET}
    values: dict[str, Any] = {
        "input": SECRET,
        "output": {"messages": [deep]},
        "statusMessage": SECRET,
        "level": "ERROR",
    }
    meta = {
        "note": SECRET,
        "attributes": {"input.value": SECRET, "gen_ai.prompt.0.content": SECRET, "error.type": f"{SECRET} happened"},
    }
    start = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z (us)
    tags = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.conversation.id": "s", "gen_ai.agent.name": "a",
        "gen_ai.usage.input_tokens": "5", "gen_ai.input.messages": json.dumps([deep]), "input.value": SECRET, "error.type": "ValueError",
        "gen_ai.prompt.0.content": SECRET, "url.full": SECRET, "exception.message": SECRET,
    }  # fmt: skip
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f", "gen_ai.tool.call.arguments": SECRET}
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    failed = {"status": {"code": 2, "message": SECRET}, "events": [
        {"name": "exception", "attributes": otlp_files.keyed({"exception.type": "ValueError", "exception.message": SECRET})},
        {"name": "gen_ai.content.prompt", "attributes": otlp_files.keyed({"gen_ai.prompt": SECRET})},
    ]}  # fmt: skip
    return {
        "langfuse": [span("a", **values, metadata=meta, sessionId="s", model="m"), span("b", "TOOL", **values, metadata=json.dumps(meta))],
        "langsmith": [run("a", "llm", inputs=deep, outputs=deep, error=SECRET, session_id="s", tags=[SECRET],
                          extra={"metadata": {"k": SECRET, "ls_model_name": "m", "thread_id": "t"}})],
        "inspect": {"version": 2, "status": "error", "eval": {"task": "x", "config": SECRET}, "samples": [{"id": 1, "input": SECRET, "error": {
            "message": SECRET, "traceback": SECRET}, "events": [
                {"event": "tool", "function": "f", "timestamp": "2026-01-01",
                 "arguments": deep, "result": SECRET, "error": {"message": SECRET}},
                {"event": "model", "model": "m", "timestamp": "2026-01-01T00:00:00Z", "input": [deep], "error": SECRET}]}]},
        "openinference": [{"name": "x", "context": {"trace_id": "a", "span_id": "b"}, "status_message": SECRET, "status_code": "ERROR", "span_kind": "LLM",
                           "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:01Z", "parent_id": "c",
                           "attributes": {"input": {"value": SECRET}, "metadata": SECRET, "session": {"id": "s"}, "llm": {"model_name": "m"}}, "events": [
                               {"name": "exception", "attributes": {"exception.message": SECRET, "exception.type": "ValueError"}}]}],
        "tracelab": [{"session_id": "s", "round_index": 0, "model": "m", "cwd": SECRET,
                      "timing_events": [{"event_type": "text", "timestamp": SECRET}],
                      "tools": [{"tool_name": "f", "input": {"command": SECRET}, "emitted_at": SECRET,
                                 "is_error": True, "error_type": SECRET + " x"}]},
                     {"session_id": "s", "round_id": "r", "round_index": 1, "model": "m", "timing_events": [
                         {"event_type": "user_message", "timestamp": "2026-01-01T00:00:00Z", "content": SECRET},
                         {"event_type": "tool_call", "timestamp": "2026-01-01T00:00:01Z"}],
                      "tools": [{"tool_name": "f", "tool_call_id": "t", "emitted_at": "2026-01-01T00:00:01Z", "result_at": "2026-01-01T00:00:02Z",
                                 "result": SECRET, "is_error": True, "error_type": "ValueError"}]}],
        "steps": [{"task": "a", "kind": "tool", "name": "f", "start_s": 0, "dur_s": SECRET, "error": f"{SECRET} x", "arguments": SECRET},
                  {"task": "a", "kind": f"{SECRET} x", "start_s": 0, "dur_s": 1, "result": SECRET, "error": f"{SECRET} x"},
                  {"task": "a", "session": "s", "set": "p", "class": "c", "agent": "g", "kind": "llm", "model": "m", "start_s": 0, "dur_s": 1,
                   "error": "ValueError"}],
        "otlp": otlp_files.document(otlp_files.span(1, "chat m", tags, **failed), otlp_files.span(2, "execute_tool f", tool, **failed),
                                    resource={"service.name": "made", "process.command_line": SECRET}),
        "jaeger": {"data": [{"traceID": "7", "processes": {"p1": {"serviceName": "made", "tags": listed[-1:]}}, "spans": [
            {"traceID": "7", "spanID": "1", "operationName": "chat m", "startTime": start, "duration": 1_000_000, "tags": listed,
             "references": [{"refType": "CHILD_OF", "traceID": "7", "spanID": "2"}], "processID": "p1", "warnings": [SECRET],
             "logs": [{"timestamp": start, "fields": listed[-2:]}]}]}]},
        "zipkin": [{"traceId": "7", "timestamp": start, "duration": 1_000_000, "id": "1", "parentId": "2", "name": "chat m", "kind": "CLIENT", "localEndpoint": {"serviceName": "made"},
                    "annotations": [{"timestamp": start, "value": SECRET}], "tags": tags | {"error": SECRET}}],
    }  # fmt: skip


def planted() -> Iterator[tuple[str, bytes]]:
    """Give the files as they are and broken off, and those that are lists as lines, too."""
    for name, value in files().items():
        whole = json.dumps(value).encode()
        yield name, whole
        yield f"{name}, cut", whole[: len(whole) * 2 // 3]
        if isinstance(value, list):
            yield f"{name}, lines", lines(value).encode()
            yield f"{name}, lines cut", lines(value * 2).encode()[:-20]


@pytest.mark.parametrize(("name", "content"), list(planted()), ids=[name for name, _ in planted()])
def test_no_content_comes_out(name: str, content: bytes, tmp_path: Path) -> None:
    """A marker in every prompt, answer, argument, result, message and metadata is in no observation, tally or error."""
    check_no_content(name, content, tmp_path)


@pytest.mark.parametrize("cut", [False, True])
def test_no_content_comes_out_of_protobuf(cut: bool, tmp_path: Path) -> None:
    """Nor from the same as protobuf."""
    whole = otlp_files.protobuf(files()["otlp"])
    name, content = ("otlp-proto, cut", whole[: len(whole) * 2 // 3]) if cut else ("otlp-proto", whole)
    check_no_content(name, content, tmp_path)


def check_no_content(name: str, content: bytes, tmp_path: Path) -> None:
    """Assert that the marker is in nothing that is made of a file; one that is broken off may be refused."""
    try:
        found, tally, file = given(tmp_path, content)
    except TraceError as error:
        assert ", cut" in name
        said = str(error)
    else:
        said = repr((found, tally, file))
    assert SECRET not in said


# ---------------------------------------------------------------------------------------------------------------------
# Field by field


def places(data: Any, *way: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to each text in a file."""
    if isinstance(data, str):
        yield way
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, *way, key)


def changed(data: Any, way: tuple[str | int, ...], text: str) -> Any:
    """Return a file with another text in one place."""
    made = copy.deepcopy(data)
    at = made
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = text
    return made


def check_nowhere(content: bytes, path: Path, where: object) -> None:
    """Assert that a secret that stands `where` in a file is in nothing that is kept of it, and in no export."""
    path.write_bytes(content)
    try:
        measured = read([path])
    except TraceError as error:
        said = str(error)
    else:
        said = repr((measured, measured.ledger.accounts)) + as_bytes(of_measured(measured), "otlp").decode()
    assert MARK not in said, where


@pytest.mark.parametrize("form", files())
def test_a_secret_in_any_field_is_not_kept(form: str, tmp_path: Path) -> None:
    """A password in an address, and a sentence, each in each text of a file: ids, names, kinds, types and times alike."""
    data = files()[form]
    (tmp_path / "f.json").write_text(json.dumps(data))
    assert read([tmp_path / "f.json"]).tally.files[0].format == form
    for way in places(data):
        for text in PLANTS:
            check_nowhere(json.dumps(changed(data, way, text)).encode(), tmp_path / "f.json", (text, way))


def test_a_secret_in_any_field_of_protobuf_is_not_kept(tmp_path: Path) -> None:
    """The same of names and values; ids are bytes there."""
    data = files()["otlp"]
    for way in places(data):
        for text in PLANTS if way[-1] in ("name", "stringValue", "message") else ():
            check_nowhere(otlp_files.protobuf(changed(data, way, text)), tmp_path / "f.pb", (text, way))
