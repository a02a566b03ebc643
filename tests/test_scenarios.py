"""The scenarios that ship: each loads, opens with its question, runs, and answers it the way its comment says.

Leaves out: `scenarios/theory`, whose closed forms are in test_theory.py; what plans of `scenarios/capacity` find, which is in
test_capacity_plans.py; how a command prints a run.
The bands of the coding agent hold the simulation to figures measured on real runs, so each says where it comes from.
"""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from coordsim.models.scenario import Scenario, load
from coordsim.models.simulate import simulate
from coordsim.models.study_asked import StudyOptions, asked
from coordsim.models.study_cells import make_study
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.ledger import CATEGORIES

from .scene import fact, run, steps

Array = npt.NDArray[np.float64]

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "scenarios"
SHARED = ROOT.parent / "shared" / "data"
SPEEDS = (1, 2, 5, 10, 20, 50, 100)
Z999 = 3.29  # of a 99.9 % interval, over hundreds of independent tasks

# Every scenario that ships beside `theory`, and how many tasks of it a quick run takes; None: all of its trace.
TASKS = {
    "capacity/agents": 30,
    "capacity/growth": 60,
    "capacity/inconclusive": 300,
    "capacity/infeasible": 60,
    "capacity/mmc": 300,
    "capacity/tandem": 300,
    "chat-vs-agent": 30,
    "checkpointing": 20,
    "coding-agent": 60,
    "coordination-paradox": 60,
    "coordination-paradox-induced": 60,
    "document-rag": 60,
    "cost-of-context": 30,
    "debate": 16,
    "demo-vs-production": 72,
    "gpu-resident": 16,
    "kv-pressure": 12,
    "llama-on-h100": 20,
    "modality-scaling": 10,
    "multimodal-copilot": 12,
    "provider-outage": 30,
    "quickstart": 100,
    "replay-azure-code": None,
    "replay-mooncake": None,
    "research-team": 12,
    "retry-storm": 300,
    "runtime-comparison": 16,
    "sub-50ms-inference": 60,
    "video-qa": 20,
    "voice-assistant": 16,
    "web-agent": 12,
}
# Of which a larger share of tasks may fail than of those that are not about faults: what the one can lose at most.
FAILING = {"demo-vs-production": 0.25}
EVERY = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def shipped(name: str, tasks: int | None = None, **overrides: str) -> Scenario:
    """Return a scenario that ships, with `tasks` of them; `overrides` are paths, with `__` for a dot."""
    sets = {path.replace("__", "."): text for path, text in overrides.items()}
    return load(FOLDER / f"{name}.yaml", {**sets, **({} if tasks is None else {"workload.tasks": str(tasks)})})


def share(result: Result, category: str) -> float:
    """Return the share of a category in all seconds of all tasks."""
    return float(result.category(category).sum() / result.response_times.sum())


def mean_of(result: Result, name: str) -> float:
    """Return what is counted under `name`, per task."""
    return float(result.fact(name).mean())


def comment(name: str) -> list[str]:
    """Return the comment block that opens a file, without the editor's line."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end] if "$schema" not in line]


# -- all of them


def test_every_scenario_that_ships_is_known() -> None:
    """A scenario without a line in the table above is not tested, so it may not ship; `theory` has a table of its own."""
    assert {name for name in EVERY if not name.startswith("theory/")} == set(TASKS)


@pytest.mark.parametrize("name", EVERY)
def test_a_scenario_opens_with_its_question(name: str) -> None:
    """The file's first sentence is a question, and the scenario carries one and the file's name."""
    first = next(line for line in comment(name) if line)
    scenario = load(FOLDER / f"{name}.yaml")
    assert first.endswith("?")
    assert scenario.question.endswith("?")
    assert scenario.name == name.rpartition("/")[2]


@pytest.mark.parametrize("name", TASKS)
def test_a_scenario_says_how_to_run_it_and_what_comes_out(name: str) -> None:
    """The comment has the command, the answer, and says of figures where they are from or that they are assumed."""
    text = "\n".join(comment(name))
    assert f"coordsim run scenarios/{name}.yaml" in text
    assert "Answer" in text
    assert "assumed" in text


@pytest.mark.parametrize("name", TASKS)
def test_a_scenario_runs_and_every_second_is_explained(name: str) -> None:
    """Two replications end, every task ends, and the categories of each sum to its T_total."""
    scenario = shipped(name, TASKS[name])
    for replication in (0, 1):
        result = simulate(scenario, replication=replication)
        times = result.elapsed
        assert result.unfinished == 0
        assert len(times) == result.arrived > 0
        parts = np.sum([result.category(category) for category in CATEGORIES], axis=0)
        np.testing.assert_allclose(parts, result.response_times, rtol=1e-9)
        assert sum(result.failures.values()) <= FAILING.get(name, 0.02) * result.arrived


@pytest.mark.parametrize("name", TASKS)
def test_a_scenario_has_no_doubts_about_itself(name: str) -> None:
    """What ships is no bad example."""
    assert shipped(name).doubts() == []


# -- quickstart


@cache
def quickstart(runtime: str) -> Result:
    """Return a run of the quickstart under a runtime."""
    return simulate(shipped("quickstart", 400, runtime=runtime))


def test_quickstart_names_inference_and_has_coordination() -> None:
    """Inference is the largest part of T_total, and a fifth to a half is coordination."""
    result = quickstart("external-orchestrator")
    shares = {category: share(result, category) for category in CATEGORIES}
    assert max(shares, key=lambda category: shares[category]) == "inference"
    assert 0.2 < 1 - shares["inference"] < 0.5
    assert all(shares[category] > 0 for category in ("tool", "context", "queueing", "orchestration", "communication"))


@pytest.mark.parametrize("runtime", ["stateless-api", "session-state", "agent-native", "ideal"])
def test_a_runtime_changes_how_state_moves_and_not_the_work(runtime: str) -> None:
    """Under every runtime the same tasks take the same steps and think the same new tokens, task by task."""
    base, other = quickstart("external-orchestrator"), quickstart(runtime)
    for name in ("steps", "llm_calls", "tool_calls", "tool_errors", "new_tokens", "output_tokens"):
        np.testing.assert_array_equal(base.fact(name), other.fact(name))
    np.testing.assert_allclose(base.category("inference"), other.category("inference"), rtol=1e-9)


def test_what_a_runtime_saves_is_counted_beside_the_seconds() -> None:
    """Sessions send fewer bytes and prefill fewer carried tokens; events need fewer messages than polling."""
    full, session, native = (quickstart(name) for name in ("external-orchestrator", "session-state", "agent-native"))
    assert mean_of(session, "carried_tokens") < 0.3 * mean_of(full, "carried_tokens")
    assert session.category("context").mean() < 0.3 * full.category("context").mean()
    assert mean_of(native, "bytes") < mean_of(session, "bytes") < mean_of(full, "bytes")
    assert mean_of(native, "messages") < mean_of(session, "messages") < mean_of(full, "messages")
    assert native.response_times.mean() < session.response_times.mean() < full.response_times.mean()


# -- cost-of-context


@cache
def costly(turns: int, **changes: str) -> Result:
    """Return a run of the agent that takes so many turns."""
    return simulate(shipped("cost-of-context", 30, workflow__steps__act__repeat=str(turns), **changes))


def test_cost_grows_as_the_square_of_turns_and_time_hardly_faster_than_they() -> None:
    """From 32 turns to 64: nearly four times the cost, less where most of what is sent again is found, and 2.0 to 2.5 times the time."""
    few, many = costly(32), costly(64)
    assert 3.5 < mean_of(many, "cost") / mean_of(few, "cost") < 4
    assert 2.0 < many.response_times.mean() / few.response_times.mean() < 2.5
    found = costly(32, models__llm__cache_hit="90 %"), costly(64, models__llm__cache_hit="90 %")
    assert 2 < mean_of(found[1], "cost") / mean_of(found[0], "cost") < 3.5
    assert 0.7 < 1 - mean_of(found[1], "cost") / mean_of(many, "cost") < 0.8


def test_faster_inference_saves_no_cost_and_leaves_coordination() -> None:
    """Ten times as fast: the same tokens at the same price, less than four times the pace, three quarters of it coordination."""
    slow, fast = costly(32), costly(32, models__llm__speed="10")
    np.testing.assert_allclose(slow.fact("cost"), fast.fact("cost"), rtol=1e-12)
    assert 3 < slow.response_times.mean() / fast.response_times.mean() < 4
    assert 0.7 < 1 - share(fast, "inference") < 0.85


def test_its_study_has_twenty_cells() -> None:
    """Five numbers of turns, with and without a cache, at two speeds."""
    scenario = shipped("cost-of-context")
    study = make_study([scenario], asked(scenario, StudyOptions()))
    assert (len(study.cells), len(study.variants), study.metric) == (20, 20, "cost_mean")


# -- llama-on-h100


@cache
def llama(**changes: str) -> Result:
    """Return a run of the agent on the served model."""
    return simulate(shipped("llama-on-h100", 120, **changes))


def meter(result: Result, name: str) -> float:
    """Return a quantity of the model's server over the whole run."""
    (number,) = [place for place, one in enumerate(result.resources) if one.kind == "server"]
    (found,) = [one for one in result.resources[number].meters if one.name == name]
    totals = result.snapshots[-1].resources[number]
    return totals[found.above] / (result.end if found.below is None else totals[found.below])


def test_a_session_saves_the_prefills_of_what_was_prefilled() -> None:
    """Of ten calls of 6,600 tokens each on an H100, most prefill is of old tokens; with the cache kept hardly any is."""
    stateless, session = llama(), llama(runtime="session-state")
    assert mean_of(stateless, "carried_tokens") > 4 * mean_of(stateless, "new_tokens")
    assert meter(stateless, "prefill_amplification") > 5
    assert meter(session, "prefill_amplification") < 1.05
    assert session.category("context").mean() < 0.1 * stateless.category("context").mean()


def test_prefills_of_old_tokens_cost_the_others_more_than_the_caller() -> None:
    """What a session saves in decoding, which others' prefills hold up, is several times what it saves in its own prefills."""
    stateless, session = llama(), llama(runtime="session-state")
    saved = {name: (stateless.category(name) - session.category(name)).mean() for name in ("inference", "context")}
    assert saved["inference"] > 2 * saved["context"] > 0
    assert meter(session, "tpot_mean") < 0.8 * meter(stateless, "tpot_mean")
    assert meter(session, "ttft_mean") < 0.4 * meter(stateless, "ttft_mean")


def test_a_prefix_cache_with_room_for_all_does_what_a_session_does() -> None:
    """Left to the cache, the same tokens are found as when they are kept, and tasks take as long within 2 %."""
    session, cached = llama(runtime="session-state"), llama(runtime__kv="cache")
    assert mean_of(cached, "cached_tokens") == pytest.approx(mean_of(session, "cached_tokens"), rel=1e-3)
    assert cached.response_times.mean() == pytest.approx(session.response_times.mean(), rel=0.02)


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"profile": "[b200-sxm, cpu-reference]"}, 0.6),
        ({"models__llm__dtype": "fp8", "models__llm__kv_dtype": "fp8"}, 0.8),
    ],
    ids=["B200", "fp8"],
)
def test_a_faster_model_shortens_inference_and_not_tools(changes: dict[str, str], most: float) -> None:
    """On a B200, or in 8 bits, the same tasks spend less on inference, and as much on tools."""
    before, after = llama(), llama(**changes)
    assert after.category("inference").mean() < most * before.category("inference").mean()
    np.testing.assert_allclose(before.category("tool"), after.category("tool"))


# -- sub-50ms-inference


def test_calls_below_50_ms_make_tasks_of_seconds() -> None:
    """No call's service takes 50 ms and 99 % of calls take less with waiting, yet tasks take seconds, a tenth inference."""
    result = simulate(shipped("sub-50ms-inference", 250), spans="all")
    service: dict[tuple[int, int], float] = {}
    for span in result.spans:
        if span.component == "fast" and span.category in ("inference", "context"):
            service[span.task, span.parent] = service.get((span.task, span.parent), 0.0) + span.end - span.start
    calls = [span.end - span.start for span in result.spans if span.name == "chat"]
    assert len(calls) == len(service) > 2000
    assert max(service.values()) < 0.050
    assert np.quantile(calls, 0.99) < 0.050
    assert 2.0 < result.response_times.mean() < 6.0
    assert 0.05 < share(result, "inference") < 0.15
    assert share(result, "communication") > share(result, "inference")


def test_moving_agents_to_the_model_moves_them_away_from_their_tools() -> None:
    """With tools elsewhere, agents beside the model take longer than with sessions, by what the network adds."""
    session, native = (
        simulate(shipped("sub-50ms-inference", 150, runtime=runtime)) for runtime in ("session-state", "agent-native")
    )
    slower = native.response_times.mean() - session.response_times.mean()
    network = native.category("communication").mean() - session.category("communication").mean()
    assert slower > 0.1
    assert slower == pytest.approx(network, rel=0.1)


# -- coordination-paradox


@cache
def paradox(speed: int, induced: bool = False) -> Result:
    """Return a run of the paradox: at every speed the same 80 tasks."""
    name = "coordination-paradox-induced" if induced else "coordination-paradox"
    return simulate(shipped(name, 80, models__llm__speed=str(speed)))


def test_as_inference_gets_faster_coordination_takes_over() -> None:
    """The share of inference falls and that of coordination rises, at every step of the way."""
    inference = [share(paradox(speed), "inference") for speed in SPEEDS]
    assert all(np.diff(inference) < 0)
    assert inference[0] > 0.6
    assert 1 - inference[-1] > 0.9


def test_t_total_saturates_where_amdahl_says() -> None:
    """The gain lies between bounds from the baseline's categories: calls noticed at once, or each a whole tick late."""
    base = paradox(1)
    mean = base.response_times.mean()
    model = base.category("inference").mean() + base.category("context").mean()
    queue = base.category("queueing").mean()
    polls = [i for i, one in enumerate(base.accounts) if (one.component, one.name) == ("llm", "poll")]
    rest = mean - model - queue - sum(base.account(i).mean() for i in polls)
    tick = shipped("coordination-paradox").orchestrator.poll_interval
    assert tick is not None
    late = mean_of(base, "llm_calls") * tick
    gains = [mean / paradox(speed).response_times.mean() for speed in SPEEDS]
    for speed, gain in zip(SPEEDS[1:], gains[1:], strict=True):
        assert mean / (rest + queue + late + model / speed) < gain < mean / (rest + model / speed)
    assert all(np.diff(gains) > 0)
    limit = mean / rest
    assert 0.7 * limit < gains[-1] < limit
    # Saturation: the second tenfold gains far less than the first.
    assert gains[-1] / gains[SPEEDS.index(10)] < 0.5 * gains[SPEEDS.index(10)]


def test_induced_demand_takes_the_gain_back() -> None:
    """At speed 1 nothing differs; above it tasks take more steps and longer, and at 100 times far longer than at 10."""
    np.testing.assert_array_equal(paradox(1, induced=True).response_times, paradox(1).response_times)
    for speed in SPEEDS[1:]:
        more, plain = paradox(speed, induced=True), paradox(speed)
        assert (more.fact("steps") >= plain.fact("steps")).all()
        assert more.response_times.mean() > 1.2 * plain.response_times.mean()
    assert paradox(100, induced=True).response_times.mean() > 1.2 * paradox(10, induced=True).response_times.mean()


# -- coding-agent

# fits.json, `agentcgroup`: per tool mean and quantiles 50, 90, 95 %, in seconds, and how often it fails.
MEASURED = {
    "Bash": (5.018, (1.395, 10.22, 12.44), 0.222),
    "Edit": (0.04277, (0.027, 0.059, 0.072), 0.059),
    "Glob": (0.06526, (0.027, 0.047, 0.059), 0.0),
    "Grep": (0.05414, (0.025, 0.053, 0.05985), 0.00662),
    "Read": (0.07443, (0.015, 0.044, 0.068), 0.0199),
    "TodoWrite": (0.07241, (0.017, 0.043, 0.050), 0.0),
    "Write": (0.07211, (0.0295, 0.061, 0.06695), 0.0328),
}


@cache
def coding_agent() -> Result:
    """Return 1,200 tasks of the coding agent."""
    return simulate(shipped("coding-agent", 1200))


def within(values: Array, expected: float) -> bool:
    """Whether the 99.9 % interval of the mean holds `expected`."""
    half = Z999 * float(values.std(ddof=1)) / len(values) ** 0.5
    return bool(abs(float(values.mean()) - expected) <= half)


@pytest.mark.parametrize("tool", MEASURED)
def test_a_tool_has_the_latency_that_was_measured(tool: str) -> None:
    """The mean is the fit's within 1 %, and the quantiles within 10 %, which a few lognormal parts leave."""
    mean, quantiles, _ = MEASURED[tool]
    latency = shipped("coding-agent").tools[tool].latency
    assert latency.mean == pytest.approx(mean, rel=0.01)
    assert [latency.quantile(q) for q in (0.5, 0.9, 0.95)] == pytest.approx(quantiles, rel=0.1)


def test_tools_are_called_and_fail_as_often_as_measured() -> None:
    """Calls per task are those of the fits, 8,845 tool and 8,103 model calls in 213 runs; 12.5 % of tool calls fail."""
    result = coding_agent()
    tools, errors = result.fact("tool_calls"), result.fact("tool_errors")
    assert within(tools, 8845 / 213)
    assert within(result.fact("llm_calls"), 8103 / 213)
    assert within(errors - 0.125 * tools, 0.0)
    # The test can tell: without `after_error` 11.1 % would fail.
    assert not within(errors - 0.111 * tools, 0.0)


def test_tools_take_the_share_of_time_that_was_measured() -> None:
    """From 36 % to 52 %: what the fits' three large sets of runs show (36 %, 49 %, 52 %), each with another model."""
    assert 0.364 < share(coding_agent(), "tool") < 0.523


def test_tool_times_have_the_heavy_tail_that_was_measured() -> None:
    """The mean of all calls is 50 to 90 times their median: 68 in the runs, where half of the calls look at a file."""
    result = simulate(shipped("coding-agent", 250), spans="all")
    calls = [span.end - span.start for span in result.spans if span.name == "tool.execute"]
    assert 50 < np.mean(calls) / np.median(calls) < 90


def test_the_chain_of_tools_is_that_of_the_fits() -> None:
    """Every row of the chain and every rate of errors is carried over exactly."""
    if not (SHARED / "fits.json").is_file():
        pytest.skip("fits.json is not at hand beside the checkout")
    fits = json.loads((SHARED / "fits.json").read_text(encoding="utf-8"))["agentcgroup"]
    step = load(FOLDER / "coding-agent.yaml").to_data()["workflow"]["steps"]["code"]
    names = {"START": "start", "END": "end", "OTHER": "other"}
    rows = {
        names.get(row, row): {names.get(name, name): weight for name, weight in weights.items()}
        for row, weights in fits["tool_markov"].items()
    }
    assert step["tools"]["markov"] == rows
    for tool, (mean, (p50, p90, p95), failing) in MEASURED.items():
        found = fits["tool_latency_by_name"][tool]
        assert (found["mean"], found["p50"], found["p90"], found["p95"]) == (mean, p50, p90, p95)
        assert found["p_error"] == failing


def test_of_calls_made_at_once_the_last_tells_whether_there_was_an_error() -> None:
    """A call that fails only after an error fails after a batch whose last call did, at once or one after the other."""
    tools = {
        "good": {"latency": "2 s"},
        "bad": {"latency": "1 s", "errors": "100 %"},
        "shaken": {"latency": "1 s", "errors": {"rate": "0 %", "after_error": "100 %"}},
    }
    rows = {"start": {"good": 1}, "good": {"bad": 1}, "bad": {"shaken": 1}, "shaken": {"end": 1}}
    work = steps("work", work={"agent": "a", "calls": 2, "tools": {"markov": rows}})
    for policy in ("synchronous", "overlapped"):
        result = run({"tools": tools, "runtime": {"preset": "ideal", "tools": policy}}, work)
        assert fact(result, "tool_calls") == 3
        assert fact(result, "tool_errors") == 2


# -- replays


def rows_of(path: Path) -> list[tuple[int, int]]:
    """Return the tokens of every row of a trace, read without the reader that is under test."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        if ".jsonl" in path.name:
            found = [json.loads(line) for line in lines]
            return [(row["input_length"], row["output_length"]) for row in found]
        return [(int(row.split(",")[1]), int(row.split(",")[2])) for row in list(lines)[1:]]


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("replay-azure-code", "azure_llm_code_2023.csv.gz", 8819),
        ("replay-azure-code", "", 240),
        ("replay-mooncake", "mooncake_conversation.jsonl.gz", 12_031),
        ("replay-mooncake", "", 240),
    ],
)
def test_a_replay_finishes_every_row_and_loses_no_token(name: str, file: str, count: int) -> None:
    """As many tasks are done as the file has rows, and the tokens of each are those of its row."""
    scenario = shipped(name)
    if file:
        path = SHARED / "workloads" / file
        if not path.is_file():
            pytest.skip(f"{file} is not at hand beside the checkout")
        scenario = shipped(name, workload__arrivals__trace__file=str(path))
    trace = scenario.workload.arrivals.trace
    assert trace is not None
    rows = np.array(rows_of(Path(trace.file)), dtype=np.float64)
    result = simulate(scenario)
    assert len(result.response_times) == len(rows) == count
    assert (result.fact("new_tokens").sum(), result.fact("output_tokens").sum()) == tuple(rows.sum(axis=0))
    np.testing.assert_array_equal(result.fact("new_tokens"), rows[:, 0])
    np.testing.assert_array_equal(result.fact("output_tokens"), rows[:, 1])


def test_recorded_bursts_make_an_idle_server_late() -> None:
    """Though less than 40 % utilized, the server of the Azure replay lets requests wait longer than it works on them."""
    path = SHARED / "workloads" / "azure_llm_code_2023.csv.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not at hand beside the checkout")
    result = simulate(shipped("replay-azure-code", workload__arrivals__trace__file=str(path)))
    busy = result.category("inference").sum() / (4 * result.end)
    assert busy < 0.4
    assert result.category("queueing").mean() > 5 * result.category("inference").mean()
