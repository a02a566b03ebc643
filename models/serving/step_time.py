"""What a server asks of a model's timing: the seconds of one iteration, and of many that only decode.

Between two events the batch of a server does not change, so what many iterations take is one sum. `run` gives it and
`count_until` its inverse; both must agree with `iteration`, asked again and again.

Leaves out: what the host does between iterations; the replica adds it.
Checked: tests/test_kernel_steps.py, tests/test_measured_steps.py, against sums over single iterations.
"""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["StepTime"]


class StepTime(Protocol):
    """Seconds on the device.

    `decodes` sequences decode, their lengths (the token under way included) sum to `total`, and the longest has `longest`
    tokens. `slow` stretches what the host does while it submits an iteration.
    """

    def iteration(
        self, chunks: Sequence[tuple[int, int]], decodes: int, total: float, longest: float, slow: float = 1.0
    ) -> float:
        """Return the seconds of one iteration with `chunks` of prefills, each (new, cached) tokens, beside the decodes."""
        ...

    def run(self, decodes: int, total: float, longest: float, count: int, slow: float = 1.0) -> float:
        """Return the seconds of `count` successive iterations without prefill, in which every length grows by 1."""
        ...

    def count_until(
        self,
        decodes: int,
        total: float,
        longest: float,
        seconds: float,
        limit: int,
        *,
        factor: float = 1.0,
        extra: float = 0.0,
        slow: float = 1.0,
    ) -> int:
        """Return the least n from 1 to `limit` with factor x run(n) + extra x n >= seconds; `limit` where there is none."""
        ...
