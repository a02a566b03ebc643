"""How tables of traces are laid out: names that fit, intervals only where there are some, and no line wider than the terminal.

Leaves out: what the tables say (`trace_tables`).
Checked: tests/test_trace_tables.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..analysis.statistics import Estimate
from .layout import WIDTH, Table
from .numbers import plain, show

__all__ = ["KINDS", "MANY", "UNNAMED", "bare", "fitted", "label", "middle", "plainly", "show_command", "text_of"]

KINDS = {
    "llm": "model", "embedding": "embedding", "tool": "tool", "retriever": "retriever", "human": "person", "agent": "agent",
}  # fmt: skip
MANY = 200  # rows on a page
UNNAMED = "unnamed"
_LEAST = 12  # characters of a name
_NAMES = 3  # columns at the left in which names may stand
_NONE = re.compile(r"\s*\(no interval\)")
_ANY = re.compile(r"\s*(?:\(no interval\)|\(at (?:least|most) [^)]*\)|± [\d.,<]+|\[[-\d., ]+\])")


def label(name: str) -> str:
    """Return a name as people read it.

    >>> label("#"), label(""), label("step-#")
    ('unnamed', 'unnamed', 'step-#')
    """
    return name if re.search(r"\w", name) else UNNAMED


def middle(text: str, room: int) -> str:
    """Return a text that fits, shortened in its middle: how names of models differ is at both ends.

    >>> middle("unsloth/GLM-4.7-Flash-GGUF:Q4_K_M", 17)
    'unsloth/…F:Q4_K_M'
    """
    if len(text) <= room:
        return text
    tail = room // 2
    return f"{text[: room - tail - 1]}…{text[-tail:]}"


def show_command(task: int | str, by: str) -> str:
    """Return the command that draws a task, which is a trace or a session.

    >>> show_command(3, "trace"), show_command("N", "session")
    ('coordsim trace show FILES --task 3', 'coordsim trace show FILES --by session --task N')
    """
    return f"coordsim trace show FILES {'' if by == 'trace' else f'--by {by} '}--task {task}"


def bare(one: Estimate, unit: str, like: float = 0.0) -> str:
    """Return an estimate; without words on an interval where too few tasks have any."""
    shown = show(one, unit, like)
    return shown.text if math.isfinite(one.low) or math.isfinite(one.high) else shown.value


def text_of(few: Sequence[float], one: Estimate, unit: str) -> str:
    """Return an estimate; of `few` tasks without an interval."""
    return plain(one.value, unit) if few else bare(one, unit)


def plainly(table: Table, few: bool) -> Table:
    """Return a table that does not say in each cell that there is no interval; of a `few` tasks there are none at all.

    >>> plainly(Table("t", ("", "mean", ""), "<><", (("a", "1 s", "(no interval)"),)), few=False).rows
    (('a', '1 s'),)
    """
    said = _ANY if few else _NONE
    rows = [tuple(said.sub("", cell) if place else cell for place, cell in enumerate(row)) for row in table.rows]
    kept = [i for i in range(len(table.columns)) if not i or table.columns[i] or any(row[i] for row in rows)]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        align="".join(table.align[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
    )


def fitted(table: Table, width: int = WIDTH) -> Table:
    """Return a table that is at most `width` wide, as far as shorter names make it so."""
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    over = 2 * len(widths) + sum(widths) - width
    names = [i for i in range(min(_NAMES, len(widths))) if table.align[i] == "<"]
    room = {i: widths[i] for i in names}
    while over > 0 and names:
        widest = max(names, key=lambda i: room[i])
        if room[widest] <= _LEAST:
            break
        room[widest] -= 1
        over -= 1
    return replace(table, rows=tuple(tuple(_short(row, room)) for row in table.rows))


def _short(row: tuple[str, ...], room: dict[int, int]) -> Iterable[str]:
    return (middle(cell, room[place]) if place in room else cell for place, cell in enumerate(row))
