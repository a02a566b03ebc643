"""How a capacity plan is told, to stdout and to a folder.

Leaves out: the journal of one that was interrupted (`answers`).
Checked: tests/test_plan_command.py.
"""

from __future__ import annotations

import math

from ..analysis.planned import PlanResult
from . import plan_tables
from .answers import Answers
from .plan_csv import to_csv

__all__ = ["plan_answers"]


def plan_answers(rate: float | None) -> Answers[PlanResult]:
    """Return how plans of a scenario are told in which `rate` tasks a second arrive (None in closed workloads)."""
    known = math.nan if rate is None else rate
    return Answers(
        "plan",
        "plan",
        "plan",
        lambda found: plan_tables.report(found, known),
        to_csv,
        lambda found: plan_tables.to_json(found, known),
    )
