"""What levers change: one amount, whole number, distribution, serializer, or the load, and how each is multiplied.

Leaves out: which of them a scenario has (`levers`).
Checked: tests/test_levers.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..sim.engine import units
from ..sim.engine.composites import Empirical
from ..sim.engine.distributions import AnyDraw
from ..sim.engine.spec import Quantity, Spec
from ..sim.engine.units import Dimension
from .load_factor import load_times
from .serializer import Law, Serializer

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["CodecPart", "DrawPart", "LoadPart", "NumberPart", "Part", "WholePart", "scaled"]

_AMOUNTS = ("constant", "low", "high", "mean", "median", "p95", "scale", "minimum", "by")


class Part(Protocol):
    """One thing that is multiplied."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def amount(self) -> float:
        """What it is, in base units: its mean, for a distribution."""

    @property
    def dimension(self) -> Dimension | None:
        """What it is an amount of; None for a plain count or several amounts."""

    def reach(self, factor: float) -> float:
        """Return the nearest factor that can be had; 1 where there is none."""

    def text(self, factor: float) -> str:
        """Return what it is at a factor, for reading."""

    def changes(self, factor: float) -> list[tuple[str, str]]:
        """Return the changes (path, YAML) that multiply it."""


@dataclass(frozen=True)
class NumberPart:
    """An amount with a unit, or a share. It is written with all of the `parent` that is given."""

    path: str
    amount: float
    quantity: Quantity
    parent: Spec | None = None

    @property
    def dimension(self) -> Dimension | None:  # noqa: D102
        return self.quantity.dimension

    def reach(self, factor: float) -> float:  # noqa: D102
        most = min(self.quantity.high, self.quantity.dimension.high)
        return min(max(factor, self.quantity.low / self.amount), most / self.amount)

    def text(self, factor: float) -> str:  # noqa: D102
        return units.format(self.amount * factor, self.quantity.dimension, 4)

    def changes(self, factor: float) -> list[tuple[str, str]]:  # noqa: D102
        written = self.quantity.write(self.amount * factor)
        if self.parent is None:
            return [(self.path, json.dumps(written))]
        outer, _, field = self.path.rpartition(".")
        return [(outer, json.dumps(self.parent.to_data() | {field: written}))]


@dataclass(frozen=True)
class WholePart:
    """A whole number, which moves by one at least."""

    path: str
    value: int
    least: int
    dimension: None = None

    @property
    def amount(self) -> float:  # noqa: D102
        return float(self.value)

    def reach(self, factor: float) -> float:  # noqa: D102
        if factor == 1:
            return 1.0
        moved = round(self.value * factor)
        if moved == self.value:
            moved += 1 if factor > 1 else -1
        return 1.0 if moved < max(self.least, 1) else moved / self.value

    def text(self, factor: float) -> str:  # noqa: D102
        return str(round(self.value * factor))

    def changes(self, factor: float) -> list[tuple[str, str]]:  # noqa: D102
        return [(self.path, self.text(factor))]


@dataclass(frozen=True)
class DrawPart:
    """A distribution of an amount; what is told of it is its mean, or its median where that is infinite."""

    path: str
    draw: AnyDraw
    quantity: Quantity

    @property
    def amount(self) -> float:  # noqa: D102
        return self.draw.mean if math.isfinite(self.draw.mean) else self.draw.quantile(0.5)

    @property
    def dimension(self) -> Dimension | None:  # noqa: D102
        return self.quantity.dimension

    def reach(self, factor: float) -> float:  # noqa: D102
        return factor

    def text(self, factor: float) -> str:  # noqa: D102
        return units.format(self.amount * factor, self.quantity.dimension, 4)

    def changes(self, factor: float) -> list[tuple[str, str]]:  # noqa: D102
        return [(self.path, json.dumps(scaled(self.draw, factor, self.quantity)))]


@dataclass(frozen=True)
class CodecPart:
    """A serializer that is there by default: the times of its laws."""

    path: str
    codec: Serializer
    amount: float = 1.0
    dimension: None = None

    def reach(self, factor: float) -> float:  # noqa: D102
        return factor

    def text(self, factor: float) -> str:  # noqa: D102
        return "as it is" if factor == 1 else f"x {factor:.4g}"

    def changes(self, factor: float) -> list[tuple[str, str]]:  # noqa: D102
        def times(law: Law) -> dict[str, Any]:
            bandwidth = None if law.bandwidth is None else law.bandwidth / factor
            return law.model_copy(update={"overhead": law.overhead * factor, "bandwidth": bandwidth}).to_data()

        codec = self.codec
        data = {"encode": times(codec.encode), "decode": times(codec.decode), "expansion": codec.expansion}
        name = self.path.partition(".")[2]
        return [(f"serializers.{name}", json.dumps(data))]


@dataclass(frozen=True)
class LoadPart:
    """How often tasks come: the same tasks, sooner, at a factor above 1."""

    scenario: Scenario
    amount: float
    dimension: Dimension | None
    path: str = "workload.arrivals"

    @classmethod
    def of(cls, scenario: Scenario) -> LoadPart:
        """Return the load of a scenario."""
        kind, value = scenario.workload.arrivals.chosen
        rate = value if kind in ("poisson", "deterministic") else getattr(value, "rate", None)
        return cls(scenario, float(rate) if rate else 1.0, units.RATE if rate else None)

    def reach(self, factor: float) -> float:  # noqa: D102
        kind, value = self.scenario.workload.arrivals.chosen
        return WholePart(self.path, value.users, 1).reach(factor) if kind == "closed" else factor

    def text(self, factor: float) -> str:  # noqa: D102
        kind, value = self.scenario.workload.arrivals.chosen
        if kind == "closed":
            return f"{max(1, round(value.users * factor))} users"
        if self.dimension is None:
            return "as it is" if factor == 1 else f"x {factor:.4g}"
        return units.format(self.amount * factor, self.dimension, 4)

    def changes(self, factor: float) -> list[tuple[str, str]]:  # noqa: D102
        # As many tasks as before: pairs are then of the same tasks.
        return [one for one in load_times(self.scenario, factor) if one[0] != "workload.tasks"]


def scaled(draw: AnyDraw, factor: float, quantity: Quantity) -> dict[str, Any]:
    """Return a distribution times `factor` > 0, as YAML would hold it: every parameter that is an amount is multiplied.

    Values that a file holds are written out, each with how often it comes.
    """
    data = draw.to_data()
    ((kind, value),) = data.items()
    inner = draw.chosen[1]
    if kind == "constant":
        return {kind: _times(value, factor, quantity)}
    if kind == "mixture":
        return {kind: [one.to_data() | {"of": scaled(one.of, factor, quantity)} for one in inner]}
    if kind == "empirical":
        return {kind: _empirical(inner.distribution, value, factor, quantity)}
    changed = {name: _times(one, factor, quantity) if name in _AMOUNTS else one for name, one in value.items()}
    if "of" in value:
        changed["of"] = scaled(inner.of, factor, quantity)
    if "phases" in value:
        changed["phases"] = [one | {"mean": _times(one["mean"], factor, quantity)} for one in value["phases"]]
    return {kind: changed}


def _times(written: Any, factor: float, quantity: Quantity) -> Any:
    return quantity.write(units.parse(written, quantity.dimension) * factor)


def _empirical(of: Any, value: Mapping[str, Any], factor: float, quantity: Quantity) -> dict[str, Any]:
    if "quantiles" in value:
        return {"quantiles": {level: _times(one, factor, quantity) for level, one in value["quantiles"].items()}}
    if "values" in value:
        return dict(value) | {"values": [_times(one, factor, quantity) for one in value["values"]]}
    assert isinstance(of, Empirical)
    counts = [float(round(share * of.count)) for share in of.shares]
    return {"values": [quantity.write(float(one) * factor) for one in of.values], "weights": counts}
