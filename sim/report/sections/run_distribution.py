"""How T_total of a run is distributed: the share of tasks done within a time, over replications; and the limit that a reader moves.

Leaves out: tasks that were not done, and their parts (`run_time`).
Checked: tests/test_run_time.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from ...analysis.slo import RESPONSE_TIME, parse_metric
from ...analysis.statistics import Estimate, mean_interval
from ...analysis.summary import Judged, Quantiles, Summary
from ..layout import Table
from ..numbers import counted, plain, show
from ..page import theme
from ..page.parts import Chart, Slider, View
from .pieces import cells, known, table, told
from .series import curve_of, rounded

__all__ = ["distribution", "slider"]

# Share, colour and marker of each percentile.
QUANTILES = {
    "p50": (0.50, theme.COLOURS[2], "square"),
    "p95": (0.95, theme.COLOURS[1], "diamond"),
    "p99": (0.99, theme.COLOURS[3], "triangle-up"),
}

Data = dict[str, Any]


def distribution(summary: Summary, times: Quantiles) -> Chart:
    """Return the chart: the share of tasks done within a time, its band over replications, percentiles and what the SLO asks."""
    by_share = _by_share(summary, times)
    x = [rounded(one.value) for one in by_share]
    data: list[Data] = []
    if all(one.resolved for one in by_share):
        low, high = [rounded(max(one.low, 0.0)) for one in by_share], [rounded(one.high) for one in by_share]
        data.append(
            {
                "type": "scatter", "mode": "lines", "name": f"{100 * summary.confidence:g} % interval",
                "x": [*low, *reversed(high)], "y": [*times.shares, *reversed(times.shares)], "fill": "toself",
                "fillcolor": "rgba(0,114,178,0.18)", "line": {"width": 0}, "hoverinfo": "skip",
            }
        )  # fmt: skip
    data.append(
        {
            "type": "scatter", "mode": "lines", "name": "share of tasks done within", "x": x, "y": list(times.shares),
            "line": {"color": theme.COLOURS[0], "width": 2},
            "hovertext": [f"{_share(share)} of tasks within {told(one, 's')}" for share, one in zip(times.shares, by_share, strict=True)],
            "hoverinfo": "text",
        }
    )  # fmt: skip
    data += _marked(summary)
    data += [_asked(one) for one in _limits(summary)]
    moved = not summary.measured  # the limit that a reader moves is judged over replications
    shapes = [theme.limit(_threshold(summary, times)[1], "x")] if moved else []
    layout = theme.layout(
        theme.axis("T_total of a task done (s)", rangemode="tozero"),
        theme.axis("share of tasks", tickformat=".0%", range=[0, 1.02]),
        shapes=shapes,
    )
    view = View(data, layout, _distribution_summary(summary), _distribution_table(summary, times, by_share))
    return Chart(
        "time-distribution", "How is T_total distributed?", {"": view}, scales=("x",), threshold="x" if moved else ""
    )


def _by_share(summary: Summary, times: Quantiles) -> list[Estimate]:
    """Return T_total at each share, over replications; of measured tasks, at the percentiles whose interval is known, with it."""
    found = [mean_interval([row[at] for row in times.rows], summary.confidence) for at in range(len(times.shares))]
    if summary.measured:
        known_ = {share: summary.metrics[f"{RESPONSE_TIME}_{name}"] for name, (share, _, _) in QUANTILES.items()}
        found = [known_.get(share, one) for share, one in zip(times.shares, found, strict=True)]
    return found


def _share(share: float) -> str:
    return plain(share, "share", 4)


def _marked(summary: Summary) -> list[Data]:
    """Return a marker with its interval for each percentile."""
    made = []
    for name, (share, colour, symbol) in QUANTILES.items():
        one = summary.metrics.get(f"{RESPONSE_TIME}_{name}")
        if one is None or not known(one):
            continue
        made.append(
            {
                "type": "scatter", "mode": "markers", "name": f"{name}: {html.escape(show(one, 's').text)}",
                "x": [one.value], "y": [share], "marker": {"color": colour, "symbol": symbol, "size": 11},
                "error_x": theme.whiskers([one], unit=None if summary.measured else "s") | {"color": colour}, "hovertext": [f"{name}: {told(one, 's')}"], "hoverinfo": "text",
            }
        )  # fmt: skip
    return made


def _limits(summary: Summary) -> list[Judged]:
    """Return the objectives that limit a percentile of T_total, the highest percentile last."""
    found = []
    for one in summary.objectives:
        metric = parse_metric(one.metric)
        if metric.quantity == RESPONSE_TIME and metric.statistic == "quantile" and one.sense == "<=":
            found.append((metric.q, one))
    return [one for _, one in sorted(found, key=lambda pair: (pair[0], pair[1].threshold))]


def _asked(one: Judged) -> Data:
    colour = theme.VERDICTS[one.verdict][0]
    text = f"SLO {one.metric} ≤ {plain(one.threshold, 's')}: {one.verdict}"
    return {
        "type": "scatter", "mode": "markers", "name": html.escape(text), "x": [one.threshold], "y": [parse_metric(one.metric).q],
        "marker": {"symbol": "line-ns-open", "size": 22, "color": colour, "line": {"width": 3}},
        "hovertext": [html.escape(text)], "hoverinfo": "text",
    }  # fmt: skip


def _threshold(summary: Summary, times: Quantiles) -> tuple[str, float]:
    """Return where the slider stands at first, and for which percentile: a limit that was asked for, else p95 itself."""
    limits = {one.metric: one.threshold for one in _limits(summary)}
    asked = next((name for name in ("p95", "p99", "p50") if name in limits), None)
    if asked is not None:
        return asked, limits[asked]
    at = times.shares.index(0.95)
    # As a reader would say it: the digits of a mean mean nothing in a limit.
    return "p95", float(f"{math.fsum(row[at] for row in times.rows) / len(times.rows):.3g}")


def slider(summary: Summary) -> Slider | None:
    """Return the limit that the reader moves; None where in a replication no task was done."""
    times = summary.times
    if times is None:
        return None
    percentile, value = _threshold(summary, times)
    # From what hardly a task keeps to what nearly all do.
    low = min(*(row[times.shares.index(0.05)] for row in times.rows), value)
    high = max(*(row[times.shares.index(0.999)] for row in times.rows), value)
    if not high > low:
        low, high = 0.5 * value, 1.5 * value or 1.0
    return Slider(
        _called(summary, percentile),
        low, high, value, times.shares, (curve_of(summary.scenario, times),), summary.confidence, percentile=percentile,
    )  # fmt: skip


def _called(summary: Summary, percentile: str) -> str:
    asked = next((one.threshold for one in _limits(summary) if one.metric == percentile), None)
    what = "Limit on T_total"
    return what if asked is None else f"{what} (the SLO has {percentile} ≤ {plain(asked, 's', 4)})"


def _distribution_summary(summary: Summary) -> str:
    found = {name: summary.metrics[f"{RESPONSE_TIME}_{name}"] for name in QUANTILES}
    said = ", ".join(f"{name} {show(one, 's').text}" for name, one in found.items() if known(one))
    asked = "; ".join(
        f"the SLO asks {one.metric} ≤ {plain(one.threshold, 's')}: {one.verdict}" for one in _limits(summary)
    )
    return f"T_total of tasks done: {said}{f'; {asked}' if asked else ''}."


def _distribution_table(summary: Summary, times: Quantiles, by_share: Sequence[Estimate]) -> Table:
    like = by_share[times.shares.index(0.5)].value
    rows = [(_share(share), cells(one, "s", like)) for share, one in zip(times.shares, by_share, strict=True)]
    if summary.measured:
        note = f"quantiles of {counted(summary.tasks.done, 'task')}, {100 * summary.confidence:g} % intervals by order statistics for p50, p95 and p99"
        return table("T_total that a share of tasks keeps", ("share of tasks", "T_total"), rows, ">>", note)
    note = f"means of each replication's quantiles, {100 * summary.confidence:g} % intervals over {counted(len(times.rows), 'replication')}"
    return table("T_total that a share of tasks keeps", ("share of tasks", "T_total"), rows, ">>", note)
