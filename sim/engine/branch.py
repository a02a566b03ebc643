"""A branch: one sequential thread of a task, with its own local time and its own share of the ledger.

A branch runs ahead of the clock. A delay that nothing else can influence only moves its local time; it meets the event
queue where it contends for something (`Pool`, `Link`), where it sleeps until its local time on purpose (`settle`), and
where it joins. So consecutive delays cost one event however many there are, and each keeps its own ledger entry.

The generator of a branch calls one of these primitives and then yields (the yielded value is not looked at). It never
returns: its last act is to hand itself to whoever waits for it, and it is then dropped.

Where branches of a task hand pieces to each other as they go (`relay`), `parts` is a branch's path and no longer what it
did itself: a branch that waited for a piece takes over the path of who made it. `surplus` keeps the difference.

Leaves out: nothing waits for a branch but a `Join`, a `Relay` or the task's end; `lose` of work in which a piece was
followed.
Checked: tests/test_engine.py, tests/test_relay.py.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from .simulation import Simulation

if TYPE_CHECKING:
    from .ledger import Ledger, Task
    from .relay import Piece

ENTRY = 7  # numbers per entry of `Branch.spans`
Script = Generator[None, Any, None]


def _nothing(_event: Any) -> None:
    """Stands in for the continuation of a branch that is over."""


def _cancelled(_event: Any) -> None:
    """Stands in for the continuation of a branch that was cancelled."""


class Wait:
    """One wait of a branch: at once its event in the queue and its place in line.

    A branch waits for one thing at a time, so it owns one of these and uses it again and again. A cancelled wait is
    abandoned (its event may still lie in the queue, and does nothing), and the branch gets a new one.
    """

    __slots__ = (
        "arrived", "begins", "callbacks", "ended", "holder", "place", "priority", "refusal", "rejected", "resume", "service", "size",
        "split", "started", "tie",
    )  # fmt: skip

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
        self.refusal = "queue full"  # why, once it was rejected
        self.split: Any = None  # how a service is booked: one account, the share of time that is its, and the other
        self.holder: Any = None  # the Pool, Link or Relay that has it, None while it only sleeps
        self.place: Any = None  # where in the holder it is
        self.tie: Callable[[Wait], None] | None = None  # told when a pool begins to serve it
        self.begins: Callable[[], None] | None = (
            None  # what it takes a pool's server for, which gives that back and resumes
        )


class Branch:
    """A thread of a task.

    `time` is local time (s), never before the clock while the branch runs. `parts` holds seconds per account of the
    ledger on this branch's own path. `lane` names the branch to the random streams (0 for the task's trunk).
    `spans`, where they are kept, is one flat list for the task (a tuple each would be work for the garbage collector):
    lane, id of the enclosing span, account, start, end, size, and the id of a span that encloses others, else 0.
    `calls` counts the calls of each component in this lane: the ordinal of a draw. `state` belongs to the model.
    `surplus` is what the branch did itself less `parts`, once it has followed a piece (seconds per account).
    """

    __slots__ = (
        "because",
        "calls",
        "facts",
        "held",
        "index",
        "join",
        "lane",
        "ledger",
        "parts",
        "script",
        "sim",
        "span",
        "spans",
        "state",
        "struck",
        "surplus",
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
        self.join: Join | None = None  # of the branches of its own, for which it waits
        self.surplus: list[float] | None = None
        self.struck: list[Any] | None = None  # what struck the call that it is in, and has come to nothing yet
        self.because: int | None = None  # the cause without which it would not make the call that it makes
        self.wait: Wait

    def start(self, script: Script) -> None:
        """Run `script` as this branch, at once, up to its first wait."""
        self.script: Script | None = script
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

    def cut_off(self, before: list[float], first_span: int, recovery: int, began: float, end: float) -> None:
        """What this branch did since `began` (s), when its parts were `before`, is lost, and was over at `end` (s).

        It may have run ahead of `end`: that never came to be.
        """
        self.parts[:] = before
        self.parts[recovery] += end - began
        self.time = end
        spans = self.spans
        if spans is None:
            return
        for at in range(first_span * ENTRY, len(spans), ENTRY):
            if spans[at] == self.lane and spans[at + 4] > end:
                spans[at + 3], spans[at + 4] = min(spans[at + 3], end), end
        self.task.lost.append((self.lane, first_span, len(spans) // ENTRY, recovery))

    def mark(self) -> int:
        """Return the position of the next span of the task: the `first_span` of what is done from now on."""
        return 0 if self.spans is None else len(self.spans) // ENTRY

    def fork(self, lane: int, state: Any) -> "Branch":
        """Return a parallel branch of the same task that begins now, in local time."""
        child = Branch(self.task, lane, self.time, state)
        child.span = self.span
        if self.spans is not None:
            self.task.edges.append((self.lane, lane, self.time))
        return child

    def depart(self, lane: int, state: Any, at: float | None = None, parts: list[float] | None = None) -> "Branch":
        """Return a branch that goes its own way from here, or from `at` (s) at the end of a path of `parts`.

        Its path is this one's up to there, of which it has done nothing itself.
        """
        child = Branch(self.task, lane, self.time if at is None else at, state)
        child.span = self.span
        child.parts[:] = path = self.parts if parts is None else parts
        child.surplus = [-seconds for seconds in path]
        if self.spans is not None:
            self.task.edges.append((self.lane, lane, child.time))
        return child

    def beside(self, account: int, seconds: float, end: float, lane: int, size: float = 0.0) -> None:
        """Keep `seconds` until `end` as work beside this branch: overlapped, in a lane of its own."""
        self.task.overlap_in(account, seconds)
        if self.spans is not None:
            self.spans += (lane, self.span, account, end - seconds, end, size, 0)

    def follow(self, piece: "Piece", base: list[float] | None = None) -> None:
        """`piece` released this branch: take over the path of who made it, and its time.

        Who takes it over began at the same fork as who made it; or it is the parent of that fork, by `Stages`, and
        `base` are its own parts (seconds per account) as they were before.
        """
        path = piece.parts if base is None else [a + b for a, b in zip(base, piece.parts, strict=True)]
        holder: Branch | Join = self
        if base is not None:
            assert self.join is not None, "a parent follows the pieces of its stages"
            holder = self.join
        before = holder.surplus or [0.0] * len(path)
        holder.surplus = [had + own - new for had, own, new in zip(before, self.parts, path, strict=True)]
        self.parts[:] = path  # in place: a script may hold the list
        self.time = piece.time
        if self.spans is not None:
            self.task.edges.append((piece.lane, self.lane, piece.time))

    def let_go(self) -> None:
        """Give back, at local time, the servers that the branch holds: it failed before it could."""
        for pool in self.held or ():
            pool.give_at(self.time)
        self.held = None

    def release(self, kept: list[Any]) -> None:
        """Give back, at local time, the servers that the branch holds beyond those `kept`: what took them has failed."""
        for pool in self.held or ():
            if pool not in kept:
                pool.give_at(self.time)
        self.held = kept or None

    def settle(self) -> None:
        """Sleep until the clock has reached local time; the script yields after the call."""
        wait = self.wait
        wait.callbacks = (wait.resume,)
        self.sim.schedule_at(self.time, wait)

    @property
    def over(self) -> bool:
        """Whether its script has come to its end, or was cancelled."""
        return self.wait.resume is _nothing or self.cancelled

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.wait.resume is _cancelled

    def end(self) -> None:
        """The script is over: let go of it, so that no cycle of references keeps it in memory."""
        self.wait.resume = _nothing
        self.script = None

    def cancel(self) -> None:
        """Give back whatever the branch waits for or is served by, and never run it again.

        What it did until now was work all the same, and stays in `parts`.
        """
        now = self.sim._now
        self._leave_wait(now)
        for pool in self.held or ():
            pool.give()
        if self.spans is not None and self.time > now:
            self._clip(now)
        self.wait.resume = _cancelled
        if self.script is not None:
            self.script.close()  # so that what it has open is closed
            self.script = None

    def interrupt(self, cut: BaseException) -> None:
        """Give back whatever the branch waits for or is served by, and raise `cut` in its script there, now.

        What it did until now stays in `parts`; local time may lie ahead of the clock (see `cut_off`).
        """
        self._leave_wait(self.sim._now)
        self._raise(cut)

    def let_run(self, over: Callable[[Wait], None]) -> bool:
        """Wait no longer for what the branch waits for, which goes on by itself and tells `over` at its end.

        Return whether there is anything that goes on. The branch must be interrupted after that.
        """
        wait = self.wait
        sleeps = wait.callbacks is not None and wait.resume in wait.callbacks
        if self.join is not None or sleeps or (wait.holder is None and wait.callbacks is None):
            return False
        if getattr(wait.holder, "endless", False):
            return False
        if wait.holder is not None:
            for account, start, end in wait.holder.open_parts(wait, self.sim._now):
                self.book(account, start, end)
        wait.resume = over
        assert self.script is not None
        self.wait = Wait(self.script.send)
        return True

    def _leave_wait(self, now: float) -> None:
        """Give back what the branch waits for or is served by, and book it up to now."""
        while self.join is not None:
            self.join.drop()
        wait = self.wait
        if wait.holder is not None:
            for account, start, end in wait.holder.open_parts(wait, now):
                self.book(account, start, end)
            wait.holder.cancel(wait)
        if wait.callbacks is not None:
            wait.callbacks = ()

    def _raise(self, cut: BaseException) -> None:
        assert self.script is not None, "a branch that is over cannot be interrupted"
        self.wait = Wait(self.script.send)  # the old one may still lie in a queue
        self.script.throw(cut)

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
    cancelled at the release, else they run on and nobody waits for them. `outer` is what the parent had open before.
    """

    __slots__ = (
        "arrived", "branches", "cancels", "failed", "failure", "needed", "outer", "parent", "released", "surplus",
    )  # fmt: skip

    def __init__(self, parent: Branch, needed: int, cancels: bool = False) -> None:
        self.parent = parent
        self.needed = needed
        self.cancels = cancels
        self.branches: list[Branch] = []
        self.arrived: list[Branch] = []  # up to the release, without those that failed
        self.failed = 0
        self.failure: str | None = None
        self.released: Branch | None = None
        self.surplus: list[float] | None = None  # of the parent, since the fork: see `Branch.follow`
        self.outer = parent.join
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
        parent.join = self.outer
        parent.time = branch.time
        parts = parent.parts
        for account, seconds in enumerate(branch.parts):
            if seconds:
                parts[account] += seconds
        if branch.surplus is not None:
            parent.task.overlap(branch.surplus)
        self._leave(branch)
        if parent.spans is not None:
            parent.task.edges.append((branch.lane, parent.lane, branch.time))
        parent.wait.resume(None)

    def _leave(self, released: Branch | None) -> None:
        """The parent goes on: keep what the others did, or let them run on."""
        task = self.parent.task
        for other in self.branches:
            if other is released:
                continue
            if self.cancels and not other.over:
                other.cancel()
            if other.over:
                task.overlap(other.parts)
                if other.surplus is not None:
                    task.overlap(other.surplus)
            else:
                task.running += 1

    def drop(self) -> None:
        """The parent was cancelled: cancel its branches, and keep what they did."""
        task = self.parent.task
        self.parent.join = self.outer
        for child in self.branches:
            if not child.over:
                child.cancel()
            task.beside(child)
        if self.surplus is not None:
            task.overlap(self.surplus)
