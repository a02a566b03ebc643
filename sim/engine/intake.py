"""Finished tasks that were measured, taken into a ledger as if they had run in it: under the same law, with the same rows.

Leaves out: resources, which a trace does not have; so there is one snapshot, at the end.
Checked: tests/test_trace_read.py.
"""

from collections.abc import Iterable

from .ledger import BLOCK, UNFINISHED, Ledger, Task

__all__ = ["take_in"]


def take_in(ledger: Ledger, tasks: Iterable[tuple[Task, float, list[float]]]) -> None:
    """Take in tasks in order of arrival, each with its end (s) and its seconds by account; the clock is then at the last end.

    All accounts must be open, and the ledger empty. Spans are kept of the tasks that have any. Raises ConservationError where the seconds of
    a task do not sum to its length.
    """
    last = 0.0
    for task, end, parts in tasks:
        ledger.arrived += 1
        ledger.ended += 1
        ledger.unfinished += task.status == UNFINISHED
        if task.failure is not None:
            ledger.failures[task.failure] = ledger.failures.get(task.failure, 0) + 1
        ledger._task_seconds += end - task.arrival
        ledger._write(task, end, task.status, parts)
        if task.spans is not None:
            ledger.kept.append(task)
        if not ledger.ended % BLOCK:
            ledger._flush()
        last = max(last, end)
    ledger._flush()
    ledger._pack = None  # it cannot be pickled, and is of no use any more
    ledger._last = last
    ledger.snapshots.append(ledger.snapshot())
    ledger._keep_flows(last)
    if last > ledger.sim.now:
        ledger.sim.run(until=last)
