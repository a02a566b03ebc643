"""Latencies as a mixture of one to three lognormals, or of lognormals and a Pareto tail.

Found by expectation maximisation on the logs of the times; how many parts there are, and whether the tail is Pareto's, is told by the
Bayesian information criterion. What takes no time is a part of its own. A part is never narrower than the clock that measured it. The mixture
is cut off at the longest time seen, and one part is scaled so that the mean is the measured one: most of a tool's time is in few calls.

Leaves out: what lies beyond the longest time that was seen. Times that depend on the size of a request.
Checked: tests/test_trace_fit.py.
Source: Dempster, Laird and Rubin, J. Roy. Stat. Soc. B 39 (1977); Schwarz, Annals of Statistics 6 (1978).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .fitted import Mixture, Number, Part
from .tables import table

__all__ = ["fit_mixture", "mean_of"]

_INSTANT = 1e-9  # s: shorter is none
_LEAST_SIGMA = 0.02
_FEW = 8  # calls: fewer have one part
_LEAST_PART = 4.0  # calls
_TAIL_CALLS = 60
_POINTS = 240  # calls are brought together to so many of like time
_STEPS = 80
_CLOCKS = (1.0, 0.1, 0.01, 0.001)  # s
_LEAST_SHAPE, _MOST_SHAPE = 0.3, 10.0
_MOST_CHANGE = 30.0  # of a part, to keep the mean
_STEP = 1.2
_LEAST_INSIDE = 0.85  # of a mixture, to lie below the longest time seen
_MOST_CV = 5.0  # of a single lognormal


def fit_mixture(seconds: np.ndarray, mean: Number, short: bool = False) -> Mixture:
    """Return the mixture of times >= 0 (s), shape (calls,), at least one, scaled to the mean that is given; a `short` one is one lognormal."""
    some = seconds[seconds > _INSTANT]
    none = 1.0 - len(some) / len(seconds)
    logs = np.log(some) if len(some) else np.zeros(1)
    middle, sigma = float(logs.mean()), float(logs.std())
    single = Part("lognormal", 1.0, math.exp(middle) if len(some) else 0.0, sigma)
    if short and len(some) and sigma > _LEAST_SIGMA:
        return Mixture((_of_mean(some, len(seconds), mean.value),), None, mean, table(seconds, mean), single)
    parts = [] if not len(some) else _parts(np.sort(some))
    parts = [Part(one.kind, one.weight * (1.0 - none), one.median, one.sigma) for one in parts]
    if none > 0:
        parts.insert(0, Part("constant", none, 0.0, 0.0))
    most = float(seconds.max()) if any(one.kind != "constant" for one in parts) else None
    scaled, most = _scaled(parts, most, mean.value)
    inside = 1.0 if most is None else math.fsum(one.weight * _up_to(one, most)[0] for one in scaled)
    if inside < _LEAST_INSIDE and len(some):
        # Cut off so low the parts would say what was never seen: times that end not far beyond their mean are told by two moments.
        return Mixture((_of_mean(some, len(seconds), mean.value),), None, mean, table(seconds, mean), single)
    return Mixture(tuple(scaled), most, mean, table(seconds, mean), single)


def _of_mean(some: np.ndarray, calls: int, mean: float) -> Part:
    """Return the lognormal of that mean whose second moment is that of the times, as far as such times can be told from a few."""
    second = float((some**2).sum()) / calls / (float(some.sum()) / calls) ** 2
    sigma = math.sqrt(math.log(min(max(second, 1.0 + _LEAST_SIGMA**2), 1.0 + _MOST_CV**2)))
    return Part("lognormal", 1.0, mean * math.exp(-(sigma**2) / 2), sigma)


def _times(one: Part, factor: float) -> Part:
    return Part(one.kind, one.weight, one.median * factor, one.sigma)


def _factor_for(parts: list[Part], i: int, most: float | None, mean: float) -> float | None:
    """Return by what the part at place i has to be scaled for that mean; None where no factor in reason does it."""
    if most is None or parts[i].kind == "constant":
        return None

    others = [(one.weight, *_up_to(one, most)) for j, one in enumerate(parts) if j != i]
    inside, whole = math.fsum(w * p for w, p, _ in others), math.fsum(w * m for w, _, m in others)

    def found(factor: float) -> float:
        p, m = _up_to(_times(parts[i], factor), most)
        now = inside + parts[i].weight * p
        return (whole + parts[i].weight * m) / now if now > 0 else 0.0

    # Away from 1, step by step: scaled too far a part lies beyond the longest time, and the mean falls again.
    step = _STEP if found(1.0) < mean else 1 / _STEP
    near, far = 1.0, step
    while (found(far) < mean) == (step > 1):
        near, far = far, far * step
        if not 1 / _MOST_CHANGE < far < _MOST_CHANGE:
            return None
    low, high = min(near, far), max(near, far)
    for _ in range(40):
        half = math.sqrt(low * high)
        low, high = (half, high) if found(half) < mean else (low, half)
    return high


def _scaled(parts: list[Part], most: float | None, mean: float) -> tuple[list[Part], float | None]:
    """Return the parts with that mean: one of them is scaled, that which displaces least of the distribution, or else all."""
    chosen, least = parts, math.inf
    for i, one in enumerate(parts):
        factor = _factor_for(parts, i, most, mean)
        if factor is not None and (cost := one.weight * abs(math.log(factor)) / one.sigma) < least:
            chosen, least = [*parts[:i], _times(one, factor), *parts[i + 1 :]], cost
    if least < math.inf:
        return chosen, most
    now = mean_of(parts, most)
    factor = mean / now if now > 0 else 1.0
    return [_times(one, factor) for one in parts], None if most is None else most * factor


def _parts(some: np.ndarray) -> list[Part]:
    """Return the parts of sorted times > 0; their weights sum to 1."""
    if some[0] == some[-1]:
        return [Part("constant", 1.0, float(some[0]), 0.0)]
    points, counts = _brought_together(np.log(some))
    clock = next((one for one in _CLOCKS if np.abs(some / one - np.rint(some / one)).max() < 1e-6), 0.0)
    found = _maximised(points, counts, clock)
    chosen = found.best(counts.sum())
    parts = [
        Part("lognormal", float(w), math.exp(m), float(s))
        for w, m, s in zip(found.weight[chosen, :3], found.middle[chosen], found.sigma[chosen], strict=True) if w > 0
    ]  # fmt: skip
    if found.weight[chosen, 3] > 0:
        parts.append(
            Part("pareto", float(found.weight[chosen, 3]), math.exp(found.least[chosen]), float(found.shape[chosen]))
        )
    return sorted(parts, key=lambda one: (one.kind, one.median))


def _brought_together(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at most so many points and how many calls are in each: those of the tail stay alone."""
    n = len(logs)
    if n <= _POINTS:
        return logs, np.ones(n)
    tail = 40
    edges = np.concatenate(
        [np.linspace(0, n - tail, _POINTS - tail, endpoint=False).astype(int), np.arange(n - tail, n)]
    )
    counts = np.diff(np.append(edges, n)).astype(float)
    return np.add.reduceat(logs, edges) / counts, counts


@dataclass
class _Found:
    """Candidates, the first axis: lognormals (up to three), and a Pareto part, each with a weight that is 0 where it has none."""

    weight: np.ndarray  # (candidates, 4)
    middle: np.ndarray  # (candidates, 3)
    sigma: np.ndarray
    least: np.ndarray  # (candidates,): where the Pareto part begins, a log
    shape: np.ndarray
    likelihood: np.ndarray

    def best(self, n: float) -> int:
        """Return the candidate with the least criterion of those whose parts have calls enough."""
        lognormals, tails = (self.weight[:, :3] > 0).sum(1), self.weight[:, 3] > 0
        cost = (3 * lognormals - 1 + 3 * tails) * math.log(n) - 2 * self.likelihood
        parts = lognormals + tails
        empty = ((self.weight > 0) & (self.weight * n < _LEAST_PART)).any(1) & (parts > 1)
        empty |= tails & (self.shape >= _MOST_SHAPE)  # falls too fast to be a tail
        return int(np.argmin(np.where(empty | ~np.isfinite(cost), np.inf, cost)))


def _begun(points: np.ndarray, counts: np.ndarray) -> _Found:
    """Return the candidates before the first step: cut at quantiles, each piece a part."""
    n = counts.sum()
    cuts: list[tuple[tuple[float, ...], float]] = [((), 0.0)]
    if n >= _FEW:
        cuts += [((0.5,), 0.0), ((0.85,), 0.0)]
    if n >= 3 * _FEW:
        cuts += [((1 / 3, 2 / 3), 0.0), ((0.5, 0.9), 0.0)]
    if n >= _TAIL_CALLS:
        cuts += [((), 0.9), ((0.5,), 0.9), ((), 0.75), ((0.5,), 0.95)]
    rank = (np.cumsum(counts) - 0.5 * counts) / n
    size = len(cuts)
    found = _Found(
        np.zeros((size, 4)),
        np.zeros((size, 3)),
        np.ones((size, 3)),
        np.full(size, np.inf),
        np.ones(size),
        np.zeros(size),
    )
    for i, (levels, tail) in enumerate(cuts):
        body = rank < tail if tail else np.ones(len(rank), dtype=bool)
        place = np.searchsorted(levels, rank / (tail or 1.0))
        for k in range(len(levels) + 1):
            here = np.flatnonzero(body & (place == k))
            if not len(here):
                continue
            weight = counts[here]
            middle = np.average(points[here], weights=weight)
            found.middle[i, k], found.weight[i, k] = middle, weight.sum() / n
            found.sigma[i, k] = math.sqrt(np.average((points[here] - middle) ** 2, weights=weight)) + 0.05
        if tail:
            found.weight[i, 3] = 1.0 - tail
            found.least[i] = points[np.searchsorted(rank, tail)]
    return found


def _maximised(points: np.ndarray, counts: np.ndarray, clock: float) -> _Found:
    """Return the candidates at (or near) their greatest likelihood."""
    found = _begun(points, counts)
    n = counts.sum()
    for _ in range(_STEPS):
        density = _densities(found, points)
        total = density.sum(1) + 1e-300
        likelihood = np.log(total) @ counts
        done = np.abs(likelihood - found.likelihood).max() < 1e-3
        found.likelihood = likelihood
        if done:
            break
        part = density * (counts / total)[:, None, :]
        mass = part.sum(2)
        found.weight = mass / n
        safe = np.maximum(mass, 1e-12)
        found.middle = part[:, :3] @ points / safe[:, :3]
        square = part[:, :3] @ (points**2) / safe[:, :3] - found.middle**2
        with np.errstate(over="ignore"):
            least = np.maximum(_LEAST_SIGMA**2, clock**2 / 12 * np.exp(np.minimum(-2 * found.middle, 600.0)))
        found.sigma = np.sqrt(np.maximum(square, np.minimum(least, 1.0)))
        beyond = np.where(
            found.weight[:, 3] > 0,
            part[:, 3] @ points - mass[:, 3] * np.where(np.isfinite(found.least), found.least, 0),
            1.0,
        )
        found.shape = np.clip(mass[:, 3] / np.maximum(beyond, 1e-12), _LEAST_SHAPE, _MOST_SHAPE)
    return found


def _densities(found: _Found, points: np.ndarray) -> np.ndarray:
    """Return the weighted density of each part at each point, on the scale of logs, shape (candidates, 4, points)."""
    z = (points - found.middle[:, :, None]) / found.sigma[:, :, None]
    normal = (found.weight[:, :3] / (found.sigma * math.sqrt(2 * math.pi)))[:, :, None] * np.exp(-0.5 * z * z)
    least = np.where(np.isfinite(found.least), found.least, 0.0)
    over = points - least[:, None]
    inside = (over >= 0) & (found.weight[:, 3] > 0)[:, None]
    tail = np.where(
        inside, (found.weight[:, 3] * found.shape)[:, None] * np.exp(-found.shape[:, None] * np.maximum(over, 0.0)), 0.0
    )
    return np.concatenate([normal, tail[:, None]], axis=1)


# --- What a mixture comes to -------------------------------------------------------------------------------------------


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _up_to(one: Part, most: float) -> tuple[float, float]:
    """Return the probability of a part to lie at or below `most`, and its mean there times that probability."""
    if one.kind == "constant":
        return (1.0, one.median) if one.median <= most else (0.0, 0.0)
    if one.kind == "lognormal":
        z = (math.log(most) - math.log(one.median)) / one.sigma
        return _normal(z), one.median * math.exp(one.sigma**2 / 2) * _normal(z - one.sigma)
    if most <= one.median:
        return 0.0, 0.0
    over, a = math.log(most / one.median), one.sigma
    whole = a * one.median * (over if a == 1 else math.expm1((1 - a) * over) / (1 - a))
    return -math.expm1(-a * over), whole


def mean_of(parts: list[Part] | tuple[Part, ...], most: float | None) -> float:
    """Return the mean (s) of parts cut off at `most`."""
    found = [(one.weight, *_up_to(one, math.inf if most is None else most)) for one in parts]
    inside = math.fsum(w * p for w, p, _ in found)
    return math.fsum(w * m for w, _, m in found) / inside if inside > 0 else 0.0
