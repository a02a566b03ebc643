"""Paths such as `models.llm.replicas`, which overrides, factors and reports speak.

A list item is `links.0.latency` or `links[0].latency`. A name that holds a dot is found when the data has it.
Leaves out: wildcards and creating the parents of a value.
Checked: tests/test_paths.py.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from .errors import Problem, ScenarioError, did_you_mean, show

__all__ = ["Key", "dotted", "get", "parse_path", "replace", "resolve"]

Key = str | int
_PATH = re.compile(r"[^.\[\]]+(?:\[[0-9]+\])*(?:\.[^.\[\]]+(?:\[[0-9]+\])*)*")
_STEP = re.compile(r"[^.\[\]]+")


def parse_path(path: str | Sequence[Key]) -> tuple[Key, ...]:
    """Return the steps of a path: `links[0].latency` is ('links', 0, 'latency').

    Raises ScenarioError for an empty path, an empty step, or brackets that do not hold a number.
    """
    if not isinstance(path, str):
        return tuple(path)
    text = path.strip()
    if not _PATH.fullmatch(text):
        raise _error(path, "", "must be names joined by dots, such as `models.llm.replicas` or `links[0].latency`")
    return tuple(int(step) if _is_index(step) else step.strip() for step in _STEP.findall(text))


def _is_index(step: str) -> bool:
    """Whether a step is the number of a list item."""
    return step.isascii() and step.isdigit() and len(step) < 10


def dotted(path: Sequence[Key]) -> str:
    """Return the text of a path, in which list items are numbers between dots."""
    return ".".join(str(step) for step in path)


def get(data: Any, path: str | Sequence[Key]) -> Any:
    """Return the value at `path`; ScenarioError with the nearest name when there is none."""
    steps = resolve(data, path)
    return _child(_walk(data, steps[:-1]), steps[-1], steps, len(steps) - 1, path)


def replace(data: dict[str, Any], path: str | Sequence[Key], value: Any) -> dict[str, Any]:
    """Return a deep copy of `data` with `value` at `path`; the parents must exist, the last field need not."""
    steps = resolve(data, path)
    changed = copy.deepcopy(data)
    _walk(changed, steps[:-1])[steps[-1]] = copy.deepcopy(value)
    return changed


def resolve(data: Any, path: str | Sequence[Key], subject: str = "") -> tuple[Key, ...]:
    """Return the steps of `path` as they are in `data`: numbers for list items, names with dots in one piece.

    Every parent must exist; the last step may be a new field of a mapping, but not a new item of a list.
    """
    wanted = parse_path(path)
    if not wanted:
        raise _error(path, "", "names no field", subject)
    steps: list[Key] = []
    place, position = data, 0
    while position < len(wanted):
        step, taken = _longest(place, wanted[position:])
        position += taken
        steps.append(step)
        if position < len(wanted) or _is_list(place):
            place = _child(place, step, steps, len(steps) - 1, path, subject)
        elif not isinstance(place, dict):
            raise _no_parent(place, steps, path, subject)
    return tuple(steps)


def _longest(place: Any, wanted: Sequence[Key]) -> tuple[Key, int]:
    """Return the first step and how many of the wanted ones it takes: a name may hold dots."""
    first = wanted[0]
    if not isinstance(place, dict):
        return first, 1
    for taken in range(len(wanted), 0, -1):
        name = dotted(wanted[:taken])
        if name in place:
            return name, taken
    return str(first), 1


def _is_list(place: Any) -> TypeGuard[list[Any]]:
    return isinstance(place, list)


def _walk(place: Any, steps: Sequence[Key]) -> Any:
    """Return what is at steps that are known to exist."""
    for step in steps:
        place = place[step]
    return place


def _child(place: Any, step: Key, steps: Sequence[Key], at: int, path: object, subject: str = "") -> Any:
    """Return the child named `step`, which must exist."""
    where = dotted(steps[: at + 1])
    if isinstance(place, dict):
        if step in place:
            return place[step]
        raise _error(path, where, f"no such field{did_you_mean(step, place) or _fields(place)}", subject)
    if _is_list(place):
        if isinstance(step, int) and step < len(place):
            return place[step]
        items = f"has {len(place)} item{'' if len(place) == 1 else 's'}"
        raise _error(path, where, f"no such item; `{dotted(steps[:at])}` {items}, numbered from 0", subject)
    raise _no_parent(place, steps, path, subject)


def _fields(place: dict[str, Any]) -> str:
    """Return '; the fields here are `a`, `b`', at most a dozen."""
    names = [f"`{name}`" for name in list(place)[:12]]
    return f"; the fields here are {', '.join(names)}" if names else "; there are no fields here"


def _no_parent(place: Any, steps: Sequence[Key], path: object, subject: str) -> ScenarioError:
    """Return the error for a step below a value that has no fields."""
    parent = dotted(steps[:-1])
    return _error(path, dotted(steps), f"`{parent}` is {show(place)}, which has no fields", subject)


def _error(path: object, where: str, message: str, subject: str = "") -> ScenarioError:
    """Return a mistake in a path."""
    shown = path if isinstance(path, str) else dotted(path) if isinstance(path, tuple | list) else str(path)
    return ScenarioError([Problem(where, message)], subject or f"the path `{shown}`")
