"""How a curve T(x) grows: its law, its exponent with an interval, and a verdict in words.

The verdict is on marginal cost, dT/dx: what one more step, agent or modality adds. It rests on p of a + b x^p, where
marginal cost goes as x^(p-1), because p does not depend on the units of x and T and an offset does not hide it.

    cannot tell    fewer than six points; or growth that is neither resolved from none nor shown to be below 5 %
    constant       the interval of the growth over the range holds 0 and is within 5 % of the mean of T, and a constant
                   passes the test of fit; or T falls, by less than those 5 %
    falling        that interval is below 0, and not within the 5 %
    linear         the interval of p is within 0.9 to 1.1
    super-linear   it is not, and is above 1
    sub-linear     it is not, and is below 1; none of these: cannot tell

A single exponent is refused where the power law misfits: its residuals are more than the replications' spread explains
(F test at 1 %), and one of them is above 7.2 % of T, or of the growth where that is less (`scales`). Between x and 2x such
an error changes the exponent by log2(1.072) = 0.1, the half-width of what is called linear. An exact curve, or one of
fewer than three replications, is judged by its residual alone. It is refused, too, where a smaller misfit that is no
chance leaves open on which side of 1 it is, and sections and law agree on one. The verdict then comes from the marginal costs of two to
four sections of the range, even in log x: super-linear where one is resolved above the one before and none below,
sub-linear the other way round. Resolved is a rise where the interval of the difference (paired, Bonferroni's) excludes 0
and the factor exceeds x^0.1; one or two replications that differ resolve none. A curve that is resolved below an earlier
peak, by more than 7.2 %, is neither: cannot tell.

Intervals resample whole replications, the same ones at every x, as they share their random numbers. Percentiles are
stretched about the estimate by t / z * sqrt(n / (n - 1)), without which few replications cover too seldom. With an exact
curve, or fewer than three replications, intervals come from leaving out points one by one (jackknife; for the growth over
the range, from the power law's residuals): they tell what the law's misfit leaves open, not chance. Where the test finds
a misfit too small to refuse the exponent, its interval is the wider hull of both. One replication cannot show that a
curve is exact; two equal ones do.

Leaves out: why it grows (`scaling`); more than one variable; curves with a bend at a known x.
Checked: tests/test_growth.py, on curves of known laws with noise that replications share.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 11 to 13; Hesterberg, The American Statistician
69 (2015) (the stretch); Law, Simulation Modeling and Analysis, 5th ed., 10.2 and 11.2 (common random numbers).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..engine.units import significant
from .growth_laws import (
    FEWEST,
    LAWS,
    LINEAR,
    POWERS,
    Array,
    Curve,
    Fit,
    Study,
    best_powers,
    estimate_data,
    fit_laws,
    says,
    scales,
    sections,
    slope_of,
    weights,
    without_each,
)
from .statistics import Estimate, bonferroni, check_share, mean_interval, student_t

__all__ = ["Curve", "Fit", "Growth", "Local", "Verdict", "growth", "sentence"]

Verdict = Literal["sub-linear", "linear", "super-linear", "constant", "falling", "cannot tell"]

_SIGNIFICANT = 0.01
_ROUNDING = 1e-9
_NO_GROWTH = 0.05  # of the mean of T, over the whole range
_BEND = LINEAR[1] - 1  # marginal cost that goes with x to less than this is that of a line
_HULL = ", and of its misfit"  # how an interval was made that is the wider hull of both
_MISFIT = 2**_BEND - 1  # of `scales`: see above


@dataclass(frozen=True, slots=True)
class Local:
    """d log T / d log x between two x next to each other."""

    low: float
    high: float
    exponent: Estimate


@dataclass(frozen=True, slots=True)
class Growth:
    """How a curve grows; `reasons` say in words what the verdict stands on and what was refused.

    `fits` are all laws, `chosen` the one that held-out error picks, None where the data do not tell. `exponent` is p of
    a + b x^p, None where T does not grow or one exponent misfits; an end that the data leave open is infinite.
    `loglog` is the plain slope of log T over log x, without an offset, every point alike; it and `local` know points
    with T > 0 only. `change` is the growth over the range, from the slope over log x, as a share of the mean of T.
    """

    curve: Curve
    fits: tuple[Fit, ...]
    chosen: Fit | None
    exponent: Estimate | None
    loglog: Estimate
    local: tuple[Local, ...]
    change: Estimate
    verdict: Verdict
    reasons: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """Return it as JSON has it; what is not known is null."""
        curve = self.curve
        return {
            "label": curve.label,
            "unit": curve.unit,
            "x": curve.x.tolist(),
            "values": curve.values.tolist(),
            "verdict": self.verdict,
            "sentence": sentence(self),
            "reasons": list(self.reasons),
            "exponent": None if self.exponent is None else estimate_data(self.exponent),
            "loglog": estimate_data(self.loglog),
            "local": [
                {"low": one.low, "high": one.high, "exponent": estimate_data(one.exponent)} for one in self.local
            ],
            "change": estimate_data(self.change),
            "chosen": None if self.chosen is None else self.chosen.law,
            "fits": [fit.to_data() for fit in self.fits],
        }


def growth(curve: Curve, confidence: float = 0.95, seed: int = 0, resamples: int = 400) -> Growth:
    """Return how the curve grows, by the rules that the module opens with; the same for the same `seed`.

    Raises ValueError unless 0 < confidence < 1 and there are 100 resamples or more.
    """
    check_share("confidence", confidence)
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100, got {resamples}")
    study = _study(curve, confidence, seed, resamples)
    fits, near = fit_laws(curve.x, curve.values, study.weight, study.noise, seed)
    notes = _notes(study)
    change = _change(study, fits)
    verdict, exponent, reasons = _judged(study, fits, near, change)
    chosen, why = _chosen(study, near, verdict)
    return Growth(
        curve=curve,
        fits=fits,
        chosen=chosen,
        exponent=exponent,
        loglog=_loglog(study),
        local=_locals(study),
        change=change,
        verdict=verdict,
        reasons=(*reasons, *why, *notes),
    )


def _study(curve: Curve, confidence: float, seed: int, resamples: int) -> Study:
    replications = curve.values.shape[0]
    exact = curve.exact
    noise = not exact and replications >= 3
    means = curve.mean[None, :]
    if noise:
        rng = np.random.default_rng((seed, 0))
        counts = rng.multinomial(replications, np.full(replications, 1 / replications), resamples)
        # About the mean, so that equal values stay equal whatever is drawn.
        means = np.vstack([means, means + counts / replications @ (curve.values - means)])
    return Study(curve, weights(curve.x, curve.values, exact), means, noise, confidence)


def _notes(study: Study) -> list[str]:
    """Return what to know about the intervals, and about points that logarithms leave out."""
    curve, notes = study.curve, []
    replications = curve.values.shape[0]
    if curve.exact:
        notes.append("replications do not differ: intervals tell how far the curve is from the law, not chance")
    elif replications < 3:
        few = "1 replication" if replications == 1 else f"{replications} replications"
        notes.append(f"{few}: chance is not known, and intervals only tell how far the points are from the law")
    none = int((curve.mean <= 0).sum())
    if none:
        points = "1 point" if none == 1 else f"{none} points"
        notes.append(f"{points} with T <= 0 left out of the log-log slope and the local exponents")
    return notes


def _change(study: Study, fits: Sequence[Fit]) -> Estimate:
    """Return the growth over the range, from the slope over log x, as a share of the mean |T|."""
    curve, z = study.curve, np.log(study.curve.x)
    level = float(np.abs(curve.mean).mean()) or 1.0
    samples = study.means @ slope_of(z, np.ones(z.size)) * (z[-1] - z[0]) / level
    if study.noise:
        return study.chance(samples, "slope over log x")
    value = float(samples[0])
    if curve.exact:
        value = value if abs(value) > _ROUNDING else 0.0
        return Estimate(value, value, value, study.confidence, z.size, "exact")
    half, free = math.inf, z.size - LAWS["power"]
    if free > 0:
        # What the most flexible law of all leaves over, at both ends: the nearest to noise that is to be had.
        scale = scales(curve.mean)
        rest = next(((curve.mean - fit.fitted) / scale for fit in fits if fit.law == "power"), scale)
        noise = math.sqrt(float(rest @ rest) / free) * math.hypot(scale[0], scale[-1]) / level
        half = student_t(study.confidence, free) * noise
    return Estimate(value, value - half, value + half, study.confidence, z.size, "residuals of the power law")


def _judged(
    study: Study, fits: tuple[Fit, ...], near: Sequence[Fit], change: Estimate
) -> tuple[Verdict, Estimate | None, list[str]]:
    """Return verdict, exponent and reasons."""
    grown = f"growth over the range {_percent(change)} of the mean"
    few = f"{study.curve.x.size} points: no law is chosen with fewer than {FEWEST}"
    largest = max(abs(change.low), abs(change.high))
    if change.low <= 0 <= change.high:
        misfit = next((fit for fit in fits if fit.law == "constant"), None)
        unsteady = misfit is not None and (
            misfit.worst > _ROUNDING if study.curve.exact else study.noise and _misfits(misfit, True, 0.0)
        )
        if unsteady:
            return "cannot tell", None, [f"{grown} is not resolved, yet the points are not all at one level"]
        if study.curve.x.size < FEWEST:
            return "cannot tell", None, [few, grown]
        if largest > _NO_GROWTH:
            return "cannot tell", None, [f"{grown} is not resolved from none"]
        return "constant", None, [f"{grown}: none is seen, and more than {100 * _NO_GROWTH:.0f} % excluded"]
    if change.high < 0 and largest <= _NO_GROWTH:
        return "constant", None, [f"{grown}: a fall of less than {100 * _NO_GROWTH:.0f} %"]
    if change.high < 0:
        return "falling", None, [f"{grown}: T falls, which no exponent of growth describes"]
    exponent, refusal = _exponent(study, fits)
    if study.curve.x.size < FEWEST:
        return "cannot tell", exponent, [few, *refusal]
    if exponent is None:
        verdict, reason = _bends(study)
        return verdict, None, [*refusal, reason]
    return _of_exponent(study, near, exponent)


def _of_exponent(study: Study, near: Sequence[Fit], exponent: Estimate) -> tuple[Verdict, Estimate | None, list[str]]:
    """Return the verdict of an exponent; where only a misfit leaves it open, that of sections and of the near laws, if they agree."""
    verdict, told = _verdict(exponent), f"exponent {_interval(exponent)} of a + b x^p"
    if verdict == "cannot tell" and (study.curve.exact or exponent.method.endswith(_HULL)):
        bends, reason = _bends(study)
        if {says(fit, study.curve.x) for fit in near} == {bends}:
            return bends, None, [f"no single {told}, which misfits by more than chance", reason]
    return verdict, exponent, [told]


def _verdict(exponent: Estimate) -> Verdict:
    if exponent.low >= LINEAR[0] and exponent.high <= LINEAR[1]:
        return "linear"
    return "super-linear" if exponent.low > 1 else "sub-linear" if exponent.high < 1 else "cannot tell"


def _exponent(study: Study, fits: tuple[Fit, ...]) -> tuple[Estimate | None, list[str]]:
    """Return p of the power law with offset, or None and why it is refused."""
    power = next((fit for fit in fits if fit.law == "power"), None)
    if power is None:
        return None, [f"{study.curve.x.size} points: too few for an offset, a factor and an exponent"]
    if _misfits(power, study.noise, _MISFIT):
        test = "" if power.lack_of_fit is None else f" (test of fit: p = {power.lack_of_fit:.2g})"
        return None, [f"no single exponent: the best power law is off by up to {100 * power.worst:.2g} %{test}"]
    x, p = study.curve.x, power.parameters["p"]
    left = best_powers(x, np.tile(study.curve.mean, (x.size, 1)), without_each(x, study.weight))
    between = study.misfit(p, left, 3, "exponent with offset")
    if not study.noise:
        return _bounded(between, left), []
    found = study.chance(best_powers(x, study.means, np.broadcast_to(study.weight, study.means.shape)), "exponent")
    if power.lack_of_fit is not None and power.lack_of_fit < 1 - study.confidence:
        ends = min(found.low, between.low), max(found.high, between.high)
        found = Estimate(p, *ends, found.confidence, found.n, f"{found.method}{_HULL}")
    return _bounded(found, np.zeros(0)), []


def _bounded(exponent: Estimate, values: Array) -> Estimate:
    """Return the estimate with an end that is beyond what was searched, or rests on a value that is, as unknown."""
    edge = 1e-3
    low = -math.inf if min([exponent.low, *values]) <= POWERS[0] + edge else exponent.low
    high = math.inf if max([exponent.high, *values]) >= POWERS[1] - edge else exponent.high
    return Estimate(exponent.value, low, high, exponent.confidence, exponent.n, exponent.method)


def _bends(study: Study) -> tuple[Verdict, str]:
    """Return the verdict from the marginal costs of sections, where no single exponent describes the curve."""
    x, values = study.curve.x, study.curve.values
    ends = sections(x)
    costs = np.diff(values[:, ends], axis=1) / np.diff(x[ends])
    if costs.shape[1] < 2:
        return "cannot tell", "too few sections to compare marginal costs"
    if not (study.noise or study.curve.exact):
        return "cannot tell", "fewer than three replications do not tell whether marginal costs rise"
    confidence = bonferroni(study.confidence, 2 * costs.shape[1] - 1)
    slopes = [_known(costs[:, i], study.noise, confidence) for i in range(costs.shape[1])]
    if _turns(study):
        return "cannot tell", "T falls in a part of the range"
    # The marginal cost of a section is about that at the geometric mean of its ends.
    middle = np.sqrt(x[ends[:-1]] * x[ends[1:]])
    rises = falls = 0
    for i, (before, after) in enumerate(itertools.pairwise(slopes)):
        difference = _known(costs[:, i + 1] - costs[:, i], study.noise, confidence)
        factor = float(middle[i + 1] / middle[i]) ** _BEND
        rises += difference.low > 0 and after.value > before.value * factor
        falls += difference.high < 0 and after.value * factor < before.value
    shown = f"marginal cost from {slopes[0].value:.3g} to {slopes[-1].value:.3g} {study.curve.unit} per unit of x"
    if rises and not falls:
        return "super-linear", f"{shown}: it rises along the range and falls nowhere"
    if falls and not rises:
        return "sub-linear", f"{shown}: it falls along the range and rises nowhere"
    return "cannot tell", f"{shown}: it " + ("rises and falls" if rises else "neither rises nor falls, resolved")


def _turns(study: Study) -> bool:
    """Return whether T is anywhere below an earlier peak, resolved, by more than a misfit that would be let pass."""
    curve, scale = study.curve, scales(study.curve.mean)
    confidence = bonferroni(study.confidence, curve.x.size)
    peaks = [int(np.argmax(curve.mean[: i + 1])) for i in range(curve.x.size)]
    drops = (curve.values[:, peaks] - curve.values) / scale
    return any(_known(drop, study.noise, confidence).low > _MISFIT for drop in drops.T)


def _known(sample: Array, noise: bool, confidence: float) -> Estimate:
    """Return the mean with its paired interval, or without chance with no width."""
    if noise:
        return mean_interval(sample, confidence)
    value = float(sample.mean())
    return Estimate(value, value, value, confidence, sample.size, "exact")


def _misfits(fit: Fit, noise: bool, worst: float) -> bool:
    """Return whether a residual is above `worst`, and the test of fit, where there is one, says it is not chance."""
    by_chance = noise and (fit.lack_of_fit is None or fit.lack_of_fit >= _SIGNIFICANT)
    return fit.worst > worst and not by_chance


def _chosen(study: Study, near: Sequence[Fit], verdict: Verdict) -> tuple[Fit | None, list[str]]:
    """Return the law that held-out error picks, or None and why there is none."""
    if not near:
        return None, []
    if verdict == "constant":
        near = [fit for fit in near if fit.law == "constant"]
        return (near[0], []) if near else (None, ["held-out error picks a law that grows"])
    if len({says(fit, study.curve.x) for fit in near}) > 1:
        return None, [f"held-out error does not tell these laws apart: {', '.join(fit.law for fit in near)}"]
    if _misfits(near[0], study.noise, _MISFIT):
        off = f"{100 * near[0].worst:.2g} %"
        return None, [f"no candidate law describes the curve: the nearest, {near[0].law}, is off by up to {off}"]
    return near[0], []


def _loglog(study: Study) -> Estimate:
    """Return the slope of log T over log x, every point alike."""
    known = study.curve.mean > 0
    z = np.log(study.curve.x[known])
    if z.size < 2:
        return Estimate(math.nan, -math.inf, math.inf, study.confidence, z.size, "fewer than two points with T > 0")
    logs = _logs(study.means[:, known])
    samples = logs @ slope_of(z, np.ones(z.size))
    if study.noise:
        return study.chance(samples, "log-log slope")
    left = logs[0] @ slope_of(z, without_each(z, np.ones(z.size))).T if z.size > 2 else np.zeros(0)
    return study.misfit(float(samples[0]), left, 2, "log-log slope")


def _locals(study: Study) -> tuple[Local, ...]:
    """Return the local exponents between neighbours with T > 0; without known chance they have no width or no ends."""
    known = study.curve.mean > 0
    x, logs = study.curve.x[known], _logs(study.means[:, known])
    slopes = np.diff(logs, axis=1) / np.diff(np.log(x))
    return tuple(Local(float(x[i]), float(x[i + 1]), _local(study, slopes[:, i])) for i in range(x.size - 1))


def _local(study: Study, samples: Array) -> Estimate:
    if study.noise:
        return study.chance(samples, "local exponent")
    value, width = float(samples[0]), 0.0 if study.curve.exact else math.inf
    return Estimate(
        value, value - width, value + width, study.confidence, study.curve.values.shape[0], "no chance known"
    )


def _logs(means: Array) -> Array:
    """Return logarithms, nan where a resample is not > 0."""
    return np.log(np.where(means > 0, means, np.nan))


def _interval(estimate: Estimate) -> str:
    """Return value and interval with two decimals, or the one end that is known."""
    if estimate.resolved:
        return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f} ({_between(estimate)})"


def _between(estimate: Estimate) -> str:
    if estimate.resolved:
        low, high = f"{estimate.low:.2g}", f"{estimate.high:.2g}"
        return f"near {low}" if low == high else f"between {low} and {high}"
    if math.isfinite(estimate.low):
        return f"at least {estimate.low:.2g}"
    return f"at most {estimate.high:.2g}" if math.isfinite(estimate.high) else "any exponent"


def _percent(change: Estimate) -> str:
    value, low, high = (significant(100 * one, 2) for one in (change.value, change.low, change.high))
    return f"{value} % [{low} %, {high} %]" if change.resolved else f"{value} % (no interval)"


def sentence(found: Growth) -> str:
    """Return the verdict in a line, such as 'super-linear: 1.62 [1.51, 1.70]' or 'cannot tell: between 0.8 and 1.4'."""
    if found.verdict in {"constant", "falling"}:
        return f"{found.verdict}: {_percent(found.change)} of the mean over the range"
    if found.verdict == "cannot tell":
        if found.exponent is None:
            return f"cannot tell: {found.reasons[0]}"
        return f"cannot tell: {_between(found.exponent)} ({found.curve.x.size} points)"
    if found.exponent is not None:
        little = f", of {_percent(found.change)} of the mean in all" if 0 < found.change.high < _NO_GROWTH else ""
        return f"{found.verdict}: {_interval(found.exponent)}{little}"
    law = "" if found.chosen is None else f" ({found.chosen.law})"
    x, mean = found.curve.x, found.curve.mean
    ends = [i for i in sections(x) if mean[i] > 0]
    slopes = np.diff(np.log(mean[ends])) / np.diff(np.log(x[ends]))
    if slopes.size < 2:
        return f"{found.verdict}, no single exponent{law}"
    moves = "rises" if slopes[-1] > slopes[0] else "falls"
    if found.verdict == ("sub-linear" if moves == "rises" else "super-linear"):  # for all that, by an offset
        return f"{found.verdict}, no single exponent{law}: {found.reasons[-1 if len(found.reasons) < 2 else 1]}"
    moved = f"marginal cost {moves}, local exponent from {slopes[0]:.1f} to {slopes[-1]:.1f}"
    return f"{found.verdict}, no single exponent{law}: {moved}"
