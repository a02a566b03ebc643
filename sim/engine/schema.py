"""The JSON Schema of a spec, for editors.

Leaves out: what a schema cannot say, such as that a name must exist; `spec.validate` checks that.
Checked: tests/test_spec.py.
"""

import re
from typing import Any

from pydantic import BaseModel

__all__ = ["json_schema"]

_REF = "#/$defs/"


def json_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `cls`, with definitions named as people would: `Draw_Duration`."""
    schema = cls.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    names: dict[str, str] = {}
    for known, definition in definitions.items():
        name = re.sub(r"\W+", "_", str(definition.get("title", known))).strip("_")
        names[known] = name if name not in names.values() else known
    renamed = _renamed({key: value for key, value in schema.items() if key != "$defs"}, names)
    if definitions:
        renamed["$defs"] = {names[known]: _renamed(value, names) for known, value in sorted(definitions.items())}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **renamed}


def _renamed(part: Any, names: dict[str, str]) -> Any:
    """Return a part of a schema with every reference to a definition under its new name."""
    if isinstance(part, dict):
        return {key: _renamed(value, names) for key, value in part.items()}
    if isinstance(part, list):
        return [_renamed(value, names) for value in part]
    if isinstance(part, str) and part.startswith(_REF):
        return _REF + names.get(part.removeprefix(_REF), part.removeprefix(_REF))
    return part
