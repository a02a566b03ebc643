"""Measured numbers from a file: CSV, JSON lines, or one number a line; each also gzipped.

`latency.csv`, `latency.csv.gz`: the column named, or the only one, with or without a header. `latency.jsonl`: the field named,
or bare numbers. Any other name: one number a line.
Leaves out: other delimiters than the comma, quantities with units in a cell, weights.
Checked: tests/test_samples.py.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from .errors import did_you_mean, show

__all__ = ["read_samples"]

_MOST_VALUES = 10_000_000
_LONGEST_LINE = 1 << 20  # characters; keeps a file that is no table from filling the memory

Cell = tuple[int, object]
"""A number of a line, from 1, and what stands there."""


def read_samples(
    path: str | Path, column: str | None = None, least: float = -math.inf, whole: bool = False
) -> np.ndarray:
    """Return the numbers of one column, as they stand in the file.

    Raises ValueError, citing file and line, for a file that cannot be read, for no numbers at all, and for the first cell
    that is no finite number, is below `least`, or is not whole where it must be.
    """
    file = Path(path)
    try:
        values = _values(file, column, least, whole)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"cannot read {file}: {reason[:1].lower()}{reason[1:]}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be text in UTF-8") from error
    if not values:
        raise ValueError(f"{file} holds no values")
    return np.asarray(values)


def _values(file: Path, column: str | None, least: float, whole: bool) -> list[float]:
    """Read and check all cells."""
    values: list[float] = []
    with _opened(file) as text:
        for line, cell in _cells(file, text, column):
            if len(values) >= _MOST_VALUES:
                raise ValueError(f"{file}:{line}: must hold at most {_MOST_VALUES} values")
            number = _number(cell)
            if number is None:
                raise ValueError(f"{file}:{line}: must be a finite number; got {show(cell)}")
            if number < least:
                raise ValueError(f"{file}:{line}: must be >= {least:g}; got {show(cell)}")
            if whole and number != math.floor(number):
                raise ValueError(f"{file}:{line}: must be a whole number; got {show(cell)}")
            values.append(number)
    return values


def _opened(file: Path) -> IO[str]:
    """Open for reading as text; a byte order mark is skipped."""
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _cells(file: Path, text: IO[str], column: str | None) -> Iterator[Cell]:
    """Yield the cells of the column in the format that the file's name tells."""
    kind = Path(file.name.removesuffix(".gz")).suffix
    lines = _lines(file, text)
    if kind == ".csv":
        return _csv_cells(file, lines, column)
    if kind in (".jsonl", ".ndjson"):
        return _json_cells(file, lines, column)
    if column is not None:
        raise ValueError(f"{file} has one number a line and no columns; got column {show(column)}")
    return ((number, line.strip()) for number, line in enumerate(lines, 1) if line.strip())


def _lines(file: Path, text: IO[str]) -> Iterator[str]:
    """Yield the lines; a line too long to be one of a table raises."""
    number = 0
    while line := text.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"{file}:{number}: must have lines of less than {_LONGEST_LINE} characters")
        yield line


def _csv_cells(file: Path, lines: Iterator[str], column: str | None) -> Iterator[Cell]:
    """Yield the cells of one column of a CSV file."""
    rows = csv.reader(lines)
    try:
        header = next(rows, [])
        at = _column_index(file, header, column)
        if column is None and header and _number(header[0]) is not None:
            yield 1, header[0]
        for row in rows:
            if row:
                yield rows.line_num, row[at] if at < len(row) else None
    except csv.Error as error:
        raise ValueError(f"{file}:{rows.line_num}: {error}") from error


def _column_index(file: Path, header: list[str], column: str | None) -> int:
    """Return where the column stands."""
    names = [name.strip() for name in header]
    if column is None:
        if len(names) > 1:
            raise ValueError(f"{file} has several columns: name one of {_listed(names)} as `column`")
        return 0
    if column not in names:
        hint = did_you_mean(column, names) or f"; it has {_listed(names)}"
        raise ValueError(f"{file} has no column `{column}`{hint}")
    return names.index(column)


def _json_cells(file: Path, lines: Iterator[str], column: str | None) -> Iterator[Cell]:
    """Yield the cells of one field of a file of JSON lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}:{number}: must be JSON; got {show(line.strip())}") from error
        if isinstance(value, dict):
            value = _field(f"{file}:{number}", value, column)
        elif column is not None:
            raise ValueError(f"{file}:{number}: must be an object with `{column}`; got {show(value)}")
        yield number, value


def _field(where: str, record: dict[str, object], column: str | None) -> object:
    """Return one field of a record."""
    if column is None:
        raise ValueError(f"{where}: has named fields: name one of {_listed(list(record))} as `column`")
    if column not in record:
        raise ValueError(f"{where}: has no field `{column}`{did_you_mean(column, record)}")
    return record[column]


def _number(cell: object) -> float | None:
    """Return a cell as a finite float, None where it is none."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _listed(names: list[str]) -> str:
    """Return '`a`, `b`', the first ten."""
    return ", ".join(f"`{name}`" for name in names[:10]) + (", ..." if len(names) > 10 else "")
