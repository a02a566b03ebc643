"""The folder of an answer that takes long: it is taken at once, gone on with by the same question alone, and begun anew when told to."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from coordsim.sim.analysis.journal import JournalError
from coordsim.sim.report import answers
from coordsim.sim.report.answers import ASKED, JOURNAL, Answers
from coordsim.sim.report.files import FileError
from coordsim.sim.report.layout import Report
from coordsim.sim.report.page.provenance import Provenance

ANSWERS = Answers[str](
    "study", "study", "study", lambda _: Report(("an answer",), "", (), ()), str, str, {"page.bin": str.encode}
)
OTHER = Answers[str]("plan", "plan", "plan", lambda _: Report(("an answer",), "", (), ()), str, str)
FIRST = {"scenario": {"tools": {"search": {"latency": "1 s"}}}, "settings": [{"replications": 2}], "seeds": [1, 2]}


def take(answers: Answers[str], folder: Path, asked: Mapping[str, object], **how: bool) -> None:
    """Take a folder, and let it go."""
    with answers.journal(folder, asked, **how):
        pass


def test_a_folder_is_taken_at_once_and_let_go_whatever_happens(tmp_path: Path) -> None:
    """What was asked is there before anything ran; the lock is gone after an interruption."""

    def stopped() -> None:
        with ANSWERS.journal(tmp_path / "out", FIRST):
            assert json.loads((tmp_path / "out" / ASKED).read_text())["seeds"] == [1, 2]
            with pytest.raises(JournalError, match=f"process {os.getpid()}"):
                take(ANSWERS, tmp_path / "out", FIRST, overwrite=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [ASKED, JOURNAL]
    with pytest.raises(FileError, match="holds a study that was begun; go on with it by --resume"):
        take(ANSWERS, tmp_path / "out", FIRST)


def test_only_the_same_question_goes_on(tmp_path: Path) -> None:
    """What differs is told by its path, with both values; the journal is as it was, and no lock is left."""
    take(ANSWERS, tmp_path, FIRST)
    (tmp_path / JOURNAL).write_text("")
    take(ANSWERS, tmp_path, FIRST, resume=True)
    second = {"scenario": {"tools": {"search": {"latency": "2 s"}}}, "settings": [{"replications": 3}], "seeds": [1]}
    with pytest.raises(FileError) as error:
        take(ANSWERS, tmp_path, {**second, "new": 1}, resume=True)
    told = (
        "holds another study: `scenario.tools.search.latency` was 1 s, and is 2 s; `settings.0.replications` was 2, and is 3; "
        "`seeds` was [1, 2], and is [1]; and 1 more differ"
    )
    assert told in str(error.value)
    assert not (tmp_path / f"{JOURNAL}.lock").exists()


def test_another_kind_of_answer_is_left_alone(tmp_path: Path) -> None:
    """Even with --overwrite, as are files of no answer, and what was asked in a way this version cannot read."""
    take(ANSWERS, tmp_path / "study", FIRST)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    for folder, rule in (("study", "holds a study, and no plan"), ("mine", "holds files and no plan")):
        with pytest.raises(FileError, match=rule):
            take(OTHER, tmp_path / folder, FIRST, overwrite=True)
    (tmp_path / "study" / ASKED).write_text("{}")
    with pytest.raises(FileError, match="of another version"):
        take(ANSWERS, tmp_path / "study", FIRST, resume=True)
    with pytest.raises(FileError, match="give one of them"):
        take(ANSWERS, tmp_path / "new", FIRST, resume=True, overwrite=True)
    assert not (tmp_path / "new").exists()


def test_beginning_anew_removes_what_the_answer_wrote_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of the old question never stand beside the new one, and a journal that is damaged is no obstacle."""
    monkeypatch.setattr(answers, "for_report", lambda *_: {"report.html": "a page", "result.json": "{}"})
    source = Provenance("desk", "", "", 1, "coordsim sweep desk", {})
    with ANSWERS.journal(tmp_path, FIRST):
        ANSWERS.write("1", source, {"scenario.desk.yaml": "name: desk"}, tmp_path, overwrite=True)
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / JOURNAL).write_text("damaged\n")
    with ANSWERS.journal(tmp_path, {"seeds": [3]}, overwrite=True) as journal:
        assert len(journal) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == [ASKED, JOURNAL, "mine.txt"]
    assert json.loads((tmp_path / ASKED).read_text())["seeds"] == [3]
