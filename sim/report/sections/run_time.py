"""Where the time of a run goes: by category at each percentile, how T_total is distributed, by account, by step, and in single tasks.

Leaves out: what breaks and how sure it is (`run_breaks`, `run_sure`).
Checked: tests/test_run_time.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from ...analysis.cohorts import MEAN, Cohorts, CohortTime
from ...analysis.digest import RunDigest
from ...analysis.statistics import Estimate
from ...analysis.task_steps import LATER, OUTSIDE, StepMap, StepRow
from ...engine.ledger import EVERY, NO_COORDINATION
from ..chrome_trace import to_chrome
from ..layout import Table
from ..numbers import counted, listed, plain, show
from ..page import theme
from ..page.parts import Chart, Missing, Part, Section, Switch, View
from ..page.provenance import Provenance
from ..tables import answer
from .asked import asked
from .further import repeat
from .pieces import cells, known, number, slug, table, told
from .run_distribution import distribution, slider
from .run_tasks import tasks_chart
from .series import rounded

__all__ = ["OF_SPANS", "charts", "time_parts"]

OF_SPANS = ("time-steps", "time-tasks")  # charts that runs without spans do not have
FEW = 20  # tasks with spans: over fewer, a map of steps is of these tasks rather than of the run
FAINT = 0.005  # of the largest cell of the heat map: what is less has no number in it
NARROW = 0.004  # of T_total: accounts below it are one node of the icicle

NAMELESS = "no component"  # time between the spans of a measured task
ROOT = "#d9d9d9"  # of the icicle: all of T_total

ICICLE: dict[str, Any] = {
    "margin": {"l": 4, "r": 4, "t": 8, "b": 8}, "paper_bgcolor": "rgba(0,0,0,0)", "uniformtext": {"minsize": 9, "mode": "hide"},
}  # fmt: skip

Data = dict[str, Any]


def time_parts(found: RunDigest, source: Provenance) -> list[Part]:
    """Return what a run says to the section on time."""
    summary = found.summary
    name = f"{slug(summary.scenario)}.trace.json"
    notes = ["Percentiles are of T_total of tasks done; seconds are on the critical path, so that they sum to T_total."]
    if found.examples:
        notes.append(f"{name} holds the spans of these tasks: open it at ui.perfetto.dev, or in chrome://tracing.")
    return [
        Part(
            Section.TIME,
            _words(found),
            charts=tuple(charts(found)),
            notes=tuple(notes),
            missing=tuple(_missing(found, source)),
            slider=None if summary.measured else slider(summary),
            downloads={name: to_chrome(found.examples)} if found.examples else {},
        )
    ]


def charts(found: RunDigest) -> list[Chart]:
    """Return the charts, the one that answers the question first; none where no task was done."""
    if not found.cohorts.groups:
        return []
    made = [_bars(found.cohorts)]
    if found.summary.times is not None:
        made.append(distribution(found.summary, found.summary.times))
    made.append(_icicle(found.cohorts))
    if found.steps is not None:
        made.append(_steps(found.steps, found.summary.measured))
    if found.examples:
        made.append(tasks_chart(found.examples, found.summary.measured))
    return made


# ---------------------------------------------------------------------------------------------------------------------
# Words


def _words(found: RunDigest) -> str:
    """Return the largest category, T_coordination's share, and what grows towards the slowest tasks."""
    summary = found.summary
    said = [answer(summary)]
    seconds, share = summary.metrics["coordination_mean"], summary.metrics["coordination_share"]
    if known(seconds) and known(share) and seconds.value > 0:
        said.append(f"T_coordination is {show(seconds, 's').text}, {show(share, 'share').text} of T_total.")
    return " ".join([*said, *_grown(found.cohorts)])


def _grown(cohorts: Cohorts) -> list[str]:
    """Return the sentences on what grows from the tasks around p50 to those around p99."""
    middle, slow = cohorts.get("p50"), cohorts.get("p99")
    if middle is None or slow is None or slow.total.value <= middle.total.value:
        return []
    more = slow.total.value - middle.total.value
    growing = sorted(
        (name for name in cohorts.growth if cohorts.growth[name].value > 0),
        key=lambda name: -cohorts.growth[name].value,
    )
    said = [
        f"Tasks around p99 take {plain(more, 's')} more than those around p50; the most of it is {name}: {_more(cohorts, name)}."
        for name in growing[:1]
    ]
    coordination = [name for name in growing if name not in NO_COORDINATION]
    if coordination and coordination[0] != growing[0]:
        said.append(f"Of T_coordination, {coordination[0]} grows most: {_more(cohorts, coordination[0])}.")
    return said


def _more(cohorts: Cohorts, name: str) -> str:
    """Return by how much a category grows, and that it is not resolved where it is not."""
    one, middle = cohorts.growth[name], cohorts.get("p50")
    before = middle.categories[name].value if middle is not None else 0.0
    text = f"{_text(one, 's', cohorts)} more"
    if before > 0:
        text += f" ({plain((before + one.value) / before, '', 2)} times as much)"
    return text + (", which is not resolved: the interval holds 0" if one.resolved and one.low <= 0 else "")


def _missing(found: RunDigest, source: Provenance) -> list[Missing]:
    if found.summary.measured:
        return []
    lacking, spans = [], asked(source).value("--spans")
    if found.summary.replications < 2:
        what = "intervals of the percentiles' parts, which need the spread between replications"
        lacking.append(Missing(what, repeat("run", source, "--replications", "10")))
    if found.cohorts.groups and (found.steps is None or not found.examples):
        what = "seconds by step, and single tasks as they went: no spans were kept of the tasks that are shown here"
        sampled = _enough(found) and spans != "sampled"
        lacking.append(Missing(what, repeat("run", source, "--spans", "sampled" if sampled else "all")))
    elif found.steps is not None and found.steps.tasks < FEW and spans != "all":
        what = f"seconds by step over more tasks than {found.steps.tasks}"
        lacking.append(Missing(what, repeat("run", source, "--spans", "all")))
    return lacking


def _enough(found: RunDigest) -> bool:
    """Whether a sample of the tasks, one in a hundred, is enough of them."""
    return found.summary.tasks.arrived >= 2000 * found.summary.replications


# ---------------------------------------------------------------------------------------------------------------------
# By category


def _bars(cohorts: Cohorts) -> Chart:
    groups = cohorts.groups
    present = [
        name for name in EVERY if any(name in one.categories and one.categories[name].value > 0 for one in groups)
    ]
    places = [_place(one) for one in groups]
    data: list[Data] = [
        {
            "type": "bar", "orientation": "h", "name": name, "y": places,
            "x": [number(one.categories[name].value) for one in groups], "marker": theme.bar(name),
            "hovertext": [
                f"{name}, {place}: {told(one.categories[name], 's')}; {told(one.shares[name], 'share')} of T_total"
                for place, one in zip(places, groups, strict=True)
            ],
            "hoverinfo": "text",
        }
        for name in present
    ]  # fmt: skip
    totals = [one.total for one in groups]
    data.append(
        {
            "type": "scatter", "mode": "markers", "name": "T_total", "y": places, "x": [number(one.value) for one in totals],
            "marker": {"symbol": "line-ns-open", "size": 16, "color": theme.GREY, "line": {"width": 2}},
            "error_x": theme.whiskers(totals, unit="s" if cohorts.replications else None) | {"color": theme.GREY, "thickness": 2, "width": 8},
            "hovertext": [f"T_total, {place}: {told(one, 's')}" for place, one in zip(places, totals, strict=True)],
            "hoverinfo": "text",
        }
    )  # fmt: skip
    layout = theme.layout(
        theme.axis("seconds a task, on the critical path", rangemode="tozero"),
        theme.axis("", autorange="reversed", ticks=""),
        barmode="stack", bargap=0.35,
    )  # fmt: skip
    layout["legend"] = layout["legend"] | {"traceorder": "normal"}
    view = View(data, layout, _bars_summary(cohorts), _bars_table(cohorts, present))
    return Chart(
        "time-by-category", "What does a task spend its time on?", {"": view}, height=440 if len(groups) > 1 else 220
    )


def _place(one: CohortTime) -> str:
    return "all tasks" if one.label == MEAN else f"around {one.label}"


def _bars_summary(cohorts: Cohorts) -> str:
    """Return the largest category of each group."""
    said = []
    for one in cohorts.groups:
        name = max(one.shares, key=lambda each: (one.shares[each].value, each))
        share = _text(one.shares[name], "share", cohorts)
        said.append(f"{_place(one)} {_text(one.total, 's', cohorts)}, {share} of it {name}")
    return f"T_total, and its largest part: {'; '.join(said)}."


def _bars_table(cohorts: Cohorts, present: Sequence[str]) -> Table:
    groups = cohorts.groups
    grown = len(groups) > 1 and bool(cohorts.growth)

    def row(name: str, parts: Sequence[tuple[Estimate, Estimate | None]], more: Estimate | None) -> tuple[str, ...]:
        found = [
            _text(seconds, "s", cohorts, one.total.value)
            + (f" ({_text(share, 'share', cohorts)})" if share is not None else "")
            for (seconds, share), one in zip(parts, groups, strict=True)
        ]
        return (
            name,
            *found,
            *([_text(more, "s", cohorts, groups[-1].total.value) if more is not None else ""] if grown else []),
        )

    rows = [
        row(name, [(one.categories[name], one.shares[name]) for one in groups], cohorts.growth.get(name))
        for name in present
    ]
    rows.append(row("T_coordination", [(one.coordination, one.coordination_share) for one in groups], None))
    rows.append(row("T_total", [(one.total, None) for one in groups], None))
    rows.append(("tasks", *(f"{one.tasks:,}" for one in groups), *([""] if grown else [])))
    columns = ["category", *(_place(one) for one in groups), *(["p99 less p50"] if grown else [])]
    coordination = listed([name for name in NO_COORDINATION if name in groups[0].categories])
    near = (
        "the tasks nearest to it, as many as the last row says"
        if not cohorts.replications
        else "the hundredth of each replication's tasks nearest to it"
    )
    note = f"mean seconds a task and share of T_total, {_of(cohorts)}; around a percentile: {near}; T_coordination: all but {coordination}"
    return table("Seconds by category", columns, rows, note=note)


def _text(one: Estimate, unit: str, cohorts: Cohorts, like: float = 0.0) -> str:
    """Return an estimate of a group; of measured tasks, whose percentiles never have intervals, without saying so each time."""
    bare = not cohorts.replications and known(one) and not one.resolved
    return show(one, unit, like).value if bare else cells(one, unit, like)


def _of(cohorts: Cohorts) -> str:
    if not cohorts.replications:
        return f"{100 * cohorts.confidence:g} % intervals over all {counted(cohorts.groups[0].tasks, 'task')}, none over those around a percentile"
    return f"{100 * cohorts.confidence:g} % intervals over {counted(cohorts.replications, 'replication')}"


# ---------------------------------------------------------------------------------------------------------------------
# By account


def _icicle(cohorts: Cohorts) -> Chart:
    views = {one.label: _icicle_view(one, cohorts) for one in cohorts.groups if one.label != MEAN}
    if not views:  # so few tasks that a percentile says nothing
        return Chart(
            "time-path", "Which component, doing what?", {"": _icicle_view(cohorts.groups[0], cohorts)}, height=520
        )
    return Chart("time-path", "Which component, doing what?", views, Switch.PERCENTILE, height=520)


def _icicle_view(group: CohortTime, cohorts: Cohorts) -> View:
    total = group.total.value
    accounts = sorted(group.accounts, key=lambda one: (-one.seconds.value, one.category, one.component, one.name))
    accounts = [one for one in accounts if one.seconds.value > 0]
    tree = _Tree(f"T_total {_place(group)}", total)
    for one in accounts:
        small = one.seconds.value < NARROW * total
        steps = (one.category, "smaller parts") if small else (one.category, one.component or NAMELESS, one.name)
        tree.add(tuple(html.escape(step) for step in steps), one.seconds.value)
    said = [
        f"{one.component} {one.name}".strip() + f" ({one.category}) {_text(one.seconds, 's', cohorts)}"
        for one in accounts[:3]
    ]
    summary = f"{_place(group)} ({counted(group.tasks, 'task')}), the largest parts of T_total are {'; '.join(said)}."
    rows = [
        (
            one.category,
            one.component,
            one.name,
            _text(one.seconds, "s", cohorts, total),
            plain(one.seconds.value / total, "share"),
        )
        for one in accounts
    ]
    columns = ("category", "component", "doing", "seconds", "share")
    made = table(f"T_total {_place(group)}, by account", columns, rows, "<<<>>", f"mean seconds a task, {_of(cohorts)}")
    return View(
        [tree.drawn()],
        ICICLE,
        summary[0].upper() + summary[1:],
        made,
    )


class _Tree:
    """The nodes of an icicle; only leaves have a value, so that sums are right however they are rounded."""

    def __init__(self, label: str, total: float) -> None:
        self.total = total
        self.labels: dict[tuple[str, ...], str] = {(): label}
        self.seconds: dict[tuple[str, ...], float] = {(): 0.0}
        self.leaves: dict[tuple[str, ...], float] = {}

    def add(self, path: tuple[str, ...], seconds: float) -> None:
        """Add a leaf, or to it."""
        self.leaves[path] = self.leaves.get(path, 0.0) + seconds
        for depth in range(len(path) + 1):
            at = path[:depth]
            self.labels.setdefault(at, at[-1] if at else "")
            self.seconds[at] = self.seconds.get(at, 0.0) + seconds

    def drawn(self) -> Data:
        """Return the trace, colours and patterns by category."""
        nodes = list(self.labels)
        looks = [theme.CATEGORY_LOOKS[html.unescape(at[0])] if at else (ROOT, "") for at in nodes]
        shares = [self.seconds[at] / self.total if self.total else 0.0 for at in nodes]
        return {
            "type": "icicle", "branchvalues": "remainder", "sort": True, "tiling": {"orientation": "h"}, "pathbar": {"visible": True},
            "ids": ["/".join(("T_total", *at)) for at in nodes], "labels": [self.labels[at] for at in nodes],
            "parents": ["/".join(("T_total", *at[:-1])) if at else "" for at in nodes],
            "values": [self.leaves.get(at, 0.0) for at in nodes],
            "marker": {
                "colors": [colour for colour, _ in looks], "line": {"width": 1, "color": "white"},
                "pattern": {"shape": [pattern for _, pattern in looks], "size": 8, "solidity": 0.12, "fillmode": "overlay"},
            },
            "text": [f"{plain(share, 'share')} · {plain(self.seconds[at], 's')}" for at, share in zip(nodes, shares, strict=True)],
            "textfont": {"color": [_ink(colour) for colour, _ in looks]}, "textinfo": "label+text", "leaf": {"opacity": 1.0}, "hovertemplate": "%{label}: %{text}<extra></extra>",
        }  # fmt: skip


def _ink(colour: str) -> str:
    """Return black or white, whichever reads better on a colour: by the luminance of sRGB at which their contrasts are equal.

    >>> _ink("#0072B2"), _ink("#F0E442")
    ('#ffffff', '#000000')
    """
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


# ---------------------------------------------------------------------------------------------------------------------
# By step


def _steps(found: StepMap, measured: bool = False) -> Chart:
    present = [name for name in EVERY if any(row.seconds.get(name, 0.0) > 0 for row in found.rows)]
    labels = [html.escape(row.label.removeprefix("step ")) for row in found.rows]
    z = [[rounded(row.seconds[name]) if row.seconds[name] > 0 else None for name in present] for row in found.rows]
    texts = [
        [plain(row.seconds[name], "s") if row.seconds[name] > 0 else "nothing" for name in present]
        for row in found.rows
    ]
    data: Data = {
        "type": "heatmap", "x": present, "y": labels, "z": z, "customdata": texts, "colorscale": "Cividis", "zmin": 0,
        "zmax": rounded(max(value for row in _single(found) for value in row.seconds.values())) or None, "xgap": 2, "ygap": 2,
        "text": _figures(found, present), "texttemplate": "%{text}", "textfont": {"size": 10}, "hoverongaps": False,
        "colorbar": {
            "ticksuffix": " s", "orientation": "h", "thickness": 10, "outlinewidth": 0, "len": 0.7,
            "x": 0, "xanchor": "left", "yref": "container", "y": 1.0, "yanchor": "top",
        },
        "hovertemplate": "%{y}, %{x}: %{customdata}<extra></extra>",
    }  # fmt: skip
    layout = theme.layout(
        theme.axis("seconds a task, by category", tickangle=-40, side="bottom", showgrid=False, dtick=1),
        theme.axis("", autorange="reversed", showgrid=False, ticks="", type="category"),
        margin={"l": 60, "r": 8, "t": 46, "b": 56},
        legend={},
    )
    view = View([data], layout, _steps_summary(found, measured), _steps_table(found, present, measured))
    return Chart("time-steps", "Which step costs what?", {"": view}, height=max(320, 180 + 24 * len(labels)))


def _figures(found: StepMap, present: Sequence[str]) -> list[list[str]]:
    """Return what stands in the cells: seconds, short enough for a phone."""
    least = FAINT * max(value for row in _single(found) for value in row.seconds.values())
    return [[_figure(row.seconds[name]) if row.seconds[name] > least else "" for name in present] for row in found.rows]


def _figure(seconds: float) -> str:
    return f"{seconds:.2g}" if seconds < 100 else f"{seconds:,.0f}"


def _single(found: StepMap) -> list[StepRow]:
    """Return the rows of single steps: not of all later ones, nor of what lies outside of any, unless there is nothing else."""
    return [row for row in found.rows if row.label != OUTSIDE and not row.label.endswith(LATER)] or list(found.rows)


def _steps_summary(found: StepMap, measured: bool) -> str:
    row = max(_single(found), key=lambda one: math.fsum(one.seconds.values()))
    where, name = max(
        ((one, name) for one in _single(found) for name in one.seconds), key=lambda two: two[0].seconds[two[1]]
    )
    tasks = counted(found.tasks, "task") + ("" if measured else f" of replication {found.replication}")
    said = [
        f"Of {plain(found.total, 's')} a task ({tasks}), the most for one step is spent in {row.label}: {_part_of(row, found)}.",
        f"The largest single part is {name} in {where.label}: {plain(where.seconds[name], 's')}.",
    ]
    said += [
        f"All of {row.label} together take {_part_of(row, found)}; the colours of the chart end at the largest single part."
        for row in found.rows
        if row.label.endswith(LATER)
    ]
    said += [
        f"{_part_of(row, found)} lie outside any step."
        for row in found.rows
        if row.label == OUTSIDE and any(row.seconds.values()) and row not in _single(found)
    ]
    return " ".join(said)


def _part_of(row: StepRow, found: StepMap) -> str:
    whole = math.fsum(row.seconds.values())
    return f"{plain(whole, 's')} ({plain(whole / found.total if found.total else 0.0, 'share')})"


def _steps_table(found: StepMap, present: Sequence[str], measured: bool) -> Table:
    rows = [
        (
            row.label, f"{row.tasks:,}", *(plain(row.seconds[name], "s") if row.seconds[name] > 0 else "" for name in present),
            plain(math.fsum(row.seconds.values()), "s"),
        )
        for row in found.rows
    ]  # fmt: skip
    why = "" if measured else " without intervals, for spans are kept of one replication only;"
    note = (
        f"mean over all {counted(found.tasks, 'task')} here, so that the rows sum to T_total;{why} steps in order of the critical "
        f"path{_of_more(found)}"
    )
    return table("Seconds by step and category", ("step", "tasks with it", *present, "sum"), rows, note=note)


def _of_more(found: StepMap) -> str:
    return f"; of {found.among:,} tasks with spans, evenly taken" if found.among > found.tasks else ""
