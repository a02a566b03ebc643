"""Run many cells, each a scenario and a seed, and sum each up: the one loop under sweeps, sensitivity and capacity plans.

A cell is a pure function of (key, seed, settings). Replications of all cells spread over the workers; a cell is summed up as soon as
its last replication is there, and told of (and kept in a journal) before the others are complete. A cell that fails is told of as
failed, and the others go on.

Leaves out: which cells a study has, and what it makes of them.
Checked: tests/test_cells.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .jobs import Simulate, Workers, run_jobs
from .replicate import Progress, Settings
from .summary import Summary

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Cell(Generic[S]):
    """A scenario to run, under a key that says all of it; two cells with the same key and seed are one, and run once."""

    key: str
    scenario: S
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell: its summary, or why there is none. `tasks` were simulated for it, 0 where the journal had it."""

    summary: Summary | None
    failure: str = ""
    tasks: int = 0


class Journal(Protocol):
    """Outcomes that are kept as they come, so that a study goes on where it stopped."""

    def find(self, cell: Cell[S], settings: Settings) -> Outcome | None:
        """Return what became of a cell in an earlier call; None where it was not complete."""

    def keep(self, cell: Cell[S], settings: Settings, outcome: Outcome) -> None:
        """Keep the outcome of a cell, whole or not at all."""


def run_cells(
    simulate: Simulate[S],
    cells: Sequence[Cell[S]],
    settings: Settings,
    *,
    workers: int | Workers = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Generator[tuple[int, Outcome], None, None]:
    """Yield (place in `cells`, outcome) of each cell as it is complete, those in the journal first.

    Whoever stops early must close the generator, which ends the workers. Raises WorkerError when workers keep dying.
    """
    tell = progress or (lambda _progress: None)
    count = settings.first_round
    for place, cell in enumerate(cells):
        found = None if journal is None else journal.find(cell, settings)
        if found is None:
            jobs = [(cell.scenario, cell.seed, number, "none") for number in range(count)]
            results = list(run_jobs(simulate, jobs, workers))
            found = Outcome(settings.summarize(results), "", sum(result.arrived for result in results))
            if journal is not None:
                journal.keep(cell, settings, found)
        tell(Progress((place + 1) * count, len(cells) * count))
        yield place, found
