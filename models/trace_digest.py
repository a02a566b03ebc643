"""From a measured trace to what is told of it: the same analysis as a run's, then calls, gaps, errors and what was read; and its source.

Leaves out: what the analysis does (`sim.analysis`), and words.
Checked: tests/test_trace_digest.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..sim.analysis.cohorts import cohorts
from ..sim.analysis.digest import RunDigest
from ..sim.analysis.estimator import LEAST_TASKS, Estimator
from ..sim.analysis.moments import moments
from ..sim.analysis.result import Result
from ..sim.analysis.summarize import summarize
from ..sim.analysis.task_steps import examples, step_map
from ..sim.analysis.trace_calls import by_component, context_of, gaps_of, harm_of, overlap_of, parallel_of
from ..sim.analysis.trace_digest import FileRead, Read, Remark, Sum, TraceDigest
from ..sim.analysis.trace_tasks import ended_of, slowest_of
from ..sim.engine.ledger import UNEXPLAINED, Account
from ..sim.report.numbers import counted, plain
from ..sim.report.page.provenance import Input, Provenance
from ..sim.trace.measured import Measured
from ..sim.trace.tally import SEVERAL_ROOTS, Note, Tally
from .provenance import versions

__all__ = ["digest_of", "replay", "result_of", "source_of"]

CONFIDENCE = 0.95
OF_OBJECTIVES = ("attainment", "goodput")  # which a trace does not have
OVER_TIME = ("arrival_rate", "throughput", "number_in_system")
MUCH = 0.1  # of T_total, or of the spans: what is said to be much
_FATES = ("dropped", "repaired", "guessed", "noted")


def replay(measured: Measured) -> Result:
    """Return the tasks of a trace as a result of the analysis, with the accounts that the trace has."""
    return Result.of(
        measured.ledger,
        scenario=measured.name,
        seed=0,
        replication=0,
        classes=measured.classes,
        horizon=False,
        doubts=(),
        resources=(),
    )


def result_of(measured: Measured) -> Result:
    """Return the tasks of a trace as a result of the analysis; it has an account for what no span explains, be it empty."""
    found = replay(measured)
    if UNEXPLAINED in found.known:
        return found
    none = Account(UNEXPLAINED, "", "between spans")
    return replace(
        found,
        rows=np.column_stack([found.rows, np.zeros(len(found.rows))]),
        columns=(*found.columns, f"{none.category}/{none.component}/{none.name}"),
        accounts=(*found.accounts, none),
    )


def digest_of(measured: Measured, result: Result | None = None) -> TraceDigest:
    """Return what is told of a trace: tasks are taken as independent of each other, and intervals are over them.

    `result` is that of `result_of`, where it is there already.
    """
    result, by = result or result_of(measured), Estimator(CONFIDENCE, independent=True)
    few = tuple(sorted(result.response_times.tolist())) if len(result.response_times) < LEAST_TASKS else ()
    summary = summarize([result], confidence=CONFIDENCE, warmup=None, independent=True)
    left_out = OF_OBJECTIVES if measured.arrivals else (*OF_OBJECTIVES, *OVER_TIME)
    summary = replace(summary, metrics={name: one for name, one in summary.metrics.items() if name not in left_out})
    groups = cohorts([result], CONFIDENCE, independent=True)
    if few:  # each percentile would be one of the same tasks
        summary, groups = replace(summary, times=None), replace(groups, groups=groups.groups[:1], growth={})
    run = RunDigest(
        summary,
        groups,
        step_map([result]),
        examples(result),
        moments([result], [result]),
    )
    sums, by_session = measured.sums, measured.by == "session"
    found = TraceDigest(
        name=measured.name,
        run=run,
        stride=measured.stride,
        arrivals=measured.arrivals,
        calls=by_component(measured.tasks, by),
        gaps=gaps_of(measured.tasks, result.spans.of, by, summary.tasks.done),
        harm=harm_of(measured.tasks, by),
        parallel=parallel_of(measured.tasks, by),
        context=context_of(measured.tasks, by),
        read=_read(measured.tally),
        wall=sums.wall,
        sums=tuple(
            Sum(kind, sums.calls[kind], sums.union.get(kind, 0.0), sums.work.get(kind, 0.0))
            for kind in sorted(sums.calls, key=lambda one: (-sums.work.get(one, 0.0), one))
        ),
        few=few,
        overlap=overlap_of(measured.tasks),
        doubts=(),
        ended=ended_of(result),
        slowest=slowest_of(result, {one.task: (by_session and one.session) or one.trace for one in measured.tasks}),
        by=measured.by,
    )
    models = [one for each in measured.tasks for one in each.calls if one.kind == "llm"]
    lengthless = sum(one.end <= one.start for one in models) / max(len(models), 1)
    return replace(found, doubts=tuple(_doubts(found, lengthless)))


def _read(tally: Tally) -> Read:
    notes = sorted(tally.notes.values(), key=lambda one: (_FATES.index(one.fate), -one.spans, one.what))
    return Read(
        tuple(FileRead(one.name, one.format, one.bytes, one.spans, one.remark) for one in tally.files),
        tuple(_remark(one, tally.kept) for one in notes),
        tally.spans,
        tally.kept,
        tally.dropped,
        tally.clock,
    )


def _remark(one: Note, kept: int) -> Remark:
    """Return what a note says; that most spans are roots is minor: in a table of steps nothing encloses them."""
    minor = one.what == SEVERAL_ROOTS and 2 * one.spans > kept
    return Remark(one.fate, one.what, one.spans, one.most if math.isfinite(one.most) else 0.0, one.example, minor)


# ---------------------------------------------------------------------------------------------------------------------
# Doubts


def _doubts(found: TraceDigest, lengthless: float) -> Iterator[str]:
    """Yield what is doubtful of it, in sentences; `lengthless` is the share of calls of models that end as they begin."""
    yield from _of_tasks(found)
    if found.overlapping:
        yield (
            f"tools are under way in {plain(found.overlap, 'share')} of the time of their own agent's model calls: some spans were probably ended late, "
            "so do not trust the split between inference and tool, nor T_coordination"
        )
    if lengthless > MUCH:
        yield f"{plain(lengthless, 'share')} of model calls have no length in the files, so T_total and the share of inference are too low"
    share = found.run.summary.categories[UNEXPLAINED].share.value
    if share > MUCH:
        yield f"no span explains {plain(share, 'share')} of T_total: its category is not known, and may be coordination; see where it lies"
    if found.read.dropped > MUCH * found.read.spans:
        yield f"{found.read.dropped:,} of {found.read.spans:,} spans were dropped: see why"
    if found.stride > 1:
        yield f"calls are told of one task in {found.stride}, since the trace is long; times by category are of all"
    if 0 < found.gaps.tasks < found.gaps.among:
        yield f"gaps are told of {found.gaps.tasks:,} of {found.gaps.among:,} tasks, whose spans were kept"


def _of_tasks(found: TraceDigest) -> Iterator[str]:
    """Yield which tasks are too few, or missing."""
    tasks = found.run.summary.tasks
    if not tasks.done:
        yield f"no task of {tasks.arrived:,} was done: what they took is told until they failed, or so far, and no T_total"
    elif found.few:
        these = "one task tells" if tasks.done == 1 else f"{tasks.done} tasks tell"
        yield f"{these} little of others: intervals need {LEAST_TASKS} tasks, p95 needs 20 and p99 needs 100; give more files"
    elif tasks.done < 100:
        yield (
            f"fewer than 100 tasks cannot show one in a hundred{', and fewer than 20 no p95' if tasks.done < 20 else ''}: "
            f"p99 of T_total rests on {counted(tasks.done, 'task')}"
        )
    if tasks.unfinished:
        yield (
            f"{counted(tasks.unfinished, 'task')} had not ended when the files do: T_total is of those done, and long tasks are "
            "the likeliest to be missing, so it is too low"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Where it came from


def source_of(measured: Measured, command: str) -> Provenance:
    """Return where a trace comes from, for its report; `command` asked for it. It has no scenario, no seed and no hash."""
    tasks, files = measured.tally.tasks or measured.ledger.arrived, measured.tally.files
    inputs = tuple(
        Input(
            one.name,
            "measured",
            "; ".join(filter(None, (one.format, counted(one.spans, "span"), plain(float(one.bytes), "B"), one.remark))),
        )
        for one in files
    )
    return Provenance(
        scenario=measured.name,
        question=f"Where did the time of {counted(tasks, 'measured task')} go?",
        sha256="",
        seed="",
        command=command,
        versions=versions(),
        inputs=inputs,
        data=tuple(dict.fromkeys(one.name for one in files)),
    )
