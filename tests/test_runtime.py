"""Runtimes: presets and their policies, and that each saving is a difference of counts that both ledgers hold."""

from typing import Any

import pytest

from coordsim.models.runtime import PRESETS, Runtime
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, chain, fact, merged, named, overlapped, parts, run, scene, steps, total

# Constants that tell what each second was for: of latency, loopback, codecs, dispatch, polling, prefill and restoring.
WORLD: Data = {
    "context": {"bytes_per_token": "2 B / token"},
    "workload": {"request": "1000 tokens"},
    "orchestrator": {"node": "edge", "dispatch": "7 s", "assemble": "1 ms / token", "poll_interval": "10 s"},
    "network": {
        "nodes": {"edge": {}, "pod": {}},
        "links": [{"between": ["edge", "pod"], "latency": "3 s"}],
        "loopback": "1 s",
    },
    "serializers": {
        "json": {"encode": {"overhead": "0.5 s"}, "decode": {"overhead": "0.25 s"}},
        "binary": {"encode": {"overhead": "0.05 s"}, "decode": {"overhead": "0.025 s"}},
    },
    "agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}},
    "models": {
        "llm": {
            "node": "pod",
            "overhead": "4 s",
            "prefill": "1 ms / token",
            "decode": "10 ms / token",
            "restore": {"overhead": "2 s"},
        }
    },
    "tools": {
        "t": {"latency": "5 s", "node": "pod", "result": "50 tokens"},
        "u": {"latency": "6 s", "node": "edge", "result": "50 tokens"},
    },
    "workflow": {
        "start": "w",
        "steps": {
            "w": {
                "agent": "a",
                "repeat": 2,
                "tools": {"markov": {"start": {"t": 1}, "t": {"u": 1}, "u": {"t": 1}}},
                "calls": 2,
            }
        },
    },
}
TURNS, CALLS = 2, 6  # turns of the loop; calls: each turn of the model and of two tools


def world(**runtime: Any) -> Result:
    """Run it under a runtime."""
    return run(WORLD, {"runtime": runtime})


def counts(result: Result) -> dict[str, float]:
    """Return what a runtime may save, as the ledger counted it."""
    return {name: fact(result, name) for name in ("messages", "bytes", "new_tokens", "carried_tokens", "cached_tokens")}


def test_no_preset_contains_a_duration() -> None:
    """A preset names policies: no number is in it, nor any text that has one."""
    for policies in PRESETS.values():
        assert set(policies) == set(Runtime.model_fields) - {"preset"}
        for policy in policies.values():
            assert policy is None or isinstance(policy, str)
            assert not any(letter.isdigit() for letter in policy or "")


def test_the_ideal_runtime_adds_nothing() -> None:
    """Without links between nodes there is no coordination but tools and queues."""
    bare = merged(WORLD, {"network": {"nodes": {"edge": {}}, "links": []}, "models": {"llm": {"node": "edge"}}})
    bare = merged(bare, {"tools": {"t": {"node": "edge"}}})
    result = run(bare, {"runtime": "ideal"})
    assert parts(result) == pytest.approx({"inference": TURNS * 5 + 1.5 + 0.1, "tool": TURNS * 11})
    assert named(result, "tool.execute") == pytest.approx(result.coordination[0])


def test_stateless_api_by_hand() -> None:
    """A call of the model: dispatch, assembly, codec, connection, latency; tools the same, on their nodes."""
    result = world(preset="stateless-api")
    over_link, on_edge = TURNS * 2, TURNS  # calls of the model and of t; calls of u
    assert parts(result) == pytest.approx(
        {
            "orchestration": TURNS * 7,
            "context": (1500 + 1700) / 1000 + 1600 / 1000,
            "serialization": CALLS * 2 * 0.75,
            "communication": over_link * (4 * 3 + 2 * 3) + on_edge * (4 * 1 + 2 * 1),
            "inference": TURNS * 5 + 1.5 + 0.1,
            "tool": TURNS * 11,
        }
    )
    assert fact(result, "messages") == CALLS * (2 + 4)


def test_external_orchestrator_by_hand() -> None:
    """Connections last, but the end of a call is noticed at the next tick of 10 s."""
    result = world(preset="external-orchestrator")
    polls = (10 - 6.5) + (10 - 6.7) + TURNS * (5 + 4)
    assert parts(result)["orchestration"] == pytest.approx(TURNS * 7 + polls)
    assert parts(result)["communication"] == pytest.approx(4 * 2 * 3 + 2 * 2 * 1)
    assert fact(result, "messages") == CALLS * 2


def test_session_state_by_hand() -> None:
    """Only the delta is sent, the session is restored from the second call on, and nothing is prefilled again."""
    result = world(preset="session-state")
    assert parts(result)["orchestration"] == pytest.approx(TURNS * 7)
    assert parts(result)["context"] == pytest.approx(2)
    assert fact(result, "bytes") == 2 * (1500 + 100 + 100 + 100)
    assert fact(result, "carried_tokens") == 0


def test_agent_native_by_hand() -> None:
    """The agent runs with its model: one dispatch, tools overlapped; what is on its node is a call within the process."""
    result = world(preset="agent-native")
    to_u = 2 * 3 + 2 * 0.075
    handoff = 3 + 0.075  # control and the request come from the edge to the pod, once
    assert total(result) == pytest.approx(7 + handoff + TURNS * 5 + 1.6 + TURNS * (6 + to_u))
    assert overlapped(result) == pytest.approx(TURNS * 5)
    assert parts(result)["orchestration"] == 7
    assert fact(result, "bytes") == 2 * 1000
    assert fact(result, "messages") == 1 + TURNS * 2


def test_dropping_state_is_a_difference_of_bytes() -> None:
    """With a codec of 1 ms a byte and way, the time saved by sending deltas is what the bytes say."""
    slow = {"serializers": {"json": {"encode": {"bandwidth": "1 kB/s"}, "decode": {"overhead": "0 s"}}}}
    full, delta = (
        run(
            WORLD,
            slow,
            {"runtime": {"preset": "stateless-api", "state": state}},
            {"models": {"llm": {"restore": None}}, "orchestrator": {"assemble": None}},
        )
        for state in ("full", "delta")
    )
    saved = fact(full, "bytes") - fact(delta, "bytes")
    assert saved == 2 * (500 + 1000 + 100)
    assert total(full) - total(delta) == pytest.approx(saved / 1000)


def test_lasting_connections_are_a_difference_of_messages() -> None:
    """Every handshake message that is saved saves its latency."""
    new, persistent = (world(preset="stateless-api", connection=one) for one in ("new", "persistent"))
    saved = fact(new, "messages") - fact(persistent, "messages")
    assert saved == CALLS * 4
    assert total(new) - total(persistent) == pytest.approx(4 * 4 * 3 + 2 * 4 * 1)
    assert counts(new)["bytes"] == counts(persistent)["bytes"]


def test_keeping_kv_is_a_difference_of_tokens() -> None:
    """Carried tokens become cached ones, and their prefill is what is saved."""
    discard, keep = (world(preset="stateless-api", kv=one) for one in ("discard", "keep"))
    saved = fact(discard, "carried_tokens") - fact(keep, "carried_tokens")
    assert saved == fact(keep, "cached_tokens") == 1600
    assert total(discard) - total(keep) == pytest.approx(saved / 1000)


def test_events_instead_of_polling_are_a_difference_of_waits() -> None:
    """What polling waits for its ticks, and nothing else, is saved."""
    polling, event = (world(preset="external-orchestrator", notification=one) for one in ("polling", "event"))
    assert total(polling) - total(event) == pytest.approx(named(polling, "poll"))
    assert counts(polling) == counts(event)


def test_dispatching_each_task_once_is_a_difference_of_dispatches() -> None:
    """Two turns, one dispatch; without dispatch none. The first step dispatches, whatever kind of step it is."""
    every, once, none = (world(preset="stateless-api", dispatch=d) for d in ("every-step", "every-task", "none"))
    assert total(every) - total(once) == pytest.approx(7)
    assert total(once) - total(none) == pytest.approx(7)
    mixed = chain(("t", {"tool": "t"}), ("w", {"agent": "a"}), ("v", {"agent": "a"}))
    assert named(run(WORLD, mixed, {"runtime": {"preset": "ideal", "dispatch": "every-task"}}), "dispatch") == 7
    assert named(run(WORLD, mixed, {"runtime": {"preset": "ideal", "dispatch": "every-step"}}), "dispatch") == 21


def test_a_task_is_dispatched_once_whatever_forks() -> None:
    """Three branches at once are one task."""
    fork = steps("f", f={"fork": ["w"], "copies": 3}, w={"agent": "a"})
    result = run(
        WORLD, fork, {"runtime": {"preset": "ideal", "dispatch": "every-task"}, "models": {"llm": {"node": "edge"}}}
    )
    dispatches = [span for span in result.spans if span.name == "dispatch"]
    assert len(dispatches) == 1


def test_another_codec_is_a_difference_of_its_laws() -> None:
    """Each message of either kind is encoded and decoded once."""
    json, binary, raw = (world(preset="stateless-api", codec=codec) for codec in ("json", "binary", "none"))
    assert total(json) - total(binary) == pytest.approx(CALLS * 2 * (0.75 - 0.075))
    assert total(binary) - total(raw) == pytest.approx(CALLS * 2 * 0.075)


def test_placement_decides_which_calls_cross_the_link() -> None:
    """At the orchestrator, or on its own node, or with its model."""
    own = {"agents": {"a": {"node": "pod"}}}
    external = run(WORLD, own, {"runtime": {"preset": "session-state", "placement": "external"}})
    moved = run(WORLD, own, {"runtime": {"preset": "session-state", "placement": "own"}})
    beside = run(WORLD, {"runtime": {"preset": "session-state", "placement": "co-located"}})
    transit = [span for span in external.spans if span.name == "transit" and span.end - span.start == pytest.approx(3)]
    assert len(transit) == TURNS * 2 * 2
    crossed = [span for span in moved.spans if span.name == "transit" and span.end - span.start == pytest.approx(3)]
    assert len(crossed) == 1 + TURNS * 2  # control comes over once, and each call of u goes back
    assert parts(beside) == parts(moved)


def test_an_evaluator_takes_control_too() -> None:
    """It is dispatched, and where it runs elsewhere, state comes to it."""
    judge = {"evaluators": {"e": {"model": "llm", "accept": 1.0}}}
    flow = steps("w", w={"agent": "a", "next": "x"}, x={"evaluator": "e", "rejected": "w"})
    placed = {
        "agents": {"a": {"node": "edge"}},
        "runtime": {"preset": "ideal", "dispatch": "every-step", "placement": "own", "connection": "in-process"},
    }
    result = run(WORLD, judge, flow, placed, {"evaluators": {"e": {"node": "pod"}}})
    assert named(result, "dispatch") == 14
    handoffs = [span for span in result.spans if span.component == "handoff"]
    assert [span.size for span in handoffs] == [2 * 1100]


OVERRIDES = [
    ("state", "delta"),
    ("kv", "keep"),
    ("kv", "cache"),
    ("kv", "swap"),
    ("kv", "predict"),
    ("connection", "persistent"),
    ("connection", "shared-memory"),
    ("control", "device"),
    ("codec", "binary"),
    ("codec", "none"),
    ("placement", "own"),
    ("tools", "overlapped"),
    ("tools", "speculated"),
    ("notification", "polling"),
    ("dispatch", "none"),
]


@pytest.mark.parametrize(("policy", "value"), OVERRIDES)
def test_each_policy_can_be_overridden_alone(policy: str, value: str) -> None:
    """In a mapping, or on a bare preset by its path; the others stay, also when the scenario is written and read."""
    written = scene(WORLD, {"runtime": {"preset": "stateless-api", policy: value}})
    replaced = scene(WORLD, {"runtime": "stateless-api"}).replace(f"runtime.{policy}", value)
    expected = {**PRESETS["stateless-api"], policy: None if value == "none" and policy == "codec" else value}
    for scenario in (written, replaced, Scenario.from_text(written.to_yaml())):
        got = {name: getattr(scenario.runtime, name) for name in expected}
        assert got == expected
        assert scenario.runtime.preset == "stateless-api"


def test_every_preset_runs_and_is_named() -> None:
    """All six, in order of what they add; the law holds in each, and all do the same inference for the first time."""
    results = {name: run(WORLD, {"runtime": name}) for name in PRESETS}
    assert {round(parts(result)["inference"], 9) for result in results.values()} == {11.6}
    assert {fact(result, "new_tokens") for result in results.values()} == {1600}
    assert max(total(results["ideal"]), total(results["agent-native"])) < total(results["session-state"])
    assert total(results["session-state"]) < min(
        total(results["stateless-api"]), total(results["external-orchestrator"])
    )


def test_polling_needs_its_interval() -> None:
    """A preset names the policy; the scenario must give the number."""
    with pytest.raises(ScenarioError, match="poll_interval"):
        scene(WORLD, {"runtime": "external-orchestrator", "orchestrator": {"poll_interval": None}})


def test_one_event_loop_dispatches_one_step_at_a_time() -> None:
    """Two tasks at once wait for the orchestrator, and the wait is queueing there."""
    load = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 2}}
    runtime = {
        "runtime": {"preset": "ideal", "dispatch": "every-step"},
        "orchestrator": {"dispatch": "7 s", "concurrency": 1},
    }
    result = run(load, runtime)
    assert parts(result, 1) == pytest.approx({"orchestration": 7, "queueing": 7}, abs=1e-5)
