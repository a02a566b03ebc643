"""What decides between configurations: capacity and what calls cost, steps where nothing has a price, and how the choice is told."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from coordsim.sim.analysis.plan import _in_a_plan, find_plan
from coordsim.sim.analysis.planned import Load, Point, QueueingBound, Variable

from .made_plans import Made, answers, fast, made, one_station, problem, variable

__all__ = ["fast"]  # a fixture, which tests use by its name


@pytest.mark.usefixtures("fast")
def test_what_calls_cost_counts() -> None:
    """A choice that is cheaper by its fixed price is not taken where its calls cost more."""

    def priced(point: Point, load: Load) -> Made:
        return Made(1 + 1 / (point[1] + 1), cost=(0.01, 0.001)[point[0]])

    choice = Variable("models.llm.model", ("dear calls", "cheap calls"), (0.0, 10.0), monotone=False)
    found = find_plan(made, problem((choice, variable("x", 8, 1.0)), priced, {"mean": 1.4}))
    assert answers(found) == [("pass", (1, 2))]
    trial = found.choices[0].trial
    assert trial is not None
    assert trial.usage == pytest.approx(3.6)
    assert trial.cost == pytest.approx(10 + 3 + 3.6)
    assert all(one.cost > trial.cost for one in found.trials if one.verdict == "pass" and one.point != trial.point)


@pytest.mark.usefixtures("fast")
def test_calls_cost_what_they_cost_at_the_planned_rate() -> None:
    """$0.01 a task at 2 tasks a second and 1.5 times the load are $108 an hour for every configuration, however long it was looked at."""

    def paid(point: Point, load: Load) -> Made:
        return replace(one_station(point, load), cost=0.01)

    found = find_plan(made, problem((variable("x", 16, 1.0),), paid, {"mean": 1.22}, (1.5,), rate=2.0))
    seen = [one for one in found.trials if one.replications]
    assert len({one.replications for one in seen}) > 1
    assert {round(one.usage, 9) for one in seen} == {108.0}
    assert all(one.cost == pytest.approx(one.point[0] + 1 + 108.0) for one in seen)
    assert all(one.metered is not None and one.metered.n == 5 for one in seen)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("seed", range(8))
def test_what_is_decided_settles_where_calls_differ_by_noise_alone(seed: int) -> None:
    """Calls cost $36 an hour give or take 10 % of noise in each configuration: the one with the cheapest capacity is chosen all the same."""

    def noisy(point: Point, load: Load) -> Made:
        return Made(1 + 1 / (point[0] + 1) + 1 / (point[1] + 1), 0.001, cost=0.01, uneven=0.1)

    variables = (variable("x", 6, 0.5), variable("y", 6, 0.3))
    found = find_plan(made, problem(variables, noisy, {"mean": 1.7}, seed=seed, confidence=0.999))
    best = min(
        (0.5 * (a + 1) + 0.3 * (b + 1), (a, b)) for a in range(6) for b in range(6) if 1 / (a + 1) + 1 / (b + 1) <= 0.7
    )
    assert answers(found) == [("pass", best[1])]
    assert len({one.usage for one in found.trials if one.replications}) == 1


@pytest.mark.usefixtures("fast")
def test_what_cannot_be_stable_misses_no_objective() -> None:
    """The reason why nothing cheaper will do names each kind apart, and the others only where there are any."""

    def bound(point: Point, load: Load) -> QueueingBound:
        return QueueingBound((), 1.0, math.inf, "cannot be stable" if point[0] < 2 else "", point[0] < 2)

    def any_will_do(point: Point, load: Load) -> Made:
        return Made(1.0, 0.01)

    loose = find_plan(made, problem((variable("x", 8, 1.0),), any_will_do, {"mean": 9.0}, bound=bound))
    assert answers(loose) == [("pass", (2,))]
    assert re.fullmatch(
        r"nothing cheaper will do: (2 cannot be stable \(queueing bounds\)|1 cannot be stable \(queueing bounds\); "
        r"1 has no more capacity than another that will not do)", loose.choices[0].why,
    )  # fmt: skip
    alone = find_plan(
        made,
        problem(
            (variable("x", 8, 1.0),),
            any_will_do,
            {"mean": 9.0},
            bound=lambda point, load: QueueingBound(
                (), 1.0, math.inf, "cannot be stable" * (point[0] < 1), point[0] < 1
            ),
        ),
    )
    assert alone.choices[0].why == "nothing cheaper will do: 1 cannot be stable (queueing bounds)"
    tight = find_plan(made, problem((variable("x", 3, 1.0),), one_station, {"mean": 1.4}))
    assert answers(tight) == [("pass", (2,))]
    assert "misses an objective in simulation" in tight.choices[0].why


@pytest.mark.usefixtures("fast")
def test_one_variable_that_never_suffices_takes_two_looks() -> None:
    """Once one has failed the greatest is next: it fails, too, and all do."""
    found = find_plan(made, problem((variable("x", 20, 1.0),), one_station, {"mean": 0.5}))
    assert answers(found) == [("fail", (19,))]
    assert len(found.trials) == 2


def test_warnings_of_runs_have_the_remedies_of_plans() -> None:
    """How many replications it takes the plan decides; longer runs are an option of it, by the scenario's own number of tasks."""
    more = "try `coordsim run SCENARIO --replications 30`"
    assert _in_a_plan(f"whether p95 is met cannot be told yet: its interval holds the threshold; {more}", 1.0) == ""
    assert _in_a_plan(f"mean T_total is known within 12 % only; {more}", 1.0) == ""
    certain = "nothing is drawn at random here, so every replication is the same"
    assert _in_a_plan(f"{certain}; {more}", 1.0) == certain
    longer = "3 of 9 tasks had not ended; try `coordsim run SCENARIO --set workload.tasks=900`"
    assert _in_a_plan(longer, 1.5).endswith("try `coordsim plan SCENARIO --set workload.tasks=600`")


@pytest.mark.usefixtures("fast")
def test_usage_that_differs_within_a_slice_is_told() -> None:
    """Pruning takes unseen configurations for as cheap as the cheapest seen: that is said where it matters."""

    def uneven(point: Point, load: Load) -> Made:
        return replace(one_station(point, load), cost=0.01 * (point[0] + 1))

    found = find_plan(made, problem((variable("x", 8, 1.0),), uneven, {"mean": 1.4}))
    assert any("differs between configurations" in doubt for doubt in found.doubts)


@pytest.mark.usefixtures("fast")
def test_a_plan_without_prices_chooses_the_fewest() -> None:
    """All variables are free, and so are calls: the fewest that will do are chosen, which all below miss."""
    said = "nothing that is decided has a price"
    free = find_plan(made, problem((variable("x", 8, 0.0),), one_station, {"mean": 1.4}))
    assert answers(free) == [("pass", (2,))]
    assert free.choices[0].trial is not None
    assert free.choices[0].trial.cost == 0
    assert "smaller" in free.choices[0].why
    assert any(said in doubt for doubt in free.doubts)
    priced = find_plan(made, problem((variable("x", 8, 1.0),), one_station, {"mean": 1.4}))
    assert not any(said in doubt for doubt in priced.doubts)
