"""The command `coordsim scaling`: formats, files, exit codes, mistakes, and the page that describes it."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from coordsim.models.scaling import make_plan
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis import scaling as sweeping
from coordsim.sim.analysis.result import Result

from .command import Call
from .pages import outside, page_data

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUIET = ("--workers", "1", "--quiet")
COPILOT = """
coordsim: 1
name: senses
seed: 3
runtime: ideal
workload: {arrivals: {deterministic: 0.001 / s}, tasks: 5}
replications: 3
models: {llm: {kind: llm}}
modalities:
  text: {kind: text}
  record: {kind: structured}
  image: {kind: vision, encoder: eye}
encoders: {eye: {replicas: 100, latency: {exponential: {mean: 20 ms}}}}
workflow:
  start: look
  steps:
    look: {perceive: [text, record, image], align: {pairwise: {each: 10 ms}}}
"""
LINEAR = """
coordsim: 1
name: steps
seed: 3
runtime: {preset: ideal, dispatch: every-step}
workload: {arrivals: {deterministic: 0.001 / s}, tasks: 5}
replications: 20
models: {llm: {kind: llm}}
agents: {a: {model: llm}}
orchestrator: {dispatch: {exponential: {mean: 10 ms}}}
workflow: {start: act, steps: {act: {agent: a, repeat: 2}}}
"""


@pytest.fixture
def senses(tmp_path: Path) -> Path:
    """Return a scenario with three modalities that are aligned in pairs."""
    path = tmp_path / "senses.yaml"
    path.write_text(COPILOT, encoding="utf-8")
    return path


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """Return a scenario whose steps cost the same."""
    path = tmp_path / "loop.yaml"
    path.write_text(LINEAR, encoding="utf-8")
    return path


def test_the_answer_comes_first_in_words(call: Call, senses: Path) -> None:
    """Verdict, cause and what is left without it; then the curves, the laws and the mechanisms."""
    done = call("scaling", senses, "--over", "modalities=1..3", "--stream", "text", *QUIET)
    assert (done.code, done.err) == (0, "")
    words = " ".join(done.out.split())
    assert "seed 3; 3 replications of each" in words
    assert re.search(
        r"T_coordination over streams: super-linear: 2\.\d+ \[.*\], because of pairwise alignment; without it constant\. "
        r"Beside it, T_coordination over modalities \(mean over all subsets of a size\): cannot tell: 3 points",
        words,
    )
    for title in (
        "local exponent",
        "Laws of streams",
        "Each mechanism switched off, over streams",
        "Where the time goes",
    ):
        assert title in done.out
    assert "--set 'workflow.steps.look.align={" in done.out
    assert "shared bandwidth: no link has a bandwidth to share" in words


def test_replications_are_the_scenarios_but_eight_at_most(call: Call, loop: Path) -> None:
    """A curve rests on all its cells: eight are the default where a scenario asks for more, and can be asked for."""
    arguments = ("scaling", loop, "--over", "steps=1..3", "--no-ablation", "--format", "json", *QUIET)
    assert json.loads(call(*arguments).out)["replications"] == 8
    assert json.loads(call(*arguments, "--replications", "2").out)["replications"] == 2


def test_a_verdict_that_cannot_be_told_exits_with_4(call: Call, loop: Path) -> None:
    """Three points choose no law; eight do, and exit with 0."""
    short = ("--no-ablation", "--replications", "4", *QUIET)
    few = call("scaling", loop, "--over", "steps=1..3", *short)
    assert few.code == 4
    assert "cannot tell" in few.out
    assert call("scaling", loop, "--over", "steps=1..8", "--set", "orchestrator.dispatch=1 ms", *short).code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--over is missing"),
        (("--over", "steps=4..1"), "--over steps must rise from 1 or more, as in `1..16`; got `4..1`"),
        (("--over", "agents=1..4"), "there are no `team` steps with a `size`"),
        (("--over", "modalities=1..5"), "there are no `perceive` steps"),
        (("--over", "steps=1..4", "--metric", "latency"), "--metric must be one of"),
        (("--over", "steps=1..4", "--set", "seed=-1"), "seed"),
        (("--over", "steps=1..4", "--stream", "image"), "--stream goes with"),
    ],
)
def test_bad_input_exits_with_2_and_runs_nothing(call: Call, loop: Path, arguments: tuple[str, ...], told: str) -> None:
    """Each mistake is told on stderr, with what is allowed."""
    done = call("scaling", loop, *arguments, *QUIET)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_the_bytes_are_those_of_the_seed(call: Call, loop: Path) -> None:
    """Twice the same JSON; another seed, another."""
    arguments = ("scaling", loop, "--over", "steps=1,2,4", "--replications", "2", "--format", "json", *QUIET)
    one, two, other = (call(*arguments, *more) for more in ((), (), ("--seed", "4")))
    assert one.out == two.out
    assert one.out != other.out


def test_the_csv_is_tidy_and_agrees_with_the_json(call: Call, senses: Path) -> None:
    """A row for each cell, replication and metric; the points of the curve are the means of its rows."""
    arguments = ("scaling", senses, "--over", "modalities=1..3", *QUIET)
    rows = list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv").out)))
    assert list(rows[0]) == ["factor", "x", "subset", "replication", "metric", "value", "mechanism_off"]
    data = json.loads(call(*arguments, "--format", "json").out)
    sweep = data["sweeps"][0]
    assert sweep["factor"] == "modalities"
    for place, x in enumerate(("1", "2", "3")):
        here = [
            float(row["value"])
            for row in rows
            if (row["factor"], row["x"], row["replication"], row["metric"]) == ("modalities", x, "0", "coordination")
        ]
        assert sweep["growth"]["values"][0][place] == pytest.approx(sum(here) / len(here))
    assert {row["subset"] for row in rows if row["factor"] == "modalities" and row["x"] == "2"} == {
        "text+record", "text+image", "record+image",
    }  # fmt: skip
    assert {row["mechanism_off"] for row in rows} == {"", "pairwise alignment"}


def test_a_folder_holds_all_formats(call: Call, senses: Path, tmp_path: Path) -> None:
    """JSON, CSV, Markdown, figure and scenario; it is not replaced unasked, nor is a folder of anything else."""
    folder = tmp_path / "out"
    arguments = ("scaling", senses, "--over", "streams=1..4", "--stream", "text", "--no-ablation", *QUIET, "-o")
    done = call(*arguments, folder, "--format", "json")
    assert done.code == 4  # four points
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html", "report.md", "result.json", "scaling.csv", "scaling.json", "scenario.resolved.yaml",
    ]  # fmt: skip
    assert (folder / "scaling.json").read_text() == done.out
    assert "## senses" in (folder / "report.md").read_text()
    Scenario.from_text((folder / "scenario.resolved.yaml").read_text())
    refused = call(*arguments, folder)
    assert refused.code == 2
    assert "pass --overwrite" in refused.err
    assert call(*arguments, folder, "--overwrite").code == 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    assert "holds files and no sweep" in call(*arguments, tmp_path / "other", "--overwrite").err


def test_the_figure_opens_without_a_network(call: Call, senses: Path, tmp_path: Path) -> None:
    """No address outside of the packed plotly.js, no upload; curve, laws and ablations are in the charts."""
    call("scaling", senses, "--over", "streams=1..16", "--stream", "text", *QUIET, "-o", tmp_path / "out")
    page = tmp_path / "out" / "report.html"
    assert outside(page) == []
    drawn = [view for chart in page_data(page)["charts"].values() for view in chart["views"].values()]
    names = [str(trace.get("name", "")) for view in drawn for trace in view["data"]]
    assert any("quadratic" in name for name in names)
    assert any("without pairwise alignment" in name for name in names)


def test_an_interrupt_writes_nothing(call: Call, senses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130; no folder, and no half of a result on stdout."""
    seen: list[Result] = []
    measured = sweeping._measured

    def stopped(*arguments: object) -> object:
        seen.append(arguments[0])  # type: ignore[arg-type]
        if len(seen) > 2:
            raise KeyboardInterrupt
        return measured(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "_measured", stopped)
    done = call("scaling", senses, "--over", "streams=1..8", *QUIET, "-o", tmp_path / "out")
    assert (done.code, done.out) == (130, "")
    assert "interrupted" in done.err
    assert not (tmp_path / "out").exists()


def test_the_json_is_as_the_page_says(call: Call, senses: Path, root: Path) -> None:
    """docs/scaling.md names every field of the JSON, and of a sweep and an ablation, and no other."""
    page = (root / "docs" / "scaling.md").read_text(encoding="utf-8").partition("## JSON")[2]
    told = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    data = json.loads(call("scaling", senses, "--over", "streams=1..4", "--format", "json", *QUIET).out)
    sweep = data["sweeps"][0]
    assert told == {*data, *sweep, *sweep["ablation"][0]}


@pytest.mark.slow
def test_the_commands_of_the_page_run(call: Call, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of docs/scaling.md answers, on few tasks here; the scenario that it shows is one that sweeps."""
    monkeypatch.chdir(root)
    page = (root / "docs" / "scaling.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    commands = [
        shlex.split(line, comments=True)
        for name, text in blocks
        if name == "sh"
        for line in text.replace("\\\n", " ").splitlines()
        if line.startswith("coordsim ")
    ]
    assert commands
    for _, *arguments in commands:
        done = call(*arguments, "--tasks", "3", "--replications", "2", *QUIET)
        assert done.code in (0, 4), done.err
        assert " over " in done.out


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(call: Call, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output that docs/scaling.md quotes is that of its first command."""
    monkeypatch.chdir(root)
    blocks = BLOCK.findall((root / "docs" / "scaling.md").read_text(encoding="utf-8"))
    first = next(text for name, text in blocks if name == "sh").splitlines()[0]
    (shown,) = [text for name, text in blocks if name == "text"]
    assert call(*shlex.split(first)[1:], *QUIET).out == shown


def test_the_section_of_the_page_loads(loop: Path, root: Path) -> None:
    """The YAML that docs/scaling.md shows is a section that a scenario may have."""
    page = (root / "docs" / "scaling.md").read_text(encoding="utf-8")
    (text,) = [body for name, body in BLOCK.findall(page) if name == "yaml"]
    scenario = Scenario.from_text(LINEAR + text)
    assert scenario.scaling is not None
    assert make_plan(scenario, ["steps=1..4"]).sweeps[0].path == scenario.scaling.steps
