"""What a task carries: tokens new, carried and cached, in parallel branches too, and the bytes that state takes."""

import pytest

from coordsim.models.context import Context
from coordsim.sim.analysis.result import Result

from .scene import chain, fact, named, run, steps

PER_BYTE = {"context": {"bytes_per_token": "1 B / token"}}
SLOW = {"models": {"llm": {"prefill": "1 ms / token", "decode": "10 ms / token"}}}
ONE = {"agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}}}
TWO = {**ONE, "agents": {**ONE["agents"], "b": {"model": "llm", "prompt": "300 tokens", "output": "50 tokens"}}}
REQUEST = {"workload": {"request": "1000 tokens"}}
DISCARD = {"runtime": {"preset": "ideal", "kv": "discard"}}


def tokens(result: Result, task: int = 0) -> tuple[float, ...]:
    """Return new, carried, cached and output tokens of a task."""
    return tuple(fact(result, f"{kind}_tokens", task) for kind in ("new", "carried", "cached", "output"))


def test_three_calls_of_one_agent_without_a_cache() -> None:
    """New are the prompt and the request, once; each later call carries all that came before."""
    result = run(DISCARD, REQUEST, ONE, SLOW, steps("w", w={"agent": "a", "repeat": 3}))
    assert tokens(result) == (1500, 1600 + 1700, 0, 300)
    assert named(result, "inference") == pytest.approx(1.5 + 3.0)
    assert named(result, "prefill again") == pytest.approx(3.3)


def test_three_calls_of_one_agent_with_the_cache_kept() -> None:
    """What was carried is now cached, and takes no time on our own server."""
    result = run(REQUEST, ONE, SLOW, steps("w", w={"agent": "a", "repeat": 3}))
    assert tokens(result) == (1500, 0, 1600 + 1700, 300)
    assert named(result, "prefill again") == 0


def test_a_prefix_cache_still_finds_a_share() -> None:
    """Of the prefix that the agent's last call left behind, a quarter is found."""
    cache = {"models": {"llm": {"prefix_cache": "25 %"}}}
    result = run(DISCARD, REQUEST, ONE, SLOW, cache, steps("w", w={"agent": "a", "repeat": 2}))
    assert tokens(result) == (1500, 1200, 400, 200)


def test_two_agents_on_one_server_share_the_context_but_not_the_prompt() -> None:
    """The second agent's prompt is new, the context is not; nor can the cache of another prompt serve it."""
    result = run(REQUEST, TWO, SLOW, chain(("w", {"agent": "a"}), ("v", {"agent": "b"})))
    assert tokens(result) == (1500 + 300, 1100, 0, 150)


def test_two_agents_on_two_servers_share_nothing() -> None:
    """Each server sees the context for the first time."""
    servers = {"models": {"other": {"kind": "llm", "prefill": "1 ms / token"}}, "agents": {"b": {"model": "other"}}}
    result = run(REQUEST, TWO, SLOW, servers, chain(("w", {"agent": "a"}), ("v", {"agent": "b"})))
    assert tokens(result) == (1500 + 1400, 0, 0, 150)


def test_what_a_tool_returns_is_new_to_the_next_call() -> None:
    """A response of 200 bytes is 200 tokens here; or what `result` says."""
    tool = {"tools": {"t": {"latency": "0 s", "response": "200 B"}}}
    turns = steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 2})
    assert tokens(run(PER_BYTE, ONE, tool, turns)) == (500 + 200, 0, 600, 200)
    tool["tools"]["t"]["result"] = "70 tokens"
    assert tokens(run(PER_BYTE, ONE, tool, turns)) == (500 + 70, 0, 600, 200)


def test_parallel_branches_share_what_is_new() -> None:
    """Four copies of an agent send the same prompt and request: the first is new, the others are carried."""
    result = run(REQUEST, ONE, SLOW, steps("f", f={"fork": ["w"], "copies": 4}, w={"agent": "a"}))
    assert tokens(result) == (1500, 3 * 1500, 0, 400)


def test_branches_claim_in_the_order_of_the_clock() -> None:
    """The branch that comes first to the server has the new tokens, whatever its place in the fork."""
    tools = {"tools": {"late": {"latency": "9 s"}, "soon": {"latency": "1 s"}}}
    branches = {"late": {"tool": "late", "next": "w"}, "soon": {"tool": "soon", "next": "v"}}
    result = run(
        REQUEST, TWO, SLOW, tools, {"models": {"llm": {"replicas": 5}}},
        steps("f", f={"fork": ["late", "soon"]}, w={"agent": "a"}, v={"agent": "b"}, **branches),
    )  # fmt: skip
    assert tokens(result)[:2] == (1300 + 500, 1000)
    carried = [span for span in result.spans if span.name == "prefill again"]
    assert [round(span.start - 1000) for span in carried] == [9]


def test_branches_of_branches_share_too() -> None:
    """Tokens that a branch shares with its aunt are new once."""
    inner = {"inner": {"fork": ["w"], "copies": 2}}
    result = run(REQUEST, ONE, SLOW, steps("f", f={"fork": ["inner", "w"]}, w={"agent": "a"}, **inner))
    assert tokens(result)[:2] == (1500, 2 * 1500)


def test_after_a_join_the_context_holds_what_every_branch_added() -> None:
    """Both outputs follow the request, and the server has seen all of it.

    The first agent's prefix reaches through its own output, since its branch is the first; the other's output is carried.
    In another order its prefix ends at the fork.
    """
    branches = {"w": {"agent": "a"}, "v": {"agent": "b"}, "x": {"agent": "a"}}
    first = run(REQUEST, TWO, SLOW, steps("f", f={"fork": ["w", "v"], "next": "x"}, **branches))
    assert tokens(first) == (1000 + 500 + 300, 1000 + 50, 500 + 1000 + 100, 100 + 50 + 100)
    second = run(REQUEST, TWO, SLOW, steps("f", f={"fork": ["v", "w"], "next": "x"}, **branches))
    assert tokens(second) == (1000 + 500 + 300, 1000 + 50 + 100, 500 + 1000, 100 + 50 + 100)


def test_a_quorum_takes_in_those_who_arrived() -> None:
    """The output of a branch that was cancelled is not in the context."""
    tools = {"tools": {"t": {"latency": "9 s", "result": "900 tokens"}, "u": {"latency": "1 s", "result": "50 tokens"}}}
    race = steps(
        "f", f={"fork": ["t", "u"], "join": "any", "next": "w"}, t={"tool": "t"}, u={"tool": "u"}, w={"agent": "a"}
    )
    assert tokens(run(ONE, tools, race))[0] == 550


def test_two_branches_that_end_together_are_not_confused() -> None:
    """Of two that end at one instant the first alone is the quorum."""
    tools = {"tools": {"t": {"latency": "1 s", "result": "900 tokens"}, "u": {"latency": "1 s", "result": "50 tokens"}}}
    race = steps(
        "f", f={"fork": ["u", "t"], "join": "any", "next": "w"}, t={"tool": "t"}, u={"tool": "u"}, w={"agent": "a"}
    )
    assert tokens(run(ONE, tools, race))[0] == 550


def test_memories_of_parallel_branches_add_up() -> None:
    """Each branch adds its entries; where one summarized, what all have is no more than the shortest and what was added."""
    parent = Context(1, 1, 2, 1)
    parent.memory = [100.0, 1000.0]
    children = [parent.fork() for _ in range(3)]
    children[0].memory = [110.0, 50.0]
    children[1].memory = [120.0, 1030.0]
    children[2].memory = [100.0, 50.0]
    parent.join(children, [0.0])
    assert parent.memory == [130.0, 80.0]


def test_a_summary_takes_the_place_of_the_context() -> None:
    """Caches keep the prompts; only the server that wrote the summary has seen it."""
    context = Context(2, 2, 1, 1)
    context.tokens, context.seen, context.cached, context.known = 900.0, [900.0, 400.0], [1000.0, 0.0], [900.0, 0.0]
    context.replace(80.0, 1, [100.0, 30.0])
    assert (context.tokens, context.seen, context.cached, context.known) == (
        80.0,
        [0.0, 80.0],
        [100.0, 0.0],
        [0.0, 0.0],
    )


def test_a_branch_that_runs_on_knows_what_the_others_have_shown() -> None:
    """One that comes to the server after the join was released carries what its sibling had shown before."""
    tools = {"tools": {"soon": {"latency": "1 s"}, "late": {"latency": "9 s"}}}
    branches = {"now": {"agent": "a", "next": "soon"}, "soon": {"tool": "soon"}, "late": {"tool": "late", "next": "w"}}
    race = {"fork": ["now", "late"], "join": "any", "rest": "run on"}
    law = {"models": {"llm": {"replicas": 5}}}
    result = run(REQUEST, TWO, law, tools, steps("f", f=race, w={"agent": "b"}, **branches))
    assert tokens(result)[:2] == (1500 + 300, 1000)
