"""The scenario that is written of a fit: valid whatever was measured, commented, with the measured means, and open to what-ifs."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.calibration.traces.estimate import estimate
from coordsim.calibration.traces.fitted import Fitted, Number, Table, Values
from coordsim.calibration.traces.naming import name_of, unique
from coordsim.calibration.traces.parts import METRICS, figures, metrics, of_result
from coordsim.calibration.traces.scenario import scenario_of, scenario_text
from coordsim.calibration.traces.scenario_flow import names_of
from coordsim.calibration.traces.scenario_head import NOT_IDENTIFIED
from coordsim.calibration.traces.turns import courses
from coordsim.calibration.traces.written import binned, quantiles
from coordsim.calibration.traces.yaml_lines import Entry, Flow, lines
from coordsim.models import trace_export
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.result import CLASS, TASK, Result
from coordsim.sim.engine.distributions import CountDist, DurationDist
from coordsim.sim.engine.source import Document
from coordsim.sim.engine.units import DURATION
from coordsim.sim.trace.measured import Call, TaskTrace
from coordsim.sim.trace.observation import Kind
from coordsim.sim.trace.read import read

from .test_trace_fit import agent_runs

NAN = math.nan


def _call(
    kind: Kind, component: str, start: float, seconds: float, turn: int, agent: str = "coder", **more: Any
) -> Call:
    return Call(kind, component, agent, start, start + seconds, turn, turn, critical=seconds, **more)


def _task(number: int, calls: list[Call], name: str = "fix", failure: str = "") -> TaskTrace:
    end = max((one.end for one in calls), default=0.0)
    return TaskTrace(number, f"t{number}", "", name, 0.0, end, failure, True, tuple(calls))


def _loop(rng: np.random.Generator, number: int, turns: int, tool: str = "bash", agent: str = "coder") -> TaskTrace:
    calls, at, sent = [], 0.0, 0.0
    for turn in range(turns):
        new, output = float(rng.integers(200, 2000)), float(rng.integers(20, 400))
        seconds = (0.4 + 2e-5 * sent + 2e-4 * new + 0.01 * output) * float(rng.lognormal(0.0, 0.1))
        calls.append(_call("llm", "m-1", at, seconds, turn, new=new, cached=sent, output=output, agent=agent))
        at, sent = at + seconds, sent + new
        if turn < turns - 1:
            took = float(rng.lognormal(0.0, 1.0))
            calls.append(
                _call(
                    "tool",
                    tool,
                    at,
                    took,
                    turn,
                    output_bytes=400.0,
                    error="X" if rng.random() < 0.1 else "",
                    agent=agent,
                )
            )
            at += took
    return _task(number, calls)


def _many(turns: int = 6, tasks: int = 40) -> list[TaskTrace]:
    rng = np.random.default_rng(4)
    return [_loop(rng, number, 1 + int(rng.integers(0, turns))) for number in range(tasks)]


def _two_agents() -> list[TaskTrace]:
    found = []
    for number in range(6):
        calls = [
            _call("llm", "m-1", 0.0, 1.0, 0, agent="plan", new=100.0, cached=0.0, output=10.0),
            _call("llm", "m-2", 1.0, 2.0, 1, agent="do: it!", new=50.0, cached=100.0, output=20.0),
            _call("tool", "search the web", 3.0, 0.5, 1, agent="do: it!"),
            _call("llm", "m-1", 3.5, 1.0 + number, 2, agent="plan", new=60.0, cached=150.0, output=10.0),
        ]
        found.append(_task(number, calls))
    return found


def _retried() -> list[TaskTrace]:
    found = []
    for number in range(8):
        calls = [
            _call("llm", "m", 0.0, 0.2, 0, error="RateLimit", retried=True),
            _call("llm", "m", 1.2, 2.0, 0, new=10.0, cached=0.0, output=5.0),
        ]
        found.append(_task(number, calls if number % 2 else [replace(calls[1], start=0.0, end=2.0)]))
    return found


DEGENERATE = {
    "one call": [_task(0, [_call("llm", "m", 0.0, 1.0, 0)])],
    "no time": [_task(i, [_call("llm", "m", 0.0, 0.0, 0), _call("tool", "t", 0.0, 0.0, 0)]) for i in range(4)],
    "no model": [_task(i, [_call("tool", "t", 0.0, 1.0 + i, 0)], name="") for i in range(4)],
    "no tool": [_task(i, [_call("llm", "m", 0.0, 1.0 + i, 0, new=5.0, cached=0.0, output=1.0)]) for i in range(4)],
    "odd names": [_task(i, [_call("llm", "a/b:c d", 0, 1, 0, agent="°"), _call("tool", "é: {x}", 1, 1, 0, agent="°")], "1 # x: y") for i in range(4)],
    "keywords": [_task(i, [_call("llm", "done", 0, 1, 0, agent="end"), _call("tool", "none", 1, 1, 0, agent="end"), _call("tool", "start", 2, 1, 0, agent="end"), _call("tool", "end", 3, 1, 0, agent="end"), _call("llm", "done", 4, 1, 1, agent="end")], "true") for i in range(6)],
    "many tools": [_task(i, [_call("llm", "m", 0, 1, 0), *(_call("tool", f"t.{k}", 1 + k, 1, 0) for k in range(60))]) for i in range(3)],
    "a week": [_task(i, [_call("llm", "m", 0, 1e-9, 0), _call("tool", "t", 1e-9, 6e5 * (i + 1), 0), _call("llm", "m", 2e6, 1e-6, 1)]) for i in range(5)],
    "two agents": _two_agents(),
    "retried": _retried(),
    "loop": _many(),
}  # fmt: skip


def fitted_to(tasks: list[TaskTrace], intervals: bool = True) -> Fitted:
    """Return a fit."""
    return estimate(tasks, arrivals=False, intervals=intervals)


@pytest.mark.parametrize("tasks", DEGENERATE.values(), ids=DEGENERATE)
def test_is_valid_whatever_was_measured(tasks: list[TaskTrace]) -> None:
    """It is valid, runs to the end, has no doubts, and no line that is too long."""
    text = scenario_text(fitted_to(tasks), name="runs of today", files=["a.json"], run="fit.yaml")
    scenario = Scenario.from_text(text)
    assert scenario.doubts() == []
    result = simulate(scenario.replace("workload.tasks", 30))
    assert result.done.sum() == 30
    assert all(len(line) <= 120 for line in text.splitlines())


def test_same_fit_gives_same_text() -> None:
    """Two fits of the same tasks are written by the same bytes."""
    one, other = (scenario_text(fitted_to(_many()), name="x", files=["a"]) for _ in range(2))
    assert one == other


def test_every_number_has_its_sample_and_interval() -> None:
    """What was estimated says in the same line, or in that above it, of how many it is, and its interval."""
    text = scenario_text(fitted_to(_many()), name="x", files=["a.json", "b.json"])
    found = text.splitlines()
    for name in ("overhead", "new", "cached", "output", "residual", "latency", "repeat", "request", "calls"):
        places = [place for place, line in enumerate(found) if re.match(rf" +{name}:", line)]
        assert places, name
        for place in places:
            said = found[place] + (found[place - 1] if found[place - 1].lstrip().startswith("#") else "")
            assert re.search(r"n = [\d,]+", said), said
            assert "95 %" in said or "no interval" in said, said
    assert f"# {NOT_IDENTIFIED}" in found
    assert "a.json, b.json" in text
    assert "40 tasks" in text


def test_means_are_those_measured() -> None:
    """The mean of a tool, of turns and of a model's call are those of the tasks."""
    tasks = _many(tasks=60)
    fit = fitted_to(tasks)
    scenario = scenario_of(fit)
    seconds = [call.seconds for task in tasks for call in task.calls if call.kind == "tool"]
    (tool,) = scenario.tools.values()
    assert tool.latency.mean == pytest.approx(np.mean(seconds), rel=2e-3)
    result = simulate(scenario.replace("workload.tasks", 2000))
    calls = [sum(call.kind == "llm" for call in task.calls) for task in tasks]
    assert result.fact("llm_calls").mean() == pytest.approx(np.mean(calls), rel=0.05)
    assert result.response_times.mean() == pytest.approx(np.mean([task.end for task in tasks]), rel=0.08)


def test_answers_what_ifs() -> None:
    """A model twice as fast takes half of the time of its calls; a tool, half of its; and without growth there is less context."""
    scenario = scenario_of(fitted_to(_many()), tasks=300)
    (tool,) = scenario.tools

    def by_category(one: Scenario) -> dict[str, float]:
        result = simulate(one)
        found = dict.fromkeys(("inference", "context", "tool"), 0.0)
        for number, account in enumerate(result.accounts):
            if account.category in found:
                found[account.category] += float(result.account(number).mean())
        return found

    plain = by_category(scenario)
    faster = by_category(scenario.replace("models.llm.speed", 2))
    assert faster["inference"] == pytest.approx(plain["inference"] / 2)
    assert faster["tool"] == pytest.approx(plain["tool"])
    tools = by_category(scenario.replace(f"tools.{tool}.speed", 4))
    assert tools["tool"] == pytest.approx(plain["tool"] / 4)
    alone = by_category(scenario.replace("context.grows", False))
    assert plain["context"] > 0
    assert alone["context"] == 0


def test_class_of_its_own_for_each_kind_of_task() -> None:
    """Tasks of two names become two classes, each as often as it was seen."""
    tasks = [replace(one, task_class="fix" if i % 4 else "write") for i, one in enumerate(_many())]
    fit = fitted_to(tasks)
    scenario = scenario_of(fit)
    assert set(scenario.classes) == {"fix", "write"}
    assert scenario.classes["fix"].weight == pytest.approx(75)
    assert set(names_of(fit).classes.values()) == set(scenario.classes)


def test_tables_keep_their_mean() -> None:
    """A table of few levels that are joined in the log has the mean of the one joined evenly."""
    rng = np.random.default_rng(2)
    for _ in range(30):
        levels = np.concatenate([[0.0], np.sort(rng.uniform(0.01, 0.99, 12)), [1.0]])
        values = np.sort(rng.lognormal(0.0, 2.0, 14))
        mean = float(np.sum(np.diff(levels) * (values[1:] + values[:-1]) / 2))
        table = Table(tuple(levels), tuple(values), Number(mean, None, None, 14, "s", ""))
        written = _read(quantiles(table, DURATION))
        assert DurationDist.model_validate(written).mean == pytest.approx(mean, rel=2e-3)
        assert len(written["empirical"]["quantiles"]) <= 16


def test_counts_keep_their_mean() -> None:
    """Whole numbers that are brought together keep their mean, and become few."""
    counts = tuple(range(1, 400))
    weights = tuple(int(1 + 100 * math.exp(-value / 60)) for value in counts)
    mean = float(np.average(counts, weights=weights))
    written = CountDist.model_validate(_read(binned(Values(counts, weights, Number(mean, None, None, 1, "", "")))))
    assert written.mean == pytest.approx(mean, rel=2e-3)
    assert len(_read(binned(Values(counts, weights, Number(mean, None, None, 1, "", ""))))["empirical"]["values"]) <= 40


def _read(flow: Flow) -> Any:
    return Document.from_text("\n".join(lines([Entry("it", flow)]))).data["it"]


def test_names_are_legal_and_different() -> None:
    """Texts become names without dots, all different, however alike they are."""
    used: set[str] = set()
    found = [unique(name_of(text, "tool"), used) for text in ("a.b", "a b", "A-b", "", "1", "°", "end")]
    assert found == ["a-b", "a-b-2", "A-b-3", "tool", "tool-1", "tool-2", "tool-end"]
    assert name_of("x" * 500, "tool") == "x" * 60


def test_long_values_are_folded_so_that_yaml_reads_them() -> None:
    """A long flow collection in several lines is the same value."""
    value = {"empirical": {"values": [str(number) for number in range(200)]}}
    text = "\n".join(lines([Entry("it", value, "so many"), Entry("items", items=({"of": value}, {"of": "1"}))]))
    assert all(len(line) <= 120 for line in text.splitlines())
    data = Document.from_text(text).data
    assert data["it"]["empirical"]["values"] == list(range(200))
    assert data["items"][0]["of"] == data["it"]


@pytest.mark.slow
def test_round_trip_through_a_trace(tmp_path: Path) -> None:
    """A scenario that is simulated, exported, read as a trace, fitted and simulated again, gives the same times and shares.

    A simulated run does not tell which call failed, so errors are left out.
    """
    first = scenario_of(fitted_to(_many(turns=8), intervals=False), tasks=400, seed=1)
    result = simulate(first, spans="all")
    trace_export.export(trace_export.of_result(result), "otlp", tmp_path / "run.json")
    traced = read([tmp_path / "run.json"])
    assert metrics(figures(traced.tasks))[:-1] == pytest.approx(metrics(of_result(result))[:-1], rel=1e-6, abs=1e-6)
    fit = estimate(traced.tasks, arrivals=traced.arrivals, intervals=False)
    again = metrics(of_result(simulate(scenario_of(fit, tasks=3000))))
    truth = metrics(of_result(simulate(first.replace("workload.tasks", 3000))))
    for name, was, found in zip(METRICS[:-1], truth[:-1], again[:-1], strict=True):
        # 400 tasks tell a quantile of T_total to about 10 %, a share to about 3 points.
        near = pytest.approx(was, abs=0.03) if name.endswith("share") else pytest.approx(was, rel=0.15)
        assert found == near, name


def test_measured_runs_make_a_short_scenario() -> None:
    """The scenario of measured runs of coding agents can be read: some hundred lines, none too long, no name of a class in a shared tool."""
    text = scenario_text(fitted_to(agent_runs(), intervals=False), name="runs", files=["runs.csv"])
    assert len(text.splitlines()) < 480
    assert max(map(len, text.splitlines())) <= 130
    scenario = Scenario.from_text(text)
    assert {"TodoWrite", "Edit", "Bash-test-GLM-4-7"} < set(scenario.tools)
    assert len(scenario.tools) < 32
    assert set(scenario.models) == {"GLM-4-7-Flash-GGUF", "claude-3-5-haiku-20241022", "claude-haiku-4-5-20251001"}


def test_contexts_grow_as_they_did() -> None:
    """Mean prompts of a class at turns 10, 30 and 50 are within 10 % of those measured, or in their 95 % interval over tasks."""
    runs = agent_runs()
    fit = fitted_to(runs, intervals=False)
    names = names_of(fit).classes
    measured: dict[str, list[list[float]]] = defaultdict(list)
    for one in courses(runs):
        prompts = [turn.model.new + np.nan_to_num(turn.model.cached) for turn in one.turns if turn.model is not None]
        measured[names[one.model]].append(prompts)
    scenario = scenario_of(fit, tasks=300)
    simulated = _prompts(simulate(scenario, 1, 0, "all"), list(scenario.classes or ()))
    checked = 0
    for name, own in measured.items():
        for turn in (10, 30, 50):
            real = np.array([one[turn - 1] for one in own if len(one) >= turn])
            if len(real) < 10:
                continue
            told = np.mean([one[turn - 1] for one in simulated[name] if len(one) >= turn])
            reach = max(0.1 * real.mean(), 2.2 * real.std(ddof=1) / math.sqrt(len(real)))
            assert abs(told - real.mean()) <= reach, (name, turn, told, real.mean())
            checked += 1
    assert checked >= 6


def _prompts(result: Result, classes: list[str]) -> dict[str, list[list[float]]]:
    """Return the prompts (tokens) of each task, in order, by class."""
    output = {(one.task, one.id): one.size for one in result.spans if one.name == "chat"}
    again = {(one.task, one.parent): one.size for one in result.spans if one.name == "carried tokens"}
    rows = {int(row[TASK]): row for row in result.rows}
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in result.spans:
        if one.name == "inference":
            key = one.task, one.parent
            found[one.task].append((one.start, one.size - output[key] + again.get(key, 0.0)))
    out: dict[str, list[list[float]]] = defaultdict(list)
    for task, calls in found.items():
        out[classes[int(rows[task][CLASS])]].append([tokens for _, tokens in sorted(calls)])
    return out


def test_a_turn_takes_as_long_beyond_its_calls_as_all_turns_did() -> None:
    """`dispatch` is the mean over all turns, also where one agent comes several times in a task and another once."""
    helped = [_call("llm", "m", float(5 * at), 1.0, at, "helper" if at % 2 else "coder") for at in range(7)]
    fit = fitted_to([_task(number, helped[: 7 if number % 2 else 1]) for number in range(20)], intervals=False)
    text = scenario_text(fit, name="x", files=["x"])
    assert "a turn beyond its calls: mean 3 s" in text  # 6 gaps of 4 s in 8 turns
