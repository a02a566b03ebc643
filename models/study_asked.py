"""What is asked of a study: the section of a scenario, with what the options of `coordsim sweep`, or a caller in Python, put in place.

Leaves out: whether the scenario has the factors (`study_cells`).
Checked: tests/test_study.py, tests/test_sweep_command.py.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ..sim.analysis import design as designs
from ..sim.engine.errors import Problem, ScenarioError
from ..sim.engine.mistakes import mistakes
from ..sim.engine.nodes import Position
from ..sim.engine.source import Document
from .study import MOST, StudySpec, values_of
from .variants import document_of

if TYPE_CHECKING:
    from .scenario import Scenario

__all__ = ["Asked", "StudyOptions", "asked", "at", "merged", "plain_values"]

_RANGE = re.compile(r"(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?(?::(?P<steps>\d{1,9}))?")


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
    from .options import precision_of, replications_of

    problems: list[Problem] = []
    given: dict[str, Any] = {}
    origins: dict[tuple[str | int, ...], str] = {}
    for text in options.over:
        path, equals, values = (part.strip() for part in text.partition("="))
        if not (equals and path and values):
            problems.append(
                Problem(
                    "",
                    f"must be a path and values, as in `models.llm.replicas=1,2,4` or `=1..8`; got `{text}`",
                    "--over",
                )
            )
            continue
        if path in given.setdefault("over", {}):
            problems.append(Problem("", "is given twice; give all its values at once", f"--over {path}"))
        try:
            given["over"][path] = _option_values(values)
        except (designs.DesignError, ScenarioError, ValueError) as error:
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
    origins |= {("metrics", number): f"--metric {name}" for number, name in enumerate(options.metrics)}
    if problems:
        raise ScenarioError(problems, "coordsim sweep")
    number = None if options.replications is None else replications_of(options.replications)
    precision = None if options.precision is None else precision_of(options.precision)
    return merged(scenario, given, origins, number, precision)


def merged(
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
            return Position(f"--{path[0]}")
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
        found = [at(where(one.path), one.message, one.path) for one in mistakes(StudySpec, error, data)]
        raise ScenarioError(found, document.name) from None
    return Asked(spec, where, replications, precision)


def at(place: Position, message: str, path: Iterable[str | int] = ()) -> Problem:
    """Return a mistake at a place; one in an option needs no path."""
    shown = "" if place.file.startswith("--") else ".".join(map(str, ("study", *path)))
    return Problem(shown, message, place.file, place.line, place.column, place.source)


def _option_values(text: str) -> Any:
    """Return the values that `1,2,4`, `1..8`, `100 ms..1 s:log` or `1..64:log:4` mean, as the section writes them."""
    found = _RANGE.fullmatch(text)
    if found is None:
        values = Document.from_text(f"value: [{text}]", "--over").data["value"]
        values_of(values)
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


def plain_values(values: Any) -> Any:
    """Return what a caller gives as values, as a section writes it; arrays hold numbers of their own kinds."""
    if isinstance(values, str):
        return _option_values(values)
    if isinstance(values, Mapping):
        return dict(values)
    if not isinstance(values, Iterable):
        return [values]
    return [one.item() if hasattr(one, "item") else one for one in values]
