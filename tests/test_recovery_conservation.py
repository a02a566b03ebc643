"""Whole tasks that crash, are damaged, go wrong, run late and begin again: each strike has one outcome, and nothing is held."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordsim.models.context import FACTS
from coordsim.models.scenario import Scenario
from coordsim.sim.engine.incidents import FAILED, RECOVERED

from .test_incidents import Watched, world

PEOPLE = ["agents.a", "agents.b", "orchestrator"]
CRASH = st.builds(
    lambda on, mtbf, each, how: {"on": on, "down": how, "mtbf": mtbf, "mttr": "1 s", "each": each},
    st.sampled_from(PEOPLE), st.sampled_from(["6 s", "30 s"]), st.sampled_from(["task", "component"]),
    st.sampled_from(["refuse", "wait", "drain"]),
)  # fmt: skip
DAMAGE = st.builds(
    lambda on, rate, after: {"on": on, "corrupt": {"rate": rate, "after": after}},
    st.sampled_from(PEOPLE), st.sampled_from(["5 %", "30 %"]), st.integers(0, 3),
)  # fmt: skip
WRONG = st.builds(
    lambda on, rate: {"on": on, "bad_output": rate},
    st.sampled_from(["agents.a", "tools.t", "tools.u"]), st.sampled_from(["5 %", "40 %"]),
)  # fmt: skip
ERRORS = st.just({"on": ["tools.t", "models.n"], "error": "10 %"})
RECOVERY = st.fixed_dictionaries(
    {"restarts": st.integers(1, 4)},
    optional={
        "deadline": st.sampled_from(["4 s", "30 s"]),
        "restart_from": st.just("beginning"),
        "backoff": st.just({"first": "500 ms", "jitter": "full"}),
        "resume": st.just("300 ms"),
        "compensate": st.just(True),
        "escalate": st.just({"takes": "5 s", "solves": "50 %"}),
        "admission": st.just({"most": 20}),
    },
)
CHECKPOINT = st.one_of(
    st.none(),
    st.builds(
        lambda every, mode: {"every": every, "mode": mode, "write": {"overhead": "100 ms"}},
        st.integers(1, 3), st.sampled_from(["sync", "async", "exit"]),
    ),
)  # fmt: skip


def task_world(
    faults: dict[str, Any], recovery: dict[str, Any], checkpoint: dict[str, Any] | None, finds: float = 0.5
) -> Scenario:
    """Return the scenario of the calls, with tools whose calls can be taken back."""
    data = world({}, {"timeout": "20 s"}).to_data()
    data["tools"]["u"]["undo"] = "200 ms"
    data["evaluators"]["e"]["finds"] = finds
    orchestrator = {} if checkpoint is None else {"orchestrator": {"checkpoint": checkpoint}}
    return Scenario.model_validate({**data, "faults": faults, "recovery": recovery, **orchestrator})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    st.dictionaries(st.sampled_from(["p", "q"]), st.one_of(CRASH, DAMAGE, WRONG, ERRORS), min_size=1, max_size=2),
    RECOVERY,
    CHECKPOINT,
)
def test_nothing_is_lost_nor_held_whatever_becomes_of_tasks(
    faults: dict[str, Any], recovery: dict[str, Any], checkpoint: dict[str, Any] | None
) -> None:
    """Crashes, damage, wrong work, deadlines, restarts, people: the ledger's law holds, strikes add up, all is given back."""
    Watched(task_world(faults, recovery, checkpoint)).check()


def counted(run: Watched, fact: str) -> float:
    """Return the sum of a fact over all tasks."""
    rows = run.system.ledger.rows()
    return float(rows[:, 6 + FACTS.index(fact)].sum())


@pytest.mark.parametrize("finds", [0.0, 0.5, 1.0])
def test_wrong_work_is_found_as_often_as_the_evaluator_does(finds: float) -> None:
    """Of outputs that are wrong none, half or all are found by the one evaluator; what is found is made again, the rest is wrong."""
    data = task_world({"w": {"on": "tools.u", "bad_output": "30 %"}}, {}, None, finds).to_data()
    data["workload"]["tasks"] = 600
    data["workload"]["arrivals"] = {"poisson": "0.5 / s"}
    data["evaluators"]["e"]["accept"] = "100 %"
    data["workflow"]["steps"]["j"]["at_most"] = 100
    run = Watched(Scenario.model_validate(data))
    run.check()
    counts, wrong = run.system.incidents.counts[0], counted(run, "wrong")
    assert (counts[FAILED] == 0) == (finds == 1.0)
    assert (counts[RECOVERED] == 0) == (finds == 0.0)
    # Two calls of it a turn's loop, and one in the branch that may be first: with no evaluator 1 - 0.7^2 .. 1 - 0.7^3 are wrong.
    none_found = 1 - 0.7**2, 1 - 0.7**3
    if finds == 0.0:
        assert none_found[0] - 0.06 < wrong / 600 < none_found[1] + 0.06
    if finds == 0.5:
        assert 0.1 < wrong / 600 < none_found[0]
    if finds == 1.0:
        assert wrong == 0


@pytest.mark.parametrize("after", [0, 2])
def test_damaged_state_is_noticed_or_makes_the_result_wrong(after: int) -> None:
    """Noticed two steps later the task begins again and is right in the end; never noticed it is done, and wrong."""
    faults = {"d": {"on": "agents.a", "corrupt": {"rate": "20 %", "after": after}}}
    data = task_world(faults, {"restarts": 50}, {"every": 1, "write": {}}, finds=0.0).to_data()
    data["evaluators"]["e"]["accept"] = "100 %"
    run = Watched(Scenario.model_validate(data))
    run.check()
    counts = run.system.incidents.counts[0]
    assert sum(counts) > 10
    if after:
        assert counted(run, "restarts") > 0
        assert counts[RECOVERED] > counts[FAILED]
    else:
        assert counted(run, "restarts") == 0
        assert counts[FAILED] == sum(counts)
        assert 0 < counted(run, "wrong") <= sum(counts)


@pytest.mark.parametrize("solves", ["0 %", "50 %", "100 %"])
def test_a_person_solves_as_many_as_it_says(solves: str) -> None:
    """Of tasks that fail for good a person solves that share: none, half within 4 standard errors, all."""
    data = task_world({}, {"escalate": {"takes": "5 s", "solves": solves}}, None).to_data()
    data["workload"] |= {"tasks": 400}
    data["tools"]["t"] |= {"errors": "30 %", "handling": {"exhausted": "fail"}}
    run = Watched(Scenario.model_validate(data))
    run.check()
    failed, asked = sum(run.system.ledger.failures.values()), counted(run, "escalations")
    assert asked > 80
    share = float(solves.rstrip(" %")) / 100
    assert abs((asked - failed) / asked - share) <= 4 * (share * (1 - share) / asked) ** 0.5
