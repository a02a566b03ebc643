"""What a run says of how sure it is: intervals by number of replications, replications needed, the cut, doubts."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest

from coordsim.sim.analysis.digest import RunDigest
from coordsim.sim.analysis.statistics import LittlesLaw, mean_interval, replications_needed
from coordsim.sim.analysis.summary import Reached, Warmup
from coordsim.sim.report.page.parts import Part, Section
from coordsim.sim.report.page.provenance import Input, Provenance
from coordsim.sim.report.sections.run_sure import narrowing, sure_parts, warmup_words

from .mm1 import Queue, simulate
from .test_run_breaks import charts_of, digest_of

SOURCE = Provenance(
    "queue", "?", "0" * 64, 1, "coordsim run 'my queue.yaml' --seed 1", {},
    inputs=(Input("a", "measured", "here"), Input("b", "assumed", "stated"), Input("c", "assumed", "stated")),
)  # fmt: skip


@pytest.fixture(scope="module")
def queue() -> RunDigest:
    """Return an M/M/1 queue, warm-up cut by MSER-5."""
    return digest_of([simulate(Queue(arrival_rate=0.8, tasks=800), 1, number) for number in range(6)], "auto")


def part_of(found: RunDigest) -> Part:
    """Return the only part."""
    (part,) = sure_parts(found, SOURCE)
    assert part.section is Section.SURE
    return part


def changed(found: RunDigest, **more: Any) -> RunDigest:
    """Return a digest with another summary."""
    return dataclasses.replace(found, summary=dataclasses.replace(found.summary, **more))


def with_samples(found: RunDigest, values: Sequence[float]) -> RunDigest:
    """Return a digest whose mean and p95 are these, replication by replication."""
    names = ("response_time_mean", "response_time_p95", "coordination_mean")
    samples, estimates = dict.fromkeys(names, tuple(values)), dict.fromkeys(names, mean_interval(values))
    return changed(
        found,
        replications=len(values),
        samples={**found.summary.samples, **samples},
        metrics={**found.summary.metrics, **estimates},
    )


def test_the_interval_after_all_replications_is_that_of_the_summary(queue: RunDigest) -> None:
    """The last point of each line is what the answer says; the first is of two replications."""
    view = charts_of(part_of(queue))["replications"].views[""]
    lines = [one for one in view.data if one.get("mode") == "lines+markers"]
    assert [one["x"] for one in lines] == [[2, 3, 4, 5, 6]] * 3
    names = ("response_time_mean", "response_time_p95", "coordination_mean")
    assert [one["y"][-1] for one in lines] == pytest.approx([queue.summary.metrics[name].value for name in names])
    mean = narrowing(queue.summary.samples["response_time_mean"], 0.95)[-1]
    assert mean.low == pytest.approx(queue.summary.metrics["response_time_mean"].low)
    assert mean.high == pytest.approx(queue.summary.metrics["response_time_mean"].high)


def test_how_many_more_replications_are_told(queue: RunDigest) -> None:
    """The numbers are those of the sequential procedure, less the replications that ran."""
    values = (9.0, 11.0, 10.0, 12.0)
    part = part_of(with_samples(queue, values))
    five, one = (replications_needed(values, target) - 4 for target in (0.05, 0.01))
    assert five > 0
    wanted = f"For both, 5 % would take {five} more replications and 1 % would take {one} more replications."
    assert wanted in part.answer
    table = next(table for table in part.tables if table.title == "How many replications are enough?")
    assert table.rows[0][3] == f"{five + 4} ({five} more)"
    sharp = part_of(with_samples(queue, (10.0, 10.001, 10.0, 9.999)))
    assert "Both are within 1 % already. " in sharp.answer
    between = part_of(with_samples(queue, (10.0, 10.2, 10.0, 9.8)))
    more = replications_needed((10.0, 10.2, 10.0, 9.8), 0.01) - 4
    assert f"Both are within 5 % already; 1 % would take {more} more replications. " in between.answer


def test_one_replication_asks_for_more(queue: RunDigest) -> None:
    """There is no chart over replications, and the command that adds them keeps what the run was asked."""
    part = part_of(digest_of([simulate(Queue(tasks=2000), 1)], "auto"))
    assert part.missing[0].command == "coordsim run 'my queue.yaml' --seed 1 --replications 10"
    assert set(charts_of(part)) == {"warmup"}
    assert "after 1 replication." in part.answer
    assert part_of(queue).missing == ()


def test_the_cut_is_drawn_where_the_summary_cut(queue: RunDigest) -> None:
    """The line stands at the number of tasks that are left out."""
    cut = changed(queue, warmup=Warmup("auto", 31.5, 40, True))
    view = charts_of(part_of(cut))["warmup"].views[""]
    assert view.layout["shapes"][0]["x0"] == 40
    assert (
        view.summary == "The first 40 tasks (31.5 s) of each replication are left out, by MSER-5 over all replications."
    )
    assert (
        "shapes"
        not in charts_of(part_of(changed(queue, warmup=Warmup("auto", 0.0, 0, True))))["warmup"].views[""].layout
    )


def test_the_smoothed_line_keeps_the_mean_of_what_is_level(queue: RunDigest) -> None:
    """Where T_total is the same for all tasks, so is the line, and its band has no width."""
    by_arrival = queue.moments.by_arrival
    assert by_arrival is not None
    level = dataclasses.replace(by_arrival, rows=tuple(tuple(2.0 for _ in row) for row in by_arrival.rows))
    found = dataclasses.replace(queue, moments=dataclasses.replace(queue.moments, by_arrival=level))
    _, band, line = charts_of(part_of(found))["warmup"].views[""].data
    assert line["y"] == pytest.approx([2.0] * len(by_arrival.tasks))
    assert band["y"] == pytest.approx([2.0] * 2 * len(by_arrival.tasks))


@pytest.mark.parametrize(
    ("warmup", "told"),
    [
        (Warmup("none", 0.0, 0, True), "because the scenario says so"),
        (
            Warmup("fixed", 60.0, 30.5, True),
            "The first 30 tasks (60 s) of each replication are left out, as the scenario says.",
        ),
        (Warmup("auto", 0.0, 0, False), "may be all warm-up"),
        (Warmup("auto", 0.0, 0, True), "finds no warm-up"),
    ],
)
def test_each_way_to_cut_is_told(queue: RunDigest, warmup: Warmup, told: str) -> None:
    """What was cut, by which rule, and whether it can be trusted."""
    assert told in warmup_words(changed(queue, warmup=warmup).summary)


def test_doubts_are_warnings_with_commands_that_name_the_scenario(queue: RunDigest) -> None:
    """`SCENARIO` stands for what the user ran; each doubt is told once."""
    part = part_of(
        changed(queue, warnings=("try `coordsim run SCENARIO --replications 9`",), doubts=("beyond", "beyond"))
    )
    assert part.warnings == ("try `coordsim run 'my queue.yaml' --replications 9`", "beyond")


def test_checks_and_inputs_are_told(queue: RunDigest) -> None:
    """Stability, Little's law, the precision reached, no validation, and how good inputs are."""
    reached = Reached(0.05, False, "response_time_p95", math.inf)
    found = changed(
        queue, stability=("settled", "grows", "unknown", "settled"), little=LittlesLaw(4.0, 5.0), precision=reached
    )
    notes = " ".join(part_of(found).notes)
    assert "2 settled, 1 still growing, 1 too short to tell" in notes
    assert "Little's law is off by -20 %" in notes
    assert "5 %, was not reached: response_time_p95 is known within no bound" in notes
    assert "not checked against a running system" in notes
    assert "measured (a), assumed (b, c)" in notes
    assert "still grows in 1 of 4 replications" in part_of(found).answer
    assert "Little's law holds: " in " ".join(part_of(queue).notes)


def test_a_run_without_done_tasks_knows_nothing() -> None:
    """Nothing is drawn of times that nobody saw."""
    part = part_of(digest_of([simulate(Queue(tasks=5, fails=1.0), 1, number) for number in range(2)]))
    assert part.answer == "No task was done, so nothing is known of T_total."
    assert charts_of(part) == {}
