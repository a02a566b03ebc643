"""What a page says of its sources: at its head in a few words, at its end in full: inputs, the resolved scenario, the command.

Leaves out: finding it out (`models.provenance`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..layout import Table
from ..numbers import counted
from . import pieces
from .provenance import Provenance

__all__ = ["assumptions", "head", "names", "reproduce"]

_QUALITIES = ("measured", "imported", "assumed")
_HASH = 12  # characters of a hash that tell scenarios apart
_MOST_NAMES = 4


def names(sources: Sequence[Provenance]) -> list[str]:
    """Return what each source is called in the page: by scenario and question, with a number where these are the same."""
    called = [f"{one.scenario}: {one.question}" for one in sources]
    return [
        f"{name} ({called[: place + 1].count(name)})" if called.count(name) > 1 else name
        for place, name in enumerate(called)
    ]


def head(sources: Sequence[Provenance]) -> str:
    """Return the sources in brief."""
    return "".join(_card(one) for one in sources)


def _card(source: Provenance) -> str:
    short = source.sha256[:_HASH]
    versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    lines = [
        ("Scenario", escape(source.scenario)),
        ("Question", escape(source.question)),
        ("Hash", f'<code title="{escape(source.sha256)}">{escape(short)}</code>' if short else ""),
        ("Seed", str(source.seed)),
        ("Runtime", escape(source.runtime)),
        ("Versions", escape(versions)),
        ("Inputs", _inputs(source)),
    ]
    return (
        f'<dl class="card">{"".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in lines if text)}</dl>'
    )


def _inputs(source: Provenance) -> str:
    """Return how many inputs are measured, imported and assumed, with their names."""
    said = []
    for quality in _QUALITIES:
        found = [one.name for one in source.inputs if one.quality == quality]
        if found:
            more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
            listed = ", ".join(found[:_MOST_NAMES]) + more
            said.append(f'<span class="quality {quality}">{len(found)} {quality}</span> ({escape(listed)})')
    return ", ".join(said)


def assumptions(sources: Sequence[Provenance], called: Sequence[str]) -> str:
    """Return the inputs of each source and its resolved scenario, with what was filled in and where numbers come from."""
    parts = []
    for place, (one, name) in enumerate(zip(sources, called, strict=True)):
        title = pieces.heading(3, f"assumptions-of-{place + 1}", name) if len(sources) > 1 else ""
        rows = tuple((entry.name, entry.quality, entry.source) for entry in one.inputs)
        inputs = pieces.table(Table("Inputs", ("input", "known how", "source"), "<<<", rows), name) if rows else ""
        parts.append(f'<div id="assumptions-of-{place + 1}" class="source">{title}{inputs}{_yaml(one, name)}</div>')
    return "".join(parts)


def _yaml(source: Provenance, name: str) -> str:
    if not source.lines:
        return ""
    filled = sum(not one.given for one in source.lines)
    rows = "".join(
        f"<tr{'' if one.given else ' class=default'}><td><code>{escape(one.text)}</code></td>"
        f"<td>{escape(one.source) or ('' if one.given else 'default')}</td></tr>"
        for one in source.lines
    )
    said = f"{counted(len(source.lines), 'line')}, of which {filled} were filled in by coordsim (marked +)"
    return (
        f'<details class="yaml" data-rows="{len(source.lines)}" open><summary>The resolved scenario <span class="note">({said})</span></summary>'
        '<button type="button" class="only-given needs-script" aria-pressed="false">Show only what was given</button>'
        f'<div class="table long" role="region" tabindex="0" aria-label="The resolved scenario ({escape(name)})"><table class="plain">'
        '<thead><tr><th scope="col">scenario</th><th scope="col">source of the number</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def reproduce(sources: Sequence[Provenance], called: Sequence[str]) -> str:
    """Return the command that repeats each answer, the versions it was made with, and the data it needs."""
    parts = []
    for place, (one, name) in enumerate(zip(sources, called, strict=True)):
        title = pieces.heading(3, f"reproduce-of-{place + 1}", name) if len(sources) > 1 else ""
        facts = [("Hash of the scenario (SHA-256)", one.sha256), ("Seed", str(one.seed)), *one.versions.items()]
        lines = "".join(
            f"<div><dt>{escape(key)}</dt><dd><code>{escape(value)}</code></dd></div>" for key, value in facts if value
        )
        data = "".join(f"<li><code>{escape(name)}</code></li>" for name in one.data)
        data = f"<p>It needs these files:</p><ul>{data}</ul>" if data else ""
        parts.append(
            f'<div id="reproduce-of-{place + 1}" class="source">{title}{pieces.command(one.command) if one.command else ""}'
            f'<dl class="card">{lines}</dl>{data}</div>'
        )
    return "".join(parts)
