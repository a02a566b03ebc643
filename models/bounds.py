"""Bounds: what a scenario can do at best, worked out in milliseconds and without a simulation.

The traffic equations give what a task demands of each resource; from that follow utilization, the bottleneck, the greatest
throughput, which queues cannot be stable, and the time a task takes when nobody else is there, which is the least it takes
in the mean. Utilization is exact where what a visit costs does not depend on the task's context, else an estimate; `notes`
say what is left out. Of work after a refusal or a failure nothing is taken off.

Leaves out: waiting, but for its mean at stations as in M/M/c.
Checked: tests/test_bounds.py, against the simulator and closed forms.
Source: Jackson, Operations Research 5 (1957); Denning and Buzen, ACM Computing Surveys 10 (1978), for the bounds of closed
workloads; Erlang's C for the wait.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ..sim.engine import units
from ..sim.engine.ledger import CATEGORIES
from ..sim.engine.sharing import Sharing
from ..sim.engine.slicing import Slicing
from ..sim.report.numbers import counted
from .demand import Demand
from .demand_faults import warnings as fault_warnings
from .demand_media import LONGEST
from .llm import Llm
from .scenario import Scenario
from .simulate import Load
from .steps import ForkProcess
from .system import System
from .team import TeamProcess
from .team_course import Course
from .traffic import Traffic, Vector

Kind = Literal["pool", "link", "limit"]

CLOSE = 0.95  # a share of the capacity beyond which waits are long, and vary much


@dataclass(frozen=True)
class ResourceBound:
    """What is asked of one resource.

    A task demands `demand` in `visits` parts: seconds of a server or link, units of a rate limit. Of these there are
    `capacity` a second. `utilization` is the load offered over that (None when the arrival rate is unknown), and `most` the
    arrival rate of tasks at which it is 1 (1/s). `wait` is the mean wait of a visit (s) if service is exponential, first come
    first served, and tasks come as in a Poisson process; None where that cannot be.
    """

    kind: Kind
    name: str
    capacity: float
    room: str
    demand: float
    visits: float
    utilization: float | None
    wait: float | None
    refuses: bool = False

    @property
    def most(self) -> float:
        """The rate of tasks that would keep it busy always (1/s)."""
        return self.capacity / self.demand if self.demand else math.inf


@dataclass(frozen=True)
class Bounds:
    """What a scenario can do at best.

    `rate` is the mean arrival rate (1/s), None for a closed workload of `users` that think for `think` seconds, or where all
    arrive at once. `throughput` is at most that (tasks/s). `times` are the seconds of a task that is alone, by category.
    """

    rate: float | None
    users: int | None
    think: float
    resources: tuple[ResourceBound, ...]
    throughput: float
    times: dict[str, float]
    response_by_class: dict[str, float]
    visits: dict[str, float]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def bottleneck(self) -> ResourceBound | None:
        """The resource that limits the throughput; None when none does."""
        return min(self.resources, key=lambda resource: resource.most, default=None)

    @property
    def response(self) -> float:
        """The least mean T_total (s); of a closed workload, what so many users make of it."""
        alone = sum(self.times.values())
        if self.users is None or self.bottleneck is None:
            return alone
        return max(alone, self.users / self.bottleneck.most - self.think)

    @property
    def unstable(self) -> tuple[str, ...]:
        """Those of the warnings that say what cannot be stable."""
        return tuple(warning for warning in self.warnings if "cannot be stable" in warning)

    def resource(self, name: str) -> ResourceBound:
        """Return one resource. Raises KeyError when nothing is asked of it, or it has no limit."""
        return {resource.name: resource for resource in self.resources}[name]

    def lines(self) -> Iterator[str]:
        """Say it in words."""
        yield "  at best, worked out without a simulation:"
        yield from _table(self.resources)
        if self.bottleneck is not None:
            told = units.format(self.throughput, units.RATE)
            users = "" if self.users is None else f" with {self.users} users"
            yield f"  at most {told} in the long run{users}; the bottleneck is {self.bottleneck.name}"
        parts = sorted(((seconds, name) for name, seconds in self.times.items() if seconds), reverse=True)
        split = ", ".join(f"{name} {_seconds(seconds)}" for seconds, name in parts)
        yield f"  a task that is alone takes {_seconds(sum(self.times.values()))} in the mean: {split or 'nothing'}"
        for note in self.notes:
            yield f"  note: {note}"


def bounds(scenario: Scenario) -> Bounds:
    """Work out what a scenario can do at best."""
    system = System(scenario, scenario.seed, 0, "none")
    load = Load(system)
    classes = scenario.all_classes
    weights = np.array([group.weight for group in classes.values()])
    traffic = Traffic(zip(load.entries, (weights / weights.sum()).tolist(), strict=True))
    demand = Demand(system, traffic)
    ahead = _alone(demand)
    by_class = [sum(share * ahead[number] for number, share in ways) for ways, _ in traffic.entries]
    times = dict(zip(CATEGORIES, (traffic.first @ ahead).tolist(), strict=True))
    workload = scenario.workload
    closed = workload.arrivals.closed
    think = 0.0 if closed is None else closed.think.mean
    most = math.inf if closed is None else _share(closed.users, sum(times.values()) + think)
    resources = tuple(_resources(scenario, system, demand, most))
    return Bounds(
        rate=workload.rate,
        users=workload.users,
        think=think,
        resources=resources,
        throughput=min([most, *(resource.most for resource in resources)]),
        times=times,
        response_by_class={name: float(np.sum(one)) for name, one in zip(classes, by_class, strict=True)},
        visits=_visits(traffic),
        warnings=(*_warnings(scenario, resources), *fault_warnings(scenario, resources)),
        notes=tuple(demand.notes),
    )


def _alone(demand: Demand) -> Vector:
    """Return the mean seconds by category from each step to the end of a task that is alone, shape (steps, categories).

    A join waits for the branch that takes longest in the mean: less than the mean of the longest.
    """
    traffic = demand.traffic
    own = np.array([[cost.time[name] for name in CATEGORIES] for cost in demand.costs])
    if any(node.branches for node in traffic.nodes):
        demand.notes[LONGEST] = None
    waited = np.zeros_like(own)
    for _ in range(len(traffic.nodes) + 1):  # as often as forks lie in each other, at most
        ahead = traffic.ahead(own + waited)
        before, waited = waited, _joins(demand, ahead)
        if np.array_equal(before, waited):
            break
    return ahead


def _joins(demand: Demand, ahead: Vector) -> Vector:
    """Return what the forks among the steps wait for."""
    waited = np.zeros_like(ahead)
    for number, node in enumerate(demand.traffic.nodes):
        process = node.process
        if isinstance(process, TeamProcess) and number in demand.teams.courses:
            waited[number] = _team(demand, number, process, ahead)
            continue
        if not isinstance(process, ForkProcess) or not node.branches:
            continue
        if node.needed < 1:
            demand.notes[f"{process.path}: a join that does not wait for all counts as no time"] = None
            continue
        longest = max((ahead[target] for target, _ in node.branches), key=np.sum)
        copies = process.spec.copies
        waited[number] = longest * node.acts * (1.0 if copies is None else 1 - copies.cdf(0))
    return waited


def _team(demand: Demand, number: int, process: TeamProcess, ahead: Vector) -> Vector:
    """Return what the members of a team take, as often as each is on the critical path."""
    node, course = demand.traffic.nodes[number], demand.teams.courses[number]
    times = {role: None if to is None else ahead[to] for role, (to, _) in node.roles.items()}
    if process.spec.team == "graph":
        took = {role: 0.0 if time is None else float(np.sum(time)) for role, time in times.items()}
        course = Course(process, {role: replace(act, seconds=took[role]) for role, act in course.acts.items()})
    waited = np.zeros(ahead.shape[1])
    for role, time in times.items():
        if time is not None:
            waited += node.acts * course.parts[role].path * time
    return waited


def _visits(traffic: Traffic) -> dict[str, float]:
    """Return the mean visits of a task to each step, by its path."""
    found: dict[str, float] = {}
    for node, visits in zip(traffic.nodes, traffic.visits.tolist(), strict=True):
        found[node.process.path] = found.get(node.process.path, 0.0) + visits
    return found


# Resources


def _resources(scenario: Scenario, system: System, demand: Demand, most: float) -> Iterator[ResourceBound]:
    """Yield the resources that are asked for anything; a closed workload completes `most` tasks a second at most."""
    seconds, uses = _demands(demand)
    asked = [one for one in _capacities(scenario, system) if seconds.get(one.name)]
    rate = scenario.workload.rate
    if scenario.workload.users is not None:
        rate = min([most, *(one.capacity / seconds[one.name] for one in asked)])
    for one in asked:
        load = None if rate is None else rate * seconds[one.name] / one.capacity
        wait = None
        if one.is_simple and scenario.workload.arrivals.poisson is not None and load is not None and load < 1:
            assert rate is not None
            wait = erlang_wait(rate * uses[one.name], seconds[one.name] / uses[one.name], int(one.capacity))
        yield ResourceBound(
            one.kind, one.name, one.capacity, one.room, seconds[one.name], uses[one.name], load, wait, one.refuses
        )


class _Capacity(NamedTuple):
    """A resource that has a limit; `is_simple`: customers wait for nothing but a server, which no one else holds."""

    kind: Kind
    name: str
    capacity: float
    room: str
    refuses: bool
    is_simple: bool


def _capacities(scenario: Scenario, system: System) -> Iterator[_Capacity]:
    for (kind, name, capacity, *_), resource in zip(system.capacities, system.ledger.resources, strict=True):
        limits = getattr(resource, "limits", [])
        refuses = getattr(resource, "queue_limit", None) is not None
        if capacity is not None:
            waits = kind == "pool" and not isinstance(resource, Sharing | Slicing)
            simple = waits and not refuses and not limits and not name.startswith("agents.")
            room = _room(scenario, name, capacity)
            yield _Capacity("link" if kind == "link" else "pool", name, capacity, room, refuses, simple)
        for limit in limits:
            yield _Capacity("limit", limit.name, limit.rate, _limit_room(limit), refuses, is_simple=False)


def _demands(demand: Demand) -> tuple[dict[str, float], dict[str, float]]:
    """Return what a task demands of each resource, and in how many parts."""
    seconds: dict[str, float] = {}
    uses: dict[str, float] = {}
    for visits, cost in zip(demand.traffic.visits.tolist(), demand.costs, strict=True):
        for name, each in cost.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + visits * each
            uses[name] = uses.get(name, 0.0) + visits * cost.uses[name]
    return seconds, uses


def erlang_wait(rate: float, service: float, servers: int) -> float:
    """Return the mean wait in M/M/c, by Erlang's C."""
    load = rate * service
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    waits = blocked / (1 - load / servers * (1 - blocked))
    return waits * service / (servers - load)


def _room(scenario: Scenario, name: str, capacity: float) -> str:
    """Say what a capacity consists of."""
    kind, _, rest = name.partition(".")
    if kind == "network":
        link = next(link for link in scenario.network.links if rest in _directions(link))
        return units.format(link.bandwidth or 0.0, units.BANDWIDTH)
    spec = scenario.models.get(rest) if kind == "models" else None
    if isinstance(spec, Llm):
        each = "" if spec.concurrency == 1 else f" of {spec.concurrency} calls"
        return counted(spec.most_replicas, "replica") + each
    return counted(int(capacity), {"agents": "task", "orchestrator": "event loop"}.get(kind, "call")) + (
        "" if kind == "orchestrator" else " at once"
    )


def _directions(link: Any) -> tuple[str, ...]:
    a, b = link.ends
    return (f"{a}->{b}",) if link.between is None else (f"{a}->{b}", f"{b}->{a}")


def _limit_room(limit: Any) -> str:
    return units.format(limit.rate, units.TOKEN_RATE if limit.sized else units.RATE)


# Words


def _warnings(scenario: Scenario, resources: Iterable[ResourceBound]) -> Iterator[str]:
    """Yield what cannot be, or hardly."""
    rate, peak = scenario.workload.rate, scenario.workload.peak_rate
    for one in resources if rate is not None else ():
        load = one.utilization or 0.0
        if load >= 1 and one.refuses:
            yield (
                f"{one.name} is offered {load:.0%} of {one.room}: at least {1 - 1 / load:.0%} of the calls "
                f"will be refused; it needs {_enough(scenario, one)}"
            )
        elif load >= 1:
            fewer = units.format(one.most, units.RATE)
            yield (
                f"{one.name} cannot be stable: offered load is {load:.0%} of {one.room}; it needs {_enough(scenario, one)}, "
                f"or fewer than {fewer}"
            )
        elif load >= CLOSE:
            yield f"{one.name} is close to its limit: offered load is {load:.0%} of {one.room}; queues will be long and slow to settle"
        elif peak is not None and rate and load * peak / rate >= 1:
            told = units.format(peak, units.RATE)
            yield f"{one.name}: at the peak rate of {told} offered load is {load * peak / rate:.0%} of {one.room}, and the queue grows"


def _enough(scenario: Scenario, one: ResourceBound) -> str:
    """Say what would be enough for a resource that is not."""
    needed = (one.utilization or 0.0) * one.capacity
    kind, _, rest = one.name.partition(".")
    if one.kind == "limit":
        sized = one.name.endswith(".tokens")
        return f"a limit above {units.format(needed, units.TOKEN_RATE if sized else units.RATE)}"
    if kind == "network":
        link = next(link for link in scenario.network.links if rest in _directions(link))
        return f"more than {units.format(needed * (link.bandwidth or 0.0), units.BANDWIDTH)}"
    spec = scenario.models.get(rest) if kind == "models" else None
    if isinstance(spec, Llm):
        return f"at least {counted(math.floor(needed / spec.concurrency) + 1, 'replica')}"
    return f"a concurrency of at least {math.floor(needed) + 1}"


def _table(resources: Iterable[ResourceBound]) -> Iterator[str]:
    """Yield a line a resource, the busiest first."""
    rows: list[tuple[str, ...]] = [("resource", "load", "of", "a task takes", "at most", "mean wait, if exponential")]
    rows += [_row(one) for one in sorted(resources, key=lambda resource: resource.most)]
    if len(rows) > 1:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            yield "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(one: ResourceBound) -> tuple[str, ...]:
    return (
        one.name,
        "" if one.utilization is None else f"{one.utilization:.1%}",
        one.room,
        f"{one.demand:.3g} units" if one.kind == "limit" else _seconds(one.demand),
        units.format(one.most, units.RATE),
        "" if one.wait is None else _seconds(one.wait),
    )


def _seconds(seconds: float) -> str:
    return units.format(seconds if seconds >= 1e-6 else 0.0, units.DURATION)


def _share(count: float, seconds: float) -> float:
    return count / seconds if seconds else math.inf
