"""Values as trace files write them, made plain: times, numbers, flags and sizes.

Leaves out: which field holds what (the modules of the formats).
Checked: tests/test_trace_steps.py.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ..private import is_named, safe_error

__all__ = [
    "error_in",
    "error_type",
    "first",
    "flag",
    "iso_nanoseconds",
    "mapping",
    "nanoseconds",
    "number",
    "objects",
    "text",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FRACTION = re.compile(r"[.,](\d+)")
_MOST = 1e18
"""No count is as large."""
LONGEST = 400
"""Letters of a text that are kept: ids, which are never cut further, may be longer than names (`names.normalised`)."""


def nanoseconds(value: Any) -> int | None:
    """Return a point in time as whole ns since 1970, None where it is none: a date (UTC unless it says), or a number since 1970.

    A number is in seconds, milliseconds, microseconds or nanoseconds: whichever makes it a year between 1973 and 5138.
    """
    if isinstance(value, datetime):
        return _of_date(value)
    if isinstance(value, str):
        return _of_text(value.strip())
    amount = value if isinstance(value, int) and not isinstance(value, bool) else number(value)
    if amount is None or abs(amount) > 1e20:
        return None
    size = abs(amount)
    factor = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
    return amount * factor if isinstance(amount, int) else round(amount * factor)


def _of_text(value: str) -> int | None:
    amount = number(value)
    if amount is None or (
        len(value) == 8 and value.isdigit()
    ):  # eight digits are a date, any other number counts since 1970
        return iso_nanoseconds(value)
    return nanoseconds(int(value) if value.isdigit() and len(value) < 20 else amount)


def iso_nanoseconds(said: str) -> int | None:
    """Return a date and time of ISO 8601 as ns since 1970, UTC where it names no zone; None where it is none."""
    fraction = _FRACTION.search(said)
    whole = said if fraction is None else said[: fraction.start()] + said[fraction.end() :]
    try:
        found = _of_date(datetime.fromisoformat(whole.removesuffix(" UTC")))
    except ValueError:
        return None
    return found if found is None or fraction is None else found + int((fraction.group(1) + "0" * 9)[:9])


def _of_date(value: datetime) -> int | None:
    """Return whole ns, those of pandas too. A date without a zone is in UTC."""
    try:
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _MICROSECOND * 1000 + int(getattr(value, "nanosecond", 0))
    except (OverflowError, ValueError, TypeError):
        return None  # not a time, as pandas has it


def number(value: Any) -> float | None:
    """Return a finite number, None where there is none; words and flags are none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str) and (len(value) > 64 or "_" in value):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def first(*values: Any) -> float | None:
    """Return the first of the values that is a count, whether written as a number or as text: zero or more, and less than 1e18."""
    for value in values:
        found = number(value)
        if found is not None and 0 <= found < _MOST:
            return found
    return None


def flag(value: Any) -> bool:
    """Return whether a flag is set: true, a number but zero, or a word for it."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "t", "yes", "y", "1", "1.0", "error", "failed")
    return bool(number(value)) if not isinstance(value, bool) else value


def text(value: Any) -> str:
    """Return a name: one line, not too long; '' for what is no name."""
    if type(value) is str and len(value) <= LONGEST and value.isprintable():
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return " ".join(str(value)[: LONGEST * 2].split())[:LONGEST]


def mapping(value: Any) -> dict[str, Any]:
    """Return an object with fields, also one that is written as JSON in a string; empty for what is none."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value[:1] == "{":
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
    return {}


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects with fields in a list, also one that is written as JSON in a string; none for what is no list."""
    if isinstance(value, str) and value[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


_FINE_WORDS = (
    "ok success succeeded completed complete done finished none null nan false unset 0 0.0 no passed default info debug"
)
_FINE = frozenset(_FINE_WORDS.split())


def error_type(value: Any) -> str:
    """Return the type of an error from a field that holds types or codes; '' for none, `error` where what it holds is a sentence."""
    if isinstance(value, dict):
        value = next(
            (value[key] for key in ("type", "code", "name", "class") if isinstance(value.get(key), str) and value[key]),
            "error",
        )
    if isinstance(value, list | bool):
        return "error" if value else ""
    said = text(value)
    if not said or said.lower() in _FINE or (said.isdigit() and said.startswith("2") and len(said) == 3):
        return ""
    return safe_error(said)


def error_in(message: Any) -> str:
    """Return the type that a message of an error begins with, as `ValueError: x`; else `error`, since a message is a content; '' for none."""
    said = text(message)
    if not said or said.lower() in _FINE:
        return "error" if message and not said else ""
    found = safe_error(re.split(r"[:(\s]", said, maxsplit=1)[0])
    return found if is_named(found) else "error"
