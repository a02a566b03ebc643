"""What every aligner of streams has in common: what it is told, what it releases, and what it counts.

An aligner is told of events in order of time: a piece came, a source ended, the clock reached its `deadline`. Each answers
with the groups of pieces that this released. It knows nothing of the future: of a source only its period and, where the
length of the stream is known before (`Source.count`), how many pieces it will send.

Of the pieces of a source each is, when the aligner is done, one of: used in a group; left out with its source, though in
time (`left_out`, of `degrade`); `late`; `lost`. A piece that fits nowhere (`unfit`) counts as late. What the aligner no
longer waited for when it was done counts as late, unless its source had ended.

Leaves out: the kinds (`aligners`, `window_join`); time that an alignment takes (`Pairwise.each`): who uses it books it.
Checked: tests/test_alignment.py.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from .alignment import Late

__all__ = ["ROUNDING", "Aligner", "Group", "Source", "slots_before"]

ROUNDING = 1e-9  # s, and of a window: what stamps and borders may differ by and be the same (floats, not clocks)


@dataclass(frozen=True, slots=True)
class Source:
    """What an aligner knows of a source: seconds between its pieces (0: it brings one), and how many, where known before."""

    period: float = 0.0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Pieces that belong together.

    `index` is that of the window, or counts the groups. The group was released at `released` (s) because of what source
    `cause` did (bring a piece, or end) at `since`: at once (`since == released`), or by the timer that this had set.
    `stamps` holds, per source, the stamps of its pieces, in order; `missing` how many pieces the group goes without, as far
    as the aligner could know (a source that has not said that it ended might have sent more); `repeated` for how many an
    earlier one stands in. `degraded`: a source was left out, by the policy of that name.
    """

    index: int
    released: float
    since: float
    cause: int
    stamps: tuple[tuple[float, ...], ...]
    missing: tuple[int, ...]
    repeated: tuple[int, ...]
    degraded: bool

    @property
    def members(self) -> tuple[int, ...]:
        """The sources that are in the group, be it with a piece that stands in."""
        return tuple(one for one, stamps in enumerate(self.stamps) if stamps or self.repeated[one])

    @property
    def pairs(self) -> int:
        """How many pairs its members make."""
        members = len(self.members)
        return members * (members - 1) // 2


def slots_before(bound: float, period: float) -> int:
    """Return how many of the times 0, `period`, 2 `period`, ... (s) lie before `bound` (s)."""
    return max(0, math.ceil(bound / period - ROUNDING))


class Aligner(ABC):
    """Brings pieces of several sources together, by the policy `late`.

    `deadline` is when `expire` must be called (s; inf: not at all), `done` whether no group will come any more. The counters
    are of pieces, `degraded` of groups; `missing` and `repeated` count what groups went without and what stood in.
    """

    def __init__(self, sources: Sequence[Source], late: Late) -> None:
        if not sources:
            raise ValueError("an aligner needs a source")
        self.sources = tuple(sources)
        self.policy = late
        self.deadline = math.inf
        self.done = False
        self.now = -math.inf
        self.offered = [0] * len(sources)
        self.over = [False] * len(sources)  # nothing more will come of it
        self.used = self.late = self.unfit = self.lost = self.left_out = 0
        self.missing = self.repeated = self.degraded = 0
        self.known = [False] * len(sources)  # whether one of its pieces was used: what may stand in

    def offer(self, source: int, stamp: float, now: float) -> list[Group]:
        """A piece of `source` comes at `now` (s), stamped `stamp` (s since the streams began, by its own clock)."""
        out = self._run_to(now, inclusive=False)
        if self.done:
            return out  # counted already
        if self.over[source]:
            raise ValueError(f"source {source} has ended, and offers a piece at {now}")
        self.offered[source] += 1
        self._offered(source, stamp, now, out)
        count = self.sources[source].count
        if self.offered[source] == count:
            self._finish(source, count, now, out)
        return out + self._run_to(now, inclusive=False)

    def end(self, source: int, now: float, count: int | None = None) -> list[Group]:
        """`source` will bring no more; it says how many pieces it had sent (None: nobody knows what was lost behind)."""
        out = self._run_to(now, inclusive=False)
        if not self.done and not self.over[source]:
            sent = self.sources[source].count if count is None else count
            if sent is not None:
                self.lost += max(0, sent - self.offered[source])
            self._finish(source, sent, now, out)
        return out + self._run_to(now, inclusive=False)

    def expire(self, now: float) -> list[Group]:
        """The clock has come to `now` (s): release what was due by then."""
        return self._run_to(now, inclusive=True)

    def _finish(self, source: int, sent: int | None, now: float, out: list[Group]) -> None:
        self.over[source] = True
        if not self.done:
            self._over(source, sent, now, out)

    def _run_to(self, now: float, inclusive: bool) -> list[Group]:
        """Fire the timers that come before `now`; those of `now` itself come after the pieces of that time."""
        if now < self.now:
            raise ValueError(f"events must come in order of time; got {now} after {self.now}")
        out: list[Group] = []
        while self.deadline < now or (inclusive and self.deadline <= now < math.inf):
            self.now = max(self.now, self.deadline)
            self._expired(self.now, out)
        self.now = now
        return out

    @abstractmethod
    def _offered(self, source: int, stamp: float, now: float, out: list[Group]) -> None:
        """Take a piece; append the groups that it releases."""

    @abstractmethod
    def _over(self, source: int, sent: int | None, now: float, out: list[Group]) -> None:
        """Nothing more will come of `source`, which sent `sent` pieces in all; append the groups that this releases."""

    @abstractmethod
    def _expired(self, now: float, out: list[Group]) -> None:
        """The deadline is reached: append the groups that this releases, and set the next deadline."""

    def _close(self) -> None:
        """No group will come any more: what is still out there is late."""
        self.done = True
        self.deadline = math.inf
        for source, over in enumerate(self.over):
            count = self.sources[source].count
            if not over:
                self.late += 1 if count is None else count - self.offered[source]  # at least

    def _group(
        self, index: int, released: float, since: float, cause: int, stamps: list[list[float]], short: list[int]
    ) -> Group:
        """Return the group of `stamps` as the policy makes it, where each source is `short` of so many pieces; count it."""
        repeated = [0] * len(short)
        degraded = False
        for source, lacking in enumerate(short):
            if stamps[source]:
                self.known[source] = True
            if not lacking:
                continue
            if self.policy == "repeat" and self.known[source]:
                repeated[source], short[source] = lacking, 0
            elif self.policy == "degrade":
                degraded = True
                self.left_out += len(stamps[source])
                stamps[source] = []
        self.used += sum(map(len, stamps))
        self.missing += sum(short)
        self.repeated += sum(repeated)
        self.degraded += degraded
        members = tuple(tuple(sorted(one)) for one in stamps)
        return Group(index, released, since, cause, members, tuple(short), tuple(repeated), degraded)
