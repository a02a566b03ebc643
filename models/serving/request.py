"""A request to a model server, and what became of it.

Leaves out: the text; a request knows how many tokens it has, and by `path` which of them others may share.
Checked: tests/test_replica.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from .kv_cache import Lease, Path

__all__ = ["CARRY", "INFER", "LOAD", "QUEUE", "Request"]

QUEUE, LOAD, CARRY, INFER = range(4)  # waiting; KV on its way; prefill of carried tokens; all other service


class Request:
    """One call.

    `prompt` tokens come in, `output` tokens are made. Of the prompt `carried` tokens, behind the first `front`, were processed for
    this task before: to compute them again is carried work. `path` names the content in full blocks of KV, so that equal prefixes can
    be shared; empty where nobody shares. `priority` (higher goes first), `attained` (tokens that the server has processed for this
    task so far) and `session` are what a policy may look at. `factor` scales the iterations it takes part in.

    Afterwards: `admitted`, `first_token`, `ended` (s); `hit` tokens found in the cache; `recomputed`, of the prefilled
    tokens those that had been computed before; `phases`, as (kind, end), each beginning where the one before ends.
    """

    # Defaults on the class, so that a request sets only what differs.
    priority = 0.0
    attained = 0.0
    session = (0, 0, 0)  # task, caller, lane
    home: Any = None  # where it is served
    front = 0  # tokens before those carried that are not: a caller's own prompt that is new to its task
    generated = 0
    ready = 0  # tokens whose KV is there, so that nothing is to prefill; `swapped`, once it is copied back
    swapped = False
    admitted = first_token = ended = loaded = math.nan
    hit = prefilled = recomputed = preemptions = 0
    phases: tuple[tuple[int, float], ...] = ()
    cancelled = False
    # Counts of tokens, in order and fewer than all, at each of which `told` is called with the count and the time; `marked` are behind.
    marks: Sequence[int] = ()
    marked = 0
    told: Callable[[int, float], None] | None = None
    # While it runs
    running = False
    sequence = 0
    computed = 0  # tokens of its prefill that are in the KV cache
    carry_seconds = 0.0
    base = 0  # its length is this plus the replica's count of iterations
    finish = 0  # the count at which it ends
    due = 0  # the count at which it reaches its next mark
    reads = False  # something that was encoded before
    lease: Lease | None = None

    def __init__(
        self,
        prompt: int,
        output: int,
        arrived: float = 0.0,
        path: Path = (),
        carried: int = 0,
        factor: float = 1.0,
        owner: Any = None,
    ) -> None:
        self.prompt = prompt
        self.output = output
        self.arrived = arrived
        self.path = path
        self.carried = carried
        self.factor = factor
        self.owner = owner  # whoever waits for it
        self.stop = max(output, 1)  # tokens at which this server lets go of it

    @property
    def length(self) -> int:
        """Tokens of prompt and output so far."""
        return self.prompt + self.generated

    def reach(self, now: float) -> None:
        """The next mark is reached."""
        tokens = self.marks[self.marked]
        self.marked += 1
        if self.told is not None and not self.cancelled:
            self.told(tokens, now)

    @property
    def ttft(self) -> float:
        """Time to first token (s)."""
        return self.first_token - self.arrived

    @property
    def tpot(self) -> float:
        """Time per output token after the first (s); nan where there is only one."""
        return (self.ended - self.first_token) / (self.output - 1) if self.output > 1 else math.nan
