"""Tasks as a Chrome trace, for the button of a report: a process for each task, a thread for each lane.

Times are from the arrival of the task, so that tasks lie one below the other.

Leaves out: how it is written (`engine.chrome_trace`), and showing it.
Checked: tests/test_chrome_trace.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.task_steps import TaskExample
from ..engine.chrome_trace import Event, process_events, text
from ..engine.critical import TRUNK
from .numbers import plain

__all__ = ["to_chrome"]


def to_chrome(examples: Sequence[TaskExample]) -> str:
    """Return the tasks as JSON with `traceEvents`; a task that is at several percentiles is there once."""
    events: list[Event] = []
    labels: dict[int, list[str]] = {}
    for one in examples:
        labels.setdefault(one.task, []).append(one.label)
    tasks = {one.task: one for one in examples}
    for pid, one in enumerate(tasks.values(), start=1):
        title = f"{', '.join(labels[one.task])}: task {one.task} ({one.task_class}), T_total {plain(one.total, 's')}"
        # The trunk first, and the others as they begin: the numbers of lanes are too large for a viewer.
        places = {lane: place for place, lane in enumerate(dict.fromkeys([TRUNK, *(span.lane for span in one.spans)]))}
        threads = ["trunk" if lane == TRUNK else f"branch {place}" for lane, place in places.items()]
        events += process_events(pid, title, threads, ((span, places[span.lane]) for span in one.spans), one.arrival)
    return "".join(text(events))
