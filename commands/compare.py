"""The command `coordsim compare`.

Exit codes are those of the program: 0; 2 invalid input; 4 where the saving is not resolved; 130 interrupted.

Leaves out: what it does (`models.compare`, `sim.analysis.compare`), imported only when it is called.
Checked: tests/test_compare_command.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from ..sim.analysis.comparison import ComparisonResult
    from ..sim.report.answers import Answers

__all__ = ["compare"]

Runtimes = Annotated[
    list[str] | None, typer.Option("--runtime", metavar="NAME", help="Twice: the baseline, then the other.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="PATH=VALUE", help="Instead: the scenario with this and without."),
]
Over = Annotated[
    list[str] | None, typer.Option(metavar="PATH=V1,V2,...", help="Compare at each of these values; twice: a grid.")
]
Ablate = Annotated[
    bool | None, typer.Option("--ablate/--no-ablate", help="Switch each policy alone. Default: as the scenario says.")
]
Other = Annotated[
    str | None, typer.Argument(metavar="[B]", help="Another scenario, to compare with; or --runtime, or --with.")
]
Metric = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What the verdict is on, as `p95`, `cost_mean`, `success`. Default: mean."),
]
Unpaired = Annotated[bool, typer.Option("--unpaired", help="Give the variant a seed of its own.")]
SeedB = Annotated[int | None, typer.Option(min=0, help="That seed. Default: the other plus 1.")]
Tolerance = Annotated[str | None, typer.Option(metavar="SHARE", help="Less is no saving. Default: 2%.")]
Replications = Annotated[int | None, typer.Option(min=1, help="Independent runs of each variant.")]


def compare(
    context: typer.Context,
    scenario: ScenarioName,
    other: Other = None,
    *,
    runtimes: Runtimes = None,
    changes: Changes = None,
    sets: Sets = None,
    over: Over = None,
    ablate: Ablate = None,
    tolerance: Tolerance = None,
    metric: Metric = None,
    unpaired: Unpaired = False,
    seed: Seed = None,
    seed_b: SeedB = None,
    replications: Replications = None,
    workers: Processes = None,
    backend: Backend = BackendName.LOCAL,
    scheduler: Scheduler = None,
    tasks: Tasks = None,
    horizon: Horizon = None,
    format: FormatOption = Format.TABLE,
    out: Out = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compare two scenarios, runtimes or settings over the same tasks: what is saved, by what, and where nothing is."""
    from ..models import options
    from ..models.compare import CompareOptions, run_comparison
    from ..sim.analysis.compare import ComparisonInterrupted
    from ..sim.report.compare_tables import warnings
    from ..sim.report.shipped import find

    wanted = CompareOptions(
        runtimes or (), changes or (), over or (), ablate, tolerance, metric, unpaired, seed_b, other is not None
    )
    changed = options.overrides(seed, tasks, horizon, None)
    second = None if other is None else find(other)
    loaded, against = options.read_comparison(find(scenario), second, sets or (), changed, wanted)
    answers, output, stopped = _answers(), Output(format, out, overwrite, quiet, context.obj or ()), ""
    output.check_free(answers)
    try:
        with progress_bar(loaded.name, quiet) as bar:
            by = workers_of(workers, backend, scheduler)
            found = run_comparison(loaded, against, replications=replications, workers=by, progress=bar)
    except ComparisonInterrupted as stop:
        if stop.result is None:
            raise typer.Exit(say(f"{stop}: too few to compare", INTERRUPTED)) from None
        found, stopped = stop.result, str(stop)
    beside = {} if against is None else {"scenario.b.resolved.yaml": against}
    output.put(answers, found, loaded, warnings=warnings(found), called=scenario, sets=sets, beside=beside)
    if stopped:
        raise typer.Exit(say(f"{stopped}: what they tell is above", INTERRUPTED))
    if found.saving.verdict == "not resolved":
        raise typer.Exit(INCONCLUSIVE)


def _answers() -> Answers[ComparisonResult]:
    """Return how a comparison is told."""
    from ..sim.report import compare_tables
    from ..sim.report.answers import Answers

    tables = compare_tables.report, compare_tables.to_csv, compare_tables.to_json
    return Answers("compare", "comparison", "comparison", *tables)
