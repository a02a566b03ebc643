"""The commands `coordsim calibrate` and `coordsim profile ...`.

Leaves out: what they do; each calls the module that does it, and imports it only then.
Checked: tests/test_profile_commands.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..sim.report.terminal import Format, put, put_view, say, steps_bar
from .budget import seconds_of
from .cache_command import cache
from .calls_command import calls
from .replay_command import replay
from .validate_command import validate

if TYPE_CHECKING:
    from ..sim.profile.profile import Profile
    from .imports.imported import Imported

MISSED, INTERRUPTED = 3, 130

profile_app = typer.Typer(no_args_is_help=True, help="Show, compare, plot, convert and import profiles.")

ProfileName = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile that ships, by name, or a file.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How stdout is written.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Folders or files of measurements.")]
Engine = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Of a database with several engines, the one to take; `gemm=sglang`: for products."
    ),
]
Only = Annotated[
    list[str] | None, typer.Option(metavar="LAW", help="These laws alone: `gemm`, `cross[*]`; may be repeated.")
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The profile to write, .yaml or .json.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.command()(calibrate)
    app.command()(validate)
    profile_app.command()(cache)
    profile_app.command()(calls)
    profile_app.command()(replay)
    app.add_typer(profile_app, name="profile")


def calibrate(
    *,
    out: Out,
    device: Annotated[str, typer.Option(metavar="auto|cuda|cpu", help="Where kernels run.")] = "auto",
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="How long to measure, such as 5m; fits come after.")
    ] = "5m",
    only: Only = None,
    name: Annotated[str | None, typer.Option(help="The profile's name. Default: that of the file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the measurements.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of kernels on the CPU. Default: torch's own choice.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the record of an interrupted session.")] = False,
    overwrite: Overwrite = False,
    format: FormatOption = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Measure this machine, fit a law to each operation, and write them as a profile that scenarios name."""
    from . import calibrate as steps
    from .session import Interrupted

    if device not in ("auto", "cuda", "cpu"):
        raise typer.BadParameter(f"must be auto, cuda or cpu; got `{device}`", param_hint="--device")
    seconds = seconds_of(budget)
    check_profile_file(out, overwrite)
    chosen = steps.choose_device(device, threads)
    found = steps.find(chosen, only or ())
    record = _record(out, resume, overwrite)
    try:
        with steps_bar(quiet) as bar:
            profile, session = steps.measured(
                found, chosen, name or _stem(out), budget_seconds=seconds, seed=seed, record=record,
                progress=bar and bar.measuring, told=bar and bar.fitting,
            )  # fmt: skip
    except Interrupted as stop:
        say(str(stop))
        raise typer.Exit(INTERRUPTED) from None
    write_profile(profile, out, overwrite)
    from ..sim.report.profile_tables import overview

    put_view(overview(profile), format)
    for one in session.missing:
        say(f"not measured: {one.law}: {one.why}")
    for doubt in session.doubts:
        say(f"WARNING: {doubt}")
    say(f"written to {out}; the measurements are in {record}; name it in a scenario as `profile: {out}`")


@profile_app.command("list")
def list_(format: FormatOption = Format.TABLE) -> None:
    """List the profiles that ship."""
    from ..sim.profile.profile import names, read
    from ..sim.report.profile_tables import listing

    put_view(listing(read(name) for name in names()), format)


@profile_app.command()
def show(
    profile: ProfileName,
    law: Annotated[str | None, typer.Option(metavar="LAW", help="One law in full, such as `gemm[dtype=bf16]`.")] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show what a profile holds: sources, laws, ranges, and how far off each law is on what its fit did not see."""
    from ..sim.profile.profile import read
    from ..sim.report.profile_tables import law_view, overview

    found = read(profile)
    put_view(overview(found) if law is None else law_view(found, law), format)


@profile_app.command()
def diff(a: ProfileName, b: ProfileName, format: FormatOption = Format.TABLE) -> None:
    """Compare two profiles, law by law, at sizes that both know."""
    from ..sim.profile.profile import read
    from ..sim.report.profile_tables import difference

    put_view(difference(read(a), read(b)), format)


@profile_app.command()
def plot(
    profile: ProfileName,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The HTML page to write.")],
    law: Only = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the laws of a profile, with their points, bands, residuals and errors, as one page that opens offline."""
    from ..sim.profile.profile import read
    from ..sim.report.files import write_text
    from ..sim.report.profile_page import page
    from .probe import matches

    if out.suffix not in (".html", ".htm"):
        raise typer.BadParameter(f"must end in .html; got `{out}`", param_hint="--out")
    found = read(profile)
    wanted = None if law is None else [name for name in found.laws if matches(name, law)] or law
    write_text(out, page(found, wanted), overwrite)
    say(f"written to {out}")


@profile_app.command()
def export(profile: ProfileName, out: Out, overwrite: Overwrite = False) -> None:
    """Write a profile as a file of your own, in YAML or JSON."""
    from ..sim.profile.profile import read

    check_profile_file(out, overwrite)
    write_profile(read(profile), out, overwrite)
    say(f"written to {out}")


@profile_app.command("import")
def import_(
    sources: Sources,
    *,
    out: Out,
    name: Annotated[str | None, typer.Option(help="The profile's name. Default: that of the file.")] = None,
    what: Annotated[str, typer.Option(metavar="TEXT", help="What the profile is of, in a sentence.")] = "",
    engine: Engine = None,
    only: Only = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Which kernels of a trace are which operation (YAML).")
    ] = None,
    overwrite: Overwrite = False,
    format: FormatOption = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Read measurements of others, fit the same laws, and write a profile.

    Sources are folders or files of databases of kernels, torch or Chrome traces, and Nsight summaries; what each is, its
    content tells. `aiconfigurator:h100_sxm` means the installed package aiconfigurator-core.
    """
    from .imports.build import imported
    from .imports.detect import read_all

    check_profile_file(out, overwrite)
    found = read_all(sources, **_choices(engine, mapping))
    for one in found:
        _told(one)
    with steps_bar(quiet) as bar:
        profile = imported(found, name or _stem(out), what, only or (), told=bar and bar.fitting)
    write_profile(profile, out, overwrite)
    from ..sim.report.profile_tables import overview

    put_view(overview(profile), format)
    say(f"written to {out}")


@profile_app.command()
def accuracy(
    sources: Sources,
    *,
    engine: Engine = None,
    only: Only = None,
    seed: Annotated[int, typer.Option(min=0, help="What is held out.")] = 0,
    format: FormatOption = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Say how well laws fitted to measurements of others predict what the fit did not see; exit with 3 if a goal is missed."""
    from .accuracy import accuracy as measured
    from .accuracy import view
    from .build import device_limits
    from .imports.build import chosen
    from .imports.detect import read_all

    def told(law: str) -> None:
        if not quiet and sys.stderr.isatty():
            say(f"fitting {law}")

    outcomes = []
    for found in read_all(sources, **_choices(engine)):
        outcomes += measured(chosen(found.points, only or ()), seed, told, device_limits(found.device or {}))
    put_view(view(outcomes, f"Laws of {', '.join(sources)}"), format)
    if any(one.met is False for one in outcomes):
        raise typer.Exit(MISSED)


@profile_app.command("schema")
def schema_() -> None:
    """Print the JSON Schema of profiles, for editors."""
    import json

    from ..sim.engine.schema import json_schema
    from ..sim.profile.profile import Profile

    put(json.dumps(json_schema(Profile), indent=2, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------------------------------------------------------------


def _choices(engine: list[str] | None, mapping: Path | None = None) -> dict[str, Any]:
    """Return what was chosen for the readers, as they name it."""
    choices: dict[str, Any] = {} if mapping is None else {"kernels": mapping}
    for text in engine or ():
        family, equals, name = text.partition("=")
        if equals:
            choices.setdefault("engines", {})[family] = name
        else:
            choices["engine"] = text
    return choices


def _told(found: Imported) -> None:
    """Say on stderr what was read, what was left out and why."""
    points, laws = sum(map(len, found.points)), len(found.points)
    say(f"{found.source['title']}: {points:,} point{'s'[: points != 1]} of {laws} law{'s'[: laws != 1]}")
    for reason, count in found.skipped.items():
        say(f"  left out: {count:,} rows: {reason}")
    for note in found.notes:
        say(f"  {note}")
    unknown = [kernel for kernel in found.kernels if not kernel.law]
    if unknown:
        say(f"  {len(unknown)} kernels are in no law, the longest {unknown[0].name}: name them with --map")


def check_profile_file(out: Path, overwrite: bool) -> None:
    """Refuse, before anything is done, a file that could not be written at the end."""
    if out.suffix not in (".yaml", ".yml", ".json"):
        raise typer.BadParameter(f"must end in .yaml or .json; got `{out}`", param_hint="--out")
    if out.exists() and not overwrite:
        raise typer.BadParameter(f"{out} exists already; choose another, or give --overwrite", param_hint="--out")


def write_profile(profile: Profile, out: Path, overwrite: bool) -> None:
    """Write a profile in the format that the file's ending tells."""
    from ..sim.report.files import write_text

    write_text(out, profile.to_json() if out.suffix == ".json" else profile.to_yaml(), overwrite)


def _stem(out: Path) -> str:
    """Return the name of a profile from that of its file."""
    return out.name.removesuffix(out.suffix).removesuffix(".profile")


def _record(out: Path, resume: bool, overwrite: bool) -> Path:
    """Return the file that keeps the measurements while they are taken."""
    record = out.with_name(f"{_stem(out)}.samples.jsonl")
    if not (out.parent.is_dir() and os.access(out.parent, os.W_OK)):
        raise typer.BadParameter(f"there is no folder {out.parent} to write into", param_hint="--out")
    if resume and not record.exists():
        raise typer.BadParameter(f"there is nothing to go on from: no {record}", param_hint="--resume")
    if record.exists() and not resume:
        if not overwrite:
            raise typer.BadParameter(
                f"{record} holds measurements of an earlier session; go on with --resume, or start anew with --overwrite",
                param_hint="--out",
            )
        record.unlink()
    return record
