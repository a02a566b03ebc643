"""Files to the measured ledger: what a result of it says, sums against the files, bounds, privacy, and errors."""

import csv
import gzip
import itertools
import json
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.models.trace_digest import replay
from coordsim.sim.engine.errors import ConservationError
from coordsim.sim.engine.intake import take_in
from coordsim.sim.engine.ledger import DONE, Ledger, Task
from coordsim.sim.engine.simulation import Simulation
from coordsim.sim.trace import path as path_of
from coordsim.sim.trace import read as reading
from coordsim.sim.trace.names import Namer, normalised
from coordsim.sim.trace.read import read
from coordsim.sim.trace.tally import Tally, TraceError

from .otlp_files import document, timed

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces"
SECRET = "the prompt that nobody may see"


def span(trace: int, at: int, parent: int, operation: str, start: float, end: float, **values: Any) -> dict[str, Any]:
    """Return an OTLP span of an operation; times in s."""
    return timed(at, parent, operation, start, end, trace=trace, gen_ai__operation__name=operation, **values)


def task(trace: int, start: float, session: str = "") -> list[dict[str, Any]]:
    """Return a task of 4 s: an agent that calls a model (1 s), two tools side by side (2 s together) and the model (1 s)."""
    more = {"gen_ai__conversation__id": session} if session else {}
    model = {
        "gen_ai__request__model": "m",
        "gen_ai__usage__input_tokens": 100,
        "gen_ai__usage__output_tokens": 50,
        "gen_ai__prompt": SECRET,
    }
    return [
        span(trace, 1, 0, "invoke_agent", start, start + 4, gen_ai__agent__name="a", **more),
        span(trace, 2, 1, "chat", start, start + 1, **model),
        span(trace, 3, 1, "execute_tool", start + 1, start + 2.5, gen_ai__tool__name="x"),
        span(trace, 4, 1, "execute_tool", start + 1.5, start + 3, gen_ai__tool__name="y"),
        span(trace, 5, 1, "chat", start + 3, start + 4, **model),
    ]


def written(path: Path, spans: list[dict[str, Any]]) -> Path:
    """Write OTLP as JSON."""
    path.write_text(json.dumps(document(*spans)), encoding="utf-8")
    return path


def test_a_ledger_of_tasks(tmp_path: Path) -> None:
    """Tasks, their times, accounts, facts, spans and calls are those of the file; tools side by side are counted once."""
    measured = read([written(tmp_path / "f.json", task(1, 0) + task(2, 2))])
    result = replay(measured)
    assert (result.arrived, result.ended, result.failures, measured.classes) == (2, 2, {}, ("m",))
    assert result.tasks[:, 2].tolist() == [0, 2]
    assert result.elapsed.tolist() == pytest.approx([4, 4])
    assert result.category("inference").tolist() == pytest.approx([2, 2])
    assert result.category("tool").tolist() == pytest.approx([2, 2])
    assert result.overlapped.tolist() == pytest.approx([1, 1])
    assert result.fact("llm_calls").tolist() == [2, 2]
    assert result.fact("new_tokens").tolist() == [200, 200]
    assert result.snapshots[-1].task_seconds == pytest.approx(8)
    assert result.end == pytest.approx(6)
    assert result.number_in_system(np.array([1.0, 3.0, 5.0])).tolist() == [1, 2, 1]
    critical = sum(one.end - one.start for one in result.spans if one.critical and one.category != "structure")
    assert critical == pytest.approx(8)
    assert measured.sums.union == pytest.approx({"llm": 4, "tool": 4})
    assert measured.sums.work["tool"] == pytest.approx(6)
    assert [call.component for call in measured.tasks[0].calls] == ["m", "x", "y", "m"]
    assert measured.tally.kept == measured.tally.spans == 10
    assert measured.tally.clock.startswith("2023-11-14")


def test_what_looks_at_results_looks_at_measured_ones(tmp_path: Path) -> None:
    """Cohorts and single tasks come out of a measured result, and their seconds by category sum to their time."""
    result = replay(read([written(tmp_path / "f.json", [one for n in range(30) for one in task(n + 1, n)])]))
    cohort = result.cohort(0.5)
    assert sum(cohort.categories.values()) == pytest.approx(cohort.total)
    view = result.task_at(0.9)
    assert sum(view.accounts.values()) == pytest.approx(view.response_time)
    assert {one.name for one in view.spans} == {"invoke_agent", "step", "chat", "tool.execute"}


def test_the_same_file_twice_and_a_task_in_several_files(tmp_path: Path) -> None:
    """All copies are dropped, and a task whose spans come in two files is one."""
    spans = task(1, 0)
    one, other = written(tmp_path / "a.json", spans[:2]), written(tmp_path / "b.json", spans[2:])
    packed = tmp_path / "c.json.gz"
    packed.write_bytes(gzip.compress(other.read_bytes()))
    alone = replay(read([written(tmp_path / "d.json", spans)]))
    twice = read([one, other, packed])
    assert np.array_equal(replay(twice).rows, alone.rows)
    assert (twice.tally.spans, twice.tally.kept, twice.tally.dropped) == (8, 5, 3)


def test_a_directory_is_its_files(tmp_path: Path) -> None:
    """They are read in order of their names; what is no trace is in the list, with the reason."""
    written(tmp_path / "b.json", task(2, 1))
    written(tmp_path / "a.json", task(1, 0))
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    (tmp_path / "empty.json").write_text("", encoding="utf-8")
    measured = read([tmp_path])
    found = [(one.name, one.format, one.bytes, one.remark) for one in measured.tally.files if not one.spans]
    assert found == [
        ("README.md", "", 5, "left out: holds nothing that is known as a trace"),
        ("empty.json", "", 0, "left out: is empty: there are no spans in it"),
    ]
    assert [one.name for one in measured.tally.files if one.format] == ["a.json", "b.json"]
    assert measured.name == tmp_path.name
    assert read([tmp_path / "a.json"]).name == "a"
    assert read([tmp_path / "a.json", tmp_path / "b.json"]).name == "2 files"
    (tmp_path / "a.json").unlink()
    (tmp_path / "b.json").unlink()
    with pytest.raises(TraceError, match=r"none of the files .*README.md: left out"):
        read([tmp_path])


def test_sessions_are_tasks_where_asked(tmp_path: Path) -> None:
    """Traces of one session are one task, and the time between them is the user's."""
    path = written(tmp_path / "f.json", task(1, 0, "s") + task(2, 10, "s") + task(3, 20, "t"))
    measured = read([path], by="session")
    assert measured.tally.tasks == 2
    assert replay(measured).category("human").tolist() == pytest.approx([6, 0])


def test_contents_are_nowhere_and_names_are_hashed_where_asked(tmp_path: Path) -> None:
    """Prompts are in nothing that is kept; with hashes, neither are names, and numbers are the same."""
    path = written(tmp_path / "f.json", task(1, 0))
    plain, hashed = read([path]), read([path], hash_names=True)
    for one in (plain, hashed):
        assert SECRET not in repr((one.tasks, one.tally, one.ledger.accounts, one.classes))
    assert {call.component for call in hashed.tasks[0].calls}.isdisjoint({"m", "x", "y"})
    assert replay(plain).rows.sum() == pytest.approx(replay(hashed).rows.sum())


def test_bad_input_is_told_and_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are not there, empty or of no spans are errors with a reason; the spool is gone after any of them, and after Ctrl-C."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    empty, none = tmp_path / "empty.json", written(tmp_path / "none.json", [])
    empty.write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for paths, word in (([tmp_path / "gone.json"], "no such file"), ([empty], "empty"), ([none], "nothing"), ([], "no files"),
                        ([tmp_path / "folder"], "no files")):  # fmt: skip
        with pytest.raises(TraceError, match=word):
            read(paths)

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading, "repair", stopped)
    with pytest.raises(KeyboardInterrupt):
        read([written(tmp_path / "f.json", task(1, 0))])
    assert not list(place.iterdir())


def test_calls_and_spans_are_kept_of_a_part_of_very_many_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds every second, fourth ... task is kept; rows and sums stay those of all."""
    monkeypatch.setattr(reading, "CALLS_KEPT", 40)
    monkeypatch.setattr(reading, "SPANS_KEPT", 30)
    path = written(tmp_path / "f.json", [one for n in range(40) for one in task(n + 1, n)])
    measured = read([path])
    assert measured.stride == 4
    assert [one.task for one in measured.tasks] == list(range(0, 40, 4))
    assert len(replay(measured).rows) == 40
    assert measured.sums.union["llm"] == pytest.approx(80)
    assert 0 < sum(len(one.spans or []) // 7 for one in measured.ledger.kept) <= 30


def test_stub_counts_are_flagged(tmp_path: Path) -> None:
    """A model most of whose calls report a token or two, though they take seconds, reports stubs; one that answers shortly at once does not."""

    def call(trace: int, model: str, length: float) -> dict[str, Any]:
        more = {"gen_ai__request__model": model, "gen_ai__usage__output_tokens": 1}
        return span(trace, 1, 0, "chat", trace, trace + length, **more)

    measured = read(
        [
            written(
                tmp_path / "f.json", [call(n, "slow", 5) for n in (1, 2, 3)] + [call(n, "quick", 0.1) for n in (4, 5)]
            )
        ]
    )
    assert [one.calls[0].stub for one in measured.tasks] == [True, True, True, False, False]
    assert set(measured.classes) == {"slow", "quick"}


def test_names_lose_their_ids() -> None:
    """Ids and counters become `#`; names without any stay; models keep their dates."""
    assert normalised("run.6f8d2449-1111-4222-8333-444455556666") == "run.#"
    assert normalised("step-12") == "step-#"
    assert normalised("step-12", counted=False) == "step-12"
    assert normalised("web_search") == "web_search"
    assert normalised("decade of facades") == "decade of facades"
    from coordsim.sim.trace.observation import Observation

    one = Observation("t", "i", "", "llm", "chat", "gpt-4o-2024-08-06", 0, 1)
    Namer(Tally()).rename(one)
    assert one.component == "gpt-4o-2024-08-06"


def test_too_many_accounts_share_one(tmp_path: Path) -> None:
    """Beyond the limit tools are `others`, told of, and the law holds."""
    spans = [span(1, n + 1, 0, "execute_tool", n, n + 1, gen_ai__tool__name="t" + chr(0x4E00 + n)) for n in range(300)]
    measured = read([written(tmp_path / "f.json", spans)])
    assert len(measured.ledger.accounts) <= 201
    assert any("others" in what and ": 100 names" in what for what in measured.tally.notes)
    assert replay(measured).category("tool").tolist() == pytest.approx([300])


def test_tasks_taken_in_are_checked_by_the_law() -> None:
    """Seconds that do not sum to the length of the task are refused."""
    ledger = Ledger(Simulation(), ())
    ledger.account("tool", "t")
    one = Task(ledger, 0, 0, 1.0)
    one.status = DONE
    with pytest.raises(ConservationError):
        take_in(ledger, [(one, 3.0, [1.5])])


@pytest.mark.skipif(not SHARED.exists(), reason="the traces (shared/data/traces) are not here")
@pytest.mark.parametrize("place", ["langfuse", "inspect", "tracelab", "otlp_trace_example.json"])
def test_sums_of_real_files_agree_with_a_reader_of_their_own(place: str) -> None:
    """Wall time and the unions of calls of models and of tools, read by a few lines for each kind of file, are those of the ledger."""
    found = SHARED / place
    paths = [one for one in sorted(found.iterdir()) if one.suffix != ".md"] if found.is_dir() else [found]
    assert paths
    for path in paths:
        tasks = intervals(path)
        if not tasks:
            with pytest.raises(TraceError, match="no samples with events"):
                read([path])
            continue
        measured = read([path])
        sums = measured.sums
        for kind in ("llm", "tool"):
            expected = sum(length([one for one in task if one[0] == kind]) for task in tasks.values())
            assert sums.union.get(kind, 0.0) == pytest.approx(expected, abs=1e-5), (path.name, kind)
        wall = sum(max(one[2] for one in task) - min(one[1] for one in task) for task in tasks.values())
        assert sums.wall == pytest.approx(wall, abs=1e-5), path.name
        assert replay(measured).elapsed.sum() == pytest.approx(wall, abs=1e-5)
        assert measured.tally.spans == measured.tally.kept + measured.tally.dropped


def length(intervals: list[tuple[str, float, float]]) -> float:
    """Return for how long any of them lasted, moment by moment between their ends."""
    ends = sorted({time for _, start, end in intervals for time in (start, end)})
    return sum(b - a for a, b in itertools.pairwise(ends) if any(s <= a and b <= e for _, s, e in intervals))


def moment(text: str) -> float:
    """Return a date and time in seconds."""
    return datetime.fromisoformat(text).timestamp()


def intervals(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    """Return what a file says of each task: llm, tool or neither, start and end (s)."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    if path.suffix == ".csv":
        return replayed(text)
    if path.suffix == ".jsonl":
        return rounds([json.loads(line) for line in text.splitlines()])
    document = json.loads(text)
    if "langfuse" in path.parts:
        return {"": langfuse(document["observations"] if isinstance(document, dict) else document)}
    if "inspect" in path.parts:
        return {str(n): inspected(one) for n, one in enumerate(document.get("samples", []))}
    spans = [s for r in document["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]
    return {"": [("", int(s["startTimeUnixNano"]) / 1e9, int(s["endTimeUnixNano"]) / 1e9) for s in spans]}


def langfuse(found: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """A generation that holds none is a call of a model, unless it is an event of its end; names of tools were looked up in the files.

    A generation is over when the first tool in it begins.
    """
    holders = {one["parentObservationId"] for one in found if one["type"] == "GENERATION"}
    tools = re.compile(r"duckduckgo_search|tool\.(Bye|Hello)Tool|tool\.search\.wikipedia\.start-12|Web-Search")

    def kind(one: dict[str, Any]) -> str:
        if one["type"] == "GENERATION":
            ended = ".finish-" in one["name"] or ".success-" in one["name"]
            return "" if ended or one["id"] in holders else "llm"
        return "tool" if one["type"] == "TOOL" or tools.fullmatch(one["name"]) else ""

    def end(one: dict[str, Any]) -> float:
        inner = [at["startTime"] for at in found if kind(at) == "tool" and at["parentObservationId"] == one["id"]]
        return moment(min(inner) if kind(one) == "llm" and inner else one["endTime"] or one["startTime"])

    return [(kind(one), moment(one["startTime"]), end(one)) for one in found]


def inspected(sample: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Events of models and of tools, from their time to when they were completed; other events are moments."""
    found = []
    for event in sample["events"]:
        kind = {"model": "llm", "tool": "tool"}.get(event["event"], "")
        start = moment(event["timestamp"])
        found.append((kind, start, moment(event["completed"]) if kind and event.get("completed") else start))
    return found


def rounds(rows: list[dict[str, Any]]) -> dict[str, list[tuple[str, float, float]]]:
    """A round is from the last that it answers to the last that it wrote."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    for row in rows:
        times = [(one["event_type"], moment(one["timestamp"])) for one in row["timing_events"]]
        asked = [at for what, at in times if what in ("user_message", "tool_result")]
        wrote = [at for what, at in times if what in ("reasoning", "text", "tool_call")]
        task = found.setdefault(row["session_id"], [])
        task.append(("llm", max(asked), max(wrote)))
        task += [("tool", moment(one["emitted_at"]), moment(one["result_at"])) for one in row["tools"] or []]
    return found


def replayed(text: str) -> dict[str, list[tuple[str, float, float]]]:
    """Calls take no time in these tables; waits come one after the other."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        task = found.setdefault(row["session_id"], [("llm", 0.0, 0.0)])
        at = task[-1][2]
        task.append(("tool", at, at + float(row["tool_wait_after_ms"] or 0) / 1e3))
    return found


def test_a_measurement_can_be_pickled(tmp_path: Path) -> None:
    """Rows, spans and calls come back the same."""
    measured = read([written(tmp_path / "f.json", task(1, 0) + task(2, 2))])
    again = pickle.loads(pickle.dumps(measured))
    assert np.array_equal(replay(again).rows, replay(measured).rows)
    assert repr((again.tasks, again.sums, again.tally)) == repr((measured.tasks, measured.sums, measured.tally))
    assert list(replay(again).spans) == list(replay(measured).spans)


def test_a_task_far_from_the_others_is_told_of(tmp_path: Path) -> None:
    """A task of another century stands at time 0, and is counted."""
    far = 60 * 366 * 86400.0 * 3
    measured = read([written(tmp_path / "f.json", task(1, 0) + task(2, 2) + task(3, far))])
    assert measured.ledger.rows()[:, 2].tolist() == [0, 2, 0]
    assert [note.spans for what, note in measured.tally.notes.items() if "ten years from the others" in what] == [5]


def test_a_task_of_very_many_spans_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row, sums and calls are those of the same task kept whole; a smaller task keeps its spans."""
    path = written(
        tmp_path / "f.json", [*task(1, 0), *(span(1, 6 + n, 1, "chat", 3.5, 4) for n in range(20)), *task(2, 2)]
    )
    whole = read([path])
    monkeypatch.setattr(reading, "SPANS_KEPT", 20)
    part = read([path])
    assert [one.index for one in part.ledger.kept] == [1]
    assert np.array_equal(part.ledger.rows()[:, :6], whole.ledger.rows()[:, :6])
    assert repr((part.tasks, part.sums)) == repr((whole.tasks, whole.sums))
    assert [note.spans for what, note in part.tally.notes.items() if "have more than" in what] == [25]


def lines(path: Path, spans: Iterable[dict[str, Any]], at_once: int = 1000) -> Path:
    """Write OTLP as JSON lines."""
    left = iter(spans)
    with path.open("w", encoding="utf-8") as file:
        while some := list(itertools.islice(left, at_once)):
            file.write(json.dumps(document(*some)) + "\n")
    return path


def wide(many: int) -> tuple[Iterator[dict[str, Any]], float]:
    """Return a root with all others in it, and for how long it lasts (s)."""
    length = many / 1e3 + 1
    ends = itertools.chain([length], ((at + 1.5) / 1e3 for at in range(1, many)))
    return (span(1, at + 1, min(at, 1), "execute_tool", at / 1e3, end) for at, end in enumerate(ends)), length


def deep(many: int) -> tuple[Iterator[dict[str, Any]], float]:
    """Return spans each in the one before, and for how long the first lasts (s)."""
    length = 2 * many / 1e6
    return (span(1, at + 1, at, "invoke_agent", at / 1e6, length - at / 1e6) for at in range(many)), length


@pytest.mark.slow
@pytest.mark.parametrize("shape", [wide, deep])
def test_very_many_children_and_as_deep_a_chain(
    shape: Callable[[int], tuple[Iterator[dict[str, Any]], float]], tmp_path: Path
) -> None:
    """Both are read, whole, their seconds are those of the file, and for eight times the spans it takes about eight times as long."""
    took = {}
    for many in (5_000, 40_000):
        spans, length = shape(many)
        path = lines(tmp_path / str(many), spans)
        began = time.process_time()
        measured = read([path])
        took[many] = time.process_time() - began
        assert measured.tally.kept == measured.tally.spans == many
        assert replay(measured).elapsed.tolist() == pytest.approx([length])
    assert took[40_000] < 20 * took[5_000]  # what grows with the square of the number takes up to 64 times as long


def test_a_walk_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that outlive those that hold them, level by level, take steps that grow with the square of their number: that is told."""
    monkeypatch.setattr(path_of, "STEPS", 5000)
    with pytest.raises(TraceError, match="5,000 steps"):
        read([written(tmp_path / "f.json", [span(1, at + 1, at, "invoke_agent", at, 200 + at) for at in range(200)])])


_MEMORY = """
import json, sys
from pathlib import Path
from coordsim.sim.trace import read as reading
reading.CALLS_KEPT = reading.SPANS_KEPT = 3_000
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
path = Path(sys.argv[2])
reading.read([Path(sys.argv[3])])
before = peak()
if sys.argv[1] == "read":
    measured = reading.read([path])
    found = measured.tally.kept, measured.tally.tasks, len(measured.ledger.rows())
else:
    found = len([json.loads(line) for line in path.open()])
print(json.dumps([peak() - before, found]))
"""


MANY = 30_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read where Linux tells it")
def test_memory_is_bounded(tmp_path: Path) -> None:
    """A file of thirty thousand spans is read in less than a quarter of the memory that its spans take."""
    small = written(tmp_path / "small.json", task(1, 0))
    large = lines(tmp_path / "large.jsonl", (one for n in range(MANY // 5) for one in task(n + 1, n)))
    grown = {}
    for way in ("read", "hold"):
        command = [sys.executable, "-c", _MEMORY, way, str(large), str(small)]
        grown[way], found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert found == ([MANY, MANY // 5, MANY // 5] if way == "read" else MANY // 1000)
    assert grown["read"] < grown["hold"] / 4
