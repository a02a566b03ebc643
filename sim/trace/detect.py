"""Which format a trace file has, told from its content: the name of a file says little, and is often wrong.

Leaves out: reading it (`formats`). A file that is none of those known is refused with a list of what is read.
Checked: tests/test_trace_detect.py.
Source: magic numbers of gzip (RFC 1952), Parquet (`PAR1`), zip (`PK`), zstd (RFC 8878), xz, bzip2, and of Python's pickle.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from .formats.rows import HEAD, WHITE
from .headings import of_columns, of_keys
from .tally import FileTally, TraceError

__all__ = ["FORMATS", "READS", "open_trace", "recognise"]

FORMATS: dict[str, str] = {
    "otlp": "otlp",
    "otlp-proto": "otlp_proto",
    "langfuse": "langfuse",
    "langsmith": "langsmith",
    "inspect": "inspect",
    "openinference": "openinference",
    "tracelab": "tracelab",
    "jaeger": "jaeger",
    "zipkin": "jaeger",
    "openai-agents": "sdk_spans",
    "weave": "sdk_spans",
    "steps": "steps",
}
"""Formats, and the module of `formats` that reads each."""

READS = (
    "OTLP as JSON, JSON lines or protobuf; Jaeger and Zipkin JSON; OpenInference span tables; Langfuse observations; LangSmith runs; Inspect logs; "
    "MLflow traces; spans of the OpenAI Agents SDK; Weave calls; TraceLab rounds; a table of steps as CSV, Parquet or JSON lines. Any of them in gzip"
)

_DEEP = 1 << 26
"""Bytes that are looked at where the first ones do not tell: a prompt may come before what names the format (64 MiB)."""

_LEVELS = 8
_KEYS = 4096
"""Levels of JSON, and paths of keys, that are looked at."""

_ARCHIVES = {
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it with `zstd -d`",
    b"BZh": "is compressed with bzip2: unpack it with `bunzip2`",
    b"\xfd7zXZ\x00": "is compressed with xz: unpack it with `unxz`",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it, and give the files in it",
    b"SQLite format 3\x00": "is an SQLite database: export its spans to a file first",
    b"%PDF": "is a PDF document",
    b"\x89PNG": "is a picture",
    b"ARROW1": "is an Arrow file: write it as Parquet",
    b"\x1f\x8b": "is compressed with gzip twice: unpack it with `gunzip`",
}

_INSPECT_NAMES = (b"_journal/", b"header.json", b"samples/", b"summaries.json", b"reductions.json")


def open_trace(path: Path) -> tuple[BinaryIO, FileTally]:
    """Open a trace file, unpacked from gzip where it is packed, at its beginning, and say which format it has.

    An empty file, and one of a format that is not read, raise TraceError, and so does one that cannot be opened. A gzip file that breaks off
    is read up to there, with a remark in the tally.
    """
    if path.is_dir():
        raise TraceError(f"{path.name}: is a directory; give the files in it")
    try:
        size = path.stat().st_size
        packed = _starts_packed(path)
        file = FileTally(path.name, "", size)
        stream: BinaryIO = _unpacked(path, file) if packed else path.open("rb")
    except OSError as error:
        raise TraceError(f"{path.name}: cannot be read: {error.strerror or type(error).__name__}") from None
    try:
        file.format = _format_of(stream, path.name, packed=packed)
    except BaseException:
        stream.close()
        raise
    return stream, file


def recognise(head: bytes, name: str, *, whole: bool = True) -> str:
    """Return the format of which `head` is the beginning; '' where more of the file must be seen, if it is not the `whole` of it.

    Raises TraceError where it is none that is read; `name` is for its message only.
    """
    if not head.strip(WHITE + b"\0"):
        raise TraceError(f"{name}: is empty: there are no spans in it")
    _refuse_binary(head, name)
    if head.startswith(b"PK\x03\x04"):
        if any(mark in head[: 1 << 16] for mark in _INSPECT_NAMES):
            return "inspect"
        raise TraceError(f"{name}: is a zip archive: unpack it, and give the files in it")
    found = _table_format(head, name) if head.startswith(b"PAR1") else _other_format(head, name, whole)
    if found is None:
        raise TraceError(f"{name}: holds nothing that is known as a trace; read are {READS}")
    return found


def _other_format(head: bytes, name: str, whole: bool) -> str | None:
    """Return the format of text or protobuf; '' where more must be seen, None for none."""
    text = _text(head)
    if text is None:
        return "otlp-proto" if _is_protobuf(head) else None
    start = text.lstrip("\ufeff \t\r\n")
    if start[:1] in "{[":
        found = of_keys(keys_of(head))
        return found or (None if whole else "")
    if start[:15].lower().startswith(("<!doctype", "<html", "<?xml", "<svg")):
        raise TraceError(f"{name}: is a page of HTML or XML, perhaps that of a login; export the trace as JSON")
    return of_columns(header_of(start))


def _table_format(head: bytes, name: str) -> str | None:
    """Return the format of a Parquet file of which the whole is given: its columns tell."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return of_columns(parquet.read_schema(io.BytesIO(head)).names)
    except (pa.ArrowException, OSError, ValueError):
        raise TraceError(f"{name}: is a Parquet file that is damaged or breaks off; write it again") from None


def _format_of(stream: BinaryIO, name: str, *, packed: bool) -> str:
    """Return the format of a stream, which is at its beginning again afterwards."""
    for size in (HEAD, _DEEP):
        head = stream.read(size)
        whole = len(head) < size or size == _DEEP
        stream.seek(0)
        if head.startswith(b"PAR1"):
            return _parquet_format(stream, name, packed=packed)
        found = recognise(head, name, whole=whole)
        if found:
            return found
    raise AssertionError("the second look decides")


def _parquet_format(stream: BinaryIO, name: str, *, packed: bool) -> str:
    """Return the format of a Parquet file by its schema alone, which stands at its end."""
    import pyarrow as pa
    from pyarrow import parquet

    if packed:
        raise TraceError(
            f"{name}: is a Parquet file inside of gzip, which cannot be read piece by piece: unpack it with `gunzip`"
        )
    try:
        columns = parquet.read_schema(cast("IO[Any]", stream)).names
    except (pa.ArrowException, OSError, ValueError):
        raise TraceError(f"{name}: is a Parquet file that is damaged or breaks off; write it again") from None
    stream.seek(0)
    found = of_columns(columns)
    if not found:
        raise TraceError(f"{name}: is a Parquet file without columns that are known; read are {READS}")
    return found


def keys_of(head: bytes) -> frozenset[str]:
    """Return the paths of keys in the beginning of JSON, as `resourceSpans.item.scopeSpans`, eight levels deep and no deeper."""
    import ijson  # type: ignore[import-untyped]

    found: set[str] = set()
    above: list[str] = []  # the path of what holds the next value, level by level
    name, depth = "", 0
    try:
        for event, value in ijson.basic_parse(io.BytesIO(head.lstrip(WHITE)), multiple_values=True):
            if event == "map_key" and depth <= _LEVELS:
                name = f"{above[-1]}.{value}" if above[-1] else str(value)
                found.add(name)
                if len(found) > _KEYS:
                    break
            elif event in ("start_map", "start_array"):
                depth += 1
                if depth <= _LEVELS:
                    inside = name if above else ""
                    above.append(inside if event == "start_map" else f"{inside}.item".lstrip("."))
                    name = above[-1]
            elif event in ("end_map", "end_array"):
                depth -= 1
                if depth < len(above):
                    above.pop()
                name = above[-1] if above else ""
    except (ijson.JSONError, ValueError, UnicodeError):
        pass  # a head breaks off somewhere; what came before it tells
    return frozenset(found)


def header_of(text: str) -> list[str]:
    """Return the names of columns in the first line of delimited text."""
    line = text.split("\n", 1)[0].strip("\r")[: 1 << 16]
    mark = max(",;\t|", key=line.count)
    return [cell.strip().strip("\"'").strip() for cell in line.split(mark)]


def _text(head: bytes) -> str | None:
    """Return the head as text, or None where it is none: a control character other than white space is in no trace of text."""
    sample = head[: 1 << 16]
    for cut in range(4):  # the sample may end inside of a character
        try:
            text = sample[: len(sample) - cut].decode("utf-8")
            break
        except UnicodeDecodeError as error:
            if error.start < len(sample) - 4:
                return None
    else:
        return None
    return None if any(ord(mark) < 32 and mark not in "\t\r\n\f" for mark in text) else text


def _refuse_binary(head: bytes, name: str) -> None:
    """Raise TraceError for what is known not to be a trace, saying what it is."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or _has_wide_letters(head):
        raise TraceError(f"{name}: is in UTF-16; save it as UTF-8")
    for magic, what in _ARCHIVES.items():
        if head.startswith(magic):
            raise TraceError(f"{name}: {what}")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise TraceError(
            f"{name}: is a pickle of Python, which is never opened: it can run code; export the trace as JSON"
        )
    if head[257:262] == b"ustar":
        raise TraceError(f"{name}: is a tar archive: unpack it, and give the files in it")


def _has_wide_letters(head: bytes) -> bool:
    """Return whether every other byte of the first ones is zero, as in UTF-16 without a mark of order."""
    sample = head[:64]
    return len(sample) >= 4 and (not any(sample[1::2]) or not any(sample[::2])) and any(sample)


def _is_protobuf(head: bytes) -> bool:
    """Return whether this may be OTLP in protobuf: resource spans first, alone or each message behind its length in four bytes."""
    if _is_message(head):
        return True
    length = int.from_bytes(head[:4], "big")
    return 0 < length < 1 << 31 and _is_message(head[4:])


def _is_message(head: bytes) -> bool:
    """Return whether a message begins here whose first field is a message of resource spans: resource, scopes or a schema."""
    if head[:1] != b"\x0a":
        return False
    length = shift = 0
    for place, byte in enumerate(head[1:6], start=2):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return length > 0 and head[place : place + 1] in (b"\x0a", b"\x12", b"\x1a", b"\xc2")
    return False


def _starts_packed(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(2) == b"\x1f\x8b"


def _unpacked(path: Path, file: FileTally) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Unpacked(path, file), 1 << 18))


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, of several members or one. Where the file breaks off, so does the content, with a remark."""

    def __init__(self, path: Path, file: FileTally) -> None:
        super().__init__()
        self._path, self._file = path, file
        self._inner = gzip.open(path, "rb")  # noqa: SIM115 - closed with this object

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR and offset == 0:
            return self.tell()
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("a packed file is read from its beginning")
        return self._inner.seek(offset)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            piece = self._inner.read1(len(view))
        except EOFError:
            self._file.remark = "its gzip data breaks off: what came after is not known"
            return 0
        except (zlib.error, gzip.BadGzipFile):
            if self._inner.tell() == 0:
                raise TraceError(
                    f"{self._file.name}: its gzip data is damaged from the beginning; copy it again"
                ) from None
            self._file.remark = "its gzip data is damaged: what came after is not known"
            return 0
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()
