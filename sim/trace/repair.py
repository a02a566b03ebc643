"""From the spans of one task, as they come, to a tree that hangs together. All that is changed is counted.

A child of another process that does not lie in its parent is moved there, with what lies in it, to the middle of the time that is left: two
machines' clocks differ. One of the same process stays where it is.

A span whose parent is not known, or cannot be, lies in the root that was there then: in the innermost agent, workflow or span of no known kind,
or in the only root that the file names. Calls take nothing in: two calls at once are not one in the other.

Leaves out: what the spans mean (`book`).
Checked: tests/test_trace_repair.py.
Source: the rule for clock skew is that of Jaeger's adjuster, https://github.com/jaegertracing/jaeger (clockskew).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from .observation import SECOND, Observation
from .tally import SEVERAL_ROOTS, Tally

__all__ = ["ROOT", "Tree", "repair"]

ROOT: Final = -1
"""The parent of a span that lies in no other."""

ABSURD: Final = 10 * 366 * 86400 * SECOND
"""Ten years (ns): a span that far from most of its task has no time that can be believed."""

_LAST: Final = 1 << 200
_GROUPS: Final = ("agent", "workflow", "other")
_DEEPEST: Final = 50  # roots that are asked whether a span lies in them
_FEW: Final = 4  # spans from which on times that are whole seconds are no chance


@dataclass(slots=True)
class Tree:
    """The spans of a task in order of start: times in whole ns, `parent` a position or ROOT, `children` by position, in order.

    `unended` are those that were never seen to end.
    """

    spans: list[Observation]
    start: list[int]
    end: list[int]
    parent: list[int]
    unended: set[int] = field(default_factory=set)
    children: dict[int, list[int]] = field(default_factory=dict)

    def downward(self) -> Iterator[int]:
        """Yield every position, parents before what they hold."""
        stack = list(reversed(self.children.get(ROOT, ())))
        while stack:
            at = stack.pop()
            yield at
            stack.extend(reversed(self.children.get(at, ())))


def repair(spans: list[Observation], tally: Tally) -> Tree:
    """Return the tree of a task's spans, which may be none if none of them has a time. The order of `spans` does not matter."""
    spans = _timed(_once(_in_order(spans), tally), tally)
    tree = Tree(spans, [one.start or 0 for one in spans], [-1 if one.end is None else one.end for one in spans], [])
    tree.unended = {at for at, one in enumerate(spans) if one.end is None}
    _backward(tree, tally)
    _join(tree, tally)
    cut = _uncircle(tree, tally)
    _grow(tree)
    _close(tree, tally)
    _adopt(tree, cut, tally)
    _shift(tree, tally)
    _remark(tree, tally)
    for held in tree.children.values():
        held.sort(key=lambda at: (tree.start[at], at))
    return tree


def _in_order(spans: list[Observation]) -> list[Observation]:
    """Return the spans in an order that rests on all that they say; most differ in the first of it."""
    spans = sorted(spans, key=_order)
    first = 0
    for place in range(1, len(spans) + 1):
        before = spans[place - 1]
        if place < len(spans) and before.start == spans[place].start and _order(before) == _order(spans[place]):
            continue
        if place - first > 1:
            spans[first:place] = sorted(spans[first:place], key=repr)
        first = place
    return spans


def _order(span: Observation) -> tuple[object, ...]:
    start = _LAST if span.start is None else span.start
    end = _LAST if span.end is None else span.end
    return start, -end, span.trace, span.id, span.parent, span.kind, span.name, span.component


def _once(spans: list[Observation], tally: Tally) -> list[Observation]:
    """Return the spans, in order, without those that are there twice; two that differ are both kept."""
    ended: set[tuple[object, ...]] = set()
    if any(one.end is None for one in spans):
        ended = {_same(one) for one in spans if one.id and one.end is not None}
    seen: set[object] = set()
    kept: list[Observation] = []
    named = _naming(spans)
    for one in spans:
        if kept and one.id and one.id == kept[-1].id and one == kept[-1]:  # they are sorted by all that they say
            tally.note("dropped", "the same span twice")
            continue
        if ended and one.end is None and _same(one) in ended:
            tally.note("dropped", "a copy of a span from before it ended")
            continue
        if one.id:
            key = named(one.trace, one.id)
            if key in seen:
                tally.note("repaired", "another span has the same id: both are kept")
            seen.add(key)
        kept.append(one)
    return kept


def _naming(spans: list[Observation]) -> Callable[[str, str], object]:
    """Return what tells a span of these from another, by trace and id: its id, and its trace where they are of several."""

    def with_trace(trace: str, name: str) -> object:
        return trace, name

    def alone(_: str, name: str) -> object:
        return name

    return with_trace if len({one.trace for one in spans}) > 1 else alone


def _same(span: Observation) -> tuple[object, ...]:
    return span.trace, span.id, span.start, span.parent, span.name


def _timed(spans: list[Observation], tally: Tally) -> list[Observation]:
    """Return the spans that have a time, in order; those far from the most are taken to have none."""
    times = sorted(time for one in spans for time in (one.start, one.end) if time is not None)
    middle = times[len(times) // 2] if times else 0
    if len(times) == 2 * len(spans) and times and max(times[-1] - middle, middle - times[0]) <= ABSURD:
        return spans
    kept = []
    for one in spans:
        for name in ("start", "end"):
            time = getattr(one, name)
            if time is not None and abs(time - middle) > ABSURD:
                tally.note("repaired", "a time more than ten years from those of the task: not believed")
                setattr(one, name, None)
        if one.start is None and one.end is None:
            tally.note("dropped", "no time that can be believed")
            continue
        if one.start is None:
            one.start = one.end
            tally.note("repaired", "no start: it begins when it ends")
        kept.append(one)
    return sorted(kept, key=lambda one: (one.start, -_LAST if one.end is None else -one.end))


def _backward(tree: Tree, tally: Tally) -> None:
    for at, start in enumerate(tree.start):
        if at not in tree.unended and tree.end[at] < start:
            seconds = (start - tree.end[at]) / SECOND
            tally.note("repaired", "the end is before the start: no time passes", seconds=seconds)
            tree.end[at] = start


def _join(tree: Tree, tally: Tally) -> None:
    """Find the parents. Where two have the same id, the first is the parent."""
    places: dict[object, int] = {}
    named = _naming(tree.spans)
    for at, one in enumerate(tree.spans):
        if one.id:
            places.setdefault(named(one.trace, one.id), at)
    for at, one in enumerate(tree.spans):
        found = places.get(named(one.trace, one.parent), ROOT) if one.parent else ROOT
        if one.parent and (found == at or one.parent == one.id):
            tally.note("repaired", "its own parent: taken as a child of the root")
            found = ROOT
        tree.parent.append(found)


def _uncircle(tree: Tree, tally: Tally) -> set[int]:
    """Cut circles of parents at the span that begins first; return those that are roots since."""
    cut: set[int] = set()
    state = bytearray(len(tree.spans))  # 1 on the way, 2 known to lead to a root
    for first in range(len(tree.spans)):
        way = []
        at = first
        while at != ROOT and not state[at]:
            state[at] = 1
            way.append(at)
            at = tree.parent[at]
        if at != ROOT and state[at] == 1:
            circle = way[way.index(at) :]
            cut.add(min(circle))
            tally.note("repaired", "parents in a circle: cut at the first of them", spans=len(circle))
        for one in way:
            state[one] = 2
    for at in cut:
        tree.parent[at] = ROOT
    return cut


def _grow(tree: Tree) -> None:
    for at, parent in enumerate(tree.parent):
        tree.children.setdefault(parent, []).append(at)


def _close(tree: Tree, tally: Tally) -> None:
    """A span without an end ends with the last that lies in it, or where it starts."""
    if not tree.unended:
        return
    latest = list(map(max, tree.start, tree.end))
    for at in reversed(list(tree.downward())):
        if at in tree.unended:
            tree.end[at] = latest[at]
            tally.note("repaired", "no end: it ends with the last of those in it")
        parent = tree.parent[at]
        if parent != ROOT:
            latest[parent] = max(latest[parent], latest[at])


def _adopt(tree: Tree, cut: set[int], tally: Tally) -> None:
    """Put what has lost its parent, or never had one, into the root that was there then."""
    roots = tree.children.get(ROOT, [])
    lost = {at for at in roots if tree.spans[at].parent}
    for at in roots:
        if at in lost and tree.spans[at].parent != tree.spans[at].id and at not in cut:
            tally.note("repaired", "its parent is missing: taken as a child of the root")
    real = [at for at in roots if at not in lost]
    alone = real[0] if len(real) == 1 else ROOT
    moved = False
    for at, holder in _holders(tree, roots, alone):
        tree.parent[at] = holder
        moved = True
        if at not in lost:
            what = "no parent, but within the time of a root: taken as a child of it"
            tally.note("guessed", what)
    if moved:
        tree.children.clear()
        _grow(tree)
    if len(tree.children.get(ROOT, ())) > 1:
        tally.note("noted", SEVERAL_ROOTS, spans=len(tree.children[ROOT]))


def _holders(tree: Tree, roots: list[int], alone: int) -> Iterator[tuple[int, int]]:
    """Yield each root that lies in the time of another of its trace that can hold it, and that other: the innermost.

    `alone` holds others whatever it is.
    """
    if len(roots) < 2:
        return
    open_: dict[str, list[int]] = {}
    for at in sorted(roots, key=lambda one: (tree.start[one], -tree.end[one], one != alone, one)):
        span, start, end = tree.spans[at], tree.start[at], tree.end[at]
        there = open_.setdefault(span.trace, [])
        while there and tree.end[there[-1]] < start:
            there.pop()
        holder = next((one for one in there[: -_DEEPEST - 1 : -1] if tree.end[one] >= end), ROOT)
        if holder != ROOT and at != alone:
            yield at, holder
        if (span.kind in _GROUPS or at == alone) and end > start:
            there.append(at)


def _shift(tree: Tree, tally: Tally) -> None:
    """Move children of other processes into their parents, if they fit, each with what lies in it of its own process."""
    moved: dict[int, int] = {}
    if len({one.process for one in tree.spans}) == 1:
        return
    for at in tree.downward():
        parent = tree.parent[at]
        if parent == ROOT:
            continue
        here, there = tree.spans[at].process, tree.spans[parent].process
        by = moved.get(parent, 0) if here == there else 0
        if here and there and here != there:
            by = _skew(tree, at, parent)
            if by:
                tally.note(
                    "repaired", "clock skew: moved into its parent, of another process", seconds=abs(by) / SECOND
                )
        if by:
            moved[at] = by
            tree.start[at] += by
            tree.end[at] += by


def _skew(tree: Tree, at: int, parent: int) -> int:
    """Return by how much (ns) a child of another process is to be moved."""
    start, end, first, last = tree.start[at], tree.end[at], tree.start[parent], tree.end[parent]
    if first <= start and end <= last:
        return 0
    room = (last - first) - (end - start)
    if room < 0:  # it outlived its parent, or the parent gave up: it did not begin before
        return max(0, first - start)
    return first + room // 2 - start


def _remark(tree: Tree, tally: Tally) -> None:
    """Count what is odd, and stays as it is."""
    for at, parent in enumerate(tree.parent):
        if tree.start[at] == tree.end[at]:
            tally.note("noted", "begins and ends at the same time")
        if parent == ROOT:
            continue
        out = max(tree.end[at] - tree.end[parent], tree.start[parent] - tree.start[at])
        if out > 0:
            tally.note("noted", "not wholly in its parent", seconds=out / SECOND)
    if len(tree.spans) >= _FEW and not any(time % SECOND for time in (*tree.start, *tree.end)):
        tally.note("noted", "times are whole seconds: shorter spans are known badly", spans=len(tree.spans))
