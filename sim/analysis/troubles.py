"""What went wrong in the replications of a scenario, for its summary: causes, calls, availability, and root causes.

Each task that failed, was wrong or was late is put down to one cause. A failed or wrong one to that which failed it, as
its `Harm` has it. A late one to what cost it most: the cause of its recovery and of the waiting it is known to blame
for; or the queue that it stood in for longest (`load`). Where it would have been late without both, that is its own
work, and the account with most time is named.

Leaves out: late tasks where the SLO has no limit on single tasks (a quantile or a maximum); what is written of it.
Checked: tests/test_reliability_report.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..engine.incidents import Incidents
from ..engine.ledger import Ledger
from . import measure, measure_reliability, root_cause
from .estimator import Estimator
from .result import ARRIVAL, END, TASK, Result
from .slo import RESPONSE_TIME, Objective
from .statistics import Array
from .summary import Reliability, Root

LOAD, OWN = "load", "own work"


def find_troubles(results: Sequence[Result], by: Estimator, objectives: Sequence[Objective]) -> Reliability:
    """Return what went wrong in whole runs; empty where there are no faults, no handling and no errors."""
    runs = [result.incidents for result in results]
    if not any(run.causes or run.calls for run in runs):
        return Reliability()
    arrived = [result.arrived for result in results]
    service = [{name: one.useful + one.wasted for name, one in run.calls.items()} for run in runs]
    limits = measure.limits_of(objectives)
    failed: Counter[tuple[str, str]] = Counter()
    late: Counter[tuple[str, str]] = Counter()
    wrong = 0
    for result in results:
        whole = replace(result, start=0.0)
        failed.update(_failed(result.incidents))
        for why in _late(whole, limits):
            late[why] += whole.stride
        wrong += whole.stride * int(np.count_nonzero(whole.done & ~whole.right))
    roots = [Root(*why, failed[why], late[why]) for why in {**failed, **late}]
    return Reliability(
        root_cause.causes(runs, arrived, by.confidence),
        root_cause.calls(runs, arrived, service, by.confidence),
        {name: one.estimate for name, one in measure_reliability.availabilities(results, by).items()},
        tuple(sorted(roots, key=lambda one: (-one.failed, -one.late, one.cause, one.path))),
        failed.total(),
        wrong,
        late.total(),
    )


def _failed(run: Incidents) -> Iterator[tuple[str, str]]:
    for harm in run.harms:
        if harm.failed:
            yield _named(run, harm.cause, harm.path)


def _named(run: Incidents, cause: int, path: str) -> tuple[str, str]:
    """Return the name of a cause, and the path without it."""
    name = run.causes[cause].name if cause >= 0 else root_cause.NO_CAUSE
    return name, path.removeprefix(f"{name} -> ")


def _late(result: Result, limits: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield cause and path of each task that was done, right, and beyond a limit."""
    if not limits:
        return
    rows = result.tasks[result.right & ~measure.within(result, limits)]
    if not len(rows):
        return
    harms = {harm.task: harm for harm in result.incidents.harms if not harm.failed and harm.cause >= 0}
    queues, longest, waits = _most(result, rows, {"queueing"})
    others, largest, _ = _most(result, rows, {one.category for one in result.accounts} - {"queueing", "recovery"})
    excess = rows[:, END] - rows[:, ARRIVAL] - limits.get(RESPONSE_TIME, math.inf)
    for i, row in enumerate(rows):
        harm = harms.get(int(row[TASK]))
        cost, known = (0.0, 0.0) if harm is None else (harm.lost + harm.delayed, harm.delayed)
        queue = float(row[_first(result) + queues[longest[i]]]) if queues else 0.0
        without = cost + max(0.0, waits[i] - known)  # what it is known to blame for is among the waits
        if without < excess[i] or not (cost or queue):
            account = result.accounts[others[largest[i]]]
            yield OWN, f"mostly {account.category} of {account.component}"
        elif harm is not None and cost >= queue:
            yield _named(result.incidents, harm.cause, harm.path)
        else:
            yield LOAD, f"queueing at {result.accounts[queues[longest[i]]].component}"


def _first(result: Result) -> int:
    return len(Ledger.HEAD) + len(result.facts)


def _most(result: Result, rows: Array, categories: set[str]) -> tuple[list[int], list[int], list[float]]:
    """Return the accounts of the categories; of each row the place of the largest among them, and their sum (s)."""
    accounts = [i for i, one in enumerate(result.accounts) if one.category in categories]
    seconds = rows[:, [_first(result) + i for i in accounts]]
    if not accounts:
        return [], [0] * len(rows), [0.0] * len(rows)
    return accounts, np.argmax(seconds, axis=1).tolist(), seconds.sum(axis=1).tolist()
