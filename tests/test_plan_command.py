"""The command `coordsim plan`: verdicts and exit codes, options, formats, files, mistakes, and the page that describes it."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from coordsim.models import variants
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis.result import Result
from coordsim.sim.report.plan_csv import COLUMNS

from .command import Call

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUIET = ("--workers", "1", "--quiet")
# Nothing is random: a task takes 1.5 s as soon as two servers are there, and one server cannot keep up.
STEADY = """
coordsim: 1
name: steady
seed: 3
runtime: ideal
workload: {arrivals: {deterministic: 1 / s}, tasks: 60, warmup: 0 s}
models: {server: {kind: llm, overhead: 1.5 s}}
agents: {customer: {model: server}}
workflow: {start: serve, steps: {serve: {agent: customer}}}
slo: {p95: 2 s}
plan: {decide: {models.server.replicas: {from: 1, to: 6, price: $2.50 / h}}}
"""
LEAN = ("--no-frontier", "--no-headroom")


@pytest.fixture
def steady(tmp_path: Path) -> Path:
    """Return the scenario in which nothing is random, as a file."""
    path = tmp_path / "steady.yaml"
    path.write_text(STEADY, encoding="utf-8")
    return path


def test_a_plan_that_is_met_names_the_cheapest(call: Call, steady: Path) -> None:
    """Two servers, at the price of two; one fell to the traffic equations; exit code 0."""
    done = call("plan", steady, *LEAN, *QUIET)
    assert done.code == 0, done.err
    assert "2 replicas of models.server meet p95 <= 2 s at 1 tasks/s for $5 an hour: p95 1.5" in " ".join(
        done.out.split()
    )
    assert re.search(r"^ +1 +\$2.5 +\S.*$", done.out, re.MULTILINE)
    assert "Excluded by queueing bounds" in done.out


def test_a_plan_that_nothing_meets_ends_with_three(call: Call, steady: Path) -> None:
    """A task takes 1.5 s however many servers there are: the nearest misses 1.2 s by 25 %."""
    done = call("plan", steady, "--slo", "p95=1.2 s", *LEAN, *QUIET)
    assert done.code == 3, done.err
    assert "Nothing meets p95 <= 1.2 s at 1 tasks/s" in " ".join(done.out.split())


def test_a_plan_on_the_threshold_ends_with_four(call: Call, steady: Path) -> None:
    """An M/M/1 queue whose p95 is ln(20) / (1 - 0.5) s is not resolved in a few short runs."""
    done = call(
        "plan", steady, "--set", "workload.arrivals={poisson: 0.5 / s}", "--set", "models.server.overhead={exponential: {mean: 1 s}}",
        "--decide", "models.server.replicas=1@$1/h", "--slo", "p95=5.991 s", "--max-replications", "8", *LEAN, *QUIET,
    )  # fmt: skip
    assert done.code == 4, done.err
    assert "Inconclusive: whether anything meets p95 <= 5.991 s" in " ".join(done.out.split())


def test_options_replace_the_section(call: Call, steady: Path) -> None:
    """Three loads by growth, other values and another price: the last load needs three servers."""
    done = call(
        "plan", steady, "--decide", "models.server.replicas=2,3,5@$1/h", "--growth", "30%/month:3", *LEAN, *QUIET, "--format", "json",
    )  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    chosen = [data["variables"][0]["values"][one["trial"]["point"][0]] for one in data["choices"]]
    assert [one["load"]["label"] for one in data["choices"]] == ["month 1", "month 2", "month 3"]
    assert chosen == ["2", "3", "5"]
    assert data["rate"] == 1.0


def test_frontier_and_headroom_may_be_left_out(call: Call, steady: Path) -> None:
    """They are there unasked; without them the same is chosen, and less simulated."""
    whole, lean = (json.loads(call("plan", steady, *more, *QUIET, "--format", "json").out) for more in ((), LEAN))
    assert whole["frontier"]
    assert whole["headroom"]
    assert lean["frontier"] == []
    assert not [one for one in lean["headroom"] if one["kind"] == "objective"]
    assert [one["choices"][0]["trial"]["point"] for one in (whole, lean)] == [[1], [1]]
    assert lean["beyond"] < whole["beyond"]


def test_the_bytes_are_those_of_the_seed(call: Call, steady: Path) -> None:
    """Twice the same JSON, on one process and on two; another seed, another."""
    arguments = (
        "plan",
        steady,
        "--set",
        "workload.arrivals={poisson: 1 / s}",
        "--slo",
        "p95=6 s",
        *LEAN,
        "--quiet",
        "--format",
        "json",
    )
    one, two = (call(*arguments, "--workers", count).out for count in ("1", "2"))
    assert one == two
    assert one != call(*arguments, "--workers", "1", "--seed", "4").out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--decide", "models.server.replicas"), "--decide"),
        (("--decide", "models.server.replica=1..4@$1/h"), "--decide"),
        (("--slo", "p95"), "--slo"),
        (("--slo", "p95=2"), "--slo"),
        (("--growth", "10%"), "--growth"),
        (("--daily", "1,2,3"), "24"),
        (("--confidence", "200%"), "--confidence"),
        (("--resume",), "goes with"),
        (("--set", "plan=null"), "there is nothing to decide"),
        (("--set", "slo=null"), "needs `slo`"),
    ],
)
def test_mistakes_are_told_of_the_option(call: Call, steady: Path, options: tuple[str, ...], told: str) -> None:
    """Exit code 2, nothing on stdout, nothing simulated, and what to write instead."""
    done = call("plan", steady, *options, *QUIET)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_mistakes_in_the_section_come_with_their_line(call: Call, steady: Path) -> None:
    """A path that is not there is told with the line and column of where it is written."""
    steady.write_text(STEADY.replace("models.server.replicas", "models.server.replica"), encoding="utf-8")
    done = call("plan", steady, *QUIET)
    assert done.code == 2
    assert re.search(r"^  11:\d+ ", done.err, re.MULTILINE)


def test_a_folder_holds_all_formats(call: Call, steady: Path, tmp_path: Path) -> None:
    """JSON, CSV, Markdown, charts and scenario; it is not replaced unasked."""
    folder = tmp_path / "out"
    arguments = ("plan", steady, *QUIET, "-o", folder)
    done = call(*arguments, "--format", "json")
    assert done.code == 0, done.err
    names = {path.name for path in folder.iterdir()}
    assert {"plan.json", "plan.csv", "report.html", "report.md", "scenario.resolved.yaml"} <= names
    assert (folder / "plan.json").read_text(encoding="utf-8") == done.out
    assert "## steady: the cheapest that meets p95 <= 2 s" in (folder / "report.md").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO((folder / "plan.csv").read_text(encoding="utf-8"))))
    assert tuple(rows[0]) == COLUMNS
    Scenario.from_text((folder / "scenario.resolved.yaml").read_text(encoding="utf-8"))
    refused = call(*arguments)
    assert refused.code == 2
    assert "pass --overwrite" in refused.err
    assert call(*arguments, "--overwrite").code == 0


def test_an_interrupted_plan_goes_on_where_it_stopped(
    call: Call, steady: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130 and how to go on; `--resume` simulates only what is missing, and writes the bytes of a plan that was not stopped."""
    arguments = (
        "plan",
        steady,
        "--set",
        "models.server.overhead={exponential: {mean: 1.5 s}}",
        "--slo",
        "p95=8 s",
        *LEAN,
        *QUIET,
    )
    whole = call(*arguments, "-o", tmp_path / "whole", "--format", "json")
    ran: list[int] = []
    simulate, most = variants.simulate_text, 12

    def stopped(key: str, seed: int, number: int, spans: str) -> Result:
        ran.append(number)
        if len(ran) > most:
            raise KeyboardInterrupt
        return simulate(key, seed, number, spans)

    monkeypatch.setattr(variants, "simulate_text", stopped)
    done = call(*arguments, "-o", tmp_path / "out")
    assert (done.code, done.out) == (130, "")
    assert "--resume" in done.err
    assert "go on with it by --resume" in call(*arguments, "-o", tmp_path / "out").err
    before, most = len(ran), 10_000
    again = call(*arguments, "-o", tmp_path / "out", "--resume", "--format", "json")
    assert again.code == whole.code
    assert again.out == whole.out
    for name in ("plan.json", "plan.csv", "report.md", "report.html", "result.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ran_again = len(ran) - before
    ran.clear()
    call(*arguments, "-o", tmp_path / "fresh")
    assert 0 < ran_again < len(ran)


def test_the_json_is_as_the_page_says(call: Call, steady: Path, root: Path) -> None:
    """docs/plan.md names every field of the JSON, and no other."""
    page = (root / "docs" / "plan.md").read_text(encoding="utf-8").partition("## CSV and JSON")[2]
    told = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert told == set(json.loads(call("plan", steady, *LEAN, *QUIET, "--format", "json").out))


def test_the_section_of_the_page_loads(root: Path) -> None:
    """The YAML that docs/plan.md shows is a section that a scenario may have."""
    page = (root / "docs" / "plan.md").read_text(encoding="utf-8")
    (text,) = [body for name, body in BLOCK.findall(page) if name == "yaml"]
    scenario = Scenario.from_text(STEADY.partition("slo:")[0] + text)
    assert scenario.plan is not None
    assert len(scenario.plan.decide) == 3
    assert len(scenario.plan.loads) == 12


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(call: Call, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output that docs/plan.md quotes is that of its first command, and every other command of it is met."""
    monkeypatch.chdir(root)
    blocks = BLOCK.findall((root / "docs" / "plan.md").read_text(encoding="utf-8"))
    commands = [
        line for name, text in blocks if name == "sh" for line in text.splitlines() if line.startswith("coordsim ")
    ]
    (shown,) = [text for name, text in blocks if name == "text"]
    first, *others = (call(*shlex.split(line, comments=True)[1:], *QUIET) for line in commands)
    assert first.out == shown
    assert [one.code for one in (first, *others)] == [0] * len(commands)
