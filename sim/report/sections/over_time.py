"""Charts over time: rates, queues and utilization in panels with one axis of time, and above them when causes were there.

Each cause has a row of its own in a strip between the panels, so that names never overlap; faults shade the panels too, and not the
strip, where names stand.

Leaves out: what is said about it (`run_breaks`, `faults`).
Checked: tests/test_run_breaks.py, tests/test_fault_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...analysis.fault_timeline import BACKLOG, Period
from ..layout import Table
from ..numbers import counted, plain
from ..page.parts import Chart, View
from ..page.theme import COLOURS, DASHES, GREY, axis, layout
from .pieces import MOST_ROWS

__all__ = ["Panel", "Story", "causes_of", "chart", "periods_table"]

MOST_POINTS = 400
MOST_CAUSES = 6  # rows of the strip
_ROW, _GAP = 30, 16  # pixels: of the strip, between panels
_LABEL = 44  # characters of the name of a cause that fit a phone
_CLOCK = ((3 * 3600.0, "h", 3600.0), (900.0, "min", 60.0), (0.0, "s", 1.0))

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """Series over one axis: their names, the unit of `numbers`, and whether they are told at windows' ends (else of windows)."""

    title: str
    unit: str
    series: Mapping[str, Sequence[float]]
    scale: float = 1.0  # by which values are multiplied for the axis
    groups: Mapping[str, str] = field(
        default_factory=dict
    )  # by series: what it is about, which has one look in all panels


@dataclass(frozen=True, slots=True)
class Story:
    """A replication in windows of `window` seconds that end at `times`; `cut` is where its warm-up ends (s; 0 if it has none)."""

    replication: int
    window: float
    times: Sequence[float]
    periods: Sequence[Period]
    cut: float = 0.0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the strip: when a cause was at a component."""

    label: str
    backlog: bool
    spans: tuple[tuple[float, float], ...]


def chart(name: str, title: str, story: Story, panels: Sequence[Panel], summary: str) -> Chart:
    """Return a chart of panels, one above another, over one axis of time."""
    causes = causes_of(story)
    rows = len(causes) + (story.cut > 0)
    height = 150 + 170 * len(panels) + _ROW * rows
    end = story.times[-1]
    suffix, size = next((word, unit) for least, word, unit in _CLOCK if end >= least)
    domains, strip = _domains(len(panels), rows, height - 96)
    data = list(_lines(panels, story, size))
    made = layout(axis(f"time ({suffix})", anchor=_y(len(panels)), range=[0, end / size]), {})
    for number, (panel, domain) in enumerate(zip(panels, domains, strict=True), start=1):
        made[_y(number, "yaxis")] = axis(panel.title, domain=domain, rangemode="tozero")
    shapes, notes = _strip(causes, story, strip, size)
    shapes += _shades(causes, domains, story, size)
    data += _hovers(causes, story.cut > 0, size, len(panels) + 1)
    if causes:
        made[_y(len(panels) + 1, "yaxis")] = {
            "domain": list(strip), "range": [len(causes) + (story.cut > 0), 0], "visible": False, "fixedrange": True,
        }  # fmt: skip
    made |= {"shapes": shapes, "annotations": notes}
    return Chart(name, title, {"": View(data, made, summary, _table(story, panels))}, height=height)


def causes_of(story: Story) -> list[Cause]:
    """Return the rows of the strip: faults, then backlogs, each in order of time; of more than fit, those there longest."""
    found: dict[tuple[bool, str], list[tuple[float, float]]] = {}
    for one in story.periods:
        short = (
            one.kind == BACKLOG and one.end - one.start < story.window
        )  # a short queue now and then is nothing to tell
        if short or one.start >= story.times[-1]:
            continue
        label = f"{one.cause} ({one.component})" if one.component else one.cause
        backlog = one.kind == BACKLOG
        found.setdefault((backlog, f"backlog of {label}" if backlog else label), []).append((one.start, one.end))
    ranked = sorted(found, key=lambda key: (key[0], sum(start - end for start, end in found[key])))[:MOST_CAUSES]
    told = sorted(ranked, key=lambda key: (key[0], found[key][0][0]))
    return [Cause(label, backlog, tuple(found[backlog, label])) for backlog, label in told]


def periods_table(story: Story) -> Table | None:
    """Return when each cause was where; None where there was none."""
    told = sorted(story.periods, key=lambda one: (one.kind == BACKLOG, one.start - one.end))[:MOST_ROWS]
    left = story.left_out + len(story.periods) - len(told)
    rows = tuple(
        (
            plain(one.start, "s", 4),
            plain(one.end, "s", 4) if one.over else "not over when the run was",
            plain(one.end - one.start, "s"),
            f"backlog of {one.cause}" if one.kind == BACKLOG else one.cause,
            one.component,
            one.kind,
        )
        for one in sorted(told, key=lambda one: (one.start, one.component, one.cause))
    )
    note = f"{left} shorter ones are left out" if left else ""
    columns = ("from", "to", "for", "what", "where", "kind")
    title = f"Faults and backlogs in replication {story.replication}"
    return Table(title, columns, ">>><<<", rows, note) if rows else None


def _y(number: int, prefix: str = "y") -> str:
    return prefix if number == 1 else f"{prefix}{number}"


def _domains(panels: int, rows: int, height: float) -> tuple[list[list[float]], tuple[float, float]]:
    """Return the shares of the height that the panels have, from above, and the strip below the first of them."""
    strip = _ROW * rows + _GAP * (rows > 0)
    each = (height - strip - _GAP * (panels - 1)) / panels
    first = [1 - each / height, 1.0]
    band = (first[0] - (strip if rows else 0) / height, first[0] - _GAP / 2 / height)
    top = band[0] if rows else first[0]
    below = [
        [top - (number * (each + _GAP)) / height, top - (number * (each + _GAP) - each) / height]
        for number in range(1, panels)
    ]
    below = [[max(low, 0.0), high] for low, high in below]
    return [first, *below], band


def _lines(panels: Sequence[Panel], story: Story, size: float) -> Iterator[Data]:
    looks: dict[str, int] = {}
    for number, panel in enumerate(panels, start=1):
        for name, values in panel.series.items():
            group = panel.groups.get(name, name)
            look = looks.setdefault(group, len(looks))
            x, y = _thinned([time - story.window / 2 for time in story.times], values)
            told = [f"{html.escape(name)}<br>{plain(at, 's', 4)}: {html.escape(plain(v, panel.unit))}"
                    for at, v in zip(x, y, strict=True)]  # fmt: skip
            yield {
                "type": "scatter", "mode": "lines", "name": html.escape(name), "legendgroup": html.escape(group),
                "x": [at / size for at in x], "y": [v * panel.scale for v in y], "yaxis": _y(number),
                "line": {"color": COLOURS[look % len(COLOURS)], "dash": DASHES[(look + look // len(COLOURS)) % len(DASHES)], "width": 2},
                "text": told, "hovertemplate": f"%{{text}}<extra>replication {story.replication}</extra>",
            }  # fmt: skip


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return at most `MOST_POINTS` points: of each stretch the least and the greatest, in order of time."""
    if len(x) <= MOST_POINTS:
        return list(x), list(y)
    step = math.ceil(len(x) / (MOST_POINTS // 2))
    kept = []
    for first in range(0, len(x), step):
        places = range(first, min(first + step, len(x)))
        kept += sorted({min(places, key=y.__getitem__), max(places, key=y.__getitem__)})
    return [x[place] for place in kept], [y[place] for place in kept]


def _strip(
    causes: Sequence[Cause], story: Story, strip: tuple[float, float], size: float
) -> tuple[list[Data], list[Data]]:
    """Return shapes and names of the strip's rows."""
    shapes: list[Data] = []
    notes: list[Data] = []
    named = [*(("left out as warm-up",) if story.cut > 0 else ()), *(one.label for one in causes)]
    tall = (strip[1] - strip[0]) / max(len(named), 1)
    for row, label in enumerate(named):
        top = strip[1] - row * tall
        notes.append(
            {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": top, "yanchor": "top", "showarrow": False,
             "text": html.escape(label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"), "font": {"size": 11}, "align": "left"}
        )  # fmt: skip
    if story.cut > 0:
        shapes.append(
            {"type": "line", "x0": story.cut / size, "x1": story.cut / size, "yref": "paper", "y0": 0, "y1": 1,
             "line": {"color": GREY, "dash": "dash", "width": 2}}
        )  # fmt: skip
        shapes.append(_bar((0.0, story.cut / size), strip[1] - tall, tall, GREY, False))
    first = 1 if story.cut > 0 else 0
    for row, one in enumerate(causes, start=first):
        colour = COLOURS[(row - first + 1) % len(COLOURS)]
        for start, end in one.spans:
            span = (start / size, min(end, story.times[-1]) / size)
            shapes.append(_bar(span, strip[1] - (row + 1) * tall, tall, colour, one.backlog))
    return shapes, notes


def _shades(causes: Sequence[Cause], panels: Sequence[Sequence[float]], story: Story, size: float) -> list[Data]:
    """Return what shades the panels while a fault is there, in the colour of its row."""
    return [
        {"type": "rect", "x0": start / size, "x1": min(end, story.times[-1]) / size, "yref": "paper", "y0": low, "y1": high,
         "layer": "below", "fillcolor": COLOURS[(row + 1) % len(COLOURS)], "opacity": 0.12, "line": {"width": 0}}
        for row, one in enumerate(causes) if not one.backlog
        for start, end in one.spans
        for low, high in panels
    ]  # fmt: skip


def _bar(span: tuple[float, float], bottom: float, tall: float, colour: str, hollow: bool) -> Data:
    """Return a bar in the lower part of a row of the strip: filled for a fault, hollow for a backlog."""
    return {
        "type": "rect", "x0": span[0], "x1": span[1], "yref": "paper", "y0": bottom + 0.06 * tall, "y1": bottom + 0.3 * tall,
        "fillcolor": "rgba(0,0,0,0)" if hollow else colour, "line": {"color": colour, "width": 1.5},
    }  # fmt: skip


def _hovers(causes: Sequence[Cause], first: int, size: float, number: int) -> list[Data]:
    """Return invisible points on the bars of the strip, from row `first` on, that tell what they are."""
    return [
        {"type": "scatter", "mode": "markers", "x": [(start + end) / 2 / size for start, end in one.spans],
         "y": [row + 0.8] * len(one.spans), "yaxis": _y(number), "showlegend": False, "name": html.escape(one.label),
         "marker": {"opacity": 0, "size": 10},
         "text": [f"{html.escape(one.label)}<br>{plain(start, 's', 4)} to {plain(end, 's', 4)}" for start, end in one.spans],
         "hovertemplate": "%{text}<extra></extra>"}
        for row, one in enumerate(causes, start=first)
    ]  # fmt: skip


def _table(story: Story, panels: Sequence[Panel]) -> Table:
    """Return the means of the series in windows, or in as many windows at a time as make 200 rows."""
    step = math.ceil(len(story.times) / MOST_ROWS)
    series = [(name, panel.unit, values) for panel in panels for name, values in panel.series.items()]
    rows = []
    for first in range(0, len(story.times), step):
        last = min(first + step, len(story.times))
        means = (plain(sum(values[first:last]) / (last - first), unit) for _, unit, values in series)
        rows.append((plain(story.times[last - 1], "s", 4), *means))
    note = f"means over {plain(step * story.window, 's')} up to then"
    if step > 1:
        note += f" ({counted(step, 'window')})"
    columns = ("until", *(name for name, _, _ in series))
    return Table(f"Replication {story.replication} over time", columns, ">" * len(columns), tuple(rows), note)
