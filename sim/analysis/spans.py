"""From the raw entries of a task to its spans: names, parents, what is critical, what was lost.

Leaves out: the task itself, which encloses its spans and has id 0.
Checked: tests/test_result.py, tests/test_relay.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

from ..engine.critical import Stretches, cover, critical_stretches, touches
from ..engine.ledger import STATUSES, STRUCTURE, Account, Span, Task, entries


class RawTask(NamedTuple):
    """What a ledger kept of a task, free of what lives only while it runs."""

    task: int
    status: int
    spans: list[Any]
    edges: list[tuple[int, int, float]]
    lost: list[tuple[int, int, int, int]]
    errors: list[int]

    @classmethod
    def of(cls, task: Task) -> RawTask:
        """Take it from a task that has ended."""
        return cls(task.index, task.status, task.spans or [], task.edges, task.lost, task.errors)


class Spans(Sequence[Span]):
    """The spans of the tasks that were kept, made when somebody looks at them: a run keeps millions of raw entries."""

    def __init__(self, raw: Sequence[RawTask], accounts: Sequence[Account]) -> None:
        self._raw = {one.task: one for one in raw}
        self._accounts = tuple(accounts)
        self._made: tuple[Span, ...] | None = None

    @property
    def tasks(self) -> list[int]:
        """The tasks whose spans are here, in order."""
        return list(self._raw)

    def of(self, task: int) -> tuple[Span, ...]:
        """Return the spans of one task; none if they were not kept."""
        return tuple(materialize(self._raw[task], self._accounts)) if task in self._raw else ()

    def _all(self) -> tuple[Span, ...]:
        if self._made is None:
            self._made = tuple(span for task in self._raw for span in self.of(task))
        return self._made

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Span, ...]: ...
    def __getitem__(self, index: int | slice) -> Span | tuple[Span, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all()) if self._raw else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and (self._raw, self._accounts) == (other._raw, other._accounts)

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> tuple[Any, ...]:
        return self._raw, self._accounts

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._raw, self._accounts = state
        self._made = None


def materialize(task: RawTask, accounts: Sequence[Account]) -> list[Span]:
    """Return the spans of a task in order of start, parents before what they enclose.

    `status` is the task's. A parent that was still open when the run ended is replaced by the task. A span that is on
    the critical path for a part of its time only is told as several.
    """
    raw = list(entries(task.spans))
    stretches = critical_stretches(task.edges)
    parents = {entry[6]: entry[1] for entry in raw if entry[6]}
    groups = _critical_groups(raw, stretches, parents)
    lost, errors = _lost(task, raw, parents), set(task.errors)
    status = STATUSES[task.status]
    fresh = max((*parents, *(entry[1] for entry in raw)), default=0) + 1 + len(raw)
    spans: list[Span] = []
    for position, entry in enumerate(raw):
        lane, parent, account, start, end, size, own = entry
        known = accounts[account]
        if known.category == STRUCTURE:
            cuts = [(start, end, own in groups)]
        else:
            cuts = _cuts(stretches.get(lane, []), start, end)  # none: it lies wholly behind the end of the run
        for number, (first, last, critical) in enumerate(cuts):
            spans.append(
                Span(
                    task=task.task,
                    lane=lane,
                    id=own or (fresh + len(spans) if number else fresh - len(raw) + position),
                    parent=parent if parent in parents else 0,
                    name=known.name,
                    category=known.category,
                    component=known.component,
                    start=first,
                    end=last,
                    size=size if len(cuts) == 1 else size * (last - first) / (end - start),
                    critical=critical,
                    lost=lost[position],
                    status=status,
                    error=own in errors,
                )
            )
    return sorted(spans, key=lambda span: (span.start, -span.end, span.id))


def _cuts(stretches: Stretches, start: float, end: float) -> list[tuple[float, float, bool]]:
    """Cut a span (s) where its lane comes onto the critical path or leaves it; tell of each part whether it is on it."""
    if end > start and len(stretches) <= 1:  # in most lanes
        first, last = stretches[0] if stretches else (end, end)
        if first <= start and end <= last:
            return [(start, end, True)]
        if end <= first or last <= start:
            return [(start, end, False)]
    cuts = []
    for first, last in cover(stretches, start, end):
        if first > start:
            cuts.append((start, first, False))
        back = bool(cuts) and cuts[-1][2] and cuts[-1][1] == first  # left, and come back to at once
        cuts.append((cuts.pop()[0] if back else first, last, True))
        start = last
    if end > start:
        cuts.append((start, end, False))
    return cuts


def _critical_groups(
    raw: Sequence[tuple[Any, ...]], stretches: dict[int, Stretches], parents: dict[int, int]
) -> set[int]:
    """Return the ids of the spans that only group others and are critical: in their lane, or for one that they hold."""
    found: set[int] = set()
    if not parents:
        return found
    for lane, parent, _account, start, end, _, own in raw:
        ways = stretches.get(lane)
        inner = own or parent
        if ways is None or inner in found or not (touches(ways, start) if end <= start else cover(ways, start, end)):
            continue
        while inner and inner not in found:
            found.add(inner)
            inner = parents.get(inner, 0)
    return found


def _lost(task: RawTask, raw: Sequence[tuple[Any, ...]], parents: dict[int, int]) -> list[bool]:
    """Tell for each entry whether its work was lost: it lies in a lost range of its lane, or inside a span that does.

    A span is entered when it ends, so that one may be in a lost range that began, and holds work that was over, before.
    """
    lost = [False] * len(raw)
    since: dict[int, int] = {}  # id of a lost span that holds others: from which position on what it holds is lost
    for lane, first, end, _account in task.lost:
        for position in range(first, min(end, len(raw))):
            if raw[position][0] == lane:
                lost[position] = True
                if own := raw[position][6]:
                    since[own] = min(first, since.get(own, first))
    if since:
        for position, entry in enumerate(raw):
            parent = entry[1]
            while parent and parent not in since:
                parent = parents.get(parent, 0)
            lost[position] |= bool(parent) and position >= since[parent]
    return lost
