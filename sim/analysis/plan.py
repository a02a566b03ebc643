"""Capacity plans: the cheapest configuration that meets the objectives at each load, and what limits it.

The lattice of configurations is searched (`lattice`), first by queueing bounds alone, then by sequential tests (`plan_trials`, which tells
how the stated confidence holds for the whole plan). Loads are solved from the greatest to the least and inwards: what passes at a
load passes at a lower one, and what fails fails at a higher one, unless an objective asks for throughput.

Where nothing has a price, the fewest steps of capacity win. Costs that calls make are known once a configuration has run: until then it is taken for as cheap as the cheapest seen in
its slice (nothing where none was).

Headroom and frontier go on from what the plan simulated, and may simulate as many tasks as it did, together.

Leaves out: how a configuration is simulated and bounded (`PlanProblem`); headroom and fixes (`plan_margin`); words (`plan_why`).
Checked: tests/test_plan.py, tests/test_plan_cost.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

import numpy as np
import numpy.typing as npt

from .cells import Journal
from .jobs import Simulate, Workers, opened
from .lattice import Search, share
from .plan_margin import find_fixes, find_headroom
from .plan_trials import FRONTIER, Invalid, PlanProblem, Record, S, Spent, Trials, rejudged, unit
from .plan_why import choose, find_broken
from .planned import Choice, FrontierPoint, Limit, Load, PlanResult, Point, Trial
from .replicate import Progress
from .slo import Objective, parse_metric

__all__ = ["FRONTIER", "PlanProblem", "find_plan"]

MOST_BOUNDS = (
    400  # configurations that are bounded before anything runs, at a load; the others when the search comes to them
)
BESIDES = 1.0  # tasks for headroom and frontier together, as a share of those of the plan; of headroom half of it
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
    with opened(workers) as crew:
        plan = _begin(Trials(simulate, problem, crew, journal, progress))
        # A pass at a load in the middle may tell one below, which was solved before, of something cheaper.
        while sum(_solve(plan, at) for at in _order(len(plan.loads))):
            pass
        choices = {load.factor: _choice(plan, at, load) for at, load in enumerate(plan.loads)}
        tasks, looked = plan.trials.tasks, plan.trials.all
        top = choices[plan.loads[-1].factor]
        headroom: tuple[Limit, ...] = ()
        if problem.headroom and top.verdict == "pass" and top.trial is not None:
            plan.trials.most = (1 + BESIDES / 2) * tasks
            headroom = find_headroom(plan.trials, top.trial)
        frontier = tuple(_frontier(plan, top, (1 + BESIDES) * tasks))
    besides = tuple(_besides(plan, looked))
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
        trials=looked,
        frontier=frontier,
        frontier_trials=besides,
        headroom=headroom,
        fixes=() if top.trial is None else find_fixes(plan.trials, top.trial),
        configurations=math.prod(problem.sizes),
        excluded=excluded,
        pruned=cells - excluded - invalid - sum(1 for one in looked if one.replications),
        tasks=tasks,
        beyond=plan.trials.tasks - tasks,
        grid_tasks=_grid_tasks(plan, looked),
        grid_replications=problem.grid_replications,
        broken=tuple(find_broken(problem, plan.trials.all, plan.shares)),
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
        # Of one variable alone: what the others add is added in their turn.
        ranks = [
            problem.rank((*[0] * axis, at, *[0] * (costs.ndim - axis - 1)), cost) for at, cost in enumerate(one.costs)
        ]
        costs += np.asarray(ranks).reshape([-1 if other == axis else 1 for other in range(costs.ndim)])
    plan = _Plan(trials, loads, [Search(problem.sizes, monotone, costs) for _ in loads])
    for at in reversed(range(len(loads))):
        _bound_all(plan, at)
    for at, search in enumerate(plan.searches):
        search.excluded = search.count("fail")
        # By other thresholds, for the frontier, more may be possible; asked for or not, so that it changes no verdict.
        trials.possible += search.count("open") + (search.excluded if at == len(loads) - 1 else 0)
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


def _solve(plan: _Plan[S], at: int) -> bool:
    """Look at configurations until none that is open could be cheaper than the best, and the best was simulated.

    Return whether any was looked at.
    """
    search, looked = plan.searches[at], False
    while (point := search.next() or search.best) is not None:
        if plan.trials.find(point, plan.loads[at]) is not None:
            break
        _look(plan, at, point)
        looked = True
    return looked


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
        for one in plan.searches if (point, None) in plan.trials.invalid else (search,):
            one.learn(point, "invalid", seen=False)
        return
    search.learn(point, trial.verdict, plan.problem.rank(point, trial.cost))
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
    known = [one for one in undecided if one is not None]
    return choose(plan.trials, load, search, best, known, len(undecided) - len(known))


def _grid_tasks(plan: _Plan[S], looked: Sequence[Trial]) -> int:
    """Return the tasks of the whole grid: those of a replication are as many as were simulated at a load, or are expected, or in proportion."""
    mean: dict[float, float] = {}
    for load in plan.loads:
        seen = [one for one in looked if one.load.factor == load.factor and one.replications]
        if seen:
            mean[load.factor] = sum(one.tasks for one in seen) / sum(one.replications for one in seen)
        elif plan.problem.expected is not None and (told := plan.problem.expected(load)) is not None:
            mean[load.factor] = told
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
    for (point, factor), reason in plan.trials.invalid.items():
        told = ", ".join(f"{one.path}={one.values[at]}" for one, at in zip(plan.problem.variables, point, strict=True))
        where = "cannot be" if factor is None else f"does not run at {factor:.4g} times the load"
        yield f"{told} {where}, and was left out{'' if factor is None else ' there'}: {reason}"
    if plan.problem.is_free:
        yield (
            "nothing that is decided has a price: of all that meet the objectives"
            f"{' at the same cost of calls' if any(one.usage for one in plan.trials.all) else ''} the one with the fewest "
            "steps of capacity, counted from the least values, was chosen"
        )
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
            warnings = (_in_a_plan(one, choice.load.factor) for one in record.summary.warnings)
            yield from (f"{choice.load.label}: {one}" for one in warnings if one)


def _in_a_plan(warning: str, factor: float) -> str:
    """Return a warning of a run as one of a plan: empty where the plan's own replications are the answer, with the remedies of a plan else.

    >>> _in_a_plan("x; try `coordsim run SCENARIO --set workload.tasks=800`", 2.0)
    'x; try `coordsim plan SCENARIO --set workload.tasks=400`'
    """
    told, remedy, _ = warning.partition("; try `coordsim run SCENARIO --replications")
    if remedy:
        # How many replications it takes is what the plan decides; that none differs from another is still to be known.
        return told if told.startswith("nothing is drawn at random") else ""
    # The plan multiplies the scenario's own number of tasks by the factor of the load.
    tasks = re.sub(r"(?<=workload\.tasks=)\d+", lambda found: str(math.ceil(int(found[0]) / factor)), warning)
    return tasks.replace("coordsim run SCENARIO", "coordsim plan SCENARIO")


# ---------------------------------------------------------------------------------------------------------------------
# Beyond the answer


def _frontier(plan: _Plan[S], top: Choice, most: float) -> Iterator[FrontierPoint]:
    """Yield the cheapest configuration for each strictness of the objectives on time, at the greatest load, the strictest first.

    The budget, up to `most` tasks in all, goes to the thresholds nearest to the plan's first, and is shared evenly by those that are left.
    """
    wanted = plan.problem.objectives
    if not plan.problem.frontier or not any(_is_time(one) for one in wanted):
        return
    is_open = bool(top.undecided) or top.verdict == "inconclusive"
    found = {1.0: FrontierPoint(1.0, wanted, top.trial if top.verdict == "pass" else None, open=is_open)}
    others = sorted({*plan.problem.frontier} - {1.0}, key=lambda one: (abs(math.log(one)), one))
    for number, strictness in enumerate(others):
        plan.trials.most = plan.trials.tasks + (most - plan.trials.tasks) / (len(others) - number)
        by = tuple(replace(one, threshold=one.threshold * strictness) if _is_time(one) else one for one in wanted)
        found[strictness] = FrontierPoint(strictness, by, *_cheapest(plan, by))
    for strictness in sorted(found):
        # What was simulated since for other thresholds tells more.
        one = found[strictness]
        seen = None if strictness == 1 else _cheapest_seen(plan, one.objectives)
        yield one if seen is None else replace(one, trial=seen)


def _is_time(one: Objective) -> bool:
    return one.sense == "<=" and unit(one.metric) == "s"


def _cheapest(plan: _Plan[S], objectives: tuple[Objective, ...]) -> tuple[Trial | None, bool, bool]:
    """Return the cheapest configuration by other thresholds (None if none), whether the budget ended the search, and whether something cheaper is undecided.

    Judged by what was simulated as far as that goes.
    """
    load, trials, problem = plan.loads[-1], plan.trials, plan.problem
    search = plan.searches[-1].fresh()
    search.screens = True  # stricter objectives may be beyond all that capacity can do
    for record in list(trials.records.values()):
        if record.trial.load.factor != load.factor or record.summary is None:
            continue
        # What these thresholds leave open may still be decided by more replications.
        verdict = record.verdict(objectives)
        if verdict != "inconclusive" or _is_over(problem, record):
            search.learn(record.trial.point, verdict, problem.rank(record.trial.point, record.trial.cost))
    while (point := search.next() or search.best) is not None:
        found = trials.find(point, load)
        if found is not None and found.verdict(objectives) == "pass":
            return _rejudged(found, objectives), False, bool(search.undecided)
        try:
            if trials.excludes(point, load, objectives):
                search.learn(point, "fail", seen=False)
                continue
            record = trials.judge(point, load, objectives)
        except Spent:
            return _cheapest_seen(plan, objectives), True, False
        except Invalid:
            search.learn(point, "invalid", seen=False)
            continue
        search.learn(point, record.verdict(objectives), problem.rank(point, record.trial.cost))
    return None, False, bool(search.undecided)


def _cheapest_seen(plan: _Plan[S], objectives: tuple[Objective, ...]) -> Trial | None:
    """Return the cheapest configuration that was simulated and meets other thresholds; None if none."""
    load = plan.loads[-1]
    met = [
        one
        for one in plan.trials.records.values()
        if one.trial.load.factor == load.factor and one.summary is not None and one.verdict(objectives) == "pass"
    ]
    rank = plan.problem.rank
    best = min(met, key=lambda one: rank(one.trial.point, one.trial.cost), default=None)
    return None if best is None else _rejudged(best, objectives)


def _rejudged(record: Record, objectives: tuple[Objective, ...]) -> Trial:
    return replace(record.trial, verdict="pass", judged=rejudged(record.trial.judged, objectives))


def _is_over(problem: PlanProblem[S], record: Record) -> bool:
    return record.trial.replications >= problem.settings.max_replications


def _besides(plan: _Plan[S], looked: Sequence[Trial]) -> Iterator[Trial]:
    """Yield the trials that came, or went on, after those that were looked at for the choices, with the tasks that took."""
    before = {(one.point, one.load.factor): one for one in looked}
    for one in plan.trials.all:
        known = before.get((one.point, one.load.factor))
        if one.replications and (known is None or known.replications < one.replications):
            yield replace(one, tasks=one.tasks - (0 if known is None else known.tasks))
