"""How tasks come: at a rate of their own, or from users who wait for the last one and think.

Leaves out: rates that change over the day; users who leave.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ...sim.trace.measured import TaskTrace
from .fitted import ArrivalFit, Number
from .tables import LEAST_CLUSTERS, number, ratio, student, table

__all__ = ["arrivals_of"]

_OF_SESSIONS = 0.5  # of tasks are not the first of their session: then users come back


def arrivals_of(tasks: Sequence[TaskTrace], known: bool) -> ArrivalFit:
    """Return how tasks come, where the times of their arrivals are known."""
    if not known:
        return ArrivalFit("unknown", None, None, None, None, "tasks have no common clock")
    if len(tasks) < 3:
        return ArrivalFit("unknown", None, None, None, None, f"{len(tasks)} task{'s' * (len(tasks) > 1)} tell no rate")
    times = np.sort([one.arrival for one in tasks])
    between = np.diff(times)
    if between.sum() <= 0:
        return ArrivalFit("unknown", None, None, None, None, "all tasks come at the same time")
    rate, cv = _rate(between)
    closed = _closed(tasks)
    if closed is not None:
        users, waits, sessions = closed
        mean = ratio(
            waits, np.ones(len(waits)), "s", "mean time from a task's end to the next of its session", sessions
        )
        count = number(
            users, len(set(sessions.tolist())), "1", "tasks that run or are thought about, on average over the trace"
        )
        return ArrivalFit("closed", rate, cv, count, table(waits, mean), "tasks of a session follow one another")
    return ArrivalFit("open", rate, cv, None, None, "tasks come on their own")


def _rate(between: np.ndarray) -> tuple[Number, Number]:
    """Return the rate (1/s) and the coefficient of variation of times between arrivals, as if these did not depend on each other."""
    n, mean = len(between), float(between.mean())
    cv = float(between.std(ddof=1) / mean) if n > 1 else 1.0
    how = "of times between arrivals"
    if n <= LEAST_CLUSTERS or cv <= 0:
        return number(1 / mean, n, "1/s", how), number(cv, n, "1", how)
    factor = math.exp(student(n) * cv / math.sqrt(n))
    rate = Number(1 / mean, 1 / mean / factor, factor / mean, n, "1/s", how)
    left = (between.sum() - between) / (n - 1)
    squares = np.maximum(((between**2).sum() - between**2) / (n - 1) - left**2, 1e-300) * (n - 1) / (n - 2)
    logs = 0.5 * np.log(squares) - np.log(left)
    half = student(n) * math.sqrt(float(((logs - logs.mean()) ** 2).sum()) * (n - 1) / n)
    factor = math.exp(min(half, 50.0))
    return rate, Number(cv, cv / factor, cv * factor, n, "1", how)


def _closed(tasks: Sequence[TaskTrace]) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Return users, think times (s) and the session of each, where most tasks follow another of their session.

    There are as many users as finish the measured number of tasks in that time (Little's law): each task has one that runs it, and thinks.
    """
    by_session: dict[str, list[TaskTrace]] = defaultdict(list)
    for one in tasks:
        if one.session:
            by_session[one.session].append(one)
    if sum(len(own) - 1 for own in by_session.values()) < _OF_SESSIONS * len(tasks):
        return None
    waits, place = [], []
    for at, own in enumerate(by_session.values()):
        own.sort(key=lambda one: one.arrival)
        for last, now in pairwise(own):
            waits.append(now.arrival - last.end)
            place.append(at)
    found = np.array(waits)
    if (found < 0).mean() > 1 - _OF_SESSIONS:  # tasks of a session run side by side
        return None
    whole = max(one.end for one in tasks) - min(one.arrival for one in tasks)
    thought = np.maximum(found, 0.0)
    busy = sum(one.end - one.arrival for one in tasks) + len(tasks) * float(thought.mean())
    return max(1.0, busy / whole if whole > 0 else 1.0), thought, np.array(place)
