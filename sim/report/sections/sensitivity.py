"""What a sensitivity says to a page: which factor a metric owes most to, what 1 % is worth, and how sure that is.

Leaves out: the charts (`sensitivity_charts`); the words of the answer (`sensitivity_tables`).
Checked: tests/test_sensitivity_sections.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...analysis.replicate import LEAST
from ...analysis.sensitivity import NO_CHANGE, FactorResult, SensitivityResult
from .. import sensitivity_tables as tables
from ..compare_words import replications
from ..numbers import counted, listed
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from ..sensitivity_tables import change_text, name_of, percent_shown, statement
from .further import repeat
from .pieces import cells, known, tidy
from .sensitivity_charts import best_parts, by_metric, negligible

__all__ = ["figures", "parts"]

_TOP = 3  # factors that are proposed for a study of all at once
_SIZES = ("--trajectories", "--points")


def parts(found: SensitivityResult, source: Provenance) -> list[Part]:
    """Return what a sensitivity says, by section."""
    answer = Part(Section.ANSWER, statement(found), facts=tuple(_facts(found)))
    return [answer, _matters(found, source), _sure(found, source)]


def figures(found: SensitivityResult) -> dict[str, Chart]:
    """Return all charts: that which answers for each metric by the metric's name, the first metric's first, then the others by theirs."""
    groups = by_metric(found)
    first = {metric: made[0] for metric, made in groups.items() if made}
    return first | {chart.name: chart for made in groups.values() for chart in made[1:]}


def _facts(found: SensitivityResult) -> Iterator[tuple[str, str, str]]:
    """Yield for each metric what it is now, and the factor that it owes most to, with its interval."""
    for metric in found.metrics:
        name, unit = name_of(metric), found.units[metric]
        if known(found.base[metric]):
            yield f"{name} now", cells(found.base[metric], unit), ""
        if metric in found.morris:
            best = found.morris[metric].factors[0]
            yield f"{name} changes over the range of {best.name} by", cells(best.mu_star, unit), best.verdict
        elif metric in found.sobol and known(found.sobol[metric].factors[0].total):
            top = found.sobol[metric].factors[0]
            yield f"of the spread of {name} is {top.name}'s, alone", cells(top.first, "share"), ""
            yield f"of the spread of {name} is {top.name}'s, with its interactions", cells(top.total, "share"), ""
        elif found.method == "tornado":
            yield from _most_of(found, metric)


def _most_of(found: SensitivityResult, metric: str) -> Iterator[tuple[str, str, str]]:
    name = name_of(metric)
    for part, slope in list(best_parts(found, metric).items())[:1]:
        verb = "saves" if slope.value >= 0 else "costs"
        yield f"1 % faster {part} {verb}, of {name}", percent_shown(slope), "" if slope.excludes(0) else "may be chance"
    best = tables.surest(found, metric)
    if best is None:
        yield (
            f"{name}: changes beyond their intervals",
            f"none of {counted(len(found.factors), 'factor')}",
            "not resolved",
        )
        return
    told = [f"{change_text(change, found.units[metric])} at {at}" for change, at in tables.sure_ends(best, metric)]
    yield f"{name} surely changes most with {best.factor.name}", ", ".join(told), ""


# ---------------------------------------------------------------------------------------------------------------------
# What matters most?


def _matters(found: SensitivityResult, source: Provenance) -> Part:
    groups = by_metric(found)
    marginal = [tidy(made, "change") for whole in (True, False) for made in tables.marginal_tables(found, whole=whole)]
    return Part(
        Section.MATTERS,
        statement(found),
        charts=tuple(chart for made in groups.values() for chart in made),
        tables=tuple(marginal),
        notes=tuple(one for one in tables.notes(found) if one not in found.notes),
        missing=tuple(_missing(found, source)),
    )


def _missing(found: SensitivityResult, source: Provenance) -> Iterator[Missing]:
    """Yield the other methods, with commands that take the factors which matter most here."""
    if found.method == "tornado":
        top = _apart(found)
        if len(top) > 1:
            what = f"How much of the spread {listed(top)} explain, alone and together (Sobol' indices)"
            yield Missing(what, _with(source, "sobol", top))
        if len(found.factors) > 1 and len(top) > 1:
            yield Missing(
                f"Which of {listed(top)} interact, over wider ranges (Morris screening)", _with(source, "morris", top)
            )
        return
    yield Missing("What 1 % of each factor is worth, and the swings one at a time", _with(source, "tornado", ()))


def _apart(found: SensitivityResult) -> list[str]:
    """Return the factors that swing the last metric most, of which none changes what another one does."""
    chosen: list[FactorResult] = []
    for one in found.ranked(found.metrics[-1]):
        if one.failure or not one.responses[found.metrics[-1]].swing:
            continue
        if not any(
            _overlap(mine, others) for other in chosen for mine in one.factor.paths for others in other.factor.paths
        ):
            chosen.append(one)
    return [one.factor.name for one in chosen[:_TOP]]


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _with(source: Provenance, method: str, factors: tuple[str, ...] | list[str]) -> str:
    more = [word for name in factors for word in ("--factor", name)]
    drop = ("--factor", *_SIZES) if factors else _SIZES
    return repeat("sensitivity", source, "--method", method, *more, drop=drop)


# ---------------------------------------------------------------------------------------------------------------------
# How sure are we?


def _sure(found: SensitivityResult, source: Provenance) -> Part:
    said = [f"{replications(found.replications)} of each of {counted(found.cells, 'cell')}, which meet the same draws."]
    said += [text for metric in found.metrics for text in _said(found, metric)]
    still = [one.factor.name for one in found.factors if one.failure == NO_CHANGE]
    said += [f"{counted(len(still), 'factor')} changed no task at all: {', '.join(still)}."] if still else []
    missing = []
    if found.sobol:
        points = next(iter(found.sobol.values())).points
        missing.append(
            Missing("Narrower intervals of the indices", repeat("sensitivity", source, "--points", str(4 * points)))
        )
    elif found.replications < LEAST:
        what = "Intervals" if found.replications == 1 else "Narrower intervals"
        missing.append(Missing(what, repeat("sensitivity", source, "--replications", str(2 * LEAST))))
    return Part(
        Section.SURE, " ".join(said), notes=tuple(found.notes), warnings=tuple(tables.warnings(found)), missing=tuple(missing)
    )  # fmt: skip


def _said(found: SensitivityResult, metric: str) -> Iterator[str]:
    """Yield what is resolved of a metric, and what is negligible."""
    name = name_of(metric)
    if metric in found.morris:
        measures = found.morris[metric]
        yield f"{name}: {counted(measures.trajectories, 'trajectory').replace('trajectorys', 'trajectories')}. {negligible(measures)}."
    elif metric in found.sobol:
        yield f"{name}: {counted(found.sobol[metric].points, 'point')}. {tables.interactions(found.sobol[metric])}".strip()
    else:
        moving = [one for one in found.ranked(metric) if not one.failure]
        sure = sum(tables.is_sure(one.responses[metric]) for one in moving)
        yield f"{name}: the changes of {sure} of {counted(len(moving), 'factor')} are beyond their intervals."
