"""The arrival processes: from a workload and the draws of a run to the times at which tasks arrive.

Every open process is a function of one sequence of exponential numbers of mean 1, the time a Poisson process of rate 1 takes
between arrivals: another rate stretches the very same arrivals, and rates that vary do so by inversion of the cumulative rate.
That is exact, loses nothing where rates change, and couples scenarios that differ in their rates. The path of a modulated rate
is drawn apart from the arrivals.

Leaves out: when to stop, which the run decides; think times after a closed workload's first.
Checked: tests/test_arrivals.py (counts against the integral of the rate, dispersion, coupling), with z-scores.
Source: Çinlar, Introduction to Stochastic Processes, 1975, 4.7 (inversion of the cumulative rate).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, Philox

from ..sim.engine.draws import Draws
from .patterns import Bursty, Mmpp, Ramp, Rates, Renewal
from .workload import Trace, Workload

__all__ = ["BATCH", "Batch", "first_arrivals", "open_arrivals"]

BATCH = 1024
_ARRIVALS = "workload/arrivals"
_STATES = "workload/arrivals/states"
_START = "workload/start"

Times = Iterator[np.ndarray]


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrivals that follow one another: `times` in seconds, never falling; token counts and blocks where a trace has them."""

    times: list[float]
    request: list[float] | None = None
    output: list[float] | None = None
    blocks: Sequence[tuple[Hashable, ...]] | None = None


def open_arrivals(workload: Workload, draws: Draws) -> Iterator[Batch]:
    """Yield the arrivals of an open workload, at most `BATCH` at once: for ever, or until they end by themselves.

    Raises ValueError for a closed workload, whose arrivals depend on when tasks end.
    """
    arrivals = workload.arrivals
    if arrivals.closed is not None:
        raise ValueError("a closed workload has no arrivals of its own; ask `first_arrivals`")
    if arrivals.trace is not None:
        return _replayed(arrivals.trace)
    return (Batch(times.tolist()) for times in _times(workload, draws) if len(times))


def first_arrivals(workload: Workload, draws: Draws) -> list[float]:
    """Return when each user of a closed workload starts the first task, in seconds.

    Raises ValueError for an open workload.
    """
    closed = workload.arrivals.closed
    if closed is None:
        raise ValueError("an open workload has no users; ask `open_arrivals`")
    if closed.start == "together":
        return [0.0] * closed.users
    if closed.start == "staggered":
        return [closed.think.mean * user / closed.users for user in range(closed.users)]
    times: list[float] = closed.think.sample(_generator(draws, _START), closed.users).tolist()
    return times


def _times(workload: Workload, draws: Draws) -> Times:
    """Return the process of the kind that was chosen."""
    pattern = workload.arrivals.chosen[1]
    if isinstance(pattern, Mmpp):
        return _modulated(pattern, draws)
    if isinstance(pattern, Bursty):
        return _modulated(pattern.mmpp, draws)
    if isinstance(pattern, Rates):
        return _inverted(draws, _inverse_of_rates(pattern), _mass(pattern, pattern.period))
    if isinstance(pattern, Ramp):
        return _inverted(draws, _inverse_of_ramp(pattern), _mass(pattern, pattern.over))
    if isinstance(pattern, Renewal):
        return _summed(draws, pattern.interarrival.sample)
    if workload.arrivals.deterministic is not None:
        return _spaced(pattern)
    return (times / pattern for times in _unit_times(draws))


def _mass(pattern: Rates | Ramp, end: float) -> float:
    """Return the mean number of all arrivals, when the rate is 0 from `end` on; else infinity."""
    return pattern.expected(end) if pattern.ends else math.inf


def _generator(draws: Draws, name: str) -> Generator:
    """Return a generator of its own for numbers that are taken one after the other and not by task.

    Keyed as the streams of `Draws` are, and apart from them.
    """
    text = f"{draws.seed}\0{draws.replication}\0{name}".encode()
    digest = hashlib.blake2b(text, digest_size=16, person=b"coordsim arrive").digest()
    return Generator(Philox(key=int.from_bytes(digest, "little")))


def _summed(draws: Draws, sample: Callable[[Generator, int], np.ndarray]) -> Times:
    """Yield the sums of independent times, block by block."""
    rng, total = _generator(draws, _ARRIVALS), 0.0
    while True:
        times = np.cumsum(sample(rng, BATCH))
        times += total
        total = float(times[-1])
        yield times


def _unit_times(draws: Draws) -> Times:
    """Yield the arrivals of a Poisson process of rate 1."""
    return _summed(draws, Generator.standard_exponential)


def _spaced(rate: float) -> Times:
    """Yield every 1/rate; each from its number, so that rounding does not add up."""
    first = 1
    while True:
        yield np.arange(first, first + BATCH) / rate
        first += BATCH


def _rising(times: np.ndarray, last: float) -> np.ndarray:
    """Return the times with falls by rounding, an ulp where the rate changes, made level."""
    risen: np.ndarray = np.maximum.accumulate(np.maximum(times, last))
    return risen


def _inverted(draws: Draws, inverse: Callable[[np.ndarray], np.ndarray], mass: float) -> Times:
    """Yield the times at which the cumulative rate reaches the unit times; it never reaches `mass`."""
    last = 0.0
    for unit in _unit_times(draws):
        reached = unit[: np.searchsorted(unit, mass)]
        if len(reached):
            times = _rising(inverse(reached), last)
            last = float(times[-1])
            yield times
        if len(reached) < len(unit):
            return


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A rate that is constant on pieces: where each starts, in time and in cumulative rate, and where the last ends."""

    starts: np.ndarray
    rates: np.ndarray
    cumulative: np.ndarray  # one more than the pieces

    @classmethod
    def of(cls, lengths: np.ndarray, rates: np.ndarray, start: float = 0.0, reached: float = 0.0) -> _Pieces:
        """Join pieces of these lengths, from a time and a cumulative rate on."""
        ends = start + np.cumsum(lengths)
        cumulative = reached + np.concatenate(([0.0], np.cumsum(lengths * rates)))
        return cls(np.concatenate(([start], ends[:-1])), rates, cumulative)

    def invert(self, reached: np.ndarray) -> np.ndarray:
        """Return when the cumulative rate reaches these values, which must lie below its end."""
        # From the right, so that pieces of rate 0 are stepped over.
        piece = np.searchsorted(self.cumulative[1:-1], reached, side="right")
        times: np.ndarray = self.starts[piece] + (reached - self.cumulative[piece]) / self.rates[piece]
        return times


def _inverse_of_rates(spec: Rates) -> Callable[[np.ndarray], np.ndarray]:
    """Return the inverse of the cumulative rate."""
    rates = np.array(spec.rates)
    # Pieces of rate 0 at the end are never reached, and would be divided by.
    count = int(np.flatnonzero(rates)[-1]) + 1
    pieces = _Pieces.of(np.full(count, spec.every), rates[:count])
    mass = float(pieces.cumulative[-1])

    def repeated(reached: np.ndarray) -> np.ndarray:
        periods, rest = np.divmod(reached, mass)
        times: np.ndarray = periods * spec.period + pieces.invert(rest)
        return times

    # Without `repeat` the last piece has no end: `invert` goes on along its rate, which is the rate that stays.
    return repeated if spec.repeat else pieces.invert


def _inverse_of_ramp(spec: Ramp) -> Callable[[np.ndarray], np.ndarray]:
    """Return the inverse of the cumulative rate."""
    mass, slope = spec.expected(spec.over), (spec.end - spec.start) / spec.over

    def inverse(reached: np.ndarray) -> np.ndarray:
        inside = np.minimum(reached, mass)
        # The root of start * t + slope * t^2 / 2 = inside, in the form that does not cancel when the slope is small.
        root = np.sqrt(np.maximum(spec.start**2 + 2 * slope * inside, 0.0))
        times: np.ndarray = 2 * inside / np.maximum(spec.start + root, np.finfo(float).tiny)
        beyond = reached > mass
        times[beyond] = spec.over + (reached[beyond] - mass) / spec.end if spec.end else spec.over
        return times

    return inverse


def _path(spec: Mmpp, draws: Draws) -> Iterator[_Pieces]:
    """Yield the path of the modulated rate, piece after piece, from equilibrium on."""
    rng = _generator(draws, _STATES)
    stays = np.array([state.stay for state in spec.states])
    rates = np.array([state.rate for state in spec.states])
    shares = np.cumsum(stays) / spec.cycle
    # In equilibrium the rest of an exponential stay is distributed as the whole.
    state = min(int(np.searchsorted(shares, rng.random(), side="right")), len(stays) - 1)
    start = reached = 0.0
    while True:
        states = (state + np.arange(BATCH)) % len(stays)
        lengths = stays[states] * rng.standard_exponential(BATCH)
        pieces = _Pieces.of(lengths, rates[states], start, reached)
        yield pieces
        state = (state + BATCH) % len(stays)
        start, reached = float(pieces.starts[-1] + lengths[-1]), float(pieces.cumulative[-1])


def _modulated(spec: Mmpp, draws: Draws) -> Times:
    """Yield the arrivals of a Poisson process along the path of its rate."""
    path = _path(spec, draws)
    pieces, last = next(path), 0.0
    for unit in _unit_times(draws):
        rest, parts = unit, []
        while len(rest):
            inside = int(np.searchsorted(rest, pieces.cumulative[-1]))
            if inside:
                parts.append(pieces.invert(rest[:inside]))
                rest = rest[inside:]
            if len(rest):
                pieces = next(path)
        times = _rising(np.concatenate(parts), last)
        last = float(times[-1])
        yield times


def _replayed(trace: Trace) -> Iterator[Batch]:
    """Yield the rows of a trace, once or again and again: then with other content, or all of it would be known by then."""
    table, begin, again = trace.table, 0.0, 0
    times = table.times / trace.time_scale
    columns = [None if column is None else column.tolist() for column in (table.request, table.output)]
    while True:
        for low in range(0, len(times), BATCH):
            high = low + BATCH
            request, output = (None if column is None else column[low:high] for column in columns)
            blocks = None if table.blocks is None else _renamed(table.blocks[low:high], again)
            yield Batch((begin + times[low:high]).tolist(), request, output, blocks)
        if not trace.repeat:
            return
        begin += trace.period
        again += 1


def _renamed(blocks: Sequence[tuple[int, ...]], again: int) -> Sequence[tuple[Hashable, ...]]:
    """Return the names of blocks the first time a trace is played, or `again`."""
    return [tuple((again, block) for block in row) for row in blocks] if again else blocks
