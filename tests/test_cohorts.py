"""Cohorts, steps and examples of a run: sums that are exact, intervals worked out by hand, and what is left out is counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

import coordsim as cs
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.cohorts import LABELS, MEAN, CohortTime, cohorts
from coordsim.sim.analysis.digest import RunDigest, digest
from coordsim.sim.analysis.replicate import Run
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.spans import Spans
from coordsim.sim.analysis.statistics import student_t
from coordsim.sim.analysis.summarize import cut_warmup
from coordsim.sim.analysis.task_steps import (
    FEW_TASKS,
    LATER,
    MOST_SPANS,
    MOST_STEPS,
    MOST_TASKS,
    OUTSIDE,
    examples,
    step_map,
    tasks_to_look_at,
)
from coordsim.sim.engine.ledger import CATEGORIES, DONE, FAILED, STRUCTURE, Account, Ledger, Span

from .test_result import forked

INFERENCE = Account("inference", "llm", "inference")
WAIT = Account("queueing", "llm", "wait")
IDLE = Account("human", "desk", "human")
ACCOUNTS = (INFERENCE, WAIT, IDLE)


class Kept(Spans):
    """Spans made by hand, by task."""

    def __init__(self, by_task: Mapping[int, Sequence[Span]]) -> None:
        super().__init__((), ())
        self.by_task = by_task

    @property
    def tasks(self) -> list[int]:
        """The tasks."""
        return list(self.by_task)

    def of(self, task: int) -> tuple[Span, ...]:
        """Return the spans of one task."""
        return tuple(self.by_task.get(task, ()))


def made(
    parts: Sequence[tuple[float, float]], replication: int = 0, failed: Sequence[int] = (), spans: Spans | None = None
) -> Result:
    """Return a replication whose tasks arrive a second apart, with so many seconds of inference and of queueing each."""
    rows = [
        [task, 0, task, task + inference + wait, FAILED if task in failed else DONE, 0.0, inference, wait, 0.0]
        for task, (inference, wait) in enumerate(parts)
    ]
    columns = (*Ledger.HEAD, *(f"{one.category}/{one.component}/{one.name}" for one in ACCOUNTS))
    return Result(
        scenario="made", seed=1, replication=replication, rows=np.array(rows, dtype=float), columns=columns, accounts=ACCOUNTS,
        facts=(), classes=("task",), stride=1, arrived=len(rows), ended=len(rows), failures={}, snapshots=(), resources=(),
        spans=Kept({}) if spans is None else spans, events=0, end=1e6, horizon=False, doubts=(),
    )  # fmt: skip


def leaf(
    number: int, start: float, end: float, parent: int = 0, *, category: str = "inference", critical: bool = True
) -> Span:
    """Return a span that takes time."""
    return Span(0, 0, number, parent, "work", category, "llm", start, end, 1.0, critical, False, "done")


def group(
    number: int, start: float, end: float, parent: int = 0, *, name: str = "invoke_agent", component: str = "coder"
) -> Span:
    """Return a span that groups others."""
    return Span(0, 0, number, parent, name, STRUCTURE, component, start, end, 0.0, True, False, "done")


def group_of(label: str, views: Sequence[Result]) -> CohortTime:
    """Return the cohort of a label."""
    found = cohorts(views).get(label)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def run() -> Run:
    """Return quickstart, small, with all spans."""
    return cs.simulate(cs.load("quickstart").replace("workload.tasks", 40), replications=3, spans="all").result


def test_cohorts_are_exact_for_tasks_made_by_hand() -> None:
    """With 100 tasks of 1 s, 2 s ... 100 s, a cohort is one task; the queue has what is beyond 10 s."""
    one = made([(min(task, 10), max(0.0, task - 10)) for task in range(1, 101)])
    other = made([(min(task, 10), max(0.0, 2.0 * (task - 10))) for task in range(1, 101)], 1)
    slow = group_of("p95", [one, other])
    # Rank 0.95 * 99 = 94.05: task 94, which takes 95 s in the first replication, and 10 + 170 s in the second.
    assert [slow.tasks, slow.low, slow.high] == [2, 95.0, 180.0]
    assert slow.total.value == pytest.approx((95 + 180) / 2)
    half = student_t(0.95, 1) * (180 - 95) / 2
    assert (slow.total.low, slow.total.high) == pytest.approx((137.5 - half, 137.5 + half))
    assert slow.categories["inference"].value == 10.0
    assert slow.categories["inference"].half_width == 0.0
    assert slow.coordination == slow.categories["queueing"]
    assert slow.shares["queueing"].value == pytest.approx((85 / 95 + 170 / 180) / 2)
    assert [(part.name, part.seconds.value) for part in slow.accounts] == [("inference", 10.0), ("wait", 127.5)]
    middle = group_of("p50", [one, other])
    grown = cohorts([one, other]).growth["queueing"]
    assert grown.value == pytest.approx(
        group_of("p99", [one, other]).categories["queueing"].value - middle.categories["queueing"].value
    )


def test_growth_is_paired_within_replications() -> None:
    """Where each replication grows by the same, the growth is certain, however far apart replications lie."""
    views = [
        made([(base + task, 0.0) for task in range(100)], number) for number, base in enumerate((10.0, 500.0, 90.0))
    ]
    grown = cohorts(views).growth["inference"]
    assert grown.half_width == pytest.approx(0.0, abs=1e-9)
    assert grown.value > 40.0
    assert group_of("p50", views).total.half_width > 100.0


def test_parts_sum_to_the_total_of_each_cohort(run: Run) -> None:
    """By category and by account, the seconds of a cohort sum to its T_total, and the shares to 1."""
    _, views = cut_warmup(run.results, "auto")
    for one in cohorts(views).groups:
        assert sum(part.value for part in one.categories.values()) == pytest.approx(one.total.value, rel=1e-9)
        assert sum(part.seconds.value for part in one.accounts) == pytest.approx(one.total.value, rel=1e-9)
        assert sum(part.value for part in one.shares.values()) == pytest.approx(1.0, rel=1e-9)


def test_a_cohort_is_that_of_the_result(run: Run) -> None:
    """Each number of a cohort is the mean of what `Result.cohort` says of each replication; that of all is the summary's."""
    _, views = cut_warmup(run.results, "auto")
    for label, q in LABELS.items():
        own = [view.cohort(q) for view in views]
        found = group_of(label, views)
        assert found.tasks == sum(len(one.tasks) for one in own)
        assert found.total.value == pytest.approx(np.mean([one.total for one in own]))
        for name in CATEGORIES:
            assert found.categories[name].value == pytest.approx(np.mean([one.categories[name] for one in own]))
    everything = group_of(MEAN, views)
    assert everything.total == run.summary.metrics["response_time_mean"]
    assert everything.categories == {name: part.seconds for name, part in run.summary.categories.items()}
    assert everything.shares == {name: part.share for name, part in run.summary.categories.items()}


def test_one_replication_has_no_interval_of_a_percentile() -> None:
    """The neighbours of a cohort say nothing about another run."""
    one = made([(float(task % 17 + 1), 1.0) for task in range(2000)])
    assert not group_of("p99", [one]).total.resolved
    assert group_of(MEAN, [one]).total.resolved


def test_replications_without_a_task_done_are_left_out() -> None:
    """A replication where all failed adds nothing; where none was done at all there are no groups."""
    good, bad = made([(1.0, 0.0)] * 10), made([(9.0, 0.0)] * 10, 1, failed=range(10))
    assert cohorts([good, bad]).replications == 1
    assert group_of(MEAN, [good, bad]).total.value == 1.0
    assert cohorts([bad]).groups == ()
    assert examples(bad) == ()
    assert step_map([bad]) is None


def test_a_step_map_is_exact_for_a_task_made_by_hand() -> None:
    """What a task loses to a fault is recovery, branches beside the path are left out, and all is in the one step."""
    found = step_map([forked()])
    assert found is not None
    assert found.total == pytest.approx(6.5)
    assert [row.label for row in found.rows] == ["step 1: agent", OUTSIDE]
    parts = {name: seconds for name, seconds in found.rows[0].seconds.items() if seconds}
    assert parts == pytest.approx({"inference": 2.0, "recovery": 0.5, "tool": 4.0})
    assert found.rows[1].tasks == 0


def test_steps_are_the_innermost_and_what_lies_between_is_outside() -> None:
    """A step that holds turns of agents is none itself; a mean is over all tasks, with the step or without."""
    outer = [group(1, 0, 9, name="step", component="team"), group(2, 0, 3, 1), group(3, 5, 9, 1, component="tester")]
    long = [*outer, leaf(10, 0, 3, 2), leaf(11, 3, 5, 1, category="queueing"), leaf(12, 5, 9, 3, category="tool")]
    short = [group(1, 0, 2), group(2, 0, 1, 1, name="chat"), leaf(10, 0, 1, 2), leaf(11, 1, 2, 1, category="tool")]
    view = made([(9.0, 0.0), (2.0, 0.0)], spans=Kept({0: long, 1: short}))
    found = step_map([view])
    assert found is not None
    assert [(row.label, row.tasks) for row in found.rows] == [("step 1: coder", 2), ("step 2: tester", 1), (OUTSIDE, 1)]
    assert found.rows[0].seconds["inference"] == (3 + 1) / 2
    assert found.rows[0].seconds["tool"] == 1 / 2
    assert found.rows[1].seconds["tool"] == 4 / 2
    assert found.rows[2].seconds["queueing"] == 2 / 2
    assert found.total == (9 + 2) / 2


def test_many_steps_are_put_together_at_the_end() -> None:
    """Of 100 steps a map shows the first, the others in one row, and loses no second."""
    spans = [
        one for at in range(100) for one in (group(2 * at + 1, at, at + 1), leaf(2 * at + 1000, at, at + 1, 2 * at + 1))
    ]
    found = step_map([made([(100.0, 0.0)], spans=Kept({0: spans}))])
    assert found is not None
    assert len(found.rows) == MOST_STEPS
    assert found.rows[-2].label.endswith(LATER)
    assert found.rows[-2].seconds["inference"] == 100 - (MOST_STEPS - 2)
    assert found.total == 100.0


def test_a_step_map_of_many_tasks_takes_some_evenly() -> None:
    """Of more tasks than a map needs every second is taken, and it says of how many."""
    count = 2 * MOST_TASKS
    spans = {task: [group(1, task, task + 1), leaf(2, task, task + 1 + task % 2, 1)] for task in range(count)}
    found = step_map([made([(1.0, 0.0)] * count, spans=Kept(spans))])
    assert found is not None
    assert (found.tasks, found.among) == (MOST_TASKS, count)
    assert found.total == 1.0  # tasks with an even number


def test_a_step_map_sums_to_the_mean_of_its_tasks(run: Run) -> None:
    """Over a whole run, all cells of the map sum to the mean T_total of the tasks whose spans were kept."""
    found = step_map(run.results)
    assert found is not None
    first = run.results[0]
    assert found.tasks == len(first.response_times)
    assert found.total == pytest.approx(first.response_times.mean(), rel=1e-9)
    for name in CATEGORIES:
        assert sum(row.seconds[name] for row in found.rows) == pytest.approx(first.category(name).mean(), abs=1e-9)


def test_examples_sit_at_their_percentiles(run: Run) -> None:
    """The task of a label is the one nearest to it, and says how many tasks took no longer."""
    view = run.results[0]
    for one in examples(view):
        near = view.task_at(LABELS[one.label])
        assert one.task == near.task
        assert one.total == pytest.approx(near.response_time)
        assert one.share == np.mean(view.response_times <= one.total)
        assert sum(one.categories.values()) == pytest.approx(one.total)


def test_tasks_run_again_are_the_same() -> None:
    """Without spans the first replication runs again, once, for the tasks near the percentiles and others: as if all had been kept."""
    scenario = cs.load("quickstart").replace("workload.tasks", 60)
    bare, full = (cs.simulate(scenario, replications=2, spans=kept).result for kept in ("none", "all"))
    asked: list[Sequence[int]] = []

    def again(tasks: Sequence[int]) -> Result:
        asked.append(tasks)
        return simulate(scenario, scenario.seed, 0, f"tasks {' '.join(map(str, tasks))}")

    def seen(run: Run, again: Callable[[Sequence[int]], Result] | None) -> RunDigest:
        return digest(run.results, run.summary, scenario.workload.warmup, again)

    assert seen(bare, None).examples == ()
    assert seen(bare, again).examples == seen(full, again).examples
    assert seen(bare, again).steps == seen(full, again).steps
    assert len(asked) == 2
    assert set(asked[0]) <= set(range(60))


def test_a_task_of_many_spans_keeps_the_largest() -> None:
    """Of many spans the longest on the critical path are kept; what is left out is counted, and parents are there."""
    steps = [group(at + 1, at, at + 1) for at in range(300)]
    work = [leaf(1000 + at, at, at + 1 / (at + 1), at + 1) for at in range(300)]
    light = [leaf(2000 + at, at, at + 1, at + 1, critical=False) for at in range(300)]
    spans = sorted([*steps, *work, *light], key=lambda one: (one.start, -one.end, one.id))
    view = made([(300.0, 0.0)], spans=Kept({0: spans}))
    one = examples(view)[0]
    assert len(one.spans) == MOST_SPANS
    assert one.left_out == 900 - MOST_SPANS
    kept = [span for span in one.spans if span.category != STRUCTURE]
    assert all(span.critical for span in kept)
    held = sum(span.end - span.start for span in kept)
    assert held + one.left_out_seconds == pytest.approx(sum(1 / (at + 1) for at in range(300)))
    here = {span.id for span in one.spans}
    assert all(span.parent in here for span in one.spans if span.parent)


def test_a_run_with_enough_spans_is_not_run_again() -> None:
    """Enough are a hundred tasks with one within half a hundredth of each percentile; else these and a hundred others are wanted."""
    seconds = [(float(task + 1), 0.0) for task in range(1000)]
    some = [*range(0, 900, 9), 503, 951]
    assert tasks_to_look_at(made(seconds, spans=Kept({task: [leaf(1, 0, 1)] for task in [*some, 989]}))) == ([], [])
    over, near = tasks_to_look_at(made(seconds, spans=Kept({task: [leaf(1, 0, 1)] for task in some})))
    assert near == [499, 949, 989]
    assert len(over) == FEW_TASKS
    assert (over[0], over[-1]) == (0, 999)
    assert set(np.diff(over)) == {10, 11}
    assert tasks_to_look_at(made(seconds[:3], spans=Kept({task: [leaf(1, 0, 1)] for task in range(3)}))) == ([], [])


def test_tasks_chosen_for_their_time_are_not_in_the_map() -> None:
    """The map is over tasks taken evenly: those near a high percentile would make its mean too long."""
    seconds = [(1.0, 0.0)] * 900 + [(10.0, 0.0)] * 100
    view = made(seconds)
    full = replace(view, spans=Kept({task: [leaf(1, 0, seconds[task][0])] for task in range(1000)}))
    over, near = tasks_to_look_at(view)
    found = step_map([full], frozenset(over))
    assert found is not None
    assert found.tasks == len(over) == FEW_TASKS
    assert found.total == pytest.approx(np.mean([seconds[task][0] for task in over]))
    assert {seconds[task][0] for task in near} == {1.0, 10.0}


def test_lost_work_is_recovery_in_the_map_as_in_the_ledger() -> None:
    """In a run with faults and checkpoints, each category of the map is the ledger's: what was done before a loss began is not lost."""
    scenario = cs.load("checkpointing").replace("workload.tasks", 40)
    first = cs.simulate(scenario, replications=1, spans="all").results[0]
    found = step_map([first])
    assert found is not None
    assert first.category("recovery").mean() > 0
    for name in CATEGORIES:
        assert sum(row.seconds[name] for row in found.rows) == pytest.approx(first.category(name).mean(), abs=1e-6)
