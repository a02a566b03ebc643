"""Bounds on a scenario without simulating it: how busy each resource must be, what saturates first, the least T_total.

Visits come from the traffic equations (`traffic`), mean demands from the specs (`demand`). Utilizations are exact where
demands do not depend on the context, and estimates where they do (the notes say so). T_total is at least what a task
takes when it is alone; at a join, at least its slowest branch in the mean. A closed workload is bounded by its users, its
think time and its bottleneck.

Leaves out: waiting, but for a pool with Poisson arrivals and exponential service (Erlang C), as an orientation; the slots
of agents, whose holding times include waiting elsewhere.
Checked: tests/test_bounds.py, against the simulator and closed forms.
Source: Jackson, Operations Research 5 (1957); Denning and Buzen, Computing Surveys 10 (1978), for the asymptotic bounds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..sim.engine import units
from ..sim.engine.ledger import CATEGORIES
from .demand import Cost, Demand
from .scenario import Scenario
from .simulate import Load
from .system import System
from .traffic import Traffic

SHORT = 1e-6  # waits below a microsecond are not shown
BUSY = 0.9  # utilization from which small changes of load move waits much


@dataclass(frozen=True, slots=True)
class ResourceBound:
    """What a task asks of one resource, and what that makes of it.

    `uses` and `demand` (seconds, or units of a rate limit) are per task; `capacity` is in servers, or units per second
    of a rate limit. `utilization` is at the mean arrival rate (nan for a closed workload), `saturates` the arrival rate
    at which it is 1. `wait` is Erlang's mean wait of one use in seconds, nan where it does not apply.
    """

    name: str
    kind: str
    capacity: float
    uses: float
    demand: float
    utilization: float
    saturates: float
    wait: float
    bounded: bool  # its queue is limited: it refuses instead of growing


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds on one scenario.

    `rate` is the mean arrival rate (1/s; None for a closed workload), `most` the largest throughput that its resources
    allow, `least` the least mean T_total by category (s), `throughput` and `response` those of a closed workload: at most,
    and at least.
    """

    resources: tuple[ResourceBound, ...]
    rate: float | None
    most: float
    least: dict[str, float]
    throughput: float | None
    response: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    unstable: tuple[str, ...]  # those of the warnings that say what cannot be stable

    @property
    def bottleneck(self) -> ResourceBound | None:
        """The resource that saturates first; None where nothing ever does."""
        return min(self.resources, key=lambda one: one.saturates, default=None)

    def lines(self) -> Iterator[str]:
        """Yield the bounds for people, a line each."""
        total = sum(self.least.values())
        parts = sorted(((seconds, name) for name, seconds in self.least.items() if seconds), reverse=True)
        yield f"  a task alone takes {_time(total)}: {', '.join(f'{name} {_time(s)}' for s, name in parts)}"
        if self.resources:
            yield "  resource                       capacity   uses / task   demand / task   utilization   saturates at"
        for one in sorted(self.resources, key=lambda one: one.saturates):
            yield _row(one)
        if self.bottleneck is not None:
            yield f"  bottleneck: {self.bottleneck.name}; at most {_rate(self.most)} tasks, whatever the queues"
        if self.throughput is not None and self.response is not None:
            yield f"  closed: at most {_rate(self.throughput)}, and T_total at least {_time(self.response)}"
        for note in self.notes:
            yield f"  note: {note}"


def bounds(scenario: Scenario) -> Bounds:
    """Return the bounds of a scenario, in milliseconds."""
    system = System(scenario, scenario.seed, 0, "none")
    load = Load(system)
    weights = np.array([group.weight for group in scenario.all_classes.values()])
    traffic = Traffic(zip(load.entries, (weights / weights.sum()).tolist(), strict=True))
    demand = Demand(system, traffic)
    whole = Cost()
    for visits, cost in zip(traffic.visits.tolist(), demand.costs, strict=True):
        whole.add(cost, visits)
    least = _alone(traffic, demand)
    rate = scenario.workload.rate
    resources = tuple(_resources(system, whole, rate))
    most = min((one.saturates for one in resources), default=math.inf)
    throughput = response = None
    closed = scenario.workload.arrivals.closed
    if closed is not None:
        alone = sum(least.values())
        throughput = min(most, closed.users / (alone + closed.think.mean)) if alone + closed.think.mean else most
        response = max(alone, closed.users / most - closed.think.mean)
    warnings = tuple(_warnings(resources, scenario.workload.peak_rate))
    unstable = tuple(warning for warning in warnings if "cannot be stable" in warning)
    return Bounds(resources, rate, most, least, throughput, response, tuple(demand.notes), warnings, unstable)


def _alone(traffic: Traffic, demand: Demand) -> dict[str, float]:
    """Return the least mean time of a task by category: its steps, and at each join its slowest branch in the mean."""
    own = np.array([[cost.time[name] for name in CATEGORIES] for cost in demand.costs])
    ahead = own
    for _ in range(len(traffic.nodes) + 1):  # forks inside branches of forks: one more level each time
        local = own.copy()
        for number, node in enumerate(traffic.nodes):
            if node.branches and node.needed >= 1.0:
                slowest = max((target for target, _ in node.branches), key=lambda target: ahead[target].sum())
                local[number] += node.acts * ahead[slowest]
        found = np.column_stack([traffic.ahead(local[:, place]) for place in range(len(CATEGORIES))])
        settled = np.allclose(found, ahead, rtol=1e-12, atol=0.0)
        ahead = found
        if settled:
            break
    total = traffic.first @ ahead
    return dict(zip(CATEGORIES, total.tolist(), strict=True))


def _resources(system: System, whole: Cost, rate: float | None) -> Iterator[ResourceBound]:
    """Yield what tasks ask of each pool, link and rate limit."""
    for (kind, name, capacity), resource in zip(system.capacities, system.ledger.resources, strict=True):
        if capacity is not None and whole.seconds.get(name):
            limited = getattr(resource, "queue_limit", None) is not None
            yield _bound(name, kind, float(capacity), whole.uses[name], whole.seconds[name], rate, limited)
        for limit in getattr(resource, "limits", ()):
            if whole.seconds.get(limit.name):
                units_per_task = whole.seconds[limit.name]
                yield _bound(limit.name, "limit", limit.rate, whole.uses[limit.name], units_per_task, rate, False)


def _bound(
    name: str, kind: str, capacity: float, uses: float, demand: float, rate: float | None, limited: bool
) -> ResourceBound:
    utilization = math.nan if rate is None else rate * demand / capacity
    wait = math.nan
    if kind == "pool" and rate is not None and utilization < 1 and not limited:
        wait = _erlang_c(int(capacity), rate * demand) / (capacity * uses / demand - rate * uses)
    return ResourceBound(name, kind, capacity, uses, demand, utilization, capacity / demand, wait, limited)


def _erlang_c(servers: int, offered: float) -> float:
    """Return the probability of waiting in M/M/c. Source: Erlang, 1917."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def _warnings(resources: tuple[ResourceBound, ...], peak: float | None) -> Iterator[str]:
    for one in resources:
        if one.bounded:
            if one.utilization >= 1:
                yield f"{one.name} is offered {one.utilization:.2f} of its capacity: it refuses the rest"
        elif one.utilization >= 1:
            yield f"{one.name} cannot be stable: {_overload(one)}"
        elif one.utilization > BUSY:
            yield f"{one.name} is busy {one.utilization:.0%} of the time: waits are long, and small changes move them much"
        elif peak is not None and peak >= one.saturates:
            yield f"{one.name} is overloaded at the peak rate of {_rate(peak)}: it saturates at {_rate(one.saturates)}"


def _overload(one: ResourceBound) -> str:
    remedy = f"arrivals below {_rate(one.saturates)}"
    if one.kind != "pool":
        return f"offered {one.utilization:.2f} of its capacity; it needs {remedy}, or more capacity"
    least = math.floor(one.utilization * one.capacity) + 1
    return f"offered load {one.utilization * one.capacity:.2f} for {one.capacity:g} slots; it needs at least {least} slots, or {remedy}"


def _row(one: ResourceBound) -> str:
    demand = f"{one.demand:.3g} units" if one.kind == "limit" else _time(one.demand)
    capacity = f"{one.capacity:.3g} / s" if one.kind == "limit" else f"{one.capacity:g}"
    busy = "" if math.isnan(one.utilization) else f"{one.utilization:.1%}"
    wait = "" if math.isnan(one.wait) or one.wait < SHORT else f"   (wait {_time(one.wait)} a use, if M/M/c)"
    return f"  {one.name:<30} {capacity:>8}   {one.uses:>11.3g}   {demand:>13}   {busy:>11}   {_rate(one.saturates):>12}{wait}"


def _time(seconds: float) -> str:
    return units.format(seconds, units.DURATION)


def _rate(rate: float) -> str:
    if math.isinf(rate):
        return "any rate"
    return f"{rate:,.0f} / s" if rate >= 1000 else f"{rate:.3g} / s"
