"""A capacity plan in words: configurations, objectives and loads by name, and the sentence that answers.

Leaves out: tables and files (`plan_tables`), and charts (`sections.plan`).
Checked: tests/test_plan_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..analysis.planned import Choice, Load, Miss, PlanResult, Trial, Variable
from ..analysis.slo import Objective
from ..analysis.statistics import certainty, student_t
from ..analysis.summary import Judged
from .numbers import NOTHING, Shown, listed, plain, show, unit_of_objective
from .plan_doubts import LIKELY, least_chance, likeliest
from .plan_doubts import percent as chance_text

AS_IT_IS = "as it is"  # what the scenario's own load is called
_MOST_REPLICATIONS = 1_000_000


def answer(found: PlanResult, rate: float = math.nan) -> str:
    """Return the verdict and what it rests on, in one to three sentences; `rate` is that of the scenario, in tasks a second."""
    if len(found.choices) == 1:
        return _one(found, found.choices[0], rate)
    return " ".join(_several(found, rate))


def configuration(found: PlanResult, trial: Trial) -> str:
    """Return '3 replicas of models.llm and 10 concurrent calls of tools.search'."""
    return listed([_value(one, one.values[at]) for one, at in zip(found.variables, trial.point, strict=True)])


def settings(found: PlanResult, trial: Trial) -> str:
    """Return a configuration as paths and values: 'models.llm.replicas=3; tools.search.concurrency=10'."""
    pairs = zip(found.variables, trial.point, strict=True)
    return "; ".join(f"{one.path}={one.values[at]}" for one, at in pairs)


def headers(found: PlanResult) -> tuple[str, ...]:
    """Return a short name of each variable: the last two parts of its path, or all where two would be the same."""
    short = [".".join(one.path.split(".")[-2:]) for one in found.variables]
    return tuple(name if short.count(name) == 1 else one.path for name, one in zip(short, found.variables, strict=True))


def cells(found: PlanResult, trial: Trial) -> tuple[str, ...]:
    """Return the value of each variable, in their order."""
    return tuple(one.values[at] for one, at in zip(found.variables, trial.point, strict=True))


def wanted(objectives: Sequence[Objective]) -> str:
    """Return 'p95 <= 30 s and success >= 99 %'."""
    return listed([f"{one.metric} {one.sense} {threshold(one)}" for one in objectives])


def threshold(one: Objective | Judged | Miss) -> str:
    """Return an objective's threshold in its unit."""
    return plain(one.threshold, unit_of_objective(one.metric), 4)


def money(amount: float) -> str:
    """Return an amount of dollars, exact below a thousand.

    >>> money(7.6), money(0.0004), money(12_345.6), money(0.0)
    ('$7.6', '$0.0004', '$12,346', '$0')
    """
    if not math.isfinite(amount):
        return NOTHING
    if abs(amount) >= 1000:
        return f"${amount:,.0f}"
    digits = f"{amount:.2f}" if abs(amount) >= 1 else f"{amount:.2g}"
    return f"${digits.rstrip('0').rstrip('.') if '.' in digits else digits}"


def percent(share: float) -> str:
    """Return a share in percent with two digits, such as '23 %' or '2.3 %'; at most 1,000 times whole.

    >>> percent(0.2314), percent(0.0231), percent(1.5)
    ('23 %', '2.3 %', '150 %')
    """
    if not math.isfinite(share):
        return NOTHING
    value = 100 * share
    return f"{value:,.0f} %" if abs(value) >= 10 else f"{value:.2g} %"


def counted(number: int, noun: str) -> str:
    """Return '1 task' or '1,200 tasks'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def at(load: Load, rate: float) -> str:
    """Return a load in words: its rate if it is known, and what it is called."""
    name = "" if load.label == AS_IT_IS else load.label
    if not math.isfinite(rate):
        return name or "the load as it is"
    told = tasks_per(rate * load.factor)
    return f"{told} ({name})" if name else told


def tasks_per(value: float) -> str:
    """Return a rate of tasks, such as '0.5 tasks/s'; by the minute or hour where it is less than 0.1 a second.

    >>> tasks_per(0.5), tasks_per(0.02), tasks_per(0.001), tasks_per(1200)
    ('0.5 tasks/s', '1.2 tasks/min', '3.6 tasks/h', '1,200 tasks/s')
    """
    if not math.isfinite(value):
        return NOTHING
    size, name = (1, "s") if value >= 0.1 else (60, "min") if value * 60 >= 0.1 else (3600, "h")
    number = value * size
    return f"{number:,.0f} tasks/{name}" if number >= 1000 else f"{number:.3g} tasks/{name}"


def judged(one: Judged | Miss) -> Shown:
    """Return the estimate of an objective as text, with as many digits as show on which side of the threshold its interval ends."""
    return show(one.estimate, unit_of_objective(one.metric), against=one.threshold)


def estimates(trial: Trial) -> str:
    """Return 'p95 27.1 s ± 1.2, success 99.6 % ± 0.1'."""
    return ", ".join(f"{one.metric} {judged(one).text}" for one in trial.judged)


def shown_estimates(trial: Trial, metrics: Sequence[str]) -> Iterator[str]:
    """Yield the estimate of each metric, and its interval, as cells of a table."""
    by = {one.metric: one for one in trial.judged}
    for metric in metrics:
        one = by.get(metric)
        shown = Shown(NOTHING, "") if one is None else judged(one)
        yield from (shown.value, shown.error)


def basis(found: PlanResult, trial: Trial) -> str:
    """Return what an interval rests on: '95 % for the whole plan, 20 replications'."""
    return f"{100 * found.confidence:g} % for the whole plan, {counted(trial.replications, 'replication')}"


def judge_level(found: PlanResult) -> float:
    """Return the confidence of each interval, by which the plan took its verdicts."""
    known = [one.estimate.confidence for trial in found.trials for one in trial.judged]
    return known[0] if known else found.confidence


def strictness(found: PlanResult) -> str:
    """Return what a verdict asks for: 'an interval of 99.96 %, so that all of the plan's hold together with 95 %'."""
    return f"an interval of {certainty(judge_level(found))}, so that all of the plan's hold together with {100 * found.confidence:g} %"


def needed(trial: Trial) -> int | None:
    """Return about how many more replications would tell, if the estimates are the true values; None where no number does.

    An interval over n replications shrinks with the root of n, and Student's quantile with n, which matters where n is small.
    """
    more = 0
    for one in trial.judged:
        if one.verdict != "inconclusive":
            continue
        estimate, away = one.estimate, abs(one.estimate.value - one.threshold)
        reach = max(estimate.high - estimate.value, estimate.value - estimate.low)
        if not (math.isfinite(reach) and away > 0 and trial.replications > 1):
            return None
        total = _total(trial.replications, reach / away, estimate.confidence)
        if total > _MOST_REPLICATIONS:
            return None
        more = max(more, total - trial.replications)
    return more or None


def _total(ran: int, times: float, confidence: float) -> int:
    """Return the least number of replications whose interval is so many times narrower than that of those that ran."""
    spread = times * math.sqrt(ran) / student_t(confidence, ran - 1)
    # The normal's answer is never too high, and Student's a few more: so the search is short.
    total = max(ran + 1, math.ceil((student_t(confidence, math.inf) * spread) ** 2))
    while total <= _MOST_REPLICATIONS and student_t(confidence, total - 1) * spread > math.sqrt(total):
        total += 1
    return total


def missed(miss: Miss) -> str:
    """Return 'misses p95 by 23 % (36.9 s ± 0.4 against 30 s)'."""
    return f"misses {miss.metric} by {percent(miss.by)} ({judged(miss).text} against {threshold(miss)})"


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _one(found: PlanResult, choice: Choice, rate: float) -> str:
    what, where = wanted(found.objectives), f" at {at(choice.load, rate)}"
    if choice.verdict == "fail":
        return f"Nothing meets {what}{where}: {_nearest(found, choice)}."
    if choice.trial is None or choice.verdict == "inconclusive":
        return f"Inconclusive: whether anything meets {what}{where} is not resolved{_unresolved(found, choice)}."
    met = "meets" if _is_one(found, choice.trial) else "meet"
    said = f"{configuration(found, choice.trial)} {met} {what}{where}{_price(found, choice.trial)}"
    told = f": {estimates(choice.trial)} ({basis(found, choice.trial)})" if choice.trial.judged else ""
    return f"{said}{told}.{_cheaper(found, choice)}"


def _price(found: PlanResult, trial: Trial) -> str:
    """Return ' for $22 an hour'; nothing where nothing has a price."""
    return "" if found.is_free and not trial.cost else f" for {money(trial.cost)} an hour"


def _is_one(found: PlanResult, trial: Trial) -> bool:
    """Whether a configuration is spoken of as one thing: `1 replica of ...`, or `runtime = session-state`."""
    if len(found.variables) != 1:
        return False
    return cells(found, trial) == ("1",) or _noun(found.variables[0].path) is None


def _nearest(found: PlanResult, choice: Choice) -> str:
    told = f", because {choice.why}" if choice.why else ""
    if choice.trial is None:
        return f"no configuration may{told}"
    how = listed([missed(one) for one in choice.misses])
    return f"the nearest is {configuration(found, choice.trial)}{f', which {how}' if how else ''}{told}"


def _unresolved(found: PlanResult, choice: Choice) -> str:
    if choice.trial is None:
        return f"; {choice.why}" if choice.why else ""
    said = configuration(found, choice.trial)
    if choice.why:
        return f" with {said}: {choice.why}"
    return f": {said} has {estimates(choice.trial)} ({basis(found, choice.trial)}){would([choice.trial])}"


def would(trials: Sequence[Trial]) -> str:
    """Return '; about 12 more replications would tell', of what is not resolved; nothing where no number does."""
    more = most_needed(trials)
    each = " of each" if len(trials) > 1 else ""
    return f"; about {counted(more, 'more replication')}{each} would tell" if more else ""


def _cheaper(found: PlanResult, choice: Choice) -> str:
    """Return the doubt that something cheaper would do, if there is one."""
    assert choice.trial is not None
    if not choice.undecided:
        return ""
    named = likeliest(choice, found.objectives)
    told = [f"{configuration(found, one)}{_price(found, one)}{likely(found, one)}" for one in named]
    most = least_chance(named[0], found.objectives)
    why = f" A verdict takes {strictness(found)}." if most >= LIKELY else ""
    return f" Something {less(found)} may, too: {listed(told)} {'is' if len(told) == 1 else 'are'} not resolved{would(named)}.{why}"


def likely(found: PlanResult, trial: Trial) -> str:
    """Return ' (met with 97.5 %)'; nothing where no interval tells."""
    chance = least_chance(trial, found.objectives)
    return "" if math.isnan(chance) else f" (met with {chance_text(chance)})"


def most_needed(trials: Sequence[Trial]) -> int | None:
    """Return about how many more replications of each would tell of them all; None where for one no number does."""
    counts = [needed(one) for one in trials]
    return None if None in counts else max((one for one in counts if one is not None), default=None)


def less(found: PlanResult) -> str:
    """Return what a plan prefers: 'cheaper', or 'smaller' where nothing has a price."""
    return "smaller" if found.is_free else "cheaper"


def _several(found: PlanResult, rate: float) -> Iterator[str]:
    """Yield the answer over several loads: how many are met, from what to what, and what is wrong at the first that is not."""
    met = [one for one in found.choices if one.verdict == "pass"]
    what = wanted(found.objectives)
    if len(met) == len(found.choices):
        total = total_cost(met)
        price = "" if total is None or (found.is_free and not total) else f", for {money(total)} over {hours(met)}"
        yield f"The plan meets {what} at all {len(met)} loads{price}{_range(found, met)}.{_in_doubt(found, met)}"
        return
    count = f"{len(met)} of {len(found.choices)} loads"
    yield (
        f"The plan meets {what} at {count}{_range(found, met)}.{_in_doubt(found, met)}"
        if met
        else f"The plan meets {what} at none of {len(found.choices)} loads."
    )
    fails = [one for one in found.choices if one.verdict == "fail"]
    bad = (fails or [one for one in found.choices if one.verdict != "pass"])[0]
    yield _one(found, bad, rate)


def _in_doubt(found: PlanResult, met: Sequence[Choice]) -> str:
    """Return at how many loads something cheaper may do, if at any."""
    count = sum(bool(one.undecided) for one in met)
    if not count:
        return ""
    where = "each of them" if count == len(met) > 1 else f"{count} of them" if len(met) > 1 else "it"
    return f" At {where} something {less(found)} may, too: it is not resolved."


def _range(found: PlanResult, met: Sequence[Choice]) -> str:
    """Return from which configuration to which the plan goes."""
    known = [one for one in met if one.trial is not None]
    if not known:
        return ""
    ends = [choose(known, key=lambda one: one.load.factor) for choose in (min, max)]
    told = [
        f"{configuration(found, one.trial)} ({one.load.label}{_price(found, one.trial).replace(' for', ',')})"
        for one in ends
        if one.trial is not None
    ]
    points = {one.trial.point for one in known if one.trial is not None}
    return f": {told[0]}" if len(points) == 1 else f": from {told[0]} to {told[1]}"


def total_cost(choices: Sequence[Choice]) -> float | None:
    """Return what the configurations cost ($) over the hours of the loads that are met; None where a load has no hours."""
    met = [one for one in choices if one.verdict == "pass"]
    if any(one.load.hours is None for one in met):
        return None
    return sum(one.trial.cost * (one.load.hours or 0.0) for one in met if one.trial is not None)


def hours(choices: Sequence[Choice]) -> str:
    """Return the hours of loads together."""
    return f"{sum(one.load.hours or 0.0 for one in choices):,.4g} hours"


def at_the_peak(choices: Sequence[Choice]) -> float | None:
    """Return the cost ($) of the greatest load's configuration at all loads, calls paid as they come; None unless all are met, for known hours."""
    if len(choices) < 2 or any(one.verdict != "pass" or one.load.hours is None for one in choices):
        return None
    peak = max(choices, key=lambda one: one.load.factor).trial
    assert peak is not None
    fixed = peak.cost - peak.usage
    return sum((fixed + one.trial.usage) * (one.load.hours or 0.0) for one in choices if one.trial is not None)


# ---------------------------------------------------------------------------------------------------------------------
# Names


def _noun(path: str) -> tuple[str, str] | None:
    return {
        "replicas": ("replica of", "replicas of"),
        "concurrency": ("concurrent call of", "concurrent calls of"),
        "cores": ("core of", "cores of"),
        "at_most": ("call at most of", "calls at most of"),
    }.get(path.rpartition(".")[2])


def _value(variable: Variable, value: str) -> str:
    owner = variable.path.rpartition(".")[0]
    noun = _noun(variable.path)
    if noun is None or not owner or not value.isdigit():
        return f"{variable.path} = {value}"
    return f"{value} {noun[value != '1']} {owner}"
