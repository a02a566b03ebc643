"""The clock and the event loop: SimPy's environment, with absolute times and the loop written flat.

Everything that SimPy runs (events, timeouts, processes) runs here unchanged. Two things are added: an event may be put
at an absolute time, so that several consecutive delays cost one event and no rounding; and the loop calls callbacks
without a method call per event, which is about a third of the cost of a lean event.

Leaves out: running until an event (give a time, or let the queue run empty).
Checked: tests/test_engine.py, against SimPy's own loop on the same processes.
"""

from heapq import heappop, heappush
from typing import Any, Protocol

import simpy
from simpy.core import StopSimulation

NORMAL = 1  # SimPy's ordinary priority among events of one instant


class Schedulable(Protocol):
    """What the loop needs of an event: SimPy's own events have it, and so has `Wait`."""

    callbacks: Any
    _ok: bool
    _value: Any


class Simulation(simpy.Environment):
    """A SimPy environment whose events may be scheduled at absolute times."""

    @property
    def scheduled(self) -> int:
        """How many events have been scheduled so far."""
        # itertools.count shows its next value only in its pickle form; consuming one would change the order of ties.
        return int(self._eid.__reduce__()[1][0])

    def schedule_at(self, when: float, event: Schedulable) -> None:
        """Put `event` into the queue at absolute time `when` (seconds, not before now)."""
        heappush(self._queue, (when, NORMAL, next(self._eid), event))  # type: ignore[misc]

    def run(self, until: Any = None) -> None:
        """Process events until none is left, or until the next one lies after `until` (seconds).

        A hot loop: everything is a local name, and SimPy's `step` is inlined.
        """
        queue, pop, limit = self._queue, heappop, float("inf") if until is None else float(until)
        try:
            while queue and queue[0][0] <= limit:
                self._now, _, _, event = pop(queue)
                callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
                for callback in callbacks:
                    callback(event)
                if not event._ok and not hasattr(event, "_defused"):
                    raise event._value
        except StopSimulation:
            return
        if until is not None and self._now < limit < float("inf"):
            self._now = limit
