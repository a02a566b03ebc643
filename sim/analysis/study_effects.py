"""What a study's table says of one metric: where it is least and most, and what each factor does to it.

Cells of one seed met the same draws, so differences are paired by replication. The least and the most are chosen among all cells, so
their difference has an interval that holds for all pairs at once (Bonferroni).

Leaves out: interactions, and effects in designs other than grids, where levels do not meet the same other levels.
Checked: tests/test_study.py.
Source: Law, Simulation Modeling and Analysis, 5th ed., 10.2.1 (paired t), 10.3 (several systems), 12.2 (main effects).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import Comparison, Estimate, bonferroni, mean_interval, paired_difference
from .study import Level, StudyCell, StudyResult

__all__ = ["Effect", "EffectLevel", "Extremes", "Point", "difference", "effects", "extremes", "points", "unmeasured"]

Sample = Mapping[tuple[int, int], float]
"""A metric by seed and replication."""


@dataclass(frozen=True, slots=True)
class Point:
    """A scenario at a point of the design, its cells of all seeds taken together."""

    scenario: str
    levels: tuple[Level, ...]
    cells: tuple[int, ...]
    estimate: Estimate
    sample: Sample


@dataclass(frozen=True, slots=True)
class Extremes:
    """The points with the least and the most, what the least is below the most, and how many others cannot be told from the least.

    `difference` is least minus most, None where nothing pairs; its intervals hold for all `compared` points at once.
    """

    least: Point
    most: Point
    difference: Comparison | None
    near_least: int
    compared: int


@dataclass(frozen=True, slots=True)
class EffectLevel:
    """The mean over all cells at a level, and what it is above the first level (None at that level)."""

    level: Level
    mean: Estimate
    difference: Comparison | None
    cells: int


@dataclass(frozen=True, slots=True)
class Effect:
    """The main effect of a factor of a grid; `left_out` cells failed, or stand beside one that did."""

    factor: str
    levels: tuple[EffectLevel, ...]
    left_out: int


def points(found: StudyResult, metric: str) -> list[Point]:
    """Return the points at which the metric was measured, in order."""
    groups: dict[tuple[str, int], list[int]] = {}
    for place, cell in enumerate(found.cells):
        groups.setdefault((cell.scenario, cell.point), []).append(place)
    made = []
    for (scenario, _), places in groups.items():
        cells = [found.cells[place] for place in places]
        sample = {
            (cell.seed, number): value
            for cell in cells
            for number, value in enumerate(cell.samples.get(metric, ()))
            if math.isfinite(value)
        }
        estimates = [cell.estimates[metric] for cell in cells if metric in cell.estimates]
        known = [one for one in estimates if not math.isnan(one.value)]
        if len(known) < len(cells):  # failed, or nothing was observed in one of its seeds
            continue
        values = list(sample.values())
        # Where nothing was observed in some replication, several seeds only have a mean.
        pooled = mean_interval(values or [one.value for one in known], found.confidence)
        estimate = known[0] if len(known) == 1 else pooled
        made.append(Point(scenario, cells[0].levels, tuple(one.number for one in cells), estimate, sample))
    return made


def unmeasured(found: StudyResult, metric: str) -> tuple[StudyCell, ...]:
    """Return the cells that have no value of a metric: those that failed, and those in which nothing was observed."""
    known = ((one, one.estimates.get(metric)) for one in found.cells)
    return tuple(one for one, each in known if each is None or math.isnan(each.value))


def difference(a: Sample, b: Sample, confidence: float) -> Comparison | None:
    """Return a minus b, paired by seed and replication; None where no pair was observed."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    return paired_difference([b[one] for one in shared], [a[one] for one in shared], confidence)


def extremes(found: StudyResult, metric: str) -> Extremes | None:
    """Return where the metric is least and most; None for fewer than two points that were measured."""
    known = points(found, metric)
    if len(known) < 2:
        return None
    least = min(known, key=lambda one: one.estimate.value)
    most = max(known, key=lambda one: one.estimate.value)
    sure = bonferroni(found.confidence, len(known) * (len(known) - 1) // 2)

    def near(one: Point) -> int:
        others = [difference(other.sample, one.sample, sure) for other in known if other is not one]
        return sum(other is None or not other.difference.excludes(0.0) for other in others)

    return Extremes(least, most, difference(least.sample, most.sample, sure), near(least), len(known))


def effects(found: StudyResult, metric: str) -> tuple[Effect, ...]:
    """Return the main effect of each factor of a grid that has more than one level: the mean per level, over all else."""
    if found.design != "grid":
        return ()
    known = points(found, metric)
    total = len({(one.scenario, one.point) for one in found.cells})
    made = (_effect(found, known, place, total) for place in range(len(found.factors)))
    return tuple(one for one in made if one is not None)


def _effect(found: StudyResult, known: Sequence[Point], place: int, total: int) -> Effect | None:
    levels = list(dict.fromkeys(one.levels[place] for one in found.cells))
    if len(levels) < 2:
        return None
    # What else is set, and the points there by level: only where every level was measured are levels alike but for themselves.
    rests: dict[tuple[object, ...], dict[Level, Point]] = {}
    for one in known:
        rest = (one.scenario, *one.levels[:place], *one.levels[place + 1 :])
        rests.setdefault(rest, {})[one.levels[place]] = one
    whole = [by_level for by_level in rests.values() if len(by_level) == len(levels)]
    shared = [set.intersection(*(set(one.sample) for one in by_level.values())) for by_level in whole]
    pairs = sorted(set.intersection(*shared)) if shared else []
    if not pairs:
        return None
    means = {
        level: {pair: float(np.mean([by[level].sample[pair] for by in whole])) for pair in pairs} for level in levels
    }
    first = means[levels[0]]
    rows = tuple(
        EffectLevel(
            level,
            mean_interval(list(means[level].values()), found.confidence),
            None if number == 0 else difference(means[level], first, found.confidence),
            len(whole),
        )
        for number, level in enumerate(levels)
    )
    return Effect(found.factors[place].path, rows, total - len(whole) * len(levels))
