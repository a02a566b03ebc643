"""One task, looked at: its spans as a tree with times, categories and bars, and the sum that equals T_total.

What ran beside the critical path is marked `(overlapped)`, work that a fault undid `lost`.

Leaves out: pictures (a trace viewer), and many tasks at once.
Checked: tests/test_report.py.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from ..analysis.result import TaskView, categories_of
from ..engine import units
from ..engine.ledger import STRUCTURE, UNEXPLAINED, Span
from .layout import WIDTH

BAR = 20
_LEAST_LABEL = 24
# What the size of a span counts, by its category or, for what groups others, its name.
_SIZES = {
    "communication": units.SIZE,
    "serialization": units.SIZE,
    "tool": units.SIZE,
    "inference": units.TOKENS,
    "context": units.TOKENS,
    "chat": units.TOKENS,
    "encode": units.SIZE,
}

Row = tuple[Span, str]


def timeline(
    view: TaskView, title: str = "", width: int = WIDTH, marks: Mapping[int, str] | None = None
) -> tuple[str, ...]:
    """Return the lines of a task's timeline: headline, tree, sum. `title` is put before the headline; `marks` are for spans, by id, in place of their own."""
    status = view.spans[0].status if view.spans else "done"
    headline = f"{title or f'task {view.task}'} ({view.task_class}): T_total {_time(view.response_time)}, {status}"
    rows = list(_tree(view.spans))
    shown = [
        (_time(span.start - view.arrival), prefix + _label(span), _category(span), _time(span.end - span.start),
         _gantt(span, view), (marks or {}).get(span.id) or _marks(span))
        for span, prefix in rows
    ]  # fmt: skip
    lines = [headline, *_aligned([("start", "span", "category", "duration", "", ""), *shown], width)]
    if not rows:
        lines = [headline, "  no spans were kept of it"]
    return (*lines, *_sum(view, width))


def to_data(view: TaskView) -> dict[str, object]:
    """Return the task as plain data for JSON: its parts by category, facts and spans."""
    names = [name for name in Span.__dataclass_fields__ if name != "task"]
    return {
        "task": view.task,
        "class": view.task_class,
        "arrival": view.arrival,
        "end": view.end,
        "categories": by_category(view),
        "facts": dict(view.facts),
        "spans": [{name: getattr(span, name) for name in names} for span in view.spans],
    }


def by_category(view: TaskView) -> dict[str, float]:
    """Return the seconds of a task in each category, on its critical path."""
    found = dict.fromkeys(categories_of(view.accounts), 0.0)
    for account, seconds in view.accounts.items():
        found[account.category] += seconds
    return found


def _tree(spans: Iterable[Span]) -> Iterator[Row]:
    """Yield the spans depth first, in order of start, each with the lines that lead to it."""
    below: dict[int, list[Span]] = {}
    for span in spans:
        below.setdefault(span.parent, []).append(span)
    # A stack, not recursion: how deep workflows nest is the user's choice.
    ahead: list[tuple[Span, str, str]] = _branches(below.get(0, []), "")
    while ahead:
        span, prefix, continued = ahead.pop()
        yield span, prefix
        ahead += _branches(below.get(span.id, []), continued)


def _branches(children: list[Span], before: str) -> list[tuple[Span, str, str]]:
    """Return the children, last first, with the lines drawn before each and before what lies below it."""
    last = len(children) - 1
    return [
        (child, before + ("└ " if place == last else "├ "), before + ("  " if place == last else "│ "))
        for place, child in reversed(list(enumerate(children)))
    ]


def _label(span: Span) -> str:
    name = span.name if span.name != span.category else ""
    return f"{name} {span.component}".strip()


def _category(span: Span) -> str:
    return "" if span.category == STRUCTURE else span.category


def _marks(span: Span) -> str:
    dimension = _SIZES.get(span.name) or _SIZES.get(span.category)
    size = [units.format(span.size, dimension)] if dimension is not None and span.size else []
    marks = [name for name, is_so in (("error", span.error), ("lost", span.lost)) if is_so]
    return " ".join([*size, *marks, *([] if span.critical else ["(overlapped)"])])


def _gantt(span: Span, view: TaskView) -> str:
    """Return the span's place in the task as a bar; groups are drawn thin, overlapped work light."""
    total = view.response_time
    if total <= 0:
        return ""
    first = min(math.floor((span.start - view.arrival) / total * BAR), BAR - 1)
    end = max(first + 1, min(round((span.end - view.arrival) / total * BAR), BAR))
    brief = (span.end - span.start) / total * BAR < 1 / 4
    mark = "─" if span.category == STRUCTURE else "▏" if brief else "█" if span.critical else "░"
    if span.category == UNEXPLAINED:  # of a measured task
        mark = "?"
    return "·" * first + mark * (end - first) + "·" * (BAR - end)


def _aligned(rows: list[tuple[str, ...]], width: int) -> Iterator[str]:
    """Yield rows in columns; labels are shortened where a line would be wider than `width`."""
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    room = max(_LEAST_LABEL, width - 2 - sum(wide) + wide[1] - 2 * (len(wide) - 1))
    wide[1] = min(wide[1], room)
    for row in rows:
        label = row[1] if len(row[1]) <= room else row[1][: room - 1] + "…"
        cells = [f"{row[0]:>{wide[0]}}", f"{label:<{wide[1]}}", f"{row[2]:<{wide[2]}}", f"{row[3]:>{wide[3]}}"]
        yield ("  " + "  ".join([*cells, f"{row[4]:<{wide[4]}}", row[5]])).rstrip()


def _sum(view: TaskView, width: int) -> tuple[str, ...]:
    """Return the lines that say how the categories make up T_total."""
    parts = {name: seconds for name, seconds in by_category(view).items() if seconds}
    total = sum(parts.values())
    added = " + ".join(f"{name} {_time(seconds)}" for name, seconds in _largest_first(parts))
    gap = abs(total - view.response_time)
    # The ledger's own tolerance.
    same = gap <= 1e-9 * view.response_time + 8 * math.ulp(view.end)
    verdict = (
        "= T_total" if same else f"≠ T_total {view.response_time!r} s; this is a mistake of coordsim: please report it"
    )
    if not added:
        return (f"  0 s {verdict}",)
    wrapped = textwrap.wrap(added, width - 4, break_on_hyphens=False)
    return (
        *(f"  {'  ' if number else ''}{part}" for number, part in enumerate(wrapped)),
        f"  = {_time(total)} {verdict}",
    )


def _largest_first(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda item: -item[1])


def _time(seconds: float) -> str:
    return units.format(seconds, units.DURATION)
