"""Models on the CPU of a node, whose calls take more than in proportion to tokens, and tools that infer."""

import pytest

from coordsim.models.bounds import bounds
from coordsim.models.simulate import simulate
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, accounts, merged, parts, run, scene, steps, total
from .test_pipeline import BUSY, VOICE, law, talk
from .test_streaming_calls import ARRIVALS, STATION, World

LLM: Data = {
    "agents": {"a": {"model": "llm", "prompt": "10 tokens"}},
    "models": {"llm": {"prefill": "0.1 s / token", "concurrency": 2}},
    "orchestrator": {"node": "here"},
    "network": {"nodes": {"here": {}}},
}
CPU: Data = {"models": {"llm": {"cpu": True}}}
TWO: Data = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 2}}
THREE: Data = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 3}}


def node(cores: int, scheduling: str = "share") -> Data:
    """Return the patch of the node."""
    return {"network": {"nodes": {"here": {"cores": cores, "scheduling": scheduling}}}}


def test_attention_grows_with_the_square_of_what_is_prefilled() -> None:
    """10 tokens: 1 s by number, 1 s by its square."""
    patch: Data = {"models": {"llm": {"attention": "10 ms / token^2"}}}
    assert parts(run(LLM, patch)) == pytest.approx({"inference": 2})
    assert bounds(scene(LLM, patch)).response == pytest.approx(2)


def test_attention_splits_by_the_share_of_tokens() -> None:
    """The second call prefills 10 tokens again and 10 of the tool's answer for the first time: 2 s + 4 s, half of it context."""
    patch: Data = {
        "runtime": {"preset": "ideal", "kv": "discard"},
        "models": {"llm": {"attention": "10 ms / token^2"}},
        "tools": {"t": {"latency": "0 s", "result": "10 tokens"}},
        **steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 2}),
    }
    result = run(LLM, patch)
    assert parts(result) == pytest.approx({"inference": 2 + 3, "context": 3})


def test_a_residual_is_a_factor_of_each_call() -> None:
    """A constant one, and a drawn one, whose mean is that of the calls."""
    assert total(run(LLM, {"models": {"llm": {"residual": 2}}})) == pytest.approx(2)
    drawn: Data = {"models": {"llm": {"residual": {"uniform": {"low": 0.5, "high": 1.5}}}}}
    calls = simulate(scene(LLM, drawn, {"workload": {"tasks": 500}})).response_times
    assert calls.min() >= 0.5
    assert calls.max() <= 1.5
    assert calls.mean() == pytest.approx(1, abs=4 * calls.std() / 500**0.5)


def test_calls_beside_each_other_take_longer() -> None:
    """The second of three at once half as long again, the third half as long again as that; who waits for a slot counts for none."""
    beside: Data = {"models": {"llm": {"beside": 1.5, "concurrency": 3}}}
    result = run(LLM, beside, THREE)
    assert [total(result, task) for task in range(3)] == pytest.approx([1, 1.5, 2.25], abs=1e-5)
    result = run(LLM, beside, THREE, {"models": {"llm": {"concurrency": 2}}})
    assert [total(result, task) for task in range(3)] == pytest.approx([1, 1.5, 1 + 1.5], abs=1e-5)


def test_a_model_shares_the_cpu_of_its_node() -> None:
    """Two calls on one core take twice as long, all of it inference; with one slot the second waits for it."""
    result = run(LLM, CPU, TWO, node(1))
    assert parts(result, 1) == pytest.approx({"inference": 2}, abs=1e-5)
    result = run(LLM, CPU, TWO, node(1), {"models": {"llm": {"concurrency": 1}}})
    assert [total(result, task) for task in range(2)] == pytest.approx([1, 2], abs=1e-5)
    waited = {one.component: seconds for one, seconds in accounts(result, 1).items()}
    assert waited == pytest.approx({"models.llm": 1, "llm": 1}, abs=1e-5)


def test_a_model_on_the_cpu_keeps_the_pace_at_which_it_begins_in_a_queue() -> None:
    """One core: the second call of two begins beside the first, and takes twice as long; alone nothing is stretched."""
    result = run(LLM, CPU, TWO, node(1, "queue"))
    assert [total(result, task) for task in range(2)] == pytest.approx([1, 2], abs=1e-5)
    assert total(run(LLM, CPU, node(1, "queue"))) == pytest.approx(1)


def test_tokenizing_is_part_of_the_work_on_the_cpu() -> None:
    """It is slowed down once, with the rest: 1 s of prefill and 1 s of tokenizing beside one other on one core."""
    tokens: Data = {"models": {"llm": {"tokenize": "0.1 s / token"}}}
    result = run(LLM, CPU, tokens, {"network": {"nodes": {"here": {"cores": 1, "busy": 1, "scheduling": "share"}}}})
    assert total(result) == pytest.approx(4)


def test_a_model_without_cores_is_never_short_of_cpu() -> None:
    """`cpu` counts where cores are counted."""
    result = run(LLM, CPU, TWO)
    assert [total(result, task) for task in range(2)] == pytest.approx([1, 1], abs=1e-5)


def test_a_call_that_times_out_leaves_the_cpu() -> None:
    """The first of two is cut off after 1 s with half of it done; the second, a second later, has slot and core for itself."""
    patch: Data = {
        "models": {"llm": {"concurrency": 1, "handling": {"timeout": "1 s", "exhausted": "continue"}, "prefill": "0.15 s / token"}},
        "workload": {"arrivals": {"deterministic": "0.9 / s"}, "tasks": 2},
    }  # fmt: skip
    result = run(LLM, CPU, node(1), patch)
    assert [parts(result, task) for task in range(2)] == [pytest.approx({"recovery": 1})] * 2


@pytest.mark.parametrize("scheduling", ["queue", "share"])
def test_who_listens_to_a_model_on_the_cpu_hears_it_at_the_end(scheduling: str) -> None:
    """Times and parts are those of a call without a listener; all marks are told when it is over."""
    world = merged(
        merged(STATION, node(2, scheduling)), {"orchestrator": {"node": "here"}, "models": {"llm": {"cpu": True, "beside": 1.2}}}
    )  # fmt: skip
    plain, listened = World(world).run(ARRIVALS), World(world, marks=7.0).run(ARRIVALS)
    for one, other in zip(plain, listened, strict=True):
        assert (one.end, one.parts) == (other.end, other.parts)
        assert {time for _, time, _ in other.marks} == {one.end}


def test_a_pipeline_with_a_model_on_the_cpu_keeps_its_sums() -> None:
    """Pieces wait for the whole answer, and for the CPU, which listening and speaking use too."""
    busy: Data = {
        "tools": {"asr": {"cpu": True}, "tts": {"cpu": True}}, "models": {"llm": {"cpu": True}}, "orchestrator": {"node": "here"},
    }  # fmt: skip
    alone, shared = (run(VOICE, BUSY, talk(), busy, node(cores)) for cores in (8, 1))
    for result in (alone, shared):
        law(result)
    assert shared.response_times.mean() > alone.response_times.mean() > run(VOICE, BUSY, talk()).response_times.mean()


def test_the_bounds_count_a_model_on_the_cpu() -> None:
    """Its slots and the cores are asked for the same seconds."""
    found = bounds(scene(LLM, CPU, node(2), {"workload": {"arrivals": {"poisson": "0.5 / s"}, "tasks": 1}}))
    assert found.resource("models.llm").utilization == pytest.approx(0.25)
    assert found.resource("nodes.here.cpu").utilization == pytest.approx(0.25)


def test_a_tool_that_infers_is_inference() -> None:
    """An embedder's time is a model's own work; what it takes to call it, and to wait for it, is not."""
    patch: Data = {
        "tools": {"embed": {"latency": "2 s", "invoke": "1 s", "infers": True, "concurrency": 1}},
        **steps("w", w={"tool": "embed"}),
    }
    result = run(patch, TWO)
    assert parts(result, 1) == pytest.approx({"tool": 1, "queueing": 2, "inference": 2}, abs=1e-5)
    assert bounds(scene(patch)).times["inference"] == pytest.approx(2)


@pytest.mark.parametrize("field", ["attention", "residual", "beside", "cpu"])
def test_a_model_with_a_shape_takes_none_of_it(field: str) -> None:
    """What the profile's laws of kernels tell cannot be said twice."""
    value = {"attention": "1 ns / token^2", "residual": 2, "beside": 2, "cpu": True}[field]
    with pytest.raises(ScenarioError, match=rf"models.llm.{field}: must be left out"):
        scene({"profile": "h100-sxm", "models": {"llm": {"shape": "llama-3.1-8b", field: value}}})


def test_a_call_is_handed_to_who_computes_and_back() -> None:
    """Each way takes its hand-off as communication, besides the loopback; nothing of it is inference, and no slot is held for it."""
    patch: Data = {
        "runtime": {"preset": "ideal", "connection": "persistent"},
        "network": {"loopback": "0.05 s"},
        "models": {"llm": {"hand_off": "0.2 s", "concurrency": 1}},
    }
    assert parts(run(LLM, patch)) == pytest.approx({"inference": 1, "communication": 2 * 0.05 + 2 * 0.2})
    assert bounds(scene(LLM, patch)).response == pytest.approx(1.5)
    both = run(LLM, patch, TWO)
    assert [total(both, task) for task in range(2)] == pytest.approx([1.5, 2.5], abs=1e-5)


def test_within_one_process_nothing_is_handed_over() -> None:
    """Without a message there is no hand-off."""
    patch: Data = {"runtime": {"preset": "ideal"}, "models": {"llm": {"hand_off": "0.2 s"}}}
    assert parts(run(LLM, patch)) == pytest.approx({"inference": 1})
