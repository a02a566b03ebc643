"""All cells of a study: scenarios × points × seeds, each variant built and checked before any runs.

Leaves out: what a study may ask for (`study`, `study_asked`), and running it.
Checked: tests/test_study.py.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..sim.analysis import design as designs
from ..sim.analysis.design import Range, Value
from ..sim.analysis.replicate import Settings
from ..sim.analysis.slo import full_name
from ..sim.analysis.study import PlannedCell, Study, StudyFactor, told
from ..sim.engine.errors import Problem, ScenarioError
from ..sim.engine.nodes import Position
from ..sim.engine.source import Document
from .study import MOST, written
from .study_asked import Asked, at
from .variants import ASIDE, Variants, document_of, scenario_of

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["labels_of", "make_study", "system_of"]

MAIN = "response_time_p95"  # what the report is about, unless a metric is asked for


@dataclass(frozen=True)
class _Change:
    """A value to put in place, and where it was written."""

    path: str
    value: Value
    at: Position

    @property
    def text(self) -> str:
        """The value as YAML on one line."""
        return json.dumps(self.value)


@dataclass
class _Checker:
    """Builds the variants of one scenario, and keeps the mistakes, each once."""

    scenario: "Scenario"
    label: str
    several: bool
    problems: dict[tuple[object, ...], Problem] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variants = Variants(self.scenario)

    def key(self, changes: Sequence[_Change]) -> str:
        """Return the key of the scenario with changes in place; '' after a mistake, which is kept."""
        try:
            return self.variants.key([(one.path, one.text) for one in changes])
        except ScenarioError:
            self._blame(changes)
            return ""

    def _blame(self, changes: Sequence[_Change]) -> None:
        """Keep every mistake of a cell: of each value by itself, then of what they make together."""
        document = document_of(self.scenario)
        for one in changes:
            try:
                document = type(self.scenario).overridden(document, one.path, one.text)
            except ScenarioError as error:
                for problem in error.problems:
                    self._keep(problem, one)
        try:
            type(self.scenario).of(document)
        except ScenarioError as error:
            origins = {f"--set {one.path}={one.text}": one for one in changes}
            for problem in error.problems:
                self._keep(problem, origins.get(problem.file), changes)

    def _keep(self, problem: Problem, one: _Change | None, changes: Sequence[_Change] = ()) -> None:
        what = f"in {self.label}: " if self.several else ""
        if one is not None:
            at = one.at
            made = Problem(problem.path, f"{what}{problem.message}", at.file, at.line, at.column, at.source)
            known: tuple[object, ...] = (at, problem.path, problem.message)
        else:  # valid by itself, and at odds with what the scenario says elsewhere
            cell = ", ".join(f"{change.path}={told(change.value)}" for change in changes)
            made = replace(problem, message=f"{what}{problem.message} (with {cell})")
            known = (problem.file, problem.line, problem.column, problem.path, problem.message)
        self.problems.setdefault((self.label, *known), made)


def make_study(scenarios: Sequence["Scenario"], given: Asked) -> Study[str]:
    """Return all cells: scenarios × points × seeds. Raises ScenarioError with every mistake in them, each where it was written."""
    spec = given.spec
    _check_size(scenarios, given)
    paths, points = _points(scenarios[0], given)
    made = [StudyFactor.of(path, [_value(point, path) for point in points]) for path in paths]
    levels = [tuple(factor[1][number] for factor in made) for number in range(len(points))]
    labels = labels_of(scenarios)
    checkers = [_Checker(one, label, len(scenarios) > 1) for one, label in zip(scenarios, labels, strict=True)]
    # A factor may change how a cell is summed up; reading every variant again for nothing costs as much as checking it.
    summed = any(path.partition(".")[0] in ("slo", "workload") for path in paths)
    cells: list[PlannedCell] = []
    for checker in checkers:
        for number, point in enumerate(points):
            key = checker.key(point)
            variant = scenario_of(key) if key and summed else checker.scenario
            settings = _settings(variant, given, scenarios[0].confidence)
            for seed in spec.seeds or (scenarios[0].seed,):
                cells.append(PlannedCell(len(cells) + 1, checker.label, number, levels[number], seed, key, settings))
    problems = [one for checker in checkers for one in checker.problems.values()]
    if problems:
        raise ScenarioError(problems, document_of(scenarios[0]).name)
    factors = tuple(factor for factor, _ in made)
    doubts = sorted({doubt for checker in checkers for doubt in checker.variants.doubts})
    return Study(
        design=spec.kind if paths else "none",
        factors=factors,
        cells=tuple(cells),
        variants={key: text for checker in checkers for key, text in checker.variants.found.items()},
        metric=full_name(spec.metrics[0]) if spec.metrics else MAIN,
        identity=_identity(scenarios, labels, given, len(points), cells),
        doubts=(*(designs.doubts_of(spec.kind, spec.points) if spec.over else ()), *doubts),
    )


def _value(point: Sequence[_Change], path: str) -> Value:
    return next((one.value for one in point if one.path == path), None)


def _check_size(scenarios: Sequence["Scenario"], given: Asked) -> None:
    """Raise ScenarioError where there is nothing to vary, or too much."""
    spec = given.spec
    factors = list(spec.over.values())
    count = len(spec.rows) or (designs.size_of(spec.kind, factors, spec.points) if factors else 1)
    seeds = len(spec.seeds) or 1
    total = count * seeds * len(scenarios)
    place = given.where(())
    if total == 1 and not (spec.over or spec.rows):
        message = (
            "there is nothing to vary: give `--over PATH=VALUES`, such as `--over models.llm.replicas=1,2,4`, several `--seeds` or "
            "scenarios, or a section `study`"
        )
        raise ScenarioError([at(place, message)], document_of(scenarios[0]).name)
    if total > MOST:
        message = (
            f"makes {total:,} cells ({count:,} points × {seeds:,} seeds × {len(scenarios)} scenarios), and at most {MOST:,} can be run; "
            "try `design: sobol` with some hundred `points`"
        )
        raise ScenarioError([at(place, message)], document_of(scenarios[0]).name)


def _points(scenario: "Scenario", given: Asked) -> tuple[tuple[str, ...], list[list[_Change]]]:
    """Return the paths of the factors, and the changes of each point."""
    spec, where = given.spec, given.where
    if spec.rows:
        paths = tuple(dict.fromkeys(path for row in spec.rows for path in row))
        rows = [
            [_Change(path, value, where(("rows", number, path))) for path, value in row.items()]
            for number, row in enumerate(spec.rows)
        ]
        return paths, rows
    if not spec.over:
        return (), [[]]
    paths = tuple(spec.over)
    # A range is its rungs, and a value its place in the list, so that each is told where it was written.
    factors = [one if isinstance(one, Range) else range(len(one)) for one in spec.over.values()]
    seed = spec.seeds[0] if spec.seeds else scenario.seed
    points = designs.design_points(spec.kind, factors, spec.points, seed)
    return paths, [
        [_change(path, spec.over[path], value, where) for path, value in zip(paths, point, strict=True)]
        for point in points
    ]


def _change(
    path: str, values: tuple[Value, ...] | Range, found: Value, where: Callable[[tuple[str | int, ...]], Position]
) -> _Change:
    if isinstance(values, Range):
        return _Change(path, found, where(("over", path)))
    return _Change(path, values[found], where(("over", path, found)))


def labels_of(scenarios: Sequence["Scenario"]) -> list[str]:
    """Return the names of scenarios, told apart where two have one."""
    seen: dict[str, int] = {}
    labels = []
    for one in scenarios:
        seen[one.name] = seen.get(one.name, 0) + 1
        labels.append(one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})")
    return labels


def _settings(scenario: "Scenario", given: Asked, confidence: float) -> Settings:
    """Return how a cell is run and summed up; the `confidence` is that of the first scenario, so that a table has one."""
    replications = given.replications or given.spec.replications
    if replications is None:
        replications = "auto" if given.precision is not None else scenario.replications
    return Settings(
        replications=replications,
        precision=given.precision,
        warmup=scenario.workload.warmup,
        objectives=scenario.objectives,
        metrics=given.spec.metrics,
        confidence=confidence,
    )


def _identity(
    scenarios: Sequence["Scenario"],
    labels: Sequence[str],
    given: Asked,
    points: int,
    cells: Sequence[PlannedCell],
) -> dict[str, Any]:
    """Return all that decides the numbers, as plain data: the same in any folder, on any machine."""
    spec = given.spec
    return {
        "scenarios": {label: system_of(one).hash for label, one in zip(labels, scenarios, strict=True)},
        "design": spec.kind,
        "factors": {path: written(values) for path, values in spec.over.items()} or [dict(row) for row in spec.rows],
        "points": points,
        "seeds": list(dict.fromkeys(one.seed for one in cells)),
        "settings": [
            {
                "replications": one.replications,
                "precision": one.target,
                "warmup": one.warmup,
                "objectives": {each.metric: each.threshold for each in one.objectives},
                "confidence": one.confidence,
            }
            for one in dict.fromkeys(cell.settings for cell in cells)
        ],
        "metrics": list(spec.metrics),
    }


def system_of(scenario: "Scenario") -> "Scenario":
    """Return the scenario without what only says what to run."""
    data = {name: one for name, one in scenario.to_data().items() if name not in (*ASIDE, "seed", "replications")}
    return type(scenario).of(Document.from_data({**data, "seed": 0}, scenario.name))
