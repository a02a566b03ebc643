"""The aligners of the kinds that `alignment` knows, as state machines: told what comes, they say what is released when.

`barrier` and `pairwise` release one group: when each source has brought its `count` of pieces or has ended, or (but for
`wait`) `patience` after the first of them had.

`watermark`: a piece stamped s belongs to window floor(s / length). The watermark is the least, over the sources that have
not ended, of the largest stamp seen, minus the lateness; a window closes as soon as the watermark is at its end or past
it, and a piece of a closed window is late. A source that has sent nothing holds it. A window without pieces is no group.
How many pieces a window lacks is told from the source's period: where the length is no whole number of periods, a clock
that is off can make a window seem one short.

`jitter_buffer`: the first piece that comes, of whichever source, fixes the offset between arrival and stamp; a piece
stamped s is played out at s + offset + depth, a group of its own, in order of playout; one that comes after that is late.
How many are missing before a piece is told from its source's period and the stamp played before; there, `degrade` differs
from `drop` in the mark only. Each piece costs O(log of those held).

Leaves out: see `alignment`.
Checked: tests/test_alignment.py.
"""

import heapq
import math
from collections.abc import Sequence

from .aligner import ROUNDING, Aligner, Group, Source, slots_before
from .alignment import Alignment, JitterBuffer, Late, Watermark, policy
from .window_join import WindowJoin

__all__ = ["BarrierJoin", "Playout", "WatermarkJoin", "aligner"]


def aligner(spec: Alignment, late: Late | None, sources: Sequence[Source]) -> Aligner:
    """Return an aligner, new, of the kind that `spec` chooses. Raises ValueError for a window's source without a period."""
    chosen = policy(spec, late)
    if spec.window is not None:
        return WindowJoin(spec.window, sources, chosen)
    if spec.watermark is not None:
        return WatermarkJoin(spec.watermark, sources, chosen)
    if spec.jitter_buffer is not None:
        return Playout(spec.jitter_buffer, sources, chosen)
    return BarrierJoin(spec.patience, sources, chosen)


class BarrierJoin(Aligner):
    """Waits for all that every source brings."""

    def __init__(self, patience: float | None, sources: Sequence[Source], late: Late) -> None:
        super().__init__(sources, late)
        self.patience = math.inf if patience is None or late == "wait" else patience
        self.stamps: list[list[float]] = [[] for _ in sources]
        self.short = [1 if source.count is None else source.count for source in sources]  # at least
        self.since, self.cause = math.inf, 0
        self.open = len(sources)

    def _offered(self, source: int, stamp: float, now: float, out: list[Group]) -> None:
        self.stamps[source].append(stamp)
        count = self.sources[source].count
        if count is not None:
            self.short[source] = count - self.offered[source]

    def _over(self, source: int, sent: int | None, now: float, out: list[Group]) -> None:
        self.short[source] = 0 if sent is None else max(0, sent - self.offered[source])
        self.open -= 1
        if not self.open:
            self._release(now, now, source, out)
        elif self.since == math.inf:
            self.since, self.cause = now, source
            self.deadline = now + self.patience

    def _expired(self, now: float, out: list[Group]) -> None:
        self._release(now, self.since, self.cause, out)

    def _release(self, now: float, since: float, cause: int, out: list[Group]) -> None:
        self._close()
        out.append(self._group(0, now, since, cause, self.stamps, self.short))


class WatermarkJoin(Aligner):
    """Closes windows as the watermark passes their ends."""

    def __init__(self, spec: Watermark, sources: Sequence[Source], late: Late) -> None:
        super().__init__(sources, late)
        self.length, self.lateness = spec.length, spec.lateness
        self.tops = [-math.inf] * len(sources)  # largest stamp of each source; inf when it has ended
        self.least = -math.inf
        self.closed: float = -math.inf  # windows before this one are closed
        self.limits = [math.inf if source.count is None else source.count for source in sources]
        self.windows: dict[int, list[list[float]]] = {}
        self.order: list[int] = []  # a heap of the open windows

    def _offered(self, source: int, stamp: float, now: float, out: list[Group]) -> None:
        window = math.floor(stamp / self.length + ROUNDING)
        if window < self.closed:
            self.late += 1
        else:
            if window not in self.windows:
                self.windows[window] = [[] for _ in self.sources]
                heapq.heappush(self.order, window)
            self.windows[window][source].append(stamp)
        if stamp > self.tops[source]:
            self._advance(source, stamp, now, out)

    def _over(self, source: int, sent: int | None, now: float, out: list[Group]) -> None:
        if sent is not None:
            self.limits[source] = sent
        elif self.sources[source].period > 0 and self.tops[source] > -math.inf:
            self.limits[source] = math.floor(self.tops[source] / self.sources[source].period + 0.5) + 1

        self._advance(source, math.inf, now, out)
        if self.least == math.inf:
            self._close()

    def _expired(self, now: float, out: list[Group]) -> None:
        raise AssertionError("a watermark sets no timer")

    def _advance(self, source: int, top: float, now: float, out: list[Group]) -> None:
        """The largest stamp of `source` is now `top`: close what the watermark has passed."""
        held = self.tops[source] == self.least  # only who holds the watermark can move it
        self.tops[source] = top
        if not held:
            return
        self.least = min(self.tops)
        self.closed = math.inf
        if self.least < math.inf:
            mark = (self.least - self.lateness) / self.length
            self.closed = mark if mark == -math.inf else math.floor(mark + ROUNDING)
        while self.order and self.order[0] < self.closed:
            window = heapq.heappop(self.order)
            stamps = self.windows.pop(window)
            short = [max(0, self._expected(one, window) - len(got)) for one, got in enumerate(stamps)]
            out.append(self._group(window, now, now, source, stamps, short))

    def _expected(self, source: int, window: int) -> int:
        """Return how many pieces the period of the source puts into a window (0 where it has none)."""
        period = self.sources[source].period
        if period <= 0:
            return 0
        first = slots_before(window * self.length, period)
        end = slots_before((window + 1) * self.length, period)
        return max(0, int(min(end, self.limits[source])) - first)


class Playout(Aligner):
    """Holds pieces, and plays them out in the rhythm of their stamps."""

    def __init__(self, spec: JitterBuffer, sources: Sequence[Source], late: Late) -> None:
        super().__init__(sources, late)
        self.depth = spec.depth
        self.offset: float | None = None  # arrival minus stamp, of the first piece
        self.held: list[
            tuple[float, int, float, float, int]
        ] = []  # heap: playout, order of coming, arrival, stamp, source
        self.came = 0
        self.played: list[float | None] = [None] * len(sources)  # stamp of the piece played last
        self.groups = 0

    def _offered(self, source: int, stamp: float, now: float, out: list[Group]) -> None:
        if self.offset is None:
            self.offset = now - stamp
        playout = stamp + self.offset + self.depth
        if playout < now - ROUNDING:
            self.late += 1
            return
        heapq.heappush(self.held, (max(playout, now), self.came, now, stamp, source))
        self.came += 1
        self.deadline = self.held[0][0]

    def _over(self, source: int, sent: int | None, now: float, out: list[Group]) -> None:
        if all(self.over) and not self.held:
            self._close()

    def _expired(self, now: float, out: list[Group]) -> None:
        playout, _, arrival, stamp, source = heapq.heappop(self.held)
        before, period = self.played[source], self.sources[source].period
        short = [0] * len(self.sources)
        if before is not None and period > 0:
            short[source] = max(0, round((stamp - before) / period) - 1)
        self.played[source] = stamp
        stamps: list[list[float]] = [[] for _ in self.sources]
        stamps[source].append(stamp)
        out.append(self._playout(playout, arrival, source, stamps, short))
        self.deadline = self.held[0][0] if self.held else math.inf
        if all(self.over) and not self.held:
            self._close()

    def _playout(self, at: float, arrival: float, source: int, stamps: list[list[float]], short: list[int]) -> Group:
        """Return the group of the piece played at `at`: it is played under every policy, whatever was missing before it."""
        index, lacking = self.groups, short[source]
        self.groups += 1
        self.used += 1
        repeats, degraded = self.policy == "repeat", self.policy == "degrade" and lacking > 0
        self.repeated += lacking if repeats else 0
        self.missing += 0 if repeats else lacking
        self.degraded += degraded
        none, counts = (0,) * len(short), tuple(short)
        missing, repeated = (none, counts) if repeats else (counts, none)
        return Group(index, at, arrival, source, tuple(map(tuple, stamps)), missing, repeated, degraded)
