"""A law: the time of an operation as a function of its sizes, how well it is known, and where it comes from.

Leaves out: drawing from the residual in a run; `Draws` does that. Fitting; calibration does that.
Checked: tests/test_profile.py.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import model_validator

from ..engine import units
from ..engine.composites import QuantileTable
from ..engine.distributions import NumberDist
from ..engine.errors import did_you_mean, listed, show
from ..engine.random_variable import Distribution
from ..engine.spec import Count, Quantity, Spec, SpecProblem
from .forms import Feature, Form, Numbers
from .ops import Op, Options, Sizes

__all__ = ["HeldOut", "Law", "Measured", "Residual", "Timing", "widest"]

Error = Annotated[float, Quantity(units.NUMBER)]


class Residual(Spec):
    """Measured over predicted time, as a distribution of the ratio: quantiles `ratios` at `shares`, or a parametric `ratio`.

    `of: repeats` is how the same call differs from time to time: runs draw from it. `of: shapes` is how far off the law is
    for one size or another: it stays with a size, so runs do not draw it, and reports state it.
    """

    of: Literal["repeats", "shapes"]
    shares: Numbers = ()
    ratios: Numbers = ()
    ratio: NumberDist | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.ratio is None) == (not self.ratios):
            raise ValueError("must have either `shares` and `ratios`, or `ratio`")
        if self.ratio is None:
            shares, ratios = self.shares, self.ratios
            if len(shares) != len(ratios) or len(shares) < 2 or (shares[0], shares[-1]) != (0.0, 1.0):
                raise SpecProblem(("shares",), f"must go from 0 to 1, one for each of `ratios`; got {_told(shares)}")
            if any(b <= a for a, b in pairwise(shares)) or any(b < a for a, b in pairwise(ratios)) or ratios[0] < 0:
                raise SpecProblem(("ratios",), "must be >= 0 and not fall, at shares that rise")
        return self

    @property
    def distribution(self) -> Distribution:
        """The distribution of the ratio."""
        return QuantileTable(self.shares, self.ratios) if self.ratio is None else self.ratio.distribution


class HeldOut(Spec):
    """Relative errors |predicted / measured - 1| on what the fit did not see, as shares: 0.035 is 3.5 %."""

    split: str
    points: Count
    median: Error
    p95: Error


class Measured(Spec):
    """The points a law was fitted to: their sizes, the median seconds of each, and the 95 % interval of that median.

    Kept only of what coordsim measured itself; tables of others stay where they are.
    """

    sizes: dict[str, Numbers]
    seconds: Numbers
    low: Numbers = ()
    high: Numbers = ()

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        count = len(self.seconds)
        columns = {**self.sizes, "low": self.low or self.seconds, "high": self.high or self.seconds}
        for name, values in columns.items():
            if len(values) != count:
                raise ValueError(f"must have one `{name}` for each of the {count} seconds; got {len(values)}")
        if min(self.seconds, default=1.0) <= 0:
            raise ValueError(f"must be seconds > 0; got {min(self.seconds)}")
        return self


class Law(Spec):
    """A law with what is known of it.

    `over` is the range of each size in which it holds: least and largest. `interval` holds measured over predicted on the
    whole, the 95 % bootstrap interval of the median ratio on held-out points. `points` are the sizes measured, `repeats`
    the measurements in all, `doubts` what speaks against it. `source` names one of the profile's sources.
    """

    form: Form
    over: dict[str, Numbers] = {}
    source: str
    points: Count = 0
    repeats: Count = 0
    interval: Numbers | None = None
    held_out: tuple[HeldOut, ...] = ()
    residual: Residual | None = None
    measured: Measured | None = None
    doubts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rules(self) -> Self:
        for name, bounds in self.over.items():
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise SpecProblem(
                    ("over", name), f"must be the least and the largest size, such as `1 4096`; got {_told(bounds)}"
                )
        if self.interval is not None and (len(self.interval) != 2 or self.interval[0] > self.interval[1]):
            raise SpecProblem(("interval",), f"must be two numbers, such as `0.98 1.03`; got {_told(self.interval)}")
        return self

    @property
    def error(self) -> HeldOut | None:
        """The split that was held out with the largest p95; None where none was."""
        return max(self.held_out, key=lambda one: one.p95, default=None)

    def compile(self, op: Op, options: Options) -> Feature:
        """Return the seconds as a function of sizes. Raises ValueError where the form does not fit the operation."""
        for name in self.over:
            if name not in op.sizes:
                remedy = did_you_mean(name, op.sizes) or f"; it has {listed(op.sizes) or 'no sizes'}"
                raise SpecProblem(("over", name), f"`{op.name}` has no size `{name}`{remedy}")
        return self.form.compile(op, options)


class Timing:
    """A law ready to be asked, which remembers every size outside of its range.

    `outside` maps a size to the least and the largest value that lay beyond the range of the law.
    """

    __slots__ = ("_seconds", "law", "name", "op", "outside")

    def __init__(self, name: str, law: Law, op: Op, options: Options) -> None:
        self.name = name
        self.law = law
        self.op = op
        self.outside: dict[str, tuple[float, float]] = {}
        self._seconds = law.compile(op, options)

    def seconds(self, sizes: Mapping[str, float]) -> float:
        """Return the seconds of one call; a size outside of the law's range is noted, and the law goes on as its form does."""
        self.note(sizes)
        return float(self._seconds(sizes))

    def predict(self, sizes: Sizes) -> np.ndarray:
        """Return the seconds of many calls; `sizes` holds arrays of shape (calls,). Ranges are not looked at."""
        count = max((np.size(values) for values in sizes.values()), default=1)
        return np.broadcast_to(np.asarray(self._seconds(sizes), dtype=float), (count,))

    @property
    def noise(self) -> Distribution | None:
        """How repeated calls differ, as a factor; None where no repeats were measured."""
        residual = self.law.residual
        return residual.distribution if residual is not None and residual.of == "repeats" else None

    def note(self, sizes: Mapping[str, float]) -> None:
        """Remember the sizes that lie outside of the law's range."""
        for name, (low, high) in self.law.over.items():
            value = sizes[name]
            if not low <= value <= high:
                least, most = self.outside.get(name, (value, value))
                self.outside[name] = (min(least, value), max(most, value))

    def flags(self) -> list[str]:
        """Return a sentence for each size at which the law was asked outside of its range, and by how much.

        The factor is rounded up to one of a few, so that runs of one scenario say the same.
        """
        found = []
        for name, (least, most) in self.outside.items():
            low, high = self.law.over[name]
            beyond = [f"below it by up to {_factor(low, least)}"] if least < low else []
            beyond += [f"above it by up to {_factor(most, high)}"] if most > high else []
            found.append(
                f"{self.name} was asked beyond the {name} of {_span(low, high)} it was fitted on: {', '.join(beyond)}"
            )
        return found


def widest(sentences: Iterable[str]) -> list[str]:
    """Return the sentences of several runs in order, of those about one law and size the one that goes furthest beyond it.

    >>> widest(["gemm: above it by up to 2 times", "other", "gemm: above it by up to 10 times"])
    ['gemm: above it by up to 10 times', 'other']
    """
    found: dict[str, tuple[float, str]] = {}
    for sentence in sentences:
        what = re.split(r": (?=below it|above it)", sentence, maxsplit=1)[0]
        factors = re.findall(r"by up to (more than )?([\d.]+) times", sentence)
        beyond = max((float(factor) + bool(more) for more, factor in factors), default=0.0)
        if what not in found or beyond > found[what][0]:
            found[what] = (beyond, sentence)
    return [sentence for _, sentence in found.values()]


def _factor(large: float, small: float) -> str:
    """Return how many times larger one is, rounded up: `2 times`."""
    ratio = large / small if small > 0 else math.inf
    return next((f"{factor:g} times" for factor in _FACTORS if ratio <= factor), f"more than {_FACTORS[-1]:g} times")


_FACTORS = (1.2, 1.5, 2.0, 5.0, 10.0, 100.0)


def _told(numbers: Sequence[float]) -> str:
    return show(" ".join(f"{number:g}" for number in numbers))


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
