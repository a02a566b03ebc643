"""Contents that stand where names and types should be are not kept, in any format; damage, missing pages and hints say what is so."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.trace_export import export, of_measured
from coordsim.sim.trace.formats import langfuse, langsmith, openinference, otlp
from coordsim.sim.trace.measured import Measured
from coordsim.sim.trace.observation import Observation
from coordsim.sim.trace.private import is_well_known, safe_error, safe_id, safe_name
from coordsim.sim.trace.read import read
from coordsim.sim.trace.tally import FileTally, Tally, TraceError

KEY = "sk-live-abcdefSECRETPLANT"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("ValueError", "ValueError"),
        ("ValueError: bob@example.com", "ValueError"),
        ("KeyError('SECRET')", "KeyError"),
        ("openai.RateLimitError", "openai.RateLimitError"),
        ("std::bad_alloc", "std::bad_alloc"),
        ("503", "503"),
        ("-32602", "-32602"),
        ("_OTHER", "_OTHER"),
        (KEY, "error"),
        ("Failed to open /home/bob/SECRET", "error"),
        ("a1b2c3d4e5f6a7b8c9d0", "error"),
        ("x" * 65, "error"),
        ("5551234567", "error"),
        ("", ""),
    ],
)
def test_of_errors_only_the_type_is_kept(said: str, kept: str) -> None:
    """An identifier or a code; a message, a key and what is too long are `error`."""
    assert safe_error(said) == kept


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("GET /users/list?token=SECRET", "GET /users/list"),
        ("Summarise the mail of bob: SECRET", "Summarise the mail of …"),
        ("chat gpt-4o-2024-08-06", "chat gpt-4o-2024-08-06"),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "us.anthropic.claude-3-7-sonnet-20250219-v1:0"),
        ("invoke_agent Senior Research Analyst", "invoke_agent Senior Research Analyst"),
        (f"call with {KEY}", "call with #"),
        ("load a1b2c3d4e5f6a7b8", "load #"),
        ("GET https://bob:hunter2@host.example/users", "GET https://#@host.example/users"),
        ("mail bob.smith@example.com", "mail #"),
        ("tools@1.2.0 @scope/name", "tools@1.2.0 @scope/name"),
        ("ask?", "ask"),
        ("?", "?"),
    ],
)
def test_of_names_no_content_is_kept(name: str, kept: str) -> None:
    """Queries, keys and sentences are cut; names of models, agents and spans stay."""
    assert safe_name(name) == kept


@pytest.mark.parametrize("said", ["4bf92f3577b34da6a3ce929d0e0e4736", "django__django-11099", "session 7", ""])
def test_ids_are_kept(said: str) -> None:
    """Letters and digits in a row are what ids are."""
    assert safe_id(said) == said


@pytest.mark.parametrize("said", [KEY, f"made/{KEY}", "bob@example.com", "please tell me about bob and SECRET"])
def test_ids_that_hold_contents_are_told_by_their_hash(said: str, tmp_path: Path) -> None:
    """They stay apart, and are the same in every file."""
    assert safe_id(said) == safe_id(said) != safe_id(f"{said} 2")
    assert len(safe_id(said)) == 10
    rows = [{"task": said, "session": said, "set": said, "kind": "llm", "model": "gpt", "start_s": 0, "dur_s": 1}]
    (tmp_path / "steps.json").write_text(json.dumps(rows))
    assert said not in repr(read([tmp_path / "steps.json"]))


def document(*spans: dict[str, Any]) -> str:
    """Return a line of OTLP/JSON with some spans, which have what is not given."""
    made = [
        {
            "traceId": f"{1:032x}", "spanId": f"{place:016x}", "startTimeUnixNano": str(10**18 + place * 10**9),
            "endTimeUnixNano": str(10**18 + place * 10**9 + 500_000_000), "status": {}, "attributes": [],
        } | one
        for place, one in enumerate(spans, start=1)
    ]  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]})


def attributes(**values: str) -> list[dict[str, Any]]:
    """Return attributes, in whose names `__` stands for a dot."""
    return [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in values.items()]


def secrets(tmp_path: Path, *, hash_names: bool = False) -> Measured:
    """Return a trace that has contents wherever a name or a type may be."""
    path = tmp_path / "secrets.json"
    chat = {"gen_ai__operation__name": "chat"}
    path.write_text(
        document(
            {"name": "GET /users/list?token=SECRETPLANT", "kind": 3},
            {"name": "Summarise the mail of bob: SECRETPLANT"},
            {"name": "chat", "attributes": attributes(**chat, error__type=KEY), "status": {"code": 2}},
            {
                "name": "chat",
                "attributes": attributes(**chat, error__type="Failed: SECRETPLANT"),
                "status": {"code": 2},
            },
            {
                "name": "chat",
                "attributes": attributes(**chat),
                "status": {"code": 2, "message": "OSError: SECRETPLANT"},
            },
            {"name": "chat", "attributes": attributes(**chat, error__type="acme_secret_state"), "status": {"code": 2}},
        )
    )
    return read([path], hash_names=hash_names)


@pytest.mark.parametrize("hash_names", [False, True])
def test_secrets_are_in_no_ledger_and_no_export(tmp_path: Path, hash_names: bool) -> None:
    """Nor in calls, failures or remarks; that names were cut is counted."""
    measured = secrets(tmp_path, hash_names=hash_names)
    assert "SECRETPLANT" not in repr(measured)
    assert "SECRETPLANT" not in repr([measured.ledger.accounts, measured.tasks])
    export(of_measured(measured), "otlp", tmp_path / "out.json")
    assert "SECRETPLANT" not in (tmp_path / "out.json").read_text()
    assert measured.tally.notes["names that hold a sentence, a query or a key: cut"].spans == 2


def test_what_only_seems_to_be_an_export_has_no_names_of_its_own(tmp_path: Path) -> None:
    """Spans with attributes of an export that do not fit together are named as those of any trace."""
    said = attributes(gen_ai__operation__name="execute_tool", gen_ai__tool__name=f"find {KEY}", coordsim__task="0")
    (tmp_path / "seems.json").write_text(document({"name": f"execute_tool find {KEY}", "attributes": said}))
    measured = read([tmp_path / "seems.json"])
    assert [call.component for call in measured.tasks[0].calls] == ["find #"]
    assert KEY not in repr([measured, measured.ledger.accounts])


def test_errors_are_hashed_with_names_unless_they_are_well_known(tmp_path: Path) -> None:
    """A type that only this team has is a name, `OSError` is not."""
    plain, hashed = (
        [call.error for call in secrets(tmp_path, hash_names=way).tasks[0].calls if call.error] for way in (False, True)
    )
    assert plain == ["error", "error", "OSError", "acme_secret_state"]
    assert hashed[:3] == plain[:3]
    assert len(hashed[3]) == 10
    assert not is_well_known(hashed[3])
    assert is_well_known("429")


# ---------------------------------------------------------------------------------------------------------------------
# Formats


def seen(module: Any, form: str, content: str) -> tuple[list[Observation], FileTally, Tally]:
    """Return what a reader makes of a file."""
    file, tally = FileTally("given", form, len(content)), Tally()
    return list(module.observations(io.BytesIO(content.encode()), file, tally)), file, tally


LANGFUSE = {
    "id": "1", "traceId": "t", "type": "GENERATION", "name": "g", "model": "gpt", "level": "ERROR", "startTime": "2026-01-01T00:00:00Z",
    "endTime": "2026-01-01T00:00:01Z",
}  # fmt: skip


def test_the_type_of_an_error_is_found_alike_in_every_format() -> None:
    """`ValueError: x` is a ValueError, whatever the field with the message is called; a sentence is an error."""
    for message, kept in (("ValueError: bob", "ValueError"), ("it went wrong for bob", "error")):
        chain = {"id": "1", "run_type": "llm", "start_time": "2026-01-01T00:00:00", "error": message}
        phoenix = {
            "context.span_id": "1",
            "context.trace_id": "t",
            "span_kind": "LLM",
            "status_code": "ERROR",
            "status_message": message,
        }
        spans = document({"name": "chat", "status": {"code": "STATUS_CODE_ERROR", "message": message}})
        for module, form, content in (
            (langsmith, "langsmith", json.dumps([chain])),
            (langfuse, "langfuse", json.dumps([LANGFUSE | {"statusMessage": message}])),
            (openinference, "openinference", json.dumps([phoenix])),
            (otlp, "otlp", spans),
        ):
            assert [one.error for one in seen(module, form, content)[0]] == [kept], form


def test_a_damaged_line_is_counted_and_told() -> None:
    """A line that is no JSON holds at least one span, which is lost; the remark has its number."""
    good = document({"name": "chat"})
    found, file, tally = seen(otlp, "otlp", f'{good}\n{{"resourceSpans": !!}}\n{good}\n')
    assert (len(found), tally.spans, tally.dropped) == (2, 3, 1)
    assert "line 2" in file.remark


def test_a_damaged_row_is_told_by_its_line(tmp_path: Path) -> None:
    """Of tables and of JSON lines alike."""
    (tmp_path / "a.csv").write_text("task,kind,start_s,dur_s\na,llm,0,1\na,llm,1\nb,llm,0\n")
    tally = read([tmp_path / "a.csv"]).tally
    assert (tally.kept, tally.dropped) == (1, 2)
    assert tally.files[0].remark == "line 3 has more or fewer cells than the header"
    (tmp_path / "a.jsonl").write_text('{"task":"a","kind":"llm","start_s":0,"dur_s":1}\n{"task":\n')
    tally = read([tmp_path / "a.jsonl"]).tally
    assert (tally.kept, tally.dropped, tally.files[0].remark) == (1, 1, "line 2 is no JSON")


def test_a_page_of_several_says_so() -> None:
    """An answer of an API that has more pages is not all of the traces."""
    for pages, remark in ((2, "page 1 of 2: the other pages hold spans too, give them as well"), (1, "")):
        page = {"data": [LANGFUSE], "meta": {"page": 1, "limit": 50, "totalItems": 60, "totalPages": pages}}
        assert seen(langfuse, "langfuse", json.dumps(page))[1].remark == remark


@pytest.mark.parametrize("header", ["set,task,wall_s,llm_s,tool_s", "trace,t,subagent_type,duration_ms,total_tokens"])
def test_a_column_that_is_only_alike_is_not_hinted_at(tmp_path: Path, header: str) -> None:
    """To rename `tool_s` to `start_s` would be wrong."""
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    with pytest.raises(TraceError) as refused:
        read([path])
    assert "rename it" not in str(refused.value)


def test_rows_without_a_kind_are_counted(tmp_path: Path) -> None:
    """Each is a guess."""
    path = tmp_path / "calls.csv"
    path.write_text("task,model,start_s,dur_s,output_tokens\na,x,0,1,5\na,x,2,1,5\nb,x,0,1,5\n")
    (note,) = (one for one in read([path]).tally.notes.values() if "no `kind`" in one.what)
    assert (note.fate, note.spans) == ("guessed", 3)


def test_kinds_are_those_that_spans_say() -> None:
    """Guards, judges, parsers and prompts are no calls of a model; a run with the sum of its tokens is an agent."""
    for kind in ("GUARDRAIL", "EVALUATOR", "PROMPT"):
        said = attributes(openinference__span__kind=kind, llm__model_name="gpt", llm__token_count__prompt="5")
        (one,) = seen(otlp, "otlp", document({"name": "check", "attributes": said}))[0]
        assert one.kind in ("client", "other")
        assert one.input_tokens is None
    for kind in ("parser", "prompt"):
        run = {"id": "1", "run_type": kind, "name": "StrOutputParser", "start_time": "2026-01-01T00:00:00"}
        assert [one.kind for one in seen(langsmith, "langsmith", json.dumps([run]))[0]] == ["other"]
    said = attributes(model_name="gpt", agent_name="qa_agent", gen_ai__usage__input_tokens="5")
    (one,) = seen(otlp, "otlp", document({"name": "qa_agent run", "attributes": said}))[0]
    assert (one.kind, one.component, one.input_tokens) == ("agent", "qa_agent", None)
    (one,) = seen(otlp, "otlp", document({"name": "qa_agent run", "attributes": said[:1] + said[2:]}))[0]
    assert (one.kind, one.component) == ("agent", "qa_agent")


def test_a_pending_run_keeps_the_model_it_asked_for(tmp_path: Path) -> None:
    """It has no end, which is counted; its model is that of the request, wherever that stands."""
    run = {
        "id": "1",
        "trace_id": "1",
        "run_type": "llm",
        "name": "ChatAnthropic",
        "start_time": "2026-01-01T00:00:00",
        "status": "pending",
    }
    for more in (
        {"extra": {"metadata": {"ls_model_name": "claude"}}},
        {"extra": {"invocation_params": {"model_id": "claude"}}},
        {"serialized": {"kwargs": {"model": "claude"}}},
    ):
        (tmp_path / "runs.json").write_text(json.dumps([run | {"end_time": None} | more]))
        measured = read([tmp_path / "runs.json"])
        ((call,),) = (one.calls for one in measured.tasks)
        assert call.component == "claude"
        assert any(note.what.startswith("no end") for note in measured.tally.notes.values())
