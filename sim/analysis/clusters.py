"""Workers on a cluster: of Dask, started here or elsewhere, and of Ray.

Ray runs through joblib. Dask is asked directly: joblib's backend for it waits for ever for a job whose workers died.

Leaves out: how a cluster is set up; what Python and libraries its workers have, beside the version of coordsim.
Checked: tests/test_jobs.py, tests/test_cells.py.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from importlib import import_module
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .jobs import ClusterError, Done, Job, Simulate, WorkerDied, WorkerError, Workers, in_worker, version

S = TypeVar("S")

CONNECT = 5.0  # s to wait for a scheduler to answer
WORKERS = 10.0  # s to wait for its first worker
LONELY = 60.0  # s without any worker before a study gives up: a queue of a cluster may bring new ones
AHEAD = 2  # jobs given to each thread, so that none waits for this process
# What each worker started here does first: a keyboard interrupt reaches every process of the terminal, and is not for them.
PRELOAD = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
CHUNK = 4  # jobs for each worker of Ray that come back together


def _needed(module: str, extra: str) -> Any:
    """Return a module of an extra. Raises ClusterError where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ClusterError(
            f"the {extra} backend needs {error.name}; try `pip install 'coordsim[{extra}]'`, or the local backend"
        ) from error


class DaskCrew:
    """Workers of a Dask scheduler that is there, or of one that is started on this machine and ends with the crew."""

    def __init__(self, given: Workers) -> None:
        distributed = _needed("distributed", "dask")
        self.where = f"the Dask scheduler at {given.scheduler}"
        self._cluster: Any = None
        self._most = given.count
        # It tells of every worker that it starts anew.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if given.scheduler is None:
            self.where = "the Dask cluster on this machine"
            # A job may kill one worker more than this before it is given up, and then runs alone.
            with _needed("dask", "dask").config.set({"distributed.scheduler.allowed-failures": 1}):
                self._cluster = distributed.LocalCluster(
                    n_workers=given.count or os.cpu_count(),
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",  # it always serves something; so on any port that is free
                    scheduler_kwargs={"dashboard": False},
                    preload=[PRELOAD],
                    memory_limit=0,  # as for processes without it, the machine's memory is the limit
                    silence_logs=logging.CRITICAL,
                )
        try:
            self._client = distributed.Client(self._cluster or given.scheduler, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            self._end_cluster()
            raise ClusterError(
                f"{self.where} does not answer ({error}); start one with `dask scheduler`, and give the address that it prints"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError as error:
            self.close()
            raise ClusterError(
                f"{self.where} has no worker; start some with `dask worker {given.scheduler}`"
            ) from error

    @property
    def count(self) -> int:
        """How many jobs run at a time: the threads of all workers, or fewer if fewer were asked for."""
        threads: int = max(1, sum(self._client.nthreads().values()))
        return threads if self._most is None else min(threads, self._most)

    def run(
        self, simulate: Simulate[S], jobs: Sequence[Job[S]], wanted: Callable[[int], bool], apart: bool = False
    ) -> Generator[Done, None, None]:
        """Yield what comes of the jobs, as it comes. Raises WorkerDied for a job whose workers died, one after the other."""
        here, ended = version(), SimpleQueue[Any]()
        turns, running = iter(range(len(jobs))), dict[Any, int]()
        # With fewer workers than the cluster has, no job may wait at a worker, or it would run beside the others.
        most = self.count if self._most is not None and self._cluster is None else AHEAD * self.count
        try:
            while True:
                while len(running) < most and (place := next(filter(wanted, turns), None)) is not None:
                    future = self._client.submit(in_worker, simulate, jobs[place], place, here, pure=False)
                    running[future] = place
                    future.add_done_callback(ended.put)
                if not running:
                    return
                future = self._next(ended)
                yield self._done(future, running.pop(future))
                future.release()
        finally:
            if running:
                self._client.cancel(list(running), force=True)

    def _next(self, ended: SimpleQueue[Any]) -> Any:
        """Return the next job that ended. Raises WorkerError when there is no worker any more, or no scheduler."""
        lonely = time.monotonic()
        while True:
            try:
                return ended.get(timeout=1.0)
            except Empty:
                if self._client.status != "running":
                    raise WorkerError(f"{self.where} is gone") from None
                if self._client.nthreads():
                    lonely = time.monotonic()
                elif time.monotonic() - lonely > LONELY:
                    raise WorkerError(f"{self.where} has had no worker for {LONELY:.0f} s") from None

    def _done(self, future: Any, place: int) -> Done:
        killed = _needed("distributed", "dask").KilledWorker
        try:
            found: Done = future.result()
        except ClusterError:
            raise
        except killed as error:
            what = f"the workers that {self.where} gave a job to died, most often for want of memory"
            raise WorkerDied(f"{what}; try fewer workers a machine", (place,)) from error
        except Exception as error:
            if future.status == "error":
                raise _useless(self.where, error) from error
            raise WorkerError(f"{self.where} is gone ({type(error).__name__}: {error})") from error
        return found

    def close(self) -> None:
        """Leave the scheduler, and end it if it was started here."""
        self._client.close()
        self._end_cluster()

    def _end_cluster(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


def _useless(where: str, error: Exception) -> ClusterError:
    """Return what is to be said of workers that cannot even begin."""
    return ClusterError(
        f"the workers of {where} cannot run coordsim {version()} ({type(error).__name__}: {error}); "
        "install the same version there"
    )


class RayCrew:
    """Workers of the Ray that runs in this process already or at RAY_ADDRESS, or of one that is started, and ends with the crew."""

    def __init__(self, given: Workers) -> None:
        self._ray = _needed("ray", "ray")
        _needed("ray.util.joblib", "ray").register_ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
            if "RAY_ADDRESS" not in os.environ:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it asks nobody before it reports to its makers
                count = given.count or os.cpu_count() or 1
                quiet |= {"num_cpus": max(2, count), "include_dashboard": False}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of what later versions of Ray will do
                    self._ray.init(**quiet)
            except (OSError, RuntimeError, ValueError) as error:
                raise ClusterError(f"Ray cannot be used: {error}") from error
        self.count: int = given.count or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self._pool: Any = None
        self._idle = True
        self._open = ExitStack()

    def run(
        self, simulate: Simulate[S], jobs: Sequence[Job[S]], wanted: Callable[[int], bool], apart: bool = False
    ) -> Generator[Done, None, None]:
        """Yield what comes of the jobs, some at a time: Ray's backend for joblib knows no other way."""
        from joblib import delayed

        turns, here = iter(range(len(jobs))), version()
        # To joblib one process is this one; so there are two, and one of them idles.
        most = CHUNK * self.count if self.count > 1 else 1
        while chunk := list(islice(filter(wanted, turns), most)):
            calls = [delayed(in_worker)(simulate, jobs[place], place, here) for place in chunk]
            try:
                pool, self._idle = self._workers(), False
                found = pool(calls)
            except ClusterError:
                raise
            except self._ray.exceptions.RayActorError as error:
                self._end_workers()
                what = "a worker of Ray died, most often for want of memory; try fewer workers"
                raise WorkerDied(what, chunk) from error
            except self._ray.exceptions.RayError as error:
                raise _useless("Ray", error) from error
            self._idle = True
            yield from found

    def _workers(self) -> Any:
        """Return joblib's pool, whose processes stay from call to call."""
        from joblib import Parallel, parallel_config

        if self._pool is None:
            self._open.enter_context(parallel_config(backend="ray"))
            self._pool = self._open.enter_context(Parallel(n_jobs=max(2, self.count), batch_size=1, max_nbytes=None))
        return self._pool

    def _end_workers(self) -> None:
        if self._pool is not None and self._idle:
            # joblib kills them, and of that Ray tells at length on stderr; so they end by themselves before.
            processes = self._pool._backend._pool
            processes.close()
            processes.join()
        self._pool = None
        self._open.close()

    def close(self) -> None:
        """End Ray if it was started here, and else what was started in it."""
        self._end_workers()
        if self._ours:
            self._ray.shutdown()
