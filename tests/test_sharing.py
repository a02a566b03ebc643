"""Processor sharing whose speed depends on the number of jobs and on the time, driven by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.sim.engine.branch import Wait
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.sharing import Sharing, Speed
from coordsim.sim.engine.simulation import Simulation

FACTORS = st.lists(st.floats(0.1, 3.0), min_size=1, max_size=6)
TIMES = st.floats(0.0, 1e4)


@given(FACTORS, st.floats(1e-3, 10.0), TIMES)
def test_when_is_the_inverse_of_work(factors: list[float], every: float, time: float) -> None:
    """The time by which the work of a time is done is that time."""
    speed = Speed(every, factors)
    assert speed.when(speed.work(time)) == pytest.approx(time, rel=1e-9, abs=1e-9)


@given(FACTORS, st.floats(1e-3, 10.0), st.integers(1, 50))
def test_a_speed_keeps_its_mean_when_it_is_repeated(factors: list[float], every: float, rounds: int) -> None:
    """The work of whole rounds is the mean of the factors times their length."""
    speed = Speed(every, factors)
    assert speed.work(rounds * speed.period) == pytest.approx(float(np.mean(factors)) * rounds * speed.period, rel=1e-9)
    assert speed.mean == pytest.approx(float(np.mean(factors)))


def test_work_is_the_integral_of_speed() -> None:
    """At 1, 0.5 and 2 for a second each: 3.5 s of work in 3 s, and the next round begins with 1."""
    speed = Speed(1.0, [1, 0.5, 2])
    assert [speed.work(time) for time in (0.0, 0.5, 1.5, 2.5, 3.0, 3.25)] == [0.0, 0.5, 1.25, 2.5, 3.5, 3.75]
    assert [speed.at(time) for time in (0.0, 1.0, 2.9, 3.0)] == [1, 0.5, 2, 1]


class World:
    """A shared resource, and when its jobs ended."""

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing
        self.sim = sharing.sim
        self.ends: dict[str, float] = {}

    def job(self, name: str, at: float, work: float) -> Wait:
        """Begin a job at a time."""
        wait = Wait(lambda _event: self.ends.update({name: self.sim.now}))
        self.sharing.use(wait, at, work)
        return wait


def test_jobs_end_when_their_slowdown_says() -> None:
    """Three jobs of 1, 2 and 3 s of work at slowdowns 1, 1.05, 1.9: 1.9, then 1.05 more, then 1 more."""
    factors = (1.0, 1.05, 1.9)
    sim = Simulation()
    world = World(Sharing(sim, "cpu", slowdown=lambda jobs: factors[jobs - 1], servers=2))
    for name, work in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        world.job(name, 0.0, work)
    sim.run()
    assert world.ends == pytest.approx({"a": 1.9, "b": 2.95, "c": 3.95})
    assert world.sharing.totals(sim.now)[:3] == pytest.approx((2 * 2.95 + 1.0, 3 * 1.9 + 2 * 1.05 + 1.0, 3))


def test_a_job_that_is_broken_off_leaves_its_share() -> None:
    """One of two equal jobs goes at 1 s, when half a second of each is done; the other then runs alone."""
    sim = Simulation()
    world = World(Sharing(sim, "cpu"))
    kept, gone = world.job("kept", 0.0, 2.0), world.job("gone", 0.0, 2.0)
    sim.run(until=1.0)
    gone.holder.cancel(gone)
    assert gone.service == pytest.approx(1.5)
    sim.run()
    assert world.ends == pytest.approx({"kept": 2.5})
    assert kept.ended == pytest.approx(2.5)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 5)), min_size=1, max_size=8),
    FACTORS,
    st.floats(0.05, 3.0),
)
def test_the_work_done_is_the_integral_of_speed(
    jobs: list[tuple[float, float]], factors: list[float], every: float
) -> None:
    """Of equal shares, all work is done at the speed of the time, whenever there is any."""
    sim, speed = Simulation(), Speed(every, factors)
    world = World(Sharing(sim, "cpu", speed=speed))
    for number, (at, work) in enumerate(jobs):
        world.job(str(number), at, work)
    sim.run()
    done = end = 0.0
    for at, work in sorted(jobs):  # as one server that is never idle when there is work
        start = max(at, end)
        end = speed.when(speed.work(start) + work)
        done += speed.work(end) - speed.work(start)
    assert max(world.ends.values()) == pytest.approx(end, rel=1e-6, abs=1e-6)
    assert done == pytest.approx(sum(work for _, work in jobs), rel=1e-6)


def test_a_job_gives_its_place_back_at_its_end_or_when_it_is_broken_off() -> None:
    """A pool of one place, held by a job on the shared resource."""
    for cut in (False, True):
        sim = Simulation()
        sharing, pool = Sharing(sim, "cpu"), Pool(sim, "pool", 1)
        wait = Wait(lambda _event: None)
        pool.take(wait, 0.0)
        sim.run()
        sharing.keep(wait, 2.0, pool)
        sim.run(until=1.0)
        assert (pool.busy, sharing.present) == (1, 1)
        if cut:
            wait.holder.cancel(wait)
        else:
            sim.run()
        assert (pool.busy, sharing.present, sim.now) == (0, 0, 1.0 if cut else 2.0)
