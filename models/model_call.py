"""A model server, and a call of it by an agent: which tokens are new, which are carried, and what each costs.

Of the tokens of a prompt (the agent's own prompt and the task's context), those that this server never processed for the
task are new: their prefill is inference. The rest is carried: what the cache still holds costs little or nothing, what
it does not is prefilled again, and both are context. The time of a call splits by these shares, carried tokens first.

Leaves out: batching of calls (see `llm`).
Checked: tests/test_model_call.py, tests/test_context.py.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ..sim.engine.draws import Stream
from .api import Api
from .context import CACHED_TOKENS, CARRIED_TOKENS, COST, LLM_CALLS, NEW_TOKENS, OUTPUT_TOKENS
from .line import Line, cross
from .llm import Llm
from .service import TaskFailed

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.engine.fifo import FifoPool
    from ..sim.engine.pool import Pool
    from .system import System


class ModelServer:
    """A served or hosted model: seconds per token of each kind, its slots, and its prices."""

    def __init__(self, system: "System", index: int, name: str, spec: Llm | Api) -> None:
        self.index = index
        self.name = name
        self.path = f"models.{name}"
        self.node = system.node_of(spec.node)
        self.spec = spec
        self.pool: Pool | FifoPool | None
        if isinstance(spec, Llm):
            self.new, self.reused, self.output = spec.prefill, 0.0, spec.decode
            self.tokenize = spec.tokenize
            self.hit = 1.0 if system.runtime.kv == "keep" else spec.prefix_cache
            self.restore = spec.restore
            self.pool = system.pool(self.path, spec.replicas * spec.concurrency, spec.queue_limit)
            self.price = self.reused_price = self.output_price = 0.0
        else:
            self.new, self.reused, self.output = spec.new, spec.cached, spec.output
            self.tokenize = 0.0
            self.hit = spec.cache_hit
            self.restore = None
            limits = spec.limits
            limited = limits.requests is not None or limits.tokens is not None
            self.pool = system.pool(self.path, limits.concurrency, None, unlimited=limited)
            self.price = spec.price.input
            self.reused_price = spec.price.input if spec.price.cached is None else spec.price.cached
            self.output_price = spec.price.output
            if self.pool is not None and limits.requests is not None:
                system.limit(self.pool, f"{self.path}.requests", limits.requests, max(1.0, limits.requests))
            if self.pool is not None and limits.tokens is not None:
                system.limit(self.pool, f"{self.path}.tokens", limits.tokens, limits.tokens, by_size=True)
        self.speed = spec.speed
        self.priced = bool(self.price or self.reused_price or self.output_price)
        account = system.ledger.account
        self.queue_account = account("queueing", self.path)
        self.infer_account = account("inference", name)
        self.carry_account = account("context", name, "prefill again")
        self.restore_account = account("context", name, "restore session")
        if self.pool is not None:
            system.book_waits(self.pool, self.queue_account, self.infer_account)


class ModelCall:
    """How one caller (an agent or an evaluator) calls a model server.

    `direct` tells which way to make the call: `begin` and `finish` around one wait, or the generator `perform` where a
    link on the way is shared.
    """

    __slots__ = (
        "assemble", "assemble_account", "call_account", "callee", "direct", "factor", "full", "index", "infer_account",
        "line", "output", "overhead", "per_token", "pool", "prompt", "restores", "server",
    )  # fmt: skip

    def __init__(
        self, system: "System", path: str, index: int, server: ModelServer, line: Line, prompt: float, output: Stream[float] | None
    ) -> None:
        self.server = server
        self.pool: Any = server.pool
        self.line = line
        self.direct = line.direct
        self.index = index  # of the caller among those that have a prompt of their own
        self.callee = system.ledger.callee()
        self.prompt = prompt
        self.output = output  # None: the tokens of the trace
        self.overhead = system.stream(f"{server.path}/overhead/{path}", server.spec.overhead)
        residual = server.spec.residual if isinstance(server.spec, Api) else None
        self.factor = None if residual is None or residual.is_constant else system.stream(f"{server.path}/residual/{path}", residual)
        self.full = system.runtime.state == "full"
        self.per_token = system.bytes_per_token
        self.assemble = system.scenario.orchestrator.assemble if self.full else 0.0
        self.restores = system.runtime.state == "delta" and server.restore is not None and not server.restore.is_free
        account = system.ledger.account
        self.assemble_account = account("context", path, "assemble prompt")
        self.call_account = account("structure", server.name, "chat")
        self.infer_account = server.infer_account

    def begin(self, branch: "Branch") -> bool:
        """Build the prompt, send it over a free or uncontended line, and arrive. Return whether the script must yield."""
        size = self._prepare(branch)
        request = self.line.request
        if request is not None:
            request.send(branch, size, branch.state.ordinal)
        return self._enter(branch)

    def finish(self, branch: "Branch") -> None:
        """Book the call, and bring the answer back."""
        size = self._leave(branch)
        response = self.line.response
        if response is not None:
            response.send(branch, size, branch.state.ordinal)

    def perform(self, branch: "Branch") -> Generator[None, Any, None]:
        """The whole call, where links on the way are shared."""
        size = self._prepare(branch)
        ordinal = branch.state.ordinal
        yield from cross(self.line.request, branch, size, ordinal)
        if self._enter(branch):
            yield
        size = self._leave(branch)
        yield from cross(self.line.response, branch, size, ordinal)

    def _prepare(self, branch: "Branch") -> float:
        """Work out the tokens of the call (hot); return the bytes of its request."""
        state = branch.state
        task = branch.task
        ordinal = branch.calls[self.callee]
        branch.calls[self.callee] = ordinal + 1
        state.ordinal = ordinal
        server = self.server
        index = self.index
        output = state.replayed if self.output is None else float(round(self.output.draw(task.index, ordinal, branch.lane)))
        tokens = state.tokens
        prompt = self.prompt
        total = prompt + tokens
        new = tokens - state.seen[server.index]
        if not state.prompted[index]:
            new += prompt
        cached = state.cached[index]
        if server.hit != 1.0:
            cached = float(int(cached * server.hit))
        carried = total - new - cached
        if self.full:
            received = total
        else:
            received = tokens - state.known[index]
            if not state.prompted[index]:
                received += prompt
        state.new, state.carried, state.reused, state.output, state.received = new, carried, cached, output, received
        facts = task.facts
        facts[LLM_CALLS] += 1
        facts[NEW_TOKENS] += new
        facts[CARRIED_TOKENS] += carried
        facts[CACHED_TOKENS] += cached
        facts[OUTPUT_TOKENS] += output
        if self.assemble:
            branch.add(self.assemble_account, self.assemble * total, total)
        return received * self.per_token

    def _enter(self, branch: "Branch") -> bool:
        """Arrive at the server (hot): its service is known, and how much of it is context."""
        state = branch.state
        server = self.server
        task = branch.task
        if self.restores:
            seconds = server.spec.restore.seconds(state.known[self.index] * self.per_token)  # type: ignore[union-attr]
            branch.add(server.restore_account, seconds)
        fixed = self.overhead.draw(task.index, state.ordinal, branch.lane)
        carry = state.carried * server.new + state.reused * server.reused
        seconds = fixed + carry + state.new * server.new + state.output * server.output
        if server.tokenize:
            again = max(0.0, state.received - state.new) * server.tokenize
            carry += again
            seconds += again + min(state.new, state.received) * server.tokenize
        state.share = carry / seconds if carry else 0.0
        seconds /= server.speed
        if self.factor is not None:
            seconds *= self.factor.draw(task.index, state.ordinal, branch.lane)
        pool = self.pool
        wait = branch.wait
        state.submitted = branch.time
        if pool is None:
            wait.arrived = wait.started = branch.time
            wait.ended = branch.time + seconds
            return False
        wait.size = state.new + state.carried + state.reused + state.output
        return bool(pool.use(wait, branch.time, seconds))

    def _leave(self, branch: "Branch") -> float:
        """Book waiting and service, and remember what the server has processed; return the bytes of the answer."""
        state = branch.state
        server = self.server
        wait = branch.wait
        started, ended = wait.started, wait.ended
        outer = branch.open_span()
        branch.book(server.queue_account, wait.arrived, started)
        if wait.rejected:
            wait.rejected = False
            raise TaskFailed(f"{server.path}: queue full")
        if state.share:
            middle = started + (ended - started) * state.share
            branch.book(server.carry_account, started, middle, state.carried + state.reused)
            started = middle
        branch.book(self.infer_account, started, ended, state.new + state.output)
        branch.close_span(outer, self.call_account, wait.arrived, state.output)
        if server.priced:
            branch.task.facts[COST] += (
                (state.new + state.carried) * server.price
                + state.reused * server.reused_price
                + state.output * server.output_price
            )
        index = self.index
        state.tokens = tokens = state.tokens + state.output
        state.seen[server.index] = tokens
        state.known[index] = tokens
        state.cached[index] = self.prompt + tokens
        state.prompted[index] = True
        self.line.notice(branch, state.submitted)
        return state.output * self.per_token
