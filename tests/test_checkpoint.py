"""Checkpoints: what is written at which step, how long it takes and where that is booked, and that bounds agree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.bounds import bounds
from coordsim.models.checkpoint import Checkpoint
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

from .scene import Data, accounts, chain, fact, leaves, named, overlapped, parts, run, scene, steps, table, total

WORLD: Data = {
    "context": {"bytes_per_token": "2 B / token"},
    "workload": {"request": "1000 tokens"},
    "agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}},
    "models": {"llm": {"overhead": "1 s"}},
    "tools": {"t": {"latency": "1 s", "result": "50 tokens"}},
}
LAW = {"overhead": "100 ms", "bandwidth": "1 kB/s"}
LOOP = steps("w", w={"agent": "a", "repeat": 3})
SEEN = (1000, 1100, 1200)  # tokens of context at the three steps; the caller's own prompt is no state of the task


def saves(kind: str = "full", **more: Any) -> Data:
    """Return an orchestrator that writes checkpoints."""
    return {"orchestrator": {"checkpoint": {"kind": kind, "write": LAW, **more}}}


def written(*patches: Data) -> float:
    """Return the bytes of state that a task writes in a run."""
    return fact(run(WORLD, *patches), "state_bytes")


# -- What is written


def test_without_checkpoints_nothing_is_written() -> None:
    """No bytes, no seconds, and no account for them."""
    result = run(WORLD, LOOP)
    assert fact(result, "state_bytes") == 0
    assert not any(account.name == "checkpoint" for account in result.accounts)


def test_a_snapshot_is_all_of_the_context_and_a_delta_what_is_new() -> None:
    """Three turns, 2 B a token: all there is at each, or the request and then what each turn added."""
    assert written(LOOP, saves()) == 2 * sum(SEEN)
    assert written(LOOP, saves("delta")) == 2 * SEEN[-1]


def test_each_checkpoint_has_its_base() -> None:
    """64 B more a checkpoint, of either kind."""
    for kind in ("full", "delta"):
        assert written(LOOP, saves(kind, base="64 B")) == written(LOOP, saves(kind)) + 3 * 64


@pytest.mark.parametrize(("every", "at"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (3, [2]), (5, [4]), (6, [])])
def test_every_so_many_steps(every: int, at: list[int]) -> None:
    """Of five steps those whose number is a multiple; a delta then holds all steps since the last."""
    five = steps("w", w={"agent": "a", "repeat": 5})
    tokens = [1000 + 100 * step for step in at]
    assert written(five, saves(every=every)) == 2 * sum(tokens)
    assert written(five, saves("delta", every=every)) == 2 * max(tokens, default=0)


def test_agents_evaluators_tools_and_retrievers_write_and_share_one_count() -> None:
    """Four steps of four kinds, every second one written: the tool's, and the retriever's."""
    walk = steps(
        "plan",
        plan={"agent": "a", "next": "look"},
        look={"tool": "t", "next": "judge"},
        judge={"evaluator": "e", "accepted": "find", "rejected": "find"},
        find={"retriever": "r", "next": "done"},
    )
    kinds = {
        "evaluators": {"e": {"model": "llm", "output": "7 tokens", "accept": 1}},
        "retrievers": {"r": {"latency": "1 s", "top_k": 1, "passage": "30 tokens"}},
    }
    assert written(walk, kinds, saves()) == 2 * (1000 + 1100 + 1150 + 1157)
    assert written(walk, kinds, saves(every=2)) == 2 * (1100 + 1157)
    assert written(walk, kinds, saves("delta")) == 2 * 1157


def test_each_task_writes_its_own() -> None:
    """Many tasks write what one does, each."""
    result = run(WORLD, LOOP, saves(), {"workload": {"tasks": 5}})
    assert result.fact("state_bytes").tolist() == [2 * sum(SEEN)] * 5


@pytest.mark.parametrize("runtime", ["ideal", "stateless-api", "session-state", "agent-native"])
def test_every_runtime_writes(runtime: str) -> None:
    """Checkpoints are part of the scenario, not of a runtime; each writes the same state."""
    extra = {"runtime": runtime, "network": {"loopback": "1 ms"}, "orchestrator": {"poll_interval": "1 s"}}
    assert written(extra, LOOP, saves()) == 2 * sum(SEEN)


# Branches and summaries


def test_what_branches_have_written_stays_written() -> None:
    """Of three branches each writes what came before it, unless that was written, and its own; after the join only the rest."""
    fork: dict[str, Data] = {
        "f": {"fork": ["g"], "copies": 3, "next": "h"},
        "g": {"agent": "a", "repeat": 2},
        "h": {"agent": "a"},
    }
    first: dict[str, Data] = {"a0": {"agent": "a", "next": "f"}}
    delta = saves("delta")
    # The first step writes the request. Its output and one of two turns in each branch are new there; after the join, the other turn.
    assert written(steps("a0", **first, **fork), delta) == 2 * (1000 + 3 * (100 + 100) + 3 * 100)
    assert written(steps("a0", **first, **fork), saves()) == 2 * (1000 + 3 * (1100 + 1200) + 1700)


def test_a_summary_is_written_anew() -> None:
    """Where a summary takes the place of the context, what is saved of the old one is of no use."""
    memory = {
        "memories": {"m": {"summarize": {"model": "llm", "above": "1050 tokens", "to": "200 tokens"}}},
        "agents": {"a": {"memory": "m"}},
    }
    # Turns begin at 1000, 1100 (then summarized to 200) and 300 tokens: 1000, 100 more, and all 300.
    assert written(LOOP, memory, saves("delta")) == 2 * (1000 + 100 + 300)


# -- How long it takes


@pytest.mark.parametrize("kind", ["full", "delta"])
def test_a_task_waits_for_what_is_written_in_sync(kind: str) -> None:
    """0.1 s and a second per kB each time, as the framework's own work; all else takes what it took."""
    plain, result = run(WORLD, LOOP), run(WORLD, LOOP, saves(kind))
    seconds = 3 * 0.1 + fact(result, "state_bytes") / 1000
    assert total(result) == pytest.approx(total(plain) + seconds)
    assert named(result, "checkpoint") == pytest.approx(seconds)
    assert parts(result)["orchestration"] == pytest.approx(seconds)
    assert overlapped(result) == 0


def test_what_is_written_beside_the_task_takes_none_of_its_time() -> None:
    """The same bytes and the same work, overlapped."""
    plain = run(WORLD, LOOP)
    sync, beside = run(WORLD, LOOP, saves()), run(WORLD, LOOP, saves(mode="async"))
    assert total(beside) == total(plain)
    assert fact(beside, "state_bytes") == fact(sync, "state_bytes")
    assert overlapped(beside) == pytest.approx(named(sync, "checkpoint"))
    spans = [span for span in leaves(beside) if span.name == "checkpoint"]
    assert [span.size for span in spans] == [2 * tokens for tokens in SEEN]
    assert not any(span.critical for span in spans)


def test_spans_are_of_the_framework_and_have_their_bytes() -> None:
    """After dispatch, before the call: category `orchestration`, size in bytes."""
    dispatch = {"orchestrator": {"dispatch": "2 s"}, "runtime": {"preset": "ideal", "dispatch": "every-step"}}
    spans = leaves(run(WORLD, LOOP, dispatch, saves()))
    assert [span.name for span in spans[:3]] == ["dispatch", "checkpoint", "inference"]
    own = [span for span in spans if span.name == "checkpoint"]
    assert {(span.category, span.component) for span in own} == {("orchestration", "orchestrator")}
    assert [span.size for span in own] == [2 * tokens for tokens in SEEN]
    assert own[0].start == pytest.approx(spans[0].start + 2)


def test_a_law_of_no_time_writes_bytes_only() -> None:
    """`write: {}` counts, and takes nothing."""
    result = run(WORLD, LOOP, saves(write={}))
    assert fact(result, "state_bytes") == 2 * sum(SEEN)
    assert total(result) == total(run(WORLD, LOOP))


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_time_follows_the_bytes_of_a_token_and_the_bandwidth(factor: float) -> None:
    """Half as many bytes, or half as many more, take as much more of the time; bandwidth the other way round."""
    free = saves(write={"bandwidth": "1 kB/s"})
    more = {"context": {"bytes_per_token": f"{2 * factor} B / token"}}
    wider = saves(write={"bandwidth": f"{factor} kB/s"})
    base = named(run(WORLD, LOOP, free), "checkpoint")
    assert named(run(WORLD, LOOP, free, more), "checkpoint") == pytest.approx(factor * base)
    assert named(run(WORLD, LOOP, wider), "checkpoint") == pytest.approx(base / factor)


def test_where_the_context_does_not_grow_a_snapshot_is_what_is_new() -> None:
    """What was there before is not written again; outputs are the same."""
    still = {"context": {"grows": False}}
    assert written(LOOP, saves(), still) == written(LOOP, saves("delta"))
    assert fact(run(WORLD, LOOP, saves(), still), "output_tokens") == 300


# Of a profile


@pytest.fixture
def machine(tmp_path: Path) -> str:
    """Return the file of a profile with a law of one store, whose repeats differ."""
    source = {"title": "round numbers", "quality": "assumed", "machine": "none", "date": "2026-11-23"}
    noise = {"of": "repeats", "shares": "0 0.5 1", "ratios": "0.5 1 2"}
    form = {"sum": {"overhead": "1 s", "terms": {"bytes": "1 ms"}}}
    law = {"form": form, "source": "own", "over": {"bytes": "1 3000"}, "residual": noise}
    data = {"coordsim_profile": 1, "name": "round", "sources": {"own": source}, "laws": {"checkpoint[store=disk]": law}}
    path = tmp_path / "round.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


def stored(machine: str, **more: Any) -> Data:
    """Return checkpoints on the profile's store."""
    return {"profile": machine, "orchestrator": {"checkpoint": {"store": "disk", **more}}}


def test_a_store_takes_what_the_profile_says(machine: str) -> None:
    """A second and a millisecond a byte in the mean, each write at its own draw of what repeats differ by."""
    result = run(WORLD, LOOP, stored(machine), {"workload": {"tasks": 200}})
    seconds = np.array([named(result, "checkpoint", task) for task in range(200)])
    law = 3 + 0.002 * sum(SEEN)
    noise = 1.125  # mean of ratios that lie evenly between 0.5 and 1, and between 1 and 2
    assert 0.5 * law <= seconds.min() < seconds.max() <= 2 * law
    assert seconds.mean() == pytest.approx(noise * law, abs=4 * seconds.std() / 200**0.5)
    assert fact(result, "state_bytes") == 2 * sum(SEEN)
    assert table(result) == table(run(WORLD, LOOP, stored(machine), {"workload": {"tasks": 200}}))


def test_states_larger_than_what_was_measured_are_told(machine: str) -> None:
    """A run says where it asked the law beyond its range, and nothing within it."""
    long = {"workload": {"request": "9000 tokens"}}
    assert run(WORLD, LOOP, stored(machine)).doubts == ()
    doubts = run(WORLD, LOOP, stored(machine), long).doubts
    assert len(doubts) == 1
    assert doubts[0].startswith("orchestrator.checkpoint: ")


def test_the_shipped_profile_has_stores() -> None:
    """The reference machine was asked what writing to a file and to SQLite takes."""
    took = {
        (store, kind): named(
            run(
                WORLD,
                LOOP,
                {"profile": "cpu-reference"},
                {"orchestrator": {"checkpoint": {"store": store, "kind": kind}}},
            ),
            "checkpoint",
        )
        for store in ("sqlite", "file")
        for kind in ("full", "delta")
    }
    assert all(0.5e-3 < seconds < 0.05 for seconds in took.values())


def test_a_checkpoint_has_one_law() -> None:
    """Neither law is a mistake, and so are both."""
    for given, got in (({}, "neither"), ({"store": "file", "write": LAW}, "both")):
        with pytest.raises(ValueError, match=f"got {got}"):
            Checkpoint.model_validate(given)


# -- Bounds


WALKS = {
    "turns": steps("w", w={"agent": "a", "repeat": 6, "tools": {"t": 1}}),
    "kinds": chain(
        ("p", {"agent": "a"}), ("q", {"tool": "t"}), ("r", {"agent": "a", "repeat": 3}), ("s", {"tool": "t"})
    ),
    "loop": steps("w", w={"agent": "a", "next": {"w": 1, "done": 1}}),
}


@pytest.mark.parametrize("kind", ["full", "delta"])
@pytest.mark.parametrize("walk", WALKS)
def test_bounds_know_what_is_written(walk: str, kind: str) -> None:
    """`coordsim check` says how long the framework works for a task: exactly, where no chance decides."""
    patches = (WORLD, WALKS[walk], saves(kind), {"workload": {"tasks": 1 if walk != "loop" else 4000}})
    result: Result = simulate(scene(*patches))
    column = [account.name == "checkpoint" for account in result.accounts]
    seconds = result.rows[:, -len(column) :][:, column].sum(axis=1)
    allowed = 1e-9 if walk != "loop" else 4 * float(seconds.std()) / 4000**0.5
    assert bounds(scene(*patches)).times["orchestration"] == pytest.approx(float(seconds.mean()), abs=allowed)


def test_bounds_leave_out_what_is_written_beside() -> None:
    """It takes none of the task's time; where steps are left out, that is an estimate and says so."""
    assert bounds(scene(WORLD, LOOP, saves(mode="async"))).times["orchestration"] == 0
    for kind in ("full", "delta"):
        of = bounds(scene(WORLD, WALKS["turns"], saves(kind, every=2)))
        assert any("is written is an estimate" in note for note in of.notes)
        taken = accounts(run(WORLD, WALKS["turns"], saves(kind, every=2)))
        seconds = sum(value for account, value in taken.items() if account.name == "checkpoint")
        assert of.times["orchestration"] == pytest.approx(seconds, rel=0.1)
