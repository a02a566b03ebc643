"""A branch: one sequential thread of a task, with its own local time and its own share of the ledger.

A branch runs ahead of the clock. A delay that nothing else can influence only moves its local time; it meets the event
queue where it contends for something (`Pool`, `Link`), where it sleeps until its local time on purpose (`settle`), and
where it joins. So consecutive delays cost one event however many there are, and each keeps its own ledger entry.

The generator of a branch calls one of these primitives and then yields (the yielded value is not looked at). It never
returns: its last act is to hand itself to whoever waits for it, and it is then dropped.

Leaves out: nothing waits for a branch but a `Join` or the task's end.
Checked: tests/test_engine.py.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from .simulation import Simulation

if TYPE_CHECKING:
    from .ledger import Ledger, Task

ENTRY = 7  # numbers per entry of `Branch.spans`
Script = Generator[None, Any, None]


def _nothing(_event: Any) -> None:
    """Stands in for the continuation of a branch that is over."""


class Wait:
    """One wait of a branch: at once its event in the queue and its place in line.

    A branch waits for one thing at a time, so it owns one of these and uses it again and again. A cancelled wait is
    abandoned (its event may still lie in the queue, and does nothing), and the branch gets a new one.
    """

    __slots__ = (
        "arrived",
        "callbacks",
        "ended",
        "holder",
        "place",
        "priority",
        "rejected",
        "resume",
        "service",
        "size",
        "split",
        "started",
    )

    _ok = True
    _value = None

    def __init__(self, resume: Callable[[Any], Any]) -> None:
        self.callbacks: Any = None
        self.resume = resume  # continues the branch, whatever it is called with
        self.arrived = 0.0
        self.ended = 0.0
        self.started = 0.0
        self.service = 0.0
        self.size = 1.0  # what a rate limit counts
        self.priority = 0.0
        self.rejected = False
        self.split: Any = None  # how a service is booked: one account, the share of time that is its, and the other
        self.holder: Any = None  # the Pool or Link that has it, None while it only sleeps
        self.place: Any = None  # where in the holder it is


class Branch:
    """A thread of a task.

    `time` is local time (s), never before the clock while the branch runs. `parts` holds seconds per account of the
    ledger on this branch's own path. `lane` names the branch to the random streams (0 for the task's trunk).
    `spans`, where they are kept, is one flat list for the task (a tuple each would be work for the garbage collector):
    lane, id of the enclosing span, account, start, end, size, and the id of a span that encloses others, else 0.
    `calls` counts the calls of each component in this lane: the ordinal of a draw. `state` belongs to the model.
    """

    __slots__ = (
        "calls",
        "facts",
        "held",
        "index",
        "join",
        "lane",
        "ledger",
        "parts",
        "sim",
        "span",
        "spans",
        "state",
        "task",
        "time",
        "wait",
    )

    def __init__(self, task: "Task", lane: int, time: float, state: Any) -> None:
        ledger = task.ledger
        self.task = task
        self.index = task.index
        self.facts = task.facts
        self.ledger: Ledger = ledger
        self.sim: Simulation = ledger.sim
        self.lane = lane
        self.time = time
        self.parts = [0.0] * len(ledger.accounts)
        self.calls = [0] * ledger.callees
        self.spans = task.spans
        self.span = 0  # id of the enclosing span
        self.state = state
        self.held: list[Any] | None = None  # pools of which it holds a server
        self.join: Join | None = None  # where it waits for branches of its own
        self.wait: Wait

    def start(self, script: Script) -> None:
        """Run `script` as this branch, at once, up to its first wait."""
        self.wait = Wait(script.send)
        script.send(None)

    def add(self, account: int, duration: float, size: float = 0.0) -> None:
        """Let `duration` seconds pass on this branch without contention, in `account`; `size` is its attribute."""
        if duration:
            start = self.time
            # The end as the clock rounds it: parts are differences of clock times, so that they telescope.
            self.time = end = start + duration
            self.parts[account] += end - start
            if self.spans is not None:
                self.spans += (self.lane, self.span, account, start, end, size, 0)

    def book(self, account: int, start: float, end: float, size: float = 0.0) -> None:
        """Book the time from `start` to `end`, as its user measured it; local time is then `end`."""
        if end > start:
            self.parts[account] += end - start
            if self.spans is not None:
                self.spans += (self.lane, self.span, account, start, end, size, 0)
        self.time = end

    def open_span(self) -> int:
        """Let what follows lie inside a new span; return the enclosing one, for `close_span`."""
        outer = self.span
        if self.spans is not None:
            self.span = self.task.next_id()
        return outer

    def close_span(self, outer: int, account: int, began: float, size: float = 0.0) -> None:
        """End the span opened last: it lasted from `began` until local time."""
        if self.spans is not None:
            self.spans += (self.lane, outer, account, began, self.time, size, self.span)
            self.span = outer

    def lose(self, before: list[float], first_span: int, recovery: int) -> None:
        """What this branch did since its parts were `before` is lost to a fault: move it to the account `recovery`."""
        parts = self.parts
        lost = 0.0
        for account, seconds in enumerate(before):
            if parts[account] != seconds:
                lost += parts[account] - seconds
                parts[account] = seconds
        parts[recovery] += lost
        if self.spans is not None:
            self.task.lost.append((self.lane, first_span, len(self.spans) // ENTRY, recovery))

    def fork(self, lane: int, state: Any) -> "Branch":
        """Return a parallel branch of the same task that begins now, in local time."""
        child = Branch(self.task, lane, self.time, state)
        child.span = self.span
        return child

    def let_go(self) -> None:
        """Give back, at local time, the servers that the branch holds: it failed before it could."""
        for pool in self.held or ():
            pool.give_at(self.time)
        self.held = None

    def settle(self) -> None:
        """Sleep until the clock has reached local time; the script yields after the call."""
        wait = self.wait
        wait.callbacks = (wait.resume,)
        self.sim.schedule_at(self.time, wait)

    @property
    def over(self) -> bool:
        """Whether its script has come to its end."""
        return self.wait.resume is _nothing

    def end(self) -> None:
        """The script is over: let go of it, so that no cycle of references keeps it in memory."""
        self.wait.resume = _nothing

    def cancel(self) -> None:
        """Give back whatever the branch waits for or is served by, and never run it again.

        What it did until now was work all the same, and stays in `parts`.
        """
        now = self.sim._now
        if self.join is not None:
            for child in self.join.branches:
                if not child.over:
                    child.cancel()
                self.task.overlap(child.parts)
        wait = self.wait
        if wait.holder is not None:
            for account, start, end in wait.holder.open_parts(wait, now):
                self.book(account, start, end)
            wait.holder.cancel(wait)
        for pool in self.held or ():
            pool.give()
        if wait.callbacks is not None:
            wait.callbacks = ()
        if self.spans is not None and self.time > now:
            self._clip(now)
        self.end()

    def _clip(self, now: float) -> None:
        """Take back what the branch booked behind `now`, having run ahead of the clock: it never came to that."""
        spans, parts = self.spans, self.parts
        assert spans is not None
        for at in range(0, len(spans), ENTRY):
            lane, _, account, start, end, _, own = spans[at : at + ENTRY]
            if lane != self.lane or end <= now:
                continue
            spans[at + 3], spans[at + 4] = min(start, now), now
            if not own:
                booked = self.task.booked(lane, at // ENTRY, account)
                parts[booked] = max(0.0, parts[booked] - (end - max(start, now)))
        self.time = now


class Join:
    """Where branches of one task meet: releases the parent when `needed` of them have arrived.

    The branch that releases is on the critical path; what the others did is overlapped work. A branch that failed does
    not count; when too few are left, it releases the parent with `failure`. With `cancels`, those still under way are
    cancelled at the release, else they run on and nobody waits for them.
    """

    __slots__ = ("arrived", "branches", "cancels", "failed", "failure", "needed", "parent", "released")

    def __init__(self, parent: Branch, needed: int, cancels: bool = False) -> None:
        self.parent = parent
        self.needed = needed
        self.cancels = cancels
        self.branches: list[Branch] = []
        self.arrived: list[Branch] = []  # up to the release, without those that failed
        self.failed = 0
        self.failure: str | None = None
        self.released: Branch | None = None
        parent.join = self

    def add(self, child: Branch, script: Script) -> None:
        """Run `script` as `child`; add all branches before the parent yields."""
        self.branches.append(child)
        child.start(script)

    def arrive(self, branch: Branch, failure: str | None = None) -> None:
        """`branch` is over at its local time: meet the others there. Its script yields after the call and ends."""
        wait = branch.wait
        wait.callbacks = (lambda _event: self._meet(branch, failure),)
        branch.sim.schedule_at(branch.time, wait)

    def _meet(self, branch: Branch, failure: str | None) -> None:
        branch.end()
        if self.released is not None:
            branch.task.ran_on(branch)
            return
        if failure is None:
            self.arrived.append(branch)
        else:
            self.failed += 1
            if len(self.branches) - self.failed < self.needed:
                self.failure = failure
        if self.failure is not None or len(self.arrived) == self.needed:
            self._release(branch)

    def _release(self, branch: Branch) -> None:
        self.released = branch
        parent = self.parent
        task = parent.task
        parent.join = None
        parent.time = branch.time
        parts = parent.parts
        for account, seconds in enumerate(branch.parts):
            if seconds:
                parts[account] += seconds
        for other in self.branches:
            if other is branch:
                continue
            if self.cancels and not other.over:
                other.cancel()
            if other.over:
                task.overlap(other.parts)
            else:
                task.running += 1
        if parent.spans is not None:
            task.edges.append((branch.lane, parent.lane, branch.time))
        parent.wait.resume(None)
