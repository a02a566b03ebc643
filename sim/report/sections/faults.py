"""What a study of faults says: what each costs, whether it stays broken, what breaks first, and how far tasks get.

Leaves out: tables and sentences themselves (`fault_tables`, `fault_words`), which a terminal has, too.
Checked: tests/test_fault_sections.py, tests/test_faults_command.py.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...analysis.fault_study import ALL_FAULTS, FAULT, HANDLING, Cost, LevelRow, StepsRow, StudyResult
from ...analysis.fault_timeline import Timeline
from ...analysis.statistics import Estimate
from .. import fault_tables
from ..fault_words import measured, missed_words, sentences, steps_words, tasks_to_reach, trigger_words
from ..layout import Table
from ..numbers import counted, listed, plain, show, wide
from ..page.parts import Chart, Missing, Part, Section, View
from ..page.provenance import Provenance
from ..page.theme import COLOURS, DASHES, GREY, MARKERS, PATTERNS, axis, band, layout, whiskers
from .further import repeat
from .over_time import Panel, Story, chart, periods_table
from .pieces import error_bars, known, tidy, told
from .run_breaks import mapped
from .run_sure import inputs_words

__all__ = ["charts", "parts"]

MOST_BARS = 10
MOST_BUSY = 4  # components whose utilization is drawn over levels
MOST_QUEUES = 4
MOST_SAID = 3  # sentences of an answer
VERDICTS = {
    "metastable": "fail",
    "unharmed": "pass",
    "recovered": "pass",
    "recovering": "inconclusive",
    "cannot tell": "inconclusive",
}
_QUEUES = " A queue is of calls, those included that nobody waits for any more; it is counted when tasks come and go."
_BAR, _GAP, _ENDS = 46, 76, 66  # pixels: a bar with its name, between panels, and margins

Data = dict[str, Any]


def parts(found: StudyResult, source: Provenance) -> list[Part]:
    """Return what a study of faults says to the sections of a page."""
    said = list(sentences(found))
    answer = Part(Section.ANSWER, " ".join(said[:MOST_SAID]), facts=tuple(_facts(found)), notes=tuple(said[MOST_SAID:]))
    return [answer, _breaks(found, source), _sure(found, source)]


def _facts(found: StudyResult) -> Iterator[tuple[str, str, str]]:
    costs = measured(found)
    if costs:
        having = costs[0].metrics
        yield "success, as it is", show(having["success"].having, "share").text, ""
        yield "p95 of T_total, as it is", show(having["response_time_p95"].having, "s").text, ""
    dearest = next((one for one in costs if one.kind == FAULT and one.name != ALL_FAULTS), None)
    if dearest is not None:
        yield f"success that {dearest.name} adds", _signed(dearest.metrics["success"].added, "share"), ""
    for one in found.timeline.triggers[:3]:
        yield f"goodput after {one.name}", one.collapse.state, VERDICTS[one.collapse.state]
    if found.breaks is not None and found.breaks.first_objectives:
        first = found.breaks.first_objectives
        yield (
            "objective that breaks first",
            " or ".join(one.name for one in first),
            "" if len(first) == 1 else "inconclusive",
        )


def _signed(one: Estimate, unit: str) -> str:
    return f"{'+' if one.value > 0 else ''}{show(one, unit, wide(one)).text}"


def charts(found: StudyResult) -> list[Chart]:
    """Return all charts: what each fault costs comes first."""
    tables, story = _tables(found), _story(found.timeline)
    return [
        *_costs(found, FAULT, tables),
        _over_time(found, story),
        *_levels(found, tables),
        *_steps(found, tables),
        *_costs(found, HANDLING, tables),
    ]


def figures(found: StudyResult) -> dict[str, Chart]:
    """Return all charts by name."""
    return {one.name: one for one in charts(found)}


def _tables(found: StudyResult) -> dict[str, Table]:
    return {one.title: tidy(one) for one in fault_tables.report(found).tables}


def _breaks(found: StudyResult, source: Provenance) -> Part:
    drawings = tuple(charts(found))
    drawn = {view.table.title for one in drawings for view in one.views.values()}
    periods = periods_table(_story(found.timeline))
    rest = [one for title, one in _tables(found).items() if title not in drawn and one.rows]
    said = [*(missed_words(one) for one in found.missed), *(trigger_words(one) for one in found.timeline.triggers)]
    if found.breaks is not None:
        said.insert(0, found.breaks.sentence)
    if not said:
        said = [
            "No fault begins at a set time, and nothing was raised: the study tells what each fault costs at this load."
        ]
    return Part(
        Section.BREAKS,
        " ".join(said[:MOST_SAID]),
        drawings,
        (*rest, *(() if periods is None else (periods,))),
        tuple(said[MOST_SAID:]),
        missing=tuple(_missing(found, source)),
    )


def _missing(found: StudyResult, source: Provenance) -> Iterator[Missing]:
    if found.missed:
        last = max(found.missed, key=lambda one: one.at)
        what = f"What {listed([one.name for one in found.missed])} {'costs' if len(found.missed) == 1 else 'cost'}: a run that lasts until then"
        yield Missing(what, repeat("faults", source, "--tasks", str(tasks_to_reach(last))))
    if not found.levels:
        yield Missing(
            "What breaks first as the load rises, and where the knee of its times is",
            repeat("faults", source, "--rise", "load", "--levels", "0.5,0.75,1,1.25,1.5"),
        )
    handled = any(one.outcomes.get("recovered", 0) + one.outcomes.get("degraded", 0) for one in found.causes)
    if handled and not any(one.kind == HANDLING for one in found.costs):
        yield Missing("What each handling policy is worth", repeat("faults", source, "--handling"))
    if found.breaks is not None and len(found.breaks.first_objectives) > 1 and "--rise" in repeat("faults", source):
        low = min(one.after for one in found.breaks.first_objectives)
        high = max(one.by for one in found.breaks.first_objectives)
        if math.isfinite(low):
            finer = ",".join(f"{low + share * (high - low):.4g}" for share in (0, 0.25, 0.5, 0.75, 1))
            yield Missing("Which objective breaks first", repeat("faults", source, "--levels", finer))


# ---------------------------------------------------------------------------------------------------------------------
# What each costs


def _costs(found: StudyResult, kind: str, tables: Mapping[str, Table]) -> Iterator[Chart]:
    rows = [one for one in measured(found) if one.kind == kind][:MOST_BARS]
    if not rows:
        return
    what = "fault" if kind == FAULT else "policy"
    data: list[Data] = []
    made = layout(axis("percentage points of success", domain=[0.0, 1.0], anchor="y"), {})
    half = 0.5 * _GAP / (_GAP + 2 * _BAR * len(rows))
    panels = (("success", "share", 100.0, (0.5 + half, 1.0)), ("response_time_p95", "s", 1.0, (0.0, 0.5 - half)))
    notes: list[Data] = []
    for number, (metric, unit, scale, domain) in enumerate(panels, start=1):
        shown = [
            (place, one.metrics[metric].added, one.name)
            for place, one in enumerate(rows)
            if known(one.metrics[metric].added)
        ]
        tail = "" if number == 1 else str(number)
        data.append(_bars(shown, unit, scale, number))
        made[f"yaxis{tail}"] = {
            "visible": False,
            "range": [len(rows) - 0.5, -0.75],
            "domain": list(domain),
            "anchor": f"x{tail}",
            "fixedrange": True,
        }
        notes += [_named(place, name, number) for place, _, name in shown]
    made["xaxis"] |= {"zeroline": True, "zerolinecolor": GREY, "zerolinewidth": 2}
    made["xaxis2"] = axis("seconds of p95", anchor="y2", zeroline=True, zerolinecolor=GREY, zerolinewidth=2)
    made |= {"annotations": notes, "showlegend": False}
    made["margin"] = made["margin"] | {"l": 12, "t": 10}
    words = f"What having each {what} adds, with {100 * found.confidence:g} % intervals over {found.replications} paired replications: " + "; ".join(
        f"{one.name} {_signed(one.metrics['success'].added, 'share')} of success and {_signed(one.metrics['response_time_p95'].added, 's')} of p95"
        for one in rows[:3]
    )  # fmt: skip
    title = "What does each fault cost?" if kind == FAULT else "What is each handling policy worth?"
    table = tables[f"What each {what} adds"]
    name = "costs" if kind == FAULT else "policies"
    words += ". Filled: better; hatched: worse; dotted: not resolved."
    yield Chart(name, title, {"": View(data, made, words, table)}, height=_ENDS + _GAP + 2 * _BAR * len(rows))


def _bars(shown: Sequence[tuple[int, Estimate, str]], unit: str, scale: float, number: int) -> Data:
    """Return bars from zero, of a colour and a pattern by whether the change is for the better, the worse, or not resolved."""
    looks = [_look(one, better_up=unit == "share") for _, one, _ in shown]
    tail = "" if number == 1 else str(number)
    return {
        "type": "bar", "orientation": "h", "x": [scale * one.value for _, one, _ in shown], "y": [place for place, _, _ in shown],
        "width": 0.4, "xaxis": f"x{tail}", "yaxis": f"y{tail}", "name": "success" if number == 1 else "p95",
        "marker": {"color": [look[0] for look in looks], "pattern": {"shape": [look[1] for look in looks], "size": 7, "solidity": 0.3, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.85)"}},
        "error_x": error_bars(whiskers([one for _, one, _ in shown], scale)), "textposition": "none",
        "text": [f"<b>{html.escape(name)}</b><br>{told(one, unit)}" for _, one, name in shown], "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _look(one: Estimate, better_up: bool) -> tuple[str, str]:
    if not (one.resolved and one.excludes(0.0)):
        return GREY, PATTERNS[4]
    return (COLOURS[2], PATTERNS[0]) if (one.value > 0) is better_up else (COLOURS[1], PATTERNS[1])


def _named(place: int, name: str, number: int) -> Data:
    tail = "" if number == 1 else str(number)
    return {
        "xref": f"x{tail} domain", "x": 0, "xanchor": "left", "yref": f"y{tail}", "y": place - 0.24, "yanchor": "bottom", "showarrow": False,
        "text": html.escape(name), "font": {"size": 12}, "align": "left",
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Over time


def _story(one: Timeline) -> Story:
    return Story(one.replication, one.window, one.times, [period for period in one.periods if period.end > one.start])


def _over_time(found: StudyResult, story: Story) -> Chart:
    one = found.timeline
    missed = " ".join(f"{each.name} never came." for each in found.missed)
    longest = sorted(one.queues, key=lambda name: -max(one.queues[name]))[:MOST_QUEUES]
    numbers = {"tasks in the system": one.in_system} | {f"queue of {name}": one.queues[name] for name in longest}
    panels = [
        Panel("tasks per second", "1/s", {"arrivals": one.arrivals, "goodput": one.good}),
        Panel("number there", "", numbers),
    ]
    worst = min(range(len(one.good)), key=one.good.__getitem__)
    words = (
        f"Replication {one.replication} in windows of {plain(one.window, 's')}: goodput is lowest in the one that ends at {plain(one.times[worst], 's', 4)}, "
        f"with {plain(one.good[worst], '1/s')} where {plain(one.arrivals[worst], '1/s')} arrive. "
        + (
            " ".join(f"{t.name}: {t.collapse.state}." for t in one.triggers)
            or missed
            or "No fault begins at a set time."
        )
        + (_QUEUES if longest else "")
    )
    return chart("timeline", f"When was what broken, in replication {one.replication}?", story, panels, words)


# ---------------------------------------------------------------------------------------------------------------------
# What rises


def _levels(found: StudyResult, tables: Mapping[str, Table]) -> Iterator[Chart]:
    if not found.levels:
        return
    busiest = _busiest(found.levels)
    times = _line(found.levels, _metric("response_time_p95"), "p95 of T_total", "s", 0, "y")
    data = [*times]
    rows = found.levels
    alike = all(row.metrics["success"] == row.metrics["attainment"] for row in rows)  # nothing is asked of times
    shares = [(name, _metric(name)) for name in ("success", "attainment")[: 1 if alike else 2]]
    shares += [(f"{name} in use", _used(name)) for name in busiest]
    for look, (name, pick) in enumerate(shares, start=1):
        data += _line(found.levels, pick, name, "share", look, "y2")
    made = layout(
        axis(
            found.knob,
            anchor="y2",
            tickvals=[row.x for row in found.levels],
            ticktext=[html.escape(row.shown) for row in found.levels],
        ),
        axis("p95 (s)", domain=[0.56, 1.0], rangemode="tozero"),
    )
    made["yaxis2"] = axis("share (%)", domain=[0.0, 0.5], range=[0, 104])
    first = found.breaks.first_objectives[:1] if found.breaks is not None else ()
    made["shapes"] = [
        {"type": "rect", "x0": one.after, "x1": one.by, "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "fillcolor": COLOURS[1],
         "opacity": 0.15, "line": {"width": 0}}
        for one in first if math.isfinite(one.after)
    ]  # fmt: skip
    ends = [(row.shown, row.metrics["response_time_p95"]) for row in (found.levels[0], found.levels[-1])]
    words = (
        "p95 of T_total is "
        + " and ".join(f"{show(one, 's').text} at {found.knob} {shown}" for shown, one in ends)
        + "."
    )
    words += f" {found.breaks.sentence}" if found.breaks is not None else ""
    words += " Shaded: where the first objective breaks." if made["shapes"] else ""
    title = f"What breaks first as {found.knob} rises"
    yield Chart("breaks", f"{title}?", {"": View(data, made, words, tables[title])}, scales=("y",), height=640)


def _busiest(rows: Sequence[LevelRow]) -> list[str]:
    """Return the components that are busiest at any level, of those that are ever busy."""
    most: dict[str, float] = {}
    for row in rows:
        for name, one in row.utilization.items():
            most[name] = max(most.get(name, 0.0), one.value if known(one) else 0.0)
    return sorted((name for name in most if most[name] >= 0.01), key=lambda name: -most[name])[:MOST_BUSY]


def _metric(name: str) -> Callable[[LevelRow], Estimate | None]:
    return lambda row: row.metrics.get(name)


def _used(name: str) -> Callable[[LevelRow], Estimate | None]:
    return lambda row: row.utilization.get(name)


def _line(
    rows: Sequence[LevelRow], pick: Callable[[LevelRow], Estimate | None], name: str, unit: str, look: int, y: str
) -> list[Data]:
    """Return a line of estimates over levels with its intervals; levels without a value are left out."""
    points = [(row, one) for row in rows if (one := pick(row)) is not None and known(one)]
    if not points:
        return []
    scale = 100.0 if unit == "share" else 1.0
    return [
        {"type": "scatter", "mode": "lines+markers", "name": html.escape(name), "x": [row.x for row, _ in points],
         "y": [scale * one.value for _, one in points], "yaxis": y,
         "error_y": error_bars(whiskers([one for _, one in points], scale)) | {"color": COLOURS[look % len(COLOURS)]},
         "line": {"color": COLOURS[look % len(COLOURS)], "dash": DASHES[look % len(DASHES)], "width": 2},
         "marker": {"symbol": MARKERS[look % len(MARKERS)], "size": 7},
         "text": [f"{html.escape(name)} at {html.escape(row.shown)}: {told(one, unit)}" for row, one in points],
         "hovertemplate": "%{text}<extra></extra>"}
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Steps


def _steps(found: StudyResult, tables: Mapping[str, Table]) -> Iterator[Chart]:
    if not found.steps:
        return
    data: list[Data] = []
    for look, one in enumerate(found.steps):
        data += _survival(one, look)
    made = layout(
        axis("steps", tickvals=sorted({b.steps for one in found.steps for b in one.bins})),
        axis("tasks that succeed (%)", range=[0, 104]),
    )
    words = " ".join(steps_words(one) for one in found.steps)
    titles = [f"Success over steps (`{one.path}`), {one.name}" for one in found.steps]
    shown = [tables[title] for title in titles]
    rows = tuple((one.name, *row) for one, table in zip(found.steps, shown, strict=True) for row in table.rows)
    table = replace(shown[0], title=titles[0], columns=("variant", *shown[0].columns), align="<" + shown[0].align, rows=rows,
                    note="; ".join(f"{one.name}: {t.note}" for one, t in zip(found.steps, shown, strict=True)))  # fmt: skip
    yield Chart(
        "steps",
        "How does success fall with steps?",
        {"": View(data, made, words, table)},
        scales=("x",),
        height=420,
    )


def _survival(one: StepsRow, look: int) -> list[Data]:
    colour = COLOURS[look % len(COLOURS)]
    x = [b.steps for b in one.bins]
    shown = [b.success for b in one.bins]
    text = [f"{html.escape(one.name)}, {b.steps:g}: {told(b.success, 'share')}" for b in one.bins]
    scaled = [mapped(success, lambda share: 100 * share) for success in shown]
    made: list[Data] = [
        {"type": "scatter", "mode": "markers", "name": html.escape(one.name), "x": x, "y": [e.value for e in scaled], "text": text,
         "error_y": error_bars(whiskers(scaled)) | {"color": colour}, "marker": {"color": colour, "symbol": MARKERS[look % len(MARKERS)], "size": 8},
         "hovertemplate": "%{text}<extra></extra>"},
    ]  # fmt: skip
    life = one.fit.per_step
    if known(life) and not one.fit.misfit:
        grid = [x[0] + (x[-1] - x[0]) * place / 60 for place in range(61)] if x[-1] > x[0] else x
        fitted = [mapped(life, _power_of(at)) for at in grid]
        made += [
            band(grid, fitted, colour),
            {"type": "scatter", "mode": "lines", "name": f"{html.escape(one.name)}, constant chance per step", "x": grid,
             "y": [e.value for e in fitted], "line": {"color": colour, "dash": DASHES[(look + 1) % len(DASHES)], "width": 2}, "hoverinfo": "skip"},
        ]  # fmt: skip
    return made


def _power_of(steps: float) -> Callable[[float], float]:
    """Return what makes of a chance per step the share (%) of tasks that get through so many steps."""
    return lambda share: 100 * math.pow(min(max(share, 0.0), 1.0), steps) if math.isfinite(share) else share


# ---------------------------------------------------------------------------------------------------------------------
# How sure


def _sure(found: StudyResult, source: Provenance) -> Part:
    undecided = [
        f"whether goodput came back after {one.name}"
        for one in found.timeline.triggers
        if one.collapse.state == "cannot tell"
    ]
    if found.breaks is not None and len(found.breaks.first_objectives) > 1:
        undecided.append("which objective breaks first")
    unsure = [one.name for one in measured(found) if not _resolved(one)]
    each = f"Each of {counted(found.variants, 'scenario')} ran {counted(found.replications, 'replication')}, and all met the same draws"
    answer = (
        f"{each}; intervals of differences are of {100 * found.confidence:g} %, paired."
        if found.replications > 1
        else f"{each}; one replication gives no interval."
    )
    if undecided:
        answer += f" It cannot be told {', nor '.join(undecided)}."
    elif unsure and found.replications > 1:
        answer += f" What {' and '.join(unsure[:3])}{' and others' if len(unsure) > 3 else ''} does to success and p95 is not resolved."
    missing: tuple[Missing, ...] = ()
    if found.replications < 2 or unsure:
        number = 8 if found.replications < 2 else min(4 * found.replications, 64)
        missing = (Missing("Narrower intervals", repeat("faults", source, "--replications", str(number))),)
    notes = (
        f"The timeline is of replication {found.timeline.replication} alone, and its verdict rests on windows of {plain(found.timeline.window, 's')}.",
        "Warm-up ends for all scenarios where it does without any fault.",
        "The model was not checked against a running system here.",
        *inputs_words(source),
    )
    return Part(Section.SURE, answer, notes=notes, warnings=tuple(fault_tables.warnings(found)), missing=missing)


def _resolved(one: Cost) -> bool:
    """Whether a change of success or of p95 is surely not zero."""
    changes = (one.metrics[name].added for name in ("success", "response_time_p95"))
    return any(added.resolved and added.excludes(0.0) for added in changes)
