"""Topologies: how many members and edges each has, who begins, and what cannot run."""

from collections.abc import Callable

import pytest

from coordsim.models import topology


def test_a_single_agent_is_alone() -> None:
    """One node, no edge."""
    graph = topology.single()
    assert graph.nodes["agent"]["role"] == "agent"
    assert (len(graph), graph.number_of_edges()) == (1, 0)


REFUSED: list[Callable[[], object]] = [
    lambda: topology.chain(0),
    lambda: topology.chain([]),
    lambda: topology.supervisor(0),
    lambda: topology.hierarchy(0, 2),
    lambda: topology.free({"a": "x"}, [], "b"),
    lambda: topology.free({"a": "x"}, [("a", "b")], "a"),
    lambda: topology.swarm(2, [("member 1", "nobody")]),
]


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_messages_of_a_round_are_the_edges(n: int) -> None:
    """A chain has n - 1 of them, a supervisor's team 2n, a debate n(n - 1) and n more to a judge, a swarm n(n - 1)."""
    assert topology.chain(n).number_of_edges() == n - 1
    assert topology.supervisor(n).number_of_edges() == 2 * n
    assert topology.debate(n).number_of_edges() == n * (n - 1)
    assert topology.debate(n, judge=True).number_of_edges() == n * n
    assert topology.swarm(n).number_of_edges() == n * (n - 1)
    assert topology.blackboard(n).number_of_edges() == 2 * n


@pytest.mark.parametrize(("depth", "fanout"), [(1, 1), (1, 4), (2, 3), (3, 2), (4, 1)])
def test_a_hierarchy_is_a_tree(depth: int, fanout: int) -> None:
    """It has fanout^depth workers, an edge down and one up for all but the top, and depth levels."""
    graph = topology.hierarchy(depth, fanout)
    roles = [graph.nodes[node]["role"] for node in graph]
    assert roles.count("worker") == fanout**depth
    assert len(graph) == topology.hierarchy_size(depth, fanout) == sum(fanout**level for level in range(depth + 1))
    assert graph.number_of_edges() == 2 * (len(graph) - 1)
    assert not topology.unreachable(graph)


def test_roles_of_a_chain_and_a_swarm_may_be_named() -> None:
    """One member of each, in order; hand-offs may be fewer than all."""
    assert list(topology.chain(["draft", "edit", "check"]).edges) == [("draft", "edit"), ("edit", "check")]
    graph = topology.swarm(["triage", "sales", "help"], [("triage", "sales"), ("triage", "help")])
    assert graph.graph["entry"] == ["triage"]
    assert list(graph.successors("sales")) == []


def test_who_begins() -> None:
    """The first of a chain, the lead, every debater, whoever is told to."""
    assert topology.chain(3).graph["entry"] == ["member 1"]
    assert topology.hierarchy(2, 2).graph["entry"] == ["lead"]
    assert topology.debate(2, judge=True).graph["entry"] == ["debater 1", "debater 2"]
    assert topology.free({"a": "x", "b": "x"}, [("b", "a")], "b").graph["entry"] == ["b"]


def test_what_cannot_be_reached_and_what_never_ends_is_found() -> None:
    """A node that no way leads to, and the nodes of a cycle in order."""
    graph = topology.free({"a": "x", "b": "x", "c": "x", "d": "x"}, [("a", "b"), ("b", "a"), ("c", "d")], "a")
    assert topology.unreachable(graph) == ["c", "d"]
    assert topology.endless(graph) == ["a", "b"]
    assert topology.endless(topology.chain(4)) == []


def test_teams_that_are_none_are_refused() -> None:
    """Nobody at all, a tree without levels, edges and starts that are nowhere."""
    for make in REFUSED:
        with pytest.raises(ValueError, match="must"):
            make()
