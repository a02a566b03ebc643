"""A check of data against a JSON Schema, for the keywords that ours use; an unknown keyword raises, so none goes unseen.

It stands in for the jsonschema package, which nothing else here needs.
"""

import re
from collections.abc import Callable
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: not isinstance(value, bool) and isinstance(value, int | float) and value == int(value),
    "number": lambda value: not isinstance(value, bool) and isinstance(value, int | float),
}
_NOTES = {"$schema", "$defs", "title", "description", "default", "examples", "discriminator"}


class Checker:
    """Checks data against `schema`, whose references lead into its own `$defs`."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.root = schema

    def accepts(self, value: Any, schema: Any = None) -> bool:
        """Whether `value` is valid."""
        schema = self.root if schema is None else schema
        if isinstance(schema, bool):
            return schema
        return all(self._keeps(value, word, rule, schema) for word, rule in schema.items() if word not in _NOTES)

    def definitions(self) -> set[str]:
        """Return what is referred to, and raise KeyError for a reference that leads nowhere."""
        found = set(_references(self.root))
        for reference in found:
            self._at(reference)
        return found

    def _at(self, reference: str) -> Any:
        assert reference.startswith("#/$defs/")
        return self.root["$defs"][reference.removeprefix("#/$defs/")]

    def _keeps(self, value: Any, word: str, rule: Any, schema: dict[str, Any]) -> bool:
        """Whether `value` keeps one rule of a schema; `then`, `else` and the like are looked at with their partners."""
        if word in ("then", "else"):
            return True
        if word == "if":
            branch = schema.get("then" if self.accepts(value, rule) else "else", True)
            return self.accepts(value, branch)
        if word in ("anyOf", "oneOf"):
            count = sum(self.accepts(value, option) for option in rule)
            return count == 1 if word == "oneOf" else count > 0
        if word == "$ref":
            return self.accepts(value, self._at(rule))
        if word == "type":
            return any(_TYPES[name](value) for name in ([rule] if isinstance(rule, str) else rule))
        if word in ("enum", "const"):
            return value in (rule if word == "enum" else [rule])
        if isinstance(value, dict) and word in _OF_OBJECTS:
            return self._keeps_of_object(value, word, rule, schema)
        if isinstance(value, list) and word in _OF_ARRAYS:
            return self._keeps_of_array(value, word, rule, schema)
        return _keeps_of_scalar(value, word, rule)

    def _keeps_of_object(self, value: dict[str, Any], word: str, rule: Any, schema: dict[str, Any]) -> bool:
        if word == "required":
            return all(name in value for name in rule)
        if word == "minProperties":
            return len(value) >= int(rule)
        if word == "properties":
            return all(self.accepts(value[name], part) for name, part in rule.items() if name in value)
        patterns = schema.get("patternProperties", {})
        if word == "patternProperties":
            pairs = [(item, part) for name, item in value.items() for key, part in rule.items() if re.search(key, name)]
            return all(self.accepts(item, part) for item, part in pairs)
        others = [name for name in value if name not in schema.get("properties", {})]
        others = [name for name in others if not any(re.search(pattern, name) for pattern in patterns)]
        return all(self.accepts(value[name], rule) for name in others)

    def _keeps_of_array(self, value: list[Any], word: str, rule: Any, schema: dict[str, Any]) -> bool:
        if word in ("minItems", "maxItems"):
            return len(value) >= int(rule) if word == "minItems" else len(value) <= int(rule)
        first = len(schema.get("prefixItems", ()))
        if word == "prefixItems":
            return all(self.accepts(item, part) for item, part in zip(value, rule, strict=False))
        return all(self.accepts(item, rule) for item in value[first:])


_OF_OBJECTS = {"required", "minProperties", "properties", "patternProperties", "additionalProperties"}
_OF_ARRAYS = {"minItems", "maxItems", "prefixItems", "items"}
_OF_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}


def _keeps_of_scalar(value: Any, word: str, rule: Any) -> bool:
    if word == "pattern":
        return not isinstance(value, str) or re.search(rule, value) is not None
    if word in _OF_NUMBERS:
        return not _TYPES["number"](value) or _OF_NUMBERS[word](value, rule)
    assert word in _OF_OBJECTS | _OF_ARRAYS, f"unknown keyword `{word}`"
    return True


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in _references(value)]
    return [found for value in part for found in _references(value)] if isinstance(part, list) else []
