"""Traffic: how often a task comes to each step, in the mean, and what it then carries. No simulation, no time.

Visits solve the traffic equations v = e + Pᵀv over all steps, each sub-workflow, each branch of a fork and each role of a team
with steps of its own, so that what follows from where a task came from is right. A quantity that grows at steps (context) or
is set there (what a server has seen) solves equations of the same form.

Leaves out: that a task ends at `max_steps` or at a tool step's `at_most`; that how a loop goes on may depend on how it grew.
Checked: tests/test_bounds.py, against counts of the simulator.
Source: Jackson, Operations Research 5 (1957), for the equations.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..sim.engine.distributions import CountDist
from .agent_step import AgentProcess
from .steps import EvaluatorProcess, Flow, ForkProcess, Process, WorkflowProcess
from .team import TeamProcess
from .team_course import Course
from .workflow import END, NONE, START, Markov

Vector = np.ndarray
Ways = list[tuple[int, float]]  # where to, and how likely (or, of branches, how many)
Into = tuple[
    Vector, Vector | float
]  # what branches begin with: shares of what the step has, and sums over visits beside

_MOST_NODES = 2000
_MOST_ROUNDS = 64  # of a sub-workflow
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Turns:
    """The loop of an agent at one visit: mean number of `turns`, and of the turns before each one, summed (`earlier`).

    `begun` is the probability of a first turn, `replans` of leaving by replanning; `calls` are mean calls of each tool.
    """

    turns: float
    earlier: float
    begun: float
    replans: float
    calls: dict[str, float]


@dataclass
class Node:
    """A step as reached in one way. `after` are its ways on; `branches` the starts of branches, or of nothing.

    Of a team, `roles` tell the start of each role (None: it does nothing), and the numbers of its steps.
    """

    process: Process
    acts: float = 1.0  # the probability that it is not skipped
    after: Ways = field(default_factory=list)
    branches: Ways = field(default_factory=list)
    needed: float = 1.0  # the share of branches that the join waits for
    turns: Turns | None = None
    roles: dict[str, tuple[int | None, range]] = field(default_factory=dict)


class Traffic:
    """The steps of all workflows, and how often a task visits each.

    `entries` are the first step of each task class, `weights` how likely the class is.
    """

    def __init__(self, entries: Iterable[tuple[Flow, float]]) -> None:
        self.nodes: list[Node] = []
        self.notes: list[str] = []
        self.entries = [(self._place(flow, flow.start, [], frozenset()), weight) for flow, weight in entries]
        size = len(self.nodes)
        self.first = np.zeros(size)
        for ways, weight in self.entries:
            for number, share in ways:
                self.first[number] += share * weight
        self.onward, self.apart, self.joined = np.zeros((3, size, size))
        for number, node in enumerate(self.nodes):
            for target, share in node.after:
                self.onward[number, target] += share
            for target, copies in node.branches:
                self.apart[number, target] += copies
                self.joined[number, target] += copies * node.needed
        self._damp()
        self.visits = self._solve((self.onward + self.apart).T, self.first)
        self.forked = self.apart.copy()  # branches that begin with what the task has: not those of teams
        self.forked[[number for number, node in enumerate(self.nodes) if node.roles]] = 0.0

    # What a task carries

    def carried(self, first: float, growth: Vector, into: Into | None = None) -> Vector:
        """Return the mean at each step, on arrival there, of what begins at `first` and grows by `growth` at each visit."""
        grown, (shares, given) = self.summed(growth), into or (self.apart, 0.0)
        given = given + self.first * first
        mass = self._solve((self.onward + shares).T, given + self.onward.T @ (self.visits * grown))
        return self.per_visit(mass)

    def remembered(self, keeps: Vector, sets: Vector, first: float = 0.0, into: Into | None = None) -> Vector:
        """Return the mean at each step, on arrival there, of what a visit keeps with probability `keeps`, else sets.

        `sets` is the mean that it sets, times the probability. A branch knows what was known when it began, and a fork
        learns nothing from its branches; `into` tells otherwise.
        """
        shares, given = into or (self.apart, 0.0)
        given = given + self.first * first
        matrix = (keeps[:, None] * self.onward + shares).T
        return self.per_visit(self._solve(matrix, given + self.onward.T @ (self.visits * sets)))

    def after_others(self, number: int, most: int) -> Vector:
        """Return P(a task that comes to this node has been at its step, in whichever way, k times or more), k to `most`."""
        same = np.array([node.process is self.nodes[number].process for node in self.nodes])
        onward = self.onward + self.apart
        # Ways from one visit of the step to the next: those that pass no other.
        ways = np.linalg.inv(np.eye(len(same)) - np.where(same[:, None], 0.0, onward))
        first, following = self.first @ ways, np.where(same[:, None], onward, 0.0) @ ways
        found, come = np.ones(most + 1), float(self.visits[number])
        for k in range(1, most + 1):
            found[k] = max(0.0, found[k - 1] - float(first[number]) / come)
            first = first @ following
        return found

    def summed(self, growth: Vector) -> Vector:
        """Return the growth at each visit with that of branches, as far as the join waits for them."""
        grown: Vector = growth + self.joined @ self.whole(growth)
        return grown

    def whole(self, growth: Vector) -> Vector:
        """Return the growth from each step on, its own included, with that of branches, as far as joins wait for them."""
        return self._solve(self.onward + self.joined, growth)

    def ahead(self, growth: Vector) -> Vector:
        """Return what is still to come from each step on, its own growth included, without that of branches."""
        return self._solve(self.onward, growth)

    def per_visit(self, mass: Vector) -> Vector:
        """Return the mean at each step of what is summed over its visits."""
        found: Vector = np.divide(mass, self.visits, out=np.zeros_like(mass), where=self.visits > _NEGLIGIBLE)
        return found

    def _solve(self, matrix: Vector, right: Vector) -> Vector:
        solved: Vector = np.linalg.solve(np.eye(len(right)) - matrix, right)
        return solved

    def _damp(self) -> None:
        """Let loops end that have no end by themselves: as often as a task may take steps."""
        radius = max(abs(np.linalg.eigvals(self.onward + self.apart)), default=0.0)
        if radius > 1 - 1e-9:
            most = self.nodes[0].process.system.scenario.max_steps
            self.notes.append(f"a loop has no end but `max_steps` ({most}); demands are worked out for about that many")
            self.onward *= (1 - 1 / most) / radius
            self.apart *= (1 - 1 / most) / radius

    # Steps

    def _place(self, flow: Flow, begin: Process | None, exits: Ways, inside: frozenset[str]) -> Ways:
        """Make nodes for what is reached from `begin` in a flow that is left by `exits`; return the ways to its start."""
        if begin is None:
            return exits
        if len(self.nodes) > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES} steps, counting those of a sub-workflow at each of its uses")
        reached: dict[Process, int] = {}
        queue = [begin]
        while queue:
            process = queue.pop()
            if process in reached:
                continue
            reached[process] = len(self.nodes)
            self.nodes.append(Node(process, 1 - process.spec.skip, turns=_turns(process)))
            queue += [target for target, share in _ways(process, self._node(reached, process)) if target and share]
        for process, number in reached.items():
            node = self.nodes[number]
            ways = [
                (place, share * part)
                for target, share in _ways(process, node)
                for place, part in (exits if target is None else [(reached[target], 1.0)])
            ]
            if isinstance(process, WorkflowProcess):
                into = self._rounds(flow.flows[process.spec.workflow], process, ways, inside)
                ways = [(to, share * (1 - node.acts)) for to, share in ways] + [(to, s * node.acts) for to, s in into]
            node.after = ways
            if isinstance(process, ForkProcess):
                self._fork(flow, process, node, inside)
            elif isinstance(process, TeamProcess):
                self._team(flow, process, node, inside)
        return [(reached[begin], 1.0)]

    def _rounds(self, flow: Flow, process: WorkflowProcess, exits: Ways, inside: frozenset[str]) -> Ways:
        """Give each round of a sub-workflow steps of its own, from the last one to the first; return the ways to that."""
        comes = _survival(process.spec.repeat, process.max_steps, 1.0)  # P(round k comes), k from 0
        comes = comes[comes > _NEGLIGIBLE]
        if len(comes) > _MOST_ROUNDS:
            self.notes.append(f"{process.path}: rounds beyond {_MOST_ROUNDS} are left out")
            comes = comes[:_MOST_ROUNDS]
        ways = exits
        for number in reversed(range(len(comes))):
            chance = float(comes[number] / comes[number - 1]) if number else float(comes[0])
            into = self._place(flow, flow.start, ways, inside)
            ways = [(to, share * chance) for to, share in into]
            if chance < 1:
                ways += [(to, share * (1 - chance)) for to, share in exits]
        return ways

    def _node(self, reached: dict[Process, int], process: Process) -> Node:
        return self.nodes[reached[process]]

    def _fork(self, flow: Flow, process: ForkProcess, node: Node, inside: frozenset[str]) -> None:
        """Give each branch steps of its own."""
        if self._is_inside(process, inside):
            return
        names, copies = process.spec.fork, process.spec.copies
        for name in names:
            own = name in flow.steps
            start = process.flow.begin_at(name)
            ways = self._place(flow if own else flow.flows[name], start, [], inside | {process.path})
            count = 1.0 if copies is None else copies.mean
            node.branches += [(to, share * count * node.acts) for to, share in ways]
        total = len(names) if copies is None else copies.mean
        needed = process.spec.join
        node.needed = 1.0 if needed == "all" or not total else min(1.0, (1 if needed == "any" else needed) / total)
        if node.needed < 1.0 and process.spec.rest == "cancel":
            self.notes.append(
                f"{process.path}: work that is cancelled counts as done, so that less is demanded than said"
            )

    def _is_inside(self, process: Process, inside: frozenset[str]) -> bool:
        if process.path in inside:
            self.notes.append(f"{process.path} forks inside its own branches; the inner ones are left out")
        return process.path in inside

    def _team(self, flow: Flow, process: TeamProcess, node: Node, inside: frozenset[str]) -> None:
        """Give each role steps of its own, as often as its members act."""
        if self._is_inside(process, inside):
            return
        for role, part in Course(process).parts.items():
            name, first = process.spec.members[role], len(self.nodes)
            start = process.flow.begin_at(name)
            to = self._place(flow if name in flow.steps else flow.flows[name], start, [], inside | {process.path})
            node.branches += [(place, share * part.count * node.acts) for place, share in to]
            node.roles[role] = (to[0][0] if to else None, range(first, len(self.nodes)))
        spec = process.spec
        if spec.quorum != "all":
            self.notes.append(f"{process.path}: work that no join waits for counts as done")
        self.notes.append(
            f"{process.path}: what its members know of the context, and what of it is sent, is an estimate"
        )
        if spec.team == "hierarchy" and spec.turns is not None:
            self.notes.append(f"{process.path}: who acts before `turns` are over is an estimate")


def _ways(process: Process, node: Node) -> list[tuple[Process | None, float]]:
    """Return the steps that may come next, each with its probability."""
    if isinstance(process, EvaluatorProcess):
        most, rejects = process.most, 1 - process.accept
        visits = most if rejects == 1 else (1 - rejects**most) / (1 - rejects)
        # After `most` visits a rejection fails the task: of V visits in the mean, V - 1 lead to another one.
        return [
            (process.accepted, 1 - node.acts + node.acts * process.accept),
            (process.rejected, node.acts * (visits - 1) / visits),
        ]
    stays = 1.0
    ways: list[tuple[Process | None, float]] = []
    if isinstance(process, AgentProcess) and node.turns is not None and node.turns.replans:
        shares = process.spec.replan
        left = node.acts * node.turns.replans
        ways = [(process.flow.target(name), left * share / sum(shares.values())) for name, share in shares.items()]
        stays -= left
    after = process.spec.next
    if isinstance(after, str):
        return [*ways, (process.next, stays)]
    total = sum(after.values())
    return [*ways, *((process.flow.target(name), stays * weight / total) for name, weight in after.items())]


def _turns(process: Process) -> Turns | None:
    """Work out an agent's loop: turn k + 1 comes if the number of turns, replanning and the tools' choice let it."""
    if not isinstance(process, AgentProcess):
        return None
    spec = process.spec
    wanted = np.ones(process.most) if process.open_ended else _survival(spec.repeat, process.most, process.demand)
    replans = sum(spec.replan.values())
    wanted = wanted * (1 - replans) ** np.arange(len(wanted))
    if isinstance(spec.tools, Markov):
        comes, calls = _chain(spec.tools.markov, spec.calls, wanted)
    else:
        comes, each = wanted, {name: weight for name, weight in (spec.tools or {}).items() if name != NONE}
        total = sum((spec.tools or {}).values())
        calls = {name: float(comes.sum()) * spec.calls.mean * weight / total for name, weight in each.items()}
    turns = float(comes.sum())
    earlier = float(comes @ np.arange(len(comes)))
    return Turns(turns, earlier, float(comes[0]) if len(comes) else 0.0, min(1.0, replans * turns), calls)


def _survival(count: CountDist, most: int, factor: float) -> Vector:
    """Return P(N > k) for k from 0, where N is `count` times `factor`, rounded by chance, and at most `most`."""
    distribution = count.distribution
    last = float(distribution.quantile(1 - _NEGLIGIBLE)) if not count.is_constant else count.mean
    values = np.arange(int(min(last, 10.0 * most / min(factor, 1.0))) + 1)
    shares = np.diff(distribution.cdf(values), prepend=0.0)
    shares[-1] += 1 - shares.sum()  # what lies beyond
    if factor == 1.0:
        found: Vector = 1 - np.cumsum(shares)[:most]
        return found
    scaled = values * factor
    above = [float(np.maximum(scaled - k, 0.0) @ shares) for k in range(min(most, int(scaled[-1]) + 1) + 1)]
    return -np.diff(above)


def _chain(rows: dict[str, dict[str, float]], count: CountDist, wanted: Vector) -> tuple[Vector, dict[str, float]]:
    """Follow the Markov chain on the last tool through the turns; return P(turn k comes), and mean calls of each tool."""
    names = list(rows)
    index = {name: number for number, name in enumerate(names)}
    step, called = np.zeros((2, len(names), len(names)))
    for row, weights in rows.items():
        total = sum(weights.values())
        for name, weight in weights.items():
            if name != END:
                to = row if name == NONE else name
                step[index[row], index[to]] += weight / total
                called[index[row], index[to]] += (name != NONE) * weight / total
    alive, comes = np.eye(len(names))[index[START]], []
    sums = np.zeros(len(names))
    more = 1 - count.distribution.cdf(np.arange(64))  # P(more than m calls in a turn)
    for chance in wanted:
        comes.append(chance * alive.sum())
        if comes[-1] < _NEGLIGIBLE:
            break
        following = (1 - more[0]) * alive
        for m in range(len(more)):
            if more[m] < _NEGLIGIBLE:
                break
            sums += chance * more[m] * (alive @ called)
            alive = alive @ step
            following = following + (more[m] - (more[m + 1] if m + 1 < len(more) else 0.0)) * alive
        alive = following
    return np.array(comes), {name: float(sums[index[name]]) for name in names if name != START}
