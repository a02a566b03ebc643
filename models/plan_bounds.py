"""What queueing theory says of a configuration: the traffic equations, Erlang's C and asymptotic bounds, at any load.

What a task demands does not depend on how many come, so the bounds of a configuration are worked out once (`bounds`), and
rescaled to each load. They exclude only what they prove: a quantile of the response time is never decided by a formula, since which
distribution it has is not known. Where `bounds` says that it estimates, a configuration must be beyond by `SLACK`. Where load can
be shed (refusals, time limits, faults) or arrivals end, an offered load above 1 excludes nothing.

Leaves out: bounds on quantiles; arrivals that vary in time, of which the mean rate counts.
Checked: tests/test_plan_models.py.
Source: as `bounds`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..sim.analysis.planned import QueueingBound, ResourceLoad
from ..sim.analysis.slo import RESPONSE_TIME, Objective, parse_metric
from ..sim.engine import units
from .bounds import Bounds, ResourceBound, bounds, erlang_wait
from .handling import Handling
from .recovery import Recovery

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["SLACK", "BaseBound", "base_bound", "queueing_bound"]

SLACK = 0.1  # what an estimate of a demand or time may be off: means of tokens stand for their distribution


@dataclass(frozen=True)
class BaseBound:
    """The bounds of a configuration at its own load; `sheds`: what is asked may be less than what is offered; `slack`: of estimates."""

    bounds: Bounds
    sheds: bool
    slack: float


def base_bound(scenario: "Scenario") -> BaseBound:
    """Return the bounds of a configuration, worked out for its own load."""
    found = bounds(scenario)
    return BaseBound(found, _sheds(scenario, found), SLACK if found.notes else 0.0)


def _sheds(scenario: "Scenario", found: Bounds) -> bool:
    """Whether load may go away without being served, or end."""
    services = (*scenario.tools.values(), *scenario.retrievers.values())
    return (
        any(one.refuses for one in found.resources)
        or bool(scenario.faults)
        or scenario.workload.arrivals.ends
        or scenario.recovery != Recovery()
        or any(one != Handling() for one in scenario.handlings.values())
        or any(one.max_wait is not None for one in services)
    )


def queueing_bound(base: BaseBound, factor: float, objectives: Sequence[Objective]) -> QueueingBound:
    """Return the bounds at `factor` times the load (of its users, where the workload is closed)."""
    found = base.bounds
    alone = sum(found.times.values())
    capacity = min((one.most for one in found.resources), default=math.inf)
    users = None if found.users is None else max(1, round(found.users * factor))
    if users is None:
        rate = None if found.rate is None else found.rate * factor
        throughput, response = capacity, alone
    else:
        cycle = alone + found.think
        rate = throughput = min(users / cycle if cycle else math.inf, capacity)
        response = max(alone, users / capacity - found.think)
    loads = sorted((_load(one, found, rate, users) for one in found.resources), key=lambda one: one.saturates_at)
    bound = QueueingBound(tuple(loads), response, throughput, "")
    unstable = next(_unstable(base, bound), "")
    why = unstable or next(_excludes(base, bound, rate, objectives), "")
    return QueueingBound(tuple(loads), response, throughput, why, bool(unstable))


def _load(one: ResourceBound, found: Bounds, rate: float | None, users: int | None) -> ResourceLoad:
    """Return what is asked of a resource at a load."""
    if rate is None:
        return ResourceLoad(one.name, one.room, None, math.inf, None)
    utilization = rate / one.most
    wait = None
    if users is None and one.wait is not None and utilization < 1:
        wait = erlang_wait(rate * one.visits, one.demand / one.visits, int(one.capacity))
    if users is None:
        saturates_at = 1 / utilization if utilization else math.inf
    else:  # more users keep the bottleneck alone busy
        knee = one.most * (sum(found.times.values()) + found.think)
        saturates_at = knee / users if one is found.bottleneck else math.inf
    return ResourceLoad(one.name, one.room, utilization, saturates_at, wait)


def _unstable(base: BaseBound, bound: QueueingBound) -> Iterator[str]:
    """Yield which resources can have no steady state: closed workloads, and load that can go away, always have one."""
    for one in bound.resources if base.bounds.users is None and not base.sheds else ():
        if one.utilization is not None and one.utilization >= 1 + base.slack:
            yield f"{one.name} cannot be stable: offered load is {one.utilization:.0%} of {one.room}"


def _excludes(
    base: BaseBound, bound: QueueingBound, rate: float | None, objectives: Sequence[Objective]
) -> Iterator[str]:
    """Yield why a configuration cannot meet the objectives."""
    slack = base.slack
    is_open = base.bounds.users is None
    greatest = math.inf if base.sheds else bound.throughput * (1 + slack)
    arriving = math.inf if rate is None or not is_open else rate
    for wanted in objectives:
        metric = parse_metric(wanted.metric)
        limit = units.format(wanted.threshold, units.RATE if wanted.sense == ">=" else units.DURATION)
        if metric.quantity in ("throughput", "goodput") and wanted.threshold > min(greatest, arriving):
            told = units.format(min(bound.throughput, arriving), units.RATE)
            what = "tasks arrive at" if arriving <= greatest else "the resources allow at most"
            yield f"{wanted.metric} of {limit} cannot be: {what} {told}"
        is_least = metric.quantity == RESPONSE_TIME and metric.statistic in ("mean", "max") and not base.sheds
        if is_least and wanted.threshold < bound.response * (1 - slack):
            least = units.format(bound.response, units.DURATION)
            what = "a task that is alone takes" if is_open else "a task takes at least"
            yield f"{wanted.metric} of {limit} cannot be: {what} {least} in the mean"
