"""The watchdog: tasks that wait for ever are named, with what they wait for, and who has it."""

import pytest

from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.engine.branch import Branch
from coordsim.sim.engine.ledger import Ledger
from coordsim.sim.engine.pool import Pool
from coordsim.sim.engine.simulation import Simulation
from coordsim.sim.engine.watchdog import StuckError


def test_a_circle_is_told() -> None:
    """Each of two tasks holds the one server that the other waits for: the dining philosophers, two of them."""
    sim = Simulation()
    ledger = Ledger(sim, ())
    ledger.account("queueing", "x")
    forks = [Pool(sim, name, 1) for name in ("left", "right")]
    for pool in forks:
        pool.queue_account = pool.service_account = 0

    def dine(branch: Branch, first: Pool, second: Pool):  # type: ignore[no-untyped-def]
        for pool in (first, second):
            pool.take(branch.wait, branch.time)
            yield
            branch.held = [*(branch.held or ()), pool]
            branch.time = sim.now + 1.0
            branch.settle()
            yield

    for index in (0, 1):
        task = ledger.open(index, 0, 0.0)
        task.trunk = Branch(task, 0, 0.0, None)
        task.trunk.start(dine(task.trunk, *(forks if index == 0 else forks[::-1])))
    sim.run()
    with pytest.raises(StuckError) as caught:
        ledger.finish(None)
    told = str(caught.value)
    assert "2 tasks wait for ever; in a circle: task 0 -> task 1 -> task 0" in told
    assert "task 0 waits for right since 1 s, held by task 1" in told
    assert "task 1 waits for left since 1 s, held by task 0" in told


def test_a_call_that_hangs_names_its_component() -> None:
    """Where a hang gets past the checks (a timeout that is taken away), the tasks and the tool are named; not a silent end."""
    text = """
coordsim: 1
name: hangs
seed: 1
runtime: ideal
workload: {arrivals: {poisson: 1 / s}, tasks: 50}
agents: {a: {model: m}}
models: {m: {kind: llm, overhead: 1 s}}
tools: {t: {latency: 1 s, handling: {timeout: 5 s}}}
workflow: {start: s, steps: {s: {agent: a, tools: {t: 1}}}}
faults: {stuck: {on: tools.t, hang: 10 %}}
"""
    scenario = Scenario.from_text(text)
    assert simulate(scenario).failures == {"tools.t: timeout": 4}
    tool = scenario.tools["t"]
    patient = tool.model_copy(update={"handling": tool.handling.model_copy(update={"timeout": None})})
    with pytest.raises(StuckError, match=r"4 tasks wait for ever:\n  task \d+ waits for tools.t since"):
        simulate(scenario.model_copy(update={"tools": {"t": patient}}))


def test_clocks_of_faults_keep_no_run_going_in_which_all_wait_for_ever() -> None:
    """Outages that come and go by chance for ever do not hide that nothing else will happen."""
    text = """
coordsim: 1
name: hangs
seed: 1
runtime: ideal
workload: {arrivals: {poisson: 1 / s}, tasks: 5}
agents: {a: {model: m}}
models: {m: {kind: llm, overhead: 1 s}}
tools: {t: {latency: 1 s, handling: {timeout: 5 s}}}
workflow: {start: s, steps: {s: {agent: a, tools: {t: 1}}}}
faults: {stuck: {on: tools.t, hang: 100 %}, gray: {on: models.m, slow: 2, mtbf: 10 s, mttr: 5 s}}
"""
    scenario = Scenario.from_text(text)
    tool = scenario.tools["t"]
    patient = tool.model_copy(update={"handling": tool.handling.model_copy(update={"timeout": None})})
    with pytest.raises(StuckError, match="5 tasks wait for ever"):
        simulate(scenario.model_copy(update={"tools": {"t": patient}}))
