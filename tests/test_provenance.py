"""Every line of a resolved scenario has its source, every input its quality, and a command only what changes a number."""

import shlex
from pathlib import Path

import numpy as np
import pytest

import coordsim as cs
from coordsim.models.options import overrides, read_scenario
from coordsim.models.provenance import DEFAULT, PYTHON, STATED, call_of, canonical, loaded, provenance
from coordsim.models.scenario import Scenario
from coordsim.sim.report import shipped
from coordsim.sim.report.page.parts import Missing
from coordsim.sim.report.page.provenance import Line, Provenance
from coordsim.sim.report.sections.further import command_for, ready, scenario_of, why_not
from coordsim.sim.report.stored import dump, parse

TEXT = """\
coordsim: 1
name: desk
seed: 3
runtime: stateless-api
workload:
  arrivals: {poisson: 2 / s}
  tasks: 60
agents: {clerk: {model: llm, output: 10 tokens}}
models:
  llm: {kind: llm, replicas: 1, concurrency: 1, decode: 10 ms / token}
tools:
  search: {latency: 20 ms, errors: 10 %}
workflow: {start: work, steps: {work: {agent: clerk, tools: {search: 1}, next: done}}}
slo: {p95: 1 s}
"""


def lines(source: Provenance) -> dict[str, Line]:
    """Return lines by their text, the first of each."""
    found: dict[str, Line] = {}
    for one in source.lines:
        found.setdefault(one.text.strip(), one)
    return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scenario in a file of the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desk.yaml").write_text(TEXT)
    return tmp_path / "desk.yaml"


def test_what_is_given_has_its_line(desk: Path) -> None:
    """By the file and line, by --set, or by the option that sets it; in other words, too; what is not said is filled in."""
    scenario = read_scenario(desk, ["models.llm.replicas=2"], overrides(9, 30, None, None))
    words = ["run", "desk.yaml", "--set", "models.llm.replicas=2", "--seed", "9", "--tasks", "30", "-o", "out"]
    found = lines(provenance(scenario, canonical(words)))
    for text, given, source in (
        ("name: desk", True, "desk.yaml:2"),
        ("seed: 9", True, "--seed"),
        ("tasks: 30", True, "--tasks"),
        ("replicas: 2", True, "--set"),
        ("preset: stateless-api", True, "desk.yaml:4"),
        ("poisson: 2 / s", True, "desk.yaml:6"),
        ("constant: 20 ms", True, "desk.yaml:12"),
        ("rate: 10 %", True, "desk.yaml:12"),
        ("state: full", False, "preset stateless-api"),
        ("dtype: bf16", False, DEFAULT),
        ("confidence: 95 %", False, DEFAULT),
        ("workload:", True, ""),
        ("recovery:", False, ""),
    ):
        assert (found[text].given, found[text].source) == (given, source), text


def test_the_text_is_that_of_the_resolved_scenario(desk: Path) -> None:
    """Line by line, for every scenario that ships, too: nothing is lost, and what is given is less than all."""
    found = provenance(read_scenario(desk, []), "")
    assert "\n".join(one.text for one in found.lines) + "\n" == read_scenario(desk, []).to_yaml()
    for name in ("quickstart", "voice-assistant", "coding-agent", "replay-azure-code"):
        source = provenance(cs.load(name), "")
        given = sum(one.given for one in source.lines)
        assert 0.2 < given / len(source.lines) < 0.8
        if not source.data:
            assert Scenario.from_text("\n".join(one.text for one in source.lines)).hash == source.sha256


def test_a_number_replaced_in_python_says_so(desk: Path) -> None:
    """Without a file a value is stated; the call that repeats the answer replaces the same values."""
    scenario = cs.load(desk).replace("tools.search.latency", "1 s")
    found = lines(provenance(scenario, "coordsim.simulate(...)"))
    assert (found["constant: 1 s"].given, found["constant: 1 s"].source) == (True, PYTHON)
    stated = lines(provenance(Scenario.model_validate(cs.load(desk).to_data()), ""))
    assert stated["name: desk"].source == STATED
    assert loaded(scenario) == "coordsim.load('desk.yaml').replace('tools.search.latency', '1 s')"
    assert loaded(cs.load("quickstart")) == "coordsim.load('quickstart')"


def test_inputs_have_their_quality() -> None:
    """Profiles with their sources and intervals, traces, stated values; what is measured comes first."""
    source = provenance(cs.load("replay-mooncake"), "")
    qualities = [one.quality for one in source.inputs]
    assert qualities == sorted(qualities, key=("measured", "imported", "assumed").index)
    assert "imported" in qualities
    trace = next(one for one in source.inputs if one.name.endswith(".jsonl"))
    assert trace.quality == "imported"
    assert source.data == ("scenarios/data/synthetic-mooncake.jsonl",)
    assert any("held-out points" in one.source for one in source.inputs if one.name.startswith("profile "))
    numbers = [sum(one.given is given and bool(one.source) for one in source.lines) for given in (True, False)]
    assumed = [one.name for one in source.inputs if one.quality == "assumed"]
    assert assumed == [f"{numbers[0]} values stated", f"{numbers[1]} filled in"]
    assert str(shipped.folder()) not in repr(source)


def test_objectives_rate_and_versions_are_as_the_scenario_has_them(desk: Path) -> None:
    """Thresholds in base units, the arrival rate, the hash of the scenario, and the versions of what computes."""
    scenario = cs.load(desk)
    source = provenance(scenario, "coordsim run desk.yaml")
    assert (source.rate, source.objectives, source.seed) == (2.0, (("p95", 1.0, "<="),), 3)
    assert (source.sha256, source.runtime) == (scenario.hash, "stateless-api")
    assert set(source.versions) == {"coordsim", "python", "numpy", "simpy"}
    other = scenario.replace("name", "counter")
    both = provenance(scenario, "coordsim compare desk.yaml counter.yaml", [other])
    assert both.beside == (("counter", other.hash),)
    assert both.title == "desk and counter"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("run a.yaml -o out --overwrite", "run a.yaml"),
        ("run a.yaml -oout -q --seed 3", "run a.yaml --seed 3"),
        ("run a.yaml -qo out --set x=1", "run a.yaml --set x=1"),
        ("plan a.yaml --out=out --workers=2 --slo 'p95=2 s' --resume", "plan a.yaml --slo 'p95=2 s'"),
        ("sweep a.yaml --backend dask --scheduler tcp://x:1 --format md", "sweep a.yaml"),
        ("run a.yaml --show-task p99 --check-slo --spans all", "run a.yaml --spans all"),
    ],
)
def test_a_command_keeps_only_what_changes_a_number(words: str, kept: str) -> None:
    """Where it writes, who computes and how it prints are left out, however they are written."""
    assert canonical(shlex.split(words)) == f"coordsim {kept}"


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/home/me/a.yaml", ".../a.yaml"),
        ("--daily=/home/me/day.csv", "--daily=.../day.csv"),
        ("workload.arrivals={trace: {file: /home/me/x.csv}}", "workload.arrivals={trace: {file: .../x.csv}}"),
        ("workload.arrivals.poisson=2 / s", "workload.arrivals.poisson=2 / s"),
        (str(shipped.folder() / "quickstart.yaml"), "quickstart"),
    ],
)
def test_a_command_does_not_tell_whose_machine_it_was(word: str, kept: str, desk: Path) -> None:
    """A file is named from the working directory, one that ships by its name, and another by its name without its folders."""
    assert canonical(["plan", word]) == shlex.join(["coordsim", "plan", kept])
    assert canonical(["plan", str(desk)]) == "coordsim plan desk.yaml"


def test_a_scenario_elsewhere_is_told_without_its_folders(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call in Python has three dots in place of them, and what is replaced in it keeps its order, what is deleted, too."""
    (desk.parent / "other").mkdir()
    monkeypatch.chdir(desk.parent / "other")
    assert loaded(cs.load(desk)) == "coordsim.load('.../desk.yaml')"
    gone = cs.load(desk).replace("tools.search.errors", "3 %").replace("slo", None)
    assert loaded(gone).endswith(".replace('tools.search.errors', '3 %').replace('slo', 'null')")
    both = gone.replace("tools.search", "{errors: 1 %, latency: 1 s}").replace("tools.search.errors", "2 %")
    assert loaded(both).endswith(
        ".yaml').replace('slo', 'null').replace('tools.search', '{errors: 1 %, latency: 1 s}').replace('tools.search.errors', '2 %')"
    )


def test_an_argument_is_written_only_if_it_is_plain_data(desk: Path) -> None:
    """Numbers of numpy are numbers; an object whose text would be an address is three dots."""
    options = {"seed": np.int64(3), "precision": np.float64(0.5), "over": {"a": (1, "b")}, "spec": cs.load(desk).agents}
    written = call_of("simulate", cs.load(desk), {**options, "progress": print, "make": object()})
    assert " at 0x" not in written
    assert "seed=3, precision=0.5, over={'a': [1, 'b']}, spec={'clerk': {'model': 'llm'" in written
    assert written.endswith("make=...)")


def test_the_seed_is_that_of_the_answer(desk: Path) -> None:
    """A call gives another than the scenario's, or several, and they are told with the answer."""
    scenario = cs.load(desk)
    assert cs.simulate(scenario, seed=777, replications=1)._stored().source.seed == 777
    several = cs.sweep(scenario, {"models.llm.replicas": [1, 2]}, seeds=[11, 12], replications=1)._stored()
    assert several.source.seed == "11, 12"
    assert parse(dump(several.kind, several.found, several.source)).source.seed == "11, 12"
    apart = cs.compare(scenario, "stateless-api", "agent-native", paired=False, seed_b=9, replications=2)
    assert apart._stored().source.seed == "3, 9"


def test_further_commands_are_about_the_same_scenario(desk: Path) -> None:
    """With what was set, from a command and from Python; with options that are needed, unless the scenario has a section."""
    asked = provenance(cs.load(desk), "coordsim compare desk.yaml --set 'tools.search.latency=2 s'")
    assert scenario_of(asked) == "desk.yaml --set 'tools.search.latency=2 s'"
    plan = command_for("plan", asked)
    assert plan.endswith("--decide models.llm.replicas=1..8 -o runs/desk-plan")
    assert "--runtime stateless-api --runtime agent-native" in command_for("compare", asked)
    called = cs.load(desk).replace("tools.search.latency", "2 s")
    assert scenario_of(provenance(called, f"coordsim.simulate({loaded(called)})")) == scenario_of(asked)
    mmc = provenance(cs.load("capacity/mmc"), "coordsim run capacity/mmc")
    assert command_for("plan", mmc) == "coordsim plan capacity/mmc -o runs/mmc-plan"


def test_what_cannot_answer_is_not_suggested(desk: Path) -> None:
    """No other runtime where coordination is free, no sweep where there is nothing to sweep: the reason is told."""
    mmc = provenance(cs.load("capacity/mmc"), "coordsim run capacity/mmc")
    assert "no other runtime can save" in why_not("compare", mmc)
    assert "nothing to sweep" in why_not("scaling", mmc)
    quick = provenance(cs.load("quickstart"), "coordsim run quickstart")
    assert why_not("compare", quick) == why_not("scaling", quick) == ""
    assert "--over steps=1..16" in command_for("scaling", quick)


def test_each_suggestion_has_a_folder_of_its_own(desk: Path) -> None:
    """Of the scenario and what is asked, numbered; a limit that nobody gave is called an example."""
    source = provenance(cs.load(desk), "coordsim run desk.yaml")
    taken: set[str] = set()
    first = ready(Missing("a", "coordsim faults desk.yaml"), source, taken)
    second = ready(Missing("b", "coordsim faults desk.yaml --handling -o DIR"), source, taken)
    assert first == Missing("a", "coordsim faults desk.yaml -o runs/desk-faults")
    assert second == Missing("b", "coordsim faults desk.yaml --handling -o runs/desk-faults-2")
    plan = ready(Missing("c", "coordsim plan desk.yaml --slo 'p95=30 s' -o runs/desk-plan"), source, taken)
    assert plan.what == "c, with your own limit in place of p95=30 s"
    other = Missing("d", "coordsim calibrate NAME")
    assert ready(other, source, taken) is other
