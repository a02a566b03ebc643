"""The base of every specification read from YAML, the types of its fields, and `validate`.

A field of type `Duration` takes the text `250 ms` and holds the float 0.25; dumped, it is `250 ms` again.
Leaves out: what a scenario may say; the specs of the components do that. Reading YAML is `source`'s work.
Checked: tests/test_spec.py.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from . import units
from .errors import InputError, Problem, ScenarioError, show
from .mistakes import Mistake, SpecProblem, SpecProblems, mistakes
from .partial import partial
from .source import Document
from .units import Dimension

__all__ = [
    "Bandwidth",
    "BytesPerToken",
    "Count",
    "Duration",
    "Factor",
    "FlopRate",
    "Money",
    "MoneyPerToken",
    "MoneyRate",
    "Name",
    "OneOf",
    "PositiveCount",
    "PositiveDuration",
    "PositiveSize",
    "Quantity",
    "Rate",
    "Share",
    "Size",
    "Spec",
    "SpecProblem",
    "SpecProblems",
    "TimePerByte",
    "TimePerToken",
    "TimePerTokenSquared",
    "TokenRate",
    "Tokens",
    "Whole",
    "validate",
]

_SCALARS = ("bool", "int", "float", "str")
_LARGEST_COUNT = 10**12  # keeps a mistyped count from filling the memory


def _make_scalars_strict(schema: Any) -> None:
    """Set `strict` on each scalar inside a core schema, in place."""
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            if part.get("type") in _SCALARS:
                part["strict"] = True
            pending.extend(value for key, value in part.items() if key not in ("metadata", "default", "ref"))
        elif isinstance(part, list | tuple):
            pending.extend(part)


class Spec(BaseModel):
    """A frozen part of a scenario: unknown fields are refused, and no text becomes a number or a truth value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=False, allow_inf_nan=False, populate_by_name=True
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Make the scalars strict and leave the collections lax: a list from YAML may fill a tuple."""
        schema = handler(source)
        _make_scalars_strict(schema)
        return schema

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Name a generic spec for people and editors: `Draw[Duration]`, and not by its annotation."""
        return f"{cls.__name__}[{', '.join(_type_name(param) for param in params)}]"

    def says(self, field: str) -> bool:
        """Whether a field says something: written at its default, as a resolved scenario does, it does not."""
        return bool(getattr(self, field) != type(self).model_fields[field].default)

    def to_data(self) -> dict[str, Any]:
        """Return what YAML would hold, units and all: validated, it gives an equal spec."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _type_name(param: Any) -> str:
    """Return `Duration` for the type of that name, and the plain name of any other type."""
    for part in getattr(param, "__metadata__", ()):
        if isinstance(part, Quantity | Whole | Identifier):
            return part.name
    return str(getattr(param, "__name__", param))


class OneOf(Spec):
    """A mapping with exactly one key, which names the kind: `{lognormal: {median: 1 s, p95: 3 s}}`.

    Every field of a subclass is optional, with the default None; `chosen` gives the one that was given.
    """

    is_one_of: ClassVar[bool] = True

    @classmethod
    def from_scalar(cls, value: object) -> dict[str, Any] | None:
        """Return the mapping that a bare value stands for, or None when a mapping must be written."""
        return None

    @classmethod
    def choices(cls) -> list[str]:
        """Return the names of the kinds, as YAML writes them."""
        return [info.alias or name for name, info in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, data: Any) -> Any:
        """Refuse none and several at once; an unknown key is left to the check of the fields."""
        if isinstance(data, OneOf):
            return data
        names = ", ".join(f"`{name}`" for name in cls.choices())
        if not isinstance(data, Mapping):
            expanded = cls.from_scalar(data) if isinstance(data, str | int | float) else None
            if expanded is None:
                raise ValueError(f"must be a mapping with one of {names}; got {show(data)}")
            return expanded
        if len(data) != 1:
            got = ", ".join(f"`{key}`" for key in data) or "an empty mapping"
            raise ValueError(f"must have exactly one of {names}; got {got}")
        name, value = next(iter(data.items()))
        if value is None and name in cls.choices():
            raise SpecProblem((name,), "needs a value; got nothing")
        return data

    @property
    def chosen(self) -> tuple[str, Any]:
        """The name of the kind that was given, as YAML writes it, and its value."""
        name = next(iter(self.model_fields_set))
        return type(self).model_fields[name].alias or name, getattr(self, name)

    @model_serializer(mode="wrap")
    def _only_the_chosen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the one kind, and none of the others."""
        return {name: value for name, value in handler(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Say in the JSON Schema that exactly one key is required, and what a bare value may be."""
        written = handler(schema)
        target = handler.resolve_ref_schema(written)
        fields = {name: _without_null(field) for name, field in target.get("properties", {}).items()}
        target |= {"properties": fields, "oneOf": [{"required": [name]} for name in fields]}
        scalar = cls.from_scalar("")
        if scalar:
            mapping = dict(target)
            target.clear()
            target |= {"title": mapping["title"], "anyOf": [fields.get(next(iter(scalar)), {}), mapping]}
        return written


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional field without null, which may not be written in a one-of mapping."""
    kept = [option for option in field.get("anyOf", []) if option.get("type") != "null"]
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    if len(kept) == 1:
        return {**rest, **kept[0]}
    return {**rest, "anyOf": kept} if kept else rest


@dataclass(frozen=True, slots=True)
class Quantity:
    """The annotation of a float field that YAML writes with a unit.

    `low` and `high` are in base units; `open_low` refuses `low` itself.
    """

    dimension: Dimension
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False

    @property
    def name(self) -> str:
        """A name for generic specs: `Duration`, `PositiveDuration`, `TokenRate`."""
        words = self.dimension.name.partition(" from ")[0].title().replace(" ", "")
        return f"{'Positive' if self.open_low else ''}{words}"

    def parse(self, value: object) -> float:
        """Return the value in base units; ValueError with the rule otherwise."""
        result = units.parse(value, self.dimension)
        limit = units.exact(self.low, self.dimension) if self.low else "0"
        what, example = self.dimension.name, self.dimension.example
        if result < self.low or (self.open_low and result == self.low):
            bound = f"> {limit}" if self.open_low else f">= {limit}"
            raise ValueError(f"must be a {what} {bound}, such as `{example}`; got {show(value)}")
        if result > self.high:
            most = units.exact(self.high, self.dimension)
            raise ValueError(f"must be a {what} <= {most}; got {show(value)}")
        return result

    def write(self, value: float) -> str | float:
        """Return what YAML writes: `parse` gives the same float back."""
        text = units.exact(value, self.dimension)
        is_plain = self.dimension == units.NUMBER or (self.dimension.bare and text[-1:].isdigit())
        return value if is_plain else text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Parse on the way in, write with the unit on the way out."""
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Describe the text an editor should accept."""
        is_known = self.low == self.dimension.low or math.isinf(self.low)
        bound = "" if is_known else f" {'>' if self.open_low else '>='} {self.low:g}"
        told = {"description": f"A {self.dimension.name}{bound}, such as `{self.dimension.example}`"}
        text = {"type": "string", "pattern": units.pattern(self.dimension), "examples": [self.dimension.example]}
        return {**told, "anyOf": [{"type": "number"}, text]} if self.dimension.bare else {**told, **text}


@dataclass(frozen=True, slots=True)
class Whole:
    """The annotation of an int field: `20`, or `12k`."""

    low: int = 0
    high: int = _LARGEST_COUNT
    name: ClassVar[str] = "Count"

    def parse(self, value: object) -> int:
        """Return the whole number; ValueError with the rule otherwise."""
        rule = f"must be a whole number >= {self.low}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{rule}; got {show(value)}")
        if isinstance(value, int):
            number = value
        else:
            try:
                amount = units.parse(value, units.NUMBER)
            except ValueError as error:
                raise ValueError(f"{rule}; got {show(value)}") from error
            if amount != math.floor(amount):
                raise ValueError(f"{rule}; got {show(value)}")
            number = int(amount)
        if number < self.low:
            raise ValueError(f"{rule}; got {show(value)}")
        if number > self.high:
            raise ValueError(f"must be a whole number <= {self.high}; got {show(value)}")
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Parse on the way in; an int is written as it is."""
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Describe the number an editor should accept."""
        number = {"type": "integer", "minimum": self.low}
        return {
            "description": f"A whole number >= {self.low}",
            "anyOf": [number, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?[kMG]$", "examples": ["12k"]}],
        }


@dataclass(frozen=True, slots=True)
class Identifier:
    """The annotation of a name: of a component, a step or a node."""

    name: ClassVar[str] = "Name"
    PATTERN: ClassVar[str] = r"^[A-Za-z][A-Za-z0-9_.-]*$"

    def parse(self, value: object) -> str:
        """Return the name; ValueError with the rule otherwise."""
        if not isinstance(value, str) or len(value) > 100 or not re.fullmatch(self.PATTERN[1:-1], value):
            rule = "must be a name: a letter, then letters, digits, `_`, `.` or `-`, 100 at most"
            close = re.sub(r"[^A-Za-z0-9_.-]+", "-", value).strip("-.") if isinstance(value, str) else ""
            remedy = f"; write `{close}`" if len(close) <= 100 and re.fullmatch(self.PATTERN[1:-1], close) else ""
            raise ValueError(f"{rule}; got {show(value)}{remedy}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Check on the way in."""
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Describe the name an editor should accept."""
        return {"type": "string", "pattern": self.PATTERN}


Duration = Annotated[float, Quantity(units.DURATION)]
PositiveDuration = Annotated[float, Quantity(units.DURATION, open_low=True)]
Size = Annotated[float, Quantity(units.SIZE)]
PositiveSize = Annotated[float, Quantity(units.SIZE, open_low=True)]
Tokens = Annotated[float, Quantity(units.TOKENS)]
Rate = Annotated[float, Quantity(units.RATE, open_low=True)]
Bandwidth = Annotated[float, Quantity(units.BANDWIDTH, open_low=True)]
FlopRate = Annotated[float, Quantity(units.FLOP_RATE, open_low=True)]
TokenRate = Annotated[float, Quantity(units.TOKEN_RATE, open_low=True)]
TimePerToken = Annotated[float, Quantity(units.TIME_PER_TOKEN)]
TimePerTokenSquared = Annotated[float, Quantity(units.TIME_PER_TOKEN_SQUARED)]
TimePerByte = Annotated[float, Quantity(units.TIME_PER_BYTE)]
BytesPerToken = Annotated[float, Quantity(units.BYTES_PER_TOKEN)]
Share = Annotated[float, Quantity(units.SHARE)]
Money = Annotated[float, Quantity(units.MONEY)]
MoneyPerToken = Annotated[float, Quantity(units.MONEY_PER_TOKEN)]
MoneyRate = Annotated[float, Quantity(units.MONEY_RATE)]
Factor = Annotated[float, Quantity(units.NUMBER, open_low=True)]
Count = Annotated[int, Whole(0)]
PositiveCount = Annotated[int, Whole(1)]
Name = Annotated[str, Identifier()]

T = TypeVar("T", bound=BaseModel)


def validate(
    cls: type[T],
    document: Document,
    error: type[InputError] = ScenarioError,
    across: Callable[[T], Iterable[SpecProblem]] | None = None,
) -> T:
    """Return the spec that `document` describes.

    `across` names the mistakes between parts. A validator of `cls` raises them for a spec whose every part is valid; here
    they come together with the mistakes inside of parts, as far as the valid ones tell.
    Raises `error` with every mistake, each where it was written; a missing field is cited at the field that lacks it.
    """
    try:
        return cls.model_validate(document.data)
    except ValidationError as refused:
        found = mistakes(cls, refused, document.data)
    if across is not None:
        found += [Mistake(one.path, one.message, one.at_key) for one in across(partial(cls, document.data))]
    raise error(_located(found, document), document.name)


def _located(found: list[Mistake], document: Document) -> list[Problem]:
    """Return the mistakes with their places, the document's own file first, by line.

    What an alias repeats is told once: the same of one place, under the same name where the name is what matters.
    """
    once: dict[tuple[object, ...], Problem] = {}
    for mistake in found:
        problem = document.problem(mistake.path, mistake.message, key=mistake.at_key)
        if mistake.at_key and len(mistake.path) == 1 and mistake.path[0] not in document.data:
            problem = Problem(problem.path, problem.message, document.name)  # no line is at fault for what it lacks
        name = mistake.path[-1:] if mistake.at_key else ()
        known = (problem.file, problem.line, problem.column, problem.message, name)
        once.setdefault(known if problem.line else (*known, problem.path), problem)
    return sorted(once.values(), key=lambda one: (one.file != document.name, one.file, one.line, one.column))
