"""What a sweep says to a page: how the metric grows, by which law, because of what, and what is not settled.

Leaves out: the charts (`scaling_charts`); the words of the verdict (`scaling_tables`, `analysis.growth`).
Checked: tests/test_scaling_sections.py.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator

from ...analysis.causes import ALL_OFF, GONE
from ...analysis.growth import sentence
from ...analysis.growth_laws import FEWEST
from ...analysis.replicate import LEAST
from ...analysis.scaling import ScalingResult, Sweep
from ...engine.units import significant
from .. import scaling_tables as tables
from ..numbers import NOTHING, counted
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from ..scaling_tables import name_of, ordered, statement
from .asked import asked
from .further import about, repeat
from .pieces import cells, table, tidy
from .scaling_charts import beside_slopes, categories, causes, curve, exponent, p_shown, slope, taken

__all__ = ["figures", "parts"]

_HINTS = {"steps": ("repeat", "1..64"), "modalities": ("perceive", ""), "agents": ("team", "1..16")}


def parts(found: ScalingResult, source: Provenance) -> list[Part]:
    """Return what all sweeps say, by section."""
    notes = tuple(said for one in ordered(found) if (said := beside_slopes(one, found)))
    answer = Part(Section.ANSWER, _answer(found), facts=tuple(_facts(found)), notes=notes)
    made = [answer, _time(found), _scaling(found, source), _matters(found, source), _sure(found, source)]
    return [one for one in made if one is not None]


def figures(found: ScalingResult) -> dict[str, Chart]:
    """Return all charts: the curve of each sweep by its factor, that with the verdict first, then the others by their names."""
    sweeps = ordered(found)
    curves = {one.factor: chart for one in sweeps if (chart := curve(one, found)) is not None}
    others = [
        chart
        for one in sweeps
        for chart in (slope(one, found), causes(one, found), categories(one))
        if chart is not None
    ]
    return curves | {chart.name: chart for chart in others}


def _answer(found: ScalingResult) -> str:
    return " ".join(statement(one, found.metric) for one in ordered(found) if not one.beside)


def _facts(found: ScalingResult) -> Iterator[tuple[str, str, str]]:
    """Yield the exponent of each factor with its verdict; without one, how it grows in words."""
    for one in ordered(found):
        beside = ", mean over subsets" if one.beside else ""
        label = f"{name_of(found.metric)} over {one.factor}{beside}"
        if one.growth is None:
            yield label, "fewer than two points", "cannot tell"
            continue
        verdict = one.growth.verdict
        if one.growth.exponent is not None:
            yield label, f"exponent {exponent(one.growth.exponent)}", verdict
        else:  # such as `falling: 4 % of the mean over the range`, of which the last is the figure
            said = sentence(one.growth).removeprefix(verdict).lstrip(":, ")
            yield label, said.rpartition(": ")[2].rpartition(", ")[2] or verdict, verdict
        for name in one.cause.mechanisms[:1]:
            made = next((part for part in one.ablation if part.mechanism == name), None)
            share = None if made is None else taken(made)
            if share is not None:
                yield f"share of the rise over {one.factor} that goes without {name}", cells(share, "share"), ""


# ---------------------------------------------------------------------------------------------------------------------
# How does it scale?


def _scaling(found: ScalingResult, source: Provenance) -> Part:
    of_causes = set(tables.notes_on_causes(found))  # they stand with the causes
    drawn = [chart for one in ordered(found) for chart in (curve(one, found), slope(one, found)) if chart is not None]
    other = [
        tidy(made, first)
        for one in ordered(found)
        for first, of in (("chosen", tables.laws_table), ("time", tables.others_table))
        for made in of(one)
    ]
    return Part(
        Section.SCALING,
        " ".join(statement(one, found.metric) for one in ordered(found)),
        charts=tuple(drawn),
        tables=tuple(other),
        notes=tuple(one for one in tables.notes(found) if one not in of_causes),
        missing=tuple(_missing(found, source)),
    )


def _missing(found: ScalingResult, source: Provenance) -> Iterator[Missing]:
    """Yield the points that a law needs, and the factors that were not swept but are there to be."""
    swept = [one.factor for one in found.sweeps]
    for one in found.sweeps:
        points = 0 if one.growth is None else one.growth.curve.x.size
        if points < FEWEST and not one.beside and one.factor != "modalities":
            what = f"A law of {one.factor}: {counted(points, 'point')} of at least {FEWEST}"
            wider = ",".join(map(str, _more_points([cell.x for cell in one.cells])))
            yield Missing(what, _over(source, one, f"{one.factor}={wider}"))
    for name, (key, values) in _HINTS.items():
        lines = [line for line in source.lines if re.match(rf"\s*{key}:", line.text)]
        there = [line.text for line in lines if line.given] or [line.text for line in lines]
        # Of several it is not plain which is meant, and the command would have to say.
        if name in swept or len(there) != 1 or (name == "modalities" and "streams" in swept):
            continue
        wanted = values or f"1..{max(2, _length(there[0]))}"
        yield Missing(f"How it grows with {name}", _over(source, None, f"{name}={wanted}"))


def _more_points(xs: Iterable[float]) -> list[int]:
    """Return whole numbers that a law needs, about those there are: between them where the gaps are widest, then twice the last.

    >>> _more_points([2, 4, 8, 16]), _more_points([1, 4]), _more_points([])
    ([2, 4, 6, 8, 11, 16], [1, 2, 3, 4, 6, 8], [1, 2, 3, 4, 6, 8])
    """
    made = sorted({max(1, round(x)) for x in xs}) or [1, 2]
    while len(made) < FEWEST:
        gaps = [(high / low, low, round(math.sqrt(low * high))) for low, high in itertools.pairwise(made)]
        ratio, _, middle = max((one for one in gaps if one[1] < one[2] < one[0] * one[1]), default=(0.0, 0, 0))
        made = sorted([*made, middle if ratio else 2 * made[-1]])
    return made


def _length(line: str) -> int:
    """Return how many things a list on one line has; 2 where it is not on the line.

    >>> _length("perceive: [text, record, image]"), _length("perceive:")
    (3, 2)
    """
    inside = re.search(r"\[(.*)\]", line)
    return inside[1].count(",") + 1 if inside else 2


def _over(source: Provenance, one: Sweep | None, text: str) -> str:
    """Return the command with this sweep, in place of what it had of the factor; another factor is swept by itself."""
    made = asked(source)
    alone = made.kind == "scaling" and sum(name == "--over" for name, _ in made.options) == 1
    return (repeat if one is not None and alone else about)("scaling", source, "--over", text)


# ---------------------------------------------------------------------------------------------------------------------
# Where does the time go, what matters


def _time(found: ScalingResult) -> Part | None:
    drawn = [chart for one in ordered(found) if not one.beside and (chart := categories(one)) is not None]
    if not drawn:
        return None
    return Part(Section.TIME, " ".join(chart.views[""].summary for chart in drawn), charts=tuple(drawn))


def _matters(found: ScalingResult, source: Provenance) -> Part:
    drawn = [chart for one in ordered(found) if (chart := causes(one, found)) is not None]
    if not any(one.ablation for one in found.sweeps):
        what = "Which mechanism makes it grow: each is switched off in turn"
        command = repeat("scaling", source, "--ablation", drop=("--no-ablation=", "--ablation="))
        return Part(Section.MATTERS, "No mechanism was switched off.", missing=(Missing(what, command),))
    said = [_cause(one, found) for one in ordered(found) if one.ablation]
    changes = [made for one in ordered(found) for made in list(tables.ablation_tables(one, found))[1:]]
    named = [table(one.title, ("mechanism", "switched off by"), one.rows, "<<") for one in changes]
    named += [
        tidy(made, "without") for one in ordered(found) if causes(one, found) is None
        for made in list(tables.ablation_tables(one, found))[:1]
    ]  # fmt: skip
    return Part(
        Section.MATTERS,
        " ".join(said),
        charts=tuple(drawn),
        tables=tuple(named),
        notes=(*tables.notes_on_causes(found), *_skipped(found)),
    )


def _cause(one: Sweep, found: ScalingResult) -> str:
    begins = f"{name_of(found.metric)} over {one.factor}"
    names = " and ".join(one.cause.mechanisms)
    if one.cause.kind == "not asked":
        if one.verdict in GONE:
            return f"{begins} does not grow: there is nothing to find a cause of."
        shares = [
            (made.mechanism, share)
            for made in one.ablation
            if made.mechanism != ALL_OFF and (share := taken(made)) is not None
        ]
        if not shares:
            return f"How {begins} grows cannot be told, nor because of what."
        name, most = max(shares, key=lambda pair: pair[1].value)
        return f"How {begins} grows cannot be told; of its rise most goes without {name}: {cells(most, 'share')}."
    told = {
        "removed": f"grows because of {names}",
        "lowered": f"grows faster because of {names}",
        "none": "has no single mechanism that makes it grow",
    }[one.cause.kind]
    return f"{begins} {told}."


def _skipped(found: ScalingResult) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            f"{made.mechanism} over {one.factor} was not switched off: {made.skipped}."
            for one in found.sweeps
            for made in one.ablation
            if made.growth is None and made.mechanism != ALL_OFF
        )
    )


# ---------------------------------------------------------------------------------------------------------------------
# How sure are we?


def _sure(found: ScalingResult, source: Provenance) -> Part:
    undecided = [one.factor for one in found.sweeps if one.verdict == "cannot tell" and not one.beside]
    said = [f"{counted(found.replications, 'replication')} of each cell, which meet the same draws at every x."]
    said.append(
        f"It cannot be told how it grows with {' and '.join(undecided)}." if undecided else "Every verdict is told."
    )
    rows = [row for one in ordered(found) for row in _fits(one)]
    columns = ("factor", "law", "held-out error", "worst residual", "p of lack of fit", "points")
    fits = (
        table(
            "How well the laws fit", columns, rows, "<<>>>>", "a small p says that the law misfits by more than chance"
        ),
    )
    missing = []
    if found.replications < LEAST:
        what = (
            "Narrower intervals"
            if found.replications > 2
            else "Intervals over chance: they need three replications or more"
        )
        missing.append(Missing(what, repeat("scaling", source, "--replications", "8")))
    notes = [
        f"{name_of(found.metric)} over {one.factor}: {reason}."
        for one in ordered(found)
        if one.growth
        for reason in one.growth.reasons
    ]
    return Part(
        Section.SURE, " ".join(said), tables=fits if rows else (), notes=tuple(notes),
        warnings=tuple(tables.warnings(found)), missing=tuple(missing),
    )  # fmt: skip


def _fits(one: Sweep) -> Iterator[tuple[str, ...]]:
    if one.growth is None:
        return
    for fit in one.growth.fits:
        chosen = one.growth.chosen is not None and fit.law == one.growth.chosen.law
        held, worst = (
            f"{significant(100 * value, 2)} %" if math.isfinite(value) else NOTHING
            for value in (fit.held_out, fit.worst)
        )
        p = NOTHING if fit.lack_of_fit is None else p_shown(fit.lack_of_fit)
        yield one.factor, f"{fit.law}{' (chosen)' if chosen else ''}", held, worst, p, str(one.growth.curve.x.size)
