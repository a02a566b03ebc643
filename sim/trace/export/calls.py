"""The calls of a task that is exported, each whole: a ledger cuts a call where it comes onto the critical path or leaves it.

Calls of measured tasks are known, and their spans are found; those of simulated tasks follow from the spans. `Whole.carrier` is the span that
is as long as the call, if there is one; otherwise the call is cut in several, or has no time of its own.

Leaves out: what formats make of it.
Checked: tests/test_trace_roundtrip.py, tests/test_trace_export.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...engine.ledger import STRUCTURE, Span
from ..measured import Call
from ..observation import Kind
from . import ExportTask, Tokens

__all__ = ["GROUPS", "Whole", "agent_of", "is_turn", "joined", "wholes_of"]

GROUPS: Final[Mapping[str, Kind]] = {
    "chat": "llm",
    "embeddings": "embedding",
    "execute_tool": "tool",
    "retrieval": "retriever",
}
"""What a span that groups others is a call of, by its name."""

_MODELS = ("llm", "embedding")
_LEAVES = ("inference", "tool", "human")
_Place = tuple[int, int, str, str, str]


@dataclass(frozen=True, slots=True)
class Whole:
    """A call, its place among those of the task, and the spans that are its time: one, several that follow each other, or none."""

    place: int
    call: Call
    pieces: tuple[Span, ...]

    @property
    def carrier(self) -> Span | None:
        """The span that is the call itself, or None."""
        return self.pieces[0] if len(self.pieces) == 1 else None


def wholes_of(task: ExportTask) -> list[Whole]:
    """Return the calls of a task in order of start."""
    found = list(_derived(task)) if task.calls is None else list(_found(task.spans, task.calls))
    return [Whole(place, call, tuple(pieces)) for place, (call, pieces) in enumerate(found)]


def joined(spans: Sequence[Span], wholes: Iterable[Whole]) -> tuple[list[Span], dict[int, Span]]:
    """Return the spans with one for each call that was cut, and for each span's id the one that has its time."""
    made: dict[int, Span] = {}
    later: set[int] = set()
    for whole in wholes:
        if len(whole.pieces) > 1:
            first, last = whole.pieces[0], whole.pieces[-1]
            one = replace(
                first,
                end=last.end,
                size=math.fsum(piece.size for piece in whole.pieces),
                critical=any(piece.critical for piece in whole.pieces),
            )
            made |= dict.fromkeys((piece.id for piece in whole.pieces), one)
            later |= {piece.id for piece in whole.pieces[1:]}
    kept = [made.get(one.id, one) for one in spans if one.id not in later]
    owners = {one.id: made.get(one.id, one) for one in spans}
    return (sorted(kept, key=lambda one: (one.start, -one.end, one.id)) if made else kept), owners


def agent_of(span: Span, by_id: Mapping[int, Span]) -> str:
    """Return the agent inside of whose turn a span lies, '' for none."""
    at: Span | None = span
    while at is not None and not is_turn(at):
        at = by_id.get(at.parent)
    return "" if at is None else at.component


def is_turn(span: Span) -> bool:
    """Whether a span is a turn of an agent."""
    return span.category == STRUCTURE and span.name == "invoke_agent"


# ---------------------------------------------------------------------------------------------------------------------
# Of measured tasks


def _found(spans: Sequence[Span], calls: Sequence[Call]) -> Iterator[tuple[Call, list[Span]]]:
    """Yield the calls with their spans: one that groups others, or pieces without a gap in one lane."""
    groups: dict[tuple[Kind, str, float], list[Span]] = {}
    starts: dict[tuple[str, float], list[Span]] = {}
    follows: dict[tuple[_Place, float], Span] = {}
    for one in reversed(spans):
        if one.category == STRUCTURE and one.name in GROUPS:
            groups.setdefault((GROUPS[one.name], one.component, one.start), []).append(one)
        elif one.category in _LEAVES:
            starts.setdefault((one.component, one.start), []).append(one)
            follows[_place(one), one.start] = one
    taken: set[int] = set()
    found: list[list[Span]] = []
    for call in calls:  # those that end with their group first, so that no other call takes it
        exact = [one for one in reversed(groups.get(_begin(call), [])) if one.end == call.end and one.id not in taken]
        found.append(exact[:1])
        taken |= {one.id for one in exact[:1]}
    for call, group in zip(calls, found, strict=True):
        pieces = group
        if not pieces:
            later = [
                one for one in reversed(groups.get(_begin(call), [])) if one.end > call.end and one.id not in taken
            ]
            if call.kind in _MODELS and later:
                pieces = later[:1]
            else:
                pieces = _chain(call, starts.get((call.component, call.start), []), follows, taken)
            taken |= {one.id for one in pieces}
        yield call, pieces


def _begin(call: Call) -> tuple[Kind, str, float]:
    return call.kind, call.component, call.start


def _chain(
    call: Call, starts: Sequence[Span], follows: Mapping[tuple[_Place, float], Span], taken: set[int]
) -> list[Span]:
    """Return spans that follow each other from the call's start to its end, none of which is another call's."""
    for one in reversed(starts):
        pieces: list[Span] = []
        at: Span | None = one
        while at is not None and at.id not in taken and at.end <= call.end:
            pieces.append(at)
            if at.end == call.end:
                return pieces
            at = follows.get((_place(one), at.end)) if at.end > at.start else None
    return []


def _place(span: Span) -> _Place:
    return span.lane, span.parent, span.category, span.component, span.name


# ---------------------------------------------------------------------------------------------------------------------
# Of simulated tasks


def _derived(task: ExportTask) -> Iterator[tuple[Call, list[Span]]]:
    """Yield the calls of models, tools and people in order of start. A turn begins with a call of a model."""
    by_id = {one.id: one for one in task.spans}
    turns: dict[str, int] = {}  # of each agent, the one that it is in
    turn, batch, until = -1, -1, -math.inf
    for kind, pieces in _calls_in(task.spans, by_id):
        one, end = pieces[0], pieces[-1].end
        agent = agent_of(one, by_id)
        if kind == "llm" or agent not in turns:
            turn += 1
            turns[agent] = turn
        if one.start >= until or kind == "llm":
            batch += 1
        until = end if kind == "llm" else max(until, end)
        yield _call(pieces, kind, agent, (turns[agent], batch), task.tokens.get(one.id)), pieces


def _calls_in(spans: Sequence[Span], by_id: Mapping[int, Span]) -> list[tuple[Kind, list[Span]]]:
    """Return the spans of each call, and what it is of; what holds a call of a model is none itself."""
    wrappers: set[int] = set()
    for one in spans:
        at = by_id.get(one.parent) if _kind(one, by_id) in _MODELS else None
        while at is not None and at.id not in wrappers:
            wrappers.add(at.id)
            at = by_id.get(at.parent)
    open_: dict[_Place, list[Span]] = {}
    found: list[tuple[Kind, list[Span]]] = []
    for one in sorted(spans, key=lambda one: (one.start, one.end, one.id)):
        kind = _kind(one, by_id)
        if kind is None or (kind in _MODELS and one.id in wrappers):
            continue
        before = open_.get(_place(one))
        cut = before and one.category != STRUCTURE and before[-1].critical != one.critical
        if before and cut and before[-1].end == one.start and before[-1].lost == one.lost:
            before.append(one)
        else:
            open_[_place(one)] = [one]
            found.append((kind, open_[_place(one)]))
    return found


def _kind(one: Span, by_id: Mapping[int, Span]) -> Kind | None:
    """Return what kind of call a span is, or None: what lies in a call is a detail of it."""
    if one.category == STRUCTURE:
        return GROUPS.get(one.name)
    holder = by_id.get(one.parent)
    if holder is not None and holder.category == STRUCTURE and holder.name in GROUPS:
        return None
    if one.category == "inference":
        return GROUPS.get(one.name, "llm" if one.name == one.category else "embedding")  # an encoder, a fusion
    if one.category == "human":
        return "human"
    return "tool" if one.name == "tool.execute" else None


def _call(pieces: Sequence[Span], kind: Kind, agent: str, place: tuple[int, int], tokens: Tokens | None) -> Call:
    one, nan = pieces[0], math.nan
    known = tokens or Tokens()
    cached = nan if known.cached is None else known.cached
    new = nan if known.input is None else known.input - (known.cached or 0.0)
    return Call(
        kind=kind,
        component=one.component,
        agent=agent,
        start=one.start,
        end=pieces[-1].end,
        turn=place[0],
        batch=place[1],
        new=new,
        cached=cached,
        output=nan if known.output is None else known.output,
        error="lost" if one.lost else "error" if one.error else "",
        retried=one.lost,
        critical=math.fsum(piece.end - piece.start for piece in pieces if piece.critical),
    )
