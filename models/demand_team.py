"""What teams ask for: how the course of each visit follows from what its members add, and what its messages cost.

Leaves out: what home a member has ended at (its first step's counts); who is faster, but in a free graph.
Checked: tests/test_bounds_media.py.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from .pipeline import PipelineProcess
from .stages import AgentStage
from .team import TeamProcess
from .team_course import TEAM, Course
from .team_parts import Act, Part
from .traffic import Into, Node, Traffic, Vector

if TYPE_CHECKING:
    from .control import Control
    from .demand import Cost, Demand
    from .model_call import ModelCall

__all__ = ["Teams", "call_of", "control_of"]


def call_of(node: Node) -> "ModelCall | None":
    """Return the call of a model that a step makes for its agent or evaluator; None where it makes none."""
    process = node.process
    if isinstance(process, PipelineProcess):
        agents = [worker.agent for worker in process.workers if isinstance(worker, AgentStage)]
        return agents[0].call if agents else None
    reader = getattr(process, "reader", None)
    found: ModelCall | None = getattr(process if reader is None else reader, "call", None)
    return found


def control_of(node: Node) -> "Control | None":
    """Return what brings control to a step, to where it is when the step is over."""
    process = node.process
    agents = [worker.agent for worker in getattr(process, "workers", ()) if isinstance(worker, AgentStage)]
    return agents[-1].control if agents else process.control


class Teams:
    """The teams among the steps of a scenario, each with its course.

    `growth` is by step, and afterwards right for teams, too; `answers` tells the tokens of what a step's call writes.
    """

    def __init__(self, traffic: Traffic, growth: Vector, answers: Callable[[Node], float]) -> None:
        self.traffic = traffic
        self.growth = growth
        self.processes = {
            number: node.process
            for number, node in enumerate(traffic.nodes)
            if isinstance(node.process, TeamProcess) and node.roles
        }
        self.courses: dict[int, Course] = {}
        for _ in range(
            len(self.processes) + 1 if self.processes else 0
        ):  # as often as teams lie in each other, at most
            before = growth.copy()
            self._run(answers)
            if np.array_equal(before, growth):
                break

    def _run(self, answers: Callable[[Node], float]) -> None:
        """Follow each team, given what an activation adds; of a team itself, growth is what it adds beside its branches' sum."""
        for number, process in self.processes.items():
            whole, node = self.traffic.whole(self.growth), self.traffic.nodes[number]
            acts = {}
            for role, (to, steps) in node.roles.items():
                growth, message = 0.0 if to is None else float(whole[to]), process.spec.message
                says = (
                    growth
                    if message is None
                    else self._answer(steps, answers)
                    if isinstance(message, str)
                    else message.mean
                )
                acts[role] = Act(growth, says, self._servers(steps), self._callers(steps), self._end(steps))
            self.courses[number] = course = Course(process, acts)
            beside = float(self.traffic.joined[number] @ whole)
            self.growth[number] = node.acts * course.answer - beside

    def _servers(self, steps: Iterable[int]) -> frozenset[int]:
        """Return the servers that some steps call."""
        calls = [call_of(self.traffic.nodes[number]) for number in steps]
        return frozenset(call.server.index for call in calls if call is not None)

    def _callers(self, steps: Iterable[int]) -> frozenset[int]:
        """Return the callers that some steps are."""
        calls = [call_of(self.traffic.nodes[number]) for number in steps]
        return frozenset(call.index for call in calls if call is not None)

    def _end(self, steps: Iterable[int]) -> int | None:
        """Return the home of the step behind which activations end most often; None where there is none."""
        nodes, traffic = self.traffic.nodes, self.traffic
        ends: dict[int, float] = {}
        for number in steps:
            control = control_of(nodes[number])
            if control is not None:
                leaves = traffic.visits[number] * max(0.0, 1 - traffic.onward[number].sum())
                ends[control.home] = ends.get(control.home, 0.0) + float(leaves)
        found = max(ends, key=lambda home: ends[home], default=None)
        return found if found is not None and ends[found] > 0 else None

    def _answer(self, steps: Iterable[int], answers: Callable[[Node], float]) -> float:
        """Return the mean output of the call behind which an activation ends, or of all its calls where it ends otherwise."""
        traffic = self.traffic
        calls = [number for number in steps if call_of(traffic.nodes[number]) is not None]
        ends = [traffic.visits[number] * max(0.0, 1 - traffic.onward[number].sum()) for number in calls]
        if sum(ends) < 1e-9:
            ends = [traffic.visits[number] for number in calls]
        outputs = [answers(traffic.nodes[number]) for number in calls]
        return float(np.average(outputs, weights=ends)) if sum(ends) else 0.0

    def into(self, what: Callable[[int, Part], tuple[float, float]]) -> Into:
        """Return what branches begin with: those of forks what the task has, those of teams what `what` says.

        It returns, summed over the activations of a role at a visit, the share of what the step has, and what comes beside.
        """
        traffic = self.traffic
        if not self.courses:
            return traffic.apart, 0.0
        shares, given = traffic.forked.copy(), np.zeros(len(traffic.nodes))
        for number, course in self.courses.items():
            node = traffic.nodes[number]
            for role, (to, _) in node.roles.items():
                if to is not None:
                    share, beside = what(number, course.parts[role])
                    shares[number, to] += node.acts * share
                    given[to] += traffic.visits[number] * node.acts * beside
        return shares, given

    def speak(self, demand: "Demand", cost: "Cost", number: int, process: TeamProcess) -> None:
        """Add the cost of a visit's messages, and of asking the evaluator that ends the team."""
        course = self.courses[number]
        brief, per_token = float(demand.tokens[number]), demand.system.bytes_per_token
        at_start = demand.held.homes
        for (source, target, share, tokens), (times, path) in course.messages.items():
            size = (share * brief + tokens) * per_token
            for home in at_start if TEAM in (source, target) else (0,):
                likely = float(at_start[home][number]) if TEAM in (source, target) else 1.0
                a, b = (home if end == TEAM else end for end in (source, target))
                if a != b and likely:
                    demand.add_beside(
                        cost, demand.message(process.channels.get((a, b)), size), likely * times, likely * path
                    )
        if process.judge is not None and course.asked:
            demand.judge(cost, process.judge, number, brief + course.showed / course.asked, course.asked)
