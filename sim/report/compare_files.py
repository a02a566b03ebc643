"""A comparison to stdout, and to a folder: comparison.json, comparison.csv, report.md and scenario.resolved.yaml.

The same comparison written twice gives the same bytes.

Leaves out: the tasks of its runs; `coordsim run -o` keeps those of one variant.
Checked: tests/test_compare_command.py.
"""

from __future__ import annotations

from pathlib import Path

from ..analysis.comparison import ComparisonResult
from .compare_tables import report, to_csv, to_json
from .files import FileError, write_text
from .layout import markdown
from .terminal import Format, put, put_report

COMPARISON = "comparison.json"


def put_comparison(found: ComparisonResult, format: Format) -> None:
    """Print a comparison."""
    if format is Format.JSON:
        put(to_json(found))
    elif format is Format.CSV:
        put(to_csv(found))
    else:
        put_report(report(found), as_markdown=format is Format.MD)


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise FileError unless a comparison may be written to `folder`."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} exists and is not a folder; choose another place with -o")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / COMPARISON).is_file():
        raise FileError(f"{folder} holds files and no comparison; choose another place with -o")
    if not overwrite:
        raise FileError(f"{folder} holds a comparison already; choose another place with -o, or pass --overwrite")


def write(found: ComparisonResult, scenario_yaml: str, folder: Path, overwrite: bool) -> None:
    """Write a comparison. Raises FileError."""
    check_free(folder, overwrite)
    for name, text in (
        ("scenario.resolved.yaml", scenario_yaml),
        ("comparison.csv", to_csv(found)),
        ("report.md", markdown(report(found))),
        (COMPARISON, to_json(found)),
    ):
        write_text(folder / name, text, overwrite)
