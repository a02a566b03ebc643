"""Summaries: estimates against closed forms, what is judged and doubted, and how it is stored."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordsim.sim.analysis.estimator import Estimator
from coordsim.sim.analysis.result import STATUS, Result
from coordsim.sim.analysis.slo import objective
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summarize import cut_warmup, summarize
from coordsim.sim.analysis.summary import Summary, SummaryError, unit_of
from coordsim.sim.engine.ledger import CATEGORIES, FAILED, Ledger

from .mm1 import POOL, Queue, simulate

STEADY = Queue(tasks=2000, tool=1.0)
SURE = 0.999  # so that all assertions together fail by chance about once in fifty seeds


@pytest.fixture(scope="module")
def steady() -> list[Result]:
    """Return 20 replications of a queue at utilization 0.5."""
    return [simulate(STEADY, 11, replication) for replication in range(20)]


@pytest.fixture(scope="module")
def summary(steady: list[Result]) -> Summary:
    """Return their summary, with wide intervals and one objective of each verdict."""
    objectives = (objective("p95", 9.0), objective("mean", 1.0), objective("success", 0.9))
    return summarize(steady, confidence=SURE, objectives=objectives)


def holds(estimate: Estimate, truth: float) -> bool:
    """Return whether the interval holds the truth, and is narrow enough to say something."""
    return not estimate.excludes(truth) and estimate.half_width < 0.3 * abs(truth)


@pytest.mark.parametrize(
    ("metric", "truth"),
    [
        ("response_time_mean", 3.0),
        ("response_time_p50", 1 + 2 * math.log(2)),
        ("response_time_p95", 1 + 2 * math.log(20)),
        ("response_time_p99", 1 + 2 * math.log(100)),
        ("coordination_mean", 2.0),
        ("coordination_share", 2 / 3),
        ("straggler_excess_mean", 0.25),
        ("coordination_without_stragglers_mean", 1.875),
        ("coordination_without_tool_execute_mean", 1.25),
        ("coordination_without_tool_execute_share", 1.25 / 3),
        ("throughput", 0.5),
        ("goodput", 0.5 * (1 - math.exp(-4))),
        ("attainment", 1 - math.exp(-4)),
        ("arrival_rate", 0.5),
        ("number_in_system", 1.5),
    ],
)
def test_metrics_are_those_of_an_mm1_queue(summary: Summary, metric: str, truth: float) -> None:
    """Twenty replications bracket the closed form: T_total is exponential with mean 2 s, and 1 s of tool."""
    assert holds(summary.metrics[metric], truth)


@pytest.mark.parametrize(
    ("metric", "truth"),
    [
        ("utilization", 0.5),
        ("offered", 0.5),
        ("busy", 0.5),
        ("queue_length", 0.5),
        ("waiting_time", 1.0),
        ("arrival_rate", 0.5),
    ],
)
def test_resources_are_those_of_an_mm1_queue(summary: Summary, metric: str, truth: float) -> None:
    """Utilization, queue length and waiting time of the server have their closed forms."""
    (pool,) = summary.resources
    assert (pool.kind, pool.name, pool.capacity) == ("pool", POOL, 1)
    assert holds(pool.metrics[metric], truth)


def test_parts_sum_to_the_whole(summary: Summary) -> None:
    """Categories, and components, sum to mean T_total, and their shares to one."""
    total = summary.metrics["response_time_mean"].value
    assert tuple(summary.categories) == CATEGORIES
    assert sum(part.seconds.value for part in summary.categories.values()) == pytest.approx(total)
    assert sum(part.share.value for part in summary.categories.values()) == pytest.approx(1.0)
    assert sum(part.seconds.value for part in summary.components) == pytest.approx(total)
    assert sum(part.share.value for part in summary.components) == pytest.approx(1.0)


def test_the_largest_part_is_named_with_its_interval() -> None:
    """The sentence has name, share, interval, confidence and count."""
    found = summarize([simulate(Queue(tasks=300, tool=20.0), 1, number) for number in range(10)])
    share = found.categories["tool"].share
    sentence = re.fullmatch(
        r"the largest part of T_total is tool: ([\d.]+) % ± ([\d.]+) % \(95 %, 10 replications\)", found.largest
    )
    assert sentence is not None
    assert float(sentence[1]) == pytest.approx(100 * share.value, abs=share.half_width * 100)
    assert float(sentence[2]) == pytest.approx(100 * share.half_width, rel=0.1)


def test_verdicts_follow_the_intervals(summary: Summary) -> None:
    """One objective is met, one is missed, so all together are missed."""
    assert [(one.metric, one.verdict) for one in summary.objectives] == [
        ("p95", "pass"), ("mean", "fail"), ("success", "pass"),
    ]  # fmt: skip
    assert summary.verdict == "fail"


def test_an_objective_at_the_true_value_is_inconclusive(steady: list[Result]) -> None:
    """The interval holds the threshold, and the warning says what to try."""
    at_truth = summarize(steady[:5], objectives=[objective("p95", 1 + 2 * math.log(20))])
    assert at_truth.verdict == "inconclusive"
    assert any("whether p95 is met" in text and "--replications 15" in text for text in at_truth.warnings)


def test_objectives_may_speak_of_categories_and_facts(steady: list[Result]) -> None:
    """Quantiles, means and extremes of any quantity per task; one that does not exist is refused with the nearest."""
    wanted = [objective("queueing_p95", 100.0), objective("steps_mean", 1.0), objective("coordination_max", 1e3)]
    assert summarize(steady, objectives=wanted).verdict == "pass"
    with pytest.raises(ValueError, match="got `queuing`; did you mean `queueing`"):
        summarize(steady, objectives=[objective("queuing_p95", 1.0)])


def test_a_queue_that_settled_is_not_doubted(summary: Summary) -> None:
    """A fair run has no warnings, and what the models doubt is kept apart, once."""
    assert summary.warnings == ()
    assert summary.doubts == ("service times are made up",)
    assert summary.stability.count("grows") <= 1
    assert summary.warmup.trusted


def test_an_overloaded_queue_is_named() -> None:
    """At an offered load of 1.2 the warning names the resource, the load, and a command."""
    runs = [simulate(Queue(arrival_rate=1.2, tasks=2000), 1, number) for number in range(4)]
    found = summarize(runs)
    assert found.stability.count("grows") >= 3
    (text,) = (text for text in found.warnings if "offered load" in text)
    assert f"offered load of {POOL} is 1.{2 if found.resources[0].metrics['offered'].value >= 1.195 else 1}" in text
    assert "`coordsim check SCENARIO`" in text


def test_a_short_overload_is_named_too() -> None:
    """Forty tasks are too few to see growth in, but a backlog of a third of them is not chance."""
    found = summarize([simulate(Queue(arrival_rate=2.0, tasks=40), 1, number) for number in range(5)])
    assert set(found.stability) == {"unknown"}
    assert any("queue grows without bound" in text for text in found.warnings)


def test_a_busy_queue_that_settles_is_pointed_at() -> None:
    """A closed burst keeps the server busy without growth: that is said, and not called unstable."""
    runs = [simulate(Queue(burst=True, tasks=400), 1, number) for number in range(5)]
    found = summarize(runs, warmup=None)
    assert "grows" not in found.stability
    assert any(text.startswith(f"utilization of {POOL} is 1.00") for text in found.warnings)


def test_unfinished_tasks_are_counted_and_flagged() -> None:
    """A horizon leaves tasks behind: they are counted, said to bias times, and a longer horizon is suggested."""
    runs = [simulate(Queue(arrival_rate=0.9, tasks=10_000, horizon=300.0), 1, number) for number in range(5)]
    found = summarize(runs)
    assert found.tasks.unfinished == sum(run.unfinished for run in runs) > 0
    assert found.tasks.arrived == found.tasks.done + found.tasks.unfinished
    (text,) = (text for text in found.warnings if "had not ended" in text)
    assert text.startswith(f"{found.tasks.unfinished} of {found.tasks.arrived} tasks")
    assert "--horizon '20 min'" in text


def test_failures_are_counted_by_reason_and_lower_success() -> None:
    """Success has an interval around the true share, and T_total is of the others."""
    found = summarize([simulate(Queue(fails=0.2, tasks=400), 5, number) for number in range(10)], confidence=SURE)
    assert holds(found.metrics["success"], 0.8)
    assert holds(found.metrics["throughput"], 0.5)
    assert holds(found.metrics["goodput"], 0.4)
    assert found.failures == {"broken": found.tasks.failed}
    assert found.tasks.done + found.tasks.failed == found.tasks.arrived == 4000


def test_nothing_done_is_no_number_and_says_why() -> None:
    """When every task fails there is no T_total, and the commonest reason is named."""
    found = summarize([simulate(Queue(fails=1.0, tasks=60), 1, number) for number in range(3)])
    assert math.isnan(found.metrics["response_time_mean"].value)
    assert any("no task was done; most failed for: broken (180 tasks)" in text for text in found.warnings)
    assert found.largest == "no task was done, so T_total has no parts"
    assert found.metrics["success"].value == 0.0


def test_no_tasks_at_all_is_said() -> None:
    """An empty run gives no numbers, and a warning."""
    found = summarize([simulate(Queue(tasks=0), 1)])
    assert any("no task arrived" in text for text in found.warnings)
    assert Summary.from_dict(found.to_dict()).tasks == found.tasks


def test_few_replications_are_asked_to_be_more() -> None:
    """A wide interval of the mean is called wide, and the number suggested is about what it takes."""
    found = summarize([simulate(Queue(arrival_rate=0.8, tasks=300), 1, number) for number in range(4)])
    (text,) = (text for text in found.warnings if "is known within" in text)
    suggested = int(text.rpartition("--replications ")[2].strip("`"))
    assert 9 <= suggested <= 40


def test_classes_are_told_apart(steady: list[Result]) -> None:
    """Two classes of one queue have the same law, and each its own estimate and count."""
    found = summarize([simulate(Queue(tasks=1500, classes=2), 2, number) for number in range(10)], confidence=SURE)
    assert set(found.classes) == {"class 0", "class 1"}
    first, second = (found.classes[name]["response_time_mean"] for name in ("class 0", "class 1"))
    assert holds(first, 2.0)
    assert holds(second, 2.0)
    assert first.value != second.value


def test_facts_are_means_over_tasks_that_ended(summary: Summary) -> None:
    """Every task counts one step."""
    assert summary.facts["steps"].value == 1.0
    assert summary.facts["steps"].half_width == 0.0


def test_the_mean_of_a_fact_is_one_wherever_it_is_asked_for() -> None:
    """As a fact, a metric, an objective and in the samples: over tasks that ended, of which those that failed took a step more."""
    results = [simulate(Queue(fails=0.3, tasks=100), 5, number) for number in range(4)]
    for one in results:
        assert one.facts[0] == "steps"
        one.rows[:, len(Ledger.HEAD)] += one.rows[:, STATUS] == FAILED
    found = summarize(results, warmup=None, metrics=["steps_mean"], objectives=[objective("steps_mean", 1.1)])
    failed = sum(sum(one.failures.values()) for one in results) / 400
    assert failed > 0.2
    assert found.facts["steps"].value == pytest.approx(1 + failed)
    assert found.metrics["steps_mean"] == found.facts["steps"] == found.objectives[0].estimate
    assert found.metrics["steps_mean"].value == pytest.approx(np.mean(found.samples["steps_mean"]))


def test_littles_law_checks_the_ledger(steady: list[Result]) -> None:
    """The integral of the number in the system is the sum of times; a ledger that lost time is reported."""
    assert summarize(steady).little.gap == pytest.approx(0.0, abs=1e-9)
    snapshots = steady[0].snapshots
    last = replace(snapshots[-1], task_seconds=snapshots[-1].task_seconds * 1.01)
    wrong = replace(steady[0], snapshots=(*snapshots[:-1], last))
    assert any("please report it" in text for text in summarize([wrong]).warnings)


def test_one_run_gets_its_intervals_from_batches() -> None:
    """A single long replication brackets the closed forms too, and says how."""
    found = summarize([simulate(Queue(tasks=20_000, tool=1.0), 3)], confidence=SURE)
    assert holds(found.metrics["response_time_mean"], 3.0)
    assert holds(found.metrics["response_time_p95"], 1 + 2 * math.log(20))
    assert holds(found.metrics["coordination_share"], 2 / 3)
    assert holds(found.metrics["throughput"], 0.5)
    assert holds(found.resources[0].metrics["utilization"], 0.5)
    assert found.metrics["response_time_mean"].method.startswith("batch means")
    assert found.metrics["success"].low > 0.999


def test_one_short_run_has_no_interval_and_says_so() -> None:
    """Thirty tasks are a number, not an estimate."""
    found = summarize([simulate(Queue(tasks=30), 3)])
    assert not found.metrics["response_time_mean"].resolved
    assert any("there is no interval" in text and "--replications 10" in text for text in found.warnings)


def test_a_ratio_over_one_run_is_covered() -> None:
    """Of 300 intervals for a ratio of dependent means about 90 % hold it: within what chance allows."""
    rng, inside = np.random.default_rng(8), 0
    for _ in range(300):
        whole = rng.exponential(2.0, 400)
        part = 0.3 * whole + rng.exponential(0.5, 400)
        inside += not Estimator(0.9).ratio([part], [whole]).estimate.excludes(0.3 + 0.5 / 2)
    assert 0.9 - 4 * math.sqrt(0.09 / 300) < inside / 300 < 0.9 + 4 * math.sqrt(0.09 / 300)


def test_a_warm_up_is_found_and_cut() -> None:
    """A server that starts with a backlog of 200 has its transient cut; one that starts empty loses little."""

    def late(number: int) -> Result:
        result = simulate(Queue(tasks=2000), 4, number)
        rows = result.rows.copy()
        rows[:200, 3] += np.linspace(30.0, 0.0, 200)  # the first tasks took longer
        return replace(result, rows=rows)

    cut, views = cut_warmup([late(number) for number in range(5)], "auto")
    assert (cut.mode, cut.trusted) == ("auto", True)
    assert 100 <= cut.tasks <= 400
    assert {len(view.tasks) for view in views} == {2000 - cut.tasks}
    assert cut.seconds == pytest.approx(np.mean([view.start for view in views]))


@pytest.mark.parametrize("warmup", [None, 0.0])
def test_a_warm_up_of_nothing_cuts_nothing(steady: list[Result], warmup: float | None) -> None:
    """None and zero are the same."""
    cut, views = cut_warmup(steady, warmup)
    assert (cut.mode, cut.tasks) == ("none", 0)
    assert all(view.start == 0.0 for view in views)


def test_a_fixed_warm_up_cuts_what_arrived_before(steady: list[Result]) -> None:
    """Every replication loses the tasks of the first 200 s: about 100."""
    found = summarize(steady, warmup=200.0)
    assert found.warmup.mode == "fixed"
    assert found.warmup.tasks == pytest.approx(100, abs=15)
    assert found.tasks.observed == sum(len(one.after(200.0).tasks) for one in steady)


def test_a_warm_up_longer_than_the_run_leaves_nothing_and_says_so(steady: list[Result]) -> None:
    """No numbers, no crash, and a warning."""
    found = summarize(steady[:2], warmup=1e6)
    assert any("no task arrived after the warm-up" in text for text in found.warnings)


@pytest.mark.parametrize("warmup", [-1.0, math.nan, math.inf])
def test_an_impossible_warm_up_is_refused(steady: list[Result], warmup: float) -> None:
    """It must be a number of seconds."""
    with pytest.raises(ValueError, match="`warmup` must be a number of seconds >= 0"):
        summarize(steady, warmup=warmup)


def test_results_of_different_scenarios_do_not_mix(steady: list[Result]) -> None:
    """The error names what differs."""
    with pytest.raises(ValueError, match="must have the same scenario, but 1 has 'other'"):
        summarize([steady[0], replace(steady[1], scenario="other")])
    with pytest.raises(ValueError, match="no results"):
        summarize([])


def test_a_summary_survives_json(summary: Summary) -> None:
    """Nothing is rounded and nothing lost: what is read equals what was written."""
    text = json.dumps(summary.to_dict(), allow_nan=False)
    assert Summary.from_dict(json.loads(text)) == summary


def test_what_json_cannot_say_survives_too() -> None:
    """Values that were not observed and ends that are not known come back as nan and infinities."""
    found = summarize([simulate(Queue(fails=1.0, tasks=20), 1)])
    again = Summary.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    mean = again.metrics["response_time_mean"]
    assert math.isnan(mean.value)
    assert (mean.low, mean.high) == (-math.inf, math.inf)
    assert repr(again) == repr(found)


def test_samples_are_one_number_a_replication(summary: Summary) -> None:
    """Every metric and category has as many numbers as replications, and they average to the estimate."""
    assert set(summary.samples) >= {*summary.metrics, "tool_mean", "inference_mean"}
    assert {len(values) for values in summary.samples.values()} == {20}
    assert np.mean(summary.samples["response_time_p95"]) == pytest.approx(summary.metrics["response_time_p95"].value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordsim_summary": 2}, "version 2, and this coordsim reads up to 1; install a newer coordsim"),
        ({"coordsim_summary": 0}, "not a summary"),
        ({"coordsim_summary": None}, "not a summary"),
        ({"metrics": None}, "damaged"),
        ({"tasks": {}}, "`arrived` is missing"),
    ],
)
def test_a_summary_of_another_kind_is_refused(summary: Summary, change: dict[str, Any], message: str) -> None:
    """Newer versions, no version and damage each have their message."""
    with pytest.raises(SummaryError, match=message):
        Summary.from_dict({**summary.to_dict(), **change})


@pytest.mark.parametrize("data", [None, [], "text", {}])
def test_something_else_is_no_summary(data: object) -> None:
    """Anything that does not say it is a summary is refused."""
    with pytest.raises(SummaryError, match="not a summary"):
        Summary.from_dict(data)


def test_every_metric_has_a_unit(summary: Summary) -> None:
    """Seconds, rates and shares are told apart; numbers of things have none."""
    units = {name: unit_of(name) for name in summary.metrics}
    assert {name for name, unit in units.items() if unit == ""} == {"number_in_system"}
    assert units["coordination_share"] == units["coordination_without_tool_execute_share"] == "share"
    assert units["coordination_without_stragglers_mean"] == units["response_time_max"] == "s"
