"""Records of a file one after the other, whatever holds them: a JSON document, JSON lines, a table as CSV or Parquet.

Memory holds one record (of JSON), or one batch (of Parquet), never the file. What cannot be read is counted, by line.
Leaves out: what a record means (the modules of the formats).
Checked: tests/test_trace_steps.py.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

from ..tally import FileTally, Tally, TraceError
from . import values

__all__ = ["HEAD", "WHITE", "Record", "records"]

Record = dict[str, Any]

HEAD = 1 << 20
"""Bytes of a file that are looked at first (1 MiB)."""
_WIDEST_CELL = 1 << 30
_BATCH = 4096
_DEEPEST = 500
"""Levels of JSON that one read may open, more or less: readers of JSON by recursion give up at 1000."""
_TAIL = 4096
_PAGES = re.compile(rb'"meta"\s*:\s*(\{[^{}]*\})\s*\}\s*$')
WHITE = b"\xef\xbb\xbf \t\r\n"
"""What may come before JSON: a mark of order, and white space."""
BROKEN_LINE = "a line is no JSON"
BROKEN_OFF = "the file breaks off in the middle of it"
NO_RECORD = "is no record with fields"


def records(
    stream: BinaryIO, file: FileTally, tally: Tally, within: tuple[str, ...], kept: tuple[str, ...] = ()
) -> Iterator[tuple[int, Record]]:
    """Give each record with its number: its line where that is known, else its place, from 1.

    `within` are keys of lists that hold the records, as `observations`; a record in which none of them is a list counts itself. Of a document,
    scalars at the paths `kept` that come before its records are added to each as `^path`, unless the record has that path's last key.
    """
    head = stream.read(HEAD)
    stream.seek(0)
    start = head.lstrip(WHITE)
    if head.startswith(b"PAR1"):
        yield from _from_parquet(stream, file)
    elif start[:1] not in (b"{", b"["):
        yield from _from_csv(stream, file, tally)
    elif _is_lines(start):
        for line, value in _lines(stream, file, tally):
            yield from ((line, one) for one in _inside(value, within, kept, tally))
    else:
        yield from _from_document(stream, file, tally, within, kept)


def _is_lines(start: bytes) -> bool:
    """Return whether the first line is a JSON object of its own."""
    first, mark, rest = start.partition(b"\n")
    if start[:1] != b"{" or (mark and not rest.strip(WHITE)):
        return False  # one object alone is a document
    if not mark:
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _lines(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, start=1):
        text = line.strip(WHITE)
        if not text:
            continue
        try:
            yield number, json.loads(text)
        except (ValueError, RecursionError):
            tally.spans += 1
            tally.note("dropped", BROKEN_LINE, example=f"line {number}")
            file.remark = file.remark or f"line {number} is no JSON"


def _inside(value: Any, within: tuple[str, ...], kept: tuple[str, ...], tally: Tally) -> Iterator[Record]:
    """Give the records in a JSON value: itself, those of its list, or those of the list under one of `within`."""
    if isinstance(value, list):
        for one in value:
            if isinstance(one, dict):
                yield from _inside(one, within, kept, tally)
            else:
                _count_no_record(tally)
        return
    if not isinstance(value, dict):
        _count_no_record(tally)
        return
    for key in within:
        if isinstance(value.get(key), list):
            above = {f"^{path}": found for path in kept if (found := _at(value, path)) is not None}
            for one in value[key]:
                if isinstance(one, dict):
                    yield {**above, **one}
                else:
                    _count_no_record(tally)
            return
    yield value


def _count_no_record(tally: Tally) -> None:
    tally.spans += 1
    tally.note("dropped", NO_RECORD)


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str | int | float) else None


def _from_document(
    stream: BinaryIO, file: FileTally, tally: Tally, within: tuple[str, ...], kept: tuple[str, ...]
) -> Iterator[tuple[int, Record]]:
    import ijson  # type: ignore[import-untyped]

    place = 0
    try:
        prefix, above = _find(stream, within, kept)
        stream.seek(0)
        source = JsonBytes(stream)
        for value in ijson.items(source, prefix, multiple_values=True):
            for one in _inside({**above, **value} if isinstance(value, dict) and above else value, within, kept, tally):
                place += 1
                yield place, one
        _tell_pages(source.tail, file)
    except TooDeep:
        raise TraceError(
            f"{file.name}: its JSON is nested deeper than traces are (after {place:,} records); export it again"
        ) from None
    except ijson.JSONError as error:
        _broken(error, place, file, tally)
    except (UnicodeError, ValueError, OverflowError) as error:
        raise TraceError(
            f"{file.name}: its JSON cannot be read after {place:,} records: {type(error).__name__}; export it again"
        ) from None


def _tell_pages(tail: bytes, file: FileTally) -> None:
    """Say where a document is one page of several, as its last object says."""
    match = _PAGES.search(tail)
    if match is None:
        return
    said = values.mapping(match.group(1).decode("utf-8", "replace"))
    page, pages = values.number(said.get("page")), values.number(said.get("totalPages"))
    if page is not None and pages is not None and pages > 1:
        remark = f"page {page:.0f} of {pages:.0f}: the other pages hold spans too, give them as well"
        file.remark = f"{file.remark}; {remark}" if file.remark else remark


def _broken(error: Exception, place: int, file: FileTally, tally: Tally) -> None:
    """Count that a document breaks off; raise TraceError where it is wrong in another way, or nothing came before."""
    what = str(error).split("\n", 1)[0].lower()
    breaks_off = "premature" in what or "incomplete" in what
    if place == 0 or not breaks_off:
        how = "breaks off before its first record ends" if breaks_off else "is no JSON that can be read"
        raise TraceError(f"{file.name}: {how} (after {place:,} records); export it again") from None
    tally.spans += 1
    tally.note("dropped", BROKEN_OFF, example=f"record {place + 1}")
    file.remark = file.remark or f"breaks off after {place:,} records"


def _find(stream: BinaryIO, within: tuple[str, ...], kept: tuple[str, ...]) -> tuple[str, Record]:
    """Return the path of the records in a document, and the scalars above them. Where lists of both `a` and `x.a` exist, the shallower holds."""
    import ijson

    above: Record = {}
    candidate = ""
    wanted = {f"{key}.item" for key in within}
    for prefix, event, value in ijson.parse(JsonBytes(stream), multiple_values=True):
        if event == "start_map":
            if prefix in ("item", "item.item") or prefix in wanted:
                return prefix, above
            if not candidate and prefix.count(".") == 2 and prefix.partition(".")[2] in wanted:
                candidate = prefix
        elif prefix in kept and event in ("string", "number"):
            above[f"^{prefix}"] = value
        elif event == "end_map" and prefix == "":
            break
    return candidate, above


class TooDeep(ValueError):
    """JSON in JSON in JSON, as no writer of traces does: to follow it costs time that grows with the square of the depth."""


class JsonBytes:
    """A stream of JSON in which NaN and Infinity, which some writers put where a number is, are null: the parser knows none of them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inside = False  # of a string, at the end of what was given
        self._rest = b""
        self._first = True
        self.tail = b""  # the last bytes that were read

    def read(self, size: int = -1) -> bytes:
        """Return about `size` bytes, at least one unless at the end."""
        if size == 0:
            return b""
        piece = self._stream.read(size if size > 0 else -1)
        self.tail = (self.tail + piece)[-_TAIL:]
        data = self._rest + piece
        if self._first:
            data, self._first = data.lstrip(WHITE), False
        self._rest = b""
        if piece:
            keep = _unfinished(data)
            if keep:
                data, self._rest = data[:-keep], data[-keep:]
        if not data and self._rest:
            return self.read(size)
        return self._clean(data)

    def _clean(self, data: bytes) -> bytes:
        if data.count(b"{") + data.count(b"[") - data.count(b"}") - data.count(b"]") > _DEEPEST:
            outside = b"".join(_quotes(data)[1 if self._inside else 0 :: 2])
            if outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]") > _DEEPEST:
                raise TooDeep
        if b"NaN" in data or b"Infinity" in data:
            parts = _quotes(data)
            for place in range(1 if self._inside else 0, len(parts), 2):
                parts[place] = (
                    parts[place].replace(b"-Infinity", b"null").replace(b"Infinity", b"null").replace(b"NaN", b"null")
                )
            quotes = len(parts) - 1
            data = b'"'.join(parts)
        else:
            quotes = (
                data.count(b'"') if b"\\" not in data else data.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
            )
        self._inside ^= bool(quotes % 2)
        return data


def _quotes(data: bytes) -> list[bytes]:
    """Split at the quotes that are no part of a string."""
    parts: list[bytes] = []
    pending = b""
    for piece in data.split(b'"'):
        pending += piece
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            pending += b'"'
            continue
        parts.append(pending)
        pending = b""
    if pending:
        parts.append(pending)
    return parts


def _unfinished(data: bytes) -> int:
    """Return how many bytes at the end must wait for what follows: a backslash without its letter, or a word that is not over."""
    slashes = len(data) - len(data.rstrip(b"\\"))
    if slashes % 2:
        return 1
    tail = data[-9:]
    letters = len(tail) - len(tail.rstrip(b"-INafinty"))
    return letters if letters < 9 else 0


def _from_csv(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[tuple[int, Record]]:
    # A prompt may stand in one cell; the default of 128 KiB would end the reading. The limit is one for the process, and only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), _WIDEST_CELL))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
    try:
        first = text.readline()
        while first and not first.strip():
            first = text.readline()
        mark = max(",;\t|", key=first.count)
        names = [cell.strip() for cell in next(csv.reader([first], delimiter=mark), [])]
        reader = csv.reader((line.replace("\0", "") for line in text), delimiter=mark)
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                tally.spans += 1
                tally.note(
                    "dropped", "a row has more or fewer cells than the header", example=f"line {reader.line_num + 1}"
                )
                file.remark = file.remark or f"line {reader.line_num + 1} has more or fewer cells than the header"
                continue
            yield reader.line_num + 1, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise TraceError(f"{file.name}: its table cannot be read: {error}") from None
    finally:
        text.detach()


def _from_parquet(stream: BinaryIO, file: FileTally) -> Iterator[tuple[int, Record]]:
    import pyarrow as pa
    from pyarrow import parquet

    place = 0
    try:
        source = parquet.ParquetFile(cast("IO[Any]", stream))
        for batch in source.iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                place += 1
                yield place, row
    except (pa.ArrowException, OSError, ValueError):
        raise TraceError(
            f"{file.name}: its Parquet data is damaged or breaks off after {place:,} rows; write it again"
        ) from None
