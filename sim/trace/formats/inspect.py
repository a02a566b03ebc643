"""Inspect logs: `.json`, and `.eval`, which is a zip archive of JSON. Each sample (of each epoch) is a task.

A sample is a span that holds the spans and steps of its solvers, scorers and agents, its calls of models and tools, and what its sandbox did.
Events that are moments (state, store, scores) are no spans.
Leaves out: scores and limits; the time of retries inside of a call of a model, which the log gives as a number only.
Checked: tests/test_trace_formats.py.
Source: https://inspect.aisi.org.uk/reference/inspect_ai.log.html, https://inspect.aisi.org.uk/reference/inspect_ai.event.html.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, BinaryIO, cast

from ..observation import Kind, Observation
from ..tally import FileTally, Tally, TraceError
from .genai import size
from .rows import Record, records
from .values import error_in, error_type, first, mapping, nanoseconds, number, text

__all__ = ["observations"]

_KEPT = ("eval.task", "eval.run_id", "status")
_TIMED = ("model", "tool", "sandbox", "subtask")
_SPANS: dict[str, Kind] = {
    "agent": "agent",
    "handoff": "agent",
    "subtask": "workflow",
    "solvers": "workflow",
    "scorers": "workflow",
}
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    EOFError,
    OSError,
    ValueError,
    RecursionError,
    NotImplementedError,
)
"""What is raised where an archive, or a member of it, cannot be read."""

MOMENTS = "events that are moments, and no spans"
PERSON = "a person's input, taken to last since the event before"
NO_EVENTS = "the log has no samples with events"
RETRIED = "calls of models that were tried again inside: their time holds the attempts"


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each sample, what is inside of it, and its calls. A log without samples gives none, with a remark."""
    for sample, above in _samples(stream, file, tally):
        found = _Sample(sample, above, file, tally)
        for one in found.observations():
            tally.spans += 1
            file.spans += 1
            yield one


def _samples(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[tuple[Record, Record]]:
    """Give each sample, and what the log says above its samples."""
    start = stream.read(4)
    stream.seek(0)
    if start == b"PK\x03\x04":
        yield from _zipped(stream, file, tally)
        return
    some = False
    for _, record in records(stream, file, tally, ("samples",), _KEPT):
        if isinstance(record.get("events"), list):
            some = True
            _say_status(file, record.get("^status"))
            yield record, {key: record.get(f"^{key}") for key in _KEPT}
        elif "eval" not in record:
            tally.spans += 1
            tally.note("dropped", "samples without events")
    if not some:
        file.remark = file.remark or NO_EVENTS


def _say_status(file: FileTally, status: Any) -> None:
    """Remark that a run did not come to its end."""
    word = text(status)
    if word in ("cancelled", "error", "started") and not file.remark:
        file.remark = f"its run ended as `{word}`"


def _zipped(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[tuple[Record, Record]]:
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", stream))
        names = archive.namelist()
        header = mapping(_member(archive, "header.json" if "header.json" in names else "_journal/start.json"))
    except _DAMAGED as error:
        raise TraceError(
            f"{file.name}: is an Inspect log that {_why(error)}; export it with `inspect log convert --to json`"
        ) from None
    said = mapping(header.get("eval"))
    above: Record = {"eval.task": said.get("task"), "eval.run_id": said.get("run_id"), "status": header.get("status")}
    samples = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
    _say_status(file, above["status"])
    for place, name in enumerate(samples, start=1):
        try:
            sample = _member(archive, name)
        except _DAMAGED:
            sample = None
        if isinstance(sample, dict):
            yield sample, above
        else:
            tally.spans += 1
            tally.note("dropped", "samples that cannot be read", example=f"sample {place}")
    if not samples:
        file.remark = NO_EVENTS


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as member:
        return json.load(member)


def _why(error: Exception) -> str:
    return (
        "is compressed in a way that this Python cannot undo"
        if isinstance(error, NotImplementedError)
        else "is damaged or breaks off"
    )


@dataclass(slots=True)
class _Sample:
    """One sample, while its events are gone through."""

    sample: Record
    above: Record
    file: FileTally
    tally: Tally
    trace: str = ""
    root: Observation = field(init=False)
    open: dict[str, Observation] = field(default_factory=dict)
    steps: list[Observation] = field(default_factory=list)
    made: list[Observation] = field(default_factory=list)
    last: int | None = None

    def __post_init__(self) -> None:
        task, mark, epoch = (
            text(self.above.get("eval.task")),
            text(self.sample.get("id")),
            text(self.sample.get("epoch")),
        )
        run = text(self.above.get("eval.run_id")) or self.file.name
        self.trace = text(self.sample.get("uuid")) or f"{run}/{mark}/{epoch}"
        start, end = nanoseconds(self.sample.get("started_at")), nanoseconds(self.sample.get("completed_at"))
        self.root = Observation(self.trace, f"{self.trace}/sample", "", "workflow", task or "sample", task, start, end)
        failed = self.sample.get("error")
        self.root.error = _failure(failed)
        self.root.problem = f"{task}/{mark}"

    def observations(self) -> list[Observation]:
        """Return the sample and all that is inside of it, in the order of the log."""
        self._go_through(self.sample.get("events"), self.root.id)
        self._adopt()
        times = [at for one in self.made for at in (one.start, one.end) if at is not None]
        times += [self.last] if self.last is not None else []
        if times:
            self.root.start = min(times) if self.root.start is None else self.root.start
            self.root.end = max(times) if self.root.end is None else self.root.end
        return [self.root, *self.made]

    def _go_through(self, events: Any, parent: str) -> None:
        pending = [(event, parent) for event in reversed(events)] if isinstance(events, list) else []
        while pending:  # tools and subtasks of older logs hold their events themselves
            event, above = pending.pop()
            if not isinstance(event, dict):
                self.tally.spans += 1
                self.tally.note("dropped", "events that are no objects")
                continue
            one = self._event(event, above)
            inside = event.get("events")
            if one is not None and isinstance(inside, list):
                pending.extend((held, one.id) for held in reversed(inside))
            self.last = max(
                (at for at in (self.last, nanoseconds(event.get("timestamp"))) if at is not None), default=None
            )

    def _event(self, event: Record, above: str) -> Observation | None:
        what = text(event.get("event"))
        parent = text(event.get("span_id")) or (self.steps[-1].id if self.steps else above)
        if what == "span_begin":
            return self._begin(text(event.get("id")) or self._mark(), text(event.get("parent_id")) or above, event)
        if what == "span_end":
            self._end(self.open.get(text(event.get("id"))), event)
        elif what == "step" and event.get("action") == "begin":
            self.steps.append(self._begin(self._mark(), parent, event))
            return None
        elif what == "step":
            self._end(self.steps.pop() if self.steps else None, event)
        elif what in _TIMED:
            return self._call(what, event, parent)
        elif (what == "input" or (what == "approval" and event.get("approver") == "human")) and self.last is not None:
            self.tally.note("guessed", PERSON)
            self._add(event, parent, "human", what, "user").start = self.last
        else:
            self.tally.note("noted", MOMENTS)
        return None

    def _mark(self) -> str:
        return f"{self.trace}/{len(self.made)}"

    def _begin(self, mark: str, parent: str, event: Record) -> Observation:
        name, kind = text(event.get("name")), _SPANS.get(text(event.get("type")), "other")
        one = self._add(event, parent, kind, name, name if kind == "agent" else "")
        one.id, one.end = mark, None
        one.agent = name if kind == "agent" else ""
        self.open[mark] = one
        return one

    def _end(self, one: Observation | None, event: Record) -> None:
        if one is not None and one.end is None:
            one.end = nanoseconds(event.get("timestamp"))

    def _add(self, event: Record, parent: str, kind: Kind, name: str, component: str) -> Observation:
        at = nanoseconds(event.get("timestamp"))
        mark = text(event.get("uuid")) or self._mark()
        one = Observation(self.trace, mark, parent, kind, name, component, at, at)
        self.made.append(one)
        return one

    def _call(self, what: str, event: Record, parent: str) -> Observation:
        """Return a call of a model, a tool, a sandbox or a subtask."""
        named = {"model": "model", "tool": "function", "sandbox": "action", "subtask": "name"}[what]
        kind: Kind = {"model": "llm", "tool": "tool", "sandbox": "client", "subtask": "workflow"}[what]  # type: ignore[assignment]
        component = text(event.get(named))
        one = self._add(event, parent, kind, {"model": "chat", "tool": "execute_tool"}.get(what, what), component)
        one.end = _end_of(event, one.start)
        failed = event.get("error")
        one.error = _failure(failed)
        if what == "model":
            self._model(one, event)
        elif what == "tool":
            one.input_bytes, one.output_bytes = self._size(event.get("arguments")), self._size(event.get("result"))
            agent = text(event.get("agent"))
            if agent:  # a tool that hands over to an agent lasts as long as the agent
                one.kind, one.component, one.agent = "agent", agent, agent
        elif what == "sandbox":
            one.component = f"sandbox {component}".strip()
        return one

    def _size(self, value: Any) -> float | None:
        if isinstance(value, str) and value.startswith("attachment://"):
            value = mapping(self.sample.get("attachments")).get(value.removeprefix("attachment://"))
        return None if value is None or value == "" else float(size(value))

    def _model(self, one: Observation, event: Record) -> None:
        output = mapping(event.get("output"))
        one.component = one.component or text(output.get("model"))
        usage = mapping(output.get("usage"))
        given, output_tokens = first(usage.get("input_tokens")), first(usage.get("output_tokens"))
        cached, written = first(usage.get("input_tokens_cache_read")), first(usage.get("input_tokens_cache_write"))
        beside = (cached or 0.0) + (written or 0.0)
        total = first(usage.get("total_tokens"))
        # Some providers count cached tokens apart: the total tells.
        if given is not None and beside and (beside > given or total == given + beside + (output_tokens or 0.0)):
            given += beside
        one.input_tokens, one.cached_tokens, one.output_tokens = given, cached, output_tokens
        if not one.error and output.get("error"):
            one.error = _failure(output["error"])
        if (number(event.get("retries")) or 0) > 0:
            self.tally.note("noted", RETRIED)

    def _adopt(self) -> None:
        """Put spans of tools, and what they hold, below the tool that they are of: the log has the two side by side."""
        waiting: dict[tuple[str, str], list[Observation]] = {}
        for one in sorted(self.open.values(), key=lambda span: -(span.start or 0)):
            if one.kind == "other" and one.start is not None:
                waiting.setdefault((one.name, one.parent), []).append(one)
        tools = [one for one in self.made if one.name == "execute_tool" and one.start is not None]
        for tool in sorted(tools, key=lambda one: one.start or 0):
            spans = waiting.get((tool.component, tool.parent), [])
            while spans and (spans[-1].start or 0) < (tool.start or 0):
                spans.pop()
            if spans and (tool.end is None or (spans[-1].start or 0) <= tool.end):
                spans.pop().parent = tool.id


def _end_of(event: Record, start: int | None) -> int | None:
    """When a call ended (ns): as written, else after the time that it took; None where it was pending or nothing says."""
    written = nanoseconds(event.get("completed"))
    if written is not None or event.get("pending") or start is None:
        return written
    took = first(
        event.get("working_time"), mapping(event.get("output")).get("time"), mapping(event.get("call")).get("time")
    )
    return None if took is None or took > 1e9 else start + round(took * 1e9)


def _failure(error: Any) -> str:
    """The type of an error as the log has it: an object with a type or a message, or a message; '' for none."""
    if isinstance(error, dict):
        return error_type(error["type"]) if error.get("type") else error_in(error.get("message")) or "error"
    return error_in(error)
