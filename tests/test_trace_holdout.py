"""A fit held against tasks that it has not seen: groups stay together, numbers are those of the parts, and intervals cover the truth."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from coordsim.calibration.traces import holdout as holdouts
from coordsim.calibration.traces.estimate import estimate
from coordsim.calibration.traces.holdout import holdout
from coordsim.calibration.traces.naive import alike, naive
from coordsim.calibration.traces.parts import METRICS, figures, groups_of, metrics, of_result, split
from coordsim.calibration.traces.scenario import scenario_of
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.holdout import HeldOut, HoldoutResult
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.report.holdout_tables import answer_of, report, to_csv, to_json
from coordsim.sim.report.layout import markdown
from coordsim.sim.trace.measured import Call, Measured, TaskTrace
from coordsim.sim.trace.tally import TraceError

from .measured import measured
from .traces_made import call, task


def _estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 0.95, 20, "t")


def _row(
    name: str, predicted: float, real: float, band: float = math.nan, reach: float = 0.1, unit: str = "s"
) -> HeldOut:
    ends = (predicted * (1 - reach), predicted * (1 + reach))
    return HeldOut(name, unit, _estimate(predicted, *ends), _estimate(real, real, real), predicted, real, band)


def _result(*rows: HeldOut) -> HoldoutResult:
    return HoldoutResult("runs", 0.5, 0, 20, 20, (20, 20), 8, 0.95, rows)


def _with_problems(count: int, each: int) -> Measured:
    """Return traces of attempts at so many problems, `each` of them in a session with one of the next problem."""
    found = measured(count * each)
    tasks = [replace(one, problem=f"p{one.task // each}") for one in found.tasks]
    return replace(found, tasks=tuple(tasks))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_split_keeps_groups_together(seed: int, share: float) -> None:
    """All attempts at a problem are in one part; both have tasks, about as many as were asked for, and each task is in one."""
    groups = groups_of(_with_problems(15, 3).tasks)
    assert Counter(map(len, groups)) == {3: 15}
    train, test = split(groups, share, seed)
    assert sorted([*train, *test]) == list(range(15))
    assert train
    assert test
    assert sum(len(groups[i]) for i in test) == pytest.approx(share * 45, abs=1.6)
    assert split(groups, share, seed) == (train, test)


def test_split_differs_by_seed() -> None:
    """Other seeds draw other parts."""
    groups = [[i] for i in range(30)]
    assert len({tuple(split(groups, 0.5, seed)[1]) for seed in range(20)}) == 20


def test_sessions_and_problems_join_tasks() -> None:
    """Tasks that are joined by a session or a problem, also over a third one, are one group."""
    one = measured(5).tasks
    marks = [("p1", ""), ("", "s1"), ("p1", "s1"), ("p2", ""), ("", "")]
    tasks = [replace(task, problem=p, session=s) for task, (p, s) in zip(one, marks, strict=True)]
    assert groups_of(tasks) == [[0, 1, 2], [3], [4]]


def _hand_made() -> list[TaskTrace]:
    def call(kind: str, start: float, end: float, **more: object) -> Call:
        return Call(kind, "x", "a", start, end, 0, 0, critical=end - start, **more)  # type: ignore[arg-type]

    first = (call("llm", 0, 2), call("tool", 2, 5, error="E"), call("llm", 5, 6))
    second = (call("llm", 0, 1, error="E", retried=True), call("llm", 2, 4))
    return [
        TaskTrace(i, str(i), "", "t", 0.0, end, "", True, calls)
        for i, (end, calls) in enumerate(((6.0, first), (5.0, second)))
    ]


def test_figures_of_tasks_made_by_hand() -> None:
    """Time of models and tools is critical time; an attempt that was made again is neither time nor call."""
    rows = figures(_hand_made())
    assert rows.tolist() == [[6, 3, 3, 2, 2, 1, 1], [5, 2, 0, 1, 1, 0, 0]]
    found = dict(zip(METRICS, metrics(rows), strict=True))
    assert found["mean"] == 5.5
    assert found["model_share"] == pytest.approx(5 / 11)
    assert found["tool_share"] == pytest.approx(3 / 11)
    assert found["other_share"] == pytest.approx(3 / 11)
    assert found["error_rate"] == 1


def _small(monkeypatch: pytest.MonkeyPatch, tasks: int) -> None:
    """Let the point prediction rest on so many simulated tasks: it is what takes most of the time."""
    monkeypatch.setattr(holdouts, "_EACH", tasks)
    monkeypatch.setattr(holdouts, "_MOST_RUNS", 1)


def test_result_is_of_the_parts_and_of_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is of the tasks held out, the floor of the others; and two workers say what one says."""
    _small(monkeypatch, 200)
    traced = _with_problems(12, 2)
    found = holdout(traced, 0.4, seed=3, refits=3)
    groups = groups_of(traced.tasks)
    train, test = split(groups, 0.4, 3)
    parts = [metrics(figures([traced.tasks[i] for n in part for i in groups[n]])) for part in (train, test)]
    for number, name in enumerate(METRICS):
        one = found.row(name)
        assert one.floor == pytest.approx(parts[0][number], nan_ok=True)
        assert one.measured.value == pytest.approx(parts[1][number], nan_ok=True)
        assert one.predicted.low <= one.predicted.value <= one.predicted.high
    assert (found.trained, found.tested) == (2 * len(train), 2 * len(test))
    assert holdout(traced, 0.4, seed=3, refits=3, workers=2) == found


def _steps(*steps: tuple[str, str, float, str], agents: str = "") -> list[Call]:
    """Return calls one after the other: of (kind, name, seconds, what became of it: '', 'again', or 'beside' the one before)."""
    found: list[Call] = []
    at = 0.0
    for place, (kind, name, seconds, what) in enumerate(steps):
        agent = agents[place] if agents else "agent"
        start = found[-1].start if what == "beside" else at
        again = what == "again"
        one = call(
            kind, name, start, seconds, place, place, error="429" if again else "", retried=again, critical=seconds
        )
        found.append(replace(one, agent=agent))
        at = max(at, one.end)
    return found


LLM, LOOKUP, TOOL = ("llm", "m", 1.0, ""), ("retriever", "kb", 0.5, ""), ("tool", "t", 2.0, "")
MADE = {
    "looks up before it thinks": [_steps(LOOKUP, *[LLM, TOOL] * (2 + n % 3), LLM) for n in range(30)],
    "no model": [_steps(*[TOOL] * (2 + n % 5)) for n in range(30)],
    "a model's attempts": [_steps(LLM, TOOL, ("llm", "m", 1.0, "again"), LLM) for _ in range(30)],
    "a tool's attempts": [_steps(LLM, ("tool", "t", 2.0, "again"), TOOL, LLM) for _ in range(30)],
    "several tools in the only turn": [_steps(LLM, TOOL, *[("tool", "t", 2.0, "beside")] * (1 + n % 3)) for n in range(30)],
    "agents in rounds": [_steps(*[LLM, LLM, TOOL] * (4 + n % 9), agents="abb" * (4 + n % 9)) for n in range(30)],
}  # fmt: skip


@pytest.mark.parametrize("calls", MADE.values(), ids=MADE)
def test_a_simulated_fit_is_counted_as_traces_are(calls: list[list[Call]]) -> None:
    """Turns, calls of models and tools, and T_total of the fit's tasks are those of the tasks it is fitted to."""
    simulated, seen = _both(calls)
    for name in ("mean", "turns", "model_calls", "tool_calls"):
        assert simulated[name] == pytest.approx(seen[name], rel=0.1), name


def test_agents_go_round_as_often_as_they_did() -> None:
    """Tasks whose agents alternate end after as many rounds as were seen, and not with one chance each: their p90 stays."""
    simulated, seen = _both(MADE["agents in rounds"])
    assert simulated["p90"] == pytest.approx(seen["p90"], rel=0.1)


def _both(calls: list[list[Call]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the metrics of tasks that a fit simulates, and of those that it is fitted to."""
    tasks = [task(number, own) for number, own in enumerate(calls)]
    scenario = scenario_of(estimate(tasks, arrivals=False, intervals=False), tasks=400)
    simulated, seen = of_result(simulate(scenario, 0, 0, "all")), figures(tasks)
    return dict(zip(METRICS, metrics(simulated), strict=True)), dict(zip(METRICS, metrics(seen), strict=True))


def test_needs_two_groups_and_a_share() -> None:
    """Tasks of one problem cannot be split, and a share is between 0 and 1."""
    one = measured(4)
    same = replace(one, tasks=tuple(replace(task, problem="p") for task in one.tasks))
    with pytest.raises(TraceError, match="nothing can be held out"):
        holdout(same, 0.5)
    with pytest.raises(ValueError, match="`share` must be between 0 and 1"):
        holdout(one, 1.0)


def test_naive_fit_forgets_order_and_tails() -> None:
    """The naive fit chooses tools by how often they were called, ends turns by chance, and has one lognormal a tool."""
    tasks = measured(40).tasks
    fit = estimate(tasks, arrivals=True, intervals=False)
    plain = naive(fit)
    assert all(one.law is None for one in plain.models)
    for tool, single in zip(fit.tools, plain.tools, strict=True):
        wanted = tool.latency.lognormal.sigma**2 + tool.per_task.value
        assert single.latency.parts[0].sigma ** 2 == pytest.approx(wanted)
    for model, single_ in zip(fit.models, plain.models, strict=True):
        assert single_.seconds.mean.value == pytest.approx(model.seconds.mean.value, rel=0.1)
    one = estimate(alike(tasks), arrivals=True, intervals=False)
    assert (len(one.classes), len(one.models)) == (1, 1)
    assert all(len(one.latency.parts) == 1 and one.latency.most is None for one in plain.tools)
    assert all(not agent.choice.rows for one in plain.classes for agent in one.agents if agent.choice is not None)
    assert all(one.per_task.value == 0 for one in plain.tools)
    assert all(one.per_task.value == 0 for one in plain.models)
    for before, after in zip(fit.classes, plain.classes, strict=True):
        for agent, other in zip(before.agents, after.agents, strict=True):
            mean = np.average(other.turns.values, weights=other.turns.counts)
            assert mean == pytest.approx(agent.turns.mean.value, rel=0.02)
    scenario_of(plain)  # is valid


def test_rows_know_what_holds() -> None:
    """Errors are relative for times and counts, and differences for shares; a band holds at its end."""
    time = _row("p50", 120.0, 100.0, 0.2)
    assert time.error == pytest.approx(0.2)
    assert _row("p50", 119.0, 100.0, 0.2).holds
    assert not _row("p50", 121.0, 100.0, 0.2).holds
    share = _row("tool_share", 0.45, 0.40, 0.06, unit="share")
    assert share.error == pytest.approx(0.05)
    assert share.holds
    assert not _row("p50", 1.0, 0.0, 0.2).asked
    assert _row("p90", 100.0, 109.0).expected
    assert not _row("p90", 100.0, 111.0).expected


def test_answer_says_what_holds_and_why_not() -> None:
    """The first sentence tells what misses, and whether the interval holds it."""
    good = _row("p50", 100.0, 101.0, 0.2)
    assert answer_of(_result(good)).startswith("1 of 1 predictions are as close as is asked")
    wide = _row("p90", 150.0, 100.0, 0.35, reach=0.5)
    assert "inside of the 95 % interval" in answer_of(_result(good, wide))
    near = _row("tool_share", 0.46001, 0.40, 0.06, unit="share")
    assert "tools' share by a little over 6 points (6 points are asked) misses" in answer_of(_result(near))
    off = _row("p90", 150.0, 100.0, 0.35, reach=0.1)
    assert "chance alone hardly explains" in answer_of(_result(good, off))


def test_view_holds_all_numbers_and_no_nan() -> None:
    """JSON, CSV and the table hold every metric, and nothing that is no number."""
    found = _result(_row("mean", 10.0, 11.0), _row("error_rate", math.nan, 0.1, 0.03, unit="share"))
    data = json.loads(to_json(found))
    assert [one["metric"] for one in data["metrics"]] == ["mean", "error_rate"]
    assert data["metrics"][1]["predicted"]["value"] is None
    for text in (to_json(found), to_csv(found), markdown(report(found))):
        assert not {"nan", "inf", "None", "NaN"} & set(text.replace(",", " ").replace("|", " ").split())
    assert len(to_csv(found).splitlines()) == 1 + 2 * 6


@pytest.mark.slow
def test_prediction_intervals_cover_new_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all tasks come of one source, the intervals hold what was held out: 95 % of it, within chance; and they are no wider than needed."""
    _small(monkeypatch, 400)  # ten times as many as are predicted: chance in the point adds a tenth to the variance
    rows = []
    for seed in range(12):
        found = holdout(measured(80, seed=100 + seed), 0.5, seed=seed, refits=12)
        rows += [found.row(name) for name in ("mean", "p50", "p90", "model_calls", "tool_calls", "tool_share")]
    assert sum(one.expected for one in rows) / len(rows) >= 0.88  # metrics go together: of 12 splits one may miss
    reach = [(one.predicted.high - one.predicted.low) / 2 for one in rows]
    off = [(one.predicted.value - one.measured.value) / half for one, half in zip(rows, reach, strict=True)]
    assert math.sqrt(np.mean(np.square(off))) > 0.3  # of an interval just as wide as needed: 1 / 2.2
