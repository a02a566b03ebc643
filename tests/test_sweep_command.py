"""The command `coordsim sweep`: formats, files, exit codes, mistakes, going on after an interruption, and the page that describes it."""

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coordsim.models import study as studies
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.result import Result

from .clusters import dask_cluster
from .command import Call
from .pages import outside, page_data
from .test_study import MEAN, QUEUE

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ALONE = ("--workers", "1", "--quiet")
TABLES = (
    "study.csv",
    "samples.csv",
    "study.parquet",
    "study.json",
    "report.md",
    "report.html",
    "result.json",
    "asked.json",
)
TWO = ("--over", "tools.search.concurrency=1,2", "--over", f"{MEAN}=200 ms..800 ms:log:3")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a small scenario with a tool that tasks wait for."""
    path = tmp_path / "desk.yaml"
    path.write_text(QUEUE, encoding="utf-8")
    return path


def tables(folder: Path) -> dict[str, bytes]:
    """Return what a study wrote, but for its journal."""
    return {name: (folder / name).read_bytes() for name in TABLES}


def test_the_answer_comes_first_in_words(call: Call, desk: Path) -> None:
    """The values that give the least and the most, and by how much; then main effects and cells."""
    done = call("sweep", desk, *TWO, *ALONE, "--metric", "mean")
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "response_time_mean is least" in words
    assert re.search(
        rf"at tools.search.concurrency=2, {MEAN}=200 ms, and most, .* at tools.search.concurrency=1, {MEAN}=800 ms:",
        words,
    )
    assert "apart" in words
    assert "Main effects on response_time_mean" in done.out
    assert "paired by replication" in words


def test_options_hold_for_the_scenarios_that_the_section_names(call: Call, desk: Path, tmp_path: Path) -> None:
    """As for those that the command names: all cells have as many tasks and replications."""
    (tmp_path / "other.yaml").write_text(QUEUE.replace("name: desk", "name: other"), encoding="utf-8")
    section = "study: {over: {tools.search.concurrency: [1, 2]}, scenarios: [{file: other.yaml}]}\n"
    desk.write_text(QUEUE + section, encoding="utf-8")
    options = ("--tasks", "7", "--set", "replications=2", "-o", tmp_path / "out")
    assert call("sweep", desk, *options, *ALONE).code == 0
    rows = pq.read_table(tmp_path / "out" / "study.parquet", columns=["scenario", "tasks"]).to_pylist()
    assert [(one["scenario"], one["tasks"]) for one in rows] == [("desk", 14)] * 2 + [("other", 14)] * 2


def test_a_long_table_says_how_to_see_all_of_it(call: Call, desk: Path) -> None:
    """Forty cells on the terminal; all of them as CSV, with the unit of each number."""
    many = (
        "sweep",
        desk,
        "--over",
        f"{MEAN}=100 ms..500 ms",
        "--points",
        "42",
        "--tasks",
        "5",
        "--replications",
        "1",
        *ALONE,
    )
    assert "and 2 cells more: `--format csv`, or `-o DIR`, has all" in call(*many).out
    rows = list(csv.DictReader(io.StringIO(call(*many, "--format", "csv").out)))
    assert {row["cell"] for row in rows} == {str(number) for number in range(1, 43)}
    assert {row["unit"] for row in rows if row["metric"] == "throughput"} == {"1/s"}
    assert float(rows[0][MEAN]) == 0.1


def test_a_folder_holds_the_tables(call: Call, desk: Path, tmp_path: Path) -> None:
    """CSV, Parquet with units, JSON, the report, a page without a network, and the scenario to run it again."""
    out = tmp_path / "out"
    assert call("sweep", desk, *TWO, *ALONE, "-o", out).code == 0
    field = pq.read_schema(out / "study.parquet").field("response_time_p95")
    assert field.metadata[b"unit"] == b"s"
    assert len(pq.read_table(out / "study.parquet")) == 6
    data = json.loads((out / "study.json").read_text())
    assert data["coordsim_study"] == 1
    assert len(data["cells"]) == 6
    assert data["statement"] in " ".join((out / "report.md").read_text().split())
    assert outside(out / "report.html") == []
    assert page_data(out / "report.html")["charts"]
    assert not (out / "journal.jsonl.lock").exists()
    again = call("sweep", out / "scenario.desk.yaml", *ALONE, "-o", tmp_path / "again")
    assert again.code == 0
    assert (out / "study.csv").read_bytes() == (tmp_path / "again" / "study.csv").read_bytes()


def test_a_folder_is_not_overwritten_unasked(call: Call, desk: Path, tmp_path: Path) -> None:
    """Neither a study nor anything else; `--overwrite` starts a study anew, and touches no other file."""
    out = tmp_path / "out"
    short = ("sweep", desk, "--seeds", "1,2", "--replications", "1", *ALONE, "-o", out)
    assert call(*short).code == 0
    (out / "mine.txt").write_text("kept")
    refused = call(*short)
    assert (refused.code, "holds a study already; go on with it by --resume" in refused.err) == (2, True)
    assert call(*short, "--overwrite").code == 0
    assert (out / "mine.txt").read_text() == "kept"
    assert "holds files and no study" in call(*short[:-1], tmp_path).err


def test_going_on_with_another_study_says_what_differs(call: Call, desk: Path, tmp_path: Path) -> None:
    """Seeds, settings, factors and the scenario itself."""
    base = (
        "sweep",
        desk,
        "--over",
        "tools.search.concurrency=1,2",
        "--replications",
        "2",
        *ALONE,
        "-o",
        tmp_path / "out",
    )
    assert call(*base).code == 0
    assert "`seeds` was [11], and is [1, 2]" in call(*base, "--resume", "--seeds", "1,2").err
    assert "`metrics` was [], and is" in call(*base, "--resume", "--metric", "p90").err
    assert (
        "`scenarios.desk.tools.idle.latency.constant` was 1 s, and is 2 s"
        in call(*base, "--resume", "--set", "tools.idle.latency=2 s").err
    )
    other = call(*[word if word != "2" else "3" for word in base], "--resume")
    assert (other.code, "`settings.0.replications` was 2, and is 3" in other.err) == (2, True)


def test_a_cell_that_fails_is_told_of(call: Call, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr and in the table; the others are there, and the code is 4. Once it no longer fails, `--resume` completes it."""

    def fragile(text: str, seed: int, replication: int, spans: str = "none") -> Result:
        if '"concurrency": 1' in text:
            raise OverflowError("too large for this machine")
        return simulate_text(text, seed, replication, spans)

    wanted = ("sweep", desk, *TWO, *ALONE, "-o")
    with monkeypatch.context() as patch:
        patch.setattr(studies, "simulate_text", fragile)
        done = call(*wanted, tmp_path / "out")
    assert done.code == 4
    assert "WARNING: cell 1 failed (tools.search.concurrency=1" in done.err
    assert "too large for this machine" in done.out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "study.csv").read_text())))
    assert {row["cell"] for row in rows if row["status"] == "failed" and not row["metric"]} == {"1", "2", "3"}
    assert {row["cell"] for row in rows if row["metric"] == "throughput"} == {"4", "5", "6"}
    assert call(*wanted, tmp_path / "out", "--resume").code == 0
    assert call(*wanted, tmp_path / "whole").code == 0
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_an_interrupted_study_says_how_to_go_on_and_does(
    call: Call, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the fourth cell leaves three; the command that is told completes the study to the same bytes."""
    out = tmp_path / "out"
    seen: list[str] = []

    def stopped(text: str, seed: int, replication: int, spans: str = "none") -> Result:
        seen.append(text)
        if len(set(seen)) == 4:
            raise KeyboardInterrupt
        return simulate_text(text, seed, replication, spans)

    wanted = ("sweep", desk, *TWO, "--workers", "1", "--replications", "2", "-o")
    with monkeypatch.context() as patch:
        patch.setattr(studies, "simulate_text", stopped)
        done = call(*wanted, out)
    assert done.code == 130
    assert "interrupted; 3 of 6 cells are complete; go on with: coordsim sweep" in done.err
    assert not (out / "study.csv").exists()
    told = shlex.split(done.err.partition("go on with: coordsim ")[2])
    assert told[-1] == "--resume"
    assert call(*told).code == 0
    assert call(*wanted, tmp_path / "whole").code == 0
    assert tables(out) == tables(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--over", "tools.serch.concurrency=1"], "--over tools.serch.concurrency=1  tools.serch: no such"),
        (["--over", "tools.search.concurrency"], "must be a path and values"),
        (["--over", "max_steps=9..1"], "`from` must be below `to`; got 9 and 1"),
        (["--over", "max_steps=1,2", "--over", "max_steps=3"], "is given twice"),
        (["--seeds", "1,x"], "must be whole numbers >= 0"),
        (["--seeds", "1,2", "--metric", "p9x"], "--metric p9x"),
        (["--resume", "--seeds", "1,2"], "goes with"),
        (["--seeds", "1,2", "--replications", "0"], "--replications must be"),
    ],
)
def test_options_that_cannot_be_are_named(call: Call, desk: Path, options: list[str], told: str) -> None:
    """With the rule, and the code for invalid input."""
    done = call("sweep", desk, *options, *ALONE)
    assert done.code == 2
    assert told in " ".join(done.err.split()) or told in done.err
    assert done.out == ""


# -- other processes, and clusters


SIXTY = (
    "--over", "tools.search.concurrency=1..5", "--over", f"{MEAN}=200 ms..800 ms:log:4", "--over", "slo.p95=1 s,2 s,3 s",
    "--tasks", "20", "--replications", "2",
)  # fmt: skip


@pytest.mark.slow
def test_sixty_cells_are_the_same_bytes_on_one_process_two_and_dask(call: Call, desk: Path, tmp_path: Path) -> None:
    """In this process, two of loky, a local Dask cluster, and a scheduler with two workers over TCP that was started by itself."""
    pytest.importorskip("distributed", reason="the extra [dask] is not installed")
    assert call("sweep", desk, *SIXTY, "--workers", "1", "-q", "-o", tmp_path / "one").code == 0
    whole = tables(tmp_path / "one")
    assert len(json.loads(whole["study.json"])["cells"]) == 60
    assert call("sweep", desk, *SIXTY, "--workers", "2", "-q", "-o", tmp_path / "two").code == 0
    assert tables(tmp_path / "two") == whole
    assert call("sweep", desk, *SIXTY, "--workers", "2", "--backend", "dask", "-q", "-o", tmp_path / "dask").code == 0
    assert tables(tmp_path / "dask") == whole
    (tmp_path / "cluster").mkdir()
    with dask_cluster(tmp_path / "cluster") as cluster:
        remote = ("--backend", "dask", "--scheduler", cluster.address, "-q", "-o", tmp_path / "remote")
        assert call("sweep", desk, *SIXTY, *remote).code == 0
    assert tables(tmp_path / "remote") == whole


@pytest.mark.slow
def test_sixty_cells_are_the_same_bytes_on_ray(call: Call, desk: Path, tmp_path: Path) -> None:
    """As on one process."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    assert call("sweep", desk, *SIXTY, "--workers", "1", "-q", "-o", tmp_path / "one").code == 0
    assert call("sweep", desk, *SIXTY, "--workers", "2", "--backend", "ray", "-q", "-o", tmp_path / "ray").code == 0
    assert tables(tmp_path / "ray") == tables(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_is_ended_goes_on_to_the_same_bytes(
    call: Call, desk: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """Ctrl-C and a kill of the whole command, after its first cells; `--resume` completes it."""
    out = tmp_path / "out"
    wanted = ("sweep", str(desk), *TWO, "--tasks", "1500", "--replications", "4", "--workers", "2", "-q", "-o")
    command = [sys.executable, "-m", "coordsim", *wanted, str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and _lines(out / "journal.jsonl") < 2:  # the first is kept for good then
            time.sleep(0.01)
        os.killpg(process.pid, how)
        _, err = process.communicate(timeout=60)
    if how is signal.SIGINT and process.returncode != 0:
        assert process.returncode == 130, err
        assert re.search(r"interrupted; [1-6] of 6 cells are complete; go on with: coordsim sweep", err)
    kept = _lines(out / "journal.jsonl")
    assert kept >= 1
    assert call(*wanted, out, "--resume").code == 0
    assert _lines(out / "journal.jsonl") == 6
    assert call(*wanted, tmp_path / "whole").code == 0
    assert tables(out) == tables(tmp_path / "whole")


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


# -- the page in docs


@pytest.mark.slow
def test_the_commands_and_examples_of_the_page_run(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each exits with 0, the Python prints a table, the section is one, and the answer shown is the real one."""
    (tmp_path / "scenarios").symlink_to(root / "scenarios")
    monkeypatch.chdir(tmp_path)
    found = BLOCK.findall((root / "docs" / "study.md").read_text(encoding="utf-8"))
    assert {name for name, _ in found} == {"sh", "python", "yaml", "text"}
    lines = [line for name, text in found if name == "sh" for line in text.splitlines()]
    outs = []
    for line in lines:
        done = call(*shlex.split(line)[1:], *ALONE)
        assert done.code == 0, f"{line}\n{done.err}"
        outs.append(done.out.splitlines())
    (shown,) = (text for name, text in found if name == "text")
    assert [line for line in shown.splitlines() if line not in outs[0]] == []
    for name, text in found:
        if name == "python":
            exec(compile(text, "study.md", "exec"), {})
        elif name == "yaml":
            (tmp_path / "other.yaml").write_text(QUEUE)
            assert studies.StudySpec.model_validate(_yaml(text)["study"]).kind == "grid"


def _yaml(text: str) -> dict[str, object]:
    from coordsim.sim.engine.source import Document

    return Document.from_text(text).data
