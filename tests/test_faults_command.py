"""The command `coordsim faults`: costs, reach, strikes, timeline, levels and steps; formats, files, exit codes and mistakes."""

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest

from coordsim.models.fault_study import FaultStudyError, StudyOptions, make_plan
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis import fault_study
from coordsim.sim.analysis.fault_study import StudyResult, run_plan
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.engine.incidents import OUTCOMES
from coordsim.sim.report import fault_words

from .command import Call
from .pages import outside, page_data

QUIET = ("--workers", "1", "--quiet")
SHOP = """
coordsim: 1
name: shop
seed: 5
replications: 3
runtime: ideal
workload: {arrivals: {poisson: 2 / s}, tasks: 200, warmup: 0 s}
agents: {a: {model: m}}
models: {m: {kind: llm, concurrency: 100, overhead: 100 ms}}
tools:
  search: {latency: 300 ms, concurrency: 1, handling: {timeout: 20 s, retry: 2, exhausted: fail}}
  pay: {latency: 50 ms, handling: {exhausted: fail}}
workflow:
  start: look
  steps:
    look: {agent: a, tools: {search: 1}, repeat: 1, next: buy}
    buy: {tool: pay}
faults:
  brownout: {on: tools.search, slow: 5, at: 40 s, for: 5 s}
  declined: {on: tools.pay, error: 10 %}
"""
STORM = """
coordsim: 1
name: storm
seed: 2
replications: 1
runtime: ideal
workload: {arrivals: {poisson: 20 / s}, horizon: 250 s, warmup: 0 s}
agents: {a: {model: m}}
models: {m: {kind: llm, concurrency: 1000, overhead: 10 ms}}
tools:
  search:
    latency: 60 ms
    concurrency: 2
    handling:
      timeout: 1 s
      on_timeout: run on
      retry: {attempts: 8, backoff: {first: 500 ms, jitter: equal}BUDGET}
      exhausted: fail
workflow: {start: s, steps: {s: {agent: a, tools: {search: 1}}}}
faults: {trigger: {on: tools.search, slow: 4, at: 1 min, for: 10 s}}
slo: {p95: 3 s}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a scenario with an outage of a queue, and errors of a tool without one."""
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP, encoding="utf-8")
    return path


def study(text: str, replications: int = 1, window: float | None = None, **options: object) -> StudyResult:
    """Return what a study of a scenario finds."""
    scenario = Scenario.from_text(text)
    plan = make_plan(scenario, StudyOptions(**options))  # type: ignore[arg-type]
    settings = Settings(replications=replications, warmup=scenario.workload.warmup)
    return run_plan(simulate_text, plan, seed=scenario.seed, settings=settings, window=window)


def test_the_answer_comes_first_in_words(call: Call, shop: Path) -> None:
    """What each fault costs in a sentence with figures; then the tables."""
    done = call("faults", shop, "--window", "5 s", *QUIET)
    words = " ".join(done.out.split())
    assert re.search(r"declined fails [\d.]+ % \S+ [\d.]+\S* of the tasks", words.replace("[", "").replace(",", ""))
    assert re.search(r"brownout delays \d+ % .* of the tasks by .* in the mean", words)
    titles = ("What each fault adds", "Whom each fault reached", "What became of the strikes", "Does it stay broken?",
              "What happened in replication 0")  # fmt: skip
    assert all(title in done.out for title in titles)


def test_reach_is_counted_by_pairs_of_tasks() -> None:
    """An error fails exactly the tasks that it strikes, and a slow queue delays tasks that it never struck."""
    found = {one.name: one for one in study(SHOP, 2).costs}
    declined, brownout = found["declined"].reach, found["brownout"].reach
    assert declined is not None
    assert brownout is not None
    runs = [simulate(Scenario.from_text(SHOP), replication=number) for number in range(2)]
    failed = sum(sum(run.failures.values()) for run in runs)
    assert failed
    assert declined.failed.value == declined.struck.value == failed / declined.tasks
    assert declined.failed_unstruck.value == declined.delayed.value == 0
    assert brownout.failed.value == 0
    assert 0 < brownout.struck.value < brownout.delayed.value
    assert brownout.delayed_unstruck.value > 0
    assert brownout.delay.value > brownout.delay_unstruck.value > 0


def test_the_delay_is_the_difference_of_two_runs() -> None:
    """Share and mean of the delays are those of the tasks of two plain runs, with the fault and without."""
    text = SHOP.replace("  declined: {on: tools.pay, error: 10 %}\n", "")
    (cost,) = study(text).costs
    here, calm = (simulate(Scenario.from_text(one)) for one in (text, text[: text.index("faults:")]))
    later = here.elapsed - calm.elapsed
    late = later > 0.01 * calm.elapsed
    assert cost.reach is not None
    assert cost.reach.delayed.value == pytest.approx(late.mean())
    assert cost.reach.delay.value == pytest.approx(later[late].mean())
    touched = here.incidents.touched[0]
    assert cost.reach.struck.value == len(touched) / 200


def test_what_faults_add_is_paired() -> None:
    """The added success of all faults is that with them less that without, which is 1 here."""
    costs = study(SHOP, 3).costs
    assert costs[0].name == "all faults"
    success = costs[0].metrics["success"]
    assert success.without.value == 1
    assert success.added.value == pytest.approx(success.having.value - 1)
    assert success.added.half_width < 0.2


def test_every_strike_has_one_outcome() -> None:
    """Strikes of a cause are the sum of their outcomes, and the tasks that a cause failed are as many as failed in the run."""
    found = study(SHOP)
    for one in found.causes:
        assert one.strikes == sum(one.outcomes[name] for name in OUTCOMES)
    by = {one.name: one for one in found.causes}
    assert by["declined"].failed == sum(simulate(Scenario.from_text(SHOP)).failures.values())
    assert by["brownout"].outcomes["degraded"] > 0


def test_a_collapse_that_outlives_its_trigger_is_told() -> None:
    """Retries keep a queue beyond its capacity after the trigger; with a budget for retries goodput comes back."""
    line = study(STORM.replace("BUDGET", ""), window=5.0).timeline
    (stuck,) = line.triggers
    assert line.in_system[-1] > 0.5 * max(line.in_system)  # also at the horizon, which cuts tasks off
    assert stuck.collapse.state == "metastable"
    assert stuck.good < 0.1 * stuck.offered
    assert stuck.pressures[0].component == "tools.search"
    assert stuck.pressures[0].factor > 1.5
    assert 0 <= stuck.first_strike < stuck.first_harm < 5
    (free,) = study(STORM.replace("BUDGET", ", budget: 5 %"), window=5.0).timeline.triggers
    assert free.collapse.state == "recovered"
    assert free.collapse.time_to_recover < 60


def test_a_stuck_collapse_is_said_with_figures(call: Call, tmp_path: Path) -> None:
    """The sentence says when the trigger ended, what goodput is since, and what sustains it."""
    path = tmp_path / "storm.yaml"
    path.write_text(STORM.replace("BUDGET", ""), encoding="utf-8")
    done = call("faults", path, "--window", "5 s", *QUIET)
    words = " ".join(done.out.split())
    assert "stays collapsed although that is over" in words
    assert re.search(
        r"What sustains it: tools.search gets [\d.]+ calls per task that arrives, against 1(\.\d+)? before", words
    )


def test_policies_are_left_out_one_by_one() -> None:
    """Each policy that is written is switched off; a retry that nothing needs changes nothing."""
    found = {one.name: one for one in study(SHOP, handling=True).costs if one.kind == "handling"}
    assert set(found) == {"tools.search: timeout", "tools.search: retry"}
    assert found["tools.search: retry"].metrics["success"].added.value == 0
    assert found["tools.search: retry"].changes == ("tools.search.handling.retry=null",)


def test_what_breaks_first_is_named_with_its_levels(call: Call, shop: Path) -> None:
    """A queue that holds 3.3 tasks a second breaks between a load of 2 and of 4."""
    arguments = ("faults", shop, "--set", "faults=null", "--rise", "load", "--levels", "0.5,1,2", *QUIET)
    words = " ".join(call(*arguments).out.split())
    assert "The first component to break is tools.search (" in words
    assert "at a load factor between 1 and 2" in words
    data = json.loads(call(*arguments, "--format", "json").out)
    used = [row["utilization"]["tools.search"]["value"] for row in data["levels"]]
    assert used[0] == pytest.approx(0.3, abs=0.06)
    assert used[1] == pytest.approx(2 * used[0], rel=0.05)
    assert used[2] > 0.95


def test_levels_are_told_as_they_are_written(call: Call, shop: Path) -> None:
    """A value along a path keeps its unit in the sentence."""
    arguments = ("--along", "faults.declined.error=10%,20%", "--format", "json", *QUIET)
    data = json.loads(call("faults", shop, *arguments).out)
    words = " ".join(data["statement"])
    assert "The first objective to break is success, at faults.declined.error of 10 % or below." in words
    assert "No component surely breaks up to faults.declined.error 20 %." in words


def test_who_fails_and_who_is_saved_comes_after_the_change_of_success() -> None:
    """Where a fault fails some and saves as many, the sentence begins with what is left of it."""
    cost = next(one for one in study(SHOP, 3).costs if one.name == "declined")
    assert cost.reach is not None
    same = Estimate(-0.01, -0.03, 0.01, 0.95, 3, "paired t")
    success = dataclasses.replace(cost.metrics["success"], added=same)
    reach = dataclasses.replace(cost.reach, rescued=cost.reach.tasks // 20)
    told = fault_words._cost(dataclasses.replace(cost, metrics={**cost.metrics, "success": success}, reach=reach))
    assert told.startswith("declined changes success by -1.0 % ± 2.0 (while it fails ")
    assert told.endswith(" of the tasks and saves 5 %).")
    assert fault_words._cost(cost).startswith("declined fails ")


def test_rates_of_faults_rise_by_their_factor() -> None:
    """Twice the chance of an error fails about twice the tasks; a value along a path does the same."""
    text = SHOP.replace("tasks: 200", "tasks: 1000").replace("at: 40 s", "at: 1000 h")
    rows = study(text, rise="faults", levels="1,2").levels
    lost = [1 - row.metrics["success"].value for row in rows]
    assert lost[0] == pytest.approx(0.1, abs=0.03)
    assert lost[1] == pytest.approx(0.2, abs=0.04)
    rows = study(text, along="faults.declined.error=20 %,10 %").levels
    assert [row.shown for row in rows] == ["10 %", "20 %"]
    assert [1 - row.metrics["success"].value for row in rows] == lost


@pytest.mark.parametrize(
    ("arrivals", "rate"),
    [
        ("{deterministic: 3 / s}", 6.0),
        ("{ramp: {from: 1 / s, to: 3 / s, over: 1 s}}", 6.0),
        ("{renewal: {interarrival: 250 ms}}", 8.0),
        ("{bursty: {rate: 1 / s, peak_to_mean: 4, burst: 1 s}}", 2.0),
    ],
)
def test_every_kind_of_arrivals_can_rise(arrivals: str, rate: float) -> None:
    """Twice the load is twice the rate of tasks, whatever it follows."""
    text = SHOP.replace("{poisson: 2 / s}", arrivals)
    plan = make_plan(Scenario.from_text(text), StudyOptions(rise="load", levels="1,2"))
    doubled = Scenario.from_text(plan.levels[1].key)
    assert doubled.workload.arrivals.rate == pytest.approx(rate)


def test_success_over_steps_has_the_half_life_of_its_errors() -> None:
    """A call in ten fails its task: p is 0.9 a step, and half are lost after ln 2 / -ln 0.9 = 6.6 steps."""
    text = SHOP.replace("tasks: 200", "tasks: 800").replace("{tool: pay}", "{agent: a, tools: {pay: 1}, repeat: 1}")
    text = text.replace("repeat: 1, next", "next")
    (found,) = study(text, steps="workflow.steps.buy.repeat=1,2,5,10").steps
    assert [one.steps for one in found.bins] == [1, 2, 5, 10]
    assert found.fit.half_life.low < 6.58 < found.fit.half_life.high
    assert not found.fit.misfit


def test_checkpoints_are_removed_beside() -> None:
    """With restarts from checkpoints success over steps is told as it is, and without them."""
    text = SHOP + "recovery: {restarts: 1}\norchestrator: {checkpoint: {write: {}}}\n"
    text = text.replace("tasks: 200", "tasks: 50")
    found = study(text, steps="workflow.steps.look.repeat=1,3").steps
    assert [one.name for one in found] == ["as it is", "without checkpoints"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--rise", "heat"), "--rise must be load or faults; got `heat`"),
        (("--levels", "1,2"), "--levels needs --rise"),
        (("--rise", "load", "--levels", "2"), "--levels must be two values at least"),
        (("--along", "tools.pay.latency"), "--along must be a path and two values"),
        (("--along", "tools.pay.latency=1 s,1 ms"), "must have numbers of one unit"),
        (("--along", "tools.pay.latenci=1 s,2 s"), "latenci"),
        (("--steps", "workflow.steps.look.repeat=1"), "--steps workflow.steps.look.repeat must be two values"),
        (("--window", "-1 s"), "--window"),
        (("--window", "1 h"), "a window (--window) must fit into the run: at most"),
        (("--window", "1 ms"), "a window (--window) must be"),
        (("--set", "workload.warmup=1 h"), "no task arrives after the end of warm-up"),
        (("--replication", "9"), "numbered from 0; got 9"),
        (("--set", "seed=-1"), "seed"),
    ],
)
def test_bad_input_exits_with_2_and_runs_nothing(call: Call, shop: Path, arguments: tuple[str, ...], told: str) -> None:
    """Each mistake is told on stderr, with what is allowed."""
    done = call("faults", shop, *arguments, *QUIET)
    assert (done.code, done.out) == (2, "")
    assert told in " ".join(done.err.split())


def test_faults_that_only_come_at_set_times_have_no_rate_to_raise() -> None:
    """A schedule is not raised silently to itself."""
    text = SHOP.replace("  declined: {on: tools.pay, error: 10 %}\n", "")
    with pytest.raises(FaultStudyError, match="no fault has a rate or an `mtbf`"):
        make_plan(Scenario.from_text(text), StudyOptions(rise="faults"))


def test_a_trigger_that_cannot_be_judged_exits_with_4(call: Call, shop: Path) -> None:
    """Few tasks a window tell nothing about goodput; without a trigger there is nothing to tell."""
    done = call("faults", shop, "--window", "1 s", *QUIET)
    assert done.code == 4
    assert "Cannot tell" in done.out
    assert call("faults", shop, "--set", "faults.brownout=null", *QUIET).code == 0


def test_the_bytes_are_those_of_the_seed(call: Call, shop: Path) -> None:
    """Twice the same JSON; another seed, another."""
    arguments = ("faults", shop, "--tasks", "60", "--replications", "2", "--format", "json", *QUIET)
    one, two, other = (call(*arguments, *more) for more in ((), (), ("--seed", "4")))
    assert one.out == two.out
    assert one.out != other.out


def test_the_csv_agrees_with_the_json(call: Call, shop: Path) -> None:
    """A number a row; those of a fault are those of the JSON."""
    arguments = ("faults", shop, *QUIET)
    rows = list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv").out)))
    data = json.loads(call(*arguments, "--format", "json").out)
    (cost,) = [one for one in data["costs"] if one["name"] == "declined"]
    (row,) = [
        r for r in rows if (r["part"], r["name"], r["x"], r["metric"]) == ("fault", "declined", "added", "success")
    ]
    assert float(row["value"]) == cost["metrics"]["success"]["added"]["value"]
    assert {row["part"] for row in rows} == {"fault", "reach", "strikes", "timeline"}


def test_a_folder_holds_all_formats_and_a_figure(call: Call, shop: Path, tmp_path: Path) -> None:
    """JSON, CSV, Markdown, scenario, and a page that opens without a network, in which the fault's time is shaded."""
    folder = tmp_path / "out"
    arguments = ("faults", shop, "--replications", "2", *QUIET, "-o", folder)
    done = call(*arguments, "--format", "json")
    names = ["faults.csv", "faults.json", "report.html", "report.md", "result.json", "scenario.resolved.yaml"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "faults.json").read_text() == done.out
    assert outside(folder / "report.html") == []
    drawn = [view for chart in page_data(folder / "report.html")["charts"].values() for view in chart["views"].values()]
    shaded = [shape for view in drawn for shape in view["layout"].get("shapes", ())]
    assert (40, 45) in [(one["x0"], one["x1"]) for one in shaded]
    refused = call(*arguments)
    assert refused.code == 2
    assert "pass --overwrite" in refused.err


def test_an_interrupt_writes_nothing(call: Call, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130; no folder, and no half of a result on stdout."""

    def stopped(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fault_study._Collected, "add", stopped)
    done = call("faults", shop, *QUIET, "-o", tmp_path / "out")
    assert (done.code, done.out) == (130, "")
    assert "interrupted" in done.err
    assert not (tmp_path / "out").exists()


def test_the_json_is_as_the_page_says(call: Call, shop: Path, root: Path) -> None:
    """docs/fault-study.md names every field of the JSON, of a cost and of a reach, and no other."""
    page = (root / "docs" / "fault-study.md").read_text(encoding="utf-8").partition("## JSON")[2]
    told = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    data = json.loads(call("faults", shop, "--replications", "1", "--format", "json", *QUIET).out)
    cost = next(one for one in data["costs"] if one["name"] == "brownout")
    assert told == {*data, *cost, *cost["reach"], *data["timeline"], *data["timeline"]["triggers"][0]}
