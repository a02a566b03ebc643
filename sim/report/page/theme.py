"""How charts look: Okabe and Ito's colours, never alone but with a dash, a marker or a pattern; axes and layouts, light or dark.

Layouts have neither background nor colour of text: a page sets them as its reader's screen is. `standing_alone` adds them for a notebook.

Leaves out: what is drawn.
Checked: tests/test_page.py.
Source: Okabe and Ito, Color Universal Design (2008): eight colours that stay apart for colour-blind eyes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...analysis.statistics import Estimate
from ...engine.ledger import CATEGORIES, UNEXPLAINED

Data = dict[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
PATTERNS = ("", "/", "x", "-", ".", "+", "|", "\\")
GREY = "#777777"
GRID = "rgba(128,128,128,0.25)"
CONFIG = {"showSendToCloud": False, "plotlyServerURL": "", "displaylogo": False, "responsive": True}
AXIS: Data = {
    "gridcolor": GRID,
    "linecolor": "rgba(128,128,128,0.8)",
    "showline": True,
    "ticks": "outside",
    "zeroline": False,
    "automargin": True,
}
# A colour and a pattern for each category of the ledger: of two with like colours, the patterns differ.
CATEGORY_LOOKS: dict[str, tuple[str, str]] = {
    name: ((*COLOURS, "#F0E442", GREY)[place % 8], PATTERNS[place % len(PATTERNS)] if place < 8 else PATTERNS[(place + 3) % len(PATTERNS)])
    for place, name in enumerate(CATEGORIES)
} | {UNEXPLAINED: ("#BBBBBB", "x")}  # fmt: skip
VERDICTS = {"pass": (COLOURS[2], "circle"), "fail": (COLOURS[1], "x"), "inconclusive": (COLOURS[4], "diamond-open")}


def axis(title: str, **more: Any) -> Data:
    """Return an axis with a title (plain text)."""
    return AXIS | {"title": {"text": html.escape(title)}} | more


def layout(x: Data, y: Data, **more: Any) -> Data:
    """Return a layout with two axes; the legend lies above the chart, so that a phone's width is the chart's."""
    return {
        "xaxis": x, "yaxis": y, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "font": {"size": 12}},
        "margin": {"l": 60, "r": 16, "t": 40, "b": 56}, "hoverlabel": {"namelength": -1},
    } | more  # fmt: skip


def standing_alone(made: Data, title: str, height: int) -> Data:
    """Return a layout for a chart outside a page: white, with its title."""
    margin = {**made.get("margin", {}), "t": 90}
    heading = {"text": html.escape(title), "x": 0.01, "y": 0.98, "yanchor": "top"}
    white = {"paper_bgcolor": "white", "plot_bgcolor": "white", "template": "none"}
    return {**made, **white, "title": heading, "height": height, "margin": margin}


def bar(category: str) -> Data:
    """Return the marker of a bar for a category."""
    colour, pattern = CATEGORY_LOOKS[category]
    # Laid over the colour, which is then seen as it is; the paler lines are the pattern.
    return {"color": colour, "pattern": {"shape": pattern, "size": 7, "solidity": 0.2, "fillmode": "overlay"}}


def held(known: Sequence[Estimate], unit: str) -> list[Estimate]:
    """Return estimates of what cannot be below 0 (a share: nor above 1) with intervals that end there, to be drawn; not of differences.

    Where nothing is known of an interval, nothing is.
    """
    most = 1.0 if unit == "share" else math.inf
    return [
        replace(one, low=max(one.low, min(one.value, 0.0)), high=min(one.high, max(one.value, most)))
        if math.isfinite(one.low) or math.isfinite(one.high)
        else one
        for one in known
    ]


def whiskers(known: Sequence[Estimate], scale: float = 1.0, unit: str | None = None) -> Data:
    """Return the intervals of estimates as error bars; nothing is drawn of an end that is not known.

    With the `unit` of what is no difference (see `held`) they end where it does.
    """
    known = known if unit is None else held(known, unit)
    above = [_reach(one.high - one.value) * scale for one in known]
    below = [_reach(one.value - one.low) * scale for one in known]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 4}


def band(x: Sequence[float], known: Sequence[Estimate], colour: str, group: str = "") -> Data:
    """Return the intervals of estimates along a line as a filled band; where an end is not known the band is as narrow as the line."""
    high = [one.high if math.isfinite(one.high) else one.value for one in known]
    low = [one.low if math.isfinite(one.low) else one.value for one in known]
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return {
        "type": "scatter", "x": [*x, *reversed(list(x))], "y": [*high, *reversed(low)], "fill": "toself", "mode": "lines",
        "fillcolor": f"rgba({red},{green},{blue},0.18)", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
        "legendgroup": group,
    }  # fmt: skip


def limit(at: float, along: str) -> Data:
    """Return the shape of a threshold at a value of an axis, `x` or `y`, across the whole chart."""
    other = "y" if along == "x" else "x"
    return {
        "type": "line", f"{along}0": at, f"{along}1": at, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper",
        "line": {"color": GREY, "dash": "dash", "width": 2},
    }  # fmt: skip


def _reach(length: float) -> float:
    return max(length, 0.0) if math.isfinite(length) else 0.0
