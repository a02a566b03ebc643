"""A report as GitHub's Markdown, short enough for a comment on a pull request: what is answered, the tables, and what charts say in words.

Tables longer than a few rows are folded. What would not fit is left out from the end, and that is said; the title and the answers stay,
and how to reproduce them takes half of the room at most.

Leaves out: charts, sliders and downloads, which the page has.
Checked: tests/test_page_markdown.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from ..layout import Table
from ..numbers import counted
from .parts import Part, Section
from .provenance import Provenance

__all__ = ["LARGEST", "to_markdown"]

LARGEST = 60_000  # characters; GitHub takes 65,536
_OPEN_ROWS = 8  # of a table that is not folded
_MOST_ROWS = 40
_MOST_NAME = 200  # characters of a title, or of a command as a heading
_MOST_ANSWER = 4_000
_HASH = 12
_CUT = "The report goes on; the rest did not fit here, and is on the page (`coordsim report DIR -o report.html`)."
_OPEN = "What no answer speaks to"


def to_markdown(title: str, parts: Sequence[tuple[Provenance, Part]], sources: Sequence[Provenance]) -> str:
    """Return answers as Markdown; `parts` with the source of each, `sources` in brief at the end."""
    pieces = [f"## {_text(_short(title, _MOST_NAME))}"]
    first = {0}
    for section in Section:
        said = list(
            _section([(source, part) for source, part in parts if part.section is section and not _is_open(part)])
        )
        pieces += [f"### {section.question}", *filter(None, said)] if said else []
        if section is Section.ANSWER:
            first = _first(pieces, parts)
    still = [_missing(part) for _, part in parts if _is_open(part)]
    pieces += [f"<details><summary>{_OPEN}</summary>\n\n" + "\n".join(still) + "\n\n</details>"] if still else []
    return _fitting(pieces, first, _reproduce(sources))


def _first(pieces: Sequence[str], parts: Sequence[tuple[Provenance, Part]]) -> set[int]:
    """Return the places of the title and of the answers, with what stands over them."""
    spoken = [(source, part) for source, part in parts if part.section is Section.ANSWER]
    wanted = {pieces[0], f"### {Section.ANSWER.question}"}
    wanted |= {_heading(source) for source, _ in spoken} | {_answer(part) for _, part in spoken}
    return {place for place, one in enumerate(pieces) if one in wanted}


def _is_open(part: Part) -> bool:
    """Whether a part says only what is missing."""
    return bool(part.missing) and not (part.charts or part.tables or part.facts or part.blocks or part.opened)


def _missing(part: Part) -> str:
    return "\n".join(f"- {_text(one.what)}: {_code(one.command)}" for one in part.missing)


def _section(spoken: Sequence[tuple[Provenance, Part]]) -> Iterator[str]:
    """Yield what the parts of a section say; where several answers speak, the command of each first."""
    several = len({source.command for source, _ in spoken}) > 1
    named = ""
    for source, part in spoken:
        if several and source.command != named:
            named = source.command
            yield _heading(source)
        yield from _part(part)


def _heading(source: Provenance) -> str:
    return f"#### {_code(_short(source.command, _MOST_NAME))}"


def _answer(part: Part) -> str:
    return f"**{_text(_short(part.answer, _MOST_ANSWER))}**" if part.answer else ""


def _part(part: Part) -> Iterator[str]:
    yield _answer(part)
    if part.facts:
        yield _rows(Table("", ("", "found", "verdict"), "<<<", part.facts))
    yield from (_table(one, folded=False) for one in part.opened)
    yield from (f"> **Warning**: {_text(one)}" for one in part.warnings)
    for chart in part.charts:
        view = chart.views[_shown(chart.views)]
        yield f"{_text(chart.title)} {_text(view.summary)}"
        yield _table(view.table, folded=True)
    for one in part.tables:
        yield _table(one, folded=len(one.rows) > _OPEN_ROWS)
    yield from (_fenced(one) for one in part.blocks)
    yield from (f"_{_text(one)}_" for one in part.notes)
    if part.missing:
        yield _missing(part)


def _shown(names: Iterable[str]) -> str:
    """Return which view a chart shows first."""
    names = list(names)
    return next((one for one in ("p95", "difference") if one in names), names[0])


def _table(table: Table, folded: bool) -> str:
    """Return a table under its title, folded or open; of a long one the first rows."""
    if not table.rows:
        return ""
    kept = table.rows[:_MOST_ROWS]
    left = len(table.rows) - len(kept)
    notes = [table.note] if table.note else []
    notes += [f"and {counted(left, 'row')} more"] if left else []
    body = _rows(Table("", table.columns, table.align, kept))
    note = "".join(f"\n\n{_text(one)}" for one in notes)
    title = table.title or "The numbers"
    if not folded:
        return f"**{_text(title)}**\n\n{body}{note}"
    rows = counted(len(table.rows), "row")
    return f"<details><summary>{_text(title)} ({rows})</summary>\n\n{body}{note}\n\n</details>"


def _rows(table: Table) -> str:
    kept = [at for at in range(len(table.columns)) if any(row[at] for row in table.rows) or table.columns[at]]
    rows = [[row[at] for at in kept] for row in (table.columns, *table.rows)]
    rule = "|" + "|".join(" ---: " if table.align[at] == ">" else " --- " for at in kept) + "|"
    head, *body = ("| " + " | ".join(_text(cell.strip()).replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([head, rule, *body])


def _reproduce(sources: Sequence[Provenance]) -> str:
    """Return the commands that repeat the answers, and what each scenario rests on, folded; of what is too long the longest commands go first."""
    calls = list(dict.fromkeys(one.command for one in sources))
    lines: list[str] = []
    for one in {(one.sha256 or (one.scenario, *one.data), one.beside): one for one in sources}.values():
        scenario, *more = _source(one)
        lines += [f"\n{scenario}", *more]
    commands, told = len(calls), len(lines)
    while len(text := _ending(calls, lines, commands - len(calls), told - len(lines))) > LARGEST // 2:
        if calls:
            calls.remove(max(calls, key=len))
        else:
            lines.pop()
    return text


def _ending(calls: Sequence[str], told: Sequence[str], commands: int, rest: int) -> str:
    """Return commands and lines under a title, and how many `commands` and how many of the `rest` are left out."""
    blocks = []
    for language in ("sh", "python"):
        lines = [one for one in calls if one.startswith("coordsim ") is (language == "sh")]
        blocks += [_fenced(lines, language)] if lines else []
    blocks += ["\n".join(told).strip("\n")] if told else []
    left = [counted(count, what) for count, what in ((commands, "command"), (rest, "line")) if count]
    blocks += [f"{' and '.join(left)} did not fit here."] if left else []
    return "<details><summary>How is it reproduced?</summary>\n\n" + "\n\n".join(blocks) + "\n\n</details>"


def _source(source: Provenance) -> Iterator[str]:
    if source.measured:
        yield f"- trace {_text(source.scenario)}"
    else:
        sha = f", hash {_code(source.sha256[:_HASH])}" if source.sha256 else ""
        yield f"- scenario {_text(source.scenario)}{sha}, seed {source.seed}"
    yield from (f"- scenario {_text(name)}, hash {_code(sha[:_HASH])}" for name, sha in source.beside)
    yield "- " + _text(", ".join(f"{name} {version}" for name, version in source.versions.items()))
    yield from (f"- {one.quality}: {_text(one.name)} ({_text(one.source)})" for one in source.inputs)
    if source.data:
        yield "- needs " + ", ".join(_code(one) for one in source.data)
    if source.lines:
        given = sum(one.given for one in source.lines)
        yield f"- of {counted(len(source.lines), 'line')} of the resolved scenario {given} were given, the others filled in"


def _fitting(pieces: Sequence[str], first: Collection[int], end: str) -> str:
    """Return pieces with blank lines between, as many as fit before the end; those at the `first` places have their room before all others."""
    room = LARGEST - len(end) - len(_CUT) - 6
    kept: set[int] = set()
    for places in (sorted(first), [place for place in range(len(pieces)) if place not in first]):
        for place in places:
            room -= len(pieces[place]) + 2
            if room < 0:
                break
            kept.add(place)
    cut = [_CUT] if len(kept) < len(pieces) else []
    return "\n\n".join([*(pieces[place] for place in sorted(kept)), *cut, end]) + "\n"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(text: str) -> str:
    """Return text that Markdown and HTML show as it is; what stands between backticks is code, as in Markdown."""
    parts = re.split(r"(`[^`\n]+`)", " ".join(text.split()))
    return "".join(one if at % 2 else _escaped(one) for at, one in enumerate(parts))


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\*`~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)|^#|^[-+](?= ))", r"\\\1", text)


def _code(text: str) -> str:
    """Return text as code; one that holds backticks stands between more of them."""
    longest = max((len(one) for one in re.findall("`+", text)), default=0)
    ticks, space = "`" * (longest + 1), " " * bool(longest)
    return f"{ticks}{space}{text}{space}{ticks}"


def _fenced(lines: Sequence[str], language: str = "text") -> str:
    text = "\n".join(lines)
    longest = max((len(one) for one in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
