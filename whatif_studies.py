"""What-if in Python: `scaling` and `faults`, the studies that run many variants of a scenario, as `whatif` has the others.

    import coordsim as cs
    cs.scaling(cs.load("quickstart"), "steps=1..8")      # how coordination grows with the steps, and because of what
    cs.faults(cs.load("retry-storm"))                    # what each fault costs, and whether it ends when its cause does

Leaves out: how anything is found out (`models.scaling`, `models.fault_study`, `sim.analysis`) and said (`sim.report`).
Checked: tests/test_whatif_studies.py, against the commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .models import fault_study as fault_models
from .models import scaling as scaling_models
from .models.variants import simulate_text
from .sim.analysis import fault_study
from .sim.analysis import scaling as growth
from .sim.analysis.fault_study import StudyResult as FaultResult
from .sim.analysis.jobs import Workers
from .sim.analysis.replicate import Settings
from .sim.analysis.scaling import ScalingResult
from .whatif import Told, _answering

if TYPE_CHECKING:
    from .models.scenario import Scenario

__all__ = ["FaultStudy", "Scaling", "faults", "scaling"]

MOST_REPLICATIONS = 8  # unless asked for, as in the commands: there are many variants


class Scaling(Told[ScalingResult]):
    """How a metric grows with each factor: by which law, with which exponent, and because of what."""

    _tables, _section = "scaling_tables", "scaling"


class FaultStudy(Told[FaultResult]):
    """What each fault costs, how far it spreads, what breaks first, and whether it stays broken."""

    _tables, _section = "fault_tables", "faults"


def _scaling(
    scenario: Scenario,
    over: str | Sequence[str],
    *,
    metric: str = "coordination",
    stream: str | None = None,
    only: str | None = None,
    ablate: bool = True,
    replications: int | None = None,
    workers: int | Workers = 1,
) -> ScalingResult:
    """Sweep steps, agents, modalities, streams or a path: how a metric grows, by which law, and because of what.

    `over` is a factor and its values, such as `steps=1..16`, or several, a sweep each. `stream` is the modality that is copied (default: each in
    turn), with `only` all mechanisms but one are switched off, with `ablate` each is switched off in turn. `replications` of each cell
    are the scenario's, at most 8, where they are not given. Raises ScalingError and ScenarioError for what cannot be.
    """
    unit = scaling_models.unit_of_metric(metric)
    asked = [over] if isinstance(over, str) else list(over)
    plan = scaling_models.make_plan(scenario, asked, stream=stream, only=only, ablate=ablate)
    return growth.run_plan(
        simulate_text, plan, seed=scenario.seed, settings=_settings(scenario, replications), metric=metric, unit=unit,
        workers=workers,
    )  # fmt: skip


def _faults(
    scenario: Scenario,
    *,
    handling: bool = False,
    rise: str | None = None,
    levels: str | None = None,
    along: str | None = None,
    steps: str | None = None,
    replications: int | None = None,
    workers: int | Workers = 1,
) -> FaultResult:
    """Leave out each fault: what it costs, how far it spreads, what breaks first, and whether it stays broken.

    With `handling` each policy is left out, too. `rise` (`load` or `faults`, at `levels` such as `0.5,1,2`), or `along` (`PATH=V1,V2`), raises
    something; `steps` (`steps=1,2,5`) tells success over their number. `replications` of each variant are the scenario's, at
    most 8, where they are not given. Raises FaultStudyError and ScenarioError for what cannot be.
    """
    plan = fault_models.make_plan(scenario, fault_models.StudyOptions(handling, rise, levels, along, steps))
    settings = _settings(scenario, replications)
    return fault_study.run_plan(simulate_text, plan, seed=scenario.seed, settings=settings, workers=workers)


def _settings(scenario: Scenario, replications: int | None) -> Settings:
    """Return how much is run of each variant, as the commands have it."""
    count = min(scenario.replications, MOST_REPLICATIONS) if replications is None else replications
    return Settings(replications=count, warmup=scenario.workload.warmup, confidence=scenario.confidence)


_scaling.__name__ = _scaling.__qualname__ = "scaling"
_faults.__name__ = _faults.__qualname__ = "faults"
scaling = _answering(_scaling, Scaling)
faults = _answering(_faults, FaultStudy)
