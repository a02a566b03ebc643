"""A system: a scenario put together and ready to run, with its simulation, ledger, draws and components.

Checked: tests/test_simulate.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from ..sim.engine.distributions import AnyDraw
from ..sim.engine.draws import Draws, Stream
from ..sim.engine.fifo import FifoPool
from ..sim.engine.ledger import Ledger
from ..sim.engine.limiter import Limiter
from ..sim.engine.pool import Pool
from ..sim.engine.sharing import Sharing
from ..sim.engine.simulation import Simulation
from .agent import Agent
from .api import Api
from .condition import Condition
from .context import FACTS, Context
from .cuts import cancels, holds
from .encoder import EncoderServer
from .evaluator import Evaluator
from .fault_plan import FaultPlan
from .host import hosts
from .line import Line
from .link_faults import LinkFaults
from .llm import Llm
from .memory import Memory
from .model_call import ModelCall
from .model_server import ModelServer
from .network import BOUNDARIES, BoundaryName, Channel, HandOff, Hop, LinkSpec, crossing
from .scenario import Scenario
from .serializer import ProfileSerializer
from .served import ServedCall, ServedModel
from .service import Service, ServiceSpec

Client = Literal["source", "target", "both"]
LOCAL = ""  # the node of components that name none


@dataclass(frozen=True, slots=True)
class Slots:
    """The tasks that an agent may have under way at once."""

    pool: Pool
    queue_account: int


class System:
    """The components of one replication of a scenario, and how to make more of them.

    `pool`, `stream`, `channel` and `line` are how components get what they need; each is made once, under its path.
    """

    def __init__(self, scenario: Scenario, seed: int, replication: int, spans: str) -> None:
        self.scenario = scenario
        self.runtime = scenario.runtime
        self.machine = scenario.machine
        self.serializers = scenario.all_serializers
        self.loopback = scenario.network.between_processes(self.machine)
        self.bytes_per_token = scenario.context.bytes_per_token
        self.sim = Simulation()
        self.ledger = Ledger(self.sim, FACTS, spans)
        self.draws = Draws(seed, replication)
        self.has_tokens = has_tokens(scenario)
        self.incidents = self.ledger.incidents
        self.plan = FaultPlan(self)
        self.cancels = bool(self.plan.active) or cancels(scenario)
        self.holds = self.cancels or holds(scenario)
        self.capacities: list[tuple[Any, ...]] = []  # kind, name, capacity and meters of each resource of the ledger
        self.served: list[ServedModel] = []  # which hold state of tasks
        self.homes: list[str] = [self.node_of(scenario.orchestrator.node)]
        self.prompts: list[float] = []  # of each caller of a model
        self._calls: dict[str, ModelCall] = {}
        self._services: dict[str, Service] = {}
        self._made: dict[str, Any] = {}
        self._graph = self._routes()
        self._links: dict[tuple[str, str], Sharing | None] = {}
        self.devices: dict[str, str] = {}  # the homes that are devices of model servers, and the nodes they are in
        self.hosts = hosts(self)  # of nodes whose cores are counted
        self.servers: dict[str, Any] = {
            name: self._server(index, name, spec) for index, (name, spec) in enumerate(scenario.models.items())
        }
        self.memories = list(scenario.memories)

    def _server(self, index: int, name: str, spec: Llm | Api) -> ModelServer | ServedModel:
        if isinstance(spec, Llm) and spec.shape is not None:
            self.served.append(ServedModel(self, index, name, spec))
            return self.served[-1]
        return ModelServer(self, index, name, spec)

    def context(self, task: int) -> Context:
        """Return the state with which a task begins."""
        servers, callers = (len(self.servers), len(self.prompts)) if self.has_tokens else (0, 0)
        context = Context(servers, callers, len(self.memories), len(self.homes))
        if self.served:
            context.segments = ((task, 0.0),)
        return context

    def doubts(self) -> list[str]:
        """Return where the run asked laws of its profile for what they were not fitted on."""
        found = [f"{server.path}: {flag}" for server in self.served for flag in server.flags()]
        found += [f"network.nodes.{name}: {flag}" for name, host in self.hosts.items() for flag in host.flags()]
        for name, codec in self.serializers.items():
            if isinstance(codec, ProfileSerializer):
                for law in (codec.encode, codec.decode):
                    found += [f"serializers.{name}: {flag}" for flag in law.timing.flags()]
        for name in self.scenario.encoders:
            encoder = self._made.get(f"encoders.{name}")
            found += [] if encoder is None else [f"encoders.{name}: {flag}" for flag in encoder.flags()]
        checkpoints = self._made.get("orchestrator/checkpoints")
        if checkpoints is not None:
            found += [f"orchestrator.checkpoint: {flag}" for flag in checkpoints.flags()]
        trace = self.scenario.workload.arrivals.trace
        if trace is not None and trace.blocks is not None and not self.served:
            doubt = "no model has a `shape`, so that none keeps what requests share"
            found.append(f"workload.arrivals.trace.blocks: {doubt}")
        return list(dict.fromkeys(found))

    # Places

    def node_of(self, name: str | None) -> str:
        """Return the node of a component: the one it names, else that of the orchestrator."""
        if name is not None:
            return name
        return self.scenario.orchestrator.node or LOCAL

    def home(self, own: str | None, server: ModelServer | None) -> int:
        """Return the index of the node where a caller runs, as the runtime places it."""
        placement = self.runtime.placement
        if self.runtime.control == "device" and server is not None and isinstance(server.spec, Llm):
            node = f"{server.path}.device"
            self.devices[node] = server.node
        elif placement == "external":
            node = self.node_of(None)
        elif placement == "co-located" and own is None and server is not None:
            node = server.node
        else:
            node = self.node_of(own)
        if node not in self.homes:
            self.homes.append(node)
        return self.homes.index(node)

    # Draws and resources

    def stream(self, name: str, distribution: AnyDraw) -> Stream[float]:
        """Return the stream of draws of a distribution."""
        return self.draws.stream(name, distribution.sampler)

    def pool(self, name: str, capacity: int | None, queue_limit: int | None, unlimited: bool = False) -> Any:
        """Return a pool, or None where nothing can ever wait (no capacity given, and not `unlimited` for a rate limit).

        Where a branch may be cancelled it must not run far ahead of the clock: then there is always a pool. Where places are held, or
        given up, it is one that can.
        """
        limited = capacity is not None or unlimited
        if not (limited or self.cancels):
            return None
        pool = (Pool if self.holds else FifoPool)(self.sim, name, capacity, queue_limit)
        if limited:
            self.counts(pool, "pool", capacity)
        return pool

    def counts(self, resource: Any, kind: str, capacity: int | None) -> None:
        """Keep the use of a resource in the ledger."""
        self.ledger.resources.append(resource)
        self.capacities.append((kind, resource.name, capacity))

    def condition(self, path: str, recovery: int) -> Condition | None:
        """Return the condition of a component; None where nothing ever goes wrong. `recovery` is the account of a wait for no answer."""
        return self.plan.condition(path, recovery) if self.plan.active else None

    @cached_property
    def recovery_accounts(self) -> list[int]:
        """The accounts of what is lost to faults."""
        return [number for number, account in enumerate(self.ledger.accounts) if account.category == "recovery"]

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what `make` made the first time that `key` was asked for: a part that several steps share."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def event_loop(self) -> Any:
        """Return the pool of the orchestrator's event loops, shared by all agents; None without a limit."""
        return self.once("orchestrator", self._make_loop)

    def _make_loop(self) -> Any:
        pool = self.pool("orchestrator", self.scenario.orchestrator.concurrency, None)
        account = self.ledger.account
        self.book_waits(pool, account("queueing", "orchestrator"), account("orchestration", "orchestrator", "dispatch"))
        return pool

    def agent_slots(self, path: str, concurrency: int | None) -> "Slots | None":
        """Return the slots of an agent, shared by its steps; None without a limit."""
        return None if concurrency is None else self.once(path, lambda: self._make_slots(path, concurrency))

    def _make_slots(self, path: str, concurrency: int) -> "Slots":
        pool = Pool(self.sim, path, concurrency)
        self.counts(pool, "pool", concurrency)
        slots = Slots(pool, self.ledger.account("queueing", path))
        pool.queue_account = pool.service_account = slots.queue_account
        return slots

    def limit(self, pool: Pool | FifoPool, name: str, rate: float, burst: float, by_size: bool = False) -> None:
        """Put a rate limit before a pool."""
        pool.limit(Limiter(name, rate, burst, by_size))

    def book_waits(self, pool: Any, queue_account: int, service_account: int) -> None:
        """Tell where a wait that the end of the run cuts off is booked."""
        if isinstance(pool, Pool):
            pool.queue_account, pool.service_account = queue_account, service_account

    # The network

    def _routes(self) -> Any:
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.scenario.network.nodes)
        for link in self.scenario.network.links:
            a, b = link.ends
            cost = link.latency.mean + link.overhead
            for source, target in [(a, b)] + ([(b, a)] if link.between is not None else []):
                if not graph.has_edge(source, target) or cost < graph.edges[source, target]["cost"]:
                    graph.add_edge(source, target, cost=cost, link=link)
        return graph

    def _shared(self, source: str, target: str, link: LinkSpec) -> Sharing | None:
        """Return the bandwidth of one direction of a link, shared by all who use it; None where none is shared."""
        key = (source, target)
        if key not in self._links:
            made = None
            if link.bandwidth is not None and link.shared:
                name = f"network.{source}->{target}"
                made = Sharing(self.sim, name, link.bandwidth)
                made.service_account = self.ledger.account("communication", name, "transmit")
                self.counts(made, "link", 1)
            self._links[key] = made
        return self._links[key]

    def channel(
        self,
        name: str,
        source: str,
        target: str,
        peer: str,
        connects: bool = False,
        boundary: BoundaryName | None = None,
        codec: str | None = None,
        client: Client = "source",
    ) -> Channel | None:
        """Return the way from one home to another for the messages called `name`, or None where it costs nothing.

        `connects` tells that it may need a new connection, `boundary` what is crossed at its end whatever else is, `codec` what
        encodes in place of the runtime's, `client` who asks: the end that is part of the orchestrator where that is at its home.
        """
        runtime, network = self.runtime, self.scenario.network
        if runtime.connection == "free":
            return None
        a, b = self.devices.get(source, source), self.devices.get(target, target)
        crossed = boundary
        if a == b and crossed is None:
            crossed = "shared-memory" if runtime.connection == "shared-memory" else network.boundary
        hops = [] if a == b else self._hops(name, a, b)
        if boundary is not None or (a == b and runtime.connection != "in-process"):
            latency = self.loopback[0] if crossed is None else crossing(crossed, self.machine)[0]
            hop = "loopback" if crossed is None else f"boundary.{crossed}"
            stream = self.draws.stream(f"network.loopback/{name}", latency)
            hops.append(Hop(hop, stream, 0.0, None, host=self.hosts.get(a) if a == b else None))
        leaves = (source != a) + (target != b)
        if not hops and not leaves:
            return None
        within = not hops or (a == b and crossed is not None and BOUNDARIES[crossed].within)
        spoken = codec or runtime.codec
        coder = None if spoken is None or within else self.serializers[spoken]
        shakes = crossed is None or BOUNDARIES[crossed].handshakes
        handshakes = network.handshakes if connects and shakes and hops and runtime.connection == "new" else 0
        channel = Channel(self, name, peer, hops, coder, network.header if hops else 0.0, handshakes)
        if network.stack is not None and not within:
            asks = "client", "server"
            for end, side in zip(channel.ends, asks[::-1] if client == "target" else asks, strict=True):
                stack = getattr(network.stack, side)
                end.runs_a_stack(self, peer, stack.send if end.sends else stack.receive)
        channel.on_cores(self, (self.hosts.get(a), self.hosts.get(b)), self._on_loops(source, target, client))
        if leaves:
            channel.leave(self.ledger, peer, HandOff(self.machine, leaves))
        return None if channel.is_free else channel

    def _on_loops(self, source: str, target: str, client: Client) -> tuple[bool, bool]:
        """Return at which ends of a channel messages are handled on the event loops of the orchestrator."""
        if not self.scenario.orchestrator.single_threaded:
            return False, False
        ours = self.homes[0]
        return client != "target" and source == ours, client != "source" and target == ours

    def _hops(self, name: str, source: str, target: str) -> list[Hop]:
        """Return the links of the shortest route between two nodes."""
        import networkx as nx

        hops = []
        for a, b in pairwise(nx.shortest_path(self._graph, source, target, weight="cost")):
            link = self._graph.edges[a, b]["link"]
            latency = self.stream(f"network.{a}->{b}/{name}", link.latency)
            own = None if link.shared else link.bandwidth
            faults = LinkFaults.of(self, f"network.{a}->{b}", name)
            hops.append(Hop(f"network.{a}->{b}", latency, link.overhead, self._shared(a, b, link), own, faults))
        return hops

    def line(self, caller: str, home: int, peer: str, node: str) -> Line:
        """Return the line of a caller to a component."""
        kind, short = peer.split(".", 1)
        account = self.ledger.account("orchestration", short, "poll")
        tool = self.scenario.tools[short] if kind == "tools" else None
        here = self.homes[home]
        if here == f"{peer}.device" or (tool is not None and tool.device and self.devices.get(here) == node):
            return Line(None, None, None, account)
        boundary = None if tool is None else tool.boundary
        connect = 0.0 if boundary is None else BOUNDARIES[boundary].connect
        if tool is not None and tool.connect is not None:
            connect = tool.connect
        request = self.channel(f"{caller}->{peer}", here, node, short, not connect, boundary)
        response = self.channel(f"{peer}->{caller}", node, here, short, False, boundary, client="target")
        if kind == "models":
            self._hand_off(caller, short, request, response)
        poll = self.scenario.orchestrator.poll_interval if self.runtime.notification == "polling" else None
        line = Line(request, response, poll, account)
        if connect and self.runtime.connection != "free":
            each = self.runtime.connection == "new"
            line.connects(connect, each, self.ledger.account("communication", short, "connect"), self.ledger.callee())
        if kind in ("tools", "retrievers"):
            line.others(self, caller, home, kind, getattr(self.scenario, kind)[short].handling)
        return line

    def _hand_off(self, caller: str, model: str, request: Channel | None, response: Channel | None) -> None:
        """Let calls of a model be handed from its server's front to who computes, and their answers back."""
        spec = self.scenario.models[model]
        if isinstance(spec, Llm) and not (spec.hand_off.is_constant and not spec.hand_off.mean):
            for channel, way in ((request, "in"), (response, "out")):
                if channel is not None:
                    stream = self.stream(f"models.{model}/hand_off/{caller}/{way}", spec.hand_off)
                    channel.through(
                        Hop(f"hand_off.{model}", stream, 0.0, None, host=self.hosts.get(self.node_of(spec.node)))
                    )

    # Components

    def call(
        self, path: str, home: int, server: ModelServer | ServedModel, prompt: float, output: Any, priority: float = 0.0
    ) -> ModelCall:
        """Return how the caller at `path` calls a model; the same caller always gets the same."""
        if path not in self._calls:
            line = self.line(path, home, server.path, server.node)
            stream = None if output == "trace" else self.stream(f"{path}/output", output)
            self._calls[path] = self.new_call(path, server, line, prompt, stream, self.homes[home])
            self._calls[path].priority = priority
            self.prompts.append(prompt)
        return self._calls[path]

    def beside(self, node: str) -> ModelServer | None:
        """Return the first model that is served on a node, on whose device other things may live; None without any."""
        found = (one for one in self.servers.values() if one.node == node and isinstance(one.spec, Llm))
        return next(found, None) if self.runtime.control == "device" else None

    def new_call(
        self, path: str, server: Any, line: Line, prompt: float, output: Stream[float] | None, home: str = LOCAL
    ) -> ModelCall:
        """Return a way to call a model, for one more caller at a home."""
        handling = server.spec.handling
        fallback = self._other_model(path, handling.fallback, prompt, output, home)
        to = None if handling.hedge is None else handling.hedge.to
        second = fallback if to == handling.fallback else self._other_model(path, to, prompt, output, home)
        make = ServedCall if isinstance(server, ServedModel) else ModelCall
        call = make(self, path, len(self.prompts), server, line, prompt, output, home)
        call.fallback, call.second = fallback, second
        return call

    def _other_model(
        self, path: str, name: str | None, prompt: float, output: Stream[float] | None, home: str
    ) -> ModelCall | None:
        """Return how a caller asks another model; None where there is none. What it holds of the caller's prompt is kept apart."""
        if name is None:
            return None
        server = self.servers[name]
        line = self.line(path, self.homes.index(home), server.path, server.node)
        call = self.new_call(path, server, line, prompt, output, home)
        self.prompts.append(prompt)
        return call

    def service(self, kind: str, name: str, spec: ServiceSpec) -> Service:
        """Return the service of a tool, retriever or memory, made once."""
        path = f"{kind}.{name}"
        if path not in self._services:
            self._services[path] = Service(self, kind, name, spec)
        return self._services[path]

    def encoder(self, name: str) -> EncoderServer:
        """Return an encoder, made once."""
        made: EncoderServer = self.once(
            f"encoders.{name}", lambda: EncoderServer(self, name, self.scenario.encoders[name])
        )
        return made

    def memory(self, name: str) -> tuple[int, Memory]:
        """Return the place of a memory in `Context.memory`, and what it says."""
        return self.memories.index(name), self.scenario.memories[name]


def has_tokens(scenario: Scenario) -> bool:
    """Whether a task of this scenario can ever carry a token; where none can, calls need not count them."""
    drawn = [scenario.workload.request, *(group.request for group in scenario.classes.values())]
    drawn += [memory.recall for memory in scenario.memories.values()]
    callers: list[Agent | Evaluator] = [*scenario.agents.values(), *scenario.evaluators.values()]
    services = [*scenario.tools.values(), *scenario.retrievers.values()]
    return (
        scenario.workload.arrivals.trace is not None
        or any(draw is not None and not _is_zero(draw) for draw in drawn)
        or any(caller.prompt or caller.output == "trace" or not _is_zero(caller.output) for caller in callers)
        or any(not _is_zero(service.response if service.result is None else service.result) for service in services)
        or any(modality.tokens for modality in scenario.modalities.values())
        or any(retriever.tokens for retriever in scenario.retrievers.values())
        or any(isinstance(model, Llm) and model.shape is not None for model in scenario.models.values())
    )


def _is_zero(draw: Any) -> bool:
    return bool(draw.is_constant and draw.mean == 0)
