"""Studies: the section `study` of a scenario, what the options of `coordsim sweep` make of it, and all cells, checked before any runs.

    study:
      design: grid                               # or list, zip, random, latin-hypercube, sobol
      over:
        models.llm.replicas: [1, 2, 4]
        tools.search.latency: {from: 100 ms, to: 1 s, scale: log, steps: 4}
      points: 64                                 # of a sample; in a grid, the steps of each range that says none
      seeds: [1, 2, 3]
      metrics: [ttft_p95]
      scenarios: [{file: other.yaml}]            # run over the same points

A factor is the path of anything in a scenario. A list has `rows`, each a mapping of paths to values, in place of `over`.

Leaves out: how cells are run (`sim.analysis.cells`) and told (`sim.report.study_tables`).
Checked: tests/test_study.py, tests/test_sweep_command.py.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, WithJsonSchema, model_validator

from ..sim.analysis import design as designs
from ..sim.analysis.design import DESIGNS, SAMPLED, Design, DesignError, Range, Value
from ..sim.analysis.jobs import Workers
from ..sim.analysis.replicate import Progress, Settings
from ..sim.analysis.slo import full_name
from ..sim.analysis.study import Level, PlannedCell, Study, StudyFactor, StudyResult, run_study, told
from ..sim.engine.errors import Problem, ScenarioError, did_you_mean, listed, show
from ..sim.engine.mistakes import mistakes
from ..sim.engine.nodes import Position
from ..sim.engine.source import Document
from ..sim.engine.spec import Count, PositiveCount, Spec, SpecProblem, SpecProblems
from .slo import _no_such_metric, _quantity
from .variants import ASIDE, Variants, document_of, scenario_of, simulate_text

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["StudyOptions", "StudySpec", "asked", "make_study", "sweep"]

MOST = 100_000  # cells: each is checked before any is run
MAIN = "response_time_p95"
_RANGE = re.compile(r"(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?(?::(?P<steps>\d{1,9}))?")
_KNOWN = ("coordination_share", "coordination_without_tool_execute_share", "arrival_rate", "number_in_system")
# Paths that are no part of the system: what to write in their place.
_REFUSED = {
    "seed": "give several `seeds` in place of a factor",
    "replications": "they are the same in every cell: give `replications` of the study",
    "confidence": "it is the same in every cell",
    "name": "it changes no run",
    **dict.fromkeys(ASIDE, "it changes no run"),
}


def _values(given: object) -> tuple[Value, ...] | Range:
    """Return a factor's values or range; ValueError with the rule."""
    if isinstance(given, Range):
        return given
    if isinstance(given, Mapping):
        return designs.range_of(given)
    if not isinstance(given, list | tuple):
        raise ValueError(f"must be a list of values, or a range such as {{from: 100 ms, to: 1 s}}; got {show(given)}")
    if not given:
        raise ValueError("must have at least one value")
    if None in given:
        raise ValueError("no value may be empty: every cell must say what the factor is")
    return tuple(given)


def _written(values: tuple[Value, ...] | Range) -> Any:
    return values.to_data() if isinstance(values, Range) else list(values)


Values = Annotated[
    Any,
    BeforeValidator(_values),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "description": "Values, or a range `{from: 100 ms, to: 1 s, scale: log, whole: false, steps: 5}`",
            "anyOf": [{"type": "array", "minItems": 1}, {"type": "object", "required": ["from", "to"]}],
        }
    ),
]


class StudyFile(Spec):
    """Another scenario that a study runs, by its file."""

    file: str


class StudySpec(Spec):
    """What `coordsim sweep` does with the scenario: the design, its factors, and what else makes cells.

    `over` maps paths to values or ranges; a list has `rows`. `points` are those of a sample (random, latin-hypercube, sobol; 32), or
    the steps of each range of a grid or zip that says none. All `scenarios` run at every point, with every one of the `seeds` (the scenario's own).
    """

    design: Design | None = None
    over: dict[str, Values] = {}
    rows: tuple[dict[str, Any], ...] = ()
    points: PositiveCount | None = None
    seeds: tuple[Count, ...] = ()
    replications: PositiveCount | None = None
    metrics: tuple[str, ...] = ()
    scenarios: Annotated[tuple[StudyFile, ...], Field(default=())]

    @model_validator(mode="after")
    def _one_design(self) -> Self:
        found = [*self._misfits(), *_bad_paths(self.over, "over")]
        for number, row in enumerate(self.rows):
            found += _bad_paths(row, "rows", number)
        for number, name in enumerate(self.metrics):
            if not _measured(name):
                found.append(SpecProblem(("metrics", number), _no_such_metric(name)))
        if found:
            raise SpecProblems(found)
        return self

    def _misfits(self) -> Iterator[SpecProblem]:
        """Yield what does not go together."""
        if self.rows and self.over:
            yield SpecProblem(("rows",), "is a design of its own, so `over` cannot be given too", True)
        if self.rows and self.design not in (None, "list"):
            yield SpecProblem(("design",), f"`rows` are a list; got `{self.design}`")
        if self.design == "list" and self.over:
            yield SpecProblem(("design",), "a list has `rows`, each a mapping of paths to values, in place of `over`")
        if self.design is not None and not (self.rows or self.over):
            what = "rows" if self.design == "list" else "over"
            yield SpecProblem(("design",), f"has no factor to vary: `{what}` is missing")
        counts = {path: len(self.levels(path)) for path in self.over} if self.design == "zip" else {}
        if len(set(counts.values())) > 1:
            told_of = ", ".join(f"`{path}` has {count}" for path, count in counts.items())
            yield SpecProblem(("over",), f"a zip takes as many values of every factor; {told_of}", True)
        if len(set(self.seeds)) < len(self.seeds):
            yield SpecProblem(("seeds",), "must differ, or cells are the same twice")
        if self.points is not None and self.points > MOST:
            yield SpecProblem(("points",), f"must be at most {MOST:,}; got {self.points:,}")

    @property
    def kind(self) -> Design:
        """The design: what is written, else a list where there are rows, else a grid."""
        return self.design or ("list" if self.rows else "grid")

    def levels(self, path: str) -> tuple[Value, ...]:
        """Return the values of a factor of a grid or a zip."""
        values = self.over[path]
        return values.ladder(self.points) if isinstance(values, Range) else tuple(values)


def _bad_paths(paths: Iterable[str], *where: str | int) -> Iterator[SpecProblem]:
    for path in paths:
        remedy = _REFUSED.get(path.partition(".")[0].strip())
        if remedy is not None:
            yield SpecProblem((*where, path), f"cannot be a factor: {remedy}", at_key=True)


def _measured(name: str) -> bool:
    """Whether a metric is one that every scenario measures."""
    return name in _KNOWN or _quantity(name) is not None


# ---------------------------------------------------------------------------------------------------------------------
# What is asked for


@dataclass(frozen=True)
class StudyOptions:
    """What the command line asks for, as it is written; each option replaces its part of the section."""

    over: Sequence[str] = ()
    design: str | None = None
    points: int | None = None
    seeds: str | None = None
    replications: str | None = None
    precision: str | None = None
    metrics: Sequence[str] = ()


@dataclass(frozen=True)
class Asked:
    """A study as it is asked for: its section, with options in place, and where each part was written."""

    spec: StudySpec
    where: Callable[[tuple[str | int, ...]], Position]
    replications: int | Literal["auto"] | None = None
    precision: float | None = None


def asked(scenario: "Scenario", options: StudyOptions) -> Asked:
    """Return the study that options ask for, over the scenario's section. Raises ScenarioError with every mistake, OptionError for a number."""
    from .options import _number, _precision

    problems: list[Problem] = []
    given: dict[str, Any] = {}
    origins: dict[tuple[str | int, ...], str] = {}
    for text in options.over:
        path, equals, values = (part.strip() for part in text.partition("="))
        if not (equals and path and values):
            problems.append(Problem("", f"must be a path and values, as in `models.llm.replicas=1,2,4` or `=1..8`; got `{text}`", "--over"))
            continue
        if path in given.setdefault("over", {}):
            problems.append(Problem("", "is given twice; give all its values at once", f"--over {path}"))
        try:
            given["over"][path] = _option_values(values)
        except (DesignError, ScenarioError, ValueError) as error:
            message = error.problems[0].message if isinstance(error, ScenarioError) else str(error)
            problems.append(Problem("", message, f"--over {path}"))
        origins["over", path] = f"--over {text}"
    if options.seeds is not None:
        try:
            given["seeds"] = _seeds(options.seeds)
        except ValueError as error:
            problems.append(Problem("", str(error), "--seeds"))
    given |= {name: one for name in ("design", "points") if (one := getattr(options, name)) is not None}
    given |= {"metrics": list(options.metrics)} if options.metrics else {}
    if problems:
        raise ScenarioError(problems, "coordsim sweep")
    number = None if options.replications is None else _number(options.replications)
    precision = None if options.precision is None else _precision(options.precision)
    return _merged(scenario, given, origins, number, precision)


def _merged(
    scenario: "Scenario",
    given: Mapping[str, Any],
    origins: Mapping[tuple[str | int, ...], str],
    replications: int | Literal["auto"] | None,
    precision: float | None,
) -> Asked:
    """Return the section with what is given in place. Raises ScenarioError with every mistake."""
    document = document_of(scenario)

    def where(path: tuple[str | int, ...]) -> Position:
        if path[:2] in origins:
            return Position(origins[path[:2]])
        if path and path[0] in given:
            return Position(f"--{'metric' if path[0] == 'metrics' else path[0]}")
        return document.where(("study", *path))

    kept: dict[str, Any] = {} if scenario.study is None else scenario.study.model_dump(mode="json", exclude_none=True)
    if "over" in given:
        kept.pop("rows", None)
        if kept.get("design") == "list":
            kept.pop("design")
    data = {name: one for name, one in {**kept, **given}.items() if one not in ((), [], {})}
    try:
        spec = StudySpec.model_validate(data)
    except ValidationError as error:
        found = [_at(where(one.path), one.message, one.path) for one in mistakes(StudySpec, error, data)]
        raise ScenarioError(found, document.name) from None
    return Asked(spec, where, replications, precision)


def _at(place: Position, message: str, path: Iterable[str | int] = ()) -> Problem:
    shown = "" if place.file.startswith("--") else ".".join(map(str, ("study", *path)))
    return Problem(shown, message, place.file, place.line, place.column, place.source)


def _option_values(text: str) -> Any:
    """Return the values that `1,2,4`, `1..8`, `100 ms..1 s:log` or `1..64:log:4` mean, as the section writes them."""
    found = _RANGE.fullmatch(text)
    if found is None:
        values = Document.from_text(f"value: [{text}]", "--over").data["value"]
        _values(values)
        return values
    ends = Document.from_text(f"value: [{found['low']}, {found['high']}]", "--over").data["value"]
    data: dict[str, Any] = {"from": ends[0], "to": ends[-1], "scale": "log" if found["log"] else "linear"}
    data |= {"steps": int(found["steps"])} if found["steps"] else {}
    designs.range_of(data)
    return data


def _seeds(text: str) -> list[int]:
    """Return the seeds of `1,2,3` or `1..10`. Raises ValueError."""
    first, dots, last = (part.strip() for part in text.partition(".."))
    parts = [first, last] if dots else [one.strip() for one in text.split(",")]
    if not all(one.isascii() and one.isdigit() and len(one) < 13 for one in parts):
        raise ValueError(f"must be whole numbers >= 0, as in `1,2,3` or `1..10`; got `{text}`")
    numbers = [int(one) for one in parts]
    if dots and not 0 <= numbers[1] - numbers[0] <= MOST:
        raise ValueError(f"must rise, by at most {MOST:,}; got `{text}`")
    return list(range(numbers[0], numbers[1] + 1)) if dots else numbers


# ---------------------------------------------------------------------------------------------------------------------
# The cells


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
            for problem in error.problems:
                self._keep(problem, _culprit(problem, changes), changes)

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


def _culprit(problem: Problem, changes: Sequence[_Change]) -> _Change | None:
    """Return the value that a mistake was written in; None for one written elsewhere."""
    if not problem.file.startswith("--set "):
        return None
    where = problem.file.removeprefix("--set ").partition("=")[0]
    near = [one for one in changes if f"{problem.path}.".startswith(f"{one.path}.")]
    near += [one for one in changes if one.path == where or one.path.startswith(f"{where}.")]
    return near[0] if near else None


def make_study(scenarios: Sequence["Scenario"], given: Asked) -> Study[str]:
    """Return all cells: scenarios × points × seeds. Raises ScenarioError with every mistake in them, each where it was written."""
    spec = given.spec
    _check_size(scenarios, given)
    paths, points = _points(scenarios[0], given)
    made = [StudyFactor.of(path, [_value(point, path) for point in points]) for path in paths]
    levels = [tuple(factor[1][number] for factor in made) for number in range(len(points))]
    labels = _labels(scenarios)
    checkers = [_Checker(one, label, len(scenarios) > 1) for one, label in zip(scenarios, labels, strict=True)]
    # A factor may change how a cell is summed up; reading every variant again for nothing costs as much as checking it.
    summed = any(path.partition(".")[0] in ("slo", "workload") for path in paths)
    cells: list[PlannedCell] = []
    for checker in checkers:
        for number, point in enumerate(points):
            key = checker.key(point)
            variant = scenario_of(key) if key and summed else checker.scenario
            settings = _settings(variant, given)
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
        identity=_identity(scenarios, labels, given, levels, cells),
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
        raise ScenarioError([_at(place, message)], document_of(scenarios[0]).name)
    if total > MOST:
        message = (
            f"makes {total:,} cells ({count:,} points × {seeds:,} seeds × {len(scenarios)} scenarios), and at most {MOST:,} can be run; "
            "try `design: sobol` with some hundred `points`"
        )
        raise ScenarioError([_at(place, message)], document_of(scenarios[0]).name)


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


def _labels(scenarios: Sequence["Scenario"]) -> list[str]:
    """Return the names of scenarios, told apart where two have one."""
    seen: dict[str, int] = {}
    labels = []
    for one in scenarios:
        seen[one.name] = seen.get(one.name, 0) + 1
        labels.append(one.name if seen[one.name] == 1 else f"{one.name} ({seen[one.name]})")
    return labels


def _settings(scenario: "Scenario", given: Asked) -> Settings:
    replications = given.replications or given.spec.replications
    if replications is None:
        replications = "auto" if given.precision is not None else scenario.replications
    return Settings(
        replications=replications,
        precision=given.precision,
        warmup=scenario.workload.warmup,
        objectives=scenario.objectives,
        metrics=given.spec.metrics,
        confidence=scenario.confidence,
    )


def _identity(
    scenarios: Sequence["Scenario"],
    labels: Sequence[str],
    given: Asked,
    levels: Sequence[tuple[Level, ...]],
    cells: Sequence[PlannedCell],
) -> dict[str, Any]:
    """Return all that decides the numbers, as plain data: the same in any folder, on any machine."""
    spec = given.spec
    points = json.dumps([[one.text for one in point] for point in levels])
    return {
        "scenarios": {label: _system(one).hash for label, one in zip(labels, scenarios, strict=True)},
        "design": spec.kind,
        "factors": {path: _written(values) for path, values in spec.over.items()} or [dict(row) for row in spec.rows],
        "points": {"count": len(levels), "hash": hashlib.sha256(points.encode()).hexdigest()},
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


def _system(scenario: "Scenario") -> "Scenario":
    """Return the scenario without what only says what to run."""
    data = {name: one for name, one in scenario.to_data().items() if name not in (*ASIDE, "seed", "replications")}
    return type(scenario).of(Document.from_data({**data, "seed": 0}, scenario.name))


# ---------------------------------------------------------------------------------------------------------------------
# Running it


def all_scenarios(scenarios: Sequence["Scenario"]) -> list["Scenario"]:
    """Return the scenarios with those that the first one's section names. Raises ScenarioError."""
    from .scenario import load

    spec = scenarios[0].study
    return [*scenarios, *(load(one.file) for one in (spec.scenarios if spec else ()))]


def run(
    scenarios: Sequence["Scenario"],
    given: Asked,
    *,
    workers: int | Workers = 1,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Run a study, and keep it in the folder `out`, where `resume` goes on with one that was interrupted.

    Raises ScenarioError with every mistake, FileError for a folder that holds something else, StudyInterrupted and WorkerError.
    """
    study = make_study(scenarios, given)
    if out is None:
        return run_study(simulate_text, study, workers=workers, progress=progress)
    from ..sim.report.study_folder import StudyFolder

    written = {label: _with_study(one, given.spec) for label, one in zip(_labels(scenarios), scenarios, strict=True)}
    folder = StudyFolder(out)
    folder.begin(study.identity, resume=resume, overwrite=overwrite)
    found = run_study(simulate_text, study, workers=workers, journal=folder.journal(), progress=progress)
    folder.write(found, written)
    return found


def _with_study(scenario: "Scenario", spec: StudySpec) -> str:
    """Return a scenario as YAML, with the study that it took part in; not the files of the others, which stand beside it."""
    section = {name: one for name, one in spec.to_data().items() if name != "scenarios" and one not in ([], {})}
    return scenario.replace("study", section).to_yaml() if section else scenario.to_yaml()


def sweep(  # noqa: PLR0913  # the front door: each is an option of the command
    scenarios: "Scenario | Sequence[Scenario]",
    over: Mapping[str, Any] | None = None,
    *,
    design: Design | None = None,
    points: int | None = None,
    seeds: Sequence[int] | None = None,
    replications: int | Literal["auto"] | None = None,
    precision: float | None = None,
    metrics: Sequence[str] = (),
    workers: int | Workers = 1,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
) -> StudyResult:
    """Run scenarios over a design of factors and seeds: one tidy table, with intervals, in which all cells meet the same draws.

    `over` maps paths to values, or to a range: a mapping, or text such as `"1..8"`. What is not given is as the first scenario's section
    `study` says. `metrics` are more columns, such as `ttft_p95`. `out` is a folder to write to, and `resume` goes on in it. No number depends on
    `workers`. Raises ScenarioError with every mistake before anything runs, and FileError for a folder that holds something else.
    """
    several = [scenarios] if not isinstance(scenarios, Sequence) else list(scenarios)
    if not several:
        raise ValueError("there is no scenario to run")
    given: dict[str, Any] = {}
    if over is not None:
        given["over"] = {path: _plain(values) for path, values in over.items()}
    given |= {"design": design} if design is not None else {}
    given |= {"points": points} if points is not None else {}
    given |= {"seeds": [int(one) for one in seeds]} if seeds is not None else {}
    given |= {"metrics": list(metrics)} if metrics else {}
    origins: dict[tuple[str | int, ...], str] = {("over", path): f"over[{path!r}]" for path in given.get("over", {})}
    wanted = _merged(several[0], given, origins, replications, precision)
    return run(
        all_scenarios(several), wanted, workers=workers, out=None if out is None else Path(out), resume=resume
    )


def _plain(values: Any) -> Any:
    """Return what a caller gives as values, as a section writes it; arrays hold numbers of their own kinds."""
    if isinstance(values, str):
        return _option_values(values)
    if isinstance(values, Mapping):
        return dict(values)
    return [one.item() if hasattr(one, "item") else one for one in values]
