"""A measured ledger, and what fits and tables want of it besides: the calls of each task, in order.

Leaves out: how it is read (`read`), and statistics (`analysis`).
Checked: tests/test_trace_read.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..engine.ledger import DONE, Account, Ledger
from .observation import Kind
from .tally import Tally

__all__ = ["Booked", "Call", "Entry", "Measured", "Sums", "TaskTrace"]

NAN = math.nan


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a model, a tool or a person, as measured.

    Times are seconds on the ledger's clock, that to the `first_token` is since its start; nan is not known.
    A turn is a call of a model and what follows until the agent's next; calls that overlap in one turn have the same `batch`. `new` tokens were
    not found in the provider's cache, `cached` were. `stub`: its token counts cannot be true. `retried`: it failed, and the same was called
    again at once. `critical` seconds of it are on the task's critical path.
    """

    kind: Kind
    component: str
    agent: str
    start: float
    end: float
    turn: int
    batch: int
    new: float = NAN
    cached: float = NAN
    output: float = NAN
    first_token: float = NAN
    input_bytes: float = NAN
    output_bytes: float = NAN
    error: str = ""
    retried: bool = False
    stub: bool = False
    critical: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took (s)."""
        return self.end - self.start

    @property
    def input(self) -> float:
        """All tokens that went in, cached ones among them; nan where it is not known how many were new."""
        return self.new + (0.0 if math.isnan(self.cached) else self.cached)


@dataclass(frozen=True, slots=True)
class TaskTrace:
    """One task: its number in the ledger, and its calls in order of start. `failure` is '' unless it failed."""

    task: int
    trace: str
    session: str
    task_class: str
    arrival: float
    end: float
    failure: str
    finished: bool
    calls: tuple[Call, ...]
    problem: str = ""


Entry = tuple[int, int, Account, float, float, float, int]
"""A span as `engine.branch` enters it: lane, parent's id or 0, account, start and end (s), size, own id or 0 if it holds no others."""


@dataclass(slots=True)
class Booked:
    """One task, ready for the ledger: seconds by account on the critical path, which sum to `end - arrival`; and its spans.

    `edges` are those of `engine.critical`; `lost` and `errors` are as `engine.ledger.Task` has them, with accounts in
    place of their numbers.
    """

    arrival: float
    end: float
    task_class: str
    parts: dict[Account, float]
    entries: list[Entry]
    edges: list[tuple[int, int, float]]
    lost: list[tuple[int, int, int, Account]] = field(default_factory=list)
    status: int = DONE
    failure: str = ""
    overlapped: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    errors: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Sums:
    """Seconds over all tasks, to hold against the files: wall time, and unions of intervals by kind of call; `work` counts overlaps twice."""

    wall: float = 0.0
    union: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What trace files say: the ledger, finished; the calls of its tasks (of every `stride`-th in very long traces); and the tally of spans.

    `classes` are names of task classes, as the ledger numbers them. `arrivals` tells whether the times at which tasks arrive are known:
    without a common clock the tasks stand one after the other. A task is a trace, or a session, as `by` says.
    """

    name: str
    ledger: Ledger
    classes: tuple[str, ...]
    tasks: tuple[TaskTrace, ...]
    stride: int
    arrivals: bool
    sums: Sums
    tally: Tally
    by: Literal["trace", "session"] = "trace"
