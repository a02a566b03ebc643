"""What a run of one scenario says: how long a task takes, whether the objectives are met, what is busiest; and what a run cannot say.

Leaves out: where the time goes (`run_time`), what happened over time (`run_breaks`), how sure it is (`run_sure`).
Checked: tests/test_report_command.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...analysis.digest import RunDigest
from ...analysis.summary import Judged, Summary
from ..layout import Table
from ..numbers import NOTHING, plain, show, unit_of, unit_of_objective
from ..page.parts import Part, Section
from ..page.provenance import Provenance
from ..reliability_tables import reliability_tables
from ..tables import About, counted, report
from .pieces import tidy
from .run_breaks import breaks_parts, ladder
from .run_sure import doubts, sure_parts
from .run_time import time_parts

__all__ = ["parts"]

_HERE = ("T_total", "Work per task", "Service")
_SAID = (
    "Where the time goes",
    "The largest components",
    "SLO",
)  # by the section on time, or by the table of objectives
_MOST_FACTS = 8
_SIGNS = {"<=": "≤", ">=": "≥"}
_TIMES = {"mean": "Mean T_total", "p50": "Median T_total", "p95": "p95 of T_total", "p99": "p99 of T_total"}
_SERVICE = {
    "throughput": "Throughput",
    "attainment": "Tasks within the SLO",
    "goodput": "Goodput",
    "success": "Success",
}
_ONLY_WITH_OBJECTIVES = ("goodput", "attainment")
ROUGH = 0.995  # of a margin: two digits are enough below 100 %
_FULL = 0.995  # of a capacity: what is busier has no room


def parts(found: RunDigest, source: Provenance) -> list[Part]:
    """Return what a run says to the sections."""
    summary = found.summary
    tables = report(summary, About(source.question, source.runtime)).tables
    of_calls = [one.title for one in reliability_tables(summary)]
    limits = [one for one in tables if not one.title.startswith((*_HERE, *_SAID, *of_calls))]
    return [
        _answer(summary, source, [one for one in tables if one.title in _HERE]),
        *time_parts(found, source),
        *(replace(one, tables=(*map(_tidy, limits), *one.tables)) for one in breaks_parts(found, source)),
        *sure_parts(found, source),
    ]


def _tidy(table: Table) -> Table:
    return tidy(table, "tasks" if table.title == "T_total" else "what")


def _answer(summary: Summary, source: Provenance, tables: Sequence[Table]) -> Part:
    return Part(
        Section.ANSWER,
        " ".join([_time(summary), *_met(summary), *_busiest(summary, source)]),
        facts=tuple(_facts(summary))[:_MOST_FACTS],
        tables=tuple(_tidy(one) for one in tables if one.title != "T_total" or len(one.rows) > 1),
        notes=(f"± and [ ] are {100 * summary.confidence:g} % intervals over {_replications(summary)}.",),
        warnings=doubts(summary, source),
        opened=_objectives(summary),
    )


def _replications(summary: Summary) -> str:
    if summary.replications == 1:
        return "batches of the one replication"
    return f"{summary.replications} replications"


def _time(summary: Summary) -> str:
    """Return how long a task takes, and how much of that is coordination."""
    metrics = summary.metrics
    if math.isnan(metrics["response_time_mean"].value):
        return "No task was done, so that there is no T_total to tell."
    mean, tail = (show(metrics.get(f"response_time_{one}"), "s").text for one in ("mean", "p95"))
    share = show(metrics["coordination_share"], "share").text
    known = counted(metrics["response_time_mean"], summary)
    return f"A task takes {mean} on average, and 95 % of them at most {tail} ({known}). Coordination is {share} of T_total."


def _met(summary: Summary) -> Iterator[str]:
    """Yield which objectives are met."""
    if not summary.objectives:
        yield "The scenario has no objectives (`slo`) to be met."
        return
    by = {
        word: [_expression(one) for one in summary.objectives if one.verdict == word]
        for word in ("fail", "inconclusive", "pass")
    }
    said = {"fail": "Missed: {}.", "inconclusive": "Not resolved: {}.", "pass": "Met: {}."}
    yield " ".join(said[word].format(", ".join(names)) for word, names in by.items() if names)


def _busiest(summary: Summary, source: Provenance) -> Iterator[str]:
    """Yield the resource that is nearest to its limit, and the load at which it would be full."""
    rungs = ladder(summary)
    if not rungs:
        return
    first = rungs[0]
    said = f"The busiest resource is {first.name}, {show(first.used, 'share').text} of its capacity"
    if first.asked.value >= _FULL:
        yield f"{said}: it is full, and takes no more load."
    elif source.rate is None or first.factor is None:
        yield f"{said}."
    else:
        yield f"{said}: it would be full at {show(first.factor, '').text} times the load, if tasks ask for as much each."


def _facts(summary: Summary) -> Iterator[tuple[str, str, str]]:
    """Yield headline figures, each quantity once: objectives first."""
    asked = {one.metric for one in summary.objectives}
    for one in summary.objectives:
        unit = unit_of_objective(one.metric)
        beside = _margin(one)
        label = f"{_expression(one)} ({beside})" if beside else _expression(one)
        yield label, show(one.estimate, unit).text, one.verdict
    metrics = summary.metrics
    for name, label in _TIMES.items():
        if name in asked:
            continue
        yield label, show(metrics.get(f"response_time_{name}"), "s").text, ""
    yield "Coordination, of T_total", show(metrics["coordination_share"], "share").text, ""
    cost = summary.facts.get("cost")
    if cost is not None and cost.value > 0 and "cost" not in asked:
        yield "Cost of a task", show(cost, "USD").text, ""
    for name, label in _SERVICE.items():
        if name in metrics and name not in asked and (summary.objectives or name not in _ONLY_WITH_OBJECTIVES):
            yield label, show(metrics[name], unit_of(name)).text, ""


# ---------------------------------------------------------------------------------------------------------------------
# Objectives


def _expression(one: Judged) -> str:
    return f"{one.metric} {_SIGNS[one.sense]} {plain(one.threshold, unit_of_objective(one.metric), 4)}"


def _margin(one: Judged) -> str:
    """Return the margin in words; of a share in points, since no share exceeds 100 %."""
    share = one.margin
    if math.isnan(share):
        return ""
    return f"{_size(one, abs(share))} {'within' if share >= 0 else 'beyond'}"


def _size(one: Judged, share: float) -> str:
    if unit_of_objective(one.metric) != "share":
        return _percent(share)
    points = 100 * abs(one.estimate.value - one.threshold)
    told = f"{points:.2g}" if points < 100 * ROUGH else f"{points:.3g}"
    return f"{told} point{'s' * (told != '1')}"


def _percent(share: float) -> str:
    return plain(share, "share", 2 if abs(share) < ROUGH else 3)


def _objectives(summary: Summary) -> tuple[Table, ...]:
    rows = tuple(
        (
            _expression(one),
            show(one.estimate, unit_of_objective(one.metric)).text,
            _margin(one) or NOTHING,
            one.verdict,
        )
        for one in summary.objectives
    )
    if not rows:
        return ()
    note = (
        "Margin: how far within its threshold the value is, as a share of the threshold; of a share, in points. "
        "The verdict takes the whole interval: inconclusive where the threshold lies inside of it."
    )
    return (Table("Objectives", ("objective", "found", "margin", "verdict"), "<<><", rows, note),)
