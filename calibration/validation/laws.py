"""From the rows of a calibration to laws: what each part of the system costs, alone, at the machine's reference speed.

Times are those at the reference speed, as far as they follow it. Each law is a median over the
rows of one calibration, or a least-squares fit to medians; what repeats differ by, is kept as ratios to it.

Leaves out: what happens under load: the simulation has to tell.
Checked: tests/test_validation_laws.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .system.terms import MODEL, TOOLS
from .system.wire import Stamps

__all__ = ["Rows", "Speed", "follows_of", "kind", "laws_of", "quadratic", "stretch"]

Rows = list[dict[str, Any]]


class Speed(Protocol):
    """The machine's speed at a time (s, monotonic clock), on a core or on all on average (-1); 1 is that of the reference."""

    def __call__(self, at: float, core: int = -1) -> float:
        """Return it."""


_LEAST = 8  # times from which a share can be told
_PRIOR = 0.03**2  # variance of 1 / speed below which times tell nothing of the share


def kind(name: str) -> str:
    """Return what kind of work a server's is: that of the `model`, of `media`, or of a `tool`."""
    return "model" if name == MODEL else "media" if name.startswith("media") else "tool"


def line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return overhead (s) and seconds per byte through the median of each size, neither below 0."""
    by_size: dict[float, list[float]] = {size: [] for size in sorted(set(sizes))}
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


def stretch(share: float, speed: float) -> float:
    """Return how many times longer work takes at a speed of the sensor than at 1, of which a share follows that."""
    return 1 - share + share / speed


def follows_of(paces: npt.ArrayLike, seconds: npt.ArrayLike) -> float:
    """Return the share of a work's time that follows the machine's speed, from its time (s) at several speeds: from 0 to 1.

    Time is (1 - share) + share / speed, but for a factor; where speeds hardly differ it is near 1.
    """
    x, y = 1 / np.asarray(paces), np.asarray(seconds)
    if len(x) < _LEAST:
        return 1.0
    x, y = x - 1, y / np.median(y)
    # y = a (1 + share x): a line through the times, whose slope over its height at speed 1 is the share.
    spread, both = float(np.var(x)), float(np.cov(x, y, bias=True)[0, 1])
    height = float(np.mean(y)) - both / spread * float(np.mean(x)) if spread else 1.0
    return float(np.clip((both / height + _PRIOR) / (spread + _PRIOR), 0.0, 1.0))


def laws_of(rows: Rows, speed: Speed, follows: Mapping[str, float]) -> dict[str, Any]:
    """Return the laws that the rows of one paced calibration tell, as numbers and lists by name.

    `follows` says which share of the work of `model`, `media` and `tool` follows the machine's speed; all else is as a tool's is.
    """

    def pace(at: float) -> float:
        return 1 / stretch(follows["tool"], speed(at))

    plans = [(row["ended"] - row["begun"]) * pace(row["begun"]) for row in rows if row["name"] == "plan"]
    calls = [_Call(row, speed, follows) for row in rows if row["name"] != "plan"]
    alone = [call for call in calls if call.what != "fan" and call.at_once == 1]
    sizes = [call.request for call in alone] + [call.response for call in alone]
    found: dict[str, Any] = {
        "speed": _middle([speed(row["begun"]) for row in rows]),
        "plan": _middle(plans),
        "encode": line(sizes, [call.encode for call in alone] + [call.reencode for call in alone]),
        "decode": line(sizes, [call.decode for call in alone] + [call.redecode for call in alone]),
        "hand_off": _middle([call.hand_off for call in alone if call.name == MODEL]),
    }
    found |= _ways(calls, alone)
    found |= _model([call for call in alone if call.name == MODEL])
    for name in TOOLS:
        if there := [call.work for call in alone if call.name == name]:
            found[name] = sorted(there)
    if seen := [call.work for call in alone if call.name.startswith("media")]:
        found["media"] = sorted(seen)
    found["fan"] = _fans([row for row in rows if row.get("what") == "fan"], pace)
    return found


def _ways(calls: Sequence["_Call"], alone: Sequence["_Call"]) -> dict[str, Any]:
    """Return the laws of the way of a message: what a call takes on it both ways, alone, and the CPU time of the client beside encoding and decoding.

    The latter with calls at once: then what it runs is in its caches, as in a busy event loop.
    """
    _, each = line([call.request for call in alone], [call.transit for call in alone])
    both = sorted(max(0.0, call.transit - each * call.request) for call in alone)
    return {"client": _middle([call.client for call in calls if call.at_once > 1]), "per_byte": each, "ways": both}


class _Call:
    """A call of a calibration: seconds of each of its parts, at the reference speed."""

    def __init__(self, row: Mapping[str, Any], speed: Speed, follows: Mapping[str, float]) -> None:
        at, pace = Stamps(*row["stamps"]), 1 / stretch(follows["tool"], speed(row["begun"]))
        self.name, self.what, self.size, self.at_once = row["name"], row["what"], row["size"], row["at_once"]
        self.request, self.response = row["request"], row["response"]
        self.encode = (row["sent"] - row["begun"]) * pace
        self.decode = (at.decoded - at.read) * pace
        self.reencode = (at.encoded - at.back) * pace
        self.redecode = (row["ended"] - row["there"]) * pace
        self.work = (at.ended - at.started) / stretch(follows[kind(self.name)], speed(at.started, int(at.core)))
        self.hand_off = ((at.started - at.decoded) + (at.back - at.ended)) * pace
        self.transit = ((at.read - row["sent"]) + (row["there"] - at.encoded)) * pace
        self.client = max(0.0, row["spent"] * pace - self.encode - self.redecode)


def _model(calls: Sequence[_Call]) -> dict[str, Any]:
    tokens, seconds = [call.size for call in calls], [call.work for call in calls]
    law = quadratic(tokens, seconds)
    ratios = np.array(seconds) / [law[0] + law[1] * n + law[2] * n * n for n in tokens]
    return {"model": list(law), "model_residual": sorted(ratios.tolist())}


def _fans(rows: Rows, pace: Callable[[float], float]) -> dict[str, float]:
    """Return the median seconds of a fan-out, by workers."""
    spans: dict[int, dict[float, float]] = {}
    for row in rows:
        spans.setdefault(row["size"], {})[row["first"]] = (row["over"] - row["first"]) * pace(row["first"])
    return {str(size): _middle(list(there.values())) for size, there in sorted(spans.items())}


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0
