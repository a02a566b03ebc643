"""Workflows as graphs: forks of steps and of workflows, copies, sub-workflows, and what is refused."""

import pytest

from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, chain, fact, overlapped, run, scene, steps, total

TOOLS: Data = {"tools": {f"t{n}": {"latency": f"{n} s"} for n in (1, 2, 5)}}
SUB: Data = {"workflows": {"sub": {"start": "x", "steps": {"x": {"tool": "t1", "next": "y"}, "y": {"tool": "t2"}}}}}


def test_a_sub_workflow_runs_in_place() -> None:
    """Its end is not the task's: control goes back to where it began."""
    result = run(TOOLS, SUB, chain(("one", {"workflow": "sub"}), ("two", {"tool": "t5"})))
    assert (total(result), fact(result, "steps")) == (8, 3)


def test_a_fork_takes_steps_and_workflows() -> None:
    """Branches go on until their `done`, which is that of the branch."""
    fork = {"fork": ["sub", "a"], "next": "b"}
    result = run(TOOLS, SUB, steps("f", f=fork, a={"tool": "t1", "next": "c"}, c={"tool": "t5"}, b={"tool": "t2"}))
    assert (total(result), overlapped(result)) == (6 + 2, 3)


def test_a_fork_makes_copies() -> None:
    """As many as are drawn; none is a step that takes no time."""
    for copies, seconds, beside in ((3, 5, 10), (1, 5, 0), (0, 0, 0)):
        result = run(TOOLS, steps("f", f={"fork": ["a"], "copies": copies}, a={"tool": "t5"}))
        assert (total(result), overlapped(result)) == (seconds, beside)


def test_a_quorum_larger_than_the_copies_waits_for_all() -> None:
    """Three of two is two."""
    result = run(TOOLS, steps("f", f={"fork": ["a"], "copies": 2, "join": 3}, a={"tool": "t5"}))
    assert total(result) == 5


def test_workflows_nest() -> None:
    """A workflow may call another, which forks a third; main steps of the same name are others."""
    deep = {
        "workflows": {
            "sub": {"start": "x", "steps": {"x": {"workflow": "inner", "next": "y"}, "y": {"tool": "t2"}}},
            "inner": {"start": "x", "steps": {"x": {"fork": ["leaf", "leaf"]}}},
            "leaf": {"start": "x", "steps": {"x": {"tool": "t5"}}},
        }
    }
    result = run(TOOLS, deep, chain(("x", {"workflow": "sub"}), ("y", {"tool": "t1"})))
    assert (total(result), overlapped(result)) == (5 + 2 + 1, 5)


def test_a_class_runs_its_own_workflow() -> None:
    """Where a class names one, its tasks start there."""
    classes = {"classes": {"plain": {"weight": 1}, "other": {"weight": 3, "workflow": "sub"}}}
    load = {"workload": {"arrivals": {"deterministic": "1 / h"}, "tasks": 40}}
    result = run(TOOLS, SUB, classes, load, steps("a", a={"tool": "t5"}), spans="none")
    times = {
        int(group): round(seconds) for group, seconds in zip(result.task_classes, result.response_times, strict=True)
    }
    assert times == {0: 5, 1: 3}


CALL = {"tool": "t1"}


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (steps("a", a={**CALL, "next": "b"}), "b"),
        (steps("b", a=CALL), "b"),
        (steps("a", a=CALL, b=CALL), "never reached"),
        (steps("a", a={**CALL, "next": "b"}, b={**CALL, "next": "a"}), "never comes to `done`"),
        (steps("f", f={"fork": ["a", "nowhere"]}, a=CALL), "nowhere"),
        (steps("f", f={"fork": ["a", "b"], "copies": 2}, a=CALL, b=CALL), "copies"),
        (steps("f", f={"fork": ["a", "b"], "join": 3}, a=CALL, b=CALL), "join"),
        (steps("a", a={"workflow": "elsewhere"}), "elsewhere"),
        (steps("w", w={"agent": "a", "replan": {"w": 0.6, "v": 0.6}}, v=CALL), "replan"),
        (steps("w", w={"agent": "a", "elasticity": 1}), "repeat"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(flow: Data, message: str) -> None:
    """Unknown steps, steps never reached, cycles without a way out, and counts that do not fit."""
    with pytest.raises(ScenarioError, match=message):
        scene(TOOLS, flow)


def test_a_workflow_does_not_contain_itself() -> None:
    """Directly, or through another."""
    circle = {
        "workflows": {
            "p": {"start": "x", "steps": {"x": {"workflow": "q"}}},
            "q": {"start": "x", "steps": {"x": {"fork": ["p", "y"]}, "y": CALL}},
        }
    }
    with pytest.raises(ScenarioError, match="contains itself"):
        scene(TOOLS, circle, steps("a", a={"workflow": "p"}))


def test_the_graph_has_an_edge_for_each_way() -> None:
    """Ways on, replans, verdicts, and the branches of a fork."""
    flow = steps(
        "f",
        f={"fork": ["a", "b"], "next": "c"},
        a=CALL,
        b={"agent": "a", "replan": {"a": 0.1}},
        c={"evaluator": "e", "rejected": "f"},
    )
    graph = scene(TOOLS, {"evaluators": {"e": {"latency": "1 s", "accept": 0.5}}}, flow).workflow.graph()
    edges = {(a, b) for a, b in graph.edges if b != "done"}
    assert edges == {("f", "a"), ("f", "b"), ("f", "c"), ("b", "a"), ("c", "f")}
    assert {a for a, b in graph.edges if b == "done"} == {"a", "b", "c"}
