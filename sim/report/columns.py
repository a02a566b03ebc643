"""A table in CSV as columns, for data frames: each as whole numbers, as numbers, or as it is.

Leaves out: the tables themselves.
Checked: tests/test_whatif.py.
"""

from __future__ import annotations

import csv
import io
import math
from contextlib import suppress

__all__ = ["columns"]

Column = list[str] | list[int] | list[float]


def columns(text: str) -> dict[str, Column]:
    """Return the columns of a table by name; a number that is not there is nan."""
    head, *rows = csv.reader(io.StringIO(text))
    return {name: _column([row[place] for row in rows]) for place, name in enumerate(head)}


def _column(cells: list[str]) -> list[str] | list[int] | list[float]:
    """Return cells as whole numbers, as numbers where all that are not empty are, or as they are.

    >>> _column(["1", "2"]), _column(["1.5", ""]), _column(["none", ""])
    ([1, 2], [1.5, nan], ['none', ''])
    """
    if not any(cells):
        return cells
    for kind in (int, float):
        with suppress(ValueError):
            return [kind(cell) for cell in cells]
    with suppress(ValueError):
        return [float(cell) if cell else math.nan for cell in cells]
    return cells
