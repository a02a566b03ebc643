"""What a plan leaves open: how likely a configuration meets the objectives, and which of those that are not resolved may well do.

Leaves out: the probability itself (`analysis.chance_met`); sentences (`plan_words`), and the chart (`sections.plan_chances`).
Checked: tests/test_plan_report.py, tests/test_plan_sections.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..analysis.chance_met import chance_met
from ..analysis.planned import Choice, Trial
from ..analysis.slo import Objective
from ..analysis.summary import Judged
from .numbers import NOTHING

__all__ = ["LIKELY", "chance_of", "judged_of", "least_chance", "likeliest", "percent"]

LIKELY = 0.95  # from which on a reader would say that an objective is met
_WORTH = 0.05  # a chance below which a configuration is no candidate
_MOST = 3  # configurations that a sentence names


def judged_of(trial: Trial, wanted: Objective) -> Judged | None:
    """Return the estimate that an objective is about; None where it was not measured."""
    return next(
        (one for one in trial.judged if one.metric == wanted.metric and math.isfinite(one.estimate.value)), None
    )


def chance_of(trial: Trial, wanted: Objective) -> float:
    """Return how likely a trial meets an objective; nan where it was not measured."""
    one = judged_of(trial, wanted)
    return math.nan if one is None else chance_met(one.estimate, wanted)


def least_chance(trial: Trial, objectives: Sequence[Objective]) -> float:
    """Return the probability of the objective that is least likely met; nan where none was measured."""
    known = [chance for wanted in objectives if not math.isnan(chance := chance_of(trial, wanted))]
    return min(known, default=math.nan)


def likeliest(choice: Choice, objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """Return what is preferred, is not resolved and may well do, the likeliest first: at most three with more than 5 %, else one.

    Of equal chances, to what a page shows of them, the one that a plan prefers comes first.
    """
    known = [(least_chance(one, objectives), one) for one in choice.undecided]
    ranked = sorted(known, key=lambda pair: 1.0 if math.isnan(pair[0]) else -round(pair[0], 3))
    worth = [one for chance, one in ranked if chance > _WORTH]
    return tuple(worth[:_MOST] or [one for _, one in ranked[:1]])


def percent(chance: float) -> str:
    """Return a probability as text, never rounded to certainty.

    >>> percent(0.5), percent(0.99999), percent(0.0), percent(1.0)
    ('50 %', '>99.9 %', '<0.1 %', '>99.9 %')
    """
    if math.isnan(chance):
        return NOTHING
    return "<0.1 %" if chance < 0.001 else ">99.9 %" if chance > 0.999 else f"{100 * chance:.3g} %"
