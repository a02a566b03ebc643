"""Traces as MLflow, the OpenAI Agents SDK and W&B Weave write them are told by their content, and say what the runs did.

Shapes are those that mlflow 3.17 and openai-agents write, and of Weave those of its schema of calls; contents are made up.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from .test_trace_formats import SECRET, given, take

START = 1_767_225_600_000_000_000
TIMES = {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:00:01+00:00"}
USAGE = {"input_tokens": 200, "output_tokens": 20, "total_tokens": 220, "cache_read_input_tokens": 90}


def mlflow_span(
    number: int, name: str, kind: str, attributes: dict[str, Any] | None = None, code: str = "OK"
) -> dict[str, Any]:
    """A span of MLflow 3: ids in base64, values of attributes as JSON."""
    mark = base64.b64encode(number.to_bytes(8, "big")).decode()
    above = base64.b64encode((1).to_bytes(8, "big")).decode() if number > 1 else None
    return {
        "trace_id": base64.b64encode(b"t" * 16).decode(), "span_id": mark, "parent_span_id": above, "name": name,
        "start_time_unix_nano": START, "end_time_unix_nano": START + number * 1_000_000_000, "events": [],
        "status": {"code": f"STATUS_CODE_{code}", "message": f"ValueError: {SECRET}" if code == "ERROR" else ""}, "links": [],
        "attributes": {"mlflow.spanType": json.dumps(kind), **{key: json.dumps(value) for key, value in (attributes or {}).items()}},
    }  # fmt: skip


def older(span: dict[str, Any]) -> dict[str, Any]:
    """The same as MLflow 2 wrote it."""
    mark = {key: "0x" + base64.b64decode(span[key] or "").hex() for key in ("trace_id", "span_id", "parent_span_id")}
    return {
        "name": span["name"], "context": {"trace_id": mark["trace_id"], "span_id": mark["span_id"]},
        "parent_id": mark["parent_span_id"] if span["parent_span_id"] else None, "start_time": span["start_time_unix_nano"],
        "end_time": span["end_time_unix_nano"], "status_code": span["status"]["code"].removeprefix("STATUS_CODE_"),
        "status_message": span["status"]["message"], "attributes": span["attributes"], "events": [],
    }  # fmt: skip


SPANS = [
    mlflow_span(1, "meteo", "AGENT"),
    mlflow_span(2, "Completions", "CHAT_MODEL", {"model": "m", "mlflow.chat.tokenUsage": USAGE, "mlflow.spanInputs": SECRET}),
    mlflow_span(3, "weather", "TOOL", code="ERROR"),
]  # fmt: skip
INFO = {"trace_id": "tr-1", "state": "OK", "request_preview": SECRET}


@pytest.mark.parametrize(
    "content",
    [
        {"info": INFO, "data": {"spans": SPANS}},
        [{"info": INFO, "data": {"spans": SPANS}}],
        {"spans": SPANS},
        {"trace_id": "tr-1", "trace": json.dumps({"data": {"spans": SPANS}}), "spans": SPANS},
        {"info": INFO, "data": {"spans": [older(one) for one in SPANS]}},
    ],
    ids=["a trace", "a list of traces", "its artifact", "a row of a search", "a trace of MLflow 2"],
)
def test_traces_of_mlflow(content: Any, tmp_path: Path) -> None:
    """However they are kept, the spans are the same."""
    found, tally, file = given(tmp_path, content)
    assert (file.format, tally.spans) == ("otlp", 3)
    assert [(x.kind, x.component, x.error) for x in found] == [
        ("agent", "meteo", ""),
        ("llm", "m", ""),
        ("tool", "weather", "ValueError"),
    ]
    assert found[0].id == found[1].parent == found[2].parent
    assert (found[1].input_tokens, found[1].cached_tokens, found[1].output_tokens) == (200, 90, 20)
    assert [x.end - x.start for x in found if x.end and x.start] == [10**9, 2 * 10**9, 3 * 10**9]
    assert SECRET not in repr(found)


def agents_span(number: int, data: dict[str, Any], error: dict[str, Any] | None = None) -> dict[str, Any]:
    """A span as the Agents SDK exports it."""
    return {
        "object": "trace.span", "id": f"span_{number}", "trace_id": "trace_1", "parent_id": "span_1" if number > 1 else None,
        **TIMES, "span_data": data, "error": error,
    }  # fmt: skip


def test_spans_of_the_agents_sdk(tmp_path: Path) -> None:
    """Generations and responses are calls of a model; a record of the whole trace is none."""
    usage = {"requests": 1, "input_tokens": 200, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 90}}
    records = [
        {"object": "trace", "id": "trace_1", "workflow_name": "flow", "group_id": None, "metadata": None},
        agents_span(1, {"type": "agent", "name": "meteo", "handoffs": [], "tools": ["ls"], "output_type": "str"}),
        agents_span(2, {"type": "generation", "input": SECRET, "output": "abc", "model": "m", "usage": usage}),
        agents_span(3, {"type": "response", "response_id": "resp_1", "usage": usage}),
        agents_span(4, {"type": "function", "name": "ls", "input": "{}", "output": SECRET}, {"message": SECRET, "data": {"error": SECRET}}),
        agents_span(5, {"type": "handoff", "from_agent": "meteo", "to_agent": "writer"}),
        agents_span(6, {"type": "guardrail", "name": "safe", "triggered": False}),
        agents_span(7, {"type": "custom", "name": "turn", "data": {"turn": 1}}),
    ]  # fmt: skip
    path = tmp_path / "spans"
    path.write_text("\n".join(json.dumps(one) for one in records))
    found, tally, file = take(path)
    assert (file.format, tally.spans, len(tally.notes)) == ("openai-agents", 7, 1)
    assert [(x.kind, x.component, x.error) for x in found] == [
        ("agent", "meteo", ""), ("llm", "m", ""), ("llm", "response", ""), ("tool", "ls", "error"), ("other", "", ""),
        ("client", "", ""), ("workflow", "turn", ""),
    ]  # fmt: skip
    assert [(x.input_tokens, x.cached_tokens, x.output_tokens) for x in found[1:3]] == [(200, 90, 20)] * 2
    assert {x.parent for x in found[1:]} == {found[0].id}
    assert SECRET not in repr(found)


def test_calls_of_weave(tmp_path: Path) -> None:
    """What an operation is, its kind says, else its name; usage is summed in those above, and not taken there."""
    usage = {
        "m-2024": {
            "requests": 1,
            "prompt_tokens": 200,
            "completion_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 90},
        }
    }
    base: dict[str, Any] = {
        "project_id": "p",
        "trace_id": "t",
        **TIMES,
        "attributes": {"weave": {}},
        "summary": {"usage": usage},
        "output": None,
    }
    calls = [
        {**base, "id": "1", "parent_id": None, "op_name": "weave:///e/p/op/meteo:x", "attributes": {"weave": {"kind": "agent"}}, "inputs": {}},
        {**base, "id": "2", "parent_id": "1", "op_name": "weave:///e/p/op/openai.chat.completions.create:y", "inputs": {"model": "m", "messages": SECRET}},
        {**base, "id": "3", "parent_id": "1", "op_name": "weave:///e/p/op/ls:z", "attributes": {"weave": {"kind": "tool"}}, "inputs": {},
         "summary": {}, "exception": f"ValueError: {SECRET}"},
    ]  # fmt: skip
    path = tmp_path / "calls"
    path.write_text("\n".join(json.dumps(one) for one in calls))
    found, _, file = take(path)
    assert file.format == "weave"
    assert [(x.kind, x.component, x.error) for x in found] == [
        ("agent", "meteo", ""),
        ("llm", "m", ""),
        ("tool", "ls", "ValueError"),
    ]
    assert [(x.input_tokens, x.cached_tokens, x.output_tokens) for x in found[:2]] == [
        (None, None, None),
        (200, 90, 20),
    ]
    assert SECRET not in repr(found)
