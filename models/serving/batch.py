"""The sequences that decode together: kept as sums, so that many iterations cost no more than one.

Every iteration makes each of them a token longer. A sequence is therefore kept as its length less the iterations done so
far, which does not change; sums, the longest, the first to end or to reach a mark and the blocks of KV they will need all follow from that.

Checked: tests/test_replica.py, against a server that goes through every sequence in every iteration.
"""

import math
from heapq import heappop, heappush

from .request import Request

__all__ = ["Batch"]


class Batch:
    """Decoding sequences, over KV blocks of `block` tokens. `done` counts iterations so far."""

    __slots__ = ("block", "count", "done", "factors", "marks", "_bases", "_crossing", "_ends", "_lengths")

    def __init__(self, block: int) -> None:
        self.block = block
        self.count = 0
        self.done = 0
        self.factors = 0.0  # summed over the sequences
        self._bases = 0
        self._ends: list[tuple[int, int, Request]] = []
        self._lengths: list[tuple[int, int, Request]] = []
        self.marks: list[tuple[int, int, Request]] = []  # by the count of iterations at which they are reached
        self._crossing = [0] * block  # sequences that need one more block in an iteration, by its number modulo `block`

    def join(self, request: Request) -> None:
        """A sequence decodes from the next iteration on."""
        base = request.length - self.done
        request.base = base
        request.finish = finish = self.done + request.stop - request.generated
        self.count += 1
        self.factors += request.factor
        self._bases += base
        self._crossing[(1 - base) % self.block] += 1
        heappush(self._ends, (finish, request.sequence, request))
        heappush(self._lengths, (-base, request.sequence, request))
        if request.marks:
            self._expect(request)

    def leave(self, request: Request) -> None:
        """A sequence ends, or is taken out; it knows then how many tokens it has."""
        request.generated = request.base + self.done - request.prompt
        request.finish = -1  # what lies in the heaps is void
        self.count -= 1
        self.factors = self.factors - request.factor if self.count else 0.0
        self._bases -= request.base
        self._crossing[(1 - request.base) % self.block] -= 1

    @property
    def total(self) -> int:
        """Tokens of all sequences in the next iteration, those under way included."""
        return self._bases + self.count * self.done

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence in the next iteration; 0 without any."""
        lengths = self._lengths
        while lengths:
            base, _, request = lengths[0]
            if request.finish >= 0 and request.base == -base:
                return self.done - base
            heappop(lengths)
        return 0

    @property
    def left(self) -> int:
        """Iterations until the first sequence ends; there must be one."""
        ends = self._ends
        while ends[0][2].finish != ends[0][0]:
            heappop(ends)
        return ends[0][0] - self.done

    def until_mark(self) -> float:
        """Return the iterations until a sequence reaches a mark; infinity without one."""
        marks = self.marks
        while marks:
            due, _, request = marks[0]
            if request.finish >= 0 and request.due == due:
                return due - self.done
            heappop(marks)  # it left the batch since
        return math.inf

    def reach(self, now: float) -> None:
        """The mark that is next is reached now; the sequence goes on to the one behind it."""
        request = heappop(self.marks)[2]
        request.reach(now)
        self._expect(request)

    def _expect(self, request: Request) -> None:
        """Note at which count of iterations a sequence reaches its next mark."""
        if request.marked < len(request.marks):
            request.due = due = request.prompt + request.marks[request.marked] - request.base
            heappush(self.marks, (due, request.sequence, request))

    def needed(self, count: int) -> int:
        """Return the blocks that the next `count` iterations need beyond those there are."""
        if count == 1:
            return self._crossing[self.done % self.block]
        cycles, rest = divmod(count, self.block)
        need = cycles * self.count
        if rest:
            first = self.done % self.block
            crossing = self._crossing
            last = first + rest
            need += sum(crossing[first:last])
            if last > self.block:
                need += sum(crossing[: last - self.block])
        return need

    def affordable(self, most: int, room: float) -> int:
        """Return how many iterations, `most` at most, need no more than `room` blocks."""
        if (most // self.block + 1) * self.count <= room or self.needed(most) <= room:
            return most
        low, high = 0, most  # `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            if self.needed(middle) <= room:
                low = middle
            else:
                high = middle
        return low

    def advance(self, count: int) -> list[Request]:
        """Go through `count` iterations, none beyond the first end; return those that end with the last."""
        self.done = done = self.done + count
        ended = []
        ends = self._ends
        while ends and ends[0][0] <= done:
            finish, _, request = heappop(ends)
            if request.finish == finish:
                self.leave(request)
                ended.append(request)
        return ended
