"""What all answers of a page say, by kind; and what is missing where none speaks to a section.

Leaves out: what each kind says (the other files here), and how a page looks (`page`).
Checked: tests/test_report_command.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_text
from ..page.parts import Missing, Part, Section
from ..page.provenance import Provenance, together
from .further import command_for, command_of, fitted, ready, why_not

if TYPE_CHECKING:
    from ..stored import Stored

__all__ = ["everything", "parts_of", "to_html", "to_markdown", "write"]


def parts_of(stored: Stored) -> list[Part]:
    """Return what an answer says to the sections."""
    module = import_module(f".{stored.kind}", __package__)
    found: list[Part] = module.parts(stored.found, stored.source)
    return found


def everything(answers: Sequence[Stored]) -> list[tuple[Provenance, Part]]:
    """Return what several answers say, and for each section that none speaks to what is missing."""
    said = [(one.source, _without(part, one, answers)) for one in answers for part in parts_of(one)]
    spoken = {part.section for _, part in said}
    missing = list(_missing(answers, spoken))
    unasked = tuple(part.section for _, part in missing if part.missing and part.section not in spoken)
    ending = [(answers[-1].source, Part(Section.ANSWER, "", unasked=unasked))] if unasked else []
    taken: set[str] = set()
    return [
        (source, replace(part, missing=tuple(ready(one, source, taken) for one in part.missing)))
        for source, part in (*said, *ending, *missing)
    ]


def _without(part: Part, answer: Stored, answers: Sequence[Stored]) -> Part:
    """Return a part without commands whose answers are on the page already."""
    here = {one.kind for one in answers if one.kind != answer.kind and one.source.scenario == answer.source.scenario}
    kept = tuple(one for one in part.missing if not any(_gives(one.command, kind) for kind in here))
    return part if kept == part.missing else replace(part, missing=kept)


def _gives(command: str, kind: str) -> bool:
    """Whether a command gives an answer of a kind."""
    words, name = command.split(), command_of(kind).split()
    return words[1 : 1 + len(name)] == name and (kind != "holdout" or "--holdout" in words)


def to_html(answers: Sequence[Stored], title: str = "") -> str:
    """Return answers as one page that opens from disk."""
    from ..page.assemble import to_html as page

    return page(title or title_of(answers), everything(answers), _sources(answers))


def to_markdown(answers: Sequence[Stored], title: str = "") -> str:
    """Return answers as Markdown."""
    from ..page.markdown import to_markdown as page

    return page(title or title_of(answers), everything(answers), _sources(answers))


def write(answers: Sequence[Stored], path: Path, title: str = "") -> Path:
    """Write answers as a page (.html) or as Markdown (.md); what is there is replaced. Raises ValueError for another ending, or no answer."""
    makers = {".html": to_html, ".htm": to_html, ".md": to_markdown}
    ending = path.suffix.lower()
    if ending not in makers:
        raise ValueError(f"`path` must end in .html or .md, but got {str(path)!r}")
    if not answers:
        raise ValueError("there is no answer to report")
    write_text(path, makers[ending](answers, title), overwrite=True)
    return path


def title_of(answers: Sequence[Stored]) -> str:
    """Return the title of a page: the scenarios that it is about."""
    return together(name for one in answers for name in (one.source.scenario, *dict(one.source.beside)))


def _sources(answers: Sequence[Stored]) -> list[Provenance]:
    return [one.source for one in answers]


# ---------------------------------------------------------------------------------------------------------------------
# What is missing

_ADDED: dict[Section, tuple[str, str]] = {
    Section.REPLICAS: ("How many replicas meet the objectives at least cost, and how near their limit they are", "plan"),
    Section.TIME: ("Where the time of the median and of the slowest tasks goes, step by step", "run"),
    Section.BREAKS: ("What each fault costs, and what breaks first as load or faults rise", "faults"),
    Section.RUNTIME: ("What another runtime would save, policy by policy", "compare"),
    Section.SCALING: ("How coordination grows with steps, agents and modalities, and by which law", "scaling"),
    Section.MATTERS: ("Which value matters most to the mean and the tail", "sensitivity"),
    Section.SURE: ("How far the numbers can be trusted: intervals against replications, warm-up, validation", "run"),
}  # fmt: skip


def _missing(answers: Sequence[Stored], spoken: set[Section]) -> Iterable[tuple[Provenance, Part]]:
    """Yield for each section that nobody speaks to what would be there, and the command that adds it.

    A validation has no scenario of the reader's of which more could be asked.
    """
    answers = [one for one in answers if one.kind != "validation"]
    if not answers:
        return
    scenarios = [one.source for one in answers if not one.source.measured]  # a trace has none: one is fitted to it
    source = (scenarios or [answers[0].source])[0]
    if not scenarios:
        yield source, _of_traces([section for section in _ADDED if section not in spoken], source)
        return
    for section in Section:
        if section in _ADDED and section not in spoken:
            what, command = _ADDED[section]
            if reason := why_not(command, source):
                yield source, Part(section, reason)
                continue
            said = "None of the answers on this page speaks to this."
            yield source, Part(section, said, missing=(Missing(what, command_for(command, source)),))


def _of_traces(sections: Sequence[Section], source: Provenance) -> Part:
    """Return in one sentence what no trace can say: at the end, in the last section."""
    asked = [_ADDED[one] for one in sections]
    what = "; ".join(f"{what[0].lower()}{what[1:]} (`coordsim {command}`)" for what, command in asked)
    said = "A trace tells what was, and not what would be. Ask a scenario that is fitted to it"
    return Part(Section.SURE, "", missing=(Missing(f"{said}: {what}", fitted(source)),) if asked else ())
