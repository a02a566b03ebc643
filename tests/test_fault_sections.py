"""What a study of faults says on a page: costs, the time of faults, what breaks first, success over steps, and how sure it is."""

import dataclasses
import json
import math

import pytest

import coordsim as cs
from coordsim.models.fault_study import StudyOptions, make_plan
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.fault_study import StudyResult, run_plan
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.report import fault_tables
from coordsim.sim.report.fault_words import sentences
from coordsim.sim.report.page.parts import Chart, Part, Section
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.faults import charts, parts

from .test_faults_command import SHOP, study

SOURCE = Provenance("shop", "?", "0" * 64, 5, "coordsim faults shop.yaml --rise load --levels 0.5,1,2", {})


@pytest.fixture(scope="module")
def shop() -> StudyResult:
    """Return a study of a small shop: faults, policies, three loads and numbers of steps."""
    steps = "workflow.steps.look.repeat=1,2,5"
    return study(SHOP, 2, handling=True, rise="load", levels="0.5,1,2", steps=steps)


def by_section(found: StudyResult, source: Provenance = SOURCE) -> dict[Section, Part]:
    """Return parts by section."""
    return {one.section: one for one in parts(found, source)}


def charts_by_name(found: StudyResult) -> dict[str, Chart]:
    """Return charts by name; all that they hold can be written as JSON without nan."""
    made = charts(found)
    for one in made:
        view = one.views[""]
        json.dumps([view.data, view.layout], allow_nan=False)
        assert view.summary
        assert all(len(row) == len(view.table.columns) == len(view.table.align) for row in view.table.rows)
    assert len({one.name for one in made}) == len(made)
    return {one.name: one for one in made}


def test_each_section_speaks(shop: StudyResult) -> None:
    """The answer has the first sentences and the headline figures, and none of the rest is lost."""
    made = by_section(shop)
    assert set(made) == {Section.ANSWER, Section.BREAKS, Section.SURE}
    answer = made[Section.ANSWER]
    said = list(sentences(shop))
    assert answer.answer == " ".join(said[:3])
    assert answer.notes == tuple(said[3:])
    assert "success, as it is" in [label for label, _, _ in answer.facts]
    assert any(label == "goodput after brownout" for label, _, _ in answer.facts)


def test_bars_are_the_changes_that_were_measured(shop: StudyResult) -> None:
    """Success in percentage points and p95 in seconds, a bar a fault, with the interval as whiskers."""
    view = charts_by_name(shop)["costs"].views[""]
    faults = [one for one in shop.costs if one.kind == "fault"]
    success, p95 = view.data
    assert success["x"] == pytest.approx([100 * one.metrics["success"].added.value for one in faults])
    assert p95["x"] == pytest.approx([one.metrics["response_time_p95"].added.value for one in faults])
    added = faults[0].metrics["success"].added
    assert success["error_x"]["array"][0] == pytest.approx(100 * (added.high - added.value))
    assert "policies" in charts_by_name(shop)


def test_what_is_not_resolved_looks_so(shop: StudyResult) -> None:
    """A change for the better, one for the worse and one that may be none differ in colour and in pattern."""
    made = []
    for value, half in ((0.2, 0.1), (-0.2, 0.1), (0.1, 0.2)):
        cost = next(one for one in shop.costs if one.kind == "fault")
        added = Estimate(value, value - half, value + half, 0.95, 2, "t")
        metrics = {name: dataclasses.replace(one, added=added) for name, one in cost.metrics.items()}
        made.append(dataclasses.replace(cost, metrics=metrics))
    success, p95 = charts_by_name(dataclasses.replace(shop, costs=tuple(made)))["costs"].views[""].data
    looks = list(zip(success["marker"]["color"], success["marker"]["pattern"]["shape"], strict=True))
    assert len({colour for colour, _ in looks}) == len({shape for _, shape in looks}) == 3
    # More success is better, more seconds are worse.
    assert p95["marker"]["color"][0] == looks[1][0]
    assert p95["marker"]["color"][1] == looks[0][0]


def test_faults_shade_the_time_in_which_they_were(shop: StudyResult) -> None:
    """The slowness is shaded for its five seconds in each panel, and not in the strip of names; goodput is that of the timeline."""
    view = charts_by_name(shop)["timeline"].views[""]
    shaded = [one for one in view.layout["shapes"] if one.get("opacity")]
    assert {(one["x0"], one["x1"]) for one in shaded} == {(40.0, 45.0)}
    assert [[one["y0"], one["y1"]] for one in shaded] == [view.layout[name]["domain"] for name in ("yaxis", "yaxis2")]
    goodput = next(one for one in view.data if one["name"] == "goodput")
    assert goodput["y"] == list(shop.timeline.good)
    assert len(view.table.rows) == len(shop.timeline.times)


def test_times_and_shares_are_drawn_at_each_level(shop: StudyResult) -> None:
    """p95 of each load makes the curve with the knee; shares stand below it."""
    view = charts_by_name(shop)["breaks"].views[""]
    p95 = next(one for one in view.data if one["name"] == "p95 of T_total")
    assert p95["x"] == [0.5, 1.0, 2.0]
    assert p95["y"] == pytest.approx([row.metrics["response_time_p95"].value for row in shop.levels])
    search = next(one for one in view.data if one["name"] == "tools.search in use")
    assert search["y"] == pytest.approx([100 * row.utilization["tools.search"].value for row in shop.levels])
    assert "attainment" not in [one["name"] for one in view.data]  # no limit on times: it is success


def test_a_level_without_a_value_is_left_out(shop: StudyResult) -> None:
    """Where no task was done there is no p95, and no point."""
    nothing = Estimate(math.nan, -math.inf, math.inf, 0.95, 0, "nothing observed")
    first = dataclasses.replace(shop.levels[0], metrics={**shop.levels[0].metrics, "response_time_p95": nothing})
    found = dataclasses.replace(shop, levels=(first, *shop.levels[1:]))
    assert charts_by_name(found)["breaks"].views[""].data[0]["x"] == [1.0, 2.0]


def test_success_over_steps_has_its_fit(shop: StudyResult) -> None:
    """Points are the shares that were seen; the line is a constant chance per step, where it fits."""
    view = charts_by_name(shop)["steps"].views[""]
    points = view.data[0]
    assert points["x"] == [1.0, 2.0, 5.0]
    assert points["y"] == pytest.approx([100 * one.success.value for one in shop.steps[0].bins])
    fit = shop.steps[0].fit
    fitted = [one for one in view.data if one["name"].endswith("constant chance per step")] if not fit.misfit else []
    assert [one["y"][0] for one in fitted] == pytest.approx([100 * fit.success(1.0)] * (not fit.misfit))


def test_no_table_of_the_terminal_is_lost(shop: StudyResult) -> None:
    """Each table is beside a chart, or after the charts."""
    part = by_section(shop)[Section.BREAKS]
    shown = {one.title for one in part.tables} | {
        view.table.title for one in part.charts for view in one.views.values()
    }
    assert {one.title for one in fault_tables.report(shop).tables if one.rows} <= shown


def test_what_is_missing_has_its_command() -> None:
    """Without levels and policies, and with one replication, commands add them."""
    found = study(SHOP)
    made = by_section(found, dataclasses.replace(SOURCE, command="coordsim faults shop.yaml"))
    commands = [one.command for one in (*made[Section.BREAKS].missing, *made[Section.SURE].missing)]
    assert commands == [
        "coordsim faults shop.yaml --rise load --levels 0.5,0.75,1,1.25,1.5",
        "coordsim faults shop.yaml --handling",
        "coordsim faults shop.yaml --replications 8",
    ]
    assert "one replication gives no interval" in made[Section.SURE].answer
    assert set(charts_by_name(found)) == {"costs", "timeline"}


def test_what_is_undecided_is_said(shop: StudyResult) -> None:
    """A trigger that cannot be judged, and objectives that may both have been first."""
    trigger = shop.timeline.triggers[0]
    unsure = dataclasses.replace(trigger, collapse=dataclasses.replace(trigger.collapse, state="cannot tell"))
    found = dataclasses.replace(shop, timeline=dataclasses.replace(shop.timeline, triggers=(unsure,)))
    answer = by_section(found)[Section.SURE].answer
    assert "It cannot be told whether goodput came back after brownout." in answer
    assert ("goodput after brownout", "cannot tell", "inconclusive") in by_section(found)[Section.ANSWER].facts


def test_hostile_names_are_escaped(shop: StudyResult) -> None:
    """A name of a fault is text wherever plotly would read HTML."""
    costs = tuple(dataclasses.replace(one, name=f"<img src=x>{one.name}") for one in shop.costs)
    period = dataclasses.replace(shop.timeline.periods[0], cause="<img src=y>")
    line = dataclasses.replace(shop.timeline, periods=(period, *shop.timeline.periods[1:]))
    for one in charts_by_name(dataclasses.replace(shop, costs=costs, timeline=line)).values():
        view = one.views[""]
        assert "<img" not in json.dumps([view.data, view.layout])


def test_an_outage_of_a_provider_is_told() -> None:
    """A shortened outage that ships: its faults are in the strip, also those that begin after the last task are not."""
    scenario = cs.load("provider-outage").replace("workload.tasks", 60)
    plan = make_plan(scenario, StudyOptions(False, None, None, None, None))
    found = run_plan(simulate_text, plan, seed=1, settings=Settings(replications=2, warmup=0.0))
    made = charts_by_name(found)
    labels = [one["text"] for one in made["timeline"].views[""].layout["annotations"]]
    assert "degraded (models.primary)" in labels
    end = found.timeline.times[-1]
    late = {one.cause for one in found.timeline.periods if one.start >= end and one.kind != "backlog"}
    assert not any(label.startswith(tuple(f"{name} (" for name in late)) for label in labels if late)
    assert by_section(found)[Section.BREAKS].charts[0].name == "costs"


def test_a_fault_that_never_came_is_not_called_harmless() -> None:
    """It begins when the run is over: the answer says so, with the tasks that would reach it, and no cost of it is told."""
    found = study(SHOP.replace("at: 40 s", "at: 4000 s"), 2)
    (missed,) = found.missed
    assert (missed.name, missed.at) == ("brownout", 4000.0)
    assert missed.end < missed.at
    said = " ".join(sentences(found))
    assert "brownout never came, so nothing is known of what it costs: it starts at 66.7 min" in said
    assert "brownout costs" not in said
    assert "declined" in said  # the other one came
    report = fault_tables.report(found)
    costs = next(one for one in report.tables if one.title == "What each fault adds")
    assert "brownout" not in [row[0] for row in costs.rows]
    made = by_section(found)
    (again,) = [one for one in made[Section.BREAKS].missing if "--tasks" in one.command]
    tasks = int(again.command.split("--tasks ")[1].split()[0])
    assert tasks / missed.tasks * missed.end > missed.at  # at this pace it comes
    assert "brownout" not in made[Section.SURE].answer
