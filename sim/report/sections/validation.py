"""What a validation says to a page: its verdict, and how sure predictions are when a real system is held against them.

Leaves out: the words and tables of the answer (`validation_words`, `validation_tables`); how it is measured (`calibration.validation`).
Checked: tests/test_validation_report.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...analysis.validation import Verdict
from .. import validation_tables as tables
from ..numbers import counted
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from ..validation_words import NAMES, VERDICTS, answer_of, further, notes, size, text
from .pieces import again, tidy
from .validation_charts import ablation, errors, measured

__all__ = ["figures", "parts"]

_PLACES = ("-o", "--out", "--resume=", "--overwrite=")
_ELSEWHERE = ("-o", "runs/validation-again")


def parts(found: Verdict, source: Provenance) -> list[Part]:
    """Return what it says: the verdict, and how sure predictions are."""
    return [Part(Section.ANSWER, answer_of(found), facts=tuple(_facts(found))), _sure(found, source)]


def figures(found: Verdict) -> dict[str, Chart]:
    """Return the charts by name."""
    return {one.name: one for one in _charts(found)}


def _facts(found: Verdict) -> Iterator[tuple[str, str, str]]:
    """Yield the verdict with what it rests on, and each headline with its goal."""
    rests = f"{counted(len(found.rows), 'configuration')}, {counted(len(found.kept), 'round')}"
    yield "Verdict", rests, found.status
    for one in found.headlines:
        label = f"Median error of {NAMES[one.metric]} (goal {size(one.metric, one.goal)}, noise floor {size(one.metric, one.floor)})"
        yield label, text(one.metric, one.error, one.goal), VERDICTS[one.standing]


def _sure(found: Verdict, source: Provenance) -> Part:
    opened = tuple(one for one in (tidy(tables.headlines(found)), tidy(tables.beside(found))) if one.rows)
    folded = (
        tidy(tables.configurations(found)),
        tidy(tables.rounds(found), "what"),
        tidy(tables.about(found), "what"),
    )
    return Part(
        Section.SURE,
        " ".join(found.reasons) or answer_of(found),
        charts=tuple(_charts(found)),
        opened=opened,
        tables=tuple(one for one in folded if one.rows),
        notes=tuple(notes(found)),
        warnings=found.doubts,
        missing=tuple(_next(found, source)),
    )


def _charts(found: Verdict) -> Iterator[Chart]:
    yield from errors(found)
    yield from (one for one in (measured(found), ablation(found)) if one is not None)


def _next(found: Verdict, source: Provenance) -> Iterator[Missing]:
    """Yield the command that may bring a verdict where there is none, and else the one that tries other configurations."""
    measured_here = source.command.startswith("coordsim validate") and "--replay" not in source.command
    asked = source.command if measured_here else "coordsim validate"
    step = further(found)
    if step is not None:
        if step.goes_on and " -o " in asked:
            command = again(asked, "--budget", step.budget, "--resume", drop=("--resume=", "--overwrite="))
        else:
            command = again(asked, "--budget", step.budget, *_ELSEWHERE, drop=_PLACES)
        yield Missing(step.what, command)
    elif isinstance(source.seed, int):
        what = "How much hangs on which configurations these are: others, drawn by another seed"
        yield Missing(what, again(asked, "--seed", str(source.seed + 1), *_ELSEWHERE, drop=_PLACES))
