"""How fast and how even the machine runs: a spin sensor, stolen time, drift and two modes.

The sensor times a fixed piece of arithmetic beside the measurements. Where it slows down, so did everything measured then.

Leaves out: sensing a GPU's clock rates; the environment states them. Correcting times by the speed: it is recorded, and a
reader can; what slows arithmetic does not slow memory and crossings alike.
Checked: tests/test_measure.py: false alarms on even laws and the power to find drift and two modes, by seeded experiments.
Source: Daniels, J. R. Stat. Soc. B 12 (1950), rank correlation with time as a test for trend; Otsu, IEEE Trans. Syst. Man
Cybern. 9 (1979), the split of values that explains most of their variance.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Modes", "Sensor", "Spin", "drift", "modes", "stolen_ticks"]

RELEVANT = 0.05  # a smaller change, or distance of modes, is below the error that a fit reaches anyway
_LEAST = 16  # values below which a drift cannot be told
_LEAST_FOR_MODES = 30  # with fewer, chance parts even laws more often than 1 in 10 times
_SIGNIFICANT = 3.3  # standard deviations: an even law passes 999 times of 1000
# Two modes must explain this share of the variance (a normal law split at its middle gives 0.64, a uniform one 0.75), and
# hold next to nothing in the middle third between them (a uniform law holds 17 % there).
_EXPLAINED = 0.8
_BETWEEN = 0.04
_LEAST_SHARE = 0.15  # what a mode must hold; fewer are outliers
_LOOPS = 4000  # about 0.2 ms


@dataclass(frozen=True, slots=True)
class Spin:
    """The seconds that the sensor's work took: on the wall, and as CPU time of the thread."""

    wall: float
    cpu: float


def spin() -> int:
    """Do the sensor's work: whole-number arithmetic that needs no memory."""
    total = 0
    for number in range(_LOOPS):
        total += number * number
    return total


@dataclass(frozen=True, slots=True)
class Sensor:
    """Times `work`, three times in a row; the clocks count nanoseconds."""

    work: Callable[[], object] = spin
    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.thread_time_ns

    def read(self) -> Spin:
        """Return the median of the three."""
        spins = [self._once() for _ in range(3)]
        return Spin(statistics.median(s.wall for s in spins), statistics.median(s.cpu for s in spins))

    def _once(self) -> Spin:
        cpu, wall = self.cpu(), self.wall()
        self.work()
        return Spin((self.wall() - wall) * 1e-9, (self.cpu() - cpu) * 1e-9)


def stolen_ticks(stat: Path = Path("/proc/stat")) -> tuple[int, int]:
    """Return the ticks that the hypervisor gave to others, and all ticks, since start; zeros where Linux does not tell."""
    try:
        words = stat.read_text().partition("\n")[0].split()
        ticks = [int(word) for word in words[1:9]]  # user nice system idle iowait irq softirq steal
    except (OSError, ValueError):
        return 0, 0
    return (ticks[7], sum(ticks)) if words[:1] == ["cpu"] and len(ticks) == 8 else (0, 0)


def drift(values: Sequence[float]) -> float:
    """Return by which share the last third of the values lies above the first, if they rise or fall over time; else 0.

    The ranks must correlate with time (Daniels's test) by more than chance does, and the change must be relevant.
    """
    count = len(values)
    if count < _LEAST:
        return 0.0
    ranks = _ranks(np.asarray(values, dtype=float))
    times = np.arange(count) - (count - 1) / 2
    spread = math.sqrt(float((ranks**2).sum()) * float((times**2).sum()))
    if spread == 0 or abs(float(ranks @ times)) / spread * math.sqrt(count - 1) < _SIGNIFICANT:
        return 0.0
    third = count // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    change = last / first - 1 if first > 0 else 0.0
    return change if abs(change) > RELEVANT else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks, ties sharing theirs, around 0."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse] - (len(values) + 1) / 2)


@dataclass(frozen=True, slots=True)
class Modes:
    """Two modes: the median of each, and the share of the values that the upper one holds."""

    low: float
    high: float
    share: float


def modes(values: Sequence[float]) -> Modes | None:
    """Return the two modes of positive values, if they part into two with next to nothing between; else None.

    Works on logarithms with the outer tenths pulled in, so that neither skewness nor outliers pass for a mode.
    """
    count = len(values)
    if count < _LEAST_FOR_MODES or min(values) <= 0:
        return None
    ordered = np.sort(np.asarray(values, dtype=float))
    logs = np.log(ordered)
    logs = np.clip(logs, *np.quantile(logs, [0.1, 0.9]))
    total = float(np.var(logs))
    if total == 0:
        return None
    least = math.ceil(_LEAST_SHARE * count)
    sizes = np.arange(least, count - least + 1)  # of the lower part
    below = np.cumsum(logs)[sizes - 1]
    gap = below / sizes - (logs.sum() - below) / (count - sizes)
    explained = gap**2 * (sizes / count) * (1 - sizes / count) / total
    best = int(np.argmax(explained))
    size = int(sizes[best])
    lower, upper = float(np.median(logs[:size])), float(np.median(logs[size:]))
    third = (upper - lower) / 3
    between = float(np.mean((logs > lower + third) & (logs < upper - third)))
    if explained[best] < _EXPLAINED or between > _BETWEEN or upper - lower < math.log1p(RELEVANT):
        return None
    return Modes(math.exp(lower), math.exp(upper), 1 - size / count)
