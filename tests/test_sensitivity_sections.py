"""The sections of a sensitivity, from small real studies and measures made by hand: charts, words, and what is missing."""

import json
import math
from dataclasses import replace
from itertools import combinations

import pytest

from coordsim.models import sensitivity as models
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis.sensitivity import FactorResult, PlannedFactor, Response, SensitivityResult, Side
from coordsim.sim.analysis.sensitivity_global import MorrisMeasure, MorrisMeasures, SobolMeasure, SobolMeasures, Verdict
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.report.page.assemble import to_html
from coordsim.sim.report.page.parts import Part, Section
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.sensitivity import figures, parts
from coordsim.sim.report.sensitivity_tables import change_text

SOURCE = Provenance("sum", "", "", 1, "coordsim sensitivity sum --factor search --factor fetch --tasks 9", {})
MEAN, P95 = "response_time_mean", "response_time_p95"
EVIL = "<i>x</i>"


def about(value: float, half: float = 0.1) -> Estimate:
    """Return an estimate with an interval to both sides."""
    return Estimate(value, value - half, value + half, 0.95, 4, "t")


def factor(
    name: str, low: float | None, high: float | None, slope: float | None = None, **more: object
) -> FactorResult:
    """Return a factor of 100 ms whose ends change the metric so."""
    sides = (Side(0.9, "90 ms", "a"), Side(1.1, "110 ms", "b"))
    planned = PlannedFactor(name, "time", (f"tools.{name}.latency",), "100 ms", *sides)
    changes = [None if one is None else about(one) for one in (low, high)]
    response = Response(changes[0], changes[1], None if slope is None else about(slope, 0.01), "linear")
    return FactorResult(replace(planned, **more), {MEAN: response, P95: response})  # type: ignore[arg-type]


def result(*factors: FactorResult, **more: object) -> SensitivityResult:
    """Return a study one at a time."""
    made = SensitivityResult(
        "sum", "tornado", 0.1, (MEAN, P95), {MEAN: "s", P95: "s"}, 1, 4, 0.95, {MEAN: about(2), P95: about(3)}, factors, {}, {},
        5, ("a note",), ("a doubt",),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def by_section(found: SensitivityResult, source: Provenance = SOURCE) -> dict[Section, Part]:
    """Return the parts of a sensitivity by section."""
    return {one.section: one for one in parts(found, source)}


def test_a_tornado_has_a_bar_for_each_end_with_the_real_value_written_at_it() -> None:
    """The largest swing first; whiskers; what the factor is at an end stands behind the whisker, on the side of its bar."""
    found = result(factor("small", -0.2, 0.3), factor("large", -1.0, 1.0))
    view = figures(found)[MEAN].views[""]
    low, high, at_low, at_high = view.data
    assert view.layout["yaxis"]["categoryarray"] == ["large", "small"]
    assert view.layout["yaxis"]["ticktext"][0] == "large<br>now 100 ms"
    assert (low["x"], high["x"]) == ([-1.0, -0.2], [1.0, 0.3])
    assert low["error_x"]["array"] == [pytest.approx(0.1)] * 2
    assert [text.strip() for text in (*at_low["text"], *at_high["text"])] == ["90", "90", "110", "110"]
    assert (at_low["x"][0], at_high["x"][0]) == (pytest.approx(-1.1), pytest.approx(1.1))
    assert (set(at_low["textposition"]), set(at_high["textposition"])) == ({"middle left"}, {"middle right"})
    assert low["marker"]["color"] != high["marker"]["color"]
    assert low["marker"]["pattern"]["shape"] != high["marker"]["pattern"]["shape"]
    left, right = view.layout["xaxis"]["range"]
    assert left < -1.1 < 1.1 < right
    assert view.table.rows[0] == ("large", "100 ms", "90 ms", "-1.00 s ± 0.10", "110 ms", "+1.00 s ± 0.10")


def test_ends_that_go_the_same_way_do_not_hide_each_other() -> None:
    """A factor of which both more and less makes it slower: the bars lie one above the other, and the label has the range."""
    view = figures(result(factor("bent", 0.5, 0.8)))[MEAN].views[""]
    assert view.layout["barmode"] == "group"
    assert view.layout["yaxis"]["ticktext"] == ["bent<br>100 -&gt; 90 .. 110 ms"]
    assert len(view.data) == 2


def test_what_is_no_more_than_chance_is_not_called_the_largest() -> None:
    """The words name the largest swing, and the largest that is beyond its interval; the fact is that one."""
    noisy = factor("noisy", None, 2.0)
    wide = replace(noisy.responses[MEAN], high=about(2.0, 5.0))
    found = result(replace(noisy, responses={MEAN: wide, P95: wide}), factor("sure", -1.0, 1.0))
    summary = figures(found)[MEAN].views[""].summary
    assert "The largest swing is with noisy" in summary
    assert "The largest change that is beyond its interval is with sure" in summary
    facts = by_section(found)[Section.ANSWER].facts
    assert (
        "mean T_total surely changes most with sure",
        "-1.00 s ± 0.10 at 90 ms, +1.00 s ± 0.10 at 110 ms",
        "",
    ) in facts


def test_what_one_per_cent_is_worth_is_drawn_by_size_with_its_interval() -> None:
    """Whole parts and single values have colours and patterns of their own; the answer has the part that is worth most."""
    member = factor("llm.decode", -0.5, 0.5, 0.3)
    whole = factor("llm", -0.9, 0.9, 0.6, members=("llm.decode",))
    found = result(member, whole, factor("search", -0.2, 0.2, 0.1))
    view = figures(found)["elasticity-mean-t-total"].views[""]
    parts_of, single = view.data
    assert dict(zip(parts_of["y"], parts_of["x"], strict=True)) == {"llm": 0.6, "search": 0.1}
    assert dict(zip(single["y"], single["x"], strict=True)) == {"llm.decode": 0.3}
    assert view.layout["yaxis"]["categoryarray"] == ["llm", "llm.decode", "search"]
    assert view.table.rows[0] == ("llm", "0.600 % ± 0.010", "linear")
    facts = by_section(found)[Section.ANSWER].facts
    assert ("1 % faster llm saves, of mean T_total", "0.600 % ± 0.010", "") in facts


def test_each_metric_has_its_charts_and_the_first_comes_first() -> None:
    """Named by the metric where they answer for it; on the page, all of the first metric before those of the second."""
    found = result(factor("a", -1.0, 1.0, 0.2))
    assert list(figures(found)) == [MEAN, P95, "elasticity-mean-t-total", "elasticity-p95"]
    drawn = [one.name for one in by_section(found)[Section.MATTERS].charts]
    assert drawn == ["tornado-mean-t-total", "elasticity-mean-t-total", "tornado-p95", "elasticity-p95"]


def morris(*factors: tuple[str, float, float, Verdict]) -> MorrisMeasures:
    """Return measures of factors: name, mu*, sigma, verdict."""
    made = tuple(MorrisMeasure(name, star, about(star), about(sigma), told) for name, star, sigma, told in factors)
    return MorrisMeasures(made, 6, 0.01)


def test_the_names_of_a_screening_do_not_run_into_each_other() -> None:
    """Points that lie near each other: as many names as have a place, no two of which overlap; the words say how many have none."""
    straight: Verdict = "linear"
    near = [(f"factor-number-{number}", 5.0 - 0.01 * number, 1.0, straight) for number in range(7)]
    measures = morris(*near, ("far", 1.0, 3.0, "nonlinear or interacting"), ("little", 0.1, 0.1, "negligible"))
    found = result(method="morris", factors=(), morris={MEAN: measures}, metrics=(MEAN,))
    view = figures(found)[MEAN].views[""]
    labels = view.layout["annotations"]
    names = [one["text"] for one in labels]
    assert "factor-number-0" in names
    assert "far" in names
    assert "little" not in names
    wide, tall = (560 / view.layout["xaxis"]["range"][1], 300 / view.layout["yaxis"]["range"][1])
    boxes = []
    for one in labels:
        width = 6.6 * len(one["text"])
        left = one["x"] * wide + one["xshift"] - (width if one["xanchor"] == "right" else 0)
        middle = one["y"] * tall + one["yshift"]
        boxes.append((left, middle - 7.5, left + width, middle + 7.5))
    assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in combinations(boxes, 2))
    assert f"{9 - len(names)} points without a name are named by hover" in view.summary
    assert {trace["name"] for trace in view.data} == {
        "linear",
        "nonlinear or interacting",
        "negligible",
        "sigma = 0.1 mu*",
    }
    assert "Negligible: little." in view.summary


def test_indices_are_drawn_alone_and_with_interactions() -> None:
    """Two bars for each factor, with whiskers, and what the sum of first orders says of interactions."""
    measures = SobolMeasures(
        (SobolMeasure("a", about(0.5), about(0.8)), SobolMeasure("b", about(0.1), about(0.4))),
        64,
        4.0,
        0.01,
        about(0.6),
    )
    found = result(method="sobol", factors=(), sobol={MEAN: measures}, metrics=(MEAN,))
    view = figures(found)[MEAN].views[""]
    first, total = view.data
    assert (first["y"], first["x"], total["x"]) == (["a", "b"], [0.5, 0.1], [0.8, 0.4])
    assert total["error_x"]["array"] == [pytest.approx(0.1)] * 2
    assert "the rest, 40 %, is interactions" in view.summary
    facts = by_section(found)[Section.ANSWER].facts
    assert ("of the spread of mean T_total is a's, alone", "50 % ± 10", "") in facts


def test_other_methods_are_offered_with_factors_that_can_vary_together() -> None:
    """Sobol' and Morris, with the factors that swing most of which none changes what another does; in place of those asked for."""
    whole = factor("llm", -0.9, 0.9, members=("llm.decode",), paths=("models.llm.decode", "models.llm.prefill"))
    member = factor("llm.decode", -0.5, 0.5, paths=("models.llm.decode",))
    found = result(whole, member, factor("search", -0.2, 0.2))
    commands = [one.command for one in by_section(found)[Section.MATTERS].missing]
    assert commands == [
        f"coordsim sensitivity sum --tasks 9 --method {method} --factor llm --factor search"
        for method in ("sobol", "morris")
    ]
    screened = result(method="morris", factors=(), morris={MEAN: morris(("a", 1.0, 0.1, "linear"))}, metrics=(MEAN,))
    (other,) = by_section(screened)[Section.MATTERS].missing
    assert other.command == "coordsim sensitivity sum --factor search --factor fetch --tasks 9 --method tornado"


def test_how_sure_it_is() -> None:
    """Replications, how many changes are beyond their intervals, what changed nothing, notes and doubts."""
    still = replace(factor("still", 0.0, 0.0), failure="changes nothing: no task comes to it, or nothing waits for it")
    sure = by_section(result(factor("a", -1.0, 1.0), factor("b", 0.01, 0.02), still))[Section.SURE]
    assert "4 replications of each of 5 cells" in sure.answer
    assert "mean T_total: the changes of 1 of 2 factors are beyond their intervals" in sure.answer
    assert "1 factor changed no task at all: still" in sure.answer
    assert (sure.notes, sure.warnings) == (("a note",), ("a doubt",))
    assert sure.missing[0].command.endswith("--replications 10")


def test_nothing_unknown_is_shown_as_a_number() -> None:
    """One replication: bars without whiskers, no nan in a chart; names are escaped where plotly reads HTML."""
    one = factor(EVIL, -1.0, 1.0, 0.5)
    side, slope = (replace(about(value), low=-math.inf, high=math.inf) for value in (1.0, 0.5))
    open_ends = dict.fromkeys((MEAN, P95), Response(side, side, slope, "linear"))
    found = result(replace(one, responses=open_ends), replications=1)
    drawn = json.dumps(
        [[view.data, view.layout] for each in figures(found).values() for view in each.views.values()], allow_nan=False
    )
    assert EVIL not in drawn
    assert "nan" not in drawn
    assert EVIL not in to_html("t", [(SOURCE, part) for part in parts(found, SOURCE)], [SOURCE])
    assert figures(found)[MEAN].views[""].data[0]["error_x"]["array"] == [0.0]


def test_a_real_study_has_exact_bars() -> None:
    """Two tools of constant times, one at a time by 5 %: the bars are the sums' changes, exactly."""
    text = """coordsim: 1
name: sum
seed: 1
runtime: ideal
workload: {arrivals: {deterministic: 0.01 / s}, tasks: 3, warmup: 0 s}
tools: {search: {latency: 350 ms}, fetch: {latency: 1 s, concurrency: 3}}
workflow: {start: one, steps: {one: {tool: search, next: two}, two: {tool: fetch}}}
"""
    found = models.sensitivity(Scenario.from_text(text), ["search", "fetch"], metric="p95", replications=2)
    low, high, *_ = figures(found)[P95].views[""].data
    assert low["y"] == ["fetch", "search"]
    assert high["x"] == [pytest.approx(0.05), pytest.approx(0.0175)]
    assert low["x"] == [pytest.approx(-0.05), pytest.approx(-0.0175)]
    assert all(one.figure().data for one in figures(found).values())


def test_a_change_is_told_with_its_interval_even_where_that_holds_zero() -> None:
    """The chart draws the change, so the words say it too; what rounds to nothing has no sign."""
    assert change_text(about(12.0, 23.0), "s") == "+12 s ± 23"
    assert change_text(about(-0.3, 2.0), "s").startswith("-")
    assert change_text(about(0.0, 0.0), "s") == "0 s"


def test_only_changes_that_are_no_chance_are_facts() -> None:
    """Of a factor with one sure end only that is told; the largest sure change counts, not the largest swing."""
    wide = factor("wide", -1.0, 1.0)
    response = Response(about(5.0, 9.0), about(-0.06, 0.03), None, "linear")
    found = result(replace(wide, responses={MEAN: response, P95: response}), factor("llm", -0.5, 0.5))
    told = {label: value for label, value, _ in by_section(found)[Section.ANSWER].facts}
    assert told["mean T_total surely changes most with llm"].startswith("-500 ms ± 100 at 90 ms, +500 ms")
