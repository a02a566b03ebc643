"""The tree behind a YAML document: each value, the place where it was written, and the place of its key.

Leaves out: reading text (`reader`), files and `extends` (`source`), merging (`merge`).
Checked: tests/test_source.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import Problem, show

__all__ = ["Node", "Position", "Refusal", "at", "from_plain", "plain", "told", "with_paths"]

MAX_DEPTH = 64
MAX_NODES = 200_000


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; lines and columns count from 1, and 0 means not known."""

    file: str = ""
    line: int = 0
    column: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar (`value`), or a `mapping`, or a list (`items`), with the places of the value and of its key."""

    value: Any
    at: Position
    key: Position | None = None
    mapping: dict[str, Node] | None = None
    items: list[Node] | None = None
    size: int = 1  # nodes below and with this one, aliases counted each time
    height: int = 1

    @property
    def fields(self) -> dict[str, Node]:
        """The fields of a mapping; none for anything else."""
        return self.mapping if self.mapping is not None else {}

    @property
    def is_null(self) -> bool:
        """Whether nothing is written here."""
        return self.value is None and self.mapping is None and self.items is None

    def child(self, step: str | int) -> Node | None:
        """Return the field or item named `step`, or None."""
        if self.items is not None:
            return self.items[step] if isinstance(step, int) and 0 <= step < len(self.items) else None
        return self.fields.get(str(step))

    def place(self, key: bool = False) -> Position:
        """Return the place to cite: the key, when asked for or when the value begins on a later line."""
        if self.key is None:
            return self.at
        return self.key if key or (self.key.line != self.at.line and self.key.file == self.at.file) else self.at

    def with_key(self, key: Position | None) -> Node:
        """Return the same node under another key."""
        return replace(self, key=key)

    def replaced(self, step: str | int, child: Node) -> Node:
        """Return a copy with one child replaced or added."""
        if self.items is not None:
            items = list(self.items)
            items[int(step)] = child
            return replace(self, items=items)
        return replace(self, mapping={**self.fields, str(step): child})

    def without(self, name: str) -> Node:
        """Return a copy without a field."""
        return replace(self, mapping={key: value for key, value in self.fields.items() if key != name})


class Refusal(Exception):
    """What is wrong with a text; `source` makes it the error of its caller."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def plain(node: Node) -> Any:
    """Return the tree as dicts, lists and scalars, nothing shared."""
    if node.mapping is not None:
        return {name: plain(child) for name, child in node.mapping.items()}
    if node.items is not None:
        return [plain(child) for child in node.items]
    return node.value


def told(node: Node) -> str:
    """Return a node as an error repeats it."""
    return show(plain(node))


def at(node: Node, place: Position) -> Node:
    """Return the tree with every place set to `place`."""
    mapping = None if node.mapping is None else {name: at(child, place) for name, child in node.mapping.items()}
    items = None if node.items is None else [at(child, place) for child in node.items]
    return replace(node, at=place, key=None if node.key is None else place, mapping=mapping, items=items)


def with_paths(node: Node, folder: Path, name: str = "") -> Node:
    """Return the tree with each text that names a file relative to the working directory, not to `folder`."""
    if node.mapping is not None:
        return replace(node, mapping={key: with_paths(child, folder, key) for key, child in node.mapping.items()})
    if node.items is not None:
        return replace(node, items=[with_paths(child, folder, name) for child in node.items])
    if isinstance(node.value, str) and node.value and folder.parts and names_file(name, node.value):
        return replace(node, value=str(folder / node.value))
    return node


def names_file(key: str, text: str) -> bool:
    """Whether the text under a key names a file: any under `file`; under `profile`, one with the ending of a file."""
    return key == "file" or (key == "profile" and text.endswith((".yaml", ".yml", ".json")))


def from_plain(data: Any, place: Position, path: str = "", depth: int = 1) -> Node:
    """Return the tree of plain data; Refusal for what YAML could not hold."""
    if depth > MAX_DEPTH:
        raise Refusal([Problem("", f"nests deeper than {MAX_DEPTH} levels", place.file)])
    if isinstance(data, Mapping):
        wrong = next((key for key in data if not isinstance(key, str)), None)
        if wrong is not None:
            raise Refusal([Problem(path, f"keys must be text; got {show(wrong)}", place.file)])
        mapping = {key: from_plain(value, place, f"{path}.{key}".strip("."), depth + 1) for key, value in data.items()}
        return Node(None, place, place, mapping=mapping)
    if isinstance(data, list | tuple):
        items = [from_plain(value, place, f"{path}.{i}".strip("."), depth + 1) for i, value in enumerate(data)]
        return Node(None, place, place, items=items)
    if isinstance(data, float) and not math.isfinite(data):
        raise Refusal([Problem(path, f"must be finite; got {data}", place.file)])
    if data is not None and not isinstance(data, str | int | float):
        raise Refusal([Problem(path, f"must be text, a number, a list or a mapping; got {show(data)}", place.file)])
    return Node(data, place, place)
