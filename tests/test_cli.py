"""The command: what each part prints where, and the exit code it ends with.

Most tests call `main` in this process; pipes, terminals, signals and worker processes need a real one.
"""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from coordsim.cli import app, main
from coordsim.sim.analysis.runfolder import read
from coordsim.sim.analysis.summary import Summary
from coordsim.sim.report import shipped

from .command import Call, Outcome

HEAVY = {"jinja2", "joblib", "networkx", "numpy", "pandas", "plotly", "pyarrow", "pydantic", "ruamel", "scipy", "torch"}
COMMANDS = (
    "run",
    "compare",
    "check",
    "show",
    "scenarios",
    "init",
    "schema",
    "doctor",
    "calibrate",
    "validate",
    "profile",
    "scaling",
    "faults",
    "sweep",
    "sensitivity",
    "plan",
    "report",
    "trace",
)
QUICK = ("--tasks", "60", "--replications", "3", "--workers", "1")
ANSWER = re.compile(
    r"The largest part of T_total is \w+: [\d.]+ \S+ of [\d.]+ \S+ \([\d.]+ % ± [\d.]+, 95 %, 3 replications\)\."
)
ESCAPE = "\x1b["


@pytest.fixture
def assistant(root: Path) -> Path:
    """Return a small scenario with two agents, two tools, a fork and an SLO."""
    return root / "tests" / "data" / "cli" / "assistant.yaml"


@pytest.fixture
def finished(call: Call, assistant: Path, tmp_path: Path) -> tuple[Path, Outcome]:
    """Return a run folder with all spans of the first replication, and what the run printed."""
    folder = tmp_path / "run"
    outcome = call("run", assistant, *QUICK, "--spans", "all", "-o", folder)
    assert outcome.code == 0
    return folder, outcome


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of the command in a process of its own."""
    return [sys.executable, "-m", "coordsim", *(str(one) for one in arguments)]


def environment(**more: str) -> dict[str, str]:
    """Return an environment that says nothing about colours, but for `more`."""
    kept = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")
    }
    return {**kept, "TERM": "xterm-256color", **more}


# -- run


def test_a_run_names_the_largest_part_with_its_interval(call: Call, assistant: Path) -> None:
    """The table opens with the scenario, the question, how it ran, and the answer in one sentence."""
    code, out, err = call("run", assistant, *QUICK)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "small-assistant: Where does a small assistant's time go?"
    assert lines[1].startswith("runtime external-orchestrator; seed 7; 3 replications; 180 tasks (all done)")
    assert ANSWER.match(lines[3])  # and what is said of reliability
    assert all(line.startswith("WARNING: ") for line in err.splitlines())
    for title in (
        "T_total",
        "Where the time goes",
        "The largest components",
        "Resources",
        "Work per task",
        "Service",
        "SLO",
    ):
        assert any(line.startswith(title) for line in lines), title
    assert max(map(len, lines)) <= 100
    assert ESCAPE not in out + err


def test_a_warning_names_the_scenario_of_the_user(call: Call, assistant: Path) -> None:
    """The command that a warning suggests can be pasted as it stands."""
    _, _, err = call("run", assistant, *QUICK)
    assert f"coordsim run {assistant} " in err
    assert "SCENARIO" not in err


def test_json_is_the_summary(call: Call, assistant: Path) -> None:
    """What `--format json` prints is read back as the same summary."""
    code, out, _ = call("run", assistant, *QUICK, "--format", "json")
    summary = Summary.from_dict(json.loads(out))
    assert code == 0
    assert (summary.scenario, summary.seed, summary.replications) == ("small-assistant", 7, 3)
    assert summary.to_dict() == json.loads(out)


def test_csv_is_one_long_table(call: Call, assistant: Path) -> None:
    """Each row is one number with its interval, and the numbers are those of the JSON."""
    _, text, _ = call("run", assistant, *QUICK, "--format", "csv")
    summary = json.loads(call("run", assistant, *QUICK, "--format", "json").out)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["metric", "component", "unit", "value", "low", "high", "n"]
    found = {(row["metric"], row["component"]): row for row in rows}
    assert len(found) == len(rows)
    p95, tool = found["response_time_p95", ""], found["category_mean", "tool"]
    assert (float(p95["value"]), p95["unit"]) == (summary["metrics"]["response_time_p95"]["value"], "s")
    assert float(tool["low"]) == summary["categories"]["tool"]["seconds"]["low"]
    assert found["carried_tokens_per_task", ""]["unit"] == "tokens"
    assert found["tasks_done", ""]["value"] == "180"
    assert found["slo_p95", "pass"]["unit"] == "s"


def test_markdown_holds_the_same_tables(call: Call, assistant: Path) -> None:
    """Every table is one that GitHub draws: as many cells in each row as in its head."""
    _, out, _ = call("run", assistant, *QUICK, "--format", "md")
    assert out.startswith("## small-assistant: ")
    for block in out.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "| inference |" in out


def test_the_seed_decides(call: Call, assistant: Path) -> None:
    """The same seed gives the same bytes, another seed another run."""
    first, again = (call("run", assistant, *QUICK).out for _ in range(2))
    assert first == again
    other = call("run", assistant, *QUICK, "--seed", "0").out
    assert "seed 0;" in other
    assert other.splitlines()[3] != first.splitlines()[3]


def test_workers_change_no_byte(assistant: Path) -> None:
    """One process and two print the same, and the progress of neither gets into what is not a terminal."""
    outcomes = [
        subprocess.run(
            command("run", assistant, "--tasks", "60", "--replications", "3", "--workers", workers),
            capture_output=True,
            env=environment(),
            check=True,
        )
        for workers in ("1", "2")
    ]
    assert outcomes[0].stdout == outcomes[1].stdout
    assert outcomes[0].stderr == outcomes[1].stderr


def test_options_replace_what_the_scenario_says(call: Call, assistant: Path, tmp_path: Path) -> None:
    """`--horizon` takes the place of the number of tasks; `--set`, `--warmup` and `--precision` go into the run."""
    folder = tmp_path / "out"
    changes = ("--set", "runtime.notification=event", "--set", "models.llm.replicas=3")
    run = call(
        "run",
        assistant,
        *changes,
        "--horizon",
        "2min",
        "--warmup",
        "10s",
        "--precision",
        "80%",
        "--workers",
        "1",
        "-o",
        folder,
    )
    assert run.code == 0
    assert "runtime external-orchestrator with notification: event;" in run.out
    assert re.search(r"Precision of 80 % reached: the worst, \w+, is known within", run.out)
    assert "warm-up of 10 s" in run.out
    resolved = read(folder).scenario
    assert "horizon: 2 min" in resolved
    assert "tasks:" not in resolved
    assert "replicas: 3" in resolved


def test_a_scenario_that_ships_goes_by_its_name(call: Call) -> None:
    """Where no such file exists, a bare name means the scenario that ships."""
    code, out, _ = call("run", "theory/mm1", "--tasks", "300", "--replications", "2", "--workers", "1")
    assert code == 0
    assert "2 replications" in out


# -- the run folder


def test_a_run_folder_shows_what_the_run_printed(call: Call, finished: tuple[Path, Outcome]) -> None:
    """`show` prints the table of the run again, byte for byte, and each other format."""
    folder, outcome = finished
    shown = call("show", folder)
    assert shown.code == 0
    assert shown.out == outcome.out
    assert outcome.err.splitlines()[-1] == f"written to {folder}"
    assert Summary.from_dict(json.loads(call("show", folder, "--format", "json").out)) is not None
    assert read(folder).manifest["command"].startswith("coordsim run ")


def test_a_run_folder_is_not_overwritten_unasked(call: Call, assistant: Path, finished: tuple[Path, Outcome]) -> None:
    """A second run is refused before it starts, unless `--overwrite` says that it may."""
    folder, _ = finished
    before = (folder / "summary.json").read_bytes()
    code, out, err = call("run", assistant, *QUICK, "-o", folder)
    assert (code, out) == (2, "")
    assert "--overwrite" in err
    assert (folder / "summary.json").read_bytes() == before
    assert call("run", assistant, *QUICK, "--seed", "8", "-o", folder, "--overwrite").code == 0
    assert (folder / "summary.json").read_bytes() != before


@pytest.mark.parametrize("spans", [None, "none"])
def test_spans_are_kept_if_asked_for(call: Call, assistant: Path, tmp_path: Path, spans: str | None) -> None:
    """With -o some tasks keep their spans, so that one can be looked at; `--spans none` keeps none."""
    option = () if spans is None else ("--spans", spans)
    assert call("run", assistant, *QUICK, "-o", tmp_path / "out", *option).code == 0
    shown = call("show", tmp_path / "out", "--task", "p50")
    assert shown.code == (0 if spans is None else 2)
    assert ("among 1 with spans" in shown.out) if spans is None else ("--spans" in shown.err)


def test_something_else_is_no_run_folder(call: Call, tmp_path: Path) -> None:
    """`show` says what is missing."""
    code, out, err = call("show", tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert "does not exist" in err


# -- one task


def test_a_task_can_be_looked_at(call: Call, assistant: Path) -> None:
    """`--show-task` prints a tree of spans after the report, and the sum that equals T_total."""
    code, out, _ = call("run", assistant, *QUICK, "--show-task", "p90")
    assert code == 0
    assert re.search(
        r"^task \d+ of replication 0, at p90 of T_total \(task\): T_total [\d.]+ m?s, done$", out, re.MULTILINE
    )
    for part in ("├ invoke_agent planner", "│ ├ chat llm", "execute_tool ", "inference ", "(overlapped)"):
        assert part in out
    assert re.search(r"^  = [\d.]+ s = T_total$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 100


def test_the_same_task_is_in_the_folder(call: Call, finished: tuple[Path, Outcome], assistant: Path) -> None:
    """A run that kept all spans and a run again show the same timeline."""
    folder, _ = finished
    shown = call("show", folder, "--task", "7")
    again = call("run", assistant, *QUICK, "--show-task", "7")
    assert shown.code == again.code == 0
    assert shown.out == again.out
    assert "task 7 of replication 0 (task): " in shown.out
    data = [json.loads(call(*part, "--format", "json").out)["task"] for part in (
        ("show", folder, "--task", "7"), ("run", assistant, *QUICK, "--show-task", "7")
    )]  # fmt: skip
    assert data[0] == data[1]
    assert sum(data[0]["categories"].values()) == pytest.approx(data[0]["end"] - data[0]["arrival"], rel=1e-9)
    assert "```text\ntask 7 of" in call("show", folder, "--task", "7", "--format", "md").out


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("p101", "percentile"),
        ("-3", "percentile"),
        ("slowest", "percentile"),
        ("60", "there is no task 60: 60 tasks arrived"),
    ],
)
def test_a_task_that_is_not_there(call: Call, assistant: Path, task: str, message: str) -> None:
    """Which tasks there are is said, without a table before it."""
    code, out, err = call("run", assistant, *QUICK, "--show-task", task)
    assert (code, out) == (2, "")
    assert message in err


# -- SLO


@pytest.mark.parametrize(("p95", "code"), [("10 min", 0), ("100 ms", 3), (None, 4)])
def test_the_slo_is_in_the_exit_code(call: Call, assistant: Path, p95: str | None, code: int) -> None:
    """Met is 0, missed 3, and an interval that holds the threshold 4; without `--check-slo` all are 0."""
    if p95 is None:
        found = json.loads(call("run", assistant, *QUICK, "--format", "json").out)["metrics"]["response_time_p95"]
        p95 = f"{found['value']} s"
    changed = ("run", assistant, *QUICK, "--set", f"slo.p95={p95}")
    judged = call(*changed, "--check-slo")
    assert judged.code == code
    assert {0: "pass", 3: "fail", 4: "inconclusive"}[code] in judged.out
    assert call(*changed).code == 0


def test_no_slo_cannot_be_checked(call: Call, assistant: Path) -> None:
    """Asking for a verdict on nothing is a mistake, found before the run."""
    code, out, err = call("run", assistant, *QUICK, "--set", "slo=null", "--check-slo")
    assert (code, out) == (2, "")
    assert "slo" in err


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "models.llm.replicas=0"], "models.llm.replicas"),
        (["--set", "models.llm.replcas=4"], "did you mean `replicas`?"),
        (["--set", "replicas"], "must be a path and a value"),
        (["--set", "seed=[1"], "--set seed=[1"),
        (["--tasks", "5", "--horizon", "1h"], "give one of them"),
        (["--horizon", "5"], "must carry a unit"),
        (["--warmup", "soon"], "workload.warmup"),
        (["--precision", "0"], "--precision must be above 0"),
        (["--precision", "150%"], "--precision must be a share"),
        (["--replications", "0"], "--replications must be `auto` or a whole number >= 1; got `0`"),
        (["--replications", "many"], "got `many`"),
        (["--seed", "-1"], "--seed"),
        (["--tasks", "none"], "--tasks"),
        (["--workers", "0"], "--workers"),
        (["--format", "xml"], "--format"),
        (["--spans", "some"], "--spans"),
        (["--show-task", "p99", "--format", "csv"], "timeline"),
        (["--colour"], "--colour"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_a_bad_option_is_told(call: Call, assistant: Path, arguments: list[str], message: str) -> None:
    """A mistake ends with 2, on stderr, and before anything is printed or run."""
    code, out, err = call("run", assistant, *arguments)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"coordsim: 1\nname: [broken", "broken.yaml has 1 mistake"),
        (b"name: a\nname: b\n", "name"),
        (b"", "is empty"),
        (b"\x00\xff\xfe", "broken.yaml"),
        (b"coordsim: 1\nname: x\nseed: 1\nworkload: 3\nworkflow: {}\n", "4:11"),
    ],
    ids=["syntax", "twice", "empty", "binary", "fields"],
)
def test_broken_yaml_is_told(call: Call, tmp_path: Path, text: bytes, message: str) -> None:
    """Whatever is in the file, the mistakes are listed and nothing is left behind."""
    file = tmp_path / "broken.yaml"
    file.write_bytes(text)
    code, out, err = call("run", file, "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"]


@pytest.mark.parametrize(
    ("name", "message"), [("quikstart", "did you mean `quickstart`?"), ("nothing/here.yaml", "no such file")]
)
def test_a_missing_scenario_is_told(call: Call, name: str, message: str) -> None:
    """The nearest scenario that ships is named."""
    code, out, err = call("run", name)
    assert (code, out) == (2, "")
    assert message in err


def test_our_own_mistake_is_owned(call: Call, assistant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug ends with 1 and asks for a report; its traceback is there for who asks."""

    def broken(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("coordsim.models.simulate.simulate", broken)
    code, out, err = call("run", assistant, *QUICK)
    assert (code, out) == (1, "")
    assert "KeyError: 'lost'" in err
    assert "please report it" in err


def test_a_traceback_for_who_asks(
    assistant: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """COORDSIM_TRACEBACK=1 shows where it happened."""
    monkeypatch.setenv("COORDSIM_TRACEBACK", "1")
    assert main(["run", str(assistant), "--set", "seed=x"]) == 2
    assert "Traceback" in capsys.readouterr().err


# -- the other commands


def test_check_tells_what_a_scenario_holds(call: Call, assistant: Path) -> None:
    """A good scenario is `ok`, with its question and its components."""
    code, out, _ = call("check", assistant)
    assert code == 0
    assert out.startswith(f"{assistant}: ok\n  small-assistant: ")
    assert "2 agents, 1 model, 2 tools" in out
    assert "a run ends after 150 tasks" in out


def test_check_tells_the_bounds(call: Call, assistant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model works out is on stdout, and what it warns of on stderr, with the user's own scenario."""
    found = SimpleNamespace(lines=lambda: ["  models.llm is busy 12 %"], warnings=["try `coordsim run SCENARIO`"])
    monkeypatch.setitem(sys.modules, "coordsim.models.bounds", SimpleNamespace(bounds=lambda _: found))
    code, out, err = call("check", assistant)
    assert code == 0
    assert out.endswith("\n  models.llm is busy 12 %\n")
    assert err == f"WARNING: try `coordsim run {assistant}`\n"


def test_check_reports_all_mistakes_of_all_files(call: Call, assistant: Path, tmp_path: Path) -> None:
    """One bad file among several ends with 2, and the good ones are still checked."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(assistant.read_text().replace("agent: worker", "agent: wroker").replace("0.5 / s", "0.5"))
    code, out, err = call("check", bad, assistant)
    assert code == 2
    assert f"{assistant}: ok" in out
    assert "bad.yaml has 2 mistakes" in err
    assert "did you mean `worker`?" in err
    assert "poisson: must carry a unit" in err


def test_check_tells_a_queue_that_cannot_be_stable(call: Call, assistant: Path) -> None:
    """More work than the servers can do is seen before a run."""
    code, out, err = call("check", assistant, "--set", "workload.arrivals.poisson=50 / s")
    assert code == 0
    assert "models.llm" in out
    assert re.search(r"WARNING: .*cannot be stable", err)


def test_the_schema_describes_scenarios(call: Call, tmp_path: Path) -> None:
    """The terminal and a file get the same JSON Schema; another file is not overwritten unasked."""
    code, out, _ = call("schema")
    assert code == 0
    assert json.loads(out)["$schema"].startswith("https://json-schema.org/")
    assert all(f'"{field}": {{' in out for field in ("workload", "workflow", "models"))
    file = tmp_path / "deep" / "schema.json"
    assert call("schema", "-o", file).code == 0
    assert file.read_text(encoding="utf-8") == out
    file.write_text("{}")
    assert call("schema", "-o", file).code == 2
    assert file.read_text() == "{}"
    assert call("schema", "-o", file, "--overwrite").code == 0
    assert file.read_text(encoding="utf-8") == out
    assert call("schema", "-o", tmp_path, "--overwrite").code == 2


def test_the_starter_runs(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` writes a scenario without mistakes, with the schema that its first line names, and never over another."""
    monkeypatch.chdir(tmp_path)
    code, out, err = call("init")
    assert (code, err) == (0, "")
    assert "coordsim run scenario.yaml" in out
    first = Path("scenario.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=coordsim.schema.json"
    assert Path("coordsim.schema.json").read_text(encoding="utf-8") == call("schema").out
    assert call("check", "scenario.yaml").code == 0
    assert call("run", "scenario.yaml", "--workers", "1", "--check-slo").code == 0
    again = call("init")
    assert again.code == 2
    assert "is left as it is" in again.err
    assert call("init", "--overwrite").code == 0
    Path("coordsim.schema.json").write_text("{}")
    other = call("init", "other.yaml")
    assert other.code == 0
    assert "coordsim schema -o coordsim.schema.json --overwrite" in other.err


def test_every_scenario_that_ships_is_listed_with_its_question(call: Call, root: Path) -> None:
    """The list is the disk, and each opens with a question."""
    code, out, _ = call("scenarios")
    names = [line.split()[0] for line in out.splitlines()]
    assert code == 0
    assert names == sorted(
        path.relative_to(root / "scenarios").with_suffix("").as_posix() for path in (root / "scenarios").rglob("*.yaml")
    )
    assert all(line.endswith("?") for line in out.splitlines())


def test_the_doctor_finds_this_installation_well(call: Call) -> None:
    """Versions, cores, extras and scenarios are listed, and what a run needs is there."""
    code, out, _ = call("doctor")
    assert code == 0
    for name in (
        "coordsim",
        "python",
        "cores",
        "numpy",
        "simpy",
        "[calibrate]",
        "[dask]",
        "[notebook]",
        "scenarios",
        "profiles",
    ):
        assert re.search(rf"^(ok)? *{re.escape(name)} ", out, re.MULTILINE), name


def test_the_doctor_finds_what_is_missing(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation without its scenarios is bad, and says so."""
    monkeypatch.setattr(shipped, "folder", lambda: tmp_path)
    code, out, _ = call("doctor")
    assert code == 2
    assert "BAD scenarios" in out


def test_the_version_is_told(call: Call) -> None:
    """`--version` prints one line."""
    code, out, _ = call("--version")
    assert code == 0
    assert re.fullmatch(r"coordsim \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """`--help` opens with what the command is for."""
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert name in result.output


def test_the_commands_tested_are_the_commands() -> None:
    """No command is left out above."""
    groups = {group.name for group in app.registered_groups}
    assert groups | {one.callback.__name__ for one in app.registered_commands if one.callback} == set(COMMANDS)


def test_no_command_prints_the_help(call: Call) -> None:
    """`coordsim` alone shows what there is."""
    code, out, err = call()
    assert code in (0, 2)
    assert all(name in out + err for name in COMMANDS)


# -- processes, pipes, terminals, signals


def test_help_imports_nothing_heavy() -> None:
    """`coordsim --help` answers at once, since it imports no library of numbers, and no model."""
    code = "import sys; from coordsim.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert "Usage" in done.stdout
    assert HEAVY & {name.partition(".")[0] for name in loaded} == set()
    light = {"coordsim.sim", "coordsim.sim.report", "coordsim.sim.report.layout", "coordsim.sim.report.terminal"}
    assert {name for name in loaded if name.startswith(("coordsim.models", "coordsim.sim"))} <= light


def test_a_reader_that_leaves_is_no_error(assistant: Path) -> None:
    """`| head` ends the command quietly."""
    process = subprocess.Popen(
        command("run", assistant, *QUICK, "--format", "csv"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert "Traceback" not in error
    assert "BrokenPipe" not in error


def on_terminal(
    arguments: list[str], env: dict[str, str], until: bytes = b""
) -> tuple[subprocess.Popen[bytes], int, bytes]:
    """Start a command whose stderr is a terminal; return it, the terminal, and what it wrote up to `until`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    seen = b""
    while until not in seen or not until:
        try:
            more = os.read(ours, 4096)
        except OSError:  # Linux: the other side has closed
            more = b""
        if not more:
            break
        seen += more
    return process, ours, seen


def drain(terminal: int) -> bytes:
    """Read a terminal to its end."""
    seen = b""
    try:
        while more := os.read(terminal, 4096):
            seen += more
    except OSError:
        pass
    os.close(terminal)
    return seen


def test_progress_is_shown_on_a_terminal(assistant: Path) -> None:
    """A bar counts replications and shows the interval of p95 shrink; stdout has none of it."""
    process, terminal, seen = on_terminal(command("run", assistant, *QUICK), environment(COLUMNS="120"))
    assert process.stdout is not None
    out = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    os.close(terminal)
    assert b"replications" in seen
    assert re.search(r"p95 [\d.]+ s ± [\d.]+", seen.decode())
    assert ANSWER.search(out)
    assert ESCAPE not in out


@pytest.mark.parametrize("quiet", [False, True])
def test_colours_are_for_terminals(assistant: Path, quiet: bool) -> None:
    """Headings are bold on a terminal, unless NO_COLOR asks for plain text."""
    ours, theirs = pty.openpty()
    env = environment(**({"NO_COLOR": "1"} if quiet else {}))
    with subprocess.Popen(
        command("run", assistant, *QUICK), stdout=theirs, stderr=subprocess.DEVNULL, env=env
    ) as process:
        os.close(theirs)
        out = drain(ours).decode()
        assert process.wait(timeout=60) == 0
    assert (ESCAPE not in out) if quiet else ("\x1b[1mResources\x1b[0m" in out)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_ends_the_run(assistant: Path, tmp_path: Path, workers: str) -> None:
    """Ctrl-C ends with 130 within seconds; the replications that were complete are kept, and nothing in part."""
    folder = tmp_path / "out"
    arguments = command(
        "run", assistant, "--tasks", "200", "--replications", "2000", "--workers", workers, "-o", folder
    )
    process, terminal, _ = on_terminal(arguments, environment(COLUMNS="120"), until=b"p95 ")
    process.send_signal(signal.SIGINT)
    said = drain(terminal).decode()
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    assert process.wait(timeout=60) == 130
    count = re.search(r"interrupted; (\d+) of 2000 replications are complete", said)
    assert count is not None, said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    found = read(folder)
    assert found.manifest["interrupted"] is True
    assert found.summary.replications == int(count[1]) >= 1


def test_an_interrupt_before_the_first_replication_leaves_nothing(assistant: Path, tmp_path: Path) -> None:
    """Where nothing was complete there is no run folder."""
    arguments = command("run", assistant, "--tasks", "100000000", "--workers", "1", "-o", tmp_path / "out")
    process, terminal, _ = on_terminal(arguments, environment(COLUMNS="120"), until=b"replications")
    time.sleep(0.5)  # the bar is there just before the first replication begins
    process.send_signal(signal.SIGINT)
    said = drain(terminal).decode()
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 130
    assert "interrupted" in said
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_can_be_shown(call: Call, finished: tuple[Path, Outcome]) -> None:
    """`show` says that it is not all of it."""
    folder, _ = finished
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"interrupted": True}))
    assert "WARNING: the run was interrupted; only 3 replications" in call("show", folder).err


def test_a_terminal_that_knows_no_unicode_is_no_error(assistant: Path) -> None:
    """What cannot be written is replaced."""
    env = environment(PYTHONIOENCODING="ascii")
    done = subprocess.run(command("run", assistant, *QUICK), capture_output=True, env=env, check=True)
    assert b"inference" in done.stdout


def test_the_data_of_these_tests_is_used(root: Path) -> None:
    """No scenario lies in the folder that no test runs."""
    assert [path.name for path in (root / "tests" / "data" / "cli").iterdir()] == ["assistant.yaml"]
