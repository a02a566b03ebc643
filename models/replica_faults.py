"""The condition of a model, whose replicas may fail one by one, and what that does to its server.

While a replica is down the others go on: of a served model the router passes it over, of a station the slots are fewer. With it the
calls that it serves are lost, unless it is drained. With the last of them the model is down.
A server that crashes (`down: refuse` or `hang`), or is deployed anew (`drain`), comes back with an empty KV cache.

A station does not tell which of its slots are whose: those it serves are dealt out to the replicas that are up, in the order in
which they came, so that each has its share.

Leaves out: the time until a replica that is back is as fast as before, beyond its empty cache. With autoscaling a place that a replica
has left may be taken by another, which begins its life up; and a model of which none is up stays down until one is back.
Checked: tests/test_replica_faults.py.
"""

from typing import TYPE_CHECKING, Protocol

from ..sim.engine.branch import Branch
from ..sim.engine.incidents import Turn
from ..sim.engine.pool import Pool
from .condition import Active, Condition, Vanished
from .failure import CallFailed
from .fault_clock import FaultClock
from .llm import Llm

if TYPE_CHECKING:
    from .system import System

__all__ = ["ModelCondition", "Replicas", "Station"]

CRASHES = ("refuse", "hang")


class Replicas(Protocol):
    """The replicas of a server, numbered from 0."""

    count: int

    @property
    def up(self) -> bool:
        """Whether there are enough of them to serve a call."""
        ...

    def serves(self, number: int, branch: Branch) -> bool:
        """Whether a replica serves the call of a branch that is at the model."""
        ...

    def leave(self, number: int) -> None:
        """A replica takes no more calls."""
        ...

    def come_back(self, number: int) -> None:
        """A replica takes calls again."""
        ...

    def empty(self, number: int | None, crash: bool) -> None:
        """A replica (None: all) loses what it has cached; after a `crash` nothing of it is left."""
        ...


class ModelCondition(Condition):
    """The condition of a model. `replicas` are those of its server; a hosted model has none."""

    def __init__(self, system: "System", path: str, recovery: int) -> None:
        super().__init__(system, path, recovery)
        self.replicas: Replicas | None = None
        self.away: dict[int, list[Active]] = {}  # what is wrong with replicas that are down, by number
        self.gone: Active | None = None  # by which the last of them went down
        self.counts = False  # seconds of replicas, not of the model
        self._seconds = self._since = 0.0

    def clocks(self, fault: Active) -> list[FaultClock]:
        """Return the clocks of a fault that strikes each replica by itself, once the server is there."""
        replicas = self._all()
        if replicas is None:
            return []
        self.counts = True
        self.incidents.replicas[self.path] = replicas.count
        return [self._clock(fault, number) for number in range(replicas.count)]

    def _clock(self, fault: Active, number: int) -> FaultClock:
        return FaultClock(
            self.sim,
            self.system.draws,
            f"{fault.name}/{self.path}",
            fault.spec,
            lambda _now: self._replica_begins(number, fault),
            lambda _now: self._replica_ends(number, fault),
            number,
        )

    def _all(self) -> Replicas | None:
        spec = self.system.scenario.models[self.path.partition(".")[2]]
        if self.replicas is None and isinstance(spec, Llm) and isinstance(self.pool, Pool):
            self.replicas = Station(self, spec.replicas, spec.concurrency)
        return self.replicas

    # All of it

    def begin(self, fault: Active) -> None:
        """A fault begins here, now."""
        self._count()
        if fault.effect == "evict":
            self._evicted(fault, None)
            return
        super().begin(fault)
        if fault.spec.down in CRASHES and self.replicas is not None:
            self.replicas.empty(None, True)

    def end(self, fault: Active) -> None:
        """A fault is over here, now."""
        self._count()
        super().end(fault)
        if fault.spec.down == "drain" and self.replicas is not None:
            self.replicas.empty(None, False)
        self._tell()

    def finish(self, now: float) -> None:
        """The run is over."""
        self._count()
        super().finish(now)
        self._tell()

    def _changed(self, fault: Active, begins: bool) -> None:
        super()._changed(fault, begins)
        self.stays = self.stays or bool(self.away)

    def _evicted(self, fault: Active, number: int | None) -> None:
        """What is cached is gone at once, and there is no end to wait for."""
        for begins in (True, False):
            self.incidents.turns.append(Turn(self.sim.now, self._name(number), fault.cause, fault.effect, begins))
        self._blame(fault.cause)
        if self.replicas is not None:
            self.replicas.empty(number, False)

    # One replica

    def _name(self, number: int | None) -> str:
        return self.path if number is None else f"{self.path}#{number}"

    def _replica_begins(self, number: int, fault: Active) -> None:
        assert self.replicas is not None
        self.incidents.occurrences[fault.cause] += 1
        if fault.effect == "evict":
            self._evicted(fault, number)
            return
        self._count()
        mode = fault.spec.down
        here = [branch for branch in self.present if self.replicas.serves(number, branch)] if mode in CRASHES else []
        if number not in self.away:
            self.replicas.leave(number)
        self.away.setdefault(number, []).append(fault)
        self._replica_turns(number, fault, True)
        if not self.replicas.up and self.gone is None:
            self.gone = fault
            self.here.setdefault("down", []).append(fault)
            here = list(self.present) if mode in CRASHES else here
        for branch in here:
            if not branch.over:
                self.strike(branch, fault.cause)
                failed = CallFailed("refused", f"{self.path}: replica down")
                branch.interrupt(failed if mode == "refuse" else Vanished(self))
        if mode in CRASHES:
            self.replicas.empty(number, True)

    def _replica_ends(self, number: int, fault: Active) -> None:
        assert self.replicas is not None
        self._count()
        there = self.away[number]
        there.remove(fault)
        if not there:
            del self.away[number]
            if fault.spec.down == "drain":
                self.replicas.empty(number, False)
            self.replicas.come_back(number)
        self._replica_turns(number, fault, False)
        if self.gone is not None and self.replicas.up:
            self.here["down"].remove(self.gone)
            self.gone = None
            if not self.here["down"]:
                self._reopen()

    def _replica_turns(self, number: int, fault: Active, begins: bool) -> None:
        self.incidents.turns.append(Turn(self.sim.now, self._name(number), fault.cause, fault.effect, begins))
        if begins:
            self.stays = True
            self._blame(fault.cause)
        else:
            others = any(one.spec.comes_and_goes for there in self.here.values() for one in there)
            self.stays = bool(self.away) or others

    # Seconds down

    def _count(self) -> None:
        """Count up to now how many replicas were down, all of them where the model was."""
        now = self.sim.now
        if self.counts and self.replicas is not None:
            down = self.replicas.count if self.here.get("down") else len(self.away)
            self._seconds += down * (now - self._since)
        self._since = now

    def _tell(self) -> None:
        if self.counts:
            self.incidents.down[self.path] = self._seconds


class Station:
    """The replicas of a model without a shape: each has so many slots of one pool."""

    def __init__(self, condition: ModelCondition, count: int, slots: int) -> None:
        self.condition = condition
        self.count = count
        self.slots = slots

    @property
    def up(self) -> bool:
        """Whether any of them is up."""
        return len(self.condition.away) < self.count

    def serves(self, number: int, branch: Branch) -> bool:
        """Whether the call of a branch, which is at the model, is dealt out to a replica, which is up."""
        condition = self.condition
        up = [one for one in range(self.count) if one == number or one not in condition.away]
        served = [one for one in condition.present if self._served(one)]
        return branch in served[up.index(number) :: len(up)]

    def _served(self, branch: Branch) -> bool:
        wait = branch.wait
        return wait.holder is self.condition.pool and wait.callbacks is not None  # who stands in line has no event

    def leave(self, number: int) -> None:
        """A replica takes no more calls: its slots are given up as they come free."""
        self._resize(-self.slots)

    def come_back(self, number: int) -> None:
        """A replica takes calls again."""
        self._resize(self.slots)

    def _resize(self, by: int) -> None:
        pool: Pool = self.condition.pool
        assert pool.capacity is not None
        pool.resize(pool.capacity + by)

    def empty(self, number: int | None, crash: bool) -> None:
        """A station holds nothing between calls."""
