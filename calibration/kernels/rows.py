"""Probes of kernels that stream rows: norms, softmax, activations, residual, rotary, embedding, sampling.

They are the eager kernels of torch, several for one operation where torch has no fused one: activation, rotary, sampling.

Leaves out: what a compiler or a serving engine fuses.
Checked: tests/test_kernel_probes.py.
Source: Zhang and Sennrich, NeurIPS 2019 (RMS norm); Shazeer, 2020 (gated activations); Su et al., 2021 (rotary); Fan et
al., ACL 2018 (top-k); Holtzman et al., ICLR 2020 (top-p).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it

from ..probe import Call, Found, Probe
from .common import MOST_SETS, Numbers, Place, grid, pool, probe, types

__all__ = ["choose_greedy", "choose_top_k", "choose_top_p", "found", "rotary"]

HEAD = 128  # elements that are rotated together
TOP_K, TOP_P, TEMPERATURE = 50, 0.9, 0.7
EPSILON = 1e-6
Rows = Callable[..., torch.Tensor]


def found(place: Place) -> Found:
    """Return the probes of kernels that stream rows."""
    return Found(tuple(one for dtype in types(place) for one in (*_streams(place, dtype), *_choices(place, dtype))))


def _streams(place: Place, dtype: str) -> list[Probe]:
    tokens = place.pick((1, 12, 100, 700), (1, 50, 512, 4096))
    wide = grid(tokens=tokens, hidden=place.pick((768, 2048), (1024, 4096, 8192)))
    inner = grid(tokens=tokens, inter=place.pick((1536, 4096), (3072, 14336, 28672)))
    turned = grid(tokens=tokens, width=place.pick((512, 2560), (2048, 5120, 9216)))
    across = grid(
        rows=place.pick((1, 24, 400), (1, 32, 500, 4096)), columns=place.pick((64, 300, 2048), (128, 1000, 8192))
    )
    looked_up = grid(tokens=tokens, hidden=place.pick((512, 2048), (1024, 4096, 8192)))
    kinds: list[tuple[str, dict[str, str], list[dict[str, float]], Callable[[Place, str, Numbers], Call]]] = [
        ("norm", {"kind": "rms"}, wide, partial(_norm, _rms)),
        ("norm", {"kind": "layer"}, wide, partial(_norm, _layer)),
        ("residual", {}, wide, partial(_stream, torch.add, 2, "hidden")),
        ("activation", {"kind": "silu"}, inner, partial(_stream, _silu, 2, "inter")),
        ("activation", {"kind": "gelu"}, inner, partial(_stream, _gelu, 2, "inter")),
        ("softmax", {}, across, _softmax),
        ("rotary", {}, turned, _rotary),
        ("embedding", {}, looked_up, _embedding),
    ]
    return [
        probe(place, op, {"dtype": dtype, **options}, sizes, partial(make, place, dtype))
        for op, options, sizes, make in kinds
    ]


def _choices(place: Place, dtype: str) -> list[Probe]:
    """Return the probes of sampling; their cases are fewer on the CPU, where a sort of a vocabulary takes milliseconds."""
    sizes = place.pick(
        grid(batch=(1, 2, 4), vocabulary=(5000, 32000)) + grid(batch=(1,), vocabulary=(128256,)),
        grid(batch=(1, 8, 50, 256), vocabulary=(32000, 128256, 151936)),
    )
    kinds: dict[str, Rows] = {"greedy": choose_greedy, "top-k": choose_top_k, "top-p": choose_top_p}
    return [
        probe(place, "sampling", {"dtype": dtype, "kind": kind}, sizes, partial(_sampling, choose, place, dtype))
        for kind, choose in kinds.items()
    ]


def _stream(operation: Rows, operands: int, width: str, place: Place, dtype: str, s: Numbers) -> Call:
    inputs = pool(place, dtype).sets(*[(s["tokens"], s[width])] * operands)
    count = len(inputs)

    def call(turn: int) -> None:
        operation(*inputs[turn % count])

    return call


def _silu(gate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.silu(gate) * value


def _gelu(gate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return F.gelu(gate, approximate="tanh") * value


def _norm(operation: Rows, place: Place, dtype: str, s: Numbers) -> Call:
    inputs = pool(place, dtype).sets((s["tokens"], s["hidden"]))
    (weight,) = pool(place, dtype).sets((s["hidden"],), warm=True)[0]
    count = len(inputs)

    def call(turn: int) -> None:
        operation(inputs[turn % count][0], weight)

    return call


def _rms(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(rows, weight.shape, weight, EPSILON)


def _layer(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(rows, weight.shape, weight, weight, EPSILON)


def _softmax(place: Place, dtype: str, s: Numbers) -> Call:
    inputs = pool(place, dtype).sets((s["rows"], s["columns"]))
    count = len(inputs)

    def call(turn: int) -> None:
        F.softmax(inputs[turn % count][0], -1)

    return call


def rotary(rows: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Return `rows` (tokens, heads, head size) with each pair (i, i + half) turned by the angle of its position.

    `cosine` and `sine` are (tokens, 1, half the head size).
    """
    first, second = rows.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


def _rotary(place: Place, dtype: str, s: Numbers) -> Call:
    inputs = pool(place, dtype).sets((s["tokens"], s["width"] // HEAD, HEAD))
    frequencies = 10000.0 ** -(torch.arange(0, HEAD, 2, device=place.device) / HEAD)
    angles = torch.arange(s["tokens"], device=place.device).unsqueeze(-1) * frequencies
    kind = inputs[0][0].dtype
    cosine, sine = angles.cos().to(kind).unsqueeze(1), angles.sin().to(kind).unsqueeze(1)
    count = len(inputs)

    def call(turn: int) -> None:
        rotary(inputs[turn % count][0], cosine, sine)

    return call


def _embedding(place: Place, dtype: str, s: Numbers) -> Call:
    """Look up random rows of one table as large as half the pool, which no cache holds."""
    values = pool(place, dtype).values
    rows = values.numel() // 2 // s["hidden"]
    table = values[: rows * s["hidden"]].view(rows, s["hidden"])
    moved = s["tokens"] * s["hidden"] * values.element_size()
    count = max(2, min(MOST_SETS, place.cache_bytes // moved))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(rows, (count, s["tokens"]), generator=generator).to(place.device).unbind(0)

    def call(turn: int) -> None:
        F.embedding(tokens[turn % count], table)

    return call


def _sampling(choose: Rows, place: Place, dtype: str, s: Numbers) -> Call:
    """Choose from logits with a standard deviation of 4, in float: they are widened first, as serving engines do."""
    inputs = pool(place, dtype).sets((s["batch"], s["vocabulary"]))
    scaled = [rows * 64 for (rows,) in inputs[:16]]
    count = len(scaled)

    def call(turn: int) -> None:
        choose(scaled[turn % count].float())

    return call


def choose_greedy(logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely token of each row of `logits` (batch, vocabulary), shape (batch,)."""
    return logits.argmax(-1)


def choose_top_k(logits: torch.Tensor, k: int = TOP_K, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return a token of each row drawn among the `k` most likely, shape (batch,)."""
    values, tokens = logits.topk(k, -1)
    drawn = torch.multinomial(F.softmax(values / TEMPERATURE, -1), 1, generator=generator)
    return tokens.gather(-1, drawn).squeeze(-1)


def choose_top_p(logits: torch.Tensor, p: float = TOP_P, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return a token of each row drawn among the fewest most likely ones that hold probability `p`, shape (batch,)."""
    probabilities, tokens = F.softmax(logits / TEMPERATURE, -1).sort(-1, descending=True)
    before = probabilities.cumsum(-1) - probabilities  # what the more likely tokens hold
    drawn = torch.multinomial(probabilities.masked_fill(before >= p, 0.0), 1, generator=generator)
    return tokens.gather(-1, drawn).squeeze(-1)
