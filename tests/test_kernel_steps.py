"""Iterations of a server by laws of kernels: sums in closed form are those over single iterations, and no step beats physics."""

import math
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.serving.decode_row import DecodeRow
from coordsim.models.serving.kernel_steps import KernelSteps
from coordsim.models.shapes import Shape, preset
from coordsim.models.transformer import IterationTime
from coordsim.sim.profile.profile import Profile, read

GPUS = ("a100-sxm", "h100-sxm", "h200-sxm", "b200-sxm")
examples = settings(derandomize=True, deadline=None, max_examples=60, database=None)
CLOSE = 1e-12  # relative: a few hundred roundings of doubles


def law(form: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a law of the hand-written profile."""
    return {"form": form, "source": "made", **more}


LAWS: dict[str, dict[str, Any]] = {
    "gemm[dtype=bf16]": law({"roofline": {"overhead": "1 us", "compute": "500 TFLOP/s", "memory": "1 TB/s"}}),
    "attention.prefill[dtype=bf16]": law(
        {"roofline": {"overhead": "5 us", "compute": "300 TFLOP/s", "memory": "1 TB/s", "work": "padded_flops"}}
    ),
    "attention.decode[dtype=bf16]": law({"sum": {"overhead": "10 us", "terms": {"batch*context": "1 ns"}}}),
    "copy.device": law({"sum": {"overhead": "1 us", "terms": {"bytes": "2e-12 s"}}}),
    "all_reduce[ranks=2,via=nvlink]": law({"sum": {"overhead": "7 us", "terms": {"bytes": "1e-11 s"}}}),
    "launch": law({"constant": "10 us"}),
    "graph.replay": law({"sum": {"overhead": "150 us", "terms": {"kernels": "1 us"}}}),
}


def hand_written(**changed: dict[str, Any]) -> Profile:
    """Return a profile with round numbers; `launch` of 10 us a kernel is slower than its device for small batches."""
    made = {"title": "made up", "quality": "assumed", "machine": "none", "date": "2026-01-01"}
    device = {"name": "made", "memory_bandwidth": "1 TB/s"}
    data = {"name": "made", "device": device, "sources": {"made": made}, "laws": {**LAWS, **changed}}
    return Profile.model_validate({"coordsim_profile": 1, **data})


SMALL = Shape.model_validate(
    {"layers": 4, "hidden": 1024, "heads": 8, "kv_heads": 4, "head_size": 128, "mlp": 4096, "vocabulary": 32000}
)


@cache
def served(name: str, skew: float = 0.0, launch: Any = "graph", ranks: int = 1) -> KernelSteps:
    """Return the steps of Llama-3.1-8B on a profile that ships, or of the small shape on the hand-written one."""
    profile, shape = (hand_written(), SMALL) if name == "made" else (read(name), preset("llama-3.1-8b"))
    return KernelSteps(IterationTime(profile, shape, launch=launch, tensor_parallel=ranks), skew)


def stepped(steps: KernelSteps, decodes: int, total: float, longest: float, count: int, slow: float) -> list[float]:
    """Return what each of `count` successive iterations takes, asked one by one."""
    lengths = ((total + step * decodes, longest + step) for step in range(count))
    return [steps.iteration((), decodes, at, most, slow) for at, most in lengths]


servers = st.builds(
    served,
    st.sampled_from(["made", "h100-sxm"]),
    st.sampled_from([0.0, 0.06, 1.0]),
    st.sampled_from(["graph", "eager"]),
)
batches = st.tuples(st.integers(1, 300), st.floats(0.0, 16.9), st.floats(0.0, 3.0)).map(
    lambda drawn: (drawn[0], drawn[0] * 2.0 ** drawn[1], 2.0 ** sum(drawn[1:]))
)  # decodes, the sum of their lengths and the longest
counts = st.integers(1, 400)
slows = st.sampled_from([1.0, 1.3, 4.0])


# Runs of decodes


@examples
@given(servers, batches, counts, slows)
def test_a_run_is_the_sum_of_its_iterations(
    steps: KernelSteps, batch: tuple[int, float, float], count: int, slow: float
) -> None:
    """Whether device or host is slower, whatever the skew; one iteration is the same number."""
    single = stepped(steps, *batch, count, slow)
    assert steps.run(*batch, count, slow) == pytest.approx(math.fsum(single), rel=CLOSE)
    assert steps.run(*batch, 1, slow) == single[0]


@examples
@given(servers, batches, counts, slows, st.floats(0.0, 1.2), st.sampled_from([(1.0, 0.0), (1.2, 3e-4), (0.5, 0.0)]))
def test_count_until_is_the_first_run_that_lasts_so_long(
    steps: KernelSteps,
    batch: tuple[int, float, float],
    limit: int,
    slow: float,
    share: float,
    paid: tuple[float, float],
) -> None:
    """By `run` itself, asked for every count."""
    factor, extra = paid
    lasts = [factor * steps.run(*batch, count, slow) + extra * count for count in range(1, limit + 1)]
    for seconds in (share * lasts[-1], lasts[int(share / 1.2 * (limit - 1))]):  # somewhere, and at a run to the bit
        expected = next((n for n, lasting in enumerate(lasts, 1) if lasting >= seconds), limit)
        assert steps.count_until(*batch, seconds, limit, factor=factor, extra=extra, slow=slow) == expected


@examples
@given(servers, batches, st.integers(1, 200), st.integers(1, 200))
def test_a_run_in_two_parts_is_the_run(
    steps: KernelSteps, batch: tuple[int, float, float], first: int, second: int
) -> None:
    """A server may stop at any event and go on."""
    decodes, total, longest = batch
    rest = steps.run(decodes, total + first * decodes, longest + first, second)
    parts = steps.run(decodes, total, longest, first) + rest
    assert steps.run(decodes, total, longest, first + second) == pytest.approx(parts, rel=CLOSE)


def test_a_long_run_by_hand() -> None:
    """Only the 1 ns a cached token of each of 4 layers grows: 2000 iterations of 8 from 500 tokens on, the device slower."""
    steps = served("made")
    first, count = steps.iteration((), 8, 4000, 500), 2000
    grows = 4 * 8 * 1e-9
    assert first > steps.iteration_time.submit(1)
    expected = count * first + grows * count * (count - 1) / 2
    assert steps.run(8, 4000, 500, count) == pytest.approx(expected, rel=1e-9)
    assert steps.count_until(8, 4000, 500, expected * (1 - 1e-9), 10_000) == count


def test_decode_is_that_of_the_iteration_time() -> None:
    """Where the host adds nothing between iterations and lengths are even."""
    steps = served("h100-sxm")
    for batch, length in ((1, 1), (3, 777.3), (64, 20_000)):
        expected = steps.iteration_time.decode(batch, length)
        assert steps.iteration((), batch, batch * length, length) == pytest.approx(expected, rel=CLOSE)


# Rows with any knots


@st.composite
def rows(draw: st.DrawFn) -> DecodeRow:
    """Return a row of few knots, whole or not, whose values rise and fall; device and host cross several times."""
    gaps = draw(st.lists(st.one_of(st.integers(1, 60), st.floats(0.1, 60)), min_size=1, max_size=8))
    knots = list(accumulate(gaps, initial=draw(st.floats(0, 50))))
    values = draw(st.lists(st.floats(0.5, 2.0), min_size=len(knots), max_size=len(knots)))
    return DecodeRow(knots, values, draw(st.floats(0.0, 2.0)), draw(st.sampled_from([0.0, 0.3, 1.0])))


@examples
@given(rows(), st.floats(0.0, 400.0), st.floats(0.0, 300.0), counts, st.floats(0.0, 1.0))
def test_rows_sum_whatever_their_knots(row: DecodeRow, mean: float, more: float, count: int, share: float) -> None:
    """Within and beyond the knots, with and without the host; and the inverse."""
    device = [row.at(mean + step) for step in range(count)]
    assert row.total(mean, count) == pytest.approx(math.fsum(device), rel=CLOSE, abs=count * 1e-13)
    longest = [row.at(mean + more + step) for step in range(count)]
    mixed = [(1 - row.skew) * one + row.skew * other for one, other in zip(device, longest, strict=True)]
    lasts = [row.run(mean, mean + more, n) for n in range(1, count + 1)]
    sums = list(accumulate(max(row.submit, one) for one in mixed))
    assert lasts == pytest.approx(sums, rel=CLOSE, abs=count * 1e-13)
    until = share * lasts[-1]
    expected = next(n for n, lasting in enumerate(lasts, 1) if lasting >= until)
    assert row.count_until(mean, mean + more, until, count) == expected


def test_a_row_goes_on_as_its_ends_do_but_not_below_zero() -> None:
    """2 s at 10 and 4 s at 20 are 6 s at 30 and nothing at 0 and before; falling, nothing from 60 on."""
    rising, falling = DecodeRow([10, 20], [2, 4], 0.0), DecodeRow([10, 15, 20], [5, 4.5, 4], 0.0)
    assert [rising.at(x) for x in (-5, 0, 10, 15, 30)] == [0, 0, 2, 3, 6]
    assert [falling.at(x) for x in (0, 20, 40, 60, 100)] == pytest.approx([6, 4, 2, 0, 0])
    assert rising.total(-2, 5) == pytest.approx(0.2 + 0.4)
    assert falling.total(58, 5) == pytest.approx(0.2 + 0.1)


@pytest.mark.parametrize(("knots", "values", "skew", "message"), [
    ([1], [1], 0.0, "two knots or more"),
    ([1, 2], [1], 0.0, "a value for each; got 2 and 1"),
    ([2, 2], [1, 1], 0.0, "must rise"),
    ([1, 2], [1, -1], 0.0, "values be >= 0"),
    ([1, 2], [1, 1], 1.5, "skew must be from 0 to 1; got 1.5"),
])  # fmt: skip
def test_a_row_that_means_nothing_is_refused(
    knots: list[float], values: list[float], skew: float, message: str
) -> None:
    """The rule, and what was given."""
    with pytest.raises(ValueError, match=message):
        DecodeRow(knots, values, 0.0, skew)


# Mixed iterations


def chunk_attention(steps: KernelSteps, new: int, cached: int) -> float:
    """Return the seconds of the attention of one chunk: what an iteration takes that nothing else in it does."""
    return steps.iteration([(new, cached)], 0, 0, 0, slow=0.0) - steps.iteration_time.fixed(new, 1)


chunk_lists = st.lists(
    st.tuples(st.floats(0, 13).map(lambda x: int(2**x)), st.one_of(st.just(0), st.floats(0, 17).map(lambda x: int(2**x)))),
    min_size=1, max_size=3, unique=True,
)  # fmt: skip


@examples
@given(st.builds(served, st.sampled_from(["made", "h100-sxm"]), launch=st.sampled_from(["graph", "eager"])),
       chunk_lists, batches)  # fmt: skip
def test_a_mixed_iteration_is_that_of_the_iteration_time(
    steps: KernelSteps, chunks: list[tuple[int, int]], batch: tuple[int, float, float]
) -> None:
    """Of attention of its chunks 0.5 % at most is interpolated away; decodes take what their row says."""
    times, (decodes, total, longest) = steps.iteration_time, batch
    parts = times.parts(chunks, decodes, total / decodes)
    exact = times.mixed(chunks, decodes, total / decodes)
    off = 0.005 * parts["attention.prefill"]
    row = abs(times.row(decodes).at(total / decodes) - times.fixed(decodes, decodes) - parts["attention.decode"])
    assert steps.iteration(chunks, decodes, total, longest) == pytest.approx(exact, rel=CLOSE, abs=off + row)
    alone = times.mixed(chunks)
    assert steps.iteration(chunks, 0, 0, 0) == pytest.approx(alone, rel=CLOSE, abs=off)


@pytest.mark.parametrize("name", [*GPUS, "l40s", "made"])
def test_attention_of_chunks_is_near_its_law(name: str) -> None:
    """Chunks of up to 16384 after up to 2^20 tokens are off by 0.3 % at most, at a sharp corner; by 0.03 % where it is round."""
    steps, rng = served(name), np.random.default_rng(5)
    new = [1, 545, 559, *np.floor(2 ** rng.uniform(0, 14, 150)).tolist()]
    cached = [0, 9, 2**20, *np.floor(2 ** rng.uniform(0, 20, 25)).tolist()]
    found = np.array([[chunk_attention(steps, int(query), int(context)) for context in cached] for query in new])
    exact = np.array(steps.iteration_time.prefill_attention(new, cached))
    assert np.abs(found / exact - 1).max() < (0.003 if name == "made" else 0.0003)


def test_tiles_are_kept_apart() -> None:
    """Where a law steps from 128 new tokens to 129, so does the table; it is exact at the ends of every tile."""
    steps = served("made")
    law_says = {new: steps.iteration_time.parts([(new, 4096)])["attention.prefill"]
                for new in (1, 128, 129, 256, 257, 1024, 1025, 8192, 16384, 20_000)}  # fmt: skip
    for new, seconds in law_says.items():
        assert chunk_attention(steps, new, 4096) == pytest.approx(seconds, rel=1e-9)
    assert law_says[257] > 1.3 * law_says[256]


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b"])
def test_tables_of_tokens_are_exact(model: str) -> None:
    """A block worked out together holds what the laws say one by one, of experts too."""
    times = IterationTime(read("h100-sxm"), preset(model))
    for tokens in (1, 2, 64, 65, 128, 129, 256, 257, 4097, 100.5):
        parts = times.parts([(tokens, 0)])
        alone = sum(value for part, value in parts.items() if part not in ("attention.prefill", "launch", "host"))
        assert times.fixed(tokens, 1) == pytest.approx(alone, rel=CLOSE)


@examples
@given(chunk_lists, batches)
def test_a_mixed_iteration_is_no_shorter_than_its_parts(
    chunks: list[tuple[int, int]], batch: tuple[int, float, float]
) -> None:
    """Under laws that grow with their sizes."""
    steps = served("made")
    both = steps.iteration(chunks, *batch)
    assert both >= steps.iteration(chunks, 0, 0, 0) * (1 - CLOSE)
    assert both >= steps.iteration((), *batch) * (1 - CLOSE)


@pytest.mark.parametrize("name", GPUS)
def test_no_step_beats_the_reading_of_the_weights(name: str) -> None:
    """Random batches of decodes and chunks: all take the layers' weights over nominal bandwidth or longer, and no flag says else."""
    steps, rng = served(name), np.random.default_rng(7)
    times = steps.iteration_time
    for _ in range(400):
        decodes, length = int(2 ** rng.uniform(0, 9)), 2 ** rng.uniform(0, 17)
        chunk = (int(2 ** rng.uniform(0, 13)), int(2 ** rng.uniform(0, 17)))
        floor = times.floor(decodes)
        assert steps.iteration((), decodes, decodes * length, length) >= floor > 0
        assert steps.iteration([chunk], decodes, decodes * length, length) >= floor
        assert steps.iteration([chunk], 0, 0, 0) >= floor
    assert not [flag for flag in times.flags() if "less than" in flag]


# What changes the time


@examples
@given(st.sampled_from(["made", "h100-sxm"]), st.floats(0.0, 1.0), batches)
def test_skew_lies_between_the_mean_and_the_longest(name: str, skew: float, batch: tuple[int, float, float]) -> None:
    """It adds its share of what the longest sequence alone would add; nothing where lengths are even."""
    decodes, total, longest = batch
    even, steps = served(name), KernelSteps(served(name).iteration_time, skew)
    mean, most = (even.iteration((), decodes, decodes * length, length) for length in (total / decodes, longest))
    assert steps.iteration((), *batch) == pytest.approx(mean + skew * (most - mean), rel=1e-12)
    assert steps.iteration((), decodes, total, total / decodes) == pytest.approx(mean, rel=CLOSE)
    if name == "made":
        assert 0 <= steps.iteration((), *batch) - mean + 1e-12 * mean <= (most - mean) + 2e-12 * most


def test_skew_reaches_decodes_beside_a_chunk() -> None:
    """1 ns a token of 4 layers and 10 sequences, 900 tokens more for the longest, a tenth of it."""
    even, skewed = (served("made", skew).iteration([(512, 0)], 10, 1000, 1000) for skew in (0.0, 0.1))
    assert skewed - even == pytest.approx(0.1 * 900 * 10 * 4 * 1e-9, rel=1e-6)


def test_eager_launches_bound_small_batches_and_slow_hosts_stretch_them() -> None:
    """Kernels times 10 us, times `slow`; a chunk beside decodes launches its attention too; a long prefill hides it all."""
    eager = served("made", launch="eager")
    kernels = eager.iteration_time.submit(1) / 10e-6
    assert kernels == pytest.approx(round(kernels), rel=1e-9)
    for slow in (1.0, 2.5):
        assert eager.iteration((), 1, 100, 100, slow) == pytest.approx(kernels * 10e-6 * slow, rel=1e-9)
        both = eager.iteration([(16, 0)], 1, 100, 100, slow)
        assert both == pytest.approx((kernels + SMALL.layers) * 10e-6 * slow, rel=1e-9)
    assert eager.iteration((), 1, 100, 100) > served("made").iteration((), 1, 100, 100)
    prefill = [served("made", launch=launch).iteration([(8192, 0)], 0, 0, 0) for launch in ("eager", "graph")]
    assert prefill[0] == prefill[1]


def test_a_run_from_host_to_device() -> None:
    """Where the device overtakes the host within a run, each iteration still takes the slower of both."""
    graph = served("made")
    submit, first = graph.iteration_time.submit(1), graph.iteration((), 64, 6400, 100, 0.0)
    slow = (first + 4 * 64 * 1e-9 * 150.5) / submit  # the device is as slow after 150.5 iterations
    single = stepped(graph, 64, 6400, 100, 300, slow)
    assert sum(one == single[0] for one in single) == 151
    assert graph.run(64, 6400, 100, 300, slow) == pytest.approx(math.fsum(single), rel=CLOSE)


def test_two_ranks_add_their_all_reduces() -> None:
    """Two a layer, of 7 us and more; the rest is no longer than on one rank."""
    one, two = served("made"), served("made", ranks=2)
    parts = two.iteration_time.parts([(256, 0)], 8, 100)
    assert parts["all_reduce"] == pytest.approx(2 * SMALL.layers * (7e-6 + 264 * SMALL.hidden * 2 * 1e-11), rel=1e-9)
    whole = two.iteration([(256, 0)], 8, 800, 100)
    assert parts["all_reduce"] < whole < one.iteration([(256, 0)], 8, 800, 100) + parts["all_reduce"]


# What is refused, and what is told


def test_sizes_beyond_a_law_show_in_the_flags() -> None:
    """Of runs, chunks and tokens together; looking ahead is not asking, and neither is what lies beside it in a table."""
    over = {"attention.decode[dtype=bf16]": {"context": "1 5000", "batch": "1 16"},
            "attention.prefill[dtype=bf16]": {"query": "1 2000", "context": "0 4000"},
            "gemm[dtype=bf16]": {"m": "1 4096"}}  # fmt: skip
    changed = {name: law(LAWS[name]["form"], over=ranges) for name, ranges in over.items()}
    steps = KernelSteps(IterationTime(hand_written(**changed), SMALL))
    flags = steps.iteration_time.flags
    steps.run(16, 16 * 4000, 4000, 1000)
    steps.iteration([(2000, 4000), (2000, 0)], 16, 16, 1)
    steps.count_until(16, 16 * 4000, 4000, 1e9, 100_000)
    assert flags() == []
    steps.run(16, 16 * 4000, 4000, 1002)
    steps.iteration([(2001, 9000)], 0, 0, 0)
    steps.iteration([(2000, 0)] * 3, 0, 0, 0)
    steps.iteration((), 17, 17, 1)
    told = [flag.split(" it was")[0] for flag in flags()]
    assert sorted(told) == [
        "attention.decode[dtype=bf16] was asked beyond the batch of 1 to 16",
        "attention.decode[dtype=bf16] was asked beyond the context of 1 to 5000",
        "attention.prefill[dtype=bf16] was asked beyond the context of 0 to 4000",
        "attention.prefill[dtype=bf16] was asked beyond the query of 1 to 2000",
        "gemm[dtype=bf16] was asked beyond the m of 1 to 4096",
    ]


def test_an_iteration_without_a_token_is_refused() -> None:
    """It would take no time and mean nothing; nor has a chunk no new token."""
    steps = KernelSteps(IterationTime(hand_written(), SMALL))
    with pytest.raises(ValueError, match="needs a new token"):
        steps.iteration((), 0, 0, 0)
    with pytest.raises(ValueError, match="needs a new token"):
        steps.run(0, 0, 0, 3)
    with pytest.raises(ValueError, match="new tokens after none or more cached ones; got 0 after 5"):
        steps.iteration([(0, 5)], 1, 1, 1)


def test_an_impossible_server_is_refused() -> None:
    """A skew beyond the longest sequence, and a shape that does not decode."""
    with pytest.raises(ValueError, match=r"skew must be from 0 to 1; got -0\.1"):
        KernelSteps(IterationTime(hand_written(), SMALL), -0.1)
    with pytest.raises(ValueError, match="needs a shape that generates"):
        KernelSteps(IterationTime(read("h100-sxm"), preset("vit-l-14")))
