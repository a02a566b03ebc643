"""A fit held against unseen tasks, to stdout and to a folder: holdout.json, holdout.csv, report.md, report.html, result.json.

Leaves out: the scenario that is fitted to all tasks, which `coordsim trace fit -o` writes.
Checked: tests/test_holdout_sections.py.
"""

from __future__ import annotations

from . import holdout_tables as tables
from .answers import Answers

__all__ = ["ANSWERS"]

ANSWERS = Answers("holdout", "holdout", "holdout", tables.report, tables.to_csv, tables.to_json)
