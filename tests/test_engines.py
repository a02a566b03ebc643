"""Pools, rate limits and links, driven by themselves, against the plain queues of `queues.py` and against each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappush
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.sim.engine.branch import Wait
from coordsim.sim.engine.fifo import FifoPool
from coordsim.sim.engine.limiter import Limiter
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.sharing import Sharing
from coordsim.sim.engine.simulation import LAST, Call, Simulation

from . import queues
from .queues import Customer

BUSY, PRESENT, ARRIVALS, COMPLETIONS, REJECTIONS, WAITED = range(6)
EXAMPLES = settings(max_examples=300)


@dataclass(frozen=True)
class Job:
    """A customer of a pool: time since the one before, seconds of service, units of a rate limit."""

    gap: float
    service: float
    size: float = 1.0


@dataclass(frozen=True)
class Rules:
    """A pool: servers, places in line, and the rate limits before it (rate, burst, by size or by request)."""

    servers: int | None
    room: int | None = None
    limits: tuple[tuple[float, float, bool], ...] = ()

    def make(self, kind: Any, sim: Simulation) -> Any:
        """Build it."""
        pool = kind(sim, "pool", self.servers, self.room)
        for rate, burst, sized in self.limits:
            pool.limit(Limiter("limit", rate, burst, sized))
        return pool


def at(sim: Simulation, time: float, act: Callable[[], Any]) -> None:
    """Do something at a time, after all else of that instant."""
    heappush(sim._queue, (time, LAST, next(sim._eid), Call(lambda _event: act())))  # type: ignore[misc]


def serve(kind: Any, rules: Rules, jobs: Sequence[Job], probes: Sequence[float] = ()) -> tuple[list[Any], list[Any]]:
    """Run jobs through a pool; return (arrived, started, ended, refused) of each, and the totals at each probe."""
    sim = Simulation()
    pool = rules.make(kind, sim)
    waits = [Wait(lambda _event: None) for _ in jobs]

    def arrive(job: Job, wait: Wait, _event: object) -> None:
        pool.use(wait, sim.now, job.service)

    for job, wait, time in zip(jobs, waits, accumulate(job.gap for job in jobs), strict=True):
        wait.size = job.size
        sim.schedule_at(time, Call(partial(arrive, job, wait)))
    seen: list[Any] = []
    for probe in probes:
        at(sim, probe, lambda: seen.append(pool.totals(sim.now)))
    sim.run()
    return [(wait.arrived, wait.started, wait.ended, wait.rejected) for wait in waits], seen


quarter = st.integers(0, 16).map(lambda n: n / 4)
jobs = st.lists(
    st.builds(Job, st.integers(0, 8).map(lambda n: n / 4), quarter, st.integers(1, 4).map(float)),
    min_size=1,
    max_size=25,
)
limits = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([1.0, 2.0, 3.0]), st.booleans()), max_size=2
).map(tuple)
probes = st.lists(st.integers(0, 160).map(lambda n: n / 4 + 0.125), max_size=6).map(sorted)


def reference(rules: Rules, jobs: Sequence[Job]) -> list[tuple[float, float, float, bool]]:
    """Work out the times from the rules alone: a refused call takes no place, no server and no share of a rate.

    Who arrives when a service ends finds the server free.
    """
    served: list[tuple[float, float, float, float]] = []  # arrival, size, start, end
    found = []
    for job, arrival in zip(jobs, accumulate(job.gap for job in jobs), strict=True):
        come = [(one[0], one[1]) for one in served] + [(arrival, job.size)]
        ready = [time for time, _ in come]
        for rate, burst, sized in rules.limits:
            ready = queues.bucket(ready, [size if sized else 1.0 for _, size in come], rate, burst, 1 / 64)
        ends = sorted((end for *_, end in served), reverse=True)
        free = ends[rules.servers - 1] if rules.servers is not None and len(ends) >= rules.servers else 0.0
        start = max(ready[-1], free)
        waiting = sum(one[2] > arrival for one in served)
        if start > arrival and rules.room is not None and waiting >= rules.room:
            found.append((arrival, arrival, arrival, True))
        else:
            served.append((arrival, job.size, start, start + job.service))
            found.append((arrival, start, start + job.service, False))
    return found


@EXAMPLES
@given(st.builds(Rules, st.integers(1, 4), st.sampled_from([None, 0, 1, 3]), limits), jobs, probes)
@pytest.mark.parametrize("kind", [FifoPool, Pool])
def test_a_pool_keeps_to_the_rules(kind: Any, rules: Rules, jobs: list[Job], probes: list[float]) -> None:
    """Times, refusals and integrals are those that follow from the rules, ties among them."""
    expected = reference(rules, jobs)
    seen, totals = serve(kind, rules, jobs, probes)
    assert seen == expected
    for now, found in zip(probes, totals, strict=True):
        served = [one for one in expected if not one[3] and one[0] <= now]
        busy = sum(queues.overlap(start, end, now) for _, start, end, _ in served)
        present = sum(queues.overlap(arrival, end, now) for arrival, _, end, _ in served)
        assert found[BUSY] == pytest.approx(busy)
        assert found[PRESENT] == pytest.approx(present)
        assert found[ARRIVALS] == len(served)
        assert found[COMPLETIONS] == sum(end <= now for _, _, end, _ in served)
        assert found[REJECTIONS] == sum(refused for arrival, _, _, refused in expected if arrival <= now)


@EXAMPLES
@given(
    st.lists(st.tuples(st.integers(0, 8).map(lambda n: n / 4), st.integers(1, 5).map(float)), min_size=1, max_size=25)
)
@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1.0), (1.0, 3.0), (4.0, 2.0)])
def test_a_rate_limit_is_a_bucket_refilled_in_small_steps(
    rate: float, burst: float, requests: list[tuple[float, float]]
) -> None:
    """Requests go when the tokens are there, or when the bucket is full and they then leave it in debt."""
    arrivals, sizes = list(accumulate(gap for gap, _ in requests)), [size for _, size in requests]
    limiter = Limiter("limit", rate, burst, sized=True)
    starts = [limiter.admit(arrival, size) for arrival, size in zip(arrivals, sizes, strict=True)]
    assert starts == queues.bucket(arrivals, sizes, rate, burst, 1 / 64)
    waits = [start - arrival for start, arrival in zip(starts, arrivals, strict=True)]
    assert (limiter.admitted, limiter.delayed, limiter.waited) == (
        len(starts),
        sum(wait > 0 for wait in waits),
        sum(waits),
    )


def test_a_refused_call_uses_up_nothing_of_a_rate() -> None:
    """A tool asked twice as often as its rate allows, with few places in line, still works at its rate."""
    jobs = [Job(0.05, 0.01)] * 4000
    rules = Rules(servers=5, room=5, limits=((10.0, 1.0, False),))
    for kind in (FifoPool, Pool):
        seen, _ = serve(kind, rules, jobs)
        ended = [end for _, _, end, refused in seen if not refused]
        assert len(ended) == pytest.approx(2000, abs=10)
        assert max(start - arrival for arrival, start, _, _ in seen) <= 0.6


# Pools in which customers have priorities and are cancelled.


@st.composite
def impatient(draw: st.DrawFn) -> list[Customer]:
    """Customers with priorities, some of whom are cancelled, and no two of whose moments can fall together.

    Each has bits of its own below the quarters: whatever sums of services end at, no two are equal.
    """
    count = draw(st.integers(1, 12))
    found = []
    for number in range(count):
        arrival = draw(st.integers(1, 24)) / 4 + 2.0 ** (number - 24)
        work = draw(st.integers(0, 24)) / 4 + 2.0 ** (number - 38)
        patience = draw(st.none() | st.integers(-4, 40))
        cancel = float("inf") if patience is None else arrival + patience / 4 + 2.0 ** (number - 44)
        found.append(Customer(arrival, work, draw(st.integers(0, 2)), cancel))
    return found


def run(enter: Callable[[Wait, Customer], Any], sim: Simulation, customers: Sequence[Customer]) -> list[Wait]:
    """Let customers in, and cancel them, at their times, as a branch would; return their waits."""
    finished: set[int] = set()
    waits = []

    def finish(number: int, wait: Wait) -> None:
        assert number not in finished
        assert sim.now <= customers[number].cancel, "a cancelled customer went on"
        finished.add(number)

    def cancel(number: int, wait: Wait, _event: object) -> None:
        if number not in finished:
            if wait.holder is not None:
                wait.holder.cancel(wait)
            if wait.callbacks is not None:
                wait.callbacks = ()

    for number, one in enumerate(customers):
        wait = Wait(partial(finish, number))
        wait.priority = one.priority
        waits.append(wait)
        enter(wait, one)
        if one.cancel < float("inf"):
            sim.schedule_at(max(0.0, one.cancel), Call(partial(cancel, number, wait)))
    sim.run()
    assert finished == {number for number, one in enumerate(customers) if one.ended or one.refused}
    return waits


@EXAMPLES
@given(impatient(), st.integers(1, 3), st.sampled_from([None, 0, 2]), st.booleans(), probes)
def test_priorities_and_cancellation(
    customers: list[Customer], servers: int, room: int | None, by_priority: bool, probes: list[float]
) -> None:
    """Everybody starts, ends, is refused or is cancelled as in the plain queue; nobody is lost, and no server stays busy."""
    for one in customers:
        one.priority *= by_priority
    queues.pool(customers, servers, float("inf") if room is None else room)
    sim = Simulation()
    pool = Pool(sim, "pool", servers, room, by_priority)
    seen: list[tuple[float, ...]] = []
    for probe in probes:
        at(sim, probe, lambda: seen.append(pool.totals(sim.now)))
    waits = run(lambda wait, one: pool.use(wait, one.arrival, one.work), sim, customers)
    for one, wait in zip(customers, waits, strict=True):
        if one.ended:
            assert (wait.arrived, wait.started, wait.ended) == (one.arrival, one.started, one.left)
        assert wait.rejected == one.refused
    came = [one for one in customers if one.cancel > one.arrival]
    assert (pool.busy, pool.waiting) == (0, 0)
    assert pool.arrivals == len(came) - sum(one.refused for one in came)
    assert pool.completions == sum(one.ended for one in came)
    assert pool.rejections == sum(one.refused for one in came)
    for now, totals in zip(probes, seen, strict=True):
        assert totals[BUSY] == pytest.approx(sum(one.served(now) for one in came))
        assert totals[PRESENT] == pytest.approx(sum(one.present(now) for one in came))


@EXAMPLES
@given(impatient(), st.integers(1, 3))
def test_servers_held_as_long_as_the_model_likes(customers: list[Customer], servers: int) -> None:
    """`take` and `give` are `use` in two parts."""
    for one in customers:
        one.cancel = float("inf")
        one.priority = 0
    queues.pool(customers, servers, float("inf"))
    sim = Simulation()
    pool = Pool(sim, "pool", servers)
    begun = {}

    def granted(one: Customer, _wait: Wait) -> None:
        begun[one.arrival] = sim.now
        pool.give_at(sim.now + one.work)

    for one in customers:
        pool.take(Wait(partial(granted, one)), one.arrival)
    sim.run()
    assert begun == {one.arrival: one.started for one in customers}
    assert (pool.busy, pool.waiting, pool.completions) == (0, 0, len(customers))


# Links.


@EXAMPLES
@given(impatient(), st.sampled_from([0.5, 1.0, 8.0]), probes)
def test_a_link_shares_its_bandwidth_as_a_fluid_would(
    customers: list[Customer], bandwidth: float, probes: list[float]
) -> None:
    """Transfers end when the bytes have flowed, at equal shares from event to event; what is cancelled leaves its share."""
    customers = [one for one in customers if one.cancel > one.arrival]
    for one in customers:
        one.cancel += 0.0314159265  # never within a rounding of an end, whatever the shares
    queues.link(customers, bandwidth)
    sim = Simulation()
    link = Sharing(sim, "link", bandwidth)
    seen: list[tuple[float, ...]] = []
    for probe in probes:
        at(sim, probe, lambda: seen.append(link.totals(sim.now)))
    ends: dict[float, float] = {}

    def enter(wait: Wait, one: Customer) -> None:
        finish = wait.resume

        def end(wait: Wait) -> None:
            ends[one.arrival] = sim.now
            finish(wait)

        wait.resume = end
        link.use(wait, one.arrival, one.work)

    run(enter, sim, customers)
    assert ends == pytest.approx({one.arrival: one.left for one in customers if one.ended}, rel=1e-9)
    assert link.present == 0
    assert link.completions == sum(one.ended for one in customers)
    for now, totals in zip(probes, seen, strict=True):
        assert totals[PRESENT] == pytest.approx(sum(one.present(now) for one in customers))
        changes = sorted({now, *(t for one in customers for t in (one.arrival, one.left or now) if t < now)})
        middles = [((a + b) / 2, b - a) for a, b in zip([0.0, *changes], changes, strict=False)]
        busy = sum(length for t, length in middles if any(one.arrival < t < (one.left or now) for one in customers))
        assert totals[BUSY] == pytest.approx(busy)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_line_that_loses_most_of_its_customers(seed: int) -> None:
    """Overloaded pools and links, in which most are cancelled, forget those who left and lose nobody else."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(0.3, 250))
    patience = np.where(rng.random(250) < 0.7, rng.exponential(4, 250), np.inf)
    drawn = zip(arrivals, rng.exponential(1, 250), rng.integers(0, 3, 250), arrivals + patience, strict=True)
    parameters = [(float(a), float(b), int(c), float(d)) for a, b, c, d in drawn]
    for by_priority in (False, True):
        customers = [Customer(a, b, c * by_priority, d) for a, b, c, d in parameters]
        queues.pool(customers, 1, float("inf"))
        sim = Simulation()
        pool = Pool(sim, "pool", 1, None, by_priority)
        waits = run(lambda wait, one, pool=pool: pool.use(wait, one.arrival, one.work), sim, customers)  # type: ignore[misc]
        served = [(wait.started, one.started) for wait, one in zip(waits, customers, strict=True) if one.ended]
        assert served[0] != served[-1]
        for seen, expected in served:
            assert seen == pytest.approx(expected, rel=1e-9)
        assert (pool.busy, pool.waiting, len(pool.queue), pool.cancelled) == (0, 0, 0, 0)
        assert pool.totals(sim.now)[PRESENT] == pytest.approx(sum(one.present(sim.now) for one in customers))
    customers = [Customer(*one) for one in parameters]
    queues.link(customers, 1.0)
    sim = Simulation()
    link = Sharing(sim, "link", 1.0)
    run(lambda wait, one: link.use(wait, one.arrival, one.work), sim, customers)
    assert (link.present, link.completions) == (0, sum(one.ended for one in customers))
    assert link.totals(sim.now)[PRESENT] == pytest.approx(sum(one.present(sim.now) for one in customers), rel=1e-9)
