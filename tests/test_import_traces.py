"""Imports of traces and summaries of kernels: products by their shapes, other kernels by a map of names, all of them listed."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from coordsim.calibration.imports import chrome_trace, detect, nsys

from .test_imports import counted, law, refusal, saved, valid

NSYS = """Processing [report.sqlite] with [cuda_gpu_kern_sum.py]...

Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
75.0,300000,3,100000.0,90000.0,80000,130000,2.0,"void flash_fwd<128, bf16>(Params)"
25.0,100000,10,10000.0,9000.0,8000,13000,2.0,elementwise
"""
MAP = """
kernels:
  - name: "*flash_fwd*"
    op: attention.prefill
    options: {dtype: bf16}
    sizes: {batch: 1, heads: 32, kv_heads: 8, head_size: 128, query: 2048, context: 0}
"""


def operator(name: str, at: float, dur: float, dims: list[Any], dtype: str, number: int) -> dict[str, Any]:
    """Return an operator of a trace, recorded with shapes."""
    args = {"Input Dims": dims, "Input type": [dtype] * len(dims), "External id": number}
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "ts": at, "dur": dur, "args": args}


def kernel(name: str, dur: float, **args: int) -> dict[str, Any]:
    """Return a kernel of a trace."""
    named = {key.replace("_", " "): value for key, value in args.items()}
    return {"ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": 7, "ts": 0, "dur": dur, "args": named}


def trace(tmp_path: Path, events: Iterable[dict[str, Any]], name: str = "trace.json") -> Path:
    """Write a trace of a GPU."""
    devices = [{"name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85_000_000_000}]
    return saved(tmp_path, name, json.dumps({"deviceProperties": devices, "traceEvents": list(events)}))


BF16 = "c10::BFloat16"


def test_a_product_takes_the_time_of_its_kernels(tmp_path: Path) -> None:
    """A linear layer calls addmm, which launches two kernels; it is one product of (8, 64) by (64, 32)."""
    launch = {"ph": "X", "cat": "cuda_runtime", "name": "launch", "ts": 2, "dur": 1}
    events = [
        operator("aten::linear", 0, 100, [[2, 4, 64], [32, 64]], BF16, 1),
        operator("aten::addmm", 10, 80, [[32], [8, 64], [64, 32]], BF16, 2),
        operator("aten::bmm", 200, 10, [[4, 8, 64], [4, 64, 8]], BF16, 3),
        {**launch, "args": {"correlation": 9, "External id": 2}},
        kernel("gemm", 5.0, External_id=2),
        kernel("reduce", 1.0, correlation=9),
        kernel("flash_fwd", 7.0, External_id=3),
        kernel("flash_fwd", 9.0),
        kernel("other", 3.0),
    ]
    rules = saved(tmp_path, "map.yaml", MAP)
    found = detect.read(trace(tmp_path, events), kernels=rules)
    valid(found)
    gemm = law(found, "gemm[dtype=bf16]")
    assert {name: float(values[0]) for name, values in gemm.sizes.items()} == {"m": 8, "n": 32, "k": 64}
    assert gemm.seconds == pytest.approx([6e-6])
    assert law(found, "attention.prefill[dtype=bf16]").seconds == pytest.approx([8e-6])
    assert sum(kernel.count for kernel in found.kernels) == 5
    assert found.skipped["kernels that are seen, but in no law"] == 1
    assert found.skipped["a batch of products, which is not one"] == 1
    assert found.device is not None
    assert found.device["name"] == "NVIDIA H100 80GB HBM3"


def test_a_zipped_trace_and_a_bare_list_of_events_are_read(tmp_path: Path) -> None:
    """Both are forms that tools write."""
    events = [operator("aten::mm", 0, 100, [[8, 64], [64, 32]], "float", 1)]
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps(events).encode()))
    assert law(chrome_trace.read(path), "gemm[dtype=fp32]").seconds == pytest.approx([100e-6])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"traceEvents": [{"ph": "X", ', "must be a whole JSON file"),
        ('{"events": []}', "must be a Chrome trace"),
        ('{"traceEvents": [{"ph": "X", "cat": "x"}]}', "must hold operators or kernels"),
        (
            '[{"ph": "X", "cat": "kernel", "name": "k", "ts": 0, "dur": -5}]',
            "k: must have `name`, `ts` and a `dur` >= 0",
        ),
    ],
)
def test_a_bad_trace_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """Cut off, another JSON, a trace of something else, a time that cannot be."""
    path = saved(tmp_path, "trace.json", text)
    assert told in refusal(lambda: detect.read(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_trace_that_torch_writes_is_read(tmp_path: Path) -> None:
    """Three products and three linear layers on the CPU become two points of three repetitions each."""
    torch = pytest.importorskip("torch")
    left, right, layer = torch.randn(64, 128), torch.randn(128, 32), torch.nn.Linear(128, 256)
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.no_grad(), torch.profiler.profile(activities=cpu, record_shapes=True) as profile:
        for _ in range(3):
            torch.mm(left, right)
            layer(left)
    path = tmp_path / "trace.json"
    profile.export_chrome_trace(str(path))
    found = detect.read(path)
    valid(found)
    gemm = law(found, "gemm[dtype=fp32]")
    assert [(m, n, k) for m, n, k in zip(*gemm.sizes.values(), strict=True)] == [(64, 32, 128), (64, 256, 128)]
    assert [len(ratios) for ratios in gemm.ratios] == [3, 3]
    assert found.device == {"name": "cpu"}


def test_a_summary_of_kernels_is_in_the_unit_of_its_header(tmp_path: Path) -> None:
    """90000 ns is 90 us; what the map does not know is listed and counted."""
    rules = saved(tmp_path, "map.yaml", MAP)
    found = detect.read(saved(tmp_path, "sum.csv", NSYS), kernels=rules)
    valid(found)
    assert law(found, "attention.prefill[dtype=bf16]").seconds == pytest.approx([90e-6])
    assert [(one.count, one.law) for one in found.kernels] == [(3, "attention.prefill[dtype=bf16]"), (10, "")]
    assert counted(found) == 2
    in_ms = NSYS.replace("(ns)", "(ms)")
    assert nsys.read(saved(tmp_path, "ms.csv", in_ms)).kernels[0].median == pytest.approx(90.0)


def test_a_trace_of_calls_keeps_their_spread(tmp_path: Path) -> None:
    """Two calls of 1 and 3 us: median 2 us, ratios 0.5 and 1.5."""
    text = "Start (ns),Duration (ns),Device,Name\n0,1000,A,flash_fwd\n5000,3000,A,flash_fwd\n"
    found = detect.read(saved(tmp_path, "trace.csv", text), kernels=saved(tmp_path, "map.yaml", MAP))
    one = law(found, "attention.prefill[dtype=bf16]")
    assert one.seconds == pytest.approx([2e-6])
    assert one.ratios[0] == pytest.approx([0.5, 1.5])
    assert found.source["machine"] == "A"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("Med (ns)", "Med"), "1  must have its unit in the header, as `Med (ns)`; got `Med`, without one"),
        (("Med (ns)", "Med (h)"), "got `Med (h)`"),
        (("Instances", "Instance"), "must have a column `Instances`; did you mean `Instance`?"),
        (("90000.0", "0"), "4  Med (ns): must be a latency > 0; got 0"),
        ((",2.0,elementwise", ""), "5  must have 9 fields"),
    ],
)
def test_a_bad_summary_says_where(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    """Lines are those of the file, with what nsys printed before the table."""
    path = saved(tmp_path, "sum.csv", NSYS.replace(*change))
    assert told in refusal(lambda: nsys.read(path))


def test_a_bad_map_names_every_mistake(tmp_path: Path) -> None:
    """An operation, an option and a size that do not exist, and sizes that are missing."""
    text = """
kernels:
  - {name: a, op: gem, sizes: {}}
  - {name: b, op: gemm, options: {dtyp: bf16}, sizes: {m: 1, n: 1, q: 1}}
"""
    rules = saved(tmp_path, "map.yaml", text)
    message = refusal(lambda: nsys.read(saved(tmp_path, "sum.csv", NSYS), kernels=rules))
    for told in ("did you mean `gemm`?", "did you mean `dtype`?", "no size `q`", "`k` is missing"):
        assert told in message
