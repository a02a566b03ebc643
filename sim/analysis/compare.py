"""Compare two variants of one system: run the pairs that a plan names, and measure savings.

Both run with one seed, so the draws of a task are the same under both: each replication gives a pair of numbers, and the spread of
their differences gives the interval. With a seed of its own for the variant they are independent instead.

Leaves out: how variants are made (`models.compare`); what is measured (`savings`), and by which intervals (`contrast`); shares of a
policy in interactions of several (Shapley), which would take 2^n variants; sequential stopping.
Checked: tests/test_compare.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ..engine.errors import CoordsimError
from ..profile.law import widest
from .comparison import (
    Ablation,
    ByTask,
    Change,
    ComparisonResult,
    Metric,
    Part,
    Point,
    Region,
    Saving,
    Switch,
)
from .contrast import Contrast
from .jobs import Simulate, Workers, run_jobs
from .replicate import Progress, Settings
from .result import Result
from .savings import TOLERANCE, Pair, align, by_task, more_is_better, name_in_full, saving, tables
from .statistics import bonferroni, no_estimate
from .summarize import cut_warmup

S = TypeVar("S")


class ComparisonInterrupted(CoordsimError):
    """The user stopped a comparison after `done` of `total` runs; `result` holds what was complete, None before two pairs were."""

    def __init__(self, result: ComparisonResult | None, done: int, total: int) -> None:
        self.result = result
        super().__init__(f"interrupted; {done} of {total} runs are complete")


@dataclass(frozen=True, slots=True)
class PlannedSwitch:
    """A policy to switch: `alone` and `last` are keys of `Plan.variants`, None where `reasons` say why there is none."""

    policy: str
    baseline: str
    variant: str
    alone: str | None
    last: str | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point of the grid: values as text, and the keys of both variants there."""

    values: tuple[str, ...]
    baseline: str
    variant: str


@dataclass(frozen=True, slots=True)
class Plan(Generic[S]):
    """What to run: `variants` by key, each run once however many comparisons it is in; `main` are the two in question.

    `metric` is the declared one, by an objective's name, and `tolerance` the share of it that counts as nothing. `seed_b` is the
    seed of the variant's side where the two are not paired. `same_tasks`: that the n-th task asks for the same under both.
    """

    scenario: str
    names: tuple[str, str]
    variants: dict[str, S]
    main: tuple[str, str]
    switches: tuple[PlannedSwitch, ...] | None = None
    factors: tuple[str, ...] = ()
    points: tuple[PlannedPoint, ...] = ()
    metric: str = "mean"
    tolerance: float = TOLERANCE
    seed_b: int | None = None
    same_tasks: bool = True
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def paired(self) -> bool:
        """Whether both run with one seed."""
        return self.seed_b is None


def run_plan(
    simulate: Simulate[S],
    plan: Plan[S],
    *,
    seed: int,
    settings: Settings,
    workers: int | Workers = 1,
    progress: Callable[[Progress], None] | None = None,
) -> ComparisonResult:
    """Run every replication of every variant, `workers` at a time, and compare.

    Of `settings` the number of replications (no 'auto'), warm-up, objectives and confidence count. No number depends on `workers`.
    Raises ComparisonInterrupted on a keyboard interrupt, after stopping the workers, and WorkerError when one dies.
    """
    count = settings.replications
    if count == "auto":
        raise ValueError("a comparison takes a number of replications, but got 'auto'")
    collected = _Collected(plan, settings, count, seed)
    runs = collected.runs_in_order()
    jobs = [(plan.variants[key], own, number, "none") for (key, own), number in runs]
    tell = progress or (lambda _progress: None)
    tell(Progress(0, len(jobs)))
    done = 0
    try:
        with closing(run_jobs(simulate, jobs, workers)) as fresh:
            for result in fresh:
                collected.add(runs[done][0], result)
                done += 1
                tell(Progress(done, len(jobs)))
    except KeyboardInterrupt:
        collected.cut_short()
        raise ComparisonInterrupted(collected.result(interrupted=True), done, len(jobs)) from None
    found = collected.result()
    assert found is not None, "all variants have run"
    return found


def _unseen(names: Sequence[str], whole: Sequence[Sequence[Result]], seen: Sequence[Sequence[Result]]) -> Iterator[str]:
    """Yield under which of both a warm-up left no task that was done, though there were some."""
    for name, runs, views in zip(names, whole, seen, strict=True):
        if any(run.done.any() for run in runs) and not any(view.done.any() for view in views):
            yield (
                f"Every task that was done under {name} came before the warm-up ended, and counts for nothing: try more "
                "`--tasks`, or a `workload.warmup` of 0 s with `--set`."
            )


LEAST_PAIRS = 2  # of an interrupted comparison: one has no interval

_Slot = tuple[str, int]  # ("main" | "alone" | "last" | "point", number)
_Side = tuple[str, int]  # a key and a seed


class _Collected:
    """Results as they come. A pair of variants is compared once both are complete; results no pair needs are dropped."""

    def __init__(self, plan: Plan[Any], settings: Settings, count: int, seed: int) -> None:
        self.plan, self.settings, self.count, self.seed = plan, settings, count, seed
        self.metric = name_in_full(plan.metric)
        self.runs: dict[_Side, list[Result]] = {}
        self.savings: dict[_Slot, Saving] = {}
        self.details: tuple[tuple[Metric, ...], tuple[Part, ...], Part, ByTask | None, tuple[str, ...]] | None = None
        self.starts: list[float] = []
        self.notes: tuple[str, ...] = ()
        self.each = bonferroni(settings.confidence, max(1, len(plan.points)))
        pairs: dict[_Slot, tuple[str, str]] = {("main", 0): plan.main}
        for number, switch in enumerate(plan.switches or ()):
            if switch.alone is not None:
                pairs["alone", number] = (plan.main[0], switch.alone)
            if switch.last is not None:
                pairs["last", number] = (switch.last, plan.main[1])
        for number, point in enumerate(plan.points):
            pairs["point", number] = (point.baseline, point.variant)
        other = seed if plan.seed_b is None else plan.seed_b
        self.pairs = {slot: ((a, seed), (b, other)) for slot, (a, b) in pairs.items()}
        self.sides = list(dict.fromkeys(side for pair in self.pairs.values() for side in pair))
        self.main = tuple(dict.fromkeys(self.pairs["main", 0]))

    def runs_in_order(self) -> list[tuple[_Side, int]]:
        """Return what to run: the main pair side by side, so that an interrupt leaves whole pairs of it, then the others one by one."""
        others = [side for side in self.sides if side not in self.main]
        return [(side, number) for number in range(self.count) for side in self.main] + [
            (side, number) for side in others for number in range(self.count)
        ]

    def cut_short(self) -> None:
        """Compare the pairs of the main comparison that are complete, if it is not and they are two or more."""
        whole = min(len(self.runs.get(side, ())) for side in self.main)
        if self.details is None and whole >= LEAST_PAIRS:
            self.count = whole
            for side in self.main:
                self.runs[side] = self.runs[side][:whole]
            self._compare(("main", 0), *self.pairs["main", 0])

    def add(self, side: _Side, result: Result) -> None:
        """Take a result; compare what is complete with it."""
        runs = self.runs.setdefault(side, [])
        runs.append(result)
        if len(runs) < self.count:
            return
        ready = [slot for slot, pair in self.pairs.items() if all(self._complete(one) for one in pair)]
        for slot in ready:  # the main pair first, since its warm-up holds for the policies
            self._compare(slot, *self.pairs.pop(slot))
        wanted = {one for pair in self.pairs.values() for one in pair}
        self.runs = {name: kept for name, kept in self.runs.items() if name in wanted or not self._complete(name)}

    def _complete(self, side: _Side) -> bool:
        return len(self.runs.get(side, ())) == self.count

    def _compare(self, slot: _Slot, baseline: _Side, variant: _Side) -> None:
        kind, plan = slot[0], self.plan
        before, after = self.runs[baseline], self.runs[variant]
        same = self.starts if kind in ("alone", "last") else None
        if plan.same_tasks:
            a, b = align(before, after, self.settings.warmup, same)
        else:
            a, b = (cut_warmup(runs, self.settings.warmup)[1] for runs in (before, after))
        confidence = self.each if kind == "point" else self.settings.confidence
        pair = Pair(a, b, confidence, plan.paired, self.settings.objectives)
        self.savings[slot] = saving(pair, self.metric, plan.tolerance)
        if kind == "main":
            self.starts = [run.start for run in a]
            doubts = tuple(widest(doubt for run in (*before, *after) for doubt in run.doubts))
            tasks = by_task(pair) if plan.paired and plan.same_tasks else None
            self.details = (*tables(pair, self.metric), tasks, doubts)
            self.notes = tuple(_unseen(plan.names, (before, after), (a, b)))

    def result(self, interrupted: bool = False) -> ComparisonResult | None:
        """Return what was compared; None before the main pair was."""
        if self.details is None:
            return None
        table, parts, total, tasks, doubts = self.details
        plan = self.plan
        return ComparisonResult(
            scenario=plan.scenario,
            baseline=plan.names[0],
            variant=plan.names[1],
            metric=self.metric,
            more_is_better=more_is_better(self.metric),
            seed=self.seed,
            seed_b=self.seed if plan.seed_b is None else plan.seed_b,
            paired=plan.paired,
            replications=self.count,
            confidence=self.settings.confidence,
            tolerance=plan.tolerance,
            changes=plan.changes,
            saving=self.savings["main", 0],
            metrics=table,
            categories=parts,
            total=total,
            tasks=tasks,
            ablation=self._ablation(),
            region=self._region(),
            doubts=doubts,
            notes=(*plan.notes, *self.notes),
            interrupted=interrupted,
        )

    def _ablation(self) -> Ablation | None:
        if self.plan.switches is None:
            return None
        switches = [
            Switch(
                one.policy,
                one.baseline,
                one.variant,
                self.savings.get(("alone", number)),
                self.savings.get(("last", number)),
                one.reasons,
            )
            for number, one in enumerate(self.plan.switches)
        ]
        alone = [np.array(one.alone.samples) for one in switches if one.alone is not None]
        added = np.sum(alone, axis=0) if alone else np.zeros(self.count)
        whole = np.array(self.savings["main", 0].samples)
        over, nothing = Contrast(self.settings.confidence), np.zeros(self.count)
        planned = [("alone", number) for number, one in enumerate(self.plan.switches) if one.alone is not None]
        if any(slot not in self.savings for slot in planned):
            unknown = no_estimate(self.settings.confidence, "interrupted")  # a sum of some switches is not that of all
            return Ablation(tuple(switches), unknown, unknown)
        return Ablation(tuple(switches), over.difference(added, nothing), over.difference(whole - added, nothing))

    def _region(self) -> Region | None:
        if not self.plan.points:
            return None
        points = tuple(
            Point(one.values, self.savings["point", number])
            for number, one in enumerate(self.plan.points)
            if ("point", number) in self.savings
        )
        return Region(self.plan.factors, points, len(self.plan.points), self.each)
