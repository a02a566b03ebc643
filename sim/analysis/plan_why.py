"""Why a plan's answer is what it is: what passes, the nearest that misses and what keeps it from passing, what would decide.

Leaves out: units other than seconds, shares and rates.
Checked: tests/test_plan.py, tests/test_plan_cost.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from .lattice import Search
from .plan_trials import Invalid, PlanProblem, Record, S, Trials, unit
from .planned import Choice, Load, Miss, Point, QueueingBound, Trial, Variable
from .slo import Objective, full_name
from .statistics import Estimate, replications_needed
from .summary import Judged, Summary

EQUAL = 0.01  # misses that differ by less, as a share of the threshold, are equal: then the cheaper configuration is the nearer
BUSY = 0.8  # a utilization from which on waiting makes up much of the time: twice the service, at one server

OF_MEAN = ("response_time_mean", "response_time_max")  # what a bound on the mean also bounds


def choose(
    trials: Trials[S], load: Load, search: Search, best: Record | None, undecided: Sequence[Record], unseen: int
) -> Choice:
    """Return the answer at a load: the best, else what may pass, else the nearest.

    `undecided` were simulated and may pass too; `unseen` more between these were not.
    """
    cheaper = tuple(one.trial for one in undecided)
    if best is not None:
        return Choice(load, "pass", best.trial, (), _of_pass(trials, best, search, cheaper, unseen), cheaper, unseen)
    if undecided:
        nearest = min(undecided, key=_score)
        return Choice(load, "inconclusive", nearest.trial, (), _of_doubt(nearest), cheaper, unseen)
    failed = [one for one in trials.records.values() if one.trial.load.factor == load.factor]
    if not failed:
        return Choice(
            load, "fail", None, (), "no configuration can be: " + "; ".join([*trials.invalid.values()][:1]), ()
        )
    # What was simulated says more than what a bound excludes, and misses less.
    simulated = [one for one in failed if one.summary is not None]
    nearest = _nearest(trials.problem, simulated) if simulated else _nearest_excluded(trials, load, failed)
    return Choice(load, "fail", nearest.trial, misses(trials.problem, nearest), _of_fail(trials.problem, nearest), ())


def _nearest(problem: PlanProblem[S], records: Sequence[Record]) -> Record:
    """Return the cheapest of those that miss by no more than the best with most capacity."""
    least = min(_score(one)[0] for one in _greatest(problem, records))
    near = [one for one in records if _score(one)[0] <= least + EQUAL]
    return min(near, key=lambda one: (one.trial.cost, _score(one)[0]))


def _nearest_excluded(trials: Trials[S], load: Load, records: Sequence[Record]) -> Record:
    """Return what bounds say is nearest, with as little capacity as is as near: bounds are exact, and cost no simulation."""
    point = min(records, key=_excluded_score).trial.point
    for axis in sorted(range(len(point)), key=lambda one: -_steepest(trials.problem.variables[one])):
        low, high = (0 if trials.problem.variables[axis].monotone else point[axis]), point[axis]
        while low < high:
            middle = (low + high) // 2
            lower = (*point[:axis], middle, *point[axis + 1 :])
            if _is_as_near(trials, load, lower, point):
                high, point = middle, lower
            else:
                low = middle + 1
    trials.exclude(point, load)
    return trials.records[point, load.factor]


def _steepest(one: Variable) -> float:
    return max(one.costs) - min(one.costs)


def _is_as_near(trials: Trials[S], load: Load, lower: Point, point: Point) -> bool:
    try:
        found, known = trials.bound(lower, load), trials.bound(point, load)
    except Invalid:
        return False
    return bool(found.excludes) and _distance(found) <= _distance(known)


def _greatest(problem: PlanProblem[S], records: Sequence[Record]) -> list[Record]:
    """Return those with no more capacity beside them: more is never worse, whatever the noise says."""
    points = np.array([one.trial.point for one in records]).reshape(len(records), len(problem.variables))
    rising = np.array([one.monotone for one in problem.variables])
    above = ((points[:, None] <= points[None]) & rising | (points[:, None] == points[None])).all(axis=2)
    np.fill_diagonal(above, val=False)
    return [one for one, dominated in zip(records, above.any(axis=1), strict=True) if not dominated]


def miss(one: Judged) -> float:
    """Return by which share of its threshold an objective is missed; below 0 where the estimate is better, infinite without one."""
    value = one.estimate.value
    if math.isnan(value):
        return math.inf
    by = value - one.threshold if one.sense == "<=" else one.threshold - value
    return by / abs(one.threshold) if one.threshold else math.copysign(math.inf, by) if by else 0.0


def misses(problem: PlanProblem[S], record: Record) -> tuple[Miss, ...]:
    """Return the objectives that are missed for sure; of a configuration that bounds exclude, what the bound says of the mean."""
    if record.summary is not None:
        judged = [one for one in record.trial.judged if one.verdict == "fail"]
        return tuple(Miss(one.metric, one.threshold, one.estimate, miss(one)) for one in judged)
    bound = record.trial.bound
    return tuple(
        Miss(
            one.metric,
            one.threshold,
            Estimate(bound.response, bound.response, math.inf, 1.0, 0, "bound"),
            bound.response / one.threshold - 1,
        )
        for one in problem.objectives
        if full_name(one.metric) in OF_MEAN and bound.response > one.threshold > 0
    )


def _score(record: Record) -> tuple[float, float]:
    return max(miss(one) for one in record.trial.judged), record.trial.cost


def _excluded_score(record: Record) -> tuple[float, float, float]:
    bound = record.trial.bound
    return *_distance(bound), record.trial.cost


def _distance(bound: QueueingBound) -> tuple[float, float]:
    """Return how far bounds say that a configuration is: by load first, then by the response time."""
    return -min((one.saturates_at for one in bound.resources), default=math.inf), bound.response


# ---------------------------------------------------------------------------------------------------------------------
# In words


def _of_pass(trials: Trials[S], best: Record, search: Search, undecided: Sequence[Trial], unseen: int) -> str:
    """Return why nothing cheaper was chosen: what is known of each cheaper configuration, and how."""
    what = "smaller" if trials.problem.is_free else "cheaper"
    if not search.cheaper:
        return f"no configuration is {what}"
    factor, limit = best.trial.load.factor, search.cost(best.trial.point)
    seen = [
        one.trial
        for one in trials.records.values()
        if one.trial.load.factor == factor and one.trial.verdict == "fail" and search.cost(one.trial.point) < limit
    ]
    excluded = [one for one in seen if not one.replications]
    unstable = sum(one.bound.unstable for one in excluded)
    count = len(undecided) + unseen
    others = search.cheaper - count - len(seen)
    parts = [f"{unstable} cannot be stable (queueing bounds)"] * bool(unstable)
    if unable := len(excluded) - unstable:
        parts.append(f"{unable} cannot meet an objective (queueing bounds)")
    if failed := len(seen) - len(excluded):
        parts.append(f"{failed} {'miss' if failed > 1 else 'misses'} an objective in simulation")
    if others > 0:
        many = len({one.factor for one in trials.problem.loads}) > 1
        has = "have" if others > 1 else "has"
        parts.append(
            f"{others:,} {has} no more capacity than another that will not do{' at this load or a lower one' * many}"
        )
    told = "; ".join(parts)
    if not undecided:
        return f"nothing {what} will do: {told}"
    may = f"{count} {what} configuration{'s' if count > 1 else ''} may meet the objectives too"
    may += f" ({unseen} of them not simulated, between two that were)" if unseen else ""
    return f"{may}; of the other {what} ones {told}" if told else may


def _of_fail(problem: PlanProblem[S], record: Record) -> str:
    trial = record.trial
    if record.summary is None:
        alone = _alone(problem.objectives, trial)
        return f"queueing bounds exclude every configuration; of the nearest, {trial.bound.excludes}" + (
            f"; {alone}" if alone else ""
        )
    return _alone(problem.objectives, trial) or _limiting(problem.variables, trial) or _largest(record.summary)


def _alone(objectives: Sequence[Objective], trial: Trial) -> str:
    """Return that even a task that is alone takes too long, if so."""
    for one in objectives:
        if one.sense == "<=" and full_name(one.metric) in OF_MEAN and trial.bound.response > one.threshold:
            least, most = _number("mean", trial.bound.response), _number("mean", one.threshold)
            return f"alone, without any waiting, a task takes {least} in the mean, more than {most}: no capacity helps"
    return ""


def _limiting(variables: Sequence[Variable], trial: Trial) -> str:
    """Return which resource is the bottleneck, and whether its variable is at its greatest value."""
    if not (trial.busiest and trial.utilization >= BUSY):
        return ""
    told = f"{trial.busiest} is the bottleneck"
    for one, at in zip(variables, trial.point, strict=True):
        if concerns(one.path, trial.busiest):
            greatest = "its greatest value" if one.monotone and at == len(one.values) - 1 else "its value"
            told += f" at {greatest} {one.values[at]}"
            break
    return f"{told} (utilization {100 * trial.utilization:.3g} %)"


def concerns(path: str, resource: str) -> bool:
    """Return whether a variable sets something of a resource, by their names.

    >>> concerns("models.llm.replicas", "models.llm"), concerns("tools.search.concurrency", "search")
    (True, True)
    >>> concerns("tools.search.concurrency", "tools.search2")
    False
    """
    steps, wanted = path.replace("[", ".").replace("]", "").split("."), resource.split(".")
    return any(steps[at : at + len(wanted)] == wanted for at in range(len(steps)))


def _largest(summary: Summary) -> str:
    shares = {name: part.share.value for name, part in summary.categories.items() if math.isfinite(part.share.value)}
    if not shares:
        return "no task was done"
    name = max(shares, key=lambda one: shares[one])
    return f"no resource is busy: most of the time is {name} ({100 * shares[name]:.3g} % of mean T_total)"


def _of_doubt(record: Record) -> str:
    told = []
    for one in record.trial.judged:
        if one.verdict != "inconclusive":
            continue
        if not math.isfinite(one.estimate.value):
            told.append(f"{one.metric} was not observed")
            continue
        near = (
            f"{one.metric} is {_estimate(one)}, {100 * abs(miss(one)):.2g} % from {_number(one.metric, one.threshold)}"
        )
        told.append(f"{near}: {_more(record, one)}")
    return "; ".join(told)


def _more(record: Record, one: Judged) -> str:
    """Return how many replications would tell, if the estimate is the true value."""
    assert record.summary is not None
    samples = [x for x in record.summary.samples.get(full_name(one.metric), ()) if math.isfinite(x)]
    distance = abs(one.estimate.value - one.threshold) / abs(one.estimate.value) if one.estimate.value else 0.0
    try:
        needed = replications_needed(samples, distance, one.estimate.confidence)
    except ValueError:
        needed = 0
    more = needed - record.trial.replications
    if more <= 0 or needed > 1_000_000:
        return "too near for any number of replications to tell; plan for another threshold"
    return f"about {more:,} more replications would tell, if that is the true value"


def _estimate(one: Judged) -> str:
    return one.estimate.format(lambda x: _number(one.metric, x), "replications")


def _number(metric: str, value: float) -> str:
    if unit(metric) == "share":
        return f"{100 * value:.4g} %"
    return f"{value:.4g} {unit(metric)}".strip()


# ---------------------------------------------------------------------------------------------------------------------
# Monotony


def find_broken(problem: PlanProblem[S], trials: Sequence[Trial], shares: bool) -> Iterator[tuple[Trial, Trial]]:
    """Yield pairs (more capacity or less load, less) of which the first did worse, beyond both intervals."""
    monotone = [one.monotone for one in problem.variables]
    simulated = [one for one in trials if one.replications]
    for more, less in permutations(simulated, 2):
        same = more.load.factor == less.load.factor
        if not (same or (shares and more.load.factor < less.load.factor)):
            continue
        pairs = zip(more.point, less.point, monotone, strict=True)
        if all(a >= b if rising else a == b for a, b, rising in pairs) and _worse(more, less):
            yield more, less


def _worse(more: Trial, less: Trial) -> bool:
    return any(_apart(a.estimate, b.estimate, a.sense) for a, b in zip(more.judged, less.judged, strict=True))


def _apart(a: Estimate, b: Estimate, sense: str) -> bool:
    return a.low > b.high if sense == "<=" else a.high < b.low
