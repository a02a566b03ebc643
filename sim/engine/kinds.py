"""What may be written for each kind of distribution, and the rules that its numbers keep.

A family takes the parameters people know (median and p95, mean and cv) and makes its own of them.
Leaves out: the one-of mapping that names the kind (`distributions`), and the mathematics (`families`, `composites`).
Checked: tests/test_distributions.py.
"""

import math
import sys
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar, get_args

from pydantic import model_validator

from . import families, units
from .composites import Empirical, QuantileTable, Shifted, truncate
from .errors import show
from .random_variable import Distribution
from .samples import read_samples
from .spec import Count, Quantity, Spec, SpecProblem, SpecProblems, Whole

if TYPE_CHECKING:
    from .distributions import AnyDraw

__all__ = [
    "EmpiricalSpec",
    "ExponentialSpec",
    "Findable",
    "GammaSpec",
    "GeometricSpec",
    "HyperexponentialSpec",
    "Kind",
    "LognormalSpec",
    "Number",
    "ParetoSpec",
    "PhaseSpec",
    "ShiftedBase",
    "TruncatedBase",
    "UniformSpec",
    "WeibullSpec",
    "Weight",
    "some",
]

# Beyond these, samples leave the range of floats, or nearly all are 0.
_LARGEST_GAMMA_CV = 100.0
_LEAST_PARETO_SHAPE = 0.1
_LEAST_WEIBULL_SHAPE = 0.05

Q = TypeVar("Q")
T = TypeVar("T")
Pure = Annotated[float, Quantity(units.NUMBER, open_low=True, high=1e6)]
Weight = Annotated[float, Quantity(units.NUMBER, open_low=True, high=1e12)]
Number = Annotated[float, Quantity(units.NUMBER, low=-1e15, high=1e15)]


def _annotation(argument: Any) -> Quantity | Whole | None:
    """Return the annotation in `Annotated[float, Quantity(...)]`."""
    return next((part for part in get_args(argument)[1:] if isinstance(part, Quantity | Whole)), None)


class Findable:
    """Mixed into a generic spec: `PartSpec[Duration]` is an attribute of its module by that name, so that pickle finds it."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Enter the class that was made for a parameter."""
        setattr(sys.modules[cls.__module__], cls.__name__, cls)


class Kind(Findable, Spec, Generic[Q]):
    """One kind of distribution: its fields, its rules, and the distribution they make."""

    POSITIVE: ClassVar[tuple[str, ...]] = ()
    """Fields of type Q that must be > 0."""

    @classmethod
    def quantity(cls) -> Quantity | Whole:
        """Return the annotation that was put for Q; whole numbers where there is no Q."""
        for base in cls.__mro__:
            arguments = getattr(base, "__pydantic_generic_metadata__", {}).get("args", ())
            found = _annotation(arguments[0]) if arguments else None
            if found is not None:
                return found
        return Whole(0)

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution that the fields describe."""
        return self._build()

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        given = [(name, getattr(self, name)) for name in self.POSITIVE]
        wrong = [(name, value) for name, value in given if value is not None and value <= 0]
        if wrong:
            raise SpecProblems([SpecProblem((name,), f"must be > 0; got {self._text(value)}") for name, value in wrong])
        self._check()
        _ = self.distribution  # raises now, not in the middle of a run
        return self

    def _check(self) -> None:
        """Raise for numbers that make no distribution of this kind."""

    @abstractmethod
    def _build(self) -> Distribution:
        """Make the distribution; may raise SpecProblem."""

    def _text(self, value: float) -> str:
        """Return a value with its unit."""
        quantity = self.quantity()
        return f"{value:g}" if isinstance(quantity, Whole) else units.format(value, quantity.dimension)

    def _given(self, *choices: tuple[str, ...]) -> tuple[str, ...]:
        """Return which one of the sets of fields was given; exactly one must be."""
        names = dict.fromkeys(name for choice in choices for name in choice)
        given = {name for name in names if getattr(self, name) is not None}
        for choice in choices:
            if given == set(choice):
                return choice
        rule = ", or ".join(" and ".join(f"`{name}`" for name in choice) for choice in choices)
        got = ", ".join(f"`{name}`" for name in names if name in given) or "nothing"
        raise ValueError(f"needs {rule}; got {got}")


class UniformSpec(Kind[Q], Generic[Q]):
    """Evenly between `low` and `high`; a whole number from `low` to `high` for counts."""

    low: Q
    high: Q

    def _build(self) -> Distribution:
        low, high = _float(self.low), _float(self.high)
        if not low < high:
            message = f"`low < high` must hold; got {self._text(low)} and {self._text(high)}"
            raise SpecProblem(("high",), message)
        if isinstance(self.quantity(), Whole):
            return families.UniformWhole(int(low), int(high))
        return families.Uniform(low, high)


class ExponentialSpec(Kind[Q], Generic[Q]):
    """Exponential."""

    POSITIVE = ("mean",)
    mean: Q

    def _build(self) -> Distribution:
        return families.Exponential(scale=_float(self.mean))


class LognormalSpec(Kind[Q], Generic[Q]):
    """Lognormal, by its median and 95 % quantile or by its own mean (not that of its log) and coefficient of variation."""

    POSITIVE = ("median", "p95", "mean")
    median: Q | None = None
    p95: Q | None = None
    mean: Q | None = None
    cv: Pure | None = None

    def _build(self) -> Distribution:
        if self._given(("median", "p95"), ("mean", "cv")) == ("mean", "cv"):
            return families.Lognormal.of_moments(_float(self.mean), _float(self.cv))
        median, p95 = _float(self.median), _float(self.p95)
        if not median < p95:
            message = f"`median < p95` must hold; got {self._text(median)} and {self._text(p95)}"
            raise SpecProblem(("p95",), message)
        return families.Lognormal.of_quantiles(median, p95)


class GammaSpec(Kind[Q], Generic[Q]):
    """Gamma, by mean and coefficient of variation or by shape and scale."""

    POSITIVE = ("mean", "scale")
    mean: Q | None = None
    cv: Pure | None = None
    shape: Pure | None = None
    scale: Q | None = None

    def _build(self) -> Distribution:
        by_mean = self._given(("mean", "cv"), ("shape", "scale")) == ("mean", "cv")
        cv = _float(self.cv) if by_mean else 1 / math.sqrt(_float(self.shape))
        if cv > _LARGEST_GAMMA_CV:
            rule = f"must give a cv <= {_LARGEST_GAMMA_CV:g}, beyond which nearly all values are 0; it gives {cv:.4g}"
            raise SpecProblem(("cv" if by_mean else "shape",), rule)
        if by_mean:
            return families.Gamma(cv**-2, _float(self.mean) * cv**2)
        return families.Gamma(_float(self.shape), _float(self.scale))


class WeibullSpec(Kind[Q], Generic[Q]):
    """Weibull, by shape and scale or by mean and shape."""

    POSITIVE = ("mean", "scale")
    shape: Annotated[float, Quantity(units.NUMBER, low=_LEAST_WEIBULL_SHAPE, high=1e6)]
    scale: Q | None = None
    mean: Q | None = None

    def _build(self) -> Distribution:
        if self._given(("shape", "scale"), ("mean", "shape")) == ("mean", "shape"):
            return families.Weibull.of_mean(_float(self.mean), self.shape)
        return families.Weibull(self.shape, _float(self.scale))


class ParetoSpec(Kind[Q], Generic[Q]):
    """Pareto: no value below `minimum`, and a tail that falls with the power `shape`."""

    POSITIVE = ("minimum",)
    minimum: Q
    shape: Annotated[float, Quantity(units.NUMBER, low=_LEAST_PARETO_SHAPE, high=1e6)]

    def _build(self) -> Distribution:
        return families.Pareto(_float(self.minimum), self.shape)


class PhaseSpec(Kind[Q], Generic[Q]):
    """A phase of a hyperexponential: exponential of this mean; `weight` is relative to the other phases."""

    POSITIVE = ("mean",)
    weight: Weight
    mean: Q

    def _build(self) -> Distribution:
        return families.Exponential(scale=_float(self.mean))


class HyperexponentialSpec(Kind[Q], Generic[Q]):
    """Hyperexponential, by its phases or by mean and cv (two phases that carry half the mean each)."""

    POSITIVE = ("mean",)
    phases: tuple[PhaseSpec[Q], ...] | None = None
    mean: Q | None = None
    cv: Pure | None = None

    def _build(self) -> Distribution:
        if self._given(("phases",), ("mean", "cv")) == ("mean", "cv"):
            cv = _float(self.cv)
            if cv <= 1:
                remedy = "; use `exponential`" if cv == 1 else "; use `gamma`"
                raise SpecProblem(("cv",), f"must be > 1; got {cv:g}{remedy}")
            return families.Hyperexponential.balanced(_float(self.mean), cv)
        phases = some("phases", self.phases)
        return families.Hyperexponential(
            tuple(phase.weight for phase in phases), tuple(_float(phase.mean) for phase in phases)
        )


class GeometricSpec(Kind[Count]):
    """Geometric on 1, 2, 3, ...: the number of turns when each is the last with probability 1/`mean`."""

    mean: Annotated[float, Quantity(units.NUMBER, low=1.0, high=1e9)]

    def _build(self) -> Distribution:
        return families.Geometric(self.mean)


class EmpiricalSpec(Kind[Q], Generic[Q]):
    """Measured values: from a file, written out (with weights, or each as likely), or as a table of quantiles.

    Numbers in a file carry no unit: `unit` tells it. Quantiles go from `0 %` to `100 %`.
    """

    file: str | None = None
    column: str | None = None
    unit: str | None = None
    values: tuple[Q, ...] | None = None
    weights: tuple[Weight, ...] | None = None
    quantiles: dict[str, Q] | None = None

    def _build(self) -> Distribution:
        source = self._given(("file",), ("values",), ("quantiles",))[0]
        for field, of in (("column", "file"), ("unit", "file"), ("weights", "values")):
            if getattr(self, field) is not None and of != source:
                raise SpecProblem((field,), f"goes with `{of}`; got `{source}`")
        if source == "file":
            return self._from_file(self.file or "")
        if source == "values":
            return self._from_values([_float(value) for value in some("values", self.values)])
        return self._from_quantiles(self.quantiles or {})

    def _from_file(self, file: str) -> Distribution:
        scale, quantity = self._scale(), self.quantity()
        try:
            numbers = read_samples(file, self.column, quantity.low / scale, isinstance(quantity, Whole))
            most = float(numbers.max()) * scale
            if most > min(quantity.high, 1e15 if isinstance(quantity, Whole) else quantity.dimension.high):
                raise ValueError(f"{file} holds a value that is too large: {most:g}")
        except ValueError as error:
            raise SpecProblem(("file",), str(error)) from error
        return Empirical(numbers * scale)

    def _scale(self) -> float:
        """Return what 1 in the file is, in base units."""
        quantity = self.quantity()
        if isinstance(quantity, Whole) or quantity.dimension is units.NUMBER:
            if self.unit is not None:
                raise SpecProblem(
                    ("unit",), f"must be left out, as the values are plain numbers; got {show(self.unit)}"
                )
            return 1.0
        if self.unit is None:
            example = quantity.dimension.example.lstrip("0123456789.kMG ")
            raise SpecProblem(
                ("file",), f"needs `unit` beside it, such as `unit: {example}`: numbers in a file carry none"
            )
        try:
            return units.parse(f"1 {self.unit}", quantity.dimension)
        except ValueError as error:
            raise SpecProblem(("unit",), str(error)) from error

    def _from_values(self, values: list[float]) -> Distribution:
        if self.weights is not None and len(self.weights) != len(values):
            message = f"must be one for each of the {len(values)} values; got {len(self.weights)}"
            raise SpecProblem(("weights",), message)
        return Empirical(values, self.weights)

    def _from_quantiles(self, quantiles: dict[str, Q]) -> Distribution:
        table: dict[float, float] = {}
        for name, value in quantiles.items():
            try:
                level = units.parse(name, units.SHARE)
            except ValueError as error:
                raise SpecProblem(("quantiles", name), str(error)) from error
            if level in table:
                raise SpecProblem(("quantiles", name), f"must be there once; got {100 * level:g} % again")
            table[level] = _float(value)
        levels = sorted(table)
        if len(levels) < 2 or (levels[0], levels[-1]) != (0.0, 1.0):
            raise SpecProblem(("quantiles",), "must have `0 %` and `100 %`, the least and the largest value")
        for before, after in pairwise(levels):
            if table[after] < table[before]:
                low, high = (f"{100 * level:g} %" for level in (before, after))
                got = f"{self._text(table[before])} at {low} and {self._text(table[after])} at {high}"
                raise SpecProblem(("quantiles",), f"must not fall as the share rises; got {got}")
        return QuantileTable(levels, [table[level] for level in levels])


class ShiftedBase(Kind[Q], Generic[Q]):
    """`by` more than `of`."""

    by: Q
    of: Any

    def _build(self) -> Distribution:
        of: AnyDraw = self.of
        return Shifted(_float(self.by), of.distribution)


class TruncatedBase(Kind[Q], Generic[Q]):
    """`of`, given that it lies from `low` to `high` (both inside): values outside are drawn again, not moved inside."""

    of: Any
    low: Q | None = None
    high: Q | None = None

    def _build(self) -> Distribution:
        if self.low is None and self.high is None:
            raise ValueError("needs `low`, `high` or both; got neither")
        low = -math.inf if self.low is None else _float(self.low)
        high = math.inf if self.high is None else _float(self.high)
        if not low < high:
            raise SpecProblem(("high",), f"`low < high` must hold; got {self._text(low)} and {self._text(high)}")
        of: AnyDraw = self.of
        try:
            return truncate(of.distribution, low, high)
        except ValueError as error:
            raise ValueError(f"`low` and `high` {error}") from error


def some(name: str, items: Sequence[T] | None) -> Sequence[T]:
    """Return the items of a field, which must not be empty. Not left to pydantic, which counts only items without a mistake."""
    if not items:
        raise SpecProblem((name,), "must have at least 1 item; got an empty list")
    return items


def _float(value: Any) -> float:
    """Return the number in a field of type Q, which at run time is always one."""
    return float(value)
