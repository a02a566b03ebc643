"""The command `coordsim plan`.

Exit codes are those of the program: 0 where every load has a configuration that meets the objectives; 2 invalid input; 3 where a load
has none; 4 where one is not resolved; 130 interrupted. With -o, what was simulated is kept in a journal as it comes.

Leaves out: what it does (`models.plan`, `sim.analysis.plan`), imported only when it is called.
Checked: tests/test_plan_command.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.report.terminal import Format, progress_bar, say
from .options import (
    INCONCLUSIVE,
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
    Resume,
    ScenarioName,
    Scheduler,
    Seed,
    Sets,
    Tasks,
    check_resumed,
    interrupted,
    workers_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models.plan_options import PlanOptions
    from ..models.scenario import Scenario
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


def plan(
    context: typer.Context,
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
    from ..sim.report.plan_answers import plan_answers
    from ..sim.report.plan_tables import warnings

    check_resumed(resume, out)
    most = None if max_replications is None else str(max_replications)
    wanted = PlanOptions(decide or (), slo or (), growth, daily, factors, confidence, most)
    loaded, problem = _read(scenario, sets or (), options.overrides(seed, tasks, horizon, None), wanted)
    problem = replace(problem, frontier=problem.frontier if frontier else (), headroom=headroom)
    answers, output = plan_answers(loaded.workload.rate), Output(format, out, overwrite, quiet, context.obj or ())
    asked = {"scenario": loaded.to_digest(), "frontier": frontier, "headroom": headroom}
    if not quiet:
        say(f"{math.prod(problem.sizes):,} configurations at {len(problem.loads)} load{'s'[: len(problem.loads) > 1]}")
    crew = workers_of(workers, backend, scheduler)
    try:
        with output.journal(answers, asked, resume) as journal, progress_bar(loaded.name, quiet) as bar:
            found = find_plan(simulate_text, problem, workers=crew, journal=journal, progress=bar)
    except KeyboardInterrupt:
        raise interrupted("interrupted", out, context) from None
    output.put(answers, found, loaded, warnings=warnings(found), called=scenario, sets=sets, taken=True)
    code = {"fail": MISSED, "inconclusive": INCONCLUSIVE}.get(found.verdict)
    if code is not None:
        raise typer.Exit(code)


def _read(
    name: str, sets: Sequence[str], run: Sequence[tuple[str, str]], wanted: PlanOptions
) -> tuple[Scenario, PlanProblem[str]]:
    """Return the scenario with what the options ask for, and the problem. Raises ScenarioError with every mistake, told of the options."""
    from ..models.options import read_document
    from ..models.plan_options import asked
    from ..models.plan_problem import plan_problem
    from ..models.scenario import Scenario
    from ..sim.report.shipped import find

    loaded = Scenario.of(asked(read_document(find(name), sets, run), wanted))
    return loaded, plan_problem(loaded)
