"""From what a command's options say, as text, to a scenario and the settings of its replications; the schema as text.

Leaves out: the command line itself.
Checked: tests/test_cli.py.
"""

import json
import os
from collections.abc import Iterable
from typing import Literal

from ..sim.analysis.replicate import Settings
from ..sim.engine import units
from ..sim.engine.errors import CoordsimError
from ..sim.engine.schema import json_schema
from ..sim.engine.source import Document, load
from ..sim.report.reference import markdown
from .compare import CompareOptions, asked
from .compare_plan import make_plan
from .scenario import Scenario
from .slo import objectives


class OptionError(CoordsimError):
    """An option whose value cannot be: which, the rule, and what was got."""


def read_scenario(path: str | os.PathLike[str], sets: Iterable[str], run: Iterable[tuple[str, str]] = ()) -> Scenario:
    """Return the scenario in a file with the values of `--set` replaced, then those that other options give (`run`).

    Raises ScenarioError with every mistake, and OptionError for a `--set` that is none.
    """
    return Scenario.of(read_document(path, sets, run))


def read_document(path: str | os.PathLike[str], sets: Iterable[str], run: Iterable[tuple[str, str]] = ()) -> Document:
    """Return what `read_scenario` checks."""
    document = load(path)
    for text in sets:
        place, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--set must be a path and a value, as in `models.llm.replicas=4`; got `{text}`")
        document = Scenario.overridden(document, place.strip(), value)
    for place, value in run:
        workload = document.data.get("workload")
        absent = not isinstance(workload, dict) or place.partition(".")[2] not in workload
        if value != "null" or not absent:  # null deletes, and there must be something to delete
            document = document.with_override(place, value)
    return document


def read_comparison(
    path: str | os.PathLike[str],
    other: str | os.PathLike[str] | None,
    sets: Iterable[str],
    run: Iterable[tuple[str, str]],
    options: CompareOptions,
) -> tuple[Scenario, Scenario | None]:
    """Return the scenario with what the options of `compare` say in its section, and the one to compare it with, if any.

    Raises ScenarioError with every mistake, also those of the variants that it asks for.
    """
    scenario = Scenario.of(asked(read_document(path, sets, run), options))
    second = None if other is None else read_scenario(other, sets, run)
    make_plan(scenario, second)
    return scenario, second


def json_schema_text() -> str:
    """Return the JSON Schema of scenarios."""
    return json.dumps(json_schema(Scenario), indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """Return every field of a scenario, as Markdown."""
    return markdown(json_schema(Scenario), "Scenario", "The scenario: every field")


def overrides(seed: int | None, tasks: int | None, horizon: str | None, warmup: str | None) -> list[tuple[str, str]]:
    """Return what the options change in the scenario; a run ends by tasks or by time, so one replaces the other."""
    if tasks is not None and horizon is not None:
        raise OptionError("a run ends by --tasks or by --horizon; give one of them")
    found = [] if seed is None else [("seed", str(seed))]
    if tasks is not None:
        found += [("workload.horizon", "null"), ("workload.tasks", str(tasks))]
    if horizon is not None:
        found += [("workload.tasks", "null"), ("workload.horizon", horizon)]
    return found if warmup is None else [*found, ("workload.warmup", warmup)]


def settings(scenario: Scenario, replications: str | None, precision: str | None, spans: str) -> Settings:
    """Return the settings that the scenario has, but for what the options say."""
    number: int | Literal["auto"] = scenario.replications if precision is None else "auto"
    if replications is not None:
        number = replications_of(replications)
    return Settings(
        replications=number,
        precision=None if precision is None else precision_of(precision),
        warmup=scenario.workload.warmup,
        objectives=objectives(scenario.slo),
        confidence=scenario.confidence,
        spans=spans,
    )


def replications_of(text: str) -> int | Literal["auto"]:
    """Return what `--replications` says. Raises OptionError."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        raise OptionError(f"--replications must be `auto` or a whole number >= 1; got `{text}`")
    return int(text)


def precision_of(text: str) -> float:
    """Return what `--precision` says, a share. Raises OptionError."""
    try:
        share = units.parse(text, units.SHARE)
    except ValueError as error:
        raise OptionError(f"--precision {error}") from error
    if share == 0:
        raise OptionError("--precision must be above 0; got 0")
    return share
