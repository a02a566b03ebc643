"""The command `coordsim plan`.

Exit codes are those of the program: 0 where every load has a configuration that meets the objectives; 2 invalid input; 3 where a load
has none; 4 where one is not resolved; 130 interrupted. With -o, what was simulated is kept in a journal as it comes.

Leaves out: what it does (`models.plan`, `sim.analysis.plan`), imported only when it is called.
Checked: tests/test_plan_command.py.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.report.terminal import Format, progress_bar, say
from .options import (
    INCONCLUSIVE,
    INTERRUPTED,
    MISSED,
    Backend,
    BackendName,
    FormatOption,
    Horizon,
    Out,
    Output,
    Overwrite,
    Processes,
    Quiet,
    ScenarioName,
    Scheduler,
    Seed,
    Sets,
    Tasks,
    workers_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models.plan_options import PlanOptions
    from ..models.scenario import Scenario
    from ..sim.analysis.journal import FileJournal
    from ..sim.analysis.plan import PlanProblem

__all__ = ["plan"]

Decide = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH=VALUES@PRICE", help="What may be bought, as in `models.llm.replicas=1..16@$2.5/h`."),
]
Slo = Annotated[list[str] | None, typer.Option(metavar="METRIC=VALUE", help="An objective, as in `p95=2 s`.")]
Growth = Annotated[
    str | None, typer.Option(metavar="RATE/PERIOD:N", help="Plan for a load that grows, as in `10%/month:12`.")
]
Daily = Annotated[
    str | None, typer.Option(metavar="FACTORS", help="Plan each hour of a day: 24 factors, or a file of them.")
]
Factors = Annotated[str | None, typer.Option(metavar="FACTORS", help="Plan for these factors of the load.")]
Confidence = Annotated[str | None, typer.Option(metavar="SHARE", help="Of the whole plan. Default: the scenario's.")]
MaxReplications = Annotated[int | None, typer.Option(min=2, help="Of a configuration, before it is inconclusive.")]
Frontier = Annotated[bool, typer.Option("--frontier/--no-frontier", help="Plan for stricter and looser times, too.")]
Headroom = Annotated[bool, typer.Option("--headroom/--no-headroom", help="Find the load at which objectives break.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted call left in -o.")]


def plan(
    scenario: ScenarioName,
    *,
    decide: Decide = None,
    slo: Slo = None,
    growth: Growth = None,
    daily: Daily = None,
    factors: Factors = None,
    confidence: Confidence = None,
    max_replications: MaxReplications = None,
    frontier: Frontier = True,
    headroom: Headroom = True,
    sets: Sets = None,
    seed: Seed = None,
    tasks: Tasks = None,
    horizon: Horizon = None,
    workers: Processes = None,
    backend: Backend = BackendName.LOCAL,
    scheduler: Scheduler = None,
    format: FormatOption = Format.TABLE,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Find the cheapest configuration that meets the objectives, how near its limit it is, and what limits next."""
    from ..models import options
    from ..models.plan_options import PlanOptions
    from ..models.variants import simulate_text
    from ..sim.analysis.plan import find_plan
    from ..sim.report.plan_answers import PlanAnswers
    from ..sim.report.plan_tables import warnings

    if resume and out is None:
        raise typer.BadParameter("goes with -o: what an interrupted call left is there", param_hint="--resume")
    most = None if max_replications is None else str(max_replications)
    wanted = PlanOptions(decide or (), slo or (), growth, daily, factors, confidence, most)
    loaded, problem = _read(scenario, sets or (), options.overrides(seed, tasks, horizon, None), wanted)
    problem = replace(problem, frontier=problem.frontier if frontier else (), headroom=headroom)
    answers = PlanAnswers.of(loaded.workload.rate, resume)
    output = Output(format, out, overwrite or resume, quiet)
    output.check_free(answers)
    if not quiet:
        say(f"{math.prod(problem.sizes):,} configurations at {len(problem.loads)} load{'s'[: len(problem.loads) > 1]}")
    crew = workers_of(workers, backend, scheduler)
    try:
        with _journal(out, resume) as journal, progress_bar(loaded.name, quiet) as bar:
            found = find_plan(simulate_text, problem, workers=crew, journal=journal, progress=bar)
    except KeyboardInterrupt:
        raise typer.Exit(_interrupted(out)) from None
    output.put(replace(answers, own=True), found, loaded, warnings=warnings(found), called=scenario, sets=sets)
    code = {"fail": MISSED, "inconclusive": INCONCLUSIVE}.get(found.verdict)
    if code is not None:
        raise typer.Exit(code)


def _read(
    name: str, sets: Sequence[str], run: Sequence[tuple[str, str]], wanted: PlanOptions
) -> tuple[Scenario, PlanProblem[str]]:
    """Return the scenario with what the options ask for, and the problem. Raises ScenarioError with every mistake, told of the options."""
    from ..models.options import read_document
    from ..models.plan_options import asked, told_of_options
    from ..models.plan_problem import plan_problem
    from ..models.scenario import Scenario
    from ..sim.engine.errors import ScenarioError
    from ..sim.report.shipped import find

    document = read_document(find(name), sets, run)
    try:
        loaded = Scenario.of(asked(document, wanted))
        return loaded, plan_problem(loaded)
    except ScenarioError as error:
        raise told_of_options(error) from None


@contextmanager
def _journal(out: Path | None, resume: bool) -> Iterator[FileJournal | None]:
    """Open the journal of a folder; what an earlier plan left there is gone, unless this one goes on with it."""
    from ..sim.analysis.journal import FileJournal
    from ..sim.report.plan_answers import JOURNAL

    if out is None:
        yield None
        return
    if not resume:
        (out / JOURNAL).unlink(missing_ok=True)
    with FileJournal(out / JOURNAL) as journal:
        yield journal


def _interrupted(out: Path | None) -> int:
    """Say what is kept, and how to go on; return the exit code."""
    if out is None:
        return say("interrupted: nothing is kept; with -o a plan can be gone on with", INTERRUPTED)
    told = shlex.quote(str(out))
    return say(
        f"interrupted: what was simulated is in {out}; go on with the same command and `-o {told} --resume`",
        INTERRUPTED,
    )
