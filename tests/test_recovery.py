"""Whole tasks that crash, are late, begin again, are taken back or refused: against closed forms, and by hand."""

import math

import numpy as np
import pytest

from coordsim.sim.analysis.result import Result

from .scene import Data, fact, run, scene, steps, total
from .theory import erlang_b

RATE, RESUME, WRITE, STEPS = 0.1, 3.0, 0.5, 10
WORLD: Data = {
    "models": {"llm": {"overhead": "1 s"}},
    "workload": {"arrivals": {"deterministic": "0.0001 / s"}, "tasks": 500},
}
LOOP = steps("w", w={"agent": "a", "repeat": STEPS})


def crashes(on: str = "orchestrator", rate: float = RATE) -> Data:
    """Return crashes of each task by itself, repaired at once, and restarts without end."""
    down = {"on": on, "each": "task", "mtbf": f"{1 / rate} s", "mttr": {"constant": "0 s"}, "down": "refuse"}
    return {"faults": {"crash": down}, "recovery": {"restarts": 10000, "resume": f"{RESUME} s"}}


def saves(mode: str, every: int = 3, write: float = WRITE) -> Data:
    """Return checkpoints that take `write` seconds."""
    return {"orchestrator": {"checkpoint": {"write": {"overhead": f"{write} s"}, "every": every, "mode": mode}}}


def makespans(*patches: Data) -> np.ndarray:
    """Return T_total of each task; all are done."""
    result = run(WORLD, LOOP, *patches, spans="none")
    assert not result.rows[:, 4].any()
    return np.asarray(result.rows[:, 3] - result.rows[:, 2])


def segment(length: float, rate: float = RATE) -> float:
    """Return the mean time to get through `length` seconds, begun anew after each crash and a resume free of crashes.

    Source: Daly, Future Generation Computer Systems 22 (2006), with the restart outside of what can fail.
    """
    return (1 / rate + RESUME) * math.expm1(rate * length)


def brackets(sample: np.ndarray, mean: float) -> bool:
    """Whether the 99.9 % interval of the sample's mean holds `mean`."""
    return abs(float(sample.mean()) - mean) <= 3.29 * float(sample.std(ddof=1)) / math.sqrt(len(sample))


@pytest.mark.parametrize("on", ["orchestrator", "agents.a"])
@pytest.mark.parametrize("rate", [RATE / 2, RATE, 1.5 * RATE])
def test_from_the_beginning_the_makespan_is_exponential_in_the_work(on: str, rate: float) -> None:
    """(1/rate + R)(e^(rate T) - 1), for the orchestrator's crashes and for the agent's."""
    assert brackets(makespans(crashes(on, rate)), segment(STEPS, rate))


@pytest.mark.parametrize(("every", "write"), [(3, WRITE), (2, WRITE), (4, WRITE), (3, 0.25), (3, 0.75)])
def test_with_checkpoints_the_makespan_is_the_sum_over_segments(every: int, write: float) -> None:
    """Written at the beginning of each `every`-th step: the first segment is a step short, the last one writes none."""
    written = STEPS // every
    last = STEPS - (written * every - 1)
    exact = segment(every - 1 + write) + (written - 1) * segment(every + write) + segment(last)
    assert brackets(makespans(crashes(), saves("sync", every, write)), exact)


def test_written_at_exit_a_crash_loses_all() -> None:
    """As from the beginning, with one write at the end."""
    assert brackets(makespans(crashes(), saves("exit")), segment(STEPS + WRITE))


def test_beside_the_task_checkpoints_cost_no_time_but_are_durable_later() -> None:
    """Faster than waiting for each, slower than if they were free."""
    beside = makespans(crashes(), saves("async")).mean()
    assert makespans(crashes(), saves("sync", write=0.0)).mean() < beside < makespans(crashes(), saves("sync")).mean()


def test_every_crash_has_one_outcome() -> None:
    """Recovered, for every task is done in the end; each is a restart."""
    result: Result = run(WORLD, LOOP, crashes(), spans="none")
    restarts = result.rows[:, 6 + result.facts.index("restarts")].sum()
    assert result.incidents.counts[0] == [restarts, 0, 0, 0, 0]


def test_without_restarts_success_is_independent_per_step() -> None:
    """Of ten steps of one second that each survive with probability e^-rate."""
    result = run(WORLD, LOOP, {"faults": crashes()["faults"]}, spans="none")
    done = (result.rows[:, 4] == 0).astype(float)
    assert brackets(done, math.exp(-RATE * STEPS))


def test_the_deadline_ends_a_task_at_that_time() -> None:
    """In the middle of the fourth second."""
    result = run(WORLD, LOOP, {"recovery": {"deadline": "3.5 s"}, "workload": {"tasks": 1}})
    assert total(result) == 3.5
    assert result.rows[0, 4] == 1


def test_a_full_system_refuses_as_erlang_says() -> None:
    """M/M/3/3: as many as are in service, and no more."""
    load = {
        "workload": {"arrivals": {"poisson": "2 / s"}, "tasks": 8000},
        "models": {"llm": {"overhead": {"exponential": {"mean": "1 s"}}, "concurrency": 3}},
        "recovery": {"admission": {"most": 3}},
    }
    refused = (run(load, spans="none").rows[:, 4] == 1).reshape(40, -1).mean(axis=1)
    assert brackets(refused, erlang_b(3, 2.0))


def test_completed_calls_are_taken_back() -> None:
    """Two calls of 1 s each are done before the deadline; each takes 2 s to undo."""
    tool = {"tools": {"t": {"latency": "1 s", "undo": "2 s"}}, "workload": {"tasks": 1}}
    chain = steps("x", x={"tool": "t", "next": "y"}, y={"tool": "t", "next": "z"}, z={"tool": "t"})
    result = run(WORLD, tool, chain, {"recovery": {"deadline": "2.5 s", "compensate": True}})
    assert fact(result, "compensations") == 2
    assert total(result) == 6.5


def test_off_means_off() -> None:
    """An empty `recovery` changes no byte."""
    assert scene(WORLD, {"recovery": {}}) == scene(WORLD)
    with_it, without = run(WORLD, LOOP, {"recovery": {}}), run(WORLD, LOOP)
    assert with_it.rows.tobytes() == without.rows.tobytes()
