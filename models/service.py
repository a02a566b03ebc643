"""A service: what tools, retrievers and memories have in common when an agent calls them.

A call is: invoke (dispatch, marshalling, spawn, parse), the request's way there, waiting for a free slot or a rate limit,
execution, the response's way back, and noticing that it is done. The waiting is queueing at the service; invoke and
execution are the category `tool`, told apart by name.

A call that was guessed has been under way for some seconds when it is made: what of invoke and execution lies in them is
overlapped work. The pool is held from when the call is made, not from the guess.

Leaves out: cancelling a call, back-off between attempts; messages of a guessed call before it is made.
Checked: tests/test_tools.py; tests/test_theory.py (losses, machine repair).
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..sim.engine.branch import ENTRY, Branch, Wait
from ..sim.engine.distributions import DurationDist, SizeDist, TokensDist
from ..sim.engine.draws import lane as lane_of
from ..sim.engine.schema import or_scalar
from ..sim.engine.spec import Count, Money, Name, PositiveCount, Rate, Share, Spec, SpecProblem, TimePerByte
from .context import COST, RETRIES, TOOL_CALLS, TOOL_ERRORS
from .line import cross, serve

if TYPE_CHECKING:
    from .line import Line
    from .system import System

ZERO_TIME = DurationDist.model_validate("0 s")
ZERO_SIZE = SizeDist.model_validate("0 B")
MOST_ATTEMPTS = 100
# A retry draws at the ordinal of its call plus this, so that retries leave the draws of later calls as they were.
ATTEMPTS_APART = 1 << 12
GUESSES_APART = MOST_ATTEMPTS * ATTEMPTS_APART  # and a wrong guess at that of no attempt


def _nobody(_wait: Any) -> None:
    """Nobody waits for what a wrong guess began."""


class TaskFailed(Exception):
    """A task cannot go on; its text is the reason that results count it under."""


class Errors(Spec):
    """How often a call ends in an error: `rate`, or `after_error` right after this agent's last call was one."""

    rate: Share
    after_error: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_share(cls, data: Any) -> Any:
        return data if isinstance(data, dict | Errors) else {"rate": data}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """Say that a share may stand for the mapping."""
        written = handler(schema)
        target = handler.resolve_ref_schema(written)
        or_scalar(target, target["properties"]["rate"])
        return written


class ServiceSpec(Spec):
    """What any service may say.

    `latency` is the service's own work, plus `per_byte` of request and response. At most `concurrency` calls are under
    way and `queue_limit` wait; one more is refused. `rate` limits calls started, with bursts of `burst`. `result` is
    what a call adds to the context, by default the response at the context's bytes per token. A call that fails is tried
    up to `attempts` times; the error of the last one is handed to the agent like a result. With `cpu` its time is work on
    the cores of its node, where those are counted.
    """

    node: Name | None = None
    latency: DurationDist
    per_byte: TimePerByte = 0.0
    concurrency: PositiveCount | None = None
    queue_limit: Count | None = None
    rate: Rate | None = None
    burst: PositiveCount = 1
    invoke: DurationDist = ZERO_TIME
    request: SizeDist = ZERO_SIZE
    response: SizeDist = ZERO_SIZE
    result: TokensDist | None = None
    errors: Errors | None = None
    attempts: Annotated[PositiveCount, Field(le=MOST_ATTEMPTS)] = 1
    cpu: bool = False
    price: Money = 0.0

    @model_validator(mode="after")
    def _queue_needs_servers(self) -> "ServiceSpec":
        if self.queue_limit is not None and self.concurrency is None:
            raise SpecProblem(
                "queue_limit", "needs `concurrency`: without a limit on calls under way nothing ever waits"
            )
        return self


class Service:
    """A service as the agents of one system call it."""

    def __init__(self, system: "System", kind: str, name: str, spec: ServiceSpec) -> None:
        self.system = system
        self.name = name
        self.spec = spec
        self.node = system.node_of(spec.node)
        path = f"{kind}.{name}"
        self.path = path
        self.callee = system.ledger.callee()
        self.pool = system.pool(path, spec.concurrency, spec.queue_limit, unlimited=spec.rate is not None)
        if spec.rate is not None:
            system.limit(self.pool, f"{path}.rate", spec.rate, spec.burst)
        account = system.ledger.account
        self.invoke_account = account("tool", name, "tool.invoke")
        self.execute_account = account("tool", name, "tool.execute")
        self.queue_account = account("queueing", path)
        self.recovery_account = account("recovery", path)
        self.call_account = account("structure", name, "execute_tool")
        if self.pool is not None:
            system.book_waits(self.pool, self.queue_account, self.execute_account)
        self.host = system.hosts.get(self.node) if spec.cpu else None
        if self.host is not None:
            self.pool = self.host.join(self.pool)
            self.queue_account = self.host.queue_account if self.pool is None else self.queue_account
        self.latency = system.stream(f"{path}/latency", spec.latency)
        self.invoke = system.stream(f"{path}/invoke", spec.invoke)
        self.request = system.stream(f"{path}/request", spec.request)
        self.response = system.stream(f"{path}/response", spec.response)
        self.result = None if spec.result is None else system.stream(f"{path}/result", spec.result)
        self.failing = system.draws.uniform(f"{path}/error") if spec.errors is not None else None

    def latency_of(self, branch: "Branch", ordinal: int, size: float) -> float:
        """Return the seconds of the service's own work on a call that moves `size` bytes."""
        return self.latency.draw(branch.index, ordinal, branch.lane) + self.spec.per_byte * size

    def call(self, branch: "Branch", line: "Line", ahead: float = 0.0, more: float = 0.0) -> Generator[None, Any, None]:
        """Call the service until it succeeds or its attempts are used up, then take in the result.

        The first attempt has been under way for `ahead` seconds. What it is given takes `more` seconds of work.
        """
        branch.facts[TOOL_CALLS] += 1
        number = branch.calls[self.callee]
        branch.calls[self.callee] = number + 1
        for attempt in range(self.spec.attempts):
            retried = attempt + 1 < self.spec.attempts
            before = branch.parts[:] if retried else None
            first = 0 if branch.spans is None else len(branch.spans) // ENTRY
            early = 0.0 if attempt else ahead
            refused = yield from self._attempt(branch, line, number + attempt * ATTEMPTS_APART, retried, early, more)
            if not refused and not branch.state.last_error:
                return
            if before is not None:
                branch.facts[RETRIES] += 1
                branch.lose(before, first, self.recovery_account)
        if refused:
            raise TaskFailed(f"{self.path}: queue full")

    def waste(self, branch: "Branch", most: float) -> None:
        """A wrong guess was under way for at most `most` seconds: overlapped work, which somebody's server did."""
        ordinal = branch.calls[self.callee] + GUESSES_APART
        seconds = min(most, self.latency_of(branch, ordinal, 0.0))
        pool = self.host.pool if self.host is not None and self.pool is None else self.pool
        if pool is not None:
            pool.use(Wait(_nobody), branch.time, seconds)
        branch.facts[COST] += self.spec.price
        self._overlap(branch, self.execute_account, seconds)

    def _overlap(self, branch: "Branch", account: int, seconds: float) -> None:
        """Keep `seconds` until now as work beside the branch."""
        if seconds:
            branch.beside(
                account, seconds, branch.time, lane_of(branch.lane, self.callee, branch.calls[self.callee], 0)
            )

    def _attempt(
        self, branch: "Branch", line: "Line", ordinal: int, retried: bool, ahead: float, more: float
    ) -> Generator[None, Any, bool]:
        """One attempt; return whether the service refused it. `state.last_error` tells whether it failed.

        `retried` tells that another one follows if it does; what the last one returns is for the agent, error or not.
        """
        index, lane, state = branch.index, branch.lane, branch.state
        span = branch.open_span()
        began = branch.time
        line.open(branch)
        invoke = self.invoke.draw(index, ordinal, lane)
        early = min(ahead, invoke)
        self._overlap(branch, self.invoke_account, early)
        branch.add(self.invoke_account, invoke - early)
        request = self.request.draw(index, ordinal, lane)
        response = self.response.draw(index, ordinal, lane)
        work = self.latency_of(branch, ordinal, request + response) + more
        early = min(ahead - early, work)
        self._overlap(branch, self.execute_account, early)
        yield from cross(line.request, branch, request, ordinal)
        submitted = branch.time
        accounts = self.queue_account, self.execute_account
        if self.host is None:
            refused = yield from serve(branch, self.pool, work, accounts, response, early)
        else:
            refused = yield from self.host.run_in(branch, self.pool, work, accounts, response, early)
        if not refused:
            branch.facts[COST] += self.spec.price
            line.notice(branch, submitted)
            self._outcome(branch, ordinal)
            yield from cross(line.response, branch, response, ordinal)
            if not (state.last_error and retried):
                state.tokens += self._tokens(branch, ordinal, response)
        branch.close_span(span, self.call_account, began)
        return refused

    def _outcome(self, branch: "Branch", ordinal: int) -> None:
        state = branch.state
        if self.failing is None or self.spec.errors is None:
            state.last_error = False
            return
        errors = self.spec.errors
        rate = errors.after_error if state.last_error and errors.after_error is not None else errors.rate
        state.last_error = self.failing.draw(branch.index, ordinal, branch.lane) < rate
        if state.last_error:
            branch.facts[TOOL_ERRORS] += 1

    def _tokens(self, branch: "Branch", ordinal: int, response: float) -> float:
        if self.result is not None:
            return float(round(self.result.draw(branch.index, ordinal, branch.lane)))
        return float(round(response / self.system.bytes_per_token))
