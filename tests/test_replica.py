"""The leaping replica against a server that goes through every iteration, and against laws that hold for any server."""

import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.replica import Limits, Replica, drive
from coordsim.models.serving.request import CARRY, INFER, QUEUE, Request

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
