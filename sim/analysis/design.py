"""Designs of studies: which points of the factors' space are run.

A factor has values, or a range of numbers with a unit. A point holds a value of each factor, and is a pure function of the factors,
the number of points and the seed: a sample grown from 16 to 32 points (random, Sobol') begins with the same 16.

Leaves out: what a factor is in a scenario; adaptive designs, which look at answers first.
Checked: tests/test_design.py.
Source: McKay, Beckman and Conover, Technometrics 21(2), 1979 (Latin hypercube); Sobol', USSR Comput. Math. Math. Phys. 7(4), 1967, with the
linear scrambling of Matousek, J. Complexity 14(4), 1998, as scipy.stats.qmc has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..engine import units
from ..engine.errors import show
from ..engine.units import Dimension

__all__ = [
    "DESIGNS",
    "SAMPLED",
    "Design",
    "DesignError",
    "Range",
    "amount_of",
    "design_points",
    "doubts_of",
    "range_of",
]

Design = Literal["grid", "list", "zip", "random", "latin-hypercube", "sobol"]
Scale = Literal["linear", "log"]

DESIGNS: tuple[Design, ...] = get_args(Design)
SAMPLED: tuple[Design, ...] = ("random", "latin-hypercube", "sobol")
POINTS = 32  # of a sample, unless asked for
STEPS = 5  # of a range in a grid, unless asked for
FEW = 12  # whole numbers of a range that a grid takes all of
DIGITS = 6  # significant digits of a drawn amount: what is shown is what was run
# A number without a unit is tried first; a share is what carries a per cent.
_DIMENSIONS = (
    units.NUMBER, units.DURATION, units.SIZE, units.TOKENS, units.RATE, units.BANDWIDTH, units.SHARE, units.MONEY, units.TOKEN_RATE,
    units.FLOP_RATE, units.TIME_PER_TOKEN, units.TIME_PER_BYTE, units.BYTES_PER_TOKEN, units.MONEY_PER_TOKEN, units.MONEY_RATE,
)  # fmt: skip
_FIELDS = ("from", "to", "scale", "whole", "steps")

Value = Any
"""A value of YAML: what is put at the factor's path."""


class DesignError(ValueError):
    """A design that cannot be: the rule, and what was got."""


def amount_of(value: object) -> tuple[float, Dimension] | None:
    """Return what a value is in base units and its dimension; None for what is no amount.

    >>> amount_of("250 ms")[0], amount_of(4)[0], amount_of("agent-native")
    (0.25, 4.0, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    for dimension in _DIMENSIONS:
        try:
            return float(units.parse(value, dimension)), dimension
        except ValueError:
            continue
    return None


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, in base units of `dimension`, both among them; `whole` ones only, or any."""

    low: float
    high: float
    dimension: Dimension
    scale: Scale = "linear"
    whole: bool = False
    steps: int | None = None

    def at(self, share: float) -> Value:
        """Return the value at a share of the way, 0 to 1, as YAML writes it; whole numbers have equal shares of it."""
        low, high = self.low, self.high + (1 if self.whole else 0)
        if self.scale == "log":
            amount = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            amount = low + share * (high - low)
        if self.whole:
            return min(max(math.floor(amount), int(self.low)), int(self.high))
        return self.written(min(max(float(f"{amount:.{DIGITS}g}"), self.low), self.high))

    def written(self, amount: float) -> Value:
        """Return an amount as YAML writes it, with its unit."""
        return amount if self.dimension is units.NUMBER else units.exact(amount, self.dimension)

    def ladder(self, steps: int | None = None) -> tuple[Value, ...]:
        """Return values evenly spaced along the scale, both ends among them: `steps`, or as many as the range says."""
        count = self.steps or steps
        if self.whole:
            low, high = int(self.low), int(self.high)
            if count is None and high - low < FEW:
                return tuple(range(low, high + 1))
            space = np.geomspace if self.scale == "log" else np.linspace
            return tuple(int(one) for one in np.unique(np.round(space(low, high, count or STEPS))))
        space = np.geomspace if self.scale == "log" else np.linspace
        inner = [float(f"{one:.{DIGITS}g}") for one in space(self.low, self.high, count or STEPS)[1:-1]]
        return tuple(self.written(one) for one in (self.low, *inner, self.high))

    def to_data(self) -> dict[str, Any]:
        """Return what `range_of` reads."""
        ends = [int(one) if self.whole else self.written(one) for one in (self.low, self.high)]
        data = {"from": ends[0], "to": ends[1], "scale": self.scale, "whole": self.whole}
        return data if self.steps is None else {**data, "steps": self.steps}


def range_of(data: Mapping[str, Any]) -> Range:
    """Return the range that `{from: 100 ms, to: 1 s, scale: log}` is.

    `whole` is left out for whole numbers at both ends, which then are counts. Raises DesignError with the rule.
    """
    unknown = [name for name in data if name not in _FIELDS]
    missing = [name for name in ("from", "to") if name not in data]
    if unknown or missing:
        told = f"has no field `{unknown[0]}`" if unknown else f"lacks `{missing[0]}`"
        raise DesignError(f"a range is such as {{from: 100 ms, to: 1 s, scale: log, steps: 5}}, and {told}")
    low, high, dimension = _ends(data["from"], data["to"])
    scale, steps = data.get("scale", "linear"), data.get("steps")
    counts = all(isinstance(data[name], int) for name in ("from", "to"))
    whole = data.get("whole", counts)
    if scale not in get_args(Scale):
        raise DesignError(f"`scale` must be `linear` or `log`; got {show(scale)}")
    if not isinstance(whole, bool):
        raise DesignError(f"`whole` must be true or false; got {show(whole)}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 2):
        raise DesignError(f"`steps` must be a whole number >= 2; got {show(steps)}")
    if scale == "log" and low <= 0:
        raise DesignError(f"a range with `scale: log` must begin above 0; got {show(data['from'])}")
    if whole and (dimension is not units.NUMBER or low != int(low) or high != int(high)):
        raise DesignError(
            f"`whole` goes with whole numbers at both ends; got {show(data['from'])} and {show(data['to'])}"
        )
    return Range(low, high, dimension, scale, whole, steps)


def _ends(first: object, last: object) -> tuple[float, float, Dimension]:
    for dimension in _DIMENSIONS:
        try:
            low, high = (float(units.parse(one, dimension)) for one in (first, last))
        except ValueError:
            continue
        if not low < high:
            raise DesignError(f"`from` must be below `to`; got {show(first)} and {show(last)}")
        return low, high, dimension
    raise DesignError(
        f"`from` and `to` must be amounts of one kind, such as 100 ms and 1 s; got {show(first)} and {show(last)}"
    )


Factor = Sequence[Value] | Range
"""What a factor may be: any of some values, or a range."""


def design_points(design: Design, factors: Sequence[Factor], points: int | None, seed: int) -> list[tuple[Value, ...]]:
    """Return the points, each with a value of every factor, in order.

    `points` is the number of a sample (32 unless given), and in a grid or a zip the number of steps of each range that has no `steps`. A list of
    values is sampled as equal shares. Raises DesignError where the factors do not fit the design; `list` is for the caller.
    """
    if not factors:
        raise DesignError("there is no factor to vary")
    if design in SAMPLED:
        shares = _sample(design, len(factors), points or POINTS, seed)
        return [tuple(_at(one, float(share)) for one, share in zip(factors, row, strict=True)) for row in shares]
    levels = [one.ladder(points) if isinstance(one, Range) else tuple(one) for one in factors]
    if design == "grid":
        return list(product(*levels))
    if design == "zip":
        counts = [len(one) for one in levels]
        if len(set(counts)) > 1:
            raise DesignError(f"a zip takes as many values of every factor; got {', '.join(map(str, counts))}")
        return list(zip(*levels, strict=True))
    raise DesignError(f"`{design}` is no design over factors; there are {', '.join(DESIGNS)}")


def size_of(design: Design, factors: Sequence[Factor], points: int | None) -> int:
    """Return how many points there will be, without making them."""
    if design in SAMPLED:
        return points or POINTS
    counts = [len(one.ladder(points) if isinstance(one, Range) else one) for one in factors]
    return math.prod(counts) if design == "grid" else max(counts, default=0)


def doubts_of(design: Design, points: int | None) -> list[str]:
    """Return what is doubtful about a design: a Sobol' sample that is no power of two is not balanced."""
    count = points or POINTS
    if design != "sobol" or count & (count - 1) == 0:
        return []
    near = 1 << (count.bit_length() - 1)
    told = f"a Sobol' sample of {count} points is not balanced, as {count} is no power of two"
    return [f"{told}; try `--points {near}` or `--points {2 * near}`"]


def _at(factor: Factor, share: float) -> Value:
    if isinstance(factor, Range):
        return factor.at(share)
    return factor[min(int(share * len(factor)), len(factor) - 1)]


def _sample(design: Design, factors: int, points: int, seed: int) -> npt.NDArray[np.float64]:
    """Return shares from 0 to 1, shape (points, factors)."""
    # The name of the design in the entropy: no two designs, and no draw of a run, share their numbers.
    random = np.random.default_rng([seed, *design.encode()])
    if design == "random":
        return random.random((points, factors))
    from scipy.stats import qmc

    if design == "latin-hypercube":
        return np.asarray(qmc.LatinHypercube(factors, seed=random).random(points))
    # Of the next power of two, for which scipy has no warning; the first points are the same.
    return np.asarray(qmc.Sobol(factors, seed=random).random_base2((points - 1).bit_length())[:points])
