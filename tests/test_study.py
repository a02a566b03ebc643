"""Studies: which cells there are, that they meet the same draws, what the table holds, and what it says."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models import study as studies
from coordsim.models.scenario import Scenario
from coordsim.models.simulate import simulate
from coordsim.models.study import sweep
from coordsim.models.study_asked import StudyOptions, asked
from coordsim.models.study_cells import make_study
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis.cells import Cell, Outcome
from coordsim.sim.analysis.replicate import Settings, replicate
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.study import StudyResult, run_study
from coordsim.sim.analysis.study_effects import difference, effects, extremes, points
from coordsim.sim.engine.errors import ScenarioError

QUEUE = """
coordsim: 1
name: desk
seed: 11
runtime: ideal
workload: {arrivals: {poisson: 1 / s}, tasks: 60, warmup: 0 s}
replications: 4
agents: {clerk: {model: llm}}
models: {llm: {kind: llm, replicas: 2, prefill: 1 us / token, decode: 1 us / token}}
tools:
  search: {latency: {exponential: {mean: 300 ms}}, concurrency: 2}
  idle: {latency: 1 s, concurrency: 3}
workflow: {start: act, steps: {act: {agent: clerk, tools: {search: 1}}}}
"""


MEAN = "tools.search.latency.exponential.mean"


@pytest.fixture(scope="module")
def desk() -> Scenario:
    """Return a scenario in which a tool with two places makes tasks wait."""
    return Scenario.from_text(QUEUE, "desk.yaml")


@pytest.fixture(scope="module")
def grid(desk: Scenario) -> StudyResult:
    """Return a grid of two factors and two seeds."""
    over = {"tools.search.concurrency": [1, 2], MEAN: ["200 ms", "400 ms", "800 ms"]}
    return sweep(desk, over, seeds=[1, 2], metrics=["p90"])


class Memory:
    """A journal in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, Settings], Outcome] = {}

    def find(self, cell: Cell[Any], settings: Settings) -> Outcome | None:
        """Return an outcome."""
        return self.kept.get((cell.key, cell.seed, settings))

    def keep(self, cell: Cell[Any], settings: Settings, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.kept[cell.key, cell.seed, settings] = outcome


# -- cells and columns


def test_a_row_is_a_cell_of_the_design(grid: StudyResult) -> None:
    """Points in the order of nested loops, each with every seed; factors are numbers in base units."""
    frame = grid.to_frame()
    assert frame["cell"].tolist() == list(range(1, 13))
    assert frame["seed"].tolist() == [1, 2] * 6
    assert frame["tools.search.concurrency"].tolist() == [1] * 6 + [2] * 6
    assert frame[MEAN].tolist() == [0.2, 0.2, 0.4, 0.4, 0.8, 0.8] * 2
    assert set(frame["replications"]) == {4}
    assert set(frame["tasks"]) == {240}
    assert set(frame["status"]) == {"ok"}


def test_columns_have_units_and_meanings(grid: StudyResult) -> None:
    """In the frame's `attrs`, and in the fields of the table for Parquet; the metric asked for is among them."""
    units = grid.to_frame().attrs["units"]
    assert units[MEAN] == units["response_time_p90"] == units["tool_mean"] == "s"
    assert (units["throughput"], units["success"], units["bytes_mean"], units["cost_mean"]) == (
        "1/s",
        "share",
        "B",
        "USD",
    )
    assert units["utilization.tools.search"] == "share"
    assert "cell" not in units
    field = grid.to_table().schema.field("response_time_p90_low")
    assert field.metadata == {b"unit": b"s", b"meaning": b"low end of the 95 % interval"}
    assert all(one.meaning for one in grid.columns)


def test_a_cell_holds_what_a_run_of_its_scenario_gives(desk: Scenario, grid: StudyResult) -> None:
    """To the last digit: mean, interval, and the number of each replication."""
    variant = desk.replace("tools.search.concurrency", 1).replace(MEAN, "800 ms")
    settings = Settings(replications=4, warmup=0.0, metrics=("p90",))
    summary = replicate(simulate, variant, seed=2, settings=settings).summary
    cell = grid.cells[5]
    for name in ("response_time_mean", "response_time_p90", "coordination_share", "throughput"):
        assert cell.estimates[name] == summary.metrics[name]
        assert cell.samples[name] == summary.samples[name]
    assert cell.estimates["tool_mean"] == summary.categories["tool"].seconds


def test_samples_are_a_row_per_cell_replication_and_metric(grid: StudyResult) -> None:
    """Their means are the values of the wide table."""
    long = grid.samples()
    assert list(long.columns) == ["cell", "scenario", "seed", "replication", "metric", "unit", "value"]
    mine = long[long["metric"] == "response_time_mean"]
    assert len(mine) == 12 * 4
    np.testing.assert_allclose(mine.groupby("cell")["value"].mean(), grid.to_frame()["response_time_mean"], rtol=1e-12)


def test_scenarios_may_lack_columns_of_others(desk: Scenario) -> None:
    """A tool that only one uses leaves the other's column empty; the points are the same for both, and names stay apart."""
    both = Scenario.from_text(QUEUE.replace("tools: {search: 1}", "tools: {search: 0.5, idle: 0.5}"), "both.yaml")
    found = sweep([desk, both], {"tools.search.concurrency": [1, 2]}, replications=2)
    assert found.scenarios == ("desk", "desk (2)")
    empty = found.to_frame()["utilization.tools.idle"].isna().tolist()
    assert empty == [True, True, False, False]
    assert found.to_table().column("utilization.tools.idle").null_count == 2
    assert [one.cells for one in points(found, "response_time_mean")] == [(1,), (2,), (3,), (4,)]


def test_values_of_any_kind_are_factors(desk: Scenario) -> None:
    """Mappings and texts stand in the table as YAML writes them, truth values as such; a row may leave a factor as it is."""
    rows = [
        {"workload.arrivals": {"poisson": "2 / s"}, "context.grows": False},
        {"workload.arrivals": {"deterministic": "1 / s"}},
    ]
    found = sweep(desk.replace("study", {"rows": rows, "replications": 2}))
    frame = found.to_frame()
    assert frame["workload.arrivals"].tolist() == ["{poisson: 2 / s}", "{deterministic: 1 / s}"]
    assert frame["context.grows"].tolist() == [False, None]
    assert found.design == "list"


def test_the_slo_may_be_a_factor(desk: Scenario) -> None:
    """Each cell is judged by its own; what is measured is the same."""
    found = sweep(desk, {"slo.p95": ["1 ms", "1 h"]}, replications=3)
    assert [one.verdict for one in found.cells] == ["fail", "pass"]
    assert found.cells[0].samples["response_time_mean"] == found.cells[1].samples["response_time_mean"]
    assert found.to_frame()["verdict"].tolist() == ["fail", "pass"]


# -- common random numbers, effects


def test_all_cells_meet_the_same_draws(desk: Scenario) -> None:
    """A factor that changes nothing changes no digit, and its effect is exactly zero."""
    found = sweep(desk, {"tools.idle.concurrency": [1, 2, 3]})
    assert len({one.samples["response_time_p95"] for one in found.cells}) == 1
    (effect,) = effects(found, "response_time_mean")
    for level in effect.levels[1:]:
        assert level.difference is not None
        gap = level.difference.difference
        assert (gap.value, gap.low, gap.high) == (0, 0, 0)


def test_pairing_narrows_the_difference(grid: StudyResult) -> None:
    """What latency adds is known better than either mean."""
    found = points(grid, "response_time_mean")
    slow, fast = found[4], found[3]
    paired = difference(slow.sample, fast.sample, 0.95)
    assert paired is not None
    assert paired.difference.n == 8
    assert paired.difference.half_width < 0.7 * math.hypot(slow.estimate.half_width, fast.estimate.half_width)


def test_the_main_effect_is_the_mean_over_the_other_factor(grid: StudyResult) -> None:
    """Against the table by hand, over three latencies and two seeds."""
    effect, _ = effects(grid, "response_time_mean")
    frame = grid.to_frame()
    by_hand = frame.groupby("tools.search.concurrency")["response_time_mean"].mean()
    assert [level.mean.value for level in effect.levels] == pytest.approx(by_hand.tolist(), rel=1e-12)
    second = effect.levels[1].difference
    assert second is not None
    assert second.difference.value == pytest.approx(by_hand[2] - by_hand[1], rel=1e-9)
    assert second.difference.high < 0


def test_the_extremes_are_told_for_all_pairs_at_once(grid: StudyResult) -> None:
    """The least is where there are two places and the tool is fast; the interval is wider than that of one pair."""
    ends = extremes(grid, "response_time_mean")
    assert ends is not None
    assert [level.text for level in ends.least.levels] == ["2", "200 ms"]
    assert [level.text for level in ends.most.levels] == ["1", "800 ms"]
    alone = difference(ends.least.sample, ends.most.sample, 0.95)
    assert ends.difference is not None
    assert alone is not None
    assert ends.difference.difference.confidence == pytest.approx(1 - 0.05 / 15)
    assert ends.difference.difference.half_width > alone.difference.half_width


# -- failures and journals


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every run of a scenario with two places fail in its second replication; return the seeds that were run."""
    seen: list[int] = []

    def run(text: str, seed: int, replication: int, spans: str = "none") -> Result:
        seen.append(seed)
        if '"concurrency": 2' in text and replication == 1:
            raise OverflowError("too large for this machine")
        return simulate_text(text, seed, replication, spans)

    monkeypatch.setattr(studies, "simulate_text", run)
    return seen


@pytest.mark.usefixtures("fragile")
def test_a_cell_that_fails_leaves_the_others(desk: Scenario) -> None:
    """It is in the table, without numbers and with its reason; its level's effect is not told."""
    found = sweep(desk, {"tools.search.concurrency": [1, 2, 3], "tools.idle.concurrency": [1, 4]}, replications=2)
    assert [one.status for one in found.cells] == ["ok", "ok", "failed", "failed", "ok", "ok"]
    assert all("too large for this machine" in one.failure for one in found.failed)
    frame = found.to_frame()
    assert frame["response_time_mean"].isna().tolist() == [False, False, True, True, False, False]
    assert frame["failure"].isna().tolist() == [True, True, False, False, True, True]
    (effect,) = effects(found, "response_time_mean")
    assert (effect.factor, effect.left_out) == ("tools.idle.concurrency", 2)
    assert len(points(found, "response_time_mean")) == 4


def test_a_study_goes_on_from_its_journal(desk: Scenario) -> None:
    """Cells that are there are not run again, and the table is the same."""
    given = asked(desk, StudyOptions(over=["tools.search.concurrency=1..4"], replications="2"))
    study = make_study([desk], given)
    journal = Memory()
    whole = run_study(simulate_text, study, journal=journal)
    assert len(journal.kept) == 4
    for key in list(journal.kept)[:2]:
        del journal.kept[key]
    ran: list[str] = []

    def counted(text: str, seed: int, replication: int, spans: str = "none") -> Result:
        ran.append(text)
        return simulate_text(text, seed, replication, spans)

    again = run_study(counted, study, journal=journal)
    assert len(ran) == 4
    assert again.to_frame().equals(whole.to_frame())


# -- mistakes


def test_all_mistakes_come_before_anything_runs(fragile: list[int]) -> None:
    """Each at the line where it was written: paths, values, a range, a row's place, a metric."""
    text = QUEUE + (
        "study:\n"
        "  over:\n"
        "    tools.serch.concurrency: [1, 2]\n"
        "    tools.search.concurrency: [1, zero, 0]\n"
        "    tools.search.latency: {from: -1 s, to: 1 s, steps: 3}\n"
    )
    with pytest.raises(ScenarioError) as error:
        sweep(Scenario.from_text(text, "desk.yaml"))
    found = [(one.line, one.path) for one in error.value.problems]
    assert (16, "tools.serch") in found
    assert found.count((17, "tools.search.concurrency")) == 2
    assert any(line == 18 for line, _ in found)
    assert "did you mean `search`?" in str(error.value)
    assert fragile == []


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ("{over: {seed: [1, 2]}}", "cannot be a factor: give several `seeds`"),
        ("{over: {replications: [1, 2]}}", "cannot be a factor"),
        (
            "{design: zip, over: {tools.search.concurrency: [1, 2], tools.idle.concurrency: [1]}}",
            "`tools.idle.concurrency` has 1",
        ),
        ("{design: list, over: {tools.search.concurrency: [1, 2]}}", "a list has `rows`"),
        ("{design: sobol}", "`over` is missing"),
        ("{rows: [{max_steps: 9}], over: {max_steps: [9]}}", "`over` cannot be given too"),
        ("{over: {max_steps: 9}}", "must be a list of values, or a range"),
        ("{over: {max_steps: {from: 9}}}", "lacks `to`"),
        ("{seeds: [1, 1]}", "must differ"),
        ("{metrics: [p9x], seeds: [1, 2]}", "no such metric"),
    ],
)
def test_a_section_that_cannot_be_says_the_rule(section: str, rule: str) -> None:
    """When the scenario is read."""
    with pytest.raises(ScenarioError) as error:
        Scenario.from_text(f"{QUEUE}study: {section}\n", "desk.yaml")
    assert rule in str(error.value)
    assert all(one.line == 14 for one in error.value.problems)


def test_values_at_odds_with_each_other_are_told_with_their_cell(desk: Scenario) -> None:
    """A mistake that no value has by itself names what was set."""
    over = {"workflow.steps.act.next": ["later"], "tools.search.concurrency": [1, 2]}
    with pytest.raises(ScenarioError) as error:
        sweep(desk, over)
    assert "later" in str(error.value)


def test_too_many_cells_are_counted_and_refused(desk: Scenario) -> None:
    """Without making them."""
    over = {f"tools.{name}.concurrency": list(range(1, 501)) for name in ("search", "idle")}
    with pytest.raises(
        ScenarioError, match=r"makes 500,000 cells \(250,000 points × 2 seeds × 1 scenarios\), and at most 100,000"
    ):
        sweep(desk, over, seeds=[1, 2])


def test_a_study_without_factors_says_how_to_give_them(desk: Scenario) -> None:
    """One scenario, one seed and nothing to vary is a run."""
    with pytest.raises(ScenarioError, match="nothing to vary"):
        sweep(desk)
    assert len(sweep(desk, seeds=[1, 2], replications=1).cells) == 2


def test_a_study_names_other_scenarios_by_file(tmp_path: Path) -> None:
    """Relative to the file that does; both run at every point."""
    from coordsim.models.scenario import load

    (tmp_path / "other.yaml").write_text(QUEUE.replace("name: desk", "name: other"), encoding="utf-8")
    section = "study: {over: {tools.search.concurrency: [1, 2]}, scenarios: [{file: other.yaml}], replications: 1}\n"
    (tmp_path / "desk.yaml").write_text(QUEUE + section, encoding="utf-8")
    assert sweep(load(tmp_path / "desk.yaml")).scenarios == ("desk", "other")


@pytest.mark.parametrize("levels", [(0.95, 0.8), (0.8, 0.95)])
def test_all_cells_have_the_confidence_of_the_first_scenario(desk: Scenario, levels: tuple[float, float]) -> None:
    """The table names one, so scenarios that ask for others are summed up with it too."""
    both = [desk.replace("confidence", level) for level in levels]
    found = sweep(both, {"tools.search.concurrency": [1, 2]}, replications=2)
    assert found.confidence == levels[0]
    assert {one.estimates["response_time_mean"].confidence for one in found.cells} == {levels[0]}


def test_a_section_reads_back_what_it_writes() -> None:
    """Ranges with their units, and lists."""
    section = "study: {design: sobol, over: {tools.search.latency: {from: 100 ms, to: 1 s, scale: log}, max_steps: [5, 9]}, points: 8}\n"
    scenario = Scenario.from_text(QUEUE + section)
    assert Scenario.from_text(scenario.to_yaml()) == scenario


def test_a_utilization_is_paired_like_any_metric(desk: Scenario) -> None:
    """It has a number of each replication, whose mean is its estimate; a second clerk at the desk halves it, pair by pair."""
    found = sweep(desk, {"tools.search.concurrency": [2, 4]})
    name = "utilization.tools.search"
    for cell in found.cells:
        assert len(cell.samples[name]) == 4
        assert min(cell.samples[name]) < cell.estimates[name].value < max(cell.samples[name])
    ends = extremes(found, name)
    assert ends is not None
    assert ends.difference is not None
    assert ends.difference.difference.n == 4
    assert ends.difference.ratio.value == pytest.approx(0.5, rel=0.05)
