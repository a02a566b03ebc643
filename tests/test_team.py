"""Teams: who acts when, what is said to whom, what is known to whom, and how each of it grows."""

import math
from typing import Any

import numpy as np
import pytest

from coordsim.sim.analysis.result import Result

from .scene import Data, accounts, fact, named, overlapped, parts, run, steps, total

# An agent of 100 tokens of prompt and 50 of output, of a model without limits that takes a second a call.
AGENT: Data = {
    "agents": {"a": {"model": "llm", "prompt": "100 tokens", "output": "50 tokens"}},
    "models": {"llm": {"overhead": "1 s", "replicas": 1000}},
    "workload": {"request": "200 tokens"},
}
TOOLS: Data = {"tools": {f"t{n}": {"latency": f"{n} s"} for n in (1, 2, 5)}}
APART: Data = {"arrivals": {"deterministic": "1 / h"}}  # tasks that do not meet
ROLES: dict[str, list[str]] = {
    "single": ["agent"],
    "chain": ["member"],
    "supervisor": ["lead", "worker"],
    "hierarchy": ["lead", "worker"],
    "blackboard": ["member"],
    "debate": ["debater"],
    "swarm": ["member"],
}


def team(kind: str, *patches: Data, spans: str = "all", more: Data | None = None, **fields: Any) -> Result:
    """Run a team whose roles all run the step `a`, an agent, unless `fields` say otherwise."""
    members = fields.pop("members", None) or dict.fromkeys(ROLES.get(kind, ["role"]), "a")
    step = {"team": kind, "members": members, **fields}
    named = {**({"a": {"agent": "a"}} if "a" in members.values() else {}), **(more or {})}
    return run(AGENT, *patches, steps("t", t=step, **named), spans=spans)


def tokens(result: Result) -> float:
    """Return all input tokens of a task."""
    return fact(result, "new_tokens") + fact(result, "carried_tokens") + fact(result, "cached_tokens")


def exponent(x: list[int], y: list[float]) -> float:
    """Return the slope of a straight line through the logarithms of the last three points."""
    return float(np.polyfit(np.log(x[-3:]), np.log(y[-3:]), 1)[0])


@pytest.mark.parametrize(
    ("kind", "fields", "seconds", "calls", "messages"),
    [
        ("single", {}, 1, 1, 0),
        ("chain", {"size": 5}, 5, 5, 4),
        ("supervisor", {"size": 5}, 3, 7, 2 * 5),
        ("supervisor", {"size": 5, "rounds": 3}, 7, 1 + 3 * 6, 3 * 2 * 5),
        ("hierarchy", {"depth": 2, "fanout": 3}, 5, 2 + 3 * 2 + 9, 2 * 12),
        ("hierarchy", {"depth": 1, "fanout": 5}, 3, 7, 2 * 5),
        ("debate", {"size": 5, "rounds": 4}, 4, 20, 3 * 5 * 4),
        ("blackboard", {"size": 5, "rounds": 3}, 3, 15, 3 * 5),
        ("swarm", {"size": 5, "hand_off": 1.0, "turns": 8}, 8, 8, 7),
    ],
)
@pytest.mark.parametrize("context", [None, "shared", "private"])
def test_every_topology_acts_and_speaks_as_often_as_it_must(
    kind: str, fields: Data, seconds: float, calls: int, messages: int, context: str | None
) -> None:
    """With calls of 1 s and free messages: time on the critical path, calls and messages, whatever the contexts."""
    if kind == "blackboard" and context == "private":
        return
    fields = fields if context is None else {**fields, "context": context}
    result = team(kind, **fields)
    assert total(result) == seconds
    assert (fact(result, "llm_calls"), fact(result, "agent_messages")) == (calls, messages)
    assert overlapped(result) == calls - seconds


def test_a_judge_and_a_controller_have_the_last_word() -> None:
    """A judge hears all debaters in each round and acts once; a controller acts after each round."""
    roles = {"debater": "a", "judge": "a"}
    judged = team("debate", members=roles, size=4, rounds=3)
    assert (total(judged), fact(judged, "llm_calls")) == (4, 13)
    assert fact(judged, "agent_messages") == 2 * 4 * 3 + 3 * 4
    led = team("blackboard", members={"member": "a", "controller": "a"}, size=4, rounds=3)
    assert (total(led), fact(led, "llm_calls"), fact(led, "agent_messages")) == (6, 15, 12)


def test_a_fan_out_of_100_is_slow_with_probability_0_634() -> None:
    """One worker in 100 is slow: P(any) = 1 - 0.99^100 = 0.634, within a 99.9 % interval over 1500 tasks."""
    slow = {"mixture": [{"weight": 0.99, "of": "1 s"}, {"weight": 0.01, "of": "9 s"}]}
    work = {"tools": {"w": {"latency": slow}}, "workload": {**APART, "tasks": 1500, "request": "0 tokens"}}
    flow = steps(
        "t",
        t={"team": "supervisor", "members": {"lead": "l", "worker": "w"}, "size": 100},
        l={"tool": "w", "skip": 1.0},
        w={"tool": "w"},
    )
    result = run({"max_steps": 1000}, work, flow, spans="none")
    share = float((result.response_times > 5).mean())
    expected = 1 - 0.99**100
    assert abs(share - expected) < 3.29 * math.sqrt(expected * (1 - expected) / 1500)


def test_a_quorum_waits_for_its_number_and_cancels_the_rest() -> None:
    """Of debaters that take 1, 1 and 1 s but for one of 5 s: the second ends it; who is late is cut off, or runs on."""
    ways = {"a": {"tool": "t1", "next": {"b": 0.5, "done": 0.5}}, "b": {"tool": "t5"}}
    every = team("debate", TOOLS, more=ways, size=9)
    some = team("debate", TOOLS, more=ways, size=9, quorum="any")
    on = team("debate", TOOLS, more=ways, size=9, quorum=1, rest="run on")
    assert (total(every), total(some), total(on)) == (6, 1, 1)
    assert overlapped(on) == total(every) + overlapped(every) - 1  # all work is done, and 1 s of it waited for
    assert overlapped(some) == 8


def test_who_is_late_is_not_heard() -> None:
    """A debater cut off in round 1 has said nothing: of 3, the others hear one message, and it hears two."""
    more = {"a": {"agent": "a", "next": {"b": 0.5, "done": 0.5}}, "b": {"tool": "t5"}}
    result = team("debate", TOOLS, more=more, size=8, rounds=2, quorum=2)
    spoke = fact(result, "agent_messages") / 7
    assert spoke == int(spoke)
    assert 2 <= spoke < 8


@pytest.mark.parametrize("kind", ["chain", "debate", "supervisor", "swarm"])
def test_turns_are_a_limit(kind: str) -> None:
    """No more activations than turns, the first members first; the team ends, or the task fails."""
    fields: Data = {"size": 4, "turns": 3, **({"hand_off": 1.0} if kind == "swarm" else {})}
    result = team(kind, **fields)
    assert (fact(result, "llm_calls"), result.failures) == (3, {})
    failed = team(kind, at_turns="fail", **fields)
    assert failed.failures == {"workflow.t: more than 3 turns": 1}


def test_a_swarm_hands_off_as_often_as_it_says() -> None:
    """Activations are geometric: with a probability of 60 % their mean is 2.5, within 4 standard errors."""
    load = {"workload": {**APART, "tasks": 2000}}
    result = team("swarm", load, size=4, hand_off=0.6, spans="none")
    calls = result.fact("llm_calls")
    assert abs(calls.mean() - 2.5) < 4 * math.sqrt(0.6 / 0.4**2 / 2000)


def test_a_swarm_hands_off_to_whom_the_weights_say() -> None:
    """From triage to sales three times as often as to help, within 4 standard errors; these hand off to nobody."""
    load = {"workload": {**APART, "tasks": 2000}}
    roles = {"triage": "a", "sales": "s", "help": "h"}
    more = {"s": {"tool": "t2"}, "h": {"tool": "t5"}}
    fields = {"hand_off": 1.0, "turns": 2, "to": {"sales": 3, "help": 1}}
    result = team("swarm", TOOLS, load, members=roles, more=more, spans="none", **fields)
    sales = int((np.round(result.response_times) == 3).sum())
    assert sales + int((np.round(result.response_times) == 6).sum()) == 2000
    assert abs(sales - 1500) < 4 * math.sqrt(2000 * 0.75 * 0.25)


def test_a_token_is_new_once_whoever_shows_it() -> None:
    """The prompt and the request are new to the server once, and what it wrote itself is carried to others."""
    for kind, size in (("chain", 4), ("debate", 4), ("supervisor", 4)):
        result = team(kind, size=size, context="private")
        assert fact(result, "new_tokens") == 100 + 200


def test_a_team_in_a_branch_has_contexts_of_its_own() -> None:
    """A worker under a lead shares nothing with the branches beside its team: what is new and carried is as without a fork."""
    members = {"lead": "a", "worker": "a"}
    one = {"team": "supervisor", "members": members, "size": 2}
    flow = steps("b", b={"agent": "a", "next": "f"}, f={"fork": ["t", "t"]}, t=one, a={"agent": "a"})
    result = run(AGENT, flow)
    assert fact(result, "new_tokens") == 100 + 200
    # The first step reads 300; in each branch the lead 350, two workers 150 each, and the lead again 400 + 100.
    assert tokens(result) == 300 + 2 * (350 + 2 * 150 + 500)


def test_a_token_is_new_to_every_server() -> None:
    """A writer's 50 tokens are new to the critic's server, once, for two critics; a size of its own is not written by any."""
    models = {"other": {"kind": "llm", "overhead": "1 s", "replicas": 9}}
    agents = {"b": {"model": "other", "prompt": "10 tokens", "output": "50 tokens"}}
    nodes: Data = {
        "nodes": {"w": "writer", "c": "critic", "d": "critic"},
        "edges": [["w", "c"], ["w", "d"]],
        "start": "w",
    }
    patch = {"models": models, "agents": agents}
    more = {"b": {"agent": "b"}}
    result = team("graph", patch, members={"writer": "a", "critic": "b"}, more=more, **nodes)
    assert fact(result, "new_tokens") == (100 + 200) + (10 + 200 + 50)
    told = team("graph", patch, members={"writer": "a", "critic": "b"}, more=more, message="80 tokens", **nodes)
    assert fact(told, "new_tokens") == (100 + 200) + (10 + 200 + 80)


def test_debate_reads_by_the_square_of_its_debaters() -> None:
    """In round 2 each of n reads 300 + 50 + (n - 1) * 50 tokens, in round 1 300: all of it, to the token."""
    for n in (1, 3, 8):
        assert tokens(team("debate", size=n, rounds=2)) == n * 300 + n * (300 + 50 * n)


def test_private_workers_grow_the_lead_only() -> None:
    """A worker reads its prompt and the order; the lead all reports: 5 workers, 150 tokens each, and 350 + 250."""
    assert tokens(team("supervisor", size=5)) == 300 + 5 * 150 + (350 + 250)


def test_shared_contexts_grow_faster() -> None:
    """A board's total tokens grow by rounds^2, a private team's under a lead by its workers; a debate's by debaters^2."""
    many = [8, 16, 32, 64]
    quiet = {"workload": {"request": "0 tokens"}, "max_steps": 10000}
    board = [tokens(team("blackboard", quiet, size=3, rounds=n, spans="none")) for n in many]
    lead = [tokens(team("supervisor", quiet, size=n, spans="none")) for n in many]
    talk = [tokens(team("debate", quiet, size=n, rounds=3, spans="none")) for n in many]
    shared = [tokens(team("supervisor", quiet, size=n, context="shared", rounds=4, spans="none")) for n in many]
    assert 1.85 < exponent(many, board) <= 2
    assert 0.95 < exponent(many, lead) <= 1.05
    assert 1.85 < exponent(many, talk) <= 2
    assert 1.85 < exponent(many, shared) <= 2.05


def test_a_worker_that_is_started_afresh_knows_its_order_only() -> None:
    """In round n of a kept one it reads what it did before, too: 100 and the orders and its answers; a fresh one 150 each time."""
    for rounds in (1, 2, 4):
        kept, fresh = (tokens(team("supervisor", size=3, rounds=rounds, fresh=fresh)) for fresh in (False, True))
        assert kept - fresh == 3 * sum(100 * before for before in range(rounds))
    below = tokens(team("hierarchy", depth=2, fanout=2, rounds=2, fresh=True))
    assert below < tokens(team("hierarchy", depth=2, fanout=2, rounds=2))


def test_what_replaced_workers_have_stored_stays_stored() -> None:
    """Three workers write 100 B in each of two rounds: the memory read after the team has 600 B, at 1 kB/s, fresh or not."""
    memory = {
        "memories": {"m": {"write": "0 s", "read": "0 s", "entry": "100 B", "bandwidth": "1 kB/s"}},
        "agents": {"w": {"model": "llm", "memory": "m"}},
    }
    more = {"a": {"agent": "a"}, "w": {"agent": "w"}, "z": {"agent": "w"}}
    fields: Data = {"members": {"lead": "a", "worker": "w"}, "size": 3, "rounds": 2, "next": "z", "more": more}
    reads = {}
    for fresh in (False, True):
        spans = [span for span in team("supervisor", memory, fresh=fresh, **fields).spans if span.component == "m"]
        reads[fresh] = max(span.end - span.start for span in spans)
    assert reads == {False: pytest.approx(0.6), True: pytest.approx(0.6)}


def test_an_answer_is_what_was_written_last() -> None:
    """Of two turns with a tool of 500 tokens each, all that was added is 1,100 tokens, and the answer 50."""
    tool = {"tools": {"look": {"latency": "0 s", "result": "500 tokens"}}}
    more = {"a": {"agent": "a"}, "w": {"agent": "a", "tools": {"look": 1}, "repeat": 2}}
    fields: Data = {"members": {"lead": "a", "worker": "w"}, "size": 3, "more": more}
    whole = tokens(team("supervisor", tool, **fields))
    answer = tokens(team("supervisor", tool, **fields, message="answer"))
    assert whole - answer == 3 * (1100 - 50)


def test_the_task_goes_on_with_the_answer() -> None:
    """What a private team leaves behind is the answer of the last: 200 + 50; a shared one all that was added."""
    after = {"b": {"agent": "a"}}
    for context, known in (("private", 100 + 250), ("shared", 100 + 400)):
        alone = tokens(team("chain", size=4, context=context))
        assert tokens(team("chain", more=after, size=4, context=context, next="b")) == alone + known


def test_messages_cross_the_network() -> None:
    """The lead is elsewhere: an order and a report take 3 s each, and what they hold is encoded; at one place neither."""
    network = {
        "network": {
            "nodes": {"x": {}, "y": {}},
            "links": [{"between": ["x", "y"], "latency": "3 s"}],
            "loopback": "0 s",
        },
        "orchestrator": {"node": "x"},
        "runtime": {"preset": "ideal", "connection": "persistent"},
    }
    here = {**network, "agents": {"a": {"node": "x"}, "b": {"model": "llm", "node": "x", "output": "50 tokens"}}}
    there = {**network, "agents": {"a": {"node": "x"}, "b": {"model": "llm", "node": "y", "output": "50 tokens"}}}
    fields: Data = {"members": {"lead": "a", "worker": "b"}, "more": {"b": {"agent": "b"}}, "size": 3}
    near, far = team("supervisor", here, **fields), team("supervisor", there, **fields)
    assert parts(near).get("communication", 0.0) == 0
    assert parts(far)["communication"] == 2 * 3 + 2 * 3  # an order, a report, and the call of the model and its answer
    assert named(far, "transit") == 12
    shared = team("supervisor", there, context="shared", **fields)
    assert parts(shared)["communication"] == 12  # control takes the context there, the post comes back


def test_nodes_of_a_graph_work_beside_one_another() -> None:
    """A diamond: as long as its longest way, not its levels; with a quorum of any, its shortest."""
    roles = {"x": "a", "slow": "s", "quick": "q"}
    nodes = {"top": "x", "left": "slow", "right": "quick", "more": "slow", "end": "x"}
    edges = [["top", "left"], ["top", "right"], ["right", "more"], ["left", "end"], ["more", "end"]]
    more = {"s": {"tool": "t5"}, "q": {"tool": "t2"}}
    every = team("graph", TOOLS, members=roles, more=more, nodes=nodes, edges=edges, start="top")
    assert (total(every), overlapped(every)) == (1 + 2 + 5 + 1, 5)
    assert parts(every) == {"inference": 2, "tool": 7}
    fields: Data = {"members": roles, "more": more, "nodes": nodes, "edges": edges, "start": "top", "quorum": "any"}
    soon = team("graph", TOOLS, **fields)
    assert (total(soon), parts(soon)) == (1 + 5 + 1, {"inference": 2, "tool": 5})
    assert overlapped(soon) == 2 + 4  # right, and what more did of its 5 s
    on = team("graph", TOOLS, rest="run on", **fields)
    assert (total(on), overlapped(on)) == (7, 2 + 5)


def test_a_node_that_fails_fails_those_who_wait_for_it() -> None:
    """With a quorum of all the task fails, with any the other way is enough."""
    roles = {"x": "a", "bad": "b"}
    fields: Data = {"nodes": {"t": "x", "l": "x", "r": "bad", "e": "x"}, "start": "t"}
    fields["edges"] = [["t", "l"], ["t", "r"], ["l", "e"], ["r", "e"]]
    more = {"b": {"evaluator": "no", "rejected": "b", "at_most": 1}}
    judge = {"evaluators": {"no": {"latency": "0.1 s", "accept": 0.0}}}
    failed = team("graph", judge, members=roles, more=more, **fields)
    assert failed.failures == {"workflow.b: rejected 1 times": 1}
    assert team("graph", judge, members=roles, more=more, quorum="any", **fields).failures == {}


def test_a_cycle_goes_round_until_its_turns_are_over() -> None:
    """A writer and a critic, 5 turns: 3 of the writer, 2 of the critic."""
    fields: Data = {"nodes": {"w": "x", "c": "y"}, "edges": [["w", "c"], ["c", "w"]], "start": "w", "turns": 5}
    result = team("graph", TOOLS, members={"x": "a", "y": "b"}, more={"b": {"tool": "t5"}}, **fields)
    assert (total(result), fact(result, "agent_messages")) == (3 * 1 + 2 * 5, 5)


@pytest.mark.parametrize("context", ["shared", "private"])
def test_a_team_stops_when_an_evaluator_accepts(context: str) -> None:
    """Always accepted, a debate of 9 rounds has one; never, all; with a chance of 50 % rounds are geometric."""
    for accept, rounds in ((1.0, 1), (0.0, 9)):
        judge = {"evaluators": {"e": {"latency": "0 s", "accept": accept}}}
        assert total(team("debate", judge, size=3, rounds=9, stop="e", context=context)) == rounds
    load = {"workload": {**APART, "tasks": 1000}}
    some = team("debate", load, size=2, rounds=100, stop="50 %", context=context, spans="none")
    assert abs(some.response_times.mean() - 2) < 4 * math.sqrt(0.5 / 0.5**2 / 1000)


def test_an_evaluator_that_thinks_reads_what_was_said() -> None:
    """Of two private debaters it reads the request, and 2 messages of 50 tokens after each of the first two rounds."""
    judge = {"evaluators": {"e": {"model": "llm", "prompt": "10 tokens", "output": "0 tokens", "accept": 0.0}}}
    plain = tokens(team("debate", size=2, rounds=3))
    judged = tokens(team("debate", judge, size=2, rounds=3, stop="e"))
    assert judged - plain == (10 + 200 + 100) + (10 + 200 + 200)


def test_a_member_more_leaves_the_draws_of_the_others_alone() -> None:
    """Latencies of 4 debaters, 5 debaters, and again 4: what the first did is the same, span by span, in every round."""
    noisy = {"tools": {"w": {"latency": {"exponential": {"mean": "1 s"}}}}}

    def lasted(size: int) -> set[float]:
        result = team("debate", noisy, more={"a": {"tool": "w"}}, size=size, rounds=3)
        return {round(span.end - span.start, 9) for span in result.spans if span.name == "tool.execute"}

    few, many = lasted(4), lasted(5)
    assert (len(few), len(many)) == (12, 15)
    assert few <= many


def test_teams_nest() -> None:
    """A worker is a workflow with a team of its own, in which a debater is a fork."""
    inner = {
        "pair": {
            "start": "d",
            "steps": {
                "d": {"team": "debate", "members": {"debater": "f"}, "size": 2, "rounds": 2, "next": "t"},
                "f": {"fork": ["x", "x"]},
                "x": {"agent": "a"},
                "t": {"tool": "t5"},
            },
        }
    }
    for context in ("shared", "private"):
        fields: Data = {"members": {"lead": "a", "worker": "pair"}, "size": 3, "context": context}
        result = team("supervisor", TOOLS, {"workflows": inner}, **fields)
        assert total(result) == 1 + (2 + 5) + 1
        assert fact(result, "llm_calls") == 2 + 3 * 8
        assert fact(result, "agent_messages") == 2 * 3 + 3 * 2


INSIDE: dict[str, tuple[Data, float]] = {
    "chooses a tool": ({"m": {"agent": "a", "tools": {"t5": 1.0}}}, 6),
    "chooses by a chain": (
        {"m": {"agent": "a", "tools": {"markov": {"start": {"t1": 1}, "t1": {"t2": 1}, "t2": {"end": 1}}}}},
        3 + 3,
    ),
    "revises its plan": ({"m": {"agent": "a", "repeat": 9, "replan": {"n": 1.0}}, "n": {"tool": "t5"}}, 6),
    "skips": ({"m": {"agent": "a", "skip": 1.0, "next": "n"}, "n": {"tool": "t2"}}, 2),
    "repeats": ({"m": {"agent": "a", "repeat": 4}}, 4),
    "is judged": (
        {"m": {"agent": "a", "next": "n"}, "n": {"evaluator": "e", "rejected": "m"}},
        2,
    ),
    "asks a person": ({"m": {"agent": "a", "next": "n"}, "n": {"human": "60 s"}}, 61),
}


@pytest.mark.parametrize("what", INSIDE)
@pytest.mark.parametrize("context", ["shared", "private"])
def test_a_member_does_what_a_step_can(what: str, context: str) -> None:
    """Each kind of choice inside the members of a debate, with contexts of either kind."""
    judge = {"evaluators": {"e": {"latency": "1 s", "accept": 1.0}}}
    more, seconds = INSIDE[what]
    result = team("debate", TOOLS, judge, members={"debater": "m"}, more=more, size=3, context=context)
    assert (total(result), result.failures) == (seconds, {})
    assert (parts(result).get("human", 0.0) > 0) == (what == "asks a person")


def test_time_is_fully_explained() -> None:
    """Accounts sum to the time of the task, for every kind of team, with draws everywhere and servers that are short."""
    noisy = {
        "agents": {"a": {"output": {"lognormal": {"median": "50 tokens", "p95": "200 tokens"}}}},
        "models": {"llm": {"overhead": {"exponential": {"mean": "1 s"}}, "replicas": 2}},
    }
    for kind in ROLES:
        fields: Data = {} if kind in ("single", "hierarchy") else {"size": 4}
        fields |= {"rounds": 2} if kind in ("debate", "blackboard", "supervisor") else {}
        result = team(kind, noisy, **fields)
        assert math.isclose(sum(accounts(result).values()), total(result), rel_tol=1e-9)
