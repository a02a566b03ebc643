"""Demand: what one visit of each step asks of every resource, and how long it takes when nobody else is there.

Every component's mean cost, from the same spec as its process. Costs in tokens and bytes use the mean context on arrival
at a step, so they are exact where cost is proportional to it, and estimates where it is not.

Leaves out: queueing; refusals and what then fails.
Checked: tests/test_bounds.py, against the utilization and the empty system's times of the simulator.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from ..sim.engine.ledger import CATEGORIES
from .agent_step import AgentProcess
from .checkpoint import Checkpoints
from .control import Control
from .demand_tokens import TokenMeans
from .host import Host
from .line import Line
from .memory import Summarize
from .memory_use import MemoryUse
from .model_call import ModelCall
from .network import BOUNDARIES, Channel, crossing
from .service import Service
from .steps import EvaluatorProcess, HumanProcess, ServiceProcess
from .system import System
from .traffic import Node, Traffic, Turns, Vector
from .workflow import HumanStep


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


@dataclass(frozen=True)
class Held:
    """What a task has on arrival at a step, in the mean: tokens of context, and how many of them others know."""

    tokens: float
    known: float = 0.0  # to the caller, at its last call
    prompted: float = 0.0  # probability that the caller has called before
    seen: float = 0.0  # by the server


@dataclass
class Holdings:
    """Means at each step, on arrival there: what callers, servers, homes and memories hold of a task."""

    known: dict[int, Vector] = field(default_factory=dict)  # by caller: tokens at its last call
    prompted: dict[int, Vector] = field(default_factory=dict)  # by caller: probability that there was one
    seen: dict[int, Vector] = field(default_factory=dict)  # by server: tokens processed
    homes: dict[int, Vector] = field(default_factory=dict)  # by home: probability that control is there
    behind: dict[tuple[int, int], Vector] = field(default_factory=dict)  # tokens sent if control is there, to go there
    dispatches: Vector = field(default_factory=lambda: np.zeros(0))  # probability of a dispatch, if there is one a task
    memories: dict[int, Vector] = field(default_factory=dict)  # bytes
    saved: Vector = field(default_factory=lambda: np.zeros(0))  # tokens that checkpoints hold, if every step writes one


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
        self.full = system.runtime.state == "full" and system.scenario.context.grows
        self.notes: dict[str, None] = dict.fromkeys(traffic.notes)
        self.counts = counts = TokenMeans(system)
        nodes = traffic.nodes
        self.growth = np.array([counts.growth(node) for node in nodes])
        self.uncut = traffic.carried(counts.request, self.growth)
        self.most = counts.most
        self.tokens = np.minimum(self.uncut, self.most)
        self.held = self._holdings()
        self.costs = [self.visit(number, node) for number, node in enumerate(nodes)]
        if self.tokens.any():
            self.notes["what depends on tokens is an estimate: it is worked out from their means"] = None

    # Messages and calls

    def message(self, channel: Channel | None, size: float) -> Cost:
        """Return the cost of one message of `size` bytes."""
        cost = Cost()
        if channel is None:
            return cost
        wire = size + channel.header
        if channel.codec is not None:
            wire = size * channel.codec.expansion + channel.header
        for coder, host in zip((channel.encode, channel.decode), channel.hosts, strict=True):
            if coder is not None:
                self._burst(cost, "serialization", host, coder.mean(size))
        if channel.hand_off is not None:
            cost.time["communication"] += channel.hand_off.seconds(wire)
        delay = sum(self.latency[hop.name] + hop.overhead for hop in channel.hops)
        cost.time["communication"] += delay * (1 + 2 * channel.round_trips)
        for hop in channel.hops:
            if hop.shared is not None and wire:
                cost.time["communication"] += wire / hop.shared.bandwidth
                cost.serve(hop.name, wire / hop.shared.bandwidth, 1.0)
            elif hop.own is not None:
                cost.time["communication"] += wire / hop.own
        return cost

    def _burst(self, cost: Cost, category: str, host: Host | None, seconds: float, uses: float = 1.0) -> None:
        """Work on a host's cores, slowed down by the processes of others at least; None: at full speed."""
        if host is not None and seconds:
            seconds *= host.at_rest
            cost.serve(host.name, seconds, uses)
            self.notes[
                "how much work on one node slows other work there down is left out, but for its `busy` processes"
            ] = None
        cost.time[category] += seconds

    def service(self, service: Service, line: Line) -> Cost:
        """Return the cost of one call of a tool or retriever, with the attempts that it takes."""
        spec = service.spec
        request, response = spec.request.mean, spec.response.mean
        attempt = self.message(line.request, request)
        attempt.add(self.message(line.response, response))
        attempt.time["tool"] += spec.invoke.mean
        self._work(attempt, service, line, spec.latency.mean + spec.per_byte * (request + response))
        attempts = 1.0
        if spec.errors is not None and spec.attempts > 1:
            again = spec.errors.rate if spec.errors.after_error is None else spec.errors.after_error
            attempts += spec.errors.rate * sum(again**k for k in range(spec.attempts - 1))
        cost = Cost()
        cost.add(attempt)
        cost.add(attempt, attempts - 1, category="recovery")
        if line.connect:
            self.notes["a connection that lasts is counted with no call"] = None
            cost.time["communication"] += line.connect if line.each else 0.0
        return cost

    def _work(self, cost: Cost, service: Service, line: Line, seconds: float) -> None:
        if service.host is not None and service.pool is not None:
            seconds *= service.host.at_rest
        self._burst(cost, "tool", service.host if service.pool is None else None, seconds)
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
        """Return the cost of one model call, with this context on its way to the server."""
        server, spec = call.server, call.server.spec
        first = 1 - held.prompted
        total = call.prompt + held.tokens
        new = held.tokens - held.seen + first * call.prompt
        cached = server.best_hit * (held.known + held.prompted * call.prompt)
        carried = max(0.0, total - new - cached)
        received = total if call.full else held.tokens - held.known + first * call.prompt
        if call.trims:
            received = min(received, new)
        if not call.grows:
            total, carried, cached = new, 0.0, 0.0
        cost = self.message(call.request, received * call.per_token)
        cost.add(self.message(call.response, output * call.per_token))
        self._burst(cost, "context", call.host, call.assemble * total)
        if call.restores:
            cost.time["context"] += server.restore.seconds(held.known * call.per_token)
        work, carry = server.work(new, carried, cached, output)
        tokenize = server.tokenize if server.host is None else server.tokenize * server.host.at_rest
        carry += max(0.0, received - new) * tokenize
        work += spec.overhead.mean + min(new, received) * tokenize
        scale = (1.0 if server.residual is None else server.residual.mean) / call.speed
        cost.time["context" if category == "context" else "inference"] += work * scale
        cost.time["context"] += carry * scale
        seconds = (work + carry) * scale
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
            self._control(cost, number, process.control)
        elif isinstance(process, HumanProcess):
            assert isinstance(process.spec, HumanStep)
            if process.control is not None:
                self._control(cost, number, process.control)
            cost.time["human"] += process.spec.human.mean
        elif isinstance(process, EvaluatorProcess):
            self._control(cost, number, process.control)
            judge = self.scenario.evaluators[process.spec.evaluator]
            if process.call is not None:
                cost.add(self.call(process.call, self._held(number, process.call), self.counts.output(judge.output)))
            elif judge.latency is not None:
                cost.time["tool"] += judge.latency.mean
        acting = Cost()
        acting.add(cost, node.acts)
        return acting

    def _agent(self, cost: Cost, number: int, process: AgentProcess, loop: Turns) -> None:
        """The turns of a visit: the first on what the task brings, the others on what the loop itself adds."""
        path, call = f"agents.{process.spec.agent}", process.call
        output = self.counts.output(self.scenario.agents[process.spec.agent].output)
        before, tools = self.counts.before(process), self.counts.results(process, loop)
        grows = before + output + tools
        turns, begun = loop.turns, loop.begun
        brought = self._held(number, call)
        later = turns - begun
        # Sums over the turns. Before a later turn the agent and its server knew what the last one left, but its tools' results.
        tokens = min(turns * (brought.tokens + before) + grows * loop.earlier, turns * (self.most + grows / 2))
        left = later * (brought.tokens + before + output) + grows * (loop.earlier - later)
        mean = Held(
            tokens / turns,
            (begun * brought.known + left) / turns,
            (begun * brought.prompted + later) / turns,
            (begun * brought.seen + left) / turns,
        )
        turn = self.call(call, mean, output)
        if process.lookup is not None:
            turn.add(self.service(process.lookup.service, process.lookup.line))
        if process.memory is not None:
            self._remember(turn, process.memory, number, loop, grows)
        if process.tools is not None:
            wall = self._wall(process)
            for name, calls in loop.calls.items():
                if calls:
                    turn.add(self.service(*process.tools.lines[name]), calls / turns, wall)
        if process.slots is not None:
            turn.serve(path, turn.total, 1.0)
        self._control(turn, number, process.control, begun / turns, grows * loop.earlier / turns, grows)
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

    def _control(
        self, turn: Cost, number: int, control: Control, first: float = 1.0, more: float = 0.0, grows: float = 0.0
    ) -> None:
        """Control and state come to the step, at the share `first` of its turns, and the orchestrator dispatches each.

        In the mean a turn finds `more` tokens than the first, and a later one `grows` more than the one before.
        """
        held = self.held
        if control.checkpoints is not None:
            self._checkpoint(turn, number, control.checkpoints, first, (more, grows))
        if control.dispatch is not None:
            share = first * float(held.dispatches[number]) if control.every_task else 1.0
            seconds = share * control.mean
            if control.host is not None and control.pool is not None:
                seconds *= control.host.at_rest
            self._burst(turn, "orchestration", control.host if control.pool is None else None, seconds, share)
            if control.pool is not None:
                turn.serve("orchestrator", seconds, share)
        for home, channel in enumerate(control.channels):
            share = float(held.homes[home][number])
            if channel is not None and share:
                tokens = float(held.behind[home, control.home][number]) / share
                turn.add(self.message(channel, tokens * control.per_token), first * share)

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

    def _remember(self, turn: Cost, memory: MemoryUse, number: int, loop: Turns, grows: float) -> None:
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

    # What is held where

    def _held(self, number: int, call: ModelCall) -> Held:
        """Return what a task brings to a step that calls a model."""
        held, server = self.held, call.server.index
        return Held(
            *(
                float(mean[number])
                for mean in (self.tokens, held.known[call.index], held.prompted[call.index], held.seen[server])
            )
        )

    def _holdings(self) -> Holdings:
        held = Holdings()
        nodes = self.traffic.nodes
        calls = {
            number: call
            for number, node in enumerate(nodes)
            if (call := getattr(node.process, "call", None)) is not None
        }
        chance = np.array([node.acts * (1.0 if node.turns is None else node.turns.begun) for node in nodes])
        after = self.tokens + self.growth
        last = after - [
            self.counts.results(node.process, node.turns)
            if isinstance(node.process, AgentProcess) and node.turns and node.turns.turns
            else 0.0
            for node in nodes
        ]
        for call in calls.values():
            mine = np.array([number in calls and calls[number] is call for number in range(len(nodes))])
            same = np.array([number in calls and calls[number].server is call.server for number in range(len(nodes))])
            held.known[call.index] = self._set(mine, chance, last)
            held.prompted[call.index] = self._set(mine, chance, np.ones(len(nodes)))
            held.seen[call.server.index] = self._set(same, chance, last)
        self._follow_control(held, chance)
        for index, name in enumerate(self.system.memories):
            spec = self.scenario.memories[name]
            entry = spec.entry.mean if spec.write is not None else 0.0
            grows = [
                node.acts * node.turns.turns * entry
                if isinstance(node.process, AgentProcess)
                and node.turns
                and node.process.memory is not None
                and node.process.memory.index == index
                else 0.0
                for node in nodes
            ]
            held.memories[index] = self.traffic.carried(0.0, np.array(grows))
        return held

    def _follow_control(self, held: Holdings, chance: Vector) -> None:
        """Work out where control is on arrival at each step, and how many tokens the next home does not have yet."""
        traffic, request = self.traffic, self.counts.request
        homes = range(len(self.system.homes))
        at = np.array([-1 if node.process.control is None else node.process.control.home for node in traffic.nodes])
        called = (at >= 0) * chance
        grown = [node.turns.turns if node.turns and node.turns.turns else 1.0 for node in traffic.nodes]
        held.saved = self._set(at >= 0, chance, self.tokens + self.growth * (1 - 1 / np.maximum(grown, 1.0)))
        held.dispatches = 1 - self._set(at >= 0, chance, np.ones(len(at)))
        held.dispatches /= max(
            1.0, float((traffic.visits * called) @ held.dispatches)
        )  # of parallel branches, one is first
        after = self.tokens + traffic.summed(self.growth)
        left = {home: self._set(at == home, chance, after, request * (home == 0)) for home in homes}
        for home in homes:
            there = held.homes[home] = self._set(at >= 0, chance, (at == home).astype(float), float(home == 0))
            leaves = (1 - called) * there + called * (at == home)
            for target in homes:
                has = np.where(at == target, after, left[target])
                full = self.full * request if target == 0 else request
                mass = traffic.onward.T @ (traffic.visits * leaves * (after - (not self.full) * has))
                mass += traffic.apart.T @ (traffic.visits * there * (self.tokens - (not self.full) * left[target]))
                mass += traffic.first * (home == 0) * full
                held.behind[home, target] = traffic.per_visit(np.maximum(mass, 0.0))

    def _set(self, where: Vector, chance: Vector, value: Vector, first: float = 0.0) -> Vector:
        """Return the mean of a quantity that visits `where` set to `value`."""
        return self.traffic.remembered(1 - where * chance, where * chance * value, first)
