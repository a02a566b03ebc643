"""Imports: what others measured becomes points in seconds and bytes; every row is kept or counted; bad input says where."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from coordsim.calibration.imports import aiconfigurator, detect, frontier, physics, vidur
from coordsim.calibration.imports.imported import Imported
from coordsim.calibration.samples import Points
from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.profile.ops import OPS, split_name
from coordsim.sim.profile.profile import Device, Source

GPU_DATA = Path(__file__).parents[2] / "shared" / "data" / "gpu"
needs_data = pytest.mark.skipif(not GPU_DATA.is_dir(), reason="the measured tables of others are not here")

FACTS = """
gpu: {mem_bw: 3350000000000, mem_capacity: 85899345920, bfloat16_tc_flops: 989000000000000, fp8_tc_flops: 1978000000000000}
node: {num_gpus_per_node: 8, inter_node_bw: 50000000000, intra_node_bw: 450000000000, pcie_bw: 64000000000}
"""
# A product of 4096^3 in bf16 takes 0.139 ms at the nominal rate of FACTS, one of m=1 0.010 ms at its bandwidth.
GEMM = pd.DataFrame(
    {
        "framework": "VLLM",
        "device": "NVIDIA H100 80GB HBM3",
        "kernel_source": ["a", "a", "b", "a", "a"],
        "gemm_dtype": ["bfloat16", "bfloat16", "bfloat16", "fp8", "int4_wo"],
        "m": [4096, 1, 1, 4096, 1],
        "n": 4096,
        "k": 4096,
        "latency": [0.18, 0.014, 0.013, 0.1, 0.01],
    }
)


def write(folder: Path, tables: dict[str, pd.DataFrame], facts: str = FACTS) -> Path:
    """Write tables of one GPU as aiconfigurator has them, and return its folder."""
    gpu = folder / "x100_sxm"
    for where, frame in tables.items():
        path = gpu / f"{where}_perf.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)
    (folder / "x100_sxm.yaml").write_text(facts)
    return gpu


def saved(folder: Path, name: str, text: str) -> Path:
    """Write a text and return its path."""
    path = folder / name
    path.write_text(text)
    return path


def law(found: Imported, name: str) -> Points:
    """Return the points of one law."""
    (one,) = [points for points in found.points if points.law == name]
    return one


def counted(found: Imported) -> int:
    """Return the rows that are in points or counted as left out."""
    return sum(map(len, found.points)) + sum(found.skipped.values())


def valid(found: Imported) -> None:
    """Assert that what was read can become a profile: known laws with every size, and valid facts."""
    Source.model_validate(found.source)
    if found.device is not None:
        Device.model_validate(found.device)
    names = [one.law for one in found.points]
    assert len(names) == len(set(names))
    for one in found.points:
        op, options = split_name(one.law)
        assert set(one.sizes) == set(OPS[op].sizes)
        assert set(options) <= set(OPS[op].options)
        assert all(len(values) == len(one) for values in one.sizes.values())
        assert np.all(one.seconds > 0)


def refusal(call: Callable[[], Any]) -> str:
    """Return the message of the ProfileError that a call must raise."""
    with pytest.raises(ProfileError) as caught:
        call()
    return str(caught.value)


def test_products_are_in_seconds_by_type_and_every_row_counts(tmp_path: Path) -> None:
    """0.18 ms is 180 us; of two kernels of one case the faster stays; a type without a name here is counted."""
    found = aiconfigurator.read(write(tmp_path, {"gemm/vllm/0.24.0/gemm": GEMM}))
    valid(found)
    assert law(found, "gemm[dtype=bf16]").seconds == pytest.approx([13e-6, 180e-6])
    assert law(found, "gemm[dtype=fp8]").sizes["m"] == [4096]
    assert found.skipped == {"gemm_perf: type int4_wo": 1, "gemm_perf: a slower kernel of the same case": 1}
    assert counted(found) == len(GEMM)
    assert found.source["machine"] == "NVIDIA H100 80GB HBM3"


def test_nominal_facts_become_a_device(tmp_path: Path) -> None:
    """The facts beside the folder, in base units."""
    found = aiconfigurator.read(write(tmp_path, {"gemm/vllm/0.24.0/gemm": GEMM}))
    device = Device.model_validate(found.device)
    assert (device.memory_bandwidth, device.link, device.per_node) == (3.35e12, 450e9, 8)
    assert device.arithmetic == {"bf16": 989e12, "fp8": 1978e12}


def test_decode_attends_to_step_and_the_new_token(tmp_path: Path) -> None:
    """`step` 1023 is a context of 1024; 0 KV heads stand for as many as heads; windows are counted."""
    rows = {
        "batch_size": 8, "isl": 1, "num_heads": 32, "num_key_value_heads": [8, 0, 8], "head_dim": 128, "attn_dtype": "bfloat16",
        "kv_cache_dtype": ["bfloat16", "fp8", "fp8"], "step": [1023, 511, 511], "window_size": [0, 0, 128],
        "latency": [0.02, 0.05, 0.01],
    }  # fmt: skip
    found = aiconfigurator.read(write(tmp_path, {"attention/vllm/0.1/generation_attention": pd.DataFrame(rows)}))
    valid(found)
    assert law(found, "attention.decode[dtype=bf16]").sizes["context"] == [1024]
    assert law(found, "attention.decode[dtype=bf16,kv_dtype=fp8]").sizes["kv_heads"] == [32]
    assert found.skipped == {"generation_attention_perf: sliding window": 1}


def test_experts_have_the_width_on_one_device(tmp_path: Path) -> None:
    """inter_size 2048 over 4 devices is 512; the more skewed of two distributions is the skewed one."""
    rows = {
        "moe_dtype": "bfloat16", "num_tokens": 64, "hidden_size": 2048, "inter_size": 2048, "topk": 8, "num_experts": 128,
        "moe_tp_size": 4, "moe_ep_size": [1, 1, 1, 2], "latency": 0.5,
        "distribution": ["balanced", "power_law_1.2", "power_law_1.01", "balanced"],
    }  # fmt: skip
    found = aiconfigurator.read(write(tmp_path, {"moe/vllm/0.1/moe": pd.DataFrame(rows)}))
    valid(found)
    assert law(found, "moe[dtype=bf16,load=balanced]").sizes["inter"] == [512]
    assert len(law(found, "moe[dtype=bf16,load=skewed]")) == 1
    assert counted(found) == 4


def collectives() -> dict[str, pd.DataFrame]:
    """Return NCCL at 1000 and 2000 elements, and an engine's own all-reduce at 500 and 1000, in a graph and without."""
    ops = ["all_reduce", "all_reduce", "all_gather", "all_reduce"]
    return {
        "comm/nccl/2.27.3/nccl": pd.DataFrame(
            {"nccl_dtype": ["half", "half", "half", "int8"], "num_gpus": 4, "message_size": [1000, 2000, 1000, 1000],
             "op_name": ops, "latency": [0.02, 0.021, 0.03, 0.01]}
        ),
        "comm/vllm/0.1/custom_allreduce": pd.DataFrame(
            {"allreduce_dtype": "bfloat16", "num_gpus": 4, "message_size": [500, 1000, 1000], "latency": [0.004, 0.005, 0.09],
             "backend": ["vllm_graph", "vllm_graph", "vllm_eager"]}
        ),
    }  # fmt: skip


def test_collectives_are_in_bytes_and_the_faster_all_reduce_holds(tmp_path: Path) -> None:
    """1000 elements of two bytes are 2000 B, of which an all-gather of 4 ranks has 500 B in each."""
    tables = collectives()
    found = aiconfigurator.read(write(tmp_path, tables))
    valid(found)
    reduce = law(found, "all_reduce[ranks=4,via=nvlink]")
    assert reduce.sizes["bytes"].tolist() == [1000, 2000, 4000]
    assert reduce.seconds == pytest.approx([4e-6, 5e-6, 21e-6])
    assert law(found, "all_gather[ranks=4,via=nvlink]").sizes["bytes"] == [500]
    assert counted(found) == sum(map(len, tables.values()))


def test_devices_joined_by_pcie_alone_say_so(tmp_path: Path) -> None:
    """Where the link between devices is no faster than the one to the host."""
    found = aiconfigurator.read(write(tmp_path, collectives(), FACTS.replace("450000000000", "64000000000")))
    assert {one.options["via"] for one in found.points} == {"pcie"}


def test_the_current_version_is_taken_and_older_or_other_engines_stand_in(tmp_path: Path) -> None:
    """0.10 is newer than 0.9, and 0.11 newer than what is current."""
    tables = {f"gemm/vllm/0.{minor}.0/gemm": GEMM.assign(latency=0.1 * minor) for minor in (9, 10, 11)}
    gpu = write(tmp_path, tables)
    saved(tmp_path, "query_versions.yaml", "defaults: {vllm: {current: 0.10.0}}")
    assert "gemm vllm 0.10.0" in aiconfigurator.read(gpu).source["version"]
    assert "gemm vllm 0.9.0" in aiconfigurator.read(gpu, version="0.9.0").source["version"]
    assert "there are `0.9.0`" in refusal(lambda: aiconfigurator.read(gpu, version="7"))
    assert "did you mean `vllm`" in refusal(lambda: aiconfigurator.read(gpu, engine="vlm"))
    write(tmp_path, {"encoder_attention/sglang/0.5/encoder_attention": pd.DataFrame(
        {"batch_size": [1], "isl": 256, "num_heads": 16, "head_dim": 64, "attn_dtype": "bfloat16", "latency": 0.02})})  # fmt: skip
    assert any("that of sglang stands in" in note for note in aiconfigurator.read(gpu).notes)


def test_an_absent_package_tells_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`aiconfigurator:h100_sxm` means the installed package."""
    monkeypatch.setattr(aiconfigurator, "find_spec", lambda _name: None)
    assert "pip install aiconfigurator-core==0.12.0" in refusal(lambda: detect.read("aiconfigurator:h100_sxm"))


def test_the_installed_package_is_found_by_the_name_of_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables lie under systems/data, its facts one folder above them; an unknown GPU names those there are."""
    package = tmp_path / "aiconfigurator_core"
    gpu = write(package / "systems" / "data", {"gemm/vllm/0.24.0/gemm": GEMM})
    saved(package, "__init__.py", "")
    (gpu.parent / "x100_sxm.yaml").rename(package / "systems" / "x100_sxm.yaml")
    monkeypatch.syspath_prepend(tmp_path)
    found = detect.read("aiconfigurator:x100_sxm")
    assert len(law(found, "gemm[dtype=bf16]")) == 2
    assert found.device is not None
    assert "did you mean `x100_sxm`?" in refusal(lambda: detect.read("aiconfigurator:x100"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"latency": [0.1, -1.0, float("nan"), 0.0, 0.1]},
            ["row 1, latency: must be a latency > 0; got -1", "3 of 5 rows"],
        ),
        ({"m": [1, 2, -3, 4, 5]}, ["row 2, m: must be a number >= 0; got -3"]),
        ({"latency": GEMM["latency"] / 1000}, ["gemm[dtype=bf16]: must not be faster than x100_sxm", "seconds or ms?"]),
        ({"latency": GEMM["latency"] * 1000}, ["even the fastest", "are these microseconds?"]),
    ],
)
def test_a_latency_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], told: list[str]) -> None:
    """With the row, the count, and the unit that it may have been."""
    gpu = write(tmp_path, {"gemm/vllm/0.24.0/gemm": GEMM.assign(**change)})
    message = refusal(lambda: aiconfigurator.read(gpu))
    assert all(text in message for text in told), message


def test_a_missing_column_names_the_one_that_was_meant(tmp_path: Path) -> None:
    """`lateny` is near."""
    gpu = write(tmp_path, {"gemm/vllm/0.24.0/gemm": GEMM.rename(columns={"latency": "lateny"})})
    assert "must have a column `latency`; did you mean `lateny`?" in refusal(lambda: aiconfigurator.read(gpu))


def test_a_cut_parquet_file_and_an_empty_table_are_refused(tmp_path: Path) -> None:
    """Each is named as what it is."""
    gpu = write(tmp_path, {"gemm/vllm/0.24.0/gemm": GEMM})
    path = gpu / "gemm/vllm/0.24.0/gemm_perf.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert "must be a whole parquet file: it is cut off" in refusal(lambda: aiconfigurator.read(gpu))
    GEMM.iloc[:0].to_parquet(path)
    assert "must have rows; got the header alone" in refusal(lambda: aiconfigurator.read(gpu))


def test_repeated_rows_are_counted_and_their_median_taken(tmp_path: Path) -> None:
    """Three rows of one case, 10, 20 and 60 us over."""
    rows = GEMM.iloc[[0, 0, 0]].assign(latency=[0.19, 0.20, 0.24])
    found = aiconfigurator.read(write(tmp_path, {"gemm/vllm/0.24.0/gemm": rows}))
    assert law(found, "gemm[dtype=bf16]").seconds == pytest.approx([200e-6])
    assert counted(found) == 3
    assert any("1 of 1 cases have rows that differ" in note for note in found.notes)


def test_a_law_somewhat_above_the_roofline_is_a_doubt(tmp_path: Path) -> None:
    """Twice the memory's bandwidth is what a cache gives: no mistake, but said."""
    points = Points("kv.copy", {}, {"bytes": np.array([1e9])}, np.array([1e9 / 6.7e12]))
    (one,) = physics.checked([points], {"name": "x", "memory_bandwidth": "3.35 TB/s"}, "a table")
    assert "1 of 1 points are faster than nominal" in one.doubts[0]


NETWORK = """,time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,max_devices_per_node
0,0.007,0,2,2048,all_reduce,2,8
1,0.040,0,2,2048,all_reduce,1,8
2,0.060,0,16,4096,all_reduce,8,8
"""


def test_collectives_between_nodes_are_laws_of_their_own(tmp_path: Path) -> None:
    """One device per node means that two ranks are two nodes; sizes are bytes already, times ms."""
    found = detect.read(saved(tmp_path, "all_reduce.csv", NETWORK), device="h100")
    valid(found)
    assert law(found, "all_reduce[ranks=2,via=nvlink]").seconds == pytest.approx([7e-6])
    assert law(found, "all_reduce[ranks=2,via=node]").seconds == pytest.approx([40e-6])
    assert law(found, "all_reduce[ranks=16,via=node]").sizes["bytes"] == [4096]
    assert counted(found) == 3


def test_a_step_on_the_host_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """1 + 2 + 3 + 4 + 5 ms."""
    head = (
        "schedule_median,sampler_e2e_median,prepare_inputs_e2e_median,process_model_outputs_median,ray_comm_time_mean"
    )
    text = f"{head},batch_size,tensor_parallel_degree\n1,2,3,4,5,8,1\n1,2,3,4,5,8,2\n"
    found = detect.read(saved(tmp_path, "cpu.csv", text))
    valid(found)
    assert law(found, "engine.step[engine=vllm-2024]").seconds == pytest.approx([15e-3])
    assert found.skipped == {"another degree of tensor parallelism": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (NETWORK[:-20], "must have 8 fields, one for each column; got 5: it is cut off"),
        (NETWORK.replace("0.040", "-0.04"), "3  time_stats.all_reduce.median: must be a latency > 0; got -0.04"),
        (NETWORK.replace("0.040", "nan"), "must be a latency > 0; got 'nan'"),
        (NETWORK.replace("num_workers", "num_worker"), "must have a column `num_workers`; did you mean `num_worker`?"),
        (NETWORK.splitlines()[0], "must have rows; got the header alone"),
        ("a,b\n1,2\n", "aiconfigurator: the folder of one GPU"),
    ],
)
def test_a_bad_csv_says_where(tmp_path: Path, text: str, told: str) -> None:
    """The line, the rule, what was got, and what to do."""
    path = saved(tmp_path, "all_reduce.csv", text)
    assert told in refusal(lambda: detect.read(path))


def test_launching_is_the_time_of_a_kernel_launched_less_that_of_it_alone(tmp_path: Path) -> None:
    """10, 20 and 30 us; a kernel of 5 ms and one that does not run are counted."""
    head = "time_stats.emb.median,time_stats.add.median,num_tokens,num_tensor_parallel_workers\n"
    eager = head + "0.012,5.1,1,1\n0.022,0.032,2,1\n0.0,0.001,4,1\n"
    alone = head + "0.002,5.0,1,1\n0.002,0.002,2,1\n0.0,0.002,4,1\n"
    (tmp_path / "linear_op.csv.gz").write_bytes(gzip.compress(eager.encode()))
    (tmp_path / "linear_op_kernel_only.csv.gz").write_bytes(gzip.compress(alone.encode()))
    found = detect.read(tmp_path)
    valid(found)
    launch = law(found, "launch")
    assert launch.seconds == pytest.approx([20e-6])
    assert sorted(launch.ratios[0]) == pytest.approx([0.5, 1.0, 1.5])
    assert len(launch.ratios[0]) + sum(found.skipped.values()) == 6
    (tmp_path / "linear_op.csv.gz").write_bytes(gzip.compress(eager.encode())[:-12])
    assert "must be a whole gzip file: it is cut off" in refusal(lambda: detect.read(tmp_path))


def test_what_is_no_measurement_lists_what_is_read(tmp_path: Path) -> None:
    """An absent file, a folder without tables, and a choice that the reader does not have."""
    assert "there is no such file" in refusal(lambda: detect.read(tmp_path / "absent"))
    assert all(kind in refusal(lambda: detect.read(tmp_path)) for kind in detect.KINDS)
    path = saved(tmp_path, "all_reduce.csv", NETWORK)
    assert "did you mean `device`?" in refusal(lambda: detect.read(path, devic="h100"))


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["h100_sxm", "h200_sxm", "a100_sxm", "b200_sxm", "l40s"])
def test_every_row_of_the_real_tables_is_kept_or_counted(gpu: str) -> None:
    """Kept and counted rows are the rows of the tables that were read."""
    folder = GPU_DATA / "aiconfigurator" / gpu
    found = detect.read(folder)
    valid(found)
    tables = {tuple(text.split()) for text in found.source["version"].split("; ")}
    paths = [path for name, *place in tables for path in folder.glob(f"*/{'/'.join(place)}/{name}_perf.parquet")]
    assert len(paths) == len(tables)
    assert counted(found) == sum(len(pd.read_parquet(path, columns=["latency"])) for path in paths)


@needs_data
def test_a_real_product_and_a_real_all_reduce_have_the_table_s_own_numbers() -> None:
    """Seconds are ms over 1000; bytes are elements times two."""
    folder = GPU_DATA / "aiconfigurator" / "h100_sxm"
    found = detect.read(folder)
    rows = pd.read_parquet(folder / "gemm/vllm/0.24.0/gemm_perf.parquet")
    row = rows[
        (rows["gemm_dtype"] == "bfloat16") & (rows["n"] == 4096) & (rows["k"] == 4096) & (rows["m"] == 8192)
    ].iloc[0]
    gemm = law(found, "gemm[dtype=bf16]")
    at = (gemm.sizes["m"] == 8192) & (gemm.sizes["n"] == 4096) & (gemm.sizes["k"] == 4096)
    assert gemm.seconds[at] == pytest.approx([row["latency"] / 1000])
    nccl = pd.read_parquet(folder / "comm/nccl/2.29.2/nccl_perf.parquet")
    scatter = law(found, "reduce_scatter[ranks=8,via=nvlink]")
    most = nccl[(nccl["op_name"] == "reduce_scatter") & (nccl["nccl_dtype"] == "half")]["message_size"].max()
    assert scatter.sizes["bytes"].max() == 2 * most


@needs_data
@pytest.mark.parametrize("where", ["network/h100_dgx", "network/a100_dgx", "compute/h100/Llama-2-7b-hf/mlp.csv"])
def test_every_time_of_the_real_vidur_tables_is_kept_or_counted(where: str) -> None:
    """A row of collectives has one time, a row of kernels one for each of ten kernels."""
    path = GPU_DATA / "vidur" / where
    found = detect.read(path)
    valid(found)
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    frames = [pd.read_csv(file) for file in files]
    assert counted(found) == sum(frame.filter(regex=r"\.median$").size for frame in frames)


@needs_data
def test_launches_of_the_real_pairs_take_microseconds() -> None:
    """The published differences are 4 to 57 us for each operation."""
    launch = law(frontier.read(GPU_DATA / "frontier" / "h800" / "Phi-tiny-MoE-instruct"), "launch")
    assert 4e-6 < launch.seconds[0] < 57e-6


@needs_data
def test_a_2024_engine_takes_milliseconds_a_step() -> None:
    """About 2 ms at batch 8 and 8 ms at 64, as its authors measured."""
    step = law(
        vidur.read(GPU_DATA / "vidur/cpu_overhead/a100_cpu_overheads_v2024-05_with_launch.csv"),
        "engine.step[engine=vllm-2024]",
    )
    assert step.sizes["batch"][[0, -1]].tolist() == [8, 64]
    assert step.seconds[[0, -1]] == pytest.approx([2.2e-3, 8e-3], rel=0.15)
