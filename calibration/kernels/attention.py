"""Probes of attention, through torch's `scaled_dot_product_attention`: prefill, decode, encoder and cross.

Heads share keys and values (`enable_gqa`) where there are fewer KV heads. A prefill over a context is causal from the
lower right corner: new token i sees the whole context and the new tokens up to i.

Leaves out: paged caches (`kv.gather` tells what gathering costs); a cache narrower than the queries.
Checked: tests/test_kernel_probes.py, against sums written out.
Source: Vaswani et al., NeurIPS 2017; Ainslie et al., EMNLP 2023 (shared KV heads).
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from torch.nn.attention.bias import causal_lower_right

from ..probe import Call, Found
from .common import Numbers, Place, grid, pool, probe

__all__ = ["attend", "causal", "found"]

SMALL, MIDDLE, LARGE = (
    dict(zip(("heads", "kv_heads", "head_size"), sizes, strict=True))
    for sizes in ((8, 2, 64), (12, 4, 96), (32, 8, 128))
)


def found(place: Place) -> Found:
    """Return the probes of attention. fp32 is left out on CUDA, where attention in it is not what anyone serves."""
    kinds = {
        "attention.prefill": (_prefill_sizes(place), _prefill),
        "attention.decode": (_decode_sizes(place), _decode),
        "attention.encoder": (_encoder_sizes(place), _encoder),
        "attention.cross": (_cross_sizes(place), _cross),
    }
    return Found(
        tuple(
            probe(place, op, {"dtype": dtype}, sizes, partial(make, place, dtype))
            for dtype in place.pick(("fp32", "bf16"), ("bf16", "fp16"))
            for op, (sizes, make) in kinds.items()
        )
    )


def _with(shapes: list[dict[str, int]], **axes: Any) -> list[dict[str, float]]:
    return [{**shape, **sizes} for shape in shapes for sizes in grid(**axes)]


def _prefill_sizes(place: Place) -> list[dict[str, float]]:
    if place.cuda:
        shapes = [{**MIDDLE, "heads": 28, "kv_heads": 4, "head_size": 128}, LARGE]
        return _with(shapes, batch=(1, 4), query=(16, 128, 500, 2048, 8192), context=(0, 300, 2048, 16384))
    sizes = _with([SMALL], batch=(1, 3), query=(16, 100), context=(0, 60, 256))
    sizes += _with([MIDDLE], batch=(1,), query=(32, 192), context=(0, 300))
    return sizes + _with([LARGE], batch=(1,), query=(8, 50), context=(0, 128, 400))


def _decode_sizes(place: Place) -> list[dict[str, float]]:
    if place.cuda:
        shapes = [{**MIDDLE, "heads": 28, "kv_heads": 4, "head_size": 128}, LARGE]
        return _with(shapes, batch=(1, 4, 16, 50, 128), context=(100, 512, 2048, 8000, 32768))
    sizes = _with([SMALL], batch=(1, 4, 16), context=(64, 500, 2048))
    sizes += _with([MIDDLE], batch=(1, 6), context=(100, 800))
    return sizes + _with([LARGE], batch=(1, 3), context=(128, 700))


def _encoder_sizes(place: Place) -> list[dict[str, float]]:
    if place.cuda:
        return _with([{"heads": 16, "head_size": 64}], batch=(1, 4, 16, 64), query=(64, 197, 577, 1500, 3000))
    return _with([{"heads": 8, "head_size": 64}], batch=(1, 4), query=(16, 50, 128, 197))


def _cross_sizes(place: Place) -> list[dict[str, float]]:
    if place.cuda:
        shape = [{"heads": 20, "head_size": 64}]
        return _with(shape, batch=(1, 8, 32), query=(1, 32, 448), context=(100, 577, 1500, 6000))
    return _with([{"heads": 8, "head_size": 64}], batch=(1, 3), query=(1, 20), context=(64, 500))


def causal(query: int, context: int, device: str) -> dict[str, Any]:
    """Return the arguments that make attention causal from the lower right corner.

    `is_causal` alone is aligned to the upper left: with a context, new tokens would not see all of it. On CUDA torch's
    bias keeps the fused kernel; on the CPU it would build its mask anew in every call, so the mask is made here.
    """
    if context == 0:
        return {"is_causal": True}
    if device == "cuda":
        return {"attn_mask": causal_lower_right(query, query + context)}
    return {"attn_mask": torch.ones(query, query + context, dtype=torch.bool).tril(context)}


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: dict[str, Any] | None = None
) -> torch.Tensor:
    """Return attention of `query` (batch, heads, tokens, head size) over keys and values of as many heads or fewer."""
    shared = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=shared, **(how or {}))


def _ready(place: Place, dtype: str, s: Numbers, tokens: int, keys: int, how: dict[str, Any]) -> Call:
    cache = (s["batch"], s.get("kv_heads", s["heads"]), keys, s["head_size"])
    inputs = pool(place, dtype).sets((s["batch"], s["heads"], tokens, s["head_size"]), cache, cache)
    count = len(inputs)

    def call(turn: int) -> None:
        query, key, value = inputs[turn % count]
        attend(query, key, value, how)

    return call


def _prefill(place: Place, dtype: str, s: Numbers) -> Call:
    how = causal(s["query"], s["context"], place.device)
    return _ready(place, dtype, s, s["query"], s["query"] + s["context"], how)


def _decode(place: Place, dtype: str, s: Numbers) -> Call:
    return _ready(place, dtype, s, 1, s["context"], {})


def _encoder(place: Place, dtype: str, s: Numbers) -> Call:
    return _ready(place, dtype, s, s["query"], s["query"], {})


def _cross(place: Place, dtype: str, s: Numbers) -> Call:
    return _ready(place, dtype, s, s["query"], s["context"], {})
