"""The critical path as stretches of lanes: the walk back in time along the edges of a task.

An edge (releasing lane, released lane, time) says that from `time` on the released lane goes on from where the releasing
one was: a fork, a join, a piece that was waited for. Edges are in the order in which they came about.

Leaves out: what was done in the stretches, which the spans tell.
Checked: tests/test_relay.py, tests/test_result.py, tests/test_laws.py.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import inf

Edge = tuple[int, int, float]
Stretches = list[tuple[float, float]]  # start and end (s), in order of time, disjoint

TRUNK = 0  # the lane of a task's trunk


def critical_stretches(edges: Iterable[Edge], end: float = inf) -> dict[int, Stretches]:
    """Return for each lane on the critical path when it was, back from the trunk at time `end` (s).

    In a lane the walk goes back to the last edge into it and on in the releasing lane, before that edge. The first
    stretch of the trunk begins at minus infinity.
    """
    into: dict[int, list[tuple[int, float, int]]] = {}
    for position, (releasing, released, time) in enumerate(edges):
        into.setdefault(released, []).append((position, time, releasing))
    found: dict[int, Stretches] = {}
    lane, at, before = TRUNK, end, inf
    while True:
        ways = into.get(lane, [])
        number = bisect_left(ways, (before,)) - 1
        while number >= 0 and ways[number][1] > at:
            number -= 1  # a piece may be followed later than it came: what its producer did since is beside the path
        stretches = found.setdefault(lane, [])
        if number < 0:
            stretches.append((-inf, at))
            break
        before, start, releasing = ways[number]
        stretches.append((start, at))
        lane, at = releasing, start
    for stretches in found.values():
        stretches.reverse()
    return found


def cover(stretches: Sequence[tuple[float, float]], start: float, end: float) -> Stretches:
    """Return what of the time from `start` to `end` lies in `stretches`: times of more than nothing, in order."""
    found = []
    for number in range(max(0, bisect_right(stretches, (start,)) - 1), len(stretches)):
        first, last = stretches[number]
        if first >= end:
            break
        if min(last, end) > max(first, start):
            found.append((max(first, start), min(last, end)))
    return found


def touches(stretches: Sequence[tuple[float, float]], time: float) -> bool:
    """Whether `time` lies in one of `stretches`, their ends included."""
    return any(first <= time <= last for first, last in stretches)
