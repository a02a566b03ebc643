"""The command `coordsim compare`: formats, files, exit codes, mistakes, and the page that describes it."""

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.compare import CompareSpec
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis import savings
from coordsim.sim.analysis.result import Result

from .command import Call

RUNTIMES = ("--runtime", "external-orchestrator", "--runtime", "agent-native")
SHORT = ("--tasks", "10", "--replications", "3", "--workers", "1", "--quiet")
OVER = ("--over", "workflow.steps.resolve.repeat=1,3")
# The scenario's own policies and those of another runtime differ by a little: too little for few tasks.
SECTION = """
extends: {base}
name: with-a-section
workload: {{tasks: 15}}
compare:
  baseline: external-orchestrator
  runtime: session-state
  over: {{models.fast.speed: [1, 100]}}
  ablate: false
  tolerance: 5 %
replications: 3
"""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def scenario(root: Path) -> Path:
    """Return a scenario that ships."""
    return root / "scenarios" / "sub-50ms-inference.yaml"


def test_the_report_says_what_is_saved_and_by_what(call: Call, scenario: Path) -> None:
    """All four parts are there: the verdict in words, categories, policies, and the region."""
    done = call("compare", scenario, *RUNTIMES, *SHORT, *OVER, "--tasks", "15")
    assert (done.code, done.err) == (0, "")
    words = " ".join(done.out.split())
    assert re.search(
        r"agent-native saves [\d.]+ s of [\d.]+ s \([\d.]+ %, 95 % interval [\d.]+ to [\d.]+ %\) a task; most of it is "
        r"orchestration \([\d.]+ s\)\. A saving at every point",
        words,
    )
    for title in ("What differs", "The saving by category", "The saving by policy", "Where it saves, and where not"):
        assert title in done.out
    for name in ("notification  polling", "interaction", "tokens, prefilled again", "tasks that got slower"):
        assert name in done.out


@pytest.mark.slow
def test_the_bytes_are_those_of_the_seed(call: Call, scenario: Path) -> None:
    """One process or two: the same JSON. Another seed: another."""
    arguments = (
        "compare",
        scenario,
        *RUNTIMES,
        "--tasks",
        "10",
        "--replications",
        "2",
        "--no-ablate",
        "--format",
        "json",
    )
    one, two, other = (
        call(*arguments, *more) for more in (("--workers", "1"), ("--workers", "2"), ("--workers", "1", "--seed", "3"))
    )
    assert one.out == two.out
    assert one.out != other.out


def test_a_folder_holds_all_formats(call: Call, scenario: Path, tmp_path: Path) -> None:
    """JSON, CSV, Markdown and the scenario; JSON and Markdown are what stdout gets; CSV has JSON's numbers, unrounded."""
    folder = tmp_path / "out"
    done = call("compare", scenario, *RUNTIMES, *SHORT, *OVER, "--no-ablate", "--format", "json", "-o", folder)
    assert done.code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.csv", "comparison.json", "report.html", "report.md", "result.json", "scenario.resolved.yaml",
    ]  # fmt: skip
    assert (folder / "comparison.json").read_text() == done.out
    data = json.loads(done.out)
    with (folder / "comparison.csv").open() as stream:
        rows = {(row["table"], row["name"], row["quantity"]): row for row in csv.DictReader(stream)}
    assert float(rows["comparison", "response_time_mean", "saving"]["value"]) == data["saving"]["amount"]["value"]
    assert (
        float(rows["region", "workflow.steps.resolve.repeat=3", "saving"]["low"])
        == (data["region"]["points"][1]["saving"]["amount"]["low"])
    )
    assert "## sub-50ms-inference" in (folder / "report.md").read_text()
    assert Scenario.from_text((folder / "scenario.resolved.yaml").read_text()).compare is not None


def test_a_comparison_is_not_replaced_unasked(call: Call, scenario: Path, tmp_path: Path) -> None:
    """A folder with a comparison needs --overwrite; one with anything else is never written to."""
    arguments = ("compare", scenario, *RUNTIMES, "--no-ablate", *SHORT, "-o")
    assert call(*arguments, tmp_path / "out").code == 0
    refused = call(*arguments, tmp_path / "out")
    assert refused.code == 2
    assert "pass --overwrite" in refused.err
    assert call(*arguments, tmp_path / "out", "--overwrite").code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    assert "holds files and no comparison" in call(*arguments, tmp_path / "other", "--overwrite").err


def test_the_json_is_as_the_page_says(call: Call, scenario: Path, root: Path) -> None:
    """docs/compare.md names every field of the JSON, and no other."""
    page = (root / "docs" / "compare.md").read_text(encoding="utf-8").partition("## JSON")[2]
    told = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    two = ("--with", "models.fast.speed=2", "--with", "models.fast.replicas=1")
    data = json.loads(call("compare", scenario, *two, *SHORT, "--format", "json").out)
    assert set(data) == told
    assert data["coordsim_comparison"] == 2
    assert data["ablation"]["switches"][0].keys() == {"policy", "baseline", "variant", "alone", "last", "reasons"}


def test_the_scenario_asks_for_its_comparison(call: Call, scenario: Path, tmp_path: Path) -> None:
    """Without options its section holds; an option replaces its part of the section."""
    path = tmp_path / "own.yaml"
    path.write_text(SECTION.format(base=scenario), encoding="utf-8")
    data = json.loads(call("compare", path, "-q", "--workers", "1", "--format", "json").out)
    assert (data["baseline"], data["variant"], data["tolerance"]) == ("external-orchestrator", "session-state", 0.05)
    assert (data["ablation"], data["region"]["factors"], data["replications"]) == (None, ["models.fast.speed"], 3)
    other = call(
        "compare", path, "-q", "--workers", "1", "--format", "json", *RUNTIMES, "--over", "models.fast.replicas=1"
    )
    data = json.loads(other.out)
    assert (data["variant"], data["region"]["factors"]) == ("agent-native", ["models.fast.replicas"])
    data = json.loads(
        call("compare", path, "-q", "--workers", "1", "--format", "json", "--with", "models.fast.speed=2").out
    )
    assert (data["baseline"], data["variant"]) == ("as it is", "models.fast.speed=2")


def test_what_is_not_resolved_exits_with_4(call: Call, scenario: Path) -> None:
    """One replication has no interval; the report says how many to try."""
    done = call(
        "compare", scenario, *RUNTIMES, "--no-ablate", "--tasks", "10", "--replications", "1", "--workers", "1", "-q"
    )
    assert done.code == 4
    assert "Not resolved" in done.out
    assert "run 4 more replications (--replications 5)" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ["there is nothing to compare", "--runtime A --runtime B"]),
        (RUNTIMES[:2], ["--runtime  must be given twice", "got one"]),
        (("--runtime", "ideal", "--runtime", "ideal"), ["is the same as the baseline, ideal", "session-state"]),
        (
            ("--runtime", "agent-nativ", "--runtime", "ideel"),
            ["2 mistakes", "--runtime agent-nativ ", "did you mean `agent-native`?", "--runtime ideel ", "did you mean `ideal`?"],
        ),
        ((*RUNTIMES, "--with", "seed=1", "--over", "x"), ["2 mistakes", "leave out `--runtime`", "must be a path and a value"]),
        (("--with", "models.fast.sped=3"), ["--with", "did you mean `speed`?"]),
        (("--with", "models.fast.replicas=many"), ["must be a whole number >= 1; got 'many'"]),
        ((*RUNTIMES, "--over", "foo.bar=3", "--over", "models.fast.replicas=1,x"), ["2 mistakes", "foo: no such field", "got 'x'"]),
        ((*RUNTIMES, "--over", "a=1", "--over", "b=1", "--over", "c=1"), ["at most 2 times; got 3"]),
        ((*RUNTIMES, "--over", "models.fast.replicas=[1"), ["must be values between commas"]),
        ((*RUNTIMES, "--tolerance", "2"), ["--tolerance 2", "a share from 0 to 1, such as"]),
        (
            (*RUNTIMES, "--set", "orchestrator.poll_interval=null"),
            ["--runtime external-orchestrator", "needs `orchestrator.poll_interval`"],
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    call: Call, scenario: Path, arguments: tuple[str, ...], said: list[str]
) -> None:
    """Exit code 2, nothing on stdout, all mistakes at once, each with a remedy."""
    done = call("compare", scenario, *arguments, "-q")
    assert (done.code, done.out) == (2, "")
    assert [text for text in said if text not in done.err] == []


def test_a_mistake_in_the_section_is_shown_in_the_file(call: Call, scenario: Path, tmp_path: Path) -> None:
    """With line, column, and the line itself."""
    path = tmp_path / "own.yaml"
    path.write_text(SECTION.format(base=scenario).replace("[1, 100]", "[1, fast]"), encoding="utf-8")
    done = call("compare", path, "-q")
    assert done.code == 2
    assert re.search(r"8:33 +models\.fast\.speed: must be .*got 'fast'\n +\| over:", done.err)


def test_a_mistake_below_what_is_not_written_has_its_place(call: Call, scenario: Path, tmp_path: Path) -> None:
    """Parents that are left at their defaults are put in, and the mistake stays where the user wrote it: in the file, or an option."""
    path = tmp_path / "own.yaml"
    changes = "models.fast.restore.overhead: slow, orchestrator.checkpoint.write.overhead: 1 s, workload.warmup: soon"
    path.write_text(f"extends: {scenario}\nname: own\ncompare:\n  changes: {{{changes}}}\n", encoding="utf-8")
    done = call("compare", path, "-q")
    assert done.code == 2
    assert "has 3 mistakes" in done.err
    for name in ("models.fast.restore.overhead", "orchestrator.checkpoint", "workload.warmup"):
        assert re.search(rf"4:\d+ +{re.escape(name)}: ", done.err), done.err
    for option, value in (
        ("--with", "models.fast.restore.overhead=slow"),
        ("--over", "models.fast.restore.overhead=1 s,slow"),
    ):
        runtimes = () if option == "--with" else RUNTIMES
        done = call("compare", scenario, *runtimes, option, value, "-q")
        assert f"{option} {value}  models.fast.restore.overhead: must be a duration" in done.err
    done = call("run", scenario, "--set", "models.fast.restore.overhead=slow", "-q")
    assert "--set models.fast.restore.overhead=slow " in done.err


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"runtime": "ideal", "changes": {"seed": 1}}, "compares the scenario with itself"),
        ({"runtime": "ideal", "over": {"a": [1], "b": [1], "c": [1]}}, "at most 2 factors; got 3"),
        ({"runtime": "ideal", "over": {"a": []}}, "at least 1"),
    ],
)
def test_a_section_that_asks_too_much(section: dict[str, Any], said: str) -> None:
    """It is refused when the scenario is read."""
    with pytest.raises(ValueError, match=said):
        CompareSpec.model_validate(section)


def test_an_interrupt_writes_what_was_complete(
    call: Call, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, with the main comparison and the finished point in the folder."""
    from coordsim.models import simulate as module

    runs, real = 0, module.simulate

    def simulate(*arguments: Any) -> Result:
        nonlocal runs
        runs += 1
        if runs > 9:  # two variants, then two at the first point, of two replications each; one more
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "simulate", simulate)
    more = ("--tasks", "10", "--replications", "2", "--workers", "1", "--no-ablate", "--format", "json", "-q")
    done = call("compare", scenario, *RUNTIMES, *OVER, *more, "-o", tmp_path / "out")
    assert done.code == 130
    assert "interrupted" in done.err
    data = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert data["interrupted"] is True
    assert [len(data["region"]["points"]), data["region"]["planned"]] == [1, 2]
    runs = 6
    done = call("compare", scenario, *RUNTIMES, *more, "-o", tmp_path / "none")
    assert (done.code, done.out) == (130, "")
    assert not (tmp_path / "none").exists()


def test_what_has_not_settled_is_warned_of(call: Call, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A saving of a queue that grows says how long the run was."""
    monkeypatch.setattr(savings, "stability", lambda _run: "grows")
    done = call("compare", scenario, *RUNTIMES, *SHORT, "--no-ablate")
    assert done.err.count("the number of tasks in the system still grows") == 2


@pytest.mark.slow
def test_the_page_runs(
    call: Call, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of docs/compare.md end with 0, its Python prints a saving, and its section is one."""
    (tmp_path / "scenarios").symlink_to(root / "scenarios")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((root / "docs" / "compare.md").read_text(encoding="utf-8"))
    lines = [line for name, text in blocks if name == "sh" for line in text.replace("\\\n", "").splitlines()]
    assert len(lines) == 5
    for line in lines:
        done = call(*shlex.split(line)[1:], "--workers", "1", "--quiet")
        assert done.code == 0, done.err
    for code in (text for name, text in blocks if name == "python"):
        exec(compile(code, "compare.md", "exec"), {})
        assert "saves" in capsys.readouterr().out
    base = (root / "scenarios" / "quickstart.yaml").read_text(encoding="utf-8")
    for text in (text for name, text in blocks if name == "yaml"):
        assert Scenario.from_text(base + text).compare is not None
