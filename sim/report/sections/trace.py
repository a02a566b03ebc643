"""What a trace says to the sections: how long tasks take, where the time went, what errors cost, how prompts grow, and what was read.

Leaves out: what only a model of the system can say: another load, another runtime, what matters most. A scenario fitted to the trace does.
Checked: tests/test_trace_sections.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...analysis.estimator import LEAST_TASKS
from ...analysis.statistics import Estimate
from ...analysis.trace_digest import Gap, TraceDigest
from ...engine.ledger import UNEXPLAINED
from ..layout import Table
from ..numbers import counted, listed, plain, show, wide
from ..page import theme
from ..page.parts import Chart, Missing, Part, Section, Switch, View
from ..page.provenance import Provenance
from ..trace_call_tables import call_tables, error_tables, parallel_table, turn_table
from ..trace_layout import bare, label, middle, plainly, text_of
from ..trace_tables import (
    LITTLE,
    answer_of,
    between,
    gap_table,
    largest,
    notes,
    read_tables,
    split_of,
    task_tables,
    time_tables,
    took,
    unexplained_share,
)
from ..trace_task_tables import slow_table
from .further import fitted
from .pieces import names_axis, number, tidy, told
from .run_time import time_parts

__all__ = ["parts"]

MOST_GAPS = 10  # places that are drawn
MOST_TICKS = 12  # calls of a model, each with its tick
_LONGEST = 22  # characters of a name beside a bar
_TIMES = {"mean": "Mean T_total", "p50": "Median T_total", "p95": "p95 of T_total", "p99": "p99 of T_total"}

Data = dict[str, Any]


def parts(found: TraceDigest, source: Provenance) -> list[Part]:
    """Return what a trace says to the sections."""
    return [_answer(found), _time(found, source), _breaks(found), *_scaling(found), _sure(found, source)]


def _answer(found: TraceDigest) -> Part:
    tables = (*time_tables(found, every=True), *task_tables(found), *slow_table(found, every=True))
    return Part(
        Section.ANSWER,
        answer_of(found),
        facts=tuple(_facts(found)),
        tables=tuple(_tidy(one, found) for one in tables),
        notes=tuple(notes(found)),
        warnings=found.doubts,
    )


def _facts(found: TraceDigest) -> Iterator[tuple[str, str, str]]:
    """Yield headline figures."""
    summary = found.run.summary
    metrics = summary.metrics
    if found.few:
        ends = dict.fromkeys((found.few[0], found.few[-1]))
        yield "T_total", " to ".join(plain(one, "s") for one in ends), f"of {counted(len(found.few), 'task')}"
    elif not math.isnan(metrics["response_time_mean"].value):
        for name, text in _TIMES.items():
            yield text, bare(metrics[f"response_time_{name}"], "s"), ""
    if summary.tasks.done:
        if not found.overlapping:
            yield "Coordination, of T_total", text_of(found.few, metrics["coordination_share"], "share"), ""
        yield "Not explained, of T_total", unexplained_share(found) or "0 %", ""
    if summary.tasks.failed:
        yield "Tasks that succeed", bare(metrics["success"], "share"), ""
    if found.harm.calls:
        yield "Calls that failed", f"{found.harm.failed:,} of {found.harm.calls:,}", ""


def _tidy(table: Table, found: TraceDigest) -> Table:
    return tidy(plainly(table, bool(found.few)), "what")


# ---------------------------------------------------------------------------------------------------------------------
# Time


def _time(found: TraceDigest, source: Provenance) -> Part:
    (made,) = time_parts(found.run, source)
    told_ = made.answer
    if found.overlapping or found.few:
        told_ = f"{took(found)}. {split_of(found)}"
    if found.run.summary.categories[UNEXPLAINED].share.value > LITTLE:
        told_ = f"{told_} {largest(found.gaps.rows)}"
    tables = [*call_tables(found, every=True), *parallel_table(found, every=True)]
    charts = (*(_plainly(one, found) for one in made.charts), *_gaps(found))
    return replace(made, answer=told_.strip(), charts=charts, tables=tuple(_tidy(one, found) for one in tables))


def _plainly(chart: Chart, found: TraceDigest) -> Chart:
    """Return a chart of a run whose tables do not say in each cell that there is no interval; of one task with nothing to choose."""
    views = {name: replace(one, table=plainly(one.table, bool(found.few))) for name, one in chart.views.items()}
    if len(found.few) == 1 and chart.switch is Switch.PERCENTILE:
        return replace(chart, views={"": next(iter(views.values()))}, switch=Switch.NONE)
    return replace(chart, views=views)


def _gaps(found: TraceDigest) -> Iterator[Chart]:
    """Yield the chart of the places at which time lies that no span explains."""
    rows = found.gaps.rows[:MOST_GAPS]
    if not rows or not unexplained_share(found):
        return
    places = [html.escape(_place(one)) for one in rows]
    known = [one.per_task for one in rows]
    data: list[Data] = [
        {
            "type": "bar", "orientation": "h", "name": UNEXPLAINED, "showlegend": False, "y": places, "x": [number(one.value) for one in known],
            "marker": theme.bar(UNEXPLAINED), "error_x": theme.whiskers(known) | {"color": theme.GREY},
            "hovertext": [f"{place}: {told(one, 's')} a task" for place, one in zip(places, known, strict=True)], "hoverinfo": "text",
        }
    ]  # fmt: skip
    labels = [f"{html.escape(between(one))}<br>{html.escape(middle(_inside(one), _LONGEST))}" for one in rows]
    layout = theme.layout(theme.axis("seconds a task", rangemode="tozero"), names_axis(places, labels), bargap=0.35)
    layout["margin"] = layout["margin"] | {"t": 12}
    first = rows[0]
    words = (
        f"{bare(first.per_task, 's')} a task lie between {between(first).replace(' → ', ' and ')}: {counted(first.count, 'gap')} of "
        f"{plain(first.seconds / first.count, 's')} on average, in {counted(first.tasks, 'task')}."
    )
    (made,) = gap_table(found, every=True)
    title = "Where is the time that no span explains?"
    yield Chart("time-gaps", title, {"": View(data, layout, words, _tidy(made, found))}, height=150 + 44 * len(rows))


def _place(one: Gap) -> str:
    return f"{between(one)} · {_inside(one)}"


def _inside(one: Gap) -> str:
    return label(one.inside) if one.inside else "no span"


# ---------------------------------------------------------------------------------------------------------------------
# Errors


def _breaks(found: TraceDigest) -> Part:
    harm, tasks = found.harm, found.run.summary.tasks
    lost = f" {tasks.failed:,} of {counted(tasks.arrived, 'task')} failed." if tasks.failed else ""
    if not harm.calls:
        return Part(Section.BREAKS, f"The trace holds no calls, so that none failed.{lost}")
    if not harm.failed:
        return Part(Section.BREAKS, f"None of {harm.calls:,} calls failed.{lost}")
    first = harm.rows[0]
    called = label(first.component)
    said = [
        f"{harm.failed:,} of {harm.calls:,} calls failed, most of them {called} ({first.error}: {first.calls:,}).",
    ]
    if tasks.done:
        of = " of a task that is done" if tasks.failed else " of a task"
        said.append(f"Failed calls take {text_of(found.few, harm.critical, 's')} of the critical path{of}.")
    if harm.seconds.resolved:
        said.append(
            f"Tasks with a failed call ({harm.with_error:,}) take {_more(harm.seconds, 's')} than those without ({harm.without:,}), and make "
            f"{_more(harm.turns, '')} calls of models: an association, for longer tasks have more calls that can fail."
        )
    return Part(
        Section.BREAKS,
        " ".join(said) + lost,
        tables=tuple(_tidy(one, found) for one in error_tables(found, every=True)),
    )


def _more(one: Estimate, unit: str) -> str:
    """Return a difference in words.

    >>> _more(Estimate(-2.0, -3.0, -1.0, 0.95, 20, "t"), "s")
    '2.0 s ± 1.0 less'
    """
    less = one.value < 0
    size = replace(one, value=-one.value, low=-one.high, high=-one.low) if less else one
    open_ = "" if not one.resolved or one.low > 0 or one.high < 0 else " (not resolved: the interval holds 0)"
    return f"{show(size, unit, wide(size)).text} {'fewer' if less and not unit else 'less' if less else 'more'}{open_}"


# ---------------------------------------------------------------------------------------------------------------------
# Context


def _scaling(found: TraceDigest) -> Iterator[Part]:
    """Yield how prompts grow with the calls of a task; nothing where the trace has no tokens."""
    context = found.context
    if len(context.turns) < 2:
        return
    last = context.turns[-1]
    said = [
        f"The prompt of the first call has {text_of(found.few, context.turns[0].prompt, 'tokens')}, call {last.number} has {text_of(found.few, last.prompt, 'tokens')}"
    ]
    said[0] += f" ({counted(last.tasks, 'task')})."
    if math.isfinite(context.growth.value):
        said.append(f"From one call to the next it grows by {text_of(found.few, context.growth, 'tokens')}.")
    if context.cached.value > 0:
        said.append(f"{text_of(found.few, context.cached, 'share')} of all prompts come from the cache.")
    yield Part(
        Section.SCALING,
        " ".join(said),
        charts=(_turns(found),),
        notes=("Later calls are of those tasks alone that have so many, which may differ from the others.",),
    )


def _from_0(one: Estimate) -> Estimate:
    return replace(one, low=max(one.low, 0.0)) if one.resolved else one


def _turns(found: TraceDigest) -> Chart:
    turns = found.context.turns
    x = [float(one.number) for one in turns]
    data: list[Data] = []
    for place, (name, what) in enumerate(
        {"prompt": "prompt", "cached": "of it from the cache", "output": "output"}.items()
    ):
        known = [getattr(one, name) for one in turns]
        if not any(one.value > 0 for one in known):
            continue
        colour = theme.COLOURS[place]
        data += [
            theme.band(x, [_from_0(one) for one in known], colour, name),
            {
                "type": "scatter", "mode": "lines+markers", "name": what, "legendgroup": name, "x": x, "y": [number(one.value) for one in known],
                "line": {"color": colour, "dash": theme.DASHES[place], "width": 2}, "marker": {"symbol": theme.MARKERS[place], "size": 5},
                "hovertext": [f"call {one.number}: {told(each, 'tokens')}" for one, each in zip(turns, known, strict=True)], "hoverinfo": "text",
            },
        ]  # fmt: skip
    layout = theme.layout(
        theme.axis("call of a model by the task's main agent", **({"dtick": 1} if len(turns) <= MOST_TICKS else {})),
        theme.axis("tokens", rangemode="tozero"),
    )
    first, last = turns[0], turns[-1]
    words = (
        f"Prompts of {text_of(found.few, first.prompt, 'tokens')} at the first call and of {text_of(found.few, last.prompt, 'tokens')} at call {last.number}; "
        f"answers of {text_of(found.few, first.output, 'tokens')} and {text_of(found.few, last.output, 'tokens')}."
    )
    (made,) = turn_table(found, every=True)
    return Chart("scaling-turns", "How do prompts grow?", {"": View(data, layout, words, _tidy(made, found))})


# ---------------------------------------------------------------------------------------------------------------------
# How sure


def _sure(found: TraceDigest, source: Provenance) -> Part:
    summary, read = found.run.summary, found.read
    mean = summary.metrics["response_time_mean"]
    said = [
        f"{read.kept:,} of {read.spans:,} spans are in these numbers, of {counted(sum(bool(one.format) for one in read.files), 'file')}."
    ]
    changed = {
        fate: sum(one.spans for one in read.remarks if one.fate == fate) for fate in ("repaired", "guessed", "dropped")
    }
    told_ = [f"{count:,} {'were' if count > 1 else 'was'} {fate}" for fate, count in changed.items() if count]
    said.append(f"Counted by reason, {listed(told_)}." if told_ else "Nothing was repaired, guessed or dropped.")
    if mean.resolved:
        said.append(f"Mean T_total is known within {plain(mean.relative_error, 'share', 2)} ({show(mean, 's').text}).")
    elif not math.isnan(mean.value):
        said.append("Mean T_total has no interval.")
    return Part(
        Section.SURE,
        " ".join(said),
        tables=tuple(_tidy(one, found) for one in read_tables(found, every=True)),
        notes=tuple(_notes(found)),
        missing=(
            Missing(
                "whether a model of the system predicts tasks that it has not seen", fitted(source, "--holdout", "0.5")
            ),
        ),
    )


def _notes(found: TraceDigest) -> Iterator[str]:
    yield (
        "Intervals are over tasks: of means by Student's t corrected for skewness, of percentiles between order statistics, of calls with those of one task together. "
        f"With fewer than {LEAST_TASKS} tasks there is none."
    )
    yield "They take the tasks as a sample of what the system does: other users, another day or other settings are in no interval."
    if not found.arrivals:
        yield "The files have no common clock, so that rates and the number of tasks at a time are not known."
