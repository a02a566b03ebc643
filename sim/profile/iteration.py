"""A measured iteration: what an engine's parts were seen to take on a device, in tables, for one model on one degree of parallelism.

It stands in a profile beside the laws. Laws say what a kernel of any size takes; a measured iteration says what this engine's
kernels took for this model, which is closer where it applies and says nothing about another model.

Leaves out: the host's time between iterations; how a table was taken.
Checked: tests/test_measured_steps.py.
"""

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import model_validator

from ..engine import units
from ..engine.errors import show
from ..engine.spec import Bandwidth, Duration, PositiveCount, Quantity, Share, Size, Spec, SpecProblem
from .forms import Numbers

__all__ = ["Attention", "Collective", "Curve", "Experts", "MeasuredIteration", "Skew", "Table"]

_COUNT = Annotated[float, Quantity(units.NUMBER)]


class Curve(Spec):
    """A part of an iteration: `seconds` of one call at rising `sizes`, and how often it is called, `count`."""

    sizes: Numbers
    seconds: Numbers
    count: PositiveCount = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _rising(self.sizes, ("sizes",))
        if len(self.seconds) != len(self.sizes) or min(self.seconds) <= 0.0:
            raise SpecProblem(("seconds",), f"must be > 0, one for each of the {len(self.sizes)} `sizes`")
        return self


class Table(Spec):
    """Seconds over several sizes: `axes` rise, and `seconds` go through them with the last axis the fastest; 0 is a gap."""

    axes: dict[str, Numbers]
    seconds: Numbers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, sizes in self.axes.items():
            _rising(sizes, ("axes", name))
        cells = math.prod(len(sizes) for sizes in self.axes.values())
        if len(self.seconds) != cells:
            raise SpecProblem(("seconds",), f"must be {cells}, one for each cell; got {len(self.seconds)}")
        if min(self.seconds) < 0.0 or max(self.seconds) == 0.0:
            raise SpecProblem(("seconds",), "must be > 0, or 0 for a cell that was not measured")
        return self

    def filled(self) -> np.ndarray:
        """Return the seconds as an array over the axes, with the gaps closed.

        A gap between measured cells is interpolated along the axis on which they stand closest together (as a ratio of sizes).
        A gap at an edge goes on as the axis did before it: in proportion to the change of its two nearest cells.
        """
        shape = tuple(len(sizes) for sizes in self.axes.values())
        values = np.array(self.seconds, dtype=float).reshape(shape)
        values[values == 0.0] = np.nan
        axes = [np.array(sizes, dtype=float) for sizes in self.axes.values()]
        while np.isnan(values).any():
            before = int(np.isnan(values).sum())
            values = _between(values, axes)
            if int(np.isnan(values).sum()) == before:
                values = _beyond(values, axes)
        return values


class Attention(Spec):
    """Attention of one layer, called `count` times in an iteration.

    `decode` is over the number of decoding sequences and their length, `prefill` over a chunk's new and cached tokens, and
    `mixed` over all four: kernels of both kinds in one call are not the sum of two calls.
    """

    count: PositiveCount
    decode: Table
    prefill: Table
    mixed: Table | None = None


class Experts(Spec):
    """The experts of one layer, on one of `ranks` that share them: seconds over tokens and over experts touched on this rank.

    `tokens` of the table are those of all `engines` (data-parallel, each with tokens of its own) that send theirs here. `experts`
    are those of the layer on all ranks, of which a token goes to `top_k`.
    """

    count: PositiveCount
    table: Table
    experts: PositiveCount
    top_k: PositiveCount
    ranks: PositiveCount = 1
    engines: PositiveCount = 1

    def touched(self, tokens: float) -> float:
        """Return the expected experts of a rank that see a token, when tokens spread evenly."""
        return float(self.experts / self.ranks * (1.0 - (1.0 - self.top_k / self.experts) ** tokens))


class Skew(Spec):
    """How far the longest sequence sets the pace of decode attention: t = t(mean) + share x (t(longest) - t(mean)).

    `alone` is the share where all sequences decode, `mixed` where a prefill is in the iteration, at these `decodes`.
    """

    decodes: Numbers
    alone: Numbers
    mixed: Numbers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _rising(self.decodes, ("decodes",), least=1)
        for name in ("alone", "mixed"):
            shares = getattr(self, name)
            if len(shares) != len(self.decodes) or min(shares) < 0.0 or max(shares) > 1.0:
                raise SpecProblem((name,), f"must be from 0 to 1, one for each of the {len(self.decodes)} `decodes`")
        return self


class Collective(Spec):
    """Communication between ranks: `count` times in an iteration, `overhead` + tokens x `bytes_per_token` / `bandwidth` each."""

    count: PositiveCount
    bytes_per_token: Size
    overhead: Duration
    bandwidth: Bandwidth
    quality: Literal["measured", "imported", "derived", "assumed"] = "assumed"
    note: str = ""


class MeasuredIteration(Spec):
    """One engine's iteration for one model, on one rank of `tensor_parallel`.

    `dense` parts depend on the tokens in the iteration, `per_sequence` parts on the sequences. `launch` is how the engine
    submits kernels in service. `source` names one of the profile's sources. `utilization` is the memory share in use there.
    """

    model: str
    engine: str = ""
    launch: Literal["eager", "graph"] = "graph"
    tensor_parallel: PositiveCount = 1
    dtype: str = "bf16"
    layers: PositiveCount
    dense: dict[str, Curve]
    per_sequence: dict[str, Curve] = {}
    attention: Attention
    experts: Experts | None = None
    skew: Skew | None = None
    collectives: dict[str, Collective] = {}
    utilization: Share | None = None
    source: str

    def describe(self) -> dict[str, Any]:
        """Return what a table of iterations shows, as plain data."""
        return {
            "model": self.model,
            "engine": self.engine,
            "launch": self.launch,
            "tensor parallel": self.tensor_parallel,
            "dtype": self.dtype,
            "layers": self.layers,
            "parts": len(self.dense) + len(self.per_sequence) + 1 + (self.experts is not None),
            "skew": self.skew is not None,
            "source": self.source,
        }


def _rising(sizes: tuple[float, ...], path: tuple[str, ...], least: int = 2) -> None:
    if len(sizes) < least or sizes[0] < 0.0 or any(after <= before for before, after in pairwise(sizes)):
        raise SpecProblem(path, f"must be {least} or more numbers >= 0 that rise; got {show(list(sizes)[:6])}")


def _between(values: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    """Return the array with each gap that lies between two cells interpolated along the axis where they are closest."""
    best = np.full(values.shape, np.inf)
    found = values.copy()
    gaps = np.isnan(values)
    for number, sizes in enumerate(axes):
        low, high, inside = _neighbours(values, number)
        apart = np.where(inside, np.log(np.maximum(sizes[high], 1.0) / np.maximum(sizes[low], 0.5)), np.inf)
        place = np.moveaxis(
            np.broadcast_to(sizes, (*values.shape[:number], *values.shape[number + 1 :], len(sizes))), -1, number
        )
        width = np.where(sizes[high] > sizes[low], sizes[high] - sizes[low], 1.0)
        weight = (place - sizes[low]) / width
        below, above = np.take_along_axis(values, low, number), np.take_along_axis(values, high, number)
        better = gaps & inside & (apart < best)
        found = np.where(better, below + weight * (above - below), found)
        best = np.where(better, apart, best)
    return found


def _beyond(values: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    """Return the array with the gaps at its edges continued from the two nearest cells of the last axis that has them."""
    for number in reversed(range(values.ndim)):
        lines = np.moveaxis(values.copy(), number, -1)
        flat = lines.reshape(-1, lines.shape[-1])
        changed = False
        for line in flat:
            known = np.flatnonzero(~np.isnan(line))
            if not 0 < len(known) < len(line):
                continue
            changed = True
            sizes = axes[number]
            for place in np.flatnonzero(np.isnan(line)):
                line[place] = _continued(sizes, line, known, int(place))
        if changed:
            return np.moveaxis(flat.reshape(lines.shape), -1, number)
    raise ValueError("a table needs a measured cell")  # its check sees to that


def _continued(sizes: np.ndarray, line: np.ndarray, known: np.ndarray, place: int) -> float:
    """Return what a line goes on with: past its end as steeply as at its end, before its start as it starts."""
    if place < known[0] or len(known) == 1:
        return float(line[known[0] if place < known[0] else known[-1]])
    last, before = known[-1], known[-2]
    slope = max(0.0, (line[last] - line[before]) / (sizes[last] - sizes[before]))
    return float(line[last] + slope * (sizes[place] - sizes[last]))


def _neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each cell the next measured places below and above it on an axis, and whether there are both."""
    size = values.shape[axis]
    shape = [1] * values.ndim
    shape[axis] = size
    places = np.arange(size).reshape(shape)
    known = ~np.isnan(values)
    low = np.maximum.accumulate(np.where(known, places, -1), axis=axis)
    high = np.flip(np.minimum.accumulate(np.flip(np.where(known, places, size), axis), axis=axis), axis)
    inside = (low >= 0) & (high < size)
    return np.where(inside, low, 0), np.where(inside, high, 0), inside
