"""The base of every specification read from YAML, the types of its fields, and `validate`.

A field of type `Duration` takes the text `250 ms` and holds the float 0.25; dumped, it is `250 ms` again.
Leaves out: what a scenario may say; the specs of the components do that. Reading YAML is `source`'s work.
Checked: tests/test_spec.py.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from . import units
from .errors import show
from .units import Dimension

__all__ = [
    "Bandwidth",
    "BytesPerToken",
    "Count",
    "Duration",
    "Factor",
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
    "TokenRate",
    "Tokens",
    "Whole",
]

_SCALARS = ("bool", "int", "float", "str")
_LARGEST_COUNT = 10**12  # keeps a mistyped count from filling the memory


class SpecProblem(ValueError):
    """A mistake that a validator found: `path` is relative to the spec whose validator raises."""

    def __init__(self, path: str | Sequence[str | int], message: str) -> None:
        self.path: str | tuple[str | int, ...] = path if isinstance(path, str) else tuple(path)
        self.message = message
        super().__init__(message)


class SpecProblems(ValueError):
    """Several mistakes that one validator found."""

    def __init__(self, problems: Sequence[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


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


class OneOf(Spec):
    """A mapping with exactly one key, which names the kind: `{lognormal: {median: 1 s, p95: 3 s}}`.

    Every field of a subclass is optional, with the default None; `chosen` gives the one that was given.
    """

    @classmethod
    def from_scalar(cls, value: object) -> dict[str, Any] | None:
        """Return the mapping that a bare value stands for, or None when a mapping must be written."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, data: Any) -> Any:
        """Refuse none and several at once; an unknown key is left to the check of the fields."""
        if isinstance(data, OneOf):
            return data
        choices = one_of_choices(cls)
        if not isinstance(data, Mapping):
            expanded = cls.from_scalar(data) if isinstance(data, str | int | float) else None
            if expanded is None:
                raise ValueError(f"must be a mapping with one of {_listed(choices)}; got {show(data)}")
            return expanded
        if len(data) != 1:
            got = ", ".join(f"`{key}`" for key in data) or "an empty mapping"
            raise ValueError(f"must have exactly one of {_listed(choices)}; got {got}")
        name, value = next(iter(data.items()))
        if name in choices and value is None:
            raise SpecProblem((name,), "needs a value; got nothing")
        return data

    @property
    def chosen(self) -> tuple[str, Any]:
        """The name of the kind that was given, as YAML writes it, and its value."""
        name = next(iter(self.model_fields_set))
        return type(self).model_fields[name].alias or name, getattr(self, name)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Say in the JSON Schema that exactly one key is required, and what a bare value may be."""
        written = handler(schema)
        target = handler.resolve_ref_schema(written)
        for name, prop in target.get("properties", {}).items():
            target["properties"][name] = _without_null(prop)
        target["minProperties"] = target["maxProperties"] = 1
        target["oneOf"] = [{"required": [name]} for name in target.get("properties", {})]
        return written


def _without_null(prop: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional field without null, which may not be written in a one-of mapping."""
    kept = [option for option in prop.get("anyOf", []) if option.get("type") != "null"]
    rest = {key: value for key, value in prop.items() if key not in ("anyOf", "default")}
    return {**rest, **kept[0]} if len(kept) == 1 else {**prop, "anyOf": kept} if kept else rest


def one_of_choices(cls: type[OneOf]) -> list[str]:
    """Return the names that a one-of mapping may have, as YAML writes them."""
    return [info.alias or name for name, info in cls.model_fields.items()]


def _listed(names: Sequence[str]) -> str:
    """Return '`a`, `b`, `c`'."""
    return ", ".join(f"`{name}`" for name in names)


@dataclass(frozen=True, slots=True)
class Quantity:
    """The annotation of a float field that YAML writes with a unit.

    `low` and `high` are in base units; `open_low` refuses `low` itself.
    """

    dimension: Dimension
    low: float = 0.0
    high: float = math.inf
    open_low: bool = False

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
        if self.dimension is units.NUMBER:
            return value
        return units.exact(value, self.dimension)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Parse on the way in, write with the unit on the way out."""
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Describe the text an editor should accept."""
        bound = f" {'>' if self.open_low else '>='} {self.low:g}" if math.isfinite(self.low) else ""
        told = {"description": f"A {self.dimension.name}{bound}, such as `{self.dimension.example}`"}
        text = {"type": "string", "pattern": units.pattern(self.dimension), "examples": [self.dimension.example]}
        if "" not in self.dimension.units or self.dimension.per:
            return {**told, **text}
        return {**told, "anyOf": [{"type": "number"}, text]}


@dataclass(frozen=True, slots=True)
class Whole:
    """The annotation of an int field: `20`, or `12k`."""

    low: int = 0
    high: int = _LARGEST_COUNT

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

    PATTERN: ClassVar[str] = r"^[A-Za-z][A-Za-z0-9_.-]*$"

    def parse(self, value: object) -> str:
        """Return the name; ValueError with the rule otherwise."""
        if not isinstance(value, str) or len(value) > 100 or not re.fullmatch(self.PATTERN[1:-1], value):
            rule = "must be a name: a letter, then letters, digits, `_`, `.` or `-`, 100 at most"
            raise ValueError(f"{rule}; got {show(value)}")
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
TokenRate = Annotated[float, Quantity(units.TOKEN_RATE, open_low=True)]
TimePerToken = Annotated[float, Quantity(units.TIME_PER_TOKEN)]
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
