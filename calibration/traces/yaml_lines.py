"""YAML for people: entries with a comment at the end of their line, flow collections folded where a line would be too long.

Leaves out: what is written (`scenario`).
Checked: tests/test_trace_scenario.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Entry", "Flow", "comment_lines", "lines"]

WIDTH = 116
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*|[0-9.]+ %")
_WORDS = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n"])

Flow: TypeAlias = "str | Mapping[str, Flow] | Sequence[Flow]"
"""A value in one piece, such as `{mean: 1, cv: 0.3}`; texts are written as they are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`key: value  # comment`; in place of the value there may be entries `below`, or `items`, one a line."""

    key: str
    value: Flow = ""
    comment: str = ""
    below: tuple[Entry, ...] = ()
    items: tuple[Flow, ...] = ()


def lines(entries: Sequence[Entry], indent: int = 0) -> Iterator[str]:
    """Yield the lines of a block of entries."""
    for one in entries:
        yield from _entry(one, indent)


def comment_lines(comment: str, indent: int = 0, hang: str = "") -> Iterator[str]:
    """Yield a comment in lines; all but the first begin with `hang`."""
    start = f"{' ' * indent}# "
    line, empty = start, start
    for word in comment.split():
        if line != empty and len(line) + len(word) > WIDTH:
            yield line.rstrip()
            line = empty = start + hang
        line += word + " "
    yield line.rstrip()


def _entry(one: Entry, indent: int) -> Iterator[str]:
    start = f"{' ' * indent}{_key(one.key)}:"
    if one.below or one.items:
        yield from _commented(start, one.comment, indent)
        yield from lines(one.below, indent + 2)
        for item in one.items:
            yield from _folded(f"{' ' * (indent + 2)}- {_flow(item)}", indent + 5)
        return
    text = f"{start} {_flow(one.value)}"
    *first, last = _folded(text, indent + 3) if len(text) > WIDTH else (text,)
    if first and len(last) + len(one.comment) > WIDTH:
        yield from comment_lines(one.comment, indent)
        yield from (*first, last)
        return
    yield from first
    yield from _commented(last, one.comment, indent)


def _commented(text: str, comment: str, indent: int) -> Iterator[str]:
    """Yield a line with its comment behind it, or where that is too long above it."""
    if not comment:
        yield text
    elif len(text) + len(comment) + 4 <= WIDTH + 4:
        yield f"{text}  # {comment}"
    else:
        yield from comment_lines(comment, indent)
        yield text


def _folded(text: str, indent: int) -> Iterator[str]:
    """Yield a flow collection in lines, broken behind commas."""
    while len(text) > WIDTH:
        at = text.rfind(", ", indent, WIDTH)
        if at < 0:
            break
        yield text[: at + 1]
        text = " " * indent + text[at + 2 :]
    yield text


def _flow(value: Flow) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)}: {_flow(one)}" for name, one in value.items()) + "}"
    return "[" + ", ".join(_flow(one) for one in value) + "]"


def _key(text: str) -> str:
    """Return a key, in quotes where YAML would read something else."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)
