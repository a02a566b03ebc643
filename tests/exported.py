"""Runs to export: run folders of shipped scenarios, and tasks made of random work, with the spans and seconds that the ledger has of them.

Leaves out: what is expected of the files.
"""

from __future__ import annotations

import io
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coordsim as cs
from coordsim.models.simulate import simulate
from coordsim.sim.analysis import runfolder
from coordsim.sim.analysis.replicate import Settings, replicate
from coordsim.sim.analysis.spans import RawTask, materialize
from coordsim.sim.engine.ledger import DONE, STATUSES, Account, Span
from coordsim.sim.trace.export import ExportRun, ExportTask, Format, write
from coordsim.sim.trace.measured import Booked

__all__ = ["BACKOFF", "EPOCH", "Work", "as_bytes", "folder_of", "made", "run_of", "spans_of", "task_of"]

EPOCH = 1_577_836_800_000_000_000  # 2020-01-01T00:00:00Z (ns)
BACKOFF = Account("recovery", "api", "failed attempt")
Work = tuple[
    Any, ...
]  # ("do", account, seconds, size), ("group", account, works), ("fork", (works, ...)), ("lose", works)


def folder_of(path: Path, scenario: str, tasks: int | None = None, **changes: Any) -> Path:
    """Run a shipped scenario once with all spans kept, and return its run folder."""
    values = {name.replace("__", "."): value for name, value in changes.items()}
    asked = cs.load(scenario).replace_all(values | ({} if tasks is None else {"workload.tasks": tasks}))
    run = replicate(simulate, asked, seed=asked.seed, settings=Settings(replications=1, spans="all"))
    return runfolder.write(run, f"name: {scenario}", path / scenario)


def as_bytes(run: ExportRun, form: Format) -> bytes:
    """Return a run in a format."""
    out = io.BytesIO()
    write(run, form, out)
    return out.getvalue()


def run_of(*tasks: ExportTask, name: str = "made") -> ExportRun:
    """Return a run of some tasks."""
    return ExportRun(name=name, identity=f"{name}/0", version="1", tasks=tasks)


def task_of(*spans: Span, arrival: float, end: float, **more: Any) -> ExportTask:
    """Return a task with these spans, all of whose time is unexplained."""
    fields: dict[str, Any] = {"task": 0, "replication": 0, "task_class": "task", "status": "done"} | more
    parts = {Account("unexplained", "", "inside"): end - arrival}
    return ExportTask(arrival=arrival, end=end, parts=parts, spans=spans, **fields)


def spans_of(booked: Booked, task: int) -> list[Span]:
    """Return the spans that a ledger makes of a booked task."""
    numbers: defaultdict[Account, int] = defaultdict(itertools.count().__next__)
    flat = [
        value
        for lane, parent, account, start, end, size, own in booked.entries
        for value in (lane, parent, numbers[account], start, end, size, own)
    ]
    lost = [(lane, first, last, numbers[account]) for lane, first, last, account in booked.lost]
    return materialize(RawTask(task, booked.status, flat, booked.edges, lost, booked.errors), list(numbers))


class _Doing:
    """A task at work: entries and edges as branches make them."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, Account, float, float, float, int]] = []
        self.edges: list[tuple[int, int, float]] = []
        self.lost: list[tuple[int, int, int, Account]] = []
        self.ids, self.lanes = itertools.count(1), itertools.count(2**63 + 1)

    def do(self, works: Sequence[Work], lane: int, parent: int, time: float) -> float:
        """Do works one after the other in a lane, and return when they are over (s)."""
        for kind, *what in works:
            if kind == "do":
                account, seconds, size = what
                if time + seconds > time:
                    self.entries.append((lane, parent, account, time, time + seconds, size, 0))
                    time += seconds
            elif kind == "group":
                own, began = next(self.ids), time
                time = self.do(what[1], lane, own, time)
                self.entries.append((lane, parent, what[0], began, time, 0.0, own))
            elif kind == "lose":
                first = len(self.entries)
                time = self.do(what[0], lane, parent, time)
                self.lost.append((lane, first, len(self.entries), BACKOFF))
            else:
                time = self._fork(what[0], lane, parent, time)
        return time

    def _fork(self, branches: Sequence[Sequence[Work]], lane: int, parent: int, time: float) -> float:
        ends: list[tuple[float, int]] = []
        for works in branches:
            own = next(self.lanes)
            self.edges.append((lane, own, time))
            ends.append((self.do(works, own, parent, time), own))
        end, last = max(ends)
        self.edges.append((last, lane, end))
        return end


def made(works: Sequence[Work], *, arrival: float, task: int = 0, status: int = DONE, **more: Any) -> ExportTask:
    """Return a task that did these works, as the ledger has it."""
    doing = _Doing()
    end = doing.do(works, 0, 0, arrival)
    booked = Booked(arrival, end, "task", {}, doing.entries, doing.edges, doing.lost, status)
    spans = spans_of(booked, task)
    parts: defaultdict[Account, list[float]] = defaultdict(list)
    for one in spans:
        if one.critical and one.category != "structure":
            parts[BACKOFF if one.lost else Account(one.category, one.component, one.name)].append(one.end - one.start)
    return ExportTask(
        task=task, replication=0, task_class="task", status=STATUSES[status], arrival=arrival, end=end,
        parts={account: math.fsum(seconds) for account, seconds in parts.items()}, spans=tuple(spans), **more,
    )  # fmt: skip
