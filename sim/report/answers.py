"""What a command found, to stdout, and to a folder: NAME.json, NAME.csv, report.md, scenario.resolved.yaml, and pages of its own.

The same answer written twice gives the same bytes. All texts are made before the first is written.

Leaves out: the runs behind an answer; `coordsim run -o` keeps those of one scenario.
Checked: tests/test_compare_command.py, tests/test_scaling_command.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from .files import FileError, write_text
from .layout import Report, markdown
from .terminal import Format, put, put_report

T = TypeVar("T")


@dataclass(frozen=True)
class Answers(Generic[T]):
    """How answers of one kind (`what`, such as 'sweep') are told: as a report, CSV and JSON, and as `pages` by file name."""

    what: str
    name: str
    report: Callable[[T], Report]
    to_csv: Callable[[T], str]
    to_json: Callable[[T], str]
    pages: Mapping[str, Callable[[T], str]] = field(default_factory=dict)

    def put(self, found: T, format: Format) -> None:
        """Print an answer."""
        if format is Format.JSON:
            put(self.to_json(found))
        elif format is Format.CSV:
            put(self.to_csv(found))
        else:
            put_report(self.report(found), as_markdown=format is Format.MD)

    def check_free(self, folder: Path, overwrite: bool) -> None:
        """Raise FileError unless an answer may be written to `folder`."""
        if folder.exists() and not folder.is_dir():
            raise FileError(f"{folder} exists and is not a folder; choose another place with -o")
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        if not (folder / f"{self.name}.json").is_file():
            raise FileError(f"{folder} holds files and no {self.what}; choose another place with -o")
        if not overwrite:
            raise FileError(f"{folder} holds a {self.what} already; choose another place with -o, or pass --overwrite")

    def write(self, found: T, scenario_yaml: str, folder: Path, overwrite: bool) -> None:
        """Write an answer, its JSON last. Raises FileError."""
        self.check_free(folder, overwrite)
        texts = {"scenario.resolved.yaml": scenario_yaml, f"{self.name}.csv": self.to_csv(found)}
        texts["report.md"] = markdown(self.report(found))
        texts |= {name: page(found) for name, page in self.pages.items()}
        texts[f"{self.name}.json"] = self.to_json(found)
        for name, text in texts.items():
            write_text(folder / name, text, overwrite)
