"""What a capacity plan says: the configuration and its verdict, what was looked at and why, effort, frontier, headroom, limits.

JSON holds the fields of `PlanResult` by name, and the sentence; docs/plan.md explains it. Numbers in it are not rounded; what is not
known is null.

Leaves out: how it looks on a terminal (`layout`); CSV (`plan_csv`); the figures (`plan_plot`); sentences (`plan_words`).
Checked: tests/test_plan_report.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from ..analysis.planned import Choice, Fix, FrontierPoint, Limit, PlanResult, ResourceLoad, Trial
from ..analysis.summary import Judged
from . import plan_words as words
from .files import plain_data
from .layout import Report, Table, without_empty
from .numbers import NOTHING, plain, show

__all__ = ["MOST_TRIALS", "busiest_bound", "report", "shown_trials", "to_json", "warnings"]

KEY, VERSION = "coordsim_plan", 1
MOST_TRIALS = 25  # rows of the table of configurations; all are in CSV and JSON
_NO_WAIT = 1e-6  # seconds; what is less is none
_MOST_OBJECTIVES = 3  # columns of that table


def report(found: PlanResult, rate: float = math.nan) -> Report:
    """Return the report of a plan; `rate` is the arrival rate of the scenario as it is written (tasks/s), nan where it has none."""
    chosen = [one for one in found.choices if one.trial is not None]
    tables: list[Table] = []
    if len(found.choices) > 1:
        tables.append(_loads(found, rate))
    tables += [_objectives(found, one) for one in _told(chosen)]
    tables += [_trials(found), *_excluded(found), _effort(found)]
    tables += [*_frontier(found), *_frontier_trials(found), *_headroom(found, rate), *_fixes(found, rate)]
    heading = (
        f"{found.scenario}: the cheapest that meets {words.wanted(found.objectives)}",
        f"seed {found.seed}; {words.counted(len(found.variables), 'decision')}: {', '.join(_decided(found))}",
    )
    return Report(heading, words.answer(found, rate), tuple(tables), tuple(_notes(found)))


def to_json(found: PlanResult, rate: float = math.nan) -> str:
    """Return a plan as JSON."""
    data = {KEY: VERSION, "statement": words.answer(found, rate), "verdict": found.verdict, "rate": plain_data(rate)}
    return json.dumps(data | plain_data(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def warnings(found: PlanResult) -> Iterator[str]:
    """Yield what is doubtful: cheaper configurations that may do, capacity that did worse, and the search's own doubts."""
    for choice in found.choices:
        if not choice.undecided or choice.verdict != "pass":
            continue
        least = min(choice.undecided, key=lambda one: one.cost)
        more = words.needed(least)
        remedy = (
            f"; about {words.counted(more, 'more replication')} would tell: try `--max-replications {least.replications + more}`"
            if more
            else ""
        )
        where = f"{choice.load.label}: " if len(found.choices) > 1 else ""
        yield (
            f"{where}{words.counted(len(choice.undecided) + choice.unseen, 'cheaper configuration')} may meet the objectives, too, such as "
            f"{words.configuration(found, least)} ({words.estimates(least)}){remedy}"
        )
    for more_, less in found.broken:
        yield (
            f"{words.configuration(found, more_)} did worse ({words.estimates(more_)}) than "
            f"{words.configuration(found, less)} ({words.estimates(less)}), which has less capacity: the search takes this "
            "for impossible, so a cheaper configuration may have been passed over"
        )
    yield from (one.removeprefix(f"{words.AS_IT_IS}: ") for one in found.doubts)


# ---------------------------------------------------------------------------------------------------------------------
# The configuration


def _told(chosen: Sequence[Choice]) -> Sequence[Choice]:
    """Return the choices whose objectives get a table: the only one, or of several that of the greatest load."""
    return chosen if len(chosen) < 2 else (max(chosen, key=lambda one: one.load.factor),)


def _decided(found: PlanResult) -> Iterator[str]:
    for one in found.variables:
        values = one.values
        span = f"{values[0]} to {values[-1]}" if one.monotone and len(values) > 3 else ", ".join(values)
        yield f"{one.path} {span}"


def _objectives(found: PlanResult, choice: Choice) -> Table:
    assert choice.trial is not None
    rows = tuple(_judged(one) for one in choice.trial.judged)
    where = f" at {choice.load.label}" if len(found.choices) > 1 else ""
    what = "nearest" if choice.verdict == "fail" else "candidate" if choice.verdict == "inconclusive" else "chosen"
    title = f"Objectives of the {what} configuration{where}: {words.settings(found, choice.trial)}"
    columns = ("objective", "", "found", "", "margin", "verdict")
    note = choice.why if choice.verdict == "pass" else "" if rows else "it was not simulated: a bound decides"
    return Table(title, columns, "<<><><", rows, note)


def _judged(one: Judged) -> tuple[str, ...]:
    shown = show(one.estimate, words.unit_of_objective(one.metric))
    sense = {"<=": "≤", ">=": "≥"}[one.sense]
    return one.metric, f"{sense} {words.threshold(one)}", shown.value, shown.error, _margin(one), one.verdict


def _margin(one: Judged) -> str:
    """Return how far within its threshold the estimate is (below 0: beyond it), as a share of the threshold."""
    if not one.threshold or math.isnan(one.estimate.value):
        return NOTHING
    sign = 1 if one.sense == "<=" else -1
    return words.percent(sign * (one.threshold - one.estimate.value) / one.threshold)


def _loads(found: PlanResult, rate: float) -> Table:
    rows = [
        (
            choice.load.label,
            words.tasks_per(rate * choice.load.factor) if math.isfinite(rate) else f"{choice.load.factor:.3g} x",
            *(("",) * len(found.variables) if choice.trial is None else words.cells(found, choice.trial)),
            *_cost(choice),
            choice.verdict,
        )
        for choice in found.choices
    ]
    known = [one for one in found.choices if one.trial is not None]
    hours = sum(one.load.hours for one in found.choices)
    rows.append(
        ("total", "", *("" for _ in found.variables), "", f"{hours:,.4g}", words.money(words.total_cost(known)), "")
    )
    columns = ("", "load", *words.headers(found), "$ an hour", "hours", "cost", "verdict")
    align = "<>" + ">" * len(found.variables) + ">>><"
    return Table("The plan over the loads", columns, align, tuple(rows), _saving(found))


def _cost(choice: Choice) -> tuple[str, str, str]:
    hours = f"{choice.load.hours:,.4g}"
    if choice.trial is None:
        return NOTHING, hours, NOTHING
    return words.money(choice.trial.cost), hours, words.money(choice.trial.cost * choice.load.hours)


def _saving(found: PlanResult) -> str:
    """Return what following the load saves over having what its greatest needs all the time."""
    peak = words.at_the_peak(found.choices)
    steady = "Each load is simulated in its steady state: what a change of load or of capacity takes is not in it."
    if peak is None:
        return steady
    total = words.total_cost(found.choices)
    if peak <= total:
        return f"What the greatest load needs costs no more at the others. {steady}"
    share = words.percent((peak - total) / peak)
    return (
        f"What the greatest load needs, kept at all loads, costs {words.money(peak)}: following the load saves "
        f"{words.money(peak - total)} ({share}). {steady}"
    )


# ---------------------------------------------------------------------------------------------------------------------
# What was looked at


def busiest_bound(trial: Trial) -> ResourceLoad | None:
    """Return the resource with the greatest utilization by the traffic equations."""
    known = [one for one in trial.bound.resources if one.utilization is not None]
    return max(known, key=lambda one: one.utilization or 0.0) if known else None


def shown_trials(found: PlanResult) -> list[Trial]:
    """Return the simulated configurations that the table has room for: the chosen, those near the threshold, the cheapest."""
    simulated = [one for one in found.trials if one.replications]
    chosen = [one.trial for one in found.choices if one.trial is not None]
    order = {"inconclusive": 1, "pass": 2, "fail": 3}
    ranked = sorted(simulated, key=lambda one: (0 if one in chosen else order[one.verdict], one.cost))
    return sorted(ranked[:MOST_TRIALS], key=lambda one: (one.load.factor, one.cost, one.point))


def _trials(found: PlanResult) -> Table:
    shown = shown_trials(found)
    if not shown:
        return Table("Configurations simulated", ("",), "<", (("none: bounds alone decide",),))
    left = sum(1 for one in found.trials if one.replications) - len(shown)
    note = "* chosen, or nearest. Bounds: utilization by the traffic equations, mean wait by Erlang C (exponential service)."
    note += f" {left:,} more in CSV and JSON." if left else ""
    return _simulations(found, shown, "Configurations simulated", note)


def _frontier_trials(found: PlanResult) -> Iterator[Table]:
    """Yield those that were simulated, or gone on with, for the frontier alone."""
    if not found.frontier_trials:
        return
    shown = sorted(found.frontier_trials, key=lambda one: (one.cost, one.point))[:MOST_TRIALS]
    left = len(found.frontier_trials) - len(shown)
    note = "Verdicts by the plan's own objectives; tasks besides those of the plan."
    note += f" {left:,} more in CSV and JSON." if left else ""
    yield _simulations(found, shown, "Simulated for the frontier, besides", note)


def _simulations(found: PlanResult, shown: Sequence[Trial], title: str, note: str) -> Table:
    several = len(found.choices) > 1
    metrics = [one.metric for one in found.objectives][:_MOST_OBJECTIVES]
    chosen = [one.trial for one in found.choices if one.trial is not None]
    rows = [
        (
            "*" if one in chosen else "",
            *((one.load.label,) if several else ()),
            *words.cells(found, one),
            words.money(one.cost),
            *_bound(one),
            _share(one.busiest, one.utilization),
            *_estimates(one, metrics),
            one.verdict,
            f"{one.tasks:,}",
        )
        for one in shown
    ]
    head = ("", *(("load",) if several else ()), *words.headers(found), "$/h")
    columns = (
        *head,
        "busiest, bound",
        "wait, bound",
        "busiest, measured",
        *(part for name in metrics for part in (name, "")),
    )
    align = "<" + "<" * several + ">" * len(found.variables) + "><><" + "><" * len(metrics)
    return without_empty(Table(title, (*columns, "verdict", "tasks"), align + "<>", tuple(rows), note), len(head))


def _bound(trial: Trial) -> tuple[str, str]:
    one = busiest_bound(trial)
    if one is None:
        return "", ""
    if one.wait is None or not math.isfinite(one.wait):
        wait = ""
    else:
        wait = "<1 µs" if 0 < one.wait < _NO_WAIT else plain(one.wait, "s")
    return _share(one.name, one.utilization or 0.0), wait


def _share(name: str, share: float) -> str:
    return f"{name} {100 * share:.0f} %" if name and math.isfinite(share) else ""


def _estimates(trial: Trial, metrics: Sequence[str]) -> Iterator[str]:
    by = {one.metric: one for one in trial.judged}
    for metric in metrics:
        one = by.get(metric)
        shown = show(None if one is None else one.estimate, words.unit_of_objective(metric))
        yield from (shown.value, shown.error)


def _excluded(found: PlanResult) -> Iterator[Table]:
    """Yield those that bounds alone exclude: the dearest of each reason say most."""
    excluded = sorted((one for one in found.trials if one.bound.excludes), key=lambda one: (one.load.factor, -one.cost))
    if not excluded:
        return
    several = len(found.choices) > 1
    rows = tuple(
        (*((one.load.label,) if several else ()), *words.cells(found, one), words.money(one.cost), one.bound.excludes)
        for one in excluded[: _room(found)]
    )
    columns = (*(("load",) if several else ()), *words.headers(found), "$/h", "because")
    align = "<" * several + ">" * len(found.variables) + "><"
    left = len(excluded) - len(rows)
    note = f"the dearest first; {left:,} more in CSV and JSON" if left else ""
    yield Table("Excluded by queueing bounds, without simulation", columns, align, rows, note)


def _room(found: PlanResult) -> int:
    """Return how many excluded configurations are shown: what those simulated leave of the table, five at least."""
    return max(5, MOST_TRIALS - len(shown_trials(found)))


def _effort(found: PlanResult) -> Table:
    rows = [
        (f"configurations{_each(found)}", f"{_total(found):,}", ""),
        ("  simulated", f"{_simulated(found):,}", ""),
        ("  excluded by queueing bounds", f"{found.excluded:,}", ""),
        ("  passed over by monotony or cost", f"{found.pruned:,}", ""),
        ("tasks simulated", f"{found.tasks:,}", ""),
        (
            f"tasks of the whole grid, {found.grid_replications:,} replications each",
            f"{found.grid_tasks:,}",
            _times(found),
        ),
    ]
    frontier = sum(one.tasks for one in found.frontier_trials)
    besides = {"frontier": frontier, "headroom": found.beyond - frontier}
    rows += [(f"tasks simulated for the {name}, besides", f"{tasks:,}", "") for name, tasks in besides.items() if tasks]
    return Table("Effort", ("", "", ""), "<><", tuple(rows))


def effort(found: PlanResult) -> str:
    """Return how much was simulated, and how much less that is than the whole grid."""
    times = _times(found)
    return (
        f"simulated {words.counted(found.tasks, 'task')} in {_simulated(found):,} of {words.counted(_total(found), 'configuration')}{_each(found)}; "
        f"{found.excluded:,} fell to queueing bounds, {found.pruned:,} to monotony or cost; the whole grid, "
        f"{words.counted(found.grid_replications, 'replication')} each, would take {words.counted(found.grid_tasks, 'task')}"
        f"{f' ({times})' if times else ''}"
    )


def _loads_apart(found: PlanResult) -> int:
    """Return how many loads differ: of two with one factor the second takes no search."""
    return len({one.load.factor for one in found.choices})


def _each(found: PlanResult) -> str:
    return f" (each at {_loads_apart(found)} loads)" if _loads_apart(found) > 1 else ""


def _total(found: PlanResult) -> int:
    return found.configurations * _loads_apart(found)


def _simulated(found: PlanResult) -> int:
    return sum(1 for one in found.trials if one.replications)


def _times(found: PlanResult) -> str:
    return f"{found.grid_tasks / found.tasks:,.3g} times as many" if found.tasks else ""


# ---------------------------------------------------------------------------------------------------------------------
# Beyond the answer


def _frontier(found: PlanResult) -> Iterator[Table]:
    if all(one.trial is None for one in found.frontier):
        return
    metrics = [one.metric for one in found.objectives][:1]
    rows = tuple(_frontier_row(found, one, metrics) for one in sorted(found.frontier, key=lambda one: one.strictness))
    columns = (
        "objectives",
        *words.headers(found),
        "$/h",
        *(part for name in metrics for part in (f"{name} found", "")),
    )
    align = "<" + ">" * len(found.variables) + ">" + "><" * len(metrics)
    note = "The cheapest configuration shown to meet the objectives, with those on time made shorter and longer."
    if any(one.ended for one in found.frontier):
        note += " †: not looked for to the end, as the budget (no more tasks than the plan took) was spent; something cheaper may do."
    yield Table("Frontier of cost and latency", columns, align, rows, note)


def _frontier_row(found: PlanResult, one: FrontierPoint, metrics: Sequence[str]) -> tuple[str, ...]:
    told = words.wanted(one.objectives) + (" †" if one.ended else "")
    if one.trial is None:
        why = "none found yet" if one.ended else _none_of(found, one)
        return (
            told,
            *(NOTHING for _ in found.variables),
            NOTHING,
            *(why if not i else "" for i in range(2 * len(metrics))),
        )
    return told, *words.cells(found, one.trial), words.money(one.trial.cost), *_estimates(one.trial, metrics)


def _none_of(found: PlanResult, one: FrontierPoint) -> str:
    """Return why a point of the frontier has no configuration: that none meets it, or that none was shown to."""
    own = max(found.choices, key=lambda choice: choice.load.factor)
    return "not resolved" if one.strictness == 1 and own.verdict == "inconclusive" else "none found"


def _headroom(found: PlanResult, rate: float) -> Iterator[Table]:
    if not found.headroom:
        return
    rows = tuple(_limit(one, _base(found, rate)) for one in sorted(found.headroom, key=lambda one: one.factor))
    columns = ("", "ends at", "", "bracket", "by")
    title = f"Headroom{_planned(found)}"
    yield Table(
        title,
        columns,
        "<>><<",
        rows,
        _of_headroom(found),
    )


def _of_headroom(found: PlanResult) -> str:
    """Return what the table rests on."""
    note = "A resource saturates by the traffic equations"
    if not any(one.kind == "objective" for one in found.headroom):
        return f"{note}."
    note += f"; an objective breaks in simulation, by intervals of {100 * found.confidence:g} % each for itself."
    if any(one.ended for one in found.headroom):
        note += (
            " †: not looked for nearer than that; the budget, half as many tasks as the plan took, ended the search."
        )
    return note


def _base(found: PlanResult, rate: float) -> float:
    """Return the rate of the load that headroom is about: the greatest that is planned (tasks/s)."""
    return rate * max((one.load.factor for one in found.choices), default=1.0)


def _planned(found: PlanResult) -> str:
    return f" above {max(found.choices, key=lambda one: one.load.factor).load.label}" if len(found.choices) > 1 else ""


def _limit(one: Limit, base: float) -> tuple[str, ...]:
    what = f"{one.name} saturates" if one.kind == "resource" else f"{one.name} breaks"
    what += " †" if one.ended else ""
    if not math.isfinite(one.factor):
        return what, f"> {_at(one.low, base)}" if math.isfinite(one.low) else NOTHING, "", "", one.source
    bracket = "" if one.low == one.high else f"{_at(one.low, base)} to {_at(one.high, base)}"
    return what, _at(one.factor, base), _more(one.factor), bracket, one.source


def _at(factor: float, base: float) -> str:
    """Return a load: tasks a second where the rate is known, else times the planned load."""
    if not math.isfinite(factor):
        return "more"
    return words.tasks_per(factor * base) if math.isfinite(base) else f"{factor:.3g} x"


def _more(factor: float) -> str:
    return f"{100 * (factor - 1):+.0f} %" if math.isfinite(factor) else ""


def _fixes(found: PlanResult, rate: float) -> Iterator[Table]:
    if not found.fixes:
        return
    base = _base(found, rate)
    rows = tuple(_fix(one, base) for one in found.fixes)
    columns = ("limits", "at", "", "fix", "costs $/h", "then limits", "at", "")
    note = "By the traffic equations, from this configuration up: each fix is on top of those above it."
    yield Table(f"The next bottleneck after each fix{_planned(found)}", columns, "<>><><>>", rows, note)


def _fix(one: Fix, base: float) -> tuple[str, ...]:
    first = one.resource, _at(one.factor, base), _more(one.factor)
    if one.change is None:
        return *first, "no decision helps", NOTHING, NOTHING, "", ""
    return *first, one.change, f"{one.cost:+.3g}", one.then, _at(one.factor_then, base), _more(one.factor_then)


def _notes(found: PlanResult) -> Iterator[str]:
    sure = f"{100 * found.confidence:g} %"
    yield f"± and [ ]: intervals as wide as the verdicts need, so that all of the plan's hold together with {sure}."
    yield "Margin: how far within its threshold an estimate is, as a share of the threshold."
    if any(one.usage for one in found.trials):
        yield "$ an hour: of what is decided, and what calls cost at that load."
