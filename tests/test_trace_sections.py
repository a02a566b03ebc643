"""The page of a trace: its sections, charts and words; what it cannot say, and the command that goes on."""

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from coordsim.models.trace_digest import digest_of, source_of
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.engine.ledger import UNEXPLAINED
from coordsim.sim.report.page import theme
from coordsim.sim.report.page.parts import Part, Section, Switch
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.every import everything, to_html, to_markdown
from coordsim.sim.report.sections.further import fitted
from coordsim.sim.report.sections.trace import parts
from coordsim.sim.report.stored import Stored
from coordsim.sim.trace.measured import Measured

from .measured import COMMAND, measured
from .pages import outside, page_data

OF_RUNS = re.compile(r"replication|\bseed\b|warm-up", re.IGNORECASE)


def said(trace: Measured) -> list[Part]:
    """Return what a trace says."""
    return parts(digest_of(trace), source_of(trace, COMMAND))


def stored(trace: Measured) -> Stored:
    """Return a trace as its answer is stored."""
    return Stored("trace", digest_of(trace), source_of(trace, COMMAND))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a trace."""
    path = tmp_path_factory.mktemp("trace") / "report.html"
    path.write_text(to_html([stored(measured(142, failed=2, unfinished=1))]), encoding="utf-8")
    return path


def test_a_trace_speaks_to_the_questions_that_it_can_answer() -> None:
    """The answer, time, errors, prompts and how sure; each with words."""
    found = said(measured(40))
    assert [one.section for one in found] == [
        Section.ANSWER,
        Section.TIME,
        Section.BREAKS,
        Section.SCALING,
        Section.SURE,
    ]
    assert all(one.answer for one in found)


def test_the_first_section_shows_what_is_not_explained() -> None:
    """Among the headline figures, with its interval; what is doubtful is a warning."""
    first = said(measured(40))[0]
    facts = {label: value for label, value, _ in first.facts}
    assert facts["Not explained, of T_total"].endswith(tuple("0123456789]"))
    assert any("p99 of T_total rests on 40 tasks" in one for one in first.warnings)


def test_charts_draw_what_no_span_explains() -> None:
    """As a category at each percentile, and by the place of the gaps."""
    charts = {one.name: one for one in said(measured(40))[1].charts}
    assert UNEXPLAINED in [one["name"] for one in charts["time-by-category"].views[""].data]
    drawn = charts["time-gaps"].views[""].data[0]
    assert drawn["y"][0] == "tool call → model call · coder"
    assert drawn["x"][0] == max(drawn["x"])


def test_few_tasks_have_no_percentiles_on_the_page() -> None:
    """One bar for these tasks, no distribution, no switch; the headline says how long they took."""
    found = said(measured(3))
    assert next(iter(found[0].facts))[::2] == ("T_total", "of 3 tasks")
    charts = {one.name: one for one in found[1].charts}
    assert charts["time-by-category"].views[""].data[0]["y"] == ["all tasks"]
    assert "time-distribution" not in charts
    assert list(charts["time-path"].views) == [""]
    assert found[1].answer.startswith("These 3 tasks took ")
    tables = [table for part in found for table in part.tables]
    tables += [view.table for part in found for one in part.charts for view in one.views.values()]
    words = " ".join(cell for table in tables for row in table.rows for cell in row)
    assert "(no interval)" not in words + " ".join(value for _, value, _ in found[0].facts)


def test_one_task_leaves_nothing_to_choose() -> None:
    """No switch of percentiles, all of which are the same task."""
    assert {one.switch for part in said(measured(1)) for one in part.charts} == {Switch.NONE}


def test_a_bar_of_unknown_interval_has_no_whisker() -> None:
    """What cannot be below 0 ends there where one end is known; where none is, nothing is drawn."""
    unknown = Estimate(3.0, -math.inf, math.inf, 0.95, 1, "t")
    made = theme.whiskers([unknown, replace(unknown, high=4.0)], unit="s")
    assert (made["array"], made["arrayminus"]) == ([0.0, 1.0], [0.0, 3.0])


def test_no_interval_is_drawn_where_none_is_known() -> None:
    """Around a percentile, and of few tasks, the bars have no whiskers: not even from 0 to the value."""
    charts = {one.name: one for one in said(measured(5))[1].charts}
    totals = charts["time-by-category"].views[""].data[-1]
    assert totals["name"] == "T_total"
    assert set(totals["error_x"]["array"]) == set(totals["error_x"]["arrayminus"]) == {0.0}
    gaps = charts["time-gaps"].views[""].data[0]["error_x"]
    assert set(gaps["array"]) == set(gaps["arrayminus"]) == {0.0}


def test_a_trace_without_calls_errors_or_gaps_says_so() -> None:
    """Nothing failed; no chart of gaps; a single turn has no growth."""
    found = said(measured(12, errors=False, gaps=False))
    assert "time-gaps" not in [one.name for one in found[1].charts]
    assert found[2].answer.startswith("None of ")
    none = said(measured(0, failed=1))
    assert none[1].charts == ()
    assert all(one.answer for one in none)


def test_what_a_trace_cannot_say_is_asked_of_a_scenario_fitted_to_it(page: Path) -> None:
    """Replicas, another runtime, what matters most: in one sentence at the end, with the command that fits, and none about a scenario that is not there."""
    parts = [part for _, part in everything([stored(measured(12))])]
    assert {Section.REPLICAS, Section.RUNTIME, Section.MATTERS}.isdisjoint(part.section for part in parts)
    assert not any(part.unasked for part in parts)
    told = [one for part in parts for one in part.missing]
    assert all(f"coordsim {command}" in told[-1].what for command in ("plan", "compare", "sensitivity"))
    for one in told:
        words = shlex.split(one.command)
        assert words[:4] == ["coordsim", "trace", "fit", "runs.json"]
        assert words[-2:] == ["-o", "scenario.yaml"]


def test_fitting_reads_the_files_as_they_were_read() -> None:
    """The same files and the same options; those of the report alone are left out; from Python the files are known."""
    asked = Provenance(
        "x", "", "", "", "coordsim trace explain a.json 'b c.gz' --task p99 --by session --hash-names", {}
    )
    assert shlex.split(fitted(asked))[3:] == [
        "a.json",
        "b c.gz",
        "--by",
        "session",
        "--hash-names",
        "-o",
        "scenario.yaml",
    ]
    python = Provenance("x", "", "", "", "coordsim.traces(['a.json'])", {}, data=("a.json",))
    assert fitted(python) == "coordsim trace fit a.json -o scenario.yaml"


def test_steps_without_an_agent_and_time_outside_of_steps_are_told_as_that() -> None:
    """A step that nobody has a name for is its number; what lies outside of steps is no step; failed tasks are told."""
    found = digest_of(measured(40, failed=2))
    steps = found.run.steps
    assert steps is not None
    rows = (*(replace(one, label=one.label.partition(":")[0]) for one in steps.rows[:-1]), steps.rows[-1])
    outside_ = replace(rows[-1], seconds=dict.fromkeys(rows[-1].seconds, 1e4))
    made = replace(found, run=replace(found.run, steps=replace(steps, rows=(*rows[:-1], outside_))))
    said_ = parts(made, source_of(measured(40), COMMAND))
    words = next(
        view for part in said_ for one in part.charts if one.name == "time-steps" for view in one.views.values()
    ).summary
    assert re.search(r"for one step is spent in step \d+", words)
    assert "lie outside any step" in words
    assert "2 of 42 tasks failed." in next(one.answer for one in said_ if one.section is Section.BREAKS)
    none = said(measured(0, failed=3))
    assert "–" not in next(one.answer for one in none if one.section is Section.BREAKS)


def test_a_trace_without_a_cache_draws_none() -> None:
    """The chart of prompts has no line for what the cache held where it held nothing."""
    found = digest_of(measured(40))
    nothing = Estimate(0.0, 0.0, 0.0, 0.95, 40, "t")
    turns = tuple(replace(one, cached=nothing) for one in found.context.turns)
    bare = replace(found, context=replace(found.context, turns=turns, cached=nothing))
    lines = {True: found, False: bare}
    for cached, one in lines.items():
        (chart,) = (
            each
            for part in parts(one, source_of(measured(40), COMMAND))
            for each in part.charts
            if each.name == "scaling-turns"
        )
        assert any(line.get("name") == "of it from the cache" for line in chart.views[""].data) == cached


def test_the_page_stands_alone_and_says_nothing_of_runs(page: Path) -> None:
    """It loads nothing; it names the trace and its files, and no seed, no scenario's hash, no replications."""
    assert outside(page) == []
    html = re.sub(r"<script.*?</script>|<style.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    words = re.sub(r"<[^>]*>", " ", html)
    assert OF_RUNS.findall(words) == []
    assert "<dt>Trace</dt>" in html
    assert "<dt>Scenario</dt>" not in html
    assert "Hash" not in words
    assert page_data(page)["sliders"] == {}


def test_markdown_names_each_trace() -> None:
    """Two traces on one page: each with its files, and nothing of a seed."""
    text = to_markdown([stored(measured(12)), stored(measured(14, name="others"))])
    assert "trace runs" in text
    assert OF_RUNS.findall(text) == []
