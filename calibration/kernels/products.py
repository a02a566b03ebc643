"""Probes of matrix products: `gemm` in every type that the device has, and the experts of a layer, `moe`.

Leaves out: grouped products in fp8; products that a compiler fuses with their neighbours.
Checked: tests/test_kernel_probes.py, against torch's own count of operations and against a loop over experts.
"""

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it

from ..probe import Call, Found, Probe
from .common import Numbers, Place, grid, missing, pool, probe, types

__all__ = ["experts", "found"]

Dimensions = list[dict[str, float]]

# (n, k): squares, the projections of transformers of several widths, and shapes that are no power of two.
CPU_WEIGHTS = (
    (64, 64), (192, 256), (384, 1536), (1000, 700), (1024, 1024), (512, 2048), (3072, 768), (768, 3072),
    (2048, 2048), (4096, 1024), (1024, 4096), (4096, 4096),
)  # fmt: skip
CPU_ROWS = (1, 4, 17, 64, 200, 512)
CPU_MOST = 2**28  # multiply-adds of the largest product: some 10 ms on a core or two
CUDA_WEIGHTS = (
    (256, 256), (1024, 1024), (1000, 3000), (4096, 4096), (6144, 4096), (1280, 8192), (8192, 1024), (28672, 4096),
    (4096, 14336), (3584, 3584), (18944, 3584), (8192, 8192), (10240, 8192), (2048, 16384), (16384, 16384), (768, 3072),
)  # fmt: skip
CUDA_ROWS = (1, 2, 8, 17, 32, 64, 100, 128, 256, 500, 1024, 2048, 4096, 8192)
FP8_CAPABILITY = (8, 9)


def found(place: Place) -> Found:
    """Return the probes of products, and the types that are not measured here."""
    probes = [_gemm(place, dtype, cache) for dtype in types(place) for cache in ("cold", "warm")]
    gone = []
    if not place.cuda:
        why = "fp16 needs a CUDA device: few CPUs have arithmetic for it, and torch is many times slower without"
        gone.append(missing("gemm", {"dtype": "fp16"}, why))
    if place.capability >= FP8_CAPABILITY:
        probes.append(_gemm(place, "fp8", "cold"))
    else:
        gone.append(missing("gemm", {"dtype": "fp8"}, "fp8 needs a device of compute capability 8.9 or later"))
    experts_found = _moe(place)
    return Found((*probes, *experts_found.probes), (*gone, *experts_found.missing))


def _gemm(place: Place, dtype: str, cache: str) -> Probe:
    options = {"dtype": dtype} | ({"cache": "warm"} if cache == "warm" else {})
    product = _fp8_product if dtype == "fp8" else _product
    return probe(place, "gemm", options, _sizes(place, dtype, cache), partial(product, place, dtype, cache == "warm"))


def _sizes(place: Place, dtype: str, cache: str) -> Dimensions:
    """Return the cases: all pairs of rows and weights, few of them where the cache is warm."""
    weights, rows = place.pick(CPU_WEIGHTS, CUDA_WEIGHTS), place.pick(CPU_ROWS, CUDA_ROWS)
    chosen = [{"m": m, "n": n, "k": k} for m in rows for n, k in weights]
    if cache == "warm":
        chosen = chosen[::5]  # rows and weights both vary, since there are other than five of each
    if not place.cuda:
        return [case for case in chosen if case["m"] * case["n"] * case["k"] <= CPU_MOST]
    return [case for case in chosen if dtype != "fp8" or (case["n"] % 16 == 0 and case["k"] % 16 == 0)]


def _product(place: Place, dtype: str, warm: bool, s: Numbers) -> Call:
    inputs = pool(place, dtype).sets((s["m"], s["k"]), (s["n"], s["k"]), warm=warm)
    count = len(inputs)

    def call(turn: int) -> None:
        F.linear(*inputs[turn % count])

    return call


def _fp8_product(place: Place, dtype: str, warm: bool, s: Numbers) -> Call:
    inputs = [
        (rows, weights.t()) for rows, weights in pool(place, dtype).sets((s["m"], s["k"]), (s["n"], s["k"]), warm=warm)
    ]
    count, one = len(inputs), torch.ones((), device=place.device)

    def call(turn: int) -> None:
        rows, weights = inputs[turn % count]
        torch._scaled_mm(rows, weights, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    return call


def _moe(place: Place) -> Found:
    """Return the probes of experts; torch has grouped products since 2.10."""
    laws: list[Mapping[str, str]] = [
        {"dtype": dtype, "load": load}
        for dtype in place.pick(("fp32", "bf16"), ("bf16",))
        for load in ("balanced", "skewed")
    ]
    if not hasattr(F, "grouped_mm"):
        return Found(
            (), tuple(missing("moe", options, "needs a torch with `grouped_mm`, 2.10 or later") for options in laws)
        )
    small = grid(tokens=(1, 4, 16, 50), hidden=(256,), inter=(512,), top_k=(2,), experts=(8,))
    small += grid(tokens=(1, 7, 24), hidden=(512,), inter=(384,), top_k=(4,), experts=(16,))
    large = grid(tokens=(1, 8, 64, 300, 1024, 4096), hidden=(4096,), inter=(14336,), top_k=(2,), experts=(8,))
    large += grid(tokens=(1, 8, 64, 300, 1024, 4096), hidden=(2048,), inter=(768,), top_k=(8,), experts=(128,))
    # All experts are held, however few of them a token touches.
    held = [s for s in place.pick(small, large) if 12 * s["experts"] * s["hidden"] * s["inter"] < place.pool_bytes]
    return Found(tuple(probe(place, "moe", options, held, partial(_experts, place, options)) for options in laws))


def _experts(place: Place, options: Mapping[str, str], s: Numbers) -> Call:
    shapes = (
        (s["tokens"], s["hidden"]),
        (s["experts"], s["hidden"], 2 * s["inter"]),
        (s["experts"], s["inter"], s["hidden"]),
    )
    inputs = pool(place, options["dtype"]).sets(*shapes)
    count = len(inputs)
    routes = [_logits(place, s, options["load"], turn) for turn in range(min(count, 16))]
    top_k, different = s["top_k"], len(routes)

    def call(turn: int) -> None:
        rows, up, down = inputs[turn % count]
        experts(rows, routes[turn % different], up, down, top_k)

    return call


def _logits(place: Place, s: Numbers, load: str, turn: int) -> torch.Tensor:
    """Return router logits, shape (tokens, experts), whose choices fall evenly, or in proportion to 1, 1/2, 1/3, ...

    The largest of logits with Gumbel noise are draws in proportion to their exponentials (Gumbel, 1954).
    """
    generator = torch.Generator().manual_seed(turn)
    uniform = torch.rand(s["tokens"], s["experts"], generator=generator).clamp(1e-6, 1 - 1e-6)
    noise = -torch.log(-torch.log(uniform))
    if load == "skewed":
        noise -= torch.log(torch.arange(1.0, s["experts"] + 1.0))
    return noise.to(place.device)


def experts(rows: torch.Tensor, logits: torch.Tensor, up: torch.Tensor, down: torch.Tensor, top_k: int) -> torch.Tensor:
    """Return the weighted sum of each row's `top_k` gated experts, shape (tokens, hidden).

    `rows` are (tokens, hidden), `logits` (tokens, experts), `up` (experts, hidden, 2 · inter), `down` (experts, inter,
    hidden). The device is never waited for.
    """
    weights, chosen = torch.topk(F.softmax(logits, -1), top_k)
    by_expert, order = chosen.flatten().sort()
    ends = torch.searchsorted(by_expert, torch.arange(1, len(up) + 1, device=rows.device)).to(torch.int32)
    token = order // top_k
    gate, value = F.grouped_mm(rows.index_select(0, token), up, offs=ends).chunk(2, -1)
    outputs = F.grouped_mm(F.silu(gate) * value, down, offs=ends)
    outputs = outputs * weights.flatten().index_select(0, order).to(outputs.dtype).unsqueeze(-1)
    return torch.zeros_like(rows).index_add_(0, token, outputs)
