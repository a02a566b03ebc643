"""Measuring a case: clocks, warm-up, calls of a repetition, the interval of the median, and what speaks against it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from coordsim.calibration.measure import CudaClock, HostClock, Visit, clock_of, interval, sample, visit
from coordsim.calibration.probe import Call, Case, Probe
from coordsim.calibration.samples import Sample
from coordsim.calibration.session import points
from coordsim.calibration.speed import RELEVANT, Sensor, drift, modes, stolen_ticks

CASE = Case("gemm", {"dtype": "fp32"}, {"m": 1, "n": 2, "k": 3})


@dataclass
class World:
    """Time that passes only when something takes it; the thread computes while it works, and not while it rests."""

    now: int = 0
    busy: int = 0
    rests: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def work(self, seconds: float) -> None:
        """Compute for a time."""
        self.now += round(seconds * 1e9)
        self.busy += round(seconds * 1e9)

    def rest(self, seconds: float) -> None:
        """Wait for a time."""
        self.rests.append(seconds)
        self.now += round(seconds * 1e9)

    @property
    def clock(self) -> HostClock:
        """A clock of this world."""
        return HostClock(lambda: self.now, lambda: self.busy, self.rest)

    def probe(self, law: Callable[[int], float], setup: float = 0.0, pace: float = 0.0) -> Probe:
        """A probe whose call takes `law(turn)` seconds."""

        @contextmanager
        def prepare(case: Case) -> Iterator[Call]:
            self.work(setup)

            def call(turn: int) -> None:
                self.turns.append(turn)
                self.work(law(turn))

            yield call

        return Probe(CASE.op, CASE.options, (CASE,), prepare, pace=pace)


def visits_of(*groups: list[float]) -> list[Visit]:
    """Return visits with these repetitions."""
    return [Visit(tuple(group), (), (), 1, 0, 0.0) for group in groups]


def test_a_visit_takes_its_limit_and_keeps_every_repetition() -> None:
    """At 1 ms a call, 5 of them to warm up, 50 ms hold 44 or 45 repetitions, outliers and all."""
    world = World()
    got = visit(world.probe(lambda turn: 0.001 if turn != 20 else 0.002), CASE, world.clock, limit=0.05)
    assert world.now == pytest.approx(50_000_000, abs=1_000_000)
    assert (got.calls, len(got.warmup)) == (1, 5)
    assert len(got.seconds) == pytest.approx(44, abs=1)
    assert sorted(got.seconds)[-2:] == [0.001, 0.002]
    assert got.cpu_seconds == got.seconds


def test_turns_rise_from_the_first_given_and_never_repeat() -> None:
    """Warm-up calls and repetitions share one count, which the next visit goes on from."""
    world = World()
    first = visit(world.probe(lambda turn: 1e-6), CASE, world.clock, limit=0.01, turn=7)
    second = visit(world.probe(lambda turn: 1e-6), CASE, world.clock, limit=0.01, turn=first.turn, calls=first.calls)
    assert world.turns == list(range(7, second.turn))


def test_a_short_call_is_repeated_until_the_clock_can_tell_it() -> None:
    """A repetition of calls of 100 ns lasts 20 µs at least, and not ten times as long."""
    world = World()
    got = visit(world.probe(lambda turn: 1e-7), CASE, world.clock, limit=0.01)
    assert 20e-6 <= got.calls * 1e-7 <= 200e-6
    assert set(got.seconds) == {1e-7}


def test_a_paced_call_is_timed_alone_after_a_rest() -> None:
    """However short it is; the rest is no part of its time."""
    world = World()
    got = visit(world.probe(lambda turn: 1e-6, pace=0.001), CASE, world.clock, limit=0.02)
    assert got.calls == 1
    assert set(got.seconds) == {1e-6}
    assert world.rests == [0.001] * len(world.turns)


def test_warm_up_lasts_until_the_time_settles() -> None:
    """Twelve calls that fall towards 1 ms are recorded, and none of them counts."""
    world = World()
    got = visit(world.probe(lambda turn: 0.001 * max(1, 12 - turn)), CASE, world.clock, limit=1)
    assert got.warmup[0] == pytest.approx(0.012)
    assert set(got.seconds) == {0.001}
    assert len(got.warmup) > 12


def test_a_slow_case_is_measured_once_whatever_the_limit() -> None:
    """One call to warm up, one that counts."""
    world = World()
    got = visit(world.probe(lambda turn: 5.0, setup=2.0), CASE, world.clock, limit=0.1)
    assert (got.setup, got.warmup, got.seconds) == (2.0, (5.0,), (5.0,))


def test_a_long_setup_leaves_time_to_use_it() -> None:
    """A quarter of the limit is for calls, however long it took to get ready."""
    world = World()
    got = visit(world.probe(lambda turn: 0.001, setup=1.0), CASE, world.clock, limit=0.4)
    assert len(got.warmup) + len(got.seconds) == pytest.approx(100, abs=1)


def test_a_call_that_times_itself_is_believed() -> None:
    """The float it returns is the time, of one call each, without CPU time."""
    world = World()

    def call(turn: int) -> float:
        world.work(0.001)
        return 3e-6

    got = visit(Probe("gemm", {}, (CASE,), lambda case: nullcontext(call)), CASE, world.clock, limit=0.02)
    assert (set(got.seconds), got.calls, got.cpu_seconds) == ({3e-6}, 1, ())


def test_cpu_time_leaves_out_what_the_thread_waited() -> None:
    """A call that rests 3 ms of its 4 computes for 1."""
    world = World()

    def call(turn: int) -> None:
        world.work(0.001)
        world.rest(0.003)

    got = visit(Probe("gemm", {}, (CASE,), lambda case: nullcontext(call)), CASE, world.clock, limit=0.1)
    assert (set(got.seconds), set(got.cpu_seconds)) == ({0.004}, {0.001})


class Events:
    """Stands for `torch.cuda`: notes what is asked of it; events are 2 ms apart."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def synchronize(self) -> None:
        """Wait for the device."""
        self.log.append("synchronize")

    def _sleep(self, cycles: int) -> None:
        assert cycles > 0
        self.log.append("sleep")

    def Event(self, enable_timing: bool) -> "Events":  # noqa: N802  # torch's name
        """Make an event."""
        assert enable_timing
        return self

    def record(self) -> None:
        """Queue the event."""
        self.log.append("event")

    def elapsed_time(self, end: "Events") -> float:
        """Return milliseconds."""
        return 2.0


def test_device_time_lies_between_events_queued_while_the_device_is_busy() -> None:
    """Wait, keep busy, event, calls, event, wait: the host's gaps stay out of it."""
    world, cuda = World(), Events()
    timed = CudaClock(cuda, world.clock).time(lambda turn: cuda.log.append(f"call {turn}"), range(3, 5))
    assert cuda.log == ["synchronize", "sleep", "event", "call 3", "call 4", "event", "synchronize"]
    assert (timed.seconds, timed.cpu) == (0.002, None)


def test_a_probe_of_the_device_is_timed_by_the_host_where_that_is_the_device() -> None:
    """On a CPU both kinds of probe share one clock."""
    world = World()
    probe = Probe("gemm", {}, (CASE,), lambda case: nullcontext(lambda turn: None), clock="device")
    clock = world.clock
    assert clock_of(probe, "cpu", clock) is clock


@pytest.mark.parametrize("count", [6, 25, 100])
def test_the_interval_covers_the_median(count: int) -> None:
    """Of 400 skewed samples, at least 95 % hold the true median, less three standard errors (1.1 % each)."""
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(400):
        got = sample(CASE, visits_of(rng.lognormal(0, 0.3, count).tolist()))
        held += got.low <= 1 <= got.high
    assert held / 400 >= 0.95 - 0.033


def test_too_few_repetitions_are_given_with_their_range_and_a_doubt() -> None:
    """Five cannot bound a median with 95 %: 2 × 0.5^5 is 6 %."""
    got = sample(CASE, visits_of([3.0, 1.0, 2.0], [2.0, 2.0]))
    assert (got.median, got.low, got.high, got.verdict) == (2.0, 1.0, 3.0, "unstable")
    assert "5 repetitions cannot bound" in got.doubts[0]
    assert sample(CASE, visits_of([2.0] * 6)).verdict == "stable"


def test_even_repetitions_are_stable() -> None:
    """One visit like the other, 1 % of spread: no doubt; speed stands beside each repetition."""
    rng = np.random.default_rng(3)
    got = sample(CASE, visits_of(*(rng.normal(1, 0.01, 40).tolist() for _ in range(3))), speed=[1.0, 0.5, 2.0])
    assert (got.verdict, got.doubts, len(got.seconds)) == ("stable", (), 120)
    assert got.speed == (1.0,) * 40 + (0.5,) * 40 + (2.0,) * 40


@pytest.mark.parametrize(
    ("shape", "doubt"),
    [
        (lambda rng: rng.normal(1, 0.01, 99) * np.linspace(1, 1.3, 99), "rose by"),
        (lambda rng: rng.normal(1, 0.01, 99) * np.linspace(1.3, 1, 99), "fell by"),
        (lambda rng: rng.normal(1, 0.01, 99) * np.where(rng.random(99) < 0.4, 1.5, 1), "two modes"),
        (lambda rng: rng.lognormal(0, 1, 30), "known within"),
        (lambda rng: rng.normal(1, 0.01, 99) * np.repeat([1, 1.2, 1], 33), "visits differ by up to 20%"),
    ],
)
def test_what_is_uneven_is_said(shape: Callable[[np.random.Generator], np.ndarray], doubt: str) -> None:
    """Drift, two modes, width, and visits that disagree make a case unstable, with what was seen and what to do."""
    values = shape(np.random.default_rng(5)).tolist()
    third = len(values) // 3
    got = sample(CASE, visits_of(values[:third], values[third : 2 * third], values[2 * third :]))
    assert got.verdict == "unstable"
    assert any(doubt in one and "; " in one for one in got.doubts)
    assert got.seconds == tuple(values)


def test_visits_that_disagree_widen_the_interval() -> None:
    """Hundreds of repetitions say nothing of how the next visit differs: few visits give their range, many an interval."""
    rng = np.random.default_rng(6)
    levels = [1.0, 1.5, 1.0, 1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    groups = [rng.normal(level, 0.001, 100).tolist() for level in levels]
    few, many = sample(CASE, visits_of(*groups[:3])), sample(CASE, visits_of(*groups))
    assert few.high == max(np.median(group) for group in groups[:3])
    assert "3 visits are too few to bound the median" in few.doubts[0]
    assert 1 <= many.high < 1.01
    assert interval(groups[:3]).width == float("inf")
    assert interval(groups[2:4]).width < 0.001


def test_a_computing_call_that_waits_for_a_core_is_told() -> None:
    """Half a core makes it unstable; a call that may wait is believed."""
    half = [Visit((0.01,) * 20, (0.005,) * 20, (), 1, 0, 0.0)]
    assert "had a core for 50% of their time" in sample(CASE, half, computes=True).doubts[0]
    assert sample(CASE, half).doubts == ()


def test_points_group_the_samples_by_law() -> None:
    """One array element a case, with its interval and its ratios; doubts name the first of the unstable."""
    rows = [("bf16", 1.0, 2e-3), ("fp32", 1.0, 3e-3), ("bf16", 4.0, 8e-3), ("bf16", 8.0, 0.0)]
    samples = [
        Sample(
            Case("norm", {"dtype": dtype}, {"tokens": tokens}),
            (seconds, 2 * seconds),
            median=seconds,
            low=seconds / 2,
            high=seconds * 3,
            doubts=("it shakes; hold it",) if tokens == 4 else (),
        )
        for dtype, tokens, seconds in rows
    ]
    first, second = points(samples)
    assert (first.law, second.law, len(first), len(second)) == ("norm[dtype=bf16]", "norm[dtype=fp32]", 2, 1)
    assert first.sizes["tokens"].tolist() == [1, 4]
    assert first.seconds.tolist() == [2e-3, 8e-3]
    assert first.low is not None
    assert first.high is not None
    assert (first.low.tolist(), first.high.tolist()) == ([1e-3, 4e-3], pytest.approx([6e-3, 24e-3]))
    assert [ratio.tolist() for ratio in first.ratios] == [[1, 2], [1, 2]]
    assert first.doubts == (
        "1 of 3 cases took no time by the clock; their law goes without",
        "1 of 2 cases is unstable; norm[dtype=bf16] tokens=4: it shakes; hold it",
    )
    assert second.doubts == ()


EVEN: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(1, 0.1, n),
    "uniform": lambda rng, n: rng.uniform(0.5, 1.5, n),
    "skewed": lambda rng, n: rng.lognormal(0, 0.5, n),
    "shifted exponential": lambda rng, n: 1 + rng.exponential(0.2, n),
    "with outliers": lambda rng, n: rng.normal(1, 0.03, n) * np.where(rng.random(n) < 0.05, 3, 1),
}


@pytest.mark.parametrize("law", EVEN)
def test_one_mode_is_seldom_taken_for_two_or_for_drift(law: str) -> None:
    """Of 200 even samples of 50, at most 6 % alarm: 2 % seen in 1000, and three standard errors."""
    rng = np.random.default_rng(11)
    drawn = [EVEN[law](rng, 50).tolist() for _ in range(200)]
    assert sum(modes(values) is not None for values in drawn) <= 12
    assert sum(drift(values) != 0 for values in drawn) <= 4


def test_two_modes_are_found_with_their_places() -> None:
    """A third at 1.5 and the rest at 1, each known to the spread of its mode."""
    rng = np.random.default_rng(12)
    found = modes((rng.normal(1, 0.03, 300) * np.where(np.arange(300) % 3 == 0, 1.5, 1)).tolist())
    assert found is not None
    assert (found.low, found.high, found.share) == pytest.approx((1, 1.5, 1 / 3), abs=0.02)


def test_a_change_that_no_fit_would_notice_is_no_drift() -> None:
    """A rise that is certain, and smaller than what is relevant."""
    values = np.linspace(1, 1 + RELEVANT, 100).tolist()
    assert drift(values) == 0
    assert drift(np.linspace(1, 1 + 3 * RELEVANT, 100).tolist()) == pytest.approx(2 * RELEVANT, rel=0.1)
    assert drift([1.0] * 100) == 0


def test_the_sensor_reads_the_median_of_three() -> None:
    """One disturbed spin does not move it; its CPU time stands beside it."""
    world, times = World(), iter([1e-4, 9e-4, 2e-4])
    sensor = Sensor(lambda: world.work(next(times)), lambda: world.now, lambda: world.busy // 2)
    read = sensor.read()
    assert (read.wall, read.cpu) == pytest.approx((2e-4, 1e-4))


def test_stolen_ticks_are_read_where_the_system_tells_them(tmp_path: Path) -> None:
    """The eighth number of the first line; zeros for what is no such file."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 0 20 60 5 0 1 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    assert stolen_ticks(stat) == (4, 100)
    stat.write_text("nothing of the kind\n")
    assert stolen_ticks(stat) == (0, 0)
    assert stolen_ticks(tmp_path / "absent") == (0, 0)


def test_real_clocks_time_a_real_call() -> None:
    """On this machine a visit gives positive times that its interval holds."""
    prepare: Callable[[Case], AbstractContextManager[Call]] = lambda case: nullcontext(lambda turn: None)  # noqa: E731
    got = visit(Probe("gemm", {}, (CASE,), prepare), CASE, HostClock(), limit=0.01)
    one = sample(CASE, [got])
    assert 0 < one.low <= one.median <= one.high
    assert one.calls > 1


def test_cuda_events_time_a_real_kernel() -> None:
    """A matrix product of 2 × 2048³ operations takes from 1 µs to 1 s on any device."""
    torch = pytest.importorskip("torch", reason="the device's clock needs torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    left = torch.ones(2048, 2048, device="cuda")

    def call(turn: int) -> None:
        left @ left

    probe = Probe("gemm", {}, (CASE,), lambda case: nullcontext(call), clock="device")
    got = visit(probe, CASE, clock_of(probe, "cuda", HostClock()), limit=0.1)
    assert 1e-6 < min(got.seconds) <= max(got.seconds) < 1
