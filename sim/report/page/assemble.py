"""A report as one page: sections in the order of their questions, each answered in words, then by charts, then by tables.

Leaves out: what the answers say (`..sections`), and the page around them (`shell`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from . import pieces
from .front import assumptions, head, names, reproduce
from .judge import slider_data, slider_html
from .parts import Chart, Part, Section, Switch
from .provenance import Provenance
from .shell import Entry, Shell

__all__ = ["to_html"]

_FIRST = {"side": "difference", "scale": ""}
_OF_SOURCES = {Section.ASSUMPTIONS: assumptions, Section.REPRODUCE: reproduce}


def to_html(title: str, parts: Sequence[tuple[Provenance, Part]], sources: Sequence[Provenance]) -> str:
    """Return answers as one HTML file: `parts` with the source of each; `sources` are listed at the head and at the end."""
    shell = Shell(title, header=head(sources), switches=_switches([part for _, part in parts]))
    called = names(sources)
    for section in Section:
        shell.anchors.take(section)
    for section in Section:
        spoken = [(source, part) for source, part in parts if part.section is section]
        own = _OF_SOURCES[section](sources, called) if section in _OF_SOURCES and sources else ""
        if spoken or own:
            _section(shell, section, [(_place(source, sources), part) for source, part in spoken], own, called)
    return shell.to_html()


def _switches(parts: Sequence[Part]) -> dict[str, str]:
    """Return the switches that a chart of the page has, and where each stands at first."""
    charts = [chart for part in parts for chart in part.charts]
    found = {chart.switch.value for chart in charts if chart.switch is not Switch.NONE}
    found |= {"percentile"} if any(part.slider for part in parts) else set()
    found |= {"scale"} if any(chart.scales for chart in charts) else set()
    return {name: first for name, first in ({"percentile": _percentile(parts)} | _FIRST).items() if name in found}


def _percentile(parts: Sequence[Part]) -> str:
    """Return the percentile that a page shows first: that of its sliders, p95 where they do not agree."""
    asked = {part.slider.percentile for part in parts if part.slider}
    return asked.pop() if len(asked) == 1 else "p95"


def _place(source: Provenance, sources: Sequence[Provenance]) -> int:
    """Return which of the sources it is: itself, else one that says the same. Raises ValueError for one that is not listed."""
    same = [place for place, one in enumerate(sources) if one is source]
    return same[0] if same else list(sources).index(source)


def _section(
    shell: Shell, section: Section, spoken: Sequence[tuple[int, Part]], own: str, called: Sequence[str]
) -> None:
    """Add a section: under its question the parts of each source, given by its place, named where there are several."""
    shell.body.append(
        f'<section id="{section}"{"" if own or any(_says(part) for _, part in spoken) else " class=unspoken"} aria-labelledby="{section}--title">'
        + pieces.heading(2, section, section.question).replace("<h2>", f'<h2 id="{section}--title">', 1)
    )
    by_source: dict[int, list[Part]] = {}
    for place, part in spoken:
        by_source.setdefault(place, []).append(part)
    inside: list[Entry] = []
    for place, parts in by_source.items():
        level, below = 3, inside
        if len(by_source) > 1:
            anchor = shell.anchors.take(f"{section}-{place + 1}")
            shell.body.append(f'<div id="{anchor}" class="source">{pieces.heading(3, anchor, called[place])}')
            level, below = 4, []
            inside.append(Entry(anchor, called[place]))
        for part in parts:
            _part(shell, part, level, below)
        if len(by_source) > 1:
            shell.body.append("</div>")
    shell.body.append(own + "</section>")
    shell.contents.append(Entry(section, section.question, tuple(inside)))


def _says(part: Part) -> bool:
    """Whether a part says more than what is missing."""
    return bool(part.charts or part.tables or part.opened or part.facts or part.blocks or not part.missing)


def _part(shell: Shell, part: Part, level: int, below: list[Entry]) -> None:
    """Add what one answer says to a section: words, figures, doubts, charts, tables, and what is missing."""
    anchors = {one.name: shell.anchors.take(one.name) for one in part.charts}
    shell.body += [
        pieces.paragraphs("answer", [part.answer]),
        pieces.facts(part.facts),
        *(f'<div class="opened">{pieces.table(one, part.section)}</div>' for one in part.opened),
        pieces.unasked(part.unasked),
        pieces.paragraphs("warning", part.warnings),
    ]
    slider = ""
    if part.slider:
        anchor = shell.anchors.take("slo")
        shell.sliders[anchor] = slider_data(part.slider, part.charts, anchors)
        slider = slider_html(part.slider, anchor, shell.switches["percentile"])
    for chart in part.charts:
        if slider and (chart.threshold or (part.slider and part.slider.redraws == chart.name)):
            shell.body.append(slider)
            slider = ""
        _chart(shell, chart, anchors[chart.name], level)
        below.append(Entry(anchors[chart.name], chart.title))
    shell.body += [
        slider,
        *(pieces.folded(one) for one in part.tables),
        *(pieces.block(one) for one in part.blocks),
        pieces.missing(part.missing),
        _downloads(shell, part),
        pieces.paragraphs("note", part.notes),
    ]


def _chart(shell: Shell, chart: Chart, anchor: str, level: int) -> None:
    wanted = shell.switches.get(chart.switch, "")
    first = wanted if wanted in chart.views else next(iter(chart.views))
    shell.charts[anchor] = {
        "switch": chart.switch.value, "scales": list(chart.scales), "threshold": chart.threshold, "height": chart.height,
        "views": {key: {"data": view.data, "layout": view.layout} for key, view in chart.views.items()},
    }  # fmt: skip
    shell.body.append(pieces.chart(chart, anchor, level, first))


def _downloads(shell: Shell, part: Part) -> str:
    """Return a button for each file; the script offers its text."""
    lines = []
    for name, text in part.downloads.items():
        key = shell.anchors.take(f"file-{len(shell.files) + 1}")
        shell.files[key] = text
        lines.append(
            f'<button type="button" class="download needs-script" data-file="{key}" data-name="{escape(name)}">Download {escape(name)}</button>'
        )
    return f'<p class="downloads">{" ".join(lines)}</p>' if lines else ""
