"""Tables of Vidur: collectives by bytes, small kernels by tokens, and what an engine's step costs on the host.

A file, or the folder of one network with its files. Times are medians in ms, by the resolution of 1 us that the tables have;
sizes of collectives are bytes. Fewer devices per node than take part means that the way goes between nodes.

Leaves out: matrix products (other tables hold more shapes of them), attention, the spread within a case.
Checked: tests/test_imports.py.
Source: https://github.com/microsoft/vidur at 7d47513 (MIT); Agrawal et al., MLSys 2024.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...sim.engine.errors import Problem, ProfileError, listed
from . import physics
from .imported import Imported, Tally
from .tables import medians, numbers, refused, require, rows_of, text_of, times

__all__ = ["fits", "read"]

_MS = 1e-3
_HOST = ("schedule", "sampler_e2e", "prepare_inputs_e2e", "process_model_outputs")  # parts of a step on the host
# Nominal: NVIDIA A100 80GB SXM, H100 SXM and A40 data sheets; the link in one direction.
_DEVICES: dict[str, dict[str, Any]] = {
    "a100": {
        "memory": "80 GB",
        "memory_bandwidth": "2039 GB/s",
        "arithmetic": {"bf16": "312 TFLOP/s"},
        "link": "300 GB/s",
    },
    "h100": {
        "memory": "80 GB",
        "memory_bandwidth": "3350 GB/s",
        "arithmetic": {"bf16": "989 TFLOP/s"},
        "link": "450 GB/s",
    },
    "a40": {
        "memory": "48 GB",
        "memory_bandwidth": "696 GB/s",
        "arithmetic": {"bf16": "149.7 TFLOP/s"},
        "link": "56.25 GB/s",
    },
}


def fits(header: list[str]) -> bool:
    """Whether a CSV with this header is one of these tables."""
    names = [name.lower() for name in header]
    is_network = "collective" in names and "devices_per_node" in names
    is_compute = "time_stats.mlp_act.median" in names and "measurement_type" not in names
    return is_network or is_compute or {"schedule_median", "batch_size"} <= set(names)


def read(
    path: str | Path, *, device: str = "", dtype: str = "bf16", engine: str = "vllm-2024", tensor_parallel: int = 1
) -> Imported:
    """Return the points of a file, or of all CSV files in a folder.

    `device` is a100, h100 or a40; left out, the path tells. `dtype` names the two-byte type of small kernels, which the
    tables do not tell. `engine` names the law of a step, of which the rows of `tensor_parallel` are taken. Raises ProfileError.
    """
    where = Path(path)
    files = sorted(where.glob("*.csv")) if where.is_dir() else [where]
    if not files:
        raise refused(where, "must hold CSV files of Vidur")
    name = device or _device(where)
    tally = Tally()
    for file in files:
        _read(file, tally, dtype, engine, tensor_parallel)
    facts = (
        {"name": name, **_DEVICES[name], "source": "nominal, from NVIDIA's data sheet"} if name in _DEVICES else None
    )
    if facts is None:
        tally.note(f"the device is none of {listed(_DEVICES)}: units are not checked against its facts")
    points = physics.checked(tally.points, facts, str(where))
    laws = [one.law for one in points]
    twice = sorted({law for law in laws if laws.count(law) > 1})
    if twice:
        raise ProfileError(
            [Problem("", f"several files hold points of {listed(twice)}: read one at a time")], str(where)
        )
    tally.points = points
    if not any(one.op == "engine.step" for one in points):
        tally.note("times have a resolution of 1 us, which shows in calls of a few us")
    source = {
        "title": f"Vidur, {'/'.join(where.parts[-2:])}",
        "quality": "imported",
        "machine": name or "not told",
        "date": "2024",
        "version": "7d47513",
        "licence": "MIT",
        "link": "https://github.com/microsoft/vidur",
    }
    return tally.result(source, facts)


def _device(path: Path) -> str:
    """Return the device that the path names, the innermost part first; '' where none does."""
    for part in reversed(path.parts):
        for name in _DEVICES:
            if name in part.lower().replace("-", "_").split("_") or part.lower() == name:
                return name
    return ""


def _read(path: Path, tally: Tally, dtype: str, engine: str, tensor_parallel: int) -> None:
    frame = rows_of(path, text_of(path))
    frame.columns = pd.Index([name.lower() for name in frame.columns])
    if frame.empty:
        raise refused(path, "must have rows; got the header alone")
    if "collective" in frame:
        _network(path, frame, tally)
    elif any(name.startswith("time_stats.") for name in frame.columns):
        _compute(path, frame, dtype, tally)
    elif "schedule_median" in frame:
        _step(path, frame, engine, tensor_parallel, tally)
    else:
        raise refused(
            path, f"must be a table of collectives, of kernels or of CPU overheads; it has {listed(frame.columns)}", 1
        )


def _network(path: Path, frame: pd.DataFrame, tally: Tally) -> None:
    require(path, list(frame.columns), ["collective", "num_workers", "size", "devices_per_node"])
    for name, rows in frame.groupby("collective"):
        collective = str(name)
        if collective not in ("all_reduce", "send_recv"):
            tally.skip(f"collective {collective}", len(rows))
            continue
        column = f"time_stats.{collective}.median"
        require(path, list(frame.columns), [column])
        seconds = times(path, rows, column, _MS)
        numbers(path, rows, "size", least=1)
        workers = numbers(path, rows, "num_workers", least=2).astype(int)
        crosses = numbers(path, rows, "devices_per_node", least=1) < workers
        # Bridges join devices in pairs: more than two of such a machine meet over PCIe.
        paired = ("pairwise" in path.parent.name) & (workers > 2)
        within = np.where(paired, "pcie", "nvlink")
        cases = rows.assign(seconds=seconds, ranks=workers, via=np.where(crosses, "node", within))
        for (ranks, via), case in cases.groupby(["ranks", "via"]):
            tally.add(collective, {"ranks": str(ranks), "via": str(via)}, {"bytes": case["size"]}, case["seconds"])
            if via == "node":
                each = sorted(set(case["devices_per_node"]))
                tally.note(f"{collective} of {ranks!s} between nodes: {each[0]:g} devices in each")


def _compute(path: Path, frame: pd.DataFrame, dtype: str, tally: Tally) -> None:
    shape = ["n_head", "n_kv_head", "n_embd", "n_expanded_embd", "num_tokens", "num_tensor_parallel_workers"]
    require(path, list(frame.columns), shape)
    n = {name: numbers(path, frame, name, least=1) for name in shape}
    tokens, workers = n["num_tokens"], n["num_tensor_parallel_workers"]
    hidden = {"tokens": tokens, "hidden": n["n_embd"]}
    heads = (n["n_head"] + n["n_kv_head"]) / workers
    laws: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
        "input_layernorm": ("norm", {"kind": "rms"}, hidden),
        "mlp_act": ("activation", {"kind": "silu"}, {"tokens": tokens, "inter": n["n_expanded_embd"] / workers}),
        "add": ("residual", {}, hidden),
        "attn_rope": ("rotary", {}, {"tokens": tokens, "width": heads * n["n_embd"] / n["n_head"]}),
        "emb": ("embedding", {}, hidden),
    }
    for column in medians(frame):
        name = column.split(".")[1]
        if name in laws:
            op, options, sizes = laws[name]
            tally.add(op, {"dtype": dtype, **options}, sizes, times(path, frame, column, _MS))
        elif name == "post_attention_layernorm":
            tally.skip("second norm of a layer: as the first", len(frame))
        else:
            tally.skip(f"{name}: a product, which other tables hold over more shapes", len(frame))
    tally.note(f"the type is not told; its elements have two bytes, and it is taken as {dtype}")
    tally.note("one row holds a time of each kernel, and each counts")


def _step(path: Path, frame: pd.DataFrame, engine: str, tensor_parallel: int, tally: Tally) -> None:
    columns = [f"{name}_median" for name in _HOST]
    ray = next(
        (name for name in ("ray_comm_time_median", "ray_comm_time_mean") if name in frame), "ray_comm_time_median"
    )
    require(path, list(frame.columns), ["batch_size", "tensor_parallel_degree", *columns, ray])
    seconds = sum(times(path, frame, name, _MS) for name in [*columns, ray])
    frame = frame.assign(seconds=seconds, batch=numbers(path, frame, "batch_size", least=1))
    known = sorted(frame["tensor_parallel_degree"].unique())
    frame = tally.keep(
        frame, frame["tensor_parallel_degree"] == tensor_parallel, "another degree of tensor parallelism"
    )
    if frame.empty:
        raise refused(path, f"has no rows of tensor_parallel={tensor_parallel}; it has {listed(map(str, known))}")
    tally.add("engine.step", {"engine": engine}, {"batch": frame["batch"]}, frame["seconds"])
    parts = ", ".join([*_HOST, "ray_comm_time"])
    tally.note(f"engine.step is the sum of {parts}; models differ, and the median over them is taken at each batch")
