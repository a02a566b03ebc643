"""What a simulated call of a served model costs, against a server that goes through every iteration: `make bench`.

850 tokens of prompt and 220 of output, at 70 % of the load that `coordsim check tests/benchmarks/server.yaml` says is the most. The
leaping server runs within a whole simulation (tasks, ledger, draws), with and without a prefix cache; the stepping one runs
alone, and on fewer calls.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordsim.models.bounds import bounds
from coordsim.models.scenario import Scenario, load
from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.replica import Limits, drive
from coordsim.models.serving.request import Request
from coordsim.models.simulate import simulate
from coordsim.models.system import System

from ..stepper import Stepper

FILE = Path(__file__).with_name("server.yaml")
CACHED = load(FILE)
PLAIN = load(FILE, {"models.llm.cache.prefix": "false"})
CALLS = 20_000
STEPPED = 300
ROUNDS = 5


def requests(count: int, rate: float = 19.0) -> list[Request]:
    """Return calls as of the scenario, each with content of its own."""
    rng, now, found = random.Random(1), 0.0, []
    for number in range(count):
        now += rng.expovariate(rate)
        found.append(Request(850, 220, now, ((number, 53),)))
    return found


def simulated(scenario: Scenario) -> Callable[[], object]:
    """Return a whole simulation of the scenario."""
    return lambda: simulate(scenario)


def alone() -> None:
    """The leaping server without a simulation around it."""
    served = System(CACHED, 1, 0, "none").served[0]
    drive(served.replica(), requests(CALLS))


def stepping() -> None:
    """The stepping server, on fewer calls."""
    served = System(CACHED, 1, 0, "none").served[0]
    Stepper(served.steps, KvCache(served.replica().kv.blocks), Limits()).run(requests(STEPPED))


def bench_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """Calls a second of each, in rounds that take turns; and events per call, which do not depend on the machine."""
    variants = {
        "simulation": (simulated(CACHED), CALLS), "simulation, no prefix cache": (simulated(PLAIN), CALLS),
        "leaping server alone": (alone, CALLS), "stepping server alone": (stepping, STEPPED),
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, (run, calls) in variants.items():
            gc.collect()
            gc.disable()  # as a simulation does
            began = time.process_time()
            run()
            rates[name].append(calls / (time.process_time() - began))
            gc.enable()
    load_share = bounds(CACHED).resource("models.llm").utilization
    with capsys.disabled():
        print(f"\n850 + 220 tokens at {load_share:.0%} of the most; {ROUNDS} rounds in turn; median (min .. max)")
        for name, found in rates.items():
            told = f"{statistics.median(found):10,.0f} calls/s ({min(found):,.0f} .. {max(found):,.0f})"
            print(f"  {name:28} {told}")
        pairs = zip(rates["leaping server alone"], rates["stepping server alone"], strict=True)
        print(f"  leaping against stepping: {statistics.median(a / b for a, b in pairs):.0f} times")
        print(f"  events per call: {simulate(CACHED).events / CALLS:.2f}")
