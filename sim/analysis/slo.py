"""Service level objectives: what is asked, and whether an estimate says pass, fail, or not enough is known.

Numbers only: thresholds arrive in seconds, shares and 1/s, read from the scenario by whoever knows units.

Leaves out: error budgets over calendar windows, burn rates, composite objectives (all must pass).
Checked: tests/test_slo.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .statistics import Estimate, proportion_interval

Sense = Literal["<=", ">="]
Verdict = Literal["pass", "fail", "inconclusive"]

# More of these is better; of everything else (times, counts, costs) less is.
RATES = frozenset({"success", "goodput", "throughput", "attainment"})
PASS_AT = {f"pass_at_{k}": k for k in (2, 3, 4)}  # the chance that k trials of a problem all succeed
AT_LEAST = RATES | {"availability", *PASS_AT}
AT_MOST = frozenset({"retry_amplification", "wasted_share", "recovery_share"})
RESPONSE_TIME = "response_time"
_STATISTIC = re.compile(r"(?:(?P<quantity>[a-z][a-z0-9_]*?)_)?(?:p(?P<percent>\d{1,2}(?:\.\d+)?)|(?P<word>mean|max))")


@dataclass(frozen=True, slots=True)
class Metric:
    """What an objective speaks of: `statistic` of `quantity`; `q` is the quantile's, else nan."""

    quantity: str
    statistic: Literal["quantile", "mean", "max", "rate"]
    q: float = math.nan


@dataclass(frozen=True, slots=True)
class Objective:
    """`metric` must be `sense` `threshold`: seconds, a share, or 1/s, as the metric has it."""

    metric: str
    threshold: float
    sense: Sense

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ValueError(f"the threshold of {self.metric} must be finite, got {self.threshold}")
        if self.sense not in ("<=", ">="):
            raise ValueError(f"the sense of {self.metric} must be `<=` or `>=`, got `{self.sense}`")


def parse_metric(name: str) -> Metric:
    """Read a metric's name: `p95`, `mean` and `max` are of the response time, `ttft_p99.9` of another quantity.

    `success`, `goodput`, `throughput` and `attainment` are shares or rates of the whole run, and so are the measures of
    reliability: `availability` (of the component that has least of it), `pass_at_2` to `pass_at_4`,
    `retry_amplification`, `wasted_share` and `recovery_share`. Whether the quantity
    exists is for the caller to check. Raises ValueError when the name has none of these forms.

    >>> parse_metric("ttft_p95")
    Metric(quantity='ttft', statistic='quantile', q=0.95)
    """
    if name in AT_LEAST or name in AT_MOST:
        return Metric(name, "rate")
    match = _STATISTIC.fullmatch(name)
    # p0 has nothing below it to bound.
    if match is None or (match["percent"] and float(match["percent"]) == 0):
        rates = ", ".join(f"`{rate}`" for rate in sorted(RATES))
        raise ValueError(
            f"must be `p95`, `mean` or `max`, one of another quantity such as `ttft_p95`, or one of {rates}; "
            f"got `{name}`"
        )
    quantity = match["quantity"] or RESPONSE_TIME
    if match["percent"]:
        return Metric(quantity, "quantile", float(f"{match['percent']}e-2"))
    return Metric(quantity, "max" if match["word"] == "max" else "mean")


def full_name(name: str) -> str:
    """Return a metric's name with its quantity, under which summaries keep it.

    >>> full_name("p95"), full_name("mean"), full_name("ttft_p95"), full_name("success")
    ('response_time_p95', 'response_time_mean', 'ttft_p95', 'success')
    """
    match = _STATISTIC.fullmatch(name)
    return f"{RESPONSE_TIME}_{name}" if match is not None and match["quantity"] is None else name


def objective(metric: str, threshold: float) -> Objective:
    """Return the objective with the sense its metric has: at least for success and rates, at most for the rest."""
    return Objective(metric, threshold, ">=" if parse_metric(metric).quantity in AT_LEAST else "<=")


def verdict(estimate: Estimate, wanted: Objective) -> Verdict:
    """Return pass or fail when the whole interval lies on one side of the threshold, else inconclusive."""
    if math.isnan(estimate.value):
        return "inconclusive"
    if wanted.sense == "<=":
        kept, broken = estimate.high <= wanted.threshold, estimate.low > wanted.threshold
    else:
        kept, broken = estimate.low >= wanted.threshold, estimate.high < wanted.threshold
    return "pass" if kept else "fail" if broken else "inconclusive"


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Return fail if any failed, else inconclusive if any is, else pass. Raises ValueError when there are none."""
    given = list(verdicts)
    if not given:
        raise ValueError("there are no objectives to judge")
    return "fail" if "fail" in given else "inconclusive" if "inconclusive" in given else "pass"


def attainment(values: npt.ArrayLike, threshold: float, confidence: float = 0.95) -> Estimate:
    """Return the share of `values` within `threshold`, with Wilson's interval for independent tasks.

    A failed task counts as infinite. Over replications, count per replication and use `pooled_proportion`.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    missing = np.flatnonzero(np.isnan(sample))
    if missing.size or math.isnan(threshold):
        raise ValueError(f"values and threshold must be numbers, got nan at {missing[:5].tolist()}, {threshold=}")
    return proportion_interval(int(np.count_nonzero(sample <= threshold)), sample.size, confidence)
