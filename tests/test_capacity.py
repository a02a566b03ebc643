"""The KV blocks of a replica: by hand, and against what a real server reports when it starts."""

import math
from typing import Any

import pytest

from coordsim.models.serving.capacity import activation_bytes, block_bytes, kv_blocks
from coordsim.models.serving.spec import Batching, Memory
from coordsim.models.shapes import Shape, preset

GIB = 2.0**30
SMALL = Shape.model_validate(
    {"layers": 2, "hidden": 8, "heads": 4, "kv_heads": 2, "head_size": 2, "mlp": 16, "vocabulary": 10}
)


def blocks(memory: float | None, shape: Shape = SMALL, batching: Any = None, own: Any = None, **more: Any) -> float:
    """Return the blocks of a device of `memory` bytes."""
    return kv_blocks(shape, memory, Batching.model_validate(batching or {}), Memory.model_validate(own or {}), **more)


def test_a_block_by_hand() -> None:
    """Keys and values of 2 layers, 2 heads of 2, 16 tokens, 2 bytes each; one byte of a narrow type."""
    assert block_bytes(SMALL, 16, "bf16", 1) == 2 * 2 * 2 * 2 * 16 * 2
    assert block_bytes(SMALL, 16, "fp8", 1) == 2 * 2 * 2 * 2 * 16
    assert block_bytes(preset("llama-3.1-8b"), 16, "bf16", 1) == 2 * 2**20  # 128 KiB a token


def test_heads_are_split_among_devices_and_copied_where_there_are_fewer() -> None:
    """8 heads on 1, 2, 4 and 8 devices, each half of the one before; on 16 every device has one of its own."""
    shape = preset("llama-3.1-8b")
    whole = block_bytes(shape, 16, "bf16", 1)
    assert [whole / block_bytes(shape, 16, "bf16", ranks) for ranks in (1, 2, 4, 8, 16)] == [1, 2, 4, 8, 8]


def test_activations_by_hand() -> None:
    """100 tokens of 2 bytes: two of the hidden size, and both halves and the product of the MLP; and 5 rows of logits."""
    assert activation_bytes(SMALL, 100, 5, 1) == 100 * 2 * (2 * 8 + 3 * 16) + 4 * 5 * 10
    assert activation_bytes(SMALL, 100, 5, 2) == 100 * 2 * (2 * 8 + 3 * 16 / 2) + 4 * 5 * 10
    plain = Shape.model_validate({**SMALL.to_data(), "gated": False, "mlp": 4})
    assert (
        activation_bytes(plain, 100, 5, 1) == 100 * 2 * (2 * 8 + (4 + 2 * 2) * 2) + 4 * 5 * 10
    )  # queries, keys, values
    experts = Shape.model_validate({**SMALL.to_data(), "experts": 4, "top_k": 2})
    assert activation_bytes(experts, 100, 5, 1) == 100 * 2 * (2 * 8 + 3 * 16 * 2) + 4 * 5 * 10


def test_what_is_left_beside_weights_and_activations() -> None:
    """Of a million bytes 90 %, less the weights, less activations; each block takes 512 bytes."""
    weights = SMALL.weight_bytes()
    assert blocks(1e6, own={"activations": "0 B"}) == (0.9e6 - weights) // 512
    assert blocks(1e6, own={"activations": "100 kB"}) == (0.8e6 - weights) // 512
    assert blocks(1e6, own={"activations": "0 B", "utilization": "50 %"}) == (0.5e6 - weights) // 512
    few = {"tokens": 300, "sequences": 5}
    assert blocks(1e6, batching=few) == (0.9e6 - weights - activation_bytes(SMALL, 300, 5, 1)) // 512


def test_a_stated_memory_is_for_all_devices_of_a_replica() -> None:
    """`kv` is divided among the devices; every device holds its heads of every block."""
    assert blocks(None, own={"kv": "51200 B"}) == 100
    assert blocks(None, own={"kv": "51200 B"}, ranks=2) == 100
    assert blocks(1.0, own={"kv": "51200 B"}, kv_dtype="fp8") == 200


def test_without_any_size_there_is_no_limit_and_too_little_is_negative() -> None:
    """Neither memory nor `kv`: as much as one likes. Weights larger than the device: no block fits."""
    assert blocks(None) == math.inf
    assert blocks(100.0) < 0


# A server of Llama-3-8B (the same shape as Llama-3.1-8B) on devices of 79.22 GiB, as it reports its memory when it starts, in GiB;
# 8192 tokens in an iteration and 256 sequences, its defaults then. Source: vllm-project/vllm, pull request 10511, comment of
# 14 December 2024.
MEMORY, WEIGHTS, OTHERS, PEAK, KV = 79.22, 14.96, 1.79, 1.26, 53.29
WEIGHTS_OF_TWO, OTHERS_OF_TWO = 7.48, 3.58


def reported(ranks: int, memory: float = MEMORY * GIB) -> float:
    """Return the GiB of KV of one device that we work out for that server."""
    shape = preset("llama-3.1-8b")
    found = blocks(memory, shape, {"tokens": 8192, "sequences": 256}, ranks=ranks)
    return found * block_bytes(shape, 16, "bf16", ranks) / GIB


def test_weights_are_those_that_a_server_reports() -> None:
    """To the last digit reported."""
    shape = preset("llama-3.1-8b")
    assert shape.weight_bytes() / GIB == pytest.approx(WEIGHTS, abs=0.006)
    assert shape.weight_bytes() / 2 / GIB == pytest.approx(WEIGHTS_OF_TWO, abs=0.006)


def test_the_kv_cache_is_what_a_server_reports() -> None:
    """We find 4 % more than it does, and 1 % more than it does once what its drivers and its framework hold is taken off."""
    assert abs(0.9 * MEMORY - WEIGHTS - OTHERS - PEAK - KV) < 0.02
    assert 1.0 < reported(1) / KV < 1.05
    assert reported(1) - OTHERS == pytest.approx(KV, rel=0.01)
    two = 0.9 * MEMORY - WEIGHTS_OF_TWO - OTHERS_OF_TWO - PEAK
    assert 1.0 < reported(2) / two < 1.08
    assert reported(2) - OTHERS_OF_TWO == pytest.approx(two, rel=0.02)
