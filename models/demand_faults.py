"""What faults and handling add to demand in the mean: attempts after errors at a constant rate, and slow spells.

Attempts are counted as if each call were made whatever failed before: where a failure ends a task, there are fewer. Of a fault in
the calls of a problem (`concentration`) the mean is over its Beta distribution; a Markov chain (`after_error`) is that of many calls,
each of them made after the last attempt of the one before. With a `budget` there are at most its share.

Leaves out: all else; `left_out` names it, for bounds to say so.
Checked: tests/test_faults.py, against the simulator and closed forms.
Source of the integral: Golub and Welsch, Mathematics of Computation 23 (1969), with the recurrence of Jacobi polynomials; powers are
polynomials, so it is exact.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..sim.engine import units
from .fault_plan import active_faults, struck_by
from .faults import Chance, Fault
from .handling import Handling
from .policies import Waits
from .recovery import Recovery

if TYPE_CHECKING:
    from .bounds import ResourceBound
    from .scenario import Scenario
    from .service import Errors

__all__ = ["Tries", "left_out", "warnings"]

_COUNTED = ("tools", "retrievers", "models")
_SLOW = (*_COUNTED, "memories")


class Tries:
    """What calls of each component take more, in the mean, because of faults and of what is done about them."""

    def __init__(self, scenario: "Scenario") -> None:
        self._errors: dict[str, list[Chance]] = {}
        self._slow: dict[str, float] = {}
        for fault in active_faults(scenario).values():
            for path in struck_by(scenario, fault):
                if _is_error(fault, path) and fault.error is not None:
                    self._errors.setdefault(path, []).append(fault.error)
                if fault.slow is not None and path.partition(".")[0] in _SLOW:
                    share = share_of_time(fault)
                    self._slow[path] = self._slow.get(path, 1.0) * (1 + share * (fault.slow - 1))

    def slowness(self, path: str) -> float:
        """Return the mean factor of the time that a component's service takes."""
        return self._slow.get(path, 1.0)

    def more(self, path: str, handling: Handling, errors: "Errors | None" = None) -> tuple[float, float]:
        """Return how many attempts a call takes beyond the first, and how long (s) it waits between them."""
        retry, faults = handling.retry, self._errors.get(path, [])
        if retry.attempts == 1 or "error" not in retry.on or (errors is None and not faults):
            return 0.0, 0.0
        first, again, weights = _failing(errors, faults, retry.attempts)
        waits, extra, seconds = Waits(retry.backoff), 0.0, 0.0
        for attempt in range(1, retry.attempts):
            likely = float(np.sum(weights * first * again ** (attempt - 1)))
            extra += likely
            seconds += likely * waits.mean(attempt)
        most = extra if retry.budget is None else min(extra, retry.budget.ratio)
        return most, seconds * (most / extra if extra else 0.0)


def _is_error(fault: Fault, path: str) -> bool:
    """Whether a fault is one of errors at a constant rate, where attempts are counted."""
    return fault.error is not None and not fault.comes_and_goes and path.partition(".")[0] in _COUNTED


def share_of_time(fault: Fault) -> float:
    """Return for which share of the time a fault is there, in the long run: 0 of one that comes once."""
    if fault.mtbf is not None and fault.mttr is not None:
        return fault.mttr.mean / (fault.mtbf.mean + fault.mttr.mean)
    if fault.at is not None:
        return 0.0 if fault.every is None or fault.for_ is None else min(1.0, fault.for_.mean / fault.every)
    return 1.0


def _failing(errors: "Errors | None", faults: Iterable[Chance], most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the chances that a first attempt fails and that one after it does, and the weights of these pairs, shape (points,)."""
    passes, then, weights = np.ones(1), np.ones(1), np.ones(1)
    if errors is not None:
        passes, then = passes * (1 - errors.rate), then * (1 - _after(errors))
    for chance in faults:
        if chance.concentration is not None and 0 < chance.rate < 1:
            points, each = _beta(chance.rate, chance.concentration, most // 2 + 1)
            passes, then = (np.outer(one, 1 - points).ravel() for one in (passes, then))
            weights = np.outer(weights, each).ravel()
        else:
            passes, then = passes * (1 - _first(chance, most)), then * (1 - _after(chance))
    return 1 - passes, 1 - then, weights


def _first(chance: Chance, most: int) -> float:
    """Return the chance that a first attempt fails: after a failed call, one of which all attempts failed, it is the other one."""
    after = _after(chance)
    return chance.rate / (1 - after ** (most - 1) * (after - chance.rate)) if chance.rate else 0.0


def _after(chance: "Chance | Errors") -> float:
    return chance.rate if chance.after_error is None else chance.after_error


def _beta(mean: float, concentration: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights that integrate polynomials of degree 2 `count` - 1 over a Beta distribution, exactly."""
    alpha, beta = (1 - mean) * concentration - 1, mean * concentration - 1
    k = np.arange(1, count)
    both = 2 * k + alpha + beta
    middle = np.append((beta - alpha) / (alpha + beta + 2), (beta**2 - alpha**2) / (both * (both + 2)))
    square = 4 * (1 + alpha) * (1 + beta) / ((alpha + beta + 2) ** 2 * (alpha + beta + 3)) * np.ones(count - 1)
    k, both = k[1:], both[1:]  # of the first the formula below would be 0 / 0 where alpha + beta = -1
    square[1:] = 4 * k * (k + alpha) * (k + beta) * (k + alpha + beta) / (both**2 * (both**2 - 1))
    points, vectors = np.linalg.eigh(np.diag(middle) + np.diag(np.sqrt(square), -1))
    return (points + 1) / 2, vectors[0] ** 2


# Words


def left_out(scenario: "Scenario") -> Iterator[str]:
    """Yield in one line what of faults, handling and recovery is not counted; nothing where all of it is."""
    found = [f"faults.{name}" for name, fault in active_faults(scenario).items() if not _counts(scenario, fault)]
    for path, handling in scenario.handlings.items():
        found += [f"{path}.handling.{name}" for name in Handling.model_fields if _is_left_out(handling, path, name)]
    recovery = scenario.recovery
    found += [f"recovery.{name}" for name in Recovery.model_fields if recovery.says(name)]
    if found:
        shown = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
        counted = "errors at a constant rate, their retries, and slowness in the mean are"
        yield f"faults and handling are not in these bounds: {shown}; {counted}"


def _counts(scenario: "Scenario", fault: Fault) -> bool:
    """Whether all that a fault adds is counted, wherever it strikes."""
    paths = struck_by(scenario, fault)
    if fault.slow is not None:
        kinds = {path.partition(".")[0] for path in paths}
        return share_of_time(fault) > 0 and kinds <= set(_SLOW)
    return all(_is_error(fault, path) for path in paths)


def _is_left_out(handling: Handling, path: str, name: str) -> bool:
    if name == "retry":
        return handling.says("retry") and path.partition(".")[0] not in _COUNTED
    return name not in ("exhausted", "idempotent") and handling.says(name)


def warnings(scenario: "Scenario", resources: "Iterable[ResourceBound]") -> Iterator[str]:
    """Yield which retries may keep a component overloaded, and which timeouts most calls run into."""
    by_name, tries = {one.name: one for one in resources}, Tries(scenario)
    for path, handling in scenario.handlings.items():
        kind, _, name = path.partition(".")
        spec = getattr(scenario, kind)[name]
        yield from _amplifies(scenario, path, spec, by_name.get(path), tries)
        latency = getattr(spec, "latency", None)
        if handling.timeout is None or latency is None:
            continue
        median = float(latency.quantile(0.5))
        if handling.timeout < median:
            told = (units.format(seconds, units.DURATION) for seconds in (handling.timeout, median))
            yield "{}: the timeout of {} is less than the median latency, {}: most attempts run into it".format(
                path, *told
            )


def _amplifies(
    scenario: "Scenario", path: str, spec: Any, resource: "ResourceBound | None", tries: Tries
) -> Iterator[str]:
    """Yield that attempts, were all to fail, would be more than a component can do, with nothing to hold them back."""
    handling, recovery = spec.handling, scenario.recovery
    attempts = _unchecked(handling.retry.attempts, handling.retry)
    runs = _unchecked(1 + recovery.restarts, recovery)
    load = None if resource is None else resource.utilization
    if resource is None or load is None or attempts * runs == 1 or not _can_fail(scenario, path, spec):
        return
    load /= 1 + tries.more(path, handling, getattr(spec, "errors", None))[0]
    if load < 1 <= load * attempts * runs:
        made = f"{attempts} attempts" if runs == 1 else f"{attempts} attempts in each of {runs} runs of a task"
        yield (
            f"{path}: were all calls to fail, {made} would be {load * attempts * runs:.0%} of {resource.room}, with nothing to hold "
            "them back: what overloads it may not end by itself; give retries a `budget`, or a `backoff`"
        )


def _unchecked(attempts: int, policy: Any) -> int:
    """Return attempts that nothing holds back; 1 where a budget or a wait does."""
    return 1 if getattr(policy, "budget", None) is not None or policy.backoff.first > 0 else attempts


def _can_fail(scenario: "Scenario", path: str, spec: Any) -> bool:
    """Whether a call of a component may fail at all."""
    handling = spec.handling
    if handling.timeout is not None or handling.within is not None or getattr(spec, "limited", "wait") == "refuse":
        return True
    if any(getattr(spec, name, None) is not None for name in ("errors", "queue_limit", "max_wait")):
        return True
    return any(path in struck_by(scenario, fault) for fault in active_faults(scenario).values())
