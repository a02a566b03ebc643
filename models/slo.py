"""Service level objectives as a scenario writes them: `p95: 30 s`, `success: 99 %`, `carried_tokens_mean: 4k tokens`.

Leaves out: judging them (`sim.analysis.slo`).
Checked: tests/test_scenario.py, tests/data/bad.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from ..sim.analysis.slo import AT_LEAST, AT_MOST, PASS_AT, RATES, RESPONSE_TIME, Objective, objective, parse_metric
from ..sim.engine import units
from ..sim.engine.errors import did_you_mean, listed, show
from ..sim.engine.ledger import CATEGORIES
from ..sim.engine.spec import Quantity, SpecProblem, SpecProblems
from .context import FACTS

__all__ = ["COMMON", "Slo", "no_such_metric", "objectives", "quantity_of", "unmeasured"]

_TIMES = (RESPONSE_TIME, "coordination", *CATEGORIES)
_SPECIAL = {
    "success": units.SHARE, "attainment": units.SHARE, "goodput": units.RATE, "throughput": units.RATE,
    "bytes": units.SIZE, "cost": units.MONEY, "straggler_excess": units.DURATION,
    "straggler_coordination": units.DURATION, "ttft": units.DURATION, "ttfa": units.DURATION, "state_bytes": units.SIZE,
    "wasted": units.DURATION, "availability": units.SHARE, "retry_amplification": units.NUMBER,
    "wasted_share": units.SHARE, "recovery_share": units.SHARE, **dict.fromkeys(PASS_AT, units.SHARE),
}  # fmt: skip
COMMON = ("p50", "p95", "p99", "mean", "max", *sorted(RATES))
_SYNONYMS = {"median": "p50", "average": "mean", "maximum": "max"}
# No system keeps these at 0, or every system does.
_POSITIVE = (RESPONSE_TIME, *AT_LEAST)


def objectives(slo: Mapping[str, float]) -> tuple[Objective, ...]:
    """Return the objectives of a scenario, thresholds in base units."""
    return tuple(objective(metric, threshold) for metric, threshold in slo.items())


def unmeasured(slo: Mapping[str, float], problems: int | None) -> Iterator[SpecProblem]:
    """Yield the objectives that a workload of so many problems cannot tell."""
    for metric in slo:
        if metric in PASS_AT and problems is None:
            yield SpecProblem(
                ("slo", metric),
                "needs `workload.problems`, such as `100`: tasks are then trials of so many",
                at_key=True,
            )


def _thresholds(slo: Any) -> dict[str, float]:
    """Return the thresholds in base units; SpecProblems for every one that is none."""
    if not isinstance(slo, Mapping):
        raise ValueError(f"must be a mapping of metrics, such as `p95: 30 s`; got {show(slo)}")
    found: dict[str, float] = {}
    problems = []
    for metric, threshold in slo.items():
        quantity = quantity_of(metric)
        if quantity is None:
            problems.append(SpecProblem((metric,), no_such_metric(metric), at_key=True))
            continue
        try:
            found[metric] = quantity.parse(threshold)
        except ValueError as error:
            problems.append(SpecProblem((metric,), str(error)))
    if problems:
        raise SpecProblems(problems)
    return found


def quantity_of(metric: str) -> Quantity | None:
    """Return how the threshold of a metric is written; None for what is no metric."""
    try:
        measured = parse_metric(metric).quantity
    except ValueError:
        return None
    if measured in _SPECIAL:
        dimension = _SPECIAL[measured]
    elif measured in _TIMES:
        dimension = units.DURATION
    elif measured in FACTS:
        dimension = units.TOKENS if measured.endswith("_tokens") else units.NUMBER
    else:
        return None
    return Quantity(dimension, open_low=measured in _POSITIVE)


def no_such_metric(metric: str) -> str:
    """Return the rule for the names of metrics, and the one that was probably meant."""
    if metric in _SYNONYMS:
        return f"no such metric; did you mean `{_SYNONYMS[metric]}`?"
    quantity, _, statistic = metric.rpartition("_")
    measured = [f"{name}_{statistic}" for name in (*_TIMES, *FACTS)] if quantity else []
    hint = did_you_mean(
        metric, [name for name in (*COMMON, *sorted(AT_LEAST | AT_MOST), *measured) if quantity_of(name) is not None]
    )
    return (
        f"no such metric{hint}"
        if hint
        else f"no such metric; there are {listed(COMMON)}, and `coordination_p95`, `cost_mean` and the like"
    )


def _written(slo: dict[str, float]) -> dict[str, str | float]:
    """Return the thresholds with their units."""
    quantities = ((metric, threshold, quantity_of(metric)) for metric, threshold in slo.items())
    return {
        metric: threshold if quantity is None else quantity.write(threshold)
        for metric, threshold, quantity in quantities
    }


Slo = Annotated[
    dict[str, float],
    BeforeValidator(_thresholds),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "type": "object",
            "description": "Objectives: a metric and its threshold, such as `p95: 30 s`, `success: 99 %`, `cost_mean: $0.02`",
            "additionalProperties": {"type": ["string", "number"]},
            "examples": [{"p95": "30 s", "success": "99 %"}],
        }
    ),
]
