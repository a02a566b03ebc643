"""The terminal: the result to stdout, progress and warnings to stderr, whoever reads them.

Leaves out: colours and bars (`layout`, `progress`).
Checked: tests/test_cli.py.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum

from .layout import Report, lay_out, markdown, text

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


def say(content: str, code: int = 0) -> int:
    """Print to stderr; return the exit code that goes with it."""
    try:
        print(content, file=sys.stderr, flush=True)  # noqa: T201  # this is the command
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        return UNREAD
    return code
