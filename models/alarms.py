"""Alarms that mostly do not ring: deadlines, and crashes in times to come.

An event that is given up stays in the queue of the simulation until its time comes, and the run with it. Here only the earliest
alarm is in that queue, and none once all are given up.

Leaves out: alarms that others must hear in an order of their own.
Checked: tests/test_recovery.py.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from ..sim.engine.simulation import Call, Simulation

__all__ = ["Alarms"]

Alarm = list[Any]
"""When it rings (s), its number, and what it calls; None once it has rung or was given up."""


class Alarms:
    """The alarms of a run."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self._heap: list[Alarm] = []
        self._calls: list[tuple[float, Call]] = []  # in the queue of the simulation, the earliest last
        self._number = self._live = 0

    def set(self, when: float, callback: Callable[[], None]) -> Alarm:
        """Let `callback` be called at time `when` (s, not before now); return what `cancel` takes."""
        self._number += 1
        self._live += 1
        alarm = [when, self._number, callback]
        heappush(self._heap, alarm)
        self._schedule()
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """It shall not ring."""
        if alarm[2] is None:
            return
        alarm[2] = None
        self._live -= 1
        if not self._live:
            for _, call in self._calls:
                self.sim.withdraw(call)
            self._calls.clear()
            self._heap.clear()
        elif len(self._heap) > 2 * self._live + 64:
            self._heap = [one for one in self._heap if one[2] is not None]
            heapify(self._heap)

    def _schedule(self) -> None:
        if self._heap and (not self._calls or self._heap[0][0] < self._calls[-1][0]):
            call = Call(self._ring)
            self._calls.append((self._heap[0][0], call))
            self.sim.schedule_at(self._heap[0][0], call)

    def _ring(self, _event: object) -> None:
        self._calls.pop()
        heap = self._heap
        while heap and (heap[0][2] is None or heap[0][0] <= self.sim.now):
            alarm = heappop(heap)
            callback, alarm[2] = alarm[2], None
            if callback is not None:
                self._live -= 1
                callback()
            heap = self._heap
        self._schedule()
