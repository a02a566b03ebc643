"""A report as HTML, for a notebook: the answer first, then tables and notes; it asks nothing of any network.

Colours are those of the page around it, so it reads on dark and on light. All that comes from outside is escaped.

Leaves out: charts (`sections`), and pages of their own (`answers`).
Checked: tests/test_whatif.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .layout import Report, Table

__all__ = ["page", "to_html"]

_BLOCKS = frozenset("█▏▎▍▌▋▊▉")
_MOST_WARNINGS = 3
_SIDES = {"<": "left", ">": "right"}
# Every rule is of what lies in `div.coordsim`: a notebook's own page keeps its looks, and its rules for tables give way.
_STYLE = """
div.coordsim { font-variant-numeric: tabular-nums; line-height: 1.35; max-width: 72em; }
div.coordsim p { margin: 0.25em 0; }
div.coordsim p.note { font-size: 0.92em; opacity: 0.7; }
div.coordsim p.title, div.coordsim caption { font-weight: 600; text-align: left; }
div.coordsim p.answer { font-size: 1.1em; font-weight: 600; margin: 0.5em 0; }
div.coordsim p.warning { border-left: 3px solid #D55E00; padding-left: 0.6em; }
div.coordsim .faint, div.coordsim thead th { opacity: 0.7; font-weight: normal; }
div.coordsim div.wide { overflow-x: auto; }
div.coordsim table { border-collapse: collapse; margin: 0.9em 0 0.2em; font-size: 0.92em; width: auto; }
div.coordsim caption { caption-side: top; padding: 0 0 0.2em; color: inherit; }
div.coordsim th, div.coordsim td { padding: 0.1em 0.7em 0.1em 0; text-align: left; white-space: pre; font-weight: normal; border: none; }
div.coordsim th.right, div.coordsim td.right { text-align: right; }
div.coordsim thead th { border-bottom: 1px solid; }
div.coordsim .bar { font-family: ui-monospace, monospace; }
div.coordsim td.bar { color: #3a86c8; }
div.coordsim pre { overflow-x: auto; margin: 0.9em 0; color: inherit; background: none; }
"""


def to_html(report: Report, warnings: Sequence[str] = ()) -> str:
    """Return a report, and what is doubtful about it, as one `div`; put it into a page, or let a notebook show it."""
    title, *rest = report.heading or ("",)
    parts = [_line("title", title), *(_line("faint", text) for text in rest), _line("answer", report.answer)]
    parts += _warnings([_line("warning", f"WARNING: {text}") for text in warnings])
    parts += [f'<div class="wide">{"".join(_table(table))}</div>' for table in report.tables]
    parts += [f"<pre>{escape(chr(10).join(block))}</pre>" for block in report.blocks]
    parts += [_line("note", note) for note in report.notes]
    return f'<div class="coordsim"><style>{_STYLE}</style>\n' + "\n".join(filter(None, parts)) + "\n</div>"


def page(body: str, title: str) -> str:
    """Return what `to_html` made as a page of its own, light or dark as the reader's browser is."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; }}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _warnings(lines: list[str]) -> list[str]:
    """Return warnings as they are, and many of them folded, so that the tables stay in sight."""
    if len(lines) <= _MOST_WARNINGS:
        return lines
    return [f"<details><summary>{len(lines)} warnings</summary>", *lines, "</details>"]


def _line(kind: str, text: str) -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def _table(table: Table) -> Iterator[str]:
    kinds = [_kind(table, place) for place in range(len(table.columns))]
    yield f"<table><caption>{escape(table.title)}</caption>"
    if any(table.columns):
        cells = (
            f'<th scope="col" class="{kind}">{escape(name)}</th>'
            for name, kind in zip(table.columns, kinds, strict=True)
        )
        yield f"<thead><tr>{''.join(cells)}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        cells = (f'<td class="{kind}">{escape(text)}</td>' for text, kind in zip(row, kinds, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table>"
    yield _line("note", table.note)


def _kind(table: Table, place: int) -> str:
    """Return how a column is shown: bars line up by their characters, a text on its side."""
    is_bar = any(not _BLOCKS.isdisjoint(row[place]) for row in table.rows)
    return "bar" if is_bar else _SIDES[table.align[place]]
