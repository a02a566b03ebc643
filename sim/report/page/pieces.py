"""The pieces of a page as HTML: tables, charts with their words, headline figures, sliders. All that comes from outside is escaped.

Leaves out: their order (`assemble`), and looks (`style.css`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from ..layout import Table
from .parts import Chart, Missing, Section, Switch, View

__all__ = [
    "badge",
    "block",
    "chart",
    "command",
    "facts",
    "folded",
    "heading",
    "missing",
    "paragraphs",
    "table",
    "unasked",
]

LONG = 14  # rows: a longer table scrolls by itself
WORDS = 60  # characters: what is longer is a sentence, and wraps
_BLOCKS = frozenset("█▏▎▍▌▋▊▉")
_SIDES = {"<": "left", ">": "right"}
_MARKS = {"pass": "✓", "fail": "✕", "inconclusive": "?"}


def heading(level: int, anchor: str, text: str) -> str:
    """Return a heading with a link to itself; the anchor is that of whatever it heads."""
    link = f'<a class="anchor" href="#{escape(anchor)}" aria-label="Link to: {escape(text)}">#</a>'
    return f"<h{level}>{escape(text)} {link}</h{level}>"


def paragraphs(kind: str, texts: Iterable[str]) -> str:
    """Return a paragraph for each text that is not empty; what stands between backticks is code."""
    return "".join(f'<p class="{kind}">{_with_code(text)}</p>' for text in texts if text)


def _with_code(text: str) -> str:
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


def badge(verdict: str) -> str:
    """Return a verdict with its mark and its frame; other words as they are."""
    known = verdict if verdict in _MARKS else "other"
    mark = f'<span aria-hidden="true">{_MARKS[verdict]}</span> ' if verdict in _MARKS else ""
    return f'<span class="badge {known}">{mark}{escape(verdict)}</span>' if verdict else ""


def facts(given: Iterable[tuple[str, str, str]]) -> str:
    """Return headline figures."""
    lines = [
        f"<div><dt>{escape(label)}</dt><dd><span class='figure'>{escape(value)}</span> {badge(verdict)}</dd></div>"
        for label, value, verdict in given
    ]
    return f'<dl class="facts">{"".join(lines)}</dl>' if lines else ""


def table(given: Table, of: str = "") -> str:
    """Return a table in a box of its own that scrolls; long ones are limited in height. `of` tells boxes of one title apart."""
    if not given.rows:
        return paragraphs("note", [f"{given.title}: nothing to list.", given.note])
    kinds = [_kind(given, place) for place in range(len(given.columns))]
    head = ""
    if any(given.columns):
        cells = (
            f'<th scope="col" class="{kind}">{escape(name)}</th>' if name else f'<td class="{kind}"></td>'
            for name, kind in zip(given.columns, kinds, strict=True)
        )
        head = f"<thead><tr>{''.join(cells)}</tr></thead>"
    rows = (f"<tr>{''.join(map(_cell, row, kinds))}</tr>" for row in given.rows)
    size = " long" if len(given.rows) > LONG else ""
    return (
        f'<div class="table{size}" role="region" tabindex="0" aria-label="{escape(_label(given.title, of))}"><table>'
        f"<caption>{escape(given.title)}</caption>{head}<tbody>{''.join(rows)}</tbody></table></div>"
        f"{paragraphs('note', [given.note])}"
    )


def folded(given: Table, called: str = "", of: str = "") -> str:
    """Return a table under a line that opens it."""
    rows = f"{len(given.rows)} {'row' if len(given.rows) == 1 else 'rows'}"
    said = escape(f"{called}: {given.title}" if called and given.title else called or given.title or "Table")
    return f'<details data-rows="{len(given.rows)}"><summary>{said} <span class="note">({rows})</span></summary>{table(given, of)}</details>'


def chart(given: Chart, anchor: str, level: int, first: str) -> str:
    """Return a chart with the words and the table of each of its views; `first` is the view shown at first."""
    views = "".join(_view(given, key, view, f"{anchor}--{key}" if key else f"{anchor}--text", key == first) for key, view in given.views.items())  # fmt: skip
    described = f"{anchor}--{first}" if first else f"{anchor}--text"
    return (
        f'<figure id="{escape(anchor)}" class="of-chart"><div class="picture">{heading(level, anchor, given.title)}'
        f'<div class="chart needs-script" data-chart="{escape(anchor)}" style="height:{given.height}px" role="img" '
        f'aria-label="{escape(given.title)}" aria-describedby="{escape(described)}"></div></div>'
        f'<p class="tools needs-script"><button type="button" class="whole" data-of="{escape(anchor)}">Whole range</button> '
        f'<button type="button" class="picture-of" data-of="{escape(anchor)}">Save picture</button></p>'
        f'<p class="note moved" hidden></p>{views}</figure>'
    )


def _view(of: Chart, key: str, view: View, anchor: str, shown: bool) -> str:
    named = f"<strong>{escape(_position(of.switch, key))}:</strong> " if key else ""
    return (
        f'<div class="view" data-view="{escape(key)}"{"" if shown else " hidden"}><p class="summary" id="{escape(anchor)}">'
        f"{named}{escape(view.summary)}</p>{folded(view.table, 'The numbers', anchor)}</div>"
    )


def _position(switch: Switch, key: str) -> str:
    return "B − A" if switch is Switch.SIDE and key == "difference" else key


def command(text: str) -> str:
    """Return a command with a button that copies it."""
    return (
        f'<div class="command"><pre tabindex="0"><code>{escape(text)}</code></pre>'
        '<button type="button" class="copy needs-script">Copy</button></div>'
    )


def missing(given: Iterable[Missing]) -> str:
    """Return what would say more, each with its command."""
    return "".join(
        f'<div class="missing"><p>{_with_code(one.what)}</p>{command(one.command) if one.command else ""}</div>'
        for one in given
    )


def unasked(sections: Iterable[Section]) -> str:
    """Return one line of links to what no answer speaks to."""
    links = " · ".join(f'<a href="#{one}">{escape(one.question)}</a>' for one in sections)
    return f'<p class="unasked">Not asked yet: {links}</p>' if links else ""


def block(lines: Iterable[str]) -> str:
    """Return a text that is laid out already."""
    return f'<pre class="block" tabindex="0">{escape(chr(10).join(lines))}</pre>'


def _label(title: str, of: str) -> str:
    return f"{title or 'Table'} ({of})" if of else title or "Table"


def _cell(text: str, kind: str) -> str:
    shown = f'"{kind} words"' if len(text) > WORDS else kind
    return f"<td class={shown}>{escape(text)}</td>"


def _kind(of: Table, place: int) -> str:
    """Return how a column is shown: bars line up by their characters, a text on its side."""
    is_bar = any(not _BLOCKS.isdisjoint(row[place]) for row in of.rows)
    return "bar" if is_bar else _SIDES[of.align[place]]
