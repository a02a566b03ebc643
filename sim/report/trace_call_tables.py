"""What a trace says of its calls: how long they take and what of a task, what failed, how much ran at once, how prompts grow.

`every` gives all rows, for a page; without it tables are of few rows, as the terminal shows them.

Leaves out: time by category and gaps (`trace_tables`).
Checked: tests/test_trace_tables.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..analysis.trace_digest import Calls, TraceDigest
from .layout import Table, without_empty
from .numbers import plain, show, wide
from .trace_layout import KINDS, MANY, bare, label, text_of

__all__ = ["call_tables", "error_tables", "parallel_table", "turn_table"]

MOST_CALLS, MOST_AGENTS, MOST_FAILED = 8, 3, 5
ONE, HARDLY = 1.001, 1.05  # at once: above it calls overlap; below it they hardly do
_TURNS = (1, 5, 10, 30, 100)


def call_tables(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield how long calls take, what they take of a task, and their tokens, by model, tool and agent; of the longest on the path first."""
    shown, more = _shown(found, every)
    if not shown:
        return
    if not every:
        one = found.run.summary.tasks.arrived == 1
        yield _of_one_task(shown, found, more) if one else _briefly(shown, found, more)
        yield from () if one else _token_table([each for each in shown if each.kind != "agent"])
        return
    rows = tuple((*_who(one), f"{one.calls:,}", *(bare(each, "s") for each in one.seconds.values())) for one in shown)
    quantiles = list(shown[0].seconds)
    note = f"seconds of a call{_stride(found)}{_of_agents(shown)}"
    yield Table("How long calls take", ("", "kind", "calls", *quantiles), "<<>" + ">" * len(quantiles), rows, note)
    rows = tuple(
        (
            *_who(one), plain(one.per_task.value, ""), f"{one.errors:,}" if found.few else bare(one.error_rate, "share"),
            bare(one.critical, "s"), bare(one.share, "share"),
        )
        for one in shown
    )  # fmt: skip
    note = f"on the path: seconds a task on its critical path{_of_agents(shown)}"
    columns = ("", "kind", "calls a task", "failed", "on the path", "of T_total")
    yield Table("What calls take of a task", columns, "<<>>>>", rows, note)
    yield from _token_table(shown)


def _token_table(shown: Sequence[Calls]) -> Iterator[Table]:
    counts = [one for one in shown if one.tokens]
    if counts:
        rows = tuple((*_who(one), *_tokens(one)) for one in counts)
        made = Table("Tokens of a call (mean)", ("", "kind", "new", "cached", "output"), "<<>>>", rows)
        yield without_empty(made, 2)


def _briefly(shown: Sequence[Calls], found: TraceDigest, more: str) -> Table:
    """Return the calls of many tasks in one table."""
    done = found.run.summary.tasks.done
    rows = tuple(
        (
            *_who(one), f"{one.calls:,}", *_seconds(one), _failed(one, found),
            plain(one.critical.value, "s") if done else "", plain(one.share.value, "share") if done else "",
        )
        for one in shown
    )  # fmt: skip
    columns = ("", "kind", "calls", "mean", "p95", "failed", "on the path", "of T_total")
    note = f"mean, p95: seconds of a call{_stride(found)}"
    note += "; on the path: seconds a task on its critical path" if done else ""
    return without_empty(Table("Calls", columns, "<<" + ">" * 6, rows, f"{note}{_of_agents(shown)}{more}"), 3)


def _failed(one: Calls, found: TraceDigest) -> str:
    if not found.harm.failed:
        return ""
    return f"{one.errors:,}" if found.few else plain(one.error_rate.value, "share", 2)


def _of_one_task(shown: Sequence[Calls], found: TraceDigest, more: str) -> Table:
    """Return the calls of a single task in one table."""
    done = found.run.summary.tasks.done
    rows = tuple(
        (
            *_who(one), f"{one.calls:,}", f"{one.errors:,}" if found.harm.failed else "", plain(one.seconds["mean"].value, "s"),
            plain(one.critical.value, "s") if done else "", plain(one.share.value, "share") if done else "", *_tokens(one),
        )
        for one in shown
    )  # fmt: skip
    columns = ("", "kind", "calls", "failed", "mean", "on the path", "of T_total", "new", "cached", "output")
    note = "on the path: seconds on the critical path" if done else ""
    note += "; new, cached, output: tokens of a call, mean" if any(one.tokens for one in shown) else ""
    note = f"{note}{_of_agents(shown)}{more}".removeprefix("; ")
    return without_empty(Table("Calls", columns, "<<" + ">" * 8, rows, note), 3)


def _of_agents(shown: Sequence[Calls]) -> str:
    return "; an agent's are those of the calls that it made" if any(one.kind == "agent" for one in shown) else ""


def _shown(found: TraceDigest, every: bool) -> tuple[list[Calls], str]:
    """Return the components and agents that a table has, and words on those that it has not; an agent that made all calls is not told."""
    agents = [one for one in found.calls if one.kind == "agent" and one.component]
    agents = [one for one in agents if len(agents) > 1 or one.calls < found.harm.calls]
    others = [one for one in found.calls if one.kind != "agent"]
    if every:
        return [*others, *agents][:MANY], ""
    few = agents[: max(MOST_AGENTS, MOST_CALLS - len(others))]
    most = others[: MOST_CALLS - len(few)]
    left = len(others) + len(agents) - len(most) - len(few)
    return [*most, *few], f"; and {left:,} smaller" if left else ""


def _who(one: Calls) -> tuple[str, str]:
    return label(one.component), KINDS.get(one.kind, one.kind)


def _seconds(one: Calls) -> Iterator[str]:
    for name in ("mean", "p95"):
        yield bare(one.seconds[name], "s") if name == "mean" else plain(one.seconds[name].value, "s")


def _tokens(one: Calls) -> Iterator[str]:
    for name in ("new", "cached", "output"):
        yield show(one.tokens[name], "").value if name in one.tokens else ""


def _stride(found: TraceDigest) -> str:
    return f" of one task in {found.stride}" if found.stride > 1 else ""


def error_tables(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield what failed, and how tasks with errors differ."""
    harm = found.harm
    if not harm.failed:
        return
    shown = harm.rows[: MANY if every else MOST_FAILED]
    again = any(one.retried for one in shown)
    rows = tuple(
        (
            label(one.component), KINDS.get(one.kind, one.kind), one.error, f"{one.calls:,}", f"{one.tasks:,}", f"{one.retried:,}" if again else "",
            plain(one.seconds, "s"), plain(one.critical, "s"),
        )
        for one in shown
    )  # fmt: skip
    left = harm.rows[len(shown) :]
    note = f"seconds: of all of them{_stride(found)}{'; retried: the same was called again at once' if again else ''}"
    note += f"; and {sum(one.calls for one in left):,} failed calls of other kinds" if left else ""
    columns = ("", "kind", "error", "calls", "tasks", "retried", "seconds", "on the path")
    yield without_empty(Table("Calls that failed", columns, "<<<>>>>>", rows, note), 3)
    tasks = found.run.summary.tasks
    cost = [("calls that failed", f"{harm.failed:,} of {harm.calls:,}")]
    if tasks.done and tasks.arrived > 1:
        cost += [("tasks done with a failed call", f"{harm.with_error:,} of {harm.with_error + harm.without:,}")]
    if tasks.done:
        a_task = " a task" if tasks.done > 1 else ""
        cost += [(f"seconds{a_task} in failed calls, on the path", bare(harm.critical, "s"))]
        cost += [(f"seconds{a_task} waiting to try again", one) for one in _waiting(found)]
    cost += _lost_tasks(found)
    note = ""
    if harm.seconds.resolved:  # fewer tasks cannot tell a difference
        cost += [
            ("T_total with a failed call, less without", show(harm.seconds, "s", wide(harm.seconds)).text),
            ("model calls with a failed call, less without", show(harm.turns, "", wide(harm.turns)).text),
        ]
        note = "the differences are an association: longer tasks have more calls that can fail"
    yield Table("What errors cost", ("", "found"), "<<", tuple(cost), note)


def _lost_tasks(found: TraceDigest) -> Iterator[tuple[str, str]]:
    """Yield how many tasks failed, and how much of the time of all tasks was spent on them; nothing where none did."""
    tasks = found.run.summary.tasks
    for one in found.ended:
        if one.status == "failed":
            seconds = one.mean * one.tasks
            share = seconds / found.wall if found.wall > 0 else 0.0
            yield "tasks that failed", f"{one.tasks:,} of {tasks.arrived:,}"
            yield "time of tasks that failed", f"{plain(seconds, 's')} ({plain(share, 'share')} of all tasks' time)"


def _waiting(found: TraceDigest) -> Iterator[str]:
    """Yield the seconds a task between failed calls and the next attempts; nothing where there are none."""
    waits = [one.seconds for one in found.run.summary.components if (one.category, one.name) == ("recovery", "backoff")]
    if len(waits) == 1 and waits[0].value > 0:
        yield bare(waits[0], "s")
    elif waits and sum(one.value for one in waits) > 0:
        yield plain(math.fsum(one.value for one in waits), "s")


def parallel_table(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield how much ran at once, and beside the critical path; nothing where calls never did, or hardly ever, unless `every` table is told."""
    if found.run.summary.tasks.arrived == 1 and not every:
        return
    least = ONE if every else HARDLY
    if not any(one.width.value >= least for one in found.parallel):
        return
    rows = [
        (
            KINDS.get(one.kind, one.kind) if one.kind else "all calls",
            plain(one.width.value, "") if found.few else bare(one.width, ""),
            text_of(found.few, one.busy, "share"),
        )
        for one in found.parallel
    ]
    note = "at once: seconds of calls over the seconds in which any was under way; under way: of T_total"
    beside = found.run.summary.metrics["overlapped_mean"]
    note += f"; beside the critical path: {text_of(found.few, beside, 's')} of work a task" if beside.value > 0 else ""
    yield Table("What runs at once", ("calls", "at once", "under way"), "<<<", tuple(rows), note)


def turn_table(found: TraceDigest, every: bool = False) -> Iterator[Table]:
    """Yield how the prompt grows with the calls of a task: of some turns, or of `every` one; nothing where there is one alone."""
    turns = found.context.turns
    if len(turns) < 2:
        return
    last = turns[-1].number
    shown = [one for one in turns if every or one.number == last or (one.number in _TURNS and one.number < 0.9 * last)]
    cached = any(one.cached.value > 0 for one in turns)
    rows = tuple(
        (
            str(one.number),
            f"{one.tasks:,}",
            bare(one.prompt, ""),
            bare(one.cached, "") if cached else "",
            bare(one.output, "") if math.isfinite(one.output.value) else "",
        )
        for one in shown
    )
    growth = found.context.growth
    note = "by the task's main agent; later calls are of the tasks that have so many"
    if math.isfinite(growth.value):
        note += f"; from one call to the next the prompt grows by {text_of(found.few, growth, 'tokens')}"
    if cached:
        note += f"; of all prompts {text_of(found.few, found.context.cached, 'share')} come from the cache"
    made = Table("Tokens by turn", ("call", "tasks", "prompt", "of it cached", "output"), ">>>>>", rows, note)
    yield without_empty(made, 3)
