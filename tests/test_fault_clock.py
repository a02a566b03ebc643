"""When faults come and go: schedules told by hand, draws that nothing else moves, and availability against theory."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from coordsim.models import fault_clock
from coordsim.models.fault_clock import FaultClock, TaskClock
from coordsim.models.faults import Fault
from coordsim.sim.engine.draws import ROOT_LANE, Draws, lane
from coordsim.sim.engine.simulation import Call, Simulation

HORIZON = 200.0
# A z-score is about standard normal: 4.5 deviations leave a chance of 7e-6.
DEVIATIONS = 4.5
LOGNORMAL = {"lognormal": {"mean": "2 s", "cv": 3}}
EXPONENTIAL = {"exponential": {"mean": "2 s"}}


def fault(**written: Any) -> Fault:
    """Return a fault, of a tool that is down where nothing else is said."""
    if "evict" in written:
        return Fault.model_validate({"on": "models.llm", **written})
    return Fault.model_validate({"on": "tools.search", "down": "refuse", **written})


class Watched:
    """A clock, with all that it told: (time, whether the fault began)."""

    def __init__(
        self,
        spec: Fault,
        draws: Draws | None = None,
        name: str = "outage",
        unit: int = 0,
        then: Callable[[Watched], None] = lambda _watched: None,
    ) -> None:
        self.sim = Simulation()
        self.told: list[tuple[float, bool]] = []
        self.then = then
        self.clock = FaultClock(self.sim, draws or Draws(1), name, spec, self.begins, self.ends, unit)

    def begins(self, now: float) -> None:
        """It begins."""
        assert self.sim.now == now
        self.told.append((now, True))
        self.then(self)

    def ends(self, now: float) -> None:
        """It is over."""
        assert self.sim.now == now
        self.told.append((now, False))
        self.then(self)

    def run(self, until: float = HORIZON) -> Watched:
        """Start, and run up to a time."""
        self.clock.start()
        self.sim.run(until=until)
        return self


def told(spec: Fault, until: float = HORIZON, **more: Any) -> list[tuple[float, bool]]:
    """Return what the clock of a fault tells up to a time."""
    return Watched(spec, **more).run(until).told


def windows(*times: tuple[float, float]) -> list[tuple[float, bool]]:
    """Return what is told of windows from .. to."""
    return [turn for begins, ends in times for turn in ((begins, True), (ends, False))]


SCHEDULES: dict[str, tuple[Mapping[str, Any], list[tuple[float, bool]]]] = {
    "once": ({"at": "10 s", "for": "5 s"}, windows((10, 15))),
    "several, in any order": ({"at": ["50 s", "10 s"], "for": "5 s"}, windows((10, 15), (50, 55))),
    "from the first instant": ({"at": "0 s", "for": "5 s"}, windows((0, 5))),
    "again and again": ({"at": "10 s", "for": "5 s", "every": "80 s"}, windows((10, 15), (90, 95), (170, 175))),
    "two series": (
        {"at": ["10 s", "50 s"], "for": "5 s", "every": "100 s"},
        windows((10, 15), (50, 55), (110, 115), (150, 155)),
    ),
    "overlapping": ({"at": ["10 s", "13 s", "17 s", "40 s"], "for": "5 s"}, windows((10, 22), (40, 45))),
    "touching": ({"at": ["10 s", "15 s"], "for": "5 s"}, windows((10, 20))),
    "twice the same": ({"at": ["10 s", "10 s"], "for": "5 s"}, windows((10, 15))),
    "series that overlap": (
        {"at": ["10 s", "13 s"], "for": "5 s", "every": "100 s"},
        windows((10, 18), (110, 118)),
    ),
    "series that are never over": ({"at": ["0 s", "4 s"], "for": "5 s", "every": "8 s"}, [(0, True)]),
    "no time at all": ({"at": ["10 s", "20 s"], "for": "0 s"}, windows((10, 10), (20, 20))),
    "by chance without chance": (
        {"mtbf": {"constant": "60 s"}, "mttr": {"constant": "20 s"}},
        windows((60, 80), (140, 160)),
    ),
    "evictions": ({"at": ["10 s", "30 s"], "every": "100 s", "evict": True}, [(t, True) for t in (10, 30, 110, 130)]),
    "evictions by chance": ({"mtbf": {"constant": "60 s"}, "evict": True}, [(t, True) for t in (60, 120, 180)]),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_a_fault_comes_and_goes_as_it_is_written(case: str) -> None:
    """Every window begins once and is over once, at the very times; those that meet are one."""
    written, expected = SCHEDULES[case]
    watched = Watched(fault(**written)).run()
    assert watched.told == expected
    assert watched.clock.occurrences == sum(begins for _, begins in expected)


def test_repeats_do_not_drift() -> None:
    """The thousandth repeat is at a thousand periods, not at the sum of a thousand rounded steps."""
    times = [time for time, begins in told(fault(at="0 s", every="0.1 s", evict=True), 100.05) if begins]
    assert times == [number * 0.1 for number in range(1001)]


def test_a_fault_is_active_between_its_turns() -> None:
    """`active` and `seconds` tell at any time what the windows say."""
    watched = Watched(fault(at=["10 s", "13 s", "40 s"], **{"for": "5 s"}))
    seen = []
    for time in (5, 10, 12, 17, 18, 30, 41, 60):
        look = Call(lambda _event: seen.append((watched.clock.active, watched.clock.seconds(watched.sim.now))))
        watched.sim.schedule_at(time + 0.5, look)
    watched.run()
    expected = [(False, 0), (True, 0.5), (True, 2.5), (True, 7.5), (False, 8), (False, 8), (True, 9.5), (False, 13)]
    assert seen == expected


def test_each_occurrence_lasts_as_long_as_is_drawn_for_it() -> None:
    """With `for` a distribution, the k-th window of a series takes the draw of ordinal k."""
    spec = fault(at="5 s", every="20 s", **{"for": {"uniform": {"low": "1 s", "high": "3 s"}}})
    assert spec.for_ is not None
    stream = Draws(3).stream("faults.outage/for", spec.for_.sampler)
    expected = windows(*((5 + 20 * k, 5 + 20 * k + stream.draw(0, k)) for k in range(10)))
    assert told(spec, draws=Draws(3)) == expected


@pytest.mark.parametrize("seed", range(8))
def test_what_overlaps_is_one_occurrence_however_long_its_parts_are(seed: int) -> None:
    """The clock tells the union of all windows, those that lie within another one included."""
    spec = fault(at=[f"{time} s" for time in range(0, 300, 3)], **{"for": LOGNORMAL})
    assert spec.for_ is not None
    stream = Draws(seed).stream("faults.outage/for", spec.for_.sampler)
    parts = [(3.0 * k, 3.0 * k + stream.draw(0, 0, lane(ROOT_LANE, k, 0, 0) if k else ROOT_LANE)) for k in range(100)]
    union: list[tuple[float, float]] = []
    for begins, ends in parts:
        if union and begins <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], ends))
        else:
            union.append((begins, ends))
    assert any(second[1] < first[1] for first, second in pairwise(parts))
    assert 10 < len(union) < 100
    assert told(spec, 1e4, draws=Draws(seed)) == windows(*union)


def test_up_and_down_times_are_the_draws_of_their_streams() -> None:
    """The k-th failure comes an `mtbf` draw after the repair before it, and is over an `mttr` draw later."""
    spec = fault(mtbf="5 s", mttr=LOGNORMAL)
    assert spec.mtbf is not None
    assert spec.mttr is not None
    up = Draws(4).stream("faults.outage/mtbf", spec.mtbf.sampler)
    down = Draws(4).stream("faults.outage/mttr", spec.mttr.sampler)
    time, expected = 0.0, []
    for number in range(200):
        begins = time + up.draw(7, number)
        time = begins + down.draw(7, number)
        expected += windows((begins, time))
    assert told(spec, draws=Draws(4), unit=7) == [turn for turn in expected if turn[0] <= HORIZON]


def test_nothing_else_that_is_drawn_or_runs_moves_a_fault() -> None:
    """Other streams, other clocks and other events leave its times as they are; tasks that end do too."""
    spec = fault(mtbf="5 s", mttr=LOGNORMAL)
    alone = told(spec, draws=Draws(5))
    draws = Draws(5)
    other = draws.stream("tools.search/latency", lambda rng, n: rng.exponential(1.0, n))

    def meddle(watched: Watched) -> None:
        for task in range(300):
            other.draw(task, len(watched.told))
            draws.finish(task)
        watched.sim.schedule_at(watched.sim.now + 1.5, Call(lambda _event: None))

    watched = Watched(spec, draws, then=meddle)
    FaultClock(watched.sim, draws, "another", spec, lambda _now: None, lambda _now: None).start()
    assert len(alone) > 20
    assert watched.run().told == alone


def test_seeds_replications_names_and_replicas_have_faults_of_their_own() -> None:
    """Whoever differs in one of them fails at other times."""
    spec = fault(mtbf="5 s", mttr="2 s")
    cases: list[dict[str, Any]] = [
        {"draws": Draws(1)},
        {"draws": Draws(2)},
        {"draws": Draws(1, 1)},
        {"draws": Draws(1), "name": "other"},
        {"draws": Draws(1), "unit": 1},
    ]
    first = [told(spec, **case)[0] for case in cases]
    assert len(set(first)) == len(first)


def test_a_time_more_in_the_list_leaves_the_other_windows_alone() -> None:
    """Each `at` has draws of its own."""
    spec = {"every": "100 s", "for": {"uniform": {"low": "1 s", "high": "3 s"}}}
    few, many = told(fault(at=["10 s", "50 s"], **spec)), told(fault(at=["10 s", "50 s", "80 s"], **spec))
    assert set(few) < set(many)
    lengths = [ends[0] - begins[0] for begins, ends in zip(many[::2], many[1::2], strict=True)]
    assert len(set(lengths)) == len(lengths) == 6


def test_there_is_no_last_occurrence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the highest ordinal of a stream the clock goes on with draws that were not made before."""
    spec = fault(mtbf="5 s", mttr="2 s")
    before = told(spec)
    monkeypatch.setattr(fault_clock, "MAX_ORDINAL", 8)
    after = told(spec)
    assert after[:16] == before[:16]
    gaps = [b[0] - a[0] for a, b in pairwise(after)]
    assert len(gaps) > 40
    assert len(set(gaps)) == len(gaps)


@pytest.mark.parametrize(
    ("written", "active"),
    [
        ({"mtbf": "5 s", "mttr": "2 s"}, None),
        ({"at": "10 s", "for": "1 h"}, True),
        ({"at": "1 h", "for": "1 s"}, False),
    ],
)
def test_a_stopped_clock_leaves_no_event(written: dict[str, Any], active: bool | None) -> None:
    """The queue runs empty at the time of the stop, and no second counts from then on."""
    watched = Watched(fault(**written))
    watched.clock.start()
    watched.sim.schedule_at(60.0, Call(lambda _event: watched.clock.stop(60.0)))
    watched.sim.run()
    assert watched.sim.now == 60.0
    assert not watched.sim._queue
    if active is not None:
        assert watched.clock.active is active
    assert watched.clock.seconds(60.0) == watched.clock.seconds(1e6) <= 60.0
    watched.clock.stop(70.0)
    assert watched.clock.seconds(1e6) == watched.clock.seconds(60.0)


@pytest.mark.parametrize("turn", [1, 2, 3, 4])
def test_what_a_fault_sets_off_may_stop_its_clock(turn: int) -> None:
    """The task that it makes fail may be the last of the run."""

    def stop(watched: Watched) -> None:
        if len(watched.told) == turn:
            watched.clock.stop(watched.sim.now)

    watched = Watched(fault(mtbf="5 s", mttr="2 s"), then=stop)
    watched.clock.start()
    watched.sim.run()
    assert len(watched.told) == turn
    assert watched.sim.now == watched.told[-1][0]


def note(happened: list[int], number: int, _event: object) -> None:
    """An event happens."""
    happened.append(number)


def test_withdrawn_events_do_not_happen_and_the_others_do_in_order() -> None:
    """From any place in the queue, ties included; an event that is not there is refused."""
    rng = random.Random(7)
    for size in (1, 2, 3, 10, 100):
        sim = Simulation()
        happened: list[int] = []
        times = [float(rng.randrange(size)) for _ in range(size)]
        events = [Call(partial(note, happened, number)) for number in range(size)]
        for time, event in zip(times, events, strict=True):
            sim.schedule_at(time, event)
        out = set(rng.sample(range(size), rng.randint(1, size)))
        for number in out:
            sim.withdraw(events[number])
        with pytest.raises(ValueError, match="`event` must be in the queue"):
            sim.withdraw(events[min(out)])
        sim.run()
        assert happened == sorted(set(range(size)) - out, key=lambda number: (times[number], number))
        assert sim.now == max((times[number] for number in happened), default=0.0)


def expected_share(spec: Fault, horizon: float) -> float:
    """Return the mean share of the time from 0 to `horizon` (s) in which a fault is active that starts up.

    Up to terms that vanish faster than 1 / horizon: the transform of the renewal equation, developed at 0.
    """
    assert spec.mtbf is not None
    assert spec.mttr is not None
    up, down = spec.mtbf.mean, spec.mttr.mean
    cycle, variance = up + down, spec.mtbf.variance + spec.mttr.variance
    excess = (variance + cycle**2) / (2 * cycle) - (spec.mttr.variance + down**2) / (2 * down) - up
    return down / cycle * (1 + excess / horizon)


def shares(written: Mapping[str, Any], replications: int = 150, horizon: float = 1500.0) -> np.ndarray:
    """Return the share of time in which a fault is active, of shape (replications,)."""
    spec = fault(**written)
    runs = (Watched(spec, Draws(11, number)).run(horizon).clock for number in range(replications))
    return np.array([clock.seconds(horizon) / horizon for clock in runs])


def z_score(values: np.ndarray, expected: float) -> float:
    """Return by how many standard errors the mean of independent values is off."""
    return float((values.mean() - expected) / (values.std(ddof=1) / math.sqrt(len(values))))


@pytest.mark.parametrize("mttr", [EXPONENTIAL, LOGNORMAL], ids=["exponential", "lognormal"])
def test_availability_is_mtbf_over_mtbf_and_mttr(mttr: dict[str, Any]) -> None:
    """Whatever the shape of the repair times; and half as much of the one or the other moves it as the formula says."""
    mean = {}
    for mtbf, factor in ((5.0, 1.0), (2.5, 1.0), (7.5, 1.0), (5.0, 0.5), (5.0, 1.5)):
        (kind, parameters), *_ = mttr.items()
        written = {"mtbf": f"{mtbf} s", "mttr": {kind: {**parameters, "mean": f"{2 * factor} s"}}}
        measured = shares(written)
        assert abs(z_score(measured, expected_share(fault(**written), 1500.0))) < DEVIATIONS, written
        assert measured.mean() == pytest.approx(2 * factor / (mtbf + 2 * factor), rel=0.05)
        mean[mtbf, factor] = measured.mean()
    assert mean[2.5, 1.0] > mean[5.0, 1.0] > mean[7.5, 1.0]
    assert mean[5.0, 0.5] < mean[5.0, 1.0] < mean[5.0, 1.5]


def test_a_fault_starts_up_and_not_in_the_steady_state() -> None:
    """Shortly after 0 it is there with the probability of the two-state chain that begins up."""
    rate, repair, time = 1 / 5, 1 / 2, 1.5
    spec = fault(mtbf="5 s", mttr="2 s")
    there = np.array([Watched(spec, Draws(12, number)).run(time).clock.active for number in range(3000)], dtype=float)
    expected = rate / (rate + repair) * (1 - math.exp(-(rate + repair) * time))
    assert abs(z_score(there, expected)) < DEVIATIONS
    assert abs(z_score(there, rate / (rate + repair))) > DEVIATIONS


def test_each_task_has_crashes_of_its_own() -> None:
    """Times to crash and to repair have the means that are written, task by task, and depend on nothing else."""
    spec = fault(mtbf="100 s", mttr={"lognormal": {"mean": "10 s", "cv": 1}}, each="task")
    clock, again = TaskClock(Draws(6), "crash", spec), TaskClock(Draws(6), "crash", spec)
    places = [(task, ordinal) for task in range(1500) for ordinal in range(2)]
    up = {place: clock.next(*place) for place in places}
    down = {place: clock.repair(*place) for place in places}
    assert [again.next(*place) for place in reversed(places)] == list(reversed(up.values()))
    assert abs(z_score(np.array(list(up.values())), 100.0)) < DEVIATIONS
    assert abs(z_score(np.array(list(down.values())), 10.0)) < DEVIATIONS
    assert len(set(up.values())) == len(places)


def test_a_clock_refuses_a_fault_that_does_not_come_and_go() -> None:
    """One that is always there has no clock, and one whose cycle takes no time would never let the run go on."""
    with pytest.raises(ValueError, match="`mtbf` or `at` must say"):
        Watched(fault())
    with pytest.raises(ValueError, match="`mtbf` or `at` must say"):
        TaskClock(Draws(1), "crash", fault(at="1 s", **{"for": "1 s"}))
    with pytest.raises(ValueError, match="must be > 0, or it comes again"):
        Watched(fault(mtbf={"constant": "0 s"}, mttr={"constant": "0 s"}))
