"""Demand: what one visit of each step asks of every resource, and how long it takes when nobody else is there.

Every component's mean cost, from the same spec as its process. Costs in tokens and bytes use the mean context on arrival
at a step, so they are exact where cost is proportional to it, and estimates where it is not.

Leaves out: queueing; refusals and what then fails; faults and handling but for `demand_faults`; how modalities come in and meet (`demand_media`), and what teams say
(`demand_team`).
Checked: tests/test_bounds.py, tests/test_bounds_media.py, against the utilization and the empty system's times of the simulator.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from ..sim.engine.ledger import CATEGORIES
from .agent_step import AgentProcess
from .api import Api
from .checkpoint import Checkpoints
from .control import Control
from .demand_faults import Tries, left_out
from .demand_held import Amounts, Holdings
from .demand_media import Perception, brings, embeds, letting
from .demand_stages import Pipelines, flows
from .demand_team import Teams
from .demand_tokens import Held, Letting, TokenMeans
from .host import Host
from .line import Line
from .llm import Llm
from .memory import Summarize
from .memory_use import MemoryUse
from .model_call import ModelCall
from .network import BOUNDARIES, Channel, crossing
from .on_cores import End
from .perceive import PerceiveProcess
from .pipeline import PipelineProcess
from .service import Service
from .steps import EvaluatorProcess, HumanProcess, ServiceProcess
from .system import System
from .team import TeamProcess
from .traffic import Node, Traffic, Turns
from .workflow import HumanStep

__all__ = ["Cost", "Demand"]


@dataclass
class Cost:
    """Seconds by category of the ledger, and of each resource the seconds, the uses and (of a rate limit) the units."""

    time: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CATEGORIES, 0.0))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    uses: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def total(self) -> float:
        """All of the time."""
        return sum(self.time.values())

    def serve(self, resource: str, seconds: float, uses: float) -> None:
        """Demand `seconds` of a resource, in `uses` parts."""
        self.seconds[resource] += seconds
        self.uses[resource] += uses

    def add(self, other: "Cost", times: float = 1.0, wall: float = 1.0, category: str = "") -> None:
        """Add `times` another cost; of its time only the share `wall`, all in `category` if one is given."""
        for name, seconds in other.time.items():
            self.time[category or name] += times * wall * seconds
        for resource, seconds in other.seconds.items():
            self.serve(resource, times * seconds, times * other.uses[resource])


class Demand:
    """Costs of a scenario's components, and of each step of its traffic."""

    def __init__(self, system: System, traffic: Traffic) -> None:
        self.system = system
        self.traffic = traffic
        self.scenario = system.scenario
        self.latency = {
            f"network.{a}->{b}": edge["link"].latency.mean for a, b, edge in system._graph.edges(data=True)
        } | {"loopback": self.system.loopback[1]}
        self.latency |= {f"boundary.{name}": crossing(name, system.machine)[1] for name in BOUNDARIES}
        models = self.scenario.models.items()
        self.latency |= {f"hand_off.{name}": model.hand_off.mean for name, model in models if isinstance(model, Llm)}
        self.notes: dict[str, None] = dict.fromkeys([*traffic.notes, *left_out(self.scenario)])
        self.tries = Tries(self.scenario)
        self.counts = counts = TokenMeans(system)
        nodes = traffic.nodes
        self.growth = np.array([counts.growth(node) for node in nodes])
        self.lettings = self._lettings()
        self.teams = teams = Teams(traffic, self.growth, counts.answer)
        self.uncut = traffic.carried(counts.request, self.growth, teams.into(lambda _, part: (part.brief, part.extra)))
        self.most = counts.most
        self.tokens = np.minimum(self.uncut, self.most)
        amounts = Amounts(self.uncut, self.tokens, self.growth, embeds(traffic, self.lettings))
        self.held = Holdings(system, counts, traffic, amounts, teams, self.lettings)
        self.media, self.pipelines = Perception(self), Pipelines(self)
        self.costs = [self.visit(number, node) for number, node in enumerate(nodes)]
        if self.tokens.any():
            self.notes["what depends on tokens is an estimate: it is worked out from their means"] = None

    def _lettings(self) -> dict[int, Letting]:
        """Work out what steps bring in, and let go of again: growth is what stays."""
        found: dict[int, Letting] = {}
        for number, node in enumerate(self.traffic.nodes):
            process = node.process
            if isinstance(process, PipelineProcess):
                self.growth[number] = node.acts * sum(flow.growth for flow in flows(self.counts, process))
            if isinstance(process, PerceiveProcess):
                brought = brings(self.counts, process)
                self.growth[number] = node.acts * brought
                let_go = letting(self.traffic, number, process, brought)
                if let_go is not None:
                    found[number] = let_go
                    self.growth[number] = let_go.growth
        return found

    # Messages and calls

    def empty(self) -> Cost:
        """Return what costs nothing."""
        return Cost()

    def add_beside(self, cost: Cost, other: Cost, times: float, path: float) -> None:
        """Add `times` another cost, of which `path` take time on the critical path."""
        cost.add(other, times, path / times if times else 0.0)

    def message(self, channel: Channel | None, size: float) -> Cost:
        """Return the cost of one message of `size` bytes."""
        cost = Cost()
        if channel is None:
            return cost
        wire = channel.wire(size)
        for end in channel.ends:
            self._end(cost, end, size, wire)
        if channel.hand_off is not None:
            cost.time["communication"] += channel.hand_off.seconds(wire)
        delay = sum(self.latency[hop.name] + hop.overhead for hop in channel.hops)
        cost.time["communication"] += delay * (1 + 2 * channel.round_trips)
        for hop in channel.hops:
            if hop.shared is not None and wire:
                cost.time["communication"] += wire / hop.shared.rate
                cost.serve(hop.name, wire / hop.shared.rate, 1.0)
            elif hop.own is not None:
                cost.time["communication"] += wire / hop.own
        return cost

    def _end(self, cost: Cost, end: End, size: float, wire: float) -> None:
        """The work of a message at one of its ends."""
        coding = 0.0 if end.coder is None else end.coder.mean(size)
        stack = 0.0 if end.stack is None else end.stack.seconds(wire)
        for category, seconds in (("serialization", coding), ("communication", stack)):
            if seconds:
                taken = self.burst(cost, category, end.host, seconds, own=end.loop is not None)
                if end.loop is not None:
                    cost.serve(end.loop.name, taken, 1.0)

    def burst(
        self, cost: Cost, category: str, host: Host | None, seconds: float, uses: float = 1.0, own: bool = False
    ) -> float:
        """Work on a host's cores, slowed down by the processes of others at least; None: at full speed. Return its seconds.

        With a limit of its `own` it takes none of the cores that others wait for.
        """
        if host is not None and seconds:
            seconds *= host.at_rest
            if host.shared is not None or not own:
                cost.serve(host.name, seconds, uses)
                self.notes[
                    "how much work on one node slows other work there down is left out, but for its `busy` processes"
                ] = None
        cost.time[category] += seconds
        return seconds

    def service(self, service: Service, line: Line, longer: float = 0.0) -> Cost:
        """Return the cost of one call of a tool or retriever, with the attempts that it takes; each works `longer` seconds."""
        spec = service.spec
        request, response = spec.request.mean, spec.response.mean
        attempt = self.message(line.request, request)
        attempt.add(self.message(line.response, response))
        attempt.time["tool"] += spec.invoke.mean
        own = spec.latency.mean + spec.per_byte * (request + response)
        self._work(attempt, service, line, own * spec.per_task.mean / spec.speed + longer)
        more, waits = self.tries.more(service.path, spec.handling, spec.errors)
        cost = Cost()
        cost.add(attempt)
        cost.add(attempt, more, category="recovery")
        cost.time["recovery"] += waits
        if line.connect:
            self.notes["a connection that lasts is counted with no call"] = None
            cost.time["communication"] += line.connect if line.each else 0.0
        return cost

    def _work(self, cost: Cost, service: Service, line: Line, seconds: float) -> None:
        seconds *= self.tries.slowness(service.path)
        category = "inference" if service.spec.infers else "tool"
        seconds = self.burst(cost, category, service.host, seconds, own=service.pool is not None)
        self._notice(cost, line, seconds)
        if service.pool is not None:
            cost.serve(service.path, seconds, 1.0)
            for limit in service.pool.limits:
                cost.serve(limit.name, 1.0, 1.0)

    def _notice(self, cost: Cost, line: Line, seconds: float) -> None:
        """A caller that polls waits for a tick at least; the mean rest of a tick is left out."""
        if line.poll is not None:
            cost.time["orchestration"] += max(0.0, line.poll - seconds)

    def call(self, call: ModelCall, held: Held, output: float, category: str = "inference") -> Cost:
        """Return the cost of one model call, with this context on its way to the server, and with the attempts that it takes."""
        cost = self._attempt(call, held, output, category)
        more, waits = self.tries.more(call.server.path, call.server.spec.handling)
        if more:
            self.notes[f"{call.server.path}: attempts after an error count as much as the first"] = None
            attempt = Cost()
            attempt.add(cost, more, category="recovery")
            cost.add(attempt)
            cost.time["recovery"] += waits
        return cost

    def _attempt(self, call: ModelCall, held: Held, output: float, category: str) -> Cost:
        """Return the cost of one attempt at a model call."""
        server, spec = call.server, call.server.spec
        first = 1 - held.prompted
        fresh = first if held.fresh is None else held.fresh
        total = call.prompt + held.tokens
        new = held.tokens - held.seen + fresh * call.prompt
        cached = server.best_hit * ((held.known if held.cached is None else held.cached) + held.prompted * call.prompt)
        carried = max(0.0, total - new - cached)
        received = total if call.full else held.tokens - held.known + first * call.prompt
        if call.trims:
            received = min(received, new)
        received = max(0.0, received)
        if not call.grows:
            total, carried, cached = new, 0.0, 0.0
        media = held.media - held.came if call.inline else 0.0
        cost = self.message(call.request, received * call.per_token + media)
        cost.add(self.message(call.response, output * call.per_token))
        self.burst(cost, "context", call.host, call.assemble * total)
        if call.restores:
            cost.time["context"] += server.restore.seconds(held.known * call.per_token)
        work, carry = server.work(new, carried, cached, output)
        tokenize = server.tokenize if server.host is None else server.tokenize * server.host.at_rest
        carry += max(0.0, received - new) * tokenize
        work += spec.overhead.mean + min(new, received) * tokenize
        scale = (
            (1.0 if server.residual is None else server.residual.mean)
            * (spec.per_task.mean if isinstance(spec, Api) else 1.0)
            / call.speed
            * self.tries.slowness(server.path)
        )
        self.burst(cost, "context" if category == "context" else "inference", server.cores, work * scale, own=True)
        self.burst(cost, "context", server.cores, carry * scale, 0.0, own=True)
        if server.stays and server.beside != 1:
            self.notes[f"{server.path}: how much calls `beside` each other slow each other down is left out"] = None
        seconds = (work + carry) * scale * (1.0 if server.cores is None else server.cores.at_rest)
        self._notice(cost, call.line, seconds)
        if server.pool is not None:
            if server.least is not None:
                seconds = server.least(new, carried, cached, output) * scale
                self.notes[
                    f"{server.path}: the load is that of the fullest batches, with all that a cache can find"
                ] = None
            cost.serve(server.path, seconds, 1.0)
            for limit in server.pool.limits:
                cost.serve(limit.name, total + output if limit.sized else 1.0, 1.0)
        return cost

    # Steps

    def visit(self, number: int, node: Node) -> Cost:
        """Return the cost of a visit of a step, without its branches and the workflow it runs."""
        process, cost = node.process, Cost()
        if isinstance(process, AgentProcess) and node.turns is not None and node.turns.turns:
            self._agent(cost, number, process, node.turns)
        elif isinstance(process, ServiceProcess):
            cost.add(self.service(process.service, process.line))
            self.control(cost, number, process.control)
        elif isinstance(process, HumanProcess):
            assert isinstance(process.spec, HumanStep)
            if process.control is not None:
                self.control(cost, number, process.control)
            cost.time["human"] += process.spec.human.mean
        elif isinstance(process, EvaluatorProcess):
            self.judge(cost, process, number)
        elif isinstance(process, PerceiveProcess):
            cost.add(self.media.visit(number, process))
        elif isinstance(process, PipelineProcess):
            cost.add(self.pipelines.visit(number, process))
        elif isinstance(process, TeamProcess) and number in self.teams.courses:
            self.teams.speak(self, cost, number, process)
        acting = Cost()
        acting.add(cost, node.acts)
        return acting

    def judge(
        self, cost: Cost, process: EvaluatorProcess, number: int, tokens: float | None = None, times: float = 1.0
    ) -> None:
        """An evaluator judges at a step: the context there, or so many `tokens` of another."""
        one = Cost()
        (self.control if tokens is None else self.dispatch)(one, number, process.control)
        judge = self.scenario.evaluators[process.spec.evaluator]
        if process.call is not None:
            held = Held(tokens or 0.0, seen=tokens or 0.0) if tokens is not None else self.held.of(number, process.call)
            one.add(self.call(process.call, held, self.counts.output(judge.output)))
        elif judge.latency is not None:
            one.time["tool"] += judge.latency.mean
        cost.add(one, times)

    def _agent(self, cost: Cost, number: int, process: AgentProcess, loop: Turns) -> None:
        """The turns of a visit: the first on what the task brings, the others on what the loop itself adds."""
        path, call = f"agents.{process.spec.agent}", process.call
        output = self.counts.output(self.scenario.agents[process.spec.agent].output)
        before, tools = self.counts.before(process), self.counts.results(process, loop)
        grows = before + output + tools
        turns, begun = loop.turns, loop.begun
        brought = self.held.of(number, call)
        later = turns - begun
        # Sums over the turns. Before a later turn the agent and its server knew what the last one left, but its tools' results.
        tokens = min(turns * (brought.tokens + before) + grows * loop.earlier, turns * (self.most + grows / 2))
        left = later * (brought.tokens + before + output) + grows * (loop.earlier - later)
        mean = Held(
            tokens / turns,
            (begun * brought.known + left) / turns,
            (begun * brought.prompted + later) / turns,
            (begun * brought.seen + left) / turns,
            (begun * (brought.known if brought.cached is None else brought.cached) + left) / turns,
            media=brought.media,
            came=begun * brought.came / turns,
        )
        turn = self.call(call, mean, output)
        if process.lookup is not None:
            turn.add(self.service(process.lookup.service, process.lookup.line))
        if process.memory is not None:
            self.remember(turn, process.memory, number, loop, grows)
        if process.tools is not None:
            wall = self._wall(process)
            for name, calls in loop.calls.items():
                if calls:
                    turn.add(self.service(*process.tools.lines[name]), calls / turns, wall)
        if process.slots is not None:
            turn.serve(path, turn.total, 1.0)
        self.control(turn, number, process.control, begun / turns, grows * loop.earlier / turns, grows)
        cost.add(turn, turns)

    def _wall(self, process: AgentProcess) -> float:
        """Return the share of its tools' time that a turn takes at least, when they run at once."""
        count = process.spec.calls
        if process.tools is not None and process.tools.guesses is not None:
            self.notes["nothing is taken off for tool calls that are guessed and started early"] = None
        if process.tools is None or not process.tools.overlapped or count.upper_bound <= 1:
            return 1.0
        self.notes[f"{process.path}: tools called at once count for the time of one"] = None
        return (1 - count.cdf(0)) / count.mean if count.mean else 1.0

    def control(
        self, turn: Cost, number: int, control: Control, first: float = 1.0, more: float = 0.0, grows: float = 0.0
    ) -> None:
        """Control and state come to the step, at the share `first` of its turns, and the orchestrator dispatches each.

        In the mean a turn finds `more` tokens than the first, and a later one `grows` more than the one before.
        """
        self.dispatch(turn, number, control, first, more, grows)
        self.come(turn, number, control, first)

    def come(self, turn: Cost, number: int, control: Control, first: float = 1.0, brought: float = 0.0) -> None:
        """Control and state come to the step, which has itself `brought` some tokens before."""
        held = self.held
        for home, channel in enumerate(control.channels):
            share = float(held.homes[home][number])
            if channel is not None and share:
                tokens = float(held.behind[home, control.home][number]) / share + brought
                turn.add(self.message(channel, tokens * control.per_token), first * share)

    def sub_control(self, cost: Cost, number: int, source: Control, control: Control, more: float) -> None:
        """Control and state, with `more` tokens than at the step, come from there to who does a part of it in a branch."""
        self.dispatch(cost, number, control, 0.0 if control.every_task else 1.0, more)
        known = 0.0 if control.full else float(self.held.left[control.home][number])
        tokens = max(0.0, float(self.tokens[number]) + more - known)
        if control.channels:
            cost.add(self.message(control.channels[source.home], tokens * control.per_token))

    def dispatch(
        self, turn: Cost, number: int, control: Control, first: float = 1.0, more: float = 0.0, grows: float = 0.0
    ) -> None:
        """The orchestrator dispatches a step, and writes the state; see `control`."""
        held = self.held
        if control.checkpoints is not None:
            self._checkpoint(turn, number, control.checkpoints, first, (more, grows))
        if control.dispatch is not None:
            share = first * float(held.dispatches[number]) if control.every_task else 1.0
            seconds = share * control.mean
            own = control.pool is not None
            seconds = self.burst(turn, "orchestration", control.host, seconds, share, own)
            if control.pool is not None:
                turn.serve("orchestrator", seconds, share)

    def _checkpoint(
        self, turn: Cost, number: int, checkpoints: Checkpoints, first: float, later: tuple[float, float]
    ) -> None:
        """The state is written: as an estimate, where that is not at every step."""
        if not checkpoints.waits:
            return
        more, grows = later
        tokens = min(float(self.uncut[number]) + more, self.most)
        new = max(0.0, float(self.tokens[number] - self.held.saved[number]))
        turn.time["orchestration"] += checkpoints.mean(tokens, first * new + (1 - first) * grows)
        if checkpoints.spec.every > 1:
            self.notes["how often the state is written is an estimate"] = None

    def remember(self, turn: Cost, memory: MemoryUse, number: int, loop: Turns, grows: float) -> None:
        """Reading and writing of a memory, and summaries of the context."""
        spec = self.scenario.memories[self.system.memories[memory.index]]
        entry = spec.entry.mean if spec.write is not None else 0.0
        size = float(self.held.memories[memory.index][number]) + entry * loop.earlier / loop.turns
        bandwidth = spec.bandwidth or float("inf")
        recalled = spec.recall.mean * memory.per_token
        for law, touched, sent, returned in ((spec.read, size, 0.0, recalled), (spec.write, entry, entry, 0.0)):
            if law is not None:
                turn.add(self.message(memory.line.request, sent))
                turn.add(self.message(memory.line.response, returned))
                self._work(turn, memory.store, memory.line, law.mean + touched / bandwidth)
        if spec.summarize is not None:
            share = self._summaries(
                spec.summarize, float(self.uncut[number]) + grows * loop.earlier / loop.turns, grows
            )
            summary = Held(spec.summarize.above + grows / 2, seen=spec.summarize.above)
            turn.add(self.call(memory.summary.call, summary, spec.summarize.to, "context"), share)

    def _summaries(self, spec: Summarize, tokens: float, grows: float) -> float:
        """Return how many summaries a turn makes in the mean, where the context would grow to `tokens` in the mean.

        Were the growth even, the share of turns behind the first summary would be that of the growth behind it; and from
        one summary to the next the context grows from `to` to `above`, and half a turn's growth beyond.
        """
        self.notes["how often the context is summarized is an estimate"] = None
        request = self.counts.request
        whole = 2 * (tokens - request) + grows
        behind = min(1.0, max(0.0, 1 - (spec.above - request) / whole)) if whole > 0 else float(request > spec.above)
        return behind * min(1.0, grows / (spec.above - spec.to + grows / 2))
