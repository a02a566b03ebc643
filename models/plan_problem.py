"""From the section `plan` to what the search needs: variables, loads, the variant and the bound of a configuration.

Every value is tried alone, and the least and greatest of all together, before anything runs, so that mistakes come at once.

Leaves out: combinations between corners, which are checked when the search comes to them.
Checked: tests/test_plan_models.py.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, product
from typing import TYPE_CHECKING

from ..sim.analysis.plan_trials import PlanProblem
from ..sim.analysis.planned import Load, Point, QueueingBound, Variable
from ..sim.analysis.replicate import Settings
from ..sim.analysis.slo import Objective
from ..sim.engine.errors import Problem, ScenarioError
from ..sim.engine.paths import parse_path
from ..sim.engine.source import Document
from .load_factor import load_times
from .plan import PlanSpec
from .plan_bounds import BaseBound, base_bound, queueing_bound
from .plan_values import Values, values_of
from .slo import objectives, unmeasured
from .variants import ASIDE, Change, Variants, document_of, scenario_of

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["MOST_CONFIGURATIONS", "Configurations", "plan_problem"]

MOST_CONFIGURATIONS = 100_000
_CORNERS = 64  # combinations of the first and last values that are tried
_NOT_DECIDED = {
    "workload": "the load is told by `plan.load`",
    "slo": "objectives are given, not chosen",
    **dict.fromkeys(ASIDE, "it says what to run, and changes no run"),
    **dict.fromkeys(("coordsim", "name", "question", "notes"), "it changes no run"),
    **dict.fromkeys(("seed", "replications", "confidence"), "it changes no system, only how it is looked at"),
}


@dataclass
class Configurations:
    """The configurations of a plan: the variant of each at each load, and what queueing theory says of it."""

    scenario: "Scenario"
    values: tuple[Values, ...]
    loads: tuple[Load, ...]
    objectives: tuple[Objective, ...]
    variants: Variants = field(init=False)
    _bounds: dict[Point, BaseBound] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variants = Variants(self.scenario)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The decision variables."""
        return tuple(one.variable for one in self.values)

    @cached_property
    def rate(self) -> float | None:
        """The arrival rate of tasks at the scenario's own load (1/s); None for closed workloads, and where all come at once."""
        return self.scenario.workload.rate

    def changes(self, point: Point) -> list[Change]:
        """Return what a configuration changes in the scenario."""
        return [(one.variable.path, one.texts[place]) for one, place in zip(self.values, point, strict=True)]

    def variant(self, point: Point, load: Load) -> str:
        """Return the key of a configuration at a load. Raises ScenarioError where it cannot be."""
        return self.variants.key([*self.changes(point), *load_times(self.scenario, load.factor)])

    def bound(self, point: Point, load: Load) -> QueueingBound:
        """Return what queueing theory says of a configuration at a load. Raises ScenarioError where it cannot be."""
        return self.bound_by(point, load, self.objectives)

    def bound_by(self, point: Point, load: Load, objectives: tuple[Objective, ...]) -> QueueingBound:
        """Return the same by other objectives."""
        if point not in self._bounds:
            # Where queues are stable at the least load, they have a mean wait that can be rescaled to the others.
            self._bounds[point] = base_bound(scenario_of(self.variants.key([*self.changes(point), *self._least[1]])))
        return queueing_bound(self._bounds[point], load.factor / self._least[0], objectives)

    def expected(self, load: Load) -> float | None:
        """Return about how many tasks arrive in a replication at a load; None where that depends on how fast they end."""
        workload = self.scenario.workload
        trace = workload.arrivals.trace
        rows = math.inf if trace is None or trace.repeat else float(len(trace.table.times))
        if workload.tasks is not None:
            return min(rows, workload.tasks if trace is not None else max(1, round(workload.tasks * load.factor)))
        if workload.horizon is not None and self.rate is not None:
            return min(rows, self.rate * load.factor * workload.horizon)
        return rows if math.isfinite(rows) else None

    @cached_property
    def _least(self) -> tuple[float, list[Change]]:
        """The least factor of the load, and its changes; closed workloads count users, so theirs is 1."""
        least = 1.0 if self.rate is None else min(1.0, *(load.factor for load in self.loads))
        return least, load_times(self.scenario, least)


def plan_problem(scenario: "Scenario") -> PlanProblem[str]:
    """Return what the scenario's section asks to find. Raises ScenarioError with every mistake in it."""
    spec, document = scenario.plan, document_of(scenario)
    if spec is None:
        remedy = "give `--decide models.llm.replicas=1..16@$2.5/h`, or `decide` in the scenario's section `plan`"
        raise ScenarioError([document.problem(("plan",), f"there is nothing to decide: {remedy}")], document.name)
    problems: list[Problem] = list(_section(scenario, spec, document))
    values = tuple(values_of(path, one, document, problems) for path, one in spec.decide.items())
    found = Configurations(scenario, values, spec.loads, objectives(_slo(scenario, spec)))
    problems += _refused(found, document)
    if problems:
        raise ScenarioError(dict.fromkeys(problems), document.name)
    confidence = spec.confidence or scenario.confidence
    return PlanProblem(
        scenario=scenario.name,
        variables=found.variables,
        objectives=found.objectives,
        loads=found.loads,
        seed=scenario.seed,
        confidence=confidence,
        settings=Settings(
            replications=scenario.replications,
            max_replications=spec.max_replications,
            warmup=scenario.workload.warmup,
            objectives=found.objectives,
            confidence=confidence,
        ),
        variant=found.variant,
        bound=found.bound,
        bound_by=found.bound_by,
        expected=found.expected,
        rate=found.rate,
    )


def _slo(scenario: "Scenario", spec: PlanSpec) -> dict[str, float]:
    return scenario.slo if spec.slo is None else spec.slo


def _section(scenario: "Scenario", spec: PlanSpec, document: Document) -> Iterator[Problem]:
    """Yield the mistakes that show without a variant."""
    if not _slo(scenario, spec):
        message = "needs `slo`, such as `{p95: 30 s}`, here or in the scenario: else the least configuration will do"
        yield document.problem(("plan",), message, key=True)
    for one in unmeasured(_slo(scenario, spec), scenario.workload.problems):
        at = one.path if spec.slo is None else ("plan", *one.path)
        yield document.problem(at, one.message, key=True)
    count = 1
    for path, decision in spec.decide.items():
        count *= len(decision.all_values)
        first = str(parse_path(path)[0]) if path.strip() else ""
        if first in _NOT_DECIDED:
            yield document.problem(("plan", "decide", path), f"cannot be decided: {_NOT_DECIDED[first]}", key=True)
        for other in spec.decide:
            if other != path and other.startswith((f"{path}.", f"{path}[")):
                yield document.problem(
                    ("plan", "decide", other), f"is a part of `{path}`, which is decided too", key=True
                )
    if count > MOST_CONFIGURATIONS:
        message = (
            f"must have at most {MOST_CONFIGURATIONS:,} configurations; got {count:,}: leave out values, or write `by`"
        )
        yield document.problem(("plan", "decide"), message, key=True)


def _refused(found: Configurations, document: Document) -> Iterator[Problem]:
    """Yield what the scenario refuses: each value alone, then those that only together cannot be, and loads."""
    alone = [one for values in found.values for one in _refused_alone(found, values, document)]
    yield from alone
    if alone:
        return
    ends = [sorted({0, len(values.texts) - 1}) for values in found.values]
    for point in islice(product(*ends), _CORNERS):
        changes = found.changes(point)
        together = ", ".join(f"{path} = {text}" for path, text in changes)
        yield from _tried(found, changes, document, ("plan", "decide"), f"with {together}: ")
    for number, load in enumerate(found.loads):
        at = ("plan", "load", *_place_of_load(found.scenario.plan, number))
        yield from _tried(found, load_times(found.scenario, load.factor), document, at, f"{load.label}: ")


def _refused_alone(found: Configurations, values: Values, document: Document) -> list[Problem]:
    """Return the mistakes of the values of one variable; what is wrong with all of them, such as the path, once."""
    path = values.variable.path
    if path.split(".")[0] in _NOT_DECIDED:
        return []
    problems: dict[tuple[str, str], Problem] = {}
    for text, at in zip(values.texts, values.places, strict=True):
        for problem in _tried(found, [(path, text)], document, at):
            problems.setdefault((problem.path, problem.message), problem)
    return list(problems.values())


def _tried(
    found: Configurations, changes: Sequence[Change], document: Document, at: Iterable[str | int], told: str = ""
) -> list[Problem]:
    """Return the mistakes of a variant, told of the place `at`."""
    try:
        found.variants.key(changes)
    except ScenarioError as error:
        here = document.problem(tuple(at), "")
        return [replace(here, path=one.path or here.path, message=told + one.message) for one in error.problems]
    return []


def _place_of_load(spec: PlanSpec | None, number: int) -> tuple[str | int, ...]:
    if spec is None or spec.load is None:
        return ()
    return ("growth",) if spec.load.growth is not None else (spec.load.chosen[0], number)
