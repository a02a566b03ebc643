"""Tables of tasks and of spans, as Arrow tables: what Parquet files and data frames are made from.

Names carry units, as in `total_s`; facts keep the names that the models gave them.

Leaves out: statistics of any kind.
Checked: tests/test_result.py, tests/test_runfolder.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.ledger import CATEGORIES, NO_COORDINATION, STATUSES, Ledger, Span
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
    for category in CATEGORIES:
        wanted = [first + i for i, account in enumerate(result.accounts) if account.category == category]
        columns[f"{category}_s"] = rows[:, wanted].sum(axis=1)
    columns["coordination_s"] = sum(columns[f"{name}_s"] for name in CATEGORIES if name not in NO_COORDINATION)
    columns["overlapped_s"] = rows[:, OVERLAPPED]
    columns |= {name: rows[:, len(Ledger.HEAD) + i] for i, name in enumerate(result.facts)}
    for i, account in enumerate(result.accounts):
        columns[f"{account.category}/{account.component}/{account.name}_s"] = rows[:, first + i]
    return pa.table(columns)


def _named(codes: np.ndarray, names: Sequence[str]) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(names), pa.string()))
