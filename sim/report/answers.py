"""What a command found, to stdout, and to a folder: NAME.json, NAME.csv, report.md, report.html, result.json, the scenario, and files of its own.

The same answer written twice gives the same bytes. All files are made before the first is written. An answer that takes long has in its
folder, from the start, what was asked (`asked.json`) and a journal of what is complete (`journal.jsonl`), so that the same question
goes on where it stopped.

Leaves out: the runs behind an answer; `coordsim run -o` keeps those of one scenario. The journal itself (`analysis.journal`).
Checked: tests/test_answers.py, tests/test_compare_command.py, tests/test_sweep_command.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..engine.errors import show
from . import stored
from .files import FileError, write_bytes, write_text
from .layout import Report, markdown
from .page.provenance import Provenance
from .sections import every
from .terminal import Format, put, put_report

if TYPE_CHECKING:
    from ..analysis.journal import FileJournal

__all__ = ["ASKED", "JOURNAL", "PAGE", "Answers", "for_report"]

T = TypeVar("T")

ASKED, JOURNAL = "asked.json", "journal.jsonl"
PAGE = "report.html"
KEY, VERSION = "coordsim_asked", 1
MOST_TOLD = 3  # differences between two questions
LONGEST = 120  # characters of what differs
_ABSENT = object()


@dataclass(frozen=True)
class Answers(Generic[T]):
    """How answers of one `kind` (of `stored.KINDS`), called `what`, are told: as a report, CSV and JSON, and as `files` by name."""

    kind: str
    what: str
    name: str
    report: Callable[[T], Report]
    to_csv: Callable[[T], str]
    to_json: Callable[[T], str]
    files: Mapping[str, Callable[[T], str | bytes]] = field(default_factory=dict)

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
        if _is_free(folder):
            return
        if not (folder / f"{self.name}.json").is_file():
            raise FileError(f"{folder} holds files and no {self.what}; choose another place with -o")
        if not overwrite:
            raise FileError(f"{folder} holds a {self.what} already; choose another place with -o, or pass --overwrite")

    @contextmanager
    def journal(
        self, folder: Path, asked: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> Iterator[FileJournal]:
        """Take a folder for the answer to what is `asked` (plain data), and give its journal: a new one, or with `resume` that which is there.

        Raises FileError for a folder that holds something else, or the same and neither is to go on nor to start anew, and JournalError such as when
        another process has it.
        """
        from ..analysis.journal import FileJournal

        if resume and overwrite:
            raise FileError("--resume goes on with an answer, and --overwrite starts it anew; give one of them")
        text = json.dumps({KEY: VERSION, "what": self.what, **asked}, indent=1, ensure_ascii=False) + "\n"
        if not _is_free(folder):
            was = self._asked(folder)
            if resume:
                self._check_same(folder, was, json.loads(text))
            elif not overwrite:
                state = "already" if (folder / f"{self.name}.json").is_file() else "that was begun"
                raise FileError(
                    f"{folder} holds a {self.what} {state}; go on with it by --resume, choose another place with -o, or pass --overwrite"
                )
        with FileJournal(folder / JOURNAL, anew=not resume) as journal:
            if not resume:
                self.clear(folder)
            write_text(folder / ASKED, text, overwrite=True)
            yield journal

    def _asked(self, folder: Path) -> dict[str, Any]:
        """Return what was asked in a folder. Raises FileError where it was something else."""
        if not (folder / ASKED).is_file():
            raise FileError(f"{folder} holds files and no {self.what}; choose another place with -o")
        try:
            found = json.loads((folder / ASKED).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{folder / ASKED} cannot be read ({error}); choose another place with -o") from None
        if not isinstance(found, dict) or found.get(KEY) != VERSION:
            raise FileError(f"{folder / ASKED} is of another version of coordsim; choose another place with -o")
        if found.get("what") != self.what:
            raise FileError(f"{folder} holds a {found.get('what')}, and no {self.what}; choose another place with -o")
        return found

    def _check_same(self, folder: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        before, after = dict(_leaves(was)), dict(_leaves(now))
        differ = [one for one in {**before, **after} if before.get(one, _ABSENT) != after.get(one, _ABSENT)]
        if differ:
            told = [f"`{one}` was {_told(before, one)}, and is {_told(after, one)}" for one in differ[:MOST_TOLD]]
            more = [f"and {len(differ) - MOST_TOLD} more differ"] if len(differ) > MOST_TOLD else []
            raise FileError(
                f"{folder} holds another {self.what}: {'; '.join(told + more)}; choose another place with -o, or pass --overwrite"
            )

    def clear(self, folder: Path) -> None:
        """Remove what an answer of this kind wrote, and nothing else."""
        names = [f"{self.name}.json", f"{self.name}.csv", "report.md", *self.files, PAGE, stored.NAME]
        try:
            for path in (*(folder / name for name in names), *folder.glob("scenario.*.yaml")):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{folder} cannot be cleared: {error.strerror or error}") from error

    def write(
        self, found: T, source: Provenance, scenarios: Mapping[str, str], folder: Path, *, overwrite: bool
    ) -> None:
        """Write an answer, its JSON last; `scenarios` are YAML by file name. Raises FileError."""
        files: dict[str, str | bytes] = {**scenarios, f"{self.name}.csv": self.to_csv(found)}
        files["report.md"] = markdown(self.report(found))
        files |= {name: made(found) for name, made in self.files.items()}
        files |= for_report(self.kind, found, source)
        files[f"{self.name}.json"] = self.to_json(found)
        for name, content in files.items():
            write_bytes(folder / name, content if isinstance(content, bytes) else content.encode(), overwrite)


def for_report(kind: str, found: Any, source: Provenance) -> dict[str, str]:
    """Return what a folder holds for `coordsim report`, and the report of this answer alone, by file name."""
    page = every.to_html([stored.Stored(kind, found, source)])
    return {PAGE: page, stored.NAME: stored.dump(kind, found, source)}


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty, or not there. Raises FileError for what is no folder."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} exists and is not a folder; choose another place with -o")
    return not folder.is_dir() or not any(folder.iterdir())


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of each leaf of what was asked; a list is one, unless it holds mappings."""
    inner: Iterator[tuple[str, Any]] | None = None
    if isinstance(value, dict) and value:
        inner = iter(value.items())
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        inner = ((str(number), one) for number, one in enumerate(value))
    if inner is None:
        yield path, value
        return
    for name, one in inner:
        yield from _leaves(one, f"{path}.{name}".lstrip("."))


def _told(leaves: Mapping[str, Any], path: str) -> str:
    """Return a value as an error repeats it."""
    if path not in leaves:
        return "not there"
    value = leaves[path]
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else show(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
