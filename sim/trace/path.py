"""The critical path of a tree of spans: the walk back in time from the end of the task, which tells for each moment whose it was.

Inside of a span, the child that was there last is walked into. Of several that were there, it is the one whose calls went on until then, and of
those the one that began first; if the calls of all were over, and some ended just then, the one whose calls lasted longest. What no child covers
is the span's own time. A child that is longer than its parent is, for what is left of it, a child of the next ancestor that was there.

Leaves out: what lies in a call that holds no other call: that is a detail of it.
Checked: tests/test_trace_book.py, against a walk moment by moment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from typing import Final

from .repair import ROOT, Tree
from .tally import TraceError

__all__ = ["Inside", "Pieces", "Stretch", "covered", "pieces_of", "walk", "worked"]

Stretch = tuple[int, int, int]
"""Whose own time it was (a position in the tree, or ROOT for the task's), from when and to when (ns)."""

LEVELS: Final = 50
"""Ancestors that are asked whether they were there; then it is the task's own child."""
STEPS: Final = 10_000_000
"""Steps of one walk at most. Only spans that outlive those that hold them, thousands of levels deep, need more than a few per span."""


NEVER: Final = -(1 << 200)
"""When the calls of a span were over that holds none."""


class Pieces:
    """What lies in a span, by latest end: pieces of its children, and of those below that are longer than their parents.

    `work` says when the last call of each span was over.
    """

    __slots__ = ("_busy", "_busy_first", "_ends", "_first", "_items", "_last", "_work")

    def __init__(self, items: list[Stretch], work: Sequence[int]) -> None:
        items.sort(key=lambda one: (-one[2], one[1], one[0]))
        self._items, self._work = items, work
        self._ends = [-end for _, _, end in items]
        self._first = _earliest(items)  # for each number of them, which began first
        self._busy, self._busy_first, self._last = self._ends, self._first, dict[int, int]()
        if any(work[owner] < end for owner, _, end in items):
            self._sort_by_work()

    def _sort_by_work(self) -> None:
        items, work = self._items, self._work
        order = sorted(range(len(items)), key=lambda place: -min(work[items[place][0]], items[place][2]))
        self._busy = [-min(work[items[place][0]], items[place][2]) for place in order]
        self._busy_first = _earliest(items, order)
        for place, (owner, _, end) in enumerate(items):  # of those that end at once, whose calls lasted longest
            if work[owner] > work[items[self._last.setdefault(end, place)][0]]:
                self._last[end] = place

    def last_before(self, moment: int) -> Stretch | None:
        """Return who was there just before `moment`, since when, and until when: `moment`, or earlier where nobody was. None: nobody before."""
        there = bisect_right(self._ends, -moment)
        found = self._at(moment, there)
        if found is None and there < len(self._ends):
            until = -self._ends[there]
            found = self._at(until, bisect_right(self._ends, -until))
        return found

    def _at(self, moment: int, there: int) -> Stretch | None:
        """Return who was there just before a moment that as many as `there` reach."""
        if not there:
            return None
        place = self._first[there - 1]
        owner, start, _ = self._items[place]
        if start >= moment:
            return None
        if self._last:
            busy = bisect_right(self._busy, -moment)
            by_work = self._busy_first[busy - 1] if busy else place
            if busy and self._items[by_work][1] < moment:
                owner, start, _ = self._items[by_work]
            elif moment in self._last and self._work[self._items[self._last[moment]][0]] > self._work[owner]:
                owner, start, _ = self._items[self._last[moment]]
        return owner, start, moment


def _earliest(items: list[Stretch], order: Sequence[int] | None = None) -> list[int]:
    """Return for each number of items, in this order, which of them began first: the longest of those, and of these the first in `items`."""
    found: list[int] = []
    best = order[0] if order else 0
    for place in order if order is not None else range(len(items)):
        if (items[place][1], place) < (items[best][1], best):
            best = place
        found.append(best)
    return found


def worked(tree: Tree, closed: Container[int], order: Sequence[int]) -> list[int]:
    """Return for each span when the last call that lies in it, or that it is, was over (ns), and NEVER where there is none.

    `order` is that of `Tree.downward`.
    """
    found = [NEVER] * len(tree.spans)
    for at in reversed(order):
        end, parent = tree.end[at], tree.parent[at]
        if at in closed or found[at] > end:
            found[at] = end
        if parent != ROOT and found[at] > found[parent]:
            found[parent] = found[at]
    return found


class Inside:
    """What lies in each span, and under ROOT what lies in the task.

    Most spans lie wholly in their parents: only of the others is anything noted, and the rest is put together when it is asked for.
    """

    __slots__ = ("_closed", "_known", "_more", "_work", "tree")

    def __init__(self, tree: Tree, closed: Container[int], work: Sequence[int]) -> None:
        self.tree = tree
        self._work = work
        self._closed = closed
        self._more: dict[int, list[Stretch]] = {}
        self._known: dict[int, Pieces] = {}

    def add(self, holder: int, piece: Stretch) -> None:
        """Note a piece of a span that is not wholly in its parent."""
        self._more.setdefault(holder, []).append(piece)

    def last_before(self, at: int, moment: int) -> Stretch | None:
        """Return who was there in a span just before `moment`, as `Pieces` does; None where nothing lies in the span."""
        known = self._known.get(at)
        if known is None:
            items = self.items(at)
            if not items:
                return None
            if len(items) == 1:
                owner, start, end = items[0]
                until = min(end, moment)
                return (owner, start, until) if start < until else None
            known = self._known[at] = Pieces(items, self._work)
        return known.last_before(moment)

    def items(self, at: int) -> list[Stretch]:
        """Return the pieces that lie in a span, in no order."""
        tree, children, more = self.tree, self.tree.children.get(at), self._more.get(at, ())
        if children is None or at in self._closed:
            return list(more)
        start, end = tree.start, tree.end
        if at == ROOT:
            return [(one, start[one], end[one]) for one in children if start[one] < end[one]] + list(more)
        first, last = start[at], end[at]
        inner = [(one, start[one], end[one]) for one in children if first <= start[one] < end[one] <= last]
        return inner + list(more)


def covered(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the union of stretches of time, in order; those of no length are none."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        elif end > start:
            found.append((start, end))
    return found


def pieces_of(tree: Tree, closed: Container[int], work: Sequence[int]) -> Inside:
    """Return what lies in each span, and under ROOT what lies in the task; nothing for spans in `closed` and below. `work` is of `worked`."""
    found = Inside(tree, closed, work)
    start, end = tree.start, tree.end
    stack = list(tree.children.get(ROOT, ()))
    while stack:
        holder = stack.pop()
        if holder in closed or holder not in tree.children:
            continue
        first, last = start[holder], end[holder]
        for at in tree.children[holder]:
            if start[at] < first or end[at] > last:
                _place(tree, at, found)
        stack.extend(tree.children[holder])
    return found


def _place(tree: Tree, at: int, found: Inside) -> None:
    """Give what is in the parent to it, what is not to the next ancestor, and so on."""
    left = [(tree.start[at], tree.end[at])]
    holder = tree.parent[at]
    for _ in range(LEVELS):
        if holder == ROOT or not left:
            break
        first, last = tree.start[holder], tree.end[holder]
        rest = []
        for start, end in left:
            inside = max(start, first), min(end, last)
            if inside[1] > inside[0]:
                found.add(holder, (at, *inside))
                rest += [(a, b) for a, b in ((start, inside[0]), (inside[1], end)) if b > a]
            elif end > start:
                rest.append((start, end))
        left = rest
        holder = tree.parent[holder]
    for start, end in left:
        if end > start:
            found.add(ROOT, (at, start, end))


def walk(inside: Inside, start: int, end: int) -> list[Stretch]:
    """Return the critical path from `start` to `end` (ns) in order of time, without gaps. Raises TraceError where it takes too many steps."""
    path: list[Stretch] = []
    stack = [(ROOT, start, end)]
    steps = 0
    while stack:
        at, low, moment = stack.pop()
        if moment <= low:
            continue
        steps += 1
        if steps > STEPS:
            raise TraceError(
                f"trace {inside.tree.spans[0].trace}: its spans outlive those that hold them, and are nested so deeply that the critical path "
                f"takes more than {STEPS:,} steps to find; leave this trace out"
            )
        found = inside.last_before(at, moment)
        if found is None or found[2] <= low:
            path.append((at, low, moment))
            continue
        inner, since, until = found
        if until < moment:
            path.append((at, until, moment))
        since = max(since, low)
        stack.append((at, low, since))
        stack.append((inner, since, until))
    path.reverse()
    return path
