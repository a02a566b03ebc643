"""The laws of calls to hosted models as a report: coefficients with intervals, residuals, and held-out errors.

Leaves out: the fit, and the YAML, which are calibration's; this takes its plain data.
Checked: tests/test_call_law.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .layout import Report, Table
from .numbers import NOTHING
from .profile_laws import percent
from .profile_tables import View

__all__ = ["calls_view"]

Data = dict[str, Any]

_COEFFICIENTS = ("overhead", "new", "cached", "output")
_SHOWN = (0.05, 0.5, 0.95, 0.99)
_READING = (
    "The law is the median time of a call: overhead + new, cached and output tokens at their rates. Brackets hold 95 % "
    "intervals, from whole runs resampled. Errors are |predicted / measured - 1| on runs that the fit did not see."
)


def calls_view(data: Data) -> View:
    """Return fitted laws as a report.

    `data` has `file`, `models` (each `model, calls, runs`, four coefficients in seconds, `intervals`, `residual`,
    `held_out`), `held_out` over all models, `not_fitted`, `left_out` and `notes`.
    """
    models: list[Data] = data["models"]
    tables = (_laws(models), _residuals(models), _errors(data))
    heading = (f"Latency of calls in {data['file']}",)
    report = Report(heading, _answer(data), tables, (*_notes(data), _READING))
    return View(report, data, tuple(_flat(one) for one in models))


def _answer(data: Data) -> str:
    models = data["models"]
    calls = sum(one["calls"] for one in models)
    text = f"{len(models)} law{'s'[: len(models) != 1]} from {calls:,} calls"
    found = [one for one in data["held_out"] if one["calls"]]
    if not found:
        return f"{text}; too few runs to hold any out."
    worst = max(found, key=lambda one: float(one["median"]))
    return f"{text}; fitted to half of the runs they are off by {_median(worst)} (median) on the other half."


def _notes(data: Data) -> Iterator[str]:
    yield from data["notes"]
    yield from (f"left out: {count:,} rows: {why}" for why, count in data["left_out"].items())
    yield from (f"not fitted: {model}: {why}" for model, why in data["not_fitted"].items())


def _laws(models: list[Data]) -> Table:
    rows = []
    for one in models:
        cells = [
            cell
            for name in _COEFFICIENTS
            for cell in _coefficient(one[name], (one["intervals"] or {}).get(name), name == "overhead")
        ]
        rows.append((one["model"], f"{one['calls']:,}", f"{one['runs']:,}", *cells))
    columns = ("model", "calls", "runs", "overhead", "", "per new", "", "per cached", "", "per output", "")
    return Table("Laws (time, and time per token)", columns, "<>>><><><><", tuple(rows))


def _coefficient(value: float, ends: list[float] | None, fixed: bool) -> tuple[str, str]:
    """Return a coefficient and its interval, in the unit that suits the value."""
    size, unit = (1.0, "s") if fixed else (1e-3, "ms") if value >= 1e-3 else (1e-6, "µs")
    if ends is None:
        return f"{value / size:.3g} {unit}", ""
    low, high = (f"{end / size:.3g}" for end in ends)
    return f"{value / size:.3g} {unit}", f"[{low}, {high}]"


def _residuals(models: list[Data]) -> Table:
    rows = []
    for one in models:
        known = dict(zip(one["residual"]["shares"], one["residual"]["ratios"], strict=True))
        cells = (f"{known[share]:.2f}" if share in known else NOTHING for share in _SHOWN)
        rows.append((one["model"], *cells, f"{one['residual']['mean']:.2f}"))
    columns = ("model", *(f"p{100 * share:g}" for share in _SHOWN), "mean")
    return Table("Residual: measured time over the law's", columns, "<>>>>>", tuple(rows))


def _errors(data: Data) -> Table:
    rows = [(one["model"], *_error_cells(one["held_out"])) for one in data["models"]]
    rows += [(f"all, fitted to the {one['fitted_to']}", *_error_cells(one)) for one in data["held_out"]]
    columns = ("model", "calls", "runs", "median", "", "p90")
    return Table("Errors on held-out runs", columns, "<>>><>", tuple(rows))


def _error_cells(one: Data) -> tuple[str, ...]:
    if not one["calls"]:
        return (NOTHING, NOTHING, NOTHING, "", NOTHING)
    interval = "" if one["interval"] is None else "[{:.1f}, {:.1f}]".format(*(100 * end for end in one["interval"]))
    return (f"{one['calls']:,}", f"{one['runs']:,}", percent(one["median"]), interval, percent(one["p90"]))


def _median(one: Data) -> str:
    if one["interval"] is None:
        return percent(one["median"])
    low, high = (100 * end for end in one["interval"])
    return f"{percent(one['median'])} [{low:.1f}, {high:.1f}]"


def _flat(one: Data) -> Data:
    """Return the row of the CSV of one model, in seconds and shares."""
    intervals = one["intervals"] or {}
    row: Data = {key: one[key] for key in ("model", "calls", "runs")}
    for name in _COEFFICIENTS:
        low, high = intervals.get(name, (None, None))
        row |= {name: one[name], f"{name}_low": low, f"{name}_high": high}
    row["residual_mean"] = one["residual"]["mean"]
    row |= {f"held_out_{key}": one["held_out"][key] for key in ("calls", "runs", "median", "p90")}
    return row
