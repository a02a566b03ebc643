"""A capacity plan to stdout and to a folder, where the journal of one that was interrupted may lie.

Leaves out: the journal itself (`analysis.journal`).
Checked: tests/test_plan_command.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..analysis.planned import PlanResult
from . import plan_plot, plan_tables
from .answers import Answers
from .files import FileError
from .plan_csv import to_csv

__all__ = ["JOURNAL", "PlanAnswers"]

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class PlanAnswers(Answers[PlanResult]):
    """How a plan is told; `own`: a journal in the folder is of this plan."""

    own: bool = False

    @classmethod
    def of(cls, rate: float | None, own: bool = False) -> Self:
        """Return the answers of a scenario in which `rate` tasks a second arrive (None in closed workloads)."""
        known = math.nan if rate is None else rate
        return cls(
            "plan",
            "plan",
            lambda found: plan_tables.report(found, known),
            to_csv,
            lambda found: plan_tables.to_json(found, known),
            {"plan.html": lambda found: plan_plot.page(found, known)},
            own,
        )

    def check_free(self, folder: Path, overwrite: bool) -> None:
        """Raise FileError unless an answer may be written to `folder`."""
        begun = (folder / JOURNAL).is_file() and not (folder / f"{self.name}.json").exists()
        if begun and not (overwrite or self.own):
            raise FileError(f"{folder} holds a plan that was interrupted; go on with --resume, or pass --overwrite")
        if not begun:
            super().check_free(folder, overwrite)
