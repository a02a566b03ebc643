"""Where an answer came from: the command, the versions, the scenario with what was filled in, and how good its inputs are.

Leaves out: finding it out (`models.provenance`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Quality = Literal["measured", "imported", "assumed"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the resolved scenario: `given` in the user's file or by an option, or filled in by coordsim; and the source of its number."""

    text: str
    given: bool
    source: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """Something that the numbers rest on: a profile, a trace, or values that the scenario states; how it is known, and its source."""

    name: str
    quality: Quality
    source: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an answer came from; `command` repeats it (without what does not change a number), `data` are files it needs."""

    scenario: str
    question: str
    sha256: str
    seed: int
    command: str
    versions: dict[str, str]
    lines: tuple[Line, ...] = ()
    inputs: tuple[Input, ...] = ()
    data: tuple[str, ...] = ()
    runtime: str = ""
    rate: float | None = None  # of arrivals as the scenario has it (1/s); None where it depends on how fast tasks end
    objectives: tuple[tuple[str, float, str], ...] = field(
        default=()
    )  # metric, threshold, sense, as the scenario has them
