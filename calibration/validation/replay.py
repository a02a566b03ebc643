"""From a recorded session to its verdict: all predictions are made again, of the laws that were recorded, and judged.

The same session gives the same verdict: draws depend on the session's seed, the round and the configuration, and are the same for all variants.

Leaves out: measuring; it needs neither torch nor the system.
Checked: tests/test_validation_session.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ...sim.analysis.validation import FULL, NAIVE, Verdict
from ...sim.analysis.validation_judge import Case, Tasks, judge
from ...sim.engine import units
from ...sim.report.numbers import counted
from ..coordination.servers import cores
from ..environment import machine_of
from .session import Cell, Configuration, Outcome, Session, rounds

__all__ = ["Replay"]

TASKS, FEWER = 200, 100  # of a prediction, and of one that leaves a law out
_MOST_PROCESSES = 2
_FIRST_GUESS = 0.3  # s of a prediction, before one was made
_BATCH = 16  # predictions between two reports

Told = Callable[[int, int], None]  # predictions made, and of how many


class _Key(NamedTuple):
    round: int
    configuration: str
    variant: str


@dataclass
class Replay:
    """Predicts and judges a session, also while it is under way: no prediction is made twice. Meets `protocol.Judging`."""

    processes: int = field(default_factory=lambda: min(_MOST_PROCESSES, cores()))
    clock: Callable[[], float] = time.monotonic
    _made: dict[_Key, Tasks] = field(default_factory=dict, init=False)
    _seconds: float = field(default=0.0, init=False)

    def verdict(self, session: Session) -> Verdict:
        """Return the verdict on the rounds so far, without the ablation."""
        return self._judged(session, (FULL, NAIVE), None)

    def final(self, session: Session, told: Told | None = None) -> Verdict:
        """Return the verdict with the ablation, the facts of the session, and its doubts."""
        from .predict import VARIANTS

        found = self._judged(session, tuple(VARIANTS), told)
        return replace(found, about=tuple(_about(session)), doubts=tuple(_doubts(session)))

    def reserve(self, session: Session) -> float:
        """Return about how many seconds `final` will still take."""
        from .predict import VARIANTS

        todo = len(self._todo(session, tuple(VARIANTS)))
        return todo * (self._seconds / len(self._made) if self._made else _FIRST_GUESS)

    def _todo(self, session: Session, variants: Sequence[str]) -> list[_Key]:
        kept, _ = rounds(session)
        keys = (_Key(number, one.name, name) for number in kept for one in session.configurations for name in variants)
        return [key for key in keys if key not in self._made]

    def _judged(self, session: Session, variants: Sequence[str], told: Told | None) -> Verdict:
        from .predict import VARIANTS

        self._predict(session, self._todo(session, variants), told)
        kept, dropped = rounds(session)
        cases = [self._case(session, one, kept, variants) for one in session.configurations]
        words = {name: VARIANTS[name] for name in variants}
        return judge(cases, kept, dropped, variants=words, seed=session.seed)

    def _case(self, session: Session, one: Configuration, kept: Sequence[int], variants: Sequence[str]) -> Case:
        measured = [_tasks(session.cell(number, one.name).measured) for number in kept]
        predicted = {name: [self._made[_Key(number, one.name, name)] for number in kept] for name in variants}
        return Case(one.name, one.what, measured, predicted)

    def _predict(self, session: Session, todo: Sequence[_Key], told: Told | None) -> None:
        """Make the predictions, in several processes."""
        from joblib import Parallel, delayed

        begun = self.clock()
        for start in range(0, len(todo), _BATCH):
            if told is not None:
                told(start, len(todo))
            batch = todo[start : start + _BATCH]
            jobs = (delayed(_predicted)(*_arguments(session, key)) for key in batch)
            made: Iterable[Tasks] = Parallel(n_jobs=self.processes)(jobs)
            self._made |= dict(zip(batch, made, strict=True))
        self._seconds += self.clock() - begun


def _arguments(
    session: Session, key: _Key
) -> tuple[Configuration, Mapping[str, Any], Sequence[float], float, str, int]:
    cell, one = session.cell(key.round, key.configuration), session.configuration(key.configuration)
    at = session.configurations.index(one)
    seed = int(np.random.default_rng([session.seed, key.round, at, 1]).integers(2**31))
    return one, cell.laws, cell.speed, cell.every, key.variant, seed


def _predicted(
    configuration: Configuration, laws: Mapping[str, Any], speed: Sequence[float], every: float, variant: str, seed: int
) -> Tasks:
    from . import predict

    tasks = TASKS if variant in (FULL, NAIVE) else FEWER
    return _tasks(predict.predict(configuration, laws, speed, every, variant=variant, tasks=tasks, seed=seed))


def _tasks(outcome: Outcome) -> Tasks:
    return Tasks(np.array(outcome.seconds, dtype=float), np.array(outcome.inference, dtype=float))


# ---------------------------------------------------------------------------------------------------------------------


def _about(session: Session) -> Iterable[tuple[str, str]]:
    """Yield facts of the session, by name."""
    kept, _ = rounds(session)
    cells = [cell for cell in session.cells if cell.round in kept]
    tasks = sum(len(cell.measured.seconds) for cell in cells)
    yield "machine", machine_of(session.environment)
    yield (
        "measured",
        f"{session.started}, {units.format(sum(cell.seconds for cell in session.cells), units.DURATION, 2)} of runs",
    )
    yield "configurations", f"{len(session.configurations)}, drawn by seed {session.seed}"
    yield "rounds", f"{len(kept)} kept of {len({cell.round for cell in session.cells})}, {counted(tasks, 'task')}"
    yield "budget", units.format(session.budget, units.DURATION, 2)
    yield "criteria", session.criteria.what
    yield "speed", "the machine's speed during each run, from a sensor, is an input of its prediction"
    for name in sorted({name for cell in cells for name in cell.counts}):
        yield name, f"{sum(cell.counts.get(name, 0) for cell in cells):,}"


def _doubts(session: Session) -> Iterable[str]:
    """Yield what speaks against the verdict."""
    changed = [cell for cell in session.cells if _frozen(session, cell) != cell.model]
    if changed:
        yield (
            f"{len(changed)} of {counted(len(session.cells), 'model')} are not those that were frozen before the measurement: this "
            "version of coordsim makes others of the same laws; its predictions are made after the fact"
        )


def _frozen(session: Session, cell: Cell) -> str:
    from . import predict

    return predict.frozen(session.configuration(cell.configuration), cell.laws)
