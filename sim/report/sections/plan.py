"""What a capacity plan says to the sections of a page: the answer, how many replicas, what breaks first, and how sure that is.

Charts are over the greatest load that is planned for, unless they are over the loads. The slider judges each configuration that was
simulated there with the confidence that the plan's own verdicts have, so that at first both say the same of T_total.

Leaves out: charts (`plan_lines`, `plan_charts`), sentences (`plan_words`), tables (`plan_tables`, `plan_beyond`).
Checked: tests/test_plan_sections.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ...analysis.planned import Choice, Limit, PlanResult
from ...analysis.slo import Objective, parse_metric
from ...analysis.statistics import certainty
from ...analysis.summary import Judged
from .. import plan_tables
from .. import plan_words as words
from ..layout import Table
from ..numbers import NOTHING, listed
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from ..plan_beyond import fixes
from ..plan_beyond import frontier as frontier_table
from ..plan_beyond import headroom as headroom_table
from ..plan_doubts import chance_of, likeliest, percent
from .further import about, repeat, scenario_of
from .pieces import table, tidy
from .plan_chances import chances
from .plan_charts import capacity, frontier, headroom, loads, trials
from .plan_lines import at_peak, label, limit_of, metrics, peak, replicas, slider, within
from .sureness import precision_chart

__all__ = ["charts", "parts"]

_MOST_DECISIONS = 4
_OPEN = 12  # rows, up to which the tables of the answer stay open
_SMALL = 1e-9


def parts(found: PlanResult, source: Provenance) -> list[Part]:
    """Return what a plan says to each section."""
    rate = math.nan if source.rate is None else source.rate
    return [
        _answer(found, source, rate),
        _replicas(found, source, rate),
        _breaks(found, source, rate),
        _sure(found, source),
    ]


def charts(found: PlanResult, rate: float = math.nan) -> list[Chart]:
    """Return all charts of a plan, that which answers first; `rate` is the scenario's arrival rate (1/s), nan without one."""
    cost = (frontier(found), trials(found), headroom(found, rate), loads(found, rate))
    lines = (replicas(found), chances(found), capacity(found, rate), within(found), *metrics(found))
    return [one for one in (*lines[:1], *cost, *lines[1:], _precision(found)) if one is not None]


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _answer(found: PlanResult, source: Provenance, rate: float) -> Part:
    made = [_objectives(found)] if any(one.trial is not None and one.trial.judged for one in found.choices) else []
    if len(found.choices) > 1:
        made.append(tidy(plan_tables.over_loads(found, rate), "at"))
    opened = [one for one in made if len(one.rows) <= _OPEN]
    notes = (
        f"± and [ ]: intervals so wide that all of the plan's hold together with {100 * found.confidence:g} %.",
        "Margin: how far within its threshold an estimate is, as a share of the threshold; below 0 it is beyond it.",
        f"Met with: the probability that the true value meets the objective, taken for itself. A verdict takes more: {words.strictness(found)}.",
    )
    first = _first_limit(found)
    said = words.answer(found, rate) + (f" {_first_words(found, first, rate)}" if first is not None else "")
    return Part(
        Section.ANSWER, said, opened=tuple(opened), tables=tuple(one for one in made if one not in opened), notes=notes if made else (),
        facts=tuple(_facts(found, rate)), missing=tuple(_runtime(found, source)), warnings=tuple(_too_short(found, first)),
    )  # fmt: skip


def _too_short(found: PlanResult, first: Limit | None) -> Iterator[str]:
    """Yield the doubt that a configuration passes which the traffic equations say cannot settle."""
    if first is not None and first.factor < 1 and first.source == "bound" and peak(found).verdict == "pass":
        yield (
            f"{first.name} saturates below the planned load, at {first.factor:.3g} of it, by the traffic equations, and yet the objectives are met in "
            "simulation: the runs are too short for the queue to grow. Try more tasks (`--tasks`)"
        )


def _runtime(found: PlanResult, source: Provenance) -> Iterator[Missing]:
    """Yield the comparison of runtimes, of what was chosen; nothing where all coordination is free."""
    trial = peak(found).trial
    if source.runtime == "ideal":
        return
    pairs = [] if trial is None else zip(found.variables, words.cells(found, trial), strict=True)
    sets = [word for one, value in pairs for word in ("--set", f"{one.path}={value}")]
    what = (
        "agent-native saves over an external orchestrator"
        if source.runtime == "agent-native"
        else "an agent-native runtime would save"
    )
    yield Missing(f"What {what} with this configuration", about("compare", source, *sets))


def _facts(found: PlanResult, rate: float) -> Iterator[tuple[str, str, str]]:
    shown = (
        found.choices if len(found.choices) == 1 else (min(found.choices, key=lambda one: one.load.factor), peak(found))
    )
    for one in shown:
        yield from _bought(
            found, one, f" at {words.at(one.load, rate)}" if len(found.choices) > 1 or math.isfinite(rate) else ""
        )
    total = words.total_cost(found.choices)
    if len(found.choices) > 1 and total is not None and not (found.is_free and not total):
        yield (
            f"All loads, {words.hours([one for one in found.choices if one.verdict == 'pass'])}",
            words.money(total),
            "",
        )
    for judged in _told(peak(found)):
        shown_value = words.judged(judged).text
        yield words.wanted([Objective(judged.metric, judged.threshold, judged.sense)]), shown_value, judged.verdict
    first = _first_limit(found)
    if first is not None:
        yield (
            f"Headroom, until {first.name} {_ends(first)}",
            f"{100 * (first.factor - 1):+.0f} %{_interval(first)} load",
            "",
        )


def _bought(found: PlanResult, one: Choice, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is enough at a load, a value a decision where there is one load, and its price."""
    what = {"pass": "Enough", "fail": "Nearest", "inconclusive": "Not resolved"}[one.verdict]
    if one.trial is None:
        yield f"{what}{where}", NOTHING, one.verdict
        return
    if len(found.choices) > 1 or len(found.variables) > _MOST_DECISIONS:
        yield f"{what}{where}", label(found, one.trial), one.verdict
    else:
        for place, (variable, value) in enumerate(zip(found.variables, words.cells(found, one.trial), strict=True)):
            yield f"{variable.path}{where if not place else ''}", value, one.verdict if not place else ""
    if not (found.is_free and not one.trial.cost):
        yield f"Price{where if len(found.choices) > 1 else ''}", f"{words.money(one.trial.cost)} an hour", ""


def _told(choice: Choice) -> tuple[Judged, ...]:
    return () if choice.trial is None else choice.trial.judged


def _objectives(found: PlanResult) -> Table:
    """Return each objective of what was chosen, that with the least margin first."""
    several = len(found.choices) > 1
    rows: list[tuple[float, tuple[str, ...]]] = []
    for one in found.choices:
        for judged in _told(one):
            metric, wanted, value, error, margin, verdict = plan_tables.judged_row(judged)
            told = f"{value} {error}".strip()
            assert one.trial is not None
            likely = percent(chance_of(one.trial, Objective(judged.metric, judged.threshold, judged.sense)))
            row = (*((one.load.label,) if several else ()), f"{metric} {wanted}", told, margin, likely, verdict)
            rows.append((math.inf if math.isnan(judged.margin) else judged.margin, row))
    rows.sort(key=lambda pair: pair[0])
    columns = (*(("load",) if several else ()), "objective", "found", "margin", "met with", "verdict")
    note = "The least margin first."
    return table("Objectives of the configuration", columns, [row for _, row in rows], "<" * several + "<>>><", note)


# ---------------------------------------------------------------------------------------------------------------------
# How many replicas


def _replicas(found: PlanResult, source: Provenance, rate: float) -> Part:
    by_time = [within(found)]
    lines = [replicas(found), *metrics(found)]
    if limit_of(found) is None:  # then T_total is not what the plan is about
        lines = [*lines[1:], chances(found), lines[0], *by_time]
    else:
        lines = [*lines, chances(found), *by_time]
    made = (*lines, capacity(found, rate), loads(found, rate), frontier(found), trials(found))
    drawn = tuple(one for one in made if one is not None)
    tables = () if any(one.name == "frontier" for one in drawn) else tuple(tidy(one) for one in frontier_table(found))
    return Part(
        Section.REPLICAS,
        _sized(found, rate) if len(found.choices) == 1 else _each(found, rate),
        charts=drawn,
        tables=tables,
        notes=tuple(_notes(found)),
        missing=tuple(_missing(found, source)),
        slider=slider(found),
    )


def _sized(found: PlanResult, rate: float) -> str:
    """Return how many of the configurations that were simulated pass, and which is preferred."""
    simulated = at_peak(found)
    choice = peak(found)
    counts = {verdict: sum(one.verdict == verdict for one in simulated) for verdict in ("pass", "fail", "inconclusive")}
    told = [
        f"{number} {what}"
        for (number, what) in zip(counts.values(), ("pass", "fail", "not resolved"), strict=True)
        if number
    ]
    more = len({one.point for one in simulated} - {one.point for one in found.trials})
    besides = f" ({more} for the frontier alone)" if more else ""
    said = f"Of {words.counted(len(simulated), 'configuration')} simulated at {words.at(choice.load, rate)}{besides}, {listed(told)}"
    if not simulated:
        said = f"No configuration was simulated at {words.at(choice.load, rate)}: bounds alone decide"
    if choice.verdict != "pass" or choice.trial is None:
        return f"{said}."
    best = "smallest" if found.is_free else "cheapest"
    return f"{said}; the {best} that passes is {words.configuration(found, choice.trial)}{_price(found, choice)}."


def _each(found: PlanResult, rate: float) -> str:
    """Return what the least and the greatest load take."""
    least = min(found.choices, key=lambda one: one.load.factor)
    told = [
        f"{words.at(one.load, rate)} takes {words.configuration(found, one.trial)}{_price(found, one)}"
        if one.trial is not None and one.verdict == "pass"
        else f"what {words.at(one.load, rate)} takes is {'not resolved' if one.verdict == 'inconclusive' else 'more than may be chosen'}"
        for one in (least, peak(found))
    ]
    said = f"{told[0]}, and {told[1]}."
    return said[0].upper() + said[1:]


def _price(found: PlanResult, one: Choice) -> str:
    assert one.trial is not None
    return "" if found.is_free and not one.trial.cost else f" for {words.money(one.trial.cost)} an hour"


def _notes(found: PlanResult) -> Iterator[str]:
    sure = certainty(words.judge_level(found))
    timed = [one for one in at_peak(found) if one.times is not None]
    if timed:
        yield (
            f"The slider judges a percentile of T_total with intervals of {sure}, as the plan does, so that all verdicts of one limit hold "
            f"together with {100 * found.confidence:g} %; a limit that is chosen after looking has less."
        )
    limit = limit_of(found)
    if limit is not None and parse_metric(limit.metric).statistic != "quantile":
        yield f"The plan's limit is on the {limit.metric} of T_total, and the slider's on a percentile: their verdicts may differ."
    others = [one.metric for one in found.objectives if limit is None or one.metric != limit.metric]
    if timed and others:
        yield f"The slider knows T_total alone: {listed(others)} {'is' if len(others) == 1 else 'are'} judged in the tables."
    if len(found.variables) > 1 and at_peak(found):
        yield "A line joins configurations that differ in one decision; thin lines between points are no estimate."


def _missing(found: PlanResult, source: Provenance) -> Iterator[Missing]:
    if len({one.load.factor for one in found.choices}) < 2:
        yield Missing("How the need grows with the load", repeat("plan", source, "--factors", "0.5,0.75,1,1.25,1.5"))
    if found.is_free:
        wanted = [
            part
            for one in found.variables
            if one.monotone
            for part in ("--decide", f"{one.path}={','.join(one.values)}@$1/h")
        ]
        if wanted:
            yield Missing("What an hour costs; with your price in place of $1/h", repeat("plan", source, *wanted))
    if "--no-frontier" in source.command:
        yield Missing("What shorter and longer times would cost", repeat("plan", source, drop=("--no-frontier=",)))


# ---------------------------------------------------------------------------------------------------------------------
# What breaks first


def _first_limit(found: PlanResult) -> Limit | None:
    known = [one for one in found.headroom if math.isfinite(one.factor)]
    return min(known, key=lambda one: one.factor, default=None)


def _ends(one: Limit) -> str:
    return "saturates" if one.kind == "resource" else "breaks"


def _interval(one: Limit) -> str:
    if abs(one.high - one.low) < _SMALL:
        return ""
    high = f"{100 * (one.high - 1):+.0f}" if math.isfinite(one.high) else "more"
    return f" [{100 * (one.low - 1):+.0f}, {high}]"


def _breaks(found: PlanResult, source: Provenance, rate: float) -> Part:
    chart = headroom(found, rate)
    known = () if chart is not None else headroom_table(found, rate)
    tables = [tidy(one, "what") for one in (*known, *fixes(found, rate))]
    missing = []
    if "--no-headroom" in source.command:
        missing.append(Missing("At which load objectives break", repeat("plan", source, drop=("--no-headroom=",))))
    return Part(
        Section.BREAKS,
        _broken(found, rate),
        charts=() if chart is None else (chart,),
        tables=tuple(tables),
        missing=tuple(missing),
    )


def _broken(found: PlanResult, rate: float) -> str:
    first = _first_limit(found)
    if first is None:
        held = [one for one in found.headroom if math.isfinite(one.low)]
        if not found.headroom:
            met = peak(found).verdict == "pass"
            why = (
                "it was not looked for"
                if met
                else "nothing was shown to meet the objectives there, so there is no headroom to speak of"
            )
            where = "" if len(found.choices) == 1 else " of the greatest load"
            return f"At which load the configuration{where} ends is not known: {why}.{_next(found)}"
        most = min((one.low for one in held), default=math.nan)
        return f"Nothing was seen to end{f' up to {most:.3g} times the planned load' if math.isfinite(most) else ''}."
    return f"{_first_words(found, first, rate)}{_next(found)}"


def _first_words(found: PlanResult, first: Limit, rate: float) -> str:
    """Return what ends first, and at which load."""
    base = rate * peak(found).load.factor
    where = (
        words.tasks_per(first.factor * base) if math.isfinite(base) else f"{first.factor:.3g} times the planned load"
    )
    planned = "planned" if len(found.choices) == 1 else "greatest planned"
    said = f"{first.name} {_ends(first)} first, at {where}, {100 * (first.factor - 1):+.0f} %{_interval(first)} on the {planned} load"
    by = "by the traffic equations" if first.source == "bound" else "in simulation"
    return f"{said} ({by})."


def _next(found: PlanResult) -> str:
    if not found.fixes:
        return ""
    one = found.fixes[0]
    if one.change is None:
        return f" By the traffic equations {one.resource} limits at {one.factor:.3g} times, and no decision helps."
    then = f"{one.then} limits at {one.factor_then:.3g} times" if one.then else "nothing else limits"
    price = "" if found.is_free else f" (for {words.money(one.cost)} an hour more)"
    return (
        f" By the traffic equations {one.resource} limits at {one.factor:.3g} times; after {one.change}{price}, {then}."
    )


# ---------------------------------------------------------------------------------------------------------------------
# How sure


def _precision(found: PlanResult) -> Chart | None:
    trial = peak(found).trial
    if trial is None or trial.times is None:
        return None
    limit = limit_of(found)
    return precision_chart(
        trial.times, words.judge_level(found), words.configuration(found, trial), limit.threshold if limit else None
    )


def _sure(found: PlanResult, source: Provenance) -> Part:
    chart = _precision(found)
    tables = [
        plan_tables.effort_table(found),
        plan_tables.simulated_trials(found),
        *plan_tables.simulated_besides(found),
    ]
    tables += plan_tables.excluded_by_bounds(found)
    return Part(
        Section.SURE,
        _confidence(found),
        charts=() if chart is None else (chart,),
        tables=tuple(tidy(one, name) for one, name in zip(tables, ("what", *("chosen",) * 3), strict=False)),
        notes=(f"{plan_tables.effort(found)[0].upper()}{plan_tables.effort(found)[1:]}.",),
        warnings=tuple(
            re.sub(r"\bSCENARIO\b", lambda _found: scenario_of(source), one) for one in plan_tables.warnings(found)
        ),
        missing=tuple(_more(found, source)),
    )


def _confidence(found: PlanResult) -> str:
    ran = sorted({one.replications for one in found.trials if one.replications})
    looked = f" {ran[0]} to {ran[-1]}" if len(ran) > 1 else f" {ran[0]}" if ran else " no"
    simulated = [one for one in found.trials if one.replications]
    if not simulated:
        return "Queueing bounds decide alone: nothing was simulated, so there are no intervals."
    open_ = sum(one.verdict == "inconclusive" for one in simulated)
    said = (
        f"All verdicts of the plan hold together with {100 * found.confidence:g} %: each interval is of {certainty(words.judge_level(found))}, "
        f"over{looked} replications."
    )
    left = f"{open_} of {words.counted(len(simulated), 'configuration')} simulated {'stay' if open_ != 1 else 'stays'} inconclusive"
    broken = f"; {words.counted(len(found.broken), 'pair')} in which more capacity did worse" if found.broken else ""
    return f"{said} {left if open_ else f'All {len(simulated)} simulated for its verdicts are decided'}{broken}."


def _more(found: PlanResult, source: Provenance) -> Iterator[Missing]:
    """Yield the number of replications that would resolve what is not, where there is one."""
    unresolved = [each for one in found.choices for each in likeliest(one, found.objectives)]
    unresolved += [one.trial for one in found.choices if one.verdict == "inconclusive" and one.trial is not None]
    wanted = [one.replications + more for one in unresolved if (more := words.needed(one))]
    if wanted:
        yield Missing("What would resolve it", repeat("plan", source, "--max-replications", str(max(wanted))))
