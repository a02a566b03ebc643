"""Topologies of agents that work together, as graphs: nodes are members, an edge leads to whom a member may send to.

Each function returns a networkx `DiGraph`. Its nodes have the attribute `role`, and `graph.graph["entry"]` is the list of
those that begin. Members of one role are numbered from 1; of a hierarchy, digit by digit from the top. A `board` is a place
where members post and read, and no agent.

    >>> from coordsim.models import topology
    >>> [topology.debate(n).number_of_edges() for n in (2, 4, 8)]  # messages per round: n * (n - 1)
    [2, 12, 56]

Leaves out: what the members do, and when (`team`).
Checked: tests/test_topology.py.
Source: blackboard: Erman et al., The Hearsay-II speech-understanding system, ACM Computing Surveys 12 (1980); debate: Du et
al., Improving factuality and reasoning in language models through multiagent debate, ICML 2024 (arXiv:2305.14325).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "BOARD", "blackboard", "chain", "debate", "endless", "free", "hierarchy", "hierarchy_size", "single", "supervisor", "swarm",
    "unreachable",
]  # fmt: skip

BOARD = "board"

Edges = Iterable[tuple[str, str]]


def _graph(roles: Mapping[str, str], edges: Edges, entry: Iterable[str]) -> "nx.DiGraph[str]":
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph(entry=list(entry))
    for name, role in roles.items():
        graph.add_node(name, role=role)
    graph.add_edges_from(edges)
    return graph


def _alike(role: str, count: int) -> dict[str, str]:
    """Return `count` members of a role: their names, and the role."""
    if count < 1:
        raise ValueError(f"a team must have at least 1 `{role}`; got {count}")
    return {f"{role} {number}": role for number in range(1, count + 1)}


def _members(members: int | Sequence[str]) -> dict[str, str]:
    """Return the members of a count of them, or of the roles that are given, one member each."""
    if isinstance(members, int):
        return _alike("member", members)
    if not members:
        raise ValueError("a team must have at least 1 member; got none")
    return {role: role for role in members}


def single(role: str = "agent") -> "nx.DiGraph[str]":
    """Return one agent, alone."""
    return _graph({role: role}, (), [role])


def chain(members: int | Sequence[str]) -> "nx.DiGraph[str]":
    """Return members one after the other: so many of role `member`, or one of each role in order.

    >>> list(chain(["writer", "editor"]).edges)
    [('writer', 'editor')]
    """
    roles = _members(members)
    return _graph(roles, pairwise(roles), [next(iter(roles))])


def supervisor(workers: int) -> "nx.DiGraph[str]":
    """Return a `lead` that hands tasks to `workers`, who report back: 2 messages per worker and round."""
    return _led({"lead": list(_alike("worker", workers))}, "worker")


def hierarchy(depth: int, fanout: int) -> "nx.DiGraph[str]":
    """Return a tree of `depth` levels below the `lead`, each inner node the lead of `fanout` members, the leaves workers.

    >>> sorted(hierarchy(2, 2))
    ['lead', 'lead 1', 'lead 2', 'worker 1.1', 'worker 1.2', 'worker 2.1', 'worker 2.2']
    """
    if depth < 1 or fanout < 1:
        raise ValueError(f"a hierarchy must have `depth` and `fanout` of at least 1; got {depth} and {fanout}")
    below: dict[str, list[str]] = {}
    level = [("lead", "")]
    for number in range(depth):
        role = "worker" if number == depth - 1 else "lead"
        following = []
        for name, digits in level:
            children = [f"{digits}.{child}" if digits else str(child) for child in range(1, fanout + 1)]
            below[name] = [f"{role} {child}" for child in children]
            following += [(f"{role} {child}", child) for child in children]
        level = following
    return _led(below, "worker")


def _led(below: Mapping[str, list[str]], leaf: str) -> "nx.DiGraph[str]":
    """Return leads, and those whom each leads."""
    roles = dict.fromkeys(below, "lead")
    roles |= {child: leaf for children in below.values() for child in children if child not in below}
    pairs = [(lead, child) for lead, children in below.items() for child in children]
    return _graph(roles, [*pairs, *((child, lead) for lead, child in pairs)], [next(iter(below))])


def hierarchy_size(depth: int, fanout: int) -> int:
    """Return how many members a hierarchy has, the lead included: 1 + f + f^2 + ... + f^depth.

    >>> hierarchy_size(2, 3) == len(hierarchy(2, 3)) == 13
    True
    """
    return depth + 1 if fanout == 1 else (fanout ** (depth + 1) - 1) // (fanout - 1)


def blackboard(members: int, controller: bool = False) -> "nx.DiGraph[str]":
    """Return members that post to a `board` which all read, and maybe a `controller` that reads it after each round."""
    roles = _alike("member", members)
    agents = [*roles, *(["controller"] if controller else [])]
    edges = [edge for name in agents for edge in ((name, BOARD), (BOARD, name))]
    return _graph({**roles, BOARD: BOARD, **({"controller": "controller"} if controller else {})}, edges, roles)


def debate(debaters: int, judge: bool = False) -> "nx.DiGraph[str]":
    """Return debaters of whom each hears all others, and maybe a `judge` who hears all of them."""
    roles = _alike("debater", debaters)
    edges = [(a, b) for a in roles for b in roles if a != b]
    if judge:
        edges += [(name, "judge") for name in roles]
    return _graph({**roles, **({"judge": "judge"} if judge else {})}, edges, roles)


def swarm(members: int | Sequence[str], hand_offs: Edges | None = None) -> "nx.DiGraph[str]":
    """Return members of whom one at a time is at work, and who hand off to one another: to anyone, or along `hand_offs`."""
    roles = _members(members)
    complete = ((a, b) for a in roles for b in roles if a != b)
    graph = _graph(roles, complete if hand_offs is None else hand_offs, [next(iter(roles))])
    return _known(graph, roles)


def free(nodes: Mapping[str, str], edges: Edges, start: str) -> "nx.DiGraph[str]":
    """Return a graph of any `nodes` (name: role) and `edges`, which begins at `start`.

    >>> free({"a": "x", "b": "y"}, [("a", "b")], "a").graph["entry"]
    ['a']
    """
    if start not in nodes:
        raise ValueError(f"`start` must be one of the nodes; got `{start}`")
    return _known(_graph(nodes, edges, [start]), nodes)


def _known(graph: "nx.DiGraph[str]", nodes: Mapping[str, str]) -> "nx.DiGraph[str]":
    for name in graph:
        if name not in nodes:
            raise ValueError(f"an edge must lead from node to node; got `{name}`, which is none")
    return graph


def unreachable(graph: "nx.DiGraph[str]") -> list[str]:
    """Return the members to which no way leads from those that begin."""
    import networkx as nx

    reached = set(graph.graph["entry"])
    for name in graph.graph["entry"]:
        reached |= nx.descendants(graph, name)
    return [name for name in graph if name not in reached]


def endless(graph: "nx.DiGraph[str]") -> list[str]:
    """Return the members of a cycle, in order; none where every way ends."""
    import networkx as nx

    try:
        return [edge[0] for edge in nx.find_cycle(graph)]
    except nx.NetworkXNoCycle:
        return []
