"""A language model behind somebody else's API: a latency law in tokens, rate limits and a price.

A call takes (overhead + new, cached and output tokens at their rates) x residual x per_task / speed, on as many slots as
there are calls, once the request and token limits let it go.

Leaves out: load at the provider beyond what the law and its residual hold.
Checked: tests/test_llm.py.
"""

from typing import Literal, Self

from pydantic import model_validator

from ..sim.engine.distributions import DurationDist, NumberDist
from ..sim.engine.spec import (
    Factor,
    MoneyPerToken,
    Name,
    PositiveCount,
    Rate,
    Share,
    Spec,
    SpecProblem,
    TimePerToken,
    TokenRate,
)
from .handling import Handling
from .pace import never_negative
from .service import ZERO_TIME


class Price(Spec):
    """Price of input tokens that are not cached, of cached ones, and of output."""

    input: MoneyPerToken = 0.0
    cached: MoneyPerToken | None = None
    output: MoneyPerToken = 0.0


class Limits(Spec):
    """Limits of the provider: `requests` and `tokens` (input and output) over time, with bursts of what a second allows.

    Calls beyond them wait; with `refuse` they are answered by an error at once (429).
    """

    requests: Rate | None = None
    tokens: TokenRate | None = None
    concurrency: PositiveCount | None = None
    refuse: bool = False

    @model_validator(mode="after")
    def _something_to_refuse(self) -> Self:
        if self.refuse and self.requests is None and self.tokens is None:
            raise SpecProblem("refuse", "needs `requests` or `tokens`: without a rate nothing is beyond it")
        return self


class Api(Spec):
    """A hosted model.

    `cached` tokens are those of a prompt sent before that the provider still holds: the share `cache_hit` of them. `residual` is a
    factor of each call's time; `per_task` one that all calls of a task have in common, drawn once: the day, the region, the kind of task.
    """

    kind: Literal["api"]
    node: Name | None = None
    overhead: DurationDist = ZERO_TIME
    new: TimePerToken = 0.0
    cached: TimePerToken = 0.0
    output: TimePerToken = 0.0
    residual: NumberDist = NumberDist.model_validate(1)
    per_task: NumberDist = NumberDist.model_validate(1)
    speed: Factor = 1.0
    cache_hit: Share = 0.0
    limits: Limits = Limits()
    price: Price = Price()
    handling: Handling = Handling()

    @model_validator(mode="after")
    def _never_negative(self) -> Self:
        for name in ("residual", "per_task"):
            never_negative(self, name, "of the time of a call")
        return self
