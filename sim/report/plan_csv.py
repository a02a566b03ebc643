"""A capacity plan as a long table: a number a row, with `table, load, name, quantity, unit, value, low, high, n, verdict`.

`name` is the configuration, or what ends. Rates, factors and shares are not rounded; what is not known is empty.

Leaves out: everything in words.
Checked: tests/test_plan_report.py.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import NamedTuple

from ..analysis.planned import Fix, Limit, PlanResult, ResourceLoad, Trial
from ..analysis.statistics import Estimate
from . import plan_words as words
from .numbers import exact, unit_of_objective

__all__ = ["COLUMNS", "to_csv"]

COLUMNS = ("table", "load", "name", "quantity", "unit", "value", "low", "high", "n", "verdict")


class _Row(NamedTuple):
    """A row; `low` and `high` are nan where a number has no interval."""

    table: str
    load: str
    name: str
    quantity: str
    unit: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | str = ""
    verdict: str = ""


def to_csv(found: PlanResult) -> str:
    """Return every number of a plan as a row of a long table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(found):
        told = [exact(one) for one in (row.value, row.low, row.high)]
        writer.writerow((*row[:5], *told, row.n, row.verdict))
    return out.getvalue()


def _rows(found: PlanResult) -> Iterator[_Row]:
    for quantity in ("configurations", "excluded", "pruned", "tasks", "grid_tasks", "grid_replications", "beyond"):
        yield _Row("plan", "", "", quantity, "", getattr(found, quantity), verdict=found.verdict)
    for choice in found.choices:
        if choice.trial is not None:
            label, name = choice.load.label, words.settings(found, choice.trial)
            yield from _trial("choice", label, name, choice.trial, choice.verdict)
            if choice.load.hours is not None:
                yield _Row("choice", label, name, "hours", "h", choice.load.hours, verdict=choice.verdict)
    for trial in found.trials:
        name = words.settings(found, trial)
        yield from _trial("trial", trial.load.label, name, trial, trial.verdict)
        yield from _bounds(trial.load.label, name, trial)
    for trial in found.frontier_trials:
        yield from _trial("frontier_trial", trial.load.label, words.settings(found, trial), trial, trial.verdict)
    for point in found.frontier:
        if point.trial is not None:
            yield from _trial(
                "frontier", words.wanted(point.objectives), words.settings(found, point.trial), point.trial, ""
            )
    yield from (_limit(one) for one in found.headroom)
    for fix in found.fixes:
        yield from _fix(fix)


def _trial(table: str, load: str, name: str, one: Trial, verdict: str) -> Iterator[_Row]:
    yield _Row(table, load, name, "cost", "USD/h", one.cost, verdict=verdict)
    yield _Row(table, load, name, "usage", "USD/h", one.usage, verdict=verdict)
    if one.metered is not None:
        calls = one.metered
        yield _Row(table, load, name, "usage_estimate", "USD/h", calls.value, calls.low, calls.high, calls.n, verdict)
    yield _Row(table, load, name, "tasks", "", one.tasks, n=one.replications, verdict=verdict)
    for judged in one.judged:
        yield _estimate(table, load, name, judged.metric, judged.estimate, judged.verdict)


def _estimate(table: str, load: str, name: str, metric: str, one: Estimate, verdict: str) -> _Row:
    unit = unit_of_objective(metric)
    return _Row(table, load, name, metric, unit, one.value, one.low, one.high, one.n, verdict)


def _bounds(load: str, name: str, one: Trial) -> Iterator[_Row]:
    yield _Row("trial", load, name, "bound_response", "s", one.bound.response, verdict=one.verdict)
    yield _Row("trial", load, name, "bound_throughput", "1/s", one.bound.throughput, verdict=one.verdict)
    if one.replications:
        yield _Row("trial", load, name, f"utilization {one.busiest}", "share", one.utilization, verdict=one.verdict)
    for resource in one.bound.resources:
        yield from _resource(load, name, resource)


def _resource(load: str, name: str, one: ResourceLoad) -> Iterator[_Row]:
    if one.utilization is not None:
        yield _Row("resource", load, name, f"utilization {one.name}", "share", one.utilization)
    yield _Row("resource", load, name, f"saturates_at {one.name}", "x", one.saturates_at)
    if one.wait is not None:
        yield _Row("resource", load, name, f"wait {one.name}", "s", one.wait)


def _limit(one: Limit) -> _Row:
    quantity = "saturates_at" if one.kind == "resource" else "breaks_at"
    return _Row("headroom", one.source, one.name, quantity, "x", one.factor, one.low, one.high)


def _fix(one: Fix) -> Iterator[_Row]:
    yield _Row("fix", "", one.resource, "saturates_at", "x", one.factor)
    if one.change is not None:
        yield _Row("fix", "", one.change, "cost", "USD/h", one.cost)
        yield _Row("fix", "", one.then, "saturates_at", "x", one.factor_then)
