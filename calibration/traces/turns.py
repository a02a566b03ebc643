"""Tasks as turns of agents: a model's call, and the tool calls that follow until the agent's next.

What lies inside of another agent's tool call is that tool's, and counted as hidden. An attempt that failed and was made again is no turn:
attempts are kept aside. Time that a turn takes beyond its model's call, attempts at that, and the longest of its tools is its gap.

Leaves out: which call a span was nested in, beyond its times.
Checked: tests/test_trace_fit.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...sim.trace.measured import Call, TaskTrace
from .tables import by_count

__all__ = ["Attempt", "Course", "Turn", "Visit", "courses"]

_MODEL = ("llm",)
_SLACK = 1e-6  # s: times are known to a microsecond at best
_RARE = 0.05  # of an agent's model calls: a model that makes fewer is taken for its main one


@dataclass(slots=True)
class Attempt:
    """A call that failed and was made again: how long it took, and the wait until the next attempt began (s)."""

    call: Call
    seconds: float
    backoff: float


@dataclass(slots=True)
class Turn:
    """A call of a model (none in tasks without one), and the tool calls of the turn, in order. `gap` is what they do not explain (s)."""

    model: Call | None
    tools: list[Call] = field(default_factory=list)
    gap: float = 0.0

    @property
    def start(self) -> float:
        """When it began (s)."""
        return self.model.start if self.model is not None else self.tools[0].start

    @property
    def until(self) -> float:
        """When its tools are over (s); nan without one."""
        return max((one.end for one in self.tools), default=math.nan)

    @property
    def longest(self) -> float:
        """How long it takes without its gap (s): its tools run side by side."""
        own = self.model.seconds if self.model is not None else 0.0
        return own + max((one.seconds for one in self.tools), default=0.0)


@dataclass(slots=True)
class Visit:
    """Turns of one agent in a row. `agent` is its name and its model."""

    agent: tuple[str, str]
    turns: list[Turn] = field(default_factory=list)


@dataclass(slots=True)
class Course:
    """A task: its visits in order, its attempts, and how many model calls its tools hide."""

    task: TaskTrace
    number: int
    visits: list[Visit] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    hidden: int = 0

    @property
    def turns(self) -> list[Turn]:
        """All turns, in order."""
        return [turn for visit in self.visits for turn in visit.turns]

    @property
    def model(self) -> str:
        """The model that it called most; '' without one."""
        called = Counter(one.component for one in self.task.calls if one.kind in _MODEL)
        return by_count(called)[0][0] if called else ""


def _sound(call: Call) -> bool:
    return math.isfinite(call.start) and math.isfinite(call.end) and call.end >= call.start


def courses(tasks: Sequence[TaskTrace]) -> list[Course]:
    """Return the tasks as turns, in order."""
    return [_course(task, number) for number, task in enumerate(tasks)]


def _course(task: TaskTrace, number: int) -> Course:
    calls = sorted((one for one in task.calls if _sound(one)), key=lambda one: (one.start, one.batch))
    if calls and not (math.isfinite(task.arrival) and math.isfinite(task.end) and task.arrival <= task.end):
        task = replace(task, arrival=calls[0].start, end=max(one.end for one in calls))
    course = Course(task, number)
    outer = _outermost(calls)
    course.hidden = sum(one.kind in _MODEL for one in calls) - sum(one.kind in _MODEL for one in outer)
    steady = _without_attempts(outer, course)
    main = _main_models(steady)
    latest: dict[str, Turn] = {}
    for call in steady:
        model = call.kind in _MODEL
        turn = latest.get(call.agent) or (course.visits[-1].turns[-1] if course.visits else None)
        if not model and turn is not None and (turn.model is not None or turn.until > call.start + _SLACK):
            turn.tools.append(call)
            continue
        who = (call.agent, main.get((call.agent, call.component), call.component) if model else "")
        turn = Turn(call if model else None, [] if model else [call])
        latest[call.agent] = turn
        if not course.visits or course.visits[-1].agent != who:
            course.visits.append(Visit(who))
        course.visits[-1].turns.append(turn)
    _gaps(course)
    return course


def _outermost(calls: list[Call]) -> list[Call]:
    """Return the calls that lie in no tool call of another agent."""
    kept: list[Call] = []
    open_: list[Call] = []
    for call in calls:
        open_ = [one for one in open_ if one.end > call.start + _SLACK]
        if any(one.agent != call.agent and call.end <= one.end + _SLACK for one in open_):
            continue
        kept.append(call)
        if call.kind == "tool":
            open_.append(call)
    return kept


def _without_attempts(calls: list[Call], course: Course) -> list[Call]:
    """Return the calls that were not made again, and put the others aside with the wait until the next attempt."""
    kept = []
    for place, call in enumerate(calls):
        again = None
        if call.retried:
            again = next(
                (
                    one
                    for one in calls[place + 1 :]
                    if one.component == call.component and one.start >= call.end - _SLACK
                ),
                None,
            )
        if again is None:
            kept.append(call)
        else:
            course.attempts.append(Attempt(call, call.seconds, max(0.0, again.start - call.end)))
    return kept


def _main_models(calls: list[Call]) -> dict[tuple[str, str], str]:
    """Return, for an agent's model that it seldom calls, the one it calls most."""
    called = Counter((one.agent, one.component) for one in calls if one.kind in _MODEL)
    out = {}
    for agent, model in called:
        own = {name: n for (who, name), n in called.items() if who == agent}
        if own[model] < max(2, _RARE * sum(own.values())):
            out[agent, model] = by_count(own)[0][0]
    return out


def _gaps(course: Course) -> None:
    """Give each turn the time until the next that its calls do not explain; the first also what was before it."""
    turns = course.turns
    if not turns:
        return
    lost = [(one.call.start, one.seconds + one.backoff) for one in course.attempts if one.call.kind in _MODEL]
    bounds = [turn.start for turn in turns[1:]] + [max(course.task.end, turns[-1].start)]
    begun = min(course.task.arrival, turns[0].start)
    for turn, until in zip(turns, bounds, strict=True):
        waited = sum(seconds for start, seconds in lost if begun - _SLACK <= start < until - _SLACK)
        turn.gap = until - begun - turn.longest - waited
        begun = until
