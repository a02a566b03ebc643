"""The terminal: the result to stdout, progress and warnings to stderr, whoever reads them.

Leaves out: colours and bars (`layout`, `progress`).
Checked: tests/test_cli.py.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .layout import Report, lay_out, markdown, text

if TYPE_CHECKING:
    from ..analysis.result import TaskView
    from ..analysis.summary import Summary
    from .profile_tables import View
    from .tables import About

UNREAD = 141  # nobody reads stdout any more, as a shell tells it


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


def put(content: str) -> None:
    """Print to stdout; where nobody reads it any more (`| head`), end quietly."""
    try:
        sys.stdout.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go, and would fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(UNREAD) from None


def put_report(report: Report, as_markdown: bool) -> None:
    """Print a report as text, or as Markdown."""
    if as_markdown:
        put(markdown(report))
        return
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    put(text(lay_out(report), styled))


def put_view(view: View, format: Format) -> None:
    """Print a view in the format asked for."""
    if format is Format.JSON:
        put(view.to_json())
    elif format is Format.CSV:
        put(view.to_csv())
    else:
        put_report(view.report, as_markdown=format is Format.MD)


def say(content: str, code: int = 0) -> int:
    """Print to stderr; return the exit code that goes with it."""
    try:
        print(content, file=sys.stderr, flush=True)  # noqa: T201  # this is the command
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        return UNREAD
    return code


def warn(warnings: Iterable[str], scenario: str) -> None:
    """Print what is doubtful on stderr, with the user's own scenario, as a shell reads it, in the commands it gives."""
    for warning in warnings:
        say("WARNING: " + re.sub(r"\bSCENARIO\b", lambda _match: scenario, warning))


def again(scenario: str, sets: Iterable[str] | None) -> str:
    """Return a scenario and what was set in it, as a shell reads them."""
    return shlex.join([scenario, *(word for text in sets or () for word in ("--set", text))])


def put_summary(summary: Summary, about: About, format: Format, view: tuple[TaskView, str] | None) -> None:
    """Print a summary, and a task's timeline with it."""
    from . import formats, tables
    from .timeline import timeline, to_data

    if format is Format.JSON:
        put(formats.to_json(summary, **({} if view is None else {"task": to_data(view[0])})))
    elif format is Format.CSV:
        put(formats.to_csv(summary))
    else:
        report = tables.report(summary, about, () if view is None else (timeline(*view),))
        put_report(report, as_markdown=format is Format.MD)


def progress_bar(name: str, quiet: bool) -> AbstractContextManager[Any]:
    """Return a context with a bar for progress; with None where nobody looks."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    from .progress import Bar

    return Bar(Console(stderr=True), name)


def steps_bar(quiet: bool) -> AbstractContextManager[Any]:
    """Return a context with a bar for measurements and fits; with None where nobody looks."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    from .progress import Steps

    return Steps(Console(stderr=True))
