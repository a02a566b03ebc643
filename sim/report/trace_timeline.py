"""The waterfall of a measured task: the timeline of a run's task, with time that no span explains where it lies, as `?`, and names that fit.

Of a task with many spans the longest are drawn, with what they are in; those left out are counted in their place.

Leaves out: finding the task (`tasks`).
Checked: tests/test_trace_tables.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..analysis.result import TaskView
from ..analysis.trace_calls import CallLike, slack
from ..engine import units
from ..engine.ledger import STRUCTURE, UNEXPLAINED, Span
from .numbers import counted, plain
from .timeline import BAR, timeline
from .trace_layout import label, show_command

__all__ = ["LIMIT", "shortened", "waterfall"]

LIMIT = 60  # rows of a task, about
_SAID = ("chat", "embeddings", "tool.execute")  # the category says it
_SMALL = 1 / (4 * BAR)  # of T_total: a gap that would be no quarter of a mark
_SAME = 1e-6  # by which sizes for each second of two parts of one call may differ, relative


def waterfall(
    view: TaskView, title: str = "", calls: Sequence[CallLike] = (), limit: int | None = None, by: str = "trace"
) -> tuple[str, ...]:
    """Return the lines of a measured task's timeline; gaps too short to be seen are counted below it.

    `calls` are those of the task, for their tokens and errors; with a `limit` about so many rows are drawn. A task is a trace or a session, as `by` says.
    """
    least = _SMALL * view.response_time
    gaps = [one for one in view.spans if one.category == UNEXPLAINED]
    short = [one for one in gaps if one.end - one.start < least]
    hidden = {one.id for one in short}
    spans, beside = _whole([one for one in view.spans if one.id not in hidden])
    placed = sorted(_placed(spans), key=lambda one: (one.start, -one.end, one.id))
    above = {one.id: one.component for one in placed}
    named = replace(view, spans=tuple(_named(one, above.get(one.parent, "")) for one in placed))
    drawn = named if limit is None else shortened(named, limit)
    lines = timeline(drawn, title, marks=_marks(placed, calls, beside))
    if len(drawn.spans) < len(named.spans):
        lines = (
            *lines,
            f"  the longest of {len(named.spans):,} rows; all: `{show_command(view.task, by)} --all`",
        )
    if not short:
        return lines
    seconds = plain(math.fsum(one.end - one.start for one in short), "s")
    return (*lines, f"  not drawn: {counted(len(short), 'gap')} that no span explains, {seconds} in all")


def _whole(spans: Sequence[Span]) -> tuple[list[Span], dict[int, float]]:
    """Return spans with the parts of each call as one again, and of such a call the seconds that lie beside the critical path, by id."""
    found: list[Span] = []
    beside: dict[int, float] = {}
    last: dict[tuple[int, int, str, str, str], int] = {}  # by lane, parent and account: its place in `found`
    for one in spans:
        key = one.lane, one.parent, one.category, one.component, one.name
        at = last.get(key)
        if at is not None and one.category != STRUCTURE and _goes_on(found[at], one, beside):
            before = found[at]
            seconds = beside.get(before.id, 0.0 if before.critical else before.end - before.start)
            beside[before.id] = seconds + (0.0 if one.critical else one.end - one.start)
            found[at] = replace(before, end=one.end, size=before.size + one.size, critical=True)
        else:
            last[key] = len(found)
            found.append(one)
    return found, beside


def _goes_on(before: Span, one: Span, beside: Mapping[int, float]) -> bool:
    """Whether a span is the next part of a call that was cut where it came onto the critical path or left it."""
    if before.end != one.start or (before.critical == one.critical and before.id not in beside):
        return False
    first, second = before.size * (one.end - one.start), one.size * (before.end - before.start)
    return before.lost == one.lost and abs(first - second) <= _SAME * max(first, second)


def _marks(spans: Sequence[Span], calls: Sequence[CallLike], beside: Mapping[int, float]) -> dict[int, str]:
    """Return what is said behind the bars, by span: tokens in and out, the error, and what lies beside the critical path."""
    known = {(one.component, one.start, one.end): one for one in calls}
    found = {}
    for span in spans:
        call = known.get((span.component, span.start, span.end)) if span.category in ("inference", "tool") else None
        said = [*_sizes(span, call), *([f"failed: {call.error}"] if call is not None and call.error else [])]
        if said or span.id in beside:
            said += ["lost"] if span.lost else []
            end = "" if span.critical else " (overlapped)"
            end = f" ({plain(beside[span.id], 's')} of it overlapped)" if span.id in beside else end
            found[span.id] = f"{', '.join(said)}{end}".strip()
    return found


def _sizes(span: Span, call: CallLike | None) -> Iterator[str]:
    """Yield the tokens of a call of a model, in and out, as far as they are known; of another its bytes."""
    if span.category == "tool" and span.size:
        yield units.format(float(round(span.size)), units.SIZE)
    elif call is not None and span.category == "inference":
        put_in = 0.0 if math.isnan(call.input) else call.input
        if put_in:
            yield f"{units.format(put_in, units.TOKENS)} in"
        if math.isfinite(call.output) and call.output:
            yield f"{round(call.output):,}{'' if put_in else ' tokens'} out"


def shortened(view: TaskView, limit: int = LIMIT) -> TaskView:
    """Return a task with about `limit` rows: the longest spans and what they are in; a row in place of others counts them."""
    if len(view.spans) <= limit:
        return view
    most = limit
    shown = _rows(view.spans, most)
    while len(shown) > limit and most > 1:
        most = 9 * most // 10
        shown = _rows(view.spans, most)
    return replace(view, spans=tuple(shown))


def _rows(spans: Sequence[Span], most: int) -> list[Span]:
    """Return the longest spans and what they are in, at `most` so many, with rows in place of the others."""
    kept = _longest(spans, most)
    below: dict[int, list[Span]] = {}
    for one in spans:
        below.setdefault(one.parent, []).append(one)
    shown: list[Span] = []
    for parent, children in below.items():
        if parent and parent not in kept:
            continue
        left: list[Span] = []
        for one in children:
            if one.id in kept:
                shown += _rest(left, below, -len(shown) - 1)
                left = []
                shown.append(one)
            else:
                left.append(one)
        shown += _rest(left, below, -len(shown) - 1)
    return shown


def _longest(spans: Sequence[Span], most: int) -> set[int]:
    """Return the ids of the longest spans that are no groups, and of the groups around them."""
    parents = {one.id: one.parent for one in spans}
    kept: set[int] = set()
    for one in sorted(spans, key=lambda one: (one.category == STRUCTURE, one.start - one.end, one.id)):
        chain: list[int] = []
        at = one.id
        while at in parents and at not in kept and len(chain) <= most:
            chain.append(at)
            at = parents[at]
        if len(kept) + len(chain) <= most:
            kept.update(chain)
        if len(kept) == most:
            break
    return kept


def _rest(left: Sequence[Span], below: Mapping[int, Sequence[Span]], number: int) -> Iterator[Span]:
    """Yield a row in place of spans that are left out, and of what is in them."""
    if not left:
        return
    if len(left) == 1 and left[0].id not in below:  # a row of its own takes no more room
        yield left[0]
        return
    every = list(left)
    for one in every:  # which grows: what is in them, too
        every += below.get(one.id, ())
    inner = [one for one in every if one.category != STRUCTURE]
    first, end = min(one.start for one in left), max(one.end for one in left)
    seconds = plain(math.fsum(one.end - one.start for one in inner), "s")
    name = f"… {len(inner) or len(every):,} shorter, {seconds}"
    yield replace(
        left[0],
        id=number,
        name=name,
        category=STRUCTURE,
        component="",
        start=first,
        end=end,
        size=0.0,
        critical=True,
        lost=False,
    )


def _placed(spans: Sequence[Span]) -> Iterator[Span]:
    """Yield spans, those that stand for a gap below the innermost group in which it lies."""
    groups = sorted((one for one in spans if one.category == STRUCTURE), key=lambda one: (one.start, -one.end))
    starts = [one.start for one in groups]
    for span in spans:
        if span.category != UNEXPLAINED and (span.category, span.name) != ("recovery", "backoff"):
            yield span
            continue
        least = slack(span.end)
        before = groups[: bisect_right(starts, span.start + least)]
        inner = next((one.id for one in reversed(before) if one.end >= span.end - least), span.parent)
        yield replace(span, parent=inner)


def _named(span: Span, above: str) -> Span:
    """Return a span with a name that says nothing twice, and a whole size; `above` is the component of what it lies in."""
    name, component = span.name, span.component
    if span.category == UNEXPLAINED:
        name, component = "", "no span"
    elif name in _SAID or name == component:
        name = ""
    elif name == "step" and component == above:
        component = ""
    elif name == "invoke_agent":
        name = "agent"
    return replace(span, name=name, component=label(component) if component else "", size=float(round(span.size)))
