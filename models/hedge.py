"""Hedging: a second attempt beside one that takes long; the first answer counts.

The first attempt is made by the branch itself, so that its draws are those of a call without hedging; the second by a branch beside
it. If the second one wins, the branch goes on from there: what it waited before the second began is `recovery`.

A delay that is a quantile is learned (`policies.LearnedDelay`).

Leaves out: more than one attempt beside the first; the message that cancels the other (it is cancelled at once).
Checked: tests/test_hedge.py; tests/test_bands_faults.py.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Wait
from ..sim.engine.draws import lane as lane_of
from ..sim.engine.simulation import Call
from .condition import Vanished, Void
from .context import HEDGES, WASTED
from .failure import CallFailed, TaskFailed
from .handling import Hedge
from .policies import LearnedDelay

if TYPE_CHECKING:
    from .system import System

__all__ = ["Hedging", "patient"]

Script = Generator[None, Any, None]
Attempt = Callable[[Branch, int], Script]


def patient(branch: Branch, attempt: Attempt, number: int) -> Script:
    """Make an attempt; if it is lost and nobody tells, wait for ever."""
    try:
        yield from attempt(branch, number)
    except Vanished as gone:
        yield from gone.condition.vanish(branch)


class Overtaken(Exception):
    """The attempt beside this one was faster, or with tied requests begins to be served."""


class Hedging:
    """When a component's calls are hedged, and the races so far. `work` are the accounts of its service."""

    def __init__(self, system: "System", path: str, spec: Hedge, work: tuple[int, ...]) -> None:
        self.system = system
        self.spec = spec
        self.learned = None if spec.quantile is None else LearnedDelay(spec.quantile)
        self.account = system.ledger.account("recovery", path, "hedge delay")
        self.void = Void(path, self.account)
        self.counts = system.incidents.of(path)
        self.slot = system.ledger.callee()
        self.work = work

    def wasted(self, branch: Branch, parts: list[float], before: list[float] | None = None) -> None:
        """Nobody takes the answer of an attempt that did `parts`, or what of them goes beyond `before`."""
        seconds = sum(parts[account] - (before[account] if before else 0.0) for account in self.work)
        if seconds > 0:
            self.counts.wasted += seconds
            branch.facts[WASTED] += seconds

    def race(self, branch: Branch, attempt: Attempt, second: Attempt, number: int) -> Script:
        """Make an attempt, and a second one beside it if it takes long."""
        began, delay = branch.time, self.spec.after if self.learned is None else self.learned.value
        if delay is None:
            yield from patient(branch, attempt, number)
        else:
            yield from Race(self, branch, second, began + delay).run(attempt, number)
        if self.learned is not None:
            self.learned.add(branch.time - began, delay)


class Race:
    """One attempt, and from `start` (s) on a second one."""

    def __init__(self, hedging: Hedging, branch: Branch, second: Attempt, start: float) -> None:
        self.hedging = hedging
        self.branch = branch
        self.second = second
        self.start = start
        self.child: Branch | None = None
        self.running = False  # the second attempt
        self.waits = False  # the branch, for the second attempt: the first one is over
        self.cut = Overtaken()
        self.timer = Call(self._begin)

    def run(self, attempt: Attempt, number: int) -> Script:
        """Make the first attempt, and take what comes first."""
        branch, sim = self.branch, self.branch.sim
        before, first, began = branch.parts[:], branch.mark(), branch.time
        sim.schedule_at(self.start, self.timer)
        if self.hedging.spec.tied:
            branch.wait.tie = self._stop
        try:
            try:
                yield from patient(branch, attempt, number)
                if branch.time > max(self.start, sim._now):
                    branch.settle()  # the second attempt may begin, and be there first
                    yield
                return
            except CallFailed as failed:
                if not self.running:
                    raise
                if failed.over is not None and branch.time > failed.over:
                    branch.cut_off(before, first, self.hedging.account, began, failed.over)
                yield from self._wait()
        except Overtaken as cut:
            if cut is not self.cut:
                raise
            if self.running:  # tied: the other one has begun to be served
                yield from self._wait_for_cut()
            self._adopt(before, first, began)
        finally:
            branch.wait.tie = None
            self._stop()

    def _wait(self) -> Script:
        """Leave it to the second attempt: the first one has failed, or given way."""
        self.waits = True
        self.hedging.void.enter(self.branch)
        yield

    def _wait_for_cut(self) -> Script:
        try:
            yield from self._wait()
        except Overtaken as cut:
            if cut is not self.cut:
                raise

    def _begin(self, _event: Any) -> None:
        """The first attempt has taken long: begin the second."""
        hedging, branch = self.hedging, self.branch
        now = branch.sim._now
        visit = branch.calls[hedging.slot]
        branch.calls[hedging.slot] = visit + 1
        hedging.counts.hedges += 1
        hedging.counts.attempts += 1
        branch.facts[HEDGES] += 1
        child = Branch(branch.task, lane_of(branch.lane, hedging.slot, visit, 0), now, branch.state.fork())
        child.span = branch.span
        child.struck, child.because = [], branch.because
        child.state.diverge((branch.index, child.lane))
        if branch.spans is not None:
            branch.task.edges.append((branch.lane, child.lane, now))
        self.child, self.running = child, True
        child.start(self._run(child))

    def _run(self, child: Branch) -> Script:
        """The second attempt."""
        failure: CallFailed | None = None
        if self.hedging.spec.tied:
            child.wait.tie = self._give_way
        try:
            yield from patient(child, self.second, 0)
        except CallFailed as failed:
            failure = failed
        except TaskFailed as failed:
            failure = CallFailed("error", str(failed))
        if child.time > child.sim._now:
            child.settle()
            yield
        self.running = False
        child.end()
        if failure is None:
            self.hedging.counts.won += 1
            self.branch.interrupt(self.cut)
        else:
            self._let_go(child)
            self.child = None
            if self.waits:
                self.branch.interrupt(failure)
        yield

    def _adopt(self, before: list[float], first: int, began: float) -> None:
        """The second attempt was first: go on from its end."""
        branch, child = self.branch, self.child
        assert child is not None
        wasted = branch.parts[:]
        self.hedging.wasted(branch, wasted, before)
        branch.cut_off(before, first, self.hedging.account, began, self.start)
        for account, seconds in enumerate(wasted):
            if seconds > before[account] and account != self.hedging.account:  # which is waiting for the other
                branch.task.overlap_in(account, seconds - before[account])
        for account, seconds in enumerate(child.parts):
            branch.parts[account] += seconds
        branch.time = child.time
        if branch.spans is not None:
            branch.task.edges.append((child.lane, branch.lane, child.time))
        branch.struck = [*(branch.struck or ()), *(child.struck or ())]
        child.state.detach()
        branch.state.join([child.state], self.hedging.system.prompts)
        self.child = None

    def _give_way(self, wait: Wait) -> None:
        """Tied: the second attempt begins to be served, and the first one gives up its place."""
        wait.tie = None
        if not self.waits:
            self.branch.interrupt(self.cut)

    def _stop(self, _wait: Wait | None = None) -> None:
        """The first attempt is over, or tied and begins to be served: the second is cancelled, if it has not ended."""
        self.timer.cancel()
        child = self.child
        if child is not None and self.running:
            self.running = False
            child.cancel()
            self._let_go(child)
        self.child = None

    def _let_go(self, child: Branch) -> None:
        """The second attempt comes to nothing."""
        child.task.beside(child)
        self.hedging.wasted(child, child.parts)
        self.hedging.system.plan.leave(child)
