"""A study to stdout and to a folder, where its journal lies, too.

    study.csv       the long table; samples.csv the number of each replication; study.parquet the wide table
    study.json      everything but samples; report.md; report.html; result.json; scenario.NAME.yaml

Leaves out: reading a study back (`stored`).
Checked: tests/test_sweep_command.py.
"""

from __future__ import annotations

import re

from ..analysis.study import StudyResult
from . import study_tables
from .answers import Answers
from .files import parquet

__all__ = ["ANSWERS", "file_of"]


def file_of(scenario: str) -> str:
    """Return the name of the file of a scenario."""
    return f"scenario.{re.sub(r'[^A-Za-z0-9_.-]+', '-', scenario).strip('-')}.yaml"


def to_parquet(found: StudyResult) -> bytes:
    """Return the wide table as a Parquet file."""
    return parquet(found.to_table())


ANSWERS = Answers(
    "study",
    "study",
    "study",
    study_tables.report,
    study_tables.to_csv,
    study_tables.to_json,
    {"samples.csv": study_tables.to_samples_csv, "study.parquet": to_parquet},
)
