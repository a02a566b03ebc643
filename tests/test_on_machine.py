"""Scenarios that name a profile: calls, codecs and the loopback take the machine's laws, and runs say what they rest on.

Leaves out: calls that share a server, which is in test_served.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from coordsim.calibration.imports import build, detect
from coordsim.models.llm import Llm
from coordsim.models.scenario import Scenario
from coordsim.models.serving.measured_steps import MeasuredSteps
from coordsim.models.simulate import simulate
from coordsim.models.transformer import IterationTime
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.profile.profile import Profile

from . import measured_folders

SOURCE = {"title": "round numbers", "quality": "assumed", "machine": "none", "date": "2026-11-23"}
TABLES = 5e-3  # relative, of attention, which a server looks up in tables of its law
NOISE = {"residual": {"of": "repeats", "shares": "0 0.5 1", "ratios": "0.5 1 2"}}
WIRED = {"preset": "ideal", "connection": "persistent", "codec": "json", "state": "full"}


def machine(**more: Any) -> dict[str, Any]:
    """Return a profile of round numbers; `more` is added to the law of products."""
    roof = {"compute": "100 TFLOP/s", "memory": "1 TB/s"}
    return {
        "coordsim_profile": 1,
        "name": "round",
        "sources": {"own": SOURCE},
        "device": {"name": "round", "memory": "80 GB", "memory_bandwidth": "1 TB/s"},
        "laws": {
            "gemm[dtype=bf16]": {"form": {"roofline": roof}, "source": "own", **more},
            "attention.prefill[dtype=bf16]": {"form": {"roofline": roof}, "source": "own"},
            "attention.decode[dtype=bf16]": {"form": {"roofline": roof}, "source": "own", "over": {"context": "1 500"}},
            "encode[codec=json]": {"form": {"sum": {"overhead": "1 ms"}}, "source": "own"},
            "decode[codec=json]": {"form": {"sum": {"terms": {"bytes": "1 us"}}}, "source": "own"},
            "cross[via=http]": {"form": {"constant": "8 ms"}, "source": "own"},
        },
    }


def scenario(tmp_path: Path, data: dict[str, Any], **more: Any) -> Scenario:
    """Return a scenario of one call a task, alone on the machine in `data`."""
    path = tmp_path / "round.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    given = {
        "coordsim": 1,
        "name": "one-call",
        "seed": 1,
        "profile": str(path),
        "runtime": "ideal",
        "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 40, "request": "100 tokens"},
        "agents": {"one": {"model": "llm", "prompt": "200 tokens", "output": "50 tokens"}},
        # Without a cache of prefixes, or all but the first task would find the agent's prompt in it.
        "models": {"llm": {"kind": "llm", "shape": "llama-3.2-1b", "cache": {"prefix": False}}},
        "workflow": {"start": "go", "steps": {"go": {"agent": "one", "next": "done"}}},
    }
    return Scenario.from_text(json.dumps({**given, **more}))


def iterations(**more: Any) -> IterationTime:
    """Return the times of iterations of the model on the round machine."""
    model = Llm.model_validate({"kind": "llm", "shape": "llama-3.2-1b"})
    return model.iteration_time(Profile.model_validate(machine(**more)))


def call(prompt: int, output: int) -> float:
    """Return the seconds of a call that is alone: the prompt in one iteration, then one for every token but the first."""
    times = iterations()
    return times.prefill(prompt, 0) + sum(times.decode(1, prompt + number) for number in range(1, output))


# -- calls


def test_a_call_alone_takes_its_prefill_and_its_decodes(tmp_path: Path) -> None:
    """300 tokens of prompt in one iteration, which makes the first of 50 tokens; then each iteration asked by itself."""
    result = simulate(scenario(tmp_path, machine()))
    assert result.response_times == pytest.approx([call(300, 50)] * 40, rel=TABLES)


def test_a_prompt_sent_again_is_context(tmp_path: Path) -> None:
    """The second call of a stateless API prefills 350 tokens it has seen and 0 new ones: its prefill is context."""
    steps = {"go": {"agent": "one", "repeat": 2, "next": "done"}}
    stateless = {"preset": "ideal", "kv": "discard", "state": "full"}
    split = simulate(scenario(tmp_path, machine(), workflow={"start": "go", "steps": steps}, runtime=stateless))
    again = iterations().prefill(350, 0)
    assert split.category("context").mean() == pytest.approx(again, rel=TABLES)
    assert split.category("inference").mean() == pytest.approx(call(300, 50) + call(350, 50) - again, rel=TABLES)


def test_repeats_of_products_scale_whole_calls(tmp_path: Path) -> None:
    """With a spread from half to double, calls differ, and stay inside."""
    plain = simulate(scenario(tmp_path, machine())).response_times
    noisy = simulate(scenario(tmp_path, machine(**NOISE))).response_times
    ratio = noisy / plain
    assert 0.5 <= ratio.min() < 0.8
    assert 1.3 < ratio.max() <= 2.0


def test_a_result_flags_what_lies_outside_of_a_law(tmp_path: Path) -> None:
    """Attention was fitted to 500 tokens of context; a call of 2,000 says so, one of 350 does not."""
    long = {"one": {"model": "llm", "prompt": "2k tokens", "output": "50 tokens"}}
    (flag,) = simulate(scenario(tmp_path, machine(), agents=long)).doubts
    assert flag == (
        "models.llm: attention.decode[dtype=bf16] was asked beyond the context of 1 to 500 it was fitted on: "
        "above it by up to 5 times"
    )
    assert simulate(scenario(tmp_path, machine())).doubts == ()


# -- measured iterations


def measured(tmp_path: Path, **model: Any) -> Scenario:
    """Return a scenario of calls of the small model whose iterations were measured; `model` adds to it."""
    profile = build.imported(detect.read_all([measured_folders.profile(tmp_path)]), "mine").to_data()
    config = measured_folders.CONFIG
    shape = {
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
        "head_size": config["head_dim"],
        "mlp": config["intermediate_size"],
        "vocabulary": config["vocab_size"],
    }
    data = {"kind": "llm", "shape": shape, "iteration": "gpu-some-model-tp1", "cache": {"prefix": False}}
    return scenario(tmp_path, profile, models={"llm": {**data, **model}})


def machine_of(tmp_path: Path) -> Profile:
    """Return the profile that a scenario there names."""
    return Profile.model_validate(json.loads((tmp_path / "round.json").read_text(encoding="utf-8")))


def test_a_call_takes_its_measured_iterations(tmp_path: Path) -> None:
    """The prompt in one iteration as its tables have it, then 49 that decode; host time comes on top of each of them."""
    result = simulate(measured(tmp_path))
    steps = MeasuredSteps(machine_of(tmp_path).iteration("gpu-some-model-tp1"))
    expected = steps.iteration([(300, 0)], 0, 0.0, 0.0) + steps.run(1, 301.0, 301.0, 49)
    assert result.response_times == pytest.approx([expected] * 40, rel=1e-9)
    later = simulate(measured(tmp_path / "host", batching={"host_step": "1 ms", "host_token": "0.1 ms"}))
    assert later.response_times - result.response_times == pytest.approx([50 * 1.1e-3] * 40, rel=1e-9)


def test_what_a_measured_call_rests_on_is_told(tmp_path: Path) -> None:
    """`check` names the iteration and the model that it was measured with."""
    model = measured(tmp_path).models["llm"]
    assert isinstance(model, Llm)
    *_, told = model.basis(machine_of(tmp_path))
    assert told.startswith("rests on the iteration gpu-some-model-tp1 of mine, measured with some/some-model")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"iteration": "gpu-some-model-tp2"},
            "has no iteration `gpu-some-model-tp2`; did you mean `gpu-some-model-tp1`?",
        ),
        ({"tensor_parallel": 2}, "was measured with 1 for `tensor_parallel`; got 2"),
        ({"dtype": "fp8"}, "was measured with bf16 for `dtype`; got fp8"),
        ({"shape": "llama-3.2-1b"}, "was measured with 3 for the shape's layers; got 16"),
    ],
)
def test_an_iteration_of_another_model_is_refused(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    """Its times would be another model's."""
    with pytest.raises(ScenarioError) as caught:
        measured(tmp_path, **model)
    assert message in str(caught.value)


# -- messages


def test_messages_take_the_laws_of_the_profile(tmp_path: Path) -> None:
    """Codec and loopback come from the profile: 1 ms to encode, 1 us a byte to decode, half of 8 ms each way."""
    split = simulate(scenario(tmp_path, machine(), runtime=WIRED))
    sent, received = 300 * 5.0, 50 * 5.0  # bytes: 5 a token
    assert split.category("communication").mean() == pytest.approx(8e-3, rel=1e-9)
    assert split.category("serialization").mean() == pytest.approx(2e-3 + (sent + received) * 1e-6, rel=1e-9)


def test_what_a_scenario_says_of_its_own_holds(tmp_path: Path) -> None:
    """A serializer and a loopback in the scenario come before the profile's."""
    own = {"serializers": {"json": {}}, "network": {"loopback": "1 ms"}}
    split = simulate(scenario(tmp_path, machine(), runtime=WIRED, **own))
    assert split.category("communication").mean() == pytest.approx(2e-3, rel=1e-9)
    assert split.category("serialization").max() == 0


def test_codec_of_images_grows_what_it_carries(tmp_path: Path) -> None:
    """Base64 writes four characters for three bytes: the wire and the law see 4/3 of the payload."""
    data = machine()
    for way in ("encode", "decode"):
        data["laws"][f"{way}[codec=base64]"] = {"form": {"sum": {"terms": {"bytes": "1 us"}}}, "source": "own"}
    result = simulate(scenario(tmp_path, data, runtime={**WIRED, "codec": "base64"}))
    payload = (300 + 50) * 5.0
    assert result.category("serialization").mean() == pytest.approx(2 * payload * 4 / 3 * 1e-6, rel=1e-9)
    assert result.fact("bytes").mean() == pytest.approx(payload * 4 / 3, rel=1e-9)


# -- what cannot run


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"shape": "llama-3.1-70b"}, "its weights alone take 141 GB of the 80 GB of 1 x round"),
        ({"shape": "vit-l-14"}, "must be of a model that generates"),
        ({"shape": "llama-3.1-8B"}, "did you mean `llama-3.1-8b`?"),
        ({"shape": "llama-3.2-1b", "dtype": "fp8"}, "has no law `gemm[dtype=fp8]`; it has `gemm[dtype=bf16]`"),
        ({"shape": "llama-3.2-1b", "prefill": "1 ms / token"}, "must be left out: `shape` tells it"),
        ({"tensor_parallel": 2}, "goes with `shape` only"),
    ],
)
def test_a_model_that_cannot_run_there_is_refused(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    """Too large, of the wrong kind, without a law, or said twice."""
    with pytest.raises(ScenarioError) as caught:
        scenario(tmp_path, machine(), models={"llm": {"kind": "llm", **model}})
    assert message in str(caught.value)


def test_a_shape_needs_a_profile(tmp_path: Path) -> None:
    """Without one there is nothing to take times from."""
    with pytest.raises(ScenarioError) as caught:
        scenario(tmp_path, machine(), profile=[])
    assert "needs `profile`, such as `profile: h100-sxm`" in str(caught.value)


def test_a_resolved_scenario_is_the_same_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile beside its scenario is found from another folder, keeps its name where it ships, and is in the hash."""
    folder = tmp_path / "here"
    folder.mkdir()
    first = scenario(folder, machine())
    monkeypatch.chdir(folder)
    near = scenario(folder, machine(), profile="round.json")
    before = near.hash
    assert near.to_data()["profile"] == str(folder / "round.json") == first.to_data()["profile"]
    assert before == first.hash
    changed = machine()
    changed["laws"]["cross[via=http]"]["form"]["constant"] = "9 ms"
    assert scenario(folder, changed, profile="round.json").hash != before
