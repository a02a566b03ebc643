"""The commands `coordsim trace explain | fit | export | show`.

Exit codes are those of the program: 0; 2 for a file that cannot be read or holds no spans, and for wrong options.

Leaves out: reading (`sim.trace`), fitting (`calibration.traces`), and what is said (`sim.report.trace_tables`).
Checked: tests/test_trace_command.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.report.terminal import Format, put, put_report, put_view, say, steps_bar, warn
from .options import BackendName, FormatOption, Out, Overwrite, Processes, Quiet, workers_of

if TYPE_CHECKING:
    from ..sim.analysis.holdout import HoldoutResult
    from ..sim.analysis.result import Result, TaskView
    from ..sim.analysis.trace_digest import TraceDigest
    from ..sim.report.answers import Answers
    from ..sim.report.page.provenance import Provenance
    from ..sim.report.tasks import Wanted
    from ..sim.trace.measured import Measured

__all__ = ["trace_app"]

trace_app = typer.Typer(
    no_args_is_help=True,
    help="From traces of real agents to a scenario, and from runs to files that trace viewers open.",
)


class By(StrEnum):
    """What one task is."""

    TRACE = "trace"
    SESSION = "session"


class ExportFormat(StrEnum):
    """As what a run is exported."""

    OTLP = "otlp"
    OTLP_PROTO = "otlp-proto"
    PERFETTO = "perfetto"
    CHROME = "chrome"
    CSV = "csv"


BINARY = (ExportFormat.OTLP_PROTO, ExportFormat.PERFETTO)

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Traces, also gzipped: OTLP (JSON, protobuf), Jaeger, Zipkin, Langfuse, LangSmith, Inspect, CSV or Parquet of steps. The content tells which.",
    ),
]
Sources = Annotated[
    list[Path],
    typer.Argument(metavar="RUNDIR|FILE...", help="A run folder that `coordsim run -o` wrote, or trace files."),
]
TaskBy = Annotated[By, typer.Option("--by", help="One task is a trace, or all traces of a session.")]
HashNames = Annotated[bool, typer.Option("--hash-names", help="Replace names of models, tools and agents by hashes.")]
TaskOption = Annotated[str | None, typer.Option("--task", metavar="p99|N", help="Show one task's timeline.")]
Full = Annotated[bool, typer.Option("--full", help="All rows of all tables, and all spans of the task.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="The scenario's name. Default: that of the file.")]


@trace_app.command()
def explain(
    context: typer.Context,
    files: Files,
    *,
    task: TaskOption = None,
    by: TaskBy = By.TRACE,
    hash_names: HashNames = False,
    full: Full = False,
    format: FormatOption = Format.TABLE,
    out: Out = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Say where the time of traced tasks went, in the terms of a run: categories, agents, tools, models, slow tasks, errors, gaps."""
    wanted = _wanted(task, format)
    from ..models.provenance import canonical
    from ..models.trace_digest import digest_of, result_of, source_of
    from ..sim.report.trace_answers import ANSWERS

    if out is not None:
        ANSWERS.check_free(out, overwrite)
    measured = _read(files, by, hash_names)
    result = result_of(measured)
    found = digest_of(measured, result)
    view = None if wanted is None else _view(result, wanted)
    _put(found, format, () if view is None else _drawn(view, measured, _limit(full)), view, full)
    warn(found.doubts, "")
    if out is not None:
        source = source_of(measured, canonical(context.obj or ()))
        _answers(measured, result).write(found, source, {}, out, overwrite=overwrite)
        if not quiet:
            say(f"written to {out}")


@trace_app.command()
def fit(
    context: typer.Context,
    files: Files,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The scenario to write, .yaml.")],
    holdout: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Predict this share of the tasks from a fit to the others, and compare."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Write predicted against measured here, for `coordsim report`."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is held out, and of the scenario.")] = 0,
    by: TaskBy = By.TRACE,
    hash_names: HashNames = False,
    name: Name = None,
    workers: Processes = None,
    format: FormatOption = Format.TABLE,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fit a scenario to traces: workload, workflow, calls, tools, errors; each number with its sample, and what no trace can tell."""
    if out.suffix not in (".yaml", ".yml"):
        raise typer.BadParameter(f"must end in .yaml; got `{out}`", param_hint="--out")
    if out.exists() and not overwrite:
        raise typer.BadParameter(f"{out} exists already; choose another, or give --overwrite", param_hint="--out")
    if holdout is not None and not 0 < holdout < 1:
        raise typer.BadParameter(
            f"must be a share between 0 and 1, such as 0.5; got {holdout:g}", param_hint="--holdout"
        )
    if folder is not None and holdout is None:
        raise typer.BadParameter("says how a fit predicts other tasks: give --holdout 0.5, too", param_hint="--report")
    from ..calibration.traces import fit as fits
    from ..calibration.traces.view import fit_view
    from ..sim.report.files import write_text
    from ..sim.report.holdout_answers import ANSWERS

    if folder is not None:
        ANSWERS.check_free(folder, overwrite)
    measured = _read(files, by, hash_names)
    found = fits.fit(measured, seed)
    text = fits.text(found, measured, name=name or out.stem, seed=seed, run=out.name)
    if holdout is None:
        put_view(fit_view(found, measured.name), format)
    else:
        told = _held_out(measured, holdout, seed, workers, quiet)
        ANSWERS.put(told, format)
        if folder is not None:
            ANSWERS.write(told, _source(measured, context, out), {}, folder, overwrite=overwrite)
    write_text(out, text, overwrite)
    if not quiet:
        say(f"written to {out}; now try\n  coordsim run {shlex.quote(str(out))}")


@trace_app.command()
def export(
    sources: Sources,
    *,
    form: Annotated[ExportFormat, typer.Option("--format", help="What is written.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default: stdout, for formats that are text.")
    ] = None,
    by: TaskBy = By.TRACE,
    hash_names: HashNames = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a run, or traces, for other tools: OTLP with GenAI names, Perfetto, Chrome's trace viewer, or a CSV of spans."""
    from io import BytesIO

    from ..models import trace_export
    from ..sim.report.files import check_free
    from ..sim.report.numbers import counted
    from ..sim.trace.export import write

    if out is None and form in BINARY:
        raise typer.BadParameter(f"{form.value} is no text; say where it goes with `-o FILE`", param_hint="--format")
    if out is not None:
        check_free(out, overwrite)
    folder = _folder(sources)
    if folder is not None:
        _check_plain(by, hash_names)
        run = trace_export.of_folder(folder)
    else:
        run = trace_export.of_measured(_read(sources, by, hash_names))
    if out is None:
        made = BytesIO()
        write(run, form.value, made)
        put(made.getvalue().decode())
        return
    count = trace_export.export(run, form.value, out, overwrite=overwrite)
    if not quiet:
        apart = "" if run.clock else "; they have no clock in common, and stand one after the other"
        say(f"{counted(count.tasks, 'task')} with {counted(count.spans, 'span')} written to {out}{apart}")


@trace_app.command()
def show(
    sources: Sources,
    *,
    task: Annotated[str, typer.Option("--task", metavar="p99|N", help="By a percentile of T_total, or its number.")],
    by: TaskBy = By.TRACE,
    hash_names: HashNames = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Draw about so many rows: the longest spans. Default: 60.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Draw all spans.")] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Draw the waterfall of one task: of a run folder, or of trace files."""
    if every and limit is not None:
        raise typer.BadParameter("draws so many rows, and --all every one; give one of them", param_hint="--limit")
    wanted = _wanted(task, format)
    assert wanted is not None
    folder = _folder(sources)
    if folder is not None:
        _check_plain(by, hash_names)
        from ..sim.analysis.runfolder import read
        from ..sim.report.tasks import view_in_folder
        from ..sim.report.timeline import timeline
        from ..sim.report.trace_timeline import LIMIT, shortened

        view = view_in_folder(read(folder), wanted)
        few = view[0] if every else shortened(view[0], limit or LIMIT)
        drawn = timeline(few, view[1])
        if len(few.spans) < len(view[0].spans):
            drawn = (*drawn, f"  the longest of {len(view[0].spans):,} spans; all with --all")
    else:
        from ..models.trace_digest import result_of

        measured = _read(sources, by, hash_names)
        view = _view(result_of(measured), wanted)
        drawn = _drawn(view, measured, limit or _limit(every))
    _put_task(view[0], drawn, format)


# ---------------------------------------------------------------------------------------------------------------------


def _wanted(text: str | None, format: Format) -> Wanted | None:
    """Return the task asked for; None where none is."""
    if text is None:
        return None
    if format is Format.CSV:
        raise typer.BadParameter("a timeline fits no CSV; use `--format table`, `md` or `json`", param_hint="--task")
    from ..sim.report.tasks import wanted

    return wanted(text)


def _folder(sources: list[Path]) -> Path | None:
    """Return the run folder that is named; None for files, or folders of them. Raises BadParameter for a run folder among others."""
    from ..sim.analysis.runfolder import MANIFEST

    folders = [one for one in sources if (one / MANIFEST).is_file()]
    if not folders:
        return None
    if len(sources) > 1:
        raise typer.BadParameter("name one run folder, or trace files; not both", param_hint="RUNDIR|FILE...")
    return folders[0]


def _check_plain(by: By, hash_names: bool) -> None:
    """Raise BadParameter for options that say how trace files are read, where a run folder is."""
    for given, name in ((hash_names, "--hash-names"), (by is By.SESSION, "--by session")):
        if given:
            raise typer.BadParameter(
                "is for trace files: a run folder has the names and tasks of its scenario; leave it away, or export as "
                "otlp and give that file",
                param_hint=name,
            )


def _read(files: list[Path], by: By, hash_names: bool) -> Measured:
    from ..sim.trace.read import read

    _check_no_answer(files)
    return read(files, hash_names=hash_names, by=by.value)


def _view(result: Result, wanted: Wanted) -> tuple[TaskView, str]:
    """Return the task asked for, and what a timeline calls it; a trace knows no replications."""
    from ..sim.report import tasks

    number = tasks.pick(result, wanted, replication=False)
    return tasks.view_of(result, number), tasks.title(number, wanted, replication=False)


def _held_out(measured: Measured, share: float, seed: int, workers: int | None, quiet: bool) -> HoldoutResult:
    """Return how a fit to a part of the tasks predicts the others."""
    from ..calibration.traces.holdout import holdout

    by = workers_of(workers, BackendName.LOCAL, None)
    with steps_bar(quiet) as bar:
        told = None if bar is None else lambda done, planned: bar.fitting(done, planned, "")
        return holdout(measured, share, seed=seed, workers=by, progress=told)


def _source(measured: Measured, context: typer.Context, out: Path) -> Provenance:
    """Return where a holdout comes from: its command writes the scenario, too."""
    from ..calibration.traces.holdout import source
    from ..models.provenance import canonical

    return source(measured, f"{canonical(context.obj or ())} -o {shlex.quote(out.name)}")


def _limit(every: bool) -> int | None:
    """Return how many rows a waterfall has; None for all."""
    from ..sim.report.trace_timeline import LIMIT

    return None if every else LIMIT


def _drawn(view: tuple[TaskView, str], measured: Measured, limit: int | None) -> tuple[str, ...]:
    """Return the waterfall of a measured task, with how to see what it leaves out."""
    from ..sim.report.trace_timeline import waterfall

    calls = next((one.calls for one in measured.tasks if one.task == view[0].task), ())
    return waterfall(*view, calls, limit, measured.by)


def _check_no_answer(sources: list[Path]) -> None:
    """Raise BadParameter for a folder that holds a simulated run, or another answer, and no trace."""
    from ..sim.analysis.runfolder import MANIFEST
    from ..sim.report.stored import NAME

    for one in sources:
        if (one / MANIFEST).is_file():
            raise typer.BadParameter(
                f"{one} is a run of a simulation, and no trace: `coordsim show {shlex.quote(str(one))}` tells it, and "
                f"`coordsim trace export {shlex.quote(str(one))} --format otlp -o run.json` writes it as one",
                param_hint="FILE...",
            )
        if (one / NAME).is_file():
            raise typer.BadParameter(
                f"{one} holds the answer of an earlier command, and no traces: `coordsim report {shlex.quote(str(one))}` "
                "makes its page; give the files that it was about",
                param_hint="FILE...",
            )


def _put_task(view: TaskView, drawn: tuple[str, ...], format: Format) -> None:
    """Print one task's timeline."""
    import json

    from ..sim.report.layout import Report, markdown
    from ..sim.report.timeline import to_data

    if format is Format.JSON:
        put(json.dumps({"task": to_data(view)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    elif format is Format.MD:
        put(markdown(Report((), "", (), (), (drawn,))).lstrip())
    else:
        put("\n".join(drawn) + "\n")


def _put(
    found: TraceDigest, format: Format, drawn: tuple[str, ...], view: tuple[TaskView, str] | None, full: bool
) -> None:
    """Print where the time went, and a task's timeline with it."""
    import json
    from dataclasses import replace

    from ..sim.report import timeline
    from ..sim.report.trace_answers import ANSWERS, to_data
    from ..sim.report.trace_tables import report

    if format is Format.CSV:
        ANSWERS.put(found, format)
    elif format is Format.JSON:
        data = to_data(found) | ({} if view is None else {"task": timeline.to_data(view[0])})
        put(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        made = report(found, every=full)
        blocks = (*made.blocks, drawn) if drawn else made.blocks
        put_report(replace(made, blocks=blocks), as_markdown=format is Format.MD)


def _answers(measured: Measured, result: Result) -> Answers[TraceDigest]:
    """Return how an answer about traces is told; a folder holds the tables of tasks, spans and calls besides."""
    from dataclasses import replace

    from ..sim.analysis.frames import spans_table, tasks_table
    from ..sim.report.files import parquet
    from ..sim.report.trace_answers import ANSWERS
    from ..whatif_traces import calls_frame

    files: dict[str, str | bytes] = {
        "tasks.parquet": parquet(tasks_table([result])),
        "spans.parquet": parquet(spans_table([result])),
        "calls.csv": calls_frame(measured).to_csv(index=False, lineterminator="\n"),
    }
    return replace(ANSWERS, files={**ANSWERS.files, **{name: _given(one) for name, one in files.items()}})


def _given(content: str | bytes) -> Callable[[TraceDigest], str | bytes]:
    return lambda _found: content
