"""What the spans of a task are to each other: which are calls, which wrap calls, whose agent's, in which turn, tried again or not.

Leaves out: whose the time is (`book`).
Checked: tests/test_trace_book.py, tests/test_trace_read.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from .measured import Call, Sums
from .observation import CALLS, SECOND, Observation
from .path import covered
from .repair import ROOT, Tree
from .tally import Tally

__all__ = [
    "Roles",
    "Stubs",
    "Turn",
    "add",
    "add_sums",
    "calls_of",
    "in_seconds",
    "over",
    "roles_of",
    "turns_of",
    "union",
]

_MODEL: Final = ("llm", "embedding")
_TEAMS: Final = ("agent", "workflow")
_AMOUNTS: Final = ("input_tokens", "cached_tokens", "output_tokens", "first_token", "input_bytes", "output_bytes")
_FEW, _BYTES, _SECONDS = 2, 40, 1.0  # tokens of a stub; what more than this says otherwise


@dataclass(slots=True)
class Roles:
    """By position in the tree. `closed`: calls that hold no other call. `calls`: each call once, in order of start.

    `wrappers` are calls of models that hold one, `outer` calls of tools that hold the same tool's. `retried` names for each failed attempt
    the next one. `details` lie in a closed call. `same` names for each call of a tool in a call of that tool the one that counts. `works` are
    spans of unknown kind which hold nothing, and lie among the calls of an agent or a workflow.
    """

    closed: set[int] = field(default_factory=set)
    calls: list[int] = field(default_factory=list)
    wrappers: set[int] = field(default_factory=set)
    outer: set[int] = field(default_factory=set)
    retried: dict[int, int] = field(default_factory=dict)
    details: set[int] = field(default_factory=set)
    agents: list[str] = field(default_factory=list)
    inside: dict[int, int] = field(default_factory=dict)  # of calls that hold others: when the first of those begins
    same: dict[int, int] = field(default_factory=dict)
    works: set[int] = field(default_factory=set)
    order: list[int] = field(default_factory=list)  # as `Tree.downward` gives it


@dataclass(slots=True)
class Turn:
    """A call of a model, and what its agent did until the next: the positions of its calls, and times in ns."""

    agent: str
    start: int
    end: int
    calls: list[int]


def roles_of(tree: Tree, tally: Tally) -> Roles:
    """Tell what the spans are. A call of another service that holds nothing known is a call of a tool from then on."""
    size = len(tree.spans)
    order = list(tree.downward())
    roles = Roles(agents=[""] * size, order=order)
    holder = [ROOT] * size  # the call that it lies in
    _name_clients(tree, order, tally)
    grouped = bytearray(size)  # it lies in an agent or a workflow
    holds: set[int] = set()
    for at in order:
        span, parent = tree.spans[at], tree.parent[at]
        above = roles.agents[parent] if parent != ROOT else ""
        own = (span.component or span.name) if span.kind == "agent" else ""
        roles.agents[at] = own or span.agent or above
        if parent != ROOT:
            holder[at] = parent if tree.spans[parent].kind in CALLS else holder[parent]
            grouped[at] = grouped[parent] or tree.spans[parent].kind in _TEAMS
        if span.kind in CALLS and holder[at] != ROOT:
            _nest(tree, at, holder[at], roles)
            holds.add(holder[at])
    calls = {at for at in order if tree.spans[at].kind in CALLS}
    roles.closed = calls - holds
    roles.details = {at for at in order if at not in calls and holder[at] in roles.closed}
    roles.calls = sorted((at for at in calls - roles.wrappers - roles.same.keys()), key=lambda at: (tree.start[at], at))
    _complete(tree, holder, roles, tally)
    if roles.wrappers:
        tally.note("noted", "calls of a model that wrap another: counted once", spans=len(roles.wrappers))
    unknown = [at for at in order if tree.spans[at].kind == "other" and at not in tree.children]
    for at in unknown:
        if at not in roles.details:
            _name_unknown(tree, at, roles, calls and (grouped[at] or roles.agents[at]), tally)
    _find_retries(tree, roles)
    return roles


def _name_clients(tree: Tree, order: list[int], tally: Tally) -> None:
    """Take calls of other services for calls of tools, unless they hold what is known, or lie in a call."""
    clients = [at for at in order if tree.spans[at].kind == "client"]
    if not clients:
        return
    holds = bytearray(len(tree.spans))  # a call, an agent or a workflow
    for at in reversed(order):
        parent = tree.parent[at]
        if parent != ROOT and (holds[at] or tree.spans[at].kind in (*CALLS, *_TEAMS)):
            holds[parent] = 1
    within = bytearray(len(tree.spans))
    for at in order:
        span, parent = tree.spans[at], tree.parent[at]
        if parent != ROOT:  # what a model's span holds is how it was asked
            above = tree.spans[parent].kind
            within[at] = within[parent] or above in _MODEL or (above in CALLS and not holds[parent])
        if span.kind == "client" and not within[at] and not holds[at]:
            span.kind, span.component = "tool", span.component or span.name or "client"
            seconds = (tree.end[at] - tree.start[at]) / SECOND
            tally.note(
                "guessed",
                "calls of other services, evaluators and guardrails: taken as calls of tools",
                seconds=seconds,
            )


def _name_unknown(tree: Tree, at: int, roles: Roles, works: object, tally: Tally) -> None:
    """A span that says neither what it is nor what is in it: an agent's own work, or nothing that explains its time."""
    seconds = (tree.end[at] - tree.start[at]) / SECOND
    if works:
        roles.works.add(at)
        tally.note("guessed", "spans of unknown kind among an agent's calls: taken as its own work", seconds=seconds)
    else:
        tally.note("noted", "spans of unknown kind that no agent holds: their time is unexplained", seconds=seconds)


def _nest(tree: Tree, at: int, holder: int, roles: Roles) -> None:
    """A call lies in another."""
    span, outer = tree.spans[at], tree.spans[holder]
    roles.inside[holder] = min(roles.inside.get(holder, tree.start[at]), tree.start[at])
    if span.kind in _MODEL and outer.kind == span.kind:
        roles.wrappers.add(holder)
    if span.kind == outer.kind and span.kind in ("tool", "retriever") and span.component == outer.component:
        roles.outer.add(holder)
        roles.same[at] = roles.same.get(holder, holder)


def _complete(tree: Tree, holder: list[int], roles: Roles, tally: Tally) -> None:
    """What a call of a model leaves out, such as cached tokens, is taken from a span that wraps it alone."""
    held: dict[int, list[int]] = {}
    for at in roles.order if roles.wrappers else ():
        if holder[at] in roles.wrappers and tree.spans[at].kind == tree.spans[holder[at]].kind:
            held.setdefault(holder[at], []).append(at)
    for outer, calls in held.items():  # the outermost first
        one, other = tree.spans[calls[0]], tree.spans[outer]
        missing = [name for name in _AMOUNTS if getattr(one, name) is None and getattr(other, name) is not None]
        if len(calls) > 1 or not missing:
            continue
        for name in missing:
            setattr(one, name, getattr(other, name))
        if one.first_token is not None and not (one.start or 0) <= one.first_token <= (one.end or one.first_token):
            one.first_token = None
        tally.note("guessed", "what a call of a model leaves out: taken from the one that wraps it")


def _find_retries(tree: Tree, roles: Roles) -> None:
    """A failed call, and after it the same under the same parent, with no other call of that agent between."""
    last: dict[str, int] = {}
    for at in roles.calls:
        agent = roles.agents[at]
        before = last.get(agent)
        last[agent] = at
        if before is None or not tree.spans[before].error or tree.parent[before] != tree.parent[at]:
            continue
        one, other = tree.spans[before], tree.spans[at]
        if (one.kind, one.component) == (other.kind, other.component) and tree.end[before] <= tree.start[at]:
            roles.retried[before] = at


def turns_of(tree: Tree, roles: Roles) -> tuple[list[Turn], dict[int, tuple[int, int]]]:
    """Return the turns, and for each call its turn and batch: numbers from 0 over all agents of the task."""
    turns: list[Turn] = []
    places: dict[int, tuple[int, int]] = {}
    current: dict[str, tuple[int, int, int, bool]] = {}  # of an agent: turn, batch, until when, of models or not
    batches = 0
    for at in roles.calls:
        agent, start, end = roles.agents[at], tree.start[at], over(tree, roles, at)
        model = tree.spans[at].kind == "llm"
        turn, batch, until, was = current.get(agent, (-1, -1, start, not model))
        beside = turn >= 0 and start < until and model == was
        if turn < 0 or (model and not beside):
            turn = len(turns)
            turns.append(Turn(agent, start, end, []))
        if not beside:
            batch, batches = batches, batches + 1
        current[agent] = turn, batch, max(until, end) if beside else end, model
        turns[turn].calls.append(at)
        turns[turn].end = max(turns[turn].end, tree.end[at])
        places[at] = turn, batch
    return turns, places


def over(tree: Tree, roles: Roles, at: int) -> int:
    """When a call is over (ns); a model's that holds calls, and wraps none of a model, is over when the first of them begins."""
    inside = roles.inside.get(at)
    if inside is None or tree.spans[at].kind not in _MODEL or at in roles.wrappers:
        return tree.end[at]
    return min(max(inside, tree.start[at]), tree.end[at])


def calls_of(
    tree: Tree,
    roles: Roles,
    places: Mapping[int, tuple[int, int]],
    critical: Sequence[int],
    base: int,
    tally: Tally,
) -> list[Call]:
    """Return the calls in order of start, in seconds since `base` (ns); `critical` ns of each are on the critical path."""
    found = []
    inner: dict[int, int] = {}  # what the same tool's calls in it have on the path
    for at, outer in roles.same.items():
        inner[outer] = inner.get(outer, 0) + critical[at]
    for at in roles.calls:
        span, (turn, batch) = tree.spans[at], places[at]
        end = over(tree, roles, at)
        if end < tree.end[at]:
            tally.note(
                "guessed", "calls of a model that hold others are taken to be over when the first of those begins"
            )
        cached, new = _tokens(span, tally)
        found.append(
            Call(
                span.kind,
                span.component,
                roles.agents[at],
                (tree.start[at] - base) / SECOND,
                (end - base) / SECOND,
                turn,
                batch,
                new,
                cached,
                _known(span.output_tokens),
                math.nan if span.first_token is None else (span.first_token - (span.start or 0)) / SECOND,
                _known(span.input_bytes),
                _known(span.output_bytes),
                span.error,
                at in roles.retried,
                critical=(critical[at] + inner.get(at, 0)) / SECOND,
            )
        )
    return found


def _tokens(span: Observation, tally: Tally) -> tuple[float, float]:
    """Return the cached and the new tokens of what went in."""
    cached, total = _known(span.cached_tokens), _known(span.input_tokens)
    if cached > total:
        tally.note("repaired", "more cached tokens than tokens that went in: none were new")
        return cached, 0.0
    return cached, total if math.isnan(cached) else total - cached


def _known(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) or value < 0 else float(value)


def union(stretches: list[tuple[int, int]]) -> int:
    """Return for how long (ns) any of the stretches lasted."""
    return sum(end - start for start, end in covered(stretches))


def add_sums(sums: Sums, tree: Tree, roles: Roles) -> None:
    """Add a task to the sums, which are in whole ns until all are known: each call as the file has it, or until the first call in it."""
    kinds: dict[str, list[tuple[int, int]]] = {}
    for at in roles.calls:
        kinds.setdefault(tree.spans[at].kind, []).append((tree.start[at], over(tree, roles, at)))
    for kind, stretches in kinds.items():
        add(sums, kind, stretches)


def add(sums: Sums, kind: str, stretches: list[tuple[int, int]]) -> None:
    """Add calls of one kind in one task to the sums, in whole ns."""
    sums.union[kind] = sums.union.get(kind, 0) + union(stretches)
    sums.work[kind] = sums.work.get(kind, 0) + sum(end - start for start, end in stretches)
    sums.calls[kind] = sums.calls.get(kind, 0) + len(stretches)


def in_seconds(sums: Sums) -> Sums:
    """Return sums of whole ns as seconds: they are rounded once, however many tasks there are."""
    by_union, work = ({kind: total / SECOND for kind, total in one.items()} for one in (sums.union, sums.work))
    return Sums(sums.wall / SECOND, by_union, work, dict(sums.calls))


@dataclass(slots=True)
class Stubs:
    """Which models' counts of output tokens cannot be true: most are 2 at most, though bytes or time say otherwise."""

    counts: dict[str, list[int]] = field(
        default_factory=dict
    )  # calls with a count, those of few tokens, those contradicted

    def see(self, call: Call) -> None:
        """Take a call into account."""
        if call.kind == "llm" and not math.isnan(call.output) and not call.error:
            seen = self.counts.setdefault(call.component, [0, 0, 0])
            seen[0] += 1
            if call.output <= _FEW:
                seen[1] += 1
                seen[2] += call.output_bytes > _BYTES or call.seconds > _SECONDS

    def models(self) -> frozenset[str]:
        """The models whose counts are stubs."""
        return frozenset(
            name for name, (known, few, against) in self.counts.items() if 2 * few > known and 2 * against > few
        )

    def mark(self, calls: tuple[Call, ...], models: frozenset[str]) -> tuple[Call, ...]:
        """Return the calls, flagged."""
        if not models or not any(one.kind == "llm" and one.component in models for one in calls):
            return calls
        return tuple(
            replace(one, stub=True) if one.kind == "llm" and one.component in models and one.output <= _FEW else one
            for one in calls
        )
