"""A replayed server as a report: errors of the times of requests, every parameter with its origin, and the requests furthest off.

Leaves out: the replay, which is calibration's; this takes its plain data.
Checked: tests/test_replay.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import units
from .layout import Report, Table
from .numbers import NOTHING
from .profile_tables import View

__all__ = ["METRICS", "STATISTICS", "replay_view", "statistics"]

Data = dict[str, Any]

METRICS = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}
STATISTICS = ("mean", "p50", "p90", "p99")
_FURTHEST = 5
_READING = (
    "Errors are simulated / real - 1. Times begin when the engine has queued a request. Errors by request are those of single "
    "requests: the median of their signed and of their absolute values, and the p90 of the latter."
)


def replay_view(data: Data) -> View:
    """Return a replay as a report.

    `data` has `run`, `profile`, `model`, `requests` (each `number`, `prompt`, `output`, `hit`, and per metric the real and the
    simulated seconds and the `_error`), `errors` by metric (statistics with `real`, `simulated`, `error`; and `by_request`),
    `settings` (`name`, `value`, `origin`), `fitted` and `notes`.
    """
    tables = (_errors(data), _by_request(data), _settings(data), _furthest(data))
    heading = (
        f"Replay of {data['run']} ({data['model']}, {len(data['requests']):,} requests)",
        f"tables: {data['profile']}",
    )
    report = Report(heading, _answer(data), tables, (*data["notes"], _READING))
    return View(report, data, tuple(data["requests"]))


def _answer(data: Data) -> str:
    means = " / ".join(_percent(data["errors"][metric]["mean"]["error"]) for metric in METRICS)
    how = f"with `{data['fitted']}` calibrated" if data["fitted"] else "nothing tuned"
    if not data["fitted"] and data["set"]:
        how = f"with {', '.join(data['set'])} as asked for"
    return f"Mean time to first token, per output token and end to end: {means} ({how})."


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:+.1f} %"


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else units.format(value, units.DURATION)


def _errors(data: Data) -> Table:
    rows = []
    for metric, title in METRICS.items():
        for statistic in STATISTICS:
            one = data["errors"][metric][statistic]
            cells = (_seconds(one["real"]), _seconds(one["simulated"]), _percent(one["error"]))
            rows.append((title if statistic == "mean" else "", statistic, *cells))
    return Table("Times of requests", ("", "", "real", "simulated", "error"), "<<>>>", tuple(rows))


def _by_request(data: Data) -> Table:
    rows = []
    for metric, title in METRICS.items():
        one = data["errors"][metric]["by_request"]
        absolute = (f"{100 * one[name]:.1f} %" if one[name] is not None else NOTHING for name in ("absolute", "p90"))
        rows.append((title, _percent(one["median"]), *absolute))
    return Table("Errors by request", ("", "median", "absolute", "p90"), "<>>>", tuple(rows))


def _settings(data: Data) -> Table:
    rows = tuple((one["name"], one["value"], one["origin"]) for one in data["settings"])
    return Table("Parameters", ("", "value", "from"), "<><", rows)


def _furthest(data: Data) -> Table:
    requests = sorted(data["requests"], key=lambda one: -abs(one["e2e_error"] or 0.0))[:_FURTHEST]
    rows = tuple(
        (
            str(one["number"]), f"{one['prompt']:,}", f"{one['output']:,}", f"{one['hit']:,}",
            *(_percent(one[f"{metric}_error"]) for metric in METRICS),
        )
        for one in requests
    )  # fmt: skip
    columns = ("request", "prompt", "output", "hit", "first token", "per token", "end to end")
    return Table("Furthest off, end to end", columns, "<>>>>>>", rows)


def statistics(real: np.ndarray, simulated: np.ndarray) -> Data:
    """Return mean and percentiles of both with their errors, and errors by request; None where nobody has a value."""
    known = np.isfinite(real) & np.isfinite(simulated)
    real, simulated = real[known], simulated[known]
    if not len(real):
        nothing = dict.fromkeys(("real", "simulated", "error"))
        return {**dict.fromkeys(STATISTICS, nothing), "by_request": dict.fromkeys(("median", "absolute", "p90"))}
    found: Data = {}
    for name in STATISTICS:
        one, other = (
            float(np.mean(values) if name == "mean" else np.percentile(values, float(name[1:])))
            for values in (real, simulated)
        )
        found[name] = {"real": one, "simulated": other, "error": other / one - 1.0 if one else None}
    positive = real > 0.0
    errors = simulated[positive] / real[positive] - 1.0
    found["by_request"] = {
        "median": float(np.median(errors)),
        "absolute": float(np.median(np.abs(errors))),
        "p90": float(np.percentile(np.abs(errors), 90)),
    }
    return found
