"""Replaying a real server: its requests through the simulated one, and how far off each of them comes out.

The folder of a run has `meta.json` (engine and its options), `requests.jsonl` (tokens and stamps) and `config.json` (devices,
links), here or one above. Everything that is set is listed with its origin: the run, the profile, or an assumption.

Leaves out: what came before the stamp `queued_ts`; the clock of arrivals is another and wanders against it. Data-parallel ranks
take requests in turn and keep step by having as many tokens each.
Checked: tests/test_replay.py, against 300 requests of vLLM 0.19 where they are at hand.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..models.serving.ahead import AheadReplica
from ..models.serving.kv_cache import KvCache
from ..models.serving.kv_cache import Path as Content
from ..models.serving.measured_steps import MeasuredSteps
from ..models.serving.replica import Replica, drive
from ..models.serving.request import Request
from ..sim.engine.errors import Problem, ProfileError, listed
from ..sim.profile.iteration import MeasuredIteration
from ..sim.report.replay_tables import METRICS, statistics
from .imports import vllm_run
from .real_run import Run, contents, read_run, workload_of
from .replay_engine import Engine, Setting, Settings, engine_of

__all__ = ["CALIBRATED", "Replay", "replay"]

CALIBRATED = {
    "host_step": (2e-3, "seconds added to every iteration: gaps between kernels and what the host does not hide"),
    "host_token": (50e-6, "seconds added to every iteration for each of its sequences"),
    "skew": (1.0, "share by which the longest sequence sets the pace, in place of the profile's table"),
}  # the largest value tried, and what it is
_ROUNDS = 14


@dataclass(frozen=True, slots=True)
class Replay:
    """What was measured and what was simulated, by request: arrays of seconds under `ttft`, `tpot` and `e2e`.

    `settings` are all parameters with their origin; `fitted` is the one that was calibrated, '' for none.
    """

    run: Run
    profile: str
    real: dict[str, np.ndarray]
    simulated: dict[str, np.ndarray]
    requests: list[Request]
    settings: list[Setting]
    notes: list[str]
    fitted: str = ""

    def to_data(self) -> dict[str, Any]:
        """Return errors and requests as plain data, for a report."""
        metrics = list(METRICS)
        requests = []
        for place, (row, request) in enumerate(zip(self.run.rows, self.requests, strict=True)):
            one: dict[str, Any] = {
                "number": row.number, "queued": row.queued, "prompt": row.prompt, "output": row.output,
                "hit": request.hit, "preemptions": request.preemptions,
            }  # fmt: skip
            for metric in metrics:
                real, simulated = (_or_none(values[metric][place]) for values in (self.real, self.simulated))
                error = None if not real or simulated is None else simulated / real - 1.0
                one |= {metric: real, f"{metric}_simulated": simulated, f"{metric}_error": error}
            requests.append(one)
        return {
            "run": self.run.folder.name,
            "profile": self.profile,
            "model": self.run.model,
            "errors": {metric: statistics(self.real[metric], self.simulated[metric]) for metric in metrics},
            "settings": [{"name": one.name, "value": one.value, "origin": one.origin} for one in self.settings],
            "fitted": self.fitted,
            "set": [one.name for one in self.settings if one.origin == "as asked for"],
            "notes": self.notes,
            "requests": requests,
        }


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def replay(
    folder: Path,
    profile: Path,
    settings: Settings,
    *,
    workload: Path | None = None,
    shape: str = "",
    calibrate: str = "",
) -> Replay:
    """Replay the run in `folder` with the tables in or below `profile`. Raises ProfileError with file, line and remedy.

    `calibrate` names the one parameter to fit: so that the mean time per output token of every other request comes out.
    """
    if calibrate and calibrate not in CALIBRATED:
        raise ProfileError(
            [Problem("", f"one of {listed(CALIBRATED)} can be calibrated; got {calibrate}")], "--calibrate"
        )
    run = read_run(folder)
    where = vllm_run.tables_below(profile, run.model, run.hardware)
    engines = run.data_parallel if run.expert_parallel else 1
    ranks = engines * run.tensor_parallel if run.expert_parallel else 1
    tables = vllm_run.read(where, tensor_parallel=run.tensor_parallel, ranks=ranks, engines=engines, shape=shape)
    engine = engine_of(run, tables, settings)
    measured = tables.measured(collectives=engine.collectives)
    content = workload_of(run, workload)
    paths = contents(content, run, engine.limits.block) if content is not None and engine.prefix else None
    notes = [*run.notes, *tables.notes, *engine.notes]
    if paths is None and engine.prefix:
        notes.append("without the requests' tokens (--workload) no prefix is found in the cache; lengths alone count")
    if calibrate:
        engine = _calibrated(calibrate, run, measured, engine, paths)
    requests = _simulate(run, measured, engine, paths)
    fitted = calibrate
    return Replay(run, str(where), _real(run), _times(requests), requests, engine.settings(), notes, fitted)


def _calibrated(
    name: str, run: Run, measured: MeasuredIteration, engine: Engine, paths: Sequence[Content] | None
) -> Engine:
    """Return the engine with the parameter at which the mean TPOT of every other request is the measured one."""
    real = _real(run)["tpot"][::2]
    if not np.isfinite(real).any():
        rule = "none of its requests makes two tokens or more: there is no time per output token to fit to"
        raise ProfileError([Problem("", rule)], str(run.folder))
    wanted = float(np.nanmean(real))

    def off(value: float) -> float:
        requests = _simulate(run, measured, engine.with_value(name, value, ""), paths)
        return float(np.nanmean(_times(requests)["tpot"][::2])) - wanted

    low, high = 0.0, CALIBRATED[name][0]
    if off(low) >= 0.0 or off(high) <= 0.0:
        value = low if off(low) >= 0.0 else high
        return engine.with_value(name, value, "calibrated, and at the end of its range: the error is not of this kind")
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if off(middle) < 0.0 else (low, middle)
    return engine.with_value(name, float(f"{0.5 * (low + high):.3g}"), "calibrated: mean TPOT of every other request")


def _simulate(run: Run, measured: MeasuredIteration, engine: Engine, paths: Sequence[Content] | None) -> list[Request]:
    """Return the requests, served; in the order of the run's."""
    steps = MeasuredSteps(measured, engine.skew)
    requests = [
        Request(row.prompt, row.output, arrived=row.queued, path=() if paths is None else paths[number])
        for number, row in enumerate(run.rows)
    ]
    need = max(-(-(one.prompt + one.output) // engine.limits.block) for one in requests)
    if need > engine.blocks:
        rule = f"{engine.blocks:,} blocks of KV do not hold its longest request, which needs {need:,}: set kv_blocks or memory"
        raise ProfileError([Problem("", rule)], str(run.folder))
    for rank in range(engine.replicas):
        kind = AheadReplica if engine.ahead else Replica
        replica = kind(steps, KvCache(engine.blocks, prefix=engine.prefix), engine.limits)
        drive(replica, requests[rank :: engine.replicas])
    return requests


def _real(run: Run) -> dict[str, np.ndarray]:
    rows = run.rows
    tpot = [(row.last - row.first) / (row.output - 1) if row.output > 1 else np.nan for row in rows]
    return {
        "ttft": np.array([row.first - row.queued for row in rows]),
        "tpot": np.array(tpot),
        "e2e": np.array([row.last - row.queued for row in rows]),
    }


def _times(requests: Sequence[Request]) -> dict[str, np.ndarray]:
    return {
        "ttft": np.array([one.ttft for one in requests]),
        "tpot": np.array([one.tpot for one in requests]),
        "e2e": np.array([one.ended - one.arrived for one in requests]),
    }
