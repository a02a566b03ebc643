"""Calls whose output is heard of as it comes: marks at an inference server and at stations, and that nobody notices who listens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.listener import Listener
from coordsim.models.model_call import ModelCall
from coordsim.models.serving.ahead import AheadReplica
from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.places import Limits, Transfers
from coordsim.models.serving.replica import Replica, drive
from coordsim.models.serving.request import Request
from coordsim.models.system import System
from coordsim.sim.engine.branch import Branch

from .scene import Data, merged, scene, steps
from .stepper import Stepper
from .test_replica import STEP, TOLERANCE, made, servers, workloads

Told = list[tuple[int, float]]


def listen(requests: Sequence[Request], seed: int) -> list[Told]:
    """Let most requests have marks at random counts; return where they will be told."""
    rng = np.random.default_rng(seed)
    found: list[Told] = []
    for request in requests:
        told: Told = []
        found.append(told)
        if request.output > 1 and rng.random() < 0.7:
            count = int(rng.integers(1, min(request.output, 8)))
            request.marks = sorted(rng.choice(np.arange(1, request.output), count, replace=False).tolist())
            request.told = lambda tokens, now, told=told: told.append((tokens, now))
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(workloads(), servers(), st.integers(0, 2**32 - 1))
def test_marks_are_reached_when_stepping_says(
    workload: list[dict[str, object]], server: tuple[Limits, float, bool], seed: int
) -> None:
    """Each mark is told once, at the end of the iteration that makes its token, also after a preemption."""
    limits, blocks, prefix = server
    ours, theirs = made(workload), made(workload)
    heard, expected = listen(ours, seed), listen(theirs, seed)
    drive(Replica(STEP, KvCache(blocks, prefix=prefix), limits), ours)
    Stepper(STEP, KvCache(blocks, prefix=prefix), limits).run(theirs)
    for request, one, other in zip(ours, heard, expected, strict=True):
        assert [tokens for tokens, _ in one] == list(request.marks)
        assert [tokens for tokens, _ in one] == [tokens for tokens, _ in other]
        assert [time for _, time in one] == pytest.approx([time for _, time in other], rel=TOLERANCE)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(workloads(), servers(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_nobody_notices_who_listens(
    workload: list[dict[str, object]],
    server: tuple[Limits, float, bool],
    chunked: bool,
    swap: bool,
    ahead: bool,
    seed: int,
) -> None:
    """Whatever the kind of server, all happens at the very same times, to the last bit, and marks lie between first and last token."""
    first = server[0]
    limits = Limits(
        first.sequences, first.tokens, first.block, chunked, first.policy, "swap" if swap else "recompute",
        first.host_step, first.host_token,
    )  # fmt: skip
    kind = AheadReplica if ahead else Replica
    runs = []
    heard: list[Told] = []
    for listened in (False, True):
        requests = made(workload)
        if listened:
            heard = listen(requests, seed)
        replica = kind(STEP, KvCache(server[1], prefix=server[2]), limits, links=(Transfers(1e4),), kv_bytes=1.0)
        drive(replica, requests)
        runs.append((requests, replica.tally))
    (plain, tally), (requests, other) = runs
    assert tally == other
    for one, request, told in zip(plain, requests, heard, strict=True):
        assert (one.first_token, one.ended, one.phases) == (request.first_token, request.ended, request.phases)
        assert [tokens for tokens, _ in told] == list(request.marks)
        times = [time for _, time in told]
        assert times == sorted(times)
        assert all(request.first_token <= time < request.ended for time in times)
        assert all(time == request.first_token for tokens, time in told if tokens == 1)


def test_marks_are_whole_tokens_before_the_end() -> None:
    """A step of 2.5 tokens is heard of when a token more is there; a mark at the end, or twice at one token, is none of its own."""
    nobody = Listener(2.5, lambda *_: None)
    assert nobody.counts(10) == [3, 5, 8]
    assert nobody.counts(0) == []
    assert Listener(0.3, nobody.emit).counts(3) == [1, 2]
    assert Listener(lambda output: [output / 4, output], nobody.emit).counts(10) == [3]
    with pytest.raises(ValueError, match="marks"):
        Listener(0.0, nobody.emit).counts(10)


# Calls within a system


@dataclass
class Heard:
    """What a task heard and how it ended."""

    marks: list[tuple[float, float, list[float]]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)  # the clock, when it was told
    end: float = math.nan
    parts: list[float] = field(default_factory=list)
    facts: list[float] = field(default_factory=list)


class World:
    """Tasks that make one call each, at given times, with or without a listener; some are cancelled at given times."""

    def __init__(self, world: Data, cancels: bool = False, marks: Any = None) -> None:
        scenario = scene(world, RACE if cancels else {})
        self.system = System(scenario, 1, 0, "none")
        self.marks = marks
        agent = scenario.agents["a"]
        self.server = self.system.servers["llm"]
        home = self.system.home(agent.node, self.server)
        self.call: ModelCall = self.system.call("agents.a", home, self.server, agent.prompt, agent.output)
        self.heard: list[Heard] = []

    def run(self, arrivals: Sequence[float], cancelled: dict[int, float] | None = None) -> list[Heard]:
        """Run the tasks; return what each heard."""
        sim = self.system.sim
        for number, when in enumerate(arrivals):
            sim.run(until=when)
            task = self.system.ledger.open(number, 0, when)
            state = self.system.context(number)
            state.tokens = state.held[0] = 320.0
            branch = Branch(task, 0, when, state)
            task.trunk = branch
            self.heard.append(Heard())
            branch.start(self._script(branch, self.heard[-1]))
            if cancelled and number in cancelled:
                sim.schedule_at(cancelled[number], _Cancel(branch, self.heard[-1]))
        sim.run()
        return self.heard

    def _script(self, branch: Branch, heard: Heard) -> Any:
        def emit(tokens: float, time: float, parts: list[float]) -> None:
            heard.marks.append((tokens, time, parts))
            heard.at.append(branch.sim.now)

        if self.marks is None:
            yield from self.call.perform(branch)
        else:
            yield from self.call.stream(branch, self.marks, emit)
        heard.end, heard.parts, heard.facts = branch.time, branch.parts[:], branch.facts[:]
        yield


class _Cancel:
    """An event that cancels a branch."""

    _ok = True
    _value = None

    def __init__(self, branch: Branch, heard: Heard) -> None:
        self.branch, self.heard = branch, heard
        self.callbacks: Any = (self._fire,)

    def _fire(self, _event: object) -> None:
        if math.isnan(self.heard.end):
            self.branch.cancel()
            self.heard.parts = self.branch.parts[:]


# A workflow in which branches are cancelled, so that pools can give up who waits; the tests make their calls by hand.
RACE = steps(
    "work", work={"agent": "a", "next": "race"}, race={"fork": ["x", "x"], "join": 1, "rest": "cancel", "next": "done"}, x={"agent": "a"}
)  # fmt: skip
STATION: Data = {
    "workload": {"request": "320 tokens"},
    "agents": {"a": {"prompt": "100 tokens", "output": {"uniform": {"low": "20 tokens", "high": "60 tokens"}}}},
    "models": {
        "llm": {
            "kind": "llm", "overhead": "0.5 s", "prefill": "1 ms / token", "decode": "0.1 s / token", "concurrency": 2, "speed": 2,
        }
    },
}  # fmt: skip
API: Data = {
    "workload": {"request": "320 tokens"},
    "agents": {"a": {"prompt": "100 tokens", "output": {"uniform": {"low": "20 tokens", "high": "60 tokens"}}}},
    "models": {
        "llm": {
            "kind": "api", "overhead": "0.5 s", "new": "1 ms / token", "output": "0.1 s / token", "cached": "0.1 ms / token",
            "residual": {"lognormal": {"mean": 1.0, "cv": 0.3}}, "limits": {"concurrency": 3},
        }
    },
}  # fmt: skip
ARRIVALS = np.cumsum(np.random.default_rng(4).exponential(1.2, 60)).tolist()


@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("world", [STATION, API], ids=["station", "api"])
def test_a_stream_of_a_station_is_its_call(world: Data, cancels: bool) -> None:
    """Times, parts, facts and the pool's statistics are those of `perform`; a token is there as the law says, before the end."""
    plain, listened = World(world, cancels), World(world, cancels, 7.0)
    ended, heard = plain.run(ARRIVALS), listened.run(ARRIVALS)
    now = max(one.end for one in ended)
    assert plain.server.pool.totals(now) == pytest.approx(listened.server.pool.totals(now), rel=1e-12)
    assert any(one.parts[plain.call.queue_account] for one in ended)
    law = plain.server.output / plain.server.speed
    for number, (one, other) in enumerate(zip(ended, heard, strict=True)):
        assert (one.end, one.facts) == (other.end, other.facts)
        assert one.parts == other.parts
        counts = [tokens for tokens, _, _ in other.marks]
        output = counts[-1]
        assert counts == [*range(7, int(output), 7), output]
        tokens, time, parts = other.marks[-1]
        assert (time, parts) == (one.end, one.parts)
        factor = 1.0
        if plain.call.pace is not None and plain.call.pace.each is not None:
            factor = plain.call.pace.each.draw(number, 0, 0)
        for tokens, time, parts in other.marks:
            assert time == pytest.approx(one.end - (output - tokens) * law * factor, rel=1e-12)
            assert sum(parts) == pytest.approx(time - ARRIVALS[number], rel=1e-9)
            assert all(part <= whole + 1e-12 for part, whole in zip(parts, one.parts, strict=True))
        if cancels:
            assert other.at == [time for _, time, _ in other.marks]


def test_who_is_cancelled_in_a_stream_gives_back_its_slot_and_is_told_no_more() -> None:
    """Cancelled in line, between marks, or at one: the others, what was booked and the pool are as without a listener."""
    rng = np.random.default_rng(8)
    cancelled = {number: ARRIVALS[number] + float(rng.exponential(2.0)) for number in range(0, 60, 3)}
    plain, listened = World(STATION, True), World(STATION, True, 1.0)
    ended, heard = plain.run(ARRIVALS, cancelled), listened.run(ARRIVALS, cancelled)
    now = 1000.0
    assert plain.server.pool.totals(now) == pytest.approx(listened.server.pool.totals(now), rel=1e-12)
    cut = [number for number in cancelled if math.isnan(ended[number].end)]
    assert len(cut) > 5
    assert sum(bool(heard[number].marks) for number in cut) > 3
    for number, (one, other) in enumerate(zip(ended, heard, strict=True)):
        assert one.end == pytest.approx(other.end, nan_ok=True, rel=1e-12)
        assert one.parts == pytest.approx(other.parts, rel=1e-12)
        if number in cut:
            assert all(time <= cancelled[number] for _, time, _ in other.marks)


SERVED: Data = {
    "profile": "h100-sxm",
    "workload": {"request": "320 tokens"},
    "agents": {"a": {"prompt": "1600 tokens", "output": {"uniform": {"low": "20 tokens", "high": "160 tokens"}}}},
    "models": {"llm": {"shape": "llama-3.2-1b"}},
}
BURST = np.cumsum(np.random.default_rng(5).exponential(0.02, 40)).tolist()
SPLIT: Data = {"models": {"llm": {"disaggregated": {"prefill": 1, "decode": 2}}}}
TIGHT: Data = {"models": {"llm": {"memory": {"kv": "260 MB"}, "cache": {"prefix": False}}}}


@pytest.mark.parametrize("patch", [{}, SPLIT, TIGHT], ids=["one", "disaggregated", "little memory"])
def test_a_stream_of_a_served_model_is_its_call(patch: Data) -> None:
    """Times, parts and facts are those of `perform`; each mark is told at its time, the first with the first token."""
    marks: Callable[[float], list[float]] = lambda output: [1.0, *np.arange(20.0, output, 20.0).tolist()]  # noqa: E731
    plain, listened = World(merged(SERVED, patch)), World(merged(SERVED, patch), marks=marks)
    ended, heard = plain.run(BURST), listened.run(BURST)
    ttft = list(plain.system.ledger.facts).index("ttft")
    for number, (one, other) in enumerate(zip(ended, heard, strict=True)):
        assert (one.end, one.facts, one.parts) == (other.end, other.facts, other.parts)
        counts = [tokens for tokens, _, _ in other.marks]
        assert counts == [1, *range(20, int(counts[-1]), 20), counts[-1]]
        assert other.at == [time for _, time, _ in other.marks]
        assert other.marks[-1][1:] == (one.end, one.parts)
        assert other.marks[0][1] - BURST[number] == pytest.approx(one.facts[ttft], rel=1e-9)
        for _, time, parts in other.marks:
            assert sum(parts) == pytest.approx(time - BURST[number], rel=1e-9)
            assert all(part <= whole + 1e-12 for part, whole in zip(parts, one.parts, strict=True))
    preempted = plain.server.pool.replicas[0].tally.preemptions
    assert (preempted > 0) == (patch is TIGHT)


def test_a_stream_over_a_network_is_its_call() -> None:
    """Over contended links the call takes as long, and marks are told before the way back."""
    network: Data = {
        "context": {"bytes_per_token": "2 B / token"},
        "runtime": {"preset": "ideal", "placement": "external", "connection": "persistent"},
        "orchestrator": {"node": "here"},
        "network": {
            "nodes": {"here": {}, "there": {}},
            "links": [{"between": ["here", "there"], "latency": "1 s", "bandwidth": "1 kB/s"}],
        },
        "models": {"llm": {"node": "there"}},
    }
    plain, listened = World(merged(STATION, network)), World(merged(STATION, network), marks=10.0)
    for one, other in zip(plain.run(ARRIVALS[:9]), listened.run(ARRIVALS[:9]), strict=True):
        assert (one.end, one.facts, one.parts) == (other.end, other.facts, other.parts)
        assert one.end - other.marks[-1][1] > 1.0
