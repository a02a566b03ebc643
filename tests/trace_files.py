"""Made traces: an agent that calls a model and tools in turns, with known times, tokens and errors, written in every format that is read.

The same truth in each: `made(tasks, seed)` returns it, `as_FORMAT(truth)` the bytes of a file. Every prompt, answer, argument and result
that a format has a place for holds `SECRET`, which must turn up nowhere. Times are whole milliseconds, since some formats have no finer.

`shipped()` is the file of traces that comes with coordsim: a test holds it to this, and `write_shipped(root)` writes it anew.

Leaves out: damage of any kind; tests do it to these bytes.
Checked: tests/test_trace_command.py.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

__all__ = ["FORMATS", "SECRET", "TrueCall", "TrueTask", "made", "shipped", "totals"]

SECRET = "do-not-tell-7f3a"  # what a user has written, in every place that a format has for it
START = datetime(2030, 1, 1, 9, tzinfo=UTC)
MODEL, AGENT = "planner-large", "coder"
TOOLS = ("read", "edit", "test")
# From row to column: what is called after what. `edit` and `test` follow each other, as in coding agents.
NEXT = {"": (0.9, 0.05, 0.05), "read": (0.55, 0.4, 0.05), "edit": (0.1, 0.2, 0.7), "test": (0.35, 0.6, 0.05)}
MEDIAN = {"read": 40.0, "edit": 60.0, "test": 2500.0}  # ms
SPREAD = {"read": 0.5, "edit": 0.4, "test": 1.3}  # standard deviation of the logarithm
FAILS = {"read": 0.04, "edit": 0.06, "test": 0.25}
RESULT = {"read": 900, "edit": 60, "test": 350}  # tokens of a result, in the mean


@dataclass(frozen=True)
class TrueCall:
    """A call: milliseconds from `START`, tokens, and the type of its error; calls of one `turn` follow the same answer of the model."""

    kind: Literal["llm", "tool"]
    component: str
    start: int
    end: int
    turn: int
    new: int = 0
    cached: int = 0
    output: int = 0
    error: str = ""


@dataclass(frozen=True)
class TrueTask:
    """A task: the agent is at work from the start of its first call to the end of its last."""

    name: str
    calls: tuple[TrueCall, ...]

    @property
    def start(self) -> int:
        """When it began (ms)."""
        return self.calls[0].start

    @property
    def end(self) -> int:
        """When it ended (ms)."""
        return max(one.end for one in self.calls)


def made(tasks: int = 12, seed: int = 1, *, apart: int = 20_000) -> tuple[TrueTask, ...]:
    """Return tasks that come `apart` milliseconds from each other, in the mean; each has a model call, then tools, a few times."""
    draw = random.Random(seed)
    found, clock = [], 0
    for number in range(tasks):
        found.append(TrueTask(f"task-{number:03d}", tuple(_calls(draw, clock))))
        clock += round(draw.expovariate(1 / apart)) + 1
    return tuple(found)


def _calls(draw: random.Random, clock: int) -> Iterable[TrueCall]:
    turns, context, seen, last = 2 + min(10, int(draw.expovariate(1 / 4))), 1800 + draw.randrange(600), 0, ""
    for turn in range(turns):
        answer = 20 + round(draw.lognormvariate(4.2, 0.6))
        seconds = 350 + 0.1 * (context - seen) + 0.004 * seen + 12 * answer
        end = clock + round(seconds * draw.lognormvariate(0, 0.12))
        yield TrueCall("llm", MODEL, clock, end, turn, context - seen, seen, answer)
        context, seen, clock = context + answer, context, end
        if turn == turns - 1:
            return
        clock += 10 + draw.randrange(30)  # the framework, which writes no span
        started, ends = clock, []
        for _ in range(2 if draw.random() < 0.2 else 1):
            (last,) = draw.choices(TOOLS, NEXT[last])
            ends.append(started + 1 + round(MEDIAN[last] * draw.lognormvariate(0, SPREAD[last])))
            error = "ToolError" if draw.random() < FAILS[last] else ""
            yield TrueCall("tool", last, started, ends[-1], turn, error=error)
            context += round(RESULT[last] * draw.lognormvariate(0, 0.4))
        clock = max(ends) + 5 + draw.randrange(15)


def totals(tasks: Sequence[TrueTask]) -> dict[str, float]:
    """Return seconds of all tasks: `wall`, the union of each kind's intervals, and their sum with overlaps counted twice."""
    found = {"wall": sum(one.end - one.start for one in tasks) / 1e3}
    for kind in ("llm", "tool"):
        for name in (f"{kind}_union", f"{kind}_sum"):
            found[name] = 0.0
        for task in tasks:
            reached = task.start
            for call in sorted((one for one in task.calls if one.kind == kind), key=lambda one: one.start):
                found[f"{kind}_sum"] += (call.end - call.start) / 1e3
                found[f"{kind}_union"] += max(0, call.end - max(call.start, reached)) / 1e3
                reached = max(reached, call.end)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# OTLP


def _id(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _nanoseconds(milliseconds: int) -> str:
    return str((round(START.timestamp()) * 1000 + milliseconds) * 1_000_000)


def _attributes(values: dict[str, str | int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(one)} if isinstance(one, int) else {"stringValue": one}}
        for key, one in values.items()
    ]


def _genai(call: TrueCall | None) -> tuple[str, dict[str, str | int]]:
    """Return a span's name and attributes by OpenTelemetry's conventions for generative AI."""
    if call is None:
        return f"invoke_agent {AGENT}", {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": AGENT}
    failed: dict[str, str | int] = {"error.type": call.error} if call.error else {}
    if call.kind == "tool":
        given = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": call.component}
        return f"execute_tool {call.component}", {**given, "gen_ai.tool.call.arguments": SECRET, **failed}
    return f"chat {MODEL}", {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.usage.input_tokens": call.new + call.cached,
        "gen_ai.usage.cache_read.input_tokens": call.cached,
        "gen_ai.usage.output_tokens": call.output,
        "gen_ai.input.messages": SECRET,
        **failed,
    }


def _openinference(call: TrueCall | None) -> tuple[str, dict[str, str | int]]:
    """Return a span's name and attributes by the conventions of OpenInference."""
    if call is None:
        return AGENT, {"openinference.span.kind": "AGENT", "agent.name": AGENT, "input.value": SECRET}
    failed: dict[str, str | int] = {"exception.type": call.error} if call.error else {}
    if call.kind == "tool":
        return call.component, {
            "openinference.span.kind": "TOOL", "tool.name": call.component, "output.value": SECRET, **failed,
        }  # fmt: skip
    return "ChatCompletion", {
        "openinference.span.kind": "LLM",
        "llm.model_name": MODEL,
        "llm.token_count.prompt": call.new + call.cached,
        "llm.token_count.prompt_details.cache_read": call.cached,
        "llm.token_count.completion": call.output,
        "llm.input_messages.0.message.content": SECRET,
        **failed,
    }


Told = Callable[[TrueCall | None], tuple[str, dict[str, str | int]]]


def _span(task: TrueTask, number: int, call: TrueCall | None, told: Told) -> dict[str, Any]:
    name, attributes = told(call)
    start, end = (task.start, task.end) if call is None else (call.start, call.end)
    span: dict[str, Any] = {
        "traceId": _id(task.name, 32),
        "spanId": _id(f"{task.name} {number}", 16),
        "name": name,
        "kind": 1 if call is None or call.kind == "tool" else 3,
        "startTimeUnixNano": _nanoseconds(start),
        "endTimeUnixNano": _nanoseconds(end),
        "attributes": _attributes(attributes),
    }
    if call is not None:
        span["parentSpanId"] = _id(f"{task.name} 0", 16)
        if call.error:
            span["status"] = {"code": 2, "message": SECRET}
    return span


def otlp(tasks: Sequence[TrueTask], told: Told = _genai) -> dict[str, Any]:
    """Return TracesData as JSON has it."""
    spans = [_span(task, number, call, told) for task in tasks for number, call in enumerate((None, *task.calls))]
    resource = {"attributes": _attributes({"service.name": "made"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "made"}, "spans": spans}]}]}


def as_otlp_json(tasks: Sequence[TrueTask]) -> bytes:
    """Return one document."""
    return json.dumps(otlp(tasks)).encode()


def as_otlp_lines(tasks: Sequence[TrueTask]) -> bytes:
    """Return a line for each task, as the collector's file exporter writes batches."""
    return "".join(json.dumps(otlp([one])) + "\n" for one in tasks).encode()


def as_openinference(tasks: Sequence[TrueTask]) -> bytes:
    """Return one document with the attributes of OpenInference."""
    return json.dumps(otlp(tasks, _openinference)).encode()


def as_otlp_proto(tasks: Sequence[TrueTask]) -> bytes:
    """Return TracesData as protobuf. Needs opentelemetry-proto."""
    from google.protobuf import json_format
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    data = otlp(tasks)
    for span in data["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):  # hex in OTLP/JSON, base64 in protobuf's own
            if key in span:
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    made: bytes = json_format.ParseDict(data, TracesData()).SerializeToString()
    return made


# ---------------------------------------------------------------------------------------------------------------------
# Others


def _date(milliseconds: int, zone: str = "Z") -> str:
    return (START + timedelta(milliseconds=milliseconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + zone


def _langfuse(task: TrueTask, number: int, call: TrueCall | None) -> dict[str, Any]:
    start, end = (task.start, task.end) if call is None else (call.start, call.end)
    model = call is not None and call.kind == "llm"
    return {
        "id": _id(f"{task.name} {number}", 16),
        "traceId": _id(task.name, 32),
        "parentObservationId": None if call is None else _id(f"{task.name} 0", 16),
        "type": "AGENT" if call is None else "GENERATION" if model else "TOOL",
        "name": AGENT if call is None else "chat" if model else call.component,
        "startTime": _date(start),
        "endTime": _date(end),
        "level": "ERROR" if call is not None and call.error else "DEFAULT",
        "statusMessage": SECRET if call is not None and call.error else None,
        "model": MODEL if model else None,
        "usageDetails": {"input": call.new, "input_cached_tokens": call.cached, "output": call.output}
        if model and call is not None
        else {},
        "input": {"content": SECRET},
        "output": SECRET,
    }


def as_langfuse(tasks: Sequence[TrueTask]) -> bytes:
    """Return a line for each observation, as an export of a project has it."""
    rows = (_langfuse(task, number, call) for task in tasks for number, call in enumerate((None, *task.calls)))
    return "".join(json.dumps(one) + "\n" for one in rows).encode()


def _langsmith(task: TrueTask, number: int, call: TrueCall | None) -> dict[str, Any]:
    start, end = (task.start, task.end) if call is None else (call.start, call.end)
    model = call is not None and call.kind == "llm"
    root = _uuid(f"{task.name} 0")
    run: dict[str, Any] = {
        "id": root if call is None else _uuid(f"{task.name} {number}"),
        "trace_id": root,
        "parent_run_id": None if call is None else root,
        "name": AGENT if call is None else "ChatOpenAI" if model else call.component,
        "run_type": "chain" if call is None else "llm" if model else "tool",
        "start_time": _date(start, ""),
        "end_time": _date(end, ""),
        "status": "error" if call is not None and call.error else "success",
        "error": f"{call.error}('{SECRET}')" if call is not None and call.error else None,
        "inputs": {"messages": [SECRET]},
        "outputs": {"output": SECRET},
        "extra": {"metadata": {"ls_model_name": MODEL} if model else {}},
    }
    if model and call is not None:
        usage = {
            "input_tokens": call.new + call.cached,
            "output_tokens": call.output,
            "total_tokens": call.new + call.cached + call.output,
            "input_token_details": {"cache_read": call.cached},
        }
        run["outputs"] = {"output": SECRET, "usage_metadata": usage}
        run |= {"prompt_tokens": call.new + call.cached, "completion_tokens": call.output}
    return run


def _uuid(text: str) -> str:
    digits = _id(text, 32)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def as_langsmith(tasks: Sequence[TrueTask]) -> bytes:
    """Return a line for each run, as a bulk export has it."""
    rows = (_langsmith(task, number, call) for task in tasks for number, call in enumerate((None, *task.calls)))
    return "".join(json.dumps(one) + "\n" for one in rows).encode()


def _inspect_event(call: TrueCall) -> dict[str, Any]:
    seconds = (call.end - call.start) / 1e3
    common: dict[str, Any] = {"timestamp": _date(call.start, "+00:00"), "completed": _date(call.end, "+00:00")}
    common |= {"working_start": call.start / 1e3, "working_time": seconds, "pending": None}
    if call.kind == "tool":
        error = {"type": "unknown", "message": SECRET} if call.error else None
        return {
            **common, "event": "tool", "type": "function", "id": f"call-{call.start}-{call.component}-{call.end}",
            "function": call.component, "arguments": {"text": SECRET}, "result": SECRET, "error": error, "events": [],
        }  # fmt: skip
    usage = {
        "input_tokens": call.new,
        "input_tokens_cache_read": call.cached,
        "output_tokens": call.output,
        "total_tokens": call.new + call.cached + call.output,
    }
    return {
        **common, "event": "model", "model": MODEL, "input": [{"role": "user", "content": SECRET}], "tools": [],
        "output": {"model": MODEL, "choices": [], "usage": usage, "time": seconds},
    }  # fmt: skip


def as_inspect(tasks: Sequence[TrueTask]) -> bytes:
    """Return the log of an evaluation, a sample for each task."""
    samples = [
        {
            "id": task.name, "epoch": 1, "input": SECRET, "target": SECRET, "messages": [],
            "uuid": _uuid(task.name), "total_time": (task.end - task.start) / 1e3,
            "events": [_inspect_event(call) for call in task.calls],
        }
        for task in tasks
    ]  # fmt: skip
    return json.dumps(
        {
            "version": 2, "status": "success", "eval": {"task": "made", "model": MODEL, "created": _date(0, "+00:00")},
            "plan": {}, "results": {}, "stats": {}, "samples": samples,
        }
    ).encode()  # fmt: skip


STEPS = (
    "task", "model", "seq", "kind", "name", "start_s", "dur_s", "in_tok", "cache_read", "cache_write", "out_tok", "is_error", "n_parallel",
)  # fmt: skip


def as_steps(tasks: Sequence[TrueTask]) -> bytes:
    """Return a CSV with a row a call; times are seconds since its task began."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(STEPS)
    for task in tasks:
        for number, call in enumerate(task.calls):
            beside = sum(one.turn == call.turn and one.kind == "tool" for one in task.calls)
            start, seconds = (call.start - task.start) / 1e3, (call.end - call.start) / 1e3
            row: list[Any] = [
                task.name,
                MODEL,
                number,
                call.kind,
                "chat" if call.kind == "llm" else call.component,
                start,
                seconds,
            ]
            if call.kind == "llm":
                row += [call.new, call.cached, 0, call.output, "", 1]
            else:
                row += ["", "", "", "", int(bool(call.error)), beside]
            writer.writerow(row)
    return text.getvalue().encode()


FORMATS: dict[str, Callable[[Sequence[TrueTask]], bytes]] = {
    "otlp.json": as_otlp_json,
    "otlp.jsonl": as_otlp_lines,
    "otlp.pb": as_otlp_proto,
    "openinference.json": as_openinference,
    "langfuse.jsonl": as_langfuse,
    "langsmith.jsonl": as_langsmith,
    "inspect.json": as_inspect,
    "steps.csv": as_steps,
}


# ---------------------------------------------------------------------------------------------------------------------
# What ships

SHIPPED = "synthetic-agent-traces.jsonl"


def shipped() -> bytes:
    """Return scenarios/data/synthetic-agent-traces.jsonl: OTLP, a line a task, without contents and what nobody needs."""
    lines = []
    for task in made(32, seed=9):
        data = otlp([task])
        for span in data["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            del span["kind"]
            told = (one["value"].get("stringValue") for one in span["attributes"])
            span["attributes"] = [
                one for one, text in zip(span["attributes"], told, strict=True) if text not in (SECRET, "openai")
            ]
            if "status" in span:
                span["status"] = {"code": 2}
        lines.append(json.dumps(data, separators=(",", ":")) + "\n")
    return "".join(lines).encode()


def write_shipped(root: Path) -> None:
    """Write the file that ships; to be called after a change of what is made."""
    (root / "scenarios" / "data" / SHIPPED).write_bytes(shipped())
