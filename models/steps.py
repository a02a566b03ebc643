"""The steps of a workflow as processes: what a task does at each, in which order, and where it goes next.

A step's `run` is a generator that takes a branch through the step and returns the next one (None at the end). A `Flow`
walks from step to step.

Leaves out: what a call of a model or a service does (`model_call`, `service`).
Checked: tests/test_steps.py.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Join
from ..sim.engine.draws import Stream
from ..sim.engine.ledger import STRUCTURE
from .context import LLM_CALLS, MESSAGES, STEPS
from .control import Control
from .failure import CallFailed, TaskFailed
from .guard import Guard
from .handling import Handling
from .parallel import fork_number, in_parallel
from .service import Service
from .step import DONE, Step
from .task_run import TaskRuns, settled
from .workflow import EvaluatorStep, ForkStep, HumanStep, RetrieverStep, ToolStep, WorkflowStep

if TYPE_CHECKING:
    from .model_call import ModelCall
    from .plain_call import PlainCall
    from .system import System

Walk = Generator[None, Any, "Process | None"]


class Process:
    """A step put together. `next` is the only step that may follow, unless `ways` chooses among several.

    A task that begins again can go on at the beginning of a step that `resumes`; within it, if it `has_positions`.
    """

    resumes = False
    has_positions = False

    def __init__(self, system: "System", flow: "Flow", name: str, spec: Step) -> None:
        self.system = system
        self.flow = flow
        self.name = name
        self.path = f"{flow.path}.{name}"
        self.max_steps = system.scenario.max_steps
        self.next: Process | None = None
        self.ways: Stream[int] | None = None
        self.targets: list[Process | None] = []
        self.step_account = system.ledger.account(STRUCTURE, name, "step")
        self.skip = system.draws.uniform(f"{self.path}/skip") if spec.skip else None
        self.skip_share = spec.skip
        self.slot = system.ledger.callee()
        self.spec = spec
        self.control: Control | None = None
        self.act_account = self.step_account  # of the span around what the step does
        self.plain: PlainCall | None = None  # what the step does, where that is so little
        self.only: ModelCall | None = None  # the call that is all the step does

    def link(self) -> None:
        """Resolve what comes next, once all steps of the flow exist."""
        after = self.spec.next
        if isinstance(after, str):
            self.next = self.flow.target(after)
            return
        self.targets = [self.flow.target(name) for name in after]
        self.ways = self.system.draws.choice(f"{self.path}/next", list(after.values()))

    def connect(self) -> None:
        """Last touch, once every home is known."""
        if self.control is not None:
            self.control.connect()

    def enter(self, branch: Branch) -> int:
        """Count a visit, and return its ordinal."""
        visit = branch.calls[self.slot]
        branch.calls[self.slot] = visit + 1
        return visit

    def passes(self, branch: Branch, visit: int) -> bool:
        """Whether this visit skips the step."""
        return self.skip is not None and self.skip.draw(branch.index, visit, branch.lane) < self.skip_share

    def count(self, branch: Branch) -> None:
        """Count a step of the task, within the bound on all of them."""
        facts = branch.facts
        facts[STEPS] += 1
        if facts[STEPS] > self.max_steps and facts[STEPS] - self._redone(branch) > self.max_steps:
            raise TaskFailed(f"more than {self.max_steps} steps")

    def _redone(self, branch: Branch) -> float:
        """Return how many steps of a task were lost when it began again."""
        runs = TaskRuns.of(self.system)
        run = None if runs is None else runs.of_task(branch.task)
        return 0.0 if run is None else run.steps_redone

    def visits_before(self, branch: Branch, visit: int) -> int:
        """Return how many visits came before this one, but for those that were lost when the task began again."""
        run = branch.state.run
        return visit if run is None else visit - run.redone[self.slot]

    def onward(self, branch: Branch, visit: int) -> "Process | None":
        """Return the step after this visit."""
        if self.ways is None:
            return self.next
        return self.targets[self.ways.draw(branch.index, visit, branch.lane)]

    def run(self, branch: Branch) -> Walk:
        """Take the branch through the step; return the next."""
        raise NotImplementedError


class Flow:
    """A workflow put together."""

    def __init__(self, system: "System", path: str, flows: dict[str, "Flow"]) -> None:
        self.system = system
        self.path = path
        self.flows = flows  # the named workflows; filled while they are made
        self.max_steps = system.scenario.max_steps
        self.steps: dict[str, Process] = {}
        self.start: Process | None = None

    def target(self, name: str) -> Process | None:
        """Return the step of that name; None for the end."""
        return None if name == DONE else self.steps[name]

    def begin_at(self, name: str) -> Process | None:
        """Return where a branch named `name` begins: a step of this flow, or the start of another workflow."""
        return self.steps[name] if name in self.steps else self.flows[name].start

    def walk(self, branch: Branch, step: Process | None) -> Generator[None, Any, None]:
        """Take a branch from `step` to the end.

        The hot loop of the program: a step that is a `PlainCall`, or nothing but a call, runs here; others run themselves.
        """
        index, lane, facts, calls, parts, spans = (
            branch.index, branch.lane, branch.facts, branch.calls, branch.parts, branch.spans,
        )  # fmt: skip
        wait, most = branch.wait, self.max_steps
        while step is not None:
            plain = step.plain
            if plain is None:
                call = step.only
                if call is None or spans is not None or lane:
                    step = yield from step.run(branch)
                    wait = branch.wait  # a call that was cut off has given up the one there was
                    continue
                step.count(branch)
                if call.begin(branch):
                    yield
                call.finish(branch)
                step = step.next
                continue
            (
                callee, request, request_fixed, request_account, service, use, queue_account, infer_account,
                response, response_fixed, response_account, _call_account,
            ) = plain  # fmt: skip
            facts[STEPS] += 1
            if facts[STEPS] > most:
                raise TaskFailed(f"more than {most} steps")
            facts[LLM_CALLS] += 1
            ordinal = calls[callee]
            calls[callee] = ordinal + 1
            began = at = branch.time
            if request_account >= 0:
                at = began + (request_fixed + request(index, ordinal, lane))
                parts[request_account] += at - began
                facts[MESSAGES] += 1
            if use(wait, at, service(index, ordinal, lane)):
                yield
            started = wait.started
            ended = over = wait.ended
            parts[queue_account] += started - at
            parts[infer_account] += ended - started
            if response_account >= 0:
                over = ended + (response_fixed + response(index, ordinal, lane))
                parts[response_account] += over - ended
                facts[MESSAGES] += 1
            branch.time = over
            if spans is not None:
                self._record(branch, step, began, at, started, ended, over)
            step = step.next

    def _record(
        self, branch: Branch, step: Process, began: float, at: float, started: float, ended: float, over: float
    ) -> None:
        """Keep the spans of a `PlainCall`: a step that holds the way there, the call, and the way back."""
        plain = step.plain
        assert plain is not None
        assert branch.spans is not None
        lane, outer, task, spans = branch.lane, branch.span, branch.task, branch.spans
        own, call = task.next_id(), task.next_id()
        if at > began:
            spans += (lane, own, plain.request_account, began, at, 0.0, 0)
        if started > at:
            spans += (lane, call, plain.queue_account, at, started, 0.0, 0)
        if ended > started:
            spans += (lane, call, plain.infer_account, started, ended, 0.0, 0)
        spans += (lane, own, plain.call_account, at, ended, 0.0, call)
        if over > ended:
            spans += (lane, own, plain.response_account, ended, over, 0.0, 0)
        spans += (lane, outer, step.act_account, began, over, 0.0, own)


class WatchedFlow(Flow):
    """A workflow of tasks that may be cut off, or begin again: the trunk keeps track of where it is."""

    def __init__(self, system: "System", path: str, flows: dict[str, Flow], runs: TaskRuns) -> None:
        super().__init__(system, path, flows)
        self.runs = runs

    def walk(self, branch: Branch, step: Process | None) -> Generator[None, Any, None]:
        """Take a branch from `step` to the end, or from where it goes on."""
        run = branch.state.run
        if run is None:
            yield from super().walk(branch, step)
            return
        depth, back = run.enter()
        step = back or step
        while step is not None:
            run.at(depth, step)
            run.step_slot = None if step.has_positions else step.slot
            if not step.has_positions:
                yield from settled(branch)  # on the clock: a crash or the deadline may come before
                self.runs.orchestrator.step(branch, run)
            run.shut += not step.resumes
            now, step = step, (yield from step.run(branch))
            run.shut -= not now.resumes


class EvaluatorProcess(Process):
    """Judge, and go on or go back."""

    spec: EvaluatorStep
    control: Control
    resumes = True

    def __init__(self, system: "System", flow: Flow, name: str, spec: EvaluatorStep) -> None:
        super().__init__(system, flow, name, spec)
        judge = system.scenario.evaluators[spec.evaluator]
        path = f"evaluators.{spec.evaluator}"
        server = None if judge.model is None else system.servers[judge.model]
        home = system.home(judge.node, server)
        self.control = Control.of(system, path, home)
        self.call = (
            None if server is None else system.call(path, home, server, judge.prompt, judge.output, judge.priority)
        )
        self.latency = None if judge.latency is None else system.stream(f"{path}/latency/{self.path}", judge.latency)
        self.judge_account = system.ledger.account("tool", spec.evaluator, "tool.execute")
        self.verdict = system.draws.uniform(f"{path}/accept/{self.path}")
        self.accept = judge.accept
        self.finds = judge.finds
        self.finding = system.draws.uniform(f"{path}/finds/{self.path}") if judge.finds else None
        self.recovery_account = -1  # nothing can be wrong
        if system.plan.active:
            self.recovery_account = system.ledger.account("recovery", spec.evaluator, "made again")
        self.most = spec.at_most

    def link(self) -> None:
        """Resolve where either verdict leads."""
        self.accepted = self.flow.target(self.spec.accepted)
        self.rejected = self.flow.target(self.spec.rejected)

    def run(self, branch: Branch) -> Walk:
        """Judge, and return where the verdict leads."""
        visit = self.enter(branch)
        if self.passes(branch, visit):
            return self.accepted
        self.count(branch)
        outer, began = branch.open_span(), branch.time
        if self.control.matters:
            yield from self.control.arrive(branch)
        if self.call is not None:
            yield from self.call.perform(branch)
        elif self.latency is not None:
            branch.add(self.judge_account, self.latency.draw(branch.index, visit, branch.lane))
        branch.close_span(outer, self.step_account, began)
        plan = self.system.plan
        if self.finding is not None and branch.task.harm is not None and branch.task.harm.spoiled:
            found = self.finding.draw(branch.index, visit, branch.lane) < self.finds
            if found:
                plan.redone(branch, True, self.recovery_account)
                return self._reject(branch, visit)
        if self.verdict.draw(branch.index, visit, branch.lane) < self.accept:
            return self.accepted
        plan.redone(branch, False, self.recovery_account)
        return self._reject(branch, visit)

    def _reject(self, branch: Branch, visit: int) -> Process | None:
        if self.visits_before(branch, visit) + 1 >= self.most:
            raise TaskFailed(f"{self.path}: rejected {self.most} times")
        return self.rejected


class ServiceProcess(Process):
    """A direct call of a tool or a retriever."""

    control: Control
    resumes = True

    def __init__(self, system: "System", flow: Flow, name: str, spec: ToolStep | RetrieverStep) -> None:
        super().__init__(system, flow, name, spec)
        if isinstance(spec, ToolStep):
            self.most = spec.at_most
            self.service = system.service("tools", spec.tool, system.scenario.tools[spec.tool])
        else:
            self.most = None
            self.service = retriever(system, spec.retriever)
        device = isinstance(spec, ToolStep) and system.scenario.tools[spec.tool].device
        home = system.home(None, system.beside(self.service.node) if device else None)
        self.control = Control.of(system, self.path, home)
        self.line = system.line(self.path, home, self.service.path, self.service.node)

    def run(self, branch: Branch) -> Walk:
        """Make the call."""
        visit = self.enter(branch)
        if self.most is not None and self.visits_before(branch, visit) >= self.most:
            raise TaskFailed(f"{self.path}: more than {self.most} visits")
        if not self.passes(branch, visit):
            self.count(branch)
            outer, began = branch.open_span(), branch.time
            if self.control.matters:
                yield from self.control.arrive(branch)
            yield from self.service.call(branch, self.line)
            branch.close_span(outer, self.step_account, began)
        return self.onward(branch, visit)


class HumanProcess(Process):
    """Wait for a person."""

    resumes = True

    def __init__(self, system: "System", flow: Flow, name: str, spec: HumanStep) -> None:
        super().__init__(system, flow, name, spec)
        self.latency = system.stream(f"{self.path}/human", spec.human)
        self.account = system.ledger.account("human", name)
        if system.runtime.control == "device":  # which no person can be asked from
            self.control = Control.of(system, self.path, system.home(None, None))

    def run(self, branch: Branch) -> Walk:
        """Wait."""
        visit = self.enter(branch)
        if not self.passes(branch, visit):
            self.count(branch)
            if self.control is not None:
                yield from self.control.arrive(branch)
            branch.add(self.account, self.latency.draw(branch.index, visit, branch.lane))
        return self.onward(branch, visit)


class WorkflowProcess(Process):
    """Another workflow, in place."""

    spec: WorkflowStep
    resumes = has_positions = True

    def __init__(self, system: "System", flow: Flow, name: str, spec: WorkflowStep) -> None:
        super().__init__(system, flow, name, spec)
        self.rounds = system.stream(f"{self.path}/repeat", spec.repeat)
        handled = spec.handling != Handling()
        self.guard = Guard(system, self.path, spec.handling, (), None) if handled else None

    def run(self, branch: Branch) -> Walk:
        """Walk through the other workflow, round after round."""
        run = branch.state.run
        depth, back = (0, None) if run is None else run.enter()
        visit, first = back or (self.enter(branch), 0)
        if back is not None or not self.passes(branch, visit):
            if self.guard is None:
                yield from self._walk(branch, visit, first, depth)
            else:
                yield from self.guard.call(branch, lambda own, _: self._attempt(own, visit, first, depth))
        return self.onward(branch, visit)

    def _walk(self, branch: Branch, visit: int, first: int, depth: int) -> Generator[None, Any, None]:
        """Walk through the other workflow, from its round `first` on."""
        run, inner = branch.state.run, self.flow.flows[self.spec.workflow]
        for number in range(first, int(self.rounds.draw(branch.index, visit, branch.lane))):
            if run is not None:
                run.at(depth, (visit, number))
            yield from inner.walk(branch, inner.start)

    def _attempt(self, branch: Branch, visit: int, first: int, depth: int) -> Generator[None, Any, None]:
        """Walk through it as a call that can be made again. Raises CallFailed."""
        held, fatal = branch.held or [], self.system.plan.harm(branch.task).fatal
        known = len(fatal)
        try:
            yield from self._walk(branch, visit, first, depth)
        except TaskFailed as failed:
            branch.struck = [*(branch.struck or ()), *fatal[known:]]  # it may come to nothing yet
            del fatal[known:]
            raise CallFailed("error", str(failed)) from None
        finally:
            branch.release(held)


class ForkProcess(Process):
    """Parallel branches, and their join."""

    spec: ForkStep

    def __init__(self, system: "System", flow: Flow, name: str, spec: ForkStep) -> None:
        super().__init__(system, flow, name, spec)
        self.fork = fork_number(self.path)
        self.copies = None if spec.copies is None else system.stream(f"{self.path}/copies", spec.copies)

    def run(self, branch: Branch) -> Walk:
        """Fork, and wait for the join."""
        visit = self.enter(branch)
        if self.passes(branch, visit):
            return self.onward(branch, visit)
        names = self.spec.fork
        if self.copies is not None:
            names = names * max(0, round(self.copies.draw(branch.index, visit, branch.lane)))
        if names:
            starts = [self.flow.begin_at(name) for name in names]
            cancels = self.spec.rest == "cancel" and self.spec.join != "all"  # where all are needed, none is left over
            join = Join(branch, self.spec.needed(len(starts)), cancels)
            walks = [self._walk(start) for start in starts]
            yield from in_parallel(branch, join, self.fork, visit, walks, self.system.prompts)
        return self.onward(branch, visit)

    def _walk(self, start: "Process | None") -> Any:
        return lambda child: self.flow.walk(child, start)


def retriever(system: "System", name: str) -> Service:
    """Return the service of a retriever, whose passages say what a lookup adds to the context."""
    spec = system.scenario.retrievers[name]
    service = system.service("retrievers", name, spec)
    if spec.tokens is not None:
        service.result = system.draws.stream(f"retrievers.{name}/result", spec.tokens)
    return service
