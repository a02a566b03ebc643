"""The processes of the system under test: started together, spoken to by lines, ended together.

Each ends by itself when its standard input closes, so none outlives the process that started it, however that one ends.

Leaves out: systems that are not POSIX.
Checked: tests/test_validation_system.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

__all__ = ["Child", "children"]

_PATIENCE = 3.0  # s that a process gets to end by itself
_PACKAGE = f"{__package__}.system"


class Child:
    """A process of the system: `line` is what it opened with, the port of a server."""

    def __init__(self, module: str, *arguments: str) -> None:
        # One thread each, or they would fight for the cores; a group of its own: Ctrl-C is ours to handle.
        # And memory stays with them, as a serving engine keeps its own: the kernel's work on fresh pages would be most of a short call.
        kept = {
            "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 31),
            "MALLOC_TOP_PAD_": str(1 << 26),
        }
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **kept}
        self.module = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{_PACKAGE}.{module}", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment,
        )  # fmt: skip
        self.line: Any = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    def read(self) -> str:
        """Return a line of its output. Raises RuntimeError where it has ended."""
        line = cast(IO[str], self.process.stdout).readline()
        if not line:
            self.close()
            raise RuntimeError(f"the process `{self.module}` ended with exit status {self.process.returncode}")
        return line.strip()

    def tell(self, asked: Any) -> None:
        """Send a line."""
        to = cast(IO[str], self.process.stdin)
        to.write(json.dumps(asked) + "\n")
        to.flush()

    def ask(self, asked: Any = None) -> Any:
        """Send a line, and return the answer."""
        self.tell(asked)
        return json.loads(self.read())

    def close(self) -> None:
        """End it: by closing its input, and by killing it if it does not end by itself soon."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def children(commands: Sequence[tuple[str, ...]]) -> Iterator[list[Child]]:
    """Run a process for each command (module, arguments), which start together."""
    running: list[Child] = []
    try:
        for command in commands:
            running.append(Child(*command))  # noqa: PERF401 - those that started must be closed if one does not
        for each in running:
            each.line = json.loads(each.read())
        yield running
    finally:
        for each in running:
            each.close()
