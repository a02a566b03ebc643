"""From measured and predicted tasks to the verdict of a validation.

Tasks of one run share queues and a machine, and are not independent; rounds are. So an interval rests on whole rounds, drawn again with
replacement: all tasks of a round come or go together, for measurement, prediction and every variant alike. What is drawn from n rounds varies
less than rounds do, by sqrt((n - 1) / n); the percentiles taken are farther out by as much.
The floor is a mean over many splits of all tasks, and taken as known.

Leaves out: p99, which a few hundred tasks cannot tell; tasks that did not end.
Checked: tests/test_validation.py, by the share of intervals that hold the true value, and systems whose errors and noise are known.
Source: Davison and Hinkley, Bootstrap Methods and their Application, 3.8 (resampling of groups); Hesterberg, What Teachers Should Know About the
Bootstrap, The American Statistician 69 (2015), 4.1 (expanded percentiles).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .statistics import Array, Estimate, certainty, check_share, student_t
from .validation import (
    FULL,
    GOALS,
    METRICS,
    NAIVE,
    Ablation,
    Dropped,
    Estimates,
    Goals,
    Headline,
    Numbers,
    Ratio,
    Row,
    Status,
    Verdict,
    Worst,
)

__all__ = ["WORDS", "Case", "Tasks", "judge"]

WORDS = {"p50": "p50", "p95": "p95", "share": "the share of coordination"}
_QUANTILES = (0.5, 0.95)
_SPLITS = 200
_METHOD = "cluster bootstrap over rounds"

Weights = npt.NDArray[np.int32]  # how often each round is drawn, of shape (draws, rounds)


@dataclass(frozen=True, slots=True)
class Tasks:
    """T_total of each task, and the seconds of inference on its critical path; both of shape (tasks,)."""

    seconds: Array
    inference: Array


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration: what was measured in each kept round, and what each variant predicts of that round. `what` says in words what it is."""

    name: str
    what: str
    measured: Sequence[Tasks]
    predicted: Mapping[str, Sequence[Tasks]]


def judge(
    cases: Sequence[Case],
    kept: Sequence[int],
    dropped: Sequence[Dropped] = (),
    *,
    variants: Mapping[str, str],
    goals: Goals = GOALS,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.9,
) -> Verdict:
    """Return the verdict on what `variants` (with what each is, in words) predict of the rounds `kept`.

    Every case must have an entry for each kept round, of at least two measured tasks and one predicted, in measurement and every variant;
    `full` and `naive` must be among these. Raises ValueError.
    """
    check_share("confidence", confidence)
    _check(cases, len(kept), variants)
    if not kept:
        return Verdict(
            "inconclusive", tuple(_too_few(kept, dropped, goals)), (), (), (), (), (), (), tuple(dropped), goals,
            confidence, resamples, seed,
        )  # fmt: skip
    found = _Found(cases, len(kept), tuple(variants), confidence, resamples, seed)
    headlines = tuple(_headlines(found, goals))
    status, reasons = _verdict(headlines, kept, dropped, goals, confidence)
    return Verdict(
        status,
        tuple(reasons),
        headlines,
        tuple(_ratios(found, goals)),
        tuple(_worst(found, goals)),
        tuple(_rows(found)),
        tuple(_ablation(found, variants)),
        tuple(kept),
        tuple(dropped),
        goals,
        confidence,
        resamples,
        seed,
    )


def _check(cases: Sequence[Case], rounds: int, variants: Mapping[str, str]) -> None:
    if not cases:
        raise ValueError("`cases` must hold at least one configuration, but got none")
    if missing := {FULL, NAIVE} - set(variants):
        raise ValueError(f"`variants` must hold `{FULL}` and `{NAIVE}`, but {sorted(missing)} are missing")
    for case in cases:
        sets = {"measured": (case.measured, 2), **{name: (case.predicted.get(name, ()), 1) for name in variants}}
        for name, (tasks, least) in sets.items():
            if len(tasks) != rounds:
                raise ValueError(f"{case.name}: {name} must have {rounds} rounds, but got {len(tasks)}")
            for one in tasks:
                if not (one.seconds.shape == one.inference.shape and one.seconds.size >= least):
                    shapes = f"{one.seconds.shape} and {one.inference.shape}"
                    raise ValueError(
                        f"{case.name}: {name} must have at least {least} tasks in each round, but got {shapes}"
                    )


# ---------------------------------------------------------------------------------------------------------------------
# Errors, as they are and in each resample


class _Pool:
    """The tasks of several rounds, pooled with a weight for each round."""

    def __init__(self, rounds: Sequence[Tasks]) -> None:
        seconds = np.concatenate([one.seconds for one in rounds])
        of = np.repeat(np.arange(len(rounds)), [one.seconds.size for one in rounds])
        order = np.argsort(seconds, kind="stable")
        self._seconds, self._of = seconds[order], of[order]
        self._sums = np.array([(one.seconds.sum(), one.inference.sum()) for one in rounds])

    def numbers(self, weights: Weights) -> Array:
        """Return p50, p95 and the share of coordination for each draw, of shape (draws, metrics)."""
        reach = np.cumsum(weights[:, self._of], axis=1, dtype=np.int32)  # of each task, how many come up to it
        seconds, inference = (weights @ self._sums).T
        return np.stack([*(self._quantile(reach, q) for q in _QUANTILES), 1 - inference / seconds], axis=1)

    def _quantile(self, reach: npt.NDArray[np.int32], q: float) -> Array:
        """Return the quantile that numpy gives for the tasks repeated by weight."""
        place = (reach[:, -1] - 1) * q
        below = np.floor(place)
        low, high = (self._seconds[(reach <= at[:, None]).sum(axis=1)] for at in (below, np.ceil(place)))
        return np.asarray(low + (place - below) * (high - low))


def _off(predicted: Array, measured: Array) -> Array:
    """Return signed errors from numbers whose last axis is the metrics."""
    relative = predicted[..., :2] / measured[..., :2] - 1
    return np.concatenate([relative, predicted[..., 2:] - measured[..., 2:]], axis=-1)


def _floor(case: Case, rng: np.random.Generator) -> Array:
    """Return how far one random half of each round's tasks is from the other, of shape (splits, metrics)."""
    orders = [rng.permuted(np.tile(np.arange(one.seconds.size), (_SPLITS, 1)), axis=1) for one in case.measured]
    first, second = (_halves(case.measured, [order[:, half::2] for order in orders]) for half in (0, 1))
    return np.abs(_off(first, second))


def _halves(rounds: Sequence[Tasks], places: Sequence[npt.NDArray[np.int64]]) -> Array:
    """Return p50, p95 and the share of coordination of a half of each round's tasks, whose `places` have the shape (splits, tasks)."""
    seconds = np.concatenate([one.seconds[at] for one, at in zip(rounds, places, strict=True)], axis=1)
    inference = np.concatenate([one.inference[at] for one, at in zip(rounds, places, strict=True)], axis=1)
    share = 1 - inference.sum(axis=1) / seconds.sum(axis=1)
    return np.stack([*np.quantile(seconds, _QUANTILES, axis=1), share], axis=1)


class _Found:
    """All numbers, of which the first draw is what was measured, and the others are resamples.

    `measured` has the shape (cases, draws, metrics), and so has each of `predicted` and of `errors`, which are signed. `floor` has the shape
    (cases, splits, metrics).
    """

    def __init__(
        self,
        cases: Sequence[Case],
        rounds: int,
        variants: Sequence[str],
        confidence: float,
        resamples: int,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(rounds, np.full(rounds, 1 / rounds), size=resamples)
        weights, self._draw = _distinct(np.vstack([np.ones(rounds, dtype=int), drawn]))
        self.cases, self.rounds, self.confidence = cases, rounds, confidence
        self.measured = np.stack([_Pool(case.measured).numbers(weights) for case in cases])
        self.predicted = {
            name: np.stack([_Pool(case.predicted[name]).numbers(weights) for case in cases]) for name in variants
        }
        self.errors = {name: _off(predicted, self.measured) for name, predicted in self.predicted.items()}
        self.floor = np.stack([_floor(case, rng) for case in cases])

    def headline(self, variant: str) -> Array:
        """Return the median over configurations of absolute errors, of shape (draws, metrics)."""
        return np.asarray(np.median(np.abs(self.errors[variant]), axis=0))

    def point(self, numbers: Array) -> Array:
        """Return, of numbers by draw (first axis), those of what was measured."""
        return np.asarray(numbers[self._draw[0]])

    def estimate(self, numbers: Array) -> Estimate:
        """Return one number, of shape (draws,), with its interval: infinite where one round tells nothing of others."""
        low, high = -math.inf, math.inf
        if self.rounds > 1:
            tail = _tail(self.confidence, self.rounds)
            low, high = np.quantile(numbers[self._draw[1:]], (tail, 1 - tail), method="inverted_cdf").tolist()
        return Estimate(float(self.point(numbers)), low, high, self.confidence, self.rounds, _METHOD)

    def estimates(self, numbers: Array) -> Estimates:
        """Return numbers of shape (draws, metrics) with their intervals."""
        return Estimates(*(self.estimate(one) for one in numbers.T))


def _distinct(weights: npt.NDArray[np.int64]) -> tuple[Weights, npt.NDArray[np.intp]]:
    """Return the distinct draws, and which of them each draw is: of five rounds there are 126."""
    distinct, which = np.unique(weights, axis=0, return_inverse=True)
    return distinct.astype(np.int32), which.reshape(-1)


def _tail(confidence: float, rounds: int) -> float:
    """Return the probability left out at each end of the resamples, so that the interval is as wide as rounds vary."""
    from scipy.special import ndtr

    return float(ndtr(-student_t(confidence, math.inf) * math.sqrt(rounds / (rounds - 1))))


# ---------------------------------------------------------------------------------------------------------------------
# What is told of them


def _headlines(found: _Found, goals: Goals) -> Iterator[Headline]:
    full, naive = found.headline(FULL), found.point(found.headline(NAIVE))
    floor = np.median(found.floor, axis=0).mean(axis=0)
    for at, metric in enumerate(METRICS):
        goal, stretch = getattr(goals.headline, metric), getattr(goals.stretch, metric)
        yield Headline(metric, found.estimate(full[:, at]), goal, stretch, float(floor[at]), float(naive[at]))


def _ratios(found: _Found, goals: Goals) -> Iterator[Ratio]:
    full, naive = found.headline(FULL)[:, 0], found.headline(NAIVE)[:, 0]
    floor = np.median(found.floor[:, :, 0], axis=0).mean()
    yield Ratio("floor", found.estimate(_over(full, floor)), goals.to_floor, goals.floor_stretch)
    yield Ratio("naive", found.estimate(_over(full, naive)), goals.to_naive, math.nan)


def _over(errors: Array, others: Array) -> Array:
    """Return ratios; as good as another that is perfect is 1, and worse than that infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = errors / others
    return np.where(np.isnan(ratios), 1.0, ratios)


def _worst(found: _Found, goals: Goals) -> Iterator[Worst]:
    errors = np.abs(found.errors[FULL])
    for at, metric in enumerate(METRICS):
        which = int(np.argmax(found.point(np.moveaxis(errors, 1, 0))[:, at]))
        yield Worst(
            metric,
            found.cases[which].name,
            found.estimate(errors[:, :, at].max(axis=0)),
            getattr(goals.worst, metric),
        )


def _rows(found: _Found) -> Iterator[Row]:
    for at, case in enumerate(found.cases):
        measured, predicted, naive = (
            Numbers(*found.point(numbers[at]).tolist())
            for numbers in (found.measured, found.predicted[FULL], found.errors[NAIVE])
        )
        tasks = sum(one.seconds.size for one in case.measured)
        floor = Numbers(*found.floor[at].mean(axis=0).tolist())
        errors = found.estimates(found.errors[FULL][at])
        yield Row(case.name, case.what, tasks, measured, predicted, errors, floor, naive)


def _ablation(found: _Found, variants: Mapping[str, str]) -> Iterator[Ablation]:
    full = found.headline(FULL)
    for name in (NAIVE, *(one for one in variants if one not in (FULL, NAIVE))):
        errors = found.headline(name)
        yield Ablation(name, variants[name], found.estimates(errors), found.estimates(errors - full))


# ---------------------------------------------------------------------------------------------------------------------
# The verdict


def _verdict(
    headlines: Sequence[Headline], kept: Sequence[int], dropped: Sequence[Dropped], goals: Goals, confidence: float
) -> tuple[Status, list[str]]:
    unknown = [*_too_noisy(headlines[0], goals), *_too_few(kept, dropped, goals)]
    by = {state: [one for one in headlines if one.standing == state] for state in ("met", "missed", "unclear")}
    sure = f"{certainty(confidence)} interval"
    said = [f"{_told(one)}, wholly above the goal of {size(one.metric, one.goal)}" for one in by["missed"]]
    said += [f"{_told(one)}, which the goal of {size(one.metric, one.goal)} does not settle" for one in by["unclear"]]
    said += [f"{_told(one)}, wholly within the goal of {size(one.metric, one.goal)}" for one in by["met"]]
    reasons = [*unknown, *(f"{one} ({sure})." for one in said)]
    if unknown:
        return "inconclusive", reasons
    return "fail" if by["missed"] else "inconclusive" if by["unclear"] else "pass", reasons


def _too_noisy(p50: Headline, goals: Goals) -> Iterator[str]:
    if p50.floor > goals.noise:
        yield (
            f"The machine is too noisy: the system against itself, half of its tasks against the other half, differs in p50 by {size('p50', p50.floor)}, "
            f"and at most {size('p50', goals.noise)} is allowed."
        )


def _too_few(kept: Sequence[int], dropped: Sequence[Dropped], goals: Goals) -> Iterator[str]:
    if len(kept) < goals.rounds:
        lost = f", and {len(dropped)} dropped" if dropped else ""
        yield f"Too few rounds: {len(kept)} kept{lost}; a verdict takes {goals.rounds}."


def _told(one: Headline) -> str:
    word = WORDS[one.metric]
    low, high = (size(one.metric, end) for end in (one.error.low, one.error.high))
    between = f", from {low} to {high}" if one.error.resolved else ", with no interval"
    return f"{word[0].upper()}{word[1:]} is off by {size(one.metric, one.error.value)}{between}"


def size(metric: str, value: float) -> str:
    """Return the size of an error in words.

    >>> size("p50", 0.0512), size("share", 0.02)
    ('5.1 %', '2 points')
    """
    return f"{100 * value:.2g} {'points' if metric == 'share' else '%'}"
