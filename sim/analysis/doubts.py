"""What is doubtful about a summary: sentences that end in the next command to try.

`SCENARIO` in a command stands for the file the user ran.

Leaves out: doubts about a model's own numbers, which come with each result.
Checked: tests/test_summary.py, each on a run that deserves it and on one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..engine import units
from .result import Result
from .statistics import Estimate, student_t
from .summary import Resource, Summary

SATURATED = 0.95  # utilization from which a queue's mean takes very long to settle
BACKLOG = 1.02  # arrivals per completion from which a queue is not keeping up
CLEAR = 1.10  # the same, where nothing else tells that the queue grows
WIDE = 0.10  # relative error of the mean from which more replications are suggested
LONGER = 4


def find_doubts(summary: Summary, runs: Sequence[Result]) -> Summary:
    """Return the summary with its warnings."""
    found = [*_nothing_done(summary, runs), *_unfinished(summary, runs), *_growing(summary, runs)]
    found += [*_warmup(summary, runs), *_precision(summary), *_tail(runs), *_inconclusive(summary)]
    found += [*_certain(runs), *_accounting(summary, runs)]
    return replace(summary, warnings=tuple(found))


def longer(runs: Sequence[Result], times: int = LONGER) -> str:
    """Return the command that runs the scenario for that many `times` as long."""
    if any(run.horizon for run in runs):
        end = times * max(run.end for run in runs)
        return f"`coordsim run SCENARIO --horizon '{units.format(end, units.DURATION, 2)}'`"
    return f"`coordsim run SCENARIO --set workload.tasks={times * max(run.arrived for run in runs)}`"


def _nothing_done(summary: Summary, runs: Sequence[Result]) -> Iterator[str]:
    if not math.isnan(summary.metrics["response_time_mean"].value):
        return
    if summary.tasks.arrived == 0:
        yield f"no task arrived; try {longer(runs)}"
    elif not any(len(run.tasks) for run in runs):
        yield (
            f"no task arrived after the warm-up of {_seconds(summary.warmup.seconds)}; try a shorter one with "
            f"`--warmup`, or {longer(runs)}"
        )
    elif summary.tasks.failed:
        reason, count = max(summary.failures.items(), key=lambda item: item[1], default=("an unknown reason", 0))
        yield f"no task was done; most failed for: {reason} ({count} tasks)"
    else:
        yield f"no task was done before the end; try {longer(runs)}"


def _certain(runs: Sequence[Result]) -> Iterator[str]:
    first = runs[0].rows
    if len(runs) > 1 and len(first) and all(np.array_equal(run.rows, first) for run in runs[1:]):
        yield "nothing is drawn at random here, so every replication is the same, and ± 0 says nothing; try `coordsim run SCENARIO --replications 1`"


def _unfinished(summary: Summary, runs: Sequence[Result]) -> Iterator[str]:
    count, arrived = summary.tasks.unfinished, summary.tasks.arrived
    if count:
        remedy = longer(runs) if any(run.horizon for run in runs) else "a longer `workload.drain`"
        yield (
            f"{count} of {arrived} tasks had not ended when the run did; they are left out of T_total, and the longest "
            f"tasks are the likeliest to be among them, so its mean and quantiles are too low; try {remedy}"
        )


def _growing(summary: Summary, runs: Sequence[Result]) -> Iterator[str]:
    growing = summary.stability.count("grows")
    # One false alarm in 40 settled replications at most: a fifth of several is beyond chance.
    unstable = growing > len(summary.stability) / 5
    # Too short a run to see growth can still show a backlog that no queue which settles would have.
    blind = set(summary.stability) == {"unknown"}
    excess = BACKLOG if unstable else CLEAR if blind else math.inf
    behind = [
        one for one in summary.resources if _value(one, "offered") > max(1.0, _value(one, "utilization") * excess)
    ]
    for one in behind:
        yield (
            f"the offered load of {one.name} is {_value(one, 'offered'):.2f} of its capacity (utilization "
            f"{_value(one, 'utilization'):.2f}): its queue grows without bound, and times say how long the run was; "
            "add capacity or lower the arrival rate with `--set`, and see `coordsim check SCENARIO`"
        )
    if unstable and not behind:
        yield (
            f"the number of tasks in the system still grows in {growing} of {len(runs)} replications: the run has not "
            f"settled{_busiest(summary)}; try {longer(runs)}"
        )
    for one in summary.resources:
        if not unstable and _value(one, "utilization") > SATURATED and one.kind == "pool" and not _closed(one):
            yield (
                f"utilization of {one.name} is {_value(one, 'utilization'):.2f}: its queue settles slowly, and small "
                f"changes of load move it much; try {longer(runs)}, or more capacity"
            )


def _closed(one: Resource) -> bool:
    """Whether nobody ever waits: a pool that is full but has no queue."""
    return _value(one, "queue_length") <= 0


def _busiest(summary: Summary) -> str:
    known = [(one.name, _value(one, "utilization")) for one in summary.resources if _value(one, "utilization") > 0]
    if not known:
        return ""
    name, used = max(known, key=lambda item: item[1])
    return f" (the busiest resource is {name}: utilization {used:.2f})"


def _warmup(summary: Summary, runs: Sequence[Result]) -> Iterator[str]:
    if summary.warmup.mode == "auto" and not summary.warmup.trusted and any(len(run.rows) for run in runs):
        yield f"no steady part was found after the warm-up (MSER-5), and nothing was cut; try {longer(runs)}"


def _precision(summary: Summary) -> Iterator[str]:
    mean = summary.metrics["response_time_mean"]
    if math.isnan(mean.value):
        return
    if not mean.resolved:
        yield "there is no interval: one replication with too few tasks; try `coordsim run SCENARIO --replications 10`"
    elif mean.relative_error > WIDE:
        yield (
            f"mean T_total is known within {100 * mean.relative_error:.0f} % only; "
            f"for {100 * WIDE:.0f} % try `coordsim run SCENARIO --replications {_enough(summary, mean)}`"
        )


def _enough(summary: Summary, estimate: Estimate) -> int:
    """Return how many replications should bring the interval to `WIDE`, from the spread seen; the normal's answer."""
    n = summary.replications
    if n == 1:
        return 10
    narrower = student_t(estimate.confidence, math.inf) / student_t(estimate.confidence, n - 1)
    return max(n + 5, min(10 * n, math.ceil(n * (estimate.relative_error * narrower / WIDE) ** 2)))


def _tail(runs: Sequence[Result]) -> Iterator[str]:
    fewest = min(len(run.response_times) for run in runs)
    if 0 < fewest < 100:
        yield (
            f"p99 of T_total rests on {fewest} tasks a replication: fewer than 100 cannot show one in a hundred; "
            f"try {longer(runs, math.ceil(1000 / fewest))}"
        )


def _inconclusive(summary: Summary) -> Iterator[str]:
    for one in summary.objectives:
        if one.verdict != "inconclusive":
            continue
        if math.isnan(one.estimate.value):
            yield f"whether {one.metric} is met cannot be told: it was not observed"
            continue
        why = "its interval holds the threshold" if one.estimate.resolved else "it has no interval"
        more = max(10, 3 * summary.replications)
        yield f"whether {one.metric} is met cannot be told yet: {why}; try `coordsim run SCENARIO --replications {more}`"


def _accounting(summary: Summary, runs: Sequence[Result]) -> Iterator[str]:
    """Where every task is a row the two sides of Little's law are the same sum, so a gap is our mistake."""
    if all(run.stride == 1 for run in runs) and abs(summary.little.gap) > 1e-6:
        yield f"{summary.little.statement}; this is a mistake of coordsim: please report it"


def _value(one: Resource, metric: str) -> float:
    found = one.metrics.get(metric)
    return found.value if found is not None and not math.isnan(found.value) else 0.0


def _seconds(value: float) -> str:
    return units.format(value, units.DURATION)
