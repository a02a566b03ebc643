"""MSER-5 cuts a warm-up where there is one, and says when it found no steady part."""

from __future__ import annotations

import numpy as np

from coordsim.sim.analysis import warmup


def test_mser5_finds_the_end_of_a_transient() -> None:
    """A series that decays from 20 with a time constant of 100 is cut where it is lost in the noise."""
    rng = np.random.default_rng(8)
    decay = 20 * np.exp(-np.arange(5000) / 100)
    for _ in range(20):
        series = 5 + decay + rng.normal(size=5000)
        cut = warmup.mser5(series)
        assert cut.trusted
        assert 200 <= cut.index <= 1200
        assert abs(series[cut.index :].mean() - 5) < abs(series.mean() - 5) / 2


def test_mser5_leaves_a_steady_series_nearly_whole() -> None:
    """Without a transient the median cut over 50 series is under a twentieth of the run."""
    rng = np.random.default_rng(9)
    cuts = [warmup.mser5(rng.normal(3.0, 1.0, 2000)) for _ in range(50)]
    assert np.median([cut.index for cut in cuts]) < 100
    assert sum(cut.trusted for cut in cuts) >= 45


def test_mser5_is_its_definition() -> None:
    """The cumulative sums give the cut that the formula gives term by term, also for huge and tiny values."""
    rng = np.random.default_rng(10)
    for scale in (1e-200, 1.0, 1e200):
        shape = rng.normal(size=300) + 4 * np.exp(-np.arange(300) / 30)
        means = shape.reshape(60, 5).mean(axis=1)
        direct = [((means[d:] - means[d:].mean()) ** 2).sum() / (60 - d) ** 2 for d in range(31)]
        assert warmup.mser5(scale * shape).index == 5 * int(np.argmin(direct))


def test_mser5_does_not_trust_a_run_that_is_all_transient() -> None:
    """A series that only rises has its minimum at the edge of the search, and a short one is not judged."""
    assert not warmup.mser5(np.arange(1000.0)).trusted
    assert warmup.mser5(np.arange(49.0)) == warmup.Truncation(0, False, 49)
    assert warmup.mser5(np.full(100, 3.0)) == warmup.Truncation(0, True, 100)


def test_pooling_replications_sees_a_transient_that_noise_hides_in_each() -> None:
    """Fifty noisy replications with a faint transient: their average is cut, in line with the shortest of them."""
    rng = np.random.default_rng(11)
    decay = 2 * np.exp(-np.arange(2000) / 100)
    series = [decay[:n] + rng.normal(0, 3, n) for n in [2000] * 49 + [1900]]
    pooled = warmup.mser5_pooled(series)
    assert pooled.trusted
    assert pooled.n == 1900
    assert 100 <= pooled.index <= 900
