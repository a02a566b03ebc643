"""One replication's outcome: a row per task, statistics of the resources over time, and example spans.

Plain data: no live object of the run is in it, so it can be pickled, sent and kept. Times are seconds on the clock of
the run. T_total and its parts are those of tasks that were done: failures are counted in `success`, and unfinished tasks
are counted and flagged.

Leaves out: intervals and warnings, which need the other replications (`summarize`).
Checked: tests/test_result.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..engine.incidents import Incidents
from ..engine.ledger import (
    CATEGORIES,
    DONE,
    EVERY,
    NO_COORDINATION,
    UNEXPLAINED,
    UNFINISHED,
    Account,
    Ledger,
    Snapshot,
    Span,
)
from .spans import RawTask, Spans
from .statistics import Array, check_share

if TYPE_CHECKING:
    import pandas as pd

TASK, CLASS, ARRIVAL, END, STATUS, OVERLAPPED = range(len(Ledger.HEAD))
BUSY, PRESENT, ARRIVALS, COMPLETIONS, REJECTIONS, WAITED = range(6)  # of a resource's totals
TOOL_EXECUTE = "tool.execute"
WRONG = "wrong"  # the fact that is 1 for a task that is done, and wrong
COHORT = 0.01  # share of the tasks that stands for a percentile
MEASURED_TASKS, MEASURED_SHARE = 20, 0.1  # of measured tasks, which are few: so many, but no larger a share

Mask = npt.NDArray[np.bool_]


def categories_of(accounts: Iterable[Account]) -> tuple[str, ...]:
    """Return the categories of a ledger with these accounts: what no span explains is one only of those that measured it."""
    return EVERY if any(one.category == UNEXPLAINED for one in accounts) else CATEGORIES


@dataclass(frozen=True, slots=True)
class Meter:
    """A quantity of a resource: the total in column `above` over that in column `below`, or over the time (None)."""

    name: str
    above: int
    below: int | None


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """What a resource is: `kind` is pool, link, limiter or server; `capacity` servers, bytes/s or 1/s, None for no limit.

    `meters` are further quantities, made of totals that follow the six of a pool.
    """

    kind: str
    name: str
    capacity: float | None
    meters: tuple[Meter, ...] = ()


@dataclass(frozen=True, slots=True)
class Cohort:
    """The tasks around a quantile `q` of T_total: their numbers, the mean, and its split (mean seconds a category)."""

    q: float
    tasks: tuple[int, ...]
    low: float
    high: float
    total: float
    categories: dict[str, float]


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task: seconds per account, facts, and its spans if they were kept."""

    task: int
    task_class: str
    arrival: float
    end: float
    accounts: dict[Account, float]
    facts: dict[str, float]
    spans: tuple[Span, ...]

    @property
    def response_time(self) -> float:
        """T_total (s)."""
        return self.end - self.arrival


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One replication.

    `rows` hold every `stride`-th task in order of arrival, shape (tasks, columns); `arrived`, `ended` (done or failed)
    and `failures` count all of them. `snapshots` hold the totals of `resources`, in the same order. `events` were
    scheduled, `end` is the clock at the end, `horizon` tells that a horizon and not the last task ended the run, and
    `doubts` are what the models have to say about their own numbers. Views leave out tasks that arrived before `start`,
    but `incidents` are those of the whole run. With `problems`, task i is a trial of problem i mod `problems`. `flows` are for series over
    time, at arrivals and ends of tasks: a row a time, then server-seconds, customer-seconds and arrivals of each resource until then.
    """

    scenario: str
    seed: int
    replication: int
    rows: Array
    columns: tuple[str, ...]
    accounts: tuple[Account, ...]
    facts: tuple[str, ...]
    classes: tuple[str, ...]
    stride: int
    arrived: int
    ended: int
    failures: dict[str, int]
    snapshots: tuple[Snapshot, ...]
    resources: tuple[ResourceInfo, ...]
    spans: Spans
    events: int
    end: float
    horizon: bool
    doubts: tuple[str, ...]
    incidents: Incidents = field(default_factory=Incidents)
    start: float = 0.0
    problems: int | None = None
    flows: Array = field(default_factory=lambda: np.zeros((0, 1)))

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        *,
        scenario: str,
        seed: int,
        replication: int,
        classes: Sequence[str],
        horizon: bool,
        doubts: Sequence[str],
        resources: Sequence[ResourceInfo],
    ) -> Result:
        """Take what a finished ledger holds; `resources` are those of `ledger.resources`, in order."""
        if len(resources) != len(ledger.resources):
            raise ValueError(f"{len(ledger.resources)} resources are in the ledger, but {len(resources)} are described")
        rows = ledger.rows()
        # A workload of several sources may number its tasks in another order.
        rows = rows[np.argsort(rows[:, ARRIVAL], kind="stable")]
        accounts = tuple(ledger.accounts)
        return cls(
            scenario=scenario,
            seed=seed,
            replication=replication,
            rows=rows,
            columns=ledger.columns,
            accounts=accounts,
            facts=ledger.facts,
            classes=tuple(classes),
            stride=ledger.stride,
            arrived=ledger.arrived,
            ended=ledger.ended - ledger.unfinished,
            failures=dict(sorted(ledger.failures.items())),
            snapshots=tuple(ledger.snapshots),
            resources=tuple(resources),
            spans=Spans([RawTask.of(task) for task in _in_order(ledger)], ledger.chart),
            events=ledger.sim.scheduled,
            end=float(ledger.sim.now),
            horizon=horizon,
            doubts=tuple(doubts),
            incidents=ledger.incidents,
            flows=np.array(ledger.flows, dtype=np.float64),
        )

    def of_problems(self, problems: int | None) -> Result:
        """Return it with its tasks as trials of so many problems, in turn."""
        return replace(self, problems=problems)

    def after(self, cut_time: float) -> Result:
        """Return the view without the tasks that arrived before `cut_time`; resources are observed from then on."""
        return replace(self, start=max(self.start, cut_time))

    # -- tasks

    @property
    def tasks(self) -> Array:
        """The rows of the tasks in view, whatever became of them."""
        return self.rows[np.searchsorted(self.rows[:, ARRIVAL], self.start) :]

    @property
    def status(self) -> Array:
        """What became of each task in view."""
        return self.tasks[:, STATUS]

    @property
    def done(self) -> Mask:
        """Which of the tasks in view were done."""
        done: Mask = self.status == DONE
        return done

    @property
    def right(self) -> Mask:
        """Which of the tasks in view succeeded: done, and not wrong."""
        right = self.done
        if WRONG in self.facts:
            right &= self.tasks[:, len(Ledger.HEAD) + self.facts.index(WRONG)] == 0
        return right

    @property
    def finished(self) -> Mask:
        """Which of the tasks in view were done or failed."""
        finished: Mask = self.status != UNFINISHED
        return finished

    @property
    def unfinished(self) -> int:
        """How many tasks had not ended when the run did, of all."""
        return self.arrived - self.ended

    @property
    def elapsed(self) -> Array:
        """Seconds from arrival to end of each task in view, be it done, failed or cut off by the end of the run."""
        tasks = self.tasks
        return tasks[:, END] - tasks[:, ARRIVAL]

    @property
    def response_times(self) -> Array:
        """T_total of each task that was done (s); every array per task below goes with it."""
        return self.elapsed[self.done]

    @property
    def task_classes(self) -> Array:
        """The class of each task that was done, an index into `classes`."""
        return self._column(CLASS)

    @property
    def overlapped(self) -> Array:
        """Seconds of work beside the critical path, per task."""
        return self._column(OVERLAPPED)

    def fact(self, name: str) -> Array:
        """Return what was counted under `name`, per task; all zeros when nothing is counted under that name."""
        if name not in self.facts:
            return np.zeros(np.count_nonzero(self.done))
        return self._column(len(Ledger.HEAD) + self.facts.index(name))

    def account(self, index: int) -> Array:
        """Return the seconds in one account, per task."""
        return self._column(self._first_account + index)

    def category(self, name: str) -> Array:
        """Return the seconds in one category, per task."""
        if name not in self.known:
            raise ValueError(f"`name` must be one of {self.known}, but got {name!r}")
        return self._sum([i for i, account in enumerate(self.accounts) if account.category == name])

    @property
    def known(self) -> tuple[str, ...]:
        """The categories: those of the ledger, and of a measured one what no span explains."""
        return categories_of(self.accounts)

    def categories(self) -> Array:
        """Return the seconds in every category (`known`), shape (tasks, categories)."""
        return np.stack([self.category(name) for name in self.known], axis=1)

    @property
    def coordination(self) -> Array:
        """T_coordination per task: T_total without inference and without waiting for people."""
        return self._sum([i for i, account in enumerate(self.accounts) if _is_coordination(account)])

    @property
    def coordination_without_tool_execute(self) -> Array:
        """T_coordination per task without the tools' own work, which is useful work."""
        wanted = [
            i for i, one in enumerate(self.accounts) if _is_coordination(one) and (one.category, one.name) != _EXECUTE
        ]
        return self._sum(wanted)

    def accounts_mean(self) -> dict[Account, float]:
        """Return the mean seconds per task in each account; nan when no task was done."""
        done = self.tasks[self.done, self._first_account :]
        means = done.mean(axis=0).tolist() if len(done) else [math.nan] * len(self.accounts)
        return dict(zip(self.accounts, means, strict=True))

    def cohort(self, q: float) -> Cohort:
        """Return the hundredth of the tasks that is nearest to quantile `q` of T_total, and where their time went.

        Measured tasks are few: there it is `MEASURED_TASKS`, but no more than a tenth of them, nor than lie evenly around the quantile.
        """
        check_share("q", q)
        times = self._some()
        size = max(1, round(COHORT * times.size))
        if UNEXPLAINED in self.known:
            fit = math.floor(1e-9 + times.size * min(MEASURED_SHARE, 2 * q, 2 * (1 - q)))
            size = max(size, min(MEASURED_TASKS, fit))
        first = min(max(0, round(q * (times.size - 1) - (size - 1) / 2)), times.size - size)
        chosen = np.argsort(times, kind="stable")[first : first + size]
        means = self.categories()[chosen].mean(axis=0).tolist()
        return Cohort(
            q,
            tuple(int(i) for i in self.tasks[self.done, TASK][chosen]),
            float(times[chosen].min()),
            float(times[chosen].max()),
            float(times[chosen].mean()),
            dict(zip(self.known, means, strict=True)),
        )

    def task_at(self, q: float) -> TaskView:
        """Return the task whose T_total is nearest to quantile `q`: one with spans, when spans were kept."""
        check_share("q", q)
        times, rows = self._some(), self.tasks[self.done]
        distance = np.abs(times - np.quantile(times, q))
        with_spans = np.isin(rows[:, TASK], np.array(self.spans.tasks))
        if with_spans.any():
            distance = np.where(with_spans, distance, np.inf)
        row = rows[int(np.argmin(distance))]
        facts = row[len(Ledger.HEAD) : self._first_account].tolist()
        parts = zip(self.accounts, row[self._first_account :].tolist(), strict=True)
        task = int(row[TASK])
        return TaskView(
            task,
            self.classes[int(row[CLASS])],
            float(row[ARRIVAL]),
            float(row[END]),
            dict(parts),
            dict(zip(self.facts, facts, strict=True)),
            self.spans.of(task),
        )

    # -- time

    @property
    def window(self) -> tuple[float, float]:
        """The stretch of time (s) over which rates and resources are observed.

        It ends with the last arrival, since what follows is only draining; but with the last task if most tasks ended
        after the last arrival (a burst), or if a horizon cut tasks off.
        """
        tasks = self.tasks
        if not len(tasks):
            return self.start, max(self.start, self.end)
        last, end = float(tasks[-1, ARRIVAL]), float(tasks[:, END].max())
        steady = 2 * np.count_nonzero(tasks[:, END] <= last) >= len(tasks) and last > self.start
        cut_off = self.horizon and not self.finished.all()
        return self.start, last if steady and not cut_off else end

    def number_in_system(self, times: Array) -> Array:
        """Return how many tasks were in the system at each of `times`, warm-up included."""
        arrived = np.searchsorted(self.rows[:, ARRIVAL], times, side="right")
        ended = np.searchsorted(np.sort(self.rows[:, END]), times, side="right")
        return np.asarray(self.stride * (arrived - ended), dtype=np.float64)

    def totals(self, resource: int, column: int, times: Array) -> Array:
        """Return a column of a resource's totals at each of `times`, in a straight line from snapshot to snapshot."""
        when = np.array([0.0, *(snapshot.time for snapshot in self.snapshots)])
        level = np.array([0.0, *(snapshot.resources[resource][column] for snapshot in self.snapshots)])
        found: Array = np.interp(times, when, level)
        return found

    def flow(self, resource: int, column: int, times: Array) -> Array:
        """Return BUSY, PRESENT or ARRIVALS of a resource until each of `times`, as `totals` does, but known at more times."""
        if not len(self.flows):
            return self.totals(resource, column, times)
        when, level = self.flows[:, 0], self.flows[:, 1 + 3 * resource + column]
        found: Array = np.interp(times, np.concatenate([[0.0], when]), np.concatenate([[0.0], level]))
        return found

    # -- tables

    def to_frame(self) -> pd.DataFrame:
        """Return the tasks in view as a table, one row a task; names carry units, as in `total_s`."""
        from .frames import frame, tasks_table

        return frame(tasks_table([self]))

    def spans_frame(self) -> pd.DataFrame:
        """Return the kept spans as a table, one row a span."""
        from .frames import frame, spans_table

        return frame(spans_table([self]))

    # -- inside

    @property
    def _first_account(self) -> int:
        return len(Ledger.HEAD) + len(self.facts)

    def _column(self, index: int) -> Array:
        column: Array = self.tasks[self.done, index]
        return column

    def _sum(self, accounts: list[int]) -> Array:
        first = self._first_account
        seconds: Array = self.tasks[:, [first + i for i in accounts]].sum(axis=1)
        done: Array = seconds[self.done]
        return done

    def _some(self) -> Array:
        times = self.response_times
        if not times.size:
            raise ValueError(f"no task of {self.scenario}, replication {self.replication}, was done in view")
        return times


_EXECUTE = ("tool", TOOL_EXECUTE)


def _is_coordination(account: Account) -> bool:
    return account.category not in NO_COORDINATION


def _in_order(ledger: Ledger) -> list[Any]:
    return sorted(ledger.kept, key=lambda task: task.index)
