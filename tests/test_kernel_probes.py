"""The probes of kernels: each runs, does what its name says, and is counted as its operation counts it.

Leaves out: how long anything takes.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="probes of kernels need torch: the extra `calibrate`")

from coordsim.calibration import kernels  # noqa: E402  torch may be missing
from coordsim.calibration.kernels import (  # noqa: E402
    attention,
    collectives,
    host,
    modality,
    products,
    rank,
    rows,
)
from coordsim.calibration.kernels.common import Place, place_of, pool, probe  # noqa: E402
from coordsim.calibration.probe import Call, Case, Found, Probe  # noqa: E402
from coordsim.sim.engine.errors import ProfileError  # noqa: E402
from coordsim.sim.profile.ops import OPS, split_name  # noqa: E402

F = torch.nn.functional
HERE = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]
COUNTED = ("gemm", "attention.encoder", "attention.cross", "attention.decode")


@lru_cache(maxsize=2)
def found(device: str) -> Found:
    """Return what can be measured, asked once."""
    return kernels.probes(device)


def law(device: str, name: str) -> Probe:
    """Return the probe of a law."""
    return next(one for one in found(device).probes if one.law == name)


@pytest.fixture(autouse=True, scope="module")
def _no_rank_left() -> Iterator[None]:
    """End the group after the last test."""
    yield
    collectives.close()


def smallest(one: Probe) -> Case:
    """Return the case with the least product of sizes."""
    return min(one.cases, key=lambda case: torch.tensor([1.0, *case.sizes.values()]).clamp(min=0.5).prod().item())


# --- each of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "name"), [(device, one.law) for device in HERE for one in found(device).probes])
def test_each_probe_runs_its_smallest_case(device: str, name: str) -> None:
    """It can be made ready and called, twice, and tells a time above 0 where it tells one."""
    one = law(device, name)
    with one.prepare(smallest(one)) as call:
        for turn in (0, 1):
            seconds = call(turn)
            assert seconds is None or 0 < seconds < 60


@pytest.mark.parametrize("device", DEVICES)
def test_cases_are_those_of_their_operation(device: str) -> None:
    """Each has the sizes that the operation has, options that it knows, and is there once."""
    cases = [(one, case) for one in found(device).probes for case in one.cases]
    for one, case in cases:
        op = OPS[case.op]
        assert set(case.sizes) == set(op.sizes), case.name
        assert set(case.options) <= set(op.options), case.name
        assert one.law == case.law
    names = [case.name for _one, case in cases]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("device", DEVICES)
def test_laws_have_points_enough_to_hold_some_out(device: str) -> None:
    """Five cases for each law that has a size."""
    assert {one.law for one in found(device).probes if OPS[one.op].sizes and len(one.cases) < 5} == set()


@pytest.mark.parametrize("device", DEVICES)
def test_every_kernel_is_measured_or_missing_with_a_reason(device: str) -> None:
    """Of the operations only those of coordination, and the step of a serving engine, are left to others."""
    here = found(device)
    gone = {split_name(one.law)[0] for one in here.missing}
    others = {"engine.step", "encode", "decode", "cross", "spawn", "checkpoint", "timer", "fork_join", "co_run"}
    assert {one.op for one in here.probes} | gone == set(OPS) - others
    assert all(len(one.why) > 10 for one in here.missing)


def test_what_the_cpu_has_not_is_missing() -> None:
    """With the reason."""
    why = {one.law: one.why for one in found("cpu").missing}
    assert why["graph.replay"] == "CUDA graphs need a CUDA device"
    assert why["gemm[dtype=fp8]"] == "fp8 needs a device of compute capability 8.9 or later"
    assert why["copy.host-to-device[memory=pinned]"].startswith("host and device are one")


def test_one_cuda_device_has_no_collectives() -> None:
    """They need two."""
    here = collectives.found(Place("cuda", 2**25, 2**30, (9, 0), 1))
    assert here.probes == ()
    assert {(one.law, one.why) for one in here.missing} >= {("all_reduce", "there is one device; all_reduce needs two")}


def test_a_device_that_is_not_there_is_an_error() -> None:
    """Of a name, or of CUDA where torch finds none."""
    with pytest.raises(ProfileError, match="must be `cpu` or `cuda`; got `tpu`"):
        kernels.probes("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ProfileError, match="torch finds no CUDA device"):
            kernels.probes("cuda")


def test_the_cases_of_cuda_fit_its_memory() -> None:
    """Large ones go where the pool is small; the larger pool has a product of 8192 rows by 16384 columns."""
    large = Place("cuda", 50 * 2**20, 2**32, (9, 0))
    small = replace(large, pool_bytes=2**26)
    sizes = {
        place: [case.sizes for one in products.found(place).probes for case in one.cases] for place in (large, small)
    }
    assert max(size["k"] for size in sizes[large] if "k" in size) == 16384
    assert max(size["m"] for size in sizes[large] if "m" in size) == 8192
    assert 0 < len(sizes[small]) < len(sizes[large])
    assert max((size["experts"] for size in sizes[small] if "experts" in size), default=0) == 0
    assert "gemm[dtype=fp8]" in {one.law for one in products.found(large).probes}


# --- inputs ------------------------------------------------------------------------------------------------------


def test_turns_meet_inputs_that_no_cache_holds() -> None:
    """The sets of a small product together exceed the cache twice, or there are 4096 of them; no two share memory."""
    place = place_of("cpu")
    sets = pool(place, "fp32").sets((16, 100), (64, 100))
    lengths = [sum(part.numel() * 4 for part in one) for one in sets]
    assert sum(lengths) >= 2 * place.cache_bytes or len(sets) == 4096
    spans = sorted((part.data_ptr(), part.data_ptr() + part.numel() * 4) for one in sets for part in one)
    assert all(end <= start for (_start, end), (start, _end) in pairwise(spans))
    assert len(pool(place, "fp32").sets((64, 100), warm=True)) == 1


def test_inputs_larger_than_the_pool_are_refused() -> None:
    """With both numbers."""
    place = place_of("cpu")
    with pytest.raises(ValueError, match=r"must fit into \d+ elements; got \d+"):
        pool(place, "fp32").sets((place.pool_bytes,))


def test_calls_run_without_gradients() -> None:
    """Inference mode holds while a case is ready, and no longer."""
    place = place_of("cpu")
    seen = []

    def make(sizes: object) -> Call:
        return lambda turn: seen.append(torch.is_inference_mode_enabled())

    with probe(place, "launch", {}, [{}], make).prepare(Case("launch")) as call:
        call(0)
    assert (seen, torch.is_inference_mode_enabled()) == ([True], False)


# --- what they compute -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "dtype"), [(device, "bf16") for device in HERE] + [("cpu", "fp32")])
@pytest.mark.parametrize("op", COUNTED)
def test_operations_are_counted_as_torch_counts_them(device: str, dtype: str, op: str) -> None:
    """The count that laws use is that of torch's own counter, for products and attention that is not causal."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    one, work = law(device, f"{op}[dtype={dtype}]"), OPS[op].work
    assert work is not None
    for case in one.cases[:3]:
        # The counter knows the products that attention is made of, not each fused kernel.
        with one.prepare(case) as call, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call(0)
        assert counter.get_total_flops() == work(case.sizes, case.options)[0]


def written_out(query: Any, key: Any, value: Any, context: int | None) -> Any:
    """Return attention token by token; new token i sees `context` + i + 1 keys, or all of them where that is None."""
    shared = query.shape[1] // key.shape[1]
    result = torch.empty_like(query)
    for batch, head, token in torch.cartesian_prod(*(torch.arange(size) for size in query.shape[:3])).tolist():
        seen = key.shape[2] if context is None else context + token + 1
        keys, values = key[batch, head // shared, :seen], value[batch, head // shared, :seen]
        weights = torch.softmax(keys @ query[batch, head, token] / query.shape[-1] ** 0.5, -1)
        result[batch, head, token] = weights @ values
    return result


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("query", "context"), [(5, 0), (5, 7), (1, 6), (8, 1)])
def test_prefill_sees_its_context_and_no_later_token(device: str, query: int, context: int) -> None:
    """Attention over a context, with 4 heads on 2, is the sum written out."""
    random = torch.Generator().manual_seed(1)
    kind = torch.float32 if device == "cpu" else torch.bfloat16
    q, k, v = (
        torch.randn(2, heads, length, 16, generator=random).to(device, kind)
        for heads, length in ((4, query), (2, query + context), (2, query + context))
    )
    result = attention.attend(q, k, v, attention.causal(query, context, device))
    expected = written_out(q.float().cpu(), k.float().cpu(), v.float().cpu(), context)
    tolerance = 1e-5 if device == "cpu" else 3e-2  # bf16 keeps 8 bits
    assert torch.allclose(result.float().cpu(), expected, atol=tolerance)


def test_decode_sees_the_whole_context() -> None:
    """One new token, not causal, over all keys."""
    random = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(3, heads, length, 8, generator=random) for heads, length in ((6, 1), (3, 9), (3, 9)))
    assert torch.allclose(attention.attend(q, k, v), written_out(q, k, v, None), atol=1e-5)


def test_experts_are_a_loop_over_tokens() -> None:
    """Grouped products give, for each token, the weighted sum of its chosen experts; one expert may get none."""
    random = torch.Generator().manual_seed(3)
    x, logits = torch.randn(6, 16, generator=random), torch.randn(6, 4, generator=random)
    logits[:, 2] = -50.0
    up, down = torch.randn(4, 16, 24, generator=random), torch.randn(4, 12, 16, generator=random)
    expected = torch.zeros_like(x)
    for token in range(6):
        weights, chosen = torch.softmax(logits[token], -1).topk(2)
        for weight, expert in zip(weights, chosen, strict=True):
            gate, value = (x[token] @ up[expert]).chunk(2)
            expected[token] += weight * (F.silu(gate) * value @ down[expert])
    assert torch.allclose(products.experts(x, logits, up, down, 2), expected, rtol=1e-4, atol=1e-4)


def test_skewed_experts_are_chosen_unevenly() -> None:
    """The first of eight gets about 1/2.7 of the choices, when one is chosen in proportion to 1, 1/2, 1/3, ..."""
    place, sizes = place_of("cpu"), {"tokens": 20_000, "experts": 8}
    shares = {
        load: (products._logits(place, sizes, load, 0).argmax(-1) == 0).float().mean().item()
        for load in ("balanced", "skewed")
    }
    harmonic = sum(1 / rank for rank in range(1, 9))
    for share, expected in ((shares["balanced"], 1 / 8), (shares["skewed"], 1 / harmonic)):
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5  # four standard errors


def test_rotary_turns_by_position() -> None:
    """Lengths stay, position 0 stays, and a product depends on the distance of two positions only."""
    angles = torch.arange(8).unsqueeze(-1) * 10.0 ** -torch.arange(4.0)
    cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    one, other = torch.randn(2, 8, generator=torch.Generator().manual_seed(4))
    queries, keys = (rows.rotary(row.expand(8, 1, 8), cosine, sine)[:, 0] for row in (one, other))
    assert torch.allclose(queries.norm(dim=-1), one.norm().expand(8), atol=1e-5)
    assert torch.allclose(queries[0], one)
    assert torch.allclose(queries[2] @ keys[5], queries[4] @ keys[7], atol=1e-5)
    assert not torch.allclose(queries[2] @ keys[5], queries[2] @ keys[7], atol=1e-2)


def test_sampling_chooses_among_the_most_likely() -> None:
    """Greedy the first, top-k one of k, top-p one of the fewest that hold p; and not always the same."""
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(1, 200, generator=random).mul(3).expand(300, 200)
    ranked = logits[0].argsort(descending=True)
    assert (rows.choose_greedy(logits) == ranked[0]).all()
    top_k = rows.choose_top_k(logits, 5, random)
    assert set(top_k.tolist()) <= set(ranked[:5].tolist())
    held = torch.softmax(logits[0] / rows.TEMPERATURE, -1)[ranked].cumsum(0)
    fewest = int((held < 0.8).sum()) + 1
    top_p = rows.choose_top_p(logits, 0.8, random)
    assert set(top_p.tolist()) <= set(ranked[:fewest].tolist())
    assert min(len(set(top_k.tolist())), len(set(top_p.tolist()))) > 1


def test_mel_filters_are_triangles_of_unit_area() -> None:
    """Each is positive, peaks once, and holds an area of 1 over the frequencies; below 1 kHz they are evenly spaced."""
    filters = modality.mel_filters(40, 4000, 16000)
    assert (filters >= 0).all()
    assert torch.allclose(filters.sum(-1) * 4.0, torch.ones(40), atol=0.02)  # bins 4 Hz apart
    signs = torch.sign(filters.diff(dim=-1))
    for row in signs:
        turns = row[row != 0].diff().count_nonzero()
        assert turns == 1
    peaks = filters.argmax(-1)[:10] * 4.0
    assert peaks.diff().max() - peaks.diff().min() <= 8.0


def test_a_tone_is_loudest_in_its_mel_bin() -> None:
    """The log-mel of 3 kHz has 100 frames a second, and its peak where the filter around 3 kHz is."""
    tone = torch.sin(2 * torch.pi * 3000 * torch.arange(modality.RATE) / modality.RATE)
    filters = modality.mel_filters()
    spectrum = modality.log_mel(tone, torch.hann_window(modality.WINDOW), filters)
    assert spectrum.shape == (80, 100)
    assert spectrum[:, 50].argmax() == filters[:, round(3000 / 40)].argmax()


def test_a_block_of_zero_weights_is_the_identity() -> None:
    """Both parts are added to the stream."""
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(6))
    zeros = [torch.zeros(shape) for shape in ((192, 64), (64, 64), (256, 64), (64, 256))]
    assert torch.equal(modality.block(x, *zeros), x)


def test_the_tokenizer_keeps_all_of_a_text() -> None:
    """Words in the vocabulary get their token, others -1; every byte is in one word."""
    text = " the cat, 1234 The\n"
    assert "".join(host.WORDS.findall(text.lower())) == text.lower()
    assert host.tokenize(" a cat", {" a": 3, " cat": 5}) == [3, 5]
    assert host.tokenize(" a dog", {" a": 3}) == [3, -1]


# --- collectives -------------------------------------------------------------------------------------------------


def running(pid: int) -> bool:
    """Return whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_all_collectives_share_one_group_which_ends_when_closed() -> None:
    """The second rank is one process for all cases; after `close` it is gone, and a new case starts another."""
    one, other = law("cpu", "all_reduce[ranks=2,via=host]"), law("cpu", "send_recv[ranks=2,via=host]")
    with one.prepare(one.cases[0]) as call:
        call(0)
        (group,) = collectives._open.values()
        first = group.peers[0]
    with other.prepare(other.cases[0]) as call:
        call(0)
        assert group.peers == [first]
    collectives.close()
    assert first.returncode == 0
    assert not collectives._open


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see other processes")
def test_ranks_end_when_their_parent_is_killed() -> None:
    """No process is left behind by a calibration that ends without a word."""
    code = (
        "import os, signal\n"
        "from coordsim.calibration.kernels import collectives\n"
        "group = collectives.Group(2, 'gloo')\n"
        "print(group.peers[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(pid)


def test_a_rank_that_has_ended_is_named() -> None:
    """With its status: a call does not wait for it for ever; the next case has a new one."""
    collectives.close()
    one = law("cpu", "all_gather[ranks=2,via=host]")
    with one.prepare(one.cases[0]):
        (group,) = collectives._open.values()
        group.peers[0].kill()
        group.peers[0].wait()
        with pytest.raises(RuntimeError, match=r"rank 1 has ended, with status -9"):
            group.tell("go")
    with one.prepare(one.cases[0]) as call:
        assert 0 < (call(0) or 0) < 60
    assert list(collectives._open.values()) != [group]


def test_collectives_do_what_their_names_say() -> None:
    """Rank 0 holds zeros and rank 1 ones: sums are 1, what is gathered or exchanged is half of each."""
    group = collectives._group(2, "gloo")
    half = [0.0] * 4 + [1.0] * 4
    expected = {
        "all_reduce": [1.0] * 8,
        "all_gather": [0.0] * 8 + [1.0] * 8,
        "reduce_scatter": [1.0] * 4,
        "all_to_all": half,
        "send_recv": [0.0] * 8,  # rank 1 sends back what it got
    }
    assert set(expected) == set(collectives.OPERATIONS)
    for op, values in expected.items():
        group.tell(f"{op} 32 2")
        group.tell("go")
        run = rank.operation(op, 32, 0, 2, group.groups[2], "cpu")
        torch.distributed.barrier(group=group.groups[2])
        assert run().tolist() == values, op
