"""Tables of tasks, of spans and of incidents, as Arrow tables: what Parquet files and data frames are made from.

Names carry units, as in `total_s`; facts keep the names that the models gave them.

Leaves out: statistics of any kind.
Checked: tests/test_result.py, tests/test_runfolder.py, tests/test_reliability_report.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.incidents import OPEN, OUTCOMES
from ..engine.ledger import NO_COORDINATION, STATUSES, Ledger, Span
from .result import ARRIVAL, CLASS, END, OVERLAPPED, STATUS, TASK, Result

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def tasks_table(results: Sequence[Result]) -> pa.Table:
    """Return the tasks in view of all results, one row a task; accounts are `category/component/name_s`."""
    import pyarrow as pa

    return pa.concat_tables([_tasks(result) for result in results])


def spans_table(results: Sequence[Result]) -> pa.Table:
    """Return the kept spans of all results, one row a span; `parent` 0 is the task."""
    import pyarrow as pa

    texts = {"name", "category", "component", "status"}
    spans = [(result.replication, span) for result in results for span in result.spans]
    columns: dict[str, Any] = {"replication": pa.array([replication for replication, _ in spans], pa.int64())}
    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    for field in fields(Span):
        # A lane is a hash of 64 bits without a sign.
        kind = pa.uint64() if field.name == "lane" else types[getattr(field.type, "__name__", str(field.type))]
        column = pa.array([getattr(span, field.name) for _, span in spans], kind)
        unit = "_s" if field.name in ("start", "end") else ""
        columns[field.name + unit] = column.dictionary_encode() if field.name in texts else column
    return pa.table(columns)


def incidents_table(results: Sequence[Result]) -> pa.Table:
    """Return the tasks that something went wrong for, one row a task; `cause` is empty where none is known."""
    return _told(
        {
            "replication": result.replication,
            "task": harm.task,
            "arrival_s": harm.arrival,
            "end_s": harm.end,
            "failed": harm.failed,
            "cause": result.incidents.causes[harm.cause].name if harm.cause >= 0 else "",
            "path": harm.path,
            "lost_s": harm.lost,
            "delayed_s": harm.delayed,
        }
        for result in results
        for harm in result.incidents.harms
    )


def strikes_table(results: Sequence[Result]) -> pa.Table:
    """Return the first strikes of each cause, one row a strike: they are examples, and only their counts are of all."""
    return _told(
        {
            "replication": result.replication,
            "cause": cause.name,
            "kind": cause.kind,
            "injected": cause.injected,
            "task": strike.task,
            "component": strike.component,
            "time_s": strike.time,
            "outcome": OUTCOMES[OPEN if strike.outcome is None else strike.outcome],
            "resolved_s": None if strike.outcome is None else strike.resolved,
        }
        for result in results
        for cause, examples in zip(result.incidents.causes, result.incidents.examples, strict=True)
        for strike in examples
    )


def turns_table(results: Sequence[Result]) -> pa.Table:
    """Return the changes of components' states over time, one row a change."""
    return _told(
        {
            "replication": result.replication,
            "time_s": turn.time,
            "component": turn.component,
            "cause": result.incidents.causes[turn.cause].name if turn.cause >= 0 else "",
            "kind": turn.kind,
            "begins": turn.begins,
        }
        for result in results
        for turn in result.incidents.turns
    )


def _told(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Return a table of rows with the same columns."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows))


def frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a data frame."""
    found: pd.DataFrame = table.to_pandas()
    return found


def _tasks(result: Result) -> pa.Table:
    """Return one result's tasks."""
    import pyarrow as pa

    rows = result.tasks
    first = len(Ledger.HEAD) + len(result.facts)
    columns: dict[str, Any] = {
        "replication": np.full(len(rows), result.replication),
        "task": rows[:, TASK].astype(np.int64),
        "class": _named(rows[:, CLASS], result.classes),
        "status": _named(rows[:, STATUS], STATUSES),
        "arrival_s": rows[:, ARRIVAL],
        "end_s": rows[:, END],
        "total_s": rows[:, END] - rows[:, ARRIVAL],
    }
    for category in result.known:
        wanted = [first + i for i, account in enumerate(result.accounts) if account.category == category]
        columns[f"{category}_s"] = rows[:, wanted].sum(axis=1)
    columns["coordination_s"] = sum(columns[f"{name}_s"] for name in result.known if name not in NO_COORDINATION)
    columns["overlapped_s"] = rows[:, OVERLAPPED]
    columns |= {name: rows[:, len(Ledger.HEAD) + i] for i, name in enumerate(result.facts)}
    for i, account in enumerate(result.accounts):
        columns[f"{account.category}/{account.component}/{account.name}_s"] = rows[:, first + i]
    return pa.table(columns)


def _named(codes: np.ndarray, names: Sequence[str]) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(names), pa.string()))
