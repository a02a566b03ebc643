"""From the tree of a task to the ledger: whose each moment of its critical path was, and its spans in lanes.

A call of a model is inference as a whole: a trace does not tell what is inside of it. What no span explains is named so, `unexplained`. A
failed attempt that was made again is recovery, and so is the wait until the next.

Lane 0, the trunk, holds what belongs to no call. A call is in a lane of its agent's, the first that is free.

Leaves out: reading (`read`), and exports of coordsim's own (`stamped`).
Checked: tests/test_trace_book.py.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ..engine.ledger import DONE, FAILED, STRUCTURE, UNEXPLAINED, UNFINISHED, Account
from .calls import Roles, Turn, calls_of, over, roles_of, turns_of
from .measured import Booked, Call, Entry
from .observation import CALLS, SECOND, Observation
from .path import Inside, Stretch, covered, pieces_of, walk, worked
from .repair import ROOT, Tree
from .tally import Tally

__all__ = ["FACTS", "book"]

FACTS: Final = (
    "steps", "llm_calls", "tool_calls", "llm_errors", "tool_errors", "retries", "new_tokens", "cached_tokens", "output_tokens",
)  # fmt: skip
"""What is counted per task; after these `ttft` (s), that of its first call of a model, left out where it is not known."""

BETWEEN: Final = Account(UNEXPLAINED, "", "between spans")
THINK: Final = Account("human", "user", "think")
_GROUPS: Final = {
    "agent": "invoke_agent",
    "workflow": "workflow",
    "llm": "chat",
    "embedding": "embeddings",
    "retriever": "retrieval",
}
_TOOLS: Final = ("tool", "retriever")

Booking = tuple[Account, int, int, int]
"""A stretch of the critical path: account, lane, start and end (ns)."""


@dataclass(slots=True)
class _Task:
    """A task on its way to the ledger. `bears` are the spans that have time of their own whether critical or not."""

    tree: Tree
    roles: Roles
    base: int
    inside: Inside
    path: list[Stretch]
    bears: list[int]
    lanes: dict[int, int] = field(default_factory=dict)
    gaps: dict[int, list[tuple[int, int, str]]] = field(default_factory=dict)  # until the next attempt, by parent
    accounts: dict[tuple[object, ...], Account] = field(default_factory=dict)  # one of each, though many spans have it

    def at(self, moment: int) -> float:
        """Return a time in seconds on the ledger's clock."""
        return (moment - self.base) / SECOND


def book(
    tree: Tree, tally: Tally, *, base: int | None = None, by_session: bool = False, spans: bool = True
) -> tuple[Booked, Roles]:
    """Return a task for the ledger, whose clock is at 0 at `base` (ns; None: when the task begins), and what its spans are.

    With `by_session` the time between two traces is the user's. Without `spans` it has no entries, no edges and nothing lost. Raises TraceError
    where the critical path takes too many steps to find (`path.walk`).
    """
    start, end = min(tree.start), max(tree.end)
    roles = roles_of(tree, tally)
    inside = pieces_of(tree, roles.closed, worked(tree, roles.closed, roles.order))
    task = _Task(tree, roles, start if base is None else base, inside, walk(inside, start, end), [])
    bears = [at for at in range(len(tree.spans)) if _bears(tree, roles, at)]
    task.bears = sorted(bears, key=lambda at: (tree.start[at], at))  # a span that was moved may have changed places
    task.lanes = _lanes(task) if spans else {}
    for before, after in roles.retried.items():
        gap = tree.end[before], tree.start[after], tree.spans[before].component
        task.gaps.setdefault(tree.parent[before], []).append(gap)
    for gaps in task.gaps.values():
        gaps.sort()
    own = [0] * (len(tree.spans) + 1)  # the last is that of ROOT
    for at, first, last in task.path:
        own[at] += last - first if at not in roles.inside else max(0, min(last, over(tree, roles, at)) - first)
    work = sum(last - first for at in task.bears for first, last in _own(task, at))
    parts, thinking, bookings = _parts(_bookings(task, by_session=by_session), spans=spans)
    turns, places = turns_of(tree, roles)
    calls = calls_of(tree, roles, places, own, task.base, tally)
    entries, lost = _entries(task, bookings, turns) if spans else ([], [])
    status, failure = _status(tree, end)
    return Booked(
        arrival=task.at(start),
        end=task.at(end),
        task_class=_class_of(tree),
        parts=parts,
        entries=entries,
        edges=[(one, other, task.at(moment)) for one, other, moment in _edges(bookings, end)],
        lost=lost,
        status=status,
        failure=failure,
        overlapped=(work - sum(own[at] for at in task.bears)) / SECOND,
        facts=_facts(calls, turns),
        calls=_with_thinking(calls, thinking, task),
    ), roles


def _bears(tree: Tree, roles: Roles, at: int) -> bool:
    """Whether a span has time that is not its children's: a call, or an agent's own work."""
    kind = tree.spans[at].kind
    return kind in CALLS or at in roles.works


def _account(task: _Task, at: int) -> Account:
    """Return whose a span's own time is."""
    if at == ROOT:
        return BETWEEN
    span, roles = task.tree.spans[at], task.roles
    works = at in roles.works
    key = span.kind, span.component, span.name, at in roles.wrappers, at in roles.outer, at in task.tree.children, works
    found = task.accounts.get(key)
    if found is None:
        found = task.accounts[key] = _new_account(span, wraps=key[3], outer=key[4], holds=key[5], works=works)
    return found


def _new_account(span: Observation, *, wraps: bool, outer: bool, holds: bool, works: bool) -> Account:
    if span.kind in ("llm", "embedding"):
        if wraps:
            return Account("orchestration", span.component, "wrapper")
        return Account("inference", span.component, "chat" if span.kind == "llm" else "embeddings")
    if span.kind in _TOOLS:
        return Account("tool", span.component, "tool.invoke" if outer else "tool.execute")
    if span.kind == "human":
        return Account("human", span.component or "user", "human")
    if span.kind == "other" and not holds:
        name = span.component or span.name or "unnamed"
        return Account("orchestration", name, "span") if works else Account(UNEXPLAINED, name, "span of unknown kind")
    return Account(UNEXPLAINED, span.component or span.name, "inside")


def _lanes(task: _Task) -> dict[int, int]:
    """Give each span that bears time a lane: the lowest of its agent's that is free."""
    tree, free, busy = task.tree, dict[str, list[int]](), dict[str, list[tuple[int, int]]]()
    found: dict[int, int] = {}
    lanes = 0
    for at in task.bears:
        agent = task.roles.agents[at]
        idle, until = free.setdefault(agent, []), busy.setdefault(agent, [])
        while until and until[0][0] <= tree.start[at]:
            heapq.heappush(idle, heapq.heappop(until)[1])
        if not idle:
            lanes += 1
            idle.append(lanes)
        found[at] = heapq.heappop(idle)
        heapq.heappush(until, (tree.end[at], found[at]))
    return found


def _bookings(task: _Task, *, by_session: bool) -> Iterator[Booking]:
    """Yield the critical path as stretches of accounts and lanes, in order of time."""
    known = _presence(task.tree) if by_session else []
    for at, start, end in task.path:
        gaps = task.gaps.get(at)
        for account, lane, since, until in _owners(task, at, start, end):
            if gaps is None and not (at == ROOT and by_session):
                yield account, lane, since, until
                continue
            for first, last, waited in _cut(gaps or (), since, until):
                if waited is not None:
                    yield Account("recovery", waited, "backoff"), 0, first, last
                elif at == ROOT and by_session:
                    for one, other, there in _cut(known, first, last):
                        yield THINK if there is None else BETWEEN, 0, one, other
                else:
                    yield account, lane, first, last


def _owners(task: _Task, at: int, start: int, end: int) -> list[Booking]:
    """Return whose a stretch of a span's own time is: what a model's span does after the first call in it is not told."""
    account, roles = _account(task, at), task.roles
    if at in roles.retried:
        account = Account("recovery", account.component, "failed attempt")
    lane = task.lanes.get(at, 0)
    until = over(task.tree, roles, at) if at in roles.inside else end
    if until >= end:
        return [(account, lane, start, end)]
    span = task.tree.spans[at]
    rest = Account(UNEXPLAINED, span.component or span.name, "inside"), 0, max(start, until), end
    return [(account, lane, start, until), rest] if start < until else [rest]


def _presence(tree: Tree) -> list[tuple[int, int, str]]:
    """Return when any trace of a session was under way."""
    extents: dict[str, tuple[int, int]] = {}
    for at, span in enumerate(tree.spans):
        start, end = extents.get(span.trace, (tree.start[at], tree.end[at]))
        extents[span.trace] = min(start, tree.start[at]), max(end, tree.end[at])
    return [(start, end, "") for start, end in covered(extents.values())]


def _cut(marks: list[tuple[int, int, str]] | tuple[()], start: int, end: int) -> list[tuple[int, int, str | None]]:
    """Cut a stretch where disjoint `marks`, in order, begin and end; name the mark of each part, None where there is none."""
    found: list[tuple[int, int, str | None]] = []
    at = start
    for place in range(max(0, bisect_right(marks, (start, math.inf, "")) - 1), len(marks)):
        first, last, name = marks[place]
        first, last = max(first, at), min(last, end)
        if first >= end:
            break
        if last > first:
            if first > at:
                found.append((at, first, None))
            found.append((first, last, name))
            at = last
    if at < end:
        found.append((at, end, None))
    return found


def _parts(
    bookings: Iterator[Booking], *, spans: bool
) -> tuple[dict[Account, float], list[tuple[int, int]], list[Booking]]:
    """Return seconds by account, when a user thought (ns), and with `spans` all bookings.

    Seconds are summed in whole nanoseconds, so that nothing is rounded before the end.
    """
    sums: dict[Account, int] = {}
    thinking: list[tuple[int, int]] = []
    kept: list[Booking] = []
    for one in bookings:
        account, _, start, end = one
        sums[account] = sums.get(account, 0) + end - start
        if account is THINK:
            thinking.append((start, end))
        if spans:
            kept.append(one)
    return {account: total / SECOND for account, total in sums.items()}, thinking, kept


def _edges(bookings: list[Booking], end: int) -> list[tuple[int, int, int]]:
    """Return an edge for each time that the critical path goes from one lane to another, from the trunk and back to it."""
    edges = []
    lane = 0
    for _, own, start, _ in bookings:
        if own != lane:
            edges.append((lane, own, start))
        lane = own
    if lane:
        edges.append((lane, 0, end))
    return edges


def _entries(
    task: _Task, bookings: list[Booking], turns: list[Turn]
) -> tuple[list[Entry], list[tuple[int, int, int, Account]]]:
    """Return the spans of the task, and which of them were lost and to which account."""
    tree, roles = task.tree, task.roles
    steps = {at: len(tree.spans) + 1 + number for number, turn in enumerate(turns) for at in turn.calls}
    entries: list[Entry] = []
    lost: list[tuple[int, int, int, Account]] = []
    for at in task.bears:
        own = at + 1 if at in roles.inside else 0
        parent = own or steps.get(at) or _group(task, at)
        account = _account(task, at)
        for start, end in _own(task, at):
            if at in roles.retried:
                taker = Account("recovery", account.component, "failed attempt")
                lost.append((task.lanes[at], len(entries), len(entries) + 1, taker))
            entries.append((task.lanes[at], parent, account, task.at(start), task.at(end), _size(tree.spans[at]), 0))
    for account, lane, start, end in bookings:
        if not lane:
            entries.append((0, 0, account, task.at(start), task.at(end), 0.0, 0))
    entries += _structure(task, turns, steps)
    return entries, lost


def _own(task: _Task, at: int) -> list[tuple[int, int]]:
    """Return when a span was at work itself, and no call in it."""
    start, end = task.tree.start[at], over(task.tree, task.roles, at)
    items = task.inside.items(at)
    if not items:
        return [(start, end)]
    marks = [(first, last, "") for first, last in covered((first, last) for _, first, last in items)]
    return [(first, last) for first, last, inner in _cut(marks, start, end) if inner is None]


def _structure(task: _Task, turns: list[Turn], steps: dict[int, int]) -> list[Entry]:
    """Return the spans that only group others: agents, workflows, calls that hold calls, details of calls, and turns."""
    tree = task.tree
    bears = set(task.bears)
    lanes = _lanes_of_groups(task)
    found: list[Entry] = []
    for at, span in enumerate(tree.spans):
        if at in bears and at not in task.roles.inside:
            continue
        name = "execute_tool" if span.kind == "tool" else _GROUPS.get(span.kind, span.name or span.kind)
        account = Account(STRUCTURE, span.component or span.name, name)
        parent = steps.get(at) or _group(task, at)
        found.append((lanes.get(at, 0), parent, account, task.at(tree.start[at]), task.at(tree.end[at]), 0.0, at + 1))
    for number, turn in enumerate(turns):
        first = turn.calls[0]
        account = Account(STRUCTURE, turn.agent, "step")
        times = task.at(turn.start), task.at(turn.end)
        found.append((task.lanes[first], _group(task, first), account, *times, 0.0, len(tree.spans) + 1 + number))
    return found


def _lanes_of_groups(task: _Task) -> dict[int, int]:
    """Return for each group the lane of the first call in it; of a detail, that of its call."""
    lanes = dict(task.lanes)
    order = task.roles.order
    for at in order:
        parent = task.tree.parent[at]
        if at in task.roles.details and parent in lanes:
            lanes[at] = lanes[parent]
    starts = {at: task.tree.start[at] for at in lanes}
    for at in reversed(order):
        parent = task.tree.parent[at]
        if (
            at in starts
            and parent != ROOT
            and parent not in task.lanes
            and starts[at] <= starts.get(parent, starts[at])
        ):
            starts[parent] = starts[at]
            lanes[parent] = lanes[at]
    return lanes


def _group(task: _Task, at: int) -> int:
    """Return the id of the group in which a span lies, 0 for the task."""
    parent = task.tree.parent[at]
    while parent != ROOT and parent in task.lanes and parent not in task.roles.inside:
        parent = task.tree.parent[parent]
    return parent + 1


def _size(span: Observation) -> float:
    """Return tokens of a model's call, bytes of another."""
    if span.kind in ("llm", "embedding"):
        return (span.input_tokens or 0.0) + (span.output_tokens or 0.0)
    return (span.input_bytes or 0.0) + (span.output_bytes or 0.0)


def _status(tree: Tree, end: int) -> tuple[int, str]:
    """Return what became of the task, and why: as its last root says; a tool's error among others is not the task's."""
    roots = tree.children[ROOT]
    last = max(roots, key=lambda at: (tree.end[at], at in tree.unended, -at))
    span = tree.spans[last]
    if span.error and (len(roots) == 1 or span.kind not in (*_TOOLS, "human")):
        return FAILED, span.error
    if last in tree.unended and tree.end[last] >= end:
        return UNFINISHED, ""
    return DONE, ""


def _class_of(tree: Tree) -> str:
    """Return what the roots that are no calls are named, if that is one name; else ''."""
    names = {
        span.component or span.name for span in (tree.spans[at] for at in tree.children[ROOT]) if span.kind not in CALLS
    }
    return min(names) if len(names) == 1 else ""


def _facts(calls: list[Call], turns: list[Turn]) -> dict[str, float]:
    models = [one for one in calls if one.kind == "llm"]
    tools = [one for one in calls if one.kind in _TOOLS]
    facts: dict[str, float] = {
        "steps": len(turns),
        "llm_calls": len(models),
        "tool_calls": len(tools),
        "llm_errors": sum(bool(one.error) for one in models),
        "tool_errors": sum(bool(one.error) for one in tools),
        "retries": sum(one.retried for one in calls),
        "new_tokens": _total([one.new for one in models]),
        "cached_tokens": _total([one.cached for one in models]),
        "output_tokens": _total([one.output for one in models]),
    }
    if models and not math.isnan(models[0].first_token):
        facts["ttft"] = models[0].first_token
    return facts


def _total(values: list[float]) -> float:
    return math.fsum(value for value in values if not math.isnan(value))


def _with_thinking(calls: list[Call], thinking: list[tuple[int, int]], task: _Task) -> tuple[Call, ...]:
    """Return the calls, and the times in which a session waited for its user."""
    turn = max((one.turn for one in calls), default=-1) + 1
    batch = max((one.batch for one in calls), default=-1) + 1
    more = [
        Call("human", "user", "", task.at(start), task.at(end), turn + n, batch + n, critical=(end - start) / SECOND)
        for n, (start, end) in enumerate(thinking)
    ]
    return tuple(sorted([*calls, *more], key=lambda one: one.start)) if more else tuple(calls)
