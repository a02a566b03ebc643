"""What goes wrong on links: messages that are lost, duplicated or slow, and links that are down (partitions).

A message that is lost is sent again after a timeout (`network.retransmit`), which doubles each time, up to `LONGEST`. On a link that is
down all messages are lost, those under way among them: one gets through with its first retransmission after that, unless whoever
waits for it gives up first. So it does not matter here what `down` says of calls.

Every link on a message's way does this by itself. What a message waits for that is `recovery` on the link.

Leaves out: bandwidth that a lost message took, acknowledgements, fast retransmit (a loss is only noticed by the timeout), what of a
message was through already (it is sent again whole), a connection that is given up; a loss while connecting.
Checked: tests/test_link_faults.py, against closed forms.
Source: RFC 6298, 5.5 and 2.5 (doubling, and its limit); Linux, include/net/tcp.h: TCP_RTO_MIN 200 ms, TCP_RTO_MAX 120 s.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Branch
from ..sim.engine.draws import lane as lane_of
from ..sim.engine.incidents import DEGRADED, HARMLESS, RECOVERED, Strike
from .condition import Active, Condition
from .context import BYTES

if TYPE_CHECKING:
    from .system import System

__all__ = ["LONGEST", "LinkCondition", "LinkFaults"]

LONGEST = 120.0  # s between two retransmissions
_AGAIN = 0x6C696E6B  # the fork of the lanes in which retransmissions draw

Script = Generator[None, Any, None]
Over = Callable[[float, bool], Script]
"""Takes a message over the link, so many times slower, and maybe twice."""


class Broken(Exception):
    """The link goes down while a message is on it."""

    def __init__(self, cause: int) -> None:
        super().__init__(cause)
        self.cause = cause


class LinkCondition(Condition):
    """The condition of one direction of a link. Nothing is refused there, and nobody stands in a queue that it could be blamed for."""

    def begin(self, fault: Active) -> None:
        """A fault begins here, now: what is on a link that goes down is lost."""
        super().begin(fault)
        if fault.effect != "down":
            return
        broken, self.present = list(self.present), {}
        for branch in broken:
            if not branch.over:
                branch.interrupt(Broken(fault.cause))

    def _lose(self, fault: Active) -> None:
        """Messages that are lost are sent again; see `begin`."""

    def _blame(self, cause: int) -> None:
        """No queue, no blame."""


class LinkFaults:
    """What goes wrong with the messages of one channel on one link; the condition of the link is that of all its channels."""

    def __init__(self, system: "System", path: str, channel: str) -> None:
        condition = system.condition(path, system.ledger.account("recovery", path))
        assert isinstance(condition, LinkCondition)
        self.condition = condition
        self.system = system
        self.incidents = system.incidents
        self.retransmit = system.scenario.network.retransmit
        # Each channel draws by itself: the ordinals of its messages are those of its caller's calls.
        self.chances = {
            fault.name: fault.chance.drawn_as(system.draws, f"faults.{fault.name}/{path}/{channel}")
            for fault in system.plan.of(path)
            if fault.chance is not None
        }

    @classmethod
    def of(cls, system: "System", path: str, channel: str) -> "LinkFaults | None":
        """Return what goes wrong on a link; None where nothing ever does."""
        return cls(system, path, channel) if any(system.plan.of(path)) else None

    @property
    def slowness(self) -> float:
        """By how much a message that is sent now is slower."""
        return self.condition.slowness

    def bring(self, branch: Branch, ordinal: int, wire: float, over: Over) -> Script:
        """Get a message of `wire` bytes over the link, however often it has to be sent."""
        yield from settled(branch)
        strikes: list[Strike] = []
        guarded, number, timeout = branch.struck is not None, 0, self.retransmit
        try:
            while True:
                sent = branch.time
                cause = yield from self._lost(branch, ordinal, number)
                if cause is None:
                    cause = yield from self._passes(branch, ordinal, wire, over)
                if cause is None:
                    break
                strikes.append(self._strike(branch, cause))
                timeout = yield from self._wait(branch, sent, timeout, strikes)
                number += 1
                branch.facts[BYTES] += wire
                self._blame(branch, strikes[-1].cause, branch.time - sent)
        except BaseException:
            if not guarded:
                self._leave(branch, strikes)
            raise
        self.incidents.settle(strikes, RECOVERED, branch.time)

    def _lost(self, branch: Branch, ordinal: int, number: int) -> Generator[None, Any, int | None]:
        """Return the cause by which the `number`-th transmission (from 0) of a message that is sent now is lost; None: it is not."""
        here = self.condition.here
        if here.get("down"):
            return here["down"][-1].cause
        lane = lane_of(branch.lane, _AGAIN, ordinal, 0) if number else branch.lane
        for fault in here.get("lost", ()):
            chance = self.chances[fault.name]
            if chance.hits(branch, number - 1 if number else ordinal, lane):
                if chance.mean == 1 and not fault.spec.comes_and_goes:
                    self._strike(branch, fault.cause)
                    yield from self.condition.vanish(branch)
                return fault.cause
        return None

    def _passes(self, branch: Branch, ordinal: int, wire: float, over: Over) -> Generator[None, Any, int | None]:
        """Take a message over the link; return the cause by which that went down meanwhile, None if it got through."""
        condition, twice = self.condition, False
        for fault in condition.here.get("slow", ()):
            strike = self._strike(branch, fault.cause, mild=True)
            if branch.struck is None:
                self.incidents.settle([strike], DEGRADED, branch.time)
        for fault in condition.here.get("duplicated", ()):
            if self.chances[fault.name].hits(branch, ordinal):
                twice = True
                # Whoever receives it drops the copy: no call fails by it.
                harmless = self.incidents.strike(fault.cause, branch.index, branch.lane, branch.time, condition.path)
                self.incidents.settle([harmless], HARMLESS, branch.time)
                branch.facts[BYTES] += wire
        before, first, at, span = branch.parts[:], branch.mark(), branch.time, branch.span
        try:
            with condition.holding(branch):
                yield from over(condition.slowness, twice)
                yield from settled(branch)
        except Broken as broken:
            branch.span = span
            branch.cut_off(before, first, condition.void.account, at, branch.sim.now)
            return broken.cause
        return None

    def _wait(self, branch: Branch, sent: float, timeout: float, strikes: list[Strike]) -> Generator[None, Any, float]:
        """Wait for the retransmission of what was lost after it was `sent`, when the link is up; return the timeout after that."""
        condition = self.condition
        due, timeout = sent + timeout, min(2 * timeout, LONGEST)
        while True:
            while condition.here.get("down"):
                cause = condition.here["down"][-1].cause
                if cause != strikes[-1].cause:
                    strikes.append(self._strike(branch, cause))
                yield from condition.stand_by(branch)
            while due < branch.time:  # those were lost, too
                due, timeout = due + timeout, min(2 * timeout, LONGEST)
            yield from self._sleep(branch, due)
            if not condition.here.get("down"):
                return timeout

    def _sleep(self, branch: Branch, until: float) -> Script:
        """Wait until then, on the clock, so that who is taken out of it has waited just so long."""
        since, void = branch.time, self.condition.void
        if until <= since:
            return
        void.enter(branch)
        wait = branch.wait
        wait.callbacks = (wait.resume,)
        branch.sim.schedule_at(until, wait)
        yield
        branch.wait.holder = None
        branch.book(void.account, since, until)

    # What came of it

    def _strike(self, branch: Branch, cause: int, mild: bool = False) -> Strike:
        """A cause strikes a message; where there is a guard around the call, it may have to know."""
        path = self.condition.path
        strike = self.incidents.strike(cause, branch.index, branch.lane, branch.time, path)
        strike.mild = mild
        if branch.struck is not None:
            branch.struck.append(strike)
        return strike

    def _blame(self, branch: Branch, cause: int, seconds: float) -> None:
        name = self.incidents.causes[cause].name
        self.system.plan.lost(branch, cause, seconds, f"{name} -> {self.condition.path} -> sent again")

    def _leave(self, branch: Branch, strikes: list[Strike]) -> None:
        """Nobody waits for the message any more: what struck it comes to what becomes of the task."""
        if getattr(branch.task, "trunk", None) is None:  # it is over
            self.incidents.settle(strikes, HARMLESS, branch.sim.now)
        elif strikes:
            self.system.plan.harm(branch.task).struck += strikes


def settled(branch: Branch) -> Script:
    """Wait until the clock has come to the branch's time."""
    if branch.time > branch.sim._now:
        branch.settle()
        yield
