"""What becomes of a task's KV while its tool runs: each policy with a real cache, then in an agent's loop."""

import math
from typing import Any

import pytest

from coordsim.models.serving.cluster import Cluster
from coordsim.models.serving.kv_cache import KvCache, Path, Tier
from coordsim.models.serving.places import Limits, Transfers
from coordsim.models.serving.replica import Replica, drive
from coordsim.models.serving.request import QUEUE, Request
from coordsim.models.serving.retention import Kv, Retention
from coordsim.models.serving.routing import Router
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.branch import Wait
from coordsim.sim.engine.simulation import Simulation

from .linear_steps import LinearSteps
from .scene import Data, fact, named, parts, run, steps

SECOND = LinearSteps(fixed=1.0, token=0.0, attend=0.0)
CALLER = 3
PROMPT = ("prompt", CALLER)
PATH: Path = ((PROMPT, 2), (7, 4))  # 8 tokens of the caller's own, 16 of the task's, in blocks of 4
WHOLE: Path = ((PROMPT, 2), (7, 5))  # with 5 tokens of output, the last of which has no KV


def server(blocks: float = 100.0, host: float = 0.0) -> Replica:
    """Return a replica with blocks of 4 tokens, and one byte a token."""
    tiers, links = ([Tier("host", host)], (Transfers(100.0),)) if host else ([], ())
    return Replica(SECOND, KvCache(blocks, tiers=tiers), Limits(block=4), links=links, kv_bytes=1.0)


def call(
    arrived: float = 0.0, path: Path = PATH, output: int = 5, session: tuple[int, int, int] = (7, CALLER, 0)
) -> Request:
    """Return a call of a task."""
    request = Request(4 * sum(blocks for _, blocks in path), output, arrived, path)
    request.session = session
    return request


def after(policy: Kv, replica: Replica, hold: float = 60.0) -> tuple[Retention, Request]:
    """Return what a policy has done when one call is over."""
    request = call()
    drive(replica, [request])
    retention = Retention(policy, hold, 1.0)
    retention.ended(request.session, request, replica, request.ended)
    replica.kv.check()
    return retention, request


def test_discard_leaves_the_callers_prompt() -> None:
    """The task's blocks are free at once; the prompt, which other tasks share, stays."""
    replica = server()
    after("discard", replica)
    assert replica.kv.match(WHOLE, 10.0) == 2
    assert (replica.kv.dropped, replica.kv.cached, replica.kv.pinned) == (5, 2, 0)


def test_discard_without_a_prompt_leaves_nothing() -> None:
    """What comes first in a context is no caller's prompt: parts of a task's context go, whichever they are."""
    replica = server()
    path: Path = ((7, 3), ((7, 1), 2))  # a context, and what a parallel branch has added
    request = call(path=path)
    drive(replica, [request])
    Retention("discard", 60.0, 1.0).ended(request.session, request, replica, request.ended)
    assert replica.kv.cached == 0


def test_cache_leaves_everything_to_the_cache() -> None:
    """All full blocks stay, of the output too, and any may be evicted."""
    replica = server()
    after("cache", replica)
    assert replica.kv.match(WHOLE, 10.0) == 7
    assert (replica.kv.dropped, replica.kv.cached, replica.kv.pinned) == (0, 7, 0)


def test_keep_pins_until_the_hold_is_over() -> None:
    """All full blocks are pinned for the time to hold, and cached after it."""
    replica = server()
    after("keep", replica, hold=60.0)
    kv = replica.kv
    assert (kv.cached, kv.pinned) == (7, 7)
    assert kv.room(64.9) == 93.0
    assert kv.room(65.0) == 100.0
    assert kv.match(WHOLE, 66.0) == 7


def test_keep_renews_what_it_holds() -> None:
    """The next call's KV is held in place of the first's; the end of the task lets go of it."""
    replica = server()
    retention, first = after("keep", replica)
    assert retention.came(first.session, 10.0) is replica
    longer: Path = ((PROMPT, 2), (7, 8))
    second = call(10.0, longer)
    drive(replica, [second])
    assert second.hit == 4 * 7
    retention.ended(second.session, second, replica, second.ended)
    assert replica.kv.pinned == 11
    assert len(replica.kv._pins) == 1
    assert retention.over(7, second.ended) == [replica]
    assert replica.kv.pinned == 0
    assert retention.over(7, second.ended) == []
    assert retention.came(second.session, 30.0) is None


def test_a_session_that_moves_holds_nothing_where_it_was() -> None:
    """Served by another replica, the same content is held there, and no more by the first."""
    here, there = server(), server()
    retention, first = after("keep", here)
    again = call(10.0)
    drive(there, [again])
    retention.ended(first.session, again, there, again.ended)
    assert (here.kv.pinned, there.kv.pinned) == (0, 7)


def test_swap_copies_to_the_host() -> None:
    """The task's blocks lie on the host, the prompt on the device; without a host they stay where they are."""
    replica = server(host=50.0)
    after("swap", replica)
    assert replica.kv.matches(WHOLE, 10.0) == (2, 5)
    back = call(10.0, WHOLE, output=1)
    drive(replica, [back])
    assert back.hit == 4 * 6  # the last token is computed
    assert back.first_token == pytest.approx(10.0 + 4 * 4 / 100 + 1.0)
    none = server()
    after("swap", none)
    assert none.kv.matches(WHOLE, 10.0) == (7,)


# Prediction


def chosen(gap: float, host: float = 0.0, others: int = 0, calls: int = 4) -> list[str]:
    """Return what `predict` does after each call of a session whose tools take `gap` seconds; `others` blocks are in use."""
    replica = server(1000.0, host)
    retention = Retention("predict", 1e6, 1.0)
    found, now = [], 0.0
    if others:
        replica.submit(Request(4 * others, 10**6), 0.0)
    for _ in range(calls):
        request = call(now)
        request.phases = ((QUEUE, now),)
        lease = replica.kv.open((), now, 0)
        assert replica.kv.grow(lease, 7, now)
        request.generated = 5
        replica.kv.commit(lease, WHOLE, now)
        replica.kv.close(lease, now)
        retention.ended(request.session, request, replica, now)
        on_device = replica.kv.match(WHOLE, now)
        found.append("keep" if replica.kv.pinned else "cache" if on_device == 7 else "swap")
        now += gap
    return found


def test_predict_sees_the_past_only() -> None:
    """Before any tool has run it leaves KV to the cache; then it does what the tools so far suggest."""
    assert chosen(0.01) == ["cache"] + ["keep"] * 3
    assert chosen(30.0) == ["cache"] * 4


def test_predict_weighs_what_each_choice_wastes() -> None:
    """5 blocks held for 4 s are 20 block-seconds: less than 17 s-blocks only if none or few wait while they are computed again."""
    assert chosen(0.9)[-1] == "keep"  # 5 x 0.9 < 5 x 1 s
    assert chosen(1.1)[-1] == "cache"
    replica_with_others = server(1000.0)
    replica_with_others.kv.grow(replica_with_others.kv.open((), 0.0, 0), 15, 0.0)
    retention = Retention("predict", 1e6, 1.0)
    retention._gaps[CALLER] = type(retention._gaps.setdefault(0, _gaps()))(1, 3.9)
    assert retention._choose(CALLER, 5, replica_with_others) == "keep"  # 5 x 3.9 < (5 + 15) x 1 s
    retention._gaps[CALLER].seconds = 4.1
    assert retention._choose(CALLER, 5, replica_with_others) == "cache"


def _gaps() -> Any:
    from coordsim.models.serving.retention import _Gaps

    return _Gaps()


def test_predict_swaps_where_copying_is_cheaper() -> None:
    """To copy 20 bytes at 100 bytes/s out and back holds 5 blocks for 0.4 s: less than 5 for a second, or for the tool."""
    assert chosen(0.3, host=50.0)[-1] == "keep"
    assert chosen(30.0, host=50.0) == ["cache"] + ["swap"] * 3


# With others who wait


def held(hold: float = 60.0) -> tuple[Cluster, Request, Request]:
    """Return a server of 40 blocks, 7 of which are held from 5 s on, and a request that needs 12 at 6 s, when there are 11.

    Another has 20 blocks, and takes one more every 4 s.
    """
    retention = Retention("keep", hold, 1.0)
    where = Cluster(Simulation(), "models.llm", lambda: server(40.0), 1, Router("round-robin"), retention, range(4))
    one, other = call(), call(6.0, (((9, 9), 12),), output=1, session=(9, 0, 0))
    busy = call(path=(((8, 8), 20),), output=40, session=(8, 0, 0))
    for request in (one, busy, other):
        where.use(Wait(lambda _event: None), request.arrived, request)
    return where, one, other


def test_who_waits_is_looked_at_again_when_a_pin_ends() -> None:
    """The one who waits for blocks is taken in at the very end of the hold."""
    where, one, other = held(hold=20.0)
    where.sim.run()
    assert one.ended == 5.0
    assert other.admitted == 25.0
    assert other.ended == 26.0


def test_who_waits_is_looked_at_again_when_a_task_is_over() -> None:
    """The end of the task that holds them frees its blocks for the one who waits, from the next iteration on."""
    where, _, other = held()
    where.sim.run(12.5)
    assert math.isnan(other.admitted)
    where.forget(7)
    where.sim.run()
    assert other.admitted == 13.0


def test_what_is_held_yields_where_nobody_could_run() -> None:
    """With 7 of 10 blocks held and nobody in the batch, one who needs 8 is taken in at once: what is held gives way."""
    retention = Retention("keep", 60.0, 1.0)
    where = Cluster(Simulation(), "models.llm", lambda: server(10.0), 1, Router("round-robin"), retention, range(4))
    one, other = call(), call(6.0, (((9, 9), 8),), output=1, session=(9, 0, 0))
    for request in (one, other):
        where.use(Wait(lambda _event: None), request.arrived, request)
    where.sim.run()
    assert other.admitted == 6.0
    assert where.replicas[0].kv.evicted == 5


# In an agent's loop

LOOP: Data = {
    "profile": "h100-sxm",
    "workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 3, "request": "320 tokens"},
    "agents": {"a": {"model": "llm", "prompt": "1600 tokens", "output": "160 tokens"}},
    "models": {"llm": {"shape": "llama-3.2-1b"}},
    "tools": {"t": {"latency": "5 s", "result": "160 tokens"}},
    **steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 4}),
}


def loop(kv: str, *patches: Data) -> Result:
    """Return three tasks, one after the other, whose agent calls the model 4 times with a tool of 5 s between."""
    return run(LOOP, {"runtime": {"preset": "ideal", "kv": kv}}, *patches)


# Before its calls a task has 320, 640, 960 and 1280 tokens of context, in blocks of 16; the output's last has no KV.
KNOWN = [0, 320 + 160, 640 + 160, 960 + 160]


def test_discard_finds_the_prompt_only() -> None:
    """Of the four calls of the first task three hit the prompt's 100 blocks, and all else is computed again each time."""
    result = loop("discard")
    assert fact(result, "cached_tokens") == 3 * 1600
    assert fact(result, "carried_tokens") == sum(KNOWN)
    assert fact(result, "cached_tokens", 1) == 4 * 1600  # the prompt is there from the first task
    assert fact(result, "new_tokens", 1) == 1600 + 320 + 3 * 160


def test_cache_and_keep_find_all_that_was_there() -> None:
    """All blocks of the call before, of its output too, but for the last token of it: nothing is computed twice but that block."""
    for kv in ("cache", "keep", "predict"):
        result = loop(kv)
        assert fact(result, "cached_tokens", 1) == 4 * 1600 + sum(known - 16 for known in KNOWN[1:]), kv
        assert fact(result, "carried_tokens", 1) == 3 * 16, kv
        seconds = parts(result, 1)["context"]
        assert 0 < seconds < 0.1 * parts(loop("discard"), 1)["context"], kv


def test_swap_fetches_from_the_host() -> None:
    """All but the prompt comes back over the link: its bytes over its bandwidth, as context."""
    host = {"models": {"llm": {"cache": {"host": "10 GB", "host_bandwidth": "1 GB/s"}}}}
    result = loop("swap", host)
    assert fact(result, "cached_tokens", 1) == 4 * 1600 + sum(known - 16 for known in KNOWN[1:])
    each = 2 * 16 * 8 * 64 * 2  # bytes of KV a token: keys and values, 16 layers, 8 heads of 64, 2 bytes
    assert named(result, "fetch KV", 1) == pytest.approx(sum(known - 16 for known in KNOWN[1:]) * each / 1e9)
    assert named(loop("keep", host), "fetch KV", 1) == 0.0


def crowded(kv: str, tool: str) -> float:
    """Return the mean seconds of tasks whose KV does not all fit, less their tools."""
    result = run(
        LOOP,
        {
            "runtime": {"preset": "ideal", "kv": kv},
            "workload": {"arrivals": {"poisson": "4 / s"}, "tasks": 60, "request": "3200 tokens"},
            "models": {"llm": {"shape": "llama-3.1-8b", "memory": {"kv": "4 GB"}, "cache": {"hold": "300 s"}}},
            "tools": {"t": {"latency": {"exponential": {"mean": tool}}}},
        },
    )
    done = result.rows[:, 3] - result.rows[:, 2]
    return float(done.mean()) - sum(parts(result, task)["tool"] for task in range(60)) / 60


@pytest.mark.parametrize("tool", ["50 ms", "30 s"])
def test_predict_is_near_the_best(tool: str) -> None:
    """With short tools and with long ones, the time beside them is at most a fifth above that of the best fixed choice."""
    others = {kv: crowded(kv, tool) for kv in ("discard", "cache", "keep")}
    assert crowded("predict", tool) < 1.2 * min(others.values()), others
    assert max(others.values()) > 1.2 * min(others.values())  # else there would be nothing to choose


def test_what_keep_holds_others_cannot_have() -> None:
    """With long tools and little memory, tasks wait longer in line where KV is kept than where it is left to the cache."""
    assert crowded("keep", "30 s") > crowded("cache", "30 s")
