"""What a run costs, in counts that do not depend on the machine. `make bench` measures the seconds."""

from pathlib import Path

import pytest

from coordsim.models.scenario import load
from coordsim.models.simulate import simulate
from coordsim.sim.engine import ledger

CHAIN = Path(__file__).parent / "benchmarks" / "chain.yaml"


def test_a_step_of_the_chain_costs_one_event() -> None:
    """Ten steps of delay, wait and service cost ten events; a task costs two more, its arrival and its end."""
    tasks = 500
    result = simulate(load(CHAIN).replace("workload.tasks", tasks))
    assert result.events == tasks * (10 + 2)


def test_the_rows_of_a_long_run_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run keeps a bounded number of rows, evenly over its tasks; the counts are of all of them."""
    monkeypatch.setattr(ledger, "ROWS", 1000)
    result = simulate(load(CHAIN).replace("workload.tasks", 5000))
    assert result.stride == 8
    assert len(result.rows) == 625
    assert result.arrived == result.ended == 5000
    assert len(result.snapshots) <= 257
