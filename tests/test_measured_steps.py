"""Measured iterations: read from folders of tables, kept in profiles, and asked for times."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.calibration.imports import build, detect, vllm_run
from coordsim.models.serving.measured_steps import MeasuredSteps, one_chunk
from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.profile.iteration import Experts, MeasuredIteration, Table
from coordsim.sim.profile.profile import Profile, merged
from coordsim.sim.report.profile_tables import overview

from .measured_folders import LAYERS, attention, dense, profile, table

US = 1e-6
MOE = table(
    "ep,tokens,activated_experts,time_us",
    [(ep, n, e, 10 + n + e) for ep in (1, 2) for n in (1, 16, 256) for e in (2, 4, 8) if e <= 2 * n and e <= 8 // ep],
)


def parts(tokens: float) -> float:
    """Return the microseconds of the dense parts of the small folder: 1 embedding, 2 norms and 5 others a layer."""
    return (1 + 7 * LAYERS) * (10 + tokens / 10)


def steps(folder: Path, **choices: object) -> MeasuredSteps:
    """Return the step time of a folder."""
    return MeasuredSteps(vllm_run.read(folder, **choices).measured())  # type: ignore[arg-type]


def test_an_iteration_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """Norms count twice a layer, the embedding once, attention once a layer; the sampled sequences are decodes and prefills."""
    found = steps(profile(tmp_path))
    at = (40 + 9, 10, 9, 9 * 200)  # a chunk of 40 behind 10, beside 9 sequences of 200
    expected = parts(at[0]) + (20 + 10) + LAYERS * (attention(40, 10, 9, 200) + 0.35 * 0.0)
    assert found.iteration([(40, 10)], 9, 9 * 200.0, 200.0) == pytest.approx(expected * US, rel=1e-9)
    alone = parts(40) + (20 + 1) + LAYERS * attention(40, 10, 0, 0)
    assert found.iteration([(40, 10)], 0, 0.0, 0.0) == pytest.approx(alone * US, rel=1e-9)


def test_decoding_alone_counts_the_longest_sequence_by_the_skew_table(tmp_path: Path) -> None:
    """At 16 sequences the share is 20 % alone and 40 % beside a prefill; a single sequence has no other to wait for."""
    found = steps(profile(tmp_path))
    even, longest = attention(0, 0, 16, 100), attention(0, 0, 16, 1000)
    expected = parts(16) + 36 + LAYERS * (0.8 * even + 0.2 * longest)
    assert found.iteration((), 16, 1600.0, 1000.0) == pytest.approx(expected * US, rel=1e-9)
    beside = 0.6 * attention(64, 0, 16, 100) + 0.4 * attention(64, 0, 16, 1000)
    expected = parts(16 + 64) + 37 + LAYERS * beside
    assert found.iteration([(64, 0)], 16, 1600.0, 1000.0) == pytest.approx(expected * US, rel=1e-9)
    assert found.iteration((), 1, 100.0, 100.0) == pytest.approx(
        (parts(1) + 21 + LAYERS * attention(0, 0, 1, 100)) * US
    )


@given(
    decodes=st.integers(1, 40),
    mean=st.integers(1, 5000),
    spread=st.integers(0, 3000),
    count=st.integers(1, 300),
    seconds=st.floats(0.0, 0.2),
    extra=st.floats(0.0, 1e-3),
)
def test_a_run_is_the_sum_of_its_iterations(
    folder_steps: MeasuredSteps, decodes: int, mean: int, spread: int, count: int, seconds: float, extra: float
) -> None:
    """Sums in closed form are those of single iterations to 1e-9, and `count_until` is their inverse."""
    longest = mean + (spread if decodes > 1 else 0)
    single = [folder_steps.iteration((), decodes, decodes * (mean + n), longest + n) for n in range(count)]
    assert folder_steps.run(decodes, decodes * mean, longest, count) == pytest.approx(math.fsum(single), rel=1e-9)
    until = folder_steps.count_until(decodes, decodes * mean, longest, seconds, count, factor=1.1, extra=extra)
    reached = np.cumsum(single) * 1.1 + extra * np.arange(1, count + 1)
    slack = 1e-9 * reached[-1]
    assert until == count or reached[until - 1] >= seconds - slack
    assert until == 1 or reached[until - 2] < seconds + slack


@pytest.fixture(scope="module")
def folder_steps(tmp_path_factory: pytest.TempPathFactory) -> MeasuredSteps:
    """Return the step time of the small folder."""
    return steps(profile(tmp_path_factory.mktemp("tables")))


@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 9000)), min_size=1, max_size=5))
def test_chunks_become_one_with_as_many_pairs(chunks: list[tuple[int, int]]) -> None:
    """The chunk that stands for several has their pairs of query and key, and never more tokens than they."""
    new, cached = one_chunk(chunks)
    pairs = sum(tokens * (before + tokens / 2) for tokens, before in chunks)
    assert new * (cached + new / 2) == pytest.approx(pairs, rel=1e-9)
    assert cached >= 0.0
    assert new <= sum(tokens for tokens, _ in chunks) * (1 + 1e-12)


def test_sizes_beyond_the_tables_go_on_as_they_did(tmp_path: Path) -> None:
    """More tokens, sequences and context than measured take longer in proportion, not as long as at the edge."""
    found = steps(profile(tmp_path))
    expected = parts(2000 + 32) + (20 + 33) + LAYERS * (attention(2000, 0, 32, 8000))
    assert found.iteration([(2000, 0)], 32, 32 * 8000.0, 8000.0) == pytest.approx(expected * US, rel=1e-9)


def test_gaps_of_a_table_are_closed_from_their_neighbours() -> None:
    """Two grids that share few nodes become one table: what neither has is interpolated, and an edge goes on."""
    sizes = (1.0, 2.0, 3.0, 4.0)
    full = np.add.outer(np.array(sizes), 10.0 * np.array(sizes))
    holes = full.copy()
    holes[1, 1] = holes[0, 3] = holes[3, 3] = holes[2, 0] = 0.0
    found = Table(axes={"a": sizes, "b": sizes}, seconds=tuple(holes.ravel().tolist())).filled()
    assert found == pytest.approx(full, rel=1e-12)


def test_experts_take_the_time_of_those_that_tokens_touch(tmp_path: Path) -> None:
    """An expert model needs moe.csv; touched experts follow from tokens that spread evenly, over all ranks together."""
    config = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    parts_left = ("embedding", "layernorm", "qkv_proj", "o_proj")
    folder = profile(tmp_path, moe=MOE, dense=dense(parts_left), skew=None)
    shape = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**shape, **config}))
    for ranks in (1, 2):
        found = steps(folder, ranks=ranks, engines=ranks)
        touched = 8 / ranks * (1 - 0.75 ** (16 * ranks))
        experts = LAYERS * (10 + 16 * ranks + touched)
        expected = (1 + 4 * LAYERS) * 11.6 + experts + (20 + 16) + LAYERS * attention(0, 0, 16, 100)
        assert found.iteration((), 16, 1600.0, 1000.0) == pytest.approx(
            expected * US, rel=2e-3
        )  # no skew: even lengths
    (folder / "tp1" / "moe.csv").unlink()
    with pytest.raises(ProfileError, match=r"(?s)moe\.csv.*is missing: the 8 experts"):
        vllm_run.read(folder)


def test_ranks_of_tensor_parallelism_add_their_collectives(tmp_path: Path) -> None:
    """The tables are of one rank; what is told of communication comes on top, by the tokens of the iteration."""
    tables = vllm_run.read(profile(tmp_path, tp=2), tensor_parallel=2)
    link = {"count": 6, "bytes_per_token": "128 B", "overhead": "2 us", "bandwidth": "1 GB/s"}
    with_link = MeasuredSteps(tables.measured(collectives={"all_reduce": link}))
    more = with_link.iteration([(30, 0)], 2, 20.0, 10.0) - MeasuredSteps(tables.measured()).iteration(
        [(30, 0)], 2, 20.0, 10.0
    )
    assert more == pytest.approx(6 * (2e-6 + 32 * 128 / 1e9), rel=1e-9)
    with pytest.raises(ProfileError, match="no tables of tensor parallelism 4, in tp4; it has `tp2`"):
        vllm_run.read(tmp_path / "gpu" / "some-model" / "bf16", tensor_parallel=4)


def test_skew_comes_from_raw_batches_from_a_fit_or_from_nowhere(tmp_path: Path) -> None:
    """skew.csv is fitted, skew_fit.csv averaged by its samples, and without either lengths count as even, and a note says so."""
    raw = vllm_run.read(profile(tmp_path / "raw")).iteration["skew"]
    assert raw == {"decodes": [4.0, 16.0], "alone": [0.1, 0.2], "mixed": [0.3, 0.4]}
    fit = table(
        "pc,n_label,alpha,n_samples",
        [(0, "n<=4", 0.1, 1), (0, "n<=4", 0.4, 2), (16, "n<=8", -0.2, 5), (0, "n>8", 9, 1)],
    )
    fitted = vllm_run.read(profile(tmp_path / "fit", skew=None, skew_fit=fit)).iteration["skew"]
    assert fitted == {"decodes": [4.0, 8.0], "alone": [0.3, 0.3], "mixed": [0.0, 0.0]}
    none = vllm_run.read(profile(tmp_path / "none", skew=None))
    assert "skew" not in none.iteration
    assert any("no skew.csv" in note for note in none.notes)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"attention": None}, r"attention\.csv.*is missing.*the folder has `dense\.csv"),
        (
            {"dense": "layer,tokens,time_ms\nqkv_proj,1,2\n"},
            "must have times in microseconds.*got `time_ms`: convert it",
        ),
        ({"dense": "layer,tokns,time_us\nqkv_proj,1,2\n"}, "must have a column `tokens`; did you mean `tokns`"),
        (
            {"dense": "layer,tokens,time_us\nqkv_proj,1,2\nqkv_proj,2,-3\n"},
            "3 .*time_us: must be a latency > 0; got -3",
        ),
        ({"dense": dense(("qkv_proj",))}, "must have rows of `o_proj`; it has `qkv_proj`"),
        ({"linear_attention": "a\n1\n"}, "holds linear attention, which is not read"),
        ({"moe": MOE}, "holds experts, and the shape has none"),
        (
            {"attention": "layer,prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\na,0,0,1,16,3\nb,0,0,1,16,3\n"},
            r"has 2 kernels of attention \(`a`, `b`\); only plain attention is read",
        ),
    ],
)
def test_what_is_missing_or_of_another_unit_is_named(tmp_path: Path, files: dict[str, Any], told: str) -> None:
    """A folder that cannot be read says which file, which line and what to do."""
    folder = profile(tmp_path, **files)
    with pytest.raises(ProfileError, match=f"(?s){told}"):
        vllm_run.read(folder)


def test_a_model_without_a_known_shape_needs_its_config(tmp_path: Path) -> None:
    """Layers and sizes come from the model's name, from its config.json beside the tables, or from a shape that is named."""
    folder = profile(tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(ProfileError, match=r"(?s)shape of some/some-model is not known.*give --shape"):
        vllm_run.read(folder)
    assert vllm_run.read(folder, shape="llama-3.1-8b").iteration["layers"] == 32
    meta = folder / "meta.yaml"
    meta.write_text(meta.read_text().replace("some/some-model", "Qwen/Qwen3-30B-A3B-Instruct-2507"))
    with pytest.raises(ProfileError, match="has no tables of tensor parallelism 2"):
        vllm_run.read(folder, tensor_parallel=2)
    with pytest.raises(ProfileError, match=r"must hold one folder of other/model on gpu .*it has `gpu/some-model/bf16"):
        vllm_run.tables_below(tmp_path, "other/model", "gpu")
    assert vllm_run.tables_below(tmp_path, "/data/some-model", "gpu") == folder


def test_a_folder_becomes_a_profile(tmp_path: Path) -> None:
    """`profile import` keeps the tables as an iteration; the file gives the same times back, and profiles merge."""
    folder = profile(tmp_path)
    imported = build.imported(detect.read_all([folder]), "mine")
    (name,) = imported.iterations
    assert name == "gpu-some-model-tp1"
    again = Profile.model_validate(json.loads(imported.to_json()))
    assert again == imported
    before, after = (MeasuredSteps(one.iteration(name)) for one in (imported, again))
    assert before.iteration([(40, 10)], 9, 1800.0, 300.0) == after.iteration([(40, 10)], 9, 1800.0, 300.0)
    assert "Measured iterations" in overview(again).to_text()
    laws = Profile.model_validate({"coordsim_profile": 1, "name": "other", "laws": {}})
    assert merged([laws, again]).iterations[name].model == "some/some-model"
    with pytest.raises(ProfileError, match="has no iteration `gpu-some-model-tp2`; did you mean"):
        again.iteration("gpu-some-model-tp2")


def test_an_iteration_without_its_source_is_refused(tmp_path: Path) -> None:
    """A profile names the source of each iteration, as of each law."""
    data = build.imported(detect.read_all([profile(tmp_path)]), "mine").to_data()
    data["sources"] = {}
    with pytest.raises(ValueError, match="`sources` has no `source-1`"):
        Profile.model_validate(data)


def test_experts_touched_are_those_of_an_even_spread() -> None:
    """With one token as many as it is sent to, with many all; a rank has its part."""
    cells = Table(axes={"tokens": (1.0, 2.0), "touched": (1.0, 2.0)}, seconds=(1.0, 1.0, 1.0, 1.0))
    experts = Experts(count=1, table=cells, experts=128, top_k=8, ranks=2)
    assert experts.touched(1) == pytest.approx(4.0)
    assert experts.touched(10_000) == pytest.approx(64.0)


def test_the_tables_of_a_real_engine_are_read_and_no_step_beats_its_memory(gpu_data: Path) -> None:
    """Llama-3.1-8B on an RTX PRO 6000: no iteration is faster than its weights at 1,792 GB/s, the data sheet's bandwidth."""
    folder = gpu_data / "vllm_runs" / "profile" / "RTXPRO6000" / "meta-llama" / "Llama-3.1-8B" / "bf16"
    found = vllm_run.read(folder)
    weights = found.shape.weight_bytes("bf16") - found.shape.embedding_parameters * 2
    assert MeasuredSteps(found.measured()).iteration((), 1, 16.0, 16.0) > weights / 1792e9
    assert isinstance(found.measured(), MeasuredIteration)


@pytest.fixture(scope="session")
def gpu_data() -> Path:
    """Return the folder of measurements of others."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "gpu"
    if not folder.is_dir():
        pytest.skip("the measurements of others are not at hand")
    return folder
