"""Run replications of a scenario: a fixed number, or as many as a precision needs; in this process or in many.

A replication is a pure function of (scenario, seed, number), so results do not depend on how many workers there are or
who ends first. `simulate` is an argument: any model will do.

Leaves out: clusters; resuming from a run folder (pass `finished` to go on from results in memory).
Checked: tests/test_replicate.py.
Source: the sequential procedure is Law, Simulation Modeling and Analysis, 5th ed., 9.4.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from ..engine.errors import CoordsimError
from .jobs import Crew, Simulate, Workers, opened, run_jobs
from .result import Result
from .slo import Objective, full_name, parse_metric
from .statistics import Estimate, Precision, precision
from .summarize import Cut, summarize
from .summary import Reached, Summary

S = TypeVar("S")

LEAST = 5  # replications before their spread is believed
DEFAULT_PRECISION = 0.05
STEERING = ("response_time_mean", "response_time_p95", "coordination_share")


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides which numbers come out, beside the scenario and the seed.

    `replications` is a number, or 'auto' for as many as `precision` needs: a relative error (0.05 when not given) of
    the mean and p95 of T_total, the share of coordination, and what `objectives` and `metrics` speak of. With both, the number is the
    least. `warmup` is as in `summarize`. The first `span_replications` keep `spans`: they are examples, not statistics.
    """

    replications: int | Literal["auto"] = 10
    precision: float | None = None
    max_replications: int = 200
    warmup: Cut = "auto"
    objectives: tuple[Objective, ...] = ()
    metrics: tuple[str, ...] = ()
    confidence: float = 0.95
    spans: str = "none"
    span_replications: int = 1

    def __post_init__(self) -> None:
        if self.replications != "auto" and self.replications < 1:
            raise ValueError(f"`replications` must be at least 1 or 'auto', but got {self.replications}")
        if self.precision is not None and not 0 < self.precision < math.inf:
            raise ValueError(f"`precision` must be a share above 0, such as 0.05, but got {self.precision}")
        if self.max_replications < LEAST:
            raise ValueError(f"`max_replications` must be at least {LEAST}, but got {self.max_replications}")

    @property
    def target(self) -> float | None:
        """The relative error to reach; None for a fixed number of replications."""
        return self.precision or (DEFAULT_PRECISION if self.replications == "auto" else None)

    @property
    def first_round(self) -> int:
        """How many replications run before anything is looked at."""
        if self.replications == "auto":
            return LEAST
        return self.replications if self.target is None else max(LEAST, self.replications)

    def summarize(self, results: Sequence[Result]) -> Summary:
        """Return the summary of results, as these settings have it."""
        return summarize(
            results,
            confidence=self.confidence,
            warmup=self.warmup,
            objectives=self.objectives,
            metrics=self.metrics,
        )

    def spans_of(self, replication: int) -> str:
        """Return what spans a replication keeps."""
        return self.spans if replication < self.span_replications else "none"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `planned` may still grow, and `estimate` is of mean T_total after a round, else None.

    `latest` is the replication that ended just now; None after a round. Of a study, `cells` are (done, all), and `estimate` is of
    `metric` in the cell `label`, which ended last.
    """

    done: int
    planned: int
    estimate: Estimate | None = None
    latest: Result | None = None
    cells: tuple[int, int] | None = None
    metric: str = "response_time_mean"
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The replications of a scenario, and their summary."""

    results: tuple[Result, ...]
    summary: Summary


class Interrupted(CoordsimError):
    """The user stopped the run; `results` are the replications that were complete, in order."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = tuple(results)
        super().__init__(f"interrupted; {len(self.results)} replications are complete")


def replicate(
    simulate: Simulate[S],
    scenario: S,
    *,
    seed: int,
    settings: Settings | None = None,
    workers: int | Workers | Crew = 1,
    progress: Callable[[Progress], None] | None = None,
    finished: Sequence[Result] = (),
) -> Run:
    """Run the replications, `workers` at a time, and sum them up.

    `progress` is called after every replication and every round. `finished` are results to go on from.
    Raises Interrupted on a keyboard interrupt, after stopping the workers, and WorkerError when one dies.
    """
    chosen = settings or Settings()
    results = list(finished)

    try:
        with opened(workers) as crew:

            def run(numbers: range) -> Generator[Result, None, None]:
                return run_jobs(
                    simulate, [(scenario, seed, number, chosen.spans_of(number)) for number in numbers], crew
                )

            summary = _rounds(run, chosen, results, progress or (lambda _progress: None))
    except KeyboardInterrupt:
        raise Interrupted(results) from None
    return Run(tuple(results), summary)


def _rounds(
    run: Callable[[range], Generator[Result, None, None]],
    settings: Settings,
    results: list[Result],
    tell: Callable[[Progress], None],
) -> Summary:
    """Add replications to `results`, round by round, until they are enough; return their summary."""
    planned = max(settings.first_round, len(results))
    while True:
        with closing(run(range(len(results), planned))) as fresh:
            for result in fresh:
                results.append(result)
                tell(Progress(len(results), planned, latest=result))
        summary, planned = judge(results, settings)
        tell(Progress(len(results), len(results), summary.metrics["response_time_mean"]))
        if planned == len(results):
            return summary


def judge(results: Sequence[Result], settings: Settings) -> tuple[Summary, int]:
    """Return the summary of a round, and how many replications there shall be: as many as there are when they are enough."""
    count, summary = len(results), settings.summarize(results)
    found = _how_precise(summary, settings)
    if found is None:
        return summary, count
    if found.reached or count >= settings.max_replications:
        return _told(summary, found), count
    return summary, min(count + found.more, settings.max_replications)


def _how_precise(summary: Summary, settings: Settings) -> Precision | None:
    """Return how far the metrics that steer are from the target; None when there is no target or nothing to steer by."""
    if settings.target is None:
        return None
    estimates = {name: summary.metrics[name] for name in (*STEERING, *map(full_name, settings.metrics))}
    # The greatest of many values keeps growing with their number: nothing to wait for.
    estimates |= {one.metric: one.estimate for one in summary.objectives if parse_metric(one.metric).statistic != "max"}
    known = {name: one for name, one in estimates.items() if not math.isnan(one.value)}
    return precision(known, settings.target) if known else None


def _told(summary: Summary, found: Precision) -> Summary:
    """Return the summary that says what precision was reached."""
    reached = Reached(found.target, found.reached, found.worst, found.relative_error)
    told = replace(summary, precision=reached)
    if found.reached:
        return told
    warning = (
        f"a precision of {100 * found.target:g} % was not reached in {summary.replications} replications: {found.worst} is "
        f"known within {100 * found.relative_error:.2g} %; try `coordsim run SCENARIO --precision "
        f"{100 * found.relative_error:.2g}%`, or longer replications"
    )
    return replace(told, warnings=(*summary.warnings, warning))
