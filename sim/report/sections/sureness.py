"""How an interval narrows with the replications: percentiles of T_total over the first two, three, ... of them.

Leaves out: how many would be enough (`analysis.statistics.replications_needed`).
Checked: tests/test_plan_sections.py.
"""

from __future__ import annotations

from typing import Any

from ...analysis.statistics import Estimate
from ...analysis.summary import Quantiles
from ..numbers import show
from ..page import theme
from ..page.parts import PERCENTILES, Chart, Curve, Switch, View
from .pieces import cells, table
from .series import Line, curve_of, draw, hover, percentile, rounded

__all__ = ["precision_chart"]

_MOST_POINTS = 60
_LEAST = 3  # replications: the interval of two has nothing before it to have narrowed from

Data = dict[str, Any]


def precision_chart(times: Quantiles, confidence: float, label: str, limit: float | None = None) -> Chart | None:
    """Return percentiles of T_total over the number of replications, None where there are fewer than three; `limit` is in seconds."""
    curve = curve_of(label, times)
    if len(curve.rows) < _LEAST:
        return None
    counts = _counts(len(curve.rows))
    views = {}
    for name in PERCENTILES:
        known = [percentile(Curve(label, curve.rows[:count]), times.shares, name, confidence) for count in counts]
        views[name] = _view(name, counts, known, label, limit)
    return Chart("interval", "How does the interval narrow with the replications?", views, Switch.PERCENTILE)


def _counts(most: int) -> list[int]:
    """Return after how many replications to look: each, or about sixty of them with the last."""
    step = max(1, -(-(most - 1) // _MOST_POINTS))
    return [*range(most, _LEAST - 1, -step)][::-1]


def _view(name: str, counts: list[int], known: list[Estimate], label: str, limit: float | None) -> View:
    texts = [hover(label, one, "s") for one in known]
    traces = draw(Line(name, tuple(counts), tuple(known), (False, *[True] * (len(counts) - 1)), unit="s"), 0, texts)
    shapes = [] if limit is None else [theme.limit(limit, "y")]
    # The first intervals, of two or three replications, are so wide that nothing else would be seen.
    early = len(known) // 4
    ends = [end for one in known[early:] for end in (one.low, one.high)]
    low, high = min(*ends, *([limit] if limit is not None else [])), max(*ends, *([limit] if limit is not None else []))
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    y = theme.axis(f"{name} of T_total (seconds)", range=[rounded(max(low - pad, 0.0)), rounded(high + pad)])
    layout = theme.layout(theme.axis("replications"), y, shapes=shapes, showlegend=False)
    rows = [(str(count), cells(one, "s")) for count, one in zip(counts, known, strict=True)]
    summary = f"{name} of T_total with {label}: {show(known[early], 's').text} over {counts[early]} replications, {show(known[-1], 's').text} over {counts[-1]}."
    return View(traces, layout, summary, table("By replications", ("replications", name), rows, ">>"))
