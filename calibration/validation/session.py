"""The recorded session of a validation: configurations, and for each visit the laws found before it, and what was measured then.

It holds numbers, and no names of hosts, users or paths, so that it can be passed on. One JSON file, gzipped where its name ends in `.gz`.
What follows from it (predictions, verdict) is computed again when it is read.

Leaves out: reading older formats; there are none.
Checked: tests/test_validation_session.py.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ...sim.analysis.validation import Dropped
from ...sim.engine.errors import InputError, Problem, listed
from ...sim.report.files import write_bytes
from ...sim.report.numbers import counted

__all__ = [
    "Cell",
    "Configuration",
    "Criteria",
    "Outcome",
    "Session",
    "SessionError",
    "find",
    "names",
    "read",
    "rounds",
    "write",
]

Share = Annotated[float, Field(ge=0, le=1)]
_MOST_TOLD = 5  # mistakes of a file
_FOLDER, _SHIPPED = Path(__file__).parent / "sessions", ".json.gz"


class SessionError(InputError):
    """A recorded validation that cannot be read, or gone on with."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Configuration(_Model):
    """What the system is to do: a closed loop of `users`, or Poisson arrivals of `rate` tasks per second.

    `failures` is the share of tool calls that hang or end in an error, `growth` the tokens that each step adds to the state, `workers` how
    many calls the inference server works on at once.
    """

    name: str
    steps: PositiveInt
    modalities: Annotated[int, Field(ge=0, le=5)]
    users: PositiveInt | None = None
    rate: PositiveFloat | None = None
    failures: Share
    growth: NonNegativeInt
    workers: Literal[1, 2]
    codec: Literal["json", "msgpack"]

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if (self.users is None) == (self.rate is None):
            raise ValueError(f"either `users` or `rate` must be given, but got {self.users} and {self.rate}")
        return self

    @property
    def what(self) -> str:
        """What it is, in words."""
        load = counted(self.users, "user") if self.users else f"{self.rate:.3g} tasks/s"
        failing = f"{100 * self.failures:.2g} % of tool calls fail" if self.failures else "no tool call fails"
        media = f"{self.modalities} {'modality' if self.modalities == 1 else 'modalities'}"
        parts = [counted(self.steps, "step"), media, load, failing]
        return ", ".join([*parts, f"{self.growth} tokens a step", counted(self.workers, "worker"), self.codec])


class Outcome(_Model):
    """T_total of each task in order of arrival, and the seconds of inference on its critical path."""

    seconds: tuple[PositiveFloat, ...]
    inference: tuple[NonNegativeFloat, ...]

    @model_validator(mode="after")
    def _alike(self) -> Self:
        if len(self.seconds) != len(self.inference):
            raise ValueError(
                f"both must have a number for each task, but got {len(self.seconds)} and {len(self.inference)}"
            )
        return self


class Cell(_Model):
    """One visit to a configuration: `place` in the shuffled order of its round, counted from 0.

    `laws` are what the calibration just before found, and `model` is the hash of the scenario they make, taken before the run. `speed` is
    the machine's during the run, a value each `every` seconds. `steal` and `foreign` are shares of the cores' time that went to other
    guests of the host, and to other processes. `seconds` is the wall time of the run, `started` when it began (UTC, ISO 8601).
    """

    round: PositiveInt
    configuration: str
    place: NonNegativeInt
    laws: dict[str, Any]
    model: str
    speed: tuple[PositiveFloat, ...]
    every: PositiveFloat
    measured: Outcome
    counts: dict[str, int]
    steal: NonNegativeFloat
    foreign: NonNegativeFloat
    seconds: NonNegativeFloat
    started: str


class Criteria(_Model):
    """What drops a round whole: a cell with more than these shares of the cores' time, or with fewer tasks than make two halves."""

    steal: Share = 0.05
    foreign: Share = 0.15
    tasks: PositiveInt = 2

    def against(self, cell: Cell) -> str:
        """Return why the round of a cell is dropped; '' where it is not."""
        if cell.steal > self.steal:
            return f"{cell.steal:.1%} of the CPU time went to other guests of the host in {cell.configuration}"
        if cell.foreign > self.foreign:
            return f"{cell.foreign:.1%} of the CPU time went to other processes in {cell.configuration}"
        if len(cell.measured.seconds) < self.tasks:
            return f"{counted(len(cell.measured.seconds), 'task')} ended in {cell.configuration}"
        return ""

    @property
    def what(self) -> str:
        """The criteria in words."""
        return (
            f"a round is dropped whole where in one cell more than {self.steal:.0%} of the CPU time goes to other guests, more than "
            f"{self.foreign:.0%} to other processes, or fewer than {self.tasks} tasks end"
        )


class Session(_Model):
    """All of it; `budget` in seconds, `environment` of the machine when it `started` (UTC, ISO 8601)."""

    coordsim_session: Literal[1] = 1
    seed: NonNegativeInt
    started: str
    environment: dict[str, str]
    criteria: Criteria = Criteria()
    configurations: Annotated[tuple[Configuration, ...], Field(min_length=1)]
    cells: tuple[Cell, ...] = ()
    budget: PositiveFloat

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [one.name for one in self.configurations]
        if len(set(names)) < len(names):
            raise ValueError(f"each configuration must have its own name, but got {', '.join(names)}")
        seen: set[tuple[int, str]] = set()
        for cell in self.cells:
            key = (cell.round, cell.configuration)
            if cell.configuration not in names:
                raise ValueError(
                    f"a cell of round {cell.round} is of `{cell.configuration}`, which is no configuration"
                )
            if key in seen:
                raise ValueError(
                    f"each cell must be there once, but {cell.configuration} of round {cell.round} is twice"
                )
            seen.add(key)
        return self

    def add(self, cell: Cell) -> Session:
        """Return the session with one more cell."""
        return self.model_copy(update={"cells": (*self.cells, cell)})

    def configuration(self, name: str) -> Configuration:
        """Return a configuration by name. Raises KeyError."""
        return {one.name: one for one in self.configurations}[name]

    def cell(self, number: int, configuration: str) -> Cell:
        """Return a cell. Raises KeyError."""
        return {(one.round, one.configuration): one for one in self.cells}[number, configuration]


def rounds(session: Session) -> tuple[tuple[int, ...], tuple[Dropped, ...]]:
    """Return which rounds count, and which do not and why: by the criteria, or because they are not complete."""
    kept, dropped = [], []
    for number in sorted({cell.round for cell in session.cells}):
        cells = [cell for cell in session.cells if cell.round == number]
        against = [why for why in map(session.criteria.against, cells) if why]
        if not against and len(cells) < len(session.configurations):
            against = [f"it ended after {len(cells)} of {counted(len(session.configurations), 'configuration')}"]
        if against:
            dropped.append(Dropped(number, "; ".join(against)))
        else:
            kept.append(number)
    return tuple(kept), tuple(dropped)


# ---------------------------------------------------------------------------------------------------------------------
# The file


def names() -> list[str]:
    """Return the names of the recorded sessions that ship."""
    return sorted(path.name.removesuffix(_SHIPPED) for path in _FOLDER.glob(f"*{_SHIPPED}"))


def find(text: str) -> Path:
    """Return the file of a session, given as a path or as the name of one that ships. Raises SessionError."""
    if text in names() and not Path(text).exists():
        return _FOLDER / f"{text}{_SHIPPED}"
    if not Path(text).exists():
        there = f"there is no such file; it may also be one that ships: {listed(names())}"
        raise SessionError([Problem("", there)], text)
    return Path(text)


def read(path: Path) -> Session:
    """Return a recorded session. Raises SessionError."""
    remedy = "give the session.json of `coordsim validate -o DIR`"
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SessionError([Problem("", f"cannot be read: {why}; {remedy}")], str(path)) from None
    try:
        data = json.loads(content)
    except ValueError as error:
        raise SessionError([Problem("", f"must be JSON: {error}; {remedy}")], str(path)) from None
    if not isinstance(data, dict) or "coordsim_session" not in data:
        raise SessionError([Problem("", f"must be a recorded validation; {remedy}")], str(path))
    try:
        return Session.model_validate_json(content)
    except ValidationError as error:
        raise SessionError(list(_problems(error))[:_MOST_TOLD], str(path)) from None


def _problems(error: ValidationError) -> Iterable[Problem]:
    for one in error.errors(include_url=False, include_input=False):
        yield Problem(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, "))


def write(path: Path, session: Session, *, overwrite: bool) -> None:
    """Write a session whole, or not at all; the same session gives the same bytes. Raises FileError."""
    content = (session.model_dump_json(exclude_none=True) + "\n").encode()
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content, overwrite)
