"""Bounds, against closed forms, against what the simulator counts, and in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from coordsim.models.bounds import Bounds, bounds
from coordsim.models.scenario import Scenario, load
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import ARRIVALS, BUSY, Result
from coordsim.sim.engine.ledger import CATEGORIES

from .theory import mmc_wait, mva

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
REPLICATIONS = 8
REACH = float(student.ppf(0.9995, REPLICATIONS - 1)) / REPLICATIONS**0.5

# One task at a time, so that nobody waits; every component has a limit, so that it is counted.
COMMON = """
coordsim: 1
name: counted
seed: 5
runtime: {runtime}
workload: {{arrivals: {{deterministic: 0.001 / s}}, tasks: 400, request: {{uniform: {{low: 50 tokens, high: 450 tokens}}}}}}
orchestrator: {{node: app, dispatch: {{exponential: {{mean: 2 ms}}}}, concurrency: 9, assemble: 1 us / token}}
network:
  nodes: {{app: {{}}, gpu: {{}}, far: {{}}}}
  header: 300 B
  links:
    - {{between: [app, gpu], latency: {{exponential: {{mean: 2 ms}}}}, bandwidth: 1 MB/s}}
    - {{between: [app, far], latency: 30 ms, overhead: 1 ms, bandwidth: 2 MB/s}}
models:
  llm:
    {{kind: llm, node: gpu, replicas: 9, prefill: 200 us / token, decode: 9 ms / token, tokenize: 3 us / token, speed: 2,
      prefix_cache: 60 %, overhead: {{exponential: {{mean: 20 ms}}}}, restore: {{overhead: 1 ms, bandwidth: 1 MB/s}}}}
  api:
    {{kind: api, node: far, overhead: 100 ms, new: 50 us / token, cached: 5 us / token, output: 5 ms / token, cache_hit: 50 %,
      residual: {{lognormal: {{mean: 1.5, cv: 0.6}}}}, limits: {{requests: 90 / s, tokens: 90k tokens / s, concurrency: 9}}}}
agents:
  planner: {{model: llm, prompt: 200 tokens, output: {{exponential: {{mean: 90 tokens}}}}, retriever: library}}
  worker: {{model: api, prompt: 100 tokens, output: {{uniform: {{low: 20 tokens, high: 60 tokens}}}}, memory: notes}}
tools:
  search:
    {{node: far, latency: {{gamma: {{mean: 400 ms, cv: 0.7}}}}, request: 2 kB, response: {{exponential: {{mean: 40 kB}}}},
      per_byte: 1 us / B, invoke: 5 ms, concurrency: 9, rate: 90 / s, errors: 20 %, handling: {{retry: 3}}, result: 120 tokens}}
  shell: {{latency: {{exponential: {{mean: 700 ms}}}}, concurrency: 9, response: 500 B, errors: {{rate: 10 %, after_error: 50 %}}}}
retrievers:
  library: {{latency: 30 ms, concurrency: 9, top_k: 3, passage: 40 tokens}}
memories:
  notes: {{read: 10 ms, write: 20 ms, bandwidth: 50 kB/s, entry: {{exponential: {{mean: 1 kB}}}}, recall: 25 tokens, concurrency: 9}}
evaluators:
  critic: {{model: llm, prompt: 150 tokens, output: 30 tokens, accept: 55 %}}
  rule: {{latency: 80 ms, accept: 70 %}}
"""

WORKFLOWS = {
    "loop": """
  start: plan
  steps:
    plan: {agent: planner, next: act}
    act: {agent: worker, tools: {search: 3, shell: 2, none: 1}, calls: {uniform: {low: 0, high: 3}}, repeat: {geometric: {mean: 4}},
          at_most: 6, next: judge}
    judge: {evaluator: critic, accepted: done, rejected: act, at_most: 3}
""",
    "chain": """
  start: act
  steps:
    act: {agent: worker, calls: {uniform: {low: 1, high: 2}}, tools: {markov: {start: {search: 6, shell: 3, end: 1},
          search: {search: 4, shell: 4, none: 1, end: 1}, shell: {search: 5, end: 5}}}, next: check}
    check: {evaluator: rule, accepted: done, rejected: act, at_most: 50}
""",
    "detours": """
  start: plan
  steps:
    plan: {agent: planner, skip: 30 %, repeat: 2, next: {work: 3, wait: 1}}
    wait: {human: {exponential: {mean: 3 s}}, next: {look: 2, done: 1}}
    look: {retriever: library, skip: 50 %, next: work}
    work: {agent: worker, tools: {shell: 1}, repeat: {geometric: {mean: 3}}, elasticity: 0.7, at_most: 5,
           replan: {plan: 10 %, look: 15 %}, next: inner}
    inner: {workflow: sub, skip: 20 %, next: {work: 1, again: 4}}
    again: {workflow: sub, repeat: {uniform: {low: 0, high: 3}}}
""",
    "parallel": """
  start: fan
  steps:
    fan: {fork: [one, sub, three], next: gather}
    one: {agent: planner, next: two}
    two: {tool: search, next: {two: 1, done: 3}}
    three: {fork: [leaf], copies: {uniform: {low: 0, high: 3}}, next: {three: 1, done: 4}}
    leaf: {tool: shell}
    gather: {agent: worker}
""",
}
SUB = """
workflows:
  sub:
    start: first
    steps:
      first: {tool: shell, next: {first: 1, second: 3}}
      second: {agent: planner, next: {done: 4, first: 1}}
"""
RUNTIMES = {
    "bare": "{preset: ideal, connection: in-process}",
    "full": "{preset: stateless-api}",
    "delta": "{preset: session-state, kv: discard}",
    "near": "{preset: agent-native, tools: synchronous}",
}


def scenario(workflow: str, runtime: str) -> Scenario:
    """Put a scenario together."""
    return Scenario.from_text(COMMON.format(runtime=RUNTIMES[runtime]) + "workflow:" + WORKFLOWS[workflow] + SUB)


def counted(result: Result) -> dict[str, float]:
    """Return what a task demanded of each resource, how often, and how long it took by category."""
    tasks = len(result.rows)
    found = dict.fromkeys((f"time {name}" for name in CATEGORIES), 0.0)
    for account, seconds in zip(result.accounts, result.rows[:, -len(result.accounts) :].mean(axis=0), strict=True):
        found[f"time {account.category}"] += float(seconds)  # of tasks that fail, too
    for resource, totals in zip(result.resources, result.snapshots[-1].resources, strict=True):
        found |= {f"demand {resource.name}": totals[BUSY] / tasks, f"visits {resource.name}": totals[ARRIVALS] / tasks}
    return found


def said(found: Bounds) -> dict[str, float]:
    """Return what the bounds say of the same."""
    times = {f"time {name}": seconds for name, seconds in found.times.items()}
    pools = [resource for resource in found.resources if resource.kind != "limit"]
    demands = {f"demand {resource.name}": resource.demand for resource in pools}
    return times | demands | {f"visits {resource.name}": resource.visits for resource in pools}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_demand_and_time_are_what_the_simulator_counts(workflow: str, runtime: str) -> None:
    """Visits, demands and times of a task that is alone lie in the 99.9 % intervals of replications, whatever the runtime."""
    of = scenario(workflow, runtime)
    runs = [counted(simulate(of, replication=number)) for number in range(REPLICATIONS)]
    expected = said(bounds(of))
    # Who replans has taken fewer turns, so brings less to the next home than the mean.
    slack = 0.1 if workflow == "detours" else 1e-6
    wrong, least, total = {}, 0.0, 0.0
    for name in sorted({*runs[0], *expected}):
        values = np.array([run.get(name, 0.0) for run in runs])
        half, mean, value = REACH * float(values.std(ddof=1)), float(values.mean()), expected.get(name, 0.0)
        if name.startswith("time "):
            least, total = least + value, total + mean
            if workflow == "parallel":
                continue
        if abs(value - mean) > half + (slack if "->" in name else 1e-6) * mean:
            wrong[name] = (value, mean, half)
    assert wrong == {}
    # A join takes longer than its longest branch in the mean.
    assert least < 0.9 * total if workflow == "parallel" else least == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize(
    "part", ["agents.planner.prompt", "tools.search.latency", "evaluators.critic.accept", "models.llm.decode"]
)
def test_the_count_above_sees_a_change_of_a_tenth(part: str) -> None:
    """What is compared with the simulator does depend on what the scenario says."""
    of = scenario("loop", "full")
    changed = {
        "agents.planner.prompt": "220 tokens",
        "tools.search.latency": "440 ms",
        "evaluators.critic.accept": "60 %",
        "models.llm.decode": "10 ms / token",
    }
    assert sum(bounds(of.replace(part, changed[part])).times.values()) != pytest.approx(
        sum(bounds(of).times.values()), rel=1e-4
    )


# Closed forms


def theory(name: str, **changes: Any) -> Bounds:
    """Return the bounds of a scenario of the folder, changed."""
    of = load(SCENARIOS / "theory" / f"{name}.yaml")
    for path, value in changes.items():
        of = of.replace(path.replace("__", "."), value)
    return bounds(of)


def test_a_jackson_network_is_solved() -> None:
    """Visits, utilization, waits and the time alone are the closed forms."""
    found = theory("jackson")
    assert found.visits == pytest.approx({"workflow.think": 2.5, "workflow.edit": 1.5, "workflow.test": 1.25})
    utilization = {one.name: one.utilization for one in found.resources}
    assert utilization == pytest.approx({"models.llm": 0.75, "tools.editor": 0.6, "tools.tests": 0.625})
    waits = {one.name: one.wait for one in found.resources}
    assert waits == pytest.approx(
        {
            "models.llm": mmc_wait(1.25, 1.2, 2),
            "tools.editor": mmc_wait(0.75, 0.8),
            "tools.tests": mmc_wait(0.625, 4, 4),
        }
    )
    assert found.bottleneck is not None
    assert found.bottleneck.name == "models.llm"
    assert (found.throughput, found.response) == pytest.approx((2 / 3, 9.2))
    assert found.warnings == ()


def test_a_closed_workload_stays_within_its_bounds() -> None:
    """Exact mean value analysis never exceeds them, and comes close with few users and with many."""
    for users in (1, 4, 12, 60):
        found = theory("closed-mva", workload__arrivals__closed__users=users)
        exact = mva(users, 10, [1.2, 0.9, 1.5], [False, False, True])
        response = float(exact.residence.sum())
        assert exact.throughput <= found.throughput * (1 + 1e-9)
        assert response >= found.response * (1 - 1e-9)
        if users in (1, 60):
            assert exact.throughput == pytest.approx(found.throughput, rel=0.01)
            assert response == pytest.approx(found.response, rel=0.02)
        assert all((one.utilization or 0) <= 1 + 1e-9 for one in found.resources)
        assert found.warnings == ()


def test_a_tandem_without_variation_takes_exactly_the_time_alone() -> None:
    """With constant times and arrivals far apart every task takes what the bounds say."""
    of = load(SCENARIOS / "theory" / "mg1-deterministic.yaml").replace(
        "workload.arrivals", {"deterministic": "0.5 / s"}
    )
    assert simulate(of.replace("workload.tasks", 50)).response_times == pytest.approx(bounds(of).response)
    assert bounds(of).resource("models.server").wait is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.llm.replicas", 3),
        ("models.llm.speed", 1.5),
        ("workload.arrivals.poisson", "0.4 / s"),
        ("tools.editor.latency", "0.1 s"),
    ],
)
def test_more_room_or_less_work_never_makes_it_worse(path: str, value: Any) -> None:
    """No utilization rises, and neither the throughput falls nor the time of a task alone rises."""
    before, after = theory("jackson"), theory("jackson", **{path.replace(".", "__"): value})
    assert all((one.utilization or 0) <= (before.resource(one.name).utilization or 0) for one in after.resources)
    assert after.throughput >= before.throughput
    assert after.response <= before.response
    assert after != before


def test_classes_are_weighed() -> None:
    """Each class goes through its own workflow, as often as its weight says."""
    of = load(SCENARIOS / "theory" / "mm1.yaml").replace(
        "workflows", {"twice": {"start": "a", "steps": {"a": {"agent": "customer", "repeat": 2}}}}
    )
    found = bounds(of.replace("classes", {"one": {"weight": 3}, "two": {"weight": 1, "workflow": "twice"}}))
    assert found.response_by_class == pytest.approx({"one": 1.0, "two": 2.0})
    assert found.response == pytest.approx(1.25)
    assert found.resource("models.server").utilization == pytest.approx(0.7 * 1.25)


def test_summaries_keep_the_context_short() -> None:
    """How often a context is summarized is an estimate, which says so and is not far off."""
    of = scenario("loop", "full").replace(
        "memories.notes.summarize", {"model": "llm", "above": "600 tokens", "to": "200 tokens"}
    )
    found = bounds(of)
    assert any("summarized" in note for note in found.notes)
    runs = [counted(simulate(of, replication=number)) for number in range(3)]
    for name in ("models.llm", "models.api"):
        assert found.resource(name).demand == pytest.approx(np.mean([run[f"demand {name}"] for run in runs]), rel=0.25)


# Words


def test_an_overloaded_model_cannot_be_stable() -> None:
    """The warning says by how much, and both remedies."""
    assert theory("mmc", workload__arrivals__poisson="3.36 / s").warnings == (
        "models.server cannot be stable: offered load is 112% of 3 replicas; it needs at least 4 replicas, or fewer than 3 / s",
    )


def test_exactly_full_cannot_be_stable_either() -> None:
    """At load 1 a queue grows without bound; one server more is needed, not none."""
    (warning,) = theory("mmc", workload__arrivals__poisson="3 / s").warnings
    assert "100% of 3 replicas; it needs at least 4 replicas" in warning


def test_every_kind_of_resource_says_what_would_be_enough() -> None:
    """Tools, links and rate limits each in their own terms."""
    (tool,) = theory("jackson", tools__tests__concurrency=2).warnings
    assert (
        tool
        == "tools.tests cannot be stable: offered load is 125% of 2 calls at once; it needs a concurrency of at least 3, or fewer than 0.4 / s"
    )
    (link,) = theory("ps-link", workload__arrivals__poisson="2 / s").warnings
    assert (
        link
        == "network.client->store cannot be stable: offered load is 200% of 1 MB/s; it needs more than 2 MB/s, or fewer than 1 / s"
    )
    (limit,) = theory("jackson", tools__tests__rate="0.5 / s").warnings
    assert (
        limit
        == "tools.tests.rate cannot be stable: offered load is 125% of 0.5 / s; it needs a limit above 0.625 / s, or fewer than 0.4 / s"
    )


def test_a_rate_limit_before_a_limited_queue_refuses() -> None:
    """Calls that find the line before a rate limit full are refused, too."""
    of = load(SCENARIOS / "theory" / "mmck.yaml").replace("tools.search.rate", "1.2 / s")
    (warning,) = bounds(of).warnings
    assert warning == (
        "tools.search.rate is offered 150% of 1.2 / s: at least 33% of the calls will be refused; it needs a limit above 1.8 / s"
    )
    result = simulate(of.replace("workload.tasks", 4000))
    assert sum(result.failures.values()) / result.arrived == pytest.approx(1 / 3, abs=0.05)


def test_a_limited_queue_refuses_and_is_not_unstable() -> None:
    """What cannot be served is refused: at least the share beyond the capacity."""
    (warning,) = theory("mmck", workload__arrivals__poisson="4 / s").warnings
    assert warning == (
        "tools.search is offered 200% of 2 calls at once: at least 50% of the calls will be refused; "
        "it needs a concurrency of at least 5"
    )


def test_a_queue_that_is_nearly_full_is_told_apart() -> None:
    """Close to the limit, and over it at peak times, are warnings of their own."""
    (close,) = theory("mm1", workload__arrivals__poisson="0.97 / s").warnings
    assert (
        close
        == "models.server is close to its limit: offered load is 97% of 1 replica; queues will be long and slow to settle"
    )
    ramp = {"rates": {"every": "1 h", "rates": ["0.2 / s", "1.2 / s"]}}
    of = load(SCENARIOS / "theory" / "mm1.yaml").replace(
        "workload", {"arrivals": ramp, "horizon": "4 h", "warmup": "0 s"}
    )
    assert bounds(of).warnings == (
        "models.server: at the peak rate of 1.2 / s offered load is 120% of 1 replica, and the queue grows",
    )


def test_a_loop_without_an_end_is_cut_off() -> None:
    """Where only `max_steps` ends a loop, the bounds say so and stay finite."""
    found = bounds(
        load(SCENARIOS / "theory" / "geometric-steps.yaml").replace(
            "workflow.steps.turn.next", {"turn": "1e12", "done": "1e-9"}
        )
    )
    assert 100 < found.visits["workflow.turn"] <= 1001
    assert any("max_steps" in note for note in found.notes)


def test_the_lines_say_it_all() -> None:
    """A table of resources, the bottleneck, and the time of a task that is alone."""
    assert list(theory("jackson").lines()) == [
        "  at best, worked out without a simulation:",
        "    resource      load   of               a task takes  at most    mean wait, if exponential",
        "    models.llm    75.0%  2 replicas       3 s           0.667 / s  1.54 s",
        "    tools.tests   62.5%  4 calls at once  5 s           0.8 / s    853 ms",
        "    tools.editor  60.0%  1 call at once   1.2 s         0.833 / s  1.2 s",
        "  at most 0.667 / s in the long run; the bottleneck is models.llm",
        "  a task that is alone takes 9.2 s in the mean: tool 6.2 s, inference 3 s",
    ]


@pytest.mark.parametrize("path", sorted(SCENARIOS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_has_bounds(path: Path) -> None:
    """None is unstable but the one that is there to be, and each says something."""
    found = bounds(load(path))
    assert bool(found.unstable) == (path.stem == "infeasible")
    assert len(list(found.lines())) >= 2
    assert 0 < found.response < float("inf")
