"""Tasks in Perfetto's own format: a process for each task, a thread for each of its tracks, arrows, and counters over time.

A slice's category is that of the ledger; its arguments are component, size, and whether it is critical, lost, or was answered by an
error. Times count from zero of the run's clock. Names are sent once, and packets one by one, so that a trace may be larger than memory.

Leaves out: tasks of which no spans were kept, which have a part in the counters only.
Checked: tests/test_trace_export.py; tests/test_browser_perfetto.py, in a viewer.
Source: Perfetto's protos/perfetto/trace (trace_packet.proto, track_event/*.proto), and "Track events", https://perfetto.dev/docs/instrumentation/track-events.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from ...engine.ledger import Span
from ..observation import nanos
from ..tally import TraceError
from . import Count, ExportRun, ExportTask, Series
from .calls import joined, wholes_of
from .chrome import title
from .tracks import FIRST_THREAD, Flow, flows_between, tracks_of

__all__ = ["write"]

_SEQUENCE = 1
_CLEARED, _NEEDS = 1, 2  # TracePacket.SequenceFlags: names begin anew, names are needed


def write(run: ExportRun, out: BinaryIO) -> Count:
    """Write the tasks that have spans, and the counters. Raises TraceError without the package perfetto."""
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
    except ImportError as error:
        raise TraceError("perfetto needs the package perfetto; try `pip install 'coordsim[trace]'`") from error
    writer = _Writer(protos, out)
    for series in run.series:
        writer.counter(series)
    for task in run.tasks:
        if task.spans:
            writer.task(task)
    return Count(writer.tasks, writer.spans)


class _Writer:
    """A stream of packets of one sequence."""

    def __init__(self, protos: Any, out: BinaryIO) -> None:
        self.protos = protos
        self.event = protos.TrackEvent
        self.out = out
        self.tasks = self.spans = self.flows = self.threads = self.tracks = 0
        self.names: dict[tuple[str, str], int] = {}
        self.begun = False

    def counter(self, series: Series) -> None:
        """Write a quantity over time, as a track of its own."""
        packet = self._packet()
        self.tracks += 1
        own, track = self.tracks, packet.track_descriptor
        track.uuid, track.name, track.counter.unit_name = own, series.name, series.unit
        self._send(packet)
        for seconds, value in zip(series.times, series.values, strict=True):
            packet = self._packet(seconds)
            event = packet.track_event
            event.type, event.track_uuid, event.double_counter_value = self.event.TYPE_COUNTER, own, value
            self._send(packet)

    def task(self, task: ExportTask) -> None:
        """Write a task as a process."""
        spans, owners = joined(task.spans, wholes_of(task))
        self.tasks += 1
        self.spans += len(spans)
        pid = self.tasks
        packet = self._packet()
        self.tracks += 1
        parent = packet.track_descriptor.uuid = self.tracks
        packet.track_descriptor.process.pid, packet.track_descriptor.process.process_name = pid, title(task)
        self._send(packet)
        tracks = tracks_of(spans)
        arrows = self._arrows(flows_between(task.spans, owners))
        for place, track in enumerate(tracks):
            packet = self._packet()
            self.tracks += 1
            self.threads += 1
            made = packet.track_descriptor
            made.uuid, made.parent_uuid, made.sibling_order_rank = self.tracks, parent, place
            made.thread.pid, made.thread.tid, made.thread.thread_name = pid, FIRST_THREAD + self.threads, track.name
            self._send(packet)
            self._slices(made.uuid, track.spans, arrows)

    def _arrows(self, flows: list[Flow]) -> dict[int, tuple[list[int], list[int]]]:
        """Return for each span the numbers of the arrows that leave it, and of those that end there."""
        found: dict[int, tuple[list[int], list[int]]] = {}
        for flow in flows:
            self.flows += 1
            found.setdefault(flow.source.id, ([], []))[0].append(self.flows)
            found.setdefault(flow.target.id, ([], []))[1].append(self.flows)
        return found

    def _slices(self, track: int, spans: tuple[Span, ...], arrows: dict[int, tuple[list[int], list[int]]]) -> None:
        """Write the slices of one track: what encloses begins before, and ends after, what it holds."""
        ends: list[int] = []
        for span in spans:
            start = nanos(span.start)
            while ends and ends[-1] <= start:
                self._end(track, ends.pop())
            self._begin(track, span, start, arrows.get(span.id, ([], [])))
            if nanos(span.end) > start:
                ends.append(nanos(span.end))
        while ends:
            self._end(track, ends.pop())

    def _begin(self, track: int, span: Span, start: int, arrows: tuple[list[int], list[int]]) -> None:
        packet = self._packet()
        packet.timestamp = start
        event = packet.track_event
        event.type = self.event.TYPE_SLICE_BEGIN if nanos(span.end) > start else self.event.TYPE_INSTANT
        event.track_uuid = track
        event.name_iid = self._name(packet, "event_names", f"{span.name} {span.component}".strip())
        event.category_iids.append(self._name(packet, "event_categories", span.category))
        self._note(packet, "component").string_value = span.component
        self._note(packet, "size").double_value = span.size
        self._note(packet, "critical").bool_value = span.critical
        self._note(packet, "lost").bool_value = span.lost
        self._note(packet, "error").bool_value = span.error
        event.flow_ids.extend(arrows[0])
        event.terminating_flow_ids.extend(arrows[1])
        self._send(packet)

    def _end(self, track: int, at: int) -> None:
        packet = self._packet()
        packet.timestamp = at
        packet.track_event.type, packet.track_event.track_uuid = self.event.TYPE_SLICE_END, track
        self._send(packet)

    def _note(self, packet: Any, name: str) -> Any:
        note = packet.track_event.debug_annotations.add()
        note.name_iid = self._name(packet, "debug_annotation_names", name)
        return note

    def _name(self, packet: Any, kind: str, name: str) -> int:
        """Return the number of a name, which the packet tells if it is new."""
        number = self.names.get((kind, name))
        if number is None:
            number = self.names[kind, name] = len(self.names) + 1
            getattr(packet.interned_data, kind).add(iid=number, name=name)
        return number

    def _packet(self, seconds: float | None = None) -> Any:
        packet = self.protos.TracePacket()
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.sequence_flags = _NEEDS if self.begun else _NEEDS | _CLEARED
        self.begun = True
        if seconds is not None:
            packet.timestamp = nanos(seconds)
        return packet

    def _send(self, packet: Any) -> None:
        """Write a packet as an element of the trace: packets one after the other are one trace."""
        self.out.write(self.protos.Trace(packet=[packet]).SerializeToString(deterministic=True))
