"""The four formats of a result: a table for people, JSON, CSV and Markdown.

JSON is `Summary.to_dict`. CSV is tidy: a number a row, with `metric, component, unit, value, low, high, n`; an end of an
interval that is not known, and a value that was not observed, is empty. Numbers in both are not rounded.

Leaves out: HTML.
Checked: tests/test_report.py, tests/test_cli.py.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ..analysis.statistics import Estimate
from ..analysis.summary import Summary
from .numbers import exact, unit_of, unit_of_objective

COLUMNS = ("metric", "component", "unit", "value", "low", "high", "n")

Row = tuple[str, str, str, Estimate]


def to_json(summary: Summary, **more: Any) -> str:
    """Return the summary as JSON; `more` is added at the top level."""
    return json.dumps({**summary.to_dict(), **more}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(summary: Summary) -> str:
    """Return every estimate of the summary as a row of a long table, and the counts of tasks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for metric, component, unit, one in _rows(summary):
        writer.writerow((metric, component, unit, exact(one.value), exact(one.low), exact(one.high), one.n))
    for name in ("arrived", "done", "failed", "unfinished", "observed"):
        writer.writerow((f"tasks_{name}", "", "tasks", getattr(summary.tasks, name), "", "", summary.replications))
    for reason, count in summary.failures.items():
        writer.writerow(("failures", reason, "tasks", count, "", "", summary.replications))
    for metric, component, unit, count in _counts(summary):
        writer.writerow((metric, component, unit, count, "", "", summary.replications))
    return out.getvalue()


def _rows(summary: Summary) -> Iterator[Row]:
    for name, one in summary.metrics.items():
        yield name, "", unit_of(name), one
    for name, part in summary.categories.items():
        yield "category_mean", name, "s", part.seconds
        yield "category_share", name, "share", part.share
    for account in summary.components:
        path = f"{account.category}/{account.component}/{account.name}"
        yield "account_mean", path, "s", account.seconds
        yield "account_share", path, "share", account.share
    for task_class, metrics in summary.classes.items():
        yield from ((name, f"classes.{task_class}", unit_of(name), one) for name, one in metrics.items())
    for resource in summary.resources:
        yield from ((name, resource.name, unit_of(name), one) for name, one in resource.metrics.items())
    for name, one in summary.facts.items():
        yield f"{name}_per_task", "", unit_of(name), one
    for call in summary.reliability.calls:
        yield "attempts_per_call", call.component, "", call.amplification
        yield "attempts_per_task", call.component, "", call.per_task
        yield "failed_share", call.component, "share", call.failed
        yield "wasted_share", call.component, "share", call.wasted
    yield from (("availability", name, "share", one) for name, one in summary.reliability.availability.items())
    yield from (("blast_radius", row.name, "share", row.blast_radius) for row in summary.reliability.causes)
    for judged in summary.objectives:
        yield f"slo_{judged.metric}", judged.verdict, unit_of_objective(judged.metric), judged.estimate


def _counts(summary: Summary) -> Iterator[tuple[str, str, str, int]]:
    """Yield the strikes of each cause by outcome, what callers made of calls, and root causes."""
    found = summary.reliability
    for row in found.causes:
        yield from ((f"strikes_{outcome}", row.name, "strikes", count) for outcome, count in row.outcomes.items())
    for call in found.calls:
        for name in ("calls", "attempts", "timed_out", "rejected", "hedges", "fallbacks", "escalations"):
            yield name, call.component, "calls", getattr(call.totals, name)
    for root in found.roots:
        yield "root_cause_failed", f"{root.cause} -> {root.path}", "tasks", root.failed
        yield "root_cause_late", f"{root.cause} -> {root.path}", "tasks", root.late
