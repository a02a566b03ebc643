"""What-if in Python: `load`, `simulate`, `compare`, `sweep`, `sensitivity`, `plan`, and what they answer with.

    import coordsim as cs
    scenario = cs.load("quickstart").replace("models.llm.replicas", 2)
    cs.simulate(scenario)                      # in a notebook: the report; `.figure()`, `.to_frame()`, `.summary()`

Every answer holds the `result` of the analysis, shows itself as the command's report, and gives it as a data frame and as a
chart. The functions take what those of the models take; all mistakes in a scenario and its variants are one ScenarioError.

Leaves out: how anything is found out (`models`, `sim.analysis`) and said (`sim.report`).
Checked: tests/test_whatif.py, tests/test_run.py.
"""

from __future__ import annotations

import inspect
import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

from .models import compare as compare_models
from .models.run import run
from .models.scenario import Scenario
from .models.scenario import load as load_file
from .sim.analysis.comparison import ComparisonResult
from .sim.analysis.jobs import Workers
from .sim.analysis.replicate import Run
from .sim.analysis.result import Result
from .sim.analysis.summary import Summary
from .sim.engine.errors import CoordsimError
from .sim.report.html import to_html
from .sim.report.layout import WIDTH, Report, lay_out, text
from .sim.report.shipped import find

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

__all__ = ["Answer", "Comparison", "Simulation", "compare", "load", "simulate"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
A = TypeVar("A", bound="Answer[Any]")

_RICH = {"": "", "title": "bold", "strong": "bold cyan", "faint": "dim"}


# ---------------------------------------------------------------------------------------------------------------------
# Answers


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer(ABC, Generic[T]):
    """An answer: the `result` that the analysis found, and the ways to read it."""

    result: T

    @abstractmethod
    def _report(self) -> Report:
        """Return the report, as the command prints it."""

    @abstractmethod
    def _csv(self) -> str:
        """Return the numbers as the command's CSV has them."""

    @abstractmethod
    def _figure(self) -> Any:
        """Return the chart."""

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

    def summary(self) -> str:
        """Return the report as text, as the command prints it; what is doubtful comes last."""
        lines = text(lay_out(self._report()))
        return lines + "".join(f"\nWARNING: {one}\n" for one in self.warnings)

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as a tidy table, not rounded: the columns of the command's CSV.

        A number that was not observed, and an end of an interval that is not known, is nan.
        """
        import pandas as pd

        # Names such as `none` and `null` stay as they are: only an empty cell is missing.
        read: pd.DataFrame = pd.read_csv(
            io.StringIO(self._csv()), float_precision="round_trip", keep_default_na=False, na_values=[""]
        )
        named = read.select_dtypes(exclude="number").columns
        return read.fillna(dict.fromkeys(named, "")) if len(named) else read

    def figure(self) -> Any:
        """Return the chart as a plotly Figure, without the button that would send it to a server."""
        drawn = self._figure()
        drawn.update_layout(modebar_remove=["sendDataToCloud", "editInChartStudio"])
        return drawn

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

    def _figure(self) -> Any:
        import numpy as np

        from .sim.analysis.summarize import cut_warmup
        from .sim.report.run_figure import figure

        _, views = cut_warmup(self.results, self.scenario.workload.warmup)
        return figure(self.estimates, np.concatenate([view.response_times for view in views]))

    def _doubts(self) -> Iterable[str]:
        from .models.bounds import bounds

        return (*bounds(self.scenario).unstable, *self.estimates.warnings, *self.estimates.doubts)


class Comparison(Answer[ComparisonResult]):
    """Two variants over the same tasks: what is saved, by what, and whether that is resolved."""

    def _report(self) -> Report:
        from .sim.report.compare_tables import report

        return report(self.result)

    def _csv(self) -> str:
        from .sim.report.compare_tables import to_csv

        return to_csv(self.result)

    def _figure(self) -> Any:
        from .sim.report.compare_plot import figure

        return figure(self.result)

    def _doubts(self) -> Iterable[str]:
        from .sim.report.compare_tables import warnings

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
    spans: str = "none",
) -> Simulation:
    """Run the replications of a scenario, and sum them up.

    What is not given is as the scenario says. `precision` is the relative error to reach, such as 0.05; `workers` are
    processes, or `Workers(4, 'dask')`, and no number depends on them. `spans` ('all', 'sampled', 'none') are kept of the first
    replication. Raises ScenarioError for objectives that nothing measures, and KeyboardInterrupt when it is stopped.
    """
    _check(scenario)
    with _stoppable():
        found = run(
            scenario, seed=seed, replications=replications, precision=precision, workers=workers, spans=spans
        )  # fmt: skip
    return Simulation(found, scenario)


def _answering(ask: Callable[P, R], answer: Callable[[R], A]) -> Callable[P, A]:
    """Return a function that asks the same, and answers with an `answer`."""

    @wraps(ask, assigned=("__name__", "__qualname__", "__doc__"))
    def asked(*args: P.args, **kwargs: P.kwargs) -> A:
        _check(*args[:1])
        with _stoppable():
            return answer(ask(*args, **kwargs))

    asked.__signature__ = inspect.signature(ask).replace(return_annotation=answer)  # type: ignore[attr-defined]
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


def _check(scenario: object = None) -> None:
    """Refuse a name or a file where a scenario must stand."""
    if isinstance(scenario, str | os.PathLike):
        raise TypeError(f"must be a Scenario; got a name: write `coordsim.load({os.fspath(scenario)!r})`")


compare = _answering(compare_models.compare, Comparison)
