"""The scenarios about a server's KV: they answer their questions the way their comments say, and where the answer flips.

Leaves out: what every scenario must have (test_scenarios.py); published bands (test_bands_cache.py).
"""

from functools import cache

import pytest

from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

from .test_bands_cache import llm_seconds, ratio
from .test_scenarios import shipped

LONG = "{lognormal: {mean: 31 s, cv: 3}}"


@cache
def pressed(kv: str, users: int = 24, tool: str = "", host: str = "256 GB") -> Result:
    """Return a run of kv-pressure under a policy. Every policy meets the same tasks."""
    more = {"tools__shell__latency": tool} if tool else {}
    return simulate(
        shipped(
            "kv-pressure",
            users + 12,
            runtime__kv=kv,
            workload__arrivals__closed__users=str(users),
            models__llm__cache__host=host,
            **more,
        )
    )


def mean_time(kv: str, users: int = 24, tool: str = "", host: str = "256 GB") -> float:
    """Return the mean T_total of kv-pressure."""
    return float(pressed(kv, users, tool, host).response_times.mean())


def test_under_pressure_cache_and_swap_win_and_discarding_and_keeping_lose() -> None:
    """With 24 agents, cache, swap and predict are within 3 %; keep takes half as long again, discard twice as long."""
    best = mean_time("cache")
    assert mean_time("swap") == pytest.approx(best, rel=0.03)
    assert mean_time("predict") == pytest.approx(best, rel=0.03)
    assert mean_time("keep") > 1.4 * best
    assert mean_time("discard") > 2.0 * best


def test_what_each_policy_pays_with_is_counted() -> None:
    """Discard prefills over and over, swap fetches from the host, and who keeps lets others wait."""
    assert ratio(pressed("discard"), "prefill_amplification") > 10 * ratio(pressed("cache"), "prefill_amplification")
    assert ratio(pressed("swap"), "lower_tier_hit_share") > 0.3
    assert pressed("keep").category("queueing").mean() > 5 * pressed("cache").category("queueing").mean()
    assert ratio(pressed("keep"), "kv_used_share") < 0.6 * ratio(pressed("cache"), "kv_used_share")


def test_where_the_memory_suffices_keeping_is_as_good_as_the_cache_and_better_than_swapping() -> None:
    """With 8 agents nothing is ever evicted: keep equals the cache, and swap pays for its copies."""
    assert mean_time("keep", users=8) == pytest.approx(mean_time("cache", users=8), rel=1e-3)
    assert mean_time("swap", users=8) > mean_time("cache", users=8)
    assert mean_time("discard", users=8) > 1.5 * mean_time("cache", users=8)


def test_long_tools_leave_the_server_to_few_and_the_policies_come_closer() -> None:
    """With tools ten times as long, what keep and discard lose against the cache is a fraction of what it was."""
    for kv, fraction in (("keep", 0.25), ("discard", 0.4)):
        short, long = (mean_time(kv, tool=tool) / mean_time("cache", tool=tool) - 1 for tool in ("", LONG))
        assert 0 <= long < fraction * short


def test_without_memory_on_the_host_what_is_evicted_is_prefilled_again() -> None:
    """Then the cache prefills several times as much, and takes half as long again or more."""
    assert ratio(pressed("cache", host="0 B"), "prefill_amplification") > 3 * ratio(
        pressed("cache"), "prefill_amplification"
    )
    assert mean_time("cache", host="0 B") > 1.3 * mean_time("cache")


@cache
def served(workflow: str, prefix: bool, users: int = 0) -> Result:
    """Return a run of chat-vs-agent: alone, or with as many users."""
    more = {"workload__arrivals": f"{{closed: {{users: {users}}}}}"} if users else {}
    tasks = 3 * users or 40
    return simulate(
        shipped(
            "chat-vs-agent",
            tasks,
            workflow__steps__task__workflow=workflow,
            models__llm__cache__prefix=str(prefix).lower(),
            **more,
        )
    )


def test_agent_and_chat_compute_as_many_tokens_and_find_as_many() -> None:
    """Within 10 % they have the same budget of new and output tokens, and find 80-95 % of their prompts in the cache."""
    agent, chat = served("agent", True), served("chat", True)
    budgets = [float((one.fact("new_tokens") + one.fact("output_tokens")).mean()) for one in (agent, chat)]
    assert budgets[0] == pytest.approx(budgets[1], rel=0.1)
    for one in (agent, chat):
        assert 0.80 < ratio(one, "prefix_hit_share") < 0.95


def test_alone_the_cache_shortens_an_agent_and_hardly_a_chat() -> None:
    """Without it an agent is at the server 1.15 to 1.4 times as long, a chat less than 1.1 times."""
    gains = {name: llm_seconds(served(name, False)) / llm_seconds(served(name, True)) for name in ("agent", "chat")}
    assert 1.15 < gains["agent"] < 1.4
    assert 1.0 < gains["chat"] < 1.1


def test_a_full_server_lets_several_times_as_many_agents_through_and_hardly_more_chats() -> None:
    """With 128 users the cache raises the throughput of agents at least 2.5 times, of chats at most 1.25 times."""
    gains = {}
    for name in ("agent", "chat"):
        off, on = served(name, False, 128), served(name, True, 128)
        gains[name] = off.end / on.end  # of the same tasks
    assert gains["agent"] > 2.5
    assert gains["chat"] < 1.25
