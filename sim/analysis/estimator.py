"""One way to estimate, whether there are many replications or one long run.

With several replications each gives one number, and their spread gives the interval. With one, the run is cut into
batches: slower to trust, and `Estimate.method` says so. Every input is one array per replication, in order of arrival
or of time.

Leaves out: what the arrays mean (`measure`).
Checked: tests/test_summary.py, against the closed forms of an M/M/1 queue, and by the share of intervals for a ratio that
hold it.
Source: the ratio of two means over one run is linearised, and the batch means of its residuals give the interval (Law,
Simulation Modeling and Analysis, 5th ed., 9.5.3; Cochran, Sampling Techniques, 3rd ed., 6.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .batches import BATCHES, LEAST_IN_TAIL, batch_means, batch_quantile
from .statistics import Array, Estimate, mean_interval, no_estimate, pooled_proportion, quantile


@dataclass(frozen=True, slots=True)
class Measured:
    """An estimate, and the number of each replication behind it (nan where a replication had nothing to observe)."""

    estimate: Estimate
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates with one confidence level."""

    confidence: float = 0.95

    def mean(self, series: Sequence[Array]) -> Measured:
        """Return the mean of a quantity over its observations."""
        return self.ratio(series, [np.ones(one.size) for one in series])

    def ratio(self, parts: Sequence[Array], wholes: Sequence[Array]) -> Measured:
        """Return the sum of `parts` over the sum of `wholes`, which pair up: a share, a rate, a mean per customer."""
        samples = tuple(_ratio(part, whole) for part, whole in zip(parts, wholes, strict=True))
        if len(samples) > 1 or math.isnan(samples[0]):
            return Measured(self._over(samples), samples)
        value, part, whole = samples[0], parts[0], wholes[0]
        residuals = (part - value * whole) / whole.mean()
        return Measured(_around(value, batch_means(residuals, self.confidence)), samples)

    def quantile(self, series: Sequence[Array], q: float) -> Measured:
        """Return a quantile of a quantity."""
        samples = tuple(quantile(one, q) if one.size else math.nan for one in series)
        if len(samples) > 1 or math.isnan(samples[0]):
            return Measured(self._over(samples), samples)
        return Measured(_around(samples[0], batch_quantile(series[0], q, self.confidence)), samples)

    def greatest(self, series: Sequence[Array]) -> Measured:
        """Return the mean over replications of the greatest value in each; one run gives no interval."""
        samples = tuple(float(one.max()) if one.size else math.nan for one in series)
        return Measured(self._over(samples), samples)

    def share(self, hits: Sequence[Array]) -> Measured:
        """Return the share of ones in arrays of 0 and 1."""
        samples = tuple(float(one.mean()) if one.size else math.nan for one in hits)
        groups = _sections(hits[0]) if len(hits) == 1 else hits
        successes = [float(one.sum()) for one in groups]
        estimate = pooled_proportion(successes, [float(one.size) for one in groups], self.confidence)
        return Measured(estimate, samples)

    def _over(self, samples: Sequence[float]) -> Estimate:
        known = [sample for sample in samples if math.isfinite(sample)]
        return mean_interval(known, self.confidence) if known else no_estimate(self.confidence)


def _ratio(part: Array, whole: Array) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total else math.nan


def _around(value: float, spread: Estimate) -> Estimate:
    """Return the interval of `spread` around `value`, which is the number of the whole run."""
    below, above = spread.value - spread.low, spread.high - spread.value
    return Estimate(value, value - below, value + above, spread.confidence, spread.n, spread.method)


def _sections(hits: Array) -> list[Array]:
    """Return one run as consecutive sections, whose spread tells how much the tasks go together."""
    for count in sorted(BATCHES, reverse=True):
        if hits.size >= count * LEAST_IN_TAIL:
            return np.array_split(hits, count)
    return [hits]
