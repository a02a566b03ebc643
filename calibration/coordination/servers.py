"""Peer processes: started when first needed, shared while someone uses them, ended with the last, on errors too.

A peer ends by itself when its standard input closes, so none is left when this process is killed. Busy peers are busy
only inside a call that asks for it: a case that is open does not disturb the others.

Leaves out: peers on other machines; systems that are not POSIX.
Checked: tests/test_coordination_probes.py.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["Peer", "Shared", "Spinners", "cores", "peer", "peers"]

_SCRIPT = Path(__file__).with_name("peer.py")
_PATIENCE = 2.0  # seconds a peer gets to end by itself
T = TypeVar("T")


def cores() -> int:
    """Return how many cores this process may use."""
    allowed: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


class Peer:
    """A running peer. `where` is the line it opened with: the port it listens on, or nothing."""

    def __init__(self, what: str, *arguments: str) -> None:
        # -I and -S: nothing of the user's, and a start in milliseconds. A group of its own: Ctrl-C is ours to handle.
        command = [sys.executable, "-I", "-S", str(_SCRIPT), what, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._out, self._in = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._what = what
        self.where = ""

    def wait_until_ready(self) -> None:
        """Read the line it opens with. Raises RuntimeError where it ended instead."""
        line = b""
        while not line.endswith(b"\n"):
            line += self.read(64)
        self.where = line.decode().strip()

    def write(self, data: bytes) -> None:
        """Write all of it to the peer's standard input."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]

    def read(self, size: int) -> bytes:
        """Read at least a byte of what the peer wrote. Raises RuntimeError where it has ended."""
        if not (data := os.read(self._in, size)):
            self.close()
            raise RuntimeError(f"the peer process `{self._what}` ended; its exit status is {self._process.returncode}")
        return data

    def close(self) -> None:
        """End it: by closing its input, and by killing it if it does not end by itself soon. Again changes nothing."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def peers(count: int, what: str, *arguments: str) -> Iterator[list[Peer]]:
    """Run `count` peers, which start together."""
    running: list[Peer] = []
    try:
        for _ in range(count):
            running.append(Peer(what, *arguments))  # noqa: PERF401 - those that started must be closed if one does not
        for each in running:
            each.wait_until_ready()
        yield running
    finally:
        for each in running:
            each.close()


@contextmanager
def peer(what: str, *arguments: str) -> Iterator[Peer]:
    """Run one peer."""
    with peers(1, what, *arguments) as (one,):
        yield one


class Shared(Generic[T]):
    """A resource that is opened for its first user and closed after its last. Not for several threads."""

    def __init__(self, open_it: Callable[[], AbstractContextManager[T]]) -> None:
        self._open = open_it
        self._users = 0
        self._stack = ExitStack()
        self._held: list[T] = []

    @contextmanager
    def use(self) -> Iterator[T]:
        """Yield the resource."""
        if not self._users:
            self._held = [self._stack.enter_context(self._open())]
        self._users += 1
        try:
            yield self._held[0]
        finally:
            self._users -= 1
            if not self._users:
                self._held = []
                self._stack.close()


class Spinners:
    """Processes that are busy on demand."""

    def __init__(self, running: list[Peer]) -> None:
        self._running = running

    @contextmanager
    def busy(self, count: int) -> Iterator[None]:
        """Keep `count` of them busy; they have said that they are, and on leaving that they are no more."""
        chosen = self._running[:count]
        self._tell(chosen, b"1")
        try:
            yield
        finally:
            self._tell(chosen, b"0")

    @staticmethod
    def _tell(chosen: list[Peer], command: bytes) -> None:
        for each in chosen:
            each.write(command)
        for each in chosen:
            each.read(1)

    @classmethod
    @contextmanager
    def open(cls, count: int) -> Iterator["Spinners"]:
        """Start `count` of them, waiting."""
        with peers(count, "spin") as running:
            yield cls(running)
