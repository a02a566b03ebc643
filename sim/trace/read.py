"""Trace files, read into the measured ledger: spans to disk, then task by task to accounts, in bounded memory.

A task is a trace, or with `by="session"` all traces of a session. What is kept per task is a row, its calls and its spans; of very many
tasks, the spans and the calls of every second, fourth ... only, and rows as the ledger does.

Leaves out: what the formats are (`detect`, `formats`), and statistics (`analysis`).
Checked: tests/test_trace_read.py, tests/test_trace_tally.py.
"""

from __future__ import annotations

import importlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from ..engine.intake import take_in
from ..engine.ledger import DONE, FAILED, STRUCTURE, Account, Ledger, Task
from ..engine.simulation import Simulation
from . import stamped
from .book import FACTS, book
from .calls import Stubs, add, add_sums, in_seconds
from .clock import Clock
from .detect import FORMATS, open_trace
from .measured import Booked, Call, Measured, Sums, TaskTrace
from .names import OTHERS, Namer, normalised
from .observation import SECOND, Observation, nanos
from .repair import ABSURD, repair
from .spool import Spool
from .tally import FileTally, Tally, TraceError

__all__ = ["read"]

CALLS_KEPT: Final = 500_000
SPANS_KEPT: Final = 200_000
CLASSES: Final = 50
"""Calls and spans kept at most, and task classes: what comes later is of class `others`. Of a task of more spans than that, none are kept."""


def read(
    paths: Sequence[Path],
    *,
    hash_names: bool = False,
    by: Literal["trace", "session"] = "trace",
    name: str | None = None,
) -> Measured:
    """Return what the files say, which may be of several formats; a directory stands for all files in it.

    `hash_names` puts short hashes in place of all names. `name` is that of the measurement; otherwise that of the file, of the directory that
    was named alone, or the number of files. Raises TraceError where a file cannot be read, or where there are no spans.
    """
    tally = Tally()
    namer = Namer(tally, hash_names)
    files = _files(paths)
    with Spool() as spool:
        for path, named in files:
            _take_file(path, spool, tally, namer, sessions=by == "session", named=named)
        if not any(one.format for one in tally.files):
            why = "; ".join(f"{one.name}: {one.remark}" for one in tally.files[:3])
            raise TraceError(
                f"{files[0][0].parent.name}: none of the files in this directory is known as a trace ({why})"
            )
        spool.sort(sessions=by == "session")
        own_clocks = any(one.own_clocks for one in tally.files)
        shelf = _Shelf(tally, namer)
        clock = Clock(spool, own_clocks=own_clocks)
        for group, before in clock.groups:
            shelf.take(spool.of(group), clock, before, by_session=by == "session")
    if not shelf.tasks:
        said = (*(one.what for one in tally.notes.values()), *(one.remark for one in tally.files))
        seen = "; ".join(dict.fromkeys(one for one in said if one)) or "no spans in it"
        names = [one.name for one in tally.files if one.format]
        raise TraceError(f"{', '.join(names[:3])}: there is nothing to measure ({seen}); is it the right file?")
    tally.tasks = shelf.tasks
    if clock.common and clock.zero > ABSURD:
        tally.zero = shelf.epoch or clock.zero
        began = clock.zero if clock.began is None else clock.began
        tally.clock = datetime.fromtimestamp(began // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return replace(shelf.measured(name or _named(paths, tally), clock.common), by=by)


def _named(paths: Sequence[Path], tally: Tally) -> str:
    """Return what a measurement is called: as its file or its directory is, or how many files there were."""
    names = [one.name for one in tally.files if one.format]
    if len(names) == 1:
        return names[0].split(".")[0]
    folder = Path(paths[0]).name if len(paths) == 1 else ""
    return folder or f"{len(names)} files"


def _files(paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    """Return the files, and whether each was named itself; those of a directory in order of their names."""
    found: list[tuple[Path, bool]] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
            if not inside:
                raise TraceError(f"{path.name}: there are no files in this directory")
            found += [(one, False) for one in inside]
        elif not path.exists():
            raise TraceError(f"{path.name}: there is no such file")
        else:
            found.append((path, True))
    if not found:
        raise TraceError("no files were given: name at least one trace file")
    return found


def _take_file(path: Path, spool: Spool, tally: Tally, namer: Namer, *, sessions: bool, named: bool) -> None:
    """Read one file to disk. One that was not named itself may be something else."""
    try:
        stream, file = open_trace(path)
    except TraceError as error:
        if named:
            raise
        why = str(error).removeprefix(f"{path.name}: ").partition("; read are")[0]
        tally.files.append(FileTally(path.name, "", path.stat().st_size, remark=f"left out: {why}"))
        return
    tally.files.append(file)
    with stream:
        module = importlib.import_module(f".formats.{FORMATS[file.format]}", __package__)
        for span in module.observations(stream, file, tally):
            namer.rename(span)
            if span.stamp is not None and stamped.has_no_clock(span):
                file.own_clocks = True
            if not span.trace:
                tally.note("guessed", "spans that name no trace: those of a file are one task")
                span.trace = f"file {file.name}"
            spool.put(span)
            if sessions and span.session:
                spool.name_session(span.trace, span.session)


def _amounts() -> array[float]:
    return array("d")


def _numbers() -> array[int]:
    return array("i")


@dataclass(slots=True)
class _Kept:
    """A task whose spans and calls are kept, until all accounts are known."""

    index: int
    booked: Booked
    trace: str
    session: str
    problem: str
    stamp: bool  # what is known of it is as it was exported


@dataclass(slots=True)
class _Shelf:
    """Tasks as they come: a few numbers of each, in arrays; calls and spans of as many as are wanted."""

    tally: Tally
    namer: Namer
    tasks: int = 0
    sums: Sums = field(default_factory=Sums)
    stubs: Stubs = field(default_factory=Stubs)
    accounts: dict[Account, int] = field(default_factory=dict)
    groups: dict[Account, None] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=lambda: {name: place for place, name in enumerate(FACTS)})
    names: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=lambda: {"": 0})
    arrivals: array[float] = field(default_factory=_amounts)
    ends: array[float] = field(default_factory=_amounts)
    overlapped: array[float] = field(default_factory=_amounts)
    statuses: array[int] = field(default_factory=_numbers)
    roots: array[int] = field(default_factory=_numbers)  # names of roots, and of the models called most
    models: array[int] = field(default_factory=_numbers)
    failed: array[int] = field(default_factory=_numbers)
    held: array[int] = field(default_factory=_numbers)  # how many accounts, and facts, each task has in the two below
    counted: array[int] = field(default_factory=_numbers)
    owners: array[int] = field(default_factory=_numbers)  # task by task, its accounts and then its facts
    amounts: array[float] = field(default_factory=_amounts)
    kept: list[_Kept] = field(default_factory=list)
    stride: int = 1
    epoch: int = 0  # when the clock of what was exported began (ns since 1970)
    sparse: int = 1  # spans are kept of every so many tasks
    calls: int = 0
    spans: int = 0

    def take(self, spans: list[Observation], clock: Clock, before: int | None, *, by_session: bool) -> None:
        """Take one task in, which seems to begin at `before` (ns)."""
        if not spans:
            return
        named = spans[0].trace, next((one.session for one in spans if one.session), "")
        problem = next((one.problem for one in spans if one.problem), "")
        booked = stamped.booked(spans) if all(stamped.is_stamped(one) for one in spans) else None
        stamp = booked is not None
        if booked is not None:
            self._sum_stamped(booked)
            clock.passed(nanos(booked.end) - nanos(booked.arrival))
            self.epoch = self.epoch or stamped.epoch_of(spans)
            known = stamped.origin(spans)
            named, problem = (known[0] or named[0], known[1] or named[1]), known[2] or problem
        else:
            if any(map(stamped.is_stamped, spans)):
                what = "spans of an export that is not whole: read as those of any trace"
                self.tally.note("guessed", what, spans=len(spans))
                for one in filter(stamped.is_stamped, spans):
                    one.stamp = None
                    self.namer.rename(one)
            tree = repair(spans, self.tally)
            if not tree.spans:
                return
            start, end = min(tree.start), max(tree.end)
            clock.repaired(start, before)
            base = clock.base(start, len(tree.spans), self.tally)
            kept = self._keeps_spans(len(tree.spans))
            booked, roles = book(tree, self.tally, base=base, by_session=by_session, spans=kept)
            clock.passed(end - start)
            add_sums(self.sums, tree, roles)
            self.sums.wall += end - start
        self._write(booked, stamp=stamp)
        self._keep(_Kept(self.tasks, booked, *named, problem, stamp))
        self.tasks += 1

    def _sum_stamped(self, booked: Booked) -> None:
        self.sums.wall += nanos(booked.end) - nanos(booked.arrival)
        kinds: dict[str, list[tuple[int, int]]] = {}
        for one in booked.calls:
            kinds.setdefault(one.kind, []).append((nanos(one.start), nanos(one.end)))
        for kind, stretches in kinds.items():
            add(self.sums, kind, stretches)

    def _keeps_spans(self, spans: int) -> bool:
        """Whether the spans of the next task, which are so many, are kept."""
        if spans > SPANS_KEPT:
            what = f"spans of tasks that have more than {SPANS_KEPT:,}: counted, but not kept one by one"
            self.tally.note("noted", what, spans=spans)
            return False
        return not self.tasks % self.stride and not self.tasks % self.sparse

    def _write(self, booked: Booked, *, stamp: bool) -> None:
        """Keep the row of a task: its accounts get their numbers as they come."""
        self.arrivals.append(booked.arrival)
        self.ends.append(booked.end)
        self.overlapped.append(booked.overlapped)
        self.statuses.append(booked.status)
        if stamp:
            for account in (*booked.parts, *_accounts_of(booked)):
                self.namer.admit(account)
        models = Counter(one.component for one in booked.calls if one.kind == "llm")
        model = min(models, key=lambda one: (-models[one], one)) if models else ""
        parts: dict[int, float] = {}
        for account, seconds in booked.parts.items():
            number = self.accounts.setdefault(self.namer.limited(account), len(self.accounts))
            parts[number] = parts.get(number, 0.0) + seconds
        # What an export says of its class is not guessed from what it called.
        self.roots.append(self._class(booked.task_class))
        self.models.append(self._class(booked.task_class if stamp else model))
        self.failed.append(self._failure(booked.failure, stamp))
        self.held.append(len(parts))
        self.counted.append(len(booked.facts))
        self.owners.extend(parts)
        self.owners.extend(self.facts.setdefault(fact, len(self.facts)) for fact in booked.facts)
        self.amounts.extend(parts.values())
        self.amounts.extend(booked.facts.values())
        for call in () if stamp else booked.calls:
            self.stubs.see(call)

    def _class(self, name: str) -> int:
        if name not in self.names and len(self.names) >= 2 * CLASSES:
            self.tally.note("guessed", "task classes beyond the first are one, `others`")
            name = OTHERS
        return self.names.setdefault(name, len(self.names))

    def _failure(self, name: str, stamp: bool) -> int:
        name = name if stamp else normalised(name)
        if not stamp and name not in self.failures and len(self.failures) >= CLASSES:
            name = OTHERS
        return self.failures.setdefault(name, len(self.failures))

    def _keep(self, one: _Kept) -> None:
        """Keep calls and spans, of fewer tasks where there are too many."""
        if one.index % self.stride:
            return
        for account in _accounts_of(one.booked):
            found = self.namer.limited(account)
            if found.category == STRUCTURE:
                self.groups.setdefault(found)
            else:
                self.accounts.setdefault(found, len(self.accounts))
        if one.index % self.sparse:
            _without_spans(one.booked)
        self.kept.append(one)
        self.calls += len(one.booked.calls)
        self.spans += len(one.booked.entries)
        while self.spans > SPANS_KEPT and len(self.kept) > 1 and self.sparse <= self.tasks:
            self.sparse *= 2
            for kept in self.kept:
                if kept.index % self.sparse:
                    _without_spans(kept.booked)
            self.spans = sum(len(kept.booked.entries) for kept in self.kept)
        while self.calls > CALLS_KEPT and len(self.kept) > 1:
            self.stride *= 2
            self.kept = [kept for kept in self.kept if not kept.index % self.stride]
            self.calls = sum(len(kept.booked.calls) for kept in self.kept)
            self.spans = sum(len(kept.booked.entries) for kept in self.kept)

    # -- once all are known

    def measured(self, name: str, common: bool) -> Measured:
        """Return all of it as a ledger."""
        chosen: dict[str, int] = {}
        groups = [_number_of(name, chosen) for name in self._classes()]
        ledger = Ledger(
            Simulation(), tuple(self.facts), spans="sampled" if self.sparse > 1 else "all", sample=self.sparse
        )
        for account in (*self.accounts, *self.groups):
            ledger.account(account.category, account.component, account.name)
        take_in(ledger, self._finished(ledger, groups))
        self._say()
        models = self.stubs.models()
        labels = tuple(chosen)
        tasks = []
        for kept in self.kept:
            calls = kept.booked.calls
            if not kept.stamp:
                calls = self.stubs.mark(calls, models)
                self._count_stubs(calls)
            tasks.append(_trace_of(kept, calls, labels[groups[kept.index]]))
        return Measured(name, ledger, labels, tuple(tasks), self.stride, common, in_seconds(self.sums), self.tally)

    def _classes(self) -> Iterator[str]:
        """Yield each task's class: what its root is named, or where all roots have one name, the model called most."""
        names = list(self.names)
        known = {names[one] for one in self.roots} - {""}
        for root, model in zip(self.roots, self.models, strict=True):
            both = (names[root], names[model]) if len(known) > 1 else (names[model], *known)
            yield next(filter(None, both), "task")

    def _count_stubs(self, calls: tuple[Call, ...]) -> None:
        count = sum(one.stub for one in calls)
        if count:
            self.tally.note("guessed", "counts of output tokens that cannot be true: not used for laws", spans=count)

    def _say(self) -> None:
        """Tell of what is kept of a part of the tasks only, and of names that are too many."""
        if self.namer.beyond:
            self.tally.note("guessed", self.namer.remark(), spans=0)
        if self.stride > 1:
            self.tally.note("noted", f"calls are kept of one task in {self.stride}, since there are too many", spans=0)
        if self.sparse > 1:
            self.tally.note("noted", f"spans are kept of one task in {self.sparse}, since there are too many", spans=0)

    def _finished(self, ledger: Ledger, groups: list[int]) -> Iterator[tuple[Task, float, list[float]]]:
        """Yield the tasks in order of arrival."""
        failures = list(self.failures)
        entered = {kept.index: kept.booked for kept in self.kept if kept.booked.entries}
        at = 0
        for index in range(self.tasks):
            task = Task(ledger, index, groups[index], self.arrivals[index])
            task.status = self.statuses[index]
            task.failure = (failures[self.failed[index]] or "error") if task.status == FAILED else None
            task.overlapped = [self.overlapped[index]]
            parts = [0.0] * len(ledger.accounts)
            facts = at + self.held[index]
            for place in range(at, facts):
                parts[self.owners[place]] = self.amounts[place]
            at = facts + self.counted[index]
            for place in range(facts, at):
                task.facts[self.owners[place]] = self.amounts[place]
            task.spans = None
            if index in entered:
                self._enter(ledger, task, entered[index])
            yield task, self.ends[index], parts

    def _enter(self, ledger: Ledger, task: Task, booked: Booked) -> None:
        """Give a task its spans, in the ledger's numbers."""
        numbers: dict[Account, int] = {}
        for account in _accounts_of(booked):
            found = self.namer.limited(account)
            numbers[account] = ledger.account(found.category, found.component, found.name)
        task.spans = []
        for lane, parent, account, start, end, size, own in booked.entries:
            task.spans += (lane, parent, numbers[account], start, end, size, own)
        booked.entries = []
        task.edges, task.errors = booked.edges, booked.errors
        task.lost = [(lane, first, last, numbers[account]) for lane, first, last, account in booked.lost]


def _number_of(name: str, chosen: dict[str, int]) -> int:
    """Return the number of a task class; those beyond the first are one."""
    if name not in chosen and len(chosen) >= CLASSES:
        name = OTHERS
    return chosen.setdefault(name, len(chosen))


def _accounts_of(booked: Booked) -> list[Account]:
    """Return each account of the spans of a task once, in their order."""
    return list(dict.fromkeys([one[2] for one in booked.entries] + [one[3] for one in booked.lost]))


def _without_spans(booked: Booked) -> None:
    booked.entries, booked.edges, booked.lost = [], [], []


def _trace_of(kept: _Kept, calls: tuple[Call, ...], task_class: str) -> TaskTrace:
    one = kept.booked
    failure = (one.failure or "error") if one.status == FAILED else ""
    finished = one.status in (DONE, FAILED)
    return TaskTrace(
        kept.index, kept.trace, kept.session, task_class, one.arrival, one.end, failure, finished, calls, kept.problem
    )
