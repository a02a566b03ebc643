"""What the orchestrator wrote down, as a ledger: the type that simulations have, under the same law.

The critical path of a task is its trunk, and at each barrier the branch that came last. Whatever lies between two spans of a lane is the
event loop's own time, and booked as orchestration.

Checked: tests/test_validation_system.py.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ...sim.analysis.result import Result
from ...sim.engine.intake import take_in
from ...sim.engine.ledger import Account, Ledger, Task
from ...sim.engine.simulation import Simulation

__all__ = ["FACTS", "result_of"]

FACTS = ("calls", "errors", "timeouts", "retries", "given_up")
BETWEEN = Account("orchestration", "orchestrator", "event loop")

Entry = tuple[int, Account, float, float]  # lane, account, start and end (s)


def result_of(name: str, told: dict[str, Any]) -> Result:
    """Return what the orchestrator tells of a run as a result, whose clock is at 0 when the run began."""
    ledger = Ledger(Simulation(), FACTS, "all")
    tasks = [_Measured(task, told["begun"]) for task in sorted(told["tasks"], key=lambda task: task[0])]
    for task in tasks:
        for _, account, _, _ in task.entries:
            ledger.account(account.category, account.component, account.name)
    take_in(ledger, [task.enter(ledger, index) for index, task in enumerate(tasks)])
    return Result.of(
        ledger, scenario=name, seed=0, replication=0, classes=("task",), horizon=False, doubts=(), resources=()
    )


class _Measured:
    """A task as told: arrival, end, spans, barriers and counts, with times (s) since `base`."""

    def __init__(self, told: list[Any], base: float) -> None:
        arrival, end, spans, joins, self.counts = told
        self.arrival, self.end = arrival - base, end - base
        lanes: dict[int, list[Entry]] = {0: []}
        for lane, category, component, label, first, last in spans:
            lanes.setdefault(lane, []).append((lane, Account(category, component, label), first - base, last - base))
        self.edges: list[tuple[int, int, float]] = []
        self.critical: list[tuple[int, float, float]] = []  # lane, from, to
        at, holes = self.arrival, []
        self.entries: list[Entry] = []
        for forked, first, last, releasing, released in joins:
            begun, over = forked - base, released - base
            self.edges += [(0, lane, begun) for lane in range(first, last + 1)]
            self.edges.append((releasing, 0, over))
            self.critical += [(0, at, begun), (releasing, begun, over)]
            holes.append((begun, over))
            at = over
            for lane in range(first, last + 1):
                ends = lanes[lane][-1][3]
                self.entries += _filled(lanes[lane], begun, ends, ())
        self.critical.append((0, at, self.end))
        self.entries += _filled(lanes[0], self.arrival, self.end, holes)

    def enter(self, ledger: Ledger, index: int) -> tuple[Task, float, list[float]]:
        """Return it in the numbers of a ledger, with its end (s) and seconds by account on the critical path."""
        task = Task(ledger, index, 0, self.arrival)
        task.status = 0
        task.facts = [float(self.counts[name]) for name in FACTS]
        task.spans, task.edges = [], self.edges
        parts = [0.0] * len(ledger.accounts)
        beside = 0.0
        for lane, account, start, end in self.entries:
            number = ledger.account(account.category, account.component, account.name)
            task.spans += (lane, 0, number, start, end, 0.0, 0)
            if any(lane == on and start >= first and end <= last for on, first, last in self.critical):
                parts[number] += end - start
            else:
                beside += end - start
        task.overlapped = [beside]
        return task, self.end, parts


def _filled(
    entries: Iterable[Entry], start: float, end: float, holes: Iterable[tuple[float, float]]
) -> Iterator[Entry]:
    """Yield the entries of a lane from `start` to `end` (s) in order, and what lies between them; nothing in the holes."""
    todo = sorted([*entries, *((-1, BETWEEN, first, last) for first, last in holes)], key=lambda one: (one[2], one[3]))
    lane = next((one[0] for one in todo if one[0] >= 0), 0)
    at = start
    for number, account, begins, ends in todo:
        if begins > at:
            yield lane, BETWEEN, at, begins
        begun, at = max(begins, at), max(begins, at, ends)
        if number >= 0 and at > begun:
            yield lane, account, begun, at
    if end > at:
        yield lane, BETWEEN, at, end
