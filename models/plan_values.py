"""Decision variables: their values, what these cost, and whether more of one can be worse.

Leaves out: which values a scenario refuses (`plan_problem`).
Checked: tests/test_plan_models.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..sim.analysis.planned import Variable
from ..sim.engine import units
from ..sim.engine.errors import Problem, ScenarioError, show
from ..sim.engine.paths import parse_path
from ..sim.engine.source import Document
from ..sim.engine.units import Dimension
from .plan import Decision

__all__ = ["MORE", "DecisionError", "Values", "amounts", "is_capacity", "priced_as_before", "told_in_full", "values_of"]

# Numbers that only add servers, or speed: customers of a station that is first come first served leave no later for them.
MORE = (
    "replicas",
    "concurrency",
    "cores",
    "bandwidth",
    "speed",
    "rate",
    "burst",
    "limits.requests",
    "limits.tokens",
    "limits.concurrency",
)
# Not of agents: whom an agent lets in loads what is behind it.
_OF = ("models", "tools", "retrievers", "memories", "encoders", "orchestrator", "network")
_DIMENSIONS: tuple[Dimension, ...] = (
    units.NUMBER, units.RATE, units.TOKEN_RATE, units.BANDWIDTH, units.SIZE, units.TOKENS, units.DURATION, units.SHARE,
)  # fmt: skip
_NUMBER = re.compile(r"\s*([-+]?[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*(.*?)\s*")
_RANGE = re.compile(r"([0-9]+)\s*\.\.\s*([0-9]+)(?:\s+by\s+([0-9]+))?")
_HOUR = 3600.0
_FORM = (
    "must be a path and its values, as in `models.llm.replicas=1..16@$2.5/h` or `runtime=[stateless-api, agent-native]`"
)


class DecisionError(ValueError):
    """A decision that is written as none can be."""


@dataclass(frozen=True)
class Values:
    """The values of a variable: the variable, each value as YAML, and where each was written in `plan.decide`."""

    variable: Variable
    texts: tuple[str, ...]
    places: tuple[tuple[str | int, ...], ...]


def values_of(path: str, spec: Decision, document: Document, problems: list[Problem]) -> Values:
    """Return the values of a decision; mistakes are added to `problems`, each with its place."""
    given = spec.all_values
    section: tuple[str | int, ...] = ("plan", "decide", path)
    places = [
        (*section, "values", number) if spec.values is not None else (*section, "to") for number in range(len(given))
    ]
    written = document.data.get("plan", {})
    decide = written.get("decide", {}) if isinstance(written, dict) else {}
    if isinstance(decide, dict) and isinstance(decide.get(path), list):  # values without a mapping around them
        places = [(*section, number) for number in range(len(given))]
    measured = amounts(given)
    monotone = spec.monotone if spec.monotone is not None else is_capacity(path) and measured is not None
    for number, value in enumerate(given):
        if value in given[:number]:
            problems.append(document.problem(places[number], f"must be there once; got {show(value)} again"))
        elif (
            monotone
            and is_capacity(path)
            and measured is not None
            and number
            and measured[number] <= measured[number - 1]
        ):
            got = f"got {show(value)} after {show(given[number - 1])}"
            problems.append(document.problem(places[number], f"must rise, as more of it is more capacity; {got}"))
    variable = Variable(path, tuple(map(_shown, given)), tuple(_costs(spec, section, document, problems)), monotone)
    return Values(variable, tuple(json.dumps(value) for value in given), tuple(places))


def is_capacity(path: str) -> bool:
    """Whether more of what a path sets is never worse.

    >>> is_capacity("models.llm.replicas"), is_capacity("models.llm.batching.tokens"), is_capacity("models.llm.limits.tokens")
    (True, False, True)
    """
    steps = [str(step) for step in parse_path(path)]
    if steps[0] not in _OF:
        return False
    own = 3 if steps[0] == "network" else 1 if steps[0] == "orchestrator" else 2  # steps of the component's own path
    return ".".join(steps[own:]) in MORE


def amounts(values: tuple[Any, ...]) -> tuple[float, ...] | None:
    """Return values as numbers in one base unit; None where they are not all quantities of one kind.

    >>> amounts((1, 2)), amounts(("500 Mbit/s", "1 Gbit/s")), amounts(("ideal", "session-state"))
    ((1.0, 2.0), (62500000.0, 125000000.0), None)
    """
    if any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in values):
        return None
    for dimension in _DIMENSIONS:
        try:
            return tuple(float(units.parse(value, dimension)) for value in values)
        except ValueError:
            continue
    return None


def _costs(
    spec: Decision, section: tuple[str | int, ...], document: Document, problems: list[Problem]
) -> Iterator[float]:
    """Yield what each value costs an hour, in dollars."""
    given = spec.all_values
    if spec.prices is not None:
        yield from (_rounded(price * _HOUR) for price in spec.prices)
        return
    if spec.price is None:
        yield from (0.0 for _ in given)
        return
    counted = [_counted(value) for value in given]
    if None in counted or len({unit for _, unit in filter(None, counted)}) > 1:
        what = "are not all numbers" if None in counted else "have several units"
        message = f"is of one unit, but the values {what}; write `prices`, one for each"
        problems.append(document.problem((*section, "price"), message))
    for one in counted:
        yield 0.0 if one is None else _rounded(one[0] * spec.price * _HOUR)


def _rounded(cost: float) -> float:
    """Return a cost without what dividing by the seconds of an hour left in its last digits."""
    return float(f"{cost:.12g}")


def _counted(value: Any) -> tuple[float, str] | None:
    """Return a value's number as it is written, and its unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), ""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else (float(match[1]), match[2])


def _shown(value: Any) -> str:
    """Return a value as a table shows it: a text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value)


# ---------------------------------------------------------------------------------------------------------------------
# As the command and Python write them


def told_in_full(values: Any) -> Any:
    """Return what the section `plan.decide` would hold for values given in Python."""
    if isinstance(values, str):
        return decision_of(values)
    if isinstance(values, range):
        return {"values": list(values)}
    return dict(values) if isinstance(values, Mapping) else {"values": list(values)}


def priced_as_before(given: dict[str, Any], before: Any) -> dict[str, Any]:
    """Return a decision with what the section says of its variable where it says nothing: prices, and whether it is monotone.

    The price of one unit holds for any values, prices of values for those that the section has too.

    >>> priced_as_before({"values": [2, 4]}, {"from": 1, "to": 8, "price": "$2 / h"})
    {'values': [2, 4], 'price': '$2 / h'}
    >>> priced_as_before({"values": [4]}, {"values": [2, 4], "prices": ["$1 / h", "$3 / h"]})
    {'values': [4], 'prices': ['$3 / h']}
    """
    if not isinstance(before, Mapping):
        return given
    kept = {"monotone": before["monotone"]} if before.get("monotone") is not None and "monotone" not in given else {}
    if "price" in given or "prices" in given:
        return given | kept
    if before.get("price") is not None:
        return given | {"price": before["price"]} | kept
    values, prices = before.get("values"), before.get("prices")
    if isinstance(values, list | tuple) and isinstance(prices, list | tuple) and len(values) == len(prices):
        wanted = given.get("values", [])
        if wanted and all(one in values for one in wanted):
            kept |= {"prices": [prices[list(values).index(one)] for one in wanted]}
    return given | kept


def decision_of(text: str) -> dict[str, Any]:
    """Return the decision that `1..16@$2.5/h`, `5,10,20@$0.01/h` or `[ideal, session-state]` writes. Raises DecisionError.

    Prices behind `@` are that of one unit, or one for each value between commas.

    >>> decision_of("1..16@$2.5/h")
    {'from': 1, 'to': 16, 'price': '$2.5/h'}
    """
    written, at, told = (part.strip() for part in text.rpartition("@")) if "@" in text else (text.strip(), "", "")
    if not written or (at and not told):
        raise DecisionError(f"{_FORM}; got `{text}`")
    found: dict[str, Any] = {}
    match = _RANGE.fullmatch(written)
    if match is not None:
        found = {"from": int(match[1]), "to": int(match[2])} | ({"by": int(match[3])} if match[3] else {})
    else:
        try:
            body = written if written.startswith("[") else f"[{written}]"
            found = {"values": Document.from_text(f"values: {body}", "values").data["values"]}
        except ScenarioError:
            raise DecisionError(f"{_FORM}; got `{text}`") from None
    prices = [price.strip() for price in told.split(",")] if told else []
    if prices:
        found |= {"price": prices[0]} if len(prices) == 1 else {"prices": prices}
    return found
