"""What a study says to the sections of a page, from studies made by hand, and from one that was run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import coordsim as cs
from coordsim.sim.analysis.chance_met import chance_met
from coordsim.sim.analysis.design import Value
from coordsim.sim.analysis.slo import Objective, full_name, overall, verdict
from coordsim.sim.analysis.statistics import Estimate, mean_interval, proportion_interval
from coordsim.sim.analysis.study import Column, Level, StudyCell, StudyFactor, StudyResult
from coordsim.sim.analysis.summarize import SHARES
from coordsim.sim.analysis.summary import Quantiles
from coordsim.sim.report.page.judge import judge
from coordsim.sim.report.page.parts import PERCENTILES, Chart, Part, Section, Switch
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.study import _objectives, figures, parts
from coordsim.sim.report.sections.study_chances import chances
from coordsim.sim.report.sections.study_load import is_load
from coordsim.sim.report.study_tables import to_csv

REPLICAS, LATENCY, LOAD, STEPS = (
    "models.llm.replicas",
    "tools.search.latency",
    "workload.arrivals.poisson",
    "workflow.steps.act.repeat",
)
P95 = Objective("p95", 10.0, "<=")
NOISE = (-0.5, 0.1, 0.0, 0.2, 0.2)  # of the replications (s)


def study(
    points: Mapping[tuple[Value, ...], float],
    paths: Sequence[str],
    design: str = "grid",
    noise: Sequence[float] = NOISE,
) -> StudyResult:
    """Return a study in which p95 of T_total is a number (s) at each point, and the mean a half of it."""
    factors, levels = zip(
        *(StudyFactor.of(path, [one[place] for one in points]) for place, path in enumerate(paths)), strict=True
    )
    cells = []
    for number, value in enumerate(points.values()):
        rows = tuple(tuple((value + one) * share / 0.95 for share in SHARES) for one in noise)
        samples = {
            "response_time_p95": tuple(value + one for one in noise),
            "response_time_mean": tuple((value + one) / 2 for one in noise),
        }
        estimates = {name: mean_interval(known) for name, known in samples.items()}
        said = verdict(estimates["response_time_p95"], P95)
        at = tuple(each[number] for each in levels)
        cells.append(
            StudyCell(
                number + 1,
                "desk",
                number,
                1,
                at,
                len(noise),
                100,
                estimates,
                samples,
                said,
                times=Quantiles(SHARES, rows),
            )
        )
    columns = tuple(Column(name, "s", name) for name in ("response_time_mean", "response_time_p95"))
    return StudyResult(design, tuple(factors), columns, tuple(cells), "response_time_p95", 0.95, {})


def source(*objectives: Objective, command: str = "coordsim sweep desk") -> Provenance:
    """Return where a study came from, with the SLO of its scenario."""
    known = tuple((one.metric, one.threshold, one.sense) for one in objectives)
    return Provenance("desk", "", "0" * 64, 1, command, {"coordsim": "1"}, objectives=known)


GRID = study(
    {(1, "100 ms"): 30.0, (1, "1 s"): 34.0, (2, "100 ms"): 10.1, (2, "1 s"): 12.0, (4, "100 ms"): 8.0, (4, "1 s"): 9.0},
    (REPLICAS, LATENCY),
)


def spoken(found: StudyResult, where: Provenance) -> dict[Section, Part]:
    """Return the parts by section."""
    return {one.section: one for one in parts(found, where)}


def drawn(part: Part) -> dict[str, Chart]:
    """Return the charts of a part by name."""
    return {one.name: one for one in part.charts}


def test_the_slider_begins_with_the_verdicts_of_the_cells() -> None:
    """At the limit of the SLO and the study's confidence each point has the verdict that its cell has; two of them stay open."""
    slider = spoken(GRID, source(P95))[Section.REPLICAS].slider
    assert slider is not None
    assert (slider.value, slider.confidence, len(slider.curves)) == (10.0, 0.95, 6)
    said = [judge(one, slider.shares, 0.95, slider.value, slider.confidence).verdict for one in slider.curves]
    assert said == [one.verdict for one in GRID.cells] == ["fail", "fail", "inconclusive", "fail", "pass", "pass"]
    free = spoken(GRID, source())[Section.REPLICAS]
    assert free.slider is not None
    assert 1 < free.slider.value < 34
    assert any("--set 'slo={p95: 2 s}'" in one.command for one in free.missing)


def test_percentiles_over_capacity_have_lines_bands_and_the_limit() -> None:
    """A line for each latency, a band over the numbers, the limit as the first shape, and a view for each percentile."""
    chart = drawn(spoken(GRID, source(P95))[Section.REPLICAS])["replicas"]
    assert (chart.switch, chart.threshold, tuple(chart.views)) == (Switch.PERCENTILE, "y", PERCENTILES)
    view = chart.views["p95"]
    lines = [one for one in view.data if "fill" not in one]
    assert [(one["name"], one["x"], one["y"]) for one in lines] == [
        ("search.latency=100 ms", [1, 2, 4], [30.0, 10.1, 8.0]),
        ("search.latency=1 s", [1, 2, 4], [34.0, 12.0, 9.0]),
    ]
    assert len(view.data) == 4
    assert view.layout["shapes"][0]["y0"] == 10.0
    assert len(view.table.rows) == 6


def test_the_answer_on_capacity_names_the_first_value_that_is_enough() -> None:
    """For each combination of the others the least value whose cells pass; and the chance of it by Student's t."""
    from scipy.special import stdtr

    part = spoken(GRID, source(P95))[Section.REPLICAS]
    assert (
        part.answer
        == "To meet p95 <= 10 s, llm.replicas=4 is the first value shown to be enough, whatever else is set."
    )
    assert part.opened[0].rows == (("search.latency=100 ms", "4"), ("search.latency=1 s", "4"))
    assert spoken(GRID, source(P95))[Section.ANSWER].answer.startswith(part.answer)
    line, other = drawn(part)["chance"].views[""].data
    assert (line["name"], other["name"]) == ("search.latency=100 ms", "search.latency=1 s")
    error = float(np.std(NOISE, ddof=1)) / math.sqrt(len(NOISE))
    assert line["y"] == pytest.approx([stdtr(4, (10 - one) / error) for one in (30.0, 10.1, 8.0)], abs=1e-5)


def test_the_answer_counts_verdicts_of_the_slo() -> None:
    """Least and most with intervals, and how many cells pass, fail and stay open."""
    facts = {label: (value, said) for label, value, said in spoken(GRID, source(P95))[Section.ANSWER].facts}
    assert facts["SLO: pass"] == ("2 of 6 cells", "pass")
    assert facts["SLO: fail"] == ("3 of 6 cells", "fail")
    assert facts["SLO: inconclusive"] == ("1 of 6 cells", "inconclusive")
    assert facts["Least response_time_p95: llm.replicas 4, search.latency 100 ms"][0].startswith("8.0 s ±")


def test_figures_go_by_the_paths_of_factors_and_all_of_them() -> None:
    """A notebook asks for a factor's path, or for `all factors`, whose lines end at the metric: 8 s at the bottom, 34 s on top."""
    made = figures(GRID)
    assert list(made) == [REPLICAS, LATENCY, "all factors"]
    every = made["all factors"].views[""]
    xs = [value for one in every.data for value in one["x"]]
    ends = [y for one in every.data for x, y in zip(one["x"], one["y"], strict=True) if x == 2]
    assert xs.count(None) == 6
    assert (ends[0], ends[-1]) == (0.0, 1.0)
    assert every.table.rows[0][-1].startswith("8.0 s")
    assert len(every.table.rows) == 6


def test_what_matters_most_is_the_factor_that_moves_the_metric_most() -> None:
    """Replicas move the mean over latencies from 32 s to 8.5 s."""
    part = spoken(GRID, source())[Section.MATTERS]
    assert part.answer.startswith(f"{REPLICAS} moves response_time_p95 most: at 4 it is 23.5 s ± 0 below that at 1")
    assert part.answer.endswith("as a mean over all else.")
    assert part.tables[0].title == "Main effects on response_time_p95"


def test_levels_that_differ_by_rounding_alone_are_the_same() -> None:
    """Where sums in another order are all that tells levels apart, no factor is said to move anything."""
    flat = study({("1",): 2.0, ("2",): 2.0 + 1e-12, ("4",): 2.0}, (REPLICAS,))
    assert (
        spoken(flat, source())[Section.MATTERS].answer == "response_time_p95 is the same at all levels of every factor."
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            (1.0, 1.5, 1.9, 9.0),
            f"From {LOAD}=1.5 / s to 2 / s on, p95 of T_total grows more than in proportion to the load",
        ),
        ((1.0, 1.1, 1.2, 1.3), "is nowhere shown to grow more than in proportion to the load"),
    ],
)
def test_the_knee_is_where_the_local_slope_is_shown_to_exceed_one(values: tuple[float, ...], said: str) -> None:
    """From 1.5 to 2 tasks a second p95 grows from 1.9 to 9 s: log 4.7 over log 1.33; before that less than the load does."""
    found = study(
        {(f"{rate} / s",): value for rate, value in zip((0.5, 1, 1.5, 2), values, strict=True)},
        (LOAD,),
        noise=[one / 20 for one in NOISE],
    )
    part = spoken(found, source())[Section.BREAKS]
    assert said in part.answer
    (chart,) = part.charts
    assert chart.threshold == ""
    few = study({("1 / s",): 1.0, ("2 / s",): 9.0}, (LOAD,))
    assert spoken(few, source())[Section.BREAKS].answer.startswith("Too few values")


def test_what_breaks_first_is_the_combination_that_misses_the_slo_at_the_least_load() -> None:
    """One replica keeps 10 s up to 1 task a second and fails at 2; four are nowhere shown to miss it."""
    loads = {
        (replicas, f"{rate} / s"): value
        for replicas, values in ((1, (5.0, 8.0, 30.0)), (4, (5.0, 6.0, 7.0)))
        for rate, value in zip((0.5, 1, 2), values, strict=True)
    }
    part = spoken(study(loads, (REPLICAS, LOAD)), source(P95))[Section.BREAKS]
    assert part.answer.startswith(
        "llm.replicas=1 breaks first: the SLO (p95 <= 10 s) is kept up to arrivals.poisson=1 / s and missed from arrivals.poisson=2 / s on. "
        "1 of 2 combinations are not shown to miss it."
    )
    assert part.opened[0].rows == (("llm.replicas=1", "1 / s", "2 / s"), ("llm.replicas=4", "2 / s", "–"))
    alone = {(rate,): value for (replicas, rate), value in loads.items() if replicas == 4}
    assert "nowhere shown to be missed" in spoken(study(alone, (LOAD,)), source(P95))[Section.BREAKS].answer


def test_shares_alike_in_all_seeds_are_no_certainty() -> None:
    """100 % of 50 tasks in each of two seeds leaves open whether 99 % is met, in the table of objectives and in the chance."""
    few = proportion_interval(50, 50)
    wanted = Objective("success", 0.99, ">=")
    cells = [
        StudyCell(number, "desk", point, seed, (Level(str(point + 1), point + 1),), 2, 50, {"success": few}, {"success": (1.0, 1.0)},
                  "inconclusive")
        for number, (point, seed) in enumerate([(0, 1), (0, 2), (1, 1), (1, 2)], 1)
    ]  # fmt: skip
    found = replace(
        GRID,
        factors=(StudyFactor(REPLICAS, "", True),),
        cells=tuple(cells),
        columns=(Column("success", "share", ""),),
        metric="success",
    )
    assert _objectives(found, [wanted]).rows[0][1:4] == ("0", "0", "4")
    chart = chances(found, 0, [wanted])
    assert chart is not None
    (line,) = chart.views[""].data
    assert line["y"] == pytest.approx([chance_met(few, wanted)] * 2, abs=1e-5)
    assert line["y"][0] < 0.9


def test_how_often_a_step_repeats_is_no_capacity() -> None:
    """`at_most` of a step goes to scaling, and replicas are the capacity whichever factor comes first."""
    at_most = "workflow.steps.act.at_most"
    points = {(most, count): most / count + 1.0 for most in (2, 4, 8) for count in (1, 2)}
    made = spoken(study(points, (at_most, REPLICAS)), source(P95))
    assert drawn(made[Section.REPLICAS])["replicas"].title.endswith(f"by {REPLICAS}?")
    assert drawn(made[Section.SCALING])["scaling"].title.endswith(f"with {at_most}?")


def test_runtimes_as_a_factor_say_what_another_one_saves() -> None:
    """Over two loads agent-native takes 2 and 4 s less: 3 s as a mean, paired, so without noise."""
    points = {("stateless-api", 1): 8.0, ("stateless-api", 2): 12.0, ("agent-native", 1): 6.0, ("agent-native", 2): 8.0}
    made = spoken(study(points, ("runtime", REPLICAS)), source(P95))
    part = made[Section.RUNTIME]
    assert (
        part.answer
        == "Against stateless-api, as a mean over all else, response_time_p95 is 3 s ± 0 less with agent-native."
    )
    assert [one.name for one in part.charts] == ["over-runtime"]
    assert "over-runtime" not in drawn(made[Section.MATTERS])


def test_points_of_one_capacity_stand_side_by_side_under_the_slider() -> None:
    """The share within the limit has the capacity as its axis, and each combination its look and its entry in the legend."""
    chart = drawn(spoken(GRID, source(P95))[Section.REPLICAS])["within"]
    points, *keys = chart.views[""].data
    assert [one["name"] for one in keys] == ["search.latency=100 ms", "search.latency=1 s"]
    assert points["x"] == pytest.approx([0.85, 1.15, 1.85, 2.15, 3.85, 4.15])
    assert len(set(points["marker"]["symbol"])) == 2
    assert chart.views[""].layout["xaxis"]["ticktext"] == ["1", "2", "4"]


def test_steps_are_drawn_on_logarithmic_axes_and_left_to_scaling() -> None:
    """Points with intervals over the count; the exponent is the business of another command, which is named."""
    found = study({(one,): float(one) for one in (2, 4, 8)}, (STEPS,))
    part = spoken(found, source())[Section.SCALING]
    (chart,) = part.charts
    layout = chart.views["p95"].layout
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("log", "log")
    assert [one.command for one in part.missing] == [f"coordsim scaling desk --over {STEPS}=2,4,8"]
    assert Section.REPLICAS not in spoken(found, source())


def test_a_single_replication_says_what_is_missing() -> None:
    """Without intervals the points are drawn alone, no probability is told, and the command for more is there."""
    one = study({(1,): 30.0, (2,): 9.0}, (REPLICAS,), noise=(0.0,))
    made = spoken(one, source(P95, command="coordsim sweep desk --over models.llm.replicas=1,2 --replications 1"))
    assert (
        made[Section.SURE].missing[0].command == "coordsim sweep desk --over models.llm.replicas=1,2 --replications 10"
    )
    assert "chance" not in drawn(made[Section.REPLICAS])
    assert not any("fill" in trace for trace in drawn(made[Section.REPLICAS])["replicas"].views["p95"].data)


def test_failed_cells_are_told_and_left_out() -> None:
    """A cell that failed is counted, listed with its reason, and in no chart."""
    bad = StudyCell(6, "desk", 5, 1, GRID.cells[5].levels, failure="too many tasks <b>waited</b>")
    found = replace(GRID, cells=(*GRID.cells[:5], bad))
    made = spoken(found, source(P95))
    assert "1 cell failed" in made[Section.SURE].answer
    assert made[Section.SURE].tables[1].rows[0][2] == "too many tasks <b>waited</b>"
    assert len(drawn(made[Section.REPLICAS])["replicas"].views["p95"].table.rows) == 5
    none = replace(
        GRID, cells=tuple(replace(bad, number=one.number, point=one.point, levels=one.levels) for one in GRID.cells)
    )
    assert all(one.answer for one in parts(none, source(P95)))


def test_cells_without_a_value_are_counted_in_the_answer_and_in_how_sure() -> None:
    """A cell that ran and observed nothing is no healthy one: how many there are, why, and at how many points there is an interval."""
    empty = Estimate(math.nan, -math.inf, math.inf, 0.95, 0, "t")
    first, second, *rest = GRID.cells
    why = "no task arrived after the warm-up of 16.7 min; try a shorter one with `--warmup`"
    quiet = replace(first, estimates={}, samples={}, times=None, warnings=(why,))
    known = second.estimates["response_time_p95"]
    alone = replace(second, samples={"response_time_p95": (known.value,)}, times=None,
                    estimates={"response_time_p95": replace(known, low=-math.inf, high=math.inf, n=1)})  # fmt: skip
    nothing = replace(rest[0], estimates={"response_time_p95": empty}, samples={}, times=None)
    found = replace(GRID, cells=(quiet, alone, nothing, *rest[1:]))
    made = spoken(found, source())
    told = "2 of 6 cells have no value of response_time_p95 (such as cell 1: no task arrived after the warm-up of 16.7 min)."
    assert made[Section.ANSWER].answer.endswith(told)
    assert ("Without a value of response_time_p95", "2 of 6 cells", "") in made[Section.ANSWER].facts
    sure = made[Section.SURE].answer
    assert "At 3 of 6 points response_time_p95 is known within ±" in sure
    assert sure.endswith("; at 1 it has no interval; at 2 it has no value.")
    chart = drawn(made[Section.REPLICAS])["replicas"]
    assert chart.views["p95"].summary.endswith(
        "3 of 6 points are not drawn: not every replication there has a task done."
    )
    assert to_csv(found).splitlines()[1].endswith("response_time_p95,s,34.0,,,1")
    column = found.to_table().column("response_time_p95_low").to_pylist()
    assert column[:3] == [None] * 3
    assert all(math.isfinite(one) for one in column[3:])


def test_over_several_loads_the_slider_has_the_greatest_alone() -> None:
    """Which of all points keeps a limit first says nothing where they carry different loads: those at 2 / s stay, and it is said."""
    points = {(1, "1 / s"): 5.0, (1, "2 / s"): 9.0, (2, "1 / s"): 4.0, (2, "2 / s"): 6.0}
    part = spoken(study(points, (REPLICAS, LOAD)), source(P95))[Section.REPLICAS]
    assert part.slider is not None
    assert [one.label for one in part.slider.curves] == [
        f"llm.replicas {one}, arrivals.poisson 2 / s" for one in (1, 2)
    ]
    assert part.slider.label.endswith("at arrivals.poisson=2 / s")
    assert part.notes[0].startswith(
        "Of the loads the slider, and the shares within its limit, have one alone: arrivals.poisson=2 / s"
    )
    assert drawn(part)["within"].views[""].summary.endswith("at arrivals.poisson=2 / s.")


def test_an_axis_with_one_value_lies_about_it() -> None:
    """Points at one load of 0.1 / s have an axis from 0.05 to 0.15 with that tick, not from one below to one above."""
    points = {(1, "0.1 / s"): 5.0, (2, "0.1 / s"): 4.0, (1, "0.2 / s"): 4.0, (2, "0.2 / s"): 4.0}
    found = study(points, (REPLICAS, LOAD))
    gone = [replace(one, estimates={}, samples={}, times=None) for one in found.cells[2:]]
    chart = drawn(spoken(replace(found, cells=(*found.cells[:2], *gone)), source())[Section.BREAKS])["load"]
    axis = chart.views["p95"].layout["xaxis"]
    assert (axis["range"], axis["tickvals"], axis["ticktext"]) == ([0.05, 0.15], [0.1], ["0.1"])


def test_two_hundred_cells_stay_small() -> None:
    """A sample of 200 cells is drawn as points, its slider has sixty curves at most, and what a page holds stays below 2 MB."""
    rng = np.random.default_rng(3)
    values: dict[tuple[Value, ...], float] = {
        (int(one), f"{rng.uniform(1, 900):.3f} ms"): 5 + float(one) for one in rng.integers(1, 9, 200)
    }
    found = study(values, (REPLICAS, LATENCY), "random", noise=tuple(rng.normal(0, 0.3, 20)))
    made = parts(found, source(P95))
    slider = next(one.slider for one in made if one.slider is not None)
    assert len(slider.curves) <= 60
    text = ""
    for part in made:
        for chart in part.charts:
            for view in chart.views.values():
                assert len(view.data) <= 20
                assert len(view.table.rows) <= 200
                text += json.dumps([view.data, view.layout, view.table.rows], allow_nan=False)
    assert len(text) + len(json.dumps([one.rows for one in slider.curves])) < 2e6
    cloud = figures(found)[REPLICAS].views[""].data
    assert [one["mode"] for one in cloud] == ["markers"]


def test_texts_of_a_scenario_are_no_markup() -> None:
    """Levels and paths are escaped in what plotly draws, which reads a subset of HTML."""
    found = study({("<b>a</b>", 1): 3.0, ("<i>b</i>", 2): 4.0}, ("run.<u>time</u>", REPLICAS))
    for part in parts(found, source(P95)):
        for chart in part.charts:
            for view in chart.views.values():
                text = json.dumps([view.data, view.layout])
                assert not any(tag in text for tag in ("<b>a", "<i>b", "<u>time"))


def test_a_study_that_was_run_has_quantiles_of_every_cell() -> None:
    """As many rows as replications, and the slider's p95 is the cell's own; the SLO of the scenario gives its limit."""
    scenario = cs.load("theory/mm1").replace_all(
        {"workload.tasks": 60, "workload.warmup": "0 s", "slo": {"p95": "20 s"}}
    )
    found = cs.sweep(scenario, {"models.server.replicas": [1, 2]}, replications=3)
    cells = found.result.cells
    assert all(one.times is not None and len(one.times.rows) == 3 for one in cells)
    slider = spoken(found.result, source(*scenario.objectives))[Section.REPLICAS].slider
    assert slider is not None
    assert slider.value == 20.0
    for curve, one in zip(slider.curves, cells, strict=True):
        said = judge(curve, slider.shares, 0.95, slider.value, slider.confidence)
        assert said.value.value == pytest.approx(one.estimates[full_name("p95")].value, rel=1e-5)
        assert overall([said.verdict]) == one.verdict
    names: list[Any] = list(found._charts())
    assert names == ["models.server.replicas"]
    assert found.figure("models.server.replicas").data


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("poisson", True), ("deterministic", True), ("bursty.rate", True), ("closed.users", True), ("trace.time_scale", True),
        ("closed.think", False), ("renewal.interarrival", False), ("rates.every", False), ("bursty.burst", False),
    ],
)  # fmt: skip
def test_only_what_makes_more_tasks_arrive_is_load(path: str, expected: bool) -> None:
    """A longer time to think or between arrivals is less load, not more, and is told as any other factor."""
    assert is_load(f"workload.arrivals.{path}") is expected
