"""What a run says of what breaks first: the ladder against queues whose capacity is known, other loads, and charts over time."""

import dataclasses
import itertools
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import coordsim as cs
from coordsim.sim.analysis.cohorts import cohorts
from coordsim.sim.analysis.digest import RunDigest
from coordsim.sim.analysis.fault_timeline import Period
from coordsim.sim.analysis.moments import moments
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summarize import cut_warmup, summarize
from coordsim.sim.analysis.summary import Resource
from coordsim.sim.report.page.parts import Chart, Part, Section
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.over_time import MOST_CAUSES, Panel, Story, causes_of, chart
from coordsim.sim.report.sections.run_breaks import breaks_parts, inverse, ladder

from .command import Call
from .mm1 import POOL, Queue, simulate

SOURCE = Provenance("queue", "?", "0" * 64, 1, "coordsim run queue --replications 4", {}, rate=0.5)


def digest_of(results: Sequence[Result], warmup: Any = None) -> RunDigest:
    """Return the digest of runs, without examples."""
    _, views = cut_warmup(results, warmup)
    return RunDigest(summarize(results, warmup=warmup), cohorts(views), None, (), moments(results, views))


@pytest.fixture(scope="module")
def queue() -> RunDigest:
    """Return an M/M/1 queue at half its capacity."""
    return digest_of([simulate(Queue(tasks=1500), 1, number) for number in range(4)])


def part_of(found: RunDigest, source: Provenance = SOURCE) -> Part:
    """Return the only part."""
    (part,) = breaks_parts(found, source)
    assert part.section is Section.BREAKS
    return part


def charts_of(part: Part) -> dict[str, Chart]:
    """Return charts by name; all that they hold can be written as JSON without nan."""
    for one in part.charts:
        for view in one.views.values():
            json.dumps([view.data, view.layout], allow_nan=False)
            assert view.summary
            assert all(len(row) == len(view.table.columns) == len(view.table.align) for row in view.table.rows)
            assert len(view.table.rows) <= 200
    return {one.name: one for one in part.charts}


def estimate(value: float, half: float = 0.01) -> Estimate:
    """Return an estimate with an interval."""
    return Estimate(value, value - half, value + half, 0.95, 5, "t")


def with_resources(found: RunDigest, *resources: Resource) -> RunDigest:
    """Return a digest of a run with other resources."""
    return dataclasses.replace(found, summary=dataclasses.replace(found.summary, resources=resources))


def pool(name: str, used: float, asked: float | None = None, half: float = 0.01) -> Resource:
    """Return a pool in use, and asked for, to some share of its capacity."""
    metrics = {
        "utilization": estimate(used, half),
        "offered": estimate(asked or used, half),
        "queue_length": estimate(0.5),
    }
    return Resource("pool", name, 4.0, metrics)


def test_the_capacity_of_a_queue_is_its_service_rate(queue: RunDigest) -> None:
    """An M/M/1 queue with service rate 1/s at 0.5/s is full at twice the load: the interval holds it."""
    (rung,) = ladder(queue.summary)
    assert rung.name == POOL
    assert rung.factor is not None
    assert rung.most is not None
    assert rung.factor.low < 2.0 < rung.factor.high
    assert rung.most.low < 1.0 < rung.most.high
    assert f"{POOL} saturates first, at {rung.factor.value:.2f}"[:-1] in part_of(queue).answer


def test_the_interval_of_the_factor_is_carried() -> None:
    """Ends are swapped, and open where the share may be nothing."""
    assert inverse(estimate(0.5, 0.1)) == Estimate(2.0, 1 / 0.6, 1 / 0.4, 0.95, 5, "t")
    unsure = inverse(estimate(0.1, 0.2))
    assert unsure is not None
    assert unsure.high == math.inf
    assert inverse(Estimate(0.0, 0.0, 0.0, 0.95, 5, "t")) is None
    assert inverse(Estimate(math.nan, -math.inf, math.inf, 0.95, 0, "t")) is None


def test_without_a_rate_the_most_that_can_be_done_is_told(queue: RunDigest) -> None:
    """Where arrivals wait for ends of tasks, the bound is throughput over utilization, and no load is named."""
    part = part_of(queue, dataclasses.replace(SOURCE, rate=None))
    assert "no more can be" in part.answer
    assert "load (" not in part.answer
    assert "load" not in charts_of(part)


def test_resources_are_ordered_and_idle_ones_left_out(queue: RunDigest) -> None:
    """What is asked for most comes first, also where less of it is in use; below 0.1 % nothing is told."""
    found = with_resources(queue, pool("a", 0.5), pool("b", 0.6, 1.4), pool("c", 0.0005))
    assert [one.name for one in ladder(found.summary)] == ["b", "a"]
    part = part_of(found)
    assert part.answer.startswith("b is saturated in this run: it is asked for 1.400 ± 0.010 times what it can serve.")
    traces = charts_of(part)["ladder"].views[""].data
    assert [(one["type"], one["name"]) for one in traces] == [("bar", "in use"), ("scatter", "asked for")]
    assert traces[0]["x"] == pytest.approx([60.0, 50.0])
    assert traces[1]["x"] == pytest.approx([140.0])


def test_two_that_may_be_first_are_both_named(queue: RunDigest) -> None:
    """Where intervals overlap, which is first is not resolved."""
    part = part_of(with_resources(queue, pool("a", 0.50, half=0.05), pool("b", 0.48, half=0.05), pool("c", 0.1)))
    assert part.answer.startswith("Which saturates first, a or b, is not resolved")


def test_a_server_that_batches_has_no_factor(queue: RunDigest) -> None:
    """Busy all the time is not full: it stands last, and the words say so."""
    server = Resource("server", "models.x", 1.0, {"device_busy_share": estimate(0.95), "queue_length": estimate(0.1)})
    part = part_of(with_resources(queue, server, pool("a", 0.2)))
    assert [
        (one.name, one.factor is None) for one in ladder(with_resources(queue, server, pool("a", 0.2)).summary)
    ] == [
        ("a", False),
        ("models.x", True),
    ]
    assert any("batches" in note for note in part.notes)
    alone = part_of(with_resources(queue, server))
    assert "models.x makes larger batches" in alone.answer
    assert "load" not in charts_of(alone)


def test_nothing_that_can_saturate_is_said_so(queue: RunDigest) -> None:
    """Without any resource there is no ladder, and a sentence."""
    part = part_of(with_resources(queue))
    assert part.answer.startswith("No resource with a fixed capacity")
    assert set(charts_of(part)) == {"over-time"}


def test_other_loads_are_lines_through_what_was_simulated(queue: RunDigest) -> None:
    """Each line goes from nothing through the load of the run to 100 %."""
    part = part_of(with_resources(queue, pool("a", 0.5), pool("b", 0.2)))
    view = charts_of(part)["load"].views[""]
    lines = [one for one in view.data if one.get("mode") == "lines" and one.get("hoverinfo") != "skip"]
    assert [one["x"][-1] for one in lines] == pytest.approx([2.0, 2.5])
    assert [one["y"][-1] for one in lines] == pytest.approx([100.0, 50.0])
    assert max(max(one["y"]) for one in view.data) <= 100.0
    assert view.table.rows[1][0] == "1"


def test_what_is_missing_has_a_command_that_works(queue: RunDigest, call: Call, root: Path, tmp_path: Path) -> None:
    """One load is one point; the command that adds others runs, with what the run was asked."""
    scenario = root / "scenarios" / "quickstart.yaml"
    command = f"coordsim run {shlex.quote(str(scenario))} --replications 2 --set workload.tasks=20 --spans none"
    (missing,) = part_of(queue, dataclasses.replace(SOURCE, command=command)).missing
    words = shlex.split(missing.command)
    assert words[:3] == ["coordsim", "faults", str(scenario)]
    assert "--spans" not in words
    assert "workload.tasks=20" in words
    levels = [float(one) for one in words[words.index("--levels") + 1].split(",")]
    assert 1.6 < max(levels) < 2.0
    words[words.index("--levels") + 1] = "1,1.5"
    assert call(*words[1:], "-o", tmp_path / "out", "--workers", "1", "--quiet").code == 0


def test_hostile_names_are_escaped(queue: RunDigest) -> None:
    """A name of a resource is text wherever plotly would read HTML."""
    part = part_of(with_resources(queue, pool("<img src=x>", 0.5)))
    for one in charts_of(part).values():
        assert "<img" not in json.dumps([[view.data, view.layout] for view in one.views.values()])


def test_windows_over_time_agree_with_the_moments(queue: RunDigest) -> None:
    """Lines of the chart are the series; the table has each window."""
    view = charts_of(part_of(queue))["over-time"].views[""]
    arrivals = next(one for one in view.data if one["name"] == "tasks that arrive")
    assert arrivals["y"] == list(queue.moments.arrivals)
    assert len(view.table.rows) == len(queue.moments.times)
    assert view.layout["yaxis"]["title"]["text"] == "tasks per second"
    domains = [view.layout[name]["domain"] for name in ("yaxis", "yaxis2", "yaxis3")]
    assert all(low < high for low, high in domains)
    assert domains[0][0] >= domains[1][1] > domains[1][0] >= domains[2][1]


def period(cause: str, start: float, end: float, kind: str = "down") -> Period:
    """Return a time in which a cause was there."""
    return Period(cause, "tools.x", kind, start, end, True)


def test_each_cause_has_a_row_of_its_own() -> None:
    """However many overlap in time, names do not: each stands at a height of its own; short backlogs are left out."""
    periods = [period(f"outage-{place}", 10.0 + place, 50.0) for place in range(8)]
    periods += [
        period("outage-0", 20.0, 60.0, "backlog"),
        period("late", 150.0, 160.0),
        period("outage-1", 70.0, 70.5, "backlog"),
    ]
    story = Story(0, 1.0, [float(i) for i in range(1, 101)], periods, cut=5.0)
    assert len(causes_of(story)) == MOST_CAUSES
    few = dataclasses.replace(story, periods=periods[6:])
    assert [one.label for one in causes_of(few)] == [
        "outage-6 (tools.x)",
        "outage-7 (tools.x)",
        "backlog of outage-0 (tools.x)",
    ]
    made = chart(
        "over-time", "t", few, [Panel("a", "1/s", {"x": [1.0] * 100}), Panel("b", "", {"y": [2.0] * 100})], "words"
    )
    layout = made.views[""].layout
    heights = [one["y"] for one in layout["annotations"]]
    assert len(set(heights)) == 4
    assert min(a - b for a, b in itertools.pairwise(heights)) * made.height > 20  # pixels
    assert layout["yaxis"]["domain"][0] > max(heights) - 0.01 > min(heights) > layout["yaxis2"]["domain"][1]


def test_long_series_keep_their_extremes() -> None:
    """Of 2,000 windows 400 points are drawn, the greatest and the least among them, and 200 rows are told."""
    values = [math.sin(place) for place in range(2000)]
    values[777], values[1234] = 50.0, -50.0
    story = Story(0, 1.0, [float(place + 1) for place in range(2000)], [])
    view = chart("c", "t", story, [Panel("a", "", {"x": values})], "words").views[""]
    assert len(view.data[0]["x"]) <= 400
    assert max(view.data[0]["y"]) == 50.0
    assert min(view.data[0]["y"]) == -50.0
    assert len(view.table.rows) == 200


def test_a_storm_is_told_with_its_fault_and_its_roots() -> None:
    """A shortened retry storm: the tool is saturated, the fault shaded, and root causes are in a table."""
    scenario = cs.load("retry-storm").replace("workload.tasks", 700)
    found = digest_of(list(cs.simulate(scenario, replications=2).result.results))
    part = part_of(found, dataclasses.replace(SOURCE, rate=6.0))
    assert part.answer.startswith("tools.search may be saturated in this run: it is asked for ")  # two replications
    shapes = charts_of(part)["over-time"].views[""].layout["shapes"]
    assert {(one["x0"], one["x1"]) for one in shapes if one.get("opacity")} == {(60.0, 80.0)}
    titles = [one.title for one in part.tables]
    assert "Faults and backlogs in replication 0" in titles
    assert "Root causes of failed tasks" in titles
    assert any("Retries" in note for note in part.notes)
