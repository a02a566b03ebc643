"""Faults in scenarios: what may be written, what of it is doubtful, and what the bounds count of it.

Mistakes have their files in tests/data/bad (`fault-*`, `handling-*`, `recovery-*`).
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.cli import main
from coordsim.models.bounds import Bounds, bounds
from coordsim.models.demand_faults import Tries, share_of_time
from coordsim.models.fault_plan import struck_by
from coordsim.models.faults import EFFECTS, STRIKES, Fault
from coordsim.models.handling import Handling
from coordsim.models.recovery import Recovery
from coordsim.models.scenario import Scenario
from coordsim.models.service import Errors
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import BUSY, Result
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.source import Document

from .scene import merged, scene
from .test_bad_input import INTERNAL, loaded_or_told, mutated
from .test_docs import blocks, commands

GOOD: dict[str, dict[str, Any]] = {
    "error": {"error": "1 %"},
    "hang": {"hang": "1 %"},
    "slow": {"slow": 2},
    "down": {"down": "refuse", "at": "1 min", "for": "10 s"},
    "overload": {"overload": {"above": 3}},
    "bad_output": {"bad_output": "1 %"},
    "corrupt": {"corrupt": "1 %"},
    "evict": {"evict": True, "at": "1 min"},
    "lost": {"lost": "1 %"},
    "duplicated": {"duplicated": "1 %"},
}
PLACES = {
    "tools": "tools.t",
    "retrievers": "retrievers.r",
    "memories": "memories.m",
    "models": "models.served",
    "encoders": "encoders.e",
    "agents": "agents.a",
    "orchestrator": "orchestrator",
    "network": "network.home->away",
    "nodes": "nodes.away",
}
WORLD: dict[str, Any] = {
    "profile": "h100-sxm",
    "tools": {"t": {"latency": "1 s", "handling": {"timeout": "1 min"}, "node": "away"}},
    "retrievers": {"r": {"latency": "1 s", "handling": {"timeout": "1 min"}}},
    "memories": {"m": {"read": "1 s", "handling": {"timeout": "1 min"}}},
    "models": {"served": {"kind": "llm", "shape": "llama-3.1-8b", "handling": {"timeout": "1 min"}}},
    "encoders": {"e": {"latency": "1 s", "handling": {"timeout": "1 min"}}},
    "network": {"nodes": {"home": {}, "away": {}}, "links": [{"between": ["home", "away"]}]},
    "orchestrator": {"node": "home"},
}


def text_of(*patches: dict[str, Any]) -> Scenario:
    """Return an empty world with a tool that each task calls once, and `patches`."""
    base = {"tools": {"t": {"latency": "1 s"}}, "workflow": {"start": "work", "steps": {"work": {"tool": "t"}}}}
    return scene(base, *patches)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("kind", PLACES)
def test_an_effect_strikes_what_the_table_says_and_nothing_else(effect: str, kind: str) -> None:
    """Each pair of effect and component is accepted exactly where `STRIKES` has it; else the message names both."""
    fault = {"faults": {"f": {"on": PLACES[kind], **GOOD[effect]}}}
    if kind in STRIKES[effect]:
        assert scene(WORLD, fault).faults["f"].effect == effect
        return
    with pytest.raises(ScenarioError) as caught:
        scene(WORLD, fault)
    (problem,) = caught.value.problems
    assert problem.path == "faults.f.on"
    assert f"`{effect}` strikes" in problem.message
    assert f"but not `{PLACES[kind]}`" in problem.message


@pytest.mark.parametrize(
    "ends",
    [
        {"tools": {"t": {"handling": {"timeout": "1 s"}}}},
        {"tools": {"t": {"handling": {"within": "1 s"}}}},
        {"recovery": {"deadline": "1 min"}},
        {"workload": {"tasks": None, "horizon": "1 h"}},
        {"faults": {"f": {"hang": 0}}},
    ],
    ids=["timeout", "within", "deadline", "horizon", "never"],
)
def test_a_hang_needs_somebody_who_stops_waiting(ends: dict[str, Any]) -> None:
    """Without, a task would wait for ever, and a run with it; anything that ends the wait will do."""
    hang = {"faults": {"f": {"on": "tools.t", "hang": "1 %"}}}
    with pytest.raises(ScenarioError, match="would wait for ever; add `handling"):
        text_of(hang)
    text_of(hang, ends)


def test_a_message_on_a_link_that_hangs_gets_through_later() -> None:
    """So nobody waits for ever, and nothing has to end the wait."""
    down = {"on": "network.home<->away", "down": "hang", "at": "1 s", "for": "1 s"}
    assert scene(WORLD, {"faults": {"f": down}}).faults["f"].may_hang


def test_a_node_stands_for_what_is_called_there() -> None:
    """A component that names no node runs where the orchestrator does; links are named in one direction or both."""
    loaded = scene(WORLD, {"faults": {"f": {"on": ["nodes.home", "tools.t"], **GOOD["down"]}}})
    found = struck_by(loaded, loaded.faults["f"])
    assert set(found) == {"retrievers.r", "memories.m", "models.served", "models.llm", "encoders.e", "tools.t"}
    both = scene(WORLD, {"faults": {"f": {"on": "network.home<->away", "lost": "1 %"}}})
    assert struck_by(both, both.faults["f"]) == ("network.home->away", "network.away->home")


def test_a_fault_says_what_it_does_in_one_way() -> None:
    """A single path and a list of one are the same, and so is a share and a mapping with its rate; both are written short."""
    short = Fault.model_validate({"on": "tools.t", "error": "5 %"})
    assert short == Fault.model_validate({"on": ["tools.t"], "error": {"rate": "5 %"}})
    assert short.to_data()["on"] == "tools.t"
    bare = Fault.model_validate({"on": "tools.t", "down": "wait", "mtbf": "1 h", "mttr": "1 min"})
    assert bare.mtbf is not None
    assert not bare.mtbf.is_constant
    assert bare.mtbf.mean == 3600


# Doubts


@pytest.mark.parametrize(
    ("patch", "doubt"),
    [
        ({"faults": {"f": {"on": "models.llm", "error": "1 %"}}}, "no step calls `models.llm`"),
        ({"faults": {"f": {"on": "agents.a", "bad_output": "1 %"}}}, "no step calls `agents.a`"),
        (
            {"faults": {"f": {"on": "nodes.n", **GOOD["down"]}}, "network": {"nodes": {"n": {}}}},
            "no step calls anything on `nodes.n`",
        ),
        ({"faults": {"f": {"on": "orchestrator", "corrupt": "1 %"}}}, "fails each task that it strikes"),
        ({"faults": {"f": {"on": "tools.t", "error": "1 %", "at": "9 d", "for": "1 s"}}}, "never comes"),
        ({"recovery": {"restarts": 2}}, "no `orchestrator.checkpoint`"),
        ({"recovery": {"compensate": True}}, "no tool has `undo`"),
    ],
)
def test_what_is_legal_but_doubtful_is_told(patch: dict[str, Any], doubt: str) -> None:
    """One doubt each, and none once the cause is gone."""
    (found,) = text_of(patch).doubts()
    assert doubt in found
    assert text_of().doubts() == []


def test_what_others_call_is_called() -> None:
    """The model of a step's agent, of a summary, and what stands in when calls fail are struck: no doubt."""
    called = {
        "agents": {"a": {"memory": "m", "retriever": "r"}},
        "retrievers": {"r": {"latency": "1 s", "handling": {"fallback": "other"}}, "other": {"latency": "1 s"}},
        "memories": {"m": {"read": "1 s", "summarize": {"model": "sum", "above": "2k tokens", "to": "1k tokens"}}},
        "models": {"sum": {"kind": "llm"}},
        "tools": {"t": {"latency": "1 s"}, "idle": {"latency": "1 s"}},
        "workflow": {
            "start": "w",
            "steps": {"w": {"agent": "a", "tools": {"markov": {"start": {"t": 1}, "t": {"end": 1}}}}},
        },
    }
    paths = ["tools.t", "models.llm", "models.sum", "retrievers.other", "memories.m", "tools.idle"]
    found = scene(called, {"faults": {"f": {"on": paths, "error": "1 %"}}}).doubts()
    assert found == ["faults.f: no step calls `tools.idle`, so that it never strikes there"]


# Bounds


def demand(found: Bounds, name: str) -> float:
    """Return what a task asks of a resource (s)."""
    return found.resource(name).demand


def ran(scenario: Scenario, name: str) -> float:
    """Return what a task asked of a resource in a run (s)."""
    result: Result = simulate(scenario)
    place = [resource.name for resource in result.resources].index(name)
    return float(result.snapshots[-1].resources[place][BUSY]) / len(result.rows)


@pytest.mark.parametrize("retries", [1, 2, 5])
def test_attempts_after_independent_errors_are_a_geometric_sum(retries: int) -> None:
    """(1 - q^n) / (1 - q), with q of the tool's own errors and of two faults together."""
    q = 1 - 0.8 * 0.7 * 0.9
    faults = {"f": {"on": "tools.t", "error": "30 %"}, "g": {"on": "tools.t", "error": "10 %"}}
    tool = {"latency": "1 s", "concurrency": 1, "errors": "20 %", "handling": {"retry": retries}}
    of = text_of({"tools": {"t": tool}, "faults": faults})
    assert demand(bounds(of), "tools.t") == pytest.approx((1 - q**retries) / (1 - q), rel=1e-12)


CASES: dict[str, dict[str, Any]] = {
    "independent": {"faults": {"f": {"on": "tools.t", "error": "30 %"}}},
    "in bursts": {"faults": {"f": {"on": "tools.t", "error": {"rate": "10 %", "after_error": "60 %"}}}},
    "by problem": {"faults": {"f": {"on": "tools.t", "error": {"rate": "20 %", "concentration": 1}}}},
    "by problem, and its own": {
        "faults": {"f": {"on": "tools.t", "error": {"rate": "20 %", "concentration": 2}}},
        "tools": {"t": {"errors": "20 %"}},
    },
    "always slow": {"faults": {"f": {"on": "tools.t", "slow": 3}}},
    "slow at times": {"faults": {"f": {"on": "tools.t", "slow": 3, "at": "0 s", "for": "40 s", "every": "100 s"}}},
    "not to be retried": {
        "faults": {"f": {"on": "tools.t", "error": "50 %"}},
        "tools": {"t": {"handling": {"retry": {"attempts": 4, "on": ["timeout"]}}}},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_the_mean_demand_is_that_of_the_simulator(case: str) -> None:
    """Of 4,000 tasks with up to 4 attempts a call; the mean over them is within 5 % (their spread leaves 1.5 %)."""
    base = {
        "workload": {"arrivals": {"poisson": "0.1 / s"}, "tasks": 4000},
        "tools": {"t": {"concurrency": 40, "handling": {"retry": 4}}},
        "workflow": {"start": "work", "steps": {"work": {"tool": "t", "next": "more"}, "more": {"tool": "t"}}},
    }
    of = text_of(base, CASES[case])
    assert demand(bounds(of), "tools.t") == pytest.approx(ran(of, "tools.t"), rel=0.05)
    if case != "not to be retried":
        assert demand(bounds(of), "tools.t") > 1.1 * demand(bounds(text_of(base)), "tools.t")


def test_failed_calls_of_a_model_are_made_again_and_counted() -> None:
    """Of a model with errors at 25 % and 3 attempts: 1 + 1/4 + 1/16 calls, and what is repeated is recovery."""
    of = scene(
        {"models": {"llm": {"overhead": "1 s", "concurrency": 1, "handling": {"retry": 3}}}},
        {"faults": {"f": {"on": "models.llm", "error": "25 %"}}},
    )
    found = bounds(of)
    assert demand(found, "models.llm") == pytest.approx(1.3125)
    assert found.times["inference"] == pytest.approx(1.0)
    assert found.times["recovery"] == pytest.approx(0.3125)


def test_waits_between_attempts_are_recovery_in_the_mean() -> None:
    """With errors at 50 % and waits of 2 s and 4 s, of which half in the mean: 0.5 * 1 + 0.25 * 2 s, and the attempts themselves."""
    backoff = {"first": "2 s", "jitter": "full"}
    retry = {"attempts": 3, "backoff": backoff}
    found = bounds(text_of({"tools": {"t": {"errors": "50 %", "handling": {"retry": retry}}}}))
    assert found.times["recovery"] == pytest.approx(0.75 + 0.5 + 0.5)


def test_a_call_finds_the_chain_as_the_last_attempt_left_it() -> None:
    """Without retries calls fail at the chain's steady rate; with many the last attempt went well, and the first rate holds."""
    chance = {"rate": "10 %", "after_error": "60 %"}
    tries = Tries(text_of({"faults": {"f": {"on": "tools.t", "error": chance}}}))
    once, often = (Handling.model_validate({"retry": attempts}) for attempts in (2, 100))
    # Two attempts: f = 0.1 + 0.5 * 0.6 f, as a call fails after the failed one before. Many: 0.1 (1 + 0.6 + 0.36 + ...).
    assert tries.more("tools.t", once)[0] == pytest.approx(0.1 / 0.7)
    assert tries.more("tools.t", often)[0] == pytest.approx(0.1 / 0.4)


def test_a_budget_bounds_the_attempts() -> None:
    """Of 10 % of the calls at most, whatever the errors."""
    tries = Tries(text_of())
    tight = Handling.model_validate({"retry": {"attempts": 5, "budget": "10 %"}})
    wide = Handling.model_validate({"retry": {"attempts": 5, "budget": "100 %"}})
    errors = Errors.model_validate("50 %")
    assert tries.more("tools.t", tight, errors)[0] == pytest.approx(0.1)
    assert tries.more("tools.t", wide, errors)[0] == pytest.approx(0.5 + 0.25 + 0.125 + 0.0625)


def test_the_mean_over_a_beta_distribution_is_exact() -> None:
    """E[p + p^2 + ... ] from the Beta's moments, for up to 100 attempts and both narrow and wide distributions."""
    for rate, concentration in ((0.1, 0.5), (0.3, 9.0), (0.5, 200.0), (0.01, 0.01)):
        chance = {"rate": rate, "concentration": concentration}
        tries = Tries(text_of({"faults": {"f": {"on": "tools.t", "error": chance}}}))
        for attempts in (2, 3, 10, 100):
            places = np.arange(attempts - 1)
            moments = np.cumprod((rate * concentration + places) / (concentration + places))
            handling = Handling.model_validate({"retry": attempts})
            assert tries.more("tools.t", handling)[0] == pytest.approx(float(moments.sum()), rel=1e-9)


@pytest.mark.parametrize(
    ("when", "share"),
    [
        ({}, 1.0),
        ({"at": "0 s", "for": "10 s"}, 0.0),
        ({"at": "0 s", "for": "10 s", "every": "40 s"}, 0.25),
        ({"mtbf": "45 s", "mttr": "5 s"}, 0.1),
    ],
)
def test_the_share_of_time_of_a_slow_spell(when: dict[str, Any], share: float) -> None:
    """MTTR / (MTBF + MTTR), or its length over its period; nothing in the long run of one that comes once."""
    assert share_of_time(Fault.model_validate({"on": "tools.t", "slow": 2, **when})) == pytest.approx(share)


def test_what_is_not_in_the_bounds_is_named() -> None:
    """By its place in the scenario; there is no note where all is counted, or nothing was written."""
    counted = text_of({"faults": {"f": {"on": "tools.t", "error": "5 %"}}, "tools": {"t": {"handling": {"retry": 3}}}})
    for plain in (text_of(), counted):
        assert not [note for note in bounds(plain).notes if "not in these bounds" in note]
    rest = {
        "faults": {"outage": {"on": "tools.t", **GOOD["down"]}, "once": {"on": "tools.t", **GOOD["down"], "at": "0 s"}},
        "tools": {"t": {"handling": {"timeout": "2 s", "hedge": {"after": "1 s"}}}},
        "recovery": {"deadline": "1 h"},
    }
    (note,) = [one for one in bounds(text_of(rest)).notes if "not in these bounds" in one]
    assert note.startswith("faults and handling are not in these bounds: faults.outage, faults.once, ")
    for place in ("tools.t.handling.timeout", "tools.t.handling.hedge", "recovery.deadline"):
        assert place in note


def test_retries_that_nothing_holds_back_are_warned_of() -> None:
    """At load 0.4, 3 attempts are 1.2 if all fail; a budget, a backoff, or half the load, and there is nothing to warn of."""
    base = {
        "workload": {"arrivals": {"poisson": "0.4 / s"}, "tasks": 100},
        "tools": {"t": {"concurrency": 1, "queue_limit": 5, "handling": {"retry": 3}}},
    }
    (warning,) = bounds(text_of(base)).warnings
    assert warning.startswith("tools.t: were all calls to fail, 3 attempts would be 120% of 1 call at once")
    for calm in (
        {"tools": {"t": {"handling": {"retry": {"attempts": 3, "budget": "10 %"}}}}},
        {"tools": {"t": {"handling": {"retry": {"attempts": 3, "backoff": {"first": "1 s"}}}}}},
        {"workload": {"arrivals": {"poisson": "0.2 / s"}}},
        {"tools": {"t": {"queue_limit": None}}},
    ):
        assert bounds(text_of(merged(base, calm))).warnings == ()


def test_attempts_multiply_with_the_runs_of_a_task() -> None:
    """3 attempts in each of 4 runs are twelve times the load."""
    base = {
        "workload": {"arrivals": {"poisson": "0.1 / s"}, "tasks": 100},
        "tools": {"t": {"concurrency": 1, "errors": "1 %", "handling": {"retry": 3}}},
        "recovery": {"restarts": 3, "restart_from": "beginning"},
    }
    (warning,) = bounds(text_of(base)).warnings
    assert "3 attempts in each of 4 runs of a task would be 120% of" in warning


def test_a_timeout_that_most_attempts_run_into_is_warned_of() -> None:
    """It is compared with the median of the component's own latency."""
    short = {
        "tools": {"t": {"latency": {"lognormal": {"median": "1 s", "p95": "9 s"}}, "handling": {"timeout": "900 ms"}}}
    }
    (warning,) = bounds(text_of(short)).warnings
    assert warning == "tools.t: the timeout of 900 ms is less than the median latency, 1 s: most attempts run into it"
    assert bounds(text_of(merged(short, {"tools": {"t": {"handling": {"timeout": "1.1 s"}}}}))).warnings == ()


# Written wrong, at random

ALL = """
coordsim: 1
name: all
seed: 7
runtime: stateless-api
workload: {arrivals: {poisson: 1 / s}, tasks: 10, problems: 5}
agents:
  a: {model: llm, node: pod}
models:
  llm: {kind: llm, node: pod, handling: {timeout: 1 min, retry: {attempts: 3, backoff: {first: 1 s, jitter: full}, budget: 10 %}}}
  spare: {kind: llm, node: pod, handling: {breaker: {failing: 50 %, calls: 10, open: 10 s}, within: 1 min}}
tools:
  t: {latency: 1 s, errors: 5 %, handling: {hedge: {quantile: 95 %, tied: true, to: u}, fallback: u, timeout: 3 s}}
  u: {latency: 1 s, handling: {retry: 2, bulkhead: 5, escalate: 5 min, exhausted: fail}}
network:
  nodes: {edge: {}, pod: {}}
  links: [{between: [edge, pod], latency: 1 ms}]
orchestrator: {node: edge}
workflow:
  start: w
  steps:
    w: {agent: a, tools: {t: 1, u: 1}}
faults:
  slow: {on: [tools.t, models.llm], slow: 3, mtbf: 1 h, mttr: 1 min}
  outage: {on: nodes.pod, down: refuse, at: [1 min, 5 min], for: 10 s}
  loss: {on: network.edge<->pod, lost: 1 %}
  luck: {on: tools.t, error: {rate: 1 %, concentration: 9}}
  crash: {on: agents.a, down: refuse, each: task, mtbf: 1 h, mttr: 1 s}
  hang: {on: tools.t, hang: {rate: 1 %, after_error: 5 %}}
recovery: {restarts: 2, restart_from: beginning, backoff: {first: 1 s}, escalate: {takes: 1 h, solves: 90 %}}
"""


@pytest.mark.parametrize("batch", range(3))
def test_faults_written_wrong_at_random_load_or_are_refused(batch: int) -> None:
    """Of 40 scenarios gone wrong, none ends in another exception or a word of the program's; what loads is written out and back."""
    loaded = 0
    Scenario.from_text(ALL)
    for number in range(40):
        changed = mutated(ALL, random.Random(f"faults/{batch}/{number}"))
        found = loaded_or_told(changed)
        if isinstance(found, str):
            assert not INTERNAL.search(found), changed
            continue
        loaded += 1
        assert Scenario.of(Document.from_data(found.to_data(), "s")) == found, changed
        found.doubts()
    assert 0 < loaded < 40


# The page about it


def test_the_scenario_of_the_page_is_whole_and_its_commands_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The YAML of docs/faults.md loads without a doubt; its commands exit with 0, and `--set` reaches the faults."""
    page = root / "docs" / "faults.md"
    (text,) = blocks(page, "yaml")
    assert Scenario.from_text(text).doubts() == []
    (tmp_path / "flaky-search.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = commands(page)
    assert [one[1] for one in found] == ["check", "run"]
    for _, *arguments in found:
        short = ["--replications", "2", "--workers", "1", "--quiet"] if arguments[0] == "run" else []
        more = ["--set", "workload.tasks=60", "--set", "faults.outage.mttr=2min"]
        assert main([*arguments, *short, *more]) in (0, 4), capsys.readouterr().err
    assert "faults and handling are not in these bounds" in capsys.readouterr().out


def test_the_page_has_every_effect_and_policy(root: Path) -> None:
    """Each effect of a fault, and each field of handling and recovery, is in a table of docs/faults.md."""
    rows = [
        line for line in (root / "docs" / "faults.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| `"
    ]
    first = " ".join(row.split("|")[1] for row in rows)
    for name in EFFECTS:
        assert f"`{name}" in first
    for name in {*Handling.model_fields, *Recovery.model_fields} - {"resume", "restart_from"}:
        assert f"`{name}" in first
