"""The command `coordsim sweep`.

Exit codes are those of the program: 0; 2 invalid input; 4 where a cell failed; 130 interrupted, with what is complete kept in `-o DIR`.

Leaves out: what it does (`models.study`, `sim.analysis.study`), imported only when it is called.
Checked: tests/test_sweep_command.py.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.report.terminal import Format, again, progress_bar, say, warn
from .options import (
    INCONCLUSIVE,
    Backend,
    BackendName,
    FormatOption,
    Horizon,
    Out,
    Overwrite,
    Processes,
    Quiet,
    Resume,
    Scheduler,
    Seed,
    Sets,
    Tasks,
    check_resumed,
    interrupted,
    workers_of,
)

if TYPE_CHECKING:
    from ..models.scenario import Scenario

__all__ = ["sweep"]


class DesignName(StrEnum):
    """How points are chosen; a list has its rows in the scenario."""

    GRID = "grid"
    ZIP = "zip"
    RANDOM = "random"
    LATIN = "latin-hypercube"
    SOBOL = "sobol"


Scenarios = Annotated[
    list[str], typer.Argument(metavar="SCENARIO...", help="YAML files, or scenarios that ship, by name.")
]
Over = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=VALUES", help="A factor: 1,2,4 or 1..8, or 100 ms..1 s:log:5 (5 steps). Several: a design."
    ),
]
DesignOption = Annotated[DesignName | None, typer.Option("--design", help="Default: the scenario's, else grid.")]
Points = Annotated[
    int | None, typer.Option(min=1, help="Points of a sample (default 32); in a grid, steps of each range.")
]
Seeds = Annotated[str | None, typer.Option(metavar="LIST", help="Run every point with each, as in 1,2,3 or 1..10.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="One more column, such as ttft_p95; the first is told of."),
]
Replications = Annotated[
    str | None, typer.Option(metavar="N|auto", help="Independent runs of each cell; auto: until --precision.")
]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", metavar="SHARE", help="Run each cell until it is known within, e.g., 5%.")
]


def sweep(
    context: typer.Context,
    scenarios: Scenarios,
    *,
    over: Over = None,
    design: DesignOption = None,
    points: Points = None,
    seeds: Seeds = None,
    sets: Sets = None,
    metric: Metrics = None,
    seed: Seed = None,
    replications: Replications = None,
    precision: PrecisionOption = None,
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
    """Run scenarios over factors and seeds: one tidy table, and which values give the least and the most."""
    from ..models import options, study
    from ..models.provenance import canonical
    from ..models.study_asked import StudyOptions, asked
    from ..sim.analysis.study import StudyInterrupted
    from ..sim.report import study_tables
    from ..sim.report.shipped import find
    from ..sim.report.study_answers import ANSWERS

    check_resumed(resume, out)
    changed = options.overrides(seed, tasks, horizon, None)

    def read(name: str | Path) -> Scenario:
        return options.read_scenario(name, sets or (), changed)

    wanted = StudyOptions(
        over or (), None if design is None else design.value, points, seeds, replications, precision, metric or ()
    )
    loaded = study.all_scenarios([read(find(one)) for one in scenarios], read)
    given = asked(loaded[0], wanted)
    try:
        with progress_bar(loaded[0].name, quiet) as bar:
            found = study.run(
                loaded, given, workers=workers_of(workers, backend, scheduler), out=out, resume=resume, overwrite=overwrite,
                progress=bar, command=canonical(context.obj or ()),
            )  # fmt: skip
    except StudyInterrupted as stop:
        raise interrupted(stop, out, context) from None
    ANSWERS.put(found, format)
    warn(study_tables.warnings(found), again(scenarios[0], sets))
    if out is not None and not quiet:
        say(f"written to {out}")
    if found.failed:
        raise typer.Exit(INCONCLUSIVE)
