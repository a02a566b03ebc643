"""A session: order, budget, record, interruption, failures, and what it says of the machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from coordsim.calibration import environment as machine
from coordsim.calibration.measure import HostClock
from coordsim.calibration.probe import Call, Case, Found, Missing, Probe
from coordsim.calibration.samples import Sample
from coordsim.calibration.session import Instruments, Interrupted, Progress, Session, calibrate
from coordsim.calibration.speed import Sensor
from coordsim.sim.engine.errors import ProfileError

Law = Callable[[float, int], float]
HERE = {"cpu": "a processor", "cores": "2", "python": "3.11", "load": "0.1"}


def even(size: float, turn: int) -> float:
    """Return `size` ms, and up to 1 % more by turn."""
    return size * 1e-3 * (1 + 0.01 * ((turn * 7919) % 101) / 101)


def noisy(size: float, turn: int) -> float:
    """Return `size` ms on the median, and from half to twice of it by turn."""
    return float(size * 1e-3 * 2 ** (2 * ((turn * 7919) % 1009) / 1009 - 1))


@dataclass
class Bench:
    """A world of cases: time passes when they are called; what was visited and which turns were given is kept."""

    law: Law = even
    sizes: tuple[float, ...] = (1, 2, 3, 4, 5)
    setup: float = 0.0
    spin: Callable[[float], float] = lambda now: 2e-4
    ticks: tuple[int, int] = (0, 0)
    here: dict[str, str] = field(default_factory=lambda: dict(HERE))
    stop_at: int = -1
    now: int = 0
    visits: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)

    def work(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * 1e9)

    @contextmanager
    def prepare(self, case: Case) -> Iterator[Call]:
        """Get a case ready; the visit numbered `stop_at` is interrupted in the middle."""
        size = case.sizes["tokens"]
        self.visits.append(size)
        self.work(self.setup)
        first = len(self.turns)

        def call(turn: int) -> None:
            if len(self.visits) == self.stop_at and len(self.turns) > first + 3:
                raise KeyboardInterrupt
            self.turns.append(turn)
            self.work(self.law(size, turn))

        yield call

    @property
    def instruments(self) -> Instruments:
        """What measures in this world."""
        wall = lambda: self.now  # noqa: E731
        sensor = Sensor(lambda: self.work(self.spin(self.now * 1e-9)), wall, wall)
        count = iter(range(10**6))

        def ticks() -> tuple[int, int]:
            times = next(count)
            return self.ticks[0] * times, self.ticks[1] * times

        return Instruments(HostClock(wall, wall, self.work), sensor, ticks, lambda device: self.here)

    def found(self) -> Found:
        """Return the probe of all sizes."""
        cases = tuple(Case("norm", {"dtype": "fp32"}, {"tokens": size}) for size in self.sizes)
        return Found((Probe("norm", {"dtype": "fp32"}, cases, self.prepare),))

    def run(self, budget: float = 10, seed: int = 1, record: Path | None = None) -> Session:
        """Measure."""
        return calibrate(
            self.found(),
            budget_seconds=budget,
            seed=seed,
            record=record,
            progress=self.told.append,
            instruments=self.instruments,
        )


def size_of(one: Sample) -> float:
    """Return the size of a sample's case."""
    return one.case.sizes["tokens"]


def test_each_round_has_a_shuffled_order_of_its_own_fixed_by_the_seed() -> None:
    """Three rounds visit each case once; the orders differ from each other and with the seed, and come again with it."""
    one, again, other = (
        Bench(sizes=tuple(range(1, 13))),
        Bench(sizes=tuple(range(1, 13))),
        Bench(sizes=tuple(range(1, 13))),
    )
    one.run(), again.run(), other.run(seed=2)
    rounds = [one.visits[start : start + 12] for start in (0, 12, 24)]
    assert [sorted(visited) for visited in rounds] == [list(range(1, 13))] * 3
    assert len({tuple(visited) for visited in rounds}) == 3
    assert one.visits == again.visits
    assert one.visits != other.visits


def test_turns_never_repeat_over_a_session() -> None:
    """They count every call of every case."""
    bench = Bench()
    bench.run()
    assert bench.turns == list(range(len(bench.turns)))


def test_a_session_ends_early_when_all_is_known() -> None:
    """Even cases take three visits each, less than the budget, and none is in doubt; the order is the one asked for."""
    bench = Bench()
    session = bench.run(budget=60)
    assert len(bench.visits) == 15
    assert bench.now < 30e9
    assert [size_of(one) for one in session.samples] == [1, 2, 3, 4, 5]
    assert (session.doubts, {one.verdict for one in session.samples}) == ((), {"stable"})
    assert [one.low <= size_of(one) * 1.005e-3 <= one.high for one in session.samples] == [True] * 5


def test_what_is_left_of_the_budget_goes_to_the_widest() -> None:
    """Beside four even cases, one noisy case gets all visits after the third round, within the budget."""
    bench = Bench(law=lambda size, turn: noisy(size, turn) if size == 3 else even(size, turn))
    session = bench.run(budget=20)
    assert set(bench.visits[15:]) == {3}
    assert len(bench.visits) > 16
    assert bench.now <= 20.4e9
    assert max(len(one.seconds) for one in session.samples) == len(session.samples[2].seconds)


def test_a_case_whose_visits_disagree_is_visited_until_that_is_bounded() -> None:
    """Size 3 takes twice as long in every third visit: after three, its range is no interval; after more, it is."""

    def law(size: float, turn: int) -> float:
        slow = size == 3 and bench.visits.count(3) % 3 == 0
        return even(size, turn) * (2 if slow else 1)

    bench = Bench(law=law)
    one = bench.run(budget=60).samples[2]
    assert bench.visits.count(3) > 6
    assert [bench.visits.count(size) for size in (1, 2, 4, 5)] == [3, 3, 3, 3]
    assert one.low <= 3.015e-3 <= one.high
    assert one.high < 3.1e-3
    assert "visits differ by up to 100%" in one.doubts[0]


def test_the_budget_is_kept() -> None:
    """Twenty noisy cases with a costly setup end within 2 % of it."""
    bench = Bench(law=noisy, sizes=tuple(range(1, 21)), setup=0.02)
    session = bench.run(budget=8)
    assert 7 <= bench.now * 1e-9 <= 8 * 1.02
    assert len(session.samples) == 20
    assert any("is not known within ±2%" in doubt and "--budget" in doubt for doubt in session.doubts)


def test_a_slow_case_does_not_eat_the_budget() -> None:
    """A call of 1 s beside four of a few ms is made twice in the first round; the others are as well known as without."""
    bench = Bench(law=lambda size, turn: 1.0 if size == 3 else even(size, turn))
    session = bench.run(budget=10)
    assert bench.now * 1e-9 <= 10.2
    assert all(one.verdict == "stable" for one in session.samples if size_of(one) != 3)


def test_a_budget_too_small_still_visits_every_case_once_and_says_by_how_much() -> None:
    """Five cases of 1 s a call, in 1 s: two calls each make 10 s, 9 s too many."""
    bench = Bench(law=lambda size, turn: 1.0)
    session = bench.run(budget=1)
    assert sorted(bench.visits) == [1, 2, 3, 4, 5]
    assert len(session.samples) == 5
    assert any("9.01 s more than its budget of 1 s" in doubt for doubt in session.doubts)
    assert all("1 repetition cannot bound" in one.doubts[0] for one in session.samples)


def test_progress_tells_case_count_and_time() -> None:
    """Elapsed time rises, cases get done, the time left falls to 0, and the widest interval ends under the target."""
    bench = Bench()
    bench.run(budget=60)
    first, last = bench.told[0], bench.told[-1]
    assert (first.done, first.total, first.widest, first.round) == (0, 5, float("inf"), 1)
    assert first.case.startswith("norm[dtype=fp32] tokens=")
    assert (last.done, last.total, last.eta, last.case) == (5, 5, 0, "")
    assert last.widest <= 0.02
    assert [one.elapsed for one in bench.told] == sorted(one.elapsed for one in bench.told)


def test_an_interrupted_session_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Stopped in the middle of its ninth visit, and gone on with, it has the samples of an uninterrupted one."""
    whole = Bench(law=noisy).run()
    first, second = Bench(law=noisy, stop_at=9), Bench(law=noisy)
    with pytest.raises(Interrupted, match=r"interrupted; 5 cases were measured; go on with --resume") as caught:
        first.run(record=tmp_path / "record")
    assert len(caught.value.session.samples) == 5
    resumed = second.run(record=tmp_path / "record")
    assert resumed == whole
    assert len(first.visits) - 1 + len(second.visits) == len((tmp_path / "record").read_text().splitlines()) - 1


def test_a_record_does_not_change_what_is_measured(tmp_path: Path) -> None:
    """With and without one the samples are the same, and reading it back gives them without another visit."""
    path = tmp_path / "new" / "record"
    bench = Bench(law=noisy)
    session = bench.run(record=path)
    assert session == Bench(law=noisy).run()
    again = Bench(law=noisy)
    assert again.run(record=path) == session
    assert again.visits == []


def test_more_budget_goes_on_from_a_record(tmp_path: Path) -> None:
    """What a small budget left wide becomes known better."""
    small = Bench(law=noisy).run(budget=2, record=tmp_path / "record")
    large = Bench(law=noisy).run(budget=12, record=tmp_path / "record")
    for before, after in zip(small.samples, large.samples, strict=True):
        assert after.seconds[: len(before.seconds)] == before.seconds
        assert (after.high - after.low) / after.median < (before.high - before.low) / before.median


def test_an_interruption_without_a_record_says_how_to_keep_one() -> None:
    """What was done until then is there all the same."""
    with pytest.raises(Interrupted, match=r"they were not recorded") as caught:
        Bench(stop_at=3).run()
    assert len(caught.value.session.samples) == 2
    assert any("3 of 5 cases were not measured" in doubt for doubt in caught.value.session.doubts)


def test_a_line_cut_off_is_measured_again(tmp_path: Path) -> None:
    """A doubt tells of it, the samples are those of an undisturbed session, and the record is whole again."""
    path = tmp_path / "record"
    whole = Bench(law=noisy).run(record=path)
    text = path.read_text()
    path.write_text(text[:-40])
    mended = Bench(law=noisy).run(record=path)
    assert mended.samples == whole.samples
    assert f"line {len(text.splitlines())} of the record was cut off" in mended.doubts[0]
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "{", "3  must be a visit, as one JSON object; got '{'; restore the file"),
        (3, '{"round": 1, "law": "norm", "sizes": {}, "spent": -1, "turn": 0}', "3  must be a visit"),
        (3, '{"round": 1, "law": "norm", "sizes": {}, "spent": 1, "turn": 0, "seconds": [NaN]}', "3  must be a visit"),
        (
            1,
            "a,b,c",
            "1  must be the header of a record; got 'a,b,c'; move the file away, or start anew with --overwrite",
        ),
    ],
)
def test_a_damaged_record_is_an_error_with_its_line(tmp_path: Path, line: int, text: str, message: str) -> None:
    """And nothing is measured, nor is the file changed."""
    path, bench = tmp_path / "record", Bench()
    Bench().run(record=path)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ProfileError) as caught:
        bench.run(record=path)
    assert message in str(caught.value)
    assert bench.visits == []
    assert path.read_text().splitlines() == lines


def test_a_file_of_something_else_is_not_taken_for_a_record(tmp_path: Path) -> None:
    """Even one line without an end is left as it is."""
    path = tmp_path / "notes"
    path.write_text("my notes")
    with pytest.raises(ProfileError, match="must be the header of a record"):
        Bench().run(record=path)
    assert path.read_text() == "my notes"


def test_a_record_in_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A folder is none."""
    with pytest.raises(ProfileError, match="cannot be read or written"):
        Bench().run(record=tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"coordsim_record": 2}, "`coordsim_record` must be 1, the version of the format; got 2"),
        ({"seed": 5}, "must have the seed 1; got 5; give --seed 5"),
    ],
)
def test_a_record_of_another_session_is_refused(tmp_path: Path, header: dict[str, int], message: str) -> None:
    """By its format and its seed."""
    path = tmp_path / "record"
    Bench().run(record=path)
    first, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(first), **header}) + "\n" + rest)
    with pytest.raises(ProfileError) as caught:
        Bench().run(record=path)
    assert message in str(caught.value)


def test_unlike_machines_are_not_pooled(tmp_path: Path) -> None:
    """Another Python is refused and named; another load is not."""
    path = tmp_path / "record"
    Bench().run(record=path)
    Bench(here={**HERE, "load": "3.5"}).run(record=path)
    with pytest.raises(ProfileError, match=r"must be of this machine.*python was 3\.11 and is 3\.12; move the file"):
        Bench(here={**HERE, "python": "3.12"}).run(record=path)


def test_a_failing_probe_ends_its_case_and_not_the_session(tmp_path: Path) -> None:
    """One case that raises is told with the reason and tried once; the others are measured, now and from the record."""

    def law(size: float, turn: int) -> float:
        if size == 4:
            raise RuntimeError("out of memory")
        return even(size, turn)

    bench = Bench(law=law)
    session = bench.run(record=tmp_path / "record")
    assert [size_of(one) for one in session.samples] == [1, 2, 3, 5]
    assert bench.visits.count(4) == 1
    assert session.missing == ()
    (doubt,) = session.doubts
    assert doubt.startswith("1 of 5 cases of `norm[dtype=fp32]` failed, and their law goes without; ")
    assert doubt.endswith("norm[dtype=fp32] tokens=4: RuntimeError: out of memory")
    assert Bench(law=law).run(record=tmp_path / "record") == session


def test_a_law_whose_cases_all_fail_is_missing() -> None:
    """With its reason, beside what was missing from the start."""

    def law(size: float, turn: int) -> float:
        raise RuntimeError("no such kernel")

    bench = Bench(law=law)
    lost = Missing("all_reduce[ranks=2]", "there is one device")
    session = calibrate(bench.found() + Found((), (lost,)), budget_seconds=1, instruments=bench.instruments)
    assert session.samples == []
    assert session.missing == (lost, Missing("norm[dtype=fp32]", "RuntimeError: no such kernel"))


def test_a_session_of_nothing_is_empty() -> None:
    """No probes, no samples, no doubts."""
    session = calibrate(Found(()), budget_seconds=1, instruments=Bench().instruments)
    assert (session.samples, session.doubts) == ([], ())


def test_a_case_belongs_to_one_probe() -> None:
    """Two that measure it would be pooled."""
    bench = Bench()
    with pytest.raises(ValueError, match="each case must have one probe"):
        calibrate(bench.found() + bench.found(), budget_seconds=1, instruments=bench.instruments)
    with pytest.raises(ValueError, match="must be > 0, but got 0"):
        bench.run(budget=0)


@pytest.mark.parametrize(
    ("bench", "doubt"),
    [
        (Bench(spin=lambda now: 2e-4 * (1 + now / 10)), "slower over the session"),
        (Bench(spin=lambda now: 2e-4 * (1.5 if int(now * 50) % 2 else 1)), "two speeds"),
        (Bench(ticks=(5, 100)), "5.0% of the CPU time went to other guests"),
    ],
)
def test_a_machine_that_runs_unevenly_is_told(bench: Bench, doubt: str) -> None:
    """Slowing down, two speeds, and time stolen: what was seen, and what to do."""
    bench.sizes = tuple(range(1, 31))
    session = bench.run()
    assert any(doubt in one and "; " in one for one in session.doubts)


def test_speed_stands_beside_each_repetition() -> None:
    """Where the sensor takes twice as long, the speed is half."""
    bench = Bench(spin=lambda now: 2e-4 if now < 1 else 4e-4)
    session = bench.run()
    speeds = {round(value, 2) for one in session.samples for value in one.speed}
    assert {len(one.speed) - len(one.seconds) for one in session.samples} == {0}
    assert min(speeds) == pytest.approx(max(speeds) / 2, rel=0.01)


@pytest.mark.slow  # torch is imported for its version
def test_the_environment_tells_the_machine_and_not_whose_it_is() -> None:
    """Texts without blank ones, and no name of host or user, nor a path."""
    import getpass
    import platform

    found = machine.environment("cpu")
    assert {"device", "cpu", "cores", "cache", "system", "python", "numpy"} <= found.keys()
    assert all(found.values())
    told = " ".join(found.values()).split()
    assert platform.node() not in told
    assert getpass.getuser() not in told
    assert not any(word.startswith("/") for word in told)


def test_a_fingerprint_changes_with_what_matters() -> None:
    """Versions and processors count, the load does not."""
    own = machine.fingerprint(HERE)
    assert machine.fingerprint({**HERE, "load": "9"}) == own
    assert machine.fingerprint({**HERE, "torch": "2.0"}) != own
    assert machine.fingerprint({**HERE, "cores": "4"}) != own


def test_the_last_cache_is_the_one_of_the_highest_level(tmp_path: Path) -> None:
    """As Linux tells it; a fallback where there is nothing to read."""
    for index, (level, size) in enumerate([("1", "32K"), ("3", "16M"), ("2", "1024K")]):
        folder = tmp_path / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(f"{size}\n")
    assert machine.last_level_cache(tmp_path) == 16 << 20
    assert machine.last_level_cache(tmp_path / "absent") == 32 << 20


def test_a_real_session_fits_its_budget() -> None:
    """With real clocks: eight sizes of sorting, each with positive seconds; twice the budget is never needed."""
    values = np.random.default_rng(0).random(10_000)

    @contextmanager
    def prepare(case: Case) -> Iterator[Call]:
        part = values[: int(case.sizes["tokens"])]

        def call(turn: int) -> None:
            part.copy().sort()

        yield call

    cases = tuple(Case("norm", {}, {"tokens": 10.0 * 2**power}) for power in range(8))
    session = calibrate(Found((Probe("norm", {}, cases, prepare),)), budget_seconds=0.5)
    assert len(session.samples) == 8
    assert all(0 < one.low <= one.median <= one.high for one in session.samples)
    assert {len(one.cpu_seconds) - len(one.seconds) for one in session.samples} == {0}
