"""The condition of a component: what is wrong with it now, and what that does to the calls that come.

A call comes to a component on the clock (its branch settles first), for what happens there depends on what the time is. It may be
refused, wait until an outage is over, never be answered, take longer, or be answered by an error. What strikes a call is kept with
the branch until the guard around the call knows what has come of it.

A cause is to blame for waiting in a component's queue from when it begins there, or when calls come that would not be made without
it (retries, hedges, fallbacks) while others wait, until nobody waits there and it is over.

Leaves out: replicas that fail one by one; a refusal that takes time of its own.
Checked: tests/test_condition.py, tests/test_incidents.py.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch, Wait
from ..sim.engine.incidents import Strike, Turn
from .chance import Drawn
from .failure import CallFailed

if TYPE_CHECKING:
    from .faults import Fault, Overload
    from .system import System

__all__ = ["Active", "Condition", "Void"]

Script = Generator[None, Any, None]


class Void:
    """Where a branch waits for an answer that never comes: until somebody takes it out."""

    endless = True  # nothing there goes on by itself

    def __init__(self, name: str, account: int) -> None:
        self.name = name
        self.account = account

    def enter(self, branch: Branch) -> None:
        """Begin to wait, at local time; the script yields after the call."""
        wait = branch.wait
        wait.arrived, wait.holder, wait.callbacks = branch.time, self, None

    def open_parts(self, wait: Wait, now: float) -> list[tuple[int, float, float]]:
        """Return (account, start, end) of the wait until `now`; it may have begun ahead of the clock."""
        return [(self.account, wait.arrived, max(wait.arrived, now))]

    def cancel(self, wait: Wait) -> None:
        """Nobody waits any more."""
        wait.holder = None


class Active:
    """A fault at one component while it is there: its number among the causes, and its draws, where it has a chance."""

    __slots__ = ("cause", "chance", "effect", "name", "spec")

    def __init__(self, name: str, spec: "Fault", cause: int, chance: Drawn | None) -> None:
        self.name = name
        self.spec = spec
        self.effect = spec.effect
        self.cause = cause
        self.chance = chance


class Condition:
    """What is wrong with one component, and who is there. `pool` is its queue, where it has one."""

    def __init__(self, system: "System", path: str, recovery: int) -> None:
        self.system = system
        self.sim = system.sim
        self.incidents = system.incidents
        self.path = path
        self.void = Void(path, recovery)
        self.pool: Any = None
        self.here: dict[str, list[Active]] = {}  # by effect
        self.present: dict[Branch, None] = {}  # calls at the component, in the order they came
        self.outside: dict[Branch, None] = {}  # and those that wait for the end of an outage
        self.slowness = 1.0
        self.down_since = 0.0
        self.blamed: int | None = None  # the cause that calls wait for
        self.stays = False  # it is there still, so that it stays to blame

    # What comes and goes

    def begin(self, fault: Active) -> None:
        """A fault begins here, now."""
        now = self.sim.now
        first = not self.here.get("down")
        self.here.setdefault(fault.effect, []).append(fault)
        self._changed(fault, True)
        if fault.effect == "slow":
            self._slow()
        if fault.effect == "down":
            if first:
                self.down_since = now
            if fault.spec.down in ("refuse", "hang"):
                self._lose(fault)

    def end(self, fault: Active) -> None:
        """A fault is over here, now."""
        now = self.sim.now
        self.here[fault.effect].remove(fault)
        self._changed(fault, False)
        if fault.effect == "slow":
            self._slow()
        if fault.effect == "down" and not self.here["down"]:
            down = self.incidents.down
            down[self.path] = down.get(self.path, 0.0) + now - self.down_since
            self._reopen()

    def _reopen(self) -> None:
        """An outage is over: who waited for that goes on."""
        waiting, self.outside = self.outside, {}
        for branch in waiting:
            branch.time = self.sim.now
            branch.settle()

    def finish(self, now: float) -> None:
        """The run is over: count the outage that there is."""
        if self.here.get("down"):
            down = self.incidents.down
            down[self.path] = down.get(self.path, 0.0) + max(0.0, now - self.down_since)
            self.down_since = now  # it may be told twice that a run is over

    def _changed(self, fault: Active, begins: bool) -> None:
        if fault.spec.comes_and_goes:
            self.incidents.turns.append(Turn(self.sim.now, self.path, fault.cause, fault.effect, begins))
            self.stays = begins or any(one.spec.comes_and_goes for there in self.here.values() for one in there)
            if begins:
                self._blame(fault.cause)

    def _slow(self) -> None:
        self.slowness = 1.0
        for fault in self.here["slow"]:
            self.slowness *= float(fault.spec.slow or 1.0)

    def _lose(self, fault: Active) -> None:
        """The component goes down: the calls that are there are lost."""
        for branch in list(self.present):
            if branch.over or branch not in self.present:  # it was lost with another one
                continue
            self.strike(branch, fault.cause)
            if fault.spec.down == "refuse":
                lost = CallFailed("refused", f"{self.path}: down")
                lost.over = self.sim.now
                branch.interrupt(lost)
            else:  # what is lost is not told
                branch.interrupt(Vanished(self))

    # Calls

    def strike(self, branch: Branch, cause: int, mild: bool = False) -> Strike:
        """A cause strikes a call; the guard of the call settles what comes of it."""
        strike = self.incidents.strike(cause, branch.index, branch.lane, branch.time, self.path)
        strike.mild = mild
        if branch.struck is None:
            branch.struck = []
        branch.struck.append(strike)
        return strike

    def admit(self, branch: Branch, ordinal: int) -> Generator[None, Any, float]:
        """Let a call come, at its local time; return the factor of the time that it takes. Raises CallFailed where it is refused."""
        if branch.time > self.sim._now:
            branch.settle()
            yield
        here = self.here
        if here:
            if here.get("down"):
                yield from self._at_the_door(branch)
            for fault in here.get("overload", ()):
                self._overloaded(branch, ordinal, fault)
            for fault in here.get("hang", ()):
                if fault.chance is not None and fault.chance.hits(branch, ordinal):
                    self.strike(branch, fault.cause)
                    yield from self.vanish(branch)
            for fault in here.get("slow", ()):
                self.strike(branch, fault.cause, mild=True)
        self._look(branch)
        return self.slowness

    def _at_the_door(self, branch: Branch) -> Script:
        """The component is down: be refused, or wait."""
        while self.here.get("down"):
            fault = self.here["down"][-1]
            mode = fault.spec.down
            if mode != "wait":
                self.strike(branch, fault.cause)
                if mode == "hang":
                    yield from self.vanish(branch)
                raise CallFailed("refused", f"{self.path}: down")
            self.strike(branch, fault.cause, mild=True)
            yield from self.stand_by(branch)

    def stand_by(self, branch: Branch) -> Script:
        """Wait until the outage is over."""
        self.outside[branch] = None
        since = branch.time
        self.void.enter(branch)
        try:
            yield
        finally:
            self.outside.pop(branch, None)
        branch.wait.holder = None
        now, branch.time = branch.time, since
        branch.book(self.void.account, since, now)

    def _overloaded(self, branch: Branch, ordinal: int, fault: Active) -> None:
        """Refuse a call, maybe, if too many are there."""
        spec: Overload | None = fault.spec.overload
        assert spec is not None
        if len(self.present) <= spec.above or fault.chance is None or not fault.chance.hits(branch, ordinal):
            return
        self.strike(branch, fault.cause)
        raise CallFailed("overload", f"{self.path}: overloaded")

    def vanish(self, branch: Branch) -> Script:
        """Wait for an answer that never comes."""
        self.void.enter(branch)
        yield
        raise AssertionError(f"{self.path} answered a call that it never would")

    @contextmanager
    def holding(self, branch: Branch) -> Iterator[None]:
        """The call is at the component: if that goes down, it is lost."""
        self.present[branch] = None
        try:
            yield
        finally:
            self.present.pop(branch, None)

    def answers(self, branch: Branch, ordinal: int) -> bool:
        """Whether the call is answered, and not by an error."""
        for fault in self.here.get("error", ()):
            if fault.chance is not None and fault.chance.hits(branch, ordinal):
                self.strike(branch, fault.cause)
                return False
        return True

    def spoils(self, branch: Branch, ordinal: int) -> None:
        """The output may be wrong, and nothing says so."""
        for fault in self.here.get("bad_output", ()):
            if fault.chance is not None and fault.chance.hits(branch, ordinal):
                self.system.plan.spoil(branch, fault.cause, self.path)

    # Who is to blame for waiting

    def _look(self, branch: Branch) -> None:
        """Note what a call finds when it comes: a queue, and whether it comes because of something that went wrong elsewhere."""
        pool = self.pool
        waiting = pool is not None and pool.waiting > 0
        if self.blamed is not None and not waiting and not self.stays:
            self.incidents.turns.append(Turn(self.sim.now, self.path, self.blamed, "backlog", False))
            self.blamed = None
        elif self.blamed is None and waiting and branch.because is not None:
            self._blame(branch.because)

    def _blame(self, cause: int) -> None:
        if self.blamed != cause:
            now = self.sim.now
            if self.blamed is not None:
                self.incidents.turns.append(Turn(now, self.path, self.blamed, "backlog", False))
            self.blamed = cause
            self.incidents.turns.append(Turn(now, self.path, cause, "backlog", True))

    def waited(self, branch: Branch, seconds: float) -> None:
        """A call has waited so long in the queue here: whoever is to blame for it delayed the task."""
        if seconds > 0 and self.blamed is not None:
            self.system.plan.delay(branch, self.blamed, seconds, self.path)


class Vanished(Exception):
    """The call was lost with the component, and nobody tells: whoever made it waits for ever, or as long as it has patience."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition.path)
        self.condition = condition
