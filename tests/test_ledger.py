"""The ledger: each moment of a task in one category, hand-computed; overlapped work, stragglers, and the end of a run."""

import numpy as np
import pytest

from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.branch import Branch
from coordsim.sim.engine.errors import ConservationError
from coordsim.sim.engine.ledger import CATEGORIES, Ledger
from coordsim.sim.engine.simulation import Simulation
from coordsim.sim.engine.watchdog import StuckError

from .scene import Data, accounts, chain, fact, leaves, named, overlapped, parts, row_of, run, statuses, steps, total

# One of everything: an agent that is called over a link, remembers, uses a tool that fails once, and a person.
EVERYTHING = {
    "runtime": {"preset": "stateless-api", "notification": "polling", "codec": "plain"},
    "context": {"bytes_per_token": "1 B / token"},
    "workload": {"request": "1000 tokens"},
    "serializers": {"plain": {"encode": {"overhead": "1 s"}, "decode": {"overhead": "2 s"}}},
    "orchestrator": {"node": "here", "dispatch": "7 s", "assemble": "1 ms / token", "poll_interval": "10 s"},
    "network": {"nodes": {"here": {}, "there": {}}, "links": [{"between": ["here", "there"], "latency": "3 s"}]},
    "agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}},
    "models": {"llm": {"node": "there", "overhead": "1 s", "prefill": "2 ms / token", "decode": "10 ms / token"}},
}


def test_every_part_of_a_call_has_its_category() -> None:
    """Dispatch 7 s; assemble 1.5 s; encode and decode 3 s a way; two handshakes of 6 s and 3 s a way; and the call.

    The call is new: 1 s + 1500 x 2 ms + 100 x 10 ms = 5 s, noticed at the next tick of 10 s.
    """
    result = run(EVERYTHING)
    assert parts(result) == pytest.approx(
        {
            "orchestration": 7 + 5,
            "context": 1.5,
            "serialization": 2 * 3,
            "communication": 2 * 6 + 2 * 3,
            "inference": 5,
        }
    )
    assert named(result, "poll") == pytest.approx(5)
    assert named(result, "connect") == pytest.approx(12)
    assert total(result) == pytest.approx(42.5)
    assert fact(result, "messages") == 2 + 2 * 2
    assert fact(result, "bytes") == 1500 + 100


def test_a_second_call_carries_what_the_first_has_shown() -> None:
    """Of 1600 tokens the server has seen all: their prefill, 3.2 s, is context; inference is 1 s and the output."""
    result = run(EVERYTHING, chain(("one", {"agent": "a"}), ("two", {"agent": "a"})))
    assert named(result, "prefill again") == pytest.approx(3.2)
    assert parts(result)["inference"] == pytest.approx(5 + 2)
    assert (fact(result, "new_tokens"), fact(result, "carried_tokens")) == (1500, 1600)


def test_invoke_is_apart_from_execute() -> None:
    """A tool's own work, and what it takes to call it, are told apart by name."""
    result = run({"tools": {"t": {"invoke": "2 s", "latency": "5 s"}}}, steps("t", t={"tool": "t"}))
    assert (named(result, "tool.invoke"), named(result, "tool.execute")) == (2, 5)
    assert parts(result) == {"tool": 7}


def test_an_attempt_that_failed_is_recovery() -> None:
    """Calls of 3 s, of which all but the last fail: their time moves to recovery, and their spans are marked lost."""
    tool = {"invoke": "1 s", "latency": "2 s", "errors": 1.0, "handling": {"retry": 3}}
    result = run({"tools": {"t": tool}}, steps("t", t={"tool": "t"}))
    assert parts(result) == pytest.approx({"recovery": 6, "tool": 3})
    assert [span.lost for span in leaves(result)] == [True, True, True, True, False, False]
    assert {span.category for span in leaves(result)} == {"tool"}
    assert (fact(result, "retries"), fact(result, "tool_errors"), fact(result, "tool_calls")) == (2, 3, 1)


def test_people_are_waited_for() -> None:
    """Their time is neither inference nor coordination."""
    result = run(chain(("ask", {"human": "1 h"}), ("work", {"agent": "a"})), {"models": {"llm": {"overhead": "5 s"}}})
    assert parts(result) == pytest.approx({"human": 3600, "inference": 5})
    assert result.coordination[0] == pytest.approx(0)


def test_queueing_is_kept_per_resource() -> None:
    """Three tasks at once wait for one server each of a model and a tool, and each wait has the name of what was busy."""
    result = run(
        {
            "workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 3},
            "models": {"llm": {"overhead": "2 s"}},
            "tools": {"t": {"latency": "3 s", "concurrency": 1}},
        },
        chain(("think", {"agent": "a"}), ("act", {"tool": "t"})),
    )
    waits = [
        {one.component: round(s, 4) for one, s in accounts(result, task).items() if one.category == "queueing"}
        for task in range(3)
    ]
    assert waits == [{}, {"models.llm": 2, "tools.t": 1}, {"models.llm": 4, "tools.t": 2}]


def test_parts_sum_to_the_time_of_each_task() -> None:
    """Over all categories, to rounding."""
    result = run(
        EVERYTHING,
        {"workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 50}},
        {"tools": {"t": {"latency": {"exponential": {"mean": "1 s"}}, "errors": 0.3, "handling": {"retry": 2}}}},
        chain(("one", {"agent": "a", "tools": {"t": 1, "none": 1}, "repeat": 3}), ("two", {"agent": "a"})),
    )
    assert result.categories().shape == (50, len(CATEGORIES))
    np.testing.assert_allclose(result.categories().sum(axis=1), result.response_times, rtol=1e-9)


TOOLS = {"tools": {f"t{n}": {"latency": f"{n} s"} for n in (1, 2, 4, 9, 30)}}


def test_what_ran_beside_the_critical_path_is_overlapped() -> None:
    """The slowest of three branches is the path; the straggler's excess is the last minus the mean."""
    result = run(TOOLS, steps("f", f={"fork": ["a", "b", "c"]}, a={"tool": "t1"}, b={"tool": "t9"}, c={"tool": "t2"}))
    assert parts(result) == {"tool": 9}
    assert overlapped(result) == 3
    assert fact(result, "straggler_excess") == 9 - 4
    assert [(span.start - 1000, span.end - 1000, span.critical) for span in leaves(result)] == [
        (0, 9, True),
        (0, 2, False),
        (0, 1, False),
    ]


def test_only_joins_on_the_critical_path_have_an_excess() -> None:
    """A join within a branch that nobody had to wait for made nothing slower."""
    inner: Data = {"inner": {"fork": ["a", "b"]}, "a": {"tool": "t9"}, "b": {"tool": "t1"}}
    slow = run(TOOLS, steps("f", f={"fork": ["inner", "c"]}, c={"tool": "t30"}, **inner))
    assert fact(slow, "straggler_excess") == 30 - (9 + 30) / 2
    fast = run(TOOLS, steps("f", f={"fork": ["inner", "c"]}, c={"tool": "t2"}, **inner))
    assert fact(fast, "straggler_excess") == (9 - 5) + (9 - 5.5)


def test_the_critical_path_goes_through_nested_joins() -> None:
    """Its spans abut from arrival to end, whatever lanes they are in."""
    result = run(
        TOOLS,
        steps(
            "first",
            first={"tool": "t1", "next": "f"},
            f={"fork": ["x", "y"], "next": "last"},
            x={"fork": ["a", "b"], "next": "c"},
            a={"tool": "t4"},
            b={"tool": "t2"},
            c={"tool": "t2"},
            y={"tool": "t4", "next": "b"},
            last={"tool": "t1"},
        ),
    )
    path = sorted((span.start, span.end) for span in leaves(result) if span.critical)
    assert [(a - 1000, b - 1000) for a, b in path] == [(0, 1), (1, 5), (5, 7), (7, 8)]
    assert overlapped(result) == 2 + 6


QUORUM = {"fork": ["a", "b", "c"], "join": 2, "next": "after"}
RACE = {"a": {"tool": "t1"}, "b": {"tool": "t4"}, "c": {"tool": "t9"}, "after": {"tool": "t30"}}


def test_a_quorum_cancels_the_rest() -> None:
    """Two of three have ended at 4 s: the third has had 4 s of its 9."""
    result = run(TOOLS, steps("f", f=QUORUM, **RACE))
    assert total(result) == 34
    assert overlapped(result) == 1 + 4
    assert max(span.end - span.start for span in leaves(result) if span.name == "tool.execute") == 30
    assert fact(result, "straggler_excess") == 4 - 2.5


def test_a_quorum_gives_back_what_the_rest_held() -> None:
    """The next task finds the server free that the cancelled branch held, and the line that it stood in shorter."""
    limited = {"tools": {"t9": {"latency": "9 s", "concurrency": 1}}}
    load = {"workload": {"arrivals": {"deterministic": "0.2 / s"}, "tasks": 3}}
    result = run(
        TOOLS,
        limited,
        load,
        steps("f", f={**QUORUM, "next": "done"}, **{k: v for k, v in RACE.items() if k != "after"}),
    )
    assert [total(result, task) for task in range(3)] == [4, 4, 4]
    assert not [span for task in range(3) for span in leaves(result, task) if span.category == "queueing"]


def test_a_branch_that_runs_on_keeps_working() -> None:
    """Nobody waits for it; its work is counted, be it after the end of the task."""
    quick = {name: step for name, step in RACE.items() if name != "after"}
    result = run(TOOLS, steps("f", f={**QUORUM, "rest": "run on", "next": "done"}, **quick))
    assert total(result) == 4
    assert overlapped(result) == 1 + 9
    assert result.end == 1009


def test_unfinished_tasks_are_told_up_to_the_horizon() -> None:
    """A task is cut off in service, another in line: their parts are what was until then."""
    result = run(
        {
            "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": None, "horizon": "3.5 s"},
            "models": {"llm": {"overhead": "10 s"}},
        }
    )
    assert statuses(result) == [2, 2, 2]
    assert [parts(result, task) for task in range(3)] == [{"inference": 2.5}, {"queueing": 1.5}, {"queueing": 0.5}]
    assert {span.end for task in range(3) for span in leaves(result, task)} == {3.5}
    assert (result.arrived, result.ended, result.unfinished) == (3, 0, 3)


def test_the_law_is_checked_on_every_task() -> None:
    """A task whose parts do not sum to its time is our bug, and is named."""
    sim = Simulation()
    ledger = Ledger(sim, ())
    work = ledger.account("inference", "llm")
    for index in range(3):
        task = ledger.open(index, 0, 0.0)
        task.trunk = branch = Branch(task, 0, 0.0, None)
        branch.start(x for x in [None, None])
        branch.time = 5.0
        branch.parts[work] = 5.0 if index != 1 else 5.0 + 1e-7
        ledger.close(branch)
    with pytest.raises(ConservationError, match=r"task 1: its parts sum to .*5\.0000001.* took .*5\.0.*inference/llm"):
        ledger.finish(None)


def test_a_task_that_never_ends_is_named() -> None:
    """It would be missing from the count."""
    ledger = Ledger(Simulation(), ())
    task = ledger.open(4, 0, 0.0)
    task.trunk = Branch(task, 0, 0.0, None)
    task.trunk.start(x for x in [None, None])
    with pytest.raises(StuckError, match="task 4 waits for nothing that is known"):
        ledger.finish(None)


def test_categories_are_those_of_the_design() -> None:
    """An account of another category is refused."""
    with pytest.raises(ValueError, match="'waiting'"):
        Ledger(Simulation(), ()).account("waiting", "llm")


def totals_of(result: Result, resource: str) -> tuple[float, ...]:
    """Return the last totals of a resource."""
    names = [info.name for info in result.resources]
    return result.snapshots[-1].resources[names.index(resource)]


def test_resources_are_counted_up_to_the_end() -> None:
    """Busy and present seconds, arrivals and completions of a pool, from two tasks of 4 s a second apart."""
    result = run(
        {
            "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 2},
            "models": {"llm": {"overhead": "4 s"}},
        }
    )
    assert totals_of(result, "models.llm") == pytest.approx((8, 11, 2, 2, 0, 3))
    assert row_of(result, 1)[3] == pytest.approx(9)


def test_an_attempt_under_way_at_the_horizon_is_not_lost_yet() -> None:
    """It would fail, but nobody knows by then: it is told as what it is."""
    load = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": None, "horizon": "5.5 s"}}
    tool = {"latency": "3 s", "errors": 1.0, "handling": {"retry": 2}}
    result = run(load, {"tools": {"t": tool}}, steps("t", t={"tool": "t"}))
    assert [parts(result, task) for task in (0, 1, 2)] == [
        {"recovery": 3, "tool": 1.5},
        {"recovery": 3, "tool": 0.5},
        {"tool": 2.5},
    ]
    assert [span.lost for span in leaves(result, 2)] == [False]
