"""Scenarios with a served model: what is new and what is carried, what is shared, and what a call costs."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from coordsim.models.serving.kernel_steps import KernelSteps
from coordsim.models.shapes import preset
from coordsim.models.transformer import IterationTime
from coordsim.sim.analysis.result import Result
from coordsim.sim.profile.profile import folder, read

from .scene import Data, accounts, chain, fact, leaves, named, parts, run, statuses, steps, total

BASE: Data = {
    "profile": "h100-sxm",
    "workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": 2, "request": "320 tokens"},
    "agents": {
        "a": {"model": "llm", "prompt": "1600 tokens", "output": "160 tokens"},
        "b": {"model": "llm", "prompt": "800 tokens", "output": "80 tokens"},
    },
    "models": {"llm": {"shape": "llama-3.2-1b"}},
    "tools": {"t": {"latency": "1 s", "result": "160 tokens"}},
}
LOOP = steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 4})
KINDS = ("new", "carried", "cached", "output")


def go(*patches: Data, kv: str = "cache", seed: int | None = None) -> Result:
    """Run the world of two agents and a tool under a policy of KV."""
    return run(BASE, {"runtime": {"preset": "ideal", "kv": kv}}, *patches, seed=seed)


def tokens(result: Result, task: int = 0) -> tuple[float, ...]:
    """Return the new, carried, cached and output tokens of a task."""
    return tuple(fact(result, f"{kind}_tokens", task) for kind in KINDS)


@cache
def times() -> KernelSteps:
    """Return the times of the model on the machine."""
    return KernelSteps(IterationTime(read("h100-sxm"), preset("llama-3.2-1b")))


def prefill(new: int, cached: int = 0) -> float:
    """Return the seconds of a prefill alone on the server, the host's included."""
    return times().iteration([(new, cached)], 0, 0.0, 0.0) + times().iteration_time.host(1)


def decode(length: int, count: int) -> float:
    """Return the seconds of `count` tokens behind `length`, alone on the server."""
    return times().run(1, length + 1.0, length + 1.0, count) + count * times().iteration_time.host(1)


# New and carried


def test_a_call_alone_takes_its_prefill_and_its_decode() -> None:
    """All of it is inference, to the rounding of the sums."""
    result = go(steps("w", w={"agent": "a"}))
    assert tokens(result) == (1920, 0, 0, 160)
    assert parts(result) == {"inference": pytest.approx(prefill(1920) + decode(1920, 159), rel=1e-9)}
    assert fact(result, "ttft") == pytest.approx(prefill(1920), rel=1e-9)
    assert tokens(result, 1) == (1920, 0, 1600, 160)  # new to this task, whatever another has left in the cache
    assert parts(result, 1) == {"inference": pytest.approx(prefill(320, 1600) + decode(1920, 159), rel=1e-9)}


def test_discarded_tokens_are_context_by_their_share_of_the_prefill() -> None:
    """Each call finds the prompt, and prefills new and carried tokens together: carried ones take their share of it."""
    result = go(LOOP, kv="discard")
    known = [0, 480, 800, 1120]
    for task in (0, 1):
        again = sum(prefill(320 + 320 * turn, 1600) * known[turn] / (320 + 320 * turn) for turn in (1, 2, 3))
        assert named(result, "prefill again", task) == pytest.approx(again, rel=1e-9)
        assert tokens(result, task) == (1600 + 320 + 3 * 160, sum(known), (3 + task) * 1600, 4 * 160)


def test_cached_tokens_are_no_work() -> None:
    """With the cache only the last block of what was known is computed again; with blocks of one token, nothing but that token."""
    assert tokens(go(LOOP))[1] == 3 * 16
    single = go(LOOP, {"models": {"llm": {"batching": {"block": 1}}}})
    assert tokens(single)[1] == 3
    assert named(single, "prefill again") < 1e-3 * named(single, "inference")


def test_a_full_cache_of_the_same_prompt_computes_one_token() -> None:
    """Nothing new since the last call: the last block must be computed for its logits."""
    result = go(steps("w", w={"agent": "a", "repeat": 2}), {"agents": {"a": {"output": "16 tokens"}}})
    assert tokens(result) == (1920, 16, 1920, 32)


def test_two_agents_on_one_server_share_the_context_but_not_what_the_cache_has() -> None:
    """The second agent's prompt is new and its context carried: it comes behind another prompt, so no block of it is found.

    So it is, too, where an earlier task has left the second agent's prompt in the cache.
    """
    both = chain(("w", {"agent": "a"}), ("v", {"agent": "b"}))
    result = go(both)
    assert tokens(result) == (1920 + 800, 480, 0, 240)
    assert named(result, "prefill again") == pytest.approx(prefill(1280) * 480 / 1280, rel=1e-9)
    assert tokens(result, 1) == (1920 + 800, 480, 1600 + 800, 240)
    assert named(result, "prefill again", 1) == pytest.approx(prefill(480, 800), rel=1e-9)


def test_an_evaluator_reads_what_the_agent_wrote() -> None:
    """The judge's call is inference of its prompt and its verdict; the context it reads is carried."""
    judge = {"evaluators": {"e": {"model": "llm", "prompt": "800 tokens", "output": "16 tokens", "accept": 1.0}}}
    result = go(
        judge, steps("w", w={"agent": "a", "next": "j"}, j={"evaluator": "e", "accepted": "done", "rejected": "w"})
    )
    assert tokens(result) == (1920 + 800, 480, 0, 176)
    assert fact(result, "llm_calls") == 2


def test_branches_share_what_they_began_with_and_a_join_continues_the_first() -> None:
    """Each branch finds the context up to the fork; what follows finds the first branch's part, and prefills the second's again."""
    world = steps(
        "w", w={"agent": "a", "next": "f"}, f={"fork": ["x", "x"], "next": "v"}, x={"agent": "a"}, v={"agent": "a"}
    )
    result = go(world)
    at_fork, at_join = 1600 + 464, 1600 + 480 + 144  # whole blocks before the last token of an answer
    assert tokens(result) == (1920, 2 * 16 + 176, 2 * at_fork + at_join, 4 * 160)


def test_a_summary_starts_anew() -> None:
    """What a summary replaces is found no more: behind the caller's own prompt, all is computed."""
    memory = {
        "agents": {"a": {"memory": "m"}},
        "memories": {"m": {"summarize": {"model": "llm", "above": "500 tokens", "to": "64 tokens"}}},
    }
    result = go(memory, steps("w", w={"agent": "a", "repeat": 3}), {"workload": {"tasks": 1}})
    # 320 and 480 tokens go in; 640 are summarized, in a call without a prompt; 64 of them go in behind the prompt.
    assert tokens(result)[2] == 1600 + 464 + 1600
    assert tokens(result)[1] == 16 + 640 + 64


def test_output_replays_a_trace(tmp_path: Path) -> None:
    """`output: trace` makes the tokens that each row of the trace did."""
    (tmp_path / "t.csv").write_text("timestamp,input_length,output_length\n0,100,10\n5,200,33\n")
    trace = {"arrivals": {"trace": {"file": str(tmp_path / "t.csv")}}, "tasks": None, "request": None}
    result = go({"workload": trace, "agents": {"a": {"output": "trace"}}}, steps("w", w={"agent": "a"}))
    assert [tokens(result, task) for task in (0, 1)] == [(1700, 0, 0, 10), (1800, 0, 1600, 33)]


# What a call costs


def test_speed_makes_the_server_faster() -> None:
    """Four times the speed: every iteration takes a quarter of the time, but for the host's own."""
    slow, fast = go(LOOP), go(LOOP, {"models": {"llm": {"speed": 4}}})
    assert times().iteration_time.host(1) == 0.0
    for category in ("inference", "context"):
        assert parts(slow)[category] == pytest.approx(4 * parts(fast)[category], rel=1e-9)


def test_overhead_and_tokenizing_come_before_the_server() -> None:
    """A second a call; a millisecond for each token received: of those carried it is context."""
    plain = go(LOOP, {"runtime": {"state": "full"}})
    more = go(LOOP, {"runtime": {"state": "full"}, "models": {"llm": {"overhead": "1 s", "tokenize": "1 ms / token"}}})
    new, seen = 1920 + 3 * 160, 4 * 1600 + 320 + 640 + 960 + 1280
    assert named(more, "inference") - named(plain, "inference") == pytest.approx(4.0 + 1e-3 * new)
    assert named(more, "prefill again") - named(plain, "prefill again") == pytest.approx(1e-3 * (seen - new))


def noisy(tmp_path: Path) -> str:
    """Return a profile whose products vary from 0.6 to 1.4 of their mean."""
    data = json.loads((folder() / "h100-sxm.json").read_text())
    data["laws"]["gemm[dtype=bf16]"]["residual"] = {"of": "repeats", "shares": "0 0.5 1", "ratios": "0.6 1 1.4"}
    (tmp_path / "noisy.json").write_text(json.dumps(data))
    return str(tmp_path / "noisy.json")


def test_noise_scales_all_iterations_of_a_call(tmp_path: Path) -> None:
    """One factor a call, its first token and all others alike; the mean of many is that of the law's noise, within 99.9 %."""
    once = {"workload": {"tasks": 300}, **steps("w", w={"agent": "b"})}
    plain, drawn = go(once), go(once, {"profile": noisy(tmp_path)})
    factors = []
    for task in range(1, 300):
        factor = parts(drawn, task)["inference"] / parts(plain, task)["inference"]
        assert fact(drawn, "ttft", task) == pytest.approx(factor * fact(plain, "ttft", task), rel=1e-6)
        factors.append(factor)
    half = 3.3 * np.std(factors, ddof=1) / math.sqrt(len(factors))
    noise = read(noisy(tmp_path)).timing("gemm", dtype="bf16").noise
    assert noise is not None
    assert noise.mean == pytest.approx(1.0, abs=0.02)
    assert abs(np.mean(factors) - noise.mean) < half
    assert half < 0.05
    assert np.std(factors) > 0.1


def test_one_seed_gives_one_result() -> None:
    """Twice the same, to the byte; another seed differs."""
    load = {
        "workload": {"arrivals": {"poisson": "5 / s"}, "tasks": 50},
        "agents": {"a": {"output": {"exponential": {"mean": "90 tokens"}}}},
    }
    one, other, third = go(LOOP, load), go(LOOP, load), go(LOOP, load, seed=2)
    assert one.rows.tobytes() == other.rows.tobytes()
    assert one.rows.tobytes() != third.rows.tobytes()


def test_spans_tell_what_the_rows_do() -> None:
    """For every task the spans of each account sum to what its row holds, with the same tokens in line or not."""
    load = {
        "workload": {"arrivals": {"poisson": "20 / s"}, "tasks": 30},
        "models": {"llm": {"batching": {"sequences": 4}}},
    }
    result = go(LOOP, load, kv="discard")
    assert sum(parts(result, task).get("queueing", 0.0) for task in range(30)) > 0
    for task in range(30):
        by: dict[tuple[str, str, str], float] = {}
        for span in leaves(result, task):
            key = (span.category, span.component, span.name)
            by[key] = by.get(key, 0.0) + span.end - span.start
        found = {(one.category, one.component, one.name): seconds for one, seconds in accounts(result, task).items()}
        assert by == pytest.approx(found)
        assert sum(found.values()) == pytest.approx(total(result, task))


# Refused, cancelled, cut off


def test_a_refused_call_fails_its_task_and_says_why() -> None:
    """A line that is full, and a prompt longer than the memory for KV."""
    at_once = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 4}}
    full = {"models": {"llm": {"queue_limit": 1, "batching": {"sequences": 1}}}}
    result = go(at_once, full, steps("w", w={"agent": "b"}))
    assert statuses(result) == [0, 0, 1, 1]
    assert result.failures == {"models.llm: queue full": 2}
    small = {"models": {"llm": {"memory": {"kv": "50 MB"}}}}  # 1,525 tokens
    result = go(small, steps("w", w={"agent": "a"}))
    assert result.failures == {"models.llm: longer than the memory for KV": 2}


def test_who_loses_a_race_frees_its_place() -> None:
    """The branch that is cancelled while it decodes is out of the batch; the task and those behind it go on at once."""
    race = steps(
        "f", f={"fork": ["x", "y"], "join": "any", "rest": "cancel", "next": "v"}, x={"agent": "a"}, y={"agent": "b"}, v={"agent": "b"}
    )  # fmt: skip
    result = go(race, {"agents": {"a": {"output": "4000 tokens"}}, "models": {"llm": {"batching": {"sequences": 2}}}})
    assert statuses(result) == [0, 0]
    both = prefill(800 + 320) + decode(1200, 79)
    assert total(result) < 3.5 * both  # far from the 4,000 tokens of the other
    assert total(result) < prefill(1920) + decode(1920, 1000)


def test_a_horizon_cuts_calls_off_wherever_they_are() -> None:
    """In line, in a prefill or between tokens: what has passed until then is booked, and every task's parts are its time."""
    load = {
        "workload": {"arrivals": {"poisson": "40 / s"}, "tasks": None, "horizon": "2 s"},
        "models": {"llm": {"batching": {"sequences": 8, "tokens": 512}}},
    }
    result = go(LOOP, load, kv="discard")
    cut = [task for task, status in enumerate(statuses(result)) if status == 2]
    assert len(cut) > 10
    kinds = {one.name for task in cut for one in accounts(result, task)}
    assert {"queueing", "inference", "prefill again"} <= kinds
    for task in cut:
        assert sum(accounts(result, task).values()) == pytest.approx(total(result, task))


@pytest.mark.parametrize("kv", ["discard", "cache", "keep", "swap", "predict"])
@pytest.mark.parametrize(
    "model",
    [
        {"disaggregated": {"prefill": 2, "decode": 1}, "router": "session"},
        {"autoscale": {"most": 3, "cold_start": "1 s", "waiting": 1, "idle": "2 s"}, "router": "prefix"},
        {
            "replicas": 2,
            "cache": {"host": "1 GB", "ttl": "5 s"},
            "memory": {"kv": "500 MB"},
            "batching": {"preemption": "swap"},
        },
    ],
)
def test_every_kind_of_server_serves_every_policy(kv: str, model: Data) -> None:
    """All tasks are done and the law of the ledger holds, whatever is combined; what comes again is the same."""
    load = {"workload": {"arrivals": {"poisson": "5 / s"}, "tasks": 40}, "models": {"llm": model}}
    result = go(LOOP, load, kv=kv)
    assert statuses(result) == [0] * 40
    new = 1600 + 320 + 3 * 160
    assert {fact(result, "new_tokens", task) for task in range(40)} == {new}
    assert {fact(result, "output_tokens", task) for task in range(40)} == {640}


def test_a_summary_by_a_served_model_is_context() -> None:
    """What it takes to write a summary, from the prefill of what is new to its last token, is no inference.

    Three turns without tools leave 480 tokens beyond the request's 320; above 600 they are summarized before the third.
    """
    notes = {"summarize": {"model": "llm", "above": "600 tokens", "to": "40 tokens"}}
    with_notes: Data = {"agents": {"a": {"memory": "notes"}}, "memories": {"notes": notes}}
    result = go(with_notes, steps("w", w={"agent": "a", "repeat": 3}))
    found = {(one.category, one.name): seconds for one, seconds in accounts(result).items()}
    assert fact(result, "llm_calls") == 4
    # 40 tokens, the first of them by the prefill of 640, of which the cache does not know the caller.
    assert found["context", "summarize"] == pytest.approx(decode(640, 39), rel=0.02)
    assert parts(result)["inference"] + parts(result)["context"] == pytest.approx(total(result))
