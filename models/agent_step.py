"""An agent's step: turns of its loop, each one inference and the coordination around it.

A turn: control and state come to where the agent runs, the orchestrator dispatches, the agent looks things up, calls its
model, writes to its memory, and calls the tools it chose.

Checked: tests/test_steps.py, tests/test_runtime.py, tests/test_memory.py.
"""

from bisect import bisect_right
from collections.abc import Callable, Generator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Join
from ..sim.engine.draws import Stream
from .context import WRONG_GUESSES
from .control import Control
from .line import Line
from .memory_use import MemoryUse
from .parallel import fork_number, in_parallel
from .plain_call import compiled
from .service import Service
from .steps import Flow, Process, Walk, retriever
from .task_run import TaskRuns
from .workflow import END, NONE, START, AgentStep, Markov

if TYPE_CHECKING:
    from .system import System

Script = Generator[None, Any, None]


class AgentProcess(Process):
    """An agent's turns."""

    spec: AgentStep
    control: Control
    resumes = has_positions = True

    def __init__(self, system: "System", flow: Flow, name: str, spec: AgentStep) -> None:
        super().__init__(system, flow, name, spec)
        agent = system.scenario.agents[spec.agent]
        path = f"agents.{spec.agent}"
        server = system.servers[agent.model]
        self.home = system.home(agent.node, server)
        self.call = system.call(path, self.home, server, agent.prompt, agent.output, agent.priority)
        self.control = Control.of(system, path, self.home)
        self.slots = system.agent_slots(path, agent.concurrency)
        self.before: list[Callable[[Branch], Script]] = []
        self.after: list[Callable[[Branch], Script]] = []
        self.lookup: Lookup | None = None
        self.memory: MemoryUse | None = None
        if agent.retriever is not None:
            self.lookup = Lookup(system, path, self.home, retriever(system, agent.retriever))
            self.before.append(self.lookup.run)
        if agent.memory is not None:
            store = agent.memory
            self.memory = memory = system.once(f"{path}/memory", lambda: MemoryUse(system, path, self.home, store))
            self.before += memory.before
            self.after += memory.after
        self.tools = None if spec.tools is None else ToolUse(system, self, path, spec)
        self.demand = server.speed**spec.elasticity
        once = spec.repeat.is_constant and spec.repeat.mean == 1 and self.demand == 1.0
        self.turns = None if once else system.stream(f"{self.path}/repeat", spec.repeat)
        self.most = spec.at_most or system.scenario.max_steps + 1  # one more than any task may take: then it fails
        self.rounding = system.draws.uniform(f"{self.path}/demand")
        self.open_ended = isinstance(spec.tools, Markov) and "repeat" not in spec.model_fields_set
        self.turn_slot = system.ledger.callee()
        self.replanning = system.draws.uniform(f"{self.path}/replan") if spec.replan else None
        runs = TaskRuns.of(system)
        self.worker = None if runs is None else runs.worker(path)

    def link(self) -> None:
        """Resolve what comes next, also by replanning."""
        super().link()
        self.replans = [
            (total, self.flow.target(name))
            for total, name in zip(accumulate(self.spec.replan.values()), self.spec.replan, strict=True)
        ]
        self.act_account = self.system.ledger.account("structure", self.spec.agent, "invoke_agent")

    def connect(self) -> None:
        """Last touch, once every home of an agent is known."""
        self.control.connect()
        bare = not (self.control.matters or self.slots or self.before or self.after or self.skip or self.replanning)
        if bare and self.worker is None and self.tools is None and self.turns is None and self.ways is None:
            self.plain = compiled(self.call)
            if self.plain is None and self.call.direct:
                self.only = self.call

    def run(self, branch: Branch) -> Walk:
        """Take the turns of one visit; each is one step of the task."""
        run = branch.state.run
        depth, back = (0, None) if run is None else run.enter()
        if back is not None:  # the task began again, in this very loop
            visit, left = back
        else:
            visit = self.enter(branch)
            if self.skip is not None and self.passes(branch, visit):
                return self.onward(branch, visit)
            left = 1 if self.turns is None and not self.open_ended else self._turns(branch, visit)
        over = False
        while left > 0 and not over:
            if run is not None:
                run.at(depth, (visit, left))
            left -= 1
            self.count(branch)
            outer, began = branch.open_span(), branch.time
            over = yield from self.turn(branch)
            branch.close_span(outer, self.act_account, began)
            if self.replanning is not None:
                draw = self.replanning.draw(branch.index, branch.calls[self.turn_slot], branch.lane)
                branch.calls[self.turn_slot] += 1
                for total, target in self.replans:
                    if draw < total:
                        return target
        return self.onward(branch, visit)

    def turn(self, branch: Branch, think: Callable[[Branch], Script] | None = None) -> Generator[None, Any, bool]:
        """One inference and the coordination around it; return whether the agent chose to end its loop.

        `think` makes the call in place of the agent, for who wants to hear of it as it goes.
        """
        act = self._turn(branch, think)
        return act if self.worker is None else self.worker.guard(branch, act)

    def _turn(self, branch: Branch, think: Callable[[Branch], Script] | None) -> Generator[None, Any, bool]:
        call = self.call
        if self.control.matters:
            yield from self.control.arrive(branch)
        if self.slots is not None:
            yield from self._take(branch)
        for act in self.before:
            yield from act(branch)
        thought = branch.parts[call.infer_account]
        if think is not None:
            yield from think(branch)
        elif not call.direct or branch.lane:
            yield from call.perform(branch)
        else:
            if call.begin(branch):
                yield
            call.finish(branch)
        thought = branch.parts[call.infer_account] - thought
        for act in self.after:
            yield from act(branch)
        over = False if self.tools is None else (yield from self.tools.use(branch, thought))
        if self.slots is not None:
            if self.system.cancels and branch.time > branch.sim.now:
                branch.settle()  # so that a branch cancelled until then gives its slot back
                yield
            self._give(branch)
        return over

    def _turns(self, branch: Branch, visit: int) -> int:
        """Return how many turns the loop takes at most."""
        if self.open_ended or self.turns is None:
            return self.most
        wanted = self.turns.draw(branch.index, visit, branch.lane)
        if self.demand != 1.0:
            # Rounded by chance, so that the mean number of turns is what the elasticity says.
            wanted = int(wanted * self.demand + self.rounding.draw(branch.index, visit, branch.lane))
        return min(int(wanted), self.most)

    def _take(self, branch: Branch) -> Script:
        """Wait until this agent has a free slot for the task."""
        slots = self.slots
        assert slots is not None
        wait = branch.wait
        slots.pool.take(wait, branch.time)
        yield
        branch.book(slots.queue_account, wait.arrived, branch.sim.now)
        branch.held = [*(branch.held or ()), slots.pool]

    def _give(self, branch: Branch) -> None:
        """Free the slot when the clock has come to the branch's local time."""
        slots = self.slots
        assert slots is not None
        branch.held = [pool for pool in branch.held or () if pool is not slots.pool]
        slots.pool.give_at(branch.time)


class Lookup:
    """A service that an agent asks before it thinks."""

    def __init__(self, system: "System", path: str, home: int, service: Service) -> None:
        self.service = service
        self.line = system.line(path, home, service.path, service.node)

    def run(self, branch: Branch) -> Script:
        """Ask it."""
        yield from self.service.call(branch, self.line)


class ToolUse:
    """Which tools an agent calls after it has thought, and how: one after the other, at once, or guessed while it thinks."""

    def __init__(self, system: "System", step: Process, path: str, spec: AgentStep) -> None:
        self.overlapped = system.runtime.tools != "synchronous"
        self.guesses = system.draws.uniform(f"{step.path}/guess") if system.runtime.tools == "speculated" else None
        self.speculation = system.scenario.orchestrator.speculation
        self.slot = system.ledger.callee()
        self.fork = fork_number(f"{step.path}/tools")
        self.count = system.stream(f"{step.path}/calls", spec.calls)
        self.draws, self.path = system.draws, step.path
        self.chances: list[Stream[float]] = []  # of the first call of a turn, the second ...
        self.lines: dict[str, tuple[Service, Line]] = {}
        choices = spec.tools.markov if isinstance(spec.tools, Markov) else {START: spec.tools or {}}
        self.markov = isinstance(spec.tools, Markov)
        self.rows = {row: (list(weights), _cumulative(weights)) for row, weights in choices.items()}
        home = system.home(
            system.scenario.agents[spec.agent].node, system.servers[system.scenario.agents[spec.agent].model]
        )
        called = dict.fromkeys(name for weights in choices.values() for name in weights if name not in (NONE, END))
        for name in called:  # in the order they are written: a set's order differs from process to process
            service = system.service("tools", name, system.scenario.tools[name])
            self.lines[name] = service, system.line(path, home, service.path, service.node)

    def use(self, branch: Branch, thought: float) -> Generator[None, Any, bool]:
        """Make the calls of a turn that inferred for `thought` seconds; return whether the agent chose to end its loop."""
        turn = branch.calls[self.slot]
        count = int(self.count.draw(branch.index, turn, branch.lane))
        branch.calls[self.slot] = turn + 1
        likely = None if self.guesses is None else self._likely(branch)
        chosen, over = self._choose(branch, turn, count)
        ahead = 0.0 if likely is None else self._guess(branch, turn, likely, chosen, thought)
        if self.overlapped and len(chosen) > 1:
            walks = [self._walk(name, 0.0 if number else ahead) for number, name in enumerate(chosen)]
            yield from in_parallel(branch, Join(branch, len(walks)), self.fork, turn, walks)
        else:
            for name in chosen:
                service, line = self.lines[name]
                yield from service.call(branch, line, ahead)
                ahead = 0.0
        return over

    def _likely(self, branch: Branch) -> str | None:
        """Return the tool that a wrong guess would fall on: of those that are chosen here, the one chosen most."""
        names, cumulative = self.rows[branch.state.last_tool if branch.state.last_tool in self.rows else START]
        weights = [high - low for low, high in zip([0.0, *cumulative], cumulative, strict=False)]
        tools = [pair for pair in zip(weights, names, strict=True) if pair[1] not in (NONE, END)]
        return max(tools)[1] if tools else None

    def _guess(self, branch: Branch, turn: int, likely: str, chosen: list[str], thought: float) -> float:
        """Guess the first call while the model decodes: return by how many seconds it starts early, 0 if that was wrong.

        That there will be no call is guessed as well as which.
        """
        assert self.guesses is not None
        most = self.speculation.lead * thought
        if self.guesses.draw(branch.index, turn, branch.lane) < self.speculation.accuracy:
            return most
        branch.facts[WRONG_GUESSES] += 1
        self.lines[likely][0].waste(branch, most)
        return 0.0

    def _walk(self, name: str, ahead: float) -> Callable[[Branch], Generator[None, Any, Any]]:
        service, line = self.lines[name]
        return lambda child: service.call(child, line, ahead)

    def _chance(self, number: int) -> Stream[float]:
        while number >= len(self.chances):
            self.chances.append(self.draws.uniform(f"{self.path}/tool/{len(self.chances)}"))
        return self.chances[number]

    def _choose(self, branch: Branch, turn: int, count: int) -> tuple[list[str], bool]:
        """Return the tools of this turn, and whether the loop ends."""
        state = branch.state
        chosen: list[str] = []
        for number in range(count):
            row = (
                state.last_tool if state.last_tool in self.rows else START
            )  # another agent's tool may have no row here
            names, cumulative = self.rows[row]
            draw = self._chance(number).draw(branch.index, turn, branch.lane)
            name = names[bisect_right(cumulative, draw * cumulative[-1])]
            if name == END:
                state.last_tool = START
                return chosen, True
            if name != NONE:
                chosen.append(name)
                if self.markov:
                    state.last_tool = name
        return chosen, False


def _cumulative(weights: dict[str, float]) -> list[float]:
    return list(accumulate(weights.values()))
