"""What a report page holds, as its script reads it."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

__all__ = ["outside", "page_data"]


def page_data(path: Path) -> Any:
    """Return the data of a page: its charts, sliders and files, by anchor."""
    found = re.search(r'id="page-data">([^<]*)</script>', path.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def outside(path: Path) -> list[str]:
    """Return the addresses that a page would load something from; packed scripts hold none."""
    return re.findall(
        r"""(?:src|href)=["']?(?!#|data:)[^"'>\s]+|url\(["']?(?!data:)[^)]+""", path.read_text(encoding="utf-8")
    )
