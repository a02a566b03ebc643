"""What a run tells of reliability: metrics, the section of the summary, tables, and files: small cases by hand, and runs."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.models.slo import objectives
from coordsim.sim.analysis.replicate import Run
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.root_cause import check_conservation
from coordsim.sim.analysis.runfolder import read, write
from coordsim.sim.analysis.spans import Spans
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summarize import summarize
from coordsim.sim.analysis.summary import Reliability, Root, Summary
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.incidents import (
    DEGRADED,
    FAILED,
    HARMLESS,
    OPEN,
    RECOVERED,
    Calls,
    Harm,
    Incidents,
    Turn,
)  # fmt: skip
from coordsim.sim.engine.ledger import Account, Ledger, Snapshot
from coordsim.sim.report.formats import to_csv, to_json
from coordsim.sim.report.layout import Table, markdown
from coordsim.sim.report.tables import About, report

from .mm1 import Queue
from .mm1 import simulate as simulate_queue

ACCOUNTS = (
    Account("queueing", "models.llm", "queueing"),
    Account("queueing", "tools.search", "queueing"),
    Account("inference", "llm", "inference"),
    Account("recovery", "tools.search", "recovery"),
)
# Status, wrong, and seconds in each account, of eight tasks that arrive at 0 s, 10 s, 20 s ... 70 s.
TASKS = (
    (0, 0, (0.0, 0.0, 2.0, 0.0)),  # in time
    (0, 0, (0.0, 0.0, 2.0, 6.0)),  # late: recovery from the outage
    (0, 0, (7.0, 1.0, 2.0, 0.5)),  # late: stood in a queue, and lost little to the outage
    (0, 0, (0.0, 0.0, 9.0, 0.0)),  # late by its own work
    (0, 0, (0.5, 0.0, 9.0, 0.5)),  # late by its own work: without the rest it would be late as well
    (0, 1, (0.0, 0.0, 8.0, 0.0)),  # wrong, and late
    (1, 0, (0.0, 0.0, 1.0, 3.0)),  # failed by the outage
    (1, 0, (0.0, 0.0, 1.0, 0.0)),  # failed, for no cause that is known
)
LIMIT = 5.0
END = 100.0


def incidents() -> Incidents:
    """Return what went wrong for those tasks."""
    found = Incidents()
    outage = found.cause("outage", "down", injected=True)
    spoiled = found.cause("spoiled", "bad_output", injected=True)
    found.occurrences[outage] = 1
    for task, cause, outcome in (
        (1, outage, RECOVERED),
        (2, outage, DEGRADED),
        (5, spoiled, FAILED),
        (6, outage, FAILED),
    ):
        strike = found.strike(cause, task, 0, 10.0 * task + 1, "tools.search")
        found.settle([strike], outcome, 10.0 * task + 2)
    found.settle([found.strike(spoiled, 6, 0, 60.5, "tools.search")], HARMLESS, 64.0)
    found.harms = [
        Harm(1, 10.0, 18.0, False, outage, "outage -> tools.search: down", 6.0, 0.0),
        Harm(2, 20.0, 30.5, False, outage, "outage -> tools.search: down", 0.5, 0.5),
        Harm(4, 40.0, 50.0, False, outage, "outage -> tools.search: down", 0.5, 0.0),
        Harm(5, 50.0, 58.0, True, spoiled, "spoiled -> tools.search -> never found", 0.0, 0.0),
        Harm(6, 60.0, 64.0, True, outage, "outage -> tools.search: down", 3.0, 0.0),
        Harm(7, 70.0, 71.0, True, -1, "models.llm: queue full", 0.0, 0.0),
    ]
    found.turns = [Turn(11.0, "tools.search", outage, "down", True), Turn(31.0, "tools.search", outage, "down", False)]
    found.calls["tools.search"] = Calls(8, 12, failed=5, timed_out=2, rejected=1, fallbacks=1, wasted=2.0, useful=8.0)
    found.calls["models.llm"] = Calls(8, 8, useful=30.0)
    found.down["tools.search"] = 20.0
    return found


def made(replication: int = 0, problems: int | None = None) -> Result:
    """Return the result of one replication of these tasks."""
    rows = []
    for index, (status, wrong, parts) in enumerate(TASKS):
        arrival = 10.0 * index
        rows.append([index, 0, arrival, arrival + sum(parts), status, 0.0, wrong, *parts])
    return Result(
        scenario="by hand", seed=1, replication=replication, rows=np.array(rows, float),
        columns=(*Ledger.HEAD, "wrong", *(f"{one.category}/{one.component}/{one.name}" for one in ACCOUNTS)),
        accounts=ACCOUNTS, facts=("wrong",), classes=("all",), stride=1, arrived=8, ended=8,
        failures={"models.llm: queue full": 1, "tools.search: down": 1},
        snapshots=(Snapshot(END, 8, 8, float(sum(sum(parts) for _, _, parts in TASKS)), []),), resources=(),
        spans=Spans([], ()), events=1, end=END, horizon=False, doubts=(), incidents=incidents(), problems=problems,
    )  # fmt: skip


SLO = {"max": LIMIT}


def summed(slo: dict[str, float] | None = None, replications: int = 2, problems: int | None = None) -> Summary:
    """Return the summary of a few replications of it."""
    results = [made(number, problems) for number in range(replications)]
    return summarize(results, warmup=None, objectives=objectives(SLO if slo is None else slo))


def table(summary: Summary, title: str) -> Table:
    """Return one table of the report."""
    (found,) = [one for one in report(summary, About()).tables if one.title == title]
    return found


def test_a_wrong_task_is_no_success() -> None:
    """Of eight tasks five are done and right, and one of those is within the limit; throughput counts all that end."""
    metrics = summed().metrics
    assert metrics["success"].value == 5 / 8
    assert metrics["attainment"].value == 1 / 8
    assert metrics["throughput"].value == pytest.approx(
        7 * metrics["goodput"].value
    )  # those that end by the last arrival
    assert summed().classes["all"]["success"].value == 5 / 8
    assert (summed().tasks.done, summed().tasks.failed, summed().reliability.wrong) == (12, 4, 2)


def test_every_failed_or_late_task_has_one_root_cause() -> None:
    """By hand: who is put down to the outage, to a queue, to its own work; and the numbers sum to the tasks."""
    found = summed(replications=1).reliability
    assert found.roots == (
        Root("outage", "tools.search: down", 1, 1),
        Root("spoiled", "tools.search -> never found", 1, 0),
        Root("unknown", "models.llm: queue full", 1, 0),
        Root("own work", "mostly inference of llm", 0, 2),
        Root("load", "queueing at models.llm", 0, 1),
    )
    assert (found.failed, found.wrong, found.late) == (3, 1, 4)
    assert sum(one.failed for one in found.roots) == found.failed
    assert sum(one.late for one in found.roots) == found.late
    within = summed(replications=1).metrics["attainment"].value
    assert found.failed + found.late + 8 * within == 8


def test_without_limits_no_task_is_late() -> None:
    """An objective that limits no single task, such as a mean, makes none late; of two limits the wider one counts."""
    assert summed({"mean": 1.0}).reliability.late == 0
    assert summed({}).reliability.late == 0
    assert summed({"p50": LIMIT, "p99": 8.5}).reliability.late == 2 * 3


def test_a_limit_of_another_quantity_makes_tasks_late() -> None:
    """Tasks beyond a limit of their inference are put down to what cost them most, or to their own work."""
    found = summed({"inference_max": 8.5}, replications=1).reliability
    assert [(one.cause, one.late) for one in found.roots if one.late] == [("outage", 1), ("own work", 1)]


def test_metrics_of_reliability_are_ratios_of_totals() -> None:
    """Attempts over calls, wasted over all service, recovery over T_total, and the time in which it was up."""
    metrics = summed().metrics
    assert metrics["retry_amplification"].value == (12 + 8) / (8 + 8)
    assert metrics["wasted_share"].value == 2.0 / (8.0 + 2.0 + 30.0)
    assert metrics["availability"].value == 1 - 20 / END
    done, ended = 2 + 8 + 10.5 + 9 + 10 + 8, 2 + 8 + 10.5 + 9 + 10 + 8 + 4 + 1
    assert metrics["recovery_share"].value == pytest.approx((6 + 0.5 + 0.5) / done)
    assert metrics["recovery_share_ended"].value == pytest.approx((6 + 0.5 + 0.5 + 3) / ended)
    assert all(not math.isnan(one) for name in metrics for one in summed().samples[name])


def test_pass_at_k_is_over_problems_of_each_replication() -> None:
    """With four problems task i is a trial of problem i mod 4; tasks 0 to 4 succeed, so one problem of four does twice."""
    metrics = summed(problems=4).metrics
    assert metrics["pass_at_2"].value == 1 / 4
    assert metrics["pass_at_2"].n == 2 * 4
    assert math.isnan(metrics["pass_at_3"].value)  # no problem has three trials
    two = summed(problems=2).metrics  # successes 0, 2, 4 of four; and 1, 3 of four
    assert two["pass_at_2"].value == pytest.approx((3 / 6 + 1 / 6) / 2)
    assert two["pass_at_3"].value == pytest.approx((1 / 4 + 0) / 2)
    assert "pass_at_2" not in summed().metrics


def test_objectives_may_speak_of_reliability() -> None:
    """More availability and pass^k is better, less of the others; verdicts as for any metric."""
    wanted = {
        "availability": 0.9,
        "retry_amplification": 1.5,
        "wasted_share": 0.01,
        "recovery_share": 0.5,
        "pass_at_2": 0.1,
    }
    judged = {one.metric: (one.sense, one.verdict) for one in summed(wanted, problems=4).objectives}
    assert judged["availability"] == (">=", "fail")
    assert judged["retry_amplification"] == ("<=", "pass")
    assert judged["wasted_share"] == ("<=", "fail")
    assert judged["recovery_share"] == ("<=", "pass")
    assert judged["pass_at_2"][0] == ">="


def test_where_nothing_can_go_wrong_objectives_are_met_and_nothing_is_told() -> None:
    """A run without faults, handling and errors: an empty section, no tables, no metrics but those that are asked for."""
    runs = [simulate_queue(Queue(tasks=60, fails=0.2), 3, number) for number in range(2)]
    plain = summarize(runs)
    assert plain.reliability == Reliability()
    assert plain.reliability.empty
    assert json.loads(to_json(plain))["reliability"] == {
        "causes": [], "calls": [], "availability": {}, "roots": [], "failed": 0, "wrong": 0, "late": 0,
    }  # fmt: skip
    names = {"retry_amplification", "wasted_share", "availability", "recovery_share", "pass_at_2"}
    assert not names & set(plain.metrics)
    titles = {one.title for one in report(plain, About()).tables}
    assert not {title for title in titles if title in ("Faults", "Calls") or title.startswith("Root")}
    assert "fail" not in report(plain, About()).answer
    asked = summarize(
        runs, objectives=objectives({"availability": 1.0, "retry_amplification": 1.0, "wasted_share": 0.0})
    )
    assert [one.verdict for one in asked.objectives] == ["pass"] * 3


def test_the_summary_goes_through_json() -> None:
    """The section comes back as it was; a summary that was written before there was one reads as empty."""
    summary = summed(problems=4)
    text = to_json(summary)
    again = Summary.from_dict(json.loads(text))
    assert again.reliability == summary.reliability
    assert to_json(again) == text
    old = {name: one for name, one in json.loads(text).items() if name != "reliability"}
    assert Summary.from_dict(old).reliability == Reliability()


def test_the_summary_conserves_strikes() -> None:
    """The outcomes of each cause sum to its strikes, over replications, in the summary and in the table."""
    summary = summed()
    for row in summary.reliability.causes:
        assert sum(row.outcomes.values()) == row.strikes
    assert {row.name: row.strikes for row in summary.reliability.causes} == {"outage": 6, "spoiled": 4, "unknown": 0}
    faults = table(summary, "Faults")
    outcomes = [faults.columns.index(name) for name in ("recovered", "degraded", "failed", "harmless")]
    for cells in faults.rows:
        assert sum(int(cells[i] or 0) for i in outcomes) == int(cells[faults.columns.index("struck")])


def test_the_tables_say_what_happened() -> None:
    """Each cause with its outcomes and cost, each component's calls, and the shares of the root causes; empty columns go."""
    summary = summed()
    faults = table(summary, "Faults")
    assert faults.columns == ("cause", "struck", "came", "recovered", "degraded", "failed", "harmless", "what it cost")
    assert faults.rows[0] == (
        "outage (down)", "6", "2", "2", "2", "2", "", "2 tasks failed, 6 tasks delayed, 21 s lost",
    )  # fmt: skip
    calls = table(summary, "Calls")
    assert calls.columns == (
        "component", "calls", "attempts per call", "failed", "timed out", "rejected", "fallbacks", "wasted", "availability",
    )  # fmt: skip
    search = dict(zip(calls.columns, calls.rows[0], strict=True))
    assert (search["component"], search["calls"], search["attempts per call"]) == ("tools.search", "16", "1.5 ± 0")
    assert (search["timed out"], search["rejected"]) == ("16.7 %", "12.5 %")
    assert (search["wasted"], search["availability"]) == ("20 % ± 0", "80 % ± 0")
    roots = table(summary, "Root causes of failed and late tasks")
    assert roots.rows[0] == ("outage", "tools.search: down", "2", "2", "28.6 %")
    assert sum(float(row[-1].removesuffix(" %")) for row in roots.rows) == pytest.approx(100, abs=0.3)
    assert ("wrong result, never found", "2") in table(summary, "Why tasks failed").rows
    assert "(12 done (2 of them wrong), 4 failed)" in report(summary, About()).heading[1]


def test_the_answer_names_the_cause_of_most() -> None:
    """Shares of tasks that fail and are late, each with its largest cause; what retries add, and what is wasted."""
    said = report(summed(), About()).answer
    assert "of the tasks fail or are wrong, the largest part by outage (tools.search: down); " in said
    assert "50 % of the tasks are late, the largest part by own work (mostly inference of llm); " in said
    assert (
        "retries make 1.5 ± 0 attempts of a call of tools.search; 5 % ± 0 of the service behind these calls is wasted."
        in said
    )
    assert said in markdown(report(summed(), About()))


def test_the_rest_of_the_root_causes_is_summed() -> None:
    """Beyond eight rows one tells how many others there are, and the shares still sum to all."""
    roots = tuple(Root(f"cause {number}", "there", 10 - number, 0) for number in range(10))
    summary = summed()
    many = replace(summary, reliability=replace(summary.reliability, roots=roots, failed=55, late=0))
    rows = table(many, "Root causes of failed tasks").rows
    assert len(rows) == 9
    assert rows[-1] == ("2 others", "", "3", "5.45 %")


def test_a_fault_that_comes_late_still_has_its_row() -> None:
    """A fault that the scenario injects is told even if it never struck; a cause of load only if it cost something."""
    result = made()
    result.incidents.cause("quiet", "slow", injected=True)
    load = result.incidents.cause("tools.search: error", "load")
    result.incidents.settle([result.incidents.strike(load, 0, 0, 1.0, "tools.search")], DEGRADED, 2.0)
    rows = {row[0]: row for row in table(summarize([result], warmup=None), "Faults").rows}
    assert rows["quiet (slow)"][-1] == "nothing"
    assert "tools.search: error" not in rows


def test_csv_holds_counts_and_estimates_of_reliability() -> None:
    """Strikes by outcome, calls, availability and root causes, a number a row."""
    rows = list(csv.DictReader(io.StringIO(to_csv(summed()))))
    found = {(row["metric"], row["component"]): row["value"] for row in rows}
    assert found["strikes_recovered", "outage"] == "2"
    assert found["attempts", "tools.search"] == "24"
    assert found["attempts_per_call", "tools.search"] == "1.5"
    assert found["availability", "tools.search"] == "0.8"
    assert found["root_cause_failed", "outage -> tools.search: down"] == "2"
    assert {row["unit"] for row in rows if row["metric"] == "recovery_share_ended"} == {"share"}


def test_the_run_folder_holds_incidents_strikes_and_turns(tmp_path: Path) -> None:
    """A row a harmed task, a row a kept strike, a row a turn; where there are none there is no file."""
    results = (made(0), made(1))
    folder = read(write(Run(results, summarize(results, warmup=None)), "x: 1\n", tmp_path / "one"))
    harms, strikes, turns = folder.incidents(), folder.strikes(), folder.turns()
    assert harms is not None and strikes is not None and turns is not None  # noqa: PT018
    assert len(harms) == 12
    assert harms.loc[harms["task"] == 7, "cause"].tolist() == ["", ""]
    assert harms.groupby("cause")["lost_s"].sum()["outage"] == 2 * 10.0
    assert strikes["outcome"].value_counts().to_dict() == {"failed": 4, "harmless": 2, "recovered": 2, "degraded": 2}
    assert turns["time_s"].tolist() == [11.0, 31.0, 11.0, 31.0]
    assert turns["begins"].tolist() == [True, False, True, False]
    assert folder.summary.reliability == summarize(results, warmup=None).reliability
    queue = simulate_queue(Queue(tasks=20), 3, 0)
    plain = read(write(Run((queue,), summarize([queue])), "x: 1\n", tmp_path / "two"))
    assert plain.incidents() is None
    assert sorted(path.name for path in plain.path.iterdir()) == [
        "manifest.json", "scenario.resolved.yaml", "summary.json", "tasks.parquet",
    ]  # fmt: skip


# -- runs of scenarios

SCENARIO: dict[str, Any] = {
    "coordsim": 1, "name": "faulty", "seed": 3,
    "runtime": {"preset": "external-orchestrator", "connection": "in-process", "notification": "event"},
    "agents": {"worker": {"model": "llm", "output": "100 tokens"}},
    "models": {"llm": {"kind": "api", "overhead": "200 ms", "output": "10 ms / token"}},
    "tools": {
        "search": {
            "latency": {"exponential": {"mean": "500 ms"}}, "concurrency": 3,
            "handling": {"exhausted": "fail", "timeout": "2 s", "retry": {"attempts": 2, "backoff": {"first": "1 s"}}},
        },
        "index": {"latency": "100 ms"},
    },
    "workflow": {
        "start": "work", "steps": {"work": {"agent": "worker", "repeat": 3, "tools": {"search": 2, "index": 1}}},
    },
    "faults": {
        "outage": {"on": "tools.search", "at": "30 s", "for": "10 s", "down": "refuse"},
        "flaky": {"on": "tools.index", "error": 0.1},
        "spoiled": {"on": "tools.index", "bad_output": 0.05},
    },
    "workload": {"arrivals": {"poisson": "1 / s"}, "tasks": 80, "problems": 20, "warmup": "0 s"},
    "slo": {"p95": "8 s", "availability": "99 %", "pass_at_2": "99 %"},
}  # fmt: skip


def scenario(**change: Any) -> Scenario:
    """Return the scenario with some sections replaced; None leaves one out."""
    data = {name: value for name, value in {**SCENARIO, **change}.items() if value is not None}
    return Scenario.from_text(json.dumps(data))


def test_a_run_with_faults_accounts_for_all_of_them() -> None:
    """Strikes have one outcome each, root causes sum to the tasks that failed or are wrong, and the SLO is judged."""
    what = scenario()
    results = [simulate(what, replication=number) for number in range(3)]
    summary = summarize(results, warmup=None, objectives=what.objectives)
    for result in results:
        check_conservation(result.incidents, over=True)
    found = summary.reliability
    assert found.wrong > 0 < summary.tasks.failed
    assert found.failed == summary.tasks.failed + found.wrong
    assert sum(one.failed for one in found.roots) == found.failed
    assert sum(one.late for one in found.roots) == found.late
    assert sum(row.failed for row in found.causes) == found.failed
    assert summary.metrics["success"].value == pytest.approx(1 - found.failed / 240)
    assert all(sum(row.outcomes.values()) == row.strikes and not row.outcomes["open"] for row in found.causes)
    expected = np.mean([1 - 10 / result.end for result in results])
    assert found.availability["tools.search"].value == pytest.approx(expected)
    assert {one.metric: one.verdict for one in summary.objectives}["availability"] == "fail"
    assert 0 < summary.metrics["pass_at_4"].value < summary.metrics["pass_at_2"].value < 1
    assert Summary.from_dict(json.loads(to_json(summary))).reliability == found


def test_worse_faults_show_in_every_number() -> None:
    """A longer outage costs availability and success, and makes more attempts; none of it with faults at zero."""
    seen = []
    for seconds in (5, 20):
        outage = {"outage": {"on": "tools.search", "at": "30 s", "for": f"{seconds} s", "down": "refuse"}}
        seen.append(summarize([simulate(scenario(faults=outage, slo=None))], warmup=None).metrics)
    for name in ("availability", "success"):
        assert seen[1][name].value < seen[0][name].value
    for name in ("retry_amplification", "recovery_share_ended"):
        assert seen[1][name].value > seen[0][name].value > 0
    off = {"flaky": {"on": "tools.index", "error": 0}}
    tools = {name: {**spec, "handling": {}} for name, spec in SCENARIO["tools"].items()}
    tools = {name: {k: v for k, v in spec.items() if k != "handling"} for name, spec in tools.items()}
    calm = summarize([simulate(scenario(faults=off, tools=tools, slo=None))], warmup=None)
    assert calm.reliability.empty


def test_an_outage_at_the_end_of_a_run_counts_once() -> None:
    """A tool that goes down for good at 30 s is down from then to the end, and no longer."""
    outage = {"outage": {"on": "tools.search", "at": "30 s", "for": "10 h", "down": "refuse"}}
    result = simulate(scenario(faults=outage, slo=None))
    assert result.incidents.down["tools.search"] == pytest.approx(result.end - 30, abs=1.0)


def test_service_is_wasted_or_useful() -> None:
    """A tool of 3 s with a timeout of 2 s wastes 2 s a call, or all 3 s where calls run on; an error taken as an answer none."""
    for how, wasted in (("cancel", 2.0), ("run on", 3.0)):
        handling = {"timeout": "2 s", "on_timeout": how, "exhausted": "continue"}
        tools = {"search": {"latency": "3 s", "handling": handling}, "index": {"latency": "100 ms", "errors": 0.5}}
        result = simulate(scenario(faults=None, tools=tools, slo=None))
        search, index = result.incidents.calls["tools.search"], result.incidents.calls["tools.index"]
        assert search.timed_out == search.attempts > 0
        assert search.wasted == pytest.approx(wasted * search.attempts)
        assert search.useful == 0
        assert index.failed > 0
        assert index.wasted == 0
        assert index.useful == pytest.approx(0.1 * index.attempts)


def test_pass_at_k_needs_problems() -> None:
    """An objective about trials of problems is refused where the workload does not say how many there are."""
    workload = {"arrivals": {"poisson": "1 / s"}, "tasks": 80}
    with pytest.raises(ScenarioError, match=r"slo\.pass_at_2: needs `workload\.problems`"):
        scenario(workload=workload)
    with pytest.raises(ValueError, match=r"`pass_at_2` needs `workload\.problems`"):
        summed({"pass_at_2": 0.5})


def test_open_strikes_are_told() -> None:
    """Strikes of tasks that had not ended with the run have a column of their own."""
    result = made()
    result.incidents.strike(0, 7, 0, 99.0, "tools.search")
    assert result.incidents.counts[0][OPEN] == 1
    faults = table(summarize([result], warmup=None), "Faults")
    assert dict(zip(faults.columns, faults.rows[0], strict=True))["open"] == "1"


def test_intervals_of_shares_that_fail_mirror_those_of_success() -> None:
    """The share of tasks that fail has the interval of success, turned round."""
    summary = summed(replications=1)
    success = Estimate(0.9, 0.85, 0.94, 0.95, 10, "t")
    said = report(replace(summary, metrics={**summary.metrics, "success": success}), About()).answer
    assert "10.0 % [6.0, 15.0] of the tasks fail or are wrong" in said
