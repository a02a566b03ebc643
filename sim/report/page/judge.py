"""The limit on T_total that a reader moves: what the page's script computes of it, done here for the first value.

The script repeats these rules in the page (`numbers.js`); a test holds the two to the same numbers.

Leaves out: moving it (`script.js`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from ...analysis.slo import Objective, Verdict, verdict
from ...analysis.statistics import Estimate, mean_interval, student_t
from ..layout import Table
from ..numbers import NOTHING, plain, show
from . import pieces
from .parts import Chart, Curve, Slider

__all__ = ["Judgement", "cheapest", "judge", "slider_data", "slider_html"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A curve against a limit: its percentile of T_total (s), the share of tasks within the limit, and the chance that it is met.

    `chance` is Student's t: how likely the true mean over replications is within the limit; nan for one replication.
    """

    value: Estimate
    verdict: Verdict
    within: Estimate
    chance: float


def judge(curve: Curve, shares: Sequence[float], share: float, limit: float, confidence: float) -> Judgement:
    """Return what a curve says of a limit (s) on the percentile `share`."""
    values = [_at(share, shares, row) for row in curve.rows]
    value = _mean(values, confidence)
    within = _mean([_share_within(limit, shares, row) for row in curve.rows], confidence)
    if within.half_width == 0:  # all tasks, or none, in every replication: that is not to know it exactly
        within = replace(within, low=-math.inf, high=math.inf)
    elif within.resolved:
        within = replace(within, low=max(within.low, 0.0), high=min(within.high, 1.0))
    return Judgement(value, verdict(value, Objective("p", limit, "<=")), within, _chance(values, limit))


def cheapest(curves: Sequence[Curve], verdicts: Sequence[Verdict]) -> int | None:
    """Return the place of the curve that passes at the least cost; the first that passes where none has a cost."""
    passing = [place for place, said in enumerate(verdicts) if said == "pass"]
    costs = {place: cost for place in passing if (cost := curves[place].cost) is not None}
    return min(costs, key=lambda place: (costs[place], place)) if costs else next(iter(passing), None)


def _mean(values: Sequence[float], confidence: float) -> Estimate:
    if not values or any(math.isnan(value) for value in values):
        return Estimate(math.nan, -math.inf, math.inf, confidence, len(values), "t over replications")
    if any(math.isinf(value) for value in values):
        return Estimate(math.inf, -math.inf, math.inf, confidence, len(values), "t over replications")
    return mean_interval(values, confidence)


def _at(share: float, shares: Sequence[float], row: Sequence[float]) -> float:
    """Return the quantile at a share: straight between those known."""
    after = min(max(bisect.bisect_left(shares, share), 1), len(shares) - 1)
    low, high = shares[after - 1], shares[after]
    weight = min(max((share - low) / (high - low), 0.0), 1.0)
    return _between(row[after - 1], row[after], weight)


def _between(low: float, high: float, weight: float) -> float:
    # Infinite times 0 is no number, and a quantile that is known must stay as it is.
    return low if weight == 0 else high if weight == 1 else low + weight * (high - low)


def _share_within(limit: float, shares: Sequence[float], row: Sequence[float]) -> float:
    """Return the share of tasks within a limit: the inverse of `_at`."""
    if any(math.isnan(value) for value in row):
        return math.nan
    after = bisect.bisect_right(row, limit)
    if after == 0:
        return 0.0
    if after == len(row):
        return shares[-1]
    low, high = row[after - 1], row[after]
    weight = (limit - low) / (high - low) if math.isfinite(high) else 0.0
    return _between(shares[after - 1], shares[after], weight)


def _chance(values: Sequence[float], limit: float) -> float:
    from scipy.special import stdtr

    n = len(values)
    if n < 2 or not all(math.isfinite(value) for value in values):
        return math.nan
    mean = sum(values) / n
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    if error == 0:
        return 1.0 if mean <= limit else 0.0
    return float(stdtr(n - 1, (limit - mean) / error))


def slider_data(slider: Slider, charts: Sequence[Chart], anchors: Mapping[str, str]) -> dict[str, Any]:
    """Return what the script needs, without nan and infinities: infinite is written as the text `inf`."""
    counts = sorted({len(curve.rows) for curve in slider.curves if len(curve.rows) > 1})
    return {
        "label": slider.label, "low": slider.low, "high": slider.high, "value": slider.value,
        "step": _step(slider),
        "shares": list(slider.shares), "confidence": slider.confidence,
        "t": {str(count): student_t(slider.confidence, count - 1) for count in counts},
        "curves": [
            {"label": one.label, "cost": one.cost, "rows": [[_plain(value) for value in row] for row in one.rows]}
            for one in slider.curves
        ],
        "charts": [anchors[one.name] for one in charts if one.threshold],
        "redraws": anchors.get(slider.redraws, ""),
    }  # fmt: skip


def _plain(value: float) -> float | str | None:
    return None if math.isnan(value) else float(value) if math.isfinite(value) else "inf"


def slider_html(slider: Slider, anchor: str, percentile: str) -> str:
    """Return the slider, and what it says at its first value of a percentile."""
    judged = [_judged(slider, one, percentile) for one in slider.curves]
    step = _step(slider)
    ends = f'min="{slider.low!r}" max="{slider.high!r}" value="{slider.value!r}"'
    label = escape(slider.label)
    return (
        f'<div class="slider" id="{anchor}" role="group" aria-label="{label}"><div class="needs-script moves">'
        f'<label for="{anchor}--range">{label}</label><input type="range" id="{anchor}--range" step="any" {ends}>'
        f'<span><input type="number" id="{anchor}--number" aria-label="{label}, in seconds" step="{step!r}" {ends}> s</span>'
        f'<button type="button" class="reset">Reset</button></div>'
        f'<p class="said" aria-live="polite">{escape(sentence(slider, judged, percentile))}</p>{pieces.folded(_table(slider, judged, percentile), "By configuration", anchor)}</div>'
    )


def _step(slider: Slider) -> float:
    """Return a round step of which some hundreds lie between the ends."""
    return float(10.0 ** math.floor(math.log10((slider.high - slider.low) / 200))) if slider.high > slider.low else 1.0


def _judged(slider: Slider, curve: Curve, percentile: str) -> Judgement:
    return judge(curve, slider.shares, int(percentile[1:]) / 100, slider.value, slider.confidence)


def sentence(slider: Slider, judged: Sequence[Judgement], percentile: str) -> str:
    """Return what the limit means for the curves: of one its verdict, of several how many pass, and the cheapest or first of them."""
    limit = plain(slider.value, "s", 4)
    if len(judged) == 1:
        return _of_one(slider, judged[0], percentile, limit)
    best = cheapest(slider.curves, [one.verdict for one in judged])
    passing = sum(one.verdict == "pass" for one in judged)
    said = f"{percentile} of T_total within {limit}: {passing} of {len(judged)} pass"
    if best is None:
        return f"{said}."
    cost = slider.curves[best].cost
    which = (
        f"the first of these in the list is {slider.curves[best].label}"
        if cost is None
        else f"the cheapest is {slider.curves[best].label} at ${cost:,.2f} an hour"
    )
    return f"{said}; {which} ({show(judged[best].value, 's', against=slider.value).text})."


def _of_one(slider: Slider, one: Judgement, percentile: str, limit: str) -> str:
    label = slider.curves[0].label
    if not math.isfinite(one.value.value):
        return f"{label}: {percentile} is not known."
    if not one.value.resolved:
        return f"{label}: {percentile} {plain(one.value.value, 's')}. One replication has no interval here, so it is not judged."
    stands = {
        "pass": f"is within {limit}",
        "fail": f"is beyond {limit}",
        "inconclusive": f"is not told apart from {limit}",
    }
    said = (
        f"{label}: {percentile} {show(one.value, 's', against=slider.value).text} {stands[one.verdict]}: {one.verdict}."
    )
    return f"{said} {show(one.within, 'share').text} of tasks done are within it."


def _chance_text(chance: float) -> str:
    """Return a probability; further digits of what is nearly sure would pretend."""
    return "< 0.1 %" if chance < 0.001 else "> 99.9 %" if chance > 0.999 else plain(chance, "share")


def _table(slider: Slider, judged: Sequence[Judgement], percentile: str) -> Table:
    rows = tuple(
        (
            curve.label,
            show(one.value, "s", against=slider.value).text if math.isfinite(one.value.value) else NOTHING,
            one.verdict if one.value.resolved else NOTHING,
            show(one.within, "share").text,
            _chance_text(one.chance),
            f"${curve.cost:,.2f}" if curve.cost is not None else NOTHING,
        )
        for curve, one in zip(slider.curves, judged, strict=True)
    )
    note = f"Intervals: {100 * slider.confidence:g} %, Student's t over replications. `met` is how likely the percentile is within the limit. Between the quantiles that are kept, lines are straight."
    return Table("against the limit", ("configuration", f"{percentile} of T_total", "verdict", "tasks within", "met", "an hour"), "<><>>>", rows, note)  # fmt: skip
