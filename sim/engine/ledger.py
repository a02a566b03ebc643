"""The ledger: every second of every task, in exactly one category.

A branch adds what it did to accounts (category, component, name) as it goes; at a join the branch that released the
join hands its parts to the parent, and the others' parts are overlapped work. So when the trunk of a task ends, its
parts are the task's critical path, and no walk over spans is needed. With `spans` on, the same entries are also kept as
spans, and `Span.critical` is the backward walk along the edges (`critical`), which also tells the parts of a task that is
cut off. Where branches hand pieces to each other, see `relay`.

The law: for every finished task the parts sum to end - arrival, within 1e-9 of it plus 8 ulp of the clock. Parts are
declared by who used the time (a pool its waiting and service, a delay its length), never computed as a remainder, and
the sum is checked against the clock for every task.

Leaves out: rows beyond `ROWS` (a long run keeps every second task, then every fourth ...; the law is checked on all).
Checked: tests/test_ledger.py, tests/test_relay.py; every scenario of the tests runs under the law.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .branch import ENTRY, Branch
from .critical import cover, critical_stretches
from .errors import ConservationError
from .incidents import Incidents
from .relay import Relay, busy_path, under_way
from .simulation import Simulation

CATEGORIES = (
    "inference",
    "communication",
    "serialization",
    "tool",
    "context",
    "recovery",
    "synchronization",
    "orchestration",
    "queueing",
    "human",
)
UNEXPLAINED = "unexplained"  # of measured ledgers alone: time that no span explains
EVERY = (*CATEGORIES, UNEXPLAINED)
NO_COORDINATION = ("inference", "human", UNEXPLAINED)
STRUCTURE = "structure"  # spans that only group others: a step, a call
ROWS = 1 << 17  # tasks kept as rows; 60 columns make 63 MB
BLOCK = 512  # tasks turned into arrays, and checked, at a time
SNAPSHOT = 32  # ends of tasks from one snapshot to the next, doubled as the run grows long
FLOWS = 256  # times at most at which flows are kept: half of them go when there are more
DONE, FAILED, UNFINISHED = 0, 1, 2
STATUSES = ("done", "failed", "unfinished")


@dataclass(frozen=True, slots=True)
class Account:
    """Where time is booked: one category, one component, one name (`tool.invoke` apart from `tool.execute`)."""

    category: str
    component: str
    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time of one task (s); `size` is bytes, tokens or calls. `lost`: a fault undid it. `error`: a call answered by one."""

    task: int
    lane: int
    id: int
    parent: int
    name: str
    category: str
    component: str
    start: float
    end: float
    size: float
    critical: bool
    lost: bool
    status: str
    error: bool = False


def entries(spans: list[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the entries of a flat list of spans, as `Branch` describes them."""
    return zip(*[iter(spans)] * ENTRY, strict=True)


def _lost_at(task: "Task", lane: int, first: int, last: int, _account: int) -> float:
    """Return when work turned out to be lost: at its end."""
    spans = task.spans or []
    ends = [spans[at * ENTRY + 4] for at in range(first, last) if spans[at * ENTRY] == lane]
    return max(ends, default=0.0)


def _clip(task: "Task", horizon: float) -> None:
    """Let the spans of a task end at the horizon, where its branches ran ahead of it."""
    spans = task.spans or []
    for at in range(3, len(spans), ENTRY):
        spans[at] = min(spans[at], horizon)
        spans[at + 1] = min(spans[at + 1], horizon)


class Task:
    """One task while it runs: what its branches share."""

    __slots__ = (
        "arrival", "dispatched", "edges", "errors", "facts", "failure", "group", "harm", "index", "ledger", "lost", "overlapped", "spans", "status",
        "running", "tail", "trunk", "_ids",
    )  # fmt: skip

    def __init__(self, ledger: "Ledger", index: int, group: int, arrival: float) -> None:
        self.ledger = ledger
        self.index = index
        self.group = group  # its task class
        self.arrival = arrival
        self.facts = [0.0] * len(ledger.facts)
        self.overlapped: list[float] | None = None
        self.failure: str | None = None
        self.harm: Any = None  # what went wrong for it, as the model keeps it
        self.status = UNFINISHED
        self.spans: list[Any] | None = [] if ledger.clips or ledger.keeps_spans(index) else None
        self.edges: list[tuple[int, int, float]] = []  # releasing lane, released lane, time: see `critical`
        # Lane, first and last position of spans whose work was lost, and the account that has it now.
        self.lost: list[tuple[int, int, int, int]] = []
        self.errors: list[int] = []  # ids of spans: calls that were answered by an error
        self.dispatched = False  # whether an orchestrator has taken it up
        self.running = 0  # branches that run on though nobody waits for them
        self.tail: tuple[Any, ...] | None = None  # end, status and parts, once the trunk is over
        self.trunk: Branch
        self._ids = 0

    def booked(self, lane: int, position: int, account: int) -> int:
        """Return the account that has the time of the span at `position`: its own, or that of lost work."""
        return next((to for at, first, last, to in self.lost if at == lane and first <= position < last), account)

    def ran_on(self, branch: Branch) -> None:
        """A branch that nobody waited for is over: its work was beside the critical path."""
        self.beside(branch)
        self.ran()

    def ran(self) -> None:
        """Something that nobody waited for is over."""
        self.running -= 1
        if self.tail is not None and not self.running:
            self.ledger.complete(self)

    def beside(self, branch: Branch) -> None:
        """Keep all that a branch did which did not release anybody at its end."""
        self.overlap(branch.parts)
        if branch.surplus is not None:
            self.overlap(branch.surplus)

    def overlap(self, parts: list[float]) -> None:
        """Keep the parts of a branch that was not on the critical path."""
        if self.overlapped is None:
            self.overlapped = [0.0] * len(parts)
        for account, seconds in enumerate(parts):
            if seconds:
                self.overlapped[account] += seconds

    def overlap_in(self, account: int, seconds: float) -> None:
        """Keep `seconds` that were not on the critical path."""
        if self.overlapped is None:
            self.overlapped = [0.0] * len(self.ledger.accounts)
        self.overlapped[account] += seconds

    def next_id(self) -> int:
        """Return a fresh id for a span that encloses others."""
        self._ids += 1
        return self._ids


@dataclass(slots=True)
class Snapshot:
    """Cumulative statistics of every resource at a time: differences of two give any stretch of the run."""

    time: float
    tasks_arrived: int
    tasks_ended: int
    task_seconds: float  # integral of the number of tasks in the system
    resources: list[tuple[float, ...]]


@dataclass(slots=True)
class Ledger:
    """The accounts of a run and its tasks.

    `spans` is 'all', 'sampled' (every `sample`-th task), 'tasks 42 99' (only these) or 'none'. `facts` names what else is
    counted per task.
    """

    sim: Simulation
    facts: tuple[str, ...]
    spans: str = "none"
    sample: int = 100
    clips: bool = False  # branches may be cut off or cancelled: the spans of a task are needed until it ends
    accounts: list[Account] = field(default_factory=list)
    groups: list[Account] = field(default_factory=list)  # of spans that only group others: numbers -1, -2 ...
    callees: int = 0
    incidents: Incidents = field(default_factory=Incidents)
    live: dict[int, Task] = field(default_factory=dict)
    kept: list[Task] = field(default_factory=list)  # tasks whose spans are kept
    lingering: dict[int, Task] = field(default_factory=dict)  # ended, but some of their branches run on
    failures: dict[str, int] = field(default_factory=dict)
    arrived: int = 0
    ended: int = 0
    unfinished: int = 0  # of those ended: closed by the end of the run
    stride: int = 1
    resources: list[Any] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    flows: list[tuple[float, ...]] = field(default_factory=list)  # a time (s), then `flow` of every resource until then
    on_complete: Callable[[], None] | None = None  # told when what ran on after the end of a task is over
    _snapshot_every: int = SNAPSHOT
    _due: float = 0.0  # after which flows are kept again (s), and how far apart
    _apart: float = 0.0
    _blocks: list[np.ndarray] = field(default_factory=list)
    _rows: int = 0
    _pending: bytearray = field(default_factory=bytearray)
    _pack: Callable[..., bytes] | None = None
    _task_seconds: float = 0.0
    _last: float = 0.0
    _useful: list[int] | None = None
    _index: dict[Account, int] = field(default_factory=dict)
    _only: frozenset[int] = frozenset()  # the tasks whose spans are kept, if only theirs are

    HEAD = ("task", "class", "arrival", "end", "status", "overlapped")

    def __post_init__(self) -> None:
        if self.spans.startswith("tasks "):
            self._only = frozenset(map(int, self.spans.removeprefix("tasks ").split()))

    def account(self, category: str, component: str, name: str = "") -> int:
        """Return the number of an account, opening it if it is new; only before the first task."""
        key = Account(category, component, name or category)
        if key not in self._index:
            if category != STRUCTURE and category not in EVERY:
                raise ValueError(f"`category` must be one of {EVERY}, but got {category!r}")
            if category == STRUCTURE:
                self.groups.append(key)
                self._index[key] = -len(self.groups)
            else:
                self._index[key] = len(self.accounts)
                self.accounts.append(key)
        return self._index[key]

    @property
    def useful(self) -> list[int]:
        """The accounts that are no coordination: inference, and waiting for people."""
        if self._useful is None:
            self._useful = [i for i, one in enumerate(self.accounts) if one.category in NO_COORDINATION]
        return self._useful

    @property
    def chart(self) -> tuple[Account, ...]:
        """Every account, so that its number is its index: the groups come last, backwards."""
        return (*self.accounts, *reversed(self.groups))

    def callee(self) -> int:
        """Return a slot of `Branch.calls` for one more component that is called."""
        self.callees += 1
        return self.callees - 1

    def keeps_spans(self, index: int) -> bool:
        """Whether the spans of task `index` are kept."""
        return self.spans == "all" or (self.spans == "sampled" and index % self.sample == 0) or index in self._only

    def open(self, index: int, group: int, arrival: float) -> Task:
        """A task arrives (now)."""
        self._task_seconds += (self.arrived - self.ended) * (arrival - self._last)
        self._last = arrival
        if arrival > self._due:
            self._keep_flows(arrival)
        self.live[index] = task = Task(self, index, group, arrival)
        self.arrived += 1
        return task

    def close(self, branch: Branch, status: int = DONE, failure: str | None = None) -> None:
        """The trunk of a task has ended, at its local time, which is now."""
        task = branch.task
        self._integrate(branch.time)
        del self.live[task.index]
        self.ended += 1
        self.unfinished += status == UNFINISHED
        if failure is not None:
            task.failure = failure
            self.failures[failure] = self.failures.get(failure, 0) + 1
        task.status = status
        if task.running:
            task.tail = (branch.time, status, branch.parts)
            self.lingering[task.index] = task
        else:
            self._write(task, branch.time, status, branch.parts)
        if self.spans != "none" and self.keeps_spans(task.index):
            self.kept.append(task)
        if not self.ended % BLOCK:
            self._flush()
        if not self.ended % self._snapshot_every:
            self._snapshot()
        if branch.time > self._due:
            self._keep_flows(branch.time)
        branch.end()
        del task.trunk  # a task and its trunk refer to each other; a run frees its memory without looking for cycles

    def complete(self, task: Task) -> None:
        """The last branch of an ended task is over."""
        assert task.tail is not None
        self._write(task, *task.tail)
        del self.lingering[task.index]
        if self.on_complete is not None:
            self.on_complete()

    def _write(self, task: Task, end: float, status: int, parts: list[float]) -> None:
        overlapped = 0.0 if task.overlapped is None else sum(task.overlapped)
        if self._pack is None:
            self._pack = struct.Struct(f"{len(self.columns)}d").pack  # four times as fast as an array from lists
        self._pending += self._pack(task.index, task.group, task.arrival, end, status, overlapped, *task.facts, *parts)

    def _integrate(self, now: float) -> None:
        self._task_seconds += (self.arrived - self.ended) * (now - self._last)
        self._last = now

    def _flush(self) -> None:
        if self._pending:
            block = np.frombuffer(self._pending).reshape(-1, len(self.columns))
            self._pending = bytearray()
            self._check(block)
            self._keep(block)

    def _check(self, block: np.ndarray) -> None:
        """The law, on every task of the block."""
        elapsed = block[:, 3] - block[:, 2]
        parts = block[:, len(self.HEAD) + len(self.facts) :].sum(axis=1)
        allowed = 1e-9 * np.abs(elapsed) + 8 * np.spacing(np.abs(block[:, 3]))
        wrong = np.flatnonzero(~(np.abs(parts - elapsed) <= allowed))
        if wrong.size:
            row = block[wrong[0]]
            named = {self._label(i): v for i, v in enumerate(row[len(self.HEAD) + len(self.facts) :]) if v}
            raise ConservationError(
                f"task {int(row[0])}: its parts sum to {parts[wrong[0]]!r} s, but it took {elapsed[wrong[0]]!r} s "
                f"(and {wrong.size - 1} more tasks); parts: {named}"
            )

    def _label(self, account: int) -> str:
        found = self.accounts[account]
        return f"{found.category}/{found.component}/{found.name}"

    def _keep(self, block: np.ndarray) -> None:
        if self.stride > 1:
            block = block[block[:, 0] % self.stride == 0]
        self._blocks.append(block)
        self._rows += len(block)
        while self._rows > ROWS:
            self.stride *= 2
            rows = np.concatenate(self._blocks)
            self._blocks = [rows[rows[:, 0] % self.stride == 0]]
            self._rows = len(self._blocks[0])

    def _snapshot(self) -> None:
        self.snapshots.append(self.snapshot())
        if len(self.snapshots) > 256:
            self.snapshots = self.snapshots[1::2]
            self._snapshot_every *= 2

    def _keep_flows(self, now: float) -> None:
        """Keep what the resources have done until now, for series over time: snapshots come too seldom for these.

        Statistics do not rest on them: which are kept depends on the length of the run.
        """
        self.flows.append((now, *(total for one in self.resources for total in one.flow(now))))
        if len(self.flows) > FLOWS:
            self._apart = 2 * (now - self.flows[0][0]) / FLOWS
            kept = self.flows[:1]
            for one in self.flows:
                if one[0] - kept[-1][0] >= self._apart:
                    kept.append(one)
            self.flows = kept
        self._due = now + self._apart

    def snapshot(self) -> Snapshot:
        """Return the cumulative statistics as of the last arrival or end of a task."""
        return Snapshot(
            self._last, self.arrived, self.ended, self._task_seconds, [r.totals(self._last) for r in self.resources]
        )

    def finish(self, horizon: float | None) -> None:
        """End of the run. With a `horizon` the tasks under way are cut off there, and accounted for up to it."""
        if horizon is None and self.live:
            from .watchdog import stuck

            raise stuck(list(self.live.values()))
        scripts = [task.trunk.script for task in self.live.values()]  # they may give back what they hold: at the end
        for task in list(self.live.values()):
            assert horizon is not None
            task.trunk.parts = self._cut(task, horizon)
            task.trunk.time = horizon
            self.close(task.trunk, UNFINISHED)
        for task in list(self.lingering.values()):
            if horizon is not None:
                _clip(task, horizon)
            self.complete(task)
        self._flush()
        if not self.snapshots or self.snapshots[-1].tasks_ended != self.ended:
            self._integrate(self.sim.now)  # branches may have run on after the last task, and resources know of that
            self.snapshots.append(self.snapshot())
        if not self.flows or self._last > self.flows[-1][0]:
            self._keep_flows(self._last)
        scripts.clear()

    def _cut(self, task: Task, horizon: float) -> list[float]:
        """Return the parts of an unfinished task up to `horizon`, and clip its spans there.

        Branches may have run ahead of the horizon, so the parts are summed anew from the spans of the critical path so
        far: back from the first branch that is at work.
        """
        assert task.spans is not None
        path = busy_path(task.trunk)
        edges = [(releasing, released, min(time, horizon)) for releasing, released, time in task.edges]
        edges += [(path[i].lane, path[i - 1].lane, horizon) for i in range(len(path) - 1, 0, -1)]
        task.edges = edges
        critical = critical_stretches(edges, horizon)
        for branch in under_way(task.trunk):
            if (holder := branch.wait.holder) is None or branch.lane not in critical:
                continue
            open_parts = holder.open_parts(branch.wait, horizon)
            if isinstance(holder, Relay) and branch is path[-1]:
                open_parts = holder.idle(branch, horizon)
            for account, start, end in open_parts:
                if end > start:  # a service that is not split has an empty share, of no account
                    task.spans += (branch.lane, branch.span, account, start, end, 0.0, 0)
        parts = [0.0] * len(self.accounts)
        task.lost = [one for one in task.lost if _lost_at(task, *one) <= horizon]
        _clip(task, horizon)
        for position, (lane, _, account, start, end, _, _) in enumerate(entries(task.spans)):
            if lane in critical and end > start and account >= 0:
                booked = task.booked(lane, position, account)
                parts[booked] += sum(last - first for first, last in cover(critical[lane], start, end))
        return parts

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `rows`: head, facts, then one per account."""
        return (*self.HEAD, *self.facts, *(self._label(i) for i in range(len(self.accounts))))

    def rows(self) -> np.ndarray:
        """One row per kept task, in order of its index, shape (tasks, columns)."""
        if not self._blocks:
            return np.zeros((0, len(self.columns)))
        rows = np.concatenate(self._blocks)
        return rows[np.argsort(rows[:, 0], kind="stable")]
