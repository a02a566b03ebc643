"""Capacity plans: the cheapest configuration that meets the objectives at each load, and what limits it.

The lattice of configurations is searched (`lattice`), first by queueing bounds alone, then by sequential tests (`plan_trials`, which tells
how the stated confidence holds for the whole plan). Loads are solved from the greatest to the least and inwards: what passes at a
load passes at a lower one, and what fails fails at a higher one, unless an objective asks for throughput.

Costs that calls make are known once a configuration has run: until then it is taken for as cheap as the cheapest seen in
its slice (nothing where none was).

Leaves out: how a configuration is simulated and bounded (`PlanProblem`); headroom and fixes (`plan_margin`); words (`plan_why`).
Checked: tests/test_plan.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

import numpy as np
import numpy.typing as npt

from .cells import Journal
from .jobs import Simulate, Workers
from .lattice import Search, share
from .plan_margin import find_fixes, find_headroom
from .plan_trials import FRONTIER, Invalid, PlanProblem, Record, S, Trials, rejudged, unit
from .plan_why import choose, find_broken
from .planned import Choice, FrontierPoint, Load, PlanResult, Point, Trial
from .replicate import Progress
from .slo import Objective, parse_metric

__all__ = ["FRONTIER", "PlanProblem", "find_plan"]

MOST_BOUNDS = (
    400  # configurations that are bounded before anything runs, at a load; the others when the search comes to them
)
FRONTIER_TRIALS = 12  # that a point of the frontier may simulate
FALLING = ("throughput", "goodput")  # less load gives less of these
UNEVEN = 0.05  # relative difference of what calls cost within a slice that is told


@dataclass
class _Plan(Generic[S]):
    """A plan under way: a search for each distinct factor of the load, from the least to the greatest."""

    trials: Trials[S]
    loads: tuple[Load, ...]
    searches: list[Search]
    usage: dict[tuple[int, int], float] = field(default_factory=dict)  # least seen, by load and slice
    doubts: list[str] = field(default_factory=list)

    @property
    def problem(self) -> PlanProblem[S]:
        """What is planned."""
        return self.trials.problem

    @property
    def shares(self) -> bool:
        """Whether what passes at a load passes at a lower one."""
        return all(parse_metric(one.metric).quantity not in FALLING for one in self.problem.objectives)


def find_plan(
    simulate: Simulate[S],
    problem: PlanProblem[S],
    *,
    workers: int | Workers = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PlanResult:
    """Find the cheapest configuration at each load, the frontier and headroom.

    No number depends on `workers`, nor on what `journal` has. Raises WorkerError when workers keep dying, and
    KeyboardInterrupt as it comes: what was looked at by then is in the journal.
    """
    plan = _begin(Trials(simulate, problem, workers, journal, progress))
    for at in _order(len(plan.loads)):
        _solve(plan, at)
    tasks, looked = plan.trials.tasks, plan.trials.all
    choices = {load.factor: _choice(plan, at, load) for at, load in enumerate(plan.loads)}
    top = choices[plan.loads[-1].factor]
    frontier = tuple(_frontier(plan, top))
    trials = plan.trials.all
    passed = top.trial if top.verdict == "pass" else None
    headroom = find_headroom(plan.trials, passed) if passed is not None and problem.headroom else ()
    excluded = sum(search.excluded for search in plan.searches)
    invalid = sum(search.count("invalid") for search in plan.searches)
    cells = math.prod(problem.sizes) * len(plan.loads)
    return PlanResult(
        scenario=problem.scenario,
        seed=problem.seed,
        confidence=problem.confidence,
        variables=problem.variables,
        objectives=problem.objectives,
        choices=tuple(replace(choices[load.factor], load=load) for load in problem.loads),
        trials=trials,
        frontier=frontier,
        headroom=headroom,
        fixes=() if top.trial is None else find_fixes(plan.trials, top.trial),
        configurations=math.prod(problem.sizes),
        excluded=excluded,
        pruned=cells - excluded - invalid - sum(1 for one in looked if one.replications),
        tasks=tasks,
        beyond=plan.trials.tasks - tasks,
        grid_tasks=_grid_tasks(plan, looked),
        grid_replications=problem.grid_replications,
        broken=tuple(find_broken(problem, trials, plan.shares)),
        doubts=tuple(dict.fromkeys(_doubts(plan, choices.values()))),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Before anything is simulated


def _begin(trials: Trials[S]) -> _Plan[S]:
    """Return the plan with all that bounds exclude learnt, and the confidence of each interval set."""
    problem = trials.problem
    loads = tuple({load.factor: load for load in sorted(problem.loads, key=lambda one: one.factor)}.values())
    monotone = [one.monotone for one in problem.variables]
    costs: npt.NDArray[np.float64] = np.zeros(problem.sizes)
    for axis, one in enumerate(problem.variables):
        costs += np.asarray(one.costs).reshape([-1 if other == axis else 1 for other in range(costs.ndim)])
    plan = _Plan(trials, loads, [Search(problem.sizes, monotone, costs) for _ in loads])
    for at in reversed(range(len(loads))):
        _bound_all(plan, at)
    for at, search in enumerate(plan.searches):
        search.excluded = search.count("fail")
        possible = search.count("open") + (search.excluded if problem.frontier and at == len(loads) - 1 else 0)
        trials.possible += possible
    return plan


def _bound_all(plan: _Plan[S], at: int) -> None:
    """Learn what bounds exclude, which is monotone too: from the point whose bound settles most, to `MOST_BOUNDS` of them."""
    search, load = plan.searches[at], plan.loads[at]
    for _ in range(MOST_BOUNDS):
        point = search.unbounded()
        if point is None:
            return
        try:
            excluded = bool(plan.trials.bound(point, load).excludes)
        except Invalid:
            for one in plan.searches:
                one.learn(point, "invalid", seen=False)
            continue
        if excluded:
            plan.trials.exclude(point, load)
            search.learn(point, "fail", seen=False)
            if plan.shares:
                share(plan.searches, at, point, "fail")
        else:
            search.may_pass(point)
            for lower in plan.searches[:at] if plan.shares else ():
                lower.may_pass(point)


def _order(loads: int) -> list[int]:
    """Return in which order loads teach most: the greatest, the least, and then always the middle of what is between."""
    order, gaps = list(dict.fromkeys((loads - 1, 0))), [(0, loads - 1)]
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if low < middle < high:
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


# ---------------------------------------------------------------------------------------------------------------------
# The search


def _solve(plan: _Plan[S], at: int) -> None:
    """Look at configurations until none that is open could be cheaper than the best, and the best was simulated."""
    search = plan.searches[at]
    while (point := search.next() or search.best) is not None:
        if plan.trials.find(point, plan.loads[at]) is not None:
            return
        _look(plan, at, point)


def _look(plan: _Plan[S], at: int, point: Point) -> None:
    """Learn whether a configuration meets the objectives, by its bound, or else by simulation."""
    search, load = plan.searches[at], plan.loads[at]
    try:
        if plan.trials.bound(point, load).excludes:
            plan.trials.exclude(point, load)
            search.learn(point, "fail", seen=False)
            search.excluded += 1
            return
        trial = plan.trials.judge(point, load).trial
    except Invalid:
        for one in plan.searches:
            one.learn(point, "invalid", seen=False)
        return
    search.learn(point, trial.verdict, trial.cost)
    if plan.shares:
        share(plan.searches, at, point, trial.verdict)
    group = (at, search.slice_of(point))
    least = plan.usage.get(group, 0.0)
    if group not in plan.usage or trial.usage < least:
        search.at_least(point, trial.usage - least)
        plan.usage[group] = trial.usage


def _choice(plan: _Plan[S], at: int, load: Load) -> Choice:
    search = plan.searches[at]
    undecided = [plan.trials.find(point, load) for point in search.undecided]
    best = None if search.best is None else plan.trials.find(search.best, load)
    return choose(plan.trials, load, best, [one for one in undecided if one is not None])


def _grid_tasks(plan: _Plan[S], looked: Sequence[Trial]) -> int:
    """Return the tasks of the whole grid: those of a replication are as many as were simulated at a load, or in proportion."""
    mean: dict[float, float] = {}
    for load in plan.loads:
        seen = [one for one in looked if one.load.factor == load.factor and one.replications]
        if seen:
            mean[load.factor] = sum(one.tasks for one in seen) / sum(one.replications for one in seen)
    if not mean:
        return 0
    known = [
        mean.get(load.factor, math.fsum(n / f for f, n in mean.items()) / len(mean) * load.factor)
        for load in plan.loads
    ]
    return round(math.fsum(known) * math.prod(plan.problem.sizes) * plan.problem.grid_replications)


def _doubts(plan: _Plan[S], choices: Iterable[Choice]) -> Iterator[str]:
    """Yield what to know of the answer."""
    yield from plan.doubts
    for point, reason in plan.trials.invalid.items():
        told = ", ".join(f"{one.path}={one.values[at]}" for one, at in zip(plan.problem.variables, point, strict=True))
        yield f"{told} cannot be, and was left out: {reason}"
    if any(not search.is_bounded for search in plan.searches):
        yield f"only {MOST_BOUNDS} configurations were bounded beforehand; others that bounds exclude are counted as pruned"
    used: dict[tuple[float, int], list[float]] = {}
    for trial in plan.trials.all:
        if trial.replications:
            used.setdefault((trial.load.factor, plan.searches[0].slice_of(trial.point)), []).append(trial.usage)
    for seen in used.values():
        if max(seen) > (1 + UNEVEN) * min(seen):
            yield (
                f"what calls cost differs between configurations with the same choices, from ${min(seen):.4g} to "
                f"${max(seen):.4g} an hour; configurations that did not run were taken for as cheap as the cheapest"
            )
    for choice in choices:
        record = None if choice.trial is None else plan.trials.find(choice.trial.point, choice.load)
        if record is not None and record.summary is not None:
            yield from (f"{choice.load.label}: {warning}" for warning in record.summary.warnings)


# ---------------------------------------------------------------------------------------------------------------------
# Beyond the answer


def _frontier(plan: _Plan[S], top: Choice) -> Iterator[FrontierPoint]:
    """Yield the cheapest configuration for each strictness of the objectives on time, at the greatest load, the strictest first."""
    wanted = plan.problem.objectives
    if not plan.problem.frontier or not any(_is_time(one) for one in wanted):
        return
    for strictness in sorted({*plan.problem.frontier, 1.0}):
        by = tuple(replace(one, threshold=one.threshold * strictness) if _is_time(one) else one for one in wanted)
        if strictness == 1:
            yield FrontierPoint(1.0, wanted, top.trial if top.verdict == "pass" else None)
        else:
            yield FrontierPoint(strictness, by, _cheapest(plan, by))


def _is_time(one: Objective) -> bool:
    return one.sense == "<=" and unit(one.metric) == "s"


def _cheapest(plan: _Plan[S], objectives: tuple[Objective, ...]) -> Trial | None:
    """Return the cheapest configuration by other thresholds, judged by what was simulated as far as that goes; None if none."""
    load, trials, problem = plan.loads[-1], plan.trials, plan.problem
    search = plan.searches[-1].fresh()
    search.screens = True  # stricter objectives may be beyond all that capacity can do
    for record in list(trials.records.values()):
        if record.trial.load.factor != load.factor or record.summary is None:
            continue
        # What these thresholds leave open may still be decided by more replications.
        verdict = record.verdict(objectives)
        if verdict != "inconclusive" or _spent(problem, record):
            search.learn(record.trial.point, verdict, record.trial.cost)
    left = FRONTIER_TRIALS
    while (point := search.next() or search.best) is not None:
        found = trials.find(point, load)
        if found is not None and found.verdict(objectives) == "pass":
            return replace(found.trial, verdict="pass", judged=rejudged(found.trial.judged, objectives))
        if not left:
            told = ", ".join(f"{one.metric} {one.sense} {one.threshold:.4g}" for one in objectives)
            plan.doubts.append(f"the frontier at {told} was given up after {FRONTIER_TRIALS} configurations")
            return None
        try:
            if trials.excludes(point, load, objectives):
                search.learn(point, "fail", seen=False)
                continue
            left -= 1
            record = trials.judge(point, load, objectives)
        except Invalid:
            search.learn(point, "invalid", seen=False)
            continue
        search.learn(point, record.verdict(objectives), record.trial.cost)
    return None


def _spent(problem: PlanProblem[S], record: Record) -> bool:
    return record.trial.replications >= problem.settings.max_replications
