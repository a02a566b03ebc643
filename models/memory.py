"""Memories: what an agent reads before and writes after it thinks, and when it summarizes.

A memory grows with every write; reading and writing take their latency plus the size at `bandwidth`. Its lookups are
service calls (tool time). When the context has grown above `summarize.above` tokens, a model call shrinks it to
`summarize.to`; that call is `context`, since it exists only to carry state.

Leaves out: forgetting by relevance, memories shared between tasks.
Checked: tests/test_memory.py.
"""

from pydantic import model_validator

from ..sim.engine import units
from ..sim.engine.distributions import DurationDist, SizeDist, TokensDist
from ..sim.engine.spec import Bandwidth, Name, PositiveCount, Spec, SpecProblem, Tokens
from .handling import Handling
from .service import ZERO_SIZE, ZERO_TIME, ServiceSpec


class Summarize(Spec):
    """Above `above` tokens of context, `model` reads all of it and writes `to` tokens in its place."""

    model: Name
    above: Tokens
    to: Tokens

    @model_validator(mode="after")
    def _shrinks(self) -> "Summarize":
        if not self.to < self.above:
            to, above = (units.format(tokens, units.TOKENS) for tokens in (self.to, self.above))
            raise SpecProblem("to", f"`to < above` must hold; got {to} and {above}")
        return self


class Memory(Spec):
    """A store of a task's own entries.

    A read takes `read` plus the memory's size over `bandwidth`, and adds `recall` tokens to the context. A write takes
    `write` plus the entry's size over `bandwidth`, and adds `entry` bytes. Not given, an operation does not happen. Both
    are `tool.execute`. A summary shrinks the memory to its own size, too.
    """

    node: Name | None = None
    read: DurationDist | None = None
    write: DurationDist | None = None
    bandwidth: Bandwidth | None = None
    concurrency: PositiveCount | None = None
    entry: SizeDist = ZERO_SIZE
    recall: TokensDist = TokensDist.model_validate("0 tokens")
    summarize: Summarize | None = None
    handling: Handling = Handling()

    def service(self) -> ServiceSpec:
        """Return the service that stands for its store."""
        return ServiceSpec(node=self.node, latency=ZERO_TIME, concurrency=self.concurrency, handling=self.handling)
