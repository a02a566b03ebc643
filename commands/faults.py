"""The command `coordsim faults`.

Exit codes are those of the program: 0; 2 invalid input; 4 where it cannot be told whether goodput came back, or what broke first;
130 interrupted.

Leaves out: what it does (`models.fault_study`, `sim.analysis.fault_study`), imported only when it is called.
Checked: tests/test_faults_command.py.
"""

from typing import Annotated

import typer

from ..sim.report.terminal import Format, progress_bar, say
from .options import (
    INCONCLUSIVE,
    INTERRUPTED,
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

__all__ = ["faults"]

MOST_REPLICATIONS = 8  # unless asked for: there are many variants, and differences are paired

Handling = Annotated[bool, typer.Option("--handling", help="Leave out each handling policy in turn, too.")]
Rise = Annotated[str | None, typer.Option(metavar="load|faults", help="Raise the load, or the rates of faults.")]
Levels = Annotated[str | None, typer.Option(metavar="FACTORS", help="Of --rise. Default: 0.5,1,1.5,2.")]
Along = Annotated[str | None, typer.Option(metavar="PATH=V1,V2,...", help="Instead of --rise: raise this value.")]
Steps = Annotated[
    str | None,
    typer.Option(metavar="PATH=N1,N2,...", help="Success over the number of steps, such as `steps=1,2,5,10`."),
]
Replication = Annotated[int, typer.Option(min=0, help="The replication whose timeline is told.")]
Window = Annotated[str | None, typer.Option(metavar="TIME", help="Windows of the timeline. Default: by the run.")]
Replications = Annotated[
    int | None, typer.Option(min=1, help="Independent runs of each variant. Default: the scenario's, at most 8.")
]


def faults(
    context: typer.Context,
    scenario: ScenarioName,
    *,
    handling: Handling = False,
    rise: Rise = None,
    levels: Levels = None,
    along: Along = None,
    steps: Steps = None,
    replication: Replication = 0,
    window: Window = None,
    sets: Sets = None,
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
    quiet: Quiet = False,
) -> None:
    """Leave out each fault: what it costs, how far it spreads, what breaks first, and whether it stays broken."""
    from ..models import options
    from ..models.fault_study import StudyOptions, make_plan, seconds_of
    from ..models.variants import simulate_text
    from ..sim.analysis.fault_study import FaultStudyInterrupted, run_plan
    from ..sim.analysis.replicate import Settings
    from ..sim.report import fault_tables
    from ..sim.report.answers import Answers
    from ..sim.report.shipped import find

    loaded = options.read_scenario(find(scenario), sets or (), options.overrides(seed, tasks, horizon, None))
    plan = make_plan(loaded, StudyOptions(handling, rise, levels, along, steps))
    count = replications or min(loaded.replications, MOST_REPLICATIONS)
    if replication >= count:
        raise typer.BadParameter(f"there are {count}, numbered from 0; got {replication}", param_hint="--replication")
    tables = fault_tables.report, fault_tables.to_csv, fault_tables.to_json
    answers = Answers("faults", "study of faults", "faults", *tables)
    output = Output(format, out, overwrite, quiet, context.obj or ())
    output.check_free(answers)
    settings = Settings(replications=count, warmup=loaded.workload.warmup, confidence=loaded.confidence)
    if not quiet:
        say(f"{len(plan.variants)} scenarios, {count} replications of each")
    try:
        with progress_bar(loaded.name, quiet) as bar:
            found = run_plan(
                simulate_text, plan, seed=loaded.seed, settings=settings, replication=replication, window=None if window is None else seconds_of("--window", window),
                workers=workers_of(workers, backend, scheduler), progress=bar,
            )  # fmt: skip
    except FaultStudyInterrupted as stop:
        raise typer.Exit(say(str(stop), INTERRUPTED)) from None
    output.put(answers, found, loaded, warnings=fault_tables.warnings(found), called=scenario, sets=sets)
    if found.undecided:
        raise typer.Exit(INCONCLUSIVE)
