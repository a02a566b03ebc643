"""The chain of the benchmark in SimPy, as a good SimPy programmer writes it: block draws, a `with` per request."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import simpy

STEPS = 10
SERVERS = 8
BLOCK = 1024


def run(tasks: int, seed: int = 1) -> list[float]:
    """Run `tasks` tasks at utilization 0.8; return their response times (s)."""
    rng = np.random.default_rng(seed)
    env = simpy.Environment()
    pool = simpy.Resource(env, SERVERS)

    def block(sample: Callable[[int], np.ndarray]) -> Iterator[float]:
        while True:
            yield from sample(BLOCK).tolist()

    gap = block(lambda n: rng.exponential(STEPS / (0.8 * SERVERS), n)).__next__
    delay = block(lambda n: rng.exponential(0.05, n)).__next__
    service = block(lambda n: rng.exponential(1.0, n)).__next__
    times: list[float] = []

    def task() -> Generator[simpy.Event, Any, None]:
        arrival = env.now
        for _ in range(STEPS):
            yield env.timeout(delay())
            with pool.request() as request:
                yield request
                yield env.timeout(service())
        times.append(env.now - arrival)

    def source() -> Generator[simpy.Event, Any, None]:
        for _ in range(tasks):
            yield env.timeout(gap())
            env.process(task())

    env.process(source())
    env.run()
    return times
