"""The line of requests that wait for a place in the batch, in the order of a policy.

A policy sees what a server sees when a request comes: its tokens, those of them in the cache, its priority, and how much the
server has already done for its session. It does not know how long the output will be.

Leaves out: policies that take running requests out.
Checked: tests/test_replica.py; tests/test_policies.py.
Source: shortest prefill and priority as in vLLM and SGLang; least attained service over a program's calls: Luo et al., Autellix, 2025
(arXiv 2502.13965), without its preemption.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Literal

from .request import Request

__all__ = ["Policy", "Waiting"]

Policy = Literal["fcfs", "shortest-prefill", "priority", "least-attained"]

_KEYS: dict[str, Callable[[Request], float]] = {
    "shortest-prefill": lambda request: float(request.prompt - request.hit),
    "priority": lambda request: -request.priority,
    "least-attained": lambda request: request.attained,
}


class Waiting:
    """The line. Whoever was preempted stands before all others, the last preempted first."""

    __slots__ = ("_count", "_heap", "_key", "_line")

    def __init__(self, policy: Policy) -> None:
        self._key = _KEYS.get(policy)
        self._line: deque[Request] = deque()  # first come first served, and those preempted
        self._heap: list[tuple[float, int, Request]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, request: Request) -> None:
        """A request comes; ties are in order of coming."""
        self._count += 1
        if self._key is None:
            self._line.append(request)
        else:
            heappush(self._heap, (self._key(request), request.sequence, request))

    def push_back(self, request: Request) -> None:
        """A request that ran comes back."""
        self._count += 1
        self._line.appendleft(request)

    @property
    def head(self) -> Request | None:
        """Who is next; None when nobody waits. Those cancelled are dropped."""
        while self._line or self._heap:
            request = self._line[0] if self._line else self._heap[0][2]
            if not request.cancelled:
                return request
            self._drop()
        return None

    def pop(self) -> None:
        """Take out the head."""
        self._count -= 1
        self._drop()

    def forget(self) -> None:
        """One in the line was cancelled."""
        self._count -= 1

    def _drop(self) -> None:
        if self._line:
            self._line.popleft()
        else:
            heappop(self._heap)
