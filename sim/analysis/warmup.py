"""Where the warm-up ends: MSER-5, for one run and for the average over replications.

Leaves out: other truncation rules (Welch's plot by eye, Geweke, randomisation tests); output that is not one number
per task in order of arrival, or per equal stretch of time.
Checked: tests/test_warmup.py, against series with a known transient and without one.
Source: White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6), 1997;
White, Cobb and Spratt, WSC 2000 (batches of five); averaging over replications after Welch (Law, 9.5.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .statistics import as_sample

BATCH = 5
# With fewer batches the minimum says nothing: the last few values always look alike.
LEAST_BATCHES = 10


@dataclass(frozen=True, slots=True)
class Truncation:
    """Drop the first `index` of `n` observations. Not `trusted`: the run may be all warm-up, and should be longer."""

    index: int
    trusted: bool
    n: int


def mser5(series: npt.ArrayLike) -> Truncation:
    """Return the cut that minimises the standard error of the mean of what remains, in batches of five.

    `series` is in the order of arrival (in order of completion short tasks come first and look like a warm-up). Only
    the first half is searched: a minimum at its edge means that no steady part was found.
    """
    values = as_sample(series, name="series")
    count = values.size // BATCH
    if count < LEAST_BATCHES:
        return Truncation(0, False, values.size)
    means = values[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    means -= means[count // 2 :].mean()  # centred, so that the sums of squares below do not cancel
    scale = float(np.abs(means).max())
    if scale:  # and scaled, so that squares of huge or tiny values stay in range
        means /= scale
    kept = np.arange(count, 0, -1)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means * means)[::-1])[::-1]
    error = (np.maximum(squares - sums * sums / kept, 0.0) / (kept * kept))[: count // 2 + 1]
    cut = int(np.argmin(error))
    return Truncation(cut * BATCH, cut < count // 2, values.size)


def mser5_pooled(series: Sequence[npt.ArrayLike]) -> Truncation:
    """Return one cut for all replications: MSER-5 of their average, observation by observation.

    Averaging takes the noise out and leaves the transient, which all replications share. Longer replications are
    compared over the length of the shortest.
    """
    if not len(series):
        raise ValueError("mser5_pooled needs at least one series, got none")
    samples = [as_sample(one, name=f"series {i}") for i, one in enumerate(series)]
    shortest = min(sample.size for sample in samples)
    total = np.zeros(shortest)
    for sample in samples:
        total += sample[:shortest]
    return mser5(total / len(samples))
