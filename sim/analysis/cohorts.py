"""Where the time of the median and of the slowest tasks goes: cohorts around percentiles.

A cohort is the hundredth of a replication's tasks that is nearest to a percentile of T_total (`Result.cohort`; of measured tasks more). Each
replication gives one number of it, and their spread the interval; the parts of a cohort sum to its T_total.

Leaves out: single tasks and their steps (`task_steps`), how it is drawn (`report.sections.run_time`), and tasks that were not done.
Checked: tests/test_cohorts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..engine.ledger import NO_COORDINATION, Account
from .estimator import Estimator
from .result import TASK, Result, categories_of
from .statistics import Array, Estimate, mean_interval, no_estimate

__all__ = [
    "LABELS",
    "MEAN",
    "AccountTime",
    "CohortTime",
    "Cohorts",
    "cohorts",
]

MEAN = "mean"
LABELS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

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

    `growth` is by how much the seconds in a category grow from p50 to p99, paired within replications. `replications` of 0: the tasks
    were measured.
    """

    groups: tuple[CohortTime, ...]
    growth: dict[str, Estimate]
    replications: int
    confidence: float

    def get(self, label: str) -> CohortTime | None:
        """Return the group of a label, if there is one."""
        return next((one for one in self.groups if one.label == label), None)


# ---------------------------------------------------------------------------------------------------------------------
# Cohorts


def cohorts(views: Sequence[Result], confidence: float = 0.95, independent: bool = False) -> Cohorts:
    """Return where the time of all tasks, and of those around each percentile, goes; replications without a task done are left out.

    With one replication the mean has the interval of its batches (of `independent` tasks, of these), and a percentile has none.
    """
    known = [view for view in views if view.response_times.size]
    if not known:
        return Cohorts((), {}, 0, confidence)
    by = Estimator(confidence, independent)
    tables = [_accounts_of(view) for view in known]
    chosen = [{label: _rows_of(view, q) for label, q in LABELS.items()} for view in known]
    groups = [_group(MEAN, known, tables, by)]
    groups += [_group(label, known, tables, by, [one[label] for one in chosen]) for label in LABELS]
    replications = 0 if independent else len(known)
    return Cohorts(tuple(groups), _growth(tables, chosen, known[0].accounts, by), replications, confidence)


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
    split = [by_category(table, accounts) for table in tables]
    names = categories_of(accounts)
    own = [names.index(name) for name in NO_COORDINATION if name in names]
    beside = [one.sum(axis=1) - one[:, own].sum(axis=1) for one in split]
    return CohortTime(
        label=label,
        tasks=sum(len(one) for one in times),
        low=float(min(one.min() for one in times)),
        high=float(max(one.max() for one in times)),
        total=_mean(by, times, whole),
        coordination=_mean(by, beside, whole),
        coordination_share=_share(by, beside, times, whole),
        categories={name: _mean(by, [one[:, at] for one in split], whole) for at, name in enumerate(names)},
        shares={name: _share(by, [one[:, at] for one in split], times, whole) for at, name in enumerate(names)},
        accounts=tuple(
            AccountTime(one.category, one.component, one.name, _mean(by, [table[:, at] for table in tables], whole))
            for at, one in enumerate(accounts)
            if any(table[:, at].any() for table in tables)
        ),
    )


def by_category(table: Array, accounts: Sequence[Account]) -> Array:
    """Return the seconds of each task in each category of `categories_of(accounts)`."""
    return np.stack(
        [
            table[:, [at for at, one in enumerate(accounts) if one.category == name]].sum(axis=1)
            for name in categories_of(accounts)
        ],
        axis=1,
    )


def _mean(by: Estimator, series: Sequence[Array], whole: bool) -> Estimate:
    """Return the mean over replications; of a `whole` single replication with the interval of its batches."""
    if whole:
        return by.mean(series).estimate
    return mean_interval([float(one.mean()) for one in series], by.confidence)


def _share(by: Estimator, parts: Sequence[Array], wholes: Sequence[Array], whole: bool) -> Estimate:
    if whole:
        return by.portion(parts, wholes).estimate
    pairs = [(float(part.sum()), float(total.sum())) for part, total in zip(parts, wholes, strict=True)]
    found = [part / total for part, total in pairs if total]
    return mean_interval(found, by.confidence) if found else no_estimate(by.confidence)


def _growth(
    tables: Sequence[Array], chosen: Sequence[dict[str, Rows]], accounts: Sequence[Account], by: Estimator
) -> dict[str, Estimate]:
    """Return the mean seconds in each category at p99 less those at p50, one number a replication."""
    found = [
        by_category(table[rows["p99"]], accounts).mean(axis=0) - by_category(table[rows["p50"]], accounts).mean(axis=0)
        for table, rows in zip(tables, chosen, strict=True)
    ]
    return {
        name: mean_interval([float(one[at]) for one in found], by.confidence)
        for at, name in enumerate(categories_of(accounts))
    }
