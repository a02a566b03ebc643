"""`run(scenario)`: replicate a scenario and sum it up, in one call; and `digest_of` what came of it, for a report.

Leaves out: how the answer is read (`whatif`).
Checked: tests/test_run.py.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Literal, get_args

from ..sim.analysis.digest import RunDigest, digest
from ..sim.analysis.jobs import Workers
from ..sim.analysis.replicate import Run, Settings, replicate
from ..sim.analysis.result import Result
from .scenario import Scenario
from .simulate import simulate

Spans = Literal["all", "sampled", "none"]


def run(
    scenario: Scenario,
    seed: int | None = None,
    *,
    replications: int | Literal["auto"] | None = None,
    precision: float | None = None,
    workers: int | Workers = 1,
    spans: Spans = "none",
) -> Run:
    """Return the replications of a scenario and their summary.

    What is not given is as the scenario says. `precision` is the relative error to reach, such as 0.05; `workers` are
    processes, and no number depends on them. `spans` ('all', 'sampled', 'none') are kept of the first replication.
    Raises ScenarioError for objectives that nothing measures, ValueError for arguments that cannot be, and Interrupted with what
    was complete on a keyboard interrupt.
    """
    _check(seed, replications, spans)
    number: int | Literal["auto"] = scenario.replications if precision is None else "auto"
    settings = Settings(
        replications=number if replications is None else replications,
        precision=precision,
        warmup=scenario.workload.warmup,
        objectives=scenario.objectives,
        confidence=scenario.confidence,
        spans=spans,
    )
    chosen = scenario.seed if seed is None else int(seed)
    return replicate(simulate, scenario, seed=chosen, settings=settings, workers=workers)


def digest_of(done: Run, scenario: Scenario) -> RunDigest:
    """Return the digest of a run of a scenario; where too few spans were kept, the first replication runs again for some tasks'."""
    seed = done.summary.seed

    def again(tasks: Sequence[int]) -> Result:
        return simulate(scenario, seed, 0, f"tasks {' '.join(map(str, tasks))}")

    return digest(done.results, done.summary, scenario.workload.warmup, again)


def _check(seed: object, replications: object, spans: object) -> None:
    """Refuse arguments that would go unnoticed, or fail far from here."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0):
        raise ValueError(f"`seed` must be a whole number of 0 or more, but got {seed!r}")
    if replications not in (None, "auto") and not isinstance(replications, Integral):
        raise ValueError(f"`replications` must be a whole number or 'auto', but got {replications!r}")
    if spans not in get_args(Spans):
        raise ValueError(f"`spans` must be one of {', '.join(get_args(Spans))}, but got {spans!r}")
