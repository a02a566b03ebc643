"""Bands about how cost grows with the number of steps, met by mechanism: inputs from named sources, and varied by half.

Three mechanisms. A context that is sent in full at every step adds up to tokens that grow with the square of the steps, once
what the steps add outweighs the prompt they begin with; before that, in proportion. A call's time hardly grows with a context
that is cached, so that the time of all calls is in proportion to the steps, and grows faster without. Full snapshots
of such a context add up to bytes that grow with the square of the steps, deltas in proportion.

Exponents are slopes of least squares in log-log over doublings of the steps. They depend on the range, because none of these
sums is a power: n steps of k tokens on a prompt of p cost n p + k n (n - 1) / 2. So each band says over which steps. Three of them do
not hold everywhere. Snapshots and deltas begin with what a run begins with, and where that is worth many steps exponents are smaller:
1.72 and 0.85 over 10 to 160 steps of the measured framework at 200 tokens a tool, 1.88 and 0.95 at 1000. And a run of 8 calls on a prompt of 20k tokens takes
1.07 times as long without a cache, less than the band, which is of runs of at least 40 calls; nor do models reach it whose tokens
cost nearly as much cached as not (Haiku 4.5, Sonnet 4).

Source: recorded runs of coding agents, github.com/callanjfox/kv-cache-tester @ 94f6046 (calls, contexts, laws of calls); their
exponents in fits.json, `scaling_checks`; bytes of LangGraph's checkpoints measured for this project.
Leaves out: runs that shorten their context on the way; which law of growth fits best.
"""

import csv
import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from coordsim.calibration.calls import parse_columns, read_calls
from coordsim.calibration.fits.call_law import CallLaw, fit_law
from coordsim.sim.analysis.result import Result

from .scene import Data, chain, run, steps
from .test_call_law import COLUMNS, REQUESTS, SHARED, recorded_runs

CHECKPOINTS = SHARED / "local_langgraph_checkpoint_growth.csv"
FITS = SHARED.parent / "fits.json"
OVER = (8, 16, 32, 64, 128)
OPUS = "claude-opus-4-5-20251101"

Points = dict[int, float]


def exponent(points: Points) -> float:
    """Return the slope in log-log of a quantity over steps."""
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def loop(repeat: int) -> Data:
    """Return a workflow of one agent that takes so many turns, with a tool after each."""
    return steps("work", work={"agent": "a", "tools": {"t": 1}, "repeat": repeat})


# -- Tokens of a context that is sent in full


@cache
def input_tokens(prompt: float, each: float, count: int) -> float:
    """Return the tokens that a task sends in `count` steps, of which each adds `each` tokens, three quarters by a tool."""
    world: Data = {
        "runtime": {"preset": "ideal", "state": "full"},
        "agents": {"a": {"prompt": f"{prompt} tokens", "output": f"{0.25 * each} tokens"}},
        "tools": {"t": {"latency": "0 s", "result": f"{0.75 * each} tokens"}},
        "max_steps": 10_000,
    }
    result = run(world, loop(count), spans="none")
    return float(sum(result.fact(f"{kind}_tokens").sum() for kind in ("new", "carried", "cached")))


def closed_form(prompt: float, each: float, count: int) -> float:
    """Return the same as a sum: the prompt at each step, and what all steps before it added."""
    return sum(prompt + each * step for step in range(count))


def tokens_exponent(prompt: float, each: float) -> float:
    """Return the exponent of all input tokens over 8 to 128 steps."""
    return exponent({count: input_tokens(prompt, each, count) for count in OVER})


BASES = [(1200.0, 400.0), (20_000.0, 600.0), (20_000.0, 1200.0), (20_000.0, 1800.0)]


@pytest.mark.parametrize(("prompt", "each"), BASES)
def test_tokens_sent_are_the_closed_form(prompt: float, each: float) -> None:
    """A task of n steps sends n p + k n (n - 1) / 2 tokens, to the token; source: arithmetic."""
    for count in OVER:
        assert input_tokens(prompt, each, count) == closed_form(prompt, each, count)
        assert closed_form(prompt, each, count) == count * prompt + each * count * (count - 1) / 2


def test_a_small_prompt_makes_tokens_grow_with_nearly_the_square_of_steps() -> None:
    """1.2k tokens and 400 a step: 1.8 to 2.0 over 8 to 128 steps (1.84 here). Source: closed form above."""
    assert 1.8 <= tokens_exponent(1200, 400) <= 2.0


@pytest.mark.parametrize("each", [600, 1200, 1800])
def test_a_large_prompt_makes_tokens_grow_more_slowly(each: float) -> None:
    """20k tokens and 600 to 1800 a step: 1.1 to 1.6 over 8 to 128 steps. Source: closed form; prompts of recorded coding agents.

    Recorded runs, some of which shorten their context, have 1.04 to 1.50 (fits.json, `input_tokens`, 10 % to 90 % of the runs).
    """
    assert 1.1 <= tokens_exponent(20_000, each) <= 1.6


@pytest.mark.parametrize(("prompt", "each"), BASES)
def test_a_larger_prompt_lowers_and_larger_steps_raise_the_exponent(prompt: float, each: float) -> None:
    """Each by half less and half more: only their ratio counts, and it moves the exponent towards 1, or 2."""
    middle = tokens_exponent(prompt, each)
    assert tokens_exponent(0.5 * prompt, each) > middle > tokens_exponent(1.5 * prompt, each)
    assert tokens_exponent(prompt, 0.5 * each) < middle < tokens_exponent(prompt, 1.5 * each)
    assert tokens_exponent(2 * prompt, 2 * each) == pytest.approx(middle)


def test_a_context_that_does_not_grow_makes_tokens_grow_with_the_steps() -> None:
    """The mechanism switched off: what is new alone, 0.95 to 1.05 over 8 to 128 steps where steps outweigh the prompt."""
    off = {"runtime": {"preset": "ideal", "state": "full"}, "context": {"grows": False}}
    world: Data = {
        "agents": {"a": {"output": "100 tokens"}},
        "tools": {"t": {"latency": "0 s", "result": "300 tokens"}},
    }

    def sent(count: int) -> float:
        found = run(off, world, {"workload": {"request": "300 tokens"}}, loop(count), spans="none")
        return float(sum(found.fact(f"{kind}_tokens").sum() for kind in ("new", "carried", "cached")))

    assert 0.95 <= exponent({count: sent(count) for count in OVER}) <= 1.05


# -- The time of calls


@cache
def laws() -> dict[str, CallLaw]:
    """Return the laws of the recorded calls, by model."""
    recorded = read_calls(REQUESTS, parse_columns(COLUMNS), by="model", group="trace")
    return {model: fit_law(calls) for model, calls in recorded.models.items()}


@cache
def recorded() -> dict[str, np.ndarray]:
    """Return of the recorded runs of at least 40 calls: first context, median growth a call, mean output, and exponent.

    The exponent is that of the time of all calls so far, over the number of calls from 8 on.
    """
    runs: dict[str, list[tuple[float, ...]]] = {}
    with gzip.open(REQUESTS, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["agent"] == "main" and row["api_time"] and row["in_tok"] and row["out_tok"]:
                numbers = (float(row[name]) for name in ("t", "in_tok", "out_tok", "api_time"))
                runs.setdefault(row["trace"], []).append(tuple(numbers))
    found = []
    for calls in runs.values():
        if len(calls) < 40:
            continue
        _, context, output, seconds = np.array(sorted(calls)).T
        grown = np.diff(context)
        count = np.arange(8, len(calls) + 1)
        slope = np.polyfit(np.log(count), np.log(np.cumsum(seconds)[7:]), 1)[0]
        found.append((context[0], np.median(grown[grown > 0]), output.mean(), slope))
    return dict(zip(("start", "each", "output", "exponent"), np.array(found).T, strict=True))


def inputs(**factors: float) -> tuple[float, ...]:
    """Return the law of the model with most calls, and the median run: overhead, new, cached, output; start, growth, output."""
    law, runs = laws()[OPUS], recorded()
    values = {"overhead": law.overhead, "new": law.new, "cached": law.cached, "decode": law.output}
    values |= {name: float(np.median(runs[name])) for name in ("start", "each", "output")}
    assert set(factors) <= set(values)
    return tuple(value * factors.get(name, 1.0) for name, value in values.items())


@cache
def llm_time(given: tuple[float, ...], count: int, hit: float) -> float:
    """Return the mean time of all calls of a run of `count` calls (s), of 40 runs with outputs drawn; `hit` of the cache."""
    overhead, new, cached, decode, start, each, output = given
    world: Data = {
        "runtime": {"preset": "ideal", "state": "full"},
        "workload": {"tasks": 40},
        "agents": {
            "a": {"model": "api", "prompt": f"{start} tokens", "output": {"lognormal": {"mean": f"{output} tokens", "cv": 1.1}}}
        },
        "models": {
            "llm": None,
            "api": {
                "kind": "api", "overhead": f"{overhead} s", "new": f"{new} s / token", "cached": f"{cached} s / token",
                "output": f"{decode} s / token", "cache_hit": hit,
            },
        },
        "tools": {"t": {"latency": "0 s", "result": f"{max(0.0, each - output)} tokens"}},
        "max_steps": 10_000,
    }  # fmt: skip
    result: Result = run(world, loop(count), spans="none")
    return float(result.response_times.mean())


def most_steps(given: tuple[float, ...], tokens: float = 150_000) -> int:
    """Return after how many steps the context has so many tokens."""
    return int((tokens - given[4]) / given[5])


def time_exponent(given: tuple[float, ...], hit: float) -> float:
    """Return the exponent of the time of all calls over 8 to 128 steps."""
    return exponent({count: llm_time(given, count, hit) for count in OVER})


def without_cache(given: tuple[float, ...], count: int) -> float:
    """Return how many times as long the calls take without a cache."""
    return llm_time(given, count, 0.0) / llm_time(given, count, 1.0)


@recorded_runs
def test_with_a_cache_the_time_of_calls_grows_with_the_steps() -> None:
    """0.95 to 1.10 over 8 to 128 calls. Source of the law, of 20k tokens at first and 640 a call: recorded runs of coding agents.

    The same runs have a median of 1.02 [1.00, 1.04] (fits.json, `api_time`), computed here again from their calls: inputs are
    what calls cost and hold, not how their sum grows.
    """
    measured = float(np.median(recorded()["exponent"]))
    simulated = time_exponent(inputs(), 1.0)
    assert 1.00 <= measured <= 1.04
    assert 0.95 <= simulated <= 1.10
    assert simulated == pytest.approx(measured, abs=0.03)


@recorded_runs
@pytest.mark.parametrize("model", ["opus-4-5", "opus-4-6", "opus-4-1", "sonnet-4-5", "sonnet-4-2", "haiku"])
def test_every_model_of_the_recorded_runs_is_in_the_band_with_a_cache(model: str) -> None:
    """0.95 to 1.10 with the law of each of the six models. Source: as above."""
    (law,) = (law for name, law in laws().items() if f"claude-{model}" in name)
    given = (law.overhead, law.new, law.cached, law.output, *inputs()[4:])
    assert 0.95 <= time_exponent(given, 1.0) <= 1.10


@recorded_runs
@pytest.mark.parametrize(("name", "rises"), [("cached", True), ("each", True), ("decode", False), ("overhead", False)])
def test_what_moves_the_exponent_of_time(name: str, rises: bool) -> None:
    """Half less and half more: what grows with the context raises it, what each call costs alike lowers it."""
    less, middle, more = (time_exponent(inputs(**{name: factor}), 1.0) for factor in (0.5, 1.0, 1.5))
    assert less < middle < more if rises else less > middle > more


@recorded_runs
def test_without_a_cache_calls_take_up_to_half_as_long_again() -> None:
    """1.1 to 1.5 times as long, in runs of 40 calls until 150k tokens of context. Source: recorded runs, as above.

    Their own times, recomputed with every token prefilled, are 1.14 to 1.45 times as long (fits.json, 10 % to 90 % of the runs).
    """
    given = inputs()
    last = most_steps(given)
    assert last > 150
    ratios = [without_cache(given, count) for count in (40, 80, last)]
    assert 1.1 <= ratios[0] < ratios[1] < ratios[2] <= 1.5
    assert time_exponent(given, 0.0) > time_exponent(given, 1.0) + 0.02


@recorded_runs
@pytest.mark.parametrize(("name", "rises"), [("new", True), ("cached", False), ("decode", False), ("overhead", False)])
def test_what_moves_the_price_of_no_cache(name: str, rises: bool) -> None:
    """Half less and half more, at 150k tokens: a token that is prefilled raises it, all that a cached run pays lowers it."""
    last = most_steps(inputs())
    less, middle, more = (without_cache(inputs(**{name: factor}), last) for factor in (0.5, 1.0, 1.5))
    assert less < middle < more if rises else less > middle > more


@recorded_runs
def test_the_price_of_no_cache_depends_on_the_model() -> None:
    """Which models are in the band of 1.1 to 1.5 at 150k tokens: those whose new tokens cost at least twice the cached ones, or nearly.

    Haiku 4.5 and Sonnet 4 are not: there a cache saves less than a tenth of the time.
    """
    found = {}
    for model, law in laws().items():
        given = (law.overhead, law.new, law.cached, law.output, *inputs()[4:])
        found[model] = without_cache(given, most_steps(given))
    inside = {model for model, ratio in found.items() if 1.1 <= ratio <= 1.5}
    assert {model for model in found if "opus" in model or "sonnet-4-5" in model} == inside
    assert all(1.0 < found[model] < 1.1 for model in found if model not in inside)


# -- Bytes of checkpoints

checkpoints_measured = pytest.mark.skipif(
    not CHECKPOINTS.exists(), reason="the measured checkpoints (shared/data/agent_runs) are not here"
)


@cache
def langgraph(append: int) -> dict[str, np.ndarray]:
    """Return the measured columns of runs whose tools add so many tokens."""
    with CHECKPOINTS.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if int(row["append_tokens_per_tool"]) == append]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def state_bytes(kind: str, start: float, thought: float, result: float, cycles: int) -> float:
    """Return the bytes that a task writes: cycles of a model's step and a tool's, the last without a tool; all in bytes."""
    world: Data = {
        "context": {"bytes_per_token": "1 B / token"},
        "workload": {"request": f"{start:.0f} tokens"},
        "agents": {"a": {"output": f"{thought:.0f} tokens"}},
        "tools": {"t": {"latency": "0 s", "result": f"{result:.0f} tokens"}},
        "orchestrator": {"checkpoint": {"kind": kind, "write": {}}},
        "max_steps": 10_000,
    }
    walk = [(f"s{number}", {"tool": "t"} if number % 2 else {"agent": "a"}) for number in range(2 * cycles - 1)]
    return float(run(world, chain(*walk), spans="none").fact("state_bytes").sum())


def framework(append: int) -> tuple[float, float, float]:
    """Return what a state of the framework begins with and what the steps of a model and a tool add (bytes).

    By a line through the size of the last checkpoint over the steps: what a tool adds is what the line's slope has more of where
    tools append more, and half of the rest. The last step has no tool, whose part is therefore missing in the last checkpoint.
    """
    each, start = np.polyfit(langgraph(append)["llm_steps"], langgraph(append)["last_checkpoint_bytes"], 1)
    other = np.polyfit(langgraph(1000)["llm_steps"], langgraph(1000)["last_checkpoint_bytes"], 1)[0]
    less = np.polyfit(langgraph(200)["llm_steps"], langgraph(200)["last_checkpoint_bytes"], 1)[0]
    text = append * (other - less) / 800
    thought, result = float(each - text) / 2, float(each + text) / 2
    return float(start) + result, thought, result


@cache
def snapshots(append: int, start: float = 1.0, each: float = 1.0, kind: str = "full") -> Points:
    """Return the bytes that a task writes over its steps, with the framework's start and steps times a factor."""
    begins, thought, result = framework(append)
    counts = [int(count) for count in langgraph(append)["llm_steps"]]
    return {count: state_bytes(kind, start * begins, each * thought, each * result, count) for count in counts}


@checkpoints_measured
@pytest.mark.parametrize("append", [200, 1000])
def test_snapshots_of_a_framework_have_the_bytes_that_were_measured(append: int) -> None:
    """All checkpoints together, from the size of the last: within 3 % at 40 steps and more; source: LangGraph, 10 to 160.

    The framework writes two checkpoints more than it takes steps, of the input and the end: 10 % of those at 10 steps.
    """
    measured = dict(zip(snapshots(append), langgraph(append)["checkpoint_bytes_total"], strict=True))
    for count, size in snapshots(append).items():
        assert size == pytest.approx(measured[count], rel=0.03 if count >= 40 else 0.1)
        assert size < measured[count]


@checkpoints_measured
def test_snapshots_grow_with_the_square_of_the_steps() -> None:
    """1.85 to 2.05, the framework's own and the simulated, at 1000 tokens a tool; the last doubling is the 1.96 that was measured."""
    simulated, measured = snapshots(1000), langgraph(1000)["checkpoint_bytes_total"]
    own = dict(zip(simulated, measured, strict=True))
    assert 1.85 <= exponent(own) <= 2.05
    assert 1.85 <= exponent(simulated) <= 2.05
    last = {count: own[count] for count in (80, 160)}
    assert exponent(last) == pytest.approx(1.96, abs=0.01)
    assert exponent({count: simulated[count] for count in last}) == pytest.approx(1.96, abs=0.015)


@checkpoints_measured
def test_snapshots_that_begin_large_grow_more_slowly() -> None:
    """At 200 tokens a tool a state begins with the worth of seven steps: measured 1.72, simulated alike, and up to 1.90 at the end."""
    own = dict(zip(snapshots(200), langgraph(200)["checkpoint_bytes_total"], strict=True))
    assert exponent(own) == pytest.approx(1.72, abs=0.01)
    assert exponent(snapshots(200)) == pytest.approx(exponent(own), abs=0.04)
    last = {count: snapshots(200)[count] for count in (80, 160)}
    assert exponent(last) == pytest.approx(exponent({count: own[count] for count in last}), abs=0.01)
    assert 1.85 <= exponent(last) <= 2.05


@checkpoints_measured
@pytest.mark.parametrize("append", [200, 1000])
def test_what_moves_the_exponent_of_snapshots(append: int) -> None:
    """Half less and half more: a larger start lowers it, larger steps raise it."""
    middle = exponent(snapshots(append))
    assert exponent(snapshots(append, start=0.5)) > middle > exponent(snapshots(append, start=1.5))
    assert exponent(snapshots(append, each=0.5)) < middle < exponent(snapshots(append, each=1.5))


@checkpoints_measured
def test_deltas_grow_with_the_steps() -> None:
    """0.95 to 1.05 at 1000 tokens a tool: what the framework writes of each step (0.953), and the simulated deltas."""
    own = dict(zip(snapshots(1000), langgraph(1000)["writes_bytes_total"], strict=True))
    assert 0.95 <= exponent(own) <= 1.05
    simulated = snapshots(1000, kind="delta")
    assert exponent(simulated) == pytest.approx(exponent(own), abs=0.005)
    small = snapshots(1000, start=0.5, kind="delta")
    assert 0.95 <= exponent(small) <= 1.05
    assert exponent(small) > exponent(simulated) > exponent(snapshots(1000, start=1.5, kind="delta"))


@checkpoints_measured
def test_deltas_that_begin_large_grow_more_slowly() -> None:
    """At 200 tokens a tool the first of them is worth seven steps: measured 0.85 over 10 to 160 steps, and simulated."""
    own = dict(zip(snapshots(200), langgraph(200)["writes_bytes_total"], strict=True))
    assert exponent(own) == pytest.approx(0.85, abs=0.005)
    assert exponent(snapshots(200, kind="delta")) == pytest.approx(exponent(own), abs=0.005)


def test_a_state_that_begins_with_a_step_is_in_both_bands() -> None:
    """Whatever a step adds: full snapshots 1.85 to 2.05, deltas 0.95 to 1.05 over 8 to 128 steps; source: the closed form."""
    for each in (200, 400, 600):
        full, delta = (
            {count: state_bytes(kind, each, each / 2, each / 2, count) for count in OVER} for kind in ("full", "delta")
        )
        for count in OVER:
            steps_taken = 2 * count - 1
            assert full[count] == pytest.approx(each * steps_taken + each / 2 * steps_taken * (steps_taken - 1) / 2)
            assert delta[count] == pytest.approx(each + each / 2 * (steps_taken - 1))
        assert 1.85 <= exponent(full) <= 2.05
        assert 0.95 <= exponent(delta) <= 1.05


@pytest.mark.skipif(not FITS.exists(), reason="the fits of recorded runs (shared/data/fits.json) are not here")
def test_the_bands_cited_are_those_of_the_source() -> None:
    """The figures in this file's docstrings are what the source says."""
    found: dict[str, Any] = json.loads(FITS.read_text(encoding="utf-8"))["scaling_checks"]
    exponents = found["weka_cumulative_exponents_p10_p50_p90"]
    assert exponents["api_time(321 traces>=40 calls)"][1] == 1.02
    assert exponents["input_tokens"] == [1.04, 1.26, 1.5]
    assert found["weka_no_cache_counterfactual"]["total_time_ratio_p10_p50_p90"] == [1.141, 1.294, 1.449]
