"""How much load each combination of a study's other factors takes: up to which value the SLO is met, and where T_total begins to climb.

Leaves out: which resource saturates (the command `plan`).
Checked: tests/test_study_sections.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...analysis.slo import Objective
from ...analysis.statistics import Estimate, bonferroni, mean_interval
from ...analysis.study import StudyResult
from ...analysis.study_effects import Point, points
from .. import plan_words as words
from ..layout import Table
from ..numbers import NOTHING, show
from ..page.parts import Missing, Part, Section
from ..page.provenance import Provenance
from .further import about
from .pieces import table
from .study_charts import limit_of, lines_of, names_of, percentiles

__all__ = ["breaks", "is_load"]

_OPEN = 12  # rows, up to which the table stays open

# What makes more tasks arrive, as many times as it is greater; other times, such as those of thinking, do not.
_LOADS = frozenset({"poisson", "deterministic", "bursty.rate", "closed.users", "trace.time_scale"})

Lines = Mapping[str, Sequence[tuple[Point, Estimate]]]


def is_load(path: str) -> bool:
    """Whether the load is in proportion to what is at a path.

    >>> is_load("workload.arrivals.poisson"), is_load("workload.arrivals.closed.think")
    (True, False)
    """
    return path.removeprefix("workload.arrivals.") in _LOADS


def breaks(found: StudyResult, place: int, objectives: Sequence[Objective], source: Provenance) -> Part | None:
    """Return what the load at `place` breaks first: the SLO of which combination, and from which load on T_total climbs."""
    limit = limit_of(objectives)
    path = found.factors[place].path
    chart = percentiles(
        found, place, None if limit is None else limit.threshold, "load", f"How long does a task take, by {path}?"
    )
    if chart is None:
        return None
    chart = replace(chart, threshold="")  # its line stays where the SLO has it
    lines = lines_of(found, [(one, one.estimate) for one in points(found, "response_time_p95")], place)
    kept = _kept(found, place, lines) if objectives else {}
    first = _first(found, place, kept)
    looked = {first: lines[first]} if first else lines
    said = f"{_broken(place, kept, first, objectives, found)} {_knee(found, place, looked)}".strip()
    made = [_table(found, place, kept)] if len(kept) > 1 else []
    command = about("plan", source, *(() if objectives else ("--slo", "p95=2 s")))
    missing = Missing("At which load objectives break, and which resource saturates", command)
    return Part(
        Section.BREAKS, said, charts=(chart,), missing=(missing,),
        opened=tuple(one for one in made if len(one.rows) <= _OPEN), tables=tuple(one for one in made if len(one.rows) > _OPEN),
    )  # fmt: skip


def _kept(found: StudyResult, place: int, lines: Lines) -> dict[str, tuple[str, str]]:
    """Return for each line the greatest load up to which all cells pass, and the least at which one fails; '' for none."""
    verdicts = {one.number: one.verdict for one in found.cells}
    if not any(verdicts.values()):
        return {}
    made = {}
    for name, line in lines.items():
        each = [(one.levels[place].text, {verdicts[number] for number in one.cells}) for one, _ in line]
        passed = [text for text, _ in itertools.takewhile(lambda pair: pair[1] == {"pass"}, each)]
        made[name] = (passed[-1] if passed else "", next((text for text, said in each if "fail" in said), ""))
    return made


def _first(found: StudyResult, place: int, kept: Mapping[str, tuple[str, str]]) -> str:
    """Return the line that misses the SLO at the least load; '' where none does."""
    amounts = {one.levels[place].text: float(one.levels[place].value or 0) for one in found.cells}
    missed = [(amounts[fails], name) for name, (_, fails) in kept.items() if fails]
    return min(missed, key=lambda pair: pair[0])[1] if missed else ""


def _broken(
    place: int, kept: Mapping[str, tuple[str, str]], first: str, objectives: Sequence[Objective], found: StudyResult
) -> str:
    """Return which combination misses the SLO first, and how many do at all."""
    if not kept:
        return ""
    path, wanted = names_of(found)[place], f"the SLO ({words.wanted(objectives)})"
    if not first:
        return f"The SLO ({words.wanted(objectives)}) is nowhere shown to be missed over the values of {path}."
    upto, fails = kept[first]
    before = f"kept up to {path}={upto} and missed" if upto else "missed"
    if len(kept) == 1:
        return f"The SLO ({words.wanted(objectives)}) is {before} from {path}={fails} on."
    never = sum(not one for _, one in kept.values())
    return f"{first} breaks first: {wanted} is {before} from {path}={fails} on. {never} of {len(kept)} combinations are not shown to miss it."


def _table(found: StudyResult, place: int, kept: Mapping[str, tuple[str, str]]) -> Table:
    path = found.factors[place].path
    rows = [(name, upto or NOTHING, fails or NOTHING) for name, (upto, fails) in kept.items()]
    columns = ("with", "SLO met up to", "missed from")
    return table(
        f"How much {path} each combination takes",
        columns,
        rows,
        "<>>",
        "By the verdicts of the cells; between the two it is not resolved, or not tried.",
    )


def _knee(found: StudyResult, place: int, lines: Lines) -> str:
    """Return from which load on p95 of T_total is shown to grow more than in proportion to it: where the local slope exceeds 1."""
    path = found.factors[place].path
    line = [one for one, _ in next(iter(lines.values()), [])]
    pairs = [pair for pair in itertools.pairwise(line) if _is_positive(pair, place)]
    if len(pairs) < 2:
        return f"Too few values of {path} to tell where p95 of T_total begins to grow faster than the load."
    sure = bonferroni(found.confidence, len(pairs))
    slopes = [(pair, slope) for pair in pairs if (slope := _slope(pair, place, sure)) is not None]
    steep = next(((pair, slope) for pair, slope in slopes if slope.low > 1), None)
    where = next(iter(lines))
    on = "" if where == "all" else f" ({where})"
    if steep is None:
        return f"Over the values of {path} p95 of T_total is nowhere shown to grow more than in proportion to the load{on}."
    (low, high), slope = steep
    ends = f"{low.levels[place].text} to {high.levels[place].text}"
    return (
        f"From {path}={ends} on, p95 of T_total grows more than in proportion to the load{on}: there 1 % more load takes "
        f"{show(slope, '').text} % more time (by the slope between the two, at {100 * sure:.4g} %)."
    )


def _is_positive(pair: tuple[Point, Point], place: int) -> bool:
    values = [float(one.levels[place].value or 0) for one in pair]
    return 0 < values[0] < values[1]


def _slope(pair: tuple[Point, Point], place: int, sure: float) -> Estimate | None:
    """Return the slope of log p95 over log load between two points, paired by replication."""
    low, high = pair
    shared = sorted(low.sample.keys() & high.sample.keys())
    values = [float(one.levels[place].value or 0) for one in pair]
    if len(shared) < 2 or any(one.sample[key] <= 0 for one in pair for key in shared):
        return None
    apart = math.log(values[1] / values[0])
    return mean_interval([math.log(high.sample[key] / low.sample[key]) / apart for key in shared], sure)
