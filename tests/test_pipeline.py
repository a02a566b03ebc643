"""Stages that overlap by pieces: times against the max-plus recursion, streaming against sequential, barge-ins, early ends."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.modality import MediaStream
from coordsim.models.pipeline_step import PipelineStep
from coordsim.models.simulate import Load, simulate
from coordsim.models.system import System
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ScenarioError

from .scene import (
    Data,
    accounts,
    chain,
    fact,
    leaves,
    merged,
    named,
    overlapped,
    parts,
    row_of,
    run,
    scene,
    statuses,
    steps,
    table,
    total,
)

SPEECH: Data = {"kind": "structured", "stream": {"rate": "10 / s", "length": "2 s", "units": 0.1, "source": "person"}}
VOICE: Data = {
    "modalities": {"speech": SPEECH},
    "tools": {"asr": {"latency": "10 ms"}, "tts": {"latency": "100 ms", "result": "0 tokens"}},
    "retrievers": {"docs": {"latency": "8 ms", "result": "200 tokens"}},
    "agents": {"a": {"prompt": "100 tokens", "output": "45 tokens"}},
    "models": {"llm": {"overhead": "60 ms", "decode": "20 ms / token"}},
}
TALK = (
    {"listen": "speech"},
    {"tool": "asr", "makes": "5 tokens"},
    {"retriever": "docs", "from": "whole"},
    {"agent": "a", "chunk": "15 tokens"},
    {"tool": "tts", "per_unit": "10 ms"},
    {"play": "0 s", "per_unit": "200 ms"},
)
MANY: Data = {"workload": {"tasks": 25}}
BUSY: Data = {"workload": {"arrivals": {"poisson": "0.2 / s"}, "tasks": 25}}
BARGE_IN: Data = {"chance": "60 %", "after": {"exponential": {"mean": "2 s"}}, "at_most": 3}


LOST = ("recovery", "")


def talk(*stages: Data, **fields: Any) -> Data:
    """Return the patch of a workflow that is one pipeline."""
    return steps("talk", talk={"pipeline": [*(stages or TALK)], **fields})


def line(works: Sequence[Sequence[float]], ready: Sequence[float]) -> np.ndarray:
    """Return when each stage is done with each piece, shape (stages, pieces): it begins when it has it and is free."""
    ends = np.zeros((len(works), len(ready)))
    for stage, seconds in enumerate(works):
        for piece, work in enumerate(seconds):
            there = ends[stage - 1, piece] if stage else ready[piece]
            free = ends[stage, piece - 1] if piece else 0.0
            ends[stage, piece] = max(there, free) + work
    return ends


def capture(rate: float, length: float) -> list[float]:
    """Return when each piece of a stream is there, in s from its begin."""
    stream = MediaStream.model_validate({"rate": f"{rate} / s", "length": "1 s"})
    return [stream.captured(number, length) for number in range(stream.pieces(length))]


def law(result: Result) -> None:
    """The critical spans of each task abut from its arrival to its end, and sum to its parts, account by account."""
    for index in result.rows[:, 0].astype(int):
        path = [span for span in leaves(result, index) if span.critical]
        found: dict[tuple[str, str], float] = {}
        for span in path:
            key = LOST if span.lost else (span.category, span.component)
            found[key] = found.get(key, 0.0) + span.end - span.start
        booked: dict[tuple[str, str], float] = {}
        for one, seconds in accounts(result, index).items():
            key = LOST if one.category == "recovery" else (one.category, one.component)
            booked[key] = booked.get(key, 0.0) + seconds
        assert found == pytest.approx(booked, abs=1e-7)
        assert overlapped(result, index) >= -1e-9
        row, ordered = row_of(result, index), sorted((span.start, span.end) for span in path)
        edges = [row[2], *(edge for stretch in ordered for edge in stretch), row[3]]
        np.testing.assert_allclose(edges[::2], edges[1::2], atol=1e-7)


def test_a_turn_takes_as_long_as_its_recursion() -> None:
    """Speech, silence, retrieval, the first sentence, its sound; then playback hides all that follows."""
    result = run(VOICE, talk(endpoint="500 ms"))
    first = 0.008 + 0.06 + 15 * 0.02 + 0.1 + 15 * 0.01
    assert fact(result, "ttfa") == pytest.approx(0.5 + first)
    assert total(result) == pytest.approx(2.0 + 0.5 + first + 45 * 0.2)
    assert parts(result) == pytest.approx(
        {"human": 11.0, "synchronization": 0.5, "tool": 0.258, "inference": 0.36}, abs=1e-9
    )
    # Beside the path: recognition of all pieces, the rest of the answer and of its sound.
    assert overlapped(result) == pytest.approx(20 * 0.01 + 30 * 0.02 + 2 * 0.25)
    assert fact(result, "pieces") == 20 + 20 + 1 + 3 + 3
    assert (fact(result, "llm_calls"), fact(result, "tool_calls")) == (1, 20 + 1 + 3)
    law(result)


def test_without_streaming_each_stage_works_once_on_the_whole() -> None:
    """One call each, after the other; tokens are the same, and the rest of the sound is on the path."""
    result = run(VOICE, talk(endpoint="500 ms", streaming=False))
    first = 0.01 + 0.008 + 0.06 + 45 * 0.02 + 0.1 + 45 * 0.01
    assert fact(result, "ttfa") == pytest.approx(0.5 + first)
    assert total(result) == pytest.approx(2.5 + first + 9.0)
    assert overlapped(result) == pytest.approx(0.0, abs=1e-9)
    assert fact(result, "pieces") == 5
    streamed = run(VOICE, talk(endpoint="500 ms"))
    for name in ("new_tokens", "output_tokens", "carried_tokens", "llm_calls"):
        assert fact(result, name) == fact(streamed, name)
    assert fact(result, "new_tokens") == 100 + 10 + 200
    law(result)


STAGE = st.tuples(st.integers(0, 300), st.integers(0, 3000))  # ms a piece, ms a unit


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(STAGE, min_size=1, max_size=4), st.integers(1, 50), st.integers(1, 3000), st.integers(0, 900))
def test_any_line_of_stages_follows_the_recursion(
    stages: list[tuple[int, int]], rate: int, length: int, endpoint: int
) -> None:
    """Whatever the stages take, each piece is done at max(when it came, when the stage was free) + work; so is the end."""
    stream = {"rate": f"{rate} / s", "length": f"{length} ms", "units": 1 / rate, "source": "sensor"}
    world: Data = {
        "modalities": {"signal": {"kind": "structured", "stream": stream}},
        "tools": {f"t{place}": {"latency": f"{fixed} ms"} for place, (fixed, _) in enumerate(stages)},
    }
    works = [{"tool": f"t{place}", "per_unit": f"{each} ms"} for place, (_, each) in enumerate(stages)]
    result = run(world, talk({"listen": "signal"}, *works, endpoint=f"{endpoint} ms"))
    ready = capture(rate, length / 1000)
    units = np.diff([0.0, *ready])
    ends = line([[(fixed + each * unit) / 1000 for unit in units] for fixed, each in stages], ready)
    assert fact(result, "ttfa") == pytest.approx(ends[-1, 0] - length / 1000, abs=1e-9)
    assert total(result) == pytest.approx(max(ends[-1, -1], length / 1000 + endpoint / 1000))
    assert fact(result, "pieces") == len(ready) * (1 + len(stages))
    law(result)


def test_pieces_come_at_their_period_and_the_last_when_all_is_over() -> None:
    """Whole periods make whole pieces, and what is left at the end is a smaller one."""
    assert capture(10, 0.3) == pytest.approx([0.1, 0.2, 0.3])
    assert capture(10, 0.25) == pytest.approx([0.1, 0.2, 0.25])
    assert capture(10, 0.0) == []
    stream = MediaStream.model_validate({"rate": "10 / s", "length": "1 s"})
    assert [stream.captured_by(time, 0.25) for time in (0.0, 0.099, 0.1, 0.2, 0.249, 0.25, 9.0)] == [
        0,
        0,
        1,
        2,
        2,
        3,
        3,
    ]


RANDOM: Data = {
    "modalities": {"speech": {"stream": {"length": {"exponential": {"mean": "2 s"}}}}},
    "tools": {"asr": {"latency": "0 s"}, "tts": {"latency": "0 s"}},
    "retrievers": {"docs": {"latency": {"exponential": {"mean": "0.1 s"}}}},
    "agents": {"a": {"output": {"uniform": {"low": "1 token", "high": "120 tokens"}}}},
    "models": {"llm": {"overhead": {"exponential": {"mean": "0.1 s"}}}},
}


def uncertain(listening: str, speaking: str, chunk: str) -> list[Data]:
    """Return the stages of a turn whose costs are all in proportion, and drawn."""
    return [
        {"listen": "speech"},
        {"tool": "asr", "per_unit": {"exponential": {"mean": listening}}, "makes": "3 tokens"},
        {"retriever": "docs", "from": "whole"},
        {"agent": "a", "chunk": {"uniform": {"low": "1 token", "high": chunk}}},
        {"tool": "tts", "per_unit": {"exponential": {"mean": speaking}}},
        {"play": "0 s", "per_unit": "50 ms"},
    ]


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["50 ms", "0.9 s", "3 s"]),
    st.sampled_from(["1 ms", "20 ms", "80 ms"]),
    st.sampled_from(["2 tokens", "40 tokens"]),
)
def test_streaming_is_never_later_and_does_the_same_work(listening: str, speaking: str, chunk: str) -> None:
    """With costs in proportion to what is worked on: any task ends no later, is heard no later, and costs the same."""
    stages = uncertain(listening, speaking, chunk)
    streamed, whole = (
        run(VOICE, RANDOM, MANY, talk(*stages, streaming=streaming, endpoint="0.3 s")) for streaming in (True, False)
    )
    sooner = 0
    for task in range(25):
        assert total(streamed, task) <= total(whole, task) + 1e-9
        assert fact(streamed, "ttfa", task) <= fact(whole, "ttfa", task) + 1e-9
        sooner += total(streamed, task) < total(whole, task) - 1e-3
        work: list[dict[tuple[str, str, str], float]] = []
        for result in (streamed, whole):
            sums: dict[tuple[str, str, str], float] = {}
            for span in leaves(result, task):
                key = span.category, span.component, span.name
                sums[key] = sums.get(key, 0.0) + span.end - span.start
            work.append(sums)
            # All own work is on the path or beside it.
            assert sum(sums.values()) == pytest.approx(total(result, task) + overlapped(result, task))
        assert work[0] == pytest.approx(work[1], abs=1e-6)
        for name in ("new_tokens", "output_tokens", "carried_tokens"):
            assert fact(streamed, name, task) == fact(whole, name, task)
    assert sooner > 12
    law(streamed)
    law(whole)


def test_what_each_piece_costs_can_make_streaming_the_slower_way() -> None:
    """45 calls of 0.1 s each take longer than one; the first sound is still the earlier one."""
    tiny = [*TALK[:3], {"agent": "a", "chunk": "1 token"}, {"tool": "tts", "per_unit": "10 ms"}]
    streamed, whole = (run(VOICE, talk(*tiny, streaming=streaming)) for streaming in (True, False))
    assert total(streamed) == pytest.approx(2.0 + 0.01 + 0.008 + 0.06 + 0.02 + 45 * 0.11)
    assert total(whole) == pytest.approx(2.0 + 0.01 + 0.008 + 0.06 + 0.9 + 0.1 + 0.45)
    assert total(streamed) > total(whole)
    assert fact(streamed, "ttfa") < fact(whole, "ttfa")
    assert fact(streamed, "ttfa") < 0.01 + 0.008 + 0.96 + 0.55  # the sum of the stages


def test_draws_are_the_same_however_the_stages_work() -> None:
    """Length of speech, tokens, time of a call: with and without streaming, and beside another stage."""
    world = (VOICE, RANDOM, MANY)
    stages = uncertain("0.1 s", "10 ms", "20 tokens")
    results = [
        run(*world, talk(*stages)),
        run(*world, talk(*stages, streaming=False)),
        run(*world, talk(*stages, barge_in={"chance": 0, "after": "1 s"}, endpoint="1 s")),
    ]
    for task in range(25):
        for name in ("output_tokens", "new_tokens"):
            assert len({fact(result, name, task) for result in results}) == 1
        for component in ("speech", "docs"):
            seconds = [
                sum(
                    span.end - span.start
                    for span in leaves(result, task)
                    if span.component == component and span.name != "endpointing"
                )
                for result in results
            ]
            assert seconds == pytest.approx([seconds[0]] * 3)


@pytest.mark.parametrize(
    "patch",
    [{}, {"profile": "h100-sxm", "models": {"llm": {"shape": "llama-3.2-1b"}}}],
    ids=["station", "served"],
)
def test_the_context_is_as_after_steps_in_sequence(patch: Data) -> None:
    """What recognition and retrieval bring, the agent reads; what it wrote, is in the next prompt, and in the cache."""
    world: Data = {
        "workload": {"request": "320 tokens"},
        "tools": {
            "asr": {"latency": "10 ms", "result": "32 tokens"},
            "tts": {"latency": "100 ms", "result": "16 tokens"},
        },
        "retrievers": {"docs": {"latency": "8 ms", "result": "160 tokens"}},
        "agents": {"a": {"prompt": "64 tokens", "output": "48 tokens"}},
    }
    world = merged(world, patch)
    stages = [{"tool": "asr"}, {"retriever": "docs"}, {"agent": "a", "chunk": "48 tokens"}, {"tool": "tts"}]
    again = ("again", {"agent": "a"})
    piped = run(world, chain(("talk", {"pipeline": stages}), again))
    sequence = run(
        world,
        chain(
            ("r", {"tool": "asr"}), ("d", {"retriever": "docs"}), ("x", {"agent": "a"}), ("t", {"tool": "tts"}), again
        ),
    )
    for name in ("new_tokens", "carried_tokens", "cached_tokens", "output_tokens", "llm_calls", "tool_calls", "ttft"):
        assert fact(piped, name) == pytest.approx(fact(sequence, name)), name
    assert fact(piped, "new_tokens") == 320 + 64 + 32 + 160 + 16
    assert parts(piped) == pytest.approx(parts(sequence), rel=1e-9)


def test_control_comes_and_stays_where_the_agent_is() -> None:
    """With an agent on another node, state goes there once, as in steps one after the other; the next call finds it there."""
    placed: Data = {
        "runtime": {"preset": "ideal", "placement": "own", "connection": "persistent", "state": "delta"},
        "workload": {"request": "320 tokens"},
        "tools": {"asr": {"latency": "10 ms", "result": "32 tokens"}},
        "agents": {"a": {"prompt": "64 tokens", "output": "48 tokens", "node": "there"}},
    }
    world = merged(NETWORK, merged(VOICE, placed))
    again = ("again", {"agent": "a"})
    stages = [{"tool": "asr"}, {"retriever": "docs"}, {"agent": "a", "chunk": "48 tokens"}]
    piped = run(world, chain(("talk", {"pipeline": stages}), again))
    sequence = run(world, chain(("r", {"tool": "asr"}), ("d", {"retriever": "docs"}), ("x", {"agent": "a"}), again))
    assert parts(piped) == pytest.approx(parts(sequence), rel=1e-9)
    assert fact(piped, "messages") == fact(sequence, "messages")
    assert fact(piped, "bytes") == pytest.approx(fact(sequence, "bytes"))
    assert any(account.component == "handoff" for account in accounts(piped))


NETWORK: Data = {
    "context": {"bytes_per_token": "2 B / token"},
    "runtime": {"preset": "ideal", "placement": "external", "connection": "persistent"},
    "orchestrator": {"node": "here"},
    "network": {
        "nodes": {"here": {}, "there": {}},
        "links": [{"between": ["here", "there"], "latency": "30 ms", "bandwidth": "100 kB/s"}],
    },
    "models": {"llm": {"node": "there"}},
    "tools": {"asr": {"node": "there"}, "tts": {"node": "there", "request": "100 B", "response": "1 kB"}},
    "modalities": {"speech": {"bytes": "20 kB"}},
}  # fmt: skip


def test_pieces_on_their_way_overlap() -> None:
    """Each piece crosses the network by itself: the way of one hides behind the next, and the last one's is waited for."""
    result = run(VOICE, NETWORK, talk(endpoint="10 ms"))
    law(result)
    speech = (
        2.0 + 0.03 + 2e3 / 1e5 + 0.03 + 0.01 + 0.03
    )  # 0.1 s of it are 2 kB; then the request, the call, the response
    ask = 0.03 + (110 + 200) * 2 / 1e5 + 0.06 + 0.3 + 0.03 + 30 / 1e5
    speak = 0.03 + 100 / 1e5 + 0.25 + 0.03 + 1e3 / 1e5
    beside = 2 * 0.75e-3  # to a process on the same node, and back
    assert fact(result, "ttfa") == pytest.approx(speech - 2.0 + 0.008 + beside + ask + speak, rel=1e-9)
    # 20 pieces and their end, 20 calls of recognition, retrieval, the prompt, 3 chunks, 3 calls of synthesis.
    assert fact(result, "messages") == 20 + 1 + 20 * 2 + 2 + 1 + 3 + 3 * 2
    whole = run(VOICE, NETWORK, talk(endpoint="10 ms", streaming=False))
    law(whole)
    assert fact(whole, "messages") == 1 + 1 + 2 + 2 + 1 + 1 + 2
    assert fact(whole, "ttfa") > fact(result, "ttfa")


def test_the_silence_is_heard_of_over_the_network() -> None:
    """Once it is longer than the way of the last piece, the turn goes on a message after it; without an endpoint there is none."""
    asked = [fact(run(VOICE, NETWORK, talk(endpoint=f"{silence} ms")), "ttfa") for silence in (10, 500, 800)]
    assert asked[1] - asked[0] == pytest.approx(0.5 + 0.03 - (0.03 + 2e3 / 1e5 + 0.03 + 0.01 + 0.03), abs=1e-9)
    assert asked[2] - asked[1] == pytest.approx(0.3)
    result = run(VOICE, NETWORK, talk(*TALK[:2], endpoint="500 ms"))
    assert total(result) == pytest.approx(2.0 + 0.5 + 0.03)
    assert named(result, "transit") == pytest.approx(0.03)
    law(result)


def test_lost_and_late_pieces() -> None:
    """What is lost is not worked on; jitter delays a piece and not the ones behind it."""
    lossy = {"modalities": {"speech": {"stream": {"loss": "30 %"}}}}
    result = run(VOICE, lossy, talk(*TALK[:2]))
    lost = fact(result, "lost_pieces")
    assert 0 < lost < 20
    assert fact(result, "tool_calls") == 20 - lost
    late = {"modalities": {"speech": {"stream": {"jitter": {"uniform": {"low": "0 s", "high": "1 s"}}}}}}
    result = run(VOICE, late, talk(*TALK[:2]))
    law(result)
    assert 2.01 < total(result) <= 3.0 + 20 * 0.01
    assert named(result, "jitter") > 0


def test_a_listened_modality_may_be_encoded() -> None:
    """Each piece is encoded on its way, before the call for it; a speech model reads the tokens itself."""
    world: Data = {
        "modalities": {"speech": {"kind": "audio", "encoder": "mel", "tokens": "50 tokens"}},
        "encoders": {"mel": {"latency": "5 ms", "per_unit": "40 ms"}},
    }
    result = run(VOICE, world, talk(*TALK[:2]))
    assert fact(result, "ttfa") == pytest.approx(-1.9 + 0.005 + 0.004 + 0.01)
    assert total(result) == pytest.approx(2.0 + 0.019)
    law(result)
    result = run(VOICE, world, talk({"listen": "speech"}, {"agent": "a"}))
    assert total(result) == pytest.approx(2.0 + 0.009 + 0.96)
    assert fact(result, "new_tokens") == 100 + 100


def test_stages_wait_for_a_free_slot() -> None:
    """Two tasks at once share the slots of each service; the law holds, and all is done later than alone."""
    world: Data = {
        "workload": {"arrivals": {"renewal": {"interarrival": "0.1 s"}}, "tasks": 4},
        "tools": {"asr": {"concurrency": 1}, "tts": {"concurrency": 1}},
        "models": {"llm": {"concurrency": 1}},
    }
    result = run(VOICE, world, talk(*TALK[:5]))
    law(result)
    alone = total(run(VOICE, talk(*TALK[:5])))
    assert total(result, 0) < total(result, 3)
    assert total(result, 3) > alone + 3 * 0.7
    assert parts(result, 3)["queueing"] > 0


def test_a_stage_that_fails_fails_the_task() -> None:
    """A full queue ends the task there and then; what the other stages did is beside the path, and no slot is kept."""
    world: Data = {
        "workload": {"arrivals": {"renewal": {"interarrival": "0.1 s"}}, "tasks": 3},
        "tools": {"tts": {"concurrency": 1, "queue_limit": 0}},
        "models": {"llm": {"concurrency": 3}},
    }
    scenario = scene(VOICE, world, talk(*TALK[:5]))
    system = System(scenario, 1, 0, "all")
    Load(system).run()
    assert all(pool.busy == 0 for pool in system.ledger.resources)
    result = run(VOICE, world, talk(*TALK[:5]))
    assert statuses(result) == [0, 1, 1]
    assert result.failures == {"tools.tts: queue full": 2}
    assert total(result, 1) == pytest.approx(2.01 + 0.008 + 0.06 + 0.3)
    law(result)


# Barge-ins


def test_a_barge_in_begins_the_turn_again() -> None:
    """The person listens for 2 s, speaks again, and hears the rest; what was done for the first answer is lost."""
    result = run(VOICE, talk(endpoint="500 ms", barge_in={"chance": "100 %", "after": "2 s", "at_most": 1}))
    first = 0.008 + 0.06 + 15 * 0.02 + 0.1 + 15 * 0.01
    assert fact(result, "barge_ins") == 1
    assert total(result) == pytest.approx(2.5 + first + 2.0 + 2.5 + first + 9.0)
    assert parts(result) == pytest.approx(
        {"human": 2.0 + 2.0 + 11.0, "synchronization": 1.0, "recovery": first, "tool": 0.258, "inference": 0.36},
        abs=1e-9,
    )
    assert fact(result, "ttfa") == pytest.approx(0.5 + first)  # the longest of both turns
    lost = [span for span in leaves(result) if span.lost]
    assert {span.component for span in lost} == {"asr", "docs", "llm", "tts"}
    assert sum(span.end - span.start for span in lost if span.critical) == pytest.approx(first)
    law(result)


def test_an_interruption_during_the_answer_cancels_what_is_under_way() -> None:
    """The model stops in the middle of its answer, and the synthesis of the second sentence too."""
    result = run(VOICE, talk(barge_in={"chance": "100 %", "after": "0.1 s", "at_most": 1}))
    once = run(VOICE, talk())
    first = 0.01 + 0.008 + 0.06 + 15 * 0.02 + 0.1 + 15 * 0.01
    # From the first chunk to the interruption 0.25 s for its sound, and 0.1 s: so long the model went on beside the path.
    beside = 19 * 0.01 + 0.35
    beside += 0.35 - 15 * 0.02  # the second sentence was there 0.3 s after the first
    assert total(result) == pytest.approx(2.0 + first + 0.1 + total(once))
    assert overlapped(result) == pytest.approx(overlapped(once) + beside, abs=1e-6)
    law(result)


@pytest.mark.parametrize("served", [False, True])
def test_whoever_is_interrupted_gives_back_every_slot(served: bool) -> None:
    """One slot of each service for all tasks: they all end, nothing is held at the end, and a run repeats itself."""
    world: Data = {
        "tools": {"asr": {"concurrency": 1}, "tts": {"concurrency": 1}},
        "agents": {"a": {"concurrency": 1}},
        "models": {"llm": {"concurrency": 1}},
    }
    if served:
        world["models"] = {"llm": {"shape": "llama-3.2-1b", "overhead": None, "decode": None}}
        world["profile"] = "h100-sxm"
    scenario = scene(VOICE, RANDOM, BUSY, world, talk(barge_in=BARGE_IN, endpoint="200 ms"))
    system = System(scenario, 1, 0, "all")
    Load(system).run()
    for pool in system.ledger.resources:
        if hasattr(pool, "busy"):
            assert (pool.busy, pool.waiting) == (0, 0)
    results = [simulate(scenario, spans=spans) for spans in ("all", "none", "all")]
    assert table(results[0]) == table(results[1]) == table(results[2])
    counts = [fact(results[0], "barge_ins", task) for task in range(25)]
    assert set(counts) > {0.0, 1.0}
    assert max(counts) <= 3
    law(results[0])
    assert statuses(results[0]) == [0] * 25


def test_barge_ins_come_as_often_as_they_say() -> None:
    """With an answer far longer than any patience, a share of 0.3 of 1500 turns is interrupted, within 4 sigma."""
    long = {
        "agents": {"a": {"output": "1k tokens"}},
        "workload": {"arrivals": {"renewal": {"interarrival": "1 h"}}, "tasks": 1500},
    }
    barge_in = {"chance": "30 %", "after": "1 s", "at_most": 1}
    stages = [{"listen": "speech"}, {"agent": "a", "chunk": "500 tokens"}, TALK[-1]]
    short = {"modalities": {"speech": {"stream": {"rate": "1 / s"}}}}
    result = run(VOICE, short, long, talk(*stages, barge_in=barge_in), spans="none")
    count = sum(fact(result, "barge_ins", task) for task in range(1500))
    assert abs(count - 450) < 4 * np.sqrt(1500 * 0.3 * 0.7)


def test_pipelines_race_one_another() -> None:
    """In a fork of which only the first counts, the other is called off with all its stages, wherever it is; tools may fail."""
    world: Data = {
        "tools": {
            "asr": {"concurrency": 1, "errors": 0.2, "handling": {"retry": 3}},
            "tts": {"concurrency": 1, "errors": 0.2, "handling": {"retry": 3}},
        },
        "modalities": {"speech": {"stream": {"loss": "60 %", "jitter": {"exponential": {"mean": "0.5 s"}}}}},
    }
    pipeline = {"pipeline": list(TALK), "barge_in": BARGE_IN, "endpoint": "0.2 s"}
    race = steps("race", race={"fork": ["x", "y"], "join": 1, "rest": "cancel"}, x=pipeline, y=pipeline)
    system = System(scene(VOICE, RANDOM, BUSY, world, race), 1, 0, "all")
    Load(system).run()
    assert all((pool.busy, pool.waiting) == (0, 0) for pool in system.ledger.resources)
    result = run(VOICE, RANDOM, BUSY, world, race)
    assert statuses(result) == [0] * 25
    assert sum(fact(result, "barge_ins", task) for task in range(25)) > 5
    assert sum(fact(result, "retries", task) for task in range(25)) > 5
    assert table(result) == table(run(VOICE, RANDOM, BUSY, world, race, spans="none"))
    law(result)


def test_a_turn_of_which_nothing_comes_goes_on_with_nothing() -> None:
    """Where all is lost, the call for the whole is made all the same; calls for pieces are not."""
    lost = {"modalities": {"speech": {"stream": {"loss": "99.99 %"}}}}
    result = run(VOICE, lost, talk(*TALK[:2]))
    assert (fact(result, "lost_pieces"), fact(result, "tool_calls"), fact(result, "ttfa")) == (20, 0, 0)
    assert total(result) == pytest.approx(2.0)
    result = run(VOICE, lost, talk(*TALK[:2], {"agent": "a"}, endpoint="0.5 s"))
    assert total(result) == pytest.approx(2.5 + 0.96)


@pytest.mark.parametrize("horizon", [0.05, 1.0, 2.03, 2.4, 2.7, 3.3, 3.9, 4.8, 5.6, 7.7, 11.9, 18.4, 27.1])
def test_a_run_cut_off_anywhere_keeps_the_law(horizon: float) -> None:
    """Whatever is under way at the end of the run, the parts of each task sum to the time it has been there."""
    world: Data = {
        "workload": {"arrivals": {"renewal": {"interarrival": "1.7 s"}}, "horizon": f"{horizon} s"},
        "tools": {"tts": {"concurrency": 1}},
    }
    world["workload"]["tasks"] = None
    patch = merged(merged(VOICE, NETWORK), world)
    everything = run(patch, talk(endpoint="300 ms", barge_in=BARGE_IN))
    nothing = run(patch, talk(endpoint="300 ms", barge_in=BARGE_IN), spans="none")
    assert table(everything) == table(nothing)
    law(everything)


# What cannot be written


@pytest.mark.parametrize(
    ("stages", "fields", "told"),
    [
        ([{"tool": "asr"}, {"listen": "speech"}], {}, "must come first"),
        ([{"play": "1 s"}, {"tool": "asr"}], {}, "must come last"),
        ([{"tool": "asr", "from": "pieces"}], {}, "no stage comes before"),
        ([{"listen": "speech"}, {"play": "1 s"}], {}, "needs a stage that works"),
        ([{"agent": "a"}, {"tool": "tts"}], {}, "needs `chunk`"),
        ([{"agent": "a", "chunk": "3 tokens"}, {"agent": "a"}], {}, "takes the whole"),
        ([{"tool": "asr"}, {"agent": "a", "from": "pieces"}], {}, "must be `whole`"),
        ([{"tool": "asr", "chunk": "3 tokens"}], {}, "goes with `agent` only"),
        ([{"agent": "a", "chunk": "0 tokens"}], {}, "must be a distribution of values > 0"),
        ([{"tool": "asr"}], {"endpoint": "1 s"}, "needs `listen`"),
        ([{"tool": "asr"}], {"barge_in": {"chance": 0.5, "after": "1 s"}}, "needs `listen`"),
        ([{"tool": "asr", "retriever": "docs"}], {}, "exactly one of"),
    ],
)
def test_pipelines_that_make_no_sense_are_refused(stages: list[Data], fields: Data, told: str) -> None:
    """Each rule names what is wrong."""
    with pytest.raises(ScenarioError, match=told):
        scene(VOICE, talk(*stages, **fields))


def test_a_pipeline_is_written_as_it_is_read() -> None:
    """What a resolved scenario writes, gives the same step again."""
    scenario = scene(VOICE, talk(barge_in=BARGE_IN))
    step = scenario.workflow.steps["talk"]
    assert isinstance(step, PipelineStep)
    assert [stage.kind for stage in step.pipeline] == [next(iter(stage)) for stage in TALK]
    assert PipelineStep.model_validate(step.model_dump(mode="json", by_alias=True, exclude_none=True)) == step


def test_pieces_keep_their_order_over_a_network_that_does_not() -> None:
    """Chunks of an answer overtake one another on their way, and are worked on in their order all the same."""
    jittery = {"network": {"links": [{"between": ["here", "there"], "latency": {"exponential": {"mean": "1 s"}}}]}}
    tools = {"tools": {"tts": {"node": None}}}
    stages = [*TALK[:3], {"agent": "a", "chunk": "20 tokens"}, TALK[4]]
    result = run(VOICE, NETWORK, tools, jittery, MANY, talk(*stages))
    law(result)
    overtaken = 0
    for task in range(25):
        spans = sorted(leaves(result, task), key=lambda span: span.start)
        calls = [span.end - span.start for span in spans if span.component == "tts" and span.name == "tool.execute"]
        assert calls == pytest.approx([0.3, 0.3, 0.15])
        ends = [span.end for span in spans if span.component == "llm" and span.size in (40.0, 10.0)]
        assert len(ends) == 3
        overtaken += ends != sorted(ends)
    assert overtaken > 5
