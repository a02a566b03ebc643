"""Variants of a scenario: one for each thing that can be said, checked before it runs, the same in any process."""

import pytest

from coordsim.models.simulate import simulate
from coordsim.models.variants import Variants, reason, scenario_of, simulate_text
from coordsim.sim.engine.errors import ScenarioError

from .scene import scene

BUSY = {"workload": {"tasks": 3, "arrivals": {"poisson": "1 / s"}}}


def test_two_ways_to_say_the_same_are_one_variant() -> None:
    """Changes that lead to the same scenario have one key, and others have others."""
    variants = Variants(scene(BUSY))
    same = variants.key([("workload.tasks", "5")]), variants.key([("workload.tasks", "7"), ("workload.tasks", "5")])
    assert same[0] == same[1]
    assert variants.key([("workload.tasks", "6")]) not in same
    assert len(variants.found) == 2


def test_a_variant_runs_as_its_scenario_does() -> None:
    """What a key stands for gives, to the bit, what the scenario with the change gives."""
    scenario = scene(BUSY)
    key = Variants(scenario).key([("workload.tasks", "9")])
    expected = simulate(scenario.replace("workload.tasks", 9), 3, 1)
    assert (simulate_text(key, 3, 1).rows == expected.rows).all()
    assert scenario_of(key) == scenario.replace("workload.tasks", 9)


def test_a_variant_that_cannot_be_says_why() -> None:
    """A value that the scenario refuses raises its mistakes, which fit one line."""
    with pytest.raises(ScenarioError) as caught:
        Variants(scene(BUSY)).key([("workload.tasks", "-1")])
    assert "workload.tasks" in reason(caught.value)
