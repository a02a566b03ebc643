"""The section `plan`: values and prices, loads, what may be decided, mistakes with their places, and bounds at any load."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.bounds import bounds
from coordsim.models.plan import LoadSpec, PlanSpec, loads_of
from coordsim.models.plan_options import PlanOptions, asked
from coordsim.models.plan_problem import MOST_CONFIGURATIONS, plan_problem
from coordsim.models.plan_values import decision_of, is_capacity
from coordsim.models.scenario import Scenario, load
from coordsim.models.variants import document_of, scenario_of
from coordsim.sim.analysis.planned import Load, QueueingBound
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.source import Document

from .scene import scene
from .theory import mmc_wait

FOLDER = Path(__file__).resolve().parent.parent / "scenarios" / "capacity"
ONE = Load("now", 1.0, 1.0)

BASE = """
coordsim: 1
name: base
seed: 1
runtime: ideal
workload: {arrivals: {poisson: 2 / s}, tasks: 100}
agents: {a: {model: llm}}
models: {llm: {kind: llm, overhead: {exponential: {mean: 1 s}}}}
tools: {search: {latency: {exponential: {mean: 500 ms}}, concurrency: 4}}
network:
  nodes: {app: {}, far: {}}
  links: [{between: [app, far], latency: 1 ms, bandwidth: 1 Gbit/s}]
workflow: {start: work, steps: {work: {agent: a, tools: {search: 1}}}}
"""


def planned(plan: str, base: str = BASE) -> Scenario:
    """Return the base scenario with a section `plan`."""
    return Scenario.from_text(base + "plan:\n" + plan, "base.yaml")


def variables(plan: str) -> Mapping[str, Any]:
    """Return the variables of a plan by path."""
    found = plan_problem(planned(f"  slo: {{p95: 9 s}}\n  decide:\n{plan}")).variables
    return {one.path: one for one in found}


def mistakes(plan: str) -> list[tuple[int, str, str]]:
    """Return line (from that of `plan:`), path and message of every mistake in a plan."""
    with pytest.raises(ScenarioError) as caught:
        plan_problem(planned(plan))
    first = BASE.count("\n") + 1
    assert all(one.file == "base.yaml" for one in caught.value.problems)
    return [(one.line - first, one.path, one.message) for one in caught.value.problems]


def bound(scenario: Scenario, factor: float = 1.0, **changes: Any) -> QueueingBound:
    """Return the bound of a scenario as it is (decided: the speed it has), at a factor of its load."""
    section = {"decide": {"models.llm.speed": [1]}, "slo": {"p95": "9 s"}, **changes}
    return plan_problem(scenario.replace("plan", section)).bound((0,), Load("", factor, 1.0))


# -- values and prices


def test_ranges_go_in_whole_steps_and_a_price_is_of_one_unit() -> None:
    """1 to 9 by 4 at $2.50 an hour; and 5, 10 at a cent."""
    found = variables(
        "    models.llm.replicas: {from: 1, to: 9, by: 4, price: $2.50 / h}\n"
        "    tools.search.concurrency: {values: [5, 10], price: $0.01 / h}\n"
    )
    assert found["models.llm.replicas"].values == ("1", "5", "9")
    assert found["models.llm.replicas"].costs == (2.5, 12.5, 22.5)
    assert found["tools.search.concurrency"].costs == (0.05, 0.1)


def test_a_price_of_a_value_with_a_unit_is_of_that_unit() -> None:
    """10 Gbit/s at $0.05 an hour for one cost $0.50; a price by the day or minute comes to the same hour."""
    path = "network.links[0].bandwidth"
    found = variables(f"    {path}: {{values: [1 Gbit/s, 10 Gbit/s], price: $1.20 / d}}\n")[path]
    assert found.values == ("1 Gbit/s", "10 Gbit/s")
    assert found.costs == (0.05, 0.5)


def test_prices_may_be_given_for_each_value() -> None:
    """Texts have no number that a price could multiply."""
    found = variables("    runtime: {values: [stateless-api, agent-native], prices: [$1 / h, $3 / h]}\n")["runtime"]
    assert found.costs == (1.0, 3.0)
    assert not found.monotone


def test_what_only_adds_servers_or_speed_is_monotone() -> None:
    """Batch limits, sizes, texts, and what lets tasks in are choices, unless the plan says otherwise."""
    capacities = (
        "models.llm.replicas", "models.llm.speed", "tools.search.concurrency", "tools.search.rate", "network.links[0].bandwidth",
        "network.nodes.app.cores", "orchestrator.concurrency", "models.gpt.limits.requests", "models.gpt.limits.tokens",
    )  # fmt: skip
    choices = (
        "runtime", "runtime.kv", "models.llm.batching.tokens", "models.llm.batching.sequences", "models.llm.tensor_parallel",
        "models.llm.queue_limit", "agents.a.concurrency", "tools.search.errors.rate", "context.grows", "profile",
    )  # fmt: skip
    assert [path for path in capacities if not is_capacity(path)] == []
    assert [path for path in choices if is_capacity(path)] == []
    found = variables(
        "    models.llm.replicas: {from: 1, to: 3, monotone: false}\n    runtime: [ideal, agent-native]\n"
    )
    assert [one.monotone for one in found.values()] == [False, False]
    # From the least capacity to the most: waits between looks fall.
    shorter = variables("    orchestrator.poll_interval: {values: [100 ms, 10 ms], monotone: true}\n")
    assert shorter["orchestrator.poll_interval"].monotone


# -- loads


def loads(**section: Any) -> list[tuple[str, float, float | None]]:
    """Return label, factor and hours of each load."""
    spec = LoadSpec.model_validate(section)
    return [(one.label, round(one.factor, 9), one.hours) for one in loads_of(spec)]


def test_growth_is_compounded_and_planned_for_the_end_of_each_period() -> None:
    """10 % a month: 1.1, 1.21, 1.331 times; a month is a twelfth of 8,760 hours."""
    growth = loads(growth={"rate": "10 %", "per": "month", "for": 3})
    assert growth == [("month 1", 1.1, 730.0), ("month 2", 1.21, 730.0), ("month 3", 1.331, 730.0)]
    assert loads(growth={"rate": -0.5, "per": "week", "for": 1}) == [("week 1", 0.5, 168.0)]


@pytest.mark.parametrize("rate", [10, "10", 1.5])
def test_growth_of_more_than_all_is_written_with_percent(rate: Any) -> None:
    """Who writes 10 means 10 %, not 1000 %: a bare number above 1 is refused, with both ways to write it."""
    with pytest.raises(ScenarioError) as caught:
        planned(f"  decide: {{models.llm.replicas: [1]}}\n  load: {{growth: {{rate: {json.dumps(rate)}, for: 2}}}}\n")
    (problem,) = caught.value.problems
    assert problem.path == "plan.load.growth.rate"
    assert problem.line == BASE.count("\n") + 3
    assert f"write `{float(rate):g} %`, or `{100 * float(rate):g} %`" in problem.message


def test_growth_by_more_than_all_may_be_planned() -> None:
    """200 % a month is three times the load, and is read back as it was written."""
    spec = LoadSpec.model_validate({"growth": {"rate": "200 %", "for": 1}})
    assert [one.factor for one in loads_of(spec)] == [3.0]
    assert LoadSpec.model_validate(spec.to_data()) == spec


def test_a_day_has_24_hours_and_factors_are_as_they_are() -> None:
    """Labels are the hours of the day, or how many times the load, which says nothing of hours."""
    day = loads(daily=[1.0] * 23 + [2])
    assert day[0] == ("00:00", 1.0, 1.0)
    assert day[-1] == ("23:00", 2.0, 1.0)
    assert loads(factors=[1, 1.5]) == [("1x", 1.0, None), ("1.5x", 1.5, None)]
    assert [one.factor for one in loads_of(None)] == [1.0]


def test_a_variant_has_the_values_and_the_load() -> None:
    """Replicas as decided, twice the rate, and twice the tasks, so that a run is as long."""
    problem = plan_problem(planned("  slo: {p95: 9 s}\n  decide: {models.llm.replicas: [3, 4]}\n"))
    variant = scenario_of(problem.variant((1,), Load("twice", 2.0, 1.0)))
    assert variant.models["llm"].replicas == 4  # type: ignore[union-attr]
    assert variant.workload.rate == 4.0
    assert variant.workload.tasks == 200
    assert variant.plan is None


# -- what a plan rests on


def test_objectives_and_confidence_are_the_scenarios_unless_the_plan_has_its_own() -> None:
    """The settings carry them to the simulation."""
    base = BASE + "slo: {p50: 3 s}\nconfidence: 90 %\n"
    decide = "  decide: {models.llm.replicas: [3]}\n"
    theirs = plan_problem(planned(decide, base))
    assert [one.metric for one in theirs.objectives] == ["p50"]
    assert theirs.confidence == 0.9
    own = plan_problem(planned(f"{decide}  slo: {{success: 99 %}}\n  confidence: 99 %\n  max_replications: 12\n", base))
    assert [(one.metric, one.threshold) for one in own.settings.objectives] == [("success", 0.99)]
    assert (own.confidence, own.settings.max_replications) == (0.99, 12)


def test_a_section_is_read_back_as_it_was_written() -> None:
    """Dumped with units, it loads to an equal section."""
    for path in sorted(FOLDER.glob("*.yaml")):
        spec = load(path).plan
        assert spec is not None
        assert PlanSpec.model_validate(json.loads(json.dumps(spec.to_data()))) == spec


def test_options_say_what_the_section_says() -> None:
    """Ranges, lists, prices, objectives, growth and a file of hours."""
    assert decision_of("1..16@$2.5/h") == {"from": 1, "to": 16, "price": "$2.5/h"}
    assert decision_of("2..16 by 2") == {"from": 2, "to": 16, "by": 2}
    assert decision_of("[ideal, agent-native]") == {"values": ["ideal", "agent-native"]}
    assert decision_of("1 Gbit/s,10 Gbit/s@$1/h,$3/h") == {
        "values": ["1 Gbit/s", "10 Gbit/s"],
        "prices": ["$1/h", "$3/h"],
    }
    options = PlanOptions(["models.llm.replicas=1..3@$2/h"], ["p95=2 s"], "10%/month:2", confidence="99%")
    problem = plan_problem(Scenario.of(asked(Document.from_text(BASE), options)))
    assert problem.variables[0].costs == (2.0, 4.0, 6.0)
    assert problem.objectives[0].threshold == 2.0
    assert [one.label for one in problem.loads] == ["month 1", "month 2"]
    assert problem.confidence == 0.99


def test_a_day_may_be_in_a_file(tmp_path: Path) -> None:
    """One factor a line, or between commas."""
    file = tmp_path / "day.txt"
    file.write_text("\n".join(["0.5"] * 24), encoding="utf-8")
    found = asked(Document.from_text(BASE), PlanOptions(["models.llm.replicas=1..3"], daily=str(file)))
    assert found.data["plan"]["load"] == {"daily": [0.5] * 24}


# -- mistakes


def test_every_mistake_comes_at_once_with_its_place() -> None:
    """A value that is refused, one that does not rise, no objective, a price of what is no number: each at its line."""
    found = mistakes(
        "  decide:\n"
        "    models.llm.replicas:\n"
        "      values: [1, 3, 2]\n"
        "    tools.search.concurrency: {values: [0, 5]}\n"
        "    models.llm.replica: [1, 2]\n"
        "    workload.tasks: [10]\n"
        "    runtime: {values: [ideal, magic], price: $1 / h}\n"
    )
    told = {(line, path): message for line, path, message in found}
    assert "must rise" in told[3, "plan.decide.models.llm.replicas.values.2"]
    assert "whole number >= 1" in told[4, "tools.search.concurrency"]
    assert "did you mean `replicas`" in told[5, "models.llm.replica"]
    assert "`plan.load`" in told[6, "plan.decide.workload.tasks"]
    assert "magic" in told[7, "runtime"]
    assert "write `prices`" in told[7, "plan.decide.runtime.price"]
    assert any(line == 0 and "needs `slo`" in message for line, _, message in found)
    assert len(found) == 7


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ("{}", "needs `from` and `to`, or `values`"),
        ("{from: 1}", "`from` and `to`"),
        ("{from: 4, to: 2}", "`from <= to` must hold"),
        ("{values: []}", "at least 1 value"),
        ("{values: [1, 2], by: 2}", "goes with `from` and `to`"),
        ("{values: [1, 2], price: $1 / h, prices: [$1 / h, $2 / h]}", "must be left out"),
        ("{values: [1, 2], prices: [$1 / h]}", "one for each of the 2 values"),
        ("{values: [1, 2], price: $1}", "price per time"),
    ],
)
def test_a_decision_that_cannot_be_is_refused(decision: str, message: str) -> None:
    """Each with the rule that it breaks."""
    with pytest.raises(ScenarioError, match="1 mistake") as caught:
        planned(f"  decide: {{models.llm.replicas: {decision}}}\n")
    assert message in str(caught.value)


def test_values_that_only_together_cannot_be_are_found_before_anything_runs() -> None:
    """Batches of more sequences than tokens: each value is possible alone."""
    served = {"kind": "llm", "shape": "llama-3.1-8b", "batching": {"sequences": 5}}
    scenario = load(FOLDER / "agents.yaml").replace("profile", "h100-sxm").replace("models.llm", served)
    scenario = scenario.replace(
        "plan.decide", {"models.llm.batching.sequences": [8, 512], "models.llm.batching.tokens": [256, 8192]}
    )
    with pytest.raises(ScenarioError, match="sequences <= tokens") as caught:
        plan_problem(scenario)
    assert "sequences = 512" in str(caught.value)


def test_a_part_of_another_variable_and_too_many_configurations_are_refused() -> None:
    """A runtime decides its policies; and a million configurations are no plan."""
    found = mistakes("  slo: {p95: 1 s}\n  decide: {runtime: [ideal], runtime.kv: [keep, discard]}\n")
    assert any("is a part of `runtime`" in message for _, _, message in found)
    many = {"models.llm.replicas": range(1, 401), "tools.search.concurrency": range(1, 401)}
    section = {"slo": {"p95": "1 s"}, "decide": {path: {"values": list(values)} for path, values in many.items()}}
    with pytest.raises(ScenarioError, match=f"{MOST_CONFIGURATIONS:,} configurations; got 160,000"):
        plan_problem(planned("  decide: {runtime: [ideal]}\n").replace("plan", section))


def test_mistakes_in_options_are_told_of_the_options() -> None:
    """What is no pair, no period, and two loads at once; and a value that the scenario refuses."""
    with pytest.raises(ScenarioError) as caught:
        asked(Document.from_text(BASE), PlanOptions(["models.llm.replicas"], ["p95"], "10%/month", daily="1"))
    assert [one.file for one in caught.value.problems] == ["--decide", "--slo", "--growth and --daily"]
    with pytest.raises(ScenarioError) as refused:
        plan_problem(
            Scenario.of(asked(Document.from_text(BASE), PlanOptions(["models.llm.replicas=0,2"], ["p95=1 s"])))
        )
    told = refused.value.problems
    assert [(one.file, one.path) for one in told] == [("--decide", "models.llm.replicas")]
    for option, given in (
        ("--daily", {"daily": "1,2"}),
        ("--factors", {"factors": "1,-1"}),
        ("--growth", {"growth": "10/day:2"}),
    ):
        with pytest.raises(ScenarioError) as misplaced:
            Scenario.of(
                asked(Document.from_text(BASE), PlanOptions(["models.llm.replicas=1..3"], ["p95=1 s"], **given))
            )
        assert [one.file for one in misplaced.value.problems] == [option]


# -- bounds


def test_bounds_at_a_load_are_those_of_the_scenario_with_that_load() -> None:
    """Rescaled, utilization, waits and saturation agree with traffic equations solved anew, above and below the load."""
    scenario = load(FOLDER / "tandem.yaml")
    problem = plan_problem(scenario.replace("plan.load", {"factors": [0.25, 1, 1.4]}))
    point = (2, 4)  # 3 and 5, as the file has it
    for factor in (0.25, 1.0, 1.4):
        fresh = bounds(scenario.replace("workload.arrivals.poisson", f"{2 * factor} / s"))
        for one in problem.bound(point, Load("", factor, 1.0)).resources:
            known = fresh.resource(one.name)
            assert one.utilization == pytest.approx(known.utilization)
            assert one.wait == pytest.approx(known.wait)
            assert one.saturates_at == pytest.approx(1 / (known.utilization or math.nan))
    low = {one.name: one for one in problem.bound(point, Load("", 0.25, 1.0)).resources}
    assert low["models.checker"].wait == pytest.approx(mmc_wait(0.5, 1.75, 5))


def test_what_cannot_be_stable_is_excluded_and_says_so() -> None:
    """8 servers at a load of 8 or fewer; 9 are left to simulation, though their p95 is known to be too long."""
    problem = plan_problem(load(FOLDER / "mmc.yaml"))
    excluded = [bool(problem.bound((place,), ONE).excludes) for place in range(32)]
    assert excluded == [place < 8 for place in range(32)]
    assert problem.bound((3,), ONE).excludes == "models.server cannot be stable: offered load is 200% of 4 replicas"
    assert [problem.bound((place,), ONE).unstable for place in range(32)] == excluded
    # That more tasks are asked for than arrive excludes, too, and is another reason.
    throughput = load(FOLDER / "mmc.yaml").replace("plan.slo", {"throughput": "9 / s"})
    found = plan_problem(throughput).bound((20,), ONE)
    assert (bool(found.excludes), found.unstable) == (True, False)


def test_a_limit_that_is_no_variable_excludes_everything() -> None:
    """The provider's requests, whatever else is bought."""
    problem = plan_problem(load(FOLDER / "infeasible.yaml"))
    reasons = {problem.bound((a, b), ONE).excludes for a in range(6) for b in range(3)}
    assert reasons == {"models.hosted.requests cannot be stable: offered load is 120% of 5 / s"}


SLOW = scene(
    {
        "workload": {"arrivals": {"poisson": "0.5 / s"}, "tasks": 10},
        "models": {"llm": {"overhead": "1 s", "replicas": 2}},
    }
)


def test_least_means_and_greatest_throughputs_exclude() -> None:
    """A mean below the time of a task that is alone, and more than arrives; quantiles exclude nothing."""
    assert bound(SLOW).response == 1.0
    assert "1 s in the mean" in bound(SLOW, slo={"mean": "0.9 s"}).excludes
    assert "1 s in the mean" in bound(SLOW, slo={"max": "0.9 s"}).excludes
    assert "tasks arrive at 0.5 / s" in bound(SLOW, slo={"goodput": "0.6 / s"}).excludes
    assert bound(SLOW, 1.3, slo={"goodput": "0.6 / s"}).excludes == ""
    assert bound(SLOW, slo={"p95": "0.9 s", "mean": "1.1 s", "throughput": "0.4 / s"}).excludes == ""


def test_an_estimate_excludes_only_well_beyond() -> None:
    """Times that depend on tokens are worked out from means: 5 % above the limit may be an error, 15 % is none."""
    tokens = {"overhead": "1 ns", "decode": "1 ms / token"}
    agents = {"a": {"output": {"exponential": {"mean": "1k tokens"}}}}
    for rate, is_excluded in ((1.05, False), (1.15, True)):
        workload = {"arrivals": {"poisson": f"{rate} / s"}, "request": "100 tokens"}
        found = bound(scene({"workload": workload, "models": {"llm": tokens}, "agents": agents}))
        assert found.resources[0].utilization == pytest.approx(rate, rel=0.01)
        assert bool(found.excludes) is is_excluded


@pytest.mark.parametrize(
    "patch",
    [
        {"models": {"llm": {"queue_limit": 3}}},
        {"models": {"llm": {"handling": {"timeout": "2 s"}}}},
        {"recovery": {"deadline": "9 s"}},
    ],
)
def test_load_that_can_go_away_excludes_nothing(patch: Mapping[str, Any]) -> None:
    """With refusals or time limits an offered load above 1 is no proof: the objectives decide."""
    over = scene({"workload": {"arrivals": {"poisson": "3 / s"}}, "models": {"llm": {"overhead": "1 s"}}})
    assert "cannot be stable" in bound(over).excludes
    shed = scene({"workload": {"arrivals": {"poisson": "3 / s"}}, "models": {"llm": {"overhead": "1 s"}}}, patch)
    assert bound(shed).excludes == ""


def test_closed_workloads_have_asymptotic_bounds() -> None:
    """20 users who think 9 s about 1 s of work: never unstable; at most 1 task a second, and at least 20 x 1 - 9 s."""
    closed = {"arrivals": {"closed": {"users": 20, "think": "9 s"}}}
    scenario = scene({"workload": closed, "models": {"llm": {"overhead": "1 s"}}})
    found = bound(scenario)
    assert (found.throughput, found.response, found.excludes) == (1.0, 11.0, "")
    assert found.resources[0].saturates_at == pytest.approx(0.5)  # 10 users keep it busy
    half = bound(scenario, 0.25)
    assert (half.throughput, half.response) == (0.5, 1.0)
    assert "at least 11 s" in bound(scenario, slo={"mean": "10 s"}).excludes
    assert "at most 1 / s" in bound(scenario, slo={"throughput": "1.1 / s"}).excludes


def test_values_without_a_price_keep_that_of_the_section() -> None:
    """In Python and as an option; what the section has no price for is free."""
    scenario = load(FOLDER / "mmc.yaml")
    document = asked(document_of(scenario), PlanOptions(decide=["models.server.replicas=9,12"]))
    optioned = Scenario.of(document).plan
    assert optioned is not None
    assert optioned.decide["models.server.replicas"].price == pytest.approx(2 / 3600)
    dearer = asked(document_of(scenario), PlanOptions(decide=["models.server.replicas=9,12@$5/h"]))
    written = Scenario.of(dearer).plan
    assert written is not None
    assert written.decide["models.server.replicas"].price == pytest.approx(5 / 3600)


def test_about_as_many_tasks_are_expected_as_arrive() -> None:
    """A number of tasks, at other loads in proportion."""
    given = plan_problem(load(FOLDER / "mmc.yaml"))
    assert given.expected is not None
    assert given.expected(Load("x", 1.5, 1.0)) == 6000
