"""Estimates hold what they promise: coverage by seeded simulation, error bounds, and the edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from coordsim.sim.analysis import batches, statistics, warmup
from coordsim.sim.analysis.statistics import Estimate

Array = npt.NDArray[np.float64]
TRIES = 400
# A 95 % interval that holds the truth in 400 tries does so in 0.95 ± 0.0327 of them, three standard errors.
COVERED = (0.917, 0.983)
MOST_ARE_RIGHT = 0.917


def covers(estimates: list[Estimate], truth: float) -> float:
    """Return the share of the intervals that hold `truth`."""
    return sum(not estimate.excludes(truth) for estimate in estimates) / len(estimates)


def autoregressive(rng: np.random.Generator, n: int, phi: float, start: float = 0.0) -> Array:
    """Return a series with lag-1 correlation `phi`, mean 0 in the long run, variance 1 / (1 - phi^2)."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -phi], rng.normal(size=n), zi=[phi * start])[0])


def one_server_queue(seed: int, load: float, tasks: int) -> tuple[Array, Array]:
    """Return arrival times and response times of M/M/1 by Lindley's recursion, in steady state where there is one."""
    rng = np.random.default_rng(seed)
    gaps, service = rng.exponential(1 / load, tasks), rng.exponential(1.0, tasks)
    first = rng.exponential(1 / (1 - load)) if load < 1 and rng.random() < load else 0.0
    free = first + np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
    waiting = free - np.minimum(np.minimum.accumulate(free), 0.0)
    return np.cumsum(gaps), waiting + service


def test_t_intervals_cover_the_mean_as_often_as_they_say() -> None:
    """Means of ten normal replications are held by 95 % of the intervals, within three standard errors."""
    rng = np.random.default_rng(1)
    estimates = [statistics.mean_interval(rng.normal(7.0, 2.0, 10)) for _ in range(TRIES)]
    assert COVERED[0] < covers(estimates, 7.0) < COVERED[1]


def test_a_t_interval_is_the_textbook_one() -> None:
    """Law's example 4.26: ten observations, mean 1.34, 90 % interval 1.34 ± 0.24."""
    values = [1.20, 1.50, 1.68, 1.89, 0.95, 1.49, 1.58, 1.55, 0.50, 1.09]
    estimate = statistics.mean_interval(values, 0.90)
    assert estimate.value == pytest.approx(1.343)
    assert estimate.half_width == pytest.approx(0.24, abs=0.005)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_wilson_intervals_cover_a_share(share: float) -> None:
    """Wilson's interval covers near its confidence even for a share of 99 % seen in 300 trials."""
    hits = np.random.default_rng(2).binomial(300, share, TRIES)
    estimates = [statistics.proportion_interval(int(k), 300) for k in hits]
    # The count is discrete: for a given share the true coverage is 92 to 98 %, and three standard errors come on top.
    assert 0.89 < covers(estimates, share) <= 1


def test_wilson_is_certain_of_nothing_at_the_ends() -> None:
    """No failure in 100 trials still leaves 3.7 % possible; no trials leave everything."""
    all_good = statistics.proportion_interval(100, 100)
    assert (all_good.value, all_good.high) == (1.0, 1.0)
    assert all_good.low == pytest.approx(1 / (1 + 1.959964**2 / 100), rel=1e-6)
    nothing = statistics.proportion_interval(0, 0)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert not nothing.resolved


def test_pooled_shares_cover_when_tasks_of_a_replication_go_together() -> None:
    """Replications with good and bad days: counting tasks as independent covers far too seldom, pooling does not."""
    rng = np.random.default_rng(3)
    pooled, naive = [], []
    for _ in range(TRIES):
        counts = rng.integers(150, 250, 20)
        hits = rng.binomial(counts, rng.beta(18, 2, 20))
        pooled.append(statistics.pooled_proportion(hits, counts))
        naive.append(statistics.proportion_interval(int(hits.sum()), int(counts.sum())))
    assert covers(naive, 0.9) < 0.7
    assert covers(pooled, 0.9) > 0.90


def test_a_pooled_share_of_all_is_still_uncertain() -> None:
    """When every task of every replication succeeded the interval is Wilson's over all tasks, not a point."""
    pooled = statistics.pooled_proportion([100] * 5, [100] * 5)
    alone = statistics.proportion_interval(500, 500)
    assert (pooled.low, pooled.high) == (alone.low, alone.high)


@pytest.mark.parametrize(("q", "n"), [(0.5, 30), (0.95, 200), (0.99, 1000)])
def test_order_statistics_cover_a_quantile(q: float, n: int) -> None:
    """Intervals for quantiles of a skewed law hold the true one at least as often as they say."""
    rng = np.random.default_rng(4)
    truth = -math.log(1 - q)
    estimates = [statistics.quantile_interval(rng.exponential(1.0, n), q) for _ in range(TRIES)]
    assert covers(estimates, truth) > MOST_ARE_RIGHT
    # Conservative, not careless: 1.96 of these standard errors if it were normal; ten values in the tail cost more.
    assert np.median([e.half_width for e in estimates]) < 3 * math.sqrt(q / (1 - q) / n)


def test_order_statistics_are_the_binomial_ones() -> None:
    """For the median of 1..20 the 95 % interval runs from the 6th to the 15th, as in the tables."""
    estimate = statistics.quantile_interval(np.arange(1.0, 21.0), 0.5)
    assert (estimate.low, estimate.value, estimate.high) == (6.0, 10.5, 15.0)


def test_a_quantile_beyond_the_sample_has_no_upper_end() -> None:
    """Fifty values say nothing about how high p99 may be, and the interval says that."""
    estimate = statistics.quantile_interval(np.arange(50.0), 0.99)
    assert estimate.high == math.inf
    assert math.isfinite(estimate.low)
    assert not estimate.resolved
    assert "at least" in estimate.format()


@pytest.mark.parametrize("phi", [0.0, 0.7, 0.95])
def test_batch_means_cover_the_mean_of_a_correlated_series(phi: float) -> None:
    """One run of 5,000 correlated values gives an interval that holds the mean; their own spread would not."""
    rng = np.random.default_rng(5)
    runs = [autoregressive(rng, 5000, phi, rng.normal() / math.sqrt(1 - phi**2)) for _ in range(TRIES)]
    # Testing for independence and then trusting it costs a little of the coverage.
    assert 0.90 < covers([batches.batch_means(run) for run in runs], 0.0) < 0.99
    if phi > 0.5:
        assert covers([statistics.mean_interval(run) for run in runs], 0.0) < 0.7


def test_batch_quantiles_cover_the_tail_of_a_queue() -> None:
    """p95 of the response time of M/M/1 at load 0.5, from one run of 20,000 tasks: exponential with rate 0.5."""
    truth = -math.log(0.05) / 0.5
    estimates = [batches.batch_quantile(one_server_queue(seed, 0.5, 20_000)[1], 0.95) for seed in range(150)]
    # Three standard errors of 150 tries at 95 %, and two points for the test of independence.
    assert covers(estimates, truth) > 0.95 - 0.053 - 0.02


def test_batches_that_stay_correlated_say_so_and_widen() -> None:
    """A random walk never has independent batches: the method tells, and the interval is wider than theirs."""
    walk = np.cumsum(np.random.default_rng(6).normal(size=4000))
    estimate = batches.batch_means(walk)
    means = walk.reshape(10, 400).mean(axis=1)
    assert "still correlated" in estimate.method
    assert estimate.half_width > 1.5 * statistics.mean_interval(means).half_width


def test_batches_grow_until_they_look_independent() -> None:
    """A series that correlates over 32 batches but not over 10 ends with fewer, larger batches."""
    used = {
        batches.batch_means(autoregressive(np.random.default_rng(seed), 2000, 0.98)).method.split(",")[1].split()[0]
        for seed in range(40)
    }
    assert used == {"32", "20", "10"}


def test_what_does_not_divide_into_batches_is_dropped_at_the_front() -> None:
    """Of 643 values 32 batches of 20 keep the last 640: the three nearest the warm-up go."""
    series = np.random.default_rng(22).normal(size=643)
    kept = batches.batch_means(series)
    series[:3] = 1e9
    assert batches.batch_means(series) == kept
    assert kept.value == pytest.approx(series[3:].mean())


def test_too_short_a_run_has_a_mean_and_no_interval() -> None:
    """Below ten batches the estimate is unresolved and names what it would need."""
    estimate = batches.batch_means([1.0, 2.0, 3.0])
    assert (estimate.value, estimate.low, estimate.high) == (2.0, -math.inf, math.inf)
    assert "needs 50" in estimate.method
    assert "needs 5000" in batches.batch_quantile(np.arange(4999.0), 0.99).method
    assert batches.batch_quantile(np.random.default_rng(0).random(5000), 0.99).resolved


def test_von_neumann_accepts_independent_values_as_often_as_it_says() -> None:
    """At level 0.1 a tenth of independent series is rejected, within three standard errors."""
    rng = np.random.default_rng(7)
    rejected = sum(not batches.von_neumann(rng.normal(size=32))[1] for _ in range(2000)) / 2000
    assert abs(rejected - 0.1) < 0.02


def test_replications_needed_are_enough_and_not_too_many() -> None:
    """The answer satisfies the stopping rule and one less does not, for any spread."""
    rng = np.random.default_rng(12)
    for spread in (0.05, 0.3, 2.0):
        means = rng.normal(1.0, spread, 10)
        needed = statistics.replications_needed(means, 0.05)
        error = means.std(ddof=1) / abs(means.mean())
        assert statistics.student_t(0.95, needed - 1) * error / math.sqrt(needed) <= 0.05
        if needed > 10:
            assert statistics.student_t(0.95, needed - 2) * error / math.sqrt(needed - 1) > 0.05


def test_replications_needed_refuses_what_cannot_be_answered() -> None:
    """One replication, a target of nothing, and values around zero are errors that quote the values."""
    with pytest.raises(ValueError, match=r"means must hold at least 2, got 1: \[4\.0\]"):
        statistics.replications_needed([4.0], 0.05)
    with pytest.raises(ValueError, match=r"relative_error must be > 0, got 0"):
        statistics.replications_needed([4.0, 5.0], 0)
    with pytest.raises(ValueError, match=r"too close to 0"):
        statistics.replications_needed([-1.0, 1.0], 0.05)


def test_running_until_the_precision_is_reached_ends_and_covers() -> None:
    """The sequential procedure stops at the target, and its intervals hold the mean nearly as often as they say."""
    rng = np.random.default_rng(13)
    estimates = []
    for _ in range(TRIES):
        means = rng.gamma(25.0, 0.4, 10)
        while not (now := statistics.precision({"mean": statistics.mean_interval(means)}, 0.05)).reached:
            assert now.more >= 1
            means = np.concatenate([means, rng.gamma(25.0, 0.4, now.more)])
        estimates.append(statistics.mean_interval(means))
    assert max(estimate.relative_error for estimate in estimates) <= 0.05
    # Stopping when the spread happens to look small costs a few points (Law, 9.4.1).
    assert covers(estimates, 10.0) > 0.88


def test_precision_names_the_worst_metric() -> None:
    """Of two metrics the one with the larger relative error is named; none without a value counts as reached."""
    good, poor = Estimate(10, 9.9, 10.1, 0.95, 10, "t"), Estimate(10, 7, 13, 0.95, 10, "t")
    state = statistics.precision({"mean": good, "p99": poor}, 0.05)
    assert (state.reached, state.worst, state.more) == (False, "p99", 20)
    assert statistics.precision({"mean": good}, 0.05).reached
    for unknown in (statistics.no_estimate(), statistics.mean_interval([3.0])):
        assert statistics.precision({"mean": good, "x": unknown}, 0.05).more == 5
    assert statistics.precision({"zero": Estimate(0.0, -1, 1, 0.95, 10, "t")}, 0.05).more == 20
    with pytest.raises(ValueError, match="at least one metric"):
        statistics.precision({}, 0.05)


def test_pairing_takes_out_what_both_systems_share() -> None:
    """On the same tasks a difference of 0.5 is covered, and found where independent samples would not show it."""
    rng = np.random.default_rng(14)
    comparisons = []
    for _ in range(TRIES):
        tasks = rng.gamma(4.0, 2.5, 12)
        comparisons.append(statistics.paired_difference(tasks, tasks + 0.5 + rng.normal(0, 0.2, 12)))
    assert COVERED[0] < covers([c.difference for c in comparisons], 0.5) < COVERED[1]
    assert all(c.difference.excludes(0.0) and c.p_value < 0.01 for c in comparisons)


def test_fieller_intervals_cover_the_ratio_of_means() -> None:
    """With a coefficient of variation of a third in twelve pairs, the ratio 1.2 is held as often as said."""
    rng = np.random.default_rng(15)
    ratios = []
    for _ in range(TRIES):
        shared = rng.normal(0, 2.0, 12)
        baseline, variant = 10 + shared + rng.normal(0, 2.5, 12), 12 + shared + rng.normal(0, 2.5, 12)
        ratios.append(statistics.paired_difference(baseline, variant).ratio)
    assert COVERED[0] < covers(ratios, 1.2) < COVERED[1]


def test_fieller_ends_are_the_ratios_that_a_t_test_just_rejects() -> None:
    """At each end of the interval, variant - ratio x baseline is exactly one t-interval away from zero."""
    rng = np.random.default_rng(21)
    baseline, variant = rng.normal(5.0, 2.0, 9), rng.normal(7.0, 2.0, 9)
    ratio = statistics.paired_difference(baseline, variant).ratio
    for end in (ratio.low, ratio.high):
        edge = statistics.mean_interval(variant - end * baseline)
        assert abs(edge.value) == pytest.approx(edge.half_width, rel=1e-9)


def test_the_p_value_is_uniform_when_nothing_differs() -> None:
    """Without a difference one comparison in twenty is below 0.05, within three standard errors."""
    rng = np.random.default_rng(16)
    below = [statistics.paired_difference(rng.normal(size=8), rng.normal(size=8)).p_value < 0.05 for _ in range(2000)]
    assert abs(np.mean(below) - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_comparisons_at_the_edge() -> None:
    """Identical systems, a constant factor, a baseline of zero, one pair and unequal lengths."""
    same = statistics.paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (same.difference.value, same.difference.half_width, same.p_value) == (0.0, 0.0, 1.0)
    assert (same.ratio.value, same.ratio.half_width) == (1.0, 0.0)
    tripled = statistics.paired_difference([0.1, 0.2, 0.7], [0.3, 0.6, 2.1]).ratio
    assert tripled.value == pytest.approx(3.0)
    assert tripled.half_width == 0.0
    assert statistics.paired_difference([1.0, 1.0], [3.0, 3.0]).p_value == 0.0
    zero = statistics.paired_difference([-1.0, 1.0, 0.1], [3.0, 3.1, 3.2]).ratio
    assert (zero.low, zero.high) == (-math.inf, math.inf)
    assert not statistics.paired_difference([1.0], [2.0]).difference.resolved
    with pytest.raises(ValueError, match="got 2 and 1 values"):
        statistics.paired_difference([1.0, 2.0], [1.0])


def test_holm_keeps_the_error_of_many_metrics_together() -> None:
    """With ten metrics and no true difference, one or more is called significant in at most 5 % of the tries."""
    tries = np.random.default_rng(17).random((2000, 10))
    alarms = [min(statistics.holm({str(i): float(p) for i, p in enumerate(row)}).values()) <= 0.05 for row in tries]
    assert np.mean(alarms) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert np.mean(alarms) > 0.03
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert statistics.bonferroni(0.95, 10) == pytest.approx(0.995)
    with pytest.raises(ValueError, match=r"\{'a': 1\.5\}"):
        statistics.holm({"a": 1.5})


@pytest.mark.parametrize("tasks", [500, 20_000])
def test_a_steady_queue_is_not_called_growing(tasks: int) -> None:
    """M/M/1 in steady state at load 0.9 is called growing in at most 5 of 100 runs, short or long."""
    alarms = sum(batches.drift(*one_server_queue(seed, 0.9, tasks)).grows for seed in range(100))
    assert alarms <= 5


def test_an_overloaded_queue_is_called_growing() -> None:
    """M/M/1 at load 1.2 is called growing in more than 95 of 100 runs, also without its first fifth."""
    found = 0
    for seed in range(100):
        times, values = one_server_queue(seed, 1.2, 5000)
        found += batches.drift(times, values).grows and batches.drift(times[1000:], values[1000:]).grows
    assert found > 95


def test_the_drift_of_an_overloaded_queue_is_its_excess_load() -> None:
    """Work arrives at 1.2 a second and leaves at 1: response times grow by 0.2 s a second, within the interval."""
    slopes = [batches.drift(*one_server_queue(seed, 1.2, 5000)).slope for seed in range(100)]
    assert covers(slopes, 0.2) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 100)


def test_drift_at_the_edge() -> None:
    """A line grows, a falling line and a constant do not, order does not matter, and 79 observations are too few."""
    times = np.arange(200.0)
    line = batches.drift(times, 1 + times)
    assert line.grows
    assert line.slope.value == pytest.approx(1.0)
    assert batches.drift(times[::-1], (1 + times)[::-1]) == line
    assert not batches.drift(times, -times).grows
    assert not batches.drift(times, np.full(200, 4.0)).grows
    assert not batches.drift(times, 1000 + times / 100).grows  # certain, and a fifth of a percent: nobody would see it
    assert not batches.drift(times[:79], times[:79]).grows
    assert not batches.drift(np.zeros(200), times).grows
    with pytest.raises(ValueError, match="got 200 and 3"):
        batches.drift(times, [1.0, 2.0, 3.0])


def test_littles_law_is_exact_for_a_run_that_begins_and_ends_empty() -> None:
    """The area under the number in the system is the sum of the times in it, so the gap is rounding."""
    arrivals, times = one_server_queue(0, 0.8, 2000)
    length = float((arrivals + times).max())
    moments = np.sort(np.concatenate([arrivals, arrivals + times]))
    present = np.searchsorted(np.sort(arrivals), moments, "right") - np.searchsorted(
        np.sort(arrivals + times), moments, "right"
    )
    number = float((present[:-1] * np.diff(moments)).sum()) / length
    law = statistics.little(2000 / length, float(times.mean()), number)
    assert abs(law.gap) < 1e-9
    assert law.statement.startswith("Little's law holds within")


def test_littles_law_says_when_it_is_off() -> None:
    """A tenth too many in the system is stated with its sign; nothing at all is no gap."""
    law = statistics.little(2.0, 5.0, 11.0)
    assert law.gap == pytest.approx(0.1)
    assert "off by +10 %" in law.statement
    assert statistics.little(0.0, 0.0, 0.0).gap == 0.0
    assert statistics.little(0.0, 0.0, 1.0).gap == math.inf
    with pytest.raises(ValueError, match=r"mean_time=-1"):
        statistics.little(1.0, -1.0, 1.0)


def test_one_value_has_no_interval_and_says_so() -> None:
    """A single replication gives its mean with an infinite interval that excludes nothing."""
    estimate = statistics.mean_interval([4.0])
    assert (estimate.value, estimate.low, estimate.high) == (4.0, -math.inf, math.inf)
    assert not estimate.resolved
    assert not estimate.excludes(1e9)
    assert estimate.relative_error == math.inf
    assert estimate.format(counted="replications") == "4 (no interval: 1 replication)"


def test_constants_are_certain() -> None:
    """Equal replications give an interval of no length, whose error is nothing even at zero."""
    for constant in (0.0, 3.5, -2.0):
        estimate = statistics.mean_interval([constant] * 5)
        assert (estimate.low, estimate.high, estimate.relative_error) == (constant, constant, 0.0)
        assert estimate.resolved
        assert estimate.excludes(constant + 1e-9)
    assert statistics.mean_interval([-1.0, 1.0]).relative_error == math.inf


def test_an_unknown_value_is_safe_to_ask() -> None:
    """Nothing observed: nothing is excluded, nothing is resolved, and it reads as no data."""
    nothing = statistics.no_estimate()
    assert not nothing.excludes(0.0)
    assert not nothing.resolved
    assert math.isnan(nothing.relative_error)
    assert nothing.format() == "no data"


def test_an_estimate_is_written_to_the_digits_its_interval_has() -> None:
    """Value, half-width and count; both ends when the interval is lopsided; the caller's units when given."""
    assert Estimate(4.1234, 3.9234, 4.3234, 0.95, 30, "t").format(counted="tasks") == "4.1 ± 0.2 (95 %, 30 tasks)"
    assert Estimate(0.9, 0.7, 0.95, 0.99, 8, "Wilson").format() == "0.9 [0.7, 0.95] (99 %, 8 observations)"
    assert Estimate(12345.6, 12145.6, 12545.6, 0.95, 30, "t").format(counted="runs") == "12300 ± 200 (95 %, 30 runs)"
    assert Estimate(0.0, -0.0123, 0.0123, 0.95, 9, "t").format() == "0 ± 0.0123 (95 %, 9 observations)"
    assert Estimate(1 / 3, 1 / 3, 1 / 3, 0.95, 9, "t").format() == "0.333333 ± 0 (95 %, 9 observations)"
    assert Estimate(2, 1, 3, 0.9, 4, "t").format(lambda x: f"{x:g} s") == "2 s ± 1 s (90 %, 4 observations)"
    assert Estimate(2.0, -math.inf, 3, 0.9, 1, "t").format() == "2, at most 3 (90 %, 1 observation)"
    assert Estimate(123.456, 123.406, 123.506, 0.95, 9, "t").digits == 5


@pytest.mark.parametrize(
    "function",
    [
        statistics.mean_interval,
        lambda values: statistics.quantile(values, 0.5),
        lambda values: statistics.quantile_interval(values, 0.5),
        batches.batch_means,
        lambda values: batches.batch_quantile(values, 0.5),
        warmup.mser5,
        lambda values: warmup.mser5_pooled([values]),
        lambda values: statistics.replications_needed(values, 0.1),
        lambda values: statistics.paired_difference(values, values),
        lambda values: batches.drift(values, values),
    ],
)
def test_bad_values_are_refused_with_the_values(function: object) -> None:
    """Empty, nested, NaN and infinite samples raise ValueError that says what was got and where."""
    assert callable(function)
    with pytest.raises(ValueError, match=r"at least \d, got 0: \[\]"):
        function([])
    with pytest.raises(ValueError, match=r"one-dimensional, got shape \(1, 2\)"):
        function([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"must be finite, got nan at 1, inf at 2 \(of 4\)"):
        function([1.0, math.nan, math.inf, 2.0])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    """95 is not a confidence; 0.95 is."""
    with pytest.raises(ValueError, match=f"confidence must be between 0 and 1, got {confidence}"):
        statistics.mean_interval([1.0, 2.0], confidence)
