"""Spans as two SDKs keep them: the OpenAI Agents SDK (what its spans export, as its processors of traces get them) and calls of W&B Weave.

Both say when a span began and ended as `started_at` and `ended_at`. The Agents SDK says what a span is in `span_data`; Weave in
`attributes.weave.kind`, else the name of the function tells, counted as a guess.

Leaves out: records of whole traces, which have no times; prices and feedback. A response of the Agents SDK does not say its model.
Checked: tests/test_trace_sdk.py.
Source: https://openai.github.io/openai-agents-python/ref/tracing/ (Span.export, span_data);
https://docs.wandb.ai/weave/guides/tracking/call-schema-reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally
from .genai import Fields, observe
from .rows import Record, records
from .values import error_in, error_type, mapping, nanoseconds, text

__all__ = ["observations"]

_WITHIN = ("spans", "calls", "data")
_TYPES = {
    "generation": "llm",
    "response": "llm",
    "speech": "llm",
    "transcription": "llm",
    "function": "tool",
    "agent": "agent",
    "guardrail": "guardrail",
    "handoff": "decision",
    "turn": "chain",
    "task": "chain",
    "custom": "chain",
}
"""Types of `span_data`, in words of OpenInference."""
_KINDS = {"search": "retriever", "scorer": "evaluator"}
"""Kinds of Weave that OpenInference calls otherwise."""


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each span; records of whole traces are told of, and are none."""
    for place, record in records(stream, file, tally, _WITHIN):
        if record.get("object") == "trace":
            tally.note("noted", "records of whole traces, which have no times")
            continue
        tally.spans += 1
        if "started_at" not in record:
            tally.note("dropped", "records that are no spans: they never began", example=f"record {place}")
            continue
        data = mapping(record.get("span_data"))
        name = text(data.get("name")) or text(data.get("type")) or _operation(record)
        fields = Fields(
            trace=text(record.get("trace_id")),
            id=text(record.get("id")) or f"{file.name}:{place}",
            parent=text(record.get("parent_id")),
            name=name,
            start=nanoseconds(record.get("started_at")),
            end=nanoseconds(record.get("ended_at")),
            session=text(record.get("thread_id")),
        )
        found = observe(fields, _of_agents(record, data) if data else _of_weave(record), (), tally)
        if found is not None:
            file.spans += 1
            yield found


def _of_agents(record: Record, data: Record) -> dict[str, Any]:
    """What a span of the Agents SDK says, as attributes."""
    kind, name = text(data.get("type")), text(data.get("name"))
    found: dict[str, Any] = {
        "openinference.span.kind": _TYPES.get(kind, ""),
        "gen_ai.request.model": text(data.get("model")) or None,
        "langfuse.observation.usage_details": mapping(data.get("usage")) or None,
        "error.type": error_type(record.get("error")) or None,
    }
    found["gen_ai.agent.name" if kind == "agent" else "gen_ai.tool.name" if kind == "function" else "name"] = name
    return _with_contents(found, data.get("input"), data.get("output"))


def _of_weave(record: Record) -> dict[str, Any]:
    """What a call of Weave says, as attributes; usage is summed in what encloses calls of models, and left there."""
    inputs, usage = mapping(record.get("inputs")), mapping(mapping(record.get("summary")).get("usage"))
    spent = [mapping(one) for one in usage.values()]
    kind = text(mapping(mapping(record.get("attributes")).get("weave")).get("kind"))
    found: dict[str, Any] = {
        "openinference.span.kind": _KINDS.get(kind, kind),
        "gen_ai.request.model": text(inputs.get("model")) or None,
        "gen_ai.response.model": next(iter(usage), None) if len(usage) == 1 else None,
        "langfuse.observation.usage_details": spent[0] if len(spent) == 1 else None,
        "error.type": error_in(record.get("exception")) or None,
    }
    return _with_contents(found, record.get("inputs"), record.get("output"))


def _operation(record: Record) -> str:
    """The name of a function that Weave refers to as `weave:///TEAM/PROJECT/op/NAME:HASH`."""
    return text(record.get("op_name")).rpartition("/")[2].partition(":")[0]


def _with_contents(found: dict[str, Any], given: Any, answer: Any) -> dict[str, Any]:
    if given:
        found["langfuse.observation.input"] = given
    if answer:
        found["langfuse.observation.output"] = answer
    return found
