"""Writing a file whole or not at all, and never over another one unasked; and what JSON can hold.

Checked: tests/test_cli.py.
"""

from __future__ import annotations

import math
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..engine.errors import CoordsimError


class FileError(CoordsimError):
    """A file that is there already, or cannot be written."""


def write_text(path: Path, text: str, overwrite: bool = False) -> None:
    """Write `text` to `path`; its folder is made. Raises FileError."""
    write_bytes(path, text.encode(), overwrite)


def write_bytes(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write `content` to `path`; its folder is made. Raises FileError."""
    if path.exists() and (path.is_dir() or not overwrite):
        remedy = "choose another place" if path.is_dir() else "choose another place, or pass --overwrite"
        raise FileError(f"{path} exists already, and is left as it is; {remedy}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


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
