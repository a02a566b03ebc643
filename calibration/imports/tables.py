"""Reading tables of others: CSV, gzipped CSV and parquet, with every mistake named by its file and row.

Leaves out: what the columns mean; each reader knows its own.
Checked: tests/test_imports.py.
"""

import csv
import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...sim.engine.errors import Problem, ProfileError, did_you_mean, listed, show

__all__ = ["medians", "numbers", "refused", "rows_of", "table", "text_of", "times"]

_CUT = "it is cut off or damaged; get it again"


def refused(path: Path, message: str, line: int = 0, where: str = "") -> ProfileError:
    """Return the error of one mistake in a file."""
    return ProfileError([Problem(where, message, str(path), line)], str(path))


def text_of(path: Path) -> str:
    """Return the text of a file, gzipped or not. Raises ProfileError."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(path, f"must be text in UTF-8; byte {error.start} is not: {_CUT}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise refused(path, f"must be a whole gzip file: {_CUT}") from None
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from None


def table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Return the table in a file, with at least one row and the `required` columns. Raises ProfileError."""
    frame = _parquet(path) if path.suffix == ".parquet" else rows_of(path, text_of(path))
    require(path, list(frame.columns), required)
    if frame.empty:
        raise refused(path, "must have rows; got the header alone")
    return frame


def require(path: Path, columns: Sequence[str], required: Iterable[str]) -> None:
    """Raise ProfileError with every column that is missing, and what may have been meant."""
    missing = [name for name in required if name not in columns]
    if missing:
        spare = [name for name in columns if name not in required]
        problems = [
            Problem(
                "",
                f"must have a column `{name}`{did_you_mean(name, spare) or f'; it has {listed(columns)}'}",
                str(path),
                1,
            )
            for name in missing
        ]
        raise ProfileError(problems, str(path))


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Read without threads: a reader's pool outlives the call, and these tables take milliseconds.
        frame: pd.DataFrame = parquet.read_table(path, use_threads=False).to_pandas(use_threads=False)
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise refused(path, f"must be a whole parquet file: {_CUT} ({str(error).splitlines()[0][:80]})") from None
    return frame


def rows_of(path: Path, text: str) -> pd.DataFrame:
    """Return the rows of CSV text; every row must have the header's number of fields. Raises ProfileError with the line."""
    reader = csv.reader(text.splitlines())
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if not row:
            continue
        if not header:
            header = [name.strip() for name in row]
        elif len(row) != len(header):
            rule = f"must have {len(header)} fields, one for each column; got {len(row)}"
            remedy = f": {_CUT}" if len(row) < len(header) else ": quote the field that holds a comma"
            raise refused(path, rule + remedy, reader.line_num)
        else:
            rows.append(row)
            lines.append(reader.line_num)
    if not header:
        raise refused(path, "must be a table; got an empty file")
    frame = pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="line"))
    for name in frame.columns[~frame.columns.duplicated(keep=False)]:
        converted = pd.to_numeric(frame[name], errors="coerce")
        if not converted.isna().to_numpy()[(frame[name] != "").to_numpy()].any():
            frame[name] = converted
    return frame


def medians(frame: pd.DataFrame) -> list[str]:
    """Return the columns that hold medians of times, such as `time_stats.emb.median`."""
    names = [str(name) for name in frame.columns]
    return [name for name in names if name.startswith("time_stats.") and name.endswith(".median")]


def numbers(path: Path, frame: pd.DataFrame, column: str, *, least: float = 0.0) -> np.ndarray:
    """Return a column of numbers >= `least`. Raises ProfileError with the rows where it is something else."""
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    return _checked(path, frame, column, values, values >= least, f"must be a number >= {least:g}", "correct it")


def times(path: Path, frame: pd.DataFrame, column: str, unit: float) -> np.ndarray:
    """Return a column of latencies in seconds; `unit` is the seconds in one of its numbers. Raises ProfileError."""
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    good = np.isfinite(values) & (values > 0)
    remedy = "leave such rows out, or measure them again"
    return _checked(path, frame, column, values, good, "must be a latency > 0", remedy) * unit


def _checked(
    path: Path, frame: pd.DataFrame, column: str, values: np.ndarray, good: np.ndarray, rule: str, remedy: str
) -> np.ndarray:
    good = good & np.isfinite(values)
    if good.all():
        return values
    wrong = np.flatnonzero(~good)
    is_text = frame.index.name == "line"  # of a CSV the line is known; of parquet the number of the row, from 0
    problems = []
    for place in wrong[:5]:
        at = int(frame.index[place])
        got = show(_plain(frame[column].iloc[place]))
        where = column if is_text else f"row {at}, {column}"
        problems.append(Problem(where, f"{rule}; got {got}", str(path), at if is_text else 0))
    problems.append(Problem(column, f"{len(wrong)} of {len(frame)} rows are wrong: {remedy}", str(path)))
    raise ProfileError(problems, str(path))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
