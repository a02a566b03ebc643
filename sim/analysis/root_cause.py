"""Root causes: what each cause came to, how it spread, and what the retries cost.

From the `Incidents` of the replications of one scenario. A cause is known by its name in all of them; totals are over
all replications, and shares and ratios have intervals over them. A harmed task failed, or lost time; it is counted
once, under the cause that cost it most, as `Harm` has it. Strikes are counted each, also those that cost nothing.

Leaves out: how strikes and harms are found (the models); whether goodput comes back (`collapse`); what breaks first
(`breaking`).
Checked: tests/test_root_cause.py.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..engine.errors import ConservationError
from ..engine.incidents import OPEN, OUTCOMES, Calls, Harm, Incidents
from .reliability import amplification
from .statistics import Array, Estimate, as_sample, no_estimate, pooled_proportion

NO_CAUSE = "unknown"  # the name of the cause of tasks that failed, or were late, for no cause that is known

# -- conservation


def check_conservation(incidents: Incidents, struck: Mapping[str, int] | None = None, *, over: bool = False) -> None:
    """Raise ConservationError unless every strike of a replication has exactly one outcome.

    The counts of a cause must hold no negative, agree with its examples (which are all of its strikes where they are
    few), and with `struck`, where somebody else counted the strikes by name of the cause. `over`: the run is settled,
    so that none may be open. Each task may be told as harmed once.
    """
    problems = []
    for number, cause in enumerate(incidents.causes):
        counts, examples = incidents.counts[number], incidents.examples[number]
        strikes, seen = sum(counts), Counter(OPEN if one.outcome is None else one.outcome for one in examples)
        told = ", ".join(f"{count} {name}" for name, count in zip(OUTCOMES, counts, strict=True))
        if min(counts) < 0:
            problems.append(f"{cause.name}: a negative count: {told}")
        if len(examples) > strikes or any(seen[outcome] > counts[outcome] for outcome in seen):
            kept = ", ".join(f"{seen[outcome]} {OUTCOMES[outcome]}" for outcome in sorted(seen))
            problems.append(f"{cause.name}: {told}; but among its examples are {kept}")
        if struck is not None and struck.get(cause.name, 0) != strikes:
            problems.append(
                f"{cause.name}: struck {struck.get(cause.name, 0)} times, but its outcomes sum to {strikes}"
            )
        if over and counts[OPEN]:
            problems.append(f"{cause.name}: {counts[OPEN]} strikes are open, though the run is over")
    known = {cause.name for cause in incidents.causes}
    problems += [
        f"{name}: struck {n} times, but is no cause" for name, n in (struck or {}).items() if name not in known
    ]
    twice = [task for task, n in Counter(harm.task for harm in incidents.harms).items() if n > 1]
    if twice:
        problems.append(f"task {twice[0]} is told as harmed more than once")
    if problems:
        raise ConservationError("strikes and outcomes do not agree: " + "; ".join(problems))


# -- causes and paths


@dataclass(frozen=True, slots=True)
class CauseRow:
    """What one cause came to, over all replications.

    `strikes` are the sum of `outcomes` (by name, see `incidents.OUTCOMES`); `occurrences` how often a cause that
    comes and goes came. Of tasks harmed mainly by it, `failed` did, and `delayed` were done, but later for it; `lost`
    are seconds of recovery on their critical paths, `waited` seconds in queues because of it. `blast_radius` is the
    share of the tasks that arrived that it harmed.
    """

    name: str
    kind: str
    injected: bool
    strikes: int
    outcomes: Mapping[str, int]
    occurrences: int
    failed: int
    delayed: int
    lost: float
    waited: float
    blast_radius: Estimate

    @property
    def harmed(self) -> int:
        """Tasks that failed, or were late."""
        return self.failed + self.delayed


def causes(runs: Sequence[Incidents], arrived: Sequence[int], confidence: float = 0.95) -> tuple[CauseRow, ...]:
    """Return a row for each cause, those first that failed most tasks, then those that harmed most, then by strikes.

    `arrived` are the tasks that arrived, per replication. Raises ConservationError where outcomes do not sum to
    strikes, and ValueError where replications do not agree on a cause. Harmed tasks without a known cause have the
    row `unknown`.
    """
    _pairs(runs, arrived)
    kinds: dict[str, tuple[str, bool]] = {}
    strikes: Counter[str] = Counter()
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    occurrences: Counter[str] = Counter()
    for run in runs:
        check_conservation(run)
        for number, cause in enumerate(run.causes):
            known = kinds.setdefault(cause.name, (cause.kind, cause.injected))
            if known != (cause.kind, cause.injected):
                raise ValueError(f"cause `{cause.name}` is {known} in one replication, {cause} in another")
            strikes[cause.name] += run.injected(number)
            outcomes[cause.name].update(dict(zip(OUTCOMES, run.counts[number], strict=True)))
            occurrences[cause.name] += run.occurrences[number]
    harms = [_by_cause(run) for run in runs]
    if any(NO_CAUSE in one for one in harms):
        kinds.setdefault(NO_CAUSE, (NO_CAUSE, False))
    rows = []
    for name, (kind, injected) in kinds.items():
        each = [one.get(name, []) for one in harms]
        every = [harm for one in each for harm in one]
        rows.append(
            CauseRow(
                name,
                kind,
                injected,
                strikes[name],
                {outcome: outcomes[name][outcome] for outcome in OUTCOMES},
                occurrences[name],
                *_sums(every),
                _radius([len(one) for one in each], arrived, confidence),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.failed, -row.harmed, -row.strikes, row.name)))


def _pairs(runs: Sequence[Incidents], other: Sequence[object]) -> None:
    if not runs or len(runs) != len(other):
        raise ValueError(f"there must be a number for each of at least one replication, got {len(other)}, {len(runs)}")


def _by_cause(run: Incidents) -> dict[str, list[Harm]]:
    found: dict[str, list[Harm]] = {}
    for harm in _harmed(run):
        found.setdefault(_name(run, harm.cause), []).append(harm)
    return found


def _harmed(run: Incidents) -> list[Harm]:
    return [harm for harm in run.harms if harm.failed or harm.lost + harm.delayed > 0]


def _name(run: Incidents, cause: int) -> str:
    return run.causes[cause].name if cause >= 0 else NO_CAUSE


def _sums(harms: Sequence[Harm]) -> tuple[int, int, float, float]:
    failed = sum(harm.failed for harm in harms)
    return failed, len(harms) - failed, math.fsum(h.lost for h in harms), math.fsum(h.delayed for h in harms)


def _radius(harmed: Sequence[int], arrived: Sequence[int], confidence: float) -> Estimate:
    return pooled_proportion(harmed, arrived, confidence) if sum(arrived) else no_estimate(confidence)


def blast_radius(runs: Sequence[Incidents], arrived: Sequence[int], confidence: float = 0.95) -> Estimate:
    """Return the share of the tasks that arrived that anything harmed."""
    _pairs(runs, arrived)
    return _radius([len(_harmed(run)) for run in runs], arrived, confidence)


@dataclass(frozen=True, slots=True)
class PathRow:
    """A way from where a cause struck to what it came to, and the tasks that it took there; fields as in `CauseRow`."""

    cause: str
    path: str
    failed: int
    delayed: int
    lost: float
    waited: float


def paths(runs: Sequence[Incidents], most: int | None = 10) -> tuple[PathRow, ...]:
    """Return the ways harm took, those first that failed most tasks, then those that harmed most; at most `most`."""
    found: defaultdict[tuple[str, str], list[Harm]] = defaultdict(list)
    for run in runs:
        for harm in _harmed(run):
            found[_name(run, harm.cause), harm.path].append(harm)
    rows = [PathRow(cause, path, *_sums(harms)) for (cause, path), harms in found.items()]
    return tuple(sorted(rows, key=lambda row: (-row.failed, -row.delayed, row.cause, row.path))[:most])


# -- the cascade


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened at `time` (s): `what` begins or ends at a component, or a window of goodput ends.

    `good` is the goodput (1/s) of the window that holds the time, or ends there; nan where there is none. `since` (s)
    is the time since the first turn of this cause (0 for windows). `kind` is as in `Turn`, or `goodput`.
    """

    time: float
    what: Literal["begins", "ends", "window"]
    component: str
    cause: str
    kind: str
    since: float
    good: float


@dataclass(frozen=True, slots=True)
class Reached:
    """A component that a cause reached, `after` seconds from where it first showed; `kind` of its first turn there."""

    cause: str
    component: str
    kind: str
    time: float
    after: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """How causes spread in one replication: all moments in order of time, and the components each cause reached."""

    moments: tuple[Moment, ...]
    reached: tuple[Reached, ...]


def cascade(run: Incidents, times: npt.ArrayLike = (), good: npt.ArrayLike = ()) -> Cascade:
    """Return the timeline of one replication: turns in order, merged with windows of goodput.

    `times` are ends of windows (s, rising), `good` their goodput (1/s). At the same time turns come before the window
    that ends.
    """
    ends, rates = as_sample(times, 0, "times"), as_sample(good, 0, "good")
    if ends.shape != rates.shape or bool(np.any(np.diff(ends) <= 0)):
        raise ValueError(f"times must rise and pair up with good, got {ends.size} and {rates.size}")
    turns = sorted(run.turns, key=lambda turn: turn.time)
    first: dict[int, float] = {}
    reached: dict[tuple[int, str], Reached] = {}
    moments = []
    for turn in turns:
        began = first.setdefault(turn.cause, turn.time)
        name = _name(run, turn.cause)
        if turn.begins:
            new = Reached(name, turn.component, turn.kind, turn.time, turn.time - began)
            reached.setdefault((turn.cause, turn.component), new)
        what: Literal["begins", "ends"] = "begins" if turn.begins else "ends"
        now = _at(ends, rates, turn.time)
        moments.append(Moment(turn.time, what, turn.component, name, turn.kind, turn.time - began, now))
    moments += [
        Moment(end, "window", "", "", "goodput", 0.0, rate)
        for end, rate in zip(ends.tolist(), rates.tolist(), strict=True)
    ]
    return Cascade(tuple(sorted(moments, key=lambda one: one.time)), tuple(reached.values()))


def _at(ends: Array, rates: Array, time: float) -> float:
    index = int(np.searchsorted(ends, time, side="left"))
    return float(rates[index]) if index < ends.size else math.nan


# -- calls


@dataclass(frozen=True, slots=True)
class CallRow:
    """What callers made of one component's calls; `totals` over all replications, ratios over them.

    `amplification` is attempts per call, 1 without retries and hedges; `per_task` attempts per task that arrived, in
    which the amplification of all layers above is. `failed` is the share of attempts that failed; `rejected` that of
    calls that were not made, as the breaker was open or the bulkhead full; `wasted` that of its service seconds spent on answers nobody took (nan when the service is not known).
    """

    component: str
    totals: Calls
    amplification: Estimate
    per_task: Estimate
    failed: Estimate
    rejected: Estimate
    wasted: Estimate


def calls(
    runs: Sequence[Incidents],
    arrived: Sequence[int],
    service: Sequence[Mapping[str, float]] | None = None,
    confidence: float = 0.95,
) -> tuple[CallRow, ...]:
    """Return a row for each component that was called, the most amplified first.

    `service[replication][component]` are the seconds in which it served, wasted ones included.
    """
    _pairs(runs, arrived)
    if service is not None:
        _pairs(runs, service)
    rows = []
    for name in sorted({name for run in runs for name in run.calls}):
        each = [run.calls.get(name, Calls()) for run in runs]
        totals = Calls(**{field.name: sum(getattr(one, field.name) for one in each) for field in fields(Calls)})
        attempts = [one.attempts for one in each]
        wasted = no_estimate(confidence, "service not known")
        if service is not None:
            served = [one.get(name, 0.0) for one in service]
            over = [s for s, one in zip(served, each, strict=True) if one.wasted > s * (1 + 1e-9)]
            if over:
                raise ConservationError(f"{name}: more service was wasted than the {over[0]:g} s it served")
            wasted = amplification([one.wasted for one in each], served, confidence)
        rows.append(
            CallRow(
                name,
                totals,
                amplification(attempts, [one.calls for one in each], confidence),
                amplification(attempts, arrived, confidence),
                _radius([one.failed for one in each], attempts, confidence),
                _radius([one.rejected for one in each], [one.calls for one in each], confidence),
                wasted,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-np.nan_to_num(row.amplification.value), row.component)))
