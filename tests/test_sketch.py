"""Accumulators in bounded memory agree with what the whole sample says, within their stated error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coordsim.sim.analysis import sketch


def test_moments_in_blocks_are_the_moments_of_the_whole() -> None:
    """Any split, in one accumulator or merged from two, gives numpy's mean, spread and extremes."""
    values = np.random.default_rng(18).lognormal(0, 1, (10_000, 3)) + np.array([0.0, 1e6, 5.0])
    left, right = sketch.Moments(3), sketch.Moments(3)
    for start, end in ((0, 1), (1, 1), (1, 4000)):
        left.update(values[start:end])
    right.update(values[4000:])
    left.merge(right)
    left.merge(sketch.Moments(3))
    assert left.count == 10_000
    np.testing.assert_allclose(left.mean, values.mean(axis=0), rtol=1e-12)
    # Around a million, 1e-16 of the square of the mean is 1e-4 of nothing: the merge never forms that square.
    np.testing.assert_allclose(left.variance, values.var(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_array_equal(left.low, values.min(axis=0))
    np.testing.assert_array_equal(left.high, values.max(axis=0))


def test_moments_at_the_edge() -> None:
    """One row has no spread, one column takes flat blocks, and NaN or another width is refused unharmed."""
    one = sketch.Moments()
    one.update([2.0])
    assert math.isnan(one.std[0])
    with pytest.raises(ValueError, match="nan at 0"):
        one.update([math.nan])
    with pytest.raises(ValueError, match=r"\(rows, 1\), got \(2, 2\)"):
        one.update([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="got 1 and 2"):
        one.merge(sketch.Moments(2))
    assert (one.count, one.mean[0], one.low[0], one.high[0]) == (1, 2.0, 2.0, 2.0)


@pytest.mark.parametrize("error", [0.005, 0.05])
def test_the_sketch_keeps_its_error_bound(error: float) -> None:
    """Every quantile is within the stated share of the order statistic, for light, heavy and mixed tails."""
    rng = np.random.default_rng(19)
    laws = {
        "exponential": rng.exponential(1.0, 20_001),
        "Pareto, infinite mean": rng.pareto(0.8, 20_001),
        "lognormal over ten decades": rng.lognormal(0, 4, 20_001),
        "zeros and integers": rng.poisson(2.0, 20_001).astype(float),
        "bucket bounds": ((1 + error) / (1 - error)) ** rng.integers(-200, 200, 20_001).astype(float),
    }
    qs = np.linspace(0, 1, 1001)
    for name, values in laws.items():
        quantiles = sketch.QuantileSketch(error)
        for block in np.array_split(values, 7):
            quantiles.update(block)
        exact = np.sort(values)[np.floor(qs * 20_000).astype(int)]
        off = np.abs(quantiles.quantiles(qs) - exact)
        assert np.all(off <= error * (1 + 1e-9) * exact), name


def test_merged_sketches_are_the_sketch_of_the_whole() -> None:
    """Split in any way and merged in any order, the counts and so the answers are the same."""
    values = np.random.default_rng(20).lognormal(0, 2, 3000)
    whole = sketch.QuantileSketch()
    whole.update(values)
    merged = sketch.QuantileSketch()
    for part in (values[2000:], values[:5], np.empty(0), values[5:2000]):
        other = sketch.QuantileSketch()
        other.update(part)
        merged.merge(other)
    qs = np.linspace(0, 1, 101)
    np.testing.assert_array_equal(merged.quantiles(qs), whole.quantiles(qs))
    assert (merged.count, merged.low, merged.high) == (3000, values.min(), values.max())


def test_the_size_of_a_sketch_is_bounded_by_the_range() -> None:
    """A million values from a nanosecond to an hour take under 3,000 buckets, as many as a thousandth of them."""
    quantiles = sketch.QuantileSketch()
    for seed in range(10):
        quantiles.update(10 ** np.random.default_rng(seed).uniform(-9, math.log10(3600), 100_000))
    assert quantiles.count == 1_000_000
    assert quantiles.buckets < 3000


def test_the_sketch_at_the_edge() -> None:
    """Empty, one value, zeros, and values it cannot hold."""
    quantiles = sketch.QuantileSketch()
    assert math.isnan(quantiles.quantile(0.5))
    quantiles.update([])
    quantiles.update([7.0])
    assert [quantiles.quantile(q) for q in (0, 0.5, 1)] == [7.0, 7.0, 7.0]
    quantiles.update([0.0, 0.0])
    assert quantiles.quantile(0.5) == 0.0
    for bad, message in (([-1.0], r">= 0, got -1\.0 at 0"), ([1.0, math.nan], "nan at 1"), ([math.inf], "inf at 0")):
        with pytest.raises(ValueError, match=message):
            quantiles.update(bad)
    with pytest.raises(ValueError, match=r"from 0 to 1, got \[1\.5\]"):
        quantiles.quantile(1.5)
    with pytest.raises(ValueError, match=r"got 0\.005 and 0\.01"):
        quantiles.merge(sketch.QuantileSketch(0.01))
    assert quantiles.count == 3
