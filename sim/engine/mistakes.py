"""From pydantic's errors to mistakes in our words, at paths of the YAML.

pydantic's location of an error holds names of union members, tags and models between the keys of the YAML. They are
told apart by walking the annotations of the specs beside the data.
Leaves out: positions in files, which `spec.validate` adds from the document.
Checked: tests/test_spec.py.
"""

import enum
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from .errors import did_you_mean, listed, nearest, show
from .paths import Key, parse_path

__all__ = ["Mistake", "SpecProblem", "SpecProblems", "bare", "member_of", "members_of", "mistakes"]

_MISSING = "required field is missing"
_LISTS = (list, tuple, set, frozenset, Sequence)
_YES_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


class SpecProblem(ValueError):
    """A mistake that a validator found: `path` is relative to the spec whose validator raises.

    With `at_key` the key at the path is at fault, and not its value.
    """

    def __init__(self, path: str | Sequence[Key], message: str, at_key: bool = False) -> None:
        self.path: tuple[Key, ...] = parse_path(path) if path else ()
        self.message = message
        self.at_key = at_key
        super().__init__(self.path, message)

    def __str__(self) -> str:
        """Return the message alone."""
        return self.message


class SpecProblems(ValueError):
    """Several mistakes that one validator found."""

    def __init__(self, problems: Iterable[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """Return the messages."""
        return "; ".join(problem.message for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a path of the YAML; `at_key` when the key is wrong (or missing) and not the value."""

    path: tuple[Key, ...]
    message: str
    at_key: bool = False
    meant: str | None = None  # the field that a misspelt key was meant to be


@dataclass(slots=True)
class _Place:
    """Where a location of pydantic leads: the path in the YAML, and the annotation and the value found there."""

    path: tuple[Key, ...]
    annotation: Any
    value: Any
    owner: type[BaseModel] | None = None  # the spec that has, or should have, the last step as a field
    is_key: bool = False
    branches: tuple[tuple[tuple[Key, ...], str, Any, Any], ...] = ()  # unions passed: path, tag, member, value


def mistakes(cls: type[BaseModel], error: ValidationError, data: Any) -> list[Mistake]:
    """Return every mistake in `data`, which `cls` refused with `error`."""
    found = []
    for details in error.errors(include_url=False):
        place = _walk(cls, details["loc"], data)
        found.append((place, _told(dict(details), place)))
    return _without_misspelt(_of_likely_branches(found))


def _without_misspelt(found: list[Mistake]) -> list[Mistake]:
    """Return the mistakes without the fields that are missing because they are misspelt beside."""
    meant = {(*mistake.path[:-1], mistake.meant) for mistake in found if mistake.meant}
    return [mistake for mistake in found if not (mistake.message.startswith(_MISSING) and mistake.path in meant)]


def _walk(cls: type[BaseModel], loc: tuple[Key, ...], data: Any) -> _Place:
    """Follow pydantic's location through annotations and data."""
    place = _Place((), cls, data)
    for step in loc:
        place.annotation = bare(place.annotation)
        if step == "[key]":
            place.is_key = True
        elif len(members := members_of(place.annotation)) > 1:
            member = member_of(members, step)
            place.branches += ((place.path, str(step), member, place.value),)
            place.annotation = member
        else:
            _descend(place, step)
    place.annotation = bare(place.annotation)
    return place


def _descend(place: _Place, step: Key) -> None:
    """Move `place` to the field or item `step`; a step that is nowhere in the YAML stays out of the path."""
    kind, arguments = get_origin(place.annotation) or place.annotation, get_args(place.annotation)
    place.owner = None
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        place.owner = kind
        annotation = _field_annotation(kind, step)
    elif isinstance(step, int):
        annotation = _item_annotation(kind, arguments, step)
    elif isinstance(kind, type) and issubclass(kind, Mapping) and len(arguments) == 2:
        annotation = arguments[1]
    elif not (isinstance(place.value, Mapping) and step in place.value):
        return
    else:
        annotation = Any
    place.annotation = annotation
    # Where a spec lets a bare value stand for a mapping, the mapping's field is not in the YAML: the value is at fault.
    if isinstance(place.value, Mapping | list | tuple):
        place.path = (*place.path, step)
        place.value = _child(place.value, step)


def _child(value: Any, step: Key) -> Any:
    """Return the value below, or None."""
    if isinstance(value, Mapping):
        return value.get(step)
    return value[step] if isinstance(value, list | tuple) and isinstance(step, int) and step < len(value) else None


def _field_annotation(model: type[BaseModel], step: Key) -> Any:
    """Return the annotation of the field that YAML calls `step`; Any when there is none."""
    for name, info in model.model_fields.items():
        if step in (name, info.alias, info.validation_alias):
            return info.annotation
    return Any


def _item_annotation(kind: Any, arguments: tuple[Any, ...], step: int) -> Any:
    """Return the annotation of a list item."""
    if not arguments:
        return Any
    fixed = kind is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis)
    return arguments[step] if fixed and step < len(arguments) else arguments[0]


def bare(annotation: Any) -> Any:
    """Return an annotation without Annotated, without a type alias and without `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif len(members := members_of(annotation)) == 1 and members[0] is not annotation:
            annotation = members[0]
        else:
            return annotation


def members_of(annotation: Any) -> list[Any]:
    """Return the members of a union but None; the annotation alone when it is no union."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for member in get_args(annotation) if member is not type(None)]
    return [annotation]


def member_of(members: list[Any], tag: Key) -> Any:
    """Return the member of a union that pydantic calls `tag`: a model's name, the value of `kind`, or `list[str]`."""
    for member in members:
        plain = bare(member)
        names = [part.tag for part in get_args(member)[1:] if isinstance(part, Tag)]
        if get_origin(plain) is Literal and str(tag).startswith("literal["):
            return member
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            names += [plain.__name__, *_literals_of(plain)]
            if tag in names or f" {plain.__name__}]" in str(tag):
                return member
        elif tag in names or str(tag).startswith(f"{getattr(get_origin(plain), '__name__', None)}["):
            return member
    return Any


def _literals_of(model: type[BaseModel]) -> list[Any]:
    """Return the values of a model's Literal fields, of which `kind` is one."""
    annotations = [bare(info.annotation) for info in model.model_fields.values()]
    return [value for found in annotations if get_origin(found) is Literal for value in get_args(found)]


def _told(details: dict[str, Any], place: _Place) -> list[Mistake]:
    """Return one error of pydantic in our words."""
    kind, given = details["type"], details.get("input")
    context: dict[str, Any] = details.get("ctx") or {}
    cause = context.get("error")
    if isinstance(cause, SpecProblems):
        return [Mistake((*place.path, *one.path), one.message, one.at_key) for one in cause.problems]
    if isinstance(cause, SpecProblem):
        return [Mistake((*place.path, *cause.path), cause.message, cause.at_key)]
    if cause is not None:
        return [Mistake(place.path, str(cause), place.is_key)]
    if kind == "missing":
        return [Mistake(place.path, f"{_MISSING}{_example(place)}", at_key=True)]
    if kind == "extra_forbidden":
        return [_no_such_field(place)]
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return [_wrong_kind(context, place)]
    if kind in ("literal_error", "enum"):
        return [Mistake(place.path, _choice(place, given), place.is_key)]
    counted = kind in ("too_short", "too_long") and context.get("actual_length")
    message = f"{_rule(kind, context, place)}; got {counted or show(given)}{_remedy(kind, given)}"
    return [Mistake(place.path, message, place.is_key)]


def _example(place: _Place) -> str:
    """Return '; write `seed: 1`' for a missing field that has an example, or ''."""
    info = place.owner.model_fields.get(str(place.path[-1])) if place.owner and place.path else None
    return f"; write `{place.path[-1]}: {info.examples[0]}`" if info and info.examples else ""


def _no_such_field(place: _Place) -> Mistake:
    """Return what is wrong with an unknown key, with the one that was meant or all that are allowed."""
    owner, name = place.owner, place.path[-1]
    names = [info.alias or name for name, info in owner.model_fields.items()] if owner else []
    hint = did_you_mean(name, names)
    if getattr(owner, "is_one_of", False):
        message = f"no such choice among {listed(names)}{hint}"
    elif hint or not names:
        message = f"no such field{hint or ('; there are no fields here' if owner else '')}"
    else:
        message = f"no such field; the fields here are {listed(names)}"
    return Mistake(place.path, message, at_key=True, meant=nearest(name, names))


def _wrong_kind(context: dict[str, Any], place: _Place) -> Mistake:
    """Return the mistake of a missing or unknown `kind`."""
    discriminator = str(context.get("discriminator", "")).strip("'")
    tags = [tag for member in members_of(place.annotation) for tag in _tags(bare(member), discriminator)]
    path = (*place.path, discriminator) if discriminator.isidentifier() else place.path
    if "tag" in context:
        given = context["tag"]
        meant = did_you_mean(given, tags)
        return Mistake(path, f"must be one of {listed(tags)}; got {show(given)}{meant}")
    return Mistake(path, f"required field is missing: one of {listed(tags)}", at_key=True)


def _tags(member: Any, discriminator: str) -> list[str]:
    """Return the values that `kind` may have in one member of a union."""
    info = getattr(member, "model_fields", {}).get(discriminator)
    return [str(value) for value in get_args(bare(info.annotation))] if info else []


def _choice(place: _Place, given: Any) -> str:
    """Return 'must be one of `a`, `b`; got c', with the nearest one when there is one."""
    values = get_args(place.annotation)
    if isinstance(place.annotation, type) and issubclass(place.annotation, enum.Enum):
        values = tuple(member.value for member in place.annotation)
    names = [str(value) for value in values]
    rule = f"must be one of {listed(names)}" if len(names) > 1 else f"must be {listed(names)}"
    return f"{rule}; got {show(given)}{did_you_mean(given, names) if isinstance(given, str) else ''}"


def _rule(kind: str, context: Mapping[str, Any], place: _Place) -> str:
    """Return the rule that a kind of error of pydantic stands for."""
    for word, sign, key in (
        ("greater_than_equal", ">=", "ge"),
        ("greater_than", ">", "gt"),
        ("less_than_equal", "<=", "le"),
        ("less_than", "<", "lt"),
    ):
        if kind == word:
            return f"must be {sign} {context.get(key)}"
    if kind in ("too_short", "too_long"):
        most = kind == "too_long"
        number = context.get("max_length" if most else "min_length")
        return f"must have {'at most' if most else 'at least'} {number} item{'' if number == 1 else 's'}"
    if kind in ("string_too_short", "string_too_long"):
        most = kind == "string_too_long"
        number = context.get("max_length" if most else "min_length")
        return f"must have {'at most' if most else 'at least'} {number} character{'' if number == 1 else 's'}"
    for word, rule in (
        ("bool_", "must be true or false"),
        ("int_", "must be a whole number"),
        ("float_", "must be a number"),
        ("finite_", "must be finite"),
        ("string_pattern", f"must match `{context.get('pattern')}`"),
        ("string_", "must be text"),
        ("none_", "must be left out"),
    ):
        if kind.startswith(word):
            return rule
    if kind in ("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"):
        return "must be a list"
    if kind in ("dict_type", "mapping_type", "model_type", "model_attributes_type"):
        return _must_be_mapping(place.annotation)
    return "is not allowed here"


def _must_be_mapping(annotation: Any) -> str:
    """Return 'must be a mapping with the fields `a`, `b`'."""
    names = [info.alias or name for name, info in getattr(annotation, "model_fields", {}).items()]
    return f"must be a mapping with fields such as {listed(names[:4])}" if names else "must be a mapping"


def _remedy(kind: str, given: Any) -> str:
    """Return a remedy for what people often write, or ''."""
    if kind.startswith("bool_") and isinstance(given, str) and given.lower() in _YES_NO:
        return f"; write `{_YES_NO[given.lower()]}`"
    if kind == "string_type" and isinstance(given, int | float):
        return "; put it in quotes"
    return ""


def _of_likely_branches(found: list[tuple[_Place, list[Mistake]]]) -> list[Mistake]:
    """Return the mistakes, of each union only those of the member that was most likely meant."""
    depth = 0
    while any(len(place.branches) > depth for place, _ in found):
        unions: dict[tuple[Key, ...], dict[str, list[tuple[_Place, list[Mistake]]]]] = {}
        for place, told in found:
            if len(place.branches) > depth:
                path, tag, _, _ = place.branches[depth]
                unions.setdefault(path, {}).setdefault(tag, []).append((place, told))
        for by_tag in unions.values():
            if len(by_tag) > 1:
                kept = _likely(by_tag, depth)
                dropped = {id(place) for group in by_tag.values() for place, _ in group}
                first = next(index for index, (place, _) in enumerate(found) if id(place) in dropped)
                rest = [entry for entry in found if id(entry[0]) not in dropped]
                found = [*rest[:first], *kept, *rest[first:]]
        depth += 1
    return [mistake for _, told in found for mistake in told]


def _likely(by_tag: dict[str, list[tuple[_Place, list[Mistake]]]], depth: int) -> list[tuple[_Place, list[Mistake]]]:
    """Return the mistakes of the member of a union whose shape fits the value, or one mistake that joins them."""
    groups = list(by_tag.values())
    fitting = [group for group in groups if _fits(*group[0][0].branches[depth][2:])]
    chosen = fitting or groups
    value = chosen[0][0][0].branches[depth][3]
    if isinstance(value, Mapping | list) and fitting:
        # A member whose `kind` does not match is not what was meant, however few its other mistakes are.
        # And one whose required fields are all there is meant, however many its other mistakes are.
        def unlikely(group: list[tuple[_Place, list[Mistake]]]) -> tuple[bool, bool, int]:
            is_another = any(_is_kind(told) for _, told in group)
            return is_another, not _is_named(*group[0][0].branches[depth][2:]), len(group)

        return min(chosen, key=unlikely)
    place = chosen[0][0][0]
    rules = [re.fullmatch(r"must be (.*?); got .*?(; did you mean .*)?", group[0][1][0].message) for group in chosen]
    if len(chosen) > 1 and all(rules):
        told = dict.fromkeys(rule.group(1) for rule in rules if rule)
        options = [one for one in told if not any(other.startswith(f"{one} with ") for other in told)]
        hint = next((rule.group(2) for rule in rules if rule and rule.group(2)), "")
        message = f"must be {', or '.join(options)}; got {show(value)}{hint}"
        return [(place, [Mistake(place.branches[depth][0], message)])]
    return chosen[0]


def _is_kind(told: list[Mistake]) -> bool:
    """Whether mistakes are about the field that names a kind."""
    return any(mistake.path[-1:] == ("kind",) for mistake in told)


def _is_named(member: Any, value: Any) -> bool:
    """Whether a member of a union is a spec whose required fields are all in `value`."""
    plain = bare(member)
    if not (isinstance(plain, type) and issubclass(plain, BaseModel) and isinstance(value, Mapping)):
        return False
    required = [info.alias or name for name, info in plain.model_fields.items() if info.is_required()]
    return bool(required) and all(name in value for name in required)


def _fits(member: Any, value: Any) -> bool:
    """Whether a member of a union has the shape of `value`: mapping, list or scalar."""
    plain = bare(member)
    kind = get_origin(plain) or plain
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel | Mapping)
    if isinstance(value, Mapping):
        return is_model
    if isinstance(value, str | int | float) and getattr(kind, "is_one_of", False):
        from_scalar: Any = getattr(kind, "from_scalar", None)
        return from_scalar(value) is not None
    is_list = isinstance(kind, type) and issubclass(kind, _LISTS) and not issubclass(kind, str)
    return is_list if isinstance(value, list | tuple) else not is_model and not is_list
