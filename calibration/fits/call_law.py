"""The law of the time of a call to a hosted model: an overhead, and a time per new, cached and output token.

    seconds = overhead + new tokens * a + cached tokens * b + output tokens * c,    all four >= 0

What a call differs by is a factor: a slow moment of the provider makes a long call longer by more seconds than a short one.
So the fit looks at log(predicted / measured), in which twice too long and half too long weigh the same. The absolute
relative error would not do: it is at most 1 for what is predicted too low, so its fit lies below the median. The loss is
quadratic up to about 10 % and linear beyond, so that a retry or a stall pulls no more than any other call. Against wrong token
counts it does not protect: where most calls with one output token are stubs, their time is taken for overhead. The law is
then scaled to the median of the calls it was fitted to, and the residual is a factor with median 1.

Calls of a run are alike (one day, one load, one context that grows), so what is resampled for intervals, and what is held
out, are whole runs.

Leaves out: the time to the first token, load at the provider as a cause, change over time, an interaction of token counts.
Checked: tests/test_call_law.py.
Source: Huber, Robust Statistics, 1981 (bounded influence); Field and Welsh, JRSS B 2007 (bootstrap of clusters).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import optimize

__all__ = [
    "COEFFICIENTS",
    "LEAST_CALLS",
    "CallLaw",
    "Calls",
    "Errors",
    "FittedCalls",
    "Residual",
    "errors_of",
    "first_half",
    "fit_calls",
    "fit_law",
    "held_out",
]

COEFFICIENTS = ("overhead", "new", "cached", "output")
LEAST_CALLS = 12  # three for each coefficient
_LEAST_RUNS = 5  # below, resampled runs say nothing of runs that were not seen
_KNEE = 0.1  # of |log(predicted / measured)|: where the loss turns from quadratic to linear
_RESAMPLES = 200
_CONFIDENCE = 0.95
_LEVELS = (
    0.0,
    0.01,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
    0.995,
    0.999,
    0.9995,
    0.9998,
    1.0,
)
_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Calls:
    """Recorded calls, each array of shape (calls,): tokens by kind, seconds > 0, and the run (any label) that made it."""

    new: np.ndarray
    cached: np.ndarray
    output: np.ndarray
    seconds: np.ndarray
    runs: np.ndarray

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, which: np.ndarray) -> Calls:
        """Return the calls that a mask or indices choose."""
        return Calls(self.new[which], self.cached[which], self.output[which], self.seconds[which], self.runs[which])

    @property
    def features(self) -> np.ndarray:
        """What each coefficient is multiplied by, shape (calls, 4)."""
        return np.column_stack([np.ones(len(self)), self.new, self.cached, self.output])


@dataclass(frozen=True, slots=True)
class CallLaw:
    """The median time of a call: `overhead` in seconds, the others in seconds per token."""

    overhead: float
    new: float
    cached: float
    output: float

    def seconds(self, calls: Calls) -> np.ndarray:
        """Return the median seconds of each call, shape (calls,)."""
        return np.asarray(calls.features @ np.array([self.overhead, self.new, self.cached, self.output]))


@dataclass(frozen=True, slots=True)
class Residual:
    """Measured over predicted time as quantiles: `ratios` at `shares`, 1 at 0.5; `mean` is that of all ratios."""

    shares: tuple[float, ...]
    ratios: tuple[float, ...]
    mean: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors |predicted / measured - 1|: median with its 95 % interval by runs, and p90."""

    calls: int
    runs: int
    median: float
    p90: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class FittedCalls:
    """A law, the 95 % interval of each coefficient, its residual, and its error on runs that a fit did not see."""

    law: CallLaw
    intervals: dict[str, tuple[float, float]] | None
    residual: Residual
    errors: Errors | None
    calls: int
    runs: int


def fit_calls(calls: Calls, seed: int = 0) -> FittedCalls:
    """Return the law of calls with all that is known of it. Raises ValueError as `fit_law` does.

    Intervals are None for fewer than five runs; errors where one half of the runs cannot be fitted.
    """
    law = fit_law(calls)
    halves = [half for half in (held_out(calls, first) for first in (True, False)) if half is not None]
    errors = None
    if halves:
        errors = errors_of(np.concatenate([e for e, _ in halves]), np.concatenate([runs for _, runs in halves]), seed)
    return FittedCalls(
        law, _intervals(calls, law, seed), _residual(calls, law), errors, len(calls), len(np.unique(calls.runs))
    )


def fit_law(calls: Calls, start: CallLaw | None = None) -> CallLaw:
    """Return the law of calls; `start` is a law nearby. A kind of token that no call has gets 0.

    Raises ValueError, saying the rule and what was got, for fewer than 12 calls, a time that is not > 0, or a kind of token
    whose number never varies, so that its time cannot be told from the overhead.
    """
    _check(calls)
    return _fitted(calls.features, calls.seconds, start)


def _check(calls: Calls) -> None:
    if len(calls) < LEAST_CALLS:
        raise ValueError(f"needs at least {LEAST_CALLS} calls to fit four coefficients; got {len(calls)}")
    if not (calls.seconds > 0).all():
        raise ValueError(f"the time of a call must be > 0 s; got {calls.seconds.min():g} s")
    for kind, tokens in (("new", calls.new), ("cached", calls.cached), ("output", calls.output)):
        if np.ptp(tokens) == 0 and (kind != "cached" or tokens[0] != 0):
            told = f"the number of {kind} tokens must vary, or their time cannot be told from the overhead"
            raise ValueError(f"{told}; got {tokens[0]:g} in each of {len(calls):,} calls")


def _fitted(features: np.ndarray, seconds: np.ndarray, start: CallLaw | None = None, gain: float = 1e-8) -> CallLaw:
    """Return the law with the least loss; an iteration that gains less than the share `gain` of the loss is the last."""
    present = features.any(axis=0)
    # In units of what each kind of token would cost if it alone took all of the time: four numbers of about one size.
    scale = np.median(seconds) / features[:, present].mean(axis=0)
    scaled, logs = features[:, present] * scale, np.log(seconds)
    first = np.full(present.sum(), 1.0 / present.sum())
    if start is not None:
        first = np.maximum(np.array([getattr(start, name) for name in COEFFICIENTS])[present] / scale, 1e-6)

    def residuals(weights: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(scaled @ weights) - logs)

    def slopes(weights: np.ndarray) -> np.ndarray:
        return np.asarray(scaled / (scaled @ weights)[:, None])

    found = optimize.least_squares(
        residuals, first, slopes, bounds=(0.0, np.inf), loss="soft_l1", f_scale=_KNEE, ftol=gain, xtol=gain, gtol=gain
    )
    coefficients = np.zeros(len(COEFFICIENTS))
    # The solver stays inside of its bounds: what is as good as zero is zero.
    coefficients[present] = np.where(found.x > 1e-6, found.x, 0.0) * scale
    coefficients *= np.median(seconds / (features @ coefficients))
    return CallLaw(*coefficients.tolist())


def _residual(calls: Calls, law: CallLaw) -> Residual:
    """Return the quantiles of measured over predicted; a level is kept that one call at least lies beyond on average."""
    ratios = calls.seconds / law.seconds(calls)
    kept = [level for level in _LEVELS if level in (0.0, 1.0) or len(calls) * min(level, 1.0 - level) >= 1.0 - 1e-9]
    values = np.round(np.quantile(ratios, kept), _DIGITS)
    return Residual(tuple(kept), tuple(values.tolist()), float(ratios.mean()))


# --- Runs: resampled, and held out -------------------------------------------------------------------------------------


def first_half(runs: Iterable[object]) -> np.ndarray:
    """Return which calls are of a run in the first half, shape (calls,).

    A run's own name decides, by a hash: the split is the same on every machine, whatever other runs there are.
    """
    labels, places = np.unique([str(run) for run in runs], return_inverse=True)
    first = [hashlib.sha256(str(label).encode()).digest()[0] % 2 == 0 for label in labels]
    return np.array(first, dtype=bool)[places.ravel()]


def held_out(calls: Calls, first: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Return predicted / measured - 1 on the other half of the runs for a fit to one half, and the run of each.

    `first` says to which half the law is fitted. None where that half cannot be fitted, or the other is empty.
    """
    seen = first_half(calls.runs) == first
    rest = calls.take(~seen)
    if not len(rest):
        return None
    try:
        law = fit_law(calls.take(seen))
    except ValueError:  # too few calls, or all alike
        return None
    return law.seconds(rest) / rest.seconds - 1.0, rest.runs


def errors_of(errors: np.ndarray, runs: np.ndarray, seed: int = 0) -> Errors:
    """Return what signed relative errors, shape (calls,), of calls of these runs come to."""
    size = np.sort(np.abs(errors))
    median, p90 = np.quantile(size, (0.5, 0.9))
    kinds, places = np.unique(runs, return_inverse=True)
    interval = None
    if len(kinds) >= _LEAST_RUNS:
        places = places.ravel()[np.argsort(np.abs(errors), kind="stable")]
        medians = []
        for weights in _resampled(len(kinds), seed):
            total = np.cumsum(weights[places])
            medians.append(size[np.searchsorted(total, 0.5 * total[-1])])
        interval = _span(np.array(medians))
    return Errors(len(errors), len(kinds), float(median), float(p90), interval)


def _intervals(calls: Calls, law: CallLaw, seed: int) -> dict[str, tuple[float, float]] | None:
    """Return the bootstrap interval of each coefficient, with whole runs resampled."""
    kinds, places = np.unique(calls.runs, return_inverse=True)
    if len(kinds) < _LEAST_RUNS:
        return None
    places = places.ravel()
    features = calls.features
    laws = []
    for weights in _resampled(len(kinds), seed):
        chosen = np.repeat(np.arange(len(calls)), weights[places])
        again = _fitted(features[chosen], calls.seconds[chosen], law, gain=1e-4)
        laws.append([getattr(again, name) for name in COEFFICIENTS])
    return {name: _span(column) for name, column in zip(COEFFICIENTS, np.array(laws).T, strict=True)}


def _resampled(runs: int, seed: int) -> np.ndarray:
    """Return how often each run is in each resample, shape (resamples, runs)."""
    rng = np.random.default_rng((seed, 5))
    return rng.multinomial(runs, np.full(runs, 1.0 / runs), size=_RESAMPLES)


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.5 - _CONFIDENCE / 2, 0.5 + _CONFIDENCE / 2))
    return float(low), float(high)
