"""The errors a user or a developer can meet.

A user's mistakes come together in one `InputError`: where, what, the rule, what was got, the remedy.
Leaves out: printing, exit codes and colours; the command line does those.
Checked: tests/test_source.py and tests/test_spec.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "ConservationError",
    "CoordsimError",
    "InputError",
    "Problem",
    "ProfileError",
    "ScenarioError",
    "TraceError",
    "did_you_mean",
    "listed",
    "nearest",
    "show",
]

_SHOWN = 60  # characters of a value that an error repeats
_LINE = 90  # characters of a source line that an error repeats
_LISTED = 20  # mistakes that a report lists: who made more has made them all in one way


class CoordsimError(Exception):
    """Base of every error that coordsim raises on purpose."""


class ConservationError(CoordsimError):
    """The law of the ledger is broken: our mistake, never the user's. Names the task and the span."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `line` and `column` count from 1, and 0 means not known; `path` is '' for a whole file."""

    path: str
    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    source: str = ""

    def position(self, subject: str) -> str:
        """Return `14:7`, with the file before it when that is not the `subject` of the report."""
        place = f"{self.line}:{self.column}" if self.line and self.column else str(self.line or "")
        if not self.file or self.file == subject:
            return place
        return f"{self.file}:{place}" if place else self.file


class InputError(CoordsimError):
    """All the mistakes found in one input."""

    def __init__(self, problems: Iterable[Problem], subject: str = "") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.subject: str = subject or next((p.file for p in self.problems if p.file), "the input")
        # The arguments are kept as given, so that the error survives pickling between processes.
        super().__init__(self.problems, self.subject)

    def __str__(self) -> str:
        """Return the report: a headline, a line for each mistake, and below those of one line that line itself."""
        count, listed = len(self.problems), self.problems[:_LISTED]
        lines = [f"{self.subject} has {count} mistake{'' if count == 1 else 's'}"]
        positions = [problem.position(self.subject) for problem in listed]
        sources = [_excerpt(problem.source, problem.column) for problem in listed]
        width = max((len(position) for position in positions), default=0)
        for place, problem in enumerate(listed):
            start = f"  {positions[place]:<{width}}  " if width else "  "
            lines.append(start + (f"{problem.path}: {problem.message}" if problem.path else problem.message))
            below = listed[place + 1] if place + 1 < len(listed) else None
            is_last = below is None or (below.file, below.line) != (problem.file, problem.line)
            if sources[place] and (is_last or sources[place + 1] != sources[place]):
                lines.append(f"{'':<{len(start)}}| {sources[place]}")
        if count > _LISTED:
            lines.append(f"  and {count - _LISTED} more")
        return "\n".join(lines)


class ScenarioError(InputError):
    """A scenario that cannot be read, or that describes no possible system."""


class ProfileError(InputError):
    """A profile that cannot be read, or whose numbers cannot be laws."""


class TraceError(InputError):
    """A trace that cannot be read."""


def nearest(word: object, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` was most likely meant to be, letter case aside; None if nothing is near."""
    given = str(word)
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    found = difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found and by_lower[found[0]] != given else None


def did_you_mean(word: object, choices: Iterable[str]) -> str:
    """Return '; did you mean `capacity`?', or '' when nothing is near."""
    choice = nearest(word, choices)
    return f"; did you mean `{choice}`?" if choice is not None else ""


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return '`a`, `b`, `c`', shortened when there are many."""
    given = list(names)
    shown = ", ".join(f"`{name}`" for name in given[:most])
    return f"{shown} and {len(given) - most} more" if len(given) > most else shown


def shorten(text: str, limit: int = _SHOWN) -> str:
    """Return `text` in at most `limit` characters, on one line, without control characters."""
    clean = "".join(char if char.isprintable() else "\ufffd" for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _excerpt(line: str, column: int) -> str:
    """Return a source line without its indentation; of a long one the part around `column`."""
    text = line.strip()
    at = column - 1 - (len(line) - len(line.lstrip()))
    if len(text) > _LINE and at > _LINE * 2 // 3:
        start = min(at - _LINE // 2, len(text) - _LINE)
        text = "…" + text[start + 1 :]
    return shorten(text, _LINE)


def show(value: object) -> str:
    """Return a value as an error repeats it: the way YAML would write it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 200 else "a whole number of more than 60 digits"
    if isinstance(value, str):
        number_like = value[:1] in "+-.$" or value[:1].isdigit()
        return shorten(value) if value.strip() and number_like else f"'{shorten(value)}'"
    return shorten(str(value))
