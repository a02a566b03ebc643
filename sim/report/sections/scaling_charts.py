"""The charts of a sweep: the curve with its laws and without each mechanism, its local slope, what takes the growth away, and the categories.

Leaves out: the sentences of the sections (`scaling`).
Checked: tests/test_scaling_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from ...analysis.causes import ALL_OFF, Ablated
from ...analysis.contrast import times
from ...analysis.growth import Growth, sentence
from ...analysis.growth_laws import LINEAR, Fit
from ...analysis.scaling import Cell, ScalingResult, Sweep
from ...analysis.statistics import Estimate, mean_interval
from ...engine.ledger import CATEGORIES
from ...engine.units import significant
from ..numbers import NOTHING, counted, show
from ..page.parts import Chart, View
from ..page.theme import COLOURS, DASHES, GREY, MARKERS, Data, axis, band, bar, layout, whiskers
from ..scaling_tables import ablation_tables, curve_table, name_of
from .pieces import axis_unit, cells, error_bars, known, look, names_axis, number, slug, table, tidy, told, upright

__all__ = ["beside_slopes", "categories", "causes", "curve", "exponent", "p_shown", "slope", "taken"]

_MOST_LINES, _MOST_WITHOUT, _MOST_TICKS = 10, 6, 9
_MANY = 5  # powers of ten
_WHOLE = (GREY, ".")


def exponent(one: Estimate | None) -> str:
    """Return an exponent with its interval, two decimals each."""
    if one is None or not math.isfinite(one.value):
        return NOTHING
    if not (math.isfinite(one.low) or math.isfinite(one.high)):
        return f"{one.value:.2f} (no interval)"
    low, high = (f"{end:.2f}" if math.isfinite(end) else "?" for end in (one.low, one.high))
    return f"{one.value:.2f} [{low}, {high}]" if low != high else f"{one.value:.2f}"


def _ticks(xs: Sequence[float]) -> Data:
    """Return ticks at the values of a sweep, fewer where they would run into each other."""
    step = max(1, math.ceil(len(xs) / _MOST_TICKS))
    kept = [x for place, x in enumerate(xs) if place % step == (len(xs) - 1) % step]
    return {"tickmode": "array", "tickvals": kept, "ticktext": [f"{x:g}" for x in kept]}


def _rungs(low: float, high: float) -> Data:
    """Return ticks of a logarithmic axis: of few powers of ten several each, of many 1 alone; some beyond both ends."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    steps = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if last - first <= _MANY else (1,)
    rungs = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return {"tickmode": "array", "tickvals": rungs, "ticktext": [f"{rung:g}" for rung in rungs]}


def _xs(growth: Growth) -> list[float]:
    return [float(x) for x in growth.curve.x]


# ---------------------------------------------------------------------------------------------------------------------
# The curve


def curve(one: Sweep, found: ScalingResult) -> Chart | None:
    """Return the curve with its intervals, the laws fitted to it, and the curve without each mechanism."""
    if one.growth is None:
        return None
    without = _without(one)
    lines = [_line(one.growth, "as it is", COLOURS[0], 0, found)]
    lines += [_line(made.growth, _named(made.mechanism), COLOURS[1 + place % (len(COLOURS) - 1)], place + 1, found)
              for place, made in enumerate(without) if made.growth is not None]  # fmt: skip
    # Laws lie below, so that the one chosen does not hide what it describes.
    data = [_law(fit, one.growth) for fit in _laws(one.growth, _MOST_LINES - len(lines))]
    data += [trace for line in lines for trace in line]
    drawn = [one.growth, *(made.growth for made in without if made.growth is not None)]
    is_log = all(bool((each.curve.mean > 0).all()) for each in drawn)
    kind = "log" if is_log else "linear"
    name = name_of(found.metric)
    x = axis(one.factor, type="log", **_ticks(_xs(one.growth)))
    means = [float(mean) for each in drawn for mean in each.curve.mean]
    y = axis(
        f"{name} per task ({axis_unit(found.unit)})", type=kind, **(_rungs(min(means), max(means)) if is_log else {})
    )
    made = tidy(curve_table(one, found))
    view = View(data, layout(x, y), _said_of_curve(one, found, len(without)), made)
    title = f"How does {name} grow with {one.factor}?"
    return Chart(f"growth-{slug(one.factor)}", title, {"": view}, scales=("x", "y"), height=520)


def _without(one: Sweep) -> list[Ablated]:
    """Return the mechanisms to draw: those that leave least of the rise first."""
    shown = [made for made in one.ablation if made.growth is not None]
    shown.sort(key=lambda made: made.left.value if known(made.left) and made.left is not None else math.inf)
    return shown[:_MOST_WITHOUT]


def _line(growth: Growth, name: str, colour: str, place: int, found: ScalingResult) -> list[Data]:
    """Return a line, and for the base the band of its intervals; its markers stand out."""
    values = growth.curve.values
    means = [mean_interval(values[:, at], found.confidence) for at in range(growth.curve.x.size)]
    # A logarithm has no place for what is not above 0: there the band is as narrow as the line.
    inside = [
        one if one.low > 0 else Estimate(one.value, one.value, one.value, one.confidence, one.n, one.method)
        for one in means
    ]
    called = html.escape(name)
    shade = [] if place else [band(_xs(growth), inside, colour, called)]  # more bands would hide each other
    line = {
        "type": "scatter", "mode": "lines+markers", "name": called, "legendgroup": called,
        "x": _xs(growth), "y": [number(one.value) for one in means],
        "line": {"color": colour, "dash": DASHES[place % len(DASHES)], "width": 3 if not place else 1.5},
        "marker": {"color": colour, "symbol": MARKERS[place % len(MARKERS)], "size": 8 if not place else 6},
        "customdata": [told(one, found.unit) for one in means],
        "hovertemplate": f"{called}, %{{x:g}}: %{{customdata}}<extra></extra>",
    }  # fmt: skip
    return [*shade, line]


def _laws(growth: Growth, room: int) -> list[Fit]:
    """Return the laws to draw, the chosen one first; there is room for so many lines."""
    ranked = sorted(
        growth.fits,
        key=lambda fit: (not _is_chosen(fit, growth), fit.held_out if math.isfinite(fit.held_out) else math.inf),
    )
    return ranked[: max(1, room)]


def _is_chosen(fit: Fit, growth: Growth) -> bool:
    return growth.chosen is not None and fit.law == growth.chosen.law


def _law(fit: Fit, growth: Growth) -> Data:
    chosen = _is_chosen(fit, growth)
    others = [one.law for one in growth.fits if not _is_chosen(one, growth)]
    dash = "solid" if chosen else DASHES[1 + others.index(fit.law) % (len(DASHES) - 1)]
    return {
        "type": "scatter", "mode": "lines", "name": f"law: {html.escape(fit.law)}{' (chosen)' if chosen else ''}",
        "x": _xs(growth), "y": [number(float(value)) for value in fit.fitted],
        "line": {"color": GREY, "dash": dash, "width": 5 if chosen else 1.5},
        "legendrank": 2000, "visible": True if chosen else "legendonly",
        "hovertemplate": f"{html.escape(fit.law)}, %{{x:g}}: %{{y:.4~r}}<extra></extra>",
    }  # fmt: skip


def _said_of_curve(one: Sweep, found: ScalingResult, without: int) -> str:
    growth = one.growth
    assert growth is not None
    ends = [show(mean_interval(growth.curve.values[:, at], found.confidence), found.unit).text for at in (0, -1)]
    said = f"{name_of(found.metric)} goes from {ends[0]} at {growth.curve.x[0]:g} to {ends[1]} at {growth.curve.x[-1]:g}: {sentence(growth)}."
    if growth.chosen is not None:
        said += f" The law with the least held-out error is {growth.chosen.law}{_fit(growth.chosen)}."
    left = sum(made.growth is not None for made in one.ablation) - without
    if found.replications > 1:
        said += f" Shaded: its {100 * found.confidence:g} % intervals; those of the other lines are in their hovers and in the table."
    return said + (
        f" {counted(left, 'mechanism')} that take less of the rise are in the table alone." if left > 0 else ""
    )


def _fit(fit: Fit) -> str:
    test = "" if fit.lack_of_fit is None else f"; test of lack of fit: p of {p_shown(fit.lack_of_fit)}"
    return f" (off by {significant(100 * fit.worst, 2)} % at most{test})"


def p_shown(value: float) -> str:
    """Return a probability in two digits; what is very small is as good as none."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


# ---------------------------------------------------------------------------------------------------------------------
# The local slope


def beside_slopes(one: Sweep, found: ScalingResult) -> str:
    """Return what the exponent is of, and why it is not among the local slopes; '' where it is, or either is not known."""
    slopes = [] if one.growth is None else [part.exponent.value for part in one.growth.local if known(part.exponent)]
    if one.growth is None or one.growth.exponent is None or not slopes:
        return ""
    p, low, high = one.growth.exponent.value, min(slopes), max(slopes)
    if low <= p <= high:
        return ""
    which = f"between {low:.2f} and {high:.2f}" if f"{low:.2f}" != f"{high:.2f}" else f"{low:.2f}"
    why = "adds the same at every x, and makes them less steep" if p > high else "is below 0, and makes them steeper"
    return (
        f"The exponent {p:.2f} over {one.factor} is p of a + b x^p: of what remains of {name_of(found.metric)} after the part a that does "
        f"not grow. The local slopes, {which}, are of all of it: a {why}."
    )


def slope(one: Sweep, found: ScalingResult) -> Chart | None:
    """Return the exponent between neighbours along the sweep, where they can be known."""
    shown = [] if one.growth is None else [part for part in one.growth.local if known(part.exponent)]
    if not shown:
        return None
    xs = [math.sqrt(part.low * part.high) for part in shown]
    slopes = [part.exponent for part in shown]
    data = [
        band(xs, slopes, COLOURS[0]),
        {"type": "scatter", "mode": "lines+markers", "name": "local slope", "x": xs, "y": [part.value for part in slopes],
         "line": {"color": COLOURS[0]}, "marker": {"symbol": "circle", "size": 8},
         "customdata": [f"{part.low:g} to {part.high:g}: {exponent(part.exponent)}" for part in shown],
         "hovertemplate": "%{customdata}<extra></extra>", "showlegend": True},
        {"type": "scatter", "mode": "lines", "name": "1: linear", "x": [xs[0], xs[-1]], "y": [1.0, 1.0],
         "line": {"color": GREY, "dash": "dash"}, "hoverinfo": "skip"},
    ]  # fmt: skip
    spans = dict(zip(xs, (f"{part.low:g} to {part.high:g}" for part in shown), strict=True))
    x = axis(f"{one.factor}, from one value to the next", type="log", **_ticks(xs))
    x["ticktext"] = [spans[value] for value in x["tickvals"]]
    y = axis("d log T / d log x (exponent)", range=_room(slopes))
    rows = [(f"{part.low:g} to {part.high:g}", exponent(part.exponent)) for part in shown]
    above = sum(part.low > LINEAR[1] for part in slopes)
    said = f"Between neighbouring values the slope goes from {exponent(slopes[0])} to {exponent(slopes[-1])}; in {above} of {counted(len(slopes), 'interval')} it is resolved above {LINEAR[1]:g}."
    said = f"{said} {beside_slopes(one, found)}".strip()
    made = table(f"Local exponents of {one.factor}", (one.factor, "exponent"), rows)
    view = View(data, layout(x, y), said, made)
    return Chart(
        f"slope-{slug(one.factor)}",
        f"Where along {one.factor} does it get steeper?",
        {"": view},
        scales=("x",),
        height=360,
    )


def _room(slopes: Sequence[Estimate]) -> list[float]:
    """Return the range of the axis: all slopes, and their intervals as far as three times the slopes reach."""
    values = [one.value for one in slopes] + [0.0, 1.0]
    low, high = min(values), max(values)
    reach = 1.0 * (high - low)
    ends = [end for one in slopes for end in (one.low, one.high) if low - reach <= end <= high + reach]
    low, high = min([low, *ends]), max([high, *ends])
    return [low - 0.08 * (high - low), high + 0.08 * (high - low)]


# ---------------------------------------------------------------------------------------------------------------------
# Causes


def taken(made: Ablated) -> Estimate | None:
    """Return the share of the rise that a mechanism takes with it; None where it is not known."""
    if made.left is None or not known(made.left):
        return None
    left = times(made.left, -1.0)
    return Estimate(1 + left.value, 1 + left.low, 1 + left.high, left.confidence, left.n, left.method)


def causes(one: Sweep, found: ScalingResult) -> Chart | None:
    """Return how much of the rise goes with each mechanism, the one that takes most first."""
    pairs = [(made.mechanism, taken(made)) for made in one.ablation]
    shown = [(name, part) for name, part in pairs if part is not None]
    if not shown:
        return None
    shown.sort(key=lambda pair: (pair[0] == ALL_OFF, -pair[1].value))
    single = [pair for pair in shown if pair[0] != ALL_OFF]
    data = [_bars(single, COLOURS[0], "", "switched off alone")]
    data += (
        [_bars([pair for pair in shown if pair[0] == ALL_OFF], *_WHOLE, "switched off together")]
        if len(single) < len(shown)
        else []
    )
    names = [html.escape(name) for name, _ in shown]
    x = axis("share of the rise that goes (%)", zeroline=True, zerolinecolor=GREY)
    y = names_axis(names)
    said = "; ".join(f"{_named(name)} {cells(part, 'share')} of the rise goes" for name, part in shown[:3])
    still = [made.mechanism for made in one.ablation if made.growth is None]
    said += (
        f". {counted(len(still), 'mechanism')} could not be switched off, or {'changes' if len(still) == 1 else 'change'} too little."
        if still
        else "."
    )
    made_tables = [tidy(made, "mechanism") for made in ablation_tables(one, found)]
    view = View(data, layout(x, y), said[0].upper() + said[1:], made_tables[0])
    title = f"What makes {name_of(found.metric)} grow with {one.factor}?"
    return Chart(f"causes-{slug(one.factor)}", title, {"": view}, height=150 + 40 * len(shown))


def _named(mechanism: str) -> str:
    return f"with {ALL_OFF} off" if mechanism == ALL_OFF else f"without {mechanism}"


def _bars(pairs: Sequence[tuple[str, Estimate]], colour: str, pattern: str, name: str) -> Data:
    estimates = [part for _, part in pairs]
    return {
        "type": "bar", "name": name, **upright([100 * part.value for part in estimates], [html.escape(one) for one, _ in pairs]),
        "error_x": error_bars(whiskers(estimates, 100.0)),
        "marker": look(colour, pattern),
        "customdata": [told(part, "share") for part in estimates], "hovertemplate": "%{y}: %{customdata}<extra></extra>",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Categories


def categories(one: Sweep) -> Chart | None:
    """Return mean T_total by category along the sweep."""
    base = [cell for cell in one.cells if not cell.off and all(name in cell.values for name in CATEGORIES)]
    if one.growth is None or not base:
        return None
    xs = _xs(one.growth)
    means = {name: [_over_cells(base, x, name) for x in xs] for name in CATEGORIES}
    present = [name for name in CATEGORIES if max(means[name]) > 0]
    if not present:
        return None
    data = [
        {"type": "bar", "name": name, "x": [f"{x:g}" for x in xs], "y": [number(value) for value in means[name]],
         "marker": bar(name), "hovertemplate": f"{name}, %{{x}}: %{{y:.4~r}} s<extra></extra>"}
        for name in present
    ]  # fmt: skip
    x_axis, y_axis = axis(one.factor, type="category"), axis("T_total, mean per task (seconds)")
    last = sorted(present, key=lambda name: -means[name][-1])[:3]
    shares = ", ".join(
        f"{name} {100 * means[name][-1] / sum(means[each][-1] for each in present):.0f} %" for name in last
    )
    said = f"At {one.factor} = {xs[-1]:g} most of T_total is {shares}."
    rows = [(f"{x:g}", *(_seconds(means[name][place]) for name in present)) for place, x in enumerate(xs)]
    made = table(f"T_total by category over {one.factor}", (one.factor, *present), rows, ">" * (1 + len(present)))
    view = View(data, layout(x_axis, y_axis, barmode="stack"), said, made)
    return Chart(
        f"categories-{slug(one.factor)}",
        f"Where does the time go over {one.factor}?",
        {"": view},
        scales=(),
        height=520,
    )


def _over_cells(cells_of: Sequence[Cell], x: float, name: str) -> float:
    return float(np.mean([np.mean(cell.values[name]) for cell in cells_of if cell.x == x]))


def _seconds(value: float) -> str:
    return show(Estimate(value, -math.inf, math.inf, 0.95, 1, ""), "s").value if value else "0 s"
