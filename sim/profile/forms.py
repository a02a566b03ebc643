"""The forms of a law: seconds as a function of sizes.

A form is made of features: products of sizes such as `bytes`, `tokens^2`, `heads*kv_heads^-1` or `bytes^0.5`, and what the
operation works out, such as `flops`, `bytes_moved` or `tiles`. A grid multiplies another form by the exponential of tables that are
interpolated over the logarithms of features; beyond its axes the tables stay at their edge, so that a law grows as the
form below does.

Leaves out: fitting, which calibration does.
Checked: tests/test_profile.py.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Annotated, Any, Self

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ..engine.errors import did_you_mean, listed, show
from ..engine.spec import Bandwidth, Duration, Factor, FlopRate, OneOf, Spec, SpecProblem
from .ops import Op, Options, Sizes, larger

__all__ = ["Feature", "Form", "Grid", "Numbers", "Roofline", "Sum", "Table", "feature"]

Feature = Callable[[Sizes], Any]
WORK = ("flops", "bytes_moved")
_LEAST = 1e-9  # stands for a size of 0 on a logarithmic axis


@dataclass(frozen=True, slots=True)
class NumberList:
    """The annotation of a field with many numbers: a list, or one text with blanks between them."""

    def parse(self, value: object) -> tuple[float, ...]:
        """Return the numbers; ValueError with the rule otherwise."""
        rule = "must be numbers: a list, or a text with blanks between them"
        if isinstance(value, str):
            try:
                numbers = np.array(value.split(), dtype=float).tolist()
            except ValueError:
                wrong = next(word for word in value.split() if not _is_number(word))
                raise ValueError(f"{rule}; got {show(wrong)} among them") from None
        elif isinstance(value, Sequence) and all(type(item) in (int, float) for item in value):
            numbers = [float(item) for item in value]
        else:
            raise ValueError(f"{rule}; got {show(value)}")
        if not np.isfinite(numbers).all():
            raise ValueError("must be finite numbers")
        return tuple(numbers)

    def write(self, value: tuple[float, ...]) -> str:
        """Return what a file holds; `parse` gives the same floats back."""
        return " ".join(f"{number:g}" if float(f"{number:g}") == number else repr(number) for number in value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        """Parse on the way in, write as a text on the way out."""
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Describe both ways to write them."""
        return {
            "description": "Numbers, as a list or as a text with blanks between them",
            "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "examples": ["1 2 4 8"]}],
        }


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


Numbers = Annotated[tuple[float, ...], NumberList()]


def feature(text: str, op: Op, options: Options) -> Feature:
    """Return the function of sizes that a feature such as `batch*kv_heads` names. Raises ValueError with the rule."""
    factors = [_factor(part.strip(), op, options) for part in text.split("*")]
    if len(factors) == 1:
        return factors[0]
    return lambda sizes: math.prod(factor(sizes) for factor in factors)


def _factor(text: str, op: Op, options: Options) -> Feature:
    name, caret, power = text.partition("^")
    exponent = 1.0
    if caret:
        if not _is_number(power):
            raise ValueError(f"must be a feature such as `tokens^2`; got {show(text)}")
        exponent = float(power)
    if name in WORK:
        if op.work is None:
            raise ValueError(f"`{op.name}` has no `{name}`; write its law over {listed(op.sizes)}")
        work, position = op.work, WORK.index(name)
        base: Feature = lambda sizes: work(sizes, options)[position]  # noqa: E731
    elif name in op.derived:
        base = op.derived[name]
    elif name in op.sizes:
        base = lambda sizes: sizes[name]  # noqa: E731
    else:
        known = [*op.sizes, *(WORK if op.work else ()), *op.derived]
        remedy = did_you_mean(name, known) or f"; it has {listed(known) or 'no sizes'}"
        raise ValueError(f"`{op.name}` has no size `{name}`{remedy}")
    return base if exponent == 1.0 else (lambda sizes: base(sizes) ** exponent)


def _sum(overhead: float, terms: Mapping[str, float], op: Op, options: Options) -> Feature:
    """Return the function `overhead` + Σ seconds × feature."""
    compiled = [(feature(text, op, options), seconds) for text, seconds in terms.items()]
    return lambda sizes: overhead + sum(seconds * value(sizes) for value, seconds in compiled)


class Sum(Spec):
    """`overhead` plus, for each feature, its value times the time given for one of it."""

    overhead: Duration = 0.0
    terms: dict[str, Duration] = {}

    def compile(self, op: Op, options: Options) -> Feature:
        """Return the seconds as a function of sizes."""
        return _sum(self.overhead, self.terms, op, options)


class Roofline(Spec):
    """`overhead` plus the longer of arithmetic at `compute` and memory traffic at `memory`, plus `terms` as in a sum.

    `work` is the feature that counts as arithmetic: `flops`, or `padded_flops` where whole tiles are worked through.
    `sharpness` p makes the corner round: (arithmetic^p + traffic^p)^(1/p); left out, the corner is sharp.
    """

    overhead: Duration = 0.0
    compute: FlopRate
    memory: Bandwidth
    work: str = "flops"
    sharpness: Factor | None = None
    terms: dict[str, Duration] = {}

    def compile(self, op: Op, options: Options) -> Feature:
        """Return the seconds as a function of sizes."""
        if op.work is None:
            raise ValueError(f"`{op.name}` has no work to put under a roofline; use `sum`")
        compute, memory, sharpness = self.compute, self.memory, self.sharpness
        flops, moved = feature(self.work, op, options), feature("bytes_moved", op, options)
        more = _sum(self.overhead, self.terms, op, options)

        def seconds(sizes: Sizes) -> Any:
            busy, traffic = flops(sizes) / compute, moved(sizes) / memory
            longer = most = larger(busy, traffic)
            if sharpness is not None:  # the larger one is taken out, so that no power overflows
                longer = most * ((busy / most) ** sharpness + (traffic / most) ** sharpness) ** (1.0 / sharpness)
            return more(sizes) + longer

        return seconds


class Table(Spec):
    """Natural logarithms of a factor at the nodes of a grid; `nodes` in row-major order of the axes.

    Each axis is a feature with its rising values, all > 0; between nodes the table is multilinear in log2.
    """

    axes: dict[str, Numbers]
    nodes: Numbers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, values in self.axes.items():
            if not values or values[0] <= 0 or any(after <= before for before, after in pairwise(values)):
                got = " ".join(f"{value:g}" for value in values)
                raise SpecProblem(("axes", name), f"must be rising numbers > 0; got {show(got)}")
        expected = math.prod(len(values) for values in self.axes.values())
        if len(self.nodes) != expected:
            raise SpecProblem(("nodes",), f"must be {expected}, one for each node of the axes; got {len(self.nodes)}")
        return self

    def compile(self, op: Op, options: Options) -> Feature:
        """Return the logarithm of the factor as a function of sizes."""
        axes = [(feature(text, op, options), np.log2(values)) for text, values in self.axes.items()]
        nodes = np.array(self.nodes)
        lists, known = [(of, knots.tolist()) for of, knots in axes], nodes.tolist()

        def value(sizes: Sizes) -> Any:
            at = [of(sizes) for of, _ in axes]
            if not any(isinstance(one, np.ndarray) for one in at):
                return _at_point(
                    known, [(math.log2(max(x, _LEAST)), knots) for x, (_, knots) in zip(at, lists, strict=True)]
                )
            places = [weights(np.log2(np.maximum(x, _LEAST)), knots) for x, (_, knots) in zip(at, axes, strict=True)]
            result: Any = 0.0
            for corner in product((0, 1), repeat=len(places)):
                index: Any = 0
                share: Any = 1.0
                for side, (below, part, count) in zip(corner, places, strict=True):
                    index = index * count + np.minimum(below + side, count - 1)
                    share = share * (part if side else 1.0 - part)
                result = result + share * nodes[index]
            return result

        return value


def _at_point(nodes: list[float], places: list[tuple[float, list[float]]]) -> float:
    """Return the table at one point, given its coordinate on each axis and the axis's knots; numpy would take ten times as long."""
    corners = [(0, 1.0)]  # index among the nodes so far, and its share
    for at, knots in places:
        count = len(knots)
        below = min(max(bisect_right(knots, at) - 1, 0), max(count - 2, 0))
        part = 0.0
        if count > 1:
            part = min(max((at - knots[below]) / (knots[below + 1] - knots[below]), 0.0), 1.0)
        grown = [(index * count + below, share * (1.0 - part)) for index, share in corners] if part < 1.0 else []
        if part > 0.0:
            grown += [(index * count + below + 1, share * part) for index, share in corners]
        corners = grown
    return sum(share * nodes[index] for index, share in corners)


def weights(at: Any, knots: np.ndarray) -> tuple[Any, Any, int]:
    """Return, on an axis, the knot below `at`, the share of the one above it, and the number of knots; clamped."""
    count = len(knots)
    if count == 1:
        return np.zeros_like(at, dtype=int), np.zeros_like(at, dtype=float), 1
    below = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, count - 2)
    part = np.clip((at - knots[below]) / (knots[below + 1] - knots[below]), 0.0, 1.0)
    return below, part, count


class Base(OneOf):
    """The closed form below a grid."""

    sum: Sum | None = None
    roofline: Roofline | None = None


class Grid(Spec):
    """`base` times e to the sum of `tables`, and never less than it takes to move the bytes at the bandwidth `floor`.

    The floor is the nominal bandwidth of the device's memory: where no point held them down, tables may promise more.
    """

    base: Base
    tables: tuple[Table, ...]
    floor: Bandwidth | None = None

    def compile(self, op: Op, options: Options) -> Feature:
        """Return the seconds as a function of sizes."""
        base = self.base.chosen[1].compile(op, options)
        tables = [table.compile(op, options) for table in self.tables]
        moved = None if self.floor is None else feature("bytes_moved", op, options)
        bandwidth = self.floor or math.inf

        def seconds(sizes: Sizes) -> Any:
            factor = sum(table(sizes) for table in tables)
            found = base(sizes) * (np.exp(factor) if isinstance(factor, np.ndarray) else math.exp(factor))
            return found if moved is None else larger(found, moved(sizes) / bandwidth)

        return seconds


class Form(OneOf):
    """How the time depends on sizes."""

    constant: Duration | None = None
    sum: Sum | None = None
    roofline: Roofline | None = None
    grid: Grid | None = None

    def compile(self, op: Op, options: Options) -> Feature:
        """Return the seconds as a function of sizes: numbers, or arrays of one shape."""
        kind, value = self.chosen
        if kind == "constant":
            return lambda _sizes: value
        made: Feature = value.compile(op, options)
        return made
