"""Sweeps: values, factors, subsets, the same draws in all cells; verdicts and causes of worlds built to have them.

Leaves out: the fits and verdicts themselves (test_growth); the command (test_scaling_command).
"""

import json
from typing import Any

import numpy as np
import pytest

from coordsim.models.mechanisms import mechanisms
from coordsim.models.scaling import ScalingError, make_plan, unit_of_metric, values_of
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.causes import Ablated, cause_of, exponent_drop, rise_left
from coordsim.sim.analysis.growth import Curve, growth
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.scaling import ScalingResult, Sweep, quantity_of, run_plan
from coordsim.sim.analysis.statistics import mean_interval

from .scene import chain, scene, steps

Data = dict[str, Any]

MANY = {"workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 60, "warmup": "0 s"}}
FAN: Data = {
    "tools": {"t": {"latency": {"exponential": {"mean": "1 s"}}}},
    **steps("fan", fan={"fork": ["work"], "copies": 1}, work={"tool": "t"}),
}
DISPATCH = {"runtime": {"preset": "ideal", "dispatch": "every-step"}, "orchestrator": {"dispatch": "10 ms"}}
LOOP = steps("act", act={"agent": "a", "repeat": 2})
RESEND: Data = {
    "runtime": "stateless-api",
    "orchestrator": {"dispatch": "1 ms"},
    "network": {"loopback": "0 s"},
    "models": {"llm": {"prefill": "1 ms / token"}},
    "agents": {"a": {"output": "20 tokens"}},
}
SENSES: Data = {
    "modalities": {
        "text": {"kind": "text"},
        "record": {"kind": "structured"},
        "image": {"kind": "vision", "encoder": "eye"},
    },
    "encoders": {"eye": {"replicas": 100, "latency": {"exponential": {"mean": "10 ms"}}}},
}
LOOK_STEP: Data = {"perceive": ["text", "record", "image"], "align": {"pairwise": {"each": "50 ms"}}}
LOOK = steps("look", look=LOOK_STEP)


def swept(scenario: Scenario, *over: str, replications: int = 6, ablate: bool = True, **options: Any) -> ScalingResult:
    """Run sweeps in this process."""
    stream = options.pop("stream", None)
    plan = make_plan(scenario, over, stream=stream, ablate=ablate)
    settings = Settings(replications=replications, warmup=scenario.workload.warmup, confidence=scenario.confidence)
    return run_plan(simulate_text, plan, seed=scenario.seed, settings=settings, **options)


def only(found: ScalingResult) -> Sweep:
    """Return the one sweep there is."""
    (sweep,) = found.sweeps
    return sweep


def made(sweep: Sweep, mechanism: str) -> Ablated:
    """Return what became of a mechanism."""
    return next(one for one in sweep.ablation if one.mechanism == mechanism)


# ---------------------------------------------------------------------------------------------------------------------
# Values and factors


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1..5", (1, 2, 3, 4, 5)),
        ("1..8", (1, 2, 3, 4, 5, 6, 7, 8)),
        ("1..16", (1, 2, 3, 4, 6, 8, 12, 16)),
        ("1..128", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)),
        ("1..100", (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 100)),
        ("5..14", (5, 6, 7, 8, 9, 10, 12, 14)),
        ("8, 1,2", (1, 2, 8)),
        ("0.5,2", (0.5, 2)),
    ],
)
def test_a_range_is_whole_or_a_ladder(text: str, values: tuple[float, ...]) -> None:
    """Up to eight whole numbers are all taken; more become two or three points an octave, both ends among them."""
    assert values_of(text) == values


@pytest.mark.parametrize("text", ["0..4", "4..1", "3..3", "a..b", "1,", "4", "-1,2", "nan,1", "inf,1", ""])
def test_what_is_no_range_is_refused(text: str) -> None:
    """Nothing grows over one value, and growth is judged over log x: values are above 0, and two at least."""
    with pytest.raises(ValueError, match="must"):
        values_of(text)


def cells(scenario: Scenario, over: str, **options: Any) -> list[tuple[float, tuple[str, ...], Data]]:
    """Return the cells of a plan's first sweep, each with the scenario it runs."""
    plan = make_plan(scenario, [over], ablate=False, **options)
    sweep = plan.sweeps[0]
    return [
        (x, cell.subset, json.loads(cell.key)) for x, point in zip(sweep.xs, sweep.cells, strict=True) for cell in point
    ]


def test_steps_are_the_turns_of_the_only_loop() -> None:
    """The agent step with a `repeat` is meant, also in a workflow that another runs; what would cut its turns is raised."""
    inner = {
        "workflows": {
            "inner": steps("loop", loop={"agent": "a", "repeat": {"geometric": {"mean": 3}}, "at_most": 4})["workflow"]
        }
    }
    scenario = scene(inner, chain(("first", {"agent": "a"}), ("second", {"workflow": "inner"})))
    found = cells(scenario, "steps=2,200")
    assert [data["workflows"]["inner"]["steps"]["loop"]["repeat"] for _, _, data in found] == [2, 200]
    for _, _, data in found:  # the same in all cells: only the turns differ
        assert data["workflows"]["inner"]["steps"]["loop"]["at_most"] == 200
        assert data["max_steps"] == 2000
    assert "max_steps" not in cells(scenario, "steps=2,20")[0][2]


def test_one_agent_without_a_repeat_is_meant_too() -> None:
    """Where no agent step says `repeat` and there is only one, it is the one."""
    assert [data["workflow"]["steps"]["work"]["repeat"] for _, _, data in cells(scene(), "steps=1..3")] == [1, 2, 3]


def test_two_loops_are_told_apart_by_the_scenario() -> None:
    """An ambiguous factor names the candidates and the remedy, and the remedy works."""
    two = chain(("one", {"agent": "a", "repeat": 2}), ("two", {"agent": "a", "repeat": 3}))
    with pytest.raises(ScalingError) as error:
        make_plan(scene(two), ["steps=1..4"])
    assert "workflow.steps.one.repeat" in str(error.value)
    assert "workflow.steps.two.repeat" in str(error.value)
    assert "--set 'scaling={steps: workflow.steps.one.repeat}'" in str(error.value)
    found = cells(scene(two, {"scaling": {"steps": "workflow.steps.two.repeat"}}), "steps=1..2")
    assert [[data["workflow"]["steps"][name]["repeat"] for name in ("one", "two")] for _, _, data in found] == [
        [2, 1],
        [2, 2],
    ]


def test_agents_are_the_size_of_the_only_team() -> None:
    """A team whose size counts its agents; without one, any path that counts them serves."""
    team = steps("talk", talk={"team": "chain", "members": {"member": "speak"}, "size": 2}, speak={"agent": "a"})
    found = cells(scene(team), "agents=1,3")
    assert [data["workflow"]["steps"]["talk"]["size"] for _, _, data in found] == [1, 3]
    with pytest.raises(ScalingError, match="there are no `team` steps with a `size`"):
        make_plan(scene(), ["agents=1..4"])
    told = {"scaling": {"agents": "workflow.steps.fan.copies"}}
    assert [data["workflow"]["steps"]["fan"]["copies"] for _, _, data in cells(scene(FAN, told), "agents=1,3")] == [
        1,
        3,
    ]


def test_modalities_are_all_subsets_and_then_identical_copies() -> None:
    """Every subset of each size once; and copies of each modality alone, or of the one that is named."""
    scenario = scene(SENSES, LOOK)
    found = cells(scenario, "modalities=1..3")
    assert [(x, subset) for x, subset, _ in found] == [
        (1, ("text",)), (1, ("record",)), (1, ("image",)),
        (2, ("text", "record")), (2, ("text", "image")), (2, ("record", "image")),
        (3, ("text", "record", "image")),
    ]  # fmt: skip
    assert all(data["workflow"]["steps"]["look"]["perceive"] == list(subset) for _, subset, data in found)
    plan = make_plan(scenario, ["modalities=1..3"], ablate=False)
    assert [(sweep.factor, sweep.beside) for sweep in plan.sweeps] == [("modalities", True), ("streams", False)]
    streams = cells(scenario, "streams=1,4", stream="image")
    assert [(x, subset) for x, subset, _ in streams] == [(1, ("image",)), (4, ("image",))]
    looks = [data["workflow"]["steps"]["look"] for _, _, data in streams]
    assert [(look["perceive"], look["copies"]) for look in looks] == [(["image"], 1), (["image"], 4)]


@pytest.mark.parametrize(
    ("over", "options", "told"),
    [
        ("modalities=1..5", {}, "has 3 (text, record, image)"),
        ("modalities=1,1.5", {}, "subsets of it have 1 to 3"),
        ("streams=1..4", {"stream": "imag"}, "did you mean `image`?"),
        ("streams=1,1.5", {}, "must be whole numbers"),
        ("steps", {}, "as in `steps=1..128`; got `steps`"),
        ("step=1..4", {}, "did you mean `steps`?"),
        ("steps=1..4", {}, "there are no agent steps with a `repeat`"),
        ("models.llm.replica=1..4", {}, "models.llm.replica: no such field; did you mean `replicas`?"),
        ("models.llm.replicas=1,1.5", {}, "models.llm.replicas"),
        ("models.llm.speed=1,2", {"stream": "image"}, "--stream goes with"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(over: str, options: Data, told: str) -> None:
    """Each mistake says which option, what the rule is, and what is near."""
    with pytest.raises(ScalingError) as error:
        make_plan(scene(SENSES, LOOK), [over], **options)
    assert told in str(error.value)


def test_nothing_to_sweep_and_one_thing_twice_are_refused() -> None:
    """No factor, and a factor given twice, are mistakes."""
    with pytest.raises(ScalingError, match="--over is missing"):
        make_plan(scene(), [])
    with pytest.raises(ScalingError, match="given twice"):
        make_plan(scene(), ["steps=1..4", "steps=1..8"])


def test_a_metric_is_a_time_a_category_or_a_fact() -> None:
    """Each with its unit; any other is refused with what is near."""
    assert [unit_of_metric(name) for name in ("coordination", "tool", "input_tokens", "state_bytes", "steps")] == [
        "s", "s", "tokens", "B", "",
    ]  # fmt: skip
    with pytest.raises(ScalingError, match="did you mean `coordination`"):
        unit_of_metric("coordinatoin")


# ---------------------------------------------------------------------------------------------------------------------
# Cells


def test_a_cell_is_what_a_run_of_it_gives() -> None:
    """The value of a replication is the mean over the tasks of the same run made by hand: same seed, same draws."""
    scenario = scene(FAN, MANY)
    sweep = only(swept(scenario, "workflow.steps.fan.copies=1,4", replications=2, ablate=False))
    for cell in sweep.cells:
        changed = scenario.replace("workflow.steps.fan.copies", int(cell.x))
        runs = [simulate(changed, scenario.seed, number) for number in range(2)]
        assert cell.values["coordination"] == tuple(float(run.coordination.mean()) for run in runs)
        without = [float(quantity_of(run, "coordination_without_stragglers").mean()) for run in runs]
        assert cell.values["coordination_without_stragglers"] == tuple(without)


def test_warm_up_is_left_out_of_all_cells() -> None:
    """Of 60 tasks that come every 1,000 s, those that arrive after 20,000 s count."""
    scenario = scene(FAN, MANY, {"workload": {"warmup": "20000 s"}})
    sweep = only(swept(scenario, "workflow.steps.fan.copies=1,4", replications=2, ablate=False))
    for cell in sweep.cells:
        run = simulate(scenario.replace("workflow.steps.fan.copies", int(cell.x)), scenario.seed, 0).after(20_000.0)
        assert run.coordination.size < 60
        assert cell.values["coordination"][0] == float(run.coordination.mean())


def test_all_cells_meet_the_same_draws() -> None:
    """The longest of four parts of a task is never shorter than that of two: the first two are the same parts."""
    scenario = scene(FAN, MANY)
    two, four = (simulate(scenario.replace("workflow.steps.fan.copies", n)).response_times for n in (2, 4))
    assert (four >= two - 1e-9).all()
    sweep = only(swept(scenario, "workflow.steps.fan.copies=2,4", replications=4, ablate=False))
    first, last = (np.array(cell.values["response_time"]) for cell in sweep.cells)
    assert (last > first).all()


def test_a_point_is_the_mean_over_its_subsets() -> None:
    """Each subset counts alike, replication by replication; with the image it takes longer than without."""
    found = swept(scene(SENSES, LOOK), "modalities=1..3", replications=3, ablate=False, metric="response_time")
    sweep = found.sweeps[0]
    assert sweep.growth is not None
    for place, x in enumerate((1, 2, 3)):
        values = [cell.values["response_time"] for cell in sweep.cells if cell.x == x]
        assert sweep.growth.curve.values[:, place].tolist() == pytest.approx(np.mean(values, axis=0).tolist())
        assert x == 3 or len({value[0] for value in values}) > 1


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    """Two processes give the same numbers as one."""
    one, two = (swept(scene(FAN, MANY), "workflow.steps.fan.copies=1,2,4", workers=n) for n in (1, 2))
    assert [cell.values for cell in only(one).cells] == [cell.values for cell in only(two).cells]


# ---------------------------------------------------------------------------------------------------------------------
# Verdicts and causes of worlds built to have them


def test_a_barrier_is_sub_linear_because_it_is_one() -> None:
    """The mean of the longest of n exponentials is H_n; without what the longest takes beyond the mean it is constant."""
    sweep = only(swept(scene(FAN, MANY, {"workload": {"tasks": 150}}), "workflow.steps.fan.copies=1..16"))
    assert sweep.growth is not None
    harmonic = np.cumsum(1 / np.arange(1, 17))[sweep.growth.curve.x.astype(int) - 1]
    # 900 tasks: the standard error of the mean is sqrt(pi^2 / 6 / 900) = 0.043 s at most; four of them.
    assert sweep.growth.curve.mean == pytest.approx(harmonic, abs=0.172)
    assert sweep.verdict == "sub-linear"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("barrier",))
    barrier = made(sweep, "barrier")
    assert barrier.left is not None
    assert barrier.left.value == pytest.approx(0.0, abs=0.05)


def test_steps_that_cost_the_same_are_linear_and_nothing_is_the_cause() -> None:
    """A dispatch of 10 ms a step is linear; no switch takes it away."""
    sweep = only(swept(scene(DISPATCH, LOOP), "steps=1..16", replications=2))
    assert sweep.growth is not None
    assert sweep.growth.curve.mean.tolist() == pytest.approx((0.01 * sweep.growth.curve.x).tolist())
    assert (sweep.verdict, sweep.cause.kind) == ("linear", "none")


def test_a_context_sent_in_full_is_super_linear_because_it_grows() -> None:
    """Prefilling n turns of 20 tokens again costs 20 n(n-1)/2 tokens; without growth what remains is linear."""
    sweep = only(swept(scene(RESEND, LOOP), "steps=1..64", replications=2))
    assert sweep.growth is not None
    assert sweep.verdict == "super-linear"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("context growth",))
    without = made(sweep, "context growth")
    assert without.growth is not None
    assert without.growth.verdict == "linear"
    assert without.changes == ("context.grows=false",)
    carried = [np.mean(cell.values["context"]) for cell in sweep.cells if not cell.off]
    assert carried == pytest.approx((0.02 * sweep.growth.curve.x * (sweep.growth.curve.x - 1) / 2).tolist())


def test_pairwise_alignment_is_quadratic_in_streams() -> None:
    """Copies that come at once are aligned in n(n-1)/2 pairs of 50 ms; with a barrier in its place nothing remains."""
    found = swept(scene(SENSES, LOOK), "streams=1..16", stream="text", replications=2)
    sweep = only(found)
    assert sweep.growth is not None
    x = sweep.growth.curve.x
    assert sweep.growth.curve.mean.tolist() == pytest.approx((0.05 * x * (x - 1) / 2).tolist())
    assert sweep.verdict == "super-linear"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("pairwise alignment",))
    assert made(sweep, "pairwise alignment").changes == ('workflow.steps.look.align={"barrier": {}}',)
    assert not found.undecided


def test_noise_without_growth_resolved_cannot_be_told() -> None:
    """Four tasks a run with a tool of infinite variance at each step leave the exponent wide open."""
    tail = {"tools": {"t": {"latency": {"pareto": {"minimum": "1 s", "shape": 1.2}}}}}
    loop = steps("act", act={"agent": "a", "repeat": 2, "tools": {"t": 1}})
    found = swept(scene(tail, loop, {"workload": {"tasks": 4}}), "steps=1..16", replications=6)
    assert only(found).verdict == "cannot tell"
    assert only(found).cause.kind == "not asked"
    assert found.undecided


def test_five_points_choose_no_law() -> None:
    """Even of an exact line: the verdict on five points is `cannot tell`."""
    found = swept(scene(DISPATCH, LOOP), "steps=1..5", replications=2, ablate=False)
    assert only(found).verdict == "cannot tell"
    growth_of = only(found).growth
    assert growth_of is not None
    assert growth_of.chosen is None


def test_what_stands_beside_another_sweep_decides_nothing() -> None:
    """Three subsets' sizes cannot be judged; the verdict is that of the streams, and all is decided."""
    found = swept(scene(SENSES, LOOK), "modalities=1..3", replications=2)
    assert [(one.factor, one.verdict) for one in found.sweeps] == [
        ("modalities", "cannot tell"), ("streams", "super-linear"),
    ]  # fmt: skip
    assert not found.undecided
    assert found.sweeps[0].ablation == ()


def test_a_queue_for_the_model_is_a_cause() -> None:
    """A fan of n calls of 1 s on one slot waits n - 1 s; with 64 times the servers nothing waits."""
    fan = steps("fan", fan={"fork": ["work"], "copies": 1}, work={"agent": "a"})
    world = scene({"models": {"llm": {"overhead": "1 s"}}}, fan)
    sweep = only(swept(world, "workflow.steps.fan.copies=1..16", replications=2))
    assert sweep.growth is not None
    assert sweep.growth.curve.mean.tolist() == pytest.approx((sweep.growth.curve.x - 1).tolist(), abs=1e-9)
    assert sweep.cause.kind == "removed"
    assert "GPU contention" in sweep.cause.mechanisms
    contention = made(sweep, "GPU contention")
    assert contention.changes == ("models.llm.replicas=64",)
    assert contention.growth is not None
    assert not contention.growth.curve.values.any()


def test_a_shared_link_is_a_cause() -> None:
    """Branches that answer at once share a link: n answers of 1 MB at 8 Mbit/s take n s, and 1 s where none is shared."""
    world = {
        "runtime": {"preset": "ideal", "connection": "persistent"},
        "tools": {"t": {"latency": "0 s", "node": "far", "response": "1 MB"}},
        "network": {
            "nodes": {"here": {}, "far": {}},
            "links": [{"between": ["here", "far"], "bandwidth": "8 Mbit/s"}],
        },
        "orchestrator": {"node": "here"},
        **steps("fan", fan={"fork": ["work"], "copies": 1}, work={"tool": "t"}),
    }
    sweep = only(swept(scene(world), "workflow.steps.fan.copies=1..16", replications=2))
    assert sweep.growth is not None
    assert sweep.growth.curve.mean.tolist() == pytest.approx(sweep.growth.curve.x.tolist(), rel=1e-6)
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("shared bandwidth",))


def test_all_of_them_are_off_at_once_where_there_are_two() -> None:
    """With a context that grows and a queue for the model, neither off alone leaves what both off do."""
    crowd = {"workload": {"arrivals": {"deterministic": "0.5 / s"}, "tasks": 20}}
    sweep = only(swept(scene(RESEND, LOOP, crowd), "steps=1..32", replications=2))
    names = [one.mechanism for one in sweep.ablation if one.growth is not None]
    assert names == ["context growth", "GPU contention", "all of them"]
    last = {cell.off: np.mean(cell.values["coordination"]) for cell in sweep.cells if cell.x == 32}
    assert last["all of them"] == min(last.values())
    assert made(sweep, "all of them").changes == ("context.grows=false", "models.llm.replicas=64")


# ---------------------------------------------------------------------------------------------------------------------
# Mechanisms and causes


def test_mechanisms_say_what_a_scenario_does_not_have() -> None:
    """A world of one tool has a barrier at most, and each other mechanism says why there is nothing to switch off."""
    found = {one.name: one.missing for one in mechanisms(scene(FAN, {"agents": None, "models": None}))}
    assert found == {
        "context growth": "no context grows",
        "barrier": "",
        "pairwise alignment": "no step aligns in pairs",
        "shared bandwidth": "no link has a bandwidth to share",
        "GPU contention": "nothing is served by a model or an encoder",
        "CPU and tool queues": "no tool and no CPU is limited",
        "retries": "nothing fails",
    }


def test_every_change_is_one_that_set_can_make() -> None:
    """All changes of all mechanisms, put in place one after the other, give a scenario."""
    world = {
        "models": {
            "llm": {"replicas": 2, "queue_limit": 5},
            "api": {"kind": "api", "limits": {"requests": "5 / s", "concurrency": 4}},
        },
        "tools": {"t": {"latency": "1 s", "errors": "10 %", "handling": {"retry": 3}}},
        **SENSES,
    }
    more = {
        "modalities": {"image": {"errors": "5 %"}},
        "workflow": {"start": "look", "steps": {"look": {**LOOK_STEP, "model": "llm"}}},
    }
    scenario = scene(world, more)
    changes = dict(change for one in mechanisms(scenario) for change in one.changes)
    assert changes == {
        "context.grows": "false",
        "workflow.steps.look.align": '{"barrier": {}}',
        "models.llm.queue_limit": "null",
        "models.llm.replicas": "128",
        "models.api.limits.requests": "null",
        "models.api.limits.concurrency": "null",
        "encoders.eye.shared": "false",
        "tools.t.errors": "0",
        "tools.t.handling.retry": "1",
        "modalities.image.errors": "0",
        "modalities.image.attempts": "1",
    }
    document = scenario._document
    assert document is not None
    for path, text in changes.items():
        document = Scenario.overridden(document, path, text)
    assert Scenario.of(document).context.grows is False


def test_what_is_swept_is_not_switched_off() -> None:
    """Sweeping the replicas of a model leaves no GPU contention to switch off, and says so."""
    scenario = scene({"models": {"llm": {"overhead": "1 s"}}})
    plan = make_plan(scenario, ["models.llm.replicas=1,2"])
    (found,) = [one for one in plan.sweeps[0].switches if one.mechanism == "GPU contention"]
    assert found.cells is None
    assert found.skipped == "`models.llm.replicas` is what is swept"


X = np.array([1.0, 2, 3, 4, 6, 8, 12, 16])


def drawn(power: float, spread: float = 0.01, replications: int = 8, scale: float = 1.0) -> Curve:
    """Return x^power with noise that replications share between points and curves."""
    noise = np.random.default_rng(3).normal(1.0, spread, (replications, 1))
    return Curve(X, scale * X**power * noise)


def ablated(name: str, curve: Curve, base: Curve) -> Ablated:
    """Return a mechanism switched off, as `run_plan` makes it."""
    found, before = growth(curve), growth(base)
    largest = mean_interval(curve.values[:, -1])
    return Ablated(
        name, (), False, "", found, largest, exponent_drop(before, found, 0.95, 0), rise_left(base, curve, 0.95)
    )


def test_the_drop_of_an_exponent_is_paired() -> None:
    """Two curves that share their noise differ by the exponents' difference, to a width far below that of either."""
    drop = exponent_drop(growth(drawn(2.0)), growth(drawn(1.5)), 0.95, 0)
    assert drop.value == pytest.approx(0.5, abs=0.01)
    assert drop.half_width < 0.01
    assert "paired bootstrap" in drop.method
    alone = exponent_drop(growth(drawn(2.0, replications=1)), growth(drawn(1.5, replications=1)), 0.95, 0)
    assert alone.value == pytest.approx(0.5, abs=0.01)
    assert not alone.resolved


def test_the_drop_is_the_same_for_one_seed() -> None:
    """Resamples come from the seed, and nothing else."""
    noise = np.random.default_rng(5).normal(1.0, 0.05, (2, 8, X.size))
    one, other = (growth(Curve(X, X**power * each)) for power, each in zip((2.0, 1.5), noise, strict=True))
    drop = exponent_drop(one, other, 0.95, 0)
    assert drop.half_width > 0.01
    assert drop == exponent_drop(one, other, 0.95, 0)
    assert drop != exponent_drop(one, other, 0.95, 1)


def test_one_that_lowers_the_exponent_most_is_named() -> None:
    """None removes it: those that lower the exponent by half as much as the most are named, the others are not."""
    base = drawn(2.0)
    found = cause_of(
        growth(base), [ablated("a", drawn(1.5), base), ablated("b", drawn(1.9), base), ablated("c", drawn(2.0), base)]
    )
    assert (found.kind, found.mechanisms) == ("lowered", ("a",))
    both = cause_of(growth(base), [ablated("a", drawn(1.5), base), ablated("b", drawn(1.6), base)])
    assert both.mechanisms == ("a", "b")


def test_growth_of_unknown_law_may_have_a_known_cause() -> None:
    """Five points choose no law, but a context that grows is all there is to the rise; where dispatch is the rise, nothing is."""
    sweep = only(swept(scene(RESEND, LOOP, {"orchestrator": {"dispatch": "0 s"}}), "steps=1..5", replications=2))
    assert sweep.verdict == "cannot tell"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("context growth",))
    assert only(swept(scene(DISPATCH, LOOP), "steps=1..5", replications=2)).cause.kind == "not asked"


def test_a_mechanism_that_only_shifts_the_level_is_no_cause() -> None:
    """Half the time with the same exponent: growth is not because of it."""
    base = drawn(2.0)
    assert cause_of(growth(base), [ablated("level", drawn(2.0, scale=0.5), base)]).kind == "none"
    assert cause_of(growth(base), [ablated("all of them", drawn(1.0), base)]).kind == "none"


def test_cells_of_csv_name_what_was_off() -> None:
    """Cells hold the runs with each mechanism off, too, by its name."""
    sweep = only(swept(scene(SENSES, LOOK), "streams=1,2", stream="text", replications=2))
    off: set[str] = {cell.off for cell in sweep.cells}
    assert off == {"", "pairwise alignment"}
    assert all(len(cell.values["coordination"]) == 2 for cell in sweep.cells)
