"""Bands that others have published about runtimes, met by mechanism: their inputs come from named sources, and are varied.

Two bands. Beside other processes on the host's cores, a loop driven by the host falls to 0.25 to 0.6 of its throughput, and
one on the device stays within 3 %. And a native runtime gains nothing where a task has no more than one interaction, and
more the more there are.

What the first says depends on the share h of a step that is the host's, and on the slowdown s of its work: throughput falls to
1 / (1 + h (s - 1)). So the band holds, beside two busy processes a core, for small models, for engines that spend milliseconds,
and for kernels launched one by one. A 1B model at 64 sequences behind an engine of 2026 needs three a core. And it does not
hold for 8B behind that engine with replayed graphs, whose host is 4 % to 9 % of a step.

Source of the host's time per iteration: engines of the vLLM kind, 2.1 ms at 8 and 8.0 ms at 64 sequences in 2024; 0.1 ms and
tens of microseconds a sequence in 2026, here 30. Of a launch: the profile's law `launch`. Of the slowdown: the law `co_run` of the
shipped profile, a machine with two cores, measured beside up to two busy processes and extrapolated beyond. Of a dispatch: 0.5 ms,
a super-step of LangGraph. That such falls are seen: arXiv 2603.22774 (2026), where too few cores make a first token 1.4 to 5.4
times as late.
Leaves out: persistent sessions against stateless HTTP; the ladder of boundaries, in test_boundaries.py.
"""

from functools import cache
from typing import Any

import pytest

from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result
from coordsim.sim.profile.profile import read

from .scene import Data, named, run, steps
from .test_scenarios import shipped

# Seconds of the host per iteration, and in it per sequence.
ENGINES = {"2024": (1.257e-3, 0.1054e-3), "2026": (0.1e-3, 0.03e-3)}
MACHINE: Data = {"profile": ["h100-sxm", "cpu-reference"]}
LEAST, MOST = 0.25, 0.6
NEAR = 0.03


def slowdown(busy: int) -> float:
    """Return how much slower the host's work is beside busy processes on its two cores."""
    law = read("cpu-reference").timing("co_run")
    return law.seconds({"busy": float(busy)}) / law.seconds({"busy": 0.0})


# -- Busy cores: the loop of an engine

Setup = tuple[str, int, str, str]  # model, sequences at once, engine, launch
EAGER: Setup = ("llama-3.1-8b", 8, "2026", "eager")
HOST_BOUND: list[Setup] = [("llama-3.2-1b", 8, "2024", "graph"), ("llama-3.2-1b", 64, "2024", "graph"), EAGER]
BETWEEN: Setup = ("llama-3.2-1b", 64, "2026", "graph")
DEVICE_BOUND: list[Setup] = [("llama-3.1-8b", 8, "2026", "graph"), ("llama-3.1-8b", 64, "2026", "graph")]
ALL = [*HOST_BOUND, BETWEEN, *DEVICE_BOUND]


@cache
def tokens_per_second(setup: Setup, busy: int, control: str = "host", scale: float = 1.0) -> float:
    """Return the throughput of users who each wait for an answer of 60 tokens and ask again; `scale` is of the host's times."""
    shape, users, engine, launch = setup
    step, token = (f"{1e6 * scale * seconds:.3f} us" for seconds in ENGINES[engine])
    model = {"shape": shape, "node": "here", "launch": launch, "cache": {"prefix": False}}
    world: Data = {
        "runtime": {"preset": "ideal", "control": control},
        "workload": {
            "arrivals": {"closed": {"users": users, "think": "0 s"}},
            "tasks": 2 * users,
            "request": "500 tokens",
        },
        "agents": {"a": {"output": "60 tokens"}},
        "models": {"llm": {**model, "batching": {"host_step": step, "host_token": token}}},
        "orchestrator": {"node": "here"},
        "network": {"nodes": {"here": {"cores": 2, "busy": busy}}},
    }
    result = run(MACHINE, world, spans="none")
    return float(result.fact("output_tokens").sum() / result.rows[:, 3].max())


def falls_to(setup: Setup, busy: int, scale: float = 1.0) -> float:
    """Return the share of its throughput that an engine keeps beside busy processes."""
    return tokens_per_second(setup, busy, scale=scale) / tokens_per_second(setup, 0, scale=scale)


@pytest.mark.parametrize("setup", HOST_BOUND, ids=str)
def test_an_engine_on_busy_cores_falls_into_the_band(setup: Setup) -> None:
    """Beside two busy processes a core it keeps 0.25 to 0.6; beside half as many more, beside half again as many less."""
    shares = [falls_to(setup, busy) for busy in (2, 4, 6)]
    assert LEAST <= shares[1] <= MOST
    assert 1 > shares[0] > shares[1] > shares[2]


def test_a_small_model_behind_a_quick_engine_needs_a_busier_host() -> None:
    """Of 1B at 64 sequences the host of 2026 is a third of a step: the band is reached beside three processes a core."""
    assert LEAST <= falls_to(BETWEEN, 6) <= MOST < falls_to(BETWEEN, 2)


def test_launching_each_kernel_falls_into_the_band_within_what_was_measured() -> None:
    """One busy process a core, as far as `co_run` was measured, is enough for an engine that launches kernels one by one."""
    assert LEAST <= falls_to(EAGER, 2) <= MOST


@pytest.mark.parametrize("setup", [*HOST_BOUND[:2], BETWEEN], ids=str)
def test_the_more_the_host_does_the_more_it_loses(setup: Setup) -> None:
    """Half of the host's times make the fall shallower, half again as much deeper."""
    half, whole, more = (falls_to(setup, 4, scale) for scale in (0.5, 1.0, 1.5))
    assert half > whole > more


@pytest.mark.parametrize("setup", ALL, ids=str)
def test_an_engine_on_the_device_does_not_feel_the_cores(setup: Setup) -> None:
    """Within 3 % beside four busy processes, and faster than the host's even beside none."""
    alone = tokens_per_second(setup, 0, "device")
    assert tokens_per_second(setup, 4, "device") == pytest.approx(alone, rel=NEAR)
    assert alone > tokens_per_second(setup, 0)


@pytest.mark.parametrize("setup", [one for one in ALL if one is not EAGER], ids=str)
def test_the_hosts_share_of_a_step_tells_the_fall(setup: Setup) -> None:
    """With the share that control on the device takes off, and the law's slowdown: 1 / (1 + share (slowdown - 1))."""
    share = 1 - tokens_per_second(setup, 0) / tokens_per_second(setup, 0, "device")
    for busy in (2, 4, 6):
        assert falls_to(setup, busy) == pytest.approx(1 / (1 + share * (slowdown(busy) - 1)), rel=0.02)


def test_launches_hide_behind_kernels_until_they_take_longer() -> None:
    """Launched ahead, kernels run one after the other: the host is felt once it is the slower of both, and then in full."""
    assert falls_to(EAGER, 6) / falls_to(EAGER, 2) == pytest.approx(slowdown(2) / slowdown(6), rel=0.05)


@pytest.mark.parametrize("setup", DEVICE_BOUND, ids=str)
def test_a_large_model_hides_a_quick_host(setup: Setup) -> None:
    """Of 8B with replayed graphs and an engine of 2026 the host is too little of a step for the band, even beside six."""
    assert falls_to(setup, 6) > MOST


# -- Busy cores: the loop of an agent


@cache
def steps_per_second(busy: int, control: str = "host", scale: float = 1.0, engine: str = "2024", **patch: str) -> float:
    """Return the throughput of the shipped loop of short steps; `scale` is of the host's times, dispatch and engine."""
    step, token = (f"{1e6 * scale * seconds:.3f} us" for seconds in ENGINES[engine])
    scenario = shipped(
        "gpu-resident",
        16,
        runtime="gpu-resident" if control == "device" else "{preset: agent-native, dispatch: every-step}",
        network__nodes__server__busy=str(busy),
        models__llm__batching__host_step=step,
        models__llm__batching__host_token=token,
        orchestrator__dispatch=f"{500 * scale} us",
        **patch,
    )
    result = simulate(scenario)
    return float(result.fact("steps").sum() / result.rows[:, 3].max())


def test_an_agents_loop_on_busy_cores_falls_into_the_band() -> None:
    """Beside two busy processes a core, dispatch and engine on the host; beside half as many more, beside half again less."""
    shares = [steps_per_second(busy) / steps_per_second(0) for busy in (2, 4, 6)]
    assert LEAST <= shares[1] <= MOST
    assert 1 > shares[0] > shares[1] > shares[2]
    half, more = (steps_per_second(4, scale=scale) / steps_per_second(0, scale=scale) for scale in (0.5, 1.5))
    assert half > shares[1] > more


def test_an_agents_loop_behind_a_quicker_engine_loses_less() -> None:
    """With one of 2026 it keeps more than 0.6 beside four, and still loses a tenth beside two."""
    shares = [steps_per_second(busy, engine="2026") / steps_per_second(0, engine="2026") for busy in (2, 4)]
    assert 0.9 > shares[0] > shares[1] > MOST


@pytest.mark.parametrize("engine", ENGINES)
def test_an_agents_loop_on_the_device_does_not_feel_the_cores(engine: str) -> None:
    """Within 3 % beside four busy processes, with half and half again of the host's times too, and faster than the host's."""
    alone = steps_per_second(0, "device", engine=engine)
    for scale in (0.5, 1.0, 1.5):
        assert steps_per_second(4, "device", scale, engine) == pytest.approx(alone, rel=NEAR)
    assert alone > steps_per_second(0, engine=engine)


def test_what_cannot_live_on_the_device_feels_the_cores() -> None:
    """With a simulator of 10 ms on the host's cores the device's loop falls out of its band too."""
    tool = {"tools__simulate__device": "false", "tools__simulate__cpu": "true", "tools__simulate__latency": "10 ms"}
    shares = [
        steps_per_second(busy, "device", engine="2026", **tool) / steps_per_second(0, "device", engine="2026", **tool)
        for busy in (2, 4)
    ]
    assert 1 - NEAR > shares[0] > shares[1]


def test_summaries_are_built_on_the_callers_cores() -> None:
    """The prompt of a summary, like the agent's own, takes twice as long beside three others on two cores."""
    world: Data = {
        "runtime": {"preset": "ideal", "state": "full"},
        "orchestrator": {"node": "here", "assemble": "1 ms / token"},
        "workload": {"request": "2000 tokens"},
        "agents": {"a": {"memory": "m"}},
        "memories": {"m": {"summarize": {"above": "1000 tokens", "to": "100 tokens", "model": "llm"}}},
    }
    idle, contended = (run(world, {"network": {"nodes": {"here": {"cores": 2, "busy": busy}}}}) for busy in (0, 3))
    assert named(idle, "assemble prompt") == pytest.approx(2.0 + 0.1)
    assert named(contended, "assemble prompt") == pytest.approx(2 * (2.0 + 0.1))


# -- Interactions

TURNS = (1, 2, 4, 8, 16)
NONE = 0.02  # of T_total: what a comparison calls no saving
NATIVE = ("agent-native", "gpu-resident")
OTHERS: dict[str, Data] = {
    "stateless-api": {"preset": "stateless-api"},
    "external-orchestrator": {"preset": "external-orchestrator", "notification": "event"},
    "session-state": {"preset": "session-state"},
}


@cache
def task(runtime: str, turns: int, result: int = 600, latency: float = 0.3, polls: bool = False) -> Result:
    """Run a task of so many turns: a call of 8B, and a tool whose result the next call needs. All places are equally far.

    Laws are those of the shipped profiles; tokens and times of the tool are assumed. There is nobody else.
    """
    nodes = ("app", "gpu", "web")
    pairs = [(a, b) for place, a in enumerate(nodes) for b in nodes[place + 1 :]]
    return run(
        MACHINE,
        {
            "runtime": runtime if polls else OTHERS.get(runtime, runtime),
            "workload": {"request": "500 tokens"},
            "agents": {"a": {"prompt": "1000 tokens", "output": "60 tokens"}},
            "models": {"llm": {"shape": "llama-3.1-8b", "node": "gpu"}},
            "tools": {"t": {"latency": "200 ms", "node": "web", "result": f"{result} tokens", "response": "2 kB"}},
            "orchestrator": {"node": "app", "poll_interval": "50 ms"},
            "network": {
                "header": "1 kB",
                "nodes": {name: {} for name in nodes},
                "links": [{"between": pair, "latency": f"{latency} ms"} for pair in pairs],
            },
        },
        steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": turns}),
    )


def saving(other: str, native: str, turns: int, **given: Any) -> float:
    """Return the seconds that a native runtime saves a task."""
    before, after = task(other, turns, **given), task(native, turns, **given)
    return float(before.response_times[0] - after.response_times[0])


def share(other: str, native: str, turns: int, **given: Any) -> float:
    """Return what it saves as a share of T_total."""
    return saving(other, native, turns, **given) / float(task(other, turns, **given).response_times[0])


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("other", OTHERS)
def test_one_interaction_gains_nothing_and_more_gain_more(other: str, native: str) -> None:
    """Nil, that is within 2 %, at one turn; from there the seconds and their share of T_total grow with every turn."""
    assert 0 <= share(other, native, 1) < NONE
    seconds = [saving(other, native, turns) for turns in TURNS]
    shares = [share(other, native, turns) for turns in TURNS]
    assert seconds == sorted(seconds)
    assert shares == sorted(shares)
    assert all(turns * seconds[0] < saved for turns, saved in zip(TURNS[1:], seconds[1:], strict=True))


@pytest.mark.parametrize("other", OTHERS)
def test_at_one_interaction_no_state_is_saved(other: str) -> None:
    """Nothing is computed or read again, so what is left is one message less, with its connection and codec: the answer's."""
    before, after = task(other, 1), task("agent-native", 1)
    for category in ("inference", "context", "queueing", "orchestration", "tool"):
        assert before.category(category)[0] == pytest.approx(after.category(category)[0])
    connects = named(before, "connect")
    assert (connects > 0) == (other == "stateless-api")
    codec = float(before.category("serialization")[0] - after.category("serialization")[0])
    assert saving(other, "agent-native", 1) - codec - connects == pytest.approx(0.3e-3)


def test_polling_is_paid_per_call_and_so_gained_at_one_interaction() -> None:
    """Against an orchestrator that polls, more than 2 % is gained at one turn: its ticks, and without them nothing."""
    assert share("external-orchestrator", "agent-native", 1, polls=True) > NONE
    polling = task("external-orchestrator", 1, polls=True)
    rest = saving("external-orchestrator", "agent-native", 1, polls=True) - named(polling, "poll")
    assert rest == pytest.approx(saving("external-orchestrator", "agent-native", 1))


@pytest.mark.parametrize("other", ["stateless-api", "external-orchestrator"])
def test_state_that_is_needed_again_makes_the_gain(other: str) -> None:
    """With half or half again of what a tool adds, eight turns gain less or more; at one, where nobody needs it, the same."""
    less, same, more = (saving(other, "agent-native", 8, result=tokens) for tokens in (300, 600, 900))
    assert less < 0.8 * same
    assert 1.2 * same < more
    alone = [saving(other, "agent-native", 1, result=tokens) for tokens in (300, 600, 900)]
    assert alone == pytest.approx([alone[0]] * 3)


def test_against_sessions_a_hand_over_gains_its_crossings() -> None:
    """State is kept under both, so each turn more gains the same: two messages, their codecs and a dispatch; farther, more."""
    seconds = [saving("session-state", "agent-native", turns) for turns in TURNS]
    each = [(after - seconds[0]) / (turns - 1) for turns, after in zip(TURNS[1:], seconds[1:], strict=True)]
    assert each == pytest.approx([each[0]] * 4, rel=0.02)
    assert each[0] > 0.5e-3 + 2 * 0.3e-3
    near, far = (saving("session-state", "agent-native", 8, latency=latency) for latency in (0.15, 0.45))
    assert far - near == pytest.approx(15 * 0.3e-3)
