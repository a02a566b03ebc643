"""The join of windows: pieces of several sources that belong to the same stretch of time, by their stamps.

The join knows the period of each source. On its own clock, which began with the streams, piece m of a source belongs at
m times the period: its slot, in window floor(slot time / length). A piece goes to the slot next to its stamp when the stamp
is at most the tolerance away; so a clock that is off by more makes every piece unfit, and its slots stay empty. But a clock
that is off by nearly a period or more fits again: a stamp cannot tell that from the next piece (nor, before the source has
told its count, its last piece from one more). Two pieces that fit are thus at most twice the tolerance apart, and at most
the tolerance where the clock of one is the join's.

A slot is known to stay empty when its source has shown a stamp the tolerance past the end of the window, or has ended. A
window is released, in order of windows, when every slot is filled or known to stay empty, or (but for `wait`) `patience`
after the first source had all its slots so. A piece that comes after that is late. A window in which no source has a slot
(shorter than the periods) is no group; one whose pieces all are lost is a group without members.

Each piece costs O(1), each window O(sources and slots).
Leaves out: sliding windows. Stamps are compared with the join's clock, not with each other: sources that are all off by the
same do not fit either.
Checked: tests/test_alignment.py.
"""

import math
from collections import deque
from collections.abc import Sequence

from .aligner import ROUNDING, Aligner, Group, Source, slots_before
from .alignment import Late, Window

__all__ = ["WindowJoin"]


class Track:
    """What has come of one source."""

    def __init__(self, source: Source, length: float, tolerance: float) -> None:
        self.period = source.period
        self.length = length
        self.tolerance = tolerance
        self.limit: float = math.inf if source.count is None else source.count  # slots from here on will not come
        self.pieces: dict[int, float] = {}  # stamp by slot, of windows that are not released
        self.filled: dict[int, int] = {}  # slots by window
        self.filled_at: dict[int, float] = {}  # when the last slot of a window was filled
        self.top = -math.inf  # largest stamp
        self.tops: deque[tuple[float, float]] = deque()  # each stamp that was the largest, and when it came
        self.last = -1  # last slot that a piece was for

    def slots(self, window: int) -> range:
        """Return the slots of a window."""
        first = slots_before(window * self.length, self.period)
        end = slots_before((window + 1) * self.length, self.period)
        return range(first, int(min(end, max(first, self.limit))))

    def window_of(self, slot: int) -> int:
        """Return the window of a slot: as `slots` has it, to the last bit."""
        window = math.floor(slot * self.period / self.length + ROUNDING)
        while slots_before(window * self.length, self.period) > slot:
            window -= 1
        while slots_before((window + 1) * self.length, self.period) <= slot:
            window += 1
        return window

    def after(self, window: int) -> int | None:
        """Return the next window in which the source has a slot; None when it has none."""
        slot = slots_before((window + 1) * self.length, self.period)
        return self.window_of(slot) if slot < self.limit else None

    def slot(self, stamp: float) -> int | None:
        """Return the slot that a piece of that stamp fits."""
        slot = math.floor(stamp / self.period + 0.5)
        fits = abs(stamp - slot * self.period) <= self.tolerance + ROUNDING and 0 <= slot < self.limit
        return slot if fits else None

    def seen(self, stamp: float, now: float) -> None:
        """Keep the stamp where it is the largest."""
        if stamp > self.top:
            self.top = stamp
            self.tops.append((stamp, now))

    def fill(self, slot: int, window: int, stamp: float, now: float) -> None:
        """Put a piece into a slot that is empty."""
        self.pieces[slot] = stamp
        count = self.filled[window] = self.filled.get(window, 0) + 1
        if count == len(self.slots(window)):
            self.filled_at[window] = now

    def through(self, window: int) -> float:
        """Return since when nothing is open in the window (inf: something is). Windows must be asked for in order."""
        past = (window + 1) * self.length + self.tolerance - ROUNDING
        tops = self.tops
        while tops and tops[0][0] < past:
            tops.popleft()
        passed = tops[0][1] if tops else math.inf
        return min(passed, self.filled_at.get(window, math.inf))

    def take(self, window: int) -> tuple[list[float], int]:
        """Return the stamps of the window's pieces, and how many slots are empty; forget them."""
        slots = self.slots(window)
        found = [self.pieces.pop(slot) for slot in slots if slot in self.pieces]
        self.filled.pop(window, None)
        self.filled_at.pop(window, None)
        return found, len(slots) - len(found)


class WindowJoin(Aligner):
    """A join of windows."""

    def __init__(self, spec: Window, sources: Sequence[Source], late: Late) -> None:
        super().__init__(sources, late)
        if any(source.period <= 0 for source in sources):
            raise ValueError("a source of windows needs a period > 0")
        waits = late == "wait" or spec.patience is None
        self.patience = math.inf if waits or spec.patience is None else spec.patience
        self.tracks = [Track(source, spec.length, spec.tolerance) for source in sources]
        self.window = -1  # the one to be released next
        self.open: set[int] = set()  # sources of which a slot of it is open
        self.since, self.cause = math.inf, 0  # who set the timer, and when
        if self._next():
            self._prepare()
        else:
            self._close()

    def _offered(self, source: int, stamp: float, now: float, out: list[Group]) -> None:
        track = self.tracks[source]
        track.seen(stamp, now)
        slot = track.slot(stamp)
        if slot is None or slot in track.pieces:
            self.unfit += 1
            self.late += 1
        else:
            track.last = max(track.last, slot)
            window = track.window_of(slot)
            if window < self.window:
                self.late += 1
            else:
                track.fill(slot, window, stamp, now)
        self._look(source, now, out)

    def _over(self, source: int, sent: int | None, now: float, out: list[Group]) -> None:
        track = self.tracks[source]
        track.limit = max(track.last + 1, 0 if sent is None else sent)
        track.seen(math.inf, now)
        self._look(source, now, out)

    def _expired(self, now: float, out: list[Group]) -> None:
        self._release(now, self.since, self.cause, out)

    def _look(self, source: int, now: float, out: list[Group]) -> None:
        """Something came of `source`: see whether its part of the next window is through, and so the window."""
        if source not in self.open or self.tracks[source].through(self.window) == math.inf:
            return
        self.open.discard(source)
        if not self.open:
            self._release(now, now, source, out)
        elif self.since == math.inf and self.tracks[source].slots(self.window):
            self._time(now, source)

    def _time(self, since: float, cause: int) -> None:
        """The first source is through with the window: wait for the others from then on."""
        self.since, self.cause = since, cause
        self.deadline = since + self.patience

    def _release(self, now: float, since: float, cause: int, out: list[Group]) -> None:
        """Release the next window, and those behind it that only waited for their turn."""
        while True:
            expected = any(track.slots(self.window) for track in self.tracks)
            taken = [track.take(self.window) for track in self.tracks]
            if expected:
                stamps, short = [one[0] for one in taken], [one[1] for one in taken]
                out.append(self._group(self.window, now, since, cause, stamps, short))
            if not self._next():
                self._close()
                return
            self._prepare()
            if self.open:
                return

    def _next(self) -> bool:
        """Go on to the next window in which somebody has a slot; whether there is one."""
        windows = [window for track in self.tracks if (window := track.after(self.window)) is not None]
        self.window = min(windows, default=self.window + 1)
        return bool(windows)

    def _prepare(self) -> None:
        """See who is through with the next window already."""
        self.open = set()
        self.since = self.deadline = math.inf
        first = (math.inf, 0)
        for number, track in enumerate(self.tracks):
            if not track.slots(self.window):
                continue
            through = track.through(self.window)
            if through == math.inf:
                self.open.add(number)
            else:
                first = min(first, (through, number))
        if first[0] < math.inf:
            self._time(*first)
