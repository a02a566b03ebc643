"""The words of a validation: names of what is predicted, errors as text, the answer in a sentence, what to do next, and what it does not say.

An error of p50 or p95 is relative, in percent; one of a share is a difference, in points.

Leaves out: tables (`validation_tables`), charts (`sections.validation`).
Checked: tests/test_validation_report.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..analysis.statistics import Estimate, certainty
from ..analysis.validation import METRICS, NAIVE, Ablation, Headline, Verdict
from ..engine import units
from .numbers import NOTHING, Shown, counted, listed, plain, show

__all__ = [
    "NAMES",
    "SHORT",
    "VERDICTS",
    "Step",
    "answer_of",
    "effect",
    "error_of",
    "excuse",
    "further",
    "limits",
    "notes",
    "size",
    "text",
]

NAMES = {"p50": "p50 of T_total", "p95": "p95 of T_total", "share": "the share of coordination"}
SHORT = {"p50": "p50", "p95": "p95", "share": "coordination"}
VERDICTS = {"met": "pass", "missed": "fail", "unclear": "inconclusive"}  # of a goal, as a page marks them
_EXACT = 9  # decimals of an error: what adding in another order leaves is 0
_BUDGET = 600.0  # seconds, where a session does not tell its own


def size(metric: str, value: float, digits: int = 2) -> str:
    """Return an error without an interval, or a goal.

    >>> size("p50", 0.0512), size("share", 0.04), size("p95", math.nan)
    ('5.1 %', '4 points', '–')
    """
    if math.isinf(value):
        return "infinite"
    return _in(metric, plain(round(value, _EXACT), "share", digits))


def error_of(metric: str, error: Estimate, goal: float = math.nan, signed: bool = False) -> Shown:
    """Return an error with its interval, in as many digits as tell on which side of a goal it ends; `signed` with a plus, too.

    A `metric` that is `ratio` has no unit.

    >>> error_of("share", Estimate(0.0213, 0.017, 0.0256, 0.9, 5, ""), signed=True).text
    '+2.1 points ± 0.4'
    """
    if not math.isfinite(error.value):
        return Shown("infinite" if math.isinf(error.value) else NOTHING, "")
    error, unit = _exact(error), "" if metric == "ratio" else "share"
    if error.low > -math.inf or error.high < math.inf:
        shown = show(error, unit, against=goal)
    else:
        shown = Shown(plain(error.value, unit, 2), "(no interval)")
    plus = "+" if signed and error.value > 0 and not shown.value.startswith("0 ") else ""
    return Shown(plus + _in(metric, shown.value), shown.error)


def _exact(error: Estimate) -> Estimate:
    value, low, high = (round(one, _EXACT) for one in (error.value, error.low, error.high))
    return replace(error, value=value, low=low, high=high)


def text(metric: str, error: Estimate, goal: float = math.nan) -> str:
    """Return an error with its interval in one piece."""
    return error_of(metric, error, goal).text


def _in(metric: str, shown: str) -> str:
    """Return a share as the error of a metric."""
    if metric != "share":
        return shown
    return shown.replace(" %", " point" if shown in ("1 %", "-1 %") else " points")


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def answer_of(found: Verdict) -> str:
    """Return the verdict, what decided it, and beside it the noise of the machine and a naive prediction."""
    verdict = found.status.upper()
    if not found.headlines:
        return f"{verdict}: {_small(excuse(found))}"
    if found.status == "inconclusive":
        return f"{verdict}: {_small(excuse(found))} So far {_told(found, found.headlines[:1], 'is off by')}."
    if found.status == "pass":
        return f"{verdict}: {_told(found, found.headlines, 'is predicted within')}."
    missed = [one for one in found.headlines if one.standing == "missed"]
    others = [one for one in found.headlines if one.standing != "missed"]
    rest = listed([f"{NAMES[one.metric]} {_against(one, f', {one.standing}')}" for one in others])
    return f"{verdict}: {_told(found, missed, 'is off by')}.{f' The others: {rest}.' if rest else ''}"


def excuse(found: Verdict) -> str:
    """Return why there is no verdict, as a sentence: noise or too few rounds, or else the goals that lie in their intervals."""
    unclear = [one for one in found.headlines if one.standing == "unclear"]
    if not found.headlines or found.headlines[0].floor > found.goals.noise or len(found.kept) < found.goals.rounds:
        return found.reasons[0] if found.reasons else "No round counts."
    names = listed([f"{NAMES[one.metric]}, {_against(one)}," for one in unclear])
    return f"Rounds differ too much to tell on which side of its goal the error is of {names.rstrip(',')}."


def _told(found: Verdict, lines: Sequence[Headline], verb: str) -> str:
    """Return errors against their goals, the first with what it rests on, and with the noise and the naive prediction of the same metric."""
    first, *rest = lines
    of = f"median of {counted(len(found.rows), 'configuration')}, {counted(len(found.kept), 'round')}"
    word = verb.rpartition(" ")[2]
    more = listed([f"{NAMES[one.metric]} {word} {_against(one)}" for one in rest])
    said = f"{NAMES[first.metric]} {verb} {text(first.metric, first.error, first.goal)} ({of}; goal {size(first.metric, first.goal)})"
    said += f", {more}" if more else ""
    return f"{said}; the machine's own noise{_of(first)} is {size(first.metric, first.floor)}, a naive prediction is off by {size(first.metric, first.naive)}"


def _of(one: Headline) -> str:
    return "" if one.metric == METRICS[0] else f" in {NAMES[one.metric]}"


def _against(one: Headline, more: str = "") -> str:
    return f"{text(one.metric, one.error, one.goal)} (goal {size(one.metric, one.goal)}{more})"


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def effect(one: Ablation) -> str:
    """Return what leaving out a law does to the headline errors, as far as the intervals tell."""
    changes = {metric: _exact(getattr(one.changes, metric)) for metric in METRICS}
    if all(change.value == change.low == change.high == 0 for change in changes.values()):
        return "changes nothing"
    helps = [metric for metric, change in changes.items() if change.low > 0]
    hurts = [metric for metric, change in changes.items() if change.high < 0]
    said = [f"helps {listed([SHORT[one] for one in helps])}"] if helps else []
    said += [f"hurts {listed([SHORT[one] for one in hurts])}"] if hurts else []
    return ", ".join(said) or "no change beyond chance"


# ---------------------------------------------------------------------------------------------------------------------
# What to do next, and what it means


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: in words, with which `--budget`, and whether that goes on with the session or begins another."""

    what: str
    budget: str
    goes_on: bool


def further(found: Verdict) -> Step | None:
    """Return what to do where there is no verdict; None where there is one."""
    if found.status != "inconclusive":
        return None
    seconds = _budget(found)
    if found.headlines and found.headlines[0].floor > found.goals.noise:
        quiet = "Let nothing else run on this machine, or take a quieter one, and measure again"
        return Step(quiet, _minutes(seconds), goes_on=False)
    if found.dropped:
        quiet = "Let nothing else run on this machine, so that fewer rounds are dropped, and give it more time"
        return Step(quiet, _minutes(2 * seconds), goes_on=True)
    return Step("More rounds make the intervals narrower", _minutes(2 * seconds), goes_on=True)


def _budget(found: Verdict) -> float:
    with suppress(ValueError):
        return units.parse(dict(found.about).get("budget", ""), units.DURATION)
    return _BUDGET


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)}m"


def notes(found: Verdict) -> Iterator[str]:
    """Yield what the numbers mean."""
    naive = next((f" ({one.what})" for one in found.ablation if one.variant == NAIVE), "")
    yield (
        "Errors: |predicted / measured - 1| of p50 and of p95, and the difference of the shares of coordination, over the tasks of all "
        "rounds that count; a headline is their median over configurations. Goals for the worst configuration and the ratios are told beside "
        f"it, and do not decide. Intervals ({certainty(found.confidence)}) rest on {counted(found.resamples, 'draw')} of whole rounds with "
        f"replacement, by seed {found.seed}."
    )
    yield (
        "Noise floor: one half of the measured tasks of each round against the other half. A prediction that knew everything might be off by "
        "as much; as halves have fewer tasks, rather by less. What changes from round to round is not in it."
    )
    if naive:
        yield f"Naive: the same components without what this simulator adds{naive}."
    yield from limits()


def limits() -> Iterator[str]:
    """Yield what is disclosed, and what is not promised."""
    yield (
        "Disclosed: the prediction is told how fast the machine was while the system ran, by a short spin on each core several times a second. "
        "It predicts the system, not the machine's other guests; everything else it knows is from the calibration before the run, and the model "
        "is fixed before it."
    )
    yield "Not promised: p99; another machine; a system unlike this one, or a load unlike these."
