"""What a run says of what breaks first: how near each resource is to its limit, and queues over time with what was wrong then.

The load at which a resource saturates is 1 / (what it is asked for, as a share of its capacity), times the load of the run: work per
task is taken to stay what it is. Retries, caches and batches change it, and the words say so where there are any.

Leaves out: times at other loads, which a run of one load cannot know.
Checked: tests/test_run_breaks.py, against what an M/M/1 queue and a closed system can serve.
Source: the utilization law, and the least of capacities as a bound on throughput, are Denning and Buzen, The operational analysis of
queueing network models, ACM Computing Surveys 10(3), 1978.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...analysis.digest import RunDigest
from ...analysis.moments import Moments
from ...analysis.statistics import Estimate, mean_interval
from ...analysis.summary import Resource, Summary
from ..layout import Table
from ..numbers import NOTHING, listed, plain, show
from ..page.parts import Chart, Missing, Part, Section, View
from ..page.provenance import Provenance
from ..page.theme import COLOURS, DASHES, GREY, PATTERNS, axis, band, layout, limit, whiskers
from ..reliability_tables import reliability_answer, reliability_tables
from .further import about
from .over_time import Panel, Story, chart, periods_table
from .pieces import error_bars, known, told

__all__ = ["Rung", "breaks_parts", "ladder"]

MOST_RUNGS = 12
LEAST = 0.001  # share of capacity: what is less busy is not told of
BUSY = 0.8  # from which a queue grows fast with load
MOST_LINES = 3  # resources in a panel over time
MOST_GROWING = 5
_FLAT = 0.05  # of calls that wait: a line at zero, as it is drawn
_DIFFERS = 1.02  # asked for over used, from which both are drawn
_LOADS = (0.25, 0.5, 0.7, 0.8, 0.9)  # of the load at which the first resource saturates: where its knee lies

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rung:
    """A resource on the ladder: the share of its capacity in use and asked for, and the factor of the load that it can serve.

    `most` is that load in tasks a second. Of a server that makes larger batches as more is asked of it (`batches`), the share of
    time in which it is busy says nothing of its limit, and there is no factor.
    """

    name: str
    kind: str
    used: Estimate
    asked: Estimate
    factor: Estimate | None
    most: Estimate | None
    queue: Estimate | None
    batches: bool = False


def ladder(summary: Summary) -> list[Rung]:
    """Return resources by how near they are to their limit, the nearest first; those below 0.1 % are left out."""
    found = [rung for one in summary.resources if (rung := _rung(one, summary)) is not None]
    known_ = [one for one in found if known(one.used) and max(one.used.value, one.asked.value) > LEAST]
    return sorted(known_, key=lambda one: (one.batches, -one.asked.value, one.name))


def _rung(one: Resource, summary: Summary) -> Rung | None:
    metrics = one.metrics
    if one.kind == "server":
        busy = metrics.get("device_busy_share")
        return (
            None
            if busy is None
            else Rung(one.name, one.kind, busy, busy, None, None, metrics.get("queue_length"), True)
        )
    used = metrics.get("utilization")
    if used is None:
        return None
    asked = metrics.get("offered", used)
    twins = sum(other.name == one.name for other in summary.resources)
    name = one.name if twins == 1 else f"{one.kind} {one.name}"
    return Rung(name, one.kind, used, asked, inverse(asked), _most(one, asked, summary), metrics.get("queue_length"))


def inverse(share: Estimate) -> Estimate | None:
    """Return 1 / share with its interval, whose upper end is open where the share may be 0; None for no share.

    >>> inverse(Estimate(0.5, 0.4, 0.625, 0.95, 5, "t"))
    Estimate(value=2.0, low=1.6, high=2.5, confidence=0.95, n=5, method='t')
    """
    if not (math.isfinite(share.value) and share.value > 0):
        return None
    high = 1 / share.low if share.low > 0 else math.inf
    low = 1 / share.high if math.isfinite(share.high) else -math.inf
    return Estimate(1 / share.value, low, high, share.confidence, share.n, share.method)


def mapped(one: Estimate, how: Callable[[float], float]) -> Estimate:
    """Return an estimate with its value and both ends as a rising function has them."""
    return replace(one, value=how(one.value), low=how(one.low), high=how(one.high))


def _most(one: Resource, asked: Estimate, summary: Summary) -> Estimate | None:
    """Return how many tasks a second it can serve: throughput over utilization, in each replication."""
    done = summary.samples.get("throughput", ())
    busy = summary.samples.get(f"utilization.{one.name}", ())
    pairs = [(x, u) for x, u in zip(done, busy, strict=False) if math.isfinite(x) and math.isfinite(u) and u > 0]
    if not pairs or asked.value > 1:
        return None
    return mean_interval([x / u for x, u in pairs], summary.confidence)


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def breaks_parts(found: RunDigest, source: Provenance) -> list[Part]:
    """Return what a run says of what breaks first."""
    summary, moments = found.summary, found.moments
    rungs = ladder(summary)
    firm = [one for one in rungs if one.factor is not None]
    answer = " ".join(filter(None, (*_sentences(rungs, firm, source), reliability_answer(summary))))
    charts = [*_ladder_charts(rungs, source), *_growth(firm, source), *over_time(moments)]
    tables = [table for table in (periods_table(_story(moments)),) if table is not None]
    return [
        Part(
            Section.BREAKS,
            answer,
            tuple(charts),
            (*tables, *(one for one in reliability_tables(summary) if one.rows)),
            tuple(_notes(rungs, summary, source)),
            missing=(_knee(firm, source),),
        )
    ]


def _sentences(rungs: Sequence[Rung], firm: Sequence[Rung], source: Provenance) -> Iterator[str]:
    over = [one for one in firm if one.asked.value > 1]
    for one in over[:2]:
        verb = "is" if one.asked.low > 1 or not one.asked.resolved else "may be"
        yield f"{one.name} {verb} saturated in this run: it is asked for {show(one.asked, '').text} times what it can serve."
    rest = [one for one in firm if one not in over]
    if rest and not over:
        yield _first(rest, source)
    elif not firm:
        yield (
            "No resource with a fixed capacity is busy more than 0.1 % of it, so nothing saturates near this load."
            if not rungs
            else f"No resource with a fixed capacity is busy more than 0.1 % of it; {rungs[0].name} makes larger batches as more is "
            f"asked of it, and is busy {show(rungs[0].used, 'share').text} of the time."
        )


def _first(rest: Sequence[Rung], source: Provenance) -> str:
    first = rest[0]
    # Who may be first: whose load is not surely above that of the first.
    rivals = [
        one for one in rest[1:] if one.asked.resolved and first.asked.resolved and one.asked.high >= first.asked.low
    ]
    at = _load(first, source)
    if rivals:
        names = " or ".join([first.name, *(one.name for one in rivals[:2])])
        return f"Which saturates first, {names}, is not resolved: {first.name} does {at}; it is {_busy(first)} now."
    told_ = f"{first.name} saturates first, {at}; it is {_busy(first)} now."
    if len(rest) > 1:
        told_ += f" Next is {rest[1].name}, {_load(rest[1], source)}."
    return told_


def _busy(one: Rung) -> str:
    return f"{show(one.used, 'share').text} busy"


def _load(one: Rung, source: Provenance) -> str:
    """Return 'at 1.8 ± 0.1 times the planned load (7.2/s ± 0.4)', or the most that can be done, where users wait for answers."""
    assert one.factor is not None
    if source.rate is not None:
        rate = show(_at(one.factor, source.rate), "1/s")
        arrivals = rate.text if one.factor.resolved else rate.value
        return f"at {show(one.factor, '').text} times the planned load (arrivals of {arrivals})"
    if one.most is None:
        return f"at {show(one.factor, '').text} times what is asked of it now"
    return f"when {show(one.most, '1/s').text} tasks are done, and no more can be"


def _notes(rungs: Sequence[Rung], summary: Summary, source: Provenance) -> Iterator[str]:
    yield (
        "The factor is 1 / what is asked for as a share of capacity: it holds as long as each task asks for the same work. A queue is long "
        f"well before: from {100 * BUSY:.0f} % on small changes of load move it much."
    )
    if any(row.amplification.value > 1 for row in summary.reliability.calls):
        yield "Retries add work as things get slower, so that saturation may come at a lower load than the ladder says."
    if any(one.batches for one in rungs):
        yield "A model server that batches has no factor: as more is asked of it, it does more at once, and busy all the time is not full."
    if any("rate_limit" in line.text or "limits:" in line.text for line in source.lines):
        yield "Limits on requests or tokens a second are not on the ladder: a wait for them is queueing of that component."


def _knee(firm: Sequence[Rung], source: Provenance) -> Missing:
    first = firm[0].factor if firm else None
    # Where it is saturated already, by retries perhaps, the knee may be anywhere below this load.
    factor = first.value if first is not None and 1 <= first.value < 50 else 1.0
    levels = ",".join(dict.fromkeys(f"{share * factor:.2g}" for share in _LOADS))
    return Missing(
        "how times grow with load: this is one load, and so one point of the curve with the knee",
        about("faults", source, "--rise", "load", "--levels", levels),
    )


# ---------------------------------------------------------------------------------------------------------------------
# The ladder


def _ladder_charts(rungs: Sequence[Rung], source: Provenance) -> Iterator[Chart]:
    if not rungs:
        return
    shown = rungs[:MOST_RUNGS]
    places = list(range(len(shown)))
    data: list[Data] = []
    for batches, name, look in ((False, "in use", 0), (True, "busy, and batches grow", 4)):
        chosen = [place for place in places if shown[place].batches is batches]
        if chosen:
            used = [shown[place].used for place in chosen]
            data.append(
                {"type": "bar", "orientation": "h", "name": name, "y": chosen, "x": [100 * one.value for one in used], "width": 0.42,
                 "error_x": error_bars(whiskers(used, 100)), "marker": {"color": COLOURS[look], "pattern": {"shape": PATTERNS[batches]}},
                 "text": [_hover(shown[place], source) for place in chosen], "textposition": "none",
                 "hovertemplate": "%{text}<extra></extra>"}
            )  # fmt: skip
    apart = [place for place in places if shown[place].asked.value > _DIFFERS * shown[place].used.value]
    if apart:
        asked = [shown[place].asked for place in apart]
        data.append(
            {"type": "scatter", "mode": "markers", "name": "asked for", "y": apart, "x": [100 * one.value for one in asked],
             "error_x": error_bars(whiskers(asked, 100)), "marker": {"color": COLOURS[1], "symbol": "diamond", "size": 11},
             "text": [_hover(shown[place], source) for place in apart], "hovertemplate": "%{text}<extra></extra>"}
        )  # fmt: skip
    top = max(112.0, *(105 * max(_end(one.asked), _end(one.used)) for one in shown))
    made = layout(
        axis("share of capacity (%)", range=[0, top]),
        {"visible": False, "range": [len(shown) - 0.45, -0.75], "fixedrange": True},
    )
    made["margin"] = made["margin"] | {"l": 12, "r": 20, "t": 40 if len(data) > 1 else 12}
    made["shapes"] = [limit(80, "x") | {"line": {"color": GREY, "dash": "dot", "width": 2}}, limit(100, "x")]
    made["annotations"] = [*_marks(len(shown), top), *(_label(place, one, source) for place, one in enumerate(shown))]
    view = View(data, made, _ladder_words(shown), _ladder_table(rungs, source))
    yield Chart("ladder", "How near is each resource to its limit?", {"": view}, height=150 + 46 * len(shown))


def _end(one: Estimate) -> float:
    return one.high if math.isfinite(one.high) else one.value


def _marks(rows: int, top: float) -> list[Data]:
    return [
        {"x": at, "y": rows - 0.45, "yanchor": "bottom", "xanchor": "right", "text": f"{at} %", "showarrow": False, "font": {"size": 11}, "xshift": -3}
        for at in ((80, 100) if top < 160 else (100,))  # or they overlap on a phone
    ]  # fmt: skip


def _label(place: int, one: Rung, source: Provenance) -> Data:
    """Return the name of a resource, and the load it can take, above its bar: so that it needs no room beside it."""
    text = f"<b>{html.escape(one.name)}</b>"
    if one.factor is not None:
        over = one.asked.value > 1
        reach = html.escape(show(one.factor, "").value)
        text += (
            " is asked for too much" if over else f" is full at {reach} × the load" if source.rate is not None else ""
        )
    return {
        "xref": "paper", "x": 0, "xanchor": "left", "y": place - 0.28, "yanchor": "bottom", "text": text, "showarrow": False,
        "font": {"size": 12}, "align": "left",
    }  # fmt: skip


def _hover(one: Rung, source: Provenance) -> str:
    lines = [f"<b>{html.escape(one.name)}</b> ({html.escape(one.kind)})", f"in use: {told(one.used, 'share')}"]
    if one.asked is not one.used:
        lines.append(f"asked for: {told(one.asked, 'share')}")
    if one.factor is not None and source.rate is not None:
        lines.append(f"full at {told(one.factor, '')} times the load")
    return "<br>".join(lines)


def _ladder_words(shown: Sequence[Rung]) -> str:
    each = "; ".join(f"{one.name} {show(one.used, 'share').text}" for one in shown[:4])
    more = f"; {len(shown) - 4} more are less busy" if len(shown) > 4 else ""
    return f"Share of capacity in use, by resource: {each}{more}. Lines mark 80 % and 100 %."


def _ladder_table(rungs: Sequence[Rung], source: Provenance) -> Table:
    rows = tuple(
        (
            one.name,
            one.kind,
            show(one.used, "share").text,
            NOTHING if one.batches else show(one.asked, "share").text,
            show(one.factor, "").text,
            show(one.most, "1/s").text if source.rate is None else _times(one.factor, source.rate),
            show(one.queue, "").text,
        )
        for one in rungs[:200]
    )
    columns = (
        "resource",
        "kind",
        "in use",
        "asked for",
        "full at (times the load)",
        "tasks it can serve",
        "mean queue",
    )
    note = "asked for: what arrives, as a share of capacity; above in use where not all of it is served"
    return Table("Resources by how near they are to their limit", columns, "<<>>>>>", rows, note)


def _times(one: Estimate | None, rate: float) -> str:
    return NOTHING if one is None else show(_at(one, rate), "1/s").text


# ---------------------------------------------------------------------------------------------------------------------
# The load that is known


def _growth(firm: Sequence[Rung], source: Provenance) -> Iterator[Chart]:
    """Yield how busy each resource is at other loads, as far as the utilization law knows it."""
    chosen = [one for one in firm if one.asked.value <= 1 and one.asked.value > firm[0].asked.value / 50][:MOST_GROWING]
    if source.rate is None or not chosen or chosen[0] is not firm[0]:
        return
    first = chosen[0].asked.value
    end = 1.25 / first
    data: list[Data] = []
    for look, one in enumerate(chosen):
        colour, stop = COLOURS[look], min(1 / one.asked.value, end)
        x = [0.0, stop]
        if one.asked.resolved:
            data.append(_cone(one.asked, end, colour))
        data.append(
            {"type": "scatter", "mode": "lines", "name": html.escape(one.name), "x": x, "y": [0.0, 100 * stop * one.asked.value],
             "line": {"color": colour, "dash": DASHES[look], "width": 2}, "hovertemplate": f"{html.escape(one.name)}<br>%{{y:.3g}} % at %{{x:.3g}} times the load<extra></extra>"}
        )  # fmt: skip
    data.append(
        {"type": "scatter", "mode": "markers", "name": "simulated", "x": [1.0] * len(chosen), "y": [100 * one.asked.value for one in chosen],
         "marker": {"color": GREY, "size": 8}, "text": [_hover(one, source) for one in chosen], "hovertemplate": "%{text}<extra></extra>"}
    )  # fmt: skip
    made = layout(axis("times the planned load", range=[0, end]), axis("share of capacity (%)", range=[0, 105]))
    made["shapes"] = [limit(100, "y")]
    each = "; ".join(f"{one.name} {show(one.factor, '').text}" for one in chosen)
    words = f"Each share grows with the load, as long as tasks ask for the same work, and reaches 100 % at so many times the load: {each}."
    rows = tuple(
        (f"{x:.3g}", *(show(_at(one.asked, x), "share").text for one in chosen)) for x in _grid(end, 1 / first)
    )
    note = "asked for, as a share of capacity; above 100 % is more than can be served"
    table = Table(
        "Asked for at other loads",
        ("times the load", *(one.name for one in chosen)),
        ">" * (1 + len(chosen)),
        rows,
        note,
    )
    yield Chart("load", "At which load is each resource full?", {"": View(data, made, words, table)}, height=400)


def _cone(asked: Estimate, end: float, colour: str) -> Data:
    """Return the interval of a share along the load, cut off at 100 %."""
    x = sorted({0.0, *(min(1 / share, end) for share in (asked.high, asked.value, asked.low) if share > 0), end})
    cut = [mapped(_at(asked, at), lambda share: min(100 * share, 100.0)) for at in x]
    return band(x, cut, colour)


def _at(asked: Estimate, factor: float) -> Estimate:
    return mapped(asked, lambda share: share * factor)


def _grid(end: float, first: float) -> list[float]:
    return sorted({1.0, first, *(round(share * end, 12) for share in (0.25, 0.5, 0.75, 1.0))})


# ---------------------------------------------------------------------------------------------------------------------
# Over time


def _story(one: Moments) -> Story:
    return Story(one.replication, one.window, one.times, one.periods, min(one.cut, one.times[-1]), one.left_out)


def over_time(one: Moments) -> Iterator[Chart]:
    """Yield the chart of the first replication over time."""
    queues = _seen(one.queues, _FLAT)
    used = _seen(one.utilization, 0.01)
    rates = {"tasks that arrive": one.arrivals, "tasks that succeed": one.succeeded}
    numbers = {"tasks in the system": one.in_system} | {f"queue of {name}": series for name, series in queues.items()}
    panels = [
        Panel("tasks per second", "1/s", rates),
        Panel("number there", "", numbers, groups={f"queue of {name}": name for name in queues}),
    ]
    if used:
        busy = {f"{name} in use": series for name, series in used.items()}
        panels.append(Panel("in use (%)", "share", busy, 100.0, {f"{name} in use": name for name in used}))
    words = f"{_words(one)} {_no_queues(one, used)}".strip()
    yield chart("over-time", f"Queues over time, in replication {one.replication}", _story(one), panels, words)


def _no_queues(one: Moments, used: Mapping[str, Sequence[float]]) -> str:
    """Return which of the resources whose use is drawn have a queue that is not; a link has none, as all on it go on at once."""
    flat = [name for name in used if max(one.queues.get(name, (0.0,))) < _FLAT and "network." not in name]
    return f"No line for the queue of {listed(flat)}: never above {_FLAT:g} in the mean of a window." if flat else ""


def _seen(series: Mapping[str, Sequence[float]], least: float) -> dict[str, Sequence[float]]:
    """Return the first few that ever reach what can be seen."""
    return dict([(name, values) for name, values in series.items() if max(values) >= least][:MOST_LINES])


def _words(one: Moments) -> str:
    peak = max(range(len(one.peak)), key=one.peak.__getitem__)
    told_ = f"Replication {one.replication} in windows of {plain(one.window, 's')}: most tasks at once were {one.peak[peak]:,.0f}, until {plain(one.times[peak], 's', 4)}"
    longest = max(one.queues, key=lambda name: max(one.queues[name]), default="")
    if longest:
        told_ += f"; the longest queue was that of {longest}, with {plain(max(one.queues[longest]), '')} in the mean of a window"
    return f"{told_}. {_when(one)}"


def _when(one: Moments) -> str:
    faults = dict.fromkeys(period.cause for period in one.periods if period.kind != "backlog")
    return (
        f"Shaded: {', '.join(list(faults)[:4])}{' and others' if len(faults) > 4 else ''}."
        if faults
        else "No fault was there."
    )
