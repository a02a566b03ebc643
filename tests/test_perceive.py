"""The step that takes in modalities: its barrier, alignment, fusion, what fails or is late, and what the context keeps."""

from math import ceil, log2
from typing import Any

import numpy as np
import pytest

from coordsim.models.bounds import bounds
from coordsim.models.context import Context
from coordsim.models.simulate import simulate
from coordsim.sim.engine.ledger import Ledger

from .scene import Data, accounts, chain, fact, leaves, named, overlapped, parts, run, scene, statuses, total
from .test_bounds import counted, said

Z = 3.2905  # two sides of 99.9 % of a normal distribution


def modality(**more: Any) -> Data:
    """Return an image that an encoder reads."""
    return {"kind": "vision", "encoder": "enc", **more}


def world(modalities: Data, encoder: Data, **step: Any) -> Data:
    """Return the patch of a world whose tasks take in some modalities, and end."""
    return {
        "modalities": modalities,
        "encoders": {"enc": {"concurrency": 1000, **encoder}},
        **chain(("see", {"perceive": list(modalities), **step})),
    }


def tasks(count: int) -> Data:
    """Return the patch of a workload of so many tasks, none of which meets another."""
    return {"workload": {"arrivals": {"deterministic": "0.001 / s"}, "tasks": count}}


def column(result: Any, name: str) -> Any:
    """Return a fact of all tasks."""
    return result.rows[:, len(Ledger.HEAD) + result.facts.index(name)]


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_a_barrier_of_exponentials_takes_the_harmonic_number(count: int) -> None:
    """The last of n iid exponentials of mean 1 s comes after H_n s in the mean, within 99.9 % over 16 replications."""
    patch = world({"image": modality()}, {"latency": {"exponential": {"mean": "1 s"}}}, copies=count)
    spec = scene(patch, tasks(128))
    means = [
        float((rows[:, 3] - rows[:, 2]).mean())
        for rows in (simulate(spec, replication=number).rows for number in range(16))
    ]
    harmonic = sum(1 / number for number in range(1, count + 1))
    error = float(np.std(means, ddof=1)) / len(means) ** 0.5
    assert abs(np.mean(means) - harmonic) < Z * error
    assert error < 0.04 * harmonic


def test_how_late_the_last_was_is_counted() -> None:
    """Three that take 1, 2 and 6 s: the last is 3 s later than their mean, and what the others did is overlapped."""
    result = run(_three())
    assert total(result) == pytest.approx(6.0)
    assert fact(result, "straggler_excess") == pytest.approx(3.0)
    assert overlapped(result) == pytest.approx(3.0)


def _three(**step: Any) -> Data:
    """Return the patch of a world with three modalities that take 1, 2 and 6 s."""
    patch = world({name: modality(encoder=name) for name in ("a", "b", "c")}, {"latency": "1 s"}, **step)
    latencies = {"a": "1 s", "b": "2 s", "c": "6 s"}
    return patch | {"encoders": {name: {"latency": seconds} for name, seconds in latencies.items()}}


def test_a_subset_of_modalities_meets_the_same_draws() -> None:
    """Without one of three, every span of the others is as it was, whatever their order and number."""
    mods = {name: modality(amount={"uniform": {"low": 1, "high": 5}}, errors="20 %") for name in ("a", "b", "c")}
    encoder = {"latency": {"exponential": {"mean": "1 s"}}, "per_unit": {"exponential": {"mean": "0.2 s"}}}
    pairs = {"pairwise": {"each": {"exponential": {"mean": "0.1 s"}}}}

    def seen(*names: str, **more: Any) -> dict[int, list[tuple[str, float]]]:
        patch = world(mods, encoder) | chain(("see", {"perceive": list(names), "partial": "retry", **more}))
        found: dict[int, list[tuple[str, float]]] = {}
        for span in leaves(run(patch)):
            found.setdefault(span.lane, []).append((span.name, span.end - span.start))
        return found

    whole, part = seen("a", "b", "c", align=pairs), seen("c", "a", align=pairs)
    lanes = [lane for lane in part if lane]
    assert len(lanes) == 2
    assert all(part[lane] == whole[lane] for lane in lanes)
    pair = [seconds for name, seconds in part[0] if name == "align"]
    assert len(pair) == 1
    assert any(abs(pair[0] - seconds) < 1e-9 for name, seconds in whole[0] if name == "align")
    copied = seen("c", "a", copies=2)
    assert all(copied[lane] == whole[lane] for lane in lanes)  # the first copy is the only one there was


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_pairwise_alignment_is_of_each_pair(count: int) -> None:
    """Where all come at once, n(n-1)/2 pairs of 4 ms each follow one another, as synchronization."""
    patch = world({"image": modality()}, {"latency": "1 s"}, copies=count, align={"pairwise": {"each": "4 ms"}})
    result = run(patch)
    assert named(result, "align") == pytest.approx(count * (count - 1) / 2 * 0.004)
    assert total(result) == pytest.approx(1.0 + count * (count - 1) / 2 * 0.004)
    assert parts(result).get("synchronization", 0.0) == pytest.approx(named(result, "align"))


def test_who_comes_is_aligned_with_those_that_are_there() -> None:
    """The first pair is aligned while the third is on its way; where it is still being aligned, the path is that of the second."""
    early = run(_three(align={"pairwise": {"each": "1 s"}}))
    assert total(early) == pytest.approx(6.0 + 2.0)  # the pair of the first two is over before the third comes
    assert overlapped(early) == pytest.approx(1.0 + 2.0 + 1.0)
    busy = run(_three(align={"pairwise": {"each": "5 s"}}))
    assert total(busy) == pytest.approx(2.0 + 3 * 5.0)
    by_name = {(one.component, one.name): seconds for one, seconds in accounts(busy).items()}
    assert by_name == {("b", "encode"): pytest.approx(2.0), ("see", "align"): pytest.approx(15.0)}


def test_an_encoding_that_fails_fails_the_task() -> None:
    """With `partial: fail` the share of tasks that are done is 0.9^2, within 99.9 %."""
    result = run(world(_two(), {"latency": "1 s"}, partial="fail"), tasks(2000), spans="none")
    done = statuses(result).count(0)
    assert abs(done - 2000 * 0.81) < Z * (2000 * 0.81 * 0.19) ** 0.5
    assert set(result.failures) == {"modalities.a: could not be encoded", "modalities.b: could not be encoded"}


def _two(**more: Any) -> Data:
    return {name: modality(tokens="100 tokens", errors="10 %", **more) for name in ("a", "b")}


def test_a_task_goes_on_without_what_could_not_be_encoded() -> None:
    """With `partial: degrade` every task is done; a tenth of the encodings is counted as degraded and lost, and brings no tokens."""
    work = {**world(_two(), {"latency": "1 s"}, partial="degrade"), **tasks(2000)}
    work["workflow"] = chain(("see", {"perceive": ["a", "b"], "partial": "degrade"}), ("work", {"agent": "a"}))[
        "workflow"
    ]
    result = run(work, spans="none")
    assert statuses(result).count(0) == 2000
    lost = column(result, "degraded")
    assert abs(lost.sum() - 400) < Z * (4000 * 0.1 * 0.9) ** 0.5
    assert (column(result, "new_tokens") == 100 * (2 - lost)).all()
    both = int(np.flatnonzero(lost == 2)[0])
    assert parts(result, both) == {"recovery": pytest.approx(1.0)}


def test_only_the_branch_that_failed_is_tried_again() -> None:
    """With `partial: retry` an attempt more of 1 s follows with probability 0.1, as recovery, up to `attempts`; then the task fails."""
    result = run(world(_two(attempts=2), {"latency": "1 s"}, partial="retry"), tasks(2000), spans="none")
    assert abs(statuses(result).count(0) - 2000 * 0.99**2) < Z * (2000 * 0.99**2 * (1 - 0.99**2)) ** 0.5
    retries = column(result, "retries")
    assert abs(retries.sum() - 400) < Z * (4000 * 0.1 * 0.9) ** 0.5
    tried = int(np.flatnonzero((retries == 1) & (result.rows[:, 4] == 0))[0])
    assert parts(result, tried) == {"inference": pytest.approx(1.0), "recovery": pytest.approx(1.0)}
    assert total(result, tried) == pytest.approx(2.0)


@pytest.mark.parametrize("late", ["drop", "degrade"])
def test_the_others_lose_patience(late: str) -> None:
    """2 s after the first came, the step goes on without the third, which is given up, and its slot with it."""
    result = run(_three(late=late, align={"barrier": {"patience": "2 s"}}))
    assert total(result) == pytest.approx(3.0)
    assert parts(result) == {"inference": pytest.approx(1.0), "synchronization": pytest.approx(2.0)}
    assert overlapped(result) == pytest.approx(2.0 + 3.0)
    assert fact(result, "late_pieces") == 1
    assert fact(result, "degraded") == (late == "degrade")


def test_patience_that_is_never_lost_changes_nothing() -> None:
    """With patience for longer than any takes, times are those of the barrier."""
    patient = run(_three(late="drop", align={"barrier": {"patience": "1 h"}}))
    assert accounts(patient) == pytest.approx(accounts(run(_three())))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_a_hierarchy_is_as_deep_as_the_logarithm(count: int) -> None:
    """N representations are fused in ceil(log2 n) levels of 1 s; the other n - 1 fusions but these are beside the path."""
    patch = world({"image": modality()}, {"latency": "1 s"}, copies=count, fusion={"hierarchical": {"each": "1 s"}})
    result = run(patch)
    depth = ceil(log2(count))
    assert named(result, "fuse") == pytest.approx(depth)
    assert overlapped(result) == pytest.approx(count - 1 - depth + count - 1)  # and all encodings but one


def test_tokens_arrive_in_the_prompt() -> None:
    """Two images of 3 tiles of 85 tokens each are new to the model of the next step; a second call carries them."""
    mods = {"a": modality(amount=3, tokens="85 tokens")}
    patch = world(mods, {"latency": "1 s"}) | {"agents": {"a": {"model": "llm", "prompt": "10 tokens"}}}
    flow = chain(("see", {"perceive": ["a"], "copies": 2}), ("work", {"agent": "a", "repeat": 2}))
    result = run(patch, flow, {"models": {"llm": {"prefill": "1 ms / token"}}})
    assert fact(result, "new_tokens") == 2 * 3 * 85 + 10
    assert parts(result)["inference"] == pytest.approx(1.0 + 0.52)


def test_in_a_late_fusion_only_the_answers_join() -> None:
    """Each image is read alone by the agent, in its branch; the next step's prompt holds the answers and no image."""
    mods = {name: modality(tokens="500 tokens") for name in ("a", "b")}
    patch = world(mods, {"latency": "1 s"}) | {
        "agents": {"reader": {"model": "llm", "prompt": "20 tokens", "output": "30 tokens"}, "a": {"model": "other"}},
        "models": {"llm": {"kind": "llm", "concurrency": 2, "prefill": "1 ms / token", "decode": "10 ms / token"}, "other": {"kind": "llm"}},
    }  # fmt: skip
    flow = chain(("see", {"perceive": ["a", "b"], "fusion": {"late": {"agent": "reader"}}}), ("work", {"agent": "a"}))
    result = run(patch, flow)
    assert fact(result, "llm_calls") == 3
    assert (
        fact(result, "new_tokens") == 2 * 500 + 20 + 2 * 30
    )  # the prompt is new once; what is new to `other`: the answers
    assert fact(result, "output_tokens") == 60
    assert total(result) == pytest.approx(1.0 + 0.52 + 0.3)


def _loop(keep: Any) -> Any:
    """Run four visits of 100 tokens, each followed by a turn that answers 10 tokens; a cache that loses nothing."""
    flow = {
        "start": "see",
        "steps": {
            "see": {"perceive": ["a"], "keep": keep, "next": "work"},
            "work": {"agent": "a", "next": "judge"},
            "judge": {"evaluator": "e", "rejected": "see", "at_most": 4},
        },
    }
    patch = {
        "modalities": {"a": modality(tokens="100 tokens")},
        "encoders": {"enc": {"latency": "1 s"}},
        "evaluators": {"e": {"accept": "0 %", "latency": "0 s"}},
        "agents": {"a": {"model": "llm", "prompt": "5 tokens", "output": "10 tokens"}},
        "models": {"llm": {"prefill": "1 ms / token"}},
        "workflow": flow,
    }
    return run(patch)


def test_what_visits_bring_stays() -> None:
    """By default four visits leave 400 tokens, and each is new once; all before it is found in the cache."""
    result = _loop("all")
    assert fact(result, "new_tokens") == 5 + 4 * 100
    assert fact(result, "carried_tokens") == 0
    assert fact(result, "cached_tokens") == 115 + 225 + 335


def test_only_the_last_visits_stay() -> None:
    """With `last: 2` older images leave the context, and no cache behind them is valid: what follows is prefilled again."""
    result = _loop({"last": 2})
    assert fact(result, "new_tokens") == 5 + 4 * 100
    # 1: 5 + 100. 2: 115 cached, 100 new. 3: the first leaves: 5 cached; its answer, image 2 and answer 2 again; 100 new.
    # 4: the second leaves, before which lie the prompt and the first answer.
    assert fact(result, "cached_tokens") == 115 + 5 + 15
    assert fact(result, "carried_tokens") == 120 + 120


def test_older_visits_become_a_summary() -> None:
    """With a summary of 20 tokens what was brought before is read once more, and 20 tokens take its place; all of it context."""
    result = _loop({"summary": "20 tokens"})
    assert fact(result, "llm_calls") == 4 + 3
    assert fact(result, "output_tokens") == 4 * 10 + 3 * 20
    assert named(result, "summarize") > 0
    # Of the last turn's 5 + 100 + 3 answers + a summary, the image was read by the summary's call, so that only its prompt is new.
    assert fact(result, "new_tokens") == 5 + 4 * 100


def test_what_leaves_a_context_takes_the_cache_behind_it_along() -> None:
    """Of 100 tokens, 30 from the 20th on leave: what was seen stays seen, and caches and knowledge end at the 20th."""
    state = Context(1, 1, 0, 1)
    state.segments = (("task", 0.0), ("more", 60.0))
    state.tokens = 20.0
    state.bring(7, 0.0)
    state.tokens = 50.0
    state.bring(7, 20.0)
    state.tokens = 100.0
    state.bring(7, 50.0)
    state.seen, state.cached, state.known, state.held, state.saved = [90.0], [105.0], [100.0], [100.0], 70.0
    state.drop(state.brought[1], [5.0], "cut")
    assert (state.tokens, state.seen, state.cached, state.known, state.held) == (70.0, [60.0], [25.0], [20.0], [20.0])
    assert state.saved == 20.0
    assert state.segments == (("task", 0.0), ("cut", 20.0))
    assert [(one.start, one.tokens) for one in state.brought] == [(0.0, 20.0), (20.0, 50.0)]


RUNTIMES = ("stateless-api", "external-orchestrator", "session-state", "agent-native", "gpu-resident")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "fusion", ["early", {"late": {"agent": "a"}}, {"hierarchical": {"each": {"exponential": {"mean": "5 ms"}}}}]
)
def test_the_law_of_the_ledger_holds_under_load(runtime: str, fusion: Any) -> None:
    """Every second is booked once, under every runtime, with errors, patience, alignment and contention (the ledger checks)."""
    mods = {
        name: modality(
            tokens="50 tokens", bytes="100 kB", representation="20 kB", errors="10 %", node="edge", serializer="json",
            amount={"uniform": {"low": 0, "high": 4}},
            preprocess={"latency": {"exponential": {"mean": "20 ms"}}, "on": on},
        )
        for name, on in (("a", "cpu"), ("b", "gpu"), ("c", "cpu"))
    }  # fmt: skip
    patch = {
        "runtime": runtime,
        "workload": {"arrivals": {"poisson": "3 / s"}, "tasks": 30},
        "modalities": mods,
        "encoders": {"enc": {"node": "pod", "latency": {"exponential": {"mean": "60 ms"}}, "queue_limit": 6}},
        "agents": {"a": {"model": "llm", "prompt": "5 tokens", "output": "10 tokens"}},
        "models": {"llm": {"node": "cloud", "concurrency": 4, "prefill": "0.1 ms / token", "decode": "1 ms / token"}},
        "network": {
            "nodes": {"edge": {"cores": 2}, "pod": {"cores": 1}, "cloud": {}},
            "links": [
                {"between": ["edge", "pod"], "latency": "1 ms", "bandwidth": "10 MB/s"},
                {"between": ["pod", "cloud"], "latency": {"exponential": {"mean": "2 ms"}}},
            ],
        },
        "orchestrator": {"node": "edge", "poll_interval": "20 ms"},
    }
    for late, patience, partial in (("wait", {}, "retry"), ("degrade", {"patience": "100 ms"}, "degrade")):
        align = {"pairwise": {"each": {"exponential": {"mean": "4 ms"}}, **patience}}
        step = {"perceive": ["a", "b", "c"], "late": late, "partial": partial, "align": align, "fusion": fusion}
        flow = {
            "start": "both",
            "steps": {
                "both": {"fork": ["see", "see"], "next": "see"},
                "see": {**step, "keep": {"last": 1}, "next": {"see": 0.3, "work": 0.7}},
                "work": {"agent": "a"},
            },
        }
        result = run(patch, {"workflow": flow})
        assert len(statuses(result)) == 30
        assert 0 in statuses(result)
        crossed = [span for span in result.spans if span.critical and span.category != "structure"]
        for task in range(3):
            if statuses(result)[task] == 0:
                covered = sum(span.end - span.start for span in crossed if span.task == task)
                assert covered == pytest.approx(total(result, task), abs=1e-6)


def test_a_pair_costs_the_same_whichever_comes_first() -> None:
    """Two modalities of 1 s and 2 s, and of 3 s and 2 s: the time to align them is the same draw."""
    drawn = []
    for first in ("1 s", "3 s"):
        patch = _three(align={"pairwise": {"each": {"exponential": {"mean": "1 s"}}}})
        patch["encoders"]["a"] = {"latency": first}
        flow = chain(("see", {**patch["workflow"]["steps"]["see"], "perceive": ["a", "b"]}))
        drawn.append(named(run(patch, flow), "align"))
    assert drawn[0] == pytest.approx(drawn[1])


def _photos(turns: int = 4, runtime: str = "stateless-api", **more: Any) -> Data:
    """Return the patch of a world with three photos of 1 MB on their way to a model, and an agent's turns."""
    photo = {
        "bytes": "1 MB",
        "tokens": "1000 tokens",
        "node": "phone",
        "serializer": "base64",
        "encoder": "enc",
        **more,
    }
    return {
        "runtime": {"preset": runtime, "codec": "none"},
        "serializers": {"base64": {"expansion": 4 / 3}},
        "modalities": {"photo": {"kind": "vision", **photo}},
        "encoders": {"enc": {"node": "cloud", "latency": "0 s"}},
        "agents": {"a": {"model": "llm", "prompt": "10 tokens", "output": "20 tokens"}},
        "models": {"llm": {"node": "cloud"}},
        "context": {"bytes_per_token": "4 B / token"},
        "network": {
            "nodes": {"phone": {}, "home": {}, "cloud": {}},
            "links": [
                {"between": ["phone", "cloud"], "bandwidth": "10 MB/s"},
                {"between": ["home", "cloud"], "bandwidth": "10 MB/s"},
            ],
        },
        "orchestrator": {"node": "home"},
        **chain(("see", {"perceive": ["photo"], "copies": 3}), ("work", {"agent": "a", "repeat": turns})),
    }


def _sent(patch: Data, *more: Data) -> float:
    """Return the bytes that the photos' being part of the prompt adds to those that a task sends."""
    inline = {"modalities": {"photo": {"inline": True}}}
    return fact(run(patch, *more, inline), "bytes") - fact(run(patch, *more), "bytes")


WEIGHT = 3 * 1000 * 4  # bytes that the tokens of the photos weigh anyhow


def test_photos_in_a_prompt_are_sent_again_with_each_later_call() -> None:
    """Three photos of 1 MB are 4 MB of base64: of four turns the first is what they came with, and the others send them again."""
    assert _sent(_photos(4)) == pytest.approx(3 * (4e6 - WEIGHT))
    assert _sent(_photos(1)) == 0
    assert _sent(_photos(4, serializer=None)) == pytest.approx(3 * (3e6 - WEIGHT))
    # By hand: the photos, then requests of what is in the prompt, of which answers have 20 tokens, and those answers.
    whole = fact(run(_photos(2), {"modalities": {"photo": {"inline": True}}}), "bytes")
    calls = (10 + 3000) * 4 + 20 * 4 + (10 + 20) * 4 + 4e6 + 20 * 4
    assert whole == pytest.approx(4e6 + calls)


def test_it_takes_the_time_of_its_bytes() -> None:
    """Over 10 MB/s each later call is 0.4 s longer, less what the tokens took; a codec of 1 GB/s at both ends takes 8 ms more."""
    photos, inline = _photos(4), {"modalities": {"photo": {"inline": True}}}
    assert total(run(photos, inline)) - total(run(photos)) == pytest.approx(3 * (4e6 - WEIGHT) / 10e6)
    law = {"bandwidth": "1 GB/s"}
    coded = {"runtime": {"codec": "own"}, "serializers": {"own": {"encode": law, "decode": law}}}
    found = [parts(run(photos, coded, more))["serialization"] for more in ({}, inline)]
    assert found[1] - found[0] == pytest.approx(3 * 2 * (4e6 - WEIGHT) / 1e9)


@pytest.mark.parametrize("runtime", ["session-state", "agent-native", "gpu-resident"])
def test_who_sends_the_rest_only_sends_no_photo_again(runtime: str) -> None:
    """Where the session or the state is with the server, it makes no difference that photos are part of the prompt."""
    assert _sent(_photos(4, runtime)) == 0


def test_nothing_carried_sends_no_photo_again() -> None:
    """Where a context does not grow, nothing that is in it is sent again, photos neither."""
    assert _sent(_photos(4), {"context": {"grows": False}}) == 0


def test_only_the_photos_that_are_kept_are_sent_again() -> None:
    """Three visits, each with two calls: the first sends those of earlier visits, and the second this visit's, too."""
    flow: Data = {
        "start": "see",
        "steps": {
            "see": {"perceive": ["photo"], "copies": 3, "next": "work"},
            "work": {"agent": "a", "repeat": 2, "next": "judge"},
            "judge": {"evaluator": "e", "rejected": "see", "at_most": 3},
        },
    }
    judge = {"evaluators": {"e": {"accept": "0 %", "latency": "0 s"}}}
    assert _sent(_photos(), judge, {"workflow": flow}) == pytest.approx((0 + 1 + 1 + 2 + 2 + 3) * (4e6 - WEIGHT))
    flow["steps"]["see"]["keep"] = {"last": 1}
    assert _sent(_photos(), judge, {"workflow": flow}) == pytest.approx((0 + 1 + 0 + 1 + 0 + 1) * (4e6 - WEIGHT))
    # The call that writes a summary sends all there is but what is new, and then the earlier ones are gone.
    flow["steps"]["see"]["keep"] = {"summary": "20 tokens"}
    assert _sent(_photos(), judge, {"workflow": flow}) == pytest.approx(
        (0 + 1 + 1 + 1 + 1 + 1 + 1 + 1) * (4e6 - WEIGHT)
    )


def test_the_photos_of_branches_are_all_sent_after_their_join() -> None:
    """Each of two branches sends its own photos again; after the join a call sends those of both, and each of them once."""
    see, work = {"perceive": ["photo"], "copies": 3}, {"agent": "a", "repeat": 2}
    flow: Data = {
        "start": "both",
        "steps": {
            "both": {"fork": ["see", "other"], "next": "last"},
            "see": {**see, "next": "work"},
            "other": {**see, "next": "work"},
            "work": work,
            "last": {"agent": "a"},
        },
    }
    assert _sent(_photos(), {"workflow": flow}) == pytest.approx((2 * 1 + 2) * (4e6 - WEIGHT))
    flow["start"] = "first"
    flow["steps"]["first"] = {**see, "next": "both"}
    # What was there before the fork came with the call of one of them: the other sends it, too.
    more = (1 + 2 * 1) + 2 * 1 + (1 + 2)
    assert _sent(_photos(), {"workflow": flow}) == pytest.approx(more * (4e6 - WEIGHT))


def test_another_model_must_be_sent_the_photos() -> None:
    """They were brought to the first model: another one's first call sends them."""
    other = {"models": {"other": {"kind": "llm", "node": "cloud"}}, "agents": {"a": {"model": "other"}}}
    patch = _photos(1)
    patch["workflow"]["steps"]["see"]["model"] = "llm"
    assert _sent(patch, other) == pytest.approx(4e6 - WEIGHT)


def test_a_photo_that_was_read_alone_is_no_part_of_later_prompts() -> None:
    """In a late fusion only the answers join; the reader's call is the one that a photo came with."""
    flow = chain(
        ("see", {"perceive": ["photo"], "copies": 3, "fusion": {"late": {"agent": "a"}}}),
        ("work", {"agent": "a", "repeat": 2}),
    )
    assert _sent(_photos(), flow) == 0


def test_the_bounds_know_what_is_sent_again() -> None:
    """What the mean task asks of each link is what the simulator counts: two visits, of whose turns all but the first send again."""
    patch, inline = _photos(), {"modalities": {"photo": {"inline": True}}}
    see, work = {"perceive": ["photo"], "copies": 3}, {"agent": "a", "repeat": 3}
    flow = chain(("see", see), ("work", work), ("again", see), ("more", work))
    for runtime in ("stateless-api", "session-state"):
        of = scene(patch, {"runtime": {"preset": runtime, "codec": "none"}}, flow, inline)
        asked, found = said(bounds(of)), counted(simulate(of))
        link = "demand network.home->cloud"
        assert asked[link] == pytest.approx(found[link])
        again = (0 + 1 + 1 + 1 + 2 + 2) * (4e6 - WEIGHT) / 10e6
        assert (found[link] > again) == (runtime == "stateless-api")


def test_media_leave_a_context_with_their_tokens() -> None:
    """Of three inputs the one among the tokens that leave goes, and the one behind them moves up; a summary replaces all."""
    state = Context(1, 1, 0, 1)
    for tokens, size in ((20.0, 1.0), (30.0, 2.0), (50.0, 4.0)):
        state.embed(size, 0)
        state.tokens += tokens
    child = state.fork()
    assert (state.resend(0), child.resend(0)) == (0.0, 7.0)  # it came with one call, of whichever branch
    child.cut(20.0, 30.0, [0.0], "cut")
    assert [(one.start, one.size) for one in child.media] == [(0.0, 1.0), (20.0, 4.0)]
    assert state.resend(0) == 7.0
    state.replace(5.0, 0, [0.0])
    assert state.resend(0) == 0.0
