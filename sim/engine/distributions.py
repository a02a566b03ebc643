"""Distributions as YAML writes them: `latency: {lognormal: {median: 350 ms, p95: 1.4 s}}`, or `350 ms` for a constant.

`DurationDist`, `TokensDist`, `SizeDist` and `NumberDist` are types of fields for distributions of quantities, `CountDist` for
those of whole numbers. Each is checked when it is read, and then knows its moments, quantiles and samples.

Leaves out: correlated draws, and processes in time (the workload has those). What may be written for each kind is in `kinds`,
the mathematics in `families` and `composites`.
Checked: tests/test_distributions.py.
"""

from functools import cached_property
from typing import Any, Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.random import Generator
from pydantic import model_validator

from .composites import Mixture
from .draws import Sampler
from .families import Constant
from .kinds import (
    EmpiricalSpec,
    ExponentialSpec,
    Findable,
    GammaSpec,
    GeometricSpec,
    HyperexponentialSpec,
    LognormalSpec,
    Number,
    ParetoSpec,
    ShiftedBase,
    TruncatedBase,
    UniformSpec,
    WeibullSpec,
    Weight,
    some,
)
from .random_variable import Distribution
from .spec import Count, Duration, OneOf, Size, Spec, Tokens

__all__ = ["AnyDraw", "CountDist", "CountDraw", "Draw", "DurationDist", "NumberDist", "SizeDist", "TokensDist"]

_DEEPEST = 10  # distributions in each other; every level costs time in every sample

Q = TypeVar("Q")


class AnyDraw(Findable, OneOf):
    """A distribution of any quantity, or of whole numbers: values in base units, as floats."""

    @classmethod
    def from_scalar(cls, value: object) -> dict[str, Any] | None:
        """A bare value is a constant."""
        return {"constant": value}

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution itself, for work with arrays."""
        kind, value = self.chosen
        if kind == "constant":
            return Constant(float(value))
        if kind == "mixture":
            parts = some("mixture", value)
            return Mixture(tuple(part.weight for part in parts), tuple(part.of.distribution for part in parts))
        built: Distribution = value.distribution
        return built

    @property
    def mean(self) -> float:
        """The mean; may be infinite."""
        return self.distribution.mean

    @property
    def variance(self) -> float:
        """The variance; may be infinite."""
        return self.distribution.variance

    @property
    def cv(self) -> float:
        """The coefficient of variation: standard deviation over mean."""
        return self.distribution.cv

    @property
    def lower_bound(self) -> float:
        """The smallest value, or the greatest number below all values."""
        return self.distribution.lower_bound

    @property
    def upper_bound(self) -> float:
        """The largest value, or the smallest number above all values; may be infinite."""
        return self.distribution.upper_bound

    @property
    def is_constant(self) -> bool:
        """Whether only one value can occur."""
        return self.distribution.is_constant

    @property
    def sampler(self) -> Sampler | float:
        """What `Draws.stream` takes: the constant, or `sample`."""
        return self.lower_bound if self.is_constant else self.distribution.sample

    def sample(self, rng: Generator, n: int) -> np.ndarray:
        """Return n independent values."""
        return self.distribution.sample(rng, n)

    def cdf(self, x: float) -> float:
        """Return P(X <= x)."""
        return float(self.distribution.cdf(x))

    def quantile(self, p: float) -> float:
        """Return the smallest x with cdf(x) >= p; the bounds for p = 0 and 1."""
        return float(self.distribution.quantile(p))

    def doubts(self) -> list[str]:
        """Return what speaks against trusting averages over this distribution, one sentence each."""
        return list(dict.fromkeys(self.distribution.doubts()))

    @cached_property
    def depth(self) -> int:
        """How many distributions lie in each other."""
        kind, value = self.chosen
        inner = [part.of for part in value] if kind == "mixture" else [value.of] if hasattr(value, "of") else []
        return 1 + max((draw.depth for draw in inner), default=0)

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        if self.depth > _DEEPEST:
            raise ValueError(f"at most {_DEEPEST} distributions may lie in each other; got {self.depth}")
        _ = self.distribution  # raises now, not in the middle of a run
        return self


class PartSpec(Findable, Spec, Generic[Q]):
    """A part of a mixture: `weight` is any positive number, relative to the other parts."""

    weight: Weight
    of: "Draw[Q]"


class ShiftedSpec(ShiftedBase[Q], Generic[Q]):
    """`by` more than `of`."""

    of: "Draw[Q]"


class TruncatedSpec(TruncatedBase[Q], Generic[Q]):
    """`of`, given that it lies from `low` to `high`."""

    of: "Draw[Q]"


class Draw(AnyDraw, Generic[Q]):
    """A distribution of the quantity Q."""

    constant: Q | None = None
    uniform: UniformSpec[Q] | None = None
    exponential: ExponentialSpec[Q] | None = None
    lognormal: LognormalSpec[Q] | None = None
    gamma: GammaSpec[Q] | None = None
    weibull: WeibullSpec[Q] | None = None
    pareto: ParetoSpec[Q] | None = None
    hyperexponential: HyperexponentialSpec[Q] | None = None
    empirical: EmpiricalSpec[Q] | None = None
    mixture: tuple[PartSpec[Q], ...] | None = None
    shifted: ShiftedSpec[Q] | None = None
    truncated: TruncatedSpec[Q] | None = None

    def __class_getitem__(cls, of: Any) -> Any:
        """Make the class for a quantity, and tell its parts that it lies in them, where pydantic puts a mere reference."""
        made: Any = super().__class_getitem__(of)
        inner: tuple[Any, ...] = (PartSpec, ShiftedSpec, TruncatedSpec)
        if isinstance(made, type):  # and not such a reference itself, asked for by one of the parts
            for kind in inner:
                kind[of].model_fields["of"].annotation = made
        return made


class CountPartSpec(Spec):
    """A part of a mixture of counts."""

    weight: Weight
    of: "CountDraw"


class CountShiftedSpec(ShiftedBase[Count]):
    """`by` more than `of`, in whole numbers."""

    of: "CountDraw"


class CountTruncatedSpec(TruncatedBase[Count]):
    """`of`, given that it lies from `low` to `high`, both possible."""

    of: "CountDraw"


class CountDraw(AnyDraw):
    """A distribution of whole numbers from 0; samples are floats without a fraction."""

    constant: Count | None = None
    uniform: UniformSpec[Count] | None = None
    geometric: GeometricSpec | None = None
    empirical: EmpiricalSpec[Count] | None = None
    mixture: tuple[CountPartSpec, ...] | None = None
    shifted: CountShiftedSpec | None = None
    truncated: CountTruncatedSpec | None = None


DurationDist: TypeAlias = Draw[Duration]
TokensDist: TypeAlias = Draw[Tokens]
SizeDist: TypeAlias = Draw[Size]
NumberDist: TypeAlias = Draw[Number]
CountDist: TypeAlias = CountDraw
