"""Charts of laws: points and law by size, residual against a lognormal, held-out error, predicted against measured.

`figure` draws a law's four panels as one figure, for a notebook; `panels` are what they hold.
Leaves out: showing or saving them, and the page of a profile (`profile_page`).
Checked: tests/test_profile_views.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from ..profile.law import Law, Timing
from ..profile.profile import Profile
from .numbers import plain
from .page.theme import COLOURS, DASHES, MARKERS
from .profile_laws import Data, by_span, ranges, size_text, spread, timing

__all__ = ["NOT_SHIPPED", "Panel", "figure", "panels"]

NOT_SHIPPED = "the measured points are not shipped with the profile"
GRID = 48  # places along a curve
SLICES = 4
GREY = "#555555"
_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_AXIS = {"gridcolor": "#dddddd", "linecolor": "#888888", "showline": True, "ticks": "outside", "zeroline": False}
_LOOK = {"paper_bgcolor": "white", "plot_bgcolor": "white", "xaxis": _AXIS, "yaxis": _AXIS}

Sizes = dict[str, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the four charts: its question, traces as plotly takes them, axes, a remark under the question, and what it shows."""

    title: str
    traces: list[Data]
    x: Data = field(default_factory=dict)
    y: Data = field(default_factory=dict)
    remark: str = ""
    said: str = ""


def figure(profile: Profile, name: str) -> Any:
    """Return four charts of a law as a plotly Figure. Raises ProfileError, naming what is near."""
    from plotly.subplots import make_subplots

    asked, shown = timing(profile, name), panels(profile, name)
    titles = [f"<b>{one.title}</b>" + (f"<br><sup>{one.remark}</sup>" if one.remark else "") for one in shown]
    drawn = make_subplots(rows=2, cols=2, subplot_titles=titles, horizontal_spacing=0.1, vertical_spacing=0.18)
    for place, panel in enumerate(shown):
        row, column = place // 2 + 1, place % 2 + 1
        number = str(place + 1) if place else ""
        for trace in panel.traces:
            drawn.add_trace({"legend": f"legend{number}", **trace}, row=row, col=column)
        drawn.update_xaxes(panel.x, row=row, col=column)
        drawn.update_yaxes(panel.y, row=row, col=column)
        x, y = drawn.layout[f"xaxis{number}"].domain[0], drawn.layout[f"yaxis{number}"].domain[1]
        legend = {
            "x": x + 0.005,
            "y": y - 0.005,
            "xanchor": "left",
            "yanchor": "top",
            "bgcolor": "rgba(255,255,255,0.7)",
        }
        drawn.update_layout({f"legend{number}": legend | {"font": {"size": 11}, "tracegroupgap": 0}})
    question = f"How long does {html.escape(name)} take on {html.escape(profile.name)}?"
    drawn.update_layout(
        template={"layout": _LOOK}, title={"text": f"<b>{question}</b><br><sup>{_answer(asked.law)}</sup>", "x": 0.01},
        height=860, margin={"l": 70, "r": 20, "t": 120, "b": 60},
    )  # fmt: skip
    return drawn


def panels(profile: Profile, name: str) -> tuple[Panel, ...]:
    """Return the four charts of a law. Raises ProfileError, naming what is near."""
    asked = timing(profile, name)
    return (_by_size(asked), _residual(asked), _errors(asked.law), _agreement(asked))


def _answer(law: Law) -> str:
    if not law.held_out:
        return "How far off the law is on sizes it did not see is not known."
    worst = max(law.held_out, key=lambda one: one.p95)
    errors = f"{plain(worst.median, 'share')} in the median, {plain(worst.p95, 'share')} at p95"
    return f"On sizes that the fit did not see ({html.escape(worst.split)}), the law is off by {errors}."


def _by_size(asked: Timing) -> Panel:
    """Points and law with its bands against the size that spans the most, on slices of the other sizes."""
    title = "What does size do to it?"
    if not by_span(asked):
        return _constant(asked, title)
    main = by_span(asked)[0]
    xs = _places(asked, main)
    traces: list[Data] = []
    shown = 0
    for number, others in enumerate(slices(asked, main)):
        seconds = asked.predict({**others, main: xs})
        label = ", ".join(f"{name} {size_text(value, asked.op.sizes[name])}" for name, value in others.items()) or "law"
        points = _points(asked.law, others, main, number)
        shown += len(points["x"])
        traces += _bands(asked.law, xs, seconds, number) + _curve(xs, seconds, label, number, len(points["x"]) > 0)
        traces += [points] if len(points["x"]) else []
    measured = asked.law.measured
    count = len(measured.seconds) if measured else 0
    remark = f"{shown:,} of {count:,} points lie on these slices" if shown < count else ""
    remark = remark if measured else NOT_SHIPPED
    x = _log_axis(main, asked.op.sizes[main], traces, "x")
    y = _log_axis("time of one call", "seconds", traces, "y", 0.08 * sum(one.get("showlegend", True) for one in traces))
    said = _said_of_size(asked, main, xs)
    return Panel(title, traces, x, y, remark, said)


def _said_of_size(asked: Timing, main: str, xs: np.ndarray) -> str:
    others = slices(asked, main)[0]
    first, last = asked.predict({**others, main: xs})[[0, -1]].tolist()
    unit = asked.op.sizes[main]
    held = ", ".join(f"{name} {size_text(value, asked.op.sizes[name])}" for name, value in others.items())
    ends = f"{main} from {size_text(float(xs[0]), unit)} to {size_text(float(xs[-1]), unit)}"
    return f"With {ends}{' at ' + held if held else ''}, one call goes from {plain(first, 's')} to {plain(last, 's')}."


def _constant(asked: Timing, title: str) -> Panel:
    sizes = {name: np.array([low]) for name, (low, _high) in ranges(asked).items()}
    seconds = float(asked.predict(sizes)[0])
    traces: list[Data] = [
        {"type": "scatter", "x": [0, 1], "y": [seconds] * 2, "mode": "lines", "name": f"law: {plain(seconds, 's')}",
         "showlegend": True, "line": {"color": COLOURS[0]}}
    ]  # fmt: skip
    traces = [*_bands(asked.law, np.array([0.0, 1.0]), np.array([seconds] * 2), 0), *traces]
    measured = asked.law.measured
    if measured:
        marker = {"color": COLOURS[0], "symbol": MARKERS[0]}
        middle = np.linspace(0, 1, len(measured.seconds) + 2)[1:-1]
        traces.append({"type": "scatter", "x": middle, "y": np.array(measured.seconds), "mode": "markers",
                       "marker": marker, "name": "measured", "error_y": _whiskers(measured.low, measured.high, measured.seconds)})  # fmt: skip
    remark = "" if measured else NOT_SHIPPED
    y = _log_axis("time of one call", "seconds", traces, "y", 0.1)
    said = f"It depends on no size: one call takes {plain(seconds, 's')}."
    return Panel(title, traces, {"showticklabels": False, "title": "no size"}, y, remark, said)


def slices(asked: Timing, main: str) -> list[Sizes]:
    """Return up to SLICES choices of the sizes other than `main`: those measured most where points are known."""
    bounds = {name: ends for name, ends in ranges(asked).items() if name != main}
    if not bounds:
        return [{}]
    if asked.law.measured:
        given = asked.law.measured.sizes
        columns = [
            given[name] if name in given else (bounds[name][0],) * len(asked.law.measured.seconds) for name in bounds
        ]
        rows = list(zip(*columns, strict=True))
        counts = {row: rows.count(row) for row in set(rows)}
        most = max(counts.values())
        found = sorted((row for row in counts if counts[row] * 2 > most), key=lambda row: (math.prod(row), row))
        places = np.linspace(0, len(found) - 1, SLICES).round().astype(int).tolist()
        return [dict(zip(bounds, found[place], strict=True)) for place in dict.fromkeys(places)]
    shares = np.linspace(0, 1, SLICES)
    values = zip(*(spread(*ends, shares, asked.op.sizes[name]) for name, ends in bounds.items()), strict=True)
    return [dict(zip(bounds, map(float, row), strict=True)) for row in dict.fromkeys(values)]


def _points(law: Law, others: Sizes, main: str, number: int) -> Data:
    """Return the points on a slice, with the interval of each median."""
    measured = law.measured
    at = np.zeros(0, dtype=int)
    if measured:
        on = np.ones(len(measured.seconds), dtype=bool)
        for name, value in others.items():
            on &= np.array(measured.sizes.get(name, (value,) * len(on))) == value
        at = np.flatnonzero(on)

    def pick(values: Sequence[float]) -> np.ndarray:
        return np.array(values)[at] if len(values) else np.zeros(0)

    seconds = pick(measured.seconds if measured else ())
    return {
        "type": "scatter", "x": pick(measured.sizes[main] if measured else ()), "y": seconds, "mode": "markers",
        "marker": {"color": COLOURS[number], "symbol": MARKERS[number], "size": 7}, "name": "measured",
        "error_y": _whiskers(pick(measured.low if measured else ()), pick(measured.high if measured else ()), seconds),
        "legendgroup": str(number), "showlegend": False,
    }  # fmt: skip


def _whiskers(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray, middle: Any) -> Data | None:
    if not len(low) or not len(high):
        return None
    at = np.array(middle)
    return {"type": "data", "symmetric": False, "array": np.array(high) - at, "arrayminus": at - np.array(low)}


def _curve(x: np.ndarray, y: np.ndarray, label: str, number: int, marked: bool = False) -> list[Data]:
    """Return a line, and its entry in the legend: with the marker of the points where there are some."""
    common: Data = {"type": "scatter", "name": label, "legendgroup": str(number)}
    common |= {"line": {"color": COLOURS[number], "dash": DASHES[number]}}
    marker = {"color": COLOURS[number], "symbol": MARKERS[number], "size": 7}
    key = {"x": [None], "y": [None], "mode": "lines+markers" if marked else "lines", "marker": marker}
    return [{**common, "x": x, "y": y, "mode": "lines", "showlegend": False}, {**common, **key}]


def _bands(law: Law, x: np.ndarray, seconds: np.ndarray, number: int) -> list[Data]:
    """Return the 95 % interval of the median, dark, over the residual from p5 to p95, pale."""
    found: list[tuple[str, float, Sequence[float]]] = []
    if law.residual is not None:
        found.append(("residual p5–p95", 0.12, law.residual.distribution.quantile([0.05, 0.95]).tolist()))
    if law.interval is not None:
        found.append(("interval of the median", 0.35, law.interval))
    red, green, blue = (int(COLOURS[number][start : start + 2], 16) for start in (1, 3, 5))
    return [
        {"type": "scatter", "x": np.concatenate([x, x[::-1]]), "y": np.concatenate([seconds * low, (seconds * high)[::-1]]),
         "fill": "toself", "fillcolor": f"rgba({red},{green},{blue},{alpha})", "line": {"width": 0}, "mode": "lines",
         "name": name, "legendgroup": str(number), "showlegend": False, "hoverinfo": "skip"}
        for name, alpha, (low, high) in found
    ]  # fmt: skip


def _log_axis(title: str, unit: str, traces: Sequence[Data], letter: str, headroom: float = 0.0) -> Data:
    """Return a logarithmic axis that holds the traces, labelled in units; `headroom` is the share left to a legend."""
    values = np.concatenate([np.array(one[letter], dtype=float) for one in traces] or [np.zeros(0)])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return {"type": "log", "title": title}
    low, high = math.log10(values.min()), math.log10(values.max())
    pad = max(0.05 * (high - low), 0.15 if high - low < 0.3 else 0.0)
    low, high = low - pad, high + pad
    steps = [1.0] if high - low > 2.5 else [1.0, 2.0, 5.0] if high - low > 0.7 else np.arange(1, 10, 0.5).tolist()
    every = max(1, round((high - low) / 6))
    ticks = [float(f"{step}e{power}") for power in range(math.floor(low), math.ceil(high) + 1, every) for step in steps]
    texts = [size_text(value, unit) for value in ticks]
    label = title if unit in ("seconds", "bytes") else f"{title} ({unit})"
    top = low + (high - low) / (1.0 - headroom)
    return {
        "type": "log",
        "title": label,
        "tickvals": ticks,
        "ticktext": texts,
        "range": [low, top],
        "hoverformat": ".4~s",
    }


def _residual(asked: Timing) -> Panel:
    """Quantiles of measured over predicted against those of a normal: on the straight line they are lognormal."""
    title = "Is the residual lognormal?"
    normal = NormalDist()
    traces: list[Data] = []
    law = asked.law
    if law.measured and law.measured.seconds:
        ratios = np.sort(np.array(law.measured.seconds) / _predicted(asked))
        scores = [normal.inv_cdf((place + 0.5) / len(ratios)) for place in range(len(ratios))]
        marker = {"color": COLOURS[0], "symbol": MARKERS[0], "size": 6}
        traces.append(
            {"type": "scatter", "x": scores, "y": ratios, "mode": "markers", "marker": marker, "name": "points / law"}
        )
    if law.residual is not None:
        shares = np.linspace(0.005, 0.995, 100)
        values = law.residual.distribution.quantile(shares)
        scores = [normal.inv_cdf(share) for share in shares]
        line = {"color": COLOURS[1], "dash": DASHES[0]}
        name = f"residual of {law.residual.of}"
        traces.append({"type": "scatter", "x": scores, "y": values, "mode": "lines", "line": line, "name": name})
    if not traces:
        return Panel(title, [], remark="no residual and no points are stated")
    said = _said_of_spread(np.asarray(traces[-1]["x"]), np.asarray(traces[-1]["y"]), str(traces[-1]["name"]))
    traces.append(_straight(traces[-1]))
    ticks = {
        "tickvals": [normal.inv_cdf(share) for share in _SHARES],
        "ticktext": [f"p{100 * share:g}" for share in _SHARES],
    }
    x = {"title": "quantile, on a normal scale", **ticks}
    y = {"type": "log", "title": "measured / predicted", "nticks": 8, "tickformat": ".3~g"}
    return Panel(title, traces, x, y, said=said)


def _said_of_spread(scores: np.ndarray, ratios: np.ndarray, name: str) -> str:
    low, high = np.interp([NormalDist().inv_cdf(0.05), NormalDist().inv_cdf(0.95)], scores, ratios).tolist()
    return f"Of `{name}`, nine in ten lie between {low:.3g} and {high:.3g} times the law; a lognormal would be a straight line."


def _straight(trace: Data) -> Data:
    """Return the lognormal with the quartiles of a trace, as a straight line."""
    x, y = np.asarray(trace["x"]), np.log(np.maximum(np.asarray(trace["y"]), 1e-12))
    low, high = NormalDist().inv_cdf(0.25), NormalDist().inv_cdf(0.75)
    at_low, at_high = np.interp([low, high], x, y)
    ends = np.array([-2.6, 2.6])
    values = np.exp(at_low + (at_high - at_low) * (ends - low) / (high - low))
    line = {"color": GREY, "dash": "dash", "width": 1}
    return {
        "type": "scatter",
        "x": ends,
        "y": values,
        "mode": "lines",
        "line": line,
        "name": "lognormal, same quartiles",
    }


def _predicted(asked: Timing) -> np.ndarray:
    """Return the law's seconds at the measured points."""
    measured = asked.law.measured
    assert measured is not None
    fixed = {name: low for name, (low, _high) in ranges(asked).items() if name not in measured.sizes}
    columns = {name: np.array(values) for name, values in measured.sizes.items()}
    seconds = asked.predict({**fixed, **columns})
    return np.broadcast_to(seconds, (len(measured.seconds),))


def _errors(law: Law) -> Panel:
    title = "How far off is it on what the fit did not see?"
    if not law.held_out:
        return Panel(title, [], remark="no held-out error is stated")
    splits = [f"{one.split}<br>{one.points:,} points" for one in law.held_out]
    traces = [
        {"type": "bar", "x": splits, "y": [100 * getattr(one, key) for one in law.held_out], "name": name,
         "text": [plain(getattr(one, key), "share") for one in law.held_out], "textposition": "outside",
         "marker": {"color": colour, "pattern": {"shape": pattern}}}
        for key, name, colour, pattern in (("median", "median", COLOURS[0], ""), ("p95", "p95", COLOURS[1], "/"))
    ]  # fmt: skip
    most = 100 * max(max(one.median, one.p95) for one in law.held_out) or 1.0
    y = {"title": "relative error", "ticksuffix": " %", "range": [0, 1.35 * most]}
    said = "; ".join(
        f"{one.split} ({one.points:,} points): {plain(one.median, 'share')} and {plain(one.p95, 'share')}"
        for one in law.held_out
    )
    return Panel(title, traces, {"title": "held out by", "type": "category"}, y, said=f"Median and p95, by {said}.")


def _agreement(asked: Timing) -> Panel:
    """Predicted against measured; without points, what the law says over two sizes, or for one unit of one size."""
    measured = asked.law.measured
    if measured and measured.seconds:
        seconds, predicted = np.array(measured.seconds), _predicted(asked)
        ends = np.array([min(seconds.min(), predicted.min()) / 1.2, max(seconds.max(), predicted.max()) * 1.2])
        marker = {"color": COLOURS[0], "symbol": MARKERS[0], "size": 6, "opacity": 0.7}
        line = {"color": GREY, "dash": "dash", "width": 1}
        traces: list[Data] = [
            {"type": "scatter", "x": seconds, "y": predicted, "mode": "markers", "marker": marker, "name": "points"},
            {"type": "scatter", "x": ends, "y": ends, "mode": "lines", "line": line, "name": "predicted = measured"},
        ]
        x, y = _log_axis("measured", "seconds", traces, "x"), _log_axis("predicted", "seconds", traces, "y")
        middle, most = np.quantile(np.abs(predicted / seconds - 1), [0.5, 0.95]).tolist()
        said = f"Half of the {len(seconds):,} points lie within {plain(middle, 'share')} of the law, 95 % within {plain(most, 'share')}."
        return Panel("Does it agree with what was measured?", traces, x, y, said=said)
    names = by_span(asked)
    if not names:
        return Panel("Does it agree with what was measured?", [], remark=NOT_SHIPPED)
    return _per_unit(asked, names[0]) if len(names) == 1 else _levels(asked, names[0], names[1])


def _places(asked: Timing, name: str) -> np.ndarray:
    """Return GRID values of a size from least to largest, even in the logarithm; 0 has no place on such an axis."""
    low, high = ranges(asked)[name]
    return np.geomspace(low if low > 0 else min(1.0, high / 1000), high, GRID)


def _per_unit(asked: Timing, name: str) -> Panel:
    xs = _places(asked, name)
    unit = asked.op.sizes[name]
    traces = _curve(
        xs, asked.predict({**{other: low for other, (low, _) in ranges(asked).items()}, name: xs}) / xs, "law / size", 0
    )
    y = _log_axis(f"time / {name}", "seconds", traces, "y", 0.1)
    first, last = (
        asked.predict({**{other: low for other, (low, _) in ranges(asked).items()}, name: xs[[0, -1]]}) / xs[[0, -1]]
    ).tolist()
    said = f"Time by {name} goes from {plain(first, 's')} at the least {name} to {plain(last, 's')} at the most."
    return Panel(
        "From which size on is overhead small?", traces, _log_axis(name, unit, traces, "x"), y, NOT_SHIPPED, said
    )


def _levels(asked: Timing, across: str, up: str) -> Panel:
    """Level curves: where two sizes, the others in the middle of their ranges, take the same time."""
    xs, ys = _places(asked, across), _places(asked, up)
    fixed = {name: float(spread(*ends, [0.5], asked.op.sizes[name])[0]) for name, ends in ranges(asked).items()}
    grid = {across: np.repeat(xs, GRID), up: np.tile(ys, GRID)}
    seconds = np.log10(asked.predict({**fixed, **grid})).reshape(GRID, GRID)
    # Time that falls with size somewhere, as a fit may have it by a little, would give a curve that goes back and forth.
    rising = np.maximum.accumulate(seconds, axis=1)
    low, high = float(seconds.min()), float(seconds.max())
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    round_ones = [
        math.log10(float(f"{step}e{power}")) for power in range(math.floor(low), math.ceil(high)) for step in steps
    ]
    levels = [level for level in round_ones if low < level < high]
    levels = levels[:: math.ceil(len(levels) / len(COLOURS)) or 1] or [(low + high) / 2]
    traces: list[Data] = []
    for number, level in enumerate(levels):
        crossed = (rising[:, 0] <= level) & (level <= rising[:, -1])
        at = [float(np.interp(level, row, np.log10(ys))) for row in rising[crossed]]
        traces += _curve(xs[crossed], 10 ** np.array(at), plain(10**level, "s"), number)
    held = ", ".join(
        f"{name} {size_text(value, asked.op.sizes[name])}" for name, value in fixed.items() if name not in grid
    )
    x = _log_axis(across, asked.op.sizes[across], traces, "x")
    y = _log_axis(up, asked.op.sizes[up], traces, "y", 0.08 * len(traces) / 2)
    said = f"Each line joins the {across} and {up} that take one time, from {plain(10 ** levels[0], 's')} to {plain(10 ** levels[-1], 's')}."
    return Panel("Which sizes take the same time?", traces, x, y, NOT_SHIPPED + (f"; at {held}" if held else ""), said)
