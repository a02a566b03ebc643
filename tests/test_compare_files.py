"""Comparisons of two scenarios, and of a declared metric: command and Python, what changed, where the difference comes from."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.compare import compare
from coordsim.models.compare_plan import make_plan
from coordsim.models.scenario import Scenario, load
from coordsim.sim.analysis.compare import Plan, run_plan
from coordsim.sim.analysis.comparison import ComparisonResult
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.result import Result
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summarize import cut_warmup
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.report.compare_tables import report, to_json
from coordsim.sim.report.compare_words import statement
from coordsim.sim.report.layout import lay_out, text
from coordsim.sim.report.numbers import show
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.compare import parts

from . import mm1
from .command import Call
from .pages import page_data
from .scene import scene

SHORT = ("--replications", "3", "--workers", "1", "-q")
BASE = """coordsim: 1
name: {name}
seed: 3
runtime: ideal
workload: {{arrivals: {{poisson: 0.005 / s}}, tasks: 12}}
agents: {{a: {{model: llm, output: {{lognormal: {{median: 50 tokens, p95: 200 tokens}}}}}}}}
models: {{llm: {{kind: llm, decode: {decode}, replicas: {replicas}}}}}
tools: {{search: {{latency: 90 s}}}}
workflow:
  start: act
  steps: {{act: {{agent: a, tools: {{search: 1}}, repeat: 2}}}}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Write two scenarios that differ in the model: its speed and its replicas."""
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(BASE.format(name="slow", decode="100 ms / token", replicas=1), encoding="utf-8")
    other.write_text(BASE.format(name="fast", decode="20 ms / token", replicas=2), encoding="utf-8")
    return one, other


@pytest.fixture(scope="module")
def found() -> ComparisonResult:
    """Compare two scenarios in Python."""
    first = Scenario.from_text(BASE.format(name="slow", decode="100 ms / token", replicas=1))
    return compare(first, first.replace("models.llm.decode", "20 ms / token"), replications=3)


def test_two_files_are_compared(call: Call, files: tuple[Path, Path]) -> None:
    """The verdict, what changed with the units of the files, each change alone and last, and the tasks one by one."""
    done = call("compare", *files, *SHORT)
    assert (done.code, done.err) == (0, "")
    assert "slow (A) against fast (B)" in done.out
    assert re.search(r"fast saves .* a task", done.out)
    words = " ".join(done.out.split())
    assert "models.llm.replicas 1 2 models.llm.decode 100 ms / token 20 ms / token" in words
    assert "The saving by part" in done.out
    assert "tasks that got slower" in done.out
    data = json.loads(call("compare", *files, *SHORT, "--format", "json").out)
    assert [one["policy"] for one in data["ablation"]["switches"]] == ["models.llm"]
    assert data["ablation"]["interaction"]["value"] == pytest.approx(0, abs=1e-9)
    assert [one["path"] for one in data["changes"]] == ["models.llm.replicas", "models.llm.decode"]


def test_two_scenarios_of_one_name_are_called_by_what_differs() -> None:
    """Both by their runtimes if nothing else differs, B by its one value if short, else `the other`; only what is the same comes `again`."""
    slow, fast = pair()
    stateless, session = (slow.replace("runtime", name) for name in ("stateless-api", "session-state"))
    names = [make_plan(slow, other).names for other in (fast, fast.replace("tools.search.latency", "80 s"), slow)]
    assert names == [
        ("slow", "slow with models.llm.decode=20 ms / token"), ("slow", "the other"), ("slow", "slow again"),
    ]  # fmt: skip
    assert make_plan(stateless, session).names == ("stateless-api", "session-state")


def test_the_scenarios_of_both_files_are_kept(call: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    """A's and B's, each as it was read: B's is written again, not left from before, and only where there is a B."""
    folder = tmp_path / "out"
    for overwrite in ((), ("--overwrite",)):
        assert call("compare", *files, *SHORT, "--no-ablate", "-o", folder, *overwrite).code == 0
        a, b = (load(folder / name) for name in ("scenario.resolved.yaml", "scenario.b.resolved.yaml"))
        assert (a.name, b.name) == ("slow", "fast")
        assert make_plan(a, b).main == make_plan(*(load(one) for one in files)).main
    alone = tmp_path / "alone"
    assert call("compare", files[0], "--with", "models.llm.replicas=2", *SHORT, "--no-ablate", "-o", alone).code in (
        0,
        4,
    )
    assert not (alone / "scenario.b.resolved.yaml").exists()


def test_an_interrupt_reports_over_the_pairs_that_are_complete(
    call: Call, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the third pair of four: two pairs are told of and written, marked as interrupted."""
    from coordsim.models import simulate as module

    count, real = 0, module.simulate

    def simulate(*arguments: Any) -> Result:
        nonlocal count
        count += 1
        if count > 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "simulate", simulate)
    done = call("compare", *files, "--replications", "4", "--workers", "1", "-q", "-o", tmp_path / "out")
    assert done.code == 130
    assert "over 2 replications" in " ".join(done.out.split())
    assert "Interrupted: what was not complete is missing." in done.out
    assert re.search(r"interrupted; 5 of \d+ runs are complete: what they tell is above", done.err)
    data = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert (data["interrupted"], data["replications"], len(data["saving"]["samples"])) == (True, 2, 2)


def test_the_declared_metric_has_a_row_even_where_nothing_was_observed(call: Call, files: tuple[Path, Path]) -> None:
    """No model of these tells a time to first token: a row without numbers, and no verdict that they are the same."""
    done = call("compare", *files, *SHORT, "--no-ablate", "--metric", "ttft_p95")
    assert done.code == 4
    words = " ".join(done.out.split())
    assert "Not resolved: time to first token, all calls, p95 was observed under neither." in words
    assert "time to first token, all calls, p95 – – –" in words
    assert "to the last digit" not in words
    done = call("compare", *files, *SHORT, "--no-ablate", "--metric", "recovery_mean")
    assert re.search(r"^ +recovery.* mean +0 s +0 s +0 s", done.out, re.MULTILINE)


def test_a_row_has_one_unit(found: ComparisonResult) -> None:
    """A small difference of rates or times is told in the unit of both sides; a tiny one alone has its own."""
    table = next(one for one in report(found).tables if one.title == "What differs")
    for row in table.rows:
        units = {cell.partition(" ")[2] for cell in row[1:4]} - {""}
        assert len(units) <= 1, row
    half = Estimate(0.002, -0.007, 0.011, 0.95, 3, "t")
    assert show(half, "1/s", 0.3).text == "0.0020 / s ± 0.0090"
    assert show(half, "1/s").text == "0.12 / min ± 0.54"
    assert show(Estimate(2e-5, 1e-5, 3e-5, 0.95, 3, "t"), "s", 7.0).text == "20 µs ± 10"


def test_an_interval_of_rounding_is_none() -> None:
    """100 ms but for the last bits."""
    assert show(Estimate(0.1, 0.1 - 3e-15, 0.1 + 3e-15, 0.95, 3, "t"), "s").text == "100 ms ± 0"


def test_a_part_that_is_a_mapping_is_shown_as_yaml() -> None:
    """A distribution on one line where that is short; longer ones are counted, one value as one."""
    slow, _ = pair()
    changes = {"tools.search.latency": {"lognormal": {"median": "80 s", "p95": "2 min"}}, "models.llm.replicas": 2}
    one = compare(slow, changes=changes, replications=2)
    assert one.variant == "tools.search.latency={lognormal: {median: 80 s, p95: 2 min}}, models.llm.replicas=2"
    assert one.ablation is not None
    first = one.ablation.switches[0]
    assert (first.baseline, first.variant) == ("1.5 min", "{lognormal: {median: 80 s, p95: 2 min}}")
    again = slow.replace("tools.search", {"latency": "80 s"})
    two = compare(slow, changes={"tools.search": {"latency": "80 s"}}, replications=2)
    assert make_plan(slow, again).switches is not None
    assert two.ablation is not None
    assert {two.ablation.switches[0].baseline, two.ablation.switches[0].variant} == {"1 value"}


def test_set_and_over_hold_for_both_files(call: Call, files: tuple[Path, Path]) -> None:
    """With the model's speed set in both, what is left is the number of replicas, at each point of the grid."""
    more = ("--set", "models.llm.decode=50 ms / token", "--over", "workflow.steps.act.repeat=1,2", "--format", "json")
    done = call("compare", *files, *SHORT, *more)
    data = json.loads(done.out)
    assert [one["path"] for one in data["changes"]] == ["models.llm.replicas"]
    assert [one["policy"] for one in data["ablation"]["switches"]] == ["models.llm.replicas"]
    assert len(data["region"]["points"]) == 2
    switch = data["ablation"]["switches"][0]
    assert switch["alone"]["amount"] == switch["last"]["amount"] == data["saving"]["amount"]


def test_a_file_against_itself_differs_in_nothing(call: Call, files: tuple[Path, Path]) -> None:
    """Every difference in the JSON is exactly 0 with an interval of no width, and the verdict is `none`."""
    done = call("compare", files[0], files[0], *SHORT, "--format", "json", "--set", "tools.search.errors=20 %")
    data = json.loads(done.out)
    assert (done.code, data["saving"]["verdict"], data["changes"]) == (0, "none", [])
    differences = [one["difference"] for one in data["metrics"]] + [one["saving"] for one in data["categories"]]
    differences += [data["saving"]["amount"], data["saving"]["share"], data["total"]["saving"]]
    differences += list(data["tasks"]["quantiles"].values())
    assert len(differences) > 15
    assert {(one["value"], one["low"], one["high"]) for one in differences} == {(0.0, 0.0, 0.0)}
    assert {one["p_value"] for one in data["metrics"] + data["categories"]} == {1.0}


def test_with_a_seed_of_its_own_a_file_differs_from_itself_by_chance(call: Call, files: tuple[Path, Path]) -> None:
    """Not resolved, exit code 4, and Welch's interval around a difference that is not 0; no task is paired with another."""
    done = call("compare", files[0], files[0], *SHORT, "--unpaired", "--seed-b", "9", "--format", "json")
    data = json.loads(done.out)
    assert (done.code, data["saving"]["verdict"]) == (4, "not resolved")
    assert (data["seed"], data["seed_b"], data["paired"], data["tasks"]) == (3, 9, False, None)
    amount = data["saving"]["amount"]
    assert amount["method"] == "Welch"
    assert amount["low"] < 0 < amount["high"]
    assert amount["value"] != 0
    assert data["saving"]["more"] == data["saving"]["needed"] - 3


def test_a_mistake_in_the_second_file_is_told_with_its_place(call: Call, files: tuple[Path, Path]) -> None:
    """File, line and column; and a file that is not there."""
    files[1].write_text(files[1].read_text(encoding="utf-8").replace("latency: 90 s", "latncy: 90 s"), encoding="utf-8")
    done = call("compare", *files, *SHORT)
    assert (done.code, done.out) == (2, "")
    assert f"{files[1]} has 1 mistake" in done.err
    assert re.search(r"8:18 +tools\.search\.latncy: no such field; did you mean `latency`", done.err)
    assert "no such file" in call("compare", files[0], "nowhere.yaml", *SHORT).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--with", "seed=1"), "--with  cannot be given with two scenarios"),
        (("--runtime", "ideal", "--runtime", "agent-native"), "--runtime  cannot be given with two scenarios"),
        (("--metric", "p200"), "--metric p200"),
        (("--metric", "serch_mean"), "no such metric"),
        (("--metric", "pass_at_2"), "needs `workload.problems`"),
        (("--seed-b", "3"), "must differ from the seed, 3"),
        (("--over", "tools.search.latency=fast"), "--over"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    call: Call, files: tuple[Path, Path], arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, before anything runs."""
    done = call("compare", *files, *SHORT, *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("p95", r"saves [\d.,]+ m?s of [\d.,]+ m?s .* in T_total, p95\."),
        ("inference_mean", r"saves .* in inference mean\."),
        ("max", r"saves .* in T_total, max"),
        ("cost_mean", r"No saving: .* have the same cost, mean to the last digit\."),
        ("success", r"Not resolved: .* in success"),
    ],
)
def test_the_verdict_is_on_the_declared_metric(metric: str, said: str) -> None:
    """In its unit and words; the categories stay those of T_total."""
    first = Scenario.from_text(BASE.format(name="slow", decode="100 ms / token", replicas=1))
    one = compare(
        first, first.replace("models.llm.decode", "20 ms / token"), metric=metric, replications=3, ablate=False
    )
    assert re.search(said, statement(one)), statement(one)
    assert one.total.saving.value == pytest.approx(sum(part.saving.value for part in one.categories), abs=1e-9)
    shown = {row.name: row for row in one.metrics}.get(one.metric)
    if shown is not None:
        assert shown.difference.value == pytest.approx(one.saving.amount.value * (1 if one.more_is_better else -1))


def test_more_throughput_is_a_saving() -> None:
    """Of what there should be more of, B minus A: a closed loop that waits half as long does more, and the other way loses."""
    slow = scene(
        {"workload": {"arrivals": {"closed": {"users": 1}}, "tasks": 20}}, {"models": {"llm": {"overhead": "2 s"}}}
    )
    fast = slow.replace("models.llm.overhead", "1 s")
    gain, loss = (
        compare(*pair, metric="throughput", replications=2, ablate=False) for pair in ((slow, fast), (fast, slow))
    )
    assert (gain.saving.verdict, loss.saving.verdict) == ("saves", "costs")
    assert gain.saving.share.value == pytest.approx(1.0, rel=0.1)
    assert re.search(r" gains 0\.5\d* / s on 0\.5\d* / s .* in throughput\.", statement(gain))
    assert " loses " in statement(loss)


def test_success_with_few_failures_has_a_sane_interval() -> None:
    """A few failures in a hundred tasks against none: the interval of the difference is wide and within -1 and 1, and p is no proof."""
    shops = {name: mm1.Queue(servers=9, tasks=20, fails=fails) for name, fails in (("a", 0.04), ("b", 0.0))}
    plan = Plan("shop", ("a", "b"), shops, ("a", "b"), metric="success")
    one = run_plan(mm1.simulate, plan, seed=1, settings=Settings(replications=5, warmup=None))
    row = {row.name: row for row in one.metrics}["success"]
    assert row.difference.method == "Newcombe"
    assert 0 < row.difference.value < 0.1
    assert -1 < row.difference.low < 0 < row.difference.high < 1
    assert 0.05 < row.p_value <= 1
    assert one.saving.verdict == "not resolved"
    assert one.saving.amount == row.difference


def test_tasks_that_differ_are_compared_by_replication() -> None:
    """Another request makes the n-th task another one: no table task by task, and a note says why."""
    first = scene({"workload": {"tasks": 5, "request": "100 tokens"}})
    one = compare(first, first.replace("workload.request", "200 tokens"), replications=2)
    assert one.tasks is None
    assert "not task by task" in text(lay_out(report(one)))


def test_too_many_parts_are_not_switched_one_by_one() -> None:
    """Nine tools that differ: no ablation, and a note; the changes are all in the JSON, and 25 of them in the report."""
    tools = {f"t{n}": {"latency": "1 s", "concurrency": 3, "burst": 1} for n in range(9)}
    other = {name: one | {"latency": "2 s", "concurrency": 4, "invoke": "1 s"} for name, one in tools.items()}
    one = compare(scene({"tools": tools}), scene({"tools": other}), replications=2)
    assert one.ablation is None
    assert len(one.changes) == 27
    said = text(lay_out(report(one)))
    assert "9 parts differ: too many" in said
    assert "and 2 more; JSON has them all" in said
    assert json.loads(to_json(one))["changes"][26]["path"].startswith("tools.t8.")


def test_what_one_scenario_lacks_is_shown_as_missing() -> None:
    """A tool that only B has is one row, and is switched whole."""
    one = compare(scene(), scene({"tools": {"t": {"latency": "1 s"}}}), replications=2)
    (change,) = one.changes
    assert (change.path, change.baseline) == ("tools.t", "")
    assert one.ablation is not None
    assert [switch.policy for switch in one.ablation.switches] == ["tools.t"]


def test_the_report_has_signed_bars(found: ComparisonResult) -> None:
    """What is saved is to the right of the axis, and what is lost to its left."""
    table = next(one for one in report(found).tables if one.title.startswith("The saving by category"))
    bars = {row[0]: row[-1] for row in table.rows}
    assert bars["inference"].endswith("│████████")
    slow, fast = pair()
    back = compare(fast, slow, replications=3)
    table = next(one for one in report(back).tables if one.title.startswith("The saving by category"))
    assert {row[0]: row[-1] for row in table.rows}["inference"].endswith("████████│")


def pair() -> tuple[Scenario, Scenario]:
    """Return the two scenarios of `found`."""
    first = Scenario.from_text(BASE.format(name="slow", decode="100 ms / token", replicas=1))
    return first, first.replace("models.llm.decode", "20 ms / token")


def test_the_page_is_written_with_the_rest(call: Call, files: tuple[Path, Path], tmp_path: Path) -> None:
    """`-o` holds report.html; CSV has the declared metric and T_total, in their units."""
    folder = tmp_path / "out"
    assert call("compare", *files, *SHORT, "--no-ablate", "--metric", "throughput", "-o", folder).code in (0, 4)
    assert page_data(folder / "report.html")["charts"]
    with (folder / "comparison.csv").open() as stream:
        rows = {(row["table"], row["name"], row["quantity"]): row["unit"] for row in csv.DictReader(stream)}
    assert rows["comparison", "throughput", "saving"] == "1/s"
    assert rows["categories", "T_total", "saving"] == "s"


def test_a_variant_that_a_grid_cannot_have_is_told_once(files: tuple[Path, Path]) -> None:
    """Both sides refuse the value, and the mistake is one."""
    a, b = (load(one) for one in files)
    with pytest.raises(ScenarioError) as caught:
        compare(a, b, over={"models.llm.replicas": [1, 0]})
    assert len(caught.value.problems) == 1


def test_a_variant_of_which_nothing_was_observed_is_told(root: Path) -> None:
    """B's tasks all come before the warm-up that A asks for: no number of B, none of the differences, and the reason."""
    first = scene({"workload": {"arrivals": {"deterministic": "1 / s"}, "tasks": 200, "warmup": "60 s"}})
    second = first.replace("workload.arrivals", {"deterministic": "10 / s"}).replace("models.llm.overhead", "1 s")
    one = compare(first, second, replications=2)
    assert statement(one) == "Not resolved: T_total, mean was not observed under the other."
    said = text(lay_out(report(one)))
    assert "came before the warm-up ended, and counts for nothing" in " ".join(said.split())
    assert not re.search(r"\bnan\b|\binf\b|success .* (may be chance|1\.000)", said)
    assert one.saving.verdict == "not resolved"
    assert all(part.answer for part in parts(one, Provenance("s", "", "", 1, "coordsim compare s", {})))
    assert '"verdict": "not resolved"' in to_json(one)
    assert "observed under neither" in statement(
        compare(second, second.replace("models.llm.overhead", "2 s"), replications=2)
    )


@pytest.mark.parametrize("same_tasks", [True, False])
def test_tasks_that_differ_have_each_their_own_warmup(same_tasks: bool) -> None:
    """Where one time is of different tasks under both, means are those of each alone; of the same tasks, one time holds for both."""
    shops = {"a": mm1.Queue(arrival_rate=0.9, tasks=300), "b": mm1.Queue(arrival_rate=8, service_rate=10, tasks=300)}
    plan = Plan("shop", ("a", "b"), shops, ("a", "b"), same_tasks=same_tasks)
    one = run_plan(mm1.simulate, plan, seed=2, settings=Settings(replications=4, warmup="auto"))
    alone = [cut_warmup([mm1.simulate(shop, 2, n) for n in range(4)], "auto")[1] for shop in shops.values()]
    means = [float(np.mean([run.response_times.mean() for run in runs])) for runs in alone]
    assert (one.tasks is None) is not same_tasks
    found = [one.saving.baseline.value, one.saving.variant.value]
    assert (found == pytest.approx(means, rel=1e-12)) is not same_tasks


def test_the_grid_of_a_section_is_that_of_its_scenario_alone(call: Call, files: tuple[Path, Path]) -> None:
    """Compared with another scenario, only the grid of `--over` is made: what A's has need not be in B."""
    with files[0].open("a", encoding="utf-8") as stream:
        stream.write("compare: {runtime: agent-native, over: {tools.search.latency: [1 s, 2 s]}}\n")
    files[1].write_text(files[1].read_text(encoding="utf-8").replace("search", "find"), encoding="utf-8")
    done = call("compare", *files, *SHORT, "--no-ablate", "--format", "json")
    assert json.loads(done.out)["region"] is None, done.err
    assert compare(load(files[0]), load(files[1]), replications=2, ablate=False).region is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("quickstart", "sub-50ms-inference"),
        ("provider-outage", "retry-storm"),
        ("replay-azure-code", "checkpointing"),
        ("theory/mm1", "theory/closed-mva"),
        ("gpu-resident", "debate"),
    ],
)
def test_scenarios_with_nothing_in_common_are_compared(call: Call, root: Path, a: str, b: str) -> None:
    """Other agents, tools, models, workloads and faults: every number is one, and every sentence has its words."""
    done = call("compare", *(root / "scenarios" / f"{one}.yaml" for one in (a, b)), "--tasks", "10", *SHORT)
    assert done.code in (0, 4), done.err
    assert re.search(r"saves|costs|Not resolved|No saving", done.out)
    assert not re.search(r"\bnan\b|\binf\b|e[+-]\d\d", done.out)
    assert "compared by replication, and not task by task" in " ".join(done.out.split())
