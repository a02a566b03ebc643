"""The step time of a server from a measured iteration: sums of what its parts were seen to take.

Dense parts go by the tokens of an iteration, parts per sequence by its sequences (every sequence of an iteration is sampled,
one in the middle of its prompt too: its sample is thrown away), attention by prefill and decode together. Between measured
sizes all of them are linear in tokens, which predicted the nodes of a finer grid from a grid of powers of 2 with a median
error of 1.4 % (interpolation of logarithms: 1.8 %), and beyond the last size they go on as they did before it.

Several prefills in one iteration count as one chunk of all their tokens with as many pairs of query and key; decoding
sequences as equally long, but for `skew`.

Leaves out: kernels that a graph pads to the sizes it was captured at; fusions that a compiler makes of the measured parts.
Checked: tests/test_measured_steps.py, against sums over single iterations.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from ...sim.profile.iteration import Curve, Experts, MeasuredIteration, Table
from .decode_row import DecodeRow, RowSteps

__all__ = ["MeasuredSteps"]

_EXPERT_SIZES = (*range(1, 65), *(2**power for power in range(7, 18)))


class MeasuredSteps(RowSteps):
    """The seconds of iterations as measured; it is a StepTime.

    `skew` replaces the measured share by which the longest sequence sets the pace, 0 to 1. Nothing in it depends on the host,
    so `slow` changes nothing.
    """

    def __init__(self, measured: MeasuredIteration, skew: float | None = None) -> None:
        super().__init__()
        self.measured = measured
        attention = measured.attention
        self._layers = attention.count
        self._by_tokens = _Line.of(_token_curves(measured))
        self._by_sequences = _Line.of(measured.per_sequence.values())
        self._decode = _Cells(attention.decode, ("decodes", "length"))
        self._prefill = _Cells(attention.prefill, ("chunk", "cached"))
        mixed = attention.mixed
        self._mixed = None if mixed is None else _Cells(mixed, ("chunk", "cached", "decodes", "length"))
        table = measured.skew
        shares = ((1.0,), (0.0,), (0.0,)) if table is None else (table.decodes, table.alone, table.mixed)
        if skew is not None:
            shares = ((1.0,), (skew,), (skew,))
        self._alone = _Shares(shares[0], shares[1])
        self._beside = _Shares(shares[0], shares[2])

    def iteration(
        self, chunks: Sequence[tuple[int, int]], decodes: int, total: float, longest: float, slow: float = 1.0
    ) -> float:
        """Return the device seconds of an iteration."""
        if not chunks:
            return self.run(decodes, total, longest, 1)
        tokens = decodes + sum(new for new, _ in chunks)
        parts = self._by_tokens.at(tokens) + self._by_sequences.at(decodes + len(chunks))
        return parts + self._layers * self._attention(chunks, decodes, total, longest)

    def _row(self, decodes: int) -> DecodeRow:
        lengths = self._decode.sizes[1]
        rest = self._by_tokens.at(decodes) + self._by_sequences.at(decodes)
        values = [rest + self._layers * self._decode.at((decodes, length)) for length in lengths]
        self._rows[decodes] = made = DecodeRow(lengths, values, 0.0, self._alone.at(decodes))
        return made

    def _attention(self, chunks: Sequence[tuple[int, int]], decodes: int, total: float, longest: float) -> float:
        new, cached = one_chunk(chunks)
        if not decodes:
            return self._prefill.at((new, cached))
        mean = total / decodes
        share = self._beside.at(decodes)
        if self._mixed is None:
            prefill = self._prefill.at((new, cached))
            even, most = (prefill + self._decode.at((decodes, length)) for length in (mean, longest))
        else:
            even = self._mixed.at((new, cached, decodes, mean))
            most = self._mixed.at((new, cached, decodes, longest)) if share else even
        return even + share * (most - even)


def one_chunk(chunks: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return the new and cached tokens of one chunk with the pairs of query and key of all: of fewer tokens if it must be.

    >>> one_chunk([(512, 1000)])
    (512.0, 1000.0)
    >>> one_chunk([(300, 0), (400, 0)])  # 700 tokens in one chunk would have more pairs
    (500.0, 0.0)
    """
    new = float(sum(tokens for tokens, _ in chunks))
    pairs = sum(tokens * (cached + tokens / 2) for tokens, cached in chunks)
    cached = pairs / new - new / 2
    return (new, cached) if cached >= 0.0 else (math.sqrt(2.0 * pairs), 0.0)


def _token_curves(measured: MeasuredIteration) -> list[Curve]:
    """Return the curves of all that depends on the tokens of an iteration."""
    curves = list(measured.dense.values())
    if measured.experts is not None:
        curves.append(_expert_curve(measured.experts))
    if measured.collectives:
        sizes = (1.0, 2.0)
        seconds = [
            sum(
                one.count * (one.overhead + tokens * one.bytes_per_token / one.bandwidth)
                for one in measured.collectives.values()
            )
            for tokens in sizes
        ]
        curves.append(Curve(sizes=sizes, seconds=tuple(seconds)))
    return curves


def _expert_curve(experts: Experts) -> Curve:
    """Return the seconds of experts by the tokens of one engine, when all have as many."""
    cells = _Cells(experts.table, ("tokens", "touched"))
    most = max(cells.sizes[0]) / experts.engines
    sizes = [size for size in _EXPERT_SIZES if size < most] + [most]
    seconds = [cells.at((size * experts.engines, experts.touched(size * experts.engines))) for size in sizes]
    return Curve(sizes=tuple(map(float, sizes)), seconds=tuple(seconds), count=experts.count)


class _Line:
    """A sum of curves, linear between the sizes of any, and beyond the last of each as that curve goes on."""

    __slots__ = ("_seconds", "_sizes", "_slopes")

    def __init__(self, sizes: Sequence[float], seconds: Sequence[float]) -> None:
        self._sizes = [float(size) for size in sizes]
        self._seconds = [float(value) for value in seconds]
        spans = zip(self._sizes, self._sizes[1:], self._seconds, self._seconds[1:], strict=False)
        self._slopes = [(after - before) / (end - start) for start, end, before, after in spans]
        self._slopes.append(self._slopes[-1])

    @classmethod
    def of(cls, curves: Iterable[Curve]) -> "_Line":
        """Return the sum of curves, each as often as it is called; zero without any."""
        given = list(curves)
        sizes = sorted({size for curve in given for size in curve.sizes}) or [0.0]
        sizes.append(sizes[-1] * 2.0 + 1.0)
        seconds = np.zeros(len(sizes))
        for curve in given:
            values = np.interp(sizes, curve.sizes, curve.seconds)
            (start, end), (before, after) = curve.sizes[-2:], curve.seconds[-2:]
            slope = _slope_beyond(curve.sizes, curve.seconds) if end > start and after >= before else 0.0
            beyond = np.maximum(np.array(sizes) - end, 0.0)
            seconds += curve.count * (values + slope * beyond)
        return cls(sizes, seconds.tolist())

    def at(self, size: float) -> float:
        """Return the seconds at a size; below the first they stay."""
        place = bisect_right(self._sizes, size) - 1
        if place < 0:
            return self._seconds[0]
        return self._seconds[place] + self._slopes[place] * (size - self._sizes[place])


def _slope_beyond(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the seconds per size over the last half of a curve: two neighbours alone stand on a step of a kernel's tiles."""
    half = bisect_right(sizes, sizes[-1] / 2) - 1
    at = max(0, min(half, len(sizes) - 2))
    return max(0.0, (seconds[-1] - seconds[at]) / (sizes[-1] - sizes[at]))


class _Cells:
    """A table, linear in every size between its cells; below the first it stays, beyond the last it goes on."""

    __slots__ = ("_strides", "_values", "sizes")

    def __init__(self, table: Table, names: tuple[str, ...]) -> None:
        if tuple(table.axes) != names:
            raise ValueError(f"a table here has the axes {', '.join(names)}; got {', '.join(table.axes)}")
        self.sizes = [list(sizes) for sizes in table.axes.values()]
        values = table.filled()
        self._values: list[float] = values.ravel().tolist()
        self._strides = [math.prod(values.shape[number + 1 :]) for number in range(values.ndim)]

    def at(self, point: tuple[float, ...]) -> float:
        """Return the seconds at a point, one size for each axis."""
        corners = [(0, 1.0)]
        for sizes, stride, size in zip(self.sizes, self._strides, point, strict=True):
            place = min(max(bisect_right(sizes, size) - 1, 0), len(sizes) - 2)
            low, high = sizes[place], sizes[place + 1]
            share = max(0.0, (size - low) / (high - low))
            first, second = place * stride, (place + 1) * stride
            if share == 0.0:
                corners = [(at + first, weight) for at, weight in corners]
            else:
                corners = [
                    corner
                    for at, weight in corners
                    for corner in ((at + first, weight * (1.0 - share)), (at + second, weight * share))
                ]
        values = self._values
        return max(0.0, sum(values[at] * weight for at, weight in corners))


class _Shares:
    """Shares by the number of sequences, linear in its logarithm; beyond both ends they stay."""

    __slots__ = ("_logs", "_shares")

    def __init__(self, decodes: Sequence[float], shares: Sequence[float]) -> None:
        self._logs = [math.log(count) for count in decodes]
        self._shares = list(shares)

    def at(self, decodes: int) -> float:
        """Return the share for so many sequences; a single one has no other to wait for."""
        return float(np.interp(math.log(decodes), self._logs, self._shares)) if decodes > 1 else 0.0
