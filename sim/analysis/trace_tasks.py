"""Measured tasks, whatever became of them: what those done, failed and unfinished took, and which were the slowest.

Leaves out: statistics over the tasks done (`summarize`), and their calls (`trace_calls`).
Checked: tests/test_trace_digest.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..engine.ledger import STATUSES, Ledger
from .result import ARRIVAL, CLASS, END, OVERLAPPED, STATUS, TASK, Result
from .statistics import Array
from .trace_digest import Ended, Slow

__all__ = ["MOST_SLOW", "ended_of", "slowest_of"]

MOST_SLOW = 50


def ended_of(result: Result) -> tuple[Ended, ...]:
    """Return what tasks took by what became of them; one that had not ended, until the last of its spans."""
    rows = result.rows
    elapsed = rows[:, END] - rows[:, ARRIVAL]
    found = []
    for code, status in enumerate(STATUSES):
        of = rows[:, STATUS] == code
        if of.any():
            seconds = {name: math.fsum(one.tolist()) for name, one in _seconds(result, rows[of]).items()}
            times = elapsed[of].tolist()
            mean = math.fsum(times) / len(times)
            beside = math.fsum(rows[of, OVERLAPPED].tolist())
            found.append(Ended(status, len(times), min(times), mean, max(times), seconds, beside))
    return tuple(found)


def slowest_of(result: Result, traces: Mapping[int, str], most: int = MOST_SLOW) -> tuple[Slow, ...]:
    """Return the tasks that took longest, the longest first; `traces` are their ids in the files, by number."""
    rows = result.rows
    elapsed = rows[:, END] - rows[:, ARRIVAL]
    chosen = sorted(range(len(rows)), key=lambda at: (-elapsed[at], rows[at, TASK]))[:most]
    parts = _seconds(result, rows[chosen])
    found = []
    for place, at in enumerate(chosen):
        seconds = {name: float(one[place]) for name, one in parts.items()}
        largest = max(seconds, key=lambda name: seconds[name], default="")
        number, total = int(rows[at, TASK]), float(elapsed[at])
        share = seconds[largest] / total if largest and total > 0 else 0.0
        status = STATUSES[int(rows[at, STATUS])]
        found.append(
            Slow(number, traces.get(number, ""), result.classes[int(rows[at, CLASS])], status, total, largest, share)
        )
    return tuple(found)


def _seconds(result: Result, rows: Array) -> dict[str, Array]:
    """Return the seconds of some tasks by category, of those that any account has."""
    first = len(Ledger.HEAD) + len(result.facts)
    found: dict[str, Array] = {}
    for name in result.known:
        of = [first + place for place, one in enumerate(result.accounts) if one.category == name]
        if of:
            found[name] = rows[:, of].sum(axis=1)
    return found
