"""`coordsim trace`: files in every format, of every kind of damage, through each of its commands.

Leaves out: what each format may hold (tests of `sim.trace.formats`), and how good a fit is (tests of `calibration.traces`).
"""

import gzip
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.trace.export import FORMATS as EXPORTS
from coordsim.sim.trace.formats.step_columns import ALIASES

from . import trace_files
from .command import Call
from .trace_files import SECRET, made, totals

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces"
TRUTH = made(12, seed=1)
NUMBER = re.compile(r"\b(nan|inf|None)\b")


def real_files() -> list[Path]:
    """Return the traces of real frameworks; none where they are not there."""
    return sorted(path for path in REAL.rglob("*") if path.is_file() and path.suffix in (".gz", ".json", ".jsonl"))


def written(folder: Path, name: str = "otlp.jsonl", tasks: Any = TRUTH) -> Path:
    """Write the truth in a format, and return its path."""
    path = folder / f"made.{name}"
    path.write_bytes(trace_files.FORMATS[name](tasks))
    return path


def data_of(call: Call, *arguments: str | Path) -> dict[str, Any]:
    """Return what `trace explain --format json` says."""
    code, out, err = call("trace", "explain", *arguments, "--format", "json", "-q")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


# -- every file that is there


NO_SPANS = ("otlp_metrics_example.json", "2025-05-12T20-28-13-04-00_no-samples.json.gz")


@pytest.mark.parametrize("path", real_files() or [None], ids=lambda path: path.name if path else "none")
def test_a_real_file_is_explained_or_refused_with_a_reason(call: Call, path: Path | None) -> None:
    """What agents of many frameworks wrote: tables without a number that is none; what holds no span is said to."""
    if path is None:
        pytest.skip(f"no {REAL}")
    code, out, err = call("trace", "explain", path, "-q")
    if path.name in NO_SPANS:
        assert (code, out) == (2, "")
        assert path.name in err
        return
    assert code == 0, err
    assert not NUMBER.search(out)
    assert "unexplained" in out or "inference" in out or "orchestration" in out


def test_all_real_files_are_taken_together(call: Call) -> None:
    """Several formats at once are one report, which counts the spans of each file."""
    files = [path for path in real_files() if path.parent.name in ("langfuse", "inspect") and path.name not in NO_SPANS]
    if not files:
        pytest.skip(f"no {REAL}")
    code, out, err = call("trace", "explain", *files, "--full", "-q")
    assert code == 0, err
    assert all(path.name.split(".")[0][:20] in out for path in files)


# -- the same truth in every format


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the truth in every format."""
    folder = tmp_path_factory.mktemp("made")
    for name in trace_files.FORMATS:
        written(folder, name)
    return folder


def seconds(data: dict[str, Any]) -> dict[str, float]:
    """Return mean seconds by category, those above 0."""
    parts = data["summary"]["categories"]
    return {name: one["seconds"]["value"] for name, one in parts.items() if one["seconds"]["value"]}


@pytest.mark.parametrize("name", [one for one in trace_files.FORMATS if one != "steps.csv"])
def test_every_format_gives_the_same_tables(call: Call, folder: Path, name: str) -> None:
    """Seconds by category, calls, errors and tokens are those of the table of steps, which says them outright."""
    plain, found = (data_of(call, folder / f"made.{one}") for one in ("steps.csv", name))
    assert seconds(found) == pytest.approx(seconds(plain), rel=1e-6)
    for data in (plain, found):
        for one in data["calls"]:
            one.pop("share")
    known = {(one["kind"], one["component"]): one for one in plain["calls"] if one["kind"] != "agent"}
    told = {(one["kind"], one["component"]): one for one in found["calls"] if one["kind"] != "agent"}
    assert told.keys() == known.keys()
    for key, one in known.items():
        assert (told[key]["calls"], told[key]["errors"], told[key]["tasks"]) == (
            one["calls"],
            one["errors"],
            one["tasks"],
        )
        for token in ("new", "cached", "output"):
            before, after = (row["tokens"].get(token, {}).get("value") for row in (one, told[key]))
            assert after == (before if before is None else pytest.approx(before)), (key, token)


@pytest.mark.parametrize("name", trace_files.FORMATS)
def test_the_sums_are_those_of_the_file(call: Call, folder: Path, name: str) -> None:
    """Wall time, and the unions and sums of the intervals of calls, are those that the truth was made with; every span is accounted for."""
    data = data_of(call, folder / f"made.{name}")
    truth = totals(TRUTH)
    sums = {one["kind"]: one for one in data["sums"]}
    assert data["wall"] == pytest.approx(truth["wall"], abs=1e-6)
    for kind in ("llm", "tool"):
        assert sums[kind]["union"] == pytest.approx(truth[f"{kind}_union"], abs=1e-6)
        assert sums[kind]["work"] == pytest.approx(truth[f"{kind}_sum"], abs=1e-6)
        assert sums[kind]["calls"] == sum(one.kind == kind for task in TRUTH for one in task.calls)
    calls = sum(len(task.calls) for task in TRUTH)
    least = (
        calls if name in ("steps.csv", "inspect.json") else calls + len(TRUTH)
    )  # others have a span of the agent, too
    assert data["read"]["spans"] >= least
    assert data["read"]["spans"] == data["read"]["kept"] + data["read"]["dropped"]
    assert data["read"]["dropped"] == 0


@pytest.mark.parametrize("name", trace_files.FORMATS)
def test_contents_are_told_nowhere(call: Call, folder: Path, tmp_path: Path, name: str) -> None:
    """What prompts, answers, arguments, results and messages held is in no output, and in no file that is written."""
    source = folder / f"made.{name}"
    if name != "steps.csv":
        assert SECRET.encode() in source.read_bytes()
    printed = call("trace", "explain", source, "-o", tmp_path / "out", "--task", "max")
    assert printed.code == 0, printed.err
    shown = call("trace", "export", source, "--format", "otlp", "-o", tmp_path / "out" / "export.json")
    assert shown.code == 0, shown.err
    assert SECRET not in printed.out + printed.err + shown.out + shown.err
    assert [path.name for path in (tmp_path / "out").rglob("*") if SECRET.encode() in path.read_bytes()] == []


def test_files_may_be_packed_split_and_mixed(call: Call, tmp_path: Path) -> None:
    """Half of the tasks in one format, packed, and half in another give the tables of all in one file."""
    first, second = tmp_path / "a", tmp_path / "b.log"
    first.write_bytes(gzip.compress(trace_files.as_otlp_lines(TRUTH[:6])))
    second.write_bytes(trace_files.as_langfuse(TRUTH[6:]))
    whole = data_of(call, written(tmp_path))
    mixed = data_of(call, first, second)
    assert seconds(mixed) == pytest.approx(seconds(whole), rel=1e-6)
    assert mixed["summary"]["tasks"] == whole["summary"]["tasks"]


def test_the_same_files_give_the_same_bytes(call: Call, folder: Path, tmp_path: Path) -> None:
    """Output and written files are equal, byte for byte."""
    source = folder / "made.otlp.json"
    outputs = [call("trace", "explain", source, "-q", "-o", tmp_path / "same").out]
    before = {path.name: path.read_bytes() for path in (tmp_path / "same").iterdir()}
    outputs.append(call("trace", "explain", source, "-q", "-o", tmp_path / "same", "--overwrite").out)
    assert outputs[0] == outputs[1]
    assert {path.name: path.read_bytes() for path in (tmp_path / "same").iterdir()} == before


def test_names_can_be_hashed(call: Call, folder: Path) -> None:
    """No name of a model, a tool or an agent is printed, and the times are the same."""
    source = folder / "made.otlp.json"
    open_, hashed = data_of(call, source), data_of(call, source, "--hash-names")
    assert seconds(hashed) == pytest.approx(seconds(open_))
    told = json.dumps(hashed["calls"])
    assert not any(name in told for name in ("planner-large", "coder", '"read"', '"edit"', '"test"'))


# -- what is written


def test_explain_writes_a_folder_that_a_report_takes(call: Call, folder: Path, tmp_path: Path) -> None:
    """The folder holds the answer, its tables and its page; `coordsim report` makes a page of it again."""
    out = tmp_path / "out"
    code, _printed, err = call("trace", "explain", folder / "made.otlp.json", "-o", out)
    assert code == 0, err
    assert f"written to {out}" in err
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "trace.json",
        "trace.csv",
        "report.md",
        "report.html",
        "result.json",
        "calls.csv",
        "tasks.parquet",
        "spans.parquet",
    }
    rows = (out / "calls.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + sum(len(task.calls) for task in TRUTH)
    again = call("report", out, "--format", "md")
    assert again.code == 0, again.err
    assert call("trace", "explain", folder / "made.otlp.json", "-o", out).code == 2


@pytest.mark.parametrize("format", ["table", "md", "csv"])
def test_explain_prints_every_format(call: Call, folder: Path, format: str) -> None:
    """Each says the parts, and no number that is none."""
    code, out, err = call("trace", "explain", folder / "made.otlp.json", "--format", format)
    assert code == 0, err
    assert "unexplained" in out
    assert "nan" not in out.split()


def test_one_task_is_drawn(call: Call, folder: Path) -> None:
    """`show` draws the waterfall of one task of trace files, by percentile or number; `explain --task` puts it below its tables."""
    source = folder / "made.otlp.json"
    code, out, err = call("trace", "show", source, "--task", "0")
    assert code == 0, err
    assert "planner-large" in out
    assert "= T_total" in out
    assert "replication" not in out
    slowest = call("trace", "show", source, "--task", "p99").out
    assert slowest.splitlines()[1:] != out.splitlines()[1:]
    below = call("trace", "explain", source, "--task", "p99").out
    assert all(line.strip() in below for line in slowest.splitlines()[:5])
    data = json.loads(call("trace", "show", source, "--task", "0", "--format", "json").out)["task"]
    first = TRUTH[0]
    assert data["end"] - data["arrival"] == pytest.approx((first.end - first.start) / 1e3)
    assert sum(data["categories"].values()) == pytest.approx(data["end"] - data["arrival"])


@pytest.mark.parametrize("form", ["otlp", "otlp-proto", "perfetto", "chrome", "csv"])
def test_a_trace_is_exported(call: Call, folder: Path, tmp_path: Path, form: str) -> None:
    """Every format is written to a file, whole; a second time only with `--overwrite`."""
    out = tmp_path / "export"
    given = ("trace", "export", folder / "made.langfuse.jsonl", "--format", form, "-o", out)
    code, printed, err = call(*given)
    assert (code, printed) == (0, ""), err
    assert re.search(r"12 tasks .* written to", err)
    before = out.read_bytes()
    assert before
    assert call(*given).code == 2
    assert call(*given, "--overwrite", "-q") == (0, "", "")
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_an_export_of_a_trace_is_the_same_trace(call: Call, folder: Path, tmp_path: Path) -> None:
    """What was read, written as OTLP and read again, has the same tasks and parts."""
    out = tmp_path / "export.json"
    source = folder / "made.langsmith.jsonl"
    assert call("trace", "export", source, "--format", "otlp", "-o", out).code == 0
    before, after = data_of(call, source), data_of(call, out)
    assert seconds(after) == seconds(before)
    assert after["summary"]["tasks"] == before["summary"]["tasks"]


def test_a_run_folder_is_exported_and_drawn(call: Call, tmp_path: Path) -> None:
    """A run's export as text goes to stdout; its import has the run's parts, and `show` draws what `coordsim show` does."""
    run = tmp_path / "run"
    given = ("run", "quickstart", "--tasks", "12", "--replications", "1", "--workers", "1", "--warmup", "0 s")
    assert call(*given, "--spans", "all", "-o", run, "-q").code == 0
    code, text, err = call("trace", "export", run, "--format", "otlp")
    assert code == 0, err
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    imported = data_of(call, tmp_path / "run.json")
    simulated = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    parts = {name: one["seconds"]["value"] for name, one in simulated["categories"].items() if one["seconds"]["value"]}
    assert seconds(imported) == pytest.approx(parts)
    assert len(call("trace", "show", run, "--task", "p99").out.splitlines()) < 80
    drawn = call("trace", "show", run, "--task", "p99", "--all").out
    assert drawn.splitlines()[1] in call("show", run, "--task", "p99").out
    assert "= T_total" in drawn
    assert "12 tasks arrived" in call("trace", "show", run, "--task", "12").err
    assert "trace export" in " ".join(call("trace", "explain", run).err.split())
    for option in (("--hash-names",), ("--by", "session")):  # they say how trace files are read
        code, text, err = call("trace", "export", run, "--format", "otlp", *option)
        assert (code, text) == (2, "")
        assert "is for trace files" in " ".join(err.split())


# -- fit


def test_a_fit_is_a_scenario_that_runs(call: Call, folder: Path, tmp_path: Path) -> None:
    """The scenario is written, checked without a mistake, and answers what-ifs; it is not replaced unasked."""
    out = tmp_path / "my.yaml"
    code, printed, err = call("trace", "fit", folder / "made.otlp.json", "-o", out)
    assert code == 0, err
    assert printed
    assert "#" in out.read_text(encoding="utf-8")
    assert call("check", out).code == 0
    plain = call("run", out, "--tasks", "20", "--replications", "2", "--workers", "1", "-q")
    assert plain.code == 0, plain.err
    assert call("trace", "fit", folder / "made.otlp.json", "-o", out).code == 2


def test_a_fit_is_held_against_tasks_that_it_did_not_see(call: Call, folder: Path, tmp_path: Path) -> None:
    """`--holdout` prints predicted beside measured, with an interval."""
    code, out, err = call(
        "trace", "fit", folder / "made.otlp.json", "-o", tmp_path / "my.yaml", "--holdout", "0.5", "--workers", "1"
    )
    assert code == 0, err
    assert all(word in out for word in ("predicted", "measured", "p50", "p90"))


# -- what cannot be


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b'{"hello": "world"}', "read are"),
        (b"just some words\nand more\n", "read are"),
        (b'{"resourceSpans": []}', "no span"),
        (b"PAR1 and nothing else", "Parquet"),
        (b"\x1f\x8bbroken" + bytes(60), "gzip"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "fit", "export", "show"])
def test_a_file_that_is_no_trace_is_refused(
    call: Call, tmp_path: Path, command: str, content: bytes, words: str
) -> None:
    """Every command ends with 2, names the file and the reason, prints nothing, and writes nothing."""
    path, out = tmp_path / "given", tmp_path / "out.yaml"
    path.write_bytes(content)
    more: tuple[str | Path, ...] = {
        "explain": (), "fit": ("-o", out), "export": ("--format", "otlp", "-o", out), "show": ("--task", "p50"),
    }[command]  # fmt: skip
    code, printed, err = call("trace", command, path, *more)
    assert (code, printed) == (2, "")
    assert "given" in err
    assert words in err
    assert not out.exists()


def test_metrics_are_no_spans(call: Call) -> None:
    """A file of OTLP metrics is told apart from traces."""
    path = REAL / "otlp_metrics_example.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    code, out, err = call("trace", "explain", path)
    assert (code, out) == (2, "")
    assert "metric" in err


def test_a_file_that_is_not_there_and_a_folder(call: Call, tmp_path: Path) -> None:
    """Both are named; a folder that is no run is no source either."""
    for command in (("explain",), ("show", "--task", "p50"), ("export", "--format", "csv")):
        code, _, err = call("trace", *command, tmp_path / "absent.json")
        assert code == 2
        assert "absent.json" in err
        code, _, err = call("trace", *command, tmp_path)
        assert code == 2
        assert tmp_path.name in err


def test_a_folder_that_explain_wrote_is_an_answer_and_no_trace(call: Call, folder: Path, tmp_path: Path) -> None:
    """It is said to be one, with the command that makes its page."""
    assert call("trace", "explain", folder / "made.otlp.json", "-o", tmp_path / "was", "-q").code == 0
    for command in (("explain",), ("show", "--task", "0")):
        code, out, err = call("trace", *command, tmp_path / "was")
        assert (code, out) == (2, "")
        assert "coordsim report" in " ".join(err.split())


def test_all_rows_and_spans_are_given_on_request(call: Call, folder: Path) -> None:
    """`--full` and `--all`; `--limit` draws few spans, and not both."""
    source = folder / "made.otlp.json"
    assert len(call("trace", "explain", source, "--full").out) > len(call("trace", "explain", source).out)
    shown = [call("trace", "show", source, "--task", "max", *how).out for how in (["--limit", "4"], ["--all"])]
    assert "shorter, " in shown[0]
    assert "shorter, " not in shown[1]
    assert call("trace", "show", source, "--task", "0", "--all", "--limit", "4").code == 2


@pytest.mark.parametrize(
    "name", ["otlp.json", "otlp.jsonl", "otlp.pb", "langfuse.jsonl", "langsmith.jsonl", "inspect.json"]
)
def test_a_file_that_breaks_off_is_read_up_to_there(call: Call, folder: Path, tmp_path: Path, name: str) -> None:
    """What came before is told, and that it breaks off; or the file is refused with that reason."""
    whole = (folder / f"made.{name}").read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) * 2 // 3])
    code, out, err = call("trace", "explain", path, "-q")
    assert code in (0, 2)
    assert re.search(r"break|broken|ends|trunc|no JSON|incomplete|damaged", out + err), out + err
    if code == 0:
        assert "T_total" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain",), "FILE"),
        (("show", "FILE"), "--task"),
        (("show", "FILE", "--task", "slow"), "percentile"),
        (("show", "FILE", "--task", "9999"), "9999"),
        (("show", "FILE", "--task", "p50", "--format", "csv"), "CSV"),
        (("explain", "FILE", "--task", "p50", "--format", "csv"), "CSV"),
        (("explain", "FILE", "--by", "user"), "session"),
        (("fit", "FILE"), "--out"),
        (("fit", "FILE", "-o", "my.json"), ".yaml"),
        (("fit", "FILE", "-o", "my.yaml", "--holdout", "0"), "--holdout"),
        (("fit", "FILE", "-o", "my.yaml", "--holdout", "1"), "--holdout"),
        (("fit", "FILE", "-o", "my.yaml", "--holdout", "nan"), "--holdout"),
        (("export", "FILE"), "--format"),
        (("export", "FILE", "--format", "zipkin"), "perfetto"),
        (("export", "FILE", "--format", "perfetto"), "-o"),
    ],
)
def test_options_that_cannot_be_are_refused(
    call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    """Each ends with 2, with the option or the remedy in the message, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    given = [folder / "made.otlp.json" if one == "FILE" else one for one in arguments]
    code, out, err = call("trace", *given)
    assert (code, out) == (2, "")
    assert words in err
    assert list(tmp_path.iterdir()) == []


# -- what ships


def test_the_file_that_ships_is_made_here(root: Path) -> None:
    """The synthetic traces are those that `trace_files` makes; `write_shipped` writes them anew."""
    path = root / "scenarios" / "data" / trace_files.SHIPPED
    assert path.read_bytes() == trace_files.shipped()
    assert path.stat().st_size < 150_000
    assert SECRET.encode() not in path.read_bytes()


# -- the page


BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """The commands of docs/traces.md exit with 0, one after the other; its table of steps is read; its Python runs."""
    (tmp_path / "scenarios").symlink_to(root / "scenarios")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((root / "docs" / "traces.md").read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"sh", "csv", "python"}
    commands = [line for language, text in blocks if language == "sh" for line in text.splitlines()]
    assert len(commands) >= 8
    for line in commands:
        name, *arguments = shlex.split(line, comments=True)
        assert name == "coordsim"
        short = ["--tasks", "20", "--replications", "2"] if arguments[0] == "run" and "--tasks" not in arguments else []
        alone = (
            ["--workers", "1"] if arguments[0] != "trace" or arguments[1] == "fit" else []
        )  # others would be started first
        code, _, err = call(*arguments, *short, *alone)
        assert code == 0, f"{line}\n{err}"
    for language, text in blocks:
        if language == "csv":
            Path("steps.csv").write_text(text, encoding="utf-8")
            assert data_of(call, "steps.csv")["summary"]["tasks"]["done"] == 1
        if language == "python":
            exec(compile(text, "traces.md", "exec"), {})


def test_every_format_is_on_the_page(root: Path) -> None:
    """docs/traces.md names each format that is told apart, each format of an export, and each column of a table of steps."""
    text = (root / "docs" / "traces.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in EXPORTS)
    assert all(f"`{name}`" in text for name in ALIASES)
    assert all(
        name in text for name in ("OTLP", "OpenInference", "Langfuse", "LangSmith", "Inspect", "TraceLab", "steps")
    )
