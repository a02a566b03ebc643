"""Cores that are given by turns: jobs shorter than a slice queue, long ones share, and nothing is lost."""

from collections import deque
from typing import Any

import numpy as np
import pytest

from coordsim.sim.engine.branch import Wait
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.sharing import Sharing, Speed
from coordsim.sim.engine.simulation import Call, Simulation
from coordsim.sim.engine.slicing import Slicing

Jobs = list[tuple[float, float]]  # arrival and work (s)


def alone(_running: int) -> float:
    """Work is as fast beside others."""
    return 1.0


def waits(resource: Any, sim: Simulation, jobs: Jobs) -> list[Wait]:
    """Run jobs on a resource; return their waits."""
    found = []
    for at, work in jobs:
        found.append(Wait(lambda _wait: None))
        resource.use(found[-1], at, work)
    sim.run()
    return found


def run(jobs: Jobs, cores: int = 1, slice_: float = 1.0, **more: Any) -> list[Wait]:
    """Run jobs on cores that are given by turns."""
    sim = Simulation()
    return waits(Slicing(sim, "cpu", cores, slice_, more.pop("slowdown", alone), **more), sim, jobs)


def by_steps(jobs: Jobs, slice_: float) -> list[float]:
    """Return when each job ends on one core: a queue served by turns, written out."""
    coming = deque(sorted((at, number) for number, (at, _) in enumerate(jobs)))
    left = [work for _, work in jobs]
    line: deque[int] = deque()
    ends = [0.0] * len(jobs)
    now = 0.0
    while coming or line:
        if not line:
            now = max(now, coming[0][0])
        while coming and coming[0][0] <= now:
            line.append(coming.popleft()[1])
        job = line.popleft()
        # It has the core until it ends, or at the end of its turn if another waits by then.
        turn = now + slice_
        end = now + left[job]
        stop = end if end <= turn or not (line or (coming and coming[0][0] < end)) else turn
        if stop == turn and not line and coming[0][0] > turn:  # nobody waits yet: on until somebody comes
            stop = min(end, coming[0][0])
        while coming and coming[0][0] <= stop:
            line.append(coming.popleft()[1])
        left[job] -= stop - now
        now = stop
        if left[job] <= 1e-12:
            ends[job] = now
        else:
            line.append(job)
    return ends


def test_jobs_shorter_than_a_slice_are_served_one_after_the_other() -> None:
    """Three jobs of 0.4 s on one core end at 0.4, 0.8 and 1.2 s, each whole."""
    found = run([(0.0, 0.4), (0.0, 0.4), (0.0, 0.4)])
    assert [wait.started for wait in found] == pytest.approx([0.0, 0.4, 0.8])
    assert [wait.ended for wait in found] == pytest.approx([0.4, 0.8, 1.2])


def test_long_jobs_take_turns() -> None:
    """Jobs of 2.5 and 1.5 s in turns of 1 s: the short one ends after 3.5 s, the long one after 4."""
    found = run([(0.0, 2.5), (0.0, 1.5)])
    assert [wait.ended for wait in found] == pytest.approx([4.0, 3.5])


def test_a_job_alone_keeps_its_core_beyond_its_slice() -> None:
    """Who comes in the middle of a second slice gets the core at once, since the turn was over; not before the turn is."""
    assert [wait.started for wait in run([(0.0, 5.0), (1.7, 0.2)])] == pytest.approx([0.0, 1.7])
    assert [wait.started for wait in run([(0.0, 5.0), (0.3, 0.2)])] == pytest.approx([0.0, 1.0])


def test_two_cores_serve_two_jobs_and_the_third_waits() -> None:
    """The third begins when a core comes free."""
    found = run([(0.0, 0.9), (0.0, 0.5), (0.0, 0.3)], cores=2)
    assert [wait.ended for wait in found] == pytest.approx([0.9, 0.5, 0.8])


def test_random_jobs_end_when_a_queue_by_turns_written_out_says() -> None:
    """Job by job, on one core."""
    rng = np.random.default_rng(3)
    jobs = [*zip(np.cumsum(rng.exponential(1.0, 300)).tolist(), rng.exponential(0.9, 300).tolist(), strict=True)]
    assert [wait.ended for wait in run(jobs, slice_=0.25)] == pytest.approx(by_steps(jobs, 0.25), abs=1e-9)


def test_short_slices_come_near_to_sharing() -> None:
    """With slices of a thousandth of a job all end when processor sharing has them end."""
    rng = np.random.default_rng(5)
    jobs = [*zip(np.cumsum(rng.exponential(1.0, 60)).tolist(), rng.exponential(0.8, 60).tolist(), strict=True)]
    sim = Simulation()
    shared = waits(Sharing(sim, "cpu"), sim, jobs)
    assert [wait.ended for wait in run(jobs, slice_=1e-3)] == pytest.approx([w.ended for w in shared], abs=0.05)


def test_no_work_is_lost_whatever_the_slice() -> None:
    """The core is busy for as long as the jobs take, and idle only when there are none: it ends at the same time."""
    rng = np.random.default_rng(7)
    jobs = [*zip(np.cumsum(rng.exponential(1.0, 200)).tolist(), rng.exponential(0.9, 200).tolist(), strict=True)]
    lasts = []
    for slice_ in (0.01, 0.3, 100.0):
        sim = Simulation()
        cpu = Slicing(sim, "cpu", 1, slice_, alone)
        lasts.append(max(wait.ended for wait in waits(cpu, sim, jobs)))
        assert cpu.totals(sim.now)[0] == pytest.approx(sum(work for _, work in jobs))
        assert cpu.present == 0
    assert lasts == pytest.approx([lasts[0]] * 3)


def test_speed_and_neighbours_stretch_work() -> None:
    """At half speed, and 1.5 times slower beside another, two jobs of 1 s on two cores take 3 s."""
    found = run(
        [(0.0, 1.0), (0.0, 1.0)],
        cores=2,
        slowdown=lambda running: 1.5 if running > 1 else 1.0,
        speed=Speed(1.0, (0.5,)),
    )
    assert [wait.ended for wait in found] == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("at", [0.5, 1.5])
def test_what_is_broken_off_leaves_its_core_or_its_place_in_line(at: float) -> None:
    """Running or in line, the others go on as if it had not been; what was left of it is told."""
    sim = Simulation()
    cpu = Slicing(sim, "cpu", 1, 1.0, alone)
    first, second = Wait(lambda _wait: None), Wait(lambda _wait: None)
    cpu.use(first, 0.0, 4.0)
    cpu.use(second, 0.0, 1.0)
    sim.schedule_at(at, Call(lambda _event: cpu.cancel(first)))
    sim.run()
    done = min(at, 1.0)
    assert first.service == pytest.approx(4.0 - done)
    assert second.ended == pytest.approx(done + 1.0)
    assert cpu.present == 0


def test_a_place_of_a_pool_comes_free_with_the_job() -> None:
    """Two jobs under a pool of one: the second gets the place when the first ends."""
    sim = Simulation()
    cpu, pool = Slicing(sim, "cpu", 2, 1.0, alone), Pool(sim, "loop", 1)
    ends: list[float] = []

    def job(work: float) -> None:
        def over(_wait: Wait) -> None:
            ends.append(sim.now)

        def granted(wait: Wait) -> None:
            wait.resume = over
            cpu.keep(wait, work, pool)

        pool.take(Wait(granted), 0.0)

    for work in (0.6, 0.7):
        job(work)
    sim.run()
    assert ends == pytest.approx([0.6, 1.3])
    assert pool.busy == 0
