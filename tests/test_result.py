"""One replication's result: views on its tasks, spans, tables, and what it observes of resources over time."""

import pickle
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from coordsim.sim.analysis.result import (
    ARRIVALS,
    BUSY,
    COMPLETIONS,
    PRESENT,
    WAITED,
    ResourceInfo,
    Result,
)
from coordsim.sim.engine.branch import Branch, Join
from coordsim.sim.engine.ledger import CATEGORIES, NO_COORDINATION, STRUCTURE, Account, Ledger, Span
from coordsim.sim.engine.simulation import Simulation

from .mm1 import POOL, Queue, simulate

# What each of three parallel branches of the task below does: a call of a tool, of so many seconds.
BRANCHES = (1.0, 4.0, 2.0)


def forked(needed: int = 3) -> Result:
    """Return a run of one task: it thinks 2 s, loses a try of 0.5 s, then waits for `needed` of three branches."""
    sim = Simulation()
    ledger = Ledger(sim, ("steps",), "all")
    thinking = ledger.account("inference", "llm")
    calling = ledger.account("tool", "search", "tool.execute")
    losing = ledger.account("recovery", "search")
    call = ledger.account(STRUCTURE, "search", "execute_tool")
    step = ledger.account(STRUCTURE, "agent", "step")

    def worker(branch: Branch, join: Join, seconds: float) -> Generator[None, Any, None]:
        outer, began = branch.open_span(), branch.time
        branch.add(calling, seconds, 100.0)
        branch.close_span(outer, call, began)
        join.arrive(branch)
        yield

    def trunk(branch: Branch) -> Generator[None, Any, None]:
        outer, began = branch.open_span(), branch.time
        branch.add(thinking, 2.0, 50.0)
        before, first = branch.parts[:], len(branch.spans or []) // 7
        failed, start = branch.open_span(), branch.time
        branch.add(calling, 0.5)
        branch.close_span(failed, call, start)
        branch.lose(before, first, losing)
        join = Join(branch, needed)
        for lane, seconds in enumerate(BRANCHES, start=1):
            child = branch.fork(lane, None)
            join.add(child, worker(child, join, seconds))
        yield
        branch.close_span(outer, step, began)
        branch.settle()
        yield
        ledger.close(branch)
        yield

    task = ledger.open(0, 0, 0.0)
    task.trunk = Branch(task, 0, 0.0, None)
    task.trunk.start(trunk(task.trunk))
    sim.run()
    ledger.finish(None)
    return Result.of(
        ledger, scenario="fork", seed=1, replication=0, classes=["task"], horizon=False, doubts=(), resources=()
    )


def leaves(result: Result) -> list[Span]:
    """Return the spans that hold time, not other spans."""
    return [span for span in result.spans if span.category != STRUCTURE]


@pytest.mark.parametrize(("needed", "slowest"), [(1, 1.0), (2, 2.0), (3, 4.0)])
def test_critical_spans_abut_and_sum_to_t_total(needed: int, slowest: float) -> None:
    """The spans on the critical path tile the task from arrival to end: through the branch that released the join."""
    result = forked(needed)
    path = [span for span in leaves(result) if span.critical]
    assert [span.start for span in path] == [0.0, *(span.end for span in path[:-1])]
    assert path[-1].end == result.response_times[0] == 2.5 + slowest


def test_what_ran_beside_the_critical_path_is_overlapped() -> None:
    """Spans of branches that released nothing are not critical, and their seconds are overlapped work."""
    result = forked()
    beside = [span.end - span.start for span in leaves(result) if not span.critical]
    assert sorted(beside) == [1.0, 2.0]
    assert result.overlapped.tolist() == [3.0]


def test_lost_spans_keep_their_category_and_are_booked_as_recovery() -> None:
    """The failed try and what lies in it are flagged, nothing else is, and the roll-up has them as recovery."""
    result = forked()
    assert [(span.name, span.category) for span in result.spans if span.lost] == [
        ("execute_tool", STRUCTURE),
        ("tool.execute", "tool"),
    ]
    assert result.category("recovery").tolist() == [0.5]
    assert result.category("tool").tolist() == [4.0]


def test_spans_nest() -> None:
    """Every span lies within its parent, has an id of its own, and comes after its parent."""
    spans = forked().spans
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    assert sum(span.parent == 0 for span in spans) == 1
    for place, span in enumerate(spans):
        if span.parent:
            parent = by_id[span.parent]
            assert parent.start <= span.start <= span.end <= parent.end
            assert parent in spans[:place]


def test_a_task_cut_off_by_the_horizon_keeps_its_spans_up_to_there() -> None:
    """Spans of unfinished tasks sum to their elapsed time, end by the horizon, and hang below spans that exist."""
    result = simulate(Queue(arrival_rate=2.0, horizon=40.0), 3, spans="all")
    unfinished = {int(row[0]): row for row in result.tasks[~result.finished]}
    assert len(unfinished) == result.unfinished > 5
    ids = {(span.task, span.id) for span in result.spans}
    for task, row in unfinished.items():
        mine = [span for span in leaves(result) if span.task == task]
        assert sum(span.end - span.start for span in mine) == pytest.approx(row[3] - row[2], abs=1e-9)
        assert max(span.end for span in mine) <= 40.0
        assert {span.status for span in mine} == {"unfinished"}
        assert all(not span.parent or (task, span.parent) in ids for span in mine)


def test_categories_sum_to_t_total() -> None:
    """Categories, and accounts, sum to the response time of every task that was done."""
    result = simulate(Queue(tool=1.0, fails=0.1), 1)
    assert result.categories().sum(axis=1) == pytest.approx(result.response_times)
    assert sum(result.accounts_mean().values()) == pytest.approx(result.response_times.mean())
    coordination = sum(result.category(name) for name in CATEGORIES if name not in NO_COORDINATION)
    assert result.coordination == pytest.approx(coordination)
    assert result.coordination - result.coordination_without_tool_execute == pytest.approx(0.75)


def test_only_tasks_that_were_done_count_as_response_times() -> None:
    """Failed tasks are counted by reason, and are in no array of times."""
    result = simulate(Queue(fails=0.3), 2)
    assert result.ended == result.arrived == 500
    assert len(result.response_times) == 500 - result.failures["broken"] < 400
    assert result.fact("steps").tolist() == [1.0] * len(result.response_times)
    assert result.fact("not counted").tolist() == [0.0] * len(result.response_times)


def test_a_view_leaves_out_tasks_that_arrived_before() -> None:
    """`after` keeps exactly the tasks from the cut on, and never brings back what an earlier cut dropped."""
    result = simulate(Queue(), 1)
    view = result.after(100.0)
    assert view.tasks.tolist() == result.rows[result.rows[:, 2] >= 100.0].tolist()
    assert len(view.after(50.0).tasks) == len(view.tasks) < len(result.tasks)
    assert view.window[0] == 100.0


def test_totals_are_differences_of_snapshots() -> None:
    """From empty to empty a pool completed what arrived, was busy for all service, and had present who was in the system."""
    result = simulate(Queue(), 4)
    ends = np.array([0.0, result.end])
    change = {
        column: float(np.diff(result.totals(0, column, ends))[0])
        for column in (BUSY, PRESENT, ARRIVALS, COMPLETIONS, WAITED)
    }
    assert change[ARRIVALS] == change[COMPLETIONS] == 500
    assert change[BUSY] == pytest.approx(result.category("inference").sum())
    assert change[WAITED] == pytest.approx(result.category("queueing").sum())
    assert change[PRESENT] == pytest.approx(result.response_times.sum())


def test_totals_follow_the_run() -> None:
    """Snapshots are near enough to each other to see a stretch of the run: within one stretch of 32 tasks of the rows."""
    result = simulate(Queue(tasks=2000), 4)
    ends = np.sort(result.rows[:, 3])
    times = np.linspace(0.0, result.end, 50)
    seen = result.totals(0, COMPLETIONS, times)
    assert np.abs(seen - np.searchsorted(ends, times, side="right")).max() <= 32


def test_the_window_ends_with_the_last_arrival() -> None:
    """What follows the last arrival is draining, and is not observed."""
    result = simulate(Queue(), 1)
    assert result.window == (0.0, result.rows[-1, 2])
    assert result.window[1] < result.end


def test_the_window_of_a_burst_is_the_whole_run() -> None:
    """When all tasks arrive at once there is nothing to observe but the draining."""
    result = simulate(Queue(burst=True, tasks=50), 1)
    assert result.window == (0.0, result.end)


def test_the_window_reaches_the_horizon_that_cut_tasks_off() -> None:
    """A horizon is the end of what is observed, not the last arrival before it."""
    assert simulate(Queue(arrival_rate=2.0, horizon=40.0), 3).window == (0.0, 40.0)


def test_the_number_in_the_system_integrates_to_the_tasks_seconds() -> None:
    """Rows and the ledger's own integral agree."""
    result = simulate(Queue(), 1)
    changes = np.sort(np.concatenate([result.rows[:, 2], result.rows[:, 3]]))
    seconds = (result.number_in_system(changes[:-1]) * np.diff(changes)).sum()
    assert seconds == pytest.approx(result.snapshots[-1].task_seconds) == pytest.approx(result.elapsed.sum())


@pytest.mark.parametrize("q", [0.01, 0.5, 0.99])
def test_a_cohort_is_the_hundredth_of_tasks_around_a_percentile(q: float) -> None:
    """It has 1 % of the tasks, holds the quantile, and its categories sum to its mean."""
    result = simulate(Queue(tasks=1000), 1)
    cohort = result.cohort(q)
    assert len(cohort.tasks) == 10
    assert cohort.low <= np.quantile(result.response_times, q) <= cohort.high
    assert sum(cohort.categories.values()) == pytest.approx(cohort.total)


def test_the_task_at_a_quantile_is_the_nearest_one() -> None:
    """Without spans the nearest of all tasks is returned; with sampled spans the nearest that has them."""
    bare, sampled = simulate(Queue(), 1), simulate(Queue(), 1, spans="sampled")
    wanted = np.quantile(bare.response_times, 0.9)
    nearest = bare.task_at(0.9)
    assert abs(nearest.response_time - wanted) == np.abs(bare.response_times - wanted).min()
    assert nearest.spans == ()
    with_spans = sampled.task_at(0.9)
    assert with_spans.task % 10 == 0
    assert sum(span.end - span.start for span in with_spans.spans if span.category != STRUCTURE) == pytest.approx(
        with_spans.response_time
    )
    assert sum(with_spans.accounts.values()) == pytest.approx(with_spans.response_time)
    assert with_spans.facts == {"steps": 1.0, "straggler_excess": 0.25, "straggler_coordination": 0.125}


def test_a_quantile_of_nothing_is_refused() -> None:
    """When no task was done there is no task at a quantile, and the error says where."""
    result = simulate(Queue(fails=1.0, tasks=5), 1)
    with pytest.raises(ValueError, match="no task of mm1, replication 0, was done"):
        result.task_at(0.5)


def test_spans_change_no_row() -> None:
    """Keeping spans is only looking."""
    bare, full = simulate(Queue(), 1), simulate(Queue(), 1, spans="all")
    assert bare.rows.tolist() == full.rows.tolist()
    assert not bare.spans
    assert full.spans


def test_a_result_survives_pickling() -> None:
    """Nothing of the run is alive in it: what comes back is equal."""
    result = simulate(Queue(tasks=50, tool=1.0), 1, spans="all")
    again = pickle.loads(pickle.dumps(result))
    assert again.rows.tolist() == result.rows.tolist()
    assert (again.spans, again.snapshots, again.accounts) == (result.spans, result.snapshots, result.accounts)


def test_tables_name_units_and_hold_every_task_and_span() -> None:
    """One row a task in view with its parts in seconds, one row a span."""
    result = simulate(Queue(fails=0.2, tool=1.0, tasks=60, classes=2), 1, spans="all").after(10.0)
    frame = result.to_frame()
    assert len(frame) == len(result.tasks)
    assert set(frame["status"]) == {"done", "failed"}
    assert set(frame["class"]) == {"class 0", "class 1"}
    assert frame["total_s"].to_numpy() == pytest.approx(
        frame[[f"{name}_s" for name in CATEGORIES]].sum(axis=1).to_numpy()
    )
    assert frame["coordination_s"].to_numpy() == pytest.approx((frame["total_s"] - frame["inference_s"]).to_numpy())
    assert "tool/search/tool.execute_s" in frame.columns
    assert not [name for name in frame.columns if STRUCTURE in name]
    spans = result.spans_frame()
    assert len(spans) == len(result.spans)
    assert spans["end_s"].tolist() == [span.end for span in result.spans]


def test_a_result_of_no_tasks_has_tables_and_empty_views() -> None:
    """Nothing arrived: no view fails, and the tables have their columns."""
    result = simulate(Queue(tasks=0), 1)
    assert len(result.to_frame()) == len(result.spans_frame()) == len(result.response_times) == 0
    assert result.categories().shape == (0, len(CATEGORIES))
    assert set(result.accounts_mean()) >= {Account("queueing", POOL, "queueing")}


def test_resources_must_be_described() -> None:
    """A ledger with a pool and no description of it is refused."""
    ledger = Ledger(Simulation(), ())
    with pytest.raises(ValueError, match="0 resources are in the ledger, but 1 are described"):
        Result.of(
            ledger,
            scenario="x",
            seed=1,
            replication=0,
            classes=(),
            horizon=False,
            doubts=(),
            resources=[ResourceInfo("pool", "p", None)],
        )
