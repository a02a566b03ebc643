"""Exports: valid by the schemas of their formats, with what is in the ledger and nothing that contradicts it."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import coordsim as cs
from coordsim.models.trace_export import export, of_folder, of_result, tokens_of
from coordsim.sim.analysis.runfolder import RunFolderError
from coordsim.sim.engine.ledger import Account, Span
from coordsim.sim.report.files import FileError
from coordsim.sim.report.stored import StoredError
from coordsim.sim.trace.export import FORMATS, ExportRun, ExportTask, Format, Series, Tokens, write
from coordsim.sim.trace.export.calls import wholes_of
from coordsim.sim.trace.export.tables import COLUMNS
from coordsim.sim.trace.export.tracks import flows_of, tracks_of
from coordsim.sim.trace.observation import nanos
from coordsim.sim.trace.tally import TraceError

from .exported import EPOCH, Work, as_bytes, folder_of, made, run_of, task_of

LEAD = Account("structure", "lead", "invoke_agent")
HELPER = Account("structure", "helper", "invoke_agent")
CHAT = Account("structure", "llm", "chat")
CALL = Account("structure", "search", "execute_tool")
THINK = Account("inference", "llm", "inference")
SEARCH = Account("tool", "search", "tool.execute")
SEND = Account("communication", "network", "transmit")
WORK: list[Work] = [
    ("group", LEAD, [
        ("do", Account("orchestration", "orchestrator", "dispatch"), 0.25, 0.0),
        ("group", CHAT, [("do", THINK, 2.0, 120.0)]),
        ("fork", [
            [("group", HELPER, [("do", SEND, 0.5, 10.0), ("group", CALL, [("do", SEARCH, 1.5, 0.0)])])],
            [("group", HELPER, [("group", CALL, [("do", SEARCH, 4.0, 0.0)])])],
        ]),
        ("lose", [("group", CHAT, [("do", THINK, 1.0, 50.0)])]),
        ("group", CHAT, [("do", THINK, 2.5, 60.0)]),
    ]),
]  # fmt: skip


def hand_made(**more: Any) -> ExportRun:
    """Return a run of one small task whose every span is known."""
    return run_of(made(WORK, arrival=10.0, **more))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ExportRun:
    """Return a run of a shipped scenario in which attempts are lost."""
    return of_folder(folder_of(tmp_path_factory.mktemp("runs"), "provider-outage", 12))


def spans_in(run: ExportRun) -> list[dict[str, Any]]:
    """Return the spans of the OTLP/JSON document, read strictly."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    document = json.loads(as_bytes(run, "otlp"), parse_constant=refuse)
    ((scope,),) = ([one for resource in document["resourceSpans"] for one in resource["scopeSpans"]],)
    found: list[dict[str, Any]] = scope["spans"]
    return found


def told(span: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a span."""
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def named(run: ExportRun, name: str) -> list[dict[str, Any]]:
    """Return the spans of a name."""
    return [one for one in spans_in(run) if one["name"] == name]


# ---------------------------------------------------------------------------------------------------------------------
# OTLP


def with_bytes(data: Any) -> Any:
    """Return OTLP/JSON with its ids as protobuf's own JSON wants them: base64 and not hex."""
    if isinstance(data, dict):
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode() if key in ids else with_bytes(value)
            for key, value in data.items()
        }
    return [with_bytes(one) for one in data] if isinstance(data, list) else data


def test_otlp_is_valid_by_the_schema(run: ExportRun) -> None:
    """JSON and protobuf are TracesData with no field that the schema has not, and hold the same spans."""
    from google.protobuf import json_format, unknown_fields
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    document = with_bytes(json.loads(as_bytes(run, "otlp")))
    from_json = json_format.ParseDict(document, TracesData(), ignore_unknown_fields=False)
    content = as_bytes(run, "otlp-proto")
    from_bytes = TracesData.FromString(content)
    assert len(unknown_fields.UnknownFieldSet(from_bytes)) == 0

    def spans(data: Any) -> list[Any]:
        return [one for resource in data.resource_spans for scope in resource.scope_spans for one in scope.spans]

    assert spans(from_json) == spans(from_bytes)
    assert len(spans(from_json)) == sum(1 + len(task.spans) for task in run.tasks)
    assert all(len(unknown_fields.UnknownFieldSet(one)) == 0 for one in spans(from_bytes))
    assert from_json.resource_spans[0].resource == from_bytes.resource_spans[0].resource


def test_ids_are_those_of_the_format(run: ExportRun) -> None:
    """Traces have 16 bytes and spans 8, none is zero, none is there twice, and another run has others."""
    spans = spans_in(run)
    assert {len(bytes.fromhex(one["traceId"])) for one in spans} == {16}
    assert {len(bytes.fromhex(one["spanId"])) for one in spans} == {8}
    assert not any(int(one["traceId"], 16) == 0 or int(one["spanId"], 16) == 0 for one in spans)
    own = {one["spanId"] for one in spans}
    assert len(own) == len(spans)
    assert len({one["traceId"] for one in spans}) == len(list(run.tasks))
    other = {one["spanId"] for one in spans_in(replace(run, identity="another"))}
    assert not own & other


def test_spans_lie_in_their_parents(run: ExportRun) -> None:
    """No span ends before it starts, and each lies in its parent, which is in the same trace; a task is a trace with one root."""
    spans = spans_in(run)
    by_id = {one["spanId"]: one for one in spans}
    for one in spans:
        assert int(one["startTimeUnixNano"]) <= int(one["endTimeUnixNano"])
        if "parentSpanId" in one:
            holder = by_id[one["parentSpanId"]]
            assert holder["traceId"] == one["traceId"]
            assert int(holder["startTimeUnixNano"]) <= int(one["startTimeUnixNano"])
            assert int(one["endTimeUnixNano"]) <= int(holder["endTimeUnixNano"])
    roots = Counter(one["traceId"] for one in spans if "coordsim.task" in told(one))
    assert set(roots.values()) == {1}
    assert set(roots) == {one["traceId"] for one in spans}


def test_times_count_from_the_epoch() -> None:
    """Simulated seconds are nanoseconds since the beginning of 2020; a measured clock is its own."""
    root, first = spans_in(hand_made())[:2]
    assert int(root["startTimeUnixNano"]) == EPOCH + 10_000_000_000
    assert int(root["endTimeUnixNano"]) == EPOCH + 19_750_000_000 + 0
    assert int(first["startTimeUnixNano"]) == EPOCH + 10_000_000_000
    later = spans_in(replace(hand_made(), epoch=5))[0]
    assert int(later["startTimeUnixNano"]) == 10_000_000_005


def test_calls_have_the_names_of_the_conventions() -> None:
    """Workflow, agent, model call and tool call are told as the GenAI conventions have them; coordination is INTERNAL."""
    run = hand_made()
    (task,) = run.tasks
    known = {one.id: Tokens(100.0, 40.0, 20.0) for one in task.spans if one.name == "chat" and not one.lost}
    run = replace(run, tasks=(replace(task, tokens=known),))
    (root,) = named(run, "invoke_workflow task")
    assert (told(root)["gen_ai.operation.name"], told(root)["gen_ai.workflow.name"], root["kind"]) == (
        "invoke_workflow",
        "task",
        1,
    )
    (agent,) = named(run, "invoke_agent lead")
    assert (told(agent)["gen_ai.operation.name"], told(agent)["gen_ai.agent.name"]) == ("invoke_agent", "lead")
    first, lost, last = named(run, "chat llm")
    for one in (first, last):
        assert one["kind"] == 3
        assert told(one)["gen_ai.request.model"] == "llm"
        assert told(one)["gen_ai.usage.input_tokens"] == "100"
        assert told(one)["gen_ai.usage.cache_read.input_tokens"] == "40"
        assert told(one)["gen_ai.usage.output_tokens"] == "20"
        assert "status" not in one
    assert (told(lost)["error.type"], lost["status"]) == ("lost", {"code": 2})
    tools = named(run, "execute_tool search")
    assert [told(one)["gen_ai.tool.name"] for one in tools] == ["search", "search"]
    (dispatch,) = named(run, "dispatch orchestrator")
    assert (dispatch["kind"], dispatch["parentSpanId"]) == (1, agent["spanId"])
    assert "gen_ai.operation.name" not in told(dispatch)
    assert {"coordsim.category": "orchestration", "coordsim.name": "dispatch"}.items() <= told(dispatch).items()
    parts = named(run, "inference llm")
    assert {one["parentSpanId"] for one in parts} == {one["spanId"] for one in (first, lost, last)}
    assert not any("gen_ai.operation.name" in told(one) for one in parts)


def test_a_bare_call_is_one_of_the_conventions() -> None:
    """A measured ledger has calls with nothing inside: these are the operations themselves."""
    run = run_of(made([("do", Account("inference", "gpt", "chat"), 1.0, 0.0), ("do", SEARCH, 1.0, 0.0)], arrival=0.0))
    assert [one["name"] for one in spans_in(run)] == ["invoke_workflow task", "chat gpt", "execute_tool search"]
    assert "gen_ai.provider.name" in told(named(run, "chat gpt")[0])
    assert "gen_ai.provider.name" not in told(named(replace(run, simulated=False), "chat gpt")[0])


def test_a_failed_task_says_so() -> None:
    """Its root has an error, of a type that is known or not."""
    (root,) = named(hand_made(status=1, failure="timeout"), "invoke_workflow task")
    assert (told(root)["error.type"], root["status"]) == ("timeout", {"code": 2})
    assert told(named(hand_made(status=1), "invoke_workflow task")[0])["error.type"] == "_OTHER"
    assert "error.type" not in told(named(hand_made(), "invoke_workflow task")[0])


def test_what_runs_on_stands_beside_its_task() -> None:
    """A span that ends after its parent lies in the next around it that is long enough; after the task, it has a link to it."""
    outer = Span(0, 0, 1, 0, "step", "structure", "s", 1.0, 5.0, 0.0, True, False, "done")
    inner = Span(0, 0, 2, 1, "chat", "structure", "llm", 1.0, 2.0, 0.0, True, False, "done")
    late = Span(0, 9, 3, 2, "tool.execute", "tool", "x", 1.5, 4.0, 0.0, False, False, "done")
    after = Span(0, 8, 4, 2, "tool.execute", "tool", "y", 1.5, 9.0, 0.0, False, False, "done")
    root, one, two, three, four = spans_in(run_of(task_of(outer, inner, late, after, arrival=1.0, end=6.0)))
    assert [span.get("parentSpanId") for span in (root, one, two, three, four)] == [
        None, root["spanId"], one["spanId"], one["spanId"], None,
    ]  # fmt: skip
    assert [link["spanId"] for link in four["links"]] == [root["spanId"]]
    assert int(root["endTimeUnixNano"]) == EPOCH + 6_000_000_000
    assert told(three)["coordsim.parent"] == "2"


def test_the_critical_path_is_linked() -> None:
    """Where it comes to another lane, a span has a link to the last one before."""
    run = hand_made()
    by_id = {one["spanId"]: one for one in spans_in(run)}
    links = [(by_id[one["links"][0]["spanId"]]["name"], one["name"]) for one in by_id.values() if "links" in one]
    assert links == [("inference llm", "tool.execute search"), ("tool.execute search", "inference llm")]


def test_tokens_sum_to_those_of_the_task(run: ExportRun) -> None:
    """What went into the calls of a task is what the task counted, where it is told; what came out always is."""
    some = 0
    for task in run.tasks:
        calls = [one for one in task.spans if one.name == "chat" and not one.lost]
        went_in = [tokens.input for tokens in task.tokens.values() if tokens.input is not None]
        assert len(task.tokens) == len(calls)
        if went_in:
            some += 1
            names = ("new_tokens", "carried_tokens", "cached_tokens")
            assert sum(went_in) == pytest.approx(sum(task.facts.get(name, 0.0) for name in names), rel=1e-6)
    assert some > 3


@pytest.mark.parametrize(
    ("sizes", "facts", "wanted"),
    [
        ([[90.0, 30.0], [50.0]], {"new_tokens": 130.0}, [100.0, 30.0]),  # two parts of a prompt, and the answer with it
        ([[100.0, 100.0], [60.0]], {"new_tokens": 100.0, "carried_tokens": 60.0}, [100.0, 60.0]),  # phases of a prompt
        ([[100.0, 100.0], [60.0]], {"new_tokens": 130.0, "cached_tokens": 50.0}, [100.0, 60.0]),  # cached by others
        ([[100.0, 70.0], [60.0]], {"new_tokens": 500.0}, [None, None]),
    ],
)
def test_tokens_that_went_in(sizes: list[list[float]], facts: dict[str, float], wanted: list[float | None]) -> None:
    """Of servers of both kinds, and of a beginning that another task had left in the cache; else they are not known."""
    spans = []
    for at, parts in enumerate(sizes, 1):
        spans.append(Span(0, 0, at, 0, "chat", "structure", "m", float(at), at + 1.0, 20.0, True, False, "done"))
        for part, size in enumerate(parts):
            spans.append(
                Span(0, 0, 10 * at + part, at, "x", "inference", "m", float(at), at + 1.0, size, True, False, "done")
            )
    found = tokens_of(spans, facts)
    assert [found[at].input for at in (1, 2)] == wanted
    assert [found[at].output for at in (1, 2)] == [20.0, 20.0]


def test_an_encoder_is_no_chat() -> None:
    """Its call is one of embeddings, so that calls of the model are counted once."""
    spans = tuple(
        Span(0, 0, at, 0, name, "inference", "m", float(at), at + 1.0, 5.0, True, False, "done")
        for at, name in enumerate(("encode", "inference"), 1)
    )
    task = replace(next(iter(hand_made().tasks)), spans=spans)
    assert [one.call.kind for one in wholes_of(task)] == ["embedding", "llm"]


# ---------------------------------------------------------------------------------------------------------------------
# Perfetto and Chrome


def packets(content: bytes) -> list[Any]:
    """Return the packets of a Perfetto trace, all fields of which the schema knows."""
    from google.protobuf import unknown_fields
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    trace = protos.Trace.FromString(content)
    assert len(unknown_fields.UnknownFieldSet(trace)) == 0
    return list(trace.packet)


def test_perfetto_is_valid_by_the_schema(run: ExportRun) -> None:
    """On each track what begins ends, in order, inside of what is open; names are told before they are used."""
    protos = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    event = protos.TrackEvent
    tracks: dict[int, list[int]] = {}
    times: dict[int, int] = {}
    names: set[int] = set()
    slices = 0
    found = packets(as_bytes(run, "perfetto"))
    assert found[0].sequence_flags & protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    for packet in found:
        names |= {one.iid for one in packet.interned_data.event_names}
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in tracks
            tracks[packet.track_descriptor.uuid] = []
        if packet.HasField("track_event") and packet.track_event.type != event.TYPE_COUNTER:
            one = packet.track_event
            assert times.get(one.track_uuid, 0) <= packet.timestamp
            times[one.track_uuid] = packet.timestamp
            if one.type == event.TYPE_SLICE_END:
                tracks[one.track_uuid].pop()
            else:
                assert one.name_iid in names
                slices += 1
                if one.type == event.TYPE_SLICE_BEGIN:
                    tracks[one.track_uuid].append(one.name_iid)
    assert not any(tracks.values())
    assert slices == sum(len(task.spans) for task in run.tasks)


def test_perfetto_says_all_of_a_span() -> None:
    """Name, category, times and arguments are those of the span; arrows leave where they end."""
    run = hand_made()
    (task,) = run.tasks
    found = packets(as_bytes(run, "perfetto"))
    texts = {
        (kind, one.iid): one.name
        for packet in found
        for kind in ("event_names", "event_categories", "debug_annotation_names")
        for one in getattr(packet.interned_data, kind)
    }
    begun = [one for one in found if one.HasField("track_event") and one.track_event.type == 1]
    told = sorted(
        (
            one.timestamp,
            texts["event_names", one.track_event.name_iid],
            texts["event_categories", one.track_event.category_iids[0]],
        )
        for one in begun
    )
    assert told == sorted((nanos(one.start), f"{one.name} {one.component}", one.category) for one in task.spans)
    notes = begun[0].track_event.debug_annotations
    assert [texts["debug_annotation_names", one.name_iid] for one in notes] == [
        "component",
        "size",
        "critical",
        "lost",
        "error",
    ]
    leave = sorted(number for one in begun for number in one.track_event.flow_ids)
    arrive = sorted(number for one in begun for number in one.track_event.terminating_flow_ids)
    assert leave == arrive == list(range(1, len(flows_of(task.spans)) + 1))


def test_agents_have_tracks_of_their_own() -> None:
    """What an agent does at once stands on several, and within one a span lies in another or beside it."""
    (task,) = hand_made().tasks
    tracks = tracks_of(task.spans)
    assert [one.name for one in tracks] == ["trunk", "helper", "helper 2"]
    assert sorted(one.id for track in tracks for one in track.spans) == sorted(one.id for one in task.spans)


def test_spans_that_only_overlap_are_told_apart() -> None:
    """A viewer would drop, or cut, one of them."""
    one, two = (Span(0, 5, n, 0, "x", "tool", "t", float(n), n + 1.5, 0.0, False, False, "done") for n in (1, 2))
    tracks = tracks_of([one, two])
    assert [track.spans for track in tracks] == [(), (one,), (two,)]


def test_arrows_lead_from_forks_and_to_joins() -> None:
    """Each branch has an arrow from where it was forked, and the one that released the join has another; a transmission is a message."""
    (task,) = hand_made().tasks
    arrows = [(one.kind, one.source.name, one.target.name) for one in flows_of(task.spans)]
    assert sorted(arrows) == [
        ("fork", "inference", "tool.execute"), ("join", "tool.execute", "inference"), ("message", "inference", "transmit"),
    ]  # fmt: skip


def test_counters_are_those_of_the_run() -> None:
    """Tasks in the system go up at arrivals and down at ends, in both formats of viewers."""
    series = Series("tasks in the system", "tasks", (1.0, 2.5), (1.0, 0.0))
    run = replace(hand_made(), series=(series,))
    found = [one for one in packets(as_bytes(run, "perfetto")) if one.track_event.HasField("double_counter_value")]
    assert [(one.timestamp, one.track_event.double_counter_value) for one in found] == [
        (10**9, 1.0),
        (2_500_000_000, 0.0),
    ]
    events = json.loads(as_bytes(run, "chrome"))["traceEvents"]
    assert [(one["ts"], one["args"]["value"]) for one in events if one["ph"] == "C"] == [(1e6, 1.0), (2.5e6, 0.0)]


def test_chrome_holds_every_span_and_arrow(run: ExportRun) -> None:
    """Each span is an event, each arrow a pair of events inside of spans, and no thread has the number of a process."""
    content = json.loads(as_bytes(run, "chrome"), parse_constant=pytest.fail)
    events = content["traceEvents"]
    assert sum(one["ph"] in "Xi" for one in events) == sum(len(task.spans) for task in run.tasks)
    arrows = sum(len(flows_of(task.spans)) for task in run.tasks)
    assert Counter(one["ph"] for one in events if one["ph"] in "sf") == ({"s": arrows, "f": arrows} if arrows else {})
    assert not {one["pid"] for one in events} & {one["tid"] for one in events if one["ph"] == "X"}


# ---------------------------------------------------------------------------------------------------------------------
# CSV


def test_csv_has_a_row_a_span(run: ExportRun) -> None:
    """Times are read back to the last bit, and calls are told from what they are made of; a task is a row with the id 0."""
    every = list(csv.DictReader(io.StringIO(as_bytes(run, "csv").decode())))
    rows = [row for row in every if row["id"] != "0"]
    assert len(every) - len(rows) == len(list(run.tasks))
    spans = [one for task in run.tasks for one in task.spans]
    assert tuple(rows[0]) == COLUMNS
    for row, span in zip(rows, spans, strict=True):
        assert (float(row["start_s"]), float(row["end_s"]), float(row["size"])) == (span.start, span.end, span.size)
        assert (int(row["id"]), int(row["parent"] or 0), int(row["lane"])) == (span.id, span.parent, span.lane)
        assert (row["account_category"], row["component"], row["account"]) == (
            span.category,
            span.component,
            span.name,
        )
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["llm"] == sum(one.name == "chat" for one in spans)
    assert kinds["tool"] == sum(one.name == "execute_tool" for one in spans)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def test_a_result_is_exported_as_its_folder_is(tmp_path: Path) -> None:
    """What a folder holds is what the result held, resources over time included."""
    found = cs.simulate(cs.load("document-rag").replace("workload.tasks", 3), replications=1, spans="all").results[0]
    run = of_result(found)
    folder = of_folder(folder_of(tmp_path, "document-rag", 3))
    assert list(run.tasks) == list(folder.tasks)
    assert run.series[0] == folder.series[0]
    assert any(one.name.startswith("waiting at ") for one in run.series)


@pytest.mark.parametrize(
    ("form", "module"),
    [("otlp-proto", "opentelemetry.proto.trace.v1.trace_pb2"), ("perfetto", "perfetto.protos.perfetto.trace")],
)
def test_a_missing_package_is_named(form: Format, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    for name in [one for one in sys.modules if one.startswith(module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TraceError, match=r"pip install 'coordsim\[trace\]'"):
        write(hand_made(), form, io.BytesIO())


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_to_write_is_said(form: Format, tmp_path: Path) -> None:
    """No file is left behind."""
    with pytest.raises(TraceError, match="--spans all"):
        export(run_of(), form, tmp_path / "none")
    with pytest.raises(TraceError, match="otlp and csv have its calls"):  # a trace was not run with `--spans`
        export(replace(run_of(), simulated=False), form, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused(tmp_path: Path) -> None:
    """The formats are named, and no file is left behind."""
    found = cs.simulate(cs.load("quickstart").replace("workload.tasks", 2), replications=1, spans="all")
    with pytest.raises(ValueError, match="must be one of otlp, otlp-proto, perfetto, chrome, csv, but got 'xml'"):
        found.export(tmp_path / "run", format="xml")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    """It is left as it was, and replaced with `overwrite`; a folder never is."""
    path = tmp_path / "there"
    path.write_text("mine")
    with pytest.raises(FileError, match="--overwrite"):
        export(hand_made(), "csv", path)
    assert path.read_text() == "mine"
    export(hand_made(), "csv", path, overwrite=True)
    assert path.read_text().startswith("task,")
    with pytest.raises(FileError, match="exists already"):
        export(hand_made(), "csv", tmp_path, overwrite=True)
    with pytest.raises(FileError, match="cannot be written"):
        export(hand_made(), "csv", path / "inside a file")
    export(hand_made(), "csv", tmp_path / "new" / "folder" / "spans.csv")


def test_a_folder_without_spans_says_how_to_keep_them(tmp_path: Path) -> None:
    """So does one whose spans are damaged."""
    folder = folder_of(tmp_path, "quickstart", 2)
    spans = folder / "spans.parquet"
    content = spans.read_bytes()
    spans.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunFolderError, match=r"spans\.parquet is damaged"):
        of_folder(folder)
    spans.unlink()
    with pytest.raises(TraceError, match="--spans all"):
        of_folder(folder)


def test_a_damaged_answer_in_a_folder_is_told(tmp_path: Path) -> None:
    """Queues over time are not left out in silence; without `result.json` nobody knows them."""
    folder = folder_of(tmp_path, "quickstart", 2)
    assert [one.name for one in of_folder(folder).series] == ["tasks in the system"]
    (folder / "result.json").write_text('{"coordsim_result": 1,')
    with pytest.raises(StoredError, match=r"result\.json is damaged"):
        of_folder(folder)


class _Sink(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_a_run_may_be_larger_than_memory(form: Format) -> None:
    """Tasks are written one by one: five times as many take no more memory."""
    one = made(WORK, arrival=1.0)

    def peak(tasks: int) -> int:
        def all_of_them() -> Iterator[ExportTask]:
            return (replace(one, task=number) for number in range(tasks))

        tracemalloc.start()
        write(replace(run_of(), tasks=all_of_them()), form, _Sink())  # type: ignore[arg-type]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(5)
    assert peak(50) < 1.5 * peak(10)


def test_names_are_written_as_they_are() -> None:
    """Quotes, commas and other letters come through every format."""
    odd = Account("tool", 'a"b,\nü', "tool.execute")
    run = run_of(made([("do", odd, 1.0, 0.0)], arrival=0.0))
    assert told(spans_in(run)[1])["gen_ai.tool.name"] == odd.component
    _, row = csv.DictReader(io.StringIO(as_bytes(run, "csv").decode(), newline=""))
    assert row["component"] == odd.component
    assert any(odd.component in one.get("name", "") for one in json.loads(as_bytes(run, "chrome"))["traceEvents"])
    assert odd.component.encode() in as_bytes(run, "perfetto")


def test_csv_is_a_table_of_steps(tmp_path: Path, run: ExportRun) -> None:
    """Read as a trace, it has the tasks, and the calls of models and tools, that the run had."""
    from coordsim.sim.trace.read import read

    path = tmp_path / "spans.csv"
    export(run, "csv", path)
    measured = read([path])
    spans = [one for task in run.tasks for one in task.spans]
    assert measured.sums.calls["llm"] == sum(one.name == "chat" for one in spans)
    assert measured.sums.calls["tool"] == sum(one.name == "execute_tool" for one in spans)
    assert measured.sums.wall == pytest.approx(sum(task.end - task.arrival for task in run.tasks), abs=1e-6)
    assert measured.tally.dropped == 0
