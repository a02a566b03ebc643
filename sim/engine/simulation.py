"""The clock and the event loop: SimPy's environment, with absolute times and the loop written flat.

Everything that SimPy runs (events, timeouts, processes) runs here unchanged. Two things are added: an event may be put
at an absolute time, so that several consecutive delays cost one event and no rounding; and the loop calls callbacks
without a method call per event, which is about a third of the cost of a lean event.

Leaves out: running until an event (give a time, or let the queue run empty).
Checked: tests/test_engine.py, against SimPy's own loop on the same processes; tests/test_fault_clock.py (`withdraw`).
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

import simpy
from simpy.core import StopSimulation

LAST = 9  # after everything else of an instant
NORMAL = 1  # SimPy's ordinary priority among events of one instant


class Schedulable(Protocol):
    """What the loop needs of an event: SimPy's own events have it, and so has `Wait`."""

    callbacks: Any
    _ok: bool
    _value: Any


class Call:
    """An event that calls `callback` once; `cancel` makes it do nothing."""

    __slots__ = ("callbacks",)
    _ok = True
    _value = None

    def __init__(self, callback: Callable[[Any], Any]) -> None:
        self.callbacks: Any = (callback,)

    def cancel(self) -> None:
        """Let it come to nothing."""
        self.callbacks = ()


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

    def withdraw(self, event: Schedulable) -> None:
        """Take `event` out of the queue, so that the clock never comes to its time. It costs a pass over the queue.

        Raises ValueError where it is not in the queue.
        """
        queue = self._queue  # changed in place: others hold it too
        place = next((place for place, entry in enumerate(queue) if entry[3] is event), None)
        if place is None:
            raise ValueError(f"`event` must be in the queue, but got ({event=})")
        last = queue.pop()
        if place < len(queue):
            queue[place] = last
            heapify(queue)

    def run(self, until: Any = None) -> None:
        """Process events until none is left, or all up to time `until` (seconds) are done.

        A hot loop: everything is a local name, and SimPy's `step` is inlined.
        """
        queue, pop = self._queue, heappop
        if until is not None:
            if not until >= self._now:
                raise ValueError(f"`until >= now` must hold, but got ({until=}, now={self._now})")
            self.stop_at(float(until))
        try:
            while queue:
                self._now, _, _, event = pop(queue)
                callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
                for callback in callbacks:
                    callback(event)
                if not event._ok and not hasattr(event, "_defused"):
                    raise event._value
        except StopSimulation:
            return

    def stop_at(self, when: float) -> None:
        """End the run at time `when`, after the events of that instant."""
        heappush(self._queue, (when, LAST, next(self._eid), Call(_stop)))  # type: ignore[misc]


def _stop(_event: object) -> None:
    raise StopSimulation
