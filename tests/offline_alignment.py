"""What an alignment must release, worked out afterwards from all that came: by search over the events, in quadratic time.

Written from the definitions in `models/alignment.py` and the modules of the kinds, and sharing no code with them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from coordsim.models.aligner import Aligner, Group
from coordsim.models.alignment import Late, stamp

EPS = 1e-7  # far under every time in the tests, far over what floats lose


class Event(NamedTuple):
    """A piece of `source` comes (with a stamp), or its end (None)."""

    time: float
    source: int
    stamp: float | None


@dataclass
class Stream:
    """A source of pieces: how it is made, and by which clock."""

    period: float
    count: int
    skew: float = 0.0
    drift: float = 0.0
    jitter: float = 0.0  # mean (s) of an exponential
    loss: float = 0.0

    def events(self, source: int, random: Random) -> list[Event]:
        """Return what comes, the end last: when all that comes has come, not before the last piece is made."""
        found = []
        for number in range(self.count):
            made = number * self.period
            delay = random.expovariate(1 / self.jitter) if self.jitter else 0.0
            if random.random() >= self.loss:
                found.append(Event(made + delay, source, stamp(made, self.skew, self.drift)))
        found.sort()
        over = max((self.count - 1) * self.period, found[-1].time if found else 0.0)
        return [*found, Event(over, source, None)]


def merged(streams: Sequence[Stream], seed: int) -> list[Event]:
    """Return the events of all streams in order of time; the end of a source after its pieces."""
    random = Random(seed)
    found = [event for source, stream in enumerate(streams) for event in stream.events(source, random)]
    return sorted(found, key=lambda one: (one.time, one.source, one.stamp is None))


def play(aligner: Aligner, events: Sequence[Event], counts: Sequence[int] | None = None) -> list[Group]:
    """Tell an aligner all events, with its timers in between; each end tells the source's count, where given."""
    groups: list[Group] = []
    for event in events:
        while aligner.deadline < event.time:
            groups += aligner.expire(aligner.deadline)
        if event.stamp is not None:
            groups += aligner.offer(event.source, event.stamp, event.time)
        else:
            groups += aligner.end(event.source, event.time, None if counts is None else counts[event.source])
    while aligner.deadline < math.inf:
        groups += aligner.expire(aligner.deadline)
    return groups


@dataclass
class Expected:
    """A group as it must be."""

    index: int
    released: float
    stamps: list[list[float]]
    missing: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    degraded: bool = False

    def same(self, group: Group) -> bool:
        """Whether a group is this one."""
        return (
            group.index == self.index
            and abs(group.released - self.released) < EPS
            and [list(one) for one in group.stamps] == [sorted(one) for one in self.stamps]
            and list(group.missing) == self.missing
            and list(group.repeated) == self.repeated
            and group.degraded == self.degraded
        )


def treated(group: Expected, short: list[int], late: Late, earlier: list[Expected]) -> Expected:
    """Return the group as the policy makes it, where sources are `short` of pieces."""
    group.missing, group.repeated = list(short), [0] * len(short)
    for source, lacking in enumerate(short):
        if lacking and late == "repeat":
            if group.stamps[source] or any(one.stamps[source] for one in earlier):
                group.missing[source], group.repeated[source] = 0, lacking
        elif lacking and late == "degrade":
            group.stamps[source], group.degraded = [], True
    return group


def windows(
    events: Sequence[Event],
    streams: Sequence[Stream],
    length: float,
    tolerance: float,
    patience: float,
    late: Late,
    told: bool,
) -> tuple[list[Expected], int]:
    """Return the groups of a join of windows, and how many pieces that came were in none.

    With `told`, the join knows beforehand how many pieces each source sends.
    """
    arrivals = [[one for one in events if one.source == source] for source in range(len(streams))]
    counts = [stream.count for stream in streams]
    if not told:  # then a clock that is off by most of a period can show a piece more than there are
        counts = [max(one.count, 1 + _last(one, came, tolerance)) for one, came in zip(streams, arrivals, strict=True)]
    last = max(math.floor((of - 1) * one.period / length + EPS) for of, one in zip(counts, streams, strict=True))
    groups: list[Expected] = []
    before, taken = 0.0, 0
    for window in range(last + 1):
        inside = [_slots(one, window, length, of) for one, of in zip(streams, counts, strict=True)]
        thought = inside if told else [_slots(stream, window, length, 10**9) for stream in streams]
        if not any(thought):
            continue
        past = (window + 1) * length + tolerance - EPS
        through = [
            _through(arrivals[source], of, past, tolerance, streams[source].period) if of else 0.0
            for source, of in enumerate(thought)
        ]
        first = min((at for at, of in zip(through, inside, strict=True) if of), default=math.inf)
        before = max(before, min(max(through), first + patience))
        if not any(inside):
            continue
        stamps, short, spare = [], [], 0
        for source, final in enumerate(inside):
            of = (
                final if arrivals[source][-1].time <= before else thought[source]
            )  # before its end it may yet send more
            best: dict[int, float] = {}
            for one in arrivals[source]:
                if one.stamp is not None and one.time <= before:
                    for slot in of:
                        if _fits(one.stamp, slot * streams[source].period, tolerance, streams[source].period):
                            best.setdefault(slot, one.stamp)
            stamps.append(list(best.values()))
            short.append(len(of) - len(best))
            spare += len(best)
        taken += spare
        groups.append(treated(Expected(window, before, stamps), short, late, groups))
    return groups, sum(one.stamp is not None for one in events) - taken


def _slots(stream: Stream, window: int, length: float, count: int) -> list[int]:
    """Return the numbers of the pieces that belong into a window, found by trying."""
    guess = int(window * length / stream.period)
    nearby = range(max(0, guess - 2), guess + 3 + int(length / stream.period) + 1)
    low, high = window * length - EPS, (window + 1) * length - EPS
    return [number for number in nearby if low <= number * stream.period < high and number < count]


def _last(stream: Stream, arrivals: Sequence[Event], tolerance: float) -> int:
    """Return the last slot that a piece fits; -1 where none does."""
    top = max((one.stamp for one in arrivals if one.stamp is not None), default=0.0)
    near = int(top / stream.period)
    fitting = [of for of in (near, near + 1) if _fits(top, of * stream.period, tolerance, stream.period)]
    return max(fitting, default=-1)


def _fits(got: float, wanted: float, tolerance: float, period: float) -> bool:
    """Whether a stamp is near enough to a slot, and to no other slot nearer."""
    return abs(got - wanted) <= min(tolerance + EPS, period / 2)


def _through(arrivals: Sequence[Event], of: list[int], past: float, tolerance: float, period: float) -> float:
    """Return the first time at which all of the slots are filled, or the source is past them or over."""
    for upto, event in enumerate(arrivals, 1):
        seen = [one.stamp for one in arrivals[:upto] if one.stamp is not None]
        filled = all(any(_fits(got, slot * period, tolerance, period) for got in seen) for slot in of)
        if event.stamp is None or filled or max(seen) >= past:
            return event.time
    raise AssertionError("a source never ends")


def watermarks(
    events: Sequence[Event], streams: Sequence[Stream], length: float, lateness: float, late: Late
) -> tuple[list[Expected], int]:
    """Return the groups of a watermark, and how many pieces were late."""
    marks = []
    for upto in range(1, len(events) + 1):
        tops = []
        for source in range(len(streams)):
            own = [one for one in events[:upto] if one.source == source]
            seen = [one.stamp for one in own if one.stamp is not None]
            ended = any(one.stamp is None for one in own)
            tops.append(math.inf if ended else max(seen, default=-math.inf))
        marks.append(min(tops) - lateness)
    groups: list[Expected] = []
    kept = 0
    for window in sorted({math.floor(one.stamp / length + EPS) for one in events if one.stamp is not None}):
        closing = next(at for at, mark in enumerate(marks) if mark >= (window + 1) * length - EPS)
        stamps: list[list[float]] = [[] for _ in streams]
        for one in events[: closing + 1]:
            if one.stamp is not None and math.floor(one.stamp / length + EPS) == window:
                stamps[one.source].append(one.stamp)
        found = sum(map(len, stamps))
        kept += found
        if found:
            over = [any(one == (one.time, of, None) for one in events[: closing + 1]) for of in range(len(streams))]
            counts = [stream.count if ended else 10**9 for stream, ended in zip(streams, over, strict=True)]
            wanted = [len(_slots(one, window, length, most)) for one, most in zip(streams, counts, strict=True)]
            short = [max(0, want - len(got)) for want, got in zip(wanted, stamps, strict=True)]
            groups.append(treated(Expected(window, events[closing].time, stamps), short, late, groups))
    return groups, sum(one.stamp is not None for one in events) - kept


def playouts(
    events: Sequence[Event], streams: Sequence[Stream], depth: float, late: Late
) -> tuple[list[Expected], int]:
    """Return the groups of a jitter buffer, and how many pieces were late."""
    pieces = [one for one in events if one.stamp is not None]
    offset = pieces[0].time - (pieces[0].stamp or 0.0)
    timed = [((one.stamp or 0.0) + offset + depth, one) for one in pieces]
    kept = sorted((at, one.time, one) for at, one in timed if one.time <= at + 1e-9)
    groups: list[Expected] = []
    for index, (at, _, one) in enumerate(kept):
        assert one.stamp is not None
        stamps: list[list[float]] = [[] for _ in streams]
        stamps[one.source] = [one.stamp]
        short = [0] * len(streams)
        earlier = [other.stamps[one.source][0] for other in groups if other.stamps[one.source]]
        if earlier:
            short[one.source] = round((one.stamp - max(earlier)) / streams[one.source].period) - 1
        group = Expected(index, at, stamps, list(short), [0] * len(streams), late == "degrade" and any(short))
        if late == "repeat":
            group.missing, group.repeated = group.repeated, group.missing
        groups.append(group)
    return groups, len(pieces) - len(kept)
