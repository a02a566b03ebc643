"""Trials of a capacity plan: each a sequential test of whether a configuration meets its objectives at a load.

Replications of a trial start at `first_round` and double until every objective passes, one fails, or there are `max_replications`; then it
is inconclusive. *The stated confidence is that of the whole plan*: with N configurations and loads that bounds do not exclude, L looks at
each and m objectives, each interval is taken with an error of (1 - confidence) / (N L m), so that by Bonferroni's inequality all
intervals of all looks hold at once with the stated confidence. Then no verdict is wrong, whichever trials the search chose, in
whatever order, and whatever thresholds they were judged by (so the frontier is covered too). The split is fixed beforehand: trials
share their draws, so levels by order of trial, as in alpha spending, would depend on what they judge.

Results of trials at the greatest load are kept, the last `KEPT` tasks of them, so that the frontier can go on where a trial ended; where
they were let go, its replications run again, and count again.

What calls cost an hour is what they cost a task times the planned rate of tasks, both over the first `LEAST` replications of each
trial: these meet the same draws, so that no configuration looks dearer for having run longer. Where the paired difference of two
holds zero, they count as equal, and what is decided settles which is cheaper.

Leaves out: that a quantile of a short run is biased, and its spread over replications not quite normal (intervals are of the expected
number of a run as long as these, not of an endless one).
Checked: tests/test_plan.py, tests/test_plan_cost.py, by the share of wrong choices among many plans.
Source: Bonferroni's inequality, Law, Simulation Modeling and Analysis, 5th ed., 9.7; looks at accumulating data as in Jennison and
Turnbull, Group Sequential Methods (2000), ch. 2, split evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from ..engine.errors import CoordsimError, ScenarioError
from ..engine.ledger import CATEGORIES
from ..engine.watchdog import StuckError
from .cells import Cell, Journal, Outcome
from .jobs import Crew, Simulate, Workers, run_jobs
from .planned import Load, Point, QueueingBound, Trial, Variable
from .replicate import LEAST, Progress, Settings
from .result import Result
from .slo import Objective, Verdict, full_name, overall, parse_metric, verdict
from .statistics import mean_interval
from .summary import Judged, Summary, unit_of

S = TypeVar("S")

FRONTIER = (0.5, 0.75, 1.5, 2.0)
HOUR = 3600.0  # seconds
STEP = 1e-9  # $ an hour that a step of capacity counts, where none has a price: below any price
KEPT = 250_000  # tasks whose results are kept: some 500 bytes each


def metered(summary: Summary, rate: float | None) -> tuple[float, ...]:
    """Return what calls cost ($ an hour) in each of the first `LEAST` replications; nothing where it is not known in all of them.

    It is the mean cost of a task times the tasks of an hour, at the planned `rate` (1/s); without one, at the throughput of the replication.
    """
    costs = summary.samples.get("cost_mean", ())[:LEAST]
    rates = summary.samples.get("throughput", ())[:LEAST] if rate is None else (rate,) * len(costs)
    found = tuple(cost * tasks * HOUR for cost, tasks in zip(costs, rates, strict=False))
    return found if len(found) == LEAST and all(map(math.isfinite, found)) else ()


@dataclass(frozen=True, kw_only=True)
class PlanProblem(Generic[S]):
    """What to plan: variables with their values and costs, objectives, loads, and how to simulate and bound a configuration.

    `variant(point, load)` returns what `simulate` takes as its scenario (as text it says all of it), and `bound(point, load)`
    what queueing theory says of it by `objectives`; both may raise ScenarioError where values do not go together. `bound_by` is
    `bound` by other thresholds of the same metrics, for the frontier; without it, only what is saturated stays excluded there.
    `rate` is that of tasks at a factor of 1 (1/s; None where it depends on how fast they end), and `expected(load)` about how many tasks a replication has, where that is
    known beforehand. `confidence` is that of the plan as a whole. Of `settings`, `warmup`
    and `max_replications` count, and `replications` are those of each configuration in the grid that the search is compared with
    ('auto': 10). `frontier` are the factors of the objectives on time to plan for besides, at the greatest load (none: empty);
    `headroom` tells whether to look for the load at which objectives break.
    """

    scenario: str
    variables: tuple[Variable, ...]
    objectives: tuple[Objective, ...]
    loads: tuple[Load, ...]
    seed: int
    settings: Settings
    variant: Callable[[Point, Load], S]
    bound: Callable[[Point, Load], QueueingBound]
    bound_by: Callable[[Point, Load, tuple[Objective, ...]], QueueingBound] | None = None
    rate: float | None = None
    expected: Callable[[Load], float | None] | None = None
    confidence: float = 0.95
    first_round: int = LEAST
    frontier: tuple[float, ...] = FRONTIER
    headroom: bool = True

    def __post_init__(self) -> None:
        if not (self.variables and self.objectives and self.loads):
            raise ValueError("a plan needs variables, objectives and loads")
        most = self.settings.max_replications
        if not LEAST <= self.first_round <= most:
            raise ValueError(
                f"{LEAST} <= `first_round` <= `max_replications` must hold, got {self.first_round}, {most}"
            )
        if not 0 < self.confidence < 1:
            raise ValueError(f"`confidence` must be between 0 and 1, got {self.confidence}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each variable has."""
        return tuple(len(one.values) for one in self.variables)

    @property
    def grid_replications(self) -> int:
        """How many replications of each configuration the grid would run."""
        given = self.settings.replications
        return 10 if given == "auto" else given

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of replications at which a trial is looked at."""
        found = [self.first_round]
        while found[-1] < self.settings.max_replications:
            found.append(min(2 * found[-1], self.settings.max_replications))
        return tuple(found)

    def fixed_cost(self, point: Point) -> float:
        """Return what a configuration costs without what its calls cost ($ an hour)."""
        return math.fsum(one.costs[at] for one, at in zip(self.variables, point, strict=True))

    @property
    def is_free(self) -> bool:
        """Whether nothing that is decided has a price."""
        return all(cost == 0 for one in self.variables for cost in one.costs)

    def rank(self, point: Point, cost: float) -> float:
        """Return what a configuration of this cost is compared by: where nothing has a price, the fewest steps of capacity are cheapest."""
        steps = sum(at for one, at in zip(self.variables, point, strict=True) if one.monotone)
        return cost + STEP * steps if self.is_free else cost

    def level(self, trials: int) -> float:
        """Return the confidence of each interval, so that all of so many trials hold at once with `confidence`."""
        return 1 - (1 - self.confidence) / (max(trials, 1) * len(self.looks) * len(self.objectives))


def unit(metric: str) -> str:
    """Return the unit of an objective's threshold: `unit_of`, and seconds for the time in a category.

    >>> unit("queueing_p95"), unit("mean"), unit("success")
    ('s', 's', 'share')
    """
    return "s" if parse_metric(metric).quantity in CATEGORIES else unit_of(full_name(metric))


class Invalid(Exception):
    """A configuration that cannot be: its values do not go together, or its runs fail. Says why."""


class Spent(Exception):
    """The next look would take more tasks than there are left to simulate."""


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen of a configuration at a load: the trial, and the summary of its last look (None: nothing simulated)."""

    trial: Trial
    summary: Summary | None

    def verdict(self, objectives: Sequence[Objective]) -> Verdict:
        """Return the verdict by other thresholds of the same metrics."""
        return overall(one.verdict for one in rejudged(self.trial.judged, objectives))


def rejudged(judged: Sequence[Judged], objectives: Sequence[Objective]) -> tuple[Judged, ...]:
    """Return the same estimates, judged by other thresholds."""
    return tuple(
        replace(one, threshold=wanted.threshold, verdict=verdict(one.estimate, wanted))
        for one, wanted in zip(judged, objectives, strict=True)
    )


@dataclass
class Trials(Generic[S]):
    """Runs trials and remembers them.

    `tasks` were simulated so far, and may be up to `most` (what is told of beforehand: a replication may have more than was
    expected); `possible` is how many trials there may be at most.
    """

    simulate: Simulate[S]
    problem: PlanProblem[S]
    workers: int | Workers | Crew = 1
    journal: Journal | None = None
    progress: Callable[[Progress], None] | None = None
    possible: int = 0
    tasks: int = 0
    most: float = math.inf
    records: dict[tuple[Point, float], Record] = field(default_factory=dict)
    invalid: dict[tuple[Point, float | None], str] = field(default_factory=dict)  # at a load; None: at any
    done: int = 0
    _metered: dict[float, list[tuple[float, ...]]] = field(
        default_factory=dict
    )  # what calls cost that differs, by load
    _held: dict[tuple[Point, float], int] = field(
        default_factory=dict
    )  # tasks of trials that can go on where they ended
    _results: dict[tuple[Point, float], list[Result]] = field(default_factory=dict)  # of these, what no journal had

    def bound(self, point: Point, load: Load) -> QueueingBound:
        """Return what queueing theory says. Raises Invalid."""
        return self._bound(lambda: self.problem.bound(point, load), point)

    def excludes(self, point: Point, load: Load, objectives: tuple[Objective, ...]) -> bool:
        """Return whether bounds exclude a configuration by these thresholds. Raises Invalid."""
        bound, by = self.bound(point, load), self.problem.bound_by
        if objectives == self.problem.objectives or not bound.excludes:
            return bool(bound.excludes)
        if by is not None:
            return bool(self._bound(lambda: by(point, load, objectives), point).excludes)
        return any((one.utilization or 0.0) >= 1 for one in bound.resources)

    def _bound(self, ask: Callable[[], QueueingBound], point: Point) -> QueueingBound:
        if (point, None) in self.invalid:
            raise Invalid(self.invalid[point, None])
        try:
            return ask()
        except ScenarioError as error:
            raise self._refuse(point, error) from None

    def exclude(self, point: Point, load: Load) -> None:
        """Keep a configuration that its bound excludes: a trial without a simulation."""
        cost = self.problem.fixed_cost(point)
        trial = Trial(point, load, self.bound(point, load), "fail", (), cost, 0.0, 0, 0, "", math.nan)
        self.records.setdefault((point, load.factor), Record(trial, None))

    @property
    def all(self) -> tuple[Trial, ...]:
        """All trials at the loads that are planned for, in order."""
        planned = {load.factor for load in self.problem.loads}
        return tuple(record.trial for record in self.records.values() if record.trial.load.factor in planned)

    def find(self, point: Point, load: Load) -> Record | None:
        """Return what was simulated of a configuration; None if nothing."""
        found = self.records.get((point, load.factor))
        return None if found is None or found.summary is None else found

    def judge(self, point: Point, load: Load, objectives: tuple[Objective, ...] | None = None) -> Record:
        """Simulate a configuration until its verdict by `objectives` is known, or to the last look.

        The record keeps the verdict by the problem's objectives. Raises Invalid, and Spent before a look that is too much.
        """
        wanted = self.problem.objectives if objectives is None else objectives
        record = self.find(point, load)
        if record is not None and record.verdict(wanted) != "inconclusive":
            return record
        bound = self.bound(point, load) if record is None else record.trial.bound
        at = (point, load.factor)
        begun = 0 if record is None else record.trial.replications
        spent = 0 if record is None else record.trial.tasks
        seen, results = self._held.pop(at, 0), self._results.pop(at, [])
        confidence = self.problem.level(self.possible)
        for count in self.problem.looks:
            if count <= begun:
                continue
            try:
                summary = self.look(point, load, count, results, seen, confidence)
            except Spent:
                self._keep(at, seen, results)
                raise
            spent, seen = spent + summary.tasks.arrived - seen, summary.tasks.arrived
            record = self.records[at] = self._record(point, load, bound, summary, spent)
            if record.verdict(wanted) != "inconclusive":
                break
        self._keep(at, seen, results)
        assert record is not None
        return record

    def _keep(self, at: tuple[Point, float], tasks: int, results: list[Result]) -> None:
        """Keep the results of a trial at the greatest load, and let the oldest go."""
        if tasks and at[1] == max(load.factor for load in self.problem.loads):
            self._held[at], self._results[at] = tasks, results
        while sum(self._held.values()) > KEPT:
            oldest = next(iter(self._held))
            del self._held[oldest], self._results[oldest]

    def look(
        self, point: Point, load: Load, count: int, results: list[Result], seen: int, confidence: float
    ) -> Summary:
        """Return the summary of the first `count` replications; those not in `results` run, unless the journal has the look.

        `seen` tasks of it count already. Raises Invalid, and Spent where the others are too many.
        """
        expected = self._tasks_of(load)
        if self.tasks + (0.0 if expected is None else count * expected - seen) > self.most:
            raise Spent
        summary = self._looked(point, load, count, results, confidence)
        self.tasks += summary.tasks.arrived - seen
        return summary

    def _tasks_of(self, load: Load) -> float | None:
        """Return about how many tasks a replication at a load has, from those that ran; None where nothing is known."""
        if self.problem.expected is not None and (told := self.problem.expected(load)) is not None:
            return told
        seen = [one.summary.tasks.arrived / one.summary.replications / one.trial.load.factor
                for one in self.records.values() if one.summary is not None]  # fmt: skip
        return load.factor * math.fsum(seen) / len(seen) if seen else None

    def _looked(self, point: Point, load: Load, count: int, results: list[Result], confidence: float) -> Summary:
        try:
            key = self.problem.variant(point, load)
        except ScenarioError as error:
            raise self._refuse(point, error) from None
        settings = replace(
            self.problem.settings,
            replications=count,
            precision=None,
            objectives=self.problem.objectives,
            confidence=confidence,
        )
        cell = Cell(str(key), key, self.problem.seed)
        found = None if self.journal is None else self.journal.find(cell, settings)
        if found is not None and found.summary is not None:
            return found.summary
        jobs = [(key, self.problem.seed, number, "none") for number in range(len(results), count)]
        before = sum(one.arrived for one in results)
        try:
            with closing(run_jobs(self.simulate, jobs, self.workers)) as fresh:
                for result in fresh:
                    results.append(result)
                    self.done += 1
                    if self.progress is not None:
                        self.progress(Progress(self.done, self.done + count - len(results), latest=result))
        except (ScenarioError, StuckError) as error:
            # A run that fails says nothing of other loads; any other error is none of the configuration.
            raise self._refuse(point, error, load) from None
        summary = settings.summarize(results)
        if self.journal is not None:
            self.journal.keep(cell, settings, Outcome(summary, "", summary.tasks.arrived - before))
        return summary

    def _refuse(self, point: Point, error: CoordsimError, load: Load | None = None) -> Invalid:
        self.invalid[point, None if load is None else load.factor] = str(error)
        return Invalid(str(error))

    def _usage(self, values: tuple[float, ...], load: Load) -> float:
        """Return what calls cost ($ an hour): of the first configuration seen from which this one does not differ beyond the noise."""
        seen = self._metered.setdefault(load.factor, [])
        for other in seen:
            apart = mean_interval([b - a for a, b in zip(other, values, strict=True)], self.problem.confidence)
            if apart.low <= 0 <= apart.high:
                return math.fsum(other) / len(other)
        seen.append(values)
        return math.fsum(values) / len(values)

    def _record(self, point: Point, load: Load, bound: QueueingBound, summary: Summary, tasks: int) -> Record:
        rate = self.problem.rate
        values = metered(summary, None if rate is None else rate * load.factor)
        usage = self._usage(values, load) if any(values) else 0.0
        utilized = [
            (one.metrics["utilization"].value, one.name) for one in summary.resources if "utilization" in one.metrics
        ]
        known = [one for one in utilized if math.isfinite(one[0])]
        utilization, busiest = max(known, key=lambda one: one[0], default=(math.nan, ""))
        judged = rejudged(summary.objectives, self.problem.objectives)
        trial = Trial(
            point=point,
            load=load,
            bound=bound,
            verdict=overall(one.verdict for one in judged),
            judged=judged,
            cost=self.problem.fixed_cost(point) + usage,
            usage=usage,
            replications=summary.replications,
            tasks=tasks,
            busiest=busiest,
            utilization=utilization,
            metered=mean_interval(values, self.problem.confidence) if any(values) else None,
            times=summary.times,
        )
        return Record(trial, summary)
