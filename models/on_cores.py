"""What a message takes of CPU at one of its ends: encoding or decoding, and the work of an HTTP client or server (its stack).

It is done on the cores of the node, where those are counted, and at the end of a single-threaded orchestrator on its event
loop, which one message holds for all of it.

Leaves out: copies that the kernel makes; interrupts.
Checked: tests/test_single_threaded.py.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from .host import Host, work
from .line import booked

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.engine.pool import Pool
    from .serializer import Law
    from .system import System

__all__ = ["End"]

Script = Generator[None, Any, None]


class _Coder(Protocol):
    def seconds(self, branch: "Branch", size: float, ordinal: int) -> float: ...
    def mean(self, size: float) -> float: ...


class End:
    """One end of a channel, which `sends` or receives; `coder` and `stack` are None where there is nothing to do."""

    __slots__ = ("coder", "coder_account", "host", "loop", "queue_account", "sends", "stack", "stack_account")

    def __init__(self, coder: "_Coder | None", coder_account: int, sends: bool) -> None:
        self.coder = coder
        self.coder_account = coder_account
        self.sends = sends
        self.stack: Law | None = None
        self.stack_account = -1
        self.host: Host | None = None
        self.loop: Pool | None = None
        self.queue_account = -1

    @property
    def works(self) -> bool:
        """Whether a message ever takes anything here."""
        return self.coder is not None or self.stack is not None

    def runs_a_stack(self, system: "System", peer: str, law: "Law") -> None:
        """Let each message take the work of a law, too."""
        if not law.is_free:
            self.stack = law
            self.stack_account = system.ledger.account("communication", peer, "stack")

    def runs_on(self, system: "System", host: Host | None, on_loop: bool) -> None:
        """Do this work on the cores of a host, where they are finite, or on an event loop of the orchestrator's."""
        self.host = host
        if on_loop and self.works:
            loop = system.event_loop()
            self.loop = loop if host is None else host.join(loop)
            self.queue_account = system.ledger.account("queueing", "orchestrator")

    def work(self, branch: "Branch", size: float, wire: float, ordinal: int) -> Script:
        """Take in or send off a message of `size` bytes of payload and `wire` bytes in all."""
        coding = 0.0 if self.coder is None else self.coder.seconds(branch, size, ordinal)
        stack = 0.0 if self.stack is None else self.stack.seconds(wire)
        pieces = (coding, self.coder_account, size), (stack, self.stack_account, wire)
        first, rest = pieces if self.sends else pieces[::-1]
        if self.loop is None:
            for seconds, account, amount in (first, rest):
                yield from work(branch, self.host, seconds, account, amount)
        elif coding + stack:
            yield from self._on_loop(branch, self.loop, first, rest)

    def _on_loop(
        self, branch: "Branch", loop: "Pool", first: tuple[float, int, float], rest: tuple[float, int, float]
    ) -> Script:
        """Hold the loop for both pieces: one burst, whose time is booked by their shares."""
        seconds = first[0] + rest[0]
        share = first[0] / seconds
        wait = branch.wait
        wait.split = (first[1], share, rest[1])  # where a burst that is cut off is booked
        if self.host is not None:
            yield from self.host.occupy(branch, loop, seconds)
        elif loop.use(wait, branch.time, seconds):
            yield
        wait.split = None
        ended = wait.ended
        booked(branch, (self.queue_account, first[1]), wait.started + share * (ended - wait.started), first[2])
        branch.book(rest[1], branch.time, ended, rest[2])
