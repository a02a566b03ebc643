"""The sections of a comparison, from results made by hand and from small real ones: charts, words, and what is missing."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest

from coordsim.models.compare import compare
from coordsim.sim.analysis.comparison import (
    Ablation,
    ByTask,
    Change,
    ComparisonResult,
    Metric,
    Part,
    Point,
    Region,
    Saving,
    Switch,
    Verdict,
)
from coordsim.sim.analysis.statistics import Estimate, mean_interval, no_estimate
from coordsim.sim.engine.ledger import CATEGORIES
from coordsim.sim.report.page.assemble import to_html
from coordsim.sim.report.page.parts import Part as Said
from coordsim.sim.report.page.parts import Section
from coordsim.sim.report.page.provenance import Line, Provenance
from coordsim.sim.report.sections.compare import figures, parts
from coordsim.sim.report.sections.compare_charts import steps, within_replications
from coordsim.sim.report.sections.pieces import again, swept, table, tidy

from .scene import scene

SOURCE = Provenance("demo", "", "", 1, "coordsim compare demo --no-ablate --replications 2 --seed 3", {})
EVIL = "<img src=x onerror=1>"


def about(value: float, half: float = 0.5, n: int = 4) -> Estimate:
    """Return an estimate with an interval to both sides."""
    return Estimate(value, value - half, value + half, 0.95, n, "t")


def saving(value: float, verdict: Verdict = "saves", **more: object) -> Saving:
    """Return a saving of a baseline of 10 s."""
    sides, share = (about(10), about(10 - value)), about(value / 10, 0.05)
    made = Saving(*sides, about(value), share, verdict, None, None, None, (), (False, False))
    return replace(made, **more)  # type: ignore[arg-type]


def part(name: str, before: float, after: float) -> Part:
    """Return a category with what is saved in it, ± 0.5 s."""
    return Part(name, about(before), about(after), about(before - after), about(0.5), 0.01)


def result(**more: object) -> ComparisonResult:
    """Return a comparison: inference saves 3 s, context costs 1 s, and nothing else takes any time."""
    spent = {"inference": (8.0, 5.0), "context": (2.0, 3.0)}
    samples = (1.5, 2.0, 2.5, 2.0)
    mean = mean_interval(samples)
    made = ComparisonResult(
        scenario="demo", baseline="old", variant="new", metric="response_time_mean", more_is_better=False, seed=1, seed_b=1,
        paired=True, replications=4, confidence=0.95, tolerance=0.02, changes=(Change("runtime.kv", "discard", "keep"),),
        saving=saving(2.0, amount=mean, samples=samples),
        metrics=(Metric("response_time_mean", about(10), about(8), about(-2), about(0.8), 0.004),),
        categories=tuple(part(name, *spent.get(name, (0.0, 0.0))) for name in CATEGORIES), total=part("T_total", 10, 8),
        tasks=ByTask(40, 0, 0, about(0.1, 0.05), {"p5": about(-1), "p50": about(2), "p95": about(4)}),
        ablation=None, region=None, doubts=("a doubt",), notes=(), interrupted=False,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def by_section(found: ComparisonResult, source: Provenance = SOURCE) -> dict[Section, Said]:
    """Return the parts of a comparison by section."""
    return {one.section: one for one in parts(found, source)}


def test_the_answer_says_what_b_saves_of_what_and_for_whom() -> None:
    """The amount with its interval and verdict, its share, both sides, and the tasks that got slower, each as a fact."""
    answer = by_section(result())[Section.ANSWER]
    assert answer.answer.startswith("new saves 2.0 s of 10.0 s (20 %")
    facts = {label: (value, verdict) for label, value, verdict in answer.facts}
    assert facts["new saves, in T_total, mean"] == ("2.0 s ± 0.6", "saves")
    assert facts["as a share of A"][0] == "20 % ± 5"
    assert facts["tasks that get slower"][0] == "10 % ± 5"
    assert facts["compared over"][0] == "4 replications, paired"


def test_a_loss_is_told_as_a_cost_and_not_as_a_negative_saving() -> None:
    """The label turns round, and the number is above 0."""
    facts = by_section(result(saving=saving(-2.0, "costs")))[Section.ANSWER].facts
    assert facts[0] == ("new costs, in T_total, mean", "2.0 s ± 0.5", "costs")
    assert facts[1][1] == "20 % ± 5"


def test_what_takes_longer_is_told_beside_what_is_saved() -> None:
    """A part that surely takes longer stands in the answer and among its facts; one that may be chance does not."""
    categories = (part("inference", 6.0, 3.0), part("tool", 1.0, 2.0), part("queueing", 1.0, 1.1))
    said = by_section(result(categories=categories))[Section.ANSWER]
    assert said.answer.endswith("But it takes longer in tool (1.0 s ± 0.5).")
    assert [(label, verdict) for label, _, verdict in said.facts if label.startswith("longer")] == [
        ("longer in tool, mean per task", "costs")
    ]
    costs = result(categories=categories, saving=saving(-2.0, "costs"))
    assert "But" not in by_section(costs)[Section.ANSWER].answer


def test_the_waterfall_leads_from_one_mean_to_the_other() -> None:
    """Each bar starts where the one before it ended, the first at A's mean T_total; the last ends at B's."""
    made = steps(result())
    assert [one.category for one, _ in made] == ["inference", "context"]
    assert made[0][1] == 10
    for (one, start), (_, after) in pairwise(made):
        assert start - one.saving.value == pytest.approx(after, abs=1e-12)
    assert made[-1][1] - made[-1][0].saving.value == pytest.approx(8, rel=1e-12)


def test_what_costs_is_drawn_as_what_saves_is() -> None:
    """Two traces of bars on one axis, each with whiskers turned round, in another colour and with another pattern; both are named in the words."""
    view = figures(result())["comparison"].views["difference"]
    saves, costs, a, b = view.data
    assert (saves["y"], saves["x"], saves["base"]) == (["inference"], [-3.0], [10.0])
    assert (costs["y"], costs["x"], costs["base"]) == (["context"], [1.0], [7.0])
    assert saves["error_x"]["array"] == [pytest.approx(0.5)]
    assert saves["marker"]["color"] != costs["marker"]["color"]
    assert saves["marker"]["pattern"]["shape"] != costs["marker"]["pattern"]["shape"]
    assert (a["x"], b["x"]) == ([10.0], [8.0])
    assert "B saves in inference (3.0 s ± 0.5)" in view.summary
    assert "B costs more in context (1.0 s ± 0.5)" in view.summary


def test_the_whiskers_of_a_step_go_the_way_that_it_goes() -> None:
    """A saving of 3 s that is 2.9 s at least and 5 s at most: the bar goes down by 3, maybe 2 more, and up again by 0.1 at most."""
    skewed = Estimate(3.0, 2.9, 5.0, 0.95, 4, "t")
    made = replace(part("inference", 8, 5), saving=skewed)
    view = figures(result(categories=(made,)))["comparison"].views["difference"]
    bars = view.data[0]
    assert bars["error_x"]["array"] == [pytest.approx(0.1)]
    assert bars["error_x"]["arrayminus"] == [pytest.approx(2.0)]


def test_both_sides_have_one_axis() -> None:
    """Bars by category of A and of B, to the same range, so that the switch shows what changes."""
    views = figures(result())["comparison"].views
    a, b = views["A"], views["B"]
    assert (a.data[0]["x"], b.data[0]["x"]) == ([8.0, 2.0], [5.0, 3.0])
    assert a.layout["xaxis"]["range"] == b.layout["xaxis"]["range"]
    assert "Under old a task takes 10.0 s ± 0.5" in a.summary
    assert ("inference", "8.0 s ± 0.5", "80 %") in a.table.rows


def test_policies_are_drawn_alone_and_last_and_what_cannot_be_built_is_in_the_table() -> None:
    """Two bars for each that could be built, the largest first; the reason of the other one is told."""
    switches = (
        Switch("state", "full", "resident", saving(0.5), saving(0.4), ()),
        Switch("kv", "discard", "keep", saving(1.5), saving(-0.2, "costs"), ()),
        Switch("placement", "a", "b", None, None, ("to b: it needs kv keep",)),
    )
    found = result(ablation=Ablation(switches, about(2.0), about(0.0)))
    view = figures(found)["policies"].views[""]
    alone, last, whole = view.data
    assert dict(zip(alone["y"], alone["x"], strict=True)) == {"kv": 1.5, "state": 0.5}
    assert dict(zip(last["y"], last["x"], strict=True)) == {"kv": -0.2, "state": 0.4}
    assert whole["x"] == [pytest.approx(2.0)]
    assert view.layout["yaxis"]["categoryarray"] == ["kv", "state", "all together"]
    assert "kv saves most alone: 1.5 s ± 0.5" in view.summary
    assert "kv costs more, alone or last" in view.summary
    assert "it needs kv keep" in view.table.note


def test_a_grid_of_two_factors_says_its_verdict_in_each_cell() -> None:
    """Colour and words; a point that was not run is a hole that says so."""
    points = (
        Point(("1", "350 ms"), saving(2.0)),
        Point(("1", "1 min"), saving(0.05, "none")),
        Point(("4", "350 ms"), saving(-1.0, "costs")),
    )
    found = result(region=Region(("steps", "latency"), points, 4, 0.9875))
    view = figures(found)["region"].views[""]
    (heat,) = view.data
    assert heat["text"] == [["saves<br>20 %", "none<br>0.5 %"], ["costs<br>10 %", "not run"]]
    assert heat["z"][1] == [pytest.approx(-10.0), None]
    assert heat["zmin"] == -heat["zmax"]
    assert view.table.note == "1 point not run"
    assert view.table.rows[0][-1] == "saves"


def test_a_grid_of_one_factor_has_a_marker_for_each_verdict() -> None:
    """Along the factor, with intervals, markers by verdict and a line between them."""
    points = (
        Point(("1",), saving(0.05, "none")),
        Point(("4",), saving(2.0)),
        Point(("8",), saving(0.3, "not resolved")),
    )
    view = figures(result(region=Region(("steps",), points, 3, 0.98)))["region"].views[""]
    named = {trace["name"]: trace for trace in view.data if "name" in trace}
    assert list(named) == ["saves", "none", "not resolved"]
    assert named["saves"]["y"] == [pytest.approx(20.0)]
    assert len({trace["marker"]["symbol"] for trace in named.values()}) == 3
    assert len({trace["marker"]["color"] for trace in named.values()}) == 3


def test_the_interval_is_drawn_replication_by_replication() -> None:
    """The last point is the saving and its interval; where that is made otherwise, as of two that are not paired, nothing is drawn."""
    chart = within_replications(result())
    assert chart is not None
    view = chart.views[""]
    _, line, dots = view.data
    assert line["y"][-1] == pytest.approx(2.0)
    assert dots["y"] == [1.5, 2.0, 2.5, 2.0]
    assert view.table.rows[-1] == ("4", "2 s", "2.0 s ± 0.6")
    assert within_replications(result(saving=saving(2.0, samples=(1.5, 2.0, 2.5, 2.0)))) is None


def test_what_is_missing_has_a_command_that_adds_it() -> None:
    """One replication, no ablation, no grid: each with the command as it was, and what it lacks in place of what forbade it."""
    one = replace(about(2.0, n=1), low=-math.inf, high=math.inf)
    changes = (Change("models.llm.replicas", "1", "2"), Change("models.llm.decode", "1 ms", "2 ms"))
    alone = result(
        replications=1, changes=changes, saving=saving(2.0, "not resolved", amount=one, share=one, samples=(2.0,))
    )
    source = replace(
        SOURCE, lines=tuple(Line(text, True) for text in ("workflow:", "  steps:", "    act:", "      repeat: 4"))
    )
    missing = [one.command for one in by_section(alone, source)[Section.RUNTIME].missing]
    assert missing == [
        "coordsim compare demo --no-ablate --seed 3 --replications 5",
        "coordsim compare demo --replications 2 --seed 3 --ablate",
        "coordsim compare demo --no-ablate --replications 2 --seed 3 --over workflow.steps.act.repeat=2,4,8",
    ]
    assert "there is no interval" in by_section(alone)[Section.SURE].answer


def test_a_verdict_that_is_open_says_how_many_replications_it_takes() -> None:
    """The answer's command has that number."""
    open_one = result(saving=saving(0.3, "not resolved", needed=17, more=13, as_seen=9))
    (missing,) = by_section(open_one)[Section.ANSWER].missing
    assert missing.command.endswith("--replications 17")
    assert "17 replications in all" in by_section(open_one)[Section.SURE].notes[0]


def test_the_words_fit_what_is_compared() -> None:
    """Runtimes are called so; scenarios that differ in more are named A and B."""
    assert not by_section(result())[Section.RUNTIME].answer.startswith("A (")
    other = result(changes=(Change("models.llm.replicas", "1", "2"),))
    assert by_section(other)[Section.RUNTIME].answer.startswith("A (old) and B (new) differ in 1 value of the scenario")


def test_doubts_and_queues_that_grow_are_warnings() -> None:
    """Of the last section, beside what is in words."""
    sure = by_section(result(saving=saving(2.0, unsettled=(True, False))))[Section.SURE]
    assert "a doubt" in sure.warnings
    assert any("old" in one and "still grows" in one for one in sure.warnings)
    assert "Under old the number of tasks still grew" in sure.answer


def test_nothing_unobserved_is_shown_as_a_number() -> None:
    """Nothing done under B: no nan in any chart or word, and charts that are JSON; names are escaped where plotly reads HTML."""
    nothing = no_estimate()
    categories = tuple(Part(name, about(1), nothing, nothing, nothing, 1.0) for name in CATEGORIES[:2])
    found = result(
        variant=EVIL, saving=saving(0, "not resolved", amount=nothing, share=nothing, variant=nothing), categories=categories,
        total=Part("T_total", about(2), nothing, nothing, nothing, 1.0), tasks=ByTask(0, 3, 0, nothing, {"p5": nothing}),
    )  # fmt: skip
    drawn = figures(found)
    assert "task-by-task" not in drawn
    text = json.dumps(
        [[view.data, view.layout, view.summary] for one in drawn.values() for view in one.views.values()],
        allow_nan=False,
    )
    assert EVIL not in json.dumps([[view.data, view.layout] for one in drawn.values() for view in one.views.values()])
    assert "nan" not in text
    assert EVIL not in to_html("t", [(SOURCE, one) for one in parts(found, SOURCE)], [SOURCE])


def test_a_real_comparison_fills_the_page() -> None:
    """Two small runs with a policy and a grid: every chart has data, every view words and a table, and the bytes are the same twice."""
    first = scene({"tools": {"t": {"latency": "1 s"}}})
    found = compare(
        first,
        changes={"models.llm.overhead": "2 s", "tools.t.latency": "3 s"},
        replications=2,
        over={"models.llm.speed": [1, 2]},
    )
    drawn = figures(found)
    assert next(iter(drawn)) == "comparison"
    assert {"policies", "region"} <= set(drawn)
    for one in drawn.values():
        for view in one.views.values():
            assert view.data
            assert view.summary
            assert view.table.rows
            assert all(len(row) == len(view.table.columns) for row in view.table.rows)
        assert one.figure().data
    assert parts(found, SOURCE) == parts(found, SOURCE)


def test_pieces() -> None:
    """Options are replaced with their values; long tables say what they leave out; a column without a heading joins the one before."""
    assert (
        again("coordsim compare a 'b c' --replications=3", "--replications", "7")
        == "coordsim compare a 'b c' --replications 7"
    )
    long = table("t", ("a", "b"), [(str(number), "x") for number in range(230)])
    assert len(long.rows) == 200
    assert long.note == "30 more rows are not shown; the CSV has them all"
    assert tidy(table("t", ("", "A", ""), [("x", "1", "± 2")]), "what").columns == ("what", "A")
    assert swept(SOURCE) == ""
    lines = tuple(
        Line(text, True)
        for text in ("workflow:", "  steps:", "    act:", "      repeat: 4", "models:", "  llm:", "    replicas: 1")
    )
    assert swept(replace(SOURCE, lines=lines)) == "workflow.steps.act.repeat=2,4,8"
    assert swept(replace(SOURCE, lines=lines), ["workflow.steps.act"]) == "models.llm.replicas=1,2,4"


def test_values_that_were_set_stay_set() -> None:
    """Another `--set`, or another option, takes the place of its own path alone."""
    command = "coordsim compare a --set x=1 --set=y=2 --with z=3 --levels 1,2"
    assert again(command, "--replications", "5") == f"{command} --replications 5"
    assert again(command, "--set", "x=4") == "coordsim compare a --set=y=2 --with z=3 --levels 1,2 --set x=4"
    assert again(command, "--set", "y=4") == "coordsim compare a --set x=1 --with z=3 --levels 1,2 --set y=4"
    assert again(command, "--set", "w=4") == f"{command} --set w=4"
    assert again(command, "--rise", "load", "--levels", "3").endswith("--with z=3 --rise load --levels 3")
    assert again(command, drop=("--set",)) == "coordsim compare a --with z=3 --levels 1,2"
