"""The command `coordsim report`.

Exit codes are those of the program: 0; 2 for a folder without an answer, or a file that is there already: without `-o` only the page of a
folder that coordsim wrote is replaced unasked.

Leaves out: what a page says (`sim.report.sections`) and how it looks (`sim.report.page`).
Checked: tests/test_report_command.py.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..sim.report.terminal import put, say
from .options import Overwrite, Quiet

__all__ = ["report"]


class PageFormat(StrEnum):
    """As what a report is written."""

    HTML = "html"
    MD = "md"


Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Folders that commands wrote with -o, of any kinds.")
]
File = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="FILE", help="Default: report.html in the folder, if there is one."),
]
FormatName = Annotated[
    PageFormat | None,
    typer.Option("--format", help="A page, or Markdown for a pull request. Default: by the file's name."),
]
Title = Annotated[str | None, typer.Option(metavar="TEXT", help="Default: the scenarios.")]


def report(
    folders: Folders,
    *,
    out: File = None,
    format: FormatName = None,
    title: Title = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Put answers together on one page that opens from disk: what is answered, how sure that is, and what it rests on."""
    from ..sim.report import stored
    from ..sim.report.files import write_text
    from ..sim.report.sections import every

    is_text = format is PageFormat.MD or (format is None and out is not None and out.suffix.lower() == ".md")
    place = out if out is not None or is_text else _default(folders)
    answers = [stored.read(folder) for folder in folders]
    text = every.to_markdown(answers, title or "") if is_text else every.to_html(answers, title or "")
    if place is None:
        put(text)
        return
    # The page of an answer's own folder is what its command made; anything else is somebody's file.
    write_text(place, text, overwrite or (out is None and stored.is_own(folders[0], answers[0].kind)))
    if not quiet:
        say(f"written to {place}")


def _default(folders: list[Path]) -> Path:
    """Return where a page goes that nobody gave a place."""
    from ..sim.report.answers import PAGE

    if len(folders) > 1:
        raise typer.BadParameter("say where the page goes: `-o report.html`", param_hint="-o")
    return folders[0] / PAGE if folders[0].is_dir() else folders[0].with_name(PAGE)
