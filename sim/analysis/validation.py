"""A prediction held against a real system at configurations it has never seen: how far off, how sure, and what the verdict is.

A headline is the median, over configurations, of how far off one metric is: p50 and p95 of T_total (relative), and the share of
coordination (a difference). Tasks of all kept rounds are pooled. Beside each stands the noise floor, one half of the measured tasks
against the other, and the naive prediction. Intervals come from whole rounds, drawn again with replacement.

Leaves out: measuring and predicting (`calibration.validation`), the computation (`validation_judge`), words (`report.validation_tables`).
Checked: tests/test_validation.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .statistics import Estimate

__all__ = [
    "FULL", "GOALS", "METRICS", "NAIVE", "Ablation", "Dropped", "Estimates", "Goals", "Headline", "Numbers", "Ratio", "Row",
    "Standing", "Status", "Verdict", "Worst", "standing",
]  # fmt: skip

METRICS = ("p50", "p95", "share")  # the attributes of `Numbers` and `Estimates`
FULL, NAIVE = "full", "naive"  # variants of a prediction that there always are

Standing = Literal["met", "missed", "unclear"]
Status = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """One number a metric: seconds for p50 and p95 or their relative errors; a share or a difference of shares for `share`. nan is not known."""

    p50: float
    p95: float
    share: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """`Numbers` with their intervals; their `n` is the number of rounds."""

    p50: Estimate
    p95: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class Goals:
    """What is asked of a prediction; errors as in `Numbers` (0.1 is 10 %, or 10 points of a share).

    `headline` decides; `worst`, `to_floor` and `to_naive` (how many times the error of p50 may be that of the floor and of the naive
    prediction) are told beside it; `stretch` and `floor_stretch` are told only. `noise` is the largest floor of p50, and `rounds` the
    smallest number of rounds, of which a verdict can be had.
    """

    headline: Numbers = Numbers(0.10, 0.15, 0.04)
    stretch: Numbers = Numbers(0.05, 0.08, 0.02)
    worst: Numbers = Numbers(0.25, 0.40, 0.09)
    to_floor: float = 1.5
    to_naive: float = 0.5
    floor_stretch: float = 1.2
    noise: float = 0.08
    rounds: int = 5


GOALS = Goals()


def standing(error: Estimate, goal: float) -> Standing:
    """Return whether a goal is met: by the whole interval, by none of it, or unclear, as where nothing is known."""
    if error.high <= goal:
        return "met"
    return "missed" if error.low > goal else "unclear"


@dataclass(frozen=True, slots=True)
class Headline:
    """The median over configurations of the absolute error of one metric, its goal, and the same median for the floor and the naive prediction."""

    metric: str
    error: Estimate
    goal: float
    stretch: float
    floor: float
    naive: float

    @property
    def standing(self) -> Standing:
        """Whether the goal is met, by the interval."""
        return standing(self.error, self.goal)

    @property
    def stretched(self) -> Standing:
        """Whether the stretch goal is met, by the interval."""
        return standing(self.error, self.stretch)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The headline error of p50, divided by that of the floor or of the naive prediction (`to`); `stretch` is nan where there is none."""

    to: Literal["floor", "naive"]
    ratio: Estimate
    goal: float
    stretch: float

    @property
    def standing(self) -> Standing:
        """Whether the goal is met, by the interval."""
        return standing(self.ratio, self.goal)


@dataclass(frozen=True, slots=True)
class Worst:
    """The configuration with the largest absolute error of one metric; the interval is of the largest, whichever it is."""

    metric: str
    configuration: str
    error: Estimate
    goal: float

    @property
    def standing(self) -> Standing:
        """Whether the goal is met, by the interval."""
        return standing(self.error, self.goal)


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration, over the tasks of all kept rounds.

    `what` says in words what it is. `measured` and `predicted` hold p50 and p95 of T_total in seconds, and the share of coordination.
    `errors` are signed (predicted less measured; relative for p50 and p95), and so are those of the naive prediction; `floor` is absolute.
    """

    configuration: str
    what: str
    tasks: int
    measured: Numbers
    predicted: Numbers
    errors: Estimates
    floor: Numbers
    naive: Numbers


@dataclass(frozen=True, slots=True)
class Ablation:
    """The prediction with one law left out: its three headline errors, and by how much each is larger than with all laws (paired by resample).

    A positive `change` says that the law helps. `what` says in words what is left out.
    """

    variant: str
    what: str
    errors: Estimates
    changes: Estimates


@dataclass(frozen=True, slots=True)
class Dropped:
    """A round that counts nowhere, by a criterion declared before."""

    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a validation.

    `reasons` are sentences, the decisive first. `kept` are the numbers of the rounds that count.
    `headlines` and `worst` hold one entry a metric, in the order of `METRICS`; they, `ratios`, `rows` and `ablation` are empty where no
    round was kept. `ablation` has the variants but `full`; `naive` comes first. `about` are facts of the session for the reader, as pairs
    of name and text; `doubts` are sentences of what speaks against it. Intervals rest on `resamples` by `seed`.
    """

    status: Status
    reasons: tuple[str, ...]
    headlines: tuple[Headline, ...]
    ratios: tuple[Ratio, ...]
    worst: tuple[Worst, ...]
    rows: tuple[Row, ...]
    ablation: tuple[Ablation, ...]
    kept: tuple[int, ...]
    dropped: tuple[Dropped, ...]
    goals: Goals
    confidence: float
    resamples: int
    seed: int
    about: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()

    def headline(self, metric: str) -> Headline:
        """Return the headline of a metric. Raises KeyError."""
        return {one.metric: one for one in self.headlines}[metric]
