"""Made-up systems to plan for, whose true means and costs are known, and which take no time to simulate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coordsim.sim.analysis.plan import PlanProblem
from coordsim.sim.analysis.planned import Load, PlanResult, Point, QueueingBound, Variable
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.slo import objective, verdict
from coordsim.sim.analysis.statistics import Estimate, mean_interval
from coordsim.sim.analysis.summarize import summarize
from coordsim.sim.analysis.summary import Judged, Resource, Summary

from .mm1 import Queue, simulate

TASKS = 100  # of each replication of a made-up system


@dataclass(frozen=True)
class Made:
    """A made-up configuration: the true mean of T_total, and its spread between replications."""

    mean: float
    spread: float = 0.05
    cost: float = 0.0  # of a task, in $
    uneven: float = 0.0  # spread of that cost between replications, each configuration's own
    utilization: float = 0.5
    skewed: bool = False
    seed: int = 0


@lru_cache(maxsize=1000)
def noise(*stream: int, skewed: bool) -> list[float]:
    """Return a stream's draws, one a replication, with mean 0 and variance 1."""
    rng = np.random.default_rng(stream)
    draws = (rng.gamma(4.0, size=160) - 4.0) / 2 if skewed else rng.standard_normal(160)
    found: list[float] = draws.tolist()
    return found


def made(one: Made, seed: int, replication: int, spans: str) -> Any:
    """Return one replication: half of its noise is common to all configurations of a seed."""
    common, own = noise(seed, skewed=one.skewed), noise(seed, int(one.mean * 1e6), skewed=one.skewed)
    total = (common[replication] + own[replication]) / math.sqrt(2)
    cost = one.cost * (1 + one.uneven * own[replication])
    return SimpleNamespace(arrived=TASKS, value=one.mean * (1 + one.spread * total), cost=cost, of=one)


@lru_cache(maxsize=100)
def exactly(value: float) -> Estimate:
    """Return what is known without an error."""
    return Estimate(value, value, value, 0.95, 2, "exact")


@lru_cache(maxsize=1)
def template() -> Summary:
    """Return a real summary to write made-up numbers into."""
    return summarize([simulate(Queue(tasks=100), 0, number) for number in range(2)], warmup=None)


def summed(settings: Settings, results: list[Any]) -> Summary:
    """Stand in for `Settings.summarize`, a hundred times as fast: the mean of the made-up numbers, judged."""
    values = tuple(one.value for one in results)
    estimate = mean_interval(values, settings.confidence)
    base = template()
    return replace(
        base,
        replications=len(results),
        tasks=replace(base.tasks, arrived=TASKS * len(results)),
        objectives=tuple(
            Judged(one.metric, one.threshold, one.sense, estimate, verdict(estimate, one))
            for one in settings.objectives
        ),
        samples={"response_time_mean": values, "cost_mean": tuple(one.cost for one in results)},
        facts={"cost": exactly(results[0].of.cost)},
        resources=(Resource("pool", "models.llm", 1.0, {"utilization": exactly(results[0].of.utilization)}),),
        warnings=(),
    )


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sum made-up results up."""
    monkeypatch.setattr(Settings, "summarize", summed)


def no_bound(point: Point, load: Load) -> QueueingBound:
    """Say nothing."""
    return QueueingBound((), 0.0, math.inf, "")


def variable(path: str, size: int, price: float, *, monotone: bool = True) -> Variable:
    """Return a variable with the values 1, 2, ... at a price each."""
    return Variable(path, tuple(str(n + 1) for n in range(size)), tuple(price * (n + 1) for n in range(size)), monotone)


def problem(
    variables: tuple[Variable, ...],
    variant: Callable[[Point, Load], Any],
    slo: Mapping[str, float],
    loads: tuple[float, ...] = (1.0,),
    kind: Any = PlanProblem,
    **changes: Any,
) -> Any:
    """Return a problem with no bounds, frontier or headroom unless `changes` say so."""
    given = {
        "settings": Settings(max_replications=40, warmup=None),
        "bound": no_bound,
        "frontier": (),
        "headroom": False,
        "seed": 1,
        "rate": 1.0,
    } | changes
    return kind(
        scenario="made",
        variables=variables,
        objectives=tuple(objective(metric, threshold) for metric, threshold in slo.items()),
        loads=tuple(Load(f"{factor:g} x", factor, 1.0) for factor in loads),
        variant=variant,
        **given,
    )


def one_station(point: Point, load: Load) -> Made:
    """M/M/1-like: the mean falls with the servers, and is 1 s at ever so many."""
    servers = point[0] + 1
    return Made(1 + load.factor / servers)


def answers(found: PlanResult) -> list[tuple[str, Point | None]]:
    """Return verdict and configuration of each load."""
    return [(one.verdict, None if one.trial is None else one.trial.point) for one in found.choices]
