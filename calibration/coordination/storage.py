"""Checkpoints: state written so that it survives a crash of the program and of the machine.

`sqlite` replaces a row and commits with `synchronous=FULL`; `file` writes a new file, syncs it, renames it over the old
one and syncs the folder. Both keep a few checkpoints and replace the oldest, so the disk does not fill.

Leaves out: encoding the state; databases across a network. What is measured is the disk of the temporary folder: set
TMPDIR to measure another, and note that in a `tmpfs` a sync costs nothing.
Checked: tests/test_coordination_probes.py.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path

from ..probe import Call, Case, Found, Probe
from .payload import copies, message

__all__ = ["STORES", "Save", "probes"]

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 4_000_000)  # bytes
KEPT = 4  # checkpoints

Save = Callable[[int, bytes], None]
"""Write this checkpoint of a number below `KEPT`; when it returns, the state survives."""


def probes() -> Found:
    """Return the probes of `checkpoint`."""
    return Found(
        tuple(
            Probe(
                "checkpoint",
                {"store": name},
                tuple(Case("checkpoint", {"store": name}, {"bytes": float(size)}) for size in SIZES),
                partial(_saving, store),
            )
            for name, store in STORES.items()
        )
    )


@contextmanager
def _saving(store: Callable[[Path], AbstractContextManager[Save]], case: Case) -> Iterator[Call]:
    size = int(case.sizes["bytes"])
    states = [message(size, copy) for copy in range(copies(size))]
    with tempfile.TemporaryDirectory(prefix="coordsim-") as folder, store(Path(folder)) as save:

        def call(turn: int) -> None:
            save(turn % KEPT, states[turn % len(states)])

        yield call


@contextmanager
def in_sqlite(folder: Path) -> Iterator[Save]:
    """Keep checkpoints as rows of `checkpoints.sqlite` in the folder."""
    with closing(sqlite3.connect(folder / "checkpoints.sqlite")) as database:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, state BLOB)")
        database.commit()

        def save(number: int, state: bytes) -> None:
            database.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (number, state))
            database.commit()

        yield save


@contextmanager
def in_files(folder: Path) -> Iterator[Save]:
    """Keep checkpoints as files `0`, `1`, ... in the folder."""
    directory = os.open(folder, os.O_RDONLY)

    def save(number: int, state: bytes) -> None:
        new = folder / "new"
        with new.open("wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / str(number))
        os.fsync(directory)  # or the new name may not survive

    try:
        yield save
    finally:
        os.close(directory)


STORES: dict[str, Callable[[Path], AbstractContextManager[Save]]] = {"sqlite": in_sqlite, "file": in_files}
