"""The two scenarios about runtimes answer as their comments say: what is saved, by which policy, and where nothing is."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from coordsim.models.compare import compare
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.comparison import ComparisonResult
from coordsim.sim.analysis.result import Result

from .test_scenarios import mean_of, shipped

RUNTIMES = ("stateless-api", "external-orchestrator", "session-state", "agent-native", "gpu-resident")


@cache
def ran(runtime: str, **overrides: str) -> Result:
    """Return a run of the runtime comparison's task under a runtime."""
    return simulate(shipped("runtime-comparison", 30, runtime=runtime, **overrides))


def compared(**asked: Any) -> ComparisonResult:
    """Return what the section `compare` asks for, with fewer tasks."""
    return compare(shipped("runtime-comparison", 12), **asked)


def mean_time(result: Result) -> float:
    """Return mean T_total (s)."""
    return float(result.response_times.mean())


# -- runtime-comparison


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_does_the_same_work(runtime: str) -> None:
    """Task by task the same steps, calls and tokens, new and of output."""
    base, other = ran("external-orchestrator"), ran(runtime)
    for name in ("steps", "llm_calls", "tool_calls", "new_tokens", "output_tokens"):
        np.testing.assert_array_equal(base.fact(name), other.fact(name))


def test_each_runtime_is_faster_and_sends_less_than_the_one_before() -> None:
    """Sessions keep the cache, native agents move to the model, and on the device the engine's host takes no time."""
    stateless, external, session, native, device = (ran(runtime) for runtime in RUNTIMES)
    times = [mean_time(result) for result in (external, session, native, device)]
    assert times == sorted(times, reverse=True)
    assert mean_of(stateless, "bytes") == mean_of(external, "bytes") > 1.5 * mean_of(session, "bytes")
    assert mean_of(session, "bytes") > 1.5 * mean_of(native, "bytes")
    assert mean_of(session, "carried_tokens") < 0.25 * mean_of(external, "carried_tokens")
    assert stateless.category("communication").mean() > 2 * external.category("communication").mean()
    assert device.category("inference").mean() < native.category("inference").mean()


def test_most_of_the_saving_is_context_and_by_keeping_the_cache() -> None:
    """Of the categories `context` saves most, of the policies `kv`; tools of one call a turn have nothing to overlap."""
    found = compared(over={}, replications=3)
    assert found.saving.verdict == "saves"
    saved = {part.category: part.saving.value for part in found.categories}
    assert max(saved, key=lambda category: saved[category]) == "context"
    assert saved["context"] > 0.5 * found.saving.amount.value
    assert found.ablation is not None
    alone = {one.policy: one.alone.amount.value for one in found.ablation.switches if one.alone is not None}
    most, *next_most = sorted(alone, key=lambda policy: alone[policy], reverse=True)
    assert most == "kv"
    assert set(next_most[:2]) == {"state", "notification"}
    assert alone["tools"] == 0


def test_nothing_is_saved_with_one_turn_or_with_a_search_of_a_minute() -> None:
    """The verdict is `none` up to one turn and where tools take minutes, and `saves` at eight turns of quick tools."""
    over = {"workflow.steps.research.repeat": [1, 8], "tools.search.latency": ["350 ms", "1 min"]}
    region = compared(over=over, ablate=False, replications=5).region
    assert region is not None
    verdicts = {point.values: point.saving.verdict for point in region.points}
    assert verdicts.pop(("8", "350 ms")) == "saves"
    assert set(verdicts.values()) == {"none"}


def test_two_tools_a_turn_can_be_overlapped_and_one_can_be_guessed() -> None:
    """With two calls a turn a native runtime spends less on tools; with one, only speculation hides any of it."""
    two = [ran(runtime, workflow__steps__research__calls="2") for runtime in ("session-state", "agent-native")]
    assert two[1].category("tool").mean() < 0.95 * two[0].category("tool").mean()
    native, guessing = ran("agent-native"), ran("{preset: agent-native, tools: speculated}")
    np.testing.assert_allclose(native.category("tool"), ran("session-state").category("tool"))
    assert guessing.category("tool").mean() < 0.9 * native.category("tool").mean()
    assert mean_time(guessing) < mean_time(native)


# -- gpu-resident


@cache
def loop(runtime: str, **overrides: str) -> float:
    """Return mean T_total of the loop of short steps (s)."""
    given = {} if runtime == "host" else {"runtime": runtime}
    return mean_time(simulate(shipped("gpu-resident", 16, **given, **overrides)))


def saved(**overrides: str) -> float:
    """Return the share of T_total that control on the device saves."""
    return 1 - loop("gpu-resident", **overrides) / loop("host", **overrides)


def test_control_on_the_device_saves_a_tenth_and_more_beside_others() -> None:
    """On an idle host 5 % to 20 %; more with each busy process, since the device's own time does not change."""
    idle = saved()
    assert 0.05 < idle < 0.2
    shares = [idle, *(saved(network__nodes__server__busy=busy) for busy in ("1", "2", "4"))]
    assert shares == sorted(shares)
    assert shares[-1] > 2 * idle
    assert loop("gpu-resident", network__nodes__server__busy="4") == pytest.approx(loop("gpu-resident"), rel=0.03)


def test_control_on_the_device_saves_nothing_beside_a_long_tool() -> None:
    """With a simulator of a second it saves less than 2 %, busy host or not."""
    for busy in ("0", "4"):
        assert abs(saved(tools__simulate__latency="1 s", network__nodes__server__busy=busy)) < 0.02


def test_control_on_the_device_saves_less_of_one_step_or_of_a_larger_model() -> None:
    """One step has no step before it to be decided on; of 8B the host is a smaller part."""
    assert 0 < saved(workflow__steps__search__repeat="1") < saved()
    assert 0 < saved(models__llm__shape="llama-3.1-8b") < 0.5 * saved()
