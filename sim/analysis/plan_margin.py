"""How much more load a plan's configuration takes, what ends first, and what to buy next.

Where a resource saturates and what limits after each fix come from the traffic equations. Where an objective breaks is simulated, by
bisection over the factor of the load, to 5 %; these trials have the interval's confidence of the plan, but are not in its stated
confidence.

Leaves out: load that is not more of the same.
Checked: tests/test_plan.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic

from .plan_trials import Invalid, PlanProblem, S, Trials
from .planned import Fix, Limit, Load, Point, QueueingBound, ResourceLoad, Trial
from .slo import Verdict

CLOSE = 1.05  # a ratio of factors that is near enough
FARTHEST = 8.0  # times the planned load, where no resource saturates before
STEPS = 10  # loads that are simulated at most
LOOKS = 20  # replications that each may take, or as many as the configuration took to be chosen
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
        held = self._bisect(place, 1.0, self.most, ("pass",))
        self._bisect(place, held, self.most, ("pass", "inconclusive"))  # for the least load at which it breaks
        high = min((at for at, all_ in self.seen.items() if all_[place] == "fail"), default=math.inf)
        low = max([1.0, *(at for at, all_ in self.seen.items() if all_[place] == "pass" and at < high)])
        factor = math.sqrt(low * high) if math.isfinite(high) else math.inf
        metric = self.trials.problem.objectives[place].metric
        return Limit("objective", metric, factor, low, high, "simulation")

    def _bisect(self, place: int, low: float, high: float, kept: tuple[Verdict, ...]) -> float:
        """Return the greatest factor, to `CLOSE`, at which the verdict is one of those `kept`; at `low` it is."""
        while high / low > CLOSE:
            middle = math.sqrt(low * high)
            if self.at(middle)[place] in kept:
                low = middle
            else:
                high = middle
        return low

    def at(self, factor: float) -> tuple[Verdict, ...]:
        """Return the verdicts at a factor, simulated once."""
        if factor in self.seen:
            return self.seen[factor]
        load = self.chosen.load
        more = Load(f"{load.label} x {factor:.3g}", load.factor * factor, load.hours)
        none: tuple[Verdict, ...] = tuple("inconclusive" for _ in self.trials.problem.objectives)
        if len(self.seen) >= STEPS:
            return none
        try:
            trial = self.trials.judge(
                self.chosen.point, more, most=max(LOOKS, self.chosen.replications), each=True
            ).trial
            self.seen[factor] = tuple(one.verdict for one in trial.judged)
        except Invalid:
            self.seen[factor] = none
        return self.seen[factor]


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
