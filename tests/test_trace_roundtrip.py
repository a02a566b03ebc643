"""What is exported as OTLP comes back as the same ledger: every span, every second, nothing guessed."""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordsim.models.trace_export import of_folder
from coordsim.sim.engine.ledger import STATUSES, Account, Ledger
from coordsim.sim.trace.export import ExportRun, ExportTask, Format
from coordsim.sim.trace.formats import otlp, otlp_proto
from coordsim.sim.trace.measured import Booked
from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.stamped import booked, is_stamped
from coordsim.sim.trace.tally import FileTally, Tally

from .exported import BACKOFF, Work, as_bytes, folder_of, made, run_of, spans_of

# Scenarios with agents side by side, attempts that are lost, streams of pieces, and tasks that a horizon cuts off.
SCENARIOS = ["quickstart", "research-team", "coding-agent", "multimodal-copilot", "provider-outage", "voice-assistant"]
TASKS = {
    "quickstart": 4,
    "research-team": 1,
    "coding-agent": 2,
    "multimodal-copilot": 4,
    "provider-outage": 30,
    "voice-assistant": 2,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a run folder of each scenario."""
    path = tmp_path_factory.mktemp("runs")
    return {name: folder_of(path, name, TASKS[name]) for name in SCENARIOS}


def seen(content: bytes, form: Format = "otlp", amiss: tuple[str, ...] = ()) -> dict[str, list[Observation]]:
    """Return what a file of an export holds, by trace, as the reader of its format has it; nothing but `amiss` may be noted."""
    file, tally = FileTally("export", form, len(content)), Tally()
    reader = otlp if form == "otlp" else otlp_proto
    found: dict[str, list[Observation]] = {}
    for one in reader.observations(io.BytesIO(content), file, tally):
        found.setdefault(one.trace, []).append(one)
    assert {one.fate for one in tally.notes.values()} <= set(amiss)
    assert tally.spans == file.spans == sum(map(len, found.values()))
    return found


def check_same(task: ExportTask, back: Booked | None) -> None:
    """Assert that a task came back as it was, field by field, and to the last bit."""
    assert back is not None
    assert (back.arrival, back.end, back.task_class) == (task.arrival, task.end, task.task_class)
    assert (STATUSES[back.status], back.failure, back.overlapped) == (task.status, task.failure, task.overlapped)
    assert back.parts == {account: seconds for account, seconds in task.parts.items() if seconds}
    assert back.facts == dict(task.facts)
    assert spans_of(back, task.task) == list(task.spans)


def check_run(run: ExportRun, content: bytes, form: Format = "otlp", amiss: tuple[str, ...] = ()) -> None:
    """Assert that all tasks of a run come back."""
    tasks, traces = list(run.tasks), list(seen(content, form, amiss).values())
    assert len(traces) == len(tasks)
    for task, observations in zip(tasks, traces, strict=True):
        check_same(task, booked(observations))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("form", ["otlp", "otlp-proto"])
def test_a_run_comes_back(folders: dict[str, Path], name: str, form: Format) -> None:
    """Every span, account, fact and time of every task is the same, in JSON and in protobuf."""
    run = of_folder(folders[name])
    assert sum(len(task.spans) for task in run.tasks) > 50
    check_run(run, as_bytes(run, form), form)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["otlp", "csv"])
def test_calls_of_tools_that_came_to_an_error_come_back(folders: dict[str, Path], tmp_path: Path, form: Format) -> None:
    """As many calls failed as the run counted, of the tasks in which they did."""
    from coordsim.sim.trace.read import read

    run = of_folder(folders["coding-agent"])
    wanted = [task.facts.get("tool_errors", 0) for task in sorted(run.tasks, key=lambda one: one.arrival)]
    assert sum(wanted) > 0
    (tmp_path / "export").write_bytes(as_bytes(run, form))
    back = read([tmp_path / "export"])
    failed = [sum(call.kind == "tool" and call.error == "error" for call in task.calls) for task in back.tasks]
    assert failed == wanted


@pytest.mark.slow
def test_unfinished_tasks_come_back(tmp_path: Path) -> None:
    """Tasks that the horizon cut off are exported up to it."""
    folder = folder_of(tmp_path, "voice-assistant", workload__horizon="20 s", workload__tasks=None)
    run = of_folder(folder)
    assert {task.status for task in run.tasks} >= {"done", "unfinished"}
    check_run(run, as_bytes(run, "otlp"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["otlp", "otlp-proto", "gz"])
def test_the_import_makes_the_same_result(folders: dict[str, Path], tmp_path: Path, form: str) -> None:
    """Read as any trace is, a file of an export has the rows of the run, its spans, and no repair."""
    from coordsim.models.trace_digest import replay
    from coordsim.sim.trace.read import read

    run = of_folder(folders["coding-agent"])
    content = as_bytes(run, "otlp" if form == "gz" else form)  # type: ignore[arg-type]
    path = tmp_path / "export"
    path.write_bytes(gzip.compress(content) if form == "gz" else content)
    measured = read([path])
    assert measured.tally.dropped == 0
    result = replay(measured)
    tasks = sorted(run.tasks, key=lambda one: one.arrival)
    assert len(result.rows) == len(tasks)
    first = len(Ledger.HEAD)
    accounts = first + len(result.facts)
    shift = result.rows[0][2] - tasks[0].arrival
    for number, (row, task) in enumerate(zip(result.rows.tolist(), tasks, strict=True)):
        parts = {one: value for one, value in zip(result.accounts, row[accounts:], strict=True) if value}
        assert parts.keys() == dict(task.parts).keys()
        for account, seconds in parts.items():
            assert math.isclose(seconds, task.parts[account], rel_tol=1e-9)
        facts = dict(zip(result.facts, row[first:accounts], strict=True))
        assert {name: value for name, value in facts.items() if value} == dict(task.facts)
        assert result.spans.of(int(row[0])) == tuple(
            replace(one, task=int(row[0]), start=one.start + shift, end=one.end + shift) for one in task.spans
        )
        assert result.classes[int(row[1])] == task.task_class
        assert number == int(row[0])


# ---------------------------------------------------------------------------------------------------------------------
# Any ledger

NAMES = ["llm", "größer", "a/b", 'x"y', "-"]
seconds = st.floats(1e-9, 1e4)
accounts = st.builds(
    Account, st.sampled_from(["inference", "tool", "queueing", "human", "unexplained"]), st.sampled_from(NAMES),
    st.sampled_from(["chat", "tool.execute", "wait"]),
)  # fmt: skip
groups = st.builds(
    Account, st.just("structure"), st.sampled_from(NAMES), st.sampled_from(["step", "chat", "invoke_agent"])
)
leaf = st.tuples(st.just("do"), accounts, seconds, st.floats(0, 1e9))
works: st.SearchStrategy[list[Work]] = st.recursive(
    st.lists(leaf, min_size=1, max_size=3),
    lambda inner: st.lists(
        leaf
        | st.tuples(st.just("group"), groups, inner)
        | st.tuples(st.just("lose"), inner)
        | st.tuples(st.just("fork"), st.lists(inner, min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    works,
    st.floats(0, 1e6),
    st.sampled_from([0, 1]),
    st.dictionaries(st.sampled_from(["steps", "a b"]), st.floats(-9, 9)),
)
def test_any_task_comes_back(doing: list[Work], arrival: float, status: int, facts: dict[str, float]) -> None:
    """Whatever a task did, with forks, groups and lost attempts in each other, it comes back to the last bit."""
    run = run_of(made(doing, arrival=arrival, status=status, facts=facts))
    # A component that is called as an operation is makes a reader guess what kind the span is of: its stamp knows.
    check_run(run, as_bytes(run, "otlp"), amiss=("guessed",))
    check_run(run, as_bytes(run, "otlp-proto"), "otlp-proto", ("guessed",))


WORK: list[Work] = [
    ("group", Account("structure", "lead", "invoke_agent"), [
        ("lose", [("do", Account("inference", "gpt", "chat"), 2.0, 100.0)]),
        ("do", Account("inference", "gpt", "chat"), 3.0, 120.0),
        ("fork", [[("do", Account("tool", "search", "tool.execute"), 1.0, 0.0)], [("do", Account("tool", "fetch", "tool.execute"), 4.0, 0.0)]]),
    ]),
]  # fmt: skip


def test_a_task_without_spans_comes_back() -> None:
    """Where only every n-th task kept its spans, the others are roots with their seconds by account."""
    task = replace(made(WORK, arrival=1.0), spans=())
    run = run_of(task)
    ((back,),) = (seen(as_bytes(run, "otlp")).values(),)
    assert len(back) == 1
    check_same(task, booked(back))


def test_calls_come_back_in_turns() -> None:
    """Calls of models and tools are told with their agent, in order, and those of one turn that overlap are one batch."""
    back = booked(*seen(as_bytes(run_of(made(WORK, arrival=0.0)), "otlp")).values())
    assert back is not None
    told = [(one.kind, one.component, one.agent, one.start, one.end, one.turn, one.error) for one in back.calls]
    assert told == [
        ("llm", "gpt", "lead", 0.0, 2.0, 0, "lost"),
        ("llm", "gpt", "lead", 2.0, 5.0, 1, ""),
        ("tool", "search", "lead", 5.0, 6.0, 1, ""),
        ("tool", "fetch", "lead", 5.0, 9.0, 1, ""),
    ]
    batches = [one.batch for one in back.calls]
    assert batches[2] == batches[3]
    assert len(set(batches)) == 3
    assert [one.critical for one in back.calls] == [2.0, 3.0, 0.0, 4.0]


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be an export


def whole() -> list[Observation]:
    """Return the observations of a task that comes back."""
    (found,) = seen(as_bytes(run_of(made(WORK, arrival=0.0)), "otlp")).values()
    assert booked(found) is not None
    return found


def stamp_of(one: Observation) -> dict[str, Any]:
    """Return a stamp that is there."""
    assert one.stamp is not None
    return one.stamp


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("span", {"parent": 99}),
        ("span", {"parent": 1, "id": 1}),
        ("span", {"id": 0}),
        ("span", {"id": "one"}),
        ("span", {"lane": str(2**64)}),
        ("span", {"lane": "-1"}),
        ("span", {"category": "nonsense"}),
        ("span", {"start_s": "nan"}),
        ("span", {"end_s": -1.0}),
        ("span", {"size": math.inf}),
        ("span", {"critical": "yes"}),
        ("root", {"spans": 2}),
        ("root", {"end_s": 8.5}),
        ("root", {"status": "fine"}),
        ("root", {"parts": "[["}),
        ("root", {"parts": "[[1,2]]"}),
        ("root", {"parts": '[["nonsense","a","b",9.0]]'}),
        ("root", {"facts.steps": "many"}),
    ],
)
def test_stamps_that_do_not_fit_are_not_believed(where: str, change: dict[str, Any]) -> None:
    """Somebody else's attributes, or damaged ones, give no ledger that breaks its law; the spans are then read as any others."""
    found = whole()
    one = found[0] if where == "root" else found[1]
    stamp_of(one).update(change)
    assert booked(found) is None


def test_a_circle_of_parents_is_not_believed() -> None:
    """It would never end."""
    found = whole()
    inside = next(one for one in found if stamp_of(one).get("parent"))
    holder = next(one for one in found if stamp_of(one).get("id") == stamp_of(inside)["parent"])
    stamp_of(holder)["parent"] = stamp_of(inside)["id"]
    assert booked(found) is None


@pytest.mark.parametrize("drop", [0, 1, -1])
def test_a_task_with_a_span_missing_is_not_believed(drop: int) -> None:
    """A collector may have sampled it."""
    found = whole()
    del found[drop]
    assert booked(found) is None


def test_a_span_without_a_stamp_is_somebody_elses() -> None:
    """A trace in which another service has spans of its own is read as any trace."""
    found = whole()
    found[2].stamp = None
    assert not is_stamped(found[2])
    assert booked(found) is None
    assert not is_stamped(replace(found[1], stamp={"id": 1}))


def test_the_same_run_gives_the_same_bytes() -> None:
    """Also when it is written again, and in every format."""
    for form in ("otlp", "otlp-proto", "perfetto", "chrome", "csv"):
        first, second = (as_bytes(run_of(made(WORK, arrival=0.0)), form) for _ in range(2))
        assert first == second


def test_lost_time_goes_to_an_account_that_has_it() -> None:
    """The account of a lost attempt is one of the task's, so that the ledger has no account more than it had."""
    back = booked(whole())
    assert back is not None
    assert [account for *_, account in back.lost] == [BACKOFF]
    assert {account for _, _, account, *_ in back.entries} - {BACKOFF} == {
        Account("structure", "lead", "invoke_agent"), Account("inference", "gpt", "chat"),
        Account("tool", "search", "tool.execute"), Account("tool", "fetch", "tool.execute"),
    }  # fmt: skip
    assert back.facts == {}


STEPS = """task,id,parent,kind,name,model,start_s,dur_s,input_tokens,output_tokens,ttft_s,error
a,1,,agent,lead,,0,9,,,,ValueError
a,2,1,workflow,think,,0,3,,,,
a,3,2,llm,,gpt,0,3,100,5,1,
a,4,1,workflow,act,,3,5,,,,
a,5,4,tool,fetch page,,3,2,,,,TimeoutError
a,6,4,tool,fetch page,,5,1,,,,
a,7,4,tool,search,,3,5,,,,acme_state
a,8,7,workflow,sandbox,,4,1,,,,
b,1,,agent,lead,,0,4,,,,
b,2,1,llm,,gpt,0,4,100,7,,RateLimitError
"""


@pytest.mark.parametrize("form", ["otlp", "csv"])
def test_measured_calls_and_errors_come_back(tmp_path: Path, form: Format) -> None:
    """Names with blanks, tokens, types of errors, what tasks failed of, classes and categories; nothing is counted twice, or guessed."""
    from coordsim.models.trace_export import export, of_measured
    from coordsim.sim.trace.read import read

    (tmp_path / "steps.csv").write_text(STEPS)
    measured = read([tmp_path / "steps.csv"])
    assert not measured.arrivals
    assert not of_measured(measured).series  # nobody knows how many tasks there were at once
    export(of_measured(measured), form, tmp_path / "back")
    back = read([tmp_path / "back"])
    assert {note.fate for note in back.tally.notes.values()} <= {"noted"}
    assert not back.arrivals
    for one, again in zip(measured.tasks, back.tasks, strict=True):
        assert (again.trace.rpartition(":")[2], again.task_class, again.failure) == (
            one.trace.rpartition(":")[2],
            one.task_class,
            one.failure,
        )
        fields = ("kind", "component", "start", "end", "output", "first_token", "error", "retried", "critical")
        told = [[str(getattr(call, name)) for name in fields] for call in one.calls]
        assert [[str(getattr(call, name)) for name in fields] for call in again.calls] == told
    assert [one.failure for one in back.tasks] == ["ValueError", ""]
    seconds = [
        {category: math.fsum(one.parts[account] for account in one.parts if account.category == category)
         for category in ("inference", "tool", "recovery", "unexplained")}
        for run in (of_measured(measured), of_measured(back)) for one in run.tasks
    ]  # fmt: skip
    assert seconds[:2] == seconds[2:]


def test_what_was_measured_comes_back(tmp_path: Path) -> None:
    """Traces of agents that ran are exported on their own clock, and come back as the same ledger."""
    from coordsim.models.trace_export import export, of_measured
    from coordsim.sim.trace.read import read

    given = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces" / "langfuse"
    if not given.is_dir():
        pytest.skip("no measured traces here: ../shared/data/traces is not there")
    measured = read(sorted(given.iterdir()))
    run = of_measured(measured)
    assert run.epoch > 1_700_000_000 * 10**9  # they were recorded in 2025
    export(run, "otlp", tmp_path / "back.json")
    back = read([tmp_path / "back.json"])
    assert back.tally.dropped == 0
    assert back.sums.calls["llm"] == measured.sums.calls["llm"] > 10
    by_arrival = [sorted(one.tasks, key=lambda task: task.arrival) for one in (run, of_measured(back))]
    assert len(by_arrival[0]) == 10
    for task, again in zip(*by_arrival, strict=True):
        same = [replace(one, task=task.task) for one in again.spans]
        assert same == list(task.spans)
        assert replace(again, task=task.task, spans=task.spans, tokens=task.tokens) == task
