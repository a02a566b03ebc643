"""A fit held against unseen tasks, made by hand: a prediction that holds, one that misses inside of its interval, one outside, and shares."""

from __future__ import annotations

import math
from pathlib import Path

from coordsim.calibration.traces.holdout import source
from coordsim.sim.analysis.holdout import HeldOut, HoldoutResult
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.report.holdout_answers import ANSWERS
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.stored import Stored

from .measured import measured

__all__ = ["COMMAND", "result", "source_", "stored", "write"]

COMMAND = "coordsim trace fit runs.json --holdout 0.5 --by session -o my.yaml"


def _row(
    name: str, unit: str, numbers: tuple[float, float, float, float], others: tuple[float, float], band: float
) -> HeldOut:
    predicted, low, high, real = numbers
    half = 0.1 * real
    known = Estimate(predicted, low, high, 0.95, 40, "refits")
    return HeldOut(
        name, unit, known, Estimate(real, real - half, real + half, 0.95, 20, "groups drawn again"), *others, band
    )


def result(name: str = "runs") -> HoldoutResult:
    """Return it."""
    rows = (
        _row("mean", "s", (110.0, 80.0, 150.0, 100.0), (170.0, 104.0), math.nan),
        _row("p50", "s", (92.0, 70.0, 120.0, 90.0), (60.0, 95.0), 0.20),
        _row("p90", "s", (320.0, 180.0, 520.0, 200.0), (500.0, 210.0), 0.35),
        _row("tool_share", "share", (0.38, 0.33, 0.43, 0.45), (0.6, 0.40), 0.06),
        _row("model_calls", "", (20.0, 17.0, 23.0, 21.0), (20.0, 20.5), 0.15),
        _row("error_rate", "share", (math.nan, -math.inf, math.inf, math.nan), (math.nan, math.nan), 0.03),
    )
    return HoldoutResult(
        name, 0.5, 7, 30, 32, (20, 21), 40, 0.95, rows, ("2 tasks that have no end, or no calls, are in neither part",)
    )


def source_(command: str = COMMAND) -> Provenance:
    """Return where it comes from."""
    return source(measured(12), command)


def stored() -> Stored:
    """Return it as a page takes it."""
    return Stored("holdout", result(), source_())


def write(folder: Path) -> None:
    """Write the answer to a folder, as its command does."""
    ANSWERS.write(result(), source_(), {}, folder, overwrite=True)
