"""The Chrome trace of tasks: valid JSON in the format, in which a viewer shows every span where it belongs."""

import json
from dataclasses import replace
from typing import Any

import pytest

import coordsim as cs
from coordsim.sim.analysis.task_steps import TaskExample, examples
from coordsim.sim.engine.ledger import Span
from coordsim.sim.report.chrome_trace import to_chrome

Event = dict[str, Any]
ROUNDING = 2e-3  # µs: times are kept to the nanosecond


@pytest.fixture(scope="module")
def found() -> tuple[TaskExample, ...]:
    """Return the examples of a run with parallel work."""
    run = cs.simulate(cs.load("document-rag").replace("workload.tasks", 20), replications=1, spans="all")
    return examples(run.results[0])


def events(text: str) -> list[Event]:
    """Return the events of a trace, read strictly."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    data = json.loads(text, parse_constant=refuse)
    assert set(data) == {"displayTimeUnit", "traceEvents"}
    made: list[Event] = data["traceEvents"]
    return made


def hand_made(*spans: Span) -> TaskExample:
    """Return an example with these spans, which arrived at 100 s."""
    return TaskExample("p50", 7, "task", 100.0, 102.0, 0.5, 10, {}, spans, 0, 0.0)


def test_a_span_is_an_event_with_all_it_is() -> None:
    """Times are microseconds from the arrival; what the span says of itself is in its arguments."""
    span = Span(7, 0, 1, 0, "transmit", "communication", "network", 100.5, 101.75, 800.0, True, False, "done")
    (event,) = [one for one in events(to_chrome([hand_made(span)])) if one["ph"] == "X"]
    assert (event["ts"], event["dur"]) == (500_000.0, 1_250_000.0)
    assert (event["name"], event["cat"]) == ("transmit network", "communication")
    wanted = {
        "category": "communication",
        "component": "network",
        "size": 800.0,
        "critical": True,
        "lost": False,
        "error": False,
    }
    assert event["args"] == wanted


def test_a_span_without_length_is_an_instant() -> None:
    """A viewer would not show a bar without length."""
    span = Span(7, 0, 1, 0, "wait", "queueing", "llm", 101.0, 101.0, 0.0, True, False, "done")
    (event,) = [one for one in events(to_chrome([hand_made(span)])) if one["ph"] != "M"]
    assert (event["ph"], event["s"], event["ts"]) == ("i", "t", 1_000_000.0)
    assert "dur" not in event


def test_every_event_has_what_the_format_asks(found: tuple[TaskExample, ...]) -> None:
    """Each event has process, thread and time, none is before the arrival or behind the end, and no length is negative."""
    made = events(to_chrome(found))
    longest = max(one.total for one in found) * 1e6
    for one in made:
        assert {"name", "ph", "pid", "tid", "ts"} <= set(one)
        assert one["ph"] in {"X", "i", "M"}
        if one["ph"] == "X":
            assert one["dur"] >= 0
            assert 0 <= one["ts"] <= one["ts"] + one["dur"] <= longest + ROUNDING
    kept = sum(len(one.spans) for one in {one.task: one for one in found}.values())
    assert sum(one["ph"] != "M" for one in made) == kept


def test_threads_have_numbers_of_their_own_and_names(found: tuple[TaskExample, ...]) -> None:
    """No thread has the number of a process, which a viewer would take for its main thread; all are named, and small."""
    made = events(to_chrome(found))
    processes = {one["pid"] for one in made}
    threads = {(one["pid"], one["tid"]) for one in made if one["ph"] != "M"}
    assert not processes & {tid for _, tid in threads}
    assert max(tid for _, tid in threads) < 2**31
    assert threads <= {(one["pid"], one["tid"]) for one in made if one["name"] == "thread_name"}
    assert processes == {one["pid"] for one in made if one["name"] == "process_name"}
    assert len(threads) > len(processes)  # branches have lanes of their own


def test_the_events_of_a_thread_lie_in_each_other(found: tuple[TaskExample, ...]) -> None:
    """Within a thread, an event either lies in another or beside it: a viewer drops what only overlaps."""
    ends: dict[tuple[int, int], list[float]] = {}
    complete = [one for one in events(to_chrome(found)) if one["ph"] == "X"]
    for one in sorted(complete, key=lambda one: (one["ts"], -one["dur"])):
        open_ends = ends.setdefault((one["pid"], one["tid"]), [])
        while open_ends and open_ends[-1] <= one["ts"] + ROUNDING:
            open_ends.pop()
        end = one["ts"] + one["dur"]
        assert not open_ends or end <= open_ends[-1] + ROUNDING
        open_ends.append(end)


def test_a_task_at_two_percentiles_is_there_once(found: tuple[TaskExample, ...]) -> None:
    """Its process says both."""
    twice = [found[0], replace(found[0], label="p95")]
    (title,) = [one["args"]["name"] for one in events(to_chrome(twice)) if one["name"] == "process_name"]
    assert title.startswith(f"p50, p95: task {found[0].task} ")


def test_nothing_makes_an_empty_trace() -> None:
    """It is valid all the same."""
    assert events(to_chrome([])) == []
