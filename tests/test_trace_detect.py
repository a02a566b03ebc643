"""Formats of trace files are told from their content, whatever the name; what is none is refused in words."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest

from coordsim.sim.trace.detect import FORMATS, open_trace, recognise
from coordsim.sim.trace.tally import TraceError

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

OTLP = {
    "resourceSpans": [
        {"resource": {}, "scopeSpans": [{"spans": [{"traceId": "0af7", "spanId": "b7ad", "name": "chat m"}]}]}
    ]
}
LANGFUSE = {"id": "a", "traceId": "t", "type": "GENERATION", "startTime": "2026-01-01T00:00:00Z"}
LANGSMITH = {"id": "a", "trace_id": "t", "run_type": "llm", "start_time": "2026-01-01T00:00:00"}
INSPECT = {"version": 2, "status": "success", "eval": {"task": "x"}, "samples": []}
PHOENIX = {"name": "x", "context": {"trace_id": "t", "span_id": "s"}, "span_kind": "LLM", "attributes": {}}
TRACELAB = {"session_id": "s", "round_index": 0, "model": "m", "timing_events": [], "tools": []}
STEP = {"task": "a", "kind": "llm", "start_s": 0.0, "dur_s": 1.0}


def _document(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def _lines(value: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for _ in range(3))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_document(OTLP), "otlp"),
        (_lines(OTLP), "otlp"),
        (b"\n{\n" + _document(OTLP)[1:], "otlp"),
        (b"\xef\xbb\xbf \r\n\t" + _document(OTLP), "otlp"),
        (b"\x0a\x10\x12\x0e\x12\x0c\x0a\x04\x00\x01\x02\x03\x12\x04\x00\x01\x02\x03", "otlp-proto"),
        (b"\x00\x00\x00\x06\x0a\x04\x12\x02\x12\x00", "otlp-proto"),
        (_document({"trace": {"id": "t"}, "observations": [LANGFUSE]}), "langfuse"),
        (_document([LANGFUSE]), "langfuse"),
        (_document({"data": [LANGFUSE], "meta": {"page": 1}}), "langfuse"),
        (_lines(LANGFUSE), "langfuse"),
        (_lines({"id": "a", "trace_id": "t", "type": "SPAN", "start_time": "2026-01-01"}), "langfuse"),
        (b'id,traceId,type,name,startTime,endTime\n"a",t,SPAN,x,2026-01-01,2026-01-02\n', "langfuse"),
        (_document([LANGSMITH]), "langsmith"),
        (_lines(LANGSMITH), "langsmith"),
        (_document({"runs": [LANGSMITH]}), "langsmith"),
        (_document(INSPECT), "inspect"),
        (_document([PHOENIX]), "openinference"),
        (_document({"data": [PHOENIX], "next_cursor": None}), "openinference"),
        (b"name,context.trace_id,context.span_id,span_kind\na,b,c,LLM\n", "openinference"),
        (_lines(TRACELAB), "tracelab"),
        (b"session_id,round_idx,prefix_len,input_len,output_len\n0,0,1,2,3\n", "tracelab"),
        (b"task,kind,start_s,dur_s\na,llm,0,1\n", "steps"),
        (b"task;kind;start_s;dur_s\na;llm;0;1\n", "steps"),
        (b"Task\tKind\tstart_s\tdur_s\r\na\tllm\t0\t1\r\n", "steps"),
        (_lines(STEP), "steps"),
        (_document([STEP]), "steps"),
    ],
)
def test_content_tells_the_format(content: bytes, expected: str, tmp_path: Path) -> None:
    """Each shape is known from its bytes, plain and packed, under a name that misleads; the stream is given from its beginning."""
    assert recognise(content, "x") == expected
    for packed in (False, True):
        path = tmp_path / f"misleading{packed}.txt"
        path.write_bytes(gzip.compress(content) if packed else content)
        stream, file = open_trace(path)
        with stream:
            assert (file.format, file.name, file.bytes) == (expected, path.name, path.stat().st_size)
            assert stream.read() == content


def test_every_format_has_a_module_that_reads_it() -> None:
    """The table of formats names modules that have the one function all of them have."""
    from importlib import import_module

    for module in FORMATS.values():
        assert callable(import_module(f"coordsim.sim.trace.formats.{module}").observations)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML"),
        ("[{}]".encode("utf-16"), "UTF-16"),
        ('[{"a": 1}]'.encode("utf-16-le"), "UTF-16"),
        (pickle.dumps({"spans": [1]}), "pickle"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"\xfd7zXZ\x00....", "xz"),
        (b"BZh91AY....", "bzip2"),
        (bytes(range(256)) * 4, "nothing that is known"),
        (b'{"hello": 1}', "nothing that is known"),
        (b"[]", "nothing that is known"),
        (b"[1, 2, 3]", "nothing that is known"),
        (b"null", "nothing that is known"),
        (b"just some words", "nothing that is known"),
        (b"PAR1 and no more", "Parquet"),
        (b"{" * 100_000, "nothing that is known"),
        (b'[{"a":' * 100_000, "nothing that is known"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(content: bytes, words: str, tmp_path: Path) -> None:
    """The error names the file and what it is; it is never a traceback of a parser."""
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=words) as caught:
        open_trace(path)
    assert str(caught.value).startswith("file.json: ")


def test_a_zip_is_refused_unless_it_is_a_log_of_inspect(tmp_path: Path) -> None:
    """An archive of something is to be unpacked; one of an Inspect log is read as it is."""
    for name, inside in (("log.eval", "header.json"), ("any.zip", "spans.json")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inside, json.dumps(INSPECT))
    stream, file = open_trace(tmp_path / "log.eval")
    stream.close()
    assert file.format == "inspect"
    with pytest.raises(TraceError, match="zip archive"):
        open_trace(tmp_path / "any.zip")


def test_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    """Both errors say what is wrong with the path."""
    with pytest.raises(TraceError, match="is a directory"):
        open_trace(tmp_path)
    with pytest.raises(TraceError, match="No such file"):
        open_trace(tmp_path / "nothing.json")


def test_gzip_of_several_members_is_read_as_one(tmp_path: Path) -> None:
    """Rotated logs that are packed one by one and put together give all their lines."""
    path = tmp_path / "log.gz"
    path.write_bytes(b"".join(gzip.compress(_lines(LANGSMITH)) for _ in range(3)))
    stream, file = open_trace(path)
    with stream:
        assert file.format == "langsmith"
        assert stream.read() == _lines(LANGSMITH) * 3


def test_gzip_that_breaks_off_is_read_up_to_there_with_a_remark(tmp_path: Path) -> None:
    """What could be unpacked is given; the tally says that more is missing."""
    lines = b"".join(json.dumps({**LANGSMITH, "id": f"{number * 7919:x}"}).encode() + b"\n" for number in range(20_000))
    packed = gzip.compress(lines)
    path = tmp_path / "log.gz"
    path.write_bytes(packed[: len(packed) // 2])
    stream, file = open_trace(path)
    with stream:
        given = stream.read()
    assert 0 < len(given) < len(lines)
    assert lines.startswith(given)
    assert "breaks off" in file.remark


def test_gzip_inside_of_gzip_and_damaged_gzip_are_refused(tmp_path: Path) -> None:
    """Neither is unpacked by guessing."""
    twice = tmp_path / "twice.gz"
    twice.write_bytes(gzip.compress(gzip.compress(_lines(STEP))))
    with pytest.raises(TraceError, match="twice"):
        open_trace(twice)
    bad = tmp_path / "bad.gz"
    bad.write_bytes(b"\x1f\x8b" + b"\xff" * 50)
    with pytest.raises(TraceError, match="damaged"):
        open_trace(bad)


def test_what_names_the_format_may_come_after_a_long_prompt(tmp_path: Path) -> None:
    """A trace whose input fills the first 3 MB is still known by the observations after it."""
    path = tmp_path / "long.json"
    path.write_bytes(json.dumps({"trace": {"input": "x" * 3_000_000}, "observations": [LANGFUSE]}).encode())
    stream, file = open_trace(path)
    stream.close()
    assert file.format == "langfuse"


def test_words_in_prompts_do_not_tell_the_format() -> None:
    """Keys of another format deep inside of contents change nothing."""
    deep = {
        **LANGFUSE,
        "input": {"messages": [{"content": {"resourceSpans": [], "run_type": "llm", "eval": 1, "status": 2}}]},
    }
    assert recognise(_document({"data": [deep]}), "x") == "langfuse"


def test_parquet_is_told_by_its_columns(tmp_path: Path) -> None:
    """A Parquet file of steps, of spans and of something else; one inside of gzip must be unpacked."""
    import pyarrow as pa
    from pyarrow import parquet

    for name, columns, expected in (
        ("steps", {"task": ["a"], "kind": ["llm"], "dur_s": [1.0]}, "steps"),
        ("spans", {"context.span_id": ["a"], "context.trace_id": ["b"]}, "openinference"),
        ("runs", {"run_type": ["llm"], "id": ["a"]}, "langsmith"),
    ):
        path = tmp_path / name
        parquet.write_table(pa.table(columns), path)
        stream, file = open_trace(path)
        stream.close()
        assert file.format == expected
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "other")
    with pytest.raises(TraceError, match="without columns that are known"):
        open_trace(tmp_path / "other")
    buffer = io.BytesIO((tmp_path / "steps").read_bytes())
    (tmp_path / "packed").write_bytes(gzip.compress(buffer.getvalue()))
    with pytest.raises(TraceError, match="inside of gzip"):
        open_trace(tmp_path / "packed")


@pytest.mark.skipif(not (SHARED / "traces").exists(), reason="the traces (shared/data/traces) are not here")
def test_all_real_files_are_recognised() -> None:
    """Every trace in the data has the format of its folder; the tables of steps are steps."""
    for folder in ("langfuse", "inspect", "tracelab"):
        for path in sorted((SHARED / "traces" / folder).glob("*.*")):
            if path.suffix == ".md":
                continue
            stream, file = open_trace(path)
            stream.close()
            assert file.format == folder, path.name
    for name in ("agentcgroup_steps", "cc_weka_requests", "lmcache_agent_steps"):
        stream, file = open_trace(SHARED / "agent_runs" / f"{name}.csv.gz")
        stream.close()
        assert file.format == "steps"
