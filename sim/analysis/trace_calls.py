"""Calls of measured tasks, summed up: by component and agent, what errors cost, how much ran at once, how prompts grow, where gaps lie.

Tasks are independent of each other, and calls of one task go together: every interval is over tasks.

Leaves out: time by category, which the ledger has (`summarize`).
Checked: tests/test_trace_digest.py, on tasks whose sums are known, and by the share of intervals that hold the quantile of calls.
Source: the interval of a quantile over clusters inverts that of a share, which is Woodruff's (Confidence intervals for medians and other
position measures, JASA 47, 1952).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..engine.ledger import STRUCTURE, UNEXPLAINED, Span
from .contrast import Contrast
from .estimator import LEAST_TASKS, Estimator
from .statistics import Array, Estimate, no_estimate, pooled_proportion, quantile, student_t
from .trace_digest import Calls, Context, Failed, Gap, Gaps, Harm, Parallel, Turn

__all__ = ["by_component", "context_of", "gaps_of", "harm_of", "overlap_of", "parallel_of", "slack"]

MODELS = ("llm", "embedding")
STEP = "step"  # a group of the calls of one turn, which is in an agent
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
MOST_TURNS = 200


class CallLike(Protocol):
    """A call, as `trace.measured.Call` has it."""

    @property
    def kind(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def agent(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def new(self) -> float: ...
    @property
    def input(self) -> float: ...
    @property
    def cached(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def error(self) -> str: ...
    @property
    def retried(self) -> bool: ...
    @property
    def stub(self) -> bool: ...
    @property
    def critical(self) -> float: ...
    @property
    def seconds(self) -> float: ...


class TaskLike(Protocol):
    """A task with its calls in order of start, as `trace.measured.TaskTrace` has it."""

    @property
    def task(self) -> int: ...
    @property
    def arrival(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def failure(self) -> str: ...
    @property
    def finished(self) -> bool: ...
    @property
    def calls(self) -> Sequence[CallLike]: ...


def done(task: TaskLike) -> bool:
    """Whether a task was done: neither failed nor cut off."""
    return task.finished and not task.failure


def _array(values: Iterable[float]) -> Array:
    return np.array(list(values), dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# By component


def by_component(tasks: Sequence[TaskLike], by: Estimator) -> tuple[Calls, ...]:
    """Return the calls of each component, the largest on the critical path first, then those of each agent.

    They are of all tasks; what they take of a task is of those done, as in the ledger.
    """
    found: dict[tuple[str, str], list[tuple[int, CallLike]]] = {}
    agents = len({call.agent for task in tasks for call in task.calls if call.agent})
    for place, task in enumerate(tasks):
        for call in task.calls:
            found.setdefault((call.kind, call.component), []).append((place, call))
            if agents:
                found.setdefault(("agent", call.agent), []).append((place, call))
    total = _array(task.end - task.arrival if done(task) else math.nan for task in tasks)
    rows = [_calls(kind, name, calls, total, by) for (kind, name), calls in found.items()]
    return tuple(
        sorted(rows, key=lambda one: (one.kind == "agent", -one.critical.value, -one.calls, one.kind, one.component))
    )


def _calls(kind: str, component: str, calls: Sequence[tuple[int, CallLike]], total: Array, by: Estimator) -> Calls:
    places = np.array([place for place, _ in calls])
    seconds = _array(call.seconds for _, call in calls)
    failed = _array(bool(call.error) for _, call in calls)
    counts = np.bincount(places, minlength=total.size).astype(np.float64)
    there = counts > 0
    ended = np.isfinite(total)
    critical = _per_task(places, _array(call.critical for _, call in calls), total.size)[ended]
    errors = pooled_proportion(_per_task(places, failed, total.size)[there], counts[there], by.confidence)
    return Calls(
        kind=kind,
        component=component,
        calls=len(calls),
        tasks=int(there.sum()),
        per_task=by.mean([counts]).estimate,
        seconds={"mean": _mean(places, seconds, by)}
        | {name: quantile_of_calls(places, seconds, q, by.confidence) for name, q in QUANTILES.items()},
        tokens=_tokens(calls, by) if kind in (*MODELS, "agent") else {},
        errors=int(failed.sum()),
        error_rate=replace(errors, method=f"Wilson over {int(there.sum())} tasks"),
        critical=by.mean([critical]).estimate,
        share=by.portion([critical], [total[ended]]).estimate,
    )


def _per_task(places: np.ndarray, values: Array, tasks: int) -> Array:
    return np.bincount(places, weights=values, minlength=tasks).astype(np.float64)


def _mean(places: np.ndarray, values: Array, by: Estimator) -> Estimate:
    """Return the mean a call, over the tasks that have one."""
    if not values.size:
        return no_estimate(by.confidence)
    _, own = np.unique(places, return_inverse=True)
    counts = np.bincount(own).astype(np.float64)
    return by.ratio([_per_task(own, values, counts.size)], [counts]).estimate


def quantile_of_calls(places: np.ndarray, values: Array, q: float, confidence: float) -> Estimate:
    """Return a quantile of values that go together by their task (`places`); an end that they cannot tell is infinite."""
    value = quantile(values, q)
    _, own = np.unique(places, return_inverse=True)
    tasks = int(own.max()) + 1
    if tasks < LEAST_TASKS:
        return Estimate(value, -math.inf, math.inf, confidence, values.size, f"needs {LEAST_TASKS} tasks")
    beyond = np.bincount(own, weights=(values <= value) - q)
    error = math.sqrt(tasks / (tasks - 1) * float((beyond * beyond).sum())) / values.size
    # Where all tasks happen to agree: what independent calls would leave open.
    error = max(error, math.sqrt(q * (1 - q) / values.size))
    reach = student_t(confidence, tasks - 1) * error
    low = min(quantile(values, q - reach), value) if q > reach else -math.inf
    high = max(quantile(values, q + reach), value) if q + reach < 1 else math.inf
    return Estimate(value, low, high, confidence, values.size, f"Woodruff over {tasks} tasks")


def _tokens(calls: Sequence[tuple[int, CallLike]], by: Estimator) -> dict[str, Estimate]:
    found = {}
    for name in ("new", "cached", "output"):
        known = [(place, getattr(call, name)) for place, call in calls if not call.stub]
        known = [(place, value) for place, value in known if math.isfinite(value)]
        if known:
            found[name] = _mean(np.array([place for place, _ in known]), _array(value for _, value in known), by)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Errors


def harm_of(tasks: Sequence[TaskLike], by: Estimator) -> Harm:
    """Return what failed, and how tasks done with a failed call differ from those without one."""
    found: dict[tuple[str, str, str], list[tuple[int, CallLike]]] = {}
    for place, task in enumerate(tasks):
        for call in task.calls:
            if call.error:
                found.setdefault((call.kind, call.component, call.error), []).append((place, call))
    rows = [
        Failed(
            *key,
            calls=len(calls),
            tasks=len({place for place, _ in calls}),
            retried=sum(call.retried for _, call in calls),
            seconds=math.fsum(call.seconds for _, call in calls),
            critical=math.fsum(call.critical for _, call in calls),
        )
        for key, calls in found.items()
    ]
    ended = [one for one in tasks if done(one)]
    hit = [any(call.error for call in one.calls) for one in ended]
    times = [one.end - one.arrival for one in ended]
    turns = [float(sum(call.kind == "llm" for call in one.calls)) for one in ended]
    return Harm(
        rows=tuple(sorted(rows, key=lambda one: (-one.calls, one.kind, one.component, one.error))),
        calls=sum(len(one.calls) for one in tasks),
        failed=sum(one.calls for one in rows),
        with_error=sum(hit),
        without=len(hit) - sum(hit),
        seconds=_more(times, hit, by.confidence),
        turns=_more(turns, hit, by.confidence),
        critical=by.mean([_array(math.fsum(c.critical for c in one.calls if c.error) for one in ended)]).estimate,
    )


def _more(values: Sequence[float], hit: Sequence[bool], confidence: float) -> Estimate:
    """Return by how much the mean of those hit is more than that of the others; no interval where either are too few."""
    struck = _array(value for value, one in zip(values, hit, strict=True) if one)
    spared = _array(value for value, one in zip(values, hit, strict=True) if not one)
    found = Contrast(confidence, paired=False).difference(struck, spared)
    if min(struck.size, spared.size) < LEAST_TASKS:
        return replace(found, low=-math.inf, high=math.inf)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What ran at once


def parallel_of(tasks: Sequence[TaskLike], by: Estimator) -> tuple[Parallel, ...]:
    """Return how many calls ran at once while any did: of all kinds, and of each."""
    kinds = Counter(call.kind for task in tasks for call in task.calls)
    total = _array(task.end - task.arrival for task in tasks)
    rows = []
    for kind in ("", *(one for one, _ in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))):
        spans = [[(one.start, one.end) for one in task.calls if kind in ("", one.kind)] for task in tasks]
        work = _array(math.fsum(end - start for start, end in one) for one in spans)
        union = _array(_union(one) for one in spans)
        there = union > 0
        width = by.ratio([work[there]], [union[there]]).estimate if there.any() else no_estimate(by.confidence)
        width = replace(width, low=max(width.low, 1.0)) if width.resolved else width  # it cannot be less
        rows.append(Parallel(kind, width, by.portion([union], [total]).estimate))
    return tuple(rows) if kinds else ()


def _union(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which any of these was under way."""
    seconds, until = 0.0, -math.inf
    for start, end in sorted(spans):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


def overlap_of(tasks: Sequence[TaskLike]) -> float:
    """Return the share of the time of model calls in which a tool of the same agent was under way.

    An agent waits for its model before it calls tools, and for these before it calls the model again. A tool that begins before a model call and
    ends after it has called that model itself, and is left out.
    """
    seconds = both = 0.0
    for task in tasks:
        tools: dict[str, deque[CallLike]] = {}
        for call in task.calls:
            if call.kind == "tool":
                tools.setdefault(call.agent, deque()).append(call)
        under_way: dict[str, list[CallLike]] = {}
        for call in task.calls:
            if call.kind == "llm":
                later, held = tools.get(call.agent, deque()), under_way.get(call.agent, [])
                while later and later[0].start < call.end:
                    held.append(later.popleft())
                under_way[call.agent] = [one for one in held if one.end > call.start]
                seconds += call.seconds
                both += _union(_beside(call, under_way[call.agent]))
    return both / seconds if seconds > 0 else 0.0


def _beside(call: CallLike, tools: Iterable[CallLike]) -> Iterator[tuple[float, float]]:
    """Yield the parts of a call in which one of these tools was under way that does not enclose it."""
    least = slack(call.end)
    for one in tools:
        if one.start < call.end and not (one.start <= call.start and one.end > call.end + least):
            yield max(one.start, call.start), min(one.end, call.end)


# ---------------------------------------------------------------------------------------------------------------------
# Context


def context_of(tasks: Sequence[TaskLike], by: Estimator) -> Context:
    """Return the tokens of the prompt by turn of each task's main agent, which is the one with the most calls of models."""
    each = [_prompts(task) for task in tasks]
    turns: list[Turn] = []
    for number in range(min(MOST_TURNS, max(map(len, each), default=0))):
        there = [one[number] for one in each if number < len(one)]
        if turns and len(there) < LEAST_TASKS <= turns[0].tasks:
            break
        prompt, cached, output = (_array(row[at] for row in there) for at in range(3))
        known = output[np.isfinite(output)]
        turns.append(
            Turn(
                number + 1,
                len(there),
                by.mean([prompt]).estimate,
                by.mean([cached]).estimate,
                by.mean([known]).estimate if known.size else no_estimate(by.confidence),
            )
        )
    several = [one for one in each if len(one) > 1]
    some = [one for one in each if one]
    none = no_estimate(by.confidence)
    grown = [_array(one[-1][0] - one[0][0] for one in several)], [_array(len(one) - 1 for one in several)]
    sums = [[_array(math.fsum(row[at] for row in one) for one in some)] for at in (1, 0)]
    return Context(
        tuple(turns),
        by.ratio(*grown).estimate if several else none,
        by.portion(*sums).estimate if some else none,
    )


def _prompts(task: TaskLike) -> list[tuple[float, float, float]]:
    """Return tokens of the prompt, of these cached, and of the answer, of each call of a model by the main agent."""
    calls = [one for one in task.calls if one.kind == "llm"]
    if not calls:
        return []
    main, _ = Counter(one.agent for one in calls).most_common(1)[0]
    known = [one for one in calls if one.agent == main and not one.stub and math.isfinite(one.input)]
    return [(one.input, one.input - one.new, one.output) for one in known]


# ---------------------------------------------------------------------------------------------------------------------
# Gaps


def gaps_of(tasks: Sequence[TaskLike], spans_of: Callable[[int], Sequence[Span]], by: Estimator, among: int) -> Gaps:
    """Return where time on the critical path of tasks done lies that no span explains; `spans_of` gives the spans of a task, if they were kept."""
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    totals: list[float] = []
    for task in tasks:
        spans = spans_of(task.task) if done(task) else ()
        if not spans:
            continue
        place = len(totals)
        totals.append(task.end - task.arrival)
        ends = sorted((one.end, one.kind) for one in task.calls)
        starts = sorted((one.start, one.kind) for one in task.calls)
        around = _groups(spans)
        for span in spans:
            if span.category == UNEXPLAINED and span.critical and span.end - span.start > slack(span.end):
                within = _around(span, around.get(span.component, ()))
                where = (span.component, *_between(span, ends, starts, within))
                found.setdefault(where, []).append((place, span.end - span.start))
    total = _array(totals)
    rows = [_gap(where, gaps, total, by) for where, gaps in found.items()]
    ranked = sorted(rows, key=lambda one: (-one.seconds, one.inside, one.before, one.after))
    return Gaps(len(totals), among, tuple(ranked))


def _groups(spans: Sequence[Span]) -> dict[str, list[tuple[float, float]]]:
    """Return when each agent or workflow was at work, by its name."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in spans:
        if one.category == STRUCTURE and one.component and one.name != STEP:
            found.setdefault(one.component, []).append((one.start, one.end))
    return {name: sorted(times) for name, times in found.items()}


def _around(span: Span, groups: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return start and end of that in which a gap lies: of such groups the one around it that began last; else of all time."""
    least = slack(span.end)
    last = bisect_right(groups, (span.start + least, math.inf))
    return next((one for one in reversed(groups[:last]) if one[1] >= span.end - least), (-math.inf, math.inf))


def _between(
    span: Span, ends: Sequence[tuple[float, str]], starts: Sequence[tuple[float, str]], within: tuple[float, float]
) -> tuple[str, str]:
    """Return which kind of call ended last before a gap, and which begins first behind it, in the time of what it lies in."""
    least = slack(span.end)
    before = bisect_right(ends, (span.start + least, "~"))
    after = bisect_left(starts, (span.end - least, ""))
    first = ends[before - 1] if before else (-math.inf, "")
    then = starts[after] if after < len(starts) else (math.inf, "")
    return (
        first[1] if first[0] >= within[0] - least else "",
        then[1] if then[0] <= within[1] + least else "",
    )


def slack(time: float) -> float:
    """Return the seconds below which nothing is measured at a time: files have whole nanoseconds, and floats their rounding."""
    return 1e-9 + 4 * math.ulp(abs(time))


def _gap(where: tuple[str, str, str], gaps: Sequence[tuple[int, float]], total: Array, by: Estimator) -> Gap:
    seconds = _per_task(np.array([place for place, _ in gaps]), _array(one for _, one in gaps), total.size)
    return Gap(
        *where,
        count=len(gaps),
        tasks=len({place for place, _ in gaps}),
        seconds=math.fsum(one for _, one in gaps),
        longest=max(one for _, one in gaps),
        per_task=by.mean([seconds]).estimate,
        share=by.portion([seconds], [total]).estimate,
    )
