"""Conservation under faults: every strike has one outcome, and when all is over nothing is held and nobody waits."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordsim.models.condition import Condition
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import Load
from coordsim.models.system import System
from coordsim.sim.engine.incidents import OPEN, OUTCOMES, Incidents, Strike
from coordsim.sim.engine.pool import Pool


def world(faults: dict[str, Any], handling: dict[str, Any], **changes: Any) -> Scenario:
    """Return a scenario of an agent with two tools and two models, parallel branches of which the first counts, and an evaluator."""
    tool = {"latency": {"exponential": {"mean": "1 s"}}, "handling": handling}
    data: dict[str, Any] = {
        "coordsim": 1,
        "name": "struck",
        "seed": 1,
        "runtime": "ideal",
        "workload": {"arrivals": {"poisson": "2 / s"}, "tasks": 60, "warmup": "0 s"},
        "agents": {
            "a": {"model": "m", "prompt": "100 tokens", "output": "20 tokens", "concurrency": 50},
            "b": {"model": "n"},
        },
        "models": {
            "m": {
                "kind": "llm",
                "concurrency": 4,
                "overhead": "300 ms",
                "decode": "10 ms / token",
                "handling": handling,
            },
            "n": {
                "kind": "api",
                "overhead": {"exponential": {"mean": "1 s"}},
                "handling": handling,
                "price": {"output": "$10 / 1M tokens"},
            },
        },
        "tools": {"t": {**tool, "concurrency": 4, "queue_limit": 30}, "u": tool},
        "evaluators": {"e": {"latency": "10 ms", "accept": "90 %"}},
        "workflow": {
            "start": "s",
            "steps": {
                "s": {"agent": "a", "tools": {"t": 1, "u": 1}, "repeat": 2, "next": "f"},
                "f": {"fork": ["x", "y"], "join": "any", "next": "j"},
                "x": {"agent": "b", "tools": {"t": 1}},
                "y": {"tool": "u"},
                "j": {"evaluator": "e", "rejected": "s", "at_most": 3},
            },
        },
        "faults": faults,
    }
    return Scenario.model_validate({**data, **changes})


class Watched:
    """A run whose strikes are watched one by one, and whose parts can be looked at afterwards."""

    def __init__(self, scenario: Scenario, seed: int = 1, spans: str = "none") -> None:
        self.strikes: list[Strike] = []
        self.system = System(scenario, seed, 0, spans)
        strike = Incidents.strike

        def watched(incidents: Incidents, *given: Any) -> Strike:
            self.strikes.append(strike(incidents, *given))
            return self.strikes[-1]

        Incidents.strike = watched  # type: ignore[method-assign, assignment]
        try:
            self.load = Load(self.system)
            self.load.run()
        finally:
            Incidents.strike = strike  # type: ignore[method-assign]

    def check(self) -> None:
        """Hold the run against what must be true of any."""
        system = self.system
        counted: Counter[tuple[int, int]] = Counter()
        for one in self.strikes:
            assert one.outcome is not None, (
                f"{system.incidents.causes[one.cause].name} struck task {one.task} and stays open"
            )
            counted[one.cause, one.outcome] += 1
        for cause, counts in enumerate(system.incidents.counts):
            assert counts == [counted[cause, outcome] for outcome in range(len(OUTCOMES))]
            assert not counts[OPEN]
        assert not system.ledger.live
        assert not system.ledger.lingering
        assert system.sim.peek() == float("inf")
        for pool in system.ledger.resources:
            if isinstance(pool, Pool):
                assert (pool.busy, pool.waiting) == (0, 0), pool.name
        for condition in system.plan.conditions.values():
            self._nobody_at(condition)
        components = [*system._services.values(), *system.servers.values()]
        for component in components:
            guard = component.guard
            if guard is not None and guard.bulk is not None:
                assert guard.bulk.inside == 0
        assert len(system.incidents.harms) == len({harm.task for harm in system.incidents.harms})

    def _nobody_at(self, condition: Condition) -> None:
        assert not condition.present
        assert not condition.outside
        if isinstance(condition.pool, Pool):
            assert (condition.pool.busy, condition.pool.waiting) == (0, 0)


TARGETS = ["tools.t", "tools.u", "models.m", "models.n"]
WHEN: Any = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"at": st.sampled_from(["0 s", "5 s", "12 s"]), "for": st.sampled_from(["1 s", "8 s", "40 s"])}
    ),
    st.fixed_dictionaries({"mtbf": st.sampled_from(["4 s", "15 s"]), "mttr": st.sampled_from(["1 s", "6 s"])}),
)
SHARES = st.sampled_from(["5 %", "40 %", "100 %"])
CALLS = st.one_of(
    st.fixed_dictionaries({"error": SHARES}),
    st.fixed_dictionaries({"hang": SHARES}),
    st.fixed_dictionaries({"overload": st.fixed_dictionaries({"above": st.integers(0, 6), "rate": SHARES})}),
    st.fixed_dictionaries({"slow": st.sampled_from([0.5, 3.0, 20.0])}),
)
DOWN = st.fixed_dictionaries({"down": st.sampled_from(["refuse", "hang", "wait", "drain"])})
TIMED = st.sampled_from([{"at": ["3 s", "20 s"], "for": "6 s"}, {"mtbf": "10 s", "mttr": "3 s"}])
ON = st.lists(st.sampled_from(TARGETS), min_size=1, max_size=3, unique=True)
FAULT = st.one_of(
    st.builds(lambda on, what, when: {"on": on, **what, **when}, ON, CALLS, WHEN),
    st.builds(lambda on, what, when: {"on": on, **what, **when}, ON, DOWN, TIMED),
)
BACKOFF = st.fixed_dictionaries(
    {"first": st.sampled_from(["0 s", "200 ms"]), "jitter": st.sampled_from(["none", "full", "equal", "decorrelated"])}
)
HANDLING = st.fixed_dictionaries(
    {"timeout": st.sampled_from(["500 ms", "2 s", "6 s"])},
    optional={
        "within": st.just("8 s"),
        "on_timeout": st.sampled_from(["cancel", "run on"]),
        "retry": st.fixed_dictionaries(
            {"attempts": st.integers(1, 4), "backoff": BACKOFF}, optional={"budget": st.just("10 %")}
        ),
        "breaker": st.just({"failing": "50 %", "calls": 5, "open": "3 s"}),
        "bulkhead": st.integers(1, 6),
        "hedge": st.sampled_from([{"after": "300 ms"}, {"after": "0 s", "tied": True}, {"quantile": "80 %"}]),
        "escalate": st.just("2 s"),
        "exhausted": st.sampled_from(["continue", "fail"]),
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.dictionaries(st.sampled_from(["p", "q", "r"]), FAULT, min_size=1, max_size=3), HANDLING, st.integers(0, 3))
def test_nothing_is_lost_nor_held_under_random_faults(
    faults: dict[str, Any], handling: dict[str, Any], seed: int
) -> None:
    """Whatever goes wrong and whatever is done about it: each strike has one outcome, and all that was taken is given back."""
    Watched(world(faults, handling), seed).check()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.dictionaries(st.sampled_from(["p", "q"]), FAULT, min_size=1, max_size=2), HANDLING)
def test_spans_change_nothing_under_random_faults(faults: dict[str, Any], handling: dict[str, Any]) -> None:
    """A run that keeps spans has the same tasks, to the last bit, and its law holds as well."""
    scenario = world(faults, handling)
    with_spans, without = Watched(scenario, spans="all"), Watched(scenario)
    with_spans.check()
    assert with_spans.system.ledger.rows().tobytes() == without.system.ledger.rows().tobytes()
    assert with_spans.system.incidents.counts == without.system.incidents.counts


@pytest.mark.parametrize("fault", ["error", "slow", "down"])
def test_faults_that_cannot_strike_change_nothing(fault: str) -> None:
    """With all rates zero a run is that without a `faults` section, byte for byte: rows, accounts, and the order of events."""
    never: dict[str, Any] = {
        "error": {"on": TARGETS, "error": "0 %"},
        "slow": {"on": TARGETS, "slow": 1},
        "down": {"on": TARGETS, "down": "refuse", "at": "1 s", "for": "0 s"},
    }
    with_it, without = (Watched(world(faults, {})).system for faults in ({"f": never[fault]}, {}))
    assert with_it.ledger.columns == without.ledger.columns
    assert with_it.ledger.rows().tobytes() == without.ledger.rows().tobytes()
    assert with_it.sim.scheduled == without.sim.scheduled


def test_a_fault_that_strikes_others_leaves_a_task_as_it_was() -> None:
    """Faults that come to nothing before a task ends change none of its times: those of the first ten tasks are the same to 1e-9."""
    late = {"f": {"on": TARGETS, "error": "100 %", "at": "1 h", "for": "1 min"}}
    struck, alone = (Watched(world(faults, {})).system.ledger.rows() for faults in (late, {}))
    assert abs(struck[:, 2:4] - alone[:, 2:4]).max() < 1e-9


@pytest.mark.slow
def test_ten_thousand_tasks_at_once_under_random_faults() -> None:
    """10,000 users at once, outages, hangs, errors, slow spells: every task ends, every strike has one outcome, nothing is held."""
    faults = {
        "errors": {"on": ["tools.t", "models.n"], "error": {"rate": "10 %", "after_error": "25 %"}},
        "hangs": {"on": "tools.u", "hang": "3 %"},
        "outage": {"on": ["tools.t", "tools.u"], "down": "refuse", "mtbf": "8 s", "mttr": {"lognormal": {"median": "5 s", "p95": "30 s"}}},
        "gray": {"on": "models.m", "slow": 4, "mtbf": "20 s", "mttr": "10 s"},
        "deploy": {"on": "models.n", "down": "drain", "at": "3 s", "every": "20 s", "for": "4 s"},
        "crash": {"on": "tools.t", "down": "hang", "mtbf": "6 s", "mttr": "2 s"},
    }  # fmt: skip
    handling = {
        "timeout": "10 s", "on_timeout": "run on", "retry": {"attempts": 4, "backoff": {"first": "500 ms", "jitter": "full"}, "budget": "20 %"},
        "breaker": {"calls": 50, "open": "5 s"}, "exhausted": "continue",
    }  # fmt: skip
    base = world(faults, handling).to_data()
    base["workload"] = {"arrivals": {"closed": {"users": 10000, "think": "1 s"}}, "tasks": 12000, "warmup": "0 s"}
    base["models"]["m"]["concurrency"] = 2000
    base["tools"]["t"] |= {"concurrency": 1000, "queue_limit": 5000}
    base["agents"]["a"]["concurrency"] = 20000
    run = Watched(Scenario.model_validate(base))
    run.check()
    ledger = run.system.ledger
    assert ledger.ended == 12000
    assert max(snapshot.tasks_arrived - snapshot.tasks_ended for snapshot in ledger.snapshots) > 5000
    struck = {
        cause.name: run.system.incidents.injected(number) for number, cause in enumerate(run.system.incidents.causes)
    }
    assert {name for name in faults if struck[name] >= 20} == set(faults), struck
