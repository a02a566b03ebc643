"""The charts of a sensitivity: the tornado and what 1 % is worth, mu* against sigma of Morris, and Sobol' indices.

Leaves out: the sentences of the sections (`sensitivity`).
Checked: tests/test_sensitivity_sections.py.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from ...analysis.sensitivity import FactorResult, Response, SensitivityResult
from ...analysis.sensitivity_global import MorrisMeasure, MorrisMeasures, SobolMeasures
from ...analysis.statistics import Estimate
from ..numbers import counted, show
from ..page.parts import Chart, View
from ..page.theme import COLOURS, GREY, Data, axis, layout, whiskers
from ..sensitivity_tables import (
    change_text,
    interactions,
    is_member,
    morris_table,
    name_of,
    percent_shown,
    range_of,
    sobol_table,
    sure_ends,
    surest,
)
from .pieces import axis_unit, cells, error_bars, known, look, names_axis, slug, table, tidy, told, upright

__all__ = ["by_metric", "elasticities", "main", "negligible"]

_LOW, _HIGH = (COLOURS[0], ""), (COLOURS[1], "/")  # colour and pattern
_MORRIS = {
    "nonlinear or interacting": (COLOURS[1], "diamond"),
    "linear": (COLOURS[0], "circle"),
    "negligible": (GREY, "x"),
}
_MOST, _FEW = 12, 5  # factors in a chart, and in a sentence
_ROW = 54  # pixels of a bar with a label of two lines, which a print halves
_LETTER, _LINE = 6.6, 15.0  # pixels, of a label
_PLOT = (560.0, 300.0)  # pixels, for which labels are placed: between a phone's width and a screen's


def main(found: SensitivityResult, metric: str) -> Chart | None:
    """Return the chart that answers for a metric (its full name); None where nothing is known of it."""
    if metric in found.morris:
        return _screening(found, metric, found.morris[metric])
    if metric in found.sobol:
        return _shares(found, metric, found.sobol[metric])
    return _tornado(found, metric)


def by_metric(found: SensitivityResult) -> dict[str, tuple[Chart, ...]]:
    """Return the charts of each metric, that which answers for it first."""
    made = {metric: (main(found, metric), elasticities(found, metric)) for metric in found.metrics}
    return {metric: tuple(one for one in both if one is not None) for metric, both in made.items()}


def _unit(found: SensitivityResult, metric: str) -> str:
    return axis_unit(found.units[metric])


# ---------------------------------------------------------------------------------------------------------------------
# One at a time


def _tornado(found: SensitivityResult, metric: str) -> Chart | None:
    ranked = [one for one in found.ranked(metric) if not one.failure]
    shown = ranked[:_MOST]
    if not shown:
        return None
    # Where both ends go to one side, one bar would hide the other: then they lie one above the other.
    apart = any(_same_side(one.responses[metric]) for one in shown)
    data = [_ends(found, metric, shown, "low", _LOW), _ends(found, metric, shown, "high", _HIGH)]
    names = [html.escape(one.factor.name) for one in shown]
    if apart:
        labels = [f"{html.escape(one.factor.name)}<br>{html.escape(range_of(one))}" for one in shown]
    else:
        labels = [f"{html.escape(one.factor.name)}<br>now {html.escape(one.factor.now)}" for one in shown]
        data += [_written(metric, shown, side) for side in ("low", "high")]
    reach = _reach(
        [getattr(one.responses[metric], side) for one in shown for side in ("low", "high")], 0.05 if apart else 0.4
    )
    x = axis(f"change of {name_of(metric)} ({_unit(found, metric)})", zeroline=True, zerolinecolor=GREY, range=reach)
    y = names_axis(names, labels) | {"tickfont": {"size": 11}}
    rows = [_row(found, metric, one) for one in ranked]
    now = cells(found.base[metric], found.units[metric])
    made = table(
        f"One at a time: {name_of(metric)}, now {now}",
        ("factor", "now", "low end", "change", "high end", "change"),
        rows,
        "<<<><>",
    )
    left = (
        f" {counted(len(ranked) - len(shown), 'factor')} with smaller swings are in the table alone."
        if len(ranked) > len(shown)
        else ""
    )
    said = f"Now {name_of(metric)} is {now}. {_of_largest(found, metric, ranked)}{left}"
    view = View(data, layout(x, y, barmode="group" if apart else "overlay", bargap=0.3), said, made)
    title = f"Which factor moves {name_of(metric)} most?"
    return Chart(f"tornado-{slug(name_of(metric))}", title, {"": view}, height=150 + _ROW * len(shown))


def _of_largest(found: SensitivityResult, metric: str, ranked: Sequence[FactorResult]) -> str:
    """Return which factor has the largest swing, and which the largest that is no chance, if that is another."""
    best = ranked[0]
    said = f"The largest swing is with {best.factor.name}: {_said(found, metric, best)}."
    sure = surest(found, metric)
    if sure is best:
        return said
    if sure is None:
        return f"{said} No change is beyond its interval."
    told_of = " and ".join(
        f"{change_text(change, found.units[metric])} at {at}" for change, at in sure_ends(sure, metric)
    )
    return f"{said} The largest change that is beyond its interval is with {sure.factor.name}: {told_of}."


def _same_side(response: Response) -> bool:
    low, high = response.low, response.high
    return low is not None and high is not None and low.value * high.value > 0


def _known(one: FactorResult, metric: str, side: str) -> tuple[Estimate, str] | None:
    """Return the change at an end and what the factor is there; None where there is none."""
    change, end = getattr(one.responses[metric], side), getattr(one.factor, side)
    return (change, end.text) if known(change) and end is not None else None


def _ends(
    found: SensitivityResult, metric: str, shown: Sequence[FactorResult], side: str, looks: tuple[str, str]
) -> Data:
    pairs = [(one, there) for one in shown if (there := _known(one, metric, side)) is not None]
    changes = [change for _, (change, _) in pairs]
    colour, pattern = looks
    return {
        "type": "bar", "name": f"at its {side} end",
        **upright([change.value for change in changes], [html.escape(one.factor.name) for one, _ in pairs]),
        "error_x": error_bars(whiskers(changes)),
        "marker": look(colour, pattern),
        "customdata": [[html.escape(one.factor.now), html.escape(text), told(change, found.units[metric])] for one, (change, text) in pairs],
        "hovertemplate": "%{y}: %{customdata[0]} to %{customdata[1]}: %{customdata[2]}<extra></extra>",
    }  # fmt: skip


def _written(metric: str, shown: Sequence[FactorResult], side: str) -> Data:
    """Return what the factor is at an end, written behind the bar and its whisker."""
    pairs = [(one, there) for one in shown if (there := _known(one, metric, side)) is not None]
    at = [_tip(change) for _, (change, _) in pairs]
    right = [_is_right(one.responses[metric], side) for one, _ in pairs]
    return {
        "type": "scatter", "mode": "text", "x": at, "y": [html.escape(one.factor.name) for one, _ in pairs],
        "text": [f" {html.escape(_short(one, text))} " for one, (_, text) in pairs],
        "textposition": ["middle right" if each else "middle left" for each in right],
        "textfont": {"size": 11}, "showlegend": False, "hoverinfo": "skip", "cliponaxis": False,
    }  # fmt: skip


def _short(one: FactorResult, text: str) -> str:
    """Return an end as a number alone where its unit is that of what the factor is now, which stands beside its name."""
    amount, _, unit = text.partition(" ")
    return amount if unit and unit == one.factor.now.partition(" ")[2] else text


def _is_right(response: Response, side: str) -> bool:
    """Whether the text of an end stands to the right: with its bar, or where that has no length opposite to the other end."""
    change, other = (response.low, response.high) if side == "low" else (response.high, response.low)
    if change is not None and change.value:
        return change.value > 0
    return other.value < 0 if other is not None and other.value else side == "high"


def _tip(change: Estimate) -> float:
    if not change.resolved:
        return change.value
    return change.high if change.value > 0 else change.low


def _reach(changes: Sequence[Estimate | None], room: float) -> list[float]:
    """Return a range that holds all bars and whiskers, and 0, with room for texts on both sides."""
    ends = [0.0] + [end for one in changes if one is not None and known(one) for end in (one.value, _tip(one))]
    low, high = min(ends), max(ends)
    wide = (high - low) or 1.0
    return [low - room * wide * (low < 0 or room < 0.1), high + room * wide]


def _row(found: SensitivityResult, metric: str, one: FactorResult) -> tuple[str, ...]:
    row = [one.factor.name, one.factor.now]
    for side in ("low", "high"):
        there = _known(one, metric, side)
        row += ["–", "–"] if there is None else [there[1], change_text(there[0], found.units[metric])]
    return tuple(row)


def _said(found: SensitivityResult, metric: str, one: FactorResult) -> str:
    said = [
        f"{change_text(there[0], found.units[metric])} at {there[1]}"
        for side in ("low", "high") if (there := _known(one, metric, side)) is not None
    ]  # fmt: skip
    return " and ".join(said)


# ---------------------------------------------------------------------------------------------------------------------
# What 1 % is worth


def elasticities(found: SensitivityResult, metric: str) -> Chart | None:
    """Return what 1 % more of each factor adds to the metric, in %; None where no slope is known."""
    pairs = [
        (one, one.responses[metric].elasticity) for one in found.factors if not one.failure and metric in one.responses
    ]
    slopes = [(one, slope) for one, slope in pairs if slope is not None and known(slope)]
    slopes.sort(key=lambda pair: -abs(pair[1].value))
    if not slopes:
        return None
    shown = slopes[:_MOST]
    data = []
    for label, whole, (colour, pattern) in (("a whole part", True, _LOW), ("a single value", False, (COLOURS[2], "x"))):
        kept = [
            (one, slope) for one, slope in shown if (one.factor.kind == "time" and not is_member(found, one)) == whole
        ]
        if kept:
            estimates = [slope for _, slope in kept]
            data.append(
                {"type": "bar", "name": label,
                 **upright([slope.value for slope in estimates], [html.escape(one.factor.name) for one, _ in kept]),
                 "error_x": error_bars(whiskers(estimates)),
                 "marker": look(colour, pattern),
                 "customdata": [html.escape(_percent(slope)) for slope in estimates], "hovertemplate": "%{y}: %{customdata}<extra></extra>"}
            )  # fmt: skip
    x = axis(f"change of {name_of(metric)} for 1 % more (%)", zeroline=True, zerolinecolor=GREY)
    rows = [(one.factor.name, _percent(slope), _bend(one.responses[metric])) for one, slope in slopes]
    made = table(f"What 1 % more of each factor adds to {name_of(metric)}", ("factor", "change", "slope"), rows, "<><")
    sure = sum(slope.resolved and slope.excludes(0) for _, slope in slopes)
    said = f"1 % more of {shown[0][0].factor.name} changes {name_of(metric)} by {_percent(shown[0][1])}; "
    said += f"the intervals of {sure} of {counted(len(slopes), 'factor')} leave out 0."
    y = names_axis([html.escape(one.factor.name) for one, _ in shown])
    view = View(data, layout(x, y), said, made)
    return Chart(
        f"elasticity-{slug(name_of(metric))}",
        f"What is 1 % worth for {name_of(metric)}?",
        {"": view},
        height=150 + 30 * len(shown),
    )


def _percent(slope: Estimate) -> str:
    """Return an elasticity with its sign, in %."""
    text = percent_shown(slope)
    return f"-{text}" if slope.value < 0 and text[0] != "<" else text


def _bend(response: Response) -> str:
    return {"bends": "not linear there", "linear": "linear", "unknown": "one side only"}[response.bend]


# ---------------------------------------------------------------------------------------------------------------------
# All at once


def _screening(found: SensitivityResult, metric: str, measures: MorrisMeasures) -> Chart:
    """Return mu* against sigma: right is important, above the line curved or interacting."""
    unit = found.units[metric]
    data: list[Data] = []
    for verdict, (colour, symbol) in _MORRIS.items():
        chosen = [one for one in measures.factors if one.verdict == verdict and known(one.sigma)]
        if chosen:
            data.append(
                {"type": "scatter", "mode": "markers", "name": verdict, "marker": {"color": colour, "symbol": symbol, "size": 10},
                 "x": [one.mu_star.value for one in chosen], "y": [one.sigma.value for one in chosen],
                 "error_x": error_bars(whiskers([one.mu_star for one in chosen])),
                 "error_y": error_bars(whiskers([one.sigma for one in chosen])),
                 "text": [html.escape(one.name) for one in chosen],
                 "customdata": [[told(one.mu_star, unit), told(one.sigma, unit)] for one in chosen],
                 "hovertemplate": "%{text}: mu* %{customdata[0]}, sigma %{customdata[1]}<extra></extra>"}
            )  # fmt: skip
    ends = [one.mu_star.high if one.mu_star.resolved else one.mu_star.value for one in measures.factors]
    tops = [one.sigma.high if one.sigma.resolved else one.sigma.value for one in measures.factors if known(one.sigma)]
    wide, tall = (1.12 * max(some, default=0.0) or 1.0 for some in (ends, tops))
    data.append(
        {"type": "scatter", "mode": "lines", "name": "sigma = 0.1 mu*", "x": [0.0, wide], "y": [0.0, 0.1 * wide],
         "line": {"color": GREY, "dash": "dash"}, "hoverinfo": "skip"}
    )  # fmt: skip
    x = axis(f"mu* of {name_of(metric)} ({_unit(found, metric)})", range=[-0.04 * wide, wide])
    y = axis(f"sigma ({_unit(found, metric)})", range=[-0.06 * tall, tall])
    labels, left = _placed(measures.factors, wide, tall)
    first = measures.factors[0]
    said = f"{first.name} matters most: over its range {name_of(metric)} changes by {cells(first.mu_star, unit)} on average ({first.verdict}). Farther right a factor matters more; farther up it is curved or interacts. "
    said += f"{negligible(measures)}."
    said += (
        f" {counted(left, 'point')} without a name {'is' if left == 1 else 'are'} named by hover and in the table."
        if left
        else ""
    )
    view = View(data, layout(x, y, annotations=labels), said, tidy(morris_table(found, metric, measures)))
    title = f"Which factors matter to {name_of(metric)}, over their whole ranges?"
    return Chart(f"morris-{slug(name_of(metric))}", title, {"": view}, height=440)


def negligible(measures: MorrisMeasures) -> str:
    """Return how many factors are negligible, and which where they are few."""
    little = [one.name for one in measures.factors if one.verdict == "negligible"]
    if not little:
        return "No factor is negligible"
    if len(little) > _FEW:
        return f"{len(little)} of {counted(len(measures.factors), 'factor')} are negligible"
    return f"Negligible: {', '.join(little)}"


def _placed(factors: Sequence[MorrisMeasure], wide: float, tall: float) -> tuple[list[Data], int]:
    """Return the names of the points as annotations that do not run into each other or into points, and how many had no place.

    The corners of its point are tried, the most important factor first; what is negligible has a name only by hover.
    """
    across, down = _PLOT
    spots = {
        one.name: (one.mu_star.value / wide * across, one.sigma.value / tall * down)
        for one in factors
        if known(one.sigma)
    }
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots.values()]
    made, left = [], 0
    for one in factors:
        if one.name not in spots:
            continue
        x, y = spots[one.name]
        width = _LETTER * len(one.name)
        for right, up in (
            (True, True),
            (False, True),
            (True, False),
            (False, False),
        ):  # whiskers go straight: labels do not
            aside, above = 7 if right else -7 - width, 14 if up else -14
            box = (x + aside, y + above - _LINE / 2, x + aside + width, y + above + _LINE / 2)
            is_inside = box[0] >= -10 and box[2] <= across + 10 and box[1] >= -10 and box[3] <= down + 20
            if one.verdict != "negligible" and is_inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                made.append(
                    {"x": one.mu_star.value, "y": one.sigma.value, "text": html.escape(one.name), "showarrow": False,
                     "xanchor": "left" if right else "right", "xshift": 7 if right else -7, "yshift": above, "font": {"size": 12}}
                )  # fmt: skip
                break
        else:
            left += 1
    return made, left


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shares(found: SensitivityResult, metric: str, measures: SobolMeasures) -> Chart | None:
    shown = [one for one in measures.factors if known(one.total)][:_MOST]
    if not shown:
        return None
    data = []
    for label, part, (colour, pattern) in (
        ("first order: alone", "first", _LOW),
        ("total: with interactions", "total", _HIGH),
    ):
        estimates: list[Estimate] = [getattr(one, part) for one in shown]
        data.append(
            {"type": "bar", "name": label,
             **upright([one.value for one in estimates], [html.escape(one.name) for one in shown]),
             "error_x": error_bars(whiskers(estimates)),
             "marker": look(colour, pattern),
             "customdata": [told(one, "share") for one in estimates], "hovertemplate": "%{y}: %{customdata}<extra></extra>"}
        )  # fmt: skip
    x = axis(f"share of the variance of {name_of(metric)}", zeroline=True, zerolinecolor=GREY, tickformat=".0%")
    first = shown[0]
    said = f"{first.name} explains {show(first.first, 'share').text} of the variance alone and {show(first.total, 'share').text} with its interactions. "
    said += interactions(measures)
    y = names_axis([html.escape(one.name) for one in shown])
    view = View(data, layout(x, y, barmode="group"), said.strip(), tidy(sobol_table(found, metric, measures)))
    title = f"Which factor explains the spread of {name_of(metric)}?"
    return Chart(f"sobol-{slug(name_of(metric))}", title, {"": view}, height=160 + 50 * len(shown))


def best_parts(found: SensitivityResult, metric: str) -> Mapping[str, Estimate]:
    """Return the elasticity of each whole part of time, the one worth most first; of single values where no part was varied."""
    known_slopes = {
        one.factor.name: (one, one.responses[metric].elasticity)
        for one in found.factors
        if not one.failure and metric in one.responses and known(one.responses[metric].elasticity)
    }
    whole = {
        name: slope
        for name, (one, slope) in known_slopes.items()
        if slope and one.factor.kind == "time" and not is_member(found, one)
    }
    return dict(sorted(whole.items(), key=lambda pair: -pair[1].value))
