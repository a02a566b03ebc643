"""A served model with a shape, and a call of it: what an agent's call asks of the inference server.

A call names its content: the caller's own prompt, which all tasks share, then the task's context, of which parallel branches
share what they began with. So the server finds what it still holds, and the ledger tells apart what it computes for the
first time for this task from what it computes again.

Leaves out: branches that continue beyond a join share the first branch's part only, as the prompt then goes on from there.
Checked: tests/test_served.py, tests/test_cluster.py; tests/test_streaming_calls.py, tests/test_encoder_jobs.py.
"""

import math
from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING, Any

from ..sim.analysis.result import Meter
from ..sim.engine.branch import Wait
from ..sim.engine.random_variable import Distribution
from .context import CACHED_TOKENS, CARRIED_TOKENS, OUTPUT_TOKENS, TTFT, Context
from .failure import CallFailed, TaskFailed
from .listener import Listener
from .llm import Llm
from .model_call import ModelCall
from .model_server import guarded, tokenizing
from .replica_faults import ModelCondition
from .serializer import Law
from .serving.ahead import AheadReplica
from .serving.cluster import Cluster
from .serving.encoding import Encodings, Job
from .serving.kernel_steps import KernelSteps
from .serving.kv_cache import KvCache, Path, Tier
from .serving.outage import Outages
from .serving.places import Limits, Transfers
from .serving.replica import Replica
from .serving.request import INFER, Request
from .serving.retention import Retention
from .serving.routing import Router
from .serving.spec import HOST_BANDWIDTH

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.engine.ledger import Ledger
    from .system import System

__all__ = ["ServedCall", "ServedModel"]


class ServedModel:
    """A served model: its replicas as one resource of the run."""

    priced = False
    hit = 0.0  # what is found in a cache is known when a call is over
    refuses = True

    def __init__(self, system: "System", index: int, name: str, spec: Llm) -> None:
        assert spec.shape is not None
        assert system.machine is not None
        self.index = index
        self.name = name
        self.path = f"models.{name}"
        self.node = system.node_of(spec.node)
        self.spec = spec
        self.shape = spec.shape
        self.machine = system.machine
        self.tokenize = spec.tokenize
        self.restore: Law = spec.restore
        self.speed = spec.speed
        self.steps = spec.steps(system.machine)
        self.iteration = self.steps.iteration_time if isinstance(self.steps, KernelSteps) else None
        self.residual: Distribution | None = self._noise()
        self.kv_bytes = spec.shape.kv_bytes_per_token(spec.cache_type)
        self.on_device = system.runtime.control == "device"
        self.host = system.hosts.get(self.node)
        self.cores = None  # it runs on its device
        self.stays = False
        self.slowdown = _no_host if self.on_device else None if self.host is None else self.host.slowdown
        account = system.ledger.account
        self.queue_account = account("queueing", self.path)
        self.load_account = account("context", name, "fetch KV")
        self.carry_account = account("context", name, "prefill again")
        self.infer_account = self.encode_account = account("inference", name)
        self.restore_account = account("context", name, "restore session")
        self.best_hit = 1.0 if spec.cache.prefix and system.runtime.kv != "discard" else 0.0
        self.ranks = [group.priority for group in system.scenario.all_classes.values()]
        self.attained: dict[int, float] = {}  # by task: tokens computed for it so far
        self.pool = self._cluster(system)
        system.ledger.resources.append(self.pool)
        meters = tuple(Meter(*meter) for meter in Cluster.METERS)
        system.capacities.append(("server", self.path, spec.most_replicas, meters))
        work = (self.infer_account, self.carry_account)
        self.condition, self.guard = guarded(system, self.path, spec.handling, work)
        if isinstance(self.condition, ModelCondition):
            self.condition.pool = self.pool
            self.condition.replicas = Outages(self.pool, spec.most_replicas)
        if any(encoder.model == name for encoder in system.scenario.encoders.values()):
            self.encodes(system.ledger)

    def _noise(self) -> Distribution | None:
        """Return how repeats of a product differ: what makes a kernel slow, such as the clock, lasts longer than a kernel."""
        name = {"dtype": self.spec.dtype}
        return self.machine.timing("gemm", **name).noise if self.machine.has("gemm", **name) else None

    def _cluster(self, system: "System") -> Cluster:
        spec = self.spec
        accounts = (self.queue_account, self.load_account, self.carry_account, self.infer_account)
        retention = Retention(system.runtime.kv, spec.cache.hold, self.kv_bytes, sticky=spec.router == "session")
        split = spec.disaggregated
        cluster = Cluster(
            system.sim, self.path, self.replica, spec.replicas if split is None else split.prefill, Router(spec.router),
            retention, accounts, spec.queue_limit,
        )  # fmt: skip
        cluster.autoscale = spec.autoscale
        if split is not None:
            cluster.split(split, self.kv_bytes, self.replica)
        return cluster

    def replica(self) -> Replica:
        """Return one more replica."""
        spec, batching, cache = self.spec, self.spec.batching, self.spec.cache
        each = self.kv_bytes * batching.block
        tiers, links = [], []
        device = self.machine.device
        if cache.host or batching.preemption == "swap":
            nominal = device.host_link if device is not None and device.host_link else HOST_BANDWIDTH
            links.append(Transfers((cache.host_bandwidth or nominal) * spec.tensor_parallel))
        if cache.host:
            tiers.append(Tier("host", cache.host // each))
        if cache.remote:
            tiers.append(Tier("remote", cache.remote // each))
            links.append(Transfers(cache.remote_bandwidth, cache.remote_latency))
        kv = KvCache(spec.blocks(self.machine), prefix=cache.prefix, ttl=cache.ttl, tiers=tiers)
        limits = Limits(
            batching.sequences, batching.tokens, batching.block, batching.chunked, batching.policy, batching.preemption,
            batching.host_step, batching.host_token,
        )  # fmt: skip
        engine = None if self.iteration is None else self.iteration.host
        kind = AheadReplica if batching.ahead else Replica
        return kind(self.steps, kv, limits, engine, self.slowdown, tuple(links), self.kv_bytes)

    def work(self, new: float, carried: float, reused: float, output: float) -> tuple[float, float]:
        """Return the seconds of a call that is alone: first what is done for the first time, then the rest."""
        prompt, cached = max(1, round(new + carried)), round(reused)
        prefill = self.steps.iteration([(prompt, cached)], 0, 0.0, 0.0) + self._host(1)
        later = max(0, round(output) - 1)
        length = prompt + cached + 1.0
        decode = self.steps.run(1, length, length, later) + later * self._host(1) if later else 0.0
        carry = prefill * carried / prompt
        return prefill - carry + decode, carry

    def least(self, new: float, carried: float, reused: float, output: float) -> float:
        """Return the seconds of a device that a call takes at least: in the fullest batch that there can be."""
        prompt, cached, later = max(1, round(new + carried)), round(reused), max(0, round(output) - 1)
        batching = self.spec.batching
        length = prompt + cached + output / 2
        room = self.spec.blocks(self.machine) * batching.block / length
        most = max(1, int(min(batching.sequences, room)))
        seconds = self.steps.iteration([(prompt, cached)], 0, 0.0, 0.0)
        if later:
            each = self.steps.iteration([], most, most * length, length) + self._host(most)
            seconds += later * each / most
        return seconds

    def _host(self, sequences: int) -> float:
        if self.on_device:
            return 0.0
        batching = self.spec.batching
        engine = 0.0 if self.iteration is None else self.iteration.host(sequences)
        return batching.host_step + batching.host_token * sequences + engine

    def encodes(self, ledger: "Ledger") -> None:
        """Get ready to encode, before the first task: it has an account of its own."""
        self.encode_account = ledger.account("inference", self.name, "encode")
        self.pool.encodings = Encodings(self.pool, (self.queue_account, self.encode_account))

    def encode(self, branch: "Branch", seconds: float, footprint: float) -> Generator[None, Any, None]:
        """Encode an input for `seconds` on the device; what it makes fills `footprint` bytes of the memory for KV from then on.

        It goes where an earlier input of the task lies, else where the router says; the task's next call follows it, and once that
        has been prefilled, or the task is over, the memory is free again. Raises TaskFailed where it could never have room.
        """
        assert self.pool.encodings is not None, "`encodes` comes first"
        wait = branch.wait
        over = getattr(branch.task, "trunk", None) is None  # this branch runs on after the end of its task
        blocks = math.ceil(footprint / (self.kv_bytes * self.spec.batching.block))
        if self.pool.encodings.use(wait, branch.time, Job(branch.index, seconds, blocks, keeps=not over)):
            yield
        branch.book(self.queue_account, wait.arrived, wait.started)
        if wait.rejected:
            wait.rejected, wait.place = False, None
            raise TaskFailed(f"{self.path}: what was encoded is larger than the memory for KV")
        branch.book(self.encode_account, wait.started, wait.ended, footprint)

    def flags(self) -> list[str]:
        """Return where laws were asked for what they were not fitted on."""
        return [] if self.iteration is None else self.iteration.flags()

    def forget(self, task: int) -> None:
        """A task is over."""
        self.attained.pop(task, None)
        self.pool.forget(task)


def _no_host(_now: float) -> float:
    """Stretch all time of the host to nothing: the device decides by itself."""
    return 0.0


class ServedCall(ModelCall):
    """How one caller calls a served model."""

    __slots__ = ("block", "key")

    server: Any

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.block = self.server.spec.batching.block
        self.key: Hashable = ("prompt", self.index)

    def _path(self, branch: "Branch", opens: bool) -> Path:
        """Return the content of the prompt, in full blocks; `opens` tells that the caller's own is new to the task."""
        state: Context = branch.state
        block, prompt = self.block, int(self.prompt)
        before = prompt // block
        if not self.grows and state.new < self.prompt + state.tokens:  # what else is sent goes on from nothing
            if not (prompt and opens):
                return ()
            return (self.key, before), (state.segments[-1][0], int(state.new) // block - before)
        segments = state.segments
        if len(segments) == 1:
            rest = (segments[0][0], (prompt + int(state.tokens)) // block - before)
            return ((self.key, before), rest) if prompt else (rest,)
        found: list[tuple[Hashable, int]] = [(self.key, before)] if prompt else []
        last = len(segments) - 1
        for number, (key, _start) in enumerate(segments):
            end = state.tokens if number == last else segments[number + 1][1]
            blocks = (prompt + int(end)) // block
            found.append((key, blocks - before))
            before = blocks
        return tuple(found)

    def _enter(self, branch: "Branch") -> bool:
        """Arrive at the server (hot)."""
        state, task, server = branch.state, branch.task, self.server
        if self.restores and state.prompted[self.index]:
            seconds = server.restore.seconds(state.known[self.index] * self.per_token)
            branch.add(server.restore_account, seconds)
        overhead = self.overhead.draw(task.index, state.ordinal, branch.lane)
        if server.tokenize:
            again, once = tokenizing(server, state.new, state.received, branch.time)
            branch.add(server.carry_account, again / self.speed)
            overhead += once
        if overhead:
            branch.add(server.infer_account, overhead / self.speed)
        factor = 1.0 if self.pace is None else self.pace.of(1.0, branch)
        total = int(state.new + state.carried)
        opens = not state.prompted[self.index] and state.new >= self.prompt
        request = Request(
            max(1, total), int(state.output), 0.0, self._path(branch, opens), int(state.carried), factor / self.speed
        )
        if opens:
            request.front = int(self.prompt)
        request.session = (task.index, self.index, branch.lane)
        request.priority = self.priority + server.ranks[task.group]
        request.attained = server.attained.get(task.index, 0.0)
        state.submitted = at = branch.time
        return bool(server.pool.use(branch.wait, at, request))

    def _tell(self, branch: "Branch", listener: Listener) -> Generator[None, Any, None]:
        """Arrive at the server, and tell a listener of each mark when it is reached."""
        self._enter(branch)
        wait, cluster = branch.wait, self.server.pool
        cluster.listen()
        request: Request = wait.place

        def told(tokens: int, now: float) -> None:
            parts = branch.parts[:]
            for account, start, end in cluster.open_parts(wait, now):
                parts[account] += end - start
            listener.emit(tokens, now, parts)

        request.marks, request.told = listener.counts(request.output), told
        try:
            yield
        finally:
            request.told = None

    def _cut_short(self, branch: "Branch", wait: Wait) -> None:
        """The call was taken out: count the tokens that it came to, and charge for them."""
        state = branch.state
        request: Request = wait.place
        produced = request.generated
        branch.facts[OUTPUT_TOKENS] -= state.output - produced
        self._charge(branch, produced)

    def _leave(self, branch: "Branch", answered: bool = True) -> float:
        """Book what became of the call; return the bytes of the answer."""
        state: Context = branch.state
        server, wait = self.server, branch.wait
        request: Request = wait.place
        wait.place = None
        outer = branch.open_span()
        if wait.rejected:
            wait.rejected = False
            fits = server.pool.drivers[0].replica.fits(request)
            branch.span = outer
            full, long = f"{server.path}: queue full", f"{server.path}: longer than the memory for KV"
            raise CallFailed("overload", full) if fits else TaskFailed(long)
        start = wait.arrived
        accounts = (*server.pool.accounts[:INFER], self.infer_account)  # which of a summary is context
        for kind, end in request.phases:
            branch.book(accounts[kind], start, end, request.prompt)
            start = end
        branch.close_span(outer, self.call_account, wait.arrived, state.output)
        facts = branch.facts
        facts[CARRIED_TOKENS] += request.recomputed - state.carried
        facts[CACHED_TOKENS] += request.hit
        facts[TTFT] += request.first_token - wait.arrived
        task = branch.task
        if task.tail is None:  # else it is forgotten already, and this branch runs on
            attained = server.attained.get(task.index, 0.0)
            server.attained[task.index] = attained + (request.prompt - request.hit) + request.generated
        if answered:
            self._charge(branch, state.output)
            self._remember(branch)
        return state.output * self.per_token
