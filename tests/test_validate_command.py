"""The command `coordsim validate`: its verdict is its exit code, it writes a folder, keeps what it measured, and replays it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from coordsim.calibration import environment, validate_command
from coordsim.calibration.validation import bench
from coordsim.calibration.validation.session import read

from .command import Call, Outcome
from .validated import Made, made

__all__ = ["made"]

Make = Callable[..., Made]
SMALL = ("--configurations", "3", "--budget", "5m", "--quiet")


@pytest.mark.parametrize(
    ("how", "code", "status"),
    [
        ({}, 0, "pass"),
        ({"factor": 0.7}, 3, "fail"),
        ({"factor": 1.11, "drift": 0.15}, 4, "inconclusive"),
        ({"tasks": 4, "spread": 1.0}, 4, "inconclusive"),
        ({"stolen": tuple(range(99))}, 4, "inconclusive"),
    ],
)
def test_the_exit_code_is_the_verdict(made: Make, call: Call, how: dict[str, Any], code: int, status: str) -> None:
    """0 passes, 3 fails, 4 is open: for want of precision, of a quiet machine, or of rounds."""
    made(**how)
    found = call("validate", *SMALL, "--format", "json")
    assert found.code == code
    assert json.loads(found.out)["status"] == status


@pytest.mark.parametrize("format", ["table", "json", "csv", "md"])
def test_the_result_is_on_stdout_in_every_format(made: Make, call: Call, format: str) -> None:
    """Nothing but it, and the same again."""
    made()
    first = call("validate", *SMALL, "--format", format)
    made()
    assert first.code == 0
    assert first.out.strip()
    assert (first.out, first.err) == call("validate", *SMALL, "--format", format)[1:]


def folder(call: Call, out: Path, *more: str) -> Outcome:
    """Return the outcome of a call that writes a folder."""
    return call("validate", *SMALL, "-o", out, *more)


def test_a_folder_holds_session_verdict_report_and_scenarios(made: Make, call: Call, tmp_path: Path) -> None:
    """The scenario of each cell is that which was frozen before it was measured."""
    made()
    assert folder(call, tmp_path / "out").code == 0
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"session.json", "verdict.json", "verdict.csv", "report.md", "report.html", "result.json"} <= names
    session = read(tmp_path / "out" / "session.json")
    cells = {f"cells/r{cell.round}-{cell.configuration}.yaml" for cell in session.cells}
    assert {name for name in names if name.startswith("cells/")} == cells
    assert len(cells) == 15


def test_a_recorded_session_is_replayed_to_the_same_verdict(made: Make, call: Call, tmp_path: Path) -> None:
    """Numbers are those of the measurement, with no system; what goes with measuring is refused."""
    made(factor=1.05)
    first = folder(call, tmp_path / "out", "--format", "json")
    file = tmp_path / "out" / "session.json"
    again = call("validate", "--replay", file, "--format", "json", "--quiet", "-o", tmp_path / "again")
    assert (again.code, again.out) == (first.code, first.out)
    assert (tmp_path / "again" / "session.json").read_bytes() == file.read_bytes()
    assert (tmp_path / "again" / "verdict.json").read_bytes() == (tmp_path / "out" / "verdict.json").read_bytes()
    refused = call("validate", "--replay", file, "--seed", "0")
    assert refused.code == 2
    assert "--replay measures nothing" in " ".join(refused.err.replace("│", " ").split())


def test_a_report_is_made_of_the_folder_again(made: Make, call: Call, tmp_path: Path) -> None:
    """`coordsim report` reads what the command wrote."""
    made()
    folder(call, tmp_path / "out")
    found = call("report", tmp_path / "out", "-o", tmp_path / "page.html")
    assert found.code == 0, found.err
    assert "How sure are we" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_interruption_keeps_what_was_measured(made: Make, call: Call, tmp_path: Path) -> None:
    """Exit code 130, the cells are in the folder, and the command that it names goes on to the verdict."""
    made(stop=7)
    stopped = folder(call, tmp_path / "out")
    assert stopped.code == 130
    assert "7 cells are measured of 15" in stopped.err
    assert stopped.err.rstrip().endswith("--resume")
    assert len(read(tmp_path / "out" / "session.json").cells) == 7
    begun = folder(call, tmp_path / "out")
    assert begun.code == 2
    assert "--resume" in begun.err
    system = made()
    assert folder(call, tmp_path / "out", "--resume").code == 0
    assert sum(what == "run" for what, _ in system.calls) == 8
    assert len(read(tmp_path / "out" / "session.json").cells) == 15


def test_an_interruption_without_a_folder_says_that_nothing_is_kept(made: Make, call: Call) -> None:
    """Exit code 130."""
    made(stop=2)
    found = call("validate", *SMALL)
    assert found.code == 130
    assert "nothing is kept" in found.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seed", "1"), "was begun with --seed 0"),
        (("--configurations", "4"), "was begun with --configurations 3"),
        (("--overwrite",), "give one of them"),
    ],
)
def test_a_session_goes_on_only_as_it_was_begun(
    made: Make, call: Call, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    """Another seed or number of configurations is another session."""
    made(stop=4)
    folder(call, tmp_path / "out")
    before = (tmp_path / "out" / "session.json").read_bytes()
    found = folder(call, tmp_path / "out", "--resume", *more)
    assert found.code == 2
    assert said in " ".join(found.err.replace("│", " ").split())
    assert (tmp_path / "out" / "session.json").read_bytes() == before


def test_another_machine_does_not_go_on(
    made: Make, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells must not be pooled with these."""
    made(stop=4)
    folder(call, tmp_path / "out")
    monkeypatch.setattr(environment, "environment", lambda _device: {"cpu": "another"})
    found = folder(call, tmp_path / "out", "--resume")
    assert found.code == 2
    assert "another machine" in found.err


def test_a_result_is_not_overwritten_unasked(made: Make, call: Call, tmp_path: Path) -> None:
    """Neither is a folder with other things; asked for, nothing of the old one is left."""
    made(factor=1.1, drift=0.1)
    folder(call, tmp_path / "out")
    before = {path.name for path in (tmp_path / "out" / "cells").iterdir()}
    made()
    refused = folder(call, tmp_path / "out")
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert folder(call, tmp_path / "out", "--overwrite").code == 0
    after = {path.name for path in (tmp_path / "out" / "cells").iterdir()}
    assert len(after) == 15 < len(before)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", encoding="utf-8")
    assert folder(call, tmp_path / "other", "--overwrite").code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "soon"), "--budget"),
        (("--budget", "0 s"), "must be a duration > 0"),
        (("--budget", "10 s"), "take at least"),
        (("--device", "tpu"), "must be auto, cuda or cpu"),
        (("--configurations", "0"), "--configurations"),
        (("--resume",), "goes with `-o DIR`"),
        (("--replay", "nothing.json"), "no such file"),
        (("--resume", "-o", "nowhere"), "nothing to go on from"),
    ],
)
def test_wrong_options_are_told(made: Make, call: Call, words: tuple[str, ...], said: str) -> None:
    """Exit code 2, before anything is measured."""
    system = made()
    found = call("validate", *words)
    assert found.code == 2
    assert said in " ".join(found.err.replace("│", " ").split())
    assert system.calls == []


def test_a_damaged_session_ends_in_no_traceback(made: Make, call: Call, tmp_path: Path) -> None:
    """Neither replayed nor gone on with; what is there is left as it is."""
    made()
    (tmp_path / "session.json").write_text('{"coordsim_session": 1', encoding="utf-8")
    for words in (("--replay", tmp_path / "session.json"), ("-o", tmp_path, "--resume")):
        found = call("validate", *words)
        assert found.code == 2
        assert "session.json" in found.err
    assert (tmp_path / "session.json").read_text(encoding="utf-8") == '{"coordsim_session": 1'


def test_progress_shows_the_interval_as_it_shrinks(made: Make, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells with the interval of p50 once there is one, then predictions."""
    seen: list[Any] = []

    class Bar:
        def measuring(self, progress: Any) -> None:
            seen.append(progress.case)

        def predicting(self, done: int, total: int) -> None:
            seen.append((done, total))

    monkeypatch.setattr(validate_command, "steps_bar", lambda _quiet: nullcontext(Bar()))
    made()
    assert call("validate", *SMALL).code == 0
    cells, predictions = seen[:15], seen[15:]
    assert re.fullmatch(r"round 1, c\d", cells[0])
    assert re.fullmatch(r"round 5, c\d; p50 off by [\d.]+ % \[[\d.]+ %, [\d.]+ %\]", cells[-1])
    assert predictions == [(0, 15)]  # of one variant; the others were made on the way


def test_a_missing_package_is_told_with_what_to_install(
    made: Make, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and nothing is written."""
    made()

    def missing(_device: str) -> None:
        raise ImportError("No module named 'msgpack'", name="msgpack")

    monkeypatch.setattr(bench, "open_system", missing)
    found = folder(call, tmp_path / "out")
    assert found.code == 2
    assert "msgpack" in found.err
    assert "pip install 'coordsim[calibrate]'" in found.err
    assert not (tmp_path / "out").exists()
