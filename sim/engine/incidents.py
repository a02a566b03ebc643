"""Incidents: what went wrong in a run, whom it struck, and what became of it.

A `Strike` is one cause that struck one task once. It is open until something is known to have come of it, and then has exactly
one outcome; at the end of its task, or of the run, the rest is settled. So the strikes of a cause are the sum of their outcomes.

A cause need not be a fault that the scenario injects: a full queue, a rate limit or a timeout under load are causes by themselves.

Leaves out: what strikes, and what is done about it (the models do that); statistics (`sim.analysis.reliability`).
Checked: tests/test_incidents.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

RECOVERED, DEGRADED, FAILED, HARMLESS, OPEN = range(5)
OUTCOMES = ("recovered", "degraded", "failed", "harmless", "open")
"""The work went on as if nothing had been; with less than was asked for; the task failed, or is wrong; nobody needed it; not ended."""

EXAMPLES = 20  # strikes kept of each cause, with all they tell


@dataclass(frozen=True, slots=True)
class Cause:
    """What can go wrong: its name, the kind of it (an effect of a fault, or `load`), and whether the scenario injects it."""

    name: str
    kind: str
    injected: bool


class Strike:
    """A cause that struck a task, at `time` (s), at a component. `outcome` is None while it is open.

    A `mild` one does not make a call fail: it only takes longer. `root` is the cause without which it would not be: of a timeout
    in the backlog of an outage, that outage; else the cause itself.
    """

    __slots__ = ("cause", "component", "lane", "mild", "outcome", "resolved", "root", "task", "time")

    def __init__(self, cause: int, task: int, lane: int, time: float, component: str) -> None:
        self.cause = cause
        self.root = cause
        self.task = task
        self.lane = lane
        self.time = time
        self.component = component
        self.outcome: int | None = None
        self.resolved = 0.0
        self.mild = False


@dataclass(frozen=True, slots=True)
class Harm:
    """A task that something went wrong for.

    `cause` is the one that cost it most, or failed it (-1: none known); `path` leads from where that struck to what it came to, of
    `->`-separated names; `lost` are seconds of recovery on its critical path, `delayed` those it waited because of a cause, in queues.
    """

    task: int
    arrival: float
    end: float
    failed: bool
    cause: int
    path: str
    lost: float
    delayed: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of a component's state at `time` (s): a cause begins or is over there.

    `kind` is an effect (`down`, `slow` ...), or `backlog`: calls wait there because of the cause, though it struck elsewhere or is over.
    """

    time: float
    component: str
    cause: int
    kind: str
    begins: bool


@dataclass(slots=True)
class Calls:
    """What callers made of the calls of one component.

    `calls` as the workflow asks for them, and `attempts` of them in all; of those `failed`, `timed_out` (among the failed), and
    `hedges`, of which `won`. `rejected` were not attempted: the breaker was open, the bulkhead or the budget full. `wasted` are seconds
    of the component's service on attempts whose answer nobody took, and `useful` on the others.
    """

    calls: int = 0
    attempts: int = 0
    failed: int = 0
    timed_out: int = 0
    hedges: int = 0
    won: int = 0
    rejected: int = 0
    fallbacks: int = 0
    escalations: int = 0
    wasted: float = 0.0
    useful: float = 0.0


@dataclass(slots=True)
class Incidents:
    """The incidents of one run. Plain data once it is over, so that it can be pickled.

    `counts[cause][outcome]` are strikes. `down[component]` are the seconds in which it answered no calls; `replicas[component]` of how
    many replicas it has these are the sum.
    """

    causes: list[Cause] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    occurrences: list[int] = field(default_factory=list)  # of causes that come and go: how often they came
    examples: list[list[Strike]] = field(default_factory=list)
    touched: list[set[int]] = field(default_factory=list)  # by cause: the tasks that it struck
    harms: list[Harm] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    calls: dict[str, Calls] = field(default_factory=dict)
    down: dict[str, float] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def cause(self, name: str, kind: str, injected: bool = False) -> int:
        """Return the number of a cause, new or known by its name."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.causes)
            self.causes.append(Cause(name, kind, injected))
            self.counts.append([0] * len(OUTCOMES))
            self.occurrences.append(0)
            self.examples.append([])
            self.touched.append(set())
        return number

    def of(self, component: str) -> Calls:
        """Return the counts of a component's calls."""
        found = self.calls.get(component)
        if found is None:
            found = self.calls[component] = Calls()
        return found

    def strike(self, cause: int, task: int, lane: int, time: float, component: str) -> Strike:
        """A cause strikes a task; the strike is open."""
        struck = Strike(cause, task, lane, time, component)
        self.counts[cause][OPEN] += 1
        self.touched[cause].add(task)
        if len(self.examples[cause]) < EXAMPLES:
            self.examples[cause].append(struck)
        return struck

    def settle(self, strikes: Iterable[Strike], outcome: int, now: float) -> None:
        """Give an outcome to those of the strikes that are open still."""
        for struck in strikes:
            if struck.outcome is None:
                struck.outcome = outcome
                struck.resolved = now
                counts = self.counts[struck.cause]
                counts[OPEN] -= 1
                counts[outcome] += 1

    def injected(self, cause: int) -> int:
        """Return how often a cause struck, whatever became of it."""
        return sum(self.counts[cause])
