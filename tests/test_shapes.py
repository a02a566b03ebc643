"""Shapes of transformers: counts of parameters, bytes and operations, against what the models' makers publish."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coordsim.models.shapes import PRESETS, Shape, preset

CONFIGS = Path(__file__).parents[2] / "shared" / "data" / "gpu" / "aiconfigurator" / "model_configs"

# Parameters in billions, with where they are published. Where a card rounds to two digits the weight files' index is
# the source: it counts every element.
PUBLISHED = {
    "llama-3.2-1b": 1.2358,  # weight files of meta-llama/Llama-3.2-1B (its card: 1.23 B)
    "llama-3.1-8b": 8.03,  # model page of meta-llama/Llama-3.1-8B
    "llama-3.1-70b": 70.6,  # model page of meta-llama/Llama-3.1-70B
    "qwen2.5-7b": 7.62,  # model page of Qwen/Qwen2.5-7B (its card: 7.61 B)
    "qwen2.5-72b": 72.7,  # card of Qwen/Qwen2.5-72B
    "qwen3-8b": 8.19,  # weight files of Qwen/Qwen3-8B (its card: 8.2 B)
    "qwen3-32b": 32.8,  # card of Qwen/Qwen3-32B
    "qwen3-30b-a3b": 30.5,  # card of Qwen/Qwen3-30B-A3B
    "mixtral-8x7b": 46.7,  # Mistral AI, "Mixtral of experts", December 2023
    "gpt-oss-120b": 116.83,  # OpenAI, gpt-oss model card, 2025, table 1
    "bert-base": 0.1095,  # weight files of google-bert/bert-base-uncased (Devlin et al.: 110 M)
    "all-minilm-l6-v2": 0.0227,  # model page of sentence-transformers/all-MiniLM-L6-v2
    "vit-l-14": 0.30397,  # open_clip, docs/model_profile.csv, ViT-L-14, image tower
    "siglip-so400m-14": 0.42823,  # open_clip, docs/model_profile.csv, ViT-SO400M-14-SigLIP-384, image tower
}

KEYS = {"layers": "num_hidden_layers", "hidden": "hidden_size", "heads": "num_attention_heads", "tied": "tie_word_embeddings",
        "kv_heads": "num_key_value_heads", "vocabulary": "vocab_size"}  # fmt: skip


def small(**changes: Any) -> Shape:
    """Return a shape whose counts can be worked out by hand."""
    sizes = {"layers": 2, "hidden": 8, "heads": 4, "kv_heads": 2, "head_size": 2, "mlp": 16, "vocabulary": 10}
    return Shape.model_validate({**sizes, **changes})


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name: str) -> None:
    """Every preset has the published count of parameters within 0.5 %."""
    assert PRESETS[name].parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)


def test_every_preset_is_checked_and_cites_its_source() -> None:
    """No preset lacks a source; only the encoder of Whisper, whose count is published with its decoder, is unchecked."""
    assert set(PRESETS) - set(PUBLISHED) == {"whisper-large-v3-encoder"}
    assert all(shape.source.startswith("config.json of ") for shape in PRESETS.values())


@pytest.mark.parametrize(("name", "billions"), [("mixtral-8x7b", 12.9), ("gpt-oss-120b", 5.13), ("qwen3-30b-a3b", 3.3)])
def test_active_parameters_are_those_published(name: str, billions: float) -> None:
    """A token meets the published number of active parameters; makers count the look-up table or not, hence 10 %."""
    assert PRESETS[name].active_parameters / 1e9 == pytest.approx(billions, rel=0.1)


@pytest.mark.parametrize(("name", "dtype", "expected"), [
    ("llama-3.1-8b", "bf16", 131072), ("llama-3.1-8b", "fp8", 65536), ("llama-3.1-70b", "bf16", 327680),
    ("qwen2.5-7b", "bf16", 57344), ("mixtral-8x7b", "bf16", 131072), ("qwen3-8b", "bf16", 147456),
])  # fmt: skip
def test_kv_bytes_of_a_token(name: str, dtype: str, expected: float) -> None:
    """Two, keys and values, x layers x KV heads x head size x bytes of an element, exactly."""
    assert PRESETS[name].kv_bytes_per_token(dtype) == expected


def test_counts_by_hand() -> None:
    """Attention 2*8*2*(4+2) = 192, gated MLP 3*8*16 = 384, norms 16 a layer and 8 after; two tables of 80."""
    assert small().parameters == 2 * (192 + 384 + 16) + 8 + 160
    assert small(gated=False, tied=True, norm="layer").parameters == 2 * (192 + 256 + 32) + 16 + 80
    assert small(experts=4, top_k=2).parameters == 2 * (192 + 4 * 384 + 32 + 16) + 8 + 160
    assert small(experts=4, top_k=2).active_parameters == 2 * (192 + 2 * 384 + 32 + 16) + 8 + 80
    assert small().weight_bytes("fp8") == small().parameters
    assert small().flops_per_token(100) == 2 * small().active_parameters + 4 * 2 * 8 * 100


def test_touched_experts() -> None:
    """One token touches top_k experts, many touch all; two of four with two tokens: 4 (1 - 1/4) = 3."""
    shape = small(experts=4, top_k=2)
    assert [shape.touched_experts(tokens) for tokens in (1, 2, 1000)] == pytest.approx([2, 3, 4])
    assert shape.layer_weight_bytes("fp8", 2) == pytest.approx(2 * (192 + 3 * 384 + 32))


def test_images_and_sounds_become_tokens() -> None:
    """ViT-L/14 makes 257 tokens of 224 pixels, SigLIP 729 of 384, and Whisper 1500 of every 30 s begun."""
    vit, siglip, whisper = (PRESETS[name] for name in ("vit-l-14", "siglip-so400m-14", "whisper-large-v3-encoder"))
    assert vit.image is not None
    assert siglip.image is not None
    assert whisper.audio is not None
    assert (vit.image.tokens(), siglip.image.tokens(), vit.image.tokens(336)) == (257, 729, 577)
    assert whisper.audio.window_tokens == 1500
    assert [whisper.audio.windows(seconds) for seconds in (0.5, 30, 31)] == [1, 1, 2]
    assert not whisper.is_causal


def test_an_unknown_preset_is_named_with_its_neighbour() -> None:
    """A slip of the pen gets a remedy, and something else the list."""
    with pytest.raises(ValueError, match=r"no shape is called 'lama-3.1-8b'; did you mean `llama-3.1-8b`\?"):
        preset("lama-3.1-8b")
    with pytest.raises(ValueError, match=r"those known are `llama-3.2-1b`, .*`whisper-large-v3-encoder`"):
        preset("xyz")
    with pytest.raises(ValueError, match="no type of elements is called 'bf61'; did you mean `bf16`"):
        small().weight_bytes("bf61")


@pytest.mark.parametrize(("change", "message"), [
    ({"kv_heads": 3}, "must divide the 4 heads; got 3"),
    ({"experts": 4}, "must be from 1 to the number of experts, 4, or be left out together with `experts`; got 0"),
    ({"experts": 4, "top_k": 5}, "must be from 1 to the number of experts, 4"),
    ({"layers": 0}, "must be a whole number >= 1"),
])  # fmt: skip
def test_an_impossible_shape_is_refused(change: dict[str, int], message: str) -> None:
    """The rule, and what was given."""
    with pytest.raises(ValidationError) as refused:
        small(**change)
    assert message in str(refused.value)


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="needs the configurations in ../shared")
@pytest.mark.parametrize(("file", "name"), [
    ("meta-llama--Meta-Llama-3.1-8B", "llama-3.1-8b"), ("meta-llama--Meta-Llama-3.1-70B", "llama-3.1-70b"),
    ("Qwen--Qwen3-8B", "qwen3-8b"), ("Qwen--Qwen3-32B", "qwen3-32b"), ("Qwen--Qwen3-30B-A3B", "qwen3-30b-a3b"),
    ("openai--gpt-oss-120b", "gpt-oss-120b"),
])  # fmt: skip
def test_presets_agree_with_the_models_own_files(file: str, name: str) -> None:
    """Layers, widths, heads, vocabulary and experts are those of config.json."""
    config = json.loads((CONFIGS / f"{file}_config.json").read_text(encoding="utf-8"))
    shape = PRESETS[name]
    assert {field: getattr(shape, field) for field in KEYS} == {field: config[key] for field, key in KEYS.items()}
    assert shape.head_size == config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    assert shape.mlp == config.get("moe_intermediate_size", config["intermediate_size"])
    assert shape.experts == config.get("num_experts", config.get("num_local_experts", 0))
    assert shape.top_k == config.get("num_experts_per_tok", 0)
