"""OTLP files, and the conventions of attributes: each framework's spans are what they are, in JSON and in protobuf alike."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from coordsim.sim.trace.formats import json_window, otlp, otlp_proto
from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.tally import FileTally, Tally, TraceError

from .otlp_files import START, document, keyed, protobuf, read_json, read_proto, span
from .otlp_frameworks import CASES

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces"
SECOND = 1_000_000_000


def notes(tally: Tally, fate: str) -> dict[str, int]:
    """What was done, and to how many spans."""
    return {what: note.spans for what, note in tally.notes.items() if note.fate == fate}


def only(read: tuple[list[Observation], FileTally, Tally]) -> Observation:
    """The one span of a file."""
    (one,) = read[0]
    return one


def told(read: tuple[list[Observation], FileTally, Tally]) -> str:
    """All that a reader keeps or says."""
    return repr(read)


# ---------------------------------------------------------------------------------------------------------------------
# Conventions
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "attributes", "more", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_span_of_a_framework_is_what_its_convention_says(
    name: str, attributes: dict[str, Any], more: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Kind, component, tokens, sizes, error and session come out as each convention has them, from JSON and from protobuf alike."""
    one = document(span(2, name, attributes, **more))
    read = read_json(one)
    seen = only(read)
    assert {key: getattr(seen, key) for key in expected} == expected
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="OTLP in protobuf needs opentelemetry-proto")
    other = read_proto(protobuf(one))
    assert other[0] == read[0]
    assert other[2] == read[2]


def test_a_guess_is_counted() -> None:
    """A kind from a span's name, tokens that leave out cached ones and a unit that is not sure are counted as guesses."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.cache_read.input_tokens": 2,
    }
    _, _, tally = read_json(
        document(span(2, "chat x"), span(3, "y", attributes | {"gen_ai.server.time_to_first_token": 3}))
    )
    assert notes(tally, "guessed") == {
        "kinds of spans taken from their names": 1,
        "input tokens that left out the cached ones, which were added": 1,
        "units of times to the first token, by what fits into the span": 1,
    }


def test_nothing_is_guessed_of_a_span_that_says_all() -> None:
    """A span with all attributes of the convention leaves no note."""
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 2}
    assert read_json(document(span(2, "chat m", attributes)))[2].notes == {}


def test_a_placeholder_of_a_running_span_is_dropped_and_counted() -> None:
    """Logfire writes a span once when it begins, under another id; the tally still accounts for it."""
    observations, file, tally = read_json(document(span(2, "x", {"logfire.span_type": "pending_span"}), span(3)))
    assert (len(observations), file.spans, tally.spans, tally.dropped) == (1, 1, 2, 1)


def test_an_error_type_that_is_a_message_is_not_kept() -> None:
    """Some write the message of an error where its type belongs; then it is an error of no type."""
    assert (
        only(read_json(document(span(2, "x", {"error.type": "could not find the customer Jane Doe"})))).error == "error"
    )


def test_stamps_of_an_export_come_with_their_types() -> None:
    """Attributes of coordsim are kept with the prefix removed: numbers, empty texts, lists and maps."""
    stamp = {
        "lane": "18446744073709551615",
        "start_s": 0.5,
        "component": "",
        "critical": True,
        "parts": [{"a": 1}, [2.5, "x"]],
    }
    one = document(span(2, "x", {f"coordsim.{name}": value for name, value in stamp.items()}))
    assert only(read_json(one)).stamp == stamp
    assert only(read_proto(protobuf(one))).stamp == stamp
    assert only(read_json(document(span(2)))).stamp is None


def test_a_process_is_the_service_and_its_instance() -> None:
    """Clocks are told apart by service and instance, or host and process; a session on the resource holds for its spans."""
    resource = {"service.name": "api", "host.name": "h1", "process.pid": 12, "session.id": "s9"}
    seen = only(read_json(document(span(2), resource=resource)))
    assert (seen.process, seen.session) == ("api/h1:12", "s9")
    assert only(read_json(document(span(2), resource=resource | {"service.instance.id": "i-4"}))).process == "api/i-4"


# ---------------------------------------------------------------------------------------------------------------------
# Shapes of files
# ---------------------------------------------------------------------------------------------------------------------
def many() -> list[dict[str, Any]]:
    """Three documents, of seven spans and two services."""
    return [
        document(
            *(span(number, f"chat m{number}", {"gen_ai.usage.output_tokens": number}) for number in numbers),
            resource={"service.name": name},
        )
        for numbers, name in (((1, 2, 3), "a"), ((4, 5), "b"), ((6, 7), "a"))
    ]


def test_a_document_lines_an_array_and_protobuf_say_the_same() -> None:
    """The same spans in any container give the same observations."""
    documents = many()
    whole = {"resourceSpans": [one for document in documents for one in document["resourceSpans"]]}
    expected = read_json(whole)[0]
    assert [one.process for one in expected] == ["a", "a", "a", "b", "b", "a", "a"]
    lines = [json.dumps(one) for one in documents]
    for text in (
        "\n".join(lines),
        "\r\n".join(lines) + "\n",
        "".join(lines),
        f"[{','.join(lines)}]",
        json.dumps(whole, indent=2),
        "\n".join(json.dumps(one, indent=1) for one in documents),
        "\ufeff" + json.dumps(whole),
        json.dumps({"batches": whole["resourceSpans"]}),
        json.dumps({"trace": whole}),
    ):
        assert read_json(text)[0] == expected
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="OTLP in protobuf needs opentelemetry-proto")
    messages = [protobuf(one) for one in documents]
    assert read_proto(b"".join(messages))[0] == expected
    prefixed = b"".join(struct.pack(">I", len(one)) + one for one in messages)
    assert read_proto(prefixed)[0] == expected


def test_other_spellings_of_the_same_span_are_the_same() -> None:
    """snake_case, base64 ids, numbers for text, halves of numbers and the older name of scopes change nothing."""
    plain = span(2, "chat m", {"gen_ai.usage.input_tokens": 5})
    plain["traceId"] = "5B8EFFF798038103D269B633813FC60C"
    expected = read_json(document(plain))[0]
    start, end = int(plain["startTimeUnixNano"]), int(plain["endTimeUnixNano"])
    snake = {
        "trace_id": base64.b64encode(bytes.fromhex(plain["traceId"])).decode(), "span_id": base64.b64encode(bytes.fromhex(plain["spanId"])).decode(),
        "parent_span_id": "0x" + plain["parentSpanId"], "name": "chat m", "kind": "SPAN_KIND_INTERNAL", "start_time_unix_nano": start,
        "end_time_unix_nano": {"high": end >> 32, "low": (end & 0xFFFFFFFF) - (1 << 32)},
        "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"int_value": 5}}], "status": {"code": "STATUS_CODE_OK"},
    }  # fmt: skip
    assert read_json({"resource_spans": [{"instrumentation_library_spans": [{"spans": [snake]}]}]})[0] == expected
    assert read_json(plain)[0] == expected


def test_a_resource_that_comes_after_its_spans_is_theirs() -> None:
    """JSON has no order: spans wait for the resource of their group."""
    one, other = many()[:2]
    turned = {
        "resourceSpans": [dict(reversed(each.items())) for each in (one["resourceSpans"][0], other["resourceSpans"][0])]
    }
    assert next(iter(turned["resourceSpans"][0])) == "scopeSpans"
    assert [seen.process for seen in read_json(turned)[0]] == ["a", "a", "a", "b", "b"]


def test_a_span_printed_by_an_sdk_is_read() -> None:
    """The console exporter of the Python SDK writes spans alone, with dates for times and an object of attributes."""
    printed = {
        "name": "chat m", "context": {"trace_id": "0x" + "a" * 32, "span_id": "0x" + "b" * 16, "trace_state": "[]"}, "kind": "SpanKind.CLIENT",
        "parent_id": "0x" + "c" * 16, "start_time": "2023-11-14T22:13:20.000001Z", "end_time": "2023-11-14T22:13:21.500000Z",
        "status": {"status_code": "ERROR"}, "attributes": {"gen_ai.operation.name": "chat", "gen_ai.usage.output_tokens": 3}, "events": [],
        "links": [], "resource": {"attributes": {"service.name": "svc"}, "schema_url": ""},
    }  # fmt: skip
    seen = only(read_json("\n".join([json.dumps(printed, indent=4)])))
    assert (seen.trace, seen.id, seen.parent, seen.process, seen.error) == (
        "a" * 32,
        "b" * 16,
        "c" * 16,
        "svc",
        "error",
    )
    assert (seen.start, seen.end, seen.output_tokens) == (START + 1000, START + 1_500_000_000, 3.0)


def test_the_examples_of_the_protocol_are_read() -> None:
    """The example trace of opentelemetry-proto is one span of one second; its metrics are recognised, and hold none."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here")
    seen = only(read_json((SHARED / "otlp_trace_example.json").read_bytes()))
    assert (seen.end or 0) - (seen.start or 0) == SECOND
    assert (seen.trace, seen.process, seen.kind) == ("5b8efff798038103d269b633813fc60c", "my.service", "other")
    observations, file, tally = read_json((SHARED / "otlp_metrics_example.json").read_bytes())
    assert (observations, tally.spans, file.remark) == ([], 0, "metrics, which hold no spans")


def test_metrics_and_logs_in_protobuf_are_recognised() -> None:
    """Their messages have the same frame as traces; what is inside tells, and none is counted as a span."""
    metrics = pytest.importorskip("opentelemetry.proto.metrics.v1.metrics_pb2", reason="needs opentelemetry-proto")
    logs = pytest.importorskip("opentelemetry.proto.logs.v1.logs_pb2", reason="needs opentelemetry-proto")
    one = metrics.MetricsData()
    metric = one.resource_metrics.add().scope_metrics.add().metrics.add(name="tokens", unit="1")
    metric.sum.data_points.add(as_int=3, time_unix_nano=START)
    other = logs.LogsData()
    other.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=START, severity_text="INFO")
    for data, what in ((one, "metrics"), (other, "logs")):
        observations, file, tally = read_proto(data.SerializeToString())
        assert (observations, tally.spans, tally.notes, file.remark) == ([], 0, {}, f"{what}, which hold no spans")


def test_a_window_smaller_than_any_value_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pieces of a stream end changes nothing: strings, numbers and letters of several bytes are cut anywhere."""
    one = document(
        span(2, "chat mé", {"gen_ai.input.messages": "é€😀" * 50, "a": -1.5e-300}),
        span(3),
        resource={"service.name": "ß"},
    )
    text = json.dumps(one, ensure_ascii=False)
    expected = read_json(text)[0]
    monkeypatch.setattr(json_window, "CHUNK", 1)
    monkeypatch.setattr(otlp_proto, "CHUNK", 1)
    assert read_json(text)[0] == expected
    assert read_proto(protobuf(one))[0] == expected


def test_memory_stays_small_however_long_the_file() -> None:
    """Twenty megabytes of spans go through a window of few: no reader keeps what it has given."""
    import tracemalloc

    class Repeated(io.RawIOBase):
        left = 40

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return piece if self.left >= 0 else b""

    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "x" * 2000}
    piece = (json.dumps(document(*(span(number, "chat m", attributes) for number in range(2, 200)))) + "\n").encode()
    file, tally = FileTally("long", "otlp", 0), Tally()
    tracemalloc.start()
    spans = 0
    for _ in otlp.observations(cast(BinaryIO, Repeated()), file, tally):
        spans += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spans == tally.spans == 40 * 198
    assert len(piece) * 40 > 15e6
    assert peak < 5e6


# ---------------------------------------------------------------------------------------------------------------------
# Damage
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cut", range(150, 1380, 83))
def test_what_comes_before_a_cut_is_kept_and_the_rest_told(cut: int) -> None:
    """However a document ends, spans that are whole are read, a span that is begun is counted as dropped, and the remark says so."""
    text = json.dumps(document(*(span(number) for number in range(1, 6)), resource={"service.name": "a"}))
    expected = read_json(text)[0]
    observations, file, tally = read_json(text[:cut])
    assert observations == expected[: len(observations)]
    assert "cut short" in file.remark
    assert tally.spans == len(observations) + tally.dropped <= 5


def test_a_damaged_line_costs_its_own_spans_alone() -> None:
    """In JSON lines reading goes on after a line that is broken, and after a last line that is cut."""
    lines = [json.dumps(one) for one in many()]
    lines[1] = lines[1][: lines[1].rindex('"traceId"') + 20]
    observations, file, tally = read_json("\n".join(lines))
    assert [one.id[-1] for one in observations] == ["1", "2", "3", "4", "6", "7"]
    assert "in 1 place" in file.remark
    assert (tally.spans, tally.dropped) == (7, 1)


def test_protobuf_that_is_cut_keeps_what_came_before() -> None:
    """At any byte: whole spans are read, and what is begun is told."""
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="OTLP in protobuf needs opentelemetry-proto")
    data = protobuf(document(*(span(number) for number in range(1, 6)), resource={"service.name": "a"}))
    expected = read_proto(data)[0]
    assert len(expected) == 5
    for cut in range(1, len(data), 7):
        observations, file, tally = read_proto(data[:cut])
        assert observations == expected[: len(observations)]
        assert "cut short" in file.remark
        assert tally.spans == len(observations) + tally.dropped


def test_a_damaged_message_leaves_the_next_one_whole() -> None:
    """In the collector's file each message says where it ends, so that damage stays in one."""
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason="OTLP in protobuf needs opentelemetry-proto")
    first, second, third = (protobuf(one) for one in many())
    data = b"".join(struct.pack(">I", len(one)) + one for one in (first, b"\x0a\xff\xff\xff\x7f" + second[5:], third))
    observations, file, _ = read_proto(data)
    assert [one.id[-1] for one in observations] == ["1", "2", "3", "6", "7"]
    assert "in 1 place" in file.remark


def test_a_span_with_damaged_fields_keeps_the_others() -> None:
    """Text that is no UTF-8 and fields of another wire type are left out; the span, its ids and its times stay."""
    trace = pytest.importorskip(
        "opentelemetry.proto.trace.v1.trace_pb2", reason="OTLP in protobuf needs opentelemetry-proto"
    )
    good = trace.Span(
        trace_id=b"\1" * 16, span_id=b"\2" * 8, name="n", start_time_unix_nano=START, end_time_unix_nano=START + 5
    ).SerializeToString()
    bad_text = good + b"\x4a\x05\x0a\x03\xff\xfe\xfd"  # an attribute whose key is no text
    number_for_name = good.replace(b"\x2a\x01n", b"\x28\x05")
    scope = b"".join(b"\x12" + bytes([len(one)]) + one for one in (bad_text, number_for_name))
    resource = (
        b"\x12" + bytes([len(scope)]) + scope
        if len(scope) < 128
        else b"\x12" + bytes([len(scope) & 0x7F | 0x80, len(scope) >> 7]) + scope
    )
    outer = b"\x0a" + bytes([len(resource) & 0x7F | 0x80, len(resource) >> 7]) + resource
    observations, _, tally = read_proto(outer)
    assert [(one.id, one.name, one.end) for one in observations] == [
        ("02" * 8, "n", START + 5),
        ("02" * 8, "", START + 5),
    ]
    assert notes(tally, "repaired") == {"spans of which a damaged field was left out": 1}


def test_gzip_that_ends_too_early_is_read_up_to_there() -> None:
    """The reader of a compressed file may fail in the middle; that is a remark, and no error."""
    packed = gzip.compress("\n".join(json.dumps(one) for one in many() * 2000).encode(), 1)
    file, tally = FileTally("packed", "otlp", 0), Tally()
    with gzip.open(io.BytesIO(packed[: len(packed) // 2])) as stream:
        spans = len(list(otlp.observations(cast(BinaryIO, stream), file, tally)))
    assert 0 < spans < 14_000
    assert "compressed" in file.remark


ODD_TIMES: tuple[Any, ...] = ("NaN", float("nan"), float("inf"), -5, 1 << 70, "yesterday", True, [], {}, "9" * 5000)


@pytest.mark.parametrize("value", ODD_TIMES)
def test_a_time_that_is_none_is_left_out_and_counted(value: Any) -> None:
    """Texts, NaN, negative and absurd numbers are no times; the span is kept without."""
    read = read_json(document(span(2, startTimeUnixNano=value)))
    assert only(read).start is None
    assert only(read).end is not None
    assert notes(read[2], "noted") == {"times that are no times, left out": 1}


def test_a_number_of_thousands_of_digits_is_no_time() -> None:
    """Python refuses to undo such a number; the file is read all the same."""
    text = json.dumps(document(span(2), span(3))).replace(f'"{START + 2 * SECOND}"', "9" * 6000)
    observations, _, tally = read_json(text)
    assert [one.start for one in observations] == [None, START + 3 * SECOND]
    assert notes(tally, "noted") == {"times that are no times, left out": 1}


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [("12", 12.0), (-1, None), (float("nan"), None), ("many", None), (True, None), ([5], None), (0, 0.0)],
)
def test_a_count_of_tokens_that_is_none_is_left_out(tokens: Any, kept: float | None) -> None:
    """Counts as text are counts; negative ones, NaN, words, flags and lists are not, and are counted."""
    read = read_json(
        document(span(2, "chat m", {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": tokens}))
    )
    assert only(read).input_tokens == kept
    assert notes(read[2], "noted") == ({} if kept is not None else {"counts of tokens that are no counts, left out": 1})


def test_ids_that_are_missing_or_odd_are_made_up_or_kept() -> None:
    """Spans without ids are numbered, all zeros are none, and ids of another length are taken as they are."""
    odd = span(2, traceId="abc", spanId="12345", parentSpanId="0" * 16)
    without = [span(3, traceId="", spanId=None), span(4, traceId=None, spanId="0" * 16)]
    observations, _, tally = read_json(document(odd, *without))
    first = observations[0]
    assert (first.trace, first.id, first.parent) == ("abc", "12345", "")
    assert len({one.id for one in observations}) == 3
    assert notes(tally, "guessed") == {
        "spans without an id, which were numbered": 2, "spans without a trace's id, taken for one trace per file": 2,
    }  # fmt: skip


def test_attributes_of_any_shape_do_no_harm() -> None:
    """Lists, maps, bytes, nothing at all and values of the wrong type are measured or left out; names stand where they should."""
    attributes = keyed(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": [{"a": "bcd"}, ["e", b"fg"]],
            "gen_ai.output.messages": b"123",
        }
    )
    odd: list[Any] = [
        None,
        5,
        {},
        {"key": 7, "value": {"intValue": 1}},
        {"key": "x"},
        {"key": "y", "value": {"intValue": "z"}},
        {"key": "w", "value": 3},
    ]
    odd += [
        {"key": "gen_ai.tool.name", "value": {"arrayValue": {"values": "no list"}}},
        {"key": "gen_ai.prompt", "value": {"kvlistValue": None}},
    ]
    read = read_json(document(span(2, "chat m", attributes + odd)))
    assert (only(read).input_bytes, only(read).output_bytes, only(read).component) == (7.0, 3.0, "m")
    assert notes(read[2], "noted")["attributes that could not be read, left out"] == 5


def test_an_attribute_nested_a_thousand_deep_is_measured() -> None:
    """Deeper than the standard library's parser goes; protobuf itself stops at a hundred."""
    deep: Any = {"stringValue": "at the bottom"}
    text = json.dumps(deep)
    for _ in range(1500):
        text = f'{{"arrayValue": {{"values": [{text}]}}}}'
    line = json.dumps(document(span(2, "chat m", [{"key": "gen_ai.prompt", "value": "HERE"}]), span(3))).replace(
        '"HERE"', text
    )
    observations, file, _ = read_json(line)
    assert [one.input_bytes for one in observations] == [13.0, None]
    assert file.remark == ""


def test_things_that_are_no_spans_are_counted_as_dropped() -> None:
    """Numbers and nothing in a list of spans are accounted for."""
    observations, _, tally = read_json(document(span(2), None, 7, "x", []))
    assert (len(observations), tally.spans, tally.kept) == (1, 5, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "[]",
        "{}",
        "null",
        "7",
        '{"resourceSpans": null}',
        '{"resourceSpans": [null, 5]}',
        "}{",
        "\x00\x01",
        "[[[[",
    ],
)
def test_a_file_without_spans_yields_none(text: str) -> None:
    """Whatever else a file holds, reading it ends, and makes up nothing."""
    observations, _, tally = read_json(text)
    assert (observations, tally.spans) == ([], 0)


def test_objects_within_objects_without_end_are_not_followed() -> None:
    """Groups of spans within groups are looked into a few levels deep, and no further."""
    text = '{"resourceSpans":[' * 3000 + "]}" * 3000
    assert read_json(text)[0] == []


def test_depth_costs_no_more_than_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of ten thousand levels, in many pieces, is gone through once, and what follows it is read."""
    monkeypatch.setattr(json_window, "CHUNK", 1 << 12)
    deep = '{"arrayValue": {"values": [' * 10_000 + '{"stringValue": "here"}' + "]}}" * 10_000
    text = json.dumps(document(span(2, "chat m", [{"key": "input.value", "value": "HERE"}]), span(3)))
    observations, file, _ = read_json(text.replace('"HERE"', deep))
    assert [one.input_bytes for one in observations] == [4.0, None]
    assert file.remark == ""


@pytest.mark.parametrize("seed", range(8))
def test_bytes_changed_anywhere_raise_nothing_and_lose_no_span_in_silence(seed: int) -> None:
    """Of files with bytes changed, cut out, doubled or put in, every span that is met is yielded or counted as dropped."""
    rng = random.Random(seed)
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": [{"a": "b"}, 1.5, True, b"c"],
        "coordsim.parts": [[1]],
    }
    one = document(span(1, "chat x", attributes, events=[{"name": "exception", "timeUnixNano": "5"}]), span(2))
    message = protobuf(one)
    messages = (struct.pack(">I", len(message)) + message) * 2
    for read, whole in ((read_json, json.dumps(one).encode()), (read_proto, message), (read_proto, messages)) * 20:
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at, many = rng.randrange(len(data)), rng.randint(0, 30)
            data[at : at + many] = rng.choice(
                (b"", b"\xff", b"\0", b"{", b"]", b'"', b"null", b"1e999", data[at : at + many] * 2)
            )
        observations, file, tally = read(bytes(data))
        assert tally.spans == len(observations) + tally.dropped
        assert file.spans == len(observations)


def test_a_stamp_of_any_shape_does_no_harm() -> None:
    """What only an export should write is undone as far as it is sound, and no further."""
    odd: Any = {
        "kvlistValue": {
            "values": [
                7,
                {"key": 5},
                {"key": "a", "value": {"arrayValue": {"values": "no"}}},
                {"key": "b", "value": {"intValue": "x"}},
            ]
        }
    }
    deep: Any = {"stringValue": "x"}
    for _ in range(30):
        deep = {"arrayValue": {"values": [deep]}}
    attributes = [{"key": "coordsim.parts", "value": odd}, {"key": "coordsim.deep", "value": deep}]
    stamp = only(read_json(document(span(2, "x", attributes)))).stamp
    assert stamp is not None
    assert stamp["parts"] == {"a": [], "b": None}
    assert "x" not in str(stamp["deep"])


def test_the_package_for_protobuf_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which file, why, and what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.trace.v1", None)
    with pytest.raises(TraceError, match=r"a file: .*pip install 'coordsim\[trace\]'"):
        read_proto(b"\x0a\x00")


# ---------------------------------------------------------------------------------------------------------------------
# Privacy
# ---------------------------------------------------------------------------------------------------------------------
SECRET = "Jane Doe, 4 Elm Street"
CONTENTS = (
    "gen_ai.prompt", "gen_ai.prompt.0.content", "gen_ai.completion", "gen_ai.completion.0.content",
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "gen_ai.tool.description",
    "gen_ai.tool.definitions", "input.value", "output.value", "metadata",
    "llm.input_messages.0.message.content", "llm.output_messages.0.message.content",
    "llm.prompt_template.template", "llm.prompt_template.variables", "llm.invocation_parameters",
    "retrieval.documents.0.document.content", "tool.parameters", "tool.description",
    "embedding.embeddings.0.embedding.text", "traceloop.entity.input", "traceloop.entity.output",
    "traceloop.prompt.template", "ai.prompt", "ai.prompt.messages", "ai.response.text", "ai.response.object",
    "ai.response.toolCalls", "ai.toolCall.args", "ai.toolCall.result", "ai.telemetry.metadata.note",
    "langfuse.observation.input", "langfuse.observation.output", "langfuse.observation.status_message",
    "langfuse.observation.metadata.note", "langfuse.trace.input", "langfuse.trace.output",
    "langsmith.metadata.note", "gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_call_args", "gcp.vertex.agent.tool_response", "tool_arguments", "tool_response",
    "all_messages_events", "final_result", "request_data", "response_data", "logfire.msg", "exception.message",
    "exception.stacktrace", "db.statement", "db.query.text", "url.full", "http.url", "error.message",
    "error.type", "exception.type", "langfuse.observation.usage_details", "user.id", "http.request.body",
    "user_prompt",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["chat", "execute_tool", "retrieval", "invoke_agent", "x"])
def test_no_content_is_kept_or_told(kind: str) -> None:
    """A secret in every field that holds contents is in no observation, no tally and no remark; its size may be."""
    attributes = {"gen_ai.operation.name": kind} | dict.fromkeys(CONTENTS, SECRET)
    events = [
        {"name": name, "timeUnixNano": "1", "attributes": keyed({"content": SECRET, "message": SECRET, "exception.type": SECRET, "exception.message": SECRET, "gen_ai.input.messages": SECRET})}
        for name in ("gen_ai.user.message", "gen_ai.choice", "exception", "gen_ai.client.inference.operation.details", "log")
    ]  # fmt: skip
    one = document(
        span(2, f"{kind} a", attributes, events=events, status={"code": 2, "message": SECRET}),
        span(3),
        resource={"service.name": "s", "note": SECRET},
    )
    text = json.dumps(one)
    for read in (
        read_json(one),
        read_json(text[:-200]),
        read_json(text.replace(SECRET, SECRET + '" broken "', 1)),
        read_proto(protobuf(one)),
    ):
        assert "Jane" not in told(read)
        assert "Elm" not in told(read)
