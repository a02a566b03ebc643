"""Configurations that nothing was fitted to, drawn by a seed so that together they cover the range of every factor.

Each factor has its own order: of few values all come up as evenly as can be, a range is cut into as many steps as there are configurations
(Latin hypercube). One in three has Poisson arrivals, at rates that keep the cores between 30 and 75 % busy.

Leaves out: loads near saturation, where a system that is measured for seconds has no steady state.
Checked: tests/test_validation_session.py.
Source: McKay, Beckman and Conover, Technometrics 21 (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from .session import Configuration

__all__ = ["generate"]

T = TypeVar("T")

CODECS: tuple[Literal["json", "msgpack"], ...] = ("json", "msgpack")
WORKERS: tuple[Literal[1, 2], ...] = (1, 2)
STEPS, MODALITIES = range(2, 9), range(6)
USERS = (1, 2, 3, 4, None, None)  # None: Poisson arrivals
FAILURES, GROWTH, UTILIZATION = (0.0, 0.1), (20, 120), (0.3, 0.75)


def generate(
    count: int, seed: int, load: Callable[[Configuration], float], cores: int = 2
) -> tuple[Configuration, ...]:
    """Return so many configurations, all different; `load` tells the CPU seconds of a task of one, for rates on so many cores."""
    if count < 1:
        raise ValueError(f"`count` must be >= 1, but got {count}")
    rng = np.random.default_rng(seed)
    users = _even(USERS, count, rng)
    columns = {
        "steps": _even(STEPS, count, rng),
        "modalities": _even(MODALITIES, count, rng),
        "users": users,
        "failures": [round(one, 3) for one in _spread(FAILURES, count, rng)],
        "growth": [round(one) for one in _spread(GROWTH, count, rng)],
        "workers": _even(WORKERS, count, rng),
        "codec": _even(CODECS, count, rng),
    }
    busy = iter(_spread(UTILIZATION, users.count(None), rng))
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return tuple(_configuration(f"c{place}", row, busy.__next__, load, cores) for place, row in enumerate(rows, 1))


def _configuration(
    name: str, row: dict[str, Any], busy: Callable[[], float], load: Callable[[Configuration], float], cores: int
) -> Configuration:
    """Return a configuration; one without users gets the rate that keeps the cores so `busy`."""
    if row["users"] is not None:
        return Configuration(name=name, **row)
    one = Configuration(name=name, **row, rate=1.0)
    return one.model_copy(update={"rate": float(f"{busy() * cores / load(one):.3g}")})


def _even(values: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    """Return so many values in random order: each as often as the others, and of what is left over, some from all along."""
    whole, left = divmod(count, len(values))
    places = np.floor((np.arange(left) + rng.random()) * len(values) / max(left, 1)).astype(int)
    column = [*values] * whole + [values[place] for place in places]
    return [column[place] for place in rng.permutation(count)]


def _spread(ends: tuple[float, float], count: int, rng: np.random.Generator) -> list[float]:
    """Return so many values from end to end at the same distance, in random order; one alone is in the middle."""
    values = np.linspace(*ends, count) if count > 1 else np.full(count, sum(ends) / 2)
    return [float(one) for one in rng.permutation(values)]
