"""What each fault costs, how far it spreads, what breaks first, and how far tasks get: run what a plan names, and compare.

All variants run with one seed, and so meet the same draws: a task is the task of the same number in each. A fault's cost is the
scenario as it is against the one without it, replication by replication; its reach is counted task by task. Warm-up ends where it
does without any fault, for all variants.

A task failed because of a fault if it fails (or is wrong) with it and succeeds without; it was delayed if it succeeds in both, and
takes more than 1 % longer with it. It was struck if anything that it did met the fault; the others the fault reached through queues,
retries, and what they share. Faults overlap: without one, another may do what it did, so that costs need not add up.

Leaves out: how variants are made (`models.fault_study`), when things happened (`fault_timeline`).
Checked: tests/test_faults_command.py.
Source: common random numbers are Law, Simulation Modeling and Analysis, 5th ed., 11.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ..engine.errors import CoordsimError
from ..profile.law import widest
from . import measure
from .breaking import FirstToBreak, Level, first_to_break
from .estimator import Estimator
from .fault_timeline import Missed, Timeline, missed, timeline
from .jobs import Simulate, Workers, run_jobs
from .reliability import Bin, ConstantHazard, constant_hazard, survival
from .replicate import Progress, Settings
from .result import TASK, Mask, Result
from .root_cause import CauseRow, PathRow, causes, paths
from .slo import Objective, full_name
from .statistics import Array, Estimate, mean_interval, no_estimate, pooled_proportion
from .summarize import cut_warmup, summarize

S = TypeVar("S")

FAULT, HANDLING, ALL_FAULTS = "fault", "handling", "all faults"
METRICS = ("success", "response_time_p95", "goodput", "wasted_share")
LATER = 0.01  # of the time without the fault: a task that takes so much longer counts as delayed
STANDARD = (Objective("success", 0.99, ">="),)  # what must hold at a level of a scenario that asks for nothing


class FaultStudyInterrupted(CoordsimError):
    """The user stopped a study before it was complete."""


@dataclass(frozen=True, slots=True)
class PlannedSwitch:
    """A fault or a policy that is left out: the key of the scenario without it, or None and the reason (`skipped`)."""

    kind: str
    name: str
    changes: tuple[str, ...]
    key: str | None
    skipped: str


@dataclass(frozen=True, slots=True)
class PlannedLevel:
    """A level `x` of what rises, as it is `shown`."""

    x: float
    shown: str
    key: str


@dataclass(frozen=True, slots=True)
class PlannedSteps:
    """The scenario, or a variant of it, at numbers of steps `xs`."""

    name: str
    path: str
    xs: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """What to run: `variants` by key, each once; `calm` is the scenario without faults. `triggers` are faults that begin at set times (s)."""

    scenario: str
    variants: dict[str, S]
    base: str
    calm: str
    switches: tuple[PlannedSwitch, ...]
    triggers: Mapping[str, float]
    knob: str
    levels: tuple[PlannedLevel, ...]
    steps: tuple[PlannedSteps, ...]
    objectives: tuple[Objective, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with and without something, and what that adds to it (paired by replication)."""

    having: Estimate
    without: Estimate
    added: Estimate


@dataclass(frozen=True, slots=True)
class Reach:
    """What became of tasks because of a fault, over `tasks` pairs; shares of them, and mean seconds of those delayed.

    `unstruck` are those among the failed, or delayed, that never met the fault. `rescued` fail without it only, `sooner` are faster by
    more than 1 %, `unfinished` had not ended when the run did, with it only.
    """

    tasks: int
    struck: Estimate
    failed: Estimate
    failed_unstruck: Estimate
    delayed: Estimate
    delayed_unstruck: Estimate
    delay: Estimate
    delay_unstruck: Estimate
    rescued: int
    sooner: int
    unfinished: Estimate


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fault, or a policy, does to the metrics; a policy strikes nobody, and has no reach."""

    kind: str
    name: str
    changes: tuple[str, ...]
    skipped: str
    metrics: Mapping[str, Metric]
    reach: Reach | None


@dataclass(frozen=True, slots=True)
class LevelRow:
    """What was measured at a level: success, goodput, attainment, and the utilization of each component that has one."""

    x: float
    shown: str
    metrics: Mapping[str, Estimate]
    utilization: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class StepsRow:
    """Success against the number of steps, and the constant hazard that fits it."""

    name: str
    path: str
    bins: tuple[Bin, ...]
    fit: ConstantHazard


@dataclass(frozen=True, slots=True)
class StudyResult:
    """All that was found; `doubts` are what the models say about their own numbers, `missed` are faults that never came."""

    scenario: str
    seed: int
    replications: int
    confidence: float
    variants: int
    costs: tuple[Cost, ...]
    causes: tuple[CauseRow, ...]
    paths: tuple[PathRow, ...]
    timeline: Timeline
    knob: str
    levels: tuple[LevelRow, ...]
    breaks: FirstToBreak | None
    steps: tuple[StepsRow, ...]
    doubts: tuple[str, ...]
    missed: tuple[Missed, ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether it cannot be told if goodput came back after a trigger, or which objective broke first."""
        stuck = any(one.collapse.state == "cannot tell" for one in self.timeline.triggers)
        return stuck or (self.breaks is not None and len(self.breaks.first_objectives) > 1)


def run_plan(
    simulate: Simulate[S],
    plan: Plan[S],
    *,
    seed: int,
    settings: Settings,
    replication: int = 0,
    window: float | None = None,
    workers: int | Workers = 1,
    progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Run every replication of every variant, `workers` at a time, and compare; no number depends on `workers`.

    `replication` is the one whose timeline is told, in windows of `window` seconds. Raises FaultStudyInterrupted on a keyboard
    interrupt, WorkerError when a worker dies, WindowError for a window that does not fit, ValueError for 'auto' replications or one that does not run.
    """
    count = settings.replications
    if count == "auto" or not 0 <= replication < count:
        raise ValueError(
            f"a study takes a number of replications, above that of the timeline; got {count}, {replication}"
        )
    keys = list(dict.fromkeys((plan.calm, plan.base, *plan.variants)))
    jobs = [(plan.variants[key], seed, number, "none") for key in keys for number in range(count)]
    tell = progress or (lambda _progress: None)
    found = _Collected(plan, settings, replication, window)
    try:
        tell(Progress(0, len(jobs)))
        waiting: list[Result] = []
        with closing(run_jobs(simulate, jobs, workers)) as results:
            for done, result in enumerate(results):
                waiting.append(result)
                if len(waiting) == count:
                    found.add(keys[done // count], waiting)
                    waiting = []
                tell(Progress(done + 1, len(jobs)))
    except KeyboardInterrupt:
        raise FaultStudyInterrupted("interrupted: the study was not complete") from None
    return found.result(seed, count)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A replication: numbers of its tasks (rising), which succeeded and which ended, and their times (s)."""

    tasks: npt.NDArray[np.int64]
    right: Mask
    ended: Mask
    elapsed: Array
    stride: int

    @classmethod
    def of(cls, run: Result) -> _Seen:
        tasks = run.tasks[:, TASK].astype(np.int64)
        order = np.argsort(tasks)
        return cls(tasks[order], run.right[order], run.finished[order], run.elapsed[order], run.stride)


class _Collected:
    """Results as they come, variant by variant: the one without faults first, which says where warm-up ends."""

    def __init__(self, plan: Plan[S], settings: Settings, replication: int, window: float | None) -> None:
        self.plan, self.settings, self.replication, self.window = plan, settings, replication, window
        self.by = Estimator(settings.confidence)
        self.starts: list[float] = []
        self.seen: dict[str, list[_Seen]] = {}
        self.samples: dict[str, dict[str, Array]] = {}
        self.struck: list[dict[str, set[int]]] = []
        self.levels: dict[str, Level] = {}
        self.rows: dict[str, tuple[Mapping[str, Estimate], Mapping[str, Estimate]]] = {}
        self.success: dict[str, list[Array]] = {}
        self.told: tuple[tuple[CauseRow, ...], tuple[PathRow, ...], Timeline] | None = None
        self.doubts: dict[str, None] = {}
        self.missed: tuple[Missed, ...] = ()
        self.compared = {plan.base, plan.calm, *(one.key for one in plan.switches)}

    def add(self, key: str, runs: Sequence[Result]) -> None:
        """Take all replications of a variant, and keep of them what is asked for."""
        self.doubts |= dict.fromkeys(doubt for run in runs for doubt in run.doubts)
        if not self.starts:
            self.starts = [run.start for run in cut_warmup(runs, self.settings.warmup)[1]]
        views = [run.after(start) if start > run.start else run for run, start in zip(runs, self.starts, strict=True)]
        if key in self.compared:
            self.seen[key] = [_Seen.of(run) for run in views]
            self.samples[key] = self._metrics(views)
        if key == self.plan.base:
            self._tell(runs)
        if any(key == one.key for one in self.plan.levels):
            self._level(key, runs)
        if any(key in one.keys for one in self.plan.steps):
            self.success[key] = [
                run.right[run.finished].astype(float) for run in cut_warmup(runs, self.settings.warmup)[1]
            ]

    def _metrics(self, views: Sequence[Result]) -> dict[str, Array]:
        """Return the metrics that are compared, of each replication, the objectives among them."""
        known = measure.headline(views, self.by, self.plan.objectives)
        found = {name: np.array(known[name].samples) for name in METRICS if name in known}
        found.setdefault("wasted_share", np.zeros(len(views)))  # where nothing can be wasted
        for one in self.plan.objectives:
            name = full_name(one.metric)
            if name not in found:
                found[name] = np.array(measure.metric(views, self.by, one.metric, known).samples)
        return found

    def _tell(self, runs: Sequence[Result]) -> None:
        incidents = [run.incidents for run in runs]
        arrived = [run.arrived for run in runs]
        self.struck = [
            {cause.name: touched for cause, touched in zip(one.causes, one.touched, strict=True)} for one in incidents
        ]
        injected = {cause.name for one in incidents for cause in one.causes if cause.injected}
        for each in self.struck:
            each[ALL_FAULTS] = set().union(*(each.get(name, set()) for name in injected))
        self.missed = missed(self.plan.triggers, runs)
        number = self.replication
        story = timeline(
            runs[number],
            triggers=tuple(self.plan.triggers),
            limits=measure.limits_of(self.plan.objectives),
            start=self.starts[number],
            window=self.window,
            replication=number,
        )
        self.told = causes(incidents, arrived, self.settings.confidence), paths(incidents), story

    def _level(self, key: str, runs: Sequence[Result]) -> None:
        objectives = self.plan.objectives or STANDARD
        confidence, warmup = self.settings.confidence, self.settings.warmup
        summary = summarize(runs, confidence=confidence, warmup=warmup, objectives=objectives)
        self.levels[key] = level = Level.of(0.0, summary)
        names = ("success", "goodput", "attainment", "response_time_p95")
        used = {name: one["utilization"] for name, one in level.components.items() if "utilization" in one}
        self.rows[key] = {name: summary.metrics[name] for name in names}, used

    def result(self, seed: int, count: int) -> StudyResult:
        """Return what was found, once all variants have run."""
        assert self.told is not None, "the scenario as it is has run"
        plan = self.plan
        costs = [self._cost(one) for one in plan.switches]
        faults = [one for one in costs if one.kind == FAULT]
        if len(faults) > 1:
            together = PlannedSwitch(FAULT, ALL_FAULTS, ("faults=null",), plan.calm, "")
            costs.insert(0, self._cost(together))
        levels = [replace(self.levels[one.key], x=one.x, shown=one.shown) for one in plan.levels]
        return StudyResult(
            scenario=plan.scenario,
            seed=seed,
            replications=count,
            confidence=self.settings.confidence,
            variants=len(plan.variants),
            costs=tuple(sorted(costs, key=_dearest)),
            causes=self.told[0],
            paths=self.told[1],
            timeline=self.told[2],
            knob=plan.knob,
            levels=tuple(LevelRow(one.x, one.shown, *self.rows[one.key]) for one in plan.levels),
            breaks=first_to_break(levels, knob=plan.knob) if levels else None,
            steps=tuple(self._steps(one) for one in plan.steps),
            doubts=tuple(widest(self.doubts)),
            missed=self.missed,
        )

    def _cost(self, switch: PlannedSwitch) -> Cost:
        if switch.key is None:
            return Cost(switch.kind, switch.name, switch.changes, switch.skipped, {}, None)
        here, there = self.samples[self.plan.base], self.samples[switch.key]
        metrics = {name: self._metric(here[name], there[name]) for name in here}
        reach = None
        if switch.kind == FAULT:
            pairs = zip(self.seen[self.plan.base], self.seen[switch.key], self.struck, strict=True)
            reach = self._reach([_paired(a, b, struck.get(switch.name, set())) for a, b, struck in pairs])
        return Cost(switch.kind, switch.name, switch.changes, "", metrics, reach)

    def _metric(self, having: Array, without: Array) -> Metric:
        return Metric(self._mean(having), self._mean(without), self._mean(having - without, "paired t"))

    def _mean(self, samples: Array, method: str = "t over replications") -> Estimate:
        known = samples[np.isfinite(samples)]
        confidence = self.settings.confidence
        return mean_interval(known, confidence, method) if known.size else no_estimate(confidence)

    def _reach(self, pairs: Sequence[_Pairs]) -> Reach:
        totals = [one.struck.size for one in pairs]

        def share(of: Callable[[_Pairs], Mask]) -> Estimate:
            if not sum(totals):
                return no_estimate(self.settings.confidence)
            return pooled_proportion([of(one).sum() for one in pairs], totals, self.settings.confidence)

        def mean(of: Callable[[_Pairs], Mask]) -> Estimate:
            return self.by.ratio(
                [one.later[of(one)] for one in pairs], [np.ones(int(of(one).sum())) for one in pairs]
            ).estimate

        def count(of: Callable[[_Pairs], Mask]) -> int:
            return int(sum(one.stride * of(one).sum() for one in pairs))

        return Reach(
            tasks=sum(one.stride * one.struck.size for one in pairs),
            struck=share(lambda one: one.struck),
            failed=share(lambda one: one.failed),
            failed_unstruck=share(lambda one: one.failed & ~one.struck),
            delayed=share(lambda one: one.delayed),
            delayed_unstruck=share(lambda one: one.delayed & ~one.struck),
            delay=mean(lambda one: one.delayed),
            delay_unstruck=mean(lambda one: one.delayed & ~one.struck),
            rescued=count(lambda one: one.rescued),
            sooner=count(lambda one: one.sooner),
            unfinished=share(lambda one: one.unfinished),
        )

    def _steps(self, plan: PlannedSteps) -> StepsRow:
        each = [(x, number, runs) for x, key in zip(plan.xs, plan.keys, strict=True)
                for number, runs in enumerate(self.success[key])]  # fmt: skip
        steps = np.concatenate([np.full(won.size, float(x)) for x, _, won in each])
        groups = np.concatenate([np.full(won.size, number) for _, number, won in each])
        won = np.concatenate([won for _, _, won in each])
        confidence = self.settings.confidence
        bins = survival(steps, won, [*plan.xs, plan.xs[-1] + 1], confidence, groups)
        return StepsRow(plan.name, plan.path, bins, constant_hazard(steps, won, confidence))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The tasks that are in both variants of a replication: what became of each, and how much later it ended (s)."""

    struck: Mask
    failed: Mask
    delayed: Mask
    rescued: Mask
    sooner: Mask
    unfinished: Mask
    later: Array
    stride: int


def _paired(having: _Seen, without: _Seen, struck: set[int]) -> _Pairs:
    """Pair the tasks of the same number."""
    shared, a, b = np.intersect1d(having.tasks, without.tasks, assume_unique=True, return_indices=True)
    both = having.right[a] & without.right[b]
    x, y = having.elapsed[a], without.elapsed[b]
    return _Pairs(
        struck=np.isin(shared, np.fromiter(struck, np.int64, len(struck))),
        failed=without.right[b] & having.ended[a] & ~having.right[a],
        delayed=both & (x > (1 + LATER) * y),
        rescued=having.right[a] & without.ended[b] & ~without.right[b],
        sooner=both & (y > (1 + LATER) * x),
        unfinished=without.ended[b] & ~having.ended[a],
        later=x - y,
        stride=max(having.stride, without.stride),
    )


def _dearest(one: Cost) -> tuple[bool, bool, float, float]:
    """Order: all faults, then faults, then policies; of each those first that change success, then p95, most."""
    if not one.metrics:
        return one.kind != FAULT, True, math.inf, math.inf
    changed = (one.metrics[name].added.value for name in ("success", "response_time_p95"))
    success, p95 = (abs(value) if math.isfinite(value) else 0.0 for value in changed)
    return one.kind != FAULT, one.name != ALL_FAULTS, -round(success, 9), -p95
