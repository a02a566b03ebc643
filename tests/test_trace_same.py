"""Traces that are exported and read again are told the same: every table, call by call, with nothing guessed; in Jaeger's terms one span a call."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.trace_digest import digest_of, result_of
from coordsim.models.trace_export import export, of_folder, of_measured
from coordsim.sim.analysis.trace_digest import TraceDigest
from coordsim.sim.trace.export import Format
from coordsim.sim.trace.measured import Call, Measured
from coordsim.sim.trace.read import read

from .exported import folder_of
from .otlp_files import START, document, timed

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
TRACES = ["langfuse", "inspect", "tracelab", "otlp_trace_example.json"]
STEPS = SHARED / "agent_runs" / "agentcgroup_steps.csv.gz"
SCENARIOS = {"coding-agent": 2, "provider-outage": 12, "research-team": 1}
SECOND = 1_000_000_000


def given(name: str) -> Path:
    """Return measured traces, or skip."""
    path = SHARED / "traces" / name
    if not path.exists():
        pytest.skip(f"no measured traces here: ../shared/data/traces/{name} is not there")
    return path


def told(digest: TraceDigest) -> dict[str, Any]:
    """Return all that is told of a trace, but for which files it was read from."""
    return {
        "summary": repr(digest.run.summary),
        "cohorts": repr(digest.run.cohorts),
        **{name: repr(getattr(digest, name)) for name in digest.__dataclass_fields__ if name not in ("run", "read")},
    }


def calls_of(measured: Measured) -> list[list[tuple[Any, ...]]]:
    """Return what is known of the calls of each task, but for where they stand in it, which a table does not tell."""
    return [[_known(one, task.arrival) for one in task.calls] for task in measured.tasks]


def _known(call: Call, arrival: float) -> tuple[Any, ...]:
    counts = (call.new, call.cached, call.output, call.first_token, call.input_bytes, call.output_bytes)
    times = round((call.start - arrival) * SECOND), round((call.end - call.start) * SECOND)
    return (
        call.kind, call.component, *times, *("" if math.isnan(one) else round(one, 9) for one in counts), call.error, call.retried,
    )  # fmt: skip


def check_same(before: Measured, path: Path, form: Format) -> Measured:
    """Assert that an export is read as what was exported, and return it."""
    export(of_measured(before), form, path)
    after = read([path], name=before.name)
    assert after.tally.notes == {}
    assert after.tally.dropped == 0
    assert (after.arrivals, after.tally.clock, after.tally.zero) == (
        before.arrivals,
        before.tally.clock,
        before.tally.zero,
    )
    assert after.sums == before.sums
    assert repr(after.tasks) == repr(before.tasks)
    one, two = result_of(before), result_of(after)
    assert one.failures == two.failures
    assert all(one.spans.of(task) == two.spans.of(task) for task in one.spans.tasks)
    assert told(digest_of(after)) == told(digest_of(before))
    return after


@pytest.mark.parametrize("form", ["otlp", "otlp-proto"])
@pytest.mark.parametrize("name", TRACES)
def test_measured_traces_are_told_the_same(name: str, form: Format, tmp_path: Path) -> None:
    """Calls by component, errors, tokens, sums, categories and spans are equal, and the clock is the same, or none."""
    check_same(read([given(name)]), tmp_path / "export", form)


@pytest.mark.parametrize("form", ["otlp", "otlp-proto"])
def test_failed_calls_of_coding_agents_are_told_the_same(form: Format, tmp_path: Path) -> None:
    """The first twenty tasks on no common clock come back with all of their errors, as many as the table has, and still have no clock."""
    if not STEPS.is_file():
        pytest.skip("no measured steps here: ../shared/data/agent_runs/agentcgroup_steps.csv.gz is not there")
    with gzip.open(STEPS, "rt", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        groups = itertools.groupby(rows, lambda row: (row["set"], row["task"], row["attempt"]))
        some = [row for _, task in itertools.islice(groups, 20) for row in task]
    table = tmp_path / "steps.csv"
    with table.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, some[0])
        writer.writeheader()
        writer.writerows(some)
    before = read([table])
    after = check_same(before, tmp_path / "export", form)
    errors = sum(bool(call.error) for task in after.tasks for call in task.calls)
    assert errors == sum(row["is_error"] == "1" for row in some) > 20
    assert len(after.tasks) == 20
    assert not after.arrivals
    assert after.tally.clock == ""


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("form", ["otlp", "otlp-proto", "csv"])
def test_simulated_runs_are_told_the_same(name: str, form: Format, tmp_path: Path) -> None:
    """A run that is exported, read, exported and read again has the same calls, which are as many as its own."""
    run = of_folder(folder_of(tmp_path, name, SCENARIOS[name]))
    export(run, "otlp", tmp_path / "first")
    before = read([tmp_path / "first"])
    chats = sum(one.name == "chat" and one.category == "structure" for task in run.tasks for one in task.spans)
    assert before.sums.calls["llm"] == chats > 0
    if form != "csv":
        check_same(before, tmp_path / "second", form)
        return
    export(run, "csv", tmp_path / "second.csv")
    after = read([tmp_path / "second.csv"])
    assert after.sums.calls == before.sums.calls
    kinds = [
        Counter((call.kind, call.component, call.error) for task in one.tasks for call in task.calls)
        for one in (before, after)
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", TRACES)
def test_a_table_has_the_same_calls(name: str, tmp_path: Path) -> None:
    """As CSV each call is one row, with its component, times, tokens and error; it is dated where there is a clock."""
    before = read([given(name)])
    export(of_measured(before), "csv", tmp_path / "calls.csv")
    after = read([tmp_path / "calls.csv"])
    assert sorted(calls_of(after)) == sorted(calls_of(before))
    assert after.sums.calls == before.sums.calls
    assert after.arrivals == before.arrivals
    with (tmp_path / "calls.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["kind"] in before.sums.calls for row in rows) == sum(before.sums.calls.values())
    assert ("start" in rows[0]) == before.arrivals


# ---------------------------------------------------------------------------------------------------------------------
# What other tools see


def made(tmp_path: Path) -> Measured:
    """Return a task in which a call of a model is critical until a longer one beside it begins, and a tool fails."""
    model: dict[str, Any] = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "gpt"}
    lead: dict[str, Any] = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": "lead"}
    find: dict[str, Any] = {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": "find"}
    spans = [
        timed(1, 0, "invoke_agent lead", 0, 10, **lead),
        timed(2, 1, "chat gpt", 1, 5, **model, gen_ai__usage__input_tokens=100, gen_ai__usage__output_tokens=20),
        timed(3, 1, "chat gpt", 3, 8, **model, gen_ai__usage__input_tokens=70, error__type="RateLimitError"),
        timed(4, 1, "execute_tool find", 8, 9, **find, error__type="timeout"),
    ]
    path = tmp_path / "made.json"
    path.write_text(json.dumps(document(*spans)))
    return read([path])


def exported(measured: Measured, path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the spans of an export with their attributes."""
    export(of_measured(measured), "otlp", path)
    (resource,) = json.loads(path.read_text())["resourceSpans"]
    return [
        (one, {each["key"]: next(iter(each["value"].values())) for each in one["attributes"]})
        for one in resource["scopeSpans"][0]["spans"]
    ]


def test_a_call_is_one_span_as_it_was(tmp_path: Path) -> None:
    """Start, end, tokens and error are those of the file; that it was critical for a part is told by INTERNAL spans in it."""
    measured = made(tmp_path)
    found = exported(measured, tmp_path / "back.json")
    chats = [(one, its) for one, its in found if its.get("gen_ai.operation.name") == "chat"]
    starts = [int(one["startTimeUnixNano"]) - START for one, _ in chats]
    ends = [int(one["endTimeUnixNano"]) - START for one, _ in chats]
    assert sorted(zip(starts, ends, strict=True)) == [(SECOND, 5 * SECOND), (3 * SECOND, 8 * SECOND)]
    assert sorted(its["gen_ai.usage.input_tokens"] for _, its in chats) == ["100", "70"]
    assert [(its["error.type"], one["status"]) for one, its in chats if "error.type" in its] == [
        ("RateLimitError", {"code": 2})
    ]
    tools = [
        (its["gen_ai.tool.name"], its["error.type"], one["status"]) for one, its in found if "gen_ai.tool.name" in its
    ]
    assert tools == [("find", "timeout", {"code": 2})]
    cut = {one["spanId"] for one, its in chats if "coordsim.id" not in its}
    pieces = [one for one, _ in found if one.get("parentSpanId") in cut]
    assert len(cut) == 1
    assert sorted(one["name"] for one in pieces) == ["coordsim.beside gpt", "coordsim.critical gpt"]
    assert {one["kind"] for one in pieces} == {1}
    check_same(measured, tmp_path / "again", "otlp")


def test_viewers_show_a_call_as_one_slice(tmp_path: Path) -> None:
    """In Chrome's JSON too, though the ledger has it in pieces."""
    run = of_measured(made(tmp_path))
    export(run, "chrome", tmp_path / "chrome.json")
    events = json.loads((tmp_path / "chrome.json").read_text())["traceEvents"]
    slices = [(one["ts"], one["dur"]) for one in events if one["ph"] == "X" and one["name"] == "chat gpt"]
    assert sorted(slices) == [(1e6, 4e6), (3e6, 5e6)]
    assert sum(len([one for one in task.spans if one.name == "chat"]) for task in run.tasks) == 3


def test_an_export_without_a_clock_stays_without(tmp_path: Path) -> None:
    """Tasks of a table that counts each from its own beginning have no date and no arrivals, however they are written."""
    path = tmp_path / "steps.csv"
    path.write_text("task,kind,name,start_s,dur_s\na,llm,x,0,1\na,tool,y,1,2\nb,llm,x,0,4\n")
    before = read([path])
    forms: list[Format] = ["otlp", "otlp-proto"]
    for form in forms:
        after = check_same(before, tmp_path / form, form)
        assert (after.arrivals, after.tally.clock) == (False, "")
    root = next(its for _, its in exported(before, tmp_path / "one.json") if "coordsim.task" in its)
    assert root["coordsim.clock"] is False


def test_a_call_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    """A stamp of a call that is missing, or of another type, makes the trace one of somebody else's."""
    measured = made(tmp_path)
    exported(measured, tmp_path / "back.json")
    text = (tmp_path / "back.json").read_text()
    for old, new in (('\\"turn\\":0', '\\"turn\\":true'), ('\\"kind\\":\\"tool\\"', '\\"kind\\":\\"agent\\"')):
        assert old in text
        (tmp_path / "changed.json").write_text(text.replace(old, new, 1))
        changed = read([tmp_path / "changed.json"])
        assert changed.sums.calls == measured.sums.calls
        assert changed.tasks[0].trace != measured.tasks[0].trace  # the name that it was given with is in the stamps
