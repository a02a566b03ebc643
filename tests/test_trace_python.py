"""Traces in Python: what `coordsim.traces` answers with.

Leaves out: the command (tests/test_trace_command.py), and formats.
"""

from pathlib import Path

import numpy as np
import pytest

import coordsim as cs
from coordsim.models.scenario import Scenario

from . import trace_files
from .command import Call
from .trace_files import made, totals

TRUTH = made(12, seed=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of made traces."""
    path = tmp_path_factory.mktemp("traces") / "made.json"
    path.write_bytes(trace_files.as_otlp_json(TRUTH))
    return path


@pytest.fixture(scope="module")
def found(file: Path) -> cs.Traces:
    """Return what is told of them."""
    return cs.traces(file)


def test_it_says_what_the_command_says(found: cs.Traces, file: Path, call: Call) -> None:
    """The report has every line of the command's; its warnings, which the command has on stderr, come last."""
    code, out, err = call("trace", "explain", file, "-q")
    assert code == 0, err
    lines = {line.strip() for line in out.splitlines()}
    said = found.summary().partition("\nWARNING:")[0]
    assert [line for line in said.splitlines() if line.strip() not in lines] == []
    assert str(found).startswith(out.rstrip("\n"))
    assert max(map(len, str(found).splitlines())) <= 100
    assert found.warnings
    assert [f"WARNING: {one}" for one in found.warnings] == err.splitlines()


def test_a_row_is_a_task(found: cs.Traces) -> None:
    """Seconds by category sum to T_total, which is that of the truth."""
    frame = found.to_frame()
    assert len(frame) == len(TRUTH)
    assert frame["total_s"].sum() == pytest.approx(totals(TRUTH)["wall"])
    parts = [f"{name}_s" for name in ("inference", "tool", "unexplained")]
    assert frame[parts].sum(axis=1).to_numpy() == pytest.approx(frame["total_s"].to_numpy())


def test_a_row_is_a_call(found: cs.Traces) -> None:
    """Calls have their times, tokens and errors, as they were made."""
    calls = found.calls()
    truth = [one for task in TRUTH for one in task.calls]
    assert len(calls) == len(truth)
    assert calls["seconds_s"].sum() == pytest.approx(sum(one.end - one.start for one in truth) / 1e3)
    models = calls[calls["kind"] == "llm"]
    assert models["new_tokens"].tolist() == [one.new for one in truth if one.kind == "llm"]
    assert models["cached_tokens"].tolist() == [one.cached for one in truth if one.kind == "llm"]
    assert models["output_tokens"].tolist() == [one.output for one in truth if one.kind == "llm"]
    assert (calls["error"] != "").sum() == sum(bool(one.error) for one in truth)
    assert np.isnan(calls[calls["kind"] == "tool"]["new_tokens"]).all()


def test_an_answer_can_be_drawn_saved_and_shown(found: cs.Traces, tmp_path: Path) -> None:
    """It has a chart, a page, HTML for a notebook and one line."""
    assert found.figure().data
    page = found.save(tmp_path / "page.html")
    assert "unexplained" in page.read_text(encoding="utf-8")
    assert "unexplained" in found._repr_html_()
    assert repr(found).startswith("Traces: ")
    assert found.tally.spans == found.tally.kept == len(TRUTH) + sum(len(task.calls) for task in TRUTH)


def test_it_is_exported(found: cs.Traces, tmp_path: Path) -> None:
    """An export read again has the same tasks; so has that of a simulation."""
    path = found.export(tmp_path / "again.json")
    assert cs.traces(path).to_frame()["total_s"].tolist() == found.to_frame()["total_s"].tolist()
    run = cs.simulate(cs.load("quickstart").replace("workload.tasks", 20), replications=1, spans="all")
    written = run.export(tmp_path / "run.json", "otlp")
    assert cs.traces(written).to_frame()["total_s"].tolist() == run.results[0].to_frame()["total_s"].tolist()


def test_it_is_fitted(found: cs.Traces, tmp_path: Path) -> None:
    """A fit is a scenario like any other; a what-if on it is a comparison."""
    scenario = found.fit(tmp_path / "my.yaml")
    assert isinstance(scenario, Scenario)
    assert cs.load(tmp_path / "my.yaml").hash == scenario.hash
    (model,) = scenario.models
    faster = cs.compare(scenario.replace("workload.tasks", 30), changes={f"models.{model}.speed": 2}, replications=2)
    assert faster.result.saving.share.value > 0


def test_what_cannot_be_says_what_can(found: cs.Traces, tmp_path: Path) -> None:
    """Another format is an error with those there are; a trace without calls has a table of them with columns and no row."""
    with pytest.raises(ValueError, match=r"otlp-proto.*'xml'"):
        found.export(tmp_path / "x", "xml")  # type: ignore[arg-type]
    file = tmp_path / "steps.csv"
    file.write_text("task,kind,agent,start_s,dur_s\nt,agent,bot,0,4\n")
    none = cs.traces(file).calls()
    assert none.empty
    assert none.columns.tolist() == found.calls().columns.tolist()


def test_a_file_that_is_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A file that is not there, an empty one, and no file at all."""
    (tmp_path / "empty").touch()
    with pytest.raises(cs.TraceError, match="empty"):
        cs.traces(tmp_path / "empty")
    with pytest.raises(cs.TraceError, match="absent"):
        cs.traces([tmp_path / "absent"])
    with pytest.raises(cs.TraceError, match="file"):
        cs.traces([])


def test_time_to_the_first_token_counts_from_the_start_of_its_call(tmp_path: Path) -> None:
    """Five calls of 4 s, each with its first token after 0.5 s, whenever it began."""
    file = tmp_path / "steps.csv"
    rows = [f"t,llm,m,{5 * at},4,0.5,100,10" for at in range(5)]
    file.write_text("\n".join(["task,kind,model,start_s,dur_s,ttft_s,input_tokens,output_tokens", *rows]))
    assert cs.traces(file).calls()["ttft_s"].tolist() == [0.5] * 5


def test_a_step_that_nobody_has_a_name_for_is_its_number(tmp_path: Path) -> None:
    """A table of steps without agents: `step 1`, and no colon behind it."""
    file = tmp_path / "steps.csv"
    file.write_text("task,kind,model,start_s,dur_s\nt,llm,m,0,4\nt,llm,m,5,4\n")
    steps = cs.traces(file).result.run.steps
    assert steps is not None
    assert [row.label for row in steps.rows] == ["step 1", "step 2", "outside any step"]
