"""Each format gives every span of its files, of the right kind, with the tokens that the files have, and nothing of their contents."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.trace.detect import FORMATS, open_trace
from coordsim.sim.trace.formats.values import mapping
from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.tally import FileTally, Tally

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not (SHARED / "traces").exists(), reason="the traces (shared/data/traces) are not here"
)
SECRET = "ZEBRA-9417-SECRET"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def take(path: Path) -> tuple[list[Observation], Tally, FileTally]:
    """Return what a file gives, after the check that every span met is given or counted as dropped."""
    tally = Tally()
    stream, file = open_trace(path)
    with stream:
        found = list(
            import_module(f"coordsim.sim.trace.formats.{FORMATS[file.format]}").observations(stream, file, tally)
        )
    assert file.spans == len(found)
    assert tally.spans == len(found) + tally.dropped
    return found, tally, file


def given(
    tmp_path: Path, content: bytes | str | object, name: str = "f.json"
) -> tuple[list[Observation], Tally, FileTally]:
    """Return what a file of this content gives; what is no text is written as JSON."""
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return take(tmp_path / name)


def lines(records: list[Any]) -> str:
    """Return records as JSON lines."""
    return "".join(json.dumps(one) + "\n" for one in records)


def kinds(found: list[Observation]) -> dict[str, int]:
    """Return how many spans there are of each kind."""
    return dict(Counter(one.kind for one in found))


def document(path: Path) -> Any:
    """Return the JSON in a gzip file."""
    return json.loads(gzip.decompress(path.read_bytes()))


# ---------------------------------------------------------------------------------------------------------------------
# Langfuse
# ---------------------------------------------------------------------------------------------------------------------
FRAMEWORKS = {
    "agno-2025-06-11": {"agent": 1, "llm": 4, "tool": 1},
    "beeai-2025-08-01": {"agent": 4, "llm": 3, "tool": 1, "workflow": 3, "other": 18},
    "crewai-2025-07-11": {"agent": 1, "llm": 1, "workflow": 1, "other": 3},
    "google-adk-2025-08-28": {"agent": 1, "llm": 2, "tool": 1, "workflow": 1},
    "koog-2025-08-26": {"agent": 2, "llm": 2, "tool": 2, "other": 5},
    "langgraph-python-2025-08-22": {"llm": 2, "tool": 1, "other": 6},
    "microsoft-agent-2025-12-17": {"agent": 1, "llm": 2, "tool": 1},
    "pydantic-ai-2025-06-06": {"agent": 1, "llm": 1, "other": 1},
    "pydantic-ai-tools-2025-12-04": {"agent": 3, "llm": 4, "tool": 3, "workflow": 1, "other": 1},
    "vercel-aisdk-2025-11-17": {"agent": 1, "llm": 1, "tool": 1},
}
TOOLS = {
    "agno-2025-06-11": {"duckduckgo_search"},
    "beeai-2025-08-01": {"search.wikipedia"},
    "google-adk-2025-08-28": {"say_hello"},
    "koog-2025-08-26": {"ByeTool", "HelloTool"},
    "langgraph-python-2025-08-22": {"Web-Search"},
    "microsoft-agent-2025-12-17": {"get_weather"},
    "pydantic-ai-tools-2025-12-04": {"get_pun_suggestion", "get_dad_joke_suggestion", "get_one_liner_suggestion"},
    "vercel-aisdk-2025-11-17": {"getWeather"},
}


@needs_shared
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_spans_of_ten_frameworks_are_what_they_are(name: str) -> None:
    """Kinds and tools by reading the files; tokens, times and parents equal those of the JSON, span by span."""
    path = SHARED / "traces" / "langfuse" / f"{name}.trace.json.gz"
    found, tally, _ = take(path)
    raw = {one["id"]: one for one in document(path)["observations"]}
    assert {one.id for one in found} == set(raw)
    assert tally.dropped == 0
    assert kinds(found) == FRAMEWORKS[name]
    assert {one.component for one in found if one.kind == "tool"} == TOOLS.get(name, set())
    for one in found:
        record = raw[one.id]
        assert one.parent == (record["parentObservationId"] or "")
        since = [datetime.fromisoformat(record[key]) - EPOCH for key in ("startTime", "endTime")]
        assert [one.start, one.end] == [moment // timedelta(microseconds=1) * 1000 for moment in since]
        if one.kind == "llm":
            usage = record["usageDetails"]
            assert (one.input_tokens, one.output_tokens) == (usage.get("input"), usage.get("output"))
            asked = mapping(mapping(record["metadata"]).get("attributes")).get("gen_ai.request.model")
            assert one.component == (asked or record["model"])
        else:
            assert (one.input_tokens, one.output_tokens) == (None, None)


def span(mark: str, kind: str = "GENERATION", **fields: Any) -> dict[str, Any]:
    """Return an observation of Langfuse as its API writes it."""
    base = {"id": mark, "traceId": "t", "type": kind, "name": mark, "parentObservationId": None}
    return {**base, "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-01-01T00:00:02.500Z", **fields}


USAGES = [
    ({"usageDetails": {"input": 10, "output": 5, "total": 15}}, (10, None, 5)),
    ({"usageDetails": {"input": 10, "output": 5, "total": 65, "input_cached_tokens": 50}}, (60, 50, 5)),
    ({"usageDetails": {"input": 60, "output": 5, "total": 65, "input_cache_read": 50}}, (60, 50, 5)),
    (
        {"usageDetails": {"input": 10, "output": 5, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 7}},
        (67, 50, 5),
    ),
    ({"usageDetails": {"input": 60, "output": 5, "prompt_details.cache_read": 50}}, (60, 50, 5)),
    ({"usageDetails": {"input": 10, "output": 2, "output_reasoning": 3, "total": 15}}, (10, None, 5)),
    ({"usage_details": {"input": 10, "output": 5}}, (10, None, 5)),
    ({"usage": {"input": 10, "output": 5, "total": 15, "unit": "TOKENS"}}, (10, None, 5)),
    ({"usage": {"input": 10, "output": 5, "unit": "CHARACTERS"}}, (None, None, None)),
    ({"usage": {"promptTokens": 10, "completionTokens": 5}}, (10, None, 5)),
    ({"promptTokens": 10, "completionTokens": 5}, (10, None, 5)),
    ({"usageDetails": '{"input": 10, "output": 5}'}, (10, None, 5)),
    ({"usageDetails": {"input": "many", "output": None}}, (None, None, None)),
    ({"usageDetails": [1, 2]}, (None, None, None)),
]


@pytest.mark.parametrize(("fields", "expected"), USAGES)
def test_usage_of_langfuse_in_all_its_spellings(
    fields: dict[str, Any], expected: tuple[float | None, ...], tmp_path: Path
) -> None:
    """Input tokens hold the cached ones, whether the file keeps them apart or not: the total tells."""
    found, _, _ = given(tmp_path, [span("a", **fields)])
    assert (found[0].input_tokens, found[0].cached_tokens, found[0].output_tokens) == expected


def test_langfuse_in_every_container_gives_the_same(tmp_path: Path) -> None:
    """A document, a list, a page, lines, lines of documents, snake case and a table hold the same spans."""
    spans = [span("a", "AGENT"), span("b", parentObservationId="a", model="m", usageDetails={"input": 3, "output": 4})]
    snake = [
        {"id": s["id"], "trace_id": "t", "type": s["type"], "name": s["name"], "parent_observation_id": s["parentObservationId"],
         "start_time": s["startTime"], "end_time": s["endTime"], "model": s.get("model"), "usage_details": s.get("usageDetails")}
        for s in spans
    ]  # fmt: skip
    table = io.StringIO()
    writer = csv.DictWriter(table, list(snake[0]))
    writer.writeheader()
    writer.writerows({**one, "usage_details": json.dumps(one["usage_details"] or {})} for one in snake)
    shapes: list[Any] = [
        {"trace": {"id": "t", "observations": ["a", "b"]}, "observations": spans},
        spans,
        {"data": spans, "meta": {"page": 1}},
        {"id": "t", "sessionId": "", "observations": spans},
        lines(spans),
        lines([{"trace": {"id": "t"}, "observations": spans}]) * 1 + "\n",
        snake,
        lines(snake),
        table.getvalue(),
    ]
    results = [given(tmp_path, shape)[0] for shape in shapes]
    for result in results:
        assert result == results[0]
    assert [(one.kind, one.component, one.parent) for one in results[0]] == [("agent", "a", ""), ("llm", "m", "a")]


def test_langfuse_types_and_details(tmp_path: Path) -> None:
    """Every type of observation has its kind; the session, the first token, an error and the open end come from where they are."""
    types = [
        "SPAN",
        "GENERATION",
        "EVENT",
        "AGENT",
        "TOOL",
        "CHAIN",
        "RETRIEVER",
        "EVALUATOR",
        "EMBEDDING",
        "GUARDRAIL",
    ]
    spans = [span(f"s{place}", kind, endTime=None) for place, kind in enumerate(types)]
    spans[1].update(
        completionStartTime="2026-01-01T00:00:00.750Z",
        endTime="2026-01-01T00:00:01Z",
        level="ERROR",
        statusMessage=SECRET,
    )
    found, _, _ = given(tmp_path, {"trace": {"id": "t", "sessionId": "u"}, "observations": spans})
    expected = ["other", "llm", "other", "agent", "tool", "workflow", "retriever", "client", "embedding", "client"]
    assert [one.kind for one in found] == expected
    assert {one.session for one in found} == {"u"}
    assert (found[1].first_token or 0) - (found[1].start or 0) == 750_000_000
    assert [one.error for one in found] == ["", "error", *[""] * 8]
    assert [one.end is None for one in found] == [True, False, False, *[True] * 7]  # an event is a moment


# ---------------------------------------------------------------------------------------------------------------------
# LangSmith
# ---------------------------------------------------------------------------------------------------------------------
def run(mark: str, kind: str, **fields: Any) -> dict[str, Any]:
    """Return a run of LangSmith."""
    base = {"id": mark, "trace_id": "t", "run_type": kind, "name": f"the {mark}", "parent_run_id": None}
    return {**base, "start_time": "2026-01-01T00:00:00.000001", "end_time": "2026-01-01T00:00:01.500001", **fields}


def test_langsmith_runs(tmp_path: Path) -> None:
    """Kinds, models, tokens from each place that has them, threads, first tokens, types of errors."""
    message = {
        "generations": [
            [
                {
                    "message": {
                        "kwargs": {
                            "usage_metadata": {
                                "input_tokens": 9,
                                "output_tokens": 2,
                                "input_token_details": {"cache_read": 4},
                            }
                        }
                    }
                }
            ]
        ]
    }
    runs = [
        run("a", "chain", extra={"metadata": {"thread_id": "th"}}),
        run(
            "b",
            "llm",
            parent_run_id="a",
            extra={"metadata": {"ls_model_name": "m"}},
            outputs=message,
            first_token_time="2026-01-01T00:00:00.250001",
        ),
        run(
            "c",
            "llm",
            outputs={"llm_output": {"token_usage": {"prompt_tokens": 7, "completion_tokens": 1}, "model_name": "n"}},
        ),
        run(
            "d",
            "llm",
            prompt_tokens=6,
            completion_tokens=3,
            prompt_token_details={"cache_read": 5},
            events=[{"name": "new_token", "time": "2026-01-01T00:00:01"}],
        ),
        run("e", "tool", error=f"TimeoutError('{SECRET}')\n\nTraceback: {SECRET}", inputs={"x": SECRET}, outputs=None),
        *(run(kind, kind) for kind in ("retriever", "embedding", "prompt", "parser")),
    ]
    for shape in (runs, lines(runs), {"runs": runs}):
        found, tally, _ = given(tmp_path, shape)
        assert [one.kind for one in found] == [
            "workflow",
            "llm",
            "llm",
            "llm",
            "tool",
            "retriever",
            "embedding",
            "other",
            "other",
        ]
        assert [(one.input_tokens, one.cached_tokens, one.output_tokens) for one in found[1:4]] == [
            (9, 4, 2),
            (7, None, 1),
            (6, 5, 3),
        ]
        assert [one.component for one in found[1:3]] == ["m", "n"]
        assert found[0].session == "th"
        assert (found[1].first_token or 0) - (found[1].start or 0) == 250_000_000
        assert (found[4].error, found[4].component) == ("TimeoutError", "the e")
        assert tally.dropped == 0


def test_langsmith_runs_inside_of_runs_and_dotted_orders(tmp_path: Path) -> None:
    """`child_runs` are spans too; a missing trace or parent is in the dotted order."""
    nested = run("a", "chain", child_runs=[run("b", "chain", trace_id=None, child_runs=[run("c", "tool")])])
    order = "20260101T000000000000Za.20260101T000000000001Zd"
    plain = run("d", "llm", trace_id=None, dotted_order=order)
    found, _, _ = given(tmp_path, [nested, plain])
    assert [(one.id, one.trace, one.parent) for one in found] == [
        ("a", "t", ""),
        ("b", "t", "a"),
        ("c", "t", "b"),
        ("d", "a", "a"),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Inspect
# ---------------------------------------------------------------------------------------------------------------------
@needs_shared
def test_inspect_logs(tmp_path: Path) -> None:
    """Each sample is a task; calls, errors and tokens equal those of the events; the log as a zip gives the same."""
    for path in sorted((SHARED / "traces" / "inspect").glob("*.json.gz")):
        log = document(path)
        found, _, file = take(path)
        samples = log["samples"] or []
        events = [event for sample in samples for event in sample["events"]]
        count = Counter(event["event"] for event in events)
        assert Counter(one.kind for one in found)["llm"] == count["model"]
        assert Counter(one.kind for one in found)["tool"] == count["tool"]
        assert len(found) == len(samples) + sum(count[what] for what in ("model", "tool", "sandbox", "span_begin"))
        assert sum(one.input_tokens or 0 for one in found) == sum(
            event["output"]["usage"]["input_tokens"] for event in events if event["event"] == "model"
        )
        assert len({one.trace for one in found}) == len(samples)
        marks = {one.id for one in found}
        assert len(marks) == len(found)
        assert {one.parent for one in found} <= {*marks, ""}
        if not samples:
            assert file.remark == "the log has no samples with events"
        with zipfile.ZipFile(tmp_path / path.name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps({key: log[key] for key in ("version", "status", "eval")}))
            for sample in samples:
                archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        assert take(tmp_path / path.name)[0] == found


def test_older_inspect_logs_and_people(tmp_path: Path) -> None:
    """Steps that begin and end, tools that hold their events, calls without an end, tokens counted apart, a person's input."""

    def event(what: str, second: int, **fields: Any) -> dict[str, Any]:
        return {"event": what, "timestamp": f"2026-01-01T00:00:{second:02}+00:00", **fields}

    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 65, "input_tokens_cache_read": 50}
    inner = event("model", 8, model="m", output={"usage": {"input_tokens": 1, "output_tokens": 1}, "time": 1.5})
    events = [
        event("step", 0, action="begin", type="solver", name="plan"),
        event("model", 1, model="m", output={"usage": usage}, working_time=2.0),
        event(
            "tool",
            7,
            function="search",
            events=[inner],
            completed="2026-01-01T00:00:12+00:00",
            error={"type": "timeout", "message": SECRET},
        ),
        event("step", 13, action="end", type="solver", name="plan"),
        event("input", 20, input=SECRET),
        event("tool", 21, function="late", pending=True),
    ]
    sample = {"id": 1, "epoch": 2, "events": events, "error": {"message": f"RuntimeError: {SECRET}"}}
    found, tally, file = given(
        tmp_path,
        {"version": 2, "status": "error", "eval": {"task": "x", "run_id": "r"}, "samples": [sample, "no sample"]},
    )
    names = [(one.kind, one.name, one.component) for one in found]
    assert names == [
        ("workflow", "x", "x"), ("other", "plan", ""), ("llm", "chat", "m"), ("tool", "execute_tool", "search"), ("llm", "chat", "m"),
        ("human", "input", "user"), ("tool", "execute_tool", "late"),
    ]  # fmt: skip
    root, plan, call, search, inside, person, late = found
    assert root.error == "RuntimeError"
    assert (call.input_tokens, call.cached_tokens, call.output_tokens) == (60, 50, 5)
    assert (call.parent, search.parent, inside.parent, late.parent) == (plan.id, plan.id, plan.id, root.id)
    assert search.error == "timeout"
    assert [((one.end or 0) - (one.start or 0)) / 1e9 for one in (root, plan, call, search, inside, person)] == [
        21,
        13,
        2,
        5,
        1.5,
        7,
    ]
    assert late.end is None
    assert (tally.dropped, file.remark) == (1, "its run ended as `error`")


# ---------------------------------------------------------------------------------------------------------------------
# TraceLab
# ---------------------------------------------------------------------------------------------------------------------
@needs_shared
def test_tracelab_rounds_and_tables_to_replay() -> None:
    """Rounds, tools and tokens equal those of the files; the time before a message is a person's."""
    for path in sorted((SHARED / "traces" / "tracelab").glob("*.jsonl")):
        rounds = [json.loads(line) for line in path.read_text().splitlines()]
        found, _, _ = take(path)
        assert kinds(found) == {"llm": len(rounds), "tool": sum(len(one["tools"]) for one in rounds), "human": 3}
        assert sum(one.input_tokens or 0 for one in found) == sum(one["input_tokens_total"] for one in rounds)
        assert sum(one.cached_tokens or 0 for one in found) == sum(one["prefix_tokens"] for one in rounds)
        latency = sum(tool["tool_wall_latency_ms"] for one in rounds for tool in one["tools"])
        assert sum((one.end or 0) - (one.start or 0) for one in found if one.kind == "tool") == latency * 1_000_000
        assert all(one.end is not None and one.start is not None and one.end > one.start for one in found)
    for path in sorted((SHARED / "traces" / "tracelab").glob("*.csv")):
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        found, _, file = take(path)
        calls = [one for one in found if one.kind == "llm"]
        assert len(calls) == len(rows)
        assert all(one.start == one.end for one in calls)
        assert sum(one.output_tokens or 0 for one in calls) == sum(int(row["output_len"]) for row in rows)
        assert (
            sum((one.end or 0) - (one.start or 0) for one in found)
            == sum(int(row["tool_wait_after_ms"]) for row in rows) * 1_000_000
        )
        assert file.own_clocks == ("arrival_time" not in rows[0])
