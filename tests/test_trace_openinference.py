"""Spans with the attributes of OpenInference come out the same from every export of them."""

from __future__ import annotations

import json
from pathlib import Path

from .test_trace_formats import given, take


def test_openinference_nested_flat_and_in_columns(tmp_path: Path) -> None:
    """Attributes nested, under dotted names and in columns, with dates as text or as Parquet has them, say the same."""
    import pandas as pd

    flat = {
        "llm.token_count.prompt": 9,
        "llm.token_count.prompt_details.cache_read": 4,
        "llm.token_count.completion": 2,
        "llm.model_name": "m",
    }
    nested = {
        "llm": {"token_count": {"prompt": 9, "prompt_details": {"cache_read": 4}, "completion": 2}, "model_name": "m"}
    }
    times = {"start_time": "2026-01-01T00:00:00.123456789+00:00", "end_time": "2026-01-01T00:00:01+00:00"}
    base = {"name": "x", "span_kind": "LLM", "parent_id": None, "status_code": "ERROR", **times}
    context = {"trace_id": "0xab", "span_id": "0xcd"}
    columns = {
        **base,
        "context.trace_id": "ab",
        "context.span_id": "cd",
        **{f"attributes.{key}": value for key, value in flat.items()},
    }
    frame = pd.DataFrame([{**columns, **{key: pd.Timestamp(value) for key, value in times.items()}}])
    frame.to_parquet(tmp_path / "spans.parquet")
    results = [given(tmp_path, [{**base, "context": context, "attributes": one}])[0] for one in (nested, flat)]
    results += [given(tmp_path, {"data": [{**base, "context": context, "attributes": nested}]})[0]]
    results += [given(tmp_path, pd.DataFrame([columns]).to_csv(index=False))[0], take(tmp_path / "spans.parquet")[0]]
    for found in results:
        assert found == results[0]
    one = results[0][0]
    assert (one.trace, one.id, one.kind, one.component, one.error) == ("ab", "cd", "llm", "m", "error")
    assert (one.input_tokens, one.cached_tokens, one.output_tokens) == (9, 4, 2)
    assert (one.start, one.end) == (1767225600_123456789, 1767225601_000000000)


def test_spans_as_the_console_exporter_prints_them(tmp_path: Path) -> None:
    """Documents one after the other, over several lines each, are read without a list around them."""
    one = {"name": "execute_tool ls", "context": {"trace_id": "0x1", "span_id": "0x2"}, "kind": "SpanKind.INTERNAL", "parent_id": "0x3",
           "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:01Z", "status": {"status_code": "ERROR", "description": "OSError: x"},
           "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "ls"}, "events": [],
           "resource": {"attributes": {"service.name": "s"}}}  # fmt: skip
    found, _, _ = given(tmp_path, json.dumps(one, indent=4) + "\n" + json.dumps(one, indent=4))
    assert [(x.kind, x.component, x.trace, x.parent, x.process, x.error) for x in found] == [
        ("tool", "ls", "1", "3", "s", "OSError")
    ] * 2


def test_rows_of_logfire(tmp_path: Path) -> None:
    """Its table of records names times and states otherwise; spans that were still pending are there again when they end."""
    base = {"trace_id": "ab", "kind": "span", "otel_status_code": None, "exception_type": None, "service_name": "s",
            "start_timestamp": "2026-01-01T00:00:00.5Z", "end_timestamp": "2026-01-01T00:00:02Z"}  # fmt: skip
    llm = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 9}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "ls"}
    rows = [
        {**base, "kind": "pending_span", "span_id": "3", "parent_span_id": None, "span_name": "chat m", "attributes": llm},
        {**base, "span_id": "1", "parent_span_id": None, "span_name": "chat m", "attributes": llm},
        {**base, "span_id": "2", "parent_span_id": "1", "span_name": "execute_tool ls", "attributes": tool,
         "otel_status_code": "ERROR", "exception_type": "ValueError"},
    ]  # fmt: skip
    found, _, _ = given(tmp_path, {"columns": [], "rows": rows})
    assert [(x.kind, x.name, x.component, x.parent, x.error, x.process) for x in found] == [
        ("llm", "chat m", "m", "", "", "s"),
        ("tool", "execute_tool ls", "ls", "1", "ValueError", "s"),
    ]
    assert (found[0].start, found[0].end, found[0].input_tokens) == (1767225600_500000000, 1767225602_000000000, 9)
