"""What is told of a trace: the ledger's split with what no span explains, calls, gaps, errors, prompts; and intervals over few tasks."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from coordsim.models.trace_digest import digest_of, result_of, source_of
from coordsim.sim.analysis.cohorts import LABELS
from coordsim.sim.analysis.estimator import LEAST_TASKS, LEAST_WITH, Estimator
from coordsim.sim.analysis.frames import tasks_table
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.statistics import quantile_interval
from coordsim.sim.analysis.trace_calls import context_of, gaps_of, harm_of, overlap_of, parallel_of, quantile_of_calls
from coordsim.sim.engine.ledger import CATEGORIES, EVERY, UNEXPLAINED
from coordsim.sim.report.stored import dump
from coordsim.sim.report.trace_task_tables import slow_table
from coordsim.sim.trace.measured import Call, TaskTrace
from coordsim.sim.trace.tally import SEVERAL_ROOTS

from .measured import AGENT, COMMAND, MODEL, measured

BY = Estimator(independent=True)


def task(*calls: Call, number: int = 0, end: float = 10.0) -> TaskTrace:
    """Return a task from 0 to `end` with these calls."""
    return TaskTrace(number, "t", "", "all", 0.0, end, "", True, calls)


# ---------------------------------------------------------------------------------------------------------------------
# Intervals


@pytest.mark.parametrize(("sigma", "n"), [(0.5, 10), (0.8, 20), (0.8, 142), (1.2, 142)])
def test_intervals_over_few_skewed_tasks_hold_the_mean(sigma: float, n: int) -> None:
    """Of lognormal times nine in ten intervals at least hold the true mean; Student's alone would hold it in 80 to 90 %."""
    rng = np.random.default_rng(7)
    true = math.exp(sigma**2 / 2)
    found = [BY.mean([rng.lognormal(0.0, sigma, n)]).estimate for _ in range(400)]
    assert 0.90 <= sum(one.low <= true <= one.high for one in found) / 400 <= 0.99


def test_an_interval_of_values_without_skew_is_students() -> None:
    """Where values lie alike on both sides of their mean nothing is corrected."""
    values = np.linspace(-1.0, 1.0, 21) + 5
    found = BY.mean([values]).estimate
    half = 2.0859634472658 * values.std(ddof=1) / math.sqrt(21)
    assert (found.value, found.low, found.high) == pytest.approx((5.0, 5.0 - half, 5.0 + half), rel=1e-9)


def test_too_few_tasks_have_no_interval() -> None:
    """Fewer than ten tasks, or fewer than five with any of what is summed, give the mean and no interval."""
    values = np.random.default_rng(1).lognormal(0.0, 1.0, LEAST_TASKS)
    assert BY.mean([values]).estimate.resolved
    few = BY.mean([values[:-1]]).estimate
    assert few.value == pytest.approx(values[:-1].mean())
    assert (few.low, few.high) == (-math.inf, math.inf)
    rare = np.zeros(100)
    rare[: LEAST_WITH - 1] = 3.0
    assert not BY.mean([rare]).estimate.resolved
    rare[LEAST_WITH] = 3.0
    assert BY.mean([rare]).estimate.resolved


def test_intervals_end_where_values_do() -> None:
    """What cannot be below 0, and a part of a whole, which cannot be above 1, have no interval beyond."""
    rng = np.random.default_rng(8)
    whole = rng.lognormal(0.0, 1.5, 12)
    part = whole * np.where(np.arange(12) < 6, 1.0, 0.2)
    found = BY.portion([part], [whole]).estimate
    assert found.value < found.high <= 1
    few = np.concatenate([np.full(5, 0.01), np.zeros(6), [5.0]])
    assert BY.mean([few]).estimate.low == 0
    assert BY.mean([-few]).estimate.low < -0.4


def test_quantiles_of_tasks_lie_between_order_statistics() -> None:
    """A percentile that the tasks cannot bound is open above: p99 of 142 tasks."""
    values = np.random.default_rng(2).lognormal(0.0, 1.0, 142)
    assert BY.quantile([values], 0.5).estimate == quantile_interval(values, 0.5)
    p99 = BY.quantile([values], 0.99).estimate
    assert math.isfinite(p99.low)
    assert p99.high == math.inf


def test_a_share_of_tasks_has_wilsons_interval() -> None:
    """Ten successes of ten leave room below 1."""
    found = BY.share([np.ones(10)]).estimate
    assert found.value == found.high == 1
    assert found.low == pytest.approx(0.7225, abs=1e-3)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_the_quantile_of_calls_knows_that_calls_of_a_task_go_together(q: float) -> None:
    """Intervals hold the true quantile where tasks differ; those of independent calls are far too narrow."""
    rng = np.random.default_rng(3)
    true = float(np.exp(math.sqrt(0.98) * {0.5: 0.0, 0.95: 1.6448536}[q]))
    held = naive = 0
    for _ in range(150):
        places = np.repeat(np.arange(100), rng.integers(1, 15, 100))
        values = np.exp(0.7 * rng.normal(size=100)[places] + 0.7 * rng.normal(size=places.size))
        found, alone = quantile_of_calls(places, values, q, 0.95), quantile_interval(values, q)
        held += found.low <= true <= found.high
        naive += alone.low <= true <= alone.high
    assert held / 150 >= 0.88
    assert naive / 150 < 0.85


# ---------------------------------------------------------------------------------------------------------------------
# The ledger's split


def test_the_parts_of_a_trace_sum_to_t_total() -> None:
    """Categories, those around each percentile too, and steps: with what no span explains the parts are all of T_total."""
    run = digest_of(measured(60)).run
    total = run.summary.metrics["response_time_mean"].value
    assert tuple(run.summary.categories) == EVERY
    assert math.fsum(one.seconds.value for one in run.summary.categories.values()) == pytest.approx(total)
    assert run.summary.categories[UNEXPLAINED].seconds.value > 0
    for group in run.cohorts.groups:
        assert math.fsum(one.value for one in group.categories.values()) == pytest.approx(group.total.value)
        beside = [group.categories[name].value for name in ("inference", "human", UNEXPLAINED)]
        assert group.coordination.value == pytest.approx(group.total.value - math.fsum(beside))
    assert run.steps is not None
    assert run.steps.total == pytest.approx(total)
    assert run.summary.replications == run.cohorts.replications == 0


def test_a_trace_without_gaps_says_that_there_are_none() -> None:
    """The category is there, and empty; and the table of tasks has its column."""
    trace = measured(20, gaps=False)
    result = result_of(trace)
    assert (result.category(UNEXPLAINED) == 0).all()
    assert "unexplained_s" in tasks_table([result]).column_names
    assert digest_of(trace).gaps.rows == ()


def test_simulated_results_know_no_unexplained_time() -> None:
    """A result without such an account has the ten categories, and refuses the eleventh."""
    result = result_of(measured(12, gaps=False))
    plain = replace(result, accounts=result.accounts[:-1], rows=result.rows[:, :-1], columns=result.columns[:-1])
    assert plain.known == CATEGORIES
    with pytest.raises(ValueError, match="must be one of"):
        plain.category(UNEXPLAINED)


@pytest.mark.parametrize(
    ("tasks", "sizes"), [(5, (1, 1, 1)), (20, (2, 2, 1)), (142, (14, 14, 2)), (1000, (20, 20, 20))]
)
def test_cohorts_of_measured_tasks(tasks: int, sizes: tuple[int, ...]) -> None:
    """Twenty tasks around a percentile, but no more than a tenth of them, nor than lie evenly around it."""
    result = _of_times(np.random.default_rng(4).lognormal(0.0, 1.0, tasks), UNEXPLAINED)
    assert tuple(len(result.cohort(q).tasks) for q in LABELS.values()) == sizes


def test_cohorts_of_runs_stay_a_hundredth() -> None:
    """Simulated tasks: one of 142, as ever."""
    result = _of_times(np.random.default_rng(4).lognormal(0.0, 1.0, 142), "tool")
    assert [len(result.cohort(q).tasks) for q in LABELS.values()] == [1, 1, 1]


def _of_times(times: np.ndarray, category: str) -> Result:
    """Return a result whose tasks take these times, in one account."""
    result = result_of(measured(3, gaps=False))
    heads = result.rows.shape[1] - len(result.accounts)
    rows = np.zeros((times.size, heads + 1))
    rows[:, 0], rows[:, 3], rows[:, heads] = np.arange(times.size), times, times
    account = replace(result.accounts[0], category=category)
    return replace(result, rows=rows, accounts=(account,), columns=(*result.columns[:heads], "one"))


# ---------------------------------------------------------------------------------------------------------------------
# Calls, gaps, errors


def test_gaps_are_all_of_what_no_span_explains() -> None:
    """Their seconds over tasks done are those of the category, each between the calls that it lies between."""
    trace = measured(40, failed=2)
    found = digest_of(trace)
    share = found.run.summary.categories[UNEXPLAINED]
    assert math.fsum(one.per_task.value for one in found.gaps.rows) == pytest.approx(share.seconds.value)
    assert math.fsum(one.share.value for one in found.gaps.rows) == pytest.approx(share.share.value)
    places = {(one.inside, one.before, one.after) for one in found.gaps.rows}
    assert places == {("", "", "llm"), (AGENT, "", "llm"), (AGENT, "tool", "llm"), (AGENT, "llm", "tool")}
    after = next(one for one in found.gaps.rows if one.before == "llm")
    assert after.seconds / after.count == pytest.approx(0.1)
    assert (found.gaps.tasks, found.gaps.among) == (40, 40)


def test_gaps_are_of_tasks_whose_spans_were_kept() -> None:
    """Of those without spans nothing is told, and how many there are is."""
    trace = measured(12)
    spans = result_of(trace).spans
    found = gaps_of(trace.tasks, lambda number: spans.of(number) if number < 5 else (), BY, 12)
    assert (found.tasks, found.among) == (5, 12)


def test_calls_by_component_are_those_of_the_trace() -> None:
    """Counts, seconds, tokens and errors by hand; on the path all calls and gaps together are T_total."""
    trace = measured(40)
    found = digest_of(trace)
    calls = [one for each in trace.tasks for one in each.calls if one.component == MODEL]
    row = next(one for one in found.calls if one.component == MODEL)
    assert (row.kind, row.calls, row.tasks) == ("llm", len(calls), 40)
    assert row.errors == sum(bool(one.error) for one in calls)
    assert row.per_task.value == pytest.approx(len(calls) / 40)
    assert row.seconds["mean"].value == pytest.approx(np.mean([one.seconds for one in calls]))
    assert row.seconds["p95"].value == pytest.approx(np.quantile([one.seconds for one in calls], 0.95))
    known = [one.output for one in calls if not math.isnan(one.output)]
    assert row.tokens["output"].value == pytest.approx(np.mean(known))
    path = math.fsum(one.share.value for one in found.calls if one.kind != "agent")
    assert path + found.run.summary.categories[UNEXPLAINED].share.value == pytest.approx(1.0)
    assert [one.component for one in found.calls if one.kind == "agent"] == [AGENT]


def test_stub_token_counts_are_not_told() -> None:
    """Counts that cannot be true are in no mean."""
    trace = measured(12)
    stubs = tuple(
        replace(each, calls=tuple(replace(one, stub=one.kind == "llm") for one in each.calls)) for each in trace.tasks
    )
    found = digest_of(replace(trace, tasks=stubs))
    assert next(one for one in found.calls if one.component == MODEL).tokens == {}
    assert found.context.turns == ()


def test_what_errors_cost() -> None:
    """Calls that failed by type; tasks with one against those without; and no interval where either are too few."""
    trace = measured(60)
    harm = digest_of(trace).harm
    hit = np.array([any(one.error for one in each.calls) for each in trace.tasks])
    times = np.array([each.end - each.arrival for each in trace.tasks])
    assert (harm.with_error, harm.without) == (hit.sum(), (~hit).sum())
    assert harm.seconds.value == pytest.approx(times[hit].mean() - times[~hit].mean())
    assert harm.seconds.resolved
    assert harm.failed == sum(one.calls for one in harm.rows)
    assert {one.error for one in harm.rows} == {"TimeoutError", "RateLimitError"}
    assert next(one for one in harm.rows if one.error == "RateLimitError").retried > 0
    few = [each for each, one in zip(trace.tasks, hit, strict=True) if one][:9]
    few += [each for each, one in zip(trace.tasks, hit, strict=True) if not one][:15]
    assert not harm_of(few, BY).seconds.resolved


def test_what_runs_at_once() -> None:
    """Two tools side by side for half of the time: 1.5 at once while any is under way, which is 40 % of the task."""
    two = task(Call("tool", "a", "", 2.0, 6.0, 0, 0), Call("tool", "b", "", 2.0, 4.0, 0, 0))
    whole, tools = parallel_of([two], BY)
    assert (whole.kind, tools.kind) == ("", "tool")
    assert (tools.width.value, tools.busy.value) == pytest.approx((1.5, 0.4))


def test_spans_left_open_until_the_end_are_found_out() -> None:
    """Models and tools of one agent that last until the run ends overlap; calls in turn, a tool that calls the model, and other agents do not."""
    llm, tool = (Call("llm", "m", "a", 0.0, 10.0, 0, 0), Call("tool", "t", "a", 4.0, 10.0, 0, 0))
    assert overlap_of([task(llm, tool)]) == pytest.approx(0.6)
    assert overlap_of([task(llm, tool, replace(llm, start=6.0))]) == pytest.approx(10 / 14)
    assert overlap_of([task(replace(llm, end=4.0), tool)]) == 0
    assert overlap_of([task(replace(llm, start=5.0, end=9.0), tool)]) == 0
    assert overlap_of([task(llm, replace(tool, agent="b"))]) == 0
    assert overlap_of([task(tool)]) == 0


def test_overlap_is_that_of_each_moment() -> None:
    """Calls at random on a grid of half seconds: every moment of a model's call counts if some tool that does not enclose the call goes on."""
    draw = np.random.default_rng(0)
    for _ in range(100):
        starts = np.sort(draw.integers(0, 30, 12))
        calls = [
            Call("llm" if draw.random() < 0.5 else "tool", "x", "a", float(at), float(at + draw.integers(1, 12)), 0, 0)
            for at in starts
        ]
        models, tools = ([one for one in calls if one.kind == kind] for kind in ("llm", "tool"))
        moments = [(one, at + 0.5) for one in models for at in range(int(one.start), int(one.end))]
        both = sum(
            any(by.start < at < by.end and not (by.start <= one.start and by.end > one.end) for by in tools)
            for one, at in moments
        )
        assert overlap_of([task(*calls)]) == pytest.approx(both / len(moments) if moments else 0.0)


def test_overlap_and_calls_without_length_are_doubtful() -> None:
    """Each is said, with its share, and neither of a trace that has none of it."""
    plain = measured(30)
    late = tuple(replace(each, calls=tuple(replace(one, end=each.end) for one in each.calls)) for each in plain.tasks)
    found = digest_of(replace(plain, tasks=late))
    assert found.overlap > 0.1
    assert "do not trust the split between inference and tool" in " ".join(found.doubts)
    none = tuple(replace(each, calls=tuple(replace(one, end=one.start) for one in each.calls)) for each in plain.tasks)
    assert "100 % of model calls have no length" in " ".join(digest_of(replace(plain, tasks=none)).doubts)
    assert not re.search("trust|no length", " ".join(digest_of(plain).doubts))


def test_few_tasks_are_facts_of_their_own() -> None:
    """Their times are kept, and percentiles of them are not; ten tasks are no longer few."""
    trace = measured(5)
    found = digest_of(trace)
    assert found.few == pytest.approx(tuple(sorted(each.end - each.arrival for each in trace.tasks)))
    assert [one.label for one in found.run.cohorts.groups] == ["mean"]
    assert found.run.summary.times is None
    assert digest_of(measured(LEAST_TASKS)).few == ()


def test_how_prompts_grow() -> None:
    """Prompts of the main agent by turn, cached tokens included; another agent's calls are not mixed in."""
    calls = [Call("llm", "m", "main", i, i + 0.5, i, i, new=100.0, cached=1000.0 * i, output=10.0) for i in range(3)]
    other = Call("llm", "m", "helper", 0.7, 0.9, 0, 9, new=7.0, cached=0.0, output=1.0)
    found = context_of([task(calls[0], other, *calls[1:])], BY)
    assert [one.prompt.value for one in found.turns] == [100.0, 1100.0, 2100.0]
    assert found.growth.value == pytest.approx(1000.0)
    assert found.cached.value == pytest.approx(3000 / 3300)


# ---------------------------------------------------------------------------------------------------------------------
# What is doubtful, and where it came from


def test_rates_need_a_common_clock() -> None:
    """Without it there are no rates and no number of tasks at a time; there is never an objective's."""
    with_, without = (digest_of(measured(30, arrivals=one)).run.summary.metrics for one in (True, False))
    assert {"arrival_rate", "throughput", "number_in_system"} <= set(with_)
    assert not {"arrival_rate", "throughput", "number_in_system"} & set(without)
    assert not {"goodput", "attainment"} & (set(with_) | set(without))


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (1, "one task tells little of others"),
        (5, "intervals need 10 tasks"),
        (15, "fewer than 20 no p95"),
        (40, "p99 of T_total rests on 40 tasks"),
        (0, "no task of 1"),
    ],
)
def test_too_few_tasks_are_said_to_be_so(tasks: int, said: str) -> None:
    """Which percentiles they cannot tell, and that there are no intervals."""
    assert said in " ".join(digest_of(measured(tasks, failed=int(not tasks))).doubts)


def test_many_tasks_leave_nothing_doubtful() -> None:
    """A hundred tasks done, hardly any time unexplained, nothing cut off."""
    assert digest_of(measured(120)).doubts == ()
    assert "had not ended" in " ".join(digest_of(measured(120, unfinished=2)).doubts)


def test_every_span_is_accounted_for() -> None:
    """Spans read are those kept and those dropped, with the reasons, dropped ones first."""
    read = digest_of(measured(12)).read
    assert read.spans == read.kept + read.dropped
    assert [one.fate for one in read.remarks] == ["dropped", "repaired", "guessed"]
    assert sum(one.spans for one in read.files) == read.kept
    assert [one.first for one in read.remarks] == ["line 17", "", ""]


@pytest.mark.parametrize(("spans", "minor"), [(2, False), (100_000, True)])
def test_that_most_spans_are_roots_is_minor(spans: int, minor: bool) -> None:
    """In a table of steps nothing encloses the calls; where few are roots it is a thing to know of."""
    trace = measured(12)
    trace.tally.note("noted", SEVERAL_ROOTS, spans=spans)
    assert [one.minor for one in digest_of(trace).read.remarks] == [False, False, False, minor]


def test_a_trace_has_no_scenario_no_seed_and_no_hash() -> None:
    """Its source says which files were read, in which format."""
    source = source_of(measured(12), COMMAND)
    assert (source.seed, source.sha256, source.lines) == ("", "", ())
    assert source.measured
    assert source.question == "Where did the time of 12 measured tasks go?"
    assert [(one.name, one.quality) for one in source.inputs] == [("runs.json", "measured")]
    assert source.inputs[0].source.startswith("otlp; ")
    assert source.data == ("runs.json",)


def test_slow_tasks_are_named_by_what_a_task_is() -> None:
    """By their sessions where these are the tasks, and by its trace one that is of none."""
    trace = measured(12)
    tasks = tuple(replace(one, session="" if one.task % 2 else f"session {one.task}") for one in trace.tasks)
    found = digest_of(replace(trace, tasks=tasks, by="session"))
    (table,) = slow_table(found)
    assert table.columns[1] == "session"
    assert "--by session --task N" in table.note
    traces = {one.task: one.trace for one in tasks}
    assert {one.trace for one in found.slowest} == {traces[at] if at % 2 else f"session {at}" for at in range(12)}


def test_the_same_trace_gives_the_same_bytes() -> None:
    """Twice read, twice told."""
    one, other = (dump("trace", digest_of(found), source_of(found, COMMAND)) for found in (measured(15), measured(15)))
    assert one == other
