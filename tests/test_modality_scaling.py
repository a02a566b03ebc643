"""The study `modality-scaling`: how coordination grows with identical streams under each mechanism alone, and because of what.

Each row is the scenario that ships with all mechanisms but one switched off, on few tasks, held to what theory says of that
mechanism. Where theory gives an exact law, draws are replaced by their means.

Leaves out: the figures of the scenario's comment at full length (docs/scaling.md has their commands).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.mechanisms import isolated, mechanisms
from coordsim.models.options import read_scenario
from coordsim.models.scaling import make_plan
from coordsim.models.scenario import Scenario
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.causes import Ablated
from coordsim.sim.analysis.growth import Curve, growth, sentence
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.scaling import LITTLE, Sweep, run_plan
from coordsim.sim.report.scaling_tables import statement

from .command import Call
from .scene import Data, chain, fact, run, scene, steps

FILE = Path(__file__).resolve().parent.parent / "scenarios" / "modality-scaling.yaml"
STEADY = "network.links[1].latency=20 ms"  # what text and records come over
CALM = (  # no draws, and no task meets another
    "workload.arrivals={deterministic: 0.001 / s}",
    "network.links[0].latency=20 ms",
    "encoders.eye.per_unit=17 ms",
    "modalities.image.preprocess={latency: 4.5 ms}",
)
ONE_EYE = "encoders.eye={node: encoders, per_unit: 220 ms, latency: 0 s}"
SLOW = "network.links[0].bandwidth=8 Mbit/s"


def swept(
    only: str | None,
    *sets: str,
    stream: str = "image",
    over: str = "streams=1..16",
    tasks: int = 12,
    metric: str = "coordination",
) -> Sweep:
    """Return the sweep of the shipped scenario with all mechanisms but one switched off, in this process."""
    scenario = read_scenario(FILE, sets, [("workload.tasks", str(tasks))])
    plan = make_plan(scenario, [over], stream=stream, only=only)
    settings = Settings(replications=5, warmup=scenario.workload.warmup, confidence=scenario.confidence)
    found = run_plan(simulate_text, plan, seed=scenario.seed, settings=settings, metric=metric)
    return found.sweeps[-1]


def means(sweep: Sweep) -> Any:
    """Return the curve."""
    assert sweep.growth is not None
    return sweep.growth.curve.mean


def made(sweep: Sweep, mechanism: str) -> Ablated:
    """Return what became of a mechanism."""
    return next(one for one in sweep.ablation if one.mechanism == mechanism)


X = np.array([1, 2, 3, 4, 6, 8, 12, 16])


def test_a_barrier_alone_is_sub_linear() -> None:
    """Of n draws the largest grows slower than n (for exponentials as H_n); taking off the straggler's excess leaves none."""
    sweep = swept("barrier", tasks=24)
    assert sweep.verdict == "sub-linear"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("barrier",))
    rises = np.diff(means(sweep)) / np.diff(X)
    assert rises[0] > 3 * rises[-1] > 0


def test_pairs_of_what_comes_at_once_are_quadratic() -> None:
    """n(n-1)/2 pairs of 5 ms each, one after the other: exponent 2, and nothing is left with a barrier in their place."""
    sweep = swept("pairwise alignment", STEADY, stream="text", tasks=4)
    assert (means(sweep) - means(sweep)[0])[1:] == pytest.approx((0.005 * X * (X - 1) / 2)[1:], rel=1e-3)
    assert sweep.verdict == "super-linear"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("pairwise alignment",))
    assert sweep.growth is not None
    assert sweep.growth.exponent is not None
    assert sweep.growth.exponent.value == pytest.approx(2.0, abs=0.15)


def test_pairs_hide_behind_a_straggler() -> None:
    """Pairs of those that are there are aligned while the last is on its way: few cost what the last one's do, n - 1 of them."""
    slow = {f"m{n}": {"kind": "vision", "encoder": f"e{n}"} for n in range(6)}
    encoders = {f"e{n}": {"latency": f"{n + 1} s"} for n in range(6)}
    each = {"align": {"pairwise": {"each": "10 ms"}}}
    result = run({"modalities": slow, "encoders": encoders}, steps("look", look={"perceive": list(slow), **each}))
    assert result.response_times[0] == pytest.approx(6.0 + 5 * 0.010)
    sweep = swept("pairwise alignment", tasks=6)
    assert sweep.verdict == "super-linear"
    assert sweep.cause.mechanisms == ("pairwise alignment",)
    at_once = swept("pairwise alignment", STEADY, stream="text", tasks=4)
    assert (means(sweep)[-1] - means(sweep)[0]) < 0.98 * (means(at_once)[-1] - means(at_once)[0])


def test_what_outlasts_a_straggler_makes_it_cost_nothing() -> None:
    """Inputs at 1, 2 and 6 s whose pairs take 5 s each: the path is that of the second, 1 s before their mean, and no excess."""
    inputs = {name: {"kind": "vision", "encoder": name} for name in ("a", "b", "c")}
    encoders = {"a": {"latency": "1 s"}, "b": {"latency": "2 s"}, "c": {"latency": "6 s"}}
    look = {"perceive": ["a", "b", "c"]}
    patch = {"modalities": inputs, "encoders": encoders}
    long = run(patch, chain(("look", {**look, "align": {"pairwise": {"each": "5 s"}}})))
    assert long.response_times[0] == pytest.approx(2.0 + 3 * 5.0)
    assert fact(long, "straggler_excess") == 0.0
    short = run(patch, chain(("look", {**look, "align": {"pairwise": {"each": "1 ms"}}})))
    assert fact(short, "straggler_excess") == pytest.approx(6.0 - 3.0)


def test_what_comes_together_grows_by_nothing() -> None:
    """A barrier of messages without draws: none is late, and what grows is 0.2 % of the time, in encoding their tokens."""
    sweep = swept("barrier", STEADY, stream="text", tasks=4)
    assert np.ptp(means(sweep)) < 0.002 * means(sweep)[0]
    assert sweep.growth is not None
    assert " of the mean in all" in sentence(sweep.growth)


def test_an_overhead_of_each_message_is_paid_once() -> None:
    """Messages side by side each have an overhead, and the path has one of them; their number is linear."""
    sweeps = [
        swept("barrier", STEADY, *more, stream="text", tasks=4) for more in ((), ("network.links[1].overhead=5 ms",))
    ]
    assert means(sweeps[1]) - means(sweeps[0]) == pytest.approx(0.005)
    sent = swept("barrier", STEADY, stream="text", tasks=4, metric="messages")
    assert sent.verdict == "linear"


def test_fusion_in_levels_is_sub_linear() -> None:
    """ceil(log2 n) levels of 300 ms, in inference, over prompts that take no time."""
    fusion = "workflow.steps.look.fusion={hierarchical: {each: 300 ms}}"
    sweep = swept("barrier", fusion, "models.llm.prefill=0 us / token", stream="text", tasks=20, metric="inference")
    assert means(sweep) - means(sweep)[0] == pytest.approx(0.3 * np.ceil(np.log2(X)))
    assert sweep.verdict == "sub-linear"


def test_a_shared_link_alone_is_linear() -> None:
    """Messages of one task that come at once share a link: the last byte is through after n times one of them."""
    sweep = swept("shared bandwidth", SLOW, *CALM, tasks=3)
    assert (sweep.verdict, sweep.cause.mechanisms) == ("linear", ("shared bandwidth",))
    assert sweep.cause.kind == "removed"


def test_an_encoder_alone_is_linear() -> None:
    """Encodings of one task wait for one another: the last of n for n - 1 of 220 ms."""
    sweep = swept("GPU contention", *CALM, ONE_EYE, tasks=3)
    assert (sweep.verdict, sweep.cause.mechanisms) == ("linear", ("GPU contention",))
    assert (means(sweep) - means(sweep)[0]) == pytest.approx(0.220 * (X - 1), rel=0.02, abs=1e-9)
    assert made(sweep, "GPU contention").changes[-1] == "encoders.ear.shared=false"


def test_cores_are_a_mechanism() -> None:
    """Decoding n images of 50 ms on one core is linear, and on 64 cores nothing waits."""
    decode = "modalities.image.preprocess={latency: 50 ms}"
    sweep = swept("CPU and tool queues", "network.nodes.encoders.cores=1", *CALM[:-1], decode, tasks=3)
    assert (sweep.verdict, sweep.cause.mechanisms) == ("linear", ("CPU and tool queues",))
    assert made(sweep, "CPU and tool queues").changes == ("network.nodes.encoders.cores=64",)


@pytest.mark.slow
@pytest.mark.parametrize(("only", "sets"), [("shared bandwidth", SLOW), ("GPU contention", ONE_EYE)])
def test_near_saturation_it_is_more_than_linear(only: str, sets: str) -> None:
    """The load rises with n, and waiting as load / (1 - load): beside other tasks the same is super-linear, by the same cause."""
    sweep = swept(only, sets, tasks=60)
    assert (sweep.verdict, sweep.cause.mechanisms) == ("super-linear", (only,))


def test_what_steps_carry_is_linear_in_streams() -> None:
    """Each of 3 later steps sends n inputs again: n x steps tokens are carried, 3 x 1,196 for each image."""
    sweep = swept("context growth", "agents.copilot.output=100 tokens", tasks=4)
    assert (sweep.verdict, sweep.cause.mechanisms) == ("linear", ("context growth",))
    carried = swept("context growth", "agents.copilot.output=100 tokens", metric="carried_tokens", tasks=4)
    assert np.diff(means(carried)) / np.diff(X) == pytest.approx(3 * 1196)


def test_retries_of_a_branch_are_sub_linear() -> None:
    """The most attempts that any of n branches needs grow as log n: with the barrier and the retries off, no rise is left."""
    sweep = swept("retries", "modalities.image.errors=50 %", "modalities.image.attempts=20", tasks=12)
    assert sweep.verdict == "sub-linear"
    assert "barrier" in sweep.cause.mechanisms
    off = made(sweep, "retries").growth
    assert off is not None
    assert off.curve.mean[-1] < 0.5 * means(sweep)[-1]


def test_a_task_that_fails_with_any_branch_fails_the_more_often() -> None:
    """Without retries n branches of which each fails in 10 % leave 0.9^n of the tasks, whose times say nothing of the others."""
    scenario = read_scenario(
        FILE,
        ["workflow.steps.look.partial=fail", "modalities.image.errors=10 %", "workflow.steps.look.perceive=[image]"],
        [("workload.tasks", "400")],
    )
    from coordsim.models.simulate import simulate

    for copies in (1, 8):
        result = simulate(scenario.replace("workflow.steps.look.copies", copies))
        expected = 0.9**copies
        assert result.response_times.size / 400 == pytest.approx(
            expected, abs=4 * (expected * (1 - expected) / 400) ** 0.5
        )


@pytest.mark.slow
def test_all_together_are_super_linear_because_of_pairs_and_links() -> None:
    """At realistic sizes: super-linear by a little, in part because of pairs and of links; what changes too little is not run."""
    sweep = swept(None, tasks=30)
    assert sweep.verdict == "super-linear"
    assert (sweep.cause.kind, set(sweep.cause.mechanisms)) == ("lowered", {"pairwise alignment", "shared bandwidth"})
    assert made(sweep, "CPU and tool queues").skipped == LITTLE


@pytest.mark.slow
def test_the_size_of_pairs_turns_the_verdict() -> None:
    """With a bandwidth for each transfer, pairs of 0 ms leave no super-linear growth, and of 20 ms make it."""
    own = ("network.links[0].shared=false", "network.links[2].shared=false")
    verdicts = [
        swept(None, f"workflow.steps.look.align={{pairwise: {{each: {each} ms}}}}", *own, tasks=20).verdict
        for each in (0, 20)
    ]
    assert verdicts == ["linear", "super-linear"]


# ---------------------------------------------------------------------------------------------------------------------
# One mechanism alone, and what makes it so


def test_only_switches_all_others_off() -> None:
    """What is left to switch off is the one mechanism and the barrier; a name that none has is refused with what is near."""
    scenario = read_scenario(FILE, [], [])
    for kept in ("shared bandwidth", "retries", "context growth"):
        left = [one.name for one in mechanisms(isolated(scenario, kept)) if not one.missing]
        assert {kept, "barrier"} <= set(left)
        assert set(left) <= {kept, "barrier", "GPU contention", "CPU and tool queues"}
    with pytest.raises(ValueError, match="did you mean `retries`"):
        isolated(scenario, "retrys")


def test_encoders_on_the_device_of_a_model_contend_for_it() -> None:
    """Encodings of one task run one after the other on the model's device: linear, and without sharing nothing waits."""
    world: Data = {
        "profile": "h100-sxm",
        "models": {"llm": {"shape": "llama-3.1-8b"}},
        "agents": {"a": {"output": "5 tokens"}},
        "modalities": {"image": {"kind": "vision", "encoder": "eye", "tokens": "729 tokens"}},
        "encoders": {"eye": {"model": "llm", "shape": "siglip-so400m-14"}},
        **chain(("look", {"perceive": ["image"]}), ("think", {"agent": "a"})),
    }
    plan = make_plan(scene(world), ["streams=1..16"])
    settings = Settings(replications=2, warmup=scene(world).workload.warmup)
    (sweep,) = run_plan(simulate_text, plan, seed=1, settings=settings).sweeps
    assert sweep.verdict == "linear"
    assert (sweep.cause.kind, sweep.cause.mechanisms) == ("removed", ("GPU contention",))
    assert np.diff(means(sweep)) / np.diff(X) == pytest.approx(means(sweep)[1], rel=1e-6)
    assert "encoders.eye.shared=false" in made(sweep, "GPU contention").changes
    assert "without it constant" in statement(sweep, "coordination")


def test_a_misfit_that_leaves_the_side_open_is_settled_by_sections_and_law() -> None:
    """0.17 + 0.142 x + 0.0037 x^2 has no exponent, and marginal costs that rise; a line stays one, whatever its noise."""
    rng = np.random.default_rng(5)
    noise = 1 + rng.normal(0.0, 0.01, (8, 1)) + rng.normal(0.0, 0.002, (8, X.size))
    bent = growth(Curve(X.astype(float), (0.17 + 0.142 * X + 0.0037 * X**2) * noise))
    assert bent.verdict == "super-linear"
    assert growth(Curve(X.astype(float), (0.2 + 0.15 * X) * noise)).verdict == "linear"


def test_the_command_cannot_tell_what_five_points_do_not(call: Call) -> None:
    """Exit code 4, as with five points of an exact line; with eight of them it is 0. `--only` goes with any factor."""
    common = ("scaling", FILE, "--stream", "text", "--set", STEADY, "--tasks", "3", "--replications", "2", "--quiet")
    more = ("--workers", "1", "--only", "pairwise alignment")
    assert call(*common, *more, "--over", "streams=1..5").code == 4
    done = call(*common, *more, "--over", "streams=1..8")
    assert (done.code, done.err) == (0, "")  # and no warning of modalities that the sweep itself leaves out
    assert "because of pairwise alignment" in " ".join(done.out.split())
    refused = call(*common, "--workers", "1", "--only", "pairwise", "--over", "streams=1..5")
    assert refused.code == 2
    assert "must be one of" in refused.err


def test_the_scenario_says_which_list_is_meant() -> None:
    """Its `scaling` section names the list of modalities, of which all five are taken in."""
    scenario = Scenario.from_text(FILE.read_text(encoding="utf-8"))
    assert scenario.scaling is not None
    assert scenario.scaling.modalities == "workflow.steps.look.perceive"
    assert len(scenario.modalities) == 5
