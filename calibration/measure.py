"""Measuring one case: get ready, warm up, repeat; and what the repetitions of all visits say together.

A visit prepares the case, warms up until the time settles, and repeats until its time is over. One repetition calls as
often as it takes to last 20 µs, so that the clock's resolution and cost do not count; a paced probe is called once each
time, after a rest. Every repetition is kept.

Leaves out: subtracting what the loop and the clock cost themselves; turning the garbage collector off, since programs
run with it on.
Checked: tests/test_measure.py, with clocks and calls of known laws.
Source: the interval of the median is the one between two order statistics (`sim.analysis.statistics.quantile_interval`), of
all repetitions where visits agree, else of the medians of visits.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..sim.analysis.statistics import quantile_interval
from ..sim.engine import units
from .probe import Call, Case, Probe
from .samples import Sample
from .speed import drift, modes

__all__ = ["TARGET", "Clock", "CudaClock", "HostClock", "Visit", "clock_of", "sample", "visit"]

TARGET = 0.02  # half-width of the median's interval, relative, at which a case is known well enough
WIDE = 0.05  # and at which it is not known
MOST_REPETITIONS = 100  # of a visit
_LEAST_SECONDS = 20e-6  # of a repetition
_MOST_CALLS = 10_000  # of a repetition
_MOST_WARMUP = 50
_WAITING = 0.1  # share of its time that a computing thread may be without a core
_FEW = 6  # repetitions with which the least and the largest bound the median with 95 %: 1 - 2 × 0.5^6 = 97 %


@dataclass(frozen=True, slots=True)
class Timed:
    """The seconds of one repetition, of all its calls together; `cpu` is the thread's CPU time where it is known."""

    seconds: float
    cpu: float | None = None
    own: bool = False  # the calls timed themselves


class Clock(Protocol):
    """What times calls."""

    def now(self) -> float:
        """Return the seconds since any start."""

    def rest(self, seconds: float) -> None:
        """Let seconds pass."""

    def time(self, call: Call, turns: range) -> Timed:
        """Call for each turn, and return what that took."""


@dataclass(frozen=True, slots=True)
class HostClock:
    """Wall time and CPU time of the thread, both counted in nanoseconds. `settle` waits until the device is idle."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.thread_time_ns
    sleep: Callable[[float], None] = time.sleep
    settle: Callable[[], None] | None = None

    def now(self) -> float:
        """Return the wall time."""
        return self.wall() * 1e-9

    def rest(self, seconds: float) -> None:
        """Sleep."""
        self.sleep(seconds)

    def time(self, call: Call, turns: range) -> Timed:
        """Return what the calls take, or what they say that they took."""
        if self.settle:
            self.settle()
        cpu, wall = self.cpu(), self.wall()
        told = _run(call, turns)
        after, cpu_after = self.wall(), self.cpu()
        if told is not None:
            return Timed(told, own=True)
        return Timed((after - wall) * 1e-9, (cpu_after - cpu) * 1e-9)


def _run(call: Call, turns: range) -> float | None:
    """Call for each turn; return the sum of the seconds that the calls tell, None if they tell nothing."""
    told: float | None = None
    for turn in turns:
        seconds = call(turn)
        if seconds is not None:
            told = seconds if told is None else told + seconds
    return told


@dataclass(slots=True)
class CudaClock:
    """Time on the device between two CUDA events.

    The device is kept busy until the calls are queued; otherwise the gaps in which it waits for the host are measured.
    `cuda` is `torch.cuda`.
    """

    cuda: Any
    host: HostClock = field(default_factory=HostClock)
    _ahead: float = (
        100e-6  # seconds to keep the device busy: what the host needed for the last repetition, and half more
    )

    def now(self) -> float:
        """Return the wall time."""
        return self.host.now()

    def rest(self, seconds: float) -> None:
        """Sleep."""
        self.host.rest(seconds)

    def time(self, call: Call, turns: range) -> Timed:
        """Return the device's time from the first call to the end of the last, or what the calls say."""
        start, end = (self.cuda.Event(enable_timing=True) for _ in range(2))
        self.cuda.synchronize()
        self.cuda._sleep(int(self._ahead * 2e9))  # cycles, at a rate that no device exceeds by much
        begun = self.host.now()
        start.record()
        told = _run(call, turns)
        end.record()
        # A call that waits for the device makes the host wait for the sleep as well: without a cap it would grow.
        self._ahead = min(max(1.5 * (self.host.now() - begun), 20e-6), 5e-3)
        self.cuda.synchronize()
        return Timed(start.elapsed_time(end) * 1e-3) if told is None else Timed(told, own=True)


def clock_of(probe: Probe, device: str, host: HostClock) -> Clock:
    """Return the clock that suits a probe on `cpu` or `cuda`."""
    if device == "cpu":
        return host
    import torch

    settled = HostClock(host.wall, host.cpu, host.sleep, torch.cuda.synchronize)
    return CudaClock(torch.cuda, settled) if probe.clock == "device" else settled


@dataclass(frozen=True, slots=True)
class Visit:
    """The repetitions of one visit, in seconds per call; `turn` is the next one, `setup` the seconds to get ready."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    warmup: tuple[float, ...]
    calls: int
    turn: int
    setup: float


def visit(probe: Probe, case: Case, clock: Clock, *, limit: float, turn: int = 0, calls: int = 0) -> Visit:
    """Prepare a case, warm up, and repeat for about `limit` seconds in all, once at least.

    `turn` is the first number a call gets, `calls` how many calls make a repetition (0: find out). A call is never cut
    short, so that a slow one exceeds the limit. Raises what the probe raises.
    """
    begun = clock.now()
    with probe.prepare(case) as call:
        ready = clock.now()
        # However long it took to get ready, what was got ready is used.
        ends = max(begun + limit, ready + limit / 4)
        taker = _Taker(clock, call, probe.pace, turn)
        warmup, chosen = _warm_up(taker, ends - (ends - ready) / 2, calls)
        taken = [taker.take(chosen)]
        while len(taken) < MOST_REPETITIONS and clock.now() + taken[-1].seconds / 2 < ends:
            taken.append(taker.take(chosen))
    return Visit(
        seconds=tuple(short(one.seconds / chosen) for one in taken),
        cpu_seconds=tuple(short(one.cpu / chosen) for one in taken if one.cpu is not None),
        warmup=tuple(warmup),
        calls=chosen,
        turn=taker.turn,
        setup=short(ready - begun),
    )


@dataclass(slots=True)
class _Taker:
    """Takes repetitions one after another, with turns that rise."""

    clock: Clock
    call: Call
    pace: float
    turn: int

    def take(self, calls: int) -> Timed:
        if self.pace:
            self.clock.rest(self.pace)
        turns = range(self.turn, self.turn + calls)
        self.turn += calls
        return self.clock.time(self.call, turns)


def _warm_up(taker: _Taker, ends: float, calls: int) -> tuple[list[float], int]:
    """Call until the time settles; return the seconds per call, and how many calls a repetition shall have."""
    times: list[float] = []
    while True:
        timed = taker.take(1)
        times.append(short(timed.seconds))
        if len(times) >= _MOST_WARMUP or _settled(times) or taker.clock.now() + times[-1] / 2 >= ends:
            break
    if calls or taker.pace or timed.own:
        return times, calls or 1
    calls, seconds = 1, statistics.median(times[-3:])
    while seconds < _LEAST_SECONDS and calls < _MOST_CALLS:
        calls = min(max(2 * calls, math.ceil(1.1 * calls * _LEAST_SECONDS / max(seconds, 1e-9))), _MOST_CALLS)
        seconds = taker.take(calls).seconds
        times.append(short(seconds / calls))
    return times, calls


def _settled(times: Sequence[float]) -> bool:
    """Whether the last three calls were no longer faster than those before, by more than 5 %."""
    return len(times) > 4 and min(times[-3:]) >= 0.95 * min(times[:-3])


def short(seconds: float) -> float:
    """Return seconds with the six digits that a record keeps; no clock has more."""
    return float(f"{seconds:.6g}")


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its 95 % interval; where it is not `bounded`, with the range of what was seen."""

    median: float
    low: float
    high: float
    bounded: bool

    @property
    def width(self) -> float:
        """Half the interval over the median; infinite where it is not bounded."""
        if not self.bounded:
            return math.inf
        half = (self.high - self.low) / 2
        return half / self.median if self.median > 0 else math.inf if half else 0.0


def interval(visits: Sequence[Sequence[float]]) -> Interval:
    """Return the median of all repetitions; where visits disagree, its interval is as wide as that of their medians.

    The repetitions of a visit share the state of the machine. Counted as independent, a thousand of them that met a busy
    neighbour would give a narrow interval around a wrong median.
    """
    every = [value for one in visits for value in one]
    low, high, bounded = _bounds(every)
    if apart(visits):
        least, most, both = _bounds([statistics.median(one) for one in visits])
        low, high, bounded = min(low, least), max(high, most), bounded and both
    return Interval(statistics.median(every), low, high, bounded)


def _bounds(values: Sequence[float]) -> tuple[float, float, bool]:
    """Return the ends of the 95 % interval of the median, or the extremes and False where there are too few values."""
    estimate = quantile_interval(values, 0.5)
    return max(estimate.low, min(values)), min(estimate.high, max(values)), estimate.resolved


def apart(visits: Sequence[Sequence[float]]) -> float:
    """Return by which share two visits differ whose intervals of the median leave a relevant gap; 0 if none do."""
    # With 99.9 % each, one pair among the few visits is rarely apart by chance.
    known = [quantile_interval(one, 0.5, 0.999) for one in visits if len(one) > 10]
    if not known or max(one.low for one in known) <= min(one.high for one in known):
        return 0.0
    least = min(one.value for one in known)
    share = max(one.value for one in known) / least - 1 if least > 0 else 0.0
    return share if share > WIDE else 0.0


def sample(case: Case, visits: Sequence[Visit], speed: Sequence[float] = (), computes: bool = False) -> Sample:
    """Return the sample of a case from its visits, one at least; `speed` has one number for each of them.

    `computes` says that the call never waits, so that it should have a core all the time. Where there is no
    interval, `low` and `high` are the range of what was seen, and a doubt says so.
    """
    groups = [one.seconds for one in visits]
    seconds = tuple(value for group in groups for value in group)
    cpu_seconds = tuple(value for one in visits for value in one.cpu_seconds)
    known = interval(groups)
    doubts = _doubts(groups, known)
    shares = [cpu / wall for cpu, wall in zip(cpu_seconds, seconds, strict=False) if wall > 0]
    if computes and shares and (share := statistics.median(shares)) < 1 - _WAITING:
        doubts.append(
            f"half of the repetitions had a core for {share:.0%} of their time or less; close other programs, or use fewer "
            "threads"
        )
    return Sample(
        case=case,
        seconds=seconds,
        warmup=tuple(value for one in visits for value in one.warmup),
        cpu_seconds=cpu_seconds,
        speed=tuple(value for one, value in zip(visits, speed, strict=False) for _ in one.seconds),
        calls=visits[0].calls,
        median=known.median,
        low=known.low,
        high=known.high,
        verdict="unstable" if doubts else "stable",
        doubts=tuple(doubts),
    )


def _doubts(groups: Sequence[Sequence[float]], known: Interval) -> list[str]:
    """Return what speaks against the repetitions of a case: what was seen, and what to do."""
    seconds = [value for group in groups for value in group]
    found = []
    if len(seconds) < _FEW:
        found.append(
            f"{len(seconds)} repetition{'' if len(seconds) == 1 else 's'} cannot bound the median with 95 %, and it is given "
            "with their range; give a longer --budget"
        )
    elif known.bounded and known.width > WIDE:
        found.append(
            f"the median is known within ±{known.width:.0%} only; close other programs, or give a longer --budget"
        )
    if uneven := _uneven(groups, seconds, known):
        found.append(uneven)
    return found


def _uneven(groups: Sequence[Sequence[float]], seconds: Sequence[float], known: Interval) -> str:
    """Return the first that holds: the repetitions drift, visits disagree, there are two modes; '' if none does."""
    medians = [statistics.median(group) for group in groups]
    change = drift(seconds)
    if change and medians in (sorted(medians), sorted(medians, reverse=True)):
        return (
            f"the time {'rose' if change > 0 else 'fell'} by {abs(change):.0%} from the first third of the repetitions to "
            "the last; let the machine settle, and measure again"
        )
    if share := apart(groups):
        few = f"; {len(groups)} visits are too few to bound the median, and it is given with their range"
        few = "" if known.bounded else few
        return (
            f"visits differ by up to {share:.0%}, more than the repetitions of each explain{few}; close other programs, or "
            "give a longer --budget"
        )
    if two := modes(seconds):
        low, high = (units.format(value, units.DURATION) for value in (two.low, two.high))
        return (
            f"{two.share:.0%} of the repetitions take about {high}, the others about {low}, and the median is one of two "
            "modes; close other programs, fix the clock rate, or treat the operation as two"
        )
    return ""


def ratios(one: Sample) -> np.ndarray:
    """Return repetition over median, shape (repetitions,)."""
    return np.asarray(one.seconds) / one.median
