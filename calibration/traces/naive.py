"""The naive fit, to hold the other against: steps that know nothing of each other, and one lognormal for each tool and for the model.

All tasks are of one class and call one model. Turns end with the same chance each, a turn's tools are chosen by how often each was, whatever
was called before, and tasks differ by chance alone: what the calls of one task have in common is in the deviation of each call. A
lognormal has the median and the deviation of the logs of the times, as if there were no tail of its own, and knows no tokens.

Leaves out: what it is compared by (`holdout`).
Checked: tests/test_trace_holdout.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ...sim.trace.measured import TaskTrace
from .fitted import (
    AgentFit,
    Choice,
    ClassFit,
    ErrorFit,
    Fitted,
    Mixture,
    ModelFit,
    Number,
    Part,
    Table,
    ToolFit,
    Values,
)
from .scenario_flow import called
from .tables import table

__all__ = ["alike", "naive"]

_MOST_TURNS = 2000
_REST = 1e-4
_ONE = "all"  # the class of all tasks, and their model
_POINTS = 2000  # of a distribution
_SHORTEST = 1e-6  # s


def alike(tasks: Iterable[TaskTrace]) -> tuple[TaskTrace, ...]:
    """Return tasks as the naive fit sees them: of one class, calling one model."""
    return tuple(
        replace(
            one,
            task_class=_ONE,
            calls=tuple(replace(call, component=_ONE) if call.kind == "llm" else call for call in one.calls),
        )
        for one in tasks
    )


def naive(fitted: Fitted) -> Fitted:
    """Return the naive fit of the same classes, models and tools."""
    classes = tuple(_class(one) for one in fitted.classes)
    return replace(
        fitted, classes=classes, models=tuple(map(_model, fitted.models)), tools=tuple(map(_tool, fitted.tools))
    )


def _none(one: Number) -> Number:
    return replace(one, value=0.0, low=None, high=None)


def _class(one: ClassFit) -> ClassFit:
    rounds = None if one.rounds is None else _geometric(one.rounds)
    return replace(one, agents=tuple(map(_agent, one.agents)), rounds=rounds)


def _agent(one: AgentFit) -> AgentFit:
    turns = replace(one, turns=_geometric(one.turns))
    if one.choice is None:
        return turns
    often = called(one.choice, one.tasks)
    total = sum(often.values())
    if total <= 0:
        return turns
    row = tuple((key, count / total) for key, count in often.items())
    return replace(turns, choice=Choice(row, (), "how often each was called"))


def _geometric(one: Values) -> Values:
    """Return turns that end with the same chance each, in parts of 100,000."""
    mean = max(one.mean.value, 1.0)
    stay = 1.0 - 1.0 / mean
    values, counts, left, number = [], [], 1.0, 1
    while left > _REST and number <= _MOST_TURNS:
        values.append(number)
        counts.append(max(1, round(100_000 * left * (1 - stay))))
        left *= stay
        number += 1
    return Values(tuple(values), tuple(counts), one.mean)


def _model(one: ModelFit) -> ModelFit:
    seconds = _lognormal(one.seconds, one.per_task.value)
    return replace(one, per_task=_none(one.per_task), law=None, why_no_law="the naive fit", seconds=seconds)


def _lognormal(one: Table, between: float) -> Table:
    """Return the lognormal of the same logs; `between` is the variance that tasks add to them."""
    middles = (np.arange(_POINTS) + 0.5) / _POINTS
    logs = np.log(np.maximum(np.interp(middles, one.levels, one.values), _SHORTEST))
    sigma = math.sqrt(float(logs.var()) + between)
    middle = float(logs.mean()) - between / 2
    mean = replace(one.mean, value=math.exp(middle + sigma**2 / 2), low=None, high=None, how="of the lognormal")
    from scipy.special import ndtri

    return table(np.exp(middle + sigma * ndtri(middles)), mean)


def _joined(one: Part, between: float) -> Part:
    """Return a tool's lognormal with the variance that tasks add; the mean stays."""
    return replace(one, median=one.median * math.exp(-between / 2), sigma=math.sqrt(one.sigma**2 + between))


def _tool(one: ToolFit) -> ToolFit:
    errors = ErrorFit(one.errors.rate, None, None, None, None, None, one.errors.types)
    single = _joined(one.latency.lognormal, one.per_task.value)
    latency = Mixture((single,), None, one.latency.mean, one.latency.quantiles, single)
    return replace(one, per_task=_none(one.per_task), errors=errors, latency=latency)
