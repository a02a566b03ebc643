"""Capacity plans on systems whose answer is known: the right choice, few tasks, and errors as rare as stated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from coordsim.sim.analysis.cells import Cell, Outcome
from coordsim.sim.analysis.jobs import ClusterError
from coordsim.sim.analysis.plan import PlanProblem, find_plan
from coordsim.sim.analysis.planned import Load, Point, QueueingBound, ResourceLoad, Variable
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ConservationError, CoordsimError, ScenarioError
from coordsim.sim.engine.watchdog import StuckError

from .made_plans import TASKS, Made, answers, fast, made, one_station, problem, variable
from .mm1 import Queue, simulate

__all__ = ["fast"]  # a fixture, which tests use by its name

# -- real queues

RATE = 6.0


def queue_problem(**changes: Any) -> PlanProblem[Queue]:
    """An M/M/c queue at 6 tasks a second of 1 s each; runs of 300 tasks average 1.16 s with 8 servers, 1.46 s with 7."""

    def bound(point: Point, load: Load) -> QueueingBound:
        servers, rate = point[0] + 1, RATE * load.factor
        busy = ResourceLoad("models.llm", f"{servers} servers", rate / servers, servers / rate, None)
        return QueueingBound((busy,), 1.0, servers, "models.llm cannot be stable" if rate >= servers else "")

    def variant(point: Point, load: Load) -> Queue:
        return Queue(arrival_rate=RATE * load.factor, servers=point[0] + 1, tasks=300)

    settings = Settings(max_replications=160, warmup=None)
    variables = (variable("models.llm.replicas", 24, 2.0),)
    given: dict[str, Any] = {"bound": bound, "settings": settings} | changes
    asked: PlanProblem[Queue] = problem(variables, variant, {"mean": 1.28}, **given)
    return asked


@pytest.mark.slow
def test_a_queue_with_several_servers_gets_the_fewest() -> None:
    """Eight servers pass, seven fail, six fall to the bound; a saturated one is never simulated."""
    asked: list[int] = []

    def recorded(queue: Queue, seed: int, replication: int, spans: str) -> Result:
        asked.append(queue.servers)
        return simulate(queue, seed, replication, spans)

    found = find_plan(recorded, queue_problem())
    assert answers(found) == [("pass", (7,))]
    assert found.choices[0].trial is not None
    assert found.choices[0].trial.cost == 16.0
    assert not found.choices[0].undecided
    assert min(asked) > RATE
    assert found.tasks == 300 * len(asked) == sum(one.tasks for one in found.trials)
    assert found.grid_tasks == 24 * 10 * 300
    assert found.excluded == 6
    assert found.excluded + found.pruned + sum(1 for one in found.trials if one.replications) == 24
    assert not found.broken


@pytest.mark.slow
def test_headroom_fixes_and_frontier_go_with_the_answer() -> None:
    """Load ends at 8/6 by the traffic equations, the objective breaks before; more servers help, and looser objectives need fewer."""
    found = find_plan(simulate, queue_problem(frontier=(0.5, 1.5), headroom=True))
    resource, broken = found.headroom
    assert (resource.kind, resource.name, resource.source) == ("resource", "models.llm", "bound")
    assert resource.factor == pytest.approx(8 / 6)
    assert (broken.kind, broken.name, broken.source) == ("objective", "mean", "simulation")
    assert 1 <= broken.low < broken.factor < broken.high < resource.factor
    assert [fix.change for fix in found.fixes[:2]] == [f"models.llm.replicas {n} -> {n + 1}" for n in (8, 9)]
    assert found.fixes[0].factor_then == pytest.approx(9 / 6)
    strict, same, loose = found.frontier
    assert (strict.strictness, strict.trial) == (0.5, None)  # a service alone takes 1 s
    assert same.trial is not None
    assert loose.trial is not None
    assert loose.trial.cost < same.trial.cost
    assert loose.objectives[0].threshold == pytest.approx(1.92)
    assert 0 < found.beyond <= found.tasks


# -- made-up systems


@pytest.mark.usefixtures("fast")
def test_a_tandem_with_prices_finds_the_cheapest_pair() -> None:
    """Two stations: the cheapest pair whose times together are short enough, with a fifth of the grid's tasks."""
    prices = (3.0, 1.0)

    def mean(point: Point) -> float:
        return 2 / (point[0] + 1) + 1 / (point[1] + 1)

    variables = (variable("models.llm.replicas", 12, prices[0]), variable("tools.search.concurrency", 12, prices[1]))
    found = find_plan(made, problem(variables, lambda point, load: Made(mean(point), 0.005), {"mean": 0.825}))
    grid = [(a, b) for a in range(12) for b in range(12)]
    feasible = [(3.0 * (a + 1) + b + 1, (a, b)) for a, b in grid if mean((a, b)) <= 0.825]
    assert found.verdict == "pass"
    assert found.choices[0].trial is not None
    assert found.choices[0].trial.cost == min(feasible)[0]
    assert not found.choices[0].undecided
    assert 5 * found.tasks <= found.grid_tasks == 144 * 10 * TASKS
    assert found.configurations == 144


@pytest.mark.usefixtures("fast")
def test_when_nothing_passes_the_nearest_and_the_cause_are_told() -> None:
    """The greatest configuration misses least: by how much, and which resource holds it."""

    def busy(point: Point, load: Load) -> Made:
        return replace(one_station(point, load), utilization=0.97)

    found = find_plan(made, problem((variable("models.llm.replicas", 8, 1.0),), busy, {"mean": 0.75}))
    assert answers(found) == [("fail", (7,))]
    choice = found.choices[0]
    assert choice.misses[0].by == pytest.approx(1.125 / 0.75 - 1, abs=0.1)
    assert "models.llm is the bottleneck at its greatest value 8 (utilization 97 %)" in choice.why
    assert found.verdict == "fail"


@pytest.mark.usefixtures("fast")
def test_when_a_task_alone_takes_too_long_no_capacity_helps() -> None:
    """The bound on the response time says so, and nothing is simulated where it excludes all."""

    def bound(point: Point, load: Load) -> QueueingBound:
        return QueueingBound((), 3.2, math.inf, "mean of 2 s cannot be")

    found = find_plan(made, problem((variable("x", 8, 1.0),), one_station, {"mean": 2.0}, bound=bound))
    assert answers(found) == [("fail", (0,))]  # all are as near, and this is the cheapest
    assert "alone, without any waiting, a task takes 3.2 s in the mean, more than 2 s" in found.choices[0].why
    assert (found.tasks, found.excluded) == (0, 8)
    assert found.choices[0].misses[0].by == pytest.approx(0.6)


@pytest.mark.usefixtures("fast")
def test_a_configuration_on_its_threshold_is_inconclusive() -> None:
    """Alone it decides the plan's verdict; with a dearer one that passes, it is told of as undecided."""

    def at_threshold(point: Point, load: Load) -> Made:
        return Made((2.0, 1.0, 0.5)[point[0]])

    alone = find_plan(made, problem((variable("x", 2, 1.0),), at_threshold, {"mean": 1.0}))
    assert answers(alone) == [("inconclusive", (1,))]
    assert "more replications would tell" in alone.choices[0].why or "too near" in alone.choices[0].why
    assert alone.verdict == "inconclusive"
    more = find_plan(made, problem((variable("x", 3, 1.0),), at_threshold, {"mean": 1.0}))
    assert answers(more) == [("pass", (2,))]
    assert [one.point for one in more.choices[0].undecided] == [(1,)]


@pytest.mark.usefixtures("fast")
def test_each_load_has_its_answer_in_the_order_given() -> None:
    """More load needs more, equal loads are planned once, and what one load teaches spares others."""
    loads = (1.0, 4.0, 2.0, 1.0, 3.0)
    variables = (variable("x", 24, 1.0),)

    def exact(point: Point, load: Load) -> Made:
        return replace(one_station(point, load), spread=0.01)

    found = find_plan(made, problem(variables, exact, {"mean": 1.56}, loads))
    # 1 + f / c <= 1.56, so c >= f / 0.56.
    assert answers(found) == [("pass", (math.ceil(factor / 0.56) - 1,)) for factor in loads]
    alone = sum(find_plan(made, problem(variables, exact, {"mean": 1.56}, (one,))).tasks for one in set(loads))
    assert found.tasks < alone
    assert found.grid_tasks == 24 * 4 * 10 * TASKS


@pytest.mark.usefixtures("fast")
def test_less_load_gives_less_throughput() -> None:
    """With an objective on throughput loads share nothing: what is reached at a high load is not at a low one."""

    def rate(point: Point, load: Load) -> Made:
        return Made(load.factor * 10, 0.01)

    found = find_plan(made, problem((variable("x", 4, 1.0),), rate, {"throughput": 15.0}, (1.0, 2.0)))
    assert answers(found) == [("fail", (3,)), ("pass", (0,))] or found.choices[0].verdict == "fail"
    assert found.choices[1].verdict == "pass"


@pytest.mark.usefixtures("fast")
def test_values_that_do_not_go_together_are_left_out() -> None:
    """A configuration that cannot be is told of, and the next one found."""

    def sometimes(point: Point, load: Load) -> Made:
        if point == (2,):
            raise ScenarioError([], "made")
        return one_station(point, load)

    found = find_plan(made, problem((variable("x", 8, 1.0),), sometimes, {"mean": 1.4}))
    assert answers(found) == [("pass", (3,))]
    assert any(doubt.startswith("x=3 cannot be") for doubt in found.doubts)


@pytest.mark.usefixtures("fast")
def test_a_configuration_implied_to_pass_that_cannot_be_is_left_out() -> None:
    """What passes at the greater load, and cannot be at the less by its values or by its bound, is not asked for ever."""

    def steady(point: Point, load: Load) -> Made:
        return Made(1 + 3 / (point[0] + 1), 0.005)

    def invalid(point: Point, load: Load) -> Made:
        if load.factor == 1 and point == (3,):
            raise ScenarioError([], "made")
        return steady(point, load)

    def excluded(point: Point, load: Load) -> QueueingBound:
        return QueueingBound((), 0.0, math.inf, "made" if load.factor == 1 and point[0] <= 3 else "")

    x = (variable("x", 8, 1.0),)
    found = find_plan(made, problem(x, invalid, {"mean": 1.9}, (1.0, 3.0)))
    assert answers(found) == [("pass", (4,)), ("pass", (4,))]
    found = find_plan(made, problem(x, steady, {"mean": 1.9}, (1.0, 3.0), bound=excluded))
    assert answers(found) == [("pass", (4,)), ("pass", (3,))]


@pytest.mark.usefixtures("fast")
def test_each_best_was_simulated_at_its_own_load_and_passed() -> None:
    """A pass at the middle load, found last, implies a cheaper one at the least, which is looked at there: noise may leave it open."""

    def noisier_below(point: Point, load: Load) -> Made:
        mean = 1 + (load.factor if load.factor > 1 else 1.9) / (point[0] + 1)
        return Made(mean, 0.4 if load.factor == 1 else 0.005)

    found = find_plan(made, problem((variable("x", 24, 1.0),), noisier_below, {"mean": 1.56}, (1.0, 2.0, 4.0)))
    assert answers(found)[1:] == [("pass", (3,)), ("pass", (7,))]
    first = found.choices[0]
    assert first.verdict == "pass"
    for one in found.choices:
        assert one.trial is not None
        assert (one.trial.verdict, one.trial.load.factor) == ("pass", one.load.factor)
    assert (1.0, (3,)) in {(one.load.factor, one.point) for one in found.trials if one.replications}
    assert first.undecided


@pytest.mark.usefixtures("fast")
def test_a_run_that_is_stuck_says_nothing_of_other_loads() -> None:
    """It makes the configuration invalid at that load alone, and the plan says so."""

    def stuck_at_three(one: Made, seed: int, replication: int, spans: str) -> Any:
        if one.utilization == 0.9:
            raise StuckError("made")
        return made(one, seed, replication, spans)

    def variant(point: Point, load: Load) -> Made:
        return replace(one_station(point, load), spread=0.005, utilization=0.9 if load.factor == 3 else 0.5)

    x = (variable("x", 8, 1.0),)
    found = find_plan(stuck_at_three, problem(x, variant, {"mean": 1.14}, (1.0, 3.0)))
    assert answers(found)[0] == ("pass", (7,))
    assert found.choices[1].verdict == "fail"
    assert [one for one in found.doubts if "x=8" in one] == [
        "x=8 does not run at 3 times the load, and was left out there: made"
    ]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("error", [ClusterError, ConservationError])
def test_an_error_that_is_none_of_the_configuration_ends_the_plan(error: type[CoordsimError]) -> None:
    """A cluster that is lost, or a ledger that does not add up, makes no configuration invalid."""

    def failing(one: Made, seed: int, replication: int, spans: str) -> Any:
        raise error("made")

    with pytest.raises(error, match="made"):
        find_plan(failing, problem((variable("x", 8, 1.0),), one_station, {"mean": 1.4}))


@pytest.mark.usefixtures("fast")
def test_a_pair_against_monotony_is_told() -> None:
    """Where more did worse, beyond both intervals, the plan says which two."""

    def worse(point: Point, load: Load) -> Made:
        return Made((3.0, 1.0, 2.0, 1.5)[point[0]], 0.01)

    found = find_plan(made, problem((variable("x", 4, 1.0),), worse, {"mean": 1.2}))
    pairs = {(more.point, less.point) for more, less in found.broken}
    assert all(
        worse(more, found.choices[0].load).mean > worse(less, found.choices[0].load).mean for more, less in pairs
    )
    seen = {one.point for one in found.trials if one.replications}
    assert pairs == {((a,), (b,)) for a, b in [(2, 1), (3, 1)] if {(a,), (b,)} <= seen}


@pytest.mark.usefixtures("fast")
def test_frontier_and_headroom_take_no_more_tasks_than_the_plan() -> None:
    """Each table's tasks add up, the plan's trials stay as they were decided, and what the budget ended says so."""
    variables = (variable("models.llm.replicas", 12, 3.0), variable("tools.search.concurrency", 12, 1.0))

    def noisy(point: Point, load: Load) -> Made:
        return Made(load.factor * (2 / (point[0] + 1) + 1 / (point[1] + 1)), 0.1)

    alone = find_plan(made, problem(variables, noisy, {"mean": 0.8}))
    found = find_plan(made, problem(variables, noisy, {"mean": 0.8}, frontier=(0.5, 0.75, 1.5, 2.0), headroom=True))
    assert found.choices == alone.choices
    assert found.trials == alone.trials
    assert found.tasks == alone.tasks == sum(one.tasks for one in found.trials)
    frontier = sum(one.tasks for one in found.frontier_trials)
    assert 0 < frontier <= found.beyond <= found.tasks
    assert found.beyond - frontier <= found.tasks / 2
    assert any(one.ended for one in found.frontier)
    costs = [one.trial.cost for one in found.frontier if one.trial is not None and not one.ended]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.usefixtures("fast")
def test_both_counts_of_tasks_are_there_where_bounds_exclude_all() -> None:
    """What a replication would take is expected from the workload."""

    def bound(point: Point, load: Load) -> QueueingBound:
        return QueueingBound((), 3.2, math.inf, "mean of 2 s cannot be")

    given = problem((variable("x", 8, 1.0),), one_station, {"mean": 2.0}, (1.0, 2.0), bound=bound)
    found = find_plan(made, replace(given, expected=lambda load: TASKS * load.factor))
    assert (found.tasks, found.grid_tasks) == (0, 8 * 10 * 3 * TASKS)


@pytest.mark.usefixtures("fast")
def test_of_equal_misses_the_cheapest_is_the_nearest() -> None:
    """A choice that does as badly for more money is not told of as the nearest."""
    choice = Variable("models.llm.model", ("dear", "cheap"), (10.0, 1.0), monotone=False)
    found = find_plan(made, problem((choice,), lambda point, load: Made(2.0, 0.01), {"mean": 1.0}))
    assert answers(found) == [("fail", (1,))]


@dataclass
class Kept:
    """A journal in memory; after `most` outcomes it interrupts."""

    most: float = math.inf
    kept: dict[tuple[str, int, float], Outcome] = field(default_factory=dict)

    def find(self, cell: Cell[Any], settings: Settings) -> Outcome | None:
        """Return what was kept."""
        return self.kept.get((cell.key, int(settings.replications), settings.confidence))

    def keep(self, cell: Cell[Any], settings: Settings, outcome: Outcome) -> None:
        """Keep an outcome, or interrupt."""
        if len(self.kept) >= self.most:
            raise KeyboardInterrupt
        self.kept[cell.key, int(settings.replications), settings.confidence] = outcome


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("most", [1, 3, 6])
def test_an_interrupted_plan_goes_on_to_the_same_answer(most: int) -> None:
    """Looks in the journal do not run again, and the answer is the same to the last bit, the count of tasks included."""
    given = problem((variable("x", 16, 1.0),), one_station, {"mean": 1.22}, frontier=(0.9, 1.2), headroom=True)
    whole = find_plan(made, given)
    journal = Kept(most)
    with pytest.raises(KeyboardInterrupt):
        find_plan(made, given, journal=journal)
    journal.most = math.inf
    ran: list[int] = []

    def counted(one: Made, seed: int, replication: int, spans: str) -> Any:
        ran.append(replication)
        return made(one, seed, replication, spans)

    assert repr(find_plan(counted, given, journal=journal)) == repr(whole)
    assert TASKS * len(ran) <= whole.tasks + whole.beyond
    ran.clear()
    assert repr(find_plan(counted, given, journal=journal)) == repr(whole)
    assert not ran


# -- the stated confidence


@dataclass(frozen=True, kw_only=True)
class Naive(PlanProblem[Any]):
    """A plan whose every look takes the stated confidence for itself."""

    def level(self, trials: int) -> float:
        """Return the stated confidence."""
        return self.confidence


def wrong_plans(plans: int, confidence: float, *, skewed: bool = False, kind: Any = PlanProblem) -> int:
    """Return how many plans took a miss for a pass, or refused what meets the objective: any wrong verdict counts.

    Means fall in small steps through the threshold, so that every plan has near misses on both sides.
    """
    count = 0
    for number in range(plans):
        rng = np.random.default_rng([number, 7])
        steps = np.cumsum(rng.uniform(0.002, 0.01, 12))[::-1]
        means = (1.0 + steps - rng.uniform(0.02, 0.06)).tolist()

        def variant(point: Point, load: Load, means: list[float] = means) -> Made:
            return Made(means[point[0]], 0.05, skewed=skewed)

        given = problem(
            (variable("x", 12, 1.0),), variant, {"mean": 1.0}, confidence=confidence, seed=number, kind=kind
        )
        trials = find_plan(made, given).trials
        count += any(
            (one.verdict == "pass") != (means[one.point[0]] <= 1.0) for one in trials if one.verdict != "inconclusive"
        )
    return count


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
def test_wrong_plans_are_as_rare_as_stated() -> None:
    """At 80 % at most a fifth of 200 plans (100 with skewed noise) is wrong, to a chance of 1 in 1000; more are when each look takes the level for itself."""
    assert wrong_plans(200, 0.8) <= allowed(200, 0.2)
    assert wrong_plans(100, 0.8, skewed=True) <= allowed(100, 0.2)
    assert wrong_plans(80, 0.8, kind=Naive) > allowed(80, 0.2)


def allowed(plans: int, error: float) -> int:
    """Return the count that so many plans, each wrong with this chance, exceed once in 1000 times at most."""
    from scipy.stats import binom

    return int(binom.ppf(0.999, plans, error))
