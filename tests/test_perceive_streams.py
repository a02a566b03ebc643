"""Streams of modalities: when their pieces are there, what aligning them costs, and what is late, lost or left out."""

from collections.abc import Iterator
from math import ceil, exp, floor
from typing import Any

import numpy as np
import pytest

from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

from .scene import Data, accounts, chain, fact, leaves, merged, named, overlapped, parts, run, scene, statuses, table
from .scene import total as seconds
from .test_perceive import RUNTIMES, Z, column, tasks

PERIOD, PIECES = 0.1, 10


def stream(source: Data | None = None, **more: Any) -> Data:
    """Return a modality that comes in ten pieces, one each 100 ms."""
    return {"kind": "structured", **more, "stream": {"rate": "10 / s", "length": "1 s", **(source or {})}}


def video(source: Data | None = None, **more: Any) -> Data:
    """Return such a modality that an encoder reads."""
    return stream(source, kind="video", encoder="enc", **more)


def world(modalities: Data, encoder: Data | None = None, **step: Any) -> Data:
    """Return the patch of a world whose tasks take in some modalities, and end."""
    return {
        "modalities": modalities,
        "encoders": {"enc": {"concurrency": 1000, **(encoder or {"latency": "20 ms"})}},
        **chain(("see", {"perceive": list(modalities), **step})),
    }


def exponential(mean: str) -> Data:
    """Return an exponential distribution."""
    return {"exponential": {"mean": mean}}


WINDOW: Data = {"window": {"length": "200 ms"}}
WATERMARK: Data = {"watermark": {"length": "200 ms"}}
ALIGNMENTS: dict[str, Data] = {
    "barrier": {"barrier": {}},
    "window": WINDOW,
    "watermark": WATERMARK,
    "jitter_buffer": {"jitter_buffer": {"depth": "0 s"}},
}


@pytest.mark.parametrize("align", ALIGNMENTS.values(), ids=list(ALIGNMENTS))
@pytest.mark.parametrize("source", ["person", "sensor"])
def test_without_jitter_aligning_costs_nothing(align: Data, source: str) -> None:
    """The end is the last capture and the path of its piece; waiting for a person is human, for a sensor synchronization."""
    result = run(world({"a": video({"source": source}), "b": video({"source": source})}, align=align))
    waits = "human" if source == "person" else "synchronization"
    assert parts(result) == {waits: pytest.approx(1.0), "inference": pytest.approx(0.02)}
    assert named(result, "capture") == pytest.approx(1.0)
    assert seconds(result) == pytest.approx(1.02)
    assert overlapped(result) == pytest.approx(2 * (1.0 + PIECES * 0.02) - 1.02)
    assert [fact(result, name) for name in ("pieces", "late_pieces", "lost_pieces", "degraded")] == [20, 0, 0, 0]


def test_a_slow_encoder_falls_behind() -> None:
    """Where it takes 250 ms for each of ten pieces, which come every 100 ms, the last is over ten times that after the first."""
    result = run(world({"a": video()}, {"latency": "250 ms"}))
    assert parts(result) == {"synchronization": pytest.approx(PERIOD), "inference": pytest.approx(PIECES * 0.25)}
    assert seconds(result) == pytest.approx(PERIOD + PIECES * 0.25)
    assert overlapped(result) == pytest.approx(0.9)


def test_the_line_of_source_and_encoder_is_the_recursion() -> None:
    """With random encodings end[k] = max(arrival[k], end[k-1]) + service[k], and the path is as long."""
    jitter = {"jitter": exponential("80 ms"), "length": "5 s"}
    patch = world({"a": video(jitter)}, {"latency": exponential("90 ms")})
    for task in range(5):
        result = run(patch, tasks(5))
        arrival = {span.lane: span.end for span in leaves(result, task) if span.name == "jitter"}
        encoded = [span for span in leaves(result, task) if span.name == "encode"]
        end = 0.0
        for come, span in zip(sorted(arrival.values()), encoded, strict=True):
            end = max(come, end) + span.end - span.start
            assert span.end == pytest.approx(end, abs=1e-9)
        critical = sum(span.end - span.start for span in leaves(result, task) if span.critical)
        assert critical == pytest.approx(seconds(result, task))
        done = sum(span.end - span.start for span in leaves(result, task))
        assert overlapped(result, task) == pytest.approx(done - critical)


def test_latency_is_on_its_way_beside_the_next_piece() -> None:
    """A link of 1 s delays the last piece by 1 s, not each by that; half of it to the encoder, half to the model."""
    patch = world({"a": video(bytes="1 kB", representation="1 kB", node="edge")})
    network: Data = {
        "runtime": "agent-native",
        "orchestrator": {"node": "edge"},
        "models": {"llm": {"node": "cloud"}},
        "encoders": {"enc": {"node": "pod"}},
        "network": {
            "nodes": {"edge": {}, "pod": {}, "cloud": {}},
            "links": [
                {"between": ["edge", "pod"], "latency": "500 ms"},
                {"between": ["pod", "cloud"], "latency": "500 ms"},
            ],
        },
    }
    result = run(patch, network)
    assert named(result, "transit") == pytest.approx(1.0, abs=1e-3)
    assert seconds(result) == pytest.approx(2.02, abs=0.01)


def test_streams_share_a_link() -> None:
    """Two streams of ten pieces of 1 kB over 10 kB/s: from the first piece on, the last byte is there when 20 kB have been sent.

    Those of one stream alone need just the time in which they come.
    """
    mods = {name: stream(bytes="1 kB", node="edge") for name in "ab"}
    network: Data = {
        "runtime": {"preset": "agent-native", "codec": "none"},
        "orchestrator": {"node": "edge"},
        "models": {"llm": {"node": "cloud"}},
        "network": {
            "header": "0 B",
            "nodes": {"edge": {}, "cloud": {}},
            "links": [{"between": ["edge", "cloud"], "bandwidth": "10 kB/s"}],
        },
    }
    assert seconds(run(world(mods), network)) == pytest.approx(PERIOD + 2.0, rel=0.01)
    assert seconds(run(world({"a": mods["a"]}), network)) == pytest.approx(PERIOD + 1.0, rel=0.01)
    late = {"network": {"links": [{**network["network"]["links"][0], "latency": "700 ms"}]}}
    assert seconds(run(world(mods), network, late)) == pytest.approx(PERIOD + 2.7, rel=0.01)


def delays(result: Result, task: int = 0) -> list[tuple[float, float]]:
    """Return (capture, arrival) of each piece of the only stream, since the task arrived, in order of capture."""
    start = float(result.rows[task, 2])
    spans = [span for span in leaves(result, task) if span.name == "jitter"]
    return sorted((span.start - start, span.end - start) for span in spans)


@pytest.mark.parametrize("depth", [0.0, 0.03, 0.1, 0.2])
def test_a_jitter_buffer_trades_delay_against_late_pieces(depth: float) -> None:
    """A piece is late when it takes longer than the first one and the depth; for exponentials of mean m half of exp(-depth/m)."""
    source = {"jitter": exponential("50 ms"), "rate": "1 / s", "length": "100 s"}
    align = {"jitter_buffer": {"depth": f"{depth} s"}}
    result = run(world({"a": stream(source)}, align=align), tasks(200))
    late = column(result, "late_pieces")
    for task in range(20):
        took = [arrival - capture for capture, arrival in delays(result, task)]
        assert late[task] == sum(one > took[0] + depth + 1e-9 for one in took)
        in_time = [k for k, one in enumerate(took) if one <= took[0] + depth + 1e-9]
        last = max(k + 1 + took[0] + depth for k in in_time)
        after = 100 + took[99]  # a source has ended when all its pieces have come
        assert seconds(result, task) == pytest.approx(max(last, after))
    share = late.sum() / (200 * 99)
    # The pieces of a task share its first one: the error is that of 200 means of at most the share's own spread.
    error = np.std(late / 99, ddof=1) / 200**0.5
    assert abs(share - exp(-depth / 0.05) / 2) < Z * error


def test_what_is_held_after_the_last_arrival_is_the_buffers() -> None:
    """Without jitter the last frame is played out the depth after it came, as synchronization."""
    result = run(world({"a": video()}, align={"jitter_buffer": {"depth": "80 ms"}}))
    assert seconds(result) == pytest.approx(1.02 + 0.08)
    assert named(result, "jitter buffer") == pytest.approx(0.08)


@pytest.mark.parametrize("lateness", [0.0, 0.1, 0.3, 5.0])
def test_lateness_admits_late_pieces_and_costs_nothing_at_the_end(lateness: float) -> None:
    """A piece is late when another, `lateness` past the end of its window, came before it; at the end no more is waited for."""
    source = {"jitter": exponential("150 ms"), "length": "3 s"}
    align = {"watermark": {"length": "200 ms", "lateness": f"{lateness} s"}}
    result = run(world({"a": stream(source)}, align=align), tasks(20))
    for task in range(20):
        late, top = 0, -1.0
        for _, capture in sorted((arrival, capture) for capture, arrival in delays(result, task)):
            stamp = capture - PERIOD
            window = floor(stamp / 0.2 + 1e-6)
            late += (window + 1) * 0.2 + lateness <= top + 1e-6
            top = max(top, stamp)
        assert fact(result, "late_pieces", task) == late
        assert seconds(result, task) == pytest.approx(max(arrival for _, arrival in delays(result, task)))
        assert named(result, "watermark", task) == 0


@pytest.mark.parametrize(("skew", "late"), [("40 ms", 0), ("50 ms", 0), ("60 ms", 10)])
def test_a_clock_that_is_off_by_more_than_the_tolerance_fits_nothing(skew: str, late: int) -> None:
    """Up to the tolerance of 50 ms all pieces join, beyond it none of that source's does."""
    mods = {
        "a": stream({"rate": "5 / s", "length": "2 s"}),
        "b": stream({"rate": "5 / s", "length": "2 s", "clock": {"skew": skew}}),
    }
    result = run(world(mods, align={"window": {"length": "400 ms", "tolerance": "50 ms"}}))
    assert fact(result, "late_pieces") == late
    assert fact(result, "pieces") == 20


def test_a_clock_that_drifts_leaves_the_tolerance_behind() -> None:
    """A drift of 1 % is past the tolerance of 20.5 ms after 2 s: pieces from then on are late."""
    mods = {"a": stream({"rate": "5 / s", "length": "4 s", "clock": {"drift": 0.01}})}
    result = run(world(mods, align={"window": {"length": "400 ms", "tolerance": "20.5 ms"}}))
    assert fact(result, "late_pieces") == 20 - 11


def test_lost_pieces_never_come() -> None:
    """A tenth is lost, within 99.9 %; none of it is waited for longer than the stream lasts; windows go without."""
    patch = world({"a": video({"loss": "10 %", "length": "20 s"}, tokens="7 tokens")}, align=WINDOW)
    result = run(patch, tasks(50), chain(("see", {"perceive": ["a"], "align": WINDOW}), ("work", {"agent": "a"})))
    lost = column(result, "lost_pieces")
    assert abs(lost.sum() - 1000) < Z * (10_000 * 0.1 * 0.9) ** 0.5
    assert (column(result, "pieces") == 200).all()
    assert (column(result, "new_tokens") == 7 * (200 - lost)).all()
    assert (result.rows[:, 3] - result.rows[:, 2] <= 20.02 + 1e-6).all()


def test_a_window_degrades_by_the_source_that_lacks_a_piece() -> None:
    """What came of that source is left out, which is neither late nor lost: each window has all of a source's pieces or none."""
    align = {"window": {"length": "500 ms", "patience": "1 s"}}
    step = {"perceive": ["a"], "align": align, "late": "degrade"}
    mods = {"a": stream({"loss": "10 %", "length": "5 s"}, tokens="7 tokens")}
    result = run(world(mods), tasks(20), chain(("see", step), ("work", {"agent": "a"})))
    degraded = column(result, "degraded")
    assert degraded.sum() > 20
    assert (column(result, "new_tokens") == 7 * 5 * (10 - degraded)).all()
    assert not column(result, "late_pieces").any()


def test_a_repeated_piece_brings_its_tokens_again() -> None:
    """With `late: repeat` the last piece stands in for each lost one but those before the first: all but these bring tokens."""
    align = {"window": {"length": "200 ms", "patience": "1 s"}}
    step = {"perceive": ["a"], "align": align, "late": "repeat"}
    mods = {"a": stream({"loss": "30 %", "length": "5 s"}, tokens="7 tokens")}
    result = run(world(mods), tasks(20), chain(("see", step), ("work", {"agent": "a"})))
    assert (column(result, "lost_pieces") > 0).all()
    assert (column(result, "new_tokens") % 7 == 0).all()
    assert np.median(column(result, "new_tokens")) == 7 * 50


def test_the_others_lose_patience_with_a_window() -> None:
    """Of two streams one comes 300 ms late; 100 ms after the first was there, each window goes on without the other."""
    mods = {"a": stream(tokens="1 tokens"), "b": stream({"jitter": "300 ms"}, tokens="100 tokens")}
    step = {"perceive": ["a", "b"], "align": {"window": {"length": "100 ms", "patience": "100 ms"}}, "late": "drop"}
    result = run(world(mods), chain(("see", step), ("work", {"agent": "a"})))
    assert fact(result, "late_pieces") > 0
    assert fact(result, "new_tokens") == 10
    assert named(result, "align") == pytest.approx(0.1)
    assert named(result, "capture") == pytest.approx(1.0)
    assert seconds(result) == pytest.approx(1.1)


def test_patience_ends_a_stream_that_goes_on() -> None:
    """A barrier with patience: 310 ms after the short stream ended the long one is cut, with what it has brought by then."""
    mods = {"a": video(tokens="1 token"), "b": video({"length": "1 h"}, tokens="100 tokens")}
    step = {"perceive": ["a", "b"], "align": {"barrier": {"patience": "310 ms"}}, "late": "drop"}
    result = run(world(mods), chain(("see", step), ("work", {"agent": "a"})))
    assert seconds(result) == pytest.approx(1.02 + 0.31)
    assert parts(result)["synchronization"] == pytest.approx(1.0 + 0.31)
    assert fact(result, "pieces") == 10 + 13
    assert fact(result, "new_tokens") == 10 + 13 * 100
    assert result.end < 1002  # nothing of it goes on


def test_what_comes_with_the_request_is_waited_for_beside_streams() -> None:
    """An image that takes 3 s holds the step, and one that takes 1 ms does not; its tokens join either way."""
    mods = {"a": video(tokens="10 tokens"), "image": {"kind": "vision", "encoder": "still", "tokens": "500 tokens"}}
    for align in (*list(ALIGNMENTS.values())[:3], {"jitter_buffer": {"depth": "0 s"}}):
        for latency, total in (("3 s", 3.0), ("1 ms", 1.02)):
            step = {"perceive": ["a", "image"], "align": align}
            result = run(
                world(mods),
                {"encoders": {"still": {"latency": latency}}},
                chain(("see", step), ("work", {"agent": "a"})),
            )
            assert seconds(result) == pytest.approx(total)
            assert fact(result, "new_tokens") == 600


def test_only_the_last_windows_stay() -> None:
    """With `keep: {last: 2}` of five windows of two pieces two stay, over visits too, and the caches behind them go."""
    flow: Data = {
        "start": "see",
        "steps": {
            "see": {"perceive": ["a"], "align": WINDOW, "keep": {"last": 2}, "next": "work"},
            "work": {"agent": "a", "next": "judge"},
            "judge": {"evaluator": "e", "rejected": "see", "at_most": 3},
        },
    }
    patch: Data = {
        "modalities": {"a": stream(tokens="10 tokens")},
        "evaluators": {"e": {"accept": "0 %", "latency": "0 s"}},
        "agents": {"a": {"model": "llm", "prompt": "5 tokens", "output": "1 token"}},
        "workflow": flow,
    }
    result = run(patch)
    assert fact(result, "new_tokens") == 5 + 3 * 2 * 20
    # What is cached is valid up to the windows that have left: the prompt, then the first answer, behind which lay the second's.
    assert fact(result, "cached_tokens") == 5 + (5 + 1)
    everything = merged(patch, {})
    everything["workflow"] = {**flow, "steps": {**flow["steps"], "see": {**flow["steps"]["see"], "keep": "all"}}}
    assert fact(run(everything), "new_tokens") == 5 + 3 * 100


def test_pairs_of_streams_are_aligned() -> None:
    """Three streams and pairs of 4 ms: three of them after the last capture, as synchronization."""
    mods = {name: video() for name in "abc"}
    result = run(world(mods, align={"pairwise": {"each": "4 ms"}}))
    assert named(result, "align") == pytest.approx(0.012)
    assert seconds(result) == pytest.approx(1.032)


def test_in_a_late_fusion_a_stream_is_read_when_it_is_over() -> None:
    """Ten pieces of 50 tokens are read in one call; only its answer of 30 tokens is new to the next model."""
    models = {"llm": {"prefill": "1 ms / token", "decode": "10 ms / token"}, "other": {"kind": "llm"}}
    agents = {"reader": {"model": "llm", "output": "30 tokens"}, "a": {"model": "other"}}
    step = {"perceive": ["v"], "fusion": {"late": {"agent": "reader"}}}
    flow = chain(("see", step), ("work", {"agent": "a"}))
    result = run(world({"v": video(tokens="50 tokens")}), {"models": models, "agents": agents}, flow)
    assert fact(result, "llm_calls") == 2
    assert fact(result, "new_tokens") == 500 + 30
    assert seconds(result) == pytest.approx(1.02 + 0.5 + 0.3)


def test_representations_of_streams_are_fused_at_the_end() -> None:
    """Four streams are fused in two levels of 5 ms."""
    mods = {name: video() for name in "abcd"}
    result = run(world(mods, align=WINDOW, fusion={"hierarchical": {"each": "5 ms"}}))
    assert seconds(result) == pytest.approx(1.03)


@pytest.mark.parametrize("partial", ["fail", "degrade", "retry"])
def test_encodings_of_pieces_fail(partial: str) -> None:
    """A tenth of them fails: the task with them, or they bring nothing and count as degraded, or are tried again."""
    mods = {"a": video({"length": "5 s"}, tokens="10 tokens", errors="10 %", attempts=50)}
    step = {"perceive": ["a"], "partial": partial, "align": WINDOW}
    result = run(world(mods), tasks(100), chain(("see", step), ("work", {"agent": "a"})))
    degraded, retries = column(result, "degraded"), column(result, "retries")
    if partial == "fail":
        assert abs(statuses(result).count(0) - 100 * 0.9**50) < 4
        assert set(result.failures) == {"modalities.a: could not be encoded"}
        return
    assert statuses(result).count(0) == 100
    more = degraded if partial == "degrade" else retries
    mean = 500.0 if partial == "degrade" else 500 / 0.9
    assert abs(more.sum() - mean) < Z * (5000 * 0.1 / 0.9**2) ** 0.5
    assert (column(result, "new_tokens") == 10 * (50 - degraded)).all()
    assert (degraded if partial == "retry" else retries).sum() == 0


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_a_barrier_of_streams_takes_the_harmonic_number(count: int) -> None:
    """N streams of one piece each, late by iid exponentials of mean 1 s: H_n s after 50 ms all are there in the mean, within 99.9 %."""
    spec = scene(world({"a": stream({"jitter": exponential("1 s"), "length": "50 ms"})}, copies=count), tasks(128))
    means = []
    for number in range(12):
        rows = simulate(spec, replication=number).rows
        means.append(float((rows[:, 3] - rows[:, 2]).mean()))
    error = float(np.std(means, ddof=1)) / len(means) ** 0.5
    assert abs(np.mean(means) - 0.05 - sum(1 / n for n in range(1, count + 1))) < Z * error
    assert error < 0.05 * sum(1 / n for n in range(1, count + 1))


def test_identical_copies_without_chance_take_no_longer() -> None:
    """Seven copies of a stream with constant times are there with the first, and count seven times."""
    one, seven = (run(world({"a": video()}, align=WINDOW, copies=count)) for count in (1, 7))
    assert seconds(one) == pytest.approx(seconds(seven))
    assert fact(seven, "pieces") == 7 * fact(one, "pieces")


def noisy(**more: Any) -> Data:
    """Return a stream of which everything is drawn."""
    return video(
        {
            "jitter": exponential("30 ms"), "loss": "5 %", "clock": {"skew": exponential("10 ms"), "drift": 1e-4},
            "length": {"uniform": {"low": "500 ms", "high": "2 s"}},
        },
        tokens="50 tokens", errors="5 %", **more,
    )  # fmt: skip


def test_another_modality_leaves_the_draws_alone() -> None:
    """Without one of three, and in another order, every span of the others' sources and pieces is as it was."""
    mods = {name: noisy() for name in "abc"}
    encoder = {"latency": exponential("20 ms")}

    def seen(*names: str, **more: Any) -> dict[int, list[tuple[str, float]]]:
        step = {"perceive": list(names), "partial": "retry", **more}
        found: dict[int, list[tuple[str, float]]] = {}
        for span in leaves(run(world(mods, encoder), chain(("see", step)))):
            found.setdefault(span.lane, []).append((span.name, round(span.end - span.start, 9)))
        return {lane: spans for lane, spans in found.items() if lane}

    whole, part, copied = seen("a", "b", "c"), seen("c", "a", align=WINDOW), seen("c", "a", copies=2)
    assert len(part) > 20
    assert all(sorted(part[lane]) == sorted(whole[lane]) for lane in part)
    assert all(sorted(copied[lane]) == sorted(whole[lane]) for lane in part)


def cases() -> Iterator[tuple[Data, str, str]]:
    """Yield alignments with their policies and what is done with encodings that fail."""
    yield {"window": {"length": "200 ms", "tolerance": "60 ms"}}, "wait", "retry"
    yield {"window": {"length": "200 ms", "tolerance": "60 ms", "patience": "20 ms"}}, "degrade", "degrade"
    yield {"watermark": {"length": "200 ms", "lateness": "50 ms"}}, "repeat", "retry"
    yield {"jitter_buffer": {"depth": "40 ms"}}, "drop", "degrade"
    yield {"pairwise": {"each": exponential("4 ms"), "patience": "80 ms"}}, "drop", "degrade"


def busy(align: Data, late: str, partial: str, runtime: str) -> Data:
    """Return a loaded world in which streams, what comes with the request, links, cores and slots contend."""
    size: Data = {"bytes": "20 kB", "representation": "5 kB", "serializer": "json"}
    mods: Data = {
        "a": noisy(node="edge", **size, preprocess={"latency": exponential("5 ms"), "on": "cpu"}),
        "b": noisy(node="edge", **size, preprocess={"latency": exponential("5 ms"), "on": "gpu"}),
        "image": {"kind": "vision", "encoder": "enc", "node": "edge", "tokens": "100 tokens", **size},
    }
    step = {"perceive": list(mods), "align": align, "late": late, "partial": partial, "keep": {"last": 2}}
    return {
        "runtime": runtime,
        "workload": {"arrivals": {"poisson": "2 / s"}, "tasks": 8},
        "modalities": mods,
        "encoders": {"enc": {"node": "pod", "concurrency": 2, "latency": exponential("25 ms")}},
        "agents": {"a": {"model": "llm", "prompt": "5 tokens", "output": "10 tokens"}},
        "models": {"llm": {"node": "cloud", "concurrency": 4, "prefill": "0.1 ms / token", "decode": "1 ms / token"}},
        "network": {
            "nodes": {"edge": {"cores": 2}, "pod": {"cores": 2}, "cloud": {}},
            "links": [
                {"between": ["edge", "pod"], "latency": exponential("5 ms"), "bandwidth": "2 MB/s"},
                {"between": ["pod", "cloud"], "latency": exponential("2 ms")},
            ],
        },
        "orchestrator": {"node": "edge", "poll_interval": "20 ms"},
        "workflow": {
            "start": "both",
            "steps": {
                "both": {"fork": ["see", "see"], "next": "see"},
                "see": {**step, "next": {"see": 0.3, "work": 0.7}},
                "work": {"agent": "a"},
            },
        },
    }


@pytest.mark.parametrize(
    ("align", "late", "partial"),
    list(cases()),
    ids=lambda value: next(iter(value), value) if isinstance(value, dict) else value,
)
def test_the_law_of_the_ledger_holds_under_load(align: Data, late: str, partial: str) -> None:
    """Every second is booked once, whether spans are kept or not, and cut off by a horizon too (the ledger checks)."""
    for runtime in RUNTIMES[1::2]:
        patch = busy(align, late, partial, runtime)
        result = run(patch)
        assert statuses(result).count(0) == 8
        assert (result.rows[:, 5] >= -1e-9).all()
        assert table(result) == table(run(patch, spans="none"))
        for task in range(8):
            covered = sum(span.end - span.start for span in leaves(result, task) if span.critical)
            assert covered == pytest.approx(seconds(result, task), abs=1e-6)
    result = run(patch, {"workload": {"tasks": None, "horizon": "0.2 s"}})
    assert 2 in statuses(result)
    assert not any(span.end > 0.2 + 1e-9 for span in result.spans)


def test_a_horizon_cuts_a_stream_while_everybody_waits() -> None:
    """Cut at half a second, a task whose next piece is on its way has waited for its capture, its jitter and its encoder."""
    patch = world({"a": stream({"jitter": "70 ms"}), "b": stream()}, align=WINDOW)
    result = run(patch, {"workload": {"tasks": None, "horizon": "1000.55 s"}})
    held = accounts(result)
    assert sum(held.values()) == pytest.approx(0.55)
    assert {one.name for one in held} <= {"capture", "jitter", "align"}


def test_pieces_are_encoded_on_the_device_of_a_model() -> None:
    """An encoder on the model's device takes its slot: two streams of ten pieces of 100 ms take turns on it."""
    patch = world({name: video() for name in "ab"}, copies=1)
    patch["encoders"] = {"enc": {"model": "llm", "latency": "100 ms"}}
    result = run(patch)
    assert seconds(result) == pytest.approx(PERIOD + 2.0)
    assert parts(result) == {
        "synchronization": pytest.approx(PERIOD), "inference": pytest.approx(1.0), "queueing": pytest.approx(1.0),
    }  # fmt: skip


def test_an_empty_stream_brings_nothing() -> None:
    """A stream of no length is over at once, by every alignment."""
    for align in ALIGNMENTS.values():
        result = run(world({"a": stream({"length": "0 s"})}, align=align))
        assert seconds(result) == 0
        assert fact(result, "pieces") == 0


def test_periods_that_are_no_whole_part_of_the_length() -> None:
    """A stream of 1.05 s at 3 a second has ceil(1.05 * 3) pieces, the last one captured when it is over."""
    result = run(world({"a": stream({"rate": "3 / s", "length": "1.05 s"})}))
    assert fact(result, "pieces") == ceil(1.05 * 3)
    assert seconds(result) == pytest.approx(1.05)


def test_a_clock_that_no_alignment_can_bear_is_doubted() -> None:
    """Skew, and drift by the end of the stream, beyond the tolerance of a window or the length of a watermark's are told."""
    for align, bears in (({"window": {"length": "200 ms", "tolerance": "30 ms"}}, 0.03), (WATERMARK, 0.2)):
        for clock, off in (
            ({"skew": f"{1.1 * bears} s"}, True),
            ({"drift": 1.1 * bears}, True),
            ({"skew": f"{0.9 * bears} s"}, False),
        ):
            told = scene(world({"a": stream(), "b": stream({"clock": clock})}, align=align)).doubts()
            assert (
                any(doubt.startswith("workflow.steps.see: modalities.b.stream.clock is off") for doubt in told) == off
            )
    assert not any("clock" in doubt for doubt in scene(world({"a": stream({"clock": {"skew": "9 s"}})})).doubts())
