"""What a study says to the sections of a page: the least and the most, capacity against the SLO, load, steps, what matters, and how sure.

Which sections it speaks to follows from its factors: a count of capacity (replicas, concurrency, ...), the load (numbers under
`workload.arrivals`), or a count of steps, agents or modalities.

Leaves out: charts (`study_charts`), sentences and tables (`study_tables`); exponents, which the command `scaling` fits.
Checked: tests/test_study_sections.py.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...analysis.slo import Objective
from ...analysis.statistics import Estimate, bonferroni, mean_interval
from ...analysis.study import StudyResult
from ...analysis.study_effects import Point, effects, extremes, points
from .. import plan_words as words
from .. import study_tables
from ..layout import Table
from ..numbers import NOTHING, counted, show
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from ..study_tables import told_at
from .pieces import MOST_ROWS, again, tidy
from .study_charts import chances, effect, limit_of, lines_of, percentiles, slider, within
from .study_parallel import parallel

__all__ = ["charts", "figures", "parts"]

_CAPACITIES = ("replicas", "concurrency", "limit", "servers", "cores", "at_most", "capacity")
_COUNTS = ("steps", "modalities", "streams", "agents", "repeat", "members")
_FEW = 5  # replications, below which more are called for


def parts(found: StudyResult, source: Provenance) -> list[Part]:
    """Return what a study says to each section that it can speak to."""
    objectives = [
        Objective(metric, threshold, ">=" if sense == ">=" else "<=") for metric, threshold, sense in source.objectives
    ]
    made = [_answer(found), _matters(found, source), _sure(found, source)]
    capacity, load, count = (next(iter(places), None) for places in _places(found))
    if capacity is not None:
        made.append(_replicas(found, capacity, objectives, source))
    if load is not None:
        made.append(_breaks(found, load, objectives, source))
    if count is not None:
        made.append(_scaling(found, count, source))
    return [one for one in made if one is not None]


def charts(found: StudyResult) -> list[Chart]:
    """Return the charts of the main metric: one for each factor, and of all factors side by side."""
    return list(figures(found).values())


def figures(found: StudyResult) -> dict[str, Chart]:
    """Return the charts of the main metric by name: paths of factors, and 'all factors' where there are several."""
    made = {one.path: effect(found, place) for place, one in enumerate(found.factors)}
    every = parallel(found)
    return made | ({"all factors": every} if every is not None else {})


def _places(found: StudyResult) -> tuple[list[int], list[int], list[int]]:
    """Return the places of factors that are capacity, load, and counts of steps or the like, numbers all."""
    numbers = [
        (place, one.path) for place, one in enumerate(found.factors) if one.is_number and _levels(found, place) > 1
    ]
    load = [place for place, path in numbers if path.startswith("workload.arrivals")]
    capacity = [place for place, path in numbers if path.rpartition(".")[2] in _CAPACITIES and place not in load]
    count = [place for place, path in numbers if path.rpartition(".")[2] in _COUNTS and place not in load]
    return capacity, load, count


def _levels(found: StudyResult, place: int) -> int:
    return len({one.levels[place].text for one in found.cells if one.levels[place].text})


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _answer(found: StudyResult) -> Part:
    notes = [
        f"± and [ ] are {100 * found.confidence:g} % intervals over replications, which meet the same draws in every cell of one seed."
    ]
    ends = extremes(found, found.metric)
    if ends is not None and ends.difference is not None and ends.compared > 2:
        notes.append(
            f"The least and the most are chosen among {ends.compared} points: the interval of their difference holds for all pairs at once (Bonferroni)."
        )
    return Part(Section.ANSWER, study_tables.statement(found), notes=tuple(notes), facts=tuple(_facts(found)))


def _facts(found: StudyResult) -> Iterator[tuple[str, str, str]]:
    ends = extremes(found, found.metric)
    if ends is not None:
        unit = found.column(found.metric).unit
        yield f"Least {found.metric}, {told_at(found, ends.least)}", show(ends.least.estimate, unit).text, ""
        yield f"Most {found.metric}, {told_at(found, ends.most)}", show(ends.most.estimate, unit).text, ""
    yield (
        "Cells",
        f"{len(found.cells) - len(found.failed)} of {len(found.cells)} ran" if found.failed else str(len(found.cells)),
        "",
    )
    counts = Counter(one.verdict for one in found.cells if one.verdict)
    total = sum(counts.values())
    for verdict in ("pass", "fail", "inconclusive"):
        if counts[verdict]:
            yield f"SLO: {verdict}", f"{counts[verdict]} of {counted(total, 'cell')}", verdict


# ---------------------------------------------------------------------------------------------------------------------
# Capacity, load, steps


def _replicas(found: StudyResult, place: int, objectives: Sequence[Objective], source: Provenance) -> Part:
    made = slider(found, place, objectives)
    path = found.factors[place].path
    drawn = [
        percentiles(
            found, place, None if made is None else made.value, "replicas", f"How long does a task take, by {path}?"
        )
    ]
    drawn += [chances(found, place, objectives), None if made is None else within(found, made)]
    notes = _slider_notes(found, objectives) if made is not None else []
    missing = [Missing(f"which {path} is the cheapest that meets the SLO", _plan(found, place, source))]
    if not objectives:
        missing.append(
            Missing(
                "whether an SLO is met; with your limit in place of 2 s",
                f"{source.command} --set 'slo={{p95: 2 s}}'",
            )
        )
    return Part(
        Section.REPLICAS, _enough(found, place, objectives), charts=tuple(one for one in drawn if one is not None),
        notes=tuple(notes), missing=tuple(missing), slider=made,
    )  # fmt: skip


def _slider_notes(found: StudyResult, objectives: Sequence[Objective]) -> list[str]:
    notes = [
        f"The slider judges each point by its own {100 * found.confidence:g} % interval, as the SLO of each cell is; one in twenty may be wrong."
    ]
    if abs(found.confidence - 0.95) > 1e-9:
        notes[0] = (
            f"The slider judges each point by its own {100 * found.confidence:g} % interval, as the SLO of each cell is."
        )
    if len(found.seeds) > 1:
        notes.append("The replications of all seeds of a point are taken together; verdicts of cells are of one seed.")
    limit = limit_of(objectives)
    others = [one.metric for one in objectives if limit is None or one.metric != limit.metric]
    if others:
        notes.append(
            f"The slider knows T_total alone: {words.joined(others)} {'is' if len(others) == 1 else 'are'} judged in the tables."
        )
    return notes


def _plan(found: StudyResult, place: int, source: Provenance) -> str:
    levels = dict.fromkeys(one.levels[place].text for one in found.cells if one.levels[place].text)
    return again(f"coordsim plan {source.scenario}", "--decide", f"{found.factors[place].path}={','.join(levels)}@$1/h")


def _enough(found: StudyResult, place: int, objectives: Sequence[Objective]) -> str:
    """Return at which value of the capacity all objectives are shown to be met, on each line; or what the metric is at its ends."""
    path = found.factors[place].path
    if not any(one.verdict for one in found.cells) or not objectives:
        return study_tables.statement(found)
    verdicts = {one.number: one.verdict for one in found.cells}
    lines = lines_of(found, [(one, one.estimate) for one in points(found, found.metric)], place)
    told = []
    for name, line in lines.items():
        first = next((one for one, _ in line if all(verdicts[number] == "pass" for number in one.cells)), None)
        where = "" if name == "all" else f" with {name}"
        what = f"{path}={first.levels[place].text} is the first" if first is not None else f"no value of {path} is"
        told.append(f"{what}{' that is' if first is not None else ''} shown to be enough{where}")
    shown, left = told[:3], len(told) - 3
    more = f"; and so for {counted(left, 'more combination')} in the tables" if left > 0 else ""
    return f"To meet {words.wanted(objectives)}, {'; '.join(shown)}{more}."


def _breaks(found: StudyResult, place: int, objectives: Sequence[Objective], source: Provenance) -> Part | None:
    limit = limit_of(objectives)
    path = found.factors[place].path
    chart = percentiles(
        found, place, None if limit is None else limit.threshold, "load", f"How long does a task take, by {path}?"
    )
    if chart is None:
        return None
    chart = replace(chart, threshold="")  # its line stays where the SLO has it
    missing = [
        Missing("at which load objectives break, and which resource saturates", f"coordsim plan {source.scenario}")
    ]
    return Part(Section.BREAKS, _knee(found, place), charts=(chart,), missing=tuple(missing))


def _knee(found: StudyResult, place: int) -> str:
    """Return from which load on p95 of T_total is shown to grow more than in proportion to it: where the local slope exceeds 1."""
    path = found.factors[place].path
    known = points(found, "response_time_p95")
    lines = lines_of(found, [(one, one.estimate) for one in known], place)
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


def _scaling(found: StudyResult, place: int, source: Provenance) -> Part | None:
    path = found.factors[place].path
    chart = percentiles(found, place, None, "scaling", f"How does T_total grow with {path}?", is_log=True)
    if chart is None:
        return None
    views = {
        name: replace(view, layout={**view.layout, "xaxis": {**{k: v for k, v in view.layout["xaxis"].items() if k != "dtick"}, "type": "log"}})
        for name, view in chart.views.items()
    }  # fmt: skip
    levels = dict.fromkeys(one.levels[place].text for one in found.cells if one.levels[place].text)
    command = again(f"coordsim scaling {source.scenario}", "--over", f"{path}={','.join(levels)}")
    missing = Missing("the exponent with its interval, and which mechanism it comes from", command)
    return Part(Section.SCALING, chart.views["p95"].summary, charts=(replace(chart, views=views),), missing=(missing,))


# ---------------------------------------------------------------------------------------------------------------------
# What matters, and how sure


def _matters(found: StudyResult, source: Provenance) -> Part | None:
    drawn = figures(found)
    if not drawn:
        return None
    measured = effects(found, found.metric)
    tables = [tidy(one, "what") for one in study_tables.main_effects(found, measured)]
    notes = (
        ["A main effect is a mean over the levels of the other factors; it says nothing about interactions."]
        if len(measured) > 1
        else []
    )
    missing = []
    if not measured and len(found.factors) > 1:
        missing.append(
            Missing("how much of the spread each factor explains", f"coordsim sensitivity {source.scenario}")
        )
    every = drawn.pop("all factors", None)
    ordered = (*([every] if every is not None else []), *drawn.values())
    return Part(
        Section.MATTERS, _most(found), charts=ordered, tables=tuple(tables), notes=tuple(notes), missing=tuple(missing)
    )


def _most(found: StudyResult) -> str:
    """Return which factor's levels are furthest apart, where that is measured; else the least and the most."""
    known = [
        (max(abs(level.difference.difference.value) for level in one.levels if level.difference is not None), one)
        for one in effects(found, found.metric)
        if any(level.difference is not None for level in one.levels)
    ]
    if not known:
        return study_tables.statement(found)
    _, most = max(known, key=lambda pair: pair[0])
    level = max((one for one in most.levels if one.difference is not None), key=lambda one: abs(_gap(one.difference)))
    assert level.difference is not None
    gap = level.difference.difference
    unit = found.column(found.metric).unit
    resolved = "" if gap.excludes(0.0) else ", which is not resolved"
    size = gap if gap.value > 0 else Estimate(-gap.value, -gap.high, -gap.low, gap.confidence, gap.n, gap.method)
    return (
        f"{most.factor} moves {found.metric} most: at {level.level.text} it is {show(size, unit).text} "
        f"{'above' if gap.value > 0 else 'below'} that at {most.levels[0].level.text}, as a mean over all else{resolved}."
    )


def _gap(one: object) -> float:
    from ...analysis.statistics import Comparison

    return one.difference.value if isinstance(one, Comparison) else 0.0


def _sure(found: StudyResult, source: Provenance) -> Part:
    tables: list[Table] = [
        tidy(study_tables.cells_table(found, MOST_ROWS), "cell"),
        *study_tables.failures_table(found),
    ]
    ran = sorted({one.replications for one in found.cells if not one.failure})
    missing = []
    if ran and ran[0] < _FEW:
        what = "intervals: one replication has none of its own" if ran[0] == 1 else "narrower intervals"
        missing.append(Missing(what, again(source.command, "--replications", "10")))
    return Part(
        Section.SURE,
        _precision(found, ran),
        tables=tuple(tables),
        warnings=tuple(
            re.sub(r"\bSCENARIO\b", lambda _found: source.scenario, one) for one in study_tables.warnings(found)
        ),
        missing=tuple(missing),
    )


def _precision(found: StudyResult, ran: Sequence[int]) -> str:
    counts = NOTHING if not ran else f"{ran[0]} to {ran[-1]}" if len(ran) > 1 else str(ran[0])
    tasks = sum(one.tasks for one in found.cells)
    known = [
        (one.estimate.relative_error, one)
        for one in points(found, found.metric)
        if math.isfinite(one.estimate.relative_error)
    ]
    said = f"{counted(len(found.cells), 'cell')}, {counts} {'replication' if counts == '1' else 'replications'} each, {words.counted(tasks, 'task')} in all"
    failed = f"; {counted(len(found.failed), 'cell')} failed" if found.failed else ""
    if not known:
        return f"{said}{failed}. No interval of {found.metric} is known."
    worst, where = max(known, key=lambda pair: pair[0])
    return f"{said}{failed}. {found.metric} is known within ± {words.percent(worst)} or better, the worst {told_at(found, where)}."
