"""A ledger in the formats that other tools open: OTLP, Perfetto, Chrome, CSV. Each writes task by task, in bounded memory.

    otlp        OTLP/JSON, one document          otlp-proto   the same as protobuf
    perfetto    Perfetto's own protobuf          chrome       Chrome's JSON, which Perfetto opens too
    csv         a row a span

Leaves out: where tasks come from (`models.trace_export`).
Checked: tests/test_trace_export.py, tests/test_trace_roundtrip.py, tests/test_browser_perfetto.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import BinaryIO, Literal, get_args

from ...engine.ledger import Account, Span
from ..measured import Call
from ..tally import TraceError

__all__ = ["FORMATS", "SIMULATED", "Count", "ExportRun", "ExportTask", "Format", "Series", "Tokens", "write"]

Format = Literal["otlp", "otlp-proto", "perfetto", "chrome", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
SIMULATED = 1_577_836_800_000_000_000  # 2020-01-01T00:00:00Z (ns): what a simulated clock counts from

_WRITERS: Mapping[Format, tuple[str, str]] = {
    "otlp": ("otlp", "write_json"), "otlp-proto": ("otlp", "write_proto"), "perfetto": ("perfetto", "write"),
    "chrome": ("chrome", "write"), "csv": ("tables", "write"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a call of a model: `new` and `cached` ones went in, `output` ones came out. None is not known."""

    input: float | None = None
    cached: float | None = None
    output: float | None = None


@dataclass(frozen=True, slots=True)
class ExportTask:
    """A task: seconds by account on its critical path, facts, and its spans, none if they were not kept. Times are seconds on the clock of the run.

    `tokens` are of spans by id, where `calls` are None: those of a simulated task follow from its spans. `failure` is the type of error of a
    task that failed, '' where it is not known. `trace`, `session` and `problem` are what the files of a measured task call it.
    """

    task: int
    replication: int
    task_class: str
    status: str
    arrival: float
    end: float
    parts: Mapping[Account, float]
    spans: tuple[Span, ...]
    failure: str = ""
    overlapped: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[int, Tokens] = field(default_factory=dict)
    calls: tuple[Call, ...] | None = None
    trace: str = ""
    session: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity over time: `values[i]` from `times[i]` (s) on. `unit` is in words."""

    name: str
    unit: str
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ExportRun:
    """What is exported. `identity` tells this run from any other, and gives trace ids; `epoch` is zero of its clock (ns since 1970).

    Where `clock` is not set, the tasks have none in common: they stand one after the other, and when they arrived is not known.
    """

    name: str
    identity: str
    version: str
    tasks: Iterable[ExportTask]
    series: tuple[Series, ...] = ()
    epoch: int = SIMULATED
    simulated: bool = True
    clock: bool = True


@dataclass(frozen=True, slots=True)
class Count:
    """How much was written."""

    tasks: int
    spans: int


def write(run: ExportRun, form: Format, out: BinaryIO) -> Count:
    """Write a run to `out` in a format. Raises TraceError where a package is missing, or there is nothing to write."""
    module, name = _WRITERS[form]
    count: Count = getattr(import_module(f".{module}", __name__), name)(run, out)
    if not count.tasks:
        remedy = "keep spans with `--spans all`" if run.simulated else "otlp and csv have its calls"
        raise TraceError(f"{run.name} holds no task that could be written as {form}; {remedy}")
    return count
