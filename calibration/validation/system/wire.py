"""What the processes of the system say to each other: JSON or msgpack over HTTP, with time stamps in a header.

A reply tells when its server took the request up, had read it, had decoded it, began and ended the work, was back on its event loop, and
had encoded the answer; how much CPU time the work took, and on which core. All processes read one clock of the machine (monotonic), so their stamps
compare.

Leaves out: TLS; compression; servers on other machines, whose clocks differ.
Checked: tests/test_validation_system.py.
"""

import ctypes
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from .terms import TOKEN

__all__ = ["CODECS", "STAMPS", "Codec", "Stamps", "core", "text"]

STAMPS = "X-Stamps"


class Codec(NamedTuple):
    """Objects to bytes and back."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _json() -> Codec:
    return Codec(lambda value: json.dumps(value, separators=(",", ":")).encode(), json.loads)


def _msgpack() -> Codec:
    msgpack = import_module("msgpack")
    return Codec(msgpack.packb, msgpack.unpackb)


CODECS: dict[str, Callable[[], Codec]] = {"json": _json, "msgpack": _msgpack}


class Stamps(NamedTuple):
    """What a server tells of a request: times (s), the CPU time of the work (s), and the core it began on."""

    taken: float
    read: float
    decoded: float
    started: float
    ended: float
    back: float
    encoded: float
    work: float
    core: float

    def header(self) -> str:
        """Return them as a header's text."""
        return ",".join(f"{value:.7f}" for value in self)

    @classmethod
    def of(cls, header: str) -> "Stamps":
        """Return what a header says."""
        return cls(*map(float, header.split(",")))


_libc = ctypes.CDLL(None)


def core() -> float:
    """Return the number of the core that this thread runs on; -1 where the system does not tell."""
    return float(_libc.sched_getcpu()) if hasattr(_libc, "sched_getcpu") else -1.0


_WORDS = "the plan calls a tool and reads what it found before it goes on with another step of the task "


def text(tokens: int, seed: int = 0) -> str:
    """Return text of so many tokens."""
    start = seed * 7 % len(_WORDS)
    size = tokens * TOKEN
    return (_WORDS * (2 + size // len(_WORDS)))[start : start + size]
