"""Tables of causes, paths, cascades and calls sum to what was put in, and what breaks first is bracketed honestly."""

import math

import pytest

from coordsim.sim.analysis import root_cause
from coordsim.sim.analysis.breaking import Level, first_to_break
from coordsim.sim.analysis.slo import Objective, verdict
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summary import Judged
from coordsim.sim.engine.errors import ConservationError
from coordsim.sim.engine.incidents import (
    DEGRADED,
    EXAMPLES,
    FAILED,
    HARMLESS,
    OPEN,
    OUTCOMES,
    RECOVERED,
    Harm,
    Incidents,
    Turn,
)


def incidents(seed: int = 0) -> Incidents:
    """Return a replication in which search fails calls, a crash delays two tasks, and one fails for no known cause."""
    run = Incidents()
    search, crash = run.cause("search", "error", injected=True), run.cause("crash", "down", injected=True)
    struck = [run.strike(search, task, 0, float(task), "tools.search") for task in range(30 + seed)]
    run.settle(struck[:10], RECOVERED, 40.0)
    run.settle(struck[10:15], FAILED, 40.0)
    run.settle(struck[15:17], DEGRADED, 40.0)
    run.settle(struck[17:], HARMLESS, 40.0)
    run.settle([run.strike(crash, 50, 0, 9.0, "models.llm")], RECOVERED, 20.0)
    run.occurrences[crash] = 1
    run.harms += [Harm(task, 0.0, 9.0, True, search, "search -> tools.search -> task", 1.0, 0.0) for task in range(5)]
    run.harms += [Harm(50, 0.0, 9.0, False, crash, "crash -> models.llm", 2.0, 3.0)]
    run.harms += [Harm(51, 0.0, 9.0, False, crash, "crash -> models.llm -> backlog", 0.0, 4.0)]
    run.harms += [Harm(52, 0.0, 9.0, True, -1, "deadline", 0.0, 0.0), Harm(53, 0.0, 9.0, False, search, "x", 0.0, 0.0)]
    return run


def test_the_strikes_of_a_cause_are_the_sum_of_their_outcomes() -> None:
    """Over two replications each row sums, and the rows come with those first that failed most."""
    rows = root_cause.causes([incidents(), incidents(3)], [100, 100])
    assert [row.name for row in rows] == ["search", "unknown", "crash"]
    search, unknown, crash = rows
    assert (search.strikes, search.injected, search.kind) == (63, True, "error")
    assert search.outcomes == {"recovered": 20, "degraded": 4, "failed": 10, "harmless": 29, "open": 0}
    assert all(sum(row.outcomes.values()) == row.strikes for row in rows)
    assert (crash.occurrences, crash.harmed, crash.delayed, crash.lost, crash.waited) == (2, 4, 4, 4.0, 14.0)
    assert (unknown.strikes, unknown.failed, unknown.injected) == (0, 2, False)


def test_the_blast_radius_is_the_share_of_tasks_that_were_harmed() -> None:
    """Sixteen of 200 tasks failed or lost time, one more was met and lost nothing; the causes' shares sum to that."""
    runs = [incidents(), incidents()]
    total = root_cause.blast_radius(runs, [100, 100])
    assert total.value == pytest.approx(0.08)
    assert total.n == 200
    rows = root_cause.causes(runs, [100, 100])
    assert sum(row.blast_radius.value for row in rows) == pytest.approx(total.value)
    assert rows[0].blast_radius.low < 0.05 < rows[0].blast_radius.high


def test_replications_may_number_their_causes_differently() -> None:
    """Causes are told by name; one that is of two kinds is refused."""
    other, third = Incidents(), Incidents()
    other.cause("crash", "down", injected=True)
    other.settle([other.strike(0, 1, 0, 1.0, "models.llm")], FAILED, 2.0)
    rows = {row.name: row for row in root_cause.causes([incidents(), other], [100, 100])}
    assert (rows["crash"].strikes, rows["search"].strikes) == (2, 30)
    third.cause("crash", "slow", injected=True)
    with pytest.raises(ValueError, match="crash"):
        root_cause.causes([incidents(), third], [100, 100])


def test_a_strike_that_is_lost_or_counted_twice_is_found() -> None:
    """A lost outcome, one too many, a negative one, and a task told twice raise; so do open strikes of a settled run."""
    struck = {"search": 30, "crash": 1}
    root_cause.check_conservation(incidents(), struck, over=True)
    for cause, outcome, change, words in (
        (0, RECOVERED, -1, "search: struck 30 times, but its outcomes sum to 29"),
        (1, FAILED, 1, "crash: struck 1 times, but its outcomes sum to 2"),
        (1, OPEN, -1, "negative"),
    ):
        run = incidents()
        run.counts[cause][outcome] += change
        with pytest.raises(ConservationError, match=words):
            root_cause.check_conservation(run, struck)
    with pytest.raises(ConservationError, match="no cause"):
        root_cause.check_conservation(incidents(), struck | {"disk": 1})
    twice = incidents()
    twice.harms.append(twice.harms[0])
    with pytest.raises(ConservationError, match="more than once"):
        root_cause.causes([twice], [100])
    unsettled = incidents()
    unsettled.strike(0, 99, 0, 9.0, "tools.search")
    root_cause.check_conservation(unsettled)
    with pytest.raises(ConservationError, match="1 strikes are open"):
        root_cause.check_conservation(unsettled, over=True)


def test_examples_must_agree_with_the_counts() -> None:
    """Where all strikes are kept as examples, a moved outcome is found without any other count."""
    run = incidents()
    assert run.injected(1) < EXAMPLES
    run.counts[1][RECOVERED], run.counts[1][FAILED] = 0, 1
    with pytest.raises(ConservationError, match="among its examples are 1 recovered"):
        root_cause.causes([run], [100])
    assert OUTCOMES[RECOVERED] == "recovered"


def test_paths_are_counted_with_those_first_that_failed_most() -> None:
    """Four ways that cost something, the worst first; `most` cuts the list."""
    rows = root_cause.paths([incidents(), incidents()])
    assert [(row.path, row.failed, row.delayed) for row in rows] == [
        ("search -> tools.search -> task", 10, 0),
        ("deadline", 2, 0),
        ("crash -> models.llm", 0, 2),
        ("crash -> models.llm -> backlog", 0, 2),
    ]
    assert rows[1].cause == "unknown"
    assert (rows[2].lost, rows[2].waited) == (4.0, 6.0)
    assert len(root_cause.paths([incidents()], most=2)) == 2


def test_a_cascade_is_in_order_and_tells_when_each_component_was_reached() -> None:
    """A crash at 10 s reaches the tools at 14 s; windows of goodput lie between, turns first at the same time."""
    run = Incidents()
    crash = run.cause("crash", "down", injected=True)
    run.turns += [
        Turn(14.0, "tools.search", crash, "backlog", True),
        Turn(10.0, "models.llm", crash, "down", True),
        Turn(20.0, "models.llm", crash, "down", False),
        Turn(31.0, "tools.search", crash, "backlog", False),
    ]
    found = root_cause.cascade(run, [10.0, 20.0, 30.0], [5.0, 1.0, 2.0])
    assert [(one.time, one.what, one.component) for one in found.moments] == [
        (10.0, "begins", "models.llm"),
        (10.0, "window", ""),
        (14.0, "begins", "tools.search"),
        (20.0, "ends", "models.llm"),
        (20.0, "window", ""),
        (30.0, "window", ""),
        (31.0, "ends", "tools.search"),
    ]
    assert [one.good for one in found.moments[:6]] == [5.0, 5.0, 1.0, 1.0, 1.0, 2.0]
    assert math.isnan(found.moments[6].good)
    assert [(one.component, one.kind, one.after) for one in found.reached] == [
        ("models.llm", "down", 0.0),
        ("tools.search", "backlog", 4.0),
    ]
    assert root_cause.cascade(Incidents()).moments == ()
    with pytest.raises(ValueError, match="times must rise"):
        root_cause.cascade(run, [2.0, 1.0], [1.0, 1.0])


def test_three_layers_of_three_attempts_amplify_27_times() -> None:
    """Each layer's amplification is 3; the attempts per task of the lowest are 27."""
    runs = []
    for _ in range(3):
        run = Incidents()
        for layer, factor in (("top", 1), ("middle", 3), ("low", 9)):
            of = run.of(layer)
            of.calls, of.attempts, of.failed = 10 * factor, 30 * factor, 15 * factor
            of.wasted = 2.0 * factor
        runs.append(run)
    service = [{"top": 8.0, "middle": 8.0, "low": 36.0}] * 3
    rows = {row.component: row for row in root_cause.calls(runs, [10] * 3, service)}
    assert [rows[one].amplification.value for one in ("top", "middle", "low")] == pytest.approx([3.0, 3.0, 3.0])
    assert [rows[one].per_task.value for one in ("top", "middle", "low")] == pytest.approx([3.0, 9.0, 27.0])
    assert [rows[one].wasted.value for one in ("top", "middle", "low")] == pytest.approx([0.25, 0.75, 0.5])
    assert rows["low"].totals.attempts == 810
    assert rows["low"].failed.value == pytest.approx(0.5)
    assert math.isnan(root_cause.calls(runs, [10] * 3)[0].wasted.value)
    with pytest.raises(ConservationError, match="more service was wasted"):
        root_cause.calls(runs, [10] * 3, [{"top": 1.0}] * 3)


def test_a_table_needs_a_number_for_each_replication() -> None:
    """Two replications and one count of arrivals are refused, as is none."""
    for runs, arrived in (([incidents(), incidents()], [100]), ([], [])):
        with pytest.raises(ValueError, match="replication"):
            root_cause.causes(runs, arrived)


# -- what breaks first


def near(value: float, half: float = 0.01) -> Estimate:
    """Return an estimate with this half-width."""
    return Estimate(value, value - half, value + half, 0.95, 10, "t")


def level(x: float, p95: float, success: float = 0.999, half: float = 0.01, **busy: float) -> Level:
    """Return a level with a p95 (s) to keep below 10 s, a success to keep above 99 %, and utilizations."""
    wanted = [(Objective("p95", 10.0, "<="), near(p95)), (Objective("success", 0.99, ">="), near(success, 1e-4))]
    judged = tuple(Judged(one.metric, one.threshold, one.sense, e, verdict(e, one)) for one, e in wanted)
    return Level(x, judged, {name: {"utilization": near(value, half)} for name, value in busy.items()})


def test_what_breaks_first_is_between_the_last_that_holds_and_the_first_that_fails() -> None:
    """The model is full between 1.2 and 1.4, the tool later; p95 fails by 1.4, success by 1.6."""
    sweep = [
        level(1.6, 30.0, 0.95, llm=0.999, tool=0.99),
        level(1.0, 5.0, llm=0.7, tool=0.5),
        level(1.4, 20.0, llm=0.98, tool=0.8),
        level(1.2, 8.0, llm=0.9, tool=0.7),
    ]
    found = first_to_break(sweep, knob="load")
    assert [(one.name, one.after, one.by) for one in found.objectives] == [("p95", 1.2, 1.4), ("success", 1.4, 1.6)]
    assert [one.name for one in found.components] == ["llm", "tool"]
    assert [one.name for one in found.first_components] == ["llm"]
    assert found.sentence == (
        "The first objective to break is p95, at a load between 1.2 and 1.4. "
        "The first component to break is llm (utilization), at a load between 1.2 and 1.4."
    )


def test_two_that_break_between_the_same_levels_are_not_put_in_order() -> None:
    """Both the model and the tool break between 1 and 2: the sweep does not tell which was first."""
    found = first_to_break([level(1, 5.0, llm=0.7, tool=0.5), level(2, 20.0, llm=0.99, tool=0.98)])
    assert {one.name for one in found.first_components} == {"llm", "tool"}
    assert "not resolved" in found.sentence


def test_an_inconclusive_level_widens_the_bracket() -> None:
    """An interval across the limit is neither: the bracket spans it, and another break inside it is not later."""
    wide = level(1.2, 5.0, half=0.05, llm=0.93, tool=0.7)
    found = first_to_break([level(1, 5.0, llm=0.7, tool=0.5), wide, level(1.4, 5.0, llm=0.99, tool=0.99)])
    llm = next(one for one in found.components if one.name == "llm")
    assert (llm.after, llm.by) == (1.0, 1.4)
    assert found.objectives == ()
    assert "No objective surely breaks up to level 1.4." in found.sentence


def test_a_break_at_the_first_level_has_no_lower_end_and_a_return_is_told() -> None:
    """Full at the lowest level already: at 1 or below; that it holds again at 3 is kept."""
    found = first_to_break([level(1, 5.0, llm=0.99), level(2, 5.0, llm=0.99), level(3, 5.0, llm=0.5)])
    one = found.first_components[0]
    assert (one.after, one.back, one.bracket({1.0: "1 %"})) == (-math.inf, 3.0, "of 1 % or below")


def test_a_sweep_needs_two_levels() -> None:
    """One level, or two of one x, say nothing about where something breaks."""
    for levels in ([level(1, 5.0)], [level(1, 5.0), level(1, 6.0)]):
        with pytest.raises(ValueError, match="at least two levels"):
            first_to_break(levels)
