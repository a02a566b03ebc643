"""What is wrong with a component, and what that does to the calls that come: exactly, call by call."""

import math

import pytest

from coordsim.sim.engine.incidents import OUTCOMES

from .scene import Data, fact, parts, row_of, run, statuses, steps, total

CALL = steps("t", t={"tool": "t"})
EACH_SECOND: Data = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 5}}  # from 1 s on
OUTAGE: Data = {"on": "tools.t", "at": "2.25 s", "for": "1 s"}
TOOL: Data = {"tools": {"t": {"latency": "0.5 s", "handling": {"timeout": "20 s"}}}}


def outage(down: str) -> Data:
    """Return the patch of an outage from 2.25 s to 3.25 s."""
    return {"faults": {"gone": {**OUTAGE, "down": down}}}


@pytest.mark.parametrize(
    ("down", "status", "seconds"),
    [
        ("refuse", [0, 1, 1, 0, 0], [0.5, 0.25, 0, 0.5, 0.5]),  # the second is lost, the third refused
        ("hang", [0, 1, 1, 0, 0], [0.5, 20, 20, 0.5, 0.5]),  # and nobody tells
        ("wait", [0, 0, 0, 0, 0], [0.5, 0.5, 0.75, 0.5, 0.5]),
        ("drain", [0, 0, 1, 0, 0], [0.5, 0.5, 0, 0.5, 0.5]),
    ],
)
def test_an_outage_strikes_those_who_are_there_and_those_who_come(
    down: str, status: list[int], seconds: list[float]
) -> None:
    """Calls come at 1 s, 2 s ... and take 0.5 s; the component is down from 2.25 s to 3.25 s."""
    result = run(EACH_SECOND, TOOL, outage(down), CALL)
    assert [int(row_of(result, task)[4]) for task in range(5)] == status
    assert [round(total(result, task), 9) for task in range(5)] == seconds
    assert result.incidents.down == {"tools.t": pytest.approx(1.0)}


def test_waiting_for_the_end_of_an_outage_is_recovery() -> None:
    """The third call waits 0.25 s, and is answered later than it might: degraded."""
    result = run(EACH_SECOND, TOOL, outage("wait"), CALL)
    assert parts(result, 2) == pytest.approx({"recovery": 0.25, "tool": 0.5})
    assert dict(zip(OUTCOMES, result.incidents.counts[0], strict=True)) == {
        "recovered": 0, "degraded": 1, "failed": 0, "harmless": 0, "open": 0,
    }  # fmt: skip


def test_a_call_that_is_lost_is_tried_again_once_the_component_is_up() -> None:
    """Lost at 2.25 s, refused at 2.75 s, answered from 3.25 s on; the strikes are recovered."""
    handling = {"retry": {"attempts": 5, "backoff": {"first": "0.5 s", "factor": 1}}}
    result = run(EACH_SECOND, TOOL, {"tools": {"t": {"handling": handling}}}, outage("refuse"), CALL)
    assert statuses(result) == [0] * 5
    assert parts(result, 1) == pytest.approx({"recovery": 1.25, "tool": 0.5})
    assert result.incidents.counts[0][0] == fact(result, "retries", 1) + fact(result, "retries", 2)


def test_a_slow_component_takes_longer() -> None:
    """Three times as long while the fault is there; two of them multiply."""
    slow: Data = {"on": "tools.t", "at": "1.5 s", "for": "1 s", "slow": 3}
    one = run(EACH_SECOND, TOOL, {"faults": {"x": slow}}, CALL)
    assert [total(one, task) for task in range(3)] == [0.5, 1.5, 0.5]
    both = run(EACH_SECOND, TOOL, {"faults": {"x": slow, "y": {**slow, "slow": 2}}}, CALL)
    assert [total(both, task) for task in range(3)] == [0.5, 3.0, 0.5]


def test_a_slow_model_takes_longer() -> None:
    """So does an inference; the next one waits for its slot."""
    slow = {"faults": {"x": {"on": "models.llm", "at": "1.5 s", "for": "1 s", "slow": 3}}}
    result = run(EACH_SECOND, {"models": {"llm": {"overhead": "0.5 s"}}}, slow)
    assert [total(result, task) for task in range(3)] == [0.5, 1.5, 1.0]


def test_an_overloaded_component_refuses_by_load() -> None:
    """With more than two calls there the next one is refused: of five at once the fourth and fifth."""
    burst: Data = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 5}}
    faults = {"faults": {"busy": {"on": "tools.t", "overload": {"above": 2}}}}
    result = run(burst, TOOL, faults, CALL)
    assert result.failures == {"tools.t: overloaded": 2}


def test_errors_and_hangs_come_as_often_as_they_should() -> None:
    """Of 3000 calls 20 % end in an error and 10 % of all are never answered; z-scores within 3.29."""
    count = 3000
    many: Data = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": count}}
    handling = {"tools": {"t": {"handling": {"timeout": "2 s", "exhausted": "fail"}}}}
    faults = {"faults": {"wrong": {"on": "tools.t", "error": 0.2}, "gone": {"on": "tools.t", "hang": 0.1}}}
    result = run(many, TOOL, handling, faults, CALL, spans="none")
    gone, wrong = result.failures["tools.t: timeout"], result.failures["tools.t: error"]
    for found, share in ((gone, 0.1), (wrong, 0.9 * 0.2)):
        assert abs(found - share * count) < 3.29 * math.sqrt(count * share * (1 - share))
        assert abs(found - 1.3 * share * count) > 3.29 * math.sqrt(count * share * (1 - share))
    assert [sum(counts) for counts in result.incidents.counts] == [wrong, gone]


@pytest.mark.parametrize("down", ["2 s", "10 s"])
def test_calls_find_a_component_as_available_as_theory_says(down: str) -> None:
    """MTBF / (MTBF + MTTR), from time down and from the calls that are refused; it alternates about 1200 times."""
    count, mtbf, mttr = 40_000, 20.0, float(down.removesuffix(" s"))
    many: Data = {"workload": {"arrivals": {"poisson": "1 / s"}, "tasks": count}}
    fault = {"faults": {"x": {"on": "tools.t", "mtbf": f"{mtbf} s", "mttr": down, "down": "refuse"}}}
    result = run(many, {"tools": {"t": {"latency": "1 us"}}}, fault, CALL, spans="none")
    available = mtbf / (mtbf + mttr)
    cycles = result.incidents.occurrences[0]
    sure = available * (1 - available) * math.sqrt(2 / cycles)  # exponential up and down times, by the delta method
    span = float(result.rows[:, 3].max())
    assert abs(result.incidents.down["tools.t"] / span - (1 - available)) < 3.29 * sure
    refused = sum(result.failures.values()) / count
    assert abs(refused - (1 - available)) < 3.29 * math.hypot(sure, math.sqrt(available * (1 - available) / count))
    assert abs(refused - 1.5 * (1 - available)) > 3.29 * sure


def test_faults_that_do_nothing_leave_no_trace() -> None:
    """Rates of zero: the same rows, byte for byte, as without faults."""
    never = {"faults": {"x": {"on": "tools.t", "error": 0.0}, "y": {"on": "tools.t", "hang": 0.0}}}
    quiet, plain = (run(EACH_SECOND, TOOL, patch, CALL) for patch in (never, {}))
    assert quiet.rows.tobytes() == plain.rows.tobytes()
    assert quiet.accounts == plain.accounts
