"""LangSmith runs: lists, JSON lines, `{runs: [...]}`, tables, and runs with their `child_runs` inside.

Leaves out: feedback, prices, and examples of data sets.
Checked: tests/test_trace_formats.py.
Source: https://docs.langchain.com/langsmith/run-data-format; https://api.smith.langchain.com/redoc (RunSchema);
https://python.langchain.com/api_reference/core/messages/langchain_core.messages.ai.UsageMetadata.html (input tokens include those read from a cache).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally
from .genai import Event, Fields, observe
from .rows import Record, records
from .values import LONGEST, error_in, first, mapping, nanoseconds, objects, text

__all__ = ["observations"]

_WITHIN = ("runs", "data", "rows")
_THREADS = ("thread_id", "session_id", "conversation_id")

NO_ID = "runs without an id, which were given one"


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each run, those inside of runs too."""
    for place, record in records(stream, file, tally, _WITHIN):
        pending: list[tuple[Record, str, str]] = [(record, "", "")]
        while pending:
            run, trace, parent = pending.pop()
            tally.spans += 1
            if not any(key in run for key in ("run_type", "start_time", "dotted_order")):
                tally.note("dropped", "records that are no runs", example=f"record {place}")
                continue
            metadata = {**mapping(run.get("metadata")), **mapping(mapping(run.get("extra")).get("metadata"))}
            fields = _fields(run, metadata, trace, parent)
            if not fields.id:
                fields.id = f"{file.name}:{place}:{tally.spans}"
                tally.note("repaired", NO_ID)
            fields.trace = fields.trace or fields.id
            pending.extend((one, fields.trace, fields.id) for one in reversed(objects(run.get("child_runs"))))
            found = observe(fields, _attributes(run, metadata, fields.name), _events(run), tally)
            if found is not None:
                file.spans += 1
                yield found


def _fields(run: Record, metadata: Record, trace: str, parent: str) -> Fields:
    """Return a run's own fields; what is missing is taken from its dotted order, the ids of all runs above it."""
    order = text(run.get("dotted_order"))
    above = (
        [part.rpartition("Z")[2] for part in order.split(".") if part] if len(order) < LONGEST else []
    )  # else it is cut
    runtime = mapping(mapping(run.get("extra")).get("runtime"))
    return Fields(
        trace=text(run.get("trace_id")) or trace or (above[0] if above else ""),
        id=text(run.get("id")) or text(run.get("run_id")) or (above[-1] if above else ""),
        parent=text(run.get("parent_run_id")) or parent or (above[-2] if len(above) > 1 else ""),
        name=text(run.get("name")),
        start=nanoseconds(run.get("start_time")),
        end=nanoseconds(run.get("end_time")),
        process=text(runtime.get("platform")),
        session=next((text(metadata[key]) for key in _THREADS if text(metadata.get(key))), text(run.get("thread_id"))),
    )


def _attributes(run: Record, metadata: Record, name: str) -> dict[str, Any]:
    extra, outputs = mapping(run.get("extra")), mapping(run.get("outputs"))
    kind = text(run.get("run_type")).lower()
    found: dict[str, Any] = {"langsmith.span.kind": kind}
    if kind in ("llm", "embedding"):
        model = _model(run, extra, metadata, outputs)
        found.update({"gen_ai.response.model": model} if model else {})
        found.update(_usage(run, metadata, outputs))
    elif kind in ("tool", "retriever"):
        found["gen_ai.tool.name"] = name
    failed = error_in(run.get("error"))
    if failed or text(run.get("status")).lower() == "error":
        found["error.type"] = failed or "error"
    for side, content in (("inputs", "input.value"), ("outputs", "output.value")):
        if run.get(side):
            found[content] = run[side]
    return found


def _model(run: Record, extra: Record, metadata: Record, outputs: Record) -> str:
    parameters = mapping(extra.get("invocation_params"))
    for value in (
        metadata.get("ls_model_name"), parameters.get("model"), parameters.get("model_name"), mapping(outputs.get("llm_output")).get("model_name"),
        outputs.get("model"), run.get("model_name"), parameters.get("model_id"), mapping(extra.get("options")).get("model"), metadata.get("model"),
        mapping(mapping(run.get("serialized")).get("kwargs")).get("model"), mapping(mapping(run.get("serialized")).get("kwargs")).get("model_name"),
    ):  # fmt: skip
        if text(value):
            return text(value)
    return ""


def _usage(run: Record, metadata: Record, outputs: Record) -> dict[str, float]:
    """Return tokens as attributes; where several places say them, the one that tells cached tokens apart holds."""
    found: list[Record] = [
        mapping(outputs.get("usage_metadata")),
        mapping(run.get("usage_metadata")),
        mapping(metadata.get("usage_metadata")),
    ]
    found.append(_from_message(outputs))
    found += [mapping(mapping(outputs.get("llm_output")).get("token_usage")), mapping(outputs.get("usage"))]
    found.append({key: run.get(key) for key in ("prompt_tokens", "completion_tokens", "prompt_token_details")})
    said: dict[str, float] = {}
    for usage in found:
        details = [
            mapping(usage.get(key))
            for key in ("input_token_details", "prompt_tokens_details", "prompt_token_details", "input_tokens_details")
        ]
        cached = first(
            *(one.get(key) for one in details for key in ("cache_read", "cached_tokens")),
            usage.get("cache_read_input_tokens"),
        )
        amounts = {
            "input_tokens": first(usage.get("input_tokens"), usage.get("prompt_tokens")),
            "cache_read.input_tokens": cached,
            "output_tokens": first(usage.get("output_tokens"), usage.get("completion_tokens")),
        }
        for word, amount in amounts.items():
            if amount is not None:
                said.setdefault(f"gen_ai.usage.{word}", amount)
    return said


def _from_message(outputs: Record) -> Record:
    """Return the usage in the first message of the first generation."""
    found: Any = outputs.get("generations")
    while isinstance(found, list):
        found = found[0] if found else None
    message = mapping(mapping(found).get("message"))
    return mapping(mapping(message.get("kwargs")).get("usage_metadata")) or mapping(message.get("usage_metadata"))


def _events(run: Record) -> Iterator[Event]:
    """Give the time of the first token, which is a field of its own or among the events."""
    at = nanoseconds(run.get("first_token_time"))
    if at is not None:
        yield "first_token", at, {}
        return
    for one in objects(run.get("events")):
        if one.get("name") == "new_token":
            yield "new_token", nanoseconds(one.get("time")), {}
            return
