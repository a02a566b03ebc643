"""Where the time of the median and of the slowest tasks goes: cohorts around percentiles, steps in order, and single tasks.

A cohort is the hundredth of a replication's tasks that is nearest to a percentile of T_total (`Result.cohort`). Each replication
gives one number of it, and their spread the interval; the parts of a cohort sum to its T_total.

Leaves out: how it is drawn (`report.sections.run_time`), and tasks that were not done.
Checked: tests/test_cohorts.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..engine.ledger import CATEGORIES, NO_COORDINATION, STRUCTURE, Account, Span
from .estimator import Estimator
from .result import ARRIVAL, CLASS, COHORT, END, TASK, Result
from .statistics import Array, Estimate, mean_interval, no_estimate

__all__ = [
    "LABELS",
    "LATER",
    "MEAN",
    "AccountTime",
    "CohortTime",
    "Cohorts",
    "StepMap",
    "StepRow",
    "TaskExample",
    "booked",
    "cohorts",
    "examples",
    "members_of_steps",
    "step_map",
    "steps_of",
]

MEAN = "mean"
LABELS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
MOST_STEPS = 24  # rows of a step map, the last for all later ones
MOST_TASKS = 200  # in a step map: of more, every second, every third ...
MOST_SPANS, MOST_GROUPS = 400, 250  # of an example; and how many of these only group others
STEPS = ("invoke_agent", "step", "stage")  # names of spans that are steps of a workflow, or turns of its agents
OUTSIDE, LATER = "outside any step", "and later"
RECOVERY = "recovery"  # where the ledger has the time of lost work

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class AccountTime:
    """The mean seconds a task in one account of the ledger."""

    category: str
    component: str
    name: str
    seconds: Estimate


@dataclass(frozen=True, slots=True)
class CohortTime:
    """Tasks around a percentile (`label`; 'mean' for all), all replications together: T_total and its parts, mean seconds a task.

    `tasks` of them were done and are counted; T_total of each lies between `low` and `high` (s). `shares` are of T_total.
    `categories` and `shares` hold every category of the ledger, `accounts` those that hold any time.
    """

    label: str
    tasks: int
    low: float
    high: float
    total: Estimate
    coordination: Estimate
    coordination_share: Estimate
    categories: dict[str, Estimate]
    shares: dict[str, Estimate]
    accounts: tuple[AccountTime, ...]


@dataclass(frozen=True, slots=True)
class Cohorts:
    """All tasks and those around p50, p95 and p99, in this order; none where no task was done.

    `growth` is by how much the seconds in a category grow from p50 to p99, paired within replications.
    """

    groups: tuple[CohortTime, ...]
    growth: dict[str, Estimate]
    replications: int
    confidence: float

    def get(self, label: str) -> CohortTime | None:
        """Return the group of a label, if there is one."""
        return next((one for one in self.groups if one.label == label), None)


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step by its place in the task: how many `tasks` had it on their critical path, and seconds by category.

    The seconds are means over all tasks of the map, those without the step included: so the rows sum to T_total.
    """

    label: str
    tasks: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class StepMap:
    """Seconds on the critical path by step, over `tasks` out of `among` of one replication whose spans were kept; `total` is T_total (s).

    The last row is the time outside of any step. The one before it holds all later steps where there are many.
    """

    tasks: int
    among: int
    replication: int
    total: float
    rows: tuple[StepRow, ...]


@dataclass(frozen=True, slots=True)
class TaskExample:
    """One task of the first replication near a percentile (`label`), with its spans.

    `share` of `among` tasks done took no longer than it. Of its spans `left_out` are not here, and with them `left_out_seconds` of
    the critical path; the parent of a span is one that is here. `categories` are of the whole task.
    """

    label: str
    task: int
    task_class: str
    arrival: float
    end: float
    share: float
    among: int
    categories: dict[str, float]
    spans: tuple[Span, ...]
    left_out: int
    left_out_seconds: float

    @property
    def total(self) -> float:
        """T_total (s)."""
        return self.end - self.arrival


# ---------------------------------------------------------------------------------------------------------------------
# Cohorts


def cohorts(views: Sequence[Result], confidence: float = 0.95) -> Cohorts:
    """Return where the time of all tasks, and of those around each percentile, goes; replications without a task done are left out.

    With one replication the mean has the interval of its batches, and a percentile has none.
    """
    known = [view for view in views if view.response_times.size]
    if not known:
        return Cohorts((), {}, 0, confidence)
    by = Estimator(confidence)
    tables = [_accounts_of(view) for view in known]
    chosen = [{label: _rows_of(view, q) for label, q in LABELS.items()} for view in known]
    groups = [_group(MEAN, known, tables, by)]
    groups += [_group(label, known, tables, by, [one[label] for one in chosen]) for label in LABELS]
    return Cohorts(tuple(groups), _growth(tables, chosen, known[0].accounts, by), len(known), confidence)


def _accounts_of(view: Result) -> Array:
    """Return the seconds of each task done in each account, shape (tasks, accounts)."""
    found: Array = view.tasks[view.done][:, len(view.columns) - len(view.accounts) :]
    return found


def _rows_of(view: Result, q: float) -> Rows:
    """Return which of the tasks done are the cohort of a quantile."""
    return np.flatnonzero(np.isin(view.tasks[view.done, TASK], view.cohort(q).tasks))


def _group(
    label: str, views: Sequence[Result], tables: Sequence[Array], by: Estimator, chosen: Sequence[Rows] | None = None
) -> CohortTime:
    """Return the means over the `chosen` rows of each replication, or over all."""
    times = [view.response_times for view in views]
    if chosen is not None:
        times = [one[rows] for one, rows in zip(times, chosen, strict=True)]
        tables = [one[rows] for one, rows in zip(tables, chosen, strict=True)]
    # Of a cohort, each replication is one observation: its tasks are neighbours in rank, so their spread says nothing.
    whole = chosen is None
    accounts = views[0].accounts
    split = [_by_category(table, accounts) for table in tables]
    own = [CATEGORIES.index(name) for name in NO_COORDINATION]
    beside = [one.sum(axis=1) - one[:, own].sum(axis=1) for one in split]
    return CohortTime(
        label=label,
        tasks=sum(len(one) for one in times),
        low=float(min(one.min() for one in times)),
        high=float(max(one.max() for one in times)),
        total=_mean(by, times, whole),
        coordination=_mean(by, beside, whole),
        coordination_share=_share(by, beside, times, whole),
        categories={name: _mean(by, [one[:, at] for one in split], whole) for at, name in enumerate(CATEGORIES)},
        shares={name: _share(by, [one[:, at] for one in split], times, whole) for at, name in enumerate(CATEGORIES)},
        accounts=tuple(
            AccountTime(one.category, one.component, one.name, _mean(by, [table[:, at] for table in tables], whole))
            for at, one in enumerate(accounts)
            if any(table[:, at].any() for table in tables)
        ),
    )


def _by_category(table: Array, accounts: Sequence[Account]) -> Array:
    return np.stack(
        [table[:, [at for at, one in enumerate(accounts) if one.category == name]].sum(axis=1) for name in CATEGORIES],
        axis=1,
    )


def _mean(by: Estimator, series: Sequence[Array], whole: bool) -> Estimate:
    """Return the mean over replications; of a `whole` single replication with the interval of its batches."""
    if whole:
        return by.mean(series).estimate
    return mean_interval([float(one.mean()) for one in series], by.confidence)


def _share(by: Estimator, parts: Sequence[Array], wholes: Sequence[Array], whole: bool) -> Estimate:
    if whole:
        return by.ratio(parts, wholes).estimate
    pairs = [(float(part.sum()), float(total.sum())) for part, total in zip(parts, wholes, strict=True)]
    found = [part / total for part, total in pairs if total]
    return mean_interval(found, by.confidence) if found else no_estimate(by.confidence)


def _growth(
    tables: Sequence[Array], chosen: Sequence[dict[str, Rows]], accounts: Sequence[Account], by: Estimator
) -> dict[str, Estimate]:
    """Return the mean seconds in each category at p99 less those at p50, one number a replication."""
    found = [
        _by_category(table[rows["p99"]], accounts).mean(axis=0)
        - _by_category(table[rows["p50"]], accounts).mean(axis=0)
        for table, rows in zip(tables, chosen, strict=True)
    ]
    return {name: mean_interval([float(one[at]) for one in found], by.confidence) for at, name in enumerate(CATEGORIES)}


# ---------------------------------------------------------------------------------------------------------------------
# Steps


def steps_of(spans: Iterable[Span]) -> list[Span]:
    """Return the steps of a task on its critical path, in order: turns of agents, and steps and stages that hold no other step."""
    known = [one for one in spans if one.category == STRUCTURE and one.name in STEPS]
    holds = _around(known, {one.id: one.parent for one in spans if one.category == STRUCTURE})
    return [one for one in known if one.critical and one.id not in holds]


def _around(steps: Iterable[Span], parents: dict[int, int]) -> set[int]:
    """Return the ids of what holds any of these steps."""
    found: set[int] = set()
    for one in steps:
        at = one.parent
        while at and at not in found:
            found.add(at)
            at = parents.get(at, 0)
    return found


def members_of_steps(spans: Sequence[Span]) -> dict[int, int]:
    """Return for the id of each span that lies in a step the place of that step, counted from 0."""
    places = {one.id: place for place, one in enumerate(steps_of(spans))}
    parents = {one.id: one.parent for one in spans if one.category == STRUCTURE}
    found: dict[int, int] = {}
    for one in spans:
        at = one.id if one.category == STRUCTURE else one.parent
        while at and at not in places:
            at = parents.get(at, 0)
        if at:
            found[one.id] = places[at]
    return found


def booked(span: Span) -> str:
    """Return the category in which the ledger has the time of a span: that of lost work is recovery."""
    return RECOVERY if span.lost else span.category


def step_map(views: Sequence[Result]) -> StepMap | None:
    """Return seconds on the critical path by step and category, over the tasks in view that were done and kept their spans.

    None without any. Spans are kept of one replication.
    """
    for view in views:
        kept = _with_spans(view)
        if len(kept):
            return _step_map(view, kept)
    return None


def _with_spans(view: Result) -> list[int]:
    """Return the tasks in view that were done and kept their spans, in order."""
    there = set(view.spans.tasks)
    return [int(task) for task in view.tasks[view.done, TASK] if int(task) in there]


def _step_map(view: Result, kept: Sequence[int]) -> StepMap:
    among = len(kept)
    kept = kept[:: math.ceil(among / MOST_TASKS)]
    seconds: list[dict[str, float]] = []
    who: list[Counter[str]] = []
    outside = dict.fromkeys(CATEGORIES, 0.0)
    without = 0
    for task in kept:
        spans = view.spans.of(task)
        per_step, beside = _steps_of_task(spans)
        while len(seconds) < len(per_step):
            seconds.append(dict.fromkeys(CATEGORIES, 0.0))
            who.append(Counter())
        for place, (parts, step) in enumerate(zip(per_step, steps_of(spans), strict=True)):
            who[place][step.component] += 1
            _add(seconds[place], parts)
        _add(outside, beside)
        without += any(beside.values())
    rows = [
        StepRow(f"step {place + 1}{_name(found)}", found.total(), parts)
        for place, (found, parts) in enumerate(zip(who, seconds, strict=True))
    ]
    if len(rows) > MOST_STEPS - 1:  # one row is for what lies outside
        rows, late = rows[: MOST_STEPS - 2], rows[MOST_STEPS - 2 :]
        last = dict.fromkeys(CATEGORIES, 0.0)
        for row in late:
            _add(last, row.seconds)
        # Who has a later step has the first of them.
        rows.append(StepRow(f"step {MOST_STEPS - 1} {LATER}", late[0].tasks, last))
    rows.append(StepRow(OUTSIDE, without, outside))
    count = len(kept)
    rows = [replace(row, seconds={name: value / count for name, value in row.seconds.items()}) for row in rows]
    total = math.fsum(value for row in rows for value in row.seconds.values())
    return StepMap(count, among, view.replication, total, tuple(rows))


def _name(found: Counter[str]) -> str:
    """Return whose step it is, where it is the same one in all tasks."""
    return f": {next(iter(found))}" if len(found) == 1 else ""


def _steps_of_task(spans: Sequence[Span]) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Return the seconds on the critical path by category in each step, and outside of any."""
    places = members_of_steps(spans)
    per_step = [dict.fromkeys(CATEGORIES, 0.0) for _ in steps_of(spans)]
    beside = dict.fromkeys(CATEGORIES, 0.0)
    for one in spans:
        if one.critical and one.category != STRUCTURE:
            place = places.get(one.id)
            (beside if place is None else per_step[place])[booked(one)] += one.end - one.start
    return per_step, beside


def _add(to: dict[str, float], parts: dict[str, float]) -> None:
    to.update({name: to[name] + value for name, value in parts.items()})


# ---------------------------------------------------------------------------------------------------------------------
# Examples


def examples(view: Result, again: Callable[[int], Result] | None = None) -> tuple[TaskExample, ...]:
    """Return a task near each percentile of T_total, with its spans: none where no spans are to be had.

    `again(task)` runs the replication anew, keeping the spans of this task; it is asked where no task with spans is of the cohort of the
    percentile. Without it, the nearest task with spans is taken.
    """
    times, numbers = view.response_times, view.tasks[view.done, TASK]
    if not times.size:
        return ()
    kept = np.isin(numbers, np.array(_with_spans(view)))
    if again is None and not kept.any():
        return ()
    found: list[TaskExample] = []
    made: dict[int, TaskExample] = {}
    for label, q in LABELS.items():
        near = np.abs(times - np.quantile(times, q))
        at = int(np.argmin(np.where(kept, near, np.inf)))
        if again is not None and not (kept[at] and abs(_rank_of(times, at) - q) <= COHORT / 2):
            at = int(np.argmin(near))
        task = int(numbers[at])
        if task not in made:
            source = view if kept[at] or again is None else again(task)
            made[task] = _example(label, source, task, times, float(times[at]))
        found.append(replace(made[task], label=label))
    return tuple(found)


def _rank_of(times: Array, at: int) -> float:
    """Return which share of tasks took no longer than one of them."""
    return float(np.mean(times <= times[at]))


def _example(label: str, source: Result, task: int, times: Array, total: float) -> TaskExample:
    row = source.rows[np.flatnonzero(source.rows[:, TASK] == task)[0]]
    spans = source.spans.of(task)
    few = _largest(spans)
    here = {one.id for one in few}
    parts = _by_category(row[None, len(source.columns) - len(source.accounts) :], source.accounts)[0].tolist()
    return TaskExample(
        label=label,
        task=task,
        task_class=source.classes[int(row[CLASS])],
        arrival=float(row[ARRIVAL]),
        end=float(row[END]),
        share=float(np.mean(times <= total)),
        among=int(times.size),
        categories=dict(zip(CATEGORIES, parts, strict=True)),
        spans=few,
        left_out=len(spans) - len(few),
        left_out_seconds=math.fsum(_critical_seconds(one) for one in spans if one.id not in here),
    )


def _critical_seconds(span: Span) -> float:
    return span.end - span.start if span.critical and span.category != STRUCTURE else 0.0


def _largest(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return at most `MOST_SPANS`, in order: first what groups others, outermost first, then what is critical, the longest first."""
    if len(spans) <= MOST_SPANS:
        return tuple(spans)
    groups = sorted(
        (one for one in spans if one.category == STRUCTURE), key=lambda one: (bool(one.parent), *_rank(one))
    )
    kept = groups[:MOST_GROUPS]
    rest = sorted((one for one in spans if one.category != STRUCTURE), key=_rank)
    kept += rest[: MOST_SPANS - len(kept)]
    here = {one.id for one in kept}
    parents = {one.id: one.parent for one in groups}
    return tuple(replace(one, parent=_nearest(one.parent, here, parents)) for one in spans if one.id in here)


def _rank(span: Span) -> tuple[bool, float, float, int]:
    return not span.critical, span.start - span.end, span.start, span.id


def _nearest(parent: int, here: set[int], parents: dict[int, int]) -> int:
    while parent and parent not in here:
        parent = parents.get(parent, 0)
    return parent
