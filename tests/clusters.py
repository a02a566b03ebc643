"""Clusters on this machine for tests: a Dask scheduler with two workers over TCP, each a process that is ended by its number."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
QUIET = ["--no-dashboard"]


class Cluster(NamedTuple):
    """Where the scheduler listens, and the processes of its workers."""

    address: str
    workers: tuple[int, ...]


@contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Run a scheduler and workers of one thread each, without a nanny that would start a dead one again, in `folder`."""
    with ExitStack() as stack:
        # The port is the system's choice, so that tests can run beside each other.
        scheduler = stack.enter_context(_process("scheduler", "--host", "127.0.0.1", "--port", "0", folder=folder))
        address = _told(scheduler, "Scheduler at:")
        started = [
            stack.enter_context(
                _process(
                    "worker",
                    address,
                    "--nthreads",
                    "1",
                    "--no-nanny",
                    "--memory-limit",
                    "0",
                    "--local-directory",
                    str(folder),
                    folder=folder,
                )
            )
            for _ in range(workers)
        ]
        for worker in started:
            _told(worker, "Registered to:")
        yield Cluster(address, tuple(worker.pid for worker in started))


@contextmanager
def _process(kind: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments, *QUIET]
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def _told(process: subprocess.Popen[str], mark: str) -> str:
    """Return the last word of the first line with the mark, which the process writes when it is ready."""
    stream: IO[str] | None = process.stderr
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if mark in line:
            return line.split()[-1]
    raise AssertionError("the process ended: " + "".join(seen))


def kill(process: int) -> None:
    """End a process as want of memory does: at once."""
    os.kill(process, signal.SIGKILL)
