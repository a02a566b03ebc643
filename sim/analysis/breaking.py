"""What breaks first as a load or a fault rate rises: objectives and components beyond their limits, level by level.

Leaves out: the sweep itself (the command runs it); components that break for a reason that no limit speaks of.
Checked: tests/test_root_cause.py.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .slo import Objective, verdict
from .statistics import Estimate
from .summary import Judged, Resource, Summary

LIMITS = (
    Objective("utilization", 0.95, "<="),
    Objective("offered", 1.0, "<="),
    Objective("rejected", 0.01, "<="),
    Objective("calls_rejected", 0.01, "<="),
)
"""What a component must keep to, of the metrics that it has: nearly busy all the time, more offered than it can serve
(both as shares of capacity), one arrival in a hundred turned away by it, or by its callers' breaker or bulkhead."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level `x` of a sweep, a load factor or a fault rate: objectives as judged, and estimates per component."""

    x: float
    objectives: tuple[Judged, ...]
    components: Mapping[str, Mapping[str, Estimate]]
    shown: str = ""  # how `x` is written, with its unit; '': as a plain number

    @classmethod
    def of(cls, x: float, summary: Summary) -> Level:
        """Take a run's summary; a component is a resource, by its name (with its kind where the name is not enough)."""
        names = Counter(one.name for one in summary.resources)

        def label(one: Resource) -> str:
            return one.name if names[one.name] == 1 else f"{one.kind} {one.name}"

        components = {label(one): dict(one.metrics) for one in summary.resources}
        for row in summary.reliability.calls:
            components.setdefault(row.component, {})["calls_rejected"] = row.rejected
        return cls(x, summary.objectives, components)


@dataclass(frozen=True, slots=True)
class Break:
    """Something that no longer keeps a limit, from somewhere above level `after` on, and surely at level `by`.

    `after` is the last level before at which it surely kept it, -inf if none did: levels between are inconclusive.
    `estimate` is that at `by`. `back` is a level above `by` at which it surely keeps it again, nan if none.
    """

    name: str
    metric: str
    threshold: float
    after: float
    by: float
    estimate: Estimate
    back: float

    def bracket(self, shown: Mapping[float, str]) -> str:
        """Return 'between 1.2 and 1.4', or 'of 1.2 or below', with levels as they are `shown`."""
        by = shown[self.by]
        return f"of {by} or below" if self.after == -math.inf else f"between {shown[self.after]} and {by}"


@dataclass(frozen=True, slots=True)
class FirstToBreak:
    """All that broke, in order, and which may have been first: those whose brackets overlap with the first one's."""

    objectives: tuple[Break, ...]
    components: tuple[Break, ...]
    first_objectives: tuple[Break, ...]
    first_components: tuple[Break, ...]
    sentence: str


def first_to_break(levels: Sequence[Level], limits: Sequence[Objective] = LIMITS, knob: str = "level") -> FirstToBreak:
    """Return which objective and which component breaks first as the level rises, and between which two levels.

    A limit breaks at the first level whose whole interval lies beyond it. Levels are sorted; `knob` names what is
    turned. Where the brackets of two overlap, the sweep does not tell which was first, and both are returned: take
    finer levels, or more replications. Raises ValueError for fewer than two levels, or two of one x.
    """
    ordered = sorted(levels, key=lambda level: level.x)
    xs = [level.x for level in ordered]
    if len(xs) < 2 or len(set(xs)) < len(xs) or not all(map(math.isfinite, xs)):
        raise ValueError(f"there must be at least two levels, all of different finite x, got {xs}")
    judged: defaultdict[tuple[str, Objective], list[tuple[float, Estimate]]] = defaultdict(list)
    seen: defaultdict[tuple[str, Objective], list[tuple[float, Estimate]]] = defaultdict(list)
    for level in ordered:
        for one in level.objectives:
            judged[one.metric, Objective(one.metric, one.threshold, one.sense)].append((level.x, one.estimate))
        for name, metrics in level.components.items():
            for limit in limits:
                if limit.metric in metrics:
                    seen[name, limit].append((level.x, metrics[limit.metric]))
    objectives = _breaks(judged)
    # A component breaks once: with the limit that goes first.
    components = tuple(sorted({one.name: one for one in reversed(_breaks(seen))}.values(), key=_order))
    firsts = _first(objectives), _first(components)
    words = f"{_say('objective', firsts[0], ordered, knob)} {_say('component', firsts[1], ordered, knob)}"
    return FirstToBreak(objectives, components, *firsts, words)


def _breaks(series: Mapping[tuple[str, Objective], Sequence[tuple[float, Estimate]]]) -> tuple[Break, ...]:
    found = []
    for (name, limit), seen in series.items():
        verdicts = [(x, verdict(estimate, limit)) for x, estimate in seen]
        failing = [i for i, (_, said) in enumerate(verdicts) if said == "fail"]
        if failing:
            at = failing[0]
            after = max((x for x, said in verdicts[:at] if said == "pass"), default=-math.inf)
            back = min((x for x, said in verdicts[at:] if said == "pass"), default=math.nan)
            found.append(Break(name, limit.metric, limit.threshold, after, seen[at][0], seen[at][1], back))
    return tuple(sorted(found, key=_order))


def _order(one: Break) -> tuple[float, float, str, str]:
    return one.by, one.after, one.name, one.metric


def _first(found: Sequence[Break]) -> tuple[Break, ...]:
    """Return those that may have broken first: where the earliest surely broke, they did not surely hold."""
    return tuple(one for one in found if one.after < found[0].by)


def _say(what: str, first: Sequence[Break], levels: Sequence[Level], knob: str) -> str:
    shown = {level.x: level.shown or f"{level.x:g}" for level in levels}
    if not first:
        return f"No {what} surely breaks up to {knob} {shown[levels[-1].x]}."
    if len(first) == 1:
        one = first[0]
        return (
            f"The first {what} to break is {_named(one)}, at {'' if '.' in knob else 'a '}{knob} {one.bracket(shown)}."
        )
    each = "; ".join(f"{_named(one)} {one.bracket(shown)}" for one in first)
    return f"Which {what} breaks first is not resolved ({knob}): {each}."


def _named(one: Break) -> str:
    return one.name if one.name == one.metric else f"{one.name} ({one.metric})"
