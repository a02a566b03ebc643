"""The command `coordsim`: parse, call, print.

stdout holds the result, stderr the progress and warnings. Exit codes: 0 ok; 1 our mistake (a short message; set
COORDSIM_TRACEBACK=1 for the traceback); 2 invalid input, usage, or a missing package; 3 SLO missed and 4 inconclusive, both
with `--check-slo`; 130 interrupted; 141 nobody reads stdout any more.

Leaves out: everything that is not about the command line.
Checked: tests/test_cli.py.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .calibration import commands as calibration
from .commands.compare import compare
from .commands.faults import faults
from .commands.options import (
    INCONCLUSIVE,
    INTERRUPTED,
    INVALID,
    MISSED,
    Backend,
    BackendName,
    FormatOption,
    Overwrite,
    Processes,
    ScenarioName,
    Scheduler,
    Seed,
    Sets,
    Tasks,
    workers_of,
)
from .commands.plan import plan
from .commands.report import report
from .commands.scaling import scaling
from .commands.sensitivity import sensitivity
from .commands.sweep import sweep
from .commands.trace import trace_app
from .sim.report.terminal import Format, again, progress_bar, put, put_summary, say, warn

if TYPE_CHECKING:
    from .models.scenario import Scenario
    from .sim.analysis.jobs import Workers
    from .sim.analysis.replicate import Interrupted, Run, Settings
    from .sim.analysis.result import TaskView
    from .sim.report.tables import About
    from .sim.report.tasks import Wanted

app = typer.Typer(
    name="coordsim",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Spans(StrEnum):
    """Of which tasks the first replication keeps every span."""

    ALL = "all"
    SAMPLED = "sampled"
    NONE = "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; nothing but a bug of ours gets past it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no `±` is no reason to fail
    try:
        app(args=given, prog_name="coordsim", obj=given)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else INVALID
    except KeyboardInterrupt:
        return say("interrupted", INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # the last resort: whatever it is, no traceback unless asked for
        return _failed(error)
    return 0


def _version(asked: bool) -> None:
    if asked:
        from . import __version__

        put(f"coordsim {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Predict where the time of an agentic AI system goes, and what coordination costs, before it is built."""


@app.command()
def run(
    context: typer.Context,
    scenario: ScenarioName,
    *,
    sets: Sets = None,
    seed: Seed = None,
    replications: Annotated[
        str | None, typer.Option(metavar="N|auto", help="Independent runs; auto: until --precision.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Run until mean and p95 are known within, e.g., 5%.")
    ] = None,
    workers: Processes = None,
    backend: Backend = BackendName.LOCAL,
    scheduler: Scheduler = None,
    tasks: Tasks = None,
    horizon: Annotated[str | None, typer.Option(metavar="TIME", help="End a run by time, such as 1h.")] = None,
    warmup: Annotated[str | None, typer.Option(metavar="auto|TIME", help="What to leave out at the start.")] = None,
    spans: Annotated[
        Spans | None, typer.Option(help="Spans to keep for -o. Default: sampled with -o, else none.")
    ] = None,
    format: FormatOption = Format.TABLE,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write a run folder.")] = None,
    overwrite: Overwrite = False,
    show_task: Annotated[str | None, typer.Option(metavar="p99|N", help="Show one task's timeline.")] = None,
    check_slo: Annotated[
        bool, typer.Option("--check-slo", help="Exit with 3 if the SLO is missed, 4 if inconclusive.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Simulate a scenario, and say where the time goes."""
    wanted = _wanted(show_task, "--show-task", format)
    from .models import options
    from .models.bounds import bounds

    loaded = _load(scenario, sets, options.overrides(seed, tasks, horizon, warmup))
    kept = spans or (Spans.SAMPLED if out else Spans.NONE)
    settings = options.settings(loaded, replications, precision, kept.value)
    if check_slo and not settings.objectives:
        raise typer.BadParameter(f"{scenario} has no `slo` to check", param_hint="--check-slo")
    if out is not None:
        from .sim.analysis.runfolder import check_free

        check_free(out, overwrite)
    from .sim.analysis.replicate import Interrupted

    try:
        done = _replicate(loaded, settings, workers_of(workers, backend, scheduler), quiet)
        view = None if wanted is None else _timeline_of(loaded, done, settings, wanted)
    except Interrupted as stop:
        raise typer.Exit(_interrupted(stop, loaded, settings, out, overwrite, context.obj)) from None
    if out is not None:
        _write_run(done, loaded, out, overwrite, context.obj)
    put_summary(done.summary, _about(loaded.to_data()), format, view)
    warn([*bounds(loaded).unstable, *done.summary.warnings, *done.summary.doubts], again(scenario, sets))
    if out is not None and not quiet:
        say(f"written to {out}")
    if check_slo:
        raise typer.Exit({"fail": MISSED, "inconclusive": INCONCLUSIVE}.get(done.summary.verdict or "", 0))


@app.command()
def check(scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO...")], sets: Sets = None) -> None:
    """Check scenarios: all mistakes at once, those in what studies they ask for too; if there are none, what they hold and which queue cannot be stable."""
    from .models.bounds import bounds
    from .models.sections import mistakes_in_sections
    from .sim.engine.errors import InputError
    from .sim.report.overview import overview

    bad = 0
    for name in scenarios:
        try:
            loaded = _load(name, sets)
        except InputError as error:
            bad += 1
            say(str(error))
            continue
        wrong = list(mistakes_in_sections(loaded))
        if wrong:
            bad += 1
            say("\n".join(map(str, wrong)))
            continue
        found = bounds(loaded)
        put("\n".join([f"{name}: ok", *overview(loaded.to_data()), *_indented(loaded.basis()), *found.lines()]) + "\n")
        warn([*loaded.doubts(), *found.warnings], again(name, sets))
    if bad:
        raise typer.Exit(INVALID)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="RUNDIR", help="A run folder that `coordsim run -o` wrote.")],
    task: Annotated[str | None, typer.Option(metavar="p99|N", help="Show one task's timeline.")] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show a finished run again."""
    wanted = _wanted(task, "--task", format)
    from .sim.analysis.runfolder import read
    from .sim.engine.source import Document
    from .sim.report.tasks import view_in_folder

    found = read(folder)
    about = _about(Document.from_text(found.scenario, str(folder / "scenario.resolved.yaml")).data)
    put_summary(found.summary, about, format, None if wanted is None else view_in_folder(found, wanted))
    if found.manifest.get("interrupted"):
        say(f"WARNING: the run was interrupted; only {found.summary.replications} replications were complete")
    warn([*found.summary.warnings, *found.summary.doubts], shlex.quote(str(folder / "scenario.resolved.yaml")))


@app.command()
def scenarios() -> None:
    """List the scenarios that ship, and the question each answers."""
    from .sim.report import shipped

    found = list(shipped.questions())
    width = max((len(name) for name, _ in found), default=0)
    put("".join(f"{name:<{width}}  {question}\n" for name, question in found))


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the starter.")] = Path("scenario.yaml"),
    overwrite: Overwrite = False,
) -> None:
    """Write a commented scenario to start from, and the schema that lets editors check it."""
    from .models.options import json_schema_text
    from .sim.report import starter
    from .sim.report.files import write_text

    schema = file.parent / starter.SCHEMA
    write_text(file, starter.TEXT.replace("THIS_FILE", shlex.quote(file.name)), overwrite)
    text = json_schema_text()
    if not schema.exists():
        write_text(schema, text)
    elif schema.read_text(encoding="utf-8") != text:
        say(f"WARNING: {schema} is not of this version; try `coordsim schema -o {schema} --overwrite`")
    put(f"{file} is written; now try\n  coordsim run {shlex.quote(str(file))}\n")


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write it to a file.")] = None,
    overwrite: Overwrite = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Every field as Markdown, for people.")] = False,
) -> None:
    """Write the JSON Schema of scenarios, for editors; or the reference of every field, for people."""
    from .models.options import json_schema_text, reference_text
    from .sim.report.files import write_text

    text = reference_text() if markdown else json_schema_text()
    if out is None:
        put(text)
    else:
        write_text(out, text, overwrite)


@app.command()
def doctor() -> None:
    """Examine this installation: versions, cores, extras, scenarios."""
    from . import __version__
    from .sim.report.doctor import examine

    findings = list(examine(__version__))
    width = max(len(one.name) for one in findings)
    marks = {True: "ok", False: "BAD", None: ""}
    put("".join(f"{marks[one.good]:<4}{one.name:<{width}}  {one.found}\n" for one in findings))
    if any(one.good is False for one in findings):
        raise typer.Exit(INVALID)


app.command()(compare)
app.command()(scaling)
app.command()(faults)
app.command()(sensitivity)
app.command()(plan)
app.command()(sweep)
app.command()(report)
calibration.add_to(app)
app.add_typer(trace_app, name="trace")

# ---------------------------------------------------------------------------------------------------------------------
# Calls


def _load(name: str, sets: list[str] | None, more: Iterable[tuple[str, str]] = ()) -> Scenario:
    from .models.options import read_scenario
    from .sim.report.shipped import find

    return read_scenario(find(name), sets or (), more)


def _indented(lines: Iterable[str]) -> Iterable[str]:
    return (f"  {line}" for line in lines)


def _wanted(text: str | None, option: str, format: Format) -> Wanted | None:
    if text is None:
        return None
    if format is Format.CSV:
        raise typer.BadParameter("a timeline fits no CSV; use `--format table`, `md` or `json`", param_hint=option)
    from .sim.report.tasks import wanted

    return wanted(text)


def _replicate(scenario: Scenario, settings: Settings, workers: Workers, quiet: bool) -> Run:
    from .models.simulate import simulate
    from .sim.analysis.replicate import replicate

    with progress_bar(scenario.name, quiet) as bar:
        return replicate(simulate, scenario, seed=scenario.seed, settings=settings, workers=workers, progress=bar)


def _timeline_of(scenario: Scenario, done: Run, settings: Settings, wanted: Wanted) -> tuple[TaskView, str]:
    """Return the task asked for, of the first replication; that runs again, keeping the spans of this task alone."""
    from .models.simulate import simulate
    from .sim.analysis.summarize import cut_warmup
    from .sim.report import tasks

    first = cut_warmup(done.results, settings.warmup)[1][0]
    number = tasks.pick(first, wanted)
    again = simulate(scenario, scenario.seed, 0, f"tasks {number}")
    return tasks.view_of(again, number), tasks.title(number, wanted)


def _write_run(
    done: Run,
    scenario: Scenario,
    out: Path,
    overwrite: bool,
    given: Any,
    *,
    interrupted: bool = False,
) -> None:
    from datetime import UTC, datetime

    from .models.provenance import canonical, provenance
    from .models.run import digest_of
    from .sim.analysis.runfolder import Source, write
    from .sim.report.answers import for_report

    source = Source(
        shlex.join(["coordsim", *(given or ())]),
        datetime.now(UTC).isoformat(timespec="seconds"),
        interrupted,
        scenario.hash,
    )
    extra = for_report("run", digest_of(done, scenario), provenance(scenario, canonical(given or ())))
    write(done, scenario.to_yaml(), out, overwrite=overwrite, source=source, extra=extra)


def _interrupted(
    stop: Interrupted, scenario: Scenario, settings: Settings, out: Path | None, overwrite: bool, given: Any
) -> int:
    """Say how far the run came, and keep that with -o; return the exit code."""
    from .sim.analysis.replicate import Run

    count, planned = len(stop.results), settings.first_round
    say(f"interrupted; {count} of {max(planned, count)} replications are complete")
    if out is not None and count:
        _write_run(
            Run(stop.results, settings.summarize(stop.results)), scenario, out, overwrite, given, interrupted=True
        )
        say(f"they are in {out}; see them with `coordsim show {shlex.quote(str(out))}`")
    return INTERRUPTED


def _about(data: dict[str, Any]) -> About:
    from .models.runtime import PRESETS
    from .sim.report.overview import about

    return about(data, PRESETS)


def _failed(error: Exception) -> int:
    """Say what went wrong, and return the exit code."""
    from .sim.report.failures import explain

    if os.environ.get("COORDSIM_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    return say(*explain(error))
