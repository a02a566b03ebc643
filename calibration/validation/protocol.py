"""The order of a validation: rounds over all configurations, each visit a short calibration, a frozen prediction, and a run.

Every round visits every configuration once, in an order of its own. The hash of the scenario that the calibration makes is taken before the
run, so that the prediction cannot know what is measured. A round in which a cell exceeds the criteria ends there and counts nowhere, neither
for measurement nor prediction; nothing else is left out. After the planned rounds there are more while the verdict is not settled and the budget lasts.

Leaves out: the system (`bench`), predictions (`predict`), the verdict (`replay`).
Checked: tests/test_validation_session.py, with a system that is made up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from ...sim.analysis.validation import Verdict
from .session import Cell, Configuration, Outcome, Session, rounds

__all__ = ["LEAST", "SHARE", "Bench", "Judging", "Measuring", "Progress", "Run", "least_budget"]

SHARE = 0.75  # of the budget is for measuring, the rest for predictions
CALIBRATION = 1 / 3  # of a cell's time
LEAST = 3.0  # s of a cell: with less there are neither laws nor tasks enough
DIGITS = 7  # of a recorded number


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the system tells; fields as in `session.Cell`."""

    measured: Outcome
    counts: dict[str, int]
    speed: tuple[float, ...]
    every: float
    steal: float
    foreign: float
    seconds: float


class Bench(Protocol):
    """The running system, whose parts can be calibrated and which can be let run; times in seconds."""

    def calibrate(self, configuration: Configuration, seconds: float, seed: int) -> dict[str, Any]:
        """Return the laws of the parts, as plain data."""

    def run(self, configuration: Configuration, seconds: float, seed: int) -> Run:
        """Let the system work on a configuration, and return what was measured."""


class Judging(Protocol):
    """Who predicts and judges a session under way."""

    def verdict(self, session: Session) -> Verdict:
        """Return the verdict on the rounds so far."""

    def reserve(self, session: Session) -> float:
        """Return about how many seconds the predictions take that are only made at the end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: cells measured of `total`, seconds of the budget left, what is measured now, and the verdict on the rounds so far."""

    done: int
    total: int
    eta: float
    case: str
    verdict: Verdict | None


def least_budget(configurations: int, planned: int) -> float:
    """Return the seconds that a validation takes at least."""
    return configurations * planned * LEAST / SHARE


@dataclass
class Measuring:
    """How a session is measured: `planned` rounds, and more if need be; `freeze` gives the hash of the scenario made of laws.

    `keep` is given the session after each cell, `tell` how far it is before each. `clock` tells seconds; `begun` is what it told when the
    budget began to run.
    """

    bench: Bench
    judging: Judging
    freeze: Callable[[Configuration, dict[str, Any]], str]
    begun: float
    planned: int = 5
    keep: Callable[[Session], None] = lambda _session: None
    tell: Callable[[Progress], None] = lambda _progress: None
    clock: Callable[[], float] = time.monotonic
    _spent: float = field(default=0.0, init=False)  # s in cells
    _verdict: Verdict | None = field(default=None, init=False)

    def measure(self, session: Session) -> Session:
        """Go on with a session until its verdict is settled, or its budget spent; return it with all that was measured."""
        before = sum(cell.seconds for cell in session.cells) / (1 - CALIBRATION)
        self.begun -= before
        self._spent, self._verdict = before, self._judged(session)
        while self._wants_more(session):
            session = self._round(session, _next_round(session))
            self._verdict = self._judged(session)
        return session

    def _judged(self, session: Session) -> Verdict | None:
        """Return the verdict so far; None before two rounds, when there is no interval."""
        return self.judging.verdict(session) if len(rounds(session)[0]) > 1 else None

    def _wants_more(self, session: Session) -> bool:
        """Whether another round is needed, and paid for: the planned ones always are."""
        visited = _next_round(session) - 1
        if visited < self.planned:
            return True
        enough = len(rounds(session)[0]) >= self.planned
        if enough and self._verdict is not None and self._verdict.status != "inconclusive":
            return False
        a_round = self._spent / len(session.cells) * len(session.configurations)
        return a_round <= self._left(session) - self.judging.reserve(session)

    def _left(self, session: Session) -> float:
        return session.budget - (self.clock() - self.begun)

    def _round(self, session: Session, number: int) -> Session:
        """Visit every configuration that the round has not seen, until a cell exceeds the criteria."""
        order = np.random.default_rng([session.seed, number]).permutation(len(session.configurations)).tolist()
        seen = {cell.configuration for cell in session.cells if cell.round == number}
        seconds = self._seconds(session, number)
        for place, index in enumerate(order):
            configuration = session.configurations[index]
            if configuration.name in seen:
                continue
            self.tell(self._progress(session, number, configuration))
            begun = self.clock()
            cell = self._cell(session, number, place, configuration, seconds)
            self._spent += self.clock() - begun
            session = session.add(cell)
            self.keep(session)
            if session.criteria.against(cell):
                break
        return session

    def _seconds(self, session: Session, number: int) -> float:
        """Return the seconds of a cell: what is left for measuring over the planned cells to come, then as long as those were."""
        cells, count = len(session.cells), len(session.configurations)
        to_come = self.planned * count - cells
        if number > self.planned or to_come <= 0:
            return max(LEAST, self._spent / max(cells, 1))
        return max(LEAST, (SHARE * session.budget - self._spent) / to_come)

    def _cell(self, session: Session, number: int, place: int, configuration: Configuration, seconds: float) -> Cell:
        """Calibrate, freeze the model, and let the system run."""
        index = session.configurations.index(configuration)
        calibration, running = np.random.default_rng([session.seed, number, index]).integers(2**31, size=2).tolist()
        laws = _short(self.bench.calibrate(configuration, CALIBRATION * seconds, calibration))
        model = self.freeze(configuration, laws)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        run = self.bench.run(configuration, (1 - CALIBRATION) * seconds, running)
        return Cell(
            round=number,
            configuration=configuration.name,
            place=place,
            laws=laws,
            model=model,
            speed=_short(run.speed),
            every=run.every,
            measured=Outcome(seconds=_short(run.measured.seconds), inference=_short(run.measured.inference)),
            counts=run.counts,
            steal=_short(run.steal),
            foreign=_short(run.foreign),
            seconds=_short(run.seconds),
            started=started,
        )

    def _progress(self, session: Session, number: int, configuration: Configuration) -> Progress:
        done, count = len(session.cells), len(session.configurations)
        total = max(self.planned, number) * count
        eta = max(0.0, self._left(session))
        return Progress(min(done, total), total, eta, f"round {number}, {configuration.name}", self._verdict)


def _next_round(session: Session) -> int:
    """Return the number of the round to measure: the last one goes on where it was left in its middle."""
    last = max((cell.round for cell in session.cells), default=0)
    cells = [cell for cell in session.cells if cell.round == last]
    is_open = len(cells) < len(session.configurations) and not any(map(session.criteria.against, cells))
    return last if cells and is_open else last + 1


def _short(value: Any) -> Any:
    """Return plain data with its numbers in few digits, as it is recorded, so that what is read again is what was used."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return value
