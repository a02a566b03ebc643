"""A service: what tools, retrievers and memories have in common when an agent calls them.

A call is: invoke (dispatch, marshalling, spawn, parse), the request's way there, waiting for a free slot or a rate limit,
execution, the response's way back, and noticing that it is done. The waiting is queueing at the service; invoke and
execution are the category `tool`, told apart by name.

A call that was guessed has been under way for some seconds when it is made: what of invoke and execution lies in them is
overlapped work. The pool is held from when the call is made, not from the guess.

Leaves out: messages of a guessed call before it is made.
Checked: tests/test_tools.py, tests/test_guard.py, tests/test_shared_cpu.py; tests/test_theory.py (losses, machine repair).
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from ..sim.engine.branch import Branch, Wait
from ..sim.engine.distributions import DurationDist, NumberDist, SizeDist, TokensDist
from ..sim.engine.draws import lane as lane_of
from ..sim.engine.shorthand import Shorthand
from ..sim.engine.spec import (
    Count,
    Factor,
    Money,
    Name,
    PositiveCount,
    PositiveDuration,
    Rate,
    Share,
    Spec,
    SpecProblem,
    TimePerByte,
)
from .context import COST, DUPLICATES, TOOL_CALLS, TOOL_ERRORS
from .effect import Effect
from .failure import CallFailed, TaskFailed
from .guard import Guard
from .handling import ATTEMPTS_APART, MOST_ATTEMPTS, Handling
from .line import cross, nobody, runs_on, serve
from .pace import Pace, never_negative, per_task
from .task_run import taken_back

if TYPE_CHECKING:
    from .line import Line
    from .system import System

ZERO_TIME = DurationDist.model_validate("0 s")
ZERO_SIZE = SizeDist.model_validate("0 B")
GUESSES_APART = MOST_ATTEMPTS * ATTEMPTS_APART  # and a wrong guess at that of no attempt


class Errors(Shorthand):
    """How often a call ends in an error: `rate`, or `after_error` right after this agent's last call was one."""

    rate: Share
    after_error: Share | None = None


class ServiceSpec(Spec):
    """What any service may say.

    `latency` is the service's own work, plus `per_byte` of request and response, times `per_task` (a factor that all calls of a
    task have in common, drawn once: one repository's tests take minutes, another's seconds), over `speed`. At most `concurrency` calls are under
    way and `queue_limit` wait; one more is refused. `rate` limits calls started, with bursts of `burst`. `result` is
    what a call adds to the context, by default the response at the context's bytes per token. `handling` says what callers do when a
    call fails; the error of the last attempt is handed to the agent like a result. With `cpu` its time is work on the cores of its
    node, where those are counted; of its time the share `follows` is as fast as the cores are at the time, the rest (such as of memory)
    always the same. What `infers` is a model itself (an encoder, an embedder, a reranker): its work is inference. `limited: refuse` answers calls beyond the `rate` with an error (429) instead of having them wait.
    A call that has waited for `max_wait` is dropped. Of a service that is not `repeatable`, work that is done twice for one call
    has its effect twice. `undo` is what it takes to take back a call, when its task fails.
    """

    node: Name | None = None
    latency: DurationDist
    per_byte: TimePerByte = 0.0
    per_task: NumberDist = NumberDist.model_validate(1)
    speed: Factor = 1.0
    concurrency: PositiveCount | None = None
    queue_limit: Count | None = None
    rate: Rate | None = None
    burst: PositiveCount = 1
    invoke: DurationDist = ZERO_TIME
    request: SizeDist = ZERO_SIZE
    response: SizeDist = ZERO_SIZE
    result: TokensDist | None = None
    errors: Errors | None = None
    handling: Handling = Handling()
    limited: Literal["wait", "refuse"] = "wait"
    max_wait: PositiveDuration | None = None
    repeatable: bool = True
    undo: DurationDist | None = None
    cpu: bool = False
    follows: Share = 1.0
    infers: bool = False
    price: Money = 0.0

    @model_validator(mode="after")
    def _never_negative(self) -> "ServiceSpec":
        never_negative(self, "per_task", "of the latency")
        return self

    @model_validator(mode="after")
    def _rate_to_go_beyond(self) -> "ServiceSpec":
        if self.limited == "refuse" and self.rate is None:
            raise SpecProblem("limited", "needs `rate`: without one no call is beyond it")
        if self.max_wait is not None and self.concurrency is None and self.rate is None:
            raise SpecProblem("max_wait", "needs `concurrency` or `rate`: without a limit nothing ever waits")
        return self

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
            self.pool.strict = spec.limited == "refuse"
        if spec.max_wait is not None:
            self.pool.most_wait = spec.max_wait
        account = system.ledger.account
        self.invoke_account = account("tool", name, "tool.invoke")
        self.execute_account = account("inference", name) if spec.infers else account("tool", name, "tool.execute")
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
        self.pace = Pace(None, per_task(system, path, spec.per_task), slow=False)
        self.invoke = system.stream(f"{path}/invoke", spec.invoke)
        self.request = system.stream(f"{path}/request", spec.request)
        self.response = system.stream(f"{path}/response", spec.response)
        self.result = None if spec.result is None else system.stream(f"{path}/result", spec.result)
        self.failing = system.draws.uniform(f"{path}/error") if spec.errors is not None else None
        self.condition = system.condition(path, self.recovery_account)
        if self.condition is not None:
            self.condition.pool = self.pool
        self.undo = taken_back(system, path, spec.undo)  # told of each call that is done
        self.guard: Guard | None = None
        self.counts_effects = spec.handling.idempotent or not spec.repeatable
        if self.condition is not None or spec.errors is not None or spec.handling != Handling():
            self.guard = Guard(system, path, spec.handling, (self.execute_account,), self.condition)

    def latency_of(self, branch: "Branch", ordinal: int, size: float) -> float:
        """Return the seconds of the service's own work on a call that moves `size` bytes."""
        seconds = self.latency.draw(branch.index, ordinal, branch.lane) + self.spec.per_byte * size
        return self.pace.of(seconds, branch) / self.spec.speed

    def call(
        self, branch: "Branch", line: "Line", ahead: float = 0.0, more: float = 0.0
    ) -> Generator[None, Any, CallFailed | None]:
        """Call the service, as its handling says, and take in the result.

        The first attempt has been under way for `ahead` seconds. What it is given takes `more` seconds of work. Return None, or the
        failure with which the task goes on all the same. Raises TaskFailed.
        """
        branch.facts[TOOL_CALLS] += 1
        number = branch.calls[self.callee]
        branch.calls[self.callee] = number + 1
        if self.guard is None:
            try:
                yield from self._attempt(branch, line, number, ahead, more, None)
            except CallFailed as failed:
                raise TaskFailed(failed.reason) from None
            branch.state.last_error = False
            return None
        effect = Effect(self.spec.handling.idempotent, not self.spec.repeatable) if self.counts_effects else None

        def attempt(own: Branch, again: int) -> Generator[None, Any, None]:
            early = ahead if own is branch and not again else 0.0  # nobody has guessed a hedge
            return self._attempt(own, line, number + again * ATTEMPTS_APART, early, more, effect)

        failure = yield from self.guard.call(branch, attempt, line.fallback, line.second)
        if failure is not None and failure.answer is not None:
            branch.state.tokens += failure.answer
        return failure

    def waste(self, branch: "Branch", most: float) -> None:
        """A wrong guess was under way for at most `most` seconds: overlapped work, which somebody's server did.

        If it came to its end, it had an effect that nobody asked for.
        """
        ordinal = branch.calls[self.callee] + GUESSES_APART
        whole = self.latency_of(branch, ordinal, 0.0)
        seconds = min(most, whole)
        if whole <= most and not self.spec.repeatable:
            branch.facts[DUPLICATES] += 1
        if self.host is not None and (self.pool is None or self.host.shared is not None):
            self.host.waste(self.pool, branch.time, seconds)
        elif self.pool is not None:
            self.pool.use(Wait(nobody), branch.time, seconds)
        branch.facts[COST] += self.spec.price
        self._overlap(branch, self.execute_account, seconds)

    def _overlap(self, branch: "Branch", account: int, seconds: float) -> None:
        """Keep `seconds` until now as work beside the branch."""
        if seconds:
            branch.beside(
                account, seconds, branch.time, lane_of(branch.lane, self.callee, branch.calls[self.callee], 0)
            )

    def _attempt(
        self, branch: "Branch", line: "Line", ordinal: int, ahead: float, more: float, effect: Effect | None
    ) -> Generator[None, Any, None]:
        """One attempt, with its result; `effect` is that of the call, where it is counted. Raises CallFailed."""
        index, lane, state = branch.index, branch.lane, branch.state
        span = branch.open_span()
        began = branch.time
        try:
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
            if effect is None:
                yield from self.serve(branch, ordinal, work, response, early)
                is_error = self._is_error(branch, ordinal)
            else:
                is_error = yield from self._serve_once(branch, ordinal, work, response, early, effect)
            branch.facts[COST] += self.spec.price
            line.notice(branch, submitted)
            yield from cross(line.response, branch, response, ordinal)
            tokens = self._tokens(branch, ordinal, response)
            if is_error:
                raise CallFailed("error", f"{self.path}: error", tokens)
            if self.undo is not None:
                self.undo(branch, ordinal)
            state.tokens += tokens
        except Exception:  # not where the run is over, or the branch was cancelled: what is cut off has no end
            branch.close_span(span, self.call_account, began)
            raise
        branch.close_span(span, self.call_account, began)

    def _serve_once(
        self, branch: "Branch", ordinal: int, work: float, size: float, early: float, effect: Effect
    ) -> Generator[None, Any, bool]:
        """Be served, or told the answer that the component has already; return whether it is an error. Raises CallFailed."""
        if branch.time > branch.sim._now:
            branch.settle()  # what else has been done of the call is known when the clock is there
            yield
        known, wait = effect.known, branch.wait
        if known:
            work = early = 0.0
        wait.rejected = False
        try:
            yield from self.serve(branch, ordinal, work, size, early)
        except BaseException:
            if runs_on(wait):  # nobody waits for the answer, but the work is done all the same
                over = wait.resume

                def resume(_wait: Any) -> None:
                    if not wait.rejected:
                        effect.happens(branch)
                    over(wait)

                wait.resume = resume
            raise
        is_error = not known and self._is_error(branch, ordinal)
        if not (known or is_error):
            effect.happens(branch)
        return is_error

    def serve(
        self, branch: "Branch", ordinal: int, work: float, size: float = 0.0, early: float = 0.0
    ) -> Generator[None, Any, None]:
        """Wait for a free slot, and be served for `work` seconds. Raises CallFailed where the call is refused."""
        condition = self.condition
        if condition is None:
            refused = yield from self._work(branch, work, size, early)
        else:
            slowness = yield from condition.admit(branch, ordinal)
            with condition.holding(branch):
                refused = yield from self._work(branch, work * slowness, size, early)
            if not refused and self.pool is not None:
                condition.waited(branch, branch.wait.started - branch.wait.arrived)
        if refused:
            raise CallFailed("overload", f"{self.path}: {branch.wait.refusal}")

    def _work(self, branch: "Branch", work: float, size: float, early: float) -> Generator[None, Any, bool]:
        accounts = self.queue_account, self.execute_account
        if self.host is None:
            return (yield from serve(branch, self.pool, work, accounts, size, early))
        work = self.host.share_of(work, self.spec.follows, branch.time)
        return (yield from self.host.run_in(branch, self.pool, work, accounts, size, early))

    def _is_error(self, branch: "Branch", ordinal: int) -> bool:
        """Whether the call is answered by an error: one of its own, or one of a fault."""
        failed = False
        condition = self.condition
        if self.failing is not None and self.spec.errors is not None:
            errors = self.spec.errors
            again = branch.state.last_error and errors.after_error is not None
            rate = errors.after_error if again and errors.after_error is not None else errors.rate
            failed = self.failing.draw(branch.index, ordinal, branch.lane) < rate
        if condition is not None:
            failed = not condition.answers(branch, ordinal) or failed
            if not failed:
                condition.spoils(branch, ordinal)
        if failed:
            branch.facts[TOOL_ERRORS] += 1
            branch.task.errors.append(branch.span)
        return failed

    def _tokens(self, branch: "Branch", ordinal: int, response: float) -> float:
        if self.result is not None:
            return float(round(self.result.draw(branch.index, ordinal, branch.lane)))
        return float(round(response / self.system.bytes_per_token))
