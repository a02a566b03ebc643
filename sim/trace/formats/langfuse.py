"""Langfuse observations: exports of a trace with its observations, lists of them, pages of the API, JSON lines and tables.

Fields are read in camel case and in snake case. What Langfuse kept of the attributes of a span (`metadata.attributes`) says more of its kind than
the type does: tools of several frameworks are plain spans there.
Leaves out: scores, prices, prompts; the trace itself, which is no span.
Checked: tests/test_trace_formats.py, with the traces of ten frameworks.
Source: https://langfuse.com/docs/observability/data-model; https://api.reference.langfuse.com (ObservationsView);
https://langfuse.com/docs/observability/features/token-and-cost-tracking (usage details are apart from each other, and `total` is all).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO

from ..observation import Observation
from ..tally import FileTally, Tally
from .genai import Event, Fields, observe
from .otlp import resource_of
from .rows import Record, records
from .values import error_in, first, mapping, nanoseconds, number, text

__all__ = ["observations"]

_WITHIN = ("observations", "data", "items")
_KEPT = ("trace.id", "trace.sessionId", "trace.session_id", "sessionId", "session_id", "id")
_NO_TOKENS = ("CHARACTERS", "MILLISECONDS", "SECONDS", "IMAGES", "REQUESTS")
_EVENT = re.compile(r"(?P<of>.+)\.(?P<what>start|finish|success|error|retry|update|partial_update|new_token|run)-\d+")
"""Names that the emitter of BeeAI gives: each event is a span that stays open until the whole run ends."""

_CACHED = (
    "input_cached_tokens", "input_cache_read", "cache_read_input_tokens", "input_cached", "cached_tokens", "cache_read", "cached",
    "prompt_details.cache_read", "input_cache_read_input_tokens", "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens",
    "cachedInputTokens", "input_details.cache_read", "cached_input_tokens", "input_cache_read_tokens", "prompt_cached_tokens",
)  # fmt: skip
_WRITTEN = (
    "cache_creation_input_tokens", "input_cache_creation", "input_cache_write", "input_cache_creation_input_tokens",
    "prompt_details.cache_write", "cache_write_input_tokens", "input_cache_write_tokens",
)  # fmt: skip
_INPUT = ("input", "input_tokens", "promptTokens", "prompt_tokens", "inputTokens")
_OUTPUT = ("output", "output_tokens", "completionTokens", "completion_tokens", "outputTokens")

EVENTS = "spans of a framework's events (`finish`, `update`), which are no calls"
LANGGRAPH = "spans inside of LangGraph's node of tools, taken for tools"
NO_ID = "spans without an id, which were given one"


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each observation. `tally.spans` counts those that cannot be used as well."""
    for place, record in records(stream, file, tally, _WITHIN, _KEPT):
        tally.spans += 1
        if not _is_observation(record):
            tally.note("dropped", "records that are no observations", example=f"record {place}")
            continue
        found = _observation(record, place, file, tally)
        if found is not None:
            file.spans += 1
            yield found


def _is_observation(record: Record) -> bool:
    return any(
        key in record for key in ("startTime", "start_time", "type", "parentObservationId", "parent_observation_id")
    )


def _get(record: Record, camel: str) -> Any:
    """A field in either spelling; camel case is that of the API."""
    found = record.get(camel)
    return found if found is not None else record.get(_snake(camel))


@lru_cache(maxsize=256)
def _snake(camel: str) -> str:
    return re.sub(r"[A-Z]", lambda hit: "_" + hit.group().lower(), camel)


def _observation(record: Record, place: int, file: FileTally, tally: Tally) -> Observation | None:
    metadata = mapping(record.get("metadata"))
    attributes = _attributes(record, metadata)
    name = text(record.get("name"))
    mark = text(record.get("id"))
    if not mark:
        mark = f"{file.name}:{place}"
        tally.note("repaired", NO_ID)
    trace = text(_get(record, "traceId")) or text(record.get("^trace.id")) or text(record.get("^id"))
    fields = Fields(
        trace=trace,
        id=mark,
        parent=text(_get(record, "parentObservationId")),
        name=name,
        start=nanoseconds(_get(record, "startTime")),
        end=_end_of(record),
        process=resource_of(mapping(metadata.get("resourceAttributes"))).process,
        session=_session(record, metadata),
        said=error_in(_get(record, "statusMessage")),
    )
    event = _EVENT.fullmatch(name) if "openinference.span.kind" in attributes else None
    if event is not None:
        fields.name = event["of"]
    _name_the_kind(attributes, fields.name, metadata, tally)
    found = observe(fields, attributes, _events(record), tally)
    if found is not None and event is not None:
        _as_event(found, event, name, tally)
    return found


def _end_of(record: Record) -> int | None:
    """When it ended (ns). An event of Langfuse is a moment."""
    end = _get(record, "endTime")
    if end is None and text(record.get("type")).upper() == "EVENT":
        end = _get(record, "startTime")
    return nanoseconds(end)


def _as_event(found: Observation, event: re.Match[str], name: str, tally: Tally) -> None:
    """Give a span of BeeAI's emitter the name it had; only that of a start is of a call."""
    found.name = name
    if event["what"] != "start":
        found.kind, found.component = "other", ""
        found.input_tokens = found.cached_tokens = found.output_tokens = None
        tally.note("guessed", EVENTS)
    elif found.kind == "tool":
        found.component = found.component.removeprefix("tool.")


def _attributes(record: Record, metadata: Record) -> dict[str, Any]:
    """Return what Langfuse says of a span as attributes, besides those that it kept."""
    kept = dict(mapping(metadata.get("attributes")))
    for key, value in metadata.items():
        if "." in key:  # some exports have the attributes beside the other metadata
            kept.setdefault(key, value)
    given = text(record.get("type")).upper()
    if given not in ("", "SPAN", "EVENT") and not _is_vercel(kept):
        kept["langfuse.observation.type"] = given.lower()
    model = text(_get(record, "model")) or text(_get(record, "providedModelName"))
    if model:
        kept["gen_ai.response.model"] = model
    if text(record.get("level")).upper() == "ERROR":
        kept["langfuse.observation.level"] = "ERROR"
    for side in ("input", "output"):
        if record.get(side) is not None:
            kept[f"langfuse.observation.{side}"] = record[side]
    if given in ("", "GENERATION", "EMBEDDING"):
        kept.update(_usage(record))
    elif given == "SPAN":  # a span that sums up those inside is no call of a model
        kept.pop("model_name", None)
    return kept


def _is_vercel(attributes: dict[str, Any]) -> bool:
    """The AI SDK says itself which of its spans are calls, and which are loops around them."""
    return text(attributes.get("ai.operationId")).startswith("ai.")


def _name_the_kind(attributes: dict[str, Any], name: str, metadata: Record, tally: Tally) -> None:
    """Add the kind of spans that frameworks leave plain, where the file tells it."""
    if any(
        key in attributes for key in ("gen_ai.operation.name", "openinference.span.kind", "langfuse.observation.type")
    ):
        return
    agent = text(attributes.get("gen_ai.agent.name")) or text(attributes.get("agent_name"))
    if agent and name in (f"{agent} run", "agent run", agent):
        attributes["gen_ai.operation.name"] = "invoke_agent"
        return
    node = text(metadata.get("langgraph_node"))
    called = "inputs" in metadata and "color" in metadata
    if node and name != node and (called or node == "tools"):
        attributes["gen_ai.operation.name"] = "execute_tool"
        tally.note("guessed", LANGGRAPH)


def _usage(record: Record) -> dict[str, float]:
    """Return tokens as attributes: all input, what of it was cached, output."""
    usage: Record = {}
    for source in ("usage", "usageDetails", "usage_details"):
        usage.update(_flat(mapping(record.get(source))))
    if text(usage.get("unit")).upper() in _NO_TOKENS:
        return {}
    for key in (
        "promptTokens",
        "completionTokens",
        "totalTokens",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
    ):
        if number(record.get(key)) is not None:
            usage.setdefault(key, record[key])
    if not usage:
        return {}
    given, output = first(*(usage.get(key) for key in _INPUT)), first(*(usage.get(key) for key in _OUTPUT))
    total = first(usage.get("total"), usage.get("totalTokens"), usage.get("total_tokens"))
    cached = first(*(usage.get(key) for key in _CACHED))
    apart = _parts(usage, "input"), _parts(usage, "output")
    if given is not None and total is not None and given + (output or 0.0) == total:
        pass  # what is apart is already in
    elif given is None and not any(apart):
        pass
    elif total is None or (given or 0.0) + (output or 0.0) + sum(apart) == total:
        given = (given or 0.0) + apart[0]
        output = output + apart[1] if output is not None else output
    said = {"input_tokens": given, "cache_read.input_tokens": cached, "output_tokens": output}
    return {f"gen_ai.usage.{word}": value for word, value in said.items() if value is not None}


def _flat(usage: Record) -> Record:
    """Return usage with what stands one level below under a path."""
    flat: Record = {}
    for key, value in usage.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{part}": amount for part, amount in value.items()})
        else:
            flat[key] = value
    return flat


def _parts(usage: Record, side: str) -> float:
    """Return tokens that Langfuse keeps beside `input` or `output`; a key with a dot is a detail of what is counted already."""
    found = 0.0
    for key, value in usage.items():
        if key in _INPUT or key in _OUTPUT or "." in key:
            continue
        ours = key.startswith(f"{side}_") or (side == "input" and key in (*_CACHED, *_WRITTEN))
        found += (first(value) or 0.0) if ours else 0.0
    return found


def _events(record: Record) -> Iterator[Event]:
    """Give the first token, if the file says when it came, as an event."""
    at, start, end = (nanoseconds(_get(record, key)) for key in ("completionStartTime", "startTime", "endTime"))
    waited = first(_get(record, "timeToFirstToken"))
    if at is None and waited is not None and start is not None and end is not None:
        # The public API has it in seconds, exports of the web page in milliseconds: the one that fits into the span holds.
        at = start + round(waited * (1e9 if waited * 1e9 <= end - start else 1e6))
    if at is not None:
        yield "first_token", at, {}


def _session(record: Record, metadata: Record) -> str:
    for value in (
        _get(record, "sessionId"), record.get("^trace.sessionId"), record.get("^trace.session_id"), record.get("^sessionId"),
        record.get("^session_id"), metadata.get("thread_id"),
    ):  # fmt: skip
        if text(value):
            return text(value)
    return ""
