"""The step in which several agents work together, in a topology.

Leaves out: how it runs (`team`, `team_graph`); the graphs (`topology`); a board of private contexts, and a free graph over a
shared context, whose order of additions would depend on who is faster.
Checked: tests/test_team.py, tests/data/bad.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..sim.engine.distributions import CountDist, TokensDist
from ..sim.engine.errors import did_you_mean, listed
from ..sim.engine.spec import Name, OneOf, PositiveCount, Share, SpecProblem
from . import topology
from .step import Path, Step, Weight

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["LARGEST", "Stop", "TeamStep", "Topology"]

Topology = Literal["single", "chain", "supervisor", "hierarchy", "blackboard", "debate", "swarm", "graph"]

LARGEST = 10_000  # members of a team: keeps a mistyped depth from filling the memory

# Roles that a topology must have, and may have. A chain and a swarm have `member`, or one member for each of any roles.
ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "single": (("agent",), ()),
    "supervisor": (("lead", "worker"), ()),
    "hierarchy": (("lead", "worker"), ()),
    "blackboard": (("member",), ("controller",)),
    "debate": (("debater",), ("judge",)),
}

_SIZED = ("chain", "supervisor", "blackboard", "debate", "swarm")
_ROUNDS = ("supervisor", "hierarchy", "blackboard", "debate")
# Which topologies a field says something about; the other fields are of all.
_FITS: dict[str, tuple[str, ...]] = {
    "size": _SIZED,
    "depth": ("hierarchy",),
    "fanout": ("hierarchy",),
    "nodes": ("graph",),
    "edges": ("graph",),
    "start": ("graph",),
    "rounds": _ROUNDS,
    "quorum": (*_ROUNDS, "graph"),
    "rest": (*_ROUNDS, "graph"),
    "hand_off": ("swarm",),
    "to": ("swarm",),
    "stop": _ROUNDS,
    "fresh": ("supervisor", "hierarchy"),
}
_SHARED = ("single", "chain", "blackboard", "swarm")


class Stop(OneOf):
    """What ends a team before its last round: a `chance` after each, or an `evaluator` that accepts what there is."""

    chance: Share | None = None
    evaluator: Name | None = None

    @classmethod
    def from_scalar(cls, value: object) -> dict[str, Any] | None:
        """Return a chance for `20 %`, an evaluator for a name."""
        if isinstance(value, str) and re.match(r"[A-Za-z_]", value):
            return {"evaluator": value}
        return {"chance": value}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Say that a bare name may stand for an evaluator, too."""
        written = super().__get_pydantic_json_schema__(schema, handler)
        scalars = handler.resolve_ref_schema(written)["anyOf"]
        scalars.insert(1, scalars[-1]["properties"]["evaluator"])
        return written


class TeamStep(Step):
    """Agents that work together: `members` names the step (and what follows it until `done`) or workflow that a role runs.

    The roles are `agent` (single); `lead` and `worker` (supervisor, hierarchy); `member`, and for a blackboard maybe a
    `controller`; `debater`, and maybe a `judge`, who hears every round; in a chain or swarm, in place of `size` times one
    `member`, any roles in that order; in a graph those that its nodes have.
    `size` counts chain, workers, debaters or members of a swarm; a hierarchy has `depth` levels of `fanout` below its lead;
    a graph has `nodes` (name: role), `edges` and a `start`. `rounds` are those of a debate or board, or the delegations of
    the top lead. `quorum` says on how many a join waits, in a graph of the predecessors; `rest` what becomes of the others.
    After `turns` activations in all the team is over, and `at_turns` tells whether that fails the task. A `message` is what
    a member sends: so many tokens, or the `answer`, which is what it wrote last; left out, all that its activation added to
    its context. In a swarm, `hand_off` is the probability that another takes over, chosen by the weights of `to` by role.
    Contexts are `shared` or `private`: left out, private in a supervisor's team, a hierarchy, a debate and a graph. Those
    who are led keep their own from one delegation to the next, or begin each `fresh`, as sub-agents do that are started
    for one order.
    """

    team: Topology
    members: dict[Name, Name]
    size: PositiveCount = 1
    depth: PositiveCount = 1
    fanout: PositiveCount = 2
    nodes: dict[Name, Name] = {}
    edges: tuple[tuple[Name, Name], ...] = ()
    start: Name | None = None
    rounds: CountDist = CountDist.model_validate(1)
    quorum: Literal["all", "any"] | PositiveCount = "all"
    rest: Literal["cancel", "run on"] = "cancel"
    turns: PositiveCount | None = None
    at_turns: Literal["end", "fail"] = "end"
    context: Literal["shared", "private"] | None = None
    message: TokensDist | Literal["answer"] | None = None
    fresh: bool = False
    hand_off: Share = 0.0
    to: dict[Name, Weight] = {}
    stop: Stop | None = None

    def branches(self) -> Iterator[tuple[Path, str]]:
        """Yield what the roles run."""
        for role, name in self.members.items():
            yield ("members", role), name

    def uses(self) -> Iterator[tuple[Path, str, str]]:
        """Yield the evaluator that ends it."""
        if self.stop is not None and self.stop.evaluator is not None:
            yield ("stop",), "evaluators", self.stop.evaluator

    @property
    def shared(self) -> bool:
        """Whether all members work in one context."""
        return self.team in _SHARED if self.context is None else self.context == "shared"

    @property
    def cancels(self) -> bool:
        """Whether a join may cancel members that are under way."""
        return self.quorum != "all" and self.rest == "cancel"

    def needed(self, members: int) -> int:
        """Return how many of `members` must have ended before a join goes on."""
        if self.quorum == "all":
            return members
        return 1 if self.quorum == "any" else min(int(self.quorum), members)

    @property
    def graph(self) -> "nx.DiGraph[str]":
        """The topology (see `topology`), made anew."""
        roles = list(self.members)
        several: int | list[str] = self.size if roles == ["member"] else roles
        if self.team == "single":
            return topology.single()
        if self.team == "chain":
            return topology.chain(several)
        if self.team == "supervisor":
            return topology.supervisor(self.size)
        if self.team == "hierarchy":
            return topology.hierarchy(self.depth, self.fanout)
        if self.team == "blackboard":
            return topology.blackboard(self.size, "controller" in self.members)
        if self.team == "debate":
            return topology.debate(self.size, "judge" in self.members)
        if self.team == "swarm":
            return topology.swarm(several)
        assert self.start is not None
        return topology.free(self.nodes, self.edges, self.start)

    @model_validator(mode="after")
    def _fits(self) -> "TeamStep":
        """Refuse what the topology has no use for, lacks, or cannot run."""
        for field, kinds in _FITS.items():
            if self.says(field) and self.team not in kinds:
                raise SpecProblem(
                    field, f"fits a team that is {listed(kinds)}, not one that is {self.team}", at_key=True
                )
        self._roles()
        if self._count() > LARGEST:
            path = "depth" if self.team == "hierarchy" else "size"
            raise SpecProblem(path, f"makes more than {LARGEST} members, the most that a team may have", at_key=True)
        if self.team == "graph":
            self._runs()
        self._joins()
        if self.context == "private" and self.team == "blackboard":
            raise SpecProblem("context", "must be shared: a blackboard is a context that all read")
        if self.context == "shared" and self.team == "graph":
            raise SpecProblem("context", "must be private: what a node of a graph knows is what has been sent to it")
        if self.fresh and self.shared:
            raise SpecProblem("fresh", "needs private contexts: in a shared one, all know what any has done")
        if self.hand_off == 1 and self.turns is None and self._count() > 1:
            raise SpecProblem("hand_off", "never ends at 100 %; give `turns`, or a lower probability")
        return self

    def _count(self) -> int:
        """Return how many members there are (more than `LARGEST` where there are far more)."""
        if self.team == "hierarchy":  # of two and more below each lead, fourteen levels are too many already
            return topology.hierarchy_size(self.depth if self.fanout == 1 else min(self.depth, 14), self.fanout)
        return self.size if self.team in _SIZED else max(1, len(self.nodes))

    def _roles(self) -> None:
        """Refuse roles that are missing, and roles that the topology has not."""
        if self.team in ROLES:
            self._fixed_roles()
        elif self.team == "graph":
            self._roles_of_nodes()
        elif not self.members:
            raise SpecProblem("members", "lacks a role: name `member`, or several roles", at_key=True)
        elif self.says("size") and list(self.members) != ["member"]:
            raise SpecProblem("size", f"needs one role, `member`; there are {listed(self.members)}", at_key=True)
        for role in self.to:
            if role not in self.members:
                message = f"`members` has no role `{role}`; it has {listed(self.members)}"
                raise SpecProblem(("to", role), message, at_key=True)

    def _fixed_roles(self) -> None:
        """Refuse roles other than those of the topology."""
        must, may = ROLES[self.team]
        needs = f"a team that is {self.team} needs {listed(must)}" + (f", and may have {listed(may)}" if may else "")
        for role in must:
            if role not in self.members:
                raise SpecProblem("members", f"lacks the role `{role}`: {needs}", at_key=True)
        for role in self.members:
            if role not in (*must, *may):
                raise SpecProblem(
                    ("members", role),
                    f"is no role here{did_you_mean(role, [*must, *may]) or '; ' + needs}",
                    at_key=True,
                )

    def _roles_of_nodes(self) -> None:
        """Refuse nodes without a role, and roles without a node."""
        for name, role in self.nodes.items():
            if role not in self.members:
                raise SpecProblem(("nodes", name), f"`members` has no role `{role}`; it has {listed(self.members)}")
        for role in self.members:
            if role not in self.nodes.values():
                raise SpecProblem(("members", role), "is the role of no node; remove it, or add a node", at_key=True)

    def _runs(self) -> None:
        """Refuse a graph without a start, with ends that are no nodes, agents that nobody reaches, and no end."""
        if not self.nodes:
            raise SpecProblem(
                "nodes", "needs at least one, such as `{writer: writer}`", at_key="nodes" in self.model_fields_set
            )
        if self.start is None or self.start not in self.nodes:
            got = "nothing" if self.start is None else f"`{self.start}`"
            raise SpecProblem("start", f"must be one of the nodes, {listed(self.nodes)}; got {got}")
        for place, edge in enumerate(self.edges):
            for end, name in enumerate(edge):
                if name not in self.nodes:
                    raise SpecProblem(
                        ("edges", place, end), f"no node is named `{name}`; there are {listed(self.nodes)}"
                    )
        for name in topology.unreachable(self.graph):
            message = f"cannot be reached from `{self.start}`; remove the agent, or let an edge lead to it"
            raise SpecProblem(("nodes", name), message, at_key=True)
        cycle = topology.endless(self.graph)
        if cycle and self.turns is None:
            way = " -> ".join(f"`{name}`" for name in [*cycle, cycle[0]])
            raise SpecProblem(
                "edges", f"never comes to an end: {way}; give `turns`, how often agents act at most", at_key=True
            )

    def _joins(self) -> None:
        """Refuse a join that waits for more members than there are."""
        if not isinstance(self.quorum, int):
            return
        if self.team == "graph":
            most, who = max((degree for _, degree in self.graph.in_degree()), default=0), "predecessors of a node"
        elif self.team == "hierarchy":
            most, who = self.fanout, "members under a lead"
        else:
            most, who = self.size, "members that a join waits for"
        if self.quorum > most:
            raise SpecProblem("quorum", f"must be at most the number of {who}, {most}; got {self.quorum}")
