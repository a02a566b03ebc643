"""Tracks of a task as viewers want them: one for the trunk, one for each agent, and more where an agent does several things at once.

Within a track a span lies in another or beside it. Arrows lead from a span to the one that it let begin, in another lane: at forks, joins and
messages. They are where one span ends at the very time at which the other begins, and along the critical path.

Leaves out: forks and joins at which time passes between, off the critical path.
Checked: tests/test_trace_export.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from ...engine.critical import TRUNK
from ...engine.ledger import STRUCTURE, Span
from ..observation import nanos
from .calls import agent_of, is_turn

__all__ = ["FIRST_THREAD", "Flow", "Track", "flows_between", "flows_of", "tracks_of"]

FIRST_THREAD = 1 << 24  # number of a track's thread: beyond those of processes, and no two have one
_MESSAGE = "communication"


@dataclass(frozen=True, slots=True)
class Track:
    """A line of a viewer: what it is called, and its spans in order of start."""

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """An arrow from a span to one that begins later: `kind` is fork, join, message or release."""

    kind: str
    source: Span
    target: Span


def tracks_of(spans: Sequence[Span]) -> list[Track]:
    """Return the tracks of a task, the trunk first; `spans` are in order of start, what encloses before what it holds."""
    by_id = {one.id: one for one in spans}
    lanes: dict[int, list[Span]] = {TRUNK: []}
    for one in spans:
        lanes.setdefault(one.lane, []).append(one)
    free: dict[str, list[tuple[int, int]]] = {}  # of each label: when a track ends, and which it is
    labels: list[str] = []
    held: list[list[Span]] = []
    for lane, own in lanes.items():
        label = "trunk" if lane == TRUNK else _label(own, by_id)
        for nested in _nested(own):
            ends = free.setdefault(label, [])
            at = nanos(nested[0].start) if nested else 0
            if ends and ends[0][0] <= at:
                place = heappop(ends)[1]
            else:
                place = len(held)
                labels.append(label)
                held.append([])
            held[place] += nested
            heappush(ends, (max(map(_end, nested), default=0), place))
    times: Counter[str] = Counter()
    made: list[Track] = []
    for label, found in zip(labels, held, strict=True):
        times[label] += 1
        made.append(Track(label if times[label] == 1 else f"{label} {times[label]}", tuple(found)))
    return made


def _end(span: Span) -> int:
    return nanos(span.end)


def _label(spans: Sequence[Span], by_id: Mapping[int, Span]) -> str:
    """Return who works in a lane: the agent that is invoked in it, or inside of whose turn it began; else what it is a branch of."""
    groups = [one for one in spans if one.category == STRUCTURE]
    turn = next(filter(is_turn, groups), None) or next(iter(groups), None)
    return agent_of(spans[0], by_id) or (turn.component if turn is not None else "") or "branch"


def _nested(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield spans of a lane such that within each list one lies in another or beside it: in most lanes, all of them."""
    left = list(spans)
    first = True
    while left or first:
        fits: list[Span] = []
        over: list[Span] = []
        ends: list[int] = []
        for one in left:
            start, end = nanos(one.start), nanos(one.end)
            while ends and ends[-1] <= start:
                ends.pop()
            if ends and end > ends[-1]:
                over.append(one)
            else:
                fits.append(one)
                ends.append(end)
        yield fits
        left, first = over, False


def flows_of(spans: Sequence[Span]) -> list[Flow]:
    """Return the arrows of a task, in order of the spans that they lead to."""
    leaves = [one for one in spans if one.category != STRUCTURE and nanos(one.end) > nanos(one.start)]
    lanes: dict[int, list[Span]] = {}
    for one in leaves:
        lanes.setdefault(one.lane, []).append(one)
    by_id = {one.id: one for one in spans}
    ends = {(one.lane, one.end): one for one in leaves}
    starts = {(one.lane, one.start): one for one in reversed(leaves)}
    found: dict[tuple[int, int], Flow] = {}
    for lane, own in lanes.items():
        holder = by_id.get(own[0].parent)
        while holder is not None and holder.lane == lane:
            holder = by_id.get(holder.parent)
        outer = TRUNK if holder is None else holder.lane
        if lane != outer:
            last = max(own, key=lambda one: one.end)
            _add(found, "fork", ends.get((outer, own[0].start)), own[0])
            _add(found, "join", last, starts.get((outer, last.end)))
    path = sorted((one for one in leaves if one.critical), key=lambda one: (one.start, one.end))
    for before, after in pairwise(path):
        if before.lane != after.lane:
            _add(found, "release", before, after)
    return sorted(found.values(), key=lambda one: (one.target.start, one.target.id, one.source.id))


def flows_between(spans: Sequence[Span], owners: Mapping[int, Span]) -> list[Flow]:
    """Return the arrows of a task whose calls stand whole: from and to `owners`, which have the time of the spans by their ids."""
    found: dict[tuple[int, int], Flow] = {}
    for flow in flows_of(spans):
        source, target = owners[flow.source.id], owners[flow.target.id]
        if nanos(source.start + source.end) < nanos(target.start + target.end):  # they are drawn from middle to middle
            found.setdefault((source.id, target.id), Flow(flow.kind, source, target))
    return list(found.values())


def _add(found: dict[tuple[int, int], Flow], kind: str, source: Span | None, target: Span | None) -> None:
    if source is None or target is None or nanos(source.start) >= nanos(target.start):
        return
    kind = "message" if _MESSAGE in (source.category, target.category) else kind
    found.setdefault((source.id, target.id), Flow(kind, source, target))
