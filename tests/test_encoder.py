"""Encoders: their time by distribution and by the laws of a profile, their slots, and the device of a model that they share."""

import math
from typing import Any

import pytest

from coordsim.models.encoder import Encoder
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.profile.profile import read

from .scene import Data, accounts, chain, fact, named, parts, run, scene, total


def world(encoder: Data, modality: Data | None = None, **step: Any) -> Data:
    """Return the patch of a world whose tasks take in one kind of input."""
    return {
        "modalities": {"image": {"kind": "vision", "encoder": "enc", **(modality or {})}},
        "encoders": {"enc": encoder},
        **chain(("see", {"perceive": ["image"], **step})),
    }


def test_a_call_takes_its_latency_and_more_for_each_unit() -> None:
    """Four images at 10 ms and 5 ms each take 30 ms of inference by the encoder."""
    result = run(world({"latency": "10 ms", "per_unit": "5 ms"}, {"amount": 4}))
    assert {(one.category, one.component, one.name): s for one, s in accounts(result).items()} == {
        ("inference", "enc", "encode"): pytest.approx(0.03)
    }


def test_the_time_of_a_unit_is_enough() -> None:
    """Without a `latency`, a call takes what its units do."""
    result = run(world({"per_unit": "5 ms"}, {"amount": 4}))
    assert named(result, "encode") == pytest.approx(0.02)


def test_who_finds_no_slot_waits_at_the_encoder() -> None:
    """Three copies on two slots of 1 s: the third waits 1 s, as queueing at `encoders.enc`, which is a resource of the run."""
    result = run(world({"latency": "1 s", "replicas": 2}, copies=3))
    waits = {one.component: s for one, s in accounts(result).items() if one.category == "queueing"}
    assert waits == {"encoders.enc": pytest.approx(1.0)}
    assert total(result) == pytest.approx(2.0)
    used = [one.name for one in result.resources]
    assert "encoders.enc" in used
    busy, _, arrived, *_ = result.snapshots[-1].resources[used.index("encoders.enc")]
    assert busy == pytest.approx(3.0)
    assert arrived == 3


def test_who_is_refused_has_failed() -> None:
    """With one slot and no line, one of two copies is refused: the task fails, or goes on with one image."""
    failed = run(world({"latency": "1 s", "queue_limit": 0}, copies=2))
    assert failed.failures == {"encoders.enc: queue full": 1}
    degraded = run(world({"latency": "1 s", "queue_limit": 0}, copies=2, partial="degrade"))
    assert fact(degraded, "degraded") == 1
    assert total(degraded) == pytest.approx(1.0)


def test_preparation_on_the_gpu_is_done_in_the_slot() -> None:
    """Decoding on the GPU holds the encoder's slot; on the CPU it is done before, and who comes next finds it free sooner."""
    for where, seconds in (("gpu", 2 * (0.3 + 1.0)), ("cpu", 0.3 + 2 * 1.0)):
        preparing = {"preprocess": {"latency": "0.1 s", "per_unit": "0.1 s", "on": where}, "amount": 2}
        result = run(world({"latency": "1 s"}, preparing, copies=2))
        assert total(result) == pytest.approx(seconds)
        assert named(result, "preprocess") == pytest.approx(0.3)
        assert parts(result)["serialization"] == pytest.approx(0.3)


def test_cores_are_taken_by_preparation_on_the_cpu() -> None:
    """On a node with one core two images are decoded one after the other, and the second waits for the core."""
    there = {"network": {"nodes": {"pod": {"cores": 1}}}, "orchestrator": {"node": "pod"}}
    result = run(world({"latency": "1 s", "concurrency": 2}, {"preprocess": {"latency": "1 s"}}, copies=2), there)
    assert {(one.category, one.component): s for one, s in accounts(result).items()} == {
        ("queueing", "nodes.pod.cpu"): pytest.approx(1.0),
        ("serialization", "image"): pytest.approx(1.0),
        ("inference", "enc"): pytest.approx(1.0),
    }


def test_a_vision_tower_on_an_h100_takes_milliseconds() -> None:
    """One 384 x 384 image through SigLIP so400m takes at least what its products need at the device's peak, and under 10 ms.

    Products: 2 operations for each of about 0.4e9 parameters and 729 tokens is 0.6e12, at 989e12 /s (dense bf16, NVIDIA's
    datasheet of the H100 SXM) 0.6 ms. Eight images in one call take less than eight calls.
    """
    one, eight = (
        total(run(world({"shape": "siglip-so400m-14"}, {"amount": count}), {"profile": "h100-sxm"})) for count in (1, 8)
    )
    spec = Encoder.model_validate({"shape": "siglip-so400m-14"})
    assert spec.shape is not None
    layers = spec.shape.layer_weight_bytes("bf16", 729) / 2
    assert 2 * layers * 729 / 989e12 < one < 0.01
    assert one < eight < 8 * one


def test_sound_is_encoded_in_windows() -> None:
    """35 s of sound are two windows of 30 s for Whisper's encoder, as much as 60 s, and 1 s is one, as much as 30 s."""
    spec = Encoder.model_validate({"shape": "whisper-large-v3-encoder"})
    assert [spec.sequences(seconds) for seconds in (1.0, 30.0, 35.0, 60.0)] == [
        (1, 1500),
        (1, 1500),
        (2, 1500),
        (2, 1500),
    ]
    sound = {"kind": "audio", "amount": 35}
    result = run(world({"shape": "whisper-large-v3-encoder"}, sound), {"profile": "h100-sxm"})
    time = spec.iteration_time(read("h100-sxm"))
    assert total(result) == pytest.approx(time.encode(2, 1500))
    assert time.encode(1, 1500) < total(result)


def test_a_law_that_does_not_reach_is_a_doubt() -> None:
    """What an encoder asked its laws for beyond their fit is told with the results."""
    result = run(world({"shape": "siglip-so400m-14"}, {"amount": 64}), {"profile": "h100-sxm"})
    assert any(doubt.startswith("encoders.enc: gemm[dtype=bf16]") for doubt in result.doubts)


SERVED = {"profile": "h100-sxm", "models": {"llm": {"kind": "llm", "shape": "llama-3.1-8b"}}}


def test_an_encoder_on_the_device_of_a_model_slows_its_decoding_down() -> None:
    """While images are encoded on the device, a task that decodes there waits; on a pool of their own it does not."""
    lasted = []
    for place in ({"model": "llm"}, {"concurrency": 4}):
        patch = world({"latency": "200 ms", **place}, {"tokens": "256 tokens"})
        flow = {
            "start": "both",
            "steps": {
                "both": {"fork": ["talk", "see"]},
                "talk": {"agent": "a"},
                "see": {"perceive": ["image"]},
            },
        }
        agent = {"agents": {"a": {"model": "llm", "output": "400 tokens"}}}
        lasted.append(total(run(patch, SERVED, agent, {"workflow": flow})))
    assert lasted[1] + 0.19 < lasted[0] < lasted[1] + 0.25


def test_the_device_of_a_model_has_no_way_to_the_model() -> None:
    """A representation made on the model's device is not sent; from an encoder beside it on the same node it is."""
    slow = {"runtime": "session-state", "orchestrator": {"dispatch": "0 s"}, "network": {"loopback": "10 ms"}}
    sent = [
        fact(run(world({"latency": "1 ms", **place}, {"representation": "1 MB"}), SERVED, slow), "bytes")
        for place in ({"model": "llm"}, {})
    ]
    assert sent == [0.0, 1e6]


def test_preparation_on_the_device_of_a_model_is_told_apart() -> None:
    """Of one job of 300 ms on the model's device, 100 ms are preparation and the rest is encoding, also among the spans."""
    image = {"preprocess": {"latency": "100 ms", "on": "gpu"}}
    result = run(world({"latency": "200 ms", "model": "llm"}, image), SERVED)
    assert named(result, "preprocess") == pytest.approx(0.1)
    assert named(result, "encode") == pytest.approx(0.2)
    spans = {span.name: span.end - span.start for span in result.spans if span.name in ("preprocess", "encode")}
    assert spans == {"preprocess": pytest.approx(0.1), "encode": pytest.approx(0.2)}


def test_what_is_encoded_takes_memory_from_keys_and_values() -> None:
    """A representation that is larger than the memory for keys and values can never be encoded there: the task fails."""
    small = {"models": {"llm": {"kind": "llm", "shape": "llama-3.1-8b", "memory": {"kv": "1 GB"}}}}
    patch = world({"latency": "1 ms", "model": "llm"}, {"representation": "2 GB"})
    result = run(patch, SERVED, small)
    assert list(result.failures) == ["models.llm: what was encoded is larger than the memory for KV"]


def test_a_station_encodes_on_one_of_its_slots() -> None:
    """A model with a law in tokens has one slot: two copies encode one after the other there."""
    result = run(world({"latency": "1 s", "model": "llm"}, copies=2))
    assert total(result) == pytest.approx(2.0)
    assert {one.component for one in accounts(result) if one.category == "queueing"} == {"models.llm"}


def test_encoders_say_the_same_when_written_out() -> None:
    """A resolved scenario, with every default written, loads again."""
    for encoder in ({"latency": "1 s", "model": "llm"}, {"shape": "vit-l-14"}):
        spec = scene(world(encoder), {"profile": "h100-sxm"})
        assert type(spec).from_text(spec.to_yaml()) == spec


def test_an_encoder_says_its_time_once() -> None:
    """Neither two laws nor none, and nothing that the device of a model has of its own."""
    for encoder, told in (
        ({}, "says nothing of its time"),
        ({"latency": "1 s", "shape": "vit-l-14"}, "tells its time twice"),
        ({"shape": "vit-l-14", "per_unit": "1 s"}, "must be left out"),
        ({"latency": "1 s", "dtype": "fp8"}, "goes with `shape` only"),
        ({"latency": "1 s", "model": "llm", "replicas": 2}, "must be left out"),
    ):
        with pytest.raises(ScenarioError, match=told):
            scene(world(encoder))


def test_times_are_finite_for_every_encoder_that_has_a_preset() -> None:
    """The three presets encode one input on an H100 in more than nothing and less than a tenth of a second."""
    for name in ("vit-l-14", "siglip-so400m-14", "whisper-large-v3-encoder"):
        spec = Encoder.model_validate({"shape": name})
        seconds = spec.iteration_time(read("h100-sxm")).encode(*spec.sequences(1.0))
        assert math.isfinite(seconds)
        assert 0.0 < seconds < 0.1
