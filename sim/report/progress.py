"""How far a run, a study or a calibration is, as a bar on a terminal: what is done, time left, and intervals as they shrink.

Leaves out: anything where the stream is no terminal.
Checked: tests/test_cli.py.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from ..analysis.replicate import Progress
from ..analysis.statistics import mean_interval
from ..analysis.summary import unit_of
from ..engine import units
from .numbers import show

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Rich


class Measuring(Protocol):
    """How far a session of measurements is."""

    @property
    def done(self) -> int:
        """Cases that are done."""

    @property
    def total(self) -> int:
        """Cases that there are."""

    @property
    def eta(self) -> float:
        """Seconds left at most."""

    @property
    def case(self) -> str:
        """What is measured now."""


class _Transient(AbstractContextManager["_Transient"]):
    """A bar that is there while its context is, and leaves nothing behind."""

    _rich: Rich

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()


class Bar(_Transient):
    """A progress bar to call with each `Progress`: of a run its replications, of a study its cells.

    The time left is from replications in both. The interval is of a run's p95, and of the cell of a study that ended last.
    """

    def __init__(self, console: Console, name: str) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}, left", style="progress.elapsed", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[found]}", markup=False),
        ]
        self._rich = Rich(*columns, console=console, transient=True)
        self._task = self._rich.add_task(name, total=None, count="0 replications", found="")
        self._p95: list[float] = []

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        latest = progress.latest
        if latest is not None and latest.response_times.size:
            self._p95.append(float(np.quantile(latest.response_times, 0.95)))
        if progress.cells is None:
            count, found = f"{progress.done}/{progress.planned} replications", self._interval()
        else:
            count, found = "cells {}/{}".format(*progress.cells), _of_cell(progress)
        self._rich.update(self._task, completed=progress.done, total=progress.planned, count=count, found=found)

    def _interval(self) -> str:
        known = [one for one in self._p95 if math.isfinite(one)]
        return f"p95 {show(mean_interval(known), 's').text}" if known else ""


def _of_cell(progress: Progress) -> str:
    """Return the interval of the cell that ended last, as in `p95 4.1 s ± 0.2 at models.llm.replicas=2`."""
    estimate = progress.estimate
    if estimate is None or math.isnan(estimate.value):
        return ""
    name = progress.metric.removeprefix("response_time_")
    where = f" at {progress.label}" if progress.label else ""
    return f"{name} {show(estimate, unit_of(progress.metric)).text}{where}"


class Steps(_Transient):
    """A progress bar over measurements, then over fits."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Rich

        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}", markup=False),
        ]
        self._rich = Rich(*columns, console=console, transient=True)
        self._task = self._rich.add_task("measuring", total=None, now="")

    def measuring(self, progress: Measuring) -> None:
        """Show how far a session of measurements is."""
        left = f"{units.format(max(0.0, progress.eta), units.DURATION, 2)} left at most"
        self._rich.update(self._task, completed=progress.done, total=progress.total, now=f"{left}  {progress.case}")

    def fitting(self, done: int, total: int, law: str) -> None:
        """Show how far the fits are."""
        self._rich.update(self._task, description="fitting", completed=done, total=total, now=law)

    def predicting(self, done: int, total: int) -> None:
        """Show how far predictions are."""
        self._rich.update(self._task, description="predicting", completed=done, total=total, now="")
