"""Where replications run: in this process, in processes of this machine, or on a cluster.

A job is a pure function of its arguments, so results do not depend on how many workers there are, where they are, or who ends
first.

Leaves out: what a job is (`replicate`, `cells`).
Checked: tests/test_jobs.py, tests/test_replicate.py.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from dataclasses import dataclass
from types import FrameType
from typing import Literal, TypeVar

from ..engine.errors import CoordsimError
from .result import Result

S = TypeVar("S")

Simulate = Callable[[S, int, int, str], Result]
"""Runs one replication: takes scenario, seed, number and which spans to keep ('all', 'sampled' or 'none')."""

Backend = Literal["local", "dask", "ray"]


@dataclass(frozen=True, slots=True)
class Workers:
    """Who runs the jobs: `count` processes of a backend; None for all that a cluster has.

    `scheduler` is the address of a Dask scheduler that runs already, such as tcp://host:8786; without one, and for Ray without
    a cluster, one is started on this machine.
    """

    count: int | None = 1
    backend: Backend = "local"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"`workers` must be at least 1, but got {self.count}")


class WorkerError(CoordsimError):
    """A worker process died, most often for want of memory."""


def run_jobs(
    simulate: Simulate[S], jobs: Sequence[tuple[S, int, int, str]], workers: int | Workers
) -> Generator[Result, None, None]:
    """Yield the results of jobs (arguments of `simulate`) in order, `workers` at a time, in this process if that is one.

    Whoever stops early must close the generator, which ends the workers. Raises WorkerError when one dies.
    """
    given = workers if isinstance(workers, Workers) else Workers(workers)
    count = min(given.count or len(jobs), len(jobs))
    if count > 1:
        return _heeding(_parallel(simulate, jobs, count))
    return _heeding(simulate(*job) for job in jobs)


def _heeding(results: Generator[Result, None, None]) -> Generator[Result, None, None]:
    """Yield the results, and heed a keyboard interrupt even where Python drops it: in a finalizer, say, or a callback of one."""
    noticed = False

    def notice(number: int, frame: FrameType | None) -> None:
        nonlocal noticed
        noticed = True
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, notice)
    try:
        with closing(results):
            for result in results:
                yield result
                if noticed:
                    raise KeyboardInterrupt
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _parallel(
    simulate: Simulate[S], jobs: Sequence[tuple[S, int, int, str]], workers: int | Workers
) -> Generator[Result, None, None]:
    """Yield the results in order. Whoever stops early closes the generator, and that ends the workers."""
    from joblib import Parallel, delayed, parallel_config

    # Of a worker that ended for want of work, and is replaced, nobody needs to hear.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    # One thread a worker: more only compete for the cores.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool = Parallel(n_jobs=workers, return_as="generator", batch_size=1, pre_dispatch="all", max_nbytes=None)
        results = pool(delayed(_in_worker)(simulate, job) for job in jobs)
    complete, told = False, threading.excepthook
    _hush_manager()
    try:
        for result in results:  # noqa: UP028  # `yield from` would close `results` before its warning can be silenced
            yield result
        complete = True
        threading.excepthook = told
    except BrokenExecutor as error:
        raise WorkerError(
            f"a worker process died, most often for want of memory; try fewer workers ({error})"
        ) from error
    finally:
        if not complete:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that some results were not used: they were not asked for any more
                results.close()
            _end_workers()


def _hush_manager() -> None:
    """Say nothing more of the thread that hands out work: stopped early, it finds its workers gone, and may say so late."""
    told = threading.excepthook

    def tell(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or not failure.thread.name.startswith("ExecutorManager"):
            told(failure)

    threading.excepthook = tell


def _in_worker(simulate: Simulate[S], job: tuple[S, int, int, str]) -> Result:
    # A keyboard interrupt reaches every process of the terminal; the one that started the workers ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return simulate(*job)


def _end_workers() -> None:
    """Kill the worker processes, which otherwise wait a while for more work."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
