"""What a comparison of two variants found: the saving, its categories and policies, and the region where there is none.

A saving is baseline minus variant. Its verdict:

    saves          the interval of the relative saving lies above 0, and not all of it within the tolerance
    costs          it lies below 0, and not all of it within the tolerance
    none           it lies within +- the tolerance
    not resolved   none of these: more replications would tell

Leaves out: how it is found (`compare`), and words and rounding, which are the report's.
Checked: tests/test_compare.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .statistics import Estimate

Verdict = Literal["saves", "costs", "none", "not resolved"]


@dataclass(frozen=True, slots=True)
class Saving:
    """Mean T_total under both (s), what the variant saves (s, and as a share of the baseline's), and the verdict.

    `needed` replications in all would resolve it, by the spread seen; None where it is resolved or nothing tells.
    `samples` are the savings of each replication (s). `unsettled` tells for baseline and variant whether the number of
    tasks in the system still grew, so that times say how long the run was.
    """

    baseline: Estimate
    variant: Estimate
    seconds: Estimate
    share: Estimate
    verdict: Verdict
    needed: int | None
    samples: tuple[float, ...]
    unsettled: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric under both: difference is variant - baseline, `p_value` is Holm's, over all metrics of the table."""

    name: str
    baseline: Estimate
    variant: Estimate
    difference: Estimate
    ratio: Estimate
    p_value: float


@dataclass(frozen=True, slots=True)
class Part:
    """A category of mean T_total under both (s), what is saved in it (s), and its share of the whole saving."""

    category: str
    baseline: Estimate
    variant: Estimate
    saving: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class ByTask:
    """Tasks paired one by one: how many were done under both, or under one alone.

    Of those done under both: the share that the variant made slower, and quantiles of what a task saved (s).
    """

    both: int
    only_baseline: int
    only_variant: int
    slower: Estimate
    quantiles: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Switch:
    """A policy in which the two differ, with its value in each.

    `alone` is what it saves switched alone in the baseline, `last` what is lost when it alone is switched back in the
    variant. What cannot be built has no saving but a reason.
    """

    policy: str
    baseline: str
    variant: str
    alone: Saving | None
    last: Saving | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ablation:
    """The policies one by one; `sum_alone` (s) over those that could be built, and the whole saving minus it (s)."""

    switches: tuple[Switch, ...]
    sum_alone: Estimate
    interaction: Estimate


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the grid: the values of its factors, as text, and the saving there."""

    values: tuple[str, ...]
    saving: Saving


@dataclass(frozen=True, slots=True)
class Region:
    """The grid, of `planned` points. `confidence` is that of each interval; by Bonferroni's inequality all verdicts hold together with the comparison's confidence."""

    factors: tuple[str, ...]
    points: tuple[Point, ...]
    planned: int
    confidence: float


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A comparison. `interrupted` tells that the user stopped it and what was not complete is missing."""

    scenario: str
    baseline: str
    variant: str
    seed: int
    replications: int
    confidence: float
    tolerance: float
    saving: Saving
    metrics: tuple[Metric, ...]
    categories: tuple[Part, ...]
    tasks: ByTask
    ablation: Ablation | None
    region: Region | None
    doubts: tuple[str, ...]
    interrupted: bool
