"""What an exporter takes, from a run folder, a result, or measured traces; and the file that it writes.

Spans are kept of one replication; that one is exported, with all of its tasks. Queues over time are those of the folder's `result.json`:
where that is missing, only the tasks in the system are told.

Leaves out: the formats (`sim.trace.export`); tokens of a call where a task has calls of servers of both kinds, or a server of batches was on the critical path for a part of it.
Checked: tests/test_trace_export.py, tests/test_trace_roundtrip.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..sim.analysis import runfolder
from ..sim.analysis.moments import Moments, moments
from ..sim.analysis.result import ARRIVAL, CLASS, END, OVERLAPPED, STATUS, TASK, Result
from ..sim.engine.ledger import FAILED, STATUSES, STRUCTURE, Account, Ledger, Span
from ..sim.report import stored
from ..sim.report.files import writing
from ..sim.trace.export import FORMATS, SIMULATED, Count, ExportRun, ExportTask, Format, Series, Tokens, write
from ..sim.trace.tally import TraceError
from .trace_digest import replay

if TYPE_CHECKING:
    from ..sim.trace.measured import Measured

__all__ = ["export", "of_folder", "of_measured", "of_result", "tokens_of"]

_BATCH = 1 << 16  # spans of a file in memory at a time
_HEAD = ("class", "status", "arrival_s", "end_s", "overlapped_s")
_TOKENS = ("new_tokens", "carried_tokens", "cached_tokens")  # facts: tokens that went into models


def export(run: ExportRun, form: Format, path: Path, *, overwrite: bool = False) -> Count:
    """Write a run to a file, whole or not at all.

    Raises ValueError for another format, TraceError where there is nothing to write or a package is missing, and FileError where the file
    cannot be, or is there already.
    """
    if form not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, but got {form!r}")
    with writing(path, overwrite) as out:
        return write(run, form, out)


def of_folder(directory: str | os.PathLike[str]) -> ExportRun:
    """Return what a run folder holds. Raises RunFolderError or StoredError where it is none or is damaged, TraceError where it holds no spans."""
    folder = runfolder.read(directory)
    if not folder.has_spans:
        raise TraceError(
            f"{folder.path} holds no spans; run the scenario again with `--spans all` or `--spans sampled`"
        )
    tasks = _Folder(folder)
    said = folder.manifest
    identity = f"{said.get('scenario_sha256', '')}/{said.get('seed', '')}"
    return ExportRun(
        name=folder.summary.scenario,
        identity=identity,
        version=__version__,
        tasks=tasks,
        series=(*_in_system(*tasks.times()), *_queues(_stored_moments(folder.path))),
    )


def of_result(result: Result) -> ExportRun:
    """Return what one replication holds."""
    rows = result.rows
    return ExportRun(
        name=result.scenario,
        identity=f"{result.scenario}/{result.seed}",
        version=__version__,
        tasks=_Rows(result, "", None),
        series=(*_in_system(rows[:, ARRIVAL].tolist(), rows[:, END].tolist()), *_queues(moments([result], [result]))),
    )


def of_measured(measured: Measured) -> ExportRun:
    """Return what trace files held, on their own clock where they have one."""
    result = replay(measured)
    files = ", ".join(f"{one.name} {one.bytes}" for one in measured.tally.files)
    run = of_result(result)
    return replace(
        run,
        identity=f"{measured.name}/{files}",
        tasks=_Rows(result, "_OTHER", measured),
        epoch=measured.tally.zero or SIMULATED,
        series=run.series if measured.arrivals else (),  # how many there were at once is not known then
        simulated=False,
        clock=measured.arrivals,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


@dataclass(frozen=True, slots=True)
class _Rows:
    """The tasks of a result, in order of arrival."""

    result: Result
    failure: str
    measured: Measured | None

    def __iter__(self) -> Iterator[ExportTask]:
        result = self.result
        known = {one.task: one for one in self.measured.tasks} if self.measured is not None else {}
        only = next(iter(result.failures)) if len(result.failures) == 1 else self.failure
        first = len(Ledger.HEAD)
        accounts = first + len(result.facts)
        for place, row in enumerate(result.rows.tolist()):
            task, status = int(row[TASK]), int(row[STATUS])
            spans = result.spans.of(task)
            facts = {name: value for name, value in zip(result.facts, row[first:accounts], strict=True) if value}
            seen = known.get(task)
            # Of measured tasks the first has all accounts, so that none is lost that has no time.
            whole = self.measured is not None and place == 0
            yield ExportTask(
                task=task,
                replication=result.replication,
                task_class=result.classes[int(row[CLASS])],
                status=STATUSES[status],
                arrival=row[ARRIVAL],
                end=row[END],
                parts={
                    one: value for one, value in zip(result.accounts, row[accounts:], strict=True) if value or whole
                },
                spans=spans,
                failure=(seen.failure if seen is not None and seen.failure else only) if status == FAILED else "",
                overlapped=row[OVERLAPPED],
                facts=facts,
                tokens=tokens_of(spans, facts) if self.measured is None else {},
                calls=None if self.measured is None else seen.calls if seen is not None else (),
                trace="" if seen is None else seen.trace,
                session="" if seen is None else seen.session,
                problem="" if seen is None else seen.problem,
            )


class _Folder:
    """The tasks of a run folder: those with spans first, in the order of the file, then the others."""

    def __init__(self, folder: runfolder.RunFolder) -> None:
        self.folder = folder
        self.replication = next((one for one, *_ in self._spans()), 0)
        frame = folder.tasks()
        self.frame = frame[frame["replication"] == self.replication].set_index("task")
        kinds = folder.summary.failures
        self.failure = next(iter(kinds)) if len(kinds) == 1 else ""

    def times(self) -> tuple[list[float], list[float]]:
        """Return when the tasks arrived and ended (s)."""
        return self.frame["arrival_s"].tolist(), self.frame["end_s"].tolist()

    def __iter__(self) -> Iterator[ExportTask]:
        rows = _columns(self.frame)
        seen: set[int] = set()
        for replication, task, spans in self._spans():
            if replication == self.replication and task in rows.places:
                seen.add(task)
                yield self._task(task, rows, spans)
        for task in rows.places:
            if task not in seen:
                yield self._task(task, rows, ())

    def _task(self, task: int, rows: _Table, spans: tuple[Span, ...]) -> ExportTask:
        head, facts, parts = rows.of(task)
        status = str(head["status"])
        return ExportTask(
            task=task,
            replication=self.replication,
            task_class=str(head["class"]),
            status=status,
            arrival=float(head["arrival_s"]),
            end=float(head["end_s"]),
            parts=parts,
            spans=spans,
            failure=self.failure if status == STATUSES[FAILED] else "",
            overlapped=float(head["overlapped_s"]),
            facts=facts,
            tokens=tokens_of(spans, facts),
        )

    def _spans(self) -> Iterator[tuple[int, int, tuple[Span, ...]]]:
        """Yield the spans of each task, with replication and task; they stand together in the file."""
        held: list[Span] = []
        now: tuple[int, int] | None = None
        for replication, span in _read_spans(self.folder.path / runfolder.SPANS):
            if now != (replication, span.task):
                if now is not None:
                    yield *now, tuple(held)
                held, now = [], (replication, span.task)
            held.append(span)
        if now is not None:
            yield *now, tuple(held)


def _read_spans(path: Path) -> Iterator[tuple[int, Span]]:
    """Yield replication and span, row by row. Raises RunFolderError for a damaged file."""
    import pyarrow as pa
    from pyarrow import parquet

    names = ("start_s", "end_s")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                replications = columns.pop("replication")
                fields = [name.removesuffix("_s") if name in names else name for name in columns]
                for replication, *values in zip(replications, *columns.values(), strict=True):
                    yield replication, Span(**dict(zip(fields, values, strict=True)))
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise runfolder.RunFolderError(f"{path} is damaged: {error}; run the scenario again") from error


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of tasks.parquet by task, their columns told apart."""

    places: Mapping[int, int]
    head: Mapping[str, Sequence[Any]]
    facts: Mapping[str, Sequence[float]]
    parts: Mapping[Account, Sequence[float]]

    def of(self, task: int) -> tuple[dict[str, Any], dict[str, float], dict[Account, float]]:
        """Return what is known of a task: its head, its facts and its seconds by account, as far as they are not zero."""
        at = self.places[task]
        return (
            {name: values[at] for name, values in self.head.items()},
            {name: float(values[at]) for name, values in self.facts.items() if values[at]},
            {one: float(values[at]) for one, values in self.parts.items() if values[at]},
        )


def _columns(frame: Any) -> _Table:
    """Tell the columns of a table of tasks apart: facts stand between the overlapped seconds and the accounts."""
    names = list(frame.columns)
    rest = names[names.index("overlapped_s") + 1 :]
    accounts = {name: Account(*_split(name)) for name in rest if "/" in name}
    return _Table(
        places={int(task): place for place, task in enumerate(frame.index)},
        head={name: frame[name].tolist() for name in _HEAD},
        facts={name: frame[name].to_numpy() for name in rest if name not in accounts},
        parts={account: frame[name].to_numpy() for name, account in accounts.items()},
    )


def _split(name: str) -> tuple[str, str, str]:
    """Return category, component and name of a column of an account; a component may hold a slash."""
    category, _, rest = name.removesuffix("_s").partition("/")
    component, _, last = rest.rpartition("/")
    return category, component, last


# ---------------------------------------------------------------------------------------------------------------------
# Tokens


def tokens_of(spans: Sequence[Span], facts: Mapping[str, float]) -> dict[int, Tokens]:
    """Return the tokens of simulated calls. What went in is known where the calls of a task sum to what the task counted.

    A server that batches says of each phase how long the prompt was; any other how many tokens it was at work on, answers included.
    """
    inside: dict[int, list[float]] = {}
    for one in spans:
        if one.category != STRUCTURE and one.size and not one.lost:
            inside.setdefault(one.parent, []).append(one.size)
    calls = [one for one in spans if one.category == STRUCTURE and one.name == "chat" and not one.lost]
    went_in = math.fsum(facts.get(name, 0.0) for name in _TOKENS)
    # What other tasks left in a server's cache is new to the task, and cached too.
    least = went_in - facts.get("cached_tokens", 0.0)
    ways: tuple[tuple[float, Callable[[Sequence[float], float], float]], ...] = (
        (went_in, lambda sizes, output: math.fsum(sizes) - output),
        (least, lambda sizes, _: sizes[0] if len(set(sizes)) == 1 else math.nan),
    )
    for low, way in ways:
        counts = [way(inside.get(call.id, (0.0,)), call.size) for call in calls]
        if went_in and (1 - 1e-6) * low <= math.fsum(counts) <= (1 + 1e-6) * went_in:
            return {call.id: Tokens(count, None, call.size) for call, count in zip(calls, counts, strict=True)}
    return {call.id: Tokens(None, None, call.size) for call in calls if call.size}


# ---------------------------------------------------------------------------------------------------------------------
# Over time


def _in_system(arrivals: Sequence[float], ends: Sequence[float]) -> Iterator[Series]:
    """Yield how many tasks are in the system, from each arrival and each end on."""
    changes: dict[float, int] = {}
    for times, step in ((arrivals, 1), (ends, -1)):
        for time in times:
            changes[time] = changes.get(time, 0) + step
    if changes:
        times_ = sorted(changes)
        level, levels = 0, []
        for time in times_:
            level += changes[time]
            levels.append(float(level))
        yield Series("tasks in the system", "tasks", tuple(times_), tuple(levels))


def _queues(found: Moments | None) -> Iterator[Series]:
    """Yield the mean numbers that wait in each window, from its begin on."""
    if found is not None:
        times = (0.0, *found.times[:-1])
        for name, values in found.queues.items():
            yield Series(f"waiting at {name}", f"mean of {found.window:g} s", times, tuple(values))


def _stored_moments(folder: Path) -> Moments | None:
    """Return what `result.json` says of queues over time, None where it is missing. Raises StoredError where it is damaged."""
    if not (folder / stored.NAME).is_file():
        return None
    found = stored.read(folder)
    made: Moments | None = found.found.moments if found.kind == "run" else None
    return made
