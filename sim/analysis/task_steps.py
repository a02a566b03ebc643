"""Tasks looked at through their spans: where the time of each step goes, and single tasks near the percentiles of T_total.

Leaves out: how it is drawn (`report.sections.run_time`), and tasks that were not done.
Checked: tests/test_cohorts.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..engine.ledger import STRUCTURE, Span
from .cohorts import LABELS, by_category
from .result import ARRIVAL, CLASS, COHORT, END, TASK, Result, categories_of
from .statistics import Array

__all__ = [
    "LATER",
    "MOST_SPANS",
    "MOST_STEPS",
    "MOST_TASKS",
    "OUTSIDE",
    "StepMap",
    "StepRow",
    "TaskExample",
    "booked",
    "examples",
    "members_of_steps",
    "step_map",
    "steps_of",
    "tasks_to_look_at",
]

MOST_STEPS = 24  # rows of a step map, the last for all later ones
MOST_TASKS = 200  # in a step map: of more, every second, every third ...
FEW_TASKS = 100  # with spans: fewer say too little of the steps
MOST_SPANS, MOST_GROUPS = 400, 250  # of an example; and how many of these only group others
STEPS = ("invoke_agent", "step", "stage")  # names of spans that are steps of a workflow, or turns of its agents
OUTSIDE, LATER = "outside any step", "and later"
RECOVERY = "recovery"  # where the ledger has the time of lost work


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


def step_map(views: Sequence[Result], tasks: Collection[int] | None = None) -> StepMap | None:
    """Return seconds on the critical path by step and category, over the tasks in view that were done and kept their spans.

    Only of these `tasks`, if they are given: those that were chosen for their T_total say nothing of the mean. None without any. Spans are
    kept of one replication.
    """
    for view in views:
        kept = [task for task in _with_spans(view) if tasks is None or task in tasks]
        if kept:
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
    names = view.known
    outside = dict.fromkeys(names, 0.0)
    without = 0
    for task in kept:
        spans = view.spans.of(task)
        per_step, beside = _steps_of_task(spans, names)
        while len(seconds) < len(per_step):
            seconds.append(dict.fromkeys(names, 0.0))
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
        last = dict.fromkeys(names, 0.0)
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
    """Return whose step it is in all tasks, or in most of them."""
    who, times = found.most_common(1)[0]
    if not who:  # measured, by nobody who has a name
        return ""
    return f": {who}" if len(found) == 1 else f": mostly {who}" if 2 * times > found.total() else ": several"


def _steps_of_task(spans: Sequence[Span], names: Sequence[str]) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Return the seconds on the critical path by category in each step, and outside of any."""
    places = members_of_steps(spans)
    per_step = [dict.fromkeys(names, 0.0) for _ in steps_of(spans)]
    beside = dict.fromkeys(names, 0.0)
    for one in spans:
        if one.critical and one.category != STRUCTURE:
            place = places.get(one.id)
            (beside if place is None else per_step[place])[booked(one)] += one.end - one.start
    return per_step, beside


def _add(to: dict[str, float], parts: dict[str, float]) -> None:
    to.update({name: to[name] + value for name, value in parts.items()})


# ---------------------------------------------------------------------------------------------------------------------
# Examples


def tasks_to_look_at(view: Result) -> tuple[list[int], list[int]]:
    """Return the tasks whose spans a step map wants, evenly over the run, and those examples want, nearest to each percentile of T_total.

    None of either where enough of them were kept: `FEW_TASKS`, one of them in the cohort of each percentile.
    """
    times, numbers = view.response_times, view.tasks[view.done, TASK]
    if not times.size:
        return [], []
    kept = np.isin(numbers, np.array(_with_spans(view)))
    nearest = [np.abs(times - np.quantile(times, q)) for q in LABELS.values()]
    hit = kept.any() and all(
        abs(_rank_of(times, int(np.argmin(np.where(kept, near, np.inf)))) - q) <= COHORT / 2
        for near, q in zip(nearest, LABELS.values(), strict=True)
    )
    if kept.all() or (hit and np.count_nonzero(kept) >= FEW_TASKS):
        return [], []
    over = np.linspace(0, numbers.size - 1, min(FEW_TASKS, numbers.size)).round().astype(int)
    return numbers[over].astype(int).tolist(), [int(numbers[int(np.argmin(near))]) for near in nearest]


def examples(view: Result) -> tuple[TaskExample, ...]:
    """Return of the tasks with spans the one nearest to each percentile of T_total; none where no spans were kept."""
    times, numbers = view.response_times, view.tasks[view.done, TASK]
    kept = np.isin(numbers, np.array(_with_spans(view)))
    if not kept.any():
        return ()
    found: list[TaskExample] = []
    for label, q in LABELS.items():
        at = int(np.argmin(np.where(kept, np.abs(times - np.quantile(times, q)), np.inf)))
        found.append(_example(label, view, int(numbers[at]), times, float(times[at])))
    return tuple(found)


def _rank_of(times: Array, at: int) -> float:
    """Return which share of tasks took no longer than one of them."""
    return float(np.mean(times <= times[at]))


def _example(label: str, source: Result, task: int, times: Array, total: float) -> TaskExample:
    row = source.rows[np.flatnonzero(source.rows[:, TASK] == task)[0]]
    spans = source.spans.of(task)
    few = _largest(spans)
    here = {one.id for one in few}
    parts = by_category(row[None, len(source.columns) - len(source.accounts) :], source.accounts)[0].tolist()
    return TaskExample(
        label=label,
        task=task,
        task_class=source.classes[int(row[CLASS])],
        arrival=float(row[ARRIVAL]),
        end=float(row[END]),
        share=float(np.mean(times <= total)),
        among=int(times.size),
        categories=dict(zip(categories_of(source.accounts), parts, strict=True)),
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
