"""A session of measurements: in which order, for how long, kept in a record, and what came of it.

Cases are visited in rounds, each in a shuffled order of its own, so that what drifts hits all alike. The first round visits
every case, whatever the budget; later rounds leave out the cases whose median is known well enough, and share what is left
of the budget among the others, the widest intervals first.

All that decides what comes next stands in the record, so a session that goes on from it does what it would have done
without the interruption.

Leaves out: measurements in parallel, which would disturb each other. Stopping a call that hangs.
Checked: tests/test_session.py.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..sim.engine import units
from ..sim.engine.errors import CoordsimError, shorten
from .environment import environment
from .measure import TARGET, HostClock, clock_of, interval, ratios, sample, short, visit
from .probe import Case, Found, Missing, Probe
from .record import Entry, append, key, open_record
from .samples import Points, Sample
from .speed import Sensor, drift, modes, stolen_ticks

__all__ = ["Instruments", "Interrupted", "Progress", "Session", "calibrate", "points"]

_FIRST_SHARE = 0.2  # of the budget, for the first round: what it costs to get ready is not known yet
_LEAST_VISITS = 3  # of a case: visits differ by more than the repetitions of one tell
_PLANNED_ROUNDS = 8
_MOST_ROUNDS = 40
_LEAST_LIMIT = 2e-3  # seconds of a visit
_STOLEN = 0.01  # share of CPU time given to others, above which it is told
_WAITING = 0.05  # share by which wall time may exceed CPU time while the thread computes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is: `done` of `total` cases need no further visit; times are in seconds.

    `eta` is what is left at most, `case` what is measured now ('' at the end), `widest` the largest half-width of a median's
    interval, relative; infinite while a case has none.
    """

    done: int
    total: int
    elapsed: float
    eta: float
    case: str
    widest: float
    round: int


@dataclass(frozen=True, slots=True)
class Session:
    """What was measured, where, what could not be, and what speaks against it."""

    samples: list[Sample]
    environment: dict[str, str]
    doubts: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


class Interrupted(CoordsimError):
    """The user stopped the session; `session` holds what was measured until then."""

    def __init__(self, session: Session, record: Path | None) -> None:
        self.session, self.record = session, record
        remedy = f"go on with --resume: they are in {record}" if record else "they were not recorded"
        super().__init__(f"interrupted; {len(session.samples)} cases were measured; {remedy}")


@dataclass(frozen=True, slots=True)
class Instruments:
    """What a session measures with; tests put others in their place."""

    clock: HostClock = field(default_factory=HostClock)
    sensor: Sensor = field(default_factory=Sensor)
    ticks: Callable[[], tuple[int, int]] = stolen_ticks
    environment: Callable[[str], dict[str, str]] = environment


def calibrate(
    found: Found,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    budget_seconds: float,
    seed: int = 0,
    record: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    instruments: Instruments | None = None,
) -> Session:
    """Measure all cases within a budget, going on from `record` where it exists; `progress` is called before each visit.

    Raises ProfileError where the record is damaged or of another machine, and Interrupted on a keyboard interrupt. A probe
    that fails ends its case, not the session.
    """
    if not 0 < budget_seconds < math.inf:
        raise ValueError(f"`budget_seconds` must be > 0, but got {budget_seconds}")
    using = instruments or Instruments()
    machine = using.environment(device)
    entries, doubts = open_record(record, machine, seed) if record else ([], [])
    run = _Run(_cases(found), device, budget_seconds, seed, using, record)
    for entry in entries:
        run.take(entry)
    try:
        run.rounds(progress or (lambda _progress: None))
    except KeyboardInterrupt:
        raise Interrupted(_session(run, found, machine, doubts), record) from None
    return _session(run, found, machine, doubts)


def _cases(found: Found) -> dict[str, tuple[Probe, Case]]:
    """Return all cases by key. Raises ValueError where two probes have one."""
    cases: dict[str, tuple[Probe, Case]] = {}
    for probe in found.probes:
        for case in probe.cases:
            if key(case) in cases:
                raise ValueError(f"each case must have one probe, but got two for `{case.name}`")
            cases[key(case)] = (probe, case)
    return cases


@dataclass(slots=True)
class _Run:
    """A session under way: what to visit next follows from the entries so far."""

    cases: dict[str, tuple[Probe, Case]]
    device: str
    budget: float
    seed: int
    using: Instruments
    record: Path | None
    entries: list[Entry] = field(default_factory=list)
    of: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    widths: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    turn: int = 0

    def take(self, entry: Entry) -> None:
        """Count an entry in."""
        self.entries.append(entry)
        self.of[entry.key].append(entry)
        self.widths[entry.key] = _width(self.of[entry.key])
        self.elapsed += entry.spent
        self.turn = max(self.turn, entry.turn)

    def rounds(self, tell: Callable[[Progress], None]) -> None:
        """Visit until all is known well enough, or the budget ends."""
        mark = self.using.clock.now()
        for number in range(1, _MOST_ROUNDS + 1):
            plan = self._plan(number)
            if not plan:
                break
            done = {entry.key for entry in self.entries if entry.round == number}
            waiting = [(name, limit) for name, limit in plan if name not in done]
            for place, (name, limit) in enumerate(waiting):
                left = self.budget - self.elapsed
                if number > 1 and self.of[name][-1].least > left:
                    continue
                tell(self._progress(number, name, len(waiting) - place))
                entry, mark = self._visit(number, name, limit if number == 1 else min(limit, left), mark)
                if self.record:
                    append(self.record, entry)
                self.take(entry)
        tell(self._progress(_MOST_ROUNDS, "", 0))

    def _plan(self, number: int) -> list[tuple[str, float]]:
        """Return the cases of a round in their order, each with its limit in seconds; looks at earlier rounds only."""
        if number == 1:
            chosen = list(self.cases)
            limits = [_FIRST_SHARE * self.budget / max(len(chosen), 1)] * len(chosen)
        else:
            chosen, limits = self._widest(number)
        order = np.random.default_rng([self.seed, number]).permutation(len(chosen))
        return [(chosen[place], max(limits[place], _LEAST_LIMIT)) for place in order]

    def _widest(self, number: int) -> tuple[list[str], list[float]]:
        """Return the cases to visit again, as many as the rest of the budget can pay for, and their limits."""
        past = [entry for entry in self.entries if entry.round < number]
        of: dict[str, list[Entry]] = defaultdict(list)
        for entry in past:
            of[entry.key].append(entry)
        left = self.budget - sum(entry.spent for entry in past)
        # A case that nothing was visited of, in a record of other cases, comes with the next session.
        active = [name for name in self.cases if of[name] and _is_open(of[name])]
        active.sort(key=lambda name: -_width(of[name]))
        chosen, least = [], 0.0
        for name in active:
            if least + of[name][-1].least <= left:
                chosen.append(name)
                least += of[name][-1].least
        share = left / max(_PLANNED_ROUNDS + 1 - number, 3) / max(len(chosen), 1)
        return chosen, [max(share, of[name][-1].least) for name in chosen]

    def _visit(self, number: int, name: str, limit: float, mark: float) -> tuple[Entry, float]:
        """Visit a case between two readings of the sensor; return the entry, and the time when all this was over."""
        probe, case = self.cases[name]
        clock = clock_of(probe, self.device, self.using.clock)
        before, ticks = self.using.sensor.read(), self.using.ticks()
        got: dict[str, object] = {}
        try:
            calls = max((entry.calls for entry in self.of[name]), default=0)
            taken = visit(probe, case, clock, limit=limit, turn=self.turn, calls=calls)
            got = {
                field: getattr(taken, field) for field in ("turn", "setup", "calls", "seconds", "cpu_seconds", "warmup")
            }
        except Exception as error:  # noqa: BLE001  # whatever a probe raises: the other cases can still be measured
            got = {"turn": self.turn, "error": shorten(f"{type(error).__name__}: {error}", 200)}
        after, ticks_after, now = self.using.sensor.read(), self.using.ticks(), self.using.clock.now()
        entry = Entry.model_validate({
            "round": number,
            "law": case.law,
            "sizes": dict(case.sizes),
            "spent": short(max(now - mark, 0.0)),
            "spins": (short(before.wall), short(after.wall)),
            "cpu_spins": (short(before.cpu), short(after.cpu)),
            "ticks": tuple(max(b - a, 0) for a, b in zip(ticks, ticks_after, strict=True)),
            **got,
        })  # fmt: skip
        return entry, now

    def _progress(self, number: int, name: str, waiting: int) -> Progress:
        seen = [entries for case, entries in self.of.items() if case in self.cases]
        done = sum(not _is_open(entries) for entries in seen)
        widest = max((self.widths.get(case, math.inf) for case in self.cases), default=0.0)
        left = max(self.budget - self.elapsed, 0.0)
        if number == 1 and self.entries:
            left = max(left, waiting * self.elapsed / len(self.entries))
        case = self.cases[name][1].name if name else ""
        return Progress(done, len(self.cases), self.elapsed, left if name else 0.0, case, widest, number)


def _width(entries: Sequence[Entry]) -> float:
    groups = [entry.seconds for entry in entries if entry.seconds]
    return interval(groups).width if groups else math.inf


def _is_open(entries: Sequence[Entry]) -> bool:
    """Whether a case that was visited wants another visit: it did not fail, and is not known well enough."""
    if any(entry.error for entry in entries):
        return False
    return len(entries) < _LEAST_VISITS or _width(entries) > TARGET


# ---------------------------------------------------------------------------------------------------------------------
# What came of it
# ---------------------------------------------------------------------------------------------------------------------
def _session(run: _Run, found: Found, machine: dict[str, str], doubts: Sequence[str]) -> Session:
    spins = [seconds for entry in run.entries for seconds in entry.spins]
    usual = float(np.median(spins)) if spins else 0.0
    samples = []
    for name, (probe, case) in run.cases.items():
        good = [entry for entry in run.of.get(name, ()) if entry.seconds]
        if good:
            speed = [usual / (sum(entry.spins) / len(entry.spins)) if any(entry.spins) else 1.0 for entry in good]
            samples.append(sample(case, [entry.visit for entry in good], speed, computes=probe.clock == "device"))
    missing, failures = _failed(run)
    stolen, ticks = (sum(entry.ticks[place] for entry in run.entries) for place in (0, 1))
    if ticks:
        machine = {**machine, "steal": f"{stolen / ticks:.2%} during the session"}
    told = [*doubts, *failures, *_budget(run, len(samples)), *_machine(run, spins, stolen / ticks if ticks else 0.0)]
    return Session(samples, machine, tuple(told), (*found.missing, *missing))


def _failed(run: _Run) -> tuple[list[Missing], list[str]]:
    """Return the laws of which no case could be measured, and a sentence for each law of which some could not."""
    by_law: dict[str, list[str]] = defaultdict(list)
    for name, (_, case) in run.cases.items():
        by_law[case.law].append(name)
    missing, doubts = [], []
    for law, names in by_law.items():
        failed = {name: entry.error for name in names for entry in run.of.get(name, ()) if entry.error}
        if not failed:
            continue
        first, error = next(iter(failed.items()))
        if len(failed) == len(names) and not any(entry.seconds for name in names for entry in run.of[name]):
            missing.append(Missing(law, error))
        else:
            where = run.cases[first][1].name
            doubts.append(
                f"{len(failed)} of {len(names)} cases of `{law}` failed, and their law goes without; {where}: {error}"
            )
    return missing, doubts


def _budget(run: _Run, measured: int) -> Iterator[str]:
    """Yield whether the budget was kept, and whether it was enough."""
    budget, remedy = units.format(run.budget, units.DURATION), f"give --budget {max(2 * run.budget / 60, 1):.0f}m"
    if run.elapsed > 1.02 * run.budget:
        over = units.format(run.elapsed - run.budget, units.DURATION)
        yield f"the session took {over} more than its budget of {budget}: every case is measured once; {remedy}"
    absent = [name for name in run.cases if not run.of.get(name)]
    if absent:
        yield f"{len(absent)} of {len(run.cases)} cases were not measured; let the session end"
    strange = sum(name not in run.cases for name in run.of)
    if strange:
        yield f"the record holds {strange} cases that are not asked for now; they are left out"
    wide = sum(run.widths[name] > TARGET for name in run.cases if any(entry.seconds for entry in run.of.get(name, ())))
    if wide:
        yield f"the median of {wide} of {measured} cases is not known within ±{TARGET:.0%}; {remedy}, or close other programs"


def _machine(run: _Run, spins: Sequence[float], stolen: float) -> Iterator[str]:
    """Yield what the sensor says of the machine."""
    if change := drift(spins):
        word = "slower" if change > 0 else "faster"
        yield (
            f"the machine became {abs(change):.0%} {word} over the session; close other programs, let it settle, and "
            "measure again"
        )
    if two := modes(spins):
        yield (
            f"the machine ran at two speeds, {two.high / two.low - 1:.0%} apart, for {two.share:.0%} of the time at the "
            "slower; close other programs, or fix the clock rate"
        )
    if stolen > _STOLEN:
        yield f"{stolen:.1%} of the CPU time went to other guests of the host; measure on a machine of its own"
    cpu = sum(sum(entry.cpu_spins) for entry in run.entries)
    wall = sum(sum(entry.spins) for entry in run.entries)
    if cpu > 0 and wall > (1 + _WAITING) * cpu:
        yield f"the thread waited for a core for {1 - cpu / wall:.0%} of the time it computed; close other programs"


def points(samples: Sequence[Sample]) -> list[Points]:
    """Return the points of each law, laws and points in the order of the samples; a median of 0 s is left out, and told."""
    by_law: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        by_law[one.case.law].append(one)
    return [_points(group) for group in by_law.values()]


def _points(group: Sequence[Sample]) -> Points:
    good = [one for one in group if one.median > 0]
    case = group[0].case
    doubts = []
    if len(good) < len(group):
        doubts.append(
            f"{len(group) - len(good)} of {len(group)} cases took no time by the clock; their law goes without"
        )
    unstable = [one for one in good if one.doubts]
    if unstable:
        first = unstable[0]
        doubts.append(
            f"{len(unstable)} of {len(good)} cases {'is' if len(unstable) == 1 else 'are'} unstable; "
            f"{first.case.name}: {first.doubts[0]}"
        )
    return Points(
        op=case.op,
        options=dict(case.options),
        sizes={name: np.array([one.case.sizes[name] for one in good], dtype=float) for name in case.sizes},
        seconds=np.array([one.median for one in good]),
        low=np.array([one.low for one in good]),
        high=np.array([one.high for one in good]),
        ratios=tuple(ratios(one) for one in good),
        doubts=tuple(doubts),
    )
