"""What a report says: the answer, where the time goes, resources, work per task, service, and the self-check.

Leaves out: how it looks (`layout`), and warnings, which go beside the report.
Checked: tests/test_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..analysis.slo import PASS_AT
from ..analysis.statistics import Estimate, LittlesLaw, mean_interval
from ..analysis.summary import Component, Judged, Part, Resource, Summary
from ..engine import units
from .layout import Report, Table, bar, without_empty
from .numbers import counted as tasks_counted
from .numbers import plain, show, unit_of, unit_of_objective
from .reliability_tables import WRONG, reliability_answer, reliability_tables

BAR = 24
MOST_COMPONENTS = 8
CHANCES = ("mean", "p50", "p95", "p99")
FACTS = {
    "steps": "steps",
    "llm_calls": "model calls",
    "llm_errors": "model errors",
    "tool_calls": "tool calls",
    "tool_errors": "tool errors",
    "retries": "retries",
    "new_tokens": "tokens, new",
    "carried_tokens": "tokens, prefilled again",
    "cached_tokens": "tokens, from cache",
    "output_tokens": "tokens, output",
    "messages": "messages",
    "bytes": "sent",
    "cost": "cost",
    "straggler_excess": "straggler excess",
    "straggler_coordination": "straggler excess, coordination",
    "ttft": "time to first token, all calls",
    "wrong_guesses": "wrong guesses",
    "ttfa": "time to first audio",
    "pieces": "pieces of streams",
    "late_pieces": "pieces, late",
    "lost_pieces": "pieces, lost",
    "degraded": "inputs gone without",
    "barge_ins": "barge-ins",
    "agent_messages": "messages between agents",
    "state_bytes": "state written",
    "timeouts": "timeouts",
    "hedges": "hedges",
    "fallbacks": "fallbacks",
    "escalations": "escalations to a person",
    "wasted": "service wasted",
    "duplicates": "effects that happened twice",
    "restarts": "restarts",
    "compensations": "calls taken back",
    "wrong": "wrong results, never found",
}


@dataclass(frozen=True, slots=True)
class About:
    """What a summary does not hold: the question of the scenario, and its runtime in words."""

    question: str = ""
    runtime: str = ""


def report(summary: Summary, about: About, blocks: tuple[tuple[str, ...], ...] = ()) -> Report:
    """Return the report of a summary; `blocks` are put after its tables."""
    tables: list[Table | None] = [
        _times(summary),
        category_table(summary),
        component_table(summary),
        _resources(summary),
        *_servers(summary),
        work_table(summary),
    ]
    tables += [_service(summary), _objectives(summary), failure_table(summary), *reliability_tables(summary)]
    return Report(
        _heading(summary, about),
        " ".join(part for part in (answer(summary), reliability_answer(summary)) if part),
        tuple(table for table in tables if table is not None and table.rows),
        tuple(_notes(summary)),
        blocks,
    )


def counted(estimate: Estimate, summary: Summary) -> str:
    """Return '95 %, 10 replications', or '95 %, 142 tasks' of tasks that were measured."""
    if summary.measured:
        sure = f"{100 * estimate.confidence:g} %, " if estimate.resolved else ""
        return sure + tasks_counted(summary.tasks.done, "task")
    noun = "replication" if summary.replications == 1 else "replications"
    return f"{100 * estimate.confidence:g} %, {summary.replications} {noun}"


def answer(summary: Summary) -> str:
    """Return the sentence that names the largest part of T_total.

    The share's interval is in percentage points.
    """
    parts = {name: part for name, part in summary.categories.items() if part.share.value > 0}
    total = summary.metrics["response_time_mean"]
    if math.isnan(total.value):
        return "No task was done, so T_total has no parts."
    if not parts:
        return "T_total is 0: nothing that a task does takes any time."
    name, *others = sorted(parts, key=lambda one: parts[one].share.value, reverse=True)
    part = parts[name]
    seconds = f"{show(part.seconds, 's').value} of {show(total, 's').value}"
    if others and not _is_larger(summary, name, others[0]):
        return (
            f"The largest part of T_total is {name} or {others[0]}: {show(part.share, 'share').text} and "
            f"{show(parts[others[0]].share, 'share').text} ({counted(total, summary)}); which is larger is not resolved."
        )
    return f"The largest part of T_total is {name}: {seconds} ({show(part.share, 'share').text}, {counted(total, summary)})."


def _is_larger(summary: Summary, first: str, second: str) -> bool:
    """Whether one category takes longer than another: by their differences in each replication, where there are any."""
    one, other = (summary.samples.get(f"{name}_mean", ()) for name in (first, second))
    if len(one) > 1 and len(one) == len(other):
        return mean_interval([a - b for a, b in zip(one, other, strict=True)], summary.confidence).low > 0
    return summary.categories[first].share.low > summary.categories[second].share.high


def _heading(summary: Summary, about: About) -> tuple[str, ...]:
    tasks, warmup = summary.tasks, summary.warmup
    what = f"{summary.scenario}: {about.question}" if about.question else summary.scenario
    replications = f"{summary.replications} replication{'' if summary.replications == 1 else 's'}"
    became = [
        f"{count:,} {word}" for count, word in ((tasks.failed, "failed"), (tasks.unfinished, "unfinished")) if count
    ]
    wrong = f" ({summary.reliability.wrong:,} of them wrong)" if summary.reliability.wrong else ""
    became = [f"{tasks.done:,} done{wrong}", *became] if became or wrong else []
    ended = ", ".join(became) if became else "all done"
    how = [f"runtime {about.runtime}"] if about.runtime else []
    how += [f"seed {summary.seed}", replications, f"{tasks.arrived:,} tasks ({ended})"]
    if warmup.tasks:
        cut = f"warm-up of {units.format(warmup.seconds, units.DURATION, 2)} ({warmup.tasks:,.0f} tasks) cut off each"
        how.append(cut + (" (MSER-5)" if warmup.mode == "auto" else ""))
    return what, "; ".join(how)


def _times(summary: Summary) -> Table:
    """T_total of all tasks, and of each class where there are several."""
    named = {"tasks done" if summary.tasks.failed or summary.tasks.unfinished else "all tasks": summary.metrics}
    if len(summary.classes) > 1:
        named |= dict(summary.classes)
    rows = [
        (name, *(show(metrics.get(f"response_time_{one}"), "s").text for one in CHANCES))
        for name, metrics in named.items()
    ]
    return Table("T_total", ("", *CHANCES), "<<<<<", tuple(rows))


def category_table(summary: Summary) -> Table:
    """Return what T_total is made of; without rows where it has no parts."""
    present = {name: part for name, part in summary.categories.items() if part.seconds.value > 0}
    rows = [_part(name, part) for name, part in present.items()]
    metrics = summary.metrics
    whole = metrics["response_time_mean"]
    coordination = Part(metrics["coordination_mean"], metrics["coordination_share"])
    useful = [metrics.get(f"coordination_without_tool_execute_{one}") for one in ("mean", "share")]
    if present:
        rows.append(_part("T_coordination", coordination, drawn=False))
        if useful[0] is not None and useful[1] is not None:
            rows.append(_part("  without tool.execute", Part(useful[0], useful[1]), drawn=False))
        rows += [
            (f"  {text}", *_two(metrics[name], "s"), "", "", "")
            for name, text in _STRAGGLERS.items()
            if name in metrics and metrics["straggler_excess_mean"].value > 0
        ]
        rows.append(("T_total", *_two(whole, "s"), "", "", ""))
    absent = [name for name in summary.categories if name not in present]
    note = f"nothing in: {', '.join(absent)}" if absent and present else ""
    columns = ("category", "mean", "", "share", "", "")
    return Table("Where the time goes (mean per task, on the critical path)", columns, "<><><<", tuple(rows), note)


_STRAGGLERS = {"coordination_without_stragglers_mean": "without straggler excess"}


def _part(name: str, part: Part, drawn: bool = True) -> tuple[str, ...]:
    picture = bar(part.share.value, BAR) if drawn else ""
    return (name, *_two(part.seconds, "s"), *_two(part.share, "share"), picture)


def _two(estimate: Estimate, unit: str) -> tuple[str, str]:
    shown = show(estimate, unit)
    return shown.value, shown.error


def component_table(summary: Summary) -> Table:
    """Return the components that take longest; without rows where none takes any time."""
    found = sorted(summary.components, key=lambda one: (-_zero(one.seconds), one.category, one.component, one.name))
    shown = [one for one in found if one.seconds.value > 0]
    rows = [
        (one.component, _doing(one), one.category, *_two(one.seconds, "s"), *_two(one.share, "share"))
        for one in shown[:MOST_COMPONENTS]
    ]
    left = len(shown) - len(rows)
    note = f"and {left} smaller" if left else ""
    columns = ("component", "doing", "category", "mean", "", "share", "")
    return Table("The largest components", columns, "<<<><><", tuple(rows), note)


def _doing(one: Component) -> str:
    return "" if one.name == one.category else one.name


def _zero(estimate: Estimate) -> float:
    return 0.0 if math.isnan(estimate.value) else estimate.value


def _resources(summary: Summary) -> Table:
    rows = tuple(_resource(one) for one in summary.resources if one.kind != SERVER)
    columns = ("resource", "kind", "capacity", "utilization", "mean wait", "queue length", "refused")
    return without_empty(Table("Resources", columns, "<<><<<<", rows), 4)


def _resource(one: Resource) -> tuple[str, ...]:
    capacity = "" if one.kind == "link" else "no limit" if one.capacity is None else f"{one.capacity:g}"
    return (
        one.name,
        one.kind,
        capacity,
        *_metrics(one, ("utilization", "waiting_time", "queue_length", "rejected")),
    )


def _metrics(one: Resource, names: Iterable[str]) -> Iterator[str]:
    """Yield metrics of a resource as text; nothing for those its kind does not have, or that are told only if they happen."""
    for name in names:
        found = one.metrics.get(name)
        told = found is not None and (name not in _IF_ANY or found.value > 0)
        yield show(found, unit_of(name)).text if told else ""


SERVER = "server"
_IF_ANY = ("rejected", "preemptions_per_call", "evicted_blocks_per_call", "lower_tier_hit_share")
_OF_SERVERS = {
    "Inference servers": {
        "replicas": "replicas",
        "device busy": "device_busy_share",
        "batch": "batch_mean",
        "TTFT": "ttft_mean",
        "TPOT": "tpot_mean",
        "mean wait": "waiting_time",
        "queue length": "queue_length",
        "refused": "rejected",
    },
    "Inference servers: prompts, and memory for KV": {
        "tokens found": "prefix_hit_share",
        "below the GPU": "lower_tier_hit_share",
        "calls with a hit": "requests_hit_share",
        "amplification": "prefill_amplification",
        "preempted": "preemptions_per_call",
        "evicted": "evicted_blocks_per_call",
        "KV in use": "kv_used_share",
        "KV cached": "kv_cached_share",
    },
}


def _servers(summary: Summary) -> Iterator[Table]:
    """Yield what inference servers did: batches and latencies; prompts, and the memory for their KV."""
    servers = [one for one in summary.resources if one.kind == SERVER]
    for title, metrics in _OF_SERVERS.items():
        rows = tuple((one.name, *_metrics(one, metrics.values())) for one in servers)
        yield without_empty(Table(title, ("server", *metrics), "<" * (1 + len(metrics)), rows), 1)


def work_table(summary: Summary) -> Table:
    """Return how much work a task is; without rows where that is not known."""
    rows = [
        (FACTS.get(name, name.replace("_", " ")), *_two(estimate, unit_of(name)))
        for name, estimate in sorted(summary.facts.items(), key=lambda item: _place(item[0]))
        if estimate.value > 0
    ]
    overlapped = summary.metrics.get("overlapped_mean")
    if overlapped is not None and overlapped.value > 0:
        rows.append(("overlapped work", *_two(overlapped, "s")))
    return Table("Work per task", ("", "mean", ""), "<><", tuple(rows))


def _place(name: str) -> int:
    order = list(FACTS)
    return order.index(name) if name in order else len(order)


def _service(summary: Summary) -> Table:
    names = {
        "success": "success",
        "attainment": "SLO attainment",
        "arrival_rate": "arrival rate",
        "throughput": "throughput",
        "goodput": "goodput",
        "number_in_system": "number in system",
        **{name: f"pass^{k}" for name, k in PASS_AT.items()},
    }
    rows = [
        (text, *_two(summary.metrics[name], unit_of(name)))
        for name, text in names.items()
        if name in summary.metrics and (summary.objectives or name not in ("attainment", "goodput"))
    ]
    return Table("Service", ("", "mean", ""), "<><", tuple(rows))


def _objectives(summary: Summary) -> Table | None:
    if not summary.objectives:
        return None
    rows = [_objective(one) for one in summary.objectives]
    if len(rows) > 1:
        rows.append(("all", "", "", "", summary.verdict or ""))
    return Table("SLO", ("objective", "", "found", "", "verdict"), "<<><<", tuple(rows))


def _objective(one: Judged) -> tuple[str, ...]:
    unit = unit_of_objective(one.metric)
    sense = {"<=": "≤", ">=": "≥"}[one.sense]
    return (one.metric, f"{sense} {plain(one.threshold, unit, 4)}", *_two(one.estimate, unit), one.verdict)


def failure_table(summary: Summary) -> Table | None:
    """Return why tasks failed; None where none did."""
    wrong = {WRONG: summary.reliability.wrong} if summary.reliability.wrong else {}
    failures = {**summary.failures, **wrong}
    if not failures:
        return None
    most = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    rows = tuple((reason, f"{count:,}") for reason, count in most[:MOST_COMPONENTS])
    left = sum(count for _, count in most[MOST_COMPONENTS:])
    return Table("Why tasks failed", ("reason", "tasks"), "<>", rows, f"and {left:,} for other reasons" if left else "")


def _notes(summary: Summary) -> Iterator[str]:
    yield f"± is the {100 * summary.confidence:g} % interval{_from(summary)}."
    if summary.precision is not None:
        found = summary.precision
        word = "reached" if found.reached else "not reached"
        yield (
            f"Precision of {100 * found.target:g} % {word}: the worst, {found.worst}, is known within "
            f"{100 * found.relative_error:.2g} %."
        )
    if not summary.measured:
        yield _self_check(summary.little)


def _self_check(little: LittlesLaw) -> str:
    """Return what Little's law says, on whole runs: both sides are counted apart, so a gap is a mistake somewhere."""
    gap = 100 * abs(little.gap)
    found = f"{little.observed:.4g} tasks in the system on average, arrival rate × mean time is {little.expected:.4g}"
    return f"Little's law: {found} ({'they agree' if gap < 1e-6 else f'{gap:.2g} % apart'})."


def _from(summary: Summary) -> str:
    if summary.measured:
        return f" over {tasks_counted(summary.tasks.done, 'task')}, as independent ones"
    return (
        f" over {summary.replications} replications" if summary.replications > 1 else ", from batches of one long run"
    )
