"""What-if in Python: `load`, `simulate`, `compare`, `sweep`, `sensitivity`, `plan`, what they answer with, and `report`.

    import coordsim as cs
    scenario = cs.load("quickstart").replace("models.llm.replicas", 2)
    cs.simulate(scenario)                      # in a notebook: the report; `.figure()`, `.to_frame()`, `.summary()`

Every answer holds the `result` of the analysis, shows itself as the command's report, and gives it as a data frame and as a chart. All
mistakes in a scenario and its variants are one ScenarioError.

Leaves out: how anything is found out (`models`, `sim.analysis`) and said (`sim.report`).
Checked: tests/test_whatif.py, tests/test_run.py.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, ParamSpec, Self, TypeVar

from .models import compare as compare_models
from .models import plan as plan_models
from .models import sensitivity as sensitivity_models
from .models import study as study_models
from .models.provenance import call_of, provenance
from .models.run import Spans, digest_of, run
from .models.scenario import Scenario
from .models.scenario import load as load_file
from .sim.analysis.comparison import ComparisonResult
from .sim.analysis.jobs import Workers
from .sim.analysis.planned import PlanResult
from .sim.analysis.replicate import Run
from .sim.analysis.result import Result
from .sim.analysis.sensitivity import SensitivityResult
from .sim.analysis.study import StudyResult
from .sim.analysis.summary import Summary
from .sim.engine.errors import CoordsimError, did_you_mean, listed
from .sim.report.columns import columns
from .sim.report.html import to_html
from .sim.report.layout import WIDTH, Report, lay_out, text
from .sim.report.shipped import find

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from .sim.report.page.parts import Chart
    from .sim.report.stored import Stored
    from .sim.trace.export import Format as ExportFormat

__all__ = [
    "Answer",
    "CapacityPlan",
    "Comparison",
    "Sensitivity",
    "Simulation",
    "Study",
    "compare",
    "load",
    "plan",
    "report",
    "sensitivity",
    "simulate",
    "sweep",
]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
A = TypeVar("A", bound="Answer[Any]")

_RICH = {"": "", "title": "bold", "strong": "bold cyan", "faint": "dim"}


# ---------------------------------------------------------------------------------------------------------------------
# Answers


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer(ABC, Generic[T]):
    """An answer: the `result` that the analysis found. `asked` are the scenarios it is about, and `call` what asked: a report says both."""

    result: T
    asked: tuple[Scenario, ...] = field(default=(), kw_only=True)
    call: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, result: T, asked: tuple[Scenario, ...], call: str) -> Self:
        """Return the answer with a result."""
        return cls(result, asked=asked, call=call)

    @abstractmethod
    def _report(self) -> Report:
        """Return the report, as the command prints it."""

    @abstractmethod
    def _csv(self) -> str:
        """Return the numbers as the command's CSV has them."""

    @abstractmethod
    def _charts(self) -> Mapping[str, Chart]:
        """Return the charts by name, the one that answers the question first."""

    def _doubts(self) -> Iterable[str]:
        """Return what the command warns of."""
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the answer, a sentence each."""
        name = self._name()
        return tuple(re.sub(r"\bSCENARIO\b", lambda _match: name, one) for one in self._doubts())

    def _name(self) -> str:
        return str(getattr(self.result, "scenario", "SCENARIO"))

    def _stored(self) -> Stored:
        """Return the answer as a report takes it: with where it came from."""
        from .sim.report.stored import Stored, kind_of

        if not self.asked:
            raise ValueError(
                "the answer does not know its scenario, which a report says; ask for it with a function of coordsim"
            )
        found = self._found()
        return Stored(kind_of(found), found, provenance(self.asked[0], self.call, self.asked[1:], found))

    def _found(self) -> object:
        """Return what a report shows."""
        return self.result

    def save(self, path: str | os.PathLike[str], title: str = "") -> Path:
        """Write the report of this answer: a page (.html) that opens from disk, or Markdown (.md). What is there is replaced.

        `report` puts several answers on one page.
        """
        return report([self], path, title=title)

    def summary(self) -> str:
        """Return the report as text, as the command prints it; what is doubtful comes last."""
        lines = text(lay_out(self._report()))
        return lines + "".join(f"\nWARNING: {one}\n" for one in self.warnings)

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as a tidy table, not rounded: the columns of the command's CSV.

        A number that was not observed, and an end of an interval that is not known, is nan.
        """
        import pandas as pd

        return pd.DataFrame(columns(self._csv()))

    def figure(self, name: str | None = None) -> Any:
        """Return a chart as a plotly Figure, without the button that would send it to a server.

        It is the one that answers the question, unless another is asked for by `name`. Raises ValueError, which says their names.
        """
        made = self._charts()
        if not made:
            raise ValueError("there is nothing to draw")
        if name is not None and name not in made:
            hint = self._undrawn(name) or did_you_mean(name, made)
            raise ValueError(f"`name` must be one of {listed(made)}, but got {name!r}{hint}")
        chart = made[name] if name is not None else next(iter(made.values()))
        drawn = chart.figure()
        drawn.update_layout(modebar_remove=["sendDataToCloud", "editInChartStudio"])
        return drawn

    def _undrawn(self, _name: str) -> str:
        """Return what a chart that is not there would need; nothing where that is not known."""
        return ""

    def __repr__(self) -> str:
        """Return the answer in one line."""
        return f"{type(self).__name__}: {' '.join(self._report().answer.split())}"

    def _repr_html_(self) -> str:
        """Return the report for a notebook."""
        return to_html(self._report(), self.warnings)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the report for rich, as wide as its console."""
        from rich.text import Text

        for line in lay_out(self._report(), min(options.max_width, WIDTH)):
            yield Text(line.text, style=_RICH[line.style], no_wrap=True, overflow="ellipsis")
        for one in self.warnings:
            yield Text(f"WARNING: {one}", style="yellow")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Simulation(Answer[Run]):
    """The replications of a `scenario`: `results` one by one, and the `estimates` over all of them."""

    scenario: Scenario

    def _found(self) -> object:
        return digest_of(self.result, self.scenario)

    @property
    def results(self) -> tuple[Result, ...]:
        """The replications, each with its tasks and spans."""
        return self.result.results

    @property
    def estimates(self) -> Summary:
        """All replications summed up: metrics, categories, components, resources, objectives, each with its interval."""
        return self.result.summary

    def tasks(self) -> pd.DataFrame:
        """Return a row for each task of each replication, warm-up included: when it came and ended, and its parts (s)."""
        from .sim.analysis.frames import frame, tasks_table

        return frame(tasks_table(self.results))

    def export(self, path: str | os.PathLike[str], format: ExportFormat = "otlp") -> Path:
        """Write the first replication, run with `spans="all"`, as `Traces.export` does; raise TraceError if it has no spans."""
        from .models.trace_export import export, of_result

        export(of_result(self.results[0]), format, Path(path), overwrite=True)
        return Path(path)

    def _name(self) -> str:
        return self.scenario.name

    def _report(self) -> Report:
        from .models.runtime import PRESETS
        from .sim.report.overview import about
        from .sim.report.tables import report

        return report(self.estimates, about(self.scenario.to_data(), PRESETS))

    def _csv(self) -> str:
        from .sim.report.formats import to_csv

        return to_csv(self.estimates)

    def _charts(self) -> Mapping[str, Chart]:
        from .sim.analysis.digest import digest
        from .sim.report.sections.run_time import charts

        found = digest(self.results, self.estimates, self.scenario.workload.warmup)
        return {one.name: one for one in charts(found)}

    def _undrawn(self, name: str) -> str:
        from .sim.report.sections.run_time import OF_SPANS

        return f"; {name!r} needs spans: `coordsim.simulate(scenario, spans='all')`" if name in OF_SPANS else ""

    def _doubts(self) -> Iterable[str]:
        from .models.bounds import bounds

        return (*bounds(self.scenario).unstable, *self.estimates.warnings, *self.estimates.doubts)


class Told(Answer[T]):
    """An answer whose report, CSV and doubts are those of one module, and whose charts are those of another: in `sim.report`, by name."""

    _tables: ClassVar[str]
    _section: ClassVar[str]

    def _module(self, name: str) -> Any:
        return import_module(f".sim.report.{name}", __package__)

    def _report(self) -> Report:
        told: Report = self._module(self._tables).report(self.result)
        return told

    def _csv(self) -> str:
        told: str = self._module(self._tables).to_csv(self.result)
        return told

    def _charts(self) -> Mapping[str, Chart]:
        made: Mapping[str, Chart] = self._module(f"sections.{self._section}").figures(self.result)
        return made

    def _doubts(self) -> Iterable[str]:
        told: Iterable[str] = self._module(self._tables).warnings(self.result)
        return told


class Comparison(Told[ComparisonResult]):
    """Two variants over the same tasks: what is saved, by what, and whether that is resolved."""

    _tables, _section = "compare_tables", "compare"


class Study(Told[StudyResult]):
    """Scenarios over a design of factors and seeds, a cell for each; cells that failed are in it, with the reason."""

    _tables, _section = "study_tables", "study"

    def to_frame(self) -> pd.DataFrame:
        """Return the wide table, a row a cell: its factors, and of each metric value, `_low` and `_high`.

        Amounts are in base units; `frame.attrs['units']` says them.
        """
        return self.result.to_frame()

    def _name(self) -> str:
        names = self.result.scenarios
        return names[0] if len(names) == 1 else "SCENARIO"


class Sensitivity(Told[SensitivityResult]):
    """What metrics owe to each factor: swings, marginal values, and the measures of Morris and of Sobol'."""

    _tables, _section = "sensitivity_tables", "sensitivity"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CapacityPlan(Answer[PlanResult]):
    """The cheapest configuration that meets the objectives, at each load; `rate` is the arrival rate as it is written (1/s), nan without one."""

    rate: float = math.nan

    @classmethod
    def of(cls, result: PlanResult, asked: tuple[Scenario, ...], call: str) -> Self:
        """Return the plan of a scenario, whose loads are told in tasks."""
        rate = asked[0].workload.rate
        return cls(result, math.nan if rate is None else rate, asked=asked, call=call)

    def _report(self) -> Report:
        from .sim.report.plan_tables import report

        return report(self.result, self.rate)

    def _csv(self) -> str:
        from .sim.report.plan_csv import to_csv

        return to_csv(self.result)

    def _charts(self) -> Mapping[str, Chart]:
        from .sim.report.sections.plan import charts

        return {one.name: one for one in charts(self.result, self.rate)}

    def _doubts(self) -> Iterable[str]:
        from .sim.report.plan_tables import warnings

        return warnings(self.result)


# ---------------------------------------------------------------------------------------------------------------------
# Questions


def load(scenario: str | os.PathLike[str], overrides: dict[str, str] | None = None) -> Scenario:
    """Read and check a scenario: a YAML file, or one that ships, by name, such as `quickstart`.

    `overrides` (path to YAML text) are as `--set` of the command. Raises ScenarioError with every mistake.
    """
    return load_file(find(os.fspath(scenario)), overrides)


def simulate(
    scenario: Scenario,
    seed: int | None = None,
    *,
    replications: int | Literal["auto"] | None = None,
    precision: float | None = None,
    workers: int | Workers = 1,
    spans: Spans = "none",
) -> Simulation:
    """Run the replications of a scenario, and sum them up.

    What is not given is as the scenario says. `precision` is the relative error to reach, such as 0.05; `workers` are
    processes, or `Workers(4, 'dask')`, and no number depends on them. `spans` ('all', 'sampled', 'none') are kept of the first
    replication. Raises ScenarioError for objectives that nothing measures, and KeyboardInterrupt when it is stopped.
    """
    _check(scenario)
    with _stoppable():
        found = run(scenario, seed, replications=replications, precision=precision, workers=workers, spans=spans)
    options = {"seed": seed, "replications": replications, "precision": precision}
    call = call_of("simulate", scenario, {name: one for name, one in options.items() if one is not None})
    return Simulation(found, scenario, asked=(scenario,), call=call)


def report(answers: Answer[Any] | Iterable[Answer[Any]], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Write an answer, or several of any kinds, as one report: a page (.html) that opens from disk, or Markdown (.md); return its path.

    What is there is replaced. The title, unless given, names the scenarios. Raises ValueError for another ending, or no answer.
    """
    from .sim.report.sections.every import write

    several: Any = answers
    given = list(several) if isinstance(several, Iterable) and not isinstance(several, str) else [several]
    for one in given:
        if not isinstance(one, Answer):
            remedy = (
                "as `coordsim.simulate(scenario)` returns; `coordsim report DIR` takes the folders that commands wrote"
            )
            raise TypeError(f"must be an answer, {remedy}; got {type(one).__name__}")
    return write([one._stored() for one in given], Path(path), title)


def _answering(ask: Callable[P, R], answer: type[A]) -> Callable[P, A]:
    """Return a function that asks the same, about its first argument, and answers with an `answer`."""
    signature = inspect.signature(ask)

    @wraps(ask, assigned=("__name__", "__qualname__", "__doc__"))
    def asked(*args: P.args, **kwargs: P.kwargs) -> A:
        bound = signature.bind(*args, **kwargs)
        _check(bound.args[0])
        with _stoppable():
            found = ask(*args, **kwargs)
        (_, given), *rest = bound.arguments.items()
        options = {key: one for key, one in rest if signature.parameters[key].kind is not inspect.Parameter.VAR_KEYWORD}
        scenarios = (given,) if isinstance(given, Scenario) else tuple(given)
        scenarios += tuple(one for _, one in rest if isinstance(one, Scenario))
        return answer.of(found, scenarios, call_of(ask.__name__, given, {**options, **bound.kwargs}))

    asked.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    return asked


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a keyboard interrupt be one, as a notebook expects; what was complete is in its `__cause__`."""
    try:
        yield
    except CoordsimError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt(str(error)) from error
        raise


def _check(given: object) -> None:
    """Refuse what is neither a scenario nor several."""
    for one in given if isinstance(given, list | tuple) and given else (given,):
        if not isinstance(one, Scenario):
            name = os.fspath(one) if isinstance(one, str | os.PathLike) else "quickstart"
            raise TypeError(f"must be a Scenario, such as `coordsim.load({name!r})`; got {type(one).__name__}")


compare = _answering(compare_models.compare, Comparison)
sweep = _answering(study_models.sweep, Study)
sensitivity = _answering(sensitivity_models.sensitivity, Sensitivity)
plan = _answering(plan_models.plan, CapacityPlan)
