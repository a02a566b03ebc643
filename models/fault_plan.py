"""The faults of a system: which components each strikes, its clocks, and what they did to each task.

Leaves out: what a fault does to a call (`condition`), and to a whole task (`recovery`).
Checked: tests/test_incidents.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.incidents import DEGRADED, FAILED, HARMLESS, RECOVERED, Calls, Harm, Strike
from ..sim.engine.ledger import Task
from .chance import Drawn
from .condition import Active, Condition
from .context import WASTED, WRONG
from .fault_clock import FaultClock
from .faults import Chance, Fault
from .link_faults import LinkCondition
from .replica_faults import ModelCondition

if TYPE_CHECKING:
    from .scenario import Scenario
    from .system import System

__all__ = ["FaultPlan", "Spoiled", "TaskHarm", "struck_by"]

KINDS: dict[str, type[Condition]] = {"network": LinkCondition, "models": ModelCondition}
SECTIONS = ("tools", "retrievers", "memories", "models", "encoders")


class Spoiled:
    """An output that is wrong: the strike, and where the task was then, to know what is lost if it is found."""

    __slots__ = ("first", "lane", "parts", "strike")

    def __init__(self, strike: Strike, branch: Branch) -> None:
        self.strike = strike
        self.lane = branch.lane
        self.parts = branch.parts[:]
        self.first = branch.mark()


class TaskHarm:
    """What went wrong for one task so far."""

    __slots__ = ("delays", "fatal", "paths", "seconds", "spoiled", "struck")

    def __init__(self) -> None:
        self.struck: list[Strike] = []  # open, and left by the calls that they struck
        self.fatal: list[Strike] = []  # those of the failure under way
        self.spoiled: list[Spoiled] = []
        self.delays: dict[int, float] = {}  # seconds of waiting, by cause
        self.seconds: dict[int, float] = {}  # of recovery, by cause
        self.paths: dict[int, str] = {}  # by cause: how it came to the task


class FaultPlan:
    """The faults of one run that can do anything, put together."""

    def __init__(self, system: "System") -> None:
        self.system = system
        self.incidents = system.incidents
        self.conditions: dict[str, Condition] = {}
        self.clocks: list[FaultClock] = []
        self.service: dict[int, Calls] = {}  # by the account of a component's work: the counts of its calls
        self.active: dict[str, dict[str, Active]] = {}  # by the name of the fault, and the component
        problems, bit = system.scenario.workload.problems, 0
        for name, spec in active_faults(system.scenario).items():
            cause = self.incidents.cause(name, spec.effect, injected=True)
            chance, self.active[name] = _chance(spec), {}
            for path in struck_by(system.scenario, spec):
                drawn = None if chance is None else Drawn(system.draws, f"faults.{name}/{path}", chance, problems, bit)
                self.active[name][path] = Active(name, spec, cause, drawn)
                bit += 1

    def of(self, path: str) -> Iterator[Active]:
        """Yield the faults that strike a component."""
        for there in self.active.values():
            if path in there:
                yield there[path]

    def condition(self, path: str, recovery: int) -> Condition:
        """Return the condition of a component, made once; `recovery` is the account of waiting for what never comes."""
        if path not in self.conditions:
            kind = KINDS.get(path.partition(".")[0], Condition)
            self.conditions[path] = made = kind(self.system, path, recovery)
            for fault in self.of(path):
                if not fault.spec.comes_and_goes:
                    made.begin(fault)
        return self.conditions[path]

    def start(self) -> None:
        """Let the clocks run, once all components are made; a component that nothing calls has no condition, and is not struck."""
        for name, there in self.active.items():
            struck = [(self.conditions[path], fault) for path, fault in there.items() if path in self.conditions]
            spec = self.system.scenario.faults[name]
            if spec.comes_and_goes and spec.each == "component" and struck:
                self.clocks.append(self._clock(name, spec, struck))
            for condition, fault in struck if spec.each == "replica" else ():
                if isinstance(condition, ModelCondition):
                    self.clocks += condition.clocks(fault)
        for clock in self.clocks:
            clock.start()

    def _clock(self, name: str, spec: Fault, struck: list[tuple[Condition, Active]]) -> FaultClock:
        def begins(_now: float) -> None:
            self.incidents.occurrences[struck[0][1].cause] += 1
            for condition, fault in struck:
                condition.begin(fault)

        def ends(now: float) -> None:
            for condition, fault in struck:
                condition.end(fault)
            self._look(now)

        return FaultClock(self.system.sim, self.system.draws, name, spec, begins, ends)

    def _look(self, now: float) -> None:
        """Stop where nothing is wrong, and nothing under way but clocks: who is there waits for ever, and the run must end to tell."""
        if len(self.system.sim._queue) <= len(self.clocks) and not any(clock.active for clock in self.clocks):
            self.stop(now)

    def stop(self, now: float) -> None:
        """The run is over: nothing begins any more."""
        for clock in self.clocks:
            clock.stop(now)
        for condition in self.conditions.values():
            condition.finish(now)

    # What faults did to tasks

    def harm(self, task: Task) -> TaskHarm:
        """Return the record of a task."""
        if task.harm is None:
            task.harm = TaskHarm()
        found: TaskHarm = task.harm
        return found

    def leave(self, branch: Branch) -> None:
        """A call was given up with its branch, or its task: what struck it comes to what becomes of the task."""
        if branch.struck and branch.task.tail is not None:  # the task has ended before, and only this branch ran on
            self.incidents.settle(branch.struck, HARMLESS, branch.time)
        elif branch.struck:
            self.harm(branch.task).struck += branch.struck
            branch.struck = []

    def degrade(self, branch: Branch) -> None:
        """A call failed for good, and the task goes on without."""
        harm: TaskHarm | None = branch.task.harm
        if harm is not None:
            self.incidents.settle(harm.fatal, DEGRADED, branch.time)
            harm.fatal = []

    def throw_away(self, branch: Branch, before: list[float]) -> None:
        """A task goes back to when its parts were `before`: the service that it was given since is wasted."""
        for account, calls in self.service.items():
            seconds = branch.parts[account] - before[account]
            if seconds > 0:
                calls.useful -= seconds
                calls.wasted += seconds
                branch.facts[WASTED] += seconds

    def spoil(self, branch: Branch, cause: int, path: str) -> None:
        """What a component gave a task is wrong, and nothing says so."""
        strike = self.incidents.strike(cause, branch.index, branch.lane, branch.time, path)
        self.harm(branch.task).spoiled.append(Spoiled(strike, branch))

    def delay(self, branch: Branch, cause: int, seconds: float, path: str) -> None:
        """A task waited in a queue because of a cause."""
        harm = self.harm(branch.task)
        harm.delays[cause] = harm.delays.get(cause, 0.0) + seconds
        harm.paths.setdefault(cause, f"{self.incidents.causes[cause].name} -> {path} -> backlog")

    def lost(self, branch: Branch, cause: int, seconds: float, path: str) -> None:
        """A task lost time because of a cause: an attempt, a wait before another."""
        harm = self.harm(branch.task)
        harm.seconds[cause] = harm.seconds.get(cause, 0.0) + seconds
        harm.paths[cause] = path

    def redone(self, branch: Branch, found: bool, recovery: int) -> None:
        """Work is rejected and made again: what was wrong in it is no more. If it was `found`, what was done since is lost."""
        harm: TaskHarm | None = branch.task.harm
        if harm is None or not harm.spoiled:
            return
        spoiled, harm.spoiled = harm.spoiled, []
        first = spoiled[0]
        if found and first.lane == branch.lane:
            before = sum(branch.parts) - sum(first.parts)
            branch.lose(first.parts, first.first, recovery)
            path = (
                f"{self.incidents.causes[first.strike.cause].name} -> {first.strike.component} -> found and made again"
            )
            self.lost(branch, first.strike.cause, before, path)
        harm.struck += [one.strike for one in spoiled]

    def close(self, branch: Branch, failure: str | None) -> None:
        """A task has ended, at its local time: settle what struck it, and keep what it was."""
        harm: TaskHarm | None = branch.task.harm
        if harm is None and failure is None:
            return
        harm = self.harm(branch.task)
        now, incidents = branch.time, self.incidents
        wrong = [one.strike for one in harm.spoiled]
        if failure is None and wrong:
            branch.facts[WRONG] = 1.0
            for strike in wrong:
                name = f"{incidents.causes[strike.cause].name} -> {strike.component} -> never found"
                harm.paths[strike.cause] = name
        incidents.settle(wrong, FAILED if failure is None else HARMLESS, now)
        incidents.settle(harm.fatal, RECOVERED if failure is None else FAILED, now)
        incidents.settle(harm.struck, RECOVERED if failure is None else HARMLESS, now)
        self._keep(branch, harm, failure, wrong)

    def _keep(self, branch: Branch, harm: TaskHarm, failure: str | None, wrong: list[Strike]) -> None:
        lost = sum(branch.parts[account] for account in self.system.recovery_accounts)
        delayed = sum(harm.delays.values())
        fatal = harm.fatal if failure is not None else wrong
        if fatal:
            cause = fatal[0].root
        else:
            cost = {
                cause: harm.seconds.get(cause, 0.0) + harm.delays.get(cause, 0.0)
                for cause in (*harm.seconds, *harm.delays)
            }
            cause = max(cost, key=lambda one: (cost[one], -one)) if cost else -1
        path = harm.paths.get(cause, self.incidents.causes[cause].name) if cause >= 0 else failure or ""
        task = branch.task
        failed = failure is not None or bool(wrong)
        self.incidents.harms.append(Harm(task.index, task.arrival, branch.time, failed, cause, path, lost, delayed))


def active_faults(scenario: "Scenario") -> dict[str, Fault]:
    """Return the faults of a scenario that can do anything."""
    return {name: fault for name, fault in scenario.faults.items() if not fault.never}


def struck_by(scenario: "Scenario", fault: Fault) -> tuple[str, ...]:
    """Return the paths of the components that a fault strikes: of a node all that are called there, of a link its directions."""
    found: list[str] = []
    for path in fault.on:
        kind, _, name = path.partition(".")
        if kind == "nodes":
            found += on_node(scenario, name)
        elif kind == "network" and "<->" in name:
            a, _, b = name.partition("<->")
            found += [f"network.{a}->{b}", f"network.{b}->{a}"]
        else:
            found.append(path)
    return tuple(dict.fromkeys(found))


def on_node(scenario: "Scenario", node: str) -> list[str]:
    """Return the paths of the called components that run on a node."""
    home = scenario.orchestrator.node
    found = []
    for kind in SECTIONS:
        for name, spec in getattr(scenario, kind).items():
            own: Any = getattr(spec, "node", None)
            if kind == "encoders" and spec.model in scenario.models:
                own = scenario.models[spec.model].node
            if (own or home) == node:
                found.append(f"{kind}.{name}")
    return found


def _chance(spec: Fault) -> Chance | None:
    """Return the chance of what is drawn for each call."""
    if spec.overload is not None:
        return Chance(rate=spec.overload.rate)
    chance = getattr(spec, spec.effect)
    return chance if isinstance(chance, Chance) else None
