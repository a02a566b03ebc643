"""A line: the way from a caller to the component it calls, and back.

Checked: tests/test_network.py, tests/test_runtime.py.
"""

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.fifo import FifoPool
from ..sim.engine.pool import Pool
from .context import MESSAGES

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch, Wait
    from .guard import Attempt
    from .handling import Handling
    from .network import Channel
    from .system import System


class Line:
    """`request` and `response` channels (None: free of cost), and the tick at which the caller polls, if it does.

    `connect` is what it takes to be connected (s): before `each` call, else before a task's first.
    """

    __slots__ = (
        "connect",
        "connect_account",
        "direct",
        "each",
        "fallback",
        "poll",
        "poll_account",
        "request",
        "response",
        "second",
        "slot",
    )

    def __init__(
        self, request: "Channel | None", response: "Channel | None", poll: float | None, poll_account: int
    ) -> None:
        self.request = request
        self.response = response
        self.poll = poll
        self.poll_account = poll_account
        self.direct = not any(channel is not None and channel.contended for channel in (request, response))
        self.connect = 0.0
        self.each = False
        self.connect_account = self.slot = -1
        self.fallback: Attempt | None = None  # asks another component, where this one does not answer
        self.second: Attempt | None = None  # of a hedge that goes to another component

    def connects(self, seconds: float, each: bool, account: int, slot: int) -> None:
        """Let calls need a connection, counted at `slot` of the task's trunk."""
        self.connect, self.each, self.connect_account, self.slot = seconds, each, account, slot

    def others(self, system: "System", caller: str, home: int, kind: str, handling: "Handling") -> None:
        """Know the way to the components of the same kind that stand in for this one, by their own handling."""
        if handling.fallback is not None:
            self.fallback = _asks(system, caller, home, f"{kind}.{handling.fallback}", False)
        if handling.hedge is not None and handling.hedge.to is not None:
            self.second = _asks(system, caller, home, f"{kind}.{handling.hedge.to}", True)

    def open(self, branch: "Branch") -> None:
        """Connect, if this call has to: of the branches of a task, the first to call does it for all."""
        if not self.connect:
            return
        trunk = getattr(branch.task, "trunk", None)  # none is left once the task has ended and only this branch runs on
        if not self.each and (trunk is None or trunk.calls[self.slot]):
            return
        if trunk is not None:
            trunk.calls[self.slot] += 1
        branch.add(self.connect_account, self.connect)

    def notice(self, branch: "Branch", submitted: float) -> None:
        """Let time pass until the caller notices that the call submitted at `submitted` is done."""
        if self.poll is None:
            return
        ticks = max(1, math.ceil((branch.time - submitted) / self.poll - 1e-9))
        branch.facts[MESSAGES] += 2 * (ticks - 1)  # the polls that found nothing
        branch.add(self.poll_account, max(0.0, submitted + ticks * self.poll - branch.time))


def _asks(system: "System", caller: str, home: int, peer: str, strict: bool) -> "Attempt":
    """Return how a caller asks another service. With `strict` a failure that its handling would go on with is one."""
    from .steps import retriever

    kind, name = peer.split(".", 1)
    service = system.service(kind, name, system.scenario.tools[name]) if kind == "tools" else retriever(system, name)
    line = system.line(caller, home, peer, service.node)

    def attempt(branch: "Branch", _number: int) -> Generator[None, Any, None]:
        failure = yield from service.call(branch, line)
        if strict and failure is not None:
            raise failure

    return attempt


def nobody(_wait: "Wait") -> None:
    """Nobody waits for its end: of a wrong guess, or of the copy of a message."""


def runs_on(wait: "Wait") -> bool:
    """Return whether what a branch was just taken out of goes on without it."""
    return wait.holder is not None or bool(wait.callbacks)


def serve_later(pool: Pool, wait: "Wait", seconds: float) -> None:
    """A call that nobody waits for any more gets its server in the end, and is served."""
    over = wait.resume

    def begin(_wait: object) -> None:
        wait.resume = over
        if wait.rejected:
            over(wait)
        else:
            pool.keep(wait, seconds)

    wait.resume = begin


def held(branch: "Branch", pool: Pool, begin: Callable[[], None]) -> Generator[None, Any, None]:
    """Wait for a place of a pool, and go on at the end of what `begin` begins there, or as soon as the pool has refused."""
    wait = branch.wait
    wait.begins = begin
    pool.take(wait, branch.time)
    yield
    wait.begins = None


def serve(
    branch: "Branch", pool: Any, seconds: float, accounts: tuple[int, int], size: float = 0.0, ahead: float = 0.0
) -> Generator[None, Any, bool]:
    """Be served for `seconds` by a pool (None: at once), and book the waiting and the service; return whether it refused.

    `accounts` are those of the waiting and of the service. Of the service, `ahead` seconds were done before the branch came.
    """
    if pool is None:
        branch.add(accounts[1], seconds - ahead, size)
        return False
    wait = branch.wait
    # A pool that answers on arrival is held for all of it, another one only for the rest: its clock cannot go back.
    whole = seconds if isinstance(pool, FifoPool) else seconds - ahead
    if pool.use(wait, branch.time, whole):
        yield
    ended = wait.ended
    if ahead and whole == seconds:
        ended = max(wait.started, ended - ahead)
    return booked(branch, accounts, ended, size)


def booked(branch: "Branch", accounts: tuple[int, int], ended: float, size: float) -> bool:
    """Book the waiting and the service that a wait was for, which was over at `ended`; return whether it was refused."""
    wait = branch.wait
    branch.book(accounts[0], wait.arrived, wait.started)
    branch.book(accounts[1], wait.started, ended, size)
    refused, wait.rejected = wait.rejected, False
    return refused


def cross(channel: "Channel | None", branch: "Branch", size: float, ordinal: int) -> Generator[None, Any, None]:
    """Send a message over a channel, whatever it is."""
    if channel is None:
        return
    if channel.contended:
        yield from channel.stream(branch, size, ordinal)
    else:
        channel.send(branch, size, ordinal)
