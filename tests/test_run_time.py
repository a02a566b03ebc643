"""What a run's page says on time: charts that add up, words with intervals, and what is missing with the command that adds it."""

import html
import json
import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

import coordsim as cs
from coordsim.sim.analysis.digest import RunDigest, digest
from coordsim.sim.engine.ledger import CATEGORIES, STRUCTURE, Span
from coordsim.sim.report.page.parts import PERCENTILES, Chart, Part, Section, Switch, View
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.run_distribution import slider
from coordsim.sim.report.sections.run_tasks import MOST_ROWS, rows_of
from coordsim.sim.report.sections.run_time import charts, time_parts

EVIL = "<b onclick=x>&"
SCENARIO = cs.load("quickstart").replace("workload.tasks", 60)
SOURCE = Provenance(
    "quickstart", "", "0" * 64, 7, "coordsim run quickstart --replications 3 --spans all", {"coordsim": "0"}
)


def digested(replications: int = 3, spans: Literal["all", "none"] = "all") -> RunDigest:
    """Return the digest of a small run of quickstart."""
    run = cs.simulate(SCENARIO, replications=replications, spans=spans).result
    return digest(run.results, run.summary, SCENARIO.workload.warmup)


@pytest.fixture(scope="module")
def found() -> RunDigest:
    """Return a run with all that there may be."""
    return digested()


@pytest.fixture(scope="module")
def part(found: RunDigest) -> Part:
    """Return what the run says on time."""
    (one,) = time_parts(found, SOURCE)
    return one


def chart(part: Part, name: str) -> Chart:
    """Return a chart by name."""
    return next(one for one in part.charts if one.name == name)


def only(part: Part, name: str) -> View:
    """Return the view of a chart without a switch."""
    (view,) = chart(part, name).views.values()
    return view


def bars(view: View, **wanted: Any) -> list[dict[str, Any]]:
    """Return the traces that are bars, and have these values."""
    return [
        one for one in view.data if one["type"] == "bar" and all(one[key] == value for key, value in wanted.items())
    ]


def test_a_run_has_all_five_charts(part: Part) -> None:
    """They come in the order in which they are read; two follow the switch of percentiles."""
    assert part.section is Section.TIME
    assert [one.name for one in part.charts] == [
        "time-by-category",
        "time-distribution",
        "time-path",
        "time-steps",
        "time-tasks",
    ]
    switched = [one for one in part.charts if one.switch is Switch.PERCENTILE]
    assert [one.name for one in switched] == ["time-path", "time-tasks"]
    assert all(tuple(one.views) == PERCENTILES for one in switched)
    assert not part.missing


def test_every_view_is_plain_data_and_speaks(part: Part) -> None:
    """Charts hold neither nan nor arrays, each trace has a type, and each view has words and a table with numbers."""
    for one in part.charts:
        for view in one.views.values():
            json.dumps([view.data, view.layout], allow_nan=False)
            assert all(trace["type"] for trace in view.data)
            assert view.summary.endswith(".")
            assert view.table.rows
            assert len(view.table.rows) <= 200
            assert all(len(row) == len(view.table.columns) == len(view.table.align) for row in view.table.rows)
            said = f"{view.summary} {view.table}".lower()
            assert not {"nan", "inf", "none"} & set(said.replace(",", " ").split())
        before = repr(one)
        assert one.figure().data
        assert repr(one) == before


def test_the_bars_stand_one_behind_the_other_up_to_the_total(part: Part, found: RunDigest) -> None:
    """Of all tasks and of each cohort, the categories sum to T_total, which is marked with its interval."""
    view = only(part, "time-by-category")
    assert view.layout["barmode"] == "stack"
    totals = [one.total for one in found.cohorts.groups]
    assert np.sum([one["x"] for one in bars(view)], axis=0) == pytest.approx([one.value for one in totals])
    (marks,) = (one for one in view.data if one["name"] == "T_total")
    assert marks["x"] == [one.value for one in totals]
    assert marks["error_x"]["array"] == pytest.approx([one.high - one.value for one in totals])
    names = [row[0] for row in view.table.rows]
    assert names[-3:] == ["T_coordination", "T_total", "tasks"]
    assert set(names[:-3]) <= set(CATEGORIES)
    assert all("±" in cell or "[" in cell for cell in view.table.rows[0][1:])


def test_looks_differ_by_more_than_colour(part: Part) -> None:
    """No two categories share both colour and pattern, in any chart of bars."""
    for name in ("time-by-category", "time-tasks"):
        for view in chart(part, name).views.values():
            looks = {
                one["name"].partition(" (")[0]: (one["marker"]["color"], one["marker"]["pattern"]["shape"])
                for one in bars(view)
            }
            assert len(set(looks.values())) == len(looks)


def test_the_distribution_rises_and_holds_the_percentiles(part: Part, found: RunDigest) -> None:
    """The curve is that of the summary's quantiles, lies in its band, and meets the percentiles of the table."""
    times = found.summary.times
    assert times is not None
    view = only(part, "time-distribution")
    (curve,) = (one for one in view.data if one["name"] == "share of tasks done within")
    assert (np.diff(curve["x"]) >= 0).all()
    assert curve["x"] == pytest.approx(np.mean(times.rows, axis=0), rel=1e-5)
    for name in PERCENTILES:
        (mark,) = (one for one in view.data if one["name"].startswith(f"{name}:"))
        assert mark["x"] == [found.summary.metrics[f"response_time_{name}"].value]
    band = view.data[0]["x"]
    low, high = np.array(band[: len(times.shares)]), np.array(band[len(times.shares) :][::-1])
    assert (low <= np.array(curve["x"]) + 1e-9).all()
    assert (np.array(curve["x"]) <= high + 1e-9).all()


def test_the_slider_begins_at_the_limit_asked_for(part: Part, found: RunDigest) -> None:
    """The scenario asks for a p95: there the slider and the line begin; without an objective it is p95 itself."""
    assert part.slider is not None
    (asked,) = (one for one in found.summary.objectives if one.metric == "p95")
    view = only(part, "time-distribution")
    assert chart(part, "time-distribution").threshold == "x"
    assert part.slider.value == asked.threshold == view.layout["shapes"][0]["x0"]
    assert part.slider.low < part.slider.value < part.slider.high
    assert any("SLO p95" in html.unescape(one["name"]) and one["x"] == [asked.threshold] for one in view.data)
    free = slider(replace(found.summary, objectives=()))
    assert free is not None
    assert free.value == pytest.approx(found.summary.metrics["response_time_p95"].value, rel=5e-3)
    assert free.percentile == part.slider.percentile == "p95"
    late = slider(replace(found.summary, objectives=(replace(asked, metric="p99", threshold=120.0),)))
    assert late is not None
    assert (late.percentile, late.value) == ("p99", 120.0)
    assert slider(replace(found.summary, times=None)) is None


def test_the_icicle_holds_the_whole_of_each_cohort(part: Part, found: RunDigest) -> None:
    """Leaves sum to T_total, every node but the first has a parent that is there, and no node is there twice."""
    for label, view in chart(part, "time-path").views.items():
        (tree,) = view.data
        group = found.cohorts.get(label)
        assert group is not None
        assert math.fsum(tree["values"]) == pytest.approx(group.total.value)
        assert tree["parents"][0] == ""
        assert set(tree["parents"][1:]) <= set(tree["ids"])
        assert len(set(tree["ids"])) == len(tree["ids"]) == len(tree["marker"]["colors"])
        assert tree["text"][0].startswith("100 %")


def test_the_map_of_steps_sums_to_the_total(part: Part, found: RunDigest) -> None:
    """Its cells are the seconds of the digest, and the words name the largest row and cell."""
    assert found.steps is not None
    view = only(part, "time-steps")
    (cells,) = view.data
    assert math.fsum(value for row in cells["z"] for value in row if value is not None) == pytest.approx(
        found.steps.total, rel=1e-4
    )
    row = max((one for one in found.steps.rows if "later" not in one.label), key=lambda one: sum(one.seconds.values()))
    assert f"in {row.label}" in view.summary


def test_single_tasks_are_drawn_from_arrival_to_end(part: Part, found: RunDigest) -> None:
    """The bars on the critical path cover T_total but for what is left out, and lie within the task."""
    for one in found.examples:
        view = chart(part, "time-tasks").views[one.label]
        path = bars(view, opacity=1.0)
        covered = math.fsum(length for bar in path for length in bar["x"])
        assert covered == pytest.approx(one.total - one.left_out_seconds, rel=1e-4)
        ends = [base + length for bar in bars(view) for base, length in zip(bar["base"], bar["x"], strict=True)]
        assert max(ends) <= one.total * (1 + 1e-4)
        assert f"Task {one.task} " in view.summary
        rows = view.layout["yaxis"]["ticktext"]
        assert {place for bar in bars(view) for place in bar["y"]} <= set(range(len(rows)))


def test_rows_of_a_large_task_are_few_and_lose_nothing() -> None:
    """A team of 500 agents fits: what is alike goes together, and each span is in one row."""
    spans = [Span(0, 0, 1, 0, "step", STRUCTURE, "team", 0.0, 500.0, 0.0, True, False, "done")]
    for at in range(500):
        spans.append(
            Span(0, at, 2 + at, 1, "invoke_agent", STRUCTURE, "searcher", at, at + 1.0, 0.0, True, False, "done")
        )
        spans.append(
            Span(0, at, 1000 + at, 2 + at, "inference", "inference", "llm", at, at + 1.0, 1.0, True, False, "done")
        )
    spans.append(Span(0, 0, 5000, 0, "wait", "queueing", "llm", 0.0, 0.0, 1.0, True, False, "done"))
    rows = rows_of(spans)
    assert [row.label for row in rows] == ["outside any step", "team", "1: searcher ×500"]
    assert [len(row.spans) for row in rows] == [1, 0, 500]
    flat = rows_of([replace(one, parent=0) if one.parent == 1 else one for one in spans])
    assert len(flat) <= MOST_ROWS + 1
    assert sum(len(row.spans) for row in flat) == 501


def test_the_words_name_the_largest_part_and_what_grows(part: Part, found: RunDigest) -> None:
    """The answer has the largest category, T_coordination's share and the growth towards p99, with intervals."""
    largest = max(found.summary.categories, key=lambda name: found.summary.categories[name].share.value)
    assert f"is {largest}:" in part.answer
    assert "T_coordination is " in part.answer
    grown = max(found.cohorts.growth, key=lambda name: found.cohorts.growth[name].value)
    assert f"the most of it is {grown}: " in part.answer
    assert part.answer.count("±") + part.answer.count("[") >= 4


def test_one_replication_without_spans_says_what_is_missing() -> None:
    """It names the commands that would add intervals and spans, and draws what can be drawn."""
    (part,) = time_parts(digested(1, "none"), replace(SOURCE, command="coordsim run quickstart --seed 7"))
    assert [one.command for one in part.missing] == [
        "coordsim run quickstart --seed 7 --replications 10",
        "coordsim run quickstart --seed 7 --spans all",
    ]
    assert [one.name for one in part.charts] == ["time-by-category", "time-distribution", "time-path"]
    assert not part.downloads
    for one in part.charts:
        for view in one.views.values():
            json.dumps([view.data, view.layout], allow_nan=False)


def test_a_run_without_tasks_done_has_words_and_no_chart() -> None:
    """Nothing was done within the horizon: no number is made up."""
    workload = {"arrivals": {"deterministic": "1 / s"}, "horizon": "3 s", "warmup": "0 s"}
    slow = cs.load("theory/mm1").replace_all({"workload": workload, "models.server.overhead": "100 s"})
    run = cs.simulate(slow, replications=2).result
    (part,) = time_parts(digest(run.results, run.summary, slow.workload.warmup), SOURCE)
    assert part.answer == "No task was done, so T_total has no parts."
    assert part.charts == ()
    assert part.slider is None


def test_names_are_escaped_where_plotly_takes_them_for_html(found: RunDigest) -> None:
    """A component may be called anything; plotly would draw what looks like a tag."""
    groups = tuple(
        replace(one, accounts=tuple(replace(part, component=EVIL) for part in one.accounts))
        for one in found.cohorts.groups
    )
    assert found.steps is not None
    rows = tuple(replace(row, label=EVIL) for row in found.steps.rows)
    tasks = tuple(
        replace(one, spans=tuple(replace(span, component=EVIL) for span in one.spans)) for one in found.examples
    )
    bad = replace(
        found, cohorts=replace(found.cohorts, groups=groups), steps=replace(found.steps, rows=rows), examples=tasks
    )
    for one in charts(bad):
        for view in one.views.values():
            assert "<b" not in json.dumps([view.data, view.layout])


def test_the_trace_is_offered_and_the_same_each_time(part: Part, found: RunDigest) -> None:
    """The same run gives the same part, to the letter; its trace opens as JSON."""
    assert time_parts(found, SOURCE) == [part]
    assert repr(time_parts(digested(), SOURCE)) == repr([part])
    (name,) = part.downloads
    assert name == "quickstart.trace.json"
    assert json.loads(part.downloads[name])["traceEvents"]
    assert any(name in note for note in part.notes)
