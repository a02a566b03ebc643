"""Where an answer came from: the command, the versions, the scenario with what was filled in, and how good its inputs are.

Leaves out: finding it out (`models.provenance`).
Checked: tests/test_page.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Quality = Literal["measured", "imported", "assumed"]
_MOST_NAMES = 4


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
    seed: int | str  # several, as of a sweep, as a text such as "11, 12"; '' where nothing was simulated
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
    beside: tuple[tuple[str, str], ...] = ()  # name and hash of each other scenario that the answer is about

    @property
    def measured(self) -> bool:
        """Whether the answer is about a trace, which has no scenario and no seed."""
        return self.seed == ""

    @property
    def title(self) -> str:
        """The scenarios that the answer is about.

        >>> Provenance("desk", "", "", 1, "", {}, beside=(("counter", "ab12"),)).title
        'desk and counter'
        """
        return together([self.scenario, *(name for name, _ in self.beside)])


def known(inputs: Sequence[Input]) -> Iterator[tuple[Quality, str]]:
    """Yield for each quality that inputs have which they are, the best first.

    >>> list(known([Input("78 values stated", "assumed", ""), Input("profile x", "measured", "a"), Input("profile x", "measured", "b")]))
    [('measured', 'profile x (2 sources)'), ('assumed', '78 values stated')]
    """
    qualities: tuple[Quality, ...] = get_args(Quality)
    for quality in qualities:
        found = Counter(one.name for one in inputs if one.quality == quality)
        names = [name if number == 1 else f"{name} ({number} sources)" for name, number in found.items()]
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            yield quality, ", ".join(names[:_MOST_NAMES]) + more


def together(names: Iterable[str]) -> str:
    """Return names as one text, each once.

    >>> together(["a", "b", "a", "c"])
    'a, b and c'
    """
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last
