"""Replicas behind a router, within the simulation: where calls go, how replicas come and go, and what is counted."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from coordsim.models.serving.cluster import Cluster
from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.places import Limits
from coordsim.models.serving.replica import Replica, drive
from coordsim.models.serving.request import INFER, LOAD, QUEUE, Request
from coordsim.models.serving.retention import Retention
from coordsim.models.serving.routing import IMBALANCE, Router
from coordsim.models.serving.spec import Autoscale, Disaggregated, Routing
from coordsim.sim.engine.branch import Wait
from coordsim.sim.engine.simulation import Simulation

from .linear_steps import LinearSteps

SECOND = LinearSteps(fixed=1.0, token=0.0, attend=0.0)  # each iteration takes a second
STEP = LinearSteps()


def cluster(
    make: Callable[[], Replica], count: int = 1, routing: Routing = "round-robin", queue_limit: int | None = None
) -> Cluster:
    """Return a cluster whose accounts are 0 to 3, and whose runtime leaves KV to the cache."""
    retention = Retention("cache", 300.0, 1.0)
    return Cluster(Simulation(), "models.llm", make, count, Router(routing), retention, range(4), queue_limit)


def seconds(limits: Limits | None = None, blocks: float = math.inf) -> Callable[[], Replica]:
    """Return a maker of replicas whose iterations take a second."""
    return lambda: Replica(SECOND, KvCache(blocks), limits or Limits())


def send(where: Cluster, requests: list[Request]) -> list[Wait]:
    """Let requests come at their times; return their waits."""
    waits = [Wait(lambda _event: None) for _ in requests]
    for wait, request in zip(waits, requests, strict=True):
        where.use(wait, request.arrived, request)
    return waits


def served(where: Cluster, requests: list[Request], until: float | None = None) -> list[Wait]:
    """Serve requests until all are over; check that no block is lost or left in use."""
    waits = send(where, requests)
    where.sim.run(until)
    for replica in where.every:
        replica.kv.check()
        assert until is not None or replica.kv.used == 0
    return waits


def random_requests(seed: int, count: int, gap: float, longest: int = 300) -> list[Request]:
    """Return requests of random sizes at random times, some with a beginning in common, each in a session."""
    rng = np.random.default_rng(seed)
    found = []
    for number, arrived in enumerate(np.cumsum(rng.exponential(gap, count)).tolist()):
        prompt, output = rng.integers(32, longest, 2).tolist()
        common = int(rng.integers(0, prompt // 16 + 1))
        path = ((("prompt", number % 3), common), (("task", number), prompt // 16 - common))
        found.append(Request(prompt, output, arrived, path))
        found[-1].session = (number, 0, 0)
    return found


def where_to(where: Cluster, requests: list[Request]) -> list[int]:
    """Return which replica served each request."""
    return [where.replicas.index(request.home.replica) for request in requests]


def of_session(task: int, arrived: float, prompt: int = 64, output: int = 4) -> Request:
    """Return a request of a task's session, whose prompt only that task has."""
    request = Request(prompt, output, arrived, ((("task", task), prompt // 16),))
    request.session = (task, 0, 0)
    return request


def test_within_the_simulation_a_replica_does_what_it_does_alone() -> None:
    """One replica of a cluster takes in, answers and ends every request at the very times at which it does when driven alone."""
    limits = Limits(sequences=8, tokens=256)
    ours, theirs = random_requests(1, 200, 0.05), random_requests(1, 200, 0.05)
    served(cluster(lambda: Replica(STEP, KvCache(60.0), limits)), ours)
    drive(Replica(STEP, KvCache(60.0), limits), theirs)
    assert sum(one.preemptions for one in theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        for name in ("admitted", "first_token", "ended", "hit", "preemptions"):
            assert getattr(one, name) == getattr(other, name), name


def test_a_call_costs_few_events() -> None:
    """Alone on the server a call is its arrival and two ends of leaps; however long its output is."""
    where = cluster(lambda: Replica(STEP, KvCache(math.inf), Limits()))
    before = where.sim.scheduled
    served(where, [Request(100, 500, arrived=100.0 * number) for number in range(20)])
    assert where.sim.scheduled - before <= 4 * 20


# Routers


def test_round_robin_goes_round() -> None:
    """Requests go to one replica after the other, however busy they are."""
    requests = [Request(10, 1 if number % 3 else 100, arrived=0.1 * number) for number in range(9)]
    where = cluster(seconds(), 3)
    served(where, requests)
    assert where_to(where, requests) == [0, 1, 2] * 3


def test_least_loaded_takes_where_fewest_are() -> None:
    """Long ones on the first replicas: those that follow go to the one that is idle, ties to the first."""
    requests = [
        Request(10, 50),
        Request(10, 50),
        Request(10, 2),
        Request(10, 2, arrived=10.0),
        Request(10, 2, arrived=10.5),
    ]
    where = cluster(seconds(), 3, "least-loaded")
    served(where, requests)
    assert where_to(where, requests) == [0, 1, 2, 2, 0]


def test_a_session_stays_where_it_was() -> None:
    """Calls of one session go where the first was served, also when that is the busiest; others go to the least loaded."""
    first = [of_session(0, 0.0), of_session(1, 0.0, output=200), of_session(2, 10.0, output=200)]
    later = [of_session(0, 20.0), of_session(1, 20.0), of_session(2, 20.0)]
    where = cluster(seconds(), 2, "session")
    served(where, first + later)
    assert where_to(where, first) == [0, 1, 0]
    assert where_to(where, later) == [0, 1, 0]
    assert [one.hit for one in later] == [48, 48, 48]


def test_a_router_by_prefix_finds_more() -> None:
    """The same sessions hit at every later call by prefix, and by chance of the turn only when taken in turns."""
    found = {}
    for routing in ("round-robin", "prefix"):
        requests = [of_session(task, 100.0 * call + task) for call in range(6) for task in range(5)]
        where = cluster(seconds(), 4, routing)
        served(where, requests)
        found[routing] = sum(one.hit for one in requests)
    assert found["prefix"] == 5 * 5 * 48  # of 64 tokens 3 blocks: the last token is computed
    assert found["round-robin"] < 0.5 * found["prefix"]


def test_a_match_is_given_up_where_far_more_are() -> None:
    """With so many more requests than the least busy has, its replica is taken; with one more, the other."""
    for others, expected in ((IMBALANCE, 0), (IMBALANCE + 1, 1)):
        where = cluster(seconds(), 2, "prefix")
        served(where, [of_session(0, 0.0)])
        home = where.replicas[0]
        now = where.sim.now
        for _ in range(others):
            home.submit(Request(16, 1000), now)
        request = of_session(0, now)
        chosen = where.router.choose(where.replicas, request, home, now)
        assert where.replicas.index(chosen) == expected


# Prefill and decode apart


def apart(
    step: LinearSteps, prefill: int = 1, decode: int = 1, bandwidth: float = 1e3, latency: float = 0.5
) -> Cluster:
    """Return replicas that prefill and others that decode; KV is one byte a token."""
    where = cluster(lambda: Replica(step, KvCache(1000.0), Limits()), prefill)
    spec = {"prefill": prefill, "decode": decode, "bandwidth": f"{bandwidth} B/s", "latency": f"{latency} s"}
    where.split(Disaggregated.model_validate(spec), 1.0, lambda: Replica(step, KvCache(1000.0), Limits()))
    return where


def test_the_first_token_comes_from_the_prefill_and_the_rest_after_the_transfer() -> None:
    """A second of prefill, half a second and 100 bytes at 1000 bytes/s on the way, and then a second a token."""
    where = apart(SECOND)
    request = Request(100, 5)
    (wait,) = served(where, [request])
    assert request.first_token == 1.0
    assert list(request.phases) == [(QUEUE, 0.0), (INFER, 1.0), (LOAD, 1.6), (QUEUE, 1.6), (INFER, 5.6)]
    assert (wait.ended, request.generated) == (5.6, 5)
    prefill, decode = where.every
    assert (prefill.tally.prefilled, prefill.tally.iterations) == (100, 1)
    assert (decode.tally.prefilled, decode.tally.iterations) == (0, 4)
    assert where.totals(10.0)[11] == 2 * 10.0


def test_one_token_needs_no_transfer() -> None:
    """A request of one token ends where it was prefilled."""
    where = apart(SECOND)
    request = Request(100, 1)
    served(where, [request])
    assert list(request.phases) == [(QUEUE, 0.0), (INFER, 1.0)]
    assert where.every[1].tally.iterations == 0


def test_what_was_found_stays_known_where_it_decodes() -> None:
    """The replica that decodes has no cache to look into: what the prefill found is what the request found, under any policy."""
    limits = Limits(policy="shortest-prefill")
    where = cluster(seconds(limits))
    where.split(Disaggregated(), 1.0, seconds(limits))
    first, second = of_session(0, 0.0), of_session(0, 50.0)
    served(where, [first, second])
    assert second.hit == 48


def test_transfers_follow_one_another() -> None:
    """Two prompts that are ready at once share the way: the second arrives when both are through."""
    where = apart(SECOND)
    one, other = Request(100, 2), Request(200, 2)
    served(where, [one, other])
    assert [end for kind, end in one.phases if kind == LOAD] == [1.6]
    assert [end for kind, end in other.phases if kind == LOAD] == [pytest.approx(1.6 + 0.7)]


def test_decode_is_not_disturbed_by_prefills() -> None:
    """Under many long prompts, tokens come faster after the first than where prompts share the iterations."""
    step = LinearSteps(fixed=5e-3, token=1e-4, attend=0.0)

    def requests() -> list[Request]:
        return [Request(1000, 60, arrived=0.13 * number) for number in range(60)]

    ours, theirs = requests(), requests()
    served(apart(step, bandwidth=1e9, latency=1e-3), ours)
    served(cluster(lambda: Replica(step, KvCache(1000.0), Limits()), 2), theirs)
    assert all(one.ttft == pytest.approx(step.iteration([(1000, 0)], 0, 0, 0)) for one in ours)
    assert np.mean([one.tpot for one in ours]) < 0.8 * np.mean([one.tpot for one in theirs])
    alone = step.run(1, 1001.0, 1001.0, 59)
    assert all(one.ended - one.first_token < 1.1 * alone for one in ours)


def test_one_cancelled_on_its_way_decodes_nowhere() -> None:
    """A call that is given up while its KV is on its way leaves nothing behind."""
    where = apart(SECOND)
    request = Request(100, 50)
    (wait,) = send(where, [request])
    where.sim.run(1.2)
    where.cancel(wait)
    where.sim.run()
    assert where.every[1].tally.iterations == 0
    assert (where.present, where.completions) == (0, 0)
    assert all(replica.outstanding == 0 for replica in where.every)
    assert all(replica.kv.used == 0 for replica in where.every)


def test_when_those_who_decode_run_out_of_blocks_the_last_computes_again() -> None:
    """Prefilled elsewhere, a request that has to go computes its prompt and output where it decodes, and ends all the same."""
    where = cluster(seconds(blocks=20.0))
    where.split(Disaggregated(), 1.0, seconds(Limits(), blocks=20.0))
    requests = [Request(100, 150), Request(100, 150)]
    served(where, requests)
    assert sum(one.preemptions for one in requests) == 1
    assert all(one.generated == 150 for one in requests)
    assert max(one.recomputed for one in requests) > 100


# Replicas that come and go


def growing(limits: Limits) -> Cluster:
    """Return one replica, a second after 5 s if more than 2 a replica wait, which goes after 10 s of nothing to do."""
    where = cluster(seconds(limits))
    where.autoscale = Autoscale.model_validate({"most": 2, "cold_start": "5 s", "waiting": 2, "idle": "10 s"})
    return where


def test_a_replica_starts_when_too_many_wait_and_goes_when_idle() -> None:
    """Five at once, a second each: the second replica is there at 5 s, has its last call until 7 s, and goes at 17 s."""
    where = growing(Limits(sequences=1))
    requests = [Request(1, 1) for _ in range(5)] + [Request(1, 1, arrived=6.0), Request(1, 1, arrived=6.0)]
    send(where, requests)
    where.sim.run(4.0)
    assert len(where.replicas) == 1
    where.sim.run(16.0)
    where.totals(16.0)
    assert [one.ended for one in requests] == [1, 2, 3, 4, 5, 7, 7]
    assert len(where.replicas) == 2
    assert where.totals(20.0)[11] == 20.0 + (17.0 - 5.0)
    assert len(where.replicas) == 1
    assert where.sim.now == 16.0  # nothing is left to happen
    assert not [event for _, _, _, event in where.sim._queue if event.callbacks]


def test_a_replica_is_started_for_more_than_so_many() -> None:
    """Two who wait are few enough; the third starts a replica, and until it is there the fourth and fifth start no other."""
    where = growing(Limits(sequences=1))
    send(where, [Request(1, 1), Request(1, 1)])
    assert where.starting == []
    send(where, [Request(1, 1), Request(1, 1), Request(1, 1)])
    assert where.starting == [5.0]


def test_never_fewer_than_there_were_nor_more_than_allowed() -> None:
    """However long idle, the first stays; however many wait, there are two."""
    where = growing(Limits(sequences=1))
    served(where, [Request(1, 1) for _ in range(50)] + [Request(1, 1, arrived=60.0)])
    assert len(where.replicas) == 1
    served(where, [Request(1, 3, arrived=100.0 + number / 10) for number in range(80)])
    assert len(where.replicas) == 2
    where.totals(10_000.0)
    assert len(where.replicas) == 1


def test_a_replica_whose_only_call_was_cancelled_goes_too() -> None:
    """Being idle begins when nothing is left to do, whatever became of it."""
    where = growing(Limits(sequences=1))
    send(where, [Request(1, 1) for _ in range(5)])
    where.sim.run(5.5)
    waits = send(where, [Request(1, 100, arrived=6.0), Request(1, 100, arrived=6.0)])
    where.sim.run(8.5)
    for wait in waits:
        where.cancel(wait)
    where.sim.run()
    assert where.totals(30.0)[11] == 30.0 + (19.0 - 5.0)


# Refused and given up


def test_a_queue_limit_bounds_those_who_wait() -> None:
    """One runs, two wait, and the others are refused at once; a place that is free is no queue."""
    where = cluster(seconds(Limits(sequences=1)), queue_limit=2)
    requests = [Request(1, 3) for _ in range(5)] + [Request(1, 3, arrived=3.5)]
    waits = served(where, requests)
    assert [wait.rejected for wait in waits] == [False, False, False, True, True, False]
    assert (where.arrivals, where.rejections, where.completions) == (4, 2, 4)
    none = cluster(seconds(Limits(sequences=2)), queue_limit=0)
    waits = served(none, [Request(1, 3) for _ in range(3)] + [Request(1, 3, arrived=5.0)])
    assert [wait.rejected for wait in waits] == [False, False, True, False]


def test_a_queue_limit_holds_where_blocks_run_out() -> None:
    """Who waits for blocks waits, though the batch has places."""
    where = cluster(seconds(Limits(), blocks=10.0), queue_limit=1)
    requests = [
        Request(150, 5),
        Request(150, 5, arrived=0.5),
        Request(150, 5, arrived=1.5),
        Request(150, 5, arrived=2.5),
    ]
    waits = served(where, requests)
    assert [wait.rejected for wait in waits] == [False, False, True, True]


def test_what_can_never_fit_is_refused() -> None:
    """A request longer than all blocks is refused; where prefill and decode are apart, by its whole length."""
    for where in (cluster(seconds(blocks=10.0)), cluster(seconds(blocks=10.0))):
        waits = served(where, [Request(100, 61), Request(100, 62), Request(200, 1)])
        assert [wait.rejected for wait in waits] == [False, True, True]
    where = cluster(seconds(blocks=10.0))
    where.split(Disaggregated(), 1.0, seconds(blocks=10.0))
    waits = served(where, [Request(100, 61), Request(100, 62), Request(161, 1)])
    assert [wait.rejected for wait in waits] == [False, True, True]


def test_a_cancelled_call_makes_room() -> None:
    """Who waits takes the place of one that is given up, at the next iteration; who is given up in line leaves it."""
    where = cluster(seconds(Limits(sequences=1)))
    requests = [Request(1, 100), Request(1, 2), Request(1, 2)]
    waits = send(where, requests)
    where.sim.run(4.5)
    where.cancel(waits[0])
    where.cancel(waits[1])
    where.sim.run()
    assert requests[2].admitted == 5.0
    assert requests[2].ended == 7.0
    assert where.present == 0
    assert where.completions == 1


def test_open_parts_tell_what_a_call_has_done_so_far() -> None:
    """At 2.5 s the first has run since 0 s, and the second has waited."""
    where = cluster(seconds(Limits(sequences=1)))
    waits = send(where, [Request(1, 100), Request(1, 2, arrived=0.5)])
    where.sim.run(2.5)
    assert [part for part in where.open_parts(waits[0], 2.5) if part[2] > part[1]] == [(INFER, 0.0, 2.5)]
    assert [part for part in where.open_parts(waits[1], 2.5) if part[2] > part[1]] == [(QUEUE, 0.5, 2.5)]


# What is counted


def counted(where: Cluster, now: float) -> dict[str, float]:
    """Return the totals by name."""
    names = (
        "sequences present arrivals completions rejections waited first_tokens later_seconds later_tokens batch busy replicas hit "
        "asked fetched requests_hit prompts prefilled new preemptions evicted used cached room iterations"
    )
    return dict(zip(names.split(), where.totals(now), strict=True))


def test_totals_by_hand() -> None:
    """Two at once of 36 tokens and 3 s each, the second of which asks again for the same at 5 s: counted up to 10 s."""
    where = cluster(seconds(blocks=20.0), 1)
    first, second, third = of_session(0, 0.0, 36, 3), of_session(1, 0.0, 36, 3), of_session(1, 5.0, 36, 3)
    third.carried = 36
    served(where, [first, second, third])
    found = counted(where, 10.0)
    assert found["arrivals"] == found["completions"] == found["prompts"] == 3
    assert found["rejections"] == found["waited"] == found["preemptions"] == found["fetched"] == 0
    assert (found["sequences"], found["present"], found["batch"]) == (9.0, 9.0, 9.0)
    assert (found["busy"], found["iterations"], found["replicas"]) == (6.0, 6, 10.0)
    assert (found["first_tokens"], found["later_tokens"], found["later_seconds"]) == (3.0, 6, 6.0)
    assert (found["asked"], found["hit"], found["requests_hit"]) == (108, 32, 1)
    assert (found["prefilled"], found["new"]) == (36 + 36 + 4, 36 + 36)
    assert (found["used"], found["room"]) == (3 * 3 * 3, 200.0)  # 3 blocks each, for 3 s
    assert found["cached"] == 4 * 2 + 2 * 3 + 4 * 2  # two of each remain; the third uses two of them meanwhile
    assert found["evicted"] == 0


def test_within_an_iteration_only_what_has_passed_is_counted() -> None:
    """Of the first second, with two prompts, half is over at 0.5 s; at 1.5 s one of them goes on alone, in a leap."""
    where = cluster(seconds())
    send(where, [Request(32, 9), Request(32, 1)])
    for now in (0.5, 1.0, 1.5, 4.25):
        where.sim.run(now)
        found = counted(where, now)
        assert found["busy"] == pytest.approx(now)
        assert found["sequences"] == pytest.approx(now + min(now, 1.0))


def test_totals_never_fall_and_present_obeys_littles_law() -> None:
    """Every total grows; what was present, integrated, is the summed time of calls from coming to end (Little, 1961)."""
    limits = Limits(sequences=4, tokens=128)
    where = cluster(lambda: Replica(STEP, KvCache(60.0), limits), 2, "least-loaded")
    where.autoscale = Autoscale.model_validate({"most": 4, "cold_start": "0.2 s", "waiting": 1, "idle": "0.5 s"})
    requests = random_requests(3, 150, 0.05)
    waits = send(where, requests)
    before: tuple[float, ...] = ()
    for number in range(1, 400):
        now = number * 0.0371
        where.sim.run(now)
        totals = where.totals(now)
        assert all(new >= old - 1e-9 for new, old in zip(totals, before, strict=False))
        before = totals
    where.sim.run()
    assert where.gone
    end = where.sim.now + 100.0
    found = counted(where, end)
    assert found["present"] == pytest.approx(sum(one.ended - one.arrived for one in requests))
    assert found["batch"] <= found["present"]
    assert found["waited"] == pytest.approx(
        sum(end - start for one in requests for kind, start, end in spans(one) if kind == QUEUE)
    )
    assert found["busy"] <= found["replicas"]
    assert found["used"] + found["cached"] <= found["room"]
    assert all(wait.ended == one.ended for wait, one in zip(waits, requests, strict=True))


def spans(request: Request) -> list[tuple[int, float, float]]:
    """Return the phases of a request with their beginnings."""
    starts = [request.arrived, *(end for _, end in request.phases)]
    return [(kind, start, end) for start, (kind, end) in zip(starts, request.phases, strict=False)]


def test_what_a_replica_held_counts_until_it_goes() -> None:
    """KV that lies in the cache of a replica which has gone takes no memory any more."""
    where = growing(Limits(sequences=1))
    send(where, [of_session(task, 0.0, 64, 1) for task in range(5)])
    where.sim.run(5.5)
    served(where, [of_session(5, 6.0, 64, 1), of_session(6, 6.0, 64, 1)])
    early, late = counted(where, 17.0), counted(where, 27.0)
    assert late["cached"] - early["cached"] == pytest.approx(10.0 * where.replicas[0].kv.cached)
