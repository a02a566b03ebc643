"""The command `coordsim sensitivity`.

Exit codes are those of the program: 0; 2 invalid input; 4 where nothing could be measured; 130 interrupted, with finished cells kept by `-o`.

Leaves out: what it does (`models.sensitivity`, `sim.analysis.sensitivity`), imported only when it is called.
Checked: tests/test_sensitivity_command.py.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.report.terminal import Format, progress_bar, say
from .options import (
    INCONCLUSIVE,
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
    from ..models.sensitivity import Asked
    from ..sim.analysis.sensitivity import SensitivityResult
    from ..sim.report.answers import Answers

__all__ = ["sensitivity"]


class MethodName(StrEnum):
    """How factors vary: one at a time, or all together."""

    TORNADO = "tornado"
    MORRIS = "morris"
    SOBOL = "sobol"


Factors = Annotated[
    list[str] | None,
    typer.Option(
        "--factor",
        metavar="NAME[=RANGE]",
        help="A lever or a path; 200 ms..1 s, or ±20%. Several: each. Default: all levers.",
    ),
]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME", help="Such as p95, cost_mean. Default: mean and p95.")
]
By = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Range around what is now. Default: 5 %; 20 % for all at once.")
]
Method = Annotated[MethodName | None, typer.Option(help="One at a time, Morris screening, or Sobol' indices.")]
Trajectories = Annotated[int | None, typer.Option(min=2, help="Of Morris. Default: 10.")]
Points = Annotated[int | None, typer.Option(min=2, help="Of Sobol', a power of two. Default: 64.")]
Replications = Annotated[
    int | None, typer.Option(min=1, help="Independent runs of each cell. Default: the scenario's.")
]


def sensitivity(
    context: typer.Context,
    scenario: ScenarioName,
    *,
    factor: Factors = None,
    sets: Sets = None,
    metric: Metrics = None,
    by: By = None,
    method: Method = None,
    trajectories: Trajectories = None,
    points: Points = None,
    seed: Seed = None,
    replications: Replications = None,
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
    """Say what a metric owes to each part: what 1 % faster saves, which range swings it most, and what interacts."""
    from ..models import options
    from ..models.sensitivity import make_plan, run_sensitivity
    from ..sim.analysis.sensitivity import SensitivityInterrupted
    from ..sim.report import sensitivity_tables
    from ..sim.report.shipped import find

    check_resumed(resume, out)
    loaded = options.read_scenario(find(scenario), sets or (), options.overrides(seed, tasks, horizon, None))
    wanted = _asked(factor, metric, by, method, (trajectories, points))
    plan = make_plan(loaded, wanted)
    answers, output = _answers(), Output(format, out, overwrite, quiet, context.obj or ())
    count = replications or loaded.replications
    if not quiet:
        say(f"{len(plan.cells)} scenarios, {count} replication{'' if count == 1 else 's'} of each")
    asked = {"scenario": loaded.to_digest(), **asdict(wanted), "replications": count}
    try:
        with output.journal(answers, asked, resume) as journal, progress_bar(loaded.name, quiet) as bar:
            found = run_sensitivity(
                loaded, plan, replications=count, workers=workers_of(workers, backend, scheduler), journal=journal,
                progress=bar,
            )  # fmt: skip
    except SensitivityInterrupted as stop:
        raise interrupted(stop, out, context) from None
    doubts = sensitivity_tables.warnings(found)
    output.put(answers, found, loaded, warnings=doubts, called=scenario, sets=sets, taken=True)
    if not (found.morris or found.sobol or any(one.responses for one in found.factors)):
        raise typer.Exit(INCONCLUSIVE)


def _answers() -> Answers[SensitivityResult]:
    """Return how the answer is told."""
    from ..sim.report import sensitivity_tables
    from ..sim.report.answers import Answers

    tables = sensitivity_tables.report, sensitivity_tables.to_csv, sensitivity_tables.to_json
    return Answers("sensitivity", "sensitivity", "sensitivity", *tables)


def _asked(
    factors: list[str] | None,
    metrics: list[str] | None,
    by: str | None,
    method: MethodName | None,
    sizes: tuple[int | None, int | None],
) -> Asked:
    """Return what the options ask for."""
    from ..models.sensitivity import Asked, share_of

    pairs = [text.partition("=") for text in factors or ()]
    twice = [name for place, (name, *_) in enumerate(pairs) if name in [one for one, *_ in pairs[:place]]]
    if twice:
        raise typer.BadParameter(f"`{twice[0]}` is given twice", param_hint="--factor")
    given = {name.strip(): text for name, _, text in pairs} or None
    trajectories, points = sizes
    if trajectories is not None and method is not MethodName.MORRIS:
        raise typer.BadParameter("goes with `--method morris`", param_hint="--trajectories")
    if points is not None and method is not MethodName.SOBOL:
        raise typer.BadParameter("goes with `--method sobol`", param_hint="--points")
    share = None if by is None else share_of(by, "--by")
    return Asked(given, metrics, share, None if method is None else method.value, trajectories or points)
