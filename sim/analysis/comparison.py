"""What a comparison of two variants found: the saving, its categories and policies, and the region where there is none.

A saving is better than none: of a time or a cost baseline minus variant, of success and rates variant minus baseline. Its verdict:

    saves          the interval of the relative saving lies above 0, and not all of it within the tolerance
    costs          it lies below 0, and not all of it within the tolerance
    none           it lies within +- the tolerance
    not resolved   none of these: more replications would tell

So `saves` says that there is a saving, and not that it is as large as the tolerance: 0.3 to 3.7 % is one. An interval no wider than
the tolerance always has a verdict. A saving of exactly the tolerance ends as `saves`, and one known to be smaller as `none`.

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
    """A metric under both, what the variant saves (`amount`, in its unit, and `share` of the baseline's), and the verdict.

    Above 0 is better, whichever way the metric goes. `needed` replications in all, `more` than have run, would resolve it (see
    `contrast`); `as_seen` would if the difference were as large as it looks. None where it is resolved or nothing tells.
    `samples` are the savings of each replication. `unsettled` tells for baseline and variant whether the number of
    tasks in the system still grew, so that times say how long the run was.
    """

    baseline: Estimate
    variant: Estimate
    amount: Estimate
    share: Estimate
    verdict: Verdict
    needed: int | None
    more: int | None
    as_seen: int | None
    samples: tuple[float, ...]
    unsettled: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric under both: difference is variant - baseline.

    `p_value` is its own for the declared metric, and Holm's for the others, over all of them and the categories.
    """

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
    p_value: float


@dataclass(frozen=True, slots=True)
class Change:
    """A value in which the two scenarios differ, as text with its unit; '' where one of them has none."""

    path: str
    baseline: str
    variant: str


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
    """The policies one by one; `sum_alone` over those that could be built, and the whole saving minus it."""

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
    """A comparison. `interrupted` tells that the user stopped it and what was not complete is missing.

    `saving` is of the declared `metric`; `categories`, `total` and `tasks` are of T_total. `seed_b` is the variant's seed where the
    two are not `paired`. `tasks` is None where the tasks of both are not the same.
    """

    scenario: str
    baseline: str
    variant: str
    metric: str
    more_is_better: bool
    seed: int
    seed_b: int
    paired: bool
    replications: int
    confidence: float
    tolerance: float
    changes: tuple[Change, ...]
    saving: Saving
    metrics: tuple[Metric, ...]
    categories: tuple[Part, ...]
    total: Part
    tasks: ByTask | None
    ablation: Ablation | None
    region: Region | None
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    interrupted: bool
