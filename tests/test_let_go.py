"""Calls in memories and streams under handling; and that nothing is held at the end, whatever fails and is cut off."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.simulate import Load
from coordsim.models.system import System
from coordsim.sim.engine.incidents import OPEN
from coordsim.sim.engine.pool import Pool

from .scene import Data, parts, run, scene, statuses

# Memories, streams


def test_a_memory_is_read_and_written_as_its_handling_says() -> None:
    """A store that is down at first: the read is tried again once it is up, and the write goes through."""
    store = {"read": "1 s", "write": "1 s", "entry": "10 B", "recall": "7 tokens"}
    handling = {"retry": {"attempts": 5, "backoff": {"first": "2 s"}}}
    outage = {"faults": {"gone": {"on": "memories.m", "at": "0 s", "for": "1010 s", "down": "refuse"}}}
    world = {"agents": {"a": {"memory": "m"}}, "memories": {"m": {**store, "handling": handling}}, **outage}
    result = run(world)
    assert statuses(result) == [0]
    assert result.incidents.calls["memories.m"].calls == 2
    assert parts(result)["tool"] == 2
    assert parts(result)["recovery"] > 0


def test_a_memory_that_never_answers_fails_the_task() -> None:
    """A timeout of the store without retries."""
    world = {"agents": {"a": {"memory": "m"}}, "memories": {"m": {"read": "5 s", "handling": {"timeout": "1 s"}}}}
    result = run(world)
    assert result.failures == {"memories.m: timeout": 1}
    assert parts(result) == {"recovery": 1}


def test_a_run_ends_when_work_outlasts_the_last_task() -> None:
    """An attempt runs on for 2 s after its task has ended: after that no fault comes any more, and the run is over."""
    handling = {"timeout": "1 s", "on_timeout": "run on", "exhausted": "continue"}
    fault = {"on": "tools.t", "mtbf": "0.5 s", "mttr": "0.1 s", "slow": 1.5}
    world = {"tools": {"t": {"latency": "3 s", "handling": handling}}, "faults": {"x": fault}}
    result = run(world, {"workflow": {"start": "s", "steps": {"s": {"tool": "t"}}}})
    assert statuses(result) == [0]
    assert result.incidents.turns[-1].time < 1010


# Nothing is held at the end

SERVICES = {
    "concurrency": st.integers(1, 2),
    "queue_limit": st.integers(0, 2),
    "max_wait": st.sampled_from(["0.3 s", "2 s"]),
    "rate": st.sampled_from(["1 / s", "4 / s"]),
    "errors": st.sampled_from([0.0, 0.4]),
    "repeatable": st.booleans(),
}
HANDLINGS = {
    "timeout": st.sampled_from(["0.4 s", "1.5 s"]),
    "within": st.sampled_from(["1.6 s", "4 s"]),
    "on_timeout": st.sampled_from(["cancel", "run on"]),
    "retry": st.sampled_from([2, {"attempts": 3, "backoff": {"first": "0.2 s", "jitter": "full"}, "budget": 0.5}]),
    "breaker": st.just({"failing": 0.5, "calls": 3, "open": "2 s"}),
    "bulkhead": st.integers(1, 3),
    "hedge": st.builds(
        lambda tied, to: {"after": "0.3 s", "tied": tied, **({"to": to} if to else {})},
        st.booleans(),
        st.sampled_from([None, "OTHER"]),
    ),
    "exhausted": st.sampled_from(["continue", "fail"]),
    "idempotent": st.booleans(),
}
FAULTS = {
    "a": st.just({"on": "tools.t", "hang": 0.2}),
    "b": st.sampled_from(["refuse", "hang", "wait", "drain"]).map(
        lambda down: {"on": ["tools.t", "models.llm"], "at": "2 s", "for": "1 s", "every": "4 s", "down": down}
    ),
    "c": st.just({"on": ["tools.u", "models.spare"], "mtbf": "2 s", "mttr": "1 s", "down": "refuse"}),
    "d": st.just({"on": "models.llm", "error": {"rate": 0.3}}),
}  # fmt: skip


@st.composite
def handled(draw: st.DrawFn, other: str) -> Data:
    """Return a strategy for handling that leaves no call without an end."""
    handling: Data = {"timeout": "2.5 s", **draw(st.fixed_dictionaries({}, optional=HANDLINGS))}
    handling["within"] = handling.get("within", "4 s") if handling["timeout"] != "2.5 s" else "4 s"
    if draw(st.booleans()):
        handling["fallback"] = other
    if handling.get("hedge", {}).get("to"):
        handling["hedge"] = {**handling["hedge"], "to": other}
    return handling


@st.composite
def troubled(draw: st.DrawFn) -> Data:
    """Return a strategy for a world in which calls fail, hang, are hedged, cut off, and cancelled by joins."""
    latency = {"exponential": {"mean": "0.8 s"}}
    plain: Data = {"timeout": "2 s", "on_timeout": draw(st.sampled_from(["cancel", "run on"]))}

    def service(handling: Data) -> Data:
        spec: Data = {"latency": latency, "handling": handling, **draw(st.fixed_dictionaries({}, optional=SERVICES))}
        if "concurrency" not in spec:
            spec.pop("queue_limit", None)
            if "rate" not in spec:
                spec.pop("max_wait", None)
        return spec

    model = {"kind": "llm", "overhead": latency, "concurrency": 2, "decode": "10 ms / token"}
    return {
        "seed": draw(st.integers(0, 99)),
        "workload": {"arrivals": {"poisson": "2 / s"}, "tasks": 12},
        "agents": {"a": {"output": "20 tokens", "concurrency": 3, "memory": "m"}},
        "memories": {"m": {"read": "0.1 s", "entry": "10 B", "concurrency": 1, "handling": plain}},
        "models": {"llm": {**model, "handling": draw(handled("spare"))}, "spare": {**model, "handling": plain}},
        "tools": {"t": service(draw(handled("u"))), "u": service(plain)},
        "faults": draw(st.fixed_dictionaries({}, optional=FAULTS)),
        "workflow": {
            "start": "fork",
            "steps": {
                "fork": {"fork": ["x", "y"], "join": draw(st.sampled_from(["all", "any"])), "next": "sub"},
                "x": {"agent": "a", "tools": {"t": 1}},
                "y": {"tool": "t", "next": "z"},
                "z": {"agent": "a"},
                "sub": {"workflow": "w", "handling": draw(st.sampled_from([{}, {"retry": 2}, {"within": "3 s"}]))},
            },
        },
        "workflows": {"w": {"start": "s", "steps": {"s": {"agent": "a", "tools": {"t": 1}, "repeat": 2}}}},
    }


def pools(system: System) -> Iterator[Pool]:
    """Yield the pools of a system."""
    yield from (one for one in system.ledger.resources if isinstance(one, Pool))


def finished(data: Data) -> System:
    """Run a world to its end, and return what is left of it."""
    system = System(scene(data), data.get("seed", 1), 0, "none")
    Load(system).run()
    return system


@settings(max_examples=60, deadline=None, derandomize=True)
@given(troubled())
def test_nothing_is_held_at_the_end(data: Data) -> None:
    """Whatever fails and is cut off: every task ends, all servers are free, no line is left, no strike is open, no bulkhead is filled."""
    system = finished(data)
    assert not system.ledger.live
    assert not system.ledger.lingering
    for pool in pools(system):
        assert (pool.busy, pool.waiting, pool.held_back) == (0, 0, 0), pool.name
    for condition in system.plan.conditions.values():
        assert not condition.present
        assert not condition.outside
    services: list[Any] = [*system._services.values(), *system.servers.values()]
    for one in services:
        if one.guard is not None and one.guard.bulk is not None:
            assert one.guard.bulk.inside == 0
    for counts in system.incidents.counts:
        assert counts[OPEN] == 0


# Streams


def test_what_a_failed_attempt_has_told_is_not_told_again() -> None:
    """Chunks of 10 tokens of an answer of 40, at 0.1 s each; slow and cut off at 4.5 s in the first attempt, and told by the second from there on."""
    told: list[tuple[float, float]] = []
    model = {"decode": "0.1 s / token", "handling": {"timeout": "4.5 s", "retry": 2}}
    slow = {"faults": {"slow": {"on": "models.llm", "at": "999 s", "for": "2 s", "slow": 2}}}
    system = System(scene({"agents": {"a": {"output": "40 tokens"}}, "models": {"llm": model}}, slow), 1, 0, "none")
    load = Load(system)
    call = system._calls["agents.a"]

    def perform(branch: Any, listener: Any = None) -> Any:
        return call.stream(branch, 10.0, lambda tokens, time, _parts: told.append((tokens, round(time - 1000, 6))))

    step: Any = load.entries[0].start
    step.call = _Heard(call, perform)
    step.only = step.plain = None
    load.run()
    assert told == [(10, 2.0), (20, 4.0), (30, 7.5), (40, 8.5)]


class _Heard:
    """A call that is listened to, whoever makes it."""

    direct = False

    def __init__(self, call: Any, perform: Any) -> None:
        self.infer_account = call.infer_account
        self.perform = perform
