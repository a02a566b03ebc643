"""A fit for the terminal: classes of tasks, models, tools, arrivals, and what the traces cannot tell.

Leaves out: the scenario itself (`scenario`), which has every number; how good it is (`report.holdout_tables`).
Checked: tests/test_trace_command.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ...sim.analysis.statistics import Estimate
from ...sim.report.files import plain_data
from ...sim.report.layout import Report, Table
from ...sim.report.numbers import counted, plain, show
from ...sim.report.profile_tables import View
from .fitted import ClassFit, Fitted, ModelFit, Number, ToolFit
from .naming import bare_name

__all__ = ["fit_view"]

KEY, VERSION = "coordsim_fit", 1
_CONFIDENCE = 0.95
_MOST_TOOLS = 12
_LONGEST = 30  # characters of a name
_UNITS = {"1": "", "s/token": "s", "tokens/token": ""}


def fit_view(found: Fitted, name: str) -> View:
    """Return what a fit to the traces called `name` found, as a report; as plain data, all of it; its estimates as rows."""
    heading = (f"Scenario fitted to {name}", f"{counted(found.tasks, 'task')}, {counted(found.calls, 'call')}")
    tables = (_classes(found), *_models(found), _tools(found), *_unknown(found))
    notes = (*found.notes, "± and [ ] are 95 % intervals over tasks.")
    report = Report(heading, _answer(found), tuple(one for one in tables if one.rows), notes)
    data = {KEY: VERSION, **plain_data(asdict(found))}
    return View(report, data, tuple(_rows(asdict(found), "")))


def _answer(found: Fitted) -> str:
    laws = sum(one.law is not None for one in found.models)
    classes = len(found.classes)
    parts = [
        f"{classes} class{'es'[: 2 * (classes != 1)]} of tasks",
        f"{counted(len(found.models), 'model')} ({laws} by tokens)" if laws else counted(len(found.models), "model"),
        counted(len(found.tools), "tool"),
    ]
    arrivals = found.arrivals
    told = f"tasks arrive at {_shown(arrivals.rate)}" if arrivals.rate is not None else arrivals.why
    return f"{', '.join(parts)}; {told}."


def _classes(found: Fitted) -> Table:
    columns = ("class", "tasks", "share", "mean T_total", "agents", "turns", "failed")
    return Table("Tasks", columns, "<>>>>>>", tuple(map(_class, found.classes)))


def _class(one: ClassFit) -> tuple[str, ...]:
    turns = _shown(max((agent.turns.mean for agent in one.agents), key=lambda mean: mean.value)) if one.agents else ""
    return (
        _short(bare_name(one.name)), f"{one.tasks:,}", _shown(one.weight), _shown(one.seconds.mean), f"{len(one.agents)}", turns, _shown(one.failures),
    )  # fmt: skip


def _models(found: Fitted) -> tuple[Table, Table]:
    calls = ("model", "calls", "mean", "failed", "law is off by")
    laws = ("model", "overhead", "new token", "cached token", "output token")
    by_law = tuple(
        (
            _short(one.key),
            plain(one.law.overhead.value, "s"),
            *map(_value, (one.law.new, one.law.cached, one.law.output)),
        )
        for one in found.models
        if one.law
    )
    return Table("Models", calls, "<>>>>", tuple(map(_model, found.models))), Table(
        "Time of a call, median", laws, "<>>>>", by_law
    )


def _model(one: ModelFit) -> tuple[str, ...]:
    error = _error(None if one.law is None else one.law.error)
    return _short(one.key), f"{one.calls:,}", _shown(one.seconds.mean), _shown(one.errors), error


def _error(error: float | None) -> str:
    return "" if error is None else plain(error, "share")


def _tools(found: Fitted) -> Table:
    columns = ("tool", "calls", "mean", "p95", "time", "failed")
    spent = {one.key: one.calls * one.latency.mean.value for one in found.tools}
    whole = sum(spent.values()) or 1.0
    ranked = sorted(found.tools, key=lambda one: (-spent[one.key], one.key))
    rows = [_tool(one, spent[one.key] / whole) for one in ranked[:_MOST_TOOLS]]
    rest = ranked[_MOST_TOOLS:]
    if rest:
        calls, time = sum(one.calls for one in rest), sum(spent[one.key] for one in rest)
        mean = plain(time / max(1, calls), "s")
        rows.append(
            (f"and {counted(len(rest), 'tool')} more", f"{calls:,}", mean, "", plain(time / whole, "share"), "")
        )
    return Table("Tools, those that take most time", columns, "<>>>>>", tuple(rows))


def _tool(one: ToolFit, share: float) -> tuple[str, ...]:
    levels, values = one.latency.quantiles.levels, one.latency.quantiles.values
    late = plain(_at(levels, values, 0.95), "s")
    mean, failed = _shown(one.latency.mean), _shown(one.errors.rate)
    return _short(one.key), f"{one.calls:,}", mean, late, plain(share, "share"), failed


def _at(levels: tuple[float, ...], values: tuple[float, ...], q: float) -> float:
    import numpy as np

    return float(np.interp(q, levels, values))


def _unknown(found: Fitted) -> Iterator[Table]:
    rows = tuple((_short(one.what), one.why, one.default) for one in found.unidentified)
    if rows:
        yield Table("What the traces cannot tell", ("what", "why", "taken in its place"), "<<<", rows)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 13]}...{name[-10:]}"


def _value(one: Number) -> str:
    """Return an estimate; those of a few calls stand without an interval, as the column is one of many."""
    return _shown(one).removesuffix(" (no interval)")


def _shown(one: Number) -> str:
    """Return an estimate with its interval, where it has one."""
    low, high = (math.nan if end is None else end for end in (one.low, one.high))
    return show(Estimate(one.value, low, high, _CONFIDENCE, one.n, "over tasks"), _UNITS.get(one.unit, one.unit)).text


def _rows(value: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield every estimate of plain data, with the path to it."""
    if isinstance(value, dict) and value.keys() >= {"value", "low", "high", "n", "unit"}:
        yield {"estimate": path, **{key: value[key] for key in ("unit", "value", "low", "high", "n", "how")}}
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, one in items:
        yield from _rows(one, f"{path}.{key}".lstrip("."))
