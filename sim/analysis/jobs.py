"""Where replications run: in this process, in processes of this machine, or on a cluster.

A job is a pure function of its arguments, so results do not depend on how many workers there are, where they are, or who ends
first. A crew is the workers while they are there: whoever runs several rounds of jobs opens one for all.

Leaves out: what a job is (`replicate`, `cells`), clusters (`clusters`), what to do when a worker dies (`cells`).
Checked: tests/test_jobs.py, tests/test_replicate.py.
"""

from __future__ import annotations

import pickle
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol, TypeVar

from ..engine.errors import CoordsimError
from .result import Result

S = TypeVar("S")
T = TypeVar("T")

Simulate = Callable[[S, int, int, str], Result]
"""Runs one replication: takes scenario, seed, number and which spans to keep ('all', 'sampled' or 'none')."""

Job = tuple[S, int, int, str]
"""The arguments of a `Simulate`."""

Backend = Literal["local", "dask", "ray"]


@dataclass(frozen=True, slots=True)
class Workers:
    """Who runs the jobs: `count` processes of a backend; None for all that a cluster, or this machine, has.

    `scheduler` is the address of a Dask scheduler that runs already, such as tcp://host:8786; without one, and for Ray without
    a cluster, one is started on this machine.
    """

    count: int | None = 1
    backend: Backend = "local"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"`workers` must be at least 1, but got {self.count}")
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError(f"`scheduler` is the address of a Dask scheduler, but the backend is '{self.backend}'")


class WorkerError(CoordsimError):
    """A worker process died, most often for want of memory, or none is left."""


class WorkerDied(WorkerError):
    """A worker process died; `suspects` are the places of the jobs that may have been its last."""

    def __init__(self, message: str, suspects: Sequence[int] = ()) -> None:
        self.suspects = tuple(suspects)
        super().__init__(message)


class ClusterError(CoordsimError):
    """A cluster that cannot be used: its package or its scheduler is missing, or its workers have another coordsim."""


@dataclass(frozen=True, slots=True)
class Raised:
    """What a job raised, in place of its result; `told` is what it said where it was raised, if it had to be replaced on the way."""

    error: Exception
    told: str = ""

    def __str__(self) -> str:
        """Return it as a table tells it."""
        return self.told or _words(self.error)


Done = tuple[int, Result | Raised]
"""The place of a job among those given, and what came of it."""


class Crew(Protocol):
    """Workers that are there until their context ends; `count` of them work at a time."""

    @property
    def count(self) -> int:
        """How many jobs run at a time."""

    def run(
        self, simulate: Simulate[S], jobs: Sequence[Job[S]], wanted: Callable[[int], bool], apart: bool = False
    ) -> Generator[Done, None, None]:
        """Yield what comes of the jobs, as it comes; a place that is not `wanted` when its turn comes is left out.

        `apart` from this process runs even a single job, unless there is but this process.
        Whoever stops early must close the generator, which ends what runs. Raises WorkerDied, WorkerError and ClusterError.
        """

    def close(self) -> None:
        """End what was started."""


@contextmanager
def opened(workers: int | Workers | Crew) -> Iterator[Crew]:
    """Return a context with a crew, which ends with it; a crew that is there already is left to its owner.

    Raises ClusterError where there is none to be had.
    """
    if not isinstance(workers, int | Workers):
        yield workers
        return
    given = workers if isinstance(workers, Workers) else Workers(workers)
    with closing(_crew(given)) as crew:
        yield crew


def _crew(given: Workers) -> Crew:
    if given.backend == "local":
        return _Local(given.count)
    from .clusters import DaskCrew, RayCrew

    return DaskCrew(given) if given.backend == "dask" else RayCrew(given)


def run_jobs(
    simulate: Simulate[S], jobs: Sequence[Job[S]], workers: int | Workers | Crew
) -> Generator[Result, None, None]:
    """Yield the results of jobs (arguments of `simulate`) in order, `workers` at a time, in this process if that is one.

    Whoever stops early must close the generator, which ends the workers. Raises what a job raised, WorkerError when a worker
    dies, and ClusterError for a cluster that cannot be used.
    """
    return heeding(_in_order(simulate, jobs, workers))


def _in_order(
    simulate: Simulate[S], jobs: Sequence[Job[S]], workers: int | Workers | Crew
) -> Generator[Result, None, None]:
    early: dict[int, Result | Raised] = {}
    turn = 0
    with opened(workers) as crew, closing(crew.run(simulate, jobs, lambda _place: True)) as results:
        for place, done in results:
            early[place] = done
            while turn in early:
                yield _result(early.pop(turn))
                turn += 1


def _result(done: Result | Raised) -> Result:
    if isinstance(done, Raised):
        raise done.error
    return done


def heeding(results: Generator[T, None, None]) -> Generator[T, None, None]:
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


def version() -> str:
    """Return the version of coordsim here; workers of a cluster must have the same."""
    from ... import __version__

    return __version__


def in_worker(simulate: Simulate[S], job: Job[S], place: int, wanted: str) -> Done:
    """Run a job in a worker whose coordsim must be the `wanted` version. Raises ClusterError where it is not."""
    if version() != wanted:
        raise ClusterError(f"a worker has coordsim {version()}, but this is {wanted}; install the same there")
    if threading.current_thread() is threading.main_thread():
        # A keyboard interrupt reaches every process of the terminal; the one that started the workers ends them.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return place, simulate(*job)
    except Exception as error:  # noqa: BLE001  # it is told where the job was given
        return place, Raised(_sendable(error), _words(error))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _sendable(error: Exception) -> Exception:
    """Return the error with its traceback as a note, or one that says the same where it would not survive the way."""
    error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # pickling runs code of the error
        return RuntimeError(_words(error))
    return error


class _Local:
    """Processes of this machine, or this process where one is enough."""

    def __init__(self, count: int | None) -> None:
        from joblib import cpu_count

        self.count: int = count or cpu_count()

    def run(
        self, simulate: Simulate[S], jobs: Sequence[Job[S]], wanted: Callable[[int], bool], apart: bool = False
    ) -> Generator[Done, None, None]:
        """Yield what comes of the jobs."""
        if self.count == 1 or (len(jobs) <= 1 and not apart):
            return _here(simulate, jobs, wanted)
        # To joblib one process is this one.
        return _processes(simulate, jobs, wanted, max(2, min(self.count, len(jobs))))

    def close(self) -> None:
        """Leave the processes to joblib, which ends them when they were idle for a while, or with this one."""


def _here(simulate: Simulate[S], jobs: Sequence[Job[S]], wanted: Callable[[int], bool]) -> Generator[Done, None, None]:
    for place, job in enumerate(jobs):
        if wanted(place):
            done: Result | Raised
            try:
                done = simulate(*job)
            except Exception as error:  # noqa: BLE001  # it is told where the job was given
                done = Raised(error)
            yield place, done


def _processes(
    simulate: Simulate[S], jobs: Sequence[Job[S]], wanted: Callable[[int], bool], count: int
) -> Generator[Done, None, None]:
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # Of a worker that ended for want of work, and is replaced, nobody needs to hear.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    begun: dict[int, None] = {}  # in the order in which the processes take them

    def calls() -> Iterator[Any]:
        for place, job in enumerate(jobs):
            if wanted(place):
                begun[place] = None
                yield delayed(in_worker)(simulate, job, place, version())

    # One thread a worker: more only compete for the cores.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool = Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1, max_nbytes=None)
        results = pool(calls())
    complete, told = False, threading.excepthook
    _hush_manager()
    try:
        for place, done in results:
            del begun[place]
            yield place, done
        complete = True
        threading.excepthook = told
    except TerminatedWorkerError as error:
        why = "a worker process died, most often for want of memory; try fewer workers"
        raise WorkerDied(why, list(begun)[:count]) from error
    except BrokenExecutor as error:
        raise WorkerError(f"the worker processes cannot run the jobs: {error}") from error
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


def _end_workers() -> None:
    """Kill the worker processes, which otherwise wait a while for more work."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
