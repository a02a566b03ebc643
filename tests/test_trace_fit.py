"""Fits of traces: known laws are found again, tails keep their means, and nothing odd in a trace stops the fit."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from coordsim.calibration.traces.choice import chain_of, joined
from coordsim.calibration.traces.effects import Outcomes, chain, error_fit
from coordsim.calibration.traces.estimate import estimate
from coordsim.calibration.traces.factors import factor_of
from coordsim.calibration.traces.fitted import Fitted, Mixture, Number, Part, ToolFit
from coordsim.calibration.traces.mixture import fit_mixture, mean_of
from coordsim.calibration.traces.pooled import Share, pooled
from coordsim.calibration.traces.tables import number, ratio, share, table
from coordsim.sim.trace.measured import Call, TaskTrace

from .scene import run
from .traces_made import Laws, call, made, of_result, task

RUNS = Path(__file__).parents[1].parent / "shared" / "data" / "agent_runs" / "agentcgroup_steps.csv.gz"
NAN = math.nan


def tool(fitted: Fitted, key: str) -> ToolFit:
    """Return a tool."""
    return fitted.tool(key)


def covered(found: Number | None, truth: float) -> bool | None:
    """Whether the interval holds the truth; None where there is no interval."""
    if found is None or found.low is None or found.high is None:
        return None
    return found.low <= truth <= found.high


def against(fitted: Fitted, laws: Laws) -> dict[str, bool | None]:
    """Return for each estimate whether its interval holds the truth."""
    one, model = fitted.classes[0], fitted.models[0]
    read, test = tool(fitted, "read"), tool(fitted, "test")
    assert model.law is not None
    odds = laws.after * (1 - laws.none) / (laws.none * (1 - laws.after))
    pairs: dict[str, tuple[Number | None, float]] = {
        "turns": (one.agents[0].turns.mean, laws.turns),
        **{name: (getattr(model.law, name), getattr(laws, name)) for name in ("overhead", "new", "cached", "output")},
        "residual": (model.law.residual.mean, math.exp(laws.residual**2 / 2)),
        "model's factor": (model.per_task, laws.model_factor),
        "tools' factor": (test.per_task, laws.tool_factor),
        "latency": (read.latency.mean, 0.05 * math.exp(0.125)),
        "heavy latency": (test.latency.mean, laws.test_seconds),
        "errors": (one.errors.rate, laws.error_rate),
        "odds": (one.errors.odds, odds),
        "after an error": (one.errors.after_error, laws.after),
        "after none": (one.errors.after_none, laws.none),
        "failures": (one.failures, laws.failing),
        "rate": (fitted.arrivals.rate, laws.rate),
        "cv": (fitted.arrivals.cv, 1.0),
    }
    return {name: covered(found, truth) for name, (found, truth) in pairs.items()}


def lower_limit(trials: int, probability: float = 0.95) -> int:
    """Return the least count that is in the 99.9 % limits of a binomial."""
    from scipy.stats import binom

    return int(binom.ppf(0.0005, trials, probability))


def test_known_laws_are_in_their_intervals() -> None:
    """Over four traces, 95 % intervals of all estimates hold the truth as often as a binomial count would have it."""
    found = [one for seed in range(4) for one in against(estimate(made(seed), arrivals=True), Laws()).values()]
    assert found.count(None) <= 4
    assert found.count(True) >= lower_limit(len(found) - found.count(None))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Over 45 traces each interval holds the truth in a number of them that is within 99.9 % limits of 95 %."""
    found: dict[str, Counter[bool | None]] = {}
    for seed in range(100, 145):
        for name, one in against(estimate(made(seed), arrivals=True), Laws()).items():
            found.setdefault(name, Counter())[one] += 1
    low = {name: dict(seen) for name, seen in found.items() if seen[True] < lower_limit(seen[True] + seen[False])}
    assert low == {}
    assert min(seen[True] + seen[False] for seen in found.values()) >= 38


def test_luck_of_a_task_is_told_from_a_chain() -> None:
    """Where tasks differ in their rate of errors, and an error does not cause the next, the odds inside of tasks are near 1."""
    laws = Laws(luck=4.0, none=0.2, turns=25.0)
    within = pooled = 0.0
    for seed in range(6):
        errors = estimate(made(seed, 80, laws), arrivals=True, intervals=False).classes[0].errors
        assert errors.odds is not None
        assert errors.pooled is not None
        assert errors.concentration is not None
        within += math.log(errors.odds.value) / 6
        pooled += math.log(errors.pooled) / 6
        assert errors.concentration.low is not None
        assert errors.concentration.high is not None
        assert errors.concentration.low / 1.5 < 4.0 < errors.concentration.high * 1.5
    assert abs(within) < 0.15
    assert pooled > 0.4


def test_chance_makes_no_odds() -> None:
    """Without the correction for short sequences, independent errors would seem to avoid one another."""
    rng = np.random.default_rng(3)
    tasks = np.repeat(np.arange(3000), 6)
    errors = error_fit(Outcomes(rng.random(18000) < 0.2, tasks, ()))
    assert covered(errors.odds, 1.0)
    assert errors.concentration is None or errors.concentration.value > 30


def test_a_chain_has_the_rate_and_the_odds() -> None:
    """Its steady state errs as often as was asked, and its two probabilities have the ratio of odds."""
    for rate in (0.01, 0.2, 0.7):
        for odds in (0.5, 1.0, 3.0, 20.0):
            none, after = chain(rate, odds)
            assert none / (1 + none - after) == pytest.approx(rate, rel=1e-9)
            assert after * (1 - none) / (none * (1 - after)) == pytest.approx(odds, rel=1e-9)


SCENE: dict[str, Any] = {
    "workload": {"arrivals": {"deterministic": "1 / h"}, "tasks": 150, "request": "800 tokens"},
    "models": {
        "llm": {
            "kind": "api", "overhead": "400 ms", "new": "0.5 ms / token", "cached": "0.02 ms / token", "output": "8 ms / token",
            "cache_hit": 0.8, "residual": {"lognormal": {"mean": 1, "cv": 0.2}}, "per_task": {"lognormal": {"mean": 1, "cv": 0.2}},
        }
    },
    "agents": {"a": {"model": "llm", "prompt": "200 tokens", "output": {"lognormal": {"mean": "150 tokens", "cv": 0.8}}}},
    "tools": {
        "quick": {"latency": {"lognormal": {"mean": "0.1 s", "cv": 0.5}}, "response": "300 B", "result": "80 tokens"},
        "slow": {
            "latency": {
                "mixture": [
                    {"weight": 4, "of": {"lognormal": {"mean": "1 s", "cv": 0.4}}},
                    {"weight": 1, "of": {"lognormal": {"mean": "40 s", "cv": 0.6}}},
                ]
            },
            "response": "300 B", "result": "500 tokens",
        },
    },
    "workflow": {
        "start": "w",
        "steps": {
            "w": {
                "agent": "a", "repeat": {"uniform": {"low": 4, "high": 12}}, "calls": 1,
                "tools": {"markov": {"start": {"quick": 1}, "quick": {"quick": 3, "slow": 1}, "slow": {"quick": 1, "slow": 1}}},
            }
        },
    },
}  # fmt: skip


def test_a_simulated_scenario_is_found_again() -> None:
    """What coordsim's own run was made from comes out of its spans: turns, law, cache, tokens, tools, choices."""
    fitted = estimate(of_result(run(SCENE, seed=5), 0.8), arrivals=True)
    one, model = fitted.classes[0], fitted.models[0]
    agent = one.agents[0]
    assert model.law is not None
    assert model.cache_hit is not None
    assert agent.choice is not None
    assert agent.context.start is not None
    assert agent.context.output is not None
    slow, quick = tool(fitted, "slow"), tool(fitted, "quick")
    assert slow.result is not None
    assert quick.result is not None
    found = {
        "turns": covered(agent.turns.mean, 8.0),
        "overhead": covered(model.law.overhead, 0.4),
        "new": covered(model.law.new, 5e-4),
        "cached": covered(model.law.cached, 2e-5),
        "output": covered(model.law.output, 8e-3),
        "factor": covered(model.per_task, math.log1p(0.04)),
        "slow": covered(slow.latency.mean, 0.8 * 1 + 0.2 * 40),
        "quick": covered(quick.latency.mean, 0.1),
        "output tokens": covered(agent.context.output.mean, 150.0),
    }
    assert list(found.values()).count(False) <= 1, found
    assert model.cache_hit.value == pytest.approx(0.8, abs=0.01)
    assert agent.context.start.mean.value == pytest.approx(1000.0)
    # A growth is a whole turn's: rounding of tokens is all that may differ.
    assert slow.result.mean.value == pytest.approx(500.0, abs=1.0)
    assert quick.result.mean.value == pytest.approx(80.0, abs=1.0)
    rows = {key: (dict(row), n) for key, row, n in agent.choice.rows}
    for last, share_ in (("quick", 0.25), ("slow", 0.5)):
        row, n = rows[last]
        assert abs(row["slow"] - share_) < 4 * math.sqrt(share_ * (1 - share_) / n) + 1 / n
    assert dict(agent.choice.start)["quick"] > 0.99
    assert one.seconds.mean.value == pytest.approx(
        float(np.mean([t.end - t.arrival for t in of_result(run(SCENE, seed=5), 0.8)]))
    )
    assert agent.gap.mean.value < 1e-3


# --- Latencies ---------------------------------------------------------------------------------------------------------


def sample(name: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """Return latencies (s) of a kind."""
    of: dict[str, Any] = {
        "lognormal": lambda: rng.lognormal(0.0, 1.0, n),
        "two": lambda: np.where(rng.random(n) < 0.7, rng.lognormal(-3, 0.3, n), rng.lognormal(2, 1, n)),
        "pareto": lambda: 0.1 * (1 + rng.pareto(1.3, n)),
        "seconds": lambda: np.rint(rng.lognormal(0.5, 1.0, n)),
        "zeros": lambda: np.where(rng.random(n) < 0.4, 0.0, rng.lognormal(0, 1, n)),
        "timeout": lambda: np.minimum(rng.lognormal(3.0, 1.5, n), 120.0),
        "bimodal": lambda: np.where(rng.random(n) < 0.3, rng.uniform(6.5, 9.0, n), rng.lognormal(-1, 1, n)),
    }
    return np.asarray(of[name](), dtype=float)


def _below(one: Part, seconds: np.ndarray) -> np.ndarray:
    """Return the share of a part that is shorter."""
    if one.kind == "constant":
        return np.where(seconds >= one.median, 1.0, 0.0)
    over = np.log(np.maximum(seconds, 1e-12) / one.median)
    return np.asarray(-np.expm1(-one.sigma * np.maximum(over, 0.0)) if one.kind == "pareto" else ndtr(over / one.sigma))


def _quantiles(mixture: Mixture, levels: np.ndarray) -> np.ndarray:
    """Return quantiles (s) of a mixture that is cut off."""
    assert mixture.most is not None
    seconds = np.concatenate([[0.0], np.geomspace(1e-9, mixture.most, 20_000)])
    below = np.sum([one.weight * _below(one, seconds) for one in mixture.parts], axis=0)
    return seconds[np.searchsorted(below / below[-1], levels)]


@pytest.mark.parametrize("name", ["lognormal", "two", "pareto", "seconds", "zeros", "timeout", "bimodal"])
def test_mixtures_keep_the_mean_and_the_quantiles(name: str) -> None:
    """The mean is the measured one, quantiles are near those measured on the scale of probabilities, nothing is beyond the longest."""
    for n in (40, 600, 5000):
        seconds = sample(name, np.random.default_rng(n), n)
        mixture = fit_mixture(seconds, number(seconds.mean(), n, "s", "mean"))
        assert mean_of(mixture.parts, mixture.most) == pytest.approx(seconds.mean(), rel=1e-6)
        assert mixture.most is not None
        assert mixture.most <= seconds.max() * 1.5
        assert math.fsum(one.weight for one in mixture.parts) == pytest.approx(1.0)
        levels = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
        found = _quantiles(mixture, levels)
        below = np.searchsorted(np.sort(seconds), found * 0.75, "left") / n
        to = np.searchsorted(np.sort(seconds), found * 1.33, "right") / n
        slack = 0.03 + 2.0 / math.sqrt(n)
        assert (below - slack <= levels).all(), (n, found)
        assert (levels <= to + slack).all(), (n, found)


def test_a_tail_is_told_from_a_body() -> None:
    """Few calls that take long are a part of their own; one lognormal of all logs has a median where there is nothing."""
    seconds = sample("two", np.random.default_rng(1), 2000)
    mixture = fit_mixture(seconds, number(seconds.mean(), 2000, "s", "mean"))
    assert len(mixture.parts) == 2
    assert mixture.parts[1].weight == pytest.approx(0.3, abs=0.03)
    assert mixture.parts[1].median == pytest.approx(math.exp(2), rel=0.2)
    assert mixture.lognormal.median > 2 * np.median(seconds)


def test_a_power_law_has_a_tail_of_its_own() -> None:
    """Times that fall with a power get a Pareto part of about that power; lognormal ones do not."""
    for name, tail in (("pareto", True), ("lognormal", False), ("timeout", False)):
        seconds = sample(name, np.random.default_rng(2), 4000)
        parts = fit_mixture(seconds, number(seconds.mean(), 4000, "s", "mean")).parts
        powers = [one.sigma for one in parts if one.kind == "pareto"]
        assert bool(powers) == tail
        assert not tail or abs(powers[0] - 1.3) < 0.25


def test_times_that_do_not_vary() -> None:
    """One time only, or none at all, is a constant."""
    assert fit_mixture(np.array([2.0, 2.0]), number(2.0, 2, "s", "")).parts == (Part("constant", 1.0, 2.0, 0.0),)
    nothing = fit_mixture(np.zeros(3), number(0.0, 3, "s", ""))
    assert nothing.parts == (Part("constant", 1.0, 0.0, 0.0),)
    assert nothing.most is None


# --- Numbers and choices -----------------------------------------------------------------------------------------------


def test_tables_have_the_mean_they_are_given() -> None:
    """The line through the quantiles has the measured mean, weighted or not."""
    numbers = np.random.default_rng(1).lognormal(0, 2, 500)
    for weights in (None, numbers):
        one = table(numbers, number(7.0, 500, "s", ""), weights)
        assert np.trapezoid(one.values, one.levels) == pytest.approx(7.0)
        assert list(one.values) == sorted(one.values)
        assert one.levels[0] == 0
        assert one.levels[-1] == 1


def test_alike_calls_make_wide_intervals() -> None:
    """Calls that are alike inside of a task count once: ten times the same calls make no interval narrower."""
    hits, of = np.array([1.0, 0, 3, 2, 0, 1]), np.array([4.0, 5, 6, 4, 5, 4])
    one, ten = share(hits, of, ""), share(10 * hits, 10 * of, "")
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high), rel=0.35)
    alone, many = ratio(hits, of, "s", ""), ratio(10 * hits, 10 * of, "s", "")
    assert (alone.low, alone.high) == pytest.approx((many.low, many.high))
    assert share(np.zeros(9), np.ones(9), "").high == pytest.approx(0.299, abs=0.01)  # Wilson: z^2 / (n + z^2)


def test_rows_of_few_calls_lean_on_the_others() -> None:
    """A row is its counts and one call spread as all are; each tool may follow each."""
    found = chain_of([["a", "a", "b"], ["a", "b"], []])
    assert found is not None
    rows = {key: dict(row) for key, row, _ in found.rows}
    assert rows["a"] == pytest.approx({"a": (1 + 0.6) / 4, "b": (2 + 0.4) / 4})
    assert rows["b"] == pytest.approx({"a": 0.6, "b": 0.4})
    assert dict(found.start) == pytest.approx({"a": 2.6 / 3, "b": 0.4 / 3})
    assert chain_of([[]]) is None


def test_rare_tools_are_joined() -> None:
    """Tools with few calls are one, and so are those beyond the forty most called; a single rare one stays itself."""

    def found(names: list[str], seconds: float = 1.0) -> dict[str, str]:
        return joined([(name, seconds) for name in names], 1000.0)

    assert found(["a"] * 9 + ["b", "c"]) == {"a": "a", "b": "other", "c": "other"}
    assert found(["a"] * 9 + ["b"]) == {"a": "a", "b": "b"}
    # What is not quite so rare is joined only where it takes little time.
    assert set(found(["a"] * 900 + ["b"] * 6 + ["c"] * 7).values()) == {"a", "other"}
    assert set(found(["a"] * 900 + ["b"] * 6 + ["c"] * 7, 10.0).values()) == {"a", "b", "c"}
    many = found([name for i in range(1000) for name in [f"t{i}"] * 6])
    assert len(set(many.values())) == 41


def test_a_factor_is_told_from_calls_that_differ() -> None:
    """Tasks that have more or fewer slow calls have no factor by that; tasks that are slow in all calls have one, of the right size."""
    rng = np.random.default_rng(5)
    tasks = np.repeat(np.arange(200), 20)
    slow = rng.random(len(tasks)) < np.repeat(rng.choice([0.1, 0.5], 200), 20)
    mixed = np.where(slow, 9.0, 0.1) * rng.lognormal(0.0, 0.3, len(tasks))
    logs = np.bincount(tasks, np.log(mixed)) / 20
    true = float(np.var(np.bincount(tasks, mixed) / 20 / mixed.mean(), ddof=1))  # of what tasks take, chance and all
    found = factor_of(mixed, np.full(len(tasks), mixed.mean()), tasks).variance
    assert found.value < math.log1p(true) < logs.var() / 2
    common = np.repeat(rng.lognormal(-0.1, math.sqrt(0.2), 200), 20) * rng.lognormal(0.0, 0.5, len(tasks))
    told = factor_of(common, np.full(len(tasks), common.mean()), tasks)
    assert covered(told.variance, 0.2)
    assert told.variance.value == pytest.approx(0.2, rel=0.35)
    freed = np.bincount(tasks, common / told.own)
    assert freed.std() / freed.mean() < 0.5 * np.bincount(tasks, common).std() / np.bincount(tasks, common).mean()
    none = factor_of(rng.lognormal(0.0, 0.5, len(tasks)), np.ones(len(tasks)), tasks).variance
    assert none.value < 0.01


def test_tools_are_shared_where_that_moves_little() -> None:
    """A tool is one for two classes where its means agree or it takes next to no time; a slow one that differs is not."""

    def part(seconds: float, brought: float = 10.0, whole: float = 10_000.0) -> Share:
        sums = np.array([[seconds] * 30, [0.0] * 30, [brought] * 30])
        return Share(
            sums * np.random.default_rng(1).uniform(0.8, 1.2, 30), np.full(30, 10), np.array([whole, 600.0, 30_000.0])
        )

    assert pooled([part(100.0), part(101.0)]) == [[0, 1]]
    assert pooled([part(100.0), part(10.0)]) == [[0], [1]]
    assert pooled([part(0.1), part(1.0)]) == [[0, 1]]
    assert pooled([part(100.0), part(10.0), part(101.0)]) == [[0, 2], [1]]
    assert pooled([part(0.1, 10.0), part(0.1, 900.0)]) == [[0], [1]]


# --- Courses -----------------------------------------------------------------------------------------------------------


def llm(start: float, seconds: float = 1.0, **more: Any) -> Call:
    """Return a model's call."""
    return call("llm", "m", start, seconds, **more)


def test_a_task_inside_of_a_tool_is_the_tools() -> None:
    """Calls of a sub-agent inside of a tool's call are counted as hidden, and its latency stays whole."""
    tasks = [
        task(i, [llm(99 * i), call("tool", "Task", 99 * i + 1, 10.0), dataclasses.replace(llm(99 * i + 2), agent="sub"), llm(99 * i + 11)])
        for i in range(10)
    ]  # fmt: skip
    fitted = estimate(tasks, arrivals=True)
    one = fitted.classes[0]
    assert (one.hidden.value, one.agents[0].turns.values, tool(fitted, "Task").latency.mean.value) == (1.0, (2,), 10.0)
    assert any("inside of tools" in each.what for each in fitted.unidentified)


def test_attempts_are_kept_aside() -> None:
    """A call that failed and was made again is an attempt with its wait, of a model and of a tool; it is no turn and no error."""
    tasks = [
        task(i, [llm(99 * i, 2.0, error="429", retried=True), llm(99 * i + 5), call("tool", "t", 99 * i + 6, 1.0, error="x", retried=True),
                 call("tool", "t", 99 * i + 9, 1.0)])
        for i in range(10)
    ]  # fmt: skip
    fitted = estimate(tasks, arrivals=True)
    model, used, agent = fitted.models[0], tool(fitted, "t"), fitted.classes[0].agents[0]
    assert model.retries is not None
    assert used.retries is not None
    assert (model.retries.rate.value, model.retries.seconds.mean.value, model.retries.backoff.mean.value) == (
        0.5,
        2.0,
        3.0,
    )
    assert (used.retries.backoff.mean.value, used.errors.rate.value, model.errors.value) == (2.0, 0.0, 0.0)
    assert (agent.turns.values, model.retries.most) == ((1,), 2)
    assert agent.gap.mean.value == 1.0 + 2.0  # a tool's attempt and the wait after it are time of the turn


def test_time_in_no_call_stays_in_the_turns() -> None:
    """What a turn takes beyond its call and the longest of its tools is its gap: the time of tasks is all there."""
    tasks = [
        task(i, [llm(99 * i + 1), call("tool", "a", 99 * i + 2.5, 2.0), call("tool", "b", 99 * i + 4.5, 1.0), llm(99 * i + 6)],
             arrival=99.0 * i, end=99 * i + 7.25)
        for i in range(8)
    ]  # fmt: skip
    fitted = estimate(tasks, arrivals=True)
    assert fitted.classes[0].agents[0].gap.mean.value * 2 + 2 * 1 + 2 == pytest.approx(7.25)
    assert any("gaps" in each.what for each in fitted.unidentified)


def test_agents_take_turns() -> None:
    """Visits of agents are told apart, and the flow says who comes next."""
    tasks = [
        task(i, [dataclasses.replace(llm(99 * i + j), agent="ab"[j // 2 % 2]) for j in range(8)]) for i in range(9)
    ]
    one = estimate(tasks, arrivals=True).classes[0]
    assert [(agent.name, agent.turns.values, agent.turns.counts) for agent in one.agents] == [
        ("a", (2,), (18,)),
        ("b", (2,), (18,)),
    ]
    assert one.flow == (((0, 1.0),), ((1, 1.0),), ((None, 1.0),))
    assert one.rounds is not None
    assert (one.rounds.values, one.rounds.counts) == ((2,), (9,))


def test_users_who_come_back_are_a_closed_workload() -> None:
    """Tasks that follow another of their session tell how long users think; tasks on their own tell a rate."""
    tasks = [task(2 * i + j, [llm(30.0 * i + 7 * j, 5.0)], session=f"s{j}") for i in range(30) for j in range(2)]
    found = estimate(tasks, arrivals=True).arrivals
    assert found.kind == "closed"
    assert found.think is not None
    assert found.users is not None
    assert (found.think.mean.value, round(found.users.value)) == (25.0, 2)
    assert estimate(tasks, arrivals=False).arrivals.kind == "unknown"
    alone = [dataclasses.replace(one, session="") for one in tasks]
    assert estimate(alone, arrivals=True).arrivals.kind == "open"


@pytest.mark.parametrize("each", [1000, 4])
def test_as_many_users_as_there_were(each: int) -> None:
    """Five users who think 20 s between tasks are found again, be their sessions long or of four tasks."""
    rng = np.random.default_rng(3)
    tasks: list[TaskTrace] = []
    for user in range(5):
        at, before = rng.exponential(20.0), len(tasks)
        while at < 3000:
            session = f"{user} {(len(tasks) - before) // each}"
            tasks.append(task(len(tasks), [llm(at, rng.exponential(8.0))], session=session))
            at = tasks[-1].end + rng.exponential(20.0)
    found = estimate(tasks, arrivals=True, intervals=False).arrivals
    assert found.users is not None
    assert found.think is not None
    assert found.users.value == pytest.approx(5, abs=0.4)
    assert found.think.mean.value == pytest.approx(20, rel=0.1)


def test_gaps_are_weighed_by_the_turns_that_have_them() -> None:
    """An agent of one task in ten that is slow between its turns adds a tenth of that to the time of tasks in no call."""

    def worked(number: int) -> TaskTrace:
        calls = [llm(float(at), 1.0, turn=at) for at in range(10)]
        late = dataclasses.replace(llm(10.0, 1.0, turn=10), agent="helper")
        more = [late, dataclasses.replace(late, start=20.0, end=21.0, turn=11)]
        return task(number, [*calls, *(more if number % 10 == 0 else [])])

    fitted = estimate([worked(number) for number in range(40)], arrivals=False, intervals=False)
    assert [one.why for one in fitted.unidentified if one.what.startswith("gaps")] == ["8% of the time is in no call"]


def test_bursts_of_arrivals_are_said_to_be_left_out() -> None:
    """Tasks that come in bursts are written as Poisson's, and the list of what is left out says so; Poisson's own are not in it."""
    times = [1000.0 * (i // 10) + i % 10 for i in range(60)]
    bursts = estimate([task(i, [llm(at)]) for i, at in enumerate(times)], arrivals=True)
    assert "bursts of arrivals" in {one.what for one in bursts.unidentified}
    assert "bursts of arrivals" not in {one.what for one in estimate(made(3), arrivals=True).unidentified}


def test_the_guide_tells_what_no_trace_can() -> None:
    """What a fit to tasks of a common clock cannot tell stands in the guide by the same words."""
    guide = (Path(__file__).parents[1] / "docs" / "traces.md").read_text(encoding="utf-8")
    for one in estimate(made(5), arrivals=True, intervals=False).unidentified:
        assert f"| {one.what.partition(':')[0]}" in guide, one.what


def test_stub_counts_are_told_from_characters() -> None:
    """Counts of a token or two for many characters are replaced, at the characters a token of the true counts."""
    rng = np.random.default_rng(4)
    tasks = []
    for i in range(30):
        calls = []
        for j in range(6):
            size = float(rng.integers(200, 4000))
            true = size / 4.0
            output = 2.0 if rng.random() < 0.5 else true
            calls.append(
                llm(
                    200.0 * i + 20 * j,
                    0.5 + 0.01 * true,
                    new=100.0 + 10 * j,
                    cached=50.0 * j,
                    output=output,
                    output_bytes=size,
                )
            )
        tasks.append(task(i, calls))
    model = estimate(tasks, arrivals=True, intervals=False).models[0]
    assert model.characters is not None
    assert model.law is not None
    assert model.characters.value == pytest.approx(4.0)
    assert 0.4 < model.stubs < 0.6
    assert model.law.output.value == pytest.approx(0.01, rel=0.01)


def test_cached_tokens_that_are_not_counted_are_those_sent_before() -> None:
    """Without counts of the cache the law has a rate for what was sent before, and all of that counts as cached."""
    whole = [
        dataclasses.replace(
            one,
            calls=tuple(
                dataclasses.replace(c, new=c.new + c.cached, cached=NAN) if c.kind == "llm" else c for c in one.calls
            ),
        )
        for one in made(3)
    ]
    model = estimate(whole, arrivals=True).models[0]
    assert model.law is not None
    assert model.cache_hit is not None
    assert (model.cache_hit.value, model.cache_hit.n) == (1.0, 0)
    # Of a turn, some hundred tokens less are new here than in the laws: its output counts as sent before.
    assert model.law.output.value == pytest.approx(0.01, rel=0.25)
    assert model.law.cached.value < 1e-4


def test_the_first_token_is_told_of_all_calls() -> None:
    """It counts from the start of its call: half a second in calls that begin at any time."""
    whole = [
        dataclasses.replace(one, calls=tuple(dataclasses.replace(c, first_token=0.5) for c in one.calls))
        for one in made(3, 10)
    ]
    model = estimate(whole, arrivals=True, intervals=False).models[0]
    assert model.first_token is not None
    assert (model.first_token.mean.value, model.first_token.mean.n) == (0.5, model.calls)


def test_classes_are_by_model_where_tasks_differ_in_it() -> None:
    """Two models make two classes with tools of their own, but for a tool that does not differ between them."""
    rng = np.random.default_rng(5)
    tasks = []
    for i in range(60):
        model = "big" if i % 3 else "small"
        at, calls = 1000.0 * i, []
        for j in range(6):
            calls.append(call("llm", model, at, 1.0, j, 2 * j))
            name = "bash" if j % 2 else "read"
            seconds = float(rng.lognormal(0.0 if name == "read" else 2.0 * (model == "big"), 0.5))
            calls.append(call("tool", name, at + 1, seconds, j, 2 * j + 1))
            at += 1 + seconds
        tasks.append(task(i, calls))
    fitted = estimate(tasks, arrivals=True)
    assert [(one.name, one.tasks) for one in fitted.classes] == [("big", 40), ("small", 20)]
    assert sorted(one.key for one in fitted.tools) == ["bash-big", "bash-small", "read"]
    assert {key for key, _ in fitted.classes[1].agents[0].choice.start} == {"bash-small", "read"}  # type: ignore[union-attr]


# --- Odd traces --------------------------------------------------------------------------------------------------------


def odd() -> dict[str, list[TaskTrace]]:
    """Return traces that have little in them, or something wrong."""

    def every(n: int, *calls: Any) -> list[TaskTrace]:
        return [task(i, [one(99.0 * i) for one in calls]) for i in range(n)]

    def use(start: float, **more: Any) -> Call:
        return call("tool", "t", start + 1, 1.0, **more)

    return {
        "one call": every(1, llm),
        "one tool": every(1, use),
        "no model": every(9, use, use),
        "no tools": every(9, llm),
        "zero times": [task(i, [llm(3.0 * i, 0.0), call("tool", "t", 3.0 * i, 0.0)]) for i in range(9)],
        "all errors": every(30, lambda at: llm(at, error="E"), lambda at: use(at, error="E")),
        "no tokens": every(30, lambda at: llm(at, new=NAN, output=5.0), use),
        "half of the tokens": every(30, lambda at: llm(at, new=at + 1, output=NAN if at > 999 else at), use),
        "no times": [task(i, [llm(NAN), call("tool", "t", 9.0 * i, 1.0)]) for i in range(4)],
        "backward": [task(i, [llm(9.0 * i, -1.0), call("tool", "t", 9.0 * i, 1.0)]) for i in range(4)],
        "at once": [task(i, [llm(0.0), call("tool", "t", 1.0, 1.0)]) for i in range(9)],
        "other letters": [task(i, [call("llm", "模型", 9.0 * i, 1.0), call("tool", "工具", 9.0 * i + 1, 1.0)]) for i in range(9)],
        "a thousand tools": [task(i, [call("tool", f"tool {40 * i + j}", 99.0 * i + j, 1.0, j, j) for j in range(40)]) for i in range(25)],
        "long and short": [task(i, [llm(1e12 * i, 1e11), call("tool", "t", 1e12 * i + 1e11, 1e-8)]) for i in range(12)],
        "empty tasks": [task(0, []), *every(3, llm)],
    }  # fmt: skip


def finite(value: object, path: str = "") -> list[str]:
    """Return where a number is not finite, or an interval does not hold its number."""
    if (
        isinstance(value, Number)
        and value.low is not None
        and value.high is not None
        and not value.low <= value.value <= value.high
    ):
        return [f"{path}: {value}"]
    if dataclasses.is_dataclass(value):
        return [
            bad for one in dataclasses.fields(value) for bad in finite(getattr(value, one.name), f"{path}.{one.name}")
        ]
    if isinstance(value, tuple | list):
        return [bad for i, one in enumerate(value) for bad in finite(one, f"{path}[{i}]")]
    return [path] if isinstance(value, np.generic) or (isinstance(value, float) and not math.isfinite(value)) else []


@pytest.mark.parametrize("name", list(odd()))
def test_odd_traces_are_fitted(name: str) -> None:
    """Every number is finite and in its interval, weights sum to 1, and the same tasks give the same fit."""
    for arrivals in (True, False):
        fitted = estimate(odd()[name], arrivals=arrivals)
        assert finite(fitted) == []
        assert estimate(odd()[name], arrivals=arrivals) == fitted
        assert sum(one.weight.value for one in fitted.classes) == pytest.approx(1.0)
        assert all(math.fsum(p.weight for p in one.latency.parts) == pytest.approx(1.0) for one in fitted.tools)
        assert all(
            math.fsum(n for _, n in row) == pytest.approx(1.0) for one in fitted.classes for row in one.flow if row
        )
        assert fitted.unidentified


def test_nothing_cannot_be_fitted() -> None:
    """Tasks without a call say so."""
    for tasks in ([], [task(0, [])]):
        with pytest.raises(ValueError, match="at least one task with a call"):
            estimate(tasks, arrivals=True)


# --- Measured runs -----------------------------------------------------------------------------------------------------


def agent_runs() -> list[TaskTrace]:
    """Return the measured runs of coding agents, one after the other."""
    if not RUNS.exists():
        pytest.skip(f"no measured runs: {RUNS.name} is not there")

    def number_(text: str) -> float:
        return float(text) if text else NAN

    groups: list[list[dict[str, str]]] = []
    with gzip.open(RUNS, "rt") as stream:
        for row in csv.DictReader(stream):
            groups += [[]] if row["seq"] == "0" else []
            groups[-1].append(row)
    out: list[TaskTrace] = []
    clock, turn = 0.0, -1
    for at, group in enumerate(groups):
        calls = []
        for row in group:
            model = row["kind"] == "llm"
            turn += model
            written = 0.0 if math.isnan(number_(row["cache_write"])) else number_(row["cache_write"])
            name = row["model"] if model else f"Bash {row['category']}" if row["category"] else row["name"]
            more = {"new": number_(row["in_tok"]) + written, "cached": number_(row["cache_read"]), "output": number_(row["out_tok"])} if model else {}  # fmt: skip
            wrong = "error" if row["is_error"] not in ("", "0", "0.0", "False") else ""
            calls.append(
                call(row["kind"], name, clock + float(row["start_s"]), float(row["dur_s"]), turn, turn, output_bytes=number_(row["chars"]), error=wrong, **more)
            )  # fmt: skip
        out.append(task(at, calls, problem=group[0]["task"]))
        clock = out[-1].end
    return out


def test_measured_runs_of_coding_agents() -> None:
    """Classes by model, tails, factors, stub counts and errors come out as they were found by hand in these runs."""
    runs = agent_runs()
    fitted = estimate(runs, arrivals=False, intervals=False)
    assert (fitted.tasks, fitted.calls, fitted.problems) == (142, 12320, 100)
    assert sorted((one.name.split("/")[-1][:8], one.tasks) for one in fitted.classes) == [
        ("GLM-4.7-", 79),
        ("claude-3", 38),
        ("claude-h", 25),
    ]
    stubs = {one.component[:14]: one.stubs for one in fitted.models}
    assert (
        round(stubs["claude-3-5-hai"], 1),
        round(stubs["claude-haiku-4"], 1),
        round(stubs["unsloth/GLM-4."], 1),
    ) == (0.9, 0.7, 0.0)
    assert all(one.law is not None and 0 <= one.per_task.value < 0.12 for one in fitted.models)
    starts = [one.agents[0].context.start for one in fitted.classes]
    assert all(one is not None and 13_000 < one.mean.value < 21_000 for one in starts)
    for one in fitted.classes:
        agent = one.agents[0]
        assert one.overlap.value < 0.005  # half a percent: a turn begins while the last one's longest tool runs on
        assert agent.last_calls.value < 0.05
        assert agent.gap.mean.value * agent.turns.mean.value < 0.02 * one.seconds.mean.value
    # One lognormal for all shell commands thinks their tail far too long.
    shell = np.array([one.seconds for run_ in runs for one in run_.calls if one.component.startswith("Bash ")])
    single = fit_mixture(shell, number(shell.mean(), len(shell), "s", "mean"))
    assert mean_of((single.lognormal,), None) > 1.5 * shell.mean()
    assert len(single.parts) > 1


def test_measured_errors_follow_errors_less_than_it_seems() -> None:
    """Over all runs the odds of an error after an error are about 2.5 to 1; inside of runs much of that is gone."""
    tools = [(i, bool(one.error)) for i, run_ in enumerate(agent_runs()) for one in run_.calls if one.kind == "tool"]
    found = error_fit(Outcomes(np.array([wrong for _, wrong in tools]), np.array([i for i, _ in tools]), ()))
    assert found.pooled is not None
    assert found.odds is not None
    assert found.odds.low is not None
    assert 2.3 < found.pooled < 3.1
    assert 1.2 < found.odds.low < found.odds.value < 0.8 * found.pooled
    assert found.concentration is not None
    assert 5 < found.concentration.value < 100


def test_a_fit_is_plain_numbers() -> None:
    """All of a fit can be written as JSON, and no text of it holds more than names and rules."""
    text = json.dumps(dataclasses.asdict(estimate(made(1, 10), arrivals=True)), allow_nan=False)
    assert len(text) > 1000
