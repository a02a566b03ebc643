"""Bounds without simulation: exact where the traffic equations are, and beside the simulator where they are estimates."""

from pathlib import Path

import pytest

from coordsim.models.bounds import bounds
from coordsim.models.scenario import Scenario, load
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.replicate import Settings, replicate

from .theory import erlang_c

THEORY = Path(__file__).parents[1] / "scenarios" / "theory"


def utilization(scenario: Scenario) -> dict[str, float]:
    """Return the utilization of each resource by the traffic equations."""
    return {one.name: one.utilization for one in bounds(scenario).resources}


def test_an_open_network_is_worked_out_exactly() -> None:
    """Visits with feedback solve v = e + P'v: 2.5 thoughts, 1.5 edits and 1.25 tests a task at 0.5 tasks a second."""
    found = bounds(load(THEORY / "jackson.yaml"))
    assert {one.name: one.uses for one in found.resources} == pytest.approx(
        {"models.llm": 2.5, "tools.editor": 1.5, "tools.tests": 1.25}
    )
    assert {one.name: one.utilization for one in found.resources} == pytest.approx(
        {"models.llm": 0.75, "tools.editor": 0.6, "tools.tests": 0.625}
    )
    assert found.most == pytest.approx(2 / 3)
    assert (found.least["inference"], found.least["tool"]) == pytest.approx((3.0, 6.2))
    assert found.bottleneck is not None
    assert found.bottleneck.name == "models.llm"


def test_the_wait_of_a_pool_is_erlangs() -> None:
    """Three servers at 0.75: the closed form, worked out apart."""
    (one,) = bounds(load(THEORY / "mmc.yaml")).resources
    assert one.wait == pytest.approx(erlang_c(3, 2.25) / (3 - 2.25))


def test_a_closed_workload_is_bounded_by_its_users_and_its_bottleneck() -> None:
    """Throughput lies between the asymptotes and what users who always wait for each other get; T_total above its bound."""
    scenario = load(THEORY / "closed-mva.yaml")
    found = bounds(scenario)
    settings = Settings(replications=5, warmup=scenario.workload.warmup)
    summary = replicate(simulate, scenario, seed=1, settings=settings).summary
    assert found.throughput is not None
    assert found.response is not None
    closed = scenario.workload.arrivals.closed
    assert closed is not None
    worst = closed.users / (closed.think.mean + closed.users * sum(found.least.values()))
    assert worst < summary.metrics["throughput"].value < found.throughput
    assert summary.metrics["response_time_mean"].high > found.response


def test_bounds_meet_the_simulation_of_the_quickstart(root: Path) -> None:
    """Utilization and time by category are estimates there; they lie within 8 % of what is simulated, T_total above."""
    scenario = load(root / "scenarios" / "quickstart.yaml")
    found = bounds(scenario)
    summary = replicate(simulate, scenario, seed=3, settings=Settings(replications=4)).summary
    simulated = {one.name: one.metrics["utilization"].value for one in summary.resources}
    for name in ("models.llm", "tools.python", "network.internet->app"):
        assert utilization(scenario)[name] == pytest.approx(simulated[name], rel=0.08)
    for category in ("inference", "tool", "context", "communication", "serialization"):
        assert found.least[category] == pytest.approx(summary.categories[category].seconds.value, rel=0.08)
    assert sum(found.least.values()) < summary.metrics["response_time_mean"].value


def test_a_join_takes_at_least_its_slowest_branch() -> None:
    """Two branches of 1 s and 3 s: 3 s; the demand is of both."""
    text = """
        coordsim: 1
        name: fork
        seed: 1
        runtime: ideal
        workload: {arrivals: {poisson: 0.1 / s}, tasks: 10}
        tools: {a: {latency: 1 s, concurrency: 1}, b: {latency: 3 s, concurrency: 1}}
        workflow: {start: f, steps: {f: {fork: [x, y]}, x: {tool: a}, y: {tool: b}}}
    """
    scenario = Scenario.from_text(text)
    assert bounds(scenario).least["tool"] == pytest.approx(3.0)
    assert utilization(scenario) == pytest.approx({"tools.a": 0.1, "tools.b": 0.3})
    assert utilization(scenario.replace("workflow.steps.f.join", "any")) == pytest.approx(
        {"tools.a": 0.1, "tools.b": 0.3}
    )
    assert bounds(scenario.replace("workflow.steps.f.join", "any")).least["tool"] == 0.0


def test_what_cannot_be_stable_is_named_with_a_remedy() -> None:
    """At 1.2 of its capacity the queue grows; the remedy named is the least that helps."""
    scenario = load(THEORY / "mmc.yaml").replace("workload.arrivals", "{poisson: 3.6 / s}")
    found = bounds(scenario)
    assert found.warnings == (
        "models.server cannot be stable: offered load 3.60 for 3 slots; it needs at least 4 slots, or arrivals below 3 / s",
    )
    assert found.unstable == found.warnings
    assert not bounds(scenario.replace("models.server.replicas", 4)).unstable


def test_a_limited_queue_refuses_and_does_not_grow() -> None:
    """Two servers and four places at an offered load of 2.4: refusals, not instability."""
    found = bounds(load(THEORY / "mmck.yaml").replace("workload.arrivals", "{poisson: 2.4 / s}"))
    assert found.unstable == ()
    assert found.warnings == ("tools.search is offered 1.20 of its capacity: it refuses the rest",)


def test_a_rate_limit_bounds_too() -> None:
    """Calls at 3 a second through a limit of 2 a second cannot be stable, whatever the service time."""
    text = """
        coordsim: 1
        name: limited
        seed: 1
        runtime: ideal
        workload: {arrivals: {poisson: 1 / s}, tasks: 10}
        tools: {a: {latency: 1 ms, rate: 2 / s}}
        workflow: {start: x, steps: {x: {tool: a, next: y}, y: {tool: a, next: z}, z: {tool: a}}}
    """
    found = bounds(Scenario.from_text(text))
    assert found.unstable == (
        "tools.a.rate cannot be stable: offered 1.50 of its capacity; it needs arrivals below 0.667 / s, or more capacity",
    )


def test_the_peak_counts_where_the_mean_is_fine() -> None:
    """A daily profile whose mean is half the capacity, and whose peak is above it, is warned of."""
    rates = "{rates: {every: 1 h, rates: [0.5 / s, 1.2 / s, 0.1 / s]}}"
    found = bounds(load(THEORY / "mm1.yaml").replace("workload.arrivals", rates))
    assert not found.unstable
    assert "is overloaded at the peak rate of 1.2 / s" in found.warnings[0]
