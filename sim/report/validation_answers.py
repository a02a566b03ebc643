"""A validation, to stdout and to a folder: verdict.json, verdict.csv, report.md, report.html, result.json.

Leaves out: the recorded session, which `coordsim validate -o` writes beside them.
Checked: tests/test_validation_report.py.
"""

from __future__ import annotations

from . import validation_tables as tables
from .answers import Answers

__all__ = ["ANSWERS"]

ANSWERS = Answers("validation", "validation", "verdict", tables.report, tables.to_csv, tables.to_json)
