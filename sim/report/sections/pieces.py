"""What sections are made of: tables for a page, numbers and texts for a chart, and commands with other options.

Leaves out: what a section says.
Checked: tests/test_compare_sections.py, tests/test_scaling_sections.py.
"""

from __future__ import annotations

import html
import math
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...analysis.statistics import Estimate
from ..layout import Table
from ..numbers import NOTHING, show
from ..page.provenance import Provenance
from ..page.theme import axis

__all__ = [
    "MOST_ROWS",
    "again",
    "axis_unit",
    "cells",
    "error_bars",
    "known",
    "look",
    "names_axis",
    "number",
    "slug",
    "swept",
    "table",
    "tidy",
    "told",
    "upright",
]

MOST_ROWS = 200
_UNITS = {"s": "seconds", "B": "bytes", "share": "share of tasks", "1/s": "per second", "": "number"}
_SET = "--set"  # of options that may be given several times: each is a value of its own
_BLOCKS = set("█▉▊▋▌▍▎▏│|+- ")

Data = dict[str, Any]


def number(value: float) -> float | None:
    """Return a plain number for plotly, None for what is not known."""
    return float(value) if math.isfinite(value) else None


def known(one: Estimate | None) -> bool:
    """Whether an estimate has a value."""
    return one is not None and math.isfinite(one.value)


def told(one: Estimate | None, unit: str) -> str:
    """Return an estimate as the text of a hover, escaped: value, interval, how sure, and of how many."""
    if one is None or not math.isfinite(one.value):
        return "not observed"
    sure = f" ({100 * one.confidence:.4g} %, n = {one.n})" if one.resolved else f" (no interval, n = {one.n})"
    return html.escape(f"{show(one, unit).text}{sure}")


def cells(one: Estimate | None, unit: str, like: float = 0.0) -> str:
    """Return an estimate as the text of a table's cell."""
    return show(one, unit, like).text if known(one) else NOTHING


def axis_unit(unit: str) -> str:
    """Return a unit as the title of an axis says it."""
    return _UNITS.get(unit, unit)


def upright(x: Sequence[Any], y: Sequence[Any]) -> Data:
    """Return the places of bars that lie: `x` their lengths, `y` their names."""
    return {"orientation": "h", "x": list(x), "y": list(y)}


def names_axis(names: Sequence[str], labels: Sequence[str] = ()) -> Data:
    """Return an axis of names (escaped), the first at the top; `labels` are what is written in place of them."""
    ticks: Data = {"tickmode": "array", "tickvals": list(names), "ticktext": list(labels)} if labels else {}
    return axis("", type="category", categoryorder="array", categoryarray=list(names), autorange="reversed", **ticks)


def look(colour: str, pattern: str) -> Data:
    """Return the marker of a bar: filled with its colour, the pattern drawn in light lines over it."""
    over = {"shape": pattern, "size": 7, "solidity": 0.25, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.85)"}
    return {"color": colour, "pattern": over}


def error_bars(made: Data) -> Data:
    """Return whiskers in the colour that reads on light and on dark."""
    return made | {"color": "#777777", "thickness": 2}


def slug(text: str) -> str:
    """Return a text as a part of the name of a chart.

    >>> slug("tools.search.latency"), slug("steps")
    ('tools-search-latency', 'steps')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "all"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", note: str = "") -> Table:
    """Return a table of at most `MOST_ROWS` rows; the first column is of names, the others of numbers unless `align` says more."""
    shown = [tuple(row) for row in rows]
    left = len(shown) - MOST_ROWS
    notes = [note] if note else []
    notes += [f"{left} more rows are not shown; the CSV has them all"] if left > 0 else []
    return Table(
        title, tuple(columns), align or "<" + ">" * (len(columns) - 1), tuple(shown[:MOST_ROWS]), "; ".join(notes)
    )


def tidy(made: Table, first: str = "") -> Table:
    """Return a table of the terminal for a page: an interval in one cell with its value, no bars of characters, no heading empty.

    A column without a heading belongs to the one before it. `first` names the first column where it has no name.

    >>> tidy(Table("t", ("", "A", "", "bar"), "<><<", (("x", "1 s", "± 2", "██"),)), "what")
    Table(title='t', columns=('what', 'A'), align='<>', rows=(('x', '1 s ± 2'),), note='')
    """
    drawn = [place for place in range(len(made.columns)) if _is_drawn([row[place] for row in made.rows])]
    groups: list[list[int]] = []
    for place, name in enumerate(made.columns):
        if place in drawn:
            continue
        if name or not groups:
            groups.append([place])
        else:
            groups[-1].append(place)
    return replace(
        made,
        columns=tuple(made.columns[group[0]] or first for group in groups),
        align="".join(made.align[group[0]] for group in groups),
        rows=tuple(tuple(" ".join(filter(None, (row[i] for i in group))) for group in groups) for row in made.rows),
    )


def _is_drawn(column: Sequence[str]) -> bool:
    """Whether a column is of bars."""
    return any("█" in cell or "│" in cell for cell in column) and all(set(cell) <= _BLOCKS for cell in column)


def again(command: str, *more: str, drop: Sequence[str] = ()) -> str:
    """Return a command with `more` options, in place of those named in `drop` (each with its value) and of the same ones before.

    Of what `--set` replaces only the same path goes: the other values are the scenario's that is asked about.

    >>> again("coordsim compare a --no-ablate --replications 1 --with x=1", "--replications", "5", drop=("--no-ablate=",))
    'coordsim compare a --with x=1 --replications 5'
    >>> again("coordsim run a --set x=1 --set=y=2", "--set", "x=3")
    'coordsim run a --set=y=2 --set x=3'
    """
    flags = {one.removesuffix("=") for one in drop if one.endswith("=")}
    named = {one.partition("=")[0] for one in more if one.startswith("--")}
    valued = {one for one in drop if not one.endswith("=")} | (named - {_SET})
    paths = {path for option, path in _sets(more) if option}
    kept: list[str] = []
    parts = iter(shlex.split(command))
    for part in parts:
        if part in flags:
            continue
        name, equals, value = part.partition("=")
        if name in valued or name == _SET:
            words = (part,) if equals else (part, *(one for one in (next(parts, None),) if one is not None))
            if name in valued or (value if equals else words[-1]).partition("=")[0] in paths:
                continue
            kept += words
            continue
        kept.append(part)
    return shlex.join([*kept, *more])


def _sets(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield `--set` and the path of each value that is replaced."""
    for place, one in enumerate(words):
        name, equals, value = one.partition("=")
        if name == _SET:
            told = value if equals else next(iter(words[place + 1 : place + 2]), "")
            yield name, told.partition("=")[0]


def swept(source: Provenance, without: Collection[str] = ()) -> str:
    """Return a value of the scenario to take more than one of, as an option has it; '' where it has none.

    That is how often a step is repeated, or how many replicas or calls at once a model has; not what lies at or below `without`.
    """
    path: list[tuple[int, str]] = []  # indent and key, as block YAML nests them
    found: dict[str, str] = {}
    for line in source.lines:
        match = re.fullmatch(r"( *)([\w-]+):(.*)", line.text)
        if match is None:
            continue
        while path and path[-1][0] >= len(match[1]):
            path.pop()
        path.append((len(match[1]), match[2]))
        if match[2] in _SWEPT and (whole := re.match(r" *(\d+)(?:\s|$)", match[3])):
            name = ".".join(key for _, key in path)
            if not any(name == one or name.startswith(f"{one}.") for one in without):
                found.setdefault(match[2], f"{name}={','.join(_around(int(whole[1])))}")
    return next((found[one] for one in _SWEPT if one in found), "")


_SWEPT = ("repeat", "replicas", "concurrency")


def _around(value: int) -> tuple[str, ...]:
    """Return whole numbers about a value: half of it, it, and twice.

    >>> _around(4), _around(1)
    (('2', '4', '8'), ('1', '2', '4'))
    """
    return tuple(str(one) for one in ((value // 2, value, 2 * value) if value > 1 else (1, 2, 4)))
