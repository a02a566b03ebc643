"""Tools as the tasks of a class meet them: latency, a factor by task, errors, sizes.

Leaves out: a latency that depends on the size of a request; a queue in front of a tool.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ...sim.trace.measured import Call
from .effects import Outcomes, tool_errors
from .factors import Factor
from .fitted import ErrorFit, Table, ToolFit
from .mixture import fit_mixture
from .model_law import retry_fit
from .tables import by_count, number, ratio, table
from .turns import Attempt

__all__ = ["Used", "tool_fit"]

_KINDS = {"retriever": "retriever", "embedding": "embedding", "human": "human"}


@dataclass
class Used:
    """Calls of one tool: the number of the task of each, and what it added to the context (nan: not known)."""

    name: str
    calls: list[Call] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    results: dict[int, float] = field(default_factory=dict)  # by id of a call
    attempts: list[tuple[int, Attempt]] = field(default_factory=list)

    @property
    def seconds(self) -> np.ndarray:
        """How long each call took (s)."""
        return np.array([one.seconds for one in self.calls])

    @property
    def wrong(self) -> np.ndarray:
        """Whether each call went wrong."""
        return np.array([bool(one.error) for one in self.calls])

    def and_(self, other: Used) -> Used:
        """Return the calls of both."""
        both = sorted(zip(self.tasks + other.tasks, self.calls + other.calls, strict=True), key=lambda one: one[0])
        return Used(
            self.name, [call for _, call in both], [task for task, _ in both], self.results | other.results,
            self.attempts + other.attempts,
        )  # fmt: skip


def tool_fit(
    key: str, task_class: str, used: Used, errors: ErrorFit, tasks: int, clusters: np.ndarray | None, factor: Factor, short: bool
) -> ToolFit:  # fmt: skip
    """Return what is known of a tool; `task_class` is '' for all classes, `errors` are those of all tools.

    `factor` has its tasks' own factors by call. A `short` one takes so little of the time that one lognormal will do.
    """
    where, seconds = np.array(used.tasks, dtype=int), used.seconds
    of = np.bincount(where, minlength=tasks).astype(float)
    mean = ratio(np.bincount(where, seconds, tasks), of, "s", "mean over calls; tasks are what varies", clusters)
    outcomes = Outcomes(used.wrong, where, tuple(one.error for one in used.calls if one.error), clusters)
    kinds = Counter(one.kind for one in used.calls)
    kind = _KINDS.get(by_count(kinds)[0][0], "tool")
    component = Counter(one.component for one in used.calls).most_common(1)[0][0]
    known = [
        (at, used.results[id(one)]) for at, one in zip(used.tasks, used.calls, strict=True) if id(one) in used.results
    ]
    again = np.array([at for at, _ in used.attempts], dtype=int)
    members = tuple(sorted({one.component for one in used.calls}))
    return ToolFit(
        key=key,
        component=component if len(members) == 1 else used.name,
        task_class=task_class,
        kind=cast(Any, kind),
        members=members,
        calls=len(used.calls),
        tasks=len(set(used.tasks)),
        latency=fit_mixture(seconds / factor.own, mean, short),
        per_task=factor.variance,
        errors=tool_errors(outcomes, errors),
        request=_sizes(used.calls, lambda one: one.input_bytes, "bytes"),
        response=_sizes(used.calls, lambda one: one.output_bytes, "bytes"),
        result=_results(known, tasks, clusters),
        retries=retry_fit([one for _, one in used.attempts], again, of, clusters),
    )


def _results(known: list[tuple[int, float]], tasks: int, clusters: np.ndarray | None) -> Table | None:
    """Return the tokens that calls brought, each with the number of its task."""
    if not known:
        return None
    where, brought = np.array([at for at, _ in known], dtype=int), np.array([value for _, value in known])
    of = np.bincount(where, minlength=tasks)
    return table(brought, ratio(np.bincount(where, brought, tasks), of, "tokens", "mean over calls", clusters))


def _sizes(calls: Sequence[Call], of: Callable[[Call], float], unit: str) -> Table | None:
    found = np.array([of(one) for one in calls])
    found = found[np.isfinite(found) & (found >= 0)] if len(found) else found
    return table(found, number(found.mean(), len(found), unit, "mean over calls")) if len(found) else None
