"""Idealizations that switch a mechanism off: a context that does not grow, and links that nobody shares."""

from typing import Any

import numpy as np
import pytest

from coordsim.models.bounds import bounds
from coordsim.sim.engine.ledger import CATEGORIES

from .scene import Data, accounts, chain, fact, leaves, merged, named, parts, row_of, run, scene, statuses, steps, total

STATIC: Data = {"context": {"grows": False}}
KINDS = ("new", "carried", "cached", "output")

# -- A context that does not grow

LOOP = steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 4})
STATION: Data = {
    "context": {"bytes_per_token": "2 B / token"},
    "runtime": {
        "preset": "ideal",
        "state": "full",
        "kv": "discard",
        "placement": "external",
        "connection": "persistent",
    },
    "workload": {"request": "1000 tokens"},
    "orchestrator": {"node": "here", "assemble": "1 ms / token"},
    "network": {"nodes": {"here": {}, "there": {}}, "links": [{"between": ["here", "there"], "bandwidth": "1 kB/s"}]},
    "agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}},
    "models": {
        "llm": {"node": "there", "prefill": "10 ms / token", "decode": "20 ms / token", "tokenize": "3 ms / token"}
    },
    "tools": {"t": {"latency": "1 s", "result": "50 tokens", "node": "here"}},
}
NEW = 500 + 1000 + 3 * 50  # a prompt, a request and the results that a later call sees
OUTPUT = 4 * 100


def tokens(*patches: Data, task: int = 0) -> tuple[float, ...]:
    """Return the new, carried, cached and output tokens of a task of a station."""
    return counted(run(STATION, LOOP, *patches), task)


def counted(result: Any, task: int = 0) -> tuple[float, ...]:
    """Return the new, carried, cached and output tokens of a task."""
    return tuple(fact(result, f"{kind}_tokens", task) for kind in KINDS)


def test_nothing_is_carried_and_all_that_is_new_stays() -> None:
    """Four calls: what is new and what comes out is the same, what was there before is not looked at again."""
    assert tokens() == (NEW, 1600 + 1750 + 1900, 0, OUTPUT)
    assert tokens(STATIC) == (NEW, 0, 0, OUTPUT)


def test_only_what_is_new_is_sent_assembled_and_computed() -> None:
    """Every second by hand: 2 B a token over 1 kB/s, 1 ms to assemble it, 3 ms to tokenize and 10 ms to prefill it."""
    result = run(STATION, LOOP, STATIC)
    assert fact(result, "bytes") == 2 * (NEW + OUTPUT)
    assert named(result, "transmit") == pytest.approx(0.002 * (NEW + OUTPUT))
    assert named(result, "assemble prompt") == pytest.approx(0.001 * NEW)
    assert named(result, "inference") == pytest.approx(0.013 * NEW + 0.02 * OUTPUT)
    assert parts(result)["context"] == pytest.approx(0.001 * NEW)


def test_inference_is_the_same_and_all_else_less() -> None:
    """Growth costs context and communication; the work done for the first time does not change."""
    grown, still = run(STATION, LOOP), run(STATION, LOOP, STATIC)
    before, after = parts(grown), parts(still)
    assert after["inference"] == pytest.approx(before["inference"])
    assert after["tool"] == before["tool"]
    assert after["context"] < 0.3 * before["context"]
    assert after["communication"] < 0.5 * before["communication"]


@pytest.mark.parametrize("grows", [True, False])
def test_a_turn_costs_more_the_later_it_is_only_where_the_context_grows(grows: bool) -> None:
    """Eight turns more cost the same each time without growth, and more and more with it."""
    times = [
        total(run(STATION, {"context": {"grows": grows}}, steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": n})))
        for n in (8, 16, 24)
    ]
    first, second = np.diff(times)
    assert second == pytest.approx(first) if not grows else second > 1.3 * first


def test_a_model_on_a_busy_host_assembles_only_what_is_new() -> None:
    """Where the cores are counted, they assemble as much as where they are not."""
    cores = {"network": {"nodes": {"here": {"cores": 1}}}}
    result = run(STATION, LOOP, STATIC, cores)
    assert named(result, "assemble prompt") == pytest.approx(0.001 * NEW)


def test_a_session_is_not_restored() -> None:
    """With its state at the server, nothing has to be brought back where nothing is carried."""
    session = {"runtime": {"state": "delta"}, "models": {"llm": {"restore": {"overhead": "5 s"}}}}
    assert named(run(STATION, LOOP, session), "restore session") == 15
    assert named(run(STATION, LOOP, session, STATIC), "restore session") == 0


def test_an_api_charges_for_what_is_new() -> None:
    """Seconds and dollars of a hosted model by hand; with growth it charges for what its cache holds, too."""
    api = {
        "models": {
            "llm": None,
            "api": {
                "kind": "api", "new": "10 ms / token", "cached": "1 ms / token", "output": "20 ms / token", "cache_hit": "50 %",
                "price": {"input": "$2 / 1M tokens", "cached": "$1 / 1M tokens", "output": "$4 / 1M tokens"}, "node": "there",
            },
        },
        "agents": {"a": {"model": "api"}},
    }  # fmt: skip
    still, grown = run(STATION, LOOP, api, STATIC), run(STATION, LOOP, api)
    assert counted(still) == (NEW, 0, 0, OUTPUT)
    assert counted(grown) == (NEW, 2625, 2625, OUTPUT)
    assert fact(still, "cost") == pytest.approx((2 * NEW + 4 * OUTPUT) / 1e6)
    assert named(still, "inference") == pytest.approx(0.01 * NEW + 0.02 * OUTPUT)
    assert named(still, "carried tokens") == 0
    assert named(grown, "carried tokens") == pytest.approx(0.01 * 2625 + 0.001 * 2625)


@pytest.mark.parametrize("state", ["full", "delta"])
def test_state_that_goes_from_home_to_home_is_sent_once(state: str) -> None:
    """Two agents in turn, each where it lives: a hand-off takes what the other has not yet, not all there is."""
    homes = merged(
        STATION,
        {
            "runtime": {"placement": "own", "state": state},
            "network": {"links": [{"between": ["here", "there"], "latency": "1 s"}]},
            "agents": {"a": {"node": "here"}, "b": {"model": "llm", "node": "there", "output": "100 tokens"}},
        },
    )
    walk = chain(*((f"s{n}", {"agent": "ab"[n % 2]}) for n in range(4)))
    grown, still = (
        [span.size for span in leaves(run(homes, walk, more)) if (span.component, span.name) == ("handoff", "transit")]
        for more in ({}, STATIC)
    )
    assert still == [2 * 1100, 2 * 100, 2 * 100]
    assert grown == ([2 * 1100, 2 * 1200, 2 * 1300] if state == "full" else still)


def test_branches_beside_each_other_take_in_what_is_new_once() -> None:
    """Three branches begin with one context: the first is the first to send it, and only a context that grows is carried."""
    fork = steps("f", f={"fork": ["g"], "copies": 3, "next": "h"}, g={"agent": "a"}, h={"agent": "a"})
    grown, still = run(STATION, fork), run(STATION, fork, STATIC)
    assert counted(grown) == (1500, 2 * 1500 + 1500 + 300, 0, 400)
    assert counted(still) == (1500, 0, 0, 400)


def test_draws_stay_as_they_are() -> None:
    """Outputs, results, choices and services are the same random numbers with growth and without."""
    random = {
        "agents": {"a": {"output": {"exponential": {"mean": "100 tokens"}}}},
        "tools": {"t": {"latency": {"exponential": {"mean": "1 s"}}, "result": {"exponential": {"mean": "60 tokens"}}}},
    }
    walk = steps("w", w={"agent": "a", "tools": {"t": 2, "none": 1}, "repeat": {"geometric": {"mean": 6}}})
    grown, still = (run(STATION, random, walk, more, {"workload": {"tasks": 40}}) for more in ({}, STATIC))
    for name in ("steps", "llm_calls", "tool_calls", "output_tokens", "new_tokens"):
        assert grown.fact(name).tolist() == still.fact(name).tolist()
    for task in range(40):
        assert named(grown, "tool.execute", task) == pytest.approx(named(still, "tool.execute", task))


SERVED: Data = {
    "profile": "h100-sxm",
    "runtime": {"preset": "ideal", "kv": "cache"},
    "workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 2, "request": "320 tokens"},
    "agents": {"a": {"prompt": "1600 tokens", "output": "160 tokens"}},
    "models": {"llm": {"shape": "llama-3.2-1b"}},
    "tools": {"t": {"latency": "1 s", "result": "160 tokens"}},
}


def test_a_server_that_batches_takes_in_what_is_new() -> None:
    """Of a task nothing is found or computed again; the agent's prompt is still found from the task before."""
    grown, still = run(SERVED, LOOP), run(SERVED, LOOP, STATIC)
    new, output = 1600 + 320 + 3 * 160, 4 * 160
    assert counted(still) == (new, 0, 0, output)
    assert counted(still, task=1) == (new, 0, 1600, output)
    assert counted(grown)[0] == new
    assert counted(grown)[2] > 5000
    assert "context" not in parts(still)
    assert parts(still)["inference"] < parts(grown)["inference"]  # attention over less


@pytest.mark.parametrize("kv", ["discard", "cache", "keep", "swap", "predict"])
def test_every_policy_of_kv_serves_without_growth(kv: str) -> None:
    """Whatever becomes of KV between calls, nothing is carried; a second agent's prompt is new, the context it shares is not."""
    two = chain(
        ("w", {"agent": "a", "tools": {"t": 1}, "repeat": 3}), ("v", {"agent": "b", "repeat": 2}), ("u", {"agent": "a"})
    )
    second = {"agents": {"b": {"model": "llm", "prompt": "800 tokens", "output": "80 tokens"}}}
    host = {"cache": {"host": "2 GB"}} if kv in ("swap", "predict") else {}
    result = run(SERVED, two, second, STATIC, {"runtime": {"kv": kv}, "models": {"llm": host}})
    assert statuses(result) == [0, 0]
    assert counted(result) == (1600 + 320 + 3 * 160 + 800, 0, 0, 3 * 160 + 2 * 80 + 160)
    assert counted(result, task=1)[1:3] == (0, 1600 + 800)  # both prompts are there from the task before


@pytest.mark.parametrize("state", ["full", "delta"])
def test_the_demand_of_a_context_that_does_not_grow_is_what_a_run_takes(state: str) -> None:
    """`coordsim check` adds up to T_total of a task that is alone, category by category; with growth it says more."""
    of = scene(STATION, LOOP, STATIC, {"runtime": {"state": state}})
    result = run(STATION, LOOP, STATIC, {"runtime": {"state": state}})
    found = bounds(of).times
    assert {name: found[name] for name in CATEGORIES if found[name]} == pytest.approx(parts(result))
    assert sum(bounds(of.replace("context.grows", True)).times.values()) > 1.1 * total(result)


# -- Links that nobody shares


def wire(shared: bool, copies: int, bandwidth: str = "100 B/s") -> Data:
    """Return a task that asks a tool over a link, `copies` times at once: 1000 B there, 500 B back."""
    return {
        "runtime": {"preset": "ideal", "placement": "external", "connection": "persistent"},
        "orchestrator": {"node": "here"},
        "tools": {"t": {"node": "there", "latency": "2 s", "request": "1000 B", "response": "500 B"}},
        "network": {
            "nodes": {"here": {}, "there": {}},
            "links": [
                {
                    "between": ["here", "there"],
                    "latency": "1 s",
                    "overhead": "0.5 s",
                    "bandwidth": bandwidth,
                    "shared": shared,
                }
            ],
        },
    } | steps("f", f={"fork": ["g"], "copies": copies}, g={"tool": "t"})


@pytest.mark.parametrize("copies", [1, 2, 7])
def test_transfers_at_once_take_the_time_of_one_where_nobody_shares(copies: int) -> None:
    """Of n transfers at once, each of S bytes, the last takes n S / C where they share, S / C where each is as if alone."""
    alone = 3 + 2 + 1500 / 100
    assert total(run(wire(True, 1))) == pytest.approx(alone)
    assert total(run(wire(True, copies))) == pytest.approx(3 + 2 + copies * 15)
    assert total(run(wire(False, copies))) == pytest.approx(alone)
    assert named(run(wire(False, copies)), "transmit") == pytest.approx(15)


def test_alone_both_are_the_same_in_every_account() -> None:
    """Without contention to take away nothing changes, but that no link is counted as a resource."""
    shared, own = run(wire(True, 1)), run(wire(False, 1))
    assert accounts(own) == pytest.approx(accounts(shared))
    assert row_of(own)[:6].tolist() == pytest.approx(row_of(shared)[:6].tolist())
    assert any(resource.name.startswith("network.") for resource in shared.resources)
    assert not any(resource.name.startswith("network.") for resource in own.resources)


def test_a_transfer_of_its_own_still_depends_on_the_bandwidth() -> None:
    """Half of it takes twice as long, half as much again two thirds."""
    assert named(run(wire(False, 4, "50 B/s")), "transmit") == pytest.approx(30)
    assert named(run(wire(False, 4, "150 B/s")), "transmit") == pytest.approx(10)


def test_a_link_without_a_bandwidth_shares_nothing_either_way() -> None:
    """There `shared` makes no difference."""
    free = {"network": {"links": [{"between": ["here", "there"], "shared": False}]}}
    assert total(run(wire(True, 3), free)) == 2


def test_bounds_count_the_transmission_but_no_such_resource() -> None:
    """Times are those of an empty system either way, and no load of the link can ever be its limit."""
    shared, own = bounds(scene(wire(True, 1))), bounds(scene(wire(False, 1)))
    assert own.times == pytest.approx(shared.times)
    assert sum(own.times.values()) == pytest.approx(total(run(wire(False, 1))))
    assert any(one.name.startswith("network.") for one in shared.resources)
    assert not any(one.name.startswith("network.") for one in own.resources)
