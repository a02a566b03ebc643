"""What `coordsim faults` runs: the scenario as it is, without its faults, without each, and at each level of a load.

A variant is the scenario with some values replaced or deleted, as `--set` does it; variants that say the same are one, and run once.

Leaves out: running and judging (`sim.analysis.fault_study`); two faults left out at once, but for all of them.
Checked: tests/test_faults_command.py.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..sim.analysis.fault_study import FAULT, HANDLING, Plan, PlannedLevel, PlannedSteps, PlannedSwitch
from ..sim.engine import units
from ..sim.engine.errors import CoordsimError, ScenarioError
from .faults import Chance, Fault, Overload
from .handling import Handling
from .load_factor import amounts_times, load_times
from .scaling import ScalingError, values_of
from .scaling import make_plan as make_sweep
from .variants import Change, Variants, reason

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["LEVELS", "RISES", "FaultStudyError", "StudyOptions", "make_plan", "seconds_of"]

LEVELS = "0.5,1,1.5,2"
RISES = ("load", "faults")
_POLICIES = ("timeout", "within", "retry", "breaker", "bulkhead", "hedge", "fallback", "escalate", "idempotent")
_RECOVERIES = ("deadline", "restarts", "compensate", "escalate", "admission")
_AMOUNT = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(.*?)\s*")


class FaultStudyError(CoordsimError):
    """A study that cannot be: which option, the rule, what was got."""


@dataclass(frozen=True)
class StudyOptions:
    """What the command line asks for, as it is written."""

    handling: bool = False
    rise: str | None = None
    levels: str | None = None
    along: str | None = None
    steps: str | None = None


def make_plan(scenario: "Scenario", options: StudyOptions) -> Plan[str]:
    """Return what to run. Raises FaultStudyError or ScenarioError for what the scenario does not have, or refuses."""
    variants = Variants(scenario)
    striking = {name: fault for name, fault in scenario.faults.items() if not fault.never}
    calm = variants.key([("faults", "null")] if scenario.faults else [])
    base = variants.key([])
    switches = [_switch(variants, FAULT, name, [(f"faults.{name}", "null")]) for name in striking]
    if options.handling:
        switches += [_switch(variants, HANDLING, name, changes) for name, changes in _policies(scenario)]
    knob, levels = _levels(variants, options)
    return Plan(
        scenario=scenario.name,
        variants=variants.found,
        base=base,
        calm=calm,
        switches=tuple(switches),
        triggers={name: min(fault.at) for name, fault in striking.items() if fault.at is not None},
        knob=knob,
        levels=levels,
        steps=_steps(variants, options),
        objectives=scenario.objectives,
    )


def _switch(variants: Variants, kind: str, name: str, changes: Sequence[Change]) -> PlannedSwitch:
    """Return something left out; what cannot be has a reason."""
    told = tuple(f"{path}={text}" for path, text in changes)
    try:
        return PlannedSwitch(kind, name, told, variants.key(changes), "")
    except ScenarioError as error:
        return PlannedSwitch(kind, name, told, None, reason(error))


def _policies(scenario: "Scenario") -> Iterator[tuple[str, list[Change]]]:
    """Yield each handling policy of each component, and of whole tasks, with what leaves it out."""
    for component, handling in scenario.handlings.items():
        for name in _POLICIES:
            if (
                handling.says(name)
                and getattr(handling, name)
                and not (name == "retry" and handling.retry.attempts == 1)
            ):
                yield from _without(component, name, handling)
    recovery = scenario.recovery
    for name in _RECOVERIES:
        if recovery.says(name) and getattr(recovery, name) not in (None, False, 0):
            more = ("backoff", "resume", "restart_from") if name == "restarts" else ()
            names = (name, *(one for one in more if recovery.says(one)))
            yield f"recovery: {name}", [(f"recovery.{one}", "null") for one in names]
    if scenario.orchestrator.checkpoint is not None:
        yield "checkpoint", [("orchestrator.checkpoint", "null")]


def _without(component: str, name: str, handling: Handling) -> Iterator[tuple[str, list[Change]]]:
    """Yield a policy, and of retries also each part that keeps them in bounds."""
    place = f"{component}.handling"
    changes = [(f"{place}.{name}", "null")]
    other = handling.within if name == "timeout" else handling.timeout
    if name in ("timeout", "within") and other is None and handling.says("on_timeout"):
        changes.append((f"{place}.on_timeout", "null"))
    yield f"{component}: {name}", changes
    if name == "retry":
        for part in ("budget", "backoff"):
            if handling.retry.says(part):
                yield f"{component}: retry {part}", [(f"{place}.retry.{part}", "null")]


# ---------------------------------------------------------------------------------------------------------------------
# What rises


def _levels(variants: Variants, options: StudyOptions) -> tuple[str, tuple[PlannedLevel, ...]]:
    """Return what rises, and its levels; nothing where nothing is asked. Raises FaultStudyError."""
    if options.rise is not None and options.along is not None:
        raise FaultStudyError("--along goes without --rise: one thing rises at a time")
    if options.along is not None:
        if options.levels is not None:
            raise FaultStudyError("--levels goes with --rise; --along has its own values")
        return _along(variants, options.along)
    if options.rise is None:
        if options.levels is not None:
            raise FaultStudyError("--levels needs --rise, which says what rises: load or faults")
        return "", ()
    if options.rise not in RISES:
        raise FaultStudyError(f"--rise must be {' or '.join(RISES)}; got `{options.rise}`")
    try:
        xs = values_of(options.levels or LEVELS)
    except ValueError as error:
        raise FaultStudyError(f"--levels {error}") from None
    rise = load_times if options.rise == "load" else _rates_of_faults
    knob = "load factor" if options.rise == "load" else "fault rate factor"
    return knob, tuple(
        PlannedLevel(float(x), f"{x:g}", _built(variants, "--rise", rise(variants.scenario, float(x)))) for x in xs
    )


def _built(variants: Variants, option: str, changes: Iterable[Change]) -> str:
    try:
        return variants.key(changes)
    except ScenarioError as error:
        raise FaultStudyError(f"{option}: {reason(error)}") from None


def _along(variants: Variants, text: str) -> tuple[str, tuple[PlannedLevel, ...]]:
    path, equals, given = (part.strip() for part in text.partition("="))
    values = [one.strip() for one in given.split(",")]
    amounts = [_AMOUNT.fullmatch(one) for one in values]
    if not (equals and path and len(values) > 1):
        raise FaultStudyError(
            f"--along must be a path and two values at least, as in `tools.search.latency=1 s,2 s`; got `{text}`"
        )
    if None in amounts or len({one[2] for one in amounts if one}) > 1:
        raise FaultStudyError(f"--along {path} must have numbers of one unit, so that they rise; got `{given}`")
    xs = [float(one[1]) for one in amounts if one]
    if len(set(xs)) < len(xs):
        raise FaultStudyError(f"--along {path} must have values that differ; got `{given}`")
    shown = [f"{one[1]} {one[2]}".strip() for one in amounts if one]
    return path, tuple(
        PlannedLevel(x, told, _built(variants, "--along", [(path, value)]))
        for x, told, value in sorted(zip(xs, shown, values, strict=True))
    )


def _rates_of_faults(scenario: "Scenario", factor: float) -> list[Change]:
    """Return what makes faults `factor` times as frequent: chances per call (1 at most), and the times between failures."""
    changes = [change for name, fault in scenario.faults.items() for change in _more_of(name, fault, factor)]
    if not changes:
        raise FaultStudyError(
            "--rise faults: no fault has a rate or an `mtbf` to raise; those with `at` come when it says"
        )
    return changes


def _more_of(name: str, fault: Fault, factor: float) -> Iterator[Change]:
    chance = getattr(fault, fault.effect)
    if isinstance(chance, Chance | Overload):
        yield f"faults.{name}.{fault.effect}", json.dumps(chance.to_data() | {"rate": min(1.0, chance.rate * factor)})
    if fault.mtbf is not None:
        data = amounts_times(fault.mtbf.to_data(), 1 / factor, units.DURATION)
        yield f"faults.{name}.mtbf", json.dumps(data)


# ---------------------------------------------------------------------------------------------------------------------
# Steps


def _steps(variants: Variants, options: StudyOptions) -> tuple[PlannedSteps, ...]:
    """Return the sweeps over the number of steps: as it is, and without checkpoints where there are any."""
    if options.steps is None:
        return ()
    scenario = variants.scenario
    swept = {"as it is": scenario}
    if scenario.orchestrator.checkpoint is not None:
        swept["without checkpoints"] = scenario.replace("orchestrator.checkpoint", None)
    found = []
    for name, one in swept.items():
        try:
            plan = make_sweep(one, [options.steps], ablate=False)
        except ScalingError as error:
            raise FaultStudyError(str(error).replace("--over", "--steps")) from None
        (sweep,) = [sweep for sweep in plan.sweeps if not sweep.beside]
        if any(x != int(x) for x in sweep.xs):
            raise FaultStudyError("--steps must be whole numbers, as they count steps")
        keys = tuple(variants.take(plan.variants[point[0].key]) for point in sweep.cells)
        found.append(PlannedSteps(name, sweep.path, tuple(int(x) for x in sweep.xs), keys))
    return tuple(found)


def seconds_of(option: str, text: str) -> float:
    """Return the seconds that an option says. Raises FaultStudyError."""
    try:
        seconds = float(units.parse(text, units.DURATION))
    except ValueError as error:
        raise FaultStudyError(f"{option} {error}") from None
    if seconds <= 0:
        raise FaultStudyError(f"{option} must be above 0; got `{text}`")
    return seconds
