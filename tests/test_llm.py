"""Served models and hosted ones: slots, rate limits and prices, by hand."""

import pytest

from .scene import Data, accounts, fact, named, parts, run, statuses, steps, total

BURST = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 4}}
API = {"models": {"llm": {"kind": "api", "overhead": "1 s"}}}


def ends(*patches: Data, tasks: int = 4) -> list[float]:
    """Return the seconds that each task took, to a millisecond."""
    result = run(BURST, *patches)
    return [round(total(result, task), 3) for task in range(tasks)]


def test_replicas_and_their_slots_serve_at_once() -> None:
    """Four tasks at once on one slot, two, and four."""
    law = {"models": {"llm": {"overhead": "1 s"}}}
    assert ends(law) == [1, 2, 3, 4]
    assert ends(law, {"models": {"llm": {"replicas": 2}}}) == [1, 1, 2, 2]
    assert ends(law, {"models": {"llm": {"replicas": 2, "concurrency": 2}}}) == [1, 1, 1, 1]


def test_a_hosted_model_has_no_line_of_its_own() -> None:
    """Without limits as many calls run as there are."""
    assert ends(API) == [1, 1, 1, 1]
    assert ends(API, {"models": {"llm": {"limits": {"concurrency": 2}}}}) == [1, 1, 2, 2]


def test_a_limit_of_requests_lets_a_second_of_them_through_at_once() -> None:
    """Two a second: two go at once, then one each half second; the waiting is queueing at the model."""
    limits = {"models": {"llm": {"limits": {"requests": "2 / s"}}}}
    assert ends(API, limits) == [1, 1, 1.5, 2]
    result = run(BURST, API, limits)
    assert {one.component for one in accounts(result, 3)} == {"llm", "models.llm"}
    assert ends(API, {"models": {"llm": {"limits": {"requests": "0.5 / s"}}}}) == [1, 3, 5, 7]


def test_a_limit_of_tokens_counts_prompt_and_output() -> None:
    """600 tokens a call and 1000 a second: the second call waits for 200 more, and each after it for 600."""
    limits = {"models": {"llm": {"limits": {"tokens": "1000 tokens / s"}}}}
    agent = {"agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}}}
    assert ends(API, limits, agent) == [1, 1.2, 1.8, 2.4]
    large = {"agents": {"a": {"prompt": "5000 tokens"}}}  # larger than the burst: it leaves the bucket in debt
    assert ends(API, limits, large) == [1, 6, 11, 16]


def test_both_limits_hold() -> None:
    """The stricter one decides, call by call."""
    limits = {"models": {"llm": {"limits": {"tokens": "1000 tokens / s", "requests": "1 / s", "concurrency": 3}}}}
    agent = {"agents": {"a": {"prompt": "500 tokens", "output": "100 tokens"}}}
    assert ends(API, limits, agent) == [1, 2, 3, 4]


def test_a_hosted_call_costs_what_its_tokens_cost() -> None:
    """New, cached and output tokens at their rates and prices; without a price of their own, cached tokens cost the input's."""
    law = {"new": "1 ms / token", "cached": "0.1 ms / token", "output": "10 ms / token", "cache_hit": "50 %"}
    price = {"input": "$2 / 1k tokens", "cached": "$1 / 1k tokens", "output": "$10 / 1k tokens"}
    agent = {"agents": {"a": {"prompt": "1000 tokens", "output": "100 tokens"}}}
    twice = steps("w", w={"agent": "a", "repeat": 2})
    result = run(API, {"models": {"llm": {**law, "price": price}}}, agent, twice)
    assert [fact(result, f"{kind}_tokens") for kind in ("new", "carried", "cached", "output")] == [1000, 550, 550, 200]
    assert fact(result, "cost") == pytest.approx((1000 + 550) * 0.002 + 550 * 0.001 + 200 * 0.01)
    assert parts(result) == pytest.approx({"inference": 1 + 1 + 1 + 1 + 1, "context": 0.55 + 0.055})
    without = run(API, {"models": {"llm": {**law, "price": {**price, "cached": None}}}}, agent, twice)
    assert fact(without, "cost") == pytest.approx((1000 + 1100) * 0.002 + 200 * 0.01)


def test_the_runtime_has_no_say_in_a_providers_cache() -> None:
    """What a hosted model finds in its cache is its own affair."""
    agent = {"agents": {"a": {"prompt": "1000 tokens"}}}
    for kv in ("keep", "discard"):
        runtime = {"runtime": {"preset": "ideal", "kv": kv}}
        result = run(API, agent, runtime, steps("w", w={"agent": "a", "repeat": 2}))
        assert fact(result, "cached_tokens") == 0


def test_a_residual_scales_the_whole_latency() -> None:
    """A residual of 1 changes nothing; one near 2 doubles the time of a call."""
    assert named(run(API, {"models": {"llm": {"residual": 1, "speed": 2}}}), "inference") == pytest.approx(0.5)
    drawn = run(API, {"models": {"llm": {"residual": {"lognormal": {"median": 2, "p95": 2.2}}}}})
    assert 1.5 < named(drawn, "inference") < 2.6


def test_a_queue_limit_is_counted_without_those_in_service() -> None:
    """One is served and two wait; the fourth is refused."""
    law = {"models": {"llm": {"overhead": "1 s", "queue_limit": 2}}}
    result = run(BURST, law)
    assert statuses(result) == [0, 0, 0, 1]
