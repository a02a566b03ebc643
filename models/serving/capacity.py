"""How many KV blocks a replica has: the memory of its devices, less weights and activations.

Leaves out: fragmentation; memory that drivers and a framework keep for themselves, beyond what `utilization` leaves; copies that
a sampler makes of the logits. Together they make 5 % of a real server's KV cache, or 8 % where devices are joined.
Checked: tests/test_capacity.py, against the KV cache that a real server reports.
Source: Kwon et al., SOSP 2023 (what fills a device's memory).
"""

import math

from ..shapes import Shape, element_bytes
from .spec import Batching, Memory

__all__ = ["activation_bytes", "block_bytes", "kv_blocks"]


def activation_bytes(shape: Shape, tokens: int, sequences: int, ranks: int, dtype: str = "bf16") -> float:
    """Return the memory of one device that an iteration of so many tokens needs at its height.

    Inside an MLP both halves of its input and its output are there, beside two streams of the hidden size and the queries, keys and
    values; at the end, logits in 32 bits for every sequence, which every device has of the whole vocabulary.
    """
    size = max(2.0, element_bytes(dtype))
    inner = (3 if shape.gated else 2) * shape.mlp * max(shape.top_k, 1) / ranks
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_size / ranks
    return tokens * size * (2 * shape.hidden + max(inner, attention)) + 4.0 * sequences * shape.vocabulary


def block_bytes(shape: Shape, block: int, kv_dtype: str, ranks: int) -> float:
    """Return the bytes of one device that a block takes; KV heads are copied where there are fewer than ranks."""
    heads = math.ceil(shape.kv_heads / ranks)
    return shape.kv_bytes_per_token(kv_dtype) * heads / shape.kv_heads * block


def kv_blocks(
    shape: Shape,
    device_memory: float | None,
    batching: Batching,
    memory: Memory,
    *,
    dtype: str = "bf16",
    kv_dtype: str = "bf16",
    ranks: int = 1,
) -> float:
    """Return the blocks of a replica: infinite where neither `memory.kv` nor the device tells a size, negative where none fit."""
    each = block_bytes(shape, batching.block, kv_dtype, ranks)
    if memory.kv is not None:
        return math.floor(memory.kv / ranks / each)
    if device_memory is None:
        return math.inf
    activations = memory.activations
    if activations is None:
        activations = activation_bytes(shape, batching.tokens, batching.sequences, ranks, dtype)
    left = device_memory * memory.utilization - shape.weight_bytes(dtype) / ranks - activations
    return math.floor(left / each)
