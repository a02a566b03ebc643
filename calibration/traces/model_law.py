"""How long a model's calls take: a law in tokens with a residual that keeps the mean, or the times themselves.

The law is that of the median call (`fits.call_law`). Its residual is drawn in proportion to the predicted time: a residual that goes with
short calls would be multiplied with long ones too, and the mean come out too long.

Leaves out: load at the provider as a cause; time to the first token, beyond its quantiles.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...sim.trace.measured import Call
from ..fits.call_law import CallLaw, Calls, FittedCalls, fit_calls, fit_law
from .factors import factor_of
from .fitted import LawFit, ModelFit, Number, RetryFit, Table
from .tables import number, ratio, share, table
from .tokens import Tokens, tokens_of
from .turns import Attempt, Turn

__all__ = ["ModelName", "Options", "model_fit", "retry_fit"]

_LEAST_KNOWN = 0.5  # of calls, to have all token counts
_SHORTEST = 1e-6  # s
_MOST_UNKNOWN = 0.5
_HOW = "Huber's fit of logs, and resampled tasks for the interval"


@dataclass(frozen=True, slots=True)
class Options:
    """How a law is fitted: whether intervals are wanted, and the seed of these."""

    intervals: bool
    seed: int


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a model is called: in the fit, in the trace, and the class of tasks that call it ('' where there is one class)."""

    key: str
    component: str
    task_class: str


def retry_fit(
    attempts: Sequence[Attempt], tasks: np.ndarray, of: np.ndarray, clusters: np.ndarray | None
) -> RetryFit | None:
    """Return attempts that were made again, `tasks` numbers the task of each; `of` are calls by task that were not."""
    if not attempts:
        return None
    hits = np.bincount(tasks, minlength=len(of)).astype(float)
    rate = share(hits, hits + of, "attempts that failed and were made again", clusters)
    seconds = np.array([one.seconds for one in attempts])
    waits = np.array([one.backoff for one in attempts])
    n = len(attempts)
    runs = Counter(
        (task, one.call.turn, one.call.component) for task, one in zip(tasks.tolist(), attempts, strict=True)
    )
    return RetryFit(
        rate,
        table(seconds, number(seconds.mean(), n, "s", "mean over attempts")),
        table(waits, number(waits.mean(), n, "s", "mean wait until the next attempt")),
        1 + max(runs.values()),
    )


def _law(calls: Calls, options: Options) -> tuple[CallLaw | None, FittedCalls | None, str]:
    """Return the law, what is known of it where intervals are wanted, and why there is none."""
    try:
        if options.intervals:
            found = fit_calls(calls, options.seed)
            return found.law, found, ""
        return fit_law(calls), None, ""
    except ValueError as error:
        return None, None, str(error)


def _why_not(tokens: Tokens, known: np.ndarray) -> str:
    if not np.isfinite(tokens.prompt).any():
        return "the trace has no counts of prompt tokens"
    if tokens.stub.mean() > _MOST_UNKNOWN and not np.isfinite(tokens.output).any():
        return "the counts of output tokens cannot be true, and no sizes stand in for them"
    if known.mean() < _LEAST_KNOWN:
        return f"{int(known.sum())} of {len(known)} calls have all counts of tokens"
    return ""


def model_fit(
    name: ModelName, sequences: list[list[Turn]], numbers: list[int], tasks: int, clusters: np.ndarray | None,
    attempts: list[tuple[int, Attempt]], options: Options,
) -> tuple[ModelFit, Tokens]:  # fmt: skip
    """Return how the calls of a model take their time, and their tokens.

    Each sequence has the turns of one agent in the task of that number.
    """
    tokens = tokens_of(sequences)
    flat = [turn.model for one in sequences for turn in one if turn.model is not None]
    where = np.array(
        [number for one, number in zip(sequences, numbers, strict=True) for turn in one if turn.model is not None],
        dtype=int,
    )
    seconds = np.array([call.seconds for call in flat])
    wrong = np.array([bool(call.error) for call in flat])
    of = np.bincount(where, minlength=tasks).astype(float)
    sound = ~wrong & (seconds > _SHORTEST)
    known = sound & np.isfinite(tokens.new) & np.isfinite(tokens.cached) & np.isfinite(tokens.output)
    why = _why_not(tokens, known[sound]) if sound.any() else "no call of it took any time and went well"
    law, factor = None, number(0.0, 0, "1", "too few calls")
    if not why:
        runs = where if clusters is None else clusters[where]
        calls = Calls(tokens.new, tokens.cached, tokens.output, seconds, runs).take(known)
        law, factor, why = _with_law(calls, where[known], options)
    own = np.ones(int(sound.sum()))
    if law is None and sound.any():
        found = factor_of(seconds[sound], np.full(len(own), seconds[sound].mean()), where[sound])
        factor, own = found.variance, found.own
    again = np.array([at for at, _ in attempts], dtype=int)
    characters = number(tokens.characters, tokens.told, "characters/token", "of calls whose count is true")
    failed = "calls that failed, and were not made again"
    fit = ModelFit(
        key=name.key,
        component=name.component,
        task_class=name.task_class,
        calls=len(flat),
        tasks=len(set(numbers)),
        law=law,
        why_no_law=why,
        seconds=_seconds(seconds, sound, own, where, clusters),
        per_task=factor,
        cache_hit=_cache_hit(tokens, where, tasks, clusters),
        errors=share(np.bincount(where, wrong, tasks), of, failed, clusters),
        retries=retry_fit([one for _, one in attempts], again, of, clusters),
        first_token=_first_token(flat),
        stubs=float(tokens.stub.mean()) if flat else 0.0,
        characters=characters if tokens.stub.any() else None,
    )
    return fit, tokens


def _with_law(calls: Calls, tasks: np.ndarray, options: Options) -> tuple[LawFit | None, Number, str]:
    """Return the law and the variance of the tasks' factor; why there is none. `tasks` numbers the task of each call."""
    law, found, why = _law(calls, options)
    if law is None:
        return None, number(0.0, 0, "1", "no law"), why
    predicted = law.seconds(calls)
    ratios = calls.seconds / predicted
    kinds, place = np.unique(calls.runs, return_inverse=True)
    of = len(kinds)
    mean = ratio(
        np.bincount(place, calls.seconds, of), np.bincount(place, predicted, of), "1", "measured over predicted seconds, summed",
        n=len(calls),
    )  # fmt: skip
    factor = factor_of(calls.seconds, predicted * mean.value, tasks)
    residual = table(ratios / factor.own, mean, predicted)
    ends = found.intervals if found is not None and found.intervals is not None else {}

    def told(name: str, unit: str) -> Number:
        low, high = ends.get(name, (None, None))
        return Number(getattr(law, name), low, high, len(calls), unit, _HOW)

    error = found.errors.median if found is not None and found.errors is not None else None
    per = "s/token"
    return (
        LawFit(told("overhead", "s"), told("new", per), told("cached", per), told("output", per), residual, error), factor.variance, "",
    )  # fmt: skip


def _seconds(
    seconds: np.ndarray, sound: np.ndarray, own: np.ndarray, where: np.ndarray, clusters: np.ndarray | None
) -> Table:
    used = seconds[sound] / own if sound.any() else seconds
    place = where[sound] if sound.any() else where
    size = len(clusters) if clusters is not None else int(where.max()) + 1
    mean = ratio(
        np.bincount(place, seconds[sound] if sound.any() else seconds, size), np.bincount(place, minlength=size), "s",
        "mean over calls", clusters,
    )  # fmt: skip
    return table(used, mean)


def _cache_hit(tokens: Tokens, where: np.ndarray, tasks: int, clusters: np.ndarray | None) -> Number | None:
    if not np.isfinite(tokens.prompt).any():
        return None
    if not tokens.counted:
        return number(
            1.0,
            0,
            "share",
            "not counted in the trace: all that was sent before counts as cached, and its rate is as fitted",
        )
    again = np.fmin(tokens.before, tokens.prompt)
    known = np.isfinite(again) & np.isfinite(tokens.cached) & ~tokens.first & (again > 0)
    found = np.fmin(tokens.cached[known], again[known])
    top, bottom = np.bincount(where[known], found, tasks), np.bincount(where[known], again[known], tasks)
    if bottom.sum() <= 0:
        return None
    one = share(top, bottom, "cached tokens over those of the call before, its output included", clusters)
    return Number(one.value, one.low, one.high, int(known.sum()), one.unit, one.how)


def _first_token(flat: Sequence[Call]) -> Table | None:
    found = np.array([one.first_token for one in flat if math.isfinite(one.first_token) and not one.error])
    found = found[found >= 0] if len(found) else found
    return table(found, number(found.mean(), len(found), "s", "mean over calls")) if len(found) else None
