"""The reference of a schema as Markdown: every part, every field, what it may be, and its default.

Leaves out: rules that a schema cannot say; the text of each part says them.
Checked: tests/test_docs.py holds docs/scenario.md to it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_NAME_PATTERN = "^[A-Za-z]"
_SPECIAL = ("_Duration", "_NumberOfTokens", "_Number", "_Size", "_Count")
_SHOWN_DIMENSION = "_Duration"  # distributions are alike in every dimension: one of them is shown


def markdown(schema: Mapping[str, Any], root: str, title: str) -> str:
    """Return the reference of the spec called `root` in a JSON Schema as `engine.schema.json_schema` makes it."""
    parts = {name: part for name, part in schema["$defs"].items() if _is_shown(name)}
    lines = [f"# {title}", "", *_part(parts[root])]
    for name in _in_order(parts[root], parts):
        lines += ["", f"## {_heading(name)}", "", *_part(parts[name])]
    return "\n".join(lines) + "\n"


def _is_shown(name: str) -> bool:
    return not name.endswith((*_SPECIAL, ".patch")) or name.endswith(_SHOWN_DIMENSION)


def _in_order(root: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """Return the names of the parts in the order in which a reader meets them, each after what first mentions it."""
    found: list[str] = []

    def visit(part: object) -> None:
        for name in _mentions(part):
            if name in parts and name not in found:
                found.append(name)
                visit(parts[name])

    visit(root)
    return found


def _mentions(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield _shown_as(part["$ref"].rsplit("/", 1)[1])
        for key, value in part.items():
            if key != "discriminator":
                yield from _mentions(value)
    elif isinstance(part, list):
        for value in part:
            yield from _mentions(value)


def _shown_as(name: str) -> str:
    """Return the part that stands for `name`: the durations, for a distribution of any dimension."""
    for ending in _SPECIAL:
        if name.endswith(ending):
            return name.removesuffix(ending) + _SHOWN_DIMENSION
    return "Draw_Duration" if name == "CountDraw" else name


def _heading(name: str) -> str:
    plain = name.removesuffix(_SHOWN_DIMENSION).removesuffix("Spec")
    return "Distribution" if plain == "Draw" else plain


def _part(part: Mapping[str, Any]) -> list[str]:
    text = [part["description"], ""] if "description" in part else []
    for option in part.get("anyOf", []):  # a scalar, or a mapping that is described here
        part = option if "properties" in option else part
    required = set(part.get("required", []))
    rows = [_row(field, prop, field in required) for field, prop in part.get("properties", {}).items()]
    if not rows:
        return text[:1]
    return [*text, "| field | what it may be | default |", "|---|---|---|", *rows]


def _row(field: str, prop: Mapping[str, Any], required: bool) -> str:
    return f"| `{field}` | {_phrase(prop)} | {'required' if required else _default(prop)} |".replace(" |  |", " | |")


def _default(prop: Mapping[str, Any]) -> str:
    default = prop.get("default")
    if default in (None, {}, [], ""):
        return ""
    if isinstance(default, dict) and set(default) == {"constant"}:
        default = default["constant"]
    if isinstance(default, dict):
        return "see below"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _phrase(prop: Mapping[str, Any]) -> str:
    """Say what a value may be."""
    if "$ref" in prop:
        heading = _heading(_shown_as(prop["$ref"].rsplit("/", 1)[1]))
        return f"[{heading}](#{heading.lower()})"
    told = " ".join(str(prop.get("description", "")).split()).replace("|", "\\|")
    if "enum" in prop:
        return ": ".join(filter(None, [" or ".join(f"`{one}`" for one in prop["enum"]), told]))
    if told:
        return told
    if "const" in prop:
        return f"`{prop['const']}`"
    options = [one for one in [*prop.get("anyOf", []), *prop.get("oneOf", [])] if one.get("type") != "null"]
    if options:
        return " or ".join(dict.fromkeys(_phrase(one) for one in options))
    return _container(prop)


def _container(prop: Mapping[str, Any]) -> str:
    kind = prop.get("type")
    if kind == "object":
        values = next(iter(prop.get("patternProperties", {}).values()), prop.get("additionalProperties"))
        return f"a mapping of names to: {_phrase(values)}" if isinstance(values, dict) else "a mapping"
    if kind == "array":
        items: Mapping[str, Any] = prop.get("items") or next(iter(prop.get("prefixItems", [])), {})
        return f"a list of: {_phrase(items)}"
    if kind == "string":
        return "a name" if str(prop.get("pattern", "")).startswith(_NAME_PATTERN) else "text"
    return {"integer": "a whole number", "number": "a number", "boolean": "`true` or `false`"}.get(
        str(kind), "any value"
    )
