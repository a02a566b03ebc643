"""The iterations of a server by the laws of kernels: quick to ask again and again, and in closed form for many decodes.

A run of decodes is a sum over a row (`DecodeRow`) of the batch's size. Of an iteration with chunks of prefills, all but
attention is exact at every number of tokens; attention of a chunk is interpolated between sizes of chunks within one tile
of rows, and between numbers of cached tokens.

Leaves out: what the host does between iterations; what `IterationTime` leaves out, but for sequences of unequal length.
Checked: tests/test_kernel_steps.py, against sums over single iterations and against `IterationTime`.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from ..transformer import IterationTime
from .decode_row import DecodeRow, RowSteps

__all__ = ["KernelSteps"]

_TILE = 128  # rows that a GPU works through together: laws of prefill attention step from one tile to the next
_ROWS = 8  # sizes of chunks that are worked out together: little more work than one
_MOST_NEW = 16384
_MOST_CACHED = 2**20


def _sizes(most: int, tile: int, pieces: int) -> list[int]:
    """Return whole sizes from 1 to `most`, to interpolate between: the first and last of each tile, and `pieces` an octave."""
    found = [1]
    while (last := found[-1]) < most:
        step = max(1, (1 << last.bit_length() - 1) // pieces)
        found.append(last + 1 if last % tile == 0 else min(last + step, math.ceil(last / tile) * tile))
    return found


_NEW = _sizes(_MOST_NEW, _TILE, 32)  # where arithmetic overtakes memory the law has a corner
_CACHED = [0, *_sizes(_MOST_CACHED, _MOST_CACHED, 8)]


class _PrefillTable:
    """Seconds of the attention of one chunk in all layers, by its new and cached tokens."""

    __slots__ = ("_iteration", "_rows", "cached", "new")

    def __init__(self, iteration: IterationTime) -> None:
        self._iteration = iteration
        self._rows: list[list[float] | None] = [None] * len(
            _NEW
        )  # over `_CACHED`, each worked out when it is asked for
        self.new = (math.inf, -math.inf)  # the least and the most that it was asked for
        self.cached = (math.inf, -math.inf)

    def seconds(self, new: int, cached: int) -> float:
        """Return the seconds; beyond the table those of the law itself."""
        least, most = self.new
        if not least <= new <= most:
            if new < 1 or cached < 0:
                raise ValueError(f"a chunk has new tokens after none or more cached ones; got {new} after {cached}")
            self.new = min(least, new), max(most, new)
        least, most = self.cached
        if not least <= cached <= most:
            self.cached = min(least, cached), max(most, cached)
        if new > _MOST_NEW or cached > _MOST_CACHED:
            return self._iteration.prefill_attention([new], [cached])[0][0]
        at = bisect_right(_NEW, new) - 1
        below = bisect_right(_CACHED, cached, 0, len(_CACHED) - 1) - 1
        start = _CACHED[below]
        share = (cached - start) / (_CACHED[below + 1] - start)
        row = self._rows[at] or self._row(at)
        low = row[below]
        seconds = low + (row[below + 1] - low) * share
        first = _NEW[at]
        if new == first:
            return seconds
        row = self._rows[at + 1] or self._row(at + 1)
        low = row[below]
        return seconds + (low + (row[below + 1] - low) * share - seconds) * ((new - first) / (_NEW[at + 1] - first))

    def note(self) -> None:
        """Have the law remember the extremes that it was asked for."""
        if self.new[1] >= self.new[0]:
            for new, cached in zip(self.new, self.cached, strict=True):
                self._iteration.note_prefill(new, cached)

    def _row(self, at: int) -> list[float]:
        first = at // _ROWS * _ROWS
        for index, row in enumerate(self._iteration.prefill_attention(_NEW[first : first + _ROWS], _CACHED), first):
            self._rows[index] = row
        found = self._rows[at]
        assert found is not None
        return found


class KernelSteps(RowSteps):
    """The `StepTime` of a model of some shape on the machine of a profile.

    `skew` from 0 to 1: attention of decodes takes t(mean) + skew x (t(longest) - t(mean)) of their lengths. Prefill
    attention is within 0.5 % of its law on the profiles that ship. Sizes outside of a law's range show in the iteration's `flags`.
    Raises ValueError for a shape that does not generate, or another skew.
    """

    __slots__ = ("_chunk", "_rests", "_submit", "iteration_time", "skew")

    def __init__(self, iteration: IterationTime, skew: float = 0.0) -> None:
        if not iteration.shape.is_causal:
            raise ValueError("a server of decodes needs a shape that generates")
        if not 0.0 <= skew <= 1.0:
            raise ValueError(f"skew must be from 0 to 1; got {skew:g}")
        self.iteration_time = iteration
        self.skew = skew
        super().__init__()
        self._rests: dict[int, float] = {}  # what of a row is not attention
        self._submit = [iteration.submit(attentions) for attentions in range(3)]
        table = _PrefillTable(iteration)
        self._chunk = table.seconds
        iteration.watch(table.note)

    def iteration(
        self, chunks: Sequence[tuple[int, int]], decodes: int, total: float, longest: float, slow: float = 1.0
    ) -> float:
        """Return the seconds of one iteration with `chunks` of prefills, each (new, cached) tokens, beside the decodes."""
        if not chunks:
            return self.run(decodes, total, longest, 1, slow)
        tokens, attention, chunk = decodes, 0.0, self._chunk
        for new, cached in chunks:
            tokens += new
            attention += chunk(new, cached)
        submit = self._submit[1]
        if decodes:
            row = self._rows.get(decodes) or self._row(decodes)
            attention += row.run(total / decodes, longest, 1, 0.0) - self._rests[decodes]
            submit = self._submit[2]
        return max(self.iteration_time.fixed(tokens, decodes + len(chunks)) + attention, submit * slow)

    def _row(self, decodes: int) -> DecodeRow:
        if decodes < 1:
            raise ValueError("an iteration needs a new token, of a chunk or a decode; got none")
        self._rests[decodes] = self.iteration_time.fixed(decodes, decodes)
        self._rows[decodes] = made = self.iteration_time.row(decodes, self.skew)
        return made
