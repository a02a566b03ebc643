"""Tables of steps are read as docs/traces.md has them; broken, huge and adversarial files are counted or refused in words."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.trace.formats.genai import size
from coordsim.sim.trace.formats.rows import JsonBytes
from coordsim.sim.trace.formats.values import error_in, error_type, nanoseconds, number, text
from coordsim.sim.trace.tally import TraceError

from .test_trace_formats import SHARED, given, lines, needs_shared, run, span, take

NAN = float("nan")
SECOND = 1_000_000_000


def table(*rows: str, header: str = "task,kind,name,start_s,dur_s") -> str:
    """Return a table as CSV."""
    return "\n".join((header, *rows)) + "\n"


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a packed CSV."""
    return list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))


@needs_shared
def test_the_measured_steps_come_in_as_they_are() -> None:
    """Times, tokens, errors and tasks of 12 320 steps equal sums over the rows; a tool's category is part of it."""
    path = SHARED / "agent_runs" / "agentcgroup_steps.csv.gz"
    rows = read(path)
    found, tally, file = take(path)
    assert (len(found), tally.dropped, file.own_clocks) == (len(rows), 0, True)
    assert len({one.trace for one in found}) == len(
        {(row["set"], row["task"], row["attempt"], row["model"]) for row in rows}
    )
    assert {one.problem for one in found} == {row["task"] for row in rows}
    for kind in ("llm", "tool"):
        lasted = sum(round(float(row["dur_s"]) * 1e9) for row in rows if row["kind"] == kind)
        assert sum((one.end or 0) - (one.start or 0) for one in found if one.kind == kind) == lasted
    said = Counter[str]()
    for row in rows:
        said.update({key: int(row[key]) for key in ("in_tok", "cache_read", "cache_write", "out_tok") if row[key]})
    assert sum(one.input_tokens or 0 for one in found) == said["in_tok"] + said["cache_read"] + said["cache_write"]
    assert sum(one.cached_tokens or 0 for one in found) == said["cache_read"]
    assert sum(one.output_tokens or 0 for one in found) == said["out_tok"]
    assert sum(one.error != "" for one in found) == sum(row["is_error"] == "1" for row in rows)
    tools = Counter(f"{row['name']} {row['category']}".strip() for row in rows if row["kind"] == "tool")
    assert Counter(one.component for one in found if one.kind == "tool") == tools
    assert tools["Bash test"] == 938


@needs_shared
def test_the_measured_requests_come_in_as_calls_of_models() -> None:
    """28 028 requests of agents and their sub-agents: input is all of it, and what the prefix cache found is cached."""
    path = SHARED / "agent_runs" / "cc_weka_requests.csv.gz"
    rows = read(path)
    found, tally, _ = take(path)
    assert {one.kind for one in found} == {"llm"}
    assert (len(found), tally.dropped) == (len(rows), 0)
    assert sum(one.input_tokens or 0 for one in found) == sum(int(row["in_tok"]) for row in rows)
    assert sum(one.cached_tokens or 0 for one in found) == sum(
        min(int(row["in_tok"]), 64 * int(row["prefix_hit_x64"])) for row in rows
    )
    assert Counter(one.agent for one in found) == Counter(row["agent"] for row in rows)
    assert sum(one.end is None for one in found) == sum(not row["api_time"] for row in rows)
    assert sum(one.first_token is not None for one in found) == sum(bool(row["ttft"]) for row in rows)
    assert any("no `kind`" in what for what in tally.notes)


def test_times_as_dates_as_numbers_and_in_order(tmp_path: Path) -> None:
    """`start` is a date, an epoch in any unit, or seconds of the file's clock; `start_s` counts from the task's; without either, in order."""
    for start in (
        "2026-01-01T00:00:00Z",
        "2026-01-01 01:00:00+01:00",
        "1767225600",
        "1767225600000",
        "1767225600000000",
        "1767225600000000000",
    ):
        found, _, file = given(tmp_path, f"task,kind,start,dur_s\na,llm,{start},2\n")
        assert (found[0].start, found[0].end, file.own_clocks) == (1767225600 * SECOND, 1767225602 * SECOND, False)
    found, _, file = given(tmp_path, "task,kind,start,end\na,llm,5,7.5\n")
    assert (found[0].start, found[0].end, file.own_clocks) == (5 * SECOND, 7_500_000_000, False)
    found, _, file = given(tmp_path, "trial,kind,start_ms,latency_ms,ttft_ms\na,llm,500,1500,250\n")
    assert (found[0].start, found[0].end, found[0].first_token, file.own_clocks) == (
        SECOND // 2,
        2 * SECOND,
        3 * SECOND // 4,
        True,
    )
    found, tally, _ = given(tmp_path, "task,kind,dur_s\na,llm,1\nb,llm,5\na,tool,2\n")
    assert [(one.start, one.end) for one in found] == [(0, SECOND), (0, 5 * SECOND), (SECOND, 3 * SECOND)]
    assert sum(note.spans for note in tally.notes.values() if note.fate == "guessed") == 3


TOKENS = [
    ("input_tokens,cached_tokens,output_tokens", "60,50,5", (60, 50, 5)),
    ("input_tokens,cached_tokens,output_tokens", "10,50,5", (60, 50, 5)),
    ("new_tokens,cached_tokens,output_tokens", "10,50,5", (60, 50, 5)),
    ("in_tok,cache_read,cache_write,out_tok", "3,50,7,5", (60, 50, 5)),
    ("in_tok,out_tok", "60,5", (60, None, 5)),
    ("Prompt Tokens,completion-tokens", "60,5", (60, None, 5)),
    ("input_tokens,output_tokens", ",", (None, None, None)),
    ("input_tokens,output_tokens", "many,-3", (None, None, None)),
]


@pytest.mark.parametrize(("header", "row", "expected"), TOKENS)
def test_tokens_by_every_name(header: str, row: str, expected: tuple[float | None, ...], tmp_path: Path) -> None:
    """Input holds what was cached, by whichever columns the table says it."""
    found, _, _ = given(tmp_path, f"task,kind,start_s,dur_s,{header}\na,llm,0,1,{row}\n")
    assert (found[0].input_tokens, found[0].cached_tokens, found[0].output_tokens) == expected


def test_errors_are_types_and_flags(tmp_path: Path) -> None:
    """A status that is fine is no error; a sentence is never kept; the flag decides where there is one."""
    rows = [
        ("", "", ""),
        ("ok", "", ""),
        ("200", "", ""),
        ("TimeoutError", "", "TimeoutError"),
        ("429", "", "429"),
        ("it broke at x", "", "error"),
    ]
    content = "task,kind,start_s,dur_s,error\n" + "".join(f"a,tool,0,1,{error}\n" for error, _, _ in rows)
    assert [one.error for one in given(tmp_path, content)[0]] == [expected for _, _, expected in rows]
    content = "task,kind,start_s,dur_s,error,is_error\na,tool,0,1,Odd,0\na,tool,0,1,Odd,true\na,tool,0,1,,1\n"
    assert [one.error for one in given(tmp_path, content)[0]] == ["", "Odd", "error"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("kind,start_s,dur_s", "needs the column `task`"),
        ("tasks,kind,start_s,dur_s", r"`task` \(is it `tasks`\? rename it\)"),
        ("task,kind,name", "needs the column `start_s`"),
        ("task,start_s,dur_s", "needs the column `kind`"),
    ],
)
def test_a_missing_column_is_named(header: str, words: str, tmp_path: Path) -> None:
    """The error says which column is needed, what there is, and what may have been meant."""
    with pytest.raises(TraceError, match=words) as caught:
        given(tmp_path, header + "\n" + ",".join("1" for _ in header.split(",")) + "\n")
    assert all(f"`{name}`" in str(caught.value) for name in header.split(","))


def test_rows_that_cannot_be_read_are_counted_with_their_lines(tmp_path: Path) -> None:
    """Bad times, rows of another length and rows of no task are dropped; the note names the first line, and no value."""
    content = table(
        "a,llm,x,0,1",
        "a,llm,x,zebra,1",
        "a,llm,x,nan,1",
        "a,llm,x,1,inf",
        "a,llm,x,1",
        ",llm,x,1,1",
        'a,tool,"x, ""y""\nz",1,1',
        "",
    )
    found, tally, _ = given(tmp_path, content)
    assert [one.component for one in found] == ["x", 'x, "y" z']
    notes = {note.what: (note.spans, note.example) for note in tally.notes.values()}
    assert notes["a row has no time that can be read"] == (3, "line 3")
    assert notes["a row has more or fewer cells than the header"] == (1, "line 6")
    assert notes["a row names no task"] == (1, "line 7")
    assert "zebra" not in repr(tally)


def test_tables_in_every_container_give_the_same(tmp_path: Path) -> None:
    """CSV with any delimiter and quotes, Parquet, JSON lines, a list and gzip of them hold the same steps."""
    import pandas as pd

    frame = pd.DataFrame({"task": ["a", "a"], "kind": ["llm", "tool"], "model": ["m", None], "name": ["chat", "ls; x"],
                          "start_s": [0.0, 1.5], "dur_s": [1.5, NAN], "out_tok": [5, NAN]})  # fmt: skip
    frame.to_parquet(tmp_path / "f")
    results = [take(tmp_path / "f")[0]]
    results += [
        given(tmp_path, "\ufeff" + frame.to_csv(index=False, sep=mark), "f")[0] for mark in (",", ";", "\t", "|")
    ]
    records = json.loads(frame.to_json(orient="records"))
    results += [
        given(tmp_path, shape, "f")[0]
        for shape in (lines(records), records, {"steps": records}, gzip.compress(lines(records).encode()))
    ]
    results.append(given(tmp_path, json.dumps(frame.to_dict(orient="records")), "f")[0])  # NaN, which is no JSON
    assert [(one.component, one.output_tokens, one.end) for one in results[0]] == [
        ("m", 5, 1_500_000_000),
        ("ls; x", None, None),
    ]
    for found in results[1:]:
        assert [(one.trace, one.kind, one.component, one.start, one.end, one.output_tokens) for one in found] == [
            (one.trace, one.kind, one.component, one.start, one.end, one.output_tokens) for one in results[0]
        ]


# ---------------------------------------------------------------------------------------------------------------------
# Broken, huge and adversarial
# ---------------------------------------------------------------------------------------------------------------------
ODD: list[Any] = [
    None,
    True,
    -1,
    1e300,
    "",
    "x" * 100_000,
    [],
    [[]],
    {},
    {"a": {"b": None}},
    [None, 1, {}],
    "2026-13-45T99:99:99",
    10**400,
    "NaN",
]


@pytest.mark.parametrize("odd", ODD, ids=[str(place) for place in range(len(ODD))])
def test_values_of_any_type_in_any_field_are_survived(odd: Any, tmp_path: Path) -> None:
    """Each field of each format in turn holds what it should not: every span comes out or is counted, none raises."""
    fine: dict[str, Any] = {
        "langfuse": span(
            "a",
            metadata={"attributes": {}},
            usageDetails={"input": 1},
            level="x",
            model="m",
            input=1,
            completionStartTime=None,
        ),
        "langsmith": run(
            "a",
            "llm",
            error="e",
            extra={},
            outputs={"generations": [[{}]]},
            inputs={},
            events=[],
            dotted_order="x",
            child_runs=[],
        ),
        "tracelab": {
            "session_id": "s",
            "round_index": 0,
            "timing_events": [{"event_type": "text", "timestamp": "2026-01-01"}],
            "tools": [{}],
            "model": "m",
        },
        "steps": {
            "task": "a",
            "kind": "llm",
            "start_s": 0,
            "dur_s": 1,
            "name": "x",
            "out_tok": 1,
            "is_error": 0,
            "error": "x",
            "parent": "y",
        },
        "openinference": {
            "name": "x",
            "context": {"trace_id": "t", "span_id": "s"},
            "attributes": {},
            "events": [],
            "status": {},
            "start_time": "2026",
        },
    }
    for form, record in fine.items():
        others = [{**record, key: odd} for key in record]
        found, tally, file = given(tmp_path, lines([record, *others]))
        assert (file.format, len(found) >= 1) == (form, True)
        assert tally.spans >= len(others) + 1 - (form == "langsmith")
    sample = {
        "id": odd,
        "epoch": odd,
        "error": odd,
        "events": [{"event": "model", "timestamp": odd, "output": odd}, odd, {"event": odd, "uuid": odd}],
    }
    found, _, _ = given(tmp_path, {"eval": {"task": "x"}, "status": "success", "samples": [sample, {"events": odd}]})
    assert found[0].kind == "workflow"


def test_a_document_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    """At every place of the cut: an error, or the spans before it and a count of the one that is lost."""
    content = json.dumps({"trace": {"id": "t"}, "observations": [span(f"s{place}") for place in range(4)]}).encode()
    outcomes = set()
    for cut in [*range(40, len(content), 5), len(content) - 1]:
        try:
            found, tally, file = given(tmp_path, content[:cut])
        except TraceError:
            outcomes.add(-1)
        else:
            assert (tally.dropped, "breaks off" in file.remark) == (1, True)
            outcomes.add(len(found))
    assert outcomes == {-1, 1, 2, 3, 4}


def test_bad_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    """A line of garbage, one too deep and one cut off do not end the reading."""
    good = json.dumps(span("a"))
    deep = '{"id": ' + "[" * 5000 + "]" * 5000 + "}"
    found, tally, _ = given(tmp_path, f"{good}\n%%%\n{deep}\n\n{good}\n{good[:30]}")
    assert len(found) == 2
    assert tally.notes["a line is no JSON"].spans == 3
    assert tally.notes["a line is no JSON"].example == "line 2"


def test_json_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    """A document of 200 000 levels is an error, soon; brackets in a string are no levels."""
    head = '{"trace": {"id": "t"}, "observations": [' + json.dumps(span("a")) + ","
    with pytest.raises(TraceError, match="nested deeper"):
        given(tmp_path, head + '{"type": "SPAN", "input": ' + '[{"a":' * 100_000)
    found, _, _ = given(tmp_path, {"observations": [span("a", input="{[" * 50_000 + '\\"' * 3)]})
    assert found[0].input_bytes == 100_006


def test_cells_and_strings_of_a_million_characters_are_read(tmp_path: Path) -> None:
    """A prompt in one cell of a table, or in one string of JSON, is measured and let go."""
    huge = "x, \"'\n" * 170_000
    text_of = io.StringIO()
    writer = csv.writer(text_of)
    writer.writerows(
        [["task", "kind", "start_s", "dur_s", "prompt"], ["a", "llm", 0, 1, huge], ["a", "tool", 1, 1, ""]]
    )
    assert len(given(tmp_path, text_of.getvalue())[0]) == 2
    found, _, _ = given(tmp_path, [span("a", input=huge), span("b")])
    assert [one.input_bytes for one in found] == [len(huge), None]


def test_parquet_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """Cut off, its end is missing; with its data damaged, the pages cannot be read."""
    import pandas as pd

    pd.DataFrame({"task": ["a"] * 5000, "kind": "llm", "dur_s": range(5000)}).to_parquet(tmp_path / "f")
    content = (tmp_path / "f").read_bytes()
    for broken in (content[:-100], content[:4] + b"\xff" * 2000 + content[2004:]):
        with pytest.raises(TraceError, match="damaged or breaks off"):
            given(tmp_path, broken)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Spans are given as they are read: 3000 of 2 kB in one document need less than 4 MB beside what is kept."""
    path = tmp_path / "f.json"
    with path.open("w") as out:
        out.write('{"trace": {"id": "t"}, "observations": [')
        out.writelines(
            ("," if place else "") + json.dumps(span(f"s{place}", input="y" * 2000)) for place in range(3000)
        )
        out.write("]}")
    from coordsim.sim.trace.detect import open_trace
    from coordsim.sim.trace.formats.langfuse import observations
    from coordsim.sim.trace.tally import Tally

    stream, file = open_trace(path)
    with stream:
        tracemalloc.start()
        count = sum(1 for _ in observations(stream, file, Tally()))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 3000
    assert most < 4_000_000 < path.stat().st_size


def test_nan_in_json_is_null_and_words_in_strings_stay() -> None:
    """The bytes are right however they are cut to pieces: escapes and words over the borders too."""
    value = '{"a": NaN, "b": [-Infinity, Infinity, -1], "NaN": "a NaN \\" Infinity \\\\", "c": "\\\\\\"NaN"}'
    expected = json.loads(value, parse_constant=lambda _: None)
    for length in range(1, 40):
        source, pieces = JsonBytes(io.BytesIO(value.encode())), []
        while piece := source.read(length):
            pieces.append(piece)
        assert json.loads(b"".join(pieces)) == expected


def test_times_numbers_names_and_sizes_from_what_files_write() -> None:
    """Dates with nine digits, without a zone, of pandas; numbers as text; names on one line; types of errors."""
    assert nanoseconds("2026-01-01T00:00:00.123456789Z") == 1767225600_123456789
    assert nanoseconds("2026-01-01T00:00:00.5") == 1767225600_500000000
    assert nanoseconds("2026-01-01 00:00:00 UTC") == 1767225600_000000000
    assert nanoseconds("2026-01-01T00:00:00.1234567+12:00") == 1767182400_123456700
    assert nanoseconds("2026-01-01T00:00:00,123456789Z") == 1767225600_123456789
    assert nanoseconds("2026-01-01 00:00:00.25 UTC") == 1767225600_250000000
    assert nanoseconds("20260101") == 1767225600_000000000
    assert nanoseconds("1767225600123456789") == 1767225600_123456789
    assert nanoseconds("1711121712345") == 1711121712_345000000  # which may be read as a date of the year 1711, too
    unreadable: list[Any] = [None, True, NAN, "", "soon", [], 1e300, 10**400]
    assert [nanoseconds(odd) for odd in unreadable] == [None] * 8
    assert [number(odd) for odd in ("1e3", "1_000", "inf", NAN, None, True, 10**400, "x")] == [1000.0, *[None] * 7]
    assert [text(odd) for odd in ("a\nb", 5, True, None, NAN)] == ["a b", "5", "", "", ""]
    assert [size(odd) for odd in ("ä", {"a": "ä"}, None, "", "\ud800", [1, b"23"])] == [2, 3, 0, 0, 1, 3]
    types: list[Any] = ["rate_limit", {"type": "x"}, {}, "a b", "success", 500]
    assert [error_type(odd) for odd in types] == ["rate_limit", "x", "error", "error", "", "500"]
    assert [error_in(odd) for odd in ("KeyError: 'x'", "rate_limit", "", None)] == ["KeyError", "error", "", ""]
