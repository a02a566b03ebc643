"""What a capacity plan says to the sections of a page, from plans made by hand, and from one that was searched for."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import coordsim as cs
from coordsim.models.plan_problem import plan_problem
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.journal import FileJournal
from coordsim.sim.analysis.plan import find_plan
from coordsim.sim.analysis.planned import Choice, Limit, PlanResult, Trial
from coordsim.sim.analysis.slo import Objective
from coordsim.sim.analysis.statistics import Estimate, mean_interval
from coordsim.sim.analysis.summarize import SHARES
from coordsim.sim.analysis.summary import Judged, Quantiles
from coordsim.sim.report.page.judge import cheapest, judge
from coordsim.sim.report.page.parts import PERCENTILES, Chart, Part, Section, Switch
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.plan import charts, parts
from coordsim.sim.report.sections.sureness import precision_chart

from .test_plan_report import CHOSEN, FULL, NOW, OPEN, P95, RATE, SMALLER, SUCCESS, hours, plan

SOURCE = Provenance("assistant", "How many?", "0" * 64, 7, "coordsim plan assistant", {"coordsim": "1"}, rate=RATE)


def times(trial: Trial, replications: int = 20) -> Trial:
    """Return a trial with quantiles of T_total whose p95 has the estimate of the plan, but for its confidence."""
    (judged,) = trial.judged
    spread = np.linspace(-1, 1, replications)
    middle, half = judged.estimate.value, judged.estimate.half_width
    known = mean_interval(middle + spread, judged.estimate.confidence)
    p95 = middle + spread * half / known.half_width
    rows = tuple(tuple(float(one * share / 0.95) for share in SHARES) for one in p95)
    estimate = mean_interval([row[SHARES.index(0.95)] for row in rows], judged.estimate.confidence)
    return replace(trial, judged=(replace(judged, estimate=estimate),), times=Quantiles(SHARES, rows))


T_CHOSEN, T_SMALLER, T_OPEN = times(CHOSEN), times(SMALLER), times(OPEN)


def timed(**changes: object) -> PlanResult:
    """Return the plan made by hand, its trials with quantiles of T_total."""
    return plan(
        (Choice(NOW, "pass", T_CHOSEN, (), "", (T_OPEN,)),), **{"trials": (T_CHOSEN, T_SMALLER, T_OPEN, FULL)} | changes
    )


def spoken(found: PlanResult, source: Provenance = SOURCE) -> dict[Section, Part]:
    """Return the parts by section."""
    return {one.section: one for one in parts(found, source)}


def drawn(part: Part) -> dict[str, Chart]:
    """Return the charts of a part by name."""
    return {one.name: one for one in part.charts}


def leaves(value: Any) -> Iterator[Any]:
    """Yield all that is in plain data."""
    if isinstance(value, dict):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def test_the_slider_begins_with_the_verdicts_of_the_plan() -> None:
    """At the plan's limit, with the plan's confidence, each configuration passes, fails or stays open as the plan has it."""
    slider = spoken(timed())[Section.REPLICAS].slider
    assert slider is not None
    assert (slider.value, slider.confidence) == (30.0, 0.995)
    said = {
        one.label: judge(one, slider.shares, 0.95, slider.value, slider.confidence).verdict for one in slider.curves
    }
    assert said == {
        "llm.replicas 2, search.concurrency 10": "fail",
        "llm.replicas 3, search.concurrency 5": "inconclusive",
        "llm.replicas 3, search.concurrency 10": "pass",
    }
    best = cheapest(slider.curves, list(said.values()))
    assert best is not None
    assert slider.curves[best].cost == 7.6
    assert slider.low < min(min(row) for row in slider.curves[0].rows) + 18
    assert slider.high > 36.9


def test_percentiles_over_replicas_have_a_view_each_and_a_line_at_the_limit() -> None:
    """The chart follows the page's switch; its points are the means over replications, and its first shape is the limit."""
    chart = drawn(spoken(timed())[Section.REPLICAS])["replicas"]
    assert (chart.switch, chart.threshold, tuple(chart.views)) == (Switch.PERCENTILE, "y", PERCENTILES)
    for name, share in zip(PERCENTILES, (0.5, 0.95, 0.99), strict=True):
        view = chart.views[name]
        assert view.layout["shapes"][0]["y0"] == 30.0
        first = next(one for one in view.data if one.get("name") == "search.concurrency 10")
        assert first["x"] == [2.0, 3.0]
        assert first["y"] == pytest.approx([36.9 * share / 0.95, 27.1 * share / 0.95], rel=1e-5)
        assert len(view.table.rows) == 3
    assert chart.views["p95"].data[1]["error_y"]["array"] == pytest.approx([0.4, 1.2], rel=1e-4)


def test_a_band_spans_no_value_that_was_not_simulated() -> None:
    """With 1 and 3 replicas simulated the points are joined by a thin line alone; with 2 of them in between there is a band."""
    least = times(replace(SMALLER, point=(0, 1)))
    apart = timed(trials=(T_CHOSEN, least))
    fills = [one for one in drawn(spoken(apart)[Section.REPLICAS])["replicas"].views["p95"].data if "fill" in one]
    assert fills == []
    close = timed(trials=(T_CHOSEN, T_SMALLER))
    fills = [one for one in drawn(spoken(close)[Section.REPLICAS])["replicas"].views["p95"].data if "fill" in one]
    assert [one["x"] for one in fills] == [[2.0, 3.0, 3.0, 2.0]]


def test_the_chance_of_the_slo_is_students() -> None:
    """2.9 s within the limit, at 1.2 s for 99.5 % over 20 replications, is Student's t; what bounds exclude stands at 0 with another mark."""
    from scipy.special import stdtr, stdtrit

    chart = drawn(spoken(timed())[Section.REPLICAS])["chance"]
    (view,) = chart.views.values()
    line = view.data[0]
    wanted = [stdtr(19, away / half * stdtrit(19, 0.9975)) for away, half in ((-6.9, 0.4), (2.9, 1.2))]
    assert line["y"] == pytest.approx(wanted, rel=1e-3, abs=1e-9)
    (out,) = [one for one in view.data if one["name"].startswith("excluded by bounds")]
    assert (out["x"], out["y"]) == ([1.0], [0.0])
    assert "113 % of 1 replica" in out["hovertext"][0]
    assert "Student's t" in view.table.note


def test_the_chance_of_the_slo_says_why_the_plan_takes_more() -> None:
    """Where the first that is likely enough is not resolved, the chart says so, and what the plan's own verdicts ask for."""
    estimate = Estimate(29.0, 27.9, 30.1, 0.995, 20, "t over replications")
    likely = replace(OPEN, point=(1, 1), judged=(replace(OPEN.judged[0], estimate=estimate),))
    found = plan((Choice(NOW, "pass", CHOSEN, (), "", (likely,)),), trials=(likely, CHOSEN))
    said = drawn(spoken(found)[Section.REPLICAS])["chance"].views[""].summary
    assert said.startswith(
        "The first at which the objective is met with 95 % or more is llm.replicas 2, search.concurrency 10 (99.5 %)"
    )
    assert "By the plan's verdicts it is inconclusive and the first that passes is llm.replicas 3" in said
    assert "so that all of the plan's hold together with 95 %" in said


def test_intervals_of_times_are_drawn_from_zero_on_and_told_as_they_are() -> None:
    """An interval that reaches below 0 s has a whisker to 0, keeps its numbers in the table; and a 0 is told, as a log scale has none."""
    wide = replace(T_CHOSEN.judged[0], estimate=Estimate(0.4, -0.6, 1.4, 0.995, 20, "t over replications"))
    none = replace(wide, estimate=Estimate(0.0, 0.0, 0.0, 0.995, 20, "t over replications"))
    few, many = replace(SMALLER, judged=(wide,)), replace(CHOSEN, judged=(none,))
    found = plan((Choice(NOW, "pass", many, (), "", ()),), trials=(few, many))
    view = drawn(spoken(found)[Section.REPLICAS])["objective-p95"].views[""]
    (line,) = [one for one in view.data if "error_y" in one and len(one["x"]) == 2]
    assert line["error_y"]["arrayminus"] == pytest.approx([0.4, 0.0])
    assert line["error_y"]["array"] == pytest.approx([1.0, 0.0])
    assert min(one for trace in view.data for one in trace["y"]) == 0.0
    assert "400 ms ± 1,000" in {row[1] for row in view.table.rows}
    assert view.summary.endswith("Not on a logarithmic scale: 0 at llm.replicas 3, search.concurrency 10.")


def test_objectives_are_sorted_by_margin_with_verdict_and_chance() -> None:
    """Success misses by 1 % and comes before p95, which has 9.7 % left."""
    rates = Judged("success", 0.99, ">=", replace(CHOSEN.judged[0].estimate, value=0.98, low=0.978, high=0.982), "fail")
    both = replace(CHOSEN, judged=(*CHOSEN.judged, rates))
    found = plan((Choice(NOW, "fail", both, (), "", ()),), objectives=(P95, SUCCESS), trials=(both,))
    (table, *_) = spoken(found)[Section.ANSWER].opened
    assert [(row[0], row[2], row[4]) for row in table.rows] == [
        ("success ≥ 99 %", "-1 %", "fail"),
        ("p95 ≤ 30 s", "9.7 %", "pass"),
    ]
    assert table.rows[0][3] == "<0.1 %"


def test_the_answer_has_what_to_buy_its_price_objectives_and_headroom() -> None:
    """Each decision with its value, $ an hour, each SLO with its interval and verdict, how much more load, and what ends first."""
    facts = {label: (value, verdict) for label, value, verdict in spoken(timed())[Section.ANSWER].facts}
    assert facts["models.llm.replicas at 0.5 tasks/s"] == ("3", "pass")
    assert facts["tools.search.concurrency"] == ("10", "")
    assert facts["Price"] == ("$7.6 an hour", "")
    assert facts["p95 <= 30 s"] == ("27.1 s ± 1.2", "pass")
    assert facts["Headroom, until p95 breaks"] == ("+10 % [+5, +15] load", "")
    answer = spoken(timed())[Section.ANSWER].answer
    assert answer.endswith("p95 breaks first, at 0.55 tasks/s, +10 % [+5, +15] on the planned load (in simulation).")


def test_a_pass_beyond_saturation_is_doubted() -> None:
    """What the traffic equations let saturate at 0.96 of the load is met by runs that are too short; above 1 there is no doubt."""
    low = Limit("resource", "llm", 0.96, 0.96, 0.96, "bound")
    (doubt,) = spoken(timed(headroom=(low,)))[Section.ANSWER].warnings
    assert doubt.startswith("llm saturates below the planned load, at 0.96 of it")
    assert not spoken(timed())[Section.ANSWER].warnings


def test_the_answer_names_what_would_say_what_another_runtime_saves() -> None:
    """The comparison is of the configuration that was chosen; where all coordination is free, there is nothing to save."""
    (missing,) = spoken(timed())[Section.ANSWER].missing
    assert missing.what == "What an agent-native runtime would save with this configuration"
    assert missing.command.startswith(
        "coordsim compare assistant --runtime external-orchestrator --runtime agent-native"
    )
    assert missing.command.endswith("--set models.llm.replicas=3 --set tools.search.concurrency=10")
    assert not spoken(timed(), replace(SOURCE, runtime="ideal"))[Section.ANSWER].missing


def test_what_nothing_beats_in_cost_and_time_is_joined_and_the_rest_faint() -> None:
    """Of three configurations the dearer and slower one is beaten; the others are joined by a line."""
    beaten = times(replace(SMALLER, point=(3, 1), cost=10.1))
    (view,) = drawn(spoken(timed(trials=(T_CHOSEN, T_OPEN, T_SMALLER, beaten)))[Section.REPLICAS])[
        "trials"
    ].views.values()
    edge = view.data[0]
    assert (edge["x"], edge["y"]) == ([5.1, 7.55, 7.6], [36.9, 29.5, 27.1])
    (faint,) = [one for one in view.data if one["name"] == "fail, beaten in both"]
    assert (faint["x"], faint["opacity"]) == ([10.1], 0.45)


def test_the_frontier_the_headroom_and_the_loads_are_drawn() -> None:
    """The figures that a notebook asks for by name, with the numbers of the plan."""
    made = {one.name: one for one in charts(plan(), RATE)}
    assert next(iter(made)) == "frontier"
    assert next(iter(charts(timed(), RATE))).name == "replicas"
    (line,) = made["frontier"].views[""].data
    assert (line["x"], line["y"], line["error_y"]["array"]) == ([5.1, 7.6], [36.9, 27.1], [0.4, 1.2])
    bars = {trace["name"]: trace for trace in made["headroom"].views[""].data}
    assert bars["saturates (traffic equations)"]["x"] == [0.665]
    assert bars["breaks (simulation)"]["y"] == ["p95"]
    assert bars["breaks (simulation)"]["error_x"]["array"] == pytest.approx([0.025])
    loads = {one.name: one for one in charts(hours(), RATE)}["loads"].views[""].data
    assert loads[0]["y"] == [3.55, 6.05, 11.05]
    assert loads[1]["y"] == [11.05] * 3


def test_replicas_over_the_load_step_up_where_the_lesser_load_ends() -> None:
    """Between two loads the line is at what the greater takes; an undecided smaller configuration has a mark of its own."""
    found = hours()
    less = replace(found.trials[2], point=(2, 0), verdict="inconclusive")
    doubted = replace(
        found, choices=(*found.choices[:2], replace(found.choices[2], undecided=(less,))), trials=(*found.trials, less)
    )
    (view,) = drawn(spoken(doubted)[Section.REPLICAS])["capacity"].views.values()
    by = {one["name"]: one for one in view.data}
    assert (by["chosen"]["x"], by["chosen"]["y"], by["chosen"]["line"]["shape"]) == (
        [0.25, 0.5, 0.75],
        [1.0, 2.0, 4.0],
        "vh",
    )
    assert (by["cheaper, not resolved"]["x"], by["cheaper, not resolved"]["y"]) == ([0.75], [3.0])


def test_one_load_and_no_price_name_the_command_that_adds_them() -> None:
    """A plan of one load asks for more of them; one without prices asks for prices, and draws no cost."""
    assert [one.command for one in spoken(timed())[Section.REPLICAS].missing] == [
        "coordsim plan assistant --factors 0.5,0.75,1,1.25,1.5"
    ]
    free = [replace(one, costs=(0.0,) * len(one.values)) for one in plan().variables]
    trials = [replace(one, cost=0.0) for one in (T_CHOSEN, T_SMALLER)]
    found = plan(
        (Choice(NOW, "pass", trials[0], (), "", ()),), variables=tuple(free), trials=tuple(trials), frontier=()
    )
    part = spoken(found)[Section.REPLICAS]
    assert part.missing[1].command == (
        "coordsim plan assistant --decide 'models.llm.replicas=1,2,3,4@$1/h' --decide 'tools.search.concurrency=5,10@$1/h'"
    )
    assert not {"trials", "frontier"} & drawn(part).keys()
    assert part.slider is not None
    assert {one.cost for one in part.slider.curves} == {None}
    assert "the smallest that passes" in part.answer


def test_what_ends_first_and_the_next_bottleneck_are_told() -> None:
    """The sentence has the load, its bracket and the fix; the table of fixes stands beside it."""
    part = spoken(timed())[Section.BREAKS]
    assert part.answer == (
        "p95 breaks first, at 0.55 tasks/s, +10 % [+5, +15] on the planned load (in simulation). By the traffic equations llm limits at "
        "1.33 times; after models.llm.replicas 3 -> 4 (for $2.5 an hour more), search limits at 2.5 times."
    )
    assert [one.title for one in part.tables] == ["The next bottleneck after each fix"]
    bare = spoken(timed(headroom=(), fixes=()), replace(SOURCE, command="coordsim plan assistant --no-headroom"))
    assert [one.command for one in bare[Section.BREAKS].missing] == ["coordsim plan assistant"]


def test_how_sure_says_the_split_the_looks_and_what_would_resolve() -> None:
    """Each interval has more confidence than the plan; what is open is counted, with the replications that would tell."""
    part = spoken(timed())[Section.SURE]
    assert part.answer == (
        "All verdicts of the plan hold together with 95 %: each interval is of 99.5 %, over 20 replications. "
        "1 of 3 configurations simulated stays inconclusive."
    )
    assert [one.command for one in part.missing] == ["coordsim plan assistant --max-replications 68"]
    (chart,) = part.charts
    line = chart.views["p95"].data[-1]
    assert line["x"][-1] == 20
    assert line["y"][-1] == pytest.approx(27.1, rel=1e-5)


def test_a_plan_that_simulated_nothing_still_speaks() -> None:
    """Where bounds exclude everything, or nothing was observed, there are words for each section, and no chart of nothing."""
    none = plan(
        (Choice(NOW, "fail", None, (), "llm is offered 113 %", ()),), trials=(FULL,), frontier=(), headroom=(), fixes=()
    )
    made = spoken(none)
    assert set(made) == {Section.ANSWER, Section.REPLICAS, Section.BREAKS, Section.SURE}
    assert all(one.answer and not one.charts and one.slider is None for one in made.values())
    blind = replace(CHOSEN, judged=(replace(CHOSEN.judged[0], estimate=mean_interval([1.0])),), verdict="inconclusive")
    assert all(
        one.answer for one in spoken(plan((Choice(NOW, "inconclusive", blind, (), "", ()),), trials=(blind,))).values()
    )


def test_numbers_are_plain_short_and_escaped() -> None:
    """No nan, no infinity, no array; six digits; and names of the scenario are text, not markup."""
    odd = replace(plan().variables[0], path="models.<b>.replicas")
    found = timed(variables=(odd, plan().variables[1]))
    for part in parts(found, SOURCE):
        for chart in part.charts:
            for view in chart.views.values():
                text = json.dumps([view.data, view.layout], allow_nan=False)
                assert "<b>" not in text
                assert all(
                    one == float(f"{one:.6g}")
                    for trace in view.data
                    for name in "xy"
                    for one in leaves(trace[name])
                    if isinstance(one, float)
                )
                assert view.summary
                assert view.table.rows
    assert len({chart.name for part in parts(found, SOURCE) for chart in part.charts}) == sum(
        len(one.charts) for one in parts(found, SOURCE)
    )


def test_many_configurations_keep_the_page_small() -> None:
    """Of 300 configurations the slider has sixty, around the chosen one, the charts ten lines at most, and tables 200 rows."""
    replicas = replace(
        plan().variables[0], values=tuple(map(str, range(1, 21))), costs=tuple(2.5 * n for n in range(1, 21))
    )
    search = replace(
        plan().variables[1], values=tuple(map(str, range(1, 16))), costs=tuple(0.1 * n for n in range(1, 16))
    )
    trials = [replace(T_CHOSEN, point=(a, b), cost=2.5 * a + 0.1 * b + 2.6) for a in range(20) for b in range(15)]
    chosen = trials[100]
    found = plan((Choice(NOW, "pass", chosen, (), "", ()),), variables=(replicas, search), trials=tuple(trials))
    part = spoken(found)[Section.REPLICAS]
    assert part.slider is not None
    assert len(part.slider.curves) == 60
    view = drawn(part)["replicas"].views["p95"]
    assert len([one for one in view.data if "fill" not in one]) <= 10
    assert len(view.table.rows) == 200
    assert "100 more rows" in view.table.note


def test_a_plan_that_was_searched_for_has_quantiles_in_each_trial(tmp_path: Any) -> None:
    """The slider's verdicts at its first value are those of the search; each trial has as many rows as replications, from a journal, too."""
    section = {
        "decide": {"models.checker.replicas": {"values": [3, 4, 6], "price": "$4 / h"}},
        "max_replications": 10,
    }
    changes = {"workload.tasks": 150, "workload.warmup": "10 s", "plan": section}
    scenario = cs.load("capacity/tandem").replace_all(changes)
    problem = replace(plan_problem(scenario), headroom=False, frontier=())
    with FileJournal(tmp_path / "journal.jsonl") as journal:
        found = find_plan(simulate_text, problem, journal=journal)
    with FileJournal(tmp_path / "journal.jsonl") as journal:
        again = find_plan(simulate_text, problem, journal=journal)
    assert again.trials == found.trials
    ran = [one for one in found.trials if one.replications]
    assert ran
    assert all(one.times is not None and len(one.times.rows) == one.replications for one in ran)
    slider = spoken(found)[Section.REPLICAS].slider
    assert slider is not None
    said = sorted(judge(one, slider.shares, 0.95, slider.value, slider.confidence).verdict for one in slider.curves)
    assert said == sorted(one.verdict for one in ran)
    for one in ran:
        assert one.times is not None
        (judged,) = one.judged
        assert mean_interval([row[SHARES.index(0.95)] for row in one.times.rows]).value == pytest.approx(
            judged.estimate.value
        )
    assert math.isfinite(slider.confidence)
    assert found.objectives[0] == Objective("p95", 9.0, "<=")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_replications_draw_no_narrowing(count: int) -> None:
    """An interval that nothing came before has not narrowed: no chart, and no error; from three on there is one."""
    rows = tuple(tuple(float(place + one) for one in range(len(SHARES))) for place in range(3))
    assert precision_chart(Quantiles(SHARES, rows[:count]), 0.95, "now") is None
    drawn = precision_chart(Quantiles(SHARES, rows), 0.95, "now")
    assert drawn is not None
    assert list(drawn.views) == list(PERCENTILES)
