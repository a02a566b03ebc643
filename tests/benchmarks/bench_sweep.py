"""What a second core is worth to a sweep, and what share of the time this process sums up: `make bench`.

Twelve cells of four replications run on one core and on two, in turn within one process, so that a machine that changes its speed
changes both; the ratio of each round is what to quote. The workers are there before the clock starts, as for all but the first
seconds of a study.
"""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from coordsim.models.scenario import load
from coordsim.models.variants import Variants, simulate_text
from coordsim.sim.analysis.cells import Cell, run_cells
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
CELLS, REPLICATIONS, TASKS, ROUNDS = 12, 4, 700, 3


class Timed(Settings):
    """Settings that remember how long summing up took (s)."""

    seconds: list[float] = []

    def summarize(self, results: Sequence[Result]) -> Summary:
        """Sum up, with the clock running."""
        began = time.perf_counter()
        found = super().summarize(results)
        self.seconds.append(time.perf_counter() - began)
        return found


def sweep(workers: int, cells: Sequence[Cell[str]]) -> tuple[float, float]:
    """Return how long a sweep takes, and how much of that this process sums up (s)."""
    settings = Timed(replications=REPLICATIONS)
    settings.seconds.clear()
    began = time.perf_counter()
    outcomes = [outcome for _, outcome in run_cells(simulate_text, cells, settings, workers=workers)]
    elapsed = time.perf_counter() - began
    assert not any(outcome.failure for outcome in outcomes)
    return elapsed, sum(settings.seconds)


def bench_two_cores(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds on one core and on two, their ratio, and the load of the machine meanwhile."""
    variants = Variants(load(ROOT / "scenarios" / "quickstart.yaml", {"workload.tasks": str(TASKS)}))
    keys = [variants.key([("seed", str(number))]) for number in range(CELLS)]
    cells = [Cell(key, key, 5) for key in keys]
    for workers in (1, 2):
        sweep(workers, cells[:2])
    rounds = [(sweep(1, cells), sweep(2, cells), os.getloadavg()[0]) for _ in range(ROUNDS)]
    with capsys.disabled():
        print(f"\n{CELLS} cells x {REPLICATIONS} replications of {TASKS} tasks; {ROUNDS} rounds in turn")
        for (one, summed), (two, _), busy in rounds:
            told = f"one core {one:6.2f} s, two {two:6.2f} s: {one / two:.2f} times as fast"
            print(f"{told}; summing up is {summed / one:.1%} of one core's time; load {busy:.1f} of {os.cpu_count()}")
        print(f"median speed-up {statistics.median(one[0] / two[0] for one, two, _ in rounds):.2f}")
