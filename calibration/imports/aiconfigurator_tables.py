"""The tables of aiconfigurator, one reader each: their columns and units, and the laws that their rows are points of.

Leaves out: which table to read; `aiconfigurator` chooses.
Checked: tests/test_imports.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...sim.profile.ops import BYTES_PER_ELEMENT
from .imported import Tally
from .tables import numbers, times

__all__ = ["READERS", "Place", "Reader"]

MS = 1e-3
TYPES = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "fp8": "fp8", "fp8_block": "fp8_block",
    "nvfp4": "nvfp4", "int8": "int8",
}  # fmt: skip
_SKEWED = "power_law_1.2"  # the more skewed of the two, so that balanced and skewed are the ends of the range


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table lies, and what joins the devices that its collectives ran on."""

    path: Path
    via: str


@dataclass(frozen=True, slots=True)
class Reader:
    """A table: its family of folders, the columns it must have, and what reads its rows."""

    family: str
    columns: tuple[str, ...]
    read: Callable[[Place, pd.DataFrame, Tally], None]


def _prepared(place: Place, frame: pd.DataFrame, dtypes: str, keys: list[str], tally: Tally) -> pd.DataFrame:
    """Return the rows of types that have a name here, one kernel for each case, with seconds."""
    frame = frame.assign(seconds=times(place.path, frame, "latency", MS))
    for key in keys:
        numbers(place.path, frame, key)
    for name in sorted(set(frame[dtypes].unique()) - set(TYPES)):
        frame = tally.keep(frame, frame[dtypes] != name, f"{place.path.stem}: type {name}")
    return _fastest(place, frame, [dtypes, *keys], tally)


def _fastest(place: Place, frame: pd.DataFrame, keys: list[str], tally: Tally) -> pd.DataFrame:
    """Return, of cases measured with several kernels, the rows of the fastest kernel: the one an engine would pick."""
    if "kernel_source" not in frame or frame["kernel_source"].nunique() < 2:
        return frame
    names = [*keys, *(name for name in ("kv_cache_dtype", "distribution", "window_size") if name in frame)]
    several = frame.groupby(names)["kernel_source"].transform("nunique") > 1
    if not several.any():
        return frame
    median = frame.groupby([*names, "kernel_source"])["seconds"].transform("median")
    fastest = median == median.groupby([frame[name] for name in names]).transform("min")
    tally.note(
        f"{place.path.stem}: {int(several.sum())} rows are of cases that several kernels were timed on; the fastest is taken"
    )
    return tally.keep(frame, fastest, f"{place.path.stem}: a slower kernel of the same case")


def _gemm(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    sizes = ["m", "n", "k"]
    frame = _prepared(place, frame, "gemm_dtype", sizes, tally)
    for dtype, rows in frame.groupby("gemm_dtype"):
        tally.add("gemm", {"dtype": TYPES[str(dtype)]}, {name: rows[name] for name in sizes}, rows["seconds"])


_HEADS = ["batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "step"]


def _attention(place: Place, frame: pd.DataFrame, tally: Tally, decode: bool) -> None:
    stem = place.path.stem
    if "window_size" in frame:
        frame = tally.keep(frame, frame["window_size"] == 0, f"{stem}: sliding window")
    if "beam_width" in frame:
        frame = tally.keep(frame, frame["beam_width"] == 1, f"{stem}: beam search")
    frame = _prepared(place, frame, "attn_dtype", _HEADS, tally)
    frame = tally.keep(frame, frame["kv_cache_dtype"].isin(TYPES), f"{stem}: type of the KV cache")
    for (dtype, cache), group in frame.groupby(["attn_dtype", "kv_cache_dtype"]):
        rows = _one_kernel(group, stem, tally)
        options = {"dtype": TYPES[str(dtype)]}
        if TYPES[str(cache)] != options["dtype"] or options["dtype"] != "bf16":
            options["kv_dtype"] = TYPES[str(cache)]
        kv_heads = rows["num_key_value_heads"].where(rows["num_key_value_heads"] > 0, rows["num_heads"])
        sizes = {
            "batch": rows["batch_size"],
            "heads": rows["num_heads"],
            "kv_heads": kv_heads,  # 0 stands for as many as heads
            "head_size": rows["head_dim"],
        }
        if decode:  # `step` counts the tokens before the one that is fed in, whose key the kernel reads as well
            tally.add("attention.decode", options, {**sizes, "context": rows["step"] + rows["isl"]}, rows["seconds"])
        else:
            tally.add(
                "attention.prefill", options, {**sizes, "query": rows["isl"], "context": rows["step"]}, rows["seconds"]
            )
    if decode:
        tally.note("attention.decode: below about 30 MB the KV cache was in L2, so short ones are optimistic")


def _one_kernel(rows: pd.DataFrame, stem: str, tally: Tally) -> pd.DataFrame:
    """Return the rows of the kernel that most have: an engine takes others for a few sizes of heads, and a law is of one."""
    if "kernel_source" not in rows:
        return rows
    family = rows["kernel_source"].astype(str).str.replace(r"_(trtllm|fi)(prefill|decode)$", "", regex=True)
    main = family.mode()[0]
    for other in sorted(set(family) - {main}):
        tally.skip(f"{stem}: sizes of heads that another kernel serves ({other})", int((family == other).sum()))
    return rows[family == main]


def _prefill(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    _attention(place, frame, tally, decode=False)


def _decode(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    _attention(place, frame, tally, decode=True)


def _encoder(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    columns = {"batch": "batch_size", "heads": "num_heads", "head_size": "head_dim", "query": "isl"}
    frame = _prepared(place, frame, "attn_dtype", list(columns.values()), tally)
    for dtype, rows in frame.groupby("attn_dtype"):
        sizes = {ours: rows[theirs] for ours, theirs in columns.items()}
        tally.add("attention.encoder", {"dtype": TYPES[str(dtype)]}, sizes, rows["seconds"])


def _moe(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    keys = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size"]
    frame = tally.keep(frame, frame["moe_ep_size"] == 1, "moe_perf: experts spread over devices")
    loads = {"balanced": "balanced", _SKEWED: "skewed"}
    frame = tally.keep(
        frame, frame["distribution"].isin(loads), "moe_perf: a distribution of load between the two kept"
    )
    tally.note(f"moe: load=skewed is {_SKEWED}; inter is the width on one device, inter_size / moe_tp_size")
    frame = _prepared(place, frame, "moe_dtype", keys, tally)
    for (dtype, load), rows in frame.groupby(["moe_dtype", "distribution"]):
        sizes = {
            "tokens": rows["num_tokens"],
            "hidden": rows["hidden_size"],
            "inter": rows["inter_size"] / rows["moe_tp_size"],
            "top_k": rows["topk"],
            "experts": rows["num_experts"],
        }
        tally.add("moe", {"dtype": TYPES[str(dtype)], "load": loads[str(load)]}, sizes, rows["seconds"])


_COLLECTIVES = {
    "all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter", "alltoall": "all_to_all",
}  # fmt: skip


def _nccl(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    """Read NCCL's collectives; `message_size` counts elements of the whole buffer, which for all_gather is all ranks'."""
    frame = frame.assign(seconds=times(place.path, frame, "latency", MS))
    elements = numbers(place.path, frame, "message_size", least=1)
    numbers(place.path, frame, "num_gpus", least=2)
    frame = frame.assign(bytes=elements * frame["nccl_dtype"].map(TYPES).map(BYTES_PER_ELEMENT).to_numpy(dtype=float))
    # An int8 sum cannot be done in the switch and is up to a quarter slower; what engines send has two bytes.
    frame = tally.keep(frame, frame["nccl_dtype"] == "half", "nccl_perf: elements of one byte")
    frame = tally.keep(frame, frame["op_name"].isin(_COLLECTIVES), "nccl_perf: another collective")
    for (name, ranks), rows in frame.groupby(["op_name", "num_gpus"]):
        op = _COLLECTIVES[str(name)]
        share = float(str(ranks)) if op == "all_gather" else 1.0
        options = {"ranks": str(ranks), "via": place.via}
        tally.add(op, options, {"bytes": rows["bytes"] / share}, rows["seconds"])
    tally.note("all_gather: bytes are those of one rank, the table's buffer over the ranks")


def _custom(place: Place, frame: pd.DataFrame, tally: Tally) -> None:
    """Read an engine's own all-reduce, and keep at each size the faster of it and NCCL, as engines choose by size."""
    if "backend" in frame:
        graph = frame["backend"].str.endswith("graph")
        frame = tally.keep(frame, graph, "custom_allreduce_perf: launched one by one, not in a graph")
    frame = frame.assign(seconds=times(place.path, frame, "latency", MS))
    elements = numbers(place.path, frame, "message_size", least=1)
    frame = tally.keep(
        frame.assign(elements=elements),
        frame["allreduce_dtype"].isin(TYPES),
        "custom_allreduce_perf: type of the elements",
    )
    for ranks, rows in frame.groupby("num_gpus"):
        size = rows["allreduce_dtype"].map(TYPES).map(BYTES_PER_ELEMENT)
        options = {"ranks": str(ranks), "via": place.via}
        tally.add("all_reduce", options, {"bytes": rows["elements"] * size}, rows["seconds"])
        _faster(tally)
    tally.note(
        "all_reduce: at each size the faster of the engine's own kernel and NCCL, which engines choose between by size"
    )


def _faster(tally: Tally) -> None:
    """Join the last points with earlier ones of the same law: the least seconds at each size."""
    last = tally.points[-1]
    before = next((one for one in tally.points[:-1] if one.law == last.law), None)
    if before is None:
        return
    joint = pd.DataFrame(
        {
            "bytes": np.concatenate([before.sizes["bytes"], last.sizes["bytes"]]),
            "seconds": np.concatenate([before.seconds, last.seconds]),
        }
    )
    least = joint.groupby("bytes")["seconds"].min()
    tally.skip("all_reduce: the slower of NCCL and the engine's own kernel at a size", len(joint) - len(least))
    tally.points = [one for one in tally.points if one.law != last.law]
    tally.add(last.op, last.options, {"bytes": least.index.to_numpy(dtype=float)}, least)


_ATTENTION = (
    "batch_size",
    "isl",
    "num_heads",
    "num_key_value_heads",
    "head_dim",
    "attn_dtype",
    "kv_cache_dtype",
    "step",
    "latency",
)

READERS: dict[str, Reader] = {
    "gemm": Reader("gemm", ("gemm_dtype", "m", "n", "k", "latency"), _gemm),
    "context_attention": Reader("attention", _ATTENTION, _prefill),
    "generation_attention": Reader("attention", _ATTENTION, _decode),
    "encoder_attention": Reader(
        "encoder_attention", ("batch_size", "isl", "num_heads", "head_dim", "attn_dtype", "latency"), _encoder
    ),
    "moe": Reader(
        "moe",
        ("moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size",
         "distribution", "latency"),
        _moe,
    ),
    "nccl": Reader("comm", ("nccl_dtype", "num_gpus", "message_size", "op_name", "latency"), _nccl),
    "custom_allreduce": Reader("comm", ("allreduce_dtype", "num_gpus", "message_size", "latency"), _custom),
}  # fmt: skip
