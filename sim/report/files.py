"""Writing a text file whole or not at all, and never over another one unasked.

Checked: tests/test_cli.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..engine.errors import CoordsimError


class FileError(CoordsimError):
    """A file that is there already, or cannot be written."""


def write_text(path: Path, text: str, overwrite: bool = False) -> None:
    """Write `text` to `path`; its folder is made. Raises FileError."""
    if path.exists() and (path.is_dir() or not overwrite):
        remedy = "choose another place" if path.is_dir() else "choose another place, or remove it"
        raise FileError(f"{path} exists already, and is left as it is; {remedy}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
