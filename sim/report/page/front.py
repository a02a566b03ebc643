"""What a page says of its sources: at its head in a few words, at its end in full: inputs, the resolved scenario, the command.

Leaves out: finding it out (`models.provenance`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from ..layout import Table
from ..numbers import counted
from . import pieces
from .provenance import Provenance, known, together

__all__ = ["assumptions", "head", "names", "reproduce"]

_HASH = 12  # characters of a hash that tell scenarios apart


def names(sources: Sequence[Provenance]) -> list[str]:
    """Return what each source is called in the page: by scenario and question, else by what was done, else with a number."""
    asked = [f"{one.title}: {one.question}" for one in sources]
    called = [
        f"{_done(one).capitalize()} of {one.title}" if asked.count(name) > 1 else name
        for one, name in zip(sources, asked, strict=True)
    ]
    return [
        f"{name} ({called[: place + 1].count(name)})" if called.count(name) > 1 else name
        for place, name in enumerate(called)
    ]


def _done(source: Provenance) -> str:
    """Return what a command does, by its name: that of the command line, or of the last call in Python.

    >>> _done(Provenance("rag", "", "", 1, "coordsim plan rag", {})), _done(Provenance("rag", "", "", 1, "coordsim.load('rag').run()", {}))
    ('plan', 'run')
    >>> _done(Provenance("rag", "", "", 1, "coordsim.compare(coordsim.load('rag').replace('seed', '2'), b='ideal')", {}))
    'compare'
    """
    words = source.command.split()
    if words[:1] == ["coordsim"] and len(words) > 1:
        return words[1]
    asked = re.match(r"coordsim\.(?!load\()(\w+)\(", source.command)
    calls = [asked[1]] if asked else re.findall(r"\.(\w+)\(", source.command)
    return calls[-1] if calls else "answer"


def head(sources: Sequence[Provenance]) -> str:
    """Return the sources in brief, those of one scenario together."""
    groups = _grouped(sources, [_card(one, ()) for one in sources])
    return "".join(_card(sources[group[0]], [_done(sources[place]) for place in group]) for group in groups)


def _grouped(sources: Sequence[Provenance], keys: Sequence[str]) -> list[list[int]]:
    """Return the places of sources that have the same key."""
    found: dict[str, list[int]] = {}
    for place in range(len(sources)):
        found.setdefault(keys[place], []).append(place)
    return list(found.values())


def _card(source: Provenance, done: Sequence[str]) -> str:
    hashes = [(source.scenario, source.sha256), *source.beside] if source.sha256 else []
    short = (
        f'<code title="{escape(one)}">{escape(one[:_HASH])}</code>' + (f" ({escape(name)})" if source.beside else "")
        for name, one in hashes
    )
    of = f" (of {source.scenario})" if source.beside else ""
    versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    lines = [
        ("Trace" if source.measured else "Scenarios" if source.beside else "Scenario", escape(source.title)),
        ("Question", escape(source.question)),
        ("Hashes" if source.beside else "Hash", ", ".join(short)),
        ("Seed", str(source.seed)),
        ("Runtime", escape(f"{source.runtime}{of}" if source.runtime else "")),
        ("Versions", escape(versions)),
        ("Inputs", _inputs(source) + escape(of)),
        ("Answers", escape(", ".join(done)) if len(done) > 1 else ""),
    ]
    return (
        f'<dl class="card">{"".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in lines if text)}</dl>'
    )


def _inputs(source: Provenance) -> str:
    """Return which inputs are measured, imported and assumed."""
    return "; ".join(
        f'<span class="quality {quality}">{quality}</span>: {escape(names)}' for quality, names in known(source.inputs)
    )


def assumptions(sources: Sequence[Provenance], called: Sequence[str]) -> str:
    """Return the inputs of each source and its resolved scenario, with what was filled in and where numbers come from."""
    parts = []
    # What one hash stands for is shown once; a scenario without lines has nothing that could be.
    groups = _grouped(
        sources, [one.sha256 if one.lines and one.sha256 else str(place) for place, one in enumerate(sources)]
    )
    for group in groups:
        anchor, name = f"assumptions-of-{group[0] + 1}", "; ".join(called[place] for place in group)
        title = pieces.heading(3, anchor, name) if len(sources) > 1 else ""
        found = dict.fromkeys(entry for place in group for entry in sources[place].inputs)
        rows = tuple((entry.name, entry.quality, entry.source) for entry in found)
        inputs = pieces.table(Table("Inputs", ("input", "known how", "source"), "<<<", rows), name) if rows else ""
        parts.append(
            f'<div id="{anchor}" class="source">{title}{inputs}{_yaml(sources[group[0]], name)}{_beside(sources[group[0]])}</div>'
        )
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
    one = filled == 1
    left = f"The {counted(filled, 'line')} that {'was' if one else 'were'} filled in {'is' if one else 'are'} not printed; the page has {'it' if one else 'them'}."
    paper = f'<p class="note on-paper">{left}</p>' if filled else ""
    return (
        f'<details class="yaml" data-rows="{len(source.lines)}" open><summary>The resolved scenario <span class="note">({said})</span></summary>'
        '<button type="button" class="only-given needs-script" aria-pressed="false">Show only what was given</button>'
        f'<div class="table long" role="region" tabindex="0" aria-label="The resolved scenario ({escape(name)})"><table class="plain">'
        '<thead><tr><th scope="col">scenario</th><th scope="col">source of the number</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{paper}</details>"
    )


def _beside(source: Provenance) -> str:
    """Return whose lines these are, where the answer is about others, too."""
    if not source.beside:
        return ""
    others = together(name for name, _ in source.beside)
    said = f"These are the lines of {source.scenario}; of {others} the page has name and hash."
    return f'<p class="note">{escape(said)}</p>'


def reproduce(sources: Sequence[Provenance], called: Sequence[str]) -> str:
    """Return the command that repeats each answer, the versions it was made with, and the data it needs."""
    parts = []
    for place, (one, name) in enumerate(zip(sources, called, strict=True)):
        title = pieces.heading(3, f"reproduce-of-{place + 1}", name) if len(sources) > 1 else ""
        of = one.scenario if one.beside else "the scenario"
        hashes = [
            (f"Hash of {of} (SHA-256)", one.sha256),
            *((f"Hash of {other} (SHA-256)", sha) for other, sha in one.beside),
        ]
        facts = [*hashes, ("Seed", str(one.seed)), *one.versions.items()]
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
