"""How likely an objective is met: the probability that the true value lies on the right side of its threshold.

A mean over replications has a true value that is distributed, seen from what was simulated, as Student's t around the mean, with n - 1
degrees of freedom and the standard error as its scale: the confidence distribution, whose central part is the t interval. A share with
Wilson's interval is compared with the threshold by the score test that this interval inverts.

Leaves out: the batches of one long run, whose number of tasks tells no degrees of freedom; other intervals; prior knowledge; that means of short or few replications are not quite normal; the look at which a sequential test stopped.
Checked: tests/test_chance_met.py, by the share of experiments in which it is below a level.
Source: Schweder and Hjort, Confidence, Likelihood, Probability (2016), ch. 3; Wilson (1927).
"""

from __future__ import annotations

import math

from .slo import Objective
from .statistics import Estimate, student_t

__all__ = ["chance_met"]

_BY_REPLICATIONS = "t over replications"  # as `mean_interval` names its method


def chance_met(estimate: Estimate, wanted: Objective) -> float:
    """Return the probability from 0 to 1 that the true value meets an objective; nan where its interval cannot tell, as that of one replication.

    >>> round(chance_met(Estimate(2.0, 1.0, 3.0, 0.95, 20, "t over replications"), Objective("p95", 3.0, "<=")), 3)
    0.975
    """
    if not estimate.resolved:
        return math.nan
    away = (wanted.threshold - estimate.value) * (1 if wanted.sense == "<=" else -1)
    if estimate.method.startswith("Wilson"):
        return _of_share(estimate, wanted.threshold, away)
    if estimate.method != _BY_REPLICATIONS:
        return math.nan
    if estimate.half_width == 0:
        return 1.0 if away >= 0 else 0.0
    degrees = max(estimate.n - 1, 1)
    return _below(away / estimate.half_width * student_t(estimate.confidence, degrees), degrees)


def _of_share(estimate: Estimate, threshold: float, away: float) -> float:
    """Return the probability by the score test at the threshold, whose reach is that of the interval's own."""
    if not 0 < threshold < 1:
        return math.nan
    # Of the two ends one may be exact (a share of 0 or 1): the other tells how many tasks the interval counts.
    end = estimate.low if estimate.value - estimate.low > estimate.high - estimate.value else estimate.high
    apart = estimate.value - end
    if not apart or not 0 < end < 1:
        return math.nan
    counted = end * (1 - end) / apart**2  # tasks over the square of the interval's reach
    normal = student_t(estimate.confidence, math.inf)
    groups = int(estimate.method.partition("over ")[2].partition(" ")[0] or 0)
    # Where tasks of a replication go together the interval counts fewer, and reaches as Student's t over replications.
    is_grouped = groups > 1 and abs(counted * normal**2 / estimate.n - 1) > 1e-9
    degrees = groups - 1 if is_grouped else math.inf
    reach = student_t(estimate.confidence, degrees)
    return _below(away * math.sqrt(counted / (threshold * (1 - threshold))) * reach, degrees)


def _below(errors: float, degrees: float) -> float:
    """Return the share of Student's t below so many standard errors; infinite `degrees` give the normal's."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(errors) if math.isinf(degrees) else stdtr(degrees, errors))
