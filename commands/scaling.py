"""The command `coordsim scaling`.

Exit codes are those of the program: 0; 2 invalid input; 4 where a verdict is `cannot tell`; 130 interrupted.

Leaves out: what it does (`models.scaling`, `sim.analysis.scaling`), imported only when it is called.
Checked: tests/test_scaling_command.py.
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

__all__ = ["scaling"]

MOST_REPLICATIONS = 8  # unless asked for: there are many cells, and curves are judged by all of them together


Over = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FACTOR=VALUES",
        help="steps, agents, modalities, streams or a path; 1..128 or 1,2,4. Several: a sweep each.",
    ),
]
Metric = Annotated[
    str, typer.Option(metavar="NAME", help="What is judged: coordination, response_time, a category, a fact.")
]
Stream = Annotated[str | None, typer.Option(metavar="MODALITY", help="Copy this one. Default: each in turn, averaged.")]
Only = Annotated[str | None, typer.Option(metavar="MECHANISM", help="Switch off all mechanisms but this one.")]
Ablation = Annotated[bool, typer.Option("--ablation/--no-ablation", help="Switch each mechanism off in turn.")]
Replications = Annotated[
    int | None, typer.Option(min=1, help="Independent runs of each cell. Default: the scenario's, at most 8.")
]


def scaling(
    context: typer.Context,
    scenario: ScenarioName,
    *,
    over: Over = None,
    sets: Sets = None,
    metric: Metric = "coordination",
    stream: Stream = None,
    only: Only = None,
    ablation: Ablation = True,
    seed: Seed = None,
    replications: Replications = None,
    tasks: Tasks = None,
    workers: Processes = None,
    backend: Backend = BackendName.LOCAL,
    scheduler: Scheduler = None,
    format: FormatOption = Format.TABLE,
    out: Out = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Sweep steps, agents or modalities: how coordination grows, by which law, and because of what."""
    from ..models import options
    from ..models.scaling import make_plan, unit_of_metric
    from ..models.variants import simulate_text
    from ..sim.analysis.replicate import Settings
    from ..sim.analysis.scaling import ScalingInterrupted, run_plan
    from ..sim.report import scaling_tables
    from ..sim.report.answers import Answers
    from ..sim.report.shipped import find

    unit = unit_of_metric(metric)
    loaded = options.read_scenario(find(scenario), sets or (), options.overrides(seed, tasks, None, None))
    plan = make_plan(loaded, over or (), stream=stream, only=only, ablate=ablation)
    tables = scaling_tables.report, scaling_tables.to_csv, scaling_tables.to_json
    answers = Answers("scaling", "sweep", "scaling", *tables)
    output = Output(format, out, overwrite, quiet, context.obj or ())
    output.check_free(answers)
    settings = Settings(
        replications=replications or min(loaded.replications, MOST_REPLICATIONS),
        warmup=loaded.workload.warmup,
        confidence=loaded.confidence,
    )
    if not quiet:
        say(f"{len(plan.variants)} scenarios, {settings.replications} replications of each")
    try:
        with progress_bar(loaded.name, quiet) as bar:
            found = run_plan(
                simulate_text, plan, seed=loaded.seed, settings=settings, metric=metric, unit=unit,
                workers=workers_of(workers, backend, scheduler), progress=bar,
            )  # fmt: skip
    except ScalingInterrupted as stop:
        raise typer.Exit(say(str(stop), INTERRUPTED)) from None
    output.put(answers, found, loaded, warnings=scaling_tables.warnings(found), called=scenario, sets=sets)
    if found.undecided:
        raise typer.Exit(INCONCLUSIVE)
