"""`simulate(scenario, seed)`: run one replication, from the first arrival to the last end.

Leaves out: statistics (`sim.analysis`), replications.
Checked: tests/test_simulate.py, tests/test_theory.py.
"""

import gc
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from typing import Any

from ..sim.analysis.result import ResourceInfo, Result
from ..sim.engine.branch import Branch
from ..sim.engine.draws import Stream
from ..sim.engine.ledger import DONE, FAILED, Task
from ..sim.engine.simulation import Call
from .agent_step import AgentProcess
from .arrivals import Batch, first_arrivals, open_arrivals
from .failure import TaskFailed
from .perceive import PerceiveProcess
from .perceive_step import PerceiveStep
from .pipeline import PipelineProcess
from .pipeline_step import PipelineStep
from .scenario import Scenario
from .steps import (
    EvaluatorProcess,
    Flow,
    ForkProcess,
    HumanProcess,
    Process,
    ServiceProcess,
    WatchedFlow,
    WorkflowProcess,
)
from .system import System
from .task_run import TaskRuns, settled
from .team import TeamProcess
from .team_step import TeamStep
from .workflow import AgentStep, EvaluatorStep, ForkStep, HumanStep, RetrieverStep, ToolStep, Workflow, WorkflowStep

PROCESSES: dict[type, Callable[..., Process]] = {
    AgentStep: AgentProcess,
    EvaluatorStep: EvaluatorProcess,
    ToolStep: ServiceProcess,
    RetrieverStep: ServiceProcess,
    HumanStep: HumanProcess,
    WorkflowStep: WorkflowProcess,
    ForkStep: ForkProcess,
    PerceiveStep: PerceiveProcess,
    PipelineStep: PipelineProcess,
    TeamStep: TeamProcess,
}


def simulate(scenario: Scenario, seed: int | None = None, replication: int = 0, spans: str = "none") -> Result:
    """Run one replication of a scenario.

    `spans` is 'all', 'sampled' or 'none': for which tasks the ledger keeps each span. The same scenario, seed and
    replication give the same result, whatever else runs.
    """
    seed = scenario.seed if seed is None else seed
    system = System(scenario, seed, replication, spans)
    load = Load(system)
    collecting = gc.isenabled()
    gc.disable()  # nothing in a run forms cycles that outlive their task, and looking for them costs a third of the time
    try:
        load.run()
    finally:
        if collecting:
            if not gc.get_freeze_count():
                # What a run leaves goes to the old objects at once: the next collection of young ones would walk it all.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
    return Result.of(
        system.ledger,
        scenario=scenario.name,
        seed=seed,
        replication=replication,
        classes=tuple(scenario.all_classes),
        horizon=scenario.workload.horizon is not None,
        doubts=(*scenario.doubts(), *system.doubts()),
        resources=tuple(ResourceInfo(*resource) for resource in system.capacities),
    ).of_problems(scenario.workload.problems)


def put_together(system: System, spec: Workflow, path: str, flows: dict[str, Flow]) -> Flow:
    """Make the processes of a workflow's steps."""
    runs = TaskRuns.of(system)
    flow = Flow(system, path, flows) if runs is None else WatchedFlow(system, path, flows, runs)
    for name, step in spec.steps.items():
        flow.steps[name] = PROCESSES[type(step)](system, flow, name, step)
    flow.start = flow.steps[spec.start]
    return flow


class Load:
    """The tasks of a run: they arrive, run their workflow, and end."""

    _ok = True
    _value = None

    def __init__(self, system: System) -> None:
        scenario = system.scenario
        self.system = system
        self.sim, self.ledger, self.draws, self.served = system.sim, system.ledger, system.draws, system.served
        self.plan = system.plan
        self.runs = TaskRuns.of(system)
        self.flows: dict[str, Flow] = {}
        for name, spec in scenario.workflows.items():
            self.flows[name] = put_together(system, spec, f"workflows.{name}", self.flows)
        main = put_together(system, scenario.workflow, "workflow", self.flows)
        self._link([main, *self.flows.values()])
        classes = scenario.all_classes
        self.entries = [main if group.workflow is None else self.flows[group.workflow] for group in classes.values()]
        self.group = system.draws.choice("workload/class", [group.weight for group in classes.values()])
        self.requests: list[Stream[float]] = [
            system.stream(f"workload/request/{name}", group.request or scenario.workload.request)
            for name, group in classes.items()
        ]
        self.workload = scenario.workload
        self.limit = scenario.workload.tasks
        trace = scenario.workload.arrivals.trace
        self.block_size = 0.0 if trace is None else trace.block_size
        self.draining = False
        self.arriving = True
        self.on_end: Callable[[Task], None] | None = None
        self.ledger.on_complete = self.still
        self.cut_off = self.workload.horizon is not None or self.workload.drain is not None
        self.ledger.clips = self.cut_off or system.cancels

    def _link(self, flows: list[Flow]) -> None:
        for flow in flows:
            for step in flow.steps.values():
                step.link()
        for flow in flows:
            for step in flow.steps.values():
                step.connect()

    def run(self) -> None:
        """Run until all tasks have ended, or to the horizon."""
        workload = self.workload
        closed = workload.users is not None
        source = ClosedSource(self) if closed else OpenSource(self, open_arrivals(workload, self.draws))
        source.start()
        self.plan.start()
        self.sim.run(until=workload.horizon)
        self.plan.stop(self.sim.now)
        self.ledger.finish(self.sim.now if self.cut_off else None)

    def arrivals_over(self) -> None:
        """No task will arrive any more: the tasks under way have until the end of `drain`."""
        self.arriving = False
        self.still()
        if self.workload.drain is not None and not self.draining:
            self.draining = True
            self.sim.stop_at(self.sim.now + self.workload.drain)

    def still(self) -> None:
        """Stop the clocks of faults once nobody is there whom they could strike, or the run would go on for ever."""
        if not (self.arriving or self.ledger.live or self.ledger.lingering):
            self.plan.stop(self.sim.now)

    def arrive(
        self,
        index: int,
        request: float | None = None,
        replayed: float | None = None,
        blocks: Sequence[Hashable] | None = None,
    ) -> None:
        """A task arrives now, and starts; a trace gives the tokens of its request and output, and the request's blocks."""
        now = self.sim.now
        group = self.group.draw(index, 0)
        task = self.ledger.open(index, group, now)
        state = self.system.context(index)
        if request is None and self.system.has_tokens:
            request = round(self.requests[group].draw(index, 0))
        if request:
            state.tokens = state.held[0] = float(request)
        if blocks and state.segments:
            state.consists_of(blocks, self.block_size)
        if replayed is not None:
            state.replayed = replayed
        branch = Branch(task, 0, now, state)
        task.trunk = branch
        flow = self.entries[group]
        branch.start(self._trunk(branch, flow) if self.runs is None else self._watched(branch, flow, self.runs))

    def _trunk(self, branch: Branch, flow: Flow) -> Generator[None, Any, None]:
        failure: str | None = None
        try:
            yield from flow.walk(branch, flow.start)
        except TaskFailed as failed:
            failure = str(failed)
            branch.let_go()
        if branch.time > self.sim._now:
            branch.settle()
            yield
        self._end(branch, failure)
        yield  # over: nobody continues it

    def _watched(self, branch: Branch, flow: Flow, runs: TaskRuns) -> Generator[None, Any, None]:
        failure = yield from runs.course(branch, flow)
        yield from settled(branch)
        self._end(branch, failure)
        yield  # over: nobody continues it

    def _end(self, branch: Branch, failure: str | None) -> None:
        """A task ends, at local time, which is now."""
        self.plan.close(branch, failure)
        self.ledger.close(branch, DONE if failure is None else FAILED, failure)
        for server in self.served:
            server.forget(branch.index)
        self.draws.finish(branch.index)
        self.still()
        if self.on_end is not None:
            self.on_end(branch.task)


class OpenSource:
    """Arrivals that do not depend on the system."""

    _ok = True
    _value = None

    def __init__(self, load: Load, batches: Iterator[Batch]) -> None:
        self.load = load
        self.batches = batches
        self.index = 0
        self.callbacks: Any = None
        self._calls = (self._arrive,)
        self.batch = Batch([], None, None)
        self.place = -1

    def start(self) -> None:
        """Schedule the first arrival."""
        self._next()

    def _next(self) -> None:
        """Schedule the next arrival, if there is one."""
        limit = self.load.limit
        if limit is not None and self.index >= limit:
            self.load.arrivals_over()
            return
        self.place += 1
        while self.place >= len(self.batch.times):
            batch = next(self.batches, None)
            if batch is None:
                self.load.arrivals_over()
                return
            self.batch, self.place = batch, 0
        self.callbacks = self._calls
        self.load.sim.schedule_at(self.batch.times[self.place], self)

    def _arrive(self, _event: object) -> None:
        batch, place = self.batch, self.place
        request = None if batch.request is None else batch.request[place]
        output = None if batch.output is None else batch.output[place]
        index = self.index
        self.index = index + 1
        blocks = None if batch.blocks is None else batch.blocks[place]
        self.load.arrive(index, request, output, blocks)
        self._next()


class ClosedSource:
    """A fixed number of users: each thinks, submits a task, waits for its end, and thinks again.

    The tasks of user u are u, u + users, u + 2 users ...: a user meets the same tasks whatever the system does.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        closed = load.workload.arrivals.closed
        assert closed is not None
        self.users = closed.users
        self.think = load.system.stream("workload/think", closed.think)
        self.issued = 0
        load.on_end = self._ended

    def start(self) -> None:
        """Every user submits a first task, when the workload says."""
        for user, when in enumerate(first_arrivals(self.load.workload, self.load.draws)):
            self._submit(user, when)

    def _submit(self, index: int, after: float) -> None:
        limit = self.load.limit
        if limit is not None and self.issued >= limit:
            return
        self.issued += 1
        self.load.sim.schedule_at(self.load.sim.now + after, Call(lambda _event: self._arrive(index)))

    def _arrive(self, index: int) -> None:
        self.load.arrive(index)
        if self.load.ledger.arrived == self.load.limit:
            self.load.arrivals_over()

    def _ended(self, task: Task) -> None:
        following = task.index + self.users
        self._submit(following, self.think.draw(following, 0))
