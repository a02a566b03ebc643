"""Tasks as Chrome's JSON: a process for each task, a thread for each of its tracks, arrows, and counters.

Leaves out: tasks of which no spans were kept, which have a part in the counters only.
Checked: tests/test_trace_export.py; tests/test_browser_perfetto.py, in a viewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ...engine.chrome_trace import Event, counter_events, flow_events, micros, process_events, text
from ...engine.ledger import Span
from . import Count, ExportRun, ExportTask
from .calls import joined, wholes_of
from .tracks import FIRST_THREAD, flows_between, tracks_of

__all__ = ["title", "write"]


def write(run: ExportRun, out: BinaryIO) -> Count:
    """Write the tasks that have spans, and the counters."""
    writer = _Writer(run)
    out.writelines(piece.encode(errors="replace") for piece in text(writer.events()))
    out.write(b"\n")
    return Count(writer.tasks, writer.spans)


def title(task: ExportTask) -> str:
    """Return what a task is called."""
    what = task.task_class if task.status == "done" else f"{task.task_class}, {task.status}"
    return f"task {task.task} ({what})"


class _Writer:
    """Numbers of processes, threads and arrows as they are given away."""

    def __init__(self, run: ExportRun) -> None:
        self.run = run
        self.tasks = self.spans = self.flows = 0
        self.thread = FIRST_THREAD

    def events(self) -> Iterator[Event]:
        """Yield everything; process 1 holds the counters."""
        for series in self.run.series:
            yield from counter_events(
                1, f"{series.name} ({series.unit})", zip(series.times, series.values, strict=True)
            )
        if self.run.series:
            yield {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "ts": 0, "args": {"name": self.run.name}}
        for task in self.run.tasks:
            if task.spans:
                yield from self._task(task)

    def _task(self, task: ExportTask) -> Iterator[Event]:
        spans, owners = joined(task.spans, wholes_of(task))
        tracks = tracks_of(spans)
        self.tasks += 1
        self.spans += len(spans)
        pid = 1 + self.tasks
        placed = [(span, place) for place, track in enumerate(tracks) for span in track.spans]
        yield from process_events(pid, title(task), [one.name for one in tracks], placed, 0.0, self.thread)
        threads = {span.id: self.thread + place for span, place in placed}
        for flow in flows_between(task.spans, owners):
            self.flows += 1
            ends = _inside(flow.source), _inside(flow.target)
            if ends[0] < ends[1]:
                source, target = threads[flow.source.id], threads[flow.target.id]
                yield from flow_events(self.flows, flow.kind, ((pid, source, ends[0]), (pid, target, ends[1])))
        self.thread += len(tracks)


def _inside(span: Span) -> float:
    """Return a time in a span (us): at its edges an arrow would be at its neighbour."""
    return micros((span.start + span.end) / 2)
