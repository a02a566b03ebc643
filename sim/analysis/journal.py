"""A journal of cells: a file that grows by a line for each cell that is complete, so that a study goes on where it stopped.

Each line is a JSON object: `journal` (the version of this format), `coordsim` (the version that ran it), `key` (sha256 of the cell's),
`seed`, `settings` (sha256 of what decides the numbers), `tasks`, `failure`, and `summary` (`Summary.to_dict`, or null). A line
counts once it is whole and on the disk: one that a kill tore is cut off when the file is opened the next time. Cells that failed
are there to be read, and run again.

While a journal is open, a file beside it (`.lock`) holds the process that has it, and keeps others out; that of a process of
this machine that is gone does not count.

Leaves out: what a study is, and whether it is the one that the journal was written for: cells of others are not found, and do no harm.
Checked: tests/test_journal.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from ..engine.errors import CoordsimError
from .cells import Cell, Outcome
from .jobs import version
from .replicate import Settings
from .summary import Summary, SummaryError

S = TypeVar("S")

VERSION = 1
ASIDE = ("spans", "span_replications")  # settings that change no number


class JournalError(CoordsimError):
    """A journal that cannot be written or read: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line is in the file (bytes)."""

    start: int
    size: int


class FileJournal:
    """A journal in a file, which is made if it is not there; a context that ends with the journal closed. `anew` empties it.

    Raises JournalError when another process has it open, when it is damaged, and when it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, anew: bool = False) -> None:
        self.path = Path(path)
        self._lock = _Lock(self.path.with_name(self.path.name + ".lock"))
        self._found: dict[tuple[object, ...], _Place] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        except OSError as error:
            raise self._failed("written", error) from error
        try:
            self._file: IO[bytes] = self.path.open("w+b" if anew else "a+b")
            try:
                self._read()
            except BaseException:
                self._file.close()
                raise
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise self._failed("opened", error) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many cells are complete in it."""
        return len(self._found)

    def close(self) -> None:
        """Close the file, and let others have it."""
        try:
            self._file.close()
        finally:
            self._lock.release()

    def find(self, cell: Cell[S], settings: Settings) -> Outcome | None:
        """Return what became of a cell in an earlier call; None where it was not complete, or failed."""
        place = self._found.get(_identity(_head(cell, settings)))
        if place is None:
            return None
        self._file.seek(place.start)
        line = json.loads(self._file.read(place.size))
        try:
            return Outcome(Summary.from_dict(line["summary"]), "", line["tasks"])
        except SummaryError as error:
            raise JournalError(f"{self.path} is damaged: {error}") from error

    def keep(self, cell: Cell[S], settings: Settings, outcome: Outcome) -> None:
        """Write the outcome of a cell, and wait until it is on the disk. Raises JournalError when it cannot be written."""
        head = _head(cell, settings)
        summary = None if outcome.summary is None else outcome.summary.to_dict()
        line = {**head, "tasks": outcome.tasks, "failure": outcome.failure, "summary": summary}
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(text)
            self._file.flush()
            os.fsync(self._file.fileno())
        except BaseException as error:
            with suppress(OSError):  # of a full disk, which refuses what is still buffered once more
                self._file.truncate(start)
            if isinstance(error, OSError):
                raise self._failed("written", error) from error
            raise
        if summary is not None:
            self._found[_identity(head)] = _Place(start, len(text))

    def _read(self) -> None:
        """Note where each cell is, and cut off a last line that is not whole."""
        self._file.seek(0)
        start = 0
        for number, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                self._file.truncate(start)
                break
            line = self._line(number, text)
            if line["summary"] is not None:
                self._found[_identity(line)] = _Place(start, len(text))
            start += len(text)

    def _line(self, number: int, text: bytes) -> dict[str, Any]:
        try:
            line = json.loads(text)
            known = isinstance(line, dict) and {*_HEAD, "tasks", "failure", "summary"} <= line.keys()
        except ValueError:
            known = False
        if not known:
            raise JournalError(
                f"{self.path}:{number} is no cell of a journal; take that line out to run its cell again, or begin anew elsewhere"
            )
        found: dict[str, Any] = line
        return found

    def _failed(self, what: str, error: OSError) -> JournalError:
        return JournalError(f"{self.path} cannot be {what}: {error.strerror or error}")


_HEAD = ("journal", "coordsim", "key", "seed", "settings")


def _head(cell: Cell[S], settings: Settings) -> dict[str, object]:
    """Return all that a cell is known by."""
    decisive = {one.name: getattr(settings, one.name) for one in fields(settings) if one.name not in ASIDE}
    return {
        "journal": VERSION,
        "coordsim": version(),
        "key": _hash(cell.key),
        "seed": cell.seed,
        "settings": _hash(repr(decisive)),
    }


def _identity(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line[name] for name in _HEAD)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _Lock:
    """A file that names the process that has something: its number, when it began (numbers come again), and its machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> None:
        """Write the file. Raises JournalError when another process that lives has."""
        for _ in range(2):
            try:
                with self.path.open("x") as file:
                    file.write(json.dumps(_me()))
            except FileExistsError:
                self._break()
            else:
                return
        raise JournalError(f"{self.path} was taken by another process just now; try again")

    def release(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _break(self) -> None:
        """Remove the file of a process that is gone."""
        try:
            held = json.loads(self.path.read_text())
            pid, began, machine = int(held["pid"]), float(held["began"]), str(held["machine"])
        except FileNotFoundError:
            return  # released meanwhile
        except (ValueError, KeyError, TypeError):
            pid, began, machine = 0, 0.0, ""
        if not pid or machine != platform.node() or _lives(pid, began):
            who = f"process {pid} on {machine}" if pid else "another process"
            raise JournalError(
                f"{self.path} says that {who} writes this study; wait for it, or remove that file if it runs no more"
            )
        self.path.unlink(missing_ok=True)


def _me() -> dict[str, Any]:
    import psutil  # type: ignore[import-untyped]

    return {"pid": os.getpid(), "began": psutil.Process().create_time(), "machine": platform.node()}


def _lives(pid: int, began: float) -> bool:
    import psutil

    try:
        found: float = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return False
    return abs(found - began) < 1.0
