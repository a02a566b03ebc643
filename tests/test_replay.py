"""Replaying real runs: what is read, what engine it makes, and how far off the one at hand comes out."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from coordsim.calibration.imports import vllm_run
from coordsim.calibration.real_run import contents, read_run, workload_of
from coordsim.calibration.replay import Replay, replay
from coordsim.calibration.replay_engine import Settings, engine_of
from coordsim.cli import main
from coordsim.models.serving.ahead import AheadReplica
from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.measured_steps import MeasuredSteps
from coordsim.models.serving.replica import Limits, Replica, drive
from coordsim.models.serving.request import Request
from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.report.replay_tables import replay_view, statistics

from .measured_folders import profile, request, run, words

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "gpu" / "vllm_runs"
ROWS = [
    request(0, 100, 5, 50.0, 50.1, 50.2),
    request(1, 40, 1, 50.05, 50.2, 50.2),
    request(2, 300, 9, 51.0, 51.1, 51.3),
]


def steps(folder: Path) -> MeasuredSteps:
    """Return the step time of a folder of tables."""
    return MeasuredSteps(vllm_run.read(folder).measured())


def test_a_server_that_is_replayed_against_itself_has_no_error(tmp_path: Path) -> None:
    """Stamps that the simulated server itself gave come back from the replay: every request is off by nothing."""
    tables = profile(tmp_path)
    requests = [Request(80 + 37 * n, 4 + 3 * n, arrived=0.004 * n) for n in range(12)]
    replica = AheadReplica(steps(tables), KvCache(10_000), Limits(sequences=8, tokens=256))
    drive(replica, requests)
    rows = [
        request(n, one.prompt, one.output, one.arrived, one.first_token, one.ended) for n, one in enumerate(requests)
    ]
    found = replay(run(tmp_path, rows), tables, Settings())
    for metric in ("ttft", "tpot", "e2e"):
        assert found.simulated[metric] == pytest.approx(found.real[metric], rel=1e-9)


def test_one_parameter_is_found_again(tmp_path: Path) -> None:
    """A run made with 0.3 ms more for each iteration is given back that value, and errors vanish with it."""
    tables = profile(tmp_path)
    requests = [Request(80, 40 + 3 * n, arrived=0.01 * n) for n in range(12)]
    drive(AheadReplica(steps(tables), KvCache(10_000), Limits(8, 256, host_step=0.3e-3)), requests)
    rows = [
        request(n, one.prompt, one.output, one.arrived, one.first_token, one.ended) for n, one in enumerate(requests)
    ]
    folder = run(tmp_path, rows)
    untuned = replay(folder, tables, Settings())
    assert mean_errors(untuned)["tpot"] < -0.1
    found = replay(folder, tables, Settings(), calibrate="host_step")
    assert found.fitted == "host_step"
    assert {one.name: one.value for one in found.settings}["host_step"].startswith("300")
    assert mean_errors(found)["tpot"] == pytest.approx(0.0, abs=1e-3)
    frozen = replay(folder, tables, Settings.from_texts({"host_step": "0.3 ms"}))
    assert mean_errors(frozen)["e2e"] == pytest.approx(0.0, abs=1e-6)


def mean_errors(found: Replay) -> dict[str, float]:
    """Return the errors of the means, by metric."""
    errors = found.to_data()["errors"]
    return {metric: errors[metric]["mean"]["error"] for metric in errors}


def test_an_engine_that_schedules_ahead_takes_in_who_comes_one_iteration_later(tmp_path: Path) -> None:
    """Alone both kinds are the same; who comes while another decodes waits for one iteration more, and no longer."""
    step = steps(profile(tmp_path))

    def first_tokens(kind: type[Replica], *arrivals: float) -> list[float]:
        requests = [Request(64, 50, arrived=arrived) for arrived in arrivals]
        drive(kind(step, KvCache(10_000), Limits(8, 256)), requests)
        return [one.first_token for one in requests]

    assert first_tokens(Replica, 0.0) == first_tokens(AheadReplica, 0.0)
    waits, ahead = first_tokens(Replica, 0.0, 0.01), first_tokens(AheadReplica, 0.0, 0.01)
    assert waits[0] == ahead[0]
    one = step.iteration((), 1, 80.0, 80.0)
    assert ahead[1] - waits[1] == pytest.approx(one, rel=0.02)  # the sequence beside it grows a token


def test_a_run_is_read_with_times_from_its_first_request(tmp_path: Path) -> None:
    """Rows come in the order they were queued; what has no stamps is left out and counted."""
    unfinished = {**request(3, 5, 5, 0.0, 0.0, 0.0), "last_token_ts": None}
    found = read_run(run(tmp_path, [ROWS[2], unfinished, ROWS[1], ROWS[0]], tensor_parallel_size=2))
    assert [row.number for row in found.rows] == [0, 1, 2]
    assert [row.queued for row in found.rows] == pytest.approx([0.0, 0.05, 1.0])
    assert (found.tensor_parallel, found.hardware, found.model) == (2, "gpu", "some/some-model")
    assert found.notes == ["1 requests without all stamps are left out, and their load with them"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"output_toks": 0}, "2 .*output_toks: must be a whole number >= 1; got 0"),
        ({"queued_ts": 99.0}, "2 .*stamps must be in order"),
        ({"queued_ts": "soon"}, "2 .*must be seconds"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: dict[str, object], told: str) -> None:
    """What cannot be is told with file and line."""
    with pytest.raises(ProfileError, match=f"(?s){told}"):
        read_run(run(tmp_path, [ROWS[0], {**ROWS[1], **row}]))


def test_what_a_folder_lacks_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Missing files, columns, links and memory each say what to give."""
    with pytest.raises(ProfileError, match=r"it has no requests\.jsonl"):
        read_run(tmp_path)
    short = {name: value for name, value in ROWS[0].items() if name != "queued_ts"}
    with pytest.raises(ProfileError, match=r"(?s)1 .*must have `queued_ts`"):
        read_run(run(tmp_path / "a", [short]))
    with pytest.raises(ProfileError, match="pipeline parallelism is not simulated"):
        read_run(run(tmp_path / "b", ROWS, pipeline_parallel_size=2))
    folder = run(tmp_path / "c", ROWS, tensor_parallel_size=2)
    tables = profile(tmp_path / "c", tp=2)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ProfileError, match=r"(?s)nothing tells the memory for KV.*--set kv_blocks"):
        replay(folder, tables, Settings())
    with pytest.raises(ProfileError, match=r"(?s)links between 2 devices, `link_bw`.*--set link_bandwidth"):
        replay(folder, tables, Settings.from_texts({"kv_blocks": "100"}))
    with pytest.raises(ProfileError, match=r"(?s)10 blocks of KV do not hold its longest request, which needs 20"):
        replay(
            folder,
            tables,
            Settings.from_texts({"kv_blocks": "10", "link_bandwidth": "16 GB/s", "link_latency": "20 us"}),
        )
    with pytest.raises(ProfileError, match=r"(?s)sequencs.*sequences"):
        Settings.from_texts({"sequencs": "4"})
    with pytest.raises(ProfileError, match="can be calibrated; got kv_blocks"):
        replay(folder, tables, Settings(), calibrate="kv_blocks")


def test_every_parameter_has_its_value_and_origin(tmp_path: Path) -> None:
    """Limits come from the run, memory from the device file, the host is hidden by default and assumed for older engines."""
    folder, tables = run(tmp_path, ROWS), vllm_run.read(profile(tmp_path))
    engine = engine_of(read_run(folder), tables, Settings.from_texts({"tokens": "128", "prefix": "no"}))
    told = {one.name: (one.value, one.origin) for one in engine.settings()}
    assert (engine.limits.sequences, engine.limits.tokens, engine.prefix, engine.ahead) == (8, 128, False, True)
    assert told["tokens"] == ("128", "as asked for")
    assert told["sequences"] == ("8", "meta.json")
    assert told["ahead"] == ("True", "default of vLLM 0.19.0")
    assert (told["skew"], engine.skew) == (("table", "profile"), None)
    bare = engine_of(read_run(folder), vllm_run.read(profile(tmp_path / "bare", skew=None)), Settings())
    assert bare.skew == 0.04
    assert "assumed" in {one.name: one.origin for one in bare.settings()}["skew"]
    assert (engine.limits.host_step, engine.limits.host_token) == (0.0, 0.0)
    kv = 2 * 3 * 2 * 16 * 2  # keys and values, 3 layers, 2 heads of 16, 2 bytes
    assert engine.blocks == int((0.5 * 2**30 - tables.shape.weight_bytes("bf16")) / (16 * kv))
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(
        json.dumps({**meta, "vllm_version": "0.11.0", "kv_cache": {"num_gpu_blocks": 77}})
    )
    older = engine_of(read_run(folder), tables, Settings())
    assert (older.ahead, older.blocks, older.limits.host_step) == (False, 77, 0.1e-3)
    assert "assumed" in {one.name: one.origin for one in older.settings()}["host_step"]


def test_ranks_add_a_ring_and_engines_share_the_requests(tmp_path: Path) -> None:
    """Two ranks pay two hops and the bytes of the hidden state twice a layer; two engines are two servers."""
    tables = profile(tmp_path, tp=2)
    together = [request(0, 200, 9, 50.0, 50.1, 50.2), request(1, 200, 9, 50.0, 50.1, 50.2)]
    folder = run(tmp_path, together, tensor_parallel_size=2)
    read = vllm_run.read(tables, tensor_parallel=2)
    (ring,) = engine_of(read_run(folder), read, Settings()).collectives.values()
    measured = read.measured(collectives={"all_reduce": ring}).collectives["all_reduce"]
    assert (measured.count, measured.bytes_per_token) == (6, 128.0)
    assert measured.overhead == pytest.approx(2e-6)
    assert measured.bandwidth == pytest.approx(10e9)
    one = replay(folder, tables, Settings())
    meta = json.loads((folder / "meta.json").read_text())
    meta["engine_kwargs"]["data_parallel_size"] = 2
    (folder / "meta.json").write_text(json.dumps(meta))
    two = replay(folder, tables, Settings())
    assert two.simulated["ttft"][1] < one.simulated["ttft"][1]  # no longer beside the first request
    assert two.simulated["ttft"][0] == one.simulated["ttft"][0]


def test_equal_prefixes_are_found_by_the_tokens_of_the_workload(tmp_path: Path) -> None:
    """Content is named by chained blocks; a file of another workload is refused."""
    rows = [request(n, 40, 4, 50.0 + n, 50.1 + n, 50.2 + n) for n in range(3)]
    folder = run(tmp_path, rows)
    shared = list(range(33))
    words(folder, [[*shared, *[100] * 7], [*shared, *[200] * 7], [*[9] * 8, *shared[:32]]])
    real = read_run(folder)
    tokens = workload_of(real, None)
    assert tokens is not None
    paths = contents(tokens, real, 16)
    assert paths[0] == paths[1]
    assert paths[2][0] != paths[0][0]
    found = replay(folder, profile(tmp_path), Settings())
    assert [one.hit for one in found.requests] == [0, 32, 0]
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"input_tok_ids": [1, 2]}) + "\n")
    with pytest.raises(ProfileError, match="is not the run's workload: its request 0 has 2, and 40 tokens came in"):
        workload_of(real, other)


def test_statistics_are_of_what_both_have() -> None:
    """A request of one token has no time per output token; it is in no statistic, and no error is made up."""
    found = statistics(np.array([1.0, np.nan, 3.0]), np.array([2.0, np.nan, 3.0]))
    assert found["mean"] == {"real": 2.0, "simulated": 2.5, "error": 0.25}
    assert found["by_request"] == {"median": 0.5, "absolute": 0.5, "p90": pytest.approx(0.9)}
    assert statistics(np.array([math.nan]), np.array([math.nan]))["p99"]["error"] is None


def test_the_command_prints_every_format_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table names errors and parameters, CSV has a row for each request, and a mistake ends with 2."""
    folder, tables = run(tmp_path, ROWS), profile(tmp_path)
    asked = ["profile", "replay", str(folder), "--profile", str(tmp_path)]
    assert main(asked) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "time to first token" in out
    assert "nothing tuned" in out
    assert str(tables) in out
    assert main([*asked, "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main([*asked, "--format", "json", "--set", "host_step=1 ms"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["set"] == ["host_step"]
    assert len(data["requests"]) == 3
    assert main([*asked, "--set", "host_step=1 GB"]) == 2
    assert "host_step" in capsys.readouterr().err
    assert main([*asked, "--format", "md"]) == 0
    assert "| time to first token" in capsys.readouterr().out


@pytest.fixture(scope="module")
def real_run() -> Path:
    """Return the folder of the real run."""
    if not REAL.is_dir():
        pytest.skip("the measurements of others are not at hand")
    return REAL / "real" / "RTXPRO6000-Llama-3.1-8B"


def test_a_real_server_is_met_with_nothing_tuned(real_run: Path) -> None:
    """Llama-3.1-8B on vLLM 0.19, 300 requests: means within 20 / 8 / 10 %, from kernels' times and the profile's skew table.

    Source: LLMServingSim at 5daddb2 (MIT), RTX PRO 6000.
    """
    errors = mean_errors(replay(real_run, REAL / "profile", Settings()))
    for metric, goal in (("ttft", 0.20), ("tpot", 0.08), ("e2e", 0.10)):
        assert abs(errors[metric]) <= goal


def test_a_real_server_is_met_with_one_parameter_frozen(real_run: Path) -> None:
    """With 0.41 ms for each iteration, found on every other request, means are within 6 / 3 / 3 % of all.

    The value moves them in the direction it must: twice as much is slower in all three.
    """
    errors = mean_errors(replay(real_run, REAL / "profile", Settings.from_texts({"host_step": "0.41 ms"})))
    for metric, goal in (("ttft", 0.06), ("tpot", 0.03), ("e2e", 0.03)):
        assert abs(errors[metric]) <= goal
    slower = mean_errors(replay(real_run, REAL / "profile", Settings.from_texts({"host_step": "0.82 ms"})))
    assert all(slower[metric] > errors[metric] for metric in errors)


def test_even_lengths_would_make_the_real_server_too_fast(real_run: Path) -> None:
    """Without the skew table each mean is lower: uneven lengths cost time, and the table says how much."""
    with_table = mean_errors(replay(real_run, REAL / "profile", Settings()))
    even = mean_errors(replay(real_run, REAL / "profile", Settings.from_texts({"skew": "0 %"})))
    assert all(even[metric] < with_table[metric] for metric in even)
    assert replay_view(replay(real_run, REAL / "profile", Settings()).to_data()).rows
