"""What a run says of how sure its numbers are: intervals against replications, the cut of the warm-up, and what is doubtful.

Intervals are of the draws of the simulation alone. What the model leaves out, and how wrong its inputs are, they do not hold.

Leaves out: a comparison with a running system, of which a run knows nothing.
Checked: tests/test_run_sure.py, against intervals worked out by hand.
Source: T_total by order of arrival, averaged and smoothed, is Welch's method (Law, Simulation Modeling and Analysis, 5th ed., 9.5.1).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...analysis.digest import RunDigest
from ...analysis.moments import ByArrival, welch
from ...analysis.statistics import Estimate, mean_interval, replications_needed
from ...analysis.summary import Summary
from ..layout import Table
from ..numbers import NOTHING, counted, plain, show, unit_of
from ..page.parts import Chart, Missing, Part, Section, View
from ..page.provenance import Provenance, known
from ..page.theme import COLOURS, DASHES, GREY, MARKERS, axis, band, layout
from .further import repeat, scenario_of
from .pieces import told

__all__ = ["doubts", "inputs_words", "narrowing", "sure_parts"]

SHOWN = {
    "response_time_mean": "mean T_total",
    "response_time_p95": "p95 of T_total",
    "coordination_mean": "mean T_coordination",
}
_SHORT = {"response_time_mean": "mean", "response_time_p95": "p95", "coordination_mean": "coordination"}
TARGETS = (0.05, 0.01)
MOST_POINTS = 100  # numbers of replications that are drawn
_SMOOTH = 20  # a twentieth of the bins on both sides is averaged over

Data = dict[str, Any]


def sure_parts(found: RunDigest, source: Provenance) -> list[Part]:
    """Return what a run says of how sure its numbers are."""
    summary, by_arrival = found.summary, found.moments.by_arrival
    charts = [*_interval_charts(summary), *_warmup_charts(summary, by_arrival)]
    missing = () if summary.replications > 1 else (_more(source),)
    tables = tuple(_needed_tables(summary))
    return [
        Part(
            Section.SURE,
            _answer(summary),
            tuple(charts),
            tables,
            tuple(_notes(summary, source)),
            doubts(summary, source),
            missing,
        )
    ]


def doubts(summary: Summary, source: Provenance) -> tuple[str, ...]:
    """Return what is doubtful of a summary, with commands that name the scenario as its own command does."""
    name = scenario_of(source)
    told_ = dict.fromkeys((*summary.warnings, *summary.doubts))
    return tuple(re.sub(r"\bSCENARIO\b", lambda _match: name, one) for one in told_)


def _more(source: Provenance) -> Missing:
    return Missing(
        "how much replications differ: there is one, and its intervals come from cutting it into batches",
        repeat("run", source, "--replications", "10"),
    )


def _answer(summary: Summary) -> str:
    mean = summary.metrics["response_time_mean"]
    if math.isnan(mean.value):
        return "No task was done, so nothing is known of T_total."
    if not mean.resolved:
        return f"Mean T_total is {show(mean, 's').text}, without an interval: {counted(mean.n, 'observation')} cannot tell one."
    counted_ = f"after {counted(summary.replications, 'replication')}"
    each = " and ".join(_relative(name, summary) for name in ("response_time_mean", "response_time_p95"))
    return f"At {100 * summary.confidence:g} % confidence {each} {counted_}. {_enough(summary)}{_settled(summary)}"


def _relative(name: str, summary: Summary) -> str:
    one = summary.metrics[name]
    if not one.resolved:
        return f"{SHOWN[name]} has no interval"
    return f"{SHOWN[name]} is known within {_percent(one.relative_error)} ({show(one, 's').text})"


def _enough(summary: Summary) -> str:
    """Return how many more replications bring mean and p95 within 5 %, and within 1 %."""
    if summary.replications < 2:
        return "More replications would tell how much runs differ. "
    reached, missing = "", []
    for target in TARGETS:
        needed = [
            _total(_sample(summary, name), target, summary.confidence)
            for name in ("response_time_mean", "response_time_p95")
        ]
        if None not in needed:
            more = max(one for one in needed if one is not None) - summary.replications
            if more > 0:
                missing.append(f"{100 * target:g} % would take {counted(more, 'more replication')}")
            else:
                reached = f"Both are within {100 * target:g} % already"
    if reached and not missing:
        return f"{reached}. "
    said = " and ".join(missing)
    return f"{reached}; {said}. " if reached and said else f"For both, {said}. " if said else ""


def _settled(summary: Summary) -> str:
    growing = summary.stability.count("grows")
    if growing:
        return f"The number of tasks in the system still grows in {growing} of {len(summary.stability)} replications: times then say how long the run was."
    if "settled" in summary.stability:
        return "The number of tasks in the system does not grow."
    return "Runs are too short to tell whether the number of tasks in the system settles."


def _sample(summary: Summary, name: str) -> tuple[float, ...]:
    return tuple(one for one in summary.samples.get(name, ()) if math.isfinite(one))


def _total(values: Sequence[float], target: float, confidence: float) -> int | None:
    """Return how many replications reach a relative error; None where no number does, or nothing tells."""
    if len(values) < 2:
        return None
    try:
        return replications_needed(values, target, confidence)
    except ValueError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Intervals


def narrowing(values: Sequence[float], confidence: float) -> list[Estimate]:
    """Return the mean with its interval after the first 2, 3, ... of values in the order in which they were got."""
    return [mean_interval(values[:count], confidence) for count in range(2, len(values) + 1)]


def _interval_charts(summary: Summary) -> Iterator[Chart]:
    series = {name: _sample(summary, name) for name in SHOWN}
    series = {name: values for name, values in series.items() if len(values) >= 2}
    if not series:
        return
    data: list[Data] = []
    rows: dict[int, dict[str, Estimate]] = {}
    for number, (name, values) in enumerate(series.items(), start=1):
        known_ = narrowing(values, summary.confidence)
        step = math.ceil(len(known_) / MOST_POINTS)
        kept = sorted({*range(0, len(known_), step), len(known_) - 1})
        counts, shown = [place + 2 for place in kept], [known_[place] for place in kept]
        for count, one in zip(counts, shown, strict=True):
            rows.setdefault(count, {})[name] = one
        data += _narrowing_lines(name, counts, shown, number)
    made = _panels([f"{_SHORT[name]} (s)" for name in series], "replications")
    _scale(made, [narrowing(values, summary.confidence) for values in series.values()])
    last = {name: (narrowing(values, summary.confidence)[0], summary.metrics[name]) for name, values in series.items()}
    each = "; ".join(
        f"{SHOWN[name]} from {_error(a)} after 2 to {_error(b)} after {b.n}" for name, (a, b) in last.items()
    )
    words = f"Half the interval as a share of the value: {each}. The intervals should narrow as one over the square root of the number."
    table = Table(
        "Value and interval after so many replications",
        ("replications", *(SHOWN[name] for name in series)),
        ">" * (1 + len(series)),
        tuple((str(count), *(_cell(rows[count].get(name), name) for name in series)) for count in sorted(rows)),
        f"{100 * summary.confidence:g} % intervals (Student's t)",
    )
    yield Chart(
        "replications",
        "Do more replications change the answer?",
        {"": View(data, made, words, table)},
        height=110 + 150 * len(series),
    )


def _error(one: Estimate) -> str:
    return f"± {_percent(one.relative_error)}" if math.isfinite(one.relative_error) else "an unknown one"


def _percent(share: float) -> str:
    return plain(share, "share", 2 if share < 1 else 3)


def _cell(one: Estimate | None, name: str) -> str:
    return show(one, unit_of(name)).text


def _narrowing_lines(name: str, counts: Sequence[int], shown: Sequence[Estimate], number: int) -> list[Data]:
    colour, y = COLOURS[number - 1], "y" if number == 1 else f"y{number}"
    text = [f"{SHOWN[name]}: {told(one, 's')}" for one in shown]
    return [
        band([float(one) for one in counts], shown, colour) | {"yaxis": y},
        {"type": "scatter", "mode": "lines+markers", "name": SHOWN[name], "showlegend": False, "x": list(counts),
         "y": [one.value for one in shown], "yaxis": y, "line": {"color": colour, "dash": DASHES[number - 1], "width": 2},
         "marker": {"symbol": MARKERS[number - 1], "size": 5}, "text": text, "hovertemplate": "%{text}<extra></extra>"},
    ]  # fmt: skip


def _panels(titles: Sequence[str], below: str) -> Data:
    """Return a layout of panels one above another, with one axis of x."""
    made = layout(axis(below, anchor="y" if len(titles) == 1 else f"y{len(titles)}"), {})
    each = 1 / len(titles)
    for number, title in enumerate(titles, start=1):
        low = 1 - number * each
        made["yaxis" if number == 1 else f"yaxis{number}"] = axis(
            title, domain=[max(low + 0.06 * each, 0.0), low + 0.94 * each], nticks=5
        )
    made["margin"] = made["margin"] | {"t": 10}
    return made


def _scale(made: Data, known_: Sequence[Sequence[Estimate]]) -> None:
    """Let axes be those of three replications on: the interval of two is so wide that nothing else could be seen."""
    for number, all_of in enumerate(known_, start=1):
        shown = all_of[1:] or all_of
        low, high = min(one.low for one in shown), max(one.high for one in shown)
        room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        made["yaxis" if number == 1 else f"yaxis{number}"]["range"] = [low - room, high + room]
    most = max(len(all_of) for all_of in known_) + 1
    made["xaxis"] |= {"range": [1.9, most + 0.1]} | ({"dtick": 1} if most <= 12 else {})


def _needed_tables(summary: Summary) -> Iterator[Table]:
    rows = []
    for name, label in SHOWN.items():
        values = _sample(summary, name)
        if len(values) >= 2 and name in summary.metrics:
            needed = (_total(values, target, summary.confidence) for target in TARGETS)
            rows.append(
                (
                    label,
                    _cell(summary.metrics[name], name),
                    _error(summary.metrics[name]),
                    *(_say(one, len(values)) for one in needed),
                )
            )
    if rows:
        columns = ("quantity", "value", "relative error", *(f"replications for {100 * one:g} %" for one in TARGETS))
        note = "the spread between replications is taken to be that of those that ran: ask again once more have run"
        yield Table("How many replications are enough?", columns, "<>>>>", tuple(rows), note)


def _say(needed: int | None, now: int) -> str:
    return NOTHING if needed is None else "reached" if needed <= now else f"{needed:,} ({needed - now:,} more)"


# ---------------------------------------------------------------------------------------------------------------------
# Warm-up


def _not_below_0(one: Estimate) -> Estimate:
    return replace(one, low=max(one.low, 0.0)) if one.resolved else one


def _warmup_charts(summary: Summary, one: ByArrival | None) -> Iterator[Chart]:
    if one is None:
        return
    half = max(1, len(one.tasks) // _SMOOTH)
    rows = list(zip(*(welch(row, half) for row in one.rows), strict=True))
    smooth = [mean_interval(values, summary.confidence) for values in rows]
    means = [sum(values) / len(values) for values in zip(*one.rows, strict=True)]
    text = [f"around task {at:,.0f}: {told(known_, 's')}" for at, known_ in zip(one.tasks, smooth, strict=True)]
    data: list[Data] = [
        {"type": "scatter", "mode": "markers", "name": f"mean of {one.size:,} tasks" if one.size > 1 else "mean over replications", "x": list(one.tasks), "y": means,
         "marker": {"color": GREY, "size": 4, "opacity": 0.6}, "hoverinfo": "skip"},
        band(one.tasks, [_not_below_0(known_) for known_ in smooth], COLOURS[0]),
        {"type": "scatter", "mode": "lines", "name": f"smoothed over {counted(2 * half + 1, 'point')}", "x": list(one.tasks),
         "y": [known_.value for known_ in smooth], "line": {"color": COLOURS[0], "width": 2}, "text": text,
         "hovertemplate": "%{text}<extra></extra>"},
    ]  # fmt: skip
    made = layout(
        axis("task, by order of arrival", range=[0, one.tasks[-1] + one.size / 2]),
        axis("T_total (s)", rangemode="tozero"),
    )
    cut = summary.warmup.tasks
    if cut > 0:
        made["shapes"] = [
            {"type": "line", "x0": cut, "x1": cut, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": GREY, "dash": "dash", "width": 2}},
            {"type": "rect", "x0": 0, "x1": cut, "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "fillcolor": GREY, "opacity": 0.15, "line": {"width": 0}},
        ]  # fmt: skip
        made["annotations"] = [
            {"x": cut, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top", "text": "cut here", "showarrow": False, "xshift": 4, "font": {"size": 11}}
        ]  # fmt: skip
    table = Table(
        "T_total by order of arrival",
        ("around task", "mean", "smoothed"),
        ">>>",
        tuple((f"{at:,.0f}", plain(mean, "s"), show(known_, "s").text) for at, mean, known_ in zip(one.tasks, means, smooth, strict=True)),
        f"means over {counted(len(one.rows), 'replication')}, of every task whatever became of it",
    )  # fmt: skip
    yield Chart(
        "warmup", "Where does the warm-up end?", {"": View(data, made, warmup_words(summary), table)}, height=400
    )


def warmup_words(summary: Summary) -> str:
    """Return what was cut, by which rule, and whether to trust it."""
    one = summary.warmup
    if one.mode == "none":
        return "Nothing is cut as warm-up, because the scenario says so."
    rule = "as the scenario says" if one.mode == "fixed" else "by MSER-5 over all replications"
    if one.mode == "auto" and not one.trusted:
        return "MSER-5 finds no steady part after a warm-up, and nothing is cut: the run may be all warm-up, and should be longer."
    if not one.tasks and not one.seconds:
        return "MSER-5 finds no warm-up: the first tasks are like the later ones, and nothing is cut."
    return f"The first {counted(round(one.tasks), 'task')} ({plain(one.seconds, 's')}) of each replication are left out, {rule}."


# ---------------------------------------------------------------------------------------------------------------------
# Notes


def _notes(summary: Summary, source: Provenance) -> Iterator[str]:
    states = Counter(summary.stability)
    told_ = ", ".join(
        f"{states[name]} {word}"
        for name, word in (("settled", "settled"), ("grows", "still growing"), ("unknown", "too short to tell"))
        if states[name]
    )
    yield f"Number of tasks in the system, by replication: {told_}."
    yield _little(summary)
    if summary.precision is not None:
        reached = summary.precision
        verdict = "was reached" if reached.reached else "was not reached"
        yield f"The precision asked for, {plain(reached.target, 'share')}, {verdict}: {reached.worst} is known within {_known_within(reached.relative_error)}."
    yield "The model was not checked against a running system here: intervals tell how sure the simulation is of itself, not of the world."
    yield from inputs_words(source)


def _little(summary: Summary) -> str:
    one = summary.little
    if abs(one.gap) > 1e-6:  # very long runs keep every n-th task only
        return f"{one.statement}."
    return (
        f"Little's law holds: over whole runs, from their start to the last end, {one.observed:.4g} tasks are in the system on average, "
        "which is the arrival rate times the mean time there."
    )


def _known_within(error: float) -> str:
    return _percent(error) if math.isfinite(error) else "no bound"


def inputs_words(source: Provenance) -> Iterator[str]:
    """Yield which inputs are measured, imported and assumed."""
    each = ", ".join(f"{quality} ({names})" for quality, names in known(source.inputs))
    if each:
        yield f"The numbers rest on inputs that are {each}. How wrong these may be is in no interval."
