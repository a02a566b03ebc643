"""Writing a file whole or not at all, and never over another one unasked; and what JSON can hold.

Checked: tests/test_cli.py.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..engine.errors import CoordsimError


class FileError(CoordsimError):
    """A file that is there already, or cannot be written."""


def write_text(path: Path, text: str, overwrite: bool = False) -> None:
    """Write `text` to `path`; its folder is made. Raises FileError."""
    write_bytes(path, text.encode(), overwrite)


def write_bytes(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write `content` to `path`; its folder is made. Raises FileError."""
    with writing(path, overwrite) as out:
        out.write(content)


@contextmanager
def writing(path: Path, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Give a file that is at `path` once it is whole, and not at all after an error; its folder is made. Raises FileError."""
    check_free(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            yield out
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}; choose another place") from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def check_free(path: Path, overwrite: bool) -> None:
    """Raise FileError where something is that may not be replaced: a folder, or without `overwrite` a file."""
    if path.exists() and (path.is_dir() or not overwrite):
        remedy = "choose another place" if path.is_dir() else "choose another place, or pass --overwrite"
        raise FileError(f"{path} exists already, and is left as it is; {remedy}")


def parquet(table: Any) -> bytes:
    """Return an Arrow table as a Parquet file."""
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def plain_data(value: Any) -> Any:
    """Return plain data for JSON: mappings for dataclasses, lists for tuples, null for what is not finite."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain_data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
