"""The operations a profile can hold laws of: kernels, copies, collectives, crossings of boundaries.

An operation has sizes, which its law is a function of, and options, which pick the law: `gemm[dtype=bf16]` over m, n, k.
Sizes are in tokens, bytes, counts, pixels or seconds. `flops` and `bytes_moved` of a call follow from its sizes and options,
and so do, for products and attention, the tiles that a GPU works through: `padded_flops` counts whole tiles, `tiles` them.

Leaves out: how long anything takes; laws say that. Bytes count each operand once, as if no cache missed twice. Tiles are
those of common kernels (128 wide, 64 or 16 for few rows), and not each kernel's own.
Checked: tests/test_profile.py.
Source of the counts: Williams et al., CACM 2009 (roofline); Pope et al., MLSys 2023 (transformer inference); NVIDIA,
"Matrix Multiplication Background User's Guide" (tile and wave quantization).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["BYTES_PER_ELEMENT", "HOST", "OPS", "Op", "Sizes", "larger", "law_name", "split_name"]

Sizes = Mapping[str, Any]  # name -> a number, or an array of them
Options = Mapping[str, str]
Work = Callable[[Sizes, Options], tuple[Any, Any]]  # -> (floating point operations, bytes moved)
Derived = Callable[[Sizes], Any]

BYTES_PER_ELEMENT: dict[str, float] = {
    "fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "int8": 1.0,
    "nvfp4": 0.5625, "mxfp4": 0.53125, "int4": 0.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: what it is, its sizes with their units, and its options with what each means."""

    name: str
    what: str
    sizes: Mapping[str, str]
    options: Mapping[str, str]
    work: Work | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)


def element(options: Options, name: str = "dtype") -> float:
    """Return the bytes of an element of the type that an option names; 2 where it names none."""
    return BYTES_PER_ELEMENT.get(options.get(name, "bf16"), 2.0)


def _output(options: Options) -> float:
    """Return the bytes of an element of a result: narrow types are widened to two bytes."""
    return max(2.0, element(options))


def _gemm(s: Sizes, o: Options) -> tuple[Any, Any]:
    m, n, k = s["m"], s["n"], s["k"]
    return 2.0 * m * n * k, element(o) * (m * k + n * k) + _output(o) * m * n


def _attention(s: Sizes, queries: Any, keys: Any, pairs: Any, o: Options) -> tuple[Any, Any]:
    heads, kv_heads, head = s["heads"], s.get("kv_heads", s["heads"]), s["head_size"]
    cache = element(o, "kv_dtype") if "kv_dtype" in o else element(o)
    moved = 2.0 * queries * heads * head * element(o) + 2.0 * keys * kv_heads * head * cache
    return 4.0 * s["batch"] * heads * head * pairs, s["batch"] * moved


def _prefill(s: Sizes, o: Options) -> tuple[Any, Any]:
    query, context = s["query"], s.get("context", 0.0)
    return _attention(s, query, query + context, query * context + 0.5 * query * (query + 1.0), o)


def _decode(s: Sizes, o: Options) -> tuple[Any, Any]:
    return _attention(s, 1.0, s["context"], s["context"], o)


def _encoder(s: Sizes, o: Options) -> tuple[Any, Any]:
    return _attention(s, s["query"], s["query"], s["query"] * s["query"], o)


def _cross(s: Sizes, o: Options) -> tuple[Any, Any]:
    return _attention(s, s["query"], s["context"], s["query"] * s["context"], o)


def _whole(x: Any, tile: Any) -> Any:
    """Return x rounded up to whole tiles."""
    return -(-x // tile) * tile


def _count(x: Any, tile: float) -> Any:
    """Return how many tiles hold x."""
    return -(-x // tile)


def larger(a: Any, b: Any) -> Any:
    """Return the larger, of numbers quickly and of arrays element by element."""
    return np.maximum(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else max(a, b)


def _gemm_padded(s: Sizes) -> Any:
    m = s["m"]
    rows = _whole(m, 16.0 + 48.0 * (m > 64))
    return 2.0 * rows * _whole(s["n"], 64) * s["k"]


def _prefill_padded(s: Sizes) -> Any:
    query = _whole(s["query"], 128)
    return 4.0 * s["batch"] * s["heads"] * s["head_size"] * query * (s.get("context", 0.0) + query / 2 + 64)


def _decode_padded(s: Sizes) -> Any:
    heads = larger(s["heads"], 16.0 * s["kv_heads"])
    return 4.0 * s["batch"] * heads * s["head_size"] * _whole(s["context"], 64)


def _touched(s: Sizes) -> Any:
    """Return the experts of a layer that some token is expected to fall on, were each as likely."""
    return s["experts"] * (1.0 - (1.0 - s["top_k"] / s["experts"]) ** s["tokens"])


def _moe_padded(s: Sizes) -> Any:
    touched = _touched(s)
    rows = _whole(s["tokens"] * s["top_k"] / larger(touched, 1e-9), 16.0)
    return 6.0 * touched * rows * s["hidden"] * s["inter"]


_GEMM_TILES: dict[str, Derived] = {
    "padded_flops": _gemm_padded,
    "tiles": lambda s: _count(s["m"], 128) * _count(s["n"], 128),
    "wide_tiles": lambda s: _count(s["m"], 128) * _count(s["n"], 256),
}
_PREFILL_TILES: dict[str, Derived] = {
    "padded_flops": _prefill_padded,
    "tiles": lambda s: s["batch"] * s["heads"] * _count(s["query"], 128),
    "keys": lambda s: s["query"] + s.get("context", 0.0),
}
_DECODE_TILES: dict[str, Derived] = {
    "padded_flops": _decode_padded,
    "tiles": lambda s: s["batch"] * s["kv_heads"],
}
_ENCODER_TILES: dict[str, Derived] = {
    "padded_flops": lambda s: 4.0 * s["batch"] * s["heads"] * s["head_size"] * _whole(s["query"], 128) ** 2,
    "tiles": lambda s: s["batch"] * s["heads"] * _count(s["query"], 128),
}
_MOE_TILES: dict[str, Derived] = {
    "padded_flops": _moe_padded,
    "touched": _touched,
    "rows_per_expert": lambda s: s["tokens"] * s["top_k"] / larger(_touched(s), 1e-9),
}


def _moe(s: Sizes, o: Options) -> tuple[Any, Any]:
    routed = s["tokens"] * s["top_k"]
    weights = 3.0 * s["hidden"] * s["inter"]
    experts = _touched(s)
    return 2.0 * routed * weights, element(o) * (experts * weights + routed * (2.0 * s["hidden"] + 3.0 * s["inter"]))


def _rows(reads: float, writes: float, flops: float, width: str, count: str = "tokens") -> Work:
    """Return the work of a kernel that streams rows: elements read and written, and operations, per element."""

    def work(s: Sizes, o: Options) -> tuple[Any, Any]:
        cells = s[count] * s[width]
        return flops * cells, (reads + writes) * cells * element(o)

    return work


def _bytes(s: Sizes, _options: Options) -> tuple[Any, Any]:
    return 0.0 * s["bytes"], s["bytes"]


_DTYPE = {"dtype": "type of the elements: fp32, bf16, fp16, fp8, ..."}
_ATTENTION = {"batch": "sequences", "heads": "heads", "kv_heads": "heads", "head_size": "elements"}
_SIZE = {"bytes": "bytes"}
_RANKS = {"ranks": "devices that take part", "via": "nvlink, pcie, node (between machines), host"}
_CODEC = {"codec": "json, orjson, msgpack, pickle, protobuf, arrow, torch, base64"}

_LIST = (
    # Kernels of a transformer
    Op("gemm", "matrix product of (m, k) by (k, n); weights not in cache unless `cache=warm`",
       {"m": "rows", "n": "columns", "k": "elements"}, {**_DTYPE, "cache": "cold (left out) or warm"}, _gemm, _GEMM_TILES),
    Op("attention.prefill", "causal attention of `query` new tokens over `context` cached ones and themselves",
       {**_ATTENTION, "query": "tokens", "context": "tokens"}, {**_DTYPE, "kv_dtype": "type of the KV cache"}, _prefill,
       _PREFILL_TILES),
    Op("attention.decode", "attention of one new token per sequence over `context` cached ones",
       {**_ATTENTION, "context": "tokens"}, {**_DTYPE, "kv_dtype": "type of the KV cache"}, _decode,
       _DECODE_TILES),
    Op("attention.encoder", "attention of all tokens over all",
       {"batch": "sequences", "heads": "heads", "head_size": "elements", "query": "tokens"}, _DTYPE, _encoder,
       _ENCODER_TILES),
    Op("attention.cross", "attention of `query` tokens of one modality over `context` of another (fusion)",
       {"batch": "sequences", "heads": "heads", "head_size": "elements", "query": "tokens", "context": "tokens"},
       _DTYPE, _cross),
    Op("moe", "experts of one layer: routing, grouped products, weighted sum",
       {"tokens": "tokens", "hidden": "elements", "inter": "elements", "top_k": "experts", "experts": "experts"},
       {**_DTYPE, "load": "how tokens fall on experts: balanced, skewed"}, _moe, _MOE_TILES),
    Op("norm", "normalization of rows", {"tokens": "tokens", "hidden": "elements"},
       {**_DTYPE, "kind": "rms or layer"}, _rows(1, 1, 4, "hidden")),
    Op("activation", "gated activation: two inputs, one output, per element of the MLP",
       {"tokens": "tokens", "inter": "elements"}, {**_DTYPE, "kind": "silu or gelu"}, _rows(2, 1, 5, "inter")),
    Op("residual", "sum of two streams", {"tokens": "tokens", "hidden": "elements"}, _DTYPE, _rows(2, 1, 1, "hidden")),
    Op("rotary", "rotary position embedding of queries and keys",
       {"tokens": "tokens", "width": "elements"}, _DTYPE, _rows(1, 1, 6, "width")),
    Op("embedding", "look-up of rows", {"tokens": "tokens", "hidden": "elements"}, _DTYPE, _rows(1, 1, 0, "hidden")),
    Op("softmax", "softmax of rows", {"rows": "rows", "columns": "elements"}, _DTYPE,
       _rows(1, 1, 5, "columns", "rows")),
    Op("sampling", "choice of the next token from logits", {"batch": "sequences", "vocabulary": "elements"},
       {**_DTYPE, "kind": "greedy, top-k or top-p"}, _rows(2, 1, 8, "vocabulary", "batch")),
    Op("kv.append", "new keys and values into the cache", _SIZE, {}, _bytes),
    Op("kv.gather", "scattered blocks of the cache into one place", _SIZE, {}, _bytes),
    Op("kv.copy", "blocks of the cache to another place on the device", _SIZE, {}, _bytes),
    # The device and its host
    Op("launch", "host time to launch a kernel", {}, {}),
    Op("graph.replay", "replay of a recorded graph", {"kernels": "kernels"}, {}),
    Op("synchronize", "waiting for a device that is idle", {}, {}),
    Op("copy.host-to-device", "copy to the device", _SIZE, {"memory": "pinned or pageable"}, _bytes),
    Op("copy.device-to-host", "copy from the device", _SIZE, {"memory": "pinned or pageable"}, _bytes),
    Op("copy.device", "copy within the device; bytes are those of the source", _SIZE, {}, _bytes),
    Op("engine.step", "host time of a serving engine per iteration", {"batch": "sequences"}, {"engine": "its name"}),
    # Collectives; bytes are those of the buffer of one rank
    *(Op(name, what, _SIZE, _RANKS, _bytes) for name, what in (
        ("all_reduce", "sum of the ranks' buffers, to all"), ("all_gather", "the ranks' buffers put together, to all"),
        ("reduce_scatter", "sum of the ranks' buffers, a part to each"),
        ("all_to_all", "a part of each rank's buffer to each other"), ("send_recv", "a buffer from one rank to another"))),
    # Modalities
    Op("vision.patch_embedding", "image to patch tokens", {"images": "images", "side": "pixels"}, _DTYPE),
    Op("vision.block", "one block of a vision transformer over the patches of an image",
       {"images": "images", "side": "pixels"}, {**_DTYPE, "width": "hidden size"}),
    Op("audio.log_mel", "log-mel spectrogram", {"seconds": "seconds"}, _DTYPE),
    Op("audio.front_end", "convolutions before an audio encoder", {"seconds": "seconds"}, _DTYPE),
    Op("audio.block", "one block of an audio encoder", {"seconds": "seconds"}, {**_DTYPE, "width": "hidden size"}),
    Op("video.sample", "choosing and resizing frames", {"frames": "frames", "side": "pixels"}, _DTYPE),
    Op("video.patch_embedding", "frames to patch tokens, in pairs", {"frames": "frames", "side": "pixels"}, _DTYPE),
    Op("text.tokenize", "text to tokens, on the host", _SIZE, {"how": "what tokenizes"}),
    Op("table.decode", "columns from their stored form", _SIZE, {"format": "arrow, parquet, csv"}),
    Op("table.group_by", "sums by group", {"rows": "rows"}, {}),
    # Coordination
    Op("encode", "object to bytes; bytes are those of the encoded form", _SIZE, _CODEC),
    Op("decode", "bytes to object; bytes are those of the encoded form", _SIZE, _CODEC),
    Op("cross", "a message and its answer across a boundary: round trip of `bytes` out and a short answer", _SIZE,
       {"via": "call, asyncio, thread, pipe, unix, tcp, http, http-new", "load": "idle (left out) or busy"}),
    Op("spawn", "start of a process until it answers", {}, {"what": "the program"}),
    Op("checkpoint", "state written so that it survives", _SIZE, {"store": "sqlite, file"}),
    Op("timer", "a sleep, as it lasts, with its overshoot", {"seconds": "seconds"}, {"via": "sleep, asyncio"}),
    Op("fork_join", "starting `branches` empty branches and joining them", {"branches": "branches"},
       {"via": "asyncio, threads, processes"}),
    Op("co_run", "a fixed piece of work beside `busy` busy processes", {"busy": "processes"}, {}),
    Op("hand_off", "a host buffer to the device and a word back", _SIZE, {}),
)  # fmt: skip

OPS: dict[str, Op] = {op.name: op for op in _LIST}
HOST = frozenset({
    "engine.step", "text.tokenize", "table.decode", "table.group_by", "encode", "decode", "cross", "spawn", "checkpoint",
    "timer", "fork_join", "co_run",
})  # fmt: skip
"""Operations of the host; all others are of the device that computes."""


def law_name(op: str, options: Options) -> str:
    """Return `gemm[dtype=bf16]`: the name of the law of an operation with these options, in the order of their names."""
    inside = ",".join(f"{name}={options[name]}" for name in sorted(options))
    return f"{op}[{inside}]" if inside else op


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """Return the operation and the options in the name of a law. Raises ValueError with the rule."""
    op, bracket, inside = name.partition("[")
    if bracket and not inside.endswith("]"):
        raise ValueError(f"must be written as `gemm[dtype=bf16]`; got `{name}`")
    options: dict[str, str] = {}
    for part in inside.removesuffix("]").split(",") if bracket else ():
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key in options:
            raise ValueError(f"must be written as `gemm[dtype=bf16]`, each option once; got `{name}`")
        options[key] = value
    return op, options
