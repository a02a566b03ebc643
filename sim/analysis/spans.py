"""From the raw entries of a task to its spans: names, parents, what is critical, what was lost.

Leaves out: the task itself, which encloses its spans and has id 0.
Checked: tests/test_result.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..engine.ledger import STATUSES, STRUCTURE, Account, Span, Task

TRUNK = 0  # the lane of a task's trunk


def materialize(task: Task, accounts: Sequence[Account]) -> list[Span]:
    """Return the spans of a task in order of start, parents before what they enclose.

    `status` is the task's. A parent that was still open when the run ended is replaced by the task.
    """
    raw = task.spans or []
    critical = critical_lanes(task.edges)
    parents = {entry[6]: entry[1] for entry in raw if len(entry) > 6}
    lost = _lost(task, raw, parents)
    status = STATUSES[task.status]
    fresh = max((*parents, *(entry[1] for entry in raw)), default=0)
    spans = []
    for position, entry in enumerate(raw):
        lane, parent, account, start, end, size = entry[:6]
        known = accounts[account]
        if end <= start and known.category != STRUCTURE:
            continue  # lies wholly behind the end of the run
        spans.append(
            Span(
                task=task.index,
                lane=lane,
                id=entry[6] if len(entry) > 6 else fresh + 1 + position,
                parent=parent if parent in parents else 0,
                name=known.name,
                category=known.category,
                component=known.component,
                start=start,
                end=end,
                size=size,
                critical=lane in critical,
                lost=lost[position],
                status=status,
            )
        )
    return sorted(spans, key=lambda span: (span.start, -span.end, span.id))


def critical_lanes(edges: Iterable[tuple[int, int, float]]) -> set[int]:
    """Return the lanes on the critical path: the trunk, and what released a join of such a lane.

    `edges` are (releasing lane, released lane, time): the walk goes backwards along them.
    """
    releasers: dict[int, list[int]] = {}
    for releasing, released, _ in edges:
        releasers.setdefault(released, []).append(releasing)
    critical, ahead = {TRUNK}, [TRUNK]
    while ahead:
        found = [lane for lane in releasers.get(ahead.pop(), []) if lane not in critical]
        critical.update(found)
        ahead += found
    return critical


def _lost(task: Task, raw: Sequence[tuple[Any, ...]], parents: dict[int, int]) -> list[bool]:
    """Tell for each entry whether its work was lost: it lies in a lost range of its lane, or inside a span that does."""
    lost = [False] * len(raw)
    for lane, first, end, _account in task.lost:
        for position in range(first, min(end, len(raw))):
            lost[position] |= raw[position][0] == lane
    ids = {entry[6] for entry, gone in zip(raw, lost, strict=True) if gone and len(entry) > 6}
    if ids:
        for position, entry in enumerate(raw):
            parent = entry[1]
            while parent and parent not in ids:
                parent = parents.get(parent, 0)
            lost[position] |= bool(parent)
    return lost
