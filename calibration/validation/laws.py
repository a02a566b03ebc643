"""From the rows of a calibration to laws: what each part of the system costs, alone, at the machine's reference speed.

Times of work are multiplied by the machine's speed when they were taken; waits for a wake-up are not. Each law is a median over the
rows of one calibration, or a least-squares fit to medians; what repeats differ by, is kept as ratios to it.

Leaves out: what happens under load: the simulation has to tell.
Checked: tests/test_validation_laws.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .system.orchestrate import MODEL, TOOLS
from .system.wire import Stamps

__all__ = ["Rows", "laws_of", "quadratic"]

Rows = list[dict[str, Any]]
Speed = Callable[[float], float]
"""The machine's speed at a time (s, monotonic clock), 1 being that of the reference."""

RESIDUALS = 60  # ratios that are kept of a law


def line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return overhead (s) and seconds per byte through the median of each size, neither below 0."""
    by_size = {size: [] for size in sorted(set(sizes))}
    for size, value in zip(sizes, seconds, strict=True):
        by_size[size].append(value)
    x, y = np.array(list(by_size)), np.array([float(np.median(values)) for values in by_size.values()])
    if len(x) < 2:
        return float(y[0]), 0.0
    slope = max(0.0, float(np.polyfit(x, y, 1)[0]))
    return max(0.0, float(np.mean(y - slope * x))), slope


def quadratic(tokens: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return overhead (s), seconds per token and per token², none below 0, that fit best by relative error."""
    from scipy.optimize import nnls

    x, y = np.asarray(tokens, float), np.asarray(seconds, float)
    found, _ = nnls(np.stack([np.ones_like(x), x, x * x], axis=1) / y[:, None], np.ones_like(y))
    return float(found[0]), float(found[1]), float(found[2])


def laws_of(rows: Rows, speed: Speed) -> dict[str, Any]:
    """Return the laws that the rows of one paced calibration tell, as numbers and lists by name."""
    calls = [_Call(row, speed) for row in rows if row["name"] != "plan"]
    alone = [call for call in calls if call.what != "fan" and call.at_once == 1]
    _loops(calls)
    found: dict[str, Any] = {
        "plan": _middle([(row["ended"] - row["begun"]) * speed(row["begun"]) for row in rows if row["name"] == "plan"]),
        "encode": line([c.request for c in alone] + [c.response for c in alone], [c.encode for c in alone] + [c.reencode for c in alone]),
        "decode": line([c.request for c in alone] + [c.response for c in alone], [c.decode for c in alone] + [c.redecode for c in alone]),
        "client": line([c.request for c in alone], [c.client for c in alone]),
        "server": line([c.request for c in alone if c.server is not None], [c.server for c in alone if c.server is not None]),
        "hand_off": _middle([c.hand_off for c in alone if c.name == MODEL]),
    }
    found |= _model([c for c in alone if c.name == MODEL])
    for name in TOOLS:
        there = [c.work for c in alone if c.name == name]
        if there:
            found[name] = sorted(there)
    seen = [c.work for c in alone if c.name.startswith("media")]
    if seen:
        found["media"] = sorted(seen)
    found["way"] = line([c.request for c in alone], [c.transit for c in alone])
    found["fan"] = _fans([row for row in rows if row.get("what") == "fan"])
    return found


def _at(law: tuple[float, float], size: float) -> float:
    return law[0] + law[1] * size


class _Call:
    """A call of a calibration: seconds of each of its parts, at the reference speed (but `transit`, which is as it was)."""

    def __init__(self, row: Mapping[str, Any], speed: Speed) -> None:
        at, pace = Stamps(*row["stamps"]), speed(row["begun"])
        self.name, self.what, self.size, self.at_once = row["name"], row["what"], row["size"], row["at_once"]
        self.request, self.response = row["request"], row["response"]
        self.begun, self.loop, self.pace = row["begun"], at.loop, pace
        self.encode = (row["sent"] - row["begun"]) * pace
        self.decode = (at.decoded - at.read) * pace
        self.reencode = (at.encoded - at.back) * pace
        self.redecode = (row["ended"] - row["there"]) * pace
        self.work = (at.ended - at.started) * pace
        self.hand_off = (at.started - at.decoded) + (at.back - at.ended)
        self.transit = (at.read - row["sent"]) + (row["there"] - at.encoded)
        self.client = max(0.0, row["cpu"] * pace - self.encode - self.redecode)
        self.on_loop = 0.0 if self.name == MODEL else self.work  # of its work, what the server's event loop does itself
        self.server: float | None = None


def _loops(calls: Sequence[_Call]) -> None:
    """Tell each call what its server's event loop did beside decoding, work and encoding: the difference to the call before."""
    before: dict[str, _Call] = {}
    for call in sorted(calls, key=lambda one: one.begun):
        last = before.get(call.name)
        if last is not None and last.at_once == call.at_once == 1:
            own = call.decode + call.reencode + (call.on_loop if call.name != "wait" else 0.0)
            call.server = max(0.0, (call.loop - last.loop) * call.pace - own)
        before[call.name] = call


def _model(calls: Sequence[_Call]) -> dict[str, Any]:
    tokens, seconds = [call.size for call in calls], [call.work for call in calls]
    law = quadratic(tokens, seconds)
    ratios = np.array(seconds) / [law[0] + law[1] * n + law[2] * n * n for n in tokens]
    return {"model": list(law), "model_residual": sorted(ratios.tolist())}


def _fans(rows: Rows) -> dict[str, float]:
    """Return the median seconds of a fan-out, by workers."""
    spans: dict[int, dict[float, float]] = {}
    for row in rows:
        spans.setdefault(row["size"], {})[row["first"]] = row["over"] - row["first"]
    return {str(size): _middle(list(there.values())) for size, there in sorted(spans.items())}


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0
