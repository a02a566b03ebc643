"""The record of a session: JSON Lines, a header with the machine, then a line for each visit.

A line is written at once. A last line that was cut off is dropped and told; any other damage is an error, and so is a record
of an unlike machine: what it holds must not be pooled with what is measured here.

Leaves out: reading older formats; there are none.
Checked: tests/test_session.py.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from ..sim.engine.errors import Problem, ProfileError, show
from .environment import STABLE, fingerprint
from .measure import Visit
from .probe import Case

__all__ = ["FORMAT", "Entry", "append", "key", "open_record"]

FORMAT = 1
_REMEDY = "move the file away, or start anew with --overwrite"


class Header(BaseModel):
    """The first line."""

    model_config = ConfigDict(extra="forbid")

    coordsim_record: int
    fingerprint: str
    seed: int
    environment: dict[str, str]


class Entry(BaseModel):
    """A line: one visit, or the `error` that it ended with. `spent` is all its time, `spins` what the sensor read around it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    round: PositiveInt
    law: str
    sizes: dict[str, float]
    spent: NonNegativeFloat
    turn: NonNegativeInt
    spins: tuple[NonNegativeFloat, ...] = ()
    cpu_spins: tuple[NonNegativeFloat, ...] = ()
    ticks: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    error: str = ""
    calls: PositiveInt = 1
    setup: NonNegativeFloat = 0.0
    seconds: tuple[NonNegativeFloat, ...] = ()
    cpu_seconds: tuple[NonNegativeFloat, ...] = ()
    warmup: tuple[NonNegativeFloat, ...] = ()

    @property
    def key(self) -> str:
        """The case, as a text."""
        return json.dumps([self.law, self.sizes])

    @property
    def visit(self) -> Visit:
        """The visit, as `measure` gave it."""
        return Visit(self.seconds, self.cpu_seconds, self.warmup, self.calls, self.turn, self.setup)

    @property
    def least(self) -> float:
        """The seconds that a visit with one repetition is likely to take."""
        measured = sum(self.seconds) * self.calls
        return max(self.spent - measured, 0.0) + (measured / len(self.seconds) if self.seconds else 0.0)


def key(case: Case) -> str:
    """Return the case as a text, which an entry of it has as its key."""
    return json.dumps([case.law, {name: float(value) for name, value in case.sizes.items()}])


def open_record(path: Path, machine: Mapping[str, str], seed: int) -> tuple[list[Entry], list[str]]:
    """Return the visits in a record and what is doubtful about it; begin it where there is none. Raises ProfileError."""
    try:
        text = path.read_bytes()
        if not text:
            header = Header(
                coordsim_record=FORMAT, fingerprint=fingerprint(machine), seed=seed, environment=dict(machine)
            )
            append(path, header)
            return [], []
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return open_record(path, machine, seed)
    except OSError as error:
        raise ProfileError([Problem("", f"cannot be read or written: {error.strerror}")], str(path)) from None
    return _read(path, text, machine, seed)


def _read(path: Path, text: bytes, machine: Mapping[str, str], seed: int) -> tuple[list[Entry], list[str]]:
    lines = text.split(b"\n")
    cut = lines.pop()
    if not lines:
        raise _damaged(path, 1, "must be the header of a record", _REMEDY)
    _check_header(path, lines[0], machine, seed)
    entries = []
    for number, line in enumerate(lines[1:], 2):
        try:
            entries.append(Entry.model_validate_json(line))
        except ValidationError:
            rule = f"must be a visit, as one JSON object; got {show(line.decode(errors='replace'))}"
            raise _damaged(path, number, rule, "restore the file, or begin another record") from None
    if not cut:
        return entries, []
    # The session ended while it wrote this line.
    os.truncate(path, len(text) - len(cut))
    return entries, [f"line {len(lines) + 1} of the record was cut off; its visit is measured again"]


def _check_header(path: Path, line: bytes, machine: Mapping[str, str], seed: int) -> None:
    """Raise ProfileError unless the record is of this format, this machine and this seed."""
    try:
        header = Header.model_validate_json(line)
    except ValidationError:
        raise _damaged(
            path, 1, f"must be the header of a record; got {show(line.decode(errors='replace'))}", _REMEDY
        ) from None
    if header.coordsim_record != FORMAT:
        rule = f"`coordsim_record` must be {FORMAT}, the version of the format; got {header.coordsim_record}"
        raise _damaged(path, 1, rule, _REMEDY)
    if header.fingerprint != fingerprint(machine):
        then = header.environment
        differ = [
            f"{name} was {then.get(name) or 'unknown'} and is {machine.get(name) or 'unknown'}"
            for name in STABLE
            if then.get(name) != machine.get(name)
        ]
        rule = (
            f"must be of this machine, for unlike ones are not pooled; {'; '.join(differ) or 'its fingerprint differs'}"
        )
        raise _damaged(path, 1, rule, _REMEDY)
    if header.seed != seed:
        raise _damaged(path, 1, f"must have the seed {seed}; got {header.seed}", f"give --seed {header.seed}")


def _damaged(path: Path, line: int, rule: str, remedy: str) -> ProfileError:
    return ProfileError([Problem("", f"{rule}; {remedy}", str(path), line)], str(path))


def append(path: Path, line: BaseModel) -> None:
    """Write a line at once, so that an interruption leaves it whole, or last and without its end."""
    with path.open("ab", buffering=0) as file:
        file.write(line.model_dump_json(exclude_defaults=True).encode() + b"\n")
