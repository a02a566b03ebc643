"""Finding the task to look at: by number, or by a percentile of T_total; in a result or in a run folder.

Leaves out: drawing it (`timeline`).
Checked: tests/test_report.py, tests/test_cli.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.result import CLASS, END, TASK, Result, TaskView
from ..analysis.runfolder import RunFolder
from ..engine.errors import CoordsimError
from ..engine.ledger import EVERY, Account, Ledger, Span
from .numbers import counted

if TYPE_CHECKING:
    import pandas as pd

_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


class TaskError(CoordsimError):
    """A task that cannot be shown: which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The task asked for: a number, or a percentile of T_total (`q`)."""

    text: str
    number: int | None = None
    q: float | None = None


def wanted(text: str) -> Wanted:
    """Read `p99`, `p99.9`, `max` or a task's number. Raises TaskError.

    >>> wanted("p99").q, wanted("12").number
    (0.99, 12)
    """
    if text.isascii() and text.isdigit():
        return Wanted(text, number=int(text))
    if text == "max":
        return Wanted(text, q=1.0)
    match = _QUANTILE.fullmatch(text)
    if match is None:
        raise TaskError(f"a task is named by a percentile of T_total such as `p99`, `max`, or its number; got `{text}`")
    return Wanted(text, q=float(f"{match[1]}e-2"))


def pick(result: Result, which: Wanted, *, replication: bool = True) -> int:
    """Return the number of the task, among those in view. Raises TaskError when it is not there; without `replication` there are none to name."""
    if which.number is not None:
        if which.number not in result.rows[:, TASK]:
            raise TaskError(_absent(which.number, len(result.rows), result.arrived, result.stride, replication))
        return which.number
    numbers, times = result.tasks[result.done, TASK], result.response_times
    return int(_nearest(numbers, times, which))


def title(task: int, which: Wanted, among: int | None = None, *, replication: bool = True) -> str:
    """Return how a timeline calls the task; `among` tells that only so many were looked at. A trace has no `replication`.

    >>> title(26, wanted("p99")), title(26, wanted("p99"), among=4)
    ('task 26 of replication 0, at p99 of T_total', 'task 26 of replication 0, at p99 of T_total among 4 with spans')
    """
    place = "" if which.q is None else ", the longest" if which.text == "max" else f", at {which.text} of T_total"
    of = " of replication 0" if replication else ""
    return f"task {task}{of}{place}{f' among {among} with spans' if place and among else ''}"


def view_of(result: Result, task: int) -> TaskView:
    """Return the task with the spans that were kept of it, whatever became of it."""
    row = result.rows[np.flatnonzero(result.rows[:, TASK] == task)[0]].tolist()
    head = len(Ledger.HEAD)
    facts, seconds = row[head : head + len(result.facts)], row[head + len(result.facts) :]
    parts = dict(zip(result.accounts, seconds, strict=True))
    spans = tuple(span for span in result.spans if span.task == task)
    group = result.classes[int(row[CLASS])]
    return TaskView(task, group, row[2], row[END], parts, dict(zip(result.facts, facts, strict=True)), spans)


def view_in_folder(folder: RunFolder, which: Wanted) -> tuple[TaskView, str]:
    """Return the task of replication 0 nearest to what is wanted, among those whose spans are in the folder; its title.

    Raises RunFolderError when it holds no spans, and TaskError when none of them is of the task.
    """
    spans = folder.spans()
    spans = spans[spans["replication"] == 0]
    tasks = folder.tasks()
    every = tasks[tasks["replication"] == 0]
    tasks = every[every["task"].isin(spans["task"].unique())]
    if which.number is not None:
        rows = tasks[tasks["task"] == which.number]
        arrived = folder.summary.tasks.arrived // folder.summary.replications
        if not len(rows) and folder.summary.replications == 1 and which.number >= arrived:
            raise TaskError(_absent(which.number, len(every), arrived, 1))
        if not len(rows):
            raise TaskError(
                f"{folder.path} holds no spans of task {which.number} of replication 0; run the scenario with "
                f"`--show-task {which.number}`, or with `--spans all`"
            )
        number = which.number
    else:
        done = tasks[tasks["status"] == "done"]
        number = int(_nearest(done["task"].to_numpy(), done["total_s"].to_numpy(), which))
        rows = tasks[tasks["task"] == number]
    kept = len(tasks) if len(tasks) < folder.summary.tasks.arrived / folder.summary.replications else None
    return _view(rows.iloc[0], spans[spans["task"] == number]), title(number, which, kept)


def _nearest(numbers: np.ndarray, times: np.ndarray, which: Wanted) -> Any:
    if not len(times):
        raise TaskError(f"there is no task at {which.text}: none was done; name one by its number, from 0 on")
    return numbers[int(np.argmin(np.abs(times - np.quantile(times, which.q or 0.0))))]


def _absent(number: int, rows: int, arrived: int, stride: int, replication: bool = True) -> str:
    if number >= arrived:
        of = " in replication 0" if replication else ""
        return f"there is no task {number}: {counted(arrived, 'task')} arrived{of}, numbered from 0"
    kept = f"only every {stride}th" if stride > 1 else f"{rows}"
    return f"task {number} was not kept: of a run this long {kept} task is; try {number - number % stride}"


def _view(row: pd.Series[Any], spans: pd.DataFrame) -> TaskView:
    """Return a row of the table of tasks and its spans as they were before they were written."""
    accounts: dict[Account, float] = {}
    facts: dict[str, float] = {}
    plain = {
        "replication",
        "task",
        "class",
        "status",
        "coordination_s",
        "overlapped_s",
        "arrival_s",
        "end_s",
        "total_s",
    }
    plain |= {f"{category}_s" for category in EVERY}
    for column, value in row.items():
        name = str(column)
        if "/" in name:
            category, _, rest = name.removesuffix("_s").partition("/")
            component, _, doing = rest.rpartition("/")
            accounts[Account(category, component, doing)] = float(value)
        elif name not in plain:
            facts[name] = float(value)
    return TaskView(
        int(row["task"]),
        str(row["class"]),
        float(row["arrival_s"]),
        float(row["end_s"]),
        accounts,
        facts,
        _spans(spans),
    )


def _spans(table: pd.DataFrame) -> tuple[Span, ...]:
    names: Sequence[str] = list(Span.__dataclass_fields__)
    columns = [table[name if name in table else f"{name}_s"].tolist() for name in names]
    return tuple(Span(*values) for values in zip(*columns, strict=True))
