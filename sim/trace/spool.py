"""Spans on disk until all files are read, so that they can be had task by task, however many there are.

A temporary SQLite file in a directory of its own, which is deleted when the spool is closed, whatever happens. It holds what an
`Observation` holds: sizes and names, never contents.

Leaves out: what a task is: that is the group that the caller names.
Checked: tests/test_trace_read.py.
"""

from __future__ import annotations

import marshal
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from sys import intern
from types import TracebackType
from typing import Final

from .observation import Observation
from .tally import TraceError

__all__ = ["Spool"]

_BATCH: Final = 2000  # spans written at a time
_MOST: Final = 2**63
_FIELDS: Final = attrgetter(*(one.name for one in fields(Observation)))


class Spool:
    """Spans by group, in the order in which they were put in. A context: its file is gone afterwards."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="coordsim-trace-")
        try:
            self._db = sqlite3.connect(Path(self._folder.name) / "spans", isolation_level=None)
            self._db.execute("PRAGMA journal_mode=OFF")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute("PRAGMA temp_store=FILE")
            self._db.execute("CREATE TABLE span (number INTEGER PRIMARY KEY, team TEXT, start INTEGER, body BLOB)")
            self._db.execute("CREATE TABLE session (trace TEXT PRIMARY KEY, name TEXT)")
            self._db.execute("BEGIN")
        except BaseException:
            self._folder.cleanup()
            raise
        self._rows: list[tuple[str, int | None, bytes]] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._db.close()
        self._folder.cleanup()

    def put(self, span: Observation) -> None:
        """Write one span down, in the group of its trace."""
        start = span.start if span.start is not None and -_MOST <= span.start < _MOST else None
        # Of what is interned, marshal gives one object back, however many spans have it.
        span.trace, span.name, span.component = intern(span.trace), intern(span.name), intern(span.component)
        span.process, span.agent = intern(span.process), intern(span.agent)
        trace = span.trace if span.trace.isascii() else span.trace.encode("utf-8", "replace").decode()
        self._rows.append((trace, start, marshal.dumps(_FIELDS(span))))
        if len(self._rows) >= _BATCH:
            self._write()

    def name_session(self, trace: str, session: str) -> None:
        """Say to which session a trace belongs; the first word counts."""
        self._db.execute(
            "INSERT OR IGNORE INTO session VALUES (?, ?)", (trace.encode("utf-8", "replace").decode(), session)
        )

    def sort(self, *, sessions: bool) -> None:
        """Make ready for reading; with `sessions` the traces of one session are one group."""
        self._write()
        if sessions:
            joined = "SELECT 'session ' || name FROM session WHERE session.trace = span.team"
            self._db.execute(f"UPDATE span SET team = COALESCE(({joined}), team)")
        self._db.execute("CREATE INDEX by_team ON span (team, number)")

    def groups(self) -> Iterator[tuple[str, int | None, int]]:
        """Yield each group with its earliest start (ns) and the number of its first span, in the order of both."""
        yield from self._db.execute("SELECT team, MIN(start), MIN(number) FROM span GROUP BY team ORDER BY 2, 3")

    def earliest(self, group: str, first: int, last: int) -> int | None:
        """Return when the earliest span of a group starts (ns) of those from `first` to `last`; None where there is none."""
        found = self._db.execute(
            "SELECT MIN(start) FROM span WHERE team = ? AND start BETWEEN ? AND ?",
            (group, max(first, -_MOST), min(last, _MOST)),
        )
        start: int | None = next(found)[0]
        return start

    def of(self, group: str) -> list[Observation]:
        """Return the spans of a group in the order in which they were put in."""
        found = self._db.execute("SELECT body FROM span WHERE team = ? ORDER BY number", (group,))
        return [Observation(*marshal.loads(body)) for (body,) in found]

    def _write(self) -> None:
        try:
            self._db.executemany("INSERT INTO span (team, start, body) VALUES (?, ?, ?)", self._rows)
        except sqlite3.Error as error:
            raise TraceError(
                f"the spans cannot be kept for sorting ({error}); is the directory of temporary files full?"
            ) from None
        self._rows.clear()
