"""Who goes first: the order in which a replica takes in those who wait, and what a policy may not know."""

import math

import pytest

from coordsim.models.serving.kv_cache import KvCache
from coordsim.models.serving.places import Limits
from coordsim.models.serving.replica import Replica, drive
from coordsim.models.serving.request import Request
from coordsim.models.serving.waiting import Policy

from .linear_steps import LinearSteps

STEP = LinearSteps()
POLICIES: list[Policy] = ["fcfs", "shortest-prefill", "priority", "least-attained"]


def order(
    policy: Policy, waiting: list[Request], kv: KvCache | None = None, before: Request | None = None
) -> list[int]:
    """Return the order in which those who came while another was served are taken in, one at a time."""
    first = before or Request(10, 40)
    replica = Replica(STEP, kv or KvCache(math.inf), Limits(sequences=1, policy=policy))
    for request in waiting:
        request.arrived = first.arrived + 1e-3
    drive(replica, [first, *waiting])
    assert all(request.admitted >= first.ended for request in waiting)
    return sorted(range(len(waiting)), key=lambda number: waiting[number].admitted)


def mixed(outputs: list[int]) -> list[Request]:
    """Return requests that every policy orders differently, and ties among them."""
    prompts, priorities, attained = [50, 20, 90, 20, 70], [0.0, 1.0, 2.0, 2.0, 1.0], [300.0, 500.0, 0.0, 100.0, 0.0]
    found = []
    for prompt, priority, done, output in zip(prompts, priorities, attained, outputs, strict=True):
        request = Request(prompt, output)
        request.priority, request.attained = priority, done
        found.append(request)
    return found


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("fcfs", [0, 1, 2, 3, 4]),
        ("shortest-prefill", [1, 3, 0, 4, 2]),
        ("priority", [2, 3, 1, 4, 0]),
        ("least-attained", [2, 4, 3, 0, 1]),
    ],
)
def test_each_policy_takes_in_its_order(policy: Policy, expected: list[int]) -> None:
    """By coming, by tokens to prefill, by priority (higher first), by tokens served before; ties by coming."""
    assert order(policy, mixed([5] * 5)) == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_sees_the_length_of_an_output(policy: Policy) -> None:
    """Workloads that differ only in the outputs of those who wait are taken in in the same order."""
    assert order(policy, mixed([5, 5, 5, 5, 5])) == order(policy, mixed([400, 1, 30, 200, 7]))


def test_the_shortest_prefill_is_what_the_cache_does_not_have() -> None:
    """A long prompt of which all but one block is cached goes before a short one that is new."""
    for policy, expected in (("shortest-prefill", [1, 0]), ("fcfs", [0, 1])):
        replica = Replica(STEP, KvCache(math.inf), Limits(sequences=1, policy=policy))  # type: ignore[arg-type]
        before, now = Request(640, 2, path=(("a", 40),)), Request(10, 40, arrived=1.0)
        waiting = [Request(32, 2, 1.001, (("b", 2),)), Request(640, 2, 1.001, (("a", 40),))]
        drive(replica, [before, now, *waiting])
        assert sorted((0, 1), key=lambda number: waiting[number].admitted) == expected
        assert [one.hit for one in waiting] == [0, 624]


def test_who_was_preempted_goes_before_all_others() -> None:
    """When blocks run out, the last taken in goes, and comes back before one of a higher priority that came later."""
    limits = Limits(block=4, policy="priority")
    replica = Replica(LinearSteps(fixed=1.0, token=0.0, attend=0.0), KvCache(6.0, prefix=False), limits)
    one, other, third = Request(8, 10), Request(8, 8), Request(8, 1, arrived=7.5)
    third.priority = 5.0
    drive(replica, [one, other, third])
    assert other.preemptions == 1
    assert other.admitted == 10.0
    assert third.admitted >= other.admitted


def test_by_priority_the_lowest_has_to_go() -> None:
    """When blocks run out, it is not the last taken in that goes but the one of the lowest priority."""
    limits = Limits(block=4, policy="priority")
    replica = Replica(LinearSteps(fixed=1.0, token=0.0, attend=0.0), KvCache(6.0, prefix=False), limits)
    one, other = Request(8, 10), Request(8, 8)
    other.priority = 1.0
    drive(replica, [one, other])
    assert (one.preemptions, other.preemptions) == (1, 0)
    assert other.ended == 8.0
