"""The host's CPU as a finite resource, and control on a device that needs none of it."""

from typing import Any

import pytest

from coordsim.models.bounds import bounds
from coordsim.models.host import Host
from coordsim.models.network import HAND_OFF
from coordsim.models.system import System
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.profile.profile import read

from .scene import Data, fact, named, overlapped, parts, run, scene, steps, total

NODE: Data = {
    "runtime": {"preset": "ideal", "dispatch": "every-step"},
    "orchestrator": {"node": "here", "dispatch": "1 s"},
    "network": {"nodes": {"here": {"cores": 2}}},
}
TWO = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 2}}
THREE = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 3}}
LOOP = steps("w", w={"agent": "a", "repeat": 4})


def cores(number: int, busy: int = 0) -> Data:
    """Return the patch of a node."""
    return {"network": {"nodes": {"here": {"cores": number, "busy": busy}}}}


def test_bursts_wait_for_a_core() -> None:
    """Of three dispatches at once on two cores, the third waits for the first to end."""
    result = run(NODE, THREE)
    assert [total(result, task) for task in range(3)] == pytest.approx([1, 1, 2], abs=1e-5)
    assert parts(result, 2) == pytest.approx({"orchestration": 1, "queueing": 1}, abs=1e-5)
    assert {info.name for info in result.resources} >= {"nodes.here.cpu"}


def test_without_cores_nothing_waits() -> None:
    """CPU is never short where no number of cores is given."""
    result = run(NODE, THREE, {"network": {"nodes": {"here": {"cores": None}}}})
    assert [total(result, task) for task in range(3)] == pytest.approx([1, 1, 1])


def test_busy_processes_leave_a_fair_share() -> None:
    """Three of others and one of ours on two cores: twice as long; on one core beside four, five times."""
    assert total(run(NODE, cores(2, 3))) == pytest.approx(2)
    assert total(run(NODE, cores(1, 4))) == pytest.approx(5)
    assert total(run(NODE, cores(8, 7))) == pytest.approx(1)


def test_a_law_of_two_cores_counts_processes_a_core() -> None:
    """Twelve processes on eight cores slow one another down as three do on the two that the shipped law was measured on."""
    profile = {"profile": "cpu-reference"}
    two, eight = (total(run(NODE, cores(number, number * 3 // 2 - 1), profile)) for number in (2, 8))
    assert eight == pytest.approx(two)
    assert total(run(NODE, cores(8, 7), profile)) == pytest.approx(total(run(NODE, cores(2, 1), profile)))
    assert total(run(NODE, cores(8, 2), profile)) == pytest.approx(1)


def test_bursts_slow_one_another_down_only_beyond_the_cores() -> None:
    """One process of others and two bursts on two cores: the second begins beside two others, and takes 3/2."""
    result = run(NODE, TWO, cores(2, 1))
    assert [total(result, task) for task in range(2)] == pytest.approx([1, 1.5], abs=1e-5)


def test_a_profile_tells_the_slowdown() -> None:
    """A fixed piece of work beside `busy` processes over the same alone, as the law `co_run` has it."""
    law = read("cpu-reference").timing("co_run")
    alone, beside = (law.seconds({"busy": float(busy)}) for busy in (0, 2))
    result = run(NODE, cores(2, 2), {"profile": "cpu-reference"})
    assert total(result) == pytest.approx(beside / alone)
    assert beside > 1.5 * alone


def test_an_event_loop_is_slowed_down_and_slows_down() -> None:
    """One loop dispatches one step at a time, on a thread that gets its share of the cores."""
    result = run(NODE, TWO, cores(2, 3), {"orchestrator": {"concurrency": 1}})
    assert [total(result, task) for task in range(2)] == pytest.approx(
        [2, 4.5], abs=1e-5
    )  # the second beside the first
    host = System(scene(NODE), 1, 0, "none").hosts["here"]
    assert isinstance(host, Host)
    assert host.slowdown(0.0) == 1.0


BURSTS: list[tuple[str, Data, float]] = [
    ("dispatch", {}, 1.0),
    (
        "tool.execute",
        {"tools": {"t": {"latency": "3 s", "cpu": True}}, **steps("w", w={"agent": "a", "tools": {"t": 1}})},
        3.0,
    ),
    (
        "assemble prompt",
        {
            "runtime": {"state": "full"},
            "orchestrator": {"assemble": "1 ms / token"},
            "agents": {"a": {"prompt": "5000 tokens"}},
        },
        5.0,
    ),
    (
        "encode",
        {
            "runtime": {"connection": "persistent", "codec": "own", "placement": "external"},
            "serializers": {"own": {"encode": {"overhead": "2 s"}}},
        },
        4.0,
    ),
]


@pytest.mark.parametrize(("name", "patch", "seconds"), BURSTS)
def test_all_work_of_the_host_is_stretched(name: str, patch: Data, seconds: float) -> None:
    """Dispatch, tools on the CPU, prompts and codecs take twice as long beside three others on two cores, and no less alone."""
    idle, contended = run(NODE, patch), run(NODE, patch, cores(2, 3))
    assert named(idle, name) == pytest.approx(seconds)
    assert named(contended, name) == pytest.approx(2 * seconds)
    assert fact(idle, "messages") == fact(contended, "messages")
    found = bounds(scene(NODE, patch, cores(2, 3), {"network": {"loopback": "0 s"}}))
    assert found.resource("nodes.here.cpu").demand >= 2 * seconds


def test_a_tool_elsewhere_is_not_on_the_cpu() -> None:
    """Only a tool that says `cpu` is."""
    tool = {"tools": {"t": {"latency": "3 s"}}, **steps("w", w={"agent": "a", "tools": {"t": 1}})}
    assert named(run(NODE, tool, cores(2, 3)), "tool.execute") == 3


def test_pools_that_allow_cancelling_give_the_same() -> None:
    """A scenario in which something can be cancelled uses other pools, with the same times."""
    cancels = {
        "start": "race",
        "steps": {
            "race": {"fork": ["one", "two"], "join": "any", "rest": "cancel"},
            "one": {"human": "1 s"},
            "two": {"human": "1 s"},
        },
    }
    load = {
        "workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 60},
        "orchestrator": {"dispatch": {"exponential": {"mean": "1 s"}}},
    }
    plain, other = run(NODE, load, cores(2, 1)), run(NODE, load, cores(2, 1), {"workflows": {"unused": cancels}})
    times = [[total(result, task) for task in range(60)] for result in (plain, other)]
    assert times[0] == pytest.approx(times[1])


# Control on a device

SERVED: Data = {
    "runtime": {"preset": "external-orchestrator", "notification": "polling", "kv": "keep"},
    "context": {"bytes_per_token": "5 B / token"},
    "workload": {"request": "1000 tokens"},
    "orchestrator": {"node": "edge", "dispatch": "0.5 ms", "assemble": "1 us / token", "poll_interval": "10 ms"},
    "network": {
        "nodes": {"edge": {}, "pod": {}},
        "links": [{"between": ["edge", "pod"], "latency": "1 ms"}],
    },
    "agents": {"a": {"prompt": "500 tokens", "output": "20 tokens"}},
    "models": {
        "llm": {"node": "pod", "decode": "1 ms / token", "prefill": "0.1 ms / token", "tokenize": "1 us / token"}
    },
    **LOOP,
}
DEVICE = {"runtime": {"control": "device"}}
WITH_TOOL: Data = {
    "tools": {"t": {"latency": "50 ms", "node": "edge", "result": "30 tokens"}},
    **steps("w", w={"agent": "a", "repeat": 4, "tools": {"t": 1}}),
}


def test_on_the_device_nothing_lies_between_two_calls() -> None:
    """One message brings control and request; then no dispatch, poll, codec or prompt, but a decision of the device a step."""
    host, device = run(SERVED), run(SERVED, DEVICE)
    assert (fact(host, "messages"), fact(device, "messages")) == (2 * 4 + 2 * 2 * 0 + messages_of_polls(host), 1)
    assert fact(device, "bytes") == 5 * 1000 < fact(host, "bytes")
    for name in ("dispatch", "poll", "assemble prompt"):
        assert named(device, name) == 0 < named(host, name)
    assert named(device, "device dispatch") == pytest.approx(4 * 5e-6)
    assert named(device, "hand-off") == pytest.approx(HAND_OFF)
    assert parts(device)["inference"] < parts(host)["inference"] + 1e-9
    assert fact(device, "new_tokens") == fact(host, "new_tokens")
    assert total(device) < total(host)


def messages_of_polls(result: Result) -> float:
    """Return the messages of polls that found nothing: two for each tick of 10 ms but the last of a call."""
    return fact(result, "messages") - 8


def test_what_cannot_live_there_leaves_it_and_comes_back() -> None:
    """A tool costs its messages and a hand-off each way; one that can live on the device costs neither."""
    away = run(SERVED, WITH_TOOL, DEVICE, {"runtime": {"notification": "event"}})
    assert fact(away, "messages") == 1 + 2 * 4
    assert named(away, "hand-off") == pytest.approx((1 + 2 * 4) * HAND_OFF)
    inside = run(SERVED, WITH_TOOL, DEVICE, {"tools": {"t": {"node": "pod", "device": True}}})
    assert fact(inside, "messages") == 1
    assert named(inside, "hand-off") == pytest.approx(HAND_OFF)


def test_people_are_asked_from_the_host() -> None:
    """Control leaves the device for a person and comes back for the next step."""
    flow = steps("w", w={"agent": "a", "next": "h"}, h={"human": "1 s", "next": "v"}, v={"agent": "a"})
    assert named(run(SERVED, flow, DEVICE), "hand-off") == pytest.approx(3 * HAND_OFF)


def test_two_servers_are_two_devices() -> None:
    """From one to the other control leaves one device and enters the next."""
    flow = steps("w", w={"agent": "a", "next": "v"}, v={"agent": "b"})
    two = {"agents": {"b": {"model": "other"}}, "models": {"other": {"kind": "llm", "node": "pod"}}}
    assert named(run(SERVED, two, flow, DEVICE), "hand-off") == pytest.approx(3 * HAND_OFF)


def test_bounds_know_the_device() -> None:
    """The time of a task that is alone is what the simulator gives it, by category."""
    for patch in ({}, WITH_TOOL):
        event = {"runtime": {"notification": "event"}}
        world = (SERVED, patch, DEVICE, event)
        alone = {name: seconds for name, seconds in bounds(scene(*world)).times.items() if seconds}
        assert alone == pytest.approx(parts(run(*world)), rel=1e-6)


# Host CPU interference: a closed loop of short steps


def throughput(busy: int, *patches: Data, control: str = "host") -> float:
    """Return the steps per second of two users' loops on two cores beside `busy` processes.

    Dispatch is the measured super-step of an agent framework; the slowdown is the shipped law `co_run`.
    """
    world: Data = {
        "profile": "cpu-reference",
        "runtime": {"preset": "agent-native", "dispatch": "every-step", "connection": "in-process", "control": control},
        "workload": {"arrivals": {"closed": {"users": 2, "think": "0 s"}}, "tasks": 20},
        "orchestrator": {"node": "here", "dispatch": "0.5 ms"},
        "models": {"llm": {"node": "here", "concurrency": 2, "overhead": "0.2 ms"}},
        "network": {"nodes": {"here": {"cores": 2, "busy": busy}}},
        **steps("w", w={"agent": "a", "repeat": 200}),
    }
    result = run(world, *patches, spans="none")
    return float(result.fact("steps").sum() / result.rows[:, 3].max())


@pytest.mark.parametrize("dispatch", ["0.25 ms", "0.5 ms", "0.75 ms"])
def test_interference_slows_the_host_and_spares_the_device(dispatch: str) -> None:
    """Beside two busy processes a core, a loop driven by the host falls to 0.25 to 0.6; one on the device stays.

    Source of the dispatch: a super-step of LangGraph (0.5 ms, here also half less and half more); of the slowdown: `co_run` of
    the shipped profile, beyond two processes extrapolated. The model's 0.2 ms a step are a small one's, assumed. Half or half
    again as many processes: less or more is lost (beside one a core, to 0.65 to 0.71 only).
    """
    given = {"orchestrator": {"dispatch": dispatch}}
    alone = throughput(0, given)
    shares = [throughput(busy, given) / alone for busy in (2, 4, 6)]
    assert 1 > shares[0] > shares[1] > shares[2]
    assert 0.25 <= shares[1] <= 0.6
    device = throughput(0, given, control="device")
    assert throughput(4, given, control="device") == pytest.approx(device, rel=0.03)
    assert device > alone


def test_the_longer_the_host_works_the_more_it_loses() -> None:
    """Its share of a step decides: with half, as measured, and half again of the dispatch, the fall is deeper each time."""
    shares = []
    for dispatch in ("0.25 ms", "0.5 ms", "0.75 ms"):
        given = {"orchestrator": {"dispatch": dispatch}}
        shares.append(throughput(2, given) / throughput(0, given))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


# Speculation

THINKS: Data = {
    "models": {"llm": {"overhead": "4 s"}},
    "tools": {"t": {"latency": "3 s"}},
    **steps("w", w={"agent": "a", "repeat": 50, "tools": {"t": 1}}),
}


def guessing(accuracy: str, lead: str = "50 %", **patch: Any) -> Result:
    """Run turns of 4 s of thought and a tool of 3 s, of which a guess starts the tool early."""
    speculation = {"accuracy": accuracy, "lead": lead}
    return run(
        THINKS,
        {"runtime": {"preset": "ideal", "tools": "speculated"}, "orchestrator": {"speculation": speculation}},
        patch,
    )


def test_a_right_guess_hides_the_tool_behind_the_model() -> None:
    """Two of its three seconds with half of a call's lead, all with a whole one; what is hidden is overlapped work."""
    half, whole = guessing("100 %"), guessing("100 %", "100 %")
    assert (total(half), overlapped(half)) == pytest.approx((50 * (4 + 1), 50 * 2))
    assert (total(whole), overlapped(whole)) == pytest.approx((50 * 4, 50 * 3))
    assert fact(half, "wrong_guesses") == 0


def test_a_wrong_guess_costs_work_and_no_time() -> None:
    """It ran for two seconds beside the model each time, and the tool runs all the same."""
    wrong, never = guessing("0 %"), run(THINKS)
    assert total(wrong) == total(never) == 50 * 7
    assert overlapped(wrong) == pytest.approx(50 * 2)
    assert (fact(wrong, "wrong_guesses"), fact(wrong, "tool_calls")) == (50, 50)


def test_more_right_guesses_save_more() -> None:
    """The more accurate, the sooner over; of 50 guesses about as many are right as the accuracy says."""
    results = [guessing(f"{share} %") for share in (0, 30, 60, 90)]
    times = [total(result) for result in results]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]
    for result, time in zip(results, times, strict=True):
        assert time == pytest.approx(50 * 7 - 2 * (50 - fact(result, "wrong_guesses")))


@pytest.mark.parametrize("number", [1, 3])
def test_guesses_are_work_for_the_tool_too(number: int) -> None:
    """A tool with servers of its own does the work of right and wrong guesses, and those who come later wait for it."""
    load: Data = {
        "workload": {"arrivals": {"poisson": "0.005 / s"}, "tasks": 30},
        "tools": {"t": {"concurrency": number}},
    }
    result = guessing("50 %", **load)
    pool = [info.name for info in result.resources].index("tools.t")
    busy = result.snapshots[-1].resources[pool][0]
    wrong = sum(fact(result, "wrong_guesses", task) for task in range(30))
    assert busy == pytest.approx(30 * 50 * 3 + 2 * wrong, rel=1e-3)  # a last wrong guess may run on


def test_a_guess_is_of_overlapped_calls_the_first() -> None:
    """Of two at once, the longer is the second: nothing is gained; alone it is."""
    two: Data = {
        "tools": {"t": {"latency": "1 s"}, "u": {"latency": "3 s"}},
        **steps(
            "w", w={"agent": "a", "calls": 2, "tools": {"markov": {"start": {"t": 1}, "t": {"u": 1}, "u": {"end": 1}}}}
        ),
    }
    assert total(guessing("100 %", **two)) == total(
        run(THINKS, two, {"runtime": {"preset": "ideal", "tools": "overlapped"}})
    )


def test_contradictions_are_refused() -> None:
    """Busy processes on no number of cores; a tool on the CPU and on the device."""
    with pytest.raises(ScenarioError, match="needs `cores`"):
        scene(NODE, {"network": {"nodes": {"here": {"cores": None, "busy": 2}}}})
    with pytest.raises(ScenarioError, match="contradicts"):
        scene(NODE, {"tools": {"t": {"latency": "1 s", "cpu": True, "device": True}}})
