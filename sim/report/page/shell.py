"""The page around any sections: one file that opens from disk and asks nothing of any network.

It holds plotly.js and what the charts draw, both gzipped; a chart is drawn when it comes near. Whoever fills it gives HTML that
is escaped already.

Leaves out: what the sections say (`assemble`, `..profile_plot`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from .theme import CONFIG, GRID

__all__ = ["Anchors", "Entry", "Shell", "plotly"]

# The names that the page itself has.
_TAKEN = ("top", "contents", "content", "switches", "theme-switch", "page-data", "page-plotly")
_SWITCHES = {
    "percentile": ("Percentile", (("p50", "p50"), ("p95", "p95"), ("p99", "p99"))),
    "scale": ("Scale", (("", "as drawn"), ("linear", "linear"), ("log", "log"))),
    "side": ("Show", (("A", "A"), ("B", "B"), ("difference", "B − A"))),
}


class Anchors:
    """Names in a page, each used once."""

    def __init__(self) -> None:
        self._used = set(_TAKEN)

    def take(self, wanted: str) -> str:
        """Return the name, with a number where it is used already."""
        name, number = wanted, 2
        while name in self._used:
            name, number = f"{wanted}-{number}", number + 1
        self._used.add(name)
        return name


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the table of contents, and those below it."""

    anchor: str
    text: str
    inside: tuple[Entry, ...] = ()


@dataclass(slots=True)
class Shell:
    """What a page is filled with: `charts`, `sliders` and `files` by anchor, as the script reads them; the rest is HTML."""

    title: str
    header: str = ""
    contents: list[Entry] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    charts: dict[str, Any] = field(default_factory=dict)
    sliders: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    anchors: Anchors = field(default_factory=Anchors)
    switches: Mapping[str, str] = field(default_factory=dict)  # those the page has, and where each stands at first

    def to_html(self) -> str:
        """Return the page."""
        for name, chart in self.charts.items():
            try:
                json.dumps(chart, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(f"chart `{name}` must hold only what JSON has: no nan, no arrays; {error}") from error
        data = {
            "charts": self.charts, "sliders": self.sliders, "files": self.files, "config": CONFIG, "grid": GRID,
            "initial": dict(self.switches),
        }  # fmt: skip
        return Template(_read("page.html")).substitute(
            title=escape(self.title),
            style=_read("style.css"),
            header=self.header,
            switches=_switches(self.switches),
            contents=_contents(self.contents),
            body="\n".join(self.body),
            data=_packed(json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)),
            plotly=plotly(),
            script=_read("numbers.js") + _read("tables.js") + _read("script.js"),
        )


@cache
def plotly() -> str:
    """Return plotly.js, gzipped and in base64: 2 MB, where the file itself is 5. In ASCII browsers read it faster."""
    from plotly.offline import get_plotlyjs

    return _packed(_ascii(get_plotlyjs()))


def _ascii(script: str) -> str:
    r"""Return JavaScript with its few other characters, which stand in texts, escaped.

    >>> print(_ascii("say('é')"))
    say('\u00e9')
    """
    return re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], script)


def _packed(text: str) -> str:
    # The time is left out: the same page must be the same bytes.
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _read(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _switches(given: Mapping[str, str]) -> str:
    groups = []
    for name, (title, places) in _SWITCHES.items():
        if name in given:
            buttons = "".join(
                f'<button type="button" data-switch="{name}" data-value="{value}" '
                f'aria-pressed="{"true" if value == given[name] else "false"}">{text}</button>'
                for value, text in places
            )
            groups.append(f'<div role="group" aria-label="{title}"><span class="of">{title}</span>{buttons}</div>')
    if not groups:
        return ""
    return f'<div id="switches" class="needs-script" role="region" aria-label="Switches of the charts">{"".join(groups)}</div>'


def _contents(entries: Sequence[Entry]) -> str:
    lines = (
        f'<li><a href="#{escape(one.anchor)}">{escape(one.text)}</a>{_contents(one.inside) if one.inside else ""}</li>'
        for one in entries
    )
    return f"<ol>{''.join(lines)}</ol>"
