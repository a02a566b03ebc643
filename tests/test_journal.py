"""The journal of cells: what is in it is found to the last digit, and what a kill tore, or another process writes, does no harm."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.scenario import load
from coordsim.models.variants import Variants, simulate_text
from coordsim.sim.analysis.cells import Cell, Outcome, run_cells
from coordsim.sim.analysis.journal import FileJournal, JournalError
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.slo import objective

from .mm1 import Queue, simulate

SETTINGS = Settings(replications=3, objectives=(objective("p95", 5.0),))
CELLS = [Cell(f"queue {number}", Queue(tasks=60, arrival_rate=0.1 * number), 5) for number in (1, 2, 3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal of the first two cells is."""
    path = tmp_path / "study" / "journal.jsonl"
    with FileJournal(path) as journal:
        list(run_cells(simulate, CELLS[:2], SETTINGS, journal=journal))
    return path


def found(path: Path) -> list[Outcome | None]:
    """Return what a journal has of the three cells."""
    with FileJournal(path) as journal:
        return [journal.find(one, SETTINGS) for one in CELLS]


def test_what_is_kept_is_found_to_the_last_digit(path: Path) -> None:
    """Summary and tasks, and nothing for a cell that did not run."""
    fresh = dict(run_cells(simulate, CELLS, SETTINGS))
    assert repr(found(path)) == repr([fresh[0], fresh[1], None])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["provider-outage", "document-rag", "kv-pressure"])
def test_summaries_of_scenarios_survive_the_way(name: str, root: Path, tmp_path: Path) -> None:
    """With causes, calls, shares, caches and numbers that were not observed."""
    text = Variants(load(root / "scenarios" / f"{name}.yaml", {"workload.tasks": "20"})).key()
    cell, settings = Cell(text, text, 5), Settings(replications=2)
    with FileJournal(tmp_path / "journal") as journal:
        fresh = [outcome for _, outcome in run_cells(simulate_text, [cell], settings, journal=journal)]
        assert fresh[0].failure == ""
        assert repr(journal.find(cell, settings)) == repr(fresh[0])


def test_numbers_that_json_does_not_have_survive_the_way(tmp_path: Path) -> None:
    """Nothing is done, so there is no mean; one replication has no interval."""
    cell = Cell("fails", Queue(tasks=20, fails=1.0), 5)
    settings = Settings(replications=1)
    with FileJournal(tmp_path / "journal") as journal:
        fresh = [outcome for _, outcome in run_cells(simulate, [cell], settings, journal=journal)]
        assert fresh[0].summary is not None
        assert math.isnan(fresh[0].summary.metrics["response_time_mean"].value)
        assert repr(journal.find(cell, settings)) == repr(fresh[0])


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        (replace(CELLS[0], seed=6), SETTINGS),
        (replace(CELLS[0], key="another"), SETTINGS),
        (CELLS[0], replace(SETTINGS, replications=4)),
        (CELLS[0], replace(SETTINGS, warmup=None)),
        (CELLS[0], replace(SETTINGS, objectives=(objective("p95", 4.0),))),
        (CELLS[0], replace(SETTINGS, metrics=("p99",))),
    ],
)
def test_a_cell_of_another_study_is_not_found(path: Path, cell: Cell[Queue], settings: Settings) -> None:
    """Its numbers would be others."""
    with FileJournal(path) as journal:
        assert journal.find(cell, settings) is None


def test_settings_that_change_no_number_do_not_count(path: Path) -> None:
    """Nor does what progress calls a cell."""
    with FileJournal(path) as journal:
        assert journal.find(replace(CELLS[0], label="another"), replace(SETTINGS, spans="all")) is not None


def test_another_version_of_coordsim_is_another_study(path: Path) -> None:
    """It may simulate otherwise."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "coordsim": "0.0.1"}) + "\n" for line in lines))
    assert found(path) == [None] * 3


def test_a_cell_that_failed_is_written_down_and_run_again(path: Path) -> None:
    """It is not found; when it is complete, it is."""
    with FileJournal(path) as journal:
        journal.keep(CELLS[2], SETTINGS, Outcome(None, "ValueError: no", 60))
        assert journal.find(CELLS[2], SETTINGS) is None
    assert json.loads(path.read_text().splitlines()[2])["failure"] == "ValueError: no"
    assert found(path)[2] is None
    with FileJournal(path) as journal:
        list(run_cells(simulate, CELLS, SETTINGS, journal=journal))
    assert found(path)[2] is not None


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_torn_last_line_is_cut_off(path: Path, kept: int) -> None:
    """Wherever the kill struck: the lines before it count, and what is written next stands on a line of its own."""
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + kept] if kept >= 0 else whole[:-1])
    with FileJournal(path) as journal:
        assert len(journal) == 1
        list(run_cells(simulate, CELLS[:2], SETTINGS, journal=journal))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{]", "[]", "{}", '{"journal": 1}', ""])
def test_a_line_that_is_no_cell_is_an_error(path: Path, line: str) -> None:
    """With its number, and what to do; the journal is not touched, and can be opened by others."""
    lines = path.read_text().splitlines()
    damaged = "\n".join([lines[0], line, lines[1], ""])
    path.write_text(damaged)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"journal\.jsonl:2 is no cell of a journal; take that line out"):
            FileJournal(path)
    assert path.read_text() == damaged


def test_two_cannot_write_one_journal(path: Path) -> None:
    """The second is told who has it, and gets it afterwards."""
    with FileJournal(path), pytest.raises(JournalError, match=f"process {os.getpid()} on .* writes this study"):
        FileJournal(path)
    assert len(found(path)) == 3


def test_the_lock_of_a_process_that_was_killed_does_not_count(path: Path) -> None:
    """Nor does one whose number another process has by now."""
    code = (
        "import os, sys; from coordsim.sim.analysis.journal import FileJournal; FileJournal(sys.argv[1]); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    lock = path.with_name("journal.jsonl.lock")
    assert lock.exists()
    assert found(path)[0] is not None
    assert not lock.exists()
    with FileJournal(path):
        held = json.loads(lock.read_text())
    lock.write_text(json.dumps({**held, "began": held["began"] - 100.0}))
    assert found(path)[0] is not None


def test_a_lock_of_another_machine_is_left_alone(path: Path) -> None:
    """Nobody here can tell whether its process lives."""
    lock = path.with_name("journal.jsonl.lock")
    lock.write_text(json.dumps({"pid": 1, "began": 0.0, "machine": "elsewhere.example"}))
    with pytest.raises(JournalError, match=r"process 1 on elsewhere.example .* remove that file if it runs no more"):
        FileJournal(path)
    assert lock.exists()


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A folder is in its place, or a file in the place of its folder."""
    with pytest.raises(JournalError, match="cannot be opened"):
        FileJournal(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be written"):
        FileJournal(tmp_path / "file" / "journal")


def test_a_full_disk_is_told_and_the_lock_given_back(path: Path) -> None:
    """What is buffered can then neither be cut off nor written by closing."""

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def refuse(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

        flush = truncate = refuse

        def close(self) -> None:
            self.file.close()
            self.refuse()

    journal = FileJournal(path)
    journal._file = Full(journal._file)  # type: ignore[assignment]
    with pytest.raises(JournalError, match="No space left"):
        journal.keep(CELLS[2], SETTINGS, Outcome(None, "failed"))
    with pytest.raises(OSError, match="No space left"):
        journal.close()
    assert found(path)[:2] != [None, None]
