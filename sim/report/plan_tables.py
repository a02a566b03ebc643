"""What a capacity plan says: the configuration and its verdict, what was looked at and why, effort, frontier, headroom, limits.

JSON holds the fields of `PlanResult` by name, and the sentence; docs/plan.md explains it. Numbers in it are not rounded; what is not
known is null.

Leaves out: how it looks on a terminal (`layout`); CSV (`plan_csv`); charts (`sections.plan`); sentences (`plan_words`); frontier and headroom
(`plan_beyond`).
Checked: tests/test_plan_report.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..analysis.planned import Choice, PlanResult, ResourceLoad, Trial
from ..analysis.replicate import LEAST
from ..analysis.summary import Judged
from . import plan_words as words
from .files import plain_data
from .layout import Report, Table, without_empty
from .numbers import NOTHING, listed, plain
from .plan_beyond import fixes, frontier, headroom
from .plan_doubts import likeliest

__all__ = [
    "MOST_TRIALS",
    "busiest_bound",
    "effort",
    "effort_table",
    "excluded_by_bounds",
    "judged_row",
    "over_loads",
    "report",
    "shown_trials",
    "simulated_besides",
    "simulated_trials",
    "to_json",
    "warnings",
]

KEY, VERSION = "coordsim_plan", 1
MOST_TRIALS = 25  # rows of the table of configurations; all are in CSV and JSON
_NO_MONEY = 1e-6  # $ an hour
_NO_WAIT = 1e-6  # seconds; what is less is none
_MOST_OBJECTIVES = 3  # columns of that table


def report(found: PlanResult, rate: float = math.nan) -> Report:
    """Return the report of a plan; `rate` is the arrival rate of the scenario as it is written (tasks/s), nan where it has none."""
    chosen = [one for one in found.choices if one.trial is not None]
    tables: list[Table] = []
    if len(found.choices) > 1:
        tables.append(over_loads(found, rate))
    tables += [_objectives(found, one) for one in _told(chosen)]
    tables += [simulated_trials(found), *excluded_by_bounds(found), effort_table(found)]
    tables += [*frontier(found), *simulated_besides(found), *headroom(found, rate), *fixes(found, rate)]
    heading = (
        f"{found.scenario}: the {'smallest' if found.is_free else 'cheapest'} that meets {words.wanted(found.objectives)}",
        f"seed {found.seed}; {words.counted(len(found.variables), 'decision')}: {', '.join(_decided(found))}",
    )
    return Report(heading, words.answer(found, rate), tuple(tables), tuple(_notes(found)))


def to_json(found: PlanResult, rate: float = math.nan) -> str:
    """Return a plan as JSON."""
    data = {KEY: VERSION, "statement": words.answer(found, rate), "verdict": found.verdict, "rate": plain_data(rate)}
    return json.dumps(data | _without_times(plain_data(found)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _without_times(data: Any) -> Any:
    """Return plain data without the quantiles of every trial, which are for the page."""
    if isinstance(data, dict):
        return {name: _without_times(one) for name, one in data.items() if name != "times"}
    return [_without_times(one) for one in data] if isinstance(data, list) else data


def warnings(found: PlanResult) -> Iterator[str]:
    """Yield what is doubtful: cheaper configurations that may do, capacity that did worse, and the search's own doubts.

    Of several loads that are told alike, but for the numbers, the first is told.
    """
    doubted = [one for one in found.choices if one.verdict == "pass" and one.undecided]
    # The one that takes most to settle is told: its remedy does for the others.
    doubted.sort(key=lambda one: -(words.most_needed(likeliest(one, found.objectives)) or 0))
    yield from _folded((one.load.label, _in_doubt(found, one), "in doubt") for one in doubted)
    for more, less in found.broken:
        yield (
            f"{words.configuration(found, more)} did worse ({words.estimates(more)}) than "
            f"{words.configuration(found, less)} ({words.estimates(less)}), which has less capacity: the search takes this "
            "for impossible, so a cheaper configuration may have been passed over"
        )
    labels = {one.load.label for one in found.choices}
    split = [(one.partition(": "), one) for one in found.doubts]
    yield from _folded(
        (label, text, re.sub(r"[0-9][0-9.,]*", "#", text)) if label in labels else ("", one, one)
        for (label, _, text), one in split
    )


def _in_doubt(found: PlanResult, choice: Choice) -> str:
    """Return what may do, and what would tell."""
    named = likeliest(choice, found.objectives)
    count = words.counted(len(choice.undecided) + choice.unseen, f"{words.less(found)} configuration")
    told = [
        f"{words.configuration(found, one)} ({words.estimates(one)}){words.likely(found, one)}".replace(") (", "; ")
        for one in named
    ]
    said = f"{count} may meet the objectives, too, such as {listed(told)}"
    if not words.most_needed(named):
        return said
    most = max(one.replications + (words.needed(one) or 0) for one in named)
    return f"{said}{words.would(named)}: try `--max-replications {most}`"


def _folded(told: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Yield texts of loads, each with its load's label; of those with one key the first, and how many more there are."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for label, text, key in told:
        alike.setdefault(key, []).append((label, text))
    for (label, text), *others in alike.values():
        where = f"{label}: " if label and label != words.AS_IT_IS else ""
        yield f"{where}{text}" + (f" (and the like at {words.counted(len(others), 'more load')})" if others else "")


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
    rows = tuple(judged_row(one) for one in choice.trial.judged)
    where = f" at {choice.load.label}" if len(found.choices) > 1 else ""
    what = "nearest" if choice.verdict == "fail" else "candidate" if choice.verdict == "inconclusive" else "chosen"
    title = f"Objectives of the {what} configuration{where}: {words.settings(found, choice.trial)}"
    columns = ("objective", "", "found", "", "margin", "verdict")
    note = choice.why if choice.verdict == "pass" else "" if rows else "it was not simulated: a bound decides"
    return Table(title, columns, "<<><><", rows, note)


def judged_row(one: Judged) -> tuple[str, ...]:
    """Return an objective as cells: metric, threshold, value, interval, margin, verdict."""
    shown = words.judged(one)
    sense = {"<=": "≤", ">=": "≥"}[one.sense]
    return one.metric, f"{sense} {words.threshold(one)}", shown.value, shown.error, _margin(one), one.verdict


def _margin(one: Judged) -> str:
    """Return how far within its threshold the estimate is (below 0: beyond it), as a share of the threshold."""
    return NOTHING if math.isnan(one.margin) else words.percent(one.margin)


def over_loads(found: PlanResult, rate: float) -> Table:
    """Return configuration, price and verdict of each load."""
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
    met = [one for one in found.choices if one.verdict == "pass"]
    total = words.total_cost(met)
    if met and total is not None:
        left = len(found.choices) - len(met)
        name = f"total of the {words.counted(len(met), 'load')} met" if left else "total"
        hours = sum(one.load.hours or 0.0 for one in met)
        rows.append((name, "", *("" for _ in found.variables), "", f"{hours:,.4g}", words.money(total), ""))
    columns = ("", "load", *words.headers(found), "$ an hour", "hours", "cost", "verdict")
    align = "<>" + ">" * len(found.variables) + ">>><"
    return Table("The plan over the loads", columns, align, tuple(rows), _saving(found))


def _cost(choice: Choice) -> tuple[str, str, str]:
    length = choice.load.hours
    hours = NOTHING if length is None else f"{length:,.4g}"
    if choice.trial is None:
        return NOTHING, hours, NOTHING
    # What does not meet the objectives is no answer: it has a price, but is no part of what the plan costs.
    is_part = choice.verdict == "pass" and length is not None
    return (
        words.money(choice.trial.cost),
        hours,
        words.money(choice.trial.cost * (length or 0.0)) if is_part else NOTHING,
    )


def _saving(found: PlanResult) -> str:
    """Return what following the load saves over having what its greatest needs all the time."""
    peak = words.at_the_peak(found.choices)
    steady = "Each load is simulated in its steady state: what a change of load or of capacity takes is not in it."
    total = words.total_cost(found.choices)
    if peak is None or total is None:
        return steady
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


def simulated_trials(found: PlanResult) -> Table:
    """Return the table of configurations that were simulated, beside their bounds."""
    shown = shown_trials(found)
    if not shown:
        return Table("Configurations simulated", ("",), "<", (("none: bounds alone decide",),))
    left = sum(1 for one in found.trials if one.replications) - len(shown)
    note = "* chosen, or nearest. Bounds: utilization by the traffic equations, mean wait by Erlang C (exponential service)."
    note += f" {left:,} more in CSV and JSON." if left else ""
    return _simulations(found, shown, "Configurations simulated", note)


def simulated_besides(found: PlanResult) -> Iterator[Table]:
    """Yield the table of those that were simulated, or gone on with, for the frontier alone."""
    if not found.frontier_trials:
        return
    shown = sorted(found.frontier_trials, key=lambda one: (one.cost, one.point))[:MOST_TRIALS]
    left = len(found.frontier_trials) - len(shown)
    note = "Verdicts by the plan's own objectives; tasks besides those of the plan."
    note += f" {left:,} more in CSV and JSON." if left else ""
    yield _simulations(found, shown, "Simulated for the frontier, besides", note)


def _simulations(found: PlanResult, shown: Sequence[Trial], title: str, note: str) -> Table:
    several, calls = len(found.choices) > 1, _has_calls(found)
    metrics = [one.metric for one in found.objectives][:_MOST_OBJECTIVES]
    chosen = [one.trial for one in found.choices if one.trial is not None]
    rows = [
        (
            "*" if one in chosen else "",
            *((one.load.label,) if several else ()),
            *words.cells(found, one),
            words.money(one.cost),
            *(_calls(one) if calls else ()),
            *_bound(one),
            _share(one.busiest, one.utilization),
            *words.shown_estimates(one, metrics),
            one.verdict,
            f"{one.tasks:,}",
        )
        for one in shown
    ]
    head = (
        "",
        *(("load",) if several else ()),
        *words.headers(found),
        *(("$/h in all", "of it calls", "") if calls else ("$/h",)),
    )
    columns = (
        *head,
        "busiest, bound",
        "wait, bound",
        "busiest, measured",
        *(part for name in metrics for part in (name, "")),
    )
    align = "<" + "<" * several + ">" * len(found.variables) + (">><" if calls else ">") + "<><" + "><" * len(metrics)
    return without_empty(Table(title, (*columns, "verdict", "tasks"), align + "<>", tuple(rows), note), len(head))


def _has_calls(found: PlanResult) -> bool:
    """Whether calls cost anything, beside what is decided."""
    return any(one.usage for one in found.trials)


def _calls(trial: Trial) -> tuple[str, str]:
    """Return what calls cost an hour, with its interval."""
    if trial.metered is None:
        return NOTHING, ""
    half = trial.metered.half_width
    return words.money(trial.metered.value), f"± {words.money(half)}" if half >= _NO_MONEY else ""


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


def excluded_by_bounds(found: PlanResult) -> Iterator[Table]:
    """Yield the table of those that bounds alone exclude: the dearest of each reason say most."""
    excluded = sorted((one for one in found.trials if one.bound.excludes), key=lambda one: (one.load.factor, -one.cost))
    if not excluded:
        return
    several = len(found.choices) > 1
    rows = tuple(
        (*((one.load.label,) if several else ()), *words.cells(found, one), words.money(one.cost), one.bound.excludes)
        for one in excluded[: _room(found)]
    )
    price = "$/h without calls" if _has_calls(found) else "$/h"
    columns = (*(("load",) if several else ()), *words.headers(found), price, "because")
    align = "<" * several + ">" * len(found.variables) + "><"
    left = len(excluded) - len(rows)
    note = f"the dearest first; {left:,} more in CSV and JSON" if left else ""
    yield Table("Excluded by queueing bounds, without simulation", columns, align, rows, note)


def _room(found: PlanResult) -> int:
    """Return how many excluded configurations are shown: what those simulated leave of the table, five at least."""
    return max(5, MOST_TRIALS - len(shown_trials(found)))


def effort_table(found: PlanResult) -> Table:
    """Return how much was simulated, and what was not."""
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
    own = sum(one.tasks for one in found.frontier_trials)
    besides = {"frontier": own, "headroom": found.beyond - own}
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


def _notes(found: PlanResult) -> Iterator[str]:
    sure = f"{100 * found.confidence:g} %"
    yield f"± and [ ]: intervals as wide as the verdicts need, so that all of the plan's hold together with {sure}."
    yield "Margin: how far within its threshold an estimate is, as a share of the threshold."
    if _has_calls(found):
        yield (
            "$ an hour: of what is decided, and what calls cost at that load, measured over the same "
            f"{LEAST} replications of each configuration. Where what calls cost does not differ beyond that noise it counts as equal, "
            "and what is decided settles which is cheaper."
        )
