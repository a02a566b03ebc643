"""How much more load a plan's configuration takes, what ends first, and what to buy next.

Where a resource saturates and what limits after each fix come from the traffic equations. Where an objective breaks is simulated, by
bisection over the factor of the load, to 5 %, or as near as the budget lets it: with as many replications at a load as the
configuration took to be chosen at most, judged by intervals with the plan's confidence each for itself, which are no part of what the
plan states to hold at once.

Leaves out: load that is not more of the same.
Checked: tests/test_plan.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic

from .plan_trials import Invalid, PlanProblem, S, Spent, Trials, rejudged
from .planned import Fix, Limit, Load, Point, QueueingBound, ResourceLoad, Trial
from .replicate import LEAST
from .result import Result
from .slo import Verdict

CLOSE = 1.05  # a ratio of factors that is near enough
FARTHEST = 8.0  # times the planned load, where no resource saturates before
LOOKS = 2 * LEAST  # replications at a load at most, or as many as the configuration took to be chosen
MOST_FIXES = 5


def find_headroom(trials: Trials[S], chosen: Trial) -> tuple[Limit, ...]:
    """Return the factors of the load at which each resource saturates, and each objective breaks."""
    resources = [
        Limit("resource", one.name, one.saturates_at, one.saturates_at, one.saturates_at, "bound")
        for one in chosen.bound.resources
        if math.isfinite(one.saturates_at)
    ]
    first = min((one.factor for one in resources), default=math.inf)
    found = _Headroom(trials, chosen, max(CLOSE, min(first, FARTHEST)))
    return (*resources, *(found.limit(place) for place in range(len(trials.problem.objectives))))


@dataclass
class _Headroom(Generic[S]):
    """Verdicts of every objective at factors of the planned load, up to `most`."""

    trials: Trials[S]
    chosen: Trial
    most: float
    seen: dict[float, tuple[Verdict, ...]] = field(default_factory=dict)

    def limit(self, place: int) -> Limit:
        """Return where an objective breaks: between the greatest factor at which it holds and the least at which it does not."""
        while (factor := self._next(place)) is not None and self.at(factor) is not None:
            pass
        low, high, _ = self._bracket(place)
        factor = math.sqrt(low * high) if math.isfinite(high) else math.inf
        metric = self.trials.problem.objectives[place].metric
        return Limit("objective", metric, factor, low, high, "simulation", self._next(place) is not None)

    def _bracket(self, place: int) -> tuple[float, float, list[float]]:
        """Return the greatest factor at which an objective holds, the least at which it breaks, and those between, which are open."""
        high = min((at for at, all_ in self.seen.items() if all_[place] == "fail"), default=math.inf)
        low = max([1.0, *(at for at, all_ in self.seen.items() if all_[place] == "pass" and at < high)])
        return low, high, sorted(at for at in self.seen if low < at < high)

    def _next(self, place: int) -> float | None:
        """Return the factor to look at next: the middle of the wider gap below and above what is open; None where both are close."""
        low, high, between = self._bracket(place)
        ends = [low, *between[:1], *between[-1:], min(high, self.most)]
        gaps = [(ends[0], ends[1]), (ends[-2], ends[-1])]
        wide = [gap for gap in gaps if gap[1] / gap[0] > CLOSE]
        if not wide:
            return None
        # Of two that are as wide the upper: a run that is overloaded tells sooner.
        least, most = max(wide, key=lambda gap: (gap[1] / gap[0], gap[0]))
        return math.sqrt(least * most)

    def at(self, factor: float) -> tuple[Verdict, ...] | None:
        """Return the verdicts at a factor, simulated once; None where the budget does not let it."""
        if factor in self.seen:
            return self.seen[factor]
        load = self.chosen.load
        more = Load(f"{load.label} x {factor:.3g}", load.factor * factor, load.hours)
        problem, results, tasks = self.trials.problem, list[Result](), 0
        found: tuple[Verdict, ...] = tuple("inconclusive" for _ in problem.objectives)
        try:
            for count in problem.looks:
                if tasks and count > max(LOOKS, self.chosen.replications):
                    break
                summary = self.trials.look(self.chosen.point, more, count, results, tasks, problem.confidence)
                tasks = summary.tasks.arrived
                found = tuple(one.verdict for one in rejudged(summary.objectives, problem.objectives))
                if "inconclusive" not in found:
                    break
        except Invalid:
            pass
        except Spent:
            if not tasks:
                return None
        self.seen[factor] = found
        return found


def find_fixes(trials: Trials[S], start: Trial) -> tuple[Fix, ...]:
    """Return what limits first by the traffic equations, and after each fix, up to where no variable helps."""
    return tuple(_fixes(trials, start))


def _fixes(trials: Trials[S], start: Trial) -> Iterator[Fix]:
    point, bound = start.point, start.bound
    for _ in range(MOST_FIXES):
        limiting = _first(bound)
        if limiting is None:
            return
        best: tuple[float, float, Point, QueueingBound, str] | None = None
        for axis, higher in enumerate(_higher(trials.problem, point)):
            if higher is None:
                continue
            try:
                found = trials.bound(higher, start.load)
            except Invalid:
                continue
            after = next((one.saturates_at for one in found.resources if one.name == limiting.name), math.inf)
            more = trials.problem.fixed_cost(higher) - trials.problem.fixed_cost(point)
            if after > limiting.saturates_at * (1 + 1e-9) and (best is None or (-after, more) < (-best[0], best[1])):
                one = trials.problem.variables[axis]
                best = after, more, higher, found, f"{one.path} {one.values[point[axis]]} -> {one.values[higher[axis]]}"
        if best is None:
            yield Fix(limiting.name, limiting.saturates_at, None, 0.0, "", math.inf)
            return
        _, more, point, bound, change = best
        then = _first(bound)
        name, factor = ("", math.inf) if then is None else (then.name, then.saturates_at)
        yield Fix(limiting.name, limiting.saturates_at, change, more, name, factor)


def _first(bound: QueueingBound) -> ResourceLoad | None:
    found = min(bound.resources, key=lambda one: one.saturates_at, default=None)
    return found if found is not None and math.isfinite(found.saturates_at) else None


def _higher(problem: PlanProblem[S], point: Point) -> Iterator[Point | None]:
    """Yield the point with the next value of each variable; None where there is none, or it is a choice."""
    for axis, (one, at) in enumerate(zip(problem.variables, point, strict=True)):
        more = one.monotone and at + 1 < len(one.values)
        yield (*point[:axis], at + 1, *point[axis + 1 :]) if more else None
