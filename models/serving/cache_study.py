"""How much of a trace a prefix cache finds, for every capacity and time to live at once.

Requests come one after another; each looks its leading blocks up and is inserted at that moment. The cache keeps what was
used last, of one request the head rather than the tail. Such a cache of one size holds what a smaller one holds, and more:
so a block is found if no more others were used since than fit beside it, and if it was used less than a time to live ago.
One pass finds both numbers for each block. The distance is counted by requests: what one request used last lies in one piece.

Leaves out: how long a request holds its blocks, and output, which becomes content as well; a server has both (`replica`).
Checked: tests/test_cache_study.py, against `kv_cache` and against a list of single blocks.
Source: Mattson et al., IBM Systems Journal 9(2), 1970 (stack distances).
"""

import math
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Found", "Reuse", "Visit", "reuse"]

Visit = tuple[float, float, Sequence[Hashable]]
"""A request: its time (s), its tokens, and its blocks."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a cache found: blocks, tokens, requests of which it found anything, and the mean share of a request's tokens."""

    blocks: int
    tokens: float
    requests: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Reuse:
    """Of each block that had been there before, in order: its request, tokens, and what it takes to find it again.

    `distance` is the least capacity, in blocks; `gap` (s) must be less than the time to live. `lengths` are tokens by request.
    """

    request: np.ndarray
    tokens: np.ndarray
    distance: np.ndarray
    gap: np.ndarray
    lengths: np.ndarray
    asked: int
    """Blocks of all requests."""
    distinct: int
    """The blocks that an infinite cache holds in the end."""

    def found(self, capacity: float = math.inf, ttl: float = math.inf) -> Found:
        """Return what a cache of so many blocks finds, if blocks expire `ttl` seconds after their last use."""
        hits = (self.distance <= capacity) & (self.gap < ttl)
        tokens = np.zeros(len(self.lengths))
        np.add.at(tokens, self.request[hits], self.tokens[hits])
        shares = np.divide(tokens, self.lengths, out=np.zeros_like(tokens), where=self.lengths > 0)
        whole = int(np.count_nonzero(self.lengths))
        return Found(
            int(np.count_nonzero(hits)),
            float(tokens.sum()),
            int(np.count_nonzero(tokens)),
            float(shares.sum()) / whole if whole else 0.0,
        )


def reuse(visits: Iterable[Visit], size: float) -> Reuse:
    """Return what every block of a trace needs to be found again. Blocks have `size` tokens, the last of a request the rest.

    A block is known by its name and by all that comes before it, as its keys and values are. Times must not fall; raises
    ValueError otherwise.
    """
    study = _Study()
    asked = 0
    for now, tokens, blocks in visits:
        if now < study.times[-1]:
            number, early = len(study.times), study.times[-1] - now
            raise ValueError(
                f"times must not fall, but request {number} comes {early:g} s before the one in front of it"
            )
        nodes = study.nodes(blocks)
        for place, (distance, gap) in enumerate(study.needs(nodes, now)):
            study.request.append(len(study.lengths))
            study.tokens.append(min(size, tokens - place * size))
            study.distance.append(distance)
            study.gap.append(gap)
        study.use(nodes, now)
        study.lengths.append(tokens)
        asked += len(nodes)
    return Reuse(
        np.array(study.request),
        np.array(study.tokens),
        np.array(study.distance),
        np.array(study.gap),
        np.array(study.lengths),
        asked,
        len(study.users),
    )


class _Study:
    """The pass over a trace: what was found, and for each block the request that used it last. Requests count from 1."""

    def __init__(self) -> None:
        self.request, self.distance = array("q"), array("q")
        self.tokens, self.gap, self.lengths = array("d"), array("d"), array("d")
        self.times = [-math.inf]
        self.users: list[int] = []
        self._names: dict[tuple[int, Hashable], int] = {}
        self._counts = _Counts()

    def nodes(self, blocks: Sequence[Hashable]) -> list[int]:
        """Return the number of each block, given by its name and the block before it; those not seen yet come last."""
        names, node, found = self._names, -1, []
        for block in blocks:
            node = names.setdefault((node, block), len(names))
            found.append(node)
        return found

    def needs(self, nodes: Sequence[int], now: float) -> Iterator[tuple[int, float]]:
        """Yield the capacity that each block seen before needs to be there still, and the time since its last use."""
        users, user, before, rank = self.users, 0, 0, 0
        for node in nodes:
            if node >= len(users):
                return
            if users[node] != user:
                user, rank = users[node], 0
                before = self._counts.after(user)
            # Of the blocks that this earlier request used last, those in front of this one are the more recent.
            rank += 1
            yield before + rank, now - self.times[user]

    def use(self, nodes: Sequence[int], now: float) -> None:
        """A request uses these blocks: its head counts as used later than its tail."""
        users, number = self.users, len(self.times)
        for node in nodes:
            if node < len(users):
                self._counts.take(users[node])
                users[node] = number
            else:
                users.append(number)
        self._counts.append(len(nodes))
        self.times.append(now)


class _Counts:
    """How many blocks request 1, 2, ... was the last to use: a tree of partial sums (Fenwick) that grows."""

    def __init__(self) -> None:
        self._total = 0
        self._sums = [0]

    def append(self, count: int) -> None:
        """The next request used `count` blocks."""
        place = len(self._sums)
        self._total += count
        end, below = place - (place & -place), place - 1
        while below > end:
            count += self._sums[below]
            below -= below & -below
        self._sums.append(count)

    def take(self, place: int) -> None:
        """One of the blocks of request `place` is used anew."""
        self._total -= 1
        while place < len(self._sums):
            self._sums[place] -= 1
            place += place & -place

    def after(self, place: int) -> int:
        """Return the blocks last used by requests later than `place`."""
        upto = 0
        while place:
            upto += self._sums[place]
            place -= place & -place
        return self._total - upto
