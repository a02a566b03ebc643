"""Mappings for which a bare value may stand: `errors: 5 %` for `errors: {rate: 5 %}`.

Checked: tests/test_spec.py.
"""

from typing import Any, ClassVar

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from .schema import or_scalar
from .spec import Spec

__all__ = ["Shorthand"]


class Shorthand(Spec):
    """A part of a scenario for which the value of its field `short` may stand, when nothing else is to be said."""

    short: ClassVar[str] = "rate"

    @model_validator(mode="before")
    @classmethod
    def _from_bare(cls, data: Any) -> Any:
        return data if isinstance(data, dict | Shorthand) else {cls.short: data}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Say that the bare value may stand for the mapping."""
        written = handler(schema)
        target = handler.resolve_ref_schema(written)
        or_scalar(target, target["properties"][cls.short])
        return written
