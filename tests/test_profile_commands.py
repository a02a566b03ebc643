"""`coordsim calibrate` and `coordsim profile ...`: what each prints, writes and refuses, and the exit code it ends with."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from coordsim.sim.profile.profile import names, read

from .command import Call


@pytest.fixture
def calibrated(call: Call, tmp_path: Path) -> Path:
    """Return a profile of two laws, measured in a second."""
    path = tmp_path / "own.profile.yaml"
    asked = ("--device", "cpu", "--budget", "1 s", "--only", "cross[via=call]", "--only", "timer[via=sleep]")
    assert call("calibrate", *asked, "-o", path).code == 0
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a folder like that of a database of kernels: products that take 3 us and move bytes at 1 TB/s, exactly."""
    folder = tmp_path / "a_gpu"
    (folder / "gemm" / "vllm" / "1.0.0").mkdir(parents=True)
    axis = [2**power for power in range(5, 14)]
    rows = pd.DataFrame([(m, n, k) for m in (1, 8, 64, 512) for n in axis for k in axis], columns=["m", "n", "k"])
    rows["latency"] = 1e3 * (3e-6 + 2 * (rows.m * rows.k + rows.n * rows.k + rows.m * rows.n) / 1e12)
    rows = rows.assign(
        framework="VLLM", version="1.0.0", device="a GPU", op_name="gemm", kernel_source="x", gemm_dtype="bfloat16"
    )
    rows.to_parquet(folder / "gemm" / "vllm" / "1.0.0" / "gemm_perf.parquet")
    return folder


# --- calibrate ------------------------------------------------------------------------------------------------------


def test_a_calibration_writes_a_profile_and_keeps_its_measurements(calibrated: Path) -> None:
    """Each law has a range, an interval, held-out errors and its points; the source says where and when."""
    profile = read(str(calibrated))
    assert set(profile.laws) == {"cross[via=call]", "timer[via=sleep]"}
    for law in profile.laws.values():
        assert profile.source_of(law).quality == "measured"
        assert law.points >= 5
        assert law.repeats > law.points
        assert law.held_out
        assert law.interval
        assert law.over
        assert law.residual is not None
        assert law.residual.of == "repeats"
        assert law.measured is not None
        assert min(law.measured.seconds) > 0
    assert (calibrated.parent / "own.samples.jsonl").exists()
    slept = profile.timing("timer", via="sleep")
    assert slept.seconds({"seconds": 0.05}) >= 0.045


def test_the_report_lists_each_law_with_its_errors(call: Call, calibrated: Path) -> None:
    """`show` gives the report of the calibration again: median and p95 of held-out errors, and the machine."""
    shown = call("profile", "show", calibrated)
    assert shown.code == 0
    assert "cross[via=call]" in shown.out
    assert "median" in shown.out
    assert "p95" in shown.out
    data = json.loads(call("profile", "show", calibrated, "--format", "json").out)
    (law,) = [one for one in data["laws"] if one["law"] == "cross[via=call]"]
    held_out = read(str(calibrated)).laws["cross[via=call]"].held_out[0]
    assert law["held_out"][0]["median"] == held_out.median


def test_a_calibration_resumes_or_starts_anew_but_only_when_told(call: Call, calibrated: Path) -> None:
    """An earlier record is neither overwritten nor mixed in unasked."""
    asked = ("calibrate", "--device", "cpu", "--budget", "1 s", "--only", "cross[via=call]", "-o")
    refused = call(*asked, calibrated)
    assert refused.code == 2
    assert "exists already" in refused.err
    other = calibrated.with_name("own.json")
    refused = call(*asked, other)
    assert refused.code == 2
    assert "go on with --resume, or start anew with --overwrite" in " ".join(refused.err.replace("│", " ").split())
    assert call(*asked, other, "--resume").code == 0
    assert set(read(str(other)).laws) == {"cross[via=call]"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "5"), "must carry a unit"),
        (("--budget", "0 s"), "must be a duration > 0"),
        (("--device", "gpu"), "must be auto, cuda or cpu"),
        (("--only", "gem"), "no probe is called `gem`; did you mean `gemm`?"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_measured(
    call: Call, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    """The rule is told, exit code 2, and nothing is written."""
    given = dict(zip(("--device", "--budget", "--only"), ("cpu", "1 s", "launch"), strict=True))
    given |= dict([arguments])
    refused = call("calibrate", *(word for pair in given.items() for word in pair), "-o", tmp_path / "x.yaml")
    assert refused.code == 2
    assert message in " ".join(refused.err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_a_profile_must_be_yaml_or_json(call: Call, tmp_path: Path) -> None:
    """Another ending is refused at once."""
    refused = call("calibrate", "-o", tmp_path / "x.txt", "--budget", "1 s")
    assert refused.code == 2
    assert "must end in .yaml or .json" in refused.err


# --- profile --------------------------------------------------------------------------------------------------------


def test_the_list_names_every_profile_that_ships(call: Call) -> None:
    """One row each, with how many laws of which quality."""
    listed = json.loads(call("profile", "list", "--format", "json").out)["profiles"]
    assert [one["name"] for one in listed] == names()


def test_a_profile_is_exported_both_ways(call: Call, calibrated: Path, tmp_path: Path) -> None:
    """From YAML to JSON and back nothing changes; a file that is there stays."""
    there, back = tmp_path / "there.json", tmp_path / "back.yaml"
    assert call("profile", "export", calibrated, "-o", there).code == 0
    assert call("profile", "export", there, "-o", back).code == 0
    assert read(str(back)) == read(str(calibrated))
    refused = call("profile", "export", there, "-o", back)
    assert refused.code == 2
    assert "--overwrite" in refused.err


def test_a_profile_does_not_differ_from_itself(call: Call, calibrated: Path) -> None:
    """Every ratio is 1."""
    told = json.loads(call("profile", "diff", calibrated, calibrated, "--format", "json").out)
    assert told["laws"]
    assert all(one["ratio"]["median"] == 1 for one in told["laws"] if one.get("ratio"))


@pytest.mark.slow
def test_a_plot_is_a_page_that_needs_nothing_else(call: Call, calibrated: Path, tmp_path: Path) -> None:
    """It holds every law and no address to load anything from."""
    page = tmp_path / "laws.html"
    assert call("profile", "plot", calibrated, "-o", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert "cross[via=call]" in text
    assert 'src="http' not in text
    assert call("profile", "plot", calibrated, "-o", page, "--law", "timer", "--overwrite").code == 0
    assert "cross[via=call]" not in page.read_text(encoding="utf-8")
    assert call("profile", "plot", calibrated, "-o", tmp_path / "laws.txt").code == 2


def test_the_schema_of_profiles_is_json(call: Call) -> None:
    """Editors can check a profile by it."""
    schema = json.loads(call("profile", "schema").out)
    assert "laws" in schema["properties"]


def test_a_profile_that_is_not_there_is_told(call: Call) -> None:
    """The error lists what ships."""
    refused = call("profile", "show", "h100")
    assert refused.code == 2
    assert "no profile that ships has this name" in refused.err


# --- import and accuracy --------------------------------------------------------------------------------------------


def test_an_imported_table_becomes_a_law_without_its_rows(call: Call, table: Path, tmp_path: Path) -> None:
    """The law says what the table says, within 1 %; the profile holds no points of it."""
    out = tmp_path / "gpu.json"
    done = call("profile", "import", table, "-o", out)
    assert done.code == 0
    assert "324 points of 1 law" in done.err
    profile = read(str(out))
    law = profile.law("gemm", dtype="bf16")
    assert law.measured is None
    assert profile.source_of(law).quality == "imported"
    sizes = {name: np.array([float(value)]) for name, value in {"m": 8, "n": 4096, "k": 1024}.items()}
    expected = 3e-6 + 2 * (8 * 1024 + 4096 * 1024 + 8 * 4096) / 1e12
    assert profile.timing("gemm", dtype="bf16").predict(sizes)[0] == pytest.approx(expected, rel=0.01)


def test_accuracy_judges_what_the_fit_did_not_see(call: Call, table: Path) -> None:
    """A table that follows a law exactly meets its goals, on points, shapes and layers that it holds."""
    told = call("profile", "accuracy", table, "--format", "json")
    assert told.code == 0
    outcomes = json.loads(told.out)["outcomes"]
    assert {one["split"] for one in outcomes} >= {"points", "unseen (n, k)"}
    assert all(one["met"] for one in outcomes if one["goal_median"])
    assert max(one["median"] for one in outcomes) < 0.01


def test_accuracy_fails_where_a_goal_is_missed(call: Call, table: Path) -> None:
    """A table of mere noise exits with 3, and says which goals are missed."""
    path = next(table.rglob("*.parquet"))
    rows = pd.read_parquet(path)
    rows["latency"] *= np.exp(np.random.default_rng(1).normal(0, 0.5, len(rows)))
    rows.to_parquet(path)
    told = call("profile", "accuracy", table)
    assert told.code == 3
    assert "Missed: gemm[dtype=bf16] on points" in told.out


def test_only_laws_that_exist_can_be_asked_for(call: Call, table: Path, tmp_path: Path) -> None:
    """The error lists what was read."""
    refused = call("profile", "import", table, "--only", "attention*", "-o", tmp_path / "x.json")
    assert refused.code == 2
    assert "no law is called so; there are `gemm[dtype=bf16]`" in refused.err
