"""A fit held against tasks that it has not seen: what it predicts, what was measured, and how far off it may be by chance.

The interval of a prediction is one of prediction: what so many new tasks may show, if the fit's kind is right. Beside it stand two others: a
naive fit, and the floor, which takes what the fit was made of for the prediction. A fit that knew everything would miss about as much.

Leaves out: fitting and simulating (`calibration.traces`), words (`report.holdout_tables`).
Checked: tests/test_trace_holdout.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .statistics import Estimate

__all__ = ["HeldOut", "HoldoutResult"]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One metric. `predicted` has a prediction interval for as many tasks as were held out, `measured` one of what was measured there.

    `naive` and `floor` are what the naive fit, and the tasks fitted to, predict. `band` is how far off a prediction is asked to be at most (nan:
    nothing is asked): relative, but in the metric's own unit for shares. nan is not known.
    """

    name: str
    unit: str
    predicted: Estimate
    measured: Estimate
    naive: float
    floor: float
    band: float = math.nan

    @property
    def is_share(self) -> bool:
        """Whether errors are differences of shares, and not relative."""
        return self.unit == "share"

    def miss(self, predicted: float) -> float:
        """Return how far off a prediction is: relative to what was measured, or a difference of shares; nan where neither can be said."""
        real = self.measured.value
        if self.is_share:
            return predicted - real
        if real:
            return predicted / real - 1.0
        return 0.0 if predicted == 0 else math.nan

    @property
    def error(self) -> float:
        """How far off the prediction is."""
        return self.miss(self.predicted.value)

    @property
    def asked(self) -> bool:
        """Whether a band is asked for, and what was measured can be held against it."""
        return not math.isnan(self.band) and not math.isnan(self.error)

    @property
    def holds(self) -> bool:
        """Whether the prediction is within the band."""
        return self.asked and abs(self.error) <= self.band

    @property
    def expected(self) -> bool:
        """Whether what was measured lies in the prediction interval."""
        return self.predicted.low <= self.measured.value <= self.predicted.high


@dataclass(frozen=True, slots=True)
class HoldoutResult:
    """A fit to `trained` tasks, of `groups[0]` problems or sessions, held against `tested` others, of `groups[1]`.

    `share` was to be held out, as the draw by `seed` had it. Intervals rest on `refits` to the tasks fitted to, drawn again.
    """

    name: str
    share: float
    seed: int
    trained: int
    tested: int
    groups: tuple[int, int]
    refits: int
    confidence: float
    rows: tuple[HeldOut, ...]
    doubts: tuple[str, ...] = ()

    def row(self, name: str) -> HeldOut:
        """Return a metric. Raises KeyError."""
        return {one.name: one for one in self.rows}[name]
