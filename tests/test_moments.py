"""A run over time: windows, tasks in the system, queues and utilization; causes; T_total by order of arrival."""

import dataclasses

import numpy as np
import pytest

from coordsim.sim.analysis import moments as module
from coordsim.sim.analysis.moments import Moments, moments, welch
from coordsim.sim.analysis.result import ARRIVALS, BUSY, PRESENT, ResourceInfo, Result
from coordsim.sim.analysis.spans import Spans
from coordsim.sim.analysis.summarize import cut_warmup, summarize
from coordsim.sim.engine.incidents import Incidents, Turn
from coordsim.sim.engine.ledger import DONE, FAILED, FLOWS, Ledger, Snapshot

from .mm1 import POOL, Queue, simulate


class NoSpans(Spans):
    """Spans of no task."""

    def __init__(self) -> None:
        """Keep nothing."""


def made(times: list[tuple[float, float]], **more: object) -> Result:
    """Return a run of tasks that arrive and end at set times."""
    rows = np.array([[task, 0, came, gone, DONE, 0.0] for task, (came, gone) in enumerate(times)], dtype=float)
    known: dict[str, object] = {
        "scenario": "made", "seed": 1, "replication": 0, "rows": rows, "columns": tuple(Ledger.HEAD), "accounts": (), "facts": (),
        "classes": ("task",), "stride": 1, "arrived": len(rows), "ended": len(rows), "failures": {}, "snapshots": (), "resources": (),
        "spans": NoSpans(), "events": 0, "end": float(rows[:, 3].max()), "horizon": False, "doubts": (),
    }  # fmt: skip
    return Result(**known | more)  # type: ignore[arg-type]


def told(*runs: Result) -> Moments:
    """Return the moments of runs without warm-up."""
    return moments(runs, runs)


def test_tasks_in_the_system_are_counted_from_when_each_came_and_went() -> None:
    """Twenty tasks, each there for half of its second, and two of them together in the last."""
    times = [(float(i), i + 0.5) for i in range(1, 20)] + [(19.25, 20.0), (20.0, 20.25)]
    found = told(made(times))
    assert found.window == 1.0
    assert found.times == tuple(float(i) for i in range(1, 21))
    assert found.in_system[:18] == pytest.approx([0.0] + [0.5] * 17)
    assert found.in_system[19] == pytest.approx(0.5 + 0.75)
    # Who is there when a window begins counts in it; who comes at its end does, too.
    assert found.peak[1:18] == (1.0,) * 17
    assert found.peak[19] == 2.0
    assert sum(found.arrivals) * found.window == len(times)  # the last window holds its end
    assert sum(found.succeeded) * found.window == len(times) - 1  # one ends after it


def test_tasks_that_fail_arrive_but_do_not_succeed() -> None:
    """Of tasks in pairs, one fails: arrivals are twice those that succeed."""
    rows = made([(i / 2, i / 2 + 0.1) for i in range(1, 81)]).rows.copy()
    rows[::2, 4] = FAILED
    found = told(dataclasses.replace(made([(1.0, 2.0)]), rows=rows, arrived=80, ended=80, end=40.1))
    assert sum(found.succeeded) == pytest.approx(sum(found.arrivals) / 2, abs=1 / found.window)


def test_utilization_and_queues_come_from_the_totals() -> None:
    """A pool of two servers: half of it busy in the first half, all of it in the second, where three wait."""
    snapshots = tuple(
        Snapshot(at, 0, 0, 0.0, [(busy, present, 0.0, 0.0, 0.0, 0.0), (busy / 4, 0.0, 0.0, 0.0, 0.0, 0.0)])
        for at, busy, present in ((20.0, 20.0, 20.0), (40.0, 60.0, 120.0))
    )
    resources = (ResourceInfo("pool", "a", 2.0), ResourceInfo("link", "a", 1.0))
    found = told(made([(i / 4, i / 4 + 0.1) for i in range(1, 161)], snapshots=snapshots, resources=resources))
    half = len(found.times) // 2
    assert list(found.utilization) == ["pool a", "link a"]
    assert found.utilization["pool a"] == pytest.approx([0.5] * half + [1.0] * half)
    assert found.utilization["link a"] == pytest.approx([0.25] * half + [0.5] * half)
    assert list(found.queues) == ["pool a"]
    assert found.queues["pool a"] == pytest.approx([0.0] * half + [3.0] * half)


def test_windows_sum_up_to_what_the_summary_measures() -> None:
    """Over an M/M/1 queue without warm-up, means of windows are those of the summary, as far as windows reach."""
    run = simulate(Queue(arrival_rate=0.7, tasks=3000), seed=3)
    found, summary = told(run), summarize([run], warmup=None)
    assert len(found.times) <= module.MOST
    assert np.mean(found.utilization[POOL]) == pytest.approx(
        summary.resources[0].metrics["utilization"].value, rel=0.02
    )
    assert np.mean(found.queues[POOL]) == pytest.approx(summary.resources[0].metrics["queue_length"].value, rel=0.03)
    assert np.mean(found.in_system) == pytest.approx(summary.metrics["number_in_system"].value, rel=0.03)
    assert np.mean(found.arrivals) == pytest.approx(summary.metrics["arrival_rate"].value, rel=0.02)


def test_faults_are_kept_before_backlogs_and_long_ones_before_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more periods than are kept, short backlogs are left out, and counted."""
    monkeypatch.setattr(module, "MOST_PERIODS", 2)
    incidents = Incidents()
    cause = incidents.cause("outage", "down", True)
    for kind, start, end in (("backlog", 1.0, 9.0), ("backlog", 2.0, 3.0), ("down", 4.0, 5.0)):
        incidents.turns += [Turn(start, "tools.x", cause, kind, True), Turn(end, "tools.x", cause, kind, False)]
    found = told(made([(float(i), i + 0.5) for i in range(20)], incidents=incidents))
    assert [(one.kind, one.start) for one in found.periods] == [("backlog", 1.0), ("down", 4.0)]
    assert found.left_out == 1


def test_t_total_by_order_of_arrival_is_the_series_that_is_cut() -> None:
    """Bins are means of tasks in turn, a row a replication, as far as the shortest goes; the cut is that of the view."""
    runs = [simulate(Queue(arrival_rate=0.9, tasks=tasks), 5, number) for number, tasks in enumerate((1000, 1200))]
    warmup, views = cut_warmup(runs, 50.0)
    found = moments(runs, views)
    assert found.cut == 50.0 == warmup.seconds
    one = found.by_arrival
    assert one is not None
    assert (one.size, len(one.tasks), one.tasks[0]) == (5, 200, 2.5)
    elapsed = runs[1].rows[:, 3] - runs[1].rows[:, 2]
    assert one.rows[1][7] == pytest.approx(elapsed[35:40].mean())


def test_few_tasks_say_nothing_by_order_of_arrival() -> None:
    """With nine tasks there is no series."""
    assert told(made([(float(i), i + 0.5) for i in range(9)])).by_arrival is None


def test_many_replications_are_kept_in_wider_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bins times replications stay below a bound."""
    monkeypatch.setattr(module, "VALUES", 100)
    runs = [made([(float(i), i + 1.0) for i in range(100)], replication=number) for number in range(4)]
    one = told(*runs).by_arrival
    assert one is not None
    assert one.size == 4
    assert len(one.tasks) == 25


def test_a_run_without_tasks_has_a_window() -> None:
    """Nothing arrives, and nothing is made up."""
    empty = made([(0.0, 1.0)], rows=np.zeros((0, 6)), arrived=0, ended=0, end=0.0)
    found = told(empty)
    assert found.times == (1.0,)
    assert found.arrivals == found.succeeded == found.in_system == found.peak == (0.0,)


@pytest.mark.parametrize(("length", "window"), [(50.0, 0.5), (3000.0, 20.0), (40_000.0, 300.0), (7e7, 5e5)])
def test_windows_have_round_lengths(length: float, window: float) -> None:
    """A run is cut into windows that a person would choose."""
    found = told(made([(length * i / 5000, length * i / 5000 + 0.01) for i in range(5001)]))
    assert found.window == pytest.approx(window)


def test_the_moving_average_of_a_line_is_the_line() -> None:
    """Smoothing is over as many values on both sides, so that a straight line stays what it is."""
    assert welch([2.0 * i for i in range(9)], 3) == pytest.approx([2.0 * i for i in range(9)])
    assert welch([0.0, 3.0, 0.0], 1) == (0.0, 1.0, 0.0)


def test_use_is_never_more_than_the_tasks_there_allow() -> None:
    """In each window of a short run, who is served is among who is there, though few snapshots are taken; flows agree with these."""
    run = simulate(Queue(tasks=100), 3)
    assert len(run.snapshots) < 10 < len(run.flows)
    found = told(run)
    busy = np.array(found.utilization[POOL])
    assert (busy <= np.array(found.in_system) + 1e-9).all()
    assert len({round(share, 6) for share in busy}) > len(busy) // 2  # no straight line through windows
    for snapshot in run.snapshots:
        now = np.array([snapshot.time])
        for column in (BUSY, PRESENT, ARRIVALS):
            assert run.flow(0, column, now)[0] == pytest.approx(run.totals(0, column, now)[0], abs=1.0)
    last = np.array([run.flows[-1, 0]])
    assert run.flow(0, BUSY, last) == pytest.approx(run.category("inference").sum())


def test_flows_of_a_long_run_are_few_and_spread() -> None:
    """However many tasks there are, no more times are kept than are wanted, as far apart at the end as at the start."""
    times = simulate(Queue(tasks=5000), 3).flows[:, 0]
    assert FLOWS / 4 < len(times) <= FLOWS
    gaps = np.diff(times)
    assert gaps.min() > 0
    assert gaps.max() < 20 * np.median(gaps)
