"""A sweep to stdout, and to a folder: scaling.json, scaling.csv, scaling.html, report.md and scenario.resolved.yaml.

The same sweep written twice gives the same bytes. All texts are made before the first is written.

Leaves out: the runs behind its cells; `coordsim run --set ... -o` keeps one.
Checked: tests/test_scaling_command.py.
"""

from __future__ import annotations

from pathlib import Path

from ..analysis.scaling import ScalingResult
from .files import FileError, write_text
from .layout import markdown
from .scaling_plot import page
from .scaling_tables import report, to_csv, to_json
from .terminal import Format, put, put_report

SCALING = "scaling.json"


def put_scaling(found: ScalingResult, format: Format) -> None:
    """Print a sweep."""
    if format is Format.JSON:
        put(to_json(found))
    elif format is Format.CSV:
        put(to_csv(found))
    else:
        put_report(report(found), as_markdown=format is Format.MD)


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise FileError unless a sweep may be written to `folder`."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} exists and is not a folder; choose another place with -o")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / SCALING).is_file():
        raise FileError(f"{folder} holds files and no sweep; choose another place with -o")
    if not overwrite:
        raise FileError(f"{folder} holds a sweep already; choose another place with -o, or pass --overwrite")


def write(found: ScalingResult, scenario_yaml: str, folder: Path, overwrite: bool) -> None:
    """Write a sweep. Raises FileError."""
    check_free(folder, overwrite)
    texts = (
        ("scenario.resolved.yaml", scenario_yaml),
        ("scaling.csv", to_csv(found)),
        ("report.md", markdown(report(found))),
        ("scaling.html", page(found)),
        (SCALING, to_json(found)),
    )
    for name, text in texts:
        write_text(folder / name, text, overwrite)
