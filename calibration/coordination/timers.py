"""Timers: how long a sleep lasts that was asked to last so many seconds.

Leaves out: many timers at once; timers on a busy machine (`co_run` says what that adds).
Checked: tests/test_coordination_probes.py.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..probe import Call, Case, Found, Probe

__all__ = ["probes"]

SIZES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)  # seconds asked


def probes() -> Found:
    """Return the probes of `timer`."""
    found = []
    for via, prepare in (("sleep", _sleeping), ("asyncio", _in_asyncio)):
        cases = tuple(Case("timer", {"via": via}, {"seconds": asked}) for asked in SIZES)
        found.append(Probe("timer", {"via": via}, cases, prepare))
    return Found(tuple(found))


@contextmanager
def _sleeping(case: Case) -> Iterator[Call]:
    asked = case.sizes["seconds"]

    def call(_turn: int) -> float:
        begin = time.perf_counter()
        time.sleep(asked)
        return time.perf_counter() - begin

    yield call


@contextmanager
def _in_asyncio(case: Case) -> Iterator[Call]:
    asked = case.sizes["seconds"]

    async def sleep() -> float:
        begin = time.perf_counter()  # inside the loop: starting and stopping it is no part of the sleep
        await asyncio.sleep(asked)
        return time.perf_counter() - begin

    with asyncio.Runner() as runner:
        yield lambda _turn: runner.run(sleep())
