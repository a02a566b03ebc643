"""What becomes of whole tasks: deadlines, crashes of those who run them, damaged state, restarts, and what follows a final failure.

The trunk of a task is run by `TaskRuns.course`. Whatever ends it comes out there, its generators unwound: a failure of its own, a
crash, the deadline. A task that begins again goes back to what a checkpoint holds: the parts of its path, its context, and its
position. A position is a path: the step of each workflow, the round of a workflow in place, the turn of an agent's loop. Walking
through the workflow once more, each of them goes on where the path says (`Run.enter`).

What was done since the checkpoint is `recovery`; so are the repair of the orchestrator, the backoff and the time to resume, which follow
one another, and in which nothing crashes. An agent's repair is waited for where its step begins again. Draws after a restart are fresh
ones, but a loop that is resumed keeps the number of turns that it drew. Facts count all that was done, also what was lost.

Within teams, pipelines, inputs taken in and parallel branches nothing is resumed: a task goes back to the last checkpoint before them. A
crash of an agent fails a parallel branch, and so maybe its join.

Leaves out: a person's queue; effects of tools that a restart repeats, but for compensation; steps that are skipped count as steps in
which state can be damaged.
Checked: tests/test_recovery.py, against closed forms.
"""

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.distributions import DurationDist
from ..sim.engine.incidents import DEGRADED
from ..sim.engine.ledger import Task
from .alarms import Alarms
from .context import COMPENSATIONS, ESCALATIONS, RESTARTS
from .failure import TaskFailed
from .policies import Waits
from .recovery import Recovery
from .run_state import Cut, Late, Run, Undo
from .worker import Worker

if TYPE_CHECKING:
    from .checkpoint import Checkpoints
    from .steps import Flow
    from .system import System

__all__ = ["TaskRuns"]

Script = Generator[None, Any, None]
FULL = "admission: full"
DEADLINE = "deadline"


class TaskRuns:
    """The tasks of a system whose scenario says that they may be cut off, crash, or begin again."""

    @classmethod
    def of(cls, system: "System") -> "TaskRuns | None":
        """Return those of a system, made once; None where a task can only run to its end or to its first failure."""
        made: TaskRuns | None = system.once("recovery", lambda: cls(system) if _needed(system) else None)
        return made

    def __init__(self, system: "System") -> None:
        self.system, self.sim, self.plan = system, system.sim, system.plan
        self.spec = spec = system.scenario.recovery
        checkpoint = system.scenario.orchestrator.checkpoint
        self.at_exit = checkpoint is not None and checkpoint.mode == "exit"
        self.saves = checkpoint is not None and bool(spec.restarts) and spec.restart_from == "checkpoint"
        self.checkpoints: Checkpoints | None = None  # once a step that writes any is made
        self.runs: dict[int, Run] = {}
        self.alarms = Alarms(system.sim)
        self.workers: dict[str, Worker] = {}
        account = system.ledger.account
        self.lost = account("recovery", "orchestrator", "lost work")
        self.backoff = account("recovery", "orchestrator", "backoff")
        self.resume_account = account("recovery", "orchestrator", "resume")
        self.person = account("human", "escalation")
        self.orchestrator = self.worker("orchestrator")
        self.waits = Waits(spec.backoff)
        self.jitter = system.draws.uniform("recovery/backoff")
        self.resumes = system.stream("recovery/resume", spec.resume)
        escalate = spec.escalate
        self.takes = None if escalate is None else system.stream("recovery/escalate", escalate.takes)
        self.solving = system.draws.uniform("recovery/solves")

    def worker(self, path: str) -> Worker:
        """Return who takes the steps of an agent, or the orchestrator, made once."""
        if path not in self.workers:
            self.workers[path] = made = Worker(self, path, self.system.ledger.account("recovery", path, "down"))
            self.plan.conditions[path] = made
            for fault in self.plan.of(path):
                if not fault.spec.comes_and_goes:
                    made.begin(fault)
        return self.workers[path]

    def of_task(self, task: Task) -> Run | None:
        """Return the run of a task; None once it has ended, and only a branch of it runs on."""
        return self.runs.get(task.index)

    def course(self, branch: Branch, flow: "Flow") -> Generator[None, Any, str | None]:
        """Take the trunk of a task through its workflow, as often as it takes; return why it failed in the end."""
        admission = self.spec.admission
        if admission is not None and len(self.system.ledger.live) > admission.most:
            self._blame(branch, FULL)
            return FULL
        run = self.runs[branch.index] = branch.state.run = Run(branch, self.plan)
        deadline = self.spec.deadline
        alarm = None if deadline is None else self.alarms.set(branch.time + deadline, lambda: self._late(run))
        failure: str | None = None
        again = False
        while True:
            try:
                if again:
                    yield from self._come_back(branch, run)
                yield from self.orchestrator.guard(branch, self._work(branch, flow))
                break
            except (TaskFailed, Cut) as cut:
                again = self._stopped(branch, run, cut)
                if not again:
                    failure = str(cut)
                    break
        if alarm is not None:
            self.alarms.cancel(alarm)
        if failure is not None:
            failure = self._give_up(branch, run, failure)
        del self.runs[branch.index]
        if run.past:
            self.plan.harm(branch.task).fatal += run.past
        return failure

    def _work(self, branch: Branch, flow: "Flow") -> Script:
        """Go through the workflow, and be there on the clock at the end of it, or of what failed."""
        try:
            yield from flow.walk(branch, flow.start)
            if self.at_exit and self.checkpoints is not None:
                self.checkpoints.write_all(branch)
        except TaskFailed:
            yield from settled(branch)  # a crash or the deadline may come before
            raise
        yield from settled(branch)

    # What ends a run

    def _late(self, run: Run) -> None:
        """The deadline of a task has come."""
        branch = run.trunk
        self._blame(branch, DEADLINE)
        branch.interrupt(Late(DEADLINE, self.path_so_far(branch)))

    def path_so_far(self, branch: Branch) -> list[float] | None:
        """Return the parts of the critical path of a trunk that is about to be cut off at a join; None where it waits for none."""
        task, ledger = branch.task, self.system.ledger
        if branch.join is None or task.spans is None:
            return None
        spans = task.spans
        task.spans = spans[:]  # what is open is booked by those who wait, when they are taken out
        try:
            return ledger._cut(task, self.sim.now)
        finally:
            task.spans = spans

    def is_last(self, run: Run) -> bool:
        """Whether a task that fails now fails for good."""
        return run.restarts >= self.spec.restarts

    def _stopped(self, branch: Branch, run: Run, cut: Exception) -> bool:
        """The run of a task has come to an end, now. Return whether it begins again; then all is as at the checkpoint."""
        now = self.sim.now
        harm = self.plan.harm(branch.task)
        branch.struck, branch.span = None, 0
        run.forget_after(now)
        if isinstance(cut, Late) or self.is_last(run):
            self._close(branch, cut, now)
            if self.at_exit and isinstance(cut, TaskFailed) and self.checkpoints is not None:
                self.checkpoints.write_all(branch)
            return False
        cause = harm.fatal[-1].root if harm.fatal else None
        writes = self.at_exit and isinstance(cut, TaskFailed)
        saved = run.choose(math.inf if writes else now)
        if branch.time < now:
            branch.book(self.lost, branch.time, now)  # it waited for branches, which are lost
        self.plan.throw_away(branch, saved.parts)
        branch.cut_off(saved.parts, saved.first, self.lost, saved.time, now)
        branch.let_go()
        if writes and self.checkpoints is not None:
            self.checkpoints.write_all(branch)
            saved.durable = min(saved.durable, branch.time)
        if cause is not None:
            branch.because = cause
            name = self.system.incidents.causes[cause].name
            self.plan.lost(branch, cause, now - saved.time, f"{name} -> {cut} -> restart")
        run.restart(saved, harm)
        branch.facts[RESTARTS] += 1
        return True

    def _close(self, branch: Branch, cut: Exception, now: float) -> None:
        """A task has failed for good: its path ends now, wherever it was."""
        if isinstance(cut, Cut) and cut.parts is not None:
            # What lay on the path of branches is on that of the task, and no longer beside it.
            branch.task.overlap([own - path for own, path in zip(branch.parts, cut.parts, strict=True)])
            branch.parts[:] = cut.parts
            branch.time = now
        elif branch.time > now:
            branch._clip(now)
        branch.let_go()

    def _come_back(self, branch: Branch, run: Run) -> Script:
        """Wait until there is an orchestrator, back off, and read the state."""
        yield from self.orchestrator.door(branch, run)
        number = run.restarts
        jitter = self.jitter.draw(branch.index, number - 1, branch.lane)
        run.wait = self.waits.delay(number, run.wait, jitter)
        branch.add(self.backoff, run.wait)
        branch.add(self.resume_account, self.resumes.draw(branch.index, number - 1, branch.lane))
        yield from settled(branch)

    def _blame(self, branch: Branch, reason: str) -> None:
        """A task fails by a rule: that is a strike, at the root of which is what has cost the task most."""
        incidents, harm = self.system.incidents, self.plan.harm(branch.task)
        strike = incidents.strike(incidents.cause(reason, "load"), branch.index, 0, self.sim.now, "workflow")
        cost = {
            cause: harm.seconds.get(cause, 0.0) + harm.delays.get(cause, 0.0) for cause in (*harm.seconds, *harm.delays)
        }
        if cost:
            strike.root = max(cost, key=lambda one: (cost[one], -one))
        harm.fatal.insert(0, strike)

    # After the last failure

    def _give_up(self, branch: Branch, run: Run, failure: str) -> str | None:
        """Take back what was done, and ask a person; return the failure that is left."""
        if self.spec.compensate:
            for undo in sorted(run.done, key=lambda one: one.done, reverse=True):
                branch.add(undo.account, undo.seconds)
                branch.facts[COMPENSATIONS] += 1
        if self.takes is None or self.spec.escalate is None:
            return failure
        branch.facts[ESCALATIONS] += 1
        branch.add(self.person, self.takes.draw(branch.index, 0, branch.lane))
        if self.solving.draw(branch.index, 0, branch.lane) >= self.spec.escalate.solves:
            return failure
        harm = self.plan.harm(branch.task)
        spoiled, harm.spoiled = [one.strike for one in harm.spoiled], []
        self.system.incidents.settle([*harm.fatal, *run.past, *harm.struck, *spoiled], DEGRADED, branch.time)
        return None


def taken_back(system: "System", path: str, undo: DurationDist | None) -> Callable[[Branch, int], None] | None:
    """Return what is to be told of each call of a service that is done; None where no call of it is ever taken back."""
    if undo is None or not system.scenario.recovery.compensate:
        return None
    account = system.ledger.account("recovery", path, "compensate")
    seconds = system.stream(f"{path}/undo", undo)

    def done(branch: Branch, ordinal: int) -> None:
        runs = TaskRuns.of(system)
        run = None if runs is None else runs.of_task(branch.task)
        if run is not None:
            run.done.append(Undo(branch.time, account, seconds.draw(branch.index, ordinal, branch.lane)))

    return done


def settled(branch: Branch) -> Script:
    """Let the clock come to where the branch is."""
    if branch.time > branch.sim._now:
        branch.settle()
        yield


def _needed(system: "System") -> bool:
    checkpoint = system.scenario.orchestrator.checkpoint
    struck = {path for there in system.plan.active.values() for path in there}
    return (
        system.scenario.recovery != Recovery()
        or (checkpoint is not None and checkpoint.mode == "exit")
        or any(path == "orchestrator" or path.startswith("agents.") for path in struck)
    )
