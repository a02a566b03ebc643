"""Sensitivities against answers that are known: sums of constant times, a queue, linear functions, Ishigami's function."""

import math
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from coordsim.models.scenario import Scenario, load
from coordsim.models.sensitivity import Asked, make_plan, run_sensitivity, sensitivity
from coordsim.sim.analysis.cells import Cell, Outcome
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.result import ResourceInfo, Result
from coordsim.sim.analysis.sensitivity import (
    Method,
    PlannedFactor,
    SensitivityPlan,
    SensitivityResult,
    respond,
    run_plan,
)
from coordsim.sim.analysis.sensitivity_global import elementary_effects, morris, morris_design, sobol, sobol_design
from coordsim.sim.engine.branch import Branch
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.ledger import DONE, Ledger
from coordsim.sim.engine.simulation import Simulation
from coordsim.sim.report.layout import lay_out, text
from coordsim.sim.report.sensitivity_tables import report, statement, to_csv, to_json

MEAN, P95 = "response_time_mean", "response_time_p95"
S = TypeVar("S")
T = TypeVar("T")
# Of Ishigami's function with a = 7 and b = 0.1 (Ishigami and Homma, ISUMA '90, 398-403), by integration: the parts of the variance
# of the first factor, of the second, and of the first with the third; the third alone has none.
_PARTS = 0.5 * (1 + 0.1 * math.pi**4 / 5) ** 2, 7**2 / 8, 0.1**2 * math.pi**8 * (1 / 18 - 1 / 50)
FIRST = tuple(one / sum(_PARTS) for one in (*_PARTS[:2], 0.0))
TOTAL = tuple(one / sum(_PARTS) for one in (_PARTS[0] + _PARTS[2], _PARTS[1], _PARTS[2]))
SUM = """
coordsim: 1
name: sum
seed: 1
runtime: ideal
workload: {arrivals: {deterministic: 0.01 / s}, tasks: 4, warmup: 0 s}
replications: 2
tools: {a: {latency: 2 s}, b: {latency: 3 s}, c: {latency: 1 s}}
workflow:
  start: one
  steps: {one: {tool: a, next: two}, two: {tool: b, next: three}, three: {tool: b, next: four}, four: {tool: c}}
"""

QUEUE = """
coordsim: 1
name: queue
seed: 2
runtime: ideal
workload: {arrivals: {poisson: 0.5 / s}, tasks: 1500, warmup: 100 s}
replications: 8
tools: {server: {latency: {exponential: {mean: 1 s}}, concurrency: 1}}
workflow: {start: one, steps: {one: {tool: server}}}
"""


def ishigami(unit: np.ndarray) -> np.ndarray:
    """Return Ishigami's function of points from 0 to 1, shape (points, 3), which stand for -pi to pi."""
    x = (2 * unit - 1) * math.pi
    values: np.ndarray = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    return values


def takes(seconds: tuple[float, ...], seed: int, replication: int = 0, spans: str = "none") -> Result:
    """Run one task that takes Ishigami's function of a point (and 20 s, so that no time is below 0), and noise by replication."""
    sim = Simulation()
    ledger = Ledger(sim, ("steps",), spans, sample=1, clips=False)
    executing = ledger.account("tool", "search", "tool.execute")
    noise = 0.5 * math.sin(replication + sum(seconds) * 100)

    def script(branch: Branch):  # type: ignore[no-untyped-def]
        branch.add(executing, 20 + float(ishigami(np.array([seconds]))[0]) + noise)
        branch.settle()
        yield
        branch.task.facts[:] = [1]
        ledger.close(branch, DONE, None)
        yield

    task = ledger.open(0, 0, 0.0)
    task.trunk = Branch(task, 0, 0.0, None)
    task.trunk.start(script(task.trunk))
    sim.run(until=None)
    ledger.finish(None)
    return Result.of(
        ledger, scenario="ishigami", seed=seed, replication=replication, classes=["task"], horizon=False, doubts=[],
        resources=list[ResourceInfo](),
    )  # fmt: skip


def sure(one: T | None) -> T:
    """Return what must be there."""
    assert one is not None
    return one


def of(found: SensitivityResult, name: str, metric: str = MEAN) -> float:
    """Return the elasticity of a metric to a factor."""
    (one,) = [one for one in found.factors if one.factor.name == name]
    return sure(one.responses[metric].elasticity).value


def test_elasticities_of_a_sum_of_times_are_their_shares() -> None:
    """T = 2 + 2 x 3 + 1 s: what 1 % of a tool's time is worth is its share of T, to rounding, and shares sum to 1."""
    found = sensitivity(Scenario.from_text(SUM))
    shares = {name: of(found, name) for name in ("a", "b", "c")}
    assert shares == {"a": pytest.approx(2 / 9), "b": pytest.approx(6 / 9), "c": pytest.approx(1 / 9)}
    times = [one.factor.name for one in found.factors if one.factor.kind == "time"]
    assert sum(of(found, name) for name in times) == pytest.approx(1.0, rel=1e-9)
    assert {one.responses[MEAN].bend for one in found.factors if one.responses[MEAN].elasticity} == {"linear"}
    assert [one.factor.name for one in found.ranked(MEAN)][:3] == ["b", "a", "c"]
    assert statement(found).startswith("1 % faster b saves 0.667 % of p95 (and 0.667 % of mean T_total)")


def test_a_range_gives_the_changes_at_its_ends() -> None:
    """With `a` from 1 s to 5 s: one second less, three more; the values told are those of the range."""
    found = sensitivity(Scenario.from_text(SUM), {"tools.a.latency": "1 s..5 s", "b": "±50 %"}, metric="mean")
    first, second = found.factors
    assert (sure(first.factor.low).text, first.factor.now, sure(first.factor.high).text) == ("1 s", "2 s", "5 s")
    response = first.responses[MEAN]
    assert [sure(response.low).value, sure(response.high).value] == pytest.approx([-1.0, 3.0])
    assert second.responses[MEAN].swing == pytest.approx(3.0)


@pytest.mark.slow
def test_elasticity_of_waiting_in_an_mm1_queue() -> None:
    """E[T] = s / (1 - r) with r = l s, so d ln T / d ln s = 1 / (1 - r); of the wait r s / (1 - r) it is 1 + 1 / (1 - r)."""
    rate, mean = 0.5, 1.0
    rho = rate * mean
    scenario = Scenario.from_text(QUEUE)
    found = sensitivity(scenario, ["server", "load"], metric=["mean", "queueing_mean"], by=0.02)
    service, load_of = found.factors
    for one, metric, told in (
        (service, MEAN, 1 / (1 - rho)),
        (service, "queueing_mean", 1 + 1 / (1 - rho)),
        (load_of, MEAN, rho / (1 - rho)),
        (load_of, "queueing_mean", 1 / (1 - rho)),
    ):
        estimate = sure(one.responses[metric].elasticity)
        assert estimate.low <= told <= estimate.high, (metric, told, estimate)
        assert estimate.half_width < 0.25 * told


def test_a_slope_that_differs_to_both_sides_bends() -> None:
    """A maximum of two times has no slope at its corner; a line has the same on both sides; without noise both are certain."""
    base = np.array([1.0, 1.1, 0.9])
    corner = respond(base, base, 1.5 * base, (0.9, 1.1))
    assert corner.bend == "bends"
    assert sure(corner.elasticity).value == pytest.approx(2.5)
    assert respond(base, 0.95 * base, 1.05 * base, (0.9, 1.1)).bend == "linear"
    assert sure(respond(base, None, 1.05 * base, (1.0, 1.1)).elasticity).value == pytest.approx(0.5)


def test_the_interval_of_an_elasticity_is_of_pairs() -> None:
    """Replications that differ tenfold, and double all alike, leave no doubt of the elasticity; others do."""
    base = np.array([1.0, 10.0, 5.0, 2.0])
    known = sure(respond(base, 0.9 * base, 1.1 * base, (0.9, 1.1)).elasticity)
    assert [known.value, known.half_width] == pytest.approx([1.0, 0.0], abs=1e-12)
    unsure = sure(respond(base, 0.9 * base, base + np.array([0.3, -0.2, 0.9, 0.1]), (0.9, 1.1)).elasticity)
    assert unsure.half_width > 0.1


def test_ishigami_by_sobol_indices() -> None:
    """With 4,096 points each index is within 0.02 of its closed form, and inside its interval."""
    design = sobol_design(3, 4096, seed=1)
    found = sobol(ishigami(design)[:, None], ["a", "b", "c"], 0.95, 1)
    by = {one.name: one for one in found.factors}
    for name, first, total in zip("abc", FIRST, TOTAL, strict=True):
        assert by[name].first.value == pytest.approx(first, abs=0.02)
        assert by[name].total.value == pytest.approx(total, abs=0.02)
        assert by[name].first.low <= first <= by[name].first.high
        assert by[name].total.low <= total <= by[name].total.high
    assert found.variance == pytest.approx(49 / 8 + 0.1 * math.pi**4 / 5 + 0.01 * math.pi**8 / 18 + 0.5, rel=0.03)
    assert found.first_sum.high < 1


def test_sobol_indices_of_a_linear_function_are_shares_of_variance() -> None:
    """Of y = 3 a + 4 b of uniform factors: 9/25 and 16/25, totals alike; noise by replication is told as a share."""
    design = sobol_design(2, 1024, seed=3)
    y = 3 * design[:, 0] + 4 * design[:, 1]
    found = sobol(y[:, None], ["a", "b"], 0.95, 1)
    assert [one.name for one in found.factors] == ["b", "a"]
    assert [one.total.value for one in found.factors] == pytest.approx([16 / 25, 9 / 25], abs=0.01)
    noise = np.random.default_rng(5).normal(0, 0.8, (y.size, 4))
    told = sobol(y[:, None] + noise, ["a", "b"], 0.95, 1).noise
    assert told == pytest.approx(0.16 / (0.16 + 25 / 12), rel=0.15)


def test_the_bootstrap_is_around_what_scipy_says() -> None:
    """The indices resampled are the same formulas: an interval holds the value that scipy computes, and narrows with points."""
    widths = []
    for points in (64, 1024):
        design = sobol_design(3, points, seed=2)
        found = sobol(ishigami(design)[:, None], ["a", "b", "c"], 0.95, 1)
        assert all(one.first.low <= one.first.value <= one.first.high for one in found.factors)
        widths.append(found.factors[0].total.half_width)
    assert widths[1] < 0.5 * widths[0]


def test_ishigami_by_morris_is_what_salib_says() -> None:
    """Elementary effects are SALib's; all three factors are nonlinear or interact, as the function is built."""
    analyze = pytest.importorskip("SALib.analyze.morris", reason="the extra `sensitivity` is not installed")
    design = morris_design(3, 30, 4, seed=4)
    y = ishigami(design)
    problem = {"num_vars": 3, "names": ["a", "b", "c"], "bounds": [[0.0, 1.0]] * 3}
    told = analyze.analyze(problem, design, y, num_levels=4, num_resamples=10)
    effects = elementary_effects(design, y)
    np.testing.assert_allclose(np.abs(effects).mean(axis=0), told["mu_star"], rtol=1e-9)
    np.testing.assert_allclose(effects.std(axis=0, ddof=1), told["sigma"], rtol=1e-9)
    found = morris(design, y[:, None], ["a", "b", "c"], 0.95, 1)
    assert {one.verdict for one in found.factors} == {"nonlinear or interacting"}


def test_morris_tells_linear_interacting_and_negligible_factors_apart() -> None:
    """Of y = 10 a + 5 b c + 0.1 d: a is linear, b and c interact, d is negligible."""
    pytest.importorskip("SALib", reason="the extra `sensitivity` is not installed")
    design = morris_design(4, 20, 4, seed=4)
    y = 10 * design[:, 0] + 5 * design[:, 1] * design[:, 2] + 0.1 * design[:, 3]
    found = {one.name: one for one in morris(design, y[:, None], list("abcd"), 0.95, 1).factors}
    assert {name: one.verdict for name, one in found.items()} == {
        "a": "linear", "b": "nonlinear or interacting", "c": "nonlinear or interacting", "d": "negligible",
    }  # fmt: skip
    assert found["a"].mu_star.value == pytest.approx(10.0)
    # Noise of replications is no nonlinearity.
    noisy = y[:, None] + np.random.default_rng(1).normal(0, 1.0, (y.size, 10))
    again = {one.name: one.verdict for one in morris(design, noisy, list("abcd"), 0.95, 1).factors}
    assert again["a"] == "linear"
    assert again["d"] == "negligible"


@pytest.mark.parametrize("method", ["morris", "sobol"])
def test_ishigami_through_cells_and_summaries(method: Method) -> None:
    """Points that are simulated, in replications that differ, give what the function itself does, within their intervals."""
    if method == "morris":
        pytest.importorskip("SALib", reason="the extra `sensitivity` is not installed")
    design = morris_design(3, 20, 4, 1) if method == "morris" else sobol_design(3, 32, 1)
    points = {repr(tuple(one)): tuple(float(u) for u in one) for one in design}
    factors = tuple(PlannedFactor(name, "time", (name,), "0", None, None) for name in "abc")
    plan = SensitivityPlan(
        "ishigami", method, next(iter(points)), factors, ("mean",), {"mean": "s"}, 0.2, points, design,
        tuple(repr(tuple(one)) for one in design),
    )  # fmt: skip
    found = run_plan(takes, plan, seed=1, settings=Settings(replications=2, warmup=None))
    assert found.cells == len(points)
    if method == "morris":
        known = np.abs(elementary_effects(design, ishigami(design))).mean(axis=0)
        for one in found.morris[MEAN].factors:
            assert one.mu_star.value == pytest.approx(known["abc".index(one.name)], abs=1.0)
        assert 0 < found.morris[MEAN].noise < 1.5
    else:
        for share in found.sobol[MEAN].factors:
            assert share.total.low - 0.05 <= TOTAL["abc".index(share.name)] <= share.total.high + 0.05
        assert 0 < found.sobol[MEAN].noise < 0.05


def test_several_factors_of_a_scenario() -> None:
    """The sum of times is linear: Sobol' shares are (n t range)^2 over their sum, and Morris says linear."""
    scenario = Scenario.from_text(SUM)
    given = {"a": "±20 %", "b": "±20 %", "c": "±20 %"}
    found = sensitivity(scenario, given, metric="mean", method="sobol", size=16)
    by = {one.name: one for one in found.sobol[MEAN].factors}
    for name, weight in (("a", 2), ("b", 6), ("c", 1)):
        assert by[name].total.value == pytest.approx(weight**2 / 41, abs=0.06)
    assert found.sobol[MEAN].noise == pytest.approx(0.0, abs=1e-12)
    pytest.importorskip("SALib", reason="the extra `sensitivity` is not installed")
    screened = sensitivity(scenario, given, metric="mean", method="morris", size=4).morris[MEAN].factors
    assert [(one.name, one.verdict) for one in screened] == [("b", "linear"), ("a", "linear"), ("c", "linear")]
    assert screened[0].mu_star.value == pytest.approx(0.4 * 6)


class Kept:
    """A journal in memory."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Outcome] = {}
        self.kept = 0

    def find(self, cell: Cell[S], settings: Settings) -> Outcome | None:
        """Return what was kept."""
        return self.known.get((cell.key, repr(settings)))

    def keep(self, cell: Cell[S], settings: Settings, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.known[cell.key, repr(settings)] = outcome
        self.kept += 1


def test_a_journal_gives_the_same_answer_without_a_run() -> None:
    """A second call finds every cell, simulates nothing, and says the same."""
    scenario = Scenario.from_text(SUM.replace("warmup: 0 s", "warmup: auto"))
    plan, journal = make_plan(scenario, Asked({"a": "", "b": ""})), Kept()
    first = run_sensitivity(scenario, plan, journal=journal)
    simulated = journal.kept
    again = run_sensitivity(scenario, plan, journal=journal)
    assert simulated > 0
    assert journal.kept == simulated
    assert again == first


def test_a_range_of_whole_numbers_is_of_whole_numbers() -> None:
    """Half a replica is refused, and not rounded."""
    written = SUM.replace("a: {latency: 2 s}", "a: {latency: 2 s, concurrency: 2}")
    with pytest.raises(ScenarioError, match="must be whole numbers"):
        make_plan(Scenario.from_text(written), Asked({"tools.a.concurrency": "1.2..1.7"}))


def test_a_factor_that_changes_nothing_is_said_to() -> None:
    """A capacity that nothing waits for."""
    written = SUM.replace("a: {latency: 2 s}", "a: {latency: 2 s, concurrency: 20}")
    found = sensitivity(Scenario.from_text(written), ["tools.a.concurrency"])
    assert found.factors[0].failure.startswith("changes nothing")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Asked({"serch": ""}), "no lever, and no path"),
        (Asked({"a": "5"}), "must be a range such as"),
        (Asked({"a": "3 s..1 s"}), "must rise from above 0"),
        (Asked({"a": "1 B..2 B"}), "must be a duration"),
        (Asked({"a": "±120 %"}), "share"),
        (Asked({"tools.a.latency": "2..3"}), "must carry a unit"),
        (Asked({"workload.tasks": ""}), "is no part of the system"),
        (Asked({"workflow.start": ""}), "must be an amount, a whole number or a distribution"),
        (Asked({"workflow.steps.one.tool": ""}), "must be an amount"),
        (Asked(metrics=["p955"]), "did you mean `p95`"),
        (Asked({"a": ""}, method="sobol", size=3), "power of two"),
        (Asked({"a": "", "tools.a.latency": ""}, method="sobol"), "changes what `a` changes"),
    ],
)
def test_mistakes_say_what_to_write(asked: Asked, told: str) -> None:
    """Each mistake names the rule and what was got."""
    with pytest.raises(ScenarioError, match=told):
        make_plan(Scenario.from_text(SUM), asked)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["tools.a.concurrency"], "p95 is the same at both ends of every range."),
        (["a"], "1 % faster a saves 0.222 % of p95 (and 0.222 % of mean T_total)."),
    ],
)
def test_the_sentence_of_a_single_factor(given: list[str], told: str) -> None:
    """It is compared with no other, and what changes nothing is not the most of anything."""
    written = SUM.replace("a: {latency: 2 s}", "a: {latency: 2 s, concurrency: 20}")
    assert statement(sensitivity(Scenario.from_text(written), given)) == told


def test_changes_within_their_intervals_are_called_so() -> None:
    """A share of a path that few tasks take, in three replications: the sentence says that nothing is known yet."""
    few = QUEUE.replace("tasks: 1500, warmup: 100 s", "tasks: 12, warmup: 0 s").replace(
        "replications: 10", "replications: 3"
    )
    found = sensitivity(Scenario.from_text(few), {"tools.server.concurrency": "1..2"}, metric="p95")
    assert statement(found).startswith("No change of p95 is beyond its interval: more replications would tell.")


def test_what_was_not_observed_is_told_first() -> None:
    """A warm-up that no task outlives leaves nothing to measure, and the sentence says what to do."""
    found = sensitivity(Scenario.from_text(SUM.replace("warmup: 0 s", "warmup: 1 h")), ["a"])
    assert statement(found).startswith("p95 was not observed in the scenario as it is: try more `--tasks`")
    assert "nan" not in to_csv(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["checkpointing", "chat-vs-agent", "provider-outage", "replay-azure-code", "retry-storm"]
)
def test_every_lever_of_scenarios_that_ship_can_be_measured(root: Path, name: str) -> None:
    """With ten tasks and two replications: no cell fails, and each lever has a response or changes nothing."""
    scenario = load(root / "scenarios" / f"{name}.yaml").replace("workload.tasks", 10)
    found = sensitivity(scenario, replications=2)
    assert len(found.factors) >= 5
    assert not [one for one in found.factors if one.failure.startswith("failed") or not one.responses]
    assert not [note for note in found.notes if "is left out: " in note and "it cannot be" not in note]
    assert "nan" not in text(lay_out(report(found))) + to_csv(found) + to_json(found) + statement(found)


def test_whole_factors_of_a_screening_are_judged_by_the_steps_they_made() -> None:
    """Ten seconds a turn are ten seconds, whether a design's levels are whole numbers or were rounded to some."""
    turns = {"start": "one", "steps": {"one": {"agent": "a", "next": "two"}, "two": {"agent": "a"}}}
    scenario = Scenario.from_text(SUM).replace_all(
        {"models": {"llm": {"kind": "llm", "overhead": "10 s"}}, "agents": {"a": {"model": "llm"}}, "tools": {}, "workflow": turns}
    )  # fmt: skip
    factors = {"workflow.steps.one.repeat": "1..2", "workflow.steps.two.repeat": "1..3"}
    found = sensitivity(scenario, factors, method="morris", size=4, replications=2)
    assert [one.mu_star.value for one in found.morris[MEAN].factors] == pytest.approx([20, 10], rel=1e-9)
