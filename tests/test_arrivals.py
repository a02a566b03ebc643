"""Every arrival process against its declared rate and variance, by z-scores with fixed seeds; replay of files.

A z-score of a right program is beyond 4.5 once in 150,000 tests.
"""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.models.arrivals import BATCH, Batch, first_arrivals, open_arrivals
from coordsim.models.patterns import Mmpp
from coordsim.models.workload import Workload
from coordsim.sim.engine.draws import Draws
from coordsim.sim.engine.source import Document
from coordsim.sim.engine.spec import validate

DATA = Path(__file__).parent / "data" / "workloads"
REAL = Path(__file__).parents[1].parent / "shared" / "data" / "workloads"
Z = 4.5
SEED = 20

PATTERNS = {
    "poisson": "poisson: 2 / s",
    "deterministic": "deterministic: 3 / s",
    "mmpp": "mmpp: {states: [{rate: 10 / s, stay: 2 s}, {rate: 0.5 / s, stay: 6 s}]}",
    "three-states": "mmpp: {states: [{rate: 9 / s, stay: 1 s}, {rate: 0 / s, stay: 2 s}, {rate: 3 / s, stay: 3 s}]}",
    "bursty": "bursty: {rate: 2 / s, peak_to_mean: 4, burst: 3 s}",
    "bursty-quiet": "bursty: {rate: 2 / s, peak_to_mean: 4, burst: 3 s, quiet: 25 %}",
    "rates": "rates: {every: 10 s, rates: [1 / s, 0 / s, 5 / s, 0.2 / s]}",
    "rates-held": "rates: {every: 10 s, rates: [0 / s, 4 / s, 1 / s], repeat: false}",
    "ramp-up": "ramp: {from: 0 / s, to: 4 / s, over: 30 s}",
    "ramp-down": "ramp: {from: 5 / s, to: 1 / s, over: 30 s}",
    "renewal": "renewal: {interarrival: {gamma: {mean: 500 ms, cv: 0.5}}}",
}
OPEN = pytest.mark.parametrize("arrivals", PATTERNS.values(), ids=PATTERNS.keys())


def workload(arrivals: str, rest: str = "horizon: 1 h") -> Workload:
    """Return the workload with these arrivals, as YAML gives it."""
    return validate(Workload, Document.from_text(f"arrivals: {{{arrivals}}}\n{rest}\n", "w.yaml"))


def times(load: Workload, count: int, replication: int = 0) -> np.ndarray:
    """Return the first `count` arrivals, fewer if they end."""
    batches = open_arrivals(load, Draws(SEED, replication))
    return np.fromiter(itertools.islice((t for batch in batches for t in batch.times), count), float)


def counts(load: Workload, edges: Iterable[float], replications: int) -> np.ndarray:
    """Return how many arrivals lie between the edges, shape (replications, windows)."""
    bins = np.array(list(edges))
    return np.array([np.diff(_before(load, bins, replication)) for replication in range(replications)])


def _before(load: Workload, bins: np.ndarray, replication: int) -> np.ndarray:
    """Return how many arrivals come before each edge."""
    before = np.zeros(len(bins), dtype=int)
    for batch in open_arrivals(load, Draws(SEED, replication)):
        before += np.searchsorted(batch.times, bins)
        if batch.times[-1] >= bins[-1]:
            break
    return before


def z_of_mean(sample: np.ndarray, mean: float) -> float:
    """Return how many standard errors the sample's mean is off."""
    return float((sample.mean() - mean) / (sample.std(ddof=1) / math.sqrt(len(sample))))


def z_of_variance(sample: np.ndarray, variance: float) -> float:
    """Return how many standard errors the sample's variance is off; the error is that of the mean of squares."""
    squares = (sample - sample.mean()) ** 2 * len(sample) / (len(sample) - 1)
    return z_of_mean(squares, variance)


def z_of_poisson(total: float, mean: float) -> float:
    """Return how many standard deviations a Poisson count is off."""
    return (total - mean) / math.sqrt(mean)


# --- every process ---------------------------------------------------------------------------------------------------


@OPEN
def test_arrivals_never_fall_and_come_in_batches(arrivals: str) -> None:
    """Times rise from 0 across batches of at most a thousand and something."""
    batches = list(itertools.islice(open_arrivals(workload(arrivals), Draws(SEED)), 5))
    assert all(0 < len(batch.times) <= BATCH for batch in batches)
    joined = np.concatenate([batch.times for batch in batches])
    assert joined[0] >= 0
    assert np.isfinite(joined).all()
    assert (np.diff(joined) >= 0).all()
    assert all(batch.request is None and batch.output is None for batch in batches)


@OPEN
def test_arrivals_are_a_function_of_seed_and_replication(arrivals: str) -> None:
    """The same seed gives the same arrivals, whatever else is drawn; another replication gives others."""
    load = workload(arrivals)
    draws = Draws(SEED)
    busy = open_arrivals(load, draws)
    other = draws.uniform("tools.search/latency")
    mixed = []
    for _ in range(3):
        other.draw(0, 0)
        mixed += next(busy).times
    assert mixed == times(load, len(mixed)).tolist()
    if "deterministic" not in arrivals:
        assert mixed != times(load, len(mixed), replication=1).tolist()
        assert len(np.unique(mixed)) > 0.99 * len(mixed)


@OPEN
def test_the_declared_rate_is_the_rate_in_the_long_run(arrivals: str) -> None:
    """Over 60 replications of a long time, the mean number of arrivals is the rate times the time."""
    load, start, end = workload(arrivals), 40.0, 1240.0  # whole periods, after the ramps
    assert load.rate is not None
    found = counts(load, (start, end), 60)[:, 0]
    if load.arrivals.deterministic:
        assert np.abs(found - load.rate * (end - start)).max() <= 1
    else:
        assert abs(z_of_mean(found, load.rate * (end - start))) < Z


def test_deterministic_arrivals_are_evenly_spaced() -> None:
    """The k-th arrival comes at k/rate exactly, and constant times between arrivals give the same."""
    found = times(workload("deterministic: 3 / s"), 5000)
    assert found.tolist() == [k / 3.0 for k in range(1, 5001)]
    renewal = times(workload("renewal: {interarrival: 250 ms}"), 5000)
    assert renewal.tolist() == times(workload("deterministic: 4 / s"), 5000).tolist()


def test_poisson_counts_have_the_variance_of_their_mean() -> None:
    """Mean and variance in a window are both the rate times its length; neighbours are not correlated."""
    found = counts(workload("poisson: 2 / s"), (0, 5, 10), 2000)
    for window in found.T:
        assert abs(z_of_poisson(window.sum(), 2000 * 10.0)) < Z
        assert abs(z_of_variance(window, 10.0)) < Z
    assert abs(np.corrcoef(found.T)[0, 1]) * math.sqrt(2000) < Z


def test_renewal_gaps_have_the_distribution_asked_for() -> None:
    """The times between arrivals, the first included, have the mean, variance and independence declared."""
    found = times(workload("renewal: {interarrival: {gamma: {mean: 500 ms, cv: 0.5}}}"), 20_000)
    gaps = np.diff(found, prepend=0.0)
    assert abs(z_of_mean(gaps, 0.5)) < Z
    assert abs(z_of_variance(gaps, 0.0625)) < Z
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) * math.sqrt(len(gaps)) < Z


# --- modulated rates -------------------------------------------------------------------------------------------------


def two_state_variance(load: Workload, time: float) -> float:
    """Return the variance of the number of arrivals of a two-state MMPP in equilibrium, by its closed form."""
    spec = load.arrivals.mmpp or (load.arrivals.bursty and load.arrivals.bursty.mmpp)
    assert isinstance(spec, Mmpp)
    first, second = spec.states
    share = first.stay / (first.stay + second.stay)
    spread = share * (1 - share) * (first.rate - second.rate) ** 2
    decay = 1 / first.stay + 1 / second.stay
    mean = (share * first.rate + (1 - share) * second.rate) * time
    return mean + 2 * spread * (time / decay - (1 - math.exp(-decay * time)) / decay**2)


@pytest.mark.parametrize("name", ["mmpp", "bursty", "bursty-quiet"])
@pytest.mark.parametrize("window", [1.0, 20.0])
def test_modulated_counts_have_the_variance_of_the_closed_form(name: str, window: float) -> None:
    """Mean and variance hold in a short window and a long one, from the start on: the path starts in equilibrium."""
    load = workload(PATTERNS[name])
    assert load.rate is not None
    found = counts(load, (0, window), 3000)[:, 0]
    assert abs(z_of_mean(found, load.rate * window)) < Z
    assert abs(z_of_variance(found, two_state_variance(load, window))) < Z


@pytest.mark.parametrize("name", ["mmpp", "bursty", "bursty-quiet"])
def test_the_index_of_dispersion_is_the_limit_of_the_closed_form(name: str) -> None:
    """The general formula by matrices agrees with the closed form of two states in a very long window."""
    load = workload(PATTERNS[name])
    spec = load.arrivals.mmpp or load.arrivals.bursty
    assert spec is not None
    assert load.rate is not None
    assert spec.index_of_dispersion == pytest.approx(two_state_variance(load, 1e9) / (load.rate * 1e9), rel=1e-6)


def test_three_states_have_their_index_of_dispersion() -> None:
    """Long windows of a cycle of three states, taken 10 cycles apart, have the declared dispersion."""
    load = workload(PATTERNS["three-states"])
    assert load.arrivals.mmpp is not None
    assert load.rate is not None
    window = 600.0
    found = counts(load, np.arange(0, 13) * window, 120)[:, ::2].ravel()
    # A window of 100 cycles has the limit's variance but for a share of about cycle / window.
    ratio = load.arrivals.mmpp.index_of_dispersion * load.rate * window / found.var(ddof=1)
    assert abs(ratio - 1) < Z * math.sqrt(2 / len(found)) + 0.01


def test_bursts_have_the_peak_rate_and_the_length_asked_for() -> None:
    """The two states follow from mean rate, ratio, burst length and quiet share."""
    load = workload(PATTERNS["bursty-quiet"])
    assert load.arrivals.bursty is not None
    burst, quiet = load.arrivals.bursty.mmpp.states
    assert (burst.rate, burst.stay, quiet.rate) == (8.0, 3.0, 0.5)
    assert load.arrivals.bursty.mmpp.rate == pytest.approx(2.0, rel=1e-12)
    assert load.peak_rate == 8.0


def test_states_that_do_not_differ_are_a_poisson_process() -> None:
    """With one rate in all states the arrivals are those of the Poisson process, whatever the path."""
    same = times(workload("mmpp: {states: [{rate: 2 / s, stay: 1 s}, {rate: 2 / s, stay: 50 ms}]}"), 5000)
    np.testing.assert_allclose(same, times(workload("poisson: 2 / s"), 5000), rtol=1e-11)


def test_every_one_of_many_states_has_its_turn() -> None:
    """More states than are drawn at once follow one another in order: a third of the time at 3 / s is 1 / s."""
    states = [{"rate": f"{0 if index < 1000 else 3} / s", "stay": "1 s"} for index in range(1500)]
    load = Workload.model_validate({"arrivals": {"mmpp": {"states": states}}, "horizon": "1 h"})
    assert abs(z_of_mean(counts(load, (0, 4500), 40)[:, 0], 4500.0)) < Z


def test_the_path_of_the_rate_is_drawn_apart_from_the_arrivals() -> None:
    """The lengths of silences are not the numbers that the arrivals are made of, at any small lag."""
    load = workload("mmpp: {states: [{rate: 10k / s, stay: 1 s}, {rate: 0 / s, stay: 1 s}]}")
    gaps = np.diff(times(load, 600_000))
    silences = gaps[gaps > 1.5e-3][:40]  # a gap within a burst is that long once in three million
    assert len(silences) == 40
    units = np.diff(times(workload("poisson: 1 / s"), 200), prepend=0.0)
    for lag in range(8):
        for step in (1, 2):
            lagged = units[lag : lag + 40 * step : step]
            assert abs(np.corrcoef(silences, lagged)[0, 1]) < Z / math.sqrt(40)


# --- rates that vary by the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 3.0, 100.0])
def test_another_rate_stretches_the_same_arrivals(factor: float) -> None:
    """Poisson arrivals at two rates are the same exponential times, scaled: scenarios are coupled."""
    slow, fast = times(workload("poisson: 1 / s"), 3000), times(workload(f"poisson: {factor} / s"), 3000)
    np.testing.assert_allclose(slow, fast * factor, rtol=1e-14)


@pytest.mark.parametrize("name", ["rates", "rates-held", "ramp-up", "ramp-down"])
def test_no_arrival_is_lost_where_the_rate_changes(name: str) -> None:
    """Path by path: the cumulative rate at the k-th arrival is the k-th arrival of the Poisson process of rate 1."""
    load = workload(PATTERNS[name])
    spec = load.arrivals.rates or load.arrivals.ramp
    assert spec is not None
    found = times(load, 3000)
    reached = np.array([spec.expected(time) for time in found])
    np.testing.assert_allclose(reached, times(workload("poisson: 1 / s"), 3000), rtol=1e-9)


@given(
    rates=st.lists(st.sampled_from([0.0, 1e-3, 0.5, 1.0, 40.0]), min_size=1, max_size=6).filter(any),
    repeat=st.booleans(),
    every=st.sampled_from(["10 ms", "1 s", "1 h"]),
)
def test_any_profile_is_inverted_exactly(rates: list[float], repeat: bool, every: str) -> None:
    """Zero rates anywhere, short and long pieces: no arrival is lost, and none comes while the rate is 0."""
    text = ", ".join(f"{rate} / s" for rate in rates)
    load = workload(f"rates: {{every: {every}, rates: [{text}], repeat: {str(repeat).lower()}}}")
    spec = load.arrivals.rates
    assert spec is not None
    found, unit = times(load, 300), times(workload("poisson: 1 / s"), 300)
    if load.arrivals.ends:
        unit = unit[unit < spec.expected(spec.period)]
    np.testing.assert_allclose([spec.expected(time) for time in found], unit, rtol=1e-9)


# Windows cross the changes at 10, 20, 30 s and the end of the first period.
EDGES = (0, 4, 9.5, 10.5, 19.5, 20.5, 25, 29.5, 30.5, 39.5, 40.5, 47, 61, 80.5)


@pytest.mark.parametrize("name", ["rates", "rates-held", "ramp-up", "ramp-down"])
def test_counts_in_windows_are_the_integral_of_the_rate(name: str) -> None:
    """In every window, those across a change too, 400 replications have a Poisson number around the integral."""
    load = workload(PATTERNS[name])
    spec = load.arrivals.rates or load.arrivals.ramp
    assert spec is not None
    found = counts(load, EDGES, 400)
    for window, (low, high) in zip(found.T, itertools.pairwise(EDGES), strict=True):
        mean = spec.expected(high) - spec.expected(low)
        if mean == 0:
            assert window.sum() == 0
        else:
            assert abs(z_of_poisson(window.sum(), 400 * mean)) < Z
            assert abs(z_of_variance(window, mean)) < Z


def test_the_integral_of_a_profile_and_of_a_ramp() -> None:
    """`expected` is the area under the rate, worked out by hand."""
    rates = workload(PATTERNS["rates"]).arrivals.rates
    held = workload(PATTERNS["rates-held"]).arrivals.rates
    ramp = workload(PATTERNS["ramp-down"]).arrivals.ramp
    assert rates is not None
    assert held is not None
    assert ramp is not None
    assert [rates.expected(t) for t in (5, 15, 21, 40, 85)] == pytest.approx([5, 10, 15, 62, 129])
    assert [held.expected(t) for t in (5, 15, 30, 100)] == pytest.approx([0, 20, 50, 120])
    assert [ramp.expected(t) for t in (15, 30, 40)] == pytest.approx([60, 90, 100])


@pytest.mark.parametrize(
    ("arrivals", "mean", "end"),
    [
        ("rates: {every: 10 s, rates: [2 / s, 1 / s, 0 / s], repeat: false}", 30, 20),
        ("ramp: {from: 2 / s, to: 0 / s, over: 30 s}", 30, 30),
    ],
)
def test_arrivals_end_where_the_rate_falls_to_zero(arrivals: str, mean: float, end: float) -> None:
    """The process ends by itself, after a Poisson number of arrivals in all."""
    load = workload(arrivals)
    assert load.arrivals.ends
    found = [times(load, 10_000, replication) for replication in range(300)]
    assert max(times[-1] for times in found) <= end
    assert abs(z_of_poisson(sum(map(len, found)), 300 * mean)) < Z


# --- closed ----------------------------------------------------------------------------------------------------------


def test_users_start_as_asked() -> None:
    """Users start together, evenly over a mean think time, or each after a think time of their own."""
    closed = "closed: {users: 4000, think: {exponential: {mean: 8 s}}"
    thinking = np.array(first_arrivals(workload(closed + "}"), Draws(SEED)))
    assert abs(z_of_mean(thinking, 8.0)) < Z
    assert abs(z_of_variance(thinking, 64.0)) < Z
    assert first_arrivals(workload(closed + ", start: together}"), Draws(SEED)) == [0.0] * 4000
    staggered = first_arrivals(workload("closed: {users: 4, think: 8 s, start: staggered}"), Draws(SEED))
    assert staggered == [0.0, 2.0, 4.0, 6.0]


def test_open_and_closed_are_not_mixed_up() -> None:
    """Each kind refuses the question that only the other can answer, at once."""
    closed, opened = workload("closed: {users: 3}"), workload("poisson: 1 / s")
    assert (closed.rate, closed.peak_rate, closed.users, opened.users) == (None, None, 3, None)
    with pytest.raises(ValueError, match="first_arrivals"):
        open_arrivals(closed, Draws(SEED))
    with pytest.raises(ValueError, match="open_arrivals"):
        first_arrivals(opened, Draws(SEED))


# --- replay -----------------------------------------------------------------------------------------------------------

AZURE: list[list[float]] = [[0.0, 0.0520001, 0.0520001, 60.02004], [4808, 3180, 110, 7433], [10, 8, 27, 14]]
MOONCAKE: list[list[float]] = [[0.0, 1.5, 3.001], [6758, 7322, 7236], [500, 490, 794]]


def test_a_replay_gives_the_rows() -> None:
    """Times and tokens come as recorded, twice as fast when asked, and end with the file."""
    load = workload(f"trace: {{file: {DATA / 'azure.csv'}, time_scale: 2}}", "")
    assert list(open_arrivals(load, Draws(SEED))) == [Batch([time / 2 for time in AZURE[0]], AZURE[1], AZURE[2])]
    assert load.rate == pytest.approx(3 / 30.01002)
    assert load.duration == 30.01002
    arrivals_only = workload(f"trace: {{file: {DATA / 'azure.csv'}, tokens: false}}", "")
    assert list(open_arrivals(arrivals_only, Draws(SEED))) == [Batch(AZURE[0])]


def test_a_repeated_replay_keeps_the_rate() -> None:
    """The file begins anew one mean time after its last row, tokens too, without end."""
    load = workload(f"trace: {{file: {DATA / 'mooncake.jsonl'}, repeat: true}}", "tasks: 7")
    batches = list(itertools.islice(open_arrivals(load, Draws(SEED)), 3))
    period = 3.001 * 3 / 2
    expected = [lap * period + time for lap in range(3) for time in MOONCAKE[0]]
    assert [time for batch in batches for time in batch.times] == pytest.approx(expected, rel=1e-12)
    assert all(batch.request == MOONCAKE[1] and batch.output == MOONCAKE[2] for batch in batches)
    assert load.rate == pytest.approx(3 / period)


def test_a_long_replay_comes_in_batches(tmp_path: Path) -> None:
    """Rows beyond one batch follow in the next, none lost and none twice."""
    file = tmp_path / "long.csv"
    file.write_text("t,output\n" + "".join(f"{i},{i % 7}\n" for i in range(2 * BATCH + 5)))
    batches = list(open_arrivals(workload(f"trace: {{file: {file}}}", ""), Draws(SEED)))
    assert [len(batch.times) for batch in batches] == [BATCH, BATCH, 5]
    assert [time for batch in batches for time in batch.times] == list(range(2 * BATCH + 5))
    assert [tokens for batch in batches for tokens in batch.output or []] == [i % 7 for i in range(2 * BATCH + 5)]


@pytest.mark.parametrize(
    ("name", "count", "last", "tokens"),
    [
        # What awk says of the files; the last times are 2023-11-16 19:14:19.9280160 - 18:17:03.9799600, and 3,536,999 ms.
        ("azure_llm_code_2023.csv.gz", 8819, 3435.948056, (18_059_974, 245_896)),
        ("mooncake_conversation.jsonl.gz", 12_031, 3536.999, (144_793_823, 4_122_048)),
    ],
)
def test_real_traces_are_read_whole(name: str, count: int, last: float, tokens: tuple[int, int]) -> None:
    """Every row of the public traces arrives, with its tokens."""
    if not (REAL / name).is_file():
        pytest.skip(f"{name} is not at hand beside the checkout")
    load = workload(f"trace: {{file: {REAL / name}}}", "")
    batches = list(open_arrivals(load, Draws(SEED)))
    found = [time for batch in batches for time in batch.times]
    assert (len(found), found[0], found[-1]) == (count, 0.0, last)
    assert sum(sum(batch.request or []) for batch in batches) == tokens[0]
    assert sum(sum(batch.output or []) for batch in batches) == tokens[1]
    assert load.rate == pytest.approx((count - 1) / last)
    assert load.doubts() == []
