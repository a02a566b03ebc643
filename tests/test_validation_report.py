"""What a validation says, in every format: the verdict in a sentence, honest tables, and a page whose charts have words and numbers."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from coordsim.calibration.validate_command import validate
from coordsim.sim.analysis.validation import GOALS, METRICS, Estimates, Verdict
from coordsim.sim.report import validation_tables as tables
from coordsim.sim.report.files import FileError
from coordsim.sim.report.layout import lay_out, markdown, text
from coordsim.sim.report.page.parts import Chart, Section
from coordsim.sim.report.sections.every import everything, to_html, to_markdown
from coordsim.sim.report.sections.validation import figures, parts
from coordsim.sim.report.stored import Stored, dump, parse, read
from coordsim.sim.report.terminal import Format
from coordsim.sim.report.validation_answers import ANSWERS
from coordsim.sim.report.validation_words import answer_of, effect, further, size

from . import held_out, verdicts_made
from .command import Call
from .pages import outside

NO_NUMBER = re.compile(r"\b(?:nan|inf|None)\b")
MADE: dict[str, Callable[[], Verdict]] = {
    "passed": verdicts_made.passed, "failed": verdicts_made.failed, "noisy": verdicts_made.noisy, "few": verdicts_made.few,
    "one round": lambda: verdicts_made.few(1), "unclear": verdicts_made.unclear, "bare": verdicts_made.bare, "unknown": verdicts_made.unknown,
}  # fmt: skip


@pytest.fixture(params=MADE)
def found(request: pytest.FixtureRequest) -> Verdict:
    """Return each verdict."""
    return MADE[request.param]()


def said(verdict: Verdict) -> str:
    """Return the report as a terminal has it, without its line breaks."""
    return re.sub(r"\s+", " ", text(lay_out(tables.report(verdict))))


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def test_a_pass_says_errors_goals_noise_and_naive() -> None:
    """In one sentence, with digits as far as the intervals let them mean something."""
    assert answer_of(verdicts_made.passed()) == (
        "PASS: p50 of T_total is predicted within 6.1 % [5.2, 7.4] (median of 8 configurations, 5 rounds; goal 10 %), p95 of T_total "
        "within 8.0 % [6.1, 11.5] (goal 15 %) and the share of coordination within 2.0 points ± 0.5 (goal 4 points); the machine's own "
        "noise is 4.8 %, a naive prediction is off by 21 %."
    )


def test_a_fail_names_what_missed_first() -> None:
    """With noise and naive prediction of that metric; then the others, and how they stand."""
    assert answer_of(verdicts_made.failed()) == (
        "FAIL: p95 of T_total is off by 22 % [18, 27] (median of 8 configurations, 5 rounds; goal 15 %); the machine's own noise in p95 of "
        "T_total is 5.2 %, a naive prediction is off by 29 %. The others: p50 of T_total 6.1 % [5.2, 7.4] (goal 10 %, met) and the share "
        "of coordination 3.9 points [3.0, 5.0] (goal 4 points, unclear)."
    )


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (verdicts_made.noisy(), "INCONCLUSIVE: the machine is too noisy: the system against itself differs in p50 by 12 %"),
        (verdicts_made.few(), "INCONCLUSIVE: too few rounds: 3 kept, and 2 dropped; a verdict takes 5. So far p50 of T_total is off by 6.1 %"),
        (verdicts_made.few(1), "INCONCLUSIVE: too few rounds: 1 kept, and 2 dropped; a verdict takes 5. So far p50 of T_total is off by 6.1 % (no interval)"),
        (verdicts_made.unclear(), "INCONCLUSIVE: rounds differ too much to tell on which side of its goal the error is of p50 of T_total, 9.0 % [7.0, 12.0] (goal 10 %), and p95 of T_total, 12 %"),
        (verdicts_made.bare(), "INCONCLUSIVE: too few rounds: 0 kept, and 2 dropped; a verdict takes 5."),
    ],
)  # fmt: skip
def test_no_verdict_says_why(found: Verdict, start: str) -> None:
    """Noise, too few rounds, one alone, intervals on both sides of a goal, no round at all; and what is known so far."""
    answer = answer_of(found)
    assert answer.startswith(start)
    assert answer.endswith(".")


@pytest.mark.parametrize(
    ("found", "words", "option"),
    [
        (verdicts_made.noisy(), "a quieter one", "10m"),
        (verdicts_made.few(), "fewer rounds are dropped", "20m"),
        (verdicts_made.unclear(), "More rounds", "20m"),
        (replace(verdicts_made.unclear(), about=(("budget", "soon"),)), "More rounds", "20m"),
        (replace(verdicts_made.unclear(), about=(("budget", "1 h"),)), "More rounds", "120m"),
    ],
)
def test_no_verdict_says_what_to_do(found: Verdict, words: str, option: str) -> None:
    """Noise asks for quiet, dropped rounds for quiet and time, and intervals for time: twice what there was."""
    step = further(found)
    assert step is not None
    assert words in step.what
    assert step.budget == option
    assert f"coordsim validate --budget {option}" in said(found)


def test_a_verdict_asks_for_nothing() -> None:
    """Neither pass nor fail is to be measured again until it suits."""
    assert further(verdicts_made.passed()) is None
    assert further(verdicts_made.failed()) is None
    assert "Next:" not in said(verdicts_made.failed())


def test_a_law_is_told_by_its_interval() -> None:
    """It helps or hurts where the interval leaves 0 out, is not told apart from chance where it does not, and may change nothing at all."""
    effects = {one.variant: effect(one) for one in verdicts_made.passed().ablation}
    assert effects == {
        "naive": "helps p50, p95 and coordination", "co-run": "helps p50, p95 and coordination", "fan-out": "helps p50",
        "residuals": "hurts p50", "quadratic": "no change beyond chance", "retries": "changes nothing",
    }  # fmt: skip
    law = verdicts_made.passed().ablation[1]
    alone = Estimates(*(replace(getattr(law.changes, metric), low=-math.inf, high=math.inf) for metric in METRICS))
    assert effect(replace(law, changes=alone)) == "no change beyond chance"


def test_sizes_have_their_unit() -> None:
    """Percent for times, points for shares, one of them alone in the singular."""
    assert [size("p95", 0.15), size("share", 0.01), size("share", 0.037)] == ["15 %", "1 point", "3.7 points"]
    assert [size("p50", math.inf), size("p50", math.nan)] == ["infinite", "–"]


def test_what_rounding_leaves_is_nothing() -> None:
    """Sums in another order differ in their last digits: neither an error nor a change is made of that."""
    tiny = verdicts_made.estimate(-1.1e-16, -5e-16, -1e-17)
    law = replace(verdicts_made.passed().ablation[1], changes=Estimates(tiny, tiny, tiny))
    assert effect(law) == "changes nothing"
    assert "co-run 0 0 0 changes nothing" in said(replace(verdicts_made.passed(), ablation=(law,)))
    assert size("share", 1.2e-14) == "0 points"


# ---------------------------------------------------------------------------------------------------------------------
# Formats


def test_every_format_can_be_read(found: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON without numbers that are none, CSV with as many cells in each row, Markdown, and a table; none says nan."""
    for form in Format:
        ANSWERS.put(found, form)
        printed = capsys.readouterr().out
        assert not NO_NUMBER.search(printed)
        if form is Format.JSON:
            assert json.loads(printed, parse_constant=pytest.fail)["status"] == found.status
        elif form is Format.CSV:
            assert {len(row) for row in csv.reader(io.StringIO(printed))} == {8}
        else:
            assert found.status.upper() in printed


def test_json_has_each_field_and_what_stands_of_each_goal() -> None:
    """Not rounded; what is not known is null."""
    data = json.loads(tables.to_json(verdicts_made.unknown()))
    assert data["headlines"][0]["error"] == {"value": 0.09, "low": 0.07, "high": 0.12}
    assert [one["standing"] for one in data["headlines"]] == ["unclear", "unclear", "met"]
    assert data["headlines"][1]["error"] == {"value": None, "low": None, "high": None}
    assert data["ratios"][0]["ratio"]["value"] is None
    assert data["rows"][0]["measured"]["p95"] is None
    assert json.loads(tables.to_json(verdicts_made.passed()))["about"]["machine"] == "2 cores, Linux"


def test_csv_has_every_number() -> None:
    """Of each headline five, of each configuration fifteen, of each law six, by their names."""
    one = verdicts_made.passed()
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(one))))
    assert list(rows[0]) == ["part", "name", "metric", "what", "unit", "value", "low", "high"]
    count = {part: sum(row["part"] == part for row in rows) for part in dict.fromkeys(row["part"] for row in rows)}
    assert count == {"verdict": 1, "headline": 15, "ratio": 2, "worst": 3, "configuration": 8 * 15, "ablation": 6 * 6}
    (p50,) = [row for row in rows if (row["part"], row["metric"], row["what"]) == ("headline", "p50", "error")]
    assert (p50["name"], p50["value"], p50["low"], p50["high"]) == ("met", "0.061", "0.052", "0.074")


def test_the_docs_name_every_field_of_the_json(root: Path) -> None:
    """docs/validation.md has each field of `verdict.json`, and of what is in it; and its goals are those that are asked."""
    page = (root / "docs" / "validation.md").read_text(encoding="utf-8")
    data = json.loads(tables.to_json(verdicts_made.passed()))
    parts_ = [
        data,
        data["goals"],
        *(data[name][0] for name in ("headlines", "ratios", "worst", "rows", "ablation", "dropped")),
    ]
    assert [name for part in parts_ for name in part if f"`{name}`" not in page] == []
    asked = (
        ("goal of the median", GOALS.headline),
        ("worst configuration", GOALS.worst),
        ("stretch goal", GOALS.stretch),
    )
    for title, goals in asked:
        cells = " | ".join(size(metric, getattr(goals, metric)) for metric in METRICS)
        assert f"| {title} | {cells} |" in page


def test_the_docs_have_each_option_of_the_command(root: Path) -> None:
    """docs/validation.md names them with their defaults, and no other."""
    page = (root / "docs" / "validation.md").read_text(encoding="utf-8")
    app = typer.Typer(add_completion=False)
    app.command()(validate)
    options = {name: one.default for one in typer.main.get_command(app).params for name in one.opts if name != "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z]+", page)) == {one for one in options if one.startswith("--")} - {
        "--out",
        "--quiet",
    }
    for name in ("--budget", "--configurations", "--rounds", "--seed", "--device"):
        assert f"`{name} {options[name]}`" in page


def test_the_report_says_all_of_it() -> None:
    """Rows, worst, ablation, rounds kept and dropped with their reasons, criteria, and what is disclosed and not promised."""
    printed = said(verdicts_made.passed())
    for words in (
        "p50 of T_total 6.1 % [5.2, 7.4] 10 % met 5 %: missed 4.8 % 21 %",
        "error of p50, times that of the noise floor 1.27 [1.08, 1.53] 1.5 unclear 1.2",
        "worst p50: held-out-8 10.4 % ± 1.2 25 % met",
        "held-out-2 p50 300 ms 290 ms -3.2 % ± 1.2 4 % -21 %",
        "held-out-1 200 3 steps, 0 modalities, 1.0 tasks / s, msgpack, <2 workers>",
        "all (naive) +15 ± 2 +21 ± 3 +1.7 ± 0.4 helps p50, p95 and coordination",
        "retries 0 0 0 changes nothing",
        "1-3, 5-6 counts 4 dropped steal of 7 % in held-out-3 (at most 5 %)",
        "criteria steal at most 5 %, other processes at most 15 %",
        "Disclosed: the prediction is told how fast the machine was",
        "Not promised: p99; another machine; a system unlike this one",
    ):
        assert words in printed, words
    assert "## Does coordsim predict a real agent system" in markdown(tables.report(verdicts_made.passed()))


def test_the_text_is_the_one_on_file(root: Path) -> None:
    """tests/data/validation.txt is what a terminal shows of a verdict that passes; what it must say, other tests tell."""
    shown = text(lay_out(tables.report(verdicts_made.passed())))
    assert shown == (root / "tests" / "data" / "validation.txt").read_text(encoding="utf-8")


def test_a_session_without_a_hash_shows_none() -> None:
    """A source that is no scenario has no hash, and Markdown has no empty place for one."""
    source = replace(verdicts_made.source(), sha256="")
    assert "- scenario validation, seed 3" in to_markdown([Stored("validation", verdicts_made.passed(), source)])
    assert "hash `abababababab`, seed 3" in to_markdown([verdicts_made.stored()])


def test_what_is_stored_is_read_back(found: Verdict) -> None:
    """Every verdict, with infinities and what is no number: the same bytes again."""
    once = dump("validation", found, verdicts_made.source())
    assert dump("validation", parse(once).found, verdicts_made.source()) == once


# ---------------------------------------------------------------------------------------------------------------------
# The page


@pytest.fixture
def charts() -> dict[str, Chart]:
    """Return the charts of a verdict that passes."""
    return figures(verdicts_made.passed())


def test_the_page_speaks_to_the_answer_and_to_how_sure_we_are() -> None:
    """The verdict and each goal with its mark; all reasons, the goals in sight, doubts, and other configurations as what is missing."""
    answer, sure = parts(verdicts_made.passed(), verdicts_made.source())
    assert (answer.section, sure.section) == (Section.ANSWER, Section.SURE)
    assert answer.answer == answer_of(verdicts_made.passed())
    assert [verdict for *_, verdict in answer.facts] == ["pass"] * 4
    assert sure.answer == " ".join(verdicts_made.passed().reasons)
    assert [one.title for one in sure.opened] == ["Is it within the goals?", "Beside it"]
    assert sure.warnings == verdicts_made.passed().doubts
    assert [one.command for one in sure.missing] == ["coordsim validate --budget 10m --seed 4 -o runs/validation-again"]


@pytest.mark.parametrize(
    ("found", "asked", "wanted"),
    [
        (verdicts_made.unclear(), verdicts_made.COMMAND, "coordsim validate --seed 3 -o runs/validation --budget 20m --resume"),
        (verdicts_made.unclear(), f"{verdicts_made.COMMAND} --overwrite", "coordsim validate --seed 3 -o runs/validation --budget 20m --resume"),
        (verdicts_made.noisy(), verdicts_made.COMMAND, "coordsim validate --seed 3 --budget 10m -o runs/validation-again"),
        (verdicts_made.unclear(), "coordsim validate --replay session.json", "coordsim validate --budget 20m -o runs/validation-again"),
    ],
)  # fmt: skip
def test_the_page_of_no_verdict_says_what_to_do(found: Verdict, asked: str, wanted: str) -> None:
    """More time goes on with the session that there is; a noisy one, and a replay, are measured anew and elsewhere."""
    (more,) = parts(found, verdicts_made.source(asked))[1].missing
    assert more.command == wanted


def test_goals_have_marks() -> None:
    """Unclear ones those of no verdict."""
    marks = [verdict for *_, verdict in parts(verdicts_made.unclear(), verdicts_made.source())[0].facts]
    assert marks == ["inconclusive", "inconclusive", "inconclusive", "pass"]


def test_errors_are_drawn_with_interval_noise_goal_and_naive(charts: dict[str, Chart]) -> None:
    """A point a configuration, whiskers, a bar of the floor to both sides, lines at the goal of the median, and all of it on the axis."""
    assert list(charts) == [
        "validation-p50",
        "validation-p95",
        "validation-share",
        "validation-measured",
        "validation-laws",
    ]
    view = charts["validation-p50"].views[""]
    drawn = {one["name"]: one for one in view.data}
    rows = verdicts_made.passed().rows
    assert drawn["prediction"]["x"] == pytest.approx([100 * one.errors.p50.value for one in rows])
    assert drawn["prediction"]["error_x"]["array"] == pytest.approx([1.2] * 8)
    assert drawn["naive prediction"]["x"] == pytest.approx([100 * one.naive.p50 for one in rows])
    assert (drawn["noise floor"]["base"], drawn["noise floor"]["x"]) == ([-4.0] * 8, [8.0] * 8)
    assert [one["x0"] for one in view.layout["shapes"]] == [-10, 10]
    assert view.layout["xaxis"]["range"][1] > 27
    assert "7 of 8 configurations are within 10 %, 4 predicted too high, 4 too low" in view.summary
    assert len(view.table.rows) == 8


def test_what_is_predicted_lies_about_the_diagonal(charts: dict[str, Chart]) -> None:
    """Both axes are logarithmic and alike; bands are the goals; whiskers are the error's interval about the measured value."""
    view = charts["validation-measured"].views[""]
    drawn = {one["name"]: one for one in view.data}
    first = verdicts_made.passed().rows[0]
    assert drawn["p50"]["x"][0] == first.measured.p50
    assert drawn["p50"]["y"][0] == first.predicted.p50
    assert drawn["p50"]["error_y"]["array"][0] == pytest.approx(0.012 * first.measured.p50)
    assert view.layout["xaxis"]["type"] == view.layout["yaxis"]["type"] == "log"
    assert view.layout["xaxis"]["range"] == view.layout["yaxis"]["range"]
    band = drawn["within 10 % (goal of p50)"]
    assert [y / x for x, y in zip(band["x"], band["y"], strict=True)] == pytest.approx([0.9, 0.9, 1.1, 1.1, 0.9])
    assert drawn["p50"]["marker"]["symbol"] != drawn["p95"]["marker"]["symbol"]


def test_laws_are_bars_with_intervals(charts: dict[str, Chart]) -> None:
    """One bar a metric and law, by pattern and colour; the naive prediction lacks all of them, and is left out."""
    view = charts["validation-laws"].views[""]
    assert [one["y"] for one in view.data] == [["co-run", "fan-out", "residuals", "quadratic", "retries"]] * 3
    assert view.data[0]["x"] == pytest.approx([7.0, 2.1, -1.2, 0.1, 0.0])
    assert len({one["marker"]["pattern"]["shape"] for one in view.data}) == 3
    assert view.summary == (
        "Without these the prediction is worse, beyond chance: co-run and fan-out. Without these it is better: residuals. "
        "Not told apart from chance: quadratic. The same with and without: retries."
    )


def test_every_verdict_has_a_page(found: Verdict, tmp_path: Path) -> None:
    """It asks nothing of any network, no chart holds what is no number, and no other command is proposed than to validate."""
    for chart in figures(found).values():
        view = chart.views[""]
        json.dumps([view.data, view.layout], allow_nan=False)
        assert view.summary
    answer = Stored("validation", found, verdicts_made.source())
    page = tmp_path / "page.html"
    page.write_text(to_html([answer]), encoding="utf-8")
    assert outside(page) == []
    assert not NO_NUMBER.search(to_markdown([answer]))
    commands = [one.command for _, part in everything([answer]) for one in part.missing]
    assert [one for one in commands if not one.startswith("coordsim validate")] == []


def test_nothing_known_draws_nothing() -> None:
    """Without a round that counts there are words alone; of a single configuration what is known is drawn, and without laws no law."""
    assert figures(verdicts_made.bare()) == {}
    assert list(figures(verdicts_made.unknown())) == ["validation-p50", "validation-share", "validation-measured"]
    assert "error_x" not in figures(verdicts_made.few(1))["validation-p50"].views[""].data[-1]


def test_a_far_interval_leaves_the_points_readable() -> None:
    """The axis ends at some times what lies farthest, though an interval goes on."""
    one = verdicts_made.passed()
    first = one.rows[0]
    wide = replace(first.errors, p50=replace(first.errors.p50, high=50.0))
    found = replace(one, rows=(replace(first, errors=wide), *one.rows[1:]))
    assert figures(found)["validation-p50"].views[""].layout["xaxis"]["range"][1] < 100


def test_names_from_outside_are_escaped() -> None:
    """What a configuration is called or said to be is never HTML, in no hover and on no axis."""
    one = verdicts_made.passed()
    odd = replace(one.rows[0], configuration="<b>x</b>")
    law = replace(one.ablation[1], variant="<i>y</i>")
    found = replace(one, rows=(odd,), ablation=(law,))
    for chart in figures(found).values():
        view = chart.views[""]
        assert not re.search(r"<[bi2]", json.dumps([view.data, view.layout]).replace("<extra>", ""))


def test_a_page_has_it_beside_other_answers() -> None:
    """What others do not speak to is proposed of their scenarios, as without it."""
    both, alone = everything([held_out.stored(), verdicts_made.stored()]), everything([held_out.stored()])
    proposed = [
        [one.command for source, part in said_ for one in part.missing if source.scenario != "validation"]
        for said_ in (both, alone)
    ]
    assert proposed[0] == proposed[1]
    assert "validation-p50" in [chart.name for _, part in both for chart in part.charts]


def test_the_folder_is_written_the_same_twice_and_read_by_report(call: Call, tmp_path: Path) -> None:
    """The same answer gives the same bytes, `coordsim report` takes the folder, and what is there is not overwritten unasked."""
    for name in ("a", "b"):
        verdicts_made.write(tmp_path / name)
    names = {"verdict.json", "verdict.csv", "report.md", "report.html", "result.json"}
    assert {one.name for one in (tmp_path / "a").iterdir()} == names
    for one in (tmp_path / "a").iterdir():
        assert one.read_bytes() == (tmp_path / "b" / one.name).read_bytes()
    assert read(tmp_path / "a").found == verdicts_made.passed()
    again = call("report", tmp_path / "a", "-o", tmp_path / "page.md")
    assert again.code == 0, again.err
    assert "How far off is p50 of T_total?" in (tmp_path / "page.md").read_text(encoding="utf-8")
    with pytest.raises(FileError, match="holds a validation already"):
        ANSWERS.check_free(tmp_path / "a", overwrite=False)
    (tmp_path / "a" / "result.json").unlink()
    gone = call("report", tmp_path / "a")
    assert gone.code == 2
    assert "coordsim validate ... -o" in gone.err
