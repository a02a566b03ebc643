"""What became of every span of the files: read, repaired, dropped, guessed, each counted by its reason.

Leaves out: the words (`report.trace_tables`).
Checked: tests/test_trace_tally.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from ..engine.errors import CoordsimError

__all__ = ["Fate", "FileTally", "Note", "Tally", "TraceError"]

Fate = Literal["repaired", "dropped", "guessed", "noted"]
SEVERAL_ROOTS: Final = "roots of tasks that have several"
"""What is noted of tasks that nothing encloses."""


class TraceError(CoordsimError):
    """A trace file that cannot be read, or holds no spans: which, why, and what to do."""


@dataclass(slots=True)
class FileTally:
    """One file: its format as recognised, bytes as stored, and how many spans came out of it; `remark` is what else is to be said of it.

    The format is '' of a file in a directory that is no trace; the remark then says why it was left out.
    Where `own_clocks` is set, the times of each task count from a beginning of its own, and two tasks cannot be compared in time.
    """

    name: str
    format: str
    bytes: int
    spans: int = 0
    remark: str = ""
    own_clocks: bool = False


@dataclass(slots=True)
class Note:
    """What was done for one reason: to how many spans, by how much at most (s, where it is about time), and where the first stands."""

    fate: Fate
    what: str
    spans: int = 0
    most: float = 0.0
    example: str = ""


@dataclass(slots=True)
class Tally:
    """All files together. `spans` read are `kept` plus `dropped`: nothing is lost in silence."""

    files: list[FileTally] = field(default_factory=list)
    notes: dict[str, Note] = field(default_factory=dict)
    spans: int = 0
    tasks: int = 0
    clock: str = ""  # when the earliest task began, once repaired, as a date; '' where files have no common clock
    zero: int = 0  # when the ledger's clock is at 0, in whole ns since 1970

    def note(self, fate: Fate, what: str, *, spans: int = 1, seconds: float = 0.0, example: str = "") -> None:
        """Count what was done to some spans; `what` is a short sentence, the same for the same reason, `example` where in its file the first stands."""
        one = self.notes.setdefault(what, Note(fate, what, example=example))
        one.spans += spans
        one.most = max(one.most, seconds)

    @property
    def dropped(self) -> int:
        """Spans that are in no task."""
        return sum(one.spans for one in self.notes.values() if one.fate == "dropped")

    @property
    def kept(self) -> int:
        """Spans that are in the ledger."""
        return self.spans - self.dropped
