"""What a holdout says on a page: which predictions hold, which miss and why; alone, and beside other answers about the same traces."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest

import coordsim as cs
from coordsim.calibration.traces import holdout as holdouts
from coordsim.models.trace_digest import digest_of, source_of
from coordsim.sim.report.holdout_answers import ANSWERS
from coordsim.sim.report.page.parts import Chart, Section
from coordsim.sim.report.sections.every import everything, to_html, to_markdown
from coordsim.sim.report.sections.holdout import figures, parts
from coordsim.sim.report.stored import Stored, read
from coordsim.sim.report.terminal import Format

from . import trace_files
from .command import Call
from .held_out import COMMAND, result, source_, stored, write
from .measured import COMMAND as EXPLAINED
from .measured import measured
from .pages import outside

SHOWN = ("mean", "p50", "p90", "tool_share", "model_calls")  # of the error rate nothing is known


@pytest.fixture
def chart() -> Chart:
    """Return the chart."""
    (found,) = figures(result()).values()
    return found


def test_it_speaks_to_the_answer_and_to_how_sure_we_are() -> None:
    """What holds, what misses inside of the interval and outside of it, and the naive fit."""
    answer, sure = parts(result(), source_())
    assert (answer.section, sure.section) == (Section.ANSWER, Section.SURE)
    assert "2 of 4 predictions are as close as is asked" in sure.answer
    assert "T_total, p90 by 60 % (35 % is asked) misses, inside of the 95 % interval" in sure.answer
    assert "tools' share by 7 points (6 points are asked) misses, outside of the interval" in sure.answer
    assert "nearer than the naive fit" in sure.answer
    assert [verdict for *_, verdict in answer.facts] == ["holds", "misses", "misses", "holds"]
    assert sure.warnings == result().doubts


def test_the_chart_has_each_metric_with_its_band(chart: Chart) -> None:
    """Predicted and measured with intervals, the naive fit and the tasks fitted to, relative to what was measured; bands where one is asked."""
    view = chart.views[""]
    drawn = {one["name"]: one for one in view.data}
    assert list(drawn) == ["asked", "predicted", "measured", "naive fit", "tasks fitted to"]
    assert drawn["predicted"]["x"] == pytest.approx([10, 100 * 2 / 90, 60, -7, -100 / 21])
    assert drawn["predicted"]["error_x"]["array"] == pytest.approx([40, 100 * 28 / 90, 100, 5, 100 * 3 / 21])
    assert drawn["measured"]["x"] == [0] * len(SHOWN)
    assert drawn["measured"]["error_x"]["array"] == pytest.approx([10, 10, 10, 4.5, 10])
    assert drawn["naive fit"]["x"] == pytest.approx([70, -100 / 3, 150, 15, -100 / 21])
    assert "error_x" not in drawn["naive fit"]
    bands = {(one["y0"] + one["y1"]) / 2: one["x1"] for one in view.layout["shapes"] if one["type"] == "rect"}
    assert bands == {1: pytest.approx(20), 2: pytest.approx(35), 3: pytest.approx(6), 4: pytest.approx(15)}
    low, high = view.layout["xaxis"]["range"]
    assert low < -35
    assert high > 160


def test_the_chart_is_told_in_words_and_numbers(chart: Chart) -> None:
    """Its words have every metric drawn, and its table all of them; nothing that is no number is in its data."""
    view = chart.views[""]
    assert "What was measured lies in 4 of 5 prediction intervals." in view.summary
    assert view.summary.count("%") + view.summary.count("points") == len(SHOWN)
    assert len(view.table.rows) == len(result().rows)
    json.dumps([view.data, view.layout], allow_nan=False)


def test_nothing_known_draws_nothing() -> None:
    """Without a metric that was measured there are words, and no chart."""
    found = result()
    (last,) = (one for one in found.rows if math.isnan(one.predicted.value))
    empty = type(found)(**{name: getattr(found, name) for name in found.__slots__} | {"rows": (last,)})
    assert figures(empty) == {}
    assert "can be told" in parts(empty, source_())[1].answer


def test_another_seed_is_offered_with_the_files_as_they_were_read() -> None:
    """The command holds out others, and groups tasks as this one did."""
    (missing,) = parts(result(), source_())[1].missing
    assert missing.command == "coordsim trace fit runs.json --by session --holdout 0.5 --seed 8 -o scenario.yaml"


def test_a_page_has_it_beside_the_trace_and_no_longer_offers_it(tmp_path: Path) -> None:
    """On the page of a trace alone a holdout is proposed; with it, it is there."""
    found = measured(30)
    trace = Stored("trace", digest_of(found), source_of(found, EXPLAINED))
    proposed = [one.command for _, part in everything([trace]) for one in part.missing if "--holdout" in one.command]
    assert proposed
    both = everything([trace, stored()])
    left = [
        one.command
        for source, part in both
        for one in part.missing
        if "--holdout" in one.command and source == trace.source
    ]
    assert left == []
    charts = [one.name for _, part in both for one in part.charts]
    assert "holdout-errors" in charts
    page = tmp_path / "page.html"
    page.write_text(to_html([trace, stored()]), encoding="utf-8")
    assert outside(page) == []
    assert "nan" not in to_markdown([stored()]).replace("naive", "").split()


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let predictions rest on few simulated tasks."""
    monkeypatch.setattr(holdouts, "_EACH", 100)
    monkeypatch.setattr(holdouts, "_MOST_RUNS", 1)


@pytest.mark.usefixtures("_short")
def test_the_command_writes_it_for_report(call: Call, tmp_path: Path) -> None:
    """`--report DIR` holds the page, the numbers and `result.json`, which `coordsim report` reads; the same again unless told."""
    file, folder = tmp_path / "made.json", tmp_path / "held"
    file.write_bytes(trace_files.as_otlp_json(trace_files.made(12, seed=1)))
    given = ("trace", "fit", file, "-o", tmp_path / "my.yaml", "--holdout", "0.5", "--report", folder, "--workers", "1")
    printed = call(*given, "--format", "json", "-q")
    assert printed.code == 0, printed.err
    assert (folder / "holdout.json").read_text() == printed.out
    names = {"holdout.json", "holdout.csv", "report.md", "report.html", "result.json"}
    assert {one.name for one in folder.iterdir()} == names
    one = read(folder)
    assert one.kind == "holdout"
    assert shlex.split(one.source.command)[-4:] == ["--holdout", "0.5", "-o", "my.yaml"]
    again = call("report", folder, "-o", tmp_path / "page.md")
    assert again.code == 0, again.err
    assert "How far off are the predictions?" in (tmp_path / "page.md").read_text()
    refused = call(*given, "-q")
    assert refused.code == 2
    alone = call("trace", "fit", file, "-o", tmp_path / "other.yaml", "--report", folder)
    assert alone.code == 2
    assert "--holdout" in alone.err


@pytest.mark.usefixtures("_short")
def test_in_python_it_is_an_answer(tmp_path: Path) -> None:
    """It has a report, a frame, a figure and a page; and it goes with others on one."""
    file = tmp_path / "made.json"
    file.write_bytes(trace_files.as_otlp_json(trace_files.made(12, seed=1)))
    found = cs.traces(file)
    held = found.holdout(0.5, seed=1)
    assert isinstance(held, cs.Holdout)
    assert held.call == "coordsim.traces('made.json').holdout(0.5, seed=1)"
    assert "Predicted against measured" in held.summary()
    assert set(held.to_frame()["what"]) == {"predicted", "measured", "naive", "floor", "error", "band"}
    assert [one.name for one in held.figure().data][1:3] == ["predicted", "measured"]
    cs.report([found, held], tmp_path / "both.md")
    assert "How far off are the predictions?" in held.save(tmp_path / "page.md").read_text()
    assert held.call in (tmp_path / "both.md").read_text()


def test_the_folder_is_written_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same answer gives the same bytes; and it is printed in each format."""
    for name in ("a", "b"):
        write(tmp_path / name)
    for one in (tmp_path / "a").iterdir():
        assert one.read_bytes() == (tmp_path / "b" / one.name).read_bytes()
    assert read(tmp_path / "a").source.command == COMMAND
    for form in Format:
        ANSWERS.put(result(), form)
        assert capsys.readouterr().out
