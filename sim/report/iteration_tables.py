"""The measured iterations of a profile as a table.

Leaves out: their numbers; `coordsim profile export` writes those.
Checked: tests/test_measured_steps.py.
"""

from __future__ import annotations

from ..profile.profile import Profile
from .layout import Table

__all__ = ["iterations_table"]


def iterations_table(profile: Profile) -> Table | None:
    """Return a row for each measured iteration; None where there is none."""
    if not profile.iterations:
        return None
    told = {name: one.describe() for name, one in profile.iterations.items()}
    columns = ("name", *next(iter(told.values())))
    rows = tuple((name, *("yes" if value is True else "no" if value is False else str(value) for value in one.values()))
                 for name, one in told.items())  # fmt: skip
    return Table("Measured iterations", columns, "<<<<><>><<", rows)
