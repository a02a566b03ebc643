"""Processes: starting one, forking and joining branches, and working beside busy ones.

Branches are empty: what is measured is starting and joining them, not what they do. Threads and processes of branches
run already and sleep, as in a pool. A co-run returns the mean of several pieces of work without a rest between them: one
piece is shorter than a scheduler's time slice, so alone it would often see no neighbour at all.

Leaves out: what a process does before it answers beyond its start (imports of a real program); branches of other
machines; neighbours that fight for memory bandwidth and caches rather than for cores.
Checked: tests/test_coordination_probes.py.
"""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from ..probe import Call, Case, Found, Missing, Probe
from .crossings import PACE
from .servers import Shared, Spinners, cores, peers

__all__ = ["FORKS", "Fork", "probes", "work"]

BRANCHES = (1, 2, 3, 4, 6, 8, 12, 16)
MOST_BUSY = 4
_PIECES = 12  # of a call of a co-run
_STEPS = 80_000  # of a piece of work: near 2 ms on a core of 2020 to 2025

Fork = Callable[[], tuple[int, float]]
"""Start the branches and join them; return how many ran, and the seconds."""


def probes() -> Found:
    """Return the probes of `spawn`, `fork_join` and `co_run`."""
    return _spawns() + Found((*_forks(), _co_run()))


def _spawns() -> Found:
    """Return the probes of starting a program that does nothing."""
    programs = {"python": [sys.executable, "-S", "-c", "pass"]}
    missing: list[Missing] = []
    if path := shutil.which("true"):
        programs["true"] = [path]
    else:
        missing.append(Missing("spawn[what=true]", "there is no program `true` on the path"))
    return Found(tuple(_spawn(what, command) for what, command in programs.items()), tuple(missing))


def _spawn(what: str, command: list[str]) -> Probe:
    @contextmanager
    def prepare(_case: Case) -> Iterator[Call]:
        def call(_turn: int) -> None:
            # `check`: a program that could not start would look quick.
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

        yield call

    options = {"what": what}
    return Probe("spawn", options, (Case("spawn", options),), prepare)


def _forks() -> list[Probe]:
    """Return the probes of `fork_join`, one for each way to run branches."""
    return [
        Probe(
            "fork_join",
            {"via": via},
            tuple(Case("fork_join", {"via": via}, {"branches": float(count)}) for count in BRANCHES),
            partial(_forking, fork),
            pace=PACE,
        )
        for via, fork in FORKS.items()
    ]


@contextmanager
def _forking(fork: Callable[[int], AbstractContextManager[Fork]], case: Case) -> Iterator[Call]:
    branches = int(case.sizes["branches"])
    with fork(branches) as run:

        def call(_turn: int) -> float:
            joined, seconds = run()
            if joined != branches:
                raise RuntimeError(f"{case.name}: {joined} branches ran")
            return seconds

        yield call


@contextmanager
def fork_in_asyncio(branches: int) -> Iterator[Fork]:
    """Gather coroutines that do nothing."""

    async def branch() -> int:
        return 1

    async def run() -> tuple[int, float]:
        begin = time.perf_counter()  # inside the loop: starting and stopping it is no part of the fork
        joined = sum(await asyncio.gather(*(branch() for _ in range(branches))))
        return joined, time.perf_counter() - begin

    with asyncio.Runner() as runner:
        yield lambda: runner.run(run())


@contextmanager
def fork_in_threads(branches: int) -> Iterator[Fork]:
    """Submit to a pool of as many threads, and wait for all."""
    with ThreadPoolExecutor(branches) as pool:
        together = threading.Barrier(branches)  # a pool starts threads as it needs them: make it need all
        wait([pool.submit(together.wait) for _ in range(branches)])

        def run() -> tuple[int, float]:
            begin = time.perf_counter()
            futures = [pool.submit(int, 1) for _ in range(branches)]
            wait(futures)
            seconds = time.perf_counter() - begin
            return sum(future.result() for future in futures), seconds

        yield run


@contextmanager
def fork_in_processes(branches: int) -> Iterator[Fork]:
    """Write a byte to as many processes that wait for one, and read a byte from each."""
    with peers(branches, "branch") as running:

        def run() -> tuple[int, float]:
            begin = time.perf_counter()
            for each in running:
                each.write(b"1")
            joined = sum(len(each.read(1)) for each in running)
            return joined, time.perf_counter() - begin

        yield run


FORKS: dict[str, Callable[[int], AbstractContextManager[Fork]]] = {
    "asyncio": fork_in_asyncio,
    "threads": fork_in_threads,
    "processes": fork_in_processes,
}


def work() -> int:
    """Do a fixed piece of work."""
    total = 0
    for step in range(_STEPS):
        total += step
    return total


def _co_run() -> Probe:
    """Return the probe of work beside 0 to as many busy processes as there are cores, `MOST_BUSY` at most."""
    most = min(cores(), MOST_BUSY)
    cases = tuple(Case("co_run", {}, {"busy": float(busy)}) for busy in range(most + 1))
    return Probe("co_run", {}, cases, partial(_co_running, Shared(partial(Spinners.open, most))))


@contextmanager
def _co_running(shared: Shared[Spinners], case: Case) -> Iterator[Call]:
    busy = int(case.sizes["busy"])
    with shared.use() as spinners:

        def call(_turn: int) -> float:
            with spinners.busy(busy):
                begin = time.perf_counter()
                for _ in range(_PIECES):
                    work()
                return (time.perf_counter() - begin) / _PIECES

        yield call
