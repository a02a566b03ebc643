"""Hedged and tied calls: what the second attempt changes, exactly in small and against theory in large.

Theory: with a second attempt after d the time of a call is min(X, d + X') of independent X and X' of one distribution, so that its
tail is P(X > t) P(X > t - d) beyond d. A share P(X > d) of the calls is hedged.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import expon, lognorm

from coordsim.sim.analysis.result import Result

from .scene import Data, fact, overlapped, parts, run, statuses, steps, total

CALL = steps("t", t={"tool": "t"})
COUNT = 40_000
SIGMA = 2.0
HEAVY = {"lognormal": {"median": "1 s", "p95": f"{math.exp(1.6448536269514722 * SIGMA)} s"}}
LIGHT = {"exponential": {"mean": "1 s"}}


def hedged(hedge: Data | None, **changes: object) -> Data:
    """Return a tool `t` of 3 s, hedged, and a quick `u`."""
    handling: Data = {} if hedge is None else {"handling": {"hedge": hedge}}
    return {"tools": {"t": {"latency": "3 s", **handling, **changes}, "u": {"latency": "0.5 s"}}}


def times(result: Result) -> np.ndarray:
    """Return the seconds of all tasks."""
    seconds: np.ndarray = result.rows[:, 3] - result.rows[:, 2]
    return seconds


def load_and_cut(latency: Data, quantile: float) -> tuple[float, float]:
    """Return the share of calls that are hedged at a learned quantile, and by how much the 99.9 % quantile falls."""
    many: Data = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": COUNT}}
    plain = run(many, hedged(None, latency=latency), CALL, spans="none")
    other = run(many, hedged({"quantile": quantile}, latency=latency), CALL, spans="none")
    calls = other.incidents.calls["tools.t"]
    assert calls.attempts == COUNT + calls.hedges
    before, after = (np.quantile(times(result), 0.999) for result in (plain, other))
    return calls.hedges / COUNT, float(before / after)


def predicted(tail: Callable[[float], float], inverse: Callable[[float], float], quantile: float) -> float:
    """Return by how much theory has the 99.9 % quantile fall."""
    delay = inverse(1 - quantile)
    hedged_tail = lambda time: tail(time) * tail(time - delay) - 0.001  # noqa: E731
    return inverse(0.001) / brentq(hedged_tail, delay, inverse(0.0005))


def test_the_second_answer_counts_if_it_comes_first() -> None:
    """A hedge after 1 s to a tool of 0.5 s: 1 s of waiting is recovery, and 1.5 s of the first attempt are wasted."""
    result = run(hedged({"after": "1 s", "to": "u"}), CALL)
    assert parts(result) == {"recovery": 1, "tool": 0.5}
    calls = result.incidents.calls["tools.t"]
    assert (calls.hedges, calls.won, calls.wasted) == (1, 1, 1.5)
    assert fact(result, "hedges") == 1
    assert overlapped(result) == 1.5


def test_the_first_answer_counts_if_it_comes_first() -> None:
    """A hedge after 1 s of the same 3 s: it is cancelled at 3 s, and its 2 s are wasted."""
    result = run(hedged({"after": "1 s"}), CALL)
    assert parts(result) == {"tool": 3}
    calls = result.incidents.calls["tools.t"]
    assert (calls.hedges, calls.won, calls.wasted) == (1, 0, 2)
    assert overlapped(result) == 2


def test_a_call_quicker_than_the_delay_is_not_hedged() -> None:
    """The hedge would begin at 3 s, when the answer is there."""
    assert run(hedged({"after": "3.1 s"}), CALL).incidents.calls["tools.t"].hedges == 0


def test_a_hedge_stands_in_for_an_attempt_that_fails() -> None:
    """The first attempt ends in an error at 3 s; the second one, of 5 s, answers at 6 s. Where that fails, too, so does the call."""
    failing = hedged({"after": "1 s", "to": "u"}, errors=1.0)
    slow: Data = {"tools": {"u": {"latency": "5 s"}}}
    result = run(failing, slow, CALL)
    assert statuses(result) == [0]
    assert total(result) == 6
    both = run(failing, slow, {"tools": {"u": {"errors": 1.0, "handling": {"exhausted": "fail"}}}}, CALL)
    assert total(both) == 6
    assert both.incidents.calls["tools.t"].failed == 1


def test_an_attempt_that_is_never_answered_is_overtaken() -> None:
    """The first attempt is lost with its component, and nobody tells: the hedge to another answers."""
    outage = {"faults": {"gone": {"on": "tools.t", "at": "1000.5 s", "for": "9 s", "down": "hang"}}}
    patient: Data = {"handling": {"hedge": {"after": "1 s", "to": "u"}, "timeout": "99 s"}}
    result = run(hedged(None, **patient), outage, CALL)
    assert total(result) == 1.5
    assert result.incidents.calls["tools.t"].won == 1


def test_tied_calls_are_served_once() -> None:
    """Of two that are tied the first to be served cancels the other: where t is busy, u serves, and t is free for the next."""
    hedge: Data = {"after": "0 s", "to": "u", "tied": True}
    two = {"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 2}}
    result = run(two, hedged(hedge, concurrency=1), {"tools": {"u": {"concurrency": 1}}}, CALL)
    assert [total(result, task) for task in (0, 1)] == [3, 0.5]
    calls = result.incidents.calls["tools.t"]
    assert (calls.hedges, calls.won, calls.wasted) == (1, 1, 0)
    assert overlapped(result, 1) == 0


@pytest.mark.parametrize("tied", [False, True])
def test_a_second_attempt_that_waits_is_given_up(tied: bool) -> None:
    """Both wait for one slot; once the first is served or answered, the second leaves the line, and the slot is free."""
    three = {"workload": {"arrivals": {"deterministic": "1M / s"}, "tasks": 3}}
    result = run(three, hedged({"after": "1 s", "tied": tied}, concurrency=1), CALL)
    assert [round(total(result, task)) for task in range(3)] == [3, 6, 9]


@pytest.mark.parametrize(("keyed", "duplicates"), [(False, 1), (True, 0)])
def test_two_attempts_that_are_both_done_have_two_effects(keyed: bool, duplicates: int) -> None:
    """The answer of the first takes 2 s to come back; the second is done 1 s after the first."""
    away: Data = {
        "network": {
            "nodes": {"here": {}, "there": {}},
            "links": [
                {"from": "there", "to": "here", "latency": "2 s", "bandwidth": "1 MB/s"},
                {"from": "here", "to": "there"},
            ],
        },
        "orchestrator": {"node": "here"},
        "agents": {"a": {"node": "here"}},
        "runtime": {"preset": "external-orchestrator", "codec": "none", "notification": "event"},
    }
    spec = {"node": "there", "repeatable": False, "response": "10 B"}
    handling = {"hedge": {"after": "1 s"}, "idempotent": keyed}
    result = run(away, hedged(None, handling=handling, **spec), CALL)
    assert fact(result, "duplicates") == duplicates
    assert total(result) == pytest.approx(5, abs=1e-3)


@pytest.mark.slow
def test_hedging_cuts_the_tail_of_a_heavy_distribution() -> None:
    """Lognormal of sigma 2, hedged at the learned 95 % quantile: less than 6 % more calls, and p99.9 falls by more than 5x.

    The other way: hedged later (97.5 %) it costs less and cuts less, hedged earlier (92.5 %) it costs more and cuts more.
    """
    tail, inverse = lognorm(SIGMA).sf, lognorm(SIGMA).isf
    found = {quantile: load_and_cut(HEAVY, quantile) for quantile in (0.925, 0.95, 0.975)}
    share, cut = found[0.95]
    assert 0.04 < share < 0.06
    assert cut > 5
    for quantile, (extra, gain) in found.items():
        assert extra == pytest.approx(1 - quantile, rel=0.15)
        assert gain == pytest.approx(predicted(tail, inverse, quantile), rel=0.25)
    assert found[0.925][0] > share > found[0.975][0]
    assert found[0.925][1] > cut > found[0.975][1]


@pytest.mark.slow
def test_hedging_does_little_for_a_light_tail() -> None:
    """Exponential: p99.9 falls by 1.4, as theory says, since a second attempt is not quicker than what is left of the first."""
    tail, inverse = expon.sf, expon.isf
    assert predicted(tail, inverse, 0.95) == pytest.approx(1.40, abs=0.02)
    found = {quantile: load_and_cut(LIGHT, quantile) for quantile in (0.925, 0.95, 0.975)}
    for quantile, (extra, gain) in found.items():
        assert extra == pytest.approx(1 - quantile, rel=0.15)
        assert gain == pytest.approx(predicted(tail, inverse, quantile), rel=0.1)
    assert found[0.925][1] > found[0.95][1] > found[0.975][1]
