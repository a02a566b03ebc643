"""Iterations of transformers: times worked out by hand on a profile with round numbers, and the laws that any must keep."""

import math
from typing import Any

import numpy as np
import pytest

from coordsim.models.shapes import PRESETS, Shape
from coordsim.models.transformer import IterationTime
from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.profile.profile import Profile

FAST = "1e24 FLOP/s"  # arithmetic that never counts


def law(form: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a law of the synthetic profile."""
    return {"form": form, "source": "made", **more}


def traffic(overhead: str = "0 s", memory: str = "1 TB/s") -> dict[str, Any]:
    """Return a roofline of which only the memory counts."""
    return {"roofline": {"overhead": overhead, "compute": FAST, "memory": memory}}


LAWS: dict[str, dict[str, Any]] = {
    "gemm[dtype=bf16]": law({"sum": {"terms": {"m*n*k": "1e-12 s"}}}),
    "attention.prefill[dtype=bf16]": law({"sum": {"terms": {"batch*query*context": "2 us", "batch*query^2": "1 us"}}}),
    "attention.decode[dtype=bf16]": law({"sum": {"overhead": "10 us", "terms": {"batch*context": "1 us"}}}),
    "attention.encoder[dtype=bf16]": law({"sum": {"terms": {"batch*query^2": "3 us"}}}),
    "norm[dtype=bf16,kind=rms]": law({"constant": "1 us"}),
    "activation[dtype=bf16,kind=silu]": law({"sum": {"terms": {"tokens*inter": "1 ns"}}}),
    "residual[dtype=bf16]": law({"constant": "2 us"}),
    "rotary[dtype=bf16]": law({"sum": {"terms": {"tokens*width": "1 ns"}}}),
    "embedding[dtype=bf16]": law({"constant": "4 us"}),
    "kv.append": law({"sum": {"terms": {"bytes": "1 ns"}}}),
    "sampling[dtype=bf16,kind=greedy]": law({"constant": "5 us"}),
    "all_reduce[ranks=2,via=nvlink]": law({"sum": {"overhead": "7 us", "terms": {"bytes": "1 ns"}}}),
    "copy.device": law({"sum": {"overhead": "3 us", "terms": {"bytes": "2e-12 s"}}}),
}


def profile(*without: str, device: bool = True, **changed: dict[str, Any]) -> Profile:
    """Return the profile with its laws but for those of some operations, and with others by operation."""
    laws = {name: one for name, one in LAWS.items() if name.partition("[")[0] not in without}
    laws |= changed.pop("laws", {})
    made = {"title": "made up", "quality": "assumed", "machine": "none", "date": "2026-01-01"}
    data: dict[str, Any] = {"coordsim_profile": 1, "name": "made", "sources": {"made": made}, "laws": laws}
    if device:
        data["device"] = {"name": "made", "memory_bandwidth": "1 TB/s"}
    return Profile.model_validate(data)


def shape(**changes: Any) -> Shape:
    """Return two layers whose sizes are powers of two."""
    sizes = {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "head_size": 16, "mlp": 128, "vocabulary": 256}
    return Shape.model_validate({**sizes, **changes})


ENCODER = {
    "attention": "bidirectional",
    "rotary": False,
    "gated": False,
    "activation": "gelu",
    "norm": "layer",
    "tied": True,
}


def timing(made: Profile | None = None, of: Shape | None = None, **options: Any) -> IterationTime:
    """Return the timing of a shape on the synthetic profile."""
    return IterationTime(made or profile(), of or shape(), **options)


def layer(tokens: float) -> float:
    """Return the seconds of one layer of `shape()` without attention, by hand."""
    products = tokens * (64 * (4 + 2 * 2) * 16 + 64 * 64 + 64 * 256 + 128 * 64) * 1e-12
    streams = tokens * ((4 + 2) * 16 + 2 * 2 * 16 * 2 + 128) * 1e-9  # rotary, append of bytes, activation
    return products + streams + 2 * 1e-6 + 2 * 2e-6  # norms and residuals


def around(tokens: float, sequences: float) -> float:
    """Return the seconds before and after the layers, by hand: embedding, last norm, output table, sampling."""
    return 4e-6 + 1e-6 + sequences * 64 * 256 * 1e-12 + 5e-6


def test_decode_by_hand() -> None:
    """A layer without attention, 10 us + 1 us a cached token of attention, twice, and the ends."""
    expected = 2 * (layer(3) + 10e-6 + 3 * 100e-6 / 100 * 100) + around(3, 3)
    assert timing().decode(3, 100) == pytest.approx(expected, rel=1e-12)


def test_prefill_by_hand() -> None:
    """Two sequences of 10 tokens after 5: 2 us a pair with the cache, and 1 us a pair among the new."""
    attention = 2 * (10 * 5 * 2e-6 + 10 * 10 * 1e-6)
    assert timing().prefill(10, 5, batch=2) == pytest.approx(2 * (layer(20) + attention) + around(20, 2), rel=1e-12)


def test_prefill_after_a_longer_cache_costs_more_attention_and_nothing_else() -> None:
    """The difference is 2 layers x 10 new x 1000 cached x 2 us."""
    times = timing()
    assert times.prefill(10, 1000) - times.prefill(10) == pytest.approx(2 * 10 * 1000 * 2e-6, rel=1e-9)


def test_a_mixed_iteration_is_dense_over_all_tokens_with_attention_of_each_part() -> None:
    """Chunks of 10 after 5 and 6 after 0, and 3 decodes over 100: 19 tokens together, 5 sequences sample."""
    attention = (10 * 5 * 2e-6 + 100e-6) + 36e-6 + (10e-6 + 300e-6)
    expected = 2 * (layer(19) + attention) + around(19, 5)
    assert timing().mixed([(10, 5), (6, 0)], 3, 100) == pytest.approx(expected, rel=1e-12)


def test_mixed_without_one_part_is_the_other() -> None:
    """Only decodes are `decode`, only equal chunks are `prefill` of a batch."""
    times = timing()
    assert times.mixed([], 3, 777) == pytest.approx(times.decode(3, 777), rel=1e-12)
    assert times.mixed([(64, 32)] * 4) == times.prefill(64, 32, batch=4)


@pytest.mark.parametrize(("launch", "engine"), [("graph", None), ("eager", None)])
def test_parts_add_up_to_the_iteration(launch: Any, engine: str | None) -> None:
    """Whatever the host adds, the parts are the whole."""
    laws = {"launch": law({"constant": "1 ms"}), "graph.replay": law({"sum": {"terms": {"kernels": "1 ms"}}})}
    laws["engine.step[engine=x]"] = law({"sum": {"overhead": "1 ms", "terms": {"batch": "1 us"}}})
    times = timing(profile(laws=laws), launch=launch, engine=engine)
    parts = times.parts([(10, 5), (6, 0)], 3, 100)
    assert sum(parts.values()) == pytest.approx(times.mixed([(10, 5), (6, 0)], 3, 100), rel=1e-12)
    assert parts["host"] == pytest.approx(1e-3 + 5e-6)
    assert {"qkv", "output", "gate_up", "down", "norm", "attention.prefill", "attention.decode", "lm_head"} <= set(
        parts
    )


def test_twice_the_layers_take_exactly_twice_the_time_of_the_layers() -> None:
    """What is not in a layer stays."""
    two, four = (timing(of=shape(layers=layers)).parts([(8, 4)], 2, 50) for layers in (2, 4))
    inside = {"qkv", "output", "gate_up", "down", "rotary", "kv.append", "activation", "residual"}
    inside |= {"attention.prefill", "attention.decode"}
    for name in inside:
        assert four[name] == 2 * two[name]
    assert {four[name] / two[name] for name in ("embedding", "lm_head", "sampling")} == {1}
    assert four["norm"] - two["norm"] == pytest.approx(4 * 1e-6)  # two norms a layer


def test_two_ranks_halve_the_products_and_add_two_all_reduces_a_layer() -> None:
    """The buffer that is summed holds the hidden state of every token: 8 x 64 x 2 bytes."""
    one, two = timing().parts([(8, 0)]), timing(tensor_parallel=2).parts([(8, 0)])
    for name in ("qkv", "output", "gate_up", "down", "lm_head", "activation", "rotary", "kv.append"):
        assert two[name] == pytest.approx(one[name] / 2, rel=1e-12)
    assert two["all_reduce"] == pytest.approx(2 * 2 * (7e-6 + 8 * 64 * 2 * 1e-9), rel=1e-12)
    assert two["norm"] == one["norm"]
    assert "all_reduce" not in one


def test_ranks_beyond_the_kv_heads_keep_a_copy_of_one() -> None:
    """Four ranks of two KV heads append one each, as two ranks do."""
    laws = {"all_reduce[ranks=4,via=pcie]": law({"constant": "1 us"})}
    four = timing(profile(laws=laws), tensor_parallel=4, link="pcie").parts([(8, 0)])
    assert four["kv.append"] == timing(tensor_parallel=2).parts([(8, 0)])["kv.append"]


@pytest.mark.parametrize(("options", "message"), [
    ({"tensor_parallel": 3}, "tensor_parallel must divide the 4 heads; got 3"),
    ({"tensor_parallel": 0}, "tensor_parallel must divide the 4 heads; got 0"),
    ({"dtype": "bf61"}, "did you mean `bf16`"),
    ({"launch": "lazy"}, "launch must be graph or eager; got lazy"),
])  # fmt: skip
def test_an_impossible_layout_is_refused(options: dict[str, Any], message: str) -> None:
    """The rule, and what was given."""
    with pytest.raises(ValueError, match=message):
        timing(**options)


def test_an_iteration_without_a_token_is_refused() -> None:
    """It would take no time and mean nothing."""
    with pytest.raises(ValueError, match="needs a new token"):
        timing().mixed([])


# Experts


def test_a_law_of_experts_is_asked_for_one_ranks_share() -> None:
    """The MLP of 128 is 64 on each of two ranks."""
    laws = {"moe[dtype=bf16,load=balanced]": law({"sum": {"terms": {"tokens*inter*top_k": "1 ns"}}})}
    times = timing(profile(laws=laws), shape(experts=8, top_k=2), tensor_parallel=2)
    parts = times.parts([(10, 0)])
    assert parts["moe"] == pytest.approx(2 * 10 * 64 * 2 * 1e-9, rel=1e-12)
    assert not {"gate_up", "down", "activation"} & set(parts)


def test_experts_without_a_law_are_products_of_those_touched() -> None:
    """One token reads the weights of two experts of eight, and many of all; m x touched = tokens x top_k."""
    laws = {"gemm[dtype=bf16]": law({"sum": {"terms": {"n*k": "1e-12 s"}}})}  # weights alone count
    times = timing(profile(laws=laws), shape(experts=8, top_k=2))
    expert = (2 * 128 * 64 + 64 * 128) * 1e-12
    assert times.parts([(1, 0)])["moe"] == pytest.approx(2 * 2 * expert, rel=1e-12)
    assert times.parts([(1000, 0)])["moe"] == pytest.approx(2 * 8 * expert, rel=1e-9)
    touched = 8 * (1 - 0.75**4)
    assert times.parts([(4, 0)])["moe"] == pytest.approx(2 * touched * expert, rel=1e-12)
    work = timing(of=shape(experts=8, top_k=2)).parts([(4, 0)])["moe"]  # m*n*k alone counts
    assert work == pytest.approx(2 * 4 * 2 * expert, rel=1e-12)
    assert any(line.startswith("moe is not in the profile: derived from gemm") for line in times.missing)


# Host


def test_submission_adds_only_what_exceeds_the_device() -> None:
    """27 kernels of 1 us each hide behind 200 us of attention; of 1 ms each they are all the time there is."""
    kernels = 2 * (4 + 2 + 1 + 2 + 2) + 1 + 1 + 2 + 2  # a layer, last norm, embedding, output and sampling, attention
    quick = timing(profile(laws={"launch": law({"constant": "1 us"})}), launch="eager")
    assert quick.decode(1, 100) == timing().decode(1, 100)
    slow = timing(profile(laws={"launch": law({"constant": "1 ms"})}), launch="eager")
    assert slow.decode(1, 100) == pytest.approx(kernels * 1e-3, rel=1e-12)
    replay = timing(profile(laws={"graph.replay": law({"sum": {"overhead": "1 s", "terms": {"kernels": "1 ms"}}})}))
    assert replay.decode(1, 100) == pytest.approx(1 + kernels * 1e-3, rel=1e-12)


def test_the_engines_time_is_added_whole() -> None:
    """By sequences, of the engine that was named; with two and none named it is left out, and said."""
    step = {"sum": {"overhead": "1 ms", "terms": {"batch": "1 us"}}}
    laws = {"engine.step[engine=a]": law(step), "engine.step[engine=b]": law({"constant": "9 ms"})}
    plain = timing().decode(4, 100)
    both = profile(laws=laws)
    assert timing(both, engine="a").decode(4, 100) - plain == pytest.approx(1e-3 + 4e-6, rel=1e-9)
    assert timing(both).decode(4, 100) == plain
    assert any("has several laws of engine.step" in line for line in timing(both).missing)
    with pytest.raises(ProfileError, match=r"has no law `engine.step\[engine=c\]`; it has `engine.step\[engine=a\]`"):
        timing(both, engine="c")


# What a profile lacks


def test_a_complete_profile_misses_only_what_the_host_does() -> None:
    """Every law of the profile that applies is used, and none is derived."""
    times = timing()
    assert [line.partition(" ")[0] for line in times.missing] == ["graph.replay", "engine.step:"]
    assert set(times.laws) == set(LAWS) - {
        "copy.device", "attention.encoder[dtype=bf16]", "all_reduce[ranks=2,via=nvlink]"}  # fmt: skip


def test_a_missing_stream_is_derived_from_copies() -> None:
    """A copied byte is read and written, so 2 ps a byte are 1 ps a byte moved: 3 us + 2 x 10 x 64 x 2 B."""
    times = timing(profile("norm"))
    assert times.parts([(10, 0)])["norm"] == pytest.approx(5 * (3e-6 + 2 * 10 * 64 * 2 * 1e-12), rel=1e-6)
    assert any("norm[dtype=bf16,kind=rms] is not in the profile: derived" in line for line in times.missing)


def test_without_copies_it_is_the_nominal_bandwidth() -> None:
    """90 % of 1 TB/s; without that there is nothing to derive from."""
    times = timing(profile("norm", "copy.device"))
    assert times.parts([(10, 0)])["norm"] == pytest.approx(5 * 2 * 10 * 64 * 2 / 0.9e12, rel=1e-9)
    with pytest.raises(ProfileError, match=r"no law of `norm`.*needs a law `copy.device` or `device.memory_bandwidth`"):
        timing(profile("norm", "copy.device", device=False))


@pytest.mark.parametrize(("without", "options", "message"), [
    (("gemm",), {}, r"has no law `gemm\[dtype=bf16\]`; it has `attention.prefill`"),
    (("attention.decode",), {}, r"has no law `attention.decode\[dtype=bf16\]`"),
    ((), {"dtype": "fp8"}, r"has no law `gemm\[dtype=fp8\]`; it has `gemm\[dtype=bf16\]`"),
    ((), {"kv_dtype": "fp8"}, r"no law `attention.prefill\[dtype=bf16,kv_dtype=fp8\]`; it has `attention.prefill\[dtype"),
    ((), {"tensor_parallel": 4}, r"no law `all_reduce\[ranks=4,via=nvlink\]`; it has `all_reduce\[ranks=2,via=nvlink\]`"),
])  # fmt: skip
def test_what_cannot_be_derived_is_refused(without: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    """The error names the law and what there is instead."""
    with pytest.raises(ProfileError, match=message):
        timing(profile(*without), **options)


def test_narrow_weights_keep_wide_activations() -> None:
    """With fp8 weights, attention, streams and the output table are of bf16."""
    laws = {"gemm[dtype=fp8]": law({"sum": {"terms": {"m*n*k": "0.5e-12 s"}}})}
    wide, narrow = timing().parts([(8, 4)]), timing(profile(laws=laws), dtype="fp8").parts([(8, 4)])
    assert narrow["qkv"] == pytest.approx(wide["qkv"] / 2, rel=1e-12)
    same = {name for name in wide if narrow[name] == wide[name]}
    assert same == set(wide) - {"qkv", "output", "gate_up", "down"}


def test_a_narrow_cache_appends_fewer_bytes() -> None:
    """Half the bytes, with the law of attention of that cache."""
    laws = {f"attention.{kind}[dtype=bf16,kv_dtype=fp8]": law({"constant": "1 us"}) for kind in ("prefill", "decode")}
    parts = timing(profile(laws=laws), kv_dtype="fp8").parts([], 2, 10)
    assert parts["kv.append"] == pytest.approx(timing().parts([], 2, 10)["kv.append"] / 2, rel=1e-12)
    assert parts["attention.decode"] == pytest.approx(2e-6)


# Laws that any timing keeps


def test_sizes_beyond_a_law_are_flagged() -> None:
    """The law, the size that it was asked for and its range, also where decode is interpolated; not what lies within."""
    bounded = law(LAWS["attention.decode[dtype=bf16]"]["form"], over={"context": "1 1000", "batch": "1 8"})
    times = timing(profile(laws={"attention.decode[dtype=bf16]": bounded}))
    times.decode(8, 1000)
    times.decode(1, 3)
    assert times.flags() == []
    times.decode(4, 5000)
    flag = "attention.decode[dtype=bf16] was asked beyond the context of 1 to 1000 it was fitted on: above it by up to 5 times"
    assert times.flags() == [flag]


def test_no_iteration_beats_the_memory_unflagged() -> None:
    """Weights of 2 x 45056 parameters of 2 bytes take 0.18 us at 1 TB/s; a law that is faster is told."""
    parameters = 64 * 8 * 16 + 64 * 64 + 3 * 64 * 128
    assert timing().floor(1) == pytest.approx(2 * parameters * 2 / 1e12)
    assert timing(tensor_parallel=2).floor(1) == pytest.approx(parameters * 2 / 1e12)
    honest = timing()
    honest.decode(1, 1)
    assert honest.flags() == []
    free = {name: law({"constant": "0 s"}) for name in LAWS}
    impossible = timing(profile(laws=free))
    impossible.decode(1, 1)
    assert [line for line in impossible.flags() if "less than" in line and "read their weights" in line]


def test_decode_takes_at_least_the_reading_of_the_weights() -> None:
    """Under a roofline at the nominal bandwidth, whatever the batch and the preset."""
    made = profile(laws={"gemm[dtype=bf16]": law(traffic()), "moe[dtype=bf16]": law(traffic())})
    for name in ("llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b"):
        times = timing(made, PRESETS[name])
        for batch in (1, 7, 64):
            assert times.decode(batch, 10) >= times.floor(batch) > 0
        assert times.flags() == []


def test_decode_between_knots_is_a_chord_of_the_law() -> None:
    """Pieces of an eighth of the context: the chord of context^1.5 is off by (1/8)^2 / 8 x 1.5 x 0.5 = 0.15 % at most."""
    bent = law({"sum": {"terms": {"context^1.5": "1 ns"}}})
    times = timing(profile(laws={"attention.decode[dtype=bf16]": bent}))
    for context in np.random.default_rng(3).uniform(1, 3e6, 200):
        exact = times.mixed([], 2, float(context))
        assert times.decode(2, float(context)) == pytest.approx(exact, rel=1.5e-3)


# Encoders


def test_encode_by_hand() -> None:
    """Products over all tokens, 3 us a pair of attention, no output; a plain activation moves two thirds."""
    laws = {"norm[dtype=bf16,kind=layer]": law({"constant": "1 us"}),
            "activation[dtype=bf16,kind=gelu]": LAWS["activation[dtype=bf16,kind=silu]"]}  # fmt: skip
    times = timing(profile(laws=laws), shape(**ENCODER))
    products = 20 * (64 * 8 * 16 + 64 * 64 + 2 * 64 * 128) * 1e-12
    one = products + 20 * 128 * 2 / 3 * 1e-9 + 2 * 1e-6 + 2 * 2e-6 + 2 * 100 * 3e-6
    assert times.encode(2, 10) == pytest.approx(2 * one + 1e-6 + 4e-6, rel=1e-12)
    assert sum(times.encode_parts(2, 10).values()) == pytest.approx(times.encode(2, 10), rel=1e-12)


def test_encoders_without_a_law_of_their_attention_take_that_of_prefill() -> None:
    """As many pairs as n tokens after n/2 cached ones have: n n/2 x 2 us + n^2 x 1 us."""
    times = timing(profile("attention.encoder"), shape(**ENCODER))
    assert times.encode_parts(1, 10)["attention.encoder"] == pytest.approx(2 * (10 * 5 * 2e-6 + 100e-6), rel=1e-12)
    assert any(line.startswith("attention.encoder is not in the profile") for line in times.missing)


def test_images_and_sounds_enter_by_products() -> None:
    """A patch is 3 x 14 x 14 numbers; of sound, 3 frames of mel twice a token, then 3 hidden states."""
    vit = timing(of=PRESETS["vit-l-14"]).encode_parts(1, 257)
    assert vit["embedding"] == pytest.approx(257 * 588 * 1024 * 1e-12, rel=1e-12)
    whisper = timing(of=PRESETS["whisper-large-v3-encoder"]).encode_parts(1, 1500)
    assert whisper["embedding"] == pytest.approx(1500 * (2 * 384 + 3840) * 1280 * 1e-12, rel=1e-12)


def test_encoders_encode_and_generators_generate() -> None:
    """The other is refused with the way to ask."""
    with pytest.raises(ValueError, match="is an encoder: ask `encode`"):
        timing(of=shape(**ENCODER)).decode(1, 10)
    with pytest.raises(ValueError, match="is no encoder: ask `prefill` or `decode`"):
        timing().encode(1, 10)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_time(name: str) -> None:
    """On any profile with products, attention and copies; longer for more tokens."""
    times = timing(of=PRESETS[name])
    if PRESETS[name].is_causal:
        seconds = [times.decode(1, 100), times.decode(8, 100), times.prefill(1000)]
    else:
        seconds = [times.encode(1, 10), times.encode(1, 100), times.encode(8, 100)]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < math.inf
