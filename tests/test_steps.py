"""Steps: turns, skips, replanning, elastic demand, evaluators, people and bounds, by hand or by frequency."""

import math
from collections import Counter

import pytest

from .scene import Data, chain, fact, leaves, named, overlapped, parts, run, statuses, steps, total

LAW = {"models": {"llm": {"overhead": "1 s"}}}


def load(tasks: int) -> Data:
    """Return a workload of so many tasks that do not meet."""
    return {"workload": {"arrivals": {"deterministic": "1 / h"}, "tasks": tasks}}


def near(count: float, trials: int, share: float) -> bool:
    """Whether a count of a binomial is within 4 standard errors of its mean."""
    return abs(count - trials * share) < 4 * math.sqrt(trials * share * (1 - share))


def test_turns_repeat_up_to_their_bound() -> None:
    """Five turns of a second each; three when no more are allowed; none when the number drawn is 0."""
    for repeat, most, turns in ((5, None, 5), (5, 3, 3), (0, None, 0), (1, 4, 1)):
        step = {"agent": "a", "repeat": repeat, **({} if most is None else {"at_most": most})}
        result = run(LAW, steps("w", w=step))
        assert (fact(result, "llm_calls"), total(result)) == (turns, turns)


def test_a_workflow_repeats_in_rounds() -> None:
    """Each round is the whole of the other workflow, one after the other; none when the number drawn is 0."""
    for repeat, rounds in ((3, 3), (0, 0), (1, 1)):
        inner = {"round": {"start": "x", "steps": {"x": {"agent": "a", "next": "y"}, "y": {"human": "2 s"}}}}
        result = run(LAW, {"workflows": inner}, steps("w", w={"workflow": "round", "repeat": repeat}))
        assert (fact(result, "llm_calls"), total(result)) == (rounds, 3 * rounds)


def test_a_step_may_be_skipped() -> None:
    """A share of 30 % of 2000 visits pass it over and go on; a share of 1 never stops there, whatever kind of step it is."""
    result = run(
        LAW, load(400), chain(("v", {"agent": "a", "skip": 0.3}), ("w", {"agent": "a", "skip": 0.3})), spans="none"
    )
    done = result.fact("llm_calls").sum()
    assert near(done, 800, 0.7)
    world = {"tools": {"t": {"latency": "1 s"}}, "evaluators": {"e": {"latency": "1 s", "accept": 0.0}}}
    skipped = run(
        LAW, world,
        steps(
            "a",
            a={"agent": "a", "skip": 1.0, "next": "b"},
            b={"tool": "t", "skip": 1.0, "next": "c"},
            c={"human": "1 h", "skip": 1.0, "next": "d"},
            d={"evaluator": "e", "skip": 1.0, "rejected": "a", "accepted": "f"},
            f={"fork": ["g"], "skip": 1.0},
            g={"human": "1 h"},
        ),
    )  # fmt: skip
    assert (total(skipped), fact(skipped, "steps")) == (0, 0)


def test_an_agent_may_replan_after_a_turn() -> None:
    """After each of at most five turns it leaves for another step with 20 %; the rest goes on where `next` says."""
    step = {"agent": "a", "repeat": 5, "replan": {"other": 0.2}}
    result = run(LAW, load(1000), steps("w", w=step, other={"human": "10 s"}), spans="none")
    replanned = int((result.category("human") > 0).sum())
    assert near(replanned, 1000, 1 - 0.8**5)
    first = int((result.fact("llm_calls") == 1).sum())
    assert near(first, 1000, 0.2)


def test_demand_grows_as_inference_gets_faster() -> None:
    """Turns scale with speed ^ elasticity, a single turn too; between whole numbers chance rounds, and keeps the mean."""
    for speed, elasticity, turns in ((4, 1, 8), (4, 0.5, 4), (4, 0, 2), (4, -0.5, 1)):
        step = {"agent": "a", "repeat": 2, "elasticity": elasticity}
        result = run({"models": {"llm": {"overhead": "1 s", "speed": speed}}}, steps("w", w=step))
        assert fact(result, "llm_calls") == turns
    once = run({"models": {"llm": {"speed": 7}}}, steps("w", w={"agent": "a", "repeat": 1, "elasticity": 1}))
    assert fact(once, "llm_calls") == 7
    broken = steps("w", w={"agent": "a", "repeat": 1, "elasticity": 1})
    result = run({"models": {"llm": {"speed": 2.25}}}, load(1000), broken, spans="none")
    assert near(result.fact("llm_calls").sum() - 2000, 1000, 0.25)


def test_an_evaluator_sends_back_until_it_accepts() -> None:
    """Always rejected, the work is done as often as it may be judged; then the task fails, and says why."""
    judge = {"evaluators": {"e": {"latency": "2 s", "accept": 0.0}}}
    flow = steps("w", w={"agent": "a", "next": "x"}, x={"evaluator": "e", "rejected": "w", "at_most": 3})
    result = run(LAW, judge, flow)
    assert parts(result) == {"inference": 3, "tool": 6}
    assert statuses(result) == [1]
    assert result.failures == {"workflow.x: rejected 3 times": 1}


def test_an_evaluator_accepts_as_often_as_it_says() -> None:
    """The number of judgements is geometric: with 40 % its mean over 1000 tasks is 2.5, within 4 standard errors."""
    judge = {"evaluators": {"e": {"latency": "1 s", "accept": 0.4}}}
    flow = steps("w", w={"agent": "a", "next": "x"}, x={"evaluator": "e", "rejected": "w", "at_most": 100})
    result = run(judge, load(1000), flow, spans="none")
    visits = result.category("tool")
    assert abs(visits.mean() - 2.5) < 4 * math.sqrt(0.6 / 0.4**2 / 1000)


def test_an_evaluator_that_thinks_is_inference() -> None:
    """Its model call is counted like an agent's, its own prompt included."""
    judge = {"evaluators": {"e": {"model": "llm", "prompt": "300 tokens", "output": "20 tokens", "accept": 1.0}}}
    flow = steps("w", w={"agent": "a", "next": "x"}, x={"evaluator": "e", "rejected": "w"})
    result = run(LAW, judge, flow)
    assert parts(result) == {"inference": 2}
    assert (fact(result, "new_tokens"), fact(result, "output_tokens")) == (300, 20)


def test_a_tool_step_has_a_bound() -> None:
    """A loop through a tool that may be called twice fails the third time."""
    flow = steps("t", t={"tool": "t", "at_most": 2, "next": {"t": 0.999999, "done": 0.000001}})
    result = run({"tools": {"t": {"latency": "1 s"}}}, flow)
    assert result.failures == {"workflow.t: more than 2 visits": 1}
    assert parts(result) == {"tool": 2}


def test_a_task_has_a_bound_on_all_its_steps() -> None:
    """It fails when it would take one more, in branches too; the time that it took is told."""
    result = run(LAW, {"max_steps": 4}, steps("w", w={"agent": "a", "repeat": 9}))
    assert result.failures == {"more than 4 steps": 1}
    assert parts(result) == {"inference": 4}
    forked = run(
        LAW,
        {"max_steps": 4, "models": {"llm": {"replicas": 9}}},
        steps("f", f={"fork": ["w"], "copies": 5}, w={"agent": "a"}),
    )
    assert forked.failures == {"more than 4 steps": 1}
    plain = run(
        LAW, {"max_steps": 2}, chain(("u", {"agent": "a"}), ("v", {"agent": "a"}), ("w", {"agent": "a"})), spans="none"
    )
    assert plain.failures == {"more than 2 steps": 1}


TOOLS = {"tools": {"soon": {"latency": "1 s"}, "late": {"latency": "9 s"}}}
REFUSED = {"models": {"llm": {"overhead": "2 s", "queue_limit": 0}}}


def test_a_branch_that_fails_does_not_count_towards_a_quorum() -> None:
    """Of three branches one is refused at once; the join of two waits for the others. The third of three fails the task."""
    branches = {"x": {"agent": "a"}, "y": {"agent": "a"}, "late": {"tool": "late"}}
    result = run(TOOLS, REFUSED, steps("f", f={"fork": ["x", "y", "late"], "join": 2}, **branches))
    assert (statuses(result), total(result)) == ([0], 9)
    every = run(TOOLS, REFUSED, steps("f", f={"fork": ["x", "y", "late"]}, **branches))
    assert (statuses(every), total(every)) == ([1], 0)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_where_all_are_needed_the_others_run_on(elsewhere: bool) -> None:
    """The first failure fails the task; what goes on beside is counted, whether or not something is cancelled elsewhere."""
    branches: Data = {"x": {"agent": "a"}, "y": {"agent": "a"}, "late": {"tool": "late"}}
    flow: Data = {"f": {"fork": ["x", "y", "late"], "next": "g" if elsewhere else "done"}, **branches}
    if elsewhere:
        flow["g"] = {"fork": ["late", "soon"], "join": "any"}
        flow["soon"] = {"tool": "soon"}
    result = run(TOOLS, REFUSED, steps("f", **flow))
    assert (statuses(result), total(result), overlapped(result)) == ([1], 0, 2 + 9)


def test_a_failure_to_come_fails_nothing_before() -> None:
    """A branch that would fail at 10 s, on which nobody waits when the other ends at 1 s, has no say, nor later."""
    branches: Data = {
        "late": {"tool": "late", "next": "x"},
        "x": {"evaluator": "e", "rejected": "late", "at_most": 1},
        "soon": {"tool": "soon"},
    }
    judge = {"evaluators": {"e": {"latency": "1 s", "accept": 0.0}}}
    after: Data = {"g": {"fork": ["soon", "soon"], "next": "h"}, "h": {"human": "60 s"}}
    for rest in ("cancel", "run on"):
        fork = {"fork": ["late", "soon"], "join": "any", "rest": rest, "next": "g"}
        result = run(TOOLS, judge, steps("f", f=fork, **branches, **after))
        assert (statuses(result), total(result)) == ([0], 62)


def test_where_a_task_goes_next_is_a_matter_of_weights() -> None:
    """Of 1500 tasks shares of 20, 30 and 50 % take each way, within 4 standard errors."""
    ways = {"a": 0.2, "b": 0.3, "done": 0.5}
    result = run(
        load(1500), steps("s", s={"human": "1 s", "next": ways}, a={"human": "2 s"}, b={"human": "3 s"}), spans="none"
    )
    times = Counter(round(seconds) for seconds in result.response_times)
    for seconds, share in ((3, 0.2), (4, 0.3), (1, 0.5)):
        assert near(times[seconds], 1500, share)


def test_spans_hold_what_a_step_did() -> None:
    """A step's span encloses its call, which encloses waiting and service."""
    result = run(LAW, {"tools": {"t": {"latency": "2 s"}}}, steps("w", w={"agent": "a", "tools": {"t": 1.0}}))
    by_name = {span.name: span for span in result.spans}
    step, chat, call = by_name["invoke_agent"], by_name["chat"], by_name["execute_tool"]
    assert step.parent == 0
    assert chat.parent == call.parent == step.id
    assert by_name["inference"].parent == chat.id
    assert by_name["tool.execute"].parent == call.id
    assert (step.start, step.end) == (chat.start, call.end)


@pytest.mark.parametrize("policy", ["synchronous", "overlapped"])
def test_a_turn_makes_as_many_calls_as_it_says(policy: str) -> None:
    """Three calls, no call, and none at all for a turn that chooses none."""
    for count, share, made in ((3, 1.0, 3), (0, 1.0, 0), (2, 0.0, 0)):
        tools = {"soon": 1.0} if share else {"none": 1.0}
        result = run(
            TOOLS,
            {"runtime": {"preset": "ideal", "tools": policy}},
            steps("w", w={"agent": "a", "tools": tools, "calls": count}),
        )
        assert fact(result, "tool_calls") == made
        assert named(result, "tool.execute") == (min(made, 1) if policy == "overlapped" else made)
        assert len(leaves(result)) == made
