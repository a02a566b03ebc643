"""A line: the way from a caller to the component it calls, and back.

Checked: tests/test_network.py, tests/test_runtime.py.
"""

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from .context import MESSAGES
from .network import Channel

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch


class Line:
    """`request` and `response` channels (None: free of cost), and the tick at which the caller polls, if it does."""

    __slots__ = ("direct", "poll", "poll_account", "request", "response")

    def __init__(
        self, request: Channel | None, response: Channel | None, poll: float | None, poll_account: int
    ) -> None:
        self.request = request
        self.response = response
        self.poll = poll
        self.poll_account = poll_account
        self.direct = not any(channel is not None and channel.contended for channel in (request, response))

    def notice(self, branch: "Branch", submitted: float) -> None:
        """Let time pass until the caller notices that the call submitted at `submitted` is done."""
        if self.poll is None:
            return
        ticks = max(1, math.ceil((branch.time - submitted) / self.poll - 1e-9))
        branch.facts[MESSAGES] += 2 * (ticks - 1)  # the polls that found nothing
        branch.add(self.poll_account, max(0.0, submitted + ticks * self.poll - branch.time))


def serve(
    branch: "Branch", pool: Any, seconds: float, accounts: tuple[int, int], size: float = 0.0
) -> Generator[None, Any, bool]:
    """Be served for `seconds` by a pool (None: at once), and book the waiting and the service; return whether it refused.

    `accounts` are those of the waiting and of the service.
    """
    waiting, serving = accounts
    if pool is None:
        branch.add(serving, seconds, size)
        return False
    wait = branch.wait
    if pool.use(wait, branch.time, seconds):
        yield
    branch.book(waiting, wait.arrived, wait.started)
    branch.book(serving, wait.started, wait.ended, size)
    refused, wait.rejected = wait.rejected, False
    return refused


def cross(channel: Channel | None, branch: "Branch", size: float, ordinal: int) -> Generator[None, Any, None]:
    """Send a message over a channel, whatever it is."""
    if channel is None:
        return
    if channel.contended:
        yield from channel.stream(branch, size, ordinal)
    else:
        channel.send(branch, size, ordinal)
