"""A call of a model server by an agent: which tokens are new, which are carried, and what each costs.

Of the tokens of a prompt (the agent's own prompt and the task's context), those that this server never processed for the
task are new: their prefill is inference. The rest is carried: what the cache still holds costs little or nothing, what
it does not is prefilled again, and both are context. The time of a call splits by these shares, carried tokens first.

Leaves out: servers that batch, which `served` has; hedges of a call that is listened to.
Checked: tests/test_model_call.py, tests/test_context.py; tests/test_streaming_calls.py, tests/test_let_go.py.
"""

import copy
import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.branch import Wait
from ..sim.engine.draws import Stream
from ..sim.engine.pool import Pool
from .api import Api
from .context import CACHED_TOKENS, CARRIED_TOKENS, COST, LLM_CALLS, NEW_TOKENS, OUTPUT_TOKENS, Context
from .failure import CallFailed, TaskFailed
from .guard import Attempt
from .handling import ATTEMPTS_APART
from .line import Line, cross, runs_on, serve_later
from .listener import Emit, Listener, Marks, marks, parts_at, tell_on_time
from .model_server import ModelServer
from .pace import Pace, per_task

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from .system import System


class ModelCall:
    """How one caller (an agent or an evaluator) calls a model server.

    `direct` tells which way to make the call: `begin` and `finish` around one wait, or the generator `perform` where a
    link on the way is shared.
    """

    __slots__ = (
        "assemble", "assemble_account", "bare", "call_account", "callee", "direct", "full", "host", "index", "infer_account",
        "fallback", "inline", "limited", "line", "on_device", "output", "overhead", "pace", "per_token", "pool", "priority", "prompt", "queue_account", "request",
        "response", "restores", "second", "server", "speed", "splits", "tokens", "grows", "trims",
    )  # fmt: skip

    def __init__(
        self,
        system: "System",
        path: str,
        index: int,
        server: ModelServer,
        line: Line,
        prompt: float,
        output: Stream[float] | None,
        home: str = "",
    ) -> None:
        self.server = server
        self.pool: Any = server.pool
        self.priority = 0.0
        self.limited = isinstance(server.spec, Api)
        self.line = line
        self.request, self.response = line.request, line.response
        self.direct = line.direct
        self.tokens = system.has_tokens
        self.index = index  # of the caller among those that have a prompt of their own
        self.callee = system.ledger.callee()
        self.prompt = prompt
        self.output = output  # None: the tokens of the trace
        self.overhead = system.stream(f"{server.path}/overhead/{path}", server.spec.overhead)
        residual = server.residual
        sampler = None if residual is None else residual.lower_bound if residual.is_constant else residual.sample
        each = None if sampler is None else system.draws.stream(f"{server.path}/residual/{path}", sampler)
        task = per_task(system, server.path, server.spec.per_task) if isinstance(server.spec, Api) else None
        self.pace = Pace(each, task, server.condition is not None) or None
        self.full = system.runtime.state == "full"
        self.grows = system.scenario.context.grows
        self.per_token = system.bytes_per_token
        # On the device the prompt is there, as tokens, and so is the state.
        self.on_device = home == f"{server.path}.device"
        self.trims = self.on_device or not self.grows
        # Whether a prompt is sent that may hold media themselves.
        inline = any(modality.inline for modality in system.scenario.modalities.values())
        self.inline = inline and self.full and not self.trims
        self.assemble = system.scenario.orchestrator.assemble if self.full and not self.on_device else 0.0
        # Whose cores build the prompt, where they are counted.
        self.host = system.hosts.get(home) if self.assemble else None
        if self.host is not None:
            self.direct = False
        kept = system.runtime.state == "delta" and not self.trims  # a session, away from the caller
        self.restores = kept and not server.restore.is_free
        account = system.ledger.account
        self.assemble_account = account("context", path, "assemble prompt")
        self.call_account = account("structure", server.name, "chat")
        self.speed = server.speed
        self.fallback: ModelCall | None = None  # of another model, where this one does not answer
        self.second: ModelCall | None = None  # for a hedge that goes to another model
        if server.guard is not None or server.stays:
            self.direct = False
        self.bare = server.guard is None and not (
            self.tokens or self.restores or self.pace or line.poll or server.refuses or server.stays
        )
        self.queue_account = server.queue_account
        self.infer_account = server.infer_account
        self.splits = system.holds  # a call that is cut off must tell its context from its inference

    def begin(self, branch: "Branch") -> bool:
        """Build the prompt, send it over a line without contention, and arrive (hot). Return whether the script must yield."""
        size = self._prepare(branch) if self.tokens else self._number(branch)
        if self.request is not None:
            self.request.send(branch, size, branch.state.ordinal)
        return self._enter(branch)

    def finish(self, branch: "Branch") -> None:
        """Book the call, and bring the answer back (hot)."""
        try:
            size = self._leave(branch)
        except CallFailed as failed:
            raise TaskFailed(failed.reason) from None
        if self.line.poll is not None:
            self.line.notice(branch, branch.state.submitted)
        if self.response is not None:
            self.response.send(branch, size, branch.state.ordinal)

    def stream(self, branch: "Branch", when: Marks, emit: Emit) -> Generator[None, Any, None]:
        """The whole call, as `perform` does it; `emit(tokens, time, parts)` is called at each mark, and at the end with the rest.

        Marks lie every so many output tokens, or where a function of the output's tokens says. `time` (s) is when that many tokens
        were there, not yet on their way back; `parts` are the branch's, in seconds per account, up to then. Where a service answers
        on arrival, marks are told at once, with times ahead of the clock.
        """
        return self.perform(branch, Listener(when, emit))

    def perform(self, branch: "Branch", listener: Listener | None = None) -> Generator[None, Any, None]:
        """The whole call, over whatever line, as the handling of its server says. Raises TaskFailed."""
        guard = self.server.guard
        if guard is None:
            try:
                yield from self._perform(branch, listener)
            except CallFailed as failed:
                raise TaskFailed(failed.reason) from None
            return
        call = branch.calls[self.callee]

        def attempt(branch: "Branch", again: int) -> Generator[None, Any, None]:
            if again:
                branch.calls[self.callee] = call
            branch.state.again = again * ATTEMPTS_APART
            return self._perform(branch, listener)

        alone = listener is not None
        if listener is not None:
            listener = listener.once()  # what a failed attempt has told is not told again
        fallback = None if self.fallback is None else self._by(self.fallback, listener)
        second = None if self.second is None or alone else self._by(self.second, None)
        try:
            yield from guard.call(branch, attempt, fallback, second, alone)
        finally:
            branch.state.again = 0

    def books_under(self, system: "System", name: str) -> None:
        """Book its inference as `context`, under a name, and that of the models that stand in for it."""
        self.infer_account = system.ledger.account("context", self.server.name, name)
        for other in (self.fallback, self.second):
            if other is not None:
                other.books_under(system, name)

    def _by(self, other: "ModelCall", listener: Listener | None) -> Attempt:
        """Return how another model is asked in place of this one."""
        if listener is not None and self.response is None:  # the answer takes a way of its own
            other = copy.copy(other)
            other.response, other.line = None, copy.copy(other.line)
            other.line.response = other.line.poll = None

        def attempt(branch: "Branch", _number: int) -> Generator[None, Any, None]:
            branch.state.again = 0
            return other.perform(branch, listener)

        return attempt

    def _perform(self, branch: "Branch", listener: Listener | None) -> Generator[None, Any, None]:
        """One attempt. Raises CallFailed."""
        if self.host is not None:
            total = self._assembled(branch.state)
            yield from self.host.run(branch, self.assemble * total, self.assemble_account, total)
        if branch.lane and self.tokens and branch.time > branch.sim._now:
            branch.settle()  # parallel branches claim tokens as new in the order of the clock
            yield
        if self.direct and listener is None:
            if self.begin(branch):
                yield
            self.finish(branch)
            return
        size = self._prepare(branch) if self.tokens else self._number(branch)
        ordinal = branch.state.ordinal
        yield from cross(self.request, branch, size, ordinal)
        condition = self.server.condition
        if condition is None:
            yield from self._served(branch, listener)
            size = self._leave(branch)
        else:
            branch.state.slow = yield from condition.admit(branch, ordinal)
            with condition.holding(branch):
                yield from self._served(branch, listener)
            condition.waited(branch, branch.wait.started - branch.wait.arrived)
            answered = branch.wait.rejected or condition.answers(branch, ordinal)
            size = self._leave(branch, answered)
            if not answered:
                yield from cross(self.response, branch, 0.0, ordinal)
                raise CallFailed("error", f"{self.server.path}: error")
        if listener is not None:
            listener.emit(branch.state.output, branch.time, branch.parts[:])
        self.line.notice(branch, branch.state.submitted)
        yield from cross(self.response, branch, size, ordinal)

    def _served(self, branch: "Branch", listener: Listener | None) -> Generator[None, Any, None]:
        """Arrive at the server, and be served; who is taken out in the middle has had some of it."""
        wait = branch.wait
        wait.arrived = math.inf
        try:
            if listener is not None:
                yield from self._tell(branch, listener)
            elif self.server.stays:
                yield from self.server.occupy(branch, self._service(branch))
            elif self._enter(branch):
                yield
        except BaseException:
            if runs_on(wait):
                self._charge(branch, branch.state.output)
            else:
                self._cut_short(branch, wait)
            raise

    def _cut_short(self, branch: "Branch", wait: Wait) -> None:
        """The call was taken out at `wait`: count the tokens that it came to, and charge for them."""
        if not self.tokens:
            return
        state, facts = branch.state, branch.facts
        if wait.started < wait.arrived:  # it was never served
            facts[NEW_TOKENS] -= state.new
            facts[CARRIED_TOKENS] -= state.carried
            facts[CACHED_TOKENS] -= state.reused
            facts[OUTPUT_TOKENS] -= state.output
            return
        decode = state.output * self.server.output / self.speed
        left = wait.started + wait.service - branch.sim.now
        produced = max(0.0, min(1.0, 1.0 - left / decode)) * state.output if decode else 0.0
        facts[OUTPUT_TOKENS] -= state.output - produced
        self._charge(branch, produced)

    def _number(self, branch: "Branch") -> float:
        """Count the call, and give it its ordinal; 0 bytes."""
        calls, state = branch.calls, branch.state
        ordinal = calls[self.callee]
        calls[self.callee] = ordinal + 1
        state.ordinal = ordinal + state.again
        branch.facts[LLM_CALLS] += 1
        return 0.0

    def _assembled(self, state: Context) -> float:
        """Return the tokens that the caller puts together for the call."""
        if self.grows or not self.tokens:
            return self.prompt + state.tokens
        return state.tokens - state.seen[self.server.index] + self.prompt * (not state.prompted[self.index])

    def _prepare(self, branch: "Branch") -> float:
        """Work out the tokens of the call (hot); return the bytes of its request."""
        self._number(branch)
        state: Context = branch.state
        task = branch.task
        server, index, prompt = self.server, self.index, self.prompt
        if self.output is None:
            output = state.replayed
        else:
            output = float(round(self.output.draw(task.index, state.ordinal, branch.lane)))
        tokens = state.tokens
        total = prompt + tokens
        seen, fresh = state.seen[server.index], not state.prompted[index]
        received = total if self.full else tokens - state.known[index] + prompt * fresh
        if state.parent is not None:
            seen, fresh = state.claim(server.index, index)
        new = tokens - seen + prompt * fresh
        cached = state.cached[index]
        if server.hit != 1.0:
            cached = float(int(cached * server.hit))
        carried = total - new - cached
        if self.trims:
            received = min(received, new)  # on the device, what comes from elsewhere and is new to the server is text
            if not self.grows:
                total, carried, cached = new, 0.0, 0.0
        state.new, state.carried, state.reused, state.output, state.received = new, carried, cached, output, received
        facts = task.facts
        facts[NEW_TOKENS] += new
        facts[CARRIED_TOKENS] += carried
        facts[CACHED_TOKENS] += cached
        facts[OUTPUT_TOKENS] += output
        if self.assemble and self.host is None:
            branch.add(self.assemble_account, self.assemble * total, total)
        if self.inline:
            return received * self.per_token + state.resend(server.index)
        return received * self.per_token

    def _enter(self, branch: "Branch") -> bool:
        """Arrive at the server (hot)."""
        seconds = self._service(branch)
        wait, at = branch.wait, branch.time
        if self.pool is not None:
            return bool(self.pool.use(wait, at, seconds))
        wait.arrived = wait.started = at
        wait.ended = at + seconds
        return False

    def _tell(self, branch: "Branch", listener: Listener) -> Generator[None, Any, None]:
        """Arrive at the server, and tell a listener of each mark when it is reached."""
        pool, wait = self.pool, branch.wait
        if self.server.stays:
            yield from self.server.occupy(branch, self._service(branch))
            for tokens, _ in marks(self, branch, listener, wait.ended):
                listener.emit(tokens, wait.ended, parts_at(self, branch, wait.ended, wait.ended))
            return
        if not isinstance(pool, Pool):
            if self._enter(branch):
                yield
            for tokens, time in marks(self, branch, listener, wait.ended):
                listener.emit(tokens, time, parts_at(self, branch, time, wait.ended))
            return
        seconds = self._service(branch)
        pool.take(wait, branch.time)
        try:
            yield
        except BaseException:
            if runs_on(wait):
                serve_later(pool, wait, seconds)
            raise
        if wait.rejected:
            return
        pool.keep(wait, seconds)  # now that its start is known
        yield from tell_on_time(self, branch, listener, wait.started + seconds)

    def _service(self, branch: "Branch") -> float:
        """Return the seconds of a call that arrives now (hot); `state.share` of them carry context."""
        state, task = branch.state, branch.task
        if self.restores and (state.prompted[self.index] if self.tokens else state.ordinal):  # there is a session
            known = state.known[self.index] if self.tokens else 0.0
            seconds = self.server.restore.seconds(known * self.per_token)
            branch.add(self.server.restore_account, seconds)
        seconds = self.overhead.draw(task.index, state.ordinal, branch.lane)
        if self.tokens:
            server = self.server
            carry = state.carried * server.new + state.reused * server.reused  # `work`, inlined
            first = seconds + state.new * server.new + state.output * server.output
            if server.more:
                again, once = server.beyond(state, branch.time)
                carry += again
                first += once
            seconds = carry + first
            state.share = carry / seconds if carry else 0.0
        seconds /= self.speed
        if self.pace is not None:
            seconds = self.pace.of(seconds, branch)
        state.submitted = branch.time
        if self.splits:
            branch.wait.split = (self.server.carry_account, state.share, self.infer_account)
        if self.limited:
            branch.wait.size = state.new + state.carried + state.reused + state.output
        return seconds

    def _leave(self, branch: "Branch", answered: bool = True) -> float:
        """Book waiting and service; return the bytes of the answer. What ends in an error is not remembered, nor charged for."""
        state: Context = branch.state
        server, wait = self.server, branch.wait
        started, ended = wait.started, wait.ended
        wait.split = None
        outer = branch.open_span()
        branch.book(self.queue_account, wait.arrived, started)
        if wait.rejected:
            wait.rejected = False
            branch.span = outer
            raise CallFailed("overload", f"{server.path}: {wait.refusal}")
        if state.share:
            middle = started + (ended - started) * state.share
            branch.book(server.carry_account, started, middle, state.carried + state.reused)
            started = middle
        branch.book(self.infer_account, started, ended, state.new + state.output)
        branch.close_span(outer, self.call_account, wait.arrived, state.output)
        if answered:
            self._charge(branch, state.output)
            self._remember(branch)
        return state.output * self.per_token

    def _charge(self, branch: "Branch", output: float) -> None:
        """Charge for the prompt, and so many tokens of output."""
        state, server = branch.state, self.server
        if server.priced:
            branch.facts[COST] += (
                (state.new + state.carried) * server.price
                + state.reused * server.reused_price
                + output * server.output_price
            )

    def _remember(self, branch: "Branch") -> None:
        """The call is over: remember what the server has processed."""
        state: Context = branch.state
        server = self.server
        if not self.tokens:
            return  # nobody can carry any: the state has no places for them
        index = self.index
        state.tokens = tokens = state.tokens + state.output
        state.seen[server.index] = tokens
        state.known[index] = tokens
        state.cached[index] = self.prompt + tokens
        state.prompted[index] = True
