"""Service level objectives as a scenario writes them: `p95: 30 s`, `success: 99 %`, `carried_tokens_mean: 4k tokens`.

Leaves out: judging them (`sim.analysis.slo`).
Checked: tests/test_cli.py.
"""

from collections.abc import Iterator, Mapping

from ..sim.analysis.slo import RESPONSE_TIME, Objective, objective, parse_metric
from ..sim.engine import units
from ..sim.engine.errors import did_you_mean
from ..sim.engine.ledger import CATEGORIES
from ..sim.engine.spec import SpecProblem
from .context import FACTS

_TIMES = (RESPONSE_TIME, "coordination", *CATEGORIES)
_SPECIAL = {
    "success": units.SHARE, "attainment": units.SHARE, "goodput": units.RATE, "throughput": units.RATE,
    "bytes": units.SIZE, "cost": units.MONEY, "straggler_excess": units.DURATION,
}  # fmt: skip


def objectives(slo: Mapping[str, object]) -> tuple[Objective, ...]:
    """Return the objectives with their thresholds in base units. Raises SpecProblem for the first that is none."""
    return tuple(_objective(metric, threshold) for metric, threshold in slo.items())


def problems(slo: Mapping[str, object]) -> Iterator[SpecProblem]:
    """Yield everything that is wrong with the objectives of a scenario."""
    for metric, threshold in slo.items():
        try:
            _objective(metric, threshold)
        except SpecProblem as problem:
            yield problem


def _objective(metric: str, threshold: object) -> Objective:
    path = ("slo", metric)
    try:
        quantity = parse_metric(metric).quantity
        return objective(metric, units.parse(threshold, _dimension(quantity)))
    except ValueError as error:
        raise SpecProblem(path, str(error)) from error


def _dimension(quantity: str) -> units.Dimension:
    """Return the dimension of a quantity. Raises ValueError when no task has it."""
    if quantity in _SPECIAL:
        return _SPECIAL[quantity]
    if quantity in _TIMES:
        return units.DURATION
    if quantity not in FACTS:
        known = (*_TIMES, *FACTS)
        raise ValueError(
            f"nothing measures `{quantity}`{did_you_mean(quantity, known) or f'; there are {_list(known)}'}"
        )
    return units.TOKENS if quantity.endswith("_tokens") else units.NUMBER


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
