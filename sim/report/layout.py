"""A report as data: headline, answer, tables and notes; and how it is laid out as plain text or as Markdown.

Leaves out: what the tables say (`tables`), and colours, which a terminal adds to the lines.
Checked: tests/test_report.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

WIDTH = 100
_EIGHTHS = "▏▎▍▌▋▊▉"

Style = Literal["", "title", "strong", "faint"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under `columns`; `align` has `<` or `>` for each. A title alone is a heading."""

    title: str
    columns: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report says, in order. `blocks` are texts that are laid out already, such as a timeline."""

    heading: tuple[str, ...]
    answer: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    blocks: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text, and how a terminal may show it."""

    text: str
    style: Style = ""


def without_empty(table: Table, always: int) -> Table:
    """Return a table without those columns behind the first `always` in which no row has anything."""
    kept = [i for i in range(len(table.columns)) if i < always or any(row[i] for row in table.rows)]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        align="".join(table.align[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
    )


def bar(share: float, width: int) -> str:
    """Return a bar of block characters for a share of `width`; anything above zero shows.

    >>> bar(0.5, 4), bar(0.3, 4), bar(0.0, 4), bar(1.0, 4)
    ('██', '█▎', '', '████')
    """
    eighths = min(round(share * width * 8), width * 8)
    if eighths <= 0:
        return _EIGHTHS[0] if share > 0 else ""
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def lay_out(report: Report, width: int = WIDTH) -> list[Line]:
    """Return the report as lines of plain text, `width` wide where it can be."""
    lines = [
        Line(part, "title" if not position else "") for position, part in enumerate(_wrapped(report.heading, width))
    ]
    lines += [Line(""), *(Line(part, "strong") for part in textwrap.wrap(report.answer, width))]
    for table in report.tables:
        lines += [Line(""), *_table(table, width)]
    for block in report.blocks:
        lines += [Line(""), *(Line(text, "title" if not number else "") for number, text in enumerate(block))]
    if report.notes:
        lines += [Line(""), *(Line(part, "faint") for part in _wrapped(report.notes, width))]
    return lines


def text(lines: Sequence[Line], styled: bool = False) -> str:
    """Return lines as text; `styled` for a terminal, with headings in bold."""
    codes = _CODES if styled else {}
    ends = {style: (f"\x1b[{code}m", "\x1b[0m") for style, code in codes.items()}
    return "".join("{1}{0}{2}\n".format(line.text, *ends.get(line.style, ("", ""))) for line in lines)


_CODES: dict[Style, str] = {"title": "1", "strong": "1;36", "faint": "2"}


def _wrapped(texts: Sequence[str], width: int) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(text, width, subsequent_indent="  ") or [""]


def _table(table: Table, width: int) -> Iterator[Line]:
    yield Line(table.title, "title")
    shown = [table.columns, *table.rows] if any(table.columns) else list(table.rows)
    widths = [max((len(row[i]) for row in shown), default=0) for i in range(len(table.columns))]
    for number, row in enumerate(shown):
        cells = (f"{cell:{side}{wide}}" for cell, side, wide in zip(row, table.align, widths, strict=True))
        style: Style = "faint" if not number and shown[0] is table.columns else ""
        yield Line("  " + "  ".join(cells).rstrip(), style)
    if table.note:
        yield from (Line("  " + part, "faint") for part in textwrap.wrap(table.note, width - 2))


def markdown(report: Report) -> str:
    """Return the report as GitHub's Markdown."""
    first, *rest = report.heading
    parts = [f"## {first}", *rest, f"**{report.answer}**"]
    for table in report.tables:
        parts.append(f"### {table.title}")
        parts.append("\n".join(_markdown_table(table)))
        parts += [table.note] if table.note else []
    parts += ["```text\n" + "\n".join(block) + "\n```" for block in report.blocks]
    parts += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> Iterator[str]:
    yield _markdown_row(table.columns)
    yield "|" + "|".join(" ---: " if side == ">" else " --- " for side in table.align) + "|"
    yield from (_markdown_row(row) for row in table.rows)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |"
