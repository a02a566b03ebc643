"""A request to a model server, and what became of it.

Leaves out: the text; a request knows how many tokens it has, and by `path` which of them others may share.
Checked: tests/test_replica.py.
"""

import math
from typing import Any

from .kv_cache import Lease, Path

__all__ = ["CARRY", "INFER", "LOAD", "QUEUE", "Request"]

QUEUE, LOAD, CARRY, INFER = range(4)  # waiting; KV on its way; prefill of carried tokens; all other service


class Request:
    """One call.

    `prompt` tokens come in, `output` tokens are made. The first `carried` of the prompt were processed for this task
    before: to compute them again is carried work. `path` names the content in full blocks of KV, so that equal prefixes can
    be shared; empty where nobody shares. `priority` (higher goes first), `attained` (tokens that the server has processed for this
    task so far) and `session` are what a policy may look at. `factor` scales the iterations it takes part in.

    Afterwards: `admitted`, `first_token`, `ended` (s); `hit` tokens found in the cache; `recomputed`, of the prefilled
    tokens those that had been computed before; `phases`, a list of (kind, end), each beginning where the one before ends.
    """

    __slots__ = (
        "admitted", "arrived", "attained", "base", "cancelled", "carried", "carry_seconds", "computed", "ended", "factor",
        "finish", "first_token", "generated", "hit", "home", "lease", "loaded", "output", "owner", "path", "phases",
        "preemptions", "prefilled", "priority", "prompt", "ready", "recomputed", "running", "sequence", "session", "stop", "swapped",
    )  # fmt: skip

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
        self.priority = 0.0
        self.attained = 0.0
        self.session = (0, 0, 0)  # task, caller, lane
        self.home: Any = None  # where it is served
        self.stop = max(output, 1)  # tokens at which this server lets go of it
        self.generated = 0
        self.ready = 0  # tokens whose KV is there, so that nothing is to prefill; `swapped`, once it is copied back
        self.swapped = False
        self.admitted = self.first_token = self.ended = self.loaded = math.nan
        self.hit = self.prefilled = self.recomputed = self.preemptions = 0
        self.phases: list[tuple[int, float]] = []
        self.cancelled = False
        # While it runs
        self.running = False
        self.sequence = 0
        self.computed = 0  # tokens of its prefill that are in the KV cache
        self.carry_seconds = 0.0
        self.base = 0  # its length is this plus the replica's count of iterations
        self.finish = 0  # the count at which it ends
        self.lease: Lease | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and output so far."""
        return self.prompt + self.generated

    @property
    def ttft(self) -> float:
        """Time to first token (s)."""
        return self.first_token - self.arrived

    @property
    def tpot(self) -> float:
        """Time per output token after the first (s); nan where there is only one."""
        return (self.ended - self.first_token) / (self.output - 1) if self.output > 1 else math.nan
