"""A table of steps: one row for each call, as CSV, Parquet or JSON lines. The columns are in docs/traces.md.

Leaves out: rows that hold several calls, and tables of tasks.
Checked: tests/test_trace_steps.py.
Source: the layout of steps is that of the measured runs of https://github.com/eunomia-bpf/agentcgroup.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, BinaryIO

from ...engine.errors import listed
from ..observation import Kind, Observation
from ..tally import FileTally, Tally, TraceError
from .rows import Record, records
from .step_columns import ALIASES, COLUMNS, TASK_KEYS, known_columns
from .values import error_type, first, flag, nanoseconds, number, text

__all__ = ["observations"]

_WORDS: dict[Kind, str] = {
    "llm": "llm chat model generation inference completion assistant request",
    "embedding": "embedding embeddings embed",
    "tool": "tool function action execute_tool tool_call tool_use call command",
    "retriever": "retriever retrieval retrieve search rerank reranker memory",
    "agent": "agent subagent sub_agent invoke_agent",
    "workflow": "workflow chain graph task",
    "human": "human user person approval human_input",
    "client": "client http rpc",
    "other": "other",
}
_KINDS: dict[str, Kind] = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_TOKENS = ("input_tokens", "in_tok", "new_tokens", "output_tokens")
_NEAR = 0.85
"""How alike two names must be (0 to 1) to be taken for one with a slip in it."""

_RELATIVE = 1e8
"""Seconds: a start below this is no date but counts from a beginning (1973 is the year of 1e8)."""

_ATTEMPTS = frozenset(("attempt", "model"))
"""Where they name a task, several tasks may be attempts at one: `task` alone says at which, as a set may be all that one model tried."""

BAD_TIME = "a row has no time that can be read"
NO_TASK = "a row names no task"
IN_ORDER = "the table has no start of steps: each is taken to begin when the one before it ends"
NO_DURATION = "the table has no durations: its calls take no time"
ALL_MODELS = "a row has no `kind`: it is taken for a call of a model"
ODD_KIND = "a row is of a kind that is not known"
BESIDE = "cached tokens are more than all input: they are taken to come beside it"


@dataclass(slots=True)
class _Table:
    """What holds for all rows of one layout: which of its columns is which."""

    columns: dict[str, tuple[str, float]]
    keys: tuple[str, ...]
    own_clocks: bool
    ends: dict[str, int] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        return any(name == column for name in names for column, _ in self.columns.values())


def observations(stream: BinaryIO, file: FileTally, tally: Tally) -> Iterator[Observation]:
    """Give each row of the table as a call. A table without the columns that are needed raises TraceError."""
    tables: dict[tuple[str, ...], _Table] = {}
    for line, record in records(stream, file, tally, ("steps", "rows", "data")):
        layout = tuple(record)
        table = tables.get(layout)
        if table is None:
            table = tables[layout] = _understood(record, file, tally)
        tally.spans += 1
        row = _plain(record, table)
        found = _observation(row, line, table, file, tally)
        if found is not None:
            file.spans += 1
            yield found


def _understood(record: Record, file: FileTally, tally: Tally) -> _Table:
    """Return which columns are which; raise TraceError where one that is needed is missing."""
    columns = known_columns(record)
    for given, (column, _) in list(columns.items()):
        if column == "kind" and given.lower() != "kind" and _word(record[given]) not in _KINDS:
            del columns[given]  # a column `type` may be of anything
    there = {column for column, _ in columns.values()}
    keys = tuple(key for key in TASK_KEYS if key in there)
    if keys and "model" in there and ("set" in keys or "attempt" in keys):
        keys += ("model",)
    keys = keys or tuple(key for key in ("session",) if key in there)
    missing: list[str] = []
    if not keys:
        missing.append("task")
    if not there & {"start", "start_s", "dur_s"}:
        missing.append("start_s")
    sized = there & set(_TOKENS) or {"input_bytes", "output_bytes"} <= there
    if "kind" not in there and not sized:
        missing.append("kind")
    if missing:
        raise TraceError(_lacking(record, missing, file.name))
    if not there & {"dur_s", "end", "end_s"}:
        tally.note("noted", NO_DURATION, spans=0)
    own = "start" not in there
    file.own_clocks = file.own_clocks or own
    return _Table(columns, keys, own)


def _lacking(record: Record, missing: list[str], name: str) -> str:
    """Say which columns are needed, which there are, and which of them may have been meant."""
    words = []
    for column in missing:
        others = [column, *ALIASES[column], *(alias for alias, (meant, _) in COLUMNS.items() if meant == column)]
        unused = [given for given in record if given not in known_columns(record)]
        near = next((given for given in unused if _may_mean(given, others)), None)
        hint = f" (is it `{text(near)[:40]}`? rename it)" if near is not None else ""
        words.append(f"`{column}`{hint}")
    return (
        f"{name}: a table of steps needs the column{'s' if len(words) > 1 else ''} {', '.join(words)}; "
        f"it has {listed(text(one)[:40] for one in record)}. The columns of steps are in docs/traces.md"
    )


def _may_mean(given: str, names: list[str]) -> bool:
    """Whether a column is one of the names with a slip in it: a rename would be right. What is only alike may be of anything."""
    plain = given.strip().lower()
    return any(plain[:1] == name[:1] and SequenceMatcher(None, plain, name).ratio() >= _NEAR for name in names)


def _plain(record: Record, table: _Table) -> Record:
    """Return the values by our names of columns, times in seconds; empty cells are left out."""
    row: Record = {}
    for given, (column, factor) in table.columns.items():
        value = record.get(given)
        if value is None or value == "":
            continue
        if factor != 1.0:
            value = None if (amount := number(value)) is None else amount * factor
        row[column] = value
    return row


def _observation(row: Record, line: int, table: _Table, file: FileTally, tally: Tally) -> Observation | None:
    key = "/".join(text(row.get(part, "")) for part in table.keys)
    if not key.strip("/"):
        tally.note("dropped", NO_TASK, example=f"line {line}")
        return None
    trace = f"{file.name}:{key}" if table.own_clocks else key
    start, end = _times(row, table, trace, tally)
    if start is None:
        tally.note("dropped", BAD_TIME, example=f"line {line}")
        return None
    kind = _kind_of(row, line, tally)
    total, cached = _input_of(row, table, tally)
    ttft = first(row.get("ttft_s"))
    return Observation(
        trace=trace,
        id=text(row.get("id")) or f"{file.name}:{line}",
        parent=text(row.get("parent")),
        kind=kind,
        name=text(row.get("name")) or kind,
        component=_component(row, kind),
        start=start,
        end=end,
        process="",
        session=text(row.get("session")),
        agent=text(row.get("agent")),
        error=_error(row),
        input_tokens=total,
        cached_tokens=cached,
        output_tokens=first(row.get("output_tokens")),
        first_token=None if ttft is None else start + round(ttft * 1e9),
        input_bytes=first(row.get("input_bytes")),
        output_bytes=first(row.get("output_bytes")),
        problem=text(row.get("task")) if _ATTEMPTS & set(table.keys) else "",
    )


def _times(row: Record, table: _Table, trace: str, tally: Tally) -> tuple[int | None, int | None]:
    """Return start and end in ns; no start where there is none that can be read, no end where none was written."""
    start = _moment(row.get("start")) if table.has("start") else _seconds(row.get("start_s"))
    if start is None and not table.has("start", "start_s"):
        start = table.ends.get(trace, 0)
        tally.note("guessed", IN_ORDER)
    if start is None:
        return None, None
    end: int | None = None
    if "dur_s" in row:
        lasted = _seconds(row["dur_s"])
        if lasted is None:
            return None, None
        end = start + lasted
    elif "end" in row or "end_s" in row:
        end = _moment(row["end"]) if "end" in row else _seconds(row["end_s"])
        if end is None:
            return None, None
    elif not table.has("dur_s", "end", "end_s"):
        end = start
    if not table.has("start", "start_s"):
        table.ends[trace] = end if end is not None else start
    return start, end


def _seconds(value: Any) -> int | None:
    amount = number(value)
    return None if amount is None or abs(amount) > 1e10 else round(amount * 1e9)


def _moment(value: Any) -> int | None:
    """Return ns: a date, or seconds since the beginning of the file."""
    amount = number(value)
    return _seconds(amount) if amount is not None and abs(amount) < _RELATIVE else nanoseconds(value)


def _kind_of(row: Record, line: int, tally: Tally) -> Kind:
    if "kind" not in row:
        tally.note("guessed", ALL_MODELS, example=f"line {line}")
        return "llm"
    found = _KINDS.get(_word(row["kind"]))
    if found is None:
        tally.note("guessed", ODD_KIND, example=f"line {line}")
        return "other"
    return found


def _word(value: Any) -> str:
    return text(value).lower().replace("-", "_").replace(" ", "_")


def _component(row: Record, kind: Kind) -> str:
    name = text(row.get("name"))
    if kind in ("llm", "embedding"):
        return text(row.get("model")) or name
    if kind == "agent":
        return name or text(row.get("agent"))
    category = text(row.get("category"))
    return f"{name} {category}".strip() if category and kind in ("tool", "retriever") else name


def _error(row: Record) -> str:
    named = error_type(row.get("error"))
    if "is_error" in row and not flag(row["is_error"]):
        return ""
    return named or ("error" if "is_error" in row else "")


def _input_of(row: Record, table: _Table, tally: Tally) -> tuple[float | None, float | None]:
    """Return all input tokens, and those of them that were found in a cache."""
    cached, written = first(row.get("cached_tokens")), first(row.get("cache_write"))
    given = first(row.get("input_tokens"))
    if given is not None:
        if cached is not None and cached > given:
            tally.note("guessed", BESIDE)
            given += cached + (written or 0.0)
        return given, cached
    fresh = first(row.get("new_tokens"))
    if fresh is not None:
        return fresh + (cached or 0.0), cached
    rest = first(row.get("in_tok"))
    if rest is None:
        return None, cached
    if table.has("cached_tokens", "cache_write"):
        return rest + (cached or 0.0) + (written or 0.0), cached
    hit = first(row.get("prefix_hit_x64"))
    return rest, None if hit is None else min(rest, 64.0 * hit)
