"""The scenarios of teams: what a supervisor's sub-agents and a debate answer, as their comments say, and that chance shows.

Leaves out: published bands (test_bands_teams.py); whether they load, run and explain every second (test_scenarios.py).
"""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pytest

from coordsim.models.scenario import load
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import Result

from .test_scenarios import FOLDER, SHARED, Z999, comment, mean_of

__all__ = ["AGENTS", "DEBATE", "NONE", "SHARED", "SUB_AGENT", "TEAM", "Sets", "mean_of", "team_run"]

TEAM = "workflow.steps.research"
SUB_AGENT = "workflows.sub-agent"
DEBATE = "workflow.steps.debate"
AGENTS = "agents"
Sets = Mapping[str, str]  # paths of the scenario, and what they are set to
NONE: Sets = MappingProxyType({})
QUESTIONS = 12  # of a research task: sub-agents x rounds


@cache
def _team_run(name: str, tasks: int, spans: str, changes: tuple[tuple[str, str], ...]) -> Result:
    scenario = load(FOLDER / f"{name}.yaml", {**dict(changes), "workload.tasks": str(tasks)})
    return simulate(scenario, spans=spans)


def team_run(name: str, tasks: int, spans: str = "none", **changes: str) -> Result:
    """Return a run of a scenario with `changes` of paths, made once."""
    return _team_run(name, tasks, spans, tuple(sorted(changes.items())))


def sub_agents(count: int, tasks: int = 28, changes: Sets = NONE) -> Result:
    """Return a run in which so many sub-agents at a time work on the twelve questions."""
    return team_run(
        "research-team", tasks, **{f"{TEAM}.size": str(count), f"{TEAM}.rounds": str(QUESTIONS // count), **changes}
    )


def seconds(result: Result) -> float:
    """Return the mean T_total."""
    return float(result.response_times.mean())


def input_tokens(result: Result) -> float:
    """Return all input tokens of a task."""
    return sum(mean_of(result, f"{kind}_tokens") for kind in ("new", "carried", "cached"))


def waiting(result: Result) -> float:
    """Return the share of T_total that joins cost, by waiting for the last and not the mean of their branches."""
    return mean_of(result, "straggler_excess") / seconds(result)


# -- research-team: what more sub-agents save and cost

MANY = (1, 2, 4, 6, 12)


def test_more_sub_agents_save_time_and_each_less() -> None:
    """From 1 to 12 at a time T_total falls throughout, to less than a third; what each saves falls from 75 % to 30 %."""
    times = [seconds(sub_agents(count)) for count in MANY]
    assert all(np.diff(times) < 0)
    gains = [times[0] / one for one in times]
    shares = [gain / count for gain, count in zip(gains, MANY, strict=True)]
    assert all(np.diff(shares) < 0)
    assert 0.65 < shares[MANY.index(2)] < 0.85
    assert 0.45 < shares[MANY.index(4)] < 0.62
    assert 0.25 < shares[MANY.index(12)] < 0.37


def test_times_and_tokens_are_those_of_the_comment() -> None:
    """Of the table: T_total within 12 %, input tokens and model calls within 8 %; the comment's are of 360 tasks, these of 28."""
    table = {
        1: (1506, 2.66e6, 92),
        2: (1013, 2.46e6, 86),
        4: (700, 2.40e6, 84),
        6: (568, 2.35e6, 82),
        12: (412, 2.33e6, 81),
    }
    text = "\n".join(comment("research-team"))
    for count, (total, sent, calls) in table.items():
        result = sub_agents(count)
        assert f"{total} s" in text
        assert seconds(result) == pytest.approx(total, rel=0.12)
        assert input_tokens(result) == pytest.approx(sent, rel=0.08)
        assert mean_of(result, "llm_calls") == pytest.approx(calls, rel=0.08)


def test_what_is_not_saved_waits_for_the_slowest() -> None:
    """Waiting at joins is about a tenth of the time of one sub-agent (for its tools), and 35 % to 50 % from four on."""
    shares = {count: waiting(sub_agents(count)) for count in MANY}
    assert 0.05 < shares[1] < 0.13
    assert shares[1] < shares[2] < shares[4]
    assert all(0.33 < shares[count] < 0.50 for count in (4, 6, 12))


def test_sub_agents_do_not_cost_more_tokens_for_the_same_questions() -> None:
    """Input tokens fall by 5 % to 20 %, the lead's with its rounds; messages are two a question; less is found in caches."""
    one, most = sub_agents(1), sub_agents(12)
    assert 0.80 < input_tokens(most) / input_tokens(one) < 0.95
    assert mean_of(one, "llm_calls") > mean_of(most, "llm_calls")
    for result in (one, most):
        assert set(result.fact("agent_messages")) <= {24, 28, 32, 36}
    found = [mean_of(result, "cached_tokens") / input_tokens(result) for result in (one, most)]
    assert found[0] > found[1] + 0.08


def test_with_more_questions_a_round_tokens_grow_with_sub_agents_and_time_hardly() -> None:
    """One round of 4, 8 and 16 sub-agents: new tokens by 1.6 to 2 with each doubling, the time by less than 1.35."""
    results = [sub_agents(count, changes={f"{TEAM}.rounds": "1"}) for count in (4, 8, 16)]
    plain = [mean_of(one, "new_tokens") + mean_of(one, "output_tokens") for one in results]
    times = [seconds(one) for one in results]
    for before, after in pairwise(plain):
        assert 1.4 < after / before < 2
    for before, after in pairwise(times):
        assert 1 < after / before < 1.35


def test_a_limit_of_tokens_takes_the_gain() -> None:
    """With 300k tokens a minute, 1 to 4 still save a quarter; from 6 to 12 less than 8 %, against 20 % to 35 % without."""
    limit = {"models.sonnet.limits.tokens": "300k tokens / min"}
    limited = {count: seconds(sub_agents(count, 24, limit)) for count in (1, 4, 6, 12)}
    free = {count: seconds(sub_agents(count)) for count in (6, 12)}
    assert limited[4] < 0.8 * limited[1]
    assert abs(1 - limited[12] / limited[6]) < 0.08
    assert 0.20 < 1 - free[12] / free[6] < 0.35


def test_not_waiting_for_the_last_saves_a_quarter_of_the_time() -> None:
    """Three of four reports: 20 % to 32 % less time, the others' tokens for the most part spent all the same."""
    every, some = sub_agents(4), sub_agents(4, changes={f"{TEAM}.quorum": "3"})
    assert 0.20 < 1 - seconds(some) / seconds(every) < 0.32
    assert 0.85 < input_tokens(some) / input_tokens(every) < 1
    assert waiting(some) < waiting(every) - 0.05


def test_sub_agents_that_keep_their_context_send_far_more() -> None:
    """One that goes on through twelve questions sends five to seven times the tokens of one started anew for each."""
    kept = sub_agents(1, 30, {f"{TEAM}.fresh": "false"})
    anew = sub_agents(1, 30)
    assert 5 < input_tokens(kept) / input_tokens(anew) < 7.5
    assert seconds(kept) > seconds(anew)


# -- research-team: what is left to chance shows in the results


@cache
def watched() -> Result:
    """Return a run as shipped, with what happened in it."""
    return team_run("research-team", 24, spans="all")


def calls_of(result: Result) -> dict[tuple[int, int], list[tuple[float, str]]]:
    """Return the tool calls by task and lane: when, and which."""
    found: dict[tuple[int, int], list[tuple[float, str]]] = {}
    for span in result.spans:
        if span.name == "tool.execute" and span.component in ("search", "fetch"):
            found.setdefault((span.task, span.lane), []).append((span.start, span.component))
    return found


def test_tools_are_chosen_by_the_last_one() -> None:
    """Both are called, in many different orders, and a chain that begins with a search fetches more than it searches."""
    result = watched()
    counts = Counter(name for calls in calls_of(result).values() for _, name in calls)
    assert 1.05 < counts["fetch"] / counts["search"] < 1.6
    assert len({tuple(sorted(Counter(name for _, name in calls).items())) for calls in calls_of(result).values()}) >= 2
    never = team_run("research-team", 10, spans="all", **{f"{SUB_AGENT}.steps.look.tools": "{fetch: 1}"})
    assert {name for calls in calls_of(never).values() for _, name in calls} == {"fetch"}


def test_tools_fail_and_after_an_error_more_often() -> None:
    """Errors are counted, at 5 % to 8 % of calls: 2 % of searches, 8 % of pages, and more after an error."""
    result = sub_agents(4)
    assert 0.04 < mean_of(result, "tool_errors") / mean_of(result, "tool_calls") < 0.08


def test_plans_are_revised_on_the_way() -> None:
    """A sub-agent that rethinks begins its search anew: with 0, 5 and 20 % a turn tasks take more and more calls."""
    calls = [
        mean_of(sub_agents(4, 16, {f"{SUB_AGENT}.steps.look.replan": f"{{rethink: {chance} %}}"}), "llm_calls")
        for chance in (0, 5, 20)
    ]
    assert calls[0] < calls[1] < calls[2]
    assert calls[2] > 1.2 * calls[0]


def test_steps_repeat_and_differ_from_task_to_task() -> None:
    """Turns of the loop are drawn: of the same twelve questions hardly two tasks take as many steps."""
    taken = watched().fact("steps")
    assert len(set(taken)) > 0.6 * len(taken)
    assert 0.05 < taken.std() / taken.mean() < 0.5


def test_a_reviewer_sends_back_and_ends_early() -> None:
    """Rounds after the review: none in 60 % of tasks, else one more after each rejection, and at most three.

    Each is four messages. The reviewer is asked once more than there were rounds, but not after the last.
    """
    messages = sub_agents(4, 90).fact("agent_messages")
    rounds = (messages - 2 * QUESTIONS) / 4
    assert set(rounds) == {0.0, 1.0, 2.0, 3.0}
    error = Z999 * (0.6 * 0.4 / len(rounds)) ** 0.5
    assert abs(float((rounds == 0).mean()) - 0.6) < error
    assert (rounds == 1).sum() > (rounds == 2).sum()
    for accept, extra in (("0 %", 3), ("100 %", 0)):
        judged = sub_agents(4, 10, {"evaluators.reviewer.accept": accept})
        assert set(judged.fact("agent_messages")) == {2 * QUESTIONS + 4 * extra}


def test_a_person_is_asked_in_some_tasks_and_the_step_is_skipped_in_others() -> None:
    """Human time is in 30 % of tasks within a 99.9 % interval, in none with `skip: 100 %`, and in all with 0 %."""
    human = sub_agents(4, 90).category("human")
    error = Z999 * (0.3 * 0.7 / len(human)) ** 0.5
    assert abs(float((human > 0).mean()) - 0.3) < error
    for skip, share in (("100 %", 0.0), ("0 %", 1.0)):
        asked = sub_agents(4, 10, {"workflow.steps.clarify.skip": skip})
        assert float((asked.category("human") > 0).mean()) == share


def test_more_sub_agents_meet_the_same_person_and_the_same_verdict() -> None:
    """What a task's user takes, and how often it is sent back, is the same with any number of sub-agents."""
    few, many = sub_agents(2), sub_agents(6)
    np.testing.assert_array_equal(few.category("human"), many.category("human"))
    np.testing.assert_array_equal(few.fact("agent_messages"), many.fact("agent_messages"))


# -- debate


def debate(**changes: str) -> Result:
    """Return a run of the debate with changes of its step."""
    given = {f"{DEBATE}.{name}": value for name, value in changes.items() if name != "kv"}
    return team_run("debate", 16, **{**given, **({"runtime.kv": changes["kv"]} if "kv" in changes else {})})


def slope(points: dict[int, float]) -> float:
    """Return the exponent of least squares in log-log."""
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def test_the_table_of_the_debate_is_what_comes_out() -> None:
    """Within 10 % in time and 15 % in tokens, of 180 tasks against 16; messages exactly."""
    debaters = {2: (3.6, 2.5e3, 6), 4: (4.6, 6.0e3, 20), 8: (5.9, 17.3e3, 72), 16: (8.3, 57.5e3, 272)}
    rounds = {1: (2.3, 1.4e3, 3), 4: (8.0, 14.2e3, 30), 8: (15.6, 53.5e3, 66), 16: (32.0, 210e3, 138)}
    runs = [(debate(size=str(n)), row) for n, row in debaters.items()]
    runs += [(debate(rounds=str(n)), row) for n, row in rounds.items()]
    for result, (total, sent, messages) in runs:
        assert seconds(result) == pytest.approx(total, rel=0.10)
        assert input_tokens(result) == pytest.approx(sent, rel=0.15)
        assert set(result.fact("agent_messages")) == {messages}


def test_time_grows_with_rounds_and_little_with_debaters() -> None:
    """In proportion to rounds (0.85 to 1.02 over 1 to 16), and by a power of 0.3 to 0.5 of the debaters (2 to 16)."""
    assert 0.85 < slope({n: seconds(debate(rounds=str(n))) for n in (1, 2, 4, 8, 16)}) < 1.02
    assert 0.3 < slope({n: seconds(debate(size=str(n))) for n in (2, 4, 8, 16)}) < 0.5


def test_tokens_grow_with_nearly_the_square_of_both() -> None:
    """Input tokens: 1.8 to 2 over 1 to 16 rounds, 1.45 to 1.8 over 2 to 16 debaters; outputs in proportion to both."""
    assert 1.8 < slope({n: input_tokens(debate(rounds=str(n))) for n in (1, 2, 4, 8, 16)}) < 2
    assert 1.45 < slope({n: input_tokens(debate(size=str(n))) for n in (2, 4, 8, 16)}) < 1.8
    assert 0.9 < slope({n: mean_of(debate(size=str(n)), "output_tokens") for n in (2, 4, 8, 16)}) < 1.05


def test_a_quorum_saves_time_and_messages() -> None:
    """Two of three: 25 % to 42 % less time; a third of the messages is not said."""
    every, some = debate(), debate(quorum="2")
    assert 0.25 < 1 - seconds(some) / seconds(every) < 0.42
    assert set(some.fact("agent_messages")) == {8}
    assert set(every.fact("agent_messages")) == {12}
    assert waiting(some) < 0.7 * waiting(every)


def test_a_shared_context_changes_neither_time_nor_tokens_but_what_a_server_finds() -> None:
    """Eight debaters, four rounds: as many tokens, times within 8 %; without a cache between calls far more is found."""
    big = {"size": "8", "rounds": "4"}
    own, common = debate(**big), debate(**big, context="shared")
    assert input_tokens(common) == pytest.approx(input_tokens(own), rel=1e-9)
    assert seconds(common) == pytest.approx(seconds(own), rel=0.08)
    bare, bare_common = debate(**big, kv="discard"), debate(**big, kv="discard", context="shared")
    found = [mean_of(one, "cached_tokens") / input_tokens(one) for one in (bare, bare_common)]
    assert found[0] < 0.1
    assert found[1] > 0.4


def test_a_debate_may_end_before_its_last_round() -> None:
    """With `stop: 50 %` rounds differ, 1 to 4, and the time is less than that of all four."""
    some, every = debate(rounds="4", stop="50 %"), debate(rounds="4")
    calls = set(some.fact("llm_calls"))
    assert len(calls) >= 3
    assert calls <= {3 * rounds + 1 for rounds in (1, 2, 3, 4)}
    assert seconds(some) < 0.75 * seconds(every)


# -- what the comments say


@pytest.mark.parametrize("name", ["research-team", "debate"])
def test_the_comment_tells_how_to_vary_what_the_question_is_about(name: str) -> None:
    """Each command of the comment runs: its settings load."""
    commands = [line for line in comment(name) if line.startswith("coordsim run")]
    assert len(commands) >= 4
    for line in commands:
        words = line.split("    #")[0].replace("'", "").split("--set ")[1:]
        sets = dict(word.strip().split("=", 1) for word in words)
        load(FOLDER / f"{name}.yaml", sets)
