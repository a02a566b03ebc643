"""A factor that all calls of a task have in common: its moments, that it is one for all, and that it leaves all else alone."""

import numpy as np
import pytest

import coordsim as cs
from coordsim.models.bounds import bounds
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

CALLS, MEAN, CV = 8, 2.0, 0.75
TEXT = """
coordsim: 1
name: per-task
question: Does a task's own factor do what it says?
seed: 5
runtime: stateless-api
workload: {arrivals: {poisson: 0.01 / s}, tasks: 5000, warmup: 0 s}
agents: {worker: {model: llm}}
models: {llm: {kind: api, overhead: {exponential: {mean: 1 s}}}}
tools: {test: {latency: {exponential: {mean: 3 s}}, speed: 1.5}}
workflow: {start: work, steps: {work: {agent: worker, tools: {test: 1}, repeat: 8}}}
"""
VARIED = {"lognormal": {"mean": MEAN, "cv": CV}}


def seconds(result: Result, component: str) -> np.ndarray:
    """Return the seconds of each task in a component's own work."""
    names = ("tool.execute", "inference")
    at = next(i for i, one in enumerate(result.accounts) if one.component == component and one.name in names)
    return result.account(at)


def varied(path: str) -> Scenario:
    """Return the scenario with a factor per task at a path."""
    return Scenario.from_text(TEXT).replace(path, VARIED)


@pytest.mark.parametrize(
    ("path", "component", "each"), [("tools.test.per_task", "test", 2.0), ("models.llm.per_task", "llm", 1.0)]
)
def test_mean_and_variance_of_a_task_are_those_of_a_random_effect(path: str, component: str, each: float) -> None:
    """Var = E[F²] n Var(X) + (n E[X])² Var(F), for n exponential calls times one factor; both moments within 99.9 %."""
    found = seconds(simulate(varied(path), 5, 0), component)
    mean = CALLS * each * MEAN
    variance = MEAN**2 * (1 + CV**2) * CALLS * each**2 + (CALLS * each) ** 2 * (MEAN * CV) ** 2
    n = found.size
    assert abs(found.mean() - mean) < 3.29 * np.sqrt(variance / n)
    squares = (found - mean) ** 2
    assert abs(squares.mean() - variance) < 3.29 * squares.std() / np.sqrt(n)


def test_all_calls_of_a_task_meet_the_same_factor() -> None:
    """With calls of constant length every task's seconds are a whole number of calls times its one factor."""
    scenario = varied("tools.test.per_task").replace("tools.test.latency", "3 s").replace("workload.tasks", 50)
    spans = [one for one in simulate(scenario, 5, 0, "all").spans if one.name == "tool.execute"]
    lengths: dict[int, set[float]] = {}
    for one in spans:
        lengths.setdefault(one.task, set()).add(round(one.end - one.start, 9))
    assert len(spans) == 50 * CALLS
    assert all(len(found) == 1 for found in lengths.values())
    assert len({next(iter(found)) for found in lengths.values()}) == 50


def test_a_factor_of_one_component_leaves_every_other_draw_alone() -> None:
    """The model's seconds are the same with a factor on the tool and without."""
    plain, changed = (simulate(one, 5, 0) for one in (Scenario.from_text(TEXT), varied("tools.test.per_task")))
    # Arrivals and lengths are the same; only sums on another clock are rounded otherwise.
    np.testing.assert_allclose(seconds(plain, "llm"), seconds(changed, "llm"), rtol=1e-9)
    assert not np.isclose(seconds(plain, "test"), seconds(changed, "test"), rtol=1e-9).any()


def test_what_is_worked_out_without_a_run_knows_the_factor_and_the_speed() -> None:
    """The time of a task that is alone has the factors' means in it, and the tool at its speed."""
    base = bounds(Scenario.from_text(TEXT)).lines()
    scenario = varied("tools.test.per_task").replace("models.llm.per_task", VARIED)
    assert any("tool 16 s" in line and "inference 8 s" in line for line in base)
    assert any("tool 32 s" in line and "inference 16 s" in line for line in bounds(scenario).lines())


@pytest.mark.parametrize("path", ["tools.test.per_task", "models.llm.per_task"])
def test_a_factor_below_zero_is_refused(path: str) -> None:
    """Time cannot run backwards."""
    with pytest.raises(cs.ScenarioError, match=r"per_task.*must be >= 0"):
        Scenario.from_text(TEXT).replace(path, {"uniform": {"low": -1, "high": 2}})
