"""What a fit that was held against unseen tasks says to a page: which predictions hold, which miss, and whether the interval says why.

Leaves out: the words and tables of the answer (`holdout_tables`); how the fit is made (`calibration.traces`).
Checked: tests/test_holdout_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...analysis.holdout import HeldOut, HoldoutResult
from ...analysis.statistics import Estimate
from .. import holdout_tables as tables
from ..numbers import counted, plain, show
from ..page import theme
from ..page.parts import Chart, Missing, Part, Section, View
from ..page.provenance import Provenance
from .further import fitted
from .pieces import cells, known, number, tidy, told

__all__ = ["figures", "parts"]

_FARTHEST = 2.5  # an interval is drawn as far as this many times what lies farthest of the rest
_LEAST = 0.05  # to both sides of 0, at least
_LANES = (-0.2, 0.2, 0.0, 0.0)  # of a row: what is predicted lies above what was measured, the others between

Data = dict[str, Any]


def parts(found: HoldoutResult, source: Provenance) -> list[Part]:
    """Return what it says: the answer, and how sure a fitted scenario is."""
    answer = Part(Section.ANSWER, tables.answer_of(found), facts=tuple(_facts(found)))
    return [answer, _sure(found, source)]


def figures(found: HoldoutResult) -> dict[str, Chart]:
    """Return the charts by name."""
    return {one.name: one for one in _charts(found)}


def _facts(found: HoldoutResult) -> Iterator[tuple[str, str, str]]:
    """Yield what was predicted of each metric for which a band is asked, and whether it holds."""
    for one in found.rows:
        if one.asked:
            measured = f"{show(one.measured, one.unit).value} measured, predicted"
            yield (
                f"{tables.NAMES[one.name]}: {measured}",
                cells(one.predicted, one.unit),
                "holds" if one.holds else "misses",
            )


def _sure(found: HoldoutResult, source: Provenance) -> Part:
    _, beside = tables.report(found).tables
    said = [
        f"A scenario fitted to {counted(found.trained, 'task')} predicts {counted(found.tested, 'other task')} that it has not seen.",
        tables.answer_of(found),
        *_against_naive(found),
    ]
    return Part(
        Section.SURE,
        " ".join(said),
        charts=tuple(_charts(found)),
        tables=(tidy(beside, "metric"),),
        notes=tuple(tables.notes(found)),
        warnings=found.doubts,
        missing=(
            Missing(
                "How much hangs on which tasks were held out: other parts, drawn by another seed",
                fitted(source, "--holdout", f"{found.share:g}", "--seed", str(found.seed + 1)),
            ),
        ),
    )


def _against_naive(found: HoldoutResult) -> Iterator[str]:
    """Yield of how many metrics the fit is nearer than the naive one."""
    errors = [(abs(one.error), abs(one.miss(one.naive))) for one in found.rows if one.asked]
    both = [(fit, naive) for fit, naive in errors if not math.isnan(naive)]
    if both:
        nearer = sum(fit < naive for fit, naive in both)
        yield (
            f"Of these {counted(len(both), 'metric')} it is nearer than the naive fit (steps that know nothing of each other, lognormal times) in {nearer}."
        )


# ---------------------------------------------------------------------------------------------------------------------
# The chart


def _charts(found: HoldoutResult) -> Iterator[Chart]:
    rows = [one for one in found.rows if known(one.predicted) and not math.isnan(one.error)]
    if not rows:
        return
    ends = _ends(rows)
    names = [html.escape(tables.NAMES[one.name]) for one in rows]
    data: list[Data] = [_band_key()] if any(one.asked for one in rows) else []
    for place, (what, values) in enumerate(
        {
            "predicted": [_off(one, one.predicted) for one in rows],
            "measured": [_off(one, one.measured) for one in rows],
        }.items()
    ):
        texts = [f"{name}: {told(getattr(one, what), one.unit)}" for name, one in zip(names, rows, strict=True)]
        data.append(_points(what, [_within(one, ends) for one in values], texts, place))
    for place, (what, of) in enumerate({"naive fit": "naive", "tasks fitted to": "floor"}.items(), start=2):
        values = [_alone(one.miss(getattr(one, of))) for one in rows]
        texts = [f"{name}: {_text(getattr(one, of), one.unit)}" for name, one in zip(names, rows, strict=True)]
        data.append(_points(what, [_within(one, ends) for one in values], texts, place))
    axis = theme.axis("off what was measured (%; points for shares)", range=[100 * one for one in ends])
    ticks: Data = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names}
    lanes = theme.axis("", range=[len(names) - 0.5, -0.5], **ticks)
    layout = theme.layout(axis, lanes, shapes=[*_bands(rows), theme.limit(0.0, "x")])
    shown, _ = tables.report(found).tables
    chart = View(data, layout, _words(rows), tidy(shown, "metric"))
    yield Chart("holdout-errors", "How far off are the predictions?", {"": chart}, height=150 + 44 * len(rows))


def _words(rows: Sequence[HeldOut]) -> str:
    off = [f"{tables.NAMES[one.name]} {tables.error_text(one, one.error)}" for one in rows]
    inside = sum(one.expected for one in rows if one.predicted.resolved)
    resolved = sum(one.predicted.resolved for one in rows)
    said = f"Predicted less measured: {', '.join(off)}."
    return f"{said} What was measured lies in {inside} of {resolved} prediction intervals." if resolved else said


def _off(one: HeldOut, estimate: Estimate) -> Estimate:
    """Return an estimate as how far off what was measured it is."""
    low, high = (one.miss(end) if math.isfinite(end) else end for end in (estimate.low, estimate.high))
    return replace(estimate, value=one.miss(estimate.value), low=low, high=high)


def _alone(value: float) -> Estimate:
    return Estimate(value, -math.inf, math.inf, 0.95, 0, "")


def _within(one: Estimate, ends: tuple[float, float]) -> Estimate:
    """Return an estimate in hundredths, whose interval ends where the axis does."""
    if math.isnan(one.value):
        return one
    low = max(one.low, min(ends[0], one.value)) if math.isfinite(one.low) else one.low
    high = min(one.high, max(ends[1], one.value)) if math.isfinite(one.high) else one.high
    return replace(one, value=100 * one.value, low=100 * low, high=100 * high)


def _ends(rows: Sequence[HeldOut]) -> tuple[float, float]:
    """Return the ends of the axis: all points and bands lie between, and intervals as far as that leaves them readable."""
    points = [one.error for one in rows] + [one.miss(end) for one in rows for end in (one.naive, one.floor)]
    points += [sign * one.band for one in rows if one.asked for sign in (-1, 1)]
    points = [one for one in points if math.isfinite(one)]
    known_ = [_off(one, each) for one in rows for each in (one.predicted, one.measured)]
    most = _FARTHEST * max((abs(one) for one in points), default=0.0)
    points += [max(-most, min(most, end)) for one in known_ for end in (one.low, one.high) if math.isfinite(end)]
    low, high = min(-_LEAST, *points), max(_LEAST, *points)
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _points(name: str, values: list[Estimate], texts: list[str], look: int) -> Data:
    colour = theme.COLOURS[look]
    made: Data = {
        "type": "scatter", "mode": "markers", "name": name, "y": [place + _LANES[look] for place in range(len(values))], "x": [number(one.value) for one in values],
        "marker": {"color": colour, "symbol": theme.MARKERS[look] if look < 2 else f"{theme.MARKERS[look]}-open", "size": 9},
        "hovertext": texts, "hoverinfo": "text",
    }  # fmt: skip
    if any(one.resolved for one in values):
        made["error_x"] = theme.whiskers(values) | {"color": colour}
    return made


def _bands(rows: Sequence[HeldOut]) -> list[Data]:
    """Return the shapes of what is asked, row by row."""
    return [
        {
            "type": "rect", "layer": "below", "x0": -100 * one.band, "x1": 100 * one.band, "y0": place - 0.42, "y1": place + 0.42,
            "fillcolor": theme.GRID, "line": {"width": 0},
        }
        for place, one in enumerate(rows)
        if one.asked
    ]  # fmt: skip


def _band_key() -> Data:
    """Return what the legend says of the shapes."""
    marker = {"symbol": "square", "size": 12, "color": "rgba(128,128,128,0.45)"}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "asked",
        "x": [None],
        "y": [None],
        "marker": marker,
        "hoverinfo": "skip",
    }


def _text(value: float, unit: str) -> str:
    return html.escape("not observed" if math.isnan(value) else plain(value, unit))
