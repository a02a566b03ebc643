"""What a study says to the sections of a page: the least and the most, capacity against the SLO, load, steps, what matters, and how sure.

Which sections it speaks to follows from its factors: a count of capacity (replicas, concurrency, ...), the load (numbers under
`workload.arrivals`), or a count of steps, agents or modalities.

Leaves out: charts (`study_charts`), sentences and tables (`study_tables`); exponents, which the command `scaling` fits.
Checked: tests/test_study_sections.py.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from ...analysis.slo import Objective, full_name, verdict
from ...analysis.statistics import Estimate
from ...analysis.study import StudyResult
from ...analysis.study_effects import effects, extremes, points, unmeasured
from .. import plan_words as words
from .. import study_tables
from ..layout import Table
from ..numbers import NOTHING, counted, listed, show, unit_of_objective
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from .further import about, command_for, repeat, scenario_of
from .pieces import MOST_ROWS, table, tidy
from .study_chances import chances
from .study_charts import (
    brief,
    effect,
    label_of,
    limit_of,
    lines_of,
    names_of,
    one_load,
    percentiles,
    short_at,
    slider,
    timed,
    within,
)
from .study_load import breaks, is_load
from .study_parallel import parallel

__all__ = ["charts", "figures", "parts"]

_CAPACITIES = ("replicas", "concurrency", "limit", "servers", "cores", "at_most", "capacity")
_SUPPLY = ("workload.", "models.", "tools.", "retrievers.", "orchestrator.")
_COUNTS = ("steps", "modalities", "streams", "agents", "repeat", "members")
_TIMES = ("response_time_p50", "response_time_p95", "response_time_p99")
_OPEN = 12  # rows, up to which a table that answers stays open
_FEW = 5  # replications, below which more are called for
_ROUNDING = 1e-9  # of the largest value: levels as near as that differ by the order of adding alone


def parts(found: StudyResult, source: Provenance) -> list[Part]:
    """Return what a study says to each section that it can speak to."""
    objectives = [
        Objective(metric, threshold, ">=" if sense == ">=" else "<=") for metric, threshold, sense in source.objectives
    ]
    capacity, load, count = (next(iter(places), None) for places in _places(found))
    runtime = _runtime_of(found)
    made: list[Part | None] = [_answer(found, capacity, objectives), _sure(found, source)]
    if capacity is not None:
        made.append(_replicas(found, capacity, objectives, source))
    if load is not None:
        made.append(breaks(found, load, objectives, source))
    if count is not None:
        made.append(_scaling(found, count, source))
    if runtime is not None:
        made.append(_runtimes(found, runtime, source))
    # What a section has drawn already is not drawn again: of percentiles of T_total, and of runtimes.
    seen = {one for one in (capacity, load, count) if one is not None and found.metric in _TIMES} | {
        one for one in (runtime,) if one is not None
    }
    made.append(_matters(found, source, {found.factors[one].path for one in seen}))
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
    load = [place for place, path in numbers if is_load(path)]
    counts = (*_COUNTS, "at_most")  # `at_most` of a step is how often it repeats
    count = [place for place, path in numbers if path.rpartition(".")[2] in counts and not path.startswith(_SUPPLY)]
    capacity = [
        place for ending in _CAPACITIES for place, path in numbers
        if path.rpartition(".")[2] == ending and place not in (*load, *count)
    ]  # fmt: skip
    return capacity, load, count


def _levels(found: StudyResult, place: int) -> int:
    return len({one.levels[place].text for one in found.cells if one.levels[place].text})


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _answer(found: StudyResult, capacity: int | None, objectives: Sequence[Objective]) -> Part:
    notes = [
        f"± and [ ] are {100 * found.confidence:g} % intervals over replications, which meet the same draws in every cell of one seed."
    ]
    ends = extremes(found, found.metric)
    if ends is not None and ends.difference is not None and ends.compared > 2:
        notes.append(
            f"The least and the most are chosen among {ends.compared} points: the interval of their difference holds for all pairs at once (Bonferroni)."
        )
    enough = _enough(found, capacity, objectives) if capacity is not None else ""
    opened = [_objectives(found, objectives)] if objectives else []
    said = f"{enough} {brief(found, study_tables.statement(found))}".strip()
    return Part(Section.ANSWER, said, opened=tuple(opened), notes=tuple(notes), facts=tuple(_facts(found)))


def _objectives(found: StudyResult, objectives: Sequence[Objective]) -> Table:
    """Return in how many cells each objective is met, of those that were judged, and the best and the worst value of it."""
    rows = []
    for one in objectives:
        unit, name = unit_of_objective(one.metric), full_name(one.metric)
        known = [cell.estimates[name] for cell in found.cells if cell.verdict and name in cell.estimates]
        known = sorted(
            (each for each in known if not math.isnan(each.value)),
            key=lambda each: each.value,
            reverse=one.sense == ">=",
        )
        counts = Counter(verdict(each, one) for each in known)
        ends = [show(each, unit).text for each in (*known[:1], *known[-1:])] or [NOTHING] * 2
        rows.append((words.wanted([one]), *(str(counts[said]) for said in ("pass", "fail", "inconclusive")), *ends))
    columns = ("objective", "pass", "fail", "not resolved", "best", "worst")
    note = f"Cells by the {100 * found.confidence:g} % interval of each."
    return table("Objectives over the cells", columns, rows, "<>>>>>", note)


def _facts(found: StudyResult) -> Iterator[tuple[str, str, str]]:
    ends = extremes(found, found.metric)
    if ends is not None:
        unit = found.column(found.metric).unit
        yield f"Least {found.metric}: {label_of(found, ends.least)}", show(ends.least.estimate, unit).text, ""
        yield f"Most {found.metric}: {label_of(found, ends.most)}", show(ends.most.estimate, unit).text, ""
    yield (
        "Cells",
        f"{len(found.cells) - len(found.failed)} of {len(found.cells)} ran" if found.failed else str(len(found.cells)),
        "",
    )
    quiet = len(unmeasured(found, found.metric)) - len(found.failed)
    if quiet:
        yield f"Without a value of {found.metric}", f"{quiet} of {counted(len(found.cells), 'cell')}", ""
    counts = Counter(one.verdict for one in found.cells if one.verdict)
    total = sum(counts.values())
    for said in ("pass", "fail", "inconclusive"):
        if counts[said]:
            yield f"SLO: {said}", f"{counts[said]} of {counted(total, 'cell')}", said


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
    drawn += [chances(found, place, objectives), None if made is None else within(found, place, made)]
    notes = _slider_notes(found, objectives) if made is not None else []
    if made is not None and (load := one_load(found, timed(found))[1]):
        notes.insert(
            0,
            f"Of the loads the slider, and the shares within its limit, have one alone: {load}, the greatest of which several points are known.",
        )
    missing = [Missing(f"Which {path} is the cheapest that meets the SLO", _plan(found, place, objectives, source))]
    if not objectives:
        missing.append(
            Missing(
                "Whether an SLO is met; with your limit in place of 2 s",
                repeat("sweep", source, "--set", "slo={p95: 2 s}"),
            )
        )
    first = _first_enough(found, place) if objectives else {}
    rows = [(name, text or "none of those tried") for name, text in first.items()]
    opened = [table(f"The first {path} that is shown to meet the SLO", ("with", path), rows)] if len(rows) > 1 else []
    return Part(
        Section.REPLICAS, _enough(found, place, objectives) or brief(found, study_tables.statement(found)), charts=tuple(one for one in drawn if one is not None),
        notes=tuple(notes), missing=tuple(missing), slider=made,
        opened=tuple(one for one in opened if len(rows) <= _OPEN), tables=tuple(one for one in opened if len(rows) > _OPEN),
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
            f"The slider knows T_total alone: {listed(others)} {'is' if len(others) == 1 else 'are'} judged in the tables."
        )
    return notes


def _plan(found: StudyResult, place: int, objectives: Sequence[Objective], source: Provenance) -> str:
    decided = f"{found.factors[place].path}={','.join(_texts(found, place))}@$1/h"
    asked = [] if objectives else ["--slo", "p95=2 s"]
    return about("plan", source, "--decide", decided, *asked)


def _enough(found: StudyResult, place: int, objectives: Sequence[Objective]) -> str:
    """Return at which value of the capacity all objectives are shown to be met, for each combination of the others; '' without an SLO."""
    path = names_of(found)[place]
    first = _first_enough(found, place) if objectives else {}
    if not first:
        return ""
    what = f"To meet {words.wanted(objectives)}, "
    if len(first) == 1:
        (value,) = first.values()
        return (
            f"{what}{path}={value} is the first that is shown to be enough."
            if value
            else f"{what}no value of {path} is shown to be enough."
        )
    counts = Counter(first.values())
    levels = [text for text in _texts(found, place) if counts[text]]
    if len(counts) == 1:
        return f"{what}{f'{path}={levels[0]} is the first value' if levels else f'no value of {path} is'} shown to be enough, whatever else is set."
    each = [f"{path}={text} with {counts[text]}" for text in levels]
    each += [f"none of those tried with {counts['']}"] if counts[""] else []
    return f"{what}the first value shown to be enough is {listed(each)} of the {len(first)} combinations of what else is set."


def _first_enough(found: StudyResult, place: int) -> dict[str, str]:
    """Return for each combination of the others the first value whose cells all pass; '' for none. Nothing where no cell was judged."""
    if not any(one.verdict for one in found.cells):
        return {}
    verdicts = {one.number: one.verdict for one in found.cells}
    lines = lines_of(found, [(one, one.estimate) for one in points(found, found.metric)], place)
    if all(len(line) < 2 for line in lines.values()):  # a sample: no two points differ in the capacity alone
        return {}
    return {
        name: next(
            (one.levels[place].text for one, _ in line if all(verdicts[number] == "pass" for number in one.cells)), ""
        )
        for name, line in lines.items()
    }


def _texts(found: StudyResult, place: int) -> list[str]:
    """Return the values of a factor as texts, numbers in their order."""
    known = {one.levels[place].text: one.levels[place].value for one in found.cells if one.levels[place].text}
    return sorted(known, key=lambda text: float(known[text] or 0)) if found.factors[place].is_number else list(known)


def _scaling(found: StudyResult, place: int, source: Provenance) -> Part | None:
    path = found.factors[place].path
    chart = percentiles(found, place, None, "scaling", f"How does T_total grow with {path}?", is_log=True)
    if chart is None:
        return None
    views = {
        name: replace(view, layout={**view.layout, "xaxis": {**{k: v for k, v in view.layout["xaxis"].items() if k != "dtick"}, "type": "log"}})
        for name, view in chart.views.items()
    }  # fmt: skip
    command = about("scaling", source, "--over", f"{path}={','.join(_texts(found, place))}")
    missing = Missing("The exponent with its interval, and which mechanism it comes from", command)
    return Part(Section.SCALING, chart.views["p95"].summary, charts=(replace(chart, views=views),), missing=(missing,))


# ---------------------------------------------------------------------------------------------------------------------
# What matters, and how sure


def _runtime_of(found: StudyResult) -> int | None:
    """Return the place of the factor that is the runtime, if there are several."""
    places = [place for place, one in enumerate(found.factors) if one.path in ("runtime", "runtime.preset")]
    return next((place for place in places if _levels(found, place) > 1), None)


def _runtimes(found: StudyResult, place: int, source: Provenance) -> Part | None:
    """Return what another runtime saves: the main effect of the factor, paired."""
    path = found.factors[place].path
    one = next((one for one in effects(found, found.metric) if one.factor == path), None)
    if one is None:
        return None
    changes = []
    for level in one.levels[1:]:
        gap = None if level.difference is None else level.difference.difference
        if gap is not None:
            changes.append(_more_or_less(level.level.text, gap, found.column(found.metric).unit))
    if not changes:
        return None
    base = one.levels[0].level.text
    said = f"Against {base}, as a mean over all else, {found.metric} is {listed(changes)}."
    tables = tuple(tidy(each, "what") for each in study_tables.main_effects(found, [one]))
    missing = (Missing("Which policy of the runtime saves it", command_for("compare", source)),)
    return Part(Section.RUNTIME, said, charts=(effect(found, place),), opened=tables, missing=missing)


def _more_or_less(name: str, gap: Estimate, unit: str) -> str:
    resolved = "" if gap.excludes(0.0) else " (not resolved)"
    return f"{show(_upright(gap), unit).text} {'more' if gap.value > 0 else 'less'} with {name}{resolved}"


def _upright(gap: Estimate) -> Estimate:
    """Return the size of a difference."""
    return gap if gap.value > 0 else Estimate(-gap.value, -gap.high, -gap.low, gap.confidence, gap.n, gap.method)


def _matters(found: StudyResult, source: Provenance, seen: Collection[str]) -> Part | None:
    """Return what each factor does to the metric; those whose paths were `seen` have their chart in another section."""
    drawn = {name: one for name, one in figures(found).items() if name not in seen}
    if not found.factors:
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
        missing.append(Missing("How much of the spread each factor explains", command_for("sensitivity", source)))
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
    widest, most = max(known, key=lambda pair: pair[0])
    values = [one.estimates[found.metric].value for one in found.cells if found.metric in one.estimates]
    if widest <= _ROUNDING * max(abs(one) for one in values if math.isfinite(one)):
        return f"{found.metric} is the same at all levels of every factor."
    level = max((one for one in most.levels if one.difference is not None), key=lambda one: abs(_gap(one.difference)))
    assert level.difference is not None
    gap = level.difference.difference
    unit = found.column(found.metric).unit
    resolved = "" if gap.excludes(0.0) else ", which is not resolved"
    return (
        f"{most.factor} moves {found.metric} most: at {level.level.text} it is {show(_upright(gap), unit).text} "
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
        what = "Intervals: one replication has none of its own" if ran[0] == 1 else "Narrower intervals"
        missing.append(Missing(what, repeat("sweep", source, "--replications", "10")))
    return Part(
        Section.SURE,
        _precision(found, ran),
        tables=tuple(tables),
        warnings=tuple(
            re.sub(r"\bSCENARIO\b", lambda _found: scenario_of(source), one) for one in study_tables.warnings(found)
        ),
        missing=tuple(missing),
    )


def _precision(found: StudyResult, ran: Sequence[int]) -> str:
    counts = NOTHING if not ran else f"{ran[0]} to {ran[-1]}" if len(ran) > 1 else str(ran[0])
    tasks = sum(one.tasks for one in found.cells)
    every = points(found, found.metric)
    known = [(one.estimate.relative_error, one) for one in every if math.isfinite(one.estimate.relative_error)]
    said = f"{counted(len(found.cells), 'cell')}, {counts} {'replication' if counts == '1' else 'replications'} each, {words.counted(tasks, 'task')} in all"
    failed = f"; {counted(len(found.failed), 'cell')} failed" if found.failed else ""
    if not known:
        return f"{said}{failed}. No interval of {found.metric} is known."
    worst, where = max(known, key=lambda pair: pair[0])
    total = len({(one.scenario, one.point) for one in found.cells})
    if len(known) == total:
        return f"{said}{failed}. {found.metric} is known within ± {words.percent(worst)} or better, the worst {short_at(found, where)}."
    parts = [
        f"At {len(known)} of {counted(total, 'point')} {found.metric} is known within ± {words.percent(worst)} or better, the worst {short_at(found, where)}"
    ]
    if len(every) > len(known):
        parts.append(f"at {len(every) - len(known)} it has no interval")
    if total > len(every):
        parts.append(f"at {total - len(every)} it has no value")
    return f"{said}{failed}. {'; '.join(parts)}."
