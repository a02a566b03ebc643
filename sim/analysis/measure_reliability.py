"""What is measured of reliability, by the names that objectives use: over whole runs, but pass^k and recovery in view.

`retry_amplification` is attempts per call (hedges are attempts), and `wasted_share` the share of the service given to
attempts whose answer nobody took: both of the components whose calls are handled or may fail, taken together. What an
upper layer repeats is a call of the layer below once more, so the factor from a task down is in `CallRow.per_task`.
`availability` is of the component that has least. `recovery_share` is mean recovery over mean T_total of tasks done,
`recovery_share_ended` of all that ended.

Leaves out: causes and paths (`troubles`); work for tasks that failed, which is not wasted by these measures.
Checked: tests/test_reliability_report.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields

import numpy as np

from ..engine.incidents import Calls
from ..engine.ledger import Ledger
from . import reliability
from .estimator import Estimator, Measured
from .result import TASK, Result
from .slo import AT_MOST, PASS_AT
from .statistics import Array, Estimate

NAMES = frozenset({"availability", *AT_MOST, *PASS_AT})


def metrics(runs: Sequence[Result], by: Estimator, wanted: Collection[str] = ()) -> dict[str, Measured]:
    """Return the measures of reliability; where nothing can go wrong only those that are `wanted`."""
    told = any(run.incidents.causes or run.incidents.calls for run in runs)
    found = {}
    if told or NAMES & set(wanted):
        found = _calls(runs, by) | {"availability": _least(runs, by)} | _recovery(runs, by)
    problems = runs[0].problems
    for name, k in PASS_AT.items():
        if problems is not None:
            found[name] = _pass_at(runs, k, problems, by)
    return found if told else {name: one for name, one in found.items() if name in wanted or name in PASS_AT}


def totals(run: Result) -> Calls:
    """Return what callers made of all components' calls together."""
    every = run.incidents.calls.values()
    return Calls(**{one.name: sum(getattr(calls, one.name) for calls in every) for one in fields(Calls)})


def _calls(runs: Sequence[Result], by: Estimator) -> dict[str, Measured]:
    each = [totals(run) for run in runs]
    calls, attempts = [one.calls for one in each], [one.attempts for one in each]
    wasted, served = [one.wasted for one in each], [one.wasted + one.useful for one in each]
    return {
        "retry_amplification": _ratio(attempts, calls, 1.0, by),
        "wasted_share": _ratio(wasted, served, 0.0, by),
    }


def _ratio(parts: Sequence[float], wholes: Sequence[float], nothing: float, by: Estimator) -> Measured:
    """Return a ratio of totals; `nothing` where there was nothing that it could be of."""
    if not any(wholes):
        return _certain(nothing, len(wholes), by)
    return by.ratio([np.array([one], float) for one in parts], [np.array([one], float) for one in wholes])


def _certain(value: float, n: int, by: Estimator) -> Measured:
    return Measured(Estimate(value, value, value, by.confidence, n, "nothing can go wrong there"), (value,) * n)


def availabilities(runs: Sequence[Result], by: Estimator) -> dict[str, Measured]:
    """Return the availability of every component that was ever down."""
    names = sorted({name for run in runs for name, seconds in run.incidents.down.items() if seconds > 0})
    found = {}
    for name in names:
        down = np.array([run.incidents.down.get(name, 0.0) for run in runs])
        length = np.array([run.end for run in runs])
        replicas = max(run.incidents.replicas.get(name, 1) for run in runs)
        estimate = reliability.availability(down, length, replicas, by.confidence)
        found[name] = Measured(estimate, tuple((1 - down / (length * replicas)).tolist()))
    return found


def _least(runs: Sequence[Result], by: Estimator) -> Measured:
    """Return the availability of the component that has least; it is 1 where none can go down."""
    found = availabilities(runs, by)
    if found:
        return min(found.values(), key=lambda one: one.estimate.value)
    if any(cause.kind == "down" for run in runs for cause in run.incidents.causes):
        never = reliability.availability([0.0] * len(runs), [max(run.end, 1.0) for run in runs])
        return Measured(never, (1.0,) * len(runs))
    return _certain(1.0, len(runs), by)


def _recovery(runs: Sequence[Result], by: Estimator) -> dict[str, Measured]:
    first = len(Ledger.HEAD) + len(runs[0].facts)
    columns = [first + i for i, one in enumerate(runs[0].accounts) if one.category == "recovery"]
    ended = [run.tasks[run.finished][:, columns].sum(axis=1) for run in runs]
    return {
        "recovery_share": by.ratio([run.category("recovery") for run in runs], [run.response_times for run in runs]),
        "recovery_share_ended": by.ratio(ended, [run.elapsed[run.finished] for run in runs]),
    }


def _pass_at(runs: Sequence[Result], k: int, problems: int, by: Estimator) -> Measured:
    """Return pass^k. The problems of two replications are different ones: their luck is drawn anew."""
    each = [_trials(run, problems) for run in runs]
    hits, counts = (np.concatenate(parts) for parts in zip(*each, strict=True))
    samples = tuple(reliability.pass_at(*one, k, by.confidence).value for one in each)
    return Measured(reliability.pass_at(hits, counts, k, by.confidence), samples)


def _trials(run: Result, problems: int) -> tuple[Array, Array]:
    """Return successes and trials of each problem, of tasks in view that ended."""
    ended = run.finished
    problem = run.tasks[ended, TASK].astype(np.int64) % problems
    hits, counts = np.bincount(problem[run.right[ended]], minlength=problems), np.bincount(problem, minlength=problems)
    return hits.astype(np.float64), counts.astype(np.float64)
