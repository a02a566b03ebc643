"""The JSON Schema of a spec, for editors.

Leaves out: what a schema cannot say, such as that a name must exist; `spec.validate` checks that.
Checked: tests/test_spec.py.
"""

import re
from typing import Any

from pydantic import BaseModel

__all__ = ["json_schema", "or_scalar"]

_REF = "#/$defs/"
_PATCH = ".patch"
# What holds for a whole mapping, and not for what changes a part of one.
_WHOLE = ("required", "minProperties", "oneOf", "discriminator", "properties", "patternProperties", "default")


def json_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `cls`, with definitions named as people would: `Draw_Duration`.

    With `may_extend`, a file of `cls` that has `extends` is a patch: nothing is required, and null deletes.
    """
    schema = cls.model_json_schema(by_alias=True)
    if getattr(cls, "may_extend", False):
        schema = _extendable(schema, cls.__name__)
    definitions = schema.get("$defs", {})
    names: dict[str, str] = {}
    for known, definition in definitions.items():
        if known.endswith(_PATCH):  # comes after what it patches
            names[known] = names[known.removesuffix(_PATCH)] + _PATCH
            continue
        name = re.sub(r"\W+", "_", str(definition.get("title", known))).strip("_")
        names[known] = name if name not in names.values() else known
    renamed = _renamed({key: value for key, value in schema.items() if key != "$defs"}, names)
    if definitions:
        every = {names[known]: _renamed(value, names) for known, value in sorted(definitions.items())}
        used = _used(renamed, every)
        renamed["$defs"] = {name: value for name, value in every.items() if name in used}
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


def _used(schema: Any, definitions: dict[str, Any]) -> set[str]:
    """Return the names of the definitions that a schema refers to, and those that these refer to."""
    used: set[str] = set()
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix(_REF)
            if name in definitions and name not in used:
                used.add(name)
                pending.append(definitions[name])
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return used


def or_scalar(mapping: dict[str, Any], scalar: dict[str, Any]) -> None:
    """Let a schema of a mapping, in place, also accept what may be written instead of it."""
    kept = dict(mapping)
    mapping.clear()
    mapping |= {"title": kept["title"], "anyOf": [scalar, kept]}


def _extendable(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of a file that is either whole or a patch of the files that it extends."""
    definitions = {**schema.get("$defs", {}), name: {key: value for key, value in schema.items() if key != "$defs"}}
    patches = {f"{known}{_PATCH}": _patch(definition) for known, definition in definitions.items()}
    file = {"type": "string", "examples": ["base.yaml"]}
    bases = {"description": "The files that this one changes", "anyOf": [file, {"type": "array", "items": file}]}
    patches[f"{name}{_PATCH}"]["properties"]["extends"] = bases
    return {
        "title": schema["title"],
        "description": schema.get("description", ""),
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"{_REF}{name}{_PATCH}"},
        "else": {"$ref": f"{_REF}{name}"},
        "$defs": definitions | patches,
    }


def _patch(part: Any, key: str = "") -> Any:
    """Return the schema of what may change a value: parts of mappings, or null; a list is replaced whole."""
    if key in ("items", "prefixItems") or not isinstance(part, dict | list):
        return part
    if isinstance(part, list):
        return [_patch(value) for value in part]
    if "$ref" in part:
        return {**part, "$ref": part["$ref"] + _PATCH}
    changed = {name: _patch(value, name) for name, value in part.items() if name not in _WHOLE}
    if "oneOf" in part and not all(option.keys() == {"required"} for option in part["oneOf"]):
        changed["anyOf"] = [_patch(option) for option in part["oneOf"]]
    for fields in ("properties", "patternProperties"):
        if fields in part:
            changed[fields] = {name: _or_null(_patch(value)) for name, value in part[fields].items()}
    if isinstance(part.get("additionalProperties"), dict):
        changed["additionalProperties"] = _or_null(_patch(part["additionalProperties"]))
    return changed


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also accepts null, which deletes."""
    return {"anyOf": [schema, {"type": "null"}]}
