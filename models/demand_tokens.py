"""Tokens in the mean: what a request brings, a turn and a tool's result add, and summaries keep.

Leaves out: what a task holds on arrival at each step, which `demand_held` follows through the workflow.
Checked: tests/test_bounds.py, tests/test_bounds_media.py.
"""

from dataclasses import dataclass
from typing import Any

from .agent_step import AgentProcess
from .memory import Summarize
from .retriever import Retriever
from .service import Service
from .steps import EvaluatorProcess, ServiceProcess
from .system import System
from .traffic import Node, Turns


@dataclass(frozen=True)
class Held:
    """What a task has on arrival at a step, in the mean: tokens of context, and how many of them others know."""

    tokens: float
    known: float = 0.0  # to the caller, at its last call
    prompted: float = 0.0  # probability that the caller has called before
    seen: float = 0.0  # by the server
    cached: float | None = None  # that a cache may still hold, where that is not what the caller knows
    fresh: float | None = None  # probability that the caller's prompt is new to the server, if others may have shown it
    media: float = 0.0  # bytes that a full prompt holds beyond its tokens,
    came: float = 0.0  # and of those, what the call came with


@dataclass(frozen=True)
class Letting:
    """What a visit of a step lets go of in the mean: `tokens`, with probability `chance`; `kept` lie behind where the first leave.

    Its `growth` is what then stays of what it brings, of which the share `whole` stays as it came. For that it makes so many
    `summaries`.
    """

    chance: float
    tokens: float
    kept: float
    growth: float
    whole: float
    summaries: float = 0.0


class TokenMeans:
    """Mean tokens by what adds them. `request` is what a task brings, `most` what summaries keep its context to."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.scenario = system.scenario
        trace = self.scenario.workload.arrivals.trace
        self.replayed = None if trace is None else trace.table
        self.request = self._request()
        self.most = self._most()

    def growth(self, node: Node) -> float:
        """Return the tokens that a visit adds to the context."""
        process = node.process
        if isinstance(process, AgentProcess) and node.turns is not None:
            output = self.output(self.scenario.agents[process.spec.agent].output)
            return node.acts * (
                node.turns.turns * (self.before(process) + output) + self._tool_tokens(process, node.turns)
            )
        if isinstance(process, EvaluatorProcess) and process.call is not None:
            return node.acts * self.output(self.scenario.evaluators[process.spec.evaluator].output)
        return node.acts * self._result(process.service) if isinstance(process, ServiceProcess) else 0.0

    def answer(self, node: Node) -> float:
        """Return the mean output of the call that a step makes, 0 where it makes none."""
        process = node.process
        if isinstance(process, AgentProcess):
            return self.output(self.scenario.agents[process.spec.agent].output)
        if isinstance(process, EvaluatorProcess):
            return self.output(self.scenario.evaluators[process.spec.evaluator].output)
        return 0.0

    def output(self, output: Any) -> float:
        """Return the mean of an output: a distribution, or that of the trace."""
        if output != "trace":
            return float(output.mean)
        column = None if self.replayed is None else self.replayed.output
        return 0.0 if column is None else float(column.mean())

    def result(self, service: Service) -> float:
        """Return the tokens that a call of a service adds."""
        return self._result(service)

    def results(self, process: AgentProcess, loop: Turns) -> float:
        """Return the tokens that a turn's tools add."""
        return self._tool_tokens(process, loop) / loop.turns

    def before(self, process: AgentProcess) -> float:
        """Return the tokens that a turn adds before the call: what is recalled and retrieved."""
        agent = self.scenario.agents[process.spec.agent]
        recalled = 0.0
        if agent.memory is not None and self.scenario.memories[agent.memory].read is not None:
            recalled = self.scenario.memories[agent.memory].recall.mean
        return recalled + (0.0 if process.lookup is None else self._result(process.lookup.service))

    def _request(self) -> float:
        workload = self.scenario.workload
        if self.replayed is not None and self.replayed.request is not None:
            return float(self.replayed.request.mean())
        classes = self.scenario.all_classes.values()
        weights = sum(group.weight for group in classes)
        return sum(group.weight * (group.request or workload.request).mean for group in classes) / weights

    def _result(self, service: Service) -> float:
        spec = service.spec
        if isinstance(spec, Retriever) and spec.tokens is not None:
            return spec.tokens
        return spec.response.mean / self.system.bytes_per_token if spec.result is None else spec.result.mean

    def _tool_tokens(self, process: AgentProcess, loop: Turns) -> float:
        if process.tools is None:
            return 0.0
        return sum(calls * self._result(process.tools.lines[name][0]) for name, calls in loop.calls.items() if calls)

    def _most(self) -> float:
        scenario = self.scenario
        used = [scenario.memories[agent.memory] for agent in scenario.agents.values() if agent.memory is not None]
        return max((_usual(memory.summarize) for memory in used if memory.summarize is not None), default=float("inf"))


def _usual(spec: Summarize) -> float:
    """Return the tokens half way between two summaries."""
    return (spec.above + spec.to) / 2
