"""What is valid of a spec that is refused, so that mistakes between its parts can be told with those inside of them.

A part that cannot be is hollow: its required fields are None, or empty where they are mappings or lists. Names stay: a tool
with a mistake inside is still a tool that others may name.
Leaves out: validators of the specs that are not whole. The result is for checks of names only and is never run.
Checked: tests/test_scenario.py.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from .mistakes import bare, member_of, members_of

__all__ = ["is_whole", "partial"]

T = TypeVar("T", bound=BaseModel)


def partial(cls: type[T], data: Any) -> T:
    """Return a `cls` that holds what is valid in `data`."""
    made: T = _Parts().of_spec(cls, data)
    return made


def is_whole(spec: BaseModel) -> bool:
    """Whether nothing of a spec was refused, so that what it describes can be worked out."""
    if getattr(spec, "is_one_of", False) and not spec.model_fields_set:
        return False
    for name, info in type(spec).model_fields.items():
        value = getattr(spec, name)
        if value is None and (info.is_required() or info.default is not None):
            return False
        if isinstance(value, BaseModel) and not is_whole(value):
            return False
    return True


class _Anything(dict[Any, Any]):
    """A mapping that could not be read: whatever others name may have been in it."""

    def __contains__(self, name: object) -> bool:
        """Whether nothing speaks against `name`."""
        return True


class _Parts:
    """Validates part by part; the validators that are made on the way are used again."""

    def __init__(self) -> None:
        self.adapters: dict[int, tuple[Any, TypeAdapter[Any]]] = {}

    def of(self, annotation: Any, value: Any) -> Any:
        """Return what is valid of a value."""
        try:
            return self._adapter(annotation).validate_python(value)
        except ValidationError:
            pass
        annotation = _chosen(annotation, value)
        kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
        if not isinstance(kind, type):
            return None
        if issubclass(kind, BaseModel):
            return self.of_spec(kind, value)
        if issubclass(kind, Mapping):
            if not isinstance(value, Mapping) or len(arguments) != 2:
                return _Anything()
            return {name: self.of(arguments[1], item) for name, item in value.items()}
        if issubclass(kind, list | tuple):
            items = value if isinstance(value, list | tuple) and arguments else ()
            return tuple(self.of(arguments[0], item) for item in items)
        return None

    def of_spec(self, cls: type[BaseModel], value: Any) -> Any:
        """Return a spec, unchecked, with what is valid of each field."""
        given = value if isinstance(value, Mapping) else {}
        parts: dict[str, Any] = {}
        for name, info in cls.model_fields.items():
            written = info.alias if info.alias in given else name
            if written in given or info.is_required():
                parts[name] = self.of(_annotation(info), given.get(written))
        return cls.model_construct(**parts)

    def _adapter(self, annotation: Any) -> TypeAdapter[Any]:
        """Return the validator of an annotation, which is kept so that its id stays its own."""
        known = self.adapters.get(id(annotation))
        if known is None:
            known = self.adapters[id(annotation)] = annotation, TypeAdapter(annotation)
        return known[1]


_ANNOTATIONS: dict[int, tuple[FieldInfo, Any]] = {}


def _annotation(info: FieldInfo) -> Any:
    """Return the annotation of a field with its limits; the same object each time."""
    limits: list[Any] = list(info.metadata)
    if info.discriminator is not None:
        limits.append(Field(discriminator=info.discriminator))
    if not limits:
        return info.annotation
    known = _ANNOTATIONS.get(id(info))
    if known is None:
        annotation: Any = info.annotation
        for limit in limits:
            annotation = Annotated[annotation, limit]
        known = _ANNOTATIONS[id(info)] = info, annotation
    return known[1]


def _chosen(annotation: Any, value: Any) -> Any:
    """Return an annotation without its limits; of a union the member that was meant, or else the first spec."""
    members = members_of(bare(annotation))
    if len(members) == 1:
        return bare(members[0])
    tags = [value.get("kind"), *value] if isinstance(value, Mapping) else []
    named = (member_of(members, tag) for tag in tags if isinstance(tag, str))
    meant = next((member for member in named if member is not Any), None)
    specs = (bare(member) for member in members)
    return bare(meant) if meant is not None else next((one for one in specs if _is_spec(one)), None)


def _is_spec(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
