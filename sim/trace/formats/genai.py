"""What the attributes of a span mean: one observation from the words of any convention for generative AI.

`observe` takes a span's fields, its attributes as a mapping from name to value, and its events. Contents are measured in bytes (UTF-8) and let
go. What the attributes leave open is taken from the span's name, and counted as a guess.

Input tokens include cached ones, as the conventions of OpenTelemetry have it. Some providers count them apart; where a span has more cached
than input tokens that is sure, and they are added, counted as a guess. Tokens of spans that are no calls of a model are sums of those inside.

Leaves out: prices; tokens by modality; links between spans; the names themselves (`genai_names`).
Checked: tests/test_trace_otlp.py.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/,
https://opentelemetry.io/docs/specs/otel/trace/exceptions/; of each framework in `genai_names`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..observation import Kind, Observation
from ..stamped import is_stamp
from ..tally import Tally
from .genai_names import BY_NAME, CALLED, FIRST_TOKEN, HUMAN, IN, KINDS, OUT, STAMP, by_class, by_vercel, role_of
from .values import error_type, first, iso_nanoseconds, mapping

__all__ = ["Event", "Fields", "Nested", "clean", "observe", "role_in", "size"]

LONGEST = 200
"""Characters kept of a name: longer ones are no names."""

CLIENT, PRODUCER = 3, 4
"""Numbers of OTLP's SpanKind for what calls out."""

_ROLES = {"INTERNAL": 1, "SERVER": 2, "CLIENT": CLIENT, "PRODUCER": PRODUCER, "CONSUMER": 5}

LATE = 3_600_000_000_000
"""How long (ns) after a span's end an answer may begin that is still its own: a span that ends when its stream is handed over."""

_METHOD = re.compile(r"\.(?:a?run|a?call|a?invoke|kickoff|forward|_\w+)$")
_PREPARES = re.compile(r".+\._prepare_\w+")
"""What is called of an agent, behind its name; and what comes before a call of a model."""


class Nested:
    """A list or a map as a wire format has it, undone only when its size or its value is asked for."""

    __slots__ = ()

    def bytes(self) -> int:
        """How many bytes its scalars and keys are."""
        raise NotImplementedError

    def plain(self) -> Any:
        """The value as lists, dicts and scalars."""
        raise NotImplementedError


@dataclass(slots=True)
class Fields:
    """A span's own fields. Times are ns since 1970, None where unknown; `failed` is its status; `role` OTLP's SpanKind, 0 if unknown.

    `said` is the type of error that its status message begins with (`values.error_in`), never the message.
    """

    trace: str
    id: str
    parent: str
    name: str
    start: int | None
    end: int | None
    process: str = ""
    session: str = ""
    agent: str = ""
    failed: bool = False
    role: int = 0
    said: str = ""


Event = tuple[str, int | None, Mapping[str, Any]]
"""An event of a span: its name, its time (ns since 1970) and its attributes."""


def observe(span: Fields, attributes: Mapping[str, Any], events: Iterable[Event], tally: Tally) -> Observation | None:
    """The observation that a span is, or None where it is no span of its own; what was guessed or left out is counted in the tally."""
    found, sizes, stamp = _sorted_out(attributes)
    if "asked" in found:
        found["model"] = found["asked"]
    if found.get("pending") == "pending_span":
        tally.note("dropped", "placeholders of spans that were still running")
        return None
    if is_stamp(stamp):
        tally = Tally()  # an export says itself what its spans are: nothing of it is guessed
    raised, began = _from_events(events, sizes)
    kind, of = _kind(found, span, tally)
    one = Observation(span.trace, span.id, span.parent, kind, clean(span.name), "", span.start, span.end, span.process)
    one.component = clean(_component(kind, found, of, one.name))
    one.session = clean(_text(found.get("session"))) or span.session
    one.agent = clean(_text(found.get("agent"))) or (one.component if kind == "agent" else span.agent)
    one.error = _error(found, span, raised, kind)
    if kind in ("llm", "embedding"):
        _tokens(one, found, tally)
        one.first_token = _first_token(one, found, began, tally)
    for way, most in sizes.items():
        if way[0] == IN:
            one.input_bytes = max(one.input_bytes or 0.0, float(most))
        else:
            one.output_bytes = max(one.output_bytes or 0.0, float(most))
    one.stamp = stamp or None
    return one


def _sorted_out(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[tuple[str, str], int], dict[str, Any]]:
    """What a span's attributes say: the value of each word, bytes of contents by way and family, and stamps."""
    found: dict[str, Any] = {}
    ranks: dict[str, int] = {}
    sizes: dict[tuple[str, str], int] = {}
    stamp: dict[str, Any] = {}
    for name, value in attributes.items():
        role = role_of(name)
        if role is None or value is None:
            continue
        word, rank = role
        if isinstance(rank, int):
            if value != "" and (word not in found or rank < ranks[word]):
                found[word] = value
                ranks[word] = rank
        elif word == STAMP:
            stamp[rank] = value.plain() if isinstance(value, Nested) else value
        else:
            sizes[word, rank] = sizes.get((word, rank), 0) + size(value)
    return found, sizes, stamp


_MESSAGES = {
    "gen_ai.system.message": IN,
    "gen_ai.user.message": IN,
    "gen_ai.assistant.message": IN,
    "gen_ai.tool.message": IN,
    "gen_ai.content.prompt": IN,
    "gen_ai.choice": OUT,
    "gen_ai.content.completion": OUT,
}


def _from_events(events: Iterable[Event], sizes: dict[tuple[str, str], int]) -> tuple[str, int | None]:
    """The type of an exception among a span's events and the time of its first piece of answer; sizes of messages are added to `sizes`."""
    raised, first = "", None
    for name, at, attributes in events:
        if name == "exception":
            raised = error_type(attributes.get("exception.type")) or "error"
        elif name in FIRST_TOKEN:
            if at is not None and (first is None or at < first):
                first = at
        elif name in _MESSAGES:
            way = _MESSAGES[name], "events"
            sizes[way] = sizes.get(way, 0) + sum(size(value) for value in attributes.values())
        elif name.startswith("gen_ai."):
            for key, value in _sorted_out(attributes)[1].items():
                sizes[key] = sizes.get(key, 0) + value
    return raised, first


# ---------------------------------------------------------------------------------------------------------------------
# What it is, and of what
# ---------------------------------------------------------------------------------------------------------------------
def _kind(found: dict[str, Any], span: Fields, tally: Tally) -> tuple[Kind, str]:
    """A span's kind, and what its name says it is of."""
    named = _by_name(span.name)
    of = named[1] if named else ""
    kind = _by_attributes(found)
    if kind == "llm" and _PREPARES.fullmatch(span.name[:LONGEST]):
        tally.note("guessed", "spans that prepare a call of a model, by their names: none themselves")
        return "other", of
    if kind is None:
        kind, basis = _guess(found, span.name, named)
        if kind is None:
            kind = _elsewhere(found, span.role)
            basis = "calls of databases: taken as retrieval" if kind == "retriever" else ""
        elif kind == "agent" and not of:
            of = span.name.removesuffix(" run")
        if basis:
            tally.note("guessed", basis)
    if kind in ("tool", "other") and HUMAN.fullmatch(_text(found.get("tool")) or of or span.name[:LONGEST]):
        tally.note("guessed", "tools behind which a person answers, by their names")
        return "human", of
    return kind, of


def _guess(found: dict[str, Any], name: str, named: tuple[Kind, str] | None) -> tuple[Kind | None, str]:
    """A span's kind where no attribute names it, and on what basis; None where nothing tells."""
    if named is not None:
        return named[0], "kinds of spans taken from their names"
    if "tool" in found:
        return "tool", "kinds of spans taken from the tool or model they name"
    if "class" in found:
        return by_class(_text(found["class"])), "kinds of spans taken from the class of the component"
    if name.endswith(" run") and ("agent" in found or "model" in found):
        return "agent", "kinds of spans taken from their names"  # some frameworks sum the tokens of its calls here
    if "model" in found and ("input" in found or "output" in found or "total" in found):
        return "llm", "kinds of spans taken from the tool or model they name"
    return None, ""


def _by_attributes(found: dict[str, Any]) -> Kind | None:
    for word, values in KINDS:
        value = found.get(word)
        if isinstance(value, str) and len(value) < LONGEST:
            kind = values.get(value.strip(' "').lower().replace(".", "_").replace(" ", "_").replace("-", "_"))
            if kind is not None:
                return kind
    if "mcp" in found:
        return "client"
    value = found.get("vercel")
    return by_vercel(value) if isinstance(value, str) and value.startswith("ai.") else None


def _elsewhere(found: dict[str, Any], role: int) -> Kind:
    """A span of no convention for generative AI: a database, another service, or what only its author knows."""
    if "db" in found:
        return "retriever"
    if "message" in found:
        return "other"
    outgoing = role in (CLIENT, PRODUCER) or (role == 0 and "remote" in found)
    return "client" if outgoing else "other"


@lru_cache(maxsize=4096)
def _by_name(name: str) -> tuple[Kind, str] | None:
    if len(name) > LONGEST:
        return None
    for pattern, kind in BY_NAME:
        match = pattern.fullmatch(name)
        if match is not None:
            return kind, (match.groupdict().get("of") or "").strip()
    return None


def _component(kind: Kind, found: dict[str, Any], of: str, name: str) -> str:
    """The model, tool, agent or peer: from an attribute, else from the span's name."""
    if kind == "other":
        return ""
    if kind in ("llm", "embedding") and "asked" not in found and "parameters" in found:
        asked = _model_in(found["parameters"])
        if asked:
            return asked
    for word in CALLED[kind]:
        value = _text(found.get(word))
        if value:
            return value
    if kind in ("llm", "embedding"):
        return of or _text(found.get("provider")) or name
    if kind == "agent":
        return of or _METHOD.sub("", name) or name
    if kind == "tool":
        return of or name.removesuffix(".__call__")
    return of or ("" if kind == "client" else name)


def _model_in(parameters: Any) -> str:
    """The model among the parameters of a call, which are JSON in a string."""
    value = mapping(parameters)
    return _text(value.get("model") or value.get("model_name") or value.get("model_id"))


def _error(found: dict[str, Any], span: Fields, raised: str, kind: Kind) -> str:
    """The type of what went wrong, '' where nothing did; an exception that the span outlived is none."""
    if "error" in found:
        return error_type(found["error"]) or "error"
    if span.failed or found.get("level") == "ERROR":
        return raised or span.said or "error"
    if _text(found.get("status")).lower() == "error" or found.get("failed") in (True, "true", "True"):
        return "tool_error"
    code = first(found.get("http"))
    if kind == "client" and code is not None and 400 <= code < 600:
        return f"{code:.0f}"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# How much
# ---------------------------------------------------------------------------------------------------------------------
def _tokens(one: Observation, found: dict[str, Any], tally: Tally) -> None:
    """Enter the tokens of a call of a model."""
    _undo_usage(found)
    amounts: dict[str, float | None] = {}
    for word in ("input", "cached", "written", "output", "total"):
        amounts[word] = first(found.get(word))
        if word in found and amounts[word] is None:
            tally.note("noted", "counts of tokens that are no counts, left out")
    new, cached, output = amounts["input"], amounts["cached"], amounts["output"]
    if new is None and amounts["total"] is not None and (output is not None or one.kind == "embedding"):
        new = max(0.0, amounts["total"] - (output or 0.0))
        tally.note("guessed", "input tokens taken from the total")
    written = amounts["written"] or 0.0
    if new is not None and cached is not None and cached + written > new:
        new += cached + written
        tally.note("guessed", "input tokens that left out the cached ones, which were added")
    one.input_tokens, one.cached_tokens, one.output_tokens = new, cached, output


def _undo_usage(found: dict[str, Any]) -> None:
    """Usage that stands in one attribute, as JSON: its counts for those that have no attribute of their own."""
    if "usage" not in found:
        return
    usage = mapping(found["usage"])
    for details in ("prompt_tokens_details", "input_tokens_details"):
        usage = {**mapping(usage.get(details)), **usage}
    for word, names in (
        ("input", ("input", "input_tokens", "prompt_tokens", "inputTokens")),
        ("cached", ("cache_read_input_tokens", "input_cached_tokens", "input_cache_read", "cached_tokens")),
        ("written", ("cache_creation_input_tokens", "input_cache_creation")),
        ("output", ("output", "output_tokens", "completion_tokens", "outputTokens")),
        ("total", ("total", "total_tokens")),
    ):
        for name in names:
            if name in usage:
                found.setdefault(word, usage[name])
                break


def _first_token(one: Observation, found: dict[str, Any], event: int | None, tally: Tally) -> int | None:
    """When the first piece of the answer came (ns since 1970), or None; one that lies outside of the span is left out."""
    if one.start is None:
        return None
    at = event
    seconds, milliseconds = first(found.get("first_s")), first(found.get("first_ms"))
    if seconds is None and milliseconds is None and "first_any" in found:
        seconds = _either_unit(one, found["first_any"], tally)
    if seconds is not None:
        at = one.start + round(min(seconds, 1e9) * 1e9)
    elif milliseconds is not None:
        at = one.start + round(min(milliseconds, 1e12) * 1e6)
    elif "first_at" in found:
        at = iso_nanoseconds(_text(found["first_at"]))
    if event is not None and one.end is not None and one.end < event <= one.end + LATE and at == event:
        one.end = event
        tally.note("repaired", "ended before the answer began that it names: it lasts until then")
    if at is not None and (at < one.start or (one.end is not None and at > one.end)):
        tally.note("noted", "times of first tokens outside of their spans, left out")
        return None
    return at


def _either_unit(one: Observation, value: Any, tally: Tally) -> float | None:
    """Seconds of an attribute that some write in seconds, as the metric of its name is, and some in whole milliseconds."""
    amount = first(value)
    if amount is None:
        return None
    tally.note("guessed", "units of times to the first token, by what fits into the span")
    whole = isinstance(value, int) or (isinstance(value, str) and value.isdigit())
    lasted = (one.end - one.start) / 1e9 if one.end is not None and one.start is not None else math.inf
    return amount / 1e3 if whole or amount > lasted else amount


def size(value: Any) -> int:
    """Bytes of a value: of text in UTF-8, of bytes as they are, of a list or map those of its scalars and keys."""
    total, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            total += len(one) if one.isascii() else len(one.encode("utf-8", "replace"))
        elif isinstance(one, Nested):
            total += one.bytes()
        elif isinstance(one, bytes):
            total += len(one)
        elif isinstance(one, Mapping):
            left.extend(one.keys())
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
        elif one is not None:
            total += len(str(one)) if not isinstance(one, int) or -(1 << 64) < one < 1 << 64 else 20
    return total


# ---------------------------------------------------------------------------------------------------------------------
# Texts
# ---------------------------------------------------------------------------------------------------------------------
def clean(name: str) -> str:
    """A name as it may be stored and shown: short, printable, valid UTF-8."""
    if name.isascii() and name.isprintable() and len(name) <= LONGEST:
        return name
    name = name[:LONGEST].encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else " " for letter in name).strip()


def _text(value: Any) -> str:
    """A value that is a name; '' for what cannot be one."""
    if isinstance(value, str):
        return value.strip(' "')  # some write names as JSON
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64 else ""


def role_in(kind: Any) -> int:
    """OTLP's number of a span's kind, from that or from a word, as `SPAN_KIND_CLIENT`, `SpanKind.CLIENT` or `client`; 0 for what is neither."""
    if isinstance(kind, int):
        return kind
    return _ROLES.get(kind.rpartition("_")[2].rpartition(".")[2].upper(), 0) if isinstance(kind, str) else 0
