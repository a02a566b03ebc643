"""The tool servers: a query of a database, a search through text, a wait for somebody else's service; `python -m ... KIND`.

Queries and searches are work of the server's one thread, so calls queue; waits run beside each other. A share of the calls, given by the
settings, hangs or ends in an error.

Leaves out: errors that come in bursts.
Checked: tests/test_validation_system.py.
"""

import asyncio
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from .server import Done, serve
from .terms import HANG, WAIT, deck, failures, waits
from .wire import core, text

__all__ = ["main"]

_ROWS, _LINES = 4000, 2500


def query() -> Callable[[], int]:
    """Return what asks a database."""
    base = sqlite3.connect(":memory:")
    base.execute("create table notes (id integer primary key, topic integer, words text)")
    rows = [(place, place % 97, text(20, place)) for place in range(_ROWS)]
    base.executemany("insert into notes values (?, ?, ?)", rows)
    asked = (
        "select topic, count(*), max(length(words)) from notes where words like '%tool%' group by topic order by 2 desc"
    )
    return lambda: len(base.execute(asked).fetchall())


def search() -> Callable[[], int]:
    """Return what searches through text."""
    lines = [text(20, place) + str(place) for place in range(_LINES)]
    pattern = re.compile(r"another.*t(a|o)sk|[0-9]*77$")
    return lambda: sum(1 for line in lines if pattern.search(line))


def main(kind: str) -> None:
    """Serve until the standard input closes."""
    work = None if kind == WAIT else {"query": query, "search": search}[kind]()
    share, seed = 0.0, 0
    fates, pauses = deck(failures(0.0), 0), deck(waits(), 0)

    def settings(given: dict[str, Any]) -> None:
        nonlocal share, seed, fates, pauses
        share, seed = given["failures"], given["seed"]
        fates, pauses = deck(failures(share), seed), deck(waits(), seed + 1)

    async def handle(asked: dict[str, Any]) -> Done:
        fate = "" if asked.get("safe") else next(fates)
        on, cpu, started = core(), time.thread_time(), time.perf_counter()
        if fate == "hang":
            await asyncio.sleep(HANG)
        elif work is None:
            await asyncio.sleep(next(pauses) if asked.get("pause") is None else asked["pause"])
        else:
            work()
        ended = time.perf_counter()
        answer = {"found": "" if fate else text(asked["result"], seed)}
        return Done(answer, started, ended, time.thread_time() - cpu, on, status=500 if fate == "error" else 200)

    serve(handle, settings)


if __name__ == "__main__":
    main(sys.argv[1])
