"""Memories: reading slower as they grow, entries, and summaries that shrink the context."""

import pytest

from .scene import Data, chain, fact, named, parts, run, steps

UNIT = {"context": {"bytes_per_token": "1 B / token"}}


def memory(**changes: object) -> Data:
    """Return an agent with a memory that is read in 1 s and written in 2 s, and what differs."""
    return {
        "agents": {"a": {"memory": "m"}},
        "memories": {"m": {"read": "1 s", "write": "2 s", "entry": "500 B", **changes}},
    }


THRICE = steps("w", w={"agent": "a", "repeat": 3})


def test_a_memory_is_read_before_and_written_after() -> None:
    """Three turns of a read and a write, all of it tool time; an operation that is not given does not happen."""
    assert parts(run(memory(), THRICE)) == {"tool": 9}
    assert parts(run(memory(read=None), THRICE)) == {"tool": 6}
    assert parts(run(memory(write=None), THRICE)) == {"tool": 3}


def test_a_memory_that_grows_is_read_more_slowly() -> None:
    """At 100 B/s: reads of 0, 500 and 1000 B take 0, 5 and 10 s, each write of 500 B 5 s."""
    assert named(run(memory(bandwidth="100 B/s"), THRICE), "tool.execute") == pytest.approx(9 + 15 + 15)


def test_what_is_recalled_enters_the_context() -> None:
    """40 tokens before each of three calls."""
    assert fact(run(memory(recall="40 tokens"), THRICE), "new_tokens") == 120


def test_a_memory_has_slots() -> None:
    """One slot: the second task reads when the first has (1 s), which then waits to write (1 s) and is waited for (2 s)."""
    load = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 2}}
    result = run(load, memory(concurrency=1))
    assert parts(result, 0) == pytest.approx({"tool": 3, "queueing": 1}, abs=1e-5)
    assert parts(result, 1) == pytest.approx({"tool": 3, "queueing": 3}, abs=1e-5)
    assert [info.name for info in result.resources] == ["models.llm", "memories.m"]


def test_messages_to_a_memory_are_sent() -> None:
    """A write sends its entry, a read returns what was recalled."""
    far = {
        "network": {"nodes": {"here": {}, "there": {}}, "links": [{"between": ["here", "there"], "latency": "1 s"}]},
        "orchestrator": {"node": "here"},
        "runtime": {"preset": "ideal", "placement": "external", "connection": "persistent"},
    }
    world = memory(recall="40 tokens", node="there")
    result = run(UNIT, far, world, {"models": {"llm": {"node": "here"}}, "network": {"loopback": "0 s"}})
    assert fact(result, "bytes") == 40 + 500
    assert parts(result)["communication"] == 4


SUMMARY = {
    "agents": {"a": {"prompt": "100 tokens", "output": "200 tokens"}},
    "models": {
        "llm": {"prefill": "1 ms / token", "decode": "10 ms / token"},
        "small": {"kind": "llm", "decode": "1 ms / token"},
    },
    "runtime": {"preset": "ideal", "kv": "discard"},
}


def test_a_summary_is_context() -> None:
    """Above 500 tokens the next turn first has them summarized to 50: all of that call is context.

    Turns see 0, 200, 400 and 600 tokens: the fourth summarizes 600, in 600 ms and 50 x 10 ms, and then has 50.
    """
    rule = {"model": "llm", "above": "500 tokens", "to": "50 tokens"}
    world = memory(read=None, write=None, summarize=rule)
    result = run(world, SUMMARY, steps("w", w={"agent": "a", "repeat": 4}))
    assert named(result, "summarize") == pytest.approx(0.5)
    assert named(result, "prefill again") == pytest.approx((300 + 500 + 600 + 150) / 1000)
    assert fact(result, "llm_calls") == 5
    assert fact(result, "new_tokens") == 100


def test_a_summary_by_another_model_is_new_to_the_first() -> None:
    """What another server wrote, the agent's server has not seen."""
    rule = {"model": "small", "above": "500 tokens", "to": "50 tokens"}
    world = memory(read=None, write=None, summarize=rule)
    result = run(world, SUMMARY, steps("w", w={"agent": "a", "repeat": 4}))
    assert named(result, "summarize") == pytest.approx(0.05)
    assert fact(result, "new_tokens") == 100 + 600 + 50


def test_a_summary_shrinks_the_memory() -> None:
    """After it the memory holds the summary: 50 B, read in 0.5 s at 100 B/s."""
    rule = {"model": "llm", "above": "500 tokens", "to": "50 tokens"}
    world = memory(read="0 s", write="0 s", entry="400 B", bandwidth="100 B/s", summarize=rule)
    result = run(UNIT, world, {"agents": {"a": {"output": "300 tokens"}}}, steps("w", w={"agent": "a", "repeat": 3}))
    assert named(result, "tool.execute") == pytest.approx(4 + 4 + 4 + 0.5 + 4)


def test_two_steps_of_an_agent_share_its_memory() -> None:
    """What the first wrote, the second reads."""
    result = run(memory(bandwidth="100 B/s"), chain(("w", {"agent": "a"}), ("v", {"agent": "a"})))
    assert named(result, "tool.execute") == pytest.approx(6 + 5 + 5 + 5)
