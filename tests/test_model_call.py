"""A call of a model: how its time splits, what it sends, and what it costs, by hand."""

import pytest

from .scene import Data, accounts, fact, leaves, named, parts, run, statuses, steps, total

CONTEXT = {"context": {"bytes_per_token": "2 B / token"}, "workload": {"request": "1000 tokens"}}
AGENT = {"agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}}}
TWICE = steps("w", w={"agent": "a", "repeat": 2})
NETWORK = {
    "orchestrator": {"node": "here"},
    "network": {"nodes": {"here": {}, "there": {}}, "links": [{"between": ["here", "there"], "latency": "1 s"}]},
    "models": {"llm": {"node": "there"}},
}


def policies(**changes: str) -> dict[str, dict[str, str]]:
    """Return a runtime of external agents on persistent connections, without a codec, and what differs."""
    return {"runtime": {"preset": "ideal", "placement": "external", "connection": "persistent", **changes}}


@pytest.mark.parametrize(
    ("state", "sent"),
    [
        ("full", (500 + 1000) + (500 + 1000 + 100 + 30)),
        ("delta", (500 + 1000) + 30),
        ("resident", (500 + 1000) + 30),
    ],
)
def test_bytes_on_the_wire(state: str, sent: int) -> None:
    """In full, every prompt goes whole; else what the session does not have: not even the model's own answer."""
    tool = {"tools": {"t": {"latency": "0 s", "result": "30 tokens"}}, "network": {"loopback": "0 s"}}
    turns = steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 2})
    result = run(CONTEXT, AGENT, NETWORK, tool, policies(state=state), turns)
    assert fact(result, "bytes") == 2 * (sent + 2 * 100)
    assert fact(result, "messages") == 4
    assert parts(result) == {"communication": 4}


def test_a_restored_session_costs_context() -> None:
    """The first call opens the session; the second restores 1100 tokens of 2 bytes at 1 kB/s, and its overhead."""
    restore = {"models": {"llm": {"restore": {"overhead": "5 s", "bandwidth": "1 kB/s"}}}}
    result = run(CONTEXT, AGENT, restore, policies(state="delta"), TWICE)
    assert named(result, "restore session") == pytest.approx(5 + 2.2)
    for state in ("full", "resident"):
        assert named(run(CONTEXT, AGENT, restore, policies(state=state), TWICE), "restore session") == 0


def test_a_session_without_tokens_restores_its_overhead() -> None:
    """Two calls after the first, 5 s each."""
    restore = {"models": {"llm": {"restore": {"overhead": "5 s"}}}}
    result = run(restore, {"runtime": {"preset": "ideal", "state": "delta"}}, steps("w", w={"agent": "a", "repeat": 3}))
    assert parts(result) == {"context": 10}


def test_assembling_a_prompt_is_context_where_it_is_sent_in_full() -> None:
    """1 ms a token of 1500 and 1600."""
    assemble = {"orchestrator": {"assemble": "1 ms / token"}}
    assert named(
        run(CONTEXT, AGENT, assemble, policies(state="full", connection="in-process"), TWICE), "assemble prompt"
    ) == pytest.approx(3.1)
    assert not parts(run(CONTEXT, AGENT, assemble, policies(state="delta", connection="in-process"), TWICE))


def test_tokenizing_again_is_context() -> None:
    """In full, 1500 tokens are tokenized for the first time and 1600 again; of a delta, 100 new ones are not even sent."""
    tokenize = {"models": {"llm": {"tokenize": "1 ms / token"}}}
    full = run(CONTEXT, AGENT, tokenize, policies(state="full", connection="in-process"), TWICE)
    assert parts(full) == pytest.approx({"inference": 1.5, "context": 1.6})
    delta = run(CONTEXT, AGENT, tokenize, policies(state="delta", connection="in-process"), TWICE)
    assert parts(delta) == pytest.approx({"inference": 1.5})


def test_speed_divides_the_whole_service() -> None:
    """Overhead, prefill, carried prefill and decode take a quarter of the time at four times the speed."""
    law = {"models": {"llm": {"overhead": "1 s", "prefill": "1 ms / token", "decode": "10 ms / token"}}}
    discard = {"runtime": {"preset": "ideal", "kv": "discard"}}
    slow = run(CONTEXT, AGENT, law, discard, TWICE)
    fast = run(CONTEXT, AGENT, law, discard, TWICE, {"models": {"llm": {"speed": 4}}})
    assert parts(slow) == pytest.approx({"inference": 2 + 1.5 + 2, "context": 1.6})
    assert parts(fast) == pytest.approx({name: seconds / 4 for name, seconds in parts(slow).items()})


def test_carried_tokens_come_first_within_a_call() -> None:
    """The span of the carried prefill ends where that of the inference begins, and their sizes are tokens."""
    law = {"models": {"llm": {"prefill": "1 ms / token"}}, "runtime": {"preset": "ideal", "kv": "discard"}}
    spans = leaves(run(CONTEXT, AGENT, law, TWICE))
    assert [(span.name, span.size) for span in spans] == [("inference", 1600), ("prefill again", 1600)]
    one = leaves(run(CONTEXT, AGENT, law, {"models": {"llm": {"overhead": "1 s"}}}, TWICE))
    assert [(span.name, round(span.start - 1000, 6), round(span.end - 1000, 6)) for span in one] == [
        ("inference", 0, 2.5),
        ("prefill again", 2.5, 4.1),
        ("inference", 4.1, 5.1),
    ]


def test_polling_notices_a_call_at_the_next_tick() -> None:
    """A call of 2.5 s and ticks of 1 s: noticed after 3 s, and two polls in vain are two round trips more."""
    poll = {"orchestrator": {"poll_interval": "1 s", "node": "here"}, "models": {"llm": {"overhead": "2.5 s"}}}
    result = run(NETWORK, poll, policies(notification="polling"))
    assert parts(result) == pytest.approx({"inference": 2.5, "orchestration": 0.5, "communication": 2})
    assert fact(result, "messages") == 2 + 2 * 2
    exact = run(NETWORK, poll, {"models": {"llm": {"overhead": "3 s"}}}, policies(notification="polling"))
    assert "orchestration" not in parts(exact)


def test_a_full_server_fails_the_task() -> None:
    """One in service, one in line; the third is refused, at once, and counted under its reason."""
    result = run(
        {
            "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 4},
            "models": {"llm": {"overhead": "2.5 s", "queue_limit": 1}},
        }
    )
    assert statuses(result) == [0, 0, 1, 0]
    assert total(result, 2) == 0
    assert result.failures == {"models.llm: queue full": 1}


def test_a_task_that_fails_gives_back_its_agents_slot() -> None:
    """An agent that takes one task at a time goes on with the next when one fails."""
    result = run(
        {
            "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 6},
            "agents": {"a": {"concurrency": 1}, "b": {"model": "llm"}},
            "models": {"llm": {"overhead": "0.5 s", "queue_limit": 0}},
        },
        steps("f", f={"fork": ["x", "y"]}, x={"agent": "b"}, y={"agent": "a"}),
    )
    assert statuses(result) == [1] * 6
    assert [total(result, task) for task in range(6)] == pytest.approx([0] * 6)


def test_an_agents_slots_are_waited_for() -> None:
    """One task at a time has a step of the agent under way, its tool calls included."""
    result = run(
        {
            "workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 3},
            "agents": {"a": {"concurrency": 1}},
            "models": {"llm": {"overhead": "1 s", "replicas": 9}},
            "tools": {"t": {"latency": "3 s"}},
        },
        steps("w", w={"agent": "a", "tools": {"t": 1}}),
    )
    assert [total(result, task) for task in range(3)] == [4, 7, 10]
    waits = [
        {one.component: seconds for one, seconds in accounts(result, task).items() if one.category == "queueing"}
        for task in range(3)
    ]
    assert waits == [{}, {"agents.a": 3}, {"agents.a": 6}]


def test_a_call_that_is_cut_off_tells_its_context_from_its_inference() -> None:
    """Of a service of 4 s whose first 3 s are carried prefill, the horizon sees 3.5 s, whatever kind of pool it runs in."""
    world = {
        "workload": {
            "arrivals": {"deterministic": "1 / s"},
            "tasks": None,
            "horizon": "7.5 s",
            "request": "2000 tokens",
        },
        "models": {"llm": {"overhead": "1 s", "prefill": "1 ms / token", "replicas": 9}},
        "runtime": {"preset": "ideal", "kv": "discard"},
        "tools": {"t": {"latency": "0 s", "result": "0 tokens"}},
    }
    agents = {"agents": {"a": {"prompt": "0 tokens", "output": "1000 tokens"}}}
    race: Data = {"race": {"fork": ["t", "t"], "join": "any"}, "t": {"tool": "t"}}
    every: Data = {"race": {"fork": ["t", "t"], "join": "all"}, "t": {"tool": "t"}}
    for after in (race, every):
        result = run(world, agents, steps("w", w={"agent": "a", "repeat": 2, "next": "race"}, **after))
        assert parts(result) == pytest.approx({"inference": 3 + 0.5, "context": 3})


def test_two_steps_of_an_agent_draw_different_numbers() -> None:
    """What an agent's steps share counts on: dispatch and memory do not repeat themselves."""
    chance = {"exponential": {"mean": "1 s"}}
    result = run(
        {"orchestrator": {"dispatch": chance}, "runtime": {"preset": "ideal", "dispatch": "every-step"}},
        {"agents": {"a": {"memory": "m"}}, "memories": {"m": {"read": chance, "write": chance}}},
        {"evaluators": {"e": {"latency": chance, "accept": 1.0}}},
        steps(
            "w",
            w={"agent": "a", "next": "v"},
            v={"agent": "a", "next": "x"},
            x={"evaluator": "e", "rejected": "x", "accepted": "y"},
            y={"evaluator": "e", "rejected": "y"},
        ),
    )
    lengths = [span.end - span.start for span in leaves(result)]
    assert len(lengths) == 10
    assert len(set(lengths)) == 10
