"""How coordination grows with a factor, and because of what: run the cells that a plan names, judge each curve, find causes.

All cells run with one seed, and so meet the same draws; warm-up ends for all at the latest of its ends in the cells at the
smallest and the largest x, so that all are about the same tasks. The value of a replication at x is the mean over the tasks done,
averaged over the cells of x (all subsets of that size). `growth` judges the curve, `causes` what it grows by.

A mechanism that in the first replication changes no task at the largest x is taken to change nothing, and one that changes the
metric at the smallest and the largest x by less than 1 % of the rise between them to be no cause: they are not run further.
The barrier is switched off without another run: what the last branch of each join took beyond the mean one is taken off
(facts `straggler_excess`, and `straggler_coordination` of it).

Leaves out: how cells are made (`models.scaling`); two factors at once.
Checked: tests/test_scaling.py.
Source: common random numbers are Law, Simulation Modeling and Analysis, 5th ed., 11.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from ..engine.errors import CoordsimError
from ..engine.ledger import CATEGORIES
from ..profile.law import widest
from . import measure
from .causes import ALL_OFF, GONE, RESAMPLES, Ablated, Cause, cause_of, exponent_drop, rise_left
from .growth import Curve, Growth, growth
from .jobs import Simulate, Workers, run_jobs
from .replicate import Progress, Settings
from .result import Mask, Result
from .statistics import Array, mean_interval
from .summarize import Cut, cut_warmup, stability

S = TypeVar("S")

COORDINATION, TOTAL, INFERENCE = "coordination", "response_time", "inference"
WITHOUT_STRAGGLERS, INPUT = "coordination_without_stragglers", "input_tokens"
STANDARD = (COORDINATION, TOTAL, INFERENCE, WITHOUT_STRAGGLERS)
_PROMPT = ("new_tokens", "carried_tokens", "cached_tokens")
NO_CHANGE = "changes nothing"
TOO_LITTLE = 0.01  # of the rise: a cause takes away nine tenths of it, or 0.05 of the exponent, which takes more
LITTLE = f"changes less than {100 * TOO_LITTLE:.0f} % of the rise"
_GROWING = 0.2  # share of replications in which the number of tasks grows, from which a cell has not settled


class ScalingInterrupted(CoordsimError):
    """The user stopped a sweep before its curves were complete."""


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A scenario to run: what of a point it is (the subset), and its key in `Plan.variants`."""

    subset: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class PlannedSwitch:
    """A mechanism switched off: `cells` as those of the sweep, or None and the reason (`skipped`)."""

    mechanism: str
    changes: tuple[str, ...]
    cells: tuple[tuple[PlannedCell, ...], ...] | None
    derived: bool
    skipped: str


@dataclass(frozen=True, slots=True)
class PlannedSweep:
    """A factor at its values `xs`, with the cells of each; `beside` another sweep, which has the verdict."""

    factor: str
    path: str
    xs: tuple[float, ...]
    cells: tuple[tuple[PlannedCell, ...], ...]
    switches: tuple[PlannedSwitch, ...]
    beside: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """What to run: `variants` by key, each once, however many cells it is; `silent` are doubts that only sweeping raises."""

    scenario: str
    variants: dict[str, S]
    sweeps: tuple[PlannedSweep, ...]
    ablated: bool = True
    silent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell measured: metric to the mean per task of each replication. `off` is the mechanism that was switched off."""

    x: float
    subset: tuple[str, ...]
    off: str
    values: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A factor: growth of the metric (None where fewer than two points were measured), and of the others, by name."""

    factor: str
    path: str
    beside: bool
    growth: Growth | None
    others: dict[str, Growth]
    cells: tuple[Cell, ...]
    ablation: tuple[Ablated, ...]
    cause: Cause
    doubts: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The verdict on the metric."""
        return "cannot tell" if self.growth is None else self.growth.verdict


@dataclass(frozen=True, slots=True)
class ScalingResult:
    """All sweeps; `doubts` are what the models say about their own numbers."""

    scenario: str
    metric: str
    unit: str
    seed: int
    replications: int
    confidence: float
    ablated: bool
    sweeps: tuple[Sweep, ...]
    doubts: tuple[str, ...]

    @property
    def undecided(self) -> bool:
        """Whether a verdict, other than of what stands beside another sweep, is `cannot tell`."""
        return any(one.verdict == "cannot tell" for one in self.sweeps if not one.beside)


def run_plan(
    simulate: Simulate[S],
    plan: Plan[S],
    *,
    seed: int,
    settings: Settings,
    metric: str = COORDINATION,
    unit: str = "s",
    workers: int | Workers = 1,
    progress: Callable[[Progress], None] | None = None,
) -> ScalingResult:
    """Run every replication of every cell, `workers` at a time, and judge the curves.

    Of `settings` the number of replications, warm-up and confidence count; no number depends on `workers`. `metric` is
    a name that `quantity_of` takes. Raises ScalingInterrupted on a keyboard interrupt, WorkerError when a worker dies.
    """
    count = settings.replications
    if count == "auto":
        raise ValueError("a sweep takes a number of replications, but got 'auto'")
    tell = progress or (lambda _progress: None)
    try:
        plan = _probed(simulate, plan, seed, metric, workers)
        keys = dict.fromkeys((*_ends(plan), *plan.variants))
        collected = _Collected(list(keys), len(_ends(plan)), count, metric, settings.warmup)
        jobs = [(plan.variants[key], seed, number, "none") for key in keys for number in range(count)]
        tell(Progress(0, len(jobs)))
        with closing(run_jobs(simulate, jobs, workers)) as results:
            for done, result in enumerate(results):
                collected.add(result)
                tell(Progress(done + 1, len(jobs)))
    except KeyboardInterrupt:
        raise ScalingInterrupted("interrupted: the sweep was not complete") from None
    found = collected.found
    judge = _Judge(found, metric, unit, settings.confidence, seed)
    doubts = dict.fromkeys(doubt for one in found.values() for doubt in one.doubts)
    return ScalingResult(
        scenario=plan.scenario,
        metric=metric,
        unit=unit,
        seed=seed,
        replications=count,
        confidence=settings.confidence,
        ablated=plan.ablated,
        sweeps=tuple(judge.sweep(one) for one in plan.sweeps),
        doubts=tuple(widest(doubt for doubt in doubts if doubt not in plan.silent)),
    )


def _probed(simulate: Simulate[S], plan: Plan[S], seed: int, metric: str, workers: int | Workers) -> Plan[S]:
    """Return the plan without the mechanisms that change nothing, or too little, at both ends in the first replication.

    Where fewer than two are left, all of them off are nothing new, and go too.
    """
    ends = [(sweep, one) for sweep in plan.sweeps for one in sweep.switches if one.cells and one.changes]
    ends = [(sweep, one) for sweep, one in ends if one.mechanism != ALL_OFF]
    cells = [(cells[0], cells[-1]) for sweep, one in ends for cells in (sweep.cells, one.cells or ())]
    keys = dict.fromkeys(cell.key for pair in cells for point in pair for cell in point)
    keys |= dict.fromkeys(cell.key for sweep in plan.sweeps if sweep.switches for cell in sweep.cells[-1])
    jobs = [(plan.variants[key], seed, 0, "none") for key in keys]
    with closing(run_jobs(simulate, jobs, workers)) as results:
        probes = {key: _Probe.of(run, metric) for key, run in zip(keys, results, strict=True)}
    sweeps = []
    for sweep in plan.sweeps:
        switches = [replace(one, cells=None, skipped=why) if (why := _idle(probes, sweep, one)) else one
                    for one in sweep.switches]  # fmt: skip
        if sum(one.cells is not None for one in switches if one.mechanism != ALL_OFF) < 2:
            switches = [one for one in switches if one.mechanism != ALL_OFF]
        sweeps.append(replace(sweep, switches=tuple(switches)))
    wanted = {
        cell.key
        for sweep in sweeps
        for cells in (sweep.cells, *(one.cells or () for one in sweep.switches))
        for point in cells
        for cell in point
    }
    variants = {key: one for key, one in plan.variants.items() if key in wanted}
    return replace(plan, sweeps=tuple(sweeps), variants=variants)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A run: all that a mechanism may change of its tasks, the mean of the metric, and whether a join had a straggler."""

    seen: Array
    mean: float
    joins: bool

    @classmethod
    def of(cls, run: Result, metric: str) -> _Probe:
        names = dict.fromkeys((COORDINATION, TOTAL, metric))
        seen = np.concatenate([[run.ended], *(quantity_of(run, name) for name in names)])
        joins = any(run.fact(name).any() for name, _ in _excess(metric) or ())
        return cls(seen, _mean(quantity_of(run, metric)), joins)


def _idle(probes: Mapping[str, _Probe], sweep: PlannedSweep, one: PlannedSwitch) -> str:
    """Return why a mechanism need not be run, if so."""
    last = [probes.get(cell.key) for cell in sweep.cells[-1]]
    if one.derived and not one.changes:
        return NO_CHANGE if all(found is not None and not found.joins for found in last) else ""
    if not (one.cells and one.changes) or one.mechanism == ALL_OFF:
        return ""
    on, off = ([[probes[cell.key] for cell in cells[end]] for end in (0, -1)] for cells in (sweep.cells, one.cells))
    if all(
        a.seen.shape == b.seen.shape and np.allclose(a.seen, b.seen, rtol=1e-9, atol=0.0)
        for a, b in zip(on[-1], off[-1], strict=True)
    ):
        return NO_CHANGE
    with_it, without = (np.array([np.mean([found.mean for found in point]) for point in ends]) for ends in (on, off))
    return LITTLE if np.abs(with_it - without).max() < TOO_LITTLE * abs(with_it[1] - with_it[0]) else ""


def quantity_of(run: Result, name: str) -> Array:
    """Return a metric per task that was done: `coordination`, `response_time`, a category, or a fact such as `bytes`.

    Beside those of the summary: `coordination_without_stragglers` (s) and `input_tokens`, all tokens of prompts, cached
    or not. Raises ValueError for any other.
    """
    if name == WITHOUT_STRAGGLERS:
        return run.coordination - run.fact(measure.STRAGGLER_COORDINATION)
    if name == INPUT:
        return np.asarray(sum(run.fact(one) for one in _PROMPT))
    return measure.quantity(run, name)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A cell's replications: metric to values, shape (replications,), nan where no task was done."""

    values: dict[str, Array]
    grows: bool
    doubts: tuple[str, ...]


class _Collected:
    """Results as they come, cell by cell: first the `ends` cells that say when warm-up ends, then the others."""

    def __init__(self, keys: Sequence[str], ends: int, count: int, metric: str, warmup: Cut) -> None:
        self.keys, self.ends, self.count, self.metric, self.warmup = keys, ends, count, metric, warmup
        self.found: dict[str, _Measured] = {}
        self.waiting: list[list[Result]] = [[]]
        self.starts: list[float] | None = None

    def add(self, result: Result) -> None:
        """Take a result."""
        self.waiting[-1].append(result)
        if len(self.waiting[-1]) < self.count:
            return
        if self.starts is None and len(self.waiting) == self.ends:
            cut = [[run.start for run in cut_warmup(runs, self.warmup)[1]] for runs in self.waiting]
            self.starts = [max(each) for each in zip(*cut, strict=True)]
        if self.starts is not None:
            for runs in self.waiting:
                self.found[self.keys[len(self.found)]] = _measured(runs, self.starts, self.metric)
            self.waiting = []
        self.waiting.append([])


def _ends(plan: Plan[S]) -> dict[str, None]:
    """Return the keys of the cells at the smallest and the largest x of each sweep."""
    return dict.fromkeys(cell.key for sweep in plan.sweeps for point in (0, -1) for cell in sweep.cells[point])


def _measured(results: Sequence[Result], starts: Sequence[float], metric: str) -> _Measured:
    runs = [run.after(start) if start > run.start else run for run, start in zip(results, starts, strict=True)]
    names = (*STANDARD, metric, measure.STRAGGLER_EXCESS, measure.STRAGGLER_COORDINATION, *CATEGORIES)
    values = {name: np.array([_mean(quantity_of(run, name)) for run in runs]) for name in dict.fromkeys(names)}
    grows = sum(stability(run) == "grows" for run in runs) > _GROWING * len(runs)
    return _Measured(values, grows, tuple(dict.fromkeys(doubt for run in results for doubt in run.doubts)))


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else math.nan


@dataclass(frozen=True, slots=True)
class _Judge:
    """Makes curves of what was measured, and judges them."""

    found: dict[str, _Measured]
    metric: str
    unit: str
    confidence: float
    seed: int

    def sweep(self, plan: PlannedSweep) -> Sweep:
        values = self._values(plan.cells, self.metric)
        known: Mask = np.asarray(np.isfinite(values).all(axis=0))
        xs = np.array(plan.xs, dtype=np.float64)
        base = self._growth(plan.factor, xs[known], values[:, known], self.metric, self.unit)
        others = {
            name: curve
            for name in STANDARD
            if name != self.metric
            and (curve := self._growth(plan.factor, xs[known], self._values(plan.cells, name)[:, known], name, "s"))
        }
        ablation = tuple(self._ablated(plan, one, base, known) for one in plan.switches)
        off = [(one, made) for one, made in zip(plan.switches, ablation, strict=True) if made.growth and made.changes]
        cells = [
            *self._cells(plan, plan.cells, ""),
            *(c for one, _ in off for c in self._cells(plan, one.cells or (), one.mechanism)),
        ]
        return Sweep(
            factor=plan.factor,
            path=plan.path,
            beside=plan.beside,
            growth=base,
            others=others,
            cells=tuple(cells),
            ablation=ablation,
            cause=cause_of(base, ablation),
            doubts=(*plan.notes, *self._doubts(plan, known)),
        )

    def _values(self, cells: Sequence[Sequence[PlannedCell]], name: str) -> Array:
        """Return a metric, shape (replications, points), each point the mean over its cells."""
        points = [np.mean([self.found[cell.key].values[name] for cell in point], axis=0) for point in cells]
        return np.stack(points, axis=1)

    def _growth(self, factor: str, x: Array, values: Array, name: str, unit: str) -> Growth | None:
        if x.size < 2:
            return None
        return growth(Curve(x, values, f"{name} over {factor}", unit), self.confidence, self.seed, RESAMPLES)

    def _ablated(self, plan: PlannedSweep, one: PlannedSwitch, base: Growth | None, known: Mask) -> Ablated:
        told = one.mechanism, one.changes, one.derived
        excess = _excess(self.metric) if one.derived else ()
        if one.skipped or one.cells is None or base is None:
            return Ablated(*told, one.skipped or "nothing was measured")
        if one.derived and excess is None:
            return Ablated(*told, f"what a straggler adds to `{self.metric}` is not known")
        values = self._values(one.cells, self.metric)
        for name, sign in excess or ():
            values = values - sign * self._values(one.cells, name)
        kept = values[:, known]
        if not np.isfinite(kept).all():
            return Ablated(*told, "no task was done without it at some x")
        if np.allclose(kept, base.curve.values, rtol=1e-9, atol=0.0):
            return Ablated(*told, NO_CHANGE)
        found = growth(
            Curve(base.curve.x, kept, f"{base.curve.label}, without {one.mechanism}", base.curve.unit),
            self.confidence, self.seed, RESAMPLES,
        )  # fmt: skip
        left = rise_left(base.curve, found.curve, self.confidence)
        drop = None if found.verdict in GONE else exponent_drop(base, found, self.confidence, self.seed)
        return Ablated(*told, "", found, mean_interval(kept[:, -1], self.confidence), drop, left)

    def _cells(self, plan: PlannedSweep, cells: Sequence[Sequence[PlannedCell]], off: str) -> list[Cell]:
        return [
            Cell(x, one.subset, off, {name: tuple(v.tolist()) for name, v in self.found[one.key].values.items()})
            for x, point in zip(plan.xs, cells, strict=True)
            for one in point
        ]

    def _doubts(self, plan: PlannedSweep, known: Mask) -> list[str]:
        doubts = []
        lost = [f"{x:g}" for x, is_known in zip(plan.xs, known, strict=True) if not is_known]
        if lost:
            doubts.append(f"at {plan.factor} = {', '.join(lost)} a replication has no task that was done: left out")
        growing = [
            f"{x:g}"
            for x, point in zip(plan.xs, plan.cells, strict=True)
            if any(self.found[c.key].grows for c in point)
        ]
        if growing:
            doubts.append(
                f"at {plan.factor} = {', '.join(growing)} the number of tasks in the system still grows: times there say "
                "how long the run was; try fewer arrivals, or more capacity"
            )
        return doubts


def _excess(metric: str) -> tuple[tuple[str, int], ...] | None:
    """Return the facts that make up what stragglers add to a metric; None where that is not known."""
    excess, coordination = (measure.STRAGGLER_EXCESS, 1), (measure.STRAGGLER_COORDINATION, 1)
    return {
        COORDINATION: (coordination,),
        TOTAL: (excess,),
        INFERENCE: (excess, (measure.STRAGGLER_COORDINATION, -1)),
        WITHOUT_STRAGGLERS: (),
    }.get(metric)
