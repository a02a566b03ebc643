"""Objectives are read, judged by intervals, and summed up without optimism."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coordsim.sim.analysis import slo
from coordsim.sim.analysis.slo import Metric, Objective
from coordsim.sim.analysis.statistics import Estimate, mean_interval, no_estimate


def interval(low: float, high: float) -> Estimate:
    """Return an estimate with this interval."""
    return Estimate((low + high) / 2, low, high, 0.95, 10, "t")


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("p95", Metric("response_time", "quantile", 0.95)),
        ("p99.9", Metric("response_time", "quantile", 0.999)),
        ("p5", Metric("response_time", "quantile", 0.05)),
        ("ttft_p99", Metric("ttft", "quantile", 0.99)),
        ("coordination_time_p50", Metric("coordination_time", "quantile", 0.5)),
    ],
)
def test_quantiles_are_read_from_the_name(name: str, metric: Metric) -> None:
    """`p95` is of the response time, a prefix names another quantity, and the share is exact."""
    assert slo.parse_metric(name) == metric


def test_other_metrics_are_read_from_the_name() -> None:
    """Means, maxima, and the rates that stand alone."""
    named = {name: slo.parse_metric(name) for name in ("mean", "tpot_mean", "max", "success", "goodput")}
    assert {name: (metric.quantity, metric.statistic) for name, metric in named.items()} == {
        "mean": ("response_time", "mean"),
        "tpot_mean": ("tpot", "mean"),
        "max": ("response_time", "max"),
        "success": ("success", "rate"),
        "goodput": ("goodput", "rate"),
    }


@pytest.mark.parametrize(
    "name", ["", "p", "p100", "p0", "p0.0", "P95", "95", "ttft", "_p95", "p95_ttft", "p-5", "mean "]
)
def test_a_name_that_is_no_metric_is_refused(name: str) -> None:
    """The error shows the forms there are and what was got."""
    with pytest.raises(ValueError, match=r"must be `p95`, .*`goodput`.*; got `"):
        slo.parse_metric(name)


def test_the_sense_follows_from_the_metric() -> None:
    """More success and goodput is better; less time is."""
    assert slo.objective("success", 0.99) == Objective("success", 0.99, ">=")
    assert slo.objective("goodput", 5.0).sense == ">="
    assert slo.objective("ttft_p95", 2.0) == Objective("ttft_p95", 2.0, "<=")


@pytest.mark.parametrize(
    ("low", "high", "at_most", "at_least"),
    [
        (8, 9, "pass", "fail"),
        (11, 12, "fail", "pass"),
        (9, 11, "inconclusive", "inconclusive"),
        (8, 10, "pass", "inconclusive"),
        (10, 12, "inconclusive", "pass"),
        (10, 10, "pass", "pass"),
        (-math.inf, 9, "pass", "fail"),
        (11, math.inf, "fail", "pass"),
        (-math.inf, math.inf, "inconclusive", "inconclusive"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low: float, high: float, at_most: str, at_least: str) -> None:
    """Meeting the threshold exactly keeps the objective in either sense."""
    estimate = Estimate(9.5, low, high, 0.95, 10, "t")
    assert slo.verdict(estimate, Objective("mean", 10, "<=")) == at_most
    assert slo.verdict(estimate, Objective("success", 10, ">=")) == at_least


def test_a_verdict_without_data_is_inconclusive() -> None:
    """Nothing observed, or a single replication, decides nothing, in either sense."""
    for unknown in (no_estimate(), mean_interval([1.0])):
        for objective in (Objective("mean", 10, "<="), Objective("success", 10, ">=")):
            assert slo.verdict(unknown, objective) == "inconclusive"


def test_verdicts_are_wrong_as_seldom_as_their_confidence_says() -> None:
    """A mean just at the wrong side of its threshold is passed in at most 2.5 % of the runs, within three errors."""
    rng = np.random.default_rng(1)
    wanted = Objective("mean", 10.0, "<=")
    verdicts = [slo.verdict(mean_interval(rng.normal(10.0001, 1.0, 8)), wanted) for _ in range(2000)]
    passed = verdicts.count("pass") / 2000
    assert abs(passed - 0.025) < 3 * math.sqrt(0.025 * 0.975 / 2000)


def test_one_failure_fails_and_one_doubt_leaves_doubt() -> None:
    """Fail over inconclusive over pass; no objectives at all is an error, not a pass."""
    assert slo.overall(["pass", "inconclusive", "fail"]) == "fail"
    assert slo.overall(["pass", "inconclusive"]) == "inconclusive"
    assert slo.overall(["pass", "pass"]) == "pass"
    with pytest.raises(ValueError, match="no objectives"):
        slo.overall([])


@pytest.mark.parametrize(("threshold", "sense"), [(math.nan, "<="), (math.inf, ">="), (1.0, "<")])
def test_an_objective_is_finite_and_has_a_sense(threshold: float, sense: slo.Sense) -> None:
    """A threshold that nothing or everything meets, or an unknown sense, is refused."""
    with pytest.raises(ValueError, match="of p95 must be"):
        Objective("p95", threshold, sense)


def test_attainment_counts_failures_as_never() -> None:
    """Three of four within a second, one of them exactly; an infinite time is not within any threshold."""
    share = slo.attainment([0.5, 1.0, 0.2, math.inf], 1.0)
    assert (share.value, share.n) == (0.75, 4)
    assert share.low < 0.75 < share.high


def test_attainment_at_the_edge() -> None:
    """No tasks leave everything open; NaN is refused with its place."""
    assert not slo.attainment([], 1.0).resolved
    with pytest.raises(ValueError, match=r"nan at \[1\]"):
        slo.attainment([1.0, math.nan], 1.0)
    with pytest.raises(ValueError, match="threshold=nan"):
        slo.attainment([1.0], math.nan)
