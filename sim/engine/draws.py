"""The random numbers of one run.

Every draw is a pure function of (seed, replication, name of the stream, task, ordinal, lane): never of the order in which
events ask. So adding a component, a fault or another runtime leaves every other draw as it was, and two scenarios
compared meet the same tasks. The numbers come in blocks from a counter-based generator (Philox): the stream's name makes
its key; task, ordinal and lane make its counter.

There are two shapes of block. Nearly every task makes the first `HEAD` draws of a stream, so those lie in blocks of `BLOCK`
tasks for one ordinal. Later ordinals are reached by few tasks (long loops), so those lie in runs of `RUN` ordinals of one task.

Measured (CPython 3.11, numpy 2.4, lognormal, one shared core): setting the counter of a standing Philox costs 1.7 µs, a new
generator 12 µs. A fill of 32 values costs 3 µs, of 128 5 µs, of 256 8 µs, of 512 14 µs (exponential: a fifth less), a hit in
a task block 85 ns, in a run 150 ns. One draw, its share of the fills counted, costs about
    usage                                           task blocks only   with runs
    chain of 10 steps, every task                       165 ns           165 ns
    geometric loop, mean 6                              380 ns           305 ns
    geometric loop, mean 30                             390 ns           295 ns
    loop with a Pareto tail (alpha 1.2, at most 300)   1450 ns           310 ns
    loop of 100 steps, every task                       150 ns           320 ns
Blocks of 128, 256 and 512 tasks differ by about a tenth, either way; 256 takes half the memory of 512.

Leaves out: quasi-random and antithetic draws.
Checked: tests/test_draws.py (purity, independence, bounded memory).
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.random import Generator, Philox

__all__ = ["BLOCK", "HEAD", "MAX_ORDINAL", "ROOT_LANE", "RUN", "Choice", "Draws", "Sampler", "Stream", "lane"]

SHIFT = 8
BLOCK = 1 << SHIFT
MASK = BLOCK - 1

HEAD = 16
RUN_SHIFT = 5
RUN = 1 << RUN_SHIFT
RUN_MASK = RUN - 1
_TAIL = RUN - HEAD  # added to an ordinal >= HEAD, so that runs are numbered from 1 and start at offset 0

ROOT_LANE = 0
_LANE_SHIFT = 24  # the bits under a lane's hash: (number of the run, task within its block), or the ordinal
MAX_ORDINAL = (1 << (_LANE_SHIFT - SHIFT + RUN_SHIFT)) - RUN
_TAIL_WORD = 1 << 32  # sets the counters of runs apart from those of task blocks

Sampler = Callable[[Generator, int], np.ndarray]
"""Makes n independent values from a generator, in one numpy call."""

V = TypeVar("V", int, float)


class Stream(Generic[V]):
    """One purpose's draws. `constant` is the value of every draw where there is no chance in it: read it and skip the call."""

    __slots__ = ("_blocks", "_key", "_over", "_sampler", "_source", "constant", "name")

    def __init__(self, name: str, key: np.ndarray, sampler: Sampler, source: _Source, over: set[int]) -> None:
        self.name = name
        self.constant: V | None = None
        self._key = key
        self._sampler = sampler
        self._source = source
        self._over = over
        self._blocks: dict[int, dict[int, list[V]]] = {}

    def draw(self, task: int, ordinal: int, lane: int = ROOT_LANE) -> V:
        """Return the `ordinal`-th draw (from 0) of `task` in a lane. Hot: a hit costs two look-ups."""
        try:
            if ordinal < HEAD:
                return self._blocks[task >> SHIFT][lane + ordinal][task & MASK]
            place = ordinal + _TAIL
            return self._blocks[task >> SHIFT][lane + (place >> RUN_SHIFT << SHIFT) + (task & MASK)][place & RUN_MASK]
        except KeyError:
            return self._fill(task, ordinal, lane)

    def drop(self, block: int) -> None:
        """Forget a block of tasks."""
        self._blocks.pop(block, None)

    @property
    def held(self) -> int:
        """How many values are in memory."""
        return sum(len(values) for rows in self._blocks.values() for values in rows.values())

    def _fill(self, task: int, ordinal: int, lane: int) -> V:
        if task < 0 or not 0 <= ordinal < MAX_ORDINAL:
            raise ValueError(f"`task >= 0` and `0 <= ordinal < {MAX_ORDINAL}` must hold, but got ({task=}, {ordinal=})")
        block, place = task >> SHIFT, ordinal + _TAIL
        if ordinal < HEAD:
            key, index, count = lane + ordinal, task & MASK, BLOCK
            generator = self._source.at(self._key, block, ordinal, lane)
        else:
            run = place >> RUN_SHIFT
            key, index, count = lane + (run << SHIFT) + (task & MASK), place & RUN_MASK, RUN
            generator = self._source.at(self._key, task, _TAIL_WORD + run, lane)
        values: list[V] = self._sampler(generator, count).tolist()
        if block not in self._over:  # a straggler's late draw must not bring back a block that nobody would drop again
            self._blocks.setdefault(block, {})[key] = values
        return values[index]


class _Constant(Stream[V]):
    __slots__ = ()

    def draw(self, task: int, ordinal: int, lane: int = ROOT_LANE) -> V:
        return self.constant  # type: ignore[return-value]  # set by `_constant`, before anyone draws


class _Source:
    """One Philox generator, moved to any place of any stream."""

    __slots__ = ("_counter", "_generator", "_philox", "_state")

    def __init__(self) -> None:
        self._philox = Philox(key=0)
        self._generator = Generator(self._philox)
        self._state: Any = self._philox.state  # of a generator that has not drawn: its buffer is empty
        self._counter: np.ndarray = self._state["state"]["counter"]

    def at(self, key: np.ndarray, a: int, b: int, c: int) -> Generator:
        """Return the generator, standing at the counter (0, a, b, c); good until the next call."""
        counter = self._counter
        counter[0] = 0
        counter[1] = a
        counter[2] = b
        counter[3] = c
        self._state["state"]["key"] = key
        self._philox.state = self._state
        return self._generator


class Draws:
    """The streams of one replication. Replications of one seed are independent of each other."""

    def __init__(self, seed: int, replication: int = 0) -> None:
        self.seed = seed
        self.replication = replication
        self._source = _Source()
        self._streams: list[Stream[Any]] = []
        self._ended: dict[int, int] = {}
        self._over: set[int] = set()

    def stream(self, name: str, sampler: Sampler | float) -> Stream[float]:
        """Return the stream of a purpose, such as `tools.search/latency`. The same name gives the same numbers.

        A number in place of a sampler is a constant: every draw is that number.
        """
        return self._constant(name, float(sampler)) if isinstance(sampler, (int, float)) else self._add(name, sampler)

    def uniform(self, name: str) -> Stream[float]:
        """Return a stream of uniform numbers in [0, 1)."""
        return self._add(name, _uniform)

    def choice(self, name: str, weights: Sequence[float]) -> Stream[int]:
        """Return a stream of indices into `weights`, each as likely as its weight says."""
        choice = Choice(weights)
        return self._add(name, choice) if choice.only is None else self._constant(name, choice.only)

    def finish(self, task: int) -> None:
        """Tell that a task ended, once. When all tasks of a block have, its numbers are dropped; asked again, they are the same."""
        block = task >> SHIFT
        ended = self._ended.get(block, 0) + 1
        if ended < BLOCK:
            self._ended[block] = ended
            return
        self._ended.pop(block, None)
        self._over.add(block)
        for stream in self._streams:
            stream.drop(block)

    @property
    def held(self) -> int:
        """How many values are in memory, over all streams."""
        return sum(stream.held for stream in self._streams)

    def _add(self, name: str, sampler: Sampler) -> Stream[Any]:
        stream: Stream[Any] = Stream(name, self._key(name), sampler, self._source, self._over)
        self._streams.append(stream)
        return stream

    def _constant(self, name: str, value: V) -> Stream[V]:
        stream: Stream[V] = _Constant(name, self._key(name), _uniform, self._source, self._over)
        stream.constant = value
        return stream

    def _key(self, name: str) -> np.ndarray:
        text = f"{self.seed}\0{self.replication}\0{name}".encode()
        digest = hashlib.blake2b(text, digest_size=16, person=b"coordsim draws").digest()
        return np.array(struct.unpack("<2Q", digest), dtype=np.uint64)


class Choice:
    """A sampler of indices into `weights` (finite, >= 0, not all zero), by inversion: one uniform number a draw.

    `only` is the one index that can occur, where there is only one.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        values = np.asarray(weights, dtype=float)
        if values.ndim != 1 or not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
            raise ValueError(f"weights must be finite, >= 0 and not all zero, got {list(weights)}")
        possible = np.flatnonzero(values)
        self.only: int | None = int(possible[0]) if len(possible) == 1 else None
        cumulative = np.cumsum(values / values.max())
        cumulative /= cumulative[-1]
        cumulative[possible[-1] :] = 1.0  # a rounded sum must not reach past the last index that can occur
        self._cumulative = cumulative

    def __call__(self, rng: Generator, n: int) -> np.ndarray:
        """Return n indices."""
        return self._cumulative.searchsorted(rng.random(n), side="right")


def _uniform(rng: Generator, n: int) -> np.ndarray:
    return rng.random(n)


@lru_cache(maxsize=1 << 16)
def lane(parent: int, fork: int, visit: int, branch: int) -> int:
    """Return the lane of a parallel branch: a hash of 40 bits, left free of the low 24 bits, never the root's.

    `parent` is the lane that forks, `fork` the number of the fork in the workflow, `visit` how often the task came there
    before, `branch` the index of the branch. Branches with lanes of their own may ask in any order.
    """
    digest = hashlib.blake2b(
        struct.pack("<4Q", parent, fork, visit, branch), digest_size=5, person=b"coordsim lane"
    ).digest()
    return (int.from_bytes(digest, "little") or 1) << _LANE_SHIFT
