"""Small scenarios for tests: a few lines say what differs from an empty world in which nothing takes any time.

Leaves out: anything random. Each test adds what it is about, mostly with constants, so that every second can be checked
by hand.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.ledger import STRUCTURE, Account, Ledger, Span
from coordsim.sim.engine.source import Document

Data = dict[str, Any]

EMPTY: Data = {
    "coordsim": 1,
    "name": "scene",
    "seed": 1,
    "runtime": "ideal",
    "workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 1},
    "agents": {"a": {"model": "llm"}},
    "models": {"llm": {"kind": "llm"}},
    "workflow": {"start": "work", "steps": {"work": {"agent": "a"}}},
}

STARTS_AT_ONCE = {"arrivals": {"renewal": {"constant": "1 us"}}}


def scene(*patches: Mapping[str, Any]) -> Scenario:
    """Return the empty world with `patches` merged in; None deletes."""
    data = EMPTY
    for patch in patches:
        data = merged(data, patch)
    return Scenario.of(Document.from_data(data, "scene"))


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Data:
    """Return `base` with `patch` merged in, mapping by mapping; a distribution or another one-of mapping is replaced."""
    out = dict(base)
    for name, value in patch.items():
        if value is None and name in out:
            del out[name]
        elif isinstance(value, Mapping) and isinstance(out.get(name), Mapping) and name not in ("arrivals", "workflow"):
            out[name] = merged(out[name], value)
        else:
            out[name] = value
    return out


def steps(start: str, **named: Mapping[str, Any]) -> Data:
    """Return the patch of a workflow."""
    return {"workflow": {"start": start, "steps": named}}


def chain(*named: tuple[str, Mapping[str, Any]]) -> Data:
    """Return the patch of a workflow whose steps follow one another."""
    follow = [name for name, _ in named[1:]] + ["done"]
    written = {name: {**step, "next": after} for (name, step), after in zip(named, follow, strict=True)}
    return {"workflow": {"start": named[0][0], "steps": written}}


def run(*patches: Mapping[str, Any], spans: str = "all", seed: int | None = None) -> Result:
    """Run a scene, once."""
    return simulate(scene(*patches), seed=seed, spans=spans)


def parts(result: Result, task: int = 0) -> dict[str, float]:
    """Return the seconds of a task by `category`, with the accounts that hold any."""
    out: dict[str, float] = {}
    for account, seconds in accounts(result, task).items():
        out[account.category] = out.get(account.category, 0.0) + seconds
    return out


def accounts(result: Result, task: int = 0) -> dict[Account, float]:
    """Return the seconds of a task in each account that holds any, whatever became of the task."""
    row = row_of(result, task)
    first = len(Ledger.HEAD) + len(result.facts)
    return {one: seconds for one, seconds in zip(result.accounts, row[first:].tolist(), strict=True) if seconds}


def row_of(result: Result, task: int = 0) -> np.ndarray:
    """Return the row of a task."""
    row: np.ndarray = result.rows[result.rows[:, 0] == task][0]
    return row


def named(result: Result, name: str, task: int = 0) -> float:
    """Return the seconds of a task under a name of the ledger, such as `tool.execute`."""
    return sum(seconds for account, seconds in accounts(result, task).items() if account.name == name)


def total(result: Result, task: int = 0) -> float:
    """Return T_total of a task, or what it had lasted when the run ended."""
    row = row_of(result, task)
    return float(row[3] - row[2])


def fact(result: Result, name: str, task: int = 0) -> float:
    """Return what is counted of a task, whatever became of it."""
    return float(row_of(result, task)[len(Ledger.HEAD) + result.facts.index(name)])


def overlapped(result: Result, task: int = 0) -> float:
    """Return the seconds of work beside the critical path."""
    return float(row_of(result, task)[Ledger.HEAD.index("overlapped")])


def statuses(result: Result) -> list[int]:
    """Return what became of each task."""
    return [int(status) for status in result.rows[:, 4]]


def leaves(result: Result, task: int = 0) -> list[Span]:
    """Return the spans of a task that hold time, not other spans."""
    return [span for span in result.spans if span.task == task and span.category != STRUCTURE]


def table(result: Result) -> dict[str, list[float]]:
    """Return the columns of the rows that hold anything, so that results with other accounts can be compared."""
    return {name: column.tolist() for name, column in zip(result.columns, result.rows.T, strict=True) if column.any()}
