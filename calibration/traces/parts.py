"""Tasks in two parts, and what a part shows: the same numbers of tasks that were measured and of tasks that were simulated.

Attempts at one problem, and traces of one session, stay together. A model's call inside of a tool's is the tool's time, as in a fit; an attempt
that was made again is neither a call nor model time.

Leaves out: predicting (`holdout`).
Checked: tests/test_trace_holdout.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...sim.analysis.result import Result
from ...sim.trace.measured import TaskTrace
from .naming import NO_MODEL
from .turns import Course, courses

__all__ = ["BANDS", "COLUMNS", "METRICS", "UNITS", "figures", "groups_of", "metrics", "of_result", "split"]

Array = npt.NDArray[np.float64]

COLUMNS = ("seconds", "model", "tool", "turns", "model_calls", "tool_calls", "errors")
METRICS = (
    "mean", "p50", "p90", "p95", "model_share", "tool_share", "other_share", "turns", "model_calls", "tool_calls", "error_rate",
)  # fmt: skip
UNITS = {"mean": "s", "p50": "s", "p90": "s", "p95": "s"} | dict.fromkeys(
    ("model_share", "tool_share", "other_share", "error_rate"), "share"
)
BANDS = {"p50": 0.20, "p90": 0.35, "tool_share": 0.06, "model_calls": 0.15, "tool_calls": 0.15, "error_rate": 0.03}
_QUANTILES = (0.5, 0.9, 0.95)
_MODEL = ("inference", "context")


def groups_of(tasks: Sequence[TaskTrace]) -> list[list[int]]:
    """Return the places of tasks that belong together: the same problem, or the same session; in order of their first."""
    parent = list(range(len(tasks)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    seen: dict[tuple[str, str], int] = {}
    for place, task in enumerate(tasks):
        for what in (("problem", task.problem), ("session", task.session)):
            if what[1]:
                first = root(seen.setdefault(what, place))
                here = root(place)
                parent[max(first, here)] = min(first, here)
    found: dict[int, list[int]] = {}
    for place in range(len(tasks)):
        found.setdefault(root(place), []).append(place)
    return list(found.values())


def split(groups: Sequence[Sequence[int]], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the groups to fit to and those held out, by number: drawn by chance until `share` of the tasks is held out; at least one each."""
    order = np.random.default_rng([seed, 9]).permutation(len(groups))
    wanted = share * sum(len(group) for group in groups)
    held: list[int] = []
    count = 0
    for number in order[:-1]:
        size = len(groups[number])
        if held and count + size / 2 > wanted:
            break
        held.append(int(number))
        count += size
    return sorted(set(range(len(groups))) - set(held)), sorted(held)


def figures(tasks: Sequence[TaskTrace]) -> Array:
    """Return what was measured of each task, shape (tasks, columns)."""
    return np.array([_figures(one) for one in courses(tasks)], dtype=float).reshape(-1, len(COLUMNS))


def _figures(one: Course) -> list[float]:
    turns = one.turns
    models = [turn.model for turn in turns if turn.model is not None]
    tools = [call for turn in turns for call in turn.tools]
    apart = {id(call) for call in models} | {id(tried.call) for tried in one.attempts}
    return [
        one.task.end - one.task.arrival,
        sum(call.critical for call in models),
        sum(call.critical for call in one.task.calls if id(call) not in apart),
        len(turns),
        len(models),
        len(tools),
        sum(bool(call.error) for call in tools),
    ]


def of_result(result: Result) -> Array:
    """Return what was simulated of each task that was done, shape (tasks, columns).

    A fit makes attempts again at models alone. Turns without a model call one that takes no time: these are counted in the spans, where
    they were kept. Neither is a model call.
    """
    seconds = result.response_times
    model, tool = np.zeros(len(seconds)), np.zeros(len(seconds))
    for number, account in enumerate(result.accounts):
        if account.category in _MODEL:
            model += result.account(number)
        elif account.category == "tool":
            tool += result.account(number)
    of = {int(row[0]): place for place, row in enumerate(result.tasks[result.done])}
    bare = [
        of[span.task] for span in result.spans if span.component == NO_MODEL and span.name == "chat" and span.task in of
    ]
    calls = result.fact("llm_calls") - result.fact("retries") - np.bincount(bare, minlength=len(seconds))
    return np.column_stack(
        [seconds, model, tool, result.fact("steps"), calls, result.fact("tool_calls"), result.fact("tool_errors")]
    )


def metrics(rows: Array) -> Array:
    """Return the metrics of some tasks, in the order of METRICS; nan where there is nothing to tell them from."""
    seconds, model, tool, turns, model_calls, tool_calls, errors = rows.T
    whole, calls = seconds.sum(), tool_calls.sum()
    shares = (
        [np.nan] * 3
        if whole <= 0
        else [model.sum() / whole, tool.sum() / whole, max(0.0, round(1 - (model.sum() + tool.sum()) / whole, 9))]
    )
    return np.array([
        seconds.mean(), *np.quantile(seconds, _QUANTILES), *shares, turns.mean(), model_calls.mean(), tool_calls.mean(),
        errors.sum() / calls if calls > 0 else np.nan,
    ])  # fmt: skip
