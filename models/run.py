"""`run(scenario)`: replicate a scenario and sum it up, in one call.

Checked: tests/test_run.py.
"""

from typing import Literal

from ..sim.analysis.jobs import Workers
from ..sim.analysis.replicate import Run, Settings, replicate
from .scenario import Scenario
from .simulate import simulate


def run(
    scenario: Scenario,
    *,
    seed: int | None = None,
    replications: int | Literal["auto"] | None = None,
    precision: float | None = None,
    workers: int | Workers = 1,
    spans: str = "none",
) -> Run:
    """Return the replications of a scenario and their summary.

    What is not given is as the scenario says. `precision` is the relative error to reach, such as 0.05; `workers` are
    processes, and no number depends on them. `spans` ('all', 'sampled', 'none') are kept of the first replication.
    Raises ScenarioError for objectives that nothing measures.
    """
    number: int | Literal["auto"] = scenario.replications if precision is None else "auto"
    settings = Settings(
        replications=number if replications is None else replications,
        precision=precision,
        warmup=scenario.workload.warmup,
        objectives=scenario.objectives,
        confidence=scenario.confidence,
        spans=spans,
    )
    chosen = scenario.seed if seed is None else seed
    return replicate(simulate, scenario, seed=chosen, settings=settings, workers=workers)
