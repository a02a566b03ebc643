"""Attributes as OTLP/JSON writes them: lists of keys and values of several kinds, each named, and lists and maps within.

Leaves out: what they mean (`genai`).
Checked: tests/test_trace_otlp.py.
Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding (AnyValue, KeyValue).
"""

from __future__ import annotations

import base64
from typing import Any

from ..tally import Tally
from .genai import Nested, size

__all__ = ["attributes_of"]

DEEPEST = 8
"""Values within values that are undone."""


def attributes_of(listed: Any, tally: Tally | None = None) -> dict[str, Any]:
    """Attributes as a mapping from name to value; they come as a list of keys and values, or, printed by an SDK, as an object."""
    if isinstance(listed, dict):
        return listed
    if not isinstance(listed, list):
        return {}
    found: dict[str, Any] = {}
    for one in listed:
        try:
            name, wrapped = one["key"], one["value"]
            ((kind, value),) = wrapped.items()
            if not isinstance(name, str):
                raise TypeError("a name that is none")
            found[name] = value if kind == "stringValue" else _scalar(kind, value)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            if tally is not None and one != {} and not _empty(one):
                tally.note("noted", "attributes that could not be read, left out")
    return found


def _empty(one: Any) -> bool:
    """Whether it is an attribute without a value, which is allowed."""
    return isinstance(one, dict) and isinstance(one.get("key"), str) and one.get("value") in (None, {})


def _scalar(kind: str, value: Any) -> Any:
    """A value of OTLP's AnyValue. Raises ValueError or TypeError where it is not of its kind."""
    kind = kind.replace("_v", "V")
    if kind in {"stringValue", "boolValue"}:
        return value
    if kind == "intValue":
        return int(value) if not isinstance(value, str) or len(value) <= 20 else None
    if kind == "doubleValue":
        return float(value)
    if kind == "bytesValue":
        return base64.b64decode(value)
    if kind in ("arrayValue", "kvlistValue"):
        return _Json({kind: value})
    raise ValueError("no kind of value")


class _Json(Nested):
    """A list or a map of OTLP/JSON. What is damaged in it counts nothing."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def bytes(self) -> int:
        """How many bytes its scalars and keys are, however deep it is."""
        total = 0
        left: list[Any] = [self.raw]
        while left:
            one = left.pop()
            if not isinstance(one, dict):
                continue
            for kind, value in one.items():
                if isinstance(value, dict) and isinstance(value.get("values"), list):
                    for item in value["values"]:
                        if kind.startswith("kvlist") and isinstance(item, dict):
                            total += size(item.get("key"))
                            item = item.get("value")  # noqa: PLW2901 - the value of the pair
                        left.append(item)
                else:
                    total += _measured(kind, value)
        return total

    def plain(self) -> Any:
        """The value as lists, dicts and scalars; None where it is deeper than any stamp."""
        return _plain(self.raw, 0)


def _measured(kind: str, value: Any) -> int:
    try:
        found = _scalar(kind, value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return 0 if isinstance(found, Nested) else size(found)


def _plain(raw: Any, depth: int) -> Any:
    if not isinstance(raw, dict) or depth > DEEPEST:
        return None
    for kind, value in raw.items():
        values = value.get("values") if isinstance(value, dict) else None
        items = [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []
        if kind in ("arrayValue", "array_value"):
            return [_plain(item, depth + 1) for item in items]
        if kind in ("kvlistValue", "kvlist_value"):
            return {
                item["key"]: _plain(item.get("value"), depth + 1) for item in items if isinstance(item.get("key"), str)
            }
        try:
            return _scalar(kind, value)
        except (TypeError, ValueError, OverflowError):
            return None
    return None
