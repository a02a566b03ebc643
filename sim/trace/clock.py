"""When the tasks of trace files begin, though one may be far from all others, or files may have no clock in common.

Leaves out: when the spans of a task begin (`repair`).
Checked: tests/test_trace_read.py, tests/test_trace_tally.py.
"""

from __future__ import annotations

from .repair import ABSURD
from .spool import Spool
from .tally import Tally

__all__ = ["Clock"]


class Clock:
    """When tasks begin: on the files' clock, or one after the other where they have none in common."""

    def __init__(self, spool: Spool, *, own_clocks: bool) -> None:
        found = list(spool.groups())
        starts = sorted(start for _, start, _ in found if start is not None)
        middle = starts[len(starts) // 2] if starts else 0
        for place, (group, start, number) in enumerate(found):
            if start is not None and abs(start - middle) > ABSURD:  # one such span may not date its task
                near = spool.earliest(group, middle - ABSURD, middle + ABSURD)
                found[place] = group, start if near is None else near, number
        found.sort(key=lambda one: (one[1] is not None, one[1] or 0, one[2]))
        sane = sorted(start for _, start, _ in found if start is not None and abs(start - middle) <= ABSURD)
        self.zero = sane[0] if sane else 0
        self.common = not own_clocks
        self._next = 0
        if own_clocks:
            found.sort(key=lambda one: one[2])
        self.groups = [(group, start) for group, start, _ in found]
        self.began: int | None = None  # the earliest task, once repaired
        self._first, self._second = (*sane[:2], None, None)[:2]

    def repaired(self, start: int, before: int | None) -> None:
        """A task that seemed to begin at `before` (ns) begins at `start`: what it seemed to be may have been another clock's."""
        if self._first is not None and before == self._first <= start:
            self.zero = start if self._second is None else min(start, self._second)
            self._first = None
        if start >= self.zero:
            self.began = start if self.began is None else min(start, self.began)

    def base(self, arrival: int, spans: int, tally: Tally) -> int:
        """Return the time (ns) that is 0 on the ledger's clock, for a task of so many spans that arrives then."""
        if self.common and 0 <= arrival - self.zero <= 2 * ABSURD:
            return self.zero
        if self.common:
            tally.note("guessed", "spans of tasks more than ten years from the others: put at time 0", spans=spans)
        return arrival - (0 if self.common else self._next)

    def passed(self, length: int) -> None:
        """A task has taken so long (ns)."""
        self._next += length
