"""Studies: the section `study` of a scenario, and running what it asks for.

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

Leaves out: what options make of the section (`study_asked`), the cells (`study_cells`), how they are run (`sim.analysis.cells`) and told
(`sim.report.study_tables`).
Checked: tests/test_study.py, tests/test_sweep_command.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from ..sim.analysis import design as designs
from ..sim.analysis.design import Design, Range, Value
from ..sim.analysis.jobs import Workers
from ..sim.analysis.replicate import Progress
from ..sim.analysis.study import StudyResult, run_study
from ..sim.engine.errors import show
from ..sim.engine.spec import Count, PositiveCount, Spec, SpecProblem, SpecProblems
from .slo import no_such_metric, quantity_of
from .variants import ASIDE, simulate_text

if TYPE_CHECKING:
    from .scenario import Scenario
    from .study_asked import Asked

__all__ = ["StudyFile", "StudySpec", "all_scenarios", "run", "sweep", "values_of", "written"]

MOST = 100_000  # cells: each is checked before any is run
_KNOWN = ("coordination_share", "coordination_without_tool_execute_share", "arrival_rate", "number_in_system")
# Paths that are no part of the system: what to write in their place.
_REFUSED = {
    "seed": "give several `seeds` in place of a factor",
    "replications": "they are the same in every cell: give `replications` of the study",
    "confidence": "it is the same in every cell",
    "name": "it changes no run",
    **dict.fromkeys(ASIDE, "it changes no run"),
}


def values_of(given: object) -> tuple[Value, ...] | Range:
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


def written(values: tuple[Value, ...] | Range) -> Any:
    """Return a factor's values or range as the section writes them."""
    return values.to_data() if isinstance(values, Range) else list(values)


Values = Annotated[
    Any,
    BeforeValidator(values_of),
    PlainSerializer(written),
    WithJsonSchema(
        {
            "description": "Values, or a range `{from: 100 ms, to: 1 s, scale: log, whole: false, steps: 5}`",
            "anyOf": [{"type": "array", "minItems": 1}, {"type": "object", "required": ["from", "to"]}],
        }
    ),
]


def _factor(path: str) -> str:
    remedy = _REFUSED.get(path.partition(".")[0].strip())
    if remedy is not None:
        raise ValueError(f"cannot be a factor: {remedy}")
    return path


def _measured(name: str) -> str:
    if name not in _KNOWN and quantity_of(name) is None:
        raise ValueError(no_such_metric(name))
    return name


def _differing(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("must differ, or cells are the same twice")
    return seeds


FactorPath = Annotated[str, AfterValidator(_factor)]
MetricName = Annotated[str, AfterValidator(_measured)]


class StudyFile(Spec):
    """Another scenario that a study runs, by its file."""

    file: str


class StudySpec(Spec):
    """What `coordsim sweep` does with the scenario: the design, its factors, and what else makes cells.

    `over` maps paths to values or ranges; a list has `rows`. `points` are those of a sample (random, latin-hypercube, sobol; 32), or
    the steps of each range of a grid or zip that says none. All `scenarios` run at every point, with every one of the `seeds` (the scenario's own).
    """

    design: Design | None = None
    over: dict[FactorPath, Values] = {}
    rows: tuple[dict[FactorPath, Any], ...] = ()
    points: Annotated[PositiveCount, Field(le=MOST)] | None = None
    seeds: Annotated[tuple[Count, ...], AfterValidator(_differing)] = ()
    replications: PositiveCount | None = None
    metrics: tuple[MetricName, ...] = ()
    scenarios: Annotated[tuple[StudyFile, ...], Field(default=())]

    @model_validator(mode="after")
    def _one_design(self) -> Self:
        found = list(self._misfits())
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

    @property
    def kind(self) -> Design:
        """The design: what is written, else a list where there are rows, else a grid."""
        return self.design or ("list" if self.rows else "grid")

    def levels(self, path: str) -> tuple[Value, ...]:
        """Return the values of a factor of a grid or a zip."""
        values = self.over[path]
        return values.ladder(self.points) if isinstance(values, Range) else tuple(values)


# ---------------------------------------------------------------------------------------------------------------------
# Running it


def all_scenarios(scenarios: Sequence["Scenario"], read: Callable[[str], "Scenario"] | None = None) -> list["Scenario"]:
    """Return the scenarios with those that the first one's section names, which `read` reads (`load`). Raises ScenarioError."""
    from .scenario import load

    spec = scenarios[0].study
    return [*scenarios, *((read or load)(one.file) for one in (spec.scenarios if spec else ()))]


def run(
    scenarios: Sequence["Scenario"],
    given: "Asked",
    *,
    workers: int | Workers = 1,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    command: str = "",
) -> StudyResult:
    """Run a study, and keep it in the folder `out`, where `resume` goes on with one that was interrupted; `command` asked for it.

    Raises ScenarioError with every mistake, FileError for a folder that holds something else, StudyInterrupted and WorkerError.
    """
    from .study_cells import labels_of, make_study, system_of

    study = make_study(scenarios, given)
    if out is None:
        return run_study(simulate_text, study, workers=workers, progress=progress)
    from ..sim.report.study_answers import ANSWERS, file_of
    from .provenance import provenance

    named = dict(zip(labels_of(scenarios), scenarios, strict=True))
    asked = {**study.identity, "scenarios": {label: system_of(one).to_digest() for label, one in named.items()}}
    with ANSWERS.journal(out, asked, resume=resume, overwrite=overwrite) as journal:
        found = run_study(simulate_text, study, workers=workers, journal=journal, progress=progress)
        files = {file_of(label): _with_study(one, given.spec) for label, one in named.items()}
        ANSWERS.write(found, provenance(scenarios[0], command, scenarios[1:], found), files, out, overwrite=True)
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
    from .study_asked import merged, plain_values

    several = [scenarios] if not isinstance(scenarios, Sequence) else list(scenarios)
    if not several:
        raise ValueError("there is no scenario to run")
    given: dict[str, Any] = {}
    if over is not None:
        given["over"] = {path: plain_values(values) for path, values in over.items()}
    given |= {"design": design} if design is not None else {}
    given |= {"points": points} if points is not None else {}
    given |= {"seeds": [int(one) for one in seeds]} if seeds is not None else {}
    given |= {"metrics": list(metrics)} if metrics else {}
    origins: dict[tuple[str | int, ...], str] = {("over", path): f"over[{path!r}]" for path in given.get("over", {})}
    wanted = merged(several[0], given, origins, replications, precision)
    return run(all_scenarios(several), wanted, workers=workers, out=None if out is None else Path(out), resume=resume)
