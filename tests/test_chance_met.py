"""The probability that an objective is met: what the intervals say of it, and that it is right as often as it says."""

import math

import numpy as np
import pytest

from coordsim.sim.analysis.batches import batch_means, batch_quantile
from coordsim.sim.analysis.chance_met import chance_met
from coordsim.sim.analysis.estimator import Estimator
from coordsim.sim.analysis.slo import Objective
from coordsim.sim.analysis.statistics import (
    Estimate,
    mean_interval,
    no_estimate,
    pooled_proportion,
    proportion_interval,
)

P95 = Objective("p95", 2.0, "<=")


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.9999])
def test_the_ends_of_an_interval_have_the_probability_of_its_tail(confidence: float) -> None:
    """A limit at the upper end of a t interval is met with all but its upper tail, and the mean with a half, whatever the confidence."""
    one = mean_interval([1.0, 2.0, 4.0, 1.5], confidence)
    assert chance_met(one, Objective("p95", one.high, "<=")) == pytest.approx((1 + confidence) / 2)
    assert chance_met(one, Objective("p95", one.low, "<=")) == pytest.approx((1 - confidence) / 2)
    assert chance_met(one, Objective("goodput", one.low, ">=")) == pytest.approx((1 + confidence) / 2)
    assert chance_met(one, Objective("p95", one.value, "<=")) == pytest.approx(0.5)
    assert chance_met(one, P95) == pytest.approx(chance_met(mean_interval([1.0, 2.0, 4.0, 1.5], 0.5), P95))


@pytest.mark.parametrize("successes", [[95, 97, 90, 99], [99, 99, 99, 99], [100, 100, 100, 100]])
def test_a_share_is_tested_as_its_interval_was_made(successes: list[int]) -> None:
    """At the lower end of Wilson's interval the score test leaves its tail: with clustered tasks, with none, and where all succeeded."""
    one = pooled_proportion(successes, [100] * 4, 0.9)
    assert chance_met(one, Objective("success", one.low, ">=")) == pytest.approx(0.95)
    if one.high < 1:
        assert chance_met(one, Objective("success", one.high, ">=")) == pytest.approx(0.05)
    single = proportion_interval(90, 100, 0.95)
    assert chance_met(single, Objective("success", single.low, ">=")) == pytest.approx(0.975)


def test_what_has_no_interval_has_no_probability() -> None:
    """Nothing observed, or one replication: not known; replications that all say the same leave no doubt."""
    assert math.isnan(chance_met(no_estimate(), P95))
    assert math.isnan(chance_met(mean_interval([1.0]), P95))
    assert chance_met(mean_interval([2.0, 2.0]), P95) == 1.0
    assert chance_met(mean_interval([2.5, 2.5]), P95) == 0.0
    assert math.isnan(chance_met(Estimate(1.0, 1.0, 1.0, 0.95, 10, "Wilson"), Objective("success", 0.9, ">=")))


def test_the_batches_of_one_replication_have_no_probability() -> None:
    """Their count of tasks is no count of independent observations: nan on either side of the limit; shares keep Wilson's test."""
    series = np.random.default_rng(7).exponential(1.0, 4000)
    for one in (batch_means(series), batch_quantile(series, 0.95), Estimator().quantile([series], 0.95).estimate):
        assert one.resolved
        assert one.n == series.size
        for limit in (one.low, one.value, one.high, 100.0):
            assert math.isnan(chance_met(one, Objective("p95", limit, "<=")))
    assert math.isnan(chance_met(Estimate(2.0, 2.0, 2.0, 0.95, 50, "batch means, 20 of 100"), P95))
    whole = Estimator().quantile([series[:2000], series[2000:]], 0.95).estimate
    assert chance_met(whole, Objective("p95", whole.value, "<=")) == pytest.approx(0.5)
    share = Estimator().share([(series < 2.0).astype(float)]).estimate
    assert chance_met(share, Objective("success", share.low, ">=")) == pytest.approx(0.975)


def test_a_probability_of_a_tenth_is_seen_in_a_tenth_of_experiments() -> None:
    """For a true value right at the limit the probability is uniform: below each tenth in as many experiments, within noise of four sigma."""
    rng = np.random.default_rng(5)
    found = np.array([chance_met(mean_interval(rng.normal(2.0, 0.7, 6)), P95) for _ in range(2000)])
    for level in (0.1, 0.5, 0.9):
        share = float(np.mean(found < level))
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) / found.size)
