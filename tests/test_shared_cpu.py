"""Nodes whose CPU is shared by all that runs on it, and how fast and how well together cores run."""

from typing import Any

import numpy as np
import pytest

from coordsim.models.bounds import bounds
from coordsim.models.simulate import simulate
from coordsim.models.system import System
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.statistics import mean_interval
from coordsim.sim.engine.ledger import STRUCTURE

from .scene import Data, accounts, named, overlapped, parts, run, scene, steps, total

CO_RUN = [1.0, 1.05, 1.9, 2.8]
ON_CPU: Data = {
    "orchestrator": {"node": "here"},
    "tools": {"t": {"latency": "1 s", "cpu": True}},
    **steps("w", w={"tool": "t"}),
}


def node(**says: Any) -> Data:
    """Return the patch of the node, of two cores that are shared."""
    return {"network": {"nodes": {"here": {"cores": 2, "scheduling": "share"} | says}}}


def at_once(tasks: int) -> Data:
    """Return the patch of so many tasks, a microsecond apart."""
    return {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": tasks}}


def test_the_mean_response_is_that_of_processor_sharing() -> None:
    """M/G/1-PS: E[S] / (1 - load), whatever the distribution of the work; here of squared coefficient of variation 4."""
    patch = {
        "workload": {"arrivals": {"poisson": "0.6 / s"}, "tasks": 1200},
        "tools": {"t": {"latency": {"lognormal": {"mean": "1 s", "cv": 2}}}},
    }
    busy = scene(ON_CPU, node(cores=1), patch)
    means = [simulate(busy, replication=number).response_times[100:].mean() for number in range(12)]
    found = mean_interval(means, 0.999)
    assert not found.excludes(1 / (1 - 0.6))
    assert found.excludes(1 + 0.6 * (1 + 2**2) / 2 / (1 - 0.6))  # first come first served, by Pollaczek and Khinchine


def test_jobs_at_once_are_slowed_down_as_co_run_says() -> None:
    """Of three, each takes 1.9 s; nobody waits, and all of it is the tool's own time."""
    result = run(ON_CPU, node(co_run=CO_RUN), at_once(3))
    assert [total(result, task) for task in range(3)] == pytest.approx([1.9] * 3, abs=1e-5)
    assert parts(result, 2) == pytest.approx({"tool": 1.9}, abs=1e-5)


def test_the_slowdown_changes_when_a_job_comes_or_goes() -> None:
    """Half a second alone, the rest beside another: 0.5 + 0.5 x 1.05; and the same the other way round."""
    twice = {"workload": {"arrivals": {"deterministic": "2 / s"}, "tasks": 2}}
    result = run(ON_CPU, node(co_run=CO_RUN), twice)
    assert [total(result, task) for task in range(2)] == pytest.approx([1.025, 1.025])


@pytest.mark.parametrize("scheduling", ["queue", "share"])
def test_busy_processes_count_in_co_run_which_grows_beyond_its_end(scheduling: str) -> None:
    """Beside 1 other 1.05; beside 4, of a list of 4, 2.8 x 5 / 4."""
    says = {"co_run": CO_RUN, "scheduling": scheduling}
    assert total(run(ON_CPU, node(busy=1, **says))) == pytest.approx(1.05)
    assert total(run(ON_CPU, node(busy=4, **says))) == pytest.approx(3.5)


def test_co_run_takes_the_place_of_the_law_of_the_profile() -> None:
    """The shipped law says more than twice as long beside 2 others on 2 cores."""
    profile = {"profile": "cpu-reference"}
    assert total(run(ON_CPU, node(busy=2), profile)) > 1.4
    assert total(run(ON_CPU, node(busy=2, co_run=[1.0, 1.0, 1.25]), profile)) == pytest.approx(1.25)


def test_without_co_run_shares_are_fair() -> None:
    """Three on two cores: 1.5 times as long."""
    result = run(ON_CPU, node(), at_once(3))
    assert [total(result, task) for task in range(3)] == pytest.approx([1.5] * 3, abs=1e-5)


def test_speed_changes_what_runs() -> None:
    """1.5 s of work at speed 1 for a second, then at 0.5: two seconds."""
    slow = {"speed": {"every": "1 s", "factors": [1, 0.5]}}
    job = {"tools": {"t": {"latency": "1.5 s"}}, **at_once(1)}
    assert total(run(ON_CPU, node(**slow), job)) == pytest.approx(2, abs=1e-5)


def test_work_in_a_queue_keeps_the_speed_at_which_it_begins() -> None:
    """One core: the first begins at speed 1, the second, when that is over, at 0.5."""
    slow = {"cores": 1, "scheduling": "queue", "speed": {"every": "1 s", "factors": [1, 0.5]}}
    result = run(ON_CPU, node(**slow), {"tools": {"t": {"latency": "1.5 s"}}}, at_once(2))
    assert [total(result, task) for task in range(2)] == pytest.approx([1.5, 4.5], abs=1e-5)
    assert parts(result, 1) == pytest.approx({"queueing": 1.5, "tool": 3.0}, abs=1e-5)


def test_a_limit_of_its_own_is_waited_for() -> None:
    """Of two calls of a tool that takes one at a time, the second waits, then has a core for itself."""
    result = run(ON_CPU, node(), {"tools": {"t": {"concurrency": 1}}}, at_once(2))
    assert [total(result, task) for task in range(2)] == pytest.approx([1, 2], abs=1e-5)
    waited = {account.component: seconds for account, seconds in accounts(result, 1).items()}
    assert waited == pytest.approx({"tools.t": 1, "t": 1}, abs=1e-5)


TIMED_OUT: Data = {"tools": {"t": {"concurrency": 1, "handling": {"timeout": "0.5 s", "exhausted": "continue"}}}}


def apart(rate: str, tasks: int) -> Data:
    """Return the patch of tasks that arrive at a constant rate."""
    return {"workload": {"arrivals": {"deterministic": rate}, "tasks": tasks}}


def test_a_call_that_is_cancelled_leaves_the_cpu_and_its_place() -> None:
    """One core: the next call, a tenth of a second after the timeout of the first, finds place and core free."""
    long = {"tools": {"u": {"latency": "2 s", "cpu": True}}}
    result = run(ON_CPU, node(cores=1), TIMED_OUT, apart("1.6 / s", 3))
    assert [parts(result, task) for task in range(3)] == [pytest.approx({"recovery": 0.5})] * 3
    assert result.totals(place(result, "nodes.here.cpu"), 0, np.array([result.end])) == pytest.approx([1.5])
    both = steps("w", w={"fork": ["left", "right"], "next": "done"}, left={"tool": "t"}, right={"tool": "u"})
    result = run(ON_CPU, node(cores=1), TIMED_OUT, long, both)
    assert total(result) == pytest.approx(2.25)  # 0.25 of 2 s until the timeout, the rest alone


def place(result: Result, name: str) -> int:
    """Return which resource of a result has a name."""
    return [resource.name for resource in result.resources].index(name)


def test_a_call_that_runs_on_keeps_its_place_until_its_end() -> None:
    """All three are served for a second, one after the other, though their callers have gone."""
    goes_on = {"tools": {"t": {"handling": {"on_timeout": "run on"}}}}
    result = run(ON_CPU, node(cores=1), TIMED_OUT, goes_on, apart("1.6 / s", 3))
    assert [parts(result, task) for task in range(3)] == [pytest.approx({"recovery": 0.5})] * 3
    later = np.array([result.end + 10])
    assert result.end == pytest.approx(3 + 1 / 1.6)
    assert result.totals(place(result, "tools.t"), 0, later) == pytest.approx([3.0])


def test_dispatch_and_codecs_share_the_cpu() -> None:
    """Two dispatches at once on one core take twice as long, and nobody waits."""
    patch = {
        "runtime": {"preset": "ideal", "dispatch": "every-step"},
        "orchestrator": {"node": "here", "dispatch": "1 s"},
    }
    result = run(patch, node(cores=1), at_once(2))
    assert parts(result, 1) == pytest.approx({"orchestration": 2}, abs=1e-5)


def test_the_bounds_count_all_work_of_a_shared_cpu() -> None:
    """Under a limit of its own, too; and they tell no wait for a core that nobody waits for."""
    limited = {"tools": {"t": {"concurrency": 1}}, "workload": {"arrivals": {"poisson": "0.1 / s"}, "tasks": 1}}
    cpu = bounds(scene(ON_CPU, node(), limited)).resource("nodes.here.cpu")
    assert cpu.demand == pytest.approx(1)
    assert cpu.utilization == pytest.approx(0.05)
    assert cpu.wait is None


def everything(seed: int) -> Data:
    """Return a scenario with all kinds of work on one node, and numbers drawn by a seed."""
    rng = np.random.default_rng(seed)
    law = {"overhead": f"{rng.uniform(0.1, 1):.3f} ms", "bandwidth": "50 MB/s"}
    model = {
        "kind": "llm", "node": "here", "concurrency": int(rng.integers(1, 4)), "cpu": True, "prefill": "50 us / token",
        "attention": "20 ns / token^2", "decode": "0.2 ms / token", "tokenize": "2 us / token", "beside": 1.2,
        "residual": {"lognormal": {"median": 1, "p95": 1.5}},
    }  # fmt: skip
    tool = {
        "node": "here", "cpu": True, "latency": {"exponential": {"mean": "20 ms"}}, "request": "1 kB", "response": "3 kB",
    }  # fmt: skip
    handling = {"timeout": "60 ms", "retry": {"attempts": 2}, "on_timeout": ["cancel", "run on"][seed % 2]}
    return {
        "runtime": {"preset": "external-orchestrator", "notification": "event"},
        "workload": {"arrivals": {"poisson": "5 / s"}, "tasks": 60, "request": "200 tokens"},
        "orchestrator": {"node": "here", "dispatch": "1 ms", "concurrency": 1, "single_threaded": True},
        "agents": {"a": {"model": "llm", "prompt": "100 tokens", "output": {"uniform": {"low": "20 tokens", "high": "80 tokens"}}}},
        "models": {"llm": model},
        "tools": {
            "t": tool | {"concurrency": 1, "errors": {"rate": 0.1}, "handling": handling},
            "e": tool | {"infers": True, "handling": {"hedge": {"after": "30 ms"}}},
        },
        "network": {"boundary": "http", "stack": {end: {"send": law, "receive": law} for end in ("client", "server")}},
        **steps("w", w={"agent": "a", "tools": {"t": 0.6, "e": 0.4}, "repeat": 3}),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scheduling", ["queue", "share"])
def test_every_moment_is_booked_once_with_everything_on(seed: int, scheduling: str) -> None:
    """The parts of each task add up to its time, and so do its spans, to the end of the run and where that cuts it off."""
    says = {"scheduling": scheduling, "co_run": CO_RUN, "speed": {"every": "100 ms", "factors": [1, 0.7, 1.2]}}
    for cut in ({}, {"workload": {"tasks": None, "horizon": "5 s"}}):
        result = run(everything(seed), node(**says), cut, seed=seed)
        first = len(result.columns) - len(result.accounts)
        for row in result.rows:
            assert row[first:].sum() == pytest.approx(row[3] - row[2], abs=1e-9)
        assert any(span.category != STRUCTURE for span in result.spans)


FAULTS: Data = {
    "faults": {
        "crash": {"on": "models.llm", "each": "replica", "down": "refuse", "mtbf": "3 s", "mttr": "0.3 s"},
        "slow": {"on": "tools.e", "slow": 3, "at": "1 s", "every": "2 s", "for": "0.5 s"},
    },
    "models": {"llm": {"replicas": 2, "handling": {"retry": {"attempts": 3}}}},
}
RACE: Data = steps(
    "r",
    r={"fork": ["x", "y"], "join": 1, "rest": "cancel", "next": "done"},
    x={"agent": "a", "tools": {"e": 1}},
    y={"agent": "a", "tools": {"t": 1}},
)


@pytest.mark.parametrize("scheduling", ["queue", "share"])
def test_every_moment_is_booked_once_when_things_fail_and_branches_race(scheduling: str) -> None:
    """Calls are cut off in line, on the CPU and on the loop; the ledger checks the sums of each task, and places come free."""
    for seed, patch in enumerate((FAULTS, RACE, FAULTS | RACE)):
        result = run(everything(seed), node(scheduling=scheduling, co_run=CO_RUN), patch, seed=seed)
        assert len(result.response_times) > 20
        later = np.array([result.end + 10.0, result.end + 11.0])
        for number, resource in enumerate(result.resources):
            busy = result.totals(number, 0, later)
            assert busy[0] == pytest.approx(busy[1]), resource.name


def test_all_places_come_free_in_the_end() -> None:
    """Whatever was cut off: no pool and no CPU is in use once the last task, and what ran on, is over."""
    for seed in range(2):
        result = run(everything(seed), node(co_run=CO_RUN), seed=seed)
        later = np.array([result.end, result.end + 1.0])
        for number, resource in enumerate(result.resources):
            busy = result.totals(number, 0, later)
            assert busy[0] == pytest.approx(busy[1]), resource.name


def test_defaults_make_no_shared_cpu() -> None:
    """A node that says nothing of it queues, as ever."""
    host = System(scene(ON_CPU, {"network": {"nodes": {"here": {"cores": 2}}}}), 1, 0, "none").hosts["here"]
    assert host.shared is None
    assert overlapped(run(ON_CPU, node())) == 0
    assert named(run(ON_CPU, node()), "tool.execute") == pytest.approx(1)


def test_with_slices_short_work_queues_and_long_work_takes_turns() -> None:
    """One core, turns of 0.4 s: three jobs of 0.3 s end one after the other, and the wait for a first turn is queueing."""
    short = {"tools": {"t": {"latency": "0.3 s", "cpu": True}}}
    result = run(ON_CPU, short, node(cores=1, slice="0.4 s"), at_once(3))
    assert [total(result, task) for task in range(3)] == pytest.approx([0.3, 0.6, 0.9], abs=1e-5)
    assert parts(result, 2) == pytest.approx({"tool": 0.3, "queueing": 0.6}, abs=1e-5)
    result = run(ON_CPU, node(cores=1, slice="0.4 s"), at_once(2))
    assert [total(result, task) for task in range(2)] == pytest.approx([1.8, 2.0], abs=1e-5)
    assert parts(result, 1) == pytest.approx({"tool": 1.6, "queueing": 0.4}, abs=1e-5)


def test_the_mean_wait_by_turns_is_that_of_any_order_that_knows_no_sizes() -> None:
    """M/M/1: E[T] = 1 / (1 - load), whatever the slice."""
    patch = {
        "workload": {"arrivals": {"poisson": "0.6 / s"}, "tasks": 1200},
        "tools": {"t": {"latency": {"exponential": {"mean": "1 s"}}}},
    }
    busy = scene(ON_CPU, node(cores=1, slice="0.3 s"), patch)
    means = [simulate(busy, replication=number).response_times[100:].mean() for number in range(12)]
    assert not mean_interval(means, 0.999).excludes(1 / (1 - 0.6))
