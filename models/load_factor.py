"""The same workload, more of it: changes that make tasks arrive a factor as often, over as long a time.

Leaves out: other changes in what tasks ask for.
Checked: tests/test_faults_command.py, tests/test_levers.py.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..sim.engine import units
from ..sim.engine.spec import Quantity
from ..sim.engine.units import Dimension
from .variants import Change

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["amounts_times", "load_times"]

_RATES = ("poisson", "deterministic", "rate", "rates", "from", "to")


def load_times(scenario: "Scenario", factor: float) -> list[Change]:
    """Return what makes tasks arrive `factor` times as often: their rates, users, or how fast a trace is played.

    A number of tasks grows with it, so that a run is as long, and what comes at set times comes.
    """
    from .lever_parts import scaled  # which itself needs this module

    data = scenario.workload.arrivals.to_data()
    (name, value), *_ = data.items()
    if factor == 1:
        return []
    if name == "trace":
        scale = float(units.parse(value.get("time_scale", 1.0), units.NUMBER)) * factor
        return [("workload.arrivals", json.dumps({name: value | {"time_scale": scale}}))]
    if name == "closed":
        faster: dict[str, Any] = {name: value | {"users": max(1, round(value["users"] * factor))}}
    elif name == "renewal":
        # Numbers in a file carry no unit: a distribution is scaled as such, not by what is written with one.
        between = scaled(scenario.workload.arrivals.chosen[1].interarrival, 1 / factor, Quantity(units.DURATION))
        faster = {name: value | {"interarrival": between}}
    else:
        faster = amounts_times(data, factor, units.RATE, _RATES)
    changes = [("workload.arrivals", json.dumps(faster))]
    tasks = scenario.workload.tasks
    if tasks is not None:
        changes.append(("workload.tasks", str(max(1, round(tasks * factor)))))
    return changes


def amounts_times(
    data: Any, factor: float, dimension: Dimension, keys: Sequence[str] | None = None, here: bool = False
) -> Any:
    """Return data with every amount of a dimension multiplied: those under `keys`, or all that are written with a unit."""
    if isinstance(data, dict):
        return {
            key: amounts_times(one, factor, dimension, keys, keys is None or key in keys) for key, one in data.items()
        }
    if isinstance(data, list):
        return [amounts_times(one, factor, dimension, keys, here) for one in data]
    if not (isinstance(data, str) if keys is None else here and isinstance(data, str | int | float)):
        return data
    try:
        amount = float(units.parse(data, dimension))
    except ValueError:
        return data
    return f"{amount * factor!r} {'/ s' if dimension is units.RATE else 's'}"
