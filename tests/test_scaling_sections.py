"""The sections of a sweep, from curves of known laws: charts, words, causes, and what is missing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from coordsim.sim.analysis.causes import Ablated, Cause, cause_of, exponent_drop, rise_left
from coordsim.sim.analysis.growth import Curve, Growth, growth
from coordsim.sim.analysis.scaling import Cell, ScalingResult, Sweep
from coordsim.sim.engine.ledger import CATEGORIES
from coordsim.sim.report.page.assemble import to_html
from coordsim.sim.report.page.parts import Part, Section
from coordsim.sim.report.page.provenance import Line, Provenance
from coordsim.sim.report.sections.scaling import figures, parts
from coordsim.sim.report.sections.scaling_charts import beside_slopes, exponent, taken

SOURCE = Provenance("demo", "", "", 1, "coordsim scaling demo --over steps=1..16 --tasks 20", {})
XS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
EVIL = "<b>x</b>"


def curve(power: float, offset: float = 1.0, xs: tuple[float, ...] = XS, replications: int = 5) -> Growth:
    """Return the growth of offset + x^power, each replication some per cent off."""
    x = np.array(xs)
    noise = 1 + 0.02 * np.random.default_rng(3).standard_normal((replications, 1))
    return growth(Curve(x, noise * (offset + x**power)), seed=1)


def sweep(found: Growth | None, ablation: tuple[Ablated, ...] = (), factor: str = "steps", **more: object) -> Sweep:
    """Return a sweep with cells in which inference takes x seconds and communication one."""
    xs = () if found is None else tuple(float(x) for x in found.curve.x)
    nothing: dict[str, tuple[float, ...]] = dict.fromkeys(CATEGORIES, (0.0, 0.0))
    cells = tuple(Cell(x, (), "", nothing | {"inference": (x, x), "communication": (1.0, 1.0)}) for x in xs)
    cause = cause_of(found, ablation) if ablation else Cause("not asked")
    made = Sweep(factor, f"workflow.{factor}", False, found, {}, cells, ablation, cause, ())
    return replace(made, **more)  # type: ignore[arg-type]


def without(name: str, base: Growth, other: Growth) -> Ablated:
    """Return growth without a mechanism, beside that with it."""
    drop = exponent_drop(base, other, 0.95, 1)
    return Ablated(name, (f"{name}=off",), False, "", other, None, drop, rise_left(base.curve, other.curve, 0.95))


def result(*sweeps: Sweep, replications: int = 5) -> ScalingResult:
    """Return a result of sweeps."""
    return ScalingResult("demo", "coordination", "s", 1, replications, 0.95, True, sweeps, ("a doubt",))


def by_section(found: ScalingResult, source: Provenance = SOURCE) -> dict[Section, Part]:
    """Return the parts of a sweep by section."""
    return {one.section: one for one in parts(found, source)}


def test_the_answer_is_the_exponent_with_its_interval() -> None:
    """The fact has value, both ends and the verdict; the words are those of the command."""
    found = curve(2.0)
    said = by_section(result(sweep(found)))[Section.ANSWER]
    assert found.exponent is not None
    assert said.facts == (("T_coordination over steps", f"exponent {exponent(found.exponent)}", "super-linear"),)
    assert said.facts[0][1].startswith("exponent 2.0")
    assert "super-linear: 2.0" in said.answer


def test_the_curve_is_drawn_with_its_band_and_its_law() -> None:
    """Both axes logarithmic, to be set by the reader; the law that is chosen is shown and bold, the others asked for by the legend."""
    found = curve(2.0)
    chart = figures(result(sweep(found)))["steps"]
    view = chart.views[""]
    assert (chart.scales, view.layout["xaxis"]["type"], view.layout["yaxis"]["type"]) == (("x", "y"), "log", "log")
    lines = {trace["name"]: trace for trace in view.data if "name" in trace}
    assert lines["as it is"]["y"] == pytest.approx(found.curve.mean.tolist())
    laws = {name: line for name, line in lines.items() if name.startswith("law:")}
    assert found.chosen is not None
    chosen = laws.pop(f"law: {found.chosen.law} (chosen)")
    assert chosen["visible"] is True
    assert all(
        line["visible"] == "legendonly" and line["line"]["width"] < chosen["line"]["width"] for line in laws.values()
    )
    (band,) = [trace for trace in view.data if trace.get("fill") == "toself"]
    assert max(band["y"]) > found.curve.mean[-1] > found.curve.mean[0] > min(band["y"]) > 0
    assert len({(line["line"]["dash"], "marker" in line) for line in lines.values()}) == len(lines)
    assert f"law with the least held-out error is {found.chosen.law}" in view.summary
    assert len(view.table.rows) == len(XS)


def test_a_curve_that_touches_zero_has_a_linear_axis() -> None:
    """A logarithm has no place for it."""
    found = growth(Curve(np.array(XS), np.maximum(0.0, np.array(XS) - 2)[None, :].repeat(2, 0)), seed=1)
    view = figures(result(sweep(found)))["steps"].views[""]
    assert view.layout["yaxis"]["type"] == "linear"


def test_the_local_slope_is_drawn_between_neighbours() -> None:
    """At the geometric mean of two x, beside the line of what is linear; without an offset it is the exponent everywhere."""
    found = curve(1.5, offset=0.0)
    view = figures(result(sweep(found)))["slope-steps"].views[""]
    _, line, linear = view.data
    assert line["x"][:2] == pytest.approx([2**0.5, 8**0.5])
    assert line["y"] == pytest.approx([1.5] * 6)
    assert linear["y"] == [1.0, 1.0]
    assert "in 6 of 6 intervals it is resolved above 1.1" in view.summary


def test_causes_are_the_share_of_the_rise_that_goes() -> None:
    """Without pairs, a curve of x^2 + x leaves x: of the rise, the rest goes. The largest is first, all together last and grey."""
    x = np.array(XS)
    noise = 1 + 0.02 * np.random.default_rng(3).standard_normal((5, 1))
    base, less, flat = (growth(Curve(x, noise * values), seed=1) for values in (x**2 + x, x, np.ones(x.size)))
    ablation = (without("pairs", base, less), without("nothing", base, base), without("all of them", base, flat))
    found = result(sweep(base, ablation))
    view = figures(found)["causes-steps"].views[""]
    single, together = view.data
    assert single["y"] == ["pairs", "nothing"]
    share = 1 - 63 / (64**2 + 64 - 2)
    assert single["x"] == [pytest.approx(100 * share), pytest.approx(0.0)]
    assert together["x"] == [pytest.approx(100.0)]
    assert single["marker"]["color"] != together["marker"]["color"]
    known = taken(ablation[0])
    assert known is not None
    assert known.low <= share <= known.high
    said = by_section(found)
    assert said[Section.MATTERS].answer == "T_coordination over steps grows because of pairs."
    assert any(
        label == "share of the rise over steps that goes without pairs" for label, _, _ in said[Section.ANSWER].facts
    )
    lines = [trace["name"] for trace in figures(found)["steps"].views[""].data if "name" in trace]
    assert {"without pairs", "with all of them off"} <= set(lines)


def test_no_chart_has_more_lines_than_can_be_told_apart() -> None:
    """Nine mechanisms: six lines, those that leave least of the rise, and the rest in the table, which the words say."""
    base = curve(2.0)
    ablation = tuple(without(f"m{number}", base, curve(2.0 - 0.1 * number)) for number in range(9))
    view = figures(result(sweep(base, ablation)))["steps"].views[""]
    lines = [trace["name"] for trace in view.data if "name" in trace]
    assert len(lines) <= 10
    assert [name for name in lines if name.startswith("without")] == [
        f"without m{number}" for number in (8, 7, 6, 5, 4, 3)
    ]
    assert "3 mechanisms that take less of the rise are in the table alone" in view.summary


def test_categories_are_stacked_along_the_sweep() -> None:
    """A bar for each category that takes any time, colour and pattern each, and the same numbers in the table."""
    said = by_section(result(sweep(curve(2.0))))[Section.TIME]
    (chart,) = said.charts
    view = chart.views[""]
    assert [trace["name"] for trace in view.data] == ["inference", "communication"]
    assert view.data[0]["y"] == list(XS)
    assert view.layout["barmode"] == "stack"
    assert view.table.rows[-1] == ("64", "64.0 s", "1.00 s")


def test_too_few_points_have_a_command_for_more() -> None:
    """The sweep is replaced by a longer one; what else the command said stays. One replication is told to have no interval."""
    few = curve(2.0, xs=(1.0, 4.0), replications=1)
    said = by_section(result(sweep(few), replications=1))
    (missing,) = said[Section.SCALING].missing
    assert missing.command == "coordsim scaling demo --tasks 20 --over steps=1,2,3,4,6,8"
    assert "2 points of at least 6" in missing.what
    sure = said[Section.SURE]
    assert "cannot be told how it grows with steps" in sure.answer
    assert sure.missing[0].command.endswith("--replications 8")
    assert said[Section.MATTERS].missing[0].command.endswith("--ablation")
    assert "no interval" in said[Section.SURE].notes[1]


@pytest.mark.parametrize(("offset", "steeper"), [(10.0, False), (-0.5, True)])
def test_why_the_exponent_is_not_among_the_local_slopes_is_said(offset: float, steeper: bool) -> None:
    """A part that does not grow makes slopes less steep than the exponent of the rest, one below 0 makes them steeper."""
    one = sweep(curve(1.5, offset))
    said = beside_slopes(one, result(one))
    assert one.growth is not None
    slopes = [part.exponent.value for part in one.growth.local]
    assert one.growth.exponent is not None
    assert (min(slopes) > one.growth.exponent.value) is steeper
    assert f"{one.growth.exponent.value:.2f} over steps is p of a + b x^p" in said
    assert f"between {min(slopes):.2f} and {max(slopes):.2f}" in said
    assert said.endswith("steeper." if steeper else "less steep.")
    made = by_section(result(one))
    assert said in made[Section.ANSWER].notes
    assert any(said in view.summary for chart in made[Section.SCALING].charts for view in chart.views.values())


def test_a_pure_power_has_slopes_about_its_exponent() -> None:
    """Nothing needs to be said then."""
    one = sweep(
        growth(Curve(np.array(XS), np.array([[x**1.5 * (1 + 0.01 * (i % 2)) for i, x in enumerate(XS)]] * 3)), seed=1)
    )
    assert beside_slopes(one, result(one)) == ""


def test_factors_that_the_scenario_has_are_offered() -> None:
    """Modalities where a step perceives some, as many as it has; none of what is swept already, or is not there."""
    lines = tuple(Line(text, True) for text in ("      perceive: [text, record, image]", "      repeat: 4"))
    offered = [
        one.command
        for one in by_section(result(sweep(curve(2.0))), replace(SOURCE, lines=lines))[Section.SCALING].missing
    ]
    assert offered == ["coordsim scaling demo --tasks 20 --over modalities=1..3"]
    assert by_section(result(sweep(curve(2.0))))[Section.SCALING].missing == ()


def test_a_sweep_that_measured_nothing_is_told() -> None:
    """No chart, and the words of the command."""
    found = result(sweep(None))
    assert figures(found) == {}
    assert by_section(found)[Section.ANSWER].facts == (
        ("T_coordination over steps", "fewer than two points", "cannot tell"),
    )
    assert Section.TIME not in by_section(found)


def test_the_fit_of_each_law_is_told() -> None:
    """With the test of its lack of fit; doubts are warnings."""
    sure = by_section(result(sweep(curve(2.0))))[Section.SURE]
    (fits,) = sure.tables
    law = {row[1]: row for row in fits.rows}
    assert (law["constant"][4], law["constant"][3] != law["power"][3]) == ("< 0.001", True)
    assert sum("(chosen)" in name for name in law) == 1
    assert sure.warnings == ("a doubt",)
    assert sure.answer.endswith("Every verdict is told.")


def test_two_factors_are_told_one_by_one_and_names_are_escaped() -> None:
    """What stands beside another comes last; a page of it holds no tag of a name, and no nan."""
    base = curve(2.0)
    both = result(sweep(curve(1.0), factor="modalities", beside=True), sweep(base, (without(EVIL, base, curve(1.0)),)))
    assert list(figures(both))[:2] == ["steps", "modalities"]
    drawn = json.dumps(
        [[view.data, view.layout] for one in figures(both).values() for view in one.views.values()], allow_nan=False
    )
    assert EVIL not in drawn
    assert EVIL not in to_html("t", [(SOURCE, one) for one in parts(both, SOURCE)], [SOURCE])
    assert "nan" not in drawn
    for one in figures(both).values():
        assert one.figure().data


def test_a_factor_of_which_there_are_several_is_not_suggested() -> None:
    """Of two steps that are repeated it is not plain which is meant: `--over steps` would be refused. What is filled in is none."""
    found = result(sweep(curve(1.0), factor="models.llm.replicas"))

    def commands(*given: bool) -> list[str]:
        lines = tuple(Line("      repeat: 2", one) for one in given)
        missing = by_section(found, replace(SOURCE, lines=lines))[Section.SCALING].missing
        return [one.command for one in missing]

    assert any("--over steps=" in one for one in commands(True))
    assert any("--over steps=" in one for one in commands(True, False))
    assert not any("--over steps=" in one for one in commands(True, True))
