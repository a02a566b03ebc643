"""Replicas that fail one by one, KV that is lost with them, and encoders on which things go wrong."""

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from coordsim.models.replica_faults import ModelCondition
from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.outage import clear
from coordsim.models.simulate import Load
from coordsim.models.system import System
from coordsim.sim.analysis.result import ResourceInfo, Result
from coordsim.sim.engine.branch import Wait
from coordsim.sim.engine.incidents import OPEN, OUTCOMES
from coordsim.sim.engine.ledger import DONE
from coordsim.sim.engine.ledger import FAILED as LOST
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.simulation import Call, Simulation

from .scene import Data, fact, leaves, named, parts, run, scene, statuses, steps, total
from .test_served import BASE, LOOP, tokens

AT_ONCE = {"arrivals": {"deterministic": "1000000 / s"}}


def each(**what: object) -> Data:
    """Return a fault of each replica of the model."""
    return {"faults": {"f": {"on": "models.llm", "each": "replica", **what}}}


def whole(**what: object) -> Data:
    """Return a fault of the whole model."""
    return {"faults": {"f": {"on": "models.llm", **what}}}


def put_together(*patches: Data, seed: int = 1) -> tuple[System, Load]:
    """Return a system and its load, which has not run yet."""
    system = System(scene(*patches), seed, 0, "all")
    return system, Load(system)


def outcomes(incidents: Any, cause: int = 0) -> dict[str, int]:
    """Return how many strikes of a cause came to what."""
    return {name: count for name, count in zip(OUTCOMES, incidents.counts[cause], strict=True) if count}


def cut(system: System, load: Load, *down: tuple[int, float, float], mode: str = "refuse") -> Result:
    """Run, while replicas of given numbers are down from one time to another (s)."""
    condition = system.plan.conditions["models.llm"]
    assert isinstance(condition, ModelCondition)
    fault = next(system.plan.of("models.llm"))
    assert fault.spec.down == mode
    for number, start, end in down:
        for when, change in ((start, condition._replica_begins), (end, condition._replica_ends)):
            system.sim.schedule_at(when, Call(partial(told, change, number, fault)))
    load.run()
    kinds = tuple(system.scenario.all_classes)
    resources = tuple(ResourceInfo(*resource) for resource in system.capacities)
    return Result.of(
        system.ledger,
        scenario="scene",
        seed=1,
        replication=0,
        classes=kinds,
        horizon=False,
        resources=resources,
        doubts=(),
    )


def told(change: Callable[..., None], *given: object) -> None:
    """Do at an event what takes no event."""
    change(*given[:-1])


def in_order(result: Result) -> list[int]:
    """Return what became of each task, in the order in which they came."""
    return [int(status) for status in result.rows[np.argsort(result.rows[:, 0]), 4]]


def rare(mode: str = "refuse") -> Data:
    """Return a fault of replicas that does not come by itself in the time of a test."""
    return each(down=mode, mtbf={"constant": "1000 h"}, mttr={"constant": "1 h"})


# Stations


@pytest.mark.parametrize("served", [False, True])
def test_availability_of_each_replica(served: bool) -> None:
    """Of 3 replicas with 100 s between failures and 10 s of repair, MTBF / (MTBF + MTTR) of the time is up."""
    up, down, count = 100.0, 10.0, 3
    llm = {"replicas": count, **({"shape": "llama-3.2-1b"} if served else {})}
    base = {"profile": "h100-sxm"} if served else {}
    # One task every 1000 s, so that there is somebody to strike until the end.
    load = {"workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": None, "horizon": "100000 s"}}
    result = run(base, {"models": {"llm": llm}}, load, each(down="refuse", mtbf=f"{up} s", mttr=f"{down} s"))
    time = 1e5 * count
    spread = math.sqrt(2 * up**2 * down**2 / (up + down) ** 3 * time)
    assert abs(result.incidents.down["models.llm"] - time * down / (up + down)) < 4 * spread
    assert result.incidents.replicas == {"models.llm": count}
    turns = [turn for turn in result.incidents.turns if turn.kind == "down" and turn.begins]
    assert len(turns) == result.incidents.occurrences[0]
    assert {turn.component for turn in turns} == {f"models.llm#{number}" for number in range(count)}


def test_the_capacity_is_that_of_the_replicas_that_are_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each change there are as many slots as the replicas that are up have, at that time."""
    seen: list[tuple[float, int]] = []
    resize = Pool.resize

    def noted(pool: Pool, capacity: int) -> None:
        resize(pool, capacity)
        seen.append((pool.sim.now, capacity))

    monkeypatch.setattr(Pool, "resize", noted)
    load = {"workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 500}}
    llm = {"models": {"llm": {"replicas": 3, "concurrency": 2, "overhead": {"exponential": {"mean": "3 s"}}}}}
    result = run(llm, load, each(down="drain", mtbf="50 s", mttr="30 s"), spans="none")
    expected, up = [], 3
    for turn in result.incidents.turns:
        if turn.kind == "down":
            up += -1 if turn.begins else 1
            expected.append((turn.time, 2 * up))
    assert expected == seen
    assert min(up for _, up in seen) == 0


def test_a_replica_of_a_station_takes_its_share_of_the_calls_with_it() -> None:
    """Two replicas of two slots and five tasks at once: the first replica has those that came first and third."""
    world = {
        "workload": {**AT_ONCE, "tasks": 5},
        "models": {"llm": {"replicas": 2, "concurrency": 2, "overhead": "10 s"}},
    }
    system, load = put_together(world, rare())
    result = cut(system, load, (0, 5.0, 7.0))
    ends = [total(result, task) for task in range(5)]
    assert [number for number, status in enumerate(in_order(result)) if status == LOST] == [0, 2]
    assert outcomes(system.incidents) == {"failed": 2}
    # The fifth waits for the replica that is back at 7 s.
    assert ends[1] == pytest.approx(10, abs=1e-3)
    assert ends[4] == pytest.approx(17, abs=1e-3)
    assert system.servers["llm"].pool.capacity == 4
    assert system.servers["llm"].pool.busy == 0


def test_a_drained_replica_finishes_its_calls() -> None:
    """Nobody is lost; the third task waits for a slot of the replica that is up, not of the one that ends first."""
    world = {
        "workload": {**AT_ONCE, "tasks": 3},
        "models": {"llm": {"replicas": 2, "concurrency": 1, "overhead": "10 s"}},
    }
    system, load = put_together(world, rare("drain"))
    result = cut(system, load, (0, 5.0, 100.0), mode="drain")
    assert [total(result, task) for task in range(3)] == pytest.approx([10, 10, 20], abs=1e-3)
    assert statuses(result) == [DONE] * 3


def test_when_all_replicas_are_down_so_is_the_model() -> None:
    """Both fail at 900 s for 200 s: a call at 1000 s is refused, or waits for 100 s."""
    down = {"mtbf": {"constant": "900 s"}, "mttr": {"constant": "200 s"}}
    llm = {"models": {"llm": {"replicas": 2, "overhead": "1 s"}}}
    refused = run(llm, each(down="refuse", **down))
    assert statuses(refused) == [LOST]
    assert refused.failures == {"models.llm: down": 1}
    waits = run(llm, each(down="wait", **down))
    assert parts(waits) == {"inference": pytest.approx(1), "recovery": pytest.approx(100)}
    assert outcomes(waits.incidents) == {"degraded": 1}


@pytest.mark.parametrize("seed", range(5))
def test_resizing_a_pool_against_a_naive_one(seed: int) -> None:
    """Who comes first is served first, by as many servers as there are at the time; nobody is thrown out."""
    rng = np.random.default_rng(seed)
    sim = Simulation()
    pool = Pool(sim, "p", 3)
    arrivals = np.cumsum(rng.exponential(1.0, 200))
    services = rng.exponential(3.0, 200)
    changes = [(float(when), int(rng.integers(0, 5))) for when in np.arange(5.5, 200, 10)] + [(200.5, 3)]
    waits = [Wait(lambda _wait: None) for _ in arrivals]
    for wait, at, service in zip(waits, arrivals, services, strict=True):
        pool.use(wait, float(at), float(service))
    for when, capacity in changes:
        sim.schedule_at(when, Call(partial(told, pool.resize, capacity)))
    sim.run()
    assert [wait.started for wait in waits] == pytest.approx(naive(arrivals.tolist(), services.tolist(), changes))
    assert (pool.busy, pool.excess, pool.waiting) == (0, 0, 0)


def naive(arrivals: list[float], services: list[float], changes: list[tuple[float, int]]) -> list[float]:
    """Return when each customer begins to be served, by going through all events in order of time."""
    events = sorted(
        [(at, "come", number) for number, at in enumerate(arrivals)] + [(at, "size", c) for at, c in changes]
    )
    capacity, busy, line = 3, [], deque[int]()  # type: ignore[var-annotated]
    started = [math.nan] * len(arrivals)
    while events or busy:
        ends = min(busy, default=math.inf)
        now = min(ends, events[0][0] if events else math.inf)
        if ends == now:
            busy.remove(ends)
        else:
            _, kind, value = events.pop(0)
            if kind == "come":
                line.append(value)
            else:
                capacity = value
        while line and len(busy) < capacity:
            number = line.popleft()
            started[number] = now
            busy.append(now + services[number])
    return started


# Served models


def between_calls(turn: int) -> float:
    """Return a time at which the tool of the loop is busy after the `turn`-th call (from 1)."""
    spans = [span for span in leaves(run(BASE, LOOP)) if span.name == "tool.execute"]
    return spans[turn - 1].start + 0.5


@pytest.mark.parametrize(
    "what", [{"evict": True}, {"down": "refuse", "for": "0.1 s"}, {"down": "drain", "for": "0.1 s"}]
)
def test_what_was_cached_is_prefilled_again(what: Data) -> None:
    """After an eviction, or a restart, between the second call and the third all that the third carries is computed again."""
    one = {"workload": {"tasks": 1}}
    result = run(BASE, LOOP, one, whole(at=f"{between_calls(2)} s", **what))
    # Prompt, request, and what two calls and a tool have added since; of the other two calls, the rest of the last block.
    assert tokens(result)[1] == 2 * 16 + (1600 + 320 + 160 + 160 + 160)
    assert tokens(run(BASE, LOOP, one))[1] == 3 * 16
    assert result.incidents.occurrences[0] == 1


def test_an_outage_in_which_calls_wait_leaves_the_cache_alone() -> None:
    """Nothing has crashed: what was cached is found."""
    one = {"workload": {"tasks": 1}}
    result = run(BASE, LOOP, one, whole(at=f"{between_calls(2)} s", down="wait", **{"for": "0.1 s"}))
    assert tokens(result) == tokens(run(BASE, LOOP, one))


def test_an_eviction_leaves_what_runs() -> None:
    """Evicted while it decodes, a call goes on as before."""
    one = {"workload": {"tasks": 1}}
    call = next(span for span in leaves(run(BASE, LOOP, one)) if span.category == "inference")
    middle = (call.start + call.end) / 2
    hit = run(BASE, LOOP, one, whole(at=f"{middle} s", evict=True))
    assert total(hit) == pytest.approx(total(run(BASE, LOOP, one)))


@pytest.mark.parametrize("seed", range(3))
def test_clearing_a_cache_leaves_what_is_held(seed: int) -> None:
    """Leases keep their blocks; nothing else is there any more, and the books agree."""
    rng = np.random.default_rng(seed)
    kv = KvCache(1000)
    held = []
    for now in range(60):
        path = (
            (("p", int(rng.integers(3))), int(rng.integers(1, 9))),
            (("t", int(rng.integers(20))), int(rng.integers(1, 9))),
        )
        lease = kv.open(path, now, 20)
        kv.grow(lease, sum(size for _, size in path) - lease.shared, now)
        kv.commit(lease, path, now)
        if rng.random() < 0.8:
            kv.close(lease, now)
            if rng.random() < 0.3:
                kv.pin(path, now + 100.0, now)
        else:
            held.append((lease, path))
    used = kv.used
    clear(kv, 60)
    assert (kv.used, kv.cached, kv.pinned) == (used, 0, 0)
    kv.check([lease for lease, _ in held])
    for _, path in held:
        assert kv.match(path, 60) == sum(size for _, size in path)
    for lease, _ in held:
        kv.close(lease, 61)
    clear(kv, 62)
    kv.check()
    assert (kv.used, kv.cached) == (0, 0)


def test_a_replica_that_crashes_loses_its_calls_and_only_those() -> None:
    """Two calls on two replicas: one is lost and made again at the other, which has nothing of it; the other goes on."""
    world = {
        "workload": {**AT_ONCE, "tasks": 2, "request": "320 tokens"},
        "models": {"llm": {"replicas": 2, "router": "round-robin", "handling": {"retry": 2}}},
    }
    alone = total(run(BASE, steps("w", w={"agent": "a"}), world), 1)
    system, load = put_together(BASE, steps("w", w={"agent": "a"}), world, rare())
    result = cut(system, load, (0, alone / 2, 100.0))
    assert statuses(result) == [DONE, DONE]
    assert parts(result)["recovery"] == pytest.approx(alone / 2, abs=1e-5)
    assert total(result, 1) >= alone
    assert outcomes(system.incidents) == {"recovered": 1}
    cluster = system.servers["llm"].pool
    assert [driver.replica.tally.prompts for driver in cluster.drivers] == [0, 2]
    assert len(cluster.gone) == 1
    assert not cluster.away


def test_a_drained_replica_gets_no_new_calls() -> None:
    """While the first is drained all later calls go to the second, whatever the router would say."""
    world = {
        "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 20, "request": "320 tokens"},
        "models": {"llm": {"replicas": 2, "router": "round-robin"}},
    }
    system, load = put_together(BASE, steps("w", w={"agent": "a"}), world, rare("drain"))
    cut(system, load, (0, 10.5, 1000.0), mode="drain")
    assert [driver.replica.tally.prompts for driver in system.servers["llm"].pool.drivers] == [5, 15]
    assert not system.incidents.counts[0][OPEN]


@pytest.mark.parametrize("variant", [
    {}, {"batching": {"ahead": True}}, {"disaggregated": {"prefill": 2, "decode": 2}, "replicas": None},
    {"router": "session", "autoscale": {"most": 4, "cold_start": "1 s", "waiting": 1, "idle": "5 s"}},
    {"cache": {"host": "1 GB"}, "batching": {"preemption": "swap"}, "router": "prefix"},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["refuse", "hang", "drain", "wait"])
def test_nothing_is_lost_or_held_in_the_end(variant: Data, mode: str) -> None:
    """Crashes, evictions and outages at random: each strike has one outcome, no call and no block is left anywhere."""
    llm = {"replicas": 3, "memory": {"kv": "400 MB"}, "router": "least-loaded",
           "handling": {"timeout": "30 s", "retry": {"attempts": 5, "backoff": {"first": "1 s"}}}, **variant}  # fmt: skip
    faults = {
        "crash": {"on": "models.llm", "each": "replica", "down": mode, "mtbf": "15 s", "mttr": "8 s"},
        "outage": {"on": "models.llm", "down": mode, "mtbf": "60 s", "mttr": "2 s"},
        "flush": {"on": "models.llm", "each": "replica", "evict": True, "mtbf": "10 s"},
        "slow": {"on": "models.llm", "slow": 2, "mtbf": "30 s", "mttr": "10 s"},
        "busy": {"on": "models.llm", "overload": {"above": 12, "rate": 0.5}},
    }
    world = {"workload": {"arrivals": {"poisson": "3 / s"}, "tasks": 150}, "models": {"llm": llm}, "faults": faults}
    if llm["replicas"] is None:
        del llm["replicas"]
    system, load = put_together(BASE, LOOP, world, seed=7)
    load.run()
    incidents, cluster = system.incidents, system.servers["llm"].pool
    assert all(counts[OPEN] == 0 for counts in incidents.counts)
    assert incidents.occurrences[0] > 3
    condition = system.plan.conditions["models.llm"]
    assert not condition.present
    assert not condition.outside
    assert cluster.present == 0
    now = system.sim.now
    assert 0 < incidents.down["models.llm"] < incidents.replicas["models.llm"] * now
    for driver in (*cluster.drivers, *cluster.decoders):
        replica = driver.replica
        assert not [one for one in replica.running.values() if not one.cancelled]
        assert replica.waiting.head is None
        replica.kv.check()
    figures = cluster.totals(now)
    busy, there = figures[10], figures[11]
    assert 0 <= busy <= there + 1e-6
    assert all(math.isfinite(figure) and figure >= -1e-6 for figure in figures)


def test_a_fault_that_never_strikes_changes_nothing() -> None:
    """Byte for byte the same."""
    plain = run(BASE, LOOP, spans="none")
    assert np.array_equal(plain.rows, run(BASE, LOOP, whole(error=0), spans="none").rows)


# Encoders

SEES = {
    "agents": {"a": {"model": "llm", "prompt": "10 tokens"}},
    "encoders": {"eye": {"latency": "2 s"}},
    "modalities": {"image": {"kind": "vision", "amount": 1, "tokens": "100 tokens", "encoder": "eye"}},
}


def sees(partial: str = "fail", **more: Data) -> Data:
    """Return a world in which a task takes in an image, and then asks a model."""
    world = {**SEES, **steps("see", see={"perceive": ["image"], "partial": partial, "next": "w"}, w={"agent": "a"})}
    return world if not more else {**world, **more}


def blind(**what: object) -> Data:
    """Return a fault of the encoder."""
    return {"faults": {"f": {"on": "encoders.eye", **what}}}


def test_an_encoder_is_tried_again() -> None:
    """Down until 1001 s: refused at 1000 s, 1000.6 s; answered at 1001.2 s."""
    patient = {
        "encoders": {"eye": {"handling": {"retry": {"attempts": 3, "backoff": {"first": "0.6 s", "factor": 1}}}}}
    }
    result = run(sees(), patient, blind(down="refuse", at="990 s", **{"for": "11 s"}))
    assert parts(result) == {"inference": pytest.approx(2), "recovery": pytest.approx(1.2)}
    assert outcomes(result.incidents) == {"recovered": 2}


@pytest.mark.parametrize(("partial", "status", "outcome"), [("fail", LOST, "failed"), ("degrade", DONE, "degraded")])
def test_an_encoder_that_gives_up_is_as_an_encoding_that_fails(partial: str, status: int, outcome: str) -> None:
    """The step's own policy says what becomes of the task."""
    result = run(sees(partial), blind(error=1))
    assert statuses(result) == [status]
    assert outcomes(result.incidents) == {outcome: 1}
    assert parts(result)["recovery"] == pytest.approx(2)
    assert fact(result, "degraded") == (status == DONE)


def test_a_timeout_takes_an_input_off_the_encoder() -> None:
    """Two images at once: the second waits for 2 s, longer than it may, and leaves the line."""
    world = {"workload": {**AT_ONCE, "tasks": 2}}
    result = run(sees("degrade"), world, {"encoders": {"eye": {"handling": {"timeout": "2.5 s"}}}})
    assert [fact(result, "degraded", task) for task in (0, 1)] == [0, 1]
    assert parts(result, 1)["recovery"] == pytest.approx(2.5)
    assert fact(result, "timeouts", 1) == 1


def test_another_encoder_stands_in() -> None:
    """One that never answers correctly is replaced by another, with a time of its own."""
    other = {"encoders": {"eye": {"handling": {"fallback": "glass"}}, "glass": {"latency": "5 s"}}}
    result = run(sees(), other, blind(error=1))
    assert parts(result) == {"inference": pytest.approx(5), "recovery": pytest.approx(2)}
    assert fact(result, "fallbacks") == 1


@pytest.mark.parametrize("served", [False, True])
def test_an_encoder_goes_down_with_the_model_on_whose_device_it_is(served: bool) -> None:
    """Lost with it after 1 s, and made again when it is back after 2 s more."""
    eye = {"model": "llm", "handling": {"retry": {"attempts": 2, "backoff": {"first": "3 s"}}}}
    world = {
        "encoders": {"eye": eye},
        **({"profile": "h100-sxm", "models": {"llm": {"shape": "llama-3.2-1b"}}} if served else {}),
    }
    result = run(sees(), world, whole(down="refuse", at="1001 s", **{"for": "2 s"}))
    assert named(result, "encode") == pytest.approx(2)
    assert parts(result)["recovery"] == pytest.approx(1 + 3)
    assert outcomes(result.incidents) == {"recovered": 1}


def test_slow_encoders() -> None:
    """Three times as long, while it lasts."""
    result = run(sees(), blind(slow=3))
    assert parts(result) == {"inference": pytest.approx(6)}
    assert outcomes(result.incidents) == {"degraded": 1}
