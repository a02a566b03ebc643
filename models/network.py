"""The network: nodes, links, and the channel that a message takes between two components.

A link has a latency (drawn per message), an overhead per message, and optionally a bandwidth that concurrent transfers
share equally. Routes are shortest paths by mean latency. A message crosses one link after the other (store and forward).

Leaves out: congestion control, topology changes; what goes wrong on a link (`link_faults`); what a message's size, or a busy host, adds to a boundary.
Checked: tests/test_network.py; tests/test_boundaries.py; tests/test_theory.py (processor sharing on a link).
Source of the boundaries' defaults: round trips of 1 kB (of MCP calls 100 B), the fastest of many on the same machine, measured
for this project; shared memory is that of two threads, which hand over through memory, a lock and a wake-up. Of a hand-off
to a device, where the profile has no law `hand_off`: 20 us, assumed, for a copy to it and a wait for a word back.
Source of the loopback default: half the median HTTP/1.1 keep-alive round trip of 1 kB between two processes of a busy
2-core machine, 1.5 ms, measured for this project. Handshakes: TCP and TLS 1.3 take one round trip each
(RFC 9293, RFC 8446).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from ..sim.engine.branch import Wait
from ..sim.engine.distributions import DurationDist
from ..sim.engine.draws import Sampler, Stream
from ..sim.engine.errors import listed
from ..sim.engine.sharing import Sharing
from ..sim.engine.spec import (
    Bandwidth,
    Count,
    Duration,
    Name,
    PositiveDuration,
    Size,
    Spec,
    SpecProblem,
)
from ..sim.profile.law import Timing
from .context import BYTES, MESSAGES
from .host import Host, Node
from .line import nobody
from .link_faults import LinkFaults, settled
from .on_cores import End
from .serializer import Codec, Law, ProfileLaw

if TYPE_CHECKING:
    from ..sim.engine.branch import Branch
    from ..sim.engine.ledger import Ledger
    from ..sim.profile.profile import Profile
    from .system import System

LOOPBACK = "0.75 ms"
LOOPBACK_BYTES = 1000.0
HAND_OFF = 20e-6
RETRANSMIT = 0.2  # s, the least timeout of Linux (TCP_RTO_MIN); RFC 6298, 2.4, asks for 1 s

BoundaryName = Literal[
    "call", "shared-memory", "asyncio", "thread", "pipe", "unix", "tcp", "http", "mcp-memory", "mcp-stdio", "mcp-http", "http-new",
]  # fmt: skip


class Boundary(NamedTuple):
    """What two components of one node cross: its round trip and what connecting takes (s).

    `within` one process, or one memory, nothing is encoded. `handshakes` tells that connecting takes the network's.
    """

    round_trip: float
    connect: float = 0.0
    within: bool = False
    handshakes: bool = False


BOUNDARIES: dict[BoundaryName, Boundary] = {
    "call": Boundary(0.15e-6, within=True),
    "asyncio": Boundary(7.47e-6, within=True),
    "thread": Boundary(7.81e-6, within=True),
    "shared-memory": Boundary(7.81e-6, within=True),
    "pipe": Boundary(11.19e-6),
    "unix": Boundary(21.12e-6, handshakes=True),
    "tcp": Boundary(32.95e-6, handshakes=True),
    "mcp-memory": Boundary(0.551e-3, 0.575e-3),
    "http": Boundary(0.899e-3, handshakes=True),
    "mcp-stdio": Boundary(1.733e-3, 2.6965),
    "mcp-http": Boundary(2.487e-3, 0.1386),
    "http-new": Boundary(38.92e-3),  # connects in it
}


class Stack(Spec):
    """What a message takes of CPU at one end besides its encoding: to `send` it, and to `receive` it."""

    send: Law = Law()
    receive: Law = Law()


class Stacks(Spec):
    """The work of a protocol's software, such as an HTTP client and server, by bytes on the wire.

    The `client` is who sends the request of a call, the `server` who answers. Messages within one process take none.
    """

    client: Stack = Stack()
    server: Stack = Stack()


class LinkSpec(Spec):
    """A link `between` two nodes, the same both ways, or one way only with `from` and `to`.

    `shared: false` is an idealization, to see what sharing costs: each transfer has the whole bandwidth, as if it were alone.
    """

    between: tuple[Name, Name] | None = None
    source: Name | None = Field(None, alias="from")
    target: Name | None = Field(None, alias="to")
    latency: DurationDist = DurationDist.model_validate("0 s")
    bandwidth: Bandwidth | None = None
    shared: bool = True
    overhead: Duration = 0.0

    @model_validator(mode="before")
    @classmethod
    def _directions(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            given = [name for name in ("between", "from", "to", "source", "target") if data.get(name) is not None]
            if given not in (["between"], ["from", "to"], ["source", "target"]):
                rule = "must say `between: [a, b]`, or `from: a` and `to: b`"
                raise ValueError(f"{rule}; got {listed(given) or 'none of them'}")
            both = data.get("between")
            if given == ["between"] and isinstance(both, list | tuple) and len(both) != 2:
                raise SpecProblem("between", f"must be a list of two nodes; got {len(both)}")
        return data

    @model_validator(mode="after")
    def _two_nodes(self) -> Self:
        if self.ends[0] == self.ends[1]:
            raise SpecProblem((), f"must join two nodes; got `{self.ends[0]}` twice")
        return self

    def named_ends(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Return the nodes that are named, each with the path of what names it."""
        if self.between is not None:
            return [(("between", place), name) for place, name in enumerate(self.between)]
        ends = (("from",), self.source), (("to",), self.target)
        return [(path, name) for path, name in ends if name is not None]

    @property
    def ends(self) -> tuple[str, str]:
        """The two nodes."""
        if self.between is not None:
            return self.between
        assert self.source is not None
        assert self.target is not None
        return self.source, self.target


class Network(Spec):
    """Nodes and links. Without it everything is on one node.

    `header` is added to each message; a new connection costs `handshakes` round trips; `loopback` is the one-way latency
    between two processes of one node, and `boundary` what they cross, with half the round trip `cross[via=...]` of the profile,
    or that of the defaults. With neither, they are HTTP servers: half of `cross[via=http]`, or 0.75 ms, a busy machine's median.
    A message that is lost by a fault is sent again after `retransmit`, longer than any round trip, which doubles each time.
    `stack` is the CPU work of a message at each end besides encoding it.
    """

    nodes: dict[Name, Node] = {}
    links: tuple[LinkSpec, ...] = ()
    header: Size = 0.0
    handshakes: Count = 2
    loopback: DurationDist | None = None
    boundary: BoundaryName | None = None
    retransmit: PositiveDuration = RETRANSMIT
    stack: Stacks | None = None

    @model_validator(mode="after")
    def _one_way_to_cross(self) -> Self:
        if self.loopback is not None and self.boundary is not None:
            raise SpecProblem("loopback", "must be left out where `boundary` tells what two processes cross")
        return self

    def between_processes(self, profile: "Profile | None") -> tuple[Sampler | float, float]:
        """Return what to draw the one-way latency between two processes of a node from, and its mean (s)."""
        if self.boundary is not None:
            return crossing(self.boundary, profile)
        if self.loopback is None and profile is not None and profile.has("cross", via="http"):
            return drawn(profile.timing("cross", via="http"), {"bytes": LOOPBACK_BYTES}, 0.5)
        given = self.loopback or DurationDist.model_validate(LOOPBACK)
        return given.sampler, given.mean


def drawn(timing: Timing, sizes: Mapping[str, float], share: float = 1.0) -> tuple[Sampler | float, float]:
    """Return what to draw a `share` of the time of a law from, and its mean (s)."""
    seconds, noise = timing.seconds(sizes) * share, timing.noise
    if noise is None:
        return seconds, seconds
    return lambda rng, n: seconds * noise.sample(rng, n), seconds * noise.mean


def crossing(name: BoundaryName, profile: "Profile | None") -> tuple[Sampler | float, float]:
    """Return what to draw the one-way latency of a boundary from, and its mean (s)."""
    for via in (name, "thread") if name == "shared-memory" else (name,):
        if profile is not None and profile.has("cross", via=via):
            return drawn(profile.timing("cross", via=via), {"bytes": LOOPBACK_BYTES}, 0.5)
    one_way = BOUNDARIES[name].round_trip / 2
    return one_way, one_way


class HandOff:
    """A way onto a device or off it, `times` of them: a host buffer to the device and a word back, by bytes."""

    def __init__(self, profile: "Profile | None", times: int = 1) -> None:
        self.times = times
        self.timing = profile.timing("hand_off") if profile is not None and profile.has("hand_off") else None

    def seconds(self, size: float) -> float:
        """Return the time of `size` bytes (s)."""
        return self.times * (HAND_OFF if self.timing is None else self.timing.seconds({"bytes": max(1.0, size)}))


@dataclass(slots=True)
class Hop:
    """One link of a route, in one direction: its latency of this message, and its bandwidth, shared or each transfer's own.

    `host` are the cores of the node that it does not leave.
    """

    name: str
    latency: Stream[float]
    overhead: float
    shared: Sharing | None
    own: float | None = None
    faults: LinkFaults | None = None
    host: Host | None = None

    def pace(self, now: float) -> float:
        """Return how many times longer it takes now: waking a process up is work of a node's cores, and as fast as they are."""
        return 1.0 if self.host is None or self.host.speed is None else 1.0 / self.host.speed.at(now)


class Coder:
    """Encoding or decoding at the ends of a channel: a law, and what repeats of one call differ by where that is known."""

    __slots__ = ("law", "noise")

    def __init__(self, system: "System", name: str, law: Law | ProfileLaw) -> None:
        self.law = law
        self.noise = None if law.noise is None else system.draws.stream(name, law.noise.sample)

    def seconds(self, branch: "Branch", size: float, ordinal: int) -> float:
        """Return the seconds for `size` bytes in the caller's `ordinal`-th call."""
        seconds = self.law.seconds(size)
        return seconds if self.noise is None else seconds * self.noise.draw(branch.index, ordinal, branch.lane)

    def mean(self, size: float) -> float:
        """Return the mean seconds for `size` bytes."""
        return self.law.seconds(size) * (1.0 if self.law.noise is None else self.law.noise.mean)


class Channel:
    """How messages get from one component to another, for one caller.

    `contended` tells which method to call: `stream` (a generator) where a link has a bandwidth, else `send`.
    Draws are those of the caller's `ordinal`-th call.
    """

    __slots__ = (
        "codec", "connect_account", "contended", "decode", "decode_account", "encode", "encode_account", "ends", "faulty", "fixed",
        "hand_off", "hand_off_account", "header", "hops", "latencies", "round_trips", "transit_account", "transmit_accounts",
    )  # fmt: skip

    def __init__(
        self,
        system: "System",
        name: str,
        peer: str,
        hops: list[Hop],
        codec: Codec | None,
        header: float,
        round_trips: int,
    ) -> None:
        ledger = system.ledger
        self.hops = hops
        self.codec = codec
        self.encode = None if codec is None else Coder(system, f"{name}/encode", codec.encode)
        self.decode = None if codec is None else Coder(system, f"{name}/decode", codec.decode)
        self.header = header
        self.round_trips = round_trips
        self.latencies = tuple(hop.latency for hop in hops if hop.latency.constant is None)
        self.fixed = sum(hop.overhead + (hop.latency.constant or 0.0) for hop in hops)
        self.faulty = any(hop.faults is not None for hop in hops)
        self.contended = self.faulty or any(hop.shared is not None or hop.own is not None for hop in hops)
        self.encode_account = ledger.account("serialization", peer, "encode")
        self.decode_account = ledger.account("serialization", peer, "decode")
        self.connect_account = ledger.account("communication", peer, "connect")
        self.transit_account = ledger.account("communication", peer, "transit")
        self.transmit_accounts = [
            -1 if hop.shared is None and hop.own is None else ledger.account("communication", hop.name, "transmit")
            for hop in hops
        ]
        self.ends = End(self.encode, self.encode_account, True), End(self.decode, self.decode_account, False)
        self.hand_off: HandOff | None = None
        self.hand_off_account = -1

    def on_cores(
        self, system: "System", hosts: tuple["Host | None", "Host | None"], on_loop: tuple[bool, bool]
    ) -> None:
        """Do the work of its ends on the cores of these hosts, where they are finite, or on the orchestrator's event loops."""
        for end, host, loop in zip(self.ends, hosts, on_loop, strict=True):
            end.runs_on(system, host, loop)
        works = any(end.works for end in self.ends)
        if works and (any(hosts) or any(on_loop) or any(end.stack is not None for end in self.ends)):
            self.contended = True

    def through(self, hop: Hop) -> None:
        """Let each message take one more hop, of which the time is known when it starts."""
        self.hops.append(hop)
        self.transmit_accounts.append(-1)
        self.fixed += hop.overhead + (hop.latency.constant or 0.0)
        if hop.latency.constant is None:
            self.latencies = (*self.latencies, hop.latency)

    def leave(self, ledger: "Ledger", peer: str, hand_off: HandOff) -> None:
        """Let each message cross onto a device or off it, too."""
        self.hand_off = hand_off
        self.hand_off_account = ledger.account("communication", peer, "hand-off")

    @property
    def is_free(self) -> bool:
        """Whether a message never takes any time."""
        return (
            not self.contended
            and self.hand_off is None
            and (self.codec is None or (self.codec.encode.is_free and self.codec.decode.is_free))
            and all(hop.latency.constant == 0 and not hop.overhead for hop in self.hops)
        )

    def wire(self, size: float) -> float:
        """Return the bytes on the wire of a message with `size` bytes of payload."""
        return size + self.header if self.codec is None else size * self.codec.expansion + self.header

    def _count(self, branch: "Branch", size: float) -> float:
        """Count a message; return the bytes on the wire."""
        wire = self.wire(size)
        branch.facts[MESSAGES] += 1
        branch.facts[BYTES] += wire
        return wire

    def _connect(self, branch: "Branch", one_way: float) -> None:
        branch.facts[MESSAGES] += 2 * self.round_trips
        branch.add(self.connect_account, 2 * self.round_trips * one_way)

    def send(self, branch: "Branch", size: float, ordinal: int) -> None:
        """Send `size` bytes of payload over links without contention (hot): local time passes."""
        decode = self.decode
        if decode is not None and self.encode is not None:
            branch.add(self.encode_account, self.encode.seconds(branch, size, ordinal), size)
            wire = self._count(branch, size)
        else:
            wire = size + self.header
            facts = branch.facts
            facts[MESSAGES] += 1
            if wire:
                facts[BYTES] += wire
        delay = self.fixed
        for latency in self.latencies:
            delay += latency.draw(branch.index, ordinal, branch.lane)
        if self.round_trips:
            self._connect(branch, delay)
        start = branch.time  # `Branch.add`, inlined
        branch.time = end = start + delay
        branch.parts[self.transit_account] += end - start
        if branch.spans is not None and delay:
            branch.spans += (branch.lane, branch.span, self.transit_account, start, end, wire, 0)
        if self.hand_off is not None:
            branch.add(self.hand_off_account, self.hand_off.seconds(wire), wire)
        if decode is not None:
            branch.add(self.decode_account, decode.seconds(branch, size, ordinal), size)

    def stream(self, branch: "Branch", size: float, ordinal: int) -> Generator[None, Any, None]:
        """Send `size` bytes of payload over links with a bandwidth; where it is shared, the transfer competes for it."""
        yield from self.ends[0].work(branch, size, self.wire(size), ordinal)
        wire = self._count(branch, size)
        index, lane = branch.index, branch.lane
        delays = [hop.pace(branch.time) * (hop.latency.draw(index, ordinal, lane) + hop.overhead) for hop in self.hops]
        if self.round_trips:
            self._connect(branch, sum(delays) if not self.faulty else (yield from self._one_way(branch, delays)))
        for hop, delay, account in zip(self.hops, delays, self.transmit_accounts, strict=True):
            if hop.faults is not None:
                over = partial(self._pass, branch, hop, delay, account, wire)
                yield from hop.faults.bring(branch, ordinal, wire, over)
                continue
            branch.add(self.transit_account, delay, wire)
            if hop.shared is not None and wire:
                wait = branch.wait
                hop.shared.use(wait, branch.time, wire)
                yield
                branch.book(account, wait.arrived, branch.sim._now, wire)
            elif hop.own is not None:
                branch.add(account, wire / hop.own, wire)
        if self.hand_off is not None:
            branch.add(self.hand_off_account, self.hand_off.seconds(wire), wire)
        yield from self.ends[1].work(branch, size, wire, ordinal)

    def _one_way(self, branch: "Branch", delays: Sequence[float]) -> Generator[None, Any, float]:
        """Return the latency of the whole way as it is now, where links are slow at times."""
        yield from settled(branch)
        slow = (1.0 if hop.faults is None else hop.faults.slowness for hop in self.hops)
        return sum(delay * factor for delay, factor in zip(delays, slow, strict=True))

    def _pass(
        self, branch: "Branch", hop: Hop, delay: float, account: int, wire: float, factor: float, twice: bool
    ) -> Generator[None, Any, None]:
        """Take a message over one link on which things go wrong: `factor` times slower, and maybe `twice`."""
        branch.add(self.transit_account, delay * factor, wire)
        if hop.shared is not None and wire:
            if twice:
                hop.shared.use(Wait(nobody), branch.time, wire * factor)
            wait = branch.wait
            hop.shared.use(wait, branch.time, wire * factor)
            yield
            branch.book(account, wait.arrived, branch.sim._now, wire)
        elif hop.own is not None:
            branch.add(account, wire / hop.own * factor, wire)
