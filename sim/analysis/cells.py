"""Run many cells, each a scenario and a seed, and sum each up: the one loop under sweeps, sensitivity and capacity plans.

A cell is a pure function of (key, seed, settings). Replications of all cells spread over the workers; a cell is summed up as soon as
its last replication is there, and told of (and kept in a journal) before the others are complete. Only the results of cells that are
begun are in memory. A cell that fails is told of as failed, by the first of its replications that failed, and the others go on.

Where a worker dies, what it did is done again by another. A job that may have killed it runs alone then, where it has the memory of
all, and fails its cell if its worker dies again.

Leaves out: which cells a study has, and what it makes of them.
Checked: tests/test_cells.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from .jobs import Crew, Job, Raised, Simulate, WorkerDied, WorkerError, Workers, heeding, opened
from .replicate import Progress, Settings, judge
from .result import Result
from .slo import full_name
from .summary import Summary

S = TypeVar("S")

WAVE = 32  # jobs for each worker that are given out together: so many results at most wait for this process
HOPELESS = (
    3  # jobs that killed their worker one after the other before any other ended: it is not for them that workers die
)
ENOUGH = 10  # as many of them end a study in which others ended


@dataclass(frozen=True, slots=True)
class Cell(Generic[S]):
    """A scenario to run, under a key that says all of it; two cells with the same key and seed are one, and run once.

    `label` is what progress calls it.
    """

    key: str
    scenario: S
    seed: int
    label: str = ""


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


Told = tuple[int, Outcome]
"""The place of a cell among those given, and what became of it."""


def run_cells(
    simulate: Simulate[S],
    cells: Sequence[Cell[S]],
    settings: Settings,
    *,
    workers: int | Workers | Crew = 1,
    journal: Journal | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Generator[Told, None, None]:
    """Yield (place in `cells`, outcome) of each cell as it is complete, those in the journal first; no outcome depends on `workers`.

    Whoever stops early must close the generator, which ends the workers. Raises WorkerError when workers keep dying, and
    ClusterError for a cluster that cannot be used.
    """
    return heeding(_run(simulate, cells, settings, workers, journal, progress or (lambda _progress: None)))


def _run(
    simulate: Simulate[S],
    cells: Sequence[Cell[S]],
    settings: Settings,
    workers: int | Workers | Crew,
    journal: Journal | None,
    tell: Callable[[Progress], None],
) -> Generator[Told, None, None]:
    alike: dict[tuple[str, int], _Going[S]] = {}
    for place, cell in enumerate(cells):
        alike.setdefault((cell.key, cell.seed), _Going(cell, settings.first_round)).places.append(place)
    fresh = []
    for one in alike.values():
        found = None if journal is None else journal.find(one.cell, settings)
        if found is None:
            fresh.append(one)
        else:
            yield from one.told(replace(found, tasks=0))
    told = len(cells) - sum(len(one.places) for one in fresh)
    if not fresh:
        tell(Progress(0, 0, cells=(told, told)))
        return
    try:
        with opened(workers) as crew:
            study = _Study(simulate, settings, crew, tell, (told, len(cells)))
            with closing(study.run(fresh)) as ended:
                for one, outcome in ended:
                    if journal is not None:
                        journal.keep(one.cell, settings, outcome)
                    yield from one.told(outcome)
    except WorkerError as error:
        if journal is None:
            raise
        raise WorkerError(f"{error}; finished cells are kept: go on with `--resume`") from error


@dataclass(slots=True, eq=False)
class _Going(Generic[S]):
    """A cell on its way: its `places` among those given, how many replications are `planned`, and the results so far.

    From replication `bad` on nothing counts, since that one failed: the first that does, whichever ended first.
    """

    cell: Cell[S]
    planned: int
    places: list[int] = field(default_factory=list)
    results: dict[int, Result] = field(default_factory=dict)
    bad: int | None = None
    failure: str = ""
    over: bool = False

    @property
    def end(self) -> int:
        """The number of the first replication that is not needed."""
        return self.planned if self.bad is None else self.bad

    def told(self, outcome: Outcome) -> Generator[Told, None, None]:
        """Yield the outcome at each of the places; its tasks count once."""
        for number, place in enumerate(self.places):
            yield place, outcome if number == 0 else replace(outcome, tasks=0)

    def take(self, number: int, done: Result | Raised) -> bool:
        """Take what came of a replication; return whether all that are needed are there."""
        if number < self.end:
            if isinstance(done, Raised):
                self.bad, self.failure = number, str(done)
                self.results = {one: result for one, result in self.results.items() if one < number}
            else:
                self.results[number] = done
        return len(self.results) == self.end

    def outcome(self, settings: Settings) -> Outcome | None:
        """Return what became of the cell; None when it takes more replications."""
        results = [self.results[number] for number in range(self.end)]
        tasks = sum(result.arrived for result in results)
        if self.bad is not None:
            return Outcome(None, self.failure, tasks)
        try:
            summary, self.planned = judge(results, settings)
        except Exception as error:  # noqa: BLE001  # one cell that cannot be summed up does not end the others
            return Outcome(None, str(Raised(error)), tasks)
        return Outcome(summary, "", tasks) if self.planned == len(results) else None


class _Study(Generic[S]):
    """All cells that are to run, on one crew; `cells` are how many were told of before (from a journal), and how many there are."""

    def __init__(
        self,
        simulate: Simulate[S],
        settings: Settings,
        crew: Crew,
        tell: Callable[[Progress], None],
        cells: tuple[int, int],
    ) -> None:
        self.simulate, self.settings, self.crew, self.tell = simulate, settings, crew, tell
        self.told, self.cells = cells
        self.done = self.planned = 0
        self.lost, self.bearable = 0, HOPELESS
        self.progress = Progress(0, 0, cells=cells)

    def run(self, cells: Sequence[_Going[S]]) -> Generator[tuple[_Going[S], Outcome], None, None]:
        """Yield each cell with its outcome, as it is complete."""
        waiting, going = deque(cells), list[_Going[S]]()
        self.planned = sum(one.planned for one in cells)
        self.tell(replace(self.progress, planned=self.planned))
        while waiting or going:
            most = WAVE * self.crew.count
            while waiting and sum(one.planned - len(one.results) for one in going) < most:
                going.append(waiting.popleft())
            with closing(self._wave(going)) as ended:
                yield from ended
            going = [one for one in going if not one.over]

    def _wave(self, going: Sequence[_Going[S]]) -> Generator[tuple[_Going[S], Outcome], None, None]:
        """Run what is planned of some cells, and yield those that are over; the others have planned more then."""
        jobs = [(one, number) for one in going for number in range(len(one.results), one.planned)]
        with closing(self._sturdy(jobs)) as results:
            for place, done in results:
                one, number = jobs[place]
                if one.over:
                    continue
                self.done += 1
                planned = one.planned
                outcome = one.outcome(self.settings) if one.take(number, done) else None
                self.planned += one.planned - planned
                if outcome is not None:
                    self._over(one, outcome)
                    yield one, outcome
                self.tell(replace(self.progress, done=self.done, planned=max(self.done, self.planned)))

    def _over(self, one: _Going[S], outcome: Outcome) -> None:
        """Note that a cell is over, and what progress says of it from then on."""
        one.over, one.results = True, {}
        self.told += len(one.places)
        if outcome.summary is None:
            self.planned -= one.planned - 1 - (one.bad or 0)
        else:
            metric = full_name(self.settings.metrics[0]) if self.settings.metrics else "response_time_p95"
            estimate = outcome.summary.metrics[metric]
            self.progress = replace(self.progress, estimate=estimate, metric=metric, label=one.cell.label)
        self.progress = replace(self.progress, cells=(self.told, self.cells))

    def _sturdy(self, jobs: Sequence[tuple[_Going[S], int]]) -> Generator[tuple[int, Result | Raised], None, None]:
        """Yield what comes of the jobs that are still needed, again and again where a worker dies.

        Raises WorkerError when nothing but deaths comes.
        """
        left, suspects = dict.fromkeys(range(len(jobs))), set[int]()
        while left := {place: None for place in left if self._needed(*jobs[place])}:
            alone = next((place for place in left if place in suspects), None)
            batch = list(left) if alone is None else [alone]
            try:
                with closing(self._given(jobs, batch)) as results:
                    for place, done in results:
                        self.lost, self.bearable = 0, ENOUGH
                        del left[place]
                        yield place, done
            except WorkerDied as error:
                if alone is None:
                    suspects.update([batch[number] for number in error.suspects] or batch)
                    continue
                self.lost += 1
                if self.lost == self.bearable:
                    raise WorkerError(f"workers die again and again: {error}") from error
                del left[alone]
                yield alone, Raised(WorkerError("its worker died, and died again when it ran alone"))

    def _given(
        self, jobs: Sequence[tuple[_Going[S], int]], batch: Sequence[int]
    ) -> Generator[tuple[int, Result | Raised], None, None]:
        """Yield what comes of the jobs of a batch, by their places among all."""
        calls: list[Job[S]] = []
        for place in batch:
            one, number = jobs[place]
            calls.append((one.cell.scenario, one.cell.seed, number, "none"))
        with closing(
            self.crew.run(self.simulate, calls, lambda number: self._needed(*jobs[batch[number]]), apart=True)
        ) as results:
            for number, done in results:
                yield batch[number], done

    def _needed(self, one: _Going[S], number: int) -> bool:
        return not one.over and number < one.end
