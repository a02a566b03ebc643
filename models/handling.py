"""Handling: what a caller does about calls of a component that fail, hang or take too long; as YAML writes it.

From outside in: `bulkhead` and `breaker` decide whether a call is made; `retry` makes another attempt; `timeout` ends an attempt,
`hedge` makes a second one beside it; what still fails goes to the `fallback`, then to a person (`escalate`), then `exhausted` says.

Leaves out: what handling does as a run goes (`guard`, `policies`); what is done about a whole task (`recovery`).
Checked: tests/test_guard.py, tests/data/bad.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..sim.engine.distributions import DurationDist
from ..sim.engine.shorthand import Shorthand
from ..sim.engine.spec import Duration, Factor, Name, PositiveCount, PositiveDuration, Share, Spec, SpecProblem

MOST_ATTEMPTS = 100
# Another attempt draws at the ordinal of its call plus this, so that retries leave the draws of later calls as they were.
ATTEMPTS_APART = 1 << 12
Failure = Literal["error", "refused", "timeout", "overload"]
FAILURES: tuple[Failure, ...] = ("error", "refused", "timeout", "overload")
"""How a call can fail: answered by an error; refused or lost, since the component is down; not answered in time; too much load."""


class Backoff(Spec):
    """The wait before another attempt: `first`, times `factor` each time, at most `most`, and less by chance.

    `jitter`: `full` draws from 0 to the wait, `equal` from half of it, `decorrelated` from `first` to three times the last wait.
    Source of the jitters: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    first: Duration = 0.0
    factor: Factor = 2.0
    most: PositiveDuration = 60.0
    jitter: Literal["none", "full", "equal", "decorrelated"] = "none"


class Budget(Shorthand):
    """Retries as a share of calls: each call earns `ratio` of a retry, and so many as `burst` may be saved.

    Source: token buckets of retries, as gRPC (proposal A6) and the AWS SDKs have them.
    """

    short: ClassVar[str] = "ratio"

    ratio: Share = 0.1
    burst: PositiveCount = 10


class Retry(Shorthand):
    """Up to `attempts` in all, after failures of the kinds in `on`, as long as the `budget` has any."""

    short: ClassVar[str] = "attempts"

    attempts: Annotated[PositiveCount, Field(le=MOST_ATTEMPTS)] = 3
    backoff: Backoff = Backoff()
    budget: Budget | None = None
    on: Annotated[tuple[Failure, ...], Field(min_length=1)] = FAILURES


class Breaker(Spec):
    """A circuit breaker: it opens when the share `failing` of the last `calls` failed; calls then fail at once for `open`.

    After that it is half open: so many `probes` go through one after the other; if all succeed it closes, else it opens again.
    Source: Nygard, Release It!, 2nd ed., 2018, chapter 5.
    """

    failing: Annotated[Share, Field(gt=0)] = 0.5
    calls: PositiveCount = 20
    open: PositiveDuration = 30.0
    probes: PositiveCount = 1


class Hedge(Spec):
    """A second attempt beside the first, once that has taken as long as `quantile` of the calls so far, or `after` so long.

    The first answer counts, and the other attempt is cancelled; with `tied`, as soon as the one begins to be served. It goes `to`
    another component of the same kind, or to the same.
    Source: Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013.
    """

    after: Duration | None = None
    quantile: Annotated[Share, Field(gt=0, lt=1)] | None = None
    tied: bool = False
    to: Name | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.after is None) == (self.quantile is None):
            got = "neither" if self.after is None else "both"
            raise SpecProblem((), f"must have `after`, a time, or `quantile`, such as `95 %`; got {got}")
        return self


class Handling(Spec):
    """What callers of this component do when a call fails.

    `timeout` is of one attempt, and `within` of the whole call, waits between attempts included. An attempt that has timed out is
    cancelled, and gives back what it held; with `on_timeout: run on` it goes on as work that nobody waits for. `bulkhead` is how many
    calls may be under way at once; one more fails. `fallback` is another component of the same kind, asked when all else failed; a
    person who is asked after that takes `escalate`. `exhausted: continue` goes on without an answer, `fail` fails the task (left
    out: an error that a tool, retriever or memory answered with is taken as its answer, all else fails the task).
    `idempotent` requests carry a key by which a component that has done the work already returns the answer it had.
    """

    timeout: PositiveDuration | None = None
    within: PositiveDuration | None = None
    on_timeout: Literal["cancel", "run on"] = "cancel"
    retry: Retry = Retry(attempts=1)
    breaker: Breaker | None = None
    bulkhead: PositiveCount | None = None
    hedge: Hedge | None = None
    fallback: Name | None = None
    escalate: DurationDist | None = None
    exhausted: Literal["continue", "fail"] | None = None
    idempotent: bool = False

    @model_validator(mode="after")
    def _within_the_call(self) -> Self:
        if self.timeout is not None and self.within is not None and self.timeout > self.within:
            raise SpecProblem("timeout", "`timeout <= within` must hold: an attempt is part of the call")
        if self.timeout is None and self.on_timeout == "run on" and self.within is None:
            raise SpecProblem("on_timeout", "needs `timeout` or `within`")
        return self

    @property
    def cuts(self) -> bool:
        """Whether it ever takes a call out of what it waits for."""
        return self.timeout is not None or self.within is not None or self.hedge is not None
