"""A model server with a law in tokens, and the guard around its calls.

Leaves out: servers that batch, which `served` has.
Checked: tests/test_model_call.py, tests/test_llm.py, tests/test_cpu_models.py.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..sim.engine.pool import Pool
from .api import Api, Limits
from .condition import Condition
from .failure import TaskFailed
from .guard import Guard
from .handling import Handling
from .line import booked, held, serve
from .llm import Llm
from .pace import each_call
from .serializer import Law

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch, Wait
    from ..sim.engine.fifo import FifoPool
    from ..sim.engine.ledger import Ledger
    from .context import Context
    from .host import Host
    from .system import System

__all__ = ["ModelServer", "guarded", "tokenizing"]


def _limit(system: "System", path: str, pool: "Pool | FifoPool", limits: Limits) -> None:
    """Put the limits of a provider before the slots of its model."""
    pool.strict = limits.refuse
    if limits.requests is not None:
        system.limit(pool, f"{path}.requests", limits.requests, max(1.0, limits.requests))
    if limits.tokens is not None:
        system.limit(pool, f"{path}.tokens", limits.tokens, limits.tokens, by_size=True)


class ModelServer:
    """A served or hosted model with a law in tokens: seconds per token of each kind, its slots, and its prices."""

    def __init__(self, system: "System", index: int, name: str, spec: Llm | Api) -> None:
        self.index = index
        self.name = name
        self.path = f"models.{name}"
        self.node = system.node_of(spec.node)
        self.spec = spec
        self.host: Host | None = system.hosts.get(self.node)
        self.pool: Pool | FifoPool | None
        self.residual = each_call(spec.residual)  # of a call's time, as a factor
        self.cores: Host | None = None  # where the work of a call is done, slowed down and all
        self.attention, self.beside, self.follows = 0.0, 1.0, 1.0
        if isinstance(spec, Llm):
            self.new, self.reused, self.output = spec.prefill, 0.0, spec.decode
            self.attention, self.beside, self.follows = spec.attention, spec.beside, spec.follows
            if spec.cpu and self.host is not None:
                self.cores, self.host = self.host, None
            self.tokenize = spec.tokenize
            self.hit = spec.prefix_cache if system.runtime.kv == "discard" else 1.0
            self.restore = spec.restore
            self.pool = system.pool(self.path, spec.replicas * spec.concurrency, spec.queue_limit)
            self.price = self.reused_price = self.output_price = 0.0
        else:
            self.new, self.reused, self.output = spec.new, spec.cached, spec.output
            self.tokenize = 0.0
            self.hit = spec.cache_hit
            self.restore = Law()
            limits = spec.limits
            limited = limits.requests is not None or limits.tokens is not None
            self.pool = system.pool(self.path, limits.concurrency, None, unlimited=limited)
            self.price = spec.price.input
            self.reused_price = spec.price.input if spec.price.cached is None else spec.price.cached
            self.output_price = spec.price.output
            if self.pool is not None:
                _limit(system, self.path, self.pool, limits)
        self.stays = (
            self.cores is not None or self.beside != 1
        )  # how long a call takes is known when it begins, or later
        self.more = bool(self.tokenize or self.attention)
        if self.cores is not None:
            self.cores.join(self.pool)
        self.best_hit = self.hit
        self.speed = spec.speed
        self.refuses = self.pool is None or self.pool.queue_limit is not None or bool(self.pool.limits)
        self.priced = bool(self.price or self.reused_price or self.output_price)
        self._accounts(system)

    def _accounts(self, system: "System") -> None:
        """Make its accounts, and what handles its failures."""
        spec, name = self.spec, self.name
        account = system.ledger.account
        self.queue_account = account("queueing", self.path)
        self.infer_account = account("inference", name)
        # What a provider does with carried tokens is not told: it may prefill them, or find them in its cache.
        self.carry_account = account("context", name, "prefill again" if isinstance(spec, Llm) else "carried tokens")
        self.restore_account = account("context", name, "restore session")
        if self.pool is not None:
            system.book_waits(self.pool, self.queue_account, self.infer_account)
        self.condition, self.guard = guarded(system, self.path, spec.handling, (self.infer_account, self.carry_account))
        if self.condition is not None:
            self.condition.pool = self.pool
        self.encode_account = self.infer_account
        if any(encoder.model == name for encoder in system.scenario.encoders.values()):
            self.encodes(system.ledger)

    def encodes(self, ledger: "Ledger") -> None:
        """Get ready to encode, before the first task: it has an account of its own."""
        self.encode_account = ledger.account("inference", self.name, "encode")

    def encode(self, branch: "Branch", seconds: float, footprint: float) -> Generator[None, Any, None]:
        """Encode an input for `seconds` on one of the slots; a station knows no memory that its `footprint` (bytes) could fill.

        Raises TaskFailed where the queue is full.
        """
        branch.wait.split = (self.encode_account, 1.0, self.encode_account)  # where it is booked if it is cut off
        accounts = self.queue_account, self.encode_account
        if self.stays:
            yield from self.occupy(branch, seconds)
            refused = booked(branch, accounts, branch.wait.ended, footprint)
        else:
            refused = yield from serve(branch, self.pool, seconds, accounts, footprint)
        branch.wait.split = None
        if refused:
            raise TaskFailed(f"{self.path}: {branch.wait.refusal}")

    def occupy(self, branch: "Branch", seconds: float) -> Generator[None, Any, None]:
        """Work for `seconds` on one of the slots, longer beside others. `branch.wait` then tells the times, or that it was refused."""
        assert isinstance(self.pool, Pool), "a pool that answers on arrival cannot be held"
        yield from held(branch, self.pool, partial(self._begin, self.pool, branch.wait, seconds))

    def _begin(self, pool: Pool, wait: "Wait", seconds: float) -> None:
        """Begin a call now that has its slot."""
        seconds *= self.beside ** (pool.busy - 1)
        if self.cores is None:
            pool.keep(wait, seconds)
        else:
            self.cores.begin(wait, pool, self.cores.share_of(seconds, self.follows, pool.sim.now))

    least: Callable[[float, float, float, float], float] | None = None  # a call takes its slot for all of its time

    def work(self, new: float, carried: float, reused: float, output: float) -> tuple[float, float]:
        """Return the seconds that tokens of each kind cost at speed 1: first what is done for the first time, then the rest."""
        squared = self.attention * (new + carried)  # per token
        return new * (self.new + squared) + output * self.output, carried * (self.new + squared) + reused * self.reused

    def beyond(self, state: "Context", now: float) -> tuple[float, float]:
        """Return the seconds of a call that are in no proportion to its tokens alone: of what it carries, and of what is new."""
        again, once = tokenizing(self, state.new, state.received, now)
        squared = self.attention * (state.new + state.carried)
        return again + squared * state.carried, once + squared * state.new


def guarded(
    system: "System", path: str, handling: Handling, work: tuple[int, ...]
) -> tuple[Condition | None, Guard | None]:
    """Return the condition of a component and the guard around its calls; None where nothing goes wrong and nothing is handled."""
    if not system.plan.active and handling == Handling():
        return None, None
    condition = system.condition(path, system.ledger.account("recovery", path))
    return condition, Guard(system, path, handling, work, condition)


def tokenizing(server: Any, new: float, received: float, now: float) -> tuple[float, float]:
    """Return the seconds to make tokens of text received at `now`: of what was tokenized before, and of what is new.

    It is work of the node's cores, which others slow down.
    """
    each = server.tokenize if server.host is None else server.tokenize * server.host.slowdown(now)
    return max(0.0, received - new) * each, min(new, received) * each
