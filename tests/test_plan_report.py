"""What a capacity plan says: the sentence for each verdict, the tables, CSV and JSON, from plans made by hand."""

import csv
import io
import json
import math
import re
from dataclasses import fields, replace

import pytest

from coordsim.sim.analysis.planned import (
    Choice,
    Fix,
    FrontierPoint,
    Limit,
    Load,
    Miss,
    PlanResult,
    QueueingBound,
    ResourceLoad,
    Trial,
    Variable,
)
from coordsim.sim.analysis.slo import Objective, Verdict
from coordsim.sim.analysis.statistics import Estimate, student_t
from coordsim.sim.analysis.summary import Judged
from coordsim.sim.report import numbers, plan_tables, plan_words
from coordsim.sim.report.layout import lay_out, markdown, text
from coordsim.sim.report.plan_csv import COLUMNS, to_csv

REPLICAS = Variable("models.llm.replicas", ("1", "2", "3", "4"), (2.5, 5.0, 7.5, 10.0))
SEARCH = Variable("tools.search.concurrency", ("5", "10"), (0.05, 0.1))
P95 = Objective("p95", 30.0, "<=")
SUCCESS = Objective("success", 0.99, ">=")
NOW = Load("as it is", 1.0, 1.0)
RATE = 0.5


def estimate(value: float, half: float) -> Estimate:
    """Return an interval of 99.5 % around a value."""
    return Estimate(value, value - half, value + half, 0.995, 20, "t over replications")


def trial(
    point: tuple[int, ...],
    p95: float,
    half: float,
    verdict: Verdict,
    load: Load = NOW,
    tasks: int = 20_000,
    usage: float = 0.0,
) -> Trial:
    """Return a simulated configuration with an estimate of p95."""
    cost = sum(one.costs[at] for one, at in zip((REPLICAS, SEARCH), point, strict=True)) + usage
    busy = 0.75 / (point[0] + 1) * 3 * load.factor
    resources = (
        ResourceLoad("llm", "3 replicas", busy, load.factor / busy, 1.25),
        ResourceLoad("search", "10 slots", 0.4, 2.5 * load.factor, None),
        ResourceLoad("link", "1 Gbit/s", None, math.inf, None),
    )
    judged = Judged("p95", 30.0, "<=", estimate(p95, half), verdict)
    bound = QueueingBound(resources, 12.0, 0.6, "")
    return Trial(point, load, bound, verdict, (judged,), cost, usage, 20, tasks, "llm", busy - 0.01)


def excluded(point: tuple[int, ...], why: str) -> Trial:
    """Return a configuration that a bound excludes."""
    one = trial(point, math.nan, 0.0, "fail")
    return replace(
        one, bound=replace(one.bound, excludes=why), judged=(), replications=0, tasks=0, utilization=math.nan
    )


CHOSEN = trial((2, 1), 27.1, 1.2, "pass")
SMALLER = trial((1, 1), 36.9, 0.4, "fail")
OPEN = trial((2, 0), 29.5, 1.0, "inconclusive")
MISS = Miss("p95", 30.0, estimate(36.9, 0.4), 0.23)
FULL = excluded((0, 1), "llm is offered 113 % of 1 replica")


def plan(choices: tuple[Choice, ...] | None = None, **changes: object) -> PlanResult:
    """Return a plan that chose 3 replicas and 10 concurrent calls, or with other choices."""
    found = PlanResult(
        scenario="assistant",
        seed=7,
        confidence=0.95,
        variables=(REPLICAS, SEARCH),
        objectives=(P95,),
        choices=choices or (Choice(NOW, "pass", CHOSEN, (), "", ()),),
        trials=(CHOSEN, SMALLER, OPEN, FULL),
        frontier=(
            FrontierPoint(0.5, (Objective("p95", 15.0, "<="),), None),
            FrontierPoint(1.0, (P95,), CHOSEN),
            FrontierPoint(1.5, (Objective("p95", 45.0, "<="),), SMALLER),
        ),
        headroom=(
            Limit("resource", "llm", 1.33, 1.33, 1.33, "bound"),
            Limit("objective", "p95", 1.1, 1.05, 1.15, "simulation"),
            Limit("objective", "success", math.inf, 4.0, math.inf, "simulation"),
        ),
        fixes=(
            Fix("llm", 1.33, "models.llm.replicas 3 -> 4", 2.5, "search", 2.5),
            Fix("search", 2.5, None, 0.0, "", math.inf),
        ),
        configurations=8,
        excluded=2,
        pruned=3,
        tasks=60_000,
        grid_tasks=480_000,
        grid_replications=20,
        broken=(),
        doubts=(),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def shown(found: PlanResult, rate: float = RATE) -> str:
    """Return the report as a terminal shows it."""
    return text(lay_out(plan_tables.report(found, rate), 400))


def test_the_answer_names_configuration_price_estimate_and_what_it_rests_on() -> None:
    """A pass says what is enough, for what, at what price, with the interval and its confidence."""
    assert plan_words.answer(plan(), RATE) == (
        "3 replicas of models.llm and 10 concurrent calls of tools.search meet p95 <= 30 s at 0.5 tasks/s for $7.6 an hour: "
        "p95 27.1 s ± 1.2 (95 % for the whole plan, 20 replications)."
    )


def test_the_answer_says_by_how_much_the_nearest_misses_and_why() -> None:
    """A fail names the nearest configuration, the miss as a share of the threshold, and the cause."""
    nearest = Choice(NOW, "fail", SMALLER, (MISS,), "llm is 99 % busy", ())
    assert plan_words.answer(plan((nearest,)), RATE) == (
        "Nothing meets p95 <= 30 s at 0.5 tasks/s: the nearest is 2 replicas of models.llm and 10 concurrent calls of "
        "tools.search, which misses p95 by 23 % (36.9 s ± 0.4 against 30 s), because llm is 99 % busy."
    )
    bound = Choice(NOW, "fail", None, (), "llm is offered 113 %", ())
    assert "no configuration may, because llm is offered 113 %." in plan_words.answer(plan((bound,)), RATE)


def test_the_answer_says_how_many_replications_would_tell() -> None:
    """Inconclusive: an interval of ± 1 at 0.5 from the threshold needs less than four times the replications, as t is then smaller."""
    found = plan((Choice(NOW, "inconclusive", OPEN, (), "", (OPEN,)),))
    spread = math.sqrt(20) / student_t(0.995, 19)  # of a replication (s)
    assert student_t(0.995, 67) * spread / math.sqrt(68) <= 0.5 < student_t(0.995, 66) * spread / math.sqrt(67)
    assert plan_words.needed(OPEN) == 48
    answer = plan_words.answer(found, RATE)
    assert answer.startswith(
        "Inconclusive: whether anything meets p95 <= 30 s at 0.5 tasks/s is not resolved: 3 replicas"
    )
    assert answer.endswith(
        "p95 29.5 s ± 1.0 (95 % for the whole plan, 20 replications); about 48 more replications would tell."
    )


def test_few_replications_need_more_than_the_normal_says() -> None:
    """Five replications of 99.95 % within ± 4 at 2 from the threshold: as if normal 5 of them would be enough, and 11 are."""
    few = Estimate(28.0, 24.0, 32.0, 0.9995, 5, "t over replications")
    one = replace(OPEN, judged=(Judged("p95", 30.0, "<=", few, "inconclusive"),), replications=5)
    spread = 4.0 * math.sqrt(5) / student_t(0.9995, 4)
    halves = {count: student_t(0.9995, count - 1) * spread / math.sqrt(count) for count in range(5, 40)}
    assert plan_words.needed(one) == min(count for count, half in halves.items() if half <= 2.0) - 5
    assert 5 * (student_t(0.9995, math.inf) * 2 / student_t(0.9995, 4)) ** 2 < 5


@pytest.mark.parametrize(("p95", "half"), [(30.0, 1.0), (29.5, math.inf), (29.9999, 1.0)])
def test_no_number_of_replications_is_named_where_none_would_tell(p95: float, half: float) -> None:
    """On the threshold, without an interval, or after more than a million replications."""
    assert plan_words.needed(trial((2, 0), p95, half, "inconclusive")) is None


def test_a_cheaper_configuration_that_is_not_resolved_is_doubted() -> None:
    """A pass with something cheaper undecided says so in the answer and in a warning, with the option to try."""
    found = plan((Choice(NOW, "pass", CHOSEN, (), "", (OPEN,)),))
    assert plan_words.answer(found, RATE).endswith(
        "Something cheaper may, too: 3 replicas of models.llm and 5 concurrent calls of tools.search for $7.55 an hour (met with "
        "93.5 %) is not resolved; about 48 more replications would tell."
    )
    (warning,) = plan_tables.warnings(found)
    assert warning.endswith("about 48 more replications would tell: try `--max-replications 68`")


def test_of_what_is_not_resolved_the_likeliest_is_named() -> None:
    """What is cheapest and hopeless gives way to what may well do; a chance that any reader takes for met says why it is not enough."""
    hopeless, likely = trial((1, 0), 32.0, 2.1, "inconclusive"), trial((2, 0), 29.0, 1.1, "inconclusive")
    found = plan((Choice(NOW, "pass", CHOSEN, (), "", (hopeless, likely)),))
    answer = plan_words.answer(found, RATE)
    assert "Something cheaper may, too: 3 replicas of models.llm and 5 concurrent" in answer
    assert "2 replicas" not in answer
    assert answer.endswith("A verdict takes an interval of 99.5 %, so that all of the plan's hold together with 95 %.")
    (warning,) = plan_tables.warnings(found)
    assert warning.startswith("2 cheaper configurations may meet the objectives, too, such as 3 replicas")
    both = plan((Choice(NOW, "pass", CHOSEN, (), "", (trial((1, 0), 30.2, 1.0, "inconclusive"), likely)),))
    assert "3 replicas of models.llm and 5 concurrent calls of tools.search" in plan_words.answer(both, RATE)
    assert "2 replicas of models.llm and 5 concurrent calls of tools.search" in plan_words.answer(both, RATE)
    assert " are not resolved; about" in plan_words.answer(both, RATE)
    assert "more replications of each would tell" in plan_words.answer(both, RATE)


def test_an_interval_as_written_lies_on_the_side_that_its_verdict_says() -> None:
    """0.266 s within [-0.206, 0.739] passes 750 ms, and 29.96 s ± 0.038 passes 30 s: what is written stays below the threshold."""
    assert (
        plan_words.judged(Judged("queueing_p95", 0.75, "<=", estimate(0.2663, 0.4726), "pass")).text == "270 ms ± 470"
    )
    near = plan_words.judged(Judged("p95", 30.0, "<=", estimate(29.7, 0.27), "pass"))
    assert near.text == "29.70 s ± 0.27"
    assert numbers.show(estimate(29.7, 0.27), "s").text == "29.7 s ± 0.3"


def test_broken_monotony_and_the_doubts_of_the_search_are_warnings() -> None:
    """More capacity that did worse is told with both estimates; what the search doubts comes as it is."""
    found = plan(broken=((CHOSEN, SMALLER),), doubts=("runs are short",))
    broken, doubt = plan_tables.warnings(found)
    assert "did worse (p95 27.1 s ± 1.2) than 2 replicas" in broken
    assert doubt == "runs are short"
    assert list(plan_tables.warnings(plan())) == []


def test_bounds_stand_beside_what_was_measured() -> None:
    """A row of the table has the busiest resource by theory and its wait, what was measured, and the estimate."""
    (row,) = [line for line in shown(plan()).splitlines() if line.startswith("  *  ")]
    assert " ".join(row.split()) == "* 3 10 $7.6 llm 75 % 1.25 s llm 74 % 27.1 s ± 1.2 pass 20,000"
    said = shown(plan())
    assert re.search(r"^ +1 +10 +\$2.6 +llm is offered 113 % of 1 replica$", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("wait", "told"), [(None, ""), (math.inf, ""), (1e-9, "<1 µs"), (0.0, "0 s"), (0.25, "250 ms")]
)
def test_a_wait_by_theory_is_told_as_far_as_it_means_something(wait: float | None, told: str) -> None:
    """Where Erlang's C does not apply there is none; less than a microsecond is as good as none."""
    resources = (replace(CHOSEN.bound.resources[0], wait=wait), CHOSEN.bound.resources[1])
    one = replace(CHOSEN, bound=replace(CHOSEN.bound, resources=resources))
    found = plan((Choice(NOW, "pass", one, (), "", ()),), trials=(one,))
    (row,) = [line for line in shown(found).splitlines() if line.startswith("  *  ")]
    assert re.fullmatch(rf"  \* +3 +10 +\$7.6 +llm 75 % +{told} *llm 74 % .*", row)


def test_the_margin_is_a_share_of_the_threshold_in_the_objectives_sense() -> None:
    """2.9 s within 30 s are 9.7 %; a share of 98 % where 99 % are asked for lies beyond it."""
    rates = Judged("success", 0.99, ">=", estimate(0.98, 0.002), "fail")
    both = replace(CHOSEN, judged=(*CHOSEN.judged, rates))
    said = shown(plan((Choice(NOW, "pass", both, (), "", ()),), objectives=(P95, SUCCESS), trials=(both,)))
    assert re.search(r"p95 +≤ 30 s +27.1 s +± 1.2 +9.7 % +pass", said)
    assert re.search(r"success +≥ 99 % +98.0 % +± 0.2 +-1 % +fail", said)


def test_both_counts_of_tasks_are_told() -> None:
    """What was simulated, what fell to what, and what the whole grid would take."""
    assert plan_tables.effort(plan()) == (
        "simulated 60,000 tasks in 3 of 8 configurations; 2 fell to queueing bounds, 3 to monotony or cost; the whole grid, "
        "20 replications each, would take 480,000 tasks (8 times as many)"
    )
    assert "(" not in plan_tables.effort(plan(tasks=0))


def test_headroom_is_in_tasks_and_as_a_share_of_the_load() -> None:
    """What ends first comes first; by rate where the scenario has one, else as a factor; a limit not found is a bound."""
    said = shown(plan())
    lines = said[said.index("Headroom") :].splitlines()
    assert re.fullmatch(r" +p95 breaks +0.55 tasks/s +\+10 % +0.525 tasks/s to 0.575 tasks/s +simulation", lines[2])
    assert re.fullmatch(r" +llm saturates +0.665 tasks/s +\+33 % +bound", lines[3])
    assert re.fullmatch(r" +success breaks +> 2 tasks/s +simulation", lines[4])
    assert re.search(r"llm saturates +1.33 x +\+33 %", shown(plan(), math.nan))


def test_the_next_bottleneck_follows_each_fix() -> None:
    """What limits, the change that moves it, what that costs, and what limits then; or that no decision helps."""
    said = shown(plan())
    assert re.search(
        r"llm +0.665 tasks/s +\+33 % +models.llm.replicas 3 -> 4 +\+2.5 +search +1.25 tasks/s +\+150 %", said
    )
    assert "no decision helps" in said


def test_what_the_budget_ended_is_marked() -> None:
    """A frontier and a headroom that were not looked for to the end say so; trials of the frontier have their own table."""
    found = plan()
    frontier = (replace(found.frontier[0], ended=True), *found.frontier[1:])
    headroom = (found.headroom[0], replace(found.headroom[1], ended=True))
    said = shown(replace(found, frontier=frontier, headroom=headroom, frontier_trials=(SMALLER,), beyond=25_000))
    assert re.search(r"p95 <= 15 s † +– +– +– +not looked for to the end", said)
    assert "p95 breaks †" in said
    assert "Simulated for the frontier, besides" in said
    assert re.search(r"tasks simulated for the frontier, besides +20,000", said)
    assert re.search(r"tasks simulated for the headroom, besides +5,000", said)
    assert "†" not in shown(found)


def test_the_frontier_says_where_nothing_was_found() -> None:
    """Objectives made stricter and looser, each with the cheapest configuration that meets them; that all miss is not that none is resolved."""
    found = plan()
    said = shown(found)
    assert re.search(r"p95 <= 15 s +– +– +– +none: all miss it", said)
    assert re.search(r"p95 <= 45 s +2 +10 +\$5.1 +36.9 s +± 0.4", said)
    assert "‡" not in said
    said = shown(replace(found, frontier=tuple(replace(one, open=True) for one in found.frontier)))
    assert re.search(r"p95 <= 15 s +– +– +– +not resolved", said)
    assert re.search(r"p95 <= 45 s ‡ +2 +10", said)
    assert "‡: something cheaper may do; that is not resolved" in said


def hours() -> PlanResult:
    """Return a plan over three loads, of which the last needs most."""
    loads = [Load("00:00", 0.5, 8.0), Load("08:00", 1.0, 12.0), Load("20:00", 1.5, 4.0)]
    points = [(0, 0), (1, 0), (3, 0)]
    trials = [trial(point, 25.0, 1.0, "pass", load, usage=1.0) for point, load in zip(points, loads, strict=True)]
    choices = tuple(Choice(load, "pass", one, (), "", ()) for load, one in zip(loads, trials, strict=True))
    return plan(choices, trials=tuple(trials), frontier=(), headroom=(), fixes=())


def test_a_plan_over_loads_sums_cost_and_compares_with_the_peak_all_day() -> None:
    """8 h at $3.55, 12 at $6.05, 4 at $11.05 are $145.2; the peak's capacity all day would cost 24 times $11.05."""
    found = hours()
    assert plan_words.total_cost(found.choices) == pytest.approx(8 * 3.55 + 12 * 6.05 + 4 * 11.05)
    assert plan_words.at_the_peak(found.choices) == pytest.approx(24 * 11.05)
    said = shown(found)
    assert "costs $265.2: following the load saves $120 (45 %)" in said
    assert "Each load is simulated in its steady state" in said
    assert re.search(r"20:00 +0.75 tasks/s +4 +5 +\$11.05 +4 +\$44.2 +pass", said)
    assert plan_words.answer(found, RATE) == (
        "The plan meets p95 <= 30 s at all 3 loads, for $145.2 over 24 hours: from 1 replica of models.llm and 5 concurrent calls "
        "of tools.search (00:00, $3.55 an hour) to 4 replicas of models.llm and 5 concurrent calls of tools.search (20:00, "
        "$11.05 an hour)."
    )


def test_a_load_that_is_not_met_is_named_with_its_cause() -> None:
    """Of several loads the first that fails is told as a single one would be; its cost is in no total."""
    found = hours()
    first, second, third = found.choices
    bad = Choice(
        third.load, "fail", third.trial, (Miss("p95", 30.0, estimate(33.0, 1.0), 0.1),), "llm is 98 % busy", ()
    )
    answer = plan_words.answer(replace(found, choices=(first, second, bad)), RATE)
    assert answer.startswith("The plan meets p95 <= 30 s at 2 of 3 loads: from 1 replica")
    said = shown(replace(found, choices=(first, second, bad)))
    assert re.search(r"20:00 +0.75 tasks/s +4 +5 +\$11.05 +4 +– +fail", said)
    assert re.search(r"total of the 2 loads met +20 +\$101\b", said)
    assert "kept at all loads" not in said
    assert "Nothing meets p95 <= 30 s at 0.75 tasks/s (20:00): the nearest is 4 replicas" in answer


def test_factors_without_hours_have_no_total() -> None:
    """A factor of the load lasts for no time that is known: neither table nor sentence has a sum."""
    found = hours()
    choices = tuple(replace(one, load=replace(one.load, hours=None)) for one in found.choices)
    found = replace(found, choices=choices)
    assert plan_words.total_cost(choices) is None
    said = shown(found)
    assert not re.search(r"^ +total", said, re.MULTILINE)
    assert "hours" not in plan_words.answer(found, RATE)
    assert plan_words.answer(found, RATE).startswith("The plan meets p95 <= 30 s at all 3 loads: from 1 replica")
    assert "hours" not in {row["quantity"] for row in csv.DictReader(io.StringIO(to_csv(found)))}


def test_doubts_at_several_loads_are_in_the_answer_and_folded() -> None:
    """The sentence counts the loads at which something cheaper may do; of warnings that are alike the first is told, with how many more."""
    found = hours()
    # One replica or several, it is the same doubt; told is the one that takes most replications to settle.
    near = replace(OPEN, point=(0, 1), judged=(replace(OPEN.judged[0], estimate=estimate(29.7, 1.0)),))
    open_ = tuple(
        replace(one, undecided=(replace(doubt, load=one.load),))
        for one, doubt in zip(found.choices, (OPEN, near, OPEN), strict=True)
    )
    doubts = tuple(f"{one.load.label}: {n} of 9 tasks had not ended" for n, one in enumerate(found.choices, 1))
    doubted = replace(found, choices=open_, doubts=(*doubts, "runs are short"))
    assert plan_words.answer(doubted, RATE).endswith(" At each of them something cheaper may, too: it is not resolved.")
    some = replace(found, choices=(open_[0], *found.choices[1:]))
    assert plan_words.answer(some, RATE).endswith(" At 1 of them something cheaper may, too: it is not resolved.")
    cheaper, unfinished, short = plan_tables.warnings(doubted)
    assert cheaper.startswith(
        "08:00: 1 cheaper configuration may meet the objectives, too, such as 1 replica of models.llm"
    )
    most = near.replications + (plan_words.needed(near) or 0)
    assert most > 68
    assert cheaper.endswith(f"`--max-replications {most}` (and the like at 2 more loads)")
    assert unfinished == "00:00: 1 of 9 tasks had not ended (and the like at 2 more loads)"
    assert short == "runs are short"


def test_what_calls_cost_has_its_column_and_what_is_excluded_says_that_it_has_none() -> None:
    """$1 of $8.6 an hour is what calls cost, measured; configurations that did not run have their price without calls."""
    metered = Estimate(1.02, 0.97, 1.07, 0.95, 5, "t over replications")
    paid = replace(trial((2, 1), 27.1, 1.2, "pass", usage=1.0), metered=metered)
    found = plan((Choice(NOW, "pass", paid, (), "", ()),), trials=(paid, FULL))
    said = shown(found)
    assert re.search(r"\$/h in all +of it calls", said)
    assert re.search(r"\* +3 +10 +\$8.6 +\$1.02 +± \$0.05", said)
    assert re.search(r"concurrency +\$/h without calls +because", said)
    assert "counts as equal" in said
    rows = [row for row in csv.DictReader(io.StringIO(to_csv(found))) if row["quantity"] == "usage_estimate"]
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"], rows[0]["n"]) == ("1.02", "0.97", "1.07", "5")


def test_without_prices_the_smallest_is_told_without_a_price() -> None:
    """Nothing is bought for $0: the sentence has no price, and what is doubted is smaller, not cheaper."""
    free = tuple(replace(one, costs=(0.0,) * len(one.costs)) for one in (REPLICAS, SEARCH))
    chosen, open_ = replace(CHOSEN, cost=0.0), replace(OPEN, cost=0.0)
    found = plan((Choice(NOW, "pass", chosen, (), "", (open_,)),), variables=free, trials=(chosen, open_))
    answer = plan_words.answer(found, RATE)
    assert "$" not in answer
    assert (
        "Something smaller may, too: 3 replicas of models.llm and 5 concurrent calls of tools.search (met with 93.5 %) is "
        "not resolved" in answer
    )
    assert "assistant: the smallest that meets" in shown(found)


def test_a_long_table_keeps_the_chosen_and_says_what_is_left_out() -> None:
    """Of 60 simulated configurations 25 are shown, the chosen among them; CSV has all."""
    many = tuple(replace(SMALLER, cost=1.0 + number) for number in range(60))
    found = plan(trials=(*many, CHOSEN))
    rows = plan_tables.shown_trials(found)
    assert len(rows) == plan_tables.MOST_TRIALS
    assert CHOSEN in rows
    assert "36 more in CSV and JSON" in shown(found)
    assert to_csv(found).count("trial,") >= 61


def test_the_csv_is_tidy() -> None:
    """Every row has the ten columns; the estimate of the chosen configuration is there with its ends, unrounded."""
    rows = list(csv.DictReader(io.StringIO(to_csv(plan()))))
    assert tuple(rows[0]) == COLUMNS
    (p95,) = [row for row in rows if row["table"] == "choice" and row["quantity"] == "p95"]
    assert (p95["value"], p95["low"], p95["high"], p95["unit"]) == ("27.1", repr(27.1 - 1.2), repr(27.1 + 1.2), "s")
    assert p95["name"] == "models.llm.replicas=3; tools.search.concurrency=10"
    assert {row["table"] for row in rows} == {
        "plan", "choice", "trial", "resource", "frontier", "headroom", "fix",
    }  # fmt: skip
    unknown = [row for row in rows if row["quantity"] == "breaks_at" and row["name"] == "success"]
    assert (unknown[0]["value"], unknown[0]["low"], unknown[0]["high"]) == ("", "4.0", "")


def test_the_json_has_every_field() -> None:
    """Fields of the result by name, the sentence and the verdict; what is not finite is null."""
    data = json.loads(plan_tables.to_json(plan(), RATE))
    assert {field.name for field in fields(PlanResult)} <= set(data)
    assert (data["coordsim_plan"], data["verdict"], data["rate"]) == (1, "pass", 0.5)
    assert data["statement"] == plan_words.answer(plan(), RATE)
    assert data["headroom"][2]["factor"] is None
    assert data["trials"][0]["judged"][0]["estimate"]["value"] == 27.1


def test_markdown_has_a_table_of_each_kind() -> None:
    """The report is laid out as Markdown, too; its heading names scenario and objectives."""
    said = markdown(plan_tables.report(hours(), RATE))
    assert said.startswith("## assistant: the cheapest that meets p95 <= 30 s\n")
    assert "### The plan over the loads" in said


def test_a_setting_without_a_number_of_things_is_written_as_path_and_value() -> None:
    """`runtime = session-state meets`, `1 replica of models.llm meets`, `2 replicas of models.llm meet`."""
    runtime = Variable("runtime", ("ideal", "session-state"), (0.0, 0.0), monotone=False)
    one = replace(CHOSEN, point=(1,))
    found = plan((Choice(NOW, "pass", one, (), "", ()),), variables=(runtime,), trials=(one,))
    assert plan_words.answer(found).startswith(
        "runtime = session-state meets p95 <= 30 s at the load as it is for $7.6"
    )
    single = replace(CHOSEN, point=(0,))
    found = plan((Choice(NOW, "pass", single, (), "", ()),), variables=(REPLICAS,), trials=(single,))
    assert plan_words.answer(found).startswith("1 replica of models.llm meets ")


def test_variables_with_one_ending_are_told_apart_in_headers() -> None:
    """`a.llm.replicas` and `b.llm.replicas` keep their paths; others are shortened."""
    both = (Variable("a.llm.replicas", ("1",), (0.0,)), Variable("b.llm.replicas", ("1",), (0.0,)), SEARCH)
    assert plan_words.headers(plan(variables=both)) == ("a.llm.replicas", "b.llm.replicas", "search.concurrency")
