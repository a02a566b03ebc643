"""What was measured: samples of a case, and the points of a law that a fit takes.

Checked: tests/test_measure.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..sim.profile.ops import law_name
from .probe import Case

__all__ = ["Points", "Sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The repetitions of one case, in the order they were taken, in seconds per call.

    `warmup` are the first ones, recorded and not used. `calls` is how many calls one repetition timed together.
    `cpu_seconds` is the thread's CPU time per call, beside `seconds` of wall time (not on a device). `speed` is the speed of
    the machine at each repetition, 1 being its median over the session. `low` to `high` is the 95 % interval of `median`.
    """

    case: Case
    seconds: tuple[float, ...]
    warmup: tuple[float, ...] = ()
    cpu_seconds: tuple[float, ...] = ()
    speed: tuple[float, ...] = ()
    calls: int = 1
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    verdict: Literal["stable", "unstable"] = "stable"
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Points:
    """The points of one law: arrays of shape (points,) of each size and of the median seconds.

    `low` and `high` bound the 95 % interval of each median, where it is known. `ratios` holds, for each point, repetition
    over median, where repetitions are known: what a residual of repeats is made of.
    """

    op: str
    options: Mapping[str, str]
    sizes: Mapping[str, np.ndarray]
    seconds: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    ratios: tuple[np.ndarray, ...] = ()
    doubts: tuple[str, ...] = field(default=())

    @property
    def law(self) -> str:
        """The name of the law."""
        return law_name(self.op, self.options)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.seconds)
