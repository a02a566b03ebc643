"""Single tasks over time: what a task near each percentile did, row by row, on its critical path and beside it.

Rows are what groups spans (steps, turns, calls), by component and indented as they lie in each other, opened where most of the critical
path is for as long as they fit; `+4` stands for four more that follow, `×4` for four of one kind.

Leaves out: every span (the trace for a viewer has them), and many tasks at once.
Checked: tests/test_run_time.py.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...analysis.task_steps import TaskExample, booked, steps_of
from ...engine.ledger import EVERY, STRUCTURE, Span
from ..layout import Table
from ..numbers import counted, plain
from ..page import theme
from ..page.parts import Chart, Switch, View
from .pieces import table
from .series import rounded

__all__ = ["MOST_ROWS", "rows_of", "tasks_chart"]

MOST_ROWS = 32
LIGHT = 0.4  # opacity of what ran beside the critical path

Data = dict[str, Any]


@dataclass(slots=True)
class Row:
    """A row: what groups spans (or several such), how deep it lies, and the spans drawn in it."""

    label: str
    depth: int
    groups: tuple[int, ...]  # ids of the spans that it stands for
    start: float
    spans: list[Span] = field(default_factory=list)


def tasks_chart(examples: Sequence[TaskExample], measured: bool = False) -> Chart:
    """Return the chart: a view for each percentile; tasks that were `measured` are of no replication."""
    rows = {one.label: rows_of(one.spans) for one in examples}
    views = {one.label: _view(one, rows[one.label], measured) for one in examples}
    height = 150 + 22 * max(8, *(len(one) for one in rows.values()))
    return Chart("time-tasks", "What did single tasks do?", views, Switch.PERCENTILE, height=height)


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def rows_of(spans: Sequence[Span]) -> list[Row]:
    """Return at most about `MOST_ROWS` rows, in order, with every span that is no group in one of them."""
    groups = {one.id: one for one in spans if one.category == STRUCTURE}
    below: dict[int, list[Span]] = {}
    for one in groups.values():
        below.setdefault(one.parent if one.parent in groups else 0, []).append(one)
    weight = _weights(spans, groups)
    rows = _chunks(below.get(0, []), 0, MOST_ROWS)
    steps = {one.id: place for place, one in enumerate(steps_of(spans), start=1)}
    waiting = sorted(rows, key=lambda row: -_weight(row, weight))
    while waiting:
        row = waiting.pop(0)
        inner = [one for number in row.groups for one in below.get(number, [])]
        opened = _opened(inner, row.depth + 1, MOST_ROWS - len(rows))
        at = rows.index(row) + 1
        rows[at:at] = opened
        waiting = sorted([*waiting, *opened], key=lambda one: -_weight(one, weight))
    for row in rows:
        numbers = [steps[one] for one in row.groups if one in steps]
        if numbers:
            row.label = f"{min(numbers)}: {row.label}"
    return _filled(rows, spans, groups)


def _weights(spans: Sequence[Span], groups: dict[int, Span]) -> dict[int, float]:
    """Return the seconds on the critical path within each group."""
    found: dict[int, float] = {}
    for one in spans:
        if one.category == STRUCTURE or not one.critical:
            continue
        at = one.parent
        while at in groups:
            found[at] = found.get(at, 0.0) + one.end - one.start
            at = groups[at].parent
    return found


def _weight(row: Row, weight: dict[int, float]) -> float:
    return sum(weight.get(one, 0.0) for one in row.groups)


def _opened(inner: Sequence[Span], depth: int, room: int) -> list[Row]:
    """Return rows for what lies in a row: each its own, or those of one name together, or none where there is no room."""
    if len(inner) <= room:
        return _chunks(inner, depth, room)
    named: dict[tuple[str, str], list[Span]] = {}
    for one in inner:
        named.setdefault((one.name, one.component), []).append(one)
    if len(named) > room:
        return []
    return [_row(same, depth, f" ×{len(same)}" if len(same) > 1 else "") for same in named.values()]


def _chunks(inner: Sequence[Span], depth: int, room: int) -> list[Row]:
    """Return a row for each, or for so many in turn that there is room."""
    size = -(-len(inner) // max(room, 1)) or 1
    cut = [inner[at : at + size] for at in range(0, len(inner), size)]
    return [_row(one, depth, f" +{len(one) - 1}" if len(one) > 1 else "") for one in cut]


def _row(same: Sequence[Span], depth: int, more: str) -> Row:
    first = same[0]
    return Row(f"{first.component or first.name}{more}", depth, tuple(one.id for one in same), first.start)


def _filled(rows: list[Row], spans: Sequence[Span], groups: dict[int, Span]) -> list[Row]:
    """Put each span into the innermost row around it; what lies in none has a row of its own, the first."""
    place = {number: row for row in rows for number in row.groups}
    rest = Row("outside any step" if place else "calls", 0, (), 0.0)  # a flat trace has no steps
    for one in spans:
        if one.category == STRUCTURE:
            continue
        at = one.parent
        while at in groups and at not in place:
            at = groups[at].parent
        place.get(at, rest).spans.append(one)
    return [rest, *rows] if rest.spans else rows


# ---------------------------------------------------------------------------------------------------------------------
# The view


def _view(one: TaskExample, rows: Sequence[Row], measured: bool) -> View:
    layout = theme.layout(
        theme.axis("seconds since the task arrived", rangemode="tozero"),
        theme.axis(
            "", autorange="reversed", ticks="", tickmode="array", tickvals=list(range(len(rows))), tickfont={"size": 11},
            ticktext=[f"{'· ' * row.depth}{html.escape(_cut(row.label))}" for row in rows],
        ),
        barmode="overlay", bargap=0.2,
    )  # fmt: skip
    return View(_drawn(one, rows), layout, _summary(one, measured), _table(one))


def _cut(label: str, most: int = 22) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _drawn(one: TaskExample, rows: Sequence[Row]) -> list[Data]:
    """Return the bars: for each category what is on the critical path, and lighter, behind it, what is beside."""
    bars: dict[tuple[bool, str], list[tuple[int, float, float, str]]] = {}
    for place, row in enumerate(rows):
        for span in row.spans:
            if span.end > span.start:
                start = span.start - one.arrival
                bars.setdefault((span.critical, booked(span)), []).append(
                    (place, start, span.end - span.start, _hover(span, start))
                )
    return [
        _trace(name, critical, bars[critical, name], (True, name) not in bars or critical)
        for critical in (False, True)
        for name in EVERY
        if (critical, name) in bars
    ]


def _trace(name: str, critical: bool, bars: Sequence[tuple[int, float, float, str]], listed: bool) -> Data:
    return {
        "type": "bar", "orientation": "h", "name": name if critical else f"{name} (beside the path)", "legendgroup": name,
        "showlegend": listed, "y": [place for place, _, _, _ in bars], "base": [rounded(start) for _, start, _, _ in bars],
        "x": [rounded(length) for _, _, length, _ in bars], "marker": theme.bar(name) | {"line": {"width": 0}},
        "opacity": 1.0 if critical else LIGHT, "width": 0.8 if critical else 0.45,
        "hovertext": [text for _, _, _, text in bars], "hoverinfo": "text",
    }  # fmt: skip


def _hover(span: Span, start: float) -> str:
    marks = ("" if span.critical else ", beside the critical path") + (", lost to a fault" if span.lost else "")
    marks += ", an error" if span.error else ""
    return html.escape(
        f"{_doing(span)}: {plain(span.end - span.start, 's')} of {span.category}, from {plain(start, 's')}{marks}"
    )


def _doing(span: Span) -> str:
    return f"{span.name} {span.component}".strip()


def _summary(one: TaskExample, measured: bool) -> str:
    of, its = ("", "") if measured else (" of the first replication", "its ")
    parts = sorted(((seconds, name) for name, seconds in one.categories.items() if seconds > 0), reverse=True)
    said = ", ".join(f"{name} {plain(seconds, 's')}" for seconds, name in parts[:3])
    return (
        f"Task {one.task} ({one.task_class}){of}, near {one.label}: {plain(one.share, 'share', 4)} of {its}{one.among:,} "
        f"tasks done took no longer than its {plain(one.total, 's')}. On the critical path: {said or 'nothing that takes time'}. "
        f"A row is a step (numbered) or a call within it; light and narrow bars ran beside the critical path.{_left_out(one)}"
    )


def _left_out(one: TaskExample) -> str:
    if not one.left_out:
        return ""
    held = (
        f"with {plain(one.left_out_seconds, 's')} of the critical path"
        if one.left_out_seconds > 0
        else "none on the critical path"
    )
    return f" {counted(one.left_out, 'shorter span')} {'is' if one.left_out == 1 else 'are'} left out, {held}."


def _table(one: TaskExample) -> Table:
    spans = [span for span in one.spans if span.category != STRUCTURE]
    rows = [
        (
            plain(span.start - one.arrival, "s"), _doing(span), span.category, plain(span.end - span.start, "s"),
            "yes" if span.critical else "no", "yes" if span.lost else "",
        )
        for span in spans
    ]  # fmt: skip
    columns = ("start", "doing", "category", "duration", "on the critical path", "lost")
    return table(f"Task {one.task}, near {one.label}", columns, rows, "><<><<", "without intervals: it is one task")
