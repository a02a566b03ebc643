"""Handling of calls: timeouts, retries, budgets, breakers, bulkheads, fallbacks, effects."""

import math

import pytest

from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.incidents import Calls

from .scene import Data, fact, overlapped, parts, run, scene, statuses, steps, total
from .theory import erlang_b

CALL = steps("t", t={"tool": "t"})
Z = 3.29  # of a normal variable, two-sided 99.9 %


def tool(**changes: object) -> Data:
    """Return a tool `t` of 3 s, and what differs."""
    return {"tools": {"t": {"latency": "3 s", **changes}}}


def tasks(count: int, rate: str = "1M / s") -> Data:
    """Return the patch of so many tasks at a steady rate."""
    return {"workload": {"arrivals": {"deterministic": rate}, "tasks": count}}


def poisson(rate: float, count: int) -> Data:
    """Return the patch of so many tasks at random."""
    return {"workload": {"arrivals": {"poisson": f"{rate} / s"}, "tasks": count}}


def calls(result: Result, path: str = "tools.t") -> Calls:
    """Return what became of the calls of a component."""
    return result.incidents.calls[path]


def facts(result: Result, name: str) -> float:
    """Return the sum of a fact over all tasks."""
    return sum(fact(result, name, task) for task in range(result.arrived))


# Timeouts


def test_a_timeout_cancels_the_attempt_and_gives_back_its_slot() -> None:
    """The first task is cut off at 2 s, and the slot goes to the second one, which is cut off at once: its 2 s are over, too."""
    result = run(tasks(2, "1 / s"), tool(concurrency=1, handling={"timeout": "2 s"}), CALL)
    assert statuses(result) == [1, 1]
    assert [total(result, task) for task in (0, 1)] == [2, 2]
    assert parts(result) == {"recovery": 2}
    assert (calls(result).timed_out, calls(result).wasted) == (2, 3)  # of the second task's only what it was served
    assert overlapped(result) == 0


def test_an_attempt_that_runs_on_keeps_its_slot_and_is_wasted_work() -> None:
    """Cut off at 2 s it is served until 3 s; the retry waits for that, and is in the end wasted, too."""
    result = run(tool(concurrency=1, handling={"timeout": "2 s", "retry": 2, "on_timeout": "run on"}), CALL)
    assert total(result) == 4
    assert fact(result, "timeouts") == 2
    assert calls(result).wasted == fact(result, "wasted") == 6
    assert overlapped(result) == 3


def test_a_timeout_that_is_never_reached_changes_nothing() -> None:
    """The call takes 3 s, with or without a limit of 3 s."""
    assert total(run(tool(handling={"timeout": "3 s"}), CALL)) == 3


def test_within_bounds_the_whole_call() -> None:
    """Attempts of 2 s with waits of 1 s: the second is cut short at 4 s, and no third is made."""
    handling = {"timeout": "2 s", "within": "4 s", "retry": {"attempts": 9, "backoff": {"first": "1 s"}}}
    result = run(tool(handling=handling), CALL)
    assert total(result) == 4
    assert calls(result).attempts == 2


def test_a_model_that_times_out_gives_back_its_slot() -> None:
    """A model of one slot: the second task is served from when the first is cut off."""
    model = {"models": {"llm": {"overhead": "3 s", "handling": {"timeout": "4 s"}}}}
    result = run(tasks(3), model)
    assert [round(total(result, task), 3) for task in range(3)] == [3, 4, 4]
    assert calls(result, "models.llm").timed_out == 2


# Retries


@pytest.mark.parametrize("errors", [0.2, 0.5])
def test_the_mean_number_of_attempts_is_that_of_a_geometric_variable(errors: float) -> None:
    """With q errors and no end of attempts it is 1 / (1 - q); the z-score lies within 3.29, and not that of q 20 % higher."""
    count = 4000
    result = run(poisson(1, count), tool(errors=errors, handling={"retry": 100}), CALL, spans="none")
    mean, sure = calls(result).attempts / count, math.sqrt(errors) / (1 - errors) / math.sqrt(count)
    assert abs(mean - 1 / (1 - errors)) < Z * sure
    assert abs(mean - 1 / (1 - 1.2 * errors)) > Z * sure


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_retries_at_three_layers_multiply(attempts: int) -> None:
    """A tool that always fails, in a workflow in a workflow, each tried three times, is called 27 times."""
    again = {"retry": attempts}
    result = run(
        tool(errors=1.0, handling={**again, "exhausted": "fail"}),
        steps("outer", outer={"workflow": "middle", "handling": again}),
        {
            "workflows": {
                "middle": {"start": "go", "steps": {"go": {"workflow": "inner", "handling": again}}},
                "inner": {"start": "call", "steps": {"call": {"tool": "t"}}},
            }
        },
    )
    assert calls(result).attempts == attempts**3
    assert total(result) == 3 * attempts**3
    assert parts(result) == {"recovery": total(result)}


def test_a_workflow_that_is_tried_again_gives_back_what_it_held() -> None:
    """An agent of one slot whose tool fails: the slot is free for the next attempt, and for the next task."""
    result = run(
        tasks(2),
        tool(errors=1.0, handling={"exhausted": "fail"}),
        {"agents": {"a": {"concurrency": 1}}},
        steps("outer", outer={"workflow": "inner", "handling": {"retry": 2}}),
        {"workflows": {"inner": {"start": "act", "steps": {"act": {"agent": "a", "tools": {"t": 1}}}}}},
    )
    assert statuses(result) == [1, 1]
    assert calls(result).attempts == 4


def test_a_workflow_has_only_handling_of_its_own() -> None:
    """A fallback of a workflow is refused."""
    with pytest.raises(ScenarioError, match="a workflow has `retry` and `within`"):
        scene(
            steps("o", o={"workflow": "w", "handling": {"fallback": "v"}}),
            {"workflows": {"w": {"start": "s", "steps": {"s": {"agent": "a"}}}}},
        )


def test_a_budget_bounds_retries() -> None:
    """All of 200 calls fail: with 10 % of a retry for each, and one saved, there are 20 retries or one more; else 200 for each attempt."""
    free = run(tasks(200, "1 / s"), tool(errors=1.0, handling={"retry": 4}), CALL, spans="none")
    budget = {"attempts": 4, "budget": {"ratio": 0.1, "burst": 1}}
    bound = run(tasks(200, "1 / s"), tool(errors=1.0, handling={"retry": budget}), CALL, spans="none")
    assert calls(free).attempts == 800
    assert 220 <= calls(bound).attempts <= 221


# Breaker and bulkhead


def test_a_breaker_opens_and_closes_again_with_an_outage() -> None:
    """A call each second, an outage from 10 s to 30 s: four fail, then all are rejected but a probe each 5 s, until one is answered."""
    handling = {"breaker": {"failing": 1.0, "calls": 4, "open": "5 s"}, "exhausted": "continue"}
    outage = {"faults": {"gone": {"on": "tools.t", "at": "9.5 s", "for": "20 s", "down": "refuse"}}}
    result = run(
        tasks(60, "1 / s"), {"tools": {"t": {"latency": "0.1 s", "handling": handling}}}, outage, CALL, spans="none"
    )
    seen = [bool(parts(result, task).get("tool")) for task in range(60)]
    down = [task for task in range(60) if not seen[task]]
    first = down[0]
    assert down == list(range(first, first + len(down)))  # one stretch: closed, open with probes, closed
    opened = first + 3  # with the fourth failure
    probes = [opened + 5 * number for number in range(1, 9)]
    closed = next(probe for probe in probes if probe not in down)
    assert closed == down[-1] + 1
    failed = 4 + sum(probe < closed for probe in probes)
    assert calls(result).failed == failed
    assert calls(result).rejected == len(down) - failed


def test_a_bulkhead_lets_so_many_in() -> None:
    """Two of four calls at once are made; the others fail at once, and their tasks."""
    result = run(tasks(4), tool(handling={"bulkhead": 2}), CALL)
    assert statuses(result) == [0, 0, 1, 1]
    assert result.failures == {"tools.t: bulkhead full": 2}
    assert calls(result).rejected == 2


# Shedding


@pytest.mark.parametrize("servers", [1, 3])
def test_shedding_loses_what_erlang_says(servers: int) -> None:
    """With no place in line the share of calls lost is B(c, a), within 99.9 % of a correlated sample, and not that of 30 % more load."""
    load, count = 0.8 * servers, 20_000
    result = run(
        poisson(load, count),
        {"tools": {"t": {"latency": {"exponential": {"mean": "1 s"}}, "concurrency": servers, "queue_limit": 0}}},
        CALL,
        spans="none",
    )
    lost = sum(result.failures.values()) / count
    expected = erlang_b(servers, load)
    sure = math.sqrt(2 * expected / count)  # at most twice the variance of independent losses, since they come together
    assert abs(lost - expected) < Z * sure
    assert abs(lost - erlang_b(servers, 1.3 * load)) > Z * sure


@pytest.mark.parametrize("cancels", [False, True])
def test_calls_beyond_the_rate_are_refused_at_once(cancels: bool) -> None:
    """One a second with bursts of two: of four at once two are refused, in words that tell it from a full queue."""
    handling: Data = {"handling": {"timeout": "9 s"}} if cancels else {}
    result = run(tasks(4), tool(rate="1 / s", burst=2, limited="refuse", **handling), CALL)
    assert statuses(result) == [0, 0, 1, 1]
    assert result.failures == {"tools.t: rate limit": 2}
    assert total(result, 2) == 0


def test_a_provider_refuses_calls_beyond_its_rate() -> None:
    """Two requests a second, as many at once: the third is answered 429, a retry after a second goes through."""
    api: Data = {"kind": "api", "overhead": "0.1 s", "limits": {"requests": "2 / s", "refuse": True}}
    agent = {"agents": {"a": {"model": "api"}}}
    hasty = run(tasks(3), agent, {"models": {"api": api}})
    assert hasty.failures == {"models.api: rate limit": 1}
    patient = {**api, "handling": {"retry": {"attempts": 2, "backoff": {"first": "1 s"}}}}
    result = run(tasks(3), agent, {"models": {"api": patient}})
    assert [round(total(result, task), 3) for task in range(3)] == [0.1, 0.1, 1.1]
    assert parts(result, 2)["recovery"] == 1
    with pytest.raises(ScenarioError, match="needs `requests` or `tokens`"):
        scene({"models": {"api": {"kind": "api", "limits": {"refuse": True}}}}, agent)


@pytest.mark.parametrize("line", [{"concurrency": 1}, {"rate": "0.3333333333333333 / s"}])
def test_a_call_that_waited_too_long_is_dropped(line: Data) -> None:
    """Services of 3 s one after the other, and at most 4 s in line: the third and fourth are dropped at 4 s, and the fifth is served."""
    late = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 5}}
    result = run(late, tool(max_wait="4 s", **line), CALL)
    assert [round(total(result, task), 6) for task in range(5)] == [3, 5, 7, 4, 4]
    assert result.failures == {"tools.t: waited too long": 2}
    assert parts(result, 3) == pytest.approx({"queueing": 4.0})


def test_limits_are_asked_for_where_something_waits() -> None:
    """Refusing needs a rate, and dropping something to wait for."""
    for field, message in (
        ({"limited": "refuse"}, "needs `rate`"),
        ({"max_wait": "1 s"}, "needs `concurrency` or `rate`"),
    ):
        with pytest.raises(ScenarioError, match=message):
            scene(tool(**field), CALL)


# What is done in the end


def test_a_fallback_answers_in_place_of_a_tool() -> None:
    """After two attempts another tool is asked, by its own handling: it fails once, and answers."""
    spare = {"latency": "1 s", "errors": {"rate": 0.0}, "response": "40 B", "result": "8 tokens"}
    two = {"tools": {"t": {"latency": "3 s", "errors": 1.0, "handling": {"retry": 2, "fallback": "u"}}, "u": spare}}
    result = run(two, CALL)
    assert statuses(result) == [0]
    assert parts(result) == {"recovery": 6, "tool": 1}
    assert (fact(result, "fallbacks"), fact(result, "tool_calls")) == (1, 2)
    assert result.incidents.counts[0][1] == 2  # both strikes of errors come to a degraded answer


def test_fallbacks_follow_one_another_and_may_fail() -> None:
    """Tool t asks u, and u asks v; where v fails, too, the task does."""

    def world(last: float) -> Data:
        failing = {"latency": "1 s", "errors": 1.0}
        return {
            "tools": {
                "t": {**failing, "handling": {"fallback": "u"}},
                "u": {**failing, "handling": {"fallback": "v"}},
                "v": {**failing, "errors": last, "handling": {"exhausted": "fail"}},
            }
        }  # fmt: skip

    assert statuses(run(world(0.0), CALL)) == [0]
    failed = run(world(1.0), CALL)
    assert failed.failures == {"tools.v: error": 1}
    assert parts(failed) == {"recovery": 3}


def test_a_model_falls_back_to_another() -> None:
    """The other model has not seen the prompt: all of it is new there."""
    slow: Data = {"overhead": "3 s", "prefill": "1 ms / token", "handling": {"timeout": "1 s", "fallback": "spare"}}
    spare: Data = {"kind": "llm", "prefill": "1 ms / token"}
    result = run({"agents": {"a": {"prompt": "500 tokens"}}, "models": {"llm": slow, "spare": spare}})
    assert parts(result) == pytest.approx({"recovery": 1, "inference": 0.5})
    assert fact(result, "new_tokens") == 1000  # for either


def test_a_person_answers_in_the_end() -> None:
    """Escalation takes the person's time, and the task goes on."""
    result = run(tool(errors=1.0, handling={"retry": 2, "escalate": "60 s"}), CALL)
    assert statuses(result) == [0]
    assert parts(result) == {"recovery": 6, "human": 60}
    assert fact(result, "escalations") == 1


@pytest.mark.parametrize(("exhausted", "status"), [("continue", 0), ("fail", 1)])
def test_what_is_exhausted_goes_on_or_fails(exhausted: str, status: int) -> None:
    """A timeout has no answer to go on with: the task goes on without, or fails."""
    result = run(tool(handling={"timeout": "1 s", "exhausted": exhausted}), CALL)
    assert statuses(result) == [status]
    assert parts(result) == {"recovery": 1}


# Effects


@pytest.mark.parametrize(
    ("spec", "duplicates", "seconds"),
    [({}, 0, 6), ({"repeatable": False}, 1, 6), ({"repeatable": False, "idempotent": True}, 0, 3)],
)
def test_work_done_twice_has_its_effect_twice_unless_it_carries_a_key(
    spec: Data, duplicates: int, seconds: float
) -> None:
    """The first answer is lost on its way back; a component that knows the key does not do the work again."""
    spec = dict(spec)
    handling = {"timeout": "4 s", "retry": 2, "idempotent": spec.pop("idempotent", False)}
    slow = {
        "network": {
            "nodes": {"here": {}, "there": {}},
            "links": [{"from": "there", "to": "here", "latency": "2 s"}, {"from": "here", "to": "there"}],
        },
        "orchestrator": {"node": "here"},
        "agents": {"a": {"node": "here"}},
        "runtime": {"preset": "external-orchestrator", "codec": "none", "notification": "event"},
    }
    result = run(tool(node="there", **spec, handling=handling), slow, CALL)
    assert fact(result, "duplicates") == duplicates
    assert calls(result).attempts == 2


def test_work_that_runs_on_has_its_effect() -> None:
    """Cut off at 2 s, done at 3 s, and done again at 7 s: twice for one call."""
    handling = {"timeout": "2 s", "retry": {"attempts": 2, "backoff": {"first": "2 s"}}, "on_timeout": "run on"}
    without = run(tool(repeatable=False, handling=handling), CALL)
    assert fact(without, "duplicates") == 1
    keyed = run(tool(repeatable=False, handling={**handling, "idempotent": True}), CALL)
    assert fact(keyed, "duplicates") == 0
    assert statuses(keyed) == [0]  # at 4 s the answer is there
    assert total(keyed) == 4
