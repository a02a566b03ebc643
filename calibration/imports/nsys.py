"""Summaries and traces of kernels by Nsight Systems: `nsys stats --report cuda_gpu_kern_sum` or `cuda_gpu_trace`, as CSV.

Units stand in the header, `Med (ns)`, and may be ns, us, ms or s. A kernel whose name the map (`kernel_map`) knows becomes a
point; all others are listed as seen.

Leaves out: other reports; sizes, which these reports do not hold.
Checked: tests/test_import_traces.py.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import kernel_map, physics
from .imported import Imported, Kernel, Tally
from .kernel_map import KernelMap
from .tables import numbers, refused, require, rows_of, text_of, times

__all__ = ["fits", "read"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "μs": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}  # both letters that are drawn as micro
_EXPORT = "export with `nsys stats --report cuda_gpu_kern_sum --format csv`"


_SUMMARY = {"Time", "Total Time", "Instances", "Avg", "Med", "Min", "Max", "StdDev", "Name"}
_ENOUGH = 4  # of these columns tell a summary of kernels


def fits(header: list[str]) -> bool:
    """Whether a CSV with this header is such a report, though a column of it may be missing or misspelt."""
    plain = {name.partition(" (")[0].strip() for name in header}
    return len(plain & _SUMMARY) >= _ENOUGH or {"Start", "Duration"} <= plain


def read(path: str | Path, *, kernels: str | Path | None = None) -> Imported:
    """Return the points of a report, with the kernels it holds; `kernels` is a file that maps names of them.

    Raises ProfileError.
    """
    where = Path(path)
    names = kernel_map.read(kernels)
    text = text_of(where)
    before = _preamble(text)  # blanked, so that the lines of errors are those of the file
    frame = rows_of(where, "\n" * before + "\n".join(text.splitlines()[before:]))
    if frame.empty:
        raise refused(where, f"must have kernels; got the header alone: {_EXPORT}")
    tally = Tally()
    units = _columns(where, list(frame.columns))
    require(where, [*units, *frame.columns], ["Name"])
    seen = (
        _trace(where, frame, units, names, tally) if "Start" in units else _summary(where, frame, units, names, tally)
    )
    if not tally.points:
        tally.note(
            "no kernel is in a law: map names with `kernels`, or import a trace of the PyTorch profiler with shapes"
        )
    source = {
        "title": f"Nsight Systems, {where.name}",
        "quality": "imported",
        "machine": _machine(frame),
        "date": datetime.fromtimestamp(where.stat().st_mtime, UTC).date().isoformat(),
        "note": "the date is that of the file",
    }
    tally.points = physics.checked(tally.points, None, str(path))
    return tally.result(source, None, sorted(seen, key=lambda kernel: -kernel.total))


def _preamble(text: str) -> int:
    """Return how many lines stand before the header: nsys prints what it processes first."""
    return next((at for at, line in enumerate(text.splitlines()) if "," in line and "Name" in line), 0)


def _columns(path: Path, header: list[str]) -> dict[str, tuple[str, float]]:
    """Return, for each column of times, its name in the file and the seconds in one of its numbers."""
    found: dict[str, tuple[str, float]] = {}
    for name in header:
        match = re.fullmatch(r"(Total Time|Avg|Med|Min|Max|StdDev|Start|Duration)(?: \((.*)\))?", name)
        if match is None:
            continue
        if match[2] not in _UNITS:
            got = f"`{name}`" if match[2] else f"`{name}`, without one"
            raise refused(path, f"must have its unit in the header, as `{match[1]} (ns)`; got {got}: {_EXPORT}", 1)
        found[match[1]] = (name, _UNITS[match[2]])
    return found


def _machine(frame: pd.DataFrame) -> str:
    return str(frame["Device"].iloc[0]) if "Device" in frame else "not told"


def _summary(
    path: Path, frame: pd.DataFrame, units: Mapping[str, tuple[str, float]], names: KernelMap, tally: Tally
) -> list[Kernel]:
    """Read one row for each kernel; its median becomes the point, its mean where an old report has none."""
    require(path, [*frame.columns, *units], ["Instances", "Total Time"])
    middle = "Med" if "Med" in units else "Avg"
    require(path, [*frame.columns, *units], [middle])
    if middle == "Avg":
        tally.note("the report has no medians; means are taken")
    total, median = (times(path, frame, *units[name]) for name in ("Total Time", middle))
    count = numbers(path, frame, "Instances", least=1)
    kernels, rules = [], []
    for name, calls, all_, one in zip(frame["Name"].astype(str), count, total, median, strict=True):
        rule = names.rule(name)
        rules.append(rule)
        kernels.append(Kernel(name, int(calls), float(all_), float(one), rule.law if rule else ""))
    _add(rules, median, tally, repeats=False)
    return kernels


def _trace(
    path: Path, frame: pd.DataFrame, units: Mapping[str, tuple[str, float]], names: KernelMap, tally: Tally
) -> list[Kernel]:
    """Read one row for each call."""
    require(path, [*frame.columns, *units], ["Duration"])
    seconds = times(path, frame, *units["Duration"])
    calls = frame["Name"].astype(str)
    _add([names.rule(name) for name in calls], seconds, tally, repeats=True)
    kernels = []
    for name, one in pd.Series(seconds).groupby(calls.to_numpy()):
        rule = names.rule(str(name))
        kernels.append(Kernel(str(name), len(one), float(one.sum()), float(one.median()), rule.law if rule else ""))
    return kernels


def _add(rules: list[kernel_map.KernelRule | None], seconds: np.ndarray, tally: Tally, *, repeats: bool) -> None:
    """Add the points of the rows that have a rule, and count the others."""
    tally.skip("kernels that are seen, but in no law", sum(rule is None for rule in rules))
    for law in dict.fromkeys(rule.law for rule in rules if rule is not None):
        own: list[tuple[kernel_map.KernelRule, Any]] = [
            (rule, one) for rule, one in zip(rules, seconds, strict=True) if rule is not None and rule.law == law
        ]
        first = own[0][0]
        sizes = {name: [rule.sizes[name] for rule, _ in own] for name in first.sizes}
        tally.add(first.op, first.options, sizes, [one for _, one in own], repeats=repeats)
