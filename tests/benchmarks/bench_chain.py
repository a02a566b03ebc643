"""What a simulated step costs, against the same chain written by hand in SimPy: `make bench`.

The three variants run in turn within one process, so that a machine that changes its speed changes all of them; the
ratios of each round are what to quote. The ledger's law is checked on every task in both of ours.
"""

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from coordsim.models.scenario import load
from coordsim.models.simulate import simulate

from . import hand_written

SCENARIO = load(Path(__file__).with_name("chain.yaml"))
TASKS = 10_000
ROUNDS = 9

VARIANTS: dict[str, Callable[[], object]] = {
    "hand-written SimPy": lambda: hand_written.run(TASKS),
    "coordsim, spans: none": lambda: simulate(SCENARIO),
    "coordsim, spans: all": lambda: simulate(SCENARIO, spans="all"),
}


@pytest.mark.parametrize("name", VARIANTS)
def bench_variant(benchmark: BenchmarkFixture, name: str) -> None:
    """Each variant on its own, for pytest-benchmark's table."""
    benchmark.pedantic(VARIANTS[name], rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]


def bench_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    """The ratios, round by round; and events per step, which do not depend on the machine."""
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(ROUNDS):
        for name, run in VARIANTS.items():
            gc.collect()  # what an earlier round left is no cost of this one, nor is freeing the result
            began = time.perf_counter()
            result = run()
            seconds[name].append(time.perf_counter() - began)
            del result
    steps = TASKS * hand_written.STEPS
    base = seconds["hand-written SimPy"]
    with capsys.disabled():
        print(f"\n{steps} steps, {ROUNDS} rounds in turn; median (min .. max)")
        for name, times in seconds.items():
            ratios = [one / own for one, own in zip(base, times, strict=True)]
            each = 1e6 * statistics.median(times) / steps
            print(
                f"  {name:24} {each:6.2f} us/step   ratio to hand-written {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} .. {max(ratios):.2f}), of the fastest rounds {min(base) / min(times):.2f}"
            )
        print(f"  events per step: {simulate(SCENARIO).events / steps:.3f}")
