"""Run folders: whole or not there, the same bytes for the same run, and clear about what is wrong with them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.analysis import runfolder
from coordsim.sim.analysis.replicate import Run, Settings, replicate
from coordsim.sim.analysis.runfolder import RunFolderError, Source, read, write

from .mm1 import Queue, simulate

YAML = "coordsim: 1\nname: mm1  # µ = 1\n"


def make(spans: str = "none") -> Run:
    """Return a small run."""
    settings = Settings(replications=3, spans=spans)
    return replicate(simulate, Queue(tasks=80, fails=0.1), seed=3, settings=settings)


@pytest.fixture(scope="module")
def run() -> Run:
    """Return a small run with spans."""
    return make("all")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_written_is_read(tmp_path: Path, run: Run) -> None:
    """Summary, scenario, tasks and spans come back."""
    found = read(write(run, YAML, tmp_path / "runs" / "one"))
    assert found.summary == run.summary
    assert found.scenario == YAML
    assert len(found.tasks()) == 240
    assert found.tasks()["replication"].value_counts().to_dict() == {0: 80, 1: 80, 2: 80}
    assert len(found.spans()) == len(run.results[0].spans)


def test_the_manifest_says_what_ran(tmp_path: Path, run: Run) -> None:
    """Versions, seed, replications, the scenario's hash, the command; a time only when one is given."""
    manifest = read(write(run, YAML, tmp_path / "one", source=Source("coordsim run mm1.yaml"))).manifest
    assert manifest["scenario_sha256"] == hashlib.sha256(YAML.encode()).hexdigest()
    assert (manifest["seed"], manifest["replications"], manifest["command"]) == (3, 3, "coordsim run mm1.yaml")
    assert set(manifest["versions"]) == {"coordsim", "python", "numpy", "simpy"}
    assert "created" not in manifest
    timed = read(write(run, YAML, tmp_path / "two", source=Source(created="2025-01-02T03:04:05Z"))).manifest
    assert timed["created"] == "2025-01-02T03:04:05Z"


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two runs of one seed write equal files, Parquet included."""
    first, second = write(make("all"), YAML, tmp_path / "a"), write(make("all"), YAML, tmp_path / "b")
    assert contents(first) == contents(second)
    assert set(contents(first)) == {
        "manifest.json", "scenario.resolved.yaml", "spans.parquet", "summary.json", "tasks.parquet",
    }  # fmt: skip


def test_a_run_without_spans_has_no_file_of_them(tmp_path: Path) -> None:
    """And asking for them says how to keep some."""
    found = read(write(make(), YAML, tmp_path / "one"))
    assert not found.has_spans
    with pytest.raises(RunFolderError, match="holds no spans; run the scenario with `--spans sampled`"):
        found.spans()


def test_extra_files_go_along(tmp_path: Path, run: Run) -> None:
    """A report lies beside the numbers; a name that leaves the folder or hides a file is refused."""
    folder = write(run, YAML, tmp_path / "one", extra={"report.html": "<p>µ", "raw.bin": b"\x00"})
    assert (folder / "report.html").read_text(encoding="utf-8") == "<p>µ"
    for name in ("../report.html", "summary.json"):
        with pytest.raises(ValueError, match="plain file names"):
            write(run, YAML, tmp_path / "two", extra={name: ""})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_a_run_is_not_overwritten_unasked(tmp_path: Path, run: Run) -> None:
    """The error names the option; with it the old files are gone, to the last."""
    folder = write(run, YAML, tmp_path / "one", extra={"old.txt": "old"})
    with pytest.raises(RunFolderError, match=r"holds a run already; .* --overwrite"):
        write(run, YAML, folder)
    assert (folder / "old.txt").exists()
    write(run, YAML, folder, overwrite=True)
    assert not (folder / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_is_no_run_is_never_overwritten(tmp_path: Path, run: Run) -> None:
    """Not a folder of somebody's files, not a file, and not a link, whatever was asked."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for name in ("home", "file", "link"):
        with pytest.raises(RunFolderError, match="choose another place"):
            write(run, YAML, tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled(tmp_path: Path, run: Run) -> None:
    """There is nothing in it to lose."""
    (tmp_path / "one").mkdir()
    assert read(write(run, YAML, tmp_path / "one")).summary == run.summary


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_nothing_half_written(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """When the disk is full the folder is as it was before, and no temporary one is left."""
    if exists:
        write(run, YAML, tmp_path / "one", extra={"mine": "1"})
    before = contents(tmp_path)

    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runfolder, "_save", full)
    with pytest.raises(RunFolderError, match="one cannot be written: No space left on device"):
        write(run, YAML, tmp_path / "one", overwrite=exists)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["one"] * exists


def test_a_place_that_cannot_be_is_an_error(tmp_path: Path, run: Run) -> None:
    """A folder below a file is refused with the place in the message."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write(run, YAML, tmp_path / "file" / "one")


def damaged(folder: Path, name: str, content: str) -> None:
    """Replace a file of a run folder."""
    (folder / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", "manifest.json is damaged"),
        ("manifest.json", "[]", "is not a run folder: its manifest.json does not say `coordsim_run: 1`"),
        ("manifest.json", '{"coordsim_run": 7}', "has version 7 of the format, .* install a newer coordsim"),
        ("summary.json", '{"coordsim_summary": 1, "metr', "summary.json is damaged: .*; run the scenario again"),
        ("summary.json", '{"coordsim_summary": 1}', "summary.json: the summary is damaged: `scenario` is missing"),
        ("summary.json", '{"coordsim_summary": 9}', "install a newer coordsim"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(tmp_path: Path, run: Run, name: str, content: str, message: str) -> None:
    """Truncated, foreign and newer files each have their message."""
    folder = write(run, YAML, tmp_path / "one")
    damaged(folder, name, content)
    with pytest.raises(RunFolderError, match=message):
        read(folder)


def test_tables_are_read_when_asked_for(tmp_path: Path, run: Run) -> None:
    """A damaged or missing table spoils neither the summary nor the reading of it."""
    found = read(write(run, YAML, tmp_path / "one"))
    damaged(found.path, "tasks.parquet", "PAR1")
    assert read(found.path).summary == run.summary
    with pytest.raises(RunFolderError, match=r"tasks\.parquet is damaged"):
        found.tasks()
    (found.path / "tasks.parquet").unlink()
    with pytest.raises(RunFolderError, match=r"tasks\.parquet is missing"):
        found.tasks()


def test_what_is_no_run_folder_is_told_apart(tmp_path: Path) -> None:
    """Nothing there, a file, a folder of something else: each says how one is made."""
    (tmp_path / "file").write_text("x")
    for place, message in (("nowhere", "does not exist"), ("file", "is not a folder"), (".", "has no manifest.json")):
        with pytest.raises(RunFolderError, match=f"{message}.*coordsim run SCENARIO -o"):
            read(tmp_path / place)


def test_numbers_are_not_rounded_in_storage(tmp_path: Path, run: Run) -> None:
    """The file has every digit of the mean."""
    folder = write(run, YAML, tmp_path / "one")
    stored = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert stored["metrics"]["response_time_mean"]["value"] == run.summary.metrics["response_time_mean"].value
