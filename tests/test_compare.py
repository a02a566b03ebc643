"""Comparisons: exact facts about savings, verdicts, regions and what runs; and a difference known in closed form."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import coordsim
from coordsim.models.compare import compare
from coordsim.models.compare_plan import make_plan
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.analysis import compare as comparing
from coordsim.sim.analysis.compare import ComparisonInterrupted, Plan, PlannedPoint, PlannedSwitch, run_plan
from coordsim.sim.analysis.comparison import ComparisonResult, Point, Region, Saving
from coordsim.sim.analysis.contrast import unrounded
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.savings import verdict
from coordsim.sim.analysis.statistics import Estimate, no_estimate
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.report.compare_tables import report, to_json
from coordsim.sim.report.compare_words import statement
from coordsim.sim.report.region import statement as region_statement

from . import mm1

SESSION = {"preset": "session-state"}
# The policies of session-state under another preset's name.
SESSION_BY_HAND = {
    "preset": "stateless-api", "state": "delta", "kv": "keep", "connection": "persistent", "codec": "json",
    "placement": "external", "tools": "synchronous", "notification": "event", "dispatch": "every-step",
}  # fmt: skip
# Nothing is drawn: each step adds 100 tokens, and without a cache all earlier ones are prefilled again.
STEPS = """
coordsim: 1
name: steps
seed: 1
runtime: {preset: ideal, kv: discard, state: full}
workload: {arrivals: {deterministic: 0.01 / s}, tasks: 20, warmup: 0 s, request: 100 tokens}
agents: {worker: {model: llm, prompt: 0 tokens, output: 100 tokens}}
models: {llm: {kind: llm, prefill: 1 ms / token, decode: 1 ms / token}}
workflow: {start: act, steps: {act: {agent: worker, repeat: 4}}}
"""


NEVER = PlannedSwitch("p2", "off", "on", None, None, ("it makes no variant",))


@pytest.fixture(scope="module")
def support(root: Any) -> Scenario:
    """Return a shipped scenario of a support agent, made short."""
    scenario = coordsim.load(root / "scenarios" / "sub-50ms-inference.yaml")
    return scenario.replace("workload.tasks", 6)


@pytest.fixture(scope="module")
def whole(support: Scenario) -> ComparisonResult:
    """Compare two runtimes that differ in every policy."""
    return compare(support, "external-orchestrator", "agent-native", replications=3)


def queues(
    rates: Sequence[float], fails: Sequence[float] = (0, 0), replications: int = 10, seed: int = 5, **more: Any
) -> ComparisonResult:
    """Compare two M/M/1 queues."""
    variants = {
        f"v{i}": mm1.Queue(service_rate=rate, fails=fail, **more)
        for i, (rate, fail) in enumerate(zip(rates, fails, strict=True))
    }
    plan = Plan("mm1", ("a", "b"), variants, ("v0", "v1"))
    return run_plan(mm1.simulate, plan, seed=seed, settings=Settings(replications=replications, warmup=200.0))


def ends(saving: Saving) -> tuple[float, float, float]:
    """Return value and interval of a saving (s)."""
    return saving.amount.value, saving.amount.low, saving.amount.high


def test_the_difference_of_two_queues_is_that_of_theory() -> None:
    """M/M/1: mean response 1/(μ - λ), so μ = 1.25 in place of 1 saves 2 - 4/3 s, a third, at λ = 0.5.

    Of 20 experiments with 95 % intervals at least 17 hold it; fewer would be chance in 2 of 100 such tests.
    Source: Kleinrock, Queueing Systems I, 1975, 3.2.
    """
    savings = [queues([1.0, 1.25], seed=seed, tasks=500, replications=5).saving for seed in range(20)]
    assert sum(not one.amount.excludes(2 - 4 / 3) for one in savings) >= 17
    assert sum(not one.share.excludes(1 / 3) for one in savings) >= 17
    assert {one.verdict for one in savings} == {"saves"}


def test_the_pairing_narrows_the_interval() -> None:
    """The same customers come to both queues, so the difference is known better than either mean."""
    saving = queues([1.0, 1.25], tasks=1000).saving
    assert saving.amount.half_width < 0.6 * math.hypot(saving.baseline.half_width, saving.variant.half_width)


def test_a_system_against_itself_saves_nothing() -> None:
    """Run twice under two names, it differs in no digit, and the interval has no width."""
    found = queues([1.0, 1.0], tasks=200, replications=3)
    assert ends(found.saving) == (0, 0, 0)
    assert (found.saving.share.low, found.saving.share.high) == (0, 0)
    assert found.saving.verdict == "none"
    assert found.tasks is not None
    assert found.tasks.slower.value == 0
    assert {one.p_value for one in found.metrics} == {1.0}
    assert "to the last digit" in statement(found)


def test_a_runtime_under_two_names_saves_nothing(support: Scenario) -> None:
    """The same policies written under another preset make the same system, which differs in no policy."""
    found = compare(support, SESSION, SESSION_BY_HAND, replications=2)
    assert ends(found.saving) == (0, 0, 0)
    assert found.saving.verdict == "none"
    assert found.ablation is not None
    assert found.ablation.switches == ()
    assert len(make_plan(support.replace("compare", {"baseline": SESSION, "runtime": SESSION_BY_HAND})).variants) == 1


def test_the_name_of_a_preset_changes_no_run(support: Scenario) -> None:
    """What lets two names share one run: simulated apart, they give the same rows."""
    one, other = (simulate(support.replace("runtime", runtime)).rows for runtime in (SESSION, SESSION_BY_HAND))
    assert np.array_equal(one, other)


def test_categories_sum_to_the_saving(whole: ComparisonResult) -> None:
    """The parts of the saving, in seconds and as shares, add up to it and to 1."""
    assert sum(one.saving.value for one in whole.categories) == pytest.approx(whole.saving.amount.value, abs=1e-9)
    assert sum(one.share.value for one in whole.categories) == pytest.approx(1, abs=1e-9)


def test_the_mean_saving_is_the_difference_of_means(whole: ComparisonResult) -> None:
    """Seconds, share and the table of metrics say the same of mean T_total."""
    saving, mean = whole.saving, whole.metrics[0]
    assert mean.name == "response_time_mean"
    assert saving.amount.value == pytest.approx(saving.baseline.value - saving.variant.value, rel=1e-12)
    assert saving.share.value == pytest.approx(1 - mean.ratio.value, rel=1e-12)
    assert mean.difference.value == pytest.approx(-saving.amount.value, rel=1e-12)


def test_swapped_sides_negate(support: Scenario, whole: ComparisonResult) -> None:
    """What B saves against A, A costs against B; alone and last change places."""
    other = compare(support, "agent-native", "external-orchestrator", replications=3)
    value, low, high = ends(whole.saving)
    assert ends(other.saving) == (-value, -high, -low)
    assert (whole.saving.verdict, other.saving.verdict) == ("saves", "costs")
    assert whole.ablation is not None
    assert other.ablation is not None
    for one, back in zip(whole.ablation.switches, other.ablation.switches, strict=True):
        assert one.alone is not None
        assert back.last is not None
        assert one.alone.amount.value == -back.last.amount.value


def test_a_single_policy_saves_all(support: Scenario) -> None:
    """Where the two differ in one policy, alone, last and the whole saving are one, and two variants run."""
    other = {"preset": "external-orchestrator", "notification": "event"}
    found = compare(support, "external-orchestrator", other, replications=2)
    assert found.ablation is not None
    (switch,) = found.ablation.switches
    assert (switch.policy, switch.baseline, switch.variant) == ("notification", "polling", "event")
    assert switch.alone is not None
    assert switch.last is not None
    assert ends(switch.alone) == ends(switch.last) == ends(found.saving)
    assert ends(found.saving)[0] > 0
    assert found.ablation.interaction.value == 0
    assert (
        len(make_plan(support.replace("compare", {"baseline": "external-orchestrator", "runtime": other})).variants)
        == 2
    )


def test_the_interaction_is_what_single_policies_leave(whole: ComparisonResult) -> None:
    """The sum of the savings alone and the interaction are the whole saving."""
    assert whole.ablation is not None
    alone = sum(one.alone.amount.value for one in whole.ablation.switches if one.alone is not None)
    assert whole.ablation.sum_alone.value == pytest.approx(alone, abs=1e-12)
    assert alone + whole.ablation.interaction.value == pytest.approx(whole.saving.amount.value, abs=1e-12)


def test_a_policy_that_cannot_be_switched_alone_is_told() -> None:
    """A run ends by tasks or by time: neither change can be made alone, and the reason is kept."""
    scenario = Scenario.from_text(STEPS)
    found = compare(scenario, changes={"workload.tasks": None, "workload.horizon": "1000 s"}, replications=2)
    assert found.ablation is not None
    assert [one.alone for one in found.ablation.switches] == [None, None]
    assert all(
        "alone: workload" in one.reasons[0] and "last: workload" in one.reasons[1] for one in found.ablation.switches
    )


def test_the_region_without_a_saving_is_one_interaction() -> None:
    """A cache saves nothing in a task of one call; call k prefills 100 k tokens again, of 1 ms each, from the second on."""
    found = compare(
        Scenario.from_text(STEPS), None, {"preset": "ideal", "state": "full"},
        over={"workflow.steps.act.repeat": [1, 2, 4, 8]}, replications=2,
    )  # fmt: skip
    assert found.region is not None
    savings = {one.values[0]: one.saving for one in found.region.points}
    assert [savings[n].verdict for n in ("1", "2", "4", "8")] == ["none", "saves", "saves", "saves"]
    assert ends(savings["1"]) == (0, 0, 0)
    assert ends(savings["4"]) == pytest.approx(ends(found.saving), rel=1e-12)
    again = {n: sum(0.1 * k for k in range(2, int(n) + 1)) for n in savings}
    assert {n: one.amount.value for n, one in savings.items()} == pytest.approx(again, rel=1e-9)
    said = region_statement(found.region)
    assert "No saving where workflow.steps.act.repeat <= 1" in said
    assert "the saving grows with workflow.steps.act.repeat" in said


def test_tasks_are_paired_one_by_one() -> None:
    """Tasks that failed under one are counted apart; a slower server makes no task faster."""
    found = queues([1.0, 0.8], fails=(0.0, 0.3), tasks=300, replications=3)
    runs = [[mm1.simulate(mm1.Queue(service_rate=rate, fails=fail, tasks=300), 5, n) for n in range(3)]
            for rate, fail in ((1.0, 0.0), (0.8, 0.3))]  # fmt: skip
    views = [[run.after(200.0) for run in side] for side in runs]
    done = [sum(np.count_nonzero(run.done) for run in side) for side in views]
    assert found.tasks is not None
    assert (found.tasks.both, found.tasks.only_baseline, found.tasks.only_variant) == (done[1], done[0] - done[1], 0)
    assert found.tasks.slower.value == 1
    assert found.tasks.quantiles["p95"].value < 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.05, "saves"),
        (-0.05, -0.01, "costs"),
        (-0.02, 0.02, "none"),
        (0.005, 0.015, "none"),
        (0, 0, "none"),
        (-0.01, 0.03, "not resolved"),
        (-0.5, 0.5, "not resolved"),
        (-math.inf, math.inf, "not resolved"),
    ],
)
def test_the_verdict_follows_the_interval(low: float, high: float, expected: str) -> None:
    """Within the tolerance of 2 % there is no saving; an interval that holds 0 and is wider tells nothing."""
    middle = (low + high) / 2 if math.isfinite(low) else 0.3
    share = Estimate(middle, low, high, 0.95, 5, "test")
    assert verdict(share, share, 0.02) == expected


def test_without_a_baseline_the_seconds_decide() -> None:
    """Of 0 s there is no share to save: what takes longer costs."""
    loss = Estimate(-1.0, -1.1, -0.9, 0.95, 5, "test")
    assert verdict(loss, no_estimate(), 0.02) == "costs"
    assert verdict(no_estimate(), no_estimate(), 0.02) == "not resolved"


def test_one_replication_resolves_nothing() -> None:
    """It has no spread; the verdict says how many to try."""
    saving = queues([1.0, 1.25], tasks=300, replications=1).saving
    assert saving.verdict == "not resolved"
    assert (saving.needed, saving.more, saving.as_seen) == (5, 4, None)


def test_a_metric_that_few_replications_observe_needs_more_of_all() -> None:
    """Of ten replications of one task most have it fail, and no time to compare: what is needed counts these too."""
    variants = {f"v{i}": mm1.Queue(service_rate=1 + i / 4, tasks=1, fails=0.7) for i in range(2)}
    plan = Plan("mm1", ("a", "b"), variants, ("v0", "v1"), seed_b=109)
    saving = run_plan(mm1.simulate, plan, seed=9, settings=Settings(replications=10, warmup=None)).saving
    assert (saving.amount.n, saving.verdict) == (4, "not resolved")
    assert (saving.needed, saving.more) == (13, 3)  # 5 that observe it, where 4 in 10 do
    assert saving.as_seen is not None
    observed = saving.as_seen * 4 // 10  # a whole number
    assert saving.as_seen == math.ceil(observed * 10 / 4)


def region(verdicts: Mapping[Any, str], factors: tuple[str, ...] = ("calls",)) -> Region:
    """Return a region of points with verdicts and made-up savings, all alike."""
    points = []
    for values, word in verdicts.items():
        flat = Estimate(0.1, 0.0, 0.2, 0.95, 5, "test")
        points.append(Point(values, Saving(flat, flat, flat, flat, word, None, None, None, (), (False, False))))  # type: ignore[arg-type]
    return Region(factors, tuple(points), len(points), 0.95)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (["none", "saves", "saves"], "No saving where calls <= 1."),
        (["saves", "none", "none"], "No saving where calls >= 2."),
        (["none", "saves", "none"], "No saving at calls = 1, calls = 3."),
        (["none", "none", "none"], "No saving at any point of the grid."),
        (["saves", "saves", "saves"], "A saving at every point: this grid holds no region without one."),
        (["costs", "none", "saves"], "No saving at calls = 2; a loss where calls <= 1."),
        (["saves", "saves", "not resolved"], "Not resolved where calls >= 3."),
    ],
)
def test_a_sentence_names_the_region(verdicts: list[str], said: str) -> None:
    """Points on one side of a value are a region; others are listed; what is not resolved is never called a saving."""
    assert region_statement(region({(str(n + 1),): word for n, word in enumerate(verdicts)})) == said


def test_a_region_of_two_factors_may_hang_on_one() -> None:
    """Where one factor alone decides, the sentence names that factor alone."""
    grid = {(str(speed), str(calls)): "none" if calls == 1 else "saves" for speed in (1, 10) for calls in (1, 4)}
    assert region_statement(region(grid, ("speed", "calls"))) == "No saving where calls <= 1."


def test_words_are_listed() -> None:
    """Values that are no numbers have no order."""
    grid = {("small",): "none", ("large",): "saves"}
    assert region_statement(region(grid, ("size",))) == "No saving at size = small."


def test_p_values_are_adjusted_for_all_but_the_declared_metric(support: Scenario, whole: ComparisonResult) -> None:
    """The declared metric's is its own, and agrees with its interval; the same row, not declared, has Holm's, which is larger."""
    from coordsim.sim.analysis.statistics import paired_difference

    samples = np.array(whole.saving.samples)
    raw = paired_difference(np.zeros(3), -samples).p_value
    assert whole.metrics[0].p_value == pytest.approx(raw, rel=1e-9)
    other = compare(support, "external-orchestrator", "agent-native", replications=3, metric="p95", ablate=False)
    assert other.metrics[0].name == whole.metrics[0].name
    assert other.metrics[0].p_value > raw
    assert all(0 <= one.p_value <= 1 for one in whole.metrics)


@pytest.mark.parametrize("seed", range(4))
def test_the_row_of_the_declared_metric_never_contradicts_the_verdict(seed: int) -> None:
    """Its p-value is below 5 % exactly where its interval leaves out 0, so that what is resolved is not told to be chance."""
    one = queues((1.0, 1.05), replications=3, seed=seed, tasks=150)
    assert (one.metrics[0].p_value < 0.05) is one.saving.amount.excludes(0)


def stopping(after: int) -> Any:
    """Return `mm1.simulate` that a keyboard interrupt ends after so many runs."""
    count = 0

    def run(queue: mm1.Queue, seed: int, replication: int = 0, spans: str = "none") -> Result:
        nonlocal count
        if count == after:
            raise KeyboardInterrupt
        count += 1
        return mm1.simulate(queue, seed, replication, spans)

    return run


@pytest.mark.parametrize(("after", "points"), [(4, 0), (7, 0), (8, 1)])
def test_an_interrupt_keeps_what_was_complete(after: int, points: int) -> None:
    """The main comparison, and the points whose variants have all run."""
    variants = {f"v{i}": mm1.Queue(service_rate=1 + i / 4, tasks=50) for i in range(6)}
    spots = (PlannedPoint(("1",), "v2", "v3"), PlannedPoint(("2",), "v4", "v5"))
    plan = Plan("mm1", ("a", "b"), variants, ("v0", "v1"), factors=("x",), points=spots)
    with pytest.raises(ComparisonInterrupted) as stop:
        run_plan(stopping(after), plan, seed=1, settings=Settings(replications=2, warmup=None))
    found = stop.value.result
    assert found is not None
    assert found.interrupted
    assert found.region is not None
    assert len(found.region.points) == points
    assert '"interrupted": true' in to_json(found)


@pytest.mark.parametrize("after", [4, 6, 8])
def test_an_interrupted_ablation_has_no_sum(after: int) -> None:
    """While a switch is missing, what the others add says nothing of the interaction; of all of them it does."""
    variants = {f"v{i}": mm1.Queue(service_rate=1 + i / 4, tasks=50) for i in range(5)}
    switches = tuple(PlannedSwitch(f"p{i}", "off", "on", f"v{2 + i}", None) for i in range(2))
    plan = Plan("mm1", ("a", "b"), variants, ("v0", "v1"), switches=(*switches, NEVER))
    if after < 8:
        with pytest.raises(ComparisonInterrupted) as stop:
            run_plan(stopping(after), plan, seed=1, settings=Settings(replications=2, warmup=None))
        found = stop.value.result
    else:
        found = run_plan(mm1.simulate, plan, seed=1, settings=Settings(replications=2, warmup=None))
    assert found is not None
    assert found.ablation is not None
    assert [one.alone is not None for one in found.ablation.switches] == [after >= 6, after >= 8, False]
    assert math.isnan(found.ablation.sum_alone.value) == math.isnan(found.ablation.interaction.value) == (after < 8)
    assert found.ablation.interaction.resolved == (after == 8)
    assert "interaction" in to_json(found)
    assert report(found).tables


def test_an_interrupt_before_the_comparison_keeps_nothing() -> None:
    """There is nothing to say before both variants have run."""
    variants = {"v0": mm1.Queue(tasks=50), "v1": mm1.Queue(tasks=50, service_rate=2)}
    with pytest.raises(ComparisonInterrupted) as stop:
        run_plan(
            stopping(3), Plan("mm1", ("a", "b"), variants, ("v0", "v1")), seed=1, settings=Settings(replications=2)
        )
    assert stop.value.result is None


def test_an_interrupted_comparison_tells_of_its_complete_pairs() -> None:
    """Stopped in the fourth pair of nine: what three pairs say, as if no more had been asked for."""
    variants = {"v0": mm1.Queue(tasks=50), "v1": mm1.Queue(tasks=50, service_rate=2)}
    plan = Plan("mm1", ("a", "b"), variants, ("v0", "v1"))
    with pytest.raises(ComparisonInterrupted, match="interrupted; 7 of 18 runs are complete") as stop:
        run_plan(stopping(7), plan, seed=1, settings=Settings(replications=9, warmup=None))
    found = stop.value.result
    assert found is not None
    three = run_plan(mm1.simulate, plan, seed=1, settings=Settings(replications=3, warmup=None))
    assert found == dataclasses.replace(three, interrupted=True)


def test_what_is_left_of_rounding_is_no_difference() -> None:
    """Numbers apart by less than rounding are one; a difference of a millionth is one."""
    x = np.array([8.0, 8.0, 8.0])
    assert unrounded(x, np.array([8.0 + 4e-15, 8.0 + 8e-6, 7.0]), x).tolist() == [8.0, 8.0 + 8e-6, 7.0]


def test_results_are_dropped_when_no_pair_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the main pair and one point's are held, however many points there are."""
    held = []
    add = comparing._Collected.add

    def watched(self: Any, key: Any, result: Result) -> None:
        add(self, key, result)
        held.append(sum(len(runs) for runs in self.runs.values()))

    monkeypatch.setattr(comparing._Collected, "add", watched)
    variants = {f"v{i}": mm1.Queue(service_rate=1 + i / 4, tasks=20) for i in range(12)}
    spots = tuple(PlannedPoint((str(i),), f"v{i}", f"v{i + 1}") for i in range(2, 12, 2))
    plan = Plan("mm1", ("a", "b"), variants, ("v0", "v1"), factors=("x",), points=spots)
    run_plan(mm1.simulate, plan, seed=1, settings=Settings(replications=2, warmup=None))
    assert max(held) <= 4
    assert held[-1] == 0


def test_a_baseline_alone_is_refused(support: Scenario) -> None:
    """A comparison takes two."""
    with pytest.raises(ValueError, match="give the variant too"):
        compare(support, "ideal")


def test_mistakes_in_variants_come_together() -> None:
    """Every value of the grid that cannot be is told, with its place in the file, before anything runs."""
    text = STEPS + "compare: {runtime: ideal, over: {models.llm.replicas: [0, 2, x], models.lm.speed: [1]}}\n"
    with pytest.raises(ScenarioError) as error:
        make_plan(Scenario.from_text(text))
    assert sorted(one.path for one in error.value.problems) == [
        "models.llm.replicas",
        "models.llm.replicas",
        "models.lm",
    ]
    line = text.count("\n")
    assert all((one.file, one.line) == ("text", line) for one in error.value.problems)


def test_the_result_is_plain_data(whole: ComparisonResult) -> None:
    """It is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.seed = 2  # type: ignore[misc]
