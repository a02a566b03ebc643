"""One replication, end to end: loads, horizons, drains, closed users, replays, determinism, and what a result says of it."""

import itertools
import math

import numpy as np
import pytest

from coordsim.models import simulate as simulation
from coordsim.models import system
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.replicate import Settings, replicate
from coordsim.sim.engine.ledger import UNFINISHED

from .scene import Data, fact, leaves, merged, overlapped, parts, row_of, run, scene, statuses, steps, table, total

LAW: Data = {"models": {"llm": {"overhead": {"exponential": {"mean": "1 s"}}}}}
BUSY: Data = {"workload": {"arrivals": {"poisson": "0.7 / s"}, "tasks": 300}}


def ends_at(horizon: str, rate: str = "1 / s") -> Data:
    """Return a load until a horizon."""
    return {"workload": {"arrivals": {"deterministic": rate}, "tasks": None, "horizon": horizon}}


def test_all_tasks_arrive_and_end() -> None:
    """As many as asked for, each once, in order of arrival."""
    result = run(LAW, BUSY, spans="none")
    assert (result.arrived, result.ended, result.unfinished) == (300, 300, 0)
    assert result.rows[:, 0].tolist() == list(range(300))
    assert (np.diff(result.rows[:, 2]) > 0).all()


def test_classes_come_by_weight() -> None:
    """Of 2000 tasks a share of 1 in 4, within 4 standard errors; each class asks what it says."""
    classes = {
        "classes": {"small": {"weight": 3, "request": "10 tokens"}, "large": {"weight": 1, "request": "900 tokens"}}
    }
    result = run(classes, {"workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 2000}}, spans="none")
    large = int((result.task_classes == 1).sum())
    assert abs(large - 500) < 4 * math.sqrt(2000 * 0.25 * 0.75)
    requests = {
        int(group): tokens for group, tokens in zip(result.task_classes, result.fact("new_tokens"), strict=True)
    }
    assert requests == {0: 10, 1: 900}
    assert result.classes == ("small", "large")


def test_a_horizon_cuts_tasks_off() -> None:
    """What arrived is counted, and what had not ended is told up to the horizon: with forks, lines and transfers open."""
    world = {
        "runtime": {"preset": "ideal", "placement": "external"},
        "context": {"bytes_per_token": "1 B / token"},
        "orchestrator": {"node": "here"},
        "network": {
            "nodes": {"here": {}, "there": {}},
            "links": [{"between": ["here", "there"], "latency": "0.5 s", "bandwidth": "100 B/s"}],
        },
        "agents": {"a": {"prompt": "100 tokens"}},
        "models": {"llm": {"node": "there", "overhead": "1.5 s"}},
        "tools": {"t": {"latency": "4 s", "concurrency": 2}, "u": {"latency": "7 s"}},
    }
    flow = steps(
        "f",
        f={"fork": ["a", "b", "c"], "next": "d"},
        a={"tool": "t"},
        b={"agent": "a"},
        c={"tool": "u"},
        d={"agent": "a"},
    )
    result = run(world, ends_at("20.25 s"), flow)
    assert set(statuses(result)) == {0, UNFINISHED}
    assert result.arrived == 20
    for task in range(result.arrived):
        assert sum(parts(result, task).values()) == pytest.approx(total(result, task))
        if statuses(result)[task] == UNFINISHED:
            assert row_of(result, task)[3] == 20.25
            path = sorted((span.start, span.end) for span in leaves(result, task) if span.critical)
            assert path[0][0] == pytest.approx(row_of(result, task)[2])
            assert path[-1][1] == 20.25
            assert all(a == pytest.approx(b) for (_, a), (b, _) in itertools.pairwise(path))
    assert max(span.end for span in result.spans) == 20.25


def test_a_branch_that_ran_ahead_of_the_horizon_is_cut_there() -> None:
    """Long delays are booked at once; the part behind the horizon never was."""
    result = run(
        ends_at("2.5 s"),
        {"tools": {"t": {"latency": "40 s"}}},
        steps("t", t={"tool": "t", "next": "u"}, u={"tool": "t"}),
    )
    assert [parts(result, task) for task in range(2)] == [{"tool": 1.5}, {"tool": 0.5}]


def test_a_branch_that_runs_on_at_the_horizon_is_cut_there_too() -> None:
    """The task is done; its branch that nobody waits for is told up to the horizon."""
    tools = {"tools": {"t": {"latency": "1 s"}, "u": {"latency": "40 s"}}}
    race = {"fork": ["t", "u"], "join": "any", "rest": "run on"}
    result = run(ends_at("4.5 s", "0.5 / s"), tools, steps("f", f=race, t={"tool": "t"}, u={"tool": "u"}))
    assert statuses(result) == [0, UNFINISHED]
    assert max(span.end for span in result.spans) == 4.5


def test_a_drain_waits_for_the_last_tasks_up_to_its_length() -> None:
    """Three tasks of 4 s on one server, a second apart from 1 s on: the last arrival is at 3 s."""
    law = {"models": {"llm": {"overhead": "4 s"}}}
    load = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 3}}
    cut = run(law, load, {"workload": {"drain": "7 s"}})
    assert statuses(cut) == [0, 0, UNFINISHED]
    assert parts(cut, 2) == {"queueing": 6, "inference": 1}
    assert statuses(run(law, load, {"workload": {"drain": "11 s"}})) == [0, 0, 0]


def test_users_think_between_their_tasks() -> None:
    """Two users with 3 s to think and one server of 2 s: the second waits once, and then they alternate."""
    closed = {"workload": {"arrivals": {"closed": {"users": 2, "think": "3 s"}}, "tasks": 6}}
    result = run({"models": {"llm": {"overhead": "2 s"}}}, closed)
    assert sorted(result.response_times) == [2, 2, 2, 2, 2, 4] or sorted(result.response_times) == [2, 2, 2, 2, 2, 2]
    assert result.arrived == 6
    by_user = {user: [row for row in result.rows if row[0] % 2 == user] for user in (0, 1)}
    for rows in by_user.values():
        for before, after in itertools.pairwise(rows):
            assert after[2] - before[3] == pytest.approx(3)


def test_a_drain_of_users_begins_with_the_last_task() -> None:
    """The last of five tasks may still take the whole drain, whoever ended before it arrived."""
    closed = {"arrivals": {"closed": {"users": 2, "think": "10 s"}}, "tasks": 5, "drain": "3 s"}
    result = run({"models": {"llm": {"overhead": "2 s", "replicas": 2}}}, {"workload": closed})
    assert statuses(result) == [0] * 5


def test_an_overload_does_not_lose_tasks() -> None:
    """Ten times what the server can do, to a horizon: those who wait are counted, and their waiting too."""
    result = run({"models": {"llm": {"overhead": "10 s"}}}, ends_at("100.5 s"), spans="none")
    assert (result.arrived, result.ended, result.unfinished) == (100, 9, 91)
    assert parts(result, 99) == {"queueing": pytest.approx(0.5)}


def test_no_task_at_all_is_a_result_too() -> None:
    """A horizon before the first arrival."""
    result = run(LAW, ends_at("0.5 s"))
    assert (result.arrived, len(result.rows), len(result.spans)) == (0, 0, 0)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Twice here, and in other processes; another seed or replication gives other numbers."""
    scenario = scene(LAW, BUSY, {"tools": {"t": {"latency": {"exponential": {"mean": "1 s"}}, "errors": 0.2, "handling": {"retry": 2}}}},
                     steps("w", w={"agent": "a", "tools": {"t": 1.0}, "repeat": {"geometric": {"mean": 3}}}))  # fmt: skip
    first, again = simulate(scenario, 5), simulate(scenario, 5)
    assert first.rows.tobytes() == again.rows.tobytes()
    assert simulate(scenario, 6).rows.tobytes() != first.rows.tobytes()
    assert simulate(scenario, 5, replication=1).rows.tobytes() != first.rows.tobytes()


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes() -> None:
    """One process or two: columns in the same order, and every number the same."""
    many = {f"tool{n}": {"latency": {"exponential": {"mean": f"{n} s"}}, "concurrency": 5} for n in range(1, 7)}
    scenario = scene(
        LAW, BUSY, {"tools": many}, steps("w", w={"agent": "a", "tools": dict.fromkeys(many, 1 / 6), "calls": 3})
    )
    settings = Settings(replications=3, warmup=None)
    one = replicate(simulate, scenario, seed=3, settings=settings, workers=1)
    two = replicate(simulate, scenario, seed=3, settings=settings, workers=2)
    for here, there in zip(one.results, two.results, strict=True):
        assert here.columns == there.columns
        assert here.rows.tobytes() == there.rows.tobytes()


RICH: Data = merged(
    {
        **BUSY,
        "models": {"llm": {"overhead": {"exponential": {"mean": "0.4 s"}}, "prefill": "1 ms / token", "replicas": 2}},
        "agents": {"a": {"prompt": "100 tokens", "output": {"exponential": {"mean": "80 tokens"}}}},
        "tools": {
            "t": {
                "latency": {"exponential": {"mean": "0.6 s"}},
                "concurrency": 3,
                "errors": 0.2,
                "handling": {"retry": 2},
                "result": "40 tokens",
            },
            "u": {"latency": {"exponential": {"mean": "0.9 s"}}, "result": "10 tokens"},
        },
        "runtime": {"preset": "ideal", "kv": "discard"},
    },
    steps(
        "f",
        f={"fork": ["w", "u", "w"], "next": "v"},
        w={"agent": "a", "tools": {"t": 0.7, "none": 0.3}},
        u={"tool": "u", "next": "w"},
        v={"agent": "a"},
    ),
)


@pytest.mark.parametrize("load", [{}, {"workload": {"tasks": None, "horizon": "2 min"}}])
def test_either_kind_of_pool_gives_the_same_rows(load: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booked on arrival, or served by events: the same tasks at the same times, to the digits of the clock."""
    booked = run(RICH, load, spans="none")
    monkeypatch.setattr(system, "cancels", lambda _scenario: True)
    served = run(RICH, load, spans="none")
    assert booked.events < served.events
    assert booked.columns == served.columns
    # What a task that was cut off has begun to count depends on how far it ran ahead; its seconds do not.
    counted = np.isin(booked.columns, booked.facts)[None, :] & (booked.rows[:, 4] == UNFINISHED)[:, None]
    one, other = (np.where(counted, 0.0, result.rows) for result in (booked, served))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_a_component_that_is_never_called_changes_nothing() -> None:
    """Neither an agent, a model, a tool, a memory nor a workflow that no task comes to."""
    idle = {
        "agents": {"idle": {"model": "idle", "memory": "idle", "prompt": "9 tokens"}},
        "models": {"idle": {"kind": "llm", "overhead": {"exponential": {"mean": "1 s"}}}},
        "tools": {"idle": {"latency": {"exponential": {"mean": "1 s"}}, "concurrency": 1}},
        "memories": {"idle": {"read": "1 s"}},
        "evaluators": {"idle": {"model": "idle", "accept": 0.5}},
        "workflows": {"idle": {"start": "x", "steps": {"x": {"agent": "idle", "tools": {"idle": 1.0}}}}},
    }
    assert table(run(RICH, idle, spans="none")) == table(run(RICH, spans="none"))


def test_a_step_more_leaves_the_draws_of_a_fork_alone() -> None:
    """A component that is called before a fork changes when its branches begin, not what they draw."""

    def drawn(*patches: Data) -> list[float]:
        result = run(RICH, {"workload": {"arrivals": {"deterministic": "1 / h"}, "tasks": 20}}, *patches)
        return sorted(
            round(span.end - span.start, 6)
            for span in result.spans
            if (span.component, span.name) == ("u", "tool.execute")
        )

    flow = RICH["workflow"]
    longer = {"start": "first", "steps": {"first": {"human": "1 s", "next": "f"}, **flow["steps"]}}
    plain = drawn()
    assert len(plain) == 20
    assert drawn({"workflow": longer, "agents": {"a": {"memory": "m"}}, "memories": {"m": {"read": "1 s"}}}) == plain


def test_spans_change_nothing() -> None:
    """Kept for all tasks, some, one, or none, the rows are the same."""
    plain = run(RICH, spans="none")
    assert not len(plain.spans)
    for spans in ("all", "sampled", "tasks 42 7"):
        kept = run(RICH, spans=spans)
        assert kept.rows.tobytes() == plain.rows.tobytes()
    assert {span.task for span in run(RICH, spans="tasks 42 7").spans} == {42, 7}
    assert {span.task for span in run(RICH, spans="sampled").spans} == {0, 100, 200}


def test_a_result_says_what_it_is_of() -> None:
    """Scenario, seed, classes, resources and doubts, as plain data."""
    result = run(LAW, BUSY, {"seed": 0}, spans="none")
    assert (result.scenario, result.seed, result.replication, result.classes) == ("scene", 0, 0, ("task",))
    assert [(info.kind, info.name, info.capacity) for info in result.resources] == [("pool", "models.llm", 1)]
    assert simulation.simulate is simulate
    assert fact(result, "steps") == 1
    assert overlapped(result) == 0
