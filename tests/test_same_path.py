"""The same path: from the same draws, the simulator and hand-written queues agree customer by customer, to nine digits.

Sharper than any interval: an error in one customer's order, start or end shows.
"""

from collections.abc import Generator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy

from coordsim.models.arrivals import open_arrivals
from coordsim.models.scenario import Scenario, load
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import ARRIVAL, END, WAITED, Result
from coordsim.sim.engine.draws import Draws

from .queues import by_simpy, event_loop, kiefer_wolfowitz, lindley

FOLDER = Path(__file__).resolve().parent.parent / "scenarios" / "theory"
TASKS = 1500

# Nothing of it ever runs; but where something can be cancelled, pools are of the kind that allows it.
CANCELS = {
    "start": "race",
    "steps": {
        "race": {"fork": ["one", "two"], "join": "any", "rest": "cancel"},
        "one": {"human": "1 s"},
        "two": {"human": "1 s"},
    },
}


def scenario(name: str, cancels: bool = False) -> Scenario:
    """Return a scenario of the folder, with few tasks; with pools that allow cancelling if so wished."""
    found = load(FOLDER / f"{name}.yaml").replace("workload.tasks", TASKS)
    return found.replace("workflows", {"unused": CANCELS}) if cancels else found


def arrivals(of: Scenario) -> list[float]:
    """Return the times at which tasks arrive, from the draws of the run."""
    batches = open_arrivals(of.workload, Draws(of.seed))
    return list(islice(chain.from_iterable(batch.times for batch in batches), TASKS))


def column(result: Result, name: str) -> np.ndarray:
    """Return the seconds in one account, by task."""
    return result.rows[:, result.columns.index(name)]


def agree(seen: Any, expected: Any) -> None:
    """Assert equality to nine digits; a time of zero may be a rounding of the clock."""
    np.testing.assert_allclose(seen, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cancels", [False, True], ids=["booked ahead", "cancellable"])
@pytest.mark.parametrize(
    ("name", "servers"), [("mm1", 1), ("mg1-deterministic", 1), ("mg1-truncated-pareto", 1), ("mmc", 3)]
)
def test_one_station_waits_as_five_others_do(name: str, servers: int, cancels: bool) -> None:
    """Lindley, Kiefer and Wolfowitz, a heap and SimPy give each customer the wait that the simulator gives it."""
    of = scenario(name, cancels)
    overhead = of.models["server"].overhead
    stream = Draws(of.seed).stream("models.server/overhead/agents.customer", overhead.sampler)
    come, services = arrivals(of), [stream.draw(task, 0) for task in range(TASKS)]
    result = simulate(of)
    agree(result.rows[:, ARRIVAL], come)
    agree(column(result, "inference/server/inference"), services)
    waits = column(result, "queueing/models.server/queueing")
    assert np.count_nonzero(waits) > TASKS / 4
    agree(waits, kiefer_wolfowitz(come, services, servers))
    agree(waits, event_loop(come, services, servers))
    agree(waits, by_simpy(come, services, servers))
    if servers == 1:
        agree(waits, lindley(come, services))


def network_by_simpy(of: Scenario, station: dict[str, tuple[str, str, int]]) -> tuple[list[float], list[float]]:
    """Run a network of queues in SimPy from the draws of a scenario; return waiting time and end of each task.

    `station` names the resource, the stream of service times and the servers of each step.
    """
    env, draws = simpy.Environment(), Draws(of.seed)
    steps: dict[str, Any] = dict(of.workflow.steps)
    resources = {step: simpy.Resource(env, servers) for step, (_, _, servers) in station.items()}
    services = {step: draws.stream(stream, _law(of, path).sampler) for step, (path, stream, _) in station.items()}
    ways = {
        step: draws.choice(f"workflow.{step}/next", list(spec.next.values()))
        for step, spec in steps.items()
        if isinstance(spec.next, dict)
    }
    waited, ended = [0.0] * TASKS, [0.0] * TASKS

    def task(number: int, arrival: float) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(arrival)
        step, visits = of.workflow.start, dict.fromkeys(station, 0)
        while step != "done":
            visit = visits[step]
            visits[step] += 1
            came = env.now
            with resources[step].request() as turn:
                yield turn
                waited[number] += env.now - came
                yield env.timeout(services[step].draw(number, visit))
            after = steps[step].next
            step = after if isinstance(after, str) else list(after)[ways[step].draw(number, visit)]
        ended[number] = env.now

    for number, arrival in enumerate(arrivals(of)):
        env.process(task(number, arrival))
    env.run()
    return waited, ended


def _law(of: Scenario, path: str) -> Any:
    kind, name = path.split(".")
    part: Any = getattr(of, kind)[name]
    return part.overhead if kind == "models" else part.latency


@pytest.mark.parametrize("cancels", [False, True], ids=["booked ahead", "cancellable"])
def test_a_network_with_feedback_runs_as_in_simpy(cancels: bool) -> None:
    """Three stations that tasks come back to, again and again: each task waits as long, and ends when it does in SimPy."""
    of = scenario("jackson", cancels)
    waited, ended = network_by_simpy(
        of,
        {
            "think": ("models.llm", "models.llm/overhead/agents.coder", 2),
            "edit": ("tools.editor", "tools.editor/latency", 1),
            "test": ("tools.tests", "tools.tests/latency", 4),
        },
    )
    result = simulate(of)
    agree(result.category("queueing"), waited)
    agree(result.rows[:, END], ended)
    assert np.count_nonzero(waited) > TASKS / 2


def test_booking_ahead_changes_no_result() -> None:
    """Whether pools answer on arrival or wait for the end of a service, every task of every theory scenario is the same."""
    fewer_events = set()
    for path in sorted(FOLDER.glob("*.yaml")):
        plain, other = (simulate(scenario(path.stem, cancels)) for cancels in (False, True))
        for name in plain.columns:
            agree(column(plain, name), column(other, name))
        assert plain.failures == other.failures
        # Where customers may be cancelled, services without a limit are pools too, so that these can give them up.
        names = [resource.name for resource in plain.resources]
        both = [number for number, resource in enumerate(other.resources) if resource.name in names]
        for one, two in zip(plain.snapshots, other.snapshots, strict=True):
            # Waits ahead are counted on arrival by the one kind, and when they are over by the other.
            agree([totals[:WAITED] for totals in one.resources], [two.resources[number][:WAITED] for number in both])
        last = other.snapshots[-1].resources
        agree(plain.snapshots[-1].resources, [last[number] for number in both])
        assert plain.events <= other.events
        fewer_events |= {path.stem} if plain.events < other.events else set()
    # Elsewhere every service is followed by another queue or by nothing, and its end is an event of both.
    assert {"mmck", "erlang-b", "closed-mva", "fork-join-two-servers"} <= fewer_events


@pytest.mark.parametrize("cancels", [False, True], ids=["booked ahead", "cancellable"])
def test_resources_are_counted_to_the_end_of_branches_that_run_on(cancels: bool) -> None:
    """Work that begins after the last task has ended still counts as present, and no total ever falls."""
    of = scenario("mmck", cancels).replace("tools.search.queue_limit", 1000).replace("workload.tasks", 60)
    steps = {
        "race": {"fork": ["late", "soon"], "join": "any", "rest": "run on"},
        "late": {"human": "30 s", "next": "search"},
        "search": {"tool": "search"},
        "soon": {"human": "1 s"},
    }
    result = simulate(of.replace("workflow", {"start": "race", "steps": steps}))
    totals = np.array([snapshot.resources[0] for snapshot in result.snapshots])
    assert (np.diff(totals, axis=0, prepend=0.0) >= -1e-9).all()
    busy, present, arrivals, completions, _, waited = totals[-1]
    assert arrivals == completions == 60
    assert present == pytest.approx(busy + waited)
