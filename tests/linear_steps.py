"""Step times that are linear in everything, worked out by hand: for tests of what is built on step times."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearSteps:
    """`fixed` + `token` a token computed + `attend` a token attended to + `skew` a token of the longest above the mean (s)."""

    fixed: float = 5e-3
    token: float = 1e-5
    attend: float = 2e-8
    skew: float = 0.0

    def iteration(
        self, chunks: Sequence[tuple[int, int]], decodes: int, total: float, longest: float, slow: float = 1.0
    ) -> float:
        """Return the seconds of one iteration."""
        tokens = decodes + sum(new for new, _ in chunks)
        seen = total + sum(new * (cached + new / 2) for new, cached in chunks)
        uneven = self.skew * (longest - total / decodes) if decodes else 0.0
        return self.fixed * slow + self.token * tokens + self.attend * seen + uneven

    def run(self, decodes: int, total: float, longest: float, count: int, slow: float = 1.0) -> float:
        """Return the seconds of `count` iterations."""
        grown = decodes * count * (count - 1) / 2
        uneven = self.skew * (longest - total / decodes) * count
        return count * (self.fixed * slow + self.token * decodes) + self.attend * (total * count + grown) + uneven

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
        """Return the least number of iterations that last `seconds`."""
        low, high = 0, limit
        while high - low > 1:
            middle = (low + high) // 2
            if factor * self.run(decodes, total, longest, middle, slow) + extra * middle >= seconds:
                high = middle
            else:
                low = middle
        return high
