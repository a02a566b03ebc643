"""Tools and retrievers: slots, refusals, rates, retries, errors that come together, and how agents choose."""

import math
from collections import Counter

import pytest

from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ScenarioError

from .scene import Data, accounts, fact, leaves, named, overlapped, parts, row_of, run, scene, statuses, steps, total

BURST = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 4}}
CALL = steps("t", t={"tool": "t"})


def tool(**changes: object) -> Data:
    """Return a tool `t` of 1 s, and what differs."""
    return {"tools": {"t": {"latency": "1 s", **changes}}}


def times(result: Result) -> list[float]:
    """Return the seconds of each task, to a millisecond."""
    return [round(total(result, task), 3) for task in range(result.arrived)]


def test_calls_beyond_the_concurrency_wait() -> None:
    """Two at a time; without a limit, all at once."""
    assert times(run(BURST, tool(concurrency=2), CALL)) == [1, 1, 2, 2]
    assert times(run(BURST, tool(), CALL)) == [1, 1, 1, 1]


def test_a_call_that_is_refused_fails_the_task() -> None:
    """One slot and one place in line: the third and fourth are refused."""
    result = run(BURST, tool(concurrency=1, queue_limit=1), CALL)
    assert statuses(result) == [0, 0, 1, 1]
    assert result.failures == {"tools.t: queue full": 2}


def test_a_call_that_is_refused_is_tried_again() -> None:
    """A refusal costs an attempt and what it took to call: with enough attempts the task gets through."""
    patient = tool(concurrency=1, queue_limit=0, invoke="0.4 s", handling={"retry": 4})
    result = run({"workload": {"arrivals": {"deterministic": "10 / s"}, "tasks": 2}}, patient, CALL)
    assert statuses(result) == [0, 0]
    assert parts(result, 1) == pytest.approx({"recovery": 3 * 0.4, "tool": 1.4})
    assert fact(result, "retries", 1) == 3
    hasty = run(
        {"workload": {"arrivals": {"deterministic": "10 / s"}, "tasks": 2}}, patient, tool(handling={"retry": 2}), CALL
    )
    assert statuses(hasty) == [0, 1]
    assert parts(hasty, 1) == pytest.approx({"recovery": 0.8})


def test_a_rate_lets_bursts_through() -> None:
    """One each 2 s after a burst of two; what waits for the rate queues at the tool."""
    result = run(BURST, tool(rate="0.5 / s", burst=2), CALL)
    assert times(result) == [1, 1, 3, 5]
    assert {one.component for one in accounts(result, 3) if one.category == "queueing"} == {"tools.t"}


def test_who_waits_for_a_rate_stands_in_line() -> None:
    """The limit of the line counts them, and who is refused uses up nothing of the rate."""
    limited = tool(rate="1 / s", concurrency=9, queue_limit=1)
    result = run({"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 3}}, limited, CALL)
    assert statuses(result) == [0, 0, 1]
    late = run(
        {"workload": {"arrivals": {"deterministic": "2 / s"}, "tasks": 6}},
        tool(rate="1 / s", latency="0 s", concurrency=1, queue_limit=0),
        CALL,
    )
    assert statuses(late) == [0, 1, 0, 1, 0, 1]


def test_time_by_size_and_price() -> None:
    """A call of 1 s and 2 ms for each of 300 B + 200 B; each call that was served costs."""
    result = run(tool(per_byte="2 ms / B", request="300 B", response="200 B", price="$0.25"), CALL)
    assert named(result, "tool.execute") == pytest.approx(2)
    assert fact(result, "cost") == 0.25


def test_an_error_is_for_the_agent_once_no_attempt_is_left() -> None:
    """The last response enters the context, error or not; those of attempts that were repeated do not."""
    for attempts in (1, 3):
        failing = tool(errors=1.0, handling={"retry": attempts}, result="70 tokens")
        result = run(failing, steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 2}))
        assert fact(result, "new_tokens") == 70
        assert statuses(result) == [0]


def errors_in_runs(after: float | None) -> float:
    """Return the share of errors among 4000 calls in chains of 20."""
    errors = {"rate": 0.1} if after is None else {"rate": 0.1, "after_error": after}
    turns = steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 20})
    result = run({"workload": {"tasks": 200}}, tool(errors=errors), turns, spans="none")
    return float(result.fact("tool_errors").sum() / result.fact("tool_calls").sum())


def test_errors_come_together() -> None:
    """The share of errors is that of the two-state chain within 4 standard errors: p / (p + 1 - q), from no error."""
    alone, together = errors_in_runs(None), errors_in_runs(0.6)
    assert abs(alone - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 4000)
    steady = 0.1 / (0.1 + 1 - 0.6)
    expected = sum(steady * (1 - 0.5**turn) for turn in range(1, 21)) / 20
    # Errors of one chain are correlated, with autocorrelation 0.5: their variance is 3 times that of independent ones.
    assert abs(together - expected) < 4 * math.sqrt(3 * steady * (1 - steady) / 4000)


def attempts_of(**changes: object) -> list[list[float]]:
    """Return how long each attempt of each call took, of ten calls of one task."""
    chance = tool(latency={"exponential": {"mean": "1 s"}}, errors=0.5, **changes)
    result = run(chance, steps("w", w={"agent": "a", "tools": {"t": 1}, "repeat": 10}))
    calls: list[list[float]] = [[]]
    for span in leaves(result):
        calls[-1].append(round(span.end - span.start, 9))
        if not span.lost:
            calls.append([])
    return calls[:-1]


def test_retries_leave_later_calls_alone() -> None:
    """With retries or without, the n-th call of a task draws the same latency; and each attempt has its own."""
    once, often = attempts_of(), attempts_of(handling={"retry": 4})
    assert [len(call) for call in once] == [1] * 10
    assert [call[0] for call in often] == [call[0] for call in once]
    every = [seconds for call in often for seconds in call]
    assert len(set(every)) == len(every) > 13


PAIR = {"tools": {"t": {"latency": "3 s"}, "u": {"latency": "2 s"}}}
BOTH = {"start": {"t": 1}, "t": {"u": 1}, "u": {"t": 1}}


def test_calls_of_one_turn_overlap_where_the_runtime_says() -> None:
    """Two calls take 5 s one after the other, 3 s at once, and then 2 s beside the path."""
    turn = steps("w", w={"agent": "a", "tools": {"markov": BOTH}, "calls": 2, "repeat": 1})
    for policy, seconds, beside in (("synchronous", 5, 0), ("overlapped", 3, 2)):
        result = run(PAIR, {"runtime": {"preset": "ideal", "tools": policy}}, turn)
        assert (total(result), overlapped(result)) == (seconds, beside)
        assert fact(result, "tool_calls") == 2


def test_a_markov_chain_walks_its_rows_and_ends() -> None:
    """start, t, u, end: two calls, and the turn that chooses the end makes none."""
    rows = {"start": {"t": 1}, "t": {"u": 1}, "u": {"end": 1}}
    result = run(PAIR, steps("w", w={"agent": "a", "tools": {"markov": rows}}))
    assert [span.component for span in leaves(result) if span.name == "tool.execute"] == ["t", "u"]
    assert fact(result, "llm_calls") == 3
    bounded = run(PAIR, steps("w", w={"agent": "a", "tools": {"markov": rows}, "repeat": 2}))
    assert fact(bounded, "llm_calls") == 2


def test_another_agent_starts_its_own_chain() -> None:
    """A chain that `repeat` broke off says nothing to an agent whose table has no such row."""
    first = {"markov": {"start": {"t": 1}, "t": {"t": 1}}}
    second = {"markov": {"start": {"u": 1}, "u": {"end": 1}}}
    result = run(
        PAIR,
        steps("w", w={"agent": "a", "tools": first, "repeat": 2, "next": "v"}, v={"agent": "a", "tools": second}),
    )
    assert [span.component for span in leaves(result) if span.name == "tool.execute"] == ["t", "t", "u"]


def test_choices_are_as_frequent_as_their_weights() -> None:
    """Of 3000 turns with shares of a quarter, a half, and a quarter for no call, the counts are within 4 standard errors."""
    turns = steps("w", w={"agent": "a", "tools": {"t": 0.25, "u": 0.5, "none": 0.25}, "repeat": 10})
    result = run(PAIR, {"workload": {"tasks": 300}}, turns)
    counts = Counter(span.component for span in result.spans if span.name == "tool.execute")
    for name, share in (("t", 0.25), ("u", 0.5)):
        assert abs(counts[name] - 3000 * share) < 4 * math.sqrt(3000 * share * (1 - share))


def test_a_retriever_adds_its_passages() -> None:
    """Five passages of 60 tokens, in 2 s of tool time, before the agent thinks; or in a step of their own."""
    library = {"retrievers": {"docs": {"latency": "2 s", "passage": "60 tokens"}}}
    asked = run(library, {"agents": {"a": {"retriever": "docs"}}})
    assert (fact(asked, "new_tokens"), parts(asked)) == (300, {"tool": 2})
    own = run(library, steps("r", r={"retriever": "docs", "next": "w"}, w={"agent": "a"}))
    assert (fact(own, "new_tokens"), parts(own)) == (300, {"tool": 2})
    three = {"retrievers": {"docs": {"top_k": 3}}}
    assert fact(run(library, three, {"agents": {"a": {"retriever": "docs"}}}), "new_tokens") == 180


def test_a_queue_limit_needs_something_to_queue_for() -> None:
    """Without a limit on calls under way nothing ever waits."""
    with pytest.raises(ScenarioError, match="concurrency"):
        scene(tool(queue_limit=3), CALL)


def test_who_fails_is_counted_but_not_timed() -> None:
    """T_total is of tasks that were done; the rows hold all."""
    result = run(BURST, tool(concurrency=1, queue_limit=1), CALL)
    assert len(result.response_times) == 2
    assert row_of(result, 3)[4] == 1
