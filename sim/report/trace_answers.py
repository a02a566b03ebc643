"""What a trace says, to stdout and to a folder.

    trace.csv      every number as a row: table, name, metric, unit, value, low, high, n
    trace.json     the fields of `TraceDigest` by name and the answer, but for single tasks and the course over time, which the page has
    report.md, report.html, result.json

Leaves out: the spans themselves, which `coordsim trace export` writes.
Checked: tests/test_trace_tables.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from ..analysis.statistics import Estimate
from ..analysis.trace_digest import Calls, TraceDigest
from .answers import Answers
from .files import plain_data
from .numbers import exact, unit_of
from .trace_tables import answer_of, between, report

__all__ = ["ANSWERS", "COLUMNS", "KEY", "VERSION", "to_csv", "to_data", "to_json"]

KEY, VERSION = "coordsim_trace", 1
COLUMNS = ("table", "name", "metric", "unit", "value", "low", "high", "n")
_OF_RUN = ("summary", "cohorts", "steps")


class _Row(NamedTuple):
    """A row; what has no interval has neither `low` nor `high`."""

    table: str
    name: str
    metric: str
    unit: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | str = ""


def to_data(found: TraceDigest) -> dict[str, Any]:
    """Return the digest as plain data."""
    data = {one.name: plain_data(getattr(found, one.name)) for one in fields(found) if one.name != "run"}
    run = {name: plain_data(getattr(found.run, name)) for name in _OF_RUN}
    return {KEY: VERSION, "answer": answer_of(found), **data, **run}


def to_json(found: TraceDigest) -> str:
    """Return the digest as JSON."""
    return json.dumps(to_data(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(found: TraceDigest) -> str:
    """Return every number as a row of a long table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in (*_summary(found), *_cohorts(found), *_calls(found), *_beside(found), *_read(found)):
        writer.writerow((*row[:4], *(exact(one) for one in (row.value, row.low, row.high)), row.n))
    return out.getvalue()


def _known(table: str, name: str, metric: str, unit: str, one: Estimate) -> _Row:
    return _Row(table, name, metric, unit, one.value, one.low, one.high, one.n)


def _each(table: str, name: str, found: Mapping[str, Estimate], end: str = "") -> Iterator[_Row]:
    for metric, one in found.items():
        yield _known(table, name, f"{metric}{end}", unit_of(metric), one)


def _summary(found: TraceDigest) -> Iterator[_Row]:
    summary = found.run.summary
    for name in ("arrived", "done", "failed", "unfinished"):
        yield _Row("tasks", name, "tasks", "", getattr(summary.tasks, name))
    yield from _each("all", "", summary.metrics)
    for name, part in summary.categories.items():
        yield _known("category", name, "seconds", "s", part.seconds)
        yield _known("category", name, "share", "share", part.share)
    for one in summary.components:
        name = f"{one.category}/{one.component}/{one.name}"
        yield _known("component", name, "seconds", "s", one.seconds)
        yield _known("component", name, "share", "share", one.share)
    for name, metrics in summary.classes.items():
        yield from _each("class", name, metrics)
    yield from _each("all", "", summary.facts, "_mean")
    for reason, count in summary.failures.items():
        yield _Row("failure", reason, "tasks", "", count)
    for ended in found.ended:
        for metric in ("shortest", "mean", "longest"):
            yield _Row("outcome", ended.status, metric, "s", getattr(ended, metric))
        for name, seconds in ended.seconds.items():
            yield _Row("outcome", ended.status, name, "s", seconds)
        yield _Row("outcome", ended.status, "beside", "s", ended.beside)
    for slow in found.slowest:
        yield _Row("slowest", f"{slow.task} {slow.trace}".strip(), "total", "s", slow.total)


def _cohorts(found: TraceDigest) -> Iterator[_Row]:
    for group in found.run.cohorts.groups:
        yield _Row("cohort", group.label, "tasks", "", group.tasks)
        yield _known("cohort", group.label, "total", "s", group.total)
        for name, one in group.categories.items():
            yield _known("cohort", group.label, name, "s", one)


def _calls(found: TraceDigest) -> Iterator[_Row]:
    for one in found.calls:
        yield from _of_component(f"calls of {one.kind}", one)
    for gap in found.gaps.rows:
        name = f"{between(gap)} inside {gap.inside}" if gap.inside else between(gap)
        yield _Row("gap", name, "gaps", "", gap.count)
        yield _Row("gap", name, "seconds", "s", gap.seconds)
        yield _Row("gap", name, "longest", "s", gap.longest)
        yield _known("gap", name, "per_task", "s", gap.per_task)
        yield _known("gap", name, "share", "share", gap.share)


def _of_component(table: str, one: Calls) -> Iterator[_Row]:
    yield _Row(table, one.component, "calls", "", one.calls)
    yield _Row(table, one.component, "errors", "", one.errors)
    yield _known(table, one.component, "per_task", "", one.per_task)
    for name, seconds in one.seconds.items():
        yield _known(table, one.component, f"seconds_{name}", "s", seconds)
    for name, tokens in one.tokens.items():
        yield _known(table, one.component, f"{name}_tokens", "tokens", tokens)
    yield _known(table, one.component, "error_rate", "share", one.error_rate)
    yield _known(table, one.component, "critical", "s", one.critical)
    yield _known(table, one.component, "share", "share", one.share)


def _beside(found: TraceDigest) -> Iterator[_Row]:
    harm, context = found.harm, found.context
    for one in harm.rows:
        name = f"{one.kind} {one.component}: {one.error}"
        for metric, unit in (("calls", ""), ("tasks", ""), ("retried", ""), ("seconds", "s"), ("critical", "s")):
            yield _Row("failed calls", name, metric, unit, getattr(one, metric))
    yield _known("errors", "", "seconds_more_with_one", "s", harm.seconds)
    yield _known("errors", "", "model_calls_more_with_one", "", harm.turns)
    yield _known("errors", "", "critical", "s", harm.critical)
    for parallel in found.parallel:
        yield _known("parallel", parallel.kind or "all", "at_once", "", parallel.width)
        yield _known("parallel", parallel.kind or "all", "under_way", "share", parallel.busy)
    for turn in context.turns:
        for metric in ("prompt", "cached", "output"):
            yield _known("turn", str(turn.number), f"{metric}_tokens", "tokens", getattr(turn, metric))
    yield _Row("overlap", "", "tool_during_model_call", "share", found.overlap)
    yield _known("context", "", "growth", "tokens", context.growth)
    yield _known("context", "", "cached", "share", context.cached)


def _read(found: TraceDigest) -> Iterator[_Row]:
    read = found.read
    for name in ("spans", "kept", "dropped"):
        yield _Row("read", "", name, "", getattr(read, name))
    for one in read.files:
        yield _Row("file", one.name, "spans", "", one.spans)
        yield _Row("file", one.name, "bytes", "B", one.bytes)
    for remark in read.remarks:
        yield _Row(remark.fate, remark.what, "count", "", remark.spans)
        if remark.most:
            yield _Row(remark.fate, remark.what, "most", "s", remark.most)
    yield _Row("sum", "wall", "seconds", "s", found.wall)
    for each in found.sums:
        yield _Row("sum", each.kind, "calls", "", each.calls)
        yield _Row("sum", each.kind, "union", "s", each.union)
        yield _Row("sum", each.kind, "work", "s", each.work)


ANSWERS = Answers("trace", "report on traces", "trace", report, to_csv, to_json)
