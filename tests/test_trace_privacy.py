"""Nothing of what prompts, answers, arguments, results and messages hold comes out of a format, whole or broken off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.trace.tally import TraceError

from .test_trace_formats import SECRET, given, lines, run, span


def planted() -> Iterator[tuple[str, bytes]]:
    """Give files of each format with a marker in all fields of contents, as they are and broken off."""
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
    files: dict[str, Any] = {
        "langfuse": [span("a", **values, metadata=meta), span("b", "TOOL", **values, metadata=json.dumps(meta))],
        "langsmith": [run("a", "llm", inputs=deep, outputs=deep, error=SECRET, extra={"metadata": {"k": SECRET}}, tags=[SECRET])],
        "inspect": {"version": 2, "status": "error", "eval": {"task": "x", "config": SECRET}, "samples": [{"id": 1, "input": SECRET, "error": {
            "message": SECRET, "traceback": SECRET}, "events": [
                {"event": "tool", "function": "f", "timestamp": "2026-01-01",
                 "arguments": deep, "result": SECRET, "error": {"message": SECRET}},
                {"event": "model", "model": "m", "timestamp": "2026-01-01T00:00:00Z", "input": [deep], "error": SECRET}]}]},
        "openinference": [{"name": "x", "context": {"trace_id": "a", "span_id": "b"}, "status_message": SECRET, "span_kind": "LLM",
                           "attributes": {"input": {"value": SECRET}, "metadata": SECRET}, "events": [
                               {"name": "exception", "attributes": {"exception.message": SECRET, "exception.type": "ValueError"}}]}],
        "tracelab": [{"session_id": "s", "round_index": 0, "model": "m", "cwd": SECRET,
                      "timing_events": [{"event_type": "text", "timestamp": SECRET}],
                      "tools": [{"tool_name": "f", "input": {"command": SECRET}, "emitted_at": SECRET,
                                 "is_error": True, "error_type": SECRET + " x"}]}],
        "steps": [{"task": "a", "kind": "tool", "name": "f", "start_s": 0, "dur_s": SECRET, "error": f"{SECRET} x", "arguments": SECRET},
                  {"task": "a", "kind": f"{SECRET} x", "start_s": 0, "dur_s": 1, "result": SECRET, "error": f"{SECRET} x"}],
    }  # fmt: skip
    for name, value in files.items():
        whole = json.dumps(value).encode()
        yield name, whole
        yield f"{name}, cut", whole[: len(whole) * 2 // 3]
        if isinstance(value, list):
            yield f"{name}, lines", lines(value).encode()
            yield f"{name}, lines cut", lines(value * 2).encode()[:-20]


@pytest.mark.parametrize(("name", "content"), list(planted()), ids=[name for name, _ in planted()])
def test_no_content_comes_out(name: str, content: bytes, tmp_path: Path) -> None:
    """A marker in every prompt, answer, argument, result, message and metadata is in no observation, tally or error."""
    try:
        found, tally, file = given(tmp_path, content)
    except TraceError as error:
        assert ", cut" in name
        said = str(error)
    else:
        said = repr((found, tally, file))
    assert SECRET not in said
