"""Because of what a curve grows: growth without each mechanism, beside growth with it.

    removed   without it growth is no longer super-linear (or, where it was not, is gone), and that is no chance: the paired
              interval of what the exponent loses excludes 0, or else that of the share of the rise that is left excludes 1;
              or without it at most a tenth of the rise from the smallest to the largest x is left, with its interval
    lowered   none does that, but without it the exponent falls, resolved and by 0.05 or more; of several, those that lower
              it by half as much as the one that does so most
    none      no single one does either

Where it cannot be told how a curve grows, but it does, the last kind of `removed` alone is looked for.

Leaves out: interactions of mechanisms, beyond all of them at once.
Checked: tests/test_scaling.py.
Source: the bootstrap is that of `growth`; both curves resample the same replications.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .growth import Curve, Growth
from .growth_laws import best_powers, weights
from .statistics import Array, Estimate, no_estimate, paired_difference, student_t

ALL_OFF = "all of them"
GONE = ("constant", "falling")
RESAMPLES = 400
NOTHING_LEFT = 0.1  # of the rise
POWER = "exponent of a + b x^p"
_LEAST_DROP = 0.05  # of the exponent: half of what parts linear from super-linear

CauseKind = Literal["removed", "lowered", "none", "not asked"]


@dataclass(frozen=True, slots=True)
class Ablated:
    """Growth without a mechanism: the metric at the `largest` x, what the exponent loses (`drop`), what is `left` of the rise.

    The last two are paired with the runs that have the mechanism; `left` is a share. Where there was nothing to switch off, or nothing changed,
    `skipped` says so and the rest is None; `drop` is None too where nothing grows any more.
    """

    mechanism: str
    changes: tuple[str, ...]
    derived: bool
    skipped: str = ""
    growth: Growth | None = None
    largest: Estimate | None = None
    drop: Estimate | None = None
    left: Estimate | None = None

    @property
    def is_gone(self) -> bool:
        """Whether next to nothing of the rise is left."""
        return self.left is not None and self.left.resolved and self.left.high <= NOTHING_LEFT


@dataclass(frozen=True, slots=True)
class Cause:
    """Which mechanisms growth is due to, and in what sense (see above)."""

    kind: CauseKind
    mechanisms: tuple[str, ...] = ()


def exponent_drop(base: Growth, other: Growth, confidence: float, seed: int) -> Estimate:
    """Return by how much the exponent of `other` is lower, from replications resampled together.

    It is p of a + b x^p where both curves have one, else the slope of log T over log x, and `method` says which. One
    replication, or two, give no interval; curves without chance one of no width.
    """
    curves = base.curve, other.curve
    powers = base.exponent is not None and other.exponent is not None
    replications = curves[0].values.shape[0]
    counts = np.random.default_rng((seed, 2)).multinomial(
        replications, np.full(replications, 1 / replications), RESAMPLES
    )
    samples = []
    for curve in curves:
        mean = curve.mean[None, :]
        means = np.vstack([mean, mean + counts / replications @ (curve.values - mean)])
        samples.append(_exponents(curve, means, powers))
    drops = samples[0] - samples[1]
    method = POWER if powers else "log-log slope"
    value = float(drops[0])
    if all(curve.exact for curve in curves):
        return Estimate(value, value, value, confidence, replications, f"exact, {method}")
    if replications < 3 or not np.isfinite(drops).all():
        return Estimate(value, -math.inf, math.inf, confidence, replications, method)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drops[1:], (tail, 1 - tail))
    wider = student_t(confidence, replications - 1) / student_t(confidence, math.inf)
    wider *= math.sqrt(replications / (replications - 1))
    ends = value + wider * min(float(low) - value, 0.0), value + wider * max(float(high) - value, 0.0)
    return Estimate(value, *ends, confidence, replications, f"paired bootstrap, {method}")


def _exponents(curve: Curve, means: Array, powers: bool) -> Array:
    """Return the exponent of each row of means."""
    if powers:
        weight = weights(curve.x, curve.values, curve.exact)
        return best_powers(curve.x, means, np.broadcast_to(weight, means.shape))
    z = np.log(curve.x) - np.log(curve.x).mean()
    logs = np.log(np.where(means > 0, means, np.nan))
    return np.asarray(logs @ z / (z @ z))


def rise_left(base: Curve, other: Curve, confidence: float) -> Estimate:
    """Return which share of the rise of `base`, from the smallest to the largest x, is left in `other`, paired."""
    rises = [curve.values[:, -1] - curve.values[:, 0] for curve in (base, other)]
    if not rises[0].mean():
        return no_estimate(confidence, "no rise")
    if base.exact and other.exact:
        share = float(rises[1].mean() / rises[0].mean())
        return Estimate(share, share, share, confidence, rises[0].size, "exact")
    return paired_difference(rises[0], rises[1], confidence).ratio


def cause_of(base: Growth | None, ablation: Sequence[Ablated]) -> Cause:
    """Return the mechanisms that growth is due to."""
    single = [one for one in ablation if one.growth is not None and one.mechanism != ALL_OFF]
    if base is None or base.verdict in GONE or not ablation:
        return Cause("not asked")
    if base.verdict == "cannot tell":  # how it grows; that it does may be plain
        names = tuple(one.mechanism for one in single if one.is_gone) if base.change.low > 0 else ()
        return Cause("removed", names) if names else Cause("not asked")
    beyond = base.verdict == "super-linear"
    gone = (*GONE, "linear", "sub-linear") if beyond else GONE
    removing = [
        one for one in single if one.growth and (one.is_gone or (one.growth.verdict in gone and _no_chance(one)))
    ]
    if removing:
        return Cause("removed", tuple(one.mechanism for one in removing))
    drops = {one.mechanism: one.drop.value for one in single if one.drop is not None and _lowers(one.drop)}
    if beyond and drops:
        most = max(drops.values())
        return Cause("lowered", tuple(name for name, drop in drops.items() if drop >= most / 2))
    return Cause("none")


def _lowers(drop: Estimate) -> bool:
    return drop.low > 0 and drop.value >= _LEAST_DROP


def _no_chance(one: Ablated) -> bool:
    if one.drop is not None and POWER in one.drop.method:
        return _lowers(one.drop)
    return one.left is not None and one.left.high < 1
