"""The leaping replica against a server that goes through every iteration, and against laws that hold for any server."""

import math
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.serving.kernel_steps import KernelSteps
from coordsim.models.serving.kv_cache import KvCache, Tier
from coordsim.models.serving.places import Limits, Transfers
from coordsim.models.serving.replica import Replica, drive
from coordsim.models.serving.request import CARRY, INFER, LOAD, QUEUE, Request
from coordsim.models.serving.waiting import Policy
from coordsim.models.shapes import preset
from coordsim.models.transformer import IterationTime
from coordsim.sim.profile.profile import read

from .linear_steps import LinearSteps
from .stepper import Stepper

STEP = LinearSteps(skew=1e-6)
TOLERANCE = 1e-9  # relative: both add up the same terms, in another order


@st.composite
def workloads(draw: st.DrawFn) -> list[dict[str, object]]:
    """Requests in order of arrival: bursts and gaps, short and long, some with a prefix in common."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    count = draw(st.integers(1, 40))
    gap = draw(st.sampled_from([0.0, 0.003, 0.03, 0.3]))
    longest = draw(st.sampled_from([5, 60, 400]))
    gaps = rng.exponential(gap, count) if gap else np.zeros(count)
    found: list[dict[str, object]] = []
    for number, arrived in enumerate(accumulate(gaps.tolist())):
        prompt, output = int(rng.integers(1, longest + 1)), int(rng.integers(1, longest + 1))
        shared = int(rng.integers(0, 3))
        common = min(prompt // 4, int(rng.integers(0, 30)))
        path = ((("prompt", shared), common), (("task", number % 7), prompt // 4 - common))
        found.append({
            "prompt": prompt, "output": output, "arrived": arrived, "path": path, "carried": int(rng.integers(0, prompt + 1)),
            "factor": float(rng.choice([1.0, 0.9, 1.3])),
            "priority": float(rng.integers(0, 3)), "attained": float(rng.integers(0, 5)),
        })  # fmt: skip
    return found


@st.composite
def servers(draw: st.DrawFn) -> tuple[Limits, float, bool]:
    """Limits, blocks of KV, and whether prefixes are shared."""
    limits = Limits(
        sequences=draw(st.sampled_from([1, 2, 5, 64])),
        tokens=draw(st.sampled_from([64, 100, 512])),
        block=4,
        policy=draw(st.sampled_from(["fcfs", "shortest-prefill", "priority", "least-attained"])),
        host_step=draw(st.sampled_from([0.0, 1e-3])),
        host_token=draw(st.sampled_from([0.0, 1e-4])),
    )
    return limits, draw(st.sampled_from([210.0, 300.0, 600.0, math.inf])), draw(st.booleans())


def made(workload: list[dict[str, object]]) -> list[Request]:
    """Return fresh requests."""
    found = []
    for row in workload:
        priority, attained = row["priority"], row["attained"]
        request = Request(**{name: value for name, value in row.items() if name not in ("priority", "attained")})  # type: ignore[arg-type]
        request.priority, request.attained = priority, attained  # type: ignore[assignment]
        found.append(request)
    return found


@settings(max_examples=300, deadline=None, derandomize=True)
@given(workloads(), servers())
def test_leaping_is_stepping(workload: list[dict[str, object]], server: tuple[Limits, float, bool]) -> None:
    """Every request is admitted, answers and ends when the plain server says, with the same hits and preemptions."""
    limits, blocks, prefix = server
    ours, theirs = made(workload), made(workload)
    leaping = Replica(STEP, KvCache(blocks, prefix=prefix), limits)
    drive(leaping, ours)
    stepping = Stepper(STEP, KvCache(blocks, prefix=prefix), limits)
    stepping.run(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("admitted", "first_token", "ended"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=TOLERANCE, abs=1e-12), name
        for name in ("hit", "preemptions", "recomputed", "generated"):
            assert getattr(one, name) == getattr(other, name), name
    assert leaping.tally.iterations == stepping.iterations
    leaping.kv.check()


# Laws that hold for any server


def alone(step: LinearSteps, prompt: int, output: int) -> float:
    """Return the seconds that a request takes on an empty server."""
    return step.iteration([(prompt, 0)], 0, 0.0, 0.0) + step.run(1, prompt + 1.0, prompt + 1.0, output - 1)


def poisson(seed: int, rate: float, count: int, prompt: int = 80, output: int = 12) -> list[Request]:
    """Return equal requests that arrive at random."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    return [Request(prompt, output, arrived) for arrived in arrivals.tolist()]


@pytest.mark.parametrize("load", [0.4, 0.8])
def test_a_batch_of_one_is_a_queue_with_one_server(load: float) -> None:
    """Every request starts when it has come and the one before has ended (Lindley, 1952)."""
    service = alone(STEP, 80, 12)
    requests = poisson(1, load / service, 1000)
    drive(Replica(STEP, KvCache(math.inf), Limits(sequences=1)), requests)
    free = 0.0
    for request in requests:
        start = max(request.arrived, free)
        free = start + service
        assert request.admitted == pytest.approx(start, rel=TOLERANCE)
        assert request.ended == pytest.approx(free, rel=TOLERANCE)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_the_mean_wait_of_a_batch_of_one_is_that_of_m_d_1(load: float) -> None:
    """Thirty replications bracket rho s / (2 (1 - rho)) within their 99.9 % interval (Kleinrock, Queueing Systems I, 5.6)."""
    service = alone(STEP, 80, 12)
    means = []
    for seed in range(30):
        requests = poisson(seed, load / service, 1500)
        drive(Replica(STEP, KvCache(math.inf), Limits(sequences=1)), requests)
        means.append(np.mean([request.admitted - request.arrived for request in requests[200:]]))
    half = 3.659 * np.std(means, ddof=1) / math.sqrt(len(means))  # Student's t, 29 degrees of freedom
    assert abs(np.mean(means) - load * service / (2 * (1 - load))) < half
    assert half < 0.2 * np.mean(means)  # else the interval would say little


def covered(intervals: list[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    seconds, until = 0.0, -math.inf
    for start, end in sorted(intervals):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(workloads(), servers(), st.booleans())
def test_work_is_conserved(
    workload: list[dict[str, object]], server: tuple[Limits, float, bool], chunked: bool
) -> None:
    """Whatever the policy, the device is busy exactly while somebody is there, and makes each token that was asked for."""
    limits, blocks, prefix = server
    requests = made(workload)
    replica = Replica(STEP, KvCache(blocks, prefix=prefix), replace(limits, chunked=chunked))
    drive(replica, requests)
    assert replica.tally.busy == pytest.approx(covered([(one.arrived, one.ended) for one in requests]), rel=1e-9)
    assert replica.tally.generated == sum(one.output for one in requests)
    assert replica.tally.sequence_seconds <= replica.tally.busy * limits.sequences * (1 + 1e-12)
    computed = sum(one.prompt - one.hit for one in requests)
    assert replica.tally.prefilled >= computed
    if not any(one.preemptions for one in requests):
        assert replica.tally.prefilled == computed


@pytest.mark.parametrize("policy", ["fcfs", "shortest-prefill", "priority", "least-attained"])
def test_one_at_a_time_all_policies_do_the_same_work(policy: Policy) -> None:
    """The busy seconds are the sum of the services, in whatever order they are given."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(2, 300, (60, 2)).tolist()
    requests = [Request(prompt, output, 0.05 * number) for number, (prompt, output) in enumerate(sizes)]
    for request in requests:
        request.priority, request.attained = rng.integers(0, 3, 2).tolist()
    replica = Replica(STEP, KvCache(math.inf), Limits(sequences=1, policy=policy))
    drive(replica, requests)
    assert replica.tally.busy == pytest.approx(sum(alone(STEP, prompt, output) for prompt, output in sizes), rel=1e-9)


def test_no_iteration_beats_the_memory() -> None:
    """On an H100 no iteration ends before the weights have been read once, and no token comes faster than that."""
    profile, shape = read("h100-sxm"), preset("llama-3.1-8b")
    assert profile.device is not None
    assert profile.device.memory_bandwidth is not None
    floor = shape.layer_weight_bytes("bf16", 1.0) / profile.device.memory_bandwidth
    assert 0.003 < floor < 0.005  # 14 GB at 3.35 TB/s
    replica = Replica(KernelSteps(IterationTime(profile, shape)), KvCache(30_000.0), Limits())
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 400, (40, 2)).tolist()
    requests = [Request(prompt, output, 0.01 * number) for number, (prompt, output) in enumerate(sizes)]
    drive(replica, requests)
    assert replica.tally.busy >= floor * replica.tally.iterations
    assert all(one.ttft >= floor for one in requests)
    assert all(one.tpot >= floor for one in requests if one.output > 1)


# Blocks


def replay(replica: Replica, requests: list[Request], cancels: list[tuple[float, int]]) -> None:
    """Run a replica over requests of which some are cancelled, and count every block at every boundary."""
    events = [(request.arrived, 0, number) for number, request in enumerate(requests)]
    events += [(max(when, requests[number].arrived), 1, number) for when, number in cancels]
    for when, kind, number in [*sorted(events), (math.inf, 2, 0)]:
        while replica.next_time < when:
            now = replica.next_time
            replica.wake(now)
            leases = [one.lease for one in requests if one.lease is not None]
            replica.kv.check([*leases, replica.common])
            replica.begin(now)
            leases = [one.lease for one in requests if one.lease is not None]
            replica.kv.check([*leases, replica.common])
        request = requests[number]
        if kind == 0:
            replica.submit(request, when)
        elif kind == 1 and math.isnan(request.ended) and not request.cancelled:
            replica.cancel(request, when)


@st.composite
def memories(draw: st.DrawFn) -> tuple[KvCache, tuple[Transfers, ...]]:
    """KV memory that is scarce or not, with a tier below it or two, and the ways to them."""
    tiers = [Tier("host", 40.0), Tier("remote", 60.0)][: draw(st.integers(0, 2))]
    links = (Transfers(1e4), Transfers(2e3, 1e-3))[: max(1, len(tiers))]
    blocks = draw(st.sampled_from([205.0, 240.0, 600.0]))
    ttl = draw(st.sampled_from([None, 0.05]))
    return KvCache(blocks, prefix=draw(st.booleans()), ttl=ttl, tiers=tiers), links


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(workloads(), servers(), memories(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_blocks_are_conserved(
    workload: list[dict[str, object]],
    server: tuple[Limits, float, bool],
    memory: tuple[KvCache, tuple[Transfers, ...]],
    chunked: bool,
    swap: bool,
    seed: int,
) -> None:
    """With cancellations, preemptions, swaps and lower tiers, no block is lost or held twice, and in the end none is in use.

    Everybody who was not cancelled has all of its tokens, and its phases follow one another from when it came to its end.
    """
    (kv, links), rng = memory, np.random.default_rng(seed)
    limits = replace(server[0], chunked=chunked, preemption="swap" if swap else "recompute")
    requests = made(workload)
    last = requests[-1].arrived + 1.0
    cancels = [(float(rng.uniform(0.0, last)), number) for number in range(len(requests)) if rng.random() < 0.3]
    replica = Replica(STEP, kv, limits, links=links, kv_bytes=1.0)
    replay(replica, requests, cancels)
    assert kv.used == 0
    assert replica.outstanding == 0
    assert [*replica.running, *replica.loading, *replica.prefilling] == []
    assert replica.batch.count == 0
    for request in requests:
        assert request.lease is None
        if request.cancelled:
            continue
        assert request.generated == request.output
        ends = [end for _, end in request.phases]
        assert ends == sorted(ends)
        assert ends[0] >= request.arrived
        assert ends[-1] == request.ended
        assert request.admitted <= request.ended
        assert request.arrived < request.first_token <= request.ended


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(workloads(), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_who_is_cancelled_in_line_was_never_there(workload: list[dict[str, object]], sequences: int, seed: int) -> None:
    """With blocks enough, a request cancelled before it was taken in changes nothing for the others, first come first served."""
    rng = np.random.default_rng(seed)
    limits = Limits(sequences=sequences, tokens=512, block=4)
    requests = made(workload)
    cancels = [(one.arrived + float(rng.exponential(0.1)), n) for n, one in enumerate(requests) if rng.random() < 0.4]
    replay(Replica(STEP, KvCache(math.inf), limits), requests, cancels)
    waited = {number for _, number in cancels if math.isnan(requests[number].admitted)}
    others = made([row for number, row in enumerate(workload) if number not in waited])
    again = [(when, number - sum(one < number for one in waited)) for when, number in cancels if number not in waited]
    replay(Replica(STEP, KvCache(math.inf), limits), others, again)
    stayed = [one for number, one in enumerate(requests) if number not in waited]
    for one, other in zip(stayed, others, strict=True):
        for name in ("admitted", "first_token", "ended"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=TOLERANCE, nan_ok=True)


def test_a_cancelled_request_leaves_its_place_at_the_end_of_the_iteration() -> None:
    """Who runs is cancelled in the middle of an iteration: the one who waits takes its place and its blocks at the next."""
    step = LinearSteps(fixed=1.0, token=0.0, attend=0.0)
    replica = Replica(step, KvCache(10.0), Limits(sequences=1))
    one, other = Request(16, 100), Request(160, 1, arrived=0.5)
    replay(replica, [one, other], [(2.5, 0)])
    assert other.admitted == 3.0
    assert other.ended == 4.0
    assert math.isnan(one.ended)
    assert one.generated == 3


# Kinds of prefill


def test_a_prompt_that_is_not_chunked_has_an_iteration_of_its_own() -> None:
    """The others stand still while it is computed, in one piece, also where it is longer than the budget of tokens."""
    replica = Replica(STEP, KvCache(math.inf), Limits(tokens=64, chunked=False))
    one, other = Request(40, 50), Request(500, 2, arrived=0.1)
    drive(replica, [one, other])
    prompt = STEP.iteration([(500, 0)], 0, 0.0, 0.0)
    assert other.first_token == pytest.approx(other.admitted + prompt, rel=TOLERANCE)
    first = STEP.iteration([(40, 0)], 0, 0.0, 0.0)
    decoded = next(n for n in range(1, 50) if first + STEP.run(1, 41.0, 41.0, n) >= 0.1)
    assert other.admitted == pytest.approx(first + STEP.run(1, 41.0, 41.0, decoded), rel=TOLERANCE)
    length = 41.0 + decoded  # of the first request, its next token included
    both = STEP.run(2, length + 501.0, 501.0, 1)
    assert other.ended == pytest.approx(other.first_token + both, rel=TOLERANCE)
    rest = 49 - decoded - 1
    assert one.ended == pytest.approx(other.ended + STEP.run(1, length + 1, length + 1, rest), rel=TOLERANCE)


def test_a_chunked_prompt_shares_its_iterations() -> None:
    """A prompt longer than the budget goes in pieces, each beside the tokens of those who decode."""
    replica = Replica(STEP, KvCache(math.inf), Limits(tokens=64, sequences=4))
    one, other = Request(40, 50), Request(100, 1, arrived=1e-4)
    drive(replica, [one, other])
    first = STEP.iteration([(40, 0)], 0, 0.0, 0.0)
    second = STEP.iteration([(63, 0)], 1, 41.0, 41.0)
    third = STEP.iteration([(37, 63)], 1, 42.0, 42.0)
    assert other.admitted == pytest.approx(first, rel=TOLERANCE)
    assert other.ended == pytest.approx(first + second + third, rel=TOLERANCE)
    assert one.ended == pytest.approx(other.ended + STEP.run(1, 43.0, 43.0, 47), rel=TOLERANCE)


def test_carried_tokens_take_their_share_of_the_prefill() -> None:
    """Of each chunk the share of tokens that were processed before is carried work, then comes all else."""
    replica = Replica(STEP, KvCache(math.inf), Limits(tokens=100, sequences=4))
    request = Request(150, 5, carried=120)
    drive(replica, [request])
    chunks = [STEP.iteration([(100, 0)], 0, 0.0, 0.0), STEP.iteration([(50, 100)], 0, 0.0, 0.0)]
    assert [kind for kind, _ in request.phases] == [QUEUE, CARRY, INFER]
    assert request.phases[0][1] == 0.0
    assert request.phases[1][1] == pytest.approx(chunks[0] + chunks[1] * 20 / 50, rel=TOLERANCE)
    assert request.recomputed == 120
    assert replica.tally.recomputed == 120


# Preemption, and tiers


def pressed(preemption: str, bandwidth: float = 1e3) -> tuple[Replica, Request, Request]:
    """Return two requests on a server whose blocks do not last for both to their ends."""
    step = LinearSteps(fixed=1.0, token=0.0, attend=0.0)
    limits = Limits(block=4, preemption=preemption)  # type: ignore[arg-type]
    replica = Replica(step, KvCache(6.0, prefix=False), limits, links=(Transfers(bandwidth, 0.25),), kv_bytes=10.0)
    one, other = Request(8, 10), Request(8, 8)
    drive(replica, [one, other])
    return replica, one, other


def test_swapping_computes_nothing_again_and_costs_the_transfer() -> None:
    """Each has 2 blocks and grows by one every 4 tokens: the second goes after 4 tokens more, and comes back with 12 tokens.

    The first ends at 10 s, when the KV of 12 tokens, 10 bytes each, is fetched at 100 bytes/s.
    """
    replica, one, other = pressed("swap", 100.0)
    assert one.ended == 10.0
    assert (other.preemptions, other.recomputed, replica.tally.prefilled) == (1, 0, 16)
    assert replica.tally.iterations == 10 + 3
    assert list(other.phases[-3:]) == [(QUEUE, 10.0), (LOAD, pytest.approx(11.45)), (INFER, pytest.approx(14.45))]
    assert other.ended == pytest.approx(10.0 + 0.25 + 120 / 100 + 3)


def test_recomputing_prefills_all_that_was_there() -> None:
    """The second comes back when the first has ended, and its 12 tokens and the one under way are computed once more."""
    replica, one, other = pressed("recompute")
    assert one.ended == 10.0
    assert (other.preemptions, other.recomputed, replica.tally.prefilled) == (1, 12, 16 + 13)
    assert other.ended == 10.0 + 1 + 2
    assert list(other.phases[-2:]) == [(CARRY, pytest.approx(10 + 12 / 13)), (INFER, 13.0)]


def test_what_lies_in_a_lower_tier_comes_back_by_its_link() -> None:
    """A prompt of 10 blocks of which 9 were pushed out to the host: they are loaded, and only the last is computed."""
    step = LinearSteps(fixed=1.0, token=0.0, attend=0.0)
    kv = KvCache(10.0, tiers=[Tier("host", 20.0)])
    replica = Replica(step, kv, Limits(block=4), links=(Transfers(180.0),), kv_bytes=10.0)
    path = (("a", 10),)
    one = Request(40, 1, path=path)
    other = Request(40, 1, arrived=5.0, path=(("b", 10),))
    again = Request(40, 1, arrived=10.0, path=path, carried=40)
    drive(replica, [one, other, again])
    assert again.hit == 36
    assert replica.tally.fetched == 36
    assert (again.recomputed, again.ended) == (4, 10.0 + 36 * 10 / 180 + 1)
    assert [kind for kind, _ in again.phases] == [QUEUE, LOAD, CARRY, INFER]


def test_what_is_computed_twice_pushes_nothing_out() -> None:
    """Two equal prompts side by side hold their blocks once from the end of their prefill on: what was cached is still there."""
    after = [Request(20, 1, 2.0, path=(("x", 4),)) for _ in range(2)]
    twins = [[Request(12, 9, 1.0, path=(("a", 3),)) for _ in range(2)] for _ in range(2)]
    before = [Request(16, 1, path=(("x", 4),)) for _ in range(2)]
    drive(Replica(STEP, KvCache(12.0), Limits(block=4)), [before[0], *twins[0], after[0]])
    Stepper(STEP, KvCache(12.0), Limits(block=4)).run([before[1], *twins[1], after[1]])
    assert [request.hit for request in after] == [16, 16]
