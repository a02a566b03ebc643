"""A small model for tests of the analysis: tasks arrive at random, wait for one of a few servers, and are served.

It needs no scenario, and with exponential times its answers are known in closed form.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordsim.sim.analysis.result import ResourceInfo, Result
from coordsim.sim.engine.branch import Branch
from coordsim.sim.engine.draws import Draws, Sampler
from coordsim.sim.engine.fifo import FifoPool
from coordsim.sim.engine.ledger import DONE, FAILED, Ledger
from coordsim.sim.engine.simulation import Simulation

POOL = "models.llm"
STRAGGLER = 0.25  # seconds of straggler excess that every task claims, half of it coordination


@dataclass(frozen=True)
class Queue:
    """Rates are per second; `tool` seconds follow the service, without waiting; a share of tasks `fails`.

    With `burst` all tasks arrive at time 0; a `horizon` cuts the run off.
    """

    arrival_rate: float = 0.5
    service_rate: float = 1.0
    servers: int = 1
    tasks: int = 500
    tool: float = 0.0
    fails: float = 0.0
    burst: bool = False
    horizon: float | None = None
    classes: int = 1


def exponential(mean: float) -> Sampler:
    """Return a sampler of exponential times."""

    def sample(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.exponential(mean, n)

    return sample


def simulate(queue: Queue, seed: int, replication: int = 0, spans: str = "none") -> Result:
    """Run one replication."""
    sim = Simulation()
    ledger = Ledger(
        sim, ("steps", "straggler_excess", "straggler_coordination"), spans, sample=10, clips=queue.horizon is not None
    )
    pool = FifoPool(sim, POOL, queue.servers)
    ledger.resources.append(pool)
    draws = Draws(seed, replication)
    gap = draws.stream("gap", exponential(1 / queue.arrival_rate))
    service = draws.stream("service", exponential(1 / queue.service_rate))
    failing = draws.uniform("failing")
    group = draws.choice("class", [1.0] * queue.classes)
    waiting = ledger.account("queueing", POOL)
    serving = ledger.account("inference", "llm")
    invoking = ledger.account("tool", "search", "tool.invoke")
    executing = ledger.account("tool", "search", "tool.execute")
    step = ledger.account("structure", "agent", "step")

    def arrivals() -> Generator[Any, Any, None]:
        for index in range(queue.tasks):
            if not queue.burst:
                yield sim.timeout(gap.draw(index, 0))
            task = ledger.open(index, group.draw(index, 0), sim.now)
            task.trunk = Branch(task, 0, sim.now, None)
            task.trunk.start(script(task.trunk))

    def script(branch: Branch) -> Generator[None, Any, None]:
        wait, task = branch.wait, branch.task
        outer, began = branch.open_span(), branch.time
        if pool.use(wait, branch.time, service.draw(task.index, 0)):
            yield
        branch.book(waiting, wait.arrived, wait.started)
        branch.book(serving, wait.started, wait.ended)
        branch.add(invoking, queue.tool / 4)
        branch.add(executing, 3 * queue.tool / 4)
        branch.close_span(outer, step, began)
        branch.settle()
        yield
        task.facts[:] = [1, STRAGGLER, STRAGGLER / 2]
        failed = failing.draw(task.index, 0) < queue.fails
        ledger.close(branch, FAILED if failed else DONE, "broken" if failed else None)
        yield

    sim.process(arrivals())
    sim.run(until=queue.horizon)
    ledger.finish(queue.horizon)
    return Result.of(
        ledger,
        scenario="mm1",
        seed=seed,
        replication=replication,
        classes=[f"class {i}" for i in range(queue.classes)],
        horizon=queue.horizon is not None,
        doubts=["service times are made up"],
        resources=[ResourceInfo("pool", POOL, queue.servers)],
    )
