"""How much a metric owes to each factor: one at a time (swings and elasticities), or all at once (Morris, Sobol').

All cells run with one seed and so meet the same draws, and leave out the same warm-up, that of the base: differences are
paired by replication. An elasticity is the central difference at the ends of a factor's range, as a share of the base: what 1 % more of the
factor adds to the metric, in %. It is linear there unless the slopes to both sides differ beyond their interval and by more than a twentieth.

Leaves out: what factors a scenario has (`models.levers`, `models.sensitivity`); designs and measures of several factors
(`sensitivity_global`); second-order indices.
Checked: tests/test_sensitivity.py, against sums of constant times, the M/M/1 queue, linear functions and Ishigami's.
Source: common random numbers are Law, Simulation Modeling and Analysis, 5th ed., 11.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np

from ..engine.errors import CoordsimError
from .cells import Cell, Journal, Outcome, run_cells
from .contrast import unrounded
from .jobs import Crew, Simulate, Workers, opened
from .replicate import Progress, Settings
from .sensitivity_global import MorrisMeasures, SobolMeasures, morris, sobol
from .slo import full_name
from .statistics import Array, Estimate, mean_interval, no_estimate
from .summary import Summary

__all__ = [
    "Bend",
    "FactorResult",
    "Method",
    "PlannedFactor",
    "Response",
    "SensitivityInterrupted",
    "SensitivityPlan",
    "SensitivityResult",
    "Side",
    "run_plan",
]

S = TypeVar("S")
Method = Literal["tornado", "morris", "sobol"]
Bend = Literal["linear", "bends", "unknown"]
STEEP = 0.05  # of the elasticity: slopes to both sides that differ by less are as good as one
_WHOLE = "response_time_mean"
NO_CHANGE = "changes nothing: no task comes to it, or nothing waits for it"


class SensitivityInterrupted(CoordsimError):
    """The user stopped before all cells were complete."""


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a factor's range: the factor, what that is as text, and the key of the variant."""

    at: float
    text: str
    key: str


@dataclass(frozen=True, slots=True)
class PlannedFactor:
    """A factor: what it is called, its kind, the paths it changes, what it is now, and its ends (None where there is none).

    `members` are the levers of a whole component; `is_whole`: it moves by whole steps, and has an `is_small` step or no elasticity.
    """

    name: str
    kind: str
    paths: tuple[str, ...]
    now: str
    low: Side | None
    high: Side | None
    members: tuple[str, ...] = ()
    is_whole: bool = False
    is_small: bool = True


@dataclass(frozen=True, slots=True)
class SensitivityPlan(Generic[S]):
    """What to run: `variants` by key; for Morris and Sobol' the `design`, shape (points, factors) from 0 to 1, and its `keys`."""

    scenario: str
    method: Method
    base: str
    factors: tuple[PlannedFactor, ...]
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    by: float
    variants: Mapping[str, S]
    design: Array | None = None
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[str, ...]:
        """The keys of all variants to run, the base first, each once."""
        sides = [side.key for one in self.factors for side in (one.low, one.high) if side is not None]
        return tuple(dict.fromkeys((self.base, *(self.keys if self.method != "tornado" else sides))))


@dataclass(frozen=True, slots=True)
class Response:
    """What a metric does: its change at both ends of a factor's range, its elasticity, and whether that bends."""

    low: Estimate | None
    high: Estimate | None
    elasticity: Estimate | None
    bend: Bend

    @property
    def swing(self) -> float:
        """The larger change, regardless of its sign; nan where neither is known."""
        known = [abs(one.value) for one in (self.low, self.high) if one is not None and not math.isnan(one.value)]
        return max(known, default=math.nan)


@dataclass(frozen=True, slots=True)
class FactorResult:
    """A factor, and the response of each metric by its full name; or why there is none."""

    factor: PlannedFactor
    responses: Mapping[str, Response]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class SensitivityResult:
    """What was found. `base` is each metric of the scenario as it is; `cells` were measured, in this call or an earlier one."""

    scenario: str
    method: Method
    by: float
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    seed: int
    replications: int
    confidence: float
    base: Mapping[str, Estimate]
    factors: tuple[FactorResult, ...]
    morris: Mapping[str, MorrisMeasures]
    sobol: Mapping[str, SobolMeasures]
    cells: int
    notes: tuple[str, ...]
    doubts: tuple[str, ...]

    def ranked(self, metric: str) -> list[FactorResult]:
        """Return the factors whose response is known, the largest swing of a metric first."""
        known = [one for one in self.factors if metric in one.responses and one.responses[metric].swing >= 0]
        return sorted(known, key=lambda one: -one.responses[metric].swing)


def run_plan(
    simulate: Simulate[S],
    plan: SensitivityPlan[S],
    *,
    seed: int,
    settings: Settings,
    workers: int | Workers = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SensitivityResult:
    """Run the cells of a plan, and measure. Raises SensitivityInterrupted, and CoordsimError where the base fails."""
    asked = replace(settings, metrics=plan.metrics)
    done: dict[str, Outcome] = {}

    def run(keys: Sequence[str], chosen: Settings, crew: Crew) -> None:
        cells = [Cell(key, plan.variants[key], seed) for key in keys]
        found = run_cells(simulate, cells, chosen, workers=crew, journal=journal, progress=progress)
        with closing(found):
            for place, outcome in found:
                done[keys[place]] = outcome

    base, *others = plan.cells
    try:
        with opened(workers) as crew:
            run([base], asked, crew)
            first = done[base].summary
            if first is None:
                raise CoordsimError(f"the scenario as it is fails: {done[base].failure}")
            cut = first.warmup
            # The same tasks in all cells: a warm-up found anew in each cell and replication would pair others.
            if cut.mode == "auto":
                asked = replace(asked, warmup=cut.seconds or None)
            run(plan.cells if cut.mode == "auto" and cut.seconds else others, asked, crew)
    except KeyboardInterrupt:
        raise SensitivityInterrupted(f"interrupted; {len(done)} of {len(plan.cells)} cells are complete") from None
    return _measured(plan, done, seed, asked)


def _measured(
    plan: SensitivityPlan[S], done: Mapping[str, Outcome], seed: int, settings: Settings
) -> SensitivityResult:
    names = tuple(full_name(one) for one in plan.metrics)
    first = _summary(done[plan.base])
    base = {name: _interval(_values(first, name), settings.confidence) for name in names}
    by_method = plan.method if plan.design is not None else "tornado"
    screened: dict[str, MorrisMeasures] = {}
    indices: dict[str, SobolMeasures] = {}
    notes = list(plan.notes)
    failed = [done[key] for key in dict.fromkeys(plan.keys) if done[key].summary is None]
    if failed:
        notes.append(f"{len(failed)} cells failed, the first: {failed[0].failure}: no measures of several factors")
    elif by_method != "tornado" and plan.design is not None:
        labels = [one.name for one in plan.factors]
        for name in names:
            values = np.array([_values(_summary(done[key]), name) for key in plan.keys])
            if not np.isfinite(values).all():
                notes.append(f"{name} is not known in every cell: no measures of it")
            elif by_method == "morris":
                screened[name] = morris(plan.design, values, labels, settings.confidence, seed)
            else:
                indices[name] = sobol(values, labels, settings.confidence, seed)
    results = () if by_method != "tornado" else tuple(_of(one, plan, done, settings) for one in plan.factors)
    return SensitivityResult(
        plan.scenario, plan.method, plan.by, names, {full_name(one): unit for one, unit in plan.units.items()}, seed,
        len(first.samples[names[0]]), settings.confidence, base, results, screened, indices, len(done),
        tuple(notes), tuple(dict.fromkeys(first.doubts)),
    )  # fmt: skip


def _summary(outcome: Outcome) -> Summary:
    assert outcome.summary is not None
    return outcome.summary


def _of(
    factor: PlannedFactor, plan: SensitivityPlan[S], done: Mapping[str, Outcome], settings: Settings
) -> FactorResult:
    sides = [None if side is None else done[side.key] for side in (factor.low, factor.high)]
    bad = [one.failure for one in sides if one is not None and one.summary is None]
    if bad:
        return FactorResult(factor, {}, f"failed: {bad[0]}")
    responses: dict[str, Response] = {}
    units = {full_name(one): unit for one, unit in plan.units.items()}
    is_still = True
    for name in (full_name(one) for one in plan.metrics):
        first = _summary(done[plan.base])
        base = _values(first, name)
        # Seconds are parts of T_total, and known as well as that is.
        whole = np.maximum(np.abs(base), _values(first, _WHOLE) if units[name] == "s" else 0.0)
        low, high = (None if one is None else unrounded(base, _values(_summary(one), name), whole) for one in sides)
        at = [side.at if side is not None else 1.0 for side in (factor.low, factor.high)]
        responses[name] = respond(base, low, high, (at[0], at[1]), settings.confidence, has_slope=factor.is_small)
        is_still &= all(one is None or np.array_equal(one, base, equal_nan=True) for one in (low, high))
    return FactorResult(factor, responses, NO_CHANGE if is_still else "")


def respond(
    base: Array,
    low: Array | None,
    high: Array | None,
    at: tuple[float, float],
    confidence: float = 0.95,
    has_slope: bool = True,
) -> Response:
    """Return the response of a metric: values per replication, shape (replications,), at the base and both ends.

    `at` are the factors of the ends. Without an end, the slope is that to the other side.
    """
    changes = [None if one is None else _interval(one - base, confidence) for one in (low, high)]
    if not has_slope or not np.isfinite(base).all() or not float(np.mean(base)):
        return Response(changes[0], changes[1], None, "unknown")
    slopes = [
        None if one is None or reach == 1 or not np.isfinite(one).all() else (one - base) / (reach - 1)
        for one, reach in zip((low, high), at, strict=True)
    ]
    known = [one for one in slopes if one is not None]
    if not known:
        return Response(changes[0], changes[1], None, "unknown")
    if len(known) == 1:
        return Response(changes[0], changes[1], _share(known[0], base, confidence), "unknown")
    assert low is not None
    assert high is not None
    elasticity = _share((high - low) / (at[1] - at[0]), base, confidence)
    difference = _share(known[1] - known[0], base, confidence)
    beyond = difference.low > 0 or difference.high < 0
    is_steep = abs(difference.value) > STEEP * abs(elasticity.value)
    return Response(changes[0], changes[1], elasticity, "bends" if beyond and is_steep else "linear")


def _share(values: Array, base: Array, confidence: float) -> Estimate:
    """Return mean(values) / mean(base) of pairs, with the interval of the ratio by the delta method."""
    mean = float(np.mean(base))
    ratio = float(np.mean(values)) / mean
    return replace(mean_interval(ratio + (values - ratio * base) / mean, confidence, "paired t"), value=ratio)


def _interval(values: Array, confidence: float) -> Estimate:
    return mean_interval(values, confidence, "paired t") if np.isfinite(values).all() else no_estimate(confidence)


def _values(summary: Summary, name: str) -> Array:
    return np.asarray(summary.samples[name], dtype=np.float64)
