"""Search a finite lattice for its cheapest feasible point, with as few evaluations as can be.

Of a monotone variable more is never worse: a point that passes passes with more of it, one that fails fails with less. Any other
variable is a choice, and each combination of choices a *slice* that says nothing about another. Costs may be anything.

With one monotone variable this is bisection, but that the greatest point comes next once one has failed and none has passed: if it
fails too, all do, and nothing more is to be looked at. With several, the greatest point of a slice comes first, then the least value of each variable with the others at most, by bisection, which bounds it from below. Then, time and
again, the candidate that is expected to settle most: a fail settles all below it, a pass all that cost as much or more. How likely a
point is to pass is guessed by how many points below and above it are open; a guess changes how many evaluations it takes, never
the answer.

A point that stays *inconclusive* proves nothing of others, and is never chosen. But below it none can be shown to pass that it
was not shown of itself, and above it none to fail: so points below come last, and what lies between two
inconclusive points is not looked at, and stays undecided. Else a plateau near the threshold would be looked at point by point.

Leaves out: what an evaluation is (`plan`).
Checked: tests/test_lattice.py, against brute force.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from .planned import Point

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Costs = npt.NDArray[np.float64]
Learnt = Literal["pass", "fail", "inconclusive", "invalid"]

OPEN, PASS, FAIL, UNDECIDED, INVALID = 0, 1, 2, 3, 4
_CODES: dict[Learnt, int] = {"pass": PASS, "fail": FAIL, "inconclusive": UNDECIDED, "invalid": INVALID}


class Search:
    """What is known of each point, and which to look at next.

    `sizes` say how many values each variable has, `monotone` whether more of it is never worse, and `cost`, an array of that shape,
    what each point costs at least. A point that passed may turn out dearer (`learn`), and a slice too (`at_least`).
    """

    def __init__(self, sizes: Sequence[int], monotone: Sequence[bool], cost: npt.ArrayLike) -> None:
        if not sizes or min(sizes) < 1 or len(sizes) != len(monotone):
            raise ValueError(f"each variable needs a value and says whether it is monotone, got {sizes}, {monotone}")
        self.sizes = tuple(int(size) for size in sizes)
        self.monotone = tuple(bool(one) for one in monotone)
        self._cost: Costs = np.array(np.broadcast_to(np.asarray(cost, dtype=np.float64), self.sizes))
        if np.isnan(self._cost).any():
            raise ValueError("every point needs a cost, got nan")
        self._known = np.zeros(self.sizes, dtype=np.int8)
        self._exact = np.zeros(self.sizes, dtype=bool)  # points whose cost is known
        self._axes = tuple(axis for axis, one in enumerate(self.monotone) if one and self.sizes[axis] > 1)
        self._slices = self._number_slices()
        self._may = np.zeros(self.sizes, dtype=bool)  # points that bounds do not exclude
        self._capped = np.zeros(self.sizes, dtype=bool)  # points at or below one that is inconclusive
        self._floored = np.zeros(self.sizes, dtype=bool)  # points at or above one
        self._unsure = np.zeros(self.sizes, dtype=bool)  # points that were seen to stay inconclusive
        self.screens = len(self._axes) > 1  # whether the greatest point of a slice comes first
        self._missed: set[int] = set()  # slices in which a point was seen to fail
        self.evaluations = 0
        self.excluded = 0

    # -- what is known

    def learn(self, point: Point, verdict: Learnt, cost: float | None = None, *, seen: bool = True) -> None:
        """Take in what is known of a point; `invalid` says nothing of any other.

        `cost` is what it turned out to cost. Not `seen`: it follows from elsewhere, and counts for no evaluation.
        """
        self.evaluations += seen
        if seen and verdict == "fail":
            self._missed.add(self.slice_of(point))
        if cost is not None:
            self._cost[point], self._exact[point] = cost, True
        if verdict in ("pass", "fail"):
            place = self._from(point) if verdict == "pass" else self._to(point)
            implied = self._known[place]
            # What was seen to stay inconclusive is not shown to pass by others: the best's own evaluation passes.
            kept = self._unsure[place] & (verdict == "pass")
            implied[((implied == OPEN) | (implied == UNDECIDED)) & ~kept] = _CODES[verdict]
        elif verdict == "inconclusive":
            self._capped[self._to(point)] = self._floored[self._from(point)] = True
            self._known[(self._known == OPEN) & self._capped & self._floored] = UNDECIDED
        # What is known of the point itself holds, whatever the others imply.
        if seen or verdict != "pass" or not self._unsure[point]:
            self._known[point] = _CODES[verdict]
        if seen:
            self._unsure[point] = verdict == "inconclusive"

    def at_least(self, point: Point, more: float) -> None:
        """Raise what the points in the slice of `point` cost at least by `more`, but for those whose cost is known."""
        self._cost[(self._slices == self._slices[point]) & ~self._exact] += more

    def status(self, point: Point) -> Learnt | None:
        """Return what is known of a point; None if nothing is."""
        code = int(self._known[point])
        return next((name for name, one in _CODES.items() if one == code), None)

    @property
    def best(self) -> Point | None:
        """The cheapest point that is known to pass; of equally cheap ones the first."""
        return self._cheapest(self._known == PASS)

    def cost(self, point: Point) -> float:
        """Return what a point costs, as far as is known."""
        return float(self._cost[point])

    @property
    def undecided(self) -> list[Point]:
        """Points that stayed inconclusive and are cheaper than the best, cheapest first."""
        return self._sorted((self._known == UNDECIDED) & (self._cost < self._limit()))

    def count(self, verdict: Learnt | Literal["open"]) -> int:
        """Return of how many points this is known, or nothing (`open`)."""
        return int(np.count_nonzero(self._known == (OPEN if verdict == "open" else _CODES[verdict])))

    def slice_of(self, point: Point) -> int:
        """Return the number of the slice that a point is in."""
        return int(self._slices[point])

    def fresh(self) -> Search:
        """Return a search with the same costs, in which nothing is known but which points are invalid."""
        other = Search(self.sizes, self.monotone, self._cost)
        other._known[self._known == INVALID] = INVALID
        return other

    @property
    def cheaper(self) -> int:
        """How many points cost less than the best, as far as is known, but for those that are invalid."""
        return int(np.count_nonzero((self._cost < self._limit()) & (self._known != INVALID)))

    @property
    def proven(self) -> bool:
        """Whether every point cheaper than the best is known to fail (or to be no configuration at all)."""
        cheaper = self._known[self._cost < self._limit()]
        return bool(np.isin(cheaper, (FAIL, INVALID)).all())

    # -- bounds, which exclude points before they are looked at; that is monotone too

    def unbounded(self) -> Point | None:
        """Return the open point whose bound would settle most; None when every open point is one that may pass."""
        wanted = (self._known == OPEN) & ~self._may
        if not wanted.any():
            return None
        least = np.minimum(self._sum_below(wanted), self._sum_above(wanted))
        return self._point(int(np.argmax(np.where(wanted, least, -1))))

    def may_pass(self, point: Point) -> None:
        """Take in that bounds do not exclude a point, nor any with more."""
        self._may[self._from(point)] = True

    @property
    def is_bounded(self) -> bool:
        """Whether of every open point it is known that bounds do not exclude it."""
        return self.unbounded() is None

    # -- what next

    def next(self) -> Point | None:
        """Return the point to look at next; None when nothing open could be cheaper than the best."""
        wanted = (self._known == OPEN) & (self._cost < self._limit())
        if not wanted.any():
            return None
        free = self._known == OPEN
        if (wanted & ~self._capped).any():
            wanted, free = wanted & ~self._capped, free & ~self._capped
        return self._screen(wanted) or self._most(wanted, free)

    def _screen(self, wanted: Mask) -> Point | None:
        """Return the greatest point of a slice, or the middle of a line below it, while these are open; else None."""
        first = self._cheapest(wanted)
        assert first is not None
        # One slice after the other, the one with the cheapest candidate first: a pass there may settle the others.
        top = tuple(size - 1 if axis in self._axes else first[axis] for axis, size in enumerate(self.sizes))
        if self._known[top] == OPEN and (self.screens or self.slice_of(top) in self._missed):
            return top
        if not self.screens:
            return None
        for axis in self._axes:
            line = np.moveaxis(self._known, axis, -1)[(*top[:axis], *top[axis + 1 :])]
            others = tuple(other for other in range(len(self.sizes)) if other != axis)
            # Values of which nothing is wanted any more need no bound.
            free = np.flatnonzero((line == OPEN) & wanted[self._of_slice(top)].any(axis=others))
            if free.size > 1:
                return (*top[:axis], int(free[(free.size - 1) // 2]), *top[axis + 1 :])
        return None

    def _most(self, wanted: Mask, free: Mask) -> Point:
        """Return the candidate that is expected to settle most of them, where so many points are `free` to pass or fail."""
        below = self._sum_below(wanted)
        costs = np.sort(self._cost[wanted])
        dearer = costs.size - np.searchsorted(costs, self._least_above(wanted), side="left")
        down, up = self._sum_below(free), self._sum_above(free)
        passes = down / np.maximum(down + up, 1)
        score = np.where(wanted, passes * dearer + (1 - passes) * below, -1.0)
        best = np.flatnonzero(score.ravel() >= score.max() * (1 - 1e-12))
        # Of equally good ones the cheapest.
        place = best[int(np.argmin(self._cost.ravel()[best]))]
        return self._point(int(place))

    # -- arrays

    def _from(self, point: Point) -> tuple[slice, ...]:
        return tuple(
            slice(at, None) if one else slice(at, at + 1) for at, one in zip(point, self.monotone, strict=True)
        )

    def _to(self, point: Point) -> tuple[slice, ...]:
        return tuple(slice(0 if one else at, at + 1) for at, one in zip(point, self.monotone, strict=True))

    def _of_slice(self, point: Point) -> tuple[slice, ...]:
        return tuple(slice(None) if one else slice(at, at + 1) for at, one in zip(point, self.monotone, strict=True))

    def _sum_below(self, mask: Mask) -> Counts:
        """Count the points of `mask` at or below each point."""
        counts: Counts = mask.astype(np.int64)
        for axis in self._axes:
            counts = np.cumsum(counts, axis=axis)
        return counts

    def _sum_above(self, mask: Mask) -> Counts:
        axes = self._axes
        flipped: Counts = np.flip(self._sum_below(np.flip(mask, axes)), axes)
        return flipped

    def _least_above(self, wanted: Mask) -> Costs:
        """Return the least cost at or above each point: a pass there brings it, when it costs less than the point itself."""
        costs: Costs = np.where(wanted, self._cost, math.inf)
        for axis in self._axes:
            costs = np.flip(np.minimum.accumulate(np.flip(costs, axis), axis=axis), axis)
        return costs

    def _number_slices(self) -> Counts:
        choices = [size for size, one in zip(self.sizes, self.monotone, strict=True) if not one]
        numbers = np.arange(math.prod(choices), dtype=np.int64)
        shape = [1 if one else size for size, one in zip(self.sizes, self.monotone, strict=True)]
        return np.array(np.broadcast_to(numbers.reshape(shape), self.sizes))

    def _limit(self) -> float:
        passed = self._cost[self._known == PASS]
        return float(passed.min()) if passed.size else math.inf

    def _cheapest(self, mask: Mask) -> Point | None:
        places = np.flatnonzero(mask)
        return self._point(int(places[int(np.argmin(self._cost.ravel()[places]))])) if places.size else None

    def _sorted(self, mask: Mask) -> list[Point]:
        places = np.flatnonzero(mask)
        order = np.argsort(self._cost.ravel()[places], kind="stable")
        return [self._point(int(place)) for place in places[order]]

    def _point(self, place: int) -> Point:
        return tuple(int(at) for at in np.unravel_index(place, self.sizes))


def share(searches: Sequence[Search], at: int, point: Point, verdict: Learnt) -> None:
    """Tell searches, ordered from the least load to the greatest, what was seen at place `at`.

    What passes at a load passes at any lower one, and what fails fails at any higher one.
    """
    others = searches[:at] if verdict == "pass" else searches[at + 1 :] if verdict == "fail" else ()
    for other in others:
        if other.status(point) in (None, "inconclusive"):
            other.learn(point, verdict, seen=False)
