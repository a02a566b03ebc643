"""Who takes the steps of an agent, or all of a task (the orchestrator): what is wrong with it, and who is in its hands.

It crashes by a fault of its own, for all tasks at once, or for each task by itself; then the work under way is lost. A fault `down`
that lets wait, or drains, loses none of it: what is under way goes on. Steps that would begin while it is down wait until it is over.

Leaves out: what becomes of a task that has crashed (`task_run`); crashes that nobody is told of, which are as those that are told.
Checked: tests/test_recovery.py.
"""

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.draws import Stream
from .condition import Active, Condition
from .failure import TaskFailed
from .fault_clock import TaskClock
from .run_state import Crashed, Run, Timer

if TYPE_CHECKING:
    from .task_run import TaskRuns

__all__ = ["Worker"]

Script = Generator[None, Any, None]


class Worker(Condition):
    """The condition of an agent, or of the orchestrator."""

    def __init__(self, runs: "TaskRuns", path: str, recovery: int) -> None:
        super().__init__(runs.system, path, recovery)
        self.runs = runs
        self.recovery = recovery
        self.slot = self.system.ledger.callee()
        self.own: list[tuple[Active, TaskClock]] = []  # faults that come to each task by itself
        self.after: dict[str, Stream[float]] = {}
        for fault in runs.plan.of(path):
            spec = fault.spec
            if spec.each == "task":
                clock = self.system.once(
                    f"faults.{fault.name}", partial(TaskClock, self.system.draws, fault.name, spec)
                )
                self.own.append((fault, clock))
            if spec.corrupt is not None:
                after = spec.corrupt.after
                self.after[fault.name] = self.system.stream(f"faults.{fault.name}/after/{path}", after)

    def _blame(self, cause: int) -> None:
        """Nobody waits in a queue here."""

    def _lose(self, fault: Active) -> None:
        """It goes down: all who are in its hands crash."""
        for branch in list(self.present):
            if branch in self.present and not branch.over:
                self._crash(branch, fault.cause)

    def _crash(self, branch: Branch, cause: int) -> None:
        plan, now = self.runs.plan, self.sim.now
        strike = self.incidents.strike(cause, branch.index, branch.lane, now, self.path)
        harm = plan.harm(branch.task)
        harm.fatal.append(strike)
        reason = f"{self.path}: crashed"
        name = self.incidents.causes[cause].name
        harm.paths.setdefault(cause, f"{name} -> {reason}")
        run = self.runs.of_task(branch.task)
        last = run is not None and run.trunk is branch and self.runs.is_last(run)
        branch.interrupt(Crashed(reason, self.runs.path_so_far(branch) if last else None))

    # Steps

    def guard(self, branch: Branch, act: Generator[None, Any, Any]) -> Generator[None, Any, Any]:
        """Do a step, or all of the work. Raises Crashed, in a parallel branch TaskFailed."""
        run = self.runs.of_task(branch.task)
        yield from self.door(branch, run)
        if run is not None and self is not self.runs.orchestrator:
            self.step(branch, run)
        ordinal = branch.calls[self.slot]
        branch.calls[self.slot] = ordinal + 1
        self._take(branch, run)
        try:
            result = yield from act
            if branch.time > self.sim._now:
                branch.settle()
                yield
        except Crashed as crash:
            if branch.lane == 0:
                raise
            if branch.time > self.sim._now:
                branch._clip(self.sim._now)
            raise TaskFailed(str(crash)) from None
        finally:
            self._release(branch, run)
        self.spoils(branch, ordinal)
        return result

    def door(self, branch: Branch, run: Run | None) -> Script:
        """Wait until it is there, at local time."""
        while True:
            if branch.time > self.sim._now:
                branch.settle()
                yield
            down = self.here.get("down")
            until = 0.0
            if run is not None:
                until = max(
                    (run.timers[fault.name].until for fault, _ in self.own if fault.name in run.timers), default=0.0
                )
            if down:
                fault = down[-1]
                if not fault.spec.comes_and_goes:
                    self.runs.plan.harm(branch.task).fatal.append(
                        self.incidents.strike(fault.cause, branch.index, branch.lane, self.sim.now, self.path)
                    )
                    raise TaskFailed(f"{self.path}: down")
                strike = self.incidents.strike(fault.cause, branch.index, branch.lane, self.sim.now, self.path)
                self.runs.plan.harm(branch.task).struck.append(strike)
                since = branch.time
                yield from self.stand_by(branch)
                name = self.incidents.causes[fault.cause].name
                self.runs.plan.lost(branch, fault.cause, branch.time - since, f"{name} -> {self.path}: down")
            elif until > self.sim.now:
                branch.add(self.recovery, until - branch.time)
            else:
                return

    def step(self, branch: Branch, run: Run) -> None:
        """A step of a task begins: damage of its state may be noticed, or done. Raises TaskFailed."""
        plan = self.runs.plan
        harm = plan.harm(branch.task) if run.damage else None
        noticed = None if harm is None else run.look(harm)
        if harm is not None and noticed is not None:
            harm.spoiled.remove(noticed)
            harm.fatal.append(noticed.strike)
            raise TaskFailed(f"{noticed.strike.component}: corrupted state")
        self._corrupt(branch, run)
        if self is not self.runs.orchestrator:
            self.runs.orchestrator._corrupt(branch, run)

    def _corrupt(self, branch: Branch, run: Run) -> None:
        for fault in self.here.get("corrupt", ()):
            ordinal = branch.calls[self.slot]
            if self is self.runs.orchestrator:  # of an agent, the slot counts its steps anyway
                branch.calls[self.slot] = ordinal + 1
            if fault.chance is None or not fault.chance.hits(branch, ordinal):
                continue
            self.runs.plan.spoil(branch, fault.cause, self.path)
            left = int(self.after[fault.name].draw(branch.index, ordinal, branch.lane))
            run.damaged(self.runs.plan.harm(branch.task).spoiled[-1], left)

    # Crashes of each task by itself

    def _take(self, branch: Branch, run: Run | None) -> None:
        self.present[branch] = None
        for fault, clock in self.own if run is not None else ():
            assert run is not None
            timer = run.timer(fault.name, partial(Timer, fault, clock))
            timer.inside[branch] = None
            if timer.alarm is None:
                if timer.left < 0:
                    timer.left = clock.next(branch.index, timer.ordinal)
                timer.since = self.sim.now
                timer.alarm = self.runs.alarms.set(timer.since + timer.left, partial(self._ring, timer))

    def _release(self, branch: Branch, run: Run | None) -> None:
        self.present.pop(branch, None)
        for fault, _ in self.own if run is not None else ():
            assert run is not None
            timer = run.timers[fault.name]
            timer.inside.pop(branch, None)
            if not timer.inside and timer.alarm is not None:
                self.runs.alarms.cancel(timer.alarm)
                timer.alarm = None
                timer.left = max(0.0, timer.left - (self.sim.now - timer.since))

    def _ring(self, timer: Timer) -> None:
        """The worker of one task crashes."""
        timer.alarm, timer.left = None, -1.0
        inside = list(timer.inside)
        timer.until = self.sim.now + timer.clock.repair(inside[0].index, timer.ordinal)
        timer.ordinal += 1
        self.incidents.occurrences[timer.active.cause] += 1
        for branch in inside:
            if branch in timer.inside and not branch.over:
                self._crash(branch, timer.active.cause)
