"""The tally: reasons are counted once each, spans read are kept and dropped, and what the report takes from it is true."""

import json
from pathlib import Path
from typing import Any

import pytest

from coordsim.sim.trace.measured import Measured
from coordsim.sim.trace.names import Namer
from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.read import read
from coordsim.sim.trace.tally import Tally

from .otlp_files import START, document, timed


def test_a_reason_is_one_note() -> None:
    """Spans add up, the most is the largest, and the first example stays."""
    tally = Tally(spans=9)
    tally.note("dropped", "why", seconds=1.0, example="a")
    tally.note("dropped", "why", spans=2, seconds=0.5, example="b")
    tally.note("repaired", "how")
    assert (tally.notes["why"].spans, tally.notes["why"].most, tally.notes["why"].example) == (3, 1.0, "a")
    assert (tally.dropped, tally.kept) == (3, 6)


def test_a_span_is_counted_once_however_many_of_its_names_hold_an_id() -> None:
    """Its name, its component and its agent all lose a number: that is one span."""
    tally = Tally(spans=1)
    Namer(tally).rename(Observation("t", "a", "", "agent", "run 12345", "run 12345", 0, 1, agent="run 12345"))
    assert [note.spans for note in tally.notes.values()] == [1]


def otlp(path: Path, *groups: list[dict[str, Any]]) -> Measured:
    """Read spans of several processes, written as OTLP."""
    resources = [
        document(*spans, resource={"service.name": str(number)})["resourceSpans"][0]
        for number, spans in enumerate(groups)
    ]
    path.write_text(json.dumps({"resourceSpans": resources}), encoding="utf-8")
    return read([path])


@pytest.mark.parametrize("later", [False, True])
def test_the_date_is_that_of_the_repaired_spans(tmp_path: Path, later: bool) -> None:
    """A server whose clock is an hour behind, and a time of another decade, do not date the task; nor does a task after it."""
    own = [
        timed(1, 0, "invoke_agent a", 3600, 3610),
        timed(2, 1, "execute_tool q", 3601, 3605),
        timed(4, 1, "execute_tool x", -(10**9), 3609),
    ]
    more = [timed(1, 0, "invoke_agent a", 7200, 7210, trace=2)] if later else []
    measured = otlp(tmp_path / "f.json", own + more, [timed(3, 2, "execute_tool q", 1.5, 4.5)])
    assert measured.tally.clock == "2023-11-14 23:13:20 UTC"
    assert measured.tally.zero == START + 3600 * 10**9
    assert [one.arrival for one in measured.tasks] == [0.0, 3600.0][: 1 + later]


def test_a_retry_that_alone_says_which_model_answered(tmp_path: Path) -> None:
    """The failed attempt names what was asked for only: both are calls of that, 1 s lost and 2 s waited."""
    asked: dict[str, Any] = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "m"}
    measured = otlp(
        tmp_path / "f.json",
        [
            timed(1, 0, "invoke_agent a", 0, 6),
            timed(2, 1, "chat m", 0, 1, error__type="RateLimitError", **asked),
            timed(3, 1, "chat m", 3, 6, gen_ai__response__model="m-2024-08-06", **asked),
        ],
    )
    assert [(one.component, one.retried) for one in measured.tasks[0].calls] == [("m", True), ("m", False)]
    assert measured.sums.union == {"llm": 4.0}
    names = [f"{one.category} {one.name}" for one in measured.ledger.accounts]
    assert {"recovery failed attempt", "recovery backoff"} <= set(names)


def test_databases_are_calls_and_counted_as_guesses(tmp_path: Path) -> None:
    """What says only that it is of a database is a retrieval, in the sums and in the list of guesses."""
    measured = otlp(
        tmp_path / "f.json", [timed(1, 0, "invoke_agent a", 0, 6), timed(2, 1, "SELECT", 1, 3, db__system="sqlite")]
    )
    assert measured.sums.union == {"retriever": 2.0}
    assert measured.tally.notes["calls of databases: taken as retrieval"].spans == 1
