"""What a reader of measurements of others returns, and what it counts on the way.

Every row of a table is either in the points or counted under a reason in `skipped`: nothing is dropped in silence.

Leaves out: fitting the points (`fits`), reading any one format.
Checked: tests/test_imports.py.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ...sim.profile.ops import law_name
from ..samples import Points

__all__ = ["Imported", "Kernel", "Tally"]

_CONFLICT = 0.01  # rows of one case that differ by less than this share agree


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that a trace or a summary holds: calls, seconds in all, median (or mean) seconds, and the law it is a point of.

    `law` is '' where the operation and the sizes are not known: seen, but in no law.
    """

    name: str
    count: int
    total: float
    median: float
    law: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """Points by law, with plain data for a profile's `Source` and `Device`.

    `notes` say what was decided and why, `skipped` counts the rows that are in no point, by reason. `kernels` lists what a
    trace or a summary of kernels holds, longest first. `iterations` are data of measured iterations, which need no fit.
    """

    points: list[Points]
    source: dict[str, Any]
    device: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)
    iterations: dict[str, dict[str, Any]] = field(default_factory=dict)


class Tally:
    """What is found while reading: the points so far, the rows left out by reason, and notes."""

    def __init__(self) -> None:
        self.points: list[Points] = []
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []

    def skip(self, reason: str, count: int) -> None:
        """Count rows left out."""
        if count:
            self.skipped[reason] += int(count)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def keep(self, frame: pd.DataFrame, mask: pd.Series, reason: str) -> pd.DataFrame:
        """Return the rows where `mask` holds, and count the others under `reason`."""
        self.skip(reason, len(frame) - int(mask.sum()))
        return frame[mask]

    def add(
        self, op: str, options: Mapping[str, str], sizes: Mapping[str, Any], seconds: Any, *, repeats: bool = False
    ) -> None:
        """Add the points of a law: arrays of one length. Rows of the same sizes become one point, their median.

        With `repeats` they are repetitions of one call, and their ratios to the median are kept; else they are counted.
        """
        frame = pd.DataFrame({name: np.asarray(values, dtype=float) for name, values in sizes.items()})
        frame["_seconds"] = np.asarray(seconds, dtype=float)
        if not len(frame):
            return
        by = list(sizes)
        groups = frame.groupby(by, sort=True)["_seconds"] if by else frame.groupby(lambda _: 0)["_seconds"]
        median = groups.median()
        merged = len(frame) - len(median)
        ratios: tuple[np.ndarray, ...] = ()
        if repeats:
            merged = 0
            ratios = tuple((group / group.median()).to_numpy(dtype=float) for _, group in groups)
        elif merged:
            differ = int(((groups.max() / groups.min() - 1.0) > _CONFLICT).sum())
            if differ:
                self.note(
                    f"{law_name(op, options)}: {differ} of {len(median)} cases have rows that differ by more than "
                    f"{_CONFLICT:.0%}; their median is taken"
                )
        self.skip("repeats the sizes of another row (the median is taken)", merged)
        columns = median.index.to_frame(index=False) if by else pd.DataFrame()
        arrays = {name: columns[name].to_numpy(dtype=float) for name in by}
        self.points.append(Points(op, dict(options), arrays, median.to_numpy(dtype=float), ratios=ratios))

    def result(
        self, source: dict[str, Any], device: dict[str, Any] | None, kernels: list[Kernel] | None = None
    ) -> Imported:
        """Return what was found."""
        return Imported(self.points, source, device, self.notes, dict(self.skipped), kernels or [])
