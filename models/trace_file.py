"""Reading a file of arrivals: CSV or JSON lines, plain or gzipped, told apart by content and not by name.

A row has an arrival time (a number, or a date such as `2023-11-16 18:17:03.9799600`) and maybe token counts of the request and
the output, and of which blocks the request consists: names of its content, each of a given number of tokens, the last maybe of
fewer. Times become seconds since the earliest row, to the nanosecond where the file says so; a date without a zone is UTC.
A file with the columns of Mooncake's traces (timestamp, input_length, output_length, hash_ids) counts milliseconds, as its
authors say; any other counts seconds unless the caller says otherwise.

Leaves out: files without a header, Parquet, JSON arrays, and every other column.
Checked: tests/test_trace_file.py, on the real traces where they are at hand.
Source: github.com/Azure/AzurePublicDataset (AzureLLMInferenceTrace); github.com/kvcache-ai/Mooncake (traces).
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import re
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ..sim.engine.errors import Problem, ScenarioError, did_you_mean, show

__all__ = ["BLOCK", "UNITS", "TraceColumns", "TraceTable", "read_trace_file"]

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Counts of a unit in one second."""

BLOCK = 512
"""Tokens of a block of Mooncake's traces."""

_TIMESTAMP = ("timestamp", "time", "t", "arrival_time")
_REQUEST = ("contexttokens", "input_length", "input_tokens", "in_tok", "prompt_tokens", "request")
_OUTPUT = ("generatedtokens", "output_length", "output_tokens", "out_tok", "completion_tokens", "output")
_MOONCAKE = {"timestamp", "input_length", "output_length", "hash_ids"}

_LISTED = 5  # mistakes told one by one; a file of the wrong kind has thousands
_LONGEST_LINE = 1 << 20  # bytes; keeps a file that is no table, or a gzip bomb, from filling the memory
_MOST_ROWS = 20_000_000
_MOST_TOKENS = 1e15
_LONGEST_SPAN = 1e10  # seconds, as for every duration
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,20}))?\s*(Z|UTC|[-+][0-9]{2}:?[0-9]{2})?"
)


@dataclass(frozen=True, slots=True)
class TraceColumns:
    """The names of the columns to read; None for those to recognise. Without `tokens`, only the times are read.

    Blocks are read if their column is named: whole numbers, in a list or in a text with spaces. `block` is their tokens.
    """

    timestamp: str | None = None
    request: str | None = None
    output: str | None = None
    tokens: bool = True
    blocks: str | None = None
    block: float = BLOCK


@dataclass(frozen=True, slots=True, eq=False)
class TraceTable:
    """The rows of a file in order of time: `times` in seconds from 0; token counts where the file has them."""

    times: np.ndarray
    request: np.ndarray | None
    output: np.ndarray | None
    unit_assumed: bool
    """Whether the unit of the times is a guess: numbers, no unit stated, columns of no known format."""
    blocks: list[tuple[int, ...]] | None = None
    """Of each row, the ids of its blocks of content, as many as its tokens fill or begin."""

    @property
    def span(self) -> float:
        """Seconds from the first row to the last."""
        return float(self.times[-1])


def read_trace_file(
    path: str | Path,
    columns: TraceColumns | None = None,
    unit: str | None = None,
    sort: bool = False,
    limit: int | None = None,
) -> TraceTable:
    """Read the first `limit` rows of a file of arrivals.

    `unit` (one of `UNITS`) is that of times given as numbers. A row earlier than the one before is a mistake unless `sort`.
    Raises ScenarioError that cites the file and row of each mistake, the first five in full. A mistake in the choice of columns
    has the name of that choice as its path.
    """
    file = Path(path)
    reader = _Reader(file, columns or TraceColumns(), unit, sort, limit)
    try:
        with _opened(file) as stream:
            reader.read(stream)
    except _Refused as refused:
        reader.problems.append(refused.problem(str(file)))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reader.refuse(f"is a damaged or truncated gzip file: {str(error)[:1].lower()}{str(error)[1:]}")
    except OSError as error:
        reader.refuse(f"cannot be read: {(error.strerror or str(error)).lower()}")
    return reader.table()


class _Refused(Exception):
    """The file cannot be read on."""

    def __init__(self, message: str, line: int = 0, path: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.path = path

    def problem(self, file: str) -> Problem:
        """Return it as a mistake in `file`."""
        return Problem(self.path, str(self), file, self.line)


def _opened(file: Path) -> BinaryIO:
    """Open for reading bytes, unpacked."""
    if file.is_dir():
        raise _Refused("is a directory; name a trace file in it")
    if not file.exists():
        near = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise _Refused(f"no such file{did_you_mean(file.name, near)}")
    if not file.is_file():
        raise _Refused("is not a regular file")
    with file.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    return cast("BinaryIO", gzip.open(file, "rb")) if packed else file.open("rb")


class _Lines:
    """The lines of a stream as text; `number` is that of the last one given, from 1."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        while raw := self._stream.readline(_LONGEST_LINE):
            self.number += 1
            if self.number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
                if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise _Refused("is UTF-16; save it as UTF-8")
            if b"\0" in raw or raw.startswith(b"\x1f\x8b"):
                raise _Refused("is a binary file, neither CSV nor JSON lines", self.number)
            if len(raw) == _LONGEST_LINE:
                raise _Refused(f"has a line of more than {_LONGEST_LINE} bytes; is it CSV or JSON lines?", self.number)
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                message = f"is not text in UTF-8: byte 0x{raw[error.start]:02x}"
                raise _Refused(message, self.number) from None


class _Reader:
    """Collects the rows of one file, and its mistakes."""

    def __init__(self, file: Path, columns: TraceColumns, unit: str | None, sort: bool, limit: int | None) -> None:
        self.file = str(file)
        self.columns = columns
        self.unit = unit
        self.sort = sort
        self.limit = limit
        self.problems: list[Problem] = []
        self.more = 0  # mistakes beyond those listed
        self.times = array("d")
        self.request = array("d")
        self.output = array("d")
        self.blocks: list[tuple[int, ...]] = []
        self.names: tuple[str | None, ...] = ()
        self.first: int | float | None = None
        self.dated = False
        self.unit_assumed = False
        self.per_second = 1

    def refuse(self, message: str) -> None:
        """Note what is wrong with the whole file."""
        self.problems.append(Problem("", message, self.file))

    def read(self, stream: BinaryIO) -> None:
        """Read all rows."""
        lines = _Lines(stream)
        texts = iter(lines)
        first = next((text for text in texts if text.strip()), None)
        if first is None:
            raise _Refused("is empty")
        if first.lstrip().startswith("["):
            raise _Refused("is a JSON array; write JSON lines, one object a line")
        rest = itertools.chain([first], texts)
        is_json = first.lstrip().startswith("{")
        rows = self._json_rows(rest, lines) if is_json else self._csv_rows(rest, lines)
        for row in itertools.islice(rows, self.limit):
            if isinstance(row, str):
                self._note(lines.number, row)
            elif mistake := self._add(row):
                self._note(lines.number, mistake)
            if len(self.times) > _MOST_ROWS:
                raise _Refused(f"has more than {_MOST_ROWS} rows; state a `limit`")

    def table(self) -> TraceTable:
        """Return what was read; ScenarioError with every mistake."""
        if self.more:
            self.refuse(f"and {self.more} more row{'' if self.more == 1 else 's'} like these")
        elif not self.problems and not self.times:
            self.refuse("has no rows")
        if self.problems:
            raise ScenarioError(self.problems, self.file)
        times, request, output = (np.array(column) for column in (self.times, self.request, self.output))
        if self.sort:
            order = np.argsort(times, kind="stable")
            times = times[order] - times[order[0]]
            request, output = (column[order] if len(column) else column for column in (request, output))
            self.blocks = [self.blocks[row] for row in order.tolist()] if self.blocks else []
        _, has_request, has_output, has_blocks = (name is not None for name in self.names)
        return TraceTable(
            times,
            request if has_request else None,
            output if has_output else None,
            self.unit_assumed,
            self.blocks if has_blocks else None,
        )

    def _note(self, line: int, message: str) -> None:
        """Note a mistake in a row, or count it."""
        if len(self.problems) < _LISTED:
            self.problems.append(Problem("", message, self.file, line))
        else:
            self.more += 1

    def _csv_rows(self, texts: Iterator[str], lines: _Lines) -> Iterator[list[object] | str]:
        """Yield the cells of each row (time, request, output, blocks), or what is wrong with it."""
        header = next(texts)
        delimiter = next((mark for mark in ",\t;" if mark in header), ",")
        rows = csv.reader(itertools.chain([header], texts), delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(rows)]
            if _number(names[0]) is not None or _nanoseconds(names[0]) is not None:
                raise _Refused("has no header: its first row holds values, not the names of columns", lines.number)
            self._choose(names, lines.number)
            places = [None if name is None else names.index(name) for name in self.names]
            for row in rows:
                if len(row) == len(names):
                    yield [None if place is None else row[place] for place in places]
                elif row:
                    yield f"has {len(row)} field{'' if len(row) == 1 else 's'}; the header has {len(names)}"
        except csv.Error as error:
            raise _Refused(f"is not CSV: {error}", lines.number) from None

    def _json_rows(self, texts: Iterator[str], lines: _Lines) -> Iterator[list[object] | str]:
        """Yield the values of each row (time, request, output, blocks), or what is wrong with it."""
        for text in texts:
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError):
                yield f"is not JSON; got {show(text.strip())}"
                continue
            if not isinstance(record, dict):
                yield f'must be an object such as {{"timestamp": 0}}; got {show(record)}'
                continue
            if not self.names:
                self._choose(list(record), lines.number)
            missing = next((name for name in self.names if name is not None and name not in record), None)
            yield f"has no `{missing}`" if missing else [record[name] if name else None for name in self.names]

    def _choose(self, names: list[str], line: int) -> None:
        """Find the columns, and the unit of the times."""
        wanted = self.columns
        timestamp = _column(names, "timestamp", wanted.timestamp, _TIMESTAMP, line)
        if timestamp is None:
            found = f"it has {_listed(names)}"
            raise _Refused(
                f"no column is known to hold arrival times; {found}; name one as `timestamp`", line, "timestamp"
            )
        request = output = blocks = None
        if wanted.tokens:
            request = _column(names, "request", wanted.request, _REQUEST, line)
            output = _column(names, "output", wanted.output, _OUTPUT, line)
        if wanted.blocks is not None:
            blocks = _column(names, "blocks", wanted.blocks, (), line)
            if request is None:
                raise _Refused("blocks are of requests, and no column with their tokens is read", line, "blocks")
        self.names = (timestamp, request, output, blocks)
        is_mooncake = set(names) >= _MOONCAKE and timestamp == "timestamp"
        self.unit_assumed = self.unit is None and not is_mooncake
        self.per_second = UNITS[self.unit or ("ms" if is_mooncake else "s")]

    def _add(self, cells: list[object]) -> str | None:
        """Add a row; return what is wrong with it instead."""
        try:
            time = self._time(cells[0])
            tokens = (None if name is None else _tokens(cell, name) for name, cell in self._token_cells(cells))
            request, output = tokens
            blocks = None if self.names[3] is None else self._ids(cells[3], request or 0.0)
        except ValueError as error:
            return str(error)
        if self.times and time < self.times[-1] and not self.sort:
            early = self.times[-1] - time
            return f"is {early:.3g} s earlier than the row before; state `sort: true` if the file is not in order"
        self.times.append(time)
        if request is not None:
            self.request.append(request)
        if output is not None:
            self.output.append(output)
        if blocks is not None:
            self.blocks.append(blocks)
        return None

    def _token_cells(self, cells: list[object]) -> list[tuple[str | None, object]]:
        """Return the name and the cell of both token columns."""
        return list(zip(self.names[1:3], cells[1:3], strict=True))

    def _ids(self, cell: object, tokens: float) -> tuple[int, ...]:
        """Return the ids of the blocks of a request of so many tokens."""
        name, size = self.names[3], self.columns.block
        found = cell.split() if isinstance(cell, str) else cell
        if not isinstance(found, list):
            raise ValueError(f"`{name}` must be a list of ids of blocks; got {show(cell)}")
        ids = [_number(entry) for entry in found]
        wrong = next((entry for entry, number in zip(found, ids, strict=True) if not isinstance(number, int)), None)
        if wrong is not None:
            raise ValueError(f"`{name}` must hold whole numbers; got {show(wrong)}")
        needed = math.ceil(tokens / size)
        if len(ids) != needed:
            count = f"{len(ids)} block{'s'[: len(ids) != 1]}"
            raise ValueError(f"`{name}` has {count}, and {tokens:g} tokens are {needed} of {size:g}")
        return tuple(cast("list[int]", ids))

    def _time(self, cell: object) -> float:
        """Return the seconds since the first row. Integers are subtracted before they become floats, so no digit is lost."""
        number = _number(cell)
        dated = number is None and isinstance(cell, str)
        moment = _nanoseconds(cell) if isinstance(cell, str) and dated else number
        if moment is None:
            example = "such as `12.5` or `2023-11-16 18:17:03.97`"
            raise ValueError(f"`{self.names[0]}` must be a number or a date, {example}; got {show(cell)}")
        if self.first is None:
            if dated and self.unit is not None:
                raise _Refused(f"`{self.names[0]}` holds dates, which have no unit; leave out `unit`", 0, "unit")
            self.first, self.dated = moment, dated
            self.unit_assumed = self.unit_assumed and not dated
            self.per_second = UNITS["ns"] if dated else self.per_second
        if dated != self.dated:
            kinds = ("a date", "a number") if self.dated else ("a number", "a date")
            raise ValueError(f"`{self.names[0]}` must be {kinds[0]}, as in the rows before; got {show(cell)}")
        time = (moment - self.first) / self.per_second
        if abs(time) > _LONGEST_SPAN:
            raise ValueError(f"is more than 300 years from the first row; got {show(cell)}: is the `unit` right?")
        return time


def _column(names: list[str], role: str, given: str | None, known: tuple[str, ...], line: int) -> str | None:
    """Return the name of the column for a role: the one `given`, or the one that is `known`; None when there is none."""
    if given is not None and given not in names:
        hint = did_you_mean(given, names) or f"; it has {_listed(names)}"
        raise _Refused(f"has no column `{given}`{hint}", line, role)
    found = [name for name in names if (name == given if given is not None else name.lower() in known)]
    if len(found) > 1:
        remedy = "rename one" if len(set(found)) == 1 else f"name one as `{role}`"
        raise _Refused(f"has {len(found)} columns for `{role}`: {_listed(found)}; {remedy}", line, role)
    return found[0] if found else None


def _number(cell: object) -> int | float | None:
    """Return a finite number, an int where it is written as one; None for anything else."""
    if isinstance(cell, str):
        text = cell.strip()
        if len(text) > 100 or not _NUMBER.fullmatch(text):
            return None
        cell = int(text) if text.isdigit() else float(text)
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return None
    return cell if abs(cell) < 1e300 and math.isfinite(cell) else None


def _nanoseconds(text: str) -> int | None:
    """Return a date as nanoseconds since the year 1, UTC; None for what is no date."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}")
    except ValueError:
        return None
    seconds = moment.toordinal() * 86_400 + moment.hour * 3_600 + moment.minute * 60 + moment.second
    if zone and zone[0] in "+-":
        ahead = int(zone[1:3]) * 3_600 + int(zone[-2:]) * 60
        seconds += -ahead if zone[0] == "+" else ahead
    return seconds * UNITS["ns"] + int((fraction or "0").ljust(9, "0")[:9])


def _tokens(cell: object, name: str) -> float:
    """Return a count of tokens."""
    number = _number(cell)
    if number is None or not 0 <= number <= _MOST_TOKENS:
        raise ValueError(f"`{name}` must be a number of tokens >= 0; got {show(cell)}")
    return float(number)


def _listed(names: list[str]) -> str:
    """Return '`a`, `b`', the first ten."""
    return ", ".join(f"`{name[:40]}`" for name in names[:10]) + (", ..." if len(names) > 10 else "")
